"""Every phase in order, on one page.

    text --parse--> tree --elaborate--> typed graph --plan--> graph that is run --emit--> module
                                             |                   |
                                             +---- measure ------+--> report, claims
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..grammar import ast
from ..grammar.diagnostics import Diagnostic, Label
from ..grammar.parser import parse
from ..grammar.source import NOWHERE, Source, Span
from .claims import Case, judge
from .elaborate import elaborate
from .facts.cost import Sequence, measure
from .formula import Formula
from .graph import GraphTooLarge
from .notices import notices
from .plan import Plan, plan
from .report import Report
from .sizes import SizeError

MAX_BYTES = 4_000_000


def read(path: Path) -> Source | Diagnostic:
    """The text of a file, or why it cannot be read."""
    shown = Source(str(path), "")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        facts = {"path": str(path), "reason": error.strerror or str(error)}
        return Diagnostic("AG001", NOWHERE, facts, source=shown)
    if len(content) > MAX_BYTES:
        return Diagnostic("AG003", NOWHERE, {"size": f"over {MAX_BYTES}", "limit": str(MAX_BYTES)}, source=shown)
    try:
        return Source(str(path), content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Diagnostic("AG002", NOWHERE, {"path": str(path), "offset": str(error.start)}, source=shown)


@dataclass(frozen=True)
class Checked:
    """A formula with everything that later phases need."""

    report: Report
    formula: Formula | None
    plan: Plan | None


def check_source(source: Source, *, require: tuple[str, ...] = ()) -> tuple[Report, ...]:
    """One report per formula of a text, in the order of the text.

    require: claims by name that every formula must meet besides its own.
    A text without a readable formula gives one report without a name. Never raises for bad text.
    """
    file, problems = parse(source)
    by_name: dict[str, ast.Formula] = {}
    reports: list[Report] = []
    left = list(problems)
    for index, tree in enumerate(file.formulas):
        end = file.formulas[index + 1].span.start if index + 1 < len(file.formulas) else len(source.text) + 1
        start = tree.span.start if reports else 0
        own = [problem for problem in left if start <= problem.span.start < end]
        left = [problem for problem in left if problem not in own]
        if tree.name in by_name:
            first = Label(by_name[tree.name].name_span, "first defined here")
            own.append(Diagnostic("AG260", tree.name_span, {"name": tree.name}, (first,)))
        by_name.setdefault(tree.name, tree)
        others = {f.name: f for f in file.formulas if f.name != tree.name}
        report = check_tree(tree, source, others, require, typed=tree.readable)
        reports.append(_with(report, source, tuple(own)))
    if left or not reports:
        nameless = Report("", source, Span(0, 0), ())
        reports.append(_with(nameless, source, tuple(left)))
    return tuple(reports)


def _with(report: Report, source: Source, problems: tuple[Diagnostic, ...]) -> Report:
    """The report with further findings, every one knowing its text, in the order of the text."""
    from dataclasses import replace

    found = [replace(d, source=source) for d in (*problems, *report.diagnostics)]
    unique = {(d.code, d.span, d.message): d for d in found}
    ordered = sorted(unique.values(), key=lambda d: (d.span.start, d.span.end, d.code))
    return replace(report, diagnostics=tuple(ordered))


def check_tree(
    tree: ast.Formula,
    source: Source,
    others: Mapping[str, ast.Formula],
    require: tuple[str, ...] = (),
    *,
    typed: bool = True,
) -> Report:
    """Type, plan, measure and judge one formula. typed: its text was read without errors."""
    formula, problems = elaborate(tree, source, others)
    if not typed or formula is None:
        return Report(tree.name, source, tree.span, problems if typed else _certain(problems))
    try:
        made = plan(formula)
        sequence = Sequence(made.formula)
        written = measure(formula.graph, sequence)
        compiled = measure(made.graph, sequence)
        verdicts, broken = judge(Case(made.formula, made, sequence, compiled), require)
    except SizeError as error:
        large = Diagnostic("AG307", tree.name_span, {"reason": str(error)})
        return Report(tree.name, source, tree.span, (*problems, large))
    except GraphTooLarge as error:
        large = Diagnostic("AG006", tree.name_span, {"limit": str(error.limit), "what": "operations"})
        return Report(tree.name, source, tree.span, (*problems, large))
    return Report(
        name=tree.name,
        source=source,
        span=tree.span,
        diagnostics=(*problems, *broken, *notices(formula, broken)),
        formula=made.formula,
        plan=made.graph,
        written=written,
        compiled=compiled,
        verdicts=verdicts,
        steps=made.steps,
        origins=made.origins,
    )


def _certain(problems: tuple[Diagnostic, ...]) -> tuple[Diagnostic, ...]:
    """Of a text that could only be read in part: findings that do not follow from the missing part."""
    follows = {"AG202", "AG203", "AG501", "AG502", "AG505", "AG302"}
    return tuple(problem for problem in problems if problem.code not in follows)
