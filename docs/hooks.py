"""The part of the documentation that is made, not written: operations, diagnostic codes, examples.

mkdocs calls `on_files` before and `on_post_page` after it renders; the rest are pure functions from
the project's own data to Markdown.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from attngraph.compiler.ops import OPS
from attngraph.compiler.ops.base import Brackets, Op
from attngraph.grammar.ast import Claim, Formula, Require
from attngraph.grammar.codes import CODES
from attngraph.grammar.parser import parse
from attngraph.grammar.printer import format_expression
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
        parts.append(f"In brackets: {op.brackets.value}.")
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


def claim_text(claim: Claim) -> str:
    return claim.name if claim.bound is None else f"{claim.name} O({format_expression(claim.bound)})"


def formula_row(formula: Formula, page: str) -> str:
    summary = " ".join((formula.docstring or "").strip().split("\n\n")[0].split()).replace("|", "\\|")
    claims = [claim for statement in formula.statements if isinstance(statement, Require) for claim in statement.claims]
    promised = ", ".join(f"`{claim_text(claim)}`" for claim in claims)
    return f"| [{formula.name}]({page}) | {prose(summary)} | {promised} |"


def example_pages(folder: Path) -> dict[str, str]:
    """Path within the site -> Markdown: one page per example file, and the index of their formulas."""
    pages, rows = {}, []
    for path in sorted(folder.glob("**/*.attn")):
        name = path.relative_to(folder).with_suffix("").as_posix().replace("/", "-")
        text = path.read_text(encoding="utf-8")
        tree, _ = parse(Source(path.name, text))
        rows += [formula_row(formula, f"{name}.md") for formula in tree.formulas]
        pages[f"examples/{name}.md"] = f"# {path.name}\n\n```\n{text.rstrip()}\n```\n"
    intro = "Every file here is checked, compiled and compared with its own dense evaluation by the tests."
    table = "\n".join(["| formula | what it is | promises |", "| --- | --- | --- |", *rows])
    pages["examples/index.md"] = f"# Examples\n\n{intro}\n\n{table}\n"
    return pages


def generated_pages() -> dict[str, str]:
    """Path within the site -> Markdown, of every page that is not written by hand."""
    pages = {
        "reference/operations.md": operations_page(OPS),
        "reference/codes/index.md": codes_page(),
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
    }
    for path in sorted((ROOT / "attngraph/codes").glob("AG*.md")):
        # the second word of a fence is for the tests; Markdown knows the first only
        page = re.sub(r"^```attn \w+$", "```attn", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        pages[f"reference/codes/{path.name}"] = page
    return pages | example_pages(ROOT / "examples")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    for path, text in generated_pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:
    """A page that would fetch anything from another host when it is opened is an error."""
    fetched = re.findall(r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=[\"'](?:https?:)?//[^\"']+", output)
    if fetched:
        raise PluginError(f"{page.file.src_uri} fetches from elsewhere: {fetched[0]}")
    return output
