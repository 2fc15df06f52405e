"""Statements as text: one line where it fits, calls broken at their arguments, comments above.

`ast.unparse` writes the expressions; only line breaks, comments and blank lines are made here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .names import printable

WIDTH = 100
_INDENT = 4


@dataclass(frozen=True)
class Line:
    """A statement and the comments above it."""

    statement: ast.stmt
    comments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Function:
    """A method: its header without body, docstring, and lines."""

    header: ast.FunctionDef
    docstring: str | None
    lines: Sequence[Line]


def statement(line: Line, indent: int) -> list[str]:
    """The text of a statement, each line indented by that many spaces."""
    margin = " " * indent
    text = [f"{margin}# {printable(comment)}" for comment in line.comments]
    node = line.statement
    match node:
        case ast.If(test, body, []):
            text.append(f"{margin}if {ast.unparse(test)}:")
            for inner in body:
                text += statement(Line(inner), indent + _INDENT)
        case ast.For(target, iterated, body, []):
            text.append(f"{margin}for {ast.unparse(target)} in {ast.unparse(iterated)}:")
            for inner in body:
                text += statement(Line(inner), indent + _INDENT)
        case ast.With(items, body):
            text.append(f"{margin}with {', '.join(ast.unparse(item) for item in items)}:")
            for inner in body:
                text += statement(Line(inner), indent + _INDENT)
        case ast.Assign([target], value):
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            text += broken(f"{', '.join(map(ast.unparse, names))} = ", value, "", indent)
        case ast.Return(value) if value is not None:
            if isinstance(value, ast.Tuple):
                text += _several(value, indent)
            else:
                text += broken("return ", value, "", indent)
        case ast.Raise(exc) if exc is not None:
            text += broken("raise ", exc, "", indent)
        case ast.Expr(value):
            text += broken("", value, "", indent)
        case _:
            text += [margin + part for part in ast.unparse(node).splitlines()]
    return [line if line.lstrip().startswith("#") else _double_quoted(line) for line in text]


def _several(value: ast.Tuple, indent: int) -> list[str]:
    """`return a, b`, or each result on a line of its own."""
    margin = " " * indent
    single = f"{margin}return {ast.unparse(value)[1:-1]}"
    if len(single) <= WIDTH:
        return [single]
    lines = [line for result in value.elts for line in broken("", result, ",", indent + _INDENT)]
    return [f"{margin}return (", *lines, f"{margin})"]


def _double_quoted(line: str) -> str:
    """unparse prefers single quotes; without any other quote or escape on the line both mean the same."""
    return line if '"' in line or "\\" in line else line.replace("'", '"')


def broken(prefix: str, value: ast.expr, suffix: str, indent: int) -> list[str]:
    """prefix, expression and suffix on one line, or broken where a person would: at the arguments of
    a call, before the methods of a chain, before an operator."""
    margin = " " * indent
    single = f"{margin}{prefix}{ast.unparse(value)}{suffix}"
    if len(single) <= WIDTH:
        return [single]
    if isinstance(value, ast.JoinedStr):
        return _message(prefix, value, suffix, indent)
    if isinstance(value, ast.BinOp):
        return [f"{margin}{prefix}(", *_operands(value, indent + _INDENT), f"{margin}){suffix}"]
    if isinstance(value, ast.Call):
        receiver, chain = _chain(value)
        if chain and not (isinstance(receiver, ast.Name) and receiver.id in ("torch", "nn", "self")):
            lines = _grouped(receiver, indent + _INDENT)
            for call in chain:
                holder = ast.Call(ast.Name(f".{call.func.attr}"), call.args, call.keywords)  # type: ignore[attr-defined]
                lines += broken("", holder, "", indent + _INDENT)
            return [f"{margin}{prefix}(", *lines, f"{margin}){suffix}"]
        head = f"{margin}{prefix}{ast.unparse(value.func)}("
        if len(head) <= WIDTH and (value.args or value.keywords):
            arguments = [("", argument) for argument in value.args]
            arguments += [(f"{keyword.arg}=", keyword.value) for keyword in value.keywords]
            inner = f"{margin}    {', '.join(name + ast.unparse(argument) for name, argument in arguments)}"
            if len(inner) <= WIDTH and len(arguments) > 1:
                return [head, inner, f"{margin}){suffix}"]
            lines = [head]
            for name, argument in arguments:
                alone = isinstance(argument, ast.JoinedStr) and len(arguments) == 1
                lines += broken(name, argument, "" if alone else ",", indent + _INDENT)
            return [*lines, f"{margin}){suffix}"]
    return [single]


def _chain(value: ast.expr) -> tuple[ast.expr, list[ast.Call]]:
    """The receiver of a chain of method calls, and the calls, innermost first."""
    calls: list[ast.Call] = []
    while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        calls.insert(0, value)
        value = value.func.value
    return value, calls


def _operands(value: ast.BinOp, indent: int) -> list[str]:
    """An operation inside parentheses: each operand of a chain of equal operators on a line of its own."""
    operands: list[tuple[str, ast.expr]] = []
    left: ast.expr = value
    while isinstance(left, ast.BinOp) and type(left.op) is type(value.op):
        operands.insert(0, (f"{_SYMBOLS[type(left.op)]} ", left.right))
        left = left.left
    operands.insert(0, ("", left))
    return [line for prefix, operand in operands for line in _grouped(operand, indent, prefix)]


def _grouped(value: ast.expr, indent: int, prefix: str = "") -> list[str]:
    """An operand on its own line or lines, in parentheses unless it is a name, call or the like."""
    if isinstance(value, ast.Name | ast.Call | ast.Attribute | ast.Constant | ast.Subscript):
        return broken(prefix, value, "", indent)
    margin = " " * indent
    single = f"{margin}{prefix}({ast.unparse(value)})"
    if len(single) <= WIDTH or not isinstance(value, ast.BinOp):
        return [single]
    return [f"{margin}{prefix}(", *_operands(value, indent + _INDENT), f"{margin})"]


_SYMBOLS: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.MatMult: "@", ast.BitAnd: "&", ast.BitOr: "|",
}  # fmt: skip


def _message(prefix: str, value: ast.JoinedStr, suffix: str, indent: int) -> list[str]:
    """A long f-string as adjacent shorter ones, each ending at a space or after a value."""
    parts: list[ast.expr] = []
    for part in value.values:
        if isinstance(part, ast.Constant):
            words = str(part.value).split(" ")
            parts += [ast.Constant(word + " ") for word in words[:-1]]
            parts += [ast.Constant(words[-1])] * bool(words[-1])
        else:
            parts.append(part)
    margin = " " * indent
    lines: list[list[ast.expr]] = [[]]
    for part in parts:
        if len(margin + ast.unparse(ast.JoinedStr([*lines[-1], part]))) > WIDTH - 2 and lines[-1]:
            lines.append([])
        lines[-1].append(part)
    texts = [_string(line) for line in lines]
    texts[0] = prefix + texts[0]
    texts[-1] += suffix
    return [margin + text for text in texts]


def _string(parts: list[ast.expr]) -> str:
    if all(isinstance(part, ast.Constant) for part in parts):
        return repr("".join(str(part.value) for part in parts if isinstance(part, ast.Constant)))
    return ast.unparse(ast.JoinedStr(parts))


def docstring(text: str, indent: int) -> list[str]:
    """A docstring whose further lines are indented like its first."""
    margin = " " * indent
    clean = "\n".join(
        "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line.replace("\t", "    ")).rstrip()
        for line in text.strip().splitlines()
    )
    lines = clean.split("\n")
    if len(lines) > 1:
        clean = "\n".join([lines[0], *(margin + line if line else "" for line in lines[1:]), margin])
    # as the first statement of a class, unparse writes it in triple quotes and with real line breaks
    holder = ast.ClassDef("Holder", [], [], [ast.Expr(ast.Constant(clean))], [])
    quoted = ast.unparse(holder).split("\n")[1:]
    return [margin + quoted[0].lstrip(), *quoted[1:]]


def function(item: Function, indent: int) -> list[str]:
    margin = " " * indent
    header = item.header
    text = [f"{margin}@{ast.unparse(decorator)}" for decorator in header.decorator_list]
    returns = f" -> {ast.unparse(header.returns)}" if header.returns else ""
    one = f"{margin}def {header.name}({', '.join(_arguments(header.args))}){returns}:"
    if len(one) <= WIDTH:
        text.append(one)
    else:
        text.append(f"{margin}def {header.name}(")
        text += [f"{margin}    {argument}," for argument in _arguments(header.args)]
        text.append(f"{margin}){returns}:")
    if item.docstring:
        text += docstring(item.docstring, indent + _INDENT)
    for line in item.lines:
        text += statement(line, indent + _INDENT)
    return text


def _arguments(arguments: ast.arguments) -> Iterable[str]:
    required = len(arguments.args) - len(arguments.defaults)
    defaults: list[ast.expr | None] = [*([None] * required), *arguments.defaults]
    for argument, default in zip(arguments.args, defaults, strict=True):
        yield _argument(argument, default)
    if arguments.kwonlyargs:
        yield "*"
    for argument, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _argument(argument, value)


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    if default is None:
        return ast.unparse(argument)
    sign = " = " if argument.annotation else "="
    return f"{ast.unparse(argument)}{sign}{ast.unparse(default)}"


def header(
    name: str,
    arguments: Iterable[tuple[str, str | None]],
    returns: str,
    *,
    defaults: Sequence[ast.expr] = (),
    keywords: Iterable[tuple[str, str]] = (),
) -> ast.FunctionDef:
    """`def name(arguments, *, keywords=None) -> returns`; annotations are texts of our own."""

    def argument(identifier: str, annotation: str | None) -> ast.arg:
        return ast.arg(identifier, ast.parse(annotation, mode="eval").body if annotation else None)

    optional = [argument(*keyword) for keyword in keywords]
    return ast.FunctionDef(
        name,
        ast.arguments(
            posonlyargs=[],
            args=[argument(*pair) for pair in arguments],
            kwonlyargs=optional,
            kw_defaults=[ast.Constant(None) for _ in optional],
            defaults=list(defaults),
        ),
        [],
        [],
        ast.parse(returns, mode="eval").body,
    )
