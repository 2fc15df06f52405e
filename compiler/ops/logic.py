"""Comparisons, logic and selection."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..types import Kind, Type, join, promote
from .base import Emitter, Op, Operand
from .checks import need_bool, need_ordered, need_same_sort
from .emission import all_wide, as_tensor, place


@dataclass(frozen=True)
class _Comparison(Op):
    """A comparison of two values; the result is bool and has the axes of both."""

    family: ClassVar[str] = "logic"
    operands: ClassVar[tuple[str, ...]] = ("x", "y")
    elementwise: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False
    #: how the same comparison reads with its sides exchanged
    mirrored: ClassVar[str] = ""

    def infer(self, *operands: Type) -> Type:
        need_same_sort(self.spelling, operands)
        if self.spelling not in ("==", "!="):
            need_ordered(self.spelling, operands)
        return join(*operands, kind=Kind.BOOL)

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        # torch compares different kinds exactly; only complex has no common ground with int
        return Kind.COMPLEX if promote(*(o.kind for o in operands)) is Kind.COMPLEX else None

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        left, right = (place(emitter, operand, result.axes) for operand in operands)
        if operands[0].number:
            return pyast.binary(self.mirrored, right, left)
        return pyast.binary(self.spelling, left, right)

    def emit_number(self, emitter: Emitter, *operands: ast.expr) -> ast.expr:
        return pyast.binary(self.spelling, *operands)


@dataclass(frozen=True)
class Equal(_Comparison):
    """x == y: where two values are equal.

    Formula: `out[i] = (x[i] == y[i])`. NaN equals nothing. Numbers with numbers, bool with bool.
    """

    spelling: ClassVar[str] = "=="
    mirrored: ClassVar[str] = "=="
    commutative: ClassVar[bool] = True
    latex: ClassVar[str] = "{x} = {y}"


@dataclass(frozen=True)
class NotEqual(_Comparison):
    """x != y: where two values differ.

    Formula: `out[i] = (x[i] != y[i])`. NaN differs from everything, itself included.
    """

    spelling: ClassVar[str] = "!="
    mirrored: ClassVar[str] = "!="
    commutative: ClassVar[bool] = True
    latex: ClassVar[str] = "{x} \\neq {y}"


@dataclass(frozen=True)
class Less(_Comparison):
    """x < y: where x is smaller.

    Formula: `out[i] = (x[i] < y[i])`. False where an operand is NaN.
    """

    spelling: ClassVar[str] = "<"
    mirrored: ClassVar[str] = ">"
    latex: ClassVar[str] = "{x} < {y}"


@dataclass(frozen=True)
class LessEqual(_Comparison):
    """x <= y: where x is not larger.

    Formula: `out[i] = (x[i] <= y[i])`. False where an operand is NaN.
    """

    spelling: ClassVar[str] = "<="
    mirrored: ClassVar[str] = ">="
    latex: ClassVar[str] = "{x} \\leq {y}"


@dataclass(frozen=True)
class Greater(_Comparison):
    """x > y: where x is larger.

    Formula: `out[i] = (x[i] > y[i])`. False where an operand is NaN.
    """

    spelling: ClassVar[str] = ">"
    mirrored: ClassVar[str] = "<"
    latex: ClassVar[str] = "{x} > {y}"


@dataclass(frozen=True)
class GreaterEqual(_Comparison):
    """x >= y: where x is not smaller.

    Formula: `out[i] = (x[i] >= y[i])`: `pos(N) >= pos(M)` is the causal mask. False where an operand is NaN.
    """

    spelling: ClassVar[str] = ">="
    mirrored: ClassVar[str] = "<="
    latex: ClassVar[str] = "{x} \\geq {y}"


@dataclass(frozen=True)
class _Connective(Op):
    """`and` or `or` of two masks."""

    family: ClassVar[str] = "logic"
    operands: ClassVar[tuple[str, ...]] = ("x", "y")
    commutative: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False
    operator: ClassVar[str] = ""
    word: ClassVar[ast.boolop]

    def infer(self, *operands: Type) -> Type:
        for index, operand in enumerate(operands):
            need_bool(self.spelling, operand, index)
        return join(*operands)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        left, right = (as_tensor(emitter, operand, Kind.BOOL, result.axes, wide=False) for operand in operands)
        return pyast.binary(self.operator, left, right)

    def emit_number(self, emitter: Emitter, *operands: ast.expr) -> ast.expr:
        return ast.BoolOp(self.word, list(operands))


@dataclass(frozen=True)
class And(_Connective):
    """x and y: where both masks are true.

    Formula: `out[i] = x[i] and y[i]`, over the axes of both. Both operands are bool.
    """

    spelling: ClassVar[str] = "and"
    operator: ClassVar[str] = "&"
    word: ClassVar[ast.boolop] = ast.And()
    latex: ClassVar[str] = "{x} \\land {y}"


@dataclass(frozen=True)
class Or(_Connective):
    """x or y: where at least one mask is true.

    Formula: `out[i] = x[i] or y[i]`, over the axes of both. Both operands are bool.
    """

    spelling: ClassVar[str] = "or"
    operator: ClassVar[str] = "|"
    word: ClassVar[ast.boolop] = ast.Or()
    latex: ClassVar[str] = "{x} \\lor {y}"


@dataclass(frozen=True)
class Not(Op):
    """not x: where the mask is false.

    Formula: `out[i] = not x[i]`. The operand is bool.
    """

    spelling: ClassVar[str] = "not"
    family: ClassVar[str] = "logic"
    elementwise: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False
    latex: ClassVar[str] = "\\lnot {x}"

    def infer(self, *operands: Type) -> Type:
        need_bool(self.spelling, operands[0])
        return operands[0]

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return pyast.invert(operands[0].expression)

    def emit_number(self, emitter: Emitter, *operands: ast.expr) -> ast.expr:
        return ast.UnaryOp(ast.Not(), operands[0])


@dataclass(frozen=True)
class Where(Op):
    """where(c, x, y): x where the condition holds, else y.

    Formula: `out[i] = x[i] if c[i] else y[i]`, over the axes of all three.

    c is bool; x and y are both numbers or both bool. What is not selected does not count, be it inf
    or NaN, and its gradient is exactly 0 before it enters the operation that made the value. If that
    operation has an infinite slope there (`sqrt` or `log` at 0), the product 0 * inf is still NaN:
    select the argument first, `log(where(x > 0, x, 1))`. `where(c, s, -inf)` inside a softmax is a mask.
    """

    spelling: ClassVar[str] = "where"
    family: ClassVar[str] = "logic"
    operands: ClassVar[tuple[str, ...]] = ("c", "x", "y")
    elementwise: ClassVar[bool] = True
    latex: ClassVar[str] = "\\begin{{cases}} {x} & {c} \\\\ {y} & \\text{{otherwise}} \\end{{cases}}"

    def infer(self, *operands: Type) -> Type:
        condition, *branches = operands
        need_bool("where", condition)
        need_same_sort("where", operands, 1)
        return join(*operands, kind=promote(*(branch.kind for branch in branches)))

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return None if index == 0 else result.kind

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        condition, left, right = operands
        if condition.number:
            # a choice by sizes; both sides get the result's axes, so that either may be it
            chosen = [as_tensor(emitter, o, result.kind, result.axes, wide=all_wide(operands)) for o in (left, right)]
            mask = as_tensor(emitter, condition, Kind.BOOL, (), wide=False)
            return pyast.call("torch.where", mask, *chosen)
        first = place(emitter, left, result.axes)
        if left.number and right.number and result.kind in (Kind.REAL, Kind.COMPLEX):
            # two Python floats would make a tensor of torch's default dtype, whatever the inputs are
            first = as_tensor(emitter, left, result.kind, (), wide=condition.wide)
        return pyast.call(
            "torch.where", place(emitter, condition, result.axes), first, place(emitter, right, result.axes)
        )

    def emit_number(self, emitter: Emitter, *operands: ast.expr) -> ast.expr:
        condition, left, right = operands
        return pyast.conditional(condition, left, right)


@dataclass(frozen=True)
class IsNan(Op):
    """isnan(x): where a value is not a number.

    Formula: `out[i] = (x[i] != x[i])`. `where(isnan(x), 0, x)` replaces what 0/0 left behind.
    """

    spelling: ClassVar[str] = "isnan"
    family: ClassVar[str] = "logic"
    elementwise: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False

    def infer(self, *operands: Type) -> Type:
        return operands[0].of(Kind.BOOL)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return pyast.call("torch.isnan", operands[0].expression)

    def emit_number(self, emitter: Emitter, *operands: ast.expr) -> ast.expr:
        return pyast.call("math.isnan", *operands)
