"""Formulas that are the same where no epsilon acts and every value is a number."""

from __future__ import annotations

import pytest

import attngraph
from attngraph.compiler.equivalence import Equivalence, Side, Verdict, equivalent
from tests.facts.probes import formula_of

HEADER = "attention f(x[N, D], s[N], y[N, D]) -> [N, D]:\n"


def compare(left: str, right: str, *, guards: bool = True) -> Equivalence:
    return attngraph.equivalent(f"{HEADER}    return {left}\n", f"{HEADER}    return {right}\n", guards=guards)


#: equal where no guard acts, and only there
GUARDED = (
    ("l2_normalize[D](x)", "x / norm[D](x)"), ("l2_normalize[D](x * exp(s))", "l2_normalize[D](x)"),
    ("l2_normalize[D](x * N / (1 + N))", "l2_normalize[D](x)"), ("l2_normalize[D](x / (1 + s^2))", "x / norm[D](x)"),
    ("norm[D](x * exp(s)) * y", "norm[D](x) * exp(s) * y"),
    ("l2_normalize[D](l2_normalize[D](x))", "l2_normalize[D](x)"),
    ("where(isnan(x / y), 0, x / y)", "x / y"), ("l2_normalize[D](x / std[D](x * y))", "l2_normalize[D](x)"),
    ("y * x / std[D](x / exp(s))", "y * exp(s) * x / std[D](x)"),
    ("l2_normalize[D](x / norm[D](y))", "l2_normalize[D](x)"),
    ("norm[D](l2_normalize[D](x)) * y", "y"), ("sum[D](square(l2_normalize[D](x))) * y", "y"),
    ("exp(y - sum[D](l2_normalize[D](x) * l2_normalize[D](x)) / 2)", "exp(y) * exp(-1 / 2)"),
    ("sum[D](square(x / norm[D](x))) * y", "y"),
)  # fmt: skip
#: not equal, although they look like it
NEVER = (
    ("l2_normalize[D](-x)", "l2_normalize[D](x)"), ("l2_normalize[D](x * s)", "l2_normalize[D](x)"),
    ("l2_normalize[D](x * exp(y))", "l2_normalize[D](x)"), ("norm[D](x * s) * y", "norm[D](x) * s * y"),
    ("std[D](x) * y", "std[N](x) * y"), ("std[D](x, ddof=1) * y", "std[D](x) * y"),
    ("l2_normalize[D](x)", "l2_normalize[N](x)"), ("norm[D](x) * y", "std[D](x) * y"), ("sqrt(s^2) * x", "s * x"),
    ("l2_normalize[D](x / (s - 1))", "l2_normalize[D](x)"),
    ("l2_normalize[D](x + s)", "l2_normalize[D](x)"), ("l2_normalize[D](x - 2 * x)", "l2_normalize[D](x)"),
    ("l2_normalize[D](x * max[D](y))", "l2_normalize[D](x)"), ("norm[D](x - y) * x", "norm[D](x + y) * x"),
    ("sum[D](l2_normalize[D](x) * l2_normalize[D](y)) * x", "x"), ("norm[D](l1_normalize[D](x)) * y", "y"),
    ("sum[N](square(l2_normalize[D](x))) * y", "y"), ("norm[N](l2_normalize[D](x)) * y", "y"),
    ("l2_normalize[D](x * (N - 2))", "l2_normalize[D](x)"), ("layer_norm[D](x)", "x - mean[D](x)"),
)  # fmt: skip


@pytest.mark.parametrize(("left", "right"), GUARDED)
def test_proved_for_all_sizes_where_no_guard_acts(left: str, right: str) -> None:
    found = compare(left, right)
    assert found.verdict is Verdict.PROVED, found
    assert found.everywhere
    without = compare(left, right, guards=False)
    assert without.verdict is Verdict.PROVED or "where no epsilon acts" in found.confidence


@pytest.mark.parametrize(("left", "right"), NEVER)
def test_what_differs_otherwise_is_not_proved(left: str, right: str) -> None:
    assert compare(left, right).verdict is not Verdict.PROVED


@pytest.mark.parametrize(
    ("left", "right", "verdict"),
    [
        ("exp(y - sum[D](l2_normalize[D](x) * l2_normalize[D](x)) / 2)", "exp(y - 0.5)", Verdict.PROVED),
        ("exp(y - sum[D](square(l2_normalize[D](x))) / 2)", "exp(y - 0.5)", Verdict.PROVED),
        ("exp(y - sum[N](square(l2_normalize[D](x))) / 2)", "exp(y - 0.5)", Verdict.DIFFERENT),
        ("exp(y - sum[D](l2_normalize[D](x) * l2_normalize[D](y)) / 2)", "exp(y - 0.5)", Verdict.DIFFERENT),
        ("exp(y - sum[D](square(l1_normalize[D](x))) / 2)", "exp(y - 0.5)", Verdict.DIFFERENT),
    ],
)
def test_the_length_of_a_direction_without_the_rules(left: str, right: str, verdict: Verdict) -> None:
    sides = [formula_of(f"{HEADER}    return {text}\n") for text in (left, right)]
    assert equivalent(*(Side(f, f.graph) for f in sides), rules=False, guards=True).verdict is verdict
