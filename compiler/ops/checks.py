"""What operations demand of their operands, with the diagnostics for those that do not comply."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..sizes import Poly
from ..types import Kind, Type
from .base import Reject


def need_numbers(operation: str, operands: Sequence[Type]) -> None:
    """Every operand is int, real or complex. Errors: Reject."""
    for index, operand in enumerate(operands):
        if operand.kind is Kind.BOOL:
            raise Reject("AG207", index, operation=operation)


def need_bool(operation: str, operand: Type, index: int = 0) -> None:
    """The operand is bool. Errors: Reject."""
    if operand.kind is not Kind.BOOL:
        raise Reject("AG208", index, operation=operation, kind=operand.kind.value)


def need_ordered(operation: str, operands: Sequence[Type]) -> None:
    """No operand is complex. Errors: Reject."""
    for index, operand in enumerate(operands):
        if operand.kind is Kind.COMPLEX:
            raise Reject("AG209", index, operation=operation)


def need_axes(operation: str, axes: Iterable[str], operand: Type, index: int = 0) -> None:
    """The operand has all of the distinct axes. Errors: Reject."""
    seen: set[str] = set()
    for axis in axes:
        if axis not in operand.axes:
            raise Reject("AG268", index, axis=axis, type=operand)
        if axis in seen:
            raise Reject("AG212", operation=operation, axis=axis)
        seen.add(axis)


def need_new_axes(operation: str, axes: Sequence[str], kept: Iterable[str], operand: Type) -> None:
    """The axes that an operation makes are distinct and none of the kept ones. Errors: Reject."""
    others = set(kept)
    for axis in axes:
        if axis in others:
            raise Reject("AG211", 0, operation=operation, axis=axis, type=operand)
        if axes.count(axis) > 1:
            raise Reject("AG212", operation=operation, axis=axis)


def need_whole(operation: str, attribute: str, value: Poly, *, least: int | None = None) -> None:
    """An attribute is a whole number where its value is known, and not below `least`. Errors: Reject.

    One that depends on sizes or constants is checked where they are known.
    """
    number = value.as_number()
    if number is None:
        return
    if not isinstance(number, int):
        raise Reject("AG216", operation=operation, attribute=attribute, value=value)
    if least is not None and number < least:
        raise Reject("AG217", operation=operation, attribute=attribute, bound=f"at least {least}", value=value)


def need_same_sort(operation: str, operands: Sequence[Type], first: int = 0) -> None:
    """All operands from `first` on are bool, or none is. Errors: Reject."""
    kinds = [operand.kind for operand in operands[first:]]
    if Kind.BOOL in kinds and any(kind is not Kind.BOOL for kind in kinds):
        index = first + kinds.index(Kind.BOOL)
        other = next(kind for kind in kinds if kind is not Kind.BOOL)
        raise Reject("AG214", index, operation=operation, left=Kind.BOOL.value, right=other.value)
