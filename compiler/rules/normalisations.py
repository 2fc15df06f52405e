"""Softmax and normalisations: what they ignore, and what spells them."""

from __future__ import annotations

from .rule import Rule, non_negative, positive

_EPS = "where the length is below eps, or the factor is 0"
_COUNTS = "by what eps adds"

SHIFTS = (
    Rule(
        "shift of a softmax", "s[N, M], c[N], t[N, M]", "softmax[M](s + c)", "softmax[M](s)",
        "a term without the softmax axis cancels against the normaliser", near_miss="softmax[M](s + t)",
    ),
    Rule(
        "shift of a masked softmax", "s[N, M], c[N], t[N, M], m[N, M] bool", "softmax[M](s + c, mask=m)",
        "softmax[M](s, mask=m)", "a term without the softmax axis cancels against the normaliser",
        near_miss="softmax[M](s + t, mask=m)",
    ),
    Rule(
        "shift of a log softmax", "s[N, M], c[N], t[N, M]", "log_softmax[M](s + c)", "log_softmax[M](s)",
        "a term without the softmax axis cancels against the normaliser", near_miss="log_softmax[M](s + t)",
    ),
    Rule(
        "shift of a layer norm", "x[N, M], c[N], y[N, M]", "layer_norm[M](x + c)", "layer_norm[M](x)",
        "the mean takes up a term without the axis", near_miss="layer_norm[M](x + y)",
    ),
    Rule(
        "shift of a learned layer norm", "x[N, M], c[N], y[N, M], g[M], b[M]", "layer_norm[M](x + c, gain=g, shift=b)",
        "layer_norm[M](x, gain=g, shift=b)", "the mean takes up a term without the axis",
        near_miss="layer_norm[M](x + y, gain=g, shift=b)",
    ),
)  # fmt: skip

SCALES = (
    *(
        Rule(
            f"scale of {name}", "x[N, M], s[N], y[N, M]", f"{name}[M](x * s)", f"{name}[M](x)",
            "the normalisation takes up a factor without the axis that is not negative",
            near_miss=f"{name}[M](x * exp(y))", when=non_negative("s"), instance=f"{name}[M](x * exp(s))", guard=guard,
        )
        for name, guard in (
            ("l2_normalize", _EPS), ("l1_normalize", _EPS), ("layer_norm", _COUNTS), ("rms_norm", _COUNTS)
        )
    ),
    Rule(
        "direction of a direction", "x[N, M]", "l2_normalize[M](l2_normalize[M](x))", "l2_normalize[M](x)",
        "a direction has length 1", near_miss="l2_normalize[M](l1_normalize[M](x))", guard=_EPS,
    ),
    *(
        Rule(
            f"{name} of a direction", "x[N, M], y[N, M]", f"sum[M]({before})", "1", "a direction has length 1",
            near_miss=f"sum[M]({near_miss})", guard=_EPS,
        )
        for name, before, near_miss in (
            ("product", "l2_normalize[M](x) * l2_normalize[M](x)", "l2_normalize[M](x) * l2_normalize[M](y)"),
            ("squares", "square(l2_normalize[M](x))", "square(l1_normalize[M](x))"),
        )
    ),
    Rule(
        "length of a direction", "x[N, M]", "norm[M](l2_normalize[M](x))", "1", "a direction has length 1",
        near_miss="norm[M](l1_normalize[M](x))", guard=_EPS,
    ),
    Rule(
        "shares of shares", "x[N, M]", "l1_normalize[M](l1_normalize[M](x))", "l1_normalize[M](x)",
        "shares sum to 1", near_miss="l1_normalize[M](l2_normalize[M](x))", guard=_EPS,
    ),
    Rule(
        "shares of a softmax", "s[N, M]", "l1_normalize[M](softmax[M](s))", "softmax[M](s)", "the weights sum to 1",
        near_miss="l1_normalize[N](softmax[M](s))",
    ),
    Rule(
        "scale of a quotient by a sum", "x[N, M], s[N], y[N, M]", "x * s / sum[M](x * s)", "x / sum[M](x)",
        "a positive factor without the summed axis cancels", near_miss="x * y / sum[M](x * y)",
        when=positive("s"), instance="x * exp(s) / sum[M](x * exp(s))",
    ),
    Rule(
        "scale of a weighted mean", "x[N, M], s[N], v[M, K], y[N, M]", "sum[M]((x * s) * v) / sum[M](x * s)",
        "sum[M](x * v) / sum[M](x)", "a positive factor without the summed axis cancels",
        near_miss="sum[M]((x * y) * v) / sum[M](x * y)",
        when=positive("s"), instance="sum[M]((x * exp(s)) * v) / sum[M](x * exp(s))",
    ),
)  # fmt: skip

