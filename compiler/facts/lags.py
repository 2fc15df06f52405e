"""How far two positions may lie apart where a mask lets them meet: bounds of pos(m) - pos(n)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from ..graph import Node
from ..ops.arithmetic import Add, Divide, FloorDivide, Modulo, Multiply, Negative, Subtract
from ..ops.functions import Abs
from ..ops.leaves import Literal, Position, Size
from ..ops.logic import And, Equal, Greater, GreaterEqual, Less, LessEqual, Or

INF = math.inf
MAX_DEPTH = 30
Constants = Mapping[str, int | float]


@dataclass(frozen=True)
class Lag:
    """low <= pos(source) - pos(own) <= high; infinite where there is no bound. Empty where low > high."""

    low: float = -INF
    high: float = INF

    def plus(self, other: Lag) -> Lag:
        return Lag(self.low + other.low, self.high + other.high)

    def meet(self, other: Lag) -> Lag:
        return Lag(max(self.low, other.low), min(self.high, other.high))

    def join(self, other: Lag) -> Lag:
        return Lag(min(self.low, other.low), max(self.high, other.high))


SAME = Lag(0, 0)
EARLIER = Lag(-INF, 0)
EVERY = Lag()


@dataclass(frozen=True)
class _Linear:
    """A sum of positions with rational factors, and something between low and high."""

    factors: Mapping[str, Fraction]
    low: float
    high: float

    def scaled(self, by: Fraction) -> _Linear:
        ends = sorted((self.low * float(by), self.high * float(by)))
        return _Linear({axis: factor * by for axis, factor in self.factors.items()}, ends[0], ends[1])

    def plus(self, other: _Linear) -> _Linear:
        axes = self.factors.keys() | other.factors.keys()
        total = {axis: self.factors.get(axis, Fraction(0)) + other.factors.get(axis, Fraction(0)) for axis in axes}
        factors = {axis: factor for axis, factor in total.items() if factor}
        return _Linear(factors, self.low + other.low, self.high + other.high)


def lags(condition: Node, n: str, m: str, constants: Constants, depth: int = 0) -> Lag:
    """Bounds of pos(m) - pos(n) where a condition holds; constants have their defaults."""
    if depth > MAX_DEPTH:
        return EVERY
    match condition.op:
        case And():
            first, second = (lags(operand, n, m, constants, depth + 1) for operand in condition.inputs)
            return first.meet(second)
        case Or():
            first, second = (lags(operand, n, m, constants, depth + 1) for operand in condition.inputs)
            return first.join(second)
        case Less() | LessEqual() | Greater() | GreaterEqual() | Equal():
            return _compared(condition, n, m, constants)
    return EVERY


def _compared(condition: Node, n: str, m: str, constants: Constants) -> Lag:
    left, right = condition.inputs
    if isinstance(condition.op, Greater | GreaterEqual):
        left, right = right, left
    strict = isinstance(condition.op, Greater | Less)
    sides = [(left, 1)]
    if isinstance(left.op, Abs) and not isinstance(condition.op, Equal):  # |x| <= y: x <= y and -x <= y
        sides = [(left.inputs[0], 1), (left.inputs[0], -1)]
    found = EVERY
    for side, sign in sides:
        small, large = linear(side, constants), linear(right, constants)
        if small is None or large is None:
            return EVERY
        difference = large.plus(small.scaled(Fraction(-sign)))  # >= 0
        found = found.meet(_bounded(difference, n, m, strict))
        if isinstance(condition.op, Equal):
            found = found.meet(_bounded(difference.scaled(Fraction(-1)), n, m, strict=False))
    return found


def _bounded(difference: _Linear, n: str, m: str, strict: bool) -> Lag:
    """What `difference >= 0`, or > 0, says of pos(m) - pos(n)."""
    factor = difference.factors.get(m, Fraction(0))
    if not factor or difference.factors.keys() != {n, m} or difference.factors[n] != -factor:
        return EVERY
    limit = -difference.high / float(factor)
    if not math.isfinite(limit):
        return EVERY
    whole = round(limit)
    near = whole if abs(limit - whole) < 1e-9 else None
    if factor > 0:
        least = near if near is not None else math.ceil(limit)
        return Lag(low=least + 1 if strict and near is not None else least)
    most = near if near is not None else math.floor(limit)
    return Lag(high=most - 1 if strict and near is not None else most)


def _number(value: float) -> _Linear:
    return _Linear({}, value, value)


def linear(node: Node, constants: Constants, depth: int = 0) -> _Linear | None:
    """The node as a sum of positions, up to what rounding down and remainders leave open."""
    if depth > MAX_DEPTH or node.type.batched:
        return None
    below = [linear(operand, constants, depth + 1) for operand in node.inputs]
    match node.op:
        case Position(axis):
            return _Linear({axis: Fraction(1)}, 0.0, 0.0)
        case Size(size) if size.symbols() <= constants.keys():
            return _number(float(size.evaluate(constants)))
        case Literal(number) if math.isfinite(number):
            return _number(float(number))
    parts = [part for part in below if part is not None]
    if not parts or len(parts) < len(below):
        return None
    match node.op:
        case Add():
            return parts[0].plus(parts[1])
        case Subtract():
            return parts[0].plus(parts[1].scaled(Fraction(-1)))
        case Negative():
            return parts[0].scaled(Fraction(-1))
        case Multiply():
            for value, scale in (parts, parts[::-1]):
                if not scale.factors and scale.low == scale.high:
                    return value.scaled(Fraction(scale.low))
        case Divide() | FloorDivide() | Modulo():
            value, by = parts
            if by.factors or by.low != by.high or by.low <= 0:
                return None
            if isinstance(node.op, Modulo):
                return _Linear({}, 0.0, by.low)
            quotient = value.scaled(1 / Fraction(by.low))
            if isinstance(node.op, Divide):
                return quotient
            whole = node.type.kind.value == "int" and float(by.low).is_integer()
            slack = (by.low - 1) / by.low if whole else 1.0
            return _Linear(quotient.factors, quotient.low - slack, quotient.high)
    return None
