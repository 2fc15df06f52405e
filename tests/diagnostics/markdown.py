"""Markdown tests: a text and the exact report it gets, side by side in a file that reads as documentation.

A case is a heading `## title`, a block ```attn with the text, and a block ```text with what `check` prints for it.
`pytest --update-golden` writes the second block.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from attngraph.compiler.pipeline import check_source
from attngraph.compiler.report import Report
from attngraph.grammar.diagnostics import Diagnostic
from attngraph.grammar.source import Source
from attngraph.report import render_diagnostics

NAME = "formula.attn"
USED = "kernels.attn"
BLOCK = re.compile(r"^```(?P<info>[a-z ]+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^## (?P<title>.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Case:
    """title: the heading. text: the formula file. expected: the report. span: where the report's body stands."""

    title: str
    text: str
    expected: str
    span: tuple[int, int]


def blocks(page: str) -> dict[str, re.Match[str]]:
    """The fenced blocks of a page by their info string, which must differ."""
    found = {match["info"]: match for match in BLOCK.finditer(page)}
    assert len(found) == len(list(BLOCK.finditer(page))), "two blocks of one kind"
    return found


def cases(path: Path) -> list[Case]:
    page = path.read_text(encoding="utf-8")
    headings = [*HEADING.finditer(page)]
    ends = [*(heading.start() for heading in headings[1:]), len(page)]
    found = []
    for heading, end in zip(headings, ends, strict=True):
        matches = {match["info"]: match for match in BLOCK.finditer(page, heading.end(), end)}
        assert set(matches) == {"attn", "text"}, f"{path.name}: `{heading['title']}` needs one ```attn and one ```text"
        wrong, shown = matches["attn"], matches["text"]
        found.append(Case(heading["title"], wrong["body"], shown["body"], shown.span("body")))
    return found


def reports(text: str, used: str | None = None) -> tuple[Report, ...]:
    """used: the text of `kernels.attn` beside it."""
    if used is None:
        return check_source(Source(NAME, text))
    with TemporaryDirectory() as folder:
        (Path(folder) / USED).write_text(used, encoding="utf-8")
        return check_source(Source(NAME, text, Path(folder)))


def findings(text: str, used: str | None = None) -> list[Diagnostic]:
    return [diagnostic for report in reports(text, used) for diagnostic in report.diagnostics]


def rendered(text: str, used: str | None = None) -> str:
    """What `check` prints for a text, without the table."""
    return render_diagnostics(findings(text, used)) + "\n"


def with_bodies(page: str, bodies: dict[tuple[int, int], str]) -> str:
    """The page with other text at some places."""
    for (start, end), body in sorted(bodies.items(), reverse=True):
        page = page[:start] + body + page[end:]
    return page
