"""Running totals along one axis."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..types import Kind, Type
from .base import Brackets, Emitter, Op, Operand
from .checks import need_axes, need_numbers, need_ordered
from .emission import dimension


@dataclass(frozen=True)
class Cumulative(Op):
    """A reduction of all elements up to and including each one."""

    family: ClassVar[str] = "cumulative"
    brackets: ClassVar[Brackets] = Brackets.AXIS
    torch: ClassVar[str] = ""
    axis: str

    def infer(self, *operands: Type) -> Type:
        [x] = operands
        need_axes(self.spelling, (self.axis,), x)
        self.check(x)
        return x.of(self.kind(x.kind))

    def check(self, operand: Type) -> None:
        """What the operand must be, besides having the axis. Errors: Reject."""
        need_numbers(self.spelling, (operand,))
        need_ordered(self.spelling, (operand,))

    def kind(self, kind: Kind) -> Kind:
        """The kind of the result."""
        return kind

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return result.kind

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        [x] = operands
        return pyast.call(self.torch, x.expression, dim=dimension(x.type.axes, self.axis))


@dataclass(frozen=True)
class CumulativeSum(Cumulative):
    """cumsum[N](x): the running sum along an axis.

    Formula: `out[n] = sum over j <= n of x[j]`. Ints give ints; a bool counts as 0 or 1.
    """

    spelling: ClassVar[str] = "cumsum"
    torch: ClassVar[str] = "torch.cumsum"

    def check(self, operand: Type) -> None:
        return

    def kind(self, kind: Kind) -> Kind:
        return Kind.INT if kind is Kind.BOOL else kind


@dataclass(frozen=True)
class CumulativeProduct(Cumulative):
    """cumprod[N](x): the running product along an axis.

    Formula: `out[n] = product over j <= n of x[j]`. Ints give ints.
    """

    spelling: ClassVar[str] = "cumprod"
    torch: ClassVar[str] = "torch.cumprod"

    def check(self, operand: Type) -> None:
        need_numbers(self.spelling, (operand,))


@dataclass(frozen=True)
class _RunningExtreme(Cumulative):
    """torch returns the values and where they stand."""

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        pair = super().emit(emitter, result, *operands)
        return ast.Subscript(pair, ast.Constant(0), ast.Load())


@dataclass(frozen=True)
class CumulativeMax(_RunningExtreme):
    """cummax[N](x): the running maximum along an axis.

    Formula: `out[n] = max over j <= n of x[j]`. Ints give ints. The gradient goes to one element that is largest.
    """

    spelling: ClassVar[str] = "cummax"
    torch: ClassVar[str] = "torch.cummax"


@dataclass(frozen=True)
class CumulativeMin(_RunningExtreme):
    """cummin[N](x): the running minimum along an axis.

    Formula: `out[n] = min over j <= n of x[j]`. Ints give ints. The gradient goes to one element that is smallest.
    """

    spelling: ClassVar[str] = "cummin"
    torch: ClassVar[str] = "torch.cummin"


@dataclass(frozen=True)
class CumulativeLogSumExp(Cumulative):
    """cumlogsumexp[N](x): the logarithm of a running sum of exponentials, without overflow.

    Formula: `out[n] = ln(sum over j <= n of e ** x[j])`. Counts 6 operations per element.
    """

    spelling: ClassVar[str] = "cumlogsumexp"
    torch: ClassVar[str] = "torch.logcumsumexp"
    flops_per_element: ClassVar[int] = 6

    def kind(self, kind: Kind) -> Kind:
        return Kind.REAL
