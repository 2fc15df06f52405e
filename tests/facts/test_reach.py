"""What a result is said to read is all that it reads: one position is changed, or several are permuted."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from attngraph.compiler.facts.reach import reached
from attngraph.compiler.facts.symmetry import symmetries
from attngraph.compiler.formula import Formula
from attngraph.compiler.graph import Node
from attngraph.compiler.report import Reached
from attngraph.compiler.simplify import with_constants

from .probes import NAMES, call, formula_of, typed


def built(name: str) -> Formula:
    """The formula with the constants that the module of `call` has."""
    consts = call(name).consts
    return with_constants(typed(name), consts) if consts else typed(name)


def changed(x: Tensor, dim: int, position: int) -> Tensor:
    """The same input with other values at one position."""
    found = x.detach().clone()
    part = found.select(dim, position)
    if x.dtype == torch.bool:
        part.copy_(~part)
    else:
        part.add_(torch.full_like(part, 0.37))
    return found


def outputs(value: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)


def allowed(rows: list[Reached], node: Node, shape: torch.Size, position: int) -> Tensor:
    """Which elements of a result may depend on one position of an input."""
    found = torch.zeros(shape, dtype=torch.bool)
    for row in rows:
        if row.own is None:
            if row.words != "no position":
                found |= True
            continue
        dim = node.axes.index(row.own) - len(node.axes)
        own = torch.arange(shape[dim])
        distance = position - own
        near = (distance >= (row.low if row.low is not None else -shape[dim] - position)) & (
            distance <= (row.high if row.high is not None else shape[dim] + position)
        )
        found |= near.view(-1, *[1] * (-dim - 1))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_nothing_else_moves(name: str) -> None:
    formula, given = built(name), call(name)
    rows = reached(formula)
    with torch.no_grad():
        before = outputs(given.module(*given.inputs))
        scale = max(1.0, *(x.abs().max().item() for x in before))
        for number, node in enumerate(formula.inputs):
            x = given.inputs[number]
            if x.dtype == torch.int64:
                continue
            for axis in node.axes:
                mine = [row for row in rows if (row.input, row.axis) == (node.op.name, axis)]  # type: ignore[attr-defined]
                if all(row.own is None and row.words != "no position" for row in mine):
                    continue
                dim = node.axes.index(axis) - len(node.axes)
                for position in {0, x.shape[dim] // 2, x.shape[dim] - 1}:
                    inputs = [changed(y, dim, position) if y is x else y for y in given.inputs]
                    after = outputs(given.module(*inputs))
                    for place, (old, new, output) in enumerate(zip(before, after, formula.graph.outputs, strict=True)):
                        may = allowed([row for row in mine if row.output == place], output, old.shape, position)
                        moved = (old - new).abs() > 1e-9 * scale
                        assert not (moved & ~may).any(), (node, axis, position)


@pytest.mark.parametrize("name", NAMES)
def test_permuted_positions(name: str) -> None:
    formula, given = built(name), call(name)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        before = outputs(given.module(*given.inputs))
        for symmetry in symmetries(formula):
            if symmetry.culprit is not None:
                continue
            members = copies(formula, symmetry.axes)
            order: Tensor | None = None
            inputs = []
            for node, x in zip(formula.inputs, given.inputs, strict=True):
                for axis in members & set(node.axes):
                    dim = node.axes.index(axis) - len(node.axes)
                    order = torch.randperm(x.shape[dim], generator=generator) if order is None else order
                    x = x.index_select(dim, order)
                inputs.append(x)
            assert order is not None
            after = outputs(given.module(*inputs))
            for old, new, output in zip(before, after, formula.graph.outputs, strict=True):
                for axis in members & set(output.axes):
                    old = old.index_select(output.axes.index(axis) - len(output.axes), order)
                assert (old - new).abs().max() <= 1e-9 * max(1.0, old.abs().max().item())


def copies(formula: Formula, axes: tuple[str, ...]) -> set[str]:
    """The axes and those that renames make of them, and so on."""
    from attngraph.compiler.ops.layout import Rename

    found = set(axes)
    pairs = [(node.op.source, node.op.target) for node in formula.graph if isinstance(node.op, Rename)]
    for _ in pairs:
        for source, target in pairs:
            if found & {source, target}:
                found |= {source, target}
    return found


HEADER = "attention f(q[N, D], k[M, D], v[M, E], x[N, E]) -> [N, E]:\n    where M = N, W = 3\n    const w = 2\n"


@pytest.mark.parametrize(
    ("body", "input", "words"),
    [
        ("softmax[M](q @ k^T) @ v", "v", "every position"),
        ("softmax[M](q @ k^T) @ v", "q", "the same position"),
        ("where(pos(N) >= pos(M), q @ k^T, 0) @ v", "v", "the same and earlier positions"),
        ("where(pos(N) > pos(M), q @ k^T, 0) @ v", "v", "positions up to -1"),
        ("where(pos(N) <= pos(M), q @ k^T, 0) @ v", "v", "the same and later positions"),
        ("softmax[M](where(abs(pos(N) - pos(M)) <= w, q @ k^T, -inf)) @ v", "k", "positions -2 to +2"),
        ("softmax[M](q @ k^T, mask=abs(pos(N) - pos(M)) < w) @ v", "k", "positions -1 to +1"),
        ("softmax[M](q @ k^T, mask=pos(N) >= pos(M) and pos(N) - pos(M) < 4) @ v", "k", "positions -3 to 0"),
        ("softmax[M](q @ k^T, mask=pos(N) // 4 == pos(M) // 4) @ v", "k", "positions -3 to +3"),
        ("softmax[M](q @ k^T, mask=pos(N) // 4 >= pos(M) // 4) @ v", "k", "positions up to +3"),
        ("softmax[M](q @ k^T, mask=pos(N) == pos(M) + 1) @ v", "k", "positions -1 to -1"),
        ("softmax[M](q @ k^T, mask=pos(N) >= pos(M) or pos(M) <= 3) @ v", "k", "every position"),
        ("softmax[M](q @ k^T, mask=2 * (pos(N) - pos(M)) <= 5 and pos(M) <= pos(N)) @ v", "k", "positions -2 to 0"),
        ("v[M -> N]", "v", "the same position"),
        ("cumsum[N](x)", "x", "the same and earlier positions"),
        ("shift[N](x, by=2)", "x", "positions -2 to -2"),
        ("shift[N](x, by=-1) + x", "x", "positions 0 to +1"),
        ("mean[W](windows[N -> N, W](x, start=-2))", "x", "positions -2 to 0"),
        ("mean[W](windows[N -> N, W](x, start=-2, dilation=2))", "x", "positions -2 to +2"),
        ("shift[N](mean[W](windows[N -> N, W](x, start=-1)), by=1)", "x", "positions -2 to 0"),
        ("conv[N, W](x, cos(pos(W)))", "x", "positions -1 to +1"),
        ("x - mean[N](x)", "x", "every position"),
        ("roll[N](x, by=1)", "x", "every position"),
        ("sort[N](x)", "x", "every position"),
        ("where(pos(N) >= pos(M), q @ k^T, 1) @ v", "v", "every position"),
        ("where(pos(N) >= pos(M), q @ k^T, 0)^0 @ v", "v", "every position"),
    ],
)
def test_words(body: str, input: str, words: str) -> None:
    formula = formula_of(f"{HEADER}    return {body}\n")
    axis = {"q": "N", "k": "M", "v": "M", "x": "N"}[input]
    found = [row for row in reached(formula) if (row.input, row.axis) == (input, axis)]
    assert [row.words for row in found] == [words]


def test_an_input_that_is_not_used_is_not_read() -> None:
    rows = reached(formula_of("attention f(x[N], y[N]) -> [N]:\n    sequence N\n    return exp(x)\n"))
    assert [(row.input, row.words) for row in rows] == [("x", "the same position"), ("y", "no position")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("softmax[M](q @ k^T) @ v", {("N",): True, ("M",): False}),
        ("softmax[M](q @ k^T, mask=pos(N) >= pos(M)) @ v", {}),
        ("(q @ k^T) @ (v * pos(M))", {("N",): True}),
        ("(q @ k^T) @ cumsum[M](v)", {("N",): True}),
        ("(q @ k^T) @ layer_norm[M](v)", {("N",): True, ("M",): False}),
        ("(q @ k^T) @ roll[M](v)", {("N",): True}),
        ("(q @ (q[N -> M])^T) @ v", {("N", "M"): True}),
    ],
)
def test_what_is_interchangeable(text: str, expected: dict[tuple[str, ...], bool]) -> None:
    formula = formula_of(f"attention f(q[N, D], k[M, D], v[M, E]) -> [N, E]:\n    where M = N\n    return {text}\n")
    found = {s.axes: s.equivariant for s in symmetries(formula) if s.culprit is None}
    assert found == expected


def test_most_examples_say_something() -> None:
    """The tests above would pass if everything were said to depend on everything."""
    rows = list(itertools.chain.from_iterable(reached(typed(name)) for name in NAMES))
    assert sum(row.own is not None for row in rows) > 0.4 * len(rows)
    assert sum(s.culprit is None for name in NAMES for s in symmetries(typed(name))) > 90
