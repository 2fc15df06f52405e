"""Every example, ready to be run at small sizes, for tests that compare a fact with what running shows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

import attngraph
from attngraph.compiler.formula import Formula
from attngraph.compiler.pipeline import check_source
from attngraph.compiler.report import Report
from attngraph.grammar.source import Source
from tests.examples.cases import EXAMPLES
from tests.examples.test_examples import FORMULAS, Call, _prepare

NAMES = tuple(FORMULAS)


def report_of(text: str) -> Report:
    """The report of a text without mistakes that holds one formula."""
    (report,) = check_source(Source("f.attn", text))
    assert report.ok, [diagnostic.message for diagnostic in report.diagnostics]
    return report


def formula_of(text: str) -> Formula:
    formula = report_of(text).formula
    assert formula is not None
    return formula


@cache
def example(name: str) -> Report:
    path, _ = FORMULAS[name]
    return attngraph.check(attngraph.load(path, name))


def typed(name: str) -> Formula:
    formula = example(name).formula
    assert formula is not None
    return formula


@cache
def call(name: str, base: int = -1) -> Call:
    """A module in float64 with drawn parameters, and inputs; base: which sizes."""
    torch.manual_seed(len(name))
    case = EXAMPLES[name]
    bases = case.bases
    number = base % len(bases)
    return _prepare(name, bases[number], case.consts[number % len(case.consts)])


def named_inputs(name: str, given: Call) -> Mapping[str, Tensor]:
    return {node.op.name: x for node, x in zip(typed(name).inputs, given.inputs, strict=True)}  # type: ignore[attr-defined]
