"""How the sizes of axes follow from the length of the sequence, as far as a step can do with it.

An axis is as long as the sequence; or it has an entry for every block of so many positions; or it lays a prefix of
fixed length and one of these end to end. Of any other size nothing can be said before the sequence has ended.

Where the last block may be ragged (G = ceil(N / 64), and the sequence is padded to G * 64), a step of whole blocks pads
nothing. What a formula says of ragged lengths follows, since it is causal: what is padded comes later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace

from .formula import Formula
from .graph import Builder, Graph, Node
from .ops.base import Op
from .ops.contraction import Contraction
from .ops.layout import Convert, Merge, Rename, Reorder, Split
from .ops.selection import Concat, Pad, Slice
from .sizes import ZERO, Atom, Poly, SizeError, Truth


@dataclass(frozen=True)
class Growing:
    """The axes of a formula that grow with the sequence.

    length: the symbols that the length of the sequence is made of.
    axes: those as long as the sequence, or as what it is padded to, for whole blocks the same.
    blocks: those with an entry for every block of `block` positions.
    behind: for an axis with a prefix of fixed length, that length and the axis behind it.
    """

    length: frozenset[str] = frozenset()
    axes: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    block: Poly | None = None
    behind: Mapping[str, tuple[Poly, str]] = field(default_factory=dict)

    def ratio(self, axis: str) -> Poly:
        """Entries of an axis for each position of the sequence."""
        return Poly.constant(1) / self.block if self.block is not None and axis in self.blocks else Poly.constant(1)

    def cuts(self, op: Op) -> dict[str, str]:
        """The axis of positions and that of blocks, where an operation cuts the one into the other or joins them."""
        match op:
            case Split(whole, parts) | Merge(parts, whole):
                if whole in self.axes and parts[0] in self.blocks and not {*parts[1:]} & {*self.axes, *self.blocks}:
                    return {whole: parts[0]}
        return {}


def growing(formula: Formula, *graphs: Graph) -> Growing:
    """The axes that grow in these ways. Without a sequence: nothing."""
    facts = formula.facts

    def size(axis: str) -> Poly:
        return facts.canonical(Poly.symbol(axis)).substitute(whole)

    whole: dict[str, Poly] = {}
    nodes = [node for graph in graphs for node in graph]
    every = dict.fromkeys(axis for node in nodes for axis in node.axes)
    counted = {s for axis in formula.sequence for s in size(axis).symbols()} - formula.constants.keys()
    first = next((axis for axis in graphs[-1].outputs[0].axes if size(axis).symbols() & counted), None)
    if first is None:
        return Growing()
    named = size(first).symbols() - formula.constants.keys()
    rounded = next((c for axis in every if (c := _rounded_up(size(axis), size(first), named)) is not None), None)
    length = named
    if rounded is not None:  # sizes as they are when the sequence is whole blocks
        number = "number of blocks"  # no axis is called so
        whole = {str(size(first).as_symbol()): rounded * Poly.symbol(number)}
        length = frozenset({number})
    same = (axis for axis in every if facts.equal(Poly.symbol(axis), Poly.symbol(first)) is Truth.YES)
    axes = tuple(dict.fromkeys((first, *same, *(axis for axis in every if size(axis) == size(first)))))
    others = [axis for axis in every if axis not in axes and size(axis).symbols() & length]
    blocks = {axis: count for axis in others if (count := _positions(size(first), size(axis), length)) is not None}
    laid: dict[str, set[tuple[str, ...]]] = {}
    for node in nodes:
        if isinstance(node.op, Concat):
            laid.setdefault(node.op.target, set()).add(node.op.sources)
    behind: dict[str, tuple[Poly, str]] = {}
    for axis in others:
        if axis in blocks:
            continue
        found = {_prefix(sources, {*axes, *blocks}, size, length) for sources in laid.get(axis, ())}
        prefix = next(iter(found)) if len(found) == 1 else None
        if prefix is not None:
            behind[axis] = prefix
    block = next(iter(blocks.values()), None)
    same_blocks = tuple(axis for axis, count in blocks.items() if count == block)
    return Growing(named, axes, same_blocks, block, behind)


def _rounded_up(size: Poly, whole: Poly, length: frozenset[str]) -> Poly | None:
    """The length of blocks of which a size counts also one that is not full."""
    if whole.as_symbol() is None:
        return None
    atoms = (atom for monomial in size.terms for atom, _ in monomial if isinstance(atom, Atom))
    found = (_positions(whole, atom.arguments[0], length) for atom in atoms if atom.function == "ceil")
    return next((count for count in found if count is not None), None)


def _positions(whole: Poly, size: Poly, length: frozenset[str]) -> Poly | None:
    """How many positions there are for each entry of an axis; None if that is no whole number for all lengths."""
    try:
        count = whole / size
    except SizeError:
        return None
    return count if not count.symbols() & length and count.is_integral() else None


def _prefix(
    sources: tuple[str, ...], known: set[str], size: Callable[[str], Poly], length: frozenset[str]
) -> tuple[Poly, str] | None:
    """The length of what stands in front of the sequence, and its axis, where that is all that grows."""
    *front, last = sources
    if last not in known or any(size(axis).symbols() & length for axis in front):
        return None
    return sum(map(Poly.symbol, front), ZERO), last


def in_whole_blocks(graph: Graph, builder: Builder, grows: Growing) -> Graph:
    """The graph for whole blocks of positions: nothing is padded, and no padding is cut off."""
    made: dict[Node, Node] = {}
    for node in graph.nodes():
        operands = tuple(made[operand] for operand in node.inputs)
        op = node.op
        if isinstance(op, Pad | Slice) and op.source in grows.axes and op.target in grows.axes and _starts_alike(op):
            op = Rename(op.source, op.target)
        made[node] = builder.make(op, *operands) if operands != node.inputs or op is not node.op else node
    names = {made.get(node, node): name for node, name in graph.names.items()}
    return Graph(tuple(made[node] for node in graph.outputs), names)


def _starts_alike(op: Pad | Slice) -> bool:
    """Whether position n of the result is position n of the operand, as far as both go."""
    start = op.before if isinstance(op, Pad) else op.start
    return start == ZERO and (isinstance(op, Pad) or op.stride == Poly.constant(1))


def apart(graph: Graph, builder: Builder, grows: Growing) -> Graph:
    """The graph with what works on each position by itself done before a prefix is put in front of the sequence.

    Why: f(concat(a, b)) = concat(f(a), f(b)); then what is remembered are the values behind f, not those in front.
    """
    made: dict[Node, Node] = {}
    parts: dict[Node, tuple[str, tuple[str, ...], tuple[Node, ...]]] = {}
    for node in graph.nodes():
        operands = tuple(made[operand] for operand in node.inputs)
        made[node] = builder.make(node.op, *operands) if operands != node.inputs else node
        if isinstance(node.op, Concat) and node.op.target in grows.behind:
            parts[node] = node.op.target, node.op.sources, operands
            continue
        divided = _divided(node, operands, parts, builder)
        if divided is not None:
            axis, sources, pieces = divided
            joined = builder.make(Concat(sources, axis), *pieces)
            if joined.type == node.type:
                made[node], parts[node] = joined, divided
    names = {made.get(node, node): name for node, name in graph.names.items()}
    return Graph(tuple(made[node] for node in graph.outputs), names)


def _divided(
    node: Node,
    operands: tuple[Node, ...],
    parts: Mapping[Node, tuple[str, tuple[str, ...], tuple[Node, ...]]],
    builder: Builder,
) -> tuple[str, tuple[str, ...], tuple[Node, ...]] | None:
    """A value as the parts that it is made of, if its operation works on each of them by itself."""
    op = node.op
    along = {parts[operand][:2] for operand in node.inputs if operand in parts}
    if len(along) != 1 or not (op.elementwise or isinstance(op, Contraction | Reorder | Convert)):
        return None
    [(axis, sources)] = along
    if isinstance(op, Contraction) and axis in op.axes:
        return None
    whole = [operand for operand in node.inputs if operand not in parts]
    if any(axis in operand.axes or {*sources} & {*operand.axes} for operand in whole):
        return None
    pieces = []
    for index, source in enumerate(sources):
        given = [parts[o][2][index] if o in parts else new for o, new in zip(node.inputs, operands, strict=True)]
        pieces.append(builder.make(_along(op, axis, source), *given))
    return axis, sources, tuple(pieces)


def _along(op: Op, axis: str, other: str) -> Op:
    """The operation with one axis in place of another."""
    changed: dict[str, object] = {}
    for each in fields(op):
        value = getattr(op, each.name)
        if isinstance(value, tuple) and axis in value:
            changed[each.name] = tuple(other if item == axis else item for item in value)
    return replace(op, **changed)
