"""Maps a block of queries at a time: what is run so, what is not, and the same values and gradients."""

from __future__ import annotations

import pytest
import torch

import attngraph
from attngraph.compiler.emit import emit
from attngraph.compiler.lowerings.rows import ROWS, RowBlocks, groups, in_rows
from attngraph.compiler.module import compile as build

from .formulas import HEADS, PLAIN, Case, formula
from .harness import all_sizes, checked, close, draw, fixed, pair, parts, same_values_and_gradients

LENGTHS = (1, ROWS - 1, ROWS, 2 * ROWS + 3)


def _case(name: str, inputs: str, *lines: str, result: str = "[N, E]", tied: bool = False, **more: object) -> Case:
    lines = ("where M = N" if tied else "sequence N, M", *lines)
    return Case(name, formula(name, inputs, *lines, result=result), "", tied=tied, **more)  # type: ignore[arg-type]


def _free(name: str, *lines: str, inputs: str = PLAIN, result: str = "[N, E]", **more: object) -> Case:
    return _case(name, inputs, *lines, result=result, **more)


def _tied(name: str, *lines: str, inputs: str = PLAIN, result: str = "[N, E]", **more: object) -> Case:
    return _case(name, inputs, *lines, result=result, tied=True, **more)


HEADED = {"inputs": HEADS, "result": "[H, N, E]"}
WHOLE = [  # every key is read
    *(_free(f, f"return {f}(q @ k^T / sqrt(D) - log(M)) @ v") for f in ("sigmoid", "tanh", "softplus", "gelu")),
    _free("relu_squared", "a = relu(q @ k^T)", "return (a * a / M) @ v"),
    _free("ratio", "a = sigmoid(q @ k^T)", "return (a @ v) / (1 + sum[M](a))"),
    _free("softmax_times_sigmoid", "s = q @ k^T", "return (softmax[M](s) * sigmoid(s)) @ v"),
    _free("additive", "return softmax[M](sum[D](tanh(q + k))) @ v"),
    _free("mixed_heads", "param w[H, G] = normal(1)", "a = softmax[M](q @ k^T)",
          "return sum[M](sigmoid(sum[H](a * w)) * v[H -> G])", inputs=HEADS, result="[G, N, E]", sizes=(("G", 2),)),
    _tied("table", "param b[L] = normal(1)", "near = clamp(pos(N) - pos(M) + 3, 0, L - 1)",
          "return softmax[M](q @ k^T + take[L](b, near)) @ v"),
    _tied("one_ahead", "a = sigmoid(q @ k^T)", "return where(pos(N) >= pos(M) - 1, a, 0) @ v"),
    _tied("first_keys", "a = sigmoid(q @ k^T)", "return where(pos(N) >= pos(M) or pos(M) < 4, a, 0) @ v"),
    _tied("mean", "a = where(pos(N) >= pos(M), sigmoid(q @ k^T), 0)", "return (a - mean[M](a)) @ v"),
    _tied("largest", "a = where(pos(N) >= pos(M), sigmoid(q @ k^T), 0)", "return (a @ v) / (1 + max[M](a))"),
]  # fmt: skip
CUT = [  # a block reads the keys up to its end
    _tied("causal_sigmoid", "return where(pos(N) >= pos(M), sigmoid(q @ k^T / sqrt(D)), 0) @ v"),
    _tied("strict", "return where(pos(N) > pos(M), sigmoid(q @ k^T / sqrt(D)), 0) @ v"),
    _tied("causal_ratio", "a = where(pos(N) >= pos(M), sigmoid(q @ k^T), 0)", "return (a / sum[M](a)) @ v"),
    _tied("lag_bias", "slope = 2^(-pos(H) - 1)", "lag = pos(N) - pos(M)",
          "return softmax[M](q @ k^T / sqrt(D) - slope * lag, mask=lag >= 0) @ v", **HEADED),
    _tied("learned_slope", "param slope[H] = normal(1)", "lag = pos(N) - pos(M)",
          "return softmax[M](where(lag >= 0, q @ k^T / sqrt(D) - abs(slope) * lag, -inf)) @ v", **HEADED),
    _tied("bias_of_keys", "param w[D] = normal(1)", "b = sum[D](k * w)",
          "return softmax[M](q @ k^T + b, mask=pos(N) >= pos(M)) @ v"),
    _tied("mask_of_data", "seen = sum[D](q) > sum[D](k) or pos(N) == pos(M)",
          "return softmax[M](q @ k^T, mask=seen and pos(N) >= pos(M)) @ v"),
]  # fmt: skip
FOUND = [*WHOLE, *CUT]

