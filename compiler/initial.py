"""Initial values of parameters and buffers: `normal(0.02)`, `uniform(-1, 1)`, `zeros`, `ones`, an expression."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from ..grammar import ast
from .formula import Initial, Normal, Uniform, Value
from .graph import Graph, Node
from .ops import BY_SPELLING
from .ops.leaves import Parameter
from .scalars import ScalarError
from .scope import RESERVED, Scope, did_you_mean
from .sizes import Poly

DISTRIBUTIONS = {"normal": 1, "uniform": 2}
FILLS = {"zeros": 0, "ones": 1}
_EXAMPLES = {"normal": "normal(0.02)", "uniform": "uniform(-1, 1)"}


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
        case ast.Call(name, None, _, (keyword, *_)) if name in DISTRIBUTIONS:
            scope.problem("AG274", keyword.span, name=name, keyword=keyword.name, help=f"write `{_EXAMPLES[name]}`")
            return None
        case ast.Call(name, ast.AxisMap() as axes) if name in DISTRIBUTIONS:
            scope.problem("AG269", axes.span, name=name, takes="nothing", example=_EXAMPLES[name])
            return None
        case ast.Name(name) | ast.Call(name) if _misspelt(name, scope) is not None:
            code = "AG203" if isinstance(expression, ast.Call) else "AG202"
            scope.problem(code, expression.span, name=name, help=_misspelt(name, scope))
            return None
    made = value(expression)
    if made is None:
        return None
    if not set(made.axes) <= set(node.axes):
        scope.problem("AG313", expression.span, name=tensor.name, declared=node.type, actual=made.type)
        return None
    return Value(made)


def _misspelt(name: str, scope: Scope) -> str | None:
    """The initial value that was probably meant by a name that has no meaning, else those that there are."""
    known = name in RESERVED or name in scope.constants or name in scope.axes or name in scope.places
    if known or (name, False) in BY_SPELLING or (name, True) in BY_SPELLING:
        return None
    near = did_you_mean(name, (*DISTRIBUTIONS, *FILLS))
    return near or f"initial values are {', '.join(f'`{each}`' for each in (*_EXAMPLES.values(), *FILLS))} and numbers"


def sizes(initial: Initial) -> tuple[str, ...]:
    """The sizes and constants that an initial value names or runs along: they are settled when the module is built."""
    names: set[str] = set()
    match initial:
        case Value(node):
            inside = list(Graph((node,), {}))
            scalars = tuple(scalar for inner in inside for scalar in inner.op.scalars())
            names.update(axis for inner in inside for axis in inner.axes)
        case Normal(deviation):
            scalars = (deviation,)
        case Uniform(low, high):
            scalars = (low, high)
    return tuple(sorted(names.union(*(scalar.symbols() for scalar in scalars))))
