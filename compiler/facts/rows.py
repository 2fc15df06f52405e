"""What the weights over some axes sum to: one, at most one, or anything.

Proved from how a value is made: a softmax, a division by its own sum, and what keeps either. UNKNOWN is no statement.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from ..formula import Formula
from ..graph import Node
from ..ops.arithmetic import Add, Divide, Multiply, Subtract
from ..ops.contraction import Contraction
from ..ops.functions import StopGradient
from ..ops.layout import Broadcast, Merge, Rename, Reorder, Split
from ..ops.leaves import Literal
from ..ops.logic import Where
from ..ops.normalisations import L1Normalize, Softmax
from ..ops.pairs import Maximum
from ..ops.reductions import Mean, Sum
from ..ops.selection import Slice
from ..report import Weights
from .ranges import Range, holds_first, ranges

Axes = frozenset[str]


class Total(Enum):
    ONE = "sum to one"
    ONE_OR_NONE = "sum to one, or to zero where a mask leaves nothing"
    AT_MOST_ONE = "sum to at most one"
    UNKNOWN = "are not known to sum to one"


class Totals:
    """The analysis of one graph's values, on demand."""

    def __init__(self, constants: Mapping[str, int | float], known: dict[Node, Range] | None = None) -> None:
        self.constants = constants
        self.known: dict[Node, Range] = {} if known is None else known
        self.found: dict[tuple[Node, Axes], Total] = {}

    def of(self, node: Node, axes: Axes, depth: int = 0) -> Total:
        """What the elements of a value along some of its axes sum to."""
        if not axes or not axes <= set(node.axes) or depth > 12:
            return Total.UNKNOWN
        key = (node, axes)
        if key not in self.found:
            self.found[key] = self._of(node, axes, depth)
        return self.found[key]

    def _range(self, node: Node) -> Range:
        return ranges((node,), self.constants, self.known)[node]

    def _of(self, node: Node, axes: Axes, depth: int) -> Total:
        def below(operand: Node, along: Axes = axes) -> Total:
            return self.of(operand, along, depth + 1)

        match node.op:
            case Softmax() if set(node.op.axes) == axes:
                masked = bool(node.op.given) and not holds_first(node.inputs[1], node.op.axes)
                return Total.ONE_OR_NONE if masked else Total.ONE
            case Reorder() | Broadcast() | StopGradient():
                return below(node.inputs[0])
            case Rename(source, target):
                return below(node.inputs[0], frozenset(source if a == target else a for a in axes))
            case Merge(sources, target) if axes == {target}:
                return below(node.inputs[0], frozenset(sources))
            case Split(source, targets) if axes == set(targets):
                return below(node.inputs[0], frozenset({source}))
            case Slice(source, target) if target in axes:
                return self._part(node.inputs[0], below(node.inputs[0], axes - {target} | {source}))
            case L1Normalize(along) if set(along) == axes and self._range(node.inputs[0]).non_negative:
                return Total.ONE if self._range(node.inputs[0]).positive else Total.AT_MOST_ONE
            case Divide():
                return self._divided(node.inputs[0], node.inputs[1], axes)
            case Multiply():
                for weights, factor in (node.inputs, node.inputs[::-1]):
                    bounds = self._range(factor)
                    if bounds.non_negative and bounds.high <= 1 and axes <= set(weights.axes):
                        part = self._part(weights, below(weights))
                        if part is not Total.UNKNOWN:
                            return part
                return Total.UNKNOWN
            case Where():
                _, yes, no = node.inputs
                if isinstance(no.op, Literal) and no.op.value == 0:
                    return self._part(yes, below(yes))
                return Total.UNKNOWN
            case Add():
                return self._mixture(node.inputs[0], node.inputs[1], axes, depth)
            case Mean(along) if axes.isdisjoint(along):
                return below(node.inputs[0])
            case Contraction(along):
                for first, second in (node.inputs, node.inputs[::-1]):
                    if axes <= set(second.axes) and axes.isdisjoint(first.axes):
                        pair = (below(first, frozenset(along)), below(second))
                        if pair == (Total.ONE, Total.ONE):
                            return Total.ONE
                        if Total.UNKNOWN not in pair and all(self._range(o).non_negative for o in node.inputs):
                            return Total.AT_MOST_ONE
        return Total.UNKNOWN

    def later(self, weight: Node, product: Node, users: Mapping[Node, list[Node]]) -> Total:
        """What weights sum to that are normalised after they have been applied: `(a @ v) / sum[M](a)`."""
        assert isinstance(product.op, Contraction)
        axes = frozenset(product.op.axes)
        after = [user for user in users[product] if isinstance(user.op, Divide) and user.inputs[0] is product]
        if len(after) != 1 or len(users[product]) != 1:
            return Total.UNKNOWN
        return self._divided(weight, after[0].inputs[1], axes)

    def _part(self, weights: Node, total: Total) -> Total:
        """What a share of some weights sums to."""
        known = total is not Total.UNKNOWN and self._range(weights).non_negative
        return Total.AT_MOST_ONE if known else Total.UNKNOWN

    def _divided(self, value: Node, divisor: Node, axes: Axes) -> Total:
        if _is_sum_of(divisor, value, axes):
            return Total.ONE
        if isinstance(divisor.op, Add | Maximum) and self._range(value).non_negative:
            for total, least in (divisor.inputs, divisor.inputs[::-1]):
                if _is_sum_of(total, value, axes) and self._range(least).positive:
                    return Total.AT_MOST_ONE
        return Total.UNKNOWN

    def _mixture(self, left: Node, right: Node, axes: Axes, depth: int) -> Total:
        """(1 - g) * a + g * b."""
        if not isinstance(left.op, Multiply) or not isinstance(right.op, Multiply):
            return Total.UNKNOWN
        for gate, one in (left.inputs, left.inputs[::-1]):
            for other_gate, other in (right.inputs, right.inputs[::-1]):
                if _are_complements(gate, other_gate) and axes.isdisjoint(gate.axes):
                    pair = (self.of(one, axes, depth + 1), self.of(other, axes, depth + 1))
                    if pair == (Total.ONE, Total.ONE):
                        return Total.ONE
                    signs = all(self._range(node).non_negative for node in (gate, other_gate, one, other))
                    if Total.UNKNOWN not in pair and signs:
                        return Total.AT_MOST_ONE
        return Total.UNKNOWN


