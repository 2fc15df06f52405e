"""Parts of values and values moved along an axis: concat, slice, take, shift, roll, pad, windows."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..sizes import ZERO, Poly
from ..types import Kind, Type, join, join_axes, promote
from .base import Brackets, Emitter, Operand, Reject, attribute
from .checks import need_axes, need_new_axes, need_same_sort, need_whole
from .emission import dimension, move, real_number, sizes
from .layout import Layout


@dataclass(frozen=True)
class Concat(Layout):
    """concat[N, M -> L](a, b): values laid end to end along one axis.

    Formula: `out[l] = a[l] if l < N else b[l - N]`, and L = N + M.

    One axis in the brackets for each operand, any number of operands. All other axes meet by name; an
    operand that lacks one is repeated along it. The new axis stands where a has N. Bools only with bools.
    """

    spelling: ClassVar[str] = "concat"
    brackets: ClassVar[Brackets] = Brackets.MERGE
    operands: ClassVar[tuple[str, ...]] = ("a",)
    variadic: ClassVar[bool] = True
    sources: tuple[str, ...]
    target: str

    def infer(self, *operands: Type) -> Type:
        if len(operands) != len(self.sources):
            raise Reject("AG218", operation="concat", axes=len(self.sources), operands=len(operands))
        need_same_sort("concat", operands)
        for index, (axis, operand) in enumerate(zip(self.sources, operands, strict=True)):
            need_axes("concat", (axis,), operand, index)
        rest = join(*(o.without((axis,)) for axis, o in zip(self.sources, operands, strict=True)))
        need_new_axes("concat", (self.target,), rest.axes, operands[0])
        for index, axis in enumerate(self.sources):
            if axis in rest.axes:
                raise Reject("AG219", index, operation="concat", axis=axis)
        first = operands[0].axes
        axes = tuple(self.target if axis == self.sources[0] else axis for axis in first)
        kind = promote(*(operand.kind for operand in operands))
        return Type(kind, join_axes(axes, (*rest.axes,)), rest.batched)

    def size_facts(self, *operands: Type) -> Sequence[tuple[Poly, Poly]]:
        total = sum((Poly.symbol(axis) for axis in self.sources), ZERO)
        return ((Poly.symbol(self.target), total),)

    def new_axes(self) -> tuple[str, ...]:
        return (self.target,)

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return result.kind

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        rest = tuple(axis for axis in result.axes if axis != self.target)
        if not result.batched and all(len(o.type.axes) == len(result.axes) for o in operands):
            at = result.axes.index(self.target)
            parts = [
                emitter.align(o, (*rest[:at], axis, *rest[at:])) for axis, o in zip(self.sources, operands, strict=True)
            ]
            return _cat(parts, at - len(result.axes))
        # torch.cat broadcasts nothing. Give each operand a length dimension of its own, broadcast all of
        # them (views), and take the others' length dimensions away again.
        count = len(operands)
        spread: list[ast.expr] = []
        for slot, (axis, operand) in enumerate(zip(self.sources, operands, strict=True)):
            expression = emitter.align(operand, (*rest, axis))
            for _ in range(count - 1 - slot):
                expression = pyast.method(expression, "unsqueeze", -1)
            for _ in range(slot):
                expression = pyast.method(expression, "unsqueeze", slot - count - 1)
            spread.append(expression)
        parts = []
        for slot in range(count):
            part: ast.expr = ast.Subscript(
                pyast.call("torch.broadcast_tensors", *spread), ast.Constant(slot), ast.Load()
            )
            for other in range(count):
                if other != slot:
                    part = pyast.method(part, "select", other - count, 0)
            parts.append(part)
        return move(_cat(parts, -1), (*rest, self.target), result.axes)


def _cat(parts: list[ast.expr], dim: int) -> ast.expr:
    return pyast.call("torch.cat", ast.List(parts, ast.Load()), dim=dim)


@dataclass(frozen=True)
class Slice(Layout):
    """slice[N -> P](x, start=0, stride=1): equally spaced elements along an axis.

    Formula: `out[p] = x[start + stride * p]`. A view.

    The size of P follows from an input, a parameter or a `where` line; all the elements must exist.
    start and stride are scalars over sizes and constants, start >= 0, stride >= 1.
    """

    spelling: ClassVar[str] = "slice"
    brackets: ClassVar[Brackets] = Brackets.RENAME
    source: str
    target: str
    start: Poly = attribute(0, doc="the position of the first element")
    stride: Poly = attribute(1, doc="the distance between elements")

    def infer(self, *operands: Type) -> Type:
        [x] = operands
        need_whole("slice", "start", self.start, least=0)
        need_whole("slice", "stride", self.stride, least=1)
        need_axes("slice", (self.source,), x)
        need_new_axes("slice", (self.target,), (a for a in x.axes if a != self.source), x)
        return x.with_axes(tuple(self.target if axis == self.source else axis for axis in x.axes))

    def new_axes(self) -> tuple[str, ...]:
        return (self.target,)

    def is_view(self) -> bool:
        return True

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        [x] = operands
        dim = dimension(x.type.axes, self.source)
        length = self.stride * (Poly.symbol(self.target) - 1) + 1
        part = pyast.method(x.expression, "narrow", dim, emitter.size(self.start), emitter.size(length))
        return part if self.stride == Poly.constant(1) else _every(part, dim, emitter.size(self.stride))


def _every(expression: ast.expr, dim: int, step: ast.expr) -> ast.expr:
    """`expression[..., ::step, :, :]`, with the step at a dimension counted from the end."""
    full = ast.Slice()
    index = [ast.Constant(...), ast.Slice(step=step), *[full] * (-dim - 1)]
    return ast.Subscript(expression, ast.Tuple(index, ast.Load()), ast.Load())


@dataclass(frozen=True)
class Take(Layout):
    """take[L](table, index): the entries of a table at computed positions.

    Formula: `out[..., i] = table[..., l = index[..., i]]`.

    index is int, with values from 0 to L - 1 (others are an error, when the module runs at the latest). Axes that table
    and index share meet by name: `take[L](bias[H, L], lag)` with lag over [N, M] gives [H, N, M], and
    `take[L](table[N, L], index[N])` takes one entry of each row. The index's own axes stand where L stood.
    index may have the axis L itself: `take[M](v, order)` puts v in the order of order[M].
    """

    spelling: ClassVar[str] = "take"
    brackets: ClassVar[Brackets] = Brackets.AXIS
    operands: ClassVar[tuple[str, ...]] = ("table", "index")
    axis: str

    def infer(self, *operands: Type) -> Type:
        table, index = operands
        need_axes("take", (self.axis,), table)
        if index.kind is not Kind.INT:
            raise Reject("AG213", 1, operation="take", kind=index.kind.value)
        rest, new = self.parts(table, index)
        at = table.axes.index(self.axis)
        return Type(table.kind, (*rest[:at], *new, *rest[at:]), table.batched or index.batched)

    def parts(self, table: Type, index: Type) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The axes that stay from the table, and those that the index brings."""
        rest = tuple(axis for axis in table.axes if axis != self.axis)
        return rest, tuple(axis for axis in index.axes if axis not in rest)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        table, index = operands
        rest, new = self.parts(table.type, index.type)
        dim = dimension(table.type.axes, self.axis)
        if index.number:
            return pyast.method(table.expression, "select", dim, index.expression)
        positions = index.expression
        alone = len(new) == len(index.type.axes)
        if alone and not index.type.batched:
            if len(new) != 1:
                positions = pyast.method(positions, "flatten")
            taken = pyast.call("torch.index_select", table.expression, dim, positions)
            return taken if len(new) == 1 else _into(emitter, taken, dim, new)
        if alone and not table.type.batched:
            front = move(table.expression, table.type.axes, (self.axis, *rest))
            rows = ast.Call(emitter.helper("rows_at"), [front, positions], [])
            return move(rows, (*new, *rest), result.axes)
        # Shared axes or two batches: both get [..., rest, L, index] as broadcast views, then gather.
        lookup = emitter.align(Operand(positions, index.type), (*rest, *new))
        if len(new) > 1:
            lookup = pyast.method(lookup, "flatten", -len(new))
        elif not new:
            lookup = pyast.method(lookup, "unsqueeze", -1)
        last = pyast.method(move(table.expression, table.type.axes, (*rest, self.axis)), "unsqueeze", -1)
        both = pyast.call("torch.broadcast_tensors", last, pyast.method(lookup, "unsqueeze", -2))
        values, places = (ast.Subscript(both, ast.Constant(i), ast.Load()) for i in range(2))
        taken = pyast.call(
            "torch.gather", pyast.method(values, "select", -1, 0), -1, pyast.method(places, "select", -2, 0)
        )
        return move(taken if len(new) == 1 else _into(emitter, taken, -1, new), (*rest, *new), result.axes)


