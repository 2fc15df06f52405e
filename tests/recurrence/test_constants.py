"""What a step needs and no piece changes is computed once, by the first step, and handed on in the state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

import attngraph

from .harness import found, in_pieces, same, splits
from .test_formulas import QKV, draw, typed

SEEN = "pos(N) >= pos(M)"
HEADS = "attention f(q[H, N, D], k[H, M, D], v[H, M, E]) -> [H, N, E]:\n    where M = N\n"
RATE = "    g = 1 - 2^(-5 - pos(H))\n"

#: name: text, sizes of what parameters carry, and how many tensors are computed once.
KEPT: Mapping[str, tuple[str, Mapping[str, int], int]] = {
    "a rate per head": (HEADS + RATE + f"    return ((q @ k^T) * where({SEEN}, g^(pos(N) - pos(M)), 0)) @ v\n", {}, 2),
    "a rate that is a number": (QKV + f"    return where({SEEN}, (q @ k^T) * 0.8^(pos(N) - pos(M)), 0) @ v\n", {}, 2),
    "a mean with a rate per head": (
        HEADS + RATE + f"    a = where({SEEN}, (exp(q) @ exp(k)^T) * g^(pos(N) - pos(M)), 0)\n"
        "    return (a @ v) / sum[M](a)\n",
        {}, 2,
    ),
    "a strict mask": (
        HEADS + RATE + "    return ((q @ k^T) * where(pos(N) > pos(M), g^(pos(N) - pos(M)), 0)) @ v\n",
        {}, 2,
    ),
    "frequencies": (
        "attention f(x[N, D]) -> [N, D]:\n    w = 100^(-pos(D) / D)\n    return cumsum[N](x * sin(pos(N) * w))\n", {}, 1
    ),
    "slopes": (
        HEADS + "    m = 2^(-pos(H) - 1)\n"
        f"    return softmax[M](q @ k^T - m * (pos(N) - pos(M)), mask={SEEN}) @ v\n",
        {}, 1,
    ),
    "a constant of the module in the dtype of inputs": (
        "attention f(x[N, D]) -> [N, D]:\n    param b[D]\n    return cumsum[N](x * b * cos(pos(D)))\n", {"D": 3}, 1
    ),
}  # fmt: skip

#: Near misses: what moves with the sequence, is learned, is given, or is a number is not kept.
MADE_AGAIN = {
    "positions": "attention f(x[N, D]) -> [N, D]:\n    return cumsum[N](x * sin(pos(N)))\n",
    "a parameter": "attention f(x[N, D]) -> [N, D]:\n    param w[D]\n    return cumsum[N](x * exp(w))\n",
    "an input": "attention f(x[N, D], g[D]) -> [N, D]:\n    return cumsum[N](x * exp(g))\n",
    "a number": "attention f(x[N, D]) -> [N, D]:\n    return cumsum[N](x / sqrt(D))\n",
    "a rate that is given": (
        "attention f(q[H, N, D], k[H, M, D], v[H, M, E], g[H]) -> [H, N, E]:\n    where M = N\n"
        f"    return ((q @ k^T) * where({SEEN}, exp(-abs(g) * (pos(N) - pos(M))), 0)) @ v\n"
    ),
}


def counted(module: Any) -> list[int]:
    """A list that grows by one with every call of `step_constants`."""
    calls: list[int] = []
    computed = module.step_constants

    def count(*inputs: torch.Tensor) -> object:
        calls.append(1)
        return computed(*inputs)

    module.step_constants = count
    return calls


@pytest.mark.parametrize(("text", "sizes", "kept"), KEPT.values(), ids=KEPT)
def test_constants_are_computed_by_the_first_step(text: str, sizes: Mapping[str, int], kept: int) -> None:
    formula, plan = typed(text)
    pieces = found(formula, plan)
    module = attngraph.compile(text, sizes=sizes).double()
    scripted = torch.jit.script(module)
    assert module.source.count("which the first step computes") == kept  # type: ignore[operator, union-attr]
    with torch.no_grad():
        inputs = draw(formula, pieces, 7, sizes)
        whole = module(*inputs)
        calls = counted(module)
        for lengths in splits(7):
            calls.clear()
            same(module, formula, pieces, inputs, whole, lengths)
            same(scripted, formula, pieces, inputs, whole, lengths)
            assert len(calls) == 1


@pytest.mark.parametrize("text", MADE_AGAIN.values(), ids=MADE_AGAIN)
def test_what_is_not_constant(text: str) -> None:
    module = attngraph.compile(text, sizes={"D": 3} if "param" in text else {})
    assert not hasattr(module, "step_constants")


def test_a_rate_that_is_given_may_have_gradients() -> None:
    text = MADE_AGAIN["a rate that is given"]
    formula, plan = typed(text)
    pieces = found(formula, plan)
    module = attngraph.compile(text)
    inputs = draw(formula, pieces, 5, {})
    steps = torch.cat([out for _, _, (out,), _ in in_pieces(module, formula, pieces, inputs, (2, 1, 1, 1))], -2)
    gradients = [torch.autograd.grad(out.sin().sum(), inputs) for out in (steps, module(*inputs))]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_module_that_is_moved_after_it_was_built(dtype: torch.dtype) -> None:
    """The state is made for the inputs that come, whatever the module has been before."""
    text, sizes, _ = KEPT["a constant of the module in the dtype of inputs"]
    module = attngraph.compile(text, sizes=sizes)
    state = module.init_state()
    out, _ = module.step(state, torch.randn(1, 3))
    assert out.dtype == torch.float32
    module = module.to(dtype)
    out, state = module.step(state, torch.randn(1, 3, dtype=dtype))
    out, state = module.step(state, torch.randn(1, 3, dtype=dtype))
    assert out.dtype == dtype
