"""Modular arithmetic: laws of fields, of powers and of unknown functions."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from attngraph.compiler.equivalence import residues
from attngraph.compiler.equivalence.residues import (
    MODULI,
    PRIMES,
    drawn,
    exponential,
    inverse,
    number,
    reduced,
    root,
    times,
    unknown,
    whole,
)  # fmt: skip


def _prime(number: int) -> bool:
    """By trial division."""
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


@pytest.mark.parametrize(("p", "q"), PRIMES)
def test_the_fields_are_what_they_should_be(p: int, q: int) -> None:
    assert _prime(p)
    assert _prime(q)
    assert (p - 1) % q == 0
    assert p < 2**31, "products of residues fit into 64 bits"


def test_no_prime_is_used_twice() -> None:
    assert len({prime for primes in PRIMES for prime in primes}) == 2 * residues.TRIALS


def test_inverse() -> None:
    x = drawn("x", (4,))
    assert (times(x, inverse(x)) == 1).all()
    assert (inverse(torch.zeros_like(x)) == 0).all()


def test_numbers() -> None:
    third, six = number(Fraction(1, 3)), number(Fraction(6))
    assert torch.equal(times(third, six), number(Fraction(2)))
    assert torch.equal(whole(torch.tensor([-1])).squeeze(-1), number(Fraction(-1)))


def test_exponentials_turn_sums_into_products() -> None:
    x, y = drawn("x", (4,)), drawn("y", (4,))
    together = exponential(reduced(x + y))
    assert torch.equal(together[0], times(exponential(x), exponential(y))[0])
    assert not torch.equal(exponential(x)[0], exponential(y)[0])


def test_circle() -> None:
    x, y = drawn("x", (4,)), drawn("y", (4,))
    (cos_x, sin_x), (cos_y, sin_y) = residues.circular(x), residues.circular(y)
    cos_sum, sin_sum = residues.circular(reduced(x + y))
    assert (reduced(times(cos_x, cos_x) + times(sin_x, sin_x))[0] == 1).all()
    assert torch.equal(cos_sum[0], reduced(times(cos_x, cos_y) - times(sin_x, sin_y))[0])
    assert torch.equal(sin_sum[0], reduced(times(sin_x, cos_y) + times(cos_x, sin_y))[0])


@pytest.mark.parametrize("value", [1, 2, 4, 6, 9, 12, 35])
def test_roots_of_whole_numbers(value: int) -> None:
    found = root(value)
    assert found is not None
    assert torch.equal(times(found, found), number(Fraction(value)))


def test_roots_multiply() -> None:
    two, three, six = root(2), root(3), root(6)
    assert two is not None
    assert three is not None
    assert six is not None
    assert torch.equal(times(two, three), six)
    assert root(11) is None


def test_unknown_functions_depend_on_name_and_argument() -> None:
    x = drawn("x", (3,))
    assert torch.equal(unknown("f", [x[0]]), unknown("f", [x[0].clone()]))
    assert (unknown("f", [x[0]]) != unknown("g", [x[0]])).all()
    assert (unknown("f", [x[0]]) != unknown("f", [(x[0] + 1) % MODULI[0].reshape(-1, 1)])).all()
    assert len(unknown("f", [x[0]])[0].unique()) == residues.TRIALS * 3