def weights(formula: Formula, sequence: frozenset[str]) -> tuple[Weights, ...]:
    """What weighs values in sums over sequence axes, and results that are maps, in the order of evaluation."""
    totals = Totals(formula.constants)
    users = formula.graph.users()
    results = tuple(dict.fromkeys(a for node in formula.graph.outputs for a in node.axes if a in sequence))
    found: dict[tuple[Node, Axes], Weights] = {}
    for node in formula.graph:
        if not isinstance(node.op, Contraction):
            continue
        axes = frozenset(node.op.axes) & sequence
        for weight, value in (node.inputs, node.inputs[::-1]):
            if not axes or not axes <= set(weight.axes) or not axes <= set(value.axes):
                continue
            total = totals.of(weight, frozenset(node.op.axes))
            if total is Total.UNKNOWN:
                total = totals.later(weight, node, users)
            if total is not Total.UNKNOWN or len(sequence & set(weight.axes)) > 1:
                found.setdefault((weight, axes), _weights(weight, axes, total, results))
                break
    for node in formula.graph.outputs:
        along = [axis for axis in node.axes if axis in sequence]
        for axis in along if len(along) > 1 else ():
            total = totals.of(node, frozenset({axis}))
            if total is not Total.UNKNOWN:
                found.setdefault((node, frozenset({axis})), _weights(node, frozenset({axis}), total, results))
    return tuple(found.values())


def _weights(node: Node, axes: Axes, total: Total, results: tuple[str, ...]) -> Weights:
    missing = tuple(axis for axis in results if axis not in node.axes)
    return Weights(node, tuple(a for a in node.axes if a in axes), total.value, missing, node.type.batched)


def _is_sum_of(node: Node, value: Node, axes: Axes) -> bool:
    if isinstance(node.op, Sum) and set(node.op.axes) == axes:
        return node.inputs[0] is value
    if isinstance(node.op, Contraction) and set(node.op.axes) == axes and isinstance(value.op, Multiply):
        return set(node.inputs) == set(value.inputs)
    return False


def _are_complements(one: Node, other: Node) -> bool:
    """Whether two values are g and 1 - g."""
    for gate, rest in ((one, other), (other, one)):
        if isinstance(rest.op, Subtract) and rest.inputs[1] is gate:
            whole = rest.inputs[0].op
            return isinstance(whole, Literal) and whole.value == 1
    return False
