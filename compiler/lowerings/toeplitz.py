"""Products with a map that depends on the lag only, by fast Fourier transforms."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..facts.ranges import Range, ranges
from ..graph import Node, topological
from ..normal import Factor
from ..ops.arithmetic import Subtract
from ..ops.base import Emitter, Operand
from ..ops.layout import Broadcast
from ..ops.leaves import Literal, Position, Size
from ..ops.logic import Where
from ..ops.selection import Take
from ..sizes import ZERO, Poly, Truth
from ..structure import implies_not_after, on_lag, settled
from ..types import Kind, Type, promote
from .lowering import Lowering
from .masks import behind_masks
from .request import Request


@dataclass(frozen=True)
class ToeplitzProduct(Lowering):
    """toeplitz_product(t, x): a matrix whose entries depend on the lag only, times x.

    Formula: `out[n, e] = sum over m of t[n - m + zero, e] * x[m, e]`, by a circular convolution of twice the length.

    zero: where the table has the lag 0; lags that it has no entry for count nothing. It is 0 where later keys have no
    influence, and M - 1 where all lags are in the table.

    The rounding of a transform is relative to the largest entry, so a table that grows with the lag is not taken.
    Time O(N log N) per column. Luo et al., Stable, Fast and Accurate: Kernelized Attention with Relative
    Positional Encoding, NeurIPS 2021.
    """

    rule: ClassVar[str] = "Fourier transform"
    why: ClassVar[str] = (
        "the factor depends on the difference of the positions only, so the sum is a convolution, which is a product "
        "after a Fourier transform"
    )
    operands: ClassVar[tuple[str, ...]] = ("table", "x")
    separable: ClassVar[bool] = True
    kernel: ClassVar[str] = "toeplitz_product"
    lag: str
    query: str
    key: str
    features: tuple[str, ...]
    zero: Poly

    def infer(self, *operands: Type) -> Type:
        kind = promote(*(o.kind for o in operands), Kind.REAL)
        return Type(kind, (*self.features, self.query), any(o.batched for o in operands))

    def flops(self, result: Type, *operands: Type) -> Poly:
        length = Poly.symbol(self.query) + Poly.symbol(self.key)
        transform = length * Poly.function("log", length) * 4
        columns = Poly.volume(self.features)
        table = Poly.volume(axis for axis in operands[0].axes if axis != self.lag)
        return (columns * 2 + table) * transform + columns * length * 6

    def workspace(self, result: Type, *operands: Type) -> Poly:
        table = Poly.volume(axis for axis in operands[0].axes if axis != self.lag)
        length = Poly.symbol(self.query) + Poly.symbol(self.key)
        # spectra, their product and what it is the spectrum of
        return (Poly.volume(self.features) * 3 + table) * length

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return result.kind

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        table, value = operands
        return pyast.call(
            emitter.helper(self.kernel),
            emitter.align(table, (*self.features, self.lag)),
            emitter.align(value, (*self.features, self.key)),
            emitter.size(self.zero),
            emitter.size(Poly.symbol(self.query)),
        )


def match(request: Request) -> Node | str:
    """The Toeplitz product that computes a sum of products, or why there is none."""
    bound, builder, names, product = request.bound, request.builder, request.names, request.product
    factors = behind_masks(request.factors, builder)
    pairs = [
        (n, m)
        for factor in factors
        for n in factor.axes
        for m in factor.axes
        if n != m and n not in bound and m in bound and not factor.node.op.is_given()
    ]
    for n, m in dict.fromkeys(pairs):
        coupling = [factor for factor in factors if n in factor.axes and m in factor.axes]
        if request.facts.equal(Poly.symbol(n), Poly.symbol(m)) is not Truth.YES:
            continue
        if not all(on_lag(f.node, n, m, builder.make(Position(n)), builder) for f in coupling):
            continue
        earlier = any(_hides_later(f, n, m, request) for f in coupling)
        zero = ZERO if earlier else Poly.symbol(m) - 1
        size = Poly.symbol(n) + zero
        axis = names.fresh("L", size)
        lag = builder.make(Position(axis))
        if not earlier:
            lag = builder.make(Subtract(), lag, builder.make(Size(zero)))
        moved = [Factor(on_lag(f.node, n, m, lag, builder) or f.node, f.inverse) for f in coupling]

        def length(each: str, axis: str = axis, size: Poly = size) -> Poly:
            return size if each == axis else Poly.symbol(each)

        moved = [Factor(settled(f.node, length, request.facts, builder), f.inverse) for f in moved]
        table = product([f for f in moved if f.node.axes or f.node.op != Literal(1.0)], frozenset())
        if axis not in table.axes:
            table = builder.make(Broadcast((axis, *table.axes)), table)
        left = [factor for factor in factors if n in factor.axes and factor not in coupling]
        right = [factor for factor in factors if n not in factor.axes]
        needed = {a for factor in left for a in factor.axes} | set(table.axes)
        value = product(right, bound - {m} - needed)
        if m not in value.axes:
            value = builder.make(Broadcast((m, *value.axes)), value)
        if _grows(table, ranges((table,), request.constants)):
            return "the factor may grow with the lag without a bound, and a transform rounds by its largest value"
        features = tuple(dict.fromkeys(a for node in (table, value) for a in node.axes if a not in (axis, m)))
        made = builder.make(ToeplitzProduct(axis, n, m, features, zero), table, value)
        return product([Factor(made), *left], bound - {m})
    return "no factor depends on the lag alone"


def _grows(table: Node, known: Mapping[Node, Range]) -> bool:
    """Whether a value that is made of positions has no bound: rows of small values would drown in the rounding."""
    grows: dict[Node, bool] = {}
    for node in topological([table]):
        operands = node.inputs
        if isinstance(node.op, Where):
            operands = operands[1:]
        elif isinstance(node.op, Take):
            operands = operands[:1]
        bounded = math.isfinite(known[node].low) and math.isfinite(known[node].high)
        grows[node] = isinstance(node.op, Position) or (not bounded and any(grows[each] for each in operands))
    return grows[table]


def _hides_later(factor: Factor, n: str, m: str, request: Request) -> bool:
    """Whether a factor is 0 where the key comes after the query."""
    node = factor.node
    if factor.inverse or not isinstance(node.op, Where):
        return False
    condition, yes, no = node.inputs
    for other, negated in ((no, False), (yes, True)):
        nothing = isinstance(other.op, Literal) and other.op.value == 0
        if nothing and implies_not_after(condition, n, m, request.facts, negated=negated):
            return True
    return False
