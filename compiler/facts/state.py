"""What a recurrence must remember: the size of the state from which the next position is computed."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from ..graph import Graph, Node
from ..ops.convolution import Convolution
from ..ops.cumulative import Cumulative
from ..ops.selection import Shift, Windows
from ..scan import Part, Scan
from ..sizes import ZERO, Poly
from .dependence import looks_back


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
    if isinstance(op, Part):
        return ZERO  # counted with its scan
    if isinstance(op, Scan):
        read = node.inputs[op.states + op.slices :]  # in every step
        grows = any(sequence.intersection(operand.axes) for operand in (*node.inputs[: op.states], *read))
        along = op.axis in sequence and not any(sequence.intersection(inner.axes) for inner in op.step.nodes())
        return op.state_size() if along and not grows else None
    if not node.type.batched and not isinstance(op, Cumulative):
        return ZERO  # computed from the position alone
    carried = op.carried(node.type, *(operand.type for operand in node.inputs))
    if carried and not sequence.isdisjoint(op.follows()):
        return sum((prod(each.shape, start=Poly.constant(1)) for each in carried), ZERO)
    if isinstance(op, Convolution | Windows) and looks_back(op) in sequence and op.start is not None:
        [x, *_] = node.inputs
        return Poly.volume(axis for axis in x.axes if axis not in sequence) * -op.start
    if isinstance(op, Shift) and op.axis in sequence:
        return Poly.volume(axis for axis in node.axes if axis != op.axis) * op.by
    if op.elementwise or op.is_view() or op.is_given() or not node.inputs:
        return None if len(sequence.intersection(node.axes)) > 1 else ZERO
    before = {axis for operand in node.inputs for axis in operand.axes if axis in sequence}
    after = sequence.intersection(node.axes)
    mixed = set(getattr(op, "axes", ())) | {getattr(op, "axis", ""), getattr(op, "source", "")}
    return ZERO if before == after and len(after) <= 1 and sequence.isdisjoint(mixed) else None
