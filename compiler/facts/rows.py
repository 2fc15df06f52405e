"""What the weights over some axes sum to: one, at most one, or anything.

Proved from how a value is made: a softmax, a division by its own sum, and what keeps either. UNKNOWN is no statement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from enum import Enum

from ..formula import Formula
from ..graph import Graph, Node, topological
from ..ops.arithmetic import Add, Divide, Multiply, Power
from ..ops.base import Op
from ..ops.contraction import Contraction
from ..ops.functions import StopGradient
from ..ops.layout import Broadcast, Merge, Rename, Reorder, Split
from ..ops.leaves import Declared, Input, Literal
from ..ops.logic import Where
from ..ops.normalisations import L1Normalize, Softmax
from ..ops.pairs import Maximum
from ..ops.reductions import Mean, Sum
from ..ops.selection import Slice
from ..report import Weights
from ..scan import Argument, Part, Scan, deep
from ..sizes import Facts
from .lags import lags, linear
from .ranges import Range, are_complements, ranges
from .seen import leaves_some

Axes = frozenset[str]


class Total(Enum):
    ONE = "sum to one"
    ONE_OR_NONE = "sum to one, or to zero where a mask leaves nothing"
    NEAR_ONE = "sum to one, up to what is added to their sum or bounds it"
    AT_MOST_ONE = "sum to at most one"
    UNKNOWN = "are not known to sum to one"


class Totals:
    """The analysis of one graph's values, on demand."""

    def __init__(
        self, constants: Mapping[str, int | float], facts: Facts, known: dict[Node, Range] | None = None
    ) -> None:
        self.constants = constants
        self.facts = facts
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
                if "sink" in node.op.given:
                    return Total.AT_MOST_ONE
                if node.op.given and not leaves_some(node.inputs[1], node.op.axes, self.constants, self.facts):
                    return Total.ONE_OR_NONE
                return Total.ONE
            case Part(index) if index >= 0:
                return self._yielded(node.inputs[0].op, index, axes, depth)
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
            case L1Normalize(along, eps) if set(along) == axes and self._range(node.inputs[0]).non_negative:
                bounds, floor = self._range(node.inputs[0]), eps.as_number()
                if bounds.positive and floor is not None and bounds.low >= floor:
                    return Total.ONE
                return Total.NEAR_ONE if bounds.positive else Total.AT_MOST_ONE
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
        if isinstance(divisor.op, Add | Maximum):
            for total, least in (divisor.inputs, divisor.inputs[::-1]):
                if _is_sum_of(total, value, axes) and self._range(least).positive:
                    return Total.NEAR_ONE
        return Total.AT_MOST_ONE if self._counted(value, divisor, axes) else Total.UNKNOWN

    def _counted(self, value: Node, divisor: Node, axes: Axes) -> bool:
        """Whether values from 0 to 1, of which a causal mask leaves n + 1, are divided by n + 1 or more."""
        bounds = self._range(value)
        if not isinstance(value.op, Where) or len(axes) != 1 or not (bounds.non_negative and bounds.high <= 1):
            return False
        condition, _, rest = value.inputs
        if isinstance(divisor.op, Power):
            exponent = linear(divisor.inputs[1], self.constants)
            if exponent is None or exponent.factors or exponent.low < 1 or exponent.low != exponent.high:
                return False
            divisor = divisor.inputs[0]
        count = linear(divisor, self.constants)
        if count is None or not isinstance(rest.op, Literal) or rest.op.value != 0 or len(count.factors) != 1:
            return False
        [(row, factor)], [key] = count.factors.items(), axes
        return factor >= 1 and count.low >= 1 and lags(condition, row, key, self.constants).high <= 0

    def _yielded(self, scan: Op, index: int, axes: Axes, depth: int) -> Total:
        """What the weights of every step sum to, where they are one row of them."""
        if not isinstance(scan, Scan) or index < scan.states or scan.axis in axes:
            return Total.UNKNOWN
        return self.of(scan.step.results[index], axes, depth + 1)

    def _mixture(self, left: Node, right: Node, axes: Axes, depth: int) -> Total:
        """(1 - g) * a + g * b."""
        if not isinstance(left.op, Multiply) or not isinstance(right.op, Multiply):
            return Total.UNKNOWN
        for gate, one in (left.inputs, left.inputs[::-1]):
            for other_gate, other in (right.inputs, right.inputs[::-1]):
                if are_complements(gate, other_gate) and axes.isdisjoint(gate.axes):
                    pair = (self.of(one, axes, depth + 1), self.of(other, axes, depth + 1))
                    if pair == (Total.ONE, Total.ONE):
                        return Total.ONE
                    signs = all(self._range(node).non_negative for node in (gate, other_gate, one, other))
                    if Total.UNKNOWN not in pair and signs:
                        return Total.AT_MOST_ONE
        return Total.UNKNOWN


