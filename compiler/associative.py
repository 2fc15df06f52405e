"""Recurrences whose updates are linear in their states, as values at all positions: no step waits for the one before.

What a step computes is computed at all positions at once, by the same operations with one more axis. A state is left,
`h[n] = a[n] h[n - 1] + x[n]`, for which there are two ways:

- a scan over pairs (a, x), which compose: right for coefficients of any sign, and for 0;
- where the logarithm of a is at hand, the sum over m <= n of `exp(L[n] - L[m]) x[m]` with the running sum L of the
  logarithms, as a text would write it with a mask. The planner takes it together with what reads the state, so that a
  state that a query reads is never stored at all positions.

States that are updated from each other are one vector over an axis of their own, and a is a matrix. The same two ways:
a scan over pairs of matrices and offsets; or sums over m of the products of the matrices since m, which stand in the
graph as `Transitions` and are never stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from .facts.ranges import Range, ranges
from .facts.updates import Declined, Feedback, Matrix, Update, named, number, product, total, updates
from .formula import Formula
from .graph import Builder, Graph, Node, topological
from .lowerings.feedback import CausalFeedback, FeatureGatedFeedback
from .lowerings.linear import LinearRecurrence
from .lowerings.states import LinearStates, Products, TransitionFeedback, Transitions
from .normal import Names
from .ops.arithmetic import Add, Divide, Multiply, Negative, Power, Subtract
from .ops.base import Op, Reject
from .ops.contraction import Contraction
from .ops.cumulative import CumulativeProduct, CumulativeSum
from .ops.functions import Exp, Log, LogSigmoid, Sigmoid
from .ops.layout import Broadcast, Convert, Merge, Rename, Reorder, Split
from .ops.leaves import Literal, Position, Size
from .ops.logic import Equal, GreaterEqual, Where
from .ops.normalisations import Softmax
from .ops.pairs import LogAddExp
from .ops.reductions import Sum
from .ops.selection import Shift, Slice, Take
from .render import sides
from .report import Step
from .scan import Argument, Part, Scan, deep
from .sizes import Poly
from .types import Kind

SUM = (
    "recurrence as a sum",
    "the update is linear in the state and its coefficient is positive: the state is a sum over earlier positions, "
    "each scaled by the coefficients since then",
)
STATES = (
    "recurrence of states as a sum",
    "the updates are linear in the states: these are sums over earlier positions, each multiplied by the matrices "
    "since then",
)
NO_STATE = ("no recurrence", "a step makes the state of other values: before the next one it is what they were")
SMALLEST = 2.0**-10  # a coefficient that is never below it has a logarithm of moderate size
LONGEST = 20  # binary digits of the number of steps after which products of matrices are to be finite
LARGEST = 1e30


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
    found = updates(op, formula.builder, formula.constants, names_of(formula).fresh)
    if isinstance(found, Declined):
        return found
    known = ranges(scan.inputs, formula.constants)
    given = list(zip(op.step.arguments, scan.inputs, strict=True))
    inside = {argument: known[operand] for argument, operand in given}
    inside |= dict.fromkeys(op.step.arguments[: op.states], Range())
    inside = {**known, **inside}
    outside = dict(given[op.states :])

    def bound(coefficient: Node) -> float:
        """The largest absolute value."""
        limits = ranges((coefficient,), formula.constants, inside, outside=outside)[coefficient]
        return math.inf if coefficient.type.kind is Kind.COMPLEX else max(abs(limits.low), abs(limits.high))

    for update in found:
        where = op.step.results[update.states[0]]
        which = named([op.step.arguments[state] for state in update.states])
        if update.matrix is not None and not _is_average(update.matrix, dict(given), bound):
            reason = f"the matrix that the state {which} is multiplied by is not known to be small"
            return Declined(f"{reason}: products may overflow", where, linear=True)
        bounds = [[bound(each) for each in row] for row in update.coefficients]
        if update.matrix is None and not _stays_small(bounds):
            [first, *others] = [each for row in update.coefficients for each in row if not bound(each) <= 1] or [where]
            culprit = first if first in formula.origins and not others else where
            if update.alone:
                reason = f"the coefficient of the state {which} is not known to lie in -1 .. 1"
            else:
                reason = f"the coefficients of the states {which} are not known to keep them small"
            return Declined(f"{reason}: products may overflow", culprit, linear=True)
    return None


def _is_average(matrix: Matrix, given: Mapping[Node, Node], bound: Callable[[Node], float]) -> bool:
    """Whether a matrix is one of weights that are positive and sum to 1, times what is not above 1.

    given: what the arguments of the step are outside.
    """
    node, axes = matrix.value, {matrix.axis, matrix.column}
    while True:
        if node in given:
            node = given[node]
        match node.op:
            case Rename(source, target) if target in axes:
                axes = axes - {target} | {source}
            case Reorder() | Broadcast() | Convert():
                pass
            case Multiply():
                left, right = node.inputs
                weight, factor = (left, right) if axes <= {*left.axes} else (right, left)
                if not bound(factor) <= 1 or not axes <= {*weight.axes}:
                    return False
                node = weight
                continue
            case Softmax(summed):
                return len(summed) == 1 and {*summed} <= axes
            case _:
                return False
        [node] = node.inputs


def _stays_small(bounds: Sequence[Sequence[float]]) -> bool:
    """Whether products of matrices whose elements are not larger than these stay finite for any number of steps."""
    matrix = [list(row) for row in bounds]
    if any(not each < math.inf for row in matrix for each in row):
        return False
    places = range(len(matrix))
    for _ in range(LONGEST):
        matrix = [[sum(matrix[i][k] * matrix[k][j] for k in places) for j in places] for i in places]
        if any(not each < LARGEST for row in matrix for each in row):
            return False
    return True


def names_of(formula: Formula) -> Names:
    """Names of axes that the formula does not have."""
    known = {*formula.fixed, *formula.bound, *formula.derived, *formula.introduced, *formula.constants}
    known.update(axis for node in deep(formula.graph.nodes()) for axis in node.axes)
    return Names(known)


class _Refused(Exception):
    def __init__(self, reason: str, culprit: Node | None = None) -> None:
        super().__init__(reason)
        self.reason = Declined(reason, culprit)


class _Rewriter:
    def __init__(self, formula: Formula, ways: Mapping[Node, Way]) -> None:
        self.formula, self.ways, self.builder = formula, ways, formula.builder
        self.names = names_of(formula)
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
        found = updates(self.op, self.builder, self.formula.constants, self.names.fresh)
        if isinstance(found, Declined):
            raise _Refused(found.reason, found.culprit)
        step = self.op.step
        self.starts = operands[: self.op.states]
        self.last: dict[int, Node] = {}
        self.at_all: dict[Node, Node] = {}
        self.sums: dict[Node, tuple[Node, ...]] = {}
        for argument, operand in zip(step.arguments[self.op.states :], operands[self.op.states :], strict=True):
            self.at_all[argument] = self._as(operand, argument.type.kind)
        self.states: list[tuple[Node, Node, Node, tuple[str, str]]] = []
        for update in found:
            made = self._states(update) if not update.alone else [self._state(update)]
            for state, (before, after, last) in zip(update.states, made, strict=True):
                argument, result = step.arguments[state], step.results[state]
                self.last[state] = last
                self.at_all[argument] = before
                self.at_all.setdefault(result, after)
                if self.way is Way.DECAY:
                    for each in (before, after):
                        self.sums.setdefault(each, (each,))
                self.states.append((argument, result, after, self._reason(update)))

    def steps(self, names: Mapping[Node, str]) -> Iterator[Step]:
        """What became of each state, where the text has it."""
        known = dict(names)
        for argument, result, after, (rule, why) in self.states:
            span = self.formula.origins.get(result)
            if span is not None:
                yield Step(rule, span, why, sides(result, after, known))
            assert isinstance(argument.op, Argument)
            known.setdefault(after, argument.op.name)
            known.setdefault(result, argument.op.name)

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
                operands = [self.at_all[operand] for operand in node.inputs]
                made = self._applied(node, operands)
                self.at_all[node] = made
                self._distribute(node.op, operands, made)
                self.origins.setdefault(made, node)
        return self.at_all[root]

    def _distribute(self, op: Op, operands: list[Node], made: Node) -> None:
        """What is made of states is the sum of what is made of what they are the sums of."""
        if not any(operand in self.sums for operand in operands):
            return
        parts = [self.sums.get(operand, (operand,)) for operand in operands]
        make, found = self.builder.make, tuple[Node, ...]()
        match op:
            case Add():
                found = (*parts[0], *parts[1])
            case Subtract():
                found = (*parts[0], *(make(Negative(), part) for part in parts[1]))
            case Negative():
                found = tuple(make(op, part) for part in parts[0])
            case Multiply() if len(parts[0]) == 1 or len(parts[1]) == 1:
                found = tuple(make(op, left, right) for left in parts[0] for right in parts[1])
            case Divide() if len(parts[1]) == 1:
                found = tuple(make(op, part, operands[1]) for part in parts[0])
        if found and all({*part.axes, self.axis} == {*made.axes, self.axis} for part in found):
            self.sums[made] = found

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
        return made

    def _contracted(self, op: Contraction, left: Node, right: Node) -> Node:
        """A contraction at all positions, or one that is the same at all: of what a state starts from, say."""
        along = (self.axis,) if self.axis in left.axes or self.axis in right.axes else ()
        return self.builder.make(replace(op, result=(*along, *op.result)), left, right)

    # -- a state -----------------------------------------------------------------------------------------

    def _state(self, update: Update) -> tuple[Node, Node, Node]:
        """A state before every step, after every step, and after the last."""
        [state], [[own]], [added] = update.states, update.coefficients, update.offsets
        argument, start, offset = self.op.step.arguments[state], self.starts[state], self._lifted(added)
        if update.is_replacement:
            after = self._along(self._over_state(offset, argument))
            return self._moved(after, start), after, self._end(after)
        if self.way is Way.DECAY:
            return self._decayed(update, argument, start)
        if update.feedback is not None:
            raise _Refused("steps that read the state along one direction are sums over earlier positions", argument)
        operands = [self._along(self._lifted(own)), self._along(offset)]
        if number(start) != 0:
            operands.append(start)
        after = self.builder.make(LinearRecurrence(self.axis, argument.axes), *operands)
        self.origins.setdefault(after, self.op.step.results[state])
        return self._moved(after, start), after, self._end(after)

    def _reason(self, update: Update) -> tuple[str, str]:
        if update.is_replacement:
            return NO_STATE
        if not update.alone:
            decayed = self.way is Way.DECAY and update.matrix is None
            return STATES if decayed else (LinearStates.rule, LinearStates.why)
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
        rate = gate = None
        [[own]], [added] = update.coefficients, update.offsets
        if number(own) != 1:
            rate = logarithm(self._lifted(own), self.builder, self.formula.constants)
            if rate is None:
                gate = self._along(self._lifted(own))
                if update.feedback is not None and update.feedback.axis not in gate.axes:
                    [found] = _Vector(self, update).sums()
                    return found
            elif update.feedback is not None and update.feedback.axis in rate.axes:
                rate = self._along(rate)
        sums = _Sums(self, argument, rate, gate)
        offset = self._lifted(added)
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
        gates = tuple(self._along(each) for each in (sums.rate, sums.gate) if each is not None)
        rates = tuple(axis for each in gates for axis in each.axes)
        shared = {*reading.axes, *direction.axes, *rates}
        batch = tuple(a for a in sums.axes if a in shared and a != inner)
        outer = tuple(a for a in sums.axes if a not in shared)
        value = self._lifted(feedback.addend)
        for before in others:
            kept = (axis, *(a for a in sums.axes if a != inner))
            value = total(value, make(Contraction((inner,), kept), reading, before), self.builder)
        if {*value.axes} != {axis, *batch, *outer}:
            value = make(Broadcast((axis, *batch, *outer)), value)
        op = CausalFeedback(axis, inner, batch, outer)
        if inner in rates:
            op = FeatureGatedFeedback(axis, inner, batch, outer, plain=sums.gate is not None)
        return make(Multiply(), direction, make(op, reading, direction, value, *gates))

    def _culprit(self, update: Update) -> Node:
        """Where the text has the coefficient of an update, or the update."""
        [[own]], [state] = update.coefficients, update.states
        return own if own in self.formula.origins else self.op.step.results[state]

    # -- states that are updated from each other, or by a matrix --------------------------------------------

    def _states(self, update: Update) -> list[tuple[Node, Node, Node]]:
        """Every state before every step, after every step, and after the last."""
        if update.matrix is not None:
            if self.way is Way.DECAY:
                raise _Refused("a matrix over an axis of the state has no sum", self.op.step.results[update.states[0]])
            return [self._by_matrix(update, update.matrix)]
        vector = _Vector(self, update)
        if self.way is Way.DECAY:
            return vector.sums()
        if update.feedback is not None:
            argument = self.op.step.arguments[update.states[0]]
            raise _Refused("steps that read the states along one direction are sums over earlier positions", argument)
        return vector.scanned()

    def _by_matrix(self, update: Update, matrix: Matrix) -> tuple[Node, Node, Node]:
        [state], [added] = update.states, update.offsets
        argument, start = self.op.step.arguments[state], self.starts[state]
        value, offset = self._lifted(matrix.value), self._lifted(added)
        batch = tuple(a for a in argument.axes if a in value.axes and a != matrix.axis)
        outer = tuple(a for a in argument.axes if a not in value.axes)
        op = LinearStates(self.axis, matrix.axis, matrix.column, batch, outer, dense=True)
        operands = [value, self._over_state(self._along(offset), argument)]
        if number(start) != 0:
            operands.append(self._over(start, argument.axes))
        after = self._over(self.builder.make(op, *operands), (self.axis, *argument.axes))
        self.origins.setdefault(after, self.op.step.results[state])
        return self._moved(after, start), after, self._end(after)

    def _joined(self, parts: Sequence[Node]) -> Node:
        """The sum of some values, each of which is read by itself where that can be."""
        made = parts[0]
        for part in parts[1:]:
            made = self.builder.make(Add(), made, part)
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
    """Sums over earlier positions, each scaled by the coefficients of a state since then.

    rate: the logarithm of the coefficient. gate: the coefficient of every position itself, where there is no logarithm.
    Where the coefficient is 1, both are None.
    """

    def __init__(self, recurrence: _AtAll, argument: Node, rate: Node | None, gate: Node | None) -> None:
        self.recurrence, self.make, self.gate = recurrence, recurrence.builder.make, gate
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
        if self.gate is not None:
            before, after = self._kept(self._gate_before, earlier), self._kept(self.gate, offset)
            return before, after, self._summed(self.axis, self._later, offset, self.axes)
        if not self.moves:
            before, after = self._weighed(None, earlier), self._weighed(None, offset)
        else:
            before, after = self._weighed(self.level_before, earlier), self._weighed(self.level, offset)
        if self.rate is None:
            return before, after, self._summed(self.axis, None, offset, self.axes)
        if self.moves:
            exponent = self._behind
        else:
            left = self.make(Subtract(), self.recurrence._final(), self.make(Position(self.axis)))
            exponent = self.make(Multiply(), self.rate, left)
        return before, after, self._summed(self.axis, self.make(Exp(), exponent), offset, self.axes)

    def left(self, start: Node) -> tuple[Node, Node, Node]:
        """What is left of the first state, at the same places."""
        if self.gate is not None:
            shares = self.make(CumulativeProduct(self.axis), self.gate)
            before = self.recurrence._moved(shares, self.make(Literal(1.0)))
            made = (before, shares, self.recurrence._end(shares))
            one, other, last = (self.make(Multiply(), share, start) for share in made)
            return one, other, last
        if self.rate is None:
            return start, start, start
        levels = (self.level_before, self.level, self._whole)
        before, after, last = (self.make(Multiply(), self.make(Exp(), level), start) for level in levels)
        return before, after, last

    @property
    def _gate_before(self) -> Node:
        """The coefficient of the position before."""
        assert self.gate is not None
        return self.make(Shift(self.axis, Poly.constant(1)), self.gate)

    @property
    def _later(self) -> Node:
        """The product of all coefficients behind each position, from the end."""
        assert self.gate is not None
        end = self.make(Subtract(), self.recurrence._final(), self.make(Position(self.axis)))
        backwards = self.make(Take(self.axis), self.gate, end)
        product = self.make(CumulativeProduct(self.axis), backwards)
        return self.make(Take(self.axis), self.recurrence._moved(product, self.make(Literal(1.0))), end)

    def _kept(self, gate: Node, offset: Node) -> Node:
        """The sum at every position, weighed by the coefficients themselves."""
        weight = self.make(Products(self.axis, self.key), gate)
        return self._summed(self.key, weight, self.make(Rename(self.axis, self.key), offset), (self.axis, *self.axes))

    @property
    def _whole(self) -> Node:
        """The logarithm of the coefficients of all positions."""
        assert self.rate is not None
        if self.moves:
            return self.make(Take(self.axis), self.level, self.recurrence._final())
        return self.make(Multiply(), self.rate, self.make(Size(Poly.symbol(self.axis))))

    @property
    def _behind(self) -> Node:
        """The logarithm of all coefficients behind each position.

        Summed from the end: as a difference of two levels it would have few digits left, and none behind a gate of 0.
        """
        assert self.rate is not None
        end = self.make(Subtract(), self.recurrence._final(), self.make(Position(self.axis)))
        later = self.make(Take(self.axis), self.make(Shift(self.axis, Poly.constant(-1)), self.rate), end)
        return self.make(Take(self.axis), self.make(CumulativeSum(self.axis), later), end)

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


class _Vector:
    """States that are updated from each other, as one vector over an axis of their own.

    row, column: that axis, and its copy along which the matrix of a step is applied.
    """

    def __init__(self, recurrence: _AtAll, update: Update) -> None:
        self.recurrence, self.make, self.update = recurrence, recurrence.builder.make, update
        self.axis = recurrence.axis
        self.arguments = [recurrence.op.step.arguments[state] for state in update.states]
        self.axes = self.arguments[0].axes
        self.kind = self.arguments[0].type.kind
        self.starts = [recurrence.starts[state] for state in update.states]
        count = Poly.constant(len(update.states))
        self.row, self.column = (recurrence.names.fresh("state", count) for _ in range(2))
        rows = [self._stacked([self._lifted(each) for each in row], self.column) for row in update.coefficients]
        self.matrix = self._stacked(rows, self.row)
        self.batch = tuple(axis for axis in self.axes if axis in self.matrix.axes)

    def scanned(self) -> list[tuple[Node, Node, Node]]:
        """The states at all positions by an associative scan."""
        recurrence, whole = self.recurrence, (self.row, *self.axes)
        offsets = [self._whole(self._lifted(offset)) for offset in self.update.offsets]
        operands = [self.matrix, recurrence._over(self._stacked(offsets, self.row), (self.axis, *whole))]
        if any(number(start) != 0 for start in self.starts):
            starts = [recurrence._over(recurrence._as(start, self.kind), self.axes) for start in self.starts]
            operands.append(recurrence._over(self._stacked(starts, self.row), whole))
        outer = tuple(axis for axis in self.axes if axis not in self.batch)
        op = LinearStates(self.axis, self.row, self.column, self.batch, outer, dense=False)
        states = self.make(op, *operands)
        made = []
        for index, start in enumerate(self.starts):
            after = recurrence._over(self._entry(states, index), (self.axis, *self.axes))
            recurrence.origins.setdefault(after, recurrence.op.step.results[self.update.states[index]])
            made.append((recurrence._moved(after, start), after, recurrence._end(after)))
        return made

    def sums(self) -> list[tuple[Node, Node, Node]]:
        """The states as sums over earlier positions."""
        recurrence, feedback = self.recurrence, self.update.feedback
        if self.kind is not Kind.REAL:
            raise _Refused(f"{named(self.arguments)} are complex", self.arguments[0])
        offsets = [self._lifted(offset) for offset in self.update.offsets]
        parts: list[list[tuple[Node, Node]]] = [[] for _ in self.arguments]
        left = [self._left(index) for index, start in enumerate(self.starts) if number(start) != 0]
        for index, found in enumerate(parts):
            found += [each[index] for each in left]
            for other, offset in enumerate(offsets):
                if number(offset) != 0:
                    found.append(self._added(self._one(index), self._one(other), self._whole(offset)))
        if feedback is not None:
            written = self._stacked([self._lifted(each) for each in feedback.written], self.row)
            added = self._fed_back(feedback, written, [[before for before, _ in found] for found in parts])
            for index, found in enumerate(parts):
                found.append(self._added(self._one(index), written, added))
        made = []
        for found in parts:
            zero = recurrence._over(self.make(Literal(0.0)), (self.axis, *self.axes))
            before, after = (recurrence._joined(each) for each in (zip(*found, strict=True) if found else [[zero]] * 2))
            made.append((before, after, recurrence._end(after)))
        return made

    def _fed_back(self, feedback: Feedback, written: Node, others: Sequence[Sequence[Node]]) -> Node:
        """What every step adds along its direction, by a triangular system (see `_AtAll._fed_back`)."""
        recurrence, make, axis, inner = self.recurrence, self.make, self.axis, feedback.axis
        reading, direction = (self._along(self._lifted(each)) for each in (feedback.reading, feedback.direction))
        read = [self._lifted(each) for each in feedback.read]
        rows = self._stacked(read, self.row)
        shared = {axis for node in (reading, direction, rows, written, self.matrix) for axis in node.axes}
        batch = tuple(a for a in self.axes if a in shared and a != inner)
        outer = tuple(a for a in self.axes if a not in shared)
        value = self._lifted(feedback.addend)
        kept = (axis, *(a for a in self.axes if a != inner))
        for weight, before in ((w, b) for w, found in zip(read, others, strict=True) for b in found):
            if number(weight) != 0:
                seen = product(weight, make(Contraction((inner,), kept), reading, before), recurrence.builder)
                value = total(value, seen, recurrence.builder)
        if {*value.axes} != {axis, *batch, *outer}:
            value = make(Broadcast((axis, *batch, *outer)), value)
        op = TransitionFeedback(axis, axis, self.row, self.column, (inner,), outer, batch, 1)
        return make(Multiply(), direction, make(op, reading, direction, value, self.matrix, rows, written))

    def _added(self, rows: Node, columns: Node, offset: Node) -> tuple[Node, Node]:
        """What steps added to states is read by these rows: before every step, and after every step."""
        key = self.recurrence.names.fresh(self.axis)
        offset, columns = (self._renamed(node, key) for node in (offset, columns))
        shared = {axis for node in (self.matrix, rows, columns) for axis in node.axes}
        batch = tuple(axis for axis in self.axes if axis in shared)
        ops = (Transitions(self.axis, key, self.row, self.column, batch, late) for late in (1, 0))
        before, after = (
            self.make(Contraction((key,), (self.axis, *self.axes)), self.make(op, self.matrix, rows, columns), offset)
            for op in ops
        )
        return before, after

    def _left(self, index: int) -> list[tuple[Node, Node]]:
        """What is left in every state of one of the first states, before every step and after it."""
        recurrence, whole = self.recurrence, (self.row, *self.batch)
        zero, one = recurrence._over(self.make(Literal(0.0)), (self.axis, *whole)), self._one(index)
        op = LinearStates(self.axis, self.row, self.column, self.batch, (), dense=False)
        states = self.make(op, self.matrix, zero, recurrence._over(one, whole))
        found = []
        for each in range(len(self.starts)):
            after = self._entry(states, each)
            before = recurrence._moved(after, self.make(Literal(1.0 if each == index else 0.0)))
            start = self.starts[index]
            found.append((self.make(Multiply(), before, start), self.make(Multiply(), after, start)))
        return found

    def _one(self, index: int) -> Node:
        """1 for one of the states, 0 for the others."""
        values = [self.make(Literal(1.0 if index == each else 0.0)) for each in range(len(self.arguments))]
        return self._stacked(values, self.row)

    def _stacked(self, values: Sequence[Node], axis: str) -> Node:
        """Values for each state as one over an axis of the states."""
        made = self.recurrence._as(values[-1], self.kind)
        for index in range(len(values) - 2, -1, -1):
            here = self.make(Equal(), self.make(Position(axis)), self.make(Literal(index)))
            made = self.make(Where(), here, self.recurrence._as(values[index], self.kind), made)
        return made if axis in made.axes else self.make(Broadcast((axis, *made.axes)), made)

    def _entry(self, node: Node, index: int) -> Node:
        return self.make(Take(self.row), node, self.make(Literal(index)))

    def _whole(self, node: Node) -> Node:
        """A value at all positions, and for all elements of a state."""
        return self.recurrence._over_state(self._along(node), self.arguments[0])

    def _along(self, node: Node) -> Node:
        return self.recurrence._along(node)

    def _lifted(self, node: Node) -> Node:
        return self.recurrence._lifted(node)

    def _renamed(self, node: Node, key: str) -> Node:
        return self.make(Rename(self.axis, key), node) if self.axis in node.axes else node


def logarithm(node: Node, builder: Builder, constants: Mapping[str, int | float]) -> Node | None:
    """The logarithm of a positive value, as an expression that is finite even where the value is too small for a
    number; None if there is none."""
    made = _logarithm(node, builder, constants)
    if made is None or any(isinstance(n.op, Literal) and math.isinf(n.op.value) for n in topological([made])):
        return None
    return made


def _is_real(node: Node) -> bool:
    return node.type.kind is Kind.REAL


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
        case Add():
            left, right = (_logarithm(operand, builder, constants) for operand in operands)
            if left is not None and right is not None:
                return builder.make(LogAddExp(), left, right)
        case Power():
            base = _logarithm(operands[0], builder, constants)
            if base is not None:
                return builder.make(Multiply(), base, operands[1])
        case Reorder() | Broadcast() | Rename() | Convert() | Split() | Merge() | Slice() if _is_real(node):
            inner = _logarithm(operands[0], builder, constants)
            return None if inner is None else builder.make(node.op, inner)
    known = ranges((node,), constants)[node]
    return builder.make(Log(), node) if known.low >= SMALLEST and known.high < math.inf else None
