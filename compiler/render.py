"""A node of the graph as an expression of the language."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from ..grammar import ast
from ..grammar.printer import format_expression
from .graph import Node
from .ops.arithmetic import IntegerPower, Negative
from .ops.base import Brackets, Op
from .ops.contraction import Contraction, matmul
from .ops.layout import Broadcast, Rename, Reorder
from .ops.leaves import Declared, Literal, Position, Size
from .ops.logic import Not
from .scan import Argument
from .sizes import Poly

MAX_DEPTH = 40
MAX_NODES = 400
INFIX = frozenset({"+", "-", "*", "/", "//", "%", "^", "==", "!=", "<", "<=", ">", ">=", "and", "or"})


def text(node: Node, names: Mapping[Node, str], *, open: bool = False) -> str:
    """The node as the language writes it; named values appear as their names.

    open: show what the node itself is, even when it has a name.
    """
    return format_expression(_Renderer(names).expression(node, open=open))


def sides(before: Node, after: Node, names: Mapping[Node, str]) -> Callable[[], tuple[str, str]]:
    """What writes two values, each as what it is, under the names that are known now."""
    known = dict(names)
    return lambda: (text(before, known, open=True), text(after, known, open=True))


class _Renderer:
    def __init__(self, names: Mapping[Node, str]) -> None:
        self.names = names
        self.left = MAX_NODES

    def expression(self, node: Node, *, open: bool = False, depth: int = 0) -> ast.Expression:
        """What is left out, because a shared value would be written too often, shows as `...`."""
        name = self.names.get(node)
        if name is not None and not open:
            return ast.Name(name)
        self.left -= 1
        if depth > MAX_DEPTH or self.left < 0:
            return ast.Name("...")
        operands = [self.expression(operand, depth=depth + 1) for operand in node.inputs]
        return expression(node, operands)


def expression(node: Node, operands: list[ast.Expression]) -> ast.Expression:
    """An operation written with its operands, which are written already."""
    op = node.op
    match op:
        case Literal(value):
            return number(value)
        case Size(size):
            return ast.Name(str(size))
        case Position(axis):
            return ast.Call("pos", None, (ast.Name(axis),))
        case Declared(name):
            return ast.Name(name)
        case Argument(name):
            return ast.Name(name)
        case Negative():
            return ast.Unary("-", operands[0])
        case Not():
            return ast.Unary("not", operands[0])
        case IntegerPower(exponent):
            return ast.Binary("^", operands[0], ast.Number(str(exponent)))
        case Contraction():
            return _contraction(node, operands)
        case Reorder(axes):
            if axes == (*node.inputs[0].axes[:-2], *reversed(node.inputs[0].axes[-2:])):
                return ast.Transpose(operands[0])
            return operands[0]
        case Broadcast():
            return operands[0]
        case Rename(source, target):
            return ast.Rename(operands[0], ast.Axis(source), ast.Axis(target))
    if op.spelling in INFIX:
        return ast.Binary(op.spelling, operands[0], operands[1])
    return _call(op, operands)


def _contraction(node: Node, operands: list[ast.Expression]) -> ast.Expression:
    """`x @ y` where the layouts allow it, also with a side transposed; else `sum[D](x * y)`."""
    op = node.op
    assert isinstance(op, Contraction)
    for left, right in ((0, 1), (1, 0)):
        for flip_left in (False, True):
            for flip_right in (False, True):
                types, shown = [], []
                for index, flip in ((left, flip_left), (right, flip_right)):
                    type_ = node.inputs[index].type
                    if flip and type_.rank < 2:
                        break
                    types.append(type_.with_axes((*type_.axes[:-2], *reversed(type_.axes[-2:]))) if flip else type_)
                    shown.append(ast.Transpose(operands[index]) if flip else operands[index])
                if len(types) == 2 and _is_matmul(types, op):
                    return ast.Binary("@", shown[0], shown[1])
    axes = ast.AxisMap(tuple(ast.Axis(axis) for axis in op.axes))
    return ast.Call("sum", axes, (ast.Binary("*", operands[0], operands[1]),))


def _is_matmul(types: list, op: Contraction) -> bool:  # type: ignore[type-arg]
    from .ops.base import Reject

    try:
        return matmul(types[0], types[1]) == op
    except Reject:
        return False


def _call(op: Op, operands: list[ast.Expression]) -> ast.Call:
    given: tuple[str, ...] = getattr(op, "given", ())
    required = len(operands) - len(given)
    keywords = [ast.Keyword(name, operand) for name, operand in zip(given, operands[required:], strict=True)]
    defaults = {f.name: f.default for f in op.__dataclass_fields__.values() if f.metadata.get("attribute")}
    for name, default in defaults.items():
        value = getattr(op, name)
        if value != default:
            keywords.append(ast.Keyword(name, _size(value)))
    brackets: ast.AxisMap | None = None

    def axes(names: tuple[str, ...]) -> tuple[ast.Axis, ...]:
        return tuple(ast.Axis(name) for name in names)

    fields = vars(op)
    match op.brackets:
        case Brackets.AXES:
            brackets = ast.AxisMap(axes(fields["axes"]))
        case Brackets.AXIS:
            brackets = ast.AxisMap(axes((fields["axis"],)))
        case Brackets.SPLIT:
            brackets = ast.AxisMap(axes((fields["source"],)), axes(fields["targets"]))
        case Brackets.MERGE:
            brackets = ast.AxisMap(axes(fields["sources"]), axes((fields["target"],)))
        case Brackets.RENAME:
            brackets = ast.AxisMap(axes((fields["source"],)), axes((fields["target"],)))
        case Brackets.WINDOW:
            brackets = ast.AxisMap(axes((fields["source"],)), axes((fields["target"], fields["window"])))
        case Brackets.CONVOLUTION:
            places, made = fields["sources"], fields["targets"]
            brackets = ast.AxisMap(axes((*places, *fields["taps"])), None if made == places else axes(made))
    name = op.spelling or getattr(op, "kernel", "") or type(op).__name__.lower()
    call = ast.Call(name, brackets, tuple(operands[:required]), tuple(keywords))
    if fields.get("summed"):
        return ast.Call("sum", ast.AxisMap(axes(fields["summed"])), (call,), ())
    return call


def _size(size: Poly) -> ast.Expression:
    value = size.as_number()
    if value is None:
        return ast.Name(str(size))
    return number(value if isinstance(value, int) else float(value))


def number(value: int | float) -> ast.Expression:
    """A number as the language writes it."""
    if value < 0:
        return ast.Unary("-", number(-value))
    if value == float("inf"):
        return ast.Name("inf")
    if value == math.pi:
        return ast.Name("pi")
    digits, mark, exponent = repr(value).partition("e")
    return ast.Number(f"{digits}e{int(exponent)}" if mark else digits)
