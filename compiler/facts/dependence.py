"""Which positions of an input a value depends on: the same one, earlier ones, or all.

A value is described by paths: (own digits, input axis, reach). `((N,), M, EARLIER)` says that the element at position
n along N depends on positions m <= n of an input's axis M. Where an axis was split, its position has several digits:
`((G, S), M, SAME)` says that the element at (g, s) depends on position g*S + s. A digit `?S` is lost: any of that size.
`((G, ?S), M, BEFORE)` is then every position of the blocks before g. A path without digits says that every element
depends on every position. The analysis is sound: what it does not understand depends on everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from ...grammar.source import Span
from ..formula import Formula
from ..graph import Graph, Node
from ..ops.arithmetic import Add, Subtract
from ..ops.base import Brackets, Op
from ..ops.contraction import Contraction
from ..ops.convolution import Convolution
from ..ops.functions import Abs, Erf, Sign, Sin, Softsign, Sqrt, Square, Tanh
from ..ops.layout import Broadcast, Convert, Merge, Rename, Reorder, Split
from ..ops.leaves import Input, Literal, Position
from ..ops.logic import And, Not, Where
from ..ops.normalisations import L1Normalize, L2Normalize, LogSoftmax, Softmax
from ..ops.ordering import Top
from ..ops.reductions import Any, LogSumExp, Max, Mean, Min, Norm, Product, Sum
from ..ops.segments import SegmentSoftmax, SegmentSum
from ..ops.selection import Concat, Pad, Shift, Slice, Take, Windows
from ..scan import Argument, Part, Scan, deep
from ..sizes import ZERO, Facts, Poly, Truth
from ..structure import implies_not_after
from ..types import Kind
from .finite import bounded
from .numbered import PART, Numbered
from .ranges import ANY, INF, Range, hull, range_of, ranges


class Reach(Enum):
    SAME = "the same position"
    EARLIER = "earlier positions"
    BEFORE = "positions before"
    ALL = "every position"


@dataclass(frozen=True)
class Path:
    own: tuple[str, ...]
    source: str
    reach: Reach


Paths = dict[Path, Node]  # with the node that gave the path its reach
LOST = "?"


@dataclass(frozen=True)
class Order:
    """Outside of the pairs with pos(earlier) <= pos(later) (strict: <) something is known of a value."""

    later: str
    earlier: str
    strict: bool = False

    @property
    def axes(self) -> tuple[str, str]:
        return self.later, self.earlier


Outside = Mapping[Order, Range]
NOTHING: Outside = {}
ZERO_RANGE = Range(0.0, 0.0)
MINUS_INFINITY = Range(-INF, -INF)
#: what a reduction does not read
NEUTRAL: Mapping[type[Op], Range] = {
    Sum: ZERO_RANGE,
    Norm: ZERO_RANGE,
    Any: ZERO_RANGE,
    Product: Range(1.0, 1.0),
    Max: MINUS_INFINITY,
    Min: Range(INF, INF),
    LogSumExp: MINUS_INFINITY,
}


class Dependence:
    """The analysis of one formula's graph: as written, or another one.

    positions: also what depends on positions alone is followed. It may depend on how long the sequence is, which a
    later position changes.
    """

    def __init__(self, formula: Formula, graph: Graph | None = None, *, positions: bool = False) -> None:
        self.formula = formula
        self.positions = positions
        graph = graph or formula.graph
        nodes = graph.nodes()
        self.ranges = ranges(graph.outputs, formula.constants)
        self.parts = _parts(deep(nodes), formula.facts)
        self.laid = {node.op.target: node.op.sources for node in deep(nodes) if isinstance(node.op, Concat)}
        self.cuts = {node.op.targets[0]: node.op for node in deep(nodes) if isinstance(node.op, Split)}
        self.members: dict[Node, list[Paths]] = {}  # of the bundle that a scan gives
        self.scanned: frozenset[str] = frozenset()  # axes along which the steps that are looked at are taken
        self.paths: dict[Node, Paths] = {}
        self.outside: dict[Node, Outside] = {}
        self._finite: dict[Node, bool] = {}
        self.sequence = self._tied(formula.sequence)
        takes = not positions and any(isinstance(node.op, Take) for node in nodes)
        self.numbered = Numbered(self.ranges, self._until, self._same, self._free, self._part)
        for node in nodes:
            self.outside[node] = self._outside(node)
            self.paths[node] = self._paths(node)
            axis = self.numbered.resolved(node) if takes else None
            if axis is not None and not self._until(node, axis):
                along = {path.source for path in self._along(node)}
                others = {path: cause for path, cause in self.paths[node].items() if path.source not in along}
                self.paths[node] = others | {Path((axis,), source, Reach.EARLIER): node for source in along}

    def _along(self, node: Node) -> list[Path]:
        """What a value depends on along the sequence."""
        return [path for path in self.paths[node] if path.source in self.sequence]

    def _free(self, node: Node) -> bool:
        return not self._along(node)

    def _same(self, node: Node, axis: str) -> bool:
        return all(path.own == (axis,) and path.reach is Reach.SAME for path in self._along(node))

    def _until(self, node: Node, axis: str) -> bool:
        return all(path.own == (axis,) and path.reach is not Reach.ALL for path in self._along(node))

    # -- the question ----------------------------------------------------------------------------

    def causal(self) -> tuple[Span | None, str] | None:
        """Why an output may depend on later positions, and where; None when it provably does not."""
        found = self.culprit()
        if found is None:
            return None
        culprit, reason = found
        return None if culprit is None else self.formula.origins.get(culprit), reason

    def culprit(self) -> tuple[Node | None, str] | None:
        """The same, with the value that is to blame."""
        facts = self.formula.facts
        sequence = self._tied(self.formula.sequence)
        for output in self.formula.graph.outputs:
            axis = next((a for a in output.axes if a in sequence), None)
            if axis is None:
                return None, "the result has no sequence axis"
            for path, cause in self.paths[output].items():
                if path.source not in sequence:
                    continue
                if path.source != axis and self._carriers(axis) and self._carriers(path.source) == self._carriers(axis):
                    return cause, f"the tokens lie along `{axis}` and `{path.source}` together, which have no order"
                if facts.equal(Poly.symbol(path.source), Poly.symbol(axis)) is not Truth.YES:
                    size = facts.canonical(Poly.symbol(path.source))
                    if size.as_symbol() is None:
                        return cause, f"`{path.source}` has {size} entries, which are not the positions along `{axis}`"
                    same = f"`where {path.source} = {axis}`"
                    return cause, f"nothing says that `{path.source}` is as long as `{axis}`; state {same}"
                if path.own == (axis,):
                    continue
                if any(path.own == (order.earlier,) and order.later == axis for order in self.support(output)):
                    continue
                return cause, f"position n along `{axis}` may depend on later positions along `{path.source}`"
        return None

    def _carriers(self, axis: str) -> tuple[Node, ...]:
        """The inputs with an axis: two axes of the same ones are those of an image."""
        return tuple(node for node in self.formula.inputs if axis in node.axes)

    def mixes(self, axis: str) -> tuple[Span | None, str] | None:
        """Where entries along an axis come to depend on each other; None when they provably do not."""
        for output in self.formula.graph.outputs:
            for path, cause in self.paths[output].items():
                if path.source == axis and path != Path((axis,), axis, Reach.SAME):
                    return self.formula.origins.get(cause), axis
        return None

    def _tied(self, sequence: Iterable[str]) -> set[str]:
        facts = self.formula.facts
        names = {s for axis in sequence for s in facts.canonical(Poly.symbol(axis)).symbols()}
        axes = {a for node in self.formula.graph.nodes() for a in node.axes}
        return {a for a in axes if facts.canonical(Poly.symbol(a)).symbols() & names}

    # -- what a value is where it is hidden --------------------------------------------------------

    def support(self, node: Node) -> frozenset[Order]:
        """The orders outside of which a value is 0 (false)."""
        return self._blank(node, ZERO_RANGE)

    def _blank(self, node: Node, value: Range = MINUS_INFINITY) -> frozenset[Order]:
        return frozenset(order for order, known in self.outside[node].items() if _is_exactly(known, value))

    def _outside(self, node: Node) -> Outside:
        op, inputs = node.op, node.inputs
        if node.type.kind is Kind.BOOL:
            return NOTHING if isinstance(op, Input) else self._conditions(node)
        match op:
            case Where():
                negation = self.formula.builder.make(Not(), inputs[0])
                hidden = dict.fromkeys(self.support(inputs[0]), inputs[2])
                hidden |= dict.fromkeys(self._orders(negation), inputs[1])
                told = {*self.outside[inputs[1]], *self.outside[inputs[2]]}
                both = {order: hull(*(self._there(o, order) for o in inputs[1:])) for order in told}
                return both | {order: self._there(kept, order) for order, kept in hidden.items()}
            case Softmax():
                masks = self._blank(inputs[0]) | (self.support(inputs[1]) if "mask" in op.given else frozenset())
                return dict.fromkeys(_within(masks, op.axes), ZERO_RANGE)
            case LogSoftmax():
                return dict.fromkeys(_within(self._blank(inputs[0]), op.axes), MINUS_INFINITY)
            case SegmentSoftmax() if op.given:
                return {o: ZERO_RANGE for o in self.support(inputs[2]) if o.earlier == op.axis}
            case Contraction():
                zero = self.support(inputs[0]) | self.support(inputs[1])
                kept = [o for o in zero if not set(map(axis_of, o.axes)) & set(op.axes)]
                return dict.fromkeys(kept, ZERO_RANGE)
            case Reorder() | Convert():
                return self.outside[inputs[0]]
            case Rename(source, target):
                return {
                    _renamed(order, {source: target}): known
                    for order, known in self.outside[inputs[0]].items()
                    if not any(axis.startswith(f"{source}{PART}") for axis in order.axes)
                }
            case Concat(sources, target) if target in self.parts:
                return {
                    _renamed(order, {axis: f"{target}{PART}{index}"}): known
                    for index, (axis, operand) in enumerate(zip(sources, inputs, strict=True))
                    for order, known in self.outside[operand].items()
                    if axis in order.axes
                }
            case Slice():
                part = self._part(op)
                renaming = {} if part is None else {part: op.target}
                return {
                    _renamed(order, renaming): known
                    for order, known in self.outside[inputs[0]].items()
                    if op.source not in map(axis_of, order.axes) or part in order.axes
                }
            case L1Normalize() | L2Normalize():  # 0 divided by a length that is not
                return dict.fromkeys(self.support(inputs[0]), ZERO_RANGE)
            case Abs() | Erf() | Sign() | Sin() | Softsign() | Sqrt() | Square() | Tanh():  # 0 at 0
                return dict.fromkeys(self.support(inputs[0]), ZERO_RANGE)
        if not op.elementwise:
            return NOTHING
        constants, all_known = self.formula.constants, self.ranges
        orders = dict.fromkeys(order for operand in inputs for order in self.outside[operand])
        found = {
            order: MINUS_INFINITY
            if isinstance(op, Add | Subtract) and self._stays_hidden(node, order)
            else range_of(node, [self._there(operand, order) for operand in inputs], constants, all_known)
            for order in orders
        }
        return {order: known for order, known in found.items() if known != self._known(node)}

    def _stays_hidden(self, node: Node, order: Order) -> bool:
        """Whether a sum is -inf outside of an order, because one operand is, and the other is not inf there.

        The other may be inf where it has no position along the hidden axis: then NaN stands at all hidden positions,
        whatever they hold.
        """
        left, right = node.inputs
        sides = [(left, right, isinstance(node.op, Add))]
        if isinstance(node.op, Add):
            sides.append((right, left, True))
        return any(
            _is_exactly(self._there(hidden, order), MINUS_INFINITY)
            and (axis_of(order.earlier) not in other.axes or bounded(other, above, self._known, self._finite))
            for hidden, other, above in sides
        )

    def _there(self, node: Node, order: Order) -> Range:
        """What is known of a value outside of an order."""
        return self.outside[node].get(order, self._known(node))

    def _known(self, node: Node) -> Range:
        if isinstance(node.op, Literal):
            return Range(node.op.value, node.op.value)
        return self.ranges.get(node, ANY)

    def _conditions(self, node: Node) -> Outside:
        """The orders that a condition implies."""
        op = node.op
        if isinstance(op, And):
            return {**self.outside[node.inputs[0]], **self.outside[node.inputs[1]], **self._orders(node)}
        return self._orders(node)

    def _orders(self, node: Node) -> Outside:
        facts = self.formula.facts
        found: dict[Order, Range] = {}
        for later in node.axes:
            for axis in node.axes:
                if axis == later:
                    continue
                for name, shift in ((axis, ZERO), *self.parts.get(axis, ())):
                    if self._same_length(later, name) and implies_not_after(node, later, axis, facts, shift=shift):
                        found[Order(later, name)] = ZERO_RANGE
                        if implies_not_after(node, later, axis, facts, shift=shift, strict=True):
                            found[Order(later, name, True)] = ZERO_RANGE
        return found

    def _size(self, digit: str) -> Poly:
        digit = digit.removeprefix(LOST)
        axis, _, index = digit.partition(PART)
        return Poly.symbol(axis) if not index else self.sizes[digit]

    def _same_length(self, one: str, other: str) -> bool:
        return self.formula.facts.equal(self._size(one), self._size(other)) is Truth.YES

    def _part(self, op: Slice) -> str | None:
        """The part of an axis that a slice cuts out, exactly."""
        facts = self.formula.facts
        for name, start in self.parts.get(op.source, ()):
            at = facts.equal(start, op.start) is Truth.YES and op.stride == Poly.constant(1)
            if at and self._same_length(name, op.target):
                return name
        return None

    # -- what a value depends on -----------------------------------------------------------------

    def _paths(self, node: Node) -> Paths:
        op, inputs = node.op, node.inputs
        if isinstance(op, Input):
            return {Path((axis,), axis, Reach.SAME): node for axis in op.axes}
        if isinstance(op, Argument):
            return self.paths[node]
        if isinstance(op, Scan):
            self._steps(node, op)
            return {}
        if isinstance(op, Part):
            return self.members[inputs[0]][op.index]
        merged: Paths = {}
        if self.positions and isinstance(op, Position | Broadcast):
            new = (axis for axis in node.axes if not any(axis in operand.axes for operand in inputs))
            merged = {path: node for axis in new for path in self._placed(axis)}
            if not inputs:
                return merged
        for index, operand in enumerate(inputs):
            moved = {op.sources[index]: f"{op.target}{PART}{index}"} if self._is_concat(op) else {}  # type: ignore[attr-defined]
            for path, cause in self.paths[operand].items():
                merged.setdefault(_moved(path, moved), cause)
        if self._is_concat(op):
            return merged
        if isinstance(op, Contraction):
            return self._reduce(node, merged, op.axes, self.support(inputs[0]) | self.support(inputs[1]))
        if isinstance(op, Mean):
            return self._reduce(node, merged, op.axes)
        if isinstance(op, Sum | Norm | Any | Product | Max | Min | LogSumExp):
            return self._reduce(node, merged, op.axes, self._blank(inputs[0], NEUTRAL[type(op)]))
        if isinstance(op, Softmax):
            return merged | self._reduce(node, merged, op.axes, self.support(node))
        if isinstance(op, L1Normalize | L2Normalize):
            return merged | self._reduce(node, merged, op.axes, self.support(inputs[0]))
        if isinstance(op, LogSoftmax):
            return merged | self._reduce(node, merged, op.axes, self._blank(node))
        if isinstance(op, SegmentSoftmax):
            return merged | self._reduce(node, merged, (op.axis,), self.support(node))
        if isinstance(op, SegmentSum):
            return merged | self._reduce(node, merged, (op.axis,), self.support(inputs[0]))
        if isinstance(op, Top):
            return merged | self._reduce(node, merged, (op.axis,), self._blank(inputs[0]))
        if op.follows():
            return self._seen(node, merged, op.follows())
        if isinstance(op, Shift):
            by = op.by.as_number()
            back = by is not None and by >= 0
            return self._seen(node, merged, {op.axis: op.axis}) if back else self._reduce(node, merged, (op.axis,))
        if isinstance(op, Convolution | Windows) and (axis := looks_back(op)) is not None:
            met = set(op.axes) - {axis} if isinstance(op, Convolution) else set()
            kept = {path: cause for path, cause in merged.items() if not met & set(path.own)}
            others = {path: cause for path, cause in merged.items() if met & set(path.own)}
            return self._seen(node, kept, {axis: axis}) | self._all(node, others)
        match op:
            case Rename(source, target):
                return {_moved(_whole(path, source), {source: target}): cause for path, cause in merged.items()}
            case Split(source, targets):
                return {_cut(_whole(path, source), source, targets): cause for path, cause in merged.items()}
            case Merge(sources, target):
                return self._merged(node, merged, sources, target)
            case Slice() if (part := self._part(op)) is not None:
                gone = {op.source, *(name for name, _ in self.parts[op.source] if name != part)}
                here = {path: cause for path, cause in merged.items() if not gone & set(path.own)}
                whole = {path: cause for path, cause in merged.items() if op.source in path.own}
                return {_moved(path, {part: op.target}): cause for path, cause in here.items()} | self._all(node, whole)
            case Pad() | Slice() if _starts_alike(op):
                whole = {_whole(path, op.source): cause for path, cause in merged.items()}
                return {_moved(path, {op.source: op.target}): cause for path, cause in whole.items()}
        if op.elementwise or isinstance(op, Reorder):
            return merged
        touched = moved_along(op)
        return self._all(node, merged) if touched is None else self._reduce(node, merged, tuple(touched))

    def _is_concat(self, op: Op) -> bool:
        return isinstance(op, Concat) and op.target in self.parts

    def _merged(self, node: Node, paths: Paths, sources: tuple[str, ...], target: str) -> Paths:
        """Digits that become one position."""
        found: Paths = {}
        for path, cause in paths.items():
            if not {axis_of(digit.removeprefix(LOST)) for digit in path.own} & set(sources):
                found.setdefault(path, cause)
                continue
            known = sum(not digit.startswith(LOST) for digit in path.own)
            fits = path.own[:known] == sources[:known] and len(path.own) == len(sources)
            lost = zip(path.own[known:], sources[known:], strict=True) if fits else ()
            if fits and all(digit.startswith(LOST) and self._same_length(digit, axis) for digit, axis in lost):
                if known == len(sources):
                    found.setdefault(Path((target,), path.source, path.reach), cause)
                    continue
                if path.reach is Reach.BEFORE:
                    found.setdefault(Path((target,), path.source, Reach.EARLIER), cause)
                    continue
            found.setdefault(Path((), path.source, Reach.ALL), node)
        return found

    def _reduce(self, node: Node, paths: Paths, axes: Iterable[str], support: frozenset[Order] = frozenset()) -> Paths:
        """Digits along some axes are summed over: those that a value is zero for are not read."""
        found: Paths = {}
        for path, cause in paths.items():
            reduced = path
            for digit in path.own:
                if axis_of(digit) not in axes or digit not in reduced.own:
                    continue
                orders = [o for o in support if o.earlier == digit and self._runs(o.later, node)]
                order = max(orders, key=lambda o: o.strict, default=None)
                reduced = _lost(reduced, digit) if order is None else _anchored(reduced, digit, order)
            found.setdefault(reduced, cause if reduced is path else node)
        return found

    def _placed(self, axis: str) -> tuple[Path, ...]:
        """On which positions of the sequence it depends that there is a place along the axis: one path, or none.

        A block is there when all blocks before it are; a place behind a prefix of fixed length, when its position is.
        """
        sequence = self.sequence
        if axis not in self.parts:
            cut = next((c for target, c in self.cuts.items() if self._same_length(target, axis)), None)
            if cut is None or axis not in sequence or not sequence.isdisjoint(cut.targets[1:]):
                return (Path((axis,), axis, Reach.SAME),)
            return (Path((axis, *map(_as_lost, cut.targets[1:])), cut.source, Reach.BEFORE),)
        growing = [index for index, source in enumerate(self.laid[axis]) if source in sequence]
        if growing != [len(self.laid[axis]) - 1]:  # what stands behind the sequence moves when it grows
            return (Path((axis,), axis, Reach.SAME),)
        return tuple(
            Path((self.parts[axis][-1][0], *path.own[1:]), path.source, path.reach)
            for path in self._placed(self.laid[axis][-1])
        )

    def _seen(self, node: Node, paths: Paths, follows: Mapping[str, str]) -> Paths:
        """Elements along the axes of `follows` as they are seen from later ones."""
        found: Paths = {}
        for path, cause in paths.items():
            for axis in follows:
                path = _whole(path, axis)
            digit = next((digit for digit in path.own if digit in follows), None)
            if digit is not None:
                found.setdefault(_anchored(path, digit, Order(follows[digit], digit)), cause)
            elif all(self._runs(digit, node) for digit in path.own if not digit.startswith(LOST)) and path.own:
                found.setdefault(path, cause)
            else:
                found.setdefault(Path((), path.source, Reach.ALL), node)
        return found

    def _all(self, node: Node, paths: Paths) -> Paths:
        """Every element depends on all; in a step, on all at its own position."""
        found: Paths = {}
        for path in paths:
            for digit in path.own:
                if digit in path.own and not digit.startswith(LOST) and digit not in self.scanned:
                    path = _lost(path, digit)
            inside = any(digit in self.scanned for digit in path.own)
            found.setdefault(path if inside else Path((), path.source, Reach.ALL), node)
        return found

    def _runs(self, digit: str, node: Node) -> bool:
        """Whether a value has an axis, or belongs to a step along it."""
        return axis_of(digit) in node.axes or digit in self.scanned

    def _steps(self, node: Node, op: Scan) -> None:
        """What the members of a scan depend on: the least paths that the states keep from step to step.

        Within a step the scanned axis is an axis of every value, though none shows it: position n of it sees what a
        state holds, which is the positions before, and the entries at n.
        """
        axis, step = op.axis, op.step
        outer, self.scanned = self.scanned, self.scanned | {axis}
        for argument, operand in zip(step.arguments, node.inputs, strict=True):
            self.outside[argument] = self.outside[operand]
            self.ranges[argument] = ANY
        for state in step.arguments[: op.states]:
            self.outside[state] = NOTHING
        ranges(step.results, self.formula.constants, self.ranges)
        given = [dict(self.paths[operand]) for operand in node.inputs]
        while True:
            for argument, paths in zip(step.arguments, given, strict=True):
                self.paths[argument] = paths
            for inner in step.nodes():
                if not isinstance(inner.op, Argument):
                    self.outside[inner] = self._outside(inner)
                    self.paths[inner] = self._paths(inner)
            later = [_later(self.paths[result], axis) for result in step.results[: op.states]]
            states = [{**new, **old} for old, new in zip(given, later, strict=False)]
            if states == given[: op.states]:
                break
            given[: op.states] = states
        last = [{_over(path, axis): cause for path, cause in paths.items()} for paths in given[: op.states]]
        self.members[node] = [*last, *(self.paths[result] for result in step.results[op.states :])]
        self.scanned = outer

    @property
    def sizes(self) -> Mapping[str, Poly]:
        """The size of every part of an axis."""
        ends = self.parts
        found: dict[str, Poly] = {}
        for axis, parts in ends.items():
            starts = [*(start for _, start in parts[1:]), Poly.symbol(axis)]
            found |= {name: end - start for (name, start), end in zip(parts, starts, strict=True)}
        return found


def _starts_alike(op: Pad | Slice) -> bool:
    """Whether position n of the result is position n of the operand, as far as both go."""
    start = op.before if isinstance(op, Pad) else op.start
    return start == ZERO and (isinstance(op, Pad) or op.stride == Poly.constant(1))


def _later(paths: Paths, axis: str) -> Paths:
    """The paths of a state as the next step along the axis sees them."""
    found: Paths = {}
    for path, cause in paths.items():
        if axis in path.own:
            lost = any(digit.startswith(LOST) for digit in path.own[: path.own.index(axis)])
            whole = lost or path.reach is Reach.ALL
            path = Path((), path.source, Reach.ALL) if whole else Path(path.own, path.source, Reach.BEFORE)
        found.setdefault(path, cause)
    return found


def _over(path: Path, axis: str) -> Path:
    """A path of a state after the last step along the axis."""
    return Path((), path.source, Reach.ALL) if axis in path.own else path


def _parts(nodes: Iterable[Node], facts: Facts) -> dict[str, tuple[tuple[str, Poly], ...]]:
    """The parts of axes that are laid end to end, and where each starts; of those that are so in one way only."""
    found: dict[str, tuple[tuple[str, Poly], ...]] = {}
    refused: set[str] = set()
    for node in nodes:
        if not isinstance(node.op, Concat):
            continue
        start, parts = ZERO, []
        for index, axis in enumerate(node.op.sources):
            parts.append((f"{node.op.target}{PART}{index}", start))
            start = start + Poly.symbol(axis)
        before = found.setdefault(node.op.target, tuple(parts))
        if len(before) != len(parts) or any(
            facts.equal(a, b) is not Truth.YES for (_, a), (_, b) in zip(before, parts, strict=True)
        ):
            refused.add(node.op.target)
    return {axis: parts for axis, parts in found.items() if axis not in refused}


def _within(orders: Iterable[Order], axes: Iterable[str]) -> list[Order]:
    """The orders that hide positions along the axes from places that are none of them."""
    along = set(axes)
    return [order for order in orders if axis_of(order.earlier) in along and axis_of(order.later) not in along]


def axis_of(digit: str) -> str:
    """The axis that a digit runs along."""
    return digit.partition(PART)[0]


def _is_exactly(known: Range, value: Range) -> bool:
    return (known.low, known.high) == (value.low, value.high)


def _renamed(order: Order, names: Mapping[str, str]) -> Order:
    return Order(names.get(order.later, order.later), names.get(order.earlier, order.earlier), order.strict)


def _moved(path: Path, names: Mapping[str, str]) -> Path:
    return Path(tuple(names.get(digit, digit) for digit in path.own), path.source, path.reach) if names else path


def _cut(path: Path, source: str, targets: tuple[str, ...]) -> Path:
    """The position along a split axis has the digits of the new ones."""
    own = tuple(new for digit in path.own for new in (targets if digit == source else (digit,)))
    return Path(own, path.source, path.reach)


def _whole(path: Path, axis: str) -> Path:
    """A path of which no digit is a part of this axis: of parts nothing is known when the axis changes."""
    for digit in path.own:
        if digit != axis and axis_of(digit) == axis:
            return _whole(_lost(path, digit), axis)
    return path


def _anchored(path: Path, digit: str, order: Order) -> Path:
    """A digit m is read where m <= n (strict: m < n) only: what is known of m is known of n."""
    at = path.own.index(digit)
    own = (*path.own[:at], order.later, *path.own[at + 1 :])
    if not order.strict:
        reach = Reach.EARLIER if path.reach is Reach.SAME else path.reach
        return Path(own, path.source, reach)
    if len(own) == 1:
        return Path(own, path.source, Reach.EARLIER)
    return Path((*own[: at + 1], *(_as_lost(d) for d in own[at + 1 :])), path.source, Reach.BEFORE)


def _lost(path: Path, digit: str) -> Path:
    """A digit is read at any place: what stands before it is all that is known."""
    at = path.own.index(digit)
    if at == 0:
        return Path((), path.source, Reach.ALL)
    reach = path.reach if path.reach is Reach.SAME else Reach.EARLIER
    return Path((*path.own[:at], *(_as_lost(d) for d in path.own[at:])), path.source, reach)


def _as_lost(digit: str) -> str:
    return digit if digit.startswith(LOST) else LOST + digit


def looks_back(op: Convolution | Windows) -> str | None:
    """The axis along which windows read nothing after the place that they stand for; None if they may."""
    places = op.sources if isinstance(op, Convolution) else (op.source,)
    targets = op.targets if isinstance(op, Convolution) else (op.target,)
    tap = op.taps[0] if isinstance(op, Convolution) else op.window
    if len(places) > 1 or places != targets or op.start is None or op.stride != Poly.constant(1):
        return None
    last = (op.start + op.dilation * (Poly.symbol(tap) - 1)).as_number()
    return places[0] if last is not None and last <= 0 else None


def moved_along(op: Op) -> frozenset[str] | None:
    """The axes along which an operation moves or mixes elements; None if that is not known.

    Every operation names these axes in the fields that its brackets fill.
    """
    if isinstance(op, Broadcast | Convert):
        return frozenset()
    fields = vars(op)
    if op.brackets is Brackets.NONE:
        return None
    names: set[str] = set()
    for field in ("axes", "sources", "taps", "summed"):
        names.update(fields.get(field, ()))
    for field in ("axis", "source"):
        names.update((fields[field],) if field in fields else ())
    return frozenset(names)
