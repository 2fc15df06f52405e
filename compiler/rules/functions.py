"""Functions of one value, and of two."""

from __future__ import annotations

from .rule import Rule, apart_from_zero, every, negative, non_negative, non_positive, not_below, of_inputs, positive

INVERSES = (
    Rule("logarithm of an exponential", "x[N]", "log(exp(x))", "x", "log inverts exp", "log(abs(x))"),
    Rule(
        "exponential of a logarithm", "x[N]", "exp(log(x))", "x", "exp inverts log for x >= 0",
        near_miss="exp(log(x))", when=non_negative("x"), instance="exp(log(square(x)))",
    ),
    Rule(
        "exponential of a logarithm, maybe negative", "x[N]", "exp(log(x))", "x", "exp inverts log",
        near_miss="exp(log2(x))", guard="where x is negative, which gives NaN",
    ),
    Rule(
        "root of a square", "x[N]", "sqrt(square(x))", "abs(x)",
        "the root of a square is the magnitude", near_miss="sqrt(abs(x))",
    ),
    Rule("root of a second power", "x[N]", "sqrt(x^2)", "abs(x)", "the root of a square is the magnitude", "sqrt(x^3)"),
    Rule("root of a product of equals", "x[N], y[N]", "sqrt(x * x)", "abs(x)", "x * x is a square", "sqrt(x * y)"),
    Rule(
        "square of a root", "x[N]", "square(sqrt(x))", "x", "the square of the root of x >= 0 is x",
        near_miss="square(sqrt(x))", when=non_negative("x"), instance="square(sqrt(abs(x)))",
    ),
    Rule(
        "second power of a root", "x[N]", "sqrt(x)^2", "x", "the square of the root of x >= 0 is x",
        near_miss="sqrt(x)^2", when=non_negative("x"), instance="sqrt(abs(x))^2",
    ),
)  # fmt: skip

POWERS = (
    Rule("square of an exponential", "x[N]", "square(exp(x))", "exp(2 * x)", "(e^x)^2 = e^(2x)", "square(tanh(x))"),
    Rule("second power of an exponential", "x[N]", "exp(x)^2", "exp(2 * x)", "(e^x)^2 = e^(2x)", "exp(x)^3"),
    Rule("square of a second power", "x[N]", "square(x^2)", "x^4", "exponents of powers multiply", "square(x^3)"),
    Rule("second power of a second power", "x[N]", "(x^2)^2", "x^4", "exponents of powers multiply", "(x^2)^3"),
    Rule("second power of a third power", "x[N]", "(x^3)^2", "x^6", "exponents of powers multiply", "(x^3)^4"),
    Rule("square of a square", "x[N]", "square(square(x))", "x^4", "exponents of powers multiply", "square(exp(x))"),
    Rule(
        "root of an exponential", "x[N]", "sqrt(exp(x))", "exp(x / 2)", "the root of e^x is e^(x/2)",
        near_miss="sqrt(tanh(x))", guard="where e^x overflows or vanishes",
    ),
    Rule(
        "root of a fourth power", "x[N]", "sqrt(x^4)", "x^2", "x^4 is the square of x^2",
        near_miss="sqrt(x^3)", guard="where the fourth power overflows or vanishes",
    ),
    Rule(
        "logarithm of a root", "x[N]", "log(sqrt(x))", "log(x) / 2", "a root halves a logarithm",
        near_miss="log(sqrt(x))", when=non_negative("x"), instance="log(sqrt(1 + exp(x)))",
    ),
    Rule(
        "logarithm of a square", "x[N]", "log(square(x))", "2 * log(abs(x))", "a square doubles a logarithm",
        near_miss="log(abs(x))", guard="where the square overflows or vanishes",
    ),
    Rule(
        "logarithm of a second power", "x[N]", "log(x^2)", "2 * log(abs(x))", "a square doubles a logarithm",
        near_miss="log(x^3)", guard="where the square overflows or vanishes",
    ),
    Rule(
        "exponential of a weighted logarithm", "x[N], y[N]", "exp(y * log(x))", "x^y", "x^y is e^(y log(x))",
        near_miss="exp(y * log(x))", when=positive("x"), instance="exp(y * log(1 + square(x)))",
    ),
)  # fmt: skip

