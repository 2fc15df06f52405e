"""Formulas evaluated exactly, in modular arithmetic: the numbers of a proof by random evaluation.

Two rational functions that differ also differ at almost every point of a large prime field (Schwartz, JACM 1980;
Zippel, 1979). Exponentials become powers of a generator g of a subgroup of order Q of the field of P elements, with
their exponents computed in the field of Q elements, so that exp(a + b) = exp(a) exp(b) holds (Wu et al., Mirage, OSDI
2025). Cosine and sine are made of powers of a second generator. Every other function stands for itself: equal arguments
give equal, else unpredictable, values.

Residues are tensors of integers [2, trials, ...]: modulo P, and modulo Q. Each trial has primes of its own, so that a
number that is divisible by one of them says nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache

import torch
from torch import Tensor

#: primes P < 2^31, so that products fit into 64 bits, and Q that divides P - 1; 2, 3, 5, 7 are squares modulo both,
#: and -1 is one modulo P
PRIMES = (
    (2140727089, 44598481), (1804957009, 37603271), (1835424049, 38238001), (1893620689, 39450431),
    (1973293009, 41110271), (2005065169, 41772191), (1852655569, 38596991), (1784595409, 37179071),
    (1910232529, 39796511), (1919828689, 39996431), (1740525649, 36260951), (2140822609, 44600471),
    (2115380689, 44070431), (1754663089, 36555481), (2139169489, 44566031), (1962270769, 40880641),
)  # fmt: skip
TRIALS = len(PRIMES)
LEAST = min(q for _, q in PRIMES)
#: [2, trials]: the primes P, and the primes Q
MODULI = torch.tensor(PRIMES).T


def moduli(like: Tensor) -> Tensor:
    """The primes, shaped so as to reduce residues."""
    return MODULI.reshape(2, TRIALS, *([1] * (like.ndim - 2)))


def reduced(value: Tensor) -> Tensor:
    return value % moduli(value)


def times(left: Tensor, right: Tensor) -> Tensor:
    return reduced(left * right)


def power(base: Tensor, exponent: Tensor, modulus: Tensor) -> Tensor:
    """base ** exponent for exponents >= 0, by repeated squaring."""
    base, exponent = torch.broadcast_tensors(base, exponent)  # type: ignore[no-untyped-call]
    result = torch.ones_like(base)
    for _ in range(int(exponent.max().item()).bit_length() if exponent.numel() else 0):
        result = torch.where(exponent % 2 == 1, result * base % modulus, result)
        base = base * base % modulus
        exponent = exponent // 2
    return result


def to_the(value: Tensor, exponent: int) -> Tensor:
    """A whole power, also a negative one; 0 to a negative power is 0."""
    primes = moduli(value)
    return power(value, exponent % (primes - 1), primes)


def inverse(value: Tensor) -> Tensor:
    """1 / x in both fields; 0 for 0."""
    primes = moduli(value)
    return power(value, primes - 2, primes)


def number(value: Fraction) -> Tensor:
    """A rational number. Errors: ZeroDivisionError where a prime divides its denominator."""
    if any(value.denominator % prime == 0 for primes in PRIMES for prime in primes):
        raise ZeroDivisionError
    return _each(lambda prime: value.numerator * pow(value.denominator, -1, prime) % prime)


def _each(found: Callable[[int], int]) -> Tensor:
    """A number for each prime [2, trials]."""
    return torch.tensor([[found(primes[i]) for primes in PRIMES] for i in (0, 1)])


def whole(values: Tensor) -> Tensor:
    """Whole numbers as residues."""
    return values.to(torch.int64) % MODULI.reshape(2, TRIALS, *([1] * values.ndim))


def root(value: int) -> Tensor | None:
    """The square root of a whole number whose prime factors are 2, 3, 5 and 7, else None.

    One root is chosen for each prime, so that roots multiply as they should.
    """
    factors = []
    for prime in (2, 3, 5, 7):
        while value % prime == 0 and value:
            value //= prime
            factors.append(prime)
    if value != 1:
        return None
    found = torch.ones(2, TRIALS, dtype=torch.int64)
    for prime in factors:
        found = times(found, _root_of_prime(prime))
    return found


@cache
def _root_of_prime(prime: int) -> Tensor:
    return _each(lambda modulus: _square_root(prime, modulus))


def _square_root(value: int, modulus: int) -> int:
    """By the algorithm of Tonelli and Shanks; value is a square."""
    odd, twos = modulus - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    other = next(n for n in range(2, modulus) if pow(n, (modulus - 1) // 2, modulus) == modulus - 1)
    base, result, rest = pow(other, odd, modulus), pow(value, (odd + 1) // 2, modulus), pow(value, odd, modulus)
    while rest != 1:
        order, squared = 0, rest
        while squared != 1:
            squared, order = squared * squared % modulus, order + 1
        factor = pow(base, 2 ** (twos - order - 1), modulus)
        result, base = result * factor % modulus, factor * factor % modulus
        rest, twos = rest * base % modulus, order
    return result


@cache
def imaginary() -> Tensor:
    """i with i * i = -1 modulo each P [trials]."""
    return torch.tensor([_square_root(prime - 1, prime) for prime, _ in PRIMES])


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def _mixed(value: Tensor) -> Tensor:
    """The finaliser of splitmix64, on wrapping 64-bit integers."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value = value ^ ((value >> shift) & ((1 << (64 - shift)) - 1))
        value = value * (factor - (1 << 64))
    return value ^ ((value >> 31) & ((1 << 33) - 1))


def unknown(name: str, arguments: Sequence[Tensor]) -> Tensor:
    """An unknown function of residues modulo P [trials, ...]: unpredictable, and the same for the same arguments.

    Returns residues [2, trials, ...].
    """
    state = _mixed(torch.tensor(_seed(name)) + torch.arange(TRIALS).reshape(TRIALS, *([1] * (arguments[0].ndim - 1))))
    for argument in arguments:
        state = _mixed(state ^ _mixed(argument + 0x1234567))
    hashed = torch.stack([_mixed(state + i) for i in (0, 1)])
    return hashed % moduli(hashed)


def drawn(name: str, shape: Sequence[int]) -> Tensor:
    """Independent random residues, by name [2, trials, *shape]."""
    count = 1
    for size in shape:
        count *= size
    places = torch.arange(count).reshape(1, *shape).expand(TRIALS, *shape)
    return unknown(f"value {name}", [places])


@cache
def _generator(name: str) -> Tensor:
    """An element of order Q modulo each P [trials]."""
    return torch.tensor([pow(_seed(name) % p, (p - 1) // q, p) for p, q in PRIMES])


def exponential(value: Tensor) -> Tensor:
    """exp of residues."""
    return _homomorphic("exponential", value)


def circular(value: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin of residues."""
    primes = moduli(value)[0]
    ahead = _homomorphic("circular", value)[0]
    behind = power(ahead, primes - 2, primes)
    half = (primes + 1) // 2
    cosine = (ahead + behind) % primes * half % primes
    sine = (behind - ahead) % primes * (half * imaginary().reshape(primes.shape) % primes) % primes
    return (
        torch.stack([cosine, unknown("cos", [value[1]])[1]]),
        torch.stack([sine, unknown("sin", [value[1]])[1]]),
    )


def _homomorphic(name: str, value: Tensor) -> Tensor:
    """The generator to the power of what is known modulo Q. What it is modulo Q is not known."""
    primes = moduli(value)[0]
    found = power(_generator(name).reshape(primes.shape), value[1], primes)
    return torch.stack([found, unknown(name, [value[1]])[1]])
