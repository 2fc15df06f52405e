"""Formulas at smaller constants: where exact evaluation at the defaults would hold too many elements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from .matching import Matched
from .verdict import Side

#: what the smallest of the constants becomes; each larger one becomes one more
LEAST = (2, 3)


def smaller(matched: Matched) -> Iterator[tuple[Matched, Mapping[str, int]]]:
    """The formulas with small numbers for the whole constants that both have, and these numbers.

    Constants that are equal stay equal, and of two the larger one stays the larger one.
    """
    ours, theirs = matched.left.formula.constants, matched.right.formula.constants
    shared = {
        name: value
        for name, value in ours.items()
        if isinstance(value, int) and value > LEAST[0] and type(theirs.get(name)) is int and theirs[name] == value
    }
    ranks = {value: rank for rank, value in enumerate(sorted(set(shared.values())))}
    for least in LEAST:
        chosen = {name: least + ranks[value] for name, value in shared.items() if least + ranks[value] < value}
        if chosen:
            yield replace(matched, left=_with(matched.left, chosen), right=_with(matched.right, chosen)), chosen


def _with(side: Side, chosen: Mapping[str, int]) -> Side:
    formula = side.formula
    return Side(replace(formula, constants={**formula.constants, **chosen}), side.graph)
