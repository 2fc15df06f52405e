"""Passes over a fiber: the cases of the FuseMax paper and what their rewriting changes, in the text and in the plan."""

from __future__ import annotations

import pytest

from attngraph.compiler.facts.passes import passes
from attngraph.description import describe

from .probes import example, formula_of, report_of

ATTENTION = "attention f(q[N, D], k[M, D], v[M, E]) -> [N, E]:\n"
PARTS = """\
    where M = M1 * M0, M0 = m0
    const m0 = 4
    keys = split[M -> M1, M0](k)
    values = split[M -> M1, M0](v)
    qk = sum[D](q * keys)
    lm = max[M0](qk)
    sln = exp(qk - lm)
    sld = sum[M0](sln)
"""
SUMS = "attention f(a[K], b[K]) -> []:\n    sequence K\n"

CASES = {
    "a sum, then a product with it inside a sum": (
        SUMS + "    y = sum[K](a * b)\n    return sum[K](y * a)\n", {"a": 2, "b": 1},
    ),
    "the multiplication moved behind the sum": (
        SUMS + "    y = sum[K](a * b)\n    return y * sum[K](a)\n", {"a": 1, "b": 1},
    ),
    "running sums": (
        SUMS + "    y = cumsum[K](a * b)\n    return take[K](y * cumsum[K](a), K - 1)\n", {"a": 1, "b": 1},
    ),
    "three passes": (
        ATTENTION + "    qk = q @ k^T\n    sn = exp(qk - max[M](qk))\n    a = sn / sum[M](sn)\n    return a @ v\n",
        {"k": 3, "v": 1, "q": 1},
    ),
    "three passes, division behind the sum": (
        ATTENTION + "    qk = q @ k^T\n    sn = exp(qk - max[M](qk))\n    return (sn @ v) / sum[M](sn)\n",
        {"k": 2, "v": 1},
    ),
    "no maximum": (
        ATTENTION + "    sn = exp(q @ k^T)\n    return (sn / sum[M](sn)) @ v\n", {"k": 2, "v": 1},
    ),
    "no maximum, division behind the sum": (
        ATTENTION + "    sn = exp(q @ k^T)\n    return (sn @ v) / sum[M](sn)\n", {"k": 1, "v": 1},
    ),
    "two passes": (
        ATTENTION + PARTS + "    gm = max[M1](lm)\n    plm = exp(lm - gm)\n    sd = sum[M1](sld * plm)\n"
        "    a = sln * plm / sd\n    return sum[M1, M0](a * values)\n",
        {"k": 2, "v": 1},
    ),
    "parts, corrected and divided at the end": (
        ATTENTION + PARTS + "    part = sum[M0](sln * values)\n    plm = exp(lm - max[M1](lm))\n"
        "    return sum[M1](part * plm) / sum[M1](sld * plm)\n",
        {"k": 1, "v": 1},
    ),
    "running maximum and running sum first, then normalised": (
        ATTENTION + PARTS + "    rm = cummax[M1](lm)\n    rd = cumsum[M1](sld * exp(lm - take[M1](rm, M1 - 1)))\n"
        "    a = exp(qk - take[M1](rm, M1 - 1)) / take[M1](rd, M1 - 1)\n    return sum[M1, M0](a * values)\n",
        {"k": 2, "v": 1},
    ),
    "linear attention with a normaliser": (
        ATTENTION + "    kv = k^T @ v\n    ks = sum[M](k)\n    return (q @ kv) / (1 + sum[D](q * ks))\n",
        {"k": 1, "v": 1},
    ),
    "softmax as a whole": (ATTENTION + "    return softmax[M](q @ k^T) @ v\n", {"k": 3, "v": 1}),
    "self-attention": (
        "attention f(x[N, D]) -> [N, D]:\n    where M = N\n    y = x[N -> M]\n    return softmax[M](x @ y^T) @ y\n",
        {"x": 3},
    ),
    "a statistic of the same tokens first": (
        "attention f(x[N, D]) -> [N, D]:\n    where M = N\n    y = x[N -> M] - mean[N](x)\n"
        "    return softmax[M](x @ y^T) @ y\n",
        {"x": 4},
    ),
    "two layers": (
        "attention f(x[N, D]) -> [N, D]:\n    where M = N\n"
        "    layer(z) = softmax[M](z @ (z[N -> M])^T) @ z[N -> M]\n    return layer(layer(x))\n",
        {"x": 6},
    ),
    "sorted, then read again": (
        "attention f(x[N]) -> [N]:\n    sequence N\n    return x / (1 + sum[N](square(sort[N](x))))\n", {"x": 2},
    ),
    "pointwise": ("attention f(x[N, D]) -> [N, D]:\n    return silu(x) * x\n", {"x": 1}),
    "unused": ("attention f(x[N, D], y[N, D]) -> [N, D]:\n    return silu(x)\n", {"y": 0}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_passes_of_a_text(case: str) -> None:
    text, expected = CASES[case]
    formula = formula_of(text)
    found = {node.op.name: passes(formula.graph, node, node.axes[0]) for node in formula.inputs}  # type: ignore[attr-defined]
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    "body",
    [
        "    mu = mean[C](x)\n    var = mean[C](square(x - mu))\n    return (x - mu) / sqrt(var + 1e-5)\n",
        "    return layer_norm[C](x)\n",
    ],
)
def test_layer_norm_goes_three_times_over_the_channels(body: str) -> None:
    formula = formula_of("attention f(x[N, C]) -> [N, C]:\n" + body)
    assert passes(formula.graph, formula.inputs[0], "C") == 3
    assert passes(formula.graph, formula.inputs[0], "N") == 1


@pytest.mark.parametrize(
    ("name", "written", "compiled"),
    [
        ("attention_3pass", 3, 1),  # it is a softmax
        ("attention_2pass", 2, 1),
        ("softmax_attention", 3, 1),  # the fused softmax corrects what it has summed
        ("linear_attention", 2, 1),
        ("aaren", 3, 1),
        ("lssar", 3, 2),
        ("pavlovian_attention", 1, 1),
    ],
)
def test_passes_of_examples_as_written_and_as_compiled(name: str, written: int, compiled: int) -> None:
    report = example(name)
    assert report.formula is not None
    assert report.plan is not None
    keys = next(node for node in report.formula.inputs if node.axes[-2] == "M")
    if name not in ("aaren", "pavlovian_attention"):
        keys = report.formula.inputs[1]
    assert passes(report.formula.graph, keys, "M") == written
    assert passes(report.plan, keys, "M") == compiled


def test_explain_tells_passes_dependence_and_row_sums() -> None:
    shown = describe(report_of(ATTENTION + "    return softmax[M](q @ k^T) @ v\n"))
    assert (
        "\npasses over the sequence\n  q[N]  1 pass    written, 1 compiled\n  k[M]  3 passes  written, 1 compiled\n"
        in shown
    )
    assert "\n  q[N]  along N   the same position\n" in shown
    assert "\n  v[M]  anywhere  every position\n" in shown
    assert "\n  `softmax[M](q @ k^T)`: the weights over `M` sum to one\n" in shown
    assert "\n  permuting positions along `N` permutes the result alike\n" in shown
    assert "\n  permuting positions along `M` changes nothing\n" in shown


def test_a_plan_never_takes_more_passes_over_the_keys_of_attention() -> None:
    report = report_of(ATTENTION + "    return softmax[M](where(abs(pos(N) - pos(M)) <= 3, q @ k^T, -inf)) @ v\n")
    assert report.formula is not None
    assert report.plan is not None
    assert [passes(graph, report.formula.inputs[1], "M") for graph in (report.formula.graph, report.plan)] == [3, 1]
