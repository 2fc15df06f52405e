"""The part of the documentation that is made, not written: operations, diagnostic codes, examples.

mkdocs calls `on_files` before and `on_post_page` after it renders; the rest are pure functions from
the project's own data to Markdown.
"""

from __future__ import annotations

import dataclasses
import html
import inspect
import re
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from attngraph import catalogue
from attngraph.compiler.emit import emit
from attngraph.compiler.facts.cost import superlinear
from attngraph.compiler.ops import OPS
from attngraph.compiler.ops.base import Brackets, Op
from attngraph.compiler.pipeline import check_source, read
from attngraph.compiler.report import Report
from attngraph.compiler.rules.arithmetic import ARITHMETIC
from attngraph.compiler.rules.functions import FUNCTIONS
from attngraph.compiler.rules.layout import LAYOUT
from attngraph.compiler.rules.logic import LOGIC
from attngraph.compiler.rules.normalisations import NORMALISATIONS
from attngraph.compiler.rules.reductions import REDUCTIONS
from attngraph.compiler.rules.rule import Rule
from attngraph.draw import to_svg
from attngraph.grammar.codes import CODES
from attngraph.grammar.mathml import mathml
from attngraph.grammar.source import Source

ROOT = Path(__file__).resolve().parent.parent

CODE_GROUPS = {
    "AG0": "Reading files, limits",
    "AG1": "Syntax",
    "AG2": "Names, axes and types",
    "AG3": "Sizes and facts",
    "AG4": "Claims",
    "AG5": "Lints",
    "AG9": "Faults of attngraph itself",
}


def prose(text: str) -> str:
    """Docstring text as Markdown: `sum[N](x)` outside of code is a call, not a link."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(piece if piece.startswith("`") else piece.replace("](", "]\\(") for piece in pieces)


def attribute_rows(op: type[Op]) -> list[str]:
    """The keyword attributes of an operation, as rows of a table: name, default, meaning."""
    rows = []
    for field in dataclasses.fields(op):
        if field.metadata.get("attribute"):
            default = "required" if field.default is dataclasses.MISSING else f"`{field.default}`"
            rows.append(f"| `{field.name}` | {default} | {prose(field.metadata['doc'])} |")
    return rows


def operation_section(op: type[Op]) -> str:
    """One operation: the first line of its docstring is `spelling: meaning`, the rest is the page."""
    first, _, rest = inspect.cleandoc(op.__doc__ or "").partition("\n")
    call, _, meaning = first.partition(": ")
    if not meaning:
        raise PluginError(f"the docstring of {op.__name__} does not start with `spelling: meaning`")
    parts = [f"### `{call.strip('`')}`", prose(meaning), prose(rest.strip())]
    if op.brackets is not Brackets.NONE:
        parts.append(f"In brackets: {op.brackets.value}, as in `{op.brackets.example(op.spelling)}`.")
    if rows := attribute_rows(op):
        parts.append("\n".join(["| attribute | default | meaning |", "| --- | --- | --- |", *rows]))
    return "\n\n".join(part for part in parts if part)


def operations_page(ops: Iterable[type[Op]]) -> str:
    """All operations that a formula can spell, by family, in the order of OPS."""
    families: defaultdict[str, list[type[Op]]] = defaultdict(list)
    for op in ops:
        if op.spelling:
            families[op.family].append(op)
    lines = [
        "# Operations",
        "Made from the classes of `compiler/ops`, each of which says everything about one operation: what is written "
        "here is the docstring that its tests hold it to. How operands meet by axis name is told once, in the "
        "[language reference](../language.md).",
    ]
    for family, members in families.items():
        lines += [f"## {family.capitalize()}", *map(operation_section, members)]
    return "\n\n".join(lines) + "\n"


def codes_page() -> str:
    """The table of all diagnostic codes, grouped by their first digit; each with a page is linked."""
    lines = [
        "# Diagnostics",
        "Every message of attngraph has a code that never changes its meaning. The page of a code shows a formula that "
        "causes it and one that does not; both are run as tests.",
    ]
    for prefix, title in CODE_GROUPS.items():
        members = {code: entry for code, entry in CODES.items() if code.startswith(prefix)}
        if not members:
            continue
        lines.append(f"## {title}")
        rows = ["| code | name | severity | says |", "| --- | --- | --- | --- |"]
        for code, entry in sorted(members.items()):
            link = f"[{code}]({code}.md)" if (ROOT / f"attngraph/codes/{code}.md").exists() else code
            headline = re.sub(r"`?\{(\w+)\}`?", r"*\1*", entry.headline).replace("|", "\\|")
            rows.append(f"| {link} | {entry.name} | {entry.severity} | {prose(headline)} |")
        lines.append("\n".join(rows))
    return "\n\n".join(lines) + "\n"


def families(folder: Path) -> dict[str, str]:
    """Name and description of every family of formulas, from the table of examples/README.md. Errors: PluginError."""
    readme = (folder / "README.md").read_text(encoding="utf-8")
    found = dict(re.findall(r"^\| \[(\w+)\]\(\1\) \| (.+) \|$", readme, re.MULTILINE))
    if found.keys() != {path.name for path in folder.iterdir() if path.is_dir()}:
        raise PluginError("the table of examples/README.md does not list the folders beside it")
    return found


HOW_TO_READ = """## How to read an entry

