"""Softmax attention with a bias of the lag: the bias is a table of lags, of which every block of queries has a view."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..graph import Builder, Node, topological
from ..ops.arithmetic import Negative
from ..ops.base import Emitter, Operand
from ..ops.layout import Reorder
from ..ops.leaves import Literal, Position
from ..ops.logic import Where
from ..sizes import Facts, Poly, Truth
from ..structure import lag_at_least, on_lag
from ..types import Type
from .fused import FusedSoftmax
from .lowering import unflattened

ROWS = 128  # queries of a block


@dataclass(frozen=True)
class LaggedSoftmax(FusedSoftmax):
    """lagged_softmax(q, k, v, after, before): softmax attention with a bias that depends on the lag only.

    Formula: `out[n, e] = sum over m of softmax over m of (scale * q[n] . k[m] + t[n - m]) * v[m, e]`, where t is
    `after` for lags from 0 on, and `before[m - n]` for the others; without `before`, over the keys up to the query.
    """

    rule: ClassVar[str] = "table of lags"
    why: ClassVar[str] = "the bias depends on the lag only, so one table of lags holds that of every query"
    optional: ClassVar[tuple[str, ...]] = ()
    variadic: ClassVar[bool] = True
    kernel: ClassVar[str] = "lagged_attention"

    def workspace(self, result: Type, *operands: Type) -> Poly:
        return result.volume() + Poly.symbol(self.key) * (2 * ROWS)  # the blocks are joined at the end

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        tensors = self._tensors(emitter, operands)
        axes = (self.query, self.key)
        tables = [emitter.align(table, (*self.batch, axis)) for table, axis in zip(operands[3:], axes, strict=False)]
        tables += [pyast.constant(None)] * (2 - len(tables))
        attention = pyast.call(emitter.helper(self.kernel), *tensors, *tables, pyast.constant(self.scaled))
        return unflattened(emitter, attention, self.outer)


def lagged(
    op: FusedSoftmax, operands: Sequence[Node], last: Node, facts: Facts, builder: Builder
) -> Node | None:
    """The fused softmax with tables of lags, if its bias depends on the lag only and every query sees a key.

    operands: what stands for its queries, keys and values.
    """
    if op.given != ("bias",) or facts.equal(Poly.symbol(op.query), Poly.symbol(op.key)) is not Truth.YES:
        return None
    bias, n, m = last.inputs[3], op.query, op.key
    while isinstance(bias.op, Reorder):
        [bias] = bias.inputs
    causal = isinstance(bias.op, Where) and _is_minus_infinity(bias.inputs[2])
    if causal:
        if lag_at_least(bias.inputs[0], n, m) != 0:
            return None
        bias = bias.inputs[1]
    if any(isinstance(each.op, Literal) and math.isinf(each.op.value) for each in topological([bias])):
        return None
    lags = [builder.make(Position(n))]
    if not causal:
        lags.append(builder.make(Negative(), builder.make(Position(m))))
    tables = [on_lag(bias, n, m, lag, builder) for lag in lags]
    found = [table for table, axis in zip(tables, (n, m), strict=False) if table is not None and axis in table.axes]
    if len(found) < len(lags):
        return None
    made = LaggedSoftmax(n, m, op.inner, op.outer, op.batch, op.scaled, False)
    return builder.make(made, *operands, *found)


def _is_minus_infinity(node: Node) -> bool:
    return isinstance(node.op, Literal) and node.op.value == -math.inf
