"""Every plan computes what the text says: values and gradients against the dense evaluation."""

from __future__ import annotations

import pytest
import torch

from .formulas import CASES, LEVELS, LINEAR, LOCAL, POLYNOMIALS, PREFIXES, RECURRENCES, SCANS, SIGNS, TRANSFORMS, Case
from .harness import all_sizes, checked, close, draw, fixed, kernels, pair, parts, same_values_and_gradients

LENGTHS = (1, 2, 63, 64, 65, 130)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_finds_the_algorithm(case: Case) -> None:
    report = checked(case.text)
    assert report.plan is not None
    assert kernels(report.plan) == case.ops
    assert report.written_order == case.written
    assert report.order == case.order


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients(case: Case, length: int) -> None:
    sizes = all_sizes(case, length, length + 3)
    same_values_and_gradients(pair(case.text, fixed(case, sizes)), draw(case, sizes, (2,)))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_sizes_equal(case: Case) -> None:
    """Where sizes agree by accident, an axis mistaken for another one broadcasts without an error."""
    sizes = dict.fromkeys(all_sizes(case, 5), 5) | {"L": 9}
    same_values_and_gradients(pair(case.text, fixed(case, sizes)), draw(case, sizes, (5,)))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_batch_and_several_batch_dimensions(case: Case) -> None:
    sizes = all_sizes(case, 5, 4)
    both = pair(case.text, fixed(case, sizes))
    for batch in ((), (2, 3)):
        same_values_and_gradients(both, draw(case, sizes, batch))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_batches_broadcast(case: Case) -> None:
    """The first input without a batch, the others with one."""
    sizes = all_sizes(case, 5, 4)
    first, *others = draw(case, sizes)[:1] + draw(case, sizes, (2,))[1:]
    same_values_and_gradients(pair(case.text, fixed(case, sizes)), (first, *others))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 2e-5), (torch.bfloat16, 6e-2), (torch.float16, 8e-3)],
    ids=["float32", "bfloat16", "float16"],
)
def test_precision(case: Case, dtype: torch.dtype, tolerance: float) -> None:
    """In low precision the plan is as near to the exact value as the dtype allows."""
    sizes = all_sizes(case, 130)
    inputs = tuple(x.detach() for x in draw(case, sizes, (1,), dtype))
    both = pair(case.text, fixed(case, sizes))
    expected = both.dense(*(x.double() for x in inputs))
    actual = both.planned.to(dtype)(*inputs)
    assert actual.dtype is dtype
    close(actual.double(), expected, tolerance, "value")


LINEAR_PLANS = (*LINEAR, *SIGNS, *SCANS, *RECURRENCES, *POLYNOMIALS, *PREFIXES, *LEVELS, *LOCAL, *TRANSFORMS)


@pytest.mark.parametrize("case", LINEAR_PLANS, ids=str)
def test_memory_of_the_plan_is_linear(case: Case) -> None:
    """No value of the plan has two axes that grow, except those that no input reaches."""
    _, _, plan = parts(case.text)
    grow = {"N", "M", "L"}
    for node in plan.nodes():
        assert len(grow.intersection(node.axes)) <= 1, str(node)
