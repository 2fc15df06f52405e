"""Which positions of an input a result depends on: the same one, earlier ones, a window, or all.

For every input and axis a value has paths: along one of its own axes, with bounds of the distance between the two
positions. A path along no axis says that every element may depend on every position. The analysis is sound: what it
does not understand depends on everything. Constants have their defaults.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..formula import Formula
from ..graph import Node
from ..ops.arithmetic import Divide, IntegerPower, Multiply, Negative
from ..ops.base import Brackets, Op
from ..ops.contraction import Contraction
from ..ops.convolution import Convolution
from ..ops.cumulative import Cumulative
from ..ops.functions import Abs, Relu, Square
from ..ops.layout import Broadcast, Convert, Rename, Reorder
from ..ops.leaves import Input, Literal
from ..ops.logic import And, Where
from ..ops.normalisations import L1Normalize, L2Normalize, Softmax
from ..ops.reductions import LogSumExp, Max, Mean, Norm, Sum
from ..ops.selection import Pad, Shift, Slice, Windows
from ..report import Reached
from ..sizes import Poly
from ..types import Kind
from .dependence import Dependence
from .dependence import Reach as Word
from .lags import EARLIER, EVERY, SAME, Lag, lags

Source = tuple[str, str]  # an input and one of its axes
Paths = Mapping[str | None, Lag]  # by the axis of the value; None: every element
Pairs = Mapping[tuple[str, str], Lag]  # (n, m): where the value is not 0, pos(m) - pos(n) is within
ALL: Paths = {None: EVERY}
NOTHING = Lag(0, -1)


def reached(formula: Formula) -> tuple[Reached, ...]:
    """A row for every result, input and axis of it; several where positions correspond along several axes."""
    analysis = _Analysis(formula)
    coarse = Dependence(formula)
    rows = []
    for number, output in enumerate(formula.graph.outputs):
        for node in formula.inputs:
            for axis in node.axes:
                paths = analysis.paths[output].get((node.op.name, axis))  # type: ignore[attr-defined]
                if paths is None:
                    paths = {None: NOTHING}
                elif None in paths:
                    paths = _coarse(coarse, output, axis)
                for own, lag in paths.items():
                    ends = [int(end) if math.isfinite(end) else None for end in (lag.low, lag.high)]
                    rows.append(Reached(number, node.op.name, axis, own, *ends))  # type: ignore[attr-defined]
    return tuple(rows)


def _coarse(dependence: Dependence, output: Node, axis: str) -> Paths:
    """What the analysis by axis names knows, which follows more operations and tells no distances."""
    found: dict[str | None, Lag] = {}
    for path in dependence.paths[output]:
        if path.source == axis:
            own = path.own[0] if len(path.own) == 1 else ""
            if own not in output.axes or path.reach is Word.ALL:
                return ALL
            lag = SAME if path.reach is Word.SAME else EARLIER
            found[own] = found[own].join(lag) if own in found else lag
    return found or ALL


class _Analysis:
    def __init__(self, formula: Formula) -> None:
        self.formula = formula
        self.constants = formula.constants
        self.paths: dict[Node, dict[Source, Paths]] = {}
        self.support: dict[Node, Pairs] = {}
        self.blank: dict[Node, Pairs] = {}  # the same, for elements that are -inf
        for node in formula.graph.nodes():
            self.support[node] = self._support(node)
            self.paths[node] = self._paths(node)

    # -- where a value is zero ---------------------------------------------------------------------

    def _support(self, node: Node) -> Pairs:
        op, inputs = node.op, node.inputs
        if node.type.kind is Kind.BOOL and inputs and not isinstance(op, Rename | Reorder):
            pairs = ((n, m) for n in node.axes for m in node.axes if n != m)
            found = {(n, m): lags(node, n, m, self.constants) for n, m in pairs}
            known = {pair: lag for pair, lag in found.items() if lag != EVERY}
            return _meet(known, *(self.support[o] for o in inputs)) if isinstance(op, And) else known
        match op:
            case Where():
                condition, yes, no = inputs
                if isinstance(no.op, Literal) and no.op.value == 0:
                    return _meet(self.support[condition], self.support[yes])
                if isinstance(no.op, Literal) and no.op.value == -math.inf:
                    self.blank[node] = self.support[condition]
            case Multiply():
                return _meet(self.support[inputs[0]], self.support[inputs[1]])
            case Divide() | Reorder() | Negative() | Abs() | Relu() | Square() | Convert():
                return self.support[inputs[0]]
            case L1Normalize() | L2Normalize():
                return self.support[inputs[0]]
            case IntegerPower(exponent) if exponent > 0:
                return self.support[inputs[0]]
            case Rename(source, target):
                names = {source: target}
                moved = self.support[inputs[0]].items()
                return {(names.get(n, n), names.get(m, m)): lag for (n, m), lag in moved}
            case Softmax():
                masks = _meet(self.support[inputs[1]] if "mask" in op.given else {}, self.blank.get(inputs[0], {}))
                return {(n, m): lag for (n, m), lag in masks.items() if m in op.axes and n not in op.axes}
        return {}

    # -- what a value depends on -------------------------------------------------------------------

    def _paths(self, node: Node) -> dict[Source, Paths]:
        op, inputs = node.op, node.inputs
        if isinstance(op, Input):
            return {(op.name, axis): {axis: SAME} for axis in op.axes}
        merged: dict[Source, Paths] = {}
        for operand in inputs:
            for source, paths in self.paths[operand].items():
                merged[source] = _join(merged.get(source, {}), paths)
        return {source: self._after(node, paths) for source, paths in merged.items()}

    def _after(self, node: Node, paths: Paths) -> Paths:
        """The paths of the result, from those of the operands together."""
        op, inputs = node.op, node.inputs
        if op.elementwise or isinstance(op, Reorder | Broadcast | Convert):
            return paths
        match op:
            case Rename(source, target):
                return {(target if own == source else own): lag for own, lag in paths.items()}
            case Contraction(axes):
                return self._reduced(node, paths, axes, _meet(self.support[inputs[0]], self.support[inputs[1]]))
            case Sum(axes) | Mean(axes) | Norm(axes):
                return self._reduced(node, paths, axes, self.support[inputs[0]])
            case Max(axes) | LogSumExp(axes):
                return self._reduced(node, paths, axes, self.blank.get(inputs[0], {}))
            case Softmax() | L1Normalize() | L2Normalize():
                return _join(paths, self._reduced(node, paths, op.axes, self.support[node]))
            case Cumulative(axis):
                return _moved(paths, axis, axis, Lag(-math.inf, 0))
            case Shift(axis, by):
                return _moved(paths, axis, axis, self._steps(-by))
            case Slice(source, target, start, stride) if stride == Poly.constant(1):
                return _moved(paths, source, target, self._steps(start))
            case Pad(source, target, before):
                return _moved(paths, source, target, self._steps(-before))
            case Windows():
                return _moved(paths, op.source, op.target, self._window(op.start, op.dilation, op.window, op.stride))
            case Convolution():
                return self._slid(paths, op)
        touched = _touched(op)
        if touched is None:
            return ALL
        kept: dict[str | None, Lag] = {own: lag for own, lag in paths.items() if own is not None and own not in touched}
        return kept if len(kept) == len(paths) else {**kept, None: EVERY}

    def _reduced(self, node: Node, paths: Paths, axes: tuple[str, ...], support: Pairs) -> Paths:
        found: Paths = {}
        for own, lag in paths.items():
            if own not in axes:
                found = _join(found, {own: lag})
                continue
            anchor = next(((n, seen) for (n, m), seen in support.items() if m == own and n in node.axes), None)
            found = _join(found, {anchor[0]: lag.plus(anchor[1])} if anchor else ALL)
        return found

    def _slid(self, paths: Paths, op: Convolution) -> Paths:
        met = {*op.taps, *op.summed}
        found: Paths = {own: lag for own, lag in paths.items() if own not in met}
        if len(found) < len(paths):
            found = {**found, None: EVERY}
        for source, target, tap, start in zip(op.sources, op.targets, op.taps, op.starts(), strict=True):
            found = _moved(found, source, target, self._window(start, op.dilation, tap, op.stride))
        return found

    def _window(self, start: Poly, dilation: Poly, tap: str, stride: Poly) -> Lag | None:
        first, step, width = (self._number(size) for size in (start, dilation, Poly.symbol(tap)))
        if first is None or step is None or width is None or stride != Poly.constant(1):
            return None
        return Lag(first, first + step * (width - 1))

    def _steps(self, by: Poly) -> Lag | None:
        number = self._number(by)
        return None if number is None else Lag(number, number)

    def _number(self, size: Poly) -> float | None:
        size = self.formula.facts.canonical(size)
        return float(size.evaluate(self.constants)) if size.symbols() <= self.constants.keys() else None


def _moved(paths: Paths, source: str, target: str, by: Lag | None) -> Paths:
    """The paths after positions along an axis have moved; by None: nobody knows how far."""
    if source not in paths:
        return paths
    rest = {own: lag for own, lag in paths.items() if own != source}
    return _join(rest, ALL if by is None else {target: paths[source].plus(by)})


def _join(one: Paths, other: Paths) -> Paths:
    found = dict(one)
    for own, lag in other.items():
        found[own] = found[own].join(lag) if own in found else lag
    return found


def _meet(*supports: Pairs) -> Pairs:
    found: dict[tuple[str, str], Lag] = {}
    for support in supports:
        for pair, lag in support.items():
            found[pair] = found[pair].meet(lag) if pair in found else lag
    return found


def _touched(op: Op) -> frozenset[str] | None:
    """The axes along which an operation moves or mixes elements; None if that is not known."""
    if op.brackets is Brackets.NONE:
        return None
    fields = vars(op)
    names = {name for field in ("axes", "sources", "taps", "summed") for name in fields.get(field, ())}
    return frozenset(names | {fields[field] for field in ("axis", "source") if field in fields})
