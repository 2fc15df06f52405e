"""Regions: which keys a query can see, as far as position arithmetic says.

A region contains every pair of positions for which a condition holds; it may contain more. What it leaves out need
not be computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .graph import Node
from .ops.arithmetic import Add, Divide, FloorDivide, Modulo, Multiply, Subtract
from .ops.functions import Floor
from .ops.leaves import Literal, Position
from .ops.logic import And, Equal, Greater, GreaterEqual, Less, LessEqual, Not, NotEqual, Or
from .sizes import ZERO, Facts, Poly, Truth
from .structure import MAX_DEPTH, Affine, affine, constraints
from .types import Kind


@dataclass(frozen=True)
class Place:
    """A coordinate along an axis: pos(axis) + offset, or (pos(axis) - roll) % size of the axis."""

    axis: str
    offset: Poly = ZERO
    roll: Node | None = None


@dataclass(frozen=True)
class Region:
    """Pairs (n, m) with least <= n - m <= most, n - m a multiple of step, n and m in the same window, or m < columns.

    None where nothing is known. window: the numbers (n + shift) // window are equal. query: the query's coordinate
    where windows are those of a rolled axis: each roll (a node without either axis) moves all windows.
    """

    least: Poly | None = None
    most: Poly | None = None
    step: Poly | None = None
    window: Poly | None = None
    shift: Poly = ZERO
    query: Node | None = None
    roll: Node | None = None
    columns: Poly | None = None

    @property
    def is_local(self) -> bool:
        """Whether the number of keys per query is bounded, as far as least and most do not grow apart."""
        return self.window is not None or (self.least is not None and self.most is not None)

    @property
    def is_columns(self) -> bool:
        """Whether it is the first keys, and nothing else."""
        return self.columns is not None and self == Region(columns=self.columns)

    @property
    def rule(self) -> str:
        name = "windows" if self.window is not None else "band" if self.step is None else "dilated band"
        name = "rolled windows" if self.roll is not None else name
        return name if self.columns is None else f"{name} and columns"


@dataclass(frozen=True)
class Sight:
    """The pair of axes that is asked about, and what is known of sizes."""

    query: str
    key: str
    facts: Facts
    constants: Mapping[str, int | float]

    def is_whole(self, size: Poly) -> bool:
        """Whether a size is a whole number for all sizes of axes and the constants as they are."""
        return size.is_integral() and all(
            isinstance(self.constants[name], int) for name in size.symbols() if name in self.constants
        )

    def is_count(self, size: Poly) -> bool:
        """Whether a size is a number of places, given by constants: whole and at least 1."""
        return self.is_whole(size) and size.symbols() <= self.constants.keys() and size.evaluate(self.constants) >= 1


def region(condition: Node, sight: Sight, *, negated: bool = False, depth: int = 0) -> Region | None:
    """The smallest region that is known to contain every pair for which the condition holds; None: all pairs."""
    op = condition.op
    if depth > MAX_DEPTH:
        return None
    if isinstance(op, Not):
        return region(condition.inputs[0], sight, negated=not negated, depth=depth + 1)
    if isinstance(op, And | Or):
        left, right = (region(o, sight, negated=negated, depth=depth + 1) for o in condition.inputs)
        return meet(left, right) if isinstance(op, And) is not negated else _join(left, right)
    found: Region | None = None
    if isinstance(op, NotEqual if negated else Equal):
        found = _same_window(condition, sight) or _same_class(condition, sight)
    forms = constraints(condition, negated=negated, exact=False) or _loosely(condition, sight, negated)
    for form in forms:
        found = meet(found, _bound(form, sight))
    return found


def _loosely(condition: Node, sight: Sight, negated: bool) -> list[Affine]:
    """A form that is >= 0 wherever an order of places and starts of windows holds; none of another condition."""
    op = condition.op
    if not isinstance(op, Greater | GreaterEqual | Less | LessEqual):
        return []
    small, large = condition.inputs if isinstance(op, Less | LessEqual) is not negated else condition.inputs[::-1]
    low, high = _between(small, sight), _between(large, sight)
    if low is None or high is None or not {small.type.kind, large.type.kind} <= {Kind.INT}:
        return []
    form = high[1].minus(low[0])
    strict = isinstance(op, Greater | Less) is not negated
    return [Affine(form.positions, form.offset - 1)] if strict else [form]


def _between(node: Node, sight: Sight, depth: int = 0) -> tuple[Affine, Affine] | None:
    """Forms that a whole number is never below and never above: of remainders, starts of windows, and their sums."""
    form = affine(node)
    if form is not None or depth > MAX_DEPTH:
        return None if form is None else (form, form)
    match node.op:
        case Modulo():
            width = _count(node.inputs[1], sight)
            return None if width is None else (Affine({}, ZERO), Affine({}, width - 1))
        case Multiply():
            for cut, factor in (node.inputs, node.inputs[::-1]):
                if isinstance(cut.op, FloorDivide) and cut.inputs[1] is factor:
                    place, width = affine(cut.inputs[0]), _count(factor, sight)
                    if place is not None and width is not None:
                        return Affine(place.positions, place.offset - width + 1), place
        case Add() | Subtract():
            left, right = (_between(operand, sight, depth + 1) for operand in node.inputs)
            if left is None or right is None:
                return None
            if isinstance(node.op, Subtract):
                return left[0].minus(right[1]), left[1].minus(right[0])
            return left[0].minus(right[0].scaled(-1)), left[1].minus(right[1].scaled(-1))
    return None


def meet(left: Region | None, right: Region | None) -> Region | None:
    """A region that contains all pairs of both; where two bounds cannot be compared, the left one."""
    if left is None or right is None:
        return right if left is None else left
    for one, other in ((left, right), (right, left)):
        if one.is_columns:  # on their own they are few keys already
            return other if other.is_local or other.is_columns else one
    window = left if left.window is not None else right
    columns = [c for c in (left.columns, right.columns) if c is not None]
    return replace(
        window,
        least=_choose(left.least, right.least, largest=True),
        most=_choose(left.most, right.most, largest=False),
        step=left.step or right.step,
        columns=None if not columns else columns[0] if len(columns) == 1 else Poly.function("max", *columns),
    )


def _join(left: Region | None, right: Region | None) -> Region | None:
    """A region that contains all pairs of either."""
    if left is None or right is None:
        return None
    for one, other in ((left, right), (right, left)):
        if one.is_columns:
            assert one.columns is not None
            columns = one.columns if other.columns is None else Poly.function("max", one.columns, other.columns)
            return replace(other, columns=columns)
    if left == right:
        return left
    least = None if left.least is None or right.least is None else Poly.function("min", left.least, right.least)
    most = None if left.most is None or right.most is None else Poly.function("max", left.most, right.most)
    if (least is None and most is None) or left.columns or right.columns:
        return None
    return Region(least, most)


def _choose(one: Poly | None, other: Poly | None, *, largest: bool) -> Poly | None:
    if one is None or other is None:
        return other if one is None else one
    difference = (one - other).as_number()
    return one if difference is None or (difference >= 0) is largest else other


def _bound(form: Affine, sight: Sight) -> Region | None:
    """What `form >= 0` says."""
    if not sight.is_whole(form.offset):
        return None
    if not form.positions.keys() <= {sight.query, sight.key}:
        return None
    query, key = form.positions.get(sight.query, 0), form.positions.get(sight.key, 0)
    if query == 0 and key == -1:
        return Region(columns=form.offset + 1)
    if query != -key or not query:
        return None
    offset = Poly.function("floor", form.offset / Poly.constant(max(query, -query)))
    return Region(least=-offset) if query > 0 else Region(most=offset)


def _count(node: Node, sight: Sight) -> Poly | None:
    """The number of places that a node is, if it is one."""
    form = affine(node)
    return None if form is None or form.positions or not sight.is_count(form.offset) else form.offset


def _place(node: Node, sight: Sight) -> Place | None:
    form = affine(node)
    if form is not None:
        [axis] = form.positions if len(form.positions) == 1 else [None]
        return Place(axis, form.offset) if axis is not None and form.positions[axis] == 1 else None
    if not isinstance(node.op, Modulo):
        return None
    moved, size = node.inputs
    length = affine(size)
    if not isinstance(moved.op, Subtract) or not isinstance(moved.inputs[0].op, Position) or length is None:
        return None
    axis, roll = moved.inputs[0].op.axis, moved.inputs[1]
    if length.positions or sight.facts.equal(length.offset, Poly.symbol(axis)) is not Truth.YES:
        return None
    if {sight.query, sight.key} & set(roll.axes) or roll.type.batched or roll.type.kind.value != "int":
        return None
    return Place(axis, ZERO, roll)


def _places(left: Node, right: Node, sight: Sight) -> tuple[Place, Place, Node] | None:
    """The coordinates of query and key, and the node of the query's, where two nodes are one of each."""
    for one, other in ((left, right), (right, left)):
        n, m = _place(one, sight), _place(other, sight)
        if n is not None and m is not None and (n.axis, m.axis) == (sight.query, sight.key):
            return n, m, one
    return None


