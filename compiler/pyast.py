"""Small constructors for Python syntax trees, so that generated code never passes through text."""

from __future__ import annotations

import ast


def name(identifier: str) -> ast.expr:
    """`a` or a dotted path `torch.nn.functional.elu`."""
    first, *rest = identifier.split(".")
    node: ast.expr = ast.Name(first, ast.Load())
    for part in rest:
        node = ast.Attribute(node, part, ast.Load())
    return node


def constant(value: object) -> ast.expr:
    """A literal; negative numbers become a unary minus, infinities `math.inf`."""
    if isinstance(value, float) and value != value:
        return name("math.nan")
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return name("math.inf") if value > 0 else ast.UnaryOp(ast.USub(), name("math.inf"))
    if isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
        return ast.UnaryOp(ast.USub(), ast.Constant(-value))
    if isinstance(value, tuple | list):
        items = [constant(item) for item in value]
        return ast.Tuple(items, ast.Load()) if isinstance(value, tuple) else ast.List(items, ast.Load())
    assert value is None or isinstance(value, str | bytes | bool | int | float | complex)
    return ast.Constant(value)


def expression(value: ast.expr | object) -> ast.expr:
    return value if isinstance(value, ast.expr) else constant(value)


def call(function: str | ast.expr, *arguments: object, **keywords: object) -> ast.Call:
    """`function(arguments, keywords)`; arguments that are no syntax become literals."""
    return ast.Call(
        name(function) if isinstance(function, str) else function,
        [expression(a) for a in arguments],
        [ast.keyword(key, expression(value)) for key, value in keywords.items()],
    )


def method(receiver: ast.expr, function: str, *arguments: object, **keywords: object) -> ast.Call:
    """`receiver.function(arguments, keywords)`."""
    return call(ast.Attribute(receiver, function, ast.Load()), *arguments, **keywords)


_BINARY: dict[str, type[ast.operator]] = {
    "+": ast.Add, "-": ast.Sub, "*": ast.Mult, "/": ast.Div, "//": ast.FloorDiv, "%": ast.Mod, "**": ast.Pow,
    "&": ast.BitAnd, "|": ast.BitOr, "@": ast.MatMult,
}  # fmt: skip
_COMPARE: dict[str, type[ast.cmpop]] = {
    "==": ast.Eq, "!=": ast.NotEq, "<": ast.Lt, "<=": ast.LtE, ">": ast.Gt, ">=": ast.GtE,
}  # fmt: skip


def binary(operator: str, left: object, right: object) -> ast.expr:
    """`left operator right`, for arithmetic, bitwise and comparison operators."""
    if operator in _COMPARE:
        return ast.Compare(expression(left), [_COMPARE[operator]()], [expression(right)])
    return ast.BinOp(expression(left), _BINARY[operator](), expression(right))


def negative(operand: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.USub(), operand)


def invert(operand: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Invert(), operand)


def conditional(condition: ast.expr, then: object, otherwise: object) -> ast.expr:
    """`then if condition else otherwise`."""
    return ast.IfExp(condition, expression(then), expression(otherwise))


def template(text: str, **parts: ast.expr) -> ast.expr:
    """A fixed expression of this package, with its free names replaced by other expressions."""

    class Fill(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return parts.get(node.id, node)

    filled: ast.expr = Fill().visit(ast.parse(text, mode="eval").body)
    return filled


def tuple_of(items: list[ast.expr]) -> ast.expr:
    return ast.Tuple(items, ast.Load())


def assign(target: str, value: ast.expr, *others: str) -> ast.stmt:
    """`target = value`, or `target, others = value`."""
    names: list[ast.expr] = [ast.Name(name, ast.Store()) for name in (target, *others)]
    return ast.Assign([ast.Tuple(names, ast.Store()) if others else names[0]], value, lineno=0)
