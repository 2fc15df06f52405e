"""A causal formula piece by piece where it has no recurrence: the whole sequence is computed again for every piece.

The inputs so far are kept, and repeated at their last position up to the length of the whole sequence. What stands
there does not matter: the formula is causal in its inputs, so that its value at a position is the same whatever comes
later, if the length is the same. That length may be anything the formula reads: it is told at the start, or fixed by a
parameter.
"""

from __future__ import annotations

from dataclasses import dataclass

from .facts.dependence import Dependence
from .formula import Formula
from .graph import Graph, Node
from .lowerings.memory import Remember
from .recurrence import Recurrence, Refusal, fresh_name, taken_names
from .sizes import Poly, Truth, solve


@dataclass(frozen=True)
class Again:
    """A formula of which every step computes the whole sequence.

    kept: as a recurrence, of which the results are the inputs at all positions so far.
    reason: why there is no other. length: of the whole sequence; None if it has to be told.
    """

    kept: Recurrence
    reason: str
    length: Poly | None

    def along(self, node: Node) -> int:
        """The dimension of a value, counted from the end, along which its positions lie."""
        return next(index - len(node.axes) for index, axis in enumerate(node.axes) if axis in self.kept.axes)


def again(formula: Formula, refused: Refusal, graph: Graph | None = None) -> Again | Refusal:
    """The formula with the whole sequence computed for every piece, or why not.

    refused: why it has no recurrence. graph: what is computed, where it has other results than the text.
    """
    facts = formula.facts
    if not formula.sequence or Dependence(formula).culprit() is not None:
        return refused
    output = formula.graph.outputs[0]
    first = next(axis for axis in output.axes if axis in _tied(formula))
    every = {axis: None for node in formula.graph.nodes() for axis in node.axes}
    axes = tuple(axis for axis in every if facts.equal(Poly.symbol(axis), Poly.symbol(first)) is Truth.YES)
    if any(not {*axes} & {*result.axes} for result in (graph or formula.graph).outputs):
        return Refusal(f"{refused.reason}, and a result does not lie along the sequence")
    kept = [node for node in formula.inputs if any(axis in axes for axis in node.axes)]
    if not kept:
        return Refusal("no input runs along the sequence")
    for node in formula.inputs:
        along = [axis for axis in node.axes if axis in _tied(formula)]
        if len(along) > 1 or any(axis not in axes for axis in along):
            return Refusal(f"{refused.reason}, and `{node.op.name}` has the axis `{along[-1]}`", node)  # type: ignore[attr-defined]
    taken = taken_names(formula, formula.graph)
    start = fresh_name("start", taken)
    so_far = {axis: fresh_name(f"{axis}_all", taken) for axis in axes}
    remembered = []
    for node in kept:
        axis = next(axis for axis in node.axes if axis in axes)
        remembered.append(formula.builder.make(Remember(axis, so_far[axis]), node))
    sizes = {name: Poly.symbol(start) + Poly.symbol(axis) for axis, name in so_far.items()}
    names = {node: node.inputs[0].op.name for node in remembered}  # type: ignore[attr-defined]
    graph = Graph(tuple(remembered), {node.inputs[0]: name for node, name in names.items()})
    length = _length(formula, first)
    told = (fresh_name("length", taken), refused.reason) if length is None else (None, None)
    inputs = {node: node for node in formula.inputs}
    return Again(Recurrence(graph, inputs, axes, start, sizes, length=told[0], told=told[1]), refused.reason, length)


def _tied(formula: Formula) -> set[str]:
    """The axes whose sizes have to do with the length of the sequence."""
    canonical = formula.facts.canonical
    counted = {s for axis in formula.sequence for s in canonical(Poly.symbol(axis)).symbols()}
    counted -= formula.constants.keys()
    axes = {axis for node in formula.graph.nodes() for axis in node.axes}
    return {axis for axis in axes if axis in formula.sequence or canonical(Poly.symbol(axis)).symbols() & counted}


def _length(formula: Formula, axis: str) -> Poly | None:
    """The length of the sequence, where it is known when the module is built."""
    known = {*formula.fixed, *formula.constants}
    size = formula.facts.canonical(Poly.symbol(axis))
    if size.symbols() <= known:
        return size
    name = size.as_symbol()
    for fixed in formula.fixed:
        tied = formula.facts.canonical(Poly.symbol(fixed))
        value = solve(tied - Poly.symbol(fixed), name) if name is not None and name in tied.symbols() else None
        if value is not None and value.symbols() <= known:
            return value
    return None