def _into(emitter: Emitter, expression: ast.expr, dim: int, axes: tuple[str, ...]) -> ast.expr:
    """A dimension that holds several axes, or none, as these axes."""
    if not axes:
        return pyast.method(expression, "squeeze", dim)
    return pyast.method(expression, "unflatten", dim, sizes(emitter, axes))


@dataclass(frozen=True)
class _AlongAxis(Layout):
    """A value moved along one axis, which keeps its size."""

    brackets: ClassVar[Brackets] = Brackets.AXIS
    axis: str
    by: Poly = attribute(1, doc="how many places towards the end; negative: towards the start")

    def infer(self, *operands: Type) -> Type:
        [x] = operands
        need_axes(self.spelling, (self.axis,), x)
        need_whole(self.spelling, "by", self.by)
        return x


@dataclass(frozen=True)
class Shift(_AlongAxis):
    """shift[N](x, by=1): every element moved along an axis, zeros (or false) moving in.

    Formula: `out[n] = x[n - by] if 0 <= n - by < N else 0`.

    by=1 gives each token its predecessor; a negative by its successors. by may exceed N.
    """

    spelling: ClassVar[str] = "shift"

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        [x] = operands
        dim = dimension(x.type.axes, self.axis)
        front = Poly.function("max", self.by, ZERO)
        back = Poly.function("max", -self.by, ZERO)
        return pyast.method(
            _padded(emitter, x.expression, dim, front, back),
            "narrow", dim, emitter.size(back), emitter.size(Poly.symbol(self.axis)),
        )  # fmt: skip


