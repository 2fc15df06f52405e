"""Values that identities take apart: each is named, linear, and the same function."""

from __future__ import annotations

import pytest

from .formulas import PLAIN, Case, formula
from .harness import all_sizes, checked, draw, pair, same_values_and_gradients

ANGLE = "t = pi / 2 / max(N, M)"
R = "r = exp(q) @ exp(k)^T"


def _case(name: str, *lines: str) -> Case:
    return Case(name, formula(name, PLAIN, "sequence N, M", *lines), "O(N + M)", written="O(N*M)", tied=False)


CASES = {
    "distribution": [
        _case("squared_distance", "return sum[D]((q - k)^2) @ v"),
        _case("squared_distance_of_halves", "return sum[M](sum[D](square(q / 2 - (k - 1))) * v)"),
        _case("third_power", "return sum[D]((q + k)^3) @ v"),
        _case("near_and_far", "a = 1 / D + sum[D]((q - k)^2)", "return (a / sum[M](a)) @ v"),
    ],
    "cosine of a magnitude": [
        _case("cosine", ANGLE, R, "a = r * cos(t * abs(pos(N) - pos(M)))", "return a @ v / sum[M](a)"),
        _case("cosine_divided", ANGLE, R, "a = r * cos(-abs((pos(M) - pos(N)) * t) / 2)", "return a @ v / sum[M](a)"),
    ],
    "sine of a sum": [
        _case("sine", ANGLE, R, "a = r * sin(pi / 2 - t * (pos(N) - pos(M)))", "return (a / (1 + sum[M](a))) @ v"),
        _case("sine_of_more", ANGLE, R, "a = r * (2 + sin(1 - (t * pos(M) - 2 - t * pos(N))))", "return a @ v"),
        _case("sine_less_one", ANGLE, R, "a = r * (2 + sin((t * pos(M) - t * pos(N)) - 1))", "return a @ v"),
    ],
    "power of a magnitude": [
        _case("second_power", "return abs(q @ k^T)^2 @ v"),
        _case("square", "return square(abs(q @ k^T) / sqrt(D)) @ v"),
        _case("fourth_power", "return (-abs(q @ k^T / D))^4 @ v"),
    ],
}  # fmt: skip
ALL = [(rule, case) for rule, cases in CASES.items() for case in cases]


@pytest.mark.parametrize(("rule", "case"), ALL, ids=[case.name for _, case in ALL])
def test_found(rule: str, case: Case) -> None:
    report = checked(case.text)
    assert (report.written_order, report.order) == (case.written, case.order)
    assert rule in {name for step in report.steps for name in step.rule.split(", ")}


@pytest.mark.parametrize("sizes", [(1, 1), (5, 2), (4, 4), (31, 67)], ids=str)
@pytest.mark.parametrize("case", [case for _, case in ALL], ids=str)
def test_values_and_gradients(case: Case, sizes: tuple[int, int]) -> None:
    inputs = draw(case, all_sizes(case, *sizes), (2,))
    same_values_and_gradients(pair(case.text), inputs, 1e-9)
