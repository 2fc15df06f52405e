"""What conditions and positions say: masks, affine forms of positions, and orders that a condition implies."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from .graph import Builder, Node
from .ops.arithmetic import Add, Divide, FloorDivide, Multiply, Negative, Subtract
from .ops.functions import Abs
from .ops.layout import Rename
from .ops.leaves import Literal, Position, Size
from .ops.logic import And, Equal, Greater, GreaterEqual, Less, LessEqual, Not, NotEqual, Or, Where
from .ops.pairs import Maximum, Minimum
from .ops.selection import Take
from .sizes import ZERO, Facts, Number, Poly, Truth


@dataclass(frozen=True)
class Affine:
    """A sum of positions with whole or rational coefficients, and a size."""

    positions: Mapping[str, int | Fraction]
    offset: Poly

    def minus(self, other: Affine) -> Affine:
        positions = dict(self.positions)
        for axis, coefficient in other.positions.items():
            positions[axis] = positions.get(axis, 0) - coefficient
        return Affine({a: c for a, c in positions.items() if c}, self.offset - other.offset)

    def scaled(self, factor: int | Fraction) -> Affine:
        return Affine({a: c * factor for a, c in self.positions.items() if factor}, self.offset * factor)


MAX_DEPTH = 60


def affine(node: Node, depth: int = 0) -> Affine | None:
    """The node as an affine function of positions, if it is one and is not nested absurdly deep."""
    if depth > MAX_DEPTH or node.type.batched:
        return None
    match node.op:
        case Position(axis):
            return Affine({axis: 1}, ZERO)
        case Size(size):
            return Affine({}, size)
        case Literal(value):
            return Affine({}, Poly.constant(Fraction(value))) if abs(value) < 2**53 else None
        case Add() | Subtract() | Multiply():
            left, right = (affine(operand, depth + 1) for operand in node.inputs)
            if left is None or right is None:
                return None
            if isinstance(node.op, Multiply):
                if not left.positions and not right.positions:
                    return Affine({}, left.offset * right.offset)
                for one, other in ((left, right), (right, left)):
                    factor = one.offset.as_number() if not one.positions else None
                    if factor is not None:
                        return other.scaled(factor)
                return None
            return left.minus(right if isinstance(node.op, Subtract) else right.scaled(-1))
        case FloorDivide():
            left, right = (affine(operand, depth + 1) for operand in node.inputs)
            if left is None or right is None or left.positions or right.positions or not right.offset:
                return None
            return Affine({}, left.offset // right.offset)
        case Negative():
            inner = affine(node.inputs[0], depth + 1)
            return None if inner is None else inner.scaled(-1)
    return None


def mask_of(node: Node) -> tuple[Node, Node, bool] | None:
    """(s, c, whether c hides) where the node is `where(c, s, -inf)`, or `where(c, -inf, s)`, which hides."""
    if isinstance(node.op, Where):
        condition, scores, other = node.inputs
        for shown, hidden, hides in ((scores, other, False), (other, scores, True)):
            if isinstance(hidden.op, Literal) and hidden.op.value == -math.inf and shown.axes:
                return shown, condition, hides
    return None


def constraints(condition: Node, *, negated: bool = False, exact: bool = True, depth: int = 0) -> list[Affine] | None:
    """Forms that are all >= 0 where the condition holds (where it does not: negated), and, if exact, nowhere else.

    Positions are whole numbers, so `x > 0` is `x - 1 >= 0`. None if there are no such forms; without `exact` a part
    that says nothing of this kind is left out.
    """
    op = condition.op
    if depth > MAX_DEPTH:
        return None if exact else []
    match op:
        case Not():
            return constraints(condition.inputs[0], negated=not negated, exact=exact, depth=depth + 1)
        case And() | Or() if isinstance(op, Or) is negated:
            parts = [constraints(o, negated=negated, exact=exact, depth=depth + 1) for o in condition.inputs]
            for index, operand in enumerate(condition.inputs):
                unlike, others = _unlike(operand, negated), parts[1 - index]
                if unlike is not None and others is not None and (tighter := _without(others, unlike)) is not None:
                    return tighter
            return None if any(part is None for part in parts) else [form for part in parts for form in part or ()]
        case Greater() | GreaterEqual() | Less() | LessEqual():
            small, large = condition.inputs if isinstance(op, Less | LessEqual) else condition.inputs[::-1]
            strict = isinstance(op, Greater | Less)
            found = _above(large, small, not strict) if negated else _above(small, large, strict)
        case Equal() | NotEqual() if isinstance(op, NotEqual) is negated:
            one, other = condition.inputs
            found = _both(_above(one, other, False), _above(other, one, False))
        case _:
            found = None
    return found if found is not None or exact else []


def _unlike(condition: Node, negated: bool) -> Affine | None:
    """The whole form that is 0 exactly where the condition does not hold (negated: where it does)."""
    while isinstance(condition.op, Not):
        condition, negated = condition.inputs[0], not negated
    if not isinstance(condition.op, Equal if negated else NotEqual):
        return None
    left, right = map(affine, condition.inputs)
    forms = None if left is None or right is None else _not_negative(left.minus(right), False)
    return None if forms is None else forms[0]


def _without(forms: list[Affine], unlike: Affine) -> list[Affine] | None:
    """The forms, where one that may be 0 is never: it is at least 1. None if that form is none of them."""
    for index, form in enumerate(forms):
        if form in (unlike, unlike.scaled(-1)) and form.offset.is_integral():
            return [*forms[:index], Affine(form.positions, form.offset - 1), *forms[index + 1 :]]
    return None


def _both(left: list[Affine] | None, right: list[Affine] | None) -> list[Affine] | None:
    return None if left is None or right is None else left + right


def _above(small: Node, large: Node, strict: bool) -> list[Affine] | None:
    """The forms that are >= 0 where small <= large (small < large: strict)."""
    if isinstance(small.op, Abs):
        inner, bound = affine(small.inputs[0]), affine(large)
        if inner is None or bound is None:
            return None
        return _both(_not_negative(bound.minus(inner), strict), _not_negative(bound.minus(inner.scaled(-1)), strict))
    if isinstance(small.op, Maximum):
        return _both(*(_above(operand, large, strict) for operand in small.inputs))
    if isinstance(large.op, Minimum):
        return _both(*(_above(small, operand, strict) for operand in large.inputs))
    left, right = affine(small), affine(large)
    return None if left is None or right is None else _not_negative(right.minus(left), strict)


def _not_negative(form: Affine, strict: bool) -> list[Affine] | None:
    """`form >= 0`, or `form > 0`, with whole coefficients."""
    scale = math.lcm(form.offset.denominator(), *(Fraction(c).denominator for c in form.positions.values()))
    whole = form.scaled(scale)
    if not strict:
        return [whole]
    return [Affine(whole.positions, whole.offset - 1)] if whole.offset.is_integral() else None


def implies_not_after(
    condition: Node,
    later: str,
    earlier: str,
    facts: Facts,
    *,
    shift: Poly = ZERO,
    strict: bool = False,
    negated: bool = False,
    depth: int = 0,
) -> bool:
    """Whether the condition holds only where the position along `earlier`, less the shift, is <= that along `later`.

    strict: <. Only positions along `earlier` from the shift on are asked about: those of a part of that axis.
    """
    op = condition.op
    if depth > MAX_DEPTH:
        return False

    def of(operand: Node, negated: bool) -> bool:
        return implies_not_after(
            operand, later, earlier, facts, shift=shift, strict=strict, negated=negated, depth=depth + 1
        )

    if isinstance(op, Not):
        return of(condition.inputs[0], not negated)
    if isinstance(op, And | Or):
        either = any if isinstance(op, And) is not negated else all
        return either(of(operand, negated) for operand in condition.inputs)
    for form in constraints(condition, negated=negated, exact=False) or ():
        moved = Affine(form.positions, form.offset + shift * form.positions.get(earlier, 0))
        if _orders(moved, later, earlier, facts, strict) or _never(moved, facts):
            return True
    return False


def _never(form: Affine, facts: Facts) -> bool:
    """Whether `form >= 0` holds nowhere: positions are not negative."""
    falls = all(coefficient <= 0 for coefficient in form.positions.values())
    return falls and facts.at_least(-form.offset, Poly.constant(1)) is Truth.YES


def _orders(form: Affine, later: str, earlier: str, facts: Facts, strict: bool) -> bool:
    """Whether `form >= 0` says that the position along `earlier` is at most (strict: less than) that along `later`."""
    scale = form.positions.get(later, 0)
    if scale <= 0 or form.positions != {later: scale, earlier: -scale}:
        return False
    # scale * (n - m) + offset >= 0: n - m is whole, so it is >= 0 if offset < scale, and >= 1 if offset < 0
    number = form.offset.as_number()
    if number is not None:
        return number < (0 if strict else scale)
    return facts.at_least(-form.offset, Poly.constant(1) if strict else ZERO) is Truth.YES


def lag_at_least(condition: Node, later: str, earlier: str, *, negated: bool = False) -> int | None:
    """The whole number c with `condition <=> pos(later) - pos(earlier) >= c`, if there is one."""
    least: int | None = None
    for form in constraints(condition, negated=negated) or ():
        scale, offset = form.positions.get(later, 0), form.offset.as_number()
        if scale <= 0 or offset is None or form.positions != {later: scale, earlier: -scale}:
            return None
        bound = math.ceil(Fraction(-offset) / scale)
        least = bound if least is None else max(least, bound)
    return least


@dataclass(frozen=True)
class Band:
    """least <= pos(n) - pos(m) <= most; None where there is no bound."""

    least: Poly | None = None
    most: Poly | None = None


def band(condition: Node, n: str, m: str, constants: Mapping[str, int | float]) -> Band | None:
    """The band that a condition is equivalent to, with whole bounds over constants."""
    found = Band()
    for form in constraints(condition) or ():
        side = _side(form, n, m)
        if side is None or not all(bound is None or _is_whole(bound, constants) for bound in (side.least, side.most)):
            return None
        least, most = _tighter(found.least, side.least, max), _tighter(found.most, side.most, min)
        if least is CONFLICT or most is CONFLICT:
            return None
        found = Band(least, most)
    return found


CONFLICT = Poly.symbol("?")  # two bounds of which either may be the tighter one


def _tighter(one: Poly | None, other: Poly | None, choose: Callable[[Number, Number], Number]) -> Poly | None:
    if one is None or other is None or one == other:
        return other if one is None else one
    difference = (one - other).as_number()
    if difference is None:
        return CONFLICT
    return one if choose(difference, 0) == difference else other


def _side(form: Affine, n: str, m: str) -> Band | None:
    """What `form >= 0` says of the lag, if that is all it says."""
    if not _is_lag(form, n, m):
        return None
    return Band(least=-form.offset) if form.positions[n] == 1 else Band(most=form.offset)


def _is_lag(form: Affine, n: str, m: str) -> bool:
    return form.positions in ({n: 1, m: -1}, {n: -1, m: 1})


def _is_whole(size: Poly, constants: Mapping[str, int | float]) -> bool:
    return size.is_integral() and all(isinstance(constants.get(name), int) for name in size.symbols())


def same_window(condition: Node, n: str, m: str, constants: Mapping[str, int | float]) -> Poly | None:
    """W with `condition <=> pos(n) // W == pos(m) // W`."""
    if not isinstance(condition.op, Equal):
        return None
    windows: dict[str, Poly] = {}
    for side in condition.inputs:
        if not isinstance(side.op, FloorDivide) or not isinstance(side.inputs[0].op, Position):
            return None
        width = affine(side.inputs[1])
        if width is None or width.positions:
            return None
        windows[side.inputs[0].op.axis] = width.offset
    if windows.keys() != {n, m} or windows[n] != windows[m]:
        return None
    if not _is_whole(windows[n], constants):
        return None
    found = windows[n].evaluate({name: constants[name] for name in windows[n].symbols()})
    return windows[n] if found >= 1 else None


def lag_coefficient(node: Node, later: str, earlier: str, builder: Builder) -> Node | None:
    """r with node = r * (pos(later) - pos(earlier)), where r has neither axis."""
    form = affine(node)
    if form is not None:
        scale = form.positions.get(later, 0)
        if scale and not form.offset and form.positions == {later: scale, earlier: -scale}:
            return builder.make(Literal(scale if isinstance(scale, int) else float(scale)))
        return None
    match node.op:
        case Negative():
            inner = lag_coefficient(node.inputs[0], later, earlier, builder)
            return None if inner is None else builder.make(Negative(), inner)
        case Multiply() | Divide():
            left, right = node.inputs
            pairs = [(left, right)] if isinstance(node.op, Divide) else [(left, right), (right, left)]
            for lag, factor in pairs:
                if later in factor.axes or earlier in factor.axes:
                    continue
                inner = lag_coefficient(lag, later, earlier, builder)
                if inner is not None:
                    return builder.make(type(node.op)(), inner, factor)
    return None


def _is_renamed(node: Node, source: Node, later: str, earlier: str) -> bool:
    """Whether a value is another one at the earlier position."""
    op = node.op
    return isinstance(op, Rename) and (op.source, op.target) == (later, earlier) and node.inputs[0] is source


def gate_level(node: Node, later: str, earlier: str, builder: Builder) -> Node | None:
    """x with node = x[later] - x[later -> earlier]: a difference of one value at two positions."""
    match node.op:
        case Subtract():
            level, before = node.inputs
            if _is_renamed(before, level, later, earlier):
                return level
            if _is_renamed(level, before, later, earlier):
                return builder.make(Negative(), before)
        case Negative():
            inner = gate_level(node.inputs[0], later, earlier, builder)
            return None if inner is None else builder.make(Negative(), inner)
        case Multiply() | Divide():
            left, right = node.inputs
            pairs = [(left, right)] if isinstance(node.op, Divide) else [(left, right), (right, left)]
            for difference, scale in pairs:
                if later in scale.axes or earlier in scale.axes:
                    continue
                inner = gate_level(difference, later, earlier, builder)
                if inner is not None:
                    return builder.make(type(node.op)(), inner, scale)
    return None


def _at_lag(form: Affine, n: str, m: str, lag: Node, builder: Builder) -> Node | None:
    """A multiple of pos(n) - pos(m) and a size, with `lag` for the difference."""
    scale = form.positions.get(n, 0)
    if form.positions != {n: scale, m: -scale} or not isinstance(scale, int):
        return None
    moved = lag if scale == 1 else builder.make(Multiply(), lag, builder.make(Literal(scale)))
    return moved if not form.offset else builder.make(Add(), moved, builder.make(Size(form.offset)))


def on_lag(node: Node, n: str, m: str, lag: Node, builder: Builder, depth: int = 0) -> Node | None:
    """A value that depends on pos(n) and pos(m) through their difference only, as a function of it.

    lag: what stands for pos(n) - pos(m) in the result, over an axis of its own.
    """
    if n not in node.axes and m not in node.axes:
        return node
    form = affine(node)
    if form is not None:
        return _at_lag(form, n, m, lag, builder)
    if isinstance(node.op, Greater | GreaterEqual | Less | LessEqual | Equal | NotEqual):
        left, right = (affine(operand) for operand in node.inputs)
        if left is not None and right is not None:
            difference = _at_lag(left.minus(right), n, m, lag, builder)
            return difference and builder.make(node.op, difference, builder.make(Literal(0)))
    if depth > MAX_DEPTH or not (node.op.elementwise or isinstance(node.op, Take)):
        return None
    if isinstance(node.op, Take) and node.op.axis in (n, m):  # the table's own axis, which the index replaces
        table, index = node.inputs
        place = None if len({n, m} & set(table.axes)) > 1 else on_lag(index, n, m, lag, builder, depth + 1)
        return None if place is None else builder.make(node.op, table, place)
    operands = [on_lag(operand, n, m, lag, builder, depth + 1) for operand in node.inputs]
    if any(operand is None for operand in operands):
        return None
    return builder.make(node.op, *(operand for operand in operands if operand is not None))


def settled(node: Node, length: Callable[[str], Poly], facts: Facts, builder: Builder, depth: int = 0) -> Node:
    """The node without what positions settle: branches that are never taken, bounds that are always kept, and tables
    of which every entry is taken in order. The result may lack an axis along which it is constant.

    length: the size of an axis.
    """
    if depth > MAX_DEPTH or not (node.op.elementwise or isinstance(node.op, Take)):
        return node
    operands = [settled(operand, length, facts, builder, depth + 1) for operand in node.inputs]
    made = node if tuple(operands) == node.inputs else builder.make(node.op, *operands)
    match made.op:
        case Where():
            condition, yes, no = operands
            for chosen, negated in ((yes, False), (no, True)):
                forms = constraints(condition, negated=negated)
                kept = chosen.type.kind is made.type.kind
                if kept and forms is not None and all(_always(form, facts) for form in forms):
                    return chosen
        case Maximum():
            for large, small in (operands, operands[::-1]):
                more, less = affine(large), affine(small)
                if more and less and large.type.kind is made.type.kind and _always(more.minus(less), facts):
                    return large
        case Take(axis):
            table, index = operands
            place = index.op
            new = place.axis if isinstance(place, Position) else axis
            if new not in table.axes and facts.equal(length(new), length(axis)) is Truth.YES:
                return builder.make(Rename(axis, new), table)
    return made


def _always(form: Affine, facts: Facts) -> bool:
    """Whether `form >= 0` holds everywhere: positions are not negative."""
    rises = all(coefficient >= 0 for coefficient in form.positions.values())
    return rises and facts.at_least(form.offset, ZERO) is Truth.YES