SIGNS = (
    Rule("square of a magnitude", "x[N]", "square(abs(x))", "square(x)", "a square has no sign", "square(relu(x))"),
    Rule("second power of a magnitude", "x[N]", "abs(x)^2", "x^2", "a square has no sign", "abs(x)^3"),
    Rule("square of a negative", "x[N]", "square(-x)", "square(x)", "a square has no sign", "exp(-x)"),
    Rule("second power of a negative", "x[N]", "(-x)^2", "x^2", "a square has no sign", "(-x)^3"),
    Rule("magnitude of a negative", "x[N]", "abs(-x)", "abs(x)", "a magnitude has no sign", "relu(-x)"),
    Rule("cosine of a negative", "x[N]", "cos(-x)", "cos(x)", "cosine is even", "exp(-x)"),
    Rule("sine of a negative", "x[N]", "sin(-x)", "-sin(x)", "sine is odd", "exp(-x)"),
    Rule("tanh of a negative", "x[N]", "tanh(-x)", "-tanh(x)", "tanh is odd", "sigmoid(-x)"),
    Rule("erf of a negative", "x[N]", "erf(-x)", "-erf(x)", "erf is odd", "gelu(-x)"),
    Rule("softsign of a negative", "x[N]", "softsign(-x)", "-softsign(x)", "softsign is odd", "silu(-x)"),
    Rule("sign of a negative", "x[N]", "sign(-x)", "-sign(x)", "sign is odd", "relu(-x)"),
    Rule(
        "sign of a positive value", "x[N]", "sign(x)", "1", "the value is positive",
        near_miss="sign(x)", when=apart_from_zero("x", 1), instance="sign(1 + exp(x))",
    ),
    Rule(
        "sign of a positive value, maybe rounded to 0", "x[N]", "sign(x)", "1", "the value is positive",
        near_miss="sign(x)", when=positive("x"), instance="sign(exp(x))", guard="where it is rounded to 0",
    ),
    Rule(
        "sign of a negative value", "x[N]", "sign(x)", "-1", "the value is negative",
        near_miss="sign(x)", when=apart_from_zero("x", -1), instance="sign(-1 - square(x))",
    ),
    Rule(
        "sign of a negative value, maybe rounded to 0", "x[N]", "sign(x)", "-1", "the value is negative",
        near_miss="sign(x)", when=negative("x"), instance="sign(-exp(x))", guard="where it is rounded to 0",
    ),
    Rule(
        "magnitude of a positive value", "x[N]", "abs(x)", "x", "the value is not negative",
        near_miss="abs(x)", when=non_negative("x"), instance="abs(square(x))",
    ),
    Rule(
        "magnitude of a negative value", "x[N]", "abs(x)", "-x", "the value is not positive",
        near_miss="abs(x)", when=non_positive("x"), instance="abs(-square(x))",
    ),
)  # fmt: skip

LIMITS = (
    Rule(
        "relu of a positive value", "x[N]", "relu(x)", "x", "the value is not negative",
        near_miss="relu(x)", when=non_negative("x"), instance="relu(sigmoid(x))",
    ),
    Rule(
        "relu of a negative value", "x[N]", "relu(x)", "0", "the value is not positive",
        near_miss="relu(x)", when=non_positive("x"), instance="relu(-square(x))",
    ),
    Rule(
        "elu of a positive value", "x[N]", "elu(x)", "x", "the value is not negative",
        near_miss="elu(x)", when=non_negative("x"), instance="elu(relu(x))",
    ),
    Rule(
        "leaky relu of a positive value", "x[N]", "leaky_relu(x)", "x", "the value is not negative",
        near_miss="leaky_relu(x)", when=non_negative("x"), instance="leaky_relu(relu(x))",
    ),
    Rule("larger of equals", "x[N], y[N]", "max(x, x)", "x", "both are the same", "max(x, y)"),
    Rule("smaller of equals", "x[N], y[N]", "min(x, x)", "x", "both are the same", "min(x, y)"),
    Rule(
        "larger of ordered values", "x[N], y[N]", "max(x, y)", "x", "x is never smaller than y",
        near_miss="max(x, y)", when=not_below("x", "y"), instance="max(exp(x), -square(y))",
    ),
    Rule(
        "smaller of ordered values", "x[N], y[N]", "min(x, y)", "y", "x is never smaller than y",
        near_miss="min(x, y)", when=not_below("x", "y"), instance="min(exp(x), -square(y))",
    ),
    Rule(
        "maximum with zero", "x[N]", "max(x, 0)", "relu(x)", "that is its definition",
        near_miss="max(pos(N) - 1, 0)", when=of_inputs("x"),
    ),
    Rule(
        "lower clamp that cannot act", "x[N], y[N]", "clamp(x, min=y)", "x", "x is never smaller than y",
        near_miss="clamp(x, min=y)", when=not_below("x", "y"), instance="clamp(square(x), min=0)",
    ),
    Rule(
        "upper clamp that cannot act", "x[N], y[N]", "clamp(x, max=y)", "x", "x is never larger than y",
        near_miss="clamp(x, max=y)", when=not_below("y", "x"), instance="clamp(sigmoid(x), max=1)",
    ),
    Rule(
        "lower bound that cannot act", "x[N], y[N], z[N]", "clamp(x, min=y, max=z)", "clamp(x, max=z)",
        "x is never smaller than y",
        near_miss="clamp(x, min=y, max=z)", when=not_below("x", "y"), instance="clamp(square(x), min=0, max=z)",
    ),
    Rule(
        "upper bound that cannot act", "x[N], y[N], z[N]", "clamp(x, min=y, max=z)", "clamp(x, min=y)",
        "neither x nor y is ever larger than z",
        near_miss="clamp(x, min=y, max=z)", when=every(not_below("z", "x"), not_below("z", "y")),
        instance="clamp(tanh(x), min=sin(y), max=1)",
    ),
)  # fmt: skip

