"""Symbolic sizes as Python expressions over ints, such that torch can trace and script them."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from math import lcm

from .. import pyast
from ..sizes import ONE, Atom, Monomial, Number, Poly, in_digits, multiply_monomials

Reference = Callable[[str], ast.expr]  # a name of an axis or constant -> the expression that holds it

_ROUNDED = frozenset({"floor", "ceil", "max", "min"})
DIGITS = "digits"
"""The function of `lowerings` that counts digits of a size."""


@dataclass(frozen=True)
class Whole:
    """A size that is meant to be an int: `dividend // divisor`, exact if the divisor is None or divides it."""

    expression: ast.expr
    dividend: ast.expr
    divisor: ast.expr | None


def whole(size: Poly, reference: Reference) -> Whole:
    """An int expression for a size; if it is no polynomial over integers, also what must divide what."""
    numerator, denominator = over_common_denominator(size)
    dividend = number(numerator, reference)
    if denominator.as_number() == 1:
        return Whole(dividend, dividend, None)
    divisor = number(denominator, reference)
    return Whole(pyast.binary("//", dividend, divisor), dividend, divisor)


def over_common_denominator(size: Poly) -> tuple[Poly, Poly]:
    """Polynomials p and m with size = p / m, where p has integer coefficients and no negative powers
    and m is one monomial."""
    powers: dict[str, int] = {}
    for monomial in size.terms:
        for atom, power in monomial:
            if power < 0:
                powers[atom] = max(powers.get(atom, 0), -power)
    factor = reduce(lcm, (Fraction(c).denominator for c in size.terms.values()), 1)
    denominator: Monomial = tuple(sorted(powers.items()))
    numerator = Poly({multiply_monomials(m, denominator): int(c * factor) for m, c in size.terms.items()})
    return numerator, Poly({denominator: factor})


def is_rational(size: Poly) -> bool:
    """Whether only + - * / and rounding occur, so that equality can be decided on ints."""
    return all(
        not isinstance(atom, Atom) or (atom.function in _ROUNDED and all(map(is_rational, atom.arguments)))
        for monomial in size.terms
        for atom, _ in monomial
    )


def number(size: Poly, reference: Reference) -> ast.expr:
    """An expression for a size: an int where the size is a polynomial over integers, else a float."""
    size = _counted(size)
    if not size.terms:
        return ast.Constant(0)
    terms: list[tuple[Monomial, Number]] = list(size.terms.items())
    ordered = sorted(terms, key=lambda item: (item[1] < 0, -sum(p for _, p in item[0]), item[0]))
    total: ast.expr | None = None
    for monomial, coefficient in ordered:
        term = _term(monomial, -coefficient if coefficient < 0 else coefficient, reference)
        if total is None:
            total = pyast.negative(term) if coefficient < 0 else term
        else:
            total = pyast.binary("-" if coefficient < 0 else "+", total, term)
    assert total is not None
    return total


def _counted(size: Poly) -> Poly:
    """The size with digits of sizes in place of rounded logarithms."""
    atoms = {atom for monomial in size.terms for atom, power in monomial if power > 0 and isinstance(atom, Atom)}
    counts: dict[str, Poly] = {atom: count for atom in atoms if (count := in_digits(atom)) is not None}
    if not counts:
        return size
    terms = []
    for monomial, coefficient in size.terms.items():
        factors = (counts[a] ** power if a in counts else Poly({((a, power),): 1}) for a, power in monomial)
        terms.append(reduce(operator.mul, factors, Poly({ONE: coefficient})))
    return Poly.total(terms)


def _term(monomial: Monomial, coefficient: int | Fraction, reference: Reference) -> ast.expr:
    if monomial == ONE:
        return ast.Constant(coefficient if isinstance(coefficient, int) else float(coefficient))
    exact = Fraction(coefficient)
    above: list[ast.expr] = []
    below: list[ast.expr] = []
    if exact.denominator > 1000:  # a decimal such as 0.1234 reads better than a quotient
        above.append(ast.Constant(float(exact)))
    else:
        above += [ast.Constant(exact.numerator)] * (exact.numerator != 1)
        below += [ast.Constant(exact.denominator)] * (exact.denominator != 1)
    for atom, power in monomial:
        # a product, not `**`: TorchScript's int ** int is a float
        (above if power > 0 else below).extend([_atom(atom, reference)] * abs(power))
    product = reduce(lambda a, b: pyast.binary("*", a, b), above) if above else ast.Constant(1)
    return reduce(lambda a, b: pyast.binary("/", a, b), below, product)


def _atom(atom: str, reference: Reference) -> ast.expr:
    if not isinstance(atom, Atom):
        return reference(atom)
    arguments = atom.arguments
    if atom.function in ("floor", "ceil") and is_rational(arguments[0]):
        numerator, denominator = over_common_denominator(arguments[0])
        divisor = number(denominator, reference)
        if atom.function == "floor":
            return pyast.binary("//", number(numerator, reference), divisor)
        return pyast.negative(pyast.binary("//", number(-numerator, reference), divisor))
    values = [number(argument, reference) for argument in arguments]
    if atom.function == DIGITS:
        return pyast.call(DIGITS, *values)
    if atom.function == "sqrt" and all(coefficient > 0 for coefficient in arguments[0].terms.values()):
        return pyast.binary("**", values[0], 0.5)  # what torch.export can trace
    if atom.function == "quotient":
        return pyast.binary("/", *values)
    if atom.function in ("max", "min"):
        return reduce(lambda a, b: pyast.call(atom.function, a, b), values)
    return pyast.call(f"math.{atom.function}", *values)


def substituted(size: Poly, definitions: Mapping[str, Poly]) -> Poly:
    """The size with definitions applied until none applies; a definition is never circular."""
    for _ in range(len(definitions) + 1):
        reduced = size.substitute(definitions)
        if reduced == size:
            return size
        size = reduced
    return size
