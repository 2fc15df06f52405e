"""Products with a map that depends on the lag only, by fast Fourier transforms."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..graph import Node
from ..normal import Factor
from ..ops.arithmetic import Subtract
from ..ops.base import Emitter, Operand
from ..ops.layout import Broadcast
from ..ops.leaves import Position, Size
from ..sizes import Poly, Truth
from ..structure import on_lag
from ..types import Kind, Type, promote
from .lowering import Lowering
from .masks import behind_masks
from .request import Request


@dataclass(frozen=True)
class ToeplitzProduct(Lowering):
    """toeplitz_product(t, x): a matrix whose entries depend on the lag only, times x.

    Formula: `out[n, e] = sum over m of t[n - m + M - 1, e] * x[m, e]`, by a circular convolution of twice the length.

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
        last = builder.make(Size(Poly.symbol(m) - 1))
        axis = names.fresh("L", Poly.symbol(n) + Poly.symbol(m) - 1)
        lag = builder.make(Subtract(), builder.make(Position(axis)), last)
        table = product(
            [Factor(on_lag(f.node, n, m, lag, builder) or f.node, f.inverse) for f in coupling], frozenset()
        )
        if axis not in table.axes:
            continue
        left = [factor for factor in factors if n in factor.axes and factor not in coupling]
        right = [factor for factor in factors if n not in factor.axes]
        needed = {a for factor in left for a in factor.axes} | set(table.axes)
        value = product(right, bound - {m} - needed)
        if m not in value.axes:
            value = builder.make(Broadcast((m, *value.axes)), value)
        features = tuple(dict.fromkeys(a for node in (table, value) for a in node.axes if a not in (axis, m)))
        made = builder.make(ToeplitzProduct(axis, n, m, features), table, value)
        return product([Factor(made), *left], bound - {m})
    return "no factor depends on the lag alone"
