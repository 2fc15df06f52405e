"""Borders other than a constant: an axis that goes around, is reflected, or holds its ends."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..sizes import Poly
from ..types import Type
from .base import Brackets, Emitter, Operand, attribute
from .checks import need_axes, need_new_axes, need_whole
from .emission import dimension
from .layout import Layout


@dataclass(frozen=True)
class _Padding(Layout):
    """Elements of the axis itself added at its ends."""

    brackets: ClassVar[Brackets] = Brackets.RENAME
    source: str
    target: str
    before: Poly = attribute(0, doc="how many elements in front")
    after: Poly = attribute(0, doc="how many elements behind")

    def infer(self, *operands: Type) -> Type:
        [x] = operands
        need_whole(self.spelling, "before", self.before, least=0)
        need_whole(self.spelling, "after", self.after, least=0)
        need_axes(self.spelling, (self.source,), x)
        need_new_axes(self.spelling, (self.target,), (a for a in x.axes if a != self.source), x)
        return x.with_axes(tuple(self.target if axis == self.source else axis for axis in x.axes))

    def size_facts(self, *operands: Type) -> Sequence[tuple[Poly, Poly]]:
        return ((Poly.symbol(self.target), Poly.symbol(self.source) + self.before + self.after),)

    def new_axes(self) -> tuple[str, ...]:
        return (self.target,)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        [x] = operands
        count = pyast.call("torch.arange", emitter.size(Poly.symbol(self.target)), device=emitter.device())
        places = count if not self.before else pyast.binary("-", count, emitter.size(self.before))
        last = emitter.size(Poly.symbol(self.source) - 1)
        read = self.read(places, emitter.size(Poly.symbol(self.source)), last)
        return pyast.call("torch.index_select", x.expression, dimension(x.type.axes, self.source), read)

    def read(self, places: ast.expr, size: ast.expr, last: ast.expr) -> ast.expr:
        """The position of the axis that a position before, in or after it reads."""
        raise NotImplementedError


@dataclass(frozen=True)
class CircularPadding(_Padding):
    """pad_circular[N -> P](x, before=0, after=0): an axis that goes around.

    Formula: `out[p] = x[(p - before) mod N]`, and P = before + N + after.

    before and after are whole numbers >= 0, and may exceed N.
    """

    spelling: ClassVar[str] = "pad_circular"

    def read(self, places: ast.expr, size: ast.expr, last: ast.expr) -> ast.expr:
        return pyast.binary("%", places, size)


@dataclass(frozen=True)
class ReflectedPadding(_Padding):
    """pad_reflect[N -> P](x, before=0, after=0): an axis that goes back at its ends, which are not repeated.

    Formula: `out[p] = x[r(p - before)]` with `r(i) = N - 1 - abs(i mod (2 * N - 2) - (N - 1))`, and
    P = before + N + after.

    before and after are whole numbers >= 0, and may exceed N. An axis of one element repeats it.
    """

    spelling: ClassVar[str] = "pad_reflect"

    def read(self, places: ast.expr, size: ast.expr, last: ast.expr) -> ast.expr:
        period = pyast.call("max", pyast.binary("*", 2, last), 1)
        folded = pyast.binary("-", pyast.binary("%", places, period), last)
        return pyast.binary("-", last, pyast.method(folded, "abs"))


@dataclass(frozen=True)
class ReplicatedPadding(_Padding):
    """pad_replicate[N -> P](x, before=0, after=0): the ends of an axis repeated.

    Formula: `out[p] = x[min(max(p - before, 0), N - 1)]`, and P = before + N + after.

    before and after are whole numbers >= 0.
    """

    spelling: ClassVar[str] = "pad_replicate"

    def read(self, places: ast.expr, size: ast.expr, last: ast.expr) -> ast.expr:
        return pyast.method(places, "clamp", 0, last)
