"""The answer to `check` in the formats that people and machines read.

Every renderer is a pure function from reports to text. `full` and `concise` are for people, `github`
annotates a pull request, `junit` and `sarif` are the standards of test runners and code scanners.

`json` is this project's own format, and stable: keys are only ever added. The object holds

- `version`: 1, the version of this format; `attngraph`: that of the program; `ok`: no errors anywhere
- `formulas`: a list, in the order of the files and of the texts; each has
    - `name`, `path`, `line`, `ok`
    - `inputs`, `parameters`, `buffers`, `values`: lists of `{name, kind, axes}`; `results`: of `{kind, axes}`
    - `constants`: default values by name; `sequence`: the axes that orders count
    - `written`, `compiled`: `{time, memory, time_order, memory_order}`; time is a polynomial in the sizes
      (floating-point operations), memory a list of them (elements; the largest counts)
    - `claims`: a list of `{text, holds, range}`
    - `steps`: a list of `{rule, path, range, before, after, why}`, what the compiler did, in order
    - `passes`: a list of `{input, axis, written, compiled}`, how often an input is gone through along a sequence axis
    - `dependence`: a list of `{result, input, axis, along, from, to, words}`: a result reads an input at the positions
      from `from` to `to` (null: no bound) of its own along `along` (null: every element reads all of them)
    - `symmetry`: a list of `{axes, holds, kind}`, what permuting positions does: `equivariant` or `invariant`
    - `weights`: a list of `{axes, total, missing, batched, path, range}`, what weighs values in sums over the sequence
    - `no_gradient`: inputs and parameters that are used, and that no gradient reaches
    - `diagnostics`
  where a formula with errors has null for `written`, `compiled`, and no types
- `diagnostics`: those that belong to no formula

A diagnostic is `{code, name, severity, message, help, path, range, labels}`, a label `{text, path, range}`, a range
`{line, column, end_line, end_column}`: one-based, in characters, the end just after the last character.
"""

from __future__ import annotations

import hashlib
import json as json_text
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from .description import counted, table
from .grammar.codes import CODES
from .grammar.diagnostics import Diagnostic, Severity
from .grammar.source import Source, Span
from .snippet import PLAIN, Palette, location, one_line, snippet

if TYPE_CHECKING:
    from .compiler.graph import Node
    from .compiler.report import Cost, Report
    from .compiler.types import Type

JSON_VERSION = 1


def version() -> str:
    """The version of the program."""
    from . import __version__

    return __version__


def findings(reports: Iterable[Report]) -> Iterator[tuple[Report, Diagnostic]]:
    """Every diagnostic with the report that it belongs to, in order.

    What is wrong with a file as a whole is a finding of each of its formulas; it comes once, with the first.
    """
    seen: set[tuple[str, str, str, Span]] = set()
    for report in reports:
        for each in report.diagnostics:
            key = (each.source.name if each.source else "", each.code, each.message, each.span)
            if key not in seen:
                seen.add(key)
                yield report, each


# -- for people ----------------------------------------------------------------------------------------


def full(reports: Sequence[Report], palette: Palette = PLAIN, columns: int = 100) -> str:
    """Every diagnostic with its lines of the text, the table of formulas, and the sum."""
    blocks = [snippet(diagnostic, palette) for _, diagnostic in findings(reports)]
    if any(report.formula for report in reports):
        blocks.append(table(reports, palette, columns))
    return "\n\n".join([*blocks, summary(reports, palette)]) + "\n"


def render_diagnostics(diagnostics: Iterable[Diagnostic], palette: Palette = PLAIN) -> str:
    """The diagnostics with their lines of the text, and nothing else."""
    return "\n\n".join(snippet(diagnostic, palette) for diagnostic in diagnostics)


