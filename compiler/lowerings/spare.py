"""One more block of queries in local sums, for targets that trace.

A trace asks whether a dimension is 1, and holds the program to the answer. The number of blocks is 1 for short
sequences, so there a plan gets one block more: a copy of the last, which is cut off with what fills the last one up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..formula import Formula
from ..graph import Graph, Node
from ..ops.leaves import Position, Size
from ..ops.pairs import Minimum
from ..scan import Scan, deep
from ..sizes import Atom, Poly


def with_spare_blocks(formula: Formula, graph: Graph) -> tuple[Formula, Graph]:
    """The formula, whose derived sizes count one more block, and the plan over these blocks."""
    within = {axis for node in _inside(graph.nodes()) for axis in node.axes}
    counts = {
        axis: size
        for axis, size in formula.derived.items()
        if axis in formula.introduced and axis not in within and _rounded_up(size)
    }
    if not counts:
        return formula, graph
    make = formula.builder.make
    made: dict[Node, Node] = {}
    for node in graph.nodes():
        if isinstance(node.op, Position) and node.op.axis in counts:
            last = make(Size(counts[node.op.axis] - 1))
            made[node] = make(Minimum(), make(node.op), last)
        else:
            made[node] = make(node.op, *(made[operand] for operand in node.inputs))
    names = {made[node]: name for node, name in graph.names.items() if node in made}
    derived = {**formula.derived, **{axis: size + 1 for axis, size in counts.items()}}
    outputs = tuple(made[output] for output in graph.outputs)
    return replace(formula, derived=derived), Graph(outputs, names)


def _inside(nodes: Iterable[Node]) -> list[Node]:
    """What the steps of recurrences compute: their loops are not over blocks."""
    return [inner for node in nodes if isinstance(node.op, Scan) for inner in deep(node.op.step.nodes())]


def _rounded_up(size: Poly) -> bool:
    """Whether a size is a number of blocks of which the last may be ragged."""
    if len(size.terms) != 1:
        return False
    [(monomial, coefficient)] = size.terms.items()
    if coefficient != 1 or len(monomial) != 1 or monomial[0][1] != 1:
        return False
    atom = monomial[0][0]
    return isinstance(atom, Atom) and atom.function == "ceil"
