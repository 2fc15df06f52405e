"""A formula run piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from attngraph.compiler.formula import Formula
from attngraph.compiler.graph import Graph, Node
from attngraph.compiler.recurrence import Recurrence, Refusal, recurrence


def found(formula: Formula, graph: Graph) -> Recurrence:
    pieces = recurrence(formula, graph)
    assert not isinstance(pieces, Refusal), pieces.reason
    return pieces


def cut(node: Node, tensor: Tensor, pieces: Recurrence, start: int, stop: int) -> Tensor:
    """The part of an input that a step takes: rows of the piece, columns of all positions so far."""
    for index, axis in enumerate(node.axes):
        dim = index - len(node.axes)
        if axis in pieces.axes:
            tensor = tensor.narrow(dim, start, stop - start)
        elif axis in pieces.sizes:
            tensor = tensor.narrow(dim, 0, stop)
    return tensor


def length(formula: Formula, pieces: Recurrence, inputs: Sequence[Tensor]) -> int:
    return next(
        tensor.size(index - len(node.axes))
        for node, tensor in zip(formula.inputs, inputs, strict=True)
        for index, axis in enumerate(node.axes)
        if axis in pieces.axes
    )


def in_pieces(
    module: nn.Module, formula: Formula, pieces: Recurrence, inputs: Sequence[Tensor], lengths: Sequence[int]
) -> Iterator[tuple[int, int, tuple[Tensor, ...], list[Tensor]]]:
    """Start, end, results and state of every step."""
    nodes = [pieces.inputs[node] for node in formula.inputs]
    state = module.init_state() if pieces.length is None else module.init_state(sum(lengths))
    start = 0
    for size in lengths:
        parts = [cut(n, t, pieces, start, start + size) for n, t in zip(nodes, inputs, strict=True)]
        out, state = module.step(state, *parts)
        yield start, start + size, out if isinstance(out, tuple) else (out,), state
        start += size


def same(
    module: nn.Module,
    formula: Formula,
    pieces: Recurrence,
    inputs: Sequence[Tensor],
    whole: Tensor | tuple[Tensor, ...],
    lengths: Sequence[int],
    tolerance: float = 1e-10,
) -> list[Tensor]:
    """Every step gives what the whole sequence gives at its positions. Returns the state after all of them."""
    results = whole if isinstance(whole, tuple) else (whole,)
    last: list[Tensor] = []
    for start, stop, outs, state in in_pieces(module, formula, pieces, inputs, lengths):
        last = state
        for node, out, expected in zip(pieces.graph.outputs, outs, results, strict=True):
            wanted = cut(node, expected, pieces, start, stop)
            assert out.shape == wanted.shape, (start, stop)
            assert out.dtype == wanted.dtype
            limit = tolerance * max(1.0, wanted.detach().abs().max().item())
            torch.testing.assert_close(out, wanted, rtol=0.0, atol=limit, equal_nan=True)
    return last


def splits(length: int) -> tuple[tuple[int, ...], ...]:
    """One by one, all at once, and prefill in two ragged pieces before single steps."""
    if length == 1:
        return ((1,),)
    first = length // 2
    second = (length - first) // 2
    ragged = tuple(size for size in (first, second) if size) + (1,) * (length - first - second)
    return (1,) * length, (length,), ragged
