"""Pairs that nearly agree: at most sizes, for most inputs, or up to the last digits."""

from __future__ import annotations

import pytest

import attngraph
from attngraph.compiler.equivalence import Equivalence, Verdict
from attngraph.compiler.equivalence.residues import PRIMES

HEADER = "attention f(q[N, D], k[M, D], b[N, M], n[N, M] int, c[N, M] bool) -> [N, M]:\n"


def compare(left: str, right: str) -> Equivalence:
    return attngraph.equivalent(f"{HEADER}    return {left}\n", f"{HEADER}    return {right}\n")


CONSTANTS = (
    ("b", "b * (1 + 1e-12)"), ("b", "b + 1e-12"), ("b", "b * 1.0000000001"), ("b / (abs(b) + 1e-12)", "sign(b)"),
    ("b", f"{PRIMES[0][0]}e-22 * b + b"), ("layer_norm[M](b)", "layer_norm[M](3 * b)"),
    ("gelu(b)", "b * sigmoid(1.702 * b)"),
)  # fmt: skip
PIECES = (
    ("b", "where(b == 0, 1, b)"), ("b", "where(b == 3.25, 7, b)"), ("b", "where(b > 1000, 0, b)"),
    ("b", "clamp(b, min=-50, max=50)"), ("round(b)", "floor(b + 0.5)"), ("0 * b", "relu(b - 1e6)"),
    ("n", "n * n"), ("n", "n // 2 * 2"), ("n % 2", "n % 4"), ("n", "abs(n)"), ("b", "where(n == 17, 0, b)"),
    ("b", "where(n > 100, 0, b)"),
)  # fmt: skip
SIZES = (
    ("b", "where(pos(N) > 64, 0, b)"), ("b", "where(N > 64, 0, b)"), ("b", "where(N == D, 0, b)"),
    ("b", "where(N % 2 == 0, b, 0 * b)"), ("b", "where(N == 7, 0, b)"), ("b", "where(N * N > 5000, 0, b)"),
    ("b", "where(N > 1, b, 0)"), ("b", "b + where(M >= 100 and N >= 2, 1, 0)"), ("b", "b + where(pos(M) == 300, 1, 0)"),
)  # fmt: skip
NOT_NUMBERS = (
    ("0 * b", "0 * log(b)"), ("b", "log(b) - log(b) + b"), ("b / b", "1 + 0 * b"), ("b", "sqrt(b) * sqrt(b)"),
    ("b", "exp(log(b))"), ("softmax[M](b, mask=c)", "exp(b) * c / sum[M](exp(b) * c)"),
    ("softmax[M](b)", "softmax[M](where(c, b, -inf))"),
)  # fmt: skip
EQUAL = (
    ("b", "(b + 1e8) - 1e8"), ("max(b, 0)", "relu(b)"), ("softmax[M](b)", "softmax[M](b + 1000)"),
    ("where(pos(N) >= pos(M), b, 0)", "where(pos(N) - pos(M) > -0.5, b, 0)"), ("floor(b)", "-ceil(-b)"),
    ("max[M](b) + 0 * b", "0 * b - min[M](-b)"), ("b", "stop_gradient(b)"), ("sqrt(b^2)", "abs(b)"),
    ("b", "b + 0 * (N - D)"), ("where(c, b, 0)", "where(c, b, 0) + where(c and not c, 1, 0)"),
)  # fmt: skip
#: equal, but by laws that nothing here uses: better no answer than a wrong one
OPEN = (
    ("b", "sign(b) * abs(b)"), ("b", "where(n == n, b, 0)"),
    ("l2_normalize[M](l2_normalize[M](b))", "l2_normalize[M](b)"), ("tanh(1e-9 * b)", "1e-9 * b"),
)  # fmt: skip


@pytest.mark.parametrize(("left", "right"), [*CONSTANTS, *PIECES, *SIZES, *NOT_NUMBERS])
def test_a_difference_is_found(left: str, right: str) -> None:
    found = compare(left, right)
    assert found.verdict is Verdict.DIFFERENT, found
    assert found.counterexample is not None


@pytest.mark.parametrize(("left", "right"), EQUAL)
def test_rounding_is_no_difference(left: str, right: str) -> None:
    assert compare(left, right).verdict is Verdict.PROVED


@pytest.mark.parametrize(("left", "right"), OPEN)
def test_doubt_is_not_proof(left: str, right: str) -> None:
    found = compare(left, right)
    assert found.verdict is Verdict.UNKNOWN, found
    assert found.confidence


def test_a_proof_says_for_which_sizes() -> None:
    found = compare("roll[M](b, by=1)", "roll[M](roll[M](b, by=2), by=-1)")
    assert found.verdict is Verdict.PROVED
    assert not found.everywhere
    assert "at these sizes only" in found.confidence


#: What a size or a position decides, with the least number of positions at which it does.
LIMITS = (
    ("where(pos(N) > {}, 0, b)", 2),
    ("where(N > {}, 0, b)", 1),
    ("where(pos(N) / {} >= 1, 0, b)", 1),
    ("where(pos(N) - {} >= 0, 0, b)", 1),
    ("b * (1 - pos(N) // {})", 1),
    ("b * min(pos(N) % {} + 1, 1) + max(pos(N) - {}, 0)", 2),
    ("b + shift[N](b, by={})", 1),
    ("b * min(N, {}) / N", 1),
    ("b + relu(pos(N) - {})", 2),
    ("b * sign({} - pos(N))", 1),
    ("b + abs(pos(N) - {}) + pos(N) - {}", 2),
    ("b * (clamp(pos(N), max={}) - pos(N) + 1)", 2),
)


@pytest.mark.parametrize(("right", "more"), LIMITS)
def test_a_large_number_is_tried(right: str, more: int) -> None:
    found = compare("b", right.replace("{}", "3777"))
    assert found.verdict is Verdict.DIFFERENT
    assert found.counterexample is not None
    assert found.counterexample.sizes["N"] >= 3777 + more


@pytest.mark.parametrize("right", [right for right, _ in LIMITS])
def test_a_number_beyond_what_is_tried_is_doubt(right: str) -> None:
    """Such formulas are equal at every size that anybody can try, and no proof says that they are at others."""
    found = compare("b", right.replace("{}", "3777000"))
    assert found.verdict is Verdict.UNKNOWN
    assert "3777000" in found.confidence


@pytest.mark.parametrize("right", ["where(pos(N) * 3777000 >= 0, b, 0)", "where(3777000 * (pos(N) + 1) > 0, b, 0)"])
def test_a_number_that_positions_are_multiplied_by_is_no_limit(right: str) -> None:
    assert compare("b", right).verdict is Verdict.PROVED


def test_results_of_different_sizes_are_no_values_to_compare() -> None:
    text = "attention f(x[N]) -> [P]:\n    return pad_circular[N -> P](x, before=1, after={})\n"
    found = attngraph.equivalent(text.format(0), text.format(1))
    assert found.verdict is Verdict.UNKNOWN
    assert "different sizes" in found.confidence


def test_truth_values_are_compared() -> None:
    text = "attention f(x[N]) -> [N] bool:\n    return pos(N) != {}\n"
    assert attngraph.equivalent(text.format(0), text.format(2)).verdict is Verdict.DIFFERENT
