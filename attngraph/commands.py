"""What each command does, from parsed arguments to an exit code.

Every function takes the arguments of its command (see `cli.py`) and the console. Heavy modules are imported by the
command that needs them: `check` loads no torch, `fmt` and `latex` load no compiler.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .choice import ChoiceError, choose
from .console import Console, Misuse
from .files import STANDARD_INPUT, collect, replace_file, replace_text
from .grammar.diagnostics import Diagnostic, Severity
from .grammar.source import NOWHERE, Source
from .settings import Settings, check_ignored, load_settings, suggest

if TYPE_CHECKING:
    from argparse import Namespace

    from .compiler.formula import Formula
    from .compiler.library import Library
    from .compiler.report import Report, Step
    from .grammar.ast import File

FINE, FINDINGS = 0, 1
STANDARD_INPUT_NAME = "<stdin>"


# -- reading -------------------------------------------------------------------------------------------


def _read(path: Path, library: Library | None = None) -> Source | Diagnostic:
    """The text of a file or of standard input, whose `use` lines start at the current folder."""
    if path is not STANDARD_INPUT:
        from .compiler.library import read

        return read(path) if library is None else library.read(path)
    data = sys.stdin.buffer.read()
    try:
        return Source(STANDARD_INPUT_NAME, data.decode("utf-8"), Path())
    except UnicodeDecodeError as error:
        facts = {"path": STANDARD_INPUT_NAME, "offset": str(error.start)}
        return Diagnostic("AG002", NOWHERE, facts, source=Source(STANDARD_INPUT_NAME, ""))


def _checked(
    path: Path, console: Console, require: tuple[str, ...] = (), library: Library | None = None
) -> tuple[Report, ...]:
    """One report per formula of a file; for a file that cannot be read, one that says so.

    library: what the run has read so far.
    """
    from .compiler.pipeline import Library, check_source
    from .compiler.report import Report

    console.stage = f"reading {path}"
    library = library or Library()
    source = _read(path, library)
    if isinstance(source, Diagnostic):
        return (Report("", source.source or Source(str(path), ""), NOWHERE, (source,)),)
    console.stage = f"checking {path}"
    return check_source(source, require=require, library=library)


def _the_one(argument: str) -> Path:
    """The file of a command that takes one. Errors: Misuse."""
    if argument != "-" and Path(argument).is_dir():
        raise Misuse(f"`{argument}` is a folder; name one formula file")
    return collect([argument], Settings())[0]


def _chosen(reports: Sequence[Report], name: str | None, path: Path, *, one: bool = False) -> list[Report]:
    """The reports of a name, or all. one: a command that works on one formula. Errors: Misuse."""
    names = [report.name for report in reports if report.name]
    if not names or (name is None and not one):
        return list(reports)
    where = "standard input" if path is STANDARD_INPUT else str(path)
    try:
        meant = choose(names, name, where, path.stem)
    except ChoiceError as error:
        raise Misuse(str(error)) from error
    return [report for report in reports if report.name == meant]


def _single(arguments: Namespace, console: Console) -> Report | None:
    """The report that a command works on; None when it has errors, which are then printed. Errors: Misuse."""
    from .snippet import snippet

    path = _the_one(arguments.file)
    reports = _chosen(_checked(path, console), arguments.name, path, one=True)
    for report in reports:
        for diagnostic in report.diagnostics:
            console.note(snippet(diagnostic) + "\n")
        if report.ok and report.formula is not None:
            return report
    return None


# -- check ---------------------------------------------------------------------------------------------


def check(arguments: Namespace, console: Console) -> int:
    from .compiler.claims import CLAIMS
    from .compiler.pipeline import Library
    from .report import render, summary

    settings = load_settings(Path.cwd())
    require = tuple(_split(arguments.require)) if arguments.require is not None else settings.require
    for claim in require:
        if claim.split()[0] not in CLAIMS:
            raise Misuse(f"there is no claim `{claim}`; {suggest(claim.split()[0], CLAIMS)}")
    ignore = check_ignored(_split(arguments.ignore)) if arguments.ignore is not None else settings.ignore
    strict = settings.warnings_as_errors if arguments.warnings_as_errors is None else arguments.warnings_as_errors
    form = arguments.format or settings.format
    library = Library()
    reports = [
        _without(report, ignore)
        for path in collect(arguments.paths, settings)
        for report in _checked(path, console, require, library)
    ]
    console.stage = "reporting"
    if arguments.output is None:
        console.write(render(reports, form, console.palette, console.columns))
    else:
        replace_text(Path(arguments.output), render(reports, form))
        console.note(summary(reports))
    worst = {diagnostic.severity for report in reports for diagnostic in report.diagnostics}
    failed = Severity.ERROR in worst or (strict and Severity.WARNING in worst)
    return FINDINGS if failed else FINE


def _split(values: Sequence[str]) -> list[str]:
    """`--require linear,causal --require "time O(N)"` as a list; a comma inside brackets does not separate."""
    parts: list[str] = []
    for value in values:
        depth, part = 0, ""
        for character in value:
            depth += (character == "(") - (character == ")")
            if character == "," and depth <= 0:
                parts.append(part)
                part = ""
            else:
                part += character
        parts.append(part)
    return [part.strip() for part in parts if part.strip()]


def _without(report: Report, ignore: Sequence[str]) -> Report:
    kept = tuple(diagnostic for diagnostic in report.diagnostics if diagnostic.code not in ignore)
    return replace(report, diagnostics=kept)


# -- explain -------------------------------------------------------------------------------------------


def explain(arguments: Namespace, console: Console) -> int:
    from .description import code_page, describe
    from .grammar.codes import CODES

    subject = arguments.subject
    if re.fullmatch("[Aa][Gg][0-9]{1,6}", subject) and not Path(subject).exists():
        code = subject.upper()
        if code not in CODES:
            near = min(CODES, key=lambda known: abs(int(known[2:]) - int(code[2:])))
            raise Misuse(f"there is no diagnostic code {code}; the nearest is {near} {CODES[near].name}")
        console.write(code_page(code))
        return FINE
    path = _the_one(subject)
    reports = _chosen(_checked(path, console), arguments.name, path)
    console.stage = "explaining"
    if arguments.format == "markdown":
        from .catalogue import entry

        console.write("\n".join(entry(report) for report in reports))
    else:
        console.write("\n".join(describe(report, console.palette) for report in reports))
    return FINE if all(report.ok for report in reports) else FINDINGS


# -- fmt and latex ---------------------------------------------------------------------------------------


def _parsed(path: Path, console: Console) -> tuple[Source, File | None]:
    """The tree of a file; None when it has errors, which are then printed."""
    from .grammar.parser import parse
    from .snippet import snippet

    console.stage = f"parsing {path}"
    source = _read(path)
    if isinstance(source, Diagnostic):
        console.note(snippet(source) + "\n")
        return source.source or Source(str(path), ""), None
    tree, diagnostics = parse(source)
    errors = [diagnostic for diagnostic in diagnostics if diagnostic.severity is Severity.ERROR]
    for diagnostic in errors:
        console.note(snippet(replace(diagnostic, source=source)) + "\n")
    return source, None if errors else tree


def fmt(arguments: Namespace, console: Console) -> int:
    """A file with syntax errors is left alone. Line endings stay what they are in the first line."""
    from .grammar.printer import format_file

    code = FINE
    for path in collect(arguments.paths, load_settings(Path.cwd())):
        source, tree = _parsed(path, console)
        if tree is None:
            console.note(f"{source.name}: not formatted, because of the errors above")
            code = FINDINGS
            continue
        console.stage = f"formatting {path}"
        first_line = source.text.partition("\n")[0]
        text = format_file(tree)
        text = text.replace("\n", "\r\n") if first_line.endswith("\r") else text
        changed = text != source.text
        if arguments.stdout or (path is STANDARD_INPUT and not arguments.check and not arguments.diff):
            console.write(text)
        elif arguments.diff:
            console.write(_difference(source, text))
            code = FINDINGS if changed else code
        elif arguments.check and changed:
            console.write(f"would reformat {source.name}\n")
            code = FINDINGS
        elif changed and path is not STANDARD_INPUT:
            replace_text(path, text)
            console.write(f"reformatted {source.name}\n")
    return code


def _difference(source: Source, text: str) -> str:
    from difflib import unified_diff

    before, after = source.text.splitlines(keepends=True), text.splitlines(keepends=True)
    lines = unified_diff(before, after, source.name, f"{source.name} (formatted)")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def latex(arguments: Namespace, console: Console) -> int:
    from .grammar.latex import latex_formula
    from .grammar.mathml import mathml

    path = _the_one(arguments.file)
    _, tree = _parsed(path, console)
    if tree is None:
        return FINDINGS
    if arguments.name is not None:
        try:
            choose([formula.name for formula in tree.formulas], arguments.name, str(path))
        except ChoiceError as error:
            raise Misuse(str(error)) from error
    console.stage = f"printing {path} as LaTeX"
    chosen = [formula for formula in tree.formulas if arguments.name in (None, formula.name)]
    printed = [latex_formula(formula) for formula in chosen]
    console.write("\n\n".join(map(mathml, printed) if arguments.mathml else printed) + "\n")
    return FINE


# -- simplify --------------------------------------------------------------------------------------------


def simplify(arguments: Namespace, console: Console) -> int:
    """The steps are comments, so that what is printed is a formula file with or without them."""
    from .compiler.errors import CompileError
    from .compiler.simplify import simplify as run
    from .snippet import snippet

    path = _the_one(arguments.file)
    constants = {name: _number(name, value) for name, value in _pairs(arguments.const, "--const", "eps=1e-5").items()}
    reports = _chosen(_checked(path, console), arguments.name, path)
    console.stage = f"simplifying {path}"
    texts = []
    for report in reports:
        for diagnostic in report.diagnostics:
            console.note(snippet(diagnostic) + "\n")
        if not report.ok or report.formula is None:
            continue
        own = {
            name: value for name, value in constants.items() if len(reports) == 1 or name in report.formula.constants
        }
        try:
            found = run(report.formula, guards=arguments.guards, consts=own)
        except CompileError as error:
            raise Misuse(str(error)) from error
        lines = _steps(report.source, found.steps) if arguments.explain else ""
        texts.append(lines + found.text)
    console.write("\n".join(texts))
    return FINE if all(report.ok for report in reports) else FINDINGS


def _steps(source: Source, steps: Sequence[Step]) -> str:
    from .snippet import one_line, place_in

    lines = []
    for number, step in enumerate(steps, start=1):
        lines += [
            f"# {number}. {step.rule} ({place_in(source, step.span)})",
            f"#      {one_line(step.before)}",
            f"#    = {one_line(step.after)}",
            f"#    because {step.why}",
        ]
    return "".join(f"{line}\n" for line in [*lines, *(["#"] if lines else [])])


# -- equiv -----------------------------------------------------------------------------------------------


def equiv(arguments: Namespace, console: Console) -> int:
    """Only a proof is exit code 0; a difference is 1, and so is doubt."""
    from .snippet import snippet

    chosen: list[Formula] = []
    for argument in (arguments.left, arguments.right):
        file, colon, name = argument.rpartition(":")
        named = bool(colon) and name.isidentifier() and not Path(argument).exists()
        path = _the_one(file if named else argument)
        reports = _chosen(_checked(path, console), name if named else None, path, one=True)
        for diagnostic in (diagnostic for report in reports[:1] for diagnostic in report.diagnostics):
            console.note(snippet(diagnostic) + "\n")
        if not reports[0].ok or reports[0].formula is None:
            return FINDINGS
        chosen.append(reports[0].formula)
    try:
        from .compiler.equivalence import Side, Verdict, equivalent
    except ModuleNotFoundError as error:
        raise Misuse(f"this needs {error.name}, which is not installed: pip install {error.name}") from error
    left, right = chosen
    console.stage = f"comparing {arguments.left} with {arguments.right}"
    found = equivalent(Side(left, left.graph), Side(right, right.graph), guards=arguments.guards)
    where = ""
    if found.verdict is Verdict.PROVED:
        where = " for all sizes" if found.everywhere else " at the sizes below"
    lines = [f"{found.verdict.value}{where}: {left.name} and {right.name}, by {found.method}", f"  {found.confidence}"]
    tested = () if found.everywhere else found.sizes
    lines += [f"  at {', '.join(f'{axis} = {size}' for axis, size in sizes.items())}" for sizes in tested]
    example = found.counterexample
    if example is not None:
        place = ", ".join(map(str, example.position))
        lines.append(f"  seed {example.seed}, result {example.output}, place [{place}]")
        lines.append(f"  {left.name}: {example.left!r}")
        lines.append(f"  {right.name}: {example.right!r}")
    console.write("\n".join(lines) + "\n")
    return FINE if found.verdict is Verdict.PROVED else FINDINGS


# -- compile and draw ------------------------------------------------------------------------------------


def draw(arguments: Namespace, console: Console) -> int:
    from .compiler.facts.cost import superlinear
    from .draw import to_dot, to_svg
    from .exchange import to_json

    path = Path(arguments.output)
    if path.suffix not in (".svg", ".dot", ".json"):
        raise Misuse(f"cannot draw `{path}`: the name must end in .svg, .dot or .json")
    report = _single(arguments, console)
    if report is None or report.formula is None:
        return FINDINGS
    written = arguments.stage == "written" or report.plan is None
    graph = report.formula.graph if written or report.plan is None else report.plan
    console.stage = f"drawing {report.name}"
    if path.suffix == ".json":
        text = to_json(graph)
    elif path.suffix == ".dot":
        text = to_dot(graph, title=report.name)
    else:
        order = report.written_order if written else report.order
        subtitle = f"{arguments.stage}, {order}" if order else arguments.stage
        text = to_svg(graph, title=report.name, subtitle=subtitle, loud=superlinear(report.formula, graph))
    replace_text(path, text)
    return FINE


def build(arguments: Namespace, console: Console) -> int:
    sizes = {name: _whole(name, value) for name, value in _pairs(arguments.size, "--size", "H=4").items()}
    constants = {name: _number(name, value) for name, value in _pairs(arguments.const, "--const", "eps=1e-5").items()}
    path = Path(arguments.output) if arguments.output is not None else None
    if path is not None and path.suffix not in (".py", ".pt", ".pt2", ".onnx"):
        raise Misuse(f"cannot compile to `{path}`: the name must end in .py, .pt, .pt2 or .onnx")
    batch = None if arguments.batch is None else _count("--batch", arguments.batch)
    if path is None and (arguments.target is not None or batch is not None):
        raise Misuse("--target and --batch say what a file holds: name one with -o, for example -o out.pt2")
    report = _single(arguments, console)
    if report is None or report.formula is None:
        return FINDINGS
    console.stage = f"compiling {report.name}"
    from .compiler.errors import CompileError
    from .compiler.forms import choose

    by_position = arguments.form == "recurrent"
    try:
        report = choose(report, arguments.form, constants)
    except CompileError as error:
        raise Misuse(str(error)) from error
    assert report.formula is not None
    if path is None and not sizes and not constants:  # needs no torch
        from .compiler.emit import emit

        plan = report.plan or report.formula.graph
        console.write(emit(report.formula, plan, steps=report.steps, by_position=by_position).source)
    elif path is None:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            _save(report, Path(folder) / "out.py", sizes, constants, None, None, by_position)
            console.write((Path(folder) / "out.py").read_text(encoding="utf-8"))
    else:
        notes: list[str] = []
        options = (sizes, constants, arguments.target, batch, by_position)
        replace_file(path, lambda temporary: notes.extend(_save(report, temporary, *options)))
        for note in notes:
            console.note(f"note: {path.name}: {note}")
    for name in _idle(report.formula, sizes, constants):
        console.note(f"note: the inputs bring `{name}` at every call; --size {name}={sizes[name]} fixes nothing")
    return FINE


def _idle(formula: Formula, sizes: Mapping[str, int], constants: Mapping[str, int | float]) -> Sequence[str]:
    from .compiler.emit.arguments import idle_sizes
    from .compiler.emit.settle import plan_sizes

    return idle_sizes(formula, plan_sizes(formula), sizes, constants) if sizes else ()


def _save(
    report: Report,
    path: Path,
    sizes: Mapping[str, int],
    constants: Mapping[str, int | float],
    target: str | None,
    batch: int | None,
    by_position: bool,
) -> tuple[str, ...]:
    """Write the module; returns what the target runs in place of algorithms that it cannot carry. Errors: Misuse."""
    from .compiler.errors import CompileError

    try:
        from .compiler.module import save
    except ModuleNotFoundError as error:
        raise Misuse(f"this needs {error.name}, which is not installed: pip install {error.name}") from error
    formula = report.formula
    assert formula is not None
    try:
        return save(
            formula,
            report.plan or formula.graph,
            path,
            sizes=sizes,
            consts=constants,
            steps=report.steps,
            target=target,
            batch=batch,
            by_position=by_position,
        )
    except CompileError as error:  # it speaks to Python: sizes={'H': ...}
        raise Misuse(re.sub(r"(size|const)s=\{'(\w+)': \.\.\.\}", r"--\1 \2=...", str(error))) from error


def _pairs(values: Sequence[str], option: str, example: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not (name and equals and text):
            raise Misuse(f"{option} takes NAME=VALUE, not `{value}`; for example {option} {example}")
        if name.strip() in pairs:
            raise Misuse(f"{option} gives `{name.strip()}` twice: {pairs[name.strip()]} and {text.strip()}")
        pairs[name.strip()] = text.strip()
    return pairs


def _count(option: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 4):
        raise Misuse(f"{option} takes a small whole number, not `{text}`")
    return int(text)


def _whole(name: str, text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) > 18:  # int() refuses some of them, torch all
        raise Misuse(f"the size of `{name}` is too large: a size has at most 18 digits")
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise Misuse(f"the size of `{name}` must be a positive whole number, not `{text}`")
    return int(text)


def _number(name: str, text: str) -> int | float:
    try:
        value = int(text) if text.removeprefix("-").isdigit() and len(text) < 19 else float(text)
    except ValueError as error:
        raise Misuse(f"the constant `{name}` must be a number, not `{text}`") from error
    if value in (math.inf, -math.inf) and "inf" not in text.lower():
        raise Misuse(f"the constant `{name}` is outside the range of a float64 number: {text}")
    return value


RUN: Mapping[str, Callable[[Namespace, Console], int]] = {
    "check": check,
    "explain": explain,
    "fmt": fmt,
    "latex": latex,
    "simplify": simplify,
    "equiv": equiv,
    "compile": build,
    "draw": draw,
}


def run(arguments: Namespace, console: Console) -> int:
    """Carry out the command of the arguments. Errors: Misuse, SettingsError."""
    return RUN[arguments.command](arguments, console)
