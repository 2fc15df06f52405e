"""Softmax attention with a bias of the lag: which biases become tables, and the same values without gradients too."""

from __future__ import annotations

import pytest
import torch

from attngraph.compiler.emit import emit
from attngraph.compiler.lowerings.lagged import ROWS
from attngraph.compiler.lowerings.rows import in_rows
from attngraph.compiler.module import compile as build

from .formulas import HEADS, PLAIN, Case, formula
from .harness import all_sizes, close, draw, fixed, kernels, pair, parts, same_values_and_gradients


def _case(name: str, *lines: str, inputs: str = HEADS, result: str = "[H, N, E]", **more: object) -> Case:
    return Case(name, formula(name, inputs, "where M = N", "lag = pos(N) - pos(M)", *lines, result=result), "", **more)  # type: ignore[arg-type]


SLOPE = "slope = 2^(-pos(H) - 1)"
FOUND = [
    _case("causal", SLOPE, "return softmax[M](q @ k^T / sqrt(D) - slope * lag, mask=lag >= 0) @ v"),
    _case("both_sides", SLOPE, "return softmax[M](q @ k^T / sqrt(D) - slope * abs(lag)) @ v"),
    _case("not_alike", "return softmax[M](q @ k^T / 3 + where(lag > 2, 2 * sin(lag), cos(lag))) @ v"),
    _case("a_table", "param b[H, L] = normal(1)", "near = clamp(lag + 3, 0, L - 1)",
          "return softmax[M](q @ k^T + take[L](b, near)) @ v"),
    _case("a_causal_table", "param b[L] = normal(1)", "near = clamp(lag, 0, L - 1)",
          "return softmax[M](where(lag >= 0, q @ k^T + take[L](b, near), -inf)) @ v"),
    _case("of_data", "return softmax[M](q @ k^T - s * lag, mask=pos(M) <= pos(N)) @ v", inputs=f"{HEADS}, s[H]"),
    _case("without_heads", "return softmax[M](q @ k^T - 0.5 * abs(lag)) @ v", inputs=PLAIN, result="[N, E]"),
]  # fmt: skip
MISSES = [
    _case("hides_the_diagonal", SLOPE, "return softmax[M](q @ k^T - slope * lag, mask=lag > 0) @ v"),
    _case("sees_one_ahead", SLOPE, "return softmax[M](q @ k^T - slope * lag, mask=lag >= -1) @ v"),
    _case("infinite", "return softmax[M](q @ k^T + where(lag % 2 == 0, 2 * lag, -inf)) @ v"),
    _case("of_both_positions", "return softmax[M](q @ k^T - 0.1 * pos(N) * pos(M)) @ v"),
    _case("of_keys", "return softmax[M](q @ k^T - 2 * lag + sum[D](k)) @ v"),
]


def _kernels(case: Case) -> tuple[str, ...]:
    formula, _, plan = parts(case.text)
    return kernels(in_rows(formula, plan))


@pytest.mark.parametrize("case", FOUND, ids=str)
def test_found(case: Case) -> None:
    formula, _, plan = parts(case.text)
    assert _kernels(case) == ("lagged_attention",)
    assert not any({"N", "M"} <= set(node.axes) for node in in_rows(formula, plan).nodes())
    assert "lagged_attention" not in emit(formula, plan, at_once=True).source


@pytest.mark.parametrize("case", MISSES, ids=str)
def test_declined(case: Case) -> None:
    assert "lagged_attention" not in _kernels(case)


@pytest.mark.parametrize("length", [1, 2, ROWS, 2 * ROWS + 3])
@pytest.mark.parametrize("case", FOUND, ids=str)
def test_values_without_gradients(case: Case, length: int) -> None:
    """Twenty times the heads of a formula: more than are computed together."""
    sizes = all_sizes(case, length)
    both, inputs = pair(case.text, fixed(case, sizes)), draw(case, sizes, (5, 4))
    with torch.no_grad():
        close(both.planned(*inputs), both.dense(*inputs), 1e-10, "value")
        alone = [x[0, 0] for x in inputs]
        close(both.planned(*alone), both.dense(*alone), 1e-10, "no batch")
        shared = (inputs[0], *(x[0, 0] for x in inputs[1:]))
        close(both.planned(*shared), both.dense(*shared), 1e-10, "a batch of queries only")


@pytest.mark.parametrize("case", FOUND, ids=str)
def test_gradients(case: Case) -> None:
    sizes = all_sizes(case, ROWS + 5)
    same_values_and_gradients(pair(case.text, fixed(case, sizes)), draw(case, sizes, (2,)))


@pytest.mark.parametrize("case", FOUND[:4], ids=str)
def test_torchscript(case: Case) -> None:
    sizes = all_sizes(case, ROWS + 2)
    both, inputs = pair(case.text, fixed(case, sizes), "torchscript"), draw(case, sizes, (2,))
    same_values_and_gradients(both, inputs)
    with torch.no_grad():
        close(both.planned(*inputs), both.dense(*inputs), 1e-10, "value")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_precision(dtype: torch.dtype) -> None:
    case = FOUND[0]
    formula, _, plan = parts(case.text)
    inputs = [x.detach() for x in draw(case, all_sizes(case, 2 * ROWS + 3), dtype=dtype)]
    exact = pair(case.text).dense(*(x.double() for x in inputs))
    close(build(formula, plan)(*inputs).double(), exact, 1e-5 if dtype == torch.float32 else 3e-2, str(dtype))


def test_no_positions_at_all() -> None:
    case = FOUND[0]
    inputs = draw(case, all_sizes(case, 0), (2,))
    with torch.no_grad():
        assert pair(case.text).planned(*inputs).shape == (2, 2, 0, 3)
