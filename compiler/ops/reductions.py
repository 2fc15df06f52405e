"""Reductions over named axes: the result lacks the axes in brackets."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..sizes import Poly
from ..types import Kind, Type
from .base import Brackets, Emitter, Op, Operand, attribute
from .checks import need_axes, need_bool, need_numbers, need_ordered, need_whole
from .emission import dimension, dimensions


@dataclass(frozen=True)
class Reduction(Op):
    """A function of all values along some axes.

    flops_per_element counts per element of the operand.
    """

    family: ClassVar[str] = "reductions"
    brackets: ClassVar[Brackets] = Brackets.AXES
    axes: tuple[str, ...]

    def infer(self, *operands: Type) -> Type:
        [x] = operands
        need_axes(self.spelling, self.axes, x)
        self.check(x)
        return x.without(self.axes).of(self.kind(x.kind))

    def check(self, operand: Type) -> None:
        """What the operand must be, besides having the axes. Errors: Reject."""
        need_numbers(self.spelling, (operand,))
        need_ordered(self.spelling, (operand,))

    def kind(self, kind: Kind) -> Kind:
        """The kind of the result."""
        return Kind.REAL

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return result.kind

    def flops(self, result: Type, *operands: Type) -> Poly:
        return operands[0].volume() * self.flops_per_element

    def dim(self, operand: Operand) -> int | tuple[int, ...]:
        return dimensions(operand.type.axes, self.axes)


@dataclass(frozen=True)
class Sum(Reduction):
    """sum[N](x): the sum along axes.

    Formula: `out = sum over n of x[n]`.

    Ints give an int; a bool counts as 0 or 1, so the sum of a mask is a number of places. A sum over
    products, `sum[D](x * y)`, is a contraction and costs as one.
    """

    separable: ClassVar[bool] = True
    spelling: ClassVar[str] = "sum"
    latex: ClassVar[str] = "\\sum_{{{axes}}} {x}"

    def check(self, operand: Type) -> None:
        return

    def kind(self, kind: Kind) -> Kind:
        return Kind.INT if kind is Kind.BOOL else kind

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return None

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return pyast.method(operands[0].expression, "sum", dim=self.dim(operands[0]))


@dataclass(frozen=True)
class Mean(Reduction):
    """mean[N](x): the mean along axes.

    Formula: `out = (sum over n of x[n]) / N`. A bool counts as 0 or 1.
    """

    separable: ClassVar[bool] = True
    spelling: ClassVar[str] = "mean"

    def check(self, operand: Type) -> None:
        return

    def kind(self, kind: Kind) -> Kind:
        return Kind.COMPLEX if kind is Kind.COMPLEX else Kind.REAL

    def flops(self, result: Type, *operands: Type) -> Poly:
        return operands[0].volume() + result.volume()

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return pyast.method(operands[0].expression, "mean", dim=self.dim(operands[0]))


@dataclass(frozen=True)
class Product(Reduction):
    """prod[N](x): the product along axes.

    Formula: `out = product over n of x[n]`. Ints give an int.
    """

    spelling: ClassVar[str] = "prod"
    latex: ClassVar[str] = "\\prod_{{{axes}}} {x}"

    def check(self, operand: Type) -> None:
        need_numbers(self.spelling, (operand,))

    def kind(self, kind: Kind) -> Kind:
        return kind

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return _one_by_one(self.axes, operands[0], "prod")


@dataclass(frozen=True)
class Max(Reduction):
    """max[N](x): the largest value along axes.

    Formula: `out = max over n of x[n]`. Ints give an int. NaN if one is NaN.

    The gradient is shared equally by all elements that are the largest. `max(x, y)` compares two values.
    """

    spelling: ClassVar[str] = "max"
    latex: ClassVar[str] = "\\max_{{{axes}}} {x}"

    def kind(self, kind: Kind) -> Kind:
        return kind

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return pyast.method(operands[0].expression, "amax", dim=self.dim(operands[0]))


@dataclass(frozen=True)
class Min(Reduction):
    """min[N](x): the smallest value along axes.

    Formula: `out = min over n of x[n]`. Ints give an int. NaN if one is NaN. Gradients as for `max`.
    """

    spelling: ClassVar[str] = "min"
    latex: ClassVar[str] = "\\min_{{{axes}}} {x}"

    def kind(self, kind: Kind) -> Kind:
        return kind

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return pyast.method(operands[0].expression, "amin", dim=self.dim(operands[0]))


@dataclass(frozen=True)
class _Quantifier(Reduction):
    """Whether a mask holds along axes."""

    differentiable: ClassVar[bool] = False

    def check(self, operand: Type) -> None:
        need_bool(self.spelling, operand)

    def kind(self, kind: Kind) -> Kind:
        return Kind.BOOL

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return _one_by_one(self.axes, operands[0], self.spelling)


@dataclass(frozen=True)
class Any(_Quantifier):
    """any[N](c): whether a mask is true somewhere along axes.

    Formula: `out = c[0] or c[1] or ...`. The operand is bool.
    """

    spelling: ClassVar[str] = "any"


@dataclass(frozen=True)
class All(_Quantifier):
    """all[N](c): whether a mask is true everywhere along axes.

    Formula: `out = c[0] and c[1] and ...`. The operand is bool.
    """

    spelling: ClassVar[str] = "all"


@dataclass(frozen=True)
class Variance(Reduction):
    """var[N](x): the variance along axes, biased unless said otherwise.

    Formula: `out = (sum over n of (x[n] - mean(x))^2) / (N - ddof)`.

    ddof=1 gives the unbiased estimate; N is the number of elements along all axes in brackets, and
    with N <= ddof the result is NaN or inf. Counts 4 operations per element.
    """

    spelling: ClassVar[str] = "var"
    sweeps: ClassVar[int] = 2
    flops_per_element: ClassVar[int] = 4
    ddof: Poly = attribute(0, doc="what is subtracted from the number of elements")

    def check(self, operand: Type) -> None:
        super().check(operand)
        need_whole(self.spelling, "ddof", self.ddof, least=0)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return pyast.method(
            operands[0].expression, self.spelling, dim=self.dim(operands[0]), correction=emitter.size(self.ddof)
        )


@dataclass(frozen=True)
class StandardDeviation(Variance):
    """std[N](x): the standard deviation along axes, biased unless said otherwise.

    Formula: `out = sqrt(var[N](x))`, with the same ddof. The gradient where it is 0 is 0.
    """

    spelling: ClassVar[str] = "std"


@dataclass(frozen=True)
class LogSumExp(Reduction):
    """logsumexp[N](x): the logarithm of a sum of exponentials, without overflow.

    Formula: `out = ln(sum over n of e ** x[n])`. -inf where every element is -inf.
    Counts 4 operations per element.
    """

    spelling: ClassVar[str] = "logsumexp"
    sweeps: ClassVar[int] = 2
    flops_per_element: ClassVar[int] = 4

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return pyast.method(operands[0].expression, "logsumexp", dim=self.dim(operands[0]))


@dataclass(frozen=True)
class Norm(Reduction):
    """norm[N](x): the Euclidean length along axes.

    Formula: `out = sqrt(sum over n of abs(x[n])^2)`. The gradient at 0 is 0. Complex values have a real norm.
    """

    spelling: ClassVar[str] = "norm"
    flops_per_element: ClassVar[int] = 2
    latex: ClassVar[str] = "\\left\\| {x} \\right\\|_{{{axes}}}"

    def check(self, operand: Type) -> None:
        need_numbers(self.spelling, (operand,))

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return Kind.COMPLEX if operands[0].kind is Kind.COMPLEX else Kind.REAL

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return pyast.call("torch.linalg.vector_norm", operands[0].expression, dim=self.dim(operands[0]))


@dataclass(frozen=True)
class _Arg(Op):
    """The place of an extreme value along one axis."""

    family: ClassVar[str] = "reductions"
    brackets: ClassVar[Brackets] = Brackets.AXIS
    differentiable: ClassVar[bool] = False
    axis: str

    def infer(self, *operands: Type) -> Type:
        [x] = operands
        need_axes(self.spelling, (self.axis,), x)
        need_numbers(self.spelling, operands)
        need_ordered(self.spelling, operands)
        return x.without((self.axis,)).of(Kind.INT)

    def flops(self, result: Type, *operands: Type) -> Poly:
        return operands[0].volume()

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        [x] = operands
        return pyast.method(x.expression, self.spelling, dim=dimension(x.type.axes, self.axis))


@dataclass(frozen=True)
class ArgMax(_Arg):
    """argmax[N](x): the position of the largest value along an axis.

    Formula: `x[out] = max over n of x[n]`, 0 <= out < N: an int. Of equal values any may be taken.
    """

    spelling: ClassVar[str] = "argmax"


@dataclass(frozen=True)
class ArgMin(_Arg):
    """argmin[N](x): the position of the smallest value along an axis.

    Formula: `x[out] = min over n of x[n]`, 0 <= out < N: an int. Of equal values any may be taken.
    """

    spelling: ClassVar[str] = "argmin"


def _one_by_one(axes: tuple[str, ...], operand: Operand, method: str) -> ast.expr:
    """A reduction that torch has over single dimensions only, leftmost first, so that the
    dimensions of the others, counted from the end, stay what they are."""
    expression = operand.expression
    for dim in sorted(dimension(operand.type.axes, axis) for axis in axes):
        expression = pyast.method(expression, method, dim=dim)
    return expression
