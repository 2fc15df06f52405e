"""flash-linear-attention: sums over earlier positions of a plan that are one of that library's operations.

A plan holds scans of several kinds. Those that the library has too, in the same mathematics, become calls of it where
its kernels run: on CUDA, in half precision. The rest of the plan stays as it is, with a reason for each scan that does.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..graph import Builder, Graph, Node
from ..ops.arithmetic import Multiply, Negative
from ..ops.base import Emitter, Operand
from ..ops.contraction import Contraction
from ..ops.emission import as_tensor
from ..ops.functions import Exp, Log, LogSigmoid, Sigmoid
from ..ops.layout import Rename, Reorder
from ..ops.leaves import Literal
from ..scan import Scan
from ..types import Kind, Type
from .causal import CHUNK, CausalScan, FeatureGatedScan, GatedPrefix
from .feedback import CausalFeedback, FeatureGatedFeedback
from .linear import LinearRecurrence
from .lowering import unflattened
from .polynomial import PolynomialScan
from .prefix import PrefixSoftmax

OPERATIONS = {
    "flash_linear_scan": "chunk_simple_gla without gates",
    "flash_decayed_scan": "chunk_simple_gla with one decay",
    "flash_gated_scan": "chunk_simple_gla",
    "flash_feature_gated_scan": "chunk_gla",
    "flash_delta_rule": "chunk_delta_rule",
    "flash_gated_delta_rule": "chunk_gated_delta_rule",
}
SCANS = {
    "causal_scan": "flash_linear_scan",
    "decayed_scan": "flash_decayed_scan",
    "gated_scan": "flash_gated_scan",
    "feature_gated_scan": "flash_feature_gated_scan",
}
WHERE = "on CUDA, in half precision; elsewhere what the other targets run"


@dataclass(frozen=True)
class FlashScan(CausalScan):
    """flash_scan(q, k, v, ...): a sum over earlier positions and this one, by flash-linear-attention where it runs.

    Formula: that of causal_scan with offset 0; the same with a gate for every feature of a key; or what the delta rule
    reads, `out[n] = q[n] S[n]`, `S[n] = G + beta[n] k[n]^T (v[n] - k[n] G)` with `G = exp(g[n]) S[n - 1]`.

    Yang, Zhang, FLA: A Triton-Based Library for Hardware-Efficient Implementations of Linear Attention Mechanism, 2024.
    """

    rule: ClassVar[str] = "flash-linear-attention"
    why: ClassVar[str] = "the sum over earlier positions is an operation of flash-linear-attention, scale 1"

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return result.kind if index < (4 if "delta" in self.kernel else 3) else None  # gates keep their precision

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        query, key, value, *rest = operands
        rows = (*self.batch, self.query)
        arguments = [
            self._matrix(emitter, query, self.query, self.inner),
            self._matrix(emitter, key, self.key, self.inner),
            self._matrix(emitter, value, self.key, self.outer),
        ]
        match self.kernel:
            case "flash_linear_scan":
                arguments.append(pyast.constant(self.normalise))
            case "flash_decayed_scan":
                arguments.append(as_tensor(emitter, rest[0], Kind.REAL, self.batch, wide=True))
            case "flash_feature_gated_scan":
                arguments.append(self._matrix(emitter, rest[0], self.query, self.inner))
            case "flash_delta_rule":
                arguments += [emitter.align(rest[0], rows), pyast.constant(None)]
            case _:
                arguments += [emitter.align(each, rows) for each in rest]
        helper = "flash_delta_rule" if "delta" in self.kernel else self.kernel
        return unflattened(emitter, pyast.call(emitter.helper(helper), *arguments, pyast.constant(CHUNK)), self.outer)


@dataclass(frozen=True)
class Product:
    """A value as a number times factors; of those over a renamed axis what was renamed."""

    number: float
    factors: Counter[Node]

    def over(self, axes: Iterable[str]) -> Counter[Node]:
        """The factors that have one of the axes."""
        wanted = {*axes}
        return Counter({node: count for node, count in self.factors.items() if wanted & {*node.axes}})


@dataclass(frozen=True)
class Call:
    """An operation of the library, and its operands as products of nodes of the plan."""

    op: FlashScan
    operands: tuple[Product, ...]


def with_fla(graph: Graph, builder: Builder) -> tuple[Graph, tuple[str, ...]]:
    """The graph with operations of flash-linear-attention where they are what is computed, and notes for the user:
    which those are, and why other scans stay as they are."""
    readers: dict[Node, list[Node | None]] = {output: [None] for output in graph.outputs}
    for node in graph.nodes():
        for operand in node.inputs:
            readers.setdefault(operand, []).append(node)
    found = {node: called(node, readers) for node in graph.nodes()}
    made: dict[Node, Node] = {}
    for node, call in found.items():
        if isinstance(call, Call):
            value = builder.make(call.op, *(_made(product, made, builder) for product in call.operands))
            made[node] = value if value.axes == node.axes else builder.make(Reorder(node.axes), value)
        else:
            made[node] = builder.make(node.op, *(made[operand] for operand in node.inputs))
    names = {made[node]: name for node, name in graph.names.items() if node in made}
    planned = Graph(tuple(made[output] for output in graph.outputs), names)
    left = {*planned.nodes()}
    notes = []
    for node, call in found.items():
        if isinstance(call, Call):
            rule = getattr(node.op, "rule", GatedPrefix.rule)
            notes.append(f"{rule}: {OPERATIONS[call.op.kernel]} of flash-linear-attention {WHERE}")
        elif call and made[node] in left:
            notes.append(f"{getattr(node.op, 'rule', 'recurrence')}: not by flash-linear-attention, since {call}")
    return planned, tuple(dict.fromkeys(notes))


def _made(product: Product, made: Mapping[Node, Node], builder: Builder) -> Node:
    nodes = [made[node] for node in product.factors.elements()]
    if product.number != 1 or not nodes:
        nodes.append(builder.make(Literal(product.number)))
    result = nodes[0]
    for node in nodes[1:]:
        result = builder.make(Multiply(), result, node)
    return result


def called(node: Node, readers: Mapping[Node, Sequence[Node | None]]) -> Call | str:
    """The operation of the library that a node is, or why it is none; empty where nobody would ask.

    readers: what reads each value of the plan; None stands for the caller.
    """
    if node.type.kind is not Kind.REAL:
        return ""
    match node.op:
        case CausalScan():
            value = _product(node.inputs[2], node.op)
            added = [factor for factor in value.factors if type(factor.op) is CausalFeedback]
            return _delta_rule(node, value, added[0], readers) if len(added) == 1 else _scan(node)
        case GatedPrefix():
            return "every element has a gate of its own, or is no product of a value and what is summed with a query"
        case FeatureGatedFeedback():
            return "a step reads and adds along directions of which every feature has a gate of its own"
        case CausalFeedback():
            return "what the steps add is read otherwise than by one sum of it over earlier positions and this one"
        case Scan():
            return 'it is taken step by step, which form="associative" may change'
        case LinearRecurrence() | PolynomialScan() | PrefixSoftmax():
            return "the library has no such sum"
    return ""


def _scan(node: Node) -> Call | str:
    op = node.op
    assert isinstance(op, CausalScan)
    if op.offset != 0:
        return "its sums hold the position itself, which is left out here"
    if isinstance(op, FeatureGatedScan) and op.plain:
        return "its gates may be 0 or negative"
    if op.normalise and (op.bounded or op.kernel != "causal_scan"):
        return "it divides no sum that decays by the sum of its weights"
    made = FlashScan(SCANS[op.kernel], op.query, op.key, op.inner, op.outer, op.batch, 0, op.normalise)
    return Call(made, tuple(Product(1, Counter([operand])) for operand in node.inputs))


def _delta_rule(node: Node, value: Product, added: Node, readers: Mapping[Node, Sequence[Node | None]]) -> Call | str:
    """What is read of the sums of `value` times the key, where `value` holds what the steps of the rule add.

    Below: `added[n] = c v[n] + sum over m < n of (r k[n] . d k[m]) added[m]` and `out[n] = q[n] . sum over m of
    k[m] (s added[m])`, all but `k` and `v` numbers of a position; these are the library's values for c = -r and d = s,
    with `beta = c d`.
    """
    op, fed = node.op, added.op
    assert isinstance(op, CausalScan)
    assert isinstance(fed, CausalFeedback)
    if op.offset != 0 or op.normalise or (fed.inner,) != op.inner or fed.axis != op.query:
        return "what is read of the sums is not what they hold behind each step"
    if not _only_in(added, node, readers):
        return "what the steps add is read at other places too"
    reading, direction, source = (_product(operand, op) for operand in added.inputs[:3])
    key = _product(node.inputs[1], op)
    vector, column = key.over(op.inner), source.over(op.outer)
    if not column or reading.over(op.inner) != vector or direction.over(op.inner) != vector:
        return "a step does not read along the direction that it adds along"
    strength = source.factors - column
    written = key.factors - vector + value.factors - Counter([added])
    if written != direction.factors - vector or direction.number != key.number * value.number:
        return "what is summed is not what a step adds"
    gates, kept = _gates(node, added), reading.factors - vector - strength
    if isinstance(gates, str):
        return gates
    if strength - reading.factors or reading.number != -source.number or not _decays(kept, gates):
        return "what a step takes off is not what it reads of the decayed sums, times the strength of what it adds"
    beta = Product(direction.number * source.number, written + strength)
    operands = (Product(1, Counter([node.inputs[0]])), Product(1, vector), Product(1, column), beta)
    kernel = "flash_delta_rule" if gates is None else "flash_gated_delta_rule"
    made = FlashScan(kernel, op.query, op.query, op.inner, op.outer, op.batch, 0)
    return Call(made, operands if gates is None else (*operands, Product(1, Counter([gates]))))


def _gates(node: Node, added: Node) -> Node | str | None:
    """The logarithms of the gates that decay what was added and the sums of it alike; None if nothing decays."""
    other = "what is read of the sums does not decay as they do"
    gates = [*added.inputs[3:], *node.inputs[3:]]
    if not gates:
        return None
    return gates[0] if len(gates) == 2 and gates[0] is gates[1] else other


def _decays(factors: Counter[Node], gates: Node | None) -> bool:
    """Whether factors are the exponentials of the gates, or none where there are no gates."""
    if gates is None or factors.total() != 1:
        return gates is None and not factors
    [factor] = factors
    match factor.op, gates.op:
        case Exp(), _:
            return factor.inputs[0] is gates
        case Sigmoid(), LogSigmoid():
            return factor.inputs == gates.inputs
        case _, Log():
            return gates.inputs[0] is factor
    return False


def _only_in(node: Node, end: Node, readers: Mapping[Node, Sequence[Node | None]]) -> bool:
    """Whether a value is read for another one only."""
    while node is not end:
        readings = readers[node]
        if len(readings) != 1 or readings[0] is None:
            return False
        node = readings[0]
    return True


def _product(node: Node, scan: CausalScan | None = None) -> Product:
    """The value as a product. scan: its keys may be renamed queries."""
    match node.op:
        case Multiply() | Contraction(axes=()):
            left, right = (_product(operand, scan) for operand in node.inputs)
            return Product(left.number * right.number, left.factors + right.factors)
        case Negative():
            inner = _product(node.inputs[0], scan)
            return Product(-inner.number, inner.factors)
        case Literal(value=value):
            return Product(value, Counter())
        case Reorder():
            return _product(node.inputs[0], scan)
        case Rename(source=source, target=target) if scan and (source, target) == (scan.query, scan.key):
            return _product(node.inputs[0], scan)
    return Product(1, Counter([node]))