#: by which a softmax is recognised before a formula is planned
SOFTMAXES = (
    Rule(
        "softmax spelled out", "s[N, M], t[N, M]", "exp(s) / sum[M](exp(s))", "softmax[M](s)", "that is its definition",
        near_miss="exp(s) / sum[M](exp(t))",
    ),
    Rule(
        "softmax divided late", "s[N, M], v[M, K]", "sum[M](exp(s) * v) / sum[M](exp(s))", "sum[M](softmax[M](s) * v)",
        "the row sum is a factor without the summed axis", near_miss="sum[M](exp(s) * v) / sum[M](square(s))",
    ),
    Rule(
        "softmax by a logsumexp", "s[N, M], t[N, M]", "exp(s - logsumexp[M](s))", "softmax[M](s)",
        "the logarithm of the row sum is subtracted", near_miss="exp(s - logsumexp[M](t))",
    ),
    Rule(
        "exponential of a log softmax", "s[N, M]", "exp(log_softmax[M](s))", "softmax[M](s)",
        "exp inverts log", near_miss="exp(logsigmoid(s))",
    ),
    Rule(
        "largest score subtracted", "s[N, M]", "softmax[M](s - max[M](s))", "softmax[M](s)",
        "softmax subtracts the largest score itself", near_miss="softmax[M](s - max[N](s))",
    ),
    Rule(
        "mask of zeros that is added", "s[N, M], m[N, M] bool", "softmax[M](s + where(m, 0, -inf))",
        "softmax[M](s, mask=m)", "the exponential of -inf is 0", near_miss="softmax[M](s + where(m, 0, -20))",
        instance="softmax[M](s + where(m or pos(M) == 0, 0, -inf))",
    ),
    Rule(
        "mask that is added", "s[N, M], t[N, M], m[N, M] bool", "softmax[M](s + where(m, t, -inf))",
        "softmax[M](s + t, mask=m)", "the exponential of -inf is 0", near_miss="softmax[M](s + where(m, t, -20))",
        instance="softmax[M](s + where(m or pos(M) == 0, t, -inf))",
    ),
    Rule(
        "mask of zeros that hides", "s[N, M], m[N, M] bool", "softmax[M](s + where(m, -inf, 0))",
        "softmax[M](s, mask=not m)", "the exponential of -inf is 0", near_miss="softmax[M](s + where(m, -20, 0))",
        instance="softmax[M](s + where(m and pos(M) > 0, -inf, 0))",
    ),
    Rule(
        "mask that hides", "s[N, M], t[N, M], m[N, M] bool", "softmax[M](s + where(m, -inf, t))",
        "softmax[M](s + t, mask=not m)", "the exponential of -inf is 0", near_miss="softmax[M](s + where(m, -20, t))",
        instance="softmax[M](s + where(m and pos(M) > 0, -inf, t))",
    ),
    Rule(
        "mask that is added to another", "s[N, M], t[N, M], m[N, M] bool, c[N, M] bool",
        "softmax[M](s + where(m, t, -inf), mask=c)", "softmax[M](s + t, mask=m and c)", "the exponential of -inf is 0",
        near_miss="softmax[M](s + where(m, t, -20), mask=c)",
        instance="softmax[M](s + where(m or pos(M) == 0, t, -inf), mask=c or pos(M) == 0)",
    ),
)  # fmt: skip

