"""States that are updated from each other, or by a matrix: `h[n] = A[n] h[n - 1] + x[n]`, at all positions at once."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..ops.base import Carried, Continuation, Emitter, Op, Operand
from ..ops.emission import as_tensor
from ..sizes import Poly
from ..types import Kind, Type, promote
from .lowering import Lowering, unflattened

CHUNK = 64
LEVELS = 6  # halves of a chunk are put together so often


@dataclass(frozen=True)
class LinearStates(Lowering):
    """linear_states(a, x, start): a vector of states that every position multiplies by a matrix and adds to.

    Formula: `out[n, i, e] = sum over j of a[n, i, j, e] * out[n - 1, j, e] + x[n, i, e]`, with `start[i, e]`, or 0,
    before the first position. Without the axis n the matrix is the same at all positions.

    Two steps are one step with the matrix `a2 a1` and the offset `a2 x1 + x2`, so groups of positions are composed
    first, and groups of groups. Blelloch, Prefix Sums and Their Applications, 1990.
    """

    rule: ClassVar[str] = "associative scan of matrices"
    why: ClassVar[str] = (
        "the states are multiplied by a matrix, so steps compose by matrix products: groups of positions are composed "
        "first, then groups of groups"
    )
    chunked: ClassVar[bool] = True
    operands: ClassVar[tuple[str, ...]] = ("a", "x")
    optional: ClassVar[tuple[str, ...]] = ("start",)
    kernel: ClassVar[str] = "linear_states"
    axis: str
    row: str
    column: str
    batch: tuple[str, ...]
    outer: tuple[str, ...]
    dense: bool

    def infer(self, *operands: Type) -> Type:
        kind = promote(*(o.kind for o in operands), Kind.REAL)
        assert {*operands[0].axes} - {self.axis} == {self.row, self.column, *self.batch}, "a matrix for each of a batch"
        assert {*operands[1].axes} == {*self._axes}, "an offset for each of the states"
        return Type(kind, self._axes, any(o.batched for o in operands))

    @property
    def _axes(self) -> tuple[str, ...]:
        if self.dense:
            return (*self.batch, self.axis, self.row, *self.outer)
        return (self.axis, self.row, *self.batch, *self.outer)

    def flops(self, result: Type, *operands: Type) -> Poly:
        states, along = Poly.symbol(self.row), Poly.volume((self.axis, *self.batch))
        made = along * Poly.volume(self.outer) * states * states * 4
        return made + along * states * states * states * 2 if self.axis in operands[0].axes else made

    def workspace(self, result: Type, *operands: Type) -> Poly:
        return result.volume() * 2 + operands[0].volume()  # composed offsets and matrices, and what comes into a group

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind:
        return result.kind

    def follows(self) -> Mapping[str, str]:
        return {self.axis: self.axis}

    def carried(self, result: Type, *operands: Type) -> tuple[Carried, ...]:
        one, row, outer = Poly.constant(1), Poly.symbol(self.row), Poly.volume(self.outer)
        if self.dense:
            shape = (*map(Poly.symbol, self.batch), one, row, outer)
        else:
            shape = (one, row, Poly.volume(self.batch), outer)
        return (Carried("the states after the last position", shape),)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        call = pyast.call(emitter.helper(self.kernel), *self._arguments(emitter, result, operands, ()))
        return self._laid_out(emitter, call)

    def emit_from(
        self, emitter: Emitter, result: Type, state: Sequence[ast.expr], *operands: Operand
    ) -> Continuation:
        call = pyast.call(emitter.helper(f"{self.kernel}_from"), *self._arguments(emitter, result, operands, state))
        return Continuation(call, finish=lambda piece: self._laid_out(emitter, piece))

    def _laid_out(self, emitter: Emitter, rows: ast.expr) -> ast.expr:
        if self.dense:
            return unflattened(emitter, rows, self.outer)
        made = unflattened(emitter, rows, self.outer)
        if len(self.batch) == 1:
            return made
        place = -1 - len(self.outer)
        if not self.batch:
            return pyast.method(made, "squeeze", place)
        sizes = pyast.tuple_of([emitter.size(Poly.symbol(axis)) for axis in self.batch])
        return pyast.method(made, "unflatten", place, sizes)

    def _arguments(
        self, emitter: Emitter, result: Type, operands: Sequence[Operand], state: Sequence[ast.expr]
    ) -> list[ast.expr]:
        matrix, x, *starts = operands
        head = (*self.batch, self.axis, self.row) if self.dense else (self.axis, self.row)
        square = emitter.align(matrix, (*head, self.column, *(() if self.dense else self.batch)))
        if not self.dense:
            square = pyast.method(_columns(square, len(self.batch)), "unsqueeze", -1)
        found = [square, self._states(emitter, result, x, (*head,))]
        if starts:
            found.append(self._states(emitter, result, starts[0], tuple(axis for axis in head if axis != self.axis)))
        else:
            found.append(pyast.constant(None))
        return [*found, *state, pyast.constant(self.dense)]

    def _states(self, emitter: Emitter, result: Type, operand: Operand, head: tuple[str, ...]) -> ast.expr:
        """The operand as [..., K, E], or [..., K, X, E] element by element."""
        features = () if self.dense else self.batch
        aligned = as_tensor(emitter, operand, result.kind, (*head, *features, *self.outer), wide=operand.wide)
        made = _columns(aligned, len(self.outer))
        if self.dense or len(features) == 1:
            return made
        if not features:
            return pyast.method(made, "unsqueeze", -2)
        return pyast.method(made, "flatten", -1 - len(features), -2)


def _columns(rows: ast.expr, count: int) -> ast.expr:
    """The last dimensions as one."""
    if count == 1:
        return rows
    return pyast.method(rows, "unsqueeze", -1) if not count else pyast.method(rows, "flatten", -count)


@dataclass(frozen=True)
class Between(Op):
    """How much of what was added at an earlier position is left at a later one.

    No plan holds one: sums over m are algorithms that never store it.
    """

    family: ClassVar[str] = "lowerings"
    query: str
    key: str

    def new_axes(self) -> tuple[str, ...]:
        return (self.query, self.key)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        raise AssertionError("no plan holds what stands between two positions")


@dataclass(frozen=True)
class Products(Between):
    """products(a): how much of what was added at position m is left at position n, of which every step keeps a share.

    Formula: `out[n, m] = a[m + 1] ... a[n]` for m <= n, else 0; of any sign, element by element. a[0] is not looked at.
    """

    operands: ClassVar[tuple[str, ...]] = ("a",)

    def infer(self, *operands: Type) -> Type:
        rest = tuple(axis for axis in operands[0].axes if axis != self.query)
        return Type(Kind.REAL, (self.query, self.key, *rest), operands[0].batched)

    def flops(self, result: Type, *operands: Type) -> Poly:
        return result.volume()


@dataclass(frozen=True)
class Transitions(Between):
    """transitions(a, rows, columns): how much of what was added to some states at position m is read at position n.

    Formula: `out[n, m] = rows[n] a[n - offset] ... a[m + 1] columns[m]` for m <= n - offset, else 0, with a matrix a
    over the states.
    """

    operands: ClassVar[tuple[str, ...]] = ("a", "rows", "columns")
    row: str
    column: str
    batch: tuple[str, ...]
    offset: int

    def infer(self, *operands: Type) -> Type:
        return Type(Kind.REAL, (self.query, self.key, *self.batch), any(o.batched for o in operands))

    def flops(self, result: Type, *operands: Type) -> Poly:
        return result.volume() * Poly.symbol(self.row) * Poly.symbol(self.row) * 2


@dataclass(frozen=True)
class _Chunked(Lowering):
    """What goes through the sequence chunk by chunk with states that are updated from each other.

    The operands: two over the inner features, one over the outer ones, then the matrix, its rows and its columns.
    """

    chunked: ClassVar[bool] = True
    operands: ClassVar[tuple[str, ...]] = ("query", "key", "value", "a", "rows", "columns")
    kernel: ClassVar[str]
    solved: ClassVar[bool] = False
    axis: str
    key: str
    row: str
    column: str
    inner: tuple[str, ...]
    outer: tuple[str, ...]
    batch: tuple[str, ...]
    offset: int

    def infer(self, *operands: Type) -> Type:
        kind = promote(*(o.kind for o in operands), Kind.REAL)
        return Type(kind, (*self.batch, self.axis, *self.outer), any(o.batched for o in operands))

    def flops(self, result: Type, *operands: Type) -> Poly:
        features, values, states = Poly.volume(self.inner), Poly.volume(self.outer), Poly.symbol(self.row)
        products = states * CHUNK + states * states * (2 * LEVELS) + states * states * states * 2
        chunk = features * (2 * CHUNK) + values * (CHUNK if self.solved else 2 * CHUNK)
        own = {axis for operand in operands[3:] for axis in operand.axes} & {*self.batch}
        shared = Poly.volume((*(axis for axis in self.batch if axis in own), self.axis)) * products
        return shared + Poly.volume((*self.batch, self.axis)) * (chunk + features * values * states * 4)

    def workspace(self, result: Type, *operands: Type) -> Poly:
        features, values, states = Poly.volume(self.inner), Poly.volume(self.outer), Poly.symbol(self.row)
        chunk = features * states * 2 + values * 2 + 2 * CHUNK
        own = {axis for operand in operands[3:] for axis in operand.axes} & {*self.batch}
        weights = Poly.volume((*(axis for axis in self.batch if axis in own), self.axis)) * (2 * CHUNK)
        return result.volume() + weights + Poly.volume(self.batch) * (chunk * CHUNK + features * values * states)

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return result.kind

    def follows(self) -> Mapping[str, str]:
        return {self.axis: self.axis, self.key: self.axis}

    def carried(self, result: Type, *operands: Type) -> tuple[Carried, ...]:
        features, batch = Poly.volume(self.inner), map(Poly.symbol, self.batch)
        shape = (*batch, features * Poly.symbol(self.row), Poly.volume(self.outer))
        return (Carried("the states after the last position", shape),)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        call = pyast.call(emitter.helper(self.kernel), *self._arguments(emitter, operands, ()))
        return unflattened(emitter, call, self.outer)

    def emit_from(
        self, emitter: Emitter, result: Type, state: Sequence[ast.expr], *operands: Operand
    ) -> Continuation:
        call = pyast.call(emitter.helper(f"{self.kernel}_from"), *self._arguments(emitter, operands, state))
        return Continuation(call, finish=lambda piece: unflattened(emitter, piece, self.outer))

    def _arguments(
        self, emitter: Emitter, operands: Sequence[Operand], state: Sequence[ast.expr]
    ) -> list[ast.expr]:
        layouts = (
            (self.axis, *self.inner), (self.key, *self.inner), (self.key, *self.outer),
            (self.axis, self.row, self.column), (self.axis, self.row), (self.key, self.row),
        )  # fmt: skip
        found = [emitter.align(o, (*self.batch, *axes)) for o, axes in zip(operands, layouts, strict=True)]
        for index, features in enumerate((self.inner, self.inner, self.outer)):
            found[index] = _columns(found[index], len(features))
        settings = (CHUNK,) if self.solved else (self.offset, CHUNK)
        return [*found, *state, *map(pyast.constant, settings)]


@dataclass(frozen=True)
class TransitionScan(_Chunked):
    """transition_scan(q, k, v, a, rows, columns): sums over earlier positions, through states updated from each other.

    Formula: `out[n, e] = sum over m <= n - offset, f of weight[n, m] * q[n, f] * k[m, f] * v[m, e]`, where the weight
    is `rows[n] a[n - offset] ... a[m + 1] columns[m]`, with a small matrix a over the states.
    """

    rule: ClassVar[str] = "causal scan of states"
    why: ClassVar[str] = (
        "the states are updated from each other by a small matrix, so the products of the matrices of a chunk say how "
        "much of what is added at one position is read at another, and the states are carried from chunk to chunk"
    )
    kernel: ClassVar[str] = "transition_scan"


@dataclass(frozen=True)
class TransitionFeedback(_Chunked):
    """transition_feedback(reading, direction, x, a, rows, columns): values that read what earlier ones added to states.

    Formula: `out[n, e] = x[n, e] + sum over m < n, f of weight[n, m] * reading[n, f] * direction[m, f] * out[m, e]`,
    where the weight is `rows[n] a[n - 1] ... a[m + 1] columns[m]`, with a small matrix a over the states.

    With momentum and forgetting these are the gradients of the memory of Behrouz, Zhong, Mirrokni, Titans: Learning to
    Memorize at Test Time, 2024; with one state, those of the delta rule (see `CausalFeedback`).
    """

    rule: ClassVar[str] = "causal feedback of states"
    why: ClassVar[str] = (
        "a step reads its states along one direction and adds along another, and the states are updated from each "
        "other by a small matrix: what the steps of a chunk add follows from a triangular system of its positions, "
        "and from the states before the chunk"
    )
    kernel: ClassVar[str] = "transition_feedback"
    solved: ClassVar[bool] = True
