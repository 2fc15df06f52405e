"""Where numbers may go wrong: denominators that can be 0, logarithms and roots of negative values, overflow.

Sound in one direction: where nothing is found, finite inputs of moderate size give finite results. What is found need
not happen; the bounds of values are all that it is judged by. Of a recurrence, any step is looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from ..formula import Formula
from ..graph import Graph, Node
from ..ops.arithmetic import Add, Divide, FloorDivide, IntegerPower, Modulo, Multiply, Negative, Power, Subtract
from ..ops.base import Leaf
from ..ops.cumulative import CumulativeProduct, CumulativeSum
from ..ops.functions import (
    Abs,
    Acos,
    Asin,
    Cosh,
    Exp,
    Expm1,
    Log,
    Log1p,
    Log2,
    Reciprocal,
    Rsqrt,
    Sinh,
    Sqrt,
    Tan,
)
from ..ops.layout import Rename
from ..ops.leaves import Literal
from ..ops.logic import Equal, Greater, GreaterEqual, IsNan, Less, LessEqual, NotEqual, Where
from ..ops.normalisations import LogSoftmax, Softmax
from ..ops.reductions import Max, Product, StandardDeviation, Sum
from ..ops.selection import Pad
from ..scan import Argument, Scan, deep
from ..sizes import Facts, Poly
from ..structure import implies_not_after
from .gradients import reached_by_gradients
from .ranges import INF, Range, ranges, within
from .ratios import EXPONENT, shifted
from .rows import Total, Totals
from .seen import leaves_some_of, shown_where

HALF = 65504.0  # the largest number of float16
STEEP = 5  # a power from which on a value as small as 9 leaves float16


class Hazard(Enum):
    ZERO = "a denominator that can be 0"
    DOMAIN = "an argument outside of the domain"
    OVERFLOW = "a result without an upper bound that grows fast"
    GRADIENT = "a value that is not selected, whose gradient is NaN all the same"
    EMPTY = "a row in which everything may be -inf"
    ROOT = "a root of a value that can be 0, where its gradient is infinite"


@dataclass(frozen=True)
class Found:
    """One place where numbers may go wrong.

    node: the operation; cause: the operand to blame. negative: whether that may be negative.
    given: it is an argument as it stands, whose values are the caller's to choose, or computed from positions and
        parameters alone.
    """

    hazard: Hazard
    node: Node
    cause: Node
    negative: bool = False
    given: bool = False


_SUSPECTS = (
    Acos, Asin, Cosh, CumulativeProduct, Divide, Exp, Expm1, FloorDivide, IntegerPower, Log, Log1p, Log2, LogSoftmax,
    Modulo, Power, Product, Reciprocal, Rsqrt, Sinh, Softmax, Sqrt, StandardDeviation, Subtract, Tan,
)  # fmt: skip


def hazards(formula: Formula) -> tuple[Found, ...]:
    """Every place of the formula as written where numbers may go wrong, in the order of evaluation."""
    if not any(isinstance(node.op, _SUSPECTS) for node in deep(formula.graph)):
        return ()
    found = dict.fromkeys(_Search(formula, formula.graph, {}).found())
    if any(each.hazard is Hazard.OVERFLOW and isinstance(each.node.op, Exp) for each in found):
        gone = set(formula.graph) - set(shifted(formula).graph)
        found = {each: None for each in found if each.hazard is not Hazard.OVERFLOW or each.node not in gone}
    if any(each.hazard in _OF_GRADIENTS for each in found):
        reached = reached_by_gradients(formula)
        found = {each: None for each in found if each.hazard not in _OF_GRADIENTS or _is_met(each, reached)}
    return tuple(found)


_OF_GRADIENTS = (Hazard.GRADIENT, Hazard.ROOT)


def _is_met(found: Found, reached: Collection[Node]) -> bool:
    """Whether a gradient comes to the value; and goes on behind it, where only that is NaN."""
    if found.hazard is Hazard.GRADIENT:
        return found.node in reached
    [value] = found.node.inputs[:1]
    return value in reached and (isinstance(value.op, Leaf) or any(operand in reached for operand in value.inputs))


@dataclass(frozen=True)
class _Trend:
    """A value falls, or rises, as the later position moves away from the earlier one."""

    later: str
    earlier: str
    falls: bool


class _Search:
    """Of one graph: that of a formula, or that of a step.

    known: ranges of its values, it grows. around: of a step, the search outside and the scan.
    """

    def __init__(
        self,
        formula: Formula,
        graph: Graph,
        known: dict[Node, Range],
        around: tuple[_Search, Node] | None = None,
    ) -> None:
        self.formula = formula
        self.graph = graph
        self.known = known
        self.around = around
        self.rows = Totals(formula.constants, formula.facts, known)
        self.users: Mapping[Node, list[Node]] | None = None

    def found(self) -> Iterator[Found]:
        for node in self.graph:
            if isinstance(node.op, Scan):
                yield from self._of_steps(node, node.op)
            elif isinstance(node.op, _SUSPECTS):
                yield from self._of(node)

    def _may_be_empty(self, node: Node) -> bool:
        """Whether all entries of a row may be -inf, as masks make them."""
        op = node.op
        if isinstance(op, Subtract):  # of the largest of the row
            largest = node.inputs[1]
            if not isinstance(largest.op, Max) or largest.inputs[0] is not node.inputs[0]:
                return False
            op = largest.op
        elif len(node.inputs) > 1:  # such a row is 0
            return False
        axes = op.axes  # type: ignore[attr-defined]
        shown = shown_where(node.inputs[0])
        if not shown or (isinstance(node.op, Softmax) and "sink" in node.op.given):
            return False
        known = [each for each in shown if each is not None]
        facts, constants = self.formula.facts, self.formula.constants
        return len(known) < len(shown) or not leaves_some_of(known, axes, constants, facts)

    def _of(self, node: Node) -> Iterator[Found]:
        bounds = ranges((node,), self.formula.constants, self.known)
        if isinstance(node.op, Softmax | LogSoftmax | Subtract):
            if self._may_be_empty(node):
                yield Found(Hazard.EMPTY, node, node.inputs[0])
            return
        for each in _judged(node, bounds, self.formula.facts):
            if each.hazard is Hazard.ZERO and _is_one(each.cause, self.rows):
                continue
            if self.users is None:
                self.users = self.graph.users()
            if each.hazard is Hazard.OVERFLOW and isinstance(node.op, Exp) and self._decays(node):
                continue
            after = _guarded(each, () if node in self.graph.outputs else self.users[node])
            if after is not None:
                yield replace(after, given=self._is_given(after.cause, after.hazard is Hazard.OVERFLOW))

    def _decays(self, node: Node) -> bool:
        """Whether an exponential is of a level that falls from a position to a later one, and of -inf elsewhere."""
        [exponent] = node.inputs
        if not isinstance(exponent.op, Where) or exponent.inputs[2].op != Literal(-INF):
            return False
        trend = self._trend(exponent.inputs[1])
        if trend is None or not trend.falls:
            return False
        return implies_not_after(exponent.inputs[0], trend.later, trend.earlier, self.formula.facts)

    def _trend(self, node: Node, depth: int = 0) -> _Trend | None:
        """How a difference of a running sum at two positions goes, up to factors of known sign."""
        if depth > 8:
            return None
        match node.op:
            case Subtract():
                for index, (level, other) in enumerate((node.inputs, node.inputs[::-1])):
                    moved = other.op
                    if not isinstance(moved, Rename) or other.inputs[0] is not level:
                        continue
                    if not isinstance(level.op, CumulativeSum) or level.op.axis != moved.source:
                        continue
                    sign = self._sign(level.inputs[0])
                    falls = sign is not None and (sign < 0) is not bool(index)
                    return None if sign is None else _Trend(moved.source, moved.target, falls)
            case Negative():
                inner = self._trend(node.inputs[0], depth + 1)
                return None if inner is None else replace(inner, falls=not inner.falls)
            case Multiply() | Divide():
                pairs = (node.inputs, node.inputs[::-1])[: 1 + isinstance(node.op, Multiply)]
                for value, scale in pairs:
                    inner, sign = self._trend(value, depth + 1), self._sign(scale)
                    if inner is not None and sign is not None:
                        return replace(inner, falls=inner.falls is (sign > 0))
        return None

    def _sign(self, node: Node) -> int | None:
        """1 of a value that is never negative, -1 of one that is never positive."""
        known = ranges((node,), self.formula.constants, self.known)[node]
        return 1 if known.non_negative else -1 if known.high <= 0 else None

    def _of_steps(self, node: Node, op: Scan) -> Iterator[Found]:
        if not any(isinstance(inner.op, _SUSPECTS) for inner in deep(op.step.nodes())):
            return
        ranges(node.inputs, self.formula.constants, self.known)
        inside = within(node, self.formula.constants, self.known)
        steps = Graph(op.step.results, {})
        yield from _Search(self.formula, steps, inside, (self, node)).found()

    def _is_given(self, node: Node, filled: bool, depth: int = 0) -> bool:
        """Whether a value is an argument of the module or of a call, up to terms and factors that are.

        filled: also where the text puts numbers at some positions, which may be 0 but are never too large.
        """

        def below(operand: Node) -> bool:
            return self._is_given(operand, filled, depth + 1)

        if isinstance(node.op, Argument) and self.around is not None:
            outside, scan = self.around
            index = scan.op.step.arguments.index(node)  # type: ignore[attr-defined]
            return index >= scan.op.states and outside._is_given(scan.inputs[index], filled, depth)  # type: ignore[attr-defined]
        if not node.type.batched or isinstance(node.op, Leaf):
            return True
        if depth > 6:
            return False
        if filled and isinstance(node.op, Where) and not node.inputs[0].type.batched:
            return all(map(below, node.inputs[1:]))
        if not isinstance(node.op, Add | Subtract | Multiply | Divide):
            moved = node.op.is_view() or isinstance(node.op, Negative) or (filled and isinstance(node.op, Pad))
            return moved and below(node.inputs[0])
        left, right = node.inputs
        return (not right.type.batched and below(left)) or (not left.type.batched and below(right))


def _is_one(node: Node, rows: Totals) -> bool:
    """Whether this is the sum of weights that sum to one."""
    return isinstance(node.op, Sum) and rows.of(node.inputs[0], frozenset(node.op.axes)) is Total.ONE


def _judged(node: Node, known: Mapping[Node, Range], facts: Facts) -> Iterator[Found]:
    first = known[node.inputs[0]]
    match node.op:
        case Divide() | FloorDivide() | Modulo():
            yield from _zero(node, node.inputs[1], known)
        case Reciprocal():
            yield from _zero(node, node.inputs[0], known)
        case Rsqrt():
            yield from _zero(node, node.inputs[0], known)
            if not first.non_negative:
                yield _domain(node, known)
        case Log() | Log2():
            if not first.positive:
                yield _domain(node, known)
        case Log1p():
            if not (first.low > -1 or (first.low == -1 and first.low_open)):
                yield _domain(node, known)
        case Sqrt():
            if not first.non_negative:
                yield _domain(node, known)
            elif not first.positive:
                yield Found(Hazard.ROOT, node, node.inputs[0])
        case StandardDeviation():
            yield Found(Hazard.ROOT, node, node)
        case Asin() | Acos():
            if first.low < -1 or first.high > 1:
                yield _domain(node, known)
        case Exp() | Expm1():
            if first.high > EXPONENT:
                yield Found(Hazard.OVERFLOW, node, node.inputs[0])
        case Sinh() | Cosh():
            if max(-first.low, first.high) > EXPONENT:
                yield Found(Hazard.OVERFLOW, node, node.inputs[0])
        case Power():
            yield from _power(node, known)
        case IntegerPower(exponent) if exponent >= STEEP and max(-first.low, first.high) ** exponent > HALF:
            yield Found(Hazard.OVERFLOW, node, node.inputs[0])
        case Product(axes) if _largest_product(first, Poly.volume(axes), facts) > HALF:
            yield Found(Hazard.OVERFLOW, node, node.inputs[0])
        case CumulativeProduct() if max(-first.low, first.high) > 1:
            yield Found(Hazard.OVERFLOW, node, node.inputs[0])
        case Tan():
            yield Found(Hazard.OVERFLOW, node, node.inputs[0])


def _largest_product(factor: Range, count: Poly, facts: Facts) -> float:
    largest, number = max(-factor.low, factor.high), facts.canonical(count).as_number()
    if largest <= 1:
        return 1.0
    return float("inf") if number is None or number > HALF else largest ** float(number)


def _power(node: Node, known: Mapping[Node, Range]) -> Iterator[Found]:
    base, exponent = (known[operand] for operand in node.inputs)
    whole = exponent.low == exponent.high and float(exponent.low).is_integer()
    if not base.non_negative and not whole:
        yield _domain(node, known)
    elif base.non_negative and not base.positive and exponent.low < 1 and exponent.high > 0 and not whole:
        yield Found(Hazard.ROOT, node, node.inputs[0])
    if not base.positive and exponent.low < 0:
        yield from _zero(node, node.inputs[0], known)
    largest = max(-base.low, base.high)
    if (largest > 1 and exponent.high >= STEEP and largest**exponent.high > HALF) or (
        base.low < 1 and exponent.low <= -STEEP
    ):
        yield Found(Hazard.OVERFLOW, node, node.inputs[0])


def _zero(node: Node, cause: Node, known: Mapping[Node, Range]) -> Iterator[Found]:
    bounds = known[cause]
    if not bounds.positive and not (bounds.high < 0 or (bounds.high == 0 and bounds.high_open)):
        yield Found(Hazard.ZERO, node, cause, not bounds.non_negative)


def _domain(node: Node, known: Mapping[Node, Range]) -> Found:
    cause = node.inputs[0]
    return Found(Hazard.DOMAIN, node, cause, not known[cause].non_negative)


# -- guards ------------------------------------------------------------------------------------------


def _guarded(found: Found, later: Collection[Node]) -> Found | None:
    """The finding; None where `where(isnan(x), 0, x)` cleans up behind it.

    later: all that reads the value; nothing, if it is a result. Where the text selects by the operand that causes it,
    the value is discarded, but the gradient of it is not.
    """
    if later and all(_cleans(user, found.node) for user in later):
        return None
    if found.hazard is not Hazard.OVERFLOW and later and all(_selects(user, found) for user in later):
        return replace(found, hazard=Hazard.GRADIENT)
    return found


def _cleans(user: Node, value: Node) -> bool:
    if isinstance(user.op, IsNan):
        return True
    if not isinstance(user.op, Where) or user.inputs[1] is value:
        return False
    return isinstance(user.inputs[0].op, IsNan) and user.inputs[0].inputs[0] is value


def _selects(user: Node, found: Found) -> bool:
    if not isinstance(user.op, Where):
        return False
    condition = user.inputs[0]
    if not isinstance(condition.op, Equal | NotEqual | Greater | GreaterEqual | Less | LessEqual):
        return False
    return any(_magnitude(operand) is _magnitude(found.cause) for operand in condition.inputs)


def _magnitude(node: Node) -> Node:
    return node.inputs[0] if isinstance(node.op, Abs) else node
