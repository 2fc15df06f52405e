"""Every case of tests/diagnostics/*.md: the exact report of a wrong formula."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.diagnostics.markdown import Case, cases, findings, rendered, with_bodies

FOLDER = Path(__file__).parent
PAGES = sorted(FOLDER.glob("*.md"))
CASES = [(path, case) for path in PAGES for case in cases(path)]


@pytest.mark.parametrize(("path", "case"), [pytest.param(p, c, id=f"{p.stem}: {c.title}") for p, c in CASES])
def test_report(path: Path, case: Case, request: pytest.FixtureRequest) -> None:
    shown = rendered(case.text)
    if request.config.getoption("--update-golden"):
        current = next(each for each in cases(path) if each.title == case.title)
        page = with_bodies(path.read_text(encoding="utf-8"), {current.span: shown})
        path.write_text(page, encoding="utf-8")
        return
    assert shown == case.expected


def test_titles_are_unique() -> None:
    titles = [(path.stem, case.title) for path, case in CASES]
    assert len(titles) == len(set(titles))


def test_there_are_many_and_none_is_fine() -> None:
    assert len(CASES) >= 40
    assert all(findings(case.text) for _, case in CASES)


def test_no_case_is_a_bug() -> None:
    assert not [case.title for _, case in CASES if "AG9" in {finding.code[:3] for finding in findings(case.text)}]
