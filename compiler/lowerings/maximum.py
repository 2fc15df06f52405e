"""The largest of a sum over two positions, without the map: over all keys, or over those up to the query."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..graph import Builder, Node
from ..levels import earlier, exponent, total
from ..ops.arithmetic import Add
from ..ops.base import Carried, Continuation, Emitter, Operand
from ..ops.cumulative import CumulativeMax
from ..ops.layout import Broadcast, Rename, Reorder
from ..ops.leaves import Literal, Position
from ..ops.logic import GreaterEqual, Where
from ..ops.reductions import Max
from ..ops.selection import Shift
from ..rules.chain import build_sum, terms
from ..sizes import Facts, Poly, Truth
from ..structure import mask_of
from ..types import Kind, Type, promote
from .causal import gates_of
from .lowering import Lowering

CHUNK = 64
FARTHEST = 16  # places behind the query at which keys may begin: as many gates are added for each query
SEPARATE = (
    "maximum of a sum",
    "a summand without the axis raises all that are compared by the same amount: it is added to their maximum",
)


@dataclass(frozen=True)
class RunningMaximum(Lowering):
    """running_maximum(score, gates): the largest score so far, each falling by the gates behind it.

    Formula: `out[n] = max over m <= n of score[m] + gates[m + 1] + ... + gates[n]`.

    A sum of products with the maximum for the sum, and the sum for the product: steps compose, `(g1 + g2,
    max(s1 + g2, s2))`, and gates are added, never subtracted. Beck et al., xLSTM, 2024, for the level of an mLSTM.
    """

    rule: ClassVar[str] = "running maximum"
    why: ClassVar[str] = (
        "under a causal mask the largest of a sum of scores and of a level that falls behind them is that of the "
        "position before, which has fallen by one gate, or the score that is new"
    )
    chunked: ClassVar[bool] = True
    operands: ClassVar[tuple[str, ...]] = ("score", "gates")
    separable: ClassVar[bool] = True
    kernel: ClassVar[str] = "running_maximum"
    query: str
    key: str
    batch: tuple[str, ...]

    def infer(self, *operands: Type) -> Type:
        kind = promote(*(o.kind for o in operands), Kind.REAL)
        return Type(kind, (*self.batch, self.query), any(o.batched for o in operands))

    def flops(self, result: Type, *operands: Type) -> Poly:
        return result.volume() * 20  # a chunk of 64 by six doublings

    def workspace(self, result: Type, *operands: Type) -> Poly:
        return result.volume() * 4

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind:
        return result.kind

    def follows(self) -> Mapping[str, str]:
        return {self.query: self.query, self.key: self.query}

    def carried(self, result: Type, *operands: Type) -> tuple[Carried, ...]:
        shape = (*map(Poly.symbol, self.batch), Poly.constant(1))
        return (Carried("the top score, fallen up to the last position", shape),)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return self._scan(emitter, self.kernel, operands, ())

    def emit_from(
        self, emitter: Emitter, result: Type, state: Sequence[ast.expr], *operands: Operand
    ) -> Continuation:
        return Continuation(self._scan(emitter, f"{self.kernel}_from", operands, state))

    def _scan(
        self, emitter: Emitter, kernel: str, operands: Sequence[Operand], state: Sequence[ast.expr]
    ) -> ast.expr:
        score, gates = operands
        rows = (emitter.align(score, (*self.batch, self.key)), emitter.align(gates, (*self.batch, self.query)))
        return pyast.call(emitter.helper(kernel), *rows, *state, pyast.constant(CHUNK))


@dataclass(frozen=True)
class Found:
    """A maximum without the map, and by which rules."""

    node: Node
    rules: Mapping[str, str]


def match(node: Node, builder: Builder, facts: Facts) -> Found | None:
    """The maximum over keys of a sum that takes them and the queries apart; None if there is none."""
    if not isinstance(node.op, Max) or len(node.op.axes) != 1 or node.type.kind is not Kind.REAL:
        return None
    [m], [scores] = node.op.axes, node.inputs
    masked = mask_of(scores)
    if masked is None:
        made = _separate(scores, m, builder)
        return None if made is None else Found(_like(made, node, builder), dict([SEPARATE]))
    shown, condition, hides = masked
    pair = earlier(condition, hides=hides)
    if pair is None or pair[1] != m or facts.equal(*map(Poly.symbol, pair[:2])) is not Truth.YES:
        return None
    n, _, least = pair
    if least > FARTHEST:
        return None
    found = exponent(shown, n, m, builder)
    if found is None or not found.key:
        return None
    key = total(found.key, builder)
    made = builder.make(CumulativeMax(n), builder.make(Rename(m, n), key))
    rules = {RunningMaximum.rule: RunningMaximum.why}
    gates = None
    if found.level:
        gates = gates_of(total(found.level, builder), n, builder)
        gates = gates if n in gates.axes else builder.make(Broadcast((n, *gates.axes)), gates)
        batch = tuple(axis for axis in node.axes if axis != n and (axis in key.axes or axis in gates.axes))
        made = builder.make(RunningMaximum(n, m, batch), key, gates)
    if least:
        made = _before(made, gates, n, least, builder)
    for sign, term in sorted(found.query, key=lambda item: item[1].index):
        made = build_sum(builder, [(1, made), (sign, term)])
        rules |= [SEPARATE]
    return Found(_like(made, node, builder), rules)


def _before(top: Node, gates: Node | None, n: str, places: int, builder: Builder) -> Node:
    """A running maximum as it was some places before, fallen by the gates since; -inf where nothing was."""
    make = builder.make
    made = make(Shift(n, Poly.constant(places)), top)
    if gates is not None:
        for place in range(places):
            made = make(Add(), made, make(Shift(n, Poly.constant(place)), gates) if place else gates)
    some = make(GreaterEqual(), make(Position(n)), make(Literal(places)))
    return make(Where(), some, made, make(Literal(-math.inf)))


def _separate(scores: Node, m: str, builder: Builder) -> Node | None:
    """max over m of (key + query) = max over m of key, + query."""
    items = terms(scores)
    key, query = ([item for item in items if (m in item[1].axes) is there] for there in (True, False))
    if not key or not query:
        return None
    inner = build_sum(builder, key)
    if len(inner.axes) >= len(scores.axes):
        return None
    return builder.make(Add(), builder.make(Max((m,)), inner), build_sum(builder, query))


def _like(made: Node, node: Node, builder: Builder) -> Node:
    if set(made.axes) != set(node.axes):
        made = builder.make(Broadcast(node.axes), made)
    return made if made.axes == node.axes else builder.make(Reorder(node.axes), made)
