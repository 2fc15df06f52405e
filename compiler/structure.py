"""What position arithmetic says: affine forms of positions, and orders that a condition implies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from .graph import Builder, Node
from .ops.arithmetic import Add, Divide, FloorDivide, Multiply, Negative, Subtract
from .ops.functions import Abs
from .ops.layout import Rename
from .ops.leaves import Literal, Position, Size
from .ops.logic import And, Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual
from .ops.selection import Take
from .sizes import ZERO, Facts, Poly, Truth


@dataclass(frozen=True)
class Affine:
    """A sum of positions with whole or rational coefficients, and a size."""

    positions: Mapping[str, int | Fraction]
    offset: Poly

    def minus(self, other: Affine) -> Affine:
        positions = dict(self.positions)
        for axis, coefficient in other.positions.items():
            positions[axis] = positions.get(axis, 0) - coefficient
        return Affine({a: c for a, c in positions.items() if c}, self.offset - other.offset)

    def scaled(self, factor: int | Fraction) -> Affine:
        return Affine({a: c * factor for a, c in self.positions.items() if factor}, self.offset * factor)


MAX_DEPTH = 60


def affine(node: Node, depth: int = 0) -> Affine | None:
    """The node as an affine function of positions, if it is one and is not nested absurdly deep."""
    if depth > MAX_DEPTH or node.type.batched:
        return None
    match node.op:
        case Position(axis):
            return Affine({axis: 1}, ZERO)
        case Size(size):
            return Affine({}, size)
        case Literal(value):
            return Affine({}, Poly.constant(Fraction(value))) if abs(value) < 2**53 else None
        case Add() | Subtract() | Multiply():
            left, right = (affine(operand, depth + 1) for operand in node.inputs)
            if left is None or right is None:
                return None
            if isinstance(node.op, Multiply):
                for one, other in ((left, right), (right, left)):
                    factor = one.offset.as_number() if not one.positions else None
                    if factor is not None:
                        return other.scaled(factor)
                return None
            return left.minus(right if isinstance(node.op, Subtract) else right.scaled(-1))
        case Negative():
            inner = affine(node.inputs[0], depth + 1)
            return None if inner is None else inner.scaled(-1)
    return None


def implies_not_after(condition: Node, later: str, earlier: str, facts: Facts) -> bool:
    """Whether the condition holds only where the position along `earlier` is <= that along `later`."""
    op = condition.op
    if isinstance(op, And):
        return any(implies_not_after(operand, later, earlier, facts) for operand in condition.inputs)
    if not isinstance(op, Greater | GreaterEqual | Less | LessEqual):
        return False
    left, right = (affine(operand) for operand in condition.inputs)
    if left is None or right is None:
        return False
    # difference >= 0 (or > 0) is what the condition says
    difference = left.minus(right) if isinstance(op, Greater | GreaterEqual) else right.minus(left)
    scale = difference.positions.get(later, 0)
    if scale <= 0 or difference.positions != {later: scale, earlier: -scale}:
        return False
    # scale * (n - m) + offset >= 0 (or > 0): n - m is whole, so it is >= 0 if offset < scale (or <=)
    number = difference.offset.as_number()
    if number is not None:
        return number < scale or (number == scale and isinstance(op, Greater | Less))
    return facts.at_least(-difference.offset, ZERO) is Truth.YES


def lag_at_least(condition: Node, later: str, earlier: str) -> int | None:
    """The whole number c with `condition <=> pos(later) - pos(earlier) >= c`, if there is one."""
    op = condition.op
    if not isinstance(op, Greater | GreaterEqual | Less | LessEqual):
        return None
    left, right = (affine(operand) for operand in condition.inputs)
    if left is None or right is None:
        return None
    difference = left.minus(right) if isinstance(op, Greater | GreaterEqual) else right.minus(left)
    scale = difference.positions.get(later, 0)
    offset = difference.offset.as_number()
    if scale <= 0 or offset is None or difference.positions != {later: scale, earlier: -scale}:
        return None
    least = Fraction(-offset) / scale
    strict = isinstance(op, Greater | Less)
    return math.floor(least) + 1 if strict else math.ceil(least)


@dataclass(frozen=True)
class Band:
    """least <= pos(n) - pos(m) <= most; None where there is no bound."""

    least: Poly | None = None
    most: Poly | None = None


def band(condition: Node, n: str, m: str, constants: Mapping[str, int | float]) -> Band | None:
    """The band that a condition is equivalent to, with whole bounds over constants."""
    op = condition.op
    if isinstance(op, And):
        parts = [band(operand, n, m, constants) for operand in condition.inputs]
        if any(part is None for part in parts):
            return None
        least = [part.least for part in parts if part is not None and part.least is not None]
        most = [part.most for part in parts if part is not None and part.most is not None]
        if len(least) > 1 or len(most) > 1:
            return None
        return Band(least[0] if least else None, most[0] if most else None)
    if not isinstance(op, Greater | GreaterEqual | Less | LessEqual):
        return None
    small, large = condition.inputs if isinstance(op, Less | LessEqual) else condition.inputs[::-1]
    strict = 1 if isinstance(op, Greater | Less) else 0
    if isinstance(small.op, Abs):
        lag, bound = affine(small.inputs[0]), affine(large)
        if lag is None or bound is None or bound.positions or lag.offset or not _is_lag(lag, n, m):
            return None
        limit = bound.offset - strict
        return Band(-limit, limit) if _is_whole(limit, constants) else None
    left, right = affine(small), affine(large)
    if left is None or right is None:
        return None
    difference = right.minus(left)  # >= 0, or > 0 where strict
    if not _is_lag(difference, n, m) or not _is_whole(difference.offset, constants):
        return None
    if difference.positions[n] == 1:
        return Band(least=Poly.constant(strict) - difference.offset)
    return Band(most=difference.offset - strict)


def _is_lag(form: Affine, n: str, m: str) -> bool:
    return form.positions in ({n: 1, m: -1}, {n: -1, m: 1})


def _is_whole(size: Poly, constants: Mapping[str, int | float]) -> bool:
    return size.is_integral() and all(isinstance(constants.get(name), int) for name in size.symbols())


def same_window(condition: Node, n: str, m: str, constants: Mapping[str, int | float]) -> Poly | None:
    """W with `condition <=> pos(n) // W == pos(m) // W`."""
    if not isinstance(condition.op, Equal):
        return None
    windows: dict[str, Poly] = {}
    for side in condition.inputs:
        if not isinstance(side.op, FloorDivide) or not isinstance(side.inputs[0].op, Position):
            return None
        width = affine(side.inputs[1])
        if width is None or width.positions:
            return None
        windows[side.inputs[0].op.axis] = width.offset
    if windows.keys() != {n, m} or windows[n] != windows[m]:
        return None
    if not _is_whole(windows[n], constants):
        return None
    width = windows[n].evaluate({name: constants[name] for name in windows[n].symbols()})
    return windows[n] if width >= 1 else None


def lag_coefficient(node: Node, later: str, earlier: str, builder: Builder) -> Node | None:
    """r with node = r * (pos(later) - pos(earlier)), where r has neither axis."""
    form = affine(node)
    if form is not None:
        scale = form.positions.get(later, 0)
        if scale and not form.offset and form.positions == {later: scale, earlier: -scale}:
            return builder.make(Literal(scale if isinstance(scale, int) else float(scale)))
        return None
    match node.op:
        case Negative():
            inner = lag_coefficient(node.inputs[0], later, earlier, builder)
            return None if inner is None else builder.make(Negative(), inner)
        case Multiply() | Divide():
            left, right = node.inputs
            pairs = [(left, right)] if isinstance(node.op, Divide) else [(left, right), (right, left)]
            for lag, factor in pairs:
                if later in factor.axes or earlier in factor.axes:
                    continue
                inner = lag_coefficient(lag, later, earlier, builder)
                if inner is not None:
                    return builder.make(type(node.op)(), inner, factor)
    return None


def gate_level(node: Node, later: str, earlier: str, builder: Builder) -> Node | None:
    """x with node = x[later] - x[later -> earlier]: a difference of one value at two positions."""
    match node.op:
        case Subtract():
            level, before = node.inputs
            renamed = before.op
            if isinstance(renamed, Rename) and (renamed.source, renamed.target) == (later, earlier):
                return level if before.inputs[0] is level else None
        case Negative():
            inner = gate_level(node.inputs[0], later, earlier, builder)
            return None if inner is None else builder.make(Negative(), inner)
        case Multiply() | Divide():
            left, right = node.inputs
            pairs = [(left, right)] if isinstance(node.op, Divide) else [(left, right), (right, left)]
            for difference, scale in pairs:
                if later in scale.axes or earlier in scale.axes:
                    continue
                inner = gate_level(difference, later, earlier, builder)
                if inner is not None:
                    return builder.make(type(node.op)(), inner, scale)
    return None


def _at_lag(form: Affine, n: str, m: str, lag: Node, builder: Builder) -> Node | None:
    """A multiple of pos(n) - pos(m) and a size, with `lag` for the difference."""
    scale = form.positions.get(n, 0)
    if form.positions != {n: scale, m: -scale} or not isinstance(scale, int):
        return None
    moved = lag if scale == 1 else builder.make(Multiply(), lag, builder.make(Literal(scale)))
    return moved if not form.offset else builder.make(Add(), moved, builder.make(Size(form.offset)))


def on_lag(node: Node, n: str, m: str, lag: Node, builder: Builder, depth: int = 0) -> Node | None:
    """A value that depends on pos(n) and pos(m) through their difference only, as a function of it.

    lag: what stands for pos(n) - pos(m) in the result, over an axis of its own.
    """
    if n not in node.axes and m not in node.axes:
        return node
    form = affine(node)
    if form is not None:
        return _at_lag(form, n, m, lag, builder)
    if isinstance(node.op, Greater | GreaterEqual | Less | LessEqual | Equal | NotEqual):
        left, right = (affine(operand) for operand in node.inputs)
        if left is not None and right is not None:
            difference = _at_lag(left.minus(right), n, m, lag, builder)
            return difference and builder.make(node.op, difference, builder.make(Literal(0)))
    if depth > MAX_DEPTH or not (node.op.elementwise or isinstance(node.op, Take)):
        return None
    operands = [on_lag(operand, n, m, lag, builder, depth + 1) for operand in node.inputs]
    if any(operand is None for operand in operands):
        return None
    return builder.make(node.op, *(operand for operand in operands if operand is not None))
