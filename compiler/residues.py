"""Formulas evaluated exactly, in modular arithmetic: the numbers of a proof by random evaluation.

Two rational functions that differ also differ at almost every point of a large prime field (Schwartz, JACM 1980;
Zippel, 1979). Exponentials become powers of a generator g of a subgroup of order Q of the field of P elements, with
their exponents computed in the field of Q elements, so that exp(a + b) = exp(a) exp(b) holds (Wu et al., Mirage, OSDI
2025). Cosine and sine are made of powers of a second generator. Every other function stands for itself: equal arguments
give equal, else unpredictable, values.

Residues are tensors of integers [2, trials, ...]: modulo P, and modulo Q.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

P = 2147097649  # below 2^31, so that products fit into 64 bits; P = 48 Q + 1
Q = 44731201
TRIALS = 16
MODULI = (P, Q)


def moduli(like: Tensor) -> Tensor:
    """P and Q, shaped so as to reduce residues."""
    return torch.tensor(MODULI).reshape(2, *([1] * (like.ndim - 1)))


def reduced(value: Tensor) -> Tensor:
    return value % moduli(value)


def times(left: Tensor, right: Tensor) -> Tensor:
    return reduced(left * right)


def power(base: Tensor, exponent: Tensor, modulus: int) -> Tensor:
    """base ** exponent for exponents >= 0, by repeated squaring."""
    base, exponent = torch.broadcast_tensors(base, exponent)
    result = torch.ones_like(base)
    for _ in range(int(exponent.max().item()).bit_length() if exponent.numel() else 0):
        result = torch.where(exponent % 2 == 1, result * base % modulus, result)
        base = base * base % modulus
        exponent = exponent // 2
    return result


def inverse(value: Tensor) -> Tensor:
    """1 / x in both fields; 0 for 0."""
    parts = [power(value[i], torch.tensor(modulus - 2), modulus) for i, modulus in enumerate(MODULI)]
    return torch.stack(parts)


def number(value: Fraction) -> Tensor:
    """A rational number, the same in every trial."""
    parts = [value.numerator * pow(value.denominator, -1, modulus) % modulus for modulus in MODULI]
    return torch.tensor(parts).reshape(2, 1).expand(2, TRIALS)


def whole(values: Tensor) -> Tensor:
    """Whole numbers as residues, the same in every trial."""
    found = torch.stack([values.to(torch.int64) % modulus for modulus in MODULI])
    return found.unsqueeze(1).expand(2, TRIALS, *values.shape)


def root(value: int) -> Tensor | None:
    """The square root of a whole number whose prime factors are 2, 3, 5 and 7, else None.

    One root is chosen for each prime, so that roots multiply as they should.
    """
    found = [1, 1]
    for prime in _ROOTS:
        while value % prime == 0 and value:
            value //= prime
            found = [a * b % modulus for a, b, modulus in zip(found, _ROOTS[prime], MODULI, strict=True)]
    return torch.tensor(found).reshape(2, 1).expand(2, TRIALS) if value == 1 else None


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


_ROOTS = {prime: [_square_root(prime, modulus) for modulus in MODULI] for prime in (2, 3, 5, 7)}
#: i with i * i = -1
IMAGINARY = _square_root(P - 1, P)


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
    return torch.stack([_mixed(state + i) % modulus for i, modulus in enumerate(MODULI)])


def drawn(name: str, shape: Sequence[int]) -> Tensor:
    """Independent random residues, by name [2, trials, *shape]."""
    count = 1
    for size in shape:
        count *= size
    places = torch.arange(count).reshape(1, *shape).expand(TRIALS, *shape)
    return unknown(f"value {name}", [places])


def _generator(name: str) -> int:
    """An element of order Q."""
    return pow(_seed(name) % P, (P - 1) // Q, P)


_EXPONENTIAL, _CIRCULAR = _generator("exponential"), _generator("circular")


def exponential(value: Tensor) -> Tensor:
    """exp of residues."""
    return _homomorphic("exp", _EXPONENTIAL, value)


def circular(value: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin of residues."""
    ahead = _homomorphic("circle", _CIRCULAR, value)[0]
    behind = power(ahead, torch.tensor(P - 2), P)
    half = (P + 1) // 2
    cosine = (ahead + behind) % P * half % P
    sine = (ahead - behind) % P * (half * pow(IMAGINARY, -1, P) % P) % P
    return (
        torch.stack([cosine, unknown("cos", [value[1]])[1]]),
        torch.stack([sine, unknown("sin", [value[1]])[1]]),
    )


def _homomorphic(name: str, generator: int, value: Tensor) -> Tensor:
    """The generator to the power of what is known modulo Q. What it is modulo Q is not known."""
    return torch.stack([power(torch.tensor(generator), value[1], P), unknown(name, [value[1]])[1]])
