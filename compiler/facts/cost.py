"""Time, memory and their growth in the sequence axes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ..formula import Formula
from ..graph import Graph, Node
from ..report import Cost
from ..sizes import ZERO, Growth, Number, Poly, grown, grows_at_most, growth


@dataclass(frozen=True)
class Sequence:
    """What growth is counted in.

    names: the names (after facts are applied) that grow.
    tokens: how much a linear formula may grow: for every group of sequence axes that the inputs only
        ever carry together (an image's rows and columns) the product of the group.
    """

    formula: Formula

    @cached_property
    def names(self) -> frozenset[str]:
        facts = self.formula.facts
        symbols = {s for axis in self.formula.sequence for s in facts.canonical(Poly.symbol(axis)).symbols()}
        return frozenset(symbols - self.formula.constants.keys())

    @cached_property
    def tokens(self) -> tuple[Growth, ...]:
        carriers: dict[frozenset[int], list[str]] = {}
        for axis in self.formula.sequence:
            inputs = frozenset(i for i, node in enumerate(self.formula.inputs) if axis in node.axes)
            carriers.setdefault(inputs or frozenset({-1 - len(carriers)}), []).append(axis)
        found: set[Growth] = set()
        for group in carriers.values():
            found |= self.growth(Poly.volume(group))
        return tuple(sorted(found))

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """Every axis of the formula that grows with the sequence, for reports."""
        facts, names = self.formula.facts, self.names
        axes = dict.fromkeys((*self.formula.sequence, *self.formula.bound, *self.formula.fixed, *self.formula.derived))
        return tuple(axis for axis in axes if facts.canonical(Poly.symbol(axis)).symbols() & names)

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Every name of a size in the order in which the formula speaks of them, sequence axes first."""
        formula = self.formula
        declared = (*formula.bound, *formula.fixed, *formula.derived, *formula.constants)
        inputs = (axis for node in formula.inputs for axis in node.axes)
        return tuple(dict.fromkeys((*formula.sequence, *inputs, *declared)))

    def growth(self, size: Poly) -> frozenset[Growth]:
        return growth(self.formula.facts.canonical(size), axes=self.names)

    def is_linear(self, size: Poly) -> bool:
        """Whether a size grows at most linearly in the tokens."""
        return all(any(grows_at_most(term, token) for token in self.tokens) for term in self.growth(size))

    def is_wide(self, axes: tuple[str, ...]) -> bool:
        """Whether a value over these axes grows faster than the tokens, as a map over queries and keys does."""
        found = self._wide.get(axes)
        if found is None:
            growing = [axis for axis in axes if axis in self._growing]
            one = len(growing) == 1 and growing[0] in self.formula.sequence
            found = self._wide[axes] = bool(growing) and not one and not self.is_linear(Poly.volume(axes))
        return found

    @cached_property
    def _wide(self) -> dict[tuple[str, ...], bool]:
        return {}

    @cached_property
    def _growing(self) -> frozenset[str]:
        return frozenset(self.axes)


def superlinear(formula: Formula, graph: Graph) -> tuple[Node, ...]:
    """The values of a graph that grow faster than the sequence, as a map over queries and keys does."""
    sequence = Sequence(formula)
    return tuple(node for node in graph if sequence.is_wide(node.axes))


def measure(graph: Graph, sequence: Sequence, run: Graph | None = None) -> Cost:
    """The cost of evaluating a graph once, in the order of its nodes, for one batch entry.

    run: the same graph as it is run, if parts of it are run together: what is held then.
    """
    nodes = graph.nodes()
    by_node: dict[Node, Poly] = {}
    for node in nodes:
        flops = node.op.flops(node.type, *[operand.type for operand in node.inputs])
        if flops:
            by_node[node] = flops
    facts = sequence.formula.facts
    time = facts.canonical(Poly.total(by_node.values()))
    held = graph if run is None else run
    peaks = tuple(dict.fromkeys(facts.canonical(peak) for peak in _peaks(held, held.nodes())))
    return Cost(
        time=time,
        memory=peaks,
        time_order=growth(time, axes=sequence.names),
        memory_order=grown(peaks, axes=sequence.names),
        by_node=by_node,
        names=sequence.order,
    )


def _peaks(graph: Graph, nodes: list[Node]) -> list[Poly]:
    """The largest totals of live intermediates; several where the sizes decide which is larger."""
    storage: dict[Node, Node] = {}
    last_use: dict[Node, int] = {}
    for step, node in enumerate(nodes):
        storage[node] = storage[node.inputs[0]] if node.inputs and node.op.is_view() else node
        for operand in node.inputs:
            last_use[storage[operand]] = step
    for node in graph.outputs:
        last_use[storage[node]] = len(nodes)
    sizes = {node: node.type.volume() for node in nodes if storage[node] is node and _allocates(node)}
    released: dict[int, list[Poly]] = {}
    for node, step in last_use.items():
        if node in sizes:
            released.setdefault(step, []).append(sizes[node])
    live = ZERO
    peaks: list[tuple[Number, Poly]] = []  # each with the sum of its coefficients above 0
    for step, node in enumerate(nodes):
        freed = released.get(step, ())
        if node in sizes:
            live = live + sizes[node]
            more = node.op.workspace(node.type, *[operand.type for operand in node.inputs])
            follows = nodes[step + 1] if step + 1 < len(nodes) else None
            if more or freed or follows not in sizes:  # otherwise the next node holds all this, and more
                held = live + more
                total = sum([factor for factor in held.terms.values() if factor > 0])  # who covers it has as much
                if not any(most >= total and _covers(peak, held) for most, peak in peaks):
                    peaks = [each for each in peaks if each[0] > total or not _covers(held, each[1])]
                    peaks.append((total, held))
        for dead in freed:
            live = live - dead
    return [peak for _, peak in peaks] or [ZERO]


def _allocates(node: Node) -> bool:
    """Whether the result is a new tensor: inputs and parameters exist already, numbers are no tensors."""
    return bool(node.axes or node.type.batched) and not node.op.is_given()


def _covers(large: Poly, small: Poly) -> bool:
    have = large.terms.get
    return all(have(monomial, 0) >= coefficient for monomial, coefficient in small.terms.items())
