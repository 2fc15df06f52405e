"""Order along one axis: sorting and the largest elements."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..sizes import Poly
from ..types import Kind, Type
from .base import Brackets, Emitter, Op, Operand, attribute
from .checks import need_axes, need_new_axes, need_numbers, need_ordered, need_whole
from .emission import dimension


def logarithm(axis: str) -> Poly:
    """The logarithm of a size to base 2, for costs."""
    return Poly.function("log", Poly.symbol(axis)) / Poly.function("log", Poly.constant(2))


@dataclass(frozen=True)
class _Ordering(Op):
    """An operation on the order of the elements along one axis."""

    family: ClassVar[str] = "ordering"
    brackets: ClassVar[Brackets] = Brackets.AXIS
    axis: str

    def infer(self, *operands: Type) -> Type:
        [x] = operands
        need_axes(self.spelling, (self.axis,), x)
        need_numbers(self.spelling, operands)
        need_ordered(self.spelling, operands)
        return x

    def flops(self, result: Type, *operands: Type) -> Poly:
        return operands[0].volume() * logarithm(self.axis)


@dataclass(frozen=True)
class Sort(_Ordering):
    """sort[N](x): the values along an axis in ascending order.

    Formula: `out[0] <= out[1] <= ... <= out[N - 1]`, the same values as x. `-sort[N](-x)` is descending.

    The gradient follows each value to its place. Counts log2(N) comparisons per element.
    """

    spelling: ClassVar[str] = "sort"

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        [x] = operands
        both = pyast.call("torch.sort", x.expression, dim=dimension(x.type.axes, self.axis))
        return ast.Subscript(both, ast.Constant(0), ast.Load())


@dataclass(frozen=True)
class ArgSort(_Ordering):
    """argsort[N](x): the positions that put an axis in ascending order.

    Formula: `x[out[0]] <= x[out[1]] <= ...`: an int, and `take[N](x, argsort[N](x))` is `sort[N](x)`. Equal values
    come in any order. Counts log2(N) comparisons per element.
    """

    spelling: ClassVar[str] = "argsort"
    differentiable: ClassVar[bool] = False

    def infer(self, *operands: Type) -> Type:
        return super().infer(*operands).of(Kind.INT)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        [x] = operands
        return pyast.call("torch.argsort", x.expression, dim=dimension(x.type.axes, self.axis))


@dataclass(frozen=True)
class Top(_Ordering):
    """top[M](x, count=K): where the largest elements along an axis stand, as a mask.

    Formula: `out[m] = x[m] is among the K largest of x[0], ..., x[M - 1]`: exactly K are true.

    Of equal values any are taken. count is a whole number from 1 to M: a number, a constant or a size.
    `softmax[M](s, mask=top[M](s, count=8))` attends to the best keys. Counts one comparison per element.
    """

    spelling: ClassVar[str] = "top"
    differentiable: ClassVar[bool] = False
    count: Poly = attribute(doc="how many elements are taken")

    def infer(self, *operands: Type) -> Type:
        need_whole("top", "count", self.count, least=1)
        return super().infer(*operands).of(Kind.BOOL)

    def size_bounds(self, *operands: Type) -> Sequence[tuple[Poly, Poly]]:
        return ((Poly.symbol(self.axis), self.count),)

    def flops(self, result: Type, *operands: Type) -> Poly:
        return operands[0].volume()

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        [x] = operands
        dim = dimension(x.type.axes, self.axis)
        none = pyast.call("torch.zeros_like", x.expression, dtype=emitter.dtype(Kind.BOOL, wide=False))
        best = pyast.call("torch.topk", x.expression, emitter.size(self.count), dim=dim)
        return pyast.method(none, "scatter", dim, ast.Subscript(best, ast.Constant(1), ast.Load()), 1)


@dataclass(frozen=True)
class TopPositions(Op):
    """top_positions[M -> K](x): the positions of the K largest elements along an axis, best first.

    Formula: `x[out[0]] >= x[out[1]] >= ... >= x[out[K - 1]] >= all others`: an int; `take` reads values there.

    Of equal values any are taken. The size of K follows from a `where` line and is at most M. Counts one
    comparison per element.
    """

    spelling: ClassVar[str] = "top_positions"
    family: ClassVar[str] = "ordering"
    brackets: ClassVar[Brackets] = Brackets.RENAME
    differentiable: ClassVar[bool] = False
    source: str
    target: str

    def infer(self, *operands: Type) -> Type:
        [x] = operands
        need_axes(self.spelling, (self.source,), x)
        need_numbers(self.spelling, operands)
        need_ordered(self.spelling, operands)
        need_new_axes(self.spelling, (self.target,), (a for a in x.axes if a != self.source), x)
        axes = tuple(self.target if axis == self.source else axis for axis in x.axes)
        return x.with_axes(axes).of(Kind.INT)

    def new_axes(self) -> tuple[str, ...]:
        return (self.target,)

    def size_bounds(self, *operands: Type) -> Sequence[tuple[Poly, Poly]]:
        return ((Poly.symbol(self.source), Poly.symbol(self.target)),)

    def flops(self, result: Type, *operands: Type) -> Poly:
        return operands[0].volume()

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        [x] = operands
        count = emitter.size(Poly.symbol(self.target))
        best = pyast.call("torch.topk", x.expression, count, dim=dimension(x.type.axes, self.source))
        return ast.Subscript(best, ast.Constant(1), ast.Load())
