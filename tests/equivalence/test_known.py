"""Forms of published mechanisms that are known to be equal, and those that are not although their names suggest it."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from attngraph.compiler.equivalence import Equivalence, Side, Verdict, equivalent
from attngraph.compiler.pipeline import check_source, read
from attngraph.grammar.source import Source
from benchmarks import examples

from .rows import DIFFERENT, EQUAL, EVERYWHERE, FURTHER, Row

KNOWN = Path(__file__).parent / "known"


def _sides() -> dict[str, Side]:
    found: dict[str, Side] = {}
    for path in (*examples.FILES, *sorted(KNOWN.glob("*.attn"))):
        source = read(path)
        assert isinstance(source, Source)
        for report in check_source(source):
            assert report.formula is not None, (path, [d.message for d in report.diagnostics])
            found[report.name] = Side(report.formula, report.formula.graph)
    return found


SIDES = _sides()


def compare(left: str, right: str) -> Equivalence:
    return equivalent(SIDES[left], SIDES[right])


ROWS = (*EQUAL, *FURTHER)
PROVED = tuple(dict.fromkeys(pair for row in ROWS for pair in row.proved))
GUARDED = tuple(pair for row in ROWS for pair in row.guarded)
OPEN = tuple(pair for row in ROWS for pair, _ in row.open)
WRITTEN = {*PROVED, *GUARDED, *OPEN, *DIFFERENT}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.left} = {row.right}")
def test_every_row_is_held_by_something(row: Row) -> None:
    assert row.proved or row.guarded or row.open or row.tests
    for name in row.tests:
        file, function = name.split(".")
        assert hasattr(importlib.import_module(f"tests.examples.{file}"), function), name


def test_every_known_form_is_compared() -> None:
    """No formula of `known` stands there for nothing; some are called by others."""
    own = {name for name, side in SIDES.items() if side.formula.source.name.startswith(str(KNOWN))}
    called = {each.tree.name for side in SIDES.values() for each in side.formula.called}
    assert own - {name for pair in WRITTEN for name in pair} <= called


@pytest.mark.parametrize(("left", "right"), PROVED)
def test_known_to_be_equal(left: str, right: str) -> None:
    found = compare(left, right)
    assert found.verdict is Verdict.PROVED, found
    assert found.everywhere is ((left, right) in EVERYWHERE)


@pytest.mark.parametrize(("left", "right"), GUARDED)
def test_known_to_be_equal_where_no_epsilon_acts(left: str, right: str) -> None:
    found = equivalent(SIDES[left], SIDES[right], guards=True)
    assert found.verdict is Verdict.PROVED, found
    assert found.everywhere
    assert "where no epsilon acts" in found.confidence


@pytest.mark.parametrize(("left", "right"), OPEN)
def test_equal_without_proof(left: str, right: str) -> None:
    found = compare(left, right)
    assert found.verdict is Verdict.UNKNOWN, found
    assert found.sizes


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_not_equal(left: str, right: str) -> None:
    found = compare(left, right)
    assert found.verdict is Verdict.DIFFERENT, found
    assert found.counterexample is not None
    assert found.counterexample.left != found.counterexample.right
