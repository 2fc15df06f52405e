"""Softmax and sums within groups of elements along one axis."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..types import Kind, Type, join
from .base import Brackets, Emitter, Op, Operand, Reject
from .checks import need_axes, need_bool, need_numbers, need_ordered
from .emission import as_tensor, move


@dataclass(frozen=True)
class SegmentSoftmax(Op):
    """segment_softmax[M](s, group): a softmax of its own within each group of elements along an axis.

    Formula: `out[m] = e ** s[m] / sum over j with group[j] = group[m] of e ** s[j]`.
    With a mask: the sum is over j with mask[j], and `out[m] = 0` where mask[m] is false.

    group is int, with values from 0 to M - 1: a running count of separators, a document number. Equal values
    are one group wherever they stand. s, group and mask meet by name, so that every row may have groups of its own.
    Each group subtracts its own maximum. A group with no element left gives zeros, with gradient 0. Counts 5
    operations per element.
    Source: Mohtashami and Jaggi, Random-Access Infinite Context Length for Transformers, NeurIPS 2023.
    """

    spelling: ClassVar[str] = "segment_softmax"
    sweeps: ClassVar[int] = 3
    family: ClassVar[str] = "normalisations"
    brackets: ClassVar[Brackets] = Brackets.AXIS
    operands: ClassVar[tuple[str, ...]] = ("s", "group")
    optional: ClassVar[tuple[str, ...]] = ("mask",)
    flops_per_element: ClassVar[int] = 5
    axis: str
    given: tuple[str, ...] = ()

    def infer(self, *operands: Type) -> Type:
        _need_groups(self.spelling, self.axis, *operands[:2])
        need_ordered(self.spelling, operands[:1])
        if self.given:
            need_bool("segment_softmax with mask=", operands[2], 2)
        return join(*operands, kind=Kind.REAL)

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return Kind.REAL if index == 0 else None

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        order = (*(axis for axis in result.axes if axis != self.axis), self.axis)
        scores, group = (emitter.align(operand, order) for operand in operands[:2])
        masks = [as_tensor(emitter, operand, Kind.BOOL, order, wide=False) for operand in operands[2:]]
        value = pyast.call(emitter.helper("segment_softmax"), scores, group, *masks)
        return move(value, order, result.axes)


@dataclass(frozen=True)
class SegmentSum(Op):
    """segment_sum[M](x, group): the sum of each group of elements along an axis, at every one of its elements.

    Formula: `out[m] = sum over j with group[j] = group[m] of x[j]`.

    group is int, with values from 0 to M - 1. Equal values are one group wherever they stand. x and group meet by
    name. A value that stands at one element of each group, spread over the group, is such a sum of
    `where(there, x, 0)`. Ints give reals. Counts one addition per element.
    """

    spelling: ClassVar[str] = "segment_sum"
    family: ClassVar[str] = "reductions"
    brackets: ClassVar[Brackets] = Brackets.AXIS
    operands: ClassVar[tuple[str, ...]] = ("x", "group")
    axis: str

    def infer(self, *operands: Type) -> Type:
        _need_groups(self.spelling, self.axis, *operands)
        return join(*operands, kind=Kind.COMPLEX if operands[0].kind is Kind.COMPLEX else Kind.REAL)

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return result.kind if index == 0 else None

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        order = (*(axis for axis in result.axes if axis != self.axis), self.axis)
        value = pyast.call(emitter.helper("segment_sum"), *(emitter.align(operand, order) for operand in operands))
        return move(value, order, result.axes)


@dataclass(frozen=True)
class SegmentMax(Op):
    """segment_max[M](x, group): the largest element of each group along an axis, at every one of its elements.

    Formula: `out[m] = max over j with group[j] = group[m] of x[j]`.

    group is int, with values from 0 to M - 1. Equal values are one group wherever they stand. x and group meet by
    name. `-segment_max[M](-x, group)` is the smallest. Ints give reals. Of equal values each gets its share of
    the gradient. Counts one comparison per element.
    """

    spelling: ClassVar[str] = "segment_max"
    family: ClassVar[str] = "reductions"
    brackets: ClassVar[Brackets] = Brackets.AXIS
    operands: ClassVar[tuple[str, ...]] = ("x", "group")
    axis: str

    def infer(self, *operands: Type) -> Type:
        _need_groups(self.spelling, self.axis, *operands)
        need_ordered(self.spelling, operands[:1])
        return join(*operands, kind=Kind.REAL)

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return Kind.REAL if index == 0 else None

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        order = (*(axis for axis in result.axes if axis != self.axis), self.axis)
        value = pyast.call(emitter.helper("segment_max"), *(emitter.align(operand, order) for operand in operands))
        return move(value, order, result.axes)


def _need_groups(operation: str, axis: str, x: Type, group: Type) -> None:
    """Numbers with the axis, and ints with it. Errors: Reject."""
    need_axes(operation, (axis,), x)
    need_axes(operation, (axis,), group, 1)
    need_numbers(operation, (x,))
    if group.kind is not Kind.INT:
        raise Reject("AG213", 1, operation=operation, kind=group.kind.value)
