"""Formulas as Markdown: what each is, its text and its mathematics, what it costs, which forms it has.

Pure functions from reports to text. Mathematics stands in fences of LaTeX marked `math`, as many readers of Markdown
draw it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from .compiler.sizes import Poly, leading
from .description import counted, formula_lines, notes, peaks, quoted, signature, weights
from .grammar.latex import latex_formula
from .snippet import location, one_line

if TYPE_CHECKING:
    from .compiler.formula import Formula
    from .compiler.report import Cost, Report


def summary(report: Report) -> str:
    """The first paragraph of the docstring: what the formula is."""
    return _paragraphs(report)[0]


def source(report: Report) -> str:
    """The other paragraphs of the docstring: paper, and what is to be known of it."""
    return "\n\n".join(_paragraphs(report)[1:])


def is_reconstruction(report: Report) -> bool:
    """Whether the docstring says that the formula stands for one that could not be seen."""
    return re.search(r"\breconstruction\b", _docstring(report)) is not None


def status(report: Report) -> str:
    """Whether the formula is as its source prints it, and what is not in order with it, if anything."""
    words = "reconstruction" if is_reconstruction(report) else "published"
    broken = sum(not verdict.holds for verdict in report.verdicts)
    if broken:
        return f"{words}; **{counted(broken, 'broken promise')}**"
    return words if report.ok else f"{words}; **with mistakes**"


def table(reports: Iterable[Report], link: Callable[[Report], str]) -> str:
    """One row per formula: what it is, its orders in the sequence axes, forms besides the dense one, promises, status.

    link: the address of a formula's entry.
    """
    titles = ("formula", "what it is", "as written", "as compiled", "forms", "promises", "status")
    rows = [_row(titles), _row("---" for _ in titles)]
    for report in reports:
        promises = ", ".join(f"`{verdict.text}`" for verdict in report.verdicts)
        orders = _code(report.written_order), _code(report.order)
        name = f"[{report.name}]({link(report)})"
        rows.append(_row((name, _cell(summary(report)), *orders, ", ".join(_forms(report)), promises, status(report))))
    return "\n".join(rows)


def entry(report: Report, heading: str = "##", module: str = "") -> str:
    """Everything to be known of one formula, below a heading with its name.

    module: the address of its generated module.
    """
    parts = [f"{heading} {report.name}"]
    if _docstring(report):
        parts += [f"*{escaped(summary(report))}*", escaped(source(report))]
    if report.formula is None:
        found = [f"{location(d)}: {d.severity.value} {d.code}: {d.message}" for d in report.diagnostics]
        parts.append(_list("Findings", found))
    else:
        parts.append(_fence("attn", _uses(report) + _without_docstring(_text(report))))
        parts.append(_fence("math", latex_formula(report.formula.tree)))
        parts.append(f"`{signature(report.formula)}`; orders count {_sequence(report)}.")
        parts.append(f"Status: {status(report)}.")
        parts += [_costs(report), *_account(report, report.formula), _passes(report), _steps(report)]
        parts.append(_simplified(report, report.formula))
        parts.append(f"The [generated module]({module}), as `attngraph compile` writes it." if module else "")
    return "\n\n".join(part for part in parts if part) + "\n"


# -- the parts of an entry ---------------------------------------------------------------------------------


def _costs(report: Report) -> str:
    rows = ["| for one batch entry | as written | as compiled |", "| --- | --- | --- |"]
    lines: tuple[tuple[str, Callable[[Cost], str]], ...] = (
        ("time", lambda cost: f"`{cost.order}`"),
        ("memory", lambda cost: f"`{cost.memory_growth}`"),
        ("operations", lambda cost: _size_of(cost.time)),
        ("elements, the largest of", lambda cost: "<br>".join(_peaks(cost, report))),
    )
    for name, shown in lines:
        cells = [shown(cost) if cost else "" for cost in (report.written, report.compiled)]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _peaks(cost: Cost, report: Report) -> list[str]:
    found, more = peaks(cost, report.formula)
    return [*map(_size_of, found), *([f"{counted(more, 'other')} at unusual sizes"] if more else [])]


def _forms(report: Report) -> list[str]:
    """The names of the forms that the formula has besides the dense one, which every formula has."""
    from .compiler.forms import account

    found = account(report)
    if found is None:
        return []
    names = [form.name for form in found.forms if form.exists and form.name != "dense"]
    if found.remembered is None or "recurrent" in names:
        return names
    return [*names, "repeated" if found.again else "cached"]


_LONG = 160  # characters of a size, beyond which its smaller terms are left out


def _size_of(size: Poly) -> str:
    shown = leading(size) if len(str(size)) > _LONG else size
    return f"`{shown}`" + (" and smaller terms" if shown != size else "")


def _account(report: Report, formula: Formula) -> list[str]:
    """The forms, and what else is known."""
    from .compiler.forms import account

    found = account(report)
    if found is None:
        return []
    forms = [f"{form.name}: {'' if form.exists else 'no, '}{form.text}" for form in found.forms]
    promises = [f"promised and {'kept' if v.holds else 'NOT kept'}: `{v.text}`" for v in report.verdicts]
    findings = [f"{each.code}: {each.message}, at {quoted(report.source, each.span)}" for each in report.diagnostics]
    held = report.properties
    more = weights(report, formula, held, quoted) if held is not None else ()
    known = [*notes(report, formula, found, quoted), *more, *findings, *promises]
    return [_list("Forms", forms), _list("Known of it", known)]


def _passes(report: Report) -> str:
    """How often each input is gone through, where once is not enough."""
    passes = report.properties.passes if report.properties is not None else ()
    several = [each for each in passes if max(each.written, each.compiled) > 1]
    rows = [f"`{each.input}` along `{each.axis}`: {each.written} written, {each.compiled} compiled" for each in several]
    return _list("Passes over the sequence, where more than one", rows)


def _steps(report: Report) -> str:
    reasons = dict.fromkeys(f"{step.rule}: {step.why}" for step in report.steps)
    return _list("How it is compiled", reasons)


def _simplified(report: Report, formula: Formula) -> str:
    """The simplified body, where it is shorter; also with the guards dropped, where that is shorter still."""
    from .compiler.simplify import simplify

    titles = {False: "Simplified", True: "Simplified, where no epsilon, clamp, infinity or NaN acts"}
    shortest, parts = _body(_text(report)), []
    for guards, title in titles.items():
        found = simplify(formula, guards=guards)
        body = _body(found.text)
        if found.steps and _size(body) < _size(shortest):
            shortest = body
            parts.append(f"{title}:\n\n{_fence('attn', body)}")
    return "\n\n".join(parts)


# -- words -------------------------------------------------------------------------------------------------


def escaped(text: str) -> str:
    """Prose as Markdown: outside of code, `*`, `_`, `[` and `<` are what they are."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(piece if piece.startswith("`") else re.sub(r"([*_\[\]<])", r"\\\1", piece) for piece in pieces)


def _docstring(report: Report) -> str:
    return report.formula.docstring if report.formula is not None else ""


def _paragraphs(report: Report) -> list[str]:
    return [" ".join(part.split()) for part in _docstring(report).strip().split("\n\n")]


def _text(report: Report) -> str:
    first, last = formula_lines(report)
    return "\n".join(report.source.text.splitlines()[first - 1 : last])


def _uses(report: Report) -> str:
    """The `use` lines of the files that the formula calls formulas of."""
    spans = report.formula.origins.values() if report.formula is not None else ()
    called = {posixpath.normpath(span.source.name) for span in spans if span.source is not None}
    folder = posixpath.dirname(report.source.name)
    lines = re.findall(r'^use "(.*)".*\n', report.source.text, re.MULTILINE)
    kept = [f'use "{path}"\n' for path in lines if posixpath.normpath(posixpath.join(folder, path)) in called]
    return "".join([*kept, "\n"]) if kept else ""


def _without_docstring(text: str) -> str:
    return re.sub(r'(:\n)    """.*?"""\n', r"\1", text, count=1, flags=re.DOTALL)


def _body(text: str) -> str:
    """What a formula computes: its lines without head, docstring and declarations, at the margin."""
    _, _, body = _without_docstring(text).partition(":\n")
    lines = [line.removeprefix("    ") for line in body.splitlines()]
    declared = re.compile(r"(where|sequence|const|param|buffer|require) ")
    return "\n".join(line for line in lines if not declared.match(line))


def _size(body: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]", body))


def _sequence(report: Report) -> str:
    names = report.formula.sequence if report.formula is not None else ()
    return ", ".join(f"`{name}`" for name in names) or "no axis"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(text: str | None) -> str:
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    return escaped(one_line(text)).replace("|", "\\|")


def _fence(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def _list(title: str, items: Iterable[str]) -> str:
    lines = [f"- {escaped(item)}" for item in items]
    return "\n".join([f"{title}:", "", *lines]) if lines else ""
