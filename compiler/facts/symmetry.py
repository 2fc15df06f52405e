"""Whether positions along an axis are interchangeable: what permuting them does to the results.

An axis and its renamed copies are permuted together, in every input that carries one. A result along such an axis is
then permuted in the same way (equivariant), one without stays as it is (invariant). Proved where no operation reads a
position, an order or a neighbour along the axis and no parameter has an entry for each position; else the first that
does is named.
"""

from __future__ import annotations

from ..formula import Formula
from ..graph import Node
from ..ops.base import Brackets
from ..ops.contraction import Contraction
from ..ops.layout import Broadcast, Convert, Rename, Reorder
from ..ops.leaves import Buffer, Input, Literal, Parameter, Position, Size
from ..ops.normalisations import L1Normalize, L2Normalize, LayerNorm, LogSoftmax, RmsNorm, Softmax
from ..ops.reductions import All, Any, LogSumExp, Max, Mean, Min, Norm, Product, Sum, Variance
from ..ops.segments import SegmentMax, SegmentSoftmax, SegmentSum
from ..report import Symmetry

#: Operations over named axes that treat all positions along them alike.
ALIKE = (
    All, Any, Contraction, L1Normalize, L2Normalize, LayerNorm, LogSoftmax, LogSumExp, Max, Mean, Min, Norm, Product,
    RmsNorm, SegmentMax, SegmentSoftmax, SegmentSum, Softmax, Sum, Variance,
)  # fmt: skip


def symmetries(formula: Formula) -> tuple[Symmetry, ...]:
    """One for each group of sequence axes of the inputs, in the order of the inputs."""
    nodes = formula.graph.nodes()
    groups: dict[str, str] = {}

    def leader(axis: str) -> str:
        while groups.get(axis, axis) != axis:
            axis = groups[axis]
        return axis

    for node in nodes:
        if isinstance(node.op, Rename):
            groups[leader(node.op.source)] = leader(node.op.target)
    carried = dict.fromkeys(a for node in formula.inputs for a in node.axes if a in formula.sequence)
    together: dict[str, list[str]] = {}
    for axis in carried:
        together.setdefault(leader(axis), []).append(axis)
    every = {axis for node in nodes for axis in node.axes}
    found = []
    for first, axes in together.items():
        members = frozenset(axis for axis in every if leader(axis) == first)
        culprit = next((node for node in nodes if _tells_apart(node, members)), None)
        along = any(members & set(node.axes) for node in formula.graph.outputs)
        found.append(Symmetry(tuple(axes), along, culprit))
    return tuple(found)


def _tells_apart(node: Node, axes: frozenset[str]) -> bool:
    """Whether an operation treats positions along one of the axes differently."""
    op = node.op
    if isinstance(op, Input | Literal | Size):
        return False
    if isinstance(op, Parameter | Buffer | Position):
        return bool(axes & set(node.axes))
    if op.elementwise or isinstance(op, (Broadcast, Convert, Rename, Reorder, *ALIKE)):
        return False
    met = set(node.axes).union(*(operand.axes for operand in node.inputs))
    if not met & axes:
        return False
    fields = vars(op)
    names = {name for field in ("axes", "sources", "taps", "summed") for name in fields.get(field, ())}
    names |= {fields[field] for field in ("axis", "source") if field in fields}
    return op.brackets is Brackets.NONE or bool(names & axes)
