"""What masks say of the values under them: used where it leads to another algorithm, and only where it follows."""

from __future__ import annotations

import pytest
import torch

from attngraph.compiler.assumed import NUMBER, RULE, assumed

from .formulas import PLAIN, Case, formula
from .harness import all_sizes, checked, draw, fixed, pair, parts, same_values_and_gradients

S = "s = q @ k^T / sqrt(D)"
LAG = "lag = pos(N) - pos(M)"
LEVEL = "g = cumsum[N](-abs(sum[D](q)))"


def _case(name: str, line: str, order: str = "O(N)") -> Case:
    body = ("where M = N", "param rate[] = 3", LAG, S, LEVEL, f"return {line}")
    return Case(name, formula(name, PLAIN, *body), order)


FOUND = [
    _case("magnitude", "(s * where(lag >= 0, exp(-rate * abs(lag)), 0)) @ v"),
    _case("magnitude_of_the_other", "(s * where(lag >= 0, exp(-rate * abs(pos(M) - pos(N))), 0)) @ v"),
    _case("earlier_only", "where(lag > 0, s * 0.9^abs(lag), 0) @ v"),
    _case("hidden_first", "sum[M](where(lag < 0, 0, s * 0.9^abs(lag)) * v)"),
    _case("bound", "where(lag >= 0, s * 0.9^max(lag, 0), 0) @ v"),
    _case("looser_bound", "where(lag >= 0, s * 0.9^max(-2, lag), 0) @ v"),
    _case("relu", "where(lag >= 0, s * exp(-rate * relu(lag)), 0) @ v"),
    _case("clamp", "where(lag >= 0, s * exp(-rate * clamp(lag, min=0)), 0) @ v"),
    _case("negative", "where(lag >= 0, s * exp(rate * min(-lag, 0)), 0) @ v"),
    _case("a_factor", "(exp(-rate * abs(lag)) * s * where(lag >= 0, 1, 0)) @ v"),
    _case("a_factor_divided", "(s * exp(-rate * abs(lag)) * (where(lag >= 0, s, 0) / 2)) @ v"),
    _case("masked_twice", "where(lag >= 0, 1 + where(lag >= 0, s, 0)^2, 0) @ v"),
    _case("the_other_branch", "where(lag >= 0, where(lag < 0, exp(s), 1 + s^2), 0) @ v"),
]
COUNTED = [
    _case("condition", "(s * (lag >= 0)) @ v"),
    _case("condition_first", "((lag >= 0) * s) @ v"),
    _case("condition_of_a_decay", "(s * exp(-rate * lag) * (lag >= 0)) @ v"),
    _case("condition_beside_a_mask", "(where(lag >= 0, s, 0) * (lag >= 0)) @ v"),
    _case("condition_beside_an_indicator", "(where(lag >= 0, 1, 0) * s * (lag <= 3)) @ v"),
    _case("condition_beside_a_condition", "((lag >= 0) * 0.9^abs(lag) * (lag <= 9) * s) @ v"),
    _case("condition_of_a_magnitude", "(0.9^abs(lag) * (lag >= 0) * s) @ v"),
]
BOTH = [
    _case("two_masked_factors", "(where(lag >= 0, s, 0) * where(lag >= 0, 1, 0)) @ v"),
    _case("one_mask_within_the_other", "(where(lag > 0, s, 0) * where(lag >= 0, 0.9^abs(lag), 0)) @ v"),
    _case("two_masked_decays", "(s * (where(lag >= 0, 0.9^lag, 0) * where(lag >= 0, 0.8^lag, 0))) @ v", "O(N*log(N))"),
    _case("a_mask_and_its_multiple", "(where(2 * lag >= 0, s, 0) * (where(lag < 0, 0, s) / 2)) @ v"),
]
ALONE = [  # conditions that meet no value of both positions, or none at all
    _case("a_condition_of_positions_only", "sum[M]((abs(lag) < pos(N) - 5) * v)", "O(N^2)"),
    _case(
        "a_condition_of_one_position",
        "(s^2 * exp(-rate * relu(lag)) * exp(g - g[N -> M]) * (pos(N) <= 8)) @ v",
        "O(N^2)",
    ),
    _case("a_condition_of_sizes", "softmax[M](s, mask=N > 3) @ v", "O(N^2)"),
]
MISSES = [
    _case("other_mask", "where(lag >= -1, s * 0.9^abs(lag), 0) @ v", "O(N*log(N))"),
    _case("tighter_bound", "where(lag >= 0, s * 0.9^max(lag, 3), 0) @ v", "O(N*log(N))"),
    _case("later_keys", "where(lag <= 0, s * 0.9^abs(lag), 0) @ v", "O(N*log(N))"),
    _case("other_lag", "where(lag >= 0, s * 0.9^abs(lag - 1), 0) @ v", "O(N*log(N))"),
    _case("no_zero_elsewhere", "where(lag >= 0, s * 0.9^abs(lag), 1) @ v", "O(N^2)"),
    _case("other_branch", "sum[M](where(lag >= 0, 0, s * 0.9^max(lag, 0)) * v)", "O(N*log(N))"),
    _case("added", "(0.9^abs(lag) + where(lag >= 0, s, 0)) @ v", "O(N*log(N))"),
    _case("other_condition", "where(lag >= 0, exp(where(lag > 2, s, 0)), 0) @ v", "O(N^2)"),
    _case("magnitude_of_data", "where(lag >= 0, abs(s), 0) @ v", "O(N^2)"),
    _case("stays_a_map", "softmax[M](s * where(lag >= 0, exp(-rate * abs(lag)), 0)) @ v", "O(N^2)"),
]


