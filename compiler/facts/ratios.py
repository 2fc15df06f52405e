"""Quotients of two sums that share exponentials of scores: the exponentials may be divided by their own sum.

`sum[M](w * e * v) / sum[M](w * e)` with `e = exp(s)` does not change when every row of e is divided by a number, so e
may be `softmax[M](s)`: the largest score of a row is subtracted, and no exponential overflows. It is exact, since both
sums are of the first degree in e; a number added to the denominator, as a guard, is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..formula import Formula
from ..graph import Builder, Graph, Node, topological
from ..ops.arithmetic import Add, Divide, Multiply, Negative, Subtract
from ..ops.contraction import Contraction
from ..ops.functions import Exp, Log
from ..ops.layout import Broadcast, Reorder
from ..ops.leaves import Literal
from ..ops.logic import Not, Where
from ..ops.normalisations import Softmax
from ..ops.reductions import Sum
from ..separation import separate
from ..types import Kind
from .cost import Sequence
from .ranges import Range, ranges

EXPONENT = 11.08  # exp of it is about the largest number of float16
RULE = "shared exponentials"
WHY = (
    "numerator and denominator carry the same exponentials, so these may be divided by their sum: the largest score is "
    "subtracted, and none overflows"
)

Shared = tuple[Node, Node | None]  # an exponential, and the condition outside of which it is 0


@dataclass(frozen=True)
class Ratio:
    """A quotient of the text, and what it is computed as."""

    written: Node
    node: Node


@dataclass(frozen=True)
class Shifted:
    """A graph in which every such quotient is computed with the largest score subtracted.

    origins: for each node that is new, the one of the text that it stands for.
    """

    graph: Graph
    ratios: tuple[Ratio, ...]
    origins: Mapping[Node, Node]


def shifted(formula: Formula) -> Shifted:
    """The graph of a formula, with exponentials that may overflow replaced where they are divided by their like."""
    graph = formula.graph
    found = _Finder(formula)
    if not found.exponentials:
        return Shifted(graph, (), {})
    builder = formula.builder
    made: dict[Node, Node] = {}
    origins: dict[Node, Node] = {}
    ratios: list[Ratio] = []
    for node in graph.nodes():
        quotient = found.quotient(node) if isinstance(node.op, Divide) else None
        copy = quotient or node
        for inner in topological([copy]) if quotient is not None else (node,):
            if inner not in made:
                made[inner] = builder.make(inner.op, *(made[operand] for operand in inner.inputs))
                if made[inner] is not node:
                    origins.setdefault(made[inner], found.stands_for.get(inner, node))
        made[node] = made[copy]
        if quotient is not None:
            ratios.append(Ratio(node, made[node]))
    known = set(graph.nodes())
    names = {made[node]: name for node, name in graph.names.items() if node in made}
    new = {node: old for node, old in origins.items() if node not in known}
    return Shifted(Graph(tuple(made[output] for output in graph.outputs), names), tuple(ratios), new)


_ELSE = frozenset("*")  # no axis
_OF_FIRST_DEGREE = (Add, Subtract, Multiply, Divide, Negative, Reorder, Broadcast, Contraction, Sum, Where)


class _Finder:
    def __init__(self, formula: Formula) -> None:
        self.builder: Builder = formula.builder
        self.constants = formula.constants
        self.known: dict[Node, Range] = {}
        sequence = Sequence(formula)
        self.exponentials = [
            node
            for node in formula.graph
            if isinstance(node.op, Exp)
            and node.type.batched
            and node.type.kind is Kind.REAL
            and sequence.is_wide(node.axes)
            and self.range_of(node.inputs[0]).high > EXPONENT
            and separate(node, self.builder, self.range_of) is None
        ]
        self.stands_for: dict[Node, Node] = {}  # the exponential that a softmax takes the place of
        self.held: dict[Node, frozenset[Node]] = {}
        self.degrees: dict[Node, dict[Shared, frozenset[str]]] = {}

    def range_of(self, node: Node) -> Range:
        return ranges((node,), self.constants, self.known)[node]

    def quotient(self, node: Node) -> Node | None:
        """What a quotient is computed as; None if it shares no exponentials."""
        above, below = (self._degree(operand) for operand in node.inputs)
        for shared, axes in below.items():
            # the other axes of the exponentials are summed in neither, so a factor of their own cancels
            if axes and above.get(shared, _ELSE) <= axes:
                return self._divided(node, shared, tuple(a for a in shared[0].axes if a in axes))
        return None

    def _divided(self, node: Node, shared: Shared, axes: tuple[str, ...]) -> Node:
        make = self.builder.make
        above, below = node.inputs
        weights = self._summed(below, frozenset(axes), above)
        if weights is not None and set(weights.axes) == set(shared[0].axes):
            score = self._logarithm(weights, shared)
            if score is not None:  # the denominator is the sum of all weights of the numerator
                mask = () if shared[1] is None else (shared[1],)
                softmax = make(Softmax(axes, given=("mask",) * len(mask)), score, *mask)
                self.stands_for[softmax] = shared[0]
                replaced = self._replaced(above, {weights: softmax})
                if weights not in topological([replaced]) and shared[0] not in topological([replaced]):
                    return self._like(replaced, node)
        exponential, mask_ = shared
        given = () if mask_ is None else (mask_,)
        softmax = make(Softmax(axes, given=("mask",) * len(given)), exponential.inputs[0], *given)
        self.stands_for[softmax] = exponential
        return self._replaced(node, {exponential: softmax})

    def _summed(self, node: Node, axes: frozenset[str], above: Node) -> Node | None:
        """x, a value of the numerator, where the denominator is the plain sum of x over these axes."""
        while isinstance(node.op, Reorder | Broadcast):
            [node] = node.inputs
        if isinstance(node.op, Sum) and frozenset(node.op.axes) == axes:
            return node.inputs[0]
        if not isinstance(node.op, Contraction) or frozenset(node.op.axes) != axes:
            return None
        products = (self.builder.make(Multiply(), *sides) for sides in (node.inputs, node.inputs[::-1]))
        inside = topological([above])
        return next((product for product in products if product in inside), None)

    def _like(self, value: Node, node: Node) -> Node:
        if set(value.axes) != set(node.axes):
            value = self.builder.make(Broadcast(node.axes), value)
        return value if value.axes == node.axes else self.builder.make(Reorder(node.axes), value)

    def _logarithm(self, weights: Node, shared: Shared) -> Node | None:
        """The logarithm of weights that are the exponentials, perhaps masked, times positive factors; else None."""
        make, op = self.builder.make, weights.op
        if weights is shared[0]:
            return weights.inputs[0]
        if isinstance(op, Exp):
            return weights.inputs[0]
        if isinstance(op, Where):
            condition, index = self._kept(weights)
            return (
                self._logarithm(weights.inputs[index], (shared[0], None)) if index and condition is shared[1] else None
            )
        if isinstance(op, Multiply | Divide) and shared[0] in self._holds(weights):
            sides = [self._logarithm(operand, shared) for operand in weights.inputs]
            if sides[0] is None or sides[1] is None:
                return None
            return make(Add() if isinstance(op, Multiply) else Subtract(), sides[0], sides[1])
        if shared[0] in self._holds(weights) or not self.range_of(weights).positive:
            return None
        return make(Log(), weights)

    def _kept(self, node: Node) -> tuple[Node, int]:
        """Where a choice between 0 and a value takes the value, and which operand that is; operand 0 if it is none."""
        condition, shown, other = node.inputs
        if _is_zero(other):
            return condition, 1
        return (self.builder.make(Not(), condition), 2) if _is_zero(shown) else (condition, 0)

    def _replaced(self, root: Node, new: Mapping[Node, Node]) -> Node:
        made = dict(new)
        for node in topological([root]):
            if node not in made:
                made[node] = self.builder.make(node.op, *(made[operand] for operand in node.inputs))
        return made[root]

    def _holds(self, node: Node) -> frozenset[Node]:
        """The exponentials that a value is made of."""
        for inner in topological([node]) if node not in self.held else ():
            own = frozenset([inner]) if inner in self.exponentials else frozenset()
            self.held.setdefault(inner, own.union(*(self.held[operand] for operand in inner.inputs)))
        return self.held[node]

    def _degree(self, node: Node) -> dict[Shared, frozenset[str]]:
        """The exponentials in which a value is of the first degree, and over which of their axes it is summed."""
        if node not in self.degrees:
            for inner in topological([node]):
                if inner not in self.degrees:
                    self.degrees[inner] = self._of(inner) if self._holds(inner) else {}
        return self.degrees[node]

    def _of(self, node: Node) -> dict[Shared, frozenset[str]]:
        op = node.op
        if node in self.exponentials:
            return {(node, None): frozenset()}
        if not isinstance(op, _OF_FIRST_DEGREE):
            return {}
        known = [self.degrees[operand] for operand in node.inputs]
        held = [self._holds(operand) for operand in node.inputs]
        if isinstance(op, Add | Subtract):
            return {shared: axes for shared, axes in known[0].items() if known[1].get(shared) == axes}
        if isinstance(op, Where):
            condition, index = self._kept(node)
            return {
                (exponential, condition): axes
                for (exponential, mask), axes in (known[index].items() if index else ())
                if mask is None and not axes and set(condition.axes) <= {*exponential.axes}
                and exponential not in held[0]
            }  # fmt: skip
        if isinstance(op, Multiply | Contraction):
            both = {s: a for s, a in known[0].items() if s[0] not in held[1]}
            both |= {s: a for s, a in known[1].items() if s[0] not in held[0]}
        elif isinstance(op, Divide):
            both = {s: a for s, a in known[0].items() if s[0] not in held[1]}
        else:
            both = known[0]
        summed = frozenset(op.axes) if isinstance(op, Contraction | Sum) else frozenset()
        # an axis that is summed before the exponential's own, or brought in again, is another one
        return {(e, m): axes | (summed & {*e.axes}) for (e, m), axes in both.items() if not axes & {*node.axes}}


def _is_zero(node: Node) -> bool:
    return isinstance(node.op, Literal) and node.op.value == 0