def concise(reports: Sequence[Report], palette: Palette = PLAIN) -> str:
    """One line per diagnostic: `path:line:column: error[AG201] headline`."""
    lines = []
    for _, each in findings(reports):
        role = each.severity.value
        lines.append(f"{location(each)}: {palette(f'{role}[{each.code}]', role)} {one_line(each.message)}\n")
    return "".join(lines)


def summary(reports: Sequence[Report], palette: Palette = PLAIN) -> str:
    """`3 formulas in 2 files: 1 error, 2 warnings`."""
    formulas = sum(1 for report in reports if report.name)
    files = len({report.source.name for report in reports})
    what = f"{counted(formulas, 'formula')} in {counted(files, 'file')}"
    totals = [
        palette(counted(number, severity.value), severity.value)
        for severity in Severity
        if (number := sum(1 for _, each in findings(reports) if each.severity is severity))
    ]
    return f"{what}: {', '.join(totals)}" if totals else f"{what}: {palette('no findings', 'good')}"


# -- json ------------------------------------------------------------------------------------------------


def _range(source: Source | None, span: Span) -> dict[str, int] | None:
    if source is None or not source.text:
        return None
    source = source.of(span)
    (line, column), (end_line, end_column) = source.position(span.start), source.position(max(span.start, span.end))
    return {"line": line, "column": column, "end_line": end_line, "end_column": end_column}


def _path(source: Source | None, span: Span) -> str | None:
    return one_line(source.of(span).name) if source else None


def diagnostic_data(diagnostic: Diagnostic) -> dict[str, object]:
    """One diagnostic as the JSON format has it."""
    source = diagnostic.source
    return {
        "code": diagnostic.code,
        "name": diagnostic.name,
        "severity": diagnostic.severity.value,
        "message": diagnostic.message,
        "help": diagnostic.suggestion,
        "path": _path(source, diagnostic.span),
        "range": _range(source, diagnostic.span),
        "labels": [
            {"text": label.text, "path": _path(source, label.span), "range": _range(source, label.span)}
            for label in diagnostic.labels
        ],
    }


def _typed(type_: Type) -> dict[str, object]:
    return {"kind": type_.kind.value, "axes": list(type_.axes)}


def _cost(cost: Cost | None) -> dict[str, object] | None:
    if cost is None:
        return None
    return {
        "time": str(cost.time),
        "memory": [str(peak) for peak in cost.memory],
        "time_order": cost.order,
        "memory_order": cost.memory_growth,
    }


def formula_data(report: Report) -> dict[str, object]:
    """One formula as the JSON format has it."""
    formula, source = report.formula, report.source
    names = formula.graph.names if formula else {}

    def named(nodes: Iterable[Node]) -> list[dict[str, object]]:
        return [{"name": names.get(node, getattr(node.op, "name", "")), **_typed(node.type)} for node in nodes]

    declared = [*formula.inputs, *(each.node for each in (*formula.parameters, *formula.buffers))] if formula else []
    return {
        "name": report.name,
        "path": one_line(source.name),
        "line": source.position(report.span.start)[0],
        "ok": report.ok,
        "inputs": named(formula.inputs) if formula else [],
        "results": [_typed(node.type) for node in formula.graph.outputs] if formula else [],
        "parameters": named(each.node for each in formula.parameters) if formula else [],
        "buffers": named(each.node for each in formula.buffers) if formula else [],
        "constants": dict(formula.constants) if formula else {},
        "values": named(node for node in formula.graph if node in names and node not in declared) if formula else [],
        "sequence": list(formula.sequence) if formula else [],
        "written": _cost(report.written),
        "compiled": _cost(report.compiled),
        "claims": [
            {"text": verdict.text, "holds": verdict.holds, "range": _range(source, verdict.span)}
            for verdict in report.verdicts
        ],
        "steps": [
            {
                "rule": step.rule,
                "path": _path(source, step.span),
                "range": _range(source, step.span),
                "before": step.before,
                "after": step.after,
                "why": step.why,
            }
            for step in report.steps
        ],
        **_properties(report),
        "diagnostics": [diagnostic_data(each) for each in report.diagnostics],
    }


