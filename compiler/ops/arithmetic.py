"""Arithmetic on values whose axes meet by name."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..sizes import ZERO, Poly
from ..types import Kind, Type, join, promote
from .base import Emitter, Op, Operand
from .checks import need_numbers, need_ordered
from .emission import all_wide, as_tensor, place


@dataclass(frozen=True)
class _Arithmetic(Op):
    """An operator between two values; the result has the axes of both."""

    family: ClassVar[str] = "arithmetic"
    operands: ClassVar[tuple[str, ...]] = ("x", "y")
    elementwise: ClassVar[bool] = True
    operator: ClassVar[str] = ""

    def infer(self, *operands: Type) -> Type:
        need_numbers(self.spelling, operands)
        return join(*operands)

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return result.kind

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        left, right = (place(emitter, operand, result.axes) for operand in operands)
        return pyast.binary(self.operator, left, right)

    def emit_number(self, emitter: Emitter, *operands: ast.expr) -> ast.expr:
        return pyast.binary(self.operator, *operands)


@dataclass(frozen=True)
class Add(_Arithmetic):
    """x + y: the sum of two values.

    Formula: `out[i] = x[i] + y[i]`, over the axes of both.

    Two ints give an int, else the result is real (complex if an operand is). A bool is rejected:
    `where(mask, 1, 0)` turns a mask into numbers.
    """

    separable: ClassVar[bool] = True
    spelling: ClassVar[str] = "+"
    operator: ClassVar[str] = "+"
    commutative: ClassVar[bool] = True
    latex: ClassVar[str] = "{x} + {y}"


@dataclass(frozen=True)
class Subtract(_Arithmetic):
    """x - y: the difference of two values.

    Formula: `out[i] = x[i] - y[i]`, over the axes of both: `pos(N) - pos(M)` is the lag, [N, M].

    Two ints give an int. A bool is rejected, as in `+`.
    """

    separable: ClassVar[bool] = True
    spelling: ClassVar[str] = "-"
    operator: ClassVar[str] = "-"
    latex: ClassVar[str] = "{x} - {y}"


@dataclass(frozen=True)
class Multiply(_Arithmetic):
    """x * y: the product of two values, element by element.

    Formula: `out[i] = x[i] * y[i]`, over the axes of both: `q[N, D] * g[N]` scales the rows.

    Two ints give an int. A bool beside a number counts as 0 or 1, so that a mask can be a factor;
    two bools are rejected (`and` combines masks). Note that 0 * inf is NaN: `where` selects, `*` does not.
    """

    separable: ClassVar[bool] = True
    spelling: ClassVar[str] = "*"
    operator: ClassVar[str] = "*"
    commutative: ClassVar[bool] = True
    latex: ClassVar[str] = "{x} \\, {y}"

    def infer(self, *operands: Type) -> Type:
        if all(operand.kind is Kind.BOOL for operand in operands):
            need_numbers(self.spelling, operands)
        return join(*operands)

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return None if operands[index].kind is Kind.BOOL else result.kind  # torch multiplies by a mask as it is

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return super().emit(emitter, result, *map(_counted, operands))


def _counted(operand: Operand) -> Operand:
    """A Python bool as 0.0 or 1.0: TorchScript multiplies no bools."""
    if operand.number and operand.type.kind is Kind.BOOL:
        return Operand(pyast.call("int", operand.expression), operand.type.of(Kind.INT), number=True)
    return operand


@dataclass(frozen=True)
class Divide(_Arithmetic):
    """x / y: the quotient of two values.

    Formula: `out[i] = x[i] / y[i]`, over the axes of both.

    The result is real also for ints (complex if an operand is). Division by zero gives inf or NaN.
    """

    separable: ClassVar[bool] = True
    spelling: ClassVar[str] = "/"
    operator: ClassVar[str] = "/"
    latex: ClassVar[str] = "\\frac{{{x}}}{{{y}}}"

    def infer(self, *operands: Type) -> Type:
        need_numbers(self.spelling, operands)
        return join(*operands, kind=promote(Kind.REAL, *(o.kind for o in operands)))


@dataclass(frozen=True)
class FloorDivide(_Arithmetic):
    """x // y: the quotient rounded down.

    Formula: `out[i] = floor(x[i] / y[i])`: rounded towards minus infinity, so `-1 // 2` is -1.

    Two ints give an int: `pos(N) // W` is the number of the window. Not differentiable (its slope is
    0). An int divided by zero is an error when the module runs.
    """

    spelling: ClassVar[str] = "//"
    operator: ClassVar[str] = "//"
    differentiable: ClassVar[bool] = False
    latex: ClassVar[str] = "\\left\\lfloor {x} / {y} \\right\\rfloor"

    def infer(self, *operands: Type) -> Type:
        need_numbers(self.spelling, operands)
        need_ordered(self.spelling, operands)
        return join(*operands)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        left, right = operands
        if left.number:
            left = Operand(as_tensor(emitter, left, result.kind, (), wide=all_wide(operands)), left.type)
        return super().emit(emitter, result, left, right)


@dataclass(frozen=True)
class Modulo(_Arithmetic):
    """x % y: what remains after `x // y`.

    Formula: `out[i] = x[i] - y[i] * floor(x[i] / y[i])`: it has the sign of y, so `-1 % 4` is 3.

    Two ints give an int: `pos(N) % W` is the place in the window. Differentiable between the steps.
    Counts 3 operations (divide, round, multiply-subtract).
    """

    spelling: ClassVar[str] = "%"
    operator: ClassVar[str] = "%"
    flops_per_element: ClassVar[int] = 3
    latex: ClassVar[str] = "{x} \\bmod {y}"

    def infer(self, *operands: Type) -> Type:
        need_numbers(self.spelling, operands)
        need_ordered(self.spelling, operands)
        return join(*operands)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        if operands[0].number:
            return pyast.call("torch.remainder", *(place(emitter, operand, result.axes) for operand in operands))
        return super().emit(emitter, result, *operands)


@dataclass(frozen=True)
class Power(_Arithmetic):
    """x ^ y: x raised to the power y.

    Formula: `out[i] = x[i] ** y[i]`, over the axes of both: `gamma^lag` is a decay.

    The result is real (complex if an operand is), also for ints: `2^-5` is 1/32. `0^0` is 1. A
    negative x with a fractional y gives NaN. `x^2` with a whole, non-negative number written in the
    text is a repeated product (see `IntegerPower`). Right-associative.
    """

    spelling: ClassVar[str] = "^"
    operator: ClassVar[str] = "**"
    latex: ClassVar[str] = "{{{x}}}^{{{y}}}"

    def infer(self, *operands: Type) -> Type:
        need_numbers(self.spelling, operands)
        return join(*operands, kind=promote(Kind.REAL, *(o.kind for o in operands)))

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        base, exponent = operands
        if base.number:
            wide = all_wide(operands)
            first = base.expression
            if not isinstance(first, ast.Constant):  # torch cannot trace a power of a size
                first = as_tensor(emitter, base, result.kind, (), wide=wide)
            return pyast.call("torch.pow", first, place(emitter, exponent, result.axes))
        return super().emit(emitter, result, *operands)

    def emit_number(self, emitter: Emitter, *operands: ast.expr) -> ast.expr:
        return pyast.call("math.pow", *operands)


@dataclass(frozen=True)
class IntegerPower(Op):
    """x ^ n: x multiplied n times with itself, n a whole number in the text.

    Formula: `out[i] = x[i] * x[i] * ... * x[i]` (n factors; 1 for n = 0).

    An int stays an int. Counts the multiplications of repeated squaring.
    """

    family: ClassVar[str] = "arithmetic"
    elementwise: ClassVar[bool] = True
    latex: ClassVar[str] = "{{{x}}}^{{{exponent}}}"
    exponent: int

    def infer(self, *operands: Type) -> Type:
        need_numbers("^", operands)
        return operands[0]

    def flops(self, result: Type, *operands: Type) -> Poly:
        if not result.axes or self.exponent < 2:
            return ZERO
        return result.volume() * (self.exponent.bit_length() + self.exponent.bit_count() - 2)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return pyast.binary("**", operands[0].expression, self.exponent)

    def emit_number(self, emitter: Emitter, *operands: ast.expr) -> ast.expr:
        # TorchScript raises ints to floats, so small powers are spelled out
        [base] = operands
        if self.exponent == 2 and isinstance(base, ast.Name | ast.Constant):
            return pyast.binary("*", base, base)
        return pyast.binary("**", base, self.exponent)


@dataclass(frozen=True)
class Negative(Op):
    """-x: the value with its sign changed.

    Formula: `out[i] = -x[i]`. Ints stay ints; a bool is rejected (`not` inverts a mask).
    """

    separable: ClassVar[bool] = True
    spelling: ClassVar[str] = "-"
    family: ClassVar[str] = "arithmetic"
    elementwise: ClassVar[bool] = True
    latex: ClassVar[str] = "-{x}"

    def infer(self, *operands: Type) -> Type:
        need_numbers("-", operands)
        return operands[0]

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return pyast.negative(operands[0].expression)

    def emit_number(self, emitter: Emitter, *operands: ast.expr) -> ast.expr:
        return pyast.negative(operands[0])