MISSES = [
    _free("the_map_is_the_result", "return sigmoid(q @ k^T)", inputs="q[N, D], k[M, D]", result="[N, M]"),
    _free("over_the_queries", "return softmax[N](q @ k^T) @ v"),
    _free("normalised_over_the_queries", "a = sigmoid(q @ k^T)", "return (a / sum[N](a)) @ v"),
    _free("queries_are_mixed", "a = sigmoid(q @ k^T)", "return cumsum[N](a) @ v"),
    _tied("linear", "return where(pos(N) >= pos(M), (elu(q) + 1) @ (elu(k) + 1)^T, 0) @ v"),
    _tied("fused_alone", "return softmax[M](q @ k^T / sqrt(D), mask=pos(N) >= pos(M)) @ v"),
    _free("given_mask", "return softmax[M](q @ k^T, mask=seen) @ v", inputs=f"{PLAIN}, seen[N, M] bool"),
]


@pytest.mark.parametrize("case", FOUND, ids=str)
def test_found(case: Case) -> None:
    """One group, whose memory is linear although its time is not; no value of the module that is run is a map."""
    formula, _, plan = parts(case.text)
    [group] = groups(formula, plan)
    assert (group.query, group.key) == ("N", "M" if case in CUT else None)
    report = checked(case.text)
    assert report.compiled is not None
    assert report.written_order != report.compiled.memory_growth in ("O(N)", "O(N + M)")
    assert not any({"N", "M"} <= set(node.axes) for node in in_rows(formula, plan).nodes())
    assert sum(step.rule == RowBlocks.rule for step in report.steps) == 1


@pytest.mark.parametrize("case", MISSES, ids=str)
def test_declined(case: Case) -> None:
    formula, _, plan = parts(case.text)
    assert not groups(formula, plan)
    assert in_rows(formula, plan) is plan


def test_the_text_is_run_as_it_stands() -> None:
    formula, written, _ = parts(FOUND[0].text)
    assert not groups(formula, written)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("case", FOUND, ids=str)
def test_values_and_gradients(case: Case, length: int) -> None:
    sizes = all_sizes(case, length, length + 5)
    same_values_and_gradients(pair(case.text, fixed(case, sizes)), draw(case, sizes, (2,)))


@pytest.mark.parametrize("case", FOUND[::4] + CUT[3:4], ids=str)
def test_torchscript(case: Case) -> None:
    sizes = all_sizes(case, ROWS + 2, ROWS + 7)
    same_values_and_gradients(pair(case.text, fixed(case, sizes), "torchscript"), draw(case, sizes, (2,)))


@pytest.mark.parametrize("case", CUT, ids=str)
def test_later_keys_are_not_read(case: Case) -> None:
    """Not even where they hold no numbers."""
    sizes = all_sizes(case, 2 * ROWS)
    q, k, v = (x.detach() for x in draw(case, sizes))
    module = pair(case.text, fixed(case, sizes)).planned
    expected = module(q, k, v)[..., :ROWS, :]
    for x in (k, v):
        x[..., ROWS:, :] = float("nan")
    close(module(q, k, v)[..., :ROWS, :], expected, 1e-12, "first block")


def test_nothing_and_few_queries() -> None:
    case = WHOLE[0]
    for n, m in ((0, 3), (3, 2 * ROWS), (2 * ROWS, 1)):
        inputs = draw(case, all_sizes(case, n, m))
        both = pair(case.text)
        close(both.planned(*inputs), both.dense(*inputs), 1e-12, f"{n} queries, {m} keys")


def test_biases_of_positions_are_rounded_once() -> None:
    """In half precision too, values of positions are computed in single precision, as outside of blocks."""
    case = next(each for each in CUT if each.name == "lag_bias")
    formula, _, plan = parts(case.text)
    inputs = [x.detach() for x in draw(case, all_sizes(case, 3 * ROWS), dtype=torch.bfloat16)]
    exact = pair(case.text).dense(*(x.double() for x in inputs))
    for dtype, tolerance in ((torch.bfloat16, 3e-2), (torch.float32, 1e-5)):
        close(build(formula, plan)(*(x.to(dtype) for x in inputs)).double(), exact, tolerance, str(dtype))


def test_traced_modules_have_no_loop_and_say_so() -> None:
    formula, _, plan = parts(CUT[0].text)
    assert "_by_blocks" in emit(formula, plan).source
    assert "_by_blocks" not in emit(formula, plan, at_once=True).source
    module = attngraph.compile(CUT[0].text, target="inductor")
    assert any(note.startswith(RowBlocks.rule) for note in module.notes)
