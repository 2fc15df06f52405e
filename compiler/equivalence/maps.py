"""Linear maps whose weights depend on positions only, in modular arithmetic: windows, pooling, convolutions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from fractions import Fraction

import torch
from torch import Tensor

from ..graph import Node
from ..ops import convolution, padding, pooling, selection
from ..ops.base import Op
from . import residues as field
from .residues import reduced, times
from .values import Degree, Rule, Setting, Value, number, product_of


def picked(tensor: Tensor, dim: int, places: Tensor) -> Tensor:
    """The elements at places [P] along a dimension counted from the end, 0 for places outside."""
    length = tensor.shape[dim]
    inside = (places >= 0) & (places < length)
    found = tensor.index_select(dim, places.clamp(0, length - 1))
    return found * inside.reshape(-1, *([1] * (-dim - 1))).to(found.dtype)


def _along(value: Value, axis: str, places: Tensor, target: str) -> Value:
    """The elements at places along an axis, which gets the name `target`."""
    dim = value.axes.index(axis) - len(value.axes)
    known = None if value.known is None else picked(value.known, dim, places)
    axes = tuple(target if each == axis else each for each in value.axes)
    return Value(picked(value.residues, dim, places), axes, value.degree, known)


def _laid_out(value: Value, axes: tuple[str, ...]) -> Value:
    known = None if value.known is None else value.known_over(axes)
    return Value(value.over(axes), axes, value.degree, known)


def _length(axis: str, setting: Setting) -> int:
    return setting.shape((axis,))[0]


def _range(axis: str, setting: Setting) -> Tensor:
    return torch.arange(_length(axis, setting))


# -- windows and borders --------------------------------------------------------------------------------


def _windows(node: Node, operands: list[Value], setting: Setting) -> Value:
    op = node.op
    assert isinstance(op, selection.Windows)
    [x] = operands
    start, dilation, stride = (int(setting.size(size)) for size in (op.start, op.dilation, op.stride))
    rows, columns = (_range(axis, setting) for axis in (op.target, op.window))
    places = stride * rows[:, None] + start + dilation * columns
    flat = _along(x, op.source, places.flatten(), op.target)
    shape = setting.shape(node.axes)
    known = None if flat.known is None else flat.known.reshape(shape)
    return Value(flat.residues.reshape(2, field.TRIALS, *shape), node.axes, x.degree, known)


def _fold(node: Node, operands: list[Value], setting: Setting) -> Value:
    op = node.op
    assert isinstance(op, selection.Fold)
    [x] = operands
    place, window = op.sources
    start, dilation, stride = (int(setting.size(size)) for size in (op.start, op.dilation, op.stride))
    at = x.axes.index(window)
    rest = tuple(axis for axis in x.axes if axis != window)
    total: Tensor | None = None
    for tap in range(_length(window, setting)):
        row = Value(x.residues.select(at + 2, tap), rest, x.degree)
        reached = _along(row, place, _reached(_range(op.target, setting), start + dilation * tap, stride), op.target)
        added = _laid_out(reached, node.axes).residues
        total = added if total is None else reduced(total + added)
    assert total is not None, "an axis has at least one element"
    return Value(total, node.axes, x.degree.repeated(_length(window, setting)))


def _reached(places: Tensor, offset: int, stride: int) -> Tensor:
    """The row that reaches each place from an offset by whole strides, -1 for none."""
    rows = places - offset
    return torch.where(rows % stride == 0, rows // stride, -1)


def _pad(node: Node, operands: list[Value], setting: Setting) -> Value:
    op = node.op
    assert isinstance(op, selection.Pad)
    [x] = operands
    places = _range(op.target, setting) - int(setting.size(op.before))
    found = _along(x, op.source, places, op.target)
    if not op.value:
        return found
    inside = (places >= 0) & (places < _length(op.source, setting))
    border = torch.where(inside, 0, 1).reshape(-1, *([1] * (len(node.axes) - node.axes.index(op.target) - 1)))
    added = number(setting.size(op.value)).over(node.axes) * border
    return Value(reduced(found.residues + added), node.axes, x.degree)


def _border(read: Callable[[Tensor, int], Tensor]) -> Rule:
    """An axis that goes on behind its ends; read: which element each place has, of how many."""

    def rule(node: Node, operands: list[Value], setting: Setting) -> Value:
        op = node.op
        assert isinstance(op, padding._Padding)
        places = _range(op.target, setting) - int(setting.size(op.before))
        return _along(operands[0], op.source, read(places, _length(op.source, setting)), op.target)

    return rule


def _reflected(places: Tensor, size: int) -> Tensor:
    return size - 1 - (places % max(2 * (size - 1), 1) - (size - 1)).abs()


# -- pooling --------------------------------------------------------------------------------------------


def _means(x: Value, axis: str, inside: Tensor, counts: Tensor, node: Node, target: str) -> Value:
    """Sums over the elements that are inside [P, N], each divided by its count [P]; 0 of none."""
    at = x.axes.index(axis)
    last = x.residues.movedim(at + 2, -1)
    sums = reduced((last[..., None, :] * inside.to(last.dtype)).sum(-1))
    shares = torch.stack([field.number(Fraction(1, max(int(count), 1))) for count in counts], -1)
    scaled = times(sums, shares.reshape(2, field.TRIALS, *([1] * (sums.ndim - 3)), -1))
    most = max(int(inside.sum(-1).max()), 1)
    return Value(scaled.movedim(-1, at + 2), node.axes, x.degree.repeated(most))


def _average_pool(node: Node, operands: list[Value], setting: Setting) -> Value:
    op = node.op
    assert isinstance(op, pooling.AveragePool)
    width, start = int(setting.size(op.window)), int(setting.size(op.start))
    stride = width if op.stride is None else int(setting.size(op.stride))
    lag = _range(op.source, setting) - stride * _range(op.target, setting)[:, None] - start
    inside = (lag >= 0) & (lag < width)
    counts = inside.sum(-1) if not op.outside else torch.full((len(lag),), width)
    return _means(operands[0], op.source, inside, counts, node, op.target)


def _adaptive_pool(node: Node, operands: list[Value], setting: Setting) -> Value:
    op = node.op
    assert isinstance(op, pooling.AdaptivePool)
    size, bins = _length(op.source, setting), _length(op.target, setting)
    places, elements = torch.arange(bins)[:, None], torch.arange(size)
    inside = (elements >= places * size // bins) & (elements < -(-(places + 1) * size // bins))
    return _means(operands[0], op.source, inside, inside.sum(-1), node, op.target)


# -- convolutions ---------------------------------------------------------------------------------------


def _convolution(node: Node, operands: list[Value], setting: Setting) -> Value:
    """One product for each tap of the kernel."""
    op = node.op
    assert isinstance(op, convolution._Convolution)
    x, kernel = operands
    stride, dilation = int(setting.size(op.stride)), int(setting.size(op.dilation))
    starts = [int(setting.size(start)) for start in op.starts()]
    taps = [_length(tap, setting) for tap in op.taps]
    whole = (*node.axes, *op.summed)
    total: Tensor | None = None
    for place in itertools.product(*(range(count) for count in taps)):
        read, weight = x, kernel
        for index, tap in enumerate(place):
            target, offset = op.targets[index], starts[index] + dilation * tap
            there = _range(target, setting)
            spread = isinstance(op, convolution.TransposedConvolution)
            places = _reached(there, offset, stride) if spread else stride * there + offset
            read = _along(read, op.sources[index], places, target)
            at = weight.axes.index(op.taps[index])
            rest = tuple(axis for axis in weight.axes if axis != op.taps[index])
            weight = Value(weight.residues.select(at + 2, tap), rest, weight.degree)
        product = times(read.over(whole), weight.over(whole))
        if op.summed:
            product = product.sum(tuple(range(-len(op.summed), 0)))
        total = reduced(product) if total is None else reduced(total + product)
    assert total is not None, "a kernel has at least one tap"
    count = torch.Size([*taps, *setting.shape(op.summed)]).numel()
    degree: Degree = product_of((x, kernel)).repeated(count)
    return Value(total.expand(2, field.TRIALS, *setting.shape(node.axes)), node.axes, degree)


MAPS: Mapping[type[Op], Rule] = {
    selection.Windows: _windows,
    selection.Fold: _fold,
    selection.Pad: _pad,
    padding.CircularPadding: _border(lambda places, size: places % size),
    padding.ReflectedPadding: _border(_reflected),
    padding.ReplicatedPadding: _border(lambda places, size: places.clamp(0, size - 1)),
    pooling.AveragePool: _average_pool,
    pooling.AdaptivePool: _adaptive_pool,
    convolution.Convolution: _convolution,
    convolution.TransposedConvolution: _convolution,
}
