"""However wrong a text is, the answer is short and comes soon."""

from __future__ import annotations

import time

import pytest

from tests.diagnostics.markdown import findings, rendered

LINES = 5000
HEADER = "attention f(x[N, D]) -> [N, D]:\n"
RETURN = "    return x\n"
SECONDS = 2.0  # of processor time; a second here, and room for a slower machine


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("    y{i} = undefined{i} + x\n", "AG202"),
        ("    y{i} = softmaxx{i}(x)\n", "AG203"),
        ("    y{i} = sum[K{i}](x)\n", "AG204"),
        ("    y{i} = x @ x\n", "AG201"),
        ("    y = x\n", "AG262"),
        ("    param p[N, D]\n", "AG262"),
        ("    const c = 1\n", "AG262"),
        ("    where A{i} = A{i} + 1\n", "AG301"),
        ("    y{i} = = 2\n", "AG110"),
    ],
)
def test_thousands_of_errors_are_cut_short(line: str, code: str) -> None:
    text = HEADER + "".join(line.format(i=i) for i in range(LINES)) + RETURN
    started = time.process_time()
    found = findings(text)
    shown = rendered(text)
    assert time.process_time() - started < SECONDS
    assert {finding.code for finding in found} == {code, "AG009"}
    assert len(found) == 101
    assert [finding.code for finding in found].index("AG009") == 100
    assert len(shown) < 100_000


@pytest.mark.parametrize("fact", ["A{i} = N + {i}", "A{i} = A{j} + 1", "N >= {i}"])
def test_facts_are_limited(fact: str) -> None:
    text = HEADER + "".join(f"    where {fact.format(i=i, j=i + 1)}\n" for i in range(LINES)) + RETURN
    started = time.process_time()
    assert [finding.code for finding in findings(text)] == ["AG006"]
    assert time.process_time() - started < SECONDS


def test_a_hundred_errors_are_all_shown() -> None:
    text = HEADER + "".join(f"    y{i} = undefined{i}\n" for i in range(100)) + RETURN
    assert [finding.code for finding in findings(text)] == ["AG202"] * 100


def test_warnings_are_not_counted() -> None:
    text = HEADER + "".join(f"    y{i} = x + {i}\n" for i in range(300)) + RETURN
    assert [finding.code for finding in findings(text)] == ["AG502"] * 300
