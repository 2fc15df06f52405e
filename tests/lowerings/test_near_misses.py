"""Near misses: another algorithm or the dense form, and the same values and gradients."""

from __future__ import annotations

import pytest
import torch

from .formulas import PLAIN, Case, formula
from .harness import all_sizes, checked, close, draw, fixed, kernels, pair, same_values_and_gradients
from .near_misses import MISSES


@pytest.mark.parametrize("case", MISSES, ids=str)
def test_declines(case: Case) -> None:
    report = checked(case.text)
    assert report.plan is not None
    assert kernels(report.plan) == case.ops
    assert (report.written_order, report.order) == (case.written, case.order)


@pytest.mark.parametrize("length", [1, 5, 66])
@pytest.mark.parametrize("case", MISSES, ids=str)
def test_values_and_gradients(case: Case, length: int) -> None:
    sizes = all_sizes(case, length, length + 3) | {"P": length}
    same_values_and_gradients(pair(case.text, fixed(case, sizes)), draw(case, sizes, (2,)), 1e-9)


@pytest.mark.parametrize(
    "text",
    [
        formula(
            "decay_that_a_transform_sees",
            PLAIN,
            "where M = N",
            "lag = pos(N) - pos(M)",
            "return ((q @ k^T) * where(lag >= 0, 0.5^(lag + 1), 0)) @ v",
        ),
        formula(
            "decay_in_a_product",
            PLAIN + ", g[N]",
            "where M = N",
            "sequence N",
            "c = cumsum[N](g)",
            "lag = pos(N) - pos(M)",
            "a = where(lag >= 0 and lag <= 4, (sigmoid(q) @ sigmoid(k)^T) * exp(c - c[N -> M]), 0)",
            "return (a / sum[M](a)) @ v",
        ),
        formula(
            "quotient_under_a_mask",
            PLAIN,
            "where M = N",
            "lag = pos(N) - pos(M)",
            "return where(lag > 0, (q @ k^T) / lag, 0) @ v",
        ),
    ],
    ids=["transform", "product", "quotient"],
)
def test_what_a_mask_hides_may_be_infinite(text: str) -> None:
    """0 times infinity is no number: a mask that hides a growing factor must select, not multiply."""
    case = Case("hidden", text, "", negative=("g",))
    sizes = all_sizes(case, 1100)
    inputs = tuple(x.detach() * (4 if x.dim() == 1 else 1) for x in draw(case, sizes))
    both = pair(text)
    actual = both.planned(*inputs)
    assert torch.isfinite(actual).all()
    close(actual, both.dense(*inputs), 1e-9, "value")
