"""The texts of the functions that generated modules carry, by name, read without importing torch."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

_FILES = (
    "autocast.py",
    "precision.py",
    "kernels.py",
    "convolutions.py",
    "poolings.py",
    "segments.py",
    "steps.py",
    "flexible.py",
    "flash_linear.py",
    "tiles.py",
    "halves.py",
    "running.py",
    "polynomials.py",
    "transitions.py",
    "complexes.py",
    "lookups.py",
    "logarithms.py",
)
_AT_ONCE = "at_once.py"

ON_GPU = frozenset({"causal_scan", "decayed_scan", "gated_scan", "feature_gated_scan", "prefix_softmax"})
"""What computes all chunks at once on a GPU too: for no more operations than a loop, and with small states."""


@cache
def _functions(file: str) -> dict[str, str]:
    source = Path(__file__).with_name(file).read_text(encoding="utf-8")
    functions = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    return {node.name: _text(source, node) for node in functions}


def _text(source: str, function: ast.FunctionDef) -> str:
    """The source text of a function, its decorators in front."""
    decorators = [f"@{ast.unparse(decorator)}\n" for decorator in function.decorator_list]
    return "".join([*decorators, ast.get_source_segment(source, function) or ""])


@cache
def texts(*, at_once: bool = False, on_gpu: bool = False) -> dict[str, str]:
    """Every function of the files of kernels, as its source text.

    at_once: those that loop over the chunks of a sequence are replaced by ones that compute all chunks at once;
    on_gpu: some of them are.
    """
    found: dict[str, str] = {}
    for file in _FILES:
        found |= _functions(file)
    if at_once or on_gpu:
        other = _functions(_AT_ONCE)
        found |= {name: text for name, text in other.items() if at_once or name in ON_GPU or name not in found}
    return found


def with_callees(functions: Iterable[str], library: Mapping[str, str]) -> tuple[str, ...]:
    """The functions and those of the library that they call, each after what it calls."""
    found: dict[str, None] = {}

    def add(function: str) -> None:
        nodes = [*ast.walk(ast.parse(library[function]))]
        calls = [node.func for node in nodes if isinstance(node, ast.Call)]
        decorators = [name for node in nodes if isinstance(node, ast.FunctionDef) for name in node.decorator_list]
        for callee in (*decorators, *calls):
            if isinstance(callee, ast.Name) and callee.id in library and callee.id not in found:
                add(callee.id)
        found.setdefault(function)

    for function in functions:
        add(function)
    return tuple(found)
