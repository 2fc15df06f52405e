"""Operations that only move elements, in modular arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..graph import Node
from ..ops import layout, selection
from ..ops.base import Op
from . import residues as field
from .elements import exponential
from .maps import picked
from .opaque import opaque
from .values import Rule, Setting, Value, largest


def _moved(change: Callable[[Tensor, tuple[str, ...], Node, Setting], Tensor]) -> Rule:
    """An operation that only moves elements: the same on residues and on known values.

    change: takes a tensor whose last dimensions are the operand's axes.
    """

    def rule(node: Node, operands: list[Value], setting: Setting) -> Value:
        def moved(x: Value) -> Value:
            known = None if x.known is None else change(x.known, x.axes, node, setting)
            power = None if x.power is None else moved(x.power)
            return Value(change(x.residues, x.axes, node, setting), node.axes, x.degree, known, power)

        return moved(operands[0])

    return rule


def _dim(axes: Sequence[str], axis: str) -> int:
    return axes.index(axis) - len(axes)


def _ordered(tensor: Tensor, axes: Sequence[str], wanted: Sequence[str]) -> Tensor:
    front = tensor.ndim - len(axes)
    return tensor.permute((*range(front), *(front + axes.index(axis) for axis in wanted)))


def _reorder(tensor: Tensor, axes: tuple[str, ...], node: Node, setting: Setting) -> Tensor:
    return _ordered(tensor, axes, node.axes)


def _same(tensor: Tensor, axes: tuple[str, ...], node: Node, setting: Setting) -> Tensor:
    return tensor


def _repeated(tensor: Tensor, axes: tuple[str, ...], node: Node, setting: Setting) -> Tensor:
    front = tensor.shape[: tensor.ndim - len(axes)]
    lengths = [setting.shape((axis,))[0] if axis in axes else 1 for axis in node.axes]
    kept = [axis for axis in node.axes if axis in axes]
    return _ordered(tensor, axes, kept).reshape(*front, *lengths).expand(*front, *setting.shape(node.axes))


def _split(tensor: Tensor, axes: tuple[str, ...], node: Node, setting: Setting) -> Tensor:
    op = node.op
    assert isinstance(op, layout.Split)
    dim = _dim(axes, op.source)
    return tensor.reshape(*tensor.shape[:dim], *setting.shape(op.targets), *tensor.shape[dim:][1:])


def _merge(tensor: Tensor, axes: tuple[str, ...], node: Node, setting: Setting) -> Tensor:
    op = node.op
    assert isinstance(op, layout.Merge)
    at = node.axes.index(op.target)
    order = (*node.axes[:at], *op.sources, *node.axes[at + 1 :])
    front = tensor.shape[: tensor.ndim - len(axes)]
    return _ordered(tensor, axes, order).reshape(*front, *setting.shape(node.axes))


def _slice(tensor: Tensor, axes: tuple[str, ...], node: Node, setting: Setting) -> Tensor:
    op = node.op
    assert isinstance(op, selection.Slice)
    count = setting.shape((op.target,))[0]
    places = int(setting.size(op.start)) + int(setting.size(op.stride)) * torch.arange(count)
    return tensor.index_select(_dim(axes, op.source), places)


def _shift(tensor: Tensor, axes: tuple[str, ...], node: Node, setting: Setting) -> Tensor:
    op = node.op
    assert isinstance(op, selection.Shift)
    return picked(tensor, _dim(axes, op.axis), torch.arange(setting.shape((op.axis,))[0]) - int(setting.size(op.by)))


def _roll(tensor: Tensor, axes: tuple[str, ...], node: Node, setting: Setting) -> Tensor:
    op = node.op
    assert isinstance(op, selection.Roll)
    return tensor.roll(int(setting.size(op.by)), _dim(axes, op.axis))


def _concat(node: Node, operands: list[Value], setting: Setting) -> Value:
    """The parts side by side, and what e to them is where one of them is a logarithm or -inf."""
    found = _side_by_side(node, operands, setting)
    if all(operand.power is None for operand in operands):
        return found
    return replace(found, power=_side_by_side(node, [exponential(operand) for operand in operands], setting))


def _side_by_side(node: Node, operands: list[Value], setting: Setting) -> Value:
    op = node.op
    assert isinstance(op, selection.Concat)
    dim = node.axes.index(op.target)
    parts = []
    for source, operand in zip(op.sources, operands, strict=True):
        axes = tuple(op.target if axis == source else axis for axis in operand.axes)
        wanted = list(setting.shape(node.axes))
        wanted[dim] = operand.residues.shape[axes.index(op.target) + 2]
        parts.append(Value(operand.residues, axes).over(node.axes).expand(2, field.TRIALS, *wanted))
    return Value(torch.cat(parts, dim + 2), node.axes, largest(operands))


def _take(node: Node, operands: list[Value], setting: Setting) -> Value:
    """A table read at known places, which may differ along axes that the table has too."""
    op = node.op
    assert isinstance(op, selection.Take)
    table, places = operands
    length = setting.shape((op.axis,))[0]
    if places.known is None or not ((places.known >= 0) & (places.known < length)).all():
        return opaque(node, operands, setting)
    rest = tuple(axis for axis in table.axes if axis != op.axis)
    whole = (*rest, *(axis for axis in places.axes if axis not in rest))
    index = places.known_over(whole).expand(setting.shape(whole))[..., None]

    def read(tensor: Tensor, front: int) -> Tensor:
        last = _ordered(tensor, table.axes, (*rest, op.axis))
        for _ in whole[len(rest) :]:
            last = last.unsqueeze(-2)
        last = last.expand(*tensor.shape[:front], *index.shape[:-1], length)
        found = last.gather(-1, index.expand(*tensor.shape[:front], *index.shape))
        return _ordered(found.squeeze(-1), whole, node.axes)

    known = None if table.known is None else read(table.known, 0)
    return Value(read(table.residues, 2), node.axes, table.degree, known)


MOVEMENTS: Mapping[type[Op], Rule] = {
    layout.Reorder: _moved(_reorder),
    layout.Rename: _moved(_same),
    layout.Convert: _moved(_same),
    layout.Broadcast: _moved(_repeated),
    layout.Split: _moved(_split),
    layout.Merge: _moved(_merge),
    selection.Slice: _moved(_slice),
    selection.Shift: _moved(_shift),
    selection.Roll: _moved(_roll),
    selection.Concat: _concat,
    selection.Take: _take,
}
