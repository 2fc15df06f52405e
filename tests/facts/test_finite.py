"""What is said to be a finite number is one, for inputs with zeros, ties and both signs."""

from __future__ import annotations

import numpy as np
import pytest

from attngraph.compiler.graph import topological
from attngraph.compiler.ops.leaves import Input
from attngraph.compiler.rules.pattern import expressions
from attngraph.compiler.rules.rule import Knowledge

from ..reference import evaluate

FINITE = (
    "x", "exp(x) * y", "1 / (1 + square(x))", "sqrt(abs(x))", "log(1 + exp(x))", "softmax[M](x)", "l2_normalize[M](x)",
    "layer_norm[M](x)", "rms_norm[M](x)", "l1_normalize[M](x)", "var[M](x)", "std[M](x)", "norm[M](x)", "exp(x)^y",
    "logsumexp[M](x)", "x^3", "where(x > 0, x, y)", "softplus(x) / sigmoid(y)", "reciprocal(exp(x))", "pos(M) // 2 + x",
    "softsign(x) - erf(y)", "cumsum[M](x) + max[M](y)", "clamp(x, min=-1) * elu(y)",
)  # fmt: skip
NOT = (
    "1 / x", "log(x)", "sqrt(x)", "x^0.5", "x^-1", "reciprocal(x)", "rsqrt(abs(x))", "log(abs(x))", "x / norm[M](x)",
    "tan(x)", "asin(x)", "var[M](x, ddof=1)", "x + inf", "exp(x) + log(y)", "where(x > 0, log(x), 0)",
)  # fmt: skip


def said(text: str) -> bool:
    found = expressions("x[N, M], y[N, M]", value=text)
    return Knowledge().finite(found["value"])


@pytest.mark.parametrize("text", FINITE)
def test_finite(text: str) -> None:
    assert said(text)
    node = expressions("x[N, M], y[N, M]", value=text)["value"]
    names = [n.op.name for n in topological([node]) if isinstance(n.op, Input)]
    generator = np.random.default_rng(3)
    for shape in ((3, 4), (1, 1)):
        whole = generator.integers(-2, 3, (2, *shape)) * 1.0
        for draw in (generator.normal(size=(2, *shape)), whole, 0 * whole):
            values = dict(zip(("x", "y"), draw, strict=True))
            result = evaluate(node, {n: values[n] for n in names}, {"N": shape[0], "M": shape[1]})
            assert np.isfinite(result).all()


@pytest.mark.parametrize("text", NOT)
def test_not_finite(text: str) -> None:
    assert not said(text)
