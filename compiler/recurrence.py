"""A formula piece by piece: its plan as a graph over the new positions of a sequence and what came before.

The inputs are pieces, any number of positions from one on. Every value is needed in one of two ways along an axis of
the sequence: at the positions of the piece, along the axis itself, or at all positions so far, along an axis of its
own. What works on each position by itself needs pieces only. An operation with a recurrence (a scan, a running sum)
goes on from its state. Any other that mixes positions needs all of them: what it reads is remembered, as the keys and
values of a cache.

The result is a graph of the same nodes as any plan. It is right because the formula is causal: its value at a position
is the same on the sequence so far as on all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from math import prod

from .facts.dependence import Dependence, Paths, Reach, looks_back, moved_along
from .formula import Formula
from .graph import Builder, Graph, GraphTooLarge, Node
from .growing import Growing, apart, growing, in_whole_blocks
from .lowerings.batches import OverBatch
from .lowerings.fused import FusedSoftmax
from .lowerings.lowering import Lowering
from .lowerings.memory import Continued, Recent, Remember
from .lowerings.toeplitz import ToeplitzProduct
from .nearby import near, shortened
from .ops.arithmetic import Add
from .ops.base import Carried, Op
from .ops.contraction import Contraction
from .ops.convolution import Convolution
from .ops.layout import Broadcast, Convert, Merge, Rename, Reorder, Split
from .ops.leaves import Input, Position, Size
from .ops.ordering import Top
from .ops.selection import Shift, Slice, Windows
from .scan import Scan, deep
from .sizes import ZERO, Poly, Truth

#: Fields of operations that are names of something else than axes.
_NO_AXES = frozenset({"kernel", "name", "given"})


@dataclass(frozen=True)
class Refusal:
    """Why a formula cannot go piece by piece, and the value that is to blame; None if it is the whole of it."""

    reason: str
    culprit: Node | None = None


@dataclass(frozen=True)
class Recurrence:
    """A formula piece by piece.

    graph: what computes the piece of each result. inputs: every input as a piece: one with two axes of the sequence,
    as a mask, has rows for the new positions and columns for all positions so far.
    axes: those that run along the piece. start: the name of the size that says how many positions came before.
    sizes: those of the axes that the recurrence adds, as that of all positions so far.
    blocks, block: axes with an entry for every block of so many positions. Where there are any, the graph is that of
    whole blocks: a piece and the number of positions before it are multiples of `block`.
    length: the name of the size that says how long the whole sequence is, where a value reads it; told: which one.
    """

    graph: Graph
    inputs: Mapping[Node, Node]
    axes: tuple[str, ...]
    start: str
    sizes: Mapping[str, Poly]
    blocks: tuple[str, ...] = ()
    block: Poly | None = None
    length: str | None = None
    told: str | None = None

    @property
    def cut(self) -> list[Node]:
        """The inputs that go into the graph by whole blocks; none where there are no blocks."""
        along = [node for node in self.inputs.values() if {*node.axes} & {*self.axes}]
        return along if self.block is not None else []

    def carried(self) -> list[tuple[Node, tuple[Carried, ...]]]:
        """The values that hand something on from piece to piece, in the order of evaluation, and what."""
        found = ((node, node.op.carried(node.type, *(o.type for o in node.inputs))) for node in memories(self.graph))
        return list(found)


def memories(graph: Graph) -> list[Node]:
    """The values of a recurrence that hand something on from piece to piece, in the order of evaluation."""
    return [node for node in graph if isinstance(node.op, Continued | Remember | Recent)]


def elements(found: Recurrence) -> Poly | None:
    """The elements of a state for one batch entry, but for numbers of positions; None where it grows, or has blocks."""
    growing = {*found.axes, *found.sizes, found.start}
    shapes = [tensor.shape for _, tensors in found.carried() for tensor in tensors]
    if found.cut or any(size.symbols() & growing for shape in shapes for size in shape):
        return None
    return sum((prod(shape, start=Poly.constant(1)) for shape in shapes), ZERO)


def remembered(found: Recurrence) -> list[str]:
    """What each tensor of the state holds, with its shape behind the dimensions of the batch."""
    texts = []
    for node in found.cut:
        shape = ", ".join(("..." if node.type.batched else "", *node.axes)).removeprefix(", ")
        texts.append(f"{node.op.name}, of the last block while it is not complete: [{shape}]")  # type: ignore[attr-defined]
    for node, tensors in found.carried():
        op = node.op.op if isinstance(node.op, Continued) else node.op
        subject = op.rule if isinstance(op, Lowering) else op.spelling
        if isinstance(op, Remember | Recent):
            subject = found.graph.names.get(node.inputs[0], "") or "a value"
        for tensor in tensors:
            shape = ", ".join(("..." if node.type.batched else "", *map(str, tensor.shape))).removeprefix(", ")
            texts.append(f"{subject}, {tensor.what}: [{shape}]")
    return texts


def recurrence(formula: Formula, graph: Graph) -> Recurrence | Refusal:
    """A graph of the formula, as written or planned, piece by piece; or why it cannot be."""
    if _of_whole_sequences(formula, graph):
        graph = formula.graph  # as written it is a sum over earlier positions
    found = _of_any_length(formula, graph)
    if not isinstance(found, Refusal) or Dependence(formula).culprit() is not None:
        return found
    return _of_told_length(formula, graph, found)


def _of_told_length(formula: Formula, graph: Graph, refused: Refusal) -> Recurrence | Refusal:
    """The same where values read the length of the whole sequence: a number that is told before the first position.

    Why: for sequences of one length it is a constant, and the formula with this constant is causal.
    """
    taken = taken_names(formula, formula.graph, graph)
    name = fresh_name("length", taken)
    size = next((c for axis in formula.sequence if (c := formula.facts.canonical(Poly.symbol(axis))).symbols()), None)
    symbol = size.as_symbol() if size is not None else None
    if symbol is None or symbol in formula.constants or symbol in formula.fixed:
        return refused

    def told(each: Graph) -> Graph:
        made: dict[Node, Node] = {}
        for node in each.nodes():
            op, operands = node.op, tuple(made[operand] for operand in node.inputs)
            if isinstance(op, Size):
                size = formula.facts.canonical(op.size)
                whole = size.substitute({symbol: Poly.symbol(name)})
                op = replace(op, size=whole) if whole != size and whole.is_integral() else op
            made[node] = formula.builder.make(op, *operands) if op != node.op or operands != node.inputs else node
        names = {made[node]: text for node, text in each.names.items() if node in made}
        return Graph(tuple(made[node] for node in each.outputs), names)

    written = told(formula.graph)
    if written.outputs == formula.graph.outputs:
        return refused
    found = _of_any_length(replace(formula, graph=written), told(graph))
    if isinstance(found, Refusal) or found.blocks:
        return refused
    return replace(found, length=name, told=refused.reason)


def _of_any_length(formula: Formula, graph: Graph) -> Recurrence | Refusal:
    """A recurrence whose values are the same however long the sequence becomes; or why there is none."""
    grows = growing(formula, formula.graph, graph)
    written = formula.graph
    if grows.blocks:
        written, graph = (in_whole_blocks(each, formula.builder, grows) for each in (written, graph))
    refused = _refusal(formula, written, graph, grows)
    if refused is not None:
        return refused
    if grows.behind:
        graph = apart(graph, formula.builder, grows)
    try:
        return _Steps(formula, graph, grows).run()
    except _Refused as error:
        return error.refusal
    except GraphTooLarge as error:
        return Refusal(f"piece by piece it has {error}")


def taken_names(formula: Formula, *graphs: Graph) -> set[str]:
    """The names of axes, sizes and constants."""
    axes = {axis for graph in graphs for node in graph.nodes() for axis in node.axes}
    return axes.union(formula.bound, formula.derived, formula.fixed, formula.constants)


def fresh_name(wanted: str, taken: set[str]) -> str:
    """A name that is not taken, from here on taken."""
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    taken.add(name)
    return name


def _of_whole_sequences(formula: Formula, graph: Graph) -> bool:
    """Whether a plan has axes that the text has not and that grow: lags of a transform, blocks of queries.

    A copy of an axis of the sequence is none of them; the lags of a causal transform, as many as positions, are.
    """
    if any(isinstance(node.op, ToeplitzProduct) for node in graph):
        return True
    canonical, equal = formula.facts.canonical, formula.facts.equal
    counted = {s for axis in formula.sequence for s in canonical(Poly.symbol(axis)).symbols()}
    counted -= formula.constants.keys()
    made = {axis for node in graph for axis in node.axes} - {axis for node in formula.graph for axis in node.axes}
    own = [Poly.symbol(axis) for axis in formula.sequence]
    made = {axis for axis in made if all(equal(Poly.symbol(axis), size) is not Truth.YES for size in own)}
    return any(canonical(Poly.symbol(axis)).symbols() & counted for axis in made)


class _Refused(Exception):
    def __init__(self, reason: str, culprit: Node | None = None) -> None:
        super().__init__(reason)
        self.refusal = Refusal(reason, culprit)


# -- what cannot be --------------------------------------------------------------------------------------


def _refusal(formula: Formula, written: Graph, graph: Graph, grows: Growing) -> Refusal | None:
    if not formula.sequence:
        return Refusal("there is no sequence axis to step along")
    found = Dependence(formula).culprit()
    if found is not None:
        return Refusal(f"it is not causal: {found[1]}", found[0])
    facts, length, axes = formula.facts, grows.length, grows.axes
    for stored in (*formula.parameters, *formula.buffers):
        tied = [a for a in stored.node.axes if facts.canonical(Poly.symbol(a)).symbols() & length]
        if tied:
            return Refusal(f"`{stored.node.op.name}` has the axis `{tied[0]}`, which fixes the length", stored.node)  # type: ignore[attr-defined]
    if not length:
        return Refusal("the formula fixes the length of the sequence")
    for node in deep(written):
        for size in () if isinstance(node.op, Scan) else node.op.scalars():  # those of a step are its nodes'
            if facts.canonical(size).symbols() & length:
                return Refusal(f"`{size}` reads the length of the sequence", node)
    known = {*axes, *grows.blocks, *grows.behind}
    for node in (*deep(written), *deep(graph)):
        for axis in node.axes:
            if axis not in known and facts.canonical(Poly.symbol(axis)).symbols() & length:
                return Refusal(f"the length of `{axis}` depends on that of the sequence", node)
        if isinstance(node.op, Split | Merge) and length & _symbols(formula, node) and not grows.cuts(node.op):
            return Refusal("where a position comes to stand depends on the length of the sequence", node)
    found = Dependence(formula, positions=True).culprit()
    if found is not None:
        return Refusal(f"it reads positions that have not come yet: {found[1]}", found[0])
    if not any(axis in axes for node in formula.inputs for axis in node.axes):
        return Refusal("no input runs along the sequence")
    for node in formula.inputs if grows.blocks else ():
        along = [axis for axis in node.axes if axis in known]
        if along and (len(along) > 1 or along[0] not in axes):
            return Refusal(f"`{node.op.name}` has the axis `{along[-1]}`, and a step takes positions", node)  # type: ignore[attr-defined]
    return None


def _symbols(formula: Formula, cut: Node) -> set[str]:
    """What the sizes of the axes that are cut or joined are made of."""
    op = cut.op
    assert isinstance(op, Split | Merge)
    axes = (op.source, *op.targets) if isinstance(op, Split) else (*op.sources, op.target)
    return {symbol for axis in axes for symbol in formula.facts.canonical(Poly.symbol(axis)).symbols()}


# -- the graph -------------------------------------------------------------------------------------------

Wanted = tuple[Node, frozenset[str]]  # a value, and the axes along which all positions so far are wanted


class _Missing(Exception):
    def __init__(self, wanted: list[Wanted]) -> None:
        super().__init__()
        self.wanted = wanted


@dataclass
class _Steps:
    formula: Formula
    graph: Graph
    grows: Growing
    builder: Builder = field(init=False)
    axes: tuple[str, ...] = field(init=False)  # of positions, and of blocks of them
    made: dict[Wanted, Node] = field(default_factory=dict)
    inputs: dict[Node, Node] = field(default_factory=dict)
    sizes: dict[str, Poly] = field(default_factory=dict)
    names: dict[Node, str] = field(default_factory=dict)

    blocks_before: str = ""
    again: set[Node] = field(default_factory=set)  # values whose piece is the end of all of them
    every: dict[str, str] = field(default_factory=dict)  # the axis of all positions so far, for each axis of a piece
    moving: set[Node] = field(default_factory=set)  # values that have to do with positions

    def __post_init__(self) -> None:
        self.builder = self.formula.builder
        self.axes = (*self.grows.axes, *self.grows.blocks)
        nodes = self.graph.nodes()
        self.taken = taken_names(self.formula, self.graph)
        self.start = self._fresh("start")
        for node in nodes:
            along = any(axis in self.axes or axis in self.grows.behind for axis in node.axes)
            if along or any(operand in self.moving for operand in node.inputs):
                self.moving.add(node)
        self.names |= {node: name for node, name in self.graph.names.items() if node not in self.moving}
        self.dependence = _PlanDependence(self.formula, self.graph, positions=True)

    def run(self) -> Recurrence:
        outputs = []
        for node in self.graph.outputs:
            along = [axis for axis in node.axes if axis in self.axes]
            if not along:
                raise _Refused("a result has no sequence axis", node)
            outputs.append(self._at(node, frozenset(along[1:])))
        inputs = {node: self.inputs.get(node) or self._unread(node) for node in self.formula.inputs}
        if not any(axis in self.axes for node in inputs.values() for axis in node.axes):
            raise _Refused("no input runs along the sequence")
        grows = self.grows
        graph = self._shortened(Graph(tuple(outputs), self.names))
        return Recurrence(graph, inputs, grows.axes, self.start, self.sizes, grows.blocks, grows.block)

    def _shortened(self, graph: Graph) -> Graph:
        """The graph without the earlier positions that nothing reads."""
        originals: dict[Node, list[Node]] = {}
        for (node, _), result in self.made.items():
            originals.setdefault(result, []).append(node)
        fronts = {axis: front for axis, (front, _) in self.grows.behind.items()}
        if self.grows.blocks or not self.every:
            return graph
        kept = near(self.formula, graph, self.axes, originals, self.every, fronts)
        if kept is None:
            return graph
        start = Poly.symbol(self.start)
        for axis, name in self.every.items():
            if axis not in fronts:
                self.sizes[name] = Poly.function("min", start, kept.count) + Poly.symbol(axis)
        full = {name: fronts.get(axis, ZERO) for axis, name in self.every.items()}
        return shortened(graph, self.builder, kept, start, full)

    def _fresh(self, wanted: str) -> str:
        return fresh_name(wanted, self.taken)

    def _all(self, axis: str) -> str:
        """The axis of all positions so far."""
        if axis not in self.every:
            self.every[axis] = self._fresh(f"{axis}_all")
            if axis in self.grows.behind:
                front, source = self.grows.behind[axis]
                self.sizes[self.every[axis]] = front + Poly.symbol(self._all(source))
            else:
                self.sizes[self.every[axis]] = self._before(axis) + Poly.symbol(axis)
        return self.every[axis]

    def _before(self, axis: str) -> Poly:
        """How many entries of an axis came before the piece."""
        if axis not in self.grows.blocks:
            return Poly.symbol(self.start)
        if not self.blocks_before:
            self.blocks_before = self._fresh("blocks_before")
            self.sizes[self.blocks_before] = Poly.symbol(self.start) * self.grows.ratio(axis)
        return Poly.symbol(self.blocks_before)

    # -- one value -----------------------------------------------------------------------------------------

    def _at(self, node: Node, full: frozenset[str]) -> Node:
        """The value with all positions so far along `full`, the piece along its other axes of the sequence."""
        stack: list[Wanted] = [(node, full)]
        opened: set[Wanted] = set()  # those that wait for others
        while stack:
            wanted = stack[-1]
            if wanted in self.made:
                stack.pop()
                continue
            try:
                result = self._make(*wanted)
            except _Missing as missing:
                if opened.isdisjoint(missing.wanted):
                    opened.add(wanted)
                    stack.extend(missing.wanted)
                else:  # a piece that is the end of all positions, which wait for the piece: compute them
                    self.again.add(wanted[0])
                    opened.discard(wanted)
                    stack.pop()
                continue
            self.made[wanted] = result
            opened.discard(wanted)
            name = self.graph.names.get(wanted[0])
            if name is not None:
                known = not wanted[1] or any(axis in self.axes for axis in result.axes)
                self.names.setdefault(result, name if known else f"{name}_all")
            stack.pop()
        return self.made[node, full]

    def _get(self, *wanted: tuple[Node, Iterable[str]]) -> list[Node]:
        """Values that have been made. Each is wanted along those of the axes that it has."""
        exact = [(node, frozenset(full) & {*node.axes}) for node, full in wanted]
        missing = [each for each in exact if each not in self.made]
        if missing:
            raise _Missing(missing)
        return [self.made[each] for each in exact]

    def _make(self, node: Node, full: frozenset[str]) -> Node:
        op = node.op
        if node not in self.moving:
            return node
        if isinstance(op, Input):
            return self._input(node, op, full)
        if isinstance(op, Position):
            if full or op.axis in self.grows.behind:
                return self.builder.make(Position(self._all(op.axis)))
            start = self.builder.make(Size(self._before(op.axis)))
            return self.builder.make(Add(), self.builder.make(Position(op.axis)), start)
        if isinstance(op, Rename):
            back = {op.target: op.source}
            [x] = self._get((node.inputs[0], [back.get(axis, axis) for axis in full]))
            both = op.target in full or op.target in self.grows.behind
            return self.builder.make(Rename(self._all(op.source), self._all(op.target)) if both else op, x)
        cut = self.grows.cuts(op)
        if cut:
            other = {**cut, **{part: whole for whole, part in cut.items()}}
            [x] = self._get((node.inputs[0], {*full, *(other[axis] for axis in full if axis in other)}))
            both_full = {*full, *(other[axis] for axis in full if axis in other)}
            return self.builder.make(self._named(op, both_full), x)
        along = [axis for axis in node.axes if axis in self.axes]
        if full and len(along) == 1 and self._worth_keeping(node):
            [piece] = self._get((node, ()))
            return self.builder.make(Remember(along[0], self._all(along[0])), piece)
        return self._mixing(node, full)

    def _input(self, node: Node, op: Input, full: frozenset[str]) -> Node:
        along = [axis for axis in op.axes if axis in self.axes]
        if len(along) < 2:
            if not full:
                self.inputs[node] = node
                return node
            [piece] = self._get((node, ()))
            return self.builder.make(Remember(along[0], self._all(along[0])), piece)
        if len(along) - len(full) > 1:
            return self._tail(node, full, [along[1]])
        if len(along) == len(full):
            raise _Refused(f"all rows of `{op.name}` are needed at every step", node)
        made = self.builder.make(self._named(op, full))
        if self.inputs.setdefault(node, made) is not made:
            raise _Refused(f"`{op.name}` is needed by rows and by columns", node)
        return made

    def _unread(self, node: Node) -> Node:
        """An input that does not matter, as a piece."""
        along = [axis for axis in node.axes if axis in self.axes]
        return self.builder.make(self._named(node.op, frozenset(along[1:]))) if len(along) > 1 else node

    def _mixing(self, node: Node, full: frozenset[str]) -> Node:
        """A value by what its operation does along the sequence."""
        op, inputs = node.op, node.inputs
        mixed = {axis for axis in _mixed(op, node) if axis in self.axes}
        if mixed and not mixed & full:
            onward = self._onward(node, mixed)
            if onward is not None:
                return onward
        if isinstance(op, Scan) and not mixed & full:
            raise _Refused("a step of the scan reads all positions", node)
        lasting = mixed & {*node.axes}
        if lasting - full:
            return self._tail(node, full, sorted(lasting - full))
        along = full | mixed
        named = self._named(op, along)
        if isinstance(named, FusedSoftmax) and named.causal and named.query in self.axes:
            named = replace(named, late=True)
        if isinstance(named, Top) and mixed:  # of fewer positions so far all are taken
            named = replace(named, count=Poly.function("min", named.count, Poly.symbol(named.axis)))
        return self.builder.make(named, *self._get(*((operand, along) for operand in inputs)))

    def _onward(self, node: Node, mixed: set[str]) -> Node | None:
        """The piece of a value that goes on from a state; None if it has none of fixed size."""
        op, inputs = node.op, node.inputs
        have = {axis for value in (node, *inputs) for axis in value.axes if axis in self.axes}
        if not all(self._lasts(operand) for operand in inputs):
            return None
        along = {*op.follows().keys(), *op.follows().values()}
        if have <= along and op.carried(node.type, *(operand.type for operand in inputs)):
            return self.builder.make(Continued(op), *self._get(*((operand, ()) for operand in inputs)))
        if len(have) > 1 or not isinstance(op, Shift | Convolution | Windows):
            return None
        reach = _reach(op)
        if reach is None:
            return None
        [axis] = have
        x, *rest = self._get(*((operand, ()) for operand in inputs))
        if reach == Poly.constant(0) and isinstance(op, Shift):
            return x
        near = self._fresh(f"{axis}_near")
        self.sizes[near] = Poly.symbol(axis) + reach
        recent = self.builder.make(Recent(axis, near, reach), x)
        if isinstance(op, Shift):
            return self.builder.make(Slice(near, axis), recent)
        assert op.start is not None
        if isinstance(op, Windows):
            return self.builder.make(replace(op, source=near, start=op.start + reach), recent)
        return self.builder.make(replace(op, sources=(near,), start=op.start + reach), recent, *rest)

    def _tail(self, node: Node, full: frozenset[str], along: Iterable[str]) -> Node:
        """The piece of a value that has to be computed at all positions so far."""
        [whole] = self._get((node, full | {*along}))
        for axis in along:
            whole = self.builder.make(Slice(self._all(axis), axis, self._before(axis)), whole)
        return whole

    # -- what is known of a value ---------------------------------------------------------------------------

    def _lasts(self, node: Node) -> bool:
        """Whether what is known of the value at a position does not change when the sequence goes on."""
        if node not in self.moving:
            return True
        along = [axis for axis in node.axes if axis in self.axes]
        blocks = len(along) == 1 and along[0] in self.grows.blocks  # of which a piece has whole ones
        return len(along) == 1 and all(
            (path.own[:1] if blocks else path.own) == (along[0],) and path.reach is not Reach.ALL
            for path in self.dependence.paths[node]
            if path.source in self.axes or path.source in self.grows.behind
        )

    def _worth_keeping(self, node: Node) -> bool:
        """Whether all positions of a value are better remembered than computed again."""
        op = node.op
        if not node.type.batched or node in self.again or isinstance(op, Reorder | Broadcast | Convert | OverBatch):
            return False
        if not self._lasts(node):
            return False
        # a product that has more elements than what it is made of is made again
        return not (op.elementwise and all(len(operand.axes) < len(node.axes) for operand in node.inputs))

    def _named(self, op: Op, full: Iterable[str]) -> Op:
        """The operation with axes of all positions so far where the axis is one of `full`."""
        names = {axis: self._all(axis) for axis in full}
        names |= {axis: self._all(axis) for axis in self.grows.behind}
        if not names:
            return op
        changed: dict[str, object] = {}
        for each in fields(op):
            value = getattr(op, each.name)
            if each.name in _NO_AXES:
                continue
            if isinstance(value, str):
                changed[each.name] = names.get(value, value)
            elif isinstance(value, tuple) and all(isinstance(item, str) for item in value):
                changed[each.name] = tuple(names.get(item, item) for item in value)
            elif isinstance(value, Poly):
                changed[each.name] = value.substitute({axis: Poly.symbol(name) for axis, name in names.items()})
        return replace(op, **changed)


def _mixed(op: Op, node: Node) -> Iterable[str]:
    """The axes along which an operation moves or mixes elements."""
    if op.elementwise or isinstance(op, Reorder | Broadcast | Convert | OverBatch):
        return ()
    if isinstance(op, Contraction):
        return op.axes
    if isinstance(op, FusedSoftmax):
        return (op.key,)
    if op.follows():
        return (*op.follows().keys(), *op.follows().values())
    found = moved_along(op)
    return found if found is not None else {axis for operand in node.inputs for axis in operand.axes}


def _reach(op: Shift | Convolution | Windows) -> Poly | None:
    """How many positions back an operation reads; None if it may read later ones."""
    if isinstance(op, Shift):
        by = op.by.as_number()
        return op.by if by is not None and by >= 0 else None
    return -op.start if looks_back(op) is not None and op.start is not None else None


class _PlanDependence(Dependence):
    """The same analysis of a plan, which also has operations that no text spells."""

    def _paths(self, node: Node) -> Paths:
        if isinstance(node.op, OverBatch):  # of the others it has the batch only
            return dict(self.paths[node.inputs[0]])
        if isinstance(node.op, FusedSoftmax) and "mask" in node.op.given:
            key, query = node.op.key, node.op.query
            if any((order.later, order.earlier) == (query, key) for order in self.support(node.inputs[3])):
                merged = {path: cause for operand in node.inputs for path, cause in self.paths[operand].items()}
                return self._seen(node, merged, {key: query})
        return super()._paths(node)
