"""Convolutions: a kernel that slides along one, two or three axes."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from .. import pyast
from ..sizes import ZERO, Poly
from ..types import Kind, Type, join_axes
from .base import Brackets, Emitter, Op, Operand, Reject, attribute
from .checks import need_axes, need_new_axes, need_numbers, need_whole
from .emission import move, sizes


@dataclass(frozen=True)
class _Convolution(Op):
    """A sum over places and taps that are tied by `stride * place + start + dilation * tap`.

    sources: the axes of x that the kernel slides along. taps: the kernel's axis for each of them.
    targets: what each of them becomes. summed: channel axes that x and kernel share and that are summed.
    """

    family: ClassVar[str] = "convolutions"
    brackets: ClassVar[Brackets] = Brackets.CONVOLUTION
    operands: ClassVar[tuple[str, ...]] = ("x", "kernel")
    sources: tuple[str, ...]
    taps: tuple[str, ...]
    targets: tuple[str, ...]
    start: Poly | None = field(
        default=None,
        metadata={"doc": "where the first window starts; `-dilation * floor(K / 2)` if missing", "attribute": True},
    )
    stride: Poly = attribute(1, doc="the distance between windows")
    dilation: Poly = attribute(1, doc="the distance between elements of a window")
    summed: tuple[str, ...] = ()

    @property
    def axes(self) -> tuple[str, ...]:
        """Every axis along which elements meet; along all others they stay apart."""
        return (*self.sources, *self.taps, *self.targets, *self.summed)

    def infer(self, *operands: Type) -> Type:
        x, kernel = operands
        need_numbers(self.spelling, operands)
        need_axes(self.spelling, self.sources, x)
        need_axes(self.spelling, self.taps, kernel, 1)
        if self.start is not None:
            need_whole(self.spelling, "start", self.start)
        need_whole(self.spelling, "stride", self.stride, least=1)
        need_whole(self.spelling, "dilation", self.dilation, least=1)
        for place, tap in zip(self.sources, self.taps, strict=True):
            if place in kernel.axes:
                raise Reject("AG221", 1, operation=self.spelling, place=place, tap=tap, owner="kernel", axis=place)
            if tap in x.axes:
                raise Reject("AG221", 0, operation=self.spelling, place=place, tap=tap, owner="value", axis=tap)
        rest = (*(a for a in x.axes if a not in self.sources), *kernel.axes)
        need_new_axes(self.spelling, self.targets, rest, x)
        left, right = self._kept(x, kernel)
        assert all(axis in left and axis in right for axis in self.summed), "both sides have the summed axes"
        axes = tuple(axis for axis in join_axes(left, right) if axis not in self.summed)
        kind = Kind.COMPLEX if Kind.COMPLEX in (x.kind, kernel.kind) else Kind.REAL
        return Type(kind, axes, x.batched or kernel.batched)

    def _kept(self, x: Type, kernel: Type) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The axes of both sides when the taps are summed and the places are those of the result."""
        renamed = dict(zip(self.sources, self.targets, strict=True))
        return tuple(renamed.get(a, a) for a in x.axes), tuple(a for a in kernel.axes if a not in self.taps)

    def new_axes(self) -> tuple[str, ...]:
        return tuple(axis for axis in self.targets if axis not in self.sources)

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return result.kind

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        x, kernel = operands
        left, right = self._kept(x.type, kernel.type)
        shared = tuple(a for a in left if a in right and a not in self.summed)
        alone = tuple(a for a in left if a not in right and a not in self.targets)
        added = tuple(a for a in right if a not in left)
        count = len(self.sources)
        channels = emitter.align(x, (*alone, *shared, *self.summed, *self.sources))
        channels = _grouped(channels, len(shared) + len(self.summed), count)
        weights = emitter.align(kernel, (*alone, *shared, *added, *self.summed, *self.taps))
        weights = _grouped(weights, len(self.summed), count)
        weights = _grouped(weights, len(shared) + len(added), count + 1)
        value = self.along(emitter, result.kind, channels, weights, emitter.size(Poly.volume(shared)))
        made = (*shared, *added)
        if len(made) != 1:
            # no axis of one channel, several axes of the channels that stand for them
            value = (
                pyast.method(value, "unflatten", -count - 1, sizes(emitter, made))
                if made
                else pyast.method(value, "squeeze", -count - 1)
            )
        return move(value, (*alone, *made, *self.targets), result.axes)

    def along(self, emitter: Emitter, kind: Kind, channels: ast.expr, weights: ast.expr, groups: ast.expr) -> ast.expr:
        """The sums, for x[..., groups * inner, sources] and kernel[..., groups * outer, inner, taps]."""
        raise NotImplementedError

    def starts(self) -> list[Poly]:
        """Where the first window starts along each axis."""
        if self.start is not None:
            return [self.start] * len(self.taps)
        return [-self.dilation * (Poly.symbol(tap) // 2) for tap in self.taps]

    def reaches(self, places: tuple[str, ...]) -> list[Poly]:
        """How many elements all windows together cover along each axis."""
        return [
            self.stride * (Poly.symbol(place) - 1) + self.dilation * (Poly.symbol(tap) - 1) + 1
            for place, tap in zip(places, self.taps, strict=True)
        ]

    def kernel(self, emitter: Emitter, kind: Kind, *arguments: ast.expr) -> ast.expr:
        """A call of the function that computes the sums; complex values go through its real form."""
        real = emitter.helper("convolution")
        return pyast.call(emitter.helper("complex_convolution") if kind is Kind.COMPLEX else real, *arguments)


@dataclass(frozen=True)
class Convolution(_Convolution):
    """conv[N, K](x, kernel): a kernel that slides along an axis, one weighted sum at each place.

    Formula: `out[n] = sum over k of x[stride * n + start + dilation * k] * kernel[k]`, with x = 0 outside its axis
    and start = -dilation * floor(K / 2).

    The brackets pair axes of x with axes of the kernel: `conv[Y, X, Ky, Kx](x, w)` slides w[Ky, Kx] over an image,
    the first half of the names along x, the second half along the kernel. The kernel is not flipped. As in every
    other operation, axes that x and kernel share are kept: `conv[N, K](x, w)` with x[C, N] and w[C, K] is the
    depthwise convolution, one kernel for each channel. A sum over a shared axis makes it the full one:
    `sum[C](conv[Y, X, Ky, Kx](x, w))` with w[O, C, Ky, Kx] is computed in one step, and nothing over both C and O is
    ever stored. The kernel is any value: a parameter, or computed for each sample.

    An odd kernel keeps a place in the middle of its window, and the result has as many places as x. Other
    numbers of places get an axis of their own, whose size follows from a `where` line:
    `conv[N, K -> P](x, w, stride=2)` with `where P = N / 2`. The causal convolution has start = 1 - K. For other
    borders than zeros pad first and start at 0: with p = `pad_circular[N -> P](x, before=1, after=1)` it is
    `conv[P, K -> N](p, w, start=0)`.

    Counts 2 operations per multiply-add, as torch does. Ints give reals.
    Source: LeCun et al., Backpropagation Applied to Handwritten Zip Code Recognition, 1989.
    """

    spelling: ClassVar[str] = "conv"

    def flops(self, result: Type, *operands: Type) -> Poly:
        return result.volume() * Poly.volume((*self.taps, *self.summed)) * 2

    def along(self, emitter: Emitter, kind: Kind, channels: ast.expr, weights: ast.expr, groups: ast.expr) -> ast.expr:
        one = Poly.constant(1)
        same = self.start is None and self.stride == one and self.sources == self.targets
        if not same:
            lengths = [Poly.symbol(axis) for axis in self.sources]
            channels = between(emitter, channels, lengths, self.starts(), self.reaches(self.targets))
        steps = (emitter.size(self.stride), emitter.size(self.dilation))
        return self.kernel(
            emitter, kind, channels, weights, pyast.constant(len(self.taps)), groups, *steps,
            pyast.constant(same), pyast.constant(False),
        )  # fmt: skip


@dataclass(frozen=True)
class TransposedConvolution(_Convolution):
    """conv_transpose[P, K -> N](x, kernel): every element spreads a scaled copy of a kernel, and copies add up.

    Formula: `out[n] = sum of x[p] * kernel[k] over all p, k with stride * p + start + dilation * k = n`, and
    start = -dilation * floor(K / 2).

    The reverse of `conv` with the same attributes (its transpose as a linear map), which enlarges an image:
    `sum[C](conv_transpose[P, Q, Ky, Kx -> Y, X](x, w, stride=2, start=-1))` with w[C, O, Ky, Kx], four taps a side and
    `where Y = 2 * P, X = 2 * Q`. Axes meet as in `conv`; what falls outside the axis is dropped. Without an arrow the
    axes keep their sizes. Counts 2 operations per product, as torch does. Ints give reals.
    Source: Zeiler et al., Deconvolutional Networks, CVPR 2010.
    """

    spelling: ClassVar[str] = "conv_transpose"

    def flops(self, result: Type, *operands: Type) -> Poly:
        places = Poly.volume(tuple(axis for axis in result.axes if axis not in self.targets))
        return places * Poly.volume((*self.sources, *self.taps, *self.summed)) * 2

    def along(self, emitter: Emitter, kind: Kind, channels: ast.expr, weights: ast.expr, groups: ast.expr) -> ast.expr:
        steps = (emitter.size(self.stride), emitter.size(self.dilation))
        whole = self.kernel(
            emitter, kind, channels, weights, pyast.constant(len(self.taps)), groups, *steps,
            pyast.constant(False), pyast.constant(True),
        )  # fmt: skip
        lengths = [Poly.symbol(axis) for axis in self.targets]
        starts = [-start for start in self.starts()]
        return between(emitter, whole, self.reaches(self.sources), starts, lengths)


def between(
    emitter: Emitter, expression: ast.expr, sizes: Sequence[Poly], starts: Sequence[Poly], lengths: Sequence[Poly]
) -> ast.expr:
    """`lengths` elements of each of the last dimensions from `starts` on, with zeros where there are none.

    sizes: how many elements there are.
    """
    amounts: list[ast.expr] = []
    for size, start, length in zip(sizes, starts, lengths, strict=True):
        back = Poly.function("max", start + length - size, ZERO)
        amounts = [emitter.size(Poly.function("max", -start, ZERO)), emitter.size(back), *amounts]
    value: ast.expr = pyast.call("torch.nn.functional.pad", expression, ast.Tuple(amounts, ast.Load()))
    for index, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        first = emitter.size(Poly.function("max", start, ZERO))
        value = pyast.method(value, "narrow", index - len(starts), first, emitter.size(length))
    return value


def _grouped(expression: ast.expr, count: int, behind: int) -> ast.expr:
    """`count` dimensions in front of the last `behind` as one; none of them as one of length 1."""
    if count == 1:
        return expression
    if count == 0:
        return pyast.method(expression, "unsqueeze", -behind - 1)
    return pyast.method(expression, "flatten", -behind - count, -behind - 1)
