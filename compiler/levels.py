"""Exponents over two positions: how far a level rises between them, what the key adds, and what the query adds.

`c[n] - c[m] + i[m] - s[n]` is the rise of c, the score i of the key, and the shift -s of the query. A level is read at
both positions, so that only its rises matter; see `gate_level` for one by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from .graph import Builder, Node
from .ops.arithmetic import Add, Divide, Multiply, Negative, Subtract
from .ops.cumulative import CumulativeMax
from .ops.layout import Rename
from .ops.leaves import Position
from .ops.reductions import Max
from .rules.chain import Item, build_sum, terms
from .structure import gate_level, lag_at_least, lag_coefficient, mask_of


@dataclass(frozen=True)
class Exponent:
    """A sum over two positions n and m: level[n] - level[m] + key[m] + query[n].

    Each is a sum of terms with their signs: level and query over n, key over m.
    """

    level: frozenset[Item]
    key: frozenset[Item]
    query: frozenset[Item]


def exponent(node: Node, n: str, m: str, builder: Builder) -> Exponent | None:
    """The parts of a value over n and m; None if a term couples the two otherwise than by a level."""
    level: list[Item] = []
    keys: list[Item] = []
    queries: list[Item] = []
    for sign, term in _terms(node, builder):
        if n in term.axes and m in term.axes:
            rate = lag_coefficient(term, n, m, builder)
            rise = builder.make(Multiply(), builder.make(Position(n)), rate) if rate is not None else None
            rise = rise or gate_level(term, n, m, builder)
            if rise is None:
                inner = _scaled(term, n, m, builder)
                if inner is None:
                    return None
                for found, items in ((level, inner.level), (keys, inner.key), (queries, inner.query)):
                    found += [(sign * one, item) for one, item in sorted(items, key=lambda item: item[1].index)]
                continue
            level.append((sign, rise))
        else:
            (keys if m in term.axes else queries).append((sign, term))
    for sign, term in tuple(queries):
        same = next((item for item in keys if item[0] == -sign and _moved(item[1], term, n, m)), None)
        if same is not None:
            keys.remove(same)
            queries.remove((sign, term))
            level.append((sign, term))
    parts = (level, keys, queries)
    if any(len({*part}) < len(part) for part in parts):
        return None  # a term that is there twice
    return Exponent(*map(frozenset, parts))


def _scaled(node: Node, n: str, m: str, builder: Builder) -> Exponent | None:
    """The parts of a sum that is multiplied or divided by a value without the two axes."""
    if not isinstance(node.op, Multiply | Divide):
        return None
    pairs = (node.inputs, node.inputs[::-1])[: 1 + isinstance(node.op, Multiply)]
    inner, scale = next(((a, b) for a, b in pairs if not {n, m} & {*b.axes}), (None, None))
    if inner is None or scale is None or not isinstance(inner.op, Add | Subtract | Negative | Multiply | Divide):
        return None
    parts = exponent(inner, n, m, builder)
    if parts is None:
        return None
    made = (
        frozenset((sign, builder.make(type(node.op)(), one, scale)) for sign, one in items)
        for items in (parts.level, parts.key, parts.query)
    )
    return Exponent(*made)


def _terms(node: Node, builder: Builder) -> list[Item]:
    """The terms of a sum, those of a sum that is read under another axis included."""
    found: list[Item] = []
    for sign, term in terms(node):
        if isinstance(term.op, Rename) and isinstance(term.inputs[0].op, Add | Subtract | Negative):
            for inner, one in _terms(term.inputs[0], builder):
                moved = builder.make(term.op, one) if term.op.source in one.axes else one
                found.append((sign * inner, moved))
        else:
            found.append((sign, term))
    return found


def _moved(key: Node, query: Node, n: str, m: str) -> bool:
    """Whether one value is read at both positions."""
    if isinstance(key.op, Position) and isinstance(query.op, Position):
        return True
    renamed = ((key, query, Rename(n, m)), (query, key, Rename(m, n)))
    return any(one.op == rename and one.inputs[0] is other for one, other, rename in renamed)


def earlier(condition: Node, *, hides: bool = False) -> tuple[str, str, int] | None:
    """n, m and c >= 0 of a condition that holds (hides: fails) exactly where m is c places before n or earlier."""
    if len(condition.axes) != 2:
        return None
    for n, m in (condition.axes, condition.axes[::-1]):
        least = lag_at_least(condition, n, m, negated=hides)
        if least is not None and least >= 0:
            return n, m, least
    return None


def is_running_maximum(node: Node, of: Exponent, n: str, m: str, least: int, builder: Builder) -> bool:
    """Whether a value over n is the largest `level[n] - level[m] + key[m]` of all m at n - least and before it."""
    if isinstance(node.op, Max) and node.op.axes == (m,):
        found = mask_of(node.inputs[0])
        if found is None or earlier(found[1], hides=found[2]) != (n, m, least):
            return False
        return exponent(found[0], n, m, builder) == Exponent(of.level, of.key, frozenset())
    if of.level or least:
        return False
    key = total(of.key, builder)
    if isinstance(node.op, Rename) and node.op == Rename(m, n):
        [inner] = node.inputs
        return inner.op == CumulativeMax(m) and inner.inputs[0] is key
    return node.op == CumulativeMax(n) and _moved(key, node.inputs[0], n, m)


def total(items: frozenset[Item], builder: Builder) -> Node:
    """The sum of terms, in the order in which they were made."""
    return build_sum(builder, sorted(items, key=lambda item: (item[0] < 0, item[1].index)))
