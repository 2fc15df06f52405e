"""Maps over queries and keys, a block of queries at a time: how a plan is run, not what it computes.

A plan may hold values over every pair of a query and a key: scores that no algorithm takes apart, biases and masks
made of positions or data. Where all that reads them works on each query by itself, up to a value that has no such
pairs any more, the whole of it is run for a block of queries after the other, and only a block's pairs are stored.
Where later keys are hidden from every query, a block reads the keys up to its own end.

Plans are looked at as they are: this is done last, when a module is written or its memory is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..facts.cost import Sequence as Counted
from ..facts.dependence import moved_along
from ..formula import Formula
from ..graph import Builder, Graph, Node, topological
from ..ops.base import Leaf
from ..ops.contraction import Contraction
from ..ops.layout import Broadcast, Convert, Rename, Reorder
from ..ops.leaves import Literal, Size
from ..ops.normalisations import Softmax
from ..ops.reductions import Sum
from ..regions import Region as Seen
from ..regions import Sight, region
from ..scan import Argument, Region, live
from ..sizes import Poly, Truth
from ..types import Kind, Type
from .additive import SumOfPairs
from .fused import FusedSoftmax
from .lagged import lagged
from .localise import Support
from .lowering import Lowering

ROWS = 128  # queries of a block on a processor
MAX_NODES = 64  # of what is run in blocks


@dataclass(frozen=True)
class RowBlocks(Lowering):
    """row_blocks(x, y, ...): a graph of operations that work on each query by itself, for a block of them at a time.

    Formula: `out[n] = part(x[n], y, ...)`.

    key: the axis of which a block reads the elements up to its last query's position only, since the others have no
    influence; None where it reads all. The arguments of `part` are the operands in the same order.
    """

    rule: ClassVar[str] = "blocks of queries"
    why: ClassVar[str] = (
        "every query is computed by itself, so its row of the map is needed for it alone; training keeps the rows for "
        "the gradients"
    )
    variadic: ClassVar[bool] = True
    kernel: ClassVar[str] = "row_blocks"
    query: str
    key: str | None
    part: Region

    def infer(self, *operands: Type) -> Type:
        return self.part.results[0].type

    def inside(self) -> tuple[Node, ...]:
        return self.part.results

    def given_inside(self) -> tuple[Node, ...]:
        return self.part.arguments

    def flops(self, result: Type, *operands: Type) -> Poly:
        nodes = self.part.nodes()
        return sum((n.op.flops(n.type, *(o.type for o in n.inputs)) for n in nodes), Poly.constant(0))

    def workspace(self, result: Type, *operands: Type) -> Poly:
        block = live(self.part).substitute({self.query: Poly.constant(ROWS)})
        return block + result.volume()  # the blocks are joined at the end

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return self.part.arguments[index].type.kind


@dataclass(frozen=True)
class Group:
    """Values of a plan that are run together in blocks.

    members: operands first, the last is the one that others read; read: what they need besides numbers.
    """

    query: str
    key: str | None
    members: tuple[Node, ...]
    read: tuple[Node, ...]

    @property
    def last(self) -> Node:
        return self.members[-1]


def groups(formula: Formula, graph: Graph) -> tuple[Group, ...]:
    """What is run in blocks of queries; nothing where the text itself is run."""
    return () if graph is formula.graph else _Finder(formula, graph).run()


def in_rows(formula: Formula, graph: Graph, known: Sequence[Group] | None = None) -> Graph:
    """The graph with every group as one operation. known: its groups, where they are known already."""
    found = {group.last: group for group in (groups(formula, graph) if known is None else known)}
    if not found:
        return graph
    names = dict(graph.names)
    made: dict[Node, Node] = {}
    builder = formula.builder
    hidden = {node for group in found.values() for node in group.members if node is not group.last}
    for node in graph.nodes():
        if node in hidden:
            continue
        operands = [made[operand] for operand in node.inputs] if node not in found else []
        if node in found:
            made[node] = _of_lags(found[node], made, formula) or _operation(found[node], made, names, builder)
        else:
            made[node] = builder.make(node.op, *operands)
        if node in graph.names:
            names[made[node]] = graph.names[node]
    return Graph(tuple(made[output] for output in graph.outputs), names)


def _of_lags(group: Group, made: Mapping[Node, Node], formula: Formula) -> Node | None:
    """The node that runs a group by tables of lags, if it is a softmax whose bias is one."""
    last = group.last
    if not isinstance(last.op, FusedSoftmax) or any(operand in group.members for operand in last.inputs[:3]):
        return None
    return lagged(last.op, [made[operand] for operand in last.inputs[:3]], last, formula.facts, formula.builder)


def _operation(group: Group, made: Mapping[Node, Node], names: dict[Node, str], builder: Builder) -> Node:
    """The node that runs a group. names: also gets those of the values inside."""
    taken: set[str] = set()
    inner: dict[Node, Node] = {}
    for operand in group.read:
        argument = Argument(_name(operand, names, taken), operand.type.kind, operand.axes, operand.type.batched)
        inner[operand] = builder.make(argument)
    for node in group.members:
        for operand in node.inputs:
            inner.setdefault(operand, operand)  # numbers
        inner[node] = builder.make(node.op, *(inner[operand] for operand in node.inputs))
        if node in names and node is not group.last:
            names[inner[node]] = names[node]
    part = Region(tuple(inner[operand] for operand in group.read), (inner[group.last],))
    return builder.make(RowBlocks(group.query, group.key, part), *(made[operand] for operand in group.read))


def _name(node: Node, names: Mapping[Node, str], taken: set[str]) -> str:
    while isinstance(node.op, Reorder | Convert) and node not in names:
        [node] = node.inputs
    wanted = names.get(node) or getattr(node.op, "name", "") or getattr(node.op, "axis", "").lower() or "x"
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    taken.add(name)
    return name


# -- what can be run in blocks -------------------------------------------------------------------------------


class _Finder:
    def __init__(self, formula: Formula, graph: Graph) -> None:
        self.formula = formula
        self.graph = graph
        self.counted = Counted(formula)
        self.nodes = graph.nodes()

    def run(self) -> tuple[Group, ...]:
        pairs = [node for node in self.nodes if self._is_wide(node) and not node.op.is_given()]
        if not pairs:
            return ()
        self.users = self.graph.users()
        self.order = {node: index for index, node in enumerate(self.nodes)}
        found: list[Group] = []
        used: set[Node] = set()
        for connected in _connected(pairs):
            group = None if used & connected else self._group(connected)
            if group is not None and not used & set(group.members):
                found.append(group)
                used |= set(group.members)
        return tuple(found)

    def _is_wide(self, node: Node) -> bool:
        """Whether a value grows faster than the tokens."""
        return self.counted.is_wide(node.axes)

    def _group(self, pairs: set[Node]) -> Group | None:
        long = [axis for axis in next(iter(pairs)).axes if axis in self._long(next(iter(pairs)))]
        for query in long:
            if all(query in node.axes for node in pairs):
                members = self._closed(query, pairs)
                if members is not None:
                    ordered = sorted(members, key=self.order.__getitem__)
                    key = next((m for m in long if m != query and self._is_cut(query, m, ordered)), None)
                    inputs = dict.fromkeys(operand for node in ordered for operand in node.inputs)
                    read = (o for o in inputs if o not in members and not self._is_number(o))
                    return Group(query, key, tuple(ordered), tuple(read))
        return None

    def _is_number(self, node: Node) -> bool:
        """Whether a value is a number that has nothing to do with the sequence, as sqrt(D): a block makes it itself."""
        if node.axes or node.type.batched:
            return False
        inner = topological([node])
        leaves = all(isinstance(each.op, Literal | Size) for each in inner if not each.inputs)
        return leaves and not any(self._grows(size) for each in inner for size in each.op.scalars())

    def _long(self, node: Node) -> list[str]:
        """The axes of a value that grow with the sequence."""
        return [axis for axis in node.axes if self._grows(Poly.symbol(axis))]

    def _closed(self, query: str, pairs: set[Node]) -> set[Node] | None:
        """The pairs with what reads them, up to a single value without pairs, if every query is computed by itself."""
        members, border = set(pairs), list(pairs)
        while len(members) <= MAX_NODES:
            if any(not self._by_query(node, query) for node in border):
                return None
            ends = [n for n in members if n in self.graph.outputs or any(u not in members for u in self.users[n])]
            if any(self._is_wide(node) and node in self.graph.outputs for node in ends):
                return None  # the map is a result
            if len(ends) == 1 and not self._is_wide(ends[0]):
                return members if self._is_worth(query, members, ends[0]) else None
            later = {user for node in ends for user in self.users[node] if user not in members}
            if not later:
                return None  # several results
            # a value without pairs waits for the others, which may meet it
            wide = {user for n in ends if self._is_wide(n) for user in self.users[n] if user not in members}
            border = list(wide or later)
            members.update(border)
        return None

    def _is_worth(self, query: str, members: set[Node], last: Node) -> bool:
        """Whether blocks of queries are small: the query has no other long axis, and no map comes from outside."""
        if self._long(last) != [query]:
            return False
        outside = {o for node in members for o in node.inputs if o not in members}
        computed = any(self._is_wide(o) and not o.op.is_given() for o in outside)
        return not computed and any(o.type.batched for o in outside)

    def _by_query(self, node: Node, query: str) -> bool:
        """Whether every entry along the query's axis is computed from the same entry of the operands."""
        op = node.op
        if query not in node.axes or any(map(self._grows, op.scalars())):
            return False
        if isinstance(op, FusedSoftmax | SumOfPairs):
            return op.query == query
        if isinstance(op, Lowering | Leaf) or op.inside():
            return False
        return _leaves_alone(node, query)

    def _grows(self, size: Poly) -> bool:
        return bool(self.formula.facts.canonical(size).symbols() & self.counted.names)

    # -- keys that no query of a block sees ------------------------------------------------------------------

    def _is_cut(self, query: str, key: str, members: Sequence[Node]) -> bool:
        """Whether the elements along the key's axis behind a query's own position have no influence on it."""
        if key in members[-1].axes:
            return False
        support = Support(Sight(query, key, self.formula.facts, self.formula.constants))
        return all(self._ignores_later(node, key, support) for node in members)

    def _ignores_later(self, node: Node, key: str, support: Support) -> bool:
        op = node.op
        if not any(key in operand.axes for operand in node.inputs) or _leaves_alone(node, key):
            return True
        if isinstance(op, Contraction | Sum):
            return self._is_earlier(support.of_product(node.inputs))
        if isinstance(op, Softmax):
            return self._is_earlier(support.of(node))
        if isinstance(op, SumOfPairs):
            return op.key == key
        if isinstance(op, FusedSoftmax) and op.key == key and op.given:
            given = node.inputs[3]
            if op.given[0] == "sink":
                return False
            if op.given[0] == "mask":
                return self._is_earlier(region(given, support.sight))
            return self._is_earlier(support.of(given, blank=True))
        return False

    def _is_earlier(self, seen: Seen | None) -> bool:
        """Whether only keys up to the query's own position are seen."""
        if seen is None or seen.least is None or seen.columns is not None:
            return False
        return self.formula.facts.at_least(seen.least, Poly.constant(0)) is Truth.YES


def _leaves_alone(node: Node, axis: str) -> bool:
    """Whether every entry of a value along an axis is computed from the same entry of the operands."""
    op = node.op
    if isinstance(op, Lowering):
        return False
    if isinstance(op, Rename):
        return axis not in (op.source, op.target)
    if op.elementwise or isinstance(op, Broadcast):
        return True
    moved = frozenset(op.axes) if isinstance(op, Contraction) else moved_along(op)
    return moved is not None and axis not in moved and any(axis in operand.axes for operand in node.inputs)


def _connected(nodes: Sequence[Node]) -> list[set[Node]]:
    """Groups of nodes that read each other, in order."""
    found: dict[Node, set[Node]] = {}
    for node in nodes:
        group = {node}
        for operand in node.inputs:
            if operand in found and operand not in group:
                group |= found[operand]
        for member in group:
            found[member] = group
    unique = {id(group): group for group in found.values()}
    return list(unique.values())
