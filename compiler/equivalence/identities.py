"""Proofs by exact evaluation at random points: identity testing in modular arithmetic.

Schwartz, JACM 1980; Zippel, 1979; for exponentials Wu et al., Mirage, OSDI 2025.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ..dense import dense
from ..graph import topological
from ..ops.leaves import Declared
from ..types import Kind
from . import residues
from .exact import evaluate
from .matching import Matched, all_sizes, name_of
from .values import Degree, Setting, TooLarge, Value

MAX_ERROR = -60  # binary logarithm of the error that a proof may have


@dataclass(frozen=True)
class Identity:
    """What exact evaluation says.

    proved: sizes at which both formulas are the same; error: the binary logarithm of the chance that they are not.
    unknowns: functions of which nothing was used but that they are functions. unequal: the values differ somewhere.
    obstacle: why there is no proof at some sizes.
    """

    proved: tuple[Mapping[str, int], ...]
    error: float
    unknowns: frozenset[str]
    unequal: bool = False
    obstacle: str = ""

    @property
    def confidence(self) -> str:
        """What the proof is worth."""
        used = f"; of {_listed(self.unknowns)} nothing is used but that they are functions" if self.unknowns else ""
        return (
            "at these sizes only, for finite values: exact evaluation at "
            f"{residues.TRIALS} random points modulo primes near 2^31 is wrong with probability below "
            f"2^{math.ceil(self.error)}, if powers of a generator behave like random numbers{used}"
        )

    @property
    def doubt(self) -> str:
        """Why there is no proof."""
        if not self.unequal:
            return f"no difference was found, but {self.obstacle}"
        if not self.unknowns:
            return "exact evaluation says that they differ, by less than rounding lets see"
        return f"no difference was found, and none is, unless {_listed(self.unknowns)} have laws that are not used"


def _listed(names: frozenset[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def identity(matched: Matched, tested: Sequence[Mapping[str, int]]) -> Identity:
    """Both formulas evaluated exactly, at every choice of sizes that is small enough."""
    unknowns: set[str] = set()
    proved: list[Mapping[str, int]] = []
    obstacle = ""
    worst = -math.inf
    for sizes in tested:
        try:
            left, right = (_exactly(matched, sizes, index, unknowns) for index in (0, 1))
        except TooLarge:
            obstacle = "the values are too large to be computed exactly"
            continue
        error = -math.inf
        for one, other in zip(left, right, strict=True):
            if not torch.equal(*torch.broadcast_tensors(one.residues[0], other.residues[0])):  # type: ignore[no-untyped-call]
                return Identity((), 0.0, frozenset(unknowns), unequal=True)
            difference = one.degree + other.degree
            error = max(error, _error(difference.above + difference.below))
        if error > MAX_ERROR:
            obstacle = "the degrees are too high for a proof by random evaluation"
            continue
        worst = max(worst, error)
        proved.append(sizes)
    return Identity(tuple(proved), worst, frozenset(unknowns), obstacle=obstacle)


def _exactly(matched: Matched, sizes: Mapping[str, int], index: int, unknowns: set[str]) -> list[Value]:
    """The results of one formula. Errors: TooLarge."""
    side = (matched.left, matched.right)[index]
    own = sizes if index == 0 else matched.other_sizes(sizes)
    inputs = {
        name_of(node): Value(residues.drawn(name, [sizes[axis] for axis in axes]), node.axes, Degree(1))
        for node, name, axes in matched.given(index)
    }
    axes = matched.axes if index else {}
    outputs = dense(side.graph.outputs, side.formula.builder)
    if any(isinstance(node.op, Declared) and node.type.kind is Kind.BOOL for node in topological(outputs)):
        unknowns.add("masks")  # any numbers, not only 0 and 1
    setting = Setting(inputs, all_sizes(side.formula, own), axes, unknowns)
    return evaluate(outputs, setting)


def _error(degree: int) -> float:
    """The binary logarithm of the probability that different functions of this degree agree in all trials."""
    return residues.TRIALS * (math.log2(max(degree, 1)) - math.log2(residues.LEAST))
