"""What a formula declares before its first expression: tensors, axes, constants, facts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..grammar import ast
from ..grammar.diagnostics import Diagnostic, Label, Severity
from ..grammar.names import edit_distance
from ..grammar.source import Span
from ..grammar.tokens import MAX_ERRORS
from .scalars import ScalarError, as_number, as_size
from .sizes import NO_FACTS, Facts, Poly, Truth, solve

RESERVED = frozenset({"pi", "inf"})
MAX_LISTED = 8  # names that a message lists
MAX_FACTS = 256  # each is held against all others


class TooManyErrors(Exception):
    """A formula with so many errors that the rest is not looked for."""


@dataclass
class Scope:
    """The declarations of one formula while they are gathered; `problems` grows as they are read.

    axes: every axis name with the place that declares it.
    operation_axes: axes that an operation makes (declared when the expression is read).
    """

    tree: ast.Formula
    problems: list[Diagnostic] = field(default_factory=list)
    axes: dict[str, Span] = field(default_factory=dict)
    constants: dict[str, int | float] = field(default_factory=dict)
    tensors: dict[str, ast.Tensor] = field(default_factory=dict)
    places: dict[str, Span] = field(default_factory=dict)  # of every declared value name
    equations: list[tuple[Poly, Poly, Span]] = field(default_factory=list)
    relations: list[tuple[str, Poly, Poly, Span]] = field(default_factory=list)
    facts: Facts = NO_FACTS
    used_constants: set[str] = field(default_factory=set)
    axis_uses: dict[str, int] = field(default_factory=dict)
    errors: int = 0

    # -- problems --------------------------------------------------------------------------------

    def problem(self, code: str, span: Span, *labels: Label, help: str | None = None, **facts: object) -> None:
        """Note a finding. Errors: TooManyErrors."""
        self.report(Diagnostic(code, span, {key: str(value) for key, value in facts.items()}, labels, help))

    def withdraw(self, kept: int) -> None:
        """Take back all findings but the first so many."""
        self.errors -= sum(finding.severity is Severity.ERROR for finding in self.problems[kept:])
        del self.problems[kept:]

    def scalar_problem(self, error: ScalarError) -> None:
        help = nearest(error.facts["name"], [*self.axes, *self.constants]) if error.code == "AG204" else None
        self.report(Diagnostic(error.code, error.span, error.facts, help=help))

    def report(self, finding: Diagnostic) -> None:
        """Note a finding. Errors: TooManyErrors, once a reader would not read on."""
        if finding.severity is Severity.ERROR:
            if self.errors == MAX_ERRORS:
                self.problems.append(Diagnostic("AG009", finding.span, {"limit": str(MAX_ERRORS)}))
                raise TooManyErrors
            self.errors += 1
        self.problems.append(finding)

    # -- declarations ----------------------------------------------------------------------------

    def declare(self) -> None:
        """Read the header and the declaring lines, in any order among the lines."""
        statements = self.tree.statements
        for tensor in self.tree.inputs:
            self._declare_tensor(tensor)
        for statement in statements:
            if isinstance(statement, ast.Const):
                for binding in statement.bindings:
                    self._declare_constant(binding)
        for statement in statements:
            if isinstance(statement, ast.Param | ast.Buffer):
                for tensor in statement.tensors:
                    self._declare_tensor(tensor)
        for statement in statements:
            if isinstance(statement, ast.Where):
                for fact in statement.facts:
                    self._declare_fact(fact)

    def _declare_name(self, name: str, span: Span) -> bool:
        if name in self.places:
            self.problem("AG262", span, Label(self.places[name], "first declared here"), name=name)
            return False
        self.places[name] = span
        return True

    def _declare_tensor(self, tensor: ast.Tensor) -> None:
        if self._declare_name(tensor.name, tensor.name_span):
            self.tensors[tensor.name] = tensor
        seen: dict[str, ast.Axis] = {}
        for axis in tensor.axes:
            if axis.name in seen:
                self.problem(
                    "AG263", axis.span, Label(seen[axis.name].span, "first here"), name=tensor.name, axis=axis.name
                )
            seen[axis.name] = axis
            self.axes.setdefault(axis.name, axis.span)
            self.count(axis.name)

    def _declare_constant(self, binding: ast.Binding) -> None:
        try:
            value = as_number(binding.value, self.constants)
        except ScalarError as error:
            self.scalar_problem(error)
            value = 1
        if self._declare_name(binding.name, binding.name_span):
            self.constants[binding.name] = value

    def size_axes_by_constants(self) -> None:
        """A constant with the name of an axis is its size."""
        for name, value in self.constants.items():
            if name not in self.axes:
                continue
            if not isinstance(value, int) or value < 1:
                self.problem("AG226", self.places[name], Label(self.axes[name], "the axis"), name=name, value=value)
            else:
                self.relations.append((">=", Poly.symbol(name), Poly.constant(1), self.places[name]))

    def _declare_fact(self, fact: ast.Fact) -> None:
        if len(self.relations) == MAX_FACTS:
            self.problem("AG006", self.tree.name_span, limit=MAX_FACTS, what="facts about sizes")
            raise TooManyErrors
        try:
            left, right = (as_size(side, self._where_name) for side in (fact.left, fact.right))
        except ScalarError as error:
            self.scalar_problem(error)
            return
        if fact.relation == "=":
            known = self.facts.define(left, right, self._kept())
            if known is None:
                self.problem("AG301", fact.span, left=self.facts.canonical(left), right=self.facts.canonical(right))
                return
            self.facts = known
            self.equations.append((left, right, fact.span))
        else:
            low, high = (right, left) if fact.relation in (">=", ">") else (left, right)
            if fact.relation in (">", "<"):
                low, high = _next(low, high)
            if self.facts.at_least(high, low) is Truth.NO:
                self.problem("AG301", fact.span, left=left, right=right)
                return
            self.facts = self.facts.assume_at_least(high, low)
        self.relations.append((fact.relation, left, right, fact.span))

    def _kept(self) -> frozenset[str]:
        """Names that sizes are best told in: axes of declared tensors, and constants."""
        return frozenset(a.name for t in self.tensors.values() for a in t.axes) | self.constants.keys()

    def _where_name(self, name: ast.Name) -> Poly:
        """A name on a where line: a constant, or an axis that the line declares if nobody else does."""
        if name.name in self.constants:
            self.used_constants.add(name.name)
        elif name.name in self.tensors:
            raise ScalarError("AG310", name.span, name=name.name)
        elif name.name in RESERVED:
            raise ScalarError("AG305", name.span)
        else:
            self.axes.setdefault(name.name, name.span)
            self.count(name.name)
        return Poly.symbol(name.name)

    # -- questions -------------------------------------------------------------------------------

    def count(self, axis: str) -> None:
        self.axis_uses[axis] = self.axis_uses.get(axis, 0) + 1

    def size_name(self, name: ast.Name) -> Poly:
        """A name inside a size expression of the body. Errors: ScalarError."""
        if name.name in self.constants:
            self.used_constants.add(name.name)
        elif name.name not in self.axes:
            raise ScalarError("AG204", name.span, name=name.name)
        else:
            self.count(name.name)
        return Poly.symbol(name.name)

    def size(self, expression: ast.Expression) -> Poly:
        """A size expression of the body. Errors: ScalarError."""
        return as_size(expression, self.size_name)

    def assume(self, left: Poly, right: Poly, span: Span) -> Truth:
        """Use an equation that an operation needs: proved, refuted, or noted to be verified at call time."""
        truth = self.facts.equal(left, right)
        if truth is Truth.UNKNOWN:
            known = self.facts.define(left, right, self._kept())
            if known is None:
                return Truth.NO
            self.facts = known
            self.equations.append((left, right, span))
            self.relations.append(("=", left, right, span))
        return truth

    def sequence(self) -> tuple[str, ...]:
        """The axes that growth is counted in: as stated, else the second-last axis of each input, and
        every axis that a fact ties to one of them.

        `gate[H, N]` beside `q[H, N, D]` has a number for each token of each head: `H` is not counted for it, if it is
        certain that `N` is what the tokens lie along.
        """
        stated = [s for s in self.tree.statements if isinstance(s, ast.Sequence)]
        chosen: list[str] = []
        if stated:
            for axis in (axis for statement in stated for axis in statement.axes):
                if axis.name not in self.axes:
                    self.problem(
                        "AG204", axis.span, name=axis.name, help=nearest(axis.name, self.axes)
                    )
                else:
                    self.count(axis.name)
                    chosen.append(axis.name)
            return tuple(dict.fromkeys(chosen))
        inputs = [[axis.name for axis in tensor.axes] for tensor in self.tree.inputs if len(tensor.axes) >= 2]
        for *_, name, last in inputs:
            if not any(other[-2] == last and name in other[:-2] for other in inputs) or not self._holds_tokens(last):
                chosen.append(name)
        return tuple(dict.fromkeys(chosen))

    def _holds_tokens(self, axis: str) -> bool:
        """Whether an axis is scanned, or as long as another one."""
        scanned = {statement.axis.name for statement in self.tree.statements if isinstance(statement, ast.Scan)}
        size = Poly.symbol(axis)
        others = (name for name in self.axes if name != axis)
        return axis in scanned or any(self.facts.equal(Poly.symbol(name), size) is Truth.YES for name in others)

    def derived(self, known: Iterable[str], wanted: Iterable[str]) -> dict[str, Poly]:
        """Sizes of the wanted axes over the known ones, solved from the equations."""
        settled = {name: Poly.symbol(name) for name in (*known, *self.constants)}
        found: dict[str, Poly] = {}
        changed = True
        while changed:
            changed = False
            for left, right, _ in self.equations:
                unknown = (left.symbols() | right.symbols()) - settled.keys()
                if len(unknown) != 1:
                    continue
                [name] = unknown
                value = solve((left - right).substitute(found), name)
                if value is not None:
                    settled[name] = found[name] = value
                    changed = True
        return {name: found[name] for name in wanted if name in found}


def _next(low: Poly, high: Poly) -> tuple[Poly, Poly]:
    """Sizes with low' <= high' where low < high: whole numbers differ by at least 1, as do fractions of one denominator
    when they are counted in it."""
    unit = (high - low).denominator()
    low, high = low * unit, high * unit
    return (low + 1, high) if (high - low).is_integral() else (low, high)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """A suggestion when a known name is close, else the known names if they are few."""
    names = list(dict.fromkeys(known))
    close = did_you_mean(name, names)
    if close or not names:
        return close
    listed = [f"`{each}`" for each in names[:MAX_LISTED]]
    return f"known here: {', '.join(listed)}{', ...' if len(names) > MAX_LISTED else ''}"


def did_you_mean(name: str, known: Iterable[str], shape: str = "did you mean `{}`?") -> str | None:
    """A suggestion when a known name is close, else None. Of equally close ones, that with fewest edits."""
    candidates = list(known)
    folded = [c for c in candidates if c.lower() == name.lower()]
    cutoff = 0.6 if len(name) > 3 else 0.5
    close = folded or sorted(
        difflib.get_close_matches(name, candidates, n=max(1, len(candidates)), cutoff=cutoff),
        key=lambda each: (-difflib.SequenceMatcher(None, each, name).ratio(), edit_distance(name, each, len(name))),
    )
    return shape.format(close[0]) if close else None
