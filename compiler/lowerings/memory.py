"""What a recurrence remembers: operations that only stand in graphs over pieces of a sequence."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..ops.base import Carried, Continuation, Emitter, Op, Operand
from ..ops.emission import dimension
from ..sizes import ZERO, Poly
from ..types import Kind, Type


@dataclass(frozen=True)
class Continued(Op):
    """continued(x, ...): an operation on a piece of the sequence, from the state that the piece before left behind."""

    family: ClassVar[str] = "lowerings"
    variadic: ClassVar[bool] = True
    op: Op

    def infer(self, *operands: Type) -> Type:
        return self.op.infer(*operands)

    def flops(self, result: Type, *operands: Type) -> Poly:
        return self.op.flops(result, *operands)

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return self.op.operand_kind(index, result, *operands)

    def carried(self, result: Type, *operands: Type) -> tuple[Carried, ...]:
        return self.op.carried(result, *operands)

    def emit_from(
        self, emitter: Emitter, result: Type, state: Sequence[ast.expr], *operands: Operand
    ) -> Continuation:
        return self.op.emit_from(emitter, result, state, *operands)


@dataclass(frozen=True)
class _Memory(Op):
    """A piece along `axis` behind earlier elements, all of them along `target`."""

    family: ClassVar[str] = "lowerings"
    axis: str
    target: str

    def infer(self, *operands: Type) -> Type:
        [x] = operands
        return x.with_axes(tuple(self.target if axis == self.axis else axis for axis in x.axes))

    def flops(self, result: Type, *operands: Type) -> Poly:
        return ZERO

    def _shape(self, result: Type, length: Poly) -> tuple[Poly, ...]:
        return tuple(length if axis == self.target else Poly.symbol(axis) for axis in result.axes)


@dataclass(frozen=True)
class Remember(_Memory):
    """remember[N -> T](x, first, last): a piece and every piece before it, as the keys and values of a cache.

    Formula: `out[t] = x of position t`, for all T positions so far; if `last` is given, for the `first` ones and as
    many before the piece, as far as there are, and those of the piece.
    """

    first: Poly = ZERO
    last: Poly | None = None

    def carried(self, result: Type, *operands: Type) -> tuple[Carried, ...]:
        if self.last is None:
            return (Carried("of all positions so far", self._shape(result, Poly.symbol(self.target))),)
        what = "of the last positions" if self.first == ZERO else "of the first and the last positions"
        return (Carried(what, self._shape(result, self.first + self.last)),)

    def emit_from(
        self, emitter: Emitter, result: Type, state: Sequence[ast.expr], *operands: Operand
    ) -> Continuation:
        [x] = operands
        along = pyast.constant(dimension(x.type.axes, self.axis))
        if self.last is None:
            return Continuation(pyast.call(emitter.helper("extended"), *state, x.expression, along), alone=True)
        counts = emitter.size(self.first), emitter.size(self.last)
        return Continuation(pyast.call(emitter.helper("windowed"), *state, x.expression, along, *counts))


@dataclass(frozen=True)
class Recent(_Memory):
    """recent[N -> T](x, count): a piece and the `count` elements before it, zeros where there are none.

    Formula: `out[t] = x of position t - count`, counted from the start of the piece, and T = count + N.
    """

    count: Poly

    def carried(self, result: Type, *operands: Type) -> tuple[Carried, ...]:
        return (Carried("of the last positions", self._shape(result, self.count)),)

    def emit_from(
        self, emitter: Emitter, result: Type, state: Sequence[ast.expr], *operands: Operand
    ) -> Continuation:
        [x] = operands
        along = pyast.constant(dimension(x.type.axes, self.axis))
        count = emitter.size(self.count)
        return Continuation(pyast.call(emitter.helper("recent"), *state, x.expression, along, count))
