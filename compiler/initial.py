"""Initial values of parameters and buffers: `normal(0.02)`, `uniform(-1, 1)`, `zeros`, `ones`, an expression."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from ..grammar import ast
from .formula import Initial, Normal, Uniform, Value
from .graph import Graph, Node
from .ops.leaves import Parameter
from .scalars import ScalarError
from .scope import Scope
from .sizes import Poly

DISTRIBUTIONS = {"normal": 1, "uniform": 2}
FILLS = {"zeros": 0, "ones": 1}


def read(
    tensor: ast.Tensor, node: Node, scope: Scope, value: Callable[[ast.Expression], Node | None]
) -> Initial | None:
    """The initial value that a declaration states; None after a diagnostic.

    A parameter without one starts as normal(0.02); a buffer must state one.
    """
    expression = tensor.initial
    if expression is None:
        if isinstance(node.op, Parameter):
            return Normal(Poly.constant(Fraction("0.02")))
        scope.problem("AG312", tensor.span, name=tensor.name)
        return None
    match expression:
        case ast.Name(name) if name in FILLS:
            made = value(ast.Number(str(FILLS[name]), expression.span))
            return None if made is None else Value(made)
        case ast.Call(name, None, arguments, ()) if name in DISTRIBUTIONS:
            if len(arguments) != DISTRIBUTIONS[name]:
                scope.problem(
                    "AG272", expression.span, name=name,
                    takes="the standard deviation" if name == "normal" else "the lower and the upper end",
                    given=len(arguments) or "none",
                )  # fmt: skip
                return None
            try:
                numbers = [scope.size(argument) for argument in arguments]
            except ScalarError as error:
                scope.scalar_problem(error)
                return None
            return Normal(numbers[0]) if name == "normal" else Uniform(numbers[0], numbers[1])
    made = value(expression)
    if made is None:
        return None
    if not set(made.axes) <= set(node.axes):
        scope.problem("AG313", expression.span, name=tensor.name, declared=node.type, actual=made.type)
        return None
    return Value(made)


def sizes(initial: Initial) -> tuple[str, ...]:
    """The sizes and constants that an initial value names: they are settled when the module is built."""
    match initial:
        case Value(node):
            scalars = tuple(scalar for inner in Graph((node,), {}) for scalar in inner.op.scalars())
        case Normal(deviation):
            scalars = (deviation,)
        case Uniform(low, high):
            scalars = (low, high)
    return tuple(sorted({name for scalar in scalars for name in scalar.symbols()}))
