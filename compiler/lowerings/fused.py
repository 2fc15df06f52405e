"""Fused softmax attention: torch's `scaled_dot_product_attention` where the map is a softmax of a contraction."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from .. import pyast
from ..graph import Builder, Node
from ..normal import Factor
from ..ops.arithmetic import Add, Divide, Multiply, Subtract
from ..ops.base import Emitter, Op, Operand
from ..ops.contraction import Contraction
from ..ops.functions import Sqrt
from ..ops.layout import Broadcast, Reorder
from ..ops.leaves import Literal, Size
from ..ops.logic import Where
from ..ops.normalisations import Softmax
from ..sizes import Poly, Truth
from ..structure import lag_at_least
from ..types import Kind, Type, promote
from .local import local
from .lowering import Lowering, unflattened
from .request import Request


@dataclass(frozen=True)
class FusedSoftmax(Lowering):
    """fused_softmax(q, k, v): softmax attention whose map is never stored, by torch's fused kernels.

    Formula: `out[n, e] = sum over m of softmax over m of (scale * q[n] . k[m] + bias[n, m]) * v[m, e]`, over the
    keys that the mask shows; a row without any gives zeros.

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
    optional: ClassVar[tuple[str, ...]] = ("mask", "bias")
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
        for operand in operands[3:]:
            mask = emitter.align(operand, pair)
            paired = {*operands[0].type.axes, *operands[1].type.axes}
            if operand.type.batched or not set(operand.type.axes) <= paired:
                # torch adds the mask to the scores in place: they must have every batch dimension of the mask
                tensors[0] = pyast.call(emitter.helper("over_batch"), tensors[0], 2, mask, 2)
        if self.late:
            late = pyast.call(emitter.helper("causal_attention"), *tensors, self.scaled)
            return unflattened(emitter, late, self.outer)
        fused = pyast.call(emitter.helper(self.kernel), *tensors, mask, self.causal, self.scaled)
        return unflattened(emitter, fused, self.outer)


@dataclass(frozen=True)
class _Scores:
    """scale * (x @ y) + bias, with the numbers that scale."""

    product: Node
    numbers: tuple[tuple[type[Op], Node], ...] = ()
    bias: Node | None = None


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
    scores = _scores(softmax.node.inputs[0], builder)
    if scores is None or not isinstance(scores.product.op, Contraction) or len(scores.product.op.axes) != 1:
        return "the scores are not a contraction with a scale and a bias"
    [inner] = scores.product.op.axes
    left, right = scores.product.inputs
    if m in left.axes:
        left, right = right, left
    if m in left.axes or m not in right.axes or couples(left) or couples(right):
        return "a side of the scores couples queries and keys"
    others = [factor for factor in factors if factor is not softmax]
    keyed = {axis for factor in others if m in factor.axes for axis in factor.axes}
    own = [axis for axis in left.axes if axis not in right.axes and axis not in keyed and axis != inner]
    if not own:
        return "the values depend on every axis of the queries"
    n = max(reversed(own), key=request.size)  # the others, as groups of heads, are batch axes
    if inner in {axis for factor in others for axis in factor.axes}:
        return "another factor has the axis that the scores contract"
    build = partial(_attention, request, softmax.node, scores, (left, right), (n, m, inner), others)
    return min((build(inside) for inside in _insides(others, n, m)), key=request.work)


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
    scores: _Scores,
    sides: tuple[Node, Node],
    axes: tuple[str, str, str],
    others: Sequence[Factor],
    inside: list[Factor],
) -> Node:
    """The attention over values that are the product of some factors, and the others behind it."""
    bound, builder, product, facts = request.bound, request.builder, request.product, request.facts
    left, right = sides
    n, m, inner = axes
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
    near = None
    if "mask" in op.given and scores.bias is None:
        near = local(softmax.inputs[1], n, m, inner, outer, batch, facts, request.constants)
    if near is not None:
        scale = builder.make(Literal(1.0))
        for kind, number in scores.numbers:
            scale = builder.make(kind(), scale, number)
        made = builder.make(near, left, right, value, scale)
        return product([Factor(made), *after], bound - {m}) if after or bound - {m} else made
    given: list[tuple[str, Node]] = []
    causal = False
    mask = softmax.inputs[1] if "mask" in op.given else None
    if mask is not None:
        same = facts.equal(Poly.symbol(n), Poly.symbol(m)) is Truth.YES
        causal = same and scores.bias is None and lag_at_least(mask, n, m) == 0
        if not causal:
            given.append(("mask", mask))
    if scores.bias is not None:
        bias = scores.bias
        if mask is not None:
            bias = builder.make(Where(), mask, bias, builder.make(Literal(float("-inf"))))
        given = [("bias", bias)]
    scaled = _is_default(scores.numbers, inner)
    query = left
    if not scaled:
        for kind, number in scores.numbers:
            query = builder.make(kind(), query, number)
    names = tuple(name for name, _ in given)
    fused = FusedSoftmax(n, m, inner, outer, batch, scaled, causal, names)
    made = builder.make(fused, query, right, value, *(node for _, node in given))
    rest = bound - {m}
    return product([Factor(made), *after], rest) if after or rest else made


def _is_number(node: Node) -> bool:
    return not node.axes and not node.type.batched and not node.op.is_given()


def _scores(node: Node, builder: Builder) -> _Scores | None:
    match node.op:
        case Contraction():
            return _Scores(node)
        case Reorder():
            return _scores(node.inputs[0], builder)
        case Multiply() | Divide():
            left, right = node.inputs
            if isinstance(node.op, Multiply) and _is_number(left):
                left, right = right, left
            inner = _scores(left, builder) if _is_number(right) else None
            if inner is None:
                return None
            bias = None if inner.bias is None else builder.make(type(node.op)(), inner.bias, right)
            return _Scores(inner.product, (*inner.numbers, (type(node.op), right)), bias)
        case Add() | Subtract():
            left, right = node.inputs
            if isinstance(node.op, Add) and _scores(left, builder) is None:
                left, right = right, left
            inner = _scores(left, builder)
            if inner is None or _is_number(right) or not set(right.axes) <= set(node.axes):
                return None
            if isinstance(node.op, Subtract):
                right = builder.make(Multiply(), right, builder.make(Literal(-1)))
            if inner.bias is not None:
                right = builder.make(Add(), inner.bias, right)
            return _Scores(inner.product, inner.numbers, right)
    return None


def _is_default(numbers: tuple[tuple[type[Op], Node], ...], inner: str) -> bool:
    """Whether the scale is exactly 1/sqrt(D)."""
    if len(numbers) != 1 or numbers[0][0] is not Divide:
        return False
    root = numbers[0][1]
    return isinstance(root.op, Sqrt) and root.inputs[0].op == Size(Poly.symbol(inner))
