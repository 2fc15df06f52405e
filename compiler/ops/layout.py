"""Axis work that computes nothing: order, names, splitting, merging, kinds."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..sizes import ZERO, Poly
from ..types import Kind, Type
from .base import Brackets, Emitter, Op, Operand
from .checks import need_axes, need_new_axes
from .emission import dimension, sizes


@dataclass(frozen=True)
class Layout(Op):
    """An operation that only arranges values: no floating-point operations."""

    separable: ClassVar[bool] = True
    family: ClassVar[str] = "layout"
    flops_per_element: ClassVar[int] = 0

    def flops(self, result: Type, *operands: Type) -> Poly:
        return ZERO


@dataclass(frozen=True)
class Reorder(Layout):
    """x^T: the last two axes exchanged; in general, the axes of a value in another order.

    Formula: `out[m, n] = x[n, m]`. A view. Only `@`, `^T` and declared layouts see the order of axes.
    """

    spelling: ClassVar[str] = "^T"
    latex: ClassVar[str] = "{{{x}}}^{{\\top}}"
    axes: tuple[str, ...]

    def infer(self, *operands: Type) -> Type:
        [x] = operands
        need_axes("^T", self.axes, x)
        assert len(self.axes) == x.rank, "a new order of the axes names all of them"
        return x.with_axes(self.axes)

    def is_view(self) -> bool:
        return True

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return emitter.align(operands[0], self.axes)


@dataclass(frozen=True)
class Rename(Layout):
    """x[N -> M]: the same values, with one axis called by another name.

    Formula: `out[m] = x[n = m]`, and M has the size of N. A view.

    With it a sequence meets itself: `q @ q[N -> M]^T` has every pair of tokens.
    """

    spelling: ClassVar[str] = "[->]"
    brackets: ClassVar[Brackets] = Brackets.RENAME
    source: str
    target: str

    def infer(self, *operands: Type) -> Type:
        [x] = operands
        operation = f"[{self.source} -> {self.target}]"
        need_axes(operation, (self.source,), x)
        need_new_axes(operation, (self.target,), x.axes, x)
        return x.with_axes(tuple(self.target if axis == self.source else axis for axis in x.axes))

    def size_facts(self, *operands: Type) -> Sequence[tuple[Poly, Poly]]:
        return ((Poly.symbol(self.target), Poly.symbol(self.source)),)

    def new_axes(self) -> tuple[str, ...]:
        return (self.target,)

    def is_view(self) -> bool:
        return True

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return operands[0].expression


@dataclass(frozen=True)
class Split(Layout):
    """split[N -> Y, X](x): one axis cut into several, row by row.

    Formula: `out[y, x] = x[n = y * X + x]`, and N = Y * X. A view.

    The new axes stand where the old one stood. A size that does not divide is an error: when it is
    known at compile time, there; else when the module is called.
    """

    spelling: ClassVar[str] = "split"
    brackets: ClassVar[Brackets] = Brackets.SPLIT
    source: str
    targets: tuple[str, ...]

    def infer(self, *operands: Type) -> Type:
        [x] = operands
        need_axes("split", (self.source,), x)
        need_new_axes("split", self.targets, (a for a in x.axes if a != self.source), x)
        at = x.axes.index(self.source)
        return x.with_axes((*x.axes[:at], *self.targets, *x.axes[at + 1 :]))

    def size_facts(self, *operands: Type) -> Sequence[tuple[Poly, Poly]]:
        return ((Poly.symbol(self.source), Poly.volume(self.targets)),)

    def new_axes(self) -> tuple[str, ...]:
        return self.targets

    def is_view(self) -> bool:
        return True

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        [x] = operands
        dim = dimension(x.type.axes, self.source)
        return pyast.method(x.expression, "unflatten", dim, sizes(emitter, self.targets))


@dataclass(frozen=True)
class Merge(Layout):
    """merge[Y, X -> N](x): several axes laid out as one, row by row.

    Formula: `out[n = y * X + x] = x[y, x]`, and N = Y * X.

    The first axis in the brackets varies slowest: `merge[H, E -> C]` puts head 0's features first. The new
    axis stands where the last of them stood. A view where the axes lie beside each other in memory.
    """

    spelling: ClassVar[str] = "merge"
    brackets: ClassVar[Brackets] = Brackets.MERGE
    sources: tuple[str, ...]
    target: str

    def infer(self, *operands: Type) -> Type:
        [x] = operands
        need_axes("merge", self.sources, x)
        need_new_axes("merge", (self.target,), (a for a in x.axes if a not in self.sources), x)
        return x.with_axes(
            tuple(self.target if axis == self.sources[-1] else axis for axis in x.axes if axis not in self.sources[:-1])
        )

    def size_facts(self, *operands: Type) -> Sequence[tuple[Poly, Poly]]:
        return ((Poly.symbol(self.target), Poly.volume(self.sources)),)

    def new_axes(self) -> tuple[str, ...]:
        return (self.target,)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        [x] = operands
        at = result.axes.index(self.target)
        order = (*result.axes[:at], *self.sources, *result.axes[at + 1 :])
        ordered = emitter.align(x, order)
        if len(self.sources) == 1:
            return ordered
        return pyast.method(ordered, "flatten", dimension(order, self.sources[0]), dimension(order, self.sources[-1]))


@dataclass(frozen=True)
class Broadcast(Layout):
    """broadcast(x): a value repeated along axes that it lacks.

    Formula: `out[n, m] = x[m]`. Used where a result is declared with an axis that the value does not have.
    """

    axes: tuple[str, ...]

    def infer(self, *operands: Type) -> Type:
        [x] = operands
        assert set(x.axes) <= set(self.axes), "broadcasting keeps every axis"
        return x.with_axes(self.axes)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        [x] = operands
        if x.number:
            return pyast.call(
                "torch.full", sizes(emitter, self.axes), x.expression,
                dtype=emitter.dtype(result.kind, wide=x.wide), device=emitter.device(),
            )  # fmt: skip
        repeats = [pyast.constant(1) if axis in x.type.axes else emitter.size(Poly.symbol(axis)) for axis in self.axes]
        return pyast.method(emitter.align(x, self.axes), "tile", ast.Tuple(repeats, ast.Load()))


@dataclass(frozen=True)
class Convert(Layout):
    """convert(x): the same numbers in a wider kind: bool as 0 and 1, int as real, real as complex.

    Formula: `out[i] = x[i]`. Used where a result is declared with a wider kind than the value has.
    """

    target: Kind

    def infer(self, *operands: Type) -> Type:
        [x] = operands
        assert self.target.rank >= x.kind.rank, "a conversion loses nothing"
        return x.of(self.target)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        [x] = operands
        return pyast.method(x.expression, "to", emitter.dtype(self.target, wide=x.wide))

    def emit_number(self, emitter: Emitter, *operands: ast.expr) -> ast.expr | None:
        names = {Kind.INT: "int", Kind.REAL: "float"}
        return pyast.call(names[self.target], *operands) if self.target in names else None
