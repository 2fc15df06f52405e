"""Recurrences whose updates are linear in their states, as values at all positions: no step waits for the one before.

What a step computes is computed at all positions at once, by the same operations with one more axis. A state is left,
`h[n] = a[n] h[n - 1] + x[n]`, for which there are two ways:

- a scan over pairs (a, x), which compose: right for coefficients of any sign, and for 0;
- where the logarithm of a is at hand, the sum over m <= n of `exp(L[n] - L[m]) x[m]` with the running sum L of the
  logarithms, as a text would write it with a mask. The planner takes it together with what reads the state, so that a
  state that a query reads is never stored at all positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from .facts.ranges import Range, ranges
from .facts.updates import Declined, Feedback, Update, number, total, updates
from .formula import Formula
from .graph import Builder, Graph, Node, topological
from .lowerings.feedback import CausalFeedback
from .lowerings.linear import LinearRecurrence
from .normal import Names
from .ops.arithmetic import Add, Divide, Multiply, Negative, Power, Subtract
from .ops.base import Reject
from .ops.contraction import Contraction
from .ops.cumulative import CumulativeSum
from .ops.functions import Exp, Log, LogSigmoid, Sigmoid
from .ops.layout import Broadcast, Convert, Rename, Reorder
from .ops.leaves import Literal, Position, Size
from .ops.logic import Equal, GreaterEqual, Where
from .ops.reductions import Sum
from .ops.selection import Shift, Take
from .render import text
from .report import Step
from .scan import Argument, Part, Scan, deep
from .sizes import Poly
from .types import Kind

SUM = (
    "recurrence as a sum",
    "the update is linear in the state and its coefficient is positive: the state is a sum over earlier positions, "
    "each scaled by the coefficients since then",
)
NO_STATE = ("no recurrence", "a step makes the state of other values: before the next one it is what they were")
SMALLEST = 2.0**-10  # a coefficient that is never below it has a logarithm of moderate size


class Way(Enum):
    """How the states of a recurrence are computed at all positions."""

    PAIRS = "pairs"
    DECAY = "decay"


@dataclass(frozen=True)
class Rewritten:
    """A formula without some of its recurrences.

    formula: with facts about the axes that were added. origins: for new nodes, the nodes of the text that they compute.
    steps: what became of each state.
    """

    formula: Formula
    origins: Mapping[Node, Node]
    steps: tuple[Step, ...]


def recurrences(formula: Formula, graph: Graph | None = None) -> tuple[Node, ...]:
    """The recurrences of a text, or of a plan of it, along a sequence: their number of steps is not fixed."""
    facts = formula.facts
    counted = {s for axis in formula.sequence for s in facts.canonical(Poly.symbol(axis)).symbols()}
    counted -= formula.constants.keys()
    return tuple(
        node
        for node in graph or formula.graph
        if isinstance(node.op, Scan) and facts.canonical(Poly.symbol(node.op.axis)).symbols() & counted
    )


def without_steps(formula: Formula, ways: Mapping[Node, Way]) -> Rewritten | Declined:
    """The formula with the given recurrences computed at all positions, each in its way; or why one cannot be."""
    try:
        return _Rewriter(formula, ways).run()
    except _Refused as error:
        return error.reason


def unsafe(formula: Formula, scan: Node) -> Declined | None:
    """The coefficient that may be larger than 1, whose products may overflow where steps do not; None if there is none.

    A step multiplies a state that may be 0 by a large coefficient many times; a scan over pairs multiplies the
    coefficients first, and infinity times 0 is no number.
    """
    op = scan.op
    assert isinstance(op, Scan)
    found = updates(op, formula.builder)
    if isinstance(found, Declined):
        return found
    known = ranges(scan.inputs, formula.constants)
    inside = dict(zip(op.step.arguments, (known[operand] for operand in scan.inputs), strict=True))
    inside |= dict.fromkeys(op.step.arguments[: op.states], Range())
    for update in found:
        coefficient = update.coefficient
        bounds = ranges((coefficient,), formula.constants, inside)[coefficient]
        if coefficient.type.kind is Kind.COMPLEX or not -1 <= bounds.low <= bounds.high <= 1:
            state = op.step.arguments[update.state].op
            assert isinstance(state, Argument)
            where = op.step.results[update.state]
            culprit = coefficient if coefficient in formula.origins else where
            which = f"the coefficient of the state `{state.name}`"
            return Declined(f"{which} is not known to lie in -1 .. 1: products may overflow", culprit, linear=True)
    return None


class _Refused(Exception):
    def __init__(self, reason: str, culprit: Node | None = None) -> None:
        super().__init__(reason)
        self.reason = Declined(reason, culprit)


class _Rewriter:
    def __init__(self, formula: Formula, ways: Mapping[Node, Way]) -> None:
        self.formula, self.ways, self.builder = formula, ways, formula.builder
        known = {*formula.fixed, *formula.bound, *formula.derived, *formula.introduced, *formula.constants}
        known.update(axis for node in deep(formula.graph.nodes()) for axis in node.axes)
        self.names = Names(known)
        self.origins: dict[Node, Node] = {}

    def run(self) -> Rewritten:
        formula, made, names = self.formula, dict[Node, Node](), dict[Node, str]()
        parts: dict[Node, _AtAll] = {}
        for node in formula.graph:
            operands = [made.get(operand, operand) for operand in node.inputs if operand not in parts]
            if node in self.ways:
                parts[node] = _AtAll(self, node, operands)
            elif isinstance(node.op, Part) and node.inputs[0] in parts:
                made[node] = parts[node.inputs[0]].member(node)
            else:
                made[node] = self.builder.make(node.op, *operands)
            if node in made and made[node] is not node:
                self.origins.setdefault(made[node], node)
        for node, name in formula.graph.names.items():
            if node in made:
                names.setdefault(made[node], name)
        facts, derived = formula.facts, dict(formula.derived)
        for axis, size in self.names.sizes.items():
            facts = facts.define(Poly.symbol(axis), size) or facts
            derived[axis] = size
        introduced = formula.introduced.union(self.names.sizes)
        graph = Graph(tuple(made[node] for node in formula.graph.outputs), names)
        changed = replace(formula, graph=graph, facts=facts, derived=derived, introduced=introduced)
        return Rewritten(changed, self.origins, tuple(step for part in parts.values() for step in part.steps(names)))


class _AtAll:
    """The values of one recurrence at all positions.

    at_all: for nodes of the step their values at all positions: an argument that is a state has the values before the
    steps. sums: for states, and what is made of them, values that they are the sum of.
    """

    def __init__(self, rewriter: _Rewriter, scan: Node, operands: list[Node]) -> None:
        assert isinstance(scan.op, Scan)
        self.formula, self.builder, self.origins = rewriter.formula, rewriter.builder, rewriter.origins
        self.op, self.axis, self.way, self.names = scan.op, scan.op.axis, rewriter.ways[scan], rewriter.names
        found = updates(self.op, self.builder)
        if isinstance(found, Declined):
            raise _Refused(found.reason, found.culprit)
        step = self.op.step
        self.starts = operands[: self.op.states]
        self.last: dict[int, Node] = {}
        self.at_all: dict[Node, Node] = {}
        self.sums: dict[Node, tuple[Node, ...]] = {}
        for argument, operand in zip(step.arguments[self.op.states :], operands[self.op.states :], strict=True):
            self.at_all[argument] = self._as(operand, argument.type.kind)
        self.states: list[tuple[Node, Node, tuple[str, str]]] = []
        for update in found:
            before, after, self.last[update.state] = self._state(update)
            self.at_all[step.arguments[update.state]] = before
            self.at_all.setdefault(step.results[update.state], after)
            if self.way is Way.DECAY:
                for each in (before, after):
                    self.sums.setdefault(each, (each,))
            self.states.append((step.results[update.state], after, self._reason(update)))

    def steps(self, names: Mapping[Node, str]) -> Iterator[Step]:
        """What became of each state, where the text has it."""
        for result, after, (rule, why) in self.states:
            span = self.formula.origins.get(result)
            if span is not None:
                yield Step(rule, span, text(result, names, open=True), text(after, names, open=True), why)

    def member(self, part: Node) -> Node:
        """What the recurrence gives: a state after the last step, or what was yielded at every position."""
        assert isinstance(part.op, Part)
        op = part.op
        node = self.last[op.index] if op.index < self.op.states else self._lifted(self.op.step.results[op.index])
        return self._over(self._as(node, op.kind), op.axes)

    # -- what a step computes ----------------------------------------------------------------------------

    def _lifted(self, root: Node) -> Node:
        """The value of a node of the step at all positions."""
        stack = [root]
        while stack:
            node = stack[-1]
            missing = [operand for operand in node.inputs if operand not in self.at_all]
            if node in self.at_all:
                stack.pop()
            elif missing:
                stack.extend(missing)
            else:
                made = self._applied(node, [self.at_all[operand] for operand in node.inputs])
                self.at_all[node] = made
                self.origins.setdefault(made, node)
        return self.at_all[root]

    def _applied(self, node: Node, operands: list[Node]) -> Node:
        op = node.op
        along = (self.axis,) if any(self.axis in operand.axes for operand in operands) else ()
        if isinstance(op, Contraction):
            lefts, rights = (self.sums.get(operand, (operand,)) for operand in operands)
            if len(lefts) + len(rights) > 2:  # of each by itself, so that none need be stored
                parts = [self._contracted(op, left, right) for left in lefts for right in rights]
                for part in parts:
                    self.origins.setdefault(part, node)
                return self._joined(parts)
            return self._contracted(op, *operands)
        elif isinstance(op, Broadcast | Reorder):
            op = replace(op, axes=(*along, *op.axes))
        try:
            made = self.builder.make(op, *operands)
        except Reject:
            raise _Refused(f"`{op.spelling}` cannot be computed at all positions at once", node) from None
        if {*made.axes} != {*along, *node.axes}:
            raise _Refused(f"`{op.spelling}` cannot be computed at all positions at once", node)
        if isinstance(op, Add) and any(operand in self.sums for operand in operands):
            parts = [part for operand in operands for part in self.sums.get(operand, (operand,))]
            if all({*part.axes, self.axis} == {*made.axes, self.axis} for part in parts):
                self.sums[made] = tuple(parts)
        return made

    def _contracted(self, op: Contraction, left: Node, right: Node) -> Node:
        """A contraction at all positions, or one that is the same at all: of what a state starts from, say."""
        along = (self.axis,) if self.axis in left.axes or self.axis in right.axes else ()
        return self.builder.make(replace(op, result=(*along, *op.result)), left, right)

    # -- a state -----------------------------------------------------------------------------------------

    def _state(self, update: Update) -> tuple[Node, Node, Node]:
        """A state before every step, after every step, and after the last."""
        argument = self.op.step.arguments[update.state]
        start = self.starts[update.state]
        offset = self._lifted(update.offset)
        if number(update.coefficient) == 0 and update.feedback is None:
            after = self._along(self._over_state(offset, argument))
            return self._moved(after, start), after, self._end(after)
        if self.way is Way.DECAY:
            return self._decayed(update, argument, start)
        if update.feedback is not None:
            raise _Refused("steps that read the state along one direction are sums over earlier positions", argument)
        coefficient = self._lifted(update.coefficient)
        operands = [self._along(coefficient), self._along(offset)]
        if number(start) != 0:
            operands.append(start)
        after = self.builder.make(LinearRecurrence(self.axis, argument.axes), *operands)
        self.origins.setdefault(after, self.op.step.results[update.state])
        return self._moved(after, start), after, self._end(after)

    def _reason(self, update: Update) -> tuple[str, str]:
        if number(update.coefficient) == 0:
            return NO_STATE
        return SUM if self.way is Way.DECAY else (LinearRecurrence.rule, LinearRecurrence.why)

    def _moved(self, after: Node, start: Node) -> Node:
        """The values before the steps, given those after them."""
        moved = self.builder.make(Shift(self.axis, Poly.constant(1)), after)
        if number(start) == 0:
            return moved
        first = self.builder.make(Equal(), self.builder.make(Position(self.axis)), self.builder.make(Literal(0)))
        return self.builder.make(Where(), first, start, moved)

    def _decayed(self, update: Update, argument: Node, start: Node) -> tuple[Node, Node, Node]:
        """The same as sums over earlier positions, with a weight for the way between."""
        if argument.type.kind is not Kind.REAL:
            raise _Refused(f"`{argument.op.name}` is complex", argument)  # type: ignore[attr-defined]
        rate = None
        if number(update.coefficient) != 1:
            rate = logarithm(self._lifted(update.coefficient), self.builder, self.formula.constants)
            if rate is None:
                raise _Refused("the logarithm of the coefficient is not at hand", self._culprit(update))
        sums = _Sums(self, argument, rate)
        offset = self._lifted(update.offset)
        parts = [] if number(offset) == 0 and update.feedback is not None else [sums.of(self._along(offset))]
        if number(start) != 0:
            parts.append(sums.left(start))
        if update.feedback is not None:
            parts.append(sums.of(self._fed_back(update.feedback, sums, [before for before, _, _ in parts])))
        before, after, last = (self._joined(each) for each in zip(*parts, strict=True))
        return before, after, last

    def _fed_back(self, feedback: Feedback, sums: _Sums, others: list[Node]) -> Node:
        """What every step adds along its direction.

        What it reads of the state is what `others` hold, and what earlier steps have added in this way: a triangular
        system, which is solved chunk by chunk.
        """
        make, axis, inner = self.builder.make, self.axis, feedback.axis
        reading, direction = (self._along(self._lifted(each)) for each in (feedback.reading, feedback.direction))
        rates = () if sums.rate is None else sums.rate.axes
        shared = {*reading.axes, *direction.axes, *rates}
        batch = tuple(a for a in sums.axes if a in shared and a != inner)
        outer = tuple(a for a in sums.axes if a not in shared)
        value = self._lifted(feedback.addend)
        for before in others:
            kept = (axis, *(a for a in sums.axes if a != inner))
            value = total(value, make(Contraction((inner,), kept), reading, before), self.builder)
        if {*value.axes} != {axis, *batch, *outer}:
            value = make(Broadcast((axis, *batch, *outer)), value)
        gates = () if sums.rate is None else (self._along(sums.rate),)
        added = make(CausalFeedback(axis, inner, batch, outer), reading, direction, value, *gates)
        return make(Multiply(), direction, added)

    def _culprit(self, update: Update) -> Node:
        """Where the text has the coefficient of an update, or the update."""
        known = update.coefficient in self.formula.origins
        return update.coefficient if known else self.op.step.results[update.state]

    def _joined(self, parts: Sequence[Node]) -> Node:
        """The sum of some values, each of which is read by itself where that can be."""
        made = parts[0]
        for part in parts[1:]:
            made = self.builder.make(Add(), made, part)
        if len(parts) > 1:
            self.sums[made] = tuple(parts)
        return made

    def _shifted(self, node: Node) -> Node:
        """The value of the position before, 0 at the first, moved inside products so that they can be taken apart."""
        if self.axis not in node.axes:
            return node
        match node.op:
            case Multiply() | Contraction():
                return self.builder.make(node.op, *map(self._shifted, node.inputs))
            case Add() | Subtract() if all(self.axis in operand.axes for operand in node.inputs):
                return self.builder.make(node.op, *map(self._shifted, node.inputs))
            case Negative():
                return self.builder.make(node.op, self._shifted(node.inputs[0]))
            case Divide() if self.axis in node.inputs[0].axes and self.axis not in node.inputs[1].axes:
                return self.builder.make(node.op, self._shifted(node.inputs[0]), node.inputs[1])
        return self.builder.make(Shift(self.axis, Poly.constant(1)), node)

    # -- axes and kinds ----------------------------------------------------------------------------------

    def _as(self, node: Node, kind: Kind) -> Node:
        return node if node.type.kind is kind else self.builder.make(Convert(kind), node)

    def _along(self, node: Node) -> Node:
        """The value with the axis, repeated along it where it is the same at every position."""
        return node if self.axis in node.axes else self.builder.make(Broadcast((self.axis, *node.axes)), node)

    def _over(self, node: Node, axes: tuple[str, ...]) -> Node:
        if {*node.axes} != {*axes}:
            return self.builder.make(Broadcast(axes), node)
        return node if node.axes == axes else self.builder.make(Reorder(axes), node)

    def _over_state(self, node: Node, argument: Node) -> Node:
        along = (self.axis,) if self.axis in node.axes else ()
        return self._over(self._as(node, argument.type.kind), (*along, *argument.axes))

    def _end(self, node: Node) -> Node:
        return self.builder.make(Take(self.axis), node, self._final())

    def _final(self) -> Node:
        """The last position."""
        length, one = self.builder.make(Size(Poly.symbol(self.axis))), self.builder.make(Literal(1))
        return self.builder.make(Subtract(), length, one)


class _Sums:
    """A state with a positive coefficient: sums over earlier positions, each scaled by the coefficients since then.

    rate: the logarithm of the coefficient; None where it is 1.
    """

    def __init__(self, recurrence: _AtAll, argument: Node, rate: Node | None) -> None:
        self.recurrence, self.make = recurrence, recurrence.builder.make
        self.axes, self.axis, self.rate = argument.axes, recurrence.axis, rate
        self.moves = rate is not None and self.axis in rate.axes
        self.key = recurrence.names.fresh(self.axis)
        self.lag = self.make(Subtract(), self.make(Position(self.axis)), self.make(Position(self.key)))
        self.seen = self.make(GreaterEqual(), self.lag, self.make(Literal(0)))

    @property
    def level(self) -> Node:
        """The logarithm of all coefficients up to each position."""
        assert self.rate is not None
        if self.moves:
            return self.make(CumulativeSum(self.axis), self.rate)
        return self.make(Multiply(), self.rate, self.make(Add(), self.make(Position(self.axis)), self.make(Literal(1))))

    @property
    def level_before(self) -> Node:
        """The same up to the position before."""
        assert self.rate is not None
        if self.moves:
            return self.make(CumulativeSum(self.axis), self.make(Shift(self.axis, Poly.constant(1)), self.rate))
        return self.make(Multiply(), self.rate, self.make(Position(self.axis)))

    def of(self, offset: Node) -> tuple[Node, Node, Node]:
        """What the steps added: before every step, after every step, and after the last."""
        earlier = self.recurrence._shifted(offset)
        if not self.moves:
            before, after = self._weighed(None, earlier), self._weighed(None, offset)
        else:
            before, after = self._weighed(self.level_before, earlier), self._weighed(self.level, offset)
        if self.rate is None:
            return before, after, self._summed(self.axis, None, offset, self.axes)
        if self.moves:
            exponent = self.make(Subtract(), self._whole, self.level)
        else:
            left = self.make(Subtract(), self.recurrence._final(), self.make(Position(self.axis)))
            exponent = self.make(Multiply(), self.rate, left)
        return before, after, self._summed(self.axis, self.make(Exp(), exponent), offset, self.axes)

    def left(self, start: Node) -> tuple[Node, Node, Node]:
        """What is left of the first state, at the same places."""
        if self.rate is None:
            return start, start, start
        levels = (self.level_before, self.level, self._whole)
        before, after, last = (self.make(Multiply(), self.make(Exp(), level), start) for level in levels)
        return before, after, last

    @property
    def _whole(self) -> Node:
        """The logarithm of the coefficients of all positions."""
        assert self.rate is not None
        if self.moves:
            return self.make(Take(self.axis), self.level, self.recurrence._final())
        return self.make(Multiply(), self.rate, self.make(Size(Poly.symbol(self.axis))))

    def _weighed(self, level: Node | None, offset: Node) -> Node:
        """The sum at every position. level: that at its position, where coefficients differ between positions."""
        decay: Node = self.make(Literal(1.0))
        if level is not None:
            decay = self.make(Exp(), self.make(Subtract(), level, self.make(Rename(self.axis, self.key), level)))
        elif self.rate is not None and isinstance(self.rate.op, Log):
            decay = self.make(Power(), self.rate.inputs[0], self.lag)
        elif self.rate is not None:
            decay = self.make(Exp(), self.make(Multiply(), self.rate, self.lag))
        weight = self.make(Where(), self.seen, decay, self.make(Literal(0.0)))
        return self._summed(self.key, weight, self.make(Rename(self.axis, self.key), offset), (self.axis, *self.axes))

    def _summed(self, axis: str, weight: Node | None, source: Node, axes: tuple[str, ...]) -> Node:
        have = {*source.axes, *(weight.axes if weight is not None else ())}
        missing = tuple(a for a in axes if a not in have)
        if missing:
            source = self.make(Broadcast((*source.axes, *missing)), source)
        if weight is None:
            made = self.make(Sum((axis,)), source)
            return made if made.axes == axes else self.make(Reorder(axes), made)
        return self.make(Contraction((axis,), axes), weight, source)


def logarithm(node: Node, builder: Builder, constants: Mapping[str, int | float]) -> Node | None:
    """The logarithm of a positive value, as an expression that is finite even where the value is too small for a
    number; None if there is none."""
    made = _logarithm(node, builder, constants)
    if made is None or any(isinstance(n.op, Literal) and math.isinf(n.op.value) for n in topological([made])):
        return None
    return made


def _logarithm(node: Node, builder: Builder, constants: Mapping[str, int | float]) -> Node | None:
    operands = node.inputs
    match node.op:
        case Exp():
            return operands[0]
        case Sigmoid():
            return builder.make(LogSigmoid(), operands[0])
        case Multiply() | Divide():
            left, right = (_logarithm(operand, builder, constants) for operand in operands)
            joined = Add() if isinstance(node.op, Multiply) else Subtract()
            return None if left is None or right is None else builder.make(joined, left, right)
        case Subtract() if number(operands[0]) == 1 and isinstance(operands[1].op, Sigmoid):
            return builder.make(LogSigmoid(), builder.make(Negative(), operands[1].inputs[0]))
        case Reorder() | Broadcast() | Rename() | Convert() if node.type.kind is Kind.REAL:
            inner = _logarithm(operands[0], builder, constants)
            return None if inner is None else builder.make(node.op, inner)
    known = ranges((node,), constants)[node]
    return builder.make(Log(), node) if known.low >= SMALLEST and known.high < math.inf else None