def _properties(report: Report) -> dict[str, object]:
    found, formula, source = report.properties, report.formula, report.source
    if found is None or formula is None:
        return {"passes": [], "dependence": [], "symmetry": [], "weights": [], "no_gradient": []}
    places = [formula.origins.get(each.node) for each in found.weights]
    return {
        "passes": [
            {"input": each.input, "axis": each.axis, "written": each.written, "compiled": each.compiled}
            for each in found.passes
        ],
        "dependence": [
            {
                "result": each.output,
                "input": each.input,
                "axis": each.axis,
                "along": each.own,
                "from": each.low,
                "to": each.high,
                "words": each.words,
            }
            for each in found.reached
        ],
        "symmetry": [
            {
                "axes": list(each.axes),
                "holds": each.culprit is None,
                "kind": "equivariant" if each.equivariant else "invariant",
            }
            for each in found.symmetries
        ],
        "weights": [
            {
                "axes": list(each.axes),
                "total": each.total,
                "missing": list(each.missing),
                "batched": each.batched,
                "path": _path(source, place) if place else None,
                "range": _range(source, place) if place else None,
            }
            for each, place in zip(found.weights, places, strict=True)
        ],
        "no_gradient": list(found.without_gradient),
    }


def json(reports: Sequence[Report]) -> str:
    """The format that the head of this file describes."""
    return _dump(
        {
            "version": JSON_VERSION,
            "attngraph": version(),
            "ok": all(report.ok for report in reports),
            "formulas": [formula_data(report) for report in reports if report.name],
            "diagnostics": [
                diagnostic_data(each) for report in reports if not report.name for each in report.diagnostics
            ],
        }
    )


def _dump(data: Mapping[str, object]) -> str:
    return json_text.dumps(data, indent=2, allow_nan=False) + "\n"


# -- sarif -----------------------------------------------------------------------------------------------


def _uri(name: str) -> str:
    """A path as a URI reference: relative paths stay relative, which is what code scanners want."""
    from urllib.parse import quote

    path = PurePath(name)
    quoted = quote(os.fsencode(path.as_posix()))
    return f"file://{quoted}" if path.is_absolute() else quoted


def _sarif_location(source: Source | None, span: Span) -> dict[str, object]:
    place: dict[str, object] = {"artifactLocation": {"uri": _uri(source.of(span).name if source else "<text>")}}
    if found := _range(source, span):
        place["region"] = {
            "startLine": found["line"],
            "startColumn": found["column"],
            "endLine": found["end_line"],
            "endColumn": found["end_column"],
        }
    return {"physicalLocation": place}


def _sarif_result(report: Report, each: Diagnostic, rules: Sequence[str]) -> dict[str, object]:
    place = _sarif_location(each.source, each.span)
    if report.name:
        place["logicalLocations"] = [{"fullyQualifiedName": report.name, "kind": "function"}]
    # What stays the same when lines move: the code, the formula and the text that is blamed.
    blamed = each.source.slice(each.span) if each.source else ""
    identity = hashlib.sha256("\0".join((each.code, report.name, blamed)).encode("utf-8", "replace")).hexdigest()
    text = each.message if each.suggestion is None else f"{each.message}\nhelp: {each.suggestion}"
    result: dict[str, object] = {
        "ruleId": each.code,
        "ruleIndex": rules.index(each.code),
        "level": each.severity.value,
        "message": {"text": text},
        "locations": [place],
        "partialFingerprints": {"attngraphFinding/v1": identity[:32]},
    }
    if each.labels:
        result["relatedLocations"] = [
            {**_sarif_location(each.source, label.span), "message": {"text": label.text}} for label in each.labels
        ]
    return result


