"""Sums, means and other reductions over named axes."""

from __future__ import annotations

from .rule import Rule, non_negative

#: for reductions of reductions, and of renamed values
_ASSOCIATIVE = ("sum", "mean", "max", "min", "prod", "logsumexp")
_SYMMETRIC = (*_ASSOCIATIVE, "var", "std", "norm")

NESTED = tuple(
    Rule(
        f"{name} of a {name}", "x[N, M]", f"{name}[N]({name}[M](x))", f"{name}[N, M](x)",
        f"one {name} over both axes takes in the same elements",
        near_miss=f"{name}[N]({'max' if name != 'max' else 'mean'}[M](x))",
    )
    for name in _ASSOCIATIVE
)  # fmt: skip

RENAMED = tuple(
    Rule(
        f"{name} of a renamed value", "x[N, K]", f"{name}[M](x[N -> M])", f"{name}[N](x)",
        "the name of a reduced axis does not matter", near_miss=f"{name}[K](x[N -> M])",
    )
    for name in _SYMMETRIC
)  # fmt: skip

NEGATED = tuple(
    Rule(
        f"{name} of a negative", "x[N, M]", f"{name}[M](-x)", f"-{name}[M](x)", f"a {name} is linear",
        near_miss=f"{name}[M](abs(x))",
    )
    for name in ("sum", "mean")
)  # fmt: skip

QUANTIFIERS = tuple(
    Rule(
        f"{name} of {name}", "c[N, M] bool", f"{name}[N]({name}[M](c))", f"{name}[N, M](c)",
        "one over both axes takes in the same elements", near_miss=f"{name}[N]({other}[M](c))",
    )
    for name, other in (("any", "all"), ("all", "any"))
)  # fmt: skip

DEFINITIONS = (
    Rule("mean spelled out", "x[N, M]", "sum[M](x) / M", "mean[M](x)", "that is its definition", "sum[M](x) / N"),
    Rule(
        "sum by a mean", "x[N, M]", "mean[M](x) * M", "sum[M](x)",
        "a mean is the sum over the number", near_miss="mean[M](x) * N",
    ),
    Rule(
        "norm spelled out", "x[N, M]", "sqrt(sum[M](square(x)))", "norm[M](x)",
        "that is its definition", near_miss="sqrt(sum[M](abs(x)))",
    ),
    Rule(
        "norm by products", "x[N, M], y[N, M]", "sqrt(sum[M](x * x))", "norm[M](x)",
        "that is its definition", near_miss="sqrt(sum[M](x * y))",
    ),
    Rule("norm by powers", "x[N, M]", "sqrt(sum[M](x^2))", "norm[M](x)", "that is its definition", "sqrt(sum[M](x^4))"),
    Rule("root of a variance", "x[N, M]", "sqrt(var[M](x))", "std[M](x)", "that is its definition", "sqrt(norm[M](x))"),
    Rule(
        "variance spelled out", "x[N, M]", "mean[M](square(x - mean[M](x)))", "var[M](x)", "that is its definition",
        near_miss="mean[M](square(x - mean[N](x)))",
    ),
    Rule(
        "logarithm of a sum of exponentials", "x[N, M]", "log(sum[M](exp(x)))", "logsumexp[M](x)",
        "that is its definition", near_miss="log(sum[M](square(x)))",
    ),
)  # fmt: skip

KNOWN = (
    Rule(
        "total of a softmax", "s[N, M]", "sum[M](softmax[M](s))", "1",
        "the weights of a softmax sum to 1", near_miss="sum[N](softmax[M](s))",
    ),
    Rule(
        "mean of deviations", "x[N, M]", "mean[M](x - mean[M](x))", "0", "deviations from the mean cancel",
        near_miss="mean[M](x - mean[N](x))",
    ),
    Rule(
        "total of deviations", "x[N, M]", "sum[M](x - mean[M](x))", "0", "deviations from the mean cancel",
        near_miss="sum[M](x - mean[N](x))",
    ),
    Rule(
        "variance of a shifted value", "x[N, M], c[N], y[N, M]", "var[M](x + c)", "var[M](x)",
        "a variance ignores a shift", near_miss="var[M](x + y)",
    ),
    Rule(
        "deviation of a shifted value", "x[N, M], c[N], y[N, M]", "std[M](x + c)", "std[M](x)",
        "a deviation ignores a shift", near_miss="std[M](x + y)",
    ),
)  # fmt: skip

TOTALS = (
    Rule(
        "sum taken apart", "x[N, M], y[N, M]", "sum[M](x + y)", "sum[M](x) + sum[M](y)",
        "a sum is linear", near_miss="sum[M](x * y)", opens="total",
    ),
    Rule(
        "sum of a difference", "x[N, M], y[N, M]", "sum[M](x - y)", "sum[M](x) - sum[M](y)", "a sum is linear",
        near_miss="sum[M](x / y)", opens="total",
    ),
    Rule(
        "factor out of a sum", "x[N, M], c[N], y[N, M]", "sum[M](x * c)", "sum[M](x) * c",
        "a factor without the summed axis moves out", near_miss="sum[M](x / y)", opens="total",
    ),
    Rule(
        "mean taken apart", "x[N, M], y[N, M]", "mean[M](x + y)", "mean[M](x) + mean[M](y)",
        "a mean is linear", near_miss="mean[M](x * y)", opens="total",
    ),
    Rule(
        "factor out of a mean", "x[N, M], c[N], y[N, M]", "mean[M](x * c)", "mean[M](x) * c",
        "a factor without the averaged axis moves out", near_miss="mean[M](x * y)", opens="total",
    ),
)  # fmt: skip

SCALES = (
    *(
        Rule(
            f"scale out of a {name}", "x[N, M], s[N], y[N, M]", f"{name}[M](x * s)", f"{name}[M](x) * s",
            "a factor without the axis, that is not negative, moves out", near_miss=f"{name}[M](x * exp(y))",
            when=non_negative("s"), instance=f"{name}[M](x * exp(s))", opens="scale",
        )
        for name in ("sum", "mean", "std", "norm")
    ),
    Rule(
        "scale out of a contraction", "x[N, M], y[M, K], s[N], z[N, M]", "sum[M]((x * s) * y)", "sum[M](x * y) * s",
        "a factor without the contracted axis moves out", near_miss="sum[M]((x * exp(z)) * y)",
        when=non_negative("s"), instance="sum[M]((x * exp(s)) * y)", opens="scale",
    ),
    Rule(
        "length out of a contraction", "x[N, M], y[M, K]", "sum[M](l2_normalize[M](x) * y)",
        "sum[M](x * y) / max(norm[M](x), 1e-12)", "a normalised value is the value over its length",
        near_miss="sum[N](l2_normalize[M](x) * x)", opens="scale",
    ),
    Rule(
        "scale out of a renamed value", "x[N, K], s[K], y[N, K]", "(x * s)[N -> M]", "x[N -> M] * s",
        "a factor without the axis is not renamed", near_miss="(x * exp(y))[N -> M]",
        when=non_negative("s"), instance="(x * exp(s))[N -> M]", opens="scale",
    ),
    Rule(
        "renamed direction", "x[N, K]", "l2_normalize[N](x)[N -> M]", "l2_normalize[M](x[N -> M])",
        "the name of the axis does not matter", near_miss="l2_normalize[N](x)[K -> M]", opens="scale",
    ),
)  # fmt: skip

REDUCTIONS = (*NESTED, *RENAMED, *NEGATED, *QUANTIFIERS, *DEFINITIONS, *KNOWN, *TOTALS, *SCALES)
