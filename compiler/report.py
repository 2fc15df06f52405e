"""What the compiler answers about one formula, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from ..grammar.diagnostics import Diagnostic, Severity
from ..grammar.source import Source, Span
from .formula import Formula
from .graph import Graph, Node
from .sizes import Growth, Poly, format_growth

if TYPE_CHECKING:
    import sympy


@dataclass(frozen=True)
class Cost:
    """What evaluating a graph costs for one batch entry.

    time: floating-point operations, 2 per multiply-add in contractions; memory: peaks of the live
    intermediates along the schedule, in elements (the largest of several polynomials where sizes
    decide); the orders keep only the sequence axes; names: sizes in the order in which the formula
    speaks of them, sequence axes first.
    """

    time: Poly
    memory: tuple[Poly, ...]
    time_order: frozenset[Growth]
    memory_order: frozenset[Growth]
    by_node: Mapping[Node, Poly]
    names: tuple[str, ...] = ()

    @property
    def order(self) -> str:
        """Growth of the time in the sequence axes: `O(N*M)`."""
        return format_growth(self.time_order, self.names)

    @property
    def memory_growth(self) -> str:
        """The same for memory."""
        return format_growth(self.memory_order, self.names)


@dataclass(frozen=True)
class Verdict:
    """Whether one claim of the formula holds. text: the claim as written."""

    text: str
    holds: bool
    span: Span


@dataclass(frozen=True)
class Step:
    """One decision of the compiler: what it did, where in the text, and why it is allowed.

    write: gives the value before and after in the language; called when somebody reads them.
    """

    rule: str
    span: Span
    why: str
    write: Callable[[], tuple[str, str]] = field(repr=False, compare=False)

    @cached_property
    def _written(self) -> tuple[str, str]:
        return self.write()

    @property
    def before(self) -> str:
        return self._written[0]

    @property
    def after(self) -> str:
        return self._written[1]


@dataclass(frozen=True)
class Passes:
    """How often an input is gone through along a sequence axis, where that is known (see `facts/passes.py`)."""

    input: str
    axis: str
    written: int
    compiled: int


@dataclass(frozen=True)
class Reached:
    """What one result reads of one input along one of its axes.

    own: the axis of the result along which positions correspond; None where every element may depend on every position.
    low, high: bounds of the position that is read minus the position of the result; None where there is none. No
        position is read where low > high.
    """

    output: int
    input: str
    axis: str
    own: str | None
    low: int | None
    high: int | None

    @property
    def words(self) -> str:
        """`the same position`, `earlier positions`, `positions -3 to 0`, `every position`, `no position`."""
        if self.low is not None and self.high is not None and self.low > self.high:
            return "no position"
        if self.own is None or (self.low is None and self.high is None):
            return "every position"
        if (self.low, self.high) == (0, 0):
            return "the same position"
        if self.low is None:
            return "the same and earlier positions" if self.high == 0 else f"positions up to {self.high:+d}"
        if self.high is None:
            return "the same and later positions" if self.low == 0 else f"positions from {self.low:+d} on"
        return f"positions {self.low:+d} to {self.high:+d}".replace("+0", "0")


@dataclass(frozen=True)
class Symmetry:
    """What permuting positions does.

    axes: what is permuted together, an axis and its copies. equivariant: some result runs along one of them.
    culprit: why nothing is proved: the first value that tells positions apart; None where permuting the inputs
        permutes the results in the same way, or leaves those without the axis as they are.
    """

    axes: tuple[str, ...]
    equivariant: bool
    culprit: Node | None


@dataclass(frozen=True)
class Weights:
    """A value that weighs others along sequence axes, or a map that is a result.

    total: what it sums to along the axes, in words; `sum to one`, `sum to at most one`, ...
    missing: sequence axes of the result that it does not have, so that one row serves them all.
    batched: it depends on an input that the caller may pass in batches.
    alone: the only input that it depends on, where there are several.
    """

    node: Node
    axes: tuple[str, ...]
    total: str
    missing: tuple[str, ...]
    batched: bool
    alone: str | None = None


@dataclass(frozen=True)
class Properties:
    """What is known of a formula besides types and costs; computed when asked for."""

    passes: tuple[Passes, ...]
    reached: tuple[Reached, ...]
    symmetries: tuple[Symmetry, ...]
    weights: tuple[Weights, ...]
    without_gradient: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """The answer to `check`.

    formula, written, compiled and plan are None when the text has errors.
    origins: for nodes of the plan, the node of the text that they compute or serve.
    examine: what computes `properties`.
    """

    name: str
    source: Source
    span: Span
    diagnostics: tuple[Diagnostic, ...]
    formula: Formula | None = None
    plan: Graph | None = None
    written: Cost | None = None
    compiled: Cost | None = None
    verdicts: tuple[Verdict, ...] = ()
    steps: tuple[Step, ...] = ()
    origins: Mapping[Node, Node] = field(default_factory=dict)
    examine: Callable[[Formula, Graph], Properties] | None = field(default=None, repr=False, compare=False)

    @cached_property
    def properties(self) -> Properties | None:
        """Passes, dependence, symmetry and row sums; None for a formula with mistakes."""
        if self.examine is None or self.formula is None or self.plan is None:
            return None
        return self.examine(self.formula, self.plan)

    @property
    def ok(self) -> bool:
        """No errors; warnings do not count."""
        return not any(d.severity is Severity.ERROR for d in self.diagnostics)

    @property
    def time(self) -> sympy.Expr | None:
        """Floating-point operations of the compiled plan per batch entry, over positive integer symbols."""
        return self.compiled.time.to_sympy() if self.compiled else None

    @property
    def memory(self) -> sympy.Expr | None:
        """Peak number of live intermediate elements of the compiled plan per batch entry."""
        if self.compiled is None:
            return None
        import sympy

        return sympy.Max(*(peak.to_sympy() for peak in self.compiled.memory))

    @property
    def order(self) -> str | None:
        """Growth of the compiled plan's time in the sequence axes, as `O(N + M)`."""
        return self.compiled.order if self.compiled else None

    @property
    def written_order(self) -> str | None:
        """The same for the text as written."""
        return self.written.order if self.written else None
