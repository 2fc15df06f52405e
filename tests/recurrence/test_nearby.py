"""Where masks hide all but some earlier positions, a step remembers these and no others."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

import attngraph
from attngraph.compiler.lowerings.memory import Remember
from attngraph.compiler.module import compile as build
from attngraph.compiler.recurrence import elements

from ..examples.cases import EXAMPLES
from ..examples.test_examples import _prepare
from .harness import found, in_pieces, length, same
from .test_examples import parts
from .test_formulas import QKV, typed

LAG = QKV + "    lag = pos(N) - pos(M)\n"
PREFIX = (
    "attention f(q[N, D], k[N, D], v[N, E]) -> [N, E]:\n    where M = P + N, P = 2, D = 3, E = 3\n"
    "    param pk[P, D], pv[P, E]\n    keys = concat[P, N -> M](pk, k)\n    values = concat[P, N -> M](pv, v)\n"
    "    lag = P + pos(N) - pos(M)\n"
)
SOFTMAX = "    return softmax[M](q @ k^T, mask={}) @ v\n"

#: name: text, and how many positions are remembered.
TEXTS: Mapping[str, tuple[str, int]] = {
    "a band": (LAG + SOFTMAX.format("lag >= 0 and lag < 4"), 3),
    "a band without its own position": (LAG + SOFTMAX.format("lag > 0 and lag < 4"), 3),
    "a band by a constant": (
        LAG.replace("lag =", "const W = 4\n    lag =") + SOFTMAX.format("lag >= 0 and lag < W"), 3
    ),
    "a dilated band": (LAG + SOFTMAX.format("lag >= 0 and lag <= 6 and lag % 2 == 0"), 6),
    "itself": (LAG + SOFTMAX.format("lag >= 0 and lag < 1"), 0),
    "windows": (LAG + SOFTMAX.format("lag >= 0 and pos(N) // 4 == pos(M) // 4"), 3),
    "first keys and a band": (LAG + SOFTMAX.format("lag >= 0 and (lag < 3 or pos(M) < 2)"), 4),
    "a sum": (LAG + "    return where(lag >= 0 and lag < 4, sigmoid(q @ k^T), 0) @ v\n", 3),
    "a quotient": (
        LAG + "    a = where(lag >= 0 and lag < 4, sigmoid(q @ k^T), 0)\n    return (a @ v) / sum[M](a)\n", 3
    ),
    "scores of positions": (
        LAG + "    return where(lag >= 0 and lag < 4, sigmoid(q @ k^T) * cos(pos(M)), 0) @ v\n", 3
    ),
    "two bands": (
        LAG + "    a = softmax[M](q @ k^T, mask=lag >= 0 and lag < 3)\n"
        "    b = softmax[M](q @ k^T, mask=lag >= 0 and lag < 6)\n    return a @ v - b @ v\n",
        5,
    ),
    "a prefix and a band": (
        PREFIX + "    return softmax[M](q @ keys^T, mask=lag >= 0 and lag < 4 or pos(M) < P) @ values\n", 3
    ),
    "a prefix, first keys and a band": (
        PREFIX + "    return softmax[M](q @ keys^T, mask=lag >= 0 and (lag < 4 or pos(M) < P + 2)) @ values\n", 5
    ),
    "a band behind a band": (
        "attention f(q[N, D], k[M, D], v[M, D]) -> [N, D]:\n    where M = N\n    lag = pos(N) - pos(M)\n"
        "    seen = lag >= 0 and lag < 3\n    a = where(seen, sigmoid(q @ k^T), 0)\n    y = a @ v\n"
        "    return where(seen, sigmoid(y @ k^T), 0) @ y[N -> M]\n",
        2,
    ),
}  # fmt: skip

#: Near misses: what is further back matters.
ALL: Mapping[str, str] = {
    "no lower end": LAG + SOFTMAX.format("lag >= 0"),
    "another value outside": LAG + "    return where(lag >= 0, where(lag < 4, sigmoid(q @ k^T), 0.5), 0) @ v\n",
    "a band or first keys of the sequence": LAG + SOFTMAX.format("lag >= 0 and (lag < 4 or pos(M) % 2 == 0)"),
    "a finite mask": LAG
    + "    return softmax[M](q @ k^T + where(lag < 4, 0, -9), mask=lag >= 0) @ v\n",
    "all keys beside a band": LAG
    + "    a = where(lag >= 0 and lag < 4, sigmoid(q @ k^T), 0)\n    b = where(lag >= 0, sigmoid(q @ k^T), 0)\n"
    "    return a @ v + b @ v\n",
    "a number of keys": LAG
    + "    a = where(lag >= 0 and lag < 4, sigmoid(q @ k^T), 0)\n"
    "    return (a @ v) / sum[M](where(lag >= 0, 1, 0))\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_remembered(name: str) -> None:
    text, count = TEXTS[name]
    formula, plan = typed(text)
    for graph in (formula.graph, plan):
        pieces = found(formula, graph)
        held = [node for node, _ in pieces.carried() if isinstance(node.op, Remember)]
        assert all(node.op.last is not None for node in held)
        assert elements(pieces) is not None
        module = build(formula, graph, dtype=torch.float64)
        inputs = [torch.randn(2, 23, 3, dtype=torch.float64) for _ in formula.inputs]
        whole = module(*inputs)
        for lengths in ((1,) * 23, (23,), (2, 9, 1, 1, 1, 1, 6, 2), (1, 1, 1, 1, 1, 17, 1)):
            last = same(module, formula, pieces, inputs, whole, lengths)
        if graph is formula.graph:
            assert held
            kept = [x for x in last if x.dim() == 3]
            assert {x.size(-2) for x in kept} == {count}
            assert all(x.untyped_storage().nbytes() <= (2 * count + 70) * 2 * 3 * 8 for x in kept)


@pytest.mark.parametrize("name", TEXTS)
def test_gradients_and_torchscript(name: str) -> None:
    formula, _ = typed(TEXTS[name][0])
    pieces, module = found(formula, formula.graph), build(formula, formula.graph, dtype=torch.float64)
    inputs = [torch.randn(9, 3, dtype=torch.float64, requires_grad=True) for _ in formula.inputs]
    outs = [out for *_, (out,), _ in in_pieces(module, formula, pieces, inputs, (3, 1, 5))]
    gradients = [torch.autograd.grad(out.sin().sum(), inputs) for out in (torch.cat(outs), module(*inputs))]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)
    if name in ("a prefix and a band", "first keys and a band"):
        with torch.no_grad():
            same(torch.jit.script(module), formula, pieces, inputs, module(*inputs), (2, 1, 6))


@pytest.mark.parametrize("name", ALL)
def test_near_misses(name: str) -> None:
    formula, plan = typed(ALL[name])
    for graph in (formula.graph, plan):
        pieces = found(formula, graph)
        assert elements(pieces) is None
        module = build(formula, graph, dtype=torch.float64)
        inputs = [torch.randn(2, 11, 3, dtype=torch.float64) for _ in formula.inputs]
        same(module, formula, pieces, inputs, module(*inputs), (1, 6, 1, 3))


def test_a_window_of_another_size() -> None:
    """A constant that is given another value when the module is built."""
    for window in (1, 2, 9):
        module = attngraph.compile(TEXTS["a band by a constant"][0], form="dense", consts={"W": window})
        q, k, v = torch.randn(3, 2, 12, 4)
        state, outs = module.init_state(), []  # type: ignore[operator]
        for place in range(12):
            out, state = module.step(state, *(x[:, place : place + 1] for x in (q, k, v)))  # type: ignore[operator]
            outs.append(out)
        torch.testing.assert_close(torch.cat(outs, 1), module(q, k, v))
        assert state[0].size(1) == window - 1


def test_titans() -> None:
    """Behind persistent tokens a window of 64, whatever has come before."""
    formula, plan = parts("titans_mag")
    pieces = found(formula, plan)
    assert [tensor.what for _, tensors in pieces.carried() for tensor in tensors] == ["of the last positions"] * 2
    example = EXAMPLES["titans_mag"]
    call = _prepare("titans_mag", example.bases[0], {"window": 5})
    inputs = [torch.randn(2, 31, x.size(-1), dtype=torch.float64) for x in call.inputs]
    with torch.no_grad():
        state = same(call.module, formula, pieces, inputs, call.module(*inputs), (12, 1, 1, 9, 8))
    assert length(formula, pieces, inputs) == 31
    assert {x.size(-3) for x in state if x.dim() > 2} == {4}


def test_claims_and_explain() -> None:
    text = PREFIX.replace("    param", "    require state O(D + E)\n    param", 1)
    band = "    return softmax[M](q @ keys^T, mask=lag >= 0 and lag < 4 or pos(M) < P) @ values\n"
    assert not attngraph.check(text + band).diagnostics
    told = " ".join(attngraph.explain(text + band).split())
    assert "of the last positions: [..., 3, D]" in told
    assert "position by position, with a state of" in told
    every = "    return softmax[M](q @ keys^T, mask=lag >= 0) @ values\n"
    assert [found.code for found in attngraph.check(text + every).diagnostics] == ["AG410"]