@dataclass(frozen=True)
class Roll(_AlongAxis):
    """roll[N](x, by=1): every element moved along an axis, those that leave it coming in at the other end.

    Formula: `out[n] = x[(n - by) mod N]`. A different amount per head is a `take`.
    """

    spelling: ClassVar[str] = "roll"

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        [x] = operands
        return pyast.call("torch.roll", x.expression, emitter.size(self.by), dimension(x.type.axes, self.axis))


@dataclass(frozen=True)
class Pad(Layout):
    """pad[N -> P](x, before=0, after=0, value=0): elements of one value added at the ends of an axis.

    Formula: `out[p] = x[p - before] if 0 <= p - before < N else value`, and P = before + N + after.

    before and after are whole numbers >= 0. A bool takes value 0 or 1.
    """

    spelling: ClassVar[str] = "pad"
    brackets: ClassVar[Brackets] = Brackets.RENAME
    source: str
    target: str
    before: Poly = attribute(0, doc="how many elements in front")
    after: Poly = attribute(0, doc="how many elements behind")
    value: Poly = attribute(0, doc="what they are")

    def infer(self, *operands: Type) -> Type:
        [x] = operands
        need_whole("pad", "before", self.before, least=0)
        need_whole("pad", "after", self.after, least=0)
        need_axes("pad", (self.source,), x)
        need_new_axes("pad", (self.target,), (a for a in x.axes if a != self.source), x)
        if x.kind in (Kind.BOOL, Kind.INT):
            need_whole("pad", "value", self.value)
        return x.with_axes(tuple(self.target if axis == self.source else axis for axis in x.axes))

    def size_facts(self, *operands: Type) -> Sequence[tuple[Poly, Poly]]:
        return ((Poly.symbol(self.target), Poly.symbol(self.source) + self.before + self.after),)

    def new_axes(self) -> tuple[str, ...]:
        return (self.target,)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        [x] = operands
        dim = dimension(x.type.axes, self.source)
        return _padded(emitter, x.expression, dim, self.before, self.after, self.value)


def _padded(emitter: Emitter, expression: ast.expr, dim: int, front: Poly, back: Poly, value: Poly = ZERO) -> ast.expr:
    amounts = [pyast.constant(0)] * 2 * (-dim - 1) + [emitter.size(front), emitter.size(back)]
    keywords = {"value": real_number(emitter, value)} if value else {}
    return pyast.call("torch.nn.functional.pad", expression, ast.Tuple(amounts, ast.Load()), **keywords)


@dataclass(frozen=True)
class Windows(Layout):
    """windows[N -> P, W](x, start=0, dilation=1, stride=1): the window of elements at each of P places.

    Formula: `out[p, w] = x[n] with n = stride * p + start + dilation * w, and 0 where n < 0 or n >= N`.

    `windows[N -> N, W](x, start=-1)` with W = 3 is what a convolution of width 3 reads; the causal one
    has start = 1 - W. The sizes of P and W follow from a parameter or a `where` line. P and W stand where
    N stood. Two axes are two calls. start is a whole number, dilation and stride are >= 1.
    """

    spelling: ClassVar[str] = "windows"
    brackets: ClassVar[Brackets] = Brackets.WINDOW
    source: str
    target: str
    window: str
    start: Poly = attribute(0, doc="where the first window starts")
    dilation: Poly = attribute(1, doc="the distance between elements of a window")
    stride: Poly = attribute(1, doc="the distance between windows")

    def infer(self, *operands: Type) -> Type:
        [x] = operands
        need_whole("windows", "start", self.start)
        need_whole("windows", "dilation", self.dilation, least=1)
        need_whole("windows", "stride", self.stride, least=1)
        need_axes("windows", (self.source,), x)
        need_new_axes("windows", (self.target, self.window), (a for a in x.axes if a != self.source), x)
        at = x.axes.index(self.source)
        return x.with_axes((*x.axes[:at], self.target, self.window, *x.axes[at + 1 :]))

    def new_axes(self) -> tuple[str, ...]:
        return (self.target, self.window)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        [x] = operands
        axes, dim = x.type.axes, dimension(x.type.axes, self.source)
        width = self.dilation * (Poly.symbol(self.window) - 1) + 1
        reach = self.stride * (Poly.symbol(self.target) - 1) + width
        front = Poly.function("max", -self.start, ZERO)
        back = Poly.function("max", self.start + reach - Poly.symbol(self.source), ZERO)
        read = pyast.method(
            _padded(emitter, x.expression, dim, front, back),
            "narrow", dim, emitter.size(Poly.function("max", self.start, ZERO)), emitter.size(reach),
        )  # fmt: skip
        cut: ast.expr = pyast.method(read, "unfold", dim, emitter.size(width), emitter.size(self.stride))
        if self.dilation != Poly.constant(1):
            cut = _every(cut, -1, emitter.size(self.dilation))
        at = axes.index(self.source)
        return move(cut, (*axes[:at], self.target, *axes[at + 1 :], self.window), result.axes)


