"""What weights are said to sum to, they sum to; and the weights of the examples sum to what their papers say."""

from __future__ import annotations

import numpy as np
import pytest

from attngraph.compiler.facts.rows import Total, Totals
from attngraph.compiler.formula import Formula
from attngraph.compiler.graph import Graph
from attngraph.compiler.report import Weights
from tests.reference import evaluate

from .probes import NAMES, call, example, named_inputs, report_of

HEADER = "attention f(q[N, D], k[M, D], v[M, E], g[N], c[N, M] bool) -> [N, E]:\n"


def weights(name: str) -> tuple[Weights, ...]:
    found = example(name).properties
    assert found is not None
    return found.weights


@pytest.mark.parametrize("name", NAMES)
def test_weights_sum_to_what_is_said(name: str) -> None:
    formula = example(name).formula
    assert formula is not None
    claimed = [each for each in weights(name) if each.total != Total.UNKNOWN.value]
    given = call(name, 1)
    if not claimed or given.consts:
        return
    arrays = {key: x.detach().numpy() for key, x in {**named_inputs(name, given), **given.stored}.items()}
    sizes: dict[str, int] = {}
    for node in (*formula.inputs, *(stored.node for stored in (*formula.parameters, *formula.buffers))):
        shape = arrays[node.op.name].shape  # type: ignore[attr-defined]
        sizes.update(zip(node.axes, shape[len(shape) - len(node.axes) :], strict=True))
    for axis, size in formula.derived.items():
        if size.symbols() <= sizes.keys() | formula.constants.keys():
            sizes.setdefault(axis, int(size.evaluate({**sizes, **formula.constants})))
    graph = Graph(tuple(each.node for each in claimed), {})
    for each, value in zip(claimed, evaluate(graph, arrays, sizes, formula.constants), strict=True):
        dims = tuple(each.node.axes.index(axis) - len(each.node.axes) for axis in each.axes)
        sums = np.asarray(value).sum(axis=dims)
        one = np.abs(sums - 1) < 1e-9
        if each.total == Total.ONE.value:
            # weights that are divided after they are applied sum to one only then
            assert one.all() or not _is_normalised(each, formula)
        elif each.total == Total.ONE_OR_NONE.value:
            assert (one | (np.abs(sums) < 1e-12)).all()
        elif each.total == Total.NEAR_ONE.value:
            # what is divided may have any sign
            assert (sums <= 1 + 1e-9).all() or (np.asarray(value) < 0).any()
        else:
            assert (sums <= 1 + 1e-9).all()
            assert (np.asarray(value) >= 0).all()


def _is_normalised(each: Weights, formula: Formula) -> bool:
    return Totals(formula.constants, formula.facts).of(each.node, frozenset(each.axes)) is Total.ONE


