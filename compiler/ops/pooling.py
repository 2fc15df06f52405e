"""Pooling along one axis, and resizing: means and maxima over windows and bins, linear interpolation."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import ClassVar

from .. import pyast
from ..sizes import ZERO, Poly
from ..types import Kind, Type
from .base import Brackets, Emitter, Op, Operand, attribute
from .checks import need_axes, need_new_axes, need_numbers, need_ordered, need_whole
from .emission import move


@dataclass(frozen=True)
class _Pooling(Op):
    """A reduction over parts of an axis, one for each place of a new axis."""

    family: ClassVar[str] = "pooling"
    brackets: ClassVar[Brackets] = Brackets.RENAME
    source: str
    target: str

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes along which elements meet; along all others they stay apart."""
        return (self.source, self.target)

    def infer(self, *operands: Type) -> Type:
        [x] = operands
        need_axes(self.spelling, (self.source,), x)
        need_numbers(self.spelling, operands)
        need_ordered(self.spelling, operands)
        need_new_axes(self.spelling, (self.target,), (a for a in x.axes if a != self.source), x)
        axes = tuple(self.target if axis == self.source else axis for axis in x.axes)
        return x.with_axes(axes).of(Kind.REAL)

    def new_axes(self) -> tuple[str, ...]:
        return (self.target,) if self.target != self.source else ()

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return Kind.REAL

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        [x] = operands
        rest = tuple(axis for axis in x.type.axes if axis != self.source)
        last = move(x.expression, x.type.axes, (*rest, self.source))
        return move(self.along(emitter, last), (*rest, self.target), result.axes)

    def along(self, emitter: Emitter, expression: ast.expr) -> ast.expr:
        """The parts of the last dimension, each reduced."""
        raise NotImplementedError


@dataclass(frozen=True)
class _WindowPooling(_Pooling):
    """A reduction over windows of one size at equal distances."""

    window: Poly = attribute(doc="how many elements a window has")
    stride: Poly | None = field(
        default=None, metadata={"doc": "the distance between windows; `window` if missing", "attribute": True}
    )
    start: Poly = attribute(0, doc="where the first window starts")

    def infer(self, *operands: Type) -> Type:
        need_whole(self.spelling, "window", self.window, least=1)
        if self.stride is not None:
            need_whole(self.spelling, "stride", self.stride, least=1)
        need_whole(self.spelling, "start", self.start)
        return super().infer(*operands)

    def flops(self, result: Type, *operands: Type) -> Poly:
        return result.volume() * self.window

    def layout(self, emitter: Emitter) -> tuple[ast.expr, ...]:
        """The numbers that say where the windows lie: size, stride, start, how many."""
        stride = self.window if self.stride is None else self.stride
        return tuple(emitter.size(size) for size in (self.window, stride, self.start, Poly.symbol(self.target)))


@dataclass(frozen=True)
class AveragePool(_WindowPooling):
    """avg_pool[N -> P](x, window=W): the mean over a window at each of P places.

    Formula: `out[p] = mean of x[n] over 0 <= n < N with 0 <= n - stride * p - start < window`.

    stride is the window if it is not given, so that windows lie side by side. What lies outside the axis
    does not count: a window over the border is a mean of what it has there, and 0 if it has nothing. With outside=1
    the divisor is always the window, as if the axis went on with zeros. The size of P follows from a `where` line:
    P = ceil(N / stride) keeps a last window that is not full. The same size is `avg_pool[N -> N](x, window=3,
    stride=1, start=-1)`. Two axes are two calls. Counts one operation per element of every window.
    """

    spelling: ClassVar[str] = "avg_pool"
    outside: Poly = attribute(0, doc="1: the divisor counts what lies outside the axis too")

    def infer(self, *operands: Type) -> Type:
        need_whole(self.spelling, "outside", self.outside, least=0)
        return super().infer(*operands)

    def along(self, emitter: Emitter, expression: ast.expr) -> ast.expr:
        whole = pyast.constant(self.outside != ZERO)
        return pyast.call(emitter.helper("average_pool"), expression, *self.layout(emitter), whole)


@dataclass(frozen=True)
class MaxPool(_WindowPooling):
    """max_pool[N -> P](x, window=W): the largest value of a window at each of P places.

    Formula: `out[p] = max of x[n] over 0 <= n < N with 0 <= n - stride * p - start < window`.

    stride is the window if it is not given. A window with nothing inside the axis gives -inf. The size of P
    follows from a `where` line. Two axes are two calls. Of equal values each gets its share of the gradient.
    Counts one comparison per element of every window.
    """

    spelling: ClassVar[str] = "max_pool"

    def along(self, emitter: Emitter, expression: ast.expr) -> ast.expr:
        return pyast.call(emitter.helper("max_pool"), expression, *self.layout(emitter))


@dataclass(frozen=True)
class AdaptivePool(_Pooling):
    """adaptive_pool[N -> P](x): the mean over each of P bins that cover an axis evenly.

    Formula: `out[p] = mean of x[n] over floor(p * N / P) <= n < ceil((p + 1) * N / P)`.

    Bins overlap by one element where P does not divide N, and repeat elements where P > N. The size of P
    follows from a `where` line or a parameter. Two axes are two calls. Counts one addition per element of x and
    one division per bin.
    """

    spelling: ClassVar[str] = "adaptive_pool"
    kernel: ClassVar[str] = "adaptive_pool"

    def flops(self, result: Type, *operands: Type) -> Poly:
        return operands[0].volume() + result.volume()

    def along(self, emitter: Emitter, expression: ast.expr) -> ast.expr:
        return pyast.call(emitter.helper(self.kernel), expression, emitter.size(Poly.symbol(self.target)))


@dataclass(frozen=True)
class Resize(_Pooling):
    """resize[N -> P](x): an axis resized by linear interpolation between neighbours.

    Formula: `out[p] = (1 - w) * x[n] + w * x[n + 1]` at the place `n + w = (p + 1/2) * N / P - 1/2`, with 0 <= w < 1.

    Places before the first element and behind the last one take that element. With aligned=1 the ends of both axes
    meet: `n + w = p * (N - 1) / (P - 1)`. Two calls, one for each axis of an image, interpolate bilinearly. The size
    of P follows from a `where` line or an input. Counts 3 operations per element of the result.
    """

    spelling: ClassVar[str] = "resize"
    flops_per_element: ClassVar[int] = 3
    aligned: Poly = attribute(0, doc="1: the first and the last elements of both axes meet")

    def infer(self, *operands: Type) -> Type:
        need_whole(self.spelling, "aligned", self.aligned, least=0)
        return super().infer(*operands)

    def along(self, emitter: Emitter, expression: ast.expr) -> ast.expr:
        aligned = pyast.constant(self.aligned != ZERO)
        return pyast.call(emitter.helper("resize"), expression, emitter.size(Poly.symbol(self.target)), aligned)
