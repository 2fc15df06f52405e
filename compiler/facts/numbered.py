"""Blocks of a computed length, and which of them lie before a position: integer arithmetic on positions.

Position m belongs to block m // s, for any whole number s >= 1, also one that differs along other axes. What is summed
or compared within blocks depends, at m, on the positions of the block of m. Entry c * s of it is that of block c. If
c < n // s, that block ends before n: (c + 1) * s <= (n // s) * s <= n. A number c that is less than n // s wherever
n // s >= 1 will do, as long as what is read for n // s = 0 is hidden.

Three facts about a value, each of all that it depends on along the sequence:
- within: at m it depends on the block of m only.
- gated: where the number n // s of an element is 1 or more, it depends on positions up to n only.
- hidden: where the number is 0, it is 0 (or -inf, or false).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..graph import Node
from ..ops.arithmetic import Add, Divide, FloorDivide, Modulo, Multiply, Negative, Subtract
from ..ops.contraction import Contraction
from ..ops.layout import Broadcast, Convert, Reorder
from ..ops.leaves import Literal, Position
from ..ops.logic import And, Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual, Or, Where
from ..ops.normalisations import Softmax
from ..ops.pairs import Maximum
from ..ops.segments import SegmentMax, SegmentSoftmax, SegmentSum
from ..ops.selection import Concat, Slice, Take
from ..types import Kind
from .ranges import Range

At = Callable[[Node, str], bool]  # whether a value depends, along the sequence, on no position after that along an axis
Exactly = Callable[[Node, str], bool]  # whether it depends on the same position only
PartOf = Callable[[Slice], str | None]
PART = "#"  # `L#0` is the first part of an axis L that was laid end to end


@dataclass(frozen=True)
class Block:
    """pos(axis) // length."""

    axis: str
    length: Node


@dataclass(frozen=True)
class Hidden:
    """Where `number` is 0 a value is known. along: where the axes of the number have gone, if they were laid behind
    others: {L: P#1}."""

    number: Node
    along: tuple[tuple[str, str], ...] = ()


class Numbered:
    """The facts of one graph, operands first."""

    def __init__(
        self, ranges: Mapping[Node, Range], until: At, same: Exactly, free: Callable[[Node], bool], part: PartOf
    ) -> None:
        self.ranges = ranges
        self.until, self.same, self.free, self.part = until, same, free, part
        self.within: dict[Node, Block] = {}
        self.gated: dict[Node, Node] = {}
        self.hidden: dict[Node, dict[Hidden, float]] = {}

    def resolved(self, node: Node) -> str | None:
        """The axis up to whose position a value depends on the sequence, where only these facts show it."""
        self.hidden[node] = self._hidden(node)
        block = self._within(node)
        if block is not None:
            self.within[node] = block
        number, proved = self._gated(node)
        if number is None:
            return None
        if proved:
            return _query(number)
        self.gated[node] = number
        return None

    # -- blocks --------------------------------------------------------------------------------------------

    def block(self, node: Node) -> Block | None:
        """The block that a value numbers: pos(M) // s for a whole s of at least 1."""
        if not isinstance(node.op, FloorDivide):
            return None
        position, length = node.inputs
        if not isinstance(position.op, Position) or position.op.axis in length.axes or length.type.kind is not Kind.INT:
            return None
        known = self.ranges.get(length)
        least = length.op.value if isinstance(length.op, Literal) else None if known is None else known.low
        return Block(position.op.axis, length) if least is not None and least >= 1 else None

    def _within(self, node: Node) -> Block | None:
        op, inputs = node.op, node.inputs
        if isinstance(op, SegmentMax | SegmentSum) or (isinstance(op, SegmentSoftmax) and not op.given):
            value, group = inputs
            block = self.block(group)
            if block is None or block.axis != op.axis or not self.free(group):
                return None
            return block if self.within.get(value) == block or self.same(value, block.axis) else None
        blocks = {self.within[operand] for operand in inputs if operand in self.within}
        if len(blocks) != 1 or not _element_by_element(node):
            return None
        [block] = blocks
        if isinstance(op, Contraction) and {block.axis, *block.length.axes} & {*op.axes}:
            return None
        others = (operand for operand in inputs if operand not in self.within)
        return block if all(self.free(operand) or self.same(operand, block.axis) for operand in others) else None

    def _before(self, index: Node, block: Block) -> Node | None:
        """The number n // s of which index / s is less wherever it is 1 or more."""
        if not isinstance(index.op, Multiply):
            return None
        for chosen, length in (index.inputs, index.inputs[::-1]):
            number = _lessened(chosen) if length is block.length else None
            if number is not None:
                own = self.block(number)
                if own is not None and own.length is block.length and own.axis != block.axis:
                    return number
        return None

    # -- gates -----------------------------------------------------------------------------------------------

    def _gated(self, node: Node) -> tuple[Node | None, bool]:
        """The number of which a value needs that it is 1 or more; and whether it needs it no more."""
        op, inputs = node.op, node.inputs
        if isinstance(op, Take):
            table, index = inputs
            block = self.within.get(table)
            if block is None or op.axis != block.axis or not {*block.length.axes} <= {*index.axes}:
                return None, False
            return (self._before(index, block) if self.free(index) else None), False
        numbers = {self.gated[operand] for operand in inputs if operand in self.gated}
        if len(numbers) != 1 or not _element_by_element(node):
            return None, False
        [number] = numbers
        axis = _query(number)
        others = [operand for operand in inputs if operand not in self.gated]
        if not all(self.free(operand) or self.until(operand, axis) for operand in others):
            return None, False
        at_zero = Hidden(number)
        if isinstance(op, Where):
            condition, yes, no = inputs
            if self._is_zero(condition, at_zero) and others == [condition, no] and yes in self.gated:
                return number, True
        elif isinstance(op, Contraction | Multiply):
            if isinstance(op, Contraction) and axis in op.axes:
                return None, False
            if len(others) == 1 and self._is_zero(others[0], at_zero):
                return number, True
        if isinstance(op, Contraction) and {*number.axes} & {*op.axes}:
            return None, False
        return number, False

    def _is_zero(self, node: Node, at: Hidden) -> bool:
        return self.hidden.get(node, {}).get(at) == 0

    # -- what is hidden ----------------------------------------------------------------------------------------

    def _hidden(self, node: Node) -> dict[Hidden, float]:
        op, inputs = node.op, node.inputs
        known = [self.hidden.get(operand, {}) for operand in inputs]
        match op:
            case And():
                return {**known[0], **known[1], **_false_at_zero(node, self.block)}
            case _ if node.type.kind is Kind.BOOL and op.elementwise:
                return _false_at_zero(node, self.block)
            case Where():
                no = inputs[2].op
                value = float(no.value) if isinstance(no, Literal) else None
                chosen = {} if value is None else {at: value for at, known_as in known[0].items() if known_as == 0}
                return {at: each for at, each in chosen.items() if not at.along}
            case Reorder() | Convert():
                return known[0]
            case Concat(sources, target):
                return {
                    Hidden(at.number, ((source, f"{target}{PART}{index}"),)): value
                    for index, source in enumerate(sources)
                    for at, value in known[index].items()
                    if not at.along and source in at.number.axes and source != _query(at.number)
                }
            case Softmax(axes=axes):
                return {at: 0.0 for at, value in known[0].items() if value == -math.inf and _varies(at, axes)}
            case Slice(target=target) if (part := self.part(op)) is not None:
                return {Hidden(at.number): value for at, value in known[0].items() if at.along == ((target, part),)}
        return {}


