"""Ranges are sound: whatever the inputs, every value of a random graph lies in the interval that is stated for it."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from attngraph.compiler.facts.ranges import ANY, Range, ranges
from attngraph.compiler.graph import Builder, Node, topological
from attngraph.compiler.ops import (
    arithmetic,
    contraction,
    cumulative,
    functions,
    leaves,
    logic,
    normalisations,
    ordering,
    pairs,
    reductions,
    selection,
)
from attngraph.compiler.ops.base import Op, Reject
from attngraph.compiler.pipeline import check_source
from attngraph.compiler.sizes import Poly
from attngraph.compiler.types import Kind
from attngraph.grammar.source import Source
from tests.reference import evaluate

SIZES = {"N": 3, "M": 2}
CONSTANTS = {"half": 0.5, "three": 3}

UNARY: list[Callable[[], Op]] = [
    arithmetic.Negative,
    lambda: arithmetic.IntegerPower(2),
    lambda: arithmetic.IntegerPower(3),
    *(
        getattr(functions, name)
        for name in (
            "Abs", "Square", "Sqrt", "Exp", "Sin", "Cos", "Tanh", "Sigmoid", "Softplus", "Relu", "Relu6", "Elu",
            "Gelu", "Silu", "LeakyRelu", "LogSigmoid", "Softsign", "HardSigmoid", "Log1p", "Erf", "StopGradient",
            "Sign", "Floor", "Int", "Reciprocal", "Rsqrt", "Expm1", "Cosh", "Log",
        )
    ),
    lambda: functions.Elu(Poly.constant(2)),
    lambda: functions.Celu(Poly.constant(2)),
]  # fmt: skip
BINARY: list[Callable[[], Op]] = [
    arithmetic.Add,
    arithmetic.Subtract,
    arithmetic.Multiply,
    arithmetic.Divide,
    arithmetic.Power,
    pairs.Maximum,
    pairs.Minimum,
    lambda: pairs.Clamp(("min",)),
    lambda: pairs.Clamp(("max",)),
]
ALONG: list[Callable[[tuple[str, ...]], Op]] = [
    reductions.Sum,
    reductions.Mean,
    reductions.Max,
    reductions.Min,
    reductions.Product,
    reductions.Norm,
    reductions.Variance,
    reductions.LogSumExp,
    normalisations.Softmax,
    normalisations.LogSoftmax,
    normalisations.L1Normalize,
    normalisations.L2Normalize,
    lambda axes: cumulative.CumulativeSum(axes[0]),
    lambda axes: cumulative.CumulativeMax(axes[0]),
    lambda axes: ordering.Sort(axes[0]),
    lambda axes: selection.Shift(axes[0], Poly.constant(1)),
    lambda axes: selection.Roll(axes[0], Poly.constant(1)),
]  # fmt: skip


WAYS = ("unary", "unary", "binary", "binary", "along", "contract", "where", "below", "quadratic")


def _leaf(builder: Builder, choose: random.Random) -> Node:
    axes = choose.choice([(), ("N",), ("M",), ("N", "M")])
    made: list[Callable[[], Op]] = [
        lambda: leaves.Input(f"x{len(axes)}{''.join(axes)}", Kind.REAL, axes),
        lambda: leaves.Literal(choose.choice([-1.5, 0, 0.0, 1, 0.25, 2.0])),
        lambda: leaves.Position("N"),
        lambda: leaves.Size(Poly.symbol(choose.choice(["N", "three"]))),
        lambda: leaves.Size(Poly.symbol("half"), Kind.REAL),
    ]
    return builder.make(choose.choice([*made[:1] * 3, *made[1:]])())


def _grown(builder: Builder, choose: random.Random, count: int) -> list[Node]:
    """Nodes of a random graph, operands first."""
    nodes = [_leaf(builder, choose) for _ in range(4)]
    while len(nodes) < count:
        first, second, third = (choose.choice(nodes[-8:]) for _ in range(3))
        shared = sorted(set(first.axes) & set(second.axes))
        try:
            match choose.choice(WAYS):
                case "unary":
                    node = builder.make(choose.choice(UNARY)(), first)
                case "binary":
                    node = builder.make(choose.choice(BINARY)(), first, second)
                case "along" if first.axes:
                    node = builder.make(choose.choice(ALONG)((choose.choice(first.axes),)), first)
                case "contract" if shared:
                    rest = tuple(dict.fromkeys(a for a in (*first.axes, *second.axes) if a != shared[0]))
                    node = builder.make(contraction.Contraction((shared[0],), rest), first, second)
                case "below" if first.axes:
                    top = builder.make(reductions.Max((first.axes[0],)), first)
                    node = builder.make(arithmetic.Subtract(), *choose.choice([(first, top), (top, first)]))
                case "quadratic":
                    a, b, c = (builder.make(leaves.Literal(choose.choice([-1, 0.5, 2, 1]))) for _ in range(3))
                    square = builder.make(arithmetic.Multiply(), builder.make(functions.Square(), first), a)
                    linear = builder.make(arithmetic.Add(), builder.make(arithmetic.Multiply(), b, first), c)
                    node = builder.make(arithmetic.Subtract(), square, linear)
                case "where":
                    condition = builder.make(logic.Greater(), first, second)
                    node = builder.make(logic.Where(), condition, second, third)
                case _:
                    continue
        except Reject:
            continue
        nodes.append(node)
    return nodes


def _outside(values: np.ndarray, known: Range) -> bool:
    """Whether a finite value leaves the interval by more than rounding."""
    slack = 1e-9 * max(1.0, float(np.abs(values).max()))
    return bool((values < known.low - slack).any() or (values > known.high + slack).any())


def _is_tame(node: Node, values: dict[Node, np.ndarray]) -> bool:
    """Whether all that the node is computed from is finite and of moderate size, so that nothing is rounded away."""
    operands = [values[n] for n in topological([node]) if n is not node]
    return all(np.isfinite(value).all() and np.abs(value).max(initial=0) < 1e6 for value in operands)


@pytest.mark.parametrize("seed", range(150))
def test_values_lie_in_their_ranges(seed: int) -> None:
    choose, draw = random.Random(seed), np.random.default_rng(seed)
    nodes = _grown(Builder(), choose, 24)
    stated = ranges(tuple(nodes), CONSTANTS)
    inputs = {
        n.op.name: draw.normal(0, 2, tuple(SIZES[a] for a in n.axes)) for n in nodes if isinstance(n.op, leaves.Input)
    }
    values: dict[Node, np.ndarray] = {}
    for node in sorted(stated, key=lambda n: n.index):
        values[node] = np.asarray(evaluate(node, inputs, SIZES, CONSTANTS))
    for node, value in values.items():
        if not _is_tame(node, values) or not np.isfinite(value).all() or node.type.kind is Kind.BOOL:
            continue
        assert not _outside(value.astype(float), stated[node]), f"{node}: {value} is not in {stated[node]}"


def test_the_random_graphs_state_something() -> None:
    """The test above would pass if every range were the whole line."""
    stated = [
        known
        for seed in range(20)
        for known in ranges(tuple(_grown(Builder(), random.Random(seed), 24)), CONSTANTS).values()
    ]
    assert sum(known != ANY for known in stated) > len(stated) / 4
    assert sum(known.positive for known in stated) > 20
    assert sum(known.high < float("inf") for known in stated) > 20


def test_an_open_end_is_not_reached() -> None:
    builder = Builder()
    x = builder.make(leaves.Input("x", Kind.REAL, ("N",)))
    exponential, relu = builder.make(functions.Exp(), x), builder.make(functions.Relu(), x)
    known = ranges((exponential, relu), {})
    assert known[exponential].positive
    assert known[relu].non_negative
    assert not known[relu].positive


def test_an_end_that_is_reached_is_closed() -> None:
    builder = Builder()
    x = builder.make(leaves.Input("x", Kind.REAL, ("N",)))
    one = builder.make(leaves.Literal(1))
    least = builder.make(pairs.Maximum(), x, one)
    for op in (functions.Relu(), functions.Sqrt()):
        excess = builder.make(arithmetic.Subtract(), builder.make(op, least), one)
        known = ranges((excess,), {})[excess]
        assert known.non_negative
        assert not known.positive


def test_a_value_less_itself_is_zero() -> None:
    assert _text_range("g[M -> N] - g[M -> N]") == Range(0.0, 0.0)
    assert _text_range("g[M -> N] - (g + 1)[M -> N]") == ANY


def _text_range(expression: str) -> Range:
    """The range of `return` in a causal formula of this expression."""
    head = "attention f(s[N, M], t[N, M], g[M]) -> [N]:\n    where M = N\n    seen(x) = where(pos(N) >= pos(M), x, 0)\n"
    [report] = check_source(Source("f.attn", f"{head}    return {expression}\n"))
    assert report.formula is not None, [d.message for d in report.diagnostics]
    [output] = report.formula.graph.outputs
    return ranges((output,), report.formula.constants)[output]


@pytest.mark.parametrize(
    ("expression", "positive"),
    [
        ("sum[M](seen(exp(s)))", True),  # the first key is always seen
        ("sum[M](seen(exp(s)) * exp(t))", True),
        ("sum[M](seen(1 + s + s^2 / 2))", True),  # at least 1/2, whatever s is
        ("sum[M](seen(exp(s)) * t)", False),
        ("sum[M](seen(1 + s + s^2 / 4))", False),  # 0 at s = -2
        ("sum[M](seen(relu(s)))", False),
        ("sum[M](where(pos(N) > pos(M), exp(s), 0))", False),  # the first row is empty
        ("sum[M](where(pos(M) >= pos(N) + 1, exp(s), 0))", False),
        ("sum[M](where(t > 0, exp(s), 0))", False),
    ],
)
def test_a_row_that_always_sees_a_key_has_a_positive_sum(expression: str, positive: bool) -> None:
    assert _text_range(expression).positive is positive


def test_sums_of_positive_products_are_positive() -> None:
    builder = Builder()
    q, k = (builder.make(leaves.Input(n, Kind.REAL, (n, "D"))) for n in ("N", "M"))
    one = builder.make(leaves.Literal(1))
    features = [builder.make(arithmetic.Add(), builder.make(functions.Elu(), x), one) for x in (q, k)]
    scores = builder.make(contraction.Contraction(("D",), ("N", "M")), *features)
    signed = builder.make(contraction.Contraction(("D",), ("N", "M")), features[0], k)
    known = ranges((scores, signed), {})
    assert known[scores].positive
    assert known[signed] == ANY
