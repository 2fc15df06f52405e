"""The recurrence `h[n] = a[n] h[n - 1] + x[n]`, element by element, without going through the positions one by one."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..ops.base import Carried, Continuation, Emitter, Operand
from ..ops.emission import as_tensor
from ..sizes import Poly
from ..types import Kind, Type, promote
from .lowering import Lowering


@dataclass(frozen=True)
class LinearRecurrence(Lowering):
    """linear_recurrence(a, x, start): a state that every position scales and adds to, at all positions.

    Formula: `out[n, e] = a[n, e] * out[n - 1, e] + x[n, e]`, with `start[e]`, or 0, before the first position.

    Two steps are one step with the coefficient `a1 * a2` and the offset `a2 * x1 + x2`, so groups of positions are
    composed first, and groups of groups. Nothing is divided and no logarithm taken: coefficients of any sign, and 0,
    are as good as others. Blelloch, Prefix Sums and Their Applications, 1990.
    """

    rule: ClassVar[str] = "associative scan"
    why: ClassVar[str] = (
        "the update is linear in the state, element by element, so steps compose: groups of positions are composed "
        "first, then groups of groups"
    )
    chunked: ClassVar[bool] = True
    operands: ClassVar[tuple[str, ...]] = ("a", "x")
    optional: ClassVar[tuple[str, ...]] = ("start",)
    kernel: ClassVar[str] = "linear_recurrence"
    axis: str
    features: tuple[str, ...]

    def infer(self, *operands: Type) -> Type:
        kind = promote(*(o.kind for o in operands), Kind.REAL)
        assert all(self.axis in operand.axes for operand in operands[:2]), "a step has a coefficient and an offset"
        return Type(kind, (self.axis, *self.features), any(o.batched for o in operands))

    def flops(self, result: Type, *operands: Type) -> Poly:
        return result.volume() * 6

    def workspace(self, result: Type, *operands: Type) -> Poly:
        return result.volume() * 3  # composed coefficients and offsets, and what comes in from the group before

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind:
        return result.kind

    def follows(self) -> Mapping[str, str]:
        return {self.axis: self.axis}

    def carried(self, result: Type, *operands: Type) -> tuple[Carried, ...]:
        shape = (Poly.constant(1), *map(Poly.symbol, self.features))
        return (Carried("the state after the last position", shape),)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return pyast.call(emitter.helper(self.kernel), *self._arguments(emitter, result, operands), self._dimension)

    def emit_from(
        self, emitter: Emitter, result: Type, state: Sequence[ast.expr], *operands: Operand
    ) -> Continuation:
        arguments = self._arguments(emitter, result, operands)
        return Continuation(pyast.call(emitter.helper(f"{self.kernel}_from"), *arguments, *state, self._dimension))

    @property
    def _dimension(self) -> ast.expr:
        return pyast.constant(-1 - len(self.features))

    def _arguments(self, emitter: Emitter, result: Type, operands: Sequence[Operand]) -> list[ast.expr]:
        a, x, *start = operands
        axes = (self.axis, *self.features)
        known = {*a.type.axes, *x.type.axes} == {*axes}
        found = [emitter.align(a, axes), emitter.align(x, axes) if known else emitter.full(x, axes)]
        if not start:
            return [*found, pyast.constant(None)]
        return [*found, as_tensor(emitter, start[0], result.kind, self.features, wide=start[0].wide)]
