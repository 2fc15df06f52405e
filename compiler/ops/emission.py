"""Shared pieces of emitted Python: operands beside each other, dimensions by axis, tensor or number."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence

from .. import pyast
from ..sizes import Poly
from ..types import Kind
from .base import Emitter, Operand


def place(emitter: Emitter, operand: Operand, axes: tuple[str, ...]) -> ast.expr:
    """The operand where torch broadcasts it against a tensor over `axes`; a number as it is."""
    return operand.expression if operand.number else emitter.align(operand, axes)


def as_tensor(emitter: Emitter, operand: Operand, kind: Kind, axes: tuple[str, ...], *, wide: bool) -> ast.expr:
    """The same for functions of torch that take no Python number."""
    if not operand.number:
        return emitter.align(operand, axes)
    return pyast.call(
        "torch.scalar_tensor", operand.expression, dtype=emitter.dtype(kind, wide=wide), device=emitter.device()
    )


def all_wide(operands: Iterable[Operand]) -> bool:
    """Whether a tensor made of these operands is one that depends on positions and sizes only."""
    tensors = [operand for operand in operands if not operand.number]
    return bool(tensors) and all(operand.wide for operand in tensors)


def dimension(axes: Sequence[str], axis: str) -> int:
    """The dimension of an axis, counted from the end: batch dimensions may be in front."""
    return list(axes).index(axis) - len(axes)


def dimensions(axes: Sequence[str], chosen: Iterable[str]) -> int | tuple[int, ...]:
    """The dimensions of several axes in ascending order; of one axis, the dimension itself."""
    found = tuple(sorted(dimension(axes, axis) for axis in chosen))
    return found[0] if len(found) == 1 else found


def move(expression: ast.expr, axes: tuple[str, ...], target: tuple[str, ...]) -> ast.expr:
    """A tensor over `axes` with its dimensions in the order of `target`: the same axes, a view."""
    if axes == target:
        return expression
    moved = [i for i in range(len(axes)) if axes[i] != target[i]]
    if len(moved) == 2:
        return pyast.method(expression, "transpose", *(i - len(axes) for i in moved))
    # One axis that jumps over others is one move; the rest of the order follows.
    for axis in axes:
        rest = [a for a in axes if a != axis]
        to = target.index(axis)
        if (*rest[:to], axis, *rest[to:]) == target:
            return pyast.method(expression, "movedim", dimension(axes, axis), to - len(axes))
    chosen = [axis for i, axis in enumerate(target) if i in moved]
    sources = tuple(dimension(axes, axis) for axis in chosen)
    targets = tuple(dimension(target, axis) for axis in chosen)
    return pyast.method(expression, "movedim", sources, targets)


def flattened(operand: Operand, axes: tuple[str, ...]) -> tuple[ast.expr, tuple[str, ...]]:
    """The operand with `axes` moved to the end, in this order, and flattened to one dimension.

    Returns also the order of axes before flattening, for `unflattened`.
    """
    order = (*(a for a in operand.type.axes if a not in axes), *axes)
    expression = move(operand.expression, operand.type.axes, order)
    if len(axes) > 1:
        expression = pyast.method(expression, "flatten", -len(axes))
    return expression, order


def unflattened(
    emitter: Emitter, expression: ast.expr, order: tuple[str, ...], axes: tuple[str, ...], result: tuple[str, ...]
) -> ast.expr:
    """The reverse of `flattened`: the last dimension becomes `axes` again, all in the order of `result`."""
    if len(axes) > 1:
        expression = pyast.method(expression, "unflatten", -1, sizes(emitter, axes))
    return move(expression, order, result)


def real_number(emitter: Emitter, size: Poly) -> ast.expr:
    """An attribute as a Python float, which TorchScript tells from an int."""
    known = size.as_number()
    return pyast.call("float", emitter.size(size)) if known is None else pyast.constant(float(known))


def sizes(emitter: Emitter, axes: Iterable[str]) -> ast.expr:
    """A tuple of sizes."""
    return ast.Tuple([emitter.size(Poly.symbol(axis)) for axis in axes], ast.Load())
