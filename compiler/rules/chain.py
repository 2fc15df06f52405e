"""Sums and products of any number of operands: `a - (b + c)` is +a, -b, -c, and `a / (b * c)` likewise.

Rules about `+ - * /` look at values in this form, so that brackets and order hide nothing from them.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from fractions import Fraction

from ..graph import Builder, Node
from ..ops.arithmetic import Add, Divide, Multiply, Negative, Subtract
from ..ops.layout import Broadcast, Reorder
from ..ops.leaves import Literal
from ..types import Kind

MAX_ITEMS = 24  # what lies deeper stays one operand
SHORT = 8  # characters of a number that is worth folding: 0.1, not pi
MAX_NUMBER = 10**6

#: operations that form one sum, and one product
GROUPS = ((Add, Subtract), (Multiply, Divide))

Item = tuple[int, Node]  # +1 or -1, the sign of a term or the exponent of a factor, and the operand


def plain(node: Node) -> Node:
    """The value without changes of layout, which names of axes make irrelevant."""
    while isinstance(node.op, Reorder):
        node = node.inputs[0]
    return node


def is_sum(node: Node) -> bool:
    return isinstance(node.op, Add | Subtract)


def is_product(node: Node) -> bool:
    return isinstance(node.op, Multiply | Divide)


def terms(node: Node, whole: Container[Node] = ()) -> list[Item]:
    """The operands of a sum; the node itself if it is none. whole: values that are not taken apart."""
    found: list[Item] = []
    stack: list[Item] = [(1, node)]
    while stack:
        sign, one = stack.pop()
        one = _bare(one)
        if len(found) + len(stack) < MAX_ITEMS and (one is node or one not in whole):
            match one.op:
                case Add():
                    stack.extend((sign, operand) for operand in reversed(one.inputs))
                    continue
                case Subtract():
                    stack += [(-sign, one.inputs[1]), (sign, one.inputs[0])]
                    continue
                case Negative():
                    stack.append((-sign, one.inputs[0]))
                    continue
        found.append((sign, one))
    return found


def factors(builder: Builder, node: Node, whole: Container[Node] = ()) -> list[Item]:
    """The operands of a product; the node itself if it is none. A minus is a factor `-(1)`.

    whole: values that are not taken apart.
    """
    found: list[Item] = []
    stack: list[Item] = [(1, node)]
    while stack:
        power, one = stack.pop()
        one = _bare(one)
        if len(found) + len(stack) < MAX_ITEMS and (one is node or one not in whole):
            match one.op:
                case Multiply():
                    stack.extend((power, operand) for operand in reversed(one.inputs))
                    continue
                case Divide():
                    stack += [(-power, one.inputs[1]), (power, one.inputs[0])]
                    continue
                case Negative() if one is not node or is_product(_bare(one.inputs[0])):
                    found.append((1, builder.make(Negative(), builder.make(Literal(1)))))
                    stack.append((power, one.inputs[0]))
                    continue
        found.append((power, one))
    return found


def _bare(node: Node) -> Node:
    """The value without changes of layout and repetitions, which arithmetic makes up for."""
    while isinstance(node.op, Reorder | Broadcast):
        node = node.inputs[0]
    return node


def build_sum(builder: Builder, items: Sequence[Item]) -> Node:
    """The sum of the terms. Errors: Reject."""
    items = _small_first(items)
    first = next((index for index, (sign, _) in enumerate(items) if sign > 0), None)
    if first is None:
        if not items:
            return builder.make(Literal(0))
        result = builder.make(Negative(), items[0][1])
        first = 0
    else:
        result = items[first][1]
    for index, (sign, operand) in enumerate(items):
        if index != first:
            result = builder.make(Add() if sign > 0 else Subtract(), result, operand)
    return result


def build_product(builder: Builder, items: Sequence[Item]) -> Node:
    """The product of the factors. Errors: Reject."""
    negative = False
    kept: list[Item] = []
    for power, operand in items:
        if isinstance(operand.op, Negative):
            operand, negative = operand.inputs[0], not negative
            if isinstance(operand.op, Literal) and operand.op.value == 1:
                continue
        kept.append((power, operand))
    items = _small_first(kept)
    first = next((index for index, (power, _) in enumerate(items) if power > 0), None)
    result = builder.make(Literal(1)) if first is None else items[first][1]
    for index, (power, operand) in enumerate(items):
        if index != first:
            result = builder.make(Multiply() if power > 0 else Divide(), result, operand)
    if negative and isinstance(result.op, Literal):
        return builder.make(Literal(-result.op.value))
    return builder.make(Negative(), result) if negative else result


def _small_first(items: Sequence[Item]) -> list[Item]:
    """Operands with few axes first, where at least two of them can be joined before they meet a larger one."""
    largest = max((len(node.axes) for _, node in items), default=0)
    small = [item for item in items if 0 < len(item[1].axes) < largest]
    if len(small) < 2:
        return list(items)
    return sorted(items, key=lambda item: len(item[1].axes))


# -- numbers ------------------------------------------------------------------------------------------


def fold_sum(builder: Builder, items: Sequence[Item]) -> list[Item] | None:
    """The terms with their numbers added up, or None if there are fewer than two."""
    found = _numbers(items)
    if len(found) < 2:
        return None
    total = sum((items[index][0] * value for index, value in found.items()), Fraction(0))
    rest = [item for index, item in enumerate(items) if index not in found]
    if total == 0:
        return rest
    number = _literal(builder, abs(total), items, found)
    return None if number is None else [*rest, (1 if total > 0 else -1, number)]


def fold_product(builder: Builder, items: Sequence[Item]) -> list[Item] | None:
    """The factors with their numbers multiplied, or None if there is nothing to join."""
    minus = [index for index, (_, node) in enumerate(items) if _is_minus(node)]
    found = {index: value for index, value in _numbers(items).items() if index not in minus}
    if (len(found) < 2 and len(minus) < 2) or 0 in found.values():
        return None
    total = Fraction(1)
    for index, value in found.items():
        total = total * value if items[index][0] > 0 else total / value
    rest = [item for index, item in enumerate(items) if index not in found and index not in minus]
    if (total < 0) != (len(minus) % 2 == 1):
        rest.insert(0, (1, builder.make(Negative(), builder.make(Literal(1)))))
    total = abs(total)
    if total == 1:
        return rest
    number = _literal(builder, total, items, found)
    if number is not None:
        return [(1, number), *rest]
    inverse = _literal(builder, 1 / total, items, found)
    return None if inverse is None else [*rest, (-1, inverse)]


def _is_minus(node: Node) -> bool:
    inner, wanted = (node.inputs[0], 1) if isinstance(node.op, Negative) else (node, -1)
    return isinstance(inner.op, Literal) and inner.op.value == wanted


def _numbers(items: Sequence[Item]) -> dict[int, Fraction]:
    """The numbers among the operands that are short enough to be worth folding, by their places."""
    found: dict[int, Fraction] = {}
    for index, (_, node) in enumerate(items):
        if isinstance(node.op, Literal) and len(repr(node.op.value)) <= SHORT and abs(node.op.value) < MAX_NUMBER:
            found[index] = Fraction(str(node.op.value))
    return found


def _literal(builder: Builder, value: Fraction, items: Sequence[Item], found: dict[int, Fraction]) -> Node | None:
    """A positive number as it is written: whole, or with few decimals."""
    real = any(items[index][1].type.kind is not Kind.INT for index in found)
    if value >= MAX_NUMBER:
        return None
    if value.denominator == 1:
        return builder.make(Literal(float(value) if real else int(value)))
    written = float(value)
    if Fraction(str(written)) == value and len(repr(written)) <= SHORT:
        return builder.make(Literal(written))
    return None
