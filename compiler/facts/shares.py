"""Shares of a sum: `b * x / (c + b * sum(x))` lies in 0 .. 1 where nothing is negative.

A memory that writes with the strength `b / (1 + b * sum[D](k^2))` keeps `1 - e * k^2` of a feature: no interval of the
factors by themselves says that this is not negative, however large the key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from ..graph import Node
from ..ops.arithmetic import Add, Divide, IntegerPower, Multiply
from ..ops.contraction import Contraction
from ..ops.functions import Square
from ..ops.layout import Broadcast, Reorder
from ..ops.reductions import Sum

DEPTH = 6  # of products in products, and of sums in sums


def is_share(
    node: Node, given: Mapping[Node, Node], non_negative: Callable[[Node], bool], positive: Callable[[Node], bool]
) -> bool:
    """Whether a product or quotient lies in 0 .. 1, as one of the terms that its divisor sums is not above their sum.

    given: what the arguments of a step are. non_negative, positive: what is known of the sign of the operands.
    """
    if not _divides(node, given):
        return False
    above, below = _fraction(node, given)
    if len(below) != 1 or not positive(below[0]):
        return False
    terms = _terms(below[0], given)
    return all(map(non_negative, terms)) and any(_sums(term, above, given, non_negative) for term in terms)


def _divides(node: Node, given: Mapping[Node, Node], depth: int = 0) -> bool:
    """Whether a product has a divisor."""
    node = given.get(node, node)
    if isinstance(node.op, Multiply | Broadcast | Reorder) and depth < DEPTH:
        return any(_divides(operand, given, depth + 1) for operand in node.inputs)
    return isinstance(node.op, Divide)


def _sums(
    term: Node, above: Counter[Node], given: Mapping[Node, Node], non_negative: Callable[[Node], bool]
) -> bool:
    """Whether a term is a product in which one factor sums what the others are multiplied by in another product."""
    factors, below = _fraction(term, given)
    for total in factors:
        match total.op:
            case Sum() if non_negative(total.inputs[0]):
                summed, divisors = _fraction(total.inputs[0], given)
            case Contraction() if total.inputs[0] is total.inputs[1] or all(map(non_negative, total.inputs)):
                parts = [_fraction(operand, given) for operand in total.inputs]
                summed, divisors = parts[0][0] + parts[1][0], [*parts[0][1], *parts[1][1]]
            case _:
                continue
        others = factors - Counter([total])
        if not below and not divisors and others + summed == above and all(map(non_negative, others)):
            return True
    return False


def _terms(node: Node, given: Mapping[Node, Node], depth: int = 0) -> list[Node]:
    node = given.get(node, node)
    if isinstance(node.op, Add) and depth < DEPTH:
        return [term for operand in node.inputs for term in _terms(operand, given, depth + 1)]
    return [node]


def _fraction(node: Node, given: Mapping[Node, Node], depth: int = 0) -> tuple[Counter[Node], list[Node]]:
    """The factors of a product, and what it is divided by."""
    node = given.get(node, node)
    if depth < DEPTH:
        match node.op:
            case Multiply():
                (one, below), (other, more) = (_fraction(operand, given, depth + 1) for operand in node.inputs)
                return one + other, [*below, *more]
            case Divide():
                (one, below), (other, more) = (_fraction(operand, given, depth + 1) for operand in node.inputs)
                if not more:
                    return one, [*below, node.inputs[1]]
            case Square() | IntegerPower(2):
                one, below = _fraction(node.inputs[0], given, depth + 1)
                return one + one, [*below, *below]
            case Broadcast() | Reorder():
                return _fraction(node.inputs[0], given, depth + 1)
    return Counter([node]), []
