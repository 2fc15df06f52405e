"""Softmaxes in other words: computed by torch's fused kernel, and equal to the text as it stands."""

from __future__ import annotations

import pytest

from attngraph.compiler.softmaxes import recognised

from .formulas import PLAIN, Case, formula
from .harness import all_sizes, checked, draw, fixed, kernels, pair, parts, same_values_and_gradients

SEEN = "seen = pos(N) >= pos(M)"
S = "s = q @ k^T / sqrt(D)"
Z = "z = where(seen, s, -inf)"


def _case(name: str, *lines: str, inputs: str = PLAIN, result: str = "[N, E]") -> Case:
    return Case(name, formula(name, inputs, "where M = N", SEEN, S, *lines, result=result), "", tied=True)


FUSED = [
    _case("definition", Z, "e = exp(z - max[M](z))", "return (e / sum[M](e)) @ v"),
    _case("divided_late", Z, "e = exp(z - max[M](z))", "return (e @ v) / sum[M](e)"),
    _case("logsumexp", Z, "return exp(z - logsumexp[M](z)) @ v"),
    _case("log_softmax", Z, "return exp(log_softmax[M](z)) @ v"),
    _case("added_mask", "return softmax[M](s + where(seen, 0, -inf)) @ v"),
    _case("added_mask_that_hides", "return softmax[M](s + where(not seen, -inf, 0)) @ v"),
    _case("added_mask_and_bias", "return softmax[M](s + where(seen, b, -inf)) @ v", inputs=f"{PLAIN}, b[N, M]"),
    _case("two_masks", "return softmax[M](s + where(seen, 0, -inf), mask=pos(M) != 1) @ v"),
    _case("bias_behind_the_mask", Z, "return softmax[M](z + b) @ v", inputs=f"{PLAIN}, b[M]"),
    _case("shifted", Z, "return softmax[M](z - max[M](z)) @ v"),
    _case("without_a_mask", "e = exp(s - max[M](s))", "return (e / sum[M](e)) @ v"),
]
#: what looks alike, and stays
MISSES = [
    _case("sum_of_others", Z, "e = exp(z - max[M](z))", "return (e / sum[M](e * e)) @ v"),
    _case("nearly_hidden", "return exp(s + where(seen, 0, -20)) @ v"),
    _case("not_divided", Z, "return exp(z - max[M](z)) @ v"),
    _case("guarded", Z, "e = exp(z - max[M](z))", "return (e / (sum[M](e) + 0.5)) @ v"),
]
#: no map of exponentials is stored already
LINEAR = [
    _case("key_only", "e = exp(b)", "return (e @ v) / sum[M](e)", inputs=f"{PLAIN}, b[M]", result="[E]"),
    _case("separable", "e = exp(c + b)", "return (e @ v) / sum[M](e)", inputs=f"{PLAIN}, b[M], c[N]"),
]


@pytest.mark.parametrize("case", FUSED, ids=str)
def test_found(case: Case) -> None:
    _, _, plan = parts(case.text)
    assert kernels(plan).count("fused_attention") == 1
    assert checked(case.text).properties is not None


@pytest.mark.parametrize("case", MISSES, ids=str)
def test_declined(case: Case) -> None:
    written, graph, plan = parts(case.text)
    assert not recognised(written, graph).trace
    assert "fused_attention" not in kernels(plan)


@pytest.mark.parametrize("case", LINEAR, ids=str)
def test_what_is_linear_stays(case: Case) -> None:
    assert checked(case.text).order in ("O(N)", "O(N + M)")


@pytest.mark.parametrize("length", [1, 2, 5, 131])
@pytest.mark.parametrize("case", [*FUSED, *MISSES, *LINEAR], ids=str)
def test_values_and_gradients(case: Case, length: int) -> None:
    sizes = all_sizes(case, length, length)
    same_values_and_gradients(pair(case.text, fixed(case, sizes)), draw(case, sizes, (2,)), 1e-9)
