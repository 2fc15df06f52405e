"""Additive scores: a sum over a function of every pair of a query and a key, tile by tile."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..graph import Node
from ..ops.arithmetic import Add, Negative, Subtract
from ..ops.base import Emitter, Operand
from ..ops.functions import Gelu, Relu, Sigmoid, Silu, Softplus, Tanh
from ..ops.layout import Broadcast
from ..sizes import Poly
from ..types import Kind, Type
from .lowering import Lowering
from .request import Request

ROWS = 16  # of queries in a tile
FUNCTIONS = (Gelu, Relu, Sigmoid, Silu, Softplus, Tanh)


@dataclass(frozen=True)
class SumOfPairs(Lowering):
    """sum_of_pairs(q, k, w): weighted sums over a function of q + k, for every query and key.

    Formula: `out[n, m] = sum over a of w[a] * f(q[n, a] + k[m, a])`.

    Bahdanau, Cho, Bengio, Neural Machine Translation by Jointly Learning to Align and Translate, ICLR 2015.
    """

    rule: ClassVar[str] = "tiles"
    why: ClassVar[str] = "the value over queries, keys and features is summed a few rows at a time, never stored whole"
    operands: ClassVar[tuple[str, ...]] = ("query", "key", "weight")
    absorbs: ClassVar[bool] = True
    kernel: ClassVar[str] = "sum_of_pairs"
    function: str
    query: str
    key: str
    inner: str
    batch: tuple[str, ...]

    def infer(self, *operands: Type) -> Type:
        return Type(Kind.REAL, (*self.batch, self.query, self.key), any(o.batched for o in operands))

    def flops(self, result: Type, *operands: Type) -> Poly:
        return result.volume() * Poly.symbol(self.inner) * 4

    def workspace(self, result: Type, *operands: Type) -> Poly:
        return Poly.volume((*self.batch, self.key, self.inner)) * (2 * ROWS) + result.volume()

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return Kind.REAL

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        query, key, weight = operands
        return pyast.call(
            emitter.helper(self.kernel),
            emitter.align(query, (*self.batch, self.query, self.inner)),
            emitter.align(key, (*self.batch, self.key, self.inner)),
            emitter.align(weight, (*self.batch, self.inner)),
            pyast.constant(self.function),
            pyast.constant(ROWS),
        )


def match(request: Request) -> Node | str:
    """The tiled sum over a function of pairs, or why there is none."""
    factors, bound, builder = request.factors, request.bound, request.builder
    found = [f for f in factors if isinstance(f.node.op, FUNCTIONS) and not f.inverse and request.couples(f.node)]
    if len(found) != 1 or len(bound) != 1 or not request.only_here(found[0].node):
        return "there is not exactly one function of pairs among the factors"
    [pairs], [inner] = found, bound
    sides = pairs.node.inputs[0]
    if not isinstance(sides.op, Add | Subtract) or sides.type.kind is not Kind.REAL:
        return "the function is not one of a sum"
    left, right = sides.inputs
    if inner not in left.axes or inner not in right.axes or request.couples(left) or request.couples(right):
        return "a side of the sum couples queries and keys, or lacks the summed axis"
    queries = [axis for axis in left.axes if axis not in right.axes]
    keys = [axis for axis in right.axes if axis not in left.axes]
    if len(queries) != 1 or len(keys) != 1:
        return "the sum is not one of a query and a key"
    others = [f for f in factors if f is not pairs]
    if any({queries[0], keys[0]} & set(f.axes) or f.node.type.kind is not Kind.REAL for f in others):
        return "the weights depend on the query or the key"
    batch = tuple(axis for axis in left.axes if axis not in (queries[0], inner))
    weight = request.product(others, frozenset())
    if not set(weight.axes) <= {inner, *batch}:
        return "the weights have axes that the pairs lack"
    if inner not in weight.axes:
        weight = builder.make(Broadcast((*weight.axes, inner)), weight)
    if isinstance(sides.op, Subtract):
        right = builder.make(Negative(), right)
    op = SumOfPairs(pairs.node.op.spelling, queries[0], keys[0], inner, batch)
    return builder.make(op, left, right, weight)