DEFINITIONS = (
    Rule(
        "complement of a sigmoid", "x[N], y[N]", "1 - sigmoid(x)", "sigmoid(-x)", "1 - 1/(1 + e^-x) = 1/(1 + e^x)",
        near_miss="1 - tanh(x)",
    ),
    Rule(
        "sigmoid and its complement", "x[N], y[N]", "sigmoid(x) + sigmoid(-x)", "1", "1/(1 + e^-x) + 1/(1 + e^x) = 1",
        near_miss="sigmoid(x) + sigmoid(-y)",
    ),
    Rule(
        "sigmoid spelled out", "x[N], y[N]", "y / (1 + exp(-x))", "y * sigmoid(x)", "that is its definition",
        near_miss="y / (2 + exp(-x))",
    ),
    Rule(
        "sigmoid by exponentials", "x[N], y[N]", "exp(x) / (1 + exp(x))", "sigmoid(x)",
        "e^x / (1 + e^x) = 1 / (1 + e^-x)", near_miss="exp(x) / (1 + exp(y))",
    ),
    Rule(
        "sigmoid by tanh", "x[N]", "0.5 * (1 + tanh(x / 2))", "sigmoid(x)", "sigmoid is tanh, scaled and shifted",
        near_miss="0.5 * (1 + tanh(x / 3))",
    ),
    Rule(
        "half of a shifted tanh", "x[N]", "(1 + tanh(x / 2)) / 2", "sigmoid(x)", "sigmoid is tanh, scaled and shifted",
        near_miss="(1 + tanh(x)) / 2",
    ),
    Rule("silu spelled out", "x[N], y[N]", "x * sigmoid(x)", "silu(x)", "that is its definition", "x * sigmoid(y)"),
    Rule(
        "softsign spelled out", "x[N], y[N]", "x / (1 + abs(x))", "softsign(x)", "that is its definition",
        near_miss="x / (1 + abs(y))",
    ),
    Rule(
        "logarithm of a sigmoid", "x[N]", "log(sigmoid(x))", "logsigmoid(x)",
        "that is its definition", near_miss="log(tanh(x))",
    ),
    Rule(
        "softplus spelled out", "x[N]", "log(1 + exp(x))", "softplus(x)", "that is its definition",
        near_miss="log(2 + exp(x))",
    ),
    Rule(
        "logarithm of two exponentials", "x[N], y[N]", "log(exp(x) + exp(y))", "logaddexp(x, y)",
        "that is its definition", near_miss="log(exp(x) + y)",
    ),
    Rule(
        "squares of cosine and sine", "x[N], y[N]", "square(cos(x)) + square(sin(x))", "1", "the theorem of Pythagoras",
        near_miss="square(cos(x)) + square(sin(y))",
    ),
    Rule(
        "powers of cosine and sine", "x[N], y[N]", "cos(x)^2 + sin(x)^2", "1", "the theorem of Pythagoras",
        near_miss="cos(x)^2 + sin(y)^2",
    ),
)  # fmt: skip

NUMBERS = (
    Rule("exponential of zero", "", "exp(0)", "1", "e^0 = 1", "exp(1)"),
    Rule("logarithm of one", "", "log(1)", "0", "log(1) = 0", "log(2)"),
    Rule("root of one", "", "sqrt(1)", "1", "the root of 1 is 1", "sqrt(2)"),
    Rule("root of four", "", "sqrt(4)", "2", "2 * 2 = 4", "sqrt(5)"),
    Rule("root of zero", "", "sqrt(0)", "0", "the root of 0 is 0", "sqrt(2)"),
    Rule("cosine of zero", "", "cos(0)", "1", "cos(0) = 1", "cos(1)"),
    Rule("sine of zero", "", "sin(0)", "0", "sin(0) = 0", "sin(1)"),
    Rule("tanh of zero", "", "tanh(0)", "0", "tanh(0) = 0", "tanh(1)"),
    Rule("sigmoid of zero", "", "sigmoid(0)", "0.5", "1/(1 + e^0) = 1/2", "sigmoid(1)"),
    Rule("floor of a whole number", "n[N] int, x[N]", "floor(n)", "n", "a whole number is not rounded", "floor(x)"),
    Rule("ceil of a whole number", "n[N] int, x[N]", "ceil(n)", "n", "a whole number is not rounded", "ceil(x)"),
    Rule("round of a whole number", "n[N] int, x[N]", "round(n)", "n", "a whole number is not rounded", "round(x)"),
    Rule("floor of a floor", "x[N]", "floor(floor(x))", "floor(x)", "a whole number is not rounded", "floor(exp(x))"),
    Rule(
        "gradient stopped twice", "x[N]", "stop_gradient(stop_gradient(x))", "stop_gradient(x)", "once is enough",
        near_miss="stop_gradient(exp(x))",
    ),
)  # fmt: skip

FUNCTIONS = (*INVERSES, *POWERS, *SIGNS, *LIMITS, *DEFINITIONS, *NUMBERS)
