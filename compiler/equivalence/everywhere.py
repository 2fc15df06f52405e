"""Proofs for all sizes: both formulas are the same sum of products."""

from __future__ import annotations

import math
from fractions import Fraction

from ..dense import dense
from ..formula import Formula
from ..graph import GraphTooLarge
from ..sizes import Poly
from .matching import Matched, name_of
from .reading import Reader
from .sums import Declined, Form


def same_sums(matched: Matched) -> bool:
    """Whether both formulas are one sum of products, whatever the sizes are that both take."""
    try:
        left, right = _forms(matched, 0), _forms(matched, 1)
        return all(one.text() == other.text() for one, other in zip(left, right, strict=True))
    except (Declined, GraphTooLarge):
        return False


def _forms(matched: Matched, index: int) -> list[Form]:
    """The results of one formula in the names of the left one. Errors: Declined."""
    side = (matched.left, matched.right)[index]
    if len(set(matched.axes.values())) < len(matched.axes):
        raise Declined  # one axis of the left formula stands for two of the right one
    given = {}
    for node, name, axes in matched.given(index):
        if tuple(_name(matched, axis, index) for axis in node.axes) != tuple(axes):
            raise Declined
        given[name_of(node)] = (name, tuple(axes))
    reader = Reader(lambda size: _size(matched, size, index), lambda axis: _name(matched, axis, index), given)
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
    numbers = {name: Poly.constant(Fraction(repr(v))) for name, v in formula.constants.items() if math.isfinite(v)}
    size = formula.facts.canonical(formula.facts.canonical(size).substitute(formula.derived))
    return size.substitute(numbers)
