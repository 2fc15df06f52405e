"""Where the size of every axis comes from in a generated module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..formula import Formula, Relation
from ..graph import Node
from ..sizes import Poly, solve
from .sizes import substituted


@dataclass(frozen=True)
class SizePlan:
    """given: arguments of the constructor, with `constants`; settled: computed from them in the
    constructor; sources: read from a dimension of an input at call time; derived: computed from
    all of these at call time.

    building, calling: relations that remain to be verified at these times.
    """

    given: tuple[str, ...]
    constants: Mapping[str, int | float]
    settled: Mapping[str, Poly]
    sources: Mapping[str, tuple[Node, int]]
    derived: Mapping[str, Poly]
    building: tuple[Relation, ...]
    calling: tuple[Relation, ...]

    @property
    def static(self) -> frozenset[str]:
        """Names whose value is known when the module is built."""
        return frozenset((*self.given, *self.constants, *self.settled))


def plan_sizes(formula: Formula) -> SizePlan:
    """Decide for every axis of a formula where its size comes from."""
    constants = formula.constants
    known = {*formula.fixed, *constants}
    settled: dict[str, Poly] = {}
    for relation in formula.relations:
        if relation.relation == "=" and (relation.left.symbols() | relation.right.symbols()) <= known:
            left, right = substituted(relation.left, settled), substituted(relation.right, settled)
            name, value = _definition(left, right, constants)
            if name is not None and value is not None:
                settled = {key: size.substitute({name: value}) for key, size in settled.items()} | {name: value}
    for axis in formula.bound:  # an axis of an input that a fact fixes: `where R = 3`
        size = substituted(formula.facts.canonical(Poly.symbol(axis)), settled)
        if axis not in size.symbols() and size.symbols() <= known:
            settled[axis] = size
    derived: dict[str, Poly] = {}
    for axis, size in formula.derived.items():
        size = substituted(size, settled)
        if size.symbols() <= known:
            settled[axis] = size
        else:
            derived[axis] = size
    sources: dict[str, tuple[Node, int]] = {}
    for node in formula.inputs:
        for index, axis in enumerate(node.axes):
            if axis not in settled and axis not in known:
                sources.setdefault(axis, (node, index - len(node.axes)))
    building: list[Relation] = []
    calling: list[Relation] = []
    for relation in formula.relations:
        sides = [substituted(substituted(side, derived), settled) for side in (relation.left, relation.right)]
        if relation.relation == "=" and sides[0] == sides[1]:
            continue
        (building if (sides[0] - sides[1]).symbols() <= known else calling).append(relation)
    return SizePlan(
        given=tuple(axis for axis in formula.fixed if axis not in settled),
        constants=constants,
        settled=settled,
        sources=sources,
        derived=derived,
        building=tuple(building),
        calling=tuple(calling),
    )


def _definition(left: Poly, right: Poly, constants: Mapping[str, int | float]) -> tuple[str | None, Poly | None]:
    """The axis that `left = right` defines, a bare name first, and its size."""
    for one, other in ((left, right), (right, left)):
        name = one.as_symbol()
        if name is not None and name not in constants and name not in other.symbols():
            return name, other
    for name in sorted(left.symbols() | right.symbols()):
        value = solve(left - right, name) if name not in constants else None
        if value is not None:
            return name, value
    return None, None