def _divides(node: Node, users: Mapping[Node, list[Node]]) -> bool:
    """Whether a value is a denominator and nothing else, which weighs no values."""
    readers = users[node]
    return bool(readers) and all(
        _divides(user, users) if isinstance(user.op, Reorder | Broadcast)
        else isinstance(user.op, Divide) and user.inputs[1] is node and user.inputs[0] is not node
        for user in readers
    )  # fmt: skip


def weights(formula: Formula, sequence: frozenset[str]) -> tuple[Weights, ...]:
    """What weighs values in sums, and results that are maps, in the order of evaluation, that in steps included.

    Of a product and of a mixture also what is normalised in it, and tables; of a part of weights, the whole.
    """
    totals = Totals(formula.constants, formula.facts)
    results = dict.fromkeys(a for node in formula.graph.outputs for a in node.axes if a in sequence)
    origins, inputs = _origins(formula.graph), len(formula.inputs)
    found: dict[tuple[Node, Axes], Weights] = {}

    def say(node: Node, axes: Axes, total: Total, steps: Axes) -> None:
        has = frozenset(node.axes) | steps
        missing = results.keys() - has.union(*(origins.get(axis, frozenset()) for axis in has))
        found.setdefault((node, axes), _weights(node, axes, total, tuple(a for a in results if a in missing), inputs))

    def factors(node: Node, along: Axes, steps: Axes) -> None:
        for factor in _factors(node):
            axes = _normalised(factor)
            if axes and totals.of(factor, axes) is not Total.UNKNOWN:
                say(factor, axes, totals.of(factor, axes), steps)
            elif along and along <= set(factor.axes) and len(sequence & set(factor.axes)) > 1 and _is_table(factor):
                say(factor, along, Total.UNKNOWN, steps)

    for graph, steps in _graphs(formula.graph):
        users = graph.users()
        for node in graph:
            if not isinstance(node.op, Contraction) or _divides(node, users):
                continue
            axes = frozenset(node.op.axes)
            for weight, value in (node.inputs, node.inputs[::-1]):
                along = axes & sequence if axes & sequence else axes
                if not along <= set(weight.axes) or not along <= set(value.axes):
                    continue
                total = totals.of(weight, axes)
                if total is Total.UNKNOWN:
                    total = totals.later(weight, node, users)
                mixes = bool(axes & sequence) and len(sequence & (steps | set(weight.axes))) > 1 and value.type.batched
                mixes = mixes and not _is_of_positions(weight)
                if total is not Total.UNKNOWN or mixes:
                    say(weight, along if total is Total.UNKNOWN else axes, total, steps)
                    if not isinstance(weight.op, Softmax | L1Normalize):
                        factors(weight, along, steps)
                    break
    for node in formula.graph.outputs:
        if len(node.axes) > 1:
            for axis in node.axes:
                total = totals.of(node, frozenset({axis}))
                if total is not Total.UNKNOWN:
                    say(node, frozenset({axis}), total, frozenset())
            factors(node, frozenset(), frozenset())
    return tuple(found.values())


