"""What the compiler answers about one formula, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    """One decision of the compiler: what it did, where in the text, and why it is allowed."""

    rule: str
    span: Span
    before: str
    after: str
    why: str


@dataclass(frozen=True)
class Report:
    """The answer to `check`.

    formula, written, compiled and plan are None when the text has errors.
    origins: for nodes of the plan, the node of the text that they compute or serve.
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
