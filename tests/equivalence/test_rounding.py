"""Differences that rounding, overflow or underflow make: they refute nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from attngraph.compiler.equivalence import Verdict
from attngraph.compiler.equivalence.rounding import RUNS, explained, samples

from .test_attacks import compare

#: equal, although float64 says otherwise
CANCELLED = (
    ("b", "(b + 1e20) - 1e20"), ("b", "(b + exp(50)) - exp(50)"), ("(q @ k^T) * 1e20 + b - (q @ k^T) * 1e20", "b"),
    ("(b + 1e10)^3 - 1e30 - 3e20 * b - 3e10 * b^2", "b^3"),
    ("sum[M](b * 1e15 + b) - sum[M](b * 1e15) + b", "sum[M](b) + b"),
    ("(exp(b * 1e-8) - 1) - b * 1e-8", "expm1(b * 1e-8) - b * 1e-8"),
    ("(1 - cos(1e-8 * b)) * 1e16", "2 * square(sin(0.5e-8 * b)) * 1e16"),
    ("log1p(1e-17 * square(b)) * 1e17", "log(1 + 1e-17 * square(b)) * 1e17"),
    ("mean[M](square(b + 1e9)) - square(mean[M](b + 1e9)) + b", "var[M](b) + b"),
    ("b * ((1e20 + D) - 1e20)", "b * D"), ("b * ((exp(60) + D) - exp(60))", "b * D"),
    ("sin(1e12 * b)", "2 * sin(5e11 * b) * cos(5e11 * b)"),
    ("cumsum[M](b + 1e17) - 1e17 * (pos(M) + 1)", "cumsum[M](b)"),
)  # fmt: skip
OUT_OF_RANGE = (
    ("log(exp(1000 * b))", "1000 * b"), ("exp(1000 * b) * exp(-1000 * b) + 0 * b", "1 + 0 * b"),
    ("log(exp(b - 5000))", "b - 5000"), ("1 / exp(-800 * b)", "exp(800 * b)"),
    ("b * 1e-200 * 1e-200 * 1e200 * 1e200", "b"),
    ("(b * 1e300 * 1e300) * 1e-300 * 1e-300", "b"), ("exp(500 * b) / sum[M](exp(500 * b))", "softmax[M](500 * b)"),
    ("log(sum[M](exp(500 * b))) + b", "logsumexp[M](500 * b) + b"), ("0 * exp(1000 * square(b) + 1000)", "0 * b"),
    ("((1e-170 * q) @ (1e-170 * k)^T) * 1e170 * 1e170", "q @ k^T"),
    ("tanh(exp(-800 * square(b)) * exp(800 * square(b)))", "tanh(1) + 0 * b"),
)  # fmt: skip
DECIDED = (
    ("where(b * 3 / 3 == b, b, 0)", "b"), ("where(b * 0.1 * 3 == b * 0.3, b, 0)", "b"),
    ("sign(b * 0.1 - b / 10) + b", "b"),
    ("where(b * (1 / 3) > b / 3, 1, 0)", "0 * b"), ("floor(b * 0.1 * 10)", "floor(b)"), ("ceil(b * 3 / 3)", "ceil(b)"),
    ("where(b * 0.1 != b / 10, 7, b)", "b"), ("round((b + 1e15) - 1e15)", "round(b)"),
    ("where(top[M](b * 0.1 - b / 10, count=1), 1, 0)", "where(top[M](0 * b, count=1), 1, 0)"),
)  # fmt: skip
#: not equal, near to what rounding does or at the edge of the format
CERTAIN = (
    ("b", "(b + 1e10) - 1e10 + 1e-4"), ("b", "b * (1 + 1e-11)"), ("where(b == 3, 7, b)", "b"),
    ("round(b)", "floor(b + 0.5)"),
    ("where(b > 1, b, 0)", "where(b >= 1, b, 0)"), ("clamp(b, min=1, max=-1)", "max(min(b, -1), 1)"),
    ("0 * (1 / b)", "0 * b"), ("log(b) - log(b)", "sqrt(b) - sqrt(b)"), ("tanh(40 * b)", "sign(b)"),
    ("exp(-700 * square(b)) * 1e290", "0 * b"), ("b * 1e-150", "b * 2e-150"), ("log(abs(b))", "log(abs(b) + 1e-30)"),
    ("where(top[M](b, count=1), 1, 0)", "where(b == max[M](b), 1, 0)"), ("sum[M](b) / M + b", "mean[M](b) + b + 1e-8"),
)  # fmt: skip


@pytest.mark.parametrize(("left", "right"), [*CANCELLED, *OUT_OF_RANGE, *DECIDED])
def test_what_rounding_makes_refutes_nothing(left: str, right: str) -> None:
    found = compare(left, right)
    assert found.verdict is not Verdict.DIFFERENT, found.counterexample


@pytest.mark.parametrize(("left", "right"), CERTAIN)
def test_a_certain_difference_is_found(left: str, right: str) -> None:
    assert compare(left, right).verdict is Verdict.DIFFERENT


def test_doubt_about_rounding_is_said() -> None:
    assert "rounding may be why" in compare("where(b * 3 / 3 == b, b, 0)", "b").confidence


def moves(compute: Callable[[], torch.Tensor]) -> torch.Tensor:
    """How far rounding moves each element of a result."""
    value = compute()
    found = [explained(value, run[0]) for run in samples(lambda: [compute()]) if run is not None]
    assert len(found) == RUNS
    return torch.stack(found).amax(0)


def test_exact_results_stay() -> None:
    """Whole numbers and halves, and all that only chooses or moves numbers."""
    x = torch.tensor([[1.0, -2.5, 4.0], [0.5, 3.0, -8.0]], dtype=torch.float64)
    for compute in (
        lambda: x @ x.T, lambda: x * 3 - x / 4, lambda: x.cumsum(1), lambda: (x * x).sqrt(), lambda: x.clamp(max=2).T,
        lambda: torch.cat([x, x]).sort(0)[0], lambda: x.exp() * 0, lambda: (x * 0).exp(), lambda: x**3, lambda: x.sum(),
    ):  # fmt: skip
        assert not moves(compute).any()


def test_every_rounded_result_moves() -> None:
    x = torch.linspace(0.1, 3, 40, dtype=torch.float64)
    for compute in (
        lambda: x * 0.1, lambda: x + 1e-9, lambda: x / 3.7, lambda: x.exp(), lambda: x.sqrt(),
        lambda: x.clone().mul_(0.3),
        lambda: x.softmax(0), lambda: torch.outer(x, x) @ x, lambda: x.var(), lambda: x.cumsum(0)[1:],
    ):  # fmt: skip
        assert (moves(compute) > 0).all()
    bound = moves(lambda: x * 0.1) / x
    assert bound.max() < 1e-15


def test_the_range_of_the_format_is_no_value() -> None:
    x = torch.tensor([2000.0, -2000.0, 1.0], dtype=torch.float64)
    assert moves(lambda: x.exp().log()).isinf().tolist() == [True, True, False]
    assert moves(lambda: x.exp() * (-x).exp()).isinf().tolist() == [True, True, False]
    poles = moves(lambda: (x - 1).log() + 1 / (x - 1) * 0)
    assert poles[2] == 0  # a pole is one, however its argument is rounded
