"""Symbolic sizes: polynomials in the named axes, what is known of them, and how they grow.

A size is a polynomial with rational coefficients over *atoms*: names of axes and constants, and
opaque functions of sizes (`floor(N/2)`, `log(M)`). Axes have at least one element. Questions are
answered YES, NO or UNKNOWN; an answer other than UNKNOWN is a proof.

The only file that imports sympy, and only to show polynomials: arithmetic on a handful of
monomials is some hundred times faster on plain dictionaries, and `check` needs it fast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sympy

Number = int | Fraction
Monomial = tuple[tuple[str, int], ...]  # atoms with exponents (not 0), sorted by atom
ONE: Monomial = ()


class Truth(Enum):
    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class SizeError(ValueError):
    """An operation on sizes that has no meaning (division by zero, an absurd exponent)."""


class Atom(str):
    """An opaque function of sizes, spelled canonically, which makes it sort and hash as a name."""

    __slots__ = ("arguments", "function")
    function: str
    arguments: tuple[Poly, ...]

    def __new__(cls, function: str, *arguments: Poly) -> Atom:
        self = super().__new__(cls, f"{function}({', '.join(map(str, arguments))})")
        self.function = function
        self.arguments = arguments
        return self


_FUNCTIONS: dict[str, Callable[..., float]] = {
    "floor": math.floor,
    "ceil": math.ceil,
    "log": math.log,
    "max": max,
    "min": min,
    "sqrt": math.sqrt,
    "quotient": lambda a, b: a / b,
    "digits": lambda number, base: _digits(number, base),  # no text spells it: see `in_digits`
}

MAX_EXPONENT = 64
MAX_TERMS = 4096


class Poly:
    """An immutable polynomial; exponents may be negative (`N/W`)."""

    __slots__ = ("_hash", "_symbols", "terms")

    def __init__(self, terms: Mapping[Monomial, Number]) -> None:
        self.terms: Mapping[Monomial, Number] = terms
        self._hash: int | None = None
        self._symbols: frozenset[str] | None = None

    # -- construction ----------------------------------------------------------------------------

    @staticmethod
    def constant(value: Number) -> Poly:
        return Poly({ONE: _tidy(value)} if value else {})

    @staticmethod
    def symbol(name: str) -> Poly:
        return Poly({((name, 1),): 1})

    @staticmethod
    def volume(axes: Iterable[str]) -> Poly:
        """The product of the sizes of distinct axes: the number of elements they span."""
        return Poly({tuple([(axis, 1) for axis in sorted(axes)]): 1})

    @staticmethod
    def total(sizes: Iterable[Poly]) -> Poly:
        """The sum of many sizes."""
        terms: dict[Monomial, Number] = {}
        for size in sizes:
            _add(terms, size.terms.items())
        return Poly(terms)

    @staticmethod
    def function(name: str, *arguments: Poly) -> Poly:
        """`floor`, `ceil`, `log`, `max`, `min`, `sqrt` of sizes; folded when the value is exact."""
        values = [argument.as_number() for argument in arguments]
        if name in ("floor", "ceil") and arguments[0].is_integral():
            return arguments[0]
        if all(value is not None for value in values):
            if name in ("floor", "ceil", "max", "min"):
                return Poly.constant(_FUNCTIONS[name](*values))  # type: ignore[arg-type]
            if name == "log" and values[0] == 1:
                return ZERO
            if name == "sqrt" and values[0] is not None and values[0] >= 0:
                root = math.isqrt(int(values[0]))
                if root * root == values[0]:
                    return Poly.constant(root)
        if name in ("max", "min"):
            arguments = tuple(sorted(set(arguments), key=str))
            if len(arguments) == 1:
                return arguments[0]
        return Poly.symbol(Atom(name, *arguments))

    # -- arithmetic ------------------------------------------------------------------------------

    def __add__(self, other: Poly | Number) -> Poly:
        other = _poly(other)
        if not self.terms:
            return other
        terms = dict(self.terms)
        _add(terms, other.terms.items())
        return Poly(terms)

    __radd__ = __add__

    def __neg__(self) -> Poly:
        return Poly({m: -c for m, c in self.terms.items()})

    def __sub__(self, other: Poly | Number) -> Poly:
        terms = dict(self.terms)
        _add(terms, [(monomial, -coefficient) for monomial, coefficient in _poly(other).terms.items()])
        return Poly(terms)

    def __rsub__(self, other: Number) -> Poly:
        return _poly(other) - self

    def __mul__(self, other: Poly | Number) -> Poly:
        if isinstance(other, int | Fraction):
            return Poly({m: _tidy(c * other) for m, c in self.terms.items()}) if other else ZERO
        if len(self.terms) * len(other.terms) > MAX_TERMS:
            raise SizeError("the size has too many terms")
        if not self.terms or not other.terms:
            return ZERO
        if len(other.terms) == 1:
            [(right, b)] = other.terms.items()
            return Poly({multiply_monomials(left, right): _tidy(a * b) for left, a in self.terms.items()})
        terms: dict[Monomial, Number] = {}
        for left, a in self.terms.items():
            for right, b in other.terms.items():
                monomial = multiply_monomials(left, right)
                total = terms.get(monomial, 0) + a * b
                if total:
                    terms[monomial] = _tidy(total)
                else:
                    terms.pop(monomial, None)
        return Poly(terms)

    __rmul__ = __mul__

    def __truediv__(self, other: Poly | Number) -> Poly:
        """The exact quotient; an opaque `quotient(a, b)` where no polynomial is one."""
        other = _poly(other)
        if not other.terms:
            raise SizeError("a size is divided by zero")
        if len(other.terms) == 1:
            [(monomial, coefficient)] = other.terms.items()
            inverse = tuple((atom, -power) for atom, power in monomial)
            return Poly(
                {multiply_monomials(m, inverse): _tidy(Fraction(c) / coefficient) for m, c in self.terms.items()}
            )
        if self == other:
            return Poly.constant(1)
        return Poly.symbol(Atom("quotient", self, other))

    def __floordiv__(self, other: Poly | Number) -> Poly:
        return Poly.function("floor", self / _poly(other))

    def __mod__(self, other: Poly | Number) -> Poly:
        return self - _poly(other) * (self // other)

    def __pow__(self, exponent: int) -> Poly:
        if abs(exponent) > MAX_EXPONENT:
            raise SizeError(f"a size is raised to the power {exponent}; the limit is {MAX_EXPONENT}")
        if exponent < 0:
            return Poly.constant(1) / self**-exponent
        result = Poly.constant(1)
        for _ in range(exponent):
            result = result * self
        return result

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Poly) and self.terms == other.terms

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self.terms.items()))
        return self._hash

    def __bool__(self) -> bool:
        return bool(self.terms)

    # -- questions -------------------------------------------------------------------------------

    def as_number(self) -> Number | None:
        """The value, if it does not depend on any size."""
        if not self.terms:
            return 0
        if len(self.terms) == 1 and ONE in self.terms:
            return self.terms[ONE]
        return None

    def as_symbol(self) -> str | None:
        """The name, if this is exactly one axis or constant."""
        if len(self.terms) == 1:
            [(monomial, coefficient)] = self.terms.items()
            if coefficient == 1 and len(monomial) == 1 and monomial[0][1] == 1:
                atom = monomial[0][0]
                return None if isinstance(atom, Atom) else atom
        return None

    def is_integral(self) -> bool:
        """Whether this is provably an integer for all integer sizes."""
        return all(
            isinstance(c, int)
            and all(p > 0 and (not isinstance(a, Atom) or a.function in ("floor", "ceil")) for a, p in m)
            for m, c in self.terms.items()
        )

    def denominator(self) -> int:
        """The smallest number of which the product with this has whole coefficients."""
        return math.lcm(*(Fraction(coefficient).denominator for coefficient in self.terms.values()))

    def symbols(self) -> frozenset[str]:
        """Every axis and constant that occurs, also inside functions."""
        if self._symbols is None:
            found: set[str] = set()
            for monomial in self.terms:
                for atom, _ in monomial:
                    if isinstance(atom, Atom):
                        for argument in atom.arguments:
                            found |= argument.symbols()
                    else:
                        found.add(atom)
            self._symbols = frozenset(found)
        return self._symbols

    def substitute(self, values: Mapping[str, Poly]) -> Poly:
        """The same size with axes replaced by sizes."""
        if not values or self.symbols().isdisjoint(values):
            return self
        total: dict[Monomial, Number] = {}
        for monomial, coefficient in self.terms.items():
            product = Poly({tuple(p for p in monomial if not _concerns(p[0], values)): coefficient})
            for atom, power in monomial:
                if _concerns(atom, values):
                    factor = _replace(atom, values)
                    product = product * (factor if power == 1 else factor**power)
            _add(total, product.terms.items())
        return Poly(total)

    def evaluate(self, sizes: Mapping[str, float]) -> float:
        """The value at given sizes; int where it is integral. Errors: KeyError names a missing size."""
        total: float | Fraction = 0
        for monomial, coefficient in self.terms.items():
            product: float | Fraction = coefficient
            for atom, power in monomial:
                if isinstance(atom, Atom):
                    value = _evaluate(atom, sizes)
                else:
                    value = sizes[atom]
                if power == 1:
                    product = product * value
                else:
                    exact = isinstance(value, int | Fraction)
                    product = product * (Fraction(value) if exact and power < 0 else value) ** power
            total = total + product
        if isinstance(total, Fraction):
            return int(total) if total.denominator == 1 else float(total)
        return total

    # -- display ---------------------------------------------------------------------------------

    def __str__(self) -> str:
        if not self.terms:
            return "0"
        ordered = sorted(self.terms.items(), key=lambda item: (-_degree(item[0]), item[0]))
        text = ""
        for monomial, coefficient in ordered:
            sign = "-" if coefficient < 0 else "+"
            body = _format_term(monomial, coefficient if coefficient >= 0 else -coefficient)
            text += body if not text and sign == "+" else f"-{body}" if not text else f" {sign} {body}"
        return text

    def __repr__(self) -> str:
        return f"Poly({self})"

    def to_sympy(self) -> sympy.Expr:
        """The polynomial as a sympy expression over positive integer symbols."""
        import sympy

        functions = {
            "floor": sympy.floor,
            "ceil": sympy.ceiling,
            "log": sympy.log,
            "max": sympy.Max,
            "min": sympy.Min,
            "sqrt": sympy.sqrt,
            "quotient": lambda a, b: a / b,
        }
        total = sympy.Integer(0)
        for monomial, coefficient in self.terms.items():
            product = sympy.Rational(coefficient)
            for atom, power in monomial:
                if isinstance(atom, Atom):
                    factor = functions[atom.function](*(a.to_sympy() for a in atom.arguments))
                else:
                    factor = sympy.Symbol(atom, integer=True, positive=True)
                product = product * factor**power
            total = total + product
        return total


def in_digits(atom: Atom) -> Poly | None:
    """`floor(log(x) / log(b))`, or the ceiling, by the number of digits of a size in base b; None where it is neither.

    Of sizes this is exact, and of floating-point numbers it is not: log(1000) / log(10) is less than 3 there. b is a
    whole number above 1, and x a size that is known to be one from 1 on.
    """
    if atom.function not in ("floor", "ceil") or len(atom.arguments[0].terms) != 1:
        return None
    [(monomial, coefficient)] = atom.arguments[0].terms.items()
    if coefficient != 1 or sorted(power for _, power in monomial) != [-1, 1]:
        return None
    logarithms = {power: part for part, power in monomial if isinstance(part, Atom) and part.function == "log"}
    if len(logarithms) < 2:
        return None
    size, base = (logarithms[power].arguments[0] for power in (1, -1))
    number = base.as_number()
    if not isinstance(number, int) or number < 2 or not size.is_integral():
        return None
    if NO_FACTS.at_least(size, Poly.constant(1)) is not Truth.YES:
        return None
    if atom.function == "floor":
        return Poly.symbol(Atom("digits", size, base)) - 1
    return Poly.symbol(Atom("digits", size - 1, base))


def _digits(number: float, base: int) -> int:
    count = 0
    while number >= 1:
        number, count = number // base, count + 1
    return count


def _evaluate(atom: Atom, sizes: Mapping[str, float]) -> float:
    counted = in_digits(atom)
    if counted is not None:
        return counted.evaluate(sizes)
    return _FUNCTIONS[atom.function](*(a.evaluate(sizes) for a in atom.arguments))


def _concerns(atom: str, values: Mapping[str, Poly]) -> bool:
    if isinstance(atom, Atom):
        return any(not argument.symbols().isdisjoint(values) for argument in atom.arguments)
    return atom in values


def _replace(atom: str, values: Mapping[str, Poly]) -> Poly:
    if not isinstance(atom, Atom):
        return values[atom]
    arguments = [argument.substitute(values) for argument in atom.arguments]
    return arguments[0] / arguments[1] if atom.function == "quotient" else Poly.function(atom.function, *arguments)


def _tidy(value: Number | float) -> Number:
    if isinstance(value, int):
        return value
    exact = Fraction(value)
    return exact.numerator if exact.denominator == 1 else exact


def _poly(value: Poly | Number) -> Poly:
    return value if isinstance(value, Poly) else Poly.constant(value)


def _add(terms: dict[Monomial, Number], further: Iterable[tuple[Monomial, Number]]) -> None:
    """Add further terms to some; those that cancel go."""
    for monomial, coefficient in further:
        total = terms.get(monomial, 0) + coefficient
        if total:
            terms[monomial] = total if isinstance(total, int) else _tidy(total)
        else:
            terms.pop(monomial, None)


def _degree(monomial: Monomial) -> int:
    return sum(power for _, power in monomial)


def _format_term(monomial: Monomial, coefficient: Number) -> str:
    def power(atom: str, exponent: int) -> str:
        return atom if exponent == 1 else f"{atom}^{exponent}"

    above = [power(a, p) for a, p in monomial if p > 0]
    below = [power(a, -p) for a, p in monomial if p < 0]
    fraction = Fraction(coefficient)
    if fraction.numerator != 1 or not above:
        above.insert(0, str(fraction.numerator))
    if fraction.denominator != 1:
        below.insert(0, str(fraction.denominator))
    text = "*".join(above)
    if not below:
        return text
    return f"{text}/{below[0]}" if len(below) == 1 else f"{text}/({'*'.join(below)})"


def multiply_monomials(left: Monomial, right: Monomial) -> Monomial:
    if not left:
        return right
    if not right:
        return left
    powers = dict(left)
    for atom, power in right:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted((a, p) for a, p in powers.items() if p))


ZERO = Poly({})


# -- facts -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What the `where` lines of a formula say: `definitions` replaces names by sizes over the rest.

    `others` are relations that do not define a name; they are verified at call time.
    """

    definitions: Mapping[str, Poly]
    lower_bounds: tuple[Poly, ...] = ()  # each is known to be >= 0
    _images: dict[Monomial, Poly] = field(default_factory=dict, init=False, repr=False, compare=False)

    def canonical(self, size: Poly) -> Poly:
        """The size over the names that no fact defines."""
        if not self.definitions or size.symbols().isdisjoint(self.definitions):
            return size
        total: dict[Monomial, Number] = {}
        for monomial, coefficient in size.terms.items():
            image = self._images.get(monomial)
            if image is None:
                image = self._images[monomial] = Poly({monomial: 1}).substitute(self.definitions)
            _add(total, [(term, _tidy(coefficient * factor)) for term, factor in image.terms.items()])
        return Poly(total)

    def equal(self, left: Poly, right: Poly) -> Truth:
        if left == right:
            return Truth.YES
        difference = self.canonical(left - right)
        if not difference:
            return Truth.YES
        if difference.as_number() is not None or self._positive(difference) or self._positive(-difference):
            return Truth.NO
        return Truth.UNKNOWN

    def at_least(self, left: Poly, right: Poly) -> Truth:
        """Whether left >= right for all sizes."""
        difference = self.canonical(left - right)
        if not difference or any(self._not_negative(difference - bound) for bound in (ZERO, *self.lower_bounds)):
            return Truth.YES
        return Truth.NO if self._positive(-difference) else Truth.UNKNOWN

    @classmethod
    def _not_negative(cls, size: Poly) -> bool:
        """Provably >= 0: a whole number is if it is > -1."""
        return cls._positive(size + 1 if size.is_integral() else size)

    @staticmethod
    def _positive(size: Poly) -> bool:
        """Provably > 0, from: every axis is at least 1."""
        least: Number = 0
        for monomial, coefficient in size.terms.items():
            if monomial == ONE:
                least += coefficient
            elif coefficient < 0 or any(p < 0 or isinstance(a, Atom) for a, p in monomial):
                if coefficient < 0:
                    return False
            else:
                least += coefficient
        return least > 0

    def define(self, left: Poly, right: Poly, keep: Set[str] = frozenset()) -> Facts | None:
        """The facts with `left = right` added; None when they would contradict each other.

        keep: names that should stay as they are where another name can be expressed through them.
        """
        left, right = self.canonical(left), self.canonical(right)
        difference = left - right
        if not difference:
            return self
        if self.equal(left, right) is Truth.NO:
            return None
        name, value = _isolate(left, right, keep)
        if name is None or value is None:
            return self
        definitions = {key: size.substitute({name: value}) for key, size in self.definitions.items()}
        definitions[name] = value
        bounds = tuple(bound.substitute({name: value}) for bound in self.lower_bounds)
        return Facts(definitions, bounds)

    def assume_at_least(self, left: Poly, right: Poly) -> Facts:
        return Facts(self.definitions, (*self.lower_bounds, self.canonical(left - right)))


