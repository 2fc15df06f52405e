"""Half precision as it is trained in: dtypes that do not fit, autocast, and sums over many positions."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor

import attngraph
from attngraph.compiler.formula import Formula
from attngraph.compiler.recurrence import Recurrence
from tests.facts.probes import report_of
from tests.recurrence.harness import found, in_pieces
from tests.recurrence.test_formulas import FORMULAS

HALF = (torch.bfloat16, torch.float16)
LINEAR = FORMULAS["causal scan"][0]
PROJECTED = "attention f(x[N, D]) -> [N, E]:\n    param w[D, E]\n    buffer b[E] = 0\n    return x @ w + b\n"


def close(actual: Tensor, expected: Tensor, dtype: torch.dtype, factor: float = 4.0) -> None:
    """Up to some roundings of the largest value; expected: in float64."""
    limit = factor * torch.finfo(dtype).eps * expected.abs().max().item()
    torch.testing.assert_close(actual.double(), expected, rtol=0.0, atol=limit)


# -- dtypes that do not fit ------------------------------------------------------------------------------


@pytest.mark.parametrize("scripted", [False, True])
def test_inputs_and_parameters_of_two_dtypes_are_named(scripted: bool) -> None:
    module = attngraph.compile(PROJECTED, sizes={"D": 3, "E": 2})
    called = torch.jit.script(module) if scripted else module
    x = torch.randn(5, 3)
    error, dtype = (torch.jit.Error, "15") if scripted else (ValueError, "torch.bfloat16")  # scripts print a number
    with pytest.raises(error, match=f"f: x is {dtype}, but the module holds w in .*: convert one of them"):
        called(x.bfloat16())
    module.w.data = module.w.data.bfloat16()
    with pytest.raises(error, match=f"f: x is {dtype}, but the module holds b in "):
        called(x.bfloat16())
    assert module.bfloat16()(x.bfloat16()).dtype == torch.bfloat16


def test_autocast_takes_inputs_and_parameters_of_two_dtypes() -> None:
    """What a projection gives is in half precision there, what a softmax gives in float32, and parameters are too."""
    module = attngraph.compile(PROJECTED, sizes={"D": 3, "E": 2})
    q, k, v = (torch.randn(150, 3) for _ in range(3))
    expected = attngraph.compile(LINEAR)(q.double(), k.double(), v.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert module(q.bfloat16()).dtype == torch.float32  # a product in bfloat16, and a buffer in float32
        actual = attngraph.compile(LINEAR)(q.bfloat16(), k, v.bfloat16())
    close(actual, expected, torch.bfloat16, 8.0)
    with pytest.raises(ValueError, match=r"f: k is torch\.float32, but q is torch\.bfloat16"):
        attngraph.compile(LINEAR)(q.bfloat16(), k, v.bfloat16())


# -- sums over many positions ----------------------------------------------------------------------------

CARRIED = (
    "causal scan", "decayed scan", "normalised scan", "normalised decayed scan", "gated scan", "normalised gated scan",
    "feature-gated scan", "polynomial scan", "normalised polynomial scan", "element-wise scan", "prefix softmax",
    "running sum",
)  # fmt: skip
DELTA = """
attention f(q[N, D], k[N, D], v[N, E], beta[N]) -> [N, E]:
    scan N:
        state S[D, E] = 0
        S = S + beta * k * (v - k @ S)
        yield y = q @ S
    return y
"""
NONLINEAR = """
attention f(x[N, D]) -> [N, D]:
    scan N:
        state s[D] = 0
        s = s + sigmoid(x) * exp(-s / 10000)
        yield y = s
    return y
"""
STABILISED = """
attention f(q[N, D], k[M, D], v[M, E], i[M], g[N]) -> [N, E]:
    where M = N
    c = cumsum[N](-g)
    d = where(pos(N) >= pos(M), c - c[N -> M] + i, -inf)
    top = max[M](d)
    weights = (q @ k^T) * exp(d - top)
    return (weights / max(abs(sum[M](weights)), exp(-top))) @ v
"""
TEXTS = {
    **{name: FORMULAS[name][0] for name in CARRIED},
    "delta rule": DELTA,
    "recurrence": NONLINEAR,
    "running maximum": STABILISED,
}
REMEMBERED = {"running maximum": {1}}  # of a state: what is no sum, but the last of some values
LENGTH = 1300


def drawn(formula: Formula, length: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Positive numbers, of which no sum over positions cancels."""
    torch.manual_seed(3)
    sizes = {"N": length, "M": length, "D": 3, "E": 2}
    scale = {"g": 0.003, "beta": 0.05}
    return tuple(
        (torch.rand(*(sizes[axis] for axis in node.axes)) * scale.get(node.op.name, 0.6)).to(dtype)  # type: ignore[attr-defined]
        for node in formula.inputs
    )


