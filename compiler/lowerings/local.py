"""Local softmax attention: bands and windows of positions, in time linear in the sequence."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..graph import Node
from ..ops.base import Carried, Continuation, Emitter, Op, Operand
from ..sizes import ZERO, Facts, Poly, Truth
from ..structure import band, same_window
from ..types import Kind, Type, promote
from .lowering import Lowering, unflattened

BLOCK = 64


@dataclass(frozen=True)
class _Local(Lowering):
    """Softmax attention of which every query sees a few keys near it.

    Operands: query [batch, N, D], key [batch, M, D], value [batch, M, E], and the number that scales
    the scores.
    """

    absorbs: ClassVar[bool] = True
    operands: ClassVar[tuple[str, ...]] = ("query", "key", "value", "scale")
    separable: ClassVar[bool] = True
    kernel: ClassVar[str]
    query: str
    key: str
    inner: str
    outer: tuple[str, ...]
    batch: tuple[str, ...]

    def infer(self, *operands: Type) -> Type:
        kind = promote(*(o.kind for o in operands[:3]), Kind.REAL)
        return Type(kind, (*self.batch, self.query, *self.outer), any(o.batched for o in operands))

    def visited(self) -> Poly:
        """How many keys are computed for a query."""
        raise NotImplementedError

    def widths(self) -> tuple[Poly, ...]:
        """The arguments of the kernel that say what is near."""
        raise NotImplementedError

    def flops(self, result: Type, *operands: Type) -> Poly:
        pairs = Poly.volume((*self.batch, self.query)) * self.visited()
        return pairs * (Poly.symbol(self.inner) * 2 + Poly.volume(self.outer) * 2 + 6)

    def workspace(self, result: Type, *operands: Type) -> Poly:
        block = Poly.symbol(self.inner) * 2 + Poly.volume(self.outer) * 2 + BLOCK
        return result.volume() + Poly.volume(self.batch) * self.visited() * block  # the blocks are joined at the end

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return result.kind

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return unflattened(emitter, self._attend(emitter, self.kernel, operands, ()), self.outer)

    def _attend(
        self, emitter: Emitter, kernel: str, operands: Sequence[Operand], state: Sequence[ast.expr]
    ) -> ast.expr:
        query, key, value, scale = operands
        tensors = [
            emitter.align(query, (*self.batch, self.query, self.inner)),
            emitter.align(key, (*self.batch, self.key, self.inner)),
            emitter.align(value, (*self.batch, self.key, *self.outer)),
        ]
        if not self.outer:
            tensors[2] = pyast.method(tensors[2], "unsqueeze", -1)
        elif len(self.outer) > 1:
            tensors[2] = pyast.method(tensors[2], "flatten", -len(self.outer))
        widths = [emitter.size(width) for width in self.widths()]
        return pyast.call(emitter.helper(kernel), *tensors, *state, *widths, scale.expression)


@dataclass(frozen=True)
class BandedSoftmax(_Local):
    """banded_attention(q, k, v, scale): softmax attention to the keys n - before .. n + after.

    Formula: `out[n, e] = sum over m of softmax over m of (scale * q[n] . k[m]) * v[m, e]`, over the keys with
    `-after <= n - m <= before`.

    Block by block of queries: Beltagy et al., Longformer, 2020.
    """

    rule: ClassVar[str] = "band"
    why: ClassVar[str] = (
        "every query sees the keys of a band only, so a block of queries needs the keys around it and no others"
    )
    kernel: ClassVar[str] = "banded_attention"
    before: Poly = ZERO
    after: Poly = ZERO

    def follows(self) -> Mapping[str, str]:
        ahead = self.after.as_number()
        return {self.query: self.query, self.key: self.query} if ahead is not None and ahead <= 0 else {}

    def carried(self, result: Type, *operands: Type) -> tuple[Carried, ...]:
        if not self.follows():
            return ()
        rows = (*map(Poly.symbol, self.batch), self.before)
        return (
            Carried("the last keys", (*rows, Poly.symbol(self.inner))),
            Carried("the last values", (*rows, Poly.volume(self.outer))),
        )

    def emit_from(
        self, emitter: Emitter, result: Type, state: Sequence[ast.expr], *operands: Operand
    ) -> Continuation:
        piece = self._attend(emitter, f"{self.kernel}_from", operands, state)
        return Continuation(piece, finish=lambda piece: unflattened(emitter, piece, self.outer))

    def visited(self) -> Poly:
        return self.before + self.after + BLOCK

    def widths(self) -> tuple[Poly, ...]:
        return (self.before, self.after)


@dataclass(frozen=True)
class WindowedSoftmax(_Local):
    """windowed_attention(q, k, v, scale): softmax attention inside windows of W positions.

    Formula: `out[n, e] = sum over m of softmax over m of (scale * q[n] . k[m]) * v[m, e]`, over the keys with
    `n // W = m // W`.

    Liu et al., Swin Transformer, ICCV 2021.
    """

    rule: ClassVar[str] = "windows"
    why: ClassVar[str] = (
        "every query sees the keys of its own window only, so the sequence is cut into windows"
    )
    kernel: ClassVar[str] = "windowed_attention"
    window: Poly = ZERO

    def visited(self) -> Poly:
        return self.window

    def widths(self) -> tuple[Poly, ...]:
        return (self.window,)


def local(
    mask: Node,
    query: str,
    key: str,
    inner: str,
    outer: tuple[str, ...],
    batch: tuple[str, ...],
    facts: Facts,
    constants: Mapping[str, int | float],
) -> Op | None:
    """The local attention that a mask stands for, if it is a band or windows of one sequence."""
    if facts.equal(Poly.symbol(query), Poly.symbol(key)) is not Truth.YES:
        return None
    found = band(mask, query, key, constants)
    if found is not None and found.least is not None and found.most is not None:
        return BandedSoftmax(query, key, inner, outer, batch, found.most, -found.least)
    window = same_window(mask, query, key, constants)
    return None if window is None else WindowedSoftmax(query, key, inner, outer, batch, window)