@dataclass(frozen=True)
class Fold(Layout):
    """fold[P, W -> N](x, start=0, dilation=1, stride=1): windows added back into one axis, where they overlap too.

    Formula: `out[n] = sum of x[p, w] over all p, w with stride * p + start + dilation * w = n`.

    The reverse of `windows` with the same attributes (its transpose as a linear map): what windows read from
    outside is dropped. The size of N follows from an input, a parameter or a `where` line. Ints give ints.
    Counts one addition per element of the operand.
    """

    spelling: ClassVar[str] = "fold"
    brackets: ClassVar[Brackets] = Brackets.MERGE
    sources: tuple[str, ...]
    target: str
    start: Poly = attribute(0, doc="where the first window starts")
    dilation: Poly = attribute(1, doc="the distance between elements of a window")
    stride: Poly = attribute(1, doc="the distance between windows")

    def infer(self, *operands: Type) -> Type:
        [x] = operands
        need_whole("fold", "start", self.start)
        need_whole("fold", "dilation", self.dilation, least=1)
        need_whole("fold", "stride", self.stride, least=1)
        if len(self.sources) != 2:
            raise Reject("AG220", operation="fold")
        need_axes("fold", self.sources, x)
        if x.kind is Kind.BOOL:
            raise Reject("AG207", 0, operation="fold")
        need_new_axes("fold", (self.target,), (a for a in x.axes if a not in self.sources), x)
        return x.with_axes(
            tuple(self.target if axis == self.sources[0] else axis for axis in x.axes if axis != self.sources[1])
        )

    def new_axes(self) -> tuple[str, ...]:
        return (self.target,)

    def flops(self, result: Type, *operands: Type) -> Poly:
        return operands[0].volume()

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        [x] = operands
        place, window = self.sources
        rest = tuple(axis for axis in x.type.axes if axis not in self.sources)
        width = self.dilation * (Poly.symbol(window) - 1) + 1
        reach = self.stride * (Poly.symbol(place) - 1) + width
        # where each element lands, counted from the first window's start
        rows, columns = (
            pyast.binary(
                "*",
                pyast.call("torch.arange", emitter.size(Poly.symbol(axis)), device=emitter.device()),
                emitter.size(step),
            )
            for axis, step in ((place, self.stride), (window, self.dilation))
        )
        lands = pyast.method(pyast.binary("+", pyast.method(rows, "unsqueeze", -1), columns), "flatten")
        values = pyast.method(move(x.expression, x.type.axes, (*rest, place, window)), "flatten", -2)
        # a tensor to add to, of whatever batch the operand has: one zero, padded with zeros
        empty: ast.expr = pyast.call("torch.zeros_like", _first(x, rest, self.sources))
        empty = _padded(emitter, empty, -1, ZERO, reach - 1)
        summed = pyast.method(empty, "index_add", -1, lands, values)
        target = Poly.symbol(self.target)
        front = Poly.function("max", self.start, ZERO)
        back = Poly.function("max", target - reach - self.start, ZERO)
        whole = pyast.method(
            _padded(emitter, summed, -1, front, back),
            "narrow", -1, emitter.size(Poly.function("max", -self.start, ZERO)), emitter.size(target),
        )  # fmt: skip
        return move(whole, (*rest, self.target), result.axes)


def _first(operand: Operand, rest: tuple[str, ...], sources: tuple[str, ...]) -> ast.expr:
    """The operand's first element along two axes, as a last dimension of length 1."""
    ordered = move(operand.expression, operand.type.axes, (*rest, *sources))
    return pyast.method(pyast.method(ordered, "select", -2, 0), "narrow", -1, 0, 1)