#: the same for a softmax beside a sink
SINKS = (
    Rule(
        "softmax beside a sink", "s[N, M], b[N], t[N, M]", "exp(s) / (exp(b) + sum[M](exp(s)))",
        "softmax[M](s, sink=b)", "that is its definition", near_miss="exp(s) / (exp(b) + sum[M](exp(t)))",
    ),
    Rule(
        "softmax beside a sink, divided late", "s[N, M], b[N], v[M, K]",
        "sum[M](exp(s) * v) / (exp(b) + sum[M](exp(s)))", "sum[M](softmax[M](s, sink=b) * v)",
        "the row sum is a factor without the summed axis",
        near_miss="sum[M](exp(s) * v) / (exp(b) + sum[M](square(s)))",
    ),
    Rule(
        "softmax off by one", "s[N, M], t[N, M]", "exp(s) / (1 + sum[M](exp(s)))", "softmax[M](s, sink=0)",
        "1 is the exponential of 0", near_miss="exp(s) / (1 + sum[M](exp(t)))",
    ),
    Rule(
        "softmax off by one, divided late", "s[N, M], v[M, K]", "sum[M](exp(s) * v) / (1 + sum[M](exp(s)))",
        "sum[M](softmax[M](s, sink=0) * v)", "the row sum is a factor without the summed axis",
        near_miss="sum[M](exp(s) * v) / (1 + sum[M](square(s)))",
    ),
    Rule(
        "softmax under a mask beside a sink", "s[N, M], b[N], m[N, M] bool, c[N, M] bool",
        "where(m, exp(s), 0) / (exp(b) + sum[M](where(m, exp(s), 0)))", "softmax[M](s, mask=m, sink=b)",
        "that is its definition", near_miss="where(m, exp(s), 0) / (exp(b) + sum[M](where(c, exp(s), 0)))",
    ),
    *(
        Rule(
            f"softmax under a mask {words}, divided late", f"s[N, M], m[N, M] bool, c[N, M] bool, v[M, K]{b}",
            f"sum[M](where(m, exp(s), 0) * v) / ({more} + sum[M](where(m, exp(s), 0)))",
            f"sum[M](softmax[M](s, mask=m, sink={sink}) * v)", "the row sum is a factor without the summed axis",
            near_miss=f"sum[M](where(m, exp(s), 0) * v) / ({more} + sum[M](where(c, exp(s), 0)))",
        )
        for words, more, sink, b in (("beside a sink", "exp(b)", "b", ", b[N]"), ("off by one", "1", "0", ""))
    ),
    Rule(
        "softmax under a mask, off by one", "s[N, M], m[N, M] bool, c[N, M] bool",
        "where(m, exp(s), 0) / (1 + sum[M](where(m, exp(s), 0)))", "softmax[M](s, mask=m, sink=0)",
        "1 is the exponential of 0", near_miss="where(m, exp(s), 0) / (1 + sum[M](where(c, exp(s), 0)))",
    ),
    Rule(
        "softmax by a sigmoid", "s[N, M], b[N], t[N, M]", "softmax[M](s) * sigmoid(logsumexp[M](s) - b)",
        "softmax[M](s, sink=b)", "1 / (1 + e^(b - l)) is e^l / (e^l + e^b), and e^l is the sum of the exponentials",
        near_miss="softmax[M](s) * sigmoid(logsumexp[M](t) - b)",
    ),
    Rule(
        "shift of a softmax and its sink", "s[N, M], c[N], b[N], t[N, M]", "softmax[M](s - c, sink=b - c)",
        "softmax[M](s, sink=b)", "a factor of all terms of the sum cancels", near_miss="softmax[M](s - c, sink=b + c)",
    ),
    Rule(
        "shift of a masked softmax and its sink", "s[N, M], c[N], b[N], m[N, M] bool",
        "softmax[M](s - c, mask=m, sink=b - c)", "softmax[M](s, mask=m, sink=b)",
        "a factor of all terms of the sum cancels", near_miss="softmax[M](s - c, mask=m, sink=b + c)",
    ),
    *(
        Rule(
            f"{words} of a softmax and its sink", "s[N, M], b[N]", f"softmax[M](s - {top}, sink=b - {top})",
            "softmax[M](s, sink=b)", "softmax subtracts the largest score itself",
            near_miss=f"softmax[M](s - {top}, sink=b)",
        )
        for words, top in (
            ("largest score", "max[M](s)"), ("largest", "max(max[M](s), b)"), ("larger", "max(b, max[M](s))"),
        )
    ),
)  # fmt: skip

DEFINITIONS = (
    Rule(
        "log softmax spelled out", "s[N, M], t[N, M]", "s - logsumexp[M](s)", "log_softmax[M](s)",
        "that is its definition", near_miss="s - logsumexp[M](t)",
    ),
    Rule(
        "logarithm of a softmax", "s[N, M]", "log(softmax[M](s))", "log_softmax[M](s)",
        "that is its definition", near_miss="log(sigmoid(s))",
    ),
    Rule(
        "softmax of a log softmax", "s[N, M]", "softmax[M](log_softmax[M](s))", "softmax[M](s)",
        "a logarithm of weights is a score", near_miss="softmax[N](log_softmax[M](s))",
    ),
    Rule(
        "scores that a mask hides", "s[N, M], t[N, M], m[N, M] bool, c[N, M] bool",
        "softmax[M](where(m, s, t), mask=m)", "softmax[M](s, mask=m)", "only scores that the mask keeps count",
        near_miss="softmax[M](where(c, s, t), mask=m)", unread=("t",),
    ),
    Rule(
        "direction spelled out", "x[N, M]", "x / max(norm[M](x), 1e-12)", "l2_normalize[M](x)",
        "that is its definition",
        near_miss="x / max(norm[M](x), 1e-6)",
    ),
    Rule(
        "value over its length", "x[N, M], y[N, M]", "x / norm[M](x)", "l2_normalize[M](x)", "that is its definition",
        near_miss="y / norm[M](x)", guard="where the length is below 1e-12",
    ),
    Rule(
        "cosine with itself", "x[N, M], y[N, M]", "sum[M](x * x) / square(max(norm[M](x), 1e-8))", "1",
        "a value points where it points", near_miss="sum[M](x * y) / square(max(norm[M](x), 1e-8))",
        guard="where the length is below 1e-8",
    ),
    Rule(
        "layer norm spelled out", "x[N, M]", "(x - mean[M](x)) / sqrt(var[M](x) + 1e-5)", "layer_norm[M](x)",
        "that is its definition", near_miss="(x - mean[M](x)) / sqrt(var[M](x) + 1e-3)",
    ),
    Rule(
        "rms norm spelled out", "x[N, M]", "x / sqrt(mean[M](square(x)) + 1e-6)", "rms_norm[M](x)",
        "that is its definition", near_miss="x / sqrt(mean[M](square(x)) + 1e-3)",
    ),
)  # fmt: skip

NORMALISATIONS = (*SHIFTS, *SCALES, *SOFTMAXES, *SINKS, *DEFINITIONS)
