"""Values of a formula in modular arithmetic, with what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ..graph import Node
from ..sizes import Poly
from . import residues as field


@dataclass(frozen=True)
class Degree:
    """Bounds of the degrees of a fraction of polynomials, in the inputs and in the values of unknown functions."""

    above: int = 0
    below: int = 0

    def __mul__(self, other: Degree) -> Degree:
        return Degree(self.above + other.above, self.below + other.below)

    def __add__(self, other: Degree) -> Degree:
        """Of a sum: over the common denominator."""
        return Degree(max(self.above + other.below, other.above + self.below), self.below + other.below)

    def inverse(self) -> Degree:
        return Degree(self.below, self.above)

    def repeated(self, count: int) -> Degree:
        """Of a sum of so many fractions."""
        return Degree(self.above + (count - 1) * self.below, count * self.below)

    def unknown(self) -> Degree:
        """Of an unknown value: one more variable, that also hides where arguments differ."""
        return Degree(1 + self.above + self.below)


CONSTANT = Degree()


class TooLarge(Exception):
    """A value with too many elements to be evaluated exactly."""


@dataclass(frozen=True)
class Value:
    """residues: [2, trials, *axes]. known: the value itself [*axes], where it depends on sizes and positions only.

    power: what e to this value is, where the value is made of logarithms or of -inf. Otherwise a function says it.
    """

    residues: Tensor
    axes: tuple[str, ...]
    degree: Degree = CONSTANT
    known: Tensor | None = None
    power: Value | None = None

    def over(self, axes: Sequence[str]) -> Tensor:
        """The residues with their dimensions in the order of `axes`, length 1 where one is lacking."""
        order = [self.axes.index(axis) + 2 for axis in axes if axis in self.axes]
        lengths = [self.residues.shape[self.axes.index(a) + 2] if a in self.axes else 1 for a in axes]
        return self.residues.permute(0, 1, *order).reshape(2, field.TRIALS, *lengths)

    def known_over(self, axes: Sequence[str]) -> Tensor:
        """The same for the known value."""
        assert self.known is not None
        order = [self.axes.index(axis) for axis in axes if axis in self.axes]
        lengths = [self.known.shape[self.axes.index(a)] if a in self.axes else 1 for a in axes]
        return self.known.permute(tuple(order)).reshape(lengths)


@dataclass
class Setting:
    """What a graph is evaluated at.

    values: of inputs, parameters and buffers, by name. sizes: of axes, and constants. axes: what axes are called, so
    that two graphs speak of the same. unknowns: functions that were taken as unknown; it grows. visit: is shown every
    value that is computed, in order, and says what to go on with.
    """

    values: Mapping[str, Value]
    sizes: Mapping[str, float]
    axes: Mapping[str, str]
    unknowns: set[str]
    visit: Callable[[Value, Setting], Value] | None = None

    def size(self, size: Poly) -> float:
        return size.evaluate(self.sizes)

    def shape(self, axes: Sequence[str]) -> tuple[int, ...]:
        return tuple(int(self.sizes[axis]) for axis in axes)


Rule = Callable[[Node, list[Value], Setting], Value]


def product_of(operands: Sequence[Value]) -> Degree:
    """The degree of a product."""
    found = CONSTANT
    for operand in operands:
        found = found * operand.degree
    return found


def largest(operands: Sequence[Value]) -> Degree:
    """The degree of values of which each place has one."""
    return Degree(max(o.degree.above for o in operands), max(o.degree.below for o in operands))


def all_known(operands: Sequence[Value]) -> bool:
    return all(operand.known is not None for operand in operands)


def from_known(node: Node, known: Tensor) -> Value:
    """A value of whole numbers, or of truth values."""
    return Value(field.whole(known), node.axes, CONSTANT, known)


def is_whole(known: Tensor) -> bool:
    return not known.is_floating_point() or bool((known == known.round()).all() and (known.abs() < 2**53).all())


def real(value: Tensor) -> Tensor:
    return value if value.is_floating_point() else value.to(torch.float64)


def number(value: float) -> Value:
    known = torch.tensor(value, dtype=torch.int64 if isinstance(value, int) else torch.float64)
    if value in (float("inf"), float("-inf")):
        power = number(0) if value < 0 else None
        return Value(field.drawn(f"{value}", ()), (), CONSTANT, known, power)
    text = repr(value)
    if len(text) > 14 and "e" not in text:  # pi, and numbers that nobody wrote
        return Value(field.drawn(text, ()), (), CONSTANT, known)
    try:
        return Value(field.number(Fraction(text)), (), CONSTANT, known)
    except ZeroDivisionError:
        return Value(field.drawn(text, ()), (), CONSTANT, known)
