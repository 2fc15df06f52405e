"""Sums of products over named axes, written in one way: equal texts are equal functions for all sizes.

A form is a sum of terms; a term is a number times powers of factors, summed over axes that are bound in it. Products
of sums are multiplied out, so that the order in which a product is summed does not matter; a factor that a sum does
not depend on leaves the inverse of that sum; exponentials of sums are products. Everything else is a factor of its
own: a function of the forms that it reads.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

MAX_TERMS = 64
MAX_BOUND = 8
MAX_ORDERS = 120
MAX_POWER = 4
MAX_WEIGHT = 1500  # factors of a form, those inside of others too

_names = itertools.count()


class Declined(Exception):
    """A formula that is not written as a sum of products, or as too large a one."""


def fresh(axis: str) -> str:
    """A name that no other axis has."""
    return f"{axis.partition('~')[0]}~{next(_names)}"


@dataclass(frozen=True)
class Atom:
    """A factor that is not taken apart.

    name: what it is. axes: names of axes that it stands at. operands: forms that it reads. inner: axes of the operands
    that it reads whole. holds: what is known, "positive" or "truth" (0 or 1).
    """

    name: str
    axes: tuple[str, ...] = ()
    operands: tuple[Form, ...] = ()
    inner: tuple[str, ...] = ()
    holds: str = ""
    free: frozenset[str] = field(init=False, compare=False, repr=False)
    weight: int = field(init=False, compare=False, repr=False)
    _texts: dict[object, str] = field(default_factory=dict, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        read = frozenset().union(*(operand.free for operand in self.operands)) - frozenset(self.inner)
        object.__setattr__(self, "free", read | frozenset(self.axes))
        object.__setattr__(self, "weight", 1 + sum(operand.weight for operand in self.operands))

    def renamed(self, names: Mapping[str, str]) -> Atom:
        if not self.free & names.keys():
            return self
        axes = tuple(names.get(axis, axis) for axis in self.axes)
        return Atom(self.name, axes, tuple(o.renamed(names) for o in self.operands), self.inner, self.holds)

    def text(self, names: Mapping[str, str], depth: int) -> str:
        key = (depth, *((axis, names[axis]) for axis in sorted(self.free) if axis in names))
        if key not in self._texts:
            inner = {**names, **{axis: f"%{depth}.{index}" for index, axis in enumerate(self.inner)}}
            parts = [names.get(axis, axis) for axis in self.axes]
            parts += [operand.text(inner, depth + 1) for operand in self.operands]
            self._texts[key] = f"{self.name}({', '.join(parts)})"
        return self._texts[key]


@dataclass(frozen=True)
class Term:
    """A product of powers of factors, summed over bound axes. bound: names, and sizes as text."""

    factors: tuple[tuple[Atom, Fraction], ...] = ()
    bound: tuple[tuple[str, str], ...] = ()
    free: frozenset[str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        read = frozenset().union(*(atom.free for atom, _ in self.factors))
        object.__setattr__(self, "free", read - {name for name, _ in self.bound})

    def renamed(self, names: Mapping[str, str]) -> Term:
        if not self.free & names.keys():
            return self
        return Term(tuple((atom.renamed(names), power) for atom, power in self.factors), self.bound)

    def freshened(self) -> Term:
        """The same with other names for its bound axes."""
        names = {name: fresh(name) for name, _ in self.bound}
        factors = tuple((atom.renamed(names), power) for atom, power in self.factors)
        return Term(factors, tuple((names[name], size) for name, size in self.bound))

    def text(self, names: Mapping[str, str], depth: int) -> str:
        """The least text over all orders of bound axes that cannot be told apart otherwise."""
        sizes = dict(self.bound)
        marks = {bound: self._mark(bound, names, depth) for bound in sizes}
        ordered = sorted(sizes, key=marks.__getitem__)
        groups = [list(group) for _, group in itertools.groupby(ordered, marks.__getitem__)]
        if math.prod(math.factorial(len(group)) for group in groups) > MAX_ORDERS:
            raise Declined
        return min(
            self._in_order([axis for group in order for axis in group], names, depth)
            for order in itertools.product(*(itertools.permutations(group) for group in groups))
        )

    def _mark(self, bound: str, names: Mapping[str, str], depth: int) -> str:
        """What tells one bound axis from others."""
        seen = {**names, **{other: "?" for other, _ in self.bound}, bound: "*"}
        return dict(self.bound)[bound] + self._product(seen, depth)

    def _in_order(self, order: list[str], names: Mapping[str, str], depth: int) -> str:
        sizes = dict(self.bound)
        labels = {axis: f"#{depth}.{index}" for index, axis in enumerate(order)}
        return f"[{', '.join(sizes[axis] for axis in order)}]{self._product({**names, **labels}, depth)}"

    def _product(self, names: Mapping[str, str], depth: int) -> str:
        return " ".join(sorted(f"{atom.text(names, depth + 1)}^{power}" for atom, power in self.factors))


@dataclass(frozen=True)
class Form:
    """A sum of terms with coefficients."""

    terms: tuple[tuple[Term, Fraction], ...]
    free: frozenset[str] = field(init=False, compare=False, repr=False)
    weight: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        weight = sum(atom.weight for term, _ in self.terms for atom, _ in term.factors)
        if weight > MAX_WEIGHT:
            raise Declined
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "free", frozenset().union(*(term.free for term, _ in self.terms)))

    def renamed(self, names: Mapping[str, str]) -> Form:
        if not self.free & names.keys():
            return self
        return collected((term.renamed(names), number) for term, number in self.terms)

    def text(self, names: Mapping[str, str] | None = None, depth: int = 0) -> str:
        return " + ".join(sorted(f"{number} {term.text(names or {}, depth)}" for term, number in self.terms)) or "0"


def collected(terms: Iterable[tuple[Term, Fraction]]) -> Form:
    """The sum of terms, equal ones together."""
    found: dict[str, tuple[Term, Fraction]] = {}
    for term, number in terms:
        key = term.text({}, 0)
        found[key] = (term, found[key][1] + number if key in found else number)
    if len(found) > MAX_TERMS:
        raise Declined
    return Form(tuple(found[key] for key in sorted(found) if found[key][1]))


def number(value: Fraction | int) -> Form:
    return Form(((Term(), Fraction(value)),) if value else ())


ONE = number(1)


def factor(atom: Atom, power: Fraction | int = 1) -> Form:
    return Form(((Term(((atom, Fraction(power)),)), Fraction(1)),))


def add(*forms: Form) -> Form:
    return collected(term for form in forms for term in form.terms)


def scaled(form: Form, by: Fraction | int) -> Form:
    return Form(tuple((term, value * by) for term, value in form.terms if by))


def subtract(left: Form, right: Form) -> Form:
    return add(left, scaled(right, -1))


def multiply(*forms: Form) -> Form:
    result = ONE
    for form in forms:
        if len(result.terms) * len(form.terms) > MAX_TERMS:
            raise Declined
        pairs = itertools.product(result.terms, form.terms)
        made = [_times(left, right.freshened(), a * b) for (left, a), (right, b) in pairs]
        result = made[0] if len(made) == 1 else add(*made)
    return result


def _times(left: Term, right: Term, coefficient: Fraction) -> Form:
    """The product of two terms. A sum that comes to a positive whole power is multiplied out."""
    powers: dict[str, tuple[Atom, Fraction]] = {}
    for atom, power in (*left.factors, *right.factors):
        key = atom.text({}, 0)
        powers[key] = (atom, power + powers[key][1] if key in powers else power)
    factors: list[tuple[Atom, Fraction]] = []
    sums: list[Form] = []
    for atom, power in powers.values():
        if atom.holds == "truth" and power > 0:
            power = Fraction(1)
        if atom.name.startswith("number ") and (power >= 1 or power < 0):
            whole = math.floor(power)
            coefficient *= Fraction(int(atom.name.partition(" ")[2])) ** whole
            power -= whole
        if atom.name == "sum" and power > 0 and power.denominator == 1:
            sums += [atom.operands[0]] * int(power)
        elif power:
            factors.append((atom, power))
    bound = (*left.bound, *right.bound)
    if len(bound) > MAX_BOUND:
        raise Declined
    read = frozenset().union(*(atom.free for atom, _ in factors), *(form.free for form in sums))
    if any(name not in read for name, _ in bound):  # what carried the axis has cancelled
        raise Declined
    term = Term(tuple(factors), bound)
    if not sums:
        return Form(((_shared(term), coefficient),))
    return _under(term, multiply(*sums), coefficient)


def _shared(term: Term) -> Term:
    """A term without a sum and its inverse: weights that are divided by their sum add up to 1."""
    for position, (atom, exponent) in enumerate(term.factors):
        if atom.name != "sum" or exponent.denominator != 1 or exponent >= 0 or len(atom.operands[0].terms) != 1:
            continue
        [(divisor, value)] = atom.operands[0].terms
        if value != 1:
            continue
        for chosen in itertools.combinations(term.bound, len(divisor.bound)):
            names = {name for name, _ in chosen}
            inside = tuple(pair for pair in term.factors if pair[0].free & names)
            if Term(inside, chosen).text({}, 0) != divisor.text({}, 0):
                continue
            left = ((atom, exponent + 1),) if exponent != -1 else ()
            kept = (*term.factors[:position], *left, *term.factors[position + 1 :])
            rest = tuple(pair for pair in kept if not pair[0].free & names)
            bound = tuple(pair for pair in term.bound if pair not in chosen)
            if {name for name, _ in bound} <= frozenset().union(*(a.free for a, _ in rest)):
                return _shared(Term(rest, bound))
    return term


def _under(term: Term, form: Form, coefficient: Fraction) -> Form:
    """A term times a form that may read the axes that are bound in the term."""
    open_term = Term(term.factors)
    whole = multiply(Form(((open_term, coefficient),)), form)
    found = []
    for each, value in whole.terms:
        if any(name not in each.free for name, _ in term.bound):
            raise Declined
        found.append((Term(each.factors, (*each.bound, *term.bound)), value))
    return collected(found)


def bind(form: Form, axis: str, size: str, count: Form) -> Form:
    """The sum over an axis; count: its size as a form, for terms that do not have the axis."""
    found = []
    for term, value in form.terms:
        if axis in term.free:
            name = fresh(axis)
            moved = term.renamed({axis: name})
            if len(moved.bound) >= MAX_BOUND:
                raise Declined
            found.append(Form(((_shared(Term(moved.factors, (*moved.bound, (name, size)))), value),)))
        else:
            found.append(multiply(Form(((term, value),)), count))
    return add(*found)


def power(form: Form, exponent: Fraction, *, positive: bool = False) -> Form:
    """A power of a form, where it is a finite number. positive: whether the form is known to be."""
    if not form.terms:
        raise Declined
    if exponent.denominator == 1 and 0 <= exponent <= MAX_POWER:
        return multiply(*[form] * int(exponent))
    if len(form.terms) == 1 and not form.terms[0][0].bound:
        return _power_of_term(*form.terms[0], exponent)
    if exponent.denominator != 1:
        return factor(Atom("sum", (), (form,)), exponent)
    outside, inside = _content(form)
    [(common, leading)] = outside.terms
    holds = "positive" if positive and leading > 0 and is_positive(common) else ""
    return multiply(_power_of_term(common, leading, exponent), factor(Atom("sum", (), (inside,), (), holds), exponent))


def _power_of_term(term: Term, coefficient: Fraction, exponent: Fraction) -> Form:
    whole = exponent.denominator == 1
    positive = coefficient > 0 and all(atom.holds == "positive" for atom, _ in term.factors)
    truth = any(atom.holds == "truth" for atom, _ in term.factors)
    if truth or not (whole or positive):
        return factor(Atom("sum", (), (Form(((term, coefficient),)),)), exponent)
    result = Form(((Term(tuple((atom, p * exponent) for atom, p in term.factors)), Fraction(1)),))
    if whole:
        return scaled(result, coefficient ** int(exponent))
    for part, sign in ((coefficient.numerator, 1), (coefficient.denominator, -1)):
        for prime, count in _primes(part):
            result = multiply(result, factor(Atom(f"number {prime}", holds="positive"), exponent * count * sign))
    return result


def _primes(value: int) -> list[tuple[int, int]]:
    found = []
    for prime in range(2, 1000):
        count = 0
        while value % prime == 0:
            value, count = value // prime, count + 1
        if count:
            found.append((prime, count))
    if value != 1:
        raise Declined
    return found


def is_positive(term: Term) -> bool:
    """Whether a product without its coefficient is positive where its factors are numbers other than 0."""
    return all(atom.holds == "positive" or (power.denominator == 1 and power % 2 == 0) for atom, power in term.factors)


def scale_out(form: Form, axes: Iterable[str]) -> tuple[Form, Form]:
    """A positive factor without the axes, and what is left."""
    outside, inside = _content(form, frozenset(axes), positive=True)
    return outside, inside


def _content(form: Form, without: frozenset[str] = frozenset(), *, positive: bool = False) -> tuple[Form, Form]:
    """What all terms have as a factor, and what is left; its largest coefficient is 1.

    without: axes that the factor must not have. positive: whether it must be positive.
    """
    common: dict[str, tuple[Atom, Fraction]] = {}
    tables = []
    for term, _ in form.terms:
        bound = {name for name, _ in term.bound} | without
        tables.append(
            {
                a.text({}, 0): (a, p)
                for a, p in term.factors
                if not a.free & bound and a.holds != "truth" and (a.holds == "positive" or not positive)
            }
        )
    for key in {key for table in tables for key in table}:
        powers = [table[key][1] if key in table else Fraction(0) for table in tables]
        least = min(powers)
        if least:
            common[key] = (next(table[key][0] for table in tables if key in table), least)
    outside = Term(tuple(common.values()))
    leading = _scale([value for _, value in form.terms])
    leading = abs(leading) if positive else leading
    inverse = Form(((Term(tuple((atom, -p) for atom, p in outside.factors)), 1 / leading),))
    return Form(((outside, leading),)), _inside(inverse, form)


def _scale(values: list[Fraction]) -> Fraction:
    """The largest coefficient, with the sign that most of the weight has: the names of axes say nothing about it."""
    return max(map(abs, values)) * (-1 if sum(values) < 0 else 1)


def _inside(inverse: Form, form: Form) -> Form:
    """A form divided by a common factor; no sum in it is multiplied out."""
    [(divisor, by)] = inverse.terms
    found = []
    for term, value in form.terms:
        powers = {atom.text({}, 0): (atom, p) for atom, p in term.factors}
        for atom, p in divisor.factors:
            key = atom.text({}, 0)
            powers[key] = (atom, p + powers[key][1] if key in powers else p)
        factors = tuple((atom, p) for atom, p in powers.values() if p)
        found.append((Term(factors, term.bound), value * by))
    return collected(found)


def exponential(form: Form) -> Form:
    """e to a form: a product over its terms, of e to the term without its coefficient."""
    result = ONE
    for term, value in form.terms:
        [(atom, exponent), *rest] = term.factors or [(Atom("one"), Fraction(1))]
        if atom.name == "log" and exponent == 1 and not rest and not term.bound:
            result = multiply(result, power(atom.operands[0], value))
            continue
        inside = Form(((term, Fraction(1)),))
        result = multiply(result, factor(Atom("exp", (), (inside,), holds="positive"), value))
    return result
