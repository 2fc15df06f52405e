"""Sums, products and powers."""

from __future__ import annotations

from .rule import Rule, every, non_negative, not_a_number, positive, same_axes

ARITHMETIC = (
    Rule("sum with zero", "x[N]", "x + 0", "x", "adding 0 changes nothing", "x + 1"),
    Rule("difference of equals", "x[N], y[N]", "x - x", "0", "a value cancels against itself", "x - y"),
    Rule("sum of equals", "x[N], y[N]", "x + x", "2 * x", "a value added to itself is twice the value", "x + y"),
    Rule(
        "multiple and value", "x[N], y[N], s[]", "s * x + x", "(s + 1) * x", "multiples of one value add up",
        near_miss="2 * s + 2", when=every(non_negative("s"), not_a_number("x")), instance="exp(s) * x + x",
    ),
    Rule(
        "multiples of a value", "x[N], y[N], s[], t[]", "s * x + t * x", "(s + t) * x", "multiples of one value add up",
        near_miss="exp(s) * x + exp(t) * y", when=every(non_negative("s"), non_negative("t"), not_a_number("x")),
        instance="exp(s) * x + exp(t) * x",
    ),
    Rule("product with one", "x[N]", "x * 1", "x", "multiplying by 1 changes nothing", "x * 2"),
    Rule("product with minus one", "x[N]", "x * -1", "-x", "a minus moves in front of a product", "x * -2"),
    Rule(
        "product with zero", "x[N]", "x * 0", "0", "0 times a number is 0", near_miss="x * 2",
    ),
    Rule("double minus", "x[N]", "--x", "x", "two minuses cancel", "-x"),
    Rule(
        "quotient of equals", "x[N]", "x / x", "1", "a number other than 0 divided by itself is 1",
        near_miss="x / x", when=positive("x"), instance="exp(x) / exp(x)",
    ),
    Rule(
        "quotient of equals, maybe zero", "x[N], y[N]", "x / x", "1", "a number divided by itself is 1",
        near_miss="x / y", guard="where it is 0, which gives NaN",
    ),
    Rule("first power", "x[N]", "x^1", "x", "x to the power 1 is x", "x^2"),
    Rule("power zero", "x[N]", "x^0", "1", "x to the power 0 is 1, also for x = 0", "x^1"),
    Rule("power of minus one", "x[N]", "x^-1", "1 / x", "x to the power -1 is 1 / x", "x^-2"),
    Rule("power of one half", "x[N]", "x^0.5", "sqrt(x)", "x to the power 1/2 is its square root", "x^0.25"),
    Rule(
        "roots of equals", "x[N]", "sqrt(x) * sqrt(x)", "x", "the square of the root of x >= 0 is x",
        near_miss="sqrt(x) * sqrt(x)", when=non_negative("x"), instance="sqrt(abs(x)) * sqrt(abs(x))",
    ),
    Rule(
        "value over its root", "x[N]", "x / sqrt(x)", "sqrt(x)", "x is the square of its root",
        near_miss="x / sqrt(x)", when=positive("x"), instance="exp(x) / sqrt(exp(x))",
    ),
    Rule(
        "square over value", "x[N], y[N]", "square(x) / x", "x", "one factor cancels",
        near_miss="square(x) / y", guard="where x is 0, which gives NaN",
    ),
    Rule(
        "product of exponentials", "x[N], y[N], z[M]", "exp(x) * exp(y)", "exp(x + y)", "exponents add up",
        near_miss="exp(x) * exp(z)", when=same_axes("x", "y"),
    ),
    Rule(
        "quotient of exponentials", "x[N], y[N], z[M]", "exp(x) / exp(y)", "exp(x - y)", "exponents subtract",
        near_miss="exp(x) / exp(z)", when=same_axes("x", "y"),
    ),
    Rule("reciprocal", "x[N]", "reciprocal(x)", "1 / x", "that is its definition", "sqrt(x)"),
    # towards a scale in front
    Rule(
        "common factor", "x[N], y[N], s[], z[N]", "x * s + y * s", "(x + y) * s", "a common factor moves out of a sum",
        near_miss="x * s + y * z", when=non_negative("s"), instance="x * exp(s) + y * exp(s)", opens="scale",
    ),
    Rule(
        "common factor of a difference", "x[N], y[N], s[], z[N]", "x * s - y * s", "(x - y) * s",
        "a common factor moves out of a difference",
        near_miss="x * s - y * z", when=non_negative("s"), instance="x * exp(s) - y * exp(s)", opens="scale",
    ),
)  # fmt: skip
