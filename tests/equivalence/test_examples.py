"""The plan and the simplified text of every example, compared with the formula as written.

Nothing may differ. What is proved stands in `tests/golden/equivalence.txt`, so that a proof that is lost is seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from attngraph.compiler.equivalence import Side, Verdict, equivalent
from attngraph.compiler.pipeline import check_source, read
from attngraph.compiler.report import Report
from attngraph.compiler.simplify import simplify
from attngraph.grammar.source import Source
from benchmarks import examples

HEADER = """\
# The plan of each example, its simplified text, and the same with guards, compared with the formula as written:
# proved or unknown; `-` where nothing is simplified. Rules take no part in the proofs.
"""


def reports() -> list[Report]:
    sources = [read(path) for path in examples.FILES]
    return [report for source in sources if isinstance(source, Source) for report in check_source(source)]


def plan_verdict(report: Report) -> Verdict:
    assert report.formula is not None
    assert report.plan is not None
    written, planned = Side(report.formula, report.formula.graph), Side(report.formula, report.plan)
    return equivalent(written, planned, rules=False).verdict


def simplified_verdict(report: Report, *, guards: bool) -> Verdict | None:
    """None where nothing is simplified. A rule with a guard may change values where the guard acts."""
    assert report.formula is not None
    found = simplify(report.formula, guards=guards)
    if not found.steps:
        return None
    [after] = (r for r in check_source(Source("<simplified>", found.text)) if r.name == report.name)
    assert after.formula is not None
    sides = Side(report.formula, report.formula.graph), Side(after.formula, after.formula.graph)
    return equivalent(*sides, rules=False, guards=guards).verdict


def word(verdict: Verdict | None) -> str:
    return "-" if verdict is None else verdict.value


@pytest.mark.slow
def test_every_example(golden: Callable[[str, str], None]) -> None:
    lines = []
    counts: Counter[tuple[str, str]] = Counter()
    for report in reports():
        verdicts = {
            "plan": plan_verdict(report),
            "simplified": simplified_verdict(report, guards=False),
            "with guards": simplified_verdict(report, guards=True),
        }
        for way, verdict in verdicts.items():
            assert verdict is not Verdict.DIFFERENT, (report.name, way)
            counts[way, word(verdict)] += 1
        lines.append(f"{report.name:36} {'  '.join(f'{word(v):8}' for v in verdicts.values()).rstrip()}\n")
    assert counts["plan", "unknown"] == 0
    assert counts["simplified", "unknown"] <= 1
    assert counts["with guards", "unknown"] <= 1
    golden("equivalence.txt", HEADER + "".join(sorted(lines)))