def parts(text: str) -> tuple[Formula, Recurrence]:
    report = report_of(text)
    assert report.formula is not None
    assert report.plan is not None
    return report.formula, found(report.formula, report.plan)


@pytest.mark.parametrize("name", TEXTS)
def test_sums_over_many_positions(name: str) -> None:
    """In half precision and under autocast: a sum that is kept in half precision stops growing, or loses digits."""
    formula, pieces = parts(TEXTS[name])
    module = attngraph.compile(TEXTS[name])
    with torch.no_grad():
        for dtype in HALF:
            given = drawn(formula, LENGTH, dtype)
            expected = module(*(x.double() for x in given))
            if expected.abs().max() > torch.finfo(dtype).max / 2:
                continue
            actual = module(*given)
            assert actual.dtype == dtype
            close(actual, expected, dtype)
            for _, stop, (out,), state in in_pieces(module, formula, pieces, given, (1000, 200, 97, 1, 1, 1)):
                sums = [kept for index, kept in enumerate(state) if index not in REMEMBERED.get(name, ())]
                assert all(kept.dtype != dtype for kept in sums), "a state in half precision"
                if stop == LENGTH:
                    close(out, expected[-1:], dtype)
        wide = tuple(x.float() for x in given)
        with torch.autocast("cpu", torch.bfloat16):
            close(module(*wide), expected, torch.bfloat16)
            for _, stop, (out,), state in in_pieces(module, formula, pieces, wide, (1000, 200, 97, 1, 1, 1)):
                assert all(kept.dtype == torch.float32 for kept in state)
                if stop == LENGTH:
                    close(out, expected[-1:], torch.bfloat16)


@pytest.mark.parametrize(
    "name", ["causal scan", "gated scan", "polynomial scan", "element-wise scan", "prefix softmax"]
)
def test_autocast_gives_what_a_product_gives(name: str) -> None:
    """An algorithm stands for products of matrices, whose results have the dtype of autocast; gradients pass."""
    formula, _ = parts(TEXTS[name])
    module, written = attngraph.compile(TEXTS[name]), attngraph.compile(TEXTS[name], form="dense")
    given = [x.requires_grad_() for x in drawn(formula, 150, torch.float32)]
    exact = module(*(x.double() for x in given))
    with torch.autocast("cpu", torch.bfloat16):
        actual, literal = module(*given), written(*given)
        (stepped, *_), _ = module.step(module.step(module.init_state(), *given)[1], *(x[:1] for x in given))
    assert actual.dtype == literal.dtype == stepped.dtype == torch.bfloat16
    slopes = [torch.autograd.grad(value.double().sum(), given) for value in (actual, exact)]
    for ours, theirs in zip(*slopes, strict=True):
        assert ours.dtype == torch.float32
        close(ours, theirs.double(), torch.bfloat16, 8.0)


@pytest.mark.parametrize("dtype", HALF)
def test_sums_of_groups(dtype: torch.dtype) -> None:
    """As a sum over an axis they are rounded once, at the end."""
    text = "attention f(x[M], group[M] int) -> [M]:\n    return segment_sum[M](x, group)\n"
    x, group = torch.rand(3000).to(dtype), torch.zeros(3000, dtype=torch.int64)
    expected = x.double().sum().expand(3000)
    close(attngraph.compile(text)(x, group), expected, dtype, 1.0)
    weights = attngraph.compile(text.replace("segment_sum", "segment_softmax"))(x, group)
    close(weights, torch.softmax(x.double(), -1), dtype, 1.0)
    assert weights.dtype == dtype


@pytest.mark.parametrize("dtype", HALF)
def test_running_products(dtype: torch.dtype) -> None:
    text = "attention f(x[N, D]) -> [N, D]:\n    return cumprod[N](x)\n"
    formula, pieces = parts(text)
    module = attngraph.compile(text)
    given = ((1 - torch.rand(600, 3) / 200).to(dtype),)
    expected = deepcopy(module)(given[0].double())
    *_, (_, _, (out,), state) = in_pieces(module, formula, pieces, given, (1,) * 600)
    close(out, expected[-1:], dtype, 1.0)
    assert state[0].dtype == torch.float32
