"""What is known of a formula besides its types and costs, for those who ask: `explain` and JSON."""

from __future__ import annotations

from .facts.cost import Sequence
from .facts.gradients import unreached
from .facts.passes import passes
from .facts.reach import reached
from .facts.rows import weights
from .facts.symmetry import symmetries
from .formula import Formula
from .graph import Graph
from .report import Passes, Properties


def properties(formula: Formula, plan: Graph) -> Properties:
    """Every property of a formula and of what is run for it."""
    axes = frozenset(Sequence(formula).axes)
    counted = []
    for node, axis in ((each, axis) for each in formula.inputs for axis in each.axes if axis in axes):
        written, compiled = passes(formula.graph, node, axis), passes(plan, node, axis)
        if written is not None and compiled is not None:
            counted.append(Passes(getattr(node.op, "name", ""), axis, written, compiled))
    dead = tuple(getattr(found.node.op, "name", "") for found in unreached(formula))
    return Properties(tuple(counted), reached(formula), symmetries(formula), weights(formula, axes), dead)
