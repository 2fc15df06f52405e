"""The texts of the functions that generated modules carry, by name, read without importing torch."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

_FILES = (
    "kernels.py",
    "convolutions.py",
    "poolings.py",
    "segments.py",
    "steps.py",
    "flexible.py",
    "flash_linear.py",
    "tiles.py",
    "polynomials.py",
)
_AT_ONCE = "at_once.py"


@cache
def texts(*, at_once: bool = False) -> dict[str, str]:
    """Every function of the files of kernels, as its source text.

    at_once: those that loop over the chunks of a sequence are replaced by ones that compute all chunks at once.
    """
    found: dict[str, str] = {}
    for file in (*_FILES, _AT_ONCE) if at_once else _FILES:
        source = Path(__file__).with_name(file).read_text(encoding="utf-8")
        functions = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
        found |= {node.name: ast.get_source_segment(source, node) or "" for node in functions}
    return found


def with_callees(functions: Iterable[str], *, at_once: bool = False) -> tuple[str, ...]:
    """The functions and those of the library that they call, each after what it calls."""
    library = texts(at_once=at_once)
    found: dict[str, None] = {}

    def add(function: str) -> None:
        calls = (node.func for node in ast.walk(ast.parse(library[function])) if isinstance(node, ast.Call))
        for callee in calls:
            if isinstance(callee, ast.Name) and callee.id in library and callee.id not in found:
                add(callee.id)
        found.setdefault(function)

    for function in functions:
        add(function)
    return tuple(found)
