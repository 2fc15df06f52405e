"""Functions of two or more values, element by element."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..sizes import Poly
from ..types import Kind, Type, join, promote
from .base import Emitter, Op, Operand, Reject
from .checks import need_numbers, need_ordered
from .emission import all_wide, as_tensor, place


def _extreme(emitter: Emitter, word: str, axes: tuple[str, ...], left: Operand, right: Operand) -> ast.expr:
    """`minimum` or `maximum` of two operands, at most one of them a number."""
    if left.number:
        left, right = right, left
    if right.number:
        bound = {"minimum": "max", "maximum": "min"}[word]
        return pyast.call("torch.clamp", place(emitter, left, axes), **{bound: right.expression})
    return pyast.call(f"torch.{word}", place(emitter, left, axes), place(emitter, right, axes))


@dataclass(frozen=True)
class _Pair(Op):
    """A function of two real values; the result has the axes of both."""

    family: ClassVar[str] = "functions"
    operands: ClassVar[tuple[str, ...]] = ("x", "y")
    elementwise: ClassVar[bool] = True
    keeps_int: ClassVar[bool] = False

    def infer(self, *operands: Type) -> Type:
        need_numbers(self.spelling, operands)
        need_ordered(self.spelling, operands)
        kind = promote(*(operand.kind for operand in operands))
        return join(*operands, kind=kind if self.keeps_int else Kind.REAL)

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return result.kind


@dataclass(frozen=True)
class Minimum(_Pair):
    """min(x, y): the smaller of two values.

    Formula: `out[i] = x[i] if x[i] <= y[i] else y[i]`, over the axes of both. NaN if one is NaN.

    Two ints give an int. `min[M](x)` is the smallest value along an axis. Where the two are equal,
    the gradient is shared equally (all of it goes to a tensor beside a number).
    """

    spelling: ClassVar[str] = "min"
    commutative: ClassVar[bool] = True
    keeps_int: ClassVar[bool] = True

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return _extreme(emitter, "minimum", result.axes, *operands)

    def emit_number(self, emitter: Emitter, *operands: ast.expr) -> ast.expr:
        return pyast.call("min", *operands)


@dataclass(frozen=True)
class Maximum(_Pair):
    """max(x, y): the larger of two values.

    Formula: `out[i] = x[i] if x[i] >= y[i] else y[i]`, over the axes of both. NaN if one is NaN.

    Two ints give an int. `max[M](x)` is the largest value along an axis. Gradients as for `min`.
    """

    spelling: ClassVar[str] = "max"
    commutative: ClassVar[bool] = True
    keeps_int: ClassVar[bool] = True

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return _extreme(emitter, "maximum", result.axes, *operands)

    def emit_number(self, emitter: Emitter, *operands: ast.expr) -> ast.expr:
        return pyast.call("max", *operands)


@dataclass(frozen=True)
class Clamp(Op):
    """clamp(x, min=a, max=b): x held between bounds; one of them may be missing.

    Formula: `out = min(max(x, a), b)`: where a > b the result is b.

    Bounds are numbers or tensors, whose axes meet x's by name. Ints with int bounds stay ints.
    Counts one operation per bound. Outside the bounds the gradient to x is 0.
    """

    spelling: ClassVar[str] = "clamp"
    family: ClassVar[str] = "functions"
    operands: ClassVar[tuple[str, ...]] = ("x",)
    optional: ClassVar[tuple[str, ...]] = ("min", "max")
    elementwise: ClassVar[bool] = True
    given: tuple[str, ...] = ()

    def infer(self, *operands: Type) -> Type:
        if not self.given:
            raise Reject("AG215", operation="clamp")
        need_numbers("clamp", operands)
        need_ordered("clamp", operands)
        return join(*operands)

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return result.kind

    def flops(self, result: Type, *operands: Type) -> Poly:
        return super().flops(result, *operands) * len(self.given)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        x, *bounds = operands
        alike = all(bound.number for bound in bounds) or not any(bound.number for bound in bounds)
        if not x.number and alike:
            placed = {name: place(emitter, b, result.axes) for name, b in zip(self.given, bounds, strict=True)}
            return pyast.call("torch.clamp", place(emitter, x, result.axes), **placed)
        # torch clamps a tensor between two numbers or two tensors: one bound after the other
        for name, bound in zip(self.given, bounds, strict=True):
            word = {"min": "maximum", "max": "minimum"}[name]
            if x.number and bound.number:
                x = Operand(pyast.call(word[:3], x.expression, bound.expression), x.type, number=True)
            else:
                joined = join(x.type, bound.type)
                x = Operand(_extreme(emitter, word, joined.axes, x, bound), joined)
        return x.expression

    def emit_number(self, emitter: Emitter, *operands: ast.expr) -> ast.expr:
        value, *bounds = operands
        for name, bound in zip(self.given, bounds, strict=True):
            value = pyast.call({"min": "max", "max": "min"}[name], value, bound)
        return value


@dataclass(frozen=True)
class LogAddExp(_Pair):
    """logaddexp(x, y): the logarithm of a sum of exponentials, without overflow.

    Formula: `out[i] = ln(e ** x[i] + e ** y[i])`, over the axes of both. Two -inf give -inf.
    Counts 6 operations.
    """

    spelling: ClassVar[str] = "logaddexp"
    commutative: ClassVar[bool] = True
    flops_per_element: ClassVar[int] = 6

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        wide = all_wide(operands)
        sides = (as_tensor(emitter, operand, Kind.REAL, result.axes, wide=wide) for operand in operands)
        return pyast.call("torch.logaddexp", *sides)

    def emit_number(self, emitter: Emitter, *operands: ast.expr) -> ast.expr:
        x, y = operands
        return pyast.template("max(x, y) + math.log1p(math.exp(-abs(x - y)))", x=x, y=y)


@dataclass(frozen=True)
class Atan2(_Pair):
    """atan2(y, x): the angle of the point (x, y), in radians.

    Formula: `out = angle of x + i*y`, -pi < out <= pi. The first operand is the height, as in C.
    """

    spelling: ClassVar[str] = "atan2"
    operands: ClassVar[tuple[str, ...]] = ("y", "x")

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        wide = all_wide(operands)
        sides = (as_tensor(emitter, operand, Kind.REAL, result.axes, wide=wide) for operand in operands)
        return pyast.call("torch.atan2", *sides)

    def emit_number(self, emitter: Emitter, *operands: ast.expr) -> ast.expr:
        return pyast.call("math.atan2", *operands)
