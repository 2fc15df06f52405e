"""From the graph as written to the graph that is run.

A plan is a graph over the same nodes. Every sum of products is brought to its normal form and
evaluated in the cheapest order; everything else stays as the text has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite, prod

from .associative import Way, recurrences, unsafe, without_steps
from .assumed import Assumed, assumed
from .facts.cost import Sequence as Counted
from .facts.cost import superlinear
from .facts.ranges import Range, ranges
from .facts.ratios import RULE, WHY, Shifted, shifted
from .facts.updates import Declined
from .formula import Formula
from .graph import Graph, Node, topological
from .lowerings import causal, maximum, polynomial, scales
from .lowerings.additive import SumOfPairs
from .lowerings.batches import over_batch
from .lowerings.fused import FusedSoftmax
from .lowerings.localise import Local, localise
from .lowerings.lowering import Lowering
from .lowerings.rows import ROWS, Group, RowBlocks, groups, in_rows
from .lowerings.states import Between
from .normal import Names, Policy, SumProduct, is_sum, normal_form, unmoved
from .ops.arithmetic import Divide, Multiply, Negative
from .ops.contraction import Contraction
from .ops.cumulative import CumulativeSum
from .ops.layout import Rename, Reorder
from .ops.normalisations import Softmax
from .ops.reductions import Max, Mean, Sum
from .order import BATCH, TRAFFIC, Setting, evaluate, graph_cost, written_cost
from .render import sides, text
from .report import Step
from .rewrite import Rewrite
from .scan import Region, Scan, deep
from .separation import REASONS
from .sizes import ZERO, Poly, grows_at_most
from .softmaxes import recognised

ORDER = (
    "contraction order",
    "a sum of products may be evaluated in any order; a factor without the summed axis moves out of the sum",
)
RUNNING_SUM = ("running sum", "under a causal mask, a sum over earlier positions extends the one before")
CLEARLY = 4.0  # how much cheaper blocks must be than an algorithm of the portfolio
CALL = 8_000.0  # operations on numbers that a call of torch is worth: about 5 microseconds on a CPU
TYPICAL_SEQUENCE, TYPICAL_SIZE = 4096.0, 64.0  # of a sequence and of other axes, where work with steps is compared
SEQUENCE_SIZE = 2.0**20
OTHER_SIZE = 48.0
SHORT, LONG = 4.0, 1024.0  # what an axis of which no size is known may turn out to be
FASTER = 64.0  # work that is less by this much is less at any such sizes: it grows less with the sequence


@dataclass(frozen=True)
class Plan:
    """What is run.

    formula: the typed formula, whose facts also know the axes that the plan introduced.
    origins: for nodes of the plan, the node of the text that they compute or serve.
    steps: what was decided, in the order of the text.
    run: the graph with what is run in blocks of queries as one operation each; None where that is not asked.
    """

    formula: Formula
    graph: Graph
    origins: Mapping[Node, Node]
    steps: tuple[Step, ...]
    run: Graph | None = None


def plan(formula: Formula) -> Plan:
    """The cheapest evaluation that the compiler knows, by growth first.

    A recurrence that is linear in its states is computed at all positions where that is less work, and where it cannot
    overflow earlier than its steps do.
    """
    best = stepwise(formula)
    scans = recurrences(formula)
    return _together(formula, [scan for scan in scans if unsafe(formula, scan) is None], best) if scans else best


def stepwise(formula: Formula) -> Plan:
    """The cheapest evaluation in which recurrences go from step to step."""
    return _in_order(formula)


def associative(formula: Formula) -> Plan | Declined:
    """The cheapest evaluation in which no recurrence goes from step to step along a sequence, or why there is none."""
    ways: dict[Node, Way] = {}
    for scan in recurrences(formula):
        tried = {way: _planned(formula, {scan: way}) for way in Way}
        fits = [way for way, made in tried.items() if isinstance(made, Plan)]
        if not fits:
            return next(made for made in reversed(tried.values()) if isinstance(made, Declined))
        ways[scan] = fits[0]
    made = _planned(formula, ways)
    assert isinstance(made, Plan), "each recurrence can be rewritten by itself"
    return _together(formula, list(ways), made, ways)


def _together(formula: Formula, scans: Sequence[Node], best: Plan, ways: Mapping[Node, Way] | None = None) -> Plan:
    """The plan of least work, trying for one recurrence after the other to compute it at all positions."""
    chosen, least = dict(ways or {}), work(best)
    for scan in scans:
        for way in Way:
            tried = {**chosen, scan: way}
            made = None if tried == chosen else _planned(formula, tried)
            if isinstance(made, Plan) and work(made) < least:
                best, least, chosen = made, work(made), tried
    return best


def _planned(formula: Formula, ways: Mapping[Node, Way]) -> Plan | Declined:
    rewritten = without_steps(formula, ways)
    if isinstance(rewritten, Declined):
        return rewritten
    made = _in_order(rewritten.formula, rewritten.origins)
    stored = next((node for node in made.graph.nodes() if isinstance(node.op, Between)), None)
    if stored is not None:
        return Declined("what the states are at each position is no sum that goes chunk by chunk", linear=True)
    pairs = zip(made.graph.outputs, formula.graph.outputs, strict=True)
    graph = replace(made.graph, outputs=tuple(over_batch(now, text, formula.builder) for now, text in pairs))
    steps = tuple(sorted((*rewritten.steps, *made.steps), key=lambda step: step.span))
    return replace(made, formula=replace(made.formula, graph=formula.graph), graph=graph, steps=steps)


def work(made: Plan) -> float:
    """What evaluating a plan takes at sizes of the kind that models have, in operations.

    An operation of torch costs about as much as CALL operations on numbers, whatever it does: that is what a recurrence
    pays at every step.
    """
    sequence = Counted(made.formula)
    canonical = made.formula.facts.canonical
    known = {name: max(1.0, float(value)) for name, value in made.formula.constants.items()}

    def at(size: Poly) -> float:
        size = canonical(size)
        sizes = {s: TYPICAL_SEQUENCE if s in sequence.names else TYPICAL_SIZE for s in size.symbols()}
        return size.evaluate(sizes | {s: known[s] for s in size.symbols() if s in known})

    def cost(nodes: Iterable[Node], steps: float) -> float:
        total = 0.0
        for node in nodes:
            operands = [operand.type for operand in node.inputs]
            if isinstance(node.op, Scan):
                times = steps * at(Poly.symbol(node.op.axis))
                total += times * CALL + cost(node.op.step.nodes(), times)
            elif node.inputs and not node.op.is_view() and (node.axes or node.type.batched):
                moved = node.type.volume() + node.op.workspace(node.type, *operands)
                moved = moved + sum((operand.volume() for operand in operands), ZERO)
                batch = BATCH if node.type.batched else 1.0
                total += steps * (CALL + batch * (at(node.op.flops(node.type, *operands)) + TRAFFIC * at(moved)))
        return total

    return cost(made.graph.nodes(), 1.0)


def _users(graph: Graph) -> dict[Node, list[Node]]:
    """For every node of the graph and of the steps of its recurrences, the nodes that read it."""
    users: dict[Node, list[Node]] = {node: [] for node in deep(graph.nodes())}
    for node in users:
        for operand in (*node.inputs, *node.op.inside()):
            users[operand].append(node)
    return users


def of_text(formula: Formula) -> Formula:
    """The formula without the axes that a plan added."""
    derived = {axis: size for axis, size in formula.derived.items() if axis not in formula.introduced}
    return replace(formula, derived=derived)


def for_constants(
    formula: Formula, graph: Graph, steps: Sequence[Step], consts: Mapping[str, int | float] | None
) -> tuple[Formula, Graph, Sequence[Step]]:
    """A plan for other constants: it may rest on their values, as a decay rests on the sign of its base."""
    other = {
        name: value
        for name, value in (consts or {}).items()
        if isinstance(value, type(formula.constants.get(name))) and value != formula.constants[name]
    }
    if not other or not all(map(isfinite, other.values())):
        return formula, graph, steps
    text = of_text(formula)
    if graph is formula.graph:
        return text, graph, steps
    made = plan(replace(text, constants={**formula.constants, **other}))
    return made.formula, made.graph, made.steps


def _in_order(formula: Formula, origins: Mapping[Node, Node] | None = None) -> Plan:
    """The cheapest evaluation of every value. origins: of nodes that are not of the text, what they stand for.

    What masks say of the values that they show is used where it leads to another algorithm, and where no value is
    computed that is right under its mask only.
    """
    best = _spelled(formula, Assumed(formula.graph), origins or {})
    told = assumed(formula.graph, formula.builder)
    if not told.trace:
        return best
    made = _spelled(formula, told, origins or {})
    if told.guarded:
        return best if told.guarded.intersection(made.graph) or not _grows_less(made, best) else made
    return made if work(made) < work(best) else best


def _grows_less(one: Plan, other: Plan) -> bool:
    """Whether the time of one plan grows less with the sequence than that of another one."""
    small, large = (
        Counted(made.formula).growth(
            Poly.total(node.op.flops(node.type, *[operand.type for operand in node.inputs]) for node in made.graph)
        )
        for made in (one, other)
    )
    return small != large and all(any(grows_at_most(term, bound) for bound in large) for term in small)


def _spelled(formula: Formula, told: Assumed, origins: Mapping[Node, Node]) -> Plan:
    """The cheapest evaluation of a graph that stands for the text.

    What spells a softmax becomes one, unless there are sums in which no map of exponentials is stored.
    """
    text = replace(formula, graph=told.graph)
    safe = shifted(text)
    spelled = recognised(formula, safe.graph)
    stands_for = {new: safe.origins.get(old, old) for new, old in spelled.origins.items()}
    came = {new: told.origins.get(old, old) for new, old in {**stands_for, **safe.origins}.items()}
    safe = replace(safe, graph=spelled.graph, origins={**told.origins, **came})
    made = _Planner(formula, safe, origins, (*told.trace, *spelled.trace)).run()
    if not safe.ratios and not spelled.trace:
        return made
    plain = _Planner(formula, Shifted(told.graph, (), told.origins), origins, told.trace).run()
    stored = any(node.type.batched for node in superlinear(plain.formula, plain.graph))
    return made if stored or work(made) < work(plain) else plain


class _Planner:
    def __init__(
        self, formula: Formula, safe: Shifted, origins: Mapping[Node, Node], trace: Sequence[Rewrite] = ()
    ) -> None:
        self.formula = formula
        self.builder = formula.builder
        self.sequence = Counted(formula)
        self.shifted = safe
        self.trace = trace
        self.graph = self.shifted.graph
        self.users = _users(self.graph)
        known = {*formula.fixed, *formula.bound, *formula.derived, *formula.introduced, *formula.constants}
        for node in self.users:
            known.update(node.axes)
        self.names = Names(known)
        self.planned: dict[Node, Node] = {}
        self.origins: dict[Node, Node] = {**self.shifted.origins, **origins}
        self.steps: list[Step] = []
        self.sizes: dict[str, float] = {}
        self.coupling: dict[Node, bool] = {}
        self.ranges: dict[Node, Range] = {}
        self.local: dict[Node, Local | None] = {}
        self.pairs: frozenset[tuple[str, str]] = frozenset()  # of blocks
        self.called: dict[Node, str] = {}  # names of what the plan makes
        self.settled: set[Node] = set()  # made by the choice of an order, which is not to be made again

    def run(self) -> Plan:
        for one in self.trace:
            self._record(one.before, one.after, {one.rule: one.why})
        for ratio in self.shifted.ratios:
            self._record(ratio.written, ratio.node, {RULE: WHY})
        for output in self.graph.outputs:
            self._visit(output)
        outputs = tuple(over_batch(self.planned[node], node, self.builder) for node in self.graph.outputs)
        names: dict[Node, str] = {}
        for node, name in (*self.graph.names.items(), *self.called.items()):
            if node in self.planned:
                names.setdefault(self.planned[node], name)
        graph = self._scaled(Graph(outputs, names))
        names = dict(graph.names)
        formula = self.formula
        if self.names.sizes:
            facts = formula.facts
            derived = dict(formula.derived)
            for axis, size in self.names.sizes.items():
                facts = facts.define(Poly.symbol(axis), size) or facts
                derived[axis] = size
            introduced = formula.introduced.union(self.names.sizes)
            formula = replace(formula, facts=facts, derived=derived, introduced=introduced)
        blocks = groups(formula, graph)
        for group in blocks:
            self._record_blocks(group, names)
        steps = tuple(sorted(self.steps, key=lambda step: step.span))
        return Plan(formula, graph, self.origins, steps, in_rows(formula, graph, blocks))

    def _scaled(self, graph: Graph) -> Graph:
        """The plan with numbers in small factors of the products that they multiply."""
        scaled = scales.scaled_early(graph, self.builder, self._is_moderate, self._entries)
        for before, after in scaled.moved:
            self._record(self.origins.get(before, before), after, {scales.RULE: scales.WHY})
        for before, after in scaled.made.items():
            self.origins.setdefault(after, self.origins.get(before, before))
        return scaled.graph

    def _is_moderate(self, size: Poly) -> bool:
        """Whether a size or constant is neither large nor tiny at any length of the sequence."""
        constants = self.formula.constants
        known = {name: constants[name] for name in size.symbols() if name in constants}
        if self.formula.facts.canonical(size).symbols() & self.sequence.names:
            return False
        return known.keys() != size.symbols() or 1 / scales.MOST <= abs(size.evaluate(known)) <= scales.MOST

    def _entries(self, node: Node) -> float:
        """How many entries a value has, at representative sizes."""
        return prod(map(self._size, node.axes)) * (BATCH if node.type.batched else 1.0)

    def _visit(self, root: Node) -> None:
        """Plan a node and what the plan of it needs; deep chains of names make no deep recursion."""
        stack: list[tuple[Node, Node | None]] = [(root, None)]
        while stack:
            node, chosen = stack.pop()
            if node in self.planned:
                continue
            chosen = chosen if chosen is not None else self._choose(node)
            missing = [operand for operand in chosen.inputs if not self._ready(operand)]
            if missing:
                stack.append((node, chosen))
                stack.extend((operand, None) for operand in reversed(missing))
                continue
            result = self.builder.make(chosen.op, *(self.planned[operand] for operand in chosen.inputs))
            result = causal.normalised(result, self.builder) or polynomial.normalised(result, self.builder) or result
            self.planned[node] = result
            if chosen is not node:
                self.planned.setdefault(chosen, result)
            self.origins.setdefault(result, self.origins.get(node, node))

    def _ready(self, node: Node) -> bool:
        return node in self.planned

    def _choose(self, node: Node) -> Node:
        """The node itself, or a cheaper evaluation of the same sum of products."""
        if isinstance(node.op, Scan):
            return self._scan(node, node.op)
        if isinstance(node.op, Max) and self._couples(node.inputs[0]):
            return self._maximum(node)
        if not is_sum(node) or node in self.settled:
            return node
        chosen, form = self._ordered(node)
        local = self._localised(node, chosen)
        if local is not None:
            return local
        if chosen is node:
            return node
        apart: set[Node] = set()
        for original, written in form.apart:
            apart.update(made for made in topological([written]) if made not in self.users)
            for made in apart:
                self.origins.setdefault(made, original)
        softmax = next((f.node for t in form.terms for f in t.factors if isinstance(f.node.op, Softmax)), None)
        for made in topological([chosen]):
            if isinstance(made.op, FusedSoftmax) and softmax is not None:
                self.origins.setdefault(made, self.origins.get(softmax, softmax))
            if isinstance(made.op, SumOfPairs):
                pairs = next(f.node for t in form.terms for f in t.factors if self._couples(f.node))
                self.origins.setdefault(made, self.origins.get(pairs, pairs))
            if made not in self.users:
                self.origins.setdefault(made, self.origins.get(node, node))
                if made not in apart:
                    self.settled.add(made)
        self._record(node, chosen, self._reasons(chosen, form))
        return chosen

    def _maximum(self, node: Node) -> Node:
        """The maximum of a map over queries and keys, without the map where there is a way."""
        found = maximum.match(node, self.builder, self.formula.facts)
        if found is None:
            return node
        self._record(node, found.node, found.rules)
        return found.node

    def _ordered(self, node: Node) -> tuple[Node, SumProduct]:
        """The node in the cheapest order of evaluation; the node itself, if it is as cheap as any.

        Which of two orders takes less work may rest on sizes that nobody has told, as the rank of `x @ a @ b`. Then
        the order of the text stands: who writes two factors may know that the axis between them is short.
        """
        before = self.names.copy()
        chosen, form = self._cheapest(node, self._opens)
        if chosen is node or all(map(self._opens_at_once, form.opened[1:])):
            return chosen, form
        after, self.names = self.names, before
        kept, kept_form = self._cheapest(node, self._opens_at_once)
        factors = {unmoved(factor.node) for term in form.terms for factor in term.factors}
        leaves = frozenset(factors.intersection(topological([chosen])))  # what an algorithm absorbs is computed there
        if not self._never_more(chosen, kept, leaves):
            return kept, kept_form
        self.names = after
        return chosen, form

    def _cheapest(self, node: Node, opens: Callable[[Node], bool]) -> tuple[Node, SumProduct]:
        """The cheapest evaluation of the normal form in which some nested sums are opened."""
        form = normal_form(node, self.builder, self.names, Policy(opens, self._couples, self._range_of))
        if self._is_plain(form):
            return node, form
        setting = Setting(
            builder=self.builder,
            size=self._size,
            facts=self.formula.facts,
            constants=self.formula.constants,
            only_here=self._only_here,
            couples=self._couples,
            names=self.names,
        )
        chosen, cost = evaluate(form, setting)
        if chosen.type.kind is not node.type.kind or cost >= written_cost(node, form, self._size):
            return node, form
        return chosen, form

    def _opens_at_once(self, node: Node) -> bool:
        """Whether opening a nested sum is right at any sizes: it couples, or is summed further as it is."""
        return self._opens(node) and (
            self._couples(node) or all(isinstance(user.op, Sum | Mean) for user in self.users.get(node, []))
        )

    def _never_more(self, chosen: Node, kept: Node, leaves: frozenset[Node]) -> bool:
        """Whether one evaluation takes no more work than another one, also where an axis is short or long."""

        def costs(size: Callable[[str], float]) -> list[float]:
            return [graph_cost(made, leaves, size, absorbed=True) for made in (chosen, kept)]

        less, more = costs(self._size)
        if less > more or less * FASTER <= more:
            return less <= more
        nodes = topological([chosen, kept])
        symbols = {symbol for node in nodes for axis in node.axes for symbol in self._extent(axis).symbols()}
        unknown = sorted(symbols - self.sequence.names - self.formula.constants.keys())
        for symbol in unknown:
            for extreme in (SHORT, LONG):
                less, more = costs(partial(self._at, told={symbol: extreme}))
                if less > more:
                    return False
        return True

    def _localised(self, node: Node, chosen: Node) -> Node | None:
        """The sum over blocks of queries and the keys that they see, where that is clearly cheaper."""
        local = self._local(node)
        if local is None:
            return None
        costs = [graph_cost(n, local.leaves, self._size, absorbed=True) for n in (local.node, chosen)]
        if costs[0] * CLEARLY >= costs[1]:
            return None
        fresh = [made for made in topological([local.node]) if made not in self.users]
        for made in fresh:
            self.origins.setdefault(made, local.counterpart.get(made, node))
            self.users[made] = []
        for made in fresh:
            for operand in made.inputs:
                if operand in fresh:
                    self.users[operand].append(made)
        self.called.update(local.names)
        self.pairs |= local.pairs
        self._record(node, local.inner, local.rules)
        return local.node

    def _local(self, node: Node) -> Local | None:
        """The sum over blocks, if every query sees few of the keys."""
        if node not in self.local:
            formula = self.formula
            self.local[node] = None
            if isinstance(node.op, Contraction | Sum) and any(self._couples(operand) for operand in node.inputs):
                self.local[node] = localise(node, self.builder, formula.facts, formula.constants, self.names)
        return self.local[node]

    def _scan(self, node: Node, op: Scan) -> Node:
        """The same recurrence with a planned step."""
        for result in op.step.results:
            self._visit(result)
        results = tuple(self.planned[result] for result in op.step.results)
        return self.builder.make(replace(op, step=Region(op.step.arguments, results)), *node.inputs)

    def _is_plain(self, form: SumProduct) -> bool:
        """Whether there is nothing to choose: one sum over two factors, neither of which couples."""
        if len(form.opened) > 1 or form.rules or len(form.terms) > 1 or len(form.terms[0].factors) > 2:
            return False
        return not any(self._couples(factor.node) for factor in form.terms[0].factors)

    def _opens(self, node: Node) -> bool:
        """A nested sum is opened if nothing else needs it, or if building it costs more than linear.

        One that is local stays closed: its order is chosen inside the blocks.
        """
        users = self.users.get(node)
        if users is None or self._local(node) is not None:
            return False
        return (len(users) == 1 and node not in self.graph.outputs) or self._couples(node)

    def _only_here(self, node: Node) -> bool:
        """Whether one sum reads a value, and no other, nor its products with other factors."""
        while True:
            users = self.users.get(node)
            if users is None or len(users) != 1 or node in self.graph.outputs:
                return False
            [node] = users
            if not isinstance(node.op, Multiply | Divide | Negative | Reorder | Rename):
                return True

    def _couples(self, node: Node) -> bool:
        """Whether the value itself grows faster than the tokens, or couples the queries of a block with their keys."""
        if node not in self.coupling:
            in_block = any(query in node.axes and key in node.axes for query, key in self.pairs)
            self.coupling[node] = in_block or self.sequence.is_wide(node.axes)
        return self.coupling[node]

    def _range_of(self, node: Node) -> Range:
        return ranges((node,), self.formula.constants, self.ranges)[node]

    def _size(self, axis: str) -> float:
        """A representative size: facts are obeyed, sequence axes are long."""
        if axis not in self.sizes:
            self.sizes[axis] = self._at(axis, {})
        return self.sizes[axis]

    def _extent(self, axis: str) -> Poly:
        """The size of an axis, by what the facts say of it."""
        size = self.names.sizes.get(axis) or Poly.symbol(axis)
        return size if axis in self.formula.constants else self.formula.facts.canonical(size)

    def _at(self, axis: str, told: Mapping[str, float]) -> float:
        """A representative size where those of some symbols are told."""
        size = self._extent(axis)
        values: dict[str, float] = {}
        for symbol in size.symbols():
            if symbol in self.formula.constants:
                values[symbol] = max(1.0, float(self.formula.constants[symbol]))
            else:
                values[symbol] = SEQUENCE_SIZE if symbol in self.sequence.names else told.get(symbol, OTHER_SIZE)
        try:
            return max(1.0, float(size.evaluate(values)))
        except OverflowError:
            return float("inf")

    def _reasons(self, chosen: Node, form: SumProduct) -> dict[str, str]:
        made = [new.op for new in topological([chosen]) if new not in self.users]
        reasons = {rule: REASONS[rule] for rule in form.rules}
        reasons |= {op.rule: op.why for op in made if isinstance(op, Lowering)}
        reasons |= [RUNNING_SUM for op in made if isinstance(op, CumulativeSum)]
        reasons |= [ORDER for op in made if isinstance(op, Contraction)]
        return reasons or dict([ORDER])

    def _record_blocks(self, group: Group, names: Mapping[Node, str]) -> None:
        origins = self.formula.origins
        span = origins.get(self.origins.get(group.last, group.last)) or origins.get(group.last)
        if span is None:
            return
        part = f"{ROWS} of {group.query} at a time"
        if group.key is not None:
            part += f", {group.key} up to the last of them"

        def write() -> tuple[str, str]:
            before = text(group.last, names, open=True)
            return before, f"{before}, {part}"

        self.steps.append(Step(RowBlocks.rule, span, RowBlocks.why, write))

    def _record(self, node: Node, chosen: Node, reasons: Mapping[str, str]) -> None:
        span = self.formula.origins.get(self.origins.get(node, node))
        if span is None:
            return
        names = {**self.called, **self.formula.graph.names, **self.graph.names}
        self.steps.append(Step(", ".join(reasons), span, "; ".join(reasons.values()), sides(node, chosen, names)))
