"""Which of two orders takes less work may rest on sizes that nobody has told: then the order of the text stands.

Counted by torch's own counter of operations, with every axis short and long in its turn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import attngraph

USUAL, SHORT, LONG, TOKENS = 6, 2, 40, 200

FORMULAS = {
    "product of low rank": ("x[N, C]", "a[C, R], b[R, F]", "x @ a @ b", "[N, F]"),
    "chain of three": ("x[N, C]", "a[C, R], b[R, S], c[S, F]", "x @ a @ b @ c", "[N, F]"),
    "bracketed to the right": ("x[N, C]", "a[C, R], b[R, F]", "x @ (a @ b)", "[N, F]"),
    "values of low rank": ("s[N, M], c[M, R]", "up[R, E]", "tanh(s) @ (c @ up)", "[N, E]"),
    "scores of projections": ("x[N, C], y[M, C]", "a[C, R], b[C, R]", "(x @ a) @ (y @ b)^T", "[N, M]"),
    "heads into one": ("o[H, N, E]", "w[H, E, C]", "sum[H](o @ w)", "[N, C]"),
    "mean of projections": ("x[N, C]", "a[C, F]", "mean[N](x @ a)", "[F]"),
    "linear attention": ("q[N, D], k[M, D], v[M, E]", "w[E, F]", "relu(q) @ relu(k)^T @ v @ w", "[N, F]"),
}


def _operations(name: str, form: str, sizes: Mapping[str, int]) -> tuple[int, torch.Tensor]:
    inputs, params, value, result = FORMULAS[name]
    text = f"attention f({inputs}) -> {result}:\n    param {params}\n    return {value}\n"
    fixed = set(re.findall(r"[A-Z]", params))
    module = attngraph.compile(text, form=form, sizes={axis: sizes[axis] for axis in fixed})
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    shapes = [[sizes[axis] for axis in axes.split(", ")] for axes in re.findall(r"\[(.*?)\]", inputs)]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        out = module(*(torch.randn(2, *shape) for shape in shapes))
    return counter.get_total_flops(), out


@pytest.mark.parametrize("name", FORMULAS)
def test_no_order_takes_more_operations_than_the_text_at_any_size(name: str) -> None:
    inputs, params, _, _ = FORMULAS[name]
    axes = sorted(set(re.findall(r"[A-Z]", inputs + params)))
    usual = {axis: TOKENS if axis in "NM" else USUAL for axis in axes}
    for axis in axes:
        for size in {USUAL, TOKENS} if axis in "NM" else {SHORT, USUAL, LONG}:
            sizes = {**usual, axis: size}
            planned, value = _operations(name, "auto", sizes)
            written, expected = _operations(name, "dense", sizes)
            assert planned <= written, sizes
            torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["mean of projections", "linear attention"])
def test_an_order_that_is_better_at_all_sizes_is_taken(name: str) -> None:
    sizes = {axis: TOKENS if axis in "NM" else USUAL for axis in "CDEFNM"}
    assert _operations(name, "auto", sizes)[0] * 4 < _operations(name, "dense", sizes)[0]


def test_heads_are_summed_where_they_are_projected() -> None:
    report = attngraph.check("attention f(o[H, N, E]) -> [N, C]:\n    param w[H, E, C]\n    return sum[H](o @ w)\n")
    assert report.plan is not None
    assert not [node for node in report.plan.nodes() if {"H", "N", "C"} <= set(node.axes)]


DIFFERENCE = """attention f(q[N, D], k[M, D], p[N, D], l[M, D], v[M, E]) -> [N, F]:
    where M = N
    param rate[] = 1, w[E, F]
    seen = pos(N) >= pos(M)
    return (softmax[M](q @ k^T, mask=seen) - rate * softmax[M](p @ l^T, mask=seen)) @ v @ w
"""


def test_what_has_no_keys_stands_behind_a_fused_softmax() -> None:
    """Before it, `rate * v @ w` would be remembered beside `v`, for every position."""
    module = attngraph.compile(DIFFERENCE, sizes={"E": 3, "F": 7}).double()
    q, k, p, ell, v = (torch.randn(2, 9, size, dtype=torch.float64) for size in (4, 4, 4, 4, 3))
    out, state = module.step(module.init_state(), q, k, p, ell, v)
    assert sum(tensor[0].numel() for tensor in state) == 9 * (4 + 4 + 3)
    seen = torch.ones(9, 9, dtype=torch.bool).tril()
    first, second = ((a @ b.mT).masked_fill(~seen, float("-inf")).softmax(-1) for a, b in ((q, k), (p, ell)))
    torch.testing.assert_close(out, (first - module.rate * second) @ v @ module.w)