def _same_window(condition: Node, sight: Sight) -> Region | None:
    """`n // W == m // W`, also written with floor, shifted by a number of places, or of a rolled axis."""
    sides = condition.inputs
    for difference, zero in (sides, sides[::-1]):
        if isinstance(difference.op, Subtract) and isinstance(zero.op, Literal) and zero.op.value == 0:
            sides = difference.inputs
    one, other = map(_window, sides)
    if one is None or other is None or (one.width, one.start) != (other.width, other.start):
        return None
    width = one.width
    if not sight.is_count(width):
        return None
    found = _places(one.place, other.place, sight)
    if found is None:
        return None
    n, m, node = found
    if n.roll is not None:
        rolled = sight.facts.equal(Poly.symbol(sight.query), Poly.symbol(sight.key)) is Truth.YES and n.roll is m.roll
        return Region(window=width, query=node, roll=n.roll) if rolled else None
    if m.roll is not None or n.offset != m.offset or not sight.is_whole(n.offset):
        return None
    if (n.offset.as_number() or 0) < 0 or (n.offset and n.offset.as_number() is None):
        return None
    return Region(window=width, shift=n.offset)


@dataclass(frozen=True)
class _Window:
    """The window that a place is in. start: by its first place, which is `width` times its number."""

    place: Node
    width: Poly
    start: bool = False


