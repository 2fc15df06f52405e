"""LaTeX: what a paper would print, and always well formed."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings

from attngraph.grammar.ast import Expression, Formula
from attngraph.grammar.latex import latex_expression, latex_formula, latex_index, latex_name
from attngraph.grammar.parser import parse, parse_expression
from attngraph.grammar.source import Source
from tests.grammar.strategies import expressions, formulas


def latex(text: str, **ranks: int) -> str:
    expression, diagnostics = parse_expression(Source("<test>", text))
    assert diagnostics == ()
    assert expression is not None
    return latex_expression(expression, ranks)


def assert_balanced(text: str) -> None:
    """Braces, `\\left` and environments match, and no piece has two subscripts or superscripts side by side."""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        assert depth >= 0, text
    assert depth == 0, text
    assert len(re.findall(r"\\left(?![a-z])", text)) == len(re.findall(r"\\right(?![a-z])", text)), text
    assert sorted(re.findall(r"\\begin\{(\w+)", text)) == sorted(re.findall(r"\\end\{(\w+)", text)), text
    flat = text
    while (inner := re.sub(r"\{[^{}]*\}", "@", flat)) != flat:
        assert not re.search(r"_@\s*_|\^@\s*\^", inner), text
        flat = inner


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a / b", r"\frac{a}{b}"),
        ("x^T", r"x^{\top}"),
        ("(x^T)^2", r"\left(x^{\top}\right)^{2}"),
        ("2^(-5 - pos(H))", "2^{-5 - h}"),
        ("sum[M](a * b) + c", r"\sum_{m} a \, b + c"),
        ("sum[M](a + b) * c", r"\left(\sum_{m} \left(a + b\right)\right) \, c"),
        ("c * sum[Y, X](a)", r"c \, \sum_{y, x} a"),
        ("softmax[M](s)", r"\mathrm{softmax}_{m}\left(s\right)"),
        ("softmax[M](s, mask=c)", r"\mathrm{softmax}_{m}\left(s;\, \mathrm{mask} = c\right)"),
        ("layer_norm[C2](x)", r"{\mathrm{layer\_norm}}_{c_{2}}\left(x\right)"),
        ("where(c, a, -inf)", r"\begin{cases} a & \text{if } c \\ -\infty & \text{otherwise} \end{cases}"),
        ("norm[D](x)", r"\left\Vert x \right\Vert_{2}"),
        ("abs(x)", r"\left| x \right|"),
        ("sqrt(D)", r"\sqrt{D}"),
        ("x[N -> M]", r"{x}_{n \to m}"),
        ("a - (b - c)", r"a - \left(b - c\right)"),
        ("a * -b", r"a \, \left(-b\right)"),
        ("n // 7 % 2", r"\left\lfloor \frac{n}{7} \right\rfloor \bmod 2"),
        ("1e-6", "10^{-6}"),
        ("2.5e+3 * x", r"2.5 \cdot 10^{3} \, x"),
        ("x * 3", r"x \cdot 3"),
        ("not (a < b)", r"\neg a < b"),
        ("a <= b and c", r"a \leq b \wedge c"),
        ("mean[M](x)", r"\frac{1}{M} \sum_{m} x"),
        ("sigmoid(gamma)", r"\sigma\left(\gamma\right)"),
    ],
)
def test_constructs(text: str, expected: str) -> None:
    assert latex(text) == expected
    assert_balanced(expected)


def test_elementwise_product_of_tensors() -> None:
    assert latex("a * b", a=2, b=2) == r"a \odot b"
    assert latex("a * b", a=2) == r"a \, b"
    assert latex("(a * b) @ v", a=2, b=2, v=2) == r"\left(a \odot b\right) \, v"
    assert latex("a @ b * c", a=2, b=2, c=2) == r"a \, b \odot c"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("q", "q"),
        ("gamma", r"\gamma"),
        ("lam", r"\lambda"),
        ("lag", r"\mathrm{lag}"),
        ("w_pos", r"w_{\mathrm{pos}}"),
        ("k1", "k_{1}"),
        ("bn_q_g", r"\mathrm{bn}_{q, g}"),
        ("phi_q", r"\phi_{q}"),
    ],
)
def test_names(name: str, expected: str) -> None:
    assert latex_name(name) == expected


def test_indices() -> None:
    assert [latex_index(axis) for axis in ("N", "Ky", "C2", "LENGTH")] == ["n", "k_{y}", "c_{2}", r"\mathrm{length}"]


def test_formula() -> None:
    text = (
        "attention retention(q[H, N, D], k[H, M, D], v[H, M, E]) -> [H, N, E]:\n"
        "    where M = N\n"
        "    phi(x) = elu(x) + 1\n"
        "    gamma = 1 - 2^(-5 - pos(H))\n"
        "    lag = pos(N) - pos(M)\n"
        "    return ((phi(q) @ k^T) * where(lag >= 0, gamma^lag, 0)) @ v\n"
    )
    file, diagnostics = parse(Source("<test>", text))
    assert diagnostics == ()
    assert latex_formula(file.formulas[0]) == "\n".join(
        [
            r"\begin{aligned}",
            r"\phi\left(x\right) &= \mathrm{elu}\left(x\right) + 1 \\",
            r"\gamma &= 1 - 2^{-5 - h} \\",
            r"\mathrm{lag} &= n - m \\",
            r"\mathrm{retention}\left(q, k, v\right) &= \left(\phi\left(q\right) \, k^{\top} \odot "
            r"\left(\begin{cases} \gamma^{\mathrm{lag}} & \text{if } \mathrm{lag} \geq 0 \\ 0 & \text{otherwise} "
            r"\end{cases}\right)\right) \, v",
            r"\end{aligned}",
        ]
    )


@settings(max_examples=200)
@given(expressions())
def test_any_expression_is_balanced(expression: Expression) -> None:
    assert_balanced(latex_expression(expression))


@settings(max_examples=50, suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow])
@given(formulas())
def test_any_formula_is_balanced(formula: Formula) -> None:
    assert_balanced(latex_formula(formula))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(expressions(3))
def test_mathtext_reads_it(expression: Expression) -> None:
    """A TeX reader of its own accepts every construct that it knows (it has no environments and no `\\bmod`)."""
    mathtext = pytest.importorskip("matplotlib.mathtext")
    text = latex_expression(expression)
    known = re.sub(r"\\begin\{cases\}|\\end\{cases\}|\\\\|&", "", text)
    known = known.replace(r"\bmod", r"\%").replace(r"\text", r"\mathrm")
    mathtext.MathTextParser("path").parse(f"${known}$")
