"""Which inputs and parameters no gradient reaches.

A gradient flows from the results back to the operands. It ends at an operation that has none (a sign, a comparison, a
choice of positions), where it is multiplied by a value that is 0 for all inputs, where a clamp always acts, and at a
value that is the same for all inputs; in the steps of a recurrence, too. Sound: what is said to get no gradient gets
exactly 0. What is not named may still get 0, where that follows from algebra (see `cancelled`) or holds for some inputs
only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..formula import Formula
from ..graph import Graph, Node
from ..ops.arithmetic import Divide, IntegerPower, Multiply, Subtract
from ..ops.contraction import Contraction
from ..ops.functions import Relu
from ..ops.logic import Where
from ..ops.pairs import Clamp, Maximum, Minimum
from ..scan import Part, Scan
from ..types import Kind
from .ranges import ANY, Range, ranges, within

NUMBERS = (Kind.REAL, Kind.COMPLEX)


@dataclass(frozen=True)
class Unreached:
    """A value that gets no gradient. blocks: the operations at which the way back to it ends."""

    node: Node
    blocks: tuple[Node, ...]


def unreached(formula: Formula, *, bounds: bool = True) -> tuple[Unreached, ...]:
    """Inputs and parameters that are used, and that no gradient reaches.

    bounds: also find what follows from the bounds of values, which takes several times as long.
    """
    flow = _Flow(formula.graph, formula.constants if bounds else None)
    found = []
    for node in (*formula.inputs, *(stored.node for stored in formula.parameters)):
        if node.type.kind in NUMBERS and node in flow.used and node not in flow.reached:
            found.append(Unreached(node, flow.blocks(node)))
    return tuple(found)


def reached_by_gradients(formula: Formula) -> frozenset[Node]:
    """Values of the formula as written that a gradient may reach."""
    return frozenset(_Flow(formula.graph, formula.constants).reached)


def cancelled(formula: Formula, simplified: Graph) -> tuple[Node, ...]:
    """Inputs and parameters that cancel: a gradient seems to reach them, but the simplified formula shows that it is 0.

    simplified: the same function after rewriting, over the same nodes.
    """
    before, after = (_Flow(graph, formula.constants) for graph in (formula.graph, simplified))
    declared = (*formula.inputs, *(stored.node for stored in formula.parameters))
    return tuple(node for node in declared if node in before.reached and node not in after.reached)


class _Flow:
    """reached: values that a gradient may reach, those of steps included; used: values that a result needs.

    known: ranges of the values of this graph, it grows.
    """

    def __init__(
        self,
        graph: Graph,
        constants: Mapping[str, int | float] | None,
        known: dict[Node, Range] | None = None,
        seeds: Iterable[int] | None = None,
    ) -> None:
        """seeds: which outputs have a gradient; all, where this is None."""
        self.constants = constants
        self.known = {} if known is None else known
        self.nodes = graph.nodes()
        self.used = frozenset(self.nodes)
        self.members: dict[Node, set[int]] = {}  # of what a scan gives, those that are reached
        outputs = graph.outputs if seeds is None else [graph.outputs[index] for index in seeds]
        self.reached: set[Node] = {node for node in outputs if self._varies(node)}
        for node in reversed(self.nodes):
            if node in self.members:
                self._back(node)
            elif node in self.reached and isinstance(node.op, Part):
                self.members.setdefault(node.inputs[0], set()).add(node.op.index)
            elif node in self.reached:
                for index, operand in enumerate(node.inputs):
                    if self._varies(operand) and self._passes(node, index):
                        self.reached.add(operand)

    def _within(self, scan: Node) -> dict[Node, Range]:
        """The ranges of the values of a step."""
        if self.constants is None:
            return {}
        free = frozenset(self.constants)
        ranges(scan.inputs, self.constants, self.known, free)
        return within(scan, self.constants, self.known, free)

    def _back(self, scan: Node) -> None:
        """From what a scan gives to its operands. A state that is reached hands the gradient to the step before."""
        op = scan.op
        assert isinstance(op, Scan)
        seeds, known = self.members[scan], self._within(scan)
        while True:
            step = _Flow(Graph(op.step.results, {}), self.constants, known, sorted(seeds))
            states = {index for index in range(op.states) if op.step.arguments[index] in step.reached}
            if states <= seeds:
                break
            seeds = seeds | states
        self.reached |= step.reached
        for argument, operand in zip(op.step.arguments, scan.inputs, strict=True):
            if argument in step.reached and self._varies(operand):
                self.reached.add(operand)

    def blocks(self, target: Node) -> tuple[Node, ...]:
        """Where the way of a gradient to the target ends: what needs it, and hands none on."""
        return self._ahead({target})[0]

    def _ahead(self, alive: set[Node]) -> tuple[tuple[Node, ...], set[Node]]:
        """Where the ways to some values end, and the values that hand a gradient to them."""
        alive = set(alive)
        given: dict[Node, set[int]] = {}
        ends: list[Node] = []
        for node in sorted(self.used, key=lambda n: n.index):
            if isinstance(node.op, Scan):
                inner, given[node] = self._through(node, node.op, alive)
                ends += inner
                continue
            if isinstance(node.op, Part):
                if node.op.index in given[node.inputs[0]] and self._varies(node):
                    alive.add(node)
                continue
            needed = [index for index, operand in enumerate(node.inputs) if operand in alive]
            if any(self._passes(node, index) for index in needed) and self._varies(node):
                alive.add(node)
            elif needed:
                ends.append(node)
        return tuple(ends), alive

    def _through(self, scan: Node, op: Scan, alive: set[Node]) -> tuple[tuple[Node, ...], set[int]]:
        """The same within a step, and which members of the scan hand a gradient on."""
        pairs = zip(op.step.arguments, scan.inputs, strict=True)
        known = {argument for argument, operand in pairs if operand in alive}
        step = _Flow(Graph(op.step.results, {}), self.constants, self._within(scan), ())
        while True:
            ends, passed = step._ahead(known)
            members = {index for index, result in enumerate(op.step.results) if result in passed}
            states = {op.step.arguments[index] for index in members if index < op.states}
            if states <= known:
                return ends, members
            known |= states

    def _varies(self, node: Node) -> bool:
        """Whether the value is a number that is not the same for all inputs."""
        return node.type.kind in NUMBERS and not self._is_constant(node)

    def _range(self, node: Node) -> Range:
        if self.constants is None:
            return ANY
        return ranges((node,), self.constants, self.known, free=frozenset(self.constants))[node]

    def _is_constant(self, node: Node) -> bool:
        known = self._range(node)
        return known.low == known.high

    def _is_zero(self, node: Node) -> bool:
        known = self._range(node)
        return known.low == 0 == known.high

    def _passes(self, node: Node, index: int) -> bool:
        """Whether the operation may hand a gradient on to one operand."""
        op, operands = node.op, node.inputs
        if not op.differentiable:
            return False
        match op:
            case Where():
                return index > 0
            case Multiply() | Contraction():
                return not self._is_zero(operands[1 - index])
            case Divide():
                return index == 0 or not self._is_zero(operands[0])
            case Subtract():
                return operands[0] is not operands[1]
            case IntegerPower(exponent):
                return exponent != 0
            case Relu():
                return self._range(operands[0]).high > 0
            case Maximum() | Minimum():
                mine, other = self._range(operands[index]), self._range(operands[1 - index])
                return not (mine.high < other.low if isinstance(op, Maximum) else mine.low > other.high)
            case Clamp(given) if index == 0:
                bounds = dict(zip(given, map(self._range, operands[1:]), strict=True))
                mine = self._range(operands[0])
                below = "min" in bounds and mine.high < bounds["min"].low
                above = "max" in bounds and mine.low > bounds["max"].high
                return not (below or above)
        return True
