"""Fused softmax attention: torch's `scaled_dot_product_attention` where the map is a softmax of a contraction."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from .. import pyast
from ..graph import Builder, Node
from ..normal import Factor
from ..ops.arithmetic import Add, Divide, Multiply, Subtract
from ..ops.base import Emitter, Op, Operand
from ..ops.contraction import Contraction
from ..ops.emission import as_tensor
from ..ops.functions import Sqrt
from ..ops.layout import Broadcast, Rename, Reorder
from ..ops.leaves import Literal, Size
from ..ops.logic import Where
from ..ops.normalisations import Softmax
from ..ops.selection import Concat, Slice
from ..sizes import ZERO, Poly, Truth
from ..structure import lag_at_least
from ..types import Kind, Type, promote
from .local import local
from .lowering import Lowering, unflattened
from .request import Request


@dataclass(frozen=True)
class FusedSoftmax(Lowering):
    """fused_softmax(q, k, v): softmax attention whose map is never stored, by torch's fused kernels.

    Formula: `out[n, e] = sum over m of softmax over m of (scale * q[n] . k[m] + bias[n, m]) * v[m, e]`, over the
    keys that the mask shows; a row without any gives zeros. With a sink, exp(sink[n]) is added to the sum that the
    softmax divides by.

    The scale is 1/sqrt(D) where `scaled`, else 1. Where `causal`, a query sees the keys up to its own position; where
    `late`, the queries are the last positions of the keys. Dao et al., FlashAttention, NeurIPS 2022; which kernel runs
    is torch's choice: one of them, for uncommon shapes, stores the map.
    """

    rule: ClassVar[str] = "fused softmax"
    why: ClassVar[str] = (
        "each row of the map is normalised while it is summed, with the largest score so far subtracted, so the map "
        "is never stored"
    )
    absorbs: ClassVar[bool] = True
    operands: ClassVar[tuple[str, ...]] = ("query", "key", "value")
    optional: ClassVar[tuple[str, ...]] = ("mask", "bias", "sink")
    kernel: ClassVar[str] = "fused_attention"
    query: str
    key: str
    inner: str
    outer: tuple[str, ...]
    batch: tuple[str, ...]
    scaled: bool
    causal: bool
    given: tuple[str, ...] = ()
    late: bool = False

    def infer(self, *operands: Type) -> Type:
        kind = promote(*(o.kind for o in operands[:3]), Kind.REAL)
        return Type(kind, (*self.batch, self.query, *self.outer), any(o.batched for o in operands))

    def follows(self) -> Mapping[str, str]:
        return {self.key: self.query} if self.causal else {}

    def flops(self, result: Type, *operands: Type) -> Poly:
        pairs = Poly.volume((*self.batch, self.query, self.key))
        return pairs * (Poly.symbol(self.inner) * 2 + Poly.volume(self.outer) * 2 + 6)

    def workspace(self, result: Type, *operands: Type) -> Poly:
        longer = (operand.volume() for operand in operands[:3]) if "sink" in self.given else ()
        return sum(longer, ZERO)  # with one more key each

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return None if operands[index].kind is Kind.BOOL else result.kind

    def _tensors(self, emitter: Emitter, operands: Sequence[Operand]) -> list[ast.expr]:
        """Queries, keys and values as matrices."""
        rows = {0: (self.query, self.inner), 1: (self.key, self.inner), 2: (self.key, *self.outer)}
        tensors = [emitter.align(operands[i], (*self.batch, *axes)) for i, axes in rows.items()]
        if not self.outer:
            tensors[2] = pyast.method(tensors[2], "unsqueeze", -1)
        elif len(self.outer) > 1:
            tensors[2] = pyast.method(tensors[2], "flatten", -len(self.outer))
        return tensors

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        tensors = self._tensors(emitter, operands)
        mask: ast.expr = pyast.constant(None)
        pair = (*self.batch, self.query, self.key)
        given = dict(zip(self.given, operands[3:], strict=True))
        sink = given.pop("sink", None)
        for operand in given.values():
            mask = emitter.align(operand, pair)
            if not operand.type.batched and operand.type.axes == (self.key,):
                mask = pyast.method(mask, "unsqueeze", 0)  # torch's attention knows no mask of keys alone
            paired = {*operands[0].type.axes, *operands[1].type.axes}
            if operand.type.batched or not set(operand.type.axes) <= paired:
                # torch adds the mask to the scores in place: they must have every batch dimension of the mask
                tensors[0] = pyast.call(emitter.helper("over_batch"), tensors[0], 2, mask, 2)
        if sink is not None:
            beside = as_tensor(emitter, sink, result.kind, (*self.batch, self.query), wide=False)
            if not sink.type.batched and not {*self.batch, self.query} & {*sink.type.axes}:
                beside = pyast.method(beside, "reshape", 1)
            if self.late:
                attended = pyast.call(emitter.helper("late_sink_attention"), *tensors, beside, self.scaled)
            else:
                helper = emitter.helper("sink_attention")
                attended = pyast.call(helper, *tensors, mask, beside, self.causal, self.scaled)
            return unflattened(emitter, attended, self.outer)
        if self.late:
            late = pyast.call(emitter.helper("causal_attention"), *tensors, self.scaled)
            return unflattened(emitter, late, self.outer)
        fused = pyast.call(emitter.helper(self.kernel), *tensors, mask, self.causal, self.scaled)
        return unflattened(emitter, fused, self.outer)


Numbers = tuple[tuple[type[Op], Node], ...]


@dataclass(frozen=True)
class _Product:
    """scale * (x @ y), with the numbers that scale."""

    node: Node
    numbers: Numbers = ()


@dataclass(frozen=True)
class _Scores:
    """A sum of products, and what is added to them."""

    products: tuple[_Product, ...]
    bias: Node | None = None

    def times(self, kind: type[Op], number: Node, builder: Builder) -> _Scores:
        products = tuple(_Product(each.node, (*each.numbers, (kind, number))) for each in self.products)
        return _Scores(products, None if self.bias is None else builder.make(kind(), self.bias, number))

    def plus(self, bias: Node, builder: Builder) -> _Scores:
        return _Scores(self.products, bias if self.bias is None else builder.make(Add(), self.bias, bias))


@dataclass(frozen=True)
class _Sides:
    """query[..., inner] . key[..., inner], of which the query is multiplied by the numbers."""

    query: Node
    key: Node
    inner: str
    numbers: Numbers


def match(request: Request) -> Node | str:
    """The fused attention that computes a sum over one softmax and other factors, or why there is none."""
    factors, bound, builder, couples = request.factors, request.bound, request.builder, request.couples
    found = [f for f in factors if isinstance(f.node.op, Softmax) and not f.inverse and set(f.node.op.axes) <= bound]
    if len(found) != 1:
        return "there is not exactly one softmax among the factors"
    [softmax] = found
    op = softmax.node.op
    assert isinstance(op, Softmax)
    if len(op.axes) != 1 or not request.only_here(softmax.node):
        return "the softmax runs over several axes, or something else reads it"
    [m] = op.axes
    if "mask" in op.given and not (softmax.node.inputs[1].axes or softmax.node.inputs[1].type.batched):
        return "the mask shows all keys or none"
    scores = _scores(softmax.node.inputs[0], builder)
    if scores is None:
        return "the scores are not a contraction with a scale and a bias"
    found_sides = [_sides(product, m, couples) for product in scores.products]
    taken = [sides for sides in found_sides if isinstance(sides, _Sides)]
    if not taken:
        return next(reason for reason in found_sides if isinstance(reason, str))
    others = [factor for factor in factors if factor is not softmax]
    keyed = {axis for factor in others if m in factor.axes for axis in factor.axes}
    own = [axis for each in taken for axis in each.query.axes if axis not in {*each.key.axes, *keyed, each.inner}]
    if not own:
        return "the values depend on every axis of the queries"
    n = max(reversed(own), key=request.size)  # the others, as groups of heads, are batch axes
    parts: list[_Sides] = []
    for product, each in zip(scores.products, found_sides, strict=True):
        if isinstance(each, _Sides) and n in each.query.axes and n not in each.key.axes:
            parts.append(each)
        else:
            scores = scores.plus(_scaled(product.node, product.numbers, builder), builder)
    sides = _joined(parts, request) if len(parts) > 1 else parts[0]
    if sides.inner in {axis for factor in others for axis in factor.axes}:  # values with an axis of that name
        inner = request.names.fresh(sides.inner)
        query, key = (builder.make(Rename(sides.inner, inner), side) for side in (sides.query, sides.key))
        sides = _Sides(query, key, inner, sides.numbers)
    build = partial(_attention, request, softmax.node, scores.bias, sides, (n, m), others)
    return min((build(inside) for inside in _insides(others, n, m)), key=request.work)


def _sides(product: _Product, m: str, couples: Callable[[Node], bool]) -> _Sides | str:
    """The queries and the keys of a product, or why it has none."""
    if not isinstance(product.node.op, Contraction) or len(product.node.op.axes) != 1:
        return "the scores are not a contraction with a scale and a bias"
    left, right = product.node.inputs
    if m in left.axes:
        left, right = right, left
    if m in left.axes or m not in right.axes or couples(left) or couples(right):
        return "a side of the scores couples queries and keys"
    return _Sides(left, right, product.node.op.axes[0], product.numbers)


def _joined(parts: Sequence[_Sides], request: Request) -> _Sides:
    """A sum of products as one, of the features end to end; a query takes the numbers of its product."""
    builder, first = request.builder, parts[0]
    alike = all(each.numbers == first.numbers for each in parts)
    queries = [each.query if alike else _scaled(each.query, each.numbers, builder) for each in parts]
    sources = tuple(each.inner for each in parts)
    inner = request.names.fresh(first.inner, sum(map(Poly.symbol, sources), ZERO))
    query, key = (
        builder.make(Concat(sources, inner), *(_in_rows(*each, builder) for each in zip(side, sources, strict=True)))
        for side in (queries, [each.key for each in parts])
    )
    return _Sides(query, key, inner, first.numbers if alike else ())


def _in_rows(value: Node, inner: str, builder: Builder) -> Node:
    """The value with the features last."""
    while isinstance(value.op, Reorder):
        [value] = value.inputs
    if value.axes[-1] == inner:
        return value
    return builder.make(Reorder((*(axis for axis in value.axes if axis != inner), inner)), value)


def _insides(others: Sequence[Factor], query: str, key: str) -> list[list[Factor]]:
    """Which factors the values may be the product of: those of the keys, or all that no query has a part in.

    A factor without keys, as a matrix behind the values of each head, does as well behind the sum. Inside, it is there
    at every key, and in what a step keeps of them; so it goes there only where that is less work, as for a few keys.
    """
    keyed = [factor for factor in others if key in factor.axes]
    free = [factor for factor in others if query not in factor.axes]
    return [keyed] if len(keyed) == len(free) else [keyed, free]


def _attention(
    request: Request,
    softmax: Node,
    bias: Node | None,
    sides: _Sides,
    axes: tuple[str, str],
    others: Sequence[Factor],
    inside: list[Factor],
) -> Node:
    """The attention over values that are the product of some factors, and the others behind it."""
    bound, builder, product, facts = request.bound, request.builder, request.product, request.facts
    left, right, inner = sides.query, sides.key, sides.inner
    n, m = axes
    op = softmax.op
    assert isinstance(op, Softmax)
    after = [factor for factor in others if factor not in inside]
    needed = {*softmax.axes, *(axis for factor in after for axis in factor.axes)}
    value = product(inside, bound - {m} - needed)
    if m not in value.axes:
        value = builder.make(Broadcast((m, *value.axes)), value)
    every = dict.fromkeys(axis for axis in (*softmax.axes, *left.axes, *right.axes) if axis not in (n, m, inner))
    # heads that share keys and values come last, where torch's attention reads these without copies of them
    batch = tuple(sorted(every, key=lambda axis: axis not in right.axes and axis not in value.axes))
    outer = tuple(axis for axis in value.axes if axis != m and axis not in batch)
    held = _held(value, right) if len(outer) == 1 else None
    part = None
    if held is not None:  # keys that hold the values are kept once
        wide = request.names.fresh(inner)
        part = Slice(wide, outer[0], held)
        outer, value = (wide,), builder.make(Rename(inner, wide), right)
    near = None
    sink = softmax.inputs[-1] if "sink" in op.given else None
    if "mask" in op.given and bias is None and sink is None:
        near = local(softmax.inputs[1], n, m, inner, outer, batch, facts, request.constants)
    if near is not None:
        scale = _scaled(builder.make(Literal(1.0)), sides.numbers, builder)
        made = builder.make(near, left, right, value, scale)
        made = made if part is None else builder.make(part, made)
        return product([Factor(made), *after], bound - {m}) if after or bound - {m} else made
    given: list[tuple[str, Node]] = []
    causal = False
    mask = softmax.inputs[1] if "mask" in op.given else None
    if mask is not None:
        same = facts.equal(Poly.symbol(n), Poly.symbol(m)) is Truth.YES
        causal = same and bias is None and lag_at_least(mask, n, m) == 0
        if not causal:
            given.append(("mask", mask))
    if bias is not None:
        if mask is not None:
            bias = builder.make(Where(), mask, bias, builder.make(Literal(float("-inf"))))
        given = [("bias", bias)]
    if sink is not None:
        given.append(("sink", sink))
    scaled = _is_default(sides.numbers, request.names.sizes.get(inner) or Poly.symbol(inner))
    query = left if scaled else _scaled(left, sides.numbers, builder)
    names = tuple(name for name, _ in given)
    fused = FusedSoftmax(n, m, inner, outer, batch, scaled, causal, names)
    made = builder.make(fused, query, right, value, *(node for _, node in given))
    made = made if part is None else builder.make(part, made)
    rest = bound - {m}
    return product([Factor(made), *after], rest) if after or rest else made


def _held(value: Node, key: Node) -> Poly | None:
    """Where the features of the values start among those of joined keys; None if they are no part of these."""
    if not isinstance(key.op, Concat):
        return None
    while isinstance(value.op, Reorder):
        [value] = value.inputs
    start = ZERO
    for axis, part in zip(key.op.sources, key.inputs, strict=True):
        if part is value and {*part.axes} - {axis} == {*key.axes} - {key.op.target}:
            return start
        start += Poly.symbol(axis)
    return None


def _scaled(value: Node, numbers: Numbers, builder: Builder) -> Node:
    """The value with numbers that multiply or divide it."""
    for kind, number in numbers:
        value = builder.make(kind(), value, number)
    return value


def _is_number(node: Node) -> bool:
    return not node.axes and not node.type.batched and not node.op.is_given()


def _scores(node: Node, builder: Builder) -> _Scores | None:
    match node.op:
        case Contraction():
            return _Scores((_Product(node),))
        case Reorder():
            return _scores(node.inputs[0], builder)
        case Multiply() | Divide():
            left, right = node.inputs
            if isinstance(node.op, Multiply) and _is_number(left):
                left, right = right, left
            inner = _scores(left, builder) if _is_number(right) else None
            return None if inner is None else inner.times(type(node.op), right, builder)
        case Add() | Subtract():
            left, right = node.inputs
            found, more = _scores(left, builder), _scores(right, builder)
            if isinstance(node.op, Subtract):
                minus = builder.make(Literal(-1))
                if more is not None:
                    more = more.times(Multiply, minus, builder)
                elif not _is_number(right):
                    right = builder.make(Multiply(), right, minus)
            if found is not None and more is not None:
                joined = _Scores((*found.products, *more.products), found.bias)
                return joined if more.bias is None else joined.plus(more.bias, builder)
            known, bias = (found, right) if more is None else (more, left)
            if known is None or _is_number(bias) or not set(bias.axes) <= set(node.axes):
                return None
            return known.plus(bias, builder)
    return None


def _is_default(numbers: Numbers, width: Poly) -> bool:
    """Whether the scale is exactly 1/sqrt(D)."""
    if len(numbers) != 1 or numbers[0][0] is not Divide:
        return False
    root = numbers[0][1]
    return isinstance(root.op, Sqrt) and _size(root.inputs[0]) == width


def _size(node: Node) -> Poly | None:
    """The size that a sum of sizes is."""
    match node.op:
        case Size(size):
            return size
        case Add():
            left, right = map(_size, node.inputs)
            return None if left is None or right is None else left + right
    return None
