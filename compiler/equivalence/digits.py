"""Numbers that formulas compute from sizes and literals: whether float64 holds them.

Generated code computes them with plain numbers of Python, where rounding is not seen by what moves tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Context, Decimal, DecimalException, localcontext

from ..graph import Node
from ..ops import arithmetic, functions, leaves
from ..ops.base import Op

DIGITS = 60
CERTAIN = Decimal("1e-12")  # relative difference that costs no digit that is compared

_EXACTLY: Mapping[type[Op], Callable[..., Decimal]] = {
    arithmetic.Add: lambda x, y: x + y,
    arithmetic.Subtract: lambda x, y: x - y,
    arithmetic.Multiply: lambda x, y: x * y,
    arithmetic.Divide: lambda x, y: x / y,
    arithmetic.Negative: lambda x: -x,
    arithmetic.Power: lambda x, y: x**y,
    functions.Square: lambda x: x * x,
    functions.Reciprocal: lambda x: 1 / x,
    functions.Exp: lambda x: x.exp(),
    functions.Log: lambda x: x.ln(),
    functions.Sqrt: lambda x: x.sqrt(),
}


def cancelled(nodes: Sequence[Node], sizes: Mapping[str, float]) -> bool:
    """Whether a sum of numbers is off by more than rounding in the last digits."""
    found: dict[Node, tuple[Decimal, Decimal]] = {}  # as float64 has it, and exactly
    with localcontext(Context(prec=DIGITS)):
        for node in nodes:
            try:
                value = _value(node, found, sizes)
            except (DecimalException, OverflowError, ZeroDivisionError, ValueError, KeyError):
                continue
            if value is None:
                continue
            rounded, exact = value
            if abs(rounded - exact) > CERTAIN * abs(exact):
                return True
            found[node] = value
    return False


def _value(
    node: Node, found: Mapping[Node, tuple[Decimal, Decimal]], sizes: Mapping[str, float]
) -> tuple[Decimal, Decimal] | None:
    op = node.op
    if isinstance(op, leaves.Literal | leaves.Size):
        number = Decimal(op.value if isinstance(op, leaves.Literal) else op.size.evaluate(sizes))
        return (number, number) if number.is_finite() else None
    rule = _EXACTLY.get(type(op))
    if rule is None or not node.inputs or any(operand not in found for operand in node.inputs):
        return None
    operands = [found[operand] for operand in node.inputs]
    rounded = Decimal(float(rule(*(value for value, _ in operands))))
    return rounded, rule(*(exact for _, exact in operands))
