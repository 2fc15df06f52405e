"""How tokens meet: in products, in statistics only, or in a product that only names keep apart from another."""

from __future__ import annotations

from dataclasses import dataclass

from ..formula import Formula
from ..graph import Node
from ..ops.base import Brackets
from ..ops.contraction import Contraction
from ..ops.layout import Broadcast, Convert, Rename, Reorder
from ..ops.normalisations import L1Normalize, L2Normalize, LayerNorm, RmsNorm
from ..ops.reductions import Max, Mean, Min, Norm, Variance
from ..sizes import Poly, Truth

STATISTICS = (L1Normalize, L2Normalize, LayerNorm, Max, Mean, Min, Norm, RmsNorm, Variance)


def only_statistics(formula: Formula, sequence: frozenset[str]) -> tuple[Node, ...]:
    """The means, norms and extremes through which alone positions of the sequence meet; none if a product does too."""
    found: list[Node] = []
    for node in formula.graph:
        if not node.type.batched or not _joins(node) & sequence:
            continue
        if not isinstance(node.op, STATISTICS):
            return ()
        found.append(node)
    return tuple(found)


def _joins(node: Node) -> frozenset[str]:
    """The axes along which an operation lets positions meet; all, where that is not known."""
    op = node.op
    if op.elementwise or not node.inputs or isinstance(op, Broadcast | Convert | Rename | Reorder):
        return frozenset()
    met = frozenset(node.axes).union(*(operand.axes for operand in node.inputs))
    if op.brackets is Brackets.NONE and not isinstance(op, Contraction):
        return met
    fields = vars(op)
    names = {name for field in ("axes", "sources", "taps", "summed") for name in fields.get(field, ())}
    return frozenset(names | {fields[field] for field in ("axis", "source") if field in fields})


@dataclass(frozen=True)
class Twin:
    """A contraction over `axis` that, where `tokens` is as long, has the shapes of one over `tokens`."""

    node: Node
    axis: str
    tokens: str


def twins(formula: Formula, sequence: frozenset[str]) -> tuple[Twin, ...]:
    """Products of token features with a square map over features that is computed from tokens.

    `x @ s^T` over [N, F] and [D, F], with D as large as F, is told from `x^T @ s` by its shapes only while N differs.
    Names tell them apart always; code that goes by shapes computes something else where the sizes happen to agree.
    """
    facts = formula.facts
    found = []
    for node in formula.graph:
        if not isinstance(node.op, Contraction) or len(node.op.axes) != 1 or node.op.axes[0] in sequence:
            continue
        [axis] = node.op.axes
        for value, square in (node.inputs, node.inputs[::-1]):
            tokens = [a for a in value.axes if a in sequence]
            if not tokens or not square.type.batched or sequence & set(square.axes):
                continue
            others = (a for a in square.axes if a != axis and a not in value.axes)
            if any(facts.equal(Poly.symbol(a), Poly.symbol(axis)) is Truth.YES for a in others):
                found.append(Twin(node, axis, tokens[-1]))
    return tuple(found)
