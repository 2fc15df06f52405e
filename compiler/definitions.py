"""Formulas that may be called, each with what its own text may call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any

from ..grammar import ast
from ..grammar.source import Source, Span


@dataclass(frozen=True, eq=False)
class Definition:
    """A formula as one file sees it: its own, or one of a file that it uses.

    written: the formula as parsed. source: the text that it stands in. visible: what it may call in its turn.
    use: the line that makes it known; None for a formula of the same file.
    foreign: seen from a text that is not its own.
    """

    written: ast.Formula
    source: Source
    visible: Mapping[str, Definition]
    use: ast.Use | None = None
    foreign: bool = False

    @cached_property
    def tree(self) -> ast.Formula:
        """The formula, with spans that name their text where that is not the one that is checked."""
        tree: ast.Formula = placed(self.written, self.source) if self.foreign else self.written
        return tree


def own_definitions(file: ast.File, source: Source, *, foreign: bool = False) -> dict[str, Definition]:
    """The formulas of a file as they see each other. Of two with one name the first counts."""
    found: dict[str, Definition] = {}
    for tree in file.formulas:
        found.setdefault(tree.name, Definition(tree, source, found, foreign=foreign))
    return found


def placed(node: Any, source: Source) -> Any:
    """A syntax tree in which every span names its text."""
    if isinstance(node, Span):
        return Span(node.start, node.end, source)
    if isinstance(node, tuple):
        return tuple(placed(item, source) for item in node)
    if not is_dataclass(node):
        return node
    kind: Any = type(node)
    return kind(**{each.name: placed(getattr(node, each.name), source) for each in fields(node)})
