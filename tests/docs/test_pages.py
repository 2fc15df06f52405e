"""The written pages tell the truth: formulas check, sessions and commands print what they show.

A formula below a paragraph that names `file.attn` and ends in a colon is saved under that name, in a folder of the
page's own; the Python sessions and the commands of the page run there, in order. A block marked `attn-error` is a
formula that must not check.
"""

from __future__ import annotations

import doctest
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from attngraph.compiler.pipeline import check_source, read
from attngraph.grammar.source import Source

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
IDS = [page.name for page in PAGES]


class Block(NamedTuple):
    language: str
    text: str
    line: int
    file: str | None
    """The file that the paragraph above names, if it ends in a colon."""


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^```([\w-]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        before = text[: match.start()].rstrip()
        paragraph = before.rpartition("\n\n")[2]
        named = re.findall(r"`([\w-]+\.attn)`", paragraph) if paragraph.endswith(":") else []
        yield Block(match[1], match[2], text.count("\n", 0, match.start()) + 2, named[-1] if named else None)


def run_session(block: Block, page: Path, names: dict[str, object]) -> None:
    test = doctest.DocTestParser().get_doctest(block.text, names, page.name, str(page), block.line - 1)
    report: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=report.append, clear_globs=False)
    assert not report, "".join(report)
    names.update(test.globs)


def run_commands(block: Block, folder: Path) -> None:
    """Each `$ attngraph ...` and the output below it; without output shown, only success is asked."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        program, *arguments = shlex.split(command)
        assert program == "attngraph"
        result = subprocess.run(
            [sys.executable, "-m", "attngraph", *arguments],
            cwd=folder, capture_output=True, text=True, timeout=120, check=False,
            env={"PYTHONPATH": str(ROOT), "NO_COLOR": "1", "PATH": ""},
        )  # fmt: skip
        assert result.returncode == int("error[" in expected), result.stdout + result.stderr
        if expected.strip():
            assert result.stdout.rstrip() == expected.rstrip()


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, block in enumerate(blocks(page)):
        if block.language in ("attn", "attn-error"):
            path = tmp_path / (block.file or f"block{number}.attn")
            path.write_text(block.text, encoding="utf-8")
            source = read(path)
            assert isinstance(source, Source)
            found = check_source(source)
            assert all(report.ok for report in found) == (block.language == "attn"), [r.diagnostics for r in found]
        elif block.language == "pycon":
            run_session(block, page, names)
        elif block.language == "console":
            run_commands(block, tmp_path)


def test_the_tutorial_has_something_to_run() -> None:
    languages = {block.language for block in blocks(ROOT / "docs/tutorial.md")}
    assert {"attn", "attn-error", "pycon", "console"} <= languages


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    """mkdocs checks the links of the site; these two pages are read in the repository."""
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [target for target in targets if not (ROOT / target).exists()] == []