def _rules(case: Case) -> set[str]:
    return {rule for step in checked(case.text).steps for rule in step.rule.split(", ")}


@pytest.mark.parametrize("case", FOUND, ids=str)
def test_found(case: Case) -> None:
    assert checked(case.text).order == case.order
    assert RULE in _rules(case)


@pytest.mark.parametrize("case", COUNTED, ids=str)
def test_a_condition_is_a_number(case: Case) -> None:
    assert checked(case.text).order == case.order
    assert NUMBER in _rules(case)


@pytest.mark.parametrize("case", BOTH, ids=str)
def test_of_the_masks_of_two_factors_one_stays(case: Case) -> None:
    assert checked(case.text).order == case.order


@pytest.mark.parametrize("case", ALONE, ids=str)
def test_a_condition_alone(case: Case) -> None:
    assert checked(case.text).order == case.order


@pytest.mark.parametrize("case", MISSES, ids=str)
def test_declined(case: Case) -> None:
    assert checked(case.text).order == case.order
    assert not {RULE, NUMBER} & _rules(case)


@pytest.mark.parametrize("length", [1, 67])
@pytest.mark.parametrize("case", [*FOUND, *COUNTED, *BOTH, *ALONE, *MISSES], ids=str)
def test_values_and_gradients(case: Case, length: int) -> None:
    sizes = all_sizes(case, length)
    same_values_and_gradients(pair(case.text, fixed(case, sizes)), draw(case, sizes, (2,)), 1e-9)


@pytest.mark.parametrize("case", [*FOUND, *MISSES], ids=str)
def test_nothing_overflows_that_the_text_holds(case: Case) -> None:
    """Without its magnitude or bound a decay would be infinite at the later keys, and its gradient no number."""
    sizes = all_sizes(case, 600)
    inputs = draw(case, sizes)
    both = pair(case.text, fixed(case, sizes))
    with torch.no_grad():
        both.planned.rate.fill_(9.0)
        both.dense.rate.fill_(9.0)
    same_values_and_gradients(both, inputs, 1e-9)


def test_what_no_mask_hides_is_left_alone() -> None:
    text = formula("plain", PLAIN, "where M = N", LAG, "return (q @ k^T * 0.9^abs(lag)) @ v")
    typed, written, _ = parts(text)
    assert assumed(written, typed.builder).graph is written