def _window(node: Node) -> _Window | None:
    """What `x // W` and `floor(x / W)` say, and the first places `x - x % W` and `x // W * W`."""
    inputs = node.inputs
    match node.op:
        case Subtract() if isinstance(inputs[1].op, Modulo) and inputs[1].inputs[0] is inputs[0]:
            return _cut(inputs[1], start=True)
        case Multiply():
            pairs = (inputs, inputs[::-1])
            quotient = next((c for c, by in pairs if isinstance(c.op, FloorDivide) and c.inputs[1] is by), None)
            return None if quotient is None else _cut(quotient, start=True)
        case Floor() if isinstance(inputs[0].op, Divide):
            return _cut(inputs[0])
        case FloorDivide():
            return _cut(node)
    return None


def _cut(division: Node, *, start: bool = False) -> _Window | None:
    width = affine(division.inputs[1])
    return None if width is None or width.positions else _Window(division.inputs[0], width.offset, start)


def _same_class(condition: Node, sight: Sight) -> Region | None:
    """`(n - m) % r == 0`, or `n % r == m % r`."""
    left, right = condition.inputs
    if isinstance(right.op, Modulo):
        left, right = right, left
    if not isinstance(left.op, Modulo):
        return None
    step = affine(left.inputs[1])
    if step is None or step.positions or not sight.is_count(step.offset):
        return None
    lag = affine(left.inputs[0])
    if isinstance(right.op, Modulo):
        other = affine(right.inputs[0])
        if right.inputs[1] is not left.inputs[1] or lag is None or other is None:
            return None
        lag = lag.minus(other)
    elif not (isinstance(right.op, Literal) and right.op.value == 0):
        return None
    if lag is None or lag.offset or abs(lag.positions.get(sight.query, 0)) != 1:
        return None
    if lag.positions != {sight.query: lag.positions[sight.query], sight.key: -lag.positions[sight.query]}:
        return None
    return Region(step=step.offset)