NO_FACTS = Facts({})


def _isolate(left: Poly, right: Poly, keep: Set[str]) -> tuple[str | None, Poly | None]:
    """A name that `left = right` defines, and its value: one that need not be kept, else a bare name,
    else any."""
    bare = [name for name in (left.as_symbol(), right.as_symbol()) if name is not None]
    names = [*bare, *sorted(left.symbols() - set(bare)), *sorted(right.symbols() - left.symbols() - set(bare))]
    difference = left - right
    for name in [n for n in names if n not in keep] + bare + names:
        value = solve(difference, name)
        if value is not None:
            return name, value
    return None, None


def solve(equation: Poly, name: str) -> Poly | None:
    """The value of `name` where `equation = 0`, if it occurs linearly in terms that share a factor."""
    factor, rest = ZERO, ZERO
    for monomial, coefficient in equation.terms.items():
        powers = dict(monomial)
        if any(isinstance(a, Atom) and name in Poly.symbol(a).symbols() for a in powers):
            return None
        power = powers.pop(name, 0)
        part = Poly({tuple(sorted(powers.items())): coefficient})
        if power == 0:
            rest = rest + part
        elif power == 1:
            factor = factor + part
        else:
            return None
    return -rest / factor if len(factor.terms) == 1 else None


# -- growth ----------------------------------------------------------------------------------------

