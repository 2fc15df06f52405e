"""Sums over a function of pairs: found, declined by near misses, and the same values and gradients tile by tile."""

from __future__ import annotations

import pytest
import torch

from attngraph.compiler.lowerings import at_once, tiles

from .formulas import PLAIN, Case, formula
from .harness import all_sizes, checked, draw, fixed, kernels, pair, same_values_and_gradients

SCORES = "q[N, D], k[M, D]"
HEADED = "q[H, N, D], k[H, M, D]"


def _case(name: str, inputs: str, *lines: str, result: str = "[N, M]", written: str = "O(N*M)") -> Case:
    text = formula(name, inputs, "sequence N, M", *lines, result=result)
    return Case(name, text, "O(N*M)", written=written, tied=False)


FOUND = [
    *(
        _case(function, SCORES, "param w[D] = normal(1)", f"return sum[D](w * {function}(q + k))")
        for function in ("gelu", "relu", "sigmoid", "silu", "softplus", "tanh")
    ),
    _case("difference", SCORES, "param w[D] = normal(1)", "return sum[D](w * tanh(q - k))"),
    _case("no_weights", SCORES, "return sum[D](sigmoid(q + k)) / sqrt(D)"),
    _case("heads", HEADED, "param w[H, D] = normal(1)", "return sum[D](w * tanh(k + q))", result="[H, N, M]"),
    _case(
        "softmax", PLAIN, "param w[D] = normal(1)",
        "return softmax[M](sum[D](w * tanh(q + k))) @ v",
        result="[N, E]",
    ),
]  # fmt: skip
MISSES = [
    _case("product", SCORES, "param w[D] = normal(1)", "return sum[D](w * tanh(q * k))"),
    _case("weights_of_the_query", SCORES + ", w[N, D]", "return sum[D](w * tanh(q + k))"),
    _case("read_twice", SCORES, "a = tanh(q + k)", "return sum[D](a) * max[D](a)"),
    _case("largest", SCORES, "return max[D](tanh(q + k))"),
]


@pytest.mark.parametrize("case", FOUND, ids=str)
def test_found(case: Case) -> None:
    report = checked(case.text)
    assert report.plan is not None
    assert "sum_of_pairs" in kernels(report.plan)
    assert not any({"N", "M", "D"} <= set(node.axes) for node in report.plan.nodes())
    assert report.order == case.order


@pytest.mark.parametrize("case", MISSES, ids=str)
def test_declined(case: Case) -> None:
    report = checked(case.text)
    assert report.plan is not None
    assert "sum_of_pairs" not in kernels(report.plan)


@pytest.mark.parametrize("length", [1, 5, 16, 17, 35])
@pytest.mark.parametrize("case", [*FOUND, *MISSES], ids=str)
def test_values_and_gradients(case: Case, length: int) -> None:
    sizes = all_sizes(case, length, length + 3)
    same_values_and_gradients(pair(case.text, fixed(case, sizes)), draw(case, sizes, (2,)))


@pytest.mark.parametrize("case", FOUND, ids=str)
def test_all_sizes_equal_and_no_batch(case: Case) -> None:
    sizes = dict.fromkeys(all_sizes(case, 5), 5)
    for batch in ((), (5,), (2, 5)):
        same_values_and_gradients(pair(case.text, fixed(case, sizes)), draw(case, sizes, batch))


def test_torchscript() -> None:
    [case] = [case for case in FOUND if case.name == "heads"]
    sizes = all_sizes(case, 18, 5)
    same_values_and_gradients(pair(case.text, fixed(case, sizes), target="torchscript"), draw(case, sizes, (2,)))


def test_at_once_is_the_same() -> None:
    query, key, weight = (torch.randn(shape, dtype=torch.float64) for shape in ((2, 1, 33, 4), (3, 7, 4), (4,)))
    both = [module.sum_of_pairs(query, key, weight, "silu", 16) for module in (tiles, at_once)]
    torch.testing.assert_close(both[0], both[1], rtol=0, atol=1e-12)
