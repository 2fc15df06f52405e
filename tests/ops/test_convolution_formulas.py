"""Convolutions in formulas: what the text says by name, what is proven of it, what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv1d, conv2d, pad

import attngraph
from attngraph.compiler.ops.base import Op
from attngraph.compiler.ops.convolution import Convolution
from attngraph.compiler.ops.reductions import Sum
from attngraph.compiler.sizes import Poly


def formula(header: str, *lines: str) -> str:
    body = "\n    ".join(lines)
    return f"attention f({header}:\n    {body}\n"


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


FULL = formula("x[C, Y, X], w[O, C, Ky, Kx]) -> [O, Y, X]", "sequence Y, X", "return sum[C](conv[Y, X, Ky, Kx](x, w))")


def ops(text: str) -> list[Op]:
    """The operations of the formula as written."""
    report = attngraph.check(attngraph.parse(text))
    assert report.formula is not None
    return [node.op for node in report.formula.graph.nodes()]


def test_a_sum_over_shared_channels_is_part_of_the_convolution() -> None:
    assert [op.summed for op in ops(FULL) if isinstance(op, Convolution)] == [("C",)]
    assert not any(isinstance(op, Sum) for op in ops(FULL))
    written = attngraph.check(attngraph.parse(FULL)).written
    assert written is not None
    assert written.time == Poly.volume(("O", "C", "Y", "X", "Ky", "Kx")) * 2


def test_a_sum_over_channels_of_one_side_is_a_sum() -> None:
    text = formula("x[C, N], w[O, K]) -> [O, N]", "return sum[C](conv[N, K](x, w))")
    assert any(isinstance(op, Sum) for op in ops(text))


def test_full_convolution_is_that_of_torch() -> None:
    module, x, w = attngraph.compile(FULL), normal(2, 3, 5, 7), normal(4, 3, 3, 3)
    expected = torch.stack([conv2d(one, own, padding=1) for one, own in zip(x, torch.stack([w, -w]), strict=True)])
    torch.testing.assert_close(module(x, torch.stack([w, -w])), expected)


CAUSAL = formula(
    "x[C, N]) -> [C, N]", "sequence N", "param w[C, K]", "require linear, causal", "return conv[N, K](x, w, {})"
)


@pytest.mark.parametrize("attributes", ["start=1 - K", "start=-3 * (K - 1), dilation=3", "start=-K"])
def test_a_convolution_that_looks_back_is_causal(attributes: str) -> None:
    assert attngraph.check(attngraph.parse(CAUSAL.replace("{}", attributes))).ok


@pytest.mark.parametrize("attributes", ["start=2 - K", "start=-floor(K / 2)", "start=1 - K, dilation=2"])
def test_a_convolution_that_looks_ahead_is_not_causal(attributes: str) -> None:
    report = attngraph.check(attngraph.parse(CAUSAL.replace("{}", attributes)))
    assert [d.code for d in report.diagnostics] == ["AG407"]


def test_the_causal_convolution_is_that_of_torch() -> None:
    module = attngraph.compile(CAUSAL.replace("{}", "start=1 - K"), sizes={"C": 3, "K": 4}).double()
    x = normal(2, 3, 9)
    expected = conv1d(pad(x, (3, 0)), module.w[:, None], groups=3)
    torch.testing.assert_close(module(x), expected)


def test_borders_are_a_matter_of_padding() -> None:
    text = formula(
        "x[C, N], w[C, K]) -> [C, N]",
        "where K = 3",
        "p = pad_circular[N -> P](x, before=1, after=1)",
        "return conv[P, K -> N](p, w, start=0)",
    )
    x, w = normal(2, 6), normal(2, 3)
    expected = conv1d(pad(x[None], (1, 1), mode="circular"), w[:, None], groups=2)[0]
    torch.testing.assert_close(attngraph.compile(text)(x, w), expected)


@pytest.mark.parametrize(
    ("brackets", "code"),
    [("N", "AG269"), ("N, K, C", "AG269"), ("N, K -> P, Q", "AG269"), ("N, C", "AG268"), ("K, N", "AG268"),
     ("N, V", "AG204"), ("N, N", "AG263")],
)  # fmt: skip
def test_brackets_that_do_not_fit(brackets: str, code: str) -> None:
    text = formula("x[C, N], w[K]) -> [C, N]", f"return conv[{brackets}](x, w)")
    assert [d.code for d in attngraph.check(attngraph.parse(text)).diagnostics if d.code < "AG5"] == [code]


def test_a_kernel_that_depends_on_the_place_is_told_of_windows() -> None:
    text = formula("x[C, N], w[N, K]) -> [C, N]", "return conv[N, K](x, w)")
    [problem] = attngraph.check(attngraph.parse(text)).diagnostics
    assert problem.code == "AG221"
    assert "windows" in (problem.suggestion or "")
