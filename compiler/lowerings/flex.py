"""FlexAttention: softmax attention whose scores and mask are changed by functions of two positions, not by a matrix.

A plan gives torch's fused attention one matrix of changes. A target that carries FlexAttention takes the expression
of that matrix apart instead: what depends on both positions becomes a function of two of them, and the rest stays a
tensor over one position at most, which the function reads.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from .. import pyast
from ..graph import Builder, Graph, Node
from ..ops.base import Emitter, Op, Operand
from ..ops.layout import Broadcast, Reorder
from ..ops.leaves import Literal, Position
from ..ops.logic import Where
from ..sizes import Poly
from ..types import Kind, Type
from .fused import FusedSoftmax
from .lowering import unflattened

DEPTH = 64


@dataclass(frozen=True)
class Place:
    """The position of the query or of the key; name: what the function calls it."""

    name: str


@dataclass(frozen=True)
class Read:
    """A tensor over one of the positions or none. place: None for none."""

    index: int
    kind: Kind
    place: str | None


@dataclass(frozen=True)
class Apply:
    """An elementwise operation, or a number."""

    op: Op
    kind: Kind
    operands: tuple[Expression, ...] = ()


Expression = Place | Read | Apply


@dataclass(frozen=True)
class FlexSoftmax(FusedSoftmax):
    """flex_softmax(q, k, v, *tensors): softmax attention whose changes of scores are computed where they are used.

    Formula: that of fused_softmax, where `bias[n, m]` is the expression `change` and the mask the expression `visible`
    of two positions and of the tensors. Dong et al., Flex Attention, 2024.
    """

    rule: ClassVar[str] = "flexible softmax"
    why: ClassVar[str] = (
        "what changes a score is a function of two positions and of what belongs to one of them, so it is computed "
        "for each score and never stored"
    )
    variadic: ClassVar[bool] = True
    optional: ClassVar[tuple[str, ...]] = ()
    kernel: ClassVar[str] = "flexible_attention"
    change: Expression | None = None
    visible: Expression | None = None

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return result.kind if index < 3 else None

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        rows = {0: (self.query, self.inner), 1: (self.key, self.inner), 2: (self.key, *self.outer)}
        tensors = [emitter.align(operands[i], (*self.batch, *axes)) for i, axes in rows.items()]
        if not self.outer:
            tensors[2] = pyast.method(tensors[2], "unsqueeze", -1)
        elif len(self.outer) > 1:
            tensors[2] = pyast.method(tensors[2], "flatten", -len(self.outer))
        numbers = {i: o.expression for i, o in enumerate(operands[3:]) if o.number}
        leaves = [self._leaf(emitter, operand) for operand in operands[3:] if not operand.number]
        places = {i: f"x{number}" for number, i in enumerate(i for i, o in enumerate(operands[3:]) if not o.number)}
        written = _Writer(places, numbers)
        functions = [
            pyast.constant(None) if expression is None else written.function(first, expression)
            for first, expression in (("score", self.change), ("", self.visible))
        ]
        attention = pyast.call(
            emitter.helper(self.kernel), *tensors, *functions, pyast.constant(self.scaled), ast.List(leaves, ast.Load())
        )
        return unflattened(emitter, attention, self.outer)

    def _leaf(self, emitter: Emitter, operand: Operand) -> ast.expr:
        """The tensor as [..., batch axes, position or 1]."""
        place = next((axis for axis in operand.type.axes if axis in (self.query, self.key)), None)
        if place is not None:
            return emitter.align(operand, (*self.batch, place))
        return pyast.method(emitter.align(operand, self.batch), "unsqueeze", -1)


@dataclass(frozen=True)
class _Writer:
    """Python of the functions: an emitter whose tensors are single numbers.

    names: what the function calls the tensors, by number; numbers: those that are Python numbers.
    """

    names: dict[int, str]
    numbers: dict[int, ast.expr]

    def function(self, first: str, expression: Expression) -> ast.expr:
        """`lambda score, b, n, m, x0, x1: score + ...`; of the mask, whether a key is seen, whatever the score."""
        code = self.operand(expression)
        value = code.expression
        if first:
            value = pyast.binary("+", pyast.name(first), value)
        names = [ast.arg(name) for name in ("score", "b", "n", "m", *self.names.values())]
        return ast.Lambda(
            ast.arguments(posonlyargs=[], args=names, kwonlyargs=[], kw_defaults=[], defaults=[]), value
        )

    def operand(self, expression: Expression) -> Operand:
        match expression:
            case Place(name):
                return Operand(pyast.name(name), Type(Kind.INT))
            case Read(index, kind, place):
                if index in self.numbers:
                    return Operand(self.numbers[index], Type(kind), number=True)
                at = pyast.constant(0) if place is None else pyast.name(place)
                where = pyast.tuple_of([pyast.name("b"), at])
                return Operand(ast.Subscript(pyast.name(self.names[index]), where, ast.Load()), Type(kind))
            case Apply(op, kind, inputs):
                operands = [self.operand(each) for each in inputs]
                if all(operand.number for operand in operands):
                    number = op.emit_number(self, *(operand.expression for operand in operands))
                    if number is not None:
                        return Operand(number, Type(kind), number=True)
                types = [operand.type for operand in operands]
                converted = [
                    self._converted(operand, op.operand_kind(i, Type(kind), *types))
                    for i, operand in enumerate(operands)
                ]
                return Operand(op.emit(self, Type(kind), *converted), Type(kind))

    def _converted(self, operand: Operand, kind: Kind | None) -> Operand:
        if kind is None or kind is operand.type.kind or operand.number:
            return replace(operand, type=operand.type.of(kind or operand.type.kind))
        code = pyast.method(operand.expression, "to", self.dtype(kind, wide=False))
        return Operand(code, operand.type.of(kind))

    def size(self, size: Poly) -> ast.expr:
        known = size.as_number()
        assert known is not None, "only operations whose attributes are numbers are taken"
        return pyast.constant(int(known) if known.denominator == 1 else float(known))

    def dtype(self, kind: Kind, *, wide: bool) -> ast.expr:
        if kind is Kind.BOOL:
            return pyast.name("torch.bool")
        if kind is Kind.INT:
            return pyast.name("torch.int64")
        return ast.Attribute(pyast.name("score"), "dtype", ast.Load())

    def device(self) -> ast.expr:
        return ast.Attribute(pyast.name("b"), "device", ast.Load())

    def align(self, operand: Operand, axes: tuple[str, ...]) -> ast.expr:
        return operand.expression

    def full(self, operand: Operand, axes: tuple[str, ...]) -> ast.expr:
        return operand.expression

    def helper(self, function: str) -> ast.expr:
        raise AssertionError(f"an elementwise operation calls {function}")

    def lasting(self, name: str, code: ast.expr, operand: Operand) -> ast.expr:
        return code


def with_flex(graph: Graph, builder: Builder) -> Graph:
    """The graph with FlexAttention wherever the changes of scores are functions of positions."""
    made: dict[Node, Node] = {}
    for node in graph.nodes():
        operands = tuple(made[operand] for operand in node.inputs)
        found = flexible(node.op, operands, builder)
        made[node] = builder.make(node.op, *operands) if isinstance(found, str) else found
    names = {made[node]: name for node, name in graph.names.items() if node in made}
    return Graph(tuple(made[output] for output in graph.outputs), names)


def flexible(op: Op, operands: tuple[Node, ...], builder: Builder) -> Node | str:
    """FlexAttention for a fused softmax with a mask or a bias, or why not."""
    if type(op) is not FusedSoftmax or not op.given:
        return "it is no fused softmax with a mask or a bias"
    if "sink" in op.given:
        return "its weights are divided by more than their sum"
    query, key, value, given = operands
    leaves: dict[Node, int] = {}
    bias, mask = (None, given) if op.given == ("mask",) else (given, None)
    while isinstance(given.op, Reorder) and bias is not None:
        bias = given = given.inputs[0]
    if bias is not None and isinstance(bias.op, Where) and _is_minus_infinity(bias.inputs[2]):
        mask, bias = bias.inputs[0], bias.inputs[1]
    read = _reader(op.query, op.key, leaves)
    change = None if bias is None else read(bias, 0)
    visible = None if mask is None else read(mask, 0)
    if (bias is not None and change is None) or (mask is not None and visible is None):
        return "what changes the scores holds a matrix, or mixes positions"
    made = FlexSoftmax(op.query, op.key, op.inner, op.outer, op.batch, op.scaled, False, (), False, change, visible)
    return builder.make(made, query, key, value, *leaves)


def _is_minus_infinity(node: Node) -> bool:
    return isinstance(node.op, Literal) and node.op.value == -math.inf


def _is_of_places(node: Node, n: str, m: str, depth: int = 0) -> bool:
    """Whether a value is made of the positions of one query and one key, and of numbers that are known."""
    op = node.op
    if isinstance(op, Position):
        return op.axis in (n, m)
    if isinstance(op, Literal):
        return True
    whole = op.elementwise and all(size.as_number() is not None for size in op.scalars())
    return whole and depth < DEPTH and all(_is_of_places(operand, n, m, depth + 1) for operand in node.inputs)


def _reader(n: str, m: str, leaves: dict[Node, int]) -> Callable[[Node, int], Expression | None]:
    """Reads an expression over both positions; gathers the tensors that it needs."""

    def read(node: Node, depth: int) -> Expression | None:
        op = node.op
        match op:
            case Position(axis=axis) if axis in (n, m):
                return Place("n" if axis == n else "m")
            case Literal():
                return Apply(op, node.type.kind)
            case Reorder() | Broadcast():
                return read(node.inputs[0], depth + 1) if depth < DEPTH else None
        if not {n, m} <= set(node.axes) and not _is_of_places(node, n, m):
            place = "n" if n in node.axes else "m" if m in node.axes else None
            return Read(leaves.setdefault(node, len(leaves)), node.type.kind, place)
        if not op.elementwise or depth > DEPTH or any(size.as_number() is None for size in op.scalars()):
            return None
        operands = [read(operand, depth + 1) for operand in node.inputs]
        found = tuple(operand for operand in operands if operand is not None)
        return Apply(op, node.type.kind, found) if len(found) == len(operands) else None

    return read