@pytest.mark.parametrize(
    ("body", "total"),
    [
        ("softmax[M](q @ k^T) @ v", Total.ONE),
        ("softmax[M](q @ k^T, mask=c) @ v", Total.ONE_OR_NONE),
        ("softmax[M](q @ k^T, mask=pos(N) >= pos(M)) @ v", Total.ONE),
        ("softmax[M](q @ k^T, mask=pos(N) > pos(M)) @ v", Total.ONE_OR_NONE),
        ("softmax[N](q @ k^T) @ v", Total.UNKNOWN),
        ("(q @ k^T) @ v", Total.UNKNOWN),
        ("(softmax[M](q @ k^T) * sigmoid(g)) @ v", Total.AT_MOST_ONE),
        ("(softmax[M](q @ k^T) * g) @ v", Total.UNKNOWN),
        ("where(c, softmax[M](q @ k^T), 0) @ v", Total.AT_MOST_ONE),
        ("where(c, softmax[M](q @ k^T), 1) @ v", Total.UNKNOWN),
        ("(sigmoid(g) * softmax[M](q @ k^T) + (1 - sigmoid(g)) * softmax[M](-q @ k^T)) @ v", Total.ONE),
        ("(sigmoid(g) * softmax[M](q @ k^T) + (1 - g) * softmax[M](-q @ k^T)) @ v", Total.UNKNOWN),
        ("(exp(q @ k^T) / sum[M](exp(q @ k^T))) @ v", Total.ONE),
        ("(exp(q @ k^T) / (sum[M](exp(q @ k^T)) + 1e-6)) @ v", Total.NEAR_ONE),
        ("(exp(q @ k^T) / max(sum[M](exp(q @ k^T)), 1)) @ v", Total.NEAR_ONE),
        ("((q @ k^T) / (sum[M](q @ k^T) + 1e-6)) @ v", Total.NEAR_ONE),
        ("((q @ k^T) / (sum[M](q @ k^T) - 1)) @ v", Total.UNKNOWN),
        ("(exp(q @ k^T) / (sum[N](exp(q @ k^T))[M -> N] + 1)[N -> M]) @ v", Total.UNKNOWN),
        ("(exp(q @ k^T) * sigmoid(g) / sum[M](exp(q @ k^T) * sigmoid(g))) @ v", Total.ONE),
        ("(exp(q @ k^T) * sigmoid(g) / sum[M](exp(q @ k^T))) @ v", Total.UNKNOWN),
        ("(where(pos(N) >= pos(M), sigmoid(q @ k^T), 0) / (pos(N) + 1)) @ v", Total.AT_MOST_ONE),
        ("(where(pos(N) >= pos(M), sigmoid(q @ k^T), 0) / (pos(N) + 0.5)) @ v", Total.UNKNOWN),
        ("(where(pos(N) + 1 >= pos(M), sigmoid(q @ k^T), 0) / (pos(N) + 1)) @ v", Total.UNKNOWN),
        ("(where(pos(N) >= pos(M), exp(q @ k^T), 0) / (pos(N) + 1)) @ v", Total.UNKNOWN),
        ("(where(pos(N) >= pos(M), sigmoid(q @ k^T), 1) / (pos(N) + 1)) @ v", Total.UNKNOWN),
        ("softmax[M](q @ k^T, mask=abs(pos(N) - pos(M)) <= 2) @ v", Total.ONE),
        ("softmax[M](q @ k^T, mask=pos(N) - pos(M) <= 2 and pos(N) - pos(M) >= 0) @ v", Total.ONE),
        ("sum[D](softmax[D](q) * k[M -> N]) * v[M -> N]", Total.ONE),
        ("(exp(q @ k^T) / sum[N](exp(q @ k^T))) @ v", Total.UNKNOWN),
        ("(exp(q @ k^T) @ v) / sum[M](exp(q @ k^T))", Total.ONE),
        ("(exp(q @ k^T) @ v) / sum[N](exp(q @ k^T))[M -> N]", Total.UNKNOWN),
        ("l1_normalize[M](relu(q @ k^T)) @ v", Total.AT_MOST_ONE),
        ("l1_normalize[M](sigmoid(q @ k^T)) @ v", Total.NEAR_ONE),  # the sum may be below the smallest divisor
        ("l1_normalize[M](sigmoid(q @ k^T) + 1) @ v", Total.ONE),
        ("l1_normalize[M](sigmoid(q @ k^T) + 1, eps=2) @ v", Total.NEAR_ONE),
    ],
)
def test_totals_of_an_expression(body: str, total: Total) -> None:
    text = f"{HEADER}    where M = N\n    return {body}\n"
    found = report_of(text).properties
    assert found is not None
    assert total.value in {each.total for each in found.weights}


@pytest.mark.parametrize(
    ("weight", "total"),
    [
        ("softmax[M](keys @ q)", Total.ONE),
        ("softmax[M](keys @ q, mask=keys @ q > 0)", Total.ONE_OR_NONE),
        ("softmax[M](keys @ q, mask=pos(N) >= pos(M))", Total.ONE_OR_NONE),
        ("sigmoid(s) * softmax[M](keys @ q)", Total.AT_MOST_ONE),
        ("exp(keys @ q)", Total.UNKNOWN),
    ],
)
def test_weights_of_a_step(weight: str, total: Total) -> None:
    """One row of them for every step: nothing says that one row serves several."""
    found = report_of(
        "attention f(q[N, D], k[N, D], v[N, E]) -> [N, E]:\n    where M = N\n    keys = k[N -> M]\n"
        "    values = v[N -> M]\n    scan N:\n        state s[] = 0\n"
        f"        w = {weight}\n        s = tanh(s + sum[D](q))\n        yield y = w @ values + s\n    return y\n"
    ).properties
    assert found is not None
    first = found.weights[0]
    assert (first.total, first.axes) == (total.value, ("M",))
    assert not any(each.missing for each in found.weights)


def test_one_row_for_every_query_and_one_map_for_every_batch() -> None:
    shared, own = weights("induced_set_attention")
    assert (shared.missing, own.missing) == (("N",), ())
    found = report_of(
        "attention f(v[M, E]) -> [N, E]:\n    where N = M\n    param w[N, M]\n    return softmax[M](w) @ v\n"
    ).properties
    assert found is not None
    assert [each.batched for each in found.weights] == [False]