def _graphs(graph: Graph, steps: Axes = frozenset()) -> Iterator[tuple[Graph, Axes]]:
    """The graph and, before it, those of the steps of its recurrences. Each with the axes that its steps are along."""
    for node in graph:
        if isinstance(node.op, Scan):
            yield from _graphs(Graph(node.op.step.results, {}), steps | {node.op.axis})
    yield graph, steps


def _factors(node: Node, depth: int = 0) -> Iterator[Node]:
    """What a value is a product, a mixture or a part of; through sums that do not touch what is normalised."""
    yield node
    if depth > 6:
        return
    match node.op:
        case Multiply() | Add():
            below: tuple[Node, ...] = node.inputs
        case Divide() | Reorder() | Broadcast() | Slice() | StopGradient():
            below = node.inputs[:1]
        case Where():
            below = node.inputs[1:2]
        case Contraction(along):
            below = tuple(operand for operand in node.inputs if not set(along) & set(_normalised(operand) or along))
        case _:
            below = ()
    for operand in below:
        yield from _factors(operand, depth + 1)


def _normalised(node: Node) -> Axes:
    """The axes along which an operation normalises; none for another one."""
    match node.op:
        case Softmax() | L1Normalize():
            return frozenset(node.op.axes)
        case Divide():
            divisor = node.inputs[1]
            sums = divisor.inputs if isinstance(divisor.op, Add | Maximum) else (divisor,)
            return frozenset(axis for each in sums for axis in _product(each)[0] if axis in node.axes)
    return frozenset()


def _is_table(node: Node) -> bool:
    """Whether a value is learned and no input changes it; what is made of several factors or branches is not one."""
    made = isinstance(node.op, Multiply | Add | Where | Reorder | Broadcast)
    return not made and not node.type.batched and not _is_of_positions(node)


def _is_of_positions(node: Node) -> bool:
    """Whether a value is made of positions and sizes alone, as a mask is."""
    return not any(isinstance(each.op, Declared | Argument) for each in topological([node]))


def _weights(node: Node, axes: Axes, total: Total, missing: tuple[str, ...], inputs: int) -> Weights:
    read = [each.op.name for each in topological([node]) if isinstance(each.op, Input)]
    alone = read[0] if len(read) == 1 < inputs else None
    return Weights(node, tuple(a for a in node.axes if a in axes), total.value, missing, node.type.batched, alone)


def _origins(graph: Graph) -> Mapping[str, frozenset[str]]:
    """For an axis that is made of others, as by a split, a slice or pooling: those, and what they are made of."""
    found: dict[str, frozenset[str]] = {}
    for node in deep(graph):
        if isinstance(node.op, Rename | Contraction):
            continue
        before = frozenset(axis for operand in node.inputs for axis in operand.axes)
        gone = before - set(node.axes)
        for axis in gone and set(node.axes) - before:
            found[axis] = found.get(axis, frozenset()) | gone.union(*(found.get(each, frozenset()) for each in gone))
    return found


def _is_sum_of(node: Node, value: Node, axes: Axes) -> bool:
    """Whether a value is the sum of another one over the axes, also where its sums have been taken one by one."""
    if isinstance(node.op, Sum) and set(node.op.axes) == axes and node.inputs[0] is value:
        return True
    summed, factors = _product(node)
    inner, others = _product(value)
    return not inner & axes and summed == inner | axes and factors == others


def _product(node: Node, depth: int = 0) -> tuple[Axes, Counter[Node]]:
    """A value as the sum over some axes of a product of factors."""
    match node.op:
        case Sum() if depth < 6:
            summed, factors = _product(node.inputs[0], depth + 1)
            return summed | set(node.op.axes), factors
        case Multiply() | Contraction() if depth < 6:
            (one, first), (other, second) = (_product(operand, depth + 1) for operand in node.inputs)
            along = frozenset(node.op.axes) if isinstance(node.op, Contraction) else frozenset()
            # what is summed inside must not stand in the other factor
            if not (one & _all_axes(second) or other & _all_axes(first) or one & other):
                return one | other | along, first + second
    return frozenset(), Counter([node])


def _all_axes(factors: Counter[Node]) -> Axes:
    return frozenset(axis for node in factors for axis in node.axes)
