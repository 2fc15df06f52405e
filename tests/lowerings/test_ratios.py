"""Quotients of sums that share exponentials: computed with the largest score subtracted, or left alone."""

from __future__ import annotations

import pytest
import torch

from attngraph.compiler.facts.ratios import RULE, shifted
from attngraph.compiler.lowerings.rows import groups

from .formulas import HEADS, PLAIN, Case, formula
from .harness import all_sizes, checked, close, draw, fixed, kernels, pair, parts, same_values_and_gradients

WEIGHED = f"{PLAIN}, w[M]"
E = "e = exp(q @ k^T / sqrt(D))"


def _case(name: str, inputs: str, *lines: str, result: str = "[N, E]", tied: bool = False, **more: object) -> Case:
    lines = ("where M = N" if tied else "sequence N, M", *lines)
    return Case(name, formula(name, inputs, *lines, result=result), "", tied=tied, positive=("w",), **more)  # type: ignore[arg-type]


#: one softmax through torch's fused kernel: the denominator is the sum of all weights, and they have logarithms
FUSED = [
    _case("plain", PLAIN, E, "return (e @ v) / sum[M](e)"),
    _case("exponential_weights", WEIGHED, E, "a = exp(w) * e", "return a @ v / sum[M](a)"),
    _case("divided", WEIGHED, E, "a = e / exp(w)", "return a @ v / sum[M](a)"),
    _case("masked", PLAIN, E, "a = where(pos(N) >= pos(M), e, 0)", "return a @ v / sum[M](a)", tied=True),
    _case("divided_first", PLAIN, E, "return (e / sum[M](e)) @ v"),
    _case("heads", HEADS, E, "return (e @ v) / sum[M](e)", result="[H, N, E]"),
    _case("scaled_outside", PLAIN, E, "return 3 * (e @ v) / sum[M](e)"),
    _case("other_weights_above", WEIGHED, E, "return ((w * e) @ v) / sum[M](e)"),
]
#: the exponentials are divided by their sum, and everything else stays
SHARED = [
    _case("printed", WEIGHED, E, "a = w * e", "return a @ v / sum[M](a)"),
    _case("a_sum_of_two", f"{WEIGHED}, u[M, E]", E, "return (e @ v + (w * e) @ u) / (sum[M](e) + sum[M](w * e))"),
    _case("masked_weights", WEIGHED, E, "a = where(pos(N) >= pos(M), w * e, 0)", "return a @ v / sum[M](a)", tied=True),
    _case("scaled_below", WEIGHED, E, "return ((w * e) @ v) / (2 * sum[M](w * e))"),
]
FOUND = [*FUSED, *SHARED]
#: one softmax over all pairs
PAIRS = [
    _case("over_all_pairs", PLAIN, E, "return (e @ v) / sum[N, M](e)"),
    _case("all_queries", PLAIN, E, "return sum[N](e @ v) / sum[N, M](e)", result="[E]"),
]
MISSES = [
    _case("other_scores", PLAIN, E, "g = exp(q @ k^T / D)", "return (e @ v) / sum[M](g)"),
    _case("guard", PLAIN, E, "return (e @ v) / (sum[M](e) + 0.001)"),
    _case("bound", PLAIN, E, "return (e @ v) / max(sum[M](e), 0.5)"),
    _case("squared", PLAIN, E, "return (e @ v) / sum[M](e)^2"),
    _case("twice_above", PLAIN, E, "return ((e * e) @ v) / sum[M](e)"),
    _case("added_value", PLAIN, E, "return (e @ v + 1) / sum[M](e)"),
    _case("one_mask_only", PLAIN, E, "return (where(pos(N) >= pos(M), e, 0) @ v) / sum[M](e)", tied=True),
    _case("over_other_keys", PLAIN, E, "return sum[M](e * (e / (2 + sum[N](e)))) / sum[M](e)", result="[N]"),
    _case("over_fewer_axes", PLAIN, E, "return sum[N, M](e * sigmoid(k @ q^T)) / sum[M](e)", result="[N]"),
    _case("separable", f"{PLAIN}, g[N], h[M]", "e = exp(g + h)", "return (e @ v) / sum[M](e)"),
    _case("bounded", PLAIN, "e = exp(tanh(q @ k^T))", "return (e @ v) / sum[M](e)"),
]  # fmt: skip


def _overflows(case: Case) -> bool:
    return any(d.code == "AG522" for d in checked(case.text).diagnostics)


@pytest.mark.parametrize("case", FOUND, ids=str)
def test_found(case: Case) -> None:
    """The plan says so, has no exponential left that may overflow, and nobody is warned of one."""
    formula, _, plan = parts(case.text)
    assert [step.rule for step in checked(case.text).steps].count(RULE) == 1
    assert not _overflows(case)
    assert kernels(plan).count("fused_attention") == (case in FUSED)
    assert len(groups(formula, plan)) == (case not in FUSED)


@pytest.mark.parametrize("case", PAIRS, ids=str)
def test_found_over_all_pairs(case: Case) -> None:
    assert [step.rule for step in checked(case.text).steps].count(RULE) == 1
    assert not _overflows(case)


@pytest.mark.parametrize("case", MISSES, ids=str)
def test_declined(case: Case) -> None:
    formula, written, _ = parts(case.text)
    found = shifted(formula)
    assert not found.ratios
    assert set(found.graph) == set(written)
    assert _overflows(case) == (case.name != "bounded")


@pytest.mark.parametrize("length", [1, 5, 131])
@pytest.mark.parametrize("case", [*FOUND, *PAIRS, *MISSES], ids=str)
def test_values_and_gradients(case: Case, length: int) -> None:
    sizes = all_sizes(case, length, length + 2)
    same_values_and_gradients(pair(case.text, fixed(case, sizes)), draw(case, sizes, (2,)), 1e-9)


@pytest.mark.parametrize("case", [*FOUND, *PAIRS], ids=str)
def test_large_scores(case: Case) -> None:
    """Scores of many thousands: the text as it stands has infinity over infinity."""
    sizes = all_sizes(case, 40, 43)
    inputs = [x.detach() for x in draw(case, sizes)]
    both = pair(case.text, fixed(case, sizes))
    inputs[0] = inputs[0] * 1e4
    assert not both.dense(*inputs).isfinite().all()
    value = both.planned(*inputs)
    assert value.isfinite().all()
    # so far apart, the largest score of a row has all the weight
    close(value, both.planned(inputs[0] * 10, *inputs[1:]), 1e-6, "value")


def test_weights_may_be_zero_or_negative() -> None:
    """Factors that have no logarithm stay factors, and so do their gradients."""
    case = SHARED[0]
    sizes = all_sizes(case, 6, 7)
    q, k, v, w = (x.detach() for x in draw(case, sizes))
    w[:3] = torch.tensor([0.0, 0.0, -0.01])
    inputs = tuple(x.requires_grad_() for x in (q, k, v, w))
    same_values_and_gradients(pair(case.text), inputs, 1e-9)
