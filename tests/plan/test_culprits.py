"""What stays quadratic, and which expression is blamed for it."""

from __future__ import annotations

import pytest

import attngraph
from attngraph.grammar.diagnostics import Diagnostic

PLAIN = "q[N, D], k[M, D], v[M, E]"
QUADRATIC = [
    ("softmax", PLAIN, ["return softmax[M](q @ k^T / sqrt(D)) @ v"]),
    ("sigmoid", PLAIN, ["return sigmoid(q @ k^T / sqrt(D)) @ v"]),
    ("relu", PLAIN, ["return relu(q @ k^T / sqrt(D)) @ v"]),
    ("abs", PLAIN, ["return abs(q @ k^T) @ v"]),
    ("tanh", PLAIN, ["param w[D]", "return softmax[M](sum[D](w * tanh(q + k))) @ v"]),
    ("softplus", PLAIN, ["return softplus(q @ k^T) @ v"]),
    ("exp", PLAIN, ["a = exp(q @ k^T)", "return (a / sum[M](a)) @ v"]),
    ("cos", PLAIN, ["return cos(q @ k^T) @ v"]),
    ("sqrt", PLAIN, ["return sqrt(exp(q) @ exp(k)^T) @ v"]),
    ("max", PLAIN, ["return max(q @ k^T, 0.5) @ v"]),
    ("clamp", PLAIN, ["return clamp(exp(q) @ exp(k)^T, max=1) @ v"]),
    ("l1_normalize", PLAIN, ["return l1_normalize[M](q @ k^T) @ v"]),
    ("exp", "width[N, A], v[M, E]", [
        "sequence N, M",
        "w = sum[A](width^2) + 1",
        "return exp(-(pos(N) - pos(M))^2 / (2 * w)) @ v",
    ]),
    ("exp", "width[N, A], v[M, E]", [
        "sequence N, M",
        "w = sum[A](width^2) + 1",
        "a = exp(-((pos(N) - pos(M)) / w)^2)",
        "return a @ v / sum[M](a)",
    ]),
    ("exp", PLAIN, ["return exp(-sum[D]((q - k)^2)) @ v"]),
    ("exp", PLAIN, ["a = exp(-square(q @ k^T))", "return a @ v / sum[M](a)"]),
    ("abs", PLAIN, ["return abs(q @ k^T)^3 @ v"]),
    ("abs", PLAIN, ["return square(1 + abs(q @ k^T)) @ v"]),
    ("abs", "q[N, D], k[M, D], v[M, E], u[N], w[M]", ["return sin(abs(u - w)) @ v"]),
    ("abs", "q[N, D], k[M, D], v[M, E], u[N], w[M]", ["return cos(abs(u - w) + 1) @ v"]),
    ("^", PLAIN, ["return (q @ k^T)^9 @ v"]),
    ("tanh", PLAIN, ["return square(relu(q) @ k^T + tanh(q @ k^T)) @ v"]),
]  # fmt: skip


def _report(inputs: str, lines: list[str]) -> attngraph.Report:
    text = f"attention quadratic({inputs}) -> [N, E]:\n    require linear\n" + "".join(f"    {x}\n" for x in lines)
    return attngraph.check(text)


def _broken_claim(report: attngraph.Report) -> Diagnostic:
    [found] = [d for d in report.diagnostics if d.code == "AG401"]
    return found


@pytest.mark.parametrize(("blamed", "inputs", "lines"), QUADRATIC, ids=[q[0] + q[1][0] for q in QUADRATIC])
def test_stays_quadratic_and_says_why(blamed: str, inputs: str, lines: list[str]) -> None:
    report = _report(inputs, lines)
    assert not report.ok
    assert [verdict.holds for verdict in report.verdicts] == [False]
    assert report.order == "O(N*M)"
    found = _broken_claim(report)
    underlined = report.source.text[found.span.start : found.span.end]
    assert underlined.startswith(blamed) or (blamed == "^" and underlined == "(q @ k^T)^9")
    reasons = [label.text for label in found.labels if label.span == found.span]
    assert reasons == [f"`{blamed}` of a value that couples `N` and `M` cannot be separated"]


def test_the_whole_call_is_underlined() -> None:
    report = _report(PLAIN, ["s = q @ k^T / sqrt(D)", "a = sigmoid(s)", "return a @ v"])
    found = _broken_claim(report)
    assert report.source.text[found.span.start : found.span.end] == "sigmoid(s)"


def test_a_map_that_is_returned_is_the_result() -> None:
    text = f"attention both({PLAIN}) -> [N, E], [N, M]:\n    require linear\n    a = q @ k^T\n    return a @ v, a\n"
    report = attngraph.check(text)
    found = _broken_claim(report)
    assert [label.text for label in found.labels if label.span == found.span] == ["the result itself is [N, M]"]


def test_a_mask_by_position_is_blamed_where_no_algorithm_knows_it() -> None:
    report = _report(PLAIN, ["where M = N", "return where((pos(N) * pos(M)) % 7 == 0, q @ k^T, 0) @ v"])
    found = _broken_claim(report)
    reasons = [label.text for label in found.labels if label.span == found.span]
    assert reasons == ["a factor that couples `N` and `M` by position"]


def test_the_first_of_several_culprits_is_blamed() -> None:
    report = _report(PLAIN, ["a = relu(q @ k^T)", "return sigmoid(a) @ v"])
    found = _broken_claim(report)
    assert report.source.text[found.span.start : found.span.end] == "relu(q @ k^T)"
