"""Syntax tree to text: the canonical layout of a formula file.

Four blanks of indentation, one empty line between formulas, one blank around operators (none around `^`), only the
parentheses that the tree needs, lines of at most 120 characters where an expression or a header can be broken. Comments
and docstrings are kept. The layout depends on the tree alone, so that formatting twice changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from .ast import (
    Assign,
    Axis,
    AxisMap,
    Binary,
    Buffer,
    Call,
    Comments,
    Const,
    Expression,
    File,
    Formula,
    Function,
    Name,
    Number,
    Param,
    Rename,
    Require,
    Result,
    Return,
    Scan,
    Sequence,
    State,
    Statement,
    Tensor,
    Transpose,
    Unary,
    Use,
    Where,
    Yield,
)

WIDTH = 120
_INDENT = 4

# How tightly each operator binds; the levels of the grammar.
LEVELS = {
    "or": 1, "and": 2,
    "==": 4, "!=": 4, "<": 4, "<=": 4, ">": 4, ">=": 4,
    "+": 5, "-": 5,
    "*": 6, "/": 6, "//": 6, "%": 6, "@": 6,
    "^": 8,
}  # fmt: skip
# Pairs of an operator and that of its left operand which the grammar tells apart, but a reader would not.
_UNCLEAR = frozenset({("@", "*"), ("@", "/"), ("@", "//"), ("@", "%"), ("*", "@")})
_NOT, _COMPARISON, _NEGATIVE, _POWER, _PRIMARY = 3, 4, 7, 8, 9


def level(expression: Expression) -> int:
    """How tightly an expression binds: the smallest level of context that it can stand in without parentheses."""
    match expression:
        case Binary(operator):
            return LEVELS[operator]
        case Unary(operator):
            return _NOT if operator == "not" else _NEGATIVE
    return _PRIMARY


def operand_levels(expression: Binary) -> tuple[int, int]:
    """The levels that the left and the right operand of a binary operation need.

    `(a / b) @ v` and `(q @ k^T) * g` keep their parentheses, though the grammar does not need them: a reader does.
    """
    own = LEVELS[expression.operator]
    if isinstance(expression.left, Binary) and (expression.operator, expression.left.operator) in _UNCLEAR:
        return own + 1, own + 1
    if own == _POWER:  # `^` groups to the right, and its right side may carry a minus
        return _PRIMARY, _NEGATIVE
    if own == _COMPARISON:  # not chainable
        return own + 1, own + 1
    return own, own + 1


def format_expression(expression: Expression) -> str:
    """The text of an expression on one line."""
    return _flat(expression, 0)


def format_file(file: File) -> str:
    """The canonical text of a file, with a line break at its end; empty for an empty file."""
    uses = "".join(f"{line}\n" for index, use in enumerate(file.uses) for line in _use(use, first=index == 0))
    blocks = [*([uses] if uses else []),
              *("".join(f"{line}\n" for line in _formula(formula)) for formula in file.formulas)]  # fmt: skip
    if file.closing:
        blocks.append("".join(f"{_comment(text)}\n" for text in file.closing))
    return "\n".join(blocks)


# -- expressions on one line -------------------------------------------------------------------------


def _flat(expression: Expression, minimum: int) -> str:
    """The text of an expression in a place that needs a level, in parentheses if it binds less tightly."""
    match expression:
        case Number(text):
            written = text
        case Name(name):
            written = name
        case Unary(operator, operand):
            inner = _flat(operand, level(expression))
            written = f"not {inner}" if operator == "not" else f"-{inner}"
        case Binary(operator, left, right):
            left_level, right_level = operand_levels(expression)
            space = "" if operator == "^" else " "
            last = _exponent(operator, _flat(right, right_level))
            written = f"{_flat(left, left_level)}{space}{operator}{space}{last}"
        case Transpose(operand):
            written = f"{_flat(operand, _PRIMARY)}^T"
        case Rename(operand, source, target):
            written = f"{_flat(operand, _PRIMARY)}[{source.name} -> {target.name}]"
        case Call():
            written = f"{_head(expression)}({', '.join(_arguments(expression))})"
    return f"({written})" if level(expression) < minimum else written


def _exponent(operator: str, text: str) -> str:
    """The right operand of `^`, kept apart from the transpose: `x^(T)` is a power, `x^T` is not."""
    return f"({text})" if operator == "^" and re.match(r"T(?![A-Za-z0-9_])", text) else text


def _head(call: Call) -> str:
    return call.function if call.axes is None else f"{call.function}[{_axis_map(call.axes)}]"


def _arguments(call: Call) -> list[str]:
    named = [f"{keyword.name}={_flat(keyword.value, 0)}" for keyword in call.keywords]
    return [*(_flat(argument, 0) for argument in call.arguments), *named]


def _axis_map(axes: AxisMap) -> str:
    sources = _axes(axes.sources)
    return sources if axes.targets is None else f"{sources} -> {_axes(axes.targets)}"


def _axes(axes: Iterable[Axis]) -> str:
    return ", ".join(axis.name for axis in axes)


# -- expressions over several lines --------------------------------------------------------------------


def _fit(expression: Expression, minimum: int, indent: int, used: int) -> str:
    """The text of an expression, broken where it would pass the right margin.

    indent: the indentation of the line that it starts on; used: the width that stands before it on that line.
    A broken operation stands in parentheses, those of a call of which it is the only argument; a broken call has its
    arguments on lines of their own.
    """
    flat = _flat(expression, minimum)
    if used + len(flat) <= WIDTH:
        return flat
    inner = indent + _INDENT
    match expression:
        case Call(_, _, (Binary() as only,), ()) if only.operator != "^":
            return _broken(f"{_head(expression)}(", _links(only, inner), "", indent)
        case Call() if expression.arguments or expression.keywords:
            parts = [_fit(argument, 0, inner, inner + 1) for argument in expression.arguments]
            for keyword in expression.keywords:
                parts.append(f"{keyword.name}={_fit(keyword.value, 0, inner, inner + len(keyword.name) + 2)}")
            return _broken(f"{_head(expression)}(", parts, ",", indent)
        case Binary(operator) if operator != "^":
            return _broken("(", _links(expression, inner), "", indent)
        case Transpose(operand):
            return f"{_fit(operand, _PRIMARY, indent, used + 2)}^T"
        case Rename(operand, source, target):
            suffix = f"[{source.name} -> {target.name}]"
            return f"{_fit(operand, _PRIMARY, indent, used + len(suffix))}{suffix}"
        case Unary("-", operand) if level(expression) >= minimum:
            return f"-{_fit(operand, _NEGATIVE, indent, used + 1)}"
    return flat


def _links(expression: Binary, indent: int) -> list[str]:
    """The lines of a broken operation: its first operand, then every operator with what is right of it."""
    first, rest = _chain(expression)
    parts = [_fit(first, rest[0].left_level, indent, indent)]
    for link in rest:
        right = _fit(link.right, LEVELS[expression.operator] + 1, indent, indent + len(link.operator) + 1)
        parts.append(f"{link.operator} {right}")
    return parts


class _Link(NamedTuple):
    """`- c` in `a + b - c`, and the level that all before it needs."""

    operator: str
    right: Expression
    left_level: int


def _chain(expression: Binary) -> tuple[Expression, list[_Link]]:
    """`a + b - c` as its first operand and the links behind it: what can stand there without parentheses."""
    rest: list[_Link] = []
    left: Expression = expression
    while isinstance(left, Binary) and (not rest or level(left) >= rest[-1].left_level):
        if rest and LEVELS[left.operator] != LEVELS[expression.operator]:
            break
        rest.append(_Link(left.operator, left.right, operand_levels(left)[0]))
        left = left.left
    return left, rest[::-1]


def _broken(opener: str, parts: list[str], separator: str, indent: int) -> str:
    margin = " " * (indent + _INDENT)
    lines = "".join(f"{margin}{part}{separator}\n" for part in parts)
    return f"{opener}\n{lines}{' ' * indent})"


# -- statements --------------------------------------------------------------------------------------


def _tensor(tensor: Tensor) -> str:
    kind = "" if tensor.kind == "real" else f" {tensor.kind}"
    initial = "" if tensor.initial is None else f" = {_flat(tensor.initial, 0)}"
    return f"{tensor.name}[{_axes(tensor.axes)}]{kind}{initial}"


def _result(result: Result) -> str:
    return f"[{_axes(result.axes)}]" + ("" if result.kind == "real" else f" {result.kind}")


def _statement(statement: Statement, indent: int) -> str:
    """The text of a statement without its comments and its block, indented from its second line on.

    indent: the indentation of its first line.
    """
    match statement:
        case Where(facts):
            sides = (f"{_flat(f.left, 5)} {f.relation} {_flat(f.right, 5)}" for f in facts)
            return f"where {', '.join(sides)}"
        case Require(claims):
            bounds = (c.name if c.bound is None else f"{c.name} O({_flat(c.bound, 5)})" for c in claims)
            return f"require {', '.join(bounds)}"
        case Sequence(axes):
            return f"sequence {_axes(axes)}"
        case Const(bindings):
            return f"const {', '.join(f'{b.name} = {_flat(b.value, 0)}' for b in bindings)}"
        case Param(tensors):
            return f"param {', '.join(map(_tensor, tensors))}"
        case Buffer(tensors):
            return f"buffer {', '.join(map(_tensor, tensors))}"
        case Function(name, parameters, body):
            return _bound(f"{name}({', '.join(p.name for p in parameters)})", body, indent)
        case Assign(name, value):
            return _bound(name, value, indent)
        case State(tensors):
            return f"state {', '.join(map(_tensor, tensors))}"
        case Yield(name, value):
            return _bound(f"yield {name}", value, indent)
        case Scan(axis):
            return f"scan {axis.name}:"
        case Return(values):
            if len(values) == 1:
                return f"return {_fit(values[0], 0, indent, indent + 7)}"
            return f"return {', '.join(_flat(value, 0) for value in values)}"


def _bound(left: str, value: Expression, indent: int) -> str:
    return f"{left} = {_fit(value, 0, indent, indent + len(left) + 3)}"


def _header(formula: Formula) -> str:
    inputs = [_tensor(tensor) for tensor in formula.inputs]
    results = ", ".join(map(_result, formula.results))
    line = f"attention {formula.name}({', '.join(inputs)}) -> {results}:"
    if len(line) <= WIDTH or not inputs:
        return line
    return f"{_broken(f'attention {formula.name}(', inputs, ',', 0)} -> {results}:"


def _docstring(text: str) -> list[str]:
    margin = " " * _INDENT
    if "\n" not in text and not text.endswith('"'):
        return [f'{margin}"""{text}"""']
    lines = text.split("\n")
    if all(line.startswith(" ") for line in lines[1:] if line):
        lines = ["", *lines]  # or the indentation of these lines would be lost when they are read back
    lines[0] = f'"""{lines[0]}'
    return [*(f"{margin}{line}".rstrip() for line in lines), f'{margin}"""']


