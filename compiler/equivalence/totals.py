"""Sums, statistics and normalisations over axes, in modular arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from ..graph import Node
from ..ops import contraction, cumulative, normalisations, ordering, reductions, segments
from ..ops.base import Op
from . import residues as field
from .elements import abs_of, exponential, extreme, logarithm, root_of
from .opaque import opaque
from .residues import inverse, reduced, times
from .values import Degree, Rule, Setting, Value, all_known, from_known, is_whole, number, real


def _total(value: Value, axes: Sequence[str]) -> Value:
    """The sum over axes."""
    rest = tuple(axis for axis in value.axes if axis not in axes)
    dims = tuple(value.axes.index(axis) + 2 for axis in axes)
    count = 1
    for dim in dims:
        count *= value.residues.shape[dim]
    known = None if value.known is None else value.known.sum(tuple(dim - 2 for dim in dims))
    return Value(reduced(value.residues.sum(dims)), rest, value.degree.repeated(count), known)


def _mean(value: Value, axes: Sequence[str]) -> Value:
    count = 1
    for axis in axes:
        count *= value.residues.shape[value.axes.index(axis) + 2]
    total = _total(value, axes)
    scale = field.number(Fraction(1, count)).reshape(2, field.TRIALS, *([1] * len(total.axes)))
    known = None if total.known is None else real(total.known) / count
    return Value(times(total.residues, scale), total.axes, total.degree, known)


def _product(left: Value, right: Value, axes: tuple[str, ...]) -> Value:
    residues = times(left.over(axes), right.over(axes))
    known = left.known_over(axes) * right.known_over(axes) if all_known((left, right)) else None
    return Value(residues, axes, left.degree * right.degree, known)


def _over(left: Value, right: Value) -> Value:
    """A quotient that has the axes of the left side."""
    residues = times(left.residues, inverse(right.over(left.axes)))
    return Value(residues, left.axes, left.degree * right.degree.inverse())


def _minus(left: Value, right: Value) -> Value:
    residues = reduced(left.residues - right.over(left.axes))
    return Value(residues, left.axes, left.degree + right.degree)


def _square(value: Value) -> Value:
    return Value(times(value.residues, value.residues), value.axes, value.degree * value.degree)


def _rooted(value: Value, setting: Setting) -> Value:
    setting.unknowns.add("sqrt")
    return Value(root_of(value.residues), value.axes, value.degree.unknown())


def _plus(value: Value, amount: float) -> Value:
    added = number(amount).residues.reshape(2, field.TRIALS, *([1] * len(value.axes)))
    return Value(reduced(value.residues + added), value.axes, value.degree)


def _contraction(node: Node, operands: list[Value], setting: Setting) -> Value:
    assert isinstance(node.op, contraction.Contraction)
    whole = _product(operands[0], operands[1], (*node.axes, *node.op.axes))
    return _total(whole, node.op.axes) if node.op.axes else whole


def _variance(value: Value, axes: Sequence[str], ddof: int = 0) -> Value:
    total = _total(_square(_minus(value, _mean(value, axes))), axes)
    count = -ddof + torch.Size([value.residues.shape[value.axes.index(a) + 2] for a in axes]).numel()
    scale = field.number(Fraction(1, count) if count else Fraction(0))
    return Value(
        times(total.residues, scale.reshape(2, field.TRIALS, *([1] * len(total.axes)))), total.axes, total.degree
    )


def _reduction(node: Node, operands: list[Value], setting: Setting) -> Value:
    [x] = operands
    op = node.op
    assert isinstance(op, reductions.Reduction)
    match op:
        case reductions.Sum():
            return _total(x, op.axes)
        case reductions.Mean():
            return _mean(x, op.axes)
        case reductions.StandardDeviation():
            return _rooted(_variance(x, op.axes, int(setting.size(op.ddof))), setting)
        case reductions.Variance():
            return _variance(x, op.axes, int(setting.size(op.ddof)))
        case reductions.Norm():
            return _rooted(_total(_square(x), op.axes), setting)
        case reductions.LogSumExp():
            setting.unknowns.add("log")
            return logarithm(_total(exponential(x), op.axes))
        case reductions.Product() | reductions.All():
            return Value(_factors(x.residues, x, op.axes), node.axes, _power_of(x, op.axes))
        case reductions.Any():
            none = _factors(reduced(1 - x.residues), x, op.axes)
            return Value(reduced(1 - none), node.axes, _power_of(x, op.axes))
        case reductions.Max() | reductions.Min() if x.known is not None:
            dims = tuple(x.axes.index(axis) for axis in op.axes)
            known = x.known.amax(dims) if isinstance(op, reductions.Max) else x.known.amin(dims)
            if is_whole(known):
                return from_known(node, known)
    setting.unknowns.add("max" if isinstance(op, reductions.Min) else op.spelling)
    sign, word = (-1, "max") if isinstance(op, reductions.Min) else (1, op.spelling)
    sides = field.unknown(f"{word} side", [reduced(sign * x.residues)[0]])[:1]
    total = Value(sides.expand(2, *sides.shape[1:]), x.axes, x.degree.unknown())
    found = field.unknown(word, [_total(total, op.axes).residues[0]])
    result = Value(reduced(sign * found), node.axes, x.degree.unknown())
    if not isinstance(op, reductions.Max) or x.power is None:
        return result
    # e to the largest is 0 where e to all of them is
    some = (x.power.over(x.axes) != 0).any(tuple(x.axes.index(axis) + 2 for axis in op.axes))
    power = exponential(result)
    return replace(result, power=replace(power, residues=power.residues * some))


def _power_of(x: Value, axes: Sequence[str]) -> Degree:
    """The degree of a product along axes."""
    count = torch.Size([x.residues.shape[x.axes.index(axis) + 2] for axis in axes]).numel()
    return Degree(x.degree.above * count, x.degree.below * count)


def _factors(residues: Tensor, like: Value, axes: Sequence[str]) -> Tensor:
    """The product along axes."""
    dims = sorted((like.axes.index(axis) + 2 for axis in axes), reverse=True)
    for dim in dims:
        result = residues.select(dim, 0)
        for place in range(1, residues.shape[dim]):
            result = times(result, residues.select(dim, place))
        residues = result
    return residues


def _normalisation(node: Node, operands: list[Value], setting: Setting) -> Value:
    op = node.op
    assert isinstance(op, normalisations.Normalisation)
    x, axes = operands[0], op.axes
    match op:
        case normalisations.Softmax():
            result = exponential(x)
            given = dict(zip(op.given, operands[1:], strict=True))
            if "mask" in given:
                result = _product(result, given["mask"], node.axes)
            if "sink" not in given:
                return _over(result, _total(result, axes))
            result, beside = Value(result.over(node.axes), node.axes, result.degree), exponential(given["sink"])
            total = _total(result, axes)
            both = reduced(total.residues + beside.over(total.axes))
            return _over(result, Value(both, total.axes, total.degree + beside.degree))
        case normalisations.LogSoftmax():
            setting.unknowns.add("log")
            total = _total(exponential(x), axes)
            return replace(_minus(x, logarithm(total)), power=_over(exponential(x), total))
        case normalisations.L1Normalize():
            setting.unknowns.add("abs")
            total = _total(Value(abs_of(x.residues), x.axes, x.degree.unknown()), axes)
            return _over(x, extreme(total.axes, "max", total, number(setting.size(op.eps)), setting))
        case normalisations.L2Normalize():
            length = _rooted(_total(_square(x), axes), setting)
            return _over(x, extreme(length.axes, "max", length, number(setting.size(op.eps)), setting))
        case normalisations.LayerNorm():
            spread = _rooted(_plus(_variance(x, axes), setting.size(op.eps)), setting)
            result = _over(_minus(x, _mean(x, axes)), spread)
        case normalisations.RmsNorm():
            result = _over(x, _rooted(_plus(_mean(_square(x), axes), setting.size(op.eps)), setting))
        case _:
            return opaque(node, operands, setting)
    so_far = result.axes
    for name, operand in zip(op.given, operands[1:], strict=True):
        so_far = node.axes if set(so_far) != {*so_far, *operand.axes} else so_far
        left, right = result.over(so_far), operand.over(so_far)
        residues = times(left, right) if name == "gain" else reduced(left + right)
        degree = result.degree * operand.degree if name == "gain" else result.degree + operand.degree
        result = Value(residues, so_far, degree)
    return Value(result.over(node.axes), node.axes, result.degree)


def _running(node: Node, operands: list[Value], setting: Setting) -> Value:
    [x] = operands
    assert isinstance(node.op, cumulative.Cumulative)
    dim = node.axes.index(node.op.axis)
    known = None if x.known is None else x.known.cumsum(dim)
    degree = x.degree.repeated(x.residues.shape[dim + 2])
    return Value(reduced(x.residues.cumsum(dim + 2)), node.axes, degree, known)


def _running_product(node: Node, operands: list[Value], setting: Setting) -> Value:
    [x] = operands
    assert isinstance(node.op, cumulative.CumulativeProduct)
    dim = node.axes.index(node.op.axis)
    parts = [x.residues.select(dim + 2, 0)]
    for place in range(1, x.residues.shape[dim + 2]):
        parts.append(times(parts[-1], x.residues.select(dim + 2, place)))
    known = None if x.known is None else x.known.cumprod(dim)
    return Value(torch.stack(parts, dim + 2), node.axes, _power_of(x, (node.op.axis,)), known)


def _same_group(group: Value, axis: str, axes: tuple[str, ...]) -> Tensor:
    """Which elements along an axis, as the last dimension, are of the group of each element [*axes, axis]."""
    own = group.known_over(axes)
    other = own.movedim(axes.index(axis), -1).unsqueeze(axes.index(axis))
    return own[..., None] == other


def _over_groups(x: Tensor, same: Tensor, dim: int) -> Tensor:
    """The sum of every group, at each of its elements."""
    others = x.movedim(dim, -1).unsqueeze(dim)
    return reduced((others * same.to(x.dtype)).sum(-1))


def _segments(node: Node, operands: list[Value], setting: Setting) -> Value:
    """Groups that are known; others are what an unknown function says."""
    op = node.op
    x, group = operands[:2]
    if group.known is None:
        return opaque(node, operands, setting)
    assert isinstance(op, segments.SegmentSoftmax | segments.SegmentSum | segments.SegmentMax)
    dim = node.axes.index(op.axis)
    same = _same_group(group, op.axis, node.axes)
    values = x.over(node.axes).expand(2, field.TRIALS, *setting.shape(node.axes))
    if isinstance(op, segments.SegmentSum):
        return Value(_over_groups(values, same, dim + 2), node.axes, x.degree.repeated(same.shape[-1]))
    if isinstance(op, segments.SegmentMax):
        setting.unknowns.add("max")
        sides = field.unknown("max side", [values[0]])[:1].expand_as(values)
        found = field.unknown("max", [_over_groups(sides, same, dim + 2)[0]])
        return Value(found, node.axes, x.degree.unknown())
    weights = exponential(x)
    weights = Value(weights.over(node.axes).expand(values.shape), node.axes, weights.degree)
    for mask in operands[2:]:
        weights = _product(weights, mask, node.axes)
    total = Value(_over_groups(weights.residues, same, dim + 2), node.axes, weights.degree.repeated(same.shape[-1]))
    return _over(weights, total)


def _top(node: Node, operands: list[Value], setting: Setting) -> Value:
    """Of as many elements as there are, all are taken."""
    op = node.op
    assert isinstance(op, ordering.Top)
    if setting.size(op.count) < setting.shape((op.axis,))[0]:
        return opaque(node, operands, setting)
    return from_known(node, torch.ones(setting.shape(node.axes), dtype=torch.bool))


TOTALS: Mapping[type[Op], Rule] = {
    contraction.Contraction: _contraction,
    cumulative.CumulativeSum: _running,
    cumulative.CumulativeProduct: _running_product,
    ordering.Top: _top,
    segments.SegmentSoftmax: _segments,
    segments.SegmentSum: _segments,
    segments.SegmentMax: _segments,
    **dict.fromkeys(
        (
            reductions.Sum, reductions.Mean, reductions.Variance, reductions.StandardDeviation, reductions.Norm,
            reductions.LogSumExp, reductions.Product, reductions.All, reductions.Any, reductions.Max, reductions.Min,
        ),
        _reduction,
    ),
    **dict.fromkeys(
        (
            normalisations.Softmax, normalisations.LogSoftmax, normalisations.L1Normalize, normalisations.L2Normalize,
            normalisations.LayerNorm, normalisations.RmsNorm,
        ),
        _normalisation,
    ),
}  # fmt: skip
