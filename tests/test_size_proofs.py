"""An answer other than UNKNOWN is a proof: it holds for every size that the facts allow."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attngraph.compiler.pipeline import check_source
from attngraph.compiler.sizes import NO_FACTS, Facts, Poly, Truth, at_most, grown, growth, leading
from attngraph.grammar.source import Source

N, M = Poly.symbol("N"), Poly.symbol("M")
VALUES: list[int | Fraction] = [-3, -2, -1, 0, 1, 2, 3, Fraction(1, 2), Fraction(-1, 2), Fraction(3, 2)]
COEFFICIENTS = st.sampled_from(VALUES)
POLYNOMIALS = st.tuples(COEFFICIENTS, COEFFICIENTS, COEFFICIENTS, COEFFICIENTS).map(
    lambda c: N * c[0] + M * c[1] + N * M * c[2] + Poly.constant(c[3])
)
SIZES = [{"N": n, "M": m} for n, m in product(range(1, 7), repeat=2)]


@given(POLYNOMIALS, POLYNOMIALS, st.lists(POLYNOMIALS, max_size=1))
def test_at_least_is_never_wrong(left: Poly, right: Poly, bounds: list[Poly]) -> None:
    facts = Facts({}, tuple(bounds))
    allowed = [sizes for sizes in SIZES if all(bound.evaluate(sizes) >= 0 for bound in bounds)]
    answer = facts.at_least(left, right)
    if answer is Truth.YES:
        assert all(left.evaluate(sizes) >= right.evaluate(sizes) for sizes in allowed)
    elif answer is Truth.NO:
        assert all(left.evaluate(sizes) < right.evaluate(sizes) for sizes in allowed)


@given(POLYNOMIALS, POLYNOMIALS)
def test_equal_is_never_wrong(left: Poly, right: Poly) -> None:
    answer = NO_FACTS.equal(left, right)
    if answer is not Truth.UNKNOWN:
        assert all((left.evaluate(s) == right.evaluate(s)) == (answer is Truth.YES) for s in SIZES)


@given(POLYNOMIALS, POLYNOMIALS)
def test_a_size_over_the_names_that_no_fact_defines_has_the_same_value(size: Poly, value: Poly) -> None:
    facts = Facts({"M": value + Poly.function("ceil", N / 2), "N": N})
    for _ in range(2):  # the second time from what was kept of the first
        for each in (size, size * size - M):
            found = facts.canonical(each)
            assert found == each.substitute(facts.definitions)
            assert all(isinstance(factor, int) or factor.denominator > 1 for factor in found.terms.values())


@given(st.lists(POLYNOMIALS, max_size=4))
def test_what_some_sizes_grow_as_together_is_the_largest_growth_of_each(sizes: list[Poly]) -> None:
    positive = [Poly({monomial: abs(factor) for monomial, factor in size.terms.items()}) for size in sizes]
    total = Poly.total(positive)
    assert total == sum(positive, Poly({}))
    assert grown(positive) == growth(total)
    assert grown(positive, axes=frozenset({"N"})) == growth(total, axes=frozenset({"N"}))


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("pos(N) >= pos(M)", True),
        ("pos(M) <= pos(N)", True),
        ("pos(N) > pos(M)", True),
        ("pos(N) > pos(M) - 1", True),
        ("pos(N) >= pos(M) - 0.5", True),
        ("2 * pos(N) >= 2 * pos(M) - 1", True),
        ("pos(N) - D >= pos(M)", True),
        ("pos(N) >= pos(M) - 1", False),
        ("pos(N) + 1 >= pos(M)", False),
        ("pos(N) > pos(M) - 2", False),
        ("2 * pos(N) > 2 * pos(M) - 3", False),
        ("pos(N) + D >= pos(M)", False),
        ("2 * pos(N) >= pos(M)", False),
        ("pos(N) <= pos(M)", False),
    ],
)
def test_causal_masks(condition: str, holds: bool) -> None:
    text = (
        "attention f(q[N, D], k[M, D], v[M, E]) -> [N, E]:\n    where M = N\n    require causal\n"
        f"    return softmax[M](q @ k^T, mask={condition}) @ v\n"
    )
    (report,) = check_source(Source("f.attn", text))
    assert [verdict.holds for verdict in report.verdicts] == [holds]


@pytest.mark.parametrize(
    ("fact", "low", "high", "proved"),
    [
        ("N > M", M + 1, N, True),
        ("M < N", M + 1, N, True),
        ("N > M / 2", M + 1, N * 2, True),
        ("N > M / 2", M * Fraction(1, 2) + 1, N, False),
        ("N / 2 > M / 3", M * 2 + 1, N * 3, True),
        ("N / 2 > M / 3", M * 2 + 2, N * 3, False),
        ("N >= M", M + 1, N, False),
    ],
)
def test_a_strict_fact_is_one_step(fact: str, low: Poly, high: Poly, proved: bool) -> None:
    """Whole numbers differ by at least 1, halves by at least a half: N > M / 2 holds for N = 3, M = 5."""
    text = f"attention f(x[N, D], y[M, D]) -> [N, D]:\n    where {fact}\n    return x + sum[M](y)\n"
    (report,) = check_source(Source("f.attn", text))
    assert report.ok
    assert report.formula is not None
    assert (report.formula.facts.at_least(high, low) is Truth.YES) is proved


TERMS = (N, M, N * M, N * N, Poly.constant(1), Poly.function("ceil", N / M), Poly.function("log", N), N / M)
SUMS = st.lists(st.tuples(st.sampled_from(TERMS), st.sampled_from([-1, 1, 2, 3])), min_size=1, max_size=4).map(
    lambda parts: sum((term * factor for term, factor in parts), Poly.constant(0))
)


@given(SUMS, SUMS)
def test_at_most_is_never_wrong(small: Poly, large: Poly) -> None:
    if at_most(small, large):
        assert all(small.evaluate(sizes) <= large.evaluate(sizes) + 1e-9 for sizes in SIZES)


def test_at_most_compares_terms_with_larger_ones() -> None:
    assert at_most(N + M, N * M * 2)
    assert not at_most(N * 3, N * M * 2)
    assert at_most(N + 1, N * 2)
    assert at_most(M, M * Poly.function("ceil", N / M))
    assert not at_most(M, M * Poly.function("log", N))
    assert not at_most(N, N / M)


def test_leading_terms() -> None:
    ceil = Poly.function("ceil", N / M)
    assert leading(N * M * 2 + N * 5 + M + 3) == N * M * 2
    assert leading(N * 2 + M) == N * 2 + M
    assert leading(ceil * M + M) == ceil * M
    assert leading(N / M + N) == N
    assert leading(N / M + M) == N / M + M
