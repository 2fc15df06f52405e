"""How many earlier positions a recurrence has to remember, where masks hide all that are further back.

What is reduced over all positions so far is zero outside of a band of positions and the first ones: the masks of the
text say so (`regions`). A sum without terms that are zero is the same sum, and a softmax without entries that are -inf
the same softmax. So what is remembered may leave them out, if nothing else reads it, and if the positions of the rest
are told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .formula import Formula
from .graph import Builder, Graph, Node
from .lowerings.localise import Support
from .lowerings.memory import Remember
from .ops.arithmetic import Add
from .ops.contraction import Contraction
from .ops.layout import Broadcast, Convert, Rename, Reorder
from .ops.leaves import Input, Position, Size
from .ops.logic import Less, Where
from .ops.normalisations import Softmax
from .ops.reductions import Sum
from .ops.selection import Concat
from .regions import Region, Sight
from .sizes import ZERO, Poly


@dataclass(frozen=True)
class Near:
    """What is enough of all earlier positions: the first ones, and the last ones before a piece."""

    first: Poly
    last: Poly

    @property
    def count(self) -> Poly:
        return self.first + self.last


def near(
    formula: Formula,
    graph: Graph,
    axes: Sequence[str],
    originals: Mapping[Node, Iterable[Node]],
    every: Mapping[str, str],
    fronts: Mapping[str, Poly],
) -> Near | None:
    """The earlier positions that the graph of a piece needs; None if all, or if it remembers none.

    axes: those of a piece. originals: the values that the nodes of the graph are pieces of. every: the axis of all
    positions so far for each of these axes, and for those with a prefix in front, whose lengths are `fronts`.
    """
    full = {name: axis for axis, name in every.items()}
    found: list[Near] = []
    remembered = False
    for node in graph.nodes():
        reads = [a for operand in node.inputs for a in operand.axes if a in full]
        has = [axis for axis in node.axes if axis in full]
        if not isinstance(node.op, Position) and any(size.symbols() & full.keys() for size in node.op.scalars()):
            return None
        if not has and not reads:
            continue
        if len(has) > 1 or isinstance(node.op, Input) or (has and node in graph.outputs):
            return None
        if isinstance(node.op, Remember):
            remembered = True
            continue
        if isinstance(node.op, Position) or (has and _each_by_itself(node, {*reads})):
            continue
        if not isinstance(node.op, Softmax | Contraction | Sum) or len({*reads}) != 1 or {*has} - {*reads}:
            return None
        key = full[reads[0]]
        known = {*formula.constants, *formula.fixed}
        each = [_enough(_seen(formula, o, key, axes), fronts.get(key, ZERO), known) for o in originals.get(node, ())]
        if not each or None in each:
            return None
        found += [enough for enough in each if enough is not None]
    if not found or not remembered:
        return None
    return Near(_largest(each.first for each in found), _largest(each.last for each in found))


def _each_by_itself(node: Node, full: set[str]) -> bool:
    """Whether entries along the axes of all positions stay apart, and in their order."""
    op = node.op
    if isinstance(op, Contraction):
        return not full & {*op.axes}
    return isinstance(op, Rename | Concat) or op.elementwise or isinstance(op, Reorder | Broadcast | Convert)


def _seen(formula: Formula, node: Node, key: str, axes: Sequence[str]) -> Region | None:
    """Which keys the queries of a sum or a softmax see."""
    queries = {axis for value in (node, *node.inputs) for axis in value.axes if axis in axes and axis != key}
    if len(queries) != 1:
        return None
    support = Support(Sight(queries.pop(), key, formula.facts, formula.constants))
    return support.of(node) if isinstance(node.op, Softmax) else support.of_product(node.inputs)


def _enough(region: Region | None, front: Poly, known: set[str]) -> Near | None:
    """The positions that a query reads. front: how many entries stand in front of the sequence; known: other sizes."""
    if region is None or region.roll is not None:
        return None
    if region.window is not None:
        last = region.window - 1 if front == ZERO else None
    else:
        last = region.most + front if region.most is not None else None
    first = ZERO if region.columns is None else region.columns - front
    if last is None or not (last.symbols() | first.symbols()) <= known:
        return None
    return Near(first, last)


def _largest(sizes: Iterable[Poly]) -> Poly:
    """The largest of some sizes, and at least none."""
    different = list(dict.fromkeys(sizes))
    return Poly.function("max", ZERO, *different) if different != [ZERO] else ZERO


def shortened(graph: Graph, builder: Builder, kept: Near, start: Poly, full: Mapping[str, Poly]) -> Graph:
    """The graph of a piece with so many earlier positions. full: for the axes of all positions, the prefix in front."""
    skipped = builder.make(Size(start - Poly.function("min", start, kept.count)))
    made: dict[Node, Node] = {}
    for node in graph.nodes():
        operands = tuple(made[operand] for operand in node.inputs)
        op = node.op
        if isinstance(op, Remember):
            op = Remember(op.axis, op.target, kept.first, kept.last)
        made[node] = builder.make(op, *operands) if operands != node.inputs or op is not node.op else node
        if isinstance(op, Position) and op.axis in full:
            later, first = builder.make(Add(), node, skipped), full[op.axis] + kept.first
            unmoved = builder.make(Less(), node, builder.make(Size(first)))
            made[node] = builder.make(Where(), unmoved, node, later) if first != ZERO else later
    names = {made.get(node, node): name for node, name in graph.names.items()}
    return Graph(tuple(made[node] for node in graph.outputs), names)