- **Text**: the formula as attngraph reads it. `q[N, D]` has the axes `N` and `D`; axes of one name meet, and batch
  axes in front are left out. `x @ y` contracts the last axis of `x`, `x[N -> M]` is `x` with an axis of another
  name, `pos(N)` is 0 to `N - 1`. The [language](../language.md) says the rest.
- **Mathematics**: the same, made from the text. A lower-case letter is the position along the axis of that letter;
  ⊙ multiplies element by element, with axes met by name; an index with an arrow, as in `x` with `n -> m`, is the
  renamed copy; an arrow to the left gives a state its next value.
- **Types** are those of inputs and results, with the axes that orders count: how time and memory grow with these,
  every other size constant.
- **Operations** are floating-point operations, two for a multiplication with an addition; **elements** are the most
  intermediate values that are alive at once: which of several peaks is the largest depends on the sizes. Both are
  for one batch entry.
- **Forms**: *dense* runs the text as it stands; *linear* takes time and memory linear in the sequence; *chunked*
  carries a state from chunk to chunk; *recurrent* goes position by position; *associative* computes a recurrence at
  all positions at once. Where one is missing, the reason stands there.
- **Passes**: how often an input has to be read along an axis, whatever the schedule, as in FuseMax (Nayak et al.,
  MICRO 2024).
