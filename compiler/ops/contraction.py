"""Sums over products of two values: the operation that attention is made of."""

from __future__ import annotations

import ast
import string
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..sizes import Poly
from ..types import Kind, Type, promote
from .base import Emitter, Op, Operand, Reject
from .emission import dimensions, move, sizes


@dataclass(frozen=True)
class Contraction(Op):
    """x @ y: the products of x and y, summed over axes that both have.

    Formula: `out[n, e] = sum over m of x[n, m] * y[m, e]`.

    `x @ y` contracts the last axis of x with the second-last axis of y (its only axis, if it has
    one); `sum[D](x * y)` says the same by name. All other shared axes are kept and meet by name.
    The result has x's axes without the contracted one, with y's new ones: the last axis of y at the
    end, others in front of x's rows. Ints give an int, a bool counts as 0 or 1.

    Costs 2 operations per multiply-add, as torch counts: 2 times the product of the sizes of all axes.
    (Torch counts nothing for an einsum over an axis of length 1, which it computes as a product.)
    Emitted as one matrix product; where only one side has the caller's batch and axes are shared, as an einsum, which
    copies neither; vectors of the other side meet rows as these lie in memory.
    """

    separable: ClassVar[bool] = True
    spelling: ClassVar[str] = "@"
    family: ClassVar[str] = "contractions"
    operands: ClassVar[tuple[str, ...]] = ("x", "y")
    flops_per_element: ClassVar[int] = 2
    latex: ClassVar[str] = "{x} {y}"
    axes: tuple[str, ...]
    result: tuple[str, ...]

    def infer(self, *operands: Type) -> Type:
        left, right = operands
        for axis in self.axes:
            if axis not in left.axes or axis not in right.axes:
                raise Reject("AG201", expression="x @ y", left=left, right=right)
        kept = {*left.axes, *right.axes} - {*self.axes}
        assert sorted(kept) == sorted(self.result), "a contraction keeps every other axis once"
        return Type(promote(left.kind, right.kind, Kind.INT), self.result, left.batched or right.batched)

    def flops(self, result: Type, *operands: Type) -> Poly:
        return Poly.volume({*operands[0].axes, *operands[1].axes}) * (2 if self.axes else 1)

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind:
        return result.kind

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        left, right = operands
        if not self.axes or result.kind is Kind.INT:
            return self._products(emitter, result, left, right)
        shared = tuple(a for a in result.axes if a in left.type.axes and a in right.type.axes)
        if shared and left.type.batched != right.type.batched:
            # torch.matmul would copy the side without a batch for each batch entry; einsum takes the
            # batch as further rows of the other side, and is fast where vectors come before rows.
            one, many = (right, left) if left.type.batched else (left, right)
            if {*one.type.axes} != {*shared, *self.axes}:
                return einsum(left, right, result)
            spelt = einsum(one, many, result)
            own = tuple(a for a in result.axes if a not in shared)
            as_named = [(*shared, *self.axes), (*shared, *own, *self.axes), (*shared, *own)]
            if [one.type.axes, many.type.axes, result.axes] != as_named or len(own) != 1 or len(self.axes) != 1:
                return spelt
            return pyast.call(emitter.helper("vectors_times_rows"), *spelt.args[1:], spelt.args[0])
        rows, columns = (
            tuple(a for a in result.axes if a in operand.type.axes and a not in shared) for operand in operands
        )
        turned = (*shared, *rows, *columns) != result.axes and (*shared, *columns, *rows) == result.axes
        # a batch of matrices times a column takes several times as long as a row times the matrices
        column = len(rows) == 1 and not columns and (bool(shared) or right.type.batched)
        if turned or column:
            left, right, rows, columns = right, left, columns, rows
        product = self._matmul(emitter, shared, rows, columns, left, right)
        return move(product, (*shared, *rows, *columns), result.axes)

    def _matmul(
        self,
        emitter: Emitter,
        shared: tuple[str, ...],
        rows: tuple[str, ...],
        columns: tuple[str, ...],
        left: Operand,
        right: Operand,
    ) -> ast.expr:
        """One matrix product over (shared, rows, columns): several axes in one part are flattened, an
        empty part becomes a dimension of length 1, since products of vectors are slow in batches."""
        leading = not shared and not right.type.batched  # then all rows but the last may stay as they are
        inner = tuple(a for a in (left if left.type.batched else right).type.axes if a in self.axes)
        first = _grouped(emitter.align(left, (*shared, *rows, *inner)), len(inner), -1)
        if not rows or (len(rows) > 1 and not leading):
            first = _grouped(first, len(rows), -2)
        second = _grouped(emitter.align(right, (*shared, *inner, *columns)), len(columns), -1)
        second = _grouped(second, len(inner), -2)
        product: ast.expr = pyast.call("torch.matmul", first, second)
        if not rows or (len(rows) > 1 and not leading):
            product = _ungrouped(emitter, product, rows, -2)
        return _ungrouped(emitter, product, columns, -1)

    def _products(self, emitter: Emitter, result: Type, left: Operand, right: Operand) -> ast.expr:
        """The products, then their sum: for ints, whose matrix products CUDA lacks."""
        axes = (*result.axes, *self.axes)
        product = pyast.binary("*", emitter.align(left, axes), emitter.align(right, axes))
        if not self.axes:
            return product
        return pyast.method(product, "sum", dim=dimensions(axes, self.axes))


