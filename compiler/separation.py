"""Identities that take a value over two sequence axes apart into products of simpler ones.

Each is exact and states why it holds. What none of them takes apart stays a factor as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from .facts.ranges import Range
from .graph import Builder, Node
from .levels import Exponent, earlier, exponent, is_running_maximum, total
from .ops.arithmetic import Add, Divide, IntegerPower, Multiply, Negative, Subtract
from .ops.functions import Abs, Cos, Exp, Log, Relu, Sin, Square
from .ops.layout import Broadcast, Rename
from .ops.leaves import Literal, Position, Size
from .ops.logic import Equal, GreaterEqual, Where
from .ops.normalisations import L1Normalize, Softmax
from .ops.pairs import Clamp, Maximum, Minimum
from .ops.reductions import Max, Sum
from .ops.selection import Shift, Take
from .rules.chain import build_product, build_sum, factors, terms
from .sizes import Poly
from .structure import mask_of
from .types import Kind

LOWEST = -1e30  # of a level, so that a difference of two is a number
MODERATE = 11.0  # exponentials up to here, and down to minus this, are numbers of every precision


@dataclass(frozen=True)
class Apart:
    """The value written with products, and the rule that says so."""

    node: Node
    rule: str


REASONS = {
    "distribution": "a product with a sum is the sum of the products",
    "exponential of a sum": "exp(a + b) = exp(a) * exp(b)",
    "cosine of a sum": "cos(a + b) = cos(a)*cos(b) - sin(a)*sin(b)",
    "cosine of a magnitude": "cosine is even, so the sign of what it is taken of does not count",
    "power of a magnitude": "an even power has no sign",
    "sine of a sum": "sin(a + b) = sin(a)*cos(b) + cos(a)*sin(b)",
    "mask under an exponential": "exp(where(c, x, -inf)) is where(c, exp(x), 0)",
    "exponential of a logarithm": "exp(log(a) + b) = a * exp(b), where a is not negative",
    "level of the largest": (
        "exp(c[n] - c[m] + i[m] - s[n]) = exp(c[n] - t[n] - (c[m] - t[m])) * exp(i[m] - t[m]) * exp(t[n] - s[n]); with "
        "t[n], the largest c[n] - c[m] + i[m] up to n, no exponent of a decay or of a key is above 0"
    ),
    "largest of an exponent": (
        "exp(a + b) = exp(a + t) * exp(b - t); with t, the largest b, neither overflows before the text does"
    ),
    "mask as a factor": "where(c, x, 0) is x times the indicator of c",
    "known sign": "relu, abs and bounds leave a value alone that never crosses them",
    "normalised by a sum": "l1_normalize of values that are not negative divides them by their sum",
    "shift of a softmax": "a softmax does not change when all scores that it compares change by the same amount",
}


RangeOf = Callable[[Node], Range]


def separate(node: Node, builder: Builder, range_of: RangeOf, summed: Collection[str] = ()) -> Apart | None:
    """The node as sums and products of values with fewer axes, or None if no identity applies.

    range_of: what is known of a value. summed: axes that the value is summed over.
    """
    match node.op:
        case Multiply():
            return _masked_exponentials(node, builder, range_of)
        case Relu() | Abs() | Maximum() | Minimum() | Clamp():
            kept = _never_bounded(node, range_of)
            return None if kept is None else Apart(kept, "known sign")
        case L1Normalize():
            return _divided_by_sum(node, builder) if range_of(node.inputs[0]).non_negative else None
        case Softmax():
            return _without_shift(node, builder)
        case Exp():
            return (
                _below_a_maximum(node, builder, range_of)
                or _mask_under_exp(node, builder)
                or _exp_of_log(node, builder, range_of)
                or _exp_of_a_sum(node, builder, range_of, summed)
                or _exp_beside_a_decay(node, builder, range_of)
            )
        case Square() | IntegerPower():
            return _power_of_a_magnitude(node, builder)
        case Cos() | Sin():
            return _cosine_of_a_magnitude(node, builder) or _function_of_a_sum(node, builder)
        case Where():
            return (
                _below_a_maximum(node, builder, range_of)
                or _masked_exponentials(node, builder, range_of)
                or _mask(node, builder, range_of)
            )
    return None


def _mask(node: Node, builder: Builder, range_of: RangeOf) -> Apart | None:
    condition, yes, no = node.inputs
    for shown, hidden, hides in ((yes, no, False), (no, yes, True)):
        if not isinstance(shown.op, Exp) or not _is(hidden, 0) or _is_moderate(shown.inputs[0], builder, range_of):
            continue
        # what the mask hides must not be compared with the rest
        parts = _split(shown.inputs[0], builder)
        for kept, masked in (parts, parts[::-1]) if parts is not None else ():
            if {*condition.axes} <= {*masked.axes}:
                branches = (masked, builder.make(Literal(-math.inf)))
                left = builder.make(Where(), condition, *(branches[::-1] if hides else branches))
                return Apart(builder.make(Exp(), builder.make(Add(), kept, left)), "mask under an exponential")
        return None
    one, zero = builder.make(Literal(1.0)), builder.make(Literal(0.0))
    if isinstance(no.op, Literal) and no.op.value == 0 and not _is_number(yes):
        indicator = builder.make(Where(), condition, one, zero)
        return Apart(builder.make(Multiply(), indicator, yes), "mask as a factor")
    if isinstance(yes.op, Literal) and yes.op.value == 0 and not _is_number(no):
        indicator = builder.make(Where(), condition, zero, one)
        return Apart(builder.make(Multiply(), indicator, no), "mask as a factor")
    return None


def _mask_under_exp(node: Node, builder: Builder) -> Apart | None:
    [choice] = node.inputs
    if not isinstance(choice.op, Where):
        return None
    condition, yes, no = choice.inputs
    zero, minus = builder.make(Literal(0.0)), float("-inf")
    if isinstance(no.op, Literal) and no.op.value == minus:
        chosen = (builder.make(Exp(), yes), zero)
    elif isinstance(yes.op, Literal) and yes.op.value == minus:
        chosen = (zero, builder.make(Exp(), no))
    else:
        return None
    return Apart(builder.make(Where(), condition, *chosen), "mask under an exponential")


Summand = tuple[Node, bool]  # a value, and whether it is subtracted


def _summands(node: Node) -> list[Summand]:
    """What a value is the sum of."""
    found: list[Summand] = []
    stack = [(node, False)]
    while stack:
        term, minus = stack.pop()
        match term.op:
            case Add():
                stack += [(operand, minus) for operand in reversed(term.inputs)]
            case Subtract():
                stack += [(term.inputs[1], not minus), (term.inputs[0], minus)]
            case Negative():
                stack.append((term.inputs[0], not minus))
            case _:
                found.append((term, minus))
    return found


def _total(summands: Iterable[Summand], builder: Builder) -> Node | None:
    """The sum of summands; None of none."""
    result: Node | None = None
    for term, minus in summands:
        if result is None:
            result = builder.make(Negative(), term) if minus else term
        else:
            result = builder.make(Subtract() if minus else Add(), result, term)
    return result


def _exp_of_log(node: Node, builder: Builder, range_of: Callable[[Node], Range]) -> Apart | None:
    """exp(log(a) - log(b) + c) = a / b * exp(c)."""
    summands = _summands(node.inputs[0])
    logarithms = [s for s in summands if isinstance(s[0].op, Log) and range_of(s[0].inputs[0]).non_negative]
    if not logarithms:
        return None
    rest = _total((s for s in summands if s not in logarithms), builder)
    result = builder.make(Literal(1.0)) if rest is None else builder.make(Exp(), rest)
    for value, minus in logarithms:
        result = builder.make(Divide() if minus else Multiply(), result, value.inputs[0])
    return Apart(result, "exponential of a logarithm")


def _exp_beside_a_decay(node: Node, builder: Builder, range_of: RangeOf) -> Apart | None:
    """exp(x[n] - x[m] + a[n] + b[m]) = exp(x[n] - x[m]) * exp(a[n]) * exp(b[m]): a decay stays in one piece."""
    found = _beside_a_level(node.inputs[0], builder)
    if found is None:
        return None
    level, own = found
    rule = "exponential of a sum"
    if len(own) == 2 and not _is_moderate(node.inputs[0], builder, range_of):
        own, rule = _less_the_largest(own[0], own[1], builder), "largest of an exponent"
    result = builder.make(Exp(), level)
    for exponents in own:
        result = builder.make(Multiply(), result, builder.make(Exp(), exponents))
    return Apart(result, rule)


def _beside_a_level(exponents: Node, builder: Builder) -> tuple[Node, list[Node]] | None:
    """A sum as what depends on how far two positions are apart, and what has fewer axes; None if it is no such sum."""
    summands = _summands(exponents)
    level: list[Summand] = []
    rest: dict[frozenset[str], list[Summand]] = {}
    while summands:
        term, minus = summands.pop(0)
        other = next((s for s in summands if s[1] is not minus and _same_elsewhere(term, s[0])), None)
        if other is not None:
            summands.remove(other)
            level += [(term, minus), other] if isinstance(other[0].op, Rename) else [other, (term, minus)]
        elif len(term.axes) < len(exponents.axes):
            rest.setdefault(frozenset(term.axes), []).append((term, minus))
        elif not term.type.batched or _is_difference(term):
            level.append((term, minus))
        else:
            return None
    rise = _total(level, builder)
    if rise is None or not rest:
        return None
    return rise, [own for group in rest.values() if (own := _total(group, builder)) is not None]


def _less_the_largest(a: Node, b: Node, builder: Builder) -> list[Node]:
    """Two exponents with the same sum, of which the second is not above 0."""
    make = builder.make
    top = _finite(make(Max(tuple(axis for axis in b.axes if axis not in a.axes)), b), builder)
    return [make(Add(), a, top), make(Subtract(), b, top)]


def _masked_exponentials(node: Node, builder: Builder, range_of: RangeOf) -> Apart | None:
    """A product under a mask with the mask on its exponentials: only those positions are compared that it shows."""
    if isinstance(node.op, Where):
        condition, yes, no = node.inputs
        hides = _is(yes, 0)
        if not hides and not _is(no, 0):
            return None
        items = factors(builder, no if hides else yes)
        if len(items) < 2:
            return None
    else:
        items = factors(builder, node)
        masks = [(item, found) for item in items if item[0] > 0 and (found := _indicator(item[1])) is not None]
        if len(masks) != 1:
            return None
        [(mask, (condition, hides))] = masks
        items.remove(mask)
    exponentials = [
        item
        for item in items
        if item[0] > 0 and isinstance(item[1].op, Exp) and {*condition.axes} <= {*item[1].axes}
        and item[1].type.batched and _comes_apart(item[1].inputs[0], condition, builder, range_of)
    ]  # fmt: skip
    if not exponentials:
        return None
    exponents = build_sum(builder, [(1, each.inputs[0]) for _, each in exponentials])
    branches = (builder.make(Exp(), exponents), builder.make(Literal(0.0)))
    masked = builder.make(Where(), condition, *(branches[::-1] if hides else branches))
    rest = [item for item in items if item not in exponentials]
    return Apart(build_product(builder, [*rest, (1, masked)]), "mask as a factor")


def _indicator(node: Node) -> tuple[Node, bool] | None:
    """(c, whether c hides) where the node is 1 or 0 by a condition on two positions."""
    if len(node.axes) < 2:
        return None
    if node.type.kind is Kind.BOOL:
        return node, False
    if isinstance(node.op, Where):
        condition, yes, no = node.inputs
        if (_is(yes, 1) and _is(no, 0)) or (_is(yes, 0) and _is(no, 1)):
            return condition, _is(yes, 0)
    return None


def _comes_apart(exponents: Node, condition: Node, builder: Builder, range_of: RangeOf) -> bool:
    """Whether an exponent is a sum of what two positions have, of which one, by itself, may be too large."""
    if _is_difference(exponents):
        return False
    for n, m in (condition.axes, condition.axes[::-1]) if len(condition.axes) == 2 else ():
        parts = exponent(exponents, n, m, builder)
        if parts is not None:
            return _overflows(parts, n, builder, range_of)
    return _split(exponents, builder) is not None and not _is_moderate(exponents, builder, range_of)


def _is_moderate(exponents: Node, builder: Builder, range_of: RangeOf) -> bool:
    """Whether the exponentials of the parts of a sum, by themselves, are numbers of every precision."""
    if not exponents.type.batched:
        return True
    if _is_difference(exponents):
        return True
    parts = _split(exponents, builder)
    if parts is None:
        beside = _beside_a_level(exponents, builder)
        return beside is None or all(range_of(part).high <= MODERATE for part in beside[1])
    return all(range_of(part).high <= MODERATE for part in parts)


def _below_a_maximum(node: Node, builder: Builder, range_of: RangeOf) -> Apart | None:
    """exp of scores of keys under a level, less what the query has, and 0 for later keys; None if it is none.

    exp(i[m]) and exp(-s[n]) by themselves overflow and vanish where exp(i[m] - s[n]) does not.
    """
    found = _causal_exponent(node, builder)
    if found is None:
        return None
    condition, exponents, hides = found
    pair = earlier(condition, hides=hides)
    parts = exponent(exponents, *pair[:2], builder) if pair is not None else None
    if pair is None or parts is None or _is_difference(exponents):
        return None
    if not _overflows(parts, pair[0], builder, range_of):
        return None
    n, m, least = pair
    make = builder.make
    known = next((i for i in parts.query if i[0] < 0 and is_running_maximum(i[1], parts, n, m, least, builder)), None)
    rest = parts.query - {known} if known is not None else parts.query
    shown = _shown(condition, hides, builder)
    up_to = make(GreaterEqual(), make(Position(n)), make(Position(m))) if least else condition
    level = parts.level
    if known is not None and not least:
        top = known[1]
    else:
        rise = total(level | parts.key | {(-s, make(Rename(n, m), t)) for s, t in level}, builder)
        if n not in rise.axes:
            rise = make(Broadcast((n, *rise.axes)), rise)
        if m not in rise.axes:
            rise = make(Broadcast((m, *rise.axes)), rise)
        lowest = make(Literal(-math.inf))
        top = make(Max((m,)), _shown(up_to, hides and not least, builder)(rise, lowest))
        if known is None:
            rest |= {(1, make(Max((m,)), shown(rise, lowest)) if least else top)}
    finite = _finite(top, builder)
    level_of = total(level | {(-1, finite)}, builder)
    last = make(Shift(n, Poly.constant(least)), level_of) if least else level_of
    result = shown(make(Exp(), make(Subtract(), last, make(Rename(n, m), level_of))), make(Literal(0.0)))
    result = make(Multiply(), result, make(Exp(), total(parts.key | {(-1, make(Rename(n, m), finite))}, builder)))
    if rest:
        result = make(Multiply(), result, make(Exp(), total(rest, builder)))
    return Apart(result, "level of the largest")


def _overflows(parts: Exponent, n: str, builder: Builder, range_of: RangeOf) -> bool:
    """Whether a part of an exponent, by itself, may be too large, or vanish beside a level that makes up for it."""
    if not parts.key and not any(n in term.axes for _, term in parts.query):
        return False
    found = [range_of(total(items, builder)) for items in (parts.key, parts.query)]
    return any(each.high > MODERATE or (parts.level and each.low < -MODERATE) for each in found)


def _shown(condition: Node, hides: bool, builder: Builder) -> Callable[[Node, Node], Node]:
    """The choice of its first argument where a condition shows a position, and of its second elsewhere."""

    def choice(shown: Node, hidden: Node) -> Node:
        return builder.make(Where(), condition, *((hidden, shown) if hides else (shown, hidden)))

    return choice


def _finite(top: Node, builder: Builder) -> Node:
    """The largest of some scores, as a number also where all of them are -inf."""
    nothing = builder.make(Equal(), top, builder.make(Literal(-math.inf)))
    return builder.make(Where(), nothing, builder.make(Literal(LOWEST)), top)


def _causal_exponent(node: Node, builder: Builder) -> tuple[Node, Node, bool] | None:
    """(c, x, whether c hides) where the node is `exp(where(c, x, -inf))`, with sums, or `where(c, exp(x), 0)`."""
    if isinstance(node.op, Where):
        condition, yes, no = node.inputs
        for shown, hidden, hides in ((yes, no, False), (no, yes, True)):
            if isinstance(shown.op, Exp) and isinstance(hidden.op, Literal) and hidden.op.value == 0:
                return condition, shown.inputs[0], hides
        return None
    summands = terms(node.inputs[0])
    masked = [(item, found) for item in summands if (found := mask_of(item[1])) is not None]
    if len(masked) != 1 or masked[0][0][0] < 0:
        return None
    [(item, (shown, condition, hides))] = masked
    others = [other for other in summands if other is not item]
    return condition, build_sum(builder, [(1, shown), *others]), hides


def _never_bounded(node: Node, range_of: Callable[[Node], Range]) -> Node | None:
    """The operand that a relu, an absolute value or a bound returns as it is, wherever it lies."""
    value = node.inputs[0]
    known = range_of(value)
    match node.op:
        case Relu() | Abs():
            return value if known.non_negative else None
        case Maximum() | Minimum():
            first, second = node.inputs
            small, large = (first, second) if range_of(first).high <= range_of(second).low else (second, first)
            ordered = range_of(small).high <= range_of(large).low
            return (large if isinstance(node.op, Maximum) else small) if ordered else None
        case Clamp(given):
            bounds = dict(zip(given, (range_of(bound) for bound in node.inputs[1:]), strict=True))
            above = "min" not in bounds or bounds["min"].high <= known.low
            below = "max" not in bounds or known.high <= bounds["max"].low
            return value if above and below else None
    return None


def _divided_by_sum(node: Node, builder: Builder) -> Apart:
    op, [value] = node.op, node.inputs
    assert isinstance(op, L1Normalize)
    total = builder.make(Maximum(), builder.make(Sum(op.axes), value), builder.make(Size(op.eps)))
    return Apart(builder.make(Divide(), value, total), "normalised by a sum")


def _without_shift(node: Node, builder: Builder) -> Apart | None:
    """The softmax of scores without the summands that are the same for all of its axes."""
    op, scores = node.op, node.inputs[0]
    assert isinstance(op, Softmax)
    if "sink" in op.given:
        return None  # it does not change along
    parts = _split(scores, builder)
    for kept, shift in (parts, parts[::-1]) if parts is not None else ():
        if set(op.axes) <= set(kept.axes) and not set(op.axes) & set(shift.axes):
            return Apart(builder.make(replace(op), kept, *node.inputs[1:]), "shift of a softmax")
    total = _total((s for s in _summands(scores) if set(op.axes) & set(s[0].axes)), builder)
    if total is None or not set(op.axes) <= set(total.axes) or len(total.axes) == len(scores.axes):
        return None
    return Apart(builder.make(replace(op), total, *node.inputs[1:]), "shift of a softmax")


def _is(node: Node, value: float) -> bool:
    return isinstance(node.op, Literal) and node.op.value == value


def _is_number(node: Node) -> bool:
    return not node.axes and not node.type.batched


def _function_of_a_sum(node: Node, builder: Builder) -> Apart | None:
    if isinstance(node.op, Exp) and not node.type.batched:
        return None  # a decay from positions: exp(n) * exp(-m) overflows where exp(n - m) does not
    if isinstance(node.op, Exp) and _is_difference(node.inputs[0]):
        return None  # so does a decay from data
    parts = _split(node.inputs[0], builder)
    if parts is None:
        return None
    a, b = parts
    make = builder.make
    if isinstance(node.op, Exp):
        return Apart(make(Multiply(), make(Exp(), a), make(Exp(), b)), "exponential of a sum")
    cosines = make(Multiply(), make(Cos(), a), make(Cos(), b))
    sines = make(Multiply(), make(Sin(), a), make(Sin(), b))
    if isinstance(node.op, Cos):
        return Apart(make(Subtract(), cosines, sines), "cosine of a sum")
    mixed = make(Multiply(), make(Sin(), a), make(Cos(), b))
    other = make(Multiply(), make(Cos(), a), make(Sin(), b))
    return Apart(make(Add(), mixed, other), "sine of a sum")


def _power_of_a_magnitude(node: Node, builder: Builder) -> Apart | None:
    """abs(x)^2 = x^2, and all even powers."""
    even = isinstance(node.op, Square) or (isinstance(node.op, IntegerPower) and node.op.exponent % 2 == 0)
    signed = _signed(node.inputs[0], builder) if even else None
    return None if signed is None else Apart(builder.make(node.op, signed), "power of a magnitude")


def _cosine_of_a_magnitude(node: Node, builder: Builder) -> Apart | None:
    """cos(c * abs(x)) = cos(c * x)."""
    [angle] = node.inputs
    signed = _signed(angle, builder) if isinstance(node.op, Cos) else None
    return None if signed is None else Apart(builder.make(Cos(), signed), "cosine of a magnitude")


def _signed(node: Node, builder: Builder) -> Node | None:
    """c * x, where the node is c * abs(x)."""
    match node.op:
        case Abs():
            return node.inputs[0] if node.type.kind is node.inputs[0].type.kind else None
        case Negative() | Multiply() | Divide():
            for index, operand in enumerate(node.inputs[: 1 if isinstance(node.op, Divide) else 2]):
                inner = _signed(operand, builder)
                if inner is not None:
                    operands = (inner if place == index else other for place, other in enumerate(node.inputs))
                    return builder.make(node.op, *operands)
    return None


def _exp_of_a_sum(node: Node, builder: Builder, range_of: RangeOf, summed: Collection[str]) -> Apart | None:
    """exp(a + b) = exp(a + t) * exp(b - t), with t the largest b along the axes that a lacks."""
    found = _function_of_a_sum(node, builder)
    if found is None or _is_moderate(node.inputs[0], builder, range_of):
        return found
    parts = _split(node.inputs[0], builder)
    assert parts is not None
    a, b = parts if {*summed} & ({*parts[1].axes} - {*parts[0].axes}) else parts[::-1]
    first, second = (builder.make(Exp(), each) for each in _less_the_largest(a, b, builder))
    return Apart(builder.make(Multiply(), first, second), "largest of an exponent")


def _is_difference(node: Node) -> bool:
    """Whether this is one value at two positions, subtracted, up to a scale."""
    while isinstance(node.op, Multiply | Divide | Negative):
        node = max(node.inputs, key=lambda operand: len(operand.axes))
    if not isinstance(node.op, Subtract):
        return False
    # in a block, both are taken at the positions of the block; under a strict mask one is that of some places before
    sides = [side.inputs[0] if isinstance(side.op, Take | Shift) else side for side in node.inputs]
    return any(isinstance(a.op, Rename) and a.inputs[0] is b for a, b in (sides, sides[::-1]))


def _same_elsewhere(one: Node, other: Node) -> bool:
    """Whether one of two values is the other one under another axis."""
    return any(isinstance(a.op, Rename) and a.inputs[0] is b for a, b in ((one, other), (other, one)))


def _split(node: Node, builder: Builder) -> tuple[Node, Node] | None:
    """a and b with node = a + b, neither of which has all the node's axes."""
    match node.op:
        case Add() | Subtract():
            left, right = node.inputs
            minus = isinstance(node.op, Subtract)
            if len(left.axes) < len(node.axes) and len(right.axes) < len(node.axes):
                return left, builder.make(Negative(), right) if minus else right
            for wide, other in ((left, right), (right, left)):  # a + (b + c) = (a + b) + c
                parts = _split(wide, builder) if not other.axes and set(wide.axes) == set(node.axes) else None
                if parts is not None:
                    operands = (parts[0], other) if wide is left else (other, parts[0])
                    rest = builder.make(Negative(), parts[1]) if minus and wide is right else parts[1]
                    return builder.make(node.op, *operands), rest
            return None
        case Negative():
            parts = _split(node.inputs[0], builder)
            return None if parts is None else (builder.make(Negative(), parts[0]), builder.make(Negative(), parts[1]))
        case Multiply() | Divide():
            left, right = node.inputs
            for value, scale, swapped in ((left, right, False), (right, left, True)):
                if isinstance(node.op, Divide) and swapped:
                    return None
                parts = _split(value, builder) if set(value.axes) == set(node.axes) else None
                if parts is None:
                    continue
                made = [builder.make(type(node.op)(), *((scale, part) if swapped else (part, scale))) for part in parts]
                if all(len(part.axes) < len(node.axes) for part in made):
                    return made[0], made[1]
    return None
