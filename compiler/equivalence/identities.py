"""Proofs by exact evaluation at random points: identity testing in modular arithmetic.

Schwartz, JACM 1980; Zippel, 1979; for exponentials Wu et al., Mirage, OSDI 2025.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from ..dense import dense
from ..graph import topological
from ..ops.leaves import Declared
from ..types import Kind
from . import residues
from .exact import evaluate
from .matching import Matched, all_sizes, name_of
from .parts import Parts
from .values import Degree, Setting, TooLarge, Value

TOO_LARGE = "the values are too large to be computed exactly"
MAX_ERROR = -60  # binary logarithm of the error that a proof may have


@dataclass(frozen=True)
class Identity:
    """What exact evaluation says.

    proved: sizes at which both formulas are the same; error: the binary logarithm of the chance that they are not.
    unknowns: functions of which nothing was used but that they are functions. unequal: the values differ somewhere.
    obstacle: why there is no proof at some sizes. large: whether values were too large at all of them.
    constants: whether the proof is at constants other than the defaults, which `proved` then names.
    """

    proved: tuple[Mapping[str, int], ...]
    error: float
    unknowns: frozenset[str]
    unequal: bool = False
    obstacle: str = ""
    large: bool = False
    constants: bool = False

    @property
    def confidence(self) -> str:
        """What the proof is worth."""
        used = f"; of {_listed(self.unknowns)} nothing is used but that they are functions" if self.unknowns else ""
        where = "sizes and constants" if self.constants else "sizes"
        return (
            f"at these {where} only, for finite values: exact evaluation at "
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
            error = _compared(*(_exactly(matched, sizes, index, unknowns) for index in (0, 1)))
            if error is None:
                return Identity((), 0.0, frozenset(unknowns), unequal=True)
            if error > MAX_ERROR:
                error = _by_parts(matched, sizes, unknowns)
        except TooLarge:
            obstacle = TOO_LARGE
            continue
        if error > MAX_ERROR:
            obstacle = "the degrees are too high for a proof by random evaluation"
            continue
        worst = max(worst, error)
        proved.append(sizes)
    large = not proved and obstacle == TOO_LARGE
    return Identity(tuple(proved), worst, frozenset(unknowns), obstacle=obstacle, large=large)


def _compared(left: Sequence[Value], right: Sequence[Value]) -> float | None:
    """The binary logarithm of the chance that equal results come from different functions; None if they differ."""
    error = -math.inf
    for one, other in zip(left, right, strict=True):
        if not torch.equal(*torch.broadcast_tensors(one.residues[0], other.residues[0])):  # type: ignore[no-untyped-call]
            return None
        difference = one.degree + other.degree
        error = max(error, _error(difference.above + difference.below))
    return error


def _by_parts(matched: Matched, sizes: Mapping[str, int], unknowns: set[str]) -> float:
    """The same where degrees are high: with variables in the place of what both formulas compute. Errors: TooLarge."""
    parts = Parts(_error)
    for index in (0, 1):
        _exactly(matched, sizes, index, unknowns, parts.recorder(index))
    error = _compared(*(_exactly(matched, sizes, index, unknowns, parts.cutter(index)) for index in (0, 1)))
    if error is None or not parts.agree:
        return 0.0
    return math.log2(2.0**error + 2.0**parts.worst)


def _exactly(
    matched: Matched,
    sizes: Mapping[str, int],
    index: int,
    unknowns: set[str],
    visit: Callable[[Value, Setting], Value] | None = None,
) -> list[Value]:
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
    setting = Setting(inputs, all_sizes(side.formula, own), axes, unknowns, visit)
    return evaluate(outputs, setting)


def _error(degree: int) -> float:
    """The binary logarithm of the probability that different functions of this degree agree in all trials."""
    return residues.TRIALS * (math.log2(max(degree, 1)) - math.log2(residues.LEAST))
