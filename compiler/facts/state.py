"""What a recurrence must remember: the size of the state from which the next position is computed."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph import Graph, Node
from ..lowerings.causal import CausalScan, GatedPrefix
from ..lowerings.local import BandedSoftmax
from ..lowerings.prefix import PrefixSoftmax
from ..ops.cumulative import Cumulative
from ..ops.selection import Shift
from ..sizes import ZERO, Poly


@dataclass(frozen=True)
class State:
    """size: elements of the state for one batch entry; None when no state of fixed size is enough,
    because of `culprit`."""

    size: Poly | None
    culprit: Node | None = None


def state(graph: Graph, sequence: frozenset[str]) -> State:
    """The state of evaluating a causal plan position by position.

    sequence: every axis that the sequence runs along.
    """
    total = ZERO
    for node in graph:
        kept = _kept(node, sequence)
        if kept is None:
            return State(None, node)
        total = total + kept
    return State(total)


def _kept(node: Node, sequence: frozenset[str]) -> Poly | None:
    """What one operation remembers; None if that grows with the sequence."""
    op = node.op
    if not node.type.batched and not isinstance(op, Cumulative):
        return ZERO  # computed from the position alone
    if isinstance(op, CausalScan):
        sums = Poly.volume((*op.batch, *op.inner, *op.outer))
        return sums + Poly.volume((*op.batch, *op.inner)) if op.normalise else sums
    if isinstance(op, GatedPrefix):
        return Poly.volume(op.features)
    if isinstance(op, PrefixSoftmax):
        return Poly.volume((*op.batch, *op.outer)) + Poly.volume(op.batch) * 2
    if isinstance(op, BandedSoftmax):
        return Poly.volume(op.batch) * (Poly.symbol(op.inner) + Poly.volume(op.outer)) * op.before
    if isinstance(op, Cumulative) and op.axis in sequence:
        return Poly.volume(axis for axis in node.axes if axis != op.axis)
    if isinstance(op, Shift) and op.axis in sequence:
        return Poly.volume(axis for axis in node.axes if axis != op.axis) * op.by
    if op.elementwise or op.is_view() or op.is_given() or not node.inputs:
        return None if len(sequence.intersection(node.axes)) > 1 else ZERO
    before = {axis for operand in node.inputs for axis in operand.axes if axis in sequence}
    after = sequence.intersection(node.axes)
    mixed = set(getattr(op, "axes", ())) | {getattr(op, "axis", ""), getattr(op, "source", "")}
    return ZERO if before == after and len(after) <= 1 and sequence.isdisjoint(mixed) else None
