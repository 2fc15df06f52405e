"""Bounds of single expressions: what is known, and near misses of which nothing may be said."""

from __future__ import annotations

import math

import pytest

from attngraph.compiler.facts.ranges import ANY, Range, ranges

from .probes import formula_of

HEADER = "attention f(x[N, D], y[N, D], z[N, D] complex) -> [N, D]:\n"


def bounds(body: str) -> Range:
    formula = formula_of(f"{HEADER}    return {body} + 0 * (x + y + real(z))\n")
    (output,) = formula.graph.outputs
    return ranges(output.inputs, formula.constants)[output.inputs[0]]


@pytest.mark.parametrize(
    "body", ["real(z * z)", "real(z^2)", "real(exp(z))", "real(square(z) + 1)", "real(z * z + 1)", "imag(z / 2)"]
)
def test_a_complex_value_has_no_bounds(body: str) -> None:
    assert bounds(body) == ANY
    formula = formula_of(f"{HEADER}    return {body} + 0 * (x + y + real(z))\n")
    found = ranges(formula.graph.outputs, formula.constants)
    complex_ = [node for node in formula.graph if node.type.kind.value == "complex" and node.type.batched]
    assert {found[node] for node in complex_} == {ANY}


def test_what_overflows_is_not_the_same_for_all_inputs() -> None:
    for body in ("exp(x^2 + 1000)", "exp(x^2 + 1000) * exp(y^2 + 1000)", "exp(x^2 + 700) + exp(y^2 + 1000)"):
        found = bounds(body)
        assert 0 < found.low < math.inf
        assert found.high == math.inf
    for body in ("exp(x^2 + 1000) - exp(y^2 + 1000)", "0 / relu(x) - exp(x^2 + 1000)"):
        assert not math.isnan(bounds(body).low)
    assert bounds("relu(y) * exp(x^2 + 1000)").low == 0


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("sigmoid(x) * tanh(y) + (1 - sigmoid(x)) * sigmoid(y)", Range(-1.0, 1.0)),
        ("(1 - sigmoid(x)) * tanh(y) + sigmoid(x) * tanh(x)", Range(-1.0, 1.0)),
        ("x * tanh(y) + (1 - x) * tanh(y)", ANY),  # no fraction
        ("sigmoid(x) * tanh(y) + (1 - sigmoid(y)) * tanh(x)", Range(-2.0, 2.0)),  # not what is left of it
        ("sigmoid(x) + (1 - sigmoid(x)) * sigmoid(y)", Range(0.0, 1.0, True)),  # a gate with a lower bound
        ("sigmoid(y) * (1 - sigmoid(x)) + sigmoid(x)", Range(0.0, 1.0, True)),
        ("sigmoid(x) + (1 - sigmoid(x)) * tanh(y)", Range(-1.0, 1.0, True)),
        ("x + (1 - x) * sigmoid(y)", ANY),
        ("sigmoid(x) + (1 - sigmoid(y)) * sigmoid(x)", Range(0.0, 2.0, True)),
        ("sum[D](x * x)", Range(0.0)),
        ("sum[D](x * y)", ANY),
        ("tanh(x)^2", Range(0.0, 1.0)),
        ("(tanh(x) + tanh(y))^4", Range(0.0, 16.0)),
        ("x^2", Range(0.0)),
        # a share of a sum
        ("sigmoid(y) * x^2 / (1 + sigmoid(y) * sum[D](x^2))", Range(0.0, 1.0)),
        ("1 - sigmoid(y) / (1 + sigmoid(y) * sum[D](x^2)) * x^2", Range(0.0, 1.0)),
        ("abs(x) / (1 + (sum[D](abs(x)) + sigmoid(y)))", Range(0.0, 1.0)),
        ("exp(x) / sum[D](exp(x))", Range(0.0, 1.0, True)),
        ("sigmoid(y) * x^2 / (1 + sigmoid(x) * sum[D](x^2))", Range(0.0)),  # another factor
        ("x^2 / (x + sum[D](x^2))", ANY),  # the rest may be negative
        ("x / (1 + sum[D](abs(x)))", ANY),  # not what is summed
        ("x^2 / (1 + sum[D](abs(x)))", Range(0.0)),
        ("y * x^2 / (1 + y * sum[D](x^2))", ANY),
        ("x^2 / (1 + sum[D](x^2))^2", Range(0.0)),  # divided twice: no share, though below 1
        ("abs(x) / sum[D](abs(x))", Range(0.0)),  # the sum may be 0
        ("1 - sigmoid(x)", Range(0.0, 1.0, False, True)),  # of a large value the sigmoid rounds to 1
    ],
)
def test_bounds_of_an_expression(body: str, found: Range) -> None:
    mine = bounds(body)
    assert (mine.low, mine.high, mine.low_open) == (found.low, found.high, found.low_open)
