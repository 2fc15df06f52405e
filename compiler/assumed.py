"""What a mask says of the values that it shows: `abs(pos(N) - pos(M))` under `pos(N) >= pos(M)` is the difference.

A value that a condition on positions chooses, or multiplies by 0 elsewhere, is asked for only where the condition
holds. There magnitudes, bounds and further choices are settled, so that the structure behind them is seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from .graph import Builder, Graph, Node, topological
from .ops.arithmetic import Divide, Multiply, Negative
from .ops.functions import Abs, Relu
from .ops.layout import Broadcast, Reorder
from .ops.leaves import Literal
from .ops.logic import Where
from .ops.normalisations import Softmax
from .ops.pairs import Clamp, Maximum, Minimum
from .rewrite import Rewrite
from .structure import MAX_DEPTH, Affine, affine, constraints
from .types import Kind

RULE = "what the mask says"
WHY = "a value is asked for only where its mask shows it, and there the condition of the mask holds"
NUMBER = "condition as a number"
COUNTED = "a condition that multiplies a value is 1 where it holds, and 0 elsewhere"

Forms = Sequence[Affine]  # that are all >= 0


@dataclass(frozen=True)
class Assumed:
    """A graph in which what masks say is used.

    origins: for each node that is new, the one of the text that it stands for.
    guarded: values that are right only under their masks. Elsewhere they may overflow, where those of the text, which
        are held by a magnitude or a bound, do not: a plan that computes one of them is no better than the text.
    """

    graph: Graph
    origins: Mapping[Node, Node] = field(default_factory=dict)
    trace: tuple[Rewrite, ...] = ()
    guarded: frozenset[Node] = frozenset()


def assumed(graph: Graph, builder: Builder) -> Assumed:
    """The graph with every value as simple as it is where its masks show it."""
    nodes = graph.nodes()
    written = set(nodes)
    if not any(_may_hide(node) for node in nodes):
        return Assumed(graph)
    made: dict[Node, Node] = {}
    origins: dict[Node, Node] = {}
    trace: list[Rewrite] = []
    guarded: set[Node] = set()
    for node in nodes:
        copy = builder.make(node.op, *(made[operand] for operand in node.inputs))
        counted = _counted(copy, builder)
        if counted is not None:
            trace.append(Rewrite(NUMBER, node, counted, COUNTED))
            copy = counted
        settled = _settled(copy, builder)
        if settled is not None:
            trace.append(Rewrite(RULE, node, settled, WHY))
            before = set(topological([copy]))
            guarded.update(new for new in topological(settled.inputs) if new not in before and len(new.axes) > 1)
            copy = settled
        made[node] = copy
        for new in topological([copy]) if copy is not node else ():
            if new not in written:
                origins.setdefault(new, node)
    if not trace:
        return Assumed(graph)
    names = {made[node]: name for node, name in graph.names.items() if node in made}
    outputs = tuple(made[output] for output in graph.outputs)
    return Assumed(Graph(outputs, names), origins, tuple(trace), frozenset(guarded - written))


def _may_hide(node: Node) -> bool:
    """Whether a node may hide values by a condition on positions."""
    return isinstance(node.op, Where | Softmax | Multiply) and any(_is_mask(operand) for operand in node.inputs)


def _is_mask(condition: Node) -> bool:
    return condition.type.kind is Kind.BOOL and not condition.type.batched and len(condition.axes) > 1


def _counted(node: Node, builder: Builder) -> Node | None:
    """The product of a value and a mask, with the mask as a choice of 1 or 0; None if it is none."""
    if not isinstance(node.op, Multiply) or not any(_is_mask(operand) for operand in node.inputs):
        return None
    one, zero = builder.make(Literal(1)), builder.make(Literal(0))
    operands = (builder.make(Where(), o, one, zero) if _is_mask(o) else o for o in node.inputs)
    made = builder.make(Multiply(), *operands)
    return made if made.type == node.type else None


def _settled(node: Node, builder: Builder) -> Node | None:
    """The node with operands as they are where they are shown; None where nothing changes."""
    operands = list(node.inputs)
    match node.op:
        case Where() if _is_mask(operands[0]):
            for index, negated in ((1, False), (2, True)):
                known = constraints(operands[0], negated=negated, exact=False)
                operands[index] = _under(operands[index], known, builder)
        case Softmax() if "mask" in node.op.given and _is_mask(operands[1]):
            shown = _under(operands[0], constraints(operands[1], exact=False), builder)
            lost = set(operands[0].axes) != set(shown.axes)
            operands[0] = builder.make(Broadcast(operands[0].axes), shown) if lost else shown
        case Multiply():
            left, right = operands
            left = _under(left, _support(right), builder)
            operands = [left, _under(right, _support(left), builder)]  # of two equal masks one stays
    if operands == list(node.inputs):
        return None
    made = builder.make(node.op, *operands)
    if made.type.kind is not node.type.kind or made.type.batched is not node.type.batched:
        return None
    if made.axes == node.axes:
        return made
    return builder.make(Reorder(node.axes), made) if set(made.axes) == set(node.axes) else None


def _support(node: Node, depth: int = 0) -> Forms:
    """Forms that are all >= 0 wherever a value is not 0."""
    if depth > MAX_DEPTH:
        return ()
    match node.op:
        case Where() if _is_mask(node.inputs[0]):
            condition, yes, no = node.inputs
            for hidden, negated in ((no, False), (yes, True)):
                if isinstance(hidden.op, Literal) and hidden.op.value == 0:
                    return constraints(condition, negated=negated, exact=False) or ()
        case Multiply():
            return [form for operand in node.inputs for form in _support(operand, depth + 1)]
        case Divide() | Negative() | Reorder():
            return _support(node.inputs[0], depth + 1)
    return ()


def _under(node: Node, known: Forms | None, builder: Builder, depth: int = 0) -> Node:
    """The value where some forms are all >= 0."""
    if not known or depth > MAX_DEPTH or not node.op.elementwise or len(node.axes) < 2:
        return node
    chosen = _chosen(node, known, builder)
    if chosen is not None:
        return _under(chosen, known, builder, depth + 1)
    operands = tuple(_under(operand, known, builder, depth + 1) for operand in node.inputs)
    if operands == node.inputs:
        return node
    made = builder.make(node.op, *operands)
    return made if made.type.kind is node.type.kind else node


def _chosen(node: Node, known: Forms, builder: Builder) -> Node | None:
    """What a magnitude, a bound or a choice comes to where some forms are >= 0; None if that is open."""
    op, inputs = node.op, node.inputs
    found: Node | None = None
    match op:
        case Abs() | Relu():
            form = affine(inputs[0])
            if form is not None and _follows(form, known):
                found = inputs[0]
            elif form is not None and isinstance(op, Abs) and _follows(form.scaled(-1), known):
                found = builder.make(Negative(), inputs[0])
        case Maximum() | Minimum():
            left, right = map(affine, inputs)
            if left is not None and right is not None:
                larger = inputs if _follows(left.minus(right), known) else None
                larger = inputs[::-1] if larger is None and _follows(right.minus(left), known) else larger
                found = None if larger is None else larger[0 if isinstance(op, Maximum) else 1]
        case Clamp(given):
            value, bounds = affine(inputs[0]), dict(zip(given, map(affine, inputs[1:]), strict=True))
            above = _at_least(value, bounds.get("min"), known) or "min" not in bounds
            below = _at_least(bounds.get("max"), value, known) or "max" not in bounds
            found = inputs[0] if above and below else None
        case Where() if _is_mask(inputs[0]):
            for branch, negated in ((inputs[1], False), (inputs[2], True)):
                forms = constraints(inputs[0], negated=negated)
                if forms is not None and all(_follows(form, known) for form in forms):
                    found = branch
                    break
    return found if found is not None and found.type.kind is node.type.kind else None


def _at_least(large: Affine | None, small: Affine | None, known: Forms) -> bool:
    return large is not None and small is not None and _follows(large.minus(small), known)


def _follows(form: Affine, known: Forms) -> bool:
    """Whether `form >= 0` follows from one of the forms that are >= 0: it is a positive multiple, and not less."""
    if not form.positions:
        number = form.offset.as_number()
        return number is not None and number >= 0
    for other in known:
        axis, coefficient = next(iter(other.positions.items()), (None, 0))
        if axis is None or not coefficient or other.positions.keys() != form.positions.keys():
            continue
        scale = Fraction(form.positions[axis]) / Fraction(coefficient)
        if scale <= 0 or any(form.positions[a] != scale * c for a, c in other.positions.items()):
            continue
        room = (form.offset - other.scaled(scale).offset).as_number()
        if room is not None and room >= 0:
            return True
    return False