def _comment(text: str) -> str:
    if not text:
        return "#"
    return f"#{text}" if text[0] in "#!:" else f"# {text}"


def _with_comments(text: str, comments: Comments, margin: str) -> list[str]:
    """The lines of a statement or header between its comments."""
    after = "" if comments.after is None else f"  {_comment(comments.after)}"
    blank = [""] if comments.blank else []
    return [*blank, *(f"{margin}{_comment(line)}" for line in comments.before), f"{margin}{text}{after}"]


def _use(use: Use, *, first: bool) -> list[str]:
    comments = replace(use.comments, blank=use.comments.blank and not first)
    return _with_comments(f'use "{use.path}"', comments, "")


def _block(statements: Iterable[Statement], indent: int) -> list[str]:
    """The lines of statements, those of scans with their bodies below them."""
    margin = " " * indent
    lines: list[str] = []
    for statement in statements:
        lines += _with_comments(_statement(statement, indent), statement.comments, margin)
        if isinstance(statement, Scan):
            lines += _block(statement.body, indent + _INDENT)
            lines += [f"{margin}{' ' * _INDENT}{_comment(text)}" for text in statement.closing]
    return lines


def _formula(formula: Formula) -> list[str]:
    margin = " " * _INDENT
    lines = _with_comments(_header(formula), formula.comments, "")
    if formula.docstring is not None:
        lines += _docstring(formula.docstring)
    lines += _block(formula.statements, _INDENT)
    return [*lines, *(f"{margin}{_comment(text)}" for text in formula.closing)]
