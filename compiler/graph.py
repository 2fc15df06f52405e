"""The typed graph: immutable, hash-consed nodes, typed when they are made.

A plan is a graph of the same nodes, so that cost, drawing, evaluation and code generation work on
the formula as written and as compiled alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from .ops.base import Op
from .sizes import Poly
from .types import Type

if TYPE_CHECKING:
    import networkx


class Node:
    """An operation applied to nodes. Two nodes of one builder with equal content are one object."""

    __slots__ = ("_digest", "index", "inputs", "op", "type")

    def __init__(self, op: Op, inputs: tuple[Node, ...], type_: Type, index: int) -> None:
        self.op = op
        self.inputs = inputs
        self.type = type_
        self.index = index  # order of creation: operands come before the nodes that use them
        self._digest: str | None = None

    @property
    def axes(self) -> tuple[str, ...]:
        return self.type.axes

    def __repr__(self) -> str:
        operands = ", ".join(f"%{node.index}" for node in self.inputs)
        return f"%{self.index} = {self.op}({operands}) : {self.type}"


class Builder:
    """Makes nodes and remembers them. One builder serves one formula through every phase."""

    def __init__(self, limit: int = 20_000) -> None:
        self._table: dict[tuple[Op, tuple[int, ...]], Node] = {}
        self._limit = limit

    def make(self, op: Op, *inputs: Node) -> Node:
        """The node of this operation on these operands. Errors: Reject from typing; GraphTooLarge."""
        key = (op, tuple([node.index for node in inputs]))
        node = self._table.get(key)
        if node is None:
            if len(self._table) >= self._limit:
                raise GraphTooLarge(self._limit)
            node = Node(op, inputs, op.infer(*[n.type for n in inputs]), len(self._table))
            self._table[key] = node
        return node


class GraphTooLarge(Exception):
    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit} operations")
        self.limit = limit


def topological(outputs: Iterable[Node]) -> list[Node]:
    """Every node that the outputs need, operands first: the order in which a graph is evaluated.

    Depth first from the outputs, so that a value is made shortly before it is used.
    """
    done: set[int] = set()
    found: list[Node] = []
    stack = [*outputs][::-1]
    while stack:
        node = stack[-1]
        missing = [] if node.index in done else [o for o in node.inputs if o.index not in done]
        if missing:
            stack += reversed(missing)
            continue
        stack.pop()
        if node.index not in done:
            done.add(node.index)
            found.append(node)
    return found


@dataclass(frozen=True)
class Graph:
    """The nodes that compute some outputs.

    names: what the text calls a node, for reports and for variables of generated code.
    """

    outputs: tuple[Node, ...]
    names: Mapping[Node, str]

    @cached_property
    def _order(self) -> tuple[Node, ...]:
        return tuple(topological(self.outputs))

    def nodes(self) -> list[Node]:
        return list(self._order)

    def users(self) -> dict[Node, list[Node]]:
        """For every node, the nodes that read it (one entry per operand position)."""
        users: dict[Node, list[Node]] = {node: [] for node in self.nodes()}
        for node in users:
            for operand in node.inputs:
                users[operand].append(node)
        return users

    def __iter__(self) -> Iterator[Node]:
        return iter(self._order)

    def digest(self) -> str:
        """A stable hash of what is computed: names of local variables and the order of the operands
        of commutative operations do not count."""
        return _combine("graph", [digest(node) for node in self.outputs])

    def to_networkx(self) -> networkx.DiGraph:
        """A view for analysis and drawing: nodes are indices with `op`, `type`, `name`, `label`;
        edges run from operand to user and carry the operand's `position`."""
        import networkx

        view = networkx.DiGraph()
        for node in self.nodes():
            view.add_node(
                node.index,
                op=type(node.op).__name__,
                attributes=attributes(node.op),
                type=str(node.type),
                name=self.names.get(node, ""),
                output=node in self.outputs,
            )
        for node in self.nodes():
            for position, operand in enumerate(node.inputs):
                if view.has_edge(operand.index, node.index):
                    view.edges[operand.index, node.index]["positions"] += (position,)
                else:
                    view.add_edge(operand.index, node.index, positions=(position,))
        return view


def attributes(op: Op) -> dict[str, object]:
    """The fields of an operation, as data that JSON can carry."""

    def plain(value: object) -> object:
        if isinstance(value, Poly):
            return str(value)
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return value if isinstance(value, str | int | float | bool | None) else str(value)

    given = {f.name: getattr(op, f.name) for f in fields(op)}
    return {name: plain(value) for name, value in given.items() if not (op.inside() and is_dataclass(value))}


def digest(node: Node) -> str:
    """The stable hash of one value."""
    if node._digest is None:
        for each in topological([node]):
            if each._digest is None:
                each._digest = _content(each, [_known(operand) for operand in each.inputs])
    return _known(node)


def _content(node: Node, operands: list[str]) -> str:
    if node.op.commutative:
        operands.sort()
    content = f"{type(node.op).__name__}{sorted(attributes(node.op).items())}{node.type.kind.value}"
    return _combine(content, operands + _inside(node.op))


def _inside(op: Op) -> list[str]:
    """Of the results of what an operation runs many times. What is given there counts by its place, not by its name."""
    found = {node: f"{place} {node.type} {node.type.batched}" for place, node in enumerate(op.given_inside())}
    for node in topological(op.inside()):
        if node not in found:
            found[node] = _content(node, [found[operand] for operand in node.inputs])
    return [found[result] for result in op.inside()]


def _known(node: Node) -> str:
    assert node._digest is not None
    return node._digest


def _combine(content: str, parts: list[str]) -> str:
    return hashlib.sha256("\n".join([content, *parts]).encode()).hexdigest()[:32]