- **Status**: *published* formulas stand as their source has them; a *reconstruction* stands for one that could not
  be seen, or for words without a formula. What is wrong or doubtful about a formula has a
  [code](../reference/codes/index.md), such as AG511."""


def example_pages(folder: Path) -> dict[str, str]:
    """Path within the site -> text: a page per family of formulas, their index, and every generated module."""
    pages: dict[str, str] = {}
    index = [
        "# Formulas",
        "Published attention and token-mixing formulas, each checked, compiled and compared with plain PyTorch by the "
        "tests. Orders count the sequence axes only; the page of a family shows the polynomials in all sizes. Of the "
        "forms, *recurrent* is `step` with a state of fixed size, *cached* is `step` with a cache of earlier tokens, "
        "*repeated* a `step` that computes the whole sequence again.",
        HOW_TO_READ,
    ]
    for family, about in families(folder).items():
        sources = [read(path) for path in sorted((folder / family).glob("*.attn"))]
        reports = [report for each in sources if isinstance(each, Source) for report in check_source(each)]
        title = family.replace("_", " ").capitalize()
        modules = {f"modules/{report.name}.py": generated_module(report) for report in reports}
        pages |= modules
        entries = [catalogue.entry(report, module=f"../{path}") for report, path in zip(reports, modules, strict=True)]
        pages[f"examples/{family}.md"] = "\n\n".join([f"# {title}", f"{about}.", *entries])
        table = catalogue.table(reports, partial("{0}.md#{1.name}".format, family))
        index += [f"## [{title}]({family}.md)", f"{about}.", table]
    pages["examples/index.md"] = "\n\n".join(index) + "\n"
    return pages


def generated_module(report: Report) -> str:
    """The source that `attngraph compile` prints. Errors: PluginError where there is none."""
    if report.formula is None or report.plan is None:
        raise PluginError(f"{report.name} has mistakes, and no module")
    return emit(report.formula, report.plan, steps=report.steps).source


def pictures(path: Path) -> dict[str, str]:
    """Path within the site -> SVG: the graph of the first formula of a file, as written and as compiled."""
    source = read(path)
    report = check_source(source)[0] if isinstance(source, Source) else None
    if report is None or report.formula is None or report.plan is None:
        raise PluginError(f"{path} cannot be drawn")
    found = {}
    for stage, graph, order in (
        ("written", report.formula.graph, report.written_order),
        ("compiled", report.plan, report.order),
    ):
        loud = superlinear(report.formula, graph)
        found[f"pictures/{path.stem}_{stage}.svg"] = to_svg(graph, subtitle=f"as {stage}, {order}", loud=loud)
    return found


def drawn(markdown: str) -> str:
    """Fences of LaTeX replaced by MathML, which needs no script to be drawn; the LaTeX itself can be unfolded."""
    return re.sub(
        r"^```math\n(.*?)^```$",
        lambda match: f'<div class="math">{mathml(match[1])}</div>\n{_latex(match[1])}',
        markdown,
        flags=re.MULTILINE | re.DOTALL,
    )


def _latex(text: str) -> str:
    # an empty line would end the block of HTML for Markdown
    return f"<details><summary>LaTeX</summary><pre>{html.escape(text.strip())}</pre></details>"


RULE_FAMILIES = {
    "Normalisations": NORMALISATIONS,
    "Functions": FUNCTIONS,
    "Reductions": REDUCTIONS,
    "Masks and choices": LOGIC,
    "Layout": LAYOUT,
    "Arithmetic": ARITHMETIC,
}


def rule_row(rule: Rule) -> str:
    limits = [f"with guards: differs {rule.guard}"] if rule.guard else []
    if rule.when:
        limits.append(f"on a condition, as in `{rule.instance or rule.before}`")
    if rule.opens:
        limits.append("only if more follows")
    return f"| {rule.name} | `{rule.before}` | `{rule.after}` | {prose(rule.why)} | {'; '.join(limits)} |"


def rules_page() -> str:
    """The simplification rules, by family, in the order in which they are tried."""
    lines = [
        "# Rules",
        "Made from `compiler/rules`. Each rule is tested on both sides, and on an expression that looks alike and must "
        "stay as it is. [Equality and simplification](../simplification.md) tells how they are applied.",
    ]
    for family, rules in RULE_FAMILIES.items():
        head = ["| rule | before | after | because | limits |", "| --- | --- | --- | --- | --- |"]
        rows = [*head, *map(rule_row, rules)]
        lines += [f"## {family}", "\n".join(rows)]
    return "\n\n".join(lines) + "\n"


def generated_pages() -> dict[str, str]:
    """Path within the site -> Markdown, of every page that is not written by hand."""
    pages = {
        "reference/operations.md": operations_page(OPS),
        "reference/codes/index.md": codes_page(),
        "reference/rules.md": rules_page(),
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
    }
    for path in sorted((ROOT / "attngraph/codes").glob("AG*.md")):
        # the second word of a fence is for the tests; Markdown knows the first only
        page = re.sub(r"^```attn \w+$", "```attn", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        pages[f"reference/codes/{path.name}"] = page
    return pages | example_pages(ROOT / "examples") | pictures(ROOT / "examples/linear/linear_attention.attn")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    for path, text in generated_pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    return drawn(markdown)


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:
    """A page that would fetch anything from another host when it is opened is an error."""
    fetched = re.findall(r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=[\"'](?:https?:)?//[^\"']+", output)
    if fetched:
        raise PluginError(f"{page.file.src_uri} fetches from elsewhere: {fetched[0]}")
    return output
