"""Sums of products: proofs for all sizes, and near misses, of which none may be proved."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest

from attngraph.compiler.equivalence import Side, Verdict, equivalent
from attngraph.compiler.equivalence.everywhere import same_sums
from attngraph.compiler.equivalence.matching import Matched
from attngraph.compiler.graph import Graph, Node
from attngraph.compiler.ops import arithmetic, functions, logic, pairs
from attngraph.compiler.ops.base import Op, Reject
from attngraph.compiler.ops.leaves import Literal
from attngraph.compiler.pipeline import check_source, read
from attngraph.grammar.source import Source
from benchmarks import examples

from .test_attacks import CONSTANTS, HEADER, PIECES, SIZES
from .test_equivalence import DIFFERENT, body, formula
from .test_equivalence import HEADER as ATTENTION

LINEAR = "(relu(q) @ relu(k)^T) / sum[M](relu(q) @ relu(k)^T)"
#: equal for all sizes
EQUAL = (
    ("(q @ k^T) @ v", "q @ (k^T @ v)"),  # reassociated
    (f"({LINEAR}) @ v", "(relu(q) @ (relu(k)^T @ v)) / sum[D](relu(q) * sum[M](relu(k)))"),  # a factor leaves a sum
    ("(q @ k^T)^2 @ v", "sum[D, F](q * q[D -> F] * sum[M](k * k[D -> F] * v))"),  # expanded
    ("exp(sum[D](q) + sum[D](k)) @ v", "exp(sum[D](q)) * (exp(sum[D](k)) @ v)"),
    ("cos(sum[D](q) - sum[D](k)) @ v", "cos(sum[D](q)) * (cos(sum[D](k)) @ v) + sin(sum[D](q)) * (sin(sum[D](k)) @ v)"),
    ("where(pos(N) >= pos(M), b, 0) @ v", "(b * where(pos(M) > pos(N), 0, 1)) @ v"),
    ("where(b >= 0, b, 0) @ v", "(b - where(0 > b, b, 0)) @ v"),
    ("where(pos(N) == pos(M), b, 0) @ v", "(b * (1 - where(pos(M) != pos(N), 1, 0))) @ v"),
    ("softmax[M](b + sum[D](q)) @ v", "softmax[M](b) @ v"),
    ("softmax[M](b) @ v", "sum[M](exp(b - max[M](b)) * v) / sum[M](exp(b - max[M](b)))"),
    ("softmax[M](b) @ v + sum[M](softmax[M](b))", "softmax[M](b) @ v + 1"),  # weights add up to 1
    ("softmax[M](where(pos(N) > pos(M), -inf, b)) @ v", "softmax[M](b, mask=pos(M) >= pos(N)) @ v"),
    ("sum[M](v) * sum[D](q)", "sum[M, D](v * q)"),
    ("sum[M](v + 0 * b) / M", "mean[M](v) + 0 * pos(N)"),
    ("mean[M](b) * sum[M](v)", "sum[M, W](b[M -> W] * v) / M"),
    ("var[M](b) * sum[M](v)", "(mean[M](b^2) - mean[M](b)^2) * sum[M](v)"),
    ("layer_norm[M](b) @ v", "((b - mean[M](b)) / sqrt(var[M](b) + 1e-5)) @ v"),
    ("silu(b) @ v", "(b / (1 + exp(-b))) @ v"),
    ("sqrt(4 * D) * (b @ v)", "2 * (b @ v) / D^-0.5"),
    ("relu(q @ k^T) @ v", "relu(k @ q^T)^T @ v"),
    ("relu(sum[D](q[N -> M]) + b) @ v", "sum[M](relu(b + sum[D](q)[N -> M]) * v)"),
)  # fmt: skip
#: nearly: an axis, an exponent, a comparison, a sign, an epsilon
NEAR = (
    ("(q @ k^T) @ v", "(q @ k^T) @ v / M"),
    ("(q @ k^T)^2 @ v", "sum[D](q * q * sum[M](k * k * v))"),
    ("(q @ k^T)^2 @ v", "(q @ k^T)^3 @ v"),
    ("softmax[M](b) @ v", "softmax[N](b) @ v"),
    ("softmax[M](b) @ v", "(exp(b) @ v) / (sum[M](exp(b)) + 1e-30)"),
    ("softmax[M](b) @ v", "(exp(b) @ v) / sum[M](exp(1.0000001 * b))"),
    ("softmax[M](b) @ v", "softmax[M](b, mask=pos(N) >= 0 * pos(M) + 1) @ v"),
    ("exp(sum[D](q) + sum[D](k)) @ v", "exp(sum[D](q)) * (exp(2 * sum[D](k)) @ v)"),
    ("where(pos(N) >= pos(M), b, 0) @ v", "where(pos(N) > pos(M), b, 0) @ v"),
    ("where(pos(N) >= pos(M), b, 0) @ v", "sum[M](where(pos(M) >= pos(N), b, 0) * v)"),
    ("where(b >= 0, 1, 0) @ v", "where(b > 0, 1, 0) @ v"),
    ("where(b >= 0, 1, 0) @ v", "(1 - where(-b - 1 >= 0, 1, 0)) @ v"),  # for whole numbers only
    ("where(pos(N) - pos(M) == 1, b, 0) @ v", "sum[M](where(pos(M) - pos(N) == 1, b, 0) * v)"),
    ("cos(sum[D](q) - sum[D](k)) @ v", "cos(sum[D](q) + sum[D](k)) @ v"),
    ("sin(sum[D](q) - sum[D](k)) @ v", "sum[M](sin(sum[D](k) - sum[D](q)) * v)"),
    ("sum[M](v) * sum[D](q)", "sum[M](v) * sum[D](q) * D"),
    ("mean[M](b) * sum[M](v)", "mean[M](b) * mean[M](v)"),
    ("sum[M](b * v)", "sum[M, W](b[M -> W] * v)"),
    ("sqrt(b^2) @ v", "b @ v"),
    ("sqrt(b)^2 @ v / sqrt(4 * D)", "sqrt(b)^2 @ v / sqrt(2 * D)"),
    ("max[M](b) + 0 * sum[M](v)", "max[M](b^2) + 0 * sum[M](v)"),
    ("sum[M](v) + max[D](q)", "sum[M](v) + max[D](q) * D / D^2"),
    ("b @ v * max[N](b @ v)", "b @ v * max[N](b @ v * 1.0000001)"),
    ("b @ v * max[N](b @ v)", "b @ v * max[M](b)"),
    ("relu(b) @ v", "relu(-b) @ v"),
    ("layer_norm[M](b) @ v", "layer_norm[M](b, eps=1e-6) @ v"),
)  # fmt: skip


def matched(left: Side, right: Side) -> Matched:
    found = Matched.of(left, right)
    assert not isinstance(found, str)
    return found


@pytest.mark.parametrize(("left", "right"), EQUAL)
def test_equal_for_all_sizes(left: str, right: str) -> None:
    sides = body(f"return {left}"), body(f"return {right}")
    found = equivalent(*sides, rules=False)
    assert found.verdict is Verdict.PROVED, found
    assert found.everywhere
    assert same_sums(matched(*sides))


@pytest.mark.parametrize(("left", "right"), [*NEAR, *DIFFERENT])
def test_near_misses_are_not_proved(left: str, right: str) -> None:
    """Also without the search for a counterexample."""
    assert not same_sums(matched(body(f"return {left}"), body(f"return {right}")))


@pytest.mark.parametrize(("left", "right"), [*CONSTANTS, *PIECES, *SIZES])
def test_attacks_are_not_proved(left: str, right: str) -> None:
    sides = (body(f"return {text}", header=HEADER) for text in (left, right))
    assert not same_sums(matched(*sides))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        # the left formula's one axis is two of the right one
        ("f(a[N], b[N]) -> [N]:\n    return sum[N](a * b) * a", "f(a[I], b[J]) -> [I]:\n    return sum[J](a * b) * a"),
        # two of the left one are one of the right one
        ("f(a[N], b[M]) -> [N]:\n    return sum[M](a * b)", "f(a[I], b[I]) -> [I]:\n    return a * b"),
        # results in another order of axes
        ("f(a[N], b[M]) -> [N, M]:\n    return a - b", "f(a[N], b[M]) -> [M, N]:\n    return b - a"),
        # a size that only one side knows
        ("f(a[N, N2]) -> [N]:\n    where N2 = 3\n    return sum[N2](a) / 3",
         "f(a[N, N2]) -> [N]:\n    where N2 = 4\n    return sum[N2](a) / 4"),
    ],
)  # fmt: skip
def test_axes_keep_apart(left: str, right: str) -> None:
    sides = [Side(f, f.graph) for f in (formula(f"attention {text}\n") for text in (left, right))]
    found = Matched.of(*sides)
    assert isinstance(found, str) or not same_sums(found)


#: operations, and others that take their place
CHANGES: Mapping[type[Op], Op] = {
    arithmetic.Add: arithmetic.Subtract(), arithmetic.Subtract: arithmetic.Add(), arithmetic.Multiply: arithmetic.Add(),
    logic.GreaterEqual: logic.Greater(), logic.LessEqual: logic.Less(), logic.Less: logic.LessEqual(),
    logic.Equal: logic.GreaterEqual(), logic.And: logic.Or(), functions.Exp: functions.Expm1(),
    functions.Sigmoid: functions.Tanh(), functions.Relu: functions.Abs(), functions.Cos: functions.Sin(),
    functions.Sqrt: functions.Abs(), pairs.Maximum: pairs.Minimum(),
}  # fmt: skip


def _changed(side: Side, place: Node) -> Side | None:
    """The formula with one operation in the place of another; None where the types do not fit."""
    builder = side.formula.builder
    made: dict[Node, Node] = {}
    try:
        for node in side.graph.nodes():
            op = node.op
            if node is place:
                op = Literal(op.value + 0.125) if isinstance(op, Literal) else CHANGES[type(op)]
            made[node] = builder.make(op, *(made[operand] for operand in node.inputs))
    except Reject:
        return None
    return Side(side.formula, Graph(tuple(made[output] for output in side.graph.outputs), {}))


@pytest.mark.parametrize("part", range(8))
def test_one_changed_operation_is_not_proved(part: int) -> None:
    """In formulas of the catalogue, unless the search too finds nothing."""
    random = Random(part)
    tried = 0
    for path in examples.FILES[part::8]:
        source = read(path)
        assert isinstance(source, Source)
        for report in check_source(source):
            assert report.formula is not None
            side = Side(report.formula, report.formula.graph)
            places = [
                n for n in side.graph.nodes() if type(n.op) in CHANGES or (isinstance(n.op, Literal) and n.op.value)
            ]
            if not places or len(side.graph.nodes()) > 60:
                continue
            other = _changed(side, random.choice(places))
            if other is None:
                continue
            tried += 1
            if same_sums(matched(side, other)):
                assert equivalent(side, other).verdict is not Verdict.DIFFERENT, report.name
    assert tried


def test_sizes_of_both_formulas_count() -> None:
    """M is N in the right formula only; all sizes that both take are such."""
    left = formula(f"{ATTENTION}    return b @ v / M\n")
    right = formula(ATTENTION + "    where M = N\n    return b @ v / N\n")
    assert same_sums(matched(Side(left, left.graph), Side(right, right.graph)))
