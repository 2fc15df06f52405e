"""What a generated module holds and takes, and the expressions that reach it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .. import pyast
from ..formula import Formula, Stored, Value
from ..graph import Graph, Node, topological
from ..lowerings.rows import RowBlocks
from ..ops.leaves import Buffer, Declared, Input, Parameter, Position
from ..scan import Argument, Scan, deep
from .body import Body, Frame, Precision, scan_of
from .names import ARGUMENT_RESERVED, ATTRIBUTE_RESERVED, Names, hint
from .settle import SizePlan, plan_sizes


@dataclass(frozen=True)
class Holdings:
    """Names and places that the methods of one module share.

    tensors: attribute names of parameters, buffers and constants; sizes: those of sizes and constants.
    references: expressions of the sizes that the module holds, also under the names of their copies.
    inputs: expressions of forward's arguments.
    constants: values that are computed once, because they depend only on sizes that the module holds.
    fixed: nodes that depend on positions, sizes and constants; dynamic: nodes that depend on a size
        that is known only when the module is called.
    library: names of functions that the module may carry.
    loops: names of the methods that run recurrences and blocks.
    """

    formula: Formula
    graph: Graph
    plan: SizePlan
    tensors: Mapping[Node, str]
    sizes: Mapping[str, str]
    references: Mapping[str, ast.expr]
    inputs: Mapping[Node, ast.expr]
    constants: tuple[Node, ...]
    fixed: frozenset[Node]
    dynamic: frozenset[Node]
    library: frozenset[str]
    loops: Mapping[Scan | RowBlocks, str]

    @property
    def stored(self) -> dict[Node, ast.expr]:
        """Expressions of the tensors that the module holds."""
        return {node: pyast.name(f"self.{name}") for node, name in self.tensors.items()}

    @property
    def declared(self) -> tuple[Stored, ...]:
        return (*self.formula.parameters, *self.formula.buffers)

    def signature(self) -> list[tuple[str, str | None]]:
        """The arguments of forward and check."""
        return [("self", None), *((ast.unparse(held), "Tensor") for held in self.inputs.values())]


def hold(formula: Formula, graph: Graph, library: frozenset[str], further: Sequence[Node] = ()) -> Holdings:
    """Choose names, and which values the module computes when it is built.

    further: results of other methods than forward.
    """
    plan = plan_sizes(formula)
    names = Names(ATTRIBUTE_RESERVED)
    # tensors first, since their names are keys of the state dict
    tensors = {item.node: names.take(_declared_name(item.node)) for item in (*formula.parameters, *formula.buffers)}
    # axes that the planner made are copies of others: they need no attribute of their own
    copies = {
        axis: str(size.as_symbol())
        for axis, size in plan.settled.items()
        if size.as_symbol() and axis in formula.derived
    }
    sizes = {
        name: names.take(name) for name in (*plan.given, *plan.constants, *plan.settled) if name not in copies
    }
    references: dict[str, ast.expr] = {name: pyast.name(f"self.{attribute}") for name, attribute in sizes.items()}
    references |= {axis: references[original] for axis, original in copies.items()}
    arguments = Names(ARGUMENT_RESERVED | library)
    inputs: dict[Node, ast.expr] = {
        node: pyast.name(arguments.take(_declared_name(node))) for node in formula.inputs
    }
    every = Graph((*graph.outputs, *further), graph.names)
    nodes = [*every.nodes(), *_initial_nodes(formula)]
    fixed, dynamic = fixed_nodes(nodes), dynamic_nodes(nodes, plan)
    constants = _constants(every, references, fixed, dynamic)
    tensors |= {node: names.take(graph.names.get(node) or _constant_name(node)) for node in constants}
    scans = dict.fromkeys(scan for node in deep(nodes) if (scan := scan_of(node.op)) is not None)
    loops: dict[Scan | RowBlocks, str] = {scan: _loop_name(scan, graph, names) for scan in scans}
    for node in nodes:
        if isinstance(node.op, RowBlocks):
            loops[node.op] = _blocks_name(node, graph, names)
    return Holdings(
        formula, graph, plan, tensors, sizes, references, inputs, constants, fixed, dynamic, library, loops
    )


def _loop_name(scan: Scan, graph: Graph, names: Names) -> str:
    """`scan_y` for the scan that yields y; its step is `scan_y_step`."""
    members = [*scan.step.arguments[: scan.states], *scan.step.results[scan.states :]]
    name = names.take(f"scan_{graph.names.get(members[-1], scan.axis.lower())}")
    names.claim([f"{name}_step"])
    return name


def _blocks_name(node: Node, graph: Graph, names: Names) -> str:
    """`a_by_blocks` for the value a; one block of it is `a_by_blocks_block`."""
    name = names.take(f"{graph.names.get(node, 'result')}_by_blocks")
    names.claim([f"{name}_block"])
    return name


def _declared_name(node: Node) -> str:
    assert isinstance(node.op, Declared)
    return node.op.name


def _initial_nodes(formula: Formula) -> list[Node]:
    values = [item.initial for item in (*formula.parameters, *formula.buffers)]
    return topological(value.node for value in values if isinstance(value, Value))


def fixed_nodes(nodes: Iterable[Node], known: Iterable[Node] = ()) -> frozenset[Node]:
    """Nodes that depend on positions, sizes and constants only; known: arguments that do."""
    found: set[Node] = set(known)
    for node in nodes:
        given = isinstance(node.op, Input | Parameter | Buffer | Argument | Scan)
        if not given and all(operand in found for operand in node.inputs):
            found.add(node)
    return frozenset(found)


def dynamic_nodes(nodes: Iterable[Node], plan: SizePlan) -> frozenset[Node]:
    """Nodes whose value depends on a size that is known only at call time."""
    found: set[Node] = set()
    for node in nodes:
        symbols = {*node.axes}.union(*(size.symbols() for size in node.op.scalars()))
        if isinstance(node.op, Position):
            symbols.add(node.op.axis)
        if symbols - plan.static or any(operand in found for operand in node.inputs):
            found.add(node)
    return frozenset(found)


def _constants(
    graph: Graph, references: Mapping[str, ast.expr], fixed: frozenset[Node], dynamic: frozenset[Node]
) -> tuple[Node, ...]:
    """Fixed tensors over sizes that are known when the module is built, where something else reads them."""
    static = [node for node in graph.nodes() if node in fixed and node not in dynamic]
    trial = Body(built_frame(references, fixed, pyast.name("device"), {}))
    trial.compute(static)
    read = {operand for node in graph.nodes() if node not in static for operand in node.inputs}
    read.update(graph.outputs)
    return tuple(node for node in static if node in read and trial.number(node) is None)


def _constant_name(node: Node) -> str:
    return hint(node, {}) if not isinstance(node.op, Position) else f"position_{node.op.axis}"


def built_frame(
    references: Mapping[str, ast.expr], fixed: frozenset[Node], device: ast.expr, names: Mapping[Node, str]
) -> Frame:
    """The frame of values that are computed when the module is built: in float64."""
    return Frame(
        reference=references,
        stored={},
        names=names,
        notes={},
        fixed=fixed,
        dynamic=frozenset(),
        real=pyast.name("torch.float64"),
        wide=pyast.name("torch.float64"),
        complex=pyast.name("torch.complex128"),
        device=device,
        precisions=(Precision.BUILT, Precision.BUILT),
    )