Growth = tuple[tuple[str, tuple[int, int]], ...]  # per atom: power, and power of its logarithm


def at_most(small: Poly, large: Poly) -> bool:
    """Whether small <= large, term by term, for all sizes of axes from 1 on.

    What one term of `small` has too much of is held against terms of `large` that have its factors and more.
    """
    difference = (large - small).terms
    left = {monomial: -factor for monomial, factor in difference.items() if factor < 0}
    room = {monomial: factor for monomial, factor in difference.items() if factor > 0}
    for monomial, excess in sorted(left.items(), key=lambda item: -len(item[0])):
        for other, free in room.items():
            if excess > 0 and _is_factor(monomial, other):
                room[other] = free - min(excess, free)
                excess -= min(excess, free)
        if excess > 0:
            return False
    return True


def leading(size: Poly) -> Poly:
    """The terms of a size that no other has as a factor: what is left of `N*D + N + D` is `N*D`."""
    kept = {m: c for m, c in size.terms.items() if not any(m != other and _is_factor(m, other) for other in size.terms)}
    return Poly(kept)


def _is_factor(small: Monomial, large: Monomial) -> bool:
    """Whether what a monomial has beyond another one is at least 1."""
    powers = dict(large)
    for factor, power in small:
        powers[factor] = powers.get(factor, 0) - power
    return all(power == 0 or (power > 0 and _is_count(factor)) for factor, power in powers.items())


