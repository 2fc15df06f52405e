"""Long sequences without gradients are computed piece by piece, with the same results."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import attngraph
from attngraph.compiler.emit import pieces

EXAMPLES = Path(__file__).parents[2] / "examples"
QKV = "attention f(q[N, D], k[M, D], v[M, E]) -> [N, E]:\n    where M = N\n"
SEEN = "pos(N) >= pos(M)"

#: name: text, and whether a long sequence is computed in pieces
FORMULAS = {
    "maps": (QKV + f"    return where({SEEN}, exp(q) @ (1 + elu(k))^T, 0) @ v\n", True),
    "normalised": (QKV + f"    a = where({SEEN}, exp(q) @ exp(k)^T, 0)\n    return (a / sum[M](a)) @ v\n", True),
    "of values": (QKV + f"    return where({SEEN}, q @ k^T, 0) @ silu(v)\n", True),
    "decay": (QKV + f"    return where({SEEN}, (sigmoid(q) @ k^T) * 0.9^(pos(N) - pos(M)), 0) @ v\n", True),
    "positions": (QKV + f"    return where({SEEN}, (q * cos(pos(N) / 5)) @ (k * cos(pos(M) / 5))^T, 0) @ v\n", True),
    "gates": (
        "attention f(q[N, D], k[M, D], v[M, E], g[N]) -> [N, E]:\n    where M = N\n    c = cumsum[N](logsigmoid(g))\n"
        f"    return where({SEEN}, (silu(q) @ silu(k)^T) * exp(c - c[N -> M]), 0) @ v\n",
        True,
    ),
    "inputs as they are": (QKV + f"    return where({SEEN}, q @ k^T, 0) @ v\n", False),
    "a number for each head": (
        "attention f(q[H, N, D], k[H, M, D], v[H, M, E], s[H]) -> [H, N, E]:\n    where M = N\n"
        f"    return where({SEEN}, (q @ k^T) * exp(-s * (pos(N) - pos(M))), 0) @ v\n",
        False,
    ),
    "a cache": (QKV + f"    return softmax[M](exp(q) @ k^T, mask={SEEN}) @ v\n", False),
    "not causal": (QKV + "    return (exp(q) @ exp(k)^T) @ v\n", False),
}


def _module(text: str, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.setattr(pieces, "ROWS", 6)
    monkeypatch.setattr(pieces, "SHORTEST", 9)
    return attngraph.compile(text).double()


def _inputs(module: nn.Module, length: int) -> list[torch.Tensor]:
    sizes = {"q": (2, length, 3), "k": (2, length, 3), "v": (2, length, 4), "g": (2, length)}
    generator = torch.Generator().manual_seed(length)
    return [torch.randn(sizes[name], dtype=torch.float64, generator=generator) for name in module.inputs]


@pytest.mark.parametrize("name", [name for name, (_, worth) in FORMULAS.items() if worth])
@pytest.mark.parametrize("length", [1, 9, 10, 12, 13, 37])
def test_pieces_are_the_whole_sequence(name: str, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module = _module(FORMULAS[name][0], monkeypatch)
    inputs = _inputs(module, length)
    taken: list[int] = []
    step = module.step
    monkeypatch.setattr(module, "step", lambda *a: (taken.append(a[1].size(-2)), step(*a))[1])
    whole = module(*inputs)
    assert not taken  # with gradients, all at once
    with torch.no_grad():
        torch.testing.assert_close(module(*inputs), whole, rtol=1e-11, atol=1e-11)
    assert taken == ([6] * (length // 6) + [length % 6] * (length % 6 > 0) if length > 9 else [])


@pytest.mark.parametrize("name", [name for name, (_, worth) in FORMULAS.items() if worth])
def test_pieces_under_torchscript(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = _module(FORMULAS[name][0], monkeypatch)
    inputs = _inputs(module, 20)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(module)(*inputs), module(*inputs), rtol=1e-11, atol=1e-11)


@pytest.mark.filterwarnings("error::UserWarning")
def test_pieces_under_transforms(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is put together under vmap and forward differentiation too, of some inputs as well."""
    module = _module(FORMULAS["normalised"][0], monkeypatch)
    inputs, other = _inputs(module, 20), _inputs(module, 21)
    with torch.no_grad():
        for batched in ((0, 0, 0), (0, None, None), (None, 0, None), (None, None, 0)):
            given = [x[0] if dim is None else x for x, dim in zip(inputs, batched, strict=True)]
            found = torch.func.vmap(module, in_dims=batched)(*given)
            torch.testing.assert_close(found, module(*(x.expand(2, -1, -1) for x in given)), rtol=1e-11, atol=1e-11)
        along = tuple(x[:, :20] for x in other)
        _, tangent = torch.func.jvp(module, tuple(inputs), along)
    _, expected = torch.func.jvp(lambda *x: module(*x), tuple(inputs), along)
    torch.testing.assert_close(tangent, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", FORMULAS)
def test_only_where_values_are_made_for_a_scan(name: str) -> None:
    text, worth = FORMULAS[name]
    assert ("forward_in_pieces" in attngraph.compile(text).source) is worth