def sarif(reports: Sequence[Report]) -> str:
    """SARIF 2.1.0, the static analysis results interchange format (OASIS, 2020)."""
    found = list(findings(reports))
    rules = sorted({each.code for _, each in found})
    driver = {
        "name": "attngraph",
        "version": version(),
        "rules": [
            {
                "id": code,
                "name": CODES[code].name,
                "shortDescription": {"text": CODES[code].name.replace("-", " ")},
                "defaultConfiguration": {"level": CODES[code].severity},
            }
            for code in rules
        ],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": True}],
        "results": [_sarif_result(report, each, rules) for report, each in found],
    }
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    return _dump({"$schema": schema, "version": "2.1.0", "runs": [run]})


# -- github ----------------------------------------------------------------------------------------------


def _github_text(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _github_property(text: object) -> str:
    return _github_text(str(text)).replace(":", "%3A").replace(",", "%2C")


def github(reports: Sequence[Report]) -> str:
    """Workflow commands: every diagnostic becomes an annotation on its lines of a pull request."""
    lines = []
    for _, each in findings(reports):
        command = "notice" if each.severity is Severity.NOTE else each.severity.value
        properties: dict[str, object] = {"file": one_line(each.source.name) if each.source else "<text>"}
        if found := _range(each.source, each.span):
            properties |= {"line": found["line"], "endLine": found["end_line"]}
            if found["line"] == found["end_line"]:  # columns over several lines are refused
                properties |= {"col": found["column"], "endColumn": found["end_column"]}
        properties["title"] = f"{each.code} {each.name}"
        given = ",".join(f"{name}={_github_property(value)}" for name, value in properties.items())
        text = each.message if each.suggestion is None else f"{each.message}\nhelp: {each.suggestion}"
        lines.append(f"::{command} {given}::{_github_text(text)}\n")
    return "".join(lines)


# -- junit -----------------------------------------------------------------------------------------------


def _xml(text: str) -> str:
    """Text or attribute content: characters that XML 1.0 cannot carry become escapes."""
    shown = "".join(c if c in "\n\t" or c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        shown = shown.replace(character, entity)
    return shown


def _junit_case(report: Report) -> str:
    path = one_line(report.source.name)
    errors = [each for each in report.diagnostics if each.severity is Severity.ERROR]
    others = [each for each in report.diagnostics if each.severity is not Severity.ERROR]
    head = f'    <testcase classname="{_xml(path)}" name="{_xml(report.name or path)}"'
    if not report.diagnostics:
        return f"{head}/>\n"
    body = ""
    if errors:
        attributes = f'type="{errors[0].code}" message="{_xml(one_line(errors[0].message))}"'
        body += f"      <failure {attributes}>{_snippets(errors)}</failure>\n"
    if others:
        body += f"      <system-out>{_snippets(others)}</system-out>\n"
    return f"{head}>\n{body}    </testcase>\n"


def _snippets(diagnostics: Iterable[Diagnostic]) -> str:
    return _xml("\n\n".join(map(snippet, diagnostics)))


def junit(reports: Sequence[Report]) -> str:
    """JUnit's XML: one test case per formula, one failure for all its errors."""
    failures = sum(1 for report in reports if not report.ok)
    totals = f'tests="{len(reports)}" failures="{failures}" errors="0"'
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<testsuites name="attngraph" {totals}>\n'
        f'  <testsuite name="attngraph check" {totals}>\n'
        f"{''.join(map(_junit_case, reports))}"
        "  </testsuite>\n</testsuites>\n"
    )


FORMATS: Mapping[str, Callable[[Sequence[Report]], str]] = {
    "full": full,
    "concise": concise,
    "json": json,
    "sarif": sarif,
    "github": github,
    "junit": junit,
}


def render(reports: Sequence[Report], form: str, palette: Palette = PLAIN, columns: int = 100) -> str:
    """The reports in one of FORMATS. Only `full` and `concise` use the palette."""
    if form == "full":
        return full(reports, palette, columns)
    if form == "concise":
        return concise(reports, palette)
    return FORMATS[form](reports)