def _grouped(expression: ast.expr, count: int, last: int) -> ast.expr:
    """`count` dimensions up to `last` as one; none of them as one of length 1."""
    if count == 1:
        return expression
    if count == 0:
        return pyast.method(expression, "unsqueeze", last)
    return pyast.method(expression, "flatten", *((last - count + 1,) if last == -1 else (last - count + 1, last)))


def _ungrouped(emitter: Emitter, expression: ast.expr, axes: tuple[str, ...], dim: int) -> ast.expr:
    """The reverse of `_grouped`."""
    if len(axes) == 1:
        return expression
    if not axes:
        return pyast.method(expression, "squeeze", dim)
    return pyast.method(expression, "unflatten", dim, sizes(emitter, axes))


def einsum(left: Operand, right: Operand, result: Type) -> ast.Call:
    """The contraction as `torch.einsum`, each axis a letter."""
    letters = letters_of(dict.fromkeys((*left.type.axes, *right.type.axes)))

    def term(type_: Type) -> str:
        return "..." * type_.batched + "".join(letters[a] for a in type_.axes)

    equation = f"{term(left.type)},{term(right.type)}->{term(result)}"
    return pyast.call("torch.einsum", equation, left.expression, right.expression)


def letters_of(axes: Iterable[str]) -> dict[str, str]:
    """One letter per axis, its own initial where that is free. At most 52 axes."""
    taken: dict[str, str] = {}
    for axis in axes:
        choices = axis.lower() + axis.upper() + string.ascii_letters
        taken[axis] = next(c for c in choices if c in string.ascii_letters and c not in taken.values())
    return taken


def matmul(left: Type, right: Type) -> Contraction:
    """The contraction that `x @ y` means. Errors: Reject."""
    if not left.axes or not right.axes:
        raise Reject("AG205", 0 if not left.axes else 1, type=left if not left.axes else right)
    axis = left.axes[-1]
    other = right.axes[-2] if len(right.axes) > 1 else right.axes[0]
    if axis != other:
        raise Reject("AG201", left=axis, right=other)
    kept = tuple(a for a in left.axes if a != axis)
    added = tuple(a for a in right.axes if a != axis and a not in kept)
    if len(right.axes) > 1 and right.axes[-1] in kept:
        raise Reject("AG206", axis=right.axes[-1])
    # axes of y in front of its matrix that x lacks are batch axes: they go in front of x's rows
    batch = tuple(a for a in added if a != right.axes[-1])
    columns = tuple(a for a in added if a == right.axes[-1])
    return Contraction((axis,), (*kept[:-1], *batch, *kept[-1:], *columns))
