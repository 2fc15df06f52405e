"""Scalar expressions of the text read as sizes (symbolic) or as numbers (of constants)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

from ..grammar import ast
from ..grammar.source import Span
from .sizes import Poly, SizeError

_LIMIT_BITS = 4096


class ScalarError(Exception):
    """An expression that is no size or number: a code, its facts and the place."""

    def __init__(self, code: str, span: Span, **facts: object) -> None:
        super().__init__(code)
        self.code = code
        self.span = span
        self.facts = {key: str(value) for key, value in facts.items()}


def read_number(text: str) -> int | float:
    """A literal as an int where it is written as one and fits 64 bits, else the nearest float64."""
    return int(text) if text.isdigit() and int(text).bit_length() < 64 else float(text)


def exact(text: str) -> int | Fraction:
    """A literal as an exact rational number; the text is known to lie in the range of float64."""
    if text.isdigit():
        return int(text)
    value = float(text)
    return Fraction(text) if value == 0.0 or abs(math.log10(abs(value))) < 300 else Fraction(value)


def as_size(expression: ast.Expression, resolve: Callable[[ast.Name], Poly]) -> Poly:
    """A size expression as a polynomial: numbers, names, `+ - * / // % ^`, floor, ceil, max, min,
    log, sqrt. Errors: ScalarError; whatever `resolve` raises for a name."""

    def read(node: ast.Expression) -> Poly:
        match node:
            case ast.Number(text):
                return Poly.constant(exact(text))
            case ast.Name():
                return resolve(node)
            case ast.Unary("-", operand):
                return -read(operand)
            case ast.Binary("^", left, right):
                power = read(right).as_number()
                if not isinstance(power, int):
                    raise ScalarError("AG306", right.span)
                return read(left) ** power
            case ast.Binary(operator, left, right) if operator in _ARITHMETIC:
                return _ARITHMETIC[operator](read(left), read(right))
            case ast.Call(function, None, arguments, ()) if function in _ARITY and len(arguments) == _ARITY[function]:
                return Poly.function(function, *map(read, arguments))
        raise ScalarError("AG305", node.span)

    try:
        return read(expression)
    except SizeError as error:
        raise ScalarError("AG307", expression.span, reason=error) from None


_ARITHMETIC: dict[str, Callable[[Poly, Poly], Poly]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
}
_ARITY = {"floor": 1, "ceil": 1, "log": 1, "sqrt": 1, "max": 2, "min": 2}


def as_number(expression: ast.Expression, constants: Mapping[str, int | float]) -> int | float:
    """The value of a constant expression: numbers, `pi`, `inf`, earlier constants, arithmetic and
    elementary functions. Errors: ScalarError."""

    def read(node: ast.Expression) -> int | float:
        match node:
            case ast.Number(text):
                return read_number(text)
            case ast.Name("pi"):
                return math.pi
            case ast.Name("inf"):
                return math.inf
            case ast.Name(name) if name in constants:
                return constants[name]
            case ast.Name(name):
                raise ScalarError("AG308", node.span, name=name)
            case ast.Unary("-", operand):
                return -read(operand)
            case ast.Binary(operator, left, right) if operator in _NUMERIC:
                return _NUMERIC[operator](read(left), read(right))
            case ast.Call(function, None, arguments, ()) if function in _NUMERIC_FUNCTIONS:
                count, operation = _NUMERIC_FUNCTIONS[function]
                if len(arguments) == count:
                    return operation(*map(read, arguments))
        raise ScalarError("AG309", node.span)

    try:
        value = read(expression)
    except (ArithmeticError, ValueError) as error:
        raise ScalarError("AG307", expression.span, reason=str(error)) from None
    if isinstance(value, int) and value.bit_length() > 63:
        raise ScalarError("AG307", expression.span, reason="it is outside the range of 64-bit integers")
    if value != value:
        raise ScalarError("AG307", expression.span, reason="it is not a number")
    return value


def _power(base: int | float, exponent: int | float) -> int | float:
    if isinstance(base, int) and isinstance(exponent, int) and exponent >= 0:
        if abs(base) > 1 and base.bit_length() * exponent > _LIMIT_BITS:
            raise OverflowError("the power is too large")
        return int(base**exponent)
    value = float(base) ** exponent
    if isinstance(value, complex):
        raise ValueError("a negative number has no real power with this exponent")
    return value


_NUMERIC: dict[str, Callable[[int | float, int | float], int | float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "^": _power,
}
_NUMERIC_FUNCTIONS: dict[str, tuple[int, Callable[..., int | float]]] = {
    "floor": (1, math.floor),
    "ceil": (1, math.ceil),
    "log": (1, math.log),
    "exp": (1, math.exp),
    "sqrt": (1, math.sqrt),
    "abs": (1, abs),
    "max": (2, max),
    "min": (2, min),
}
