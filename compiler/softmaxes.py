"""Softmax in other words: exponentials over their sum, the exponential of a log softmax, scores with a mask added.

A text may spell a softmax as its definition, with the largest score subtracted by hand, or hide keys by adding -inf.
The rules of simplification that see this are applied before a formula is planned, so that it is computed as what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .formula import Formula
from .graph import Builder, Graph, Node, topological
from .ops.arithmetic import Add, Divide, Subtract
from .ops.base import Leaf
from .ops.functions import Exp, Sigmoid
from .ops.layout import Reorder
from .ops.logic import Not, Where
from .ops.normalisations import LogSoftmax, Softmax
from .ops.reductions import LogSumExp
from .rewrite import Rewrite, rewrite
from .rules.normalisations import SINKS, SOFTMAXES
from .rules.rule import Knowledge
from .structure import mask_of

HIDDEN = "scores that are -inf"
WHY = "the exponential of -inf is 0"


@dataclass(frozen=True)
class Recognised:
    """A graph whose softmaxes are operations.

    origins: for each node that is new, the one that it stands for.
    """

    graph: Graph
    origins: Mapping[Node, Node]
    trace: tuple[Rewrite, ...]


def recognised(formula: Formula, graph: Graph) -> Recognised:
    """A graph of a formula with every softmax as the operation that it is."""
    if not _may_spell_one(graph):
        return Recognised(graph, {}, ())
    builder = formula.builder
    found = rewrite(graph.outputs, builder, Knowledge(frozenset(formula.constants)), rules=(*SOFTMAXES, *SINKS))
    came = dict(found.came)
    made: dict[Node, Node] = {}
    trace = list(found.trace)
    for node in topological(found.outputs):
        copy = builder.make(node.op, *(made[operand] for operand in node.inputs))
        hidden = _hidden(copy, builder)
        if hidden is not None:
            trace.append(Rewrite(HIDDEN, copy, hidden, WHY))
        made[node] = hidden or copy
        if made[node] is not node:
            came.setdefault(made[node], node)
    names: dict[Node, str] = {}
    for node, name in graph.names.items():
        new = found.became.get(node, node)
        new = made.get(new, new)
        if new is node or not isinstance(new.op, Leaf):
            names.setdefault(new, name)
    outputs = tuple(made[output] for output in found.outputs)
    for one in trace:
        for new, exponential in _exponentials(one).items():
            came.setdefault(new, exponential)
    origins = {new: _written(new, came, formula) for new in came}
    return Recognised(Graph(outputs, names), origins, tuple(trace))


def _hidden(node: Node, builder: Builder) -> Node | None:
    """The softmax with the mask that its scores carry; None if they carry none."""
    if not isinstance(node.op, Softmax) or "mask" in node.op.given:
        return None
    found = mask_of(node.inputs[0])
    if found is None:
        return None
    scores, mask, hides = found
    mask = builder.make(Not(), mask) if hides else mask
    made = builder.make(Softmax(node.op.axes, given=("mask", *node.op.given)), scores, mask, *node.inputs[1:])
    return made if made.axes == node.axes else builder.make(Reorder(node.axes), made)


def _exponentials(one: Rewrite) -> dict[Node, Node]:
    """For each softmax that a rewrite made inside of a value, the exponential that it stands for."""
    before = topological([one.before])
    made = [node for node in topological([one.after]) if isinstance(node.op, Softmax) and node not in before]
    exponentials = {node.inputs[0]: node for node in before if isinstance(node.op, Exp)}
    return {node: exponentials[node.inputs[0]] for node in made if node.inputs[0] in exponentials}


def _may_spell_one(graph: Graph) -> bool:
    """Whether there is what the rules begin with: most formulas have none of it."""
    kinds = {type(node.op) for node in graph}
    if Exp in kinds and kinds & {Divide, LogSoftmax, LogSumExp}:
        return True
    if LogSumExp in kinds and Sigmoid in kinds:
        return True
    scores = (node.inputs[0].op for node in graph if isinstance(node.op, Softmax))
    return any(isinstance(op, Add | Subtract | Where) for op in scores)


def _written(node: Node, came: Mapping[Node, Node], formula: Formula) -> Node:
    seen: set[Node] = set()
    while node not in formula.origins and node in came and node not in seen:
        seen.add(node)
        node = came[node]
    return node


