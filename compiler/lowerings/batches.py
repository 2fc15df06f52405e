"""Batches of inputs whose values do not matter."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..graph import Builder, Node, topological
from ..ops.base import Emitter, Op, Operand
from ..ops.emission import as_tensor
from ..ops.leaves import Input
from ..sizes import ZERO, Poly
from ..types import Type


@dataclass(frozen=True)
class OverBatch(Op):
    """over_batch(x, y, ...): x repeated along the batch dimensions of inputs.

    Formula: `out[i] = x[i]`. A view.

    Where an input cancels, as the queries in `softmax[M](g + f)` with g over N, the result keeps the shape that the
    text gives it: that of the batch of every input that is read.
    """

    family: ClassVar[str] = "lowerings"
    operands: ClassVar[tuple[str, ...]] = ("x", "other")
    variadic: ClassVar[bool] = True
    separable: ClassVar[bool] = True

    def infer(self, *operands: Type) -> Type:
        x = operands[0]
        return Type(x.kind, x.axes, any(operand.batched for operand in operands))

    def flops(self, result: Type, *operands: Type) -> Poly:
        return ZERO

    def is_view(self) -> bool:
        return True

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        x, *others = operands
        value = as_tensor(emitter, x, result.kind, x.type.axes, wide=x.wide)
        for other in others:
            ranks = (pyast.constant(result.rank), pyast.constant(other.type.rank))
            value = pyast.call(emitter.helper("over_batch"), value, ranks[0], other.expression, ranks[1])
        return value


def over_batch(planned: Node, written: Node, builder: Builder) -> Node:
    """The planned value over the batch of every input that the written one reads."""
    kept = {node for node in topological([planned]) if isinstance(node.op, Input)}
    lost = [node for node in topological([written]) if isinstance(node.op, Input) and node not in kept]
    return builder.make(OverBatch(), planned, *lost) if lost else planned
