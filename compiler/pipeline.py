"""Every phase in order, on one page.

    text --parse--> tree --elaborate--> typed graph --plan--> graph that is run --emit--> module
                                             |                   |
                                             +---- measure ------+--> report, claims
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..grammar import ast
from ..grammar.diagnostics import Diagnostic, Label
from ..grammar.source import Source, Span
from .claims import Case, judge
from .definitions import Definition
from .elaborate import elaborate
from .facts.cost import Sequence, measure
from .formula import Formula
from .graph import GraphTooLarge
from .library import MAX_BYTES, Library, read
from .notices import notices
from .plan import Plan, plan
from .properties import properties
from .report import Report
from .sizes import SizeError

__all__ = ["MAX_BYTES", "Library", "check_source", "check_tree", "read"]


@dataclass(frozen=True)
class Checked:
    """A formula with everything that later phases need."""

    report: Report
    formula: Formula | None
    plan: Plan | None


def check_source(
    source: Source, *, require: tuple[str, ...] = (), library: Library | None = None
) -> tuple[Report, ...]:
    """One report per formula of a text, in the order of the text.

    require: claims by name that every formula must meet besides its own.
    library: the files that were read in this run; those that the text uses are added.
    A text without a readable formula gives one report without a name. Never raises for bad text.
    """
    library = library or Library()
    file, problems = library.parsed(source)
    visible, lost = library.visible(source)
    lost = (*(problem for problem in problems if problem.code in ("AG150", "AG151")), *lost)
    by_name: dict[str, ast.Formula] = {}
    reports: list[Report] = []
    left = [problem for problem in problems if problem not in lost]
    for index, tree in enumerate(file.formulas):
        end = file.formulas[index + 1].span.start if index + 1 < len(file.formulas) else len(source.text) + 1
        start = tree.span.start if reports else 0
        own = [problem for problem in left if start <= problem.span.start < end]
        left = [problem for problem in left if problem not in own]
        if tree.name in by_name:
            first = Label(by_name[tree.name].name_span, "first defined here")
            own.append(Diagnostic("AG260", tree.name_span, {"name": tree.name}, (first,)))
        by_name.setdefault(tree.name, tree)
        others = {name: each for name, each in visible.items() if name != tree.name or each.written is tree}
        report = check_tree(tree, source, others, require, typed=tree.readable)
        if lost:  # what the formula calls may stand there
            told = {problem.span for problem in lost}
            kept = tuple(d for d in report.diagnostics if d.code != "AG203" and d.span not in told)
            report = replace(report, diagnostics=kept)
        reports.append(_with(report, source, (*own, *lost)))
    if reports and not lost:
        reports[0] = _with(reports[0], source, _unused(file, reports))
    if left or not reports:
        nameless = Report("", source, Span(0, 0), ())
        reports.append(_with(nameless, source, (*left, *(() if reports else lost))))
    return tuple(reports)


def _unused(file: ast.File, reports: list[Report]) -> tuple[Diagnostic, ...]:
    """The `use` lines of which no formula is called, where all of the text could be typed."""
    formulas = [report.formula for report in reports]
    called = {each.use.path_span for formula in formulas if formula for each in formula.called if each.use}
    idle = (use for use in file.uses if use.path_span not in called and None not in formulas)
    return tuple(Diagnostic("AG506", use.path_span, {"path": use.path}) for use in idle)


def _with(report: Report, source: Source, problems: tuple[Diagnostic, ...]) -> Report:
    """The report with further findings, every one knowing its text, in the order of the text."""
    found = [_placed(d, source) for d in (*problems, *report.diagnostics)]
    unique = {(d.code, d.span, d.message): d for d in found}
    ordered = sorted(unique.values(), key=lambda d: (d.source is not source, d.span, d.code))
    return replace(report, diagnostics=tuple(ordered))


def _placed(diagnostic: Diagnostic, source: Source) -> Diagnostic:
    """The diagnostic with its text; labels in another text name theirs."""
    home = source.of(diagnostic.span)
    labels = diagnostic.labels
    if home is not source:
        labels = tuple(replace(each, span=replace(each.span, source=source.of(each.span))) for each in labels)
    return replace(diagnostic, source=home, labels=labels)


def check_tree(
    tree: ast.Formula,
    source: Source,
    others: Mapping[str, Definition],
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
        compiled = measure(made.graph, sequence, made.run)
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
        examine=properties,
    )


def _certain(problems: tuple[Diagnostic, ...]) -> tuple[Diagnostic, ...]:
    """Of a text that could only be read in part: findings that do not follow from the missing part."""
    follows = {"AG202", "AG203", "AG501", "AG502", "AG505", "AG302"}
    return tuple(problem for problem in problems if problem.code not in follows)
