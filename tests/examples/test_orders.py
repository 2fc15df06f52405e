"""The growth of every example as written and as compiled, and what its file claims, held to a table.

The table is `orders.txt`: what the papers say of each formula, and what the compiler must reach from its text.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

import attngraph

from .test_examples import FORMULAS

ROWS = [
    tuple(cell.strip() for cell in line.split("|"))
    for line in Path(__file__).with_name("orders.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]


@cache
def _report(name: str) -> attngraph.Report:
    return attngraph.check(attngraph.load(FORMULAS[name][0], name))


def test_the_table_has_every_formula_once() -> None:
    names = [row[0] for row in ROWS]
    assert len(set(names)) == len(names)
    assert set(names) == FORMULAS.keys()


@pytest.mark.parametrize(("name", "written", "compiled", "claims"), ROWS, ids=[row[0] for row in ROWS])
def test_orders_and_claims(name: str, written: str, compiled: str, claims: str) -> None:
    report = _report(name)
    assert report.written_order == written
    assert report.order == compiled
    assert {verdict.text.replace(" ", "") for verdict in report.verdicts} == {
        claim.replace(" ", "") for claim in claims.split(";") if claim
    }
    assert all(verdict.holds for verdict in report.verdicts)