def _is_count(factor: str) -> bool:
    """Whether a factor of a monomial is at least 1: an axis, a number of blocks, a maximum with 1."""
    if not isinstance(factor, Atom):
        return True
    if factor.function == "max":
        return any((size.as_number() or 0) >= 1 for size in factor.arguments)
    return factor.function == "ceil" and all(c > 0 for size in factor.arguments for c in size.terms.values())


def growth(size: Poly, *, axes: frozenset[str] | None = None) -> frozenset[Growth]:
    """The monomials of a size that no other dominates, with constants dropped.

    axes: the names that grow; the others count as constants. None: every name grows.
    Functions are bounded from above: floor(x) and ceil(x) by x, max(a, b) by a + b, log(a*b) by
    log(a) + log(b).
    """
    return grown((size,), axes=axes)


def grown(sizes: Iterable[Poly], *, axes: frozenset[str] | None = None) -> frozenset[Growth]:
    """The growth of the largest of some sizes, which is that of their sum."""
    found: set[Growth] = set()
    for monomial in {monomial for size in sizes for monomial in size.terms}:
        if any(isinstance(atom, Atom) for atom, _ in monomial):
            found |= _grow(monomial, axes)
        else:
            found.add(tuple((name, (power, 0)) for name, power in monomial if axes is None or name in axes))
    return _maximal(found)


