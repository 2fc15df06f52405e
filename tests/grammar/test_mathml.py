"""MathML: what the LaTeX printer writes, and nothing else, becomes well-formed elements."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings

from attngraph.grammar.ast import Expression, Formula
from attngraph.grammar.latex import latex_expression, latex_formula
from attngraph.grammar.mathml import mathml
from attngraph.grammar.parser import parse_expression
from attngraph.grammar.source import Source
from tests.grammar.strategies import expressions, formulas


def drawn(text: str) -> str:
    """The MathML of an expression, without the element around it."""
    expression, diagnostics = parse_expression(Source("<test>", text))
    assert diagnostics == ()
    assert expression is not None
    return mathml(latex_expression(expression)).removeprefix('<math display="block">').removesuffix("</math>")


def words(text: str) -> str:
    return "".join(ElementTree.fromstring(text).itertext())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", "<mi>x</mi>"),
        ("alpha", "<mi>α</mi>"),
        ("lag", '<mi mathvariant="normal">lag</mi>'),
        ("0.5", "<mn>0.5</mn>"),
        ("a / b", "<mfrac><mi>a</mi><mi>b</mi></mfrac>"),
        ("x^T", "<msup><mi>x</mi><mi>⊤</mi></msup>"),
        ("sqrt(D)", "<msqrt><mi>D</mi></msqrt>"),
        ("a - b", "<mrow><mi>a</mi><mo>−</mo><mi>b</mi></mrow>"),
        ("a < b", "<mrow><mi>a</mi><mo>&lt;</mo><mi>b</mi></mrow>"),
        ("w_1", "<msub><mi>w</mi><mn>1</mn></msub>"),
    ],
)
def test_pieces(text: str, expected: str) -> None:
    assert drawn(text) == expected


def test_the_index_of_a_sum_stands_below_it() -> None:
    assert "<munder><mo" in drawn("sum[M](a)")
    assert "<munder><mi>max</mi>" in drawn("max[M](a)")
    assert "munder" not in drawn("max(a, b)")


def test_brackets_are_as_high_as_what_they_hold() -> None:
    assert 'stretchy="false">(' in drawn("f(a)")
    assert 'stretchy="true">(' in drawn("f(a / b)")


def test_alternatives_stand_behind_a_brace() -> None:
    shown = drawn("where(c < 1, a, b)")
    assert shown.count("<mtr>") == 2
    assert words(shown).replace("\xa0", " ") == "{aif c<1botherwise "


UNKNOWN = (r"\unknown", r"\begin{matrix}a\end{matrix}", r"\frac{a}", "{a", r"\left(a", r"\sqrt a")


@pytest.mark.parametrize("latex", UNKNOWN)
def test_what_the_printer_does_not_write_is_an_error(latex: str) -> None:
    with pytest.raises(ValueError, match=r"LaTeX|MathML"):
        mathml(latex)


@settings(max_examples=80)
@given(expressions())
def test_any_expression_is_well_formed(expression: Expression) -> None:
    ElementTree.fromstring(mathml(latex_expression(expression)))


@settings(max_examples=30, suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow])
@given(formulas())
def test_any_formula_is_well_formed(formula: Formula) -> None:
    """And no LaTeX is left in it."""
    shown = mathml(latex_formula(formula))
    ElementTree.fromstring(shown)
    assert "\\" not in shown


def test_lines_of_a_loop() -> None:
    lines = (r"&\textbf{for } n = 0, \dots, N - 1\colon", r"\quad W &\leftarrow x")
    shown = mathml("\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}")
    assert '<mtext class="strong">for' in shown
    assert words(shown).replace("\xa0", " ") == "for n=0,…,N−1:W←x"
