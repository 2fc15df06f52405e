"""Which positions of an input a value depends on: the same one, earlier ones, or all.

A value is described by paths: (own axis, input axis, reach). `(N, M, EARLIER)` says that the element
at position n along N depends on positions m <= n of an input's axis M. A path without own axis says
that every element depends on every position. The analysis is sound: what it does not understand
depends on everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from ...grammar.source import Span
from ..formula import Formula
from ..graph import Graph, Node
from ..ops.arithmetic import Divide, Multiply
from ..ops.base import Brackets, Op
from ..ops.contraction import Contraction
from ..ops.convolution import Convolution
from ..ops.layout import Broadcast, Convert, Rename, Reorder
from ..ops.leaves import Input, Literal, Position
from ..ops.logic import And, Where
from ..ops.normalisations import Softmax
from ..ops.ordering import Top
from ..ops.reductions import Mean, Sum
from ..ops.segments import SegmentSoftmax, SegmentSum
from ..ops.selection import Shift, Windows
from ..sizes import Poly, Truth
from ..structure import implies_not_after


class Reach(Enum):
    SAME = "the same position"
    EARLIER = "earlier positions"
    ALL = "every position"


@dataclass(frozen=True)
class Path:
    own: str | None
    source: str
    reach: Reach


Paths = dict[Path, Node]  # with the node that gave the path its reach
Support = frozenset[tuple[str, str]]  # (n, m): the element is 0 (false, -inf) unless m <= n


class Dependence:
    """The analysis of one formula's graph: as written, or another one.

    positions: also what depends on positions alone is followed. It may depend on how long the sequence is, which a
    later position changes.
    """

    def __init__(self, formula: Formula, graph: Graph | None = None, *, positions: bool = False) -> None:
        self.formula = formula
        self.positions = positions
        self.paths: dict[Node, Paths] = {}
        self.support: dict[Node, Support] = {}
        self.blank: dict[Node, Support] = {}  # the same, for elements that are -inf
        for node in (graph or formula.graph).nodes():
            self.support[node] = self._support(node)
            self.paths[node] = self._paths(node)

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
                if facts.equal(Poly.symbol(path.source), Poly.symbol(axis)) is not Truth.YES:
                    same = f"`where {path.source} = {axis}`"
                    return cause, f"nothing says that `{path.source}` is as long as `{axis}`; state {same}"
                if path.own == axis and path.reach is not Reach.ALL:
                    continue
                if path.own is not None and (axis, path.own) in self.support[output] and path.reach is not Reach.ALL:
                    continue
                return cause, f"position n along `{axis}` depends on later positions along `{path.source}`"
        return None

    def mixes(self, axis: str) -> tuple[Span | None, str] | None:
        """Where entries along an axis come to depend on each other; None when they provably do not."""
        for output in self.formula.graph.outputs:
            for path, cause in self.paths[output].items():
                if path.source == axis and not (path.own == axis and path.reach is Reach.SAME):
                    return self.formula.origins.get(cause), axis
        return None

    def _tied(self, sequence: Iterable[str]) -> set[str]:
        facts = self.formula.facts
        names = {s for axis in sequence for s in facts.canonical(Poly.symbol(axis)).symbols()}
        axes = {a for node in self.formula.graph.nodes() for a in node.axes}
        return {a for a in axes if facts.canonical(Poly.symbol(a)).symbols() & names}

    # -- where a value is zero -------------------------------------------------------------------

    def _support(self, node: Node) -> Support:
        op, inputs = node.op, node.inputs
        if node.type.kind.value == "bool" and not isinstance(op, Input):
            facts = self.formula.facts
            return frozenset(
                (n, m)
                for n in node.axes
                for m in node.axes
                if n != m and self._same_length(n, m) and implies_not_after(node, n, m, facts)
            )
        match op:
            case Where():
                condition, yes, no = inputs
                if isinstance(no.op, Literal) and no.op.value == 0:
                    return self.support[condition] | self.support[yes]
                if isinstance(no.op, Literal) and no.op.value == float("-inf"):
                    self.blank[node] = self.support[condition]
                return frozenset()
            case Multiply():
                return self.support[inputs[0]] | self.support[inputs[1]]
            case Divide() | Reorder():
                return self.support[inputs[0]]
            case Softmax():
                masks = frozenset[tuple[str, str]]()
                if "mask" in op.given:
                    masks |= self.support[inputs[1]]
                masks |= self.blank.get(inputs[0], frozenset())
                return frozenset((n, m) for n, m in masks if m in op.axes and n not in op.axes)
            case SegmentSoftmax() if op.given:
                return frozenset((n, m) for n, m in self.support[inputs[2]] if m == op.axis)
            case And():
                return self.support[inputs[0]] | self.support[inputs[1]]
        return frozenset()

    def _same_length(self, one: str, other: str) -> bool:
        return self.formula.facts.equal(Poly.symbol(one), Poly.symbol(other)) is Truth.YES

    # -- what a value depends on -----------------------------------------------------------------

    def _paths(self, node: Node) -> Paths:
        op, inputs = node.op, node.inputs
        if isinstance(op, Input):
            return {Path(axis, axis, Reach.SAME): node for axis in op.axes}
        merged: Paths = {}
        if self.positions and isinstance(op, Position | Broadcast):
            new = (axis for axis in node.axes if not any(axis in operand.axes for operand in inputs))
            merged = {Path(axis, axis, Reach.SAME): node for axis in new}
            if not inputs:
                return merged
        for operand in inputs:
            for path, cause in self.paths[operand].items():
                merged.setdefault(path, cause)
        if isinstance(op, Contraction):
            support = self.support[inputs[0]] | self.support[inputs[1]]
            return self._reduce(node, merged, op.axes, support)
        if isinstance(op, Sum | Mean):
            support = self.support[inputs[0]] if isinstance(op, Sum) else frozenset()
            return self._reduce(node, merged, op.axes, support)
        if isinstance(op, Softmax):
            return merged | self._reduce(node, merged, op.axes, self.support[node])
        if isinstance(op, SegmentSoftmax):
            return merged | self._reduce(node, merged, (op.axis,), self.support[node])
        if isinstance(op, SegmentSum):
            return merged | self._reduce(node, merged, (op.axis,), self.support[inputs[0]])
        if isinstance(op, Top):
            return merged | self._reduce(node, merged, (op.axis,), self.blank.get(inputs[0], frozenset()))
        if op.follows():
            return self._seen(node, merged, op.follows())
        if isinstance(op, Shift):
            by = op.by.as_number()
            return self._along(node, merged, op.axis) if by is not None and by >= 0 else self._all(node, merged)
        if isinstance(op, Convolution | Windows) and (axis := looks_back(op)) is not None:
            met = set(op.axes) - {axis} if isinstance(op, Convolution) else set()
            kept = {path: cause for path, cause in merged.items() if path.own not in met}
            others = {path: cause for path, cause in merged.items() if path.own in met}
            return self._along(node, kept, axis) | self._all(node, others)
        if isinstance(op, Rename):
            return {
                Path(op.target if path.own == op.source else path.own, path.source, path.reach): cause
                for path, cause in merged.items()
            }
        if op.elementwise or isinstance(op, Reorder):
            return merged
        touched = moved_along(op)
        if touched is None:
            return self._all(node, merged)
        untouched = {path: cause for path, cause in merged.items() if path.own is not None and path.own not in touched}
        others = {path: cause for path, cause in merged.items() if path not in untouched}
        return untouched | self._all(node, others)

    def _reduce(self, node: Node, paths: Paths, axes: tuple[str, ...], support: Support) -> Paths:
        found: Paths = {}
        for path, cause in paths.items():
            if path.own not in axes:
                found.setdefault(path, cause)
                continue
            anchors = [n for n, m in support if m == path.own and n in node.axes]
            if anchors and path.reach is not Reach.ALL:
                for anchor in anchors[:1]:
                    found.setdefault(Path(anchor, path.source, Reach.EARLIER), node)
            else:
                found.setdefault(Path(None, path.source, Reach.ALL), node)
        return found

    def _seen(self, node: Node, paths: Paths, follows: Mapping[str, str]) -> Paths:
        """Elements along the axes of `follows` as they are seen from later ones."""
        found: Paths = {}
        for path, cause in paths.items():
            if path.own is not None and path.own in follows and path.reach is not Reach.ALL:
                found.setdefault(Path(follows[path.own], path.source, Reach.EARLIER), cause)
            elif path.own in node.axes:
                found.setdefault(path, cause)
            else:
                found.setdefault(Path(None, path.source, Reach.ALL), node)
        return found

    def _along(self, node: Node, paths: Paths, axis: str) -> Paths:
        return {
            Path(path.own, path.source, Reach.EARLIER)
            if path.own == axis and path.reach is not Reach.ALL
            else path: cause
            for path, cause in paths.items()
        }

    def _all(self, node: Node, paths: Paths) -> Paths:
        return {Path(None, path.source, Reach.ALL): node for path in paths}


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
