"""Whether a result depends on how many entries a named batch axis has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..formula import Formula
from ..graph import Node
from ..ops.arithmetic import Divide, Multiply
from ..ops.leaves import Position, Size
from ..ops.normalisations import L1Normalize, L2Normalize
from .ranges import Range, ranges

BATCH = "B"  # the name by which a formula that needs its batch axis calls it


def names_batch(formula: Formula) -> bool:
    """Whether the formula speaks of its batch axis."""
    return any(BATCH in node.axes for node in formula.inputs)


def length_used(formula: Formula, axis: str) -> Node | None:
    """The first value through which a result depends on the length of an axis; None if there is provably none.

    A value that is the same for all inputs and sizes does not count, nor a positive factor that a normalisation takes
    up (up to the floor of its divisor). A sum over the axis runs over its entries, and does not read its length.
    """
    known: dict[Node, Range] = {}
    seen: set[Node] = set()
    stack = list(formula.graph.outputs)
    found: Node | None = None
    while stack:
        node = stack.pop()
        if node in seen or _is_constant(node, formula.constants, known):
            continue
        seen.add(node)
        if _reads(node, axis, formula) and (found is None or node.index < found.index):
            found = node
        stack.extend(_needed(node, formula.constants, known))
    return found


def _reads(node: Node, axis: str, formula: Formula) -> bool:
    if isinstance(node.op, Position):
        return node.op.axis == axis
    sizes = node.op.scalars()
    canonical = formula.facts.canonical
    return bool(isinstance(node.op, Size) or sizes) and any(axis in canonical(size).symbols() for size in sizes)


def _is_constant(node: Node, constants: Mapping[str, int | float], known: dict[Node, Range]) -> bool:
    bounds = ranges((node,), constants, known)[node]
    return bounds.low == bounds.high


def _needed(node: Node, constants: Mapping[str, int | float], known: dict[Node, Range]) -> Iterator[Node]:
    """The operands that matter to the value."""
    if not isinstance(node.op, L1Normalize | L2Normalize):
        yield from node.inputs
        return
    value = node.inputs[0]
    while isinstance(value.op, Multiply | Divide):
        left, right = value.inputs
        pairs = [(left, right)] if isinstance(value.op, Divide) else [(left, right), (right, left)]
        rest = next((a for a, b in pairs if _is_scale(b, node.op.axes, constants, known)), None)
        if rest is None:
            break
        value = rest
    yield value


def _is_scale(
    node: Node, axes: tuple[str, ...], constants: Mapping[str, int | float], known: dict[Node, Range]
) -> bool:
    return not set(axes) & set(node.axes) and ranges((node,), constants, known)[node].positive
