"""Running totals along one axis."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..sizes import Poly
from ..types import Kind, Type
from .base import Brackets, Carried, Continuation, Emitter, Op, Operand
from .checks import need_axes, need_numbers, need_ordered
from .emission import dimension


@dataclass(frozen=True)
class Cumulative(Op):
    """A reduction of all elements up to and including each one."""

    family: ClassVar[str] = "cumulative"
    brackets: ClassVar[Brackets] = Brackets.AXIS
    torch: ClassVar[str] = ""
    #: the function that goes on after a piece
    onward: ClassVar[str] = ""
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

    def follows(self) -> Mapping[str, str]:
        return {self.axis: self.axis}

    def carried(self, result: Type, *operands: Type) -> tuple[Carried, ...]:
        shape = (Poly.constant(1) if axis == self.axis else Poly.symbol(axis) for axis in result.axes)
        kept = self.onward.removesuffix("_from").replace("_", " ")
        return (Carried(f"the last element of the {kept}", tuple(shape)),)

    def emit_from(
        self, emitter: Emitter, result: Type, state: Sequence[ast.expr], *operands: Operand
    ) -> Continuation:
        [x] = operands
        along = pyast.constant(dimension(x.type.axes, self.axis))
        return Continuation(pyast.call(emitter.helper(self.onward), x.expression, *state, along))


@dataclass(frozen=True)
class CumulativeSum(Cumulative):
    """cumsum[N](x): the running sum along an axis.

    Formula: `out[n] = sum over j <= n of x[j]`. Ints give ints; a bool counts as 0 or 1.
    """

    spelling: ClassVar[str] = "cumsum"
    torch: ClassVar[str] = "torch.cumsum"
    onward: ClassVar[str] = "running_sum_from"

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
    onward: ClassVar[str] = "running_product_from"

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
    onward: ClassVar[str] = "running_max_from"


@dataclass(frozen=True)
class CumulativeMin(_RunningExtreme):
    """cummin[N](x): the running minimum along an axis.

    Formula: `out[n] = min over j <= n of x[j]`. Ints give ints. The gradient goes to one element that is smallest.
    """

    spelling: ClassVar[str] = "cummin"
    torch: ClassVar[str] = "torch.cummin"
    onward: ClassVar[str] = "running_min_from"


@dataclass(frozen=True)
class CumulativeLogSumExp(Cumulative):
    """cumlogsumexp[N](x): the logarithm of a running sum of exponentials, without overflow.

    Formula: `out[n] = ln(sum over j <= n of e ** x[j])`. Counts 6 operations per element.
    """

    spelling: ClassVar[str] = "cumlogsumexp"
    torch: ClassVar[str] = "torch.logcumsumexp"
    onward: ClassVar[str] = "running_logsumexp_from"
    flops_per_element: ClassVar[int] = 6

    def kind(self, kind: Kind) -> Kind:
        return Kind.REAL
