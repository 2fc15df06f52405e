"""Bounds of values: what sign a value has, and where it lies.

Sound: the value lies in the interval for all inputs, sizes and finite parameters, up to rounding.
Ends are open where `strict` says so, which tells `> 0` from `>= 0`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce

from ..graph import Node
from ..ops.arithmetic import Add, Divide, IntegerPower, Multiply, Negative, Power, Subtract
from ..ops.base import Op
from ..ops.contraction import Contraction
from ..ops.cumulative import CumulativeMax, CumulativeMin, CumulativeProduct, CumulativeSum
from ..ops.functions import (
    Abs,
    Cos,
    Elu,
    Erf,
    Exp,
    HardSigmoid,
    Int,
    Log,
    LogSigmoid,
    Relu,
    Relu6,
    Sigmoid,
    Sign,
    Sin,
    Softplus,
    Softsign,
    Sqrt,
    Square,
    StopGradient,
    Tanh,
)
from ..ops.layout import Broadcast, Convert, Merge, Rename, Reorder, Split
from ..ops.leaves import Literal, Position, Size
from ..ops.logic import Equal, GreaterEqual, LessEqual, NotEqual, Where
from ..ops.normalisations import L1Normalize, L2Normalize, LogSoftmax, Softmax
from ..ops.ordering import Sort
from ..ops.pairs import Clamp, Maximum, Minimum
from ..ops.reductions import LogSumExp, Max, Mean, Min, Norm, Product, Sum, Variance
from ..ops.segments import SegmentMax, SegmentSoftmax, SegmentSum
from ..ops.selection import Concat, Roll, Shift, Slice, Take
from ..scan import Part, Scan
from ..structure import affine
from ..types import Kind
from .shares import is_share

INF = math.inf
LARGEST = sys.float_info.max  # no lower end is above, so that no value counts as the same for all inputs by overflow


@dataclass(frozen=True)
class Range:
    """low <= value <= high; low_open: low < value; high_open: value < high."""

    low: float = -INF
    high: float = INF
    low_open: bool = False
    high_open: bool = False

    @property
    def positive(self) -> bool:
        return self.low > 0 or (self.low == 0 and self.low_open)

    @property
    def non_negative(self) -> bool:
        return self.low >= 0


ANY = Range()


def ranges(
    outputs: tuple[Node, ...],
    constants: Mapping[str, int | float],
    found: dict[Node, Range] | None = None,
    free: frozenset[str] = frozenset(),
    outside: Mapping[Node, Node] | None = None,
) -> dict[Node, Range]:
    """The range of every node that the outputs need.

    found: ranges that are known already; it grows. free: constants of which nothing is known. outside: what
    the arguments of a step are there, of which the ranges are known too.
    """
    found = {} if found is None else found
    stack = list(outputs)
    while stack:
        node = stack[-1]
        missing = [operand for operand in node.inputs if operand not in found]
        if node in found:
            stack.pop()
        elif missing:
            stack.extend(missing)
        elif isinstance(node.op, Size) and free and node.op.size.symbols() & free:
            found[node] = ANY
        elif isinstance(node.op, Part):
            found[node] = _members(node.inputs[0], constants, found, free)[node.op.index]
        else:
            found[node] = range_of(node, [found[operand] for operand in node.inputs], constants, found, outside)
            if node.type.kind is Kind.COMPLEX and not _is_real(node, found[node]):
                found[node] = ANY
    return found


def _is_real(node: Node, found: Range) -> bool:
    """Whether a complex value is a real number: only of such ones something is known. A square may be negative."""
    return isinstance(node.op, Convert) or found.low == found.high == 0 or not node.inputs


def _members(
    scan: Node, constants: Mapping[str, int | float], found: Mapping[Node, Range], free: frozenset[str]
) -> list[Range]:
    """The ranges of what a scan gives."""
    op = scan.op
    assert isinstance(op, Scan)
    inside = within(scan, constants, found, free)
    return [inside[result] for result in op.step.results]


def within(
    scan: Node,
    constants: Mapping[str, int | float],
    found: Mapping[Node, Range],
    free: frozenset[str] = frozenset(),
) -> dict[Node, Range]:
    """The ranges of the values of any step: by induction, from ranges of the states that a step keeps them in.

    What a step makes of those ranges bounds every state after the first, so the last round may only narrow.
    found: the ranges of the operands of the scan.
    """
    op = scan.op
    assert isinstance(op, Scan)
    given = [found[operand] for operand in scan.inputs]
    starts, rest = given[: op.states], given[op.states :]

    def stepped(states: list[Range]) -> tuple[dict[Node, Range], list[Range]]:
        inside = dict(zip(op.step.arguments, (*states, *rest), strict=True))
        ranges(op.step.results, constants, inside, free)
        return inside, [hull(start, inside[result]) for start, result in zip(starts, op.step.results, strict=False)]

    inside, needed = stepped(starts)
    states = starts
    if needed != starts:  # one step, and then the widest of all
        states = [hull(*pair) for pair in zip(starts, needed, strict=True)]
        inside, needed = stepped(states)
    while (wider := [_widened(*pair) for pair in zip(states, needed, strict=True)]) != states:
        states = wider
        inside, needed = stepped(states)
    return inside if needed == states else stepped(needed)[0]


def _widened(kept: Range, needed: Range) -> Range:
    """A range with both. An end that moves goes to 0 or as far as it can, so that no induction goes on for ever."""
    low, low_open = _end(kept.low, kept.low_open, needed.low, needed.low_open)
    high, high_open = _end(-kept.high, kept.high_open, -needed.high, needed.high_open)
    return Range(low, -high, low_open, high_open)


def _end(kept: float, kept_open: bool, needed: float, needed_open: bool) -> tuple[float, bool]:
    """The lower end of two, and whether it is open."""
    if needed < kept:
        return (0.0, False) if needed >= 0 else (-INF, False)
    return kept, kept_open and (needed_open or needed > kept)


def range_of(
    node: Node,
    operands: list[Range],
    constants: Mapping[str, int | float],
    found: Mapping[Node, Range],
    outside: Mapping[Node, Node] | None = None,
) -> Range:
    """The range of a node whose operands have the given ranges. found: those of all nodes below, wherever they are."""
    match node.op:
        case Literal(value):
            return Range(value, value) if math.isfinite(value) else Range()
        case Size(size):
            name = size.as_symbol()
            if name is not None and name in constants:
                return Range(float(constants[name]), float(constants[name]))
            number = size.as_number()
            if number is not None:
                return Range(float(number), float(number))
            return Range(1.0) if name is not None else ANY
        case Position():
            return Range(0.0)
        case Where():
            return hull(operands[1], operands[2])
        case Abs() if _is_never_zero(node.inputs[0]):
            return Range(0.0, max(-operands[0].low, operands[0].high), low_open=True)
        case Add():
            return _meet(_meet(_add(operands[0], operands[1]), _square_completed(node)), _mixture(node, found))
        case Subtract() if node.inputs[0] is node.inputs[1]:
            return Range(0.0, 0.0)
        case Subtract() if _is_below(node.inputs[0], node.inputs[1]):
            return Range(high=0.0)
        case Subtract() if _is_below(node.inputs[1], node.inputs[0]) or _is_spread(*node.inputs):
            return Range(0.0)
        case Subtract():
            return _meet(_add(operands[0], _negate(operands[1])), _square_completed(node))
        case Negative():
            return _negate(operands[0])
        case Multiply():
            same = node.inputs[0] is node.inputs[1]
            known = _squared(operands[0]) if same else _multiply(operands[0], operands[1])
            return _of_share(node, known, found, outside)
        case Divide():
            return _of_share(node, _multiply(operands[0], _reciprocal(operands[1])), found, outside)
        case Square():
            return _squared(operands[0])
        case IntegerPower(exponent):
            return _even_power(operands[0], exponent) if exponent % 2 == 0 else _sign_of(operands[0])
        case Power():
            return _power(operands[0], operands[1])
        case Int():
            return Range(_truncated(operands[0].low), _truncated(operands[0].high))
        case Sum(axes):
            return Range(0.0, INF, True) if _some_positive(node.inputs[0], axes, found) else _sign_of(operands[0])
        case Product():
            return Range(0.0, INF, operands[0].positive) if operands[0].non_negative else ANY
        case Contraction(axes):
            pairs = (node.inputs, node.inputs[::-1])
            if any(found[a].positive and _some_positive(b, axes, found) for a, b in pairs):
                return Range(0.0, INF, True)
            same = node.inputs[0] is node.inputs[1]
            return Range(0.0) if same else _sign_of(_multiply(operands[0], operands[1]))
        case CumulativeSum() | SegmentSum():
            return _sign_of(operands[0])
        case CumulativeProduct():
            return _running_product(operands[0])
        case Take() | Slice() | Roll() | Convert() | Sort() | CumulativeMax() | CumulativeMin() | SegmentMax():
            return operands[0]
        case Shift():
            return hull(operands[0], Range(0.0, 0.0))
        case Concat():
            return reduce(hull, operands)
        case L1Normalize() | L2Normalize():
            return _meet(_sign_of(operands[0]), Range(-1.0, 1.0))
        case Variance() | Norm():
            return Range(0.0)
        case Mean() | Max() | Min() | Rename() | Reorder() | Split() | Merge() | Broadcast() | StopGradient():
            return operands[0]
        case Maximum():
            return _largest(operands[0], operands[1])
        case Minimum():
            return _negate(_largest(_negate(operands[0]), _negate(operands[1])))
        case Clamp(given):
            kept = operands[0]
            for name, bound in zip(given, operands[1:], strict=True):
                kept = _largest(kept, bound) if name == "min" else _negate(_largest(_negate(kept), _negate(bound)))
            return kept
        case Elu(alpha):
            slope = alpha.as_number()
            if operands[0].non_negative or slope is None or slope < 0:
                return operands[0] if operands[0].non_negative else ANY
            return Range(-float(slope), max(operands[0].high, 0.0), slope > 0)
    rule = _FUNCTIONS.get(type(node.op))
    return rule(operands[0]) if rule else ANY


def _running_product(a: Range) -> Range:
    """Products of one factor or more; of small ones they may round to 0."""
    if a.low >= 1:
        return Range(a.low)
    return Range(0.0, 1.0 if a.high <= 1 else INF) if a.non_negative else ANY


def _squared(a: Range) -> Range:
    """The square of a value; of a small one it may round to 0."""
    if not a.positive or a.low * a.low == math.inf:
        return _even_power(a, 2)
    return Range(a.low * a.low, a.high * a.high, a.low_open and a.low > 0, a.high_open)


def _even_power(a: Range, exponent: int) -> Range:
    """A power with an even exponent; of a small value it may round to 0."""
    largest = max(abs(a.low), abs(a.high))
    return Range(0.0, largest**exponent if 0 < exponent * math.log2(max(largest, 1)) < 1000 or largest <= 1 else INF)


def _of_share(
    node: Node, known: Range, found: Mapping[Node, Range], outside: Mapping[Node, Node] | None
) -> Range:
    """The range of a product or quotient, in 0 .. 1 where it is a share of a sum."""
    if known.low >= 0 and known.high <= 1:
        return known
    signs = (lambda each: found.get(each, ANY).non_negative, lambda each: found.get(each, ANY).positive)
    share = is_share(node, outside or {}, *signs)
    return _meet(known, Range(0.0, 1.0)) if share else known


def _truncated(end: float) -> float:
    return float(math.trunc(end)) if math.isfinite(end) else end


def _is_never_zero(node: Node) -> bool:
    """Whether a value is one in whose place another number stands where it is 0: `where(x == 0, 1, x)`."""
    if not isinstance(node.op, Where):
        return False
    condition, instead, value = node.inputs
    number, kept = (value, instead) if isinstance(condition.op, NotEqual) else (instead, value)
    if not isinstance(condition.op, Equal | NotEqual) or not isinstance(number.op, Literal) or not number.op.value:
        return False
    zeros = [each for each in condition.inputs if isinstance(each.op, Literal) and each.op.value == 0]
    return bool(zeros) and kept in condition.inputs


def _is_spread(high: Node, low: Node) -> bool:
    """Whether this is the largest and the smallest of the same values."""
    if not isinstance(high.op, Max) or not isinstance(low.op, Min):
        return False
    return high.inputs == low.inputs and set(high.op.axes) == set(low.op.axes)


def _is_below(one: Node, other: Node, depth: int = 0) -> bool:
    """Whether the other is the largest of several values, of which this is one; or their log-sum-exp."""
    if depth > 8:
        return False
    match other.op:
        case Max() | CumulativeMax() | SegmentMax() | LogSumExp():
            return other.inputs[0] is one
        case Maximum():
            return any(one is each or _is_below(one, each, depth + 1) for each in other.inputs)
        case Where():  # where(m == -inf, 0, m) in place of m: then one is -inf too
            condition, _, largest = other.inputs
            if not isinstance(condition.op, Equal) or condition.inputs[0] is not largest:
                return False
            return condition.inputs[1].op == Literal(-INF) and _is_below(one, largest, depth + 1)
    return False


def _some_positive(node: Node, axes: tuple[str, ...], found: Mapping[Node, Range], depth: int = 0) -> bool:
    """Whether no element is negative and, for any position along other axes, one along these is positive.

    Under a mask such as `pos(N) >= pos(M)` the first key is always seen.
    """
    if node not in found or not found[node].non_negative or depth > 8:
        return False
    if found[node].positive:
        return True
    match node.op:
        case Where():
            condition, yes, _ = node.inputs
            return found[yes].positive and holds_first(condition, axes)
        case Multiply():
            pairs = (node.inputs, node.inputs[::-1])
            return any(found[a].positive and _some_positive(b, axes, found, depth + 1) for a, b in pairs)
        case Divide():
            return found[node.inputs[1]].positive and _some_positive(node.inputs[0], axes, found, depth + 1)
        case Reorder() | StopGradient():
            return _some_positive(node.inputs[0], axes, found, depth + 1)
    return False


def holds_first(condition: Node, axes: tuple[str, ...]) -> bool:
    """Whether a comparison of positions is true at position 0 of the axes, wherever the others stand."""
    if not isinstance(condition.op, GreaterEqual | LessEqual):
        return False
    left, right = (affine(operand) for operand in condition.inputs)
    if left is None or right is None:
        return False
    form = left.minus(right) if isinstance(condition.op, GreaterEqual) else right.minus(left)
    offset = form.offset.as_number()
    others = (factor for axis, factor in form.positions.items() if axis not in axes)
    return offset is not None and offset >= 0 and all(factor >= 0 for factor in others)


def _square_completed(node: Node) -> Range:
    """a*x^2 + b*x + c lies on one side of c - b^2/4a, whatever x is."""
    form = _quadratic(node, 0)
    if form is None:
        return ANY
    _, c, b, a = form
    if a == 0:
        return ANY
    turn = c - b * b / (4 * a)
    return Range(low=turn) if a > 0 else Range(high=turn)


def _mixture(node: Node, found: Mapping[Node, Range]) -> Range:
    """g * a + (1 - g) * b lies where a and b do, for a g from 0 to 1; g + (1 - g) * b where 1 and b do."""
    one = Range(1.0, 1.0)
    for left, right in (node.inputs, node.inputs[::-1]):
        if not isinstance(right.op, Multiply):
            continue
        parts = [(gate, found[value]) for gate, value in (left.inputs, left.inputs[::-1])] if _is_product(left) else []
        for gate, first in (*parts, (left, one)):
            for rest, other in (right.inputs, right.inputs[::-1]):
                if are_complements(gate, rest) and all(found[g].low >= 0 and found[g].high <= 1 for g in (gate, rest)):
                    return hull(first, found[other])
    return ANY


def _is_product(node: Node) -> bool:
    return isinstance(node.op, Multiply)


def are_complements(one: Node, other: Node) -> bool:
    """Whether two values are g and 1 - g."""
    for gate, rest in ((one, other), (other, one)):
        if isinstance(rest.op, Subtract) and rest.inputs[1] is gate:
            whole = rest.inputs[0].op
            return isinstance(whole, Literal) and whole.value == 1
    return False


Quadratic = tuple[Node | None, float, float, float]  # x, and the factors of 1, x and x^2


def _quadratic(node: Node, depth: int) -> Quadratic | None:
    match node.op:
        case Literal(value) if math.isfinite(value):
            return None, float(value), 0.0, 0.0
        case Add() | Subtract() if depth < 4:
            sides = [_quadratic(operand, depth + 1) for operand in node.inputs]
            left, right = sides
            if left is None or right is None:
                return None
            if left[0] is not None and right[0] is not None and left[0] is not right[0]:
                return None
            sign = -1.0 if isinstance(node.op, Subtract) else 1.0
            total = [x + sign * y for x, y in zip(left[1:], right[1:], strict=True)]
            return left[0] or right[0], total[0], total[1], total[2]
        case Multiply() | Divide() if depth < 4:
            scaled, scale = node.inputs
            if isinstance(node.op, Multiply) and isinstance(scaled.op, Literal):
                scaled, scale = scale, scaled
            if isinstance(scale.op, Literal) and scale.op.value and math.isfinite(scale.op.value):
                factor = 1 / scale.op.value if isinstance(node.op, Divide) else float(scale.op.value)
                inner = _quadratic(scaled, depth + 1)
                return inner and (inner[0], inner[1] * factor, inner[2] * factor, inner[3] * factor)
        case Square() | IntegerPower(2):
            return node.inputs[0], 0.0, 0.0, 1.0
    return node, 0.0, 1.0, 0.0


def _meet(a: Range, b: Range) -> Range:
    """Where a value lies that lies in both."""
    if b == ANY:
        return a
    low, high = max(a.low, b.low), min(a.high, b.high)
    return Range(
        low, high,
        any(r.low_open for r in (a, b) if r.low == low),
        any(r.high_open for r in (a, b) if r.high == high),
    )  # fmt: skip


def _largest(a: Range, b: Range) -> Range:
    """The larger of two values."""
    low, high = max(a.low, b.low), max(a.high, b.high)
    return Range(
        low, high,
        any(r.low_open for r in (a, b) if r.low == low),
        all(r.high_open for r in (a, b) if r.high == high),
    )  # fmt: skip


def hull(a: Range, b: Range) -> Range:
    low = min(a.low, b.low)
    high = max(a.high, b.high)
    return Range(
        low, high,
        all(r.low_open for r in (a, b) if r.low == low),
        all(r.high_open for r in (a, b) if r.high == high),
    )  # fmt: skip


def _add(a: Range, b: Range) -> Range:
    low, high = min(a.low + b.low, LARGEST), max(a.high + b.high, -LARGEST)
    return Range(low, high, a.low_open or b.low_open, a.high_open or b.high_open)


def _safe_exp(x: float) -> float:
    """An upper end."""
    return INF if x > 709 else math.exp(x)


def _safe_low_exp(x: float) -> float:
    """A lower end: a finite number, however large."""
    return min(_safe_exp(x), LARGEST)


def _negate(a: Range) -> Range:
    return Range(-a.high, -a.low, a.high_open, a.low_open)


def _multiply(a: Range, b: Range) -> Range:
    if a.non_negative and b.non_negative:
        low = min(a.low * b.low, LARGEST)
        high = 0.0 if 0.0 in (a.high, b.high) else a.high * b.high
        return Range(low, high, a.positive and b.positive and low == 0.0, a.high_open and b.high_open)
    if a.high <= 0 and b.non_negative:
        return _negate(_multiply(_negate(a), b))
    if b.high <= 0 and a.non_negative:
        return _negate(_multiply(a, _negate(b)))
    if a.high <= 0 and b.high <= 0:
        return _multiply(_negate(a), _negate(b))
    corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high) if not (x == 0 or y == 0)]
    return Range(min([0.0, *corners]), max([0.0, *corners])) if corners else Range(0.0, 0.0)


def _reciprocal(a: Range) -> Range:
    if a.non_negative and not a.positive:  # 1/0 is inf
        return Range(0.0 if a.high == INF else _inverse(a.high) if a.high else 0.0)
    if not a.positive:
        return _negate(_reciprocal(_negate(a))) if _negate(a).positive else ANY
    return Range(
        0.0 if a.high == INF else _inverse(a.high),
        INF if a.low == 0 else 1 / a.low,
        a.high == INF or a.high_open,
        a.low_open,
    )


def _inverse(high: float) -> float:
    return min(1 / high, LARGEST)


def _power(base: Range, exponent: Range) -> Range:
    """A positive base: monotone in both, so the corners bound it."""
    if base.low == base.high == 0.0 and exponent.positive:
        return Range(0.0, 0.0)
    if not base.positive:
        return Range(0.0) if base.non_negative else ANY
    if base.low == base.high and math.isfinite(base.low):
        ends = sorted((_safe_power(base.low, exponent.low), _safe_power(base.low, exponent.high)))
        return Range(ends[0], ends[1], ends[0] == 0.0, False)
    if base.high <= 1 and exponent.non_negative:
        return Range(0.0, 1.0, True)
    return Range(0.0, INF, True)


def _safe_power(base: float, exponent: float) -> float:
    try:
        return float(base**exponent)
    except OverflowError:
        return INF


def _sign_of(a: Range) -> Range:
    if a.positive:
        return Range(0.0, INF, True)
    if a.non_negative:
        return Range(0.0)
    return Range(-INF, 0.0, False, a.high < 0 or a.high_open) if a.high <= 0 else ANY


def _cosine(a: Range) -> Range:
    """Within half a turn of 0 the cosine falls on both sides."""
    far = max(-a.low, a.high)
    return Range(math.cos(far), 1.0) if far <= math.pi else Range(-1.0, 1.0)


_FUNCTIONS: dict[type[Op], Callable[[Range], Range]] = {
    Exp: lambda a: Range(_safe_low_exp(a.low), _safe_exp(a.high), a.low == -INF or a.low_open, a.high_open),
    Abs: lambda a: a if a.non_negative else Range(0.0, max(-a.low, a.high)),
    Relu: lambda a: Range(max(a.low, 0.0), max(a.high, 0.0), a.low_open and a.low >= 0),
    Sigmoid: lambda a: Range(0.0, 1.0, True),  # of a large value it rounds to 1
    Tanh: lambda a: Range(0.0 if a.non_negative else -1.0, 1.0),
    Sin: lambda a: Range(-1.0, 1.0),
    Cos: lambda a: _cosine(a),
    Erf: lambda a: Range(0.0 if a.non_negative else -1.0, 1.0),
    Softsign: lambda a: Range(0.0 if a.non_negative else -1.0, 1.0),
    HardSigmoid: lambda a: Range(0.0, 1.0),
    Relu6: lambda a: Range(0.0, 6.0),
    Sign: lambda a: Range(1.0 if a.positive else 0.0 if a.non_negative else -1.0, -1.0 if _negate(a).positive else 1.0),
    Log: lambda a: Range(math.log(a.low) if a.low > 0 else -INF, math.log(a.high) if 0 < a.high < INF else INF),
    Softplus: lambda a: Range(0.0, INF, True),
    Sqrt: lambda a: Range(math.sqrt(a.low) if a.low > 0 else 0.0, INF, a.low_open and a.low >= 0),
    Softmax: lambda a: Range(0.0, 1.0),
    SegmentSoftmax: lambda a: Range(0.0, 1.0),
    LogSoftmax: lambda a: Range(high=0.0),
    LogSigmoid: lambda a: Range(high=0.0),
}
