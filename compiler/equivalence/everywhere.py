"""Proofs for all sizes: both formulas are the same sum of products."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from ..dense import dense
from ..formula import Formula
from ..graph import GraphTooLarge
from ..rules.rule import Knowledge
from ..sizes import Poly
from .matching import Matched, name_of
from .reading import Reader
from .sums import Declined, Form


def same_sums(matched: Matched, *, guards: bool = False) -> bool:
    """Whether both formulas are one sum of products, whatever the sizes are that both take.

    guards: whether values do not count where an epsilon acts, or where they are not numbers.
    """
    try:
        matched = _paired(matched)
        left, right = _forms(matched, 0, guards), _forms(matched, 1, guards)
        return all(one.text() == other.text() for one, other in zip(left, right, strict=True))
    except (Declined, GraphTooLarge):
        return False


def _paired(matched: Matched) -> Matched:
    """With axes that only operations make paired too, where both formulas state their sizes by the same equation."""
    left, right = matched.left.formula, matched.right.formula
    axes = dict(matched.axes)
    ours, theirs = _equations(left), _equations(right)
    while True:
        found = next(_pairs(ours, theirs, axes), None)
        if found is None:
            return replace(matched, axes=axes)
        axes[found[0]] = found[1]


def _equations(formula: Formula) -> list[Poly]:
    """What is 0 by the facts of a formula, constants at their defaults."""
    numbers = _constants(formula)
    return [(r.left - r.right).substitute(numbers) for r in formula.relations if r.relation == "="]


def _pairs(ours: Sequence[Poly], theirs: Sequence[Poly], axes: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Axes of which an equation, the same in both formulas, determines the size."""
    taken = set(axes.values())
    for equation in theirs:
        unknown = equation.symbols() - axes.keys()
        if len(unknown) != 1 or not _linear(equation, *unknown):
            continue
        for other in ours:
            [own] = unknown
            for name in other.symbols() - taken:
                names = {**axes, own: name}
                if equation.substitute({a: Poly.symbol(names[a]) for a in equation.symbols()}) in (other, -other):
                    yield own, name


def _linear(equation: Poly, axis: str) -> bool:
    """Whether one term holds the axis, once: others are positive, and decide its size."""
    powers = [dict(monomial)[axis] for monomial in equation.terms if axis in dict(monomial)]
    return powers == [1]


def _forms(matched: Matched, index: int, guards: bool) -> list[Form]:
    """The results of one formula in the names of the left one. Errors: Declined."""
    side = (matched.left, matched.right)[index]
    if len(set(matched.axes.values())) < len(matched.axes):
        raise Declined  # one axis of the left formula stands for two of the right one
    given = {}
    for node, name, axes in matched.given(index):
        if tuple(_name(matched, axis, index) for axis in node.axes) != tuple(axes):
            raise Declined
        given[name_of(node)] = (name, tuple(axes))
    known = Knowledge(frozenset(side.formula.constants))
    reader = Reader(
        lambda size: _size(matched, size, index),
        lambda axis: _name(matched, axis, index),
        given,
        (lambda node: known.range(node).non_negative) if guards else None,
    )
    forms = reader.read(dense(side.graph.outputs, side.formula.builder))
    # results meet by position
    return [
        form.renamed({_name(matched, axis, index): f"result {place}" for place, axis in enumerate(output.axes)})
        for form, output in zip(forms, side.graph.outputs, strict=True)
    ]


def _name(matched: Matched, axis: str, index: int) -> str:
    return matched.axes.get(axis, f"{axis}'") if index else axis


def _size(matched: Matched, size: Poly, index: int) -> Poly:
    """A size by the facts of both formulas, constants at their defaults."""
    left, right = matched.left.formula, matched.right.formula

    def named(other: Poly) -> Poly:
        return other.substitute({own: Poly.symbol(_name(matched, own, 1)) for own in other.symbols()})

    if index:
        size = named(_known(size, right))
    theirs = {_name(matched, own, 1): named(_known(other, right)) for own, other in right.facts.definitions.items()}
    return _known(_known(size, left).substitute(theirs), left)


def _known(size: Poly, formula: Formula) -> Poly:
    size = formula.facts.canonical(formula.facts.canonical(size).substitute(formula.derived))
    return size.substitute(_constants(formula))


def _constants(formula: Formula) -> dict[str, Poly]:
    return {name: Poly.constant(Fraction(repr(v))) for name, v in formula.constants.items() if math.isfinite(v)}
