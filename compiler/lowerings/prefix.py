"""The prefix softmax: a causal softmax whose scores do not depend on the query, in linear time."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..graph import Node
from ..normal import Factor
from ..ops.base import Carried, Continuation, Emitter, Operand
from ..ops.layout import Broadcast
from ..ops.normalisations import Softmax
from ..sizes import Poly
from ..structure import lag_at_least
from ..types import Kind, Type, promote
from .lowering import Lowering, unflattened
from .request import Request

CHUNK = 64
SPAN = 16  # chunks at most whose running sums subtract one score


@dataclass(frozen=True)
class PrefixSoftmax(Lowering):
    """prefix_softmax(score, value): for every position the softmax average of the values up to it.

    Formula: `out[n, e] = sum over m <= n of exp(score[m]) value[m, e] / sum over m <= n of exp(score[m])`,
    with the largest score of a span subtracted, or the running maximum where it rises fast.

    Feng et al., Attention as an RNN, 2024; Rabe, Staats, Self-attention Does Not Need O(n^2) Memory, 2021.
    """

    rule: ClassVar[str] = "prefix softmax"
    why: ClassVar[str] = (
        "the scores do not depend on the query, so under a causal mask every average extends the one before: running "
        "sums, less the largest score of a span, or less the running maximum where that rises fast"
    )
    chunked: ClassVar[bool] = True
    operands: ClassVar[tuple[str, ...]] = ("score", "value")
    separable: ClassVar[bool] = True
    kernel: ClassVar[str] = "prefix_softmax"
    query: str
    key: str
    outer: tuple[str, ...]
    batch: tuple[str, ...]

    def infer(self, *operands: Type) -> Type:
        kind = promote(*(o.kind for o in operands), Kind.REAL)
        return Type(kind, (*self.batch, self.query, *self.outer), any(o.batched for o in operands))

    def flops(self, result: Type, *operands: Type) -> Poly:
        return Poly.volume((*self.batch, self.query)) * (Poly.volume(self.outer) * 3 + 6)

    def workspace(self, result: Type, *operands: Type) -> Poly:
        span = Poly.volume(self.outer) * (3 * SPAN * CHUNK)
        return result.volume() + Poly.volume((*self.batch, self.query)) + Poly.volume(self.batch) * span

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind:
        return result.kind

    def follows(self) -> Mapping[str, str]:
        return {self.key: self.query}

    def carried(self, result: Type, *operands: Type) -> tuple[Carried, ...]:
        batch, one = [*map(Poly.symbol, self.batch)], Poly.constant(1)
        sums = "the sum of exp(score - top score) times value, and of the weights in the last column"
        return (
            Carried(sums, (*batch, one, Poly.volume(self.outer) + 1)),
            Carried("the top score", (*batch, one, one)),
        )

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return unflattened(emitter, self._scan(emitter, self.kernel, operands, ()), self.outer)

    def emit_from(
        self, emitter: Emitter, result: Type, state: Sequence[ast.expr], *operands: Operand
    ) -> Continuation:
        scan = self._scan(emitter, f"{self.kernel}_from", operands, state)
        return Continuation(scan, finish=lambda piece: unflattened(emitter, piece, self.outer))

    def _scan(
        self, emitter: Emitter, kernel: str, operands: Sequence[Operand], state: Sequence[ast.expr]
    ) -> ast.expr:
        score, value = operands
        values = emitter.align(value, (*self.batch, self.key, *self.outer))
        if not self.outer:
            values = pyast.method(values, "unsqueeze", -1)
        elif len(self.outer) > 1:
            values = pyast.method(values, "flatten", -len(self.outer))
        scores = emitter.align(score, (*self.batch, self.key))
        return pyast.call(emitter.helper(kernel), scores, values, *state, pyast.constant(CHUNK))


def match(request: Request) -> Node | str:
    """The prefix softmax that computes a sum over one softmax and other factors, or why there is none."""
    factors, bound, builder, product = request.factors, request.bound, request.builder, request.product
    found = [factor for factor in factors if isinstance(factor.node.op, Softmax) and not factor.inverse]
    if len(found) != 1:
        return "there is no softmax among the factors"
    [softmax] = found
    op = softmax.node.op
    assert isinstance(op, Softmax)
    if len(op.axes) != 1 or op.axes[0] not in bound or op.given != ("mask",):
        return "the softmax is not masked, or not over the summed axis"
    [m] = op.axes
    score, mask = softmax.node.inputs
    later = [axis for axis in mask.axes if axis != m]
    if len(later) != 1 or later[0] in score.axes or later[0] in bound or lag_at_least(mask, later[0], m) != 0:
        return "the scores depend on the query, or the mask is not causal"
    [n] = later
    others = [factor for factor in factors if factor is not softmax]
    if any(n in factor.axes and m in factor.axes for factor in others):
        return f"another factor couples `{n}` and `{m}`"
    after = [factor for factor in others if n in factor.axes]
    inside = [factor for factor in others if n not in factor.axes]
    carried = {axis for factor in after for axis in factor.axes} | set(score.axes)
    value = product(inside, bound - {m} - carried)
    if m not in value.axes:
        value = builder.make(Broadcast((m, *value.axes)), value)
    batch = tuple(axis for axis in score.axes if axis != m)
    outer = tuple(axis for axis in value.axes if axis != m and axis not in batch)
    made = builder.make(PrefixSoftmax(n, m, outer, batch), score, value)
    return product([Factor(made), *after], bound - {m}) if after or bound - {m} else made