def _varies(at: Hidden, axes: tuple[str, ...]) -> bool:
    """Whether some elements along these axes may be hidden and others not."""
    if at.along:
        return axes == tuple(place.partition(PART)[0] for _, place in at.along)
    return {*axes} <= {*at.number.axes} - {_query(at.number)}


def _element_by_element(node: Node) -> bool:
    return node.op.elementwise or isinstance(node.op, Contraction | Reorder | Convert | Broadcast)


def _query(number: Node) -> str:
    position = number.inputs[0].op
    assert isinstance(position, Position)
    return position.axis


def _lessened(node: Node) -> Node | None:
    """n for n - 1, max(n - k, 0) with k >= 1, or n // k with k >= 2: from 0 to n - 1 wherever n >= 1."""
    if isinstance(node.op, Maximum):
        for one, other in (node.inputs, node.inputs[::-1]):
            if isinstance(other.op, Literal) and other.op.value == 0 and isinstance(one.op, Subtract):
                return one.inputs[0] if _is_whole(one.inputs[1], lambda k: k >= 1) else None
        return None
    if not isinstance(node.op, Subtract | FloorDivide):
        return None
    number, by = node.inputs
    fits = (lambda k: k == 1) if isinstance(node.op, Subtract) else (lambda k: k >= 2)
    return number if _is_whole(by, fits) else None


def _is_whole(node: Node, fits: Callable[[float], bool]) -> bool:
    return isinstance(node.op, Literal) and node.type.kind is Kind.INT and fits(node.op.value)


def _false_at_zero(condition: Node, block: Callable[[Node], Block | None]) -> dict[Hidden, float]:
    """The number n // s, where a condition on it alone is false if it is 0."""
    numbers: dict[Node, None] = {}
    stack = [condition]
    while stack:
        node = stack.pop()
        if block(node) is not None:
            numbers[node] = None
        elif not node.inputs and not isinstance(node.op, Literal):
            return {}
        stack += () if node in numbers else node.inputs
    if len(numbers) != 1:
        return {}
    [number] = numbers
    return {Hidden(number): 0.0} if _evaluated(condition, number) == 0 else {}


_COMPUTED: Mapping[type, Callable[..., float | None]] = {
    Add: lambda a, b: a + b,
    Subtract: lambda a, b: a - b,
    Multiply: lambda a, b: a * b,
    Negative: lambda a: -a,
    Divide: lambda a, b: a / b if b else None,
    FloorDivide: lambda a, b: a // b if b else None,
    Modulo: lambda a, b: a % b if b else None,
    Equal: lambda a, b: a == b,
    NotEqual: lambda a, b: a != b,
    Less: lambda a, b: a < b,
    LessEqual: lambda a, b: a <= b,
    Greater: lambda a, b: a > b,
    GreaterEqual: lambda a, b: a >= b,
    And: lambda a, b: bool(a) and bool(b),
    Or: lambda a, b: bool(a) or bool(b),
}


def _evaluated(node: Node, zero: Node) -> float | None:
    """A value made of literals and one node that is 0; None if it has an operation that is not known here."""
    if node is zero:
        return 0
    if isinstance(node.op, Literal):
        return node.op.value
    compute = _COMPUTED.get(type(node.op))
    operands = [_evaluated(operand, zero) for operand in node.inputs]
    return None if compute is None or None in operands else compute(*operands)
