"""Statements that raise with a message of fixed text and values."""

from __future__ import annotations

import ast

from .. import pyast
from .layout import Line


def raise_if(test: ast.expr, *message: str | ast.expr, error: str = "ValueError") -> Line:
    """`if test: raise ValueError(f"...")`, or another error; expressions among the parts of the message are shown."""
    parts: list[ast.expr] = []
    text = ""
    for part in message:
        if isinstance(part, str):
            text += part
            continue
        if text:
            parts.append(ast.Constant(text))
        text = ""
        parts.append(ast.FormattedValue(part, -1))
    if text:
        parts.append(ast.Constant(text))
    made = pyast.call(error, ast.JoinedStr(parts))
    return Line(ast.If(test, [ast.Raise(made)], []))
