"""Numbers that multiply a product, multiplied into a small factor of it instead.

`q @ k^T / sqrt(D)` divides every entry of a map; `(q / sqrt(D)) @ k^T` divides every query. This is done on the
finished plan: the algorithms of the portfolio know scores by the number that divides them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..graph import Builder, Graph, Node
from ..ops.arithmetic import Divide, Multiply, Power
from ..ops.base import Op
from ..ops.contraction import Contraction
from ..ops.functions import Sqrt
from ..ops.layout import Rename, Reorder
from ..ops.leaves import Literal, Size
from ..sizes import Poly
from ..types import Kind

RULE = "scale early"
WHY = "a number that multiplies a product may multiply any factor of it, and a small factor takes less work"
MOST = 2.0**12  # of a number or its reciprocal: half precision has the range for it before the sum as well as after
SMALLER = 16.0  # how many times fewer entries the factor must have

Bounds = Callable[[Poly], bool]


@dataclass(frozen=True)
class Scaled:
    """The graph with numbers in small factors.

    moved: the products with their numbers, as they were and as they are; made: for each node what stands for it.
    """

    graph: Graph
    moved: tuple[tuple[Node, Node], ...]
    made: dict[Node, Node]


def scaled_early(graph: Graph, builder: Builder, moderate: Bounds, entries: Callable[[Node], float]) -> Scaled:
    """Every number on a map moved into the first factor that is much smaller, if the product is needed nowhere else.

    moderate: whether a size or constant is neither large nor tiny, whatever the length of the sequence; entries: how
    many a value has.
    """
    users = graph.users()
    made: dict[Node, Node] = {}
    moved: dict[Node, Node] = {}
    for node in graph.nodes():
        found = _product(node, moderate) if node.type.kind is Kind.REAL and node.type.batched else None
        inner = [] if found is None else _between(node, found[0])
        alone = all(len(users[each]) == 1 and each not in graph.outputs for each in inner)
        index = _small(found[0], entries) if found is not None and alone else None
        if found is None or index is None:
            operands = tuple(made[operand] for operand in node.inputs)
            made[node] = node if operands == node.inputs else builder.make(node.op, *operands)
            continue
        product, scales = found
        factors = [made[operand] for operand in product.inputs]
        for op, number in reversed(scales):
            factors[index] = builder.make(op, factors[index], made[number])
        made[node] = builder.make(product.op, *factors)
        for each in reversed([node, *inner]):
            if isinstance(each.op, Reorder | Rename):
                made[node] = builder.make(each.op, made[node])
            moved.pop(each, None)
        moved[node] = made[node]
    result = Graph(tuple(made[output] for output in graph.outputs), {})
    kept = set(result.nodes())
    names = {made[node]: name for node, name in graph.names.items() if node in made and made[node] in kept}
    return Scaled(Graph(result.outputs, names), tuple(moved.items()), made)


def _product(node: Node, moderate: Bounds) -> tuple[Node, list[tuple[Op, Node]]] | None:
    """The contraction that a value is, up to numbers and views, with the numbers from the outside in; no scalar."""
    scales: list[tuple[Op, Node]] = []
    while not isinstance(node.op, Contraction):
        if isinstance(node.op, Reorder | Rename):
            [node] = node.inputs
            continue
        if not isinstance(node.op, Multiply | Divide):
            return None
        value, number = node.inputs
        if isinstance(node.op, Multiply) and _is_moderate(value, moderate):
            value, number = number, value
        if not _is_moderate(number, moderate):
            return None
        scales.append((node.op, number))
        node = value
    return (node, scales) if scales and node.axes else None


def _between(node: Node, product: Node) -> list[Node]:
    """The values from a node down to the product that it holds."""
    found = []
    while node is not product:
        node = next(operand for operand in node.inputs if operand.axes)
        found.append(node)
    return found


def _small(product: Node, entries: Callable[[Node], float]) -> int | None:
    """The first factor, in the order of the result's axes, that is much smaller than the product."""
    order = sorted(range(2), key=lambda i: [axis not in product.inputs[i].axes for axis in product.axes])
    fits = (
        i for i in order
        if product.inputs[i].type.kind is Kind.REAL and entries(product.inputs[i]) * SMALLER <= entries(product)
    )  # fmt: skip
    return next(fits, None)


def _is_moderate(node: Node, moderate: Bounds) -> bool:
    """Whether a value is a number made of sizes and literals, neither large nor tiny."""
    if node.axes or node.type.batched:
        return False
    match node.op:
        case Literal(value):
            return 1 / MOST <= abs(value) <= MOST
        case Size(size):
            return moderate(size)
        case Sqrt() | Multiply() | Divide():
            return all(_is_moderate(operand, moderate) for operand in node.inputs)
        case Power():
            base, exponent = node.inputs
            small = isinstance(exponent.op, Literal) and abs(exponent.op.value) <= 1
            return small and _is_moderate(base, moderate)
    return False
