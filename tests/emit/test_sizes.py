"""Sizes as Python expressions, and which names become arguments of the constructor."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import attngraph
from attngraph.compiler import pyast
from attngraph.compiler.emit.settle import plan_sizes
from attngraph.compiler.emit.sizes import number, over_common_denominator, whole
from attngraph.compiler.lowerings import at_once, logarithms
from attngraph.compiler.sizes import Poly, in_digits

from .formulas import GROUPED, ROTATED, WINDOW, typed

N, M, W = (Poly.symbol(name) for name in ("N", "M", "W"))


def value(code: ast.expr, sizes: dict[str, int], digits: Callable[[int, int], int] = logarithms.digits) -> float:
    # the code is made of names, numbers and operators by the function under test
    expression = compile(ast.fix_missing_locations(ast.Expression(code)), "<size>", "eval")
    return float(eval(expression, {"math": math, "max": max, "min": min, "digits": digits}, sizes))  # noqa: S307


atoms = st.sampled_from([N, M, W, Poly.constant(2), Poly.constant(Fraction(3, 7)), Poly.constant(-5)])
polys = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: p[0] + p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] - p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] * p[1]),
        st.tuples(inner, st.sampled_from([N, M * W, Poly.constant(3)])).map(lambda p: p[0] / p[1]),
        st.tuples(inner, st.sampled_from([W, Poly.constant(4)])).map(lambda p: p[0] // p[1]),
        inner.map(lambda p: Poly.function("ceil", p)),
        st.tuples(inner, inner).map(lambda p: Poly.function("max", *p)),
    ),
    max_leaves=6,
)


@given(polys, st.integers(1, 40), st.integers(1, 40), st.integers(1, 7))
def test_expressions_mean_the_size(size: Poly, n: int, m: int, w: int) -> None:
    sizes = {"N": n, "M": m, "W": w}
    expected = float(size.evaluate(sizes))
    assert value(number(size, pyast.name), sizes) == pytest.approx(expected, rel=1e-12, abs=1e-9)
    numerator, denominator = over_common_denominator(size)
    quotient = Fraction(numerator.evaluate(sizes)) / Fraction(denominator.evaluate(sizes))
    assert float(quotient) == pytest.approx(expected, rel=1e-12, abs=1e-9)
    code = whole(size, pyast.name)
    if expected == int(expected):
        assert value(code.expression, sizes) == expected


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (N * M, "M * N"),
        (N // W, "N // W"),
        (N / 2, "N / 2"),
        (N * N - M + 1, "N * N + 1 - M"),
        (Poly.constant(Fraction("0.1")), "0.1"),
        (Poly.function("ceil", N / W), "-(-N // W)"),
        (Poly.function("sqrt", N), "N ** 0.5"),
        (-N, "-N"),
        (Poly.constant(0), "0"),
    ],
)
def test_expressions_read_well(size: Poly, text: str) -> None:
    assert ast.unparse(number(size, pyast.name)) == text


LOG = "log"
TEN = Poly.constant(10)


def logarithm(rounded: str, size: Poly, base: Poly) -> Poly:
    return Poly.function(rounded, Poly.function(LOG, size) / Poly.function(LOG, base))


@pytest.mark.parametrize("base", [2, 3, 10])
def test_rounded_logarithms_of_sizes_are_exact(base: int) -> None:
    """Where floating-point numbers are not, as of 1000 in base 10: at every power and next to it, by both functions."""
    lengths = sorted({n for k in range(40) for n in (base**k - 1, base**k, base**k + 1) if 1 <= n < 2**62})
    below, above = (logarithm(rounded, N, Poly.constant(base)) for rounded in ("floor", "ceil"))
    codes = [number(size, pyast.name) for size in (below, above)]
    for n in lengths:
        down = next(k for k in range(64) if base ** (k + 1) > n)
        up = next(k for k in range(64) if base**k >= n)
        assert [below.evaluate({"N": n}), above.evaluate({"N": n})] == [down, up]
        for digits in (logarithms.digits, at_once.digits):
            assert [value(code, {"N": n}, digits) for code in codes] == [down, up]


def test_only_logarithms_that_count_digits_are_counted() -> None:
    declined = [
        logarithm("floor", N, Poly.constant(Fraction(5, 2))),  # no whole base
        logarithm("floor", N, M),
        logarithm("floor", N, Poly.constant(1) / 2),
        logarithm("floor", N - 3, TEN),  # may be no number from 1 on
        logarithm("floor", N / 2, TEN),
        Poly.function("floor", 2 * Poly.function(LOG, N) / Poly.function(LOG, TEN)),
        Poly.function("floor", Poly.function(LOG, N)),
        Poly.function("floor", Poly.function("sqrt", N) / Poly.function(LOG, TEN)),
    ]
    atoms = [next(iter(size.terms))[0][0] for size in declined]
    assert [in_digits(atom) for atom in atoms] == [None] * len(atoms)  # type: ignore[arg-type]
    sum_of_both = 3 * logarithm("floor", N * M + 1, TEN) * W + 4
    assert ast.unparse(number(sum_of_both, pyast.name)) == "3 * W * digits(M * N + 1, 10) + 4 - 3 * W"


def test_where_sizes_come_from() -> None:
    plan = plan_sizes(typed(ROTATED)[0])
    assert plan.given == ("H", "D")
    assert {axis: str(size) for axis, size in plan.settled.items()} == {"C": "D*H", "C2": "D*H"}
    assert plan.constants == {"base": 100.0}
    assert list(plan.sources) == ["N"]

    plan = plan_sizes(typed(GROUPED)[0])
    assert plan.given == ()
    assert {axis: str(size) for axis, size in plan.derived.items() if axis == "R"} == {"R": "H/G"}
    assert [plan.sources[axis][1] for axis in ("H", "G")] == [-3, -3]

    plan = plan_sizes(typed(WINDOW)[0])
    assert [(str(r.left), r.relation, str(r.right)) for r in plan.calling] == [("M", "=", "N")]


def test_axes_of_inputs_that_facts_fix() -> None:
    text = """attention three(x[N, R], y[N, R]) -> [N]:
    where R = 3
    return sum[R](x * y)
