"""What is asked about two formulas, and what can be answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ..formula import Formula
from ..graph import Graph


class Verdict(Enum):
    PROVED = "proved"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Counterexample:
    """Where two formulas differ: sizes of axes, the seed of the inputs, the position in the result, both values.

    Inputs, parameters and buffers are drawn in the order of their declaration after `torch.manual_seed(seed)`, in the
    manner seed % 6: 0 from a normal distribution, 1 as magnitudes of such draws plus 0.1, 2 as whole numbers from -1 to
    2, 3 at and near the numbers that the formulas mention, 4 tiny, 5 large. position counts along the result's axes.
    """

    sizes: Mapping[str, int]
    seed: int
    output: int
    position: tuple[int, ...]
    left: float | complex | bool
    right: float | complex | bool


@dataclass(frozen=True)
class Equivalence:
    """The answer, and what it rests on.

    method: how it was found. confidence: what kind of proof it is, or why there is none.
    everywhere: the proof is for all sizes that both formulas take; otherwise for `sizes`, where values were compared.
    """

    verdict: Verdict
    method: str
    confidence: str
    sizes: tuple[Mapping[str, int], ...] = ()
    counterexample: Counterexample | None = None
    everywhere: bool = False


@dataclass(frozen=True)
class Side:
    """A formula and a graph over its declarations: as written, simplified, or planned."""

    formula: Formula
    graph: Graph
