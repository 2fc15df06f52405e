"""What a recurrence adds along one direction, made of what it reads of its own sums: a triangular system."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..ops.base import Carried, Continuation, Emitter, Operand
from ..sizes import Poly
from ..types import Kind, Type, promote
from .lowering import Lowering, unflattened

CHUNK = 64
HALVINGS = 6  # of a chunk, down to single positions


@dataclass(frozen=True)
class CausalFeedback(Lowering):
    """causal_feedback(reading, direction, x, gates): values that read the sums of themselves so far.

    Formula: `out[n, e] = x[n, e] + sum over m < n, f of weight[n, m] * reading[n, f] * direction[m, f] * out[m, e]`,
    where the weight is 1, or `exp(gates[m + 1] + ... + gates[n - 1])`, of logarithms of gates.

    With `x = beta * v`, `reading = -beta * k` and `direction = k` these are the corrections of the delta rule. Inside
    a chunk the system is solved; between chunks the sums are carried. Yang et al., Parallelizing Linear Transformers
    with the Delta Rule over Sequence Length, NeurIPS 2024; with gates: Yang et al., Gated Delta Networks, 2024.
    """

    rule: ClassVar[str] = "causal feedback"
    why: ClassVar[str] = (
        "a step reads the state along one direction and adds along another, so what the steps of a chunk add follows "
        "from a triangular system of its positions, and from the sums before the chunk"
    )
    chunked: ClassVar[bool] = True
    operands: ClassVar[tuple[str, ...]] = ("reading", "direction", "x")
    optional: ClassVar[tuple[str, ...]] = ("gates",)
    kernel: ClassVar[str] = "causal_feedback"
    axis: str
    inner: str
    batch: tuple[str, ...]
    outer: tuple[str, ...]

    def infer(self, *operands: Type) -> Type:
        kind = promote(*(o.kind for o in operands), Kind.REAL)
        return Type(kind, (self.axis, *self.batch, *self.outer), any(o.batched for o in operands))

    def flops(self, result: Type, *operands: Type) -> Poly:
        features, values = Poly.symbol(self.inner), Poly.volume(self.outer)
        per_token = features * (2 * CHUNK) + values * CHUNK + features * values * 4
        return Poly.volume((*self.batch, self.axis)) * per_token

    def workspace(self, result: Type, *operands: Type) -> Poly:
        features, values = Poly.symbol(self.inner), Poly.volume(self.outer)
        chunk = features * 2 + values * 2 + 2 * CHUNK
        return result.volume() + Poly.volume(self.batch) * (chunk * CHUNK + features * values)

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return result.kind if index < 3 else None  # gates keep their precision

    def follows(self) -> Mapping[str, str]:
        return {self.axis: self.axis}

    def carried(self, result: Type, *operands: Type) -> tuple[Carried, ...]:
        shape = (*map(Poly.symbol, self.batch), Poly.symbol(self.inner), Poly.volume(self.outer))
        return (Carried("the sum of what was added, decayed up to the last position", shape),)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return self._laid_out(emitter, pyast.call(emitter.helper(self.kernel), *self._arguments(emitter, operands, ())))

    def emit_from(
        self, emitter: Emitter, result: Type, state: Sequence[ast.expr], *operands: Operand
    ) -> Continuation:
        call = pyast.call(emitter.helper(f"{self.kernel}_from"), *self._arguments(emitter, operands, state))
        return Continuation(call, finish=lambda piece: self._laid_out(emitter, piece))

    def _laid_out(self, emitter: Emitter, rows: ast.expr) -> ast.expr:
        """[batch, N, all outer axes in one dimension] as [N, batch, outer]."""
        made = unflattened(emitter, rows, self.outer)
        if not self.batch:
            return made
        behind = len(self.outer)
        return pyast.method(made, "movedim", -1 - behind, -1 - behind - len(self.batch))

    def _arguments(
        self, emitter: Emitter, operands: Sequence[Operand], state: Sequence[ast.expr]
    ) -> list[ast.expr]:
        reading, direction, x, *gates = operands
        rows = (*self.batch, self.axis)
        found = [emitter.align(operand, (*rows, self.inner)) for operand in (reading, direction)]
        value = emitter.align(x, (*rows, *self.outer))
        if not self.outer:
            value = pyast.method(value, "unsqueeze", -1)
        elif len(self.outer) > 1:
            value = pyast.method(value, "flatten", -len(self.outer))
        return [*found, value, *self._gates(emitter, gates), *state, pyast.constant(CHUNK)]

    def _gates(self, emitter: Emitter, gates: Sequence[Operand]) -> list[ast.expr]:
        return [emitter.align(each, (*self.batch, self.axis)) for each in gates] or [pyast.constant(None)]


@dataclass(frozen=True)
class FeatureGatedFeedback(CausalFeedback):
    """feature_gated_feedback(reading, direction, x, gates): the same where every feature has a gate of its own.

    Formula: `out[n, e] = x[n, e] + sum over m < n, f of weight[n, m, f] * reading[n, f] * direction[m, f] * out[m, e]`,
    where the weight is `exp(gates[m + 1, f] + ... + gates[n - 1, f])`, of logarithms of gates; of gates themselves
    their product, where `plain`.

    A matrix that is diagonal and of rank one besides. Kimi Team, Kimi Linear: An Expressive, Efficient Attention
    Architecture, 2025; Peng et al., RWKV-7 "Goose" with Expressive Dynamic State Evolution, 2025.
    """

    rule: ClassVar[str] = "feature-gated feedback"
    why: ClassVar[str] = (
        "a step reads the state along one direction and adds along another, and every feature along them has a gate of "
        "its own: pairs in a chunk are taken by halves of it, what its steps add follows from a triangular system, and "
        "from the sums before the chunk"
    )
    operands: ClassVar[tuple[str, ...]] = ("reading", "direction", "x", "gates")
    optional: ClassVar[tuple[str, ...]] = ()
    kernel: ClassVar[str] = "feature_gated_feedback"
    plain: bool = False

    def flops(self, result: Type, *operands: Type) -> Poly:
        features, values = Poly.symbol(self.inner), Poly.volume(self.outer)
        per_token = features * (CHUNK + 8 * HALVINGS) + values * CHUNK + features * values * 4
        return Poly.volume((*self.batch, self.axis)) * per_token

    def workspace(self, result: Type, *operands: Type) -> Poly:
        features, values = Poly.symbol(self.inner), Poly.volume(self.outer)
        group = (features * 6 + values * 2 + 2 * CHUNK) * (4 * CHUNK)
        return result.volume() + Poly.volume(self.batch) * (group + features * values)

    def carried(self, result: Type, *operands: Type) -> tuple[Carried, ...]:
        [sums] = super().carried(result, *operands)
        return (Carried("the sum of what was added, every feature decayed up to the last position", sums.shape),)

    def _gates(self, emitter: Emitter, gates: Sequence[Operand]) -> list[ast.expr]:
        found = [emitter.align(each, (*self.batch, self.axis, self.inner)) for each in gates]
        return found if self.plain else [pyast.call(emitter.helper("gate_values"), each) for each in found]
