"""Whether a mask leaves something in every row: a softmax under it then sums to one everywhere.

Proved by an entry that is always left: the first one, or the one at the position of the row, as the diagonal of a band,
of a window or of a document. Constants have their defaults.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from fractions import Fraction

from ..graph import Node
from ..ops.functions import Abs, Exp, HardSigmoid, Relu, Relu6, Sigmoid, Sign, Softplus, Softsign, Square, Tanh
from ..ops.layout import Broadcast, Rename, Reorder
from ..ops.leaves import Literal, Position
from ..ops.logic import And, Equal, Greater, GreaterEqual, Less, LessEqual, Not, NotEqual, Or, Where
from ..ops.pairs import Clamp, Maximum
from ..sizes import Facts, Poly, Truth
from ..structure import Affine, affine
from ..types import Kind

Places = Mapping[str, str | None]  # an axis of the row -> the axis whose position it has; None: its first position
MAX_DEPTH = 40
_HIDDEN = Literal(-math.inf)
_BOUNDED = (Abs, Clamp, Exp, HardSigmoid, Maximum, Relu, Relu6, Sigmoid, Sign, Softplus, Softsign, Square, Tanh)
MAX_PLACES = 16  # entries of a row that are tried


def leaves_some(condition: Node, axes: Iterable[str], constants: Mapping[str, int | float], facts: Facts) -> bool:
    """Whether the condition holds for some entry along the axes, wherever the others stand."""
    return leaves_some_of([(condition, False)], axes, constants, facts)


def leaves_some_of(
    conditions: Sequence[tuple[Node, bool]],
    axes: Iterable[str],
    constants: Mapping[str, int | float],
    facts: Facts,
) -> bool:
    """Whether all conditions hold for one entry along the axes; each with whether it is its negation that counts."""
    along = tuple(axes)
    others = {axis for condition, _ in conditions for axis in condition.axes} - set(along)
    choices: list[list[str | None]] = []
    for axis in along:
        size = Poly.symbol(axis)
        alike = sorted(o for o in others if facts.at_least(size, Poly.symbol(o)) is Truth.YES)
        choices.append([*alike, None])
    tried = itertools.islice(itertools.product(*choices), MAX_PLACES)
    rows = (_Row(dict(zip(along, chosen, strict=True)), constants, facts) for chosen in tried)
    return any(all(row.holds(each, negated=negated) for each, negated in conditions) for row in rows)


def shown_where(node: Node, depth: int = 0) -> tuple[tuple[Node, bool] | None, ...]:
    """The conditions under all of which a value is not -inf (negated: true), as masks hide it; None: one not known.

    Nothing, if the text does not make it -inf.
    """
    if isinstance(node.op, Literal):
        return (None,) if node.op.value == -math.inf else ()
    if isinstance(node.op, _BOUNDED) or depth > MAX_DEPTH:
        return ()
    if isinstance(node.op, Where):
        condition, yes, no = node.inputs
        if yes.op == _HIDDEN or no.op == _HIDDEN:
            rest = no if yes.op == _HIDDEN else yes
            return ((condition, rest is no), *shown_where(rest, depth + 1))
        return (*shown_where(yes, depth + 1), *shown_where(no, depth + 1))
    if not (node.op.elementwise or isinstance(node.op, Reorder | Broadcast | Rename)):
        return ()
    found = tuple(each for operand in node.inputs for each in shown_where(operand, depth + 1))
    return (None,) if found and isinstance(node.op, Rename) else found


class _Row:
    """Conditions at one entry of every row."""

    def __init__(self, places: Places, constants: Mapping[str, int | float], facts: Facts) -> None:
        self.places = places
        self.constants = constants
        self.facts = facts

    def holds(self, node: Node, depth: int = 0, *, negated: bool = False) -> bool:
        """Whether a condition is provably true there (false: negated)."""
        if depth > MAX_DEPTH:
            return False
        match node.op:
            case Not():
                return self.holds(node.inputs[0], depth + 1, negated=not negated)
            case And() | Or():
                parts = (self.holds(operand, depth + 1, negated=negated) for operand in node.inputs)
                return all(parts) if isinstance(node.op, And) is not negated else any(parts)
            case Equal() | NotEqual() if isinstance(node.op, Equal) is not negated:
                left, right = node.inputs
                return self._same(left, right) or (self._at_least(left, right) and self._at_least(right, left))
            case Less() | LessEqual() | Greater() | GreaterEqual():
                small, large = node.inputs if isinstance(node.op, Less | LessEqual) else node.inputs[::-1]
                strict = isinstance(node.op, Less | Greater)
                if negated:
                    small, large, strict = large, small, not strict
                return self._at_least(large, small, strict=strict)
            case Literal(value):
                return bool(value) is not negated
        return False

    def _at_least(self, large: Node, small: Node, *, strict: bool = False) -> bool:
        if not strict and self._same(large, small):
            return True
        signs: tuple[int, ...] = (1,)
        if isinstance(small.op, Abs):
            signs, small = (1, -1), small.inputs[0]
        one, other = affine(large), affine(small)
        if one is None or other is None:
            return False
        return all(self._not_negative(one.minus(other.scaled(sign)), strict) for sign in signs)

    def _not_negative(self, difference: Affine, strict: bool) -> bool:
        factors: dict[str, int | Fraction] = {}
        for axis, factor in difference.positions.items():
            at = self.places.get(axis, axis)
            if at is not None:
                factors[at] = factors.get(at, 0) + factor
        least = difference.offset
        for axis, factor in factors.items():
            if factor < 0:  # at the last position
                least = least + (Poly.symbol(axis) - 1) * factor
        known = {name: Poly.constant(Fraction(value)) for name, value in self.constants.items()}
        return self.facts.at_least(least.substitute(known), Poly.constant(1 if strict else 0)) is Truth.YES

    def _same(self, left: Node, right: Node) -> bool:
        """Whether two values are equal there. Real numbers may be NaN, which equals nothing."""
        whole = left.type.kind in (Kind.INT, Kind.BOOL) and right.type.kind in (Kind.INT, Kind.BOOL)
        return whole and self._key(left) == self._key(right)

    def _key(self, node: Node, depth: int = 0) -> Hashable:
        """Equal for values that are equal there: an axis of the row and its place are one."""
        if depth > MAX_DEPTH:
            return node
        match node.op:
            case Position(axis):
                return "position", self.places.get(axis, axis)
            case Rename(source, target) if self.places.get(target, target) == source:
                return self._key(node.inputs[0], depth + 1)
        if node.op.elementwise and node.inputs:
            return node.op, tuple(self._key(operand, depth + 1) for operand in node.inputs)
        return node