"""
    plan = plan_sizes(typed(text)[0])
    assert plan.given == ()
    assert str(plan.settled["R"]) == "3"


NUMBERS = (
    "exp(N)", "2^N", "N^N", "N^N^N", "(0 - 2)^N", "2^(-N)", "sinh(N)", "sqrt(1 - N)", "(1 - N)^0.5", "(1 - N)^(1 / 3)",
    "1 / (N - N)", "(0 - 1) / (N - N)", "1 / (N - D)", "rsqrt(N - N)", "log(N - N)", "log(1 - N)", "acos(N)", "N^0.5",
    "1 / (2^N - 2^N)", "sqrt(sqrt(N))", "1 / sqrt(N)", "sqrt(max(N - 3000, 0))",
)  # fmt: skip


@pytest.mark.parametrize("expression", NUMBERS)
@pytest.mark.parametrize("length", [1, 2000])
def test_numbers_of_sizes_are_what_tensors_give(expression: str, length: int) -> None:
    """Infinite or NaN where they leave their range, and never a complex number or an error of Python."""
    header = "attention f(x[N, D]) -> [N, D]:\n"
    plain = attngraph.compile(f"{header}    return x * ({expression})\n")
    as_tensors = re.sub(r"\bN\b(?!\])", "n", expression)
    tensors = attngraph.compile(f"{header}    n = max[N](pos(N) + 1 + 0 * x)\n    return x * ({as_tensors})\n")
    x = torch.ones(length, 1, dtype=torch.float64)
    found = plain(x)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, tensors(x), equal_nan=True, rtol=1e-12, atol=0)