def _maximal(found: Iterable[Growth]) -> frozenset[Growth]:
    items = list(found)
    if len(items) < 2:
        return frozenset(items)
    return frozenset(a for a in items if not any(a != b and grows_at_most(a, b) for b in items))


def _grow(monomial: Monomial, axes: frozenset[str] | None) -> set[Growth]:
    result: set[Growth] = {()}
    for atom, power in monomial:
        result = {_times(a, b) for a in result for b in _grow_atom(atom, power, axes)}
    return result


def _grow_atom(atom: str, power: int, axes: frozenset[str] | None) -> set[Growth]:
    if not isinstance(atom, Atom):
        return {((atom, (power, 0)),)} if axes is None or atom in axes else {()}
    if power < 0:  # a function in a denominator: it is at least a positive constant
        return {()}
    if atom.function == "log":
        logarithms = {name for name in atom.arguments[0].symbols() if axes is None or name in axes}
        base: set[Growth] = {((name, (0, 1)),) for name in logarithms} or {()}
    elif atom.function == "sqrt":
        base = {
            tuple((name, (-(-p // 2), q)) for name, (p, q) in grown) for grown in growth(atom.arguments[0], axes=axes)
        }
    elif atom.function == "quotient":
        base = {_times(term, below) for term in growth(atom.arguments[0], axes=axes) for below in _below(atom, axes)}
    else:
        base = set().union(*(growth(argument, axes=axes) for argument in atom.arguments)) or {()}
    result: set[Growth] = {()}
    for _ in range(power):
        result = {_times(a, b) for a in result for b in base}
    return result


def _below(quotient: Atom, axes: frozenset[str] | None) -> set[Growth]:
    """What the denominator of a quotient is at least, inverted: any of its terms, if it adds and subtracts nothing."""
    below = quotient.arguments[1]
    if any(c < 0 or any(p < 0 or isinstance(a, Atom) for a, p in m) for m, c in below.terms.items()):
        return {()}
    terms = growth(below, axes=axes)
    return {tuple((name, (-p, -q)) for name, (p, q) in term) for term in sorted(terms)[:1]}


def _times(left: Growth, right: Growth) -> Growth:
    powers = dict(left)
    for atom, (power, logarithms) in right:
        before = powers.get(atom, (0, 0))
        powers[atom] = (before[0] + power, before[1] + logarithms)
    return tuple(sorted((a, p) for a, p in powers.items() if p != (0, 0)))


def grows_at_most(small: Growth, large: Growth) -> bool:
    """Whether small = O(large), for sizes that all go to infinity independently."""
    bounds, powers = dict(large), dict(small)
    return all(powers.get(atom, (0, 0)) <= bounds.get(atom, (0, 0)) for atom in powers.keys() | bounds.keys())


def format_growth(terms: Iterable[Growth], order: Sequence[str] = ()) -> str:
    """`O(N*M + N*log(N))`. order: names in the order in which a reader expects them; the others follow by alphabet."""
    rank = {name: place for place, name in enumerate(order)}

    def place(atom: str) -> tuple[int, str]:
        return rank.get(atom, len(rank)), atom

    def one(term: Growth) -> str:
        above: list[str] = []
        below: list[str] = []
        for atom, (power, logarithms) in sorted(term, key=lambda item: place(item[0])):
            if power:
                (above if power > 0 else below).append(atom if abs(power) == 1 else f"{atom}^{abs(power)}")
            above += [f"log({atom})"] * logarithms
        text = "*".join(above) or "1"
        return f"{text}/{below[0]}" if len(below) == 1 else f"{text}/({'*'.join(below)})" if below else text

    def natural(term: Growth) -> tuple[int, list[tuple[int, str]], Growth]:
        return -sum(power for _, (power, _) in term), sorted(place(atom) for atom, _ in term), term

    ordered = sorted(terms, key=natural)
    return f"O({' + '.join(map(one, ordered)) or '1'})"
