"""Bad formulas: always an answer, soon, in every format; never an exception that is not for users."""

from __future__ import annotations

import contextlib
import gc
import json
import time
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings

import attngraph
from attngraph.compiler.errors import CompileError
from attngraph.compiler.pipeline import check_source
from attngraph.compiler.report import Report
from attngraph.grammar.codes import CODES
from attngraph.grammar.diagnostics import FormulaError
from attngraph.grammar.source import Source
from attngraph.report import FORMATS, render

from .mutations import WHOLE, mutated_texts

SECONDS = 1.0


def check(text: str) -> tuple[Report, ...]:
    """The reports of a text, each of them sound."""
    source = Source("<hostile>", text)
    gc.disable()  # what thousands of other tests left behind is not the checker's work
    try:
        start = time.process_time()
        reports = check_source(source, require=("linear", "causal"))
        seconds = time.process_time() - start
    finally:
        gc.enable()
    assert seconds < SECONDS, f"{seconds:.1f} s for\n{text}"
    assert reports
    for report in reports:
        assert report.ok or report.diagnostics
        assert (report.formula is not None) or not report.ok
        for diagnostic in report.diagnostics:
            assert diagnostic.code in CODES
            words = diagnostic.message + (diagnostic.suggestion or "")
            assert "{" not in CODES[diagnostic.code].headline or "{" not in diagnostic.message or "{" in text
            assert "None" not in words or "None" in text, words
            for span in (diagnostic.span, *(label.span for label in diagnostic.labels)):
                assert 0 <= span.start <= span.end <= len(text)
    return reports


def render_all(reports: tuple[Report, ...]) -> None:
    """Every format takes every report."""
    for form in FORMATS:
        shown = render(reports, form)
        shown.encode()
        if form in ("json", "sarif"):
            json.loads(shown)
        if form == "junit":
            ElementTree.fromstring(shown)


@settings(max_examples=400)
@given(mutated_texts())
def test_a_mutated_formula_is_answered(text: str) -> None:
    reports = check(text)
    render_all(reports)


@pytest.mark.parametrize("expression", WHOLE)
def test_an_odd_expression_is_answered(expression: str) -> None:
    for tied in ("where M = N", "where N = 2 * M"):
        for result in ("[N, D]", "[N]", ""):
            text = f"attention f(q[N, D], k[M, D], v[M, E]) -> {result or '[]'}:\n    {tied}\n    x1 = {expression}\n    return x1\n"
            reports = check(text)
            render_all(reports)


# What may come back from the public functions for a formula with mistakes, or sizes that do not fit.
REFUSALS = (FormulaError, CompileError)


@settings(max_examples=150)
@given(mutated_texts())
def test_the_public_functions_refuse_in_words(text: str) -> None:
    with contextlib.suppress(FormulaError):
        formula = attngraph.parse(text)
        attngraph.check(formula)
        attngraph.explain(formula)
        with contextlib.suppress(*REFUSALS):
            attngraph.compile(formula)


@settings(max_examples=60)
@given(mutated_texts())
def test_a_mutated_formula_compiles_for_given_sizes(text: str) -> None:
    """With the sizes that it asks for, a sound formula gives a module, or words that say why not."""
    for report in check(text):
        if report.formula is None or not report.ok:
            continue
        sizes = dict.fromkeys(report.formula.fixed, 4)
        with contextlib.suppress(*REFUSALS):
            attngraph.compile(text, name=report.name, sizes=sizes)


def test_a_called_formula_does_not_see_names_of_its_caller() -> None:
    """The caller's parameter would have hidden the mistake, and the caller would have seemed sound."""
    inner = "attention inner(x[N, C]) -> [N, C]:\n    return x @ w\n\n"
    outer = "attention outer(x[N, C]) -> [N, C]:\n    param w[C, F]\n    y = inner(x)\n    return y + sum[F](w)\n"
    for report in check(inner + outer):
        assert "AG202" in [diagnostic.code for diagnostic in report.diagnostics]


def test_a_caller_of_a_formula_that_cannot_be_read_is_not_sound() -> None:
    inner = "attention inner(x[N, C]) -> [N, C]:\n    param w[C F]\n    return x\n\n"
    outer = "attention outer(x[N, C]) -> [N, C]:\n    param w[C, F]\n    return inner(x) + sum[F](w)\n"
    *_, report = check(inner + outer)
    assert [diagnostic.code for diagnostic in report.diagnostics if diagnostic.severity.value == "error"] == ["AG279"]
