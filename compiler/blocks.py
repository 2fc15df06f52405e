"""Typing of `scan` blocks: the lines of a step become a graph with arguments, and one node that runs it.

Inside the block a value that has the scanned axis means its entry at the current position. While the lines are read,
such an entry is a node `Entry` over the outer value; when the block ends, the step is closed: entries, states and
whatever else comes from outside become arguments. What a step computes without them is computed once, outside.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from ..grammar import ast
from ..grammar.diagnostics import Label
from .graph import Node, topological
from .ops.base import Op
from .ops.layout import Broadcast, Convert, Reorder
from .ops.leaves import Literal, Position, Size
from .scan import Argument, Region, Scan, part_of
from .scope import did_you_mean
from .sizes import Poly
from .types import Kind, Type

if TYPE_CHECKING:
    from .elaborate import _Elaborator

MAX_STEPS = 1_000_000  # of a scan whose length the text fixes


@dataclass(frozen=True)
class Entry(Op):
    """The entry of a value at the current position of a scan."""

    family: ClassVar[str] = "recurrences"
    axis: str

    def infer(self, *operands: Type) -> Type:
        return operands[0].without((self.axis,))


@dataclass
class Block:
    """A scan while its lines are read.

    states: the argument of every state, by name; starts: its value before the first step; updated: where it got its
    next value. inner: names that only the step knows; failed: states whose declaration is wrong. number tells the
    blocks of a formula apart.
    """

    axis: str
    place: ast.Scan
    number: int
    states: dict[str, Node] = field(default_factory=dict)
    starts: dict[str, Node] = field(default_factory=dict)
    updated: dict[str, ast.Assign] = field(default_factory=dict)
    yields: dict[str, Node | None] = field(default_factory=dict)
    inner: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)


def read_scan(elaborator: _Elaborator, statement: ast.Scan) -> None:
    """Type a scan; its states and what it yields get their names in the frame of the elaborator."""
    scope, frame = elaborator.scope, elaborator.frame
    axis = elaborator._axis(statement.axis.name)
    outer = {block.axis for block in elaborator.blocks}
    names = [name for tensor in _states(statement) for name in (tensor.name,)]
    names += [line.name for line in statement.body if isinstance(line, ast.Yield)]
    if axis not in scope.axes or axis in outer:
        if axis in outer:
            scope.problem("AG223", statement.axis.span, axis=axis)
        else:
            meant = did_you_mean(axis, scope.axes)
            scope.problem("AG204", statement.axis.span, name=axis, help=meant)
        frame.values.update(dict.fromkeys(names))
        scope.places.update((name, statement.span) for name in names)
        return
    scope.count(axis)
    _check_length(elaborator, axis, statement)
    elaborator.block_count += 1
    block = Block(axis, statement, elaborator.block_count)
    values, functions = dict(frame.values), dict(frame.functions)
    elaborator.blocks.append(block)
    for line in statement.body:
        _line(elaborator, block, line)
    after = frame.values
    elaborator.blocks.pop()
    frame.values, frame.functions = values, functions
    elaborator.hidden.update(dict.fromkeys(block.inner, block))
    results = [after.get(name) if name in block.updated else node for name, node in block.states.items()]
    results += [*block.yields.values(), *([None] if block.failed else [])]
    frame.values.update(dict.fromkeys((*block.states, *block.failed, *block.yields)))
    if None in results or not results:
        return
    made = _close(elaborator, block, [node for node in results if node is not None])
    if made is None:
        return
    assert isinstance(made.op, Scan)
    places = {tensor.name: tensor.name_span for tensor in _states(statement)}
    places |= {line.name: line.name_span for line in statement.body if isinstance(line, ast.Yield)}
    for index, name in enumerate((*block.states, *block.yields)):
        part = elaborator.make(part_of(made.op, index), (made,), places[name])
        frame.values[name] = part
        if part is not None:
            elaborator.names.setdefault(part, name)


def _states(statement: ast.Scan) -> Iterable[ast.Tensor]:
    return (tensor for line in statement.body if isinstance(line, ast.State) for tensor in line.tensors)


def _check_length(elaborator: _Elaborator, axis: str, statement: ast.Scan) -> None:
    scope = elaborator.scope
    size = scope.facts.canonical(Poly.symbol(axis))
    if size.symbols() <= scope.constants.keys():
        steps = size.evaluate(scope.constants)
        if steps > MAX_STEPS:
            scope.problem("AG225", statement.span, axis=axis, steps=f"{steps:g}", limit=MAX_STEPS)


# -- lines -----------------------------------------------------------------------------------------


def _line(elaborator: _Elaborator, block: Block, line: ast.Statement) -> None:
    match line:
        case ast.State(tensors):
            for tensor in tensors:
                if not _state(elaborator, block, tensor):
                    block.failed.add(tensor.name)
        case ast.Function(name):
            elaborator._function(line)
            block.inner.add(name)
        case ast.Assign(name) if name in block.states:
            _update(elaborator, block, line)
        case ast.Assign(name, value) if name in block.failed:
            elaborator.value(value)
        case ast.Assign(name, value):
            elaborator._assign(line)
            block.inner.add(name)
        case ast.Yield(name, value):
            elaborator._assign(ast.Assign(name, value, span=line.span, name_span=line.name_span))
            block.yields[name] = elaborator.frame.values.get(name)
        case ast.Scan():
            read_scan(elaborator, line)
            block.inner.update(tensor.name for tensor in _states(line))
            block.inner.update(inner.name for inner in line.body if isinstance(inner, ast.Yield))


def _state(elaborator: _Elaborator, block: Block, tensor: ast.Tensor) -> bool:
    """Declare a state; False after a diagnostic about its name or axes."""
    scope, frame = elaborator.scope, elaborator.frame
    if frame.axes is None and tensor.name in scope.places:
        label = Label(scope.places[tensor.name], "first declared here")
        scope.problem("AG262", tensor.name_span, label, name=tensor.name)
        return False
    if tensor.name in scope.axes:
        scope.problem("AG503", tensor.name_span, Label(scope.axes[tensor.name], "the axis"), name=tensor.name)
    scope.places[tensor.name] = tensor.name_span
    frame.values[tensor.name] = None
    axes: list[str] = []
    for written in tensor.axes:
        axis = elaborator._axis(written.name)
        if axis in axes:
            scope.problem("AG263", written.span, name=tensor.name, axis=axis)
            return False
        if any(axis == other.axis for other in elaborator.blocks):
            scope.problem("AG223", written.span, axis=axis)
            return False
        if axis not in scope.axes:
            scope.problem("AG204", written.span, name=axis, help=did_you_mean(axis, scope.axes))
            return False
        scope.count(axis)
        axes.append(axis)
    type_ = Type(Kind(tensor.kind), tuple(axes), bool(scope.tree.inputs))
    name = argument_name(elaborator, tensor.name, None)
    argument = elaborator.builder.make(Argument(name, type_.kind, type_.axes, type_.batched))
    block.states[tensor.name] = frame.values[tensor.name] = argument
    elaborator.names.setdefault(argument, tensor.name)
    elaborator.origins.setdefault(argument, tensor.span)
    # The first value is one of the outside: it knows neither the step nor its position.
    assert tensor.initial is not None
    elaborator.blocks.pop()
    inner = (name for name in (*block.states, *block.yields, *block.inner) if name in frame.values)
    hidden = {name: frame.values.pop(name) for name in inner}
    start = elaborator.value(tensor.initial)
    frame.values.update(hidden)
    elaborator.blocks.append(block)
    fitted = None if start is None else fit(elaborator, start, type_, tensor.name, tensor.initial, "first")
    if fitted is None:
        frame.values[tensor.name] = None
    else:
        block.starts[tensor.name] = fitted
    return True


def _update(elaborator: _Elaborator, block: Block, line: ast.Assign) -> None:
    scope, state = elaborator.scope, block.states[line.name]
    if line.name in block.updated:
        label = Label(block.updated[line.name].span, "updated here")
        scope.problem("AG262", line.name_span, label, name=line.name, help="a step updates a state once")
        return
    value = elaborator.value(line.value)
    if value is not None:
        value = fit(elaborator, value, state.type, line.name, line.value, "next")
    block.updated[line.name] = line
    elaborator.frame.values[line.name] = value


def fit(
    elaborator: _Elaborator, node: Node, wanted: Type, name: str, written: ast.Expression, which: str
) -> Node | None:
    """A value of a state in the type of the state; None after a diagnostic."""
    if not set(node.axes) <= set(wanted.axes) or node.type.kind.rank > wanted.kind.rank:
        elaborator.scope.problem(
            "AG222", written.span, which=which, name=name, actual=node.type, declared=wanted,
            help=_fit_help(node.type, wanted, name),
        )  # fmt: skip
        return None
    span = written.span
    made: Node | None = node
    if isinstance(node.op, Literal) and wanted.kind is Kind.REAL:
        made = elaborator.make(Literal(float(node.op.value)), (), span)
    elif node.type.kind is not wanted.kind:
        made = elaborator.make(Convert(wanted.kind), (node,), span)
    if made is not None and set(made.axes) != set(wanted.axes):
        made = elaborator.make(Broadcast(wanted.axes), (made,), span)
    if made is not None and made.axes != wanted.axes:
        made = elaborator.make(Reorder(wanted.axes), (made,), span)
    return made


def _fit_help(actual: Type, wanted: Type, name: str) -> str | None:
    extra = [axis for axis in actual.axes if axis not in wanted.axes]
    if extra:
        return f"sum or average over {', '.join(f'`{axis}`' for axis in extra)}, or declare the state with it"
    return f"declare it as `{name}{wanted.with_axes(wanted.axes).of(actual.kind)}`"


# -- closing a step --------------------------------------------------------------------------------


def entry(elaborator: _Elaborator, node: Node) -> Node:
    """What a name means inside the open scans: the entry at their positions of a value that has their axes."""
    for block in elaborator.blocks:
        if block.axis in node.axes:
            closed = elaborator.builder.make(Entry(block.axis), node)
            if node in elaborator.names:
                elaborator.names.setdefault(closed, elaborator.names[node])
            elaborator.origins.setdefault(closed, elaborator.origins.get(node, block.place.span))
            node = closed
    return node


def _close(elaborator: _Elaborator, block: Block, results: list[Node]) -> Node | None:
    """The node that runs the step, with all that the step needs as operands."""
    make, names = elaborator.builder.make, elaborator.names
    states = list(block.states.values())
    nodes = topological((*results, *states))
    moving = _moving(nodes, block.axis, states)
    mapped: dict[Node, Node] = dict(zip(states, states, strict=True))
    slices: dict[Node, Node] = {}
    wholes: dict[Node, Node] = {}

    def argument(node: Node, found: dict[Node, Node], outside: Node) -> Node:
        if isinstance(outside.op, Argument) and found is wholes:
            return found.setdefault(outside, outside)
        word = outside.op.axis.lower() if isinstance(outside.op, Position) else "entry" if found is slices else "outer"
        name = argument_name(elaborator, names.get(outside) or names.get(node) or word, outside)
        found[outside] = inner = make(Argument(name, node.type.kind, node.axes, node.type.batched))
        return inner

    def known(node: Node) -> Node:
        """The node inside the step."""
        if node not in mapped:
            if isinstance(node.op, Entry) and node.op.axis == block.axis and node in moving:
                mapped[node] = argument(node, slices, node.inputs[0])
            elif is_number(node):
                mapped[node] = node
            elif isinstance(node.op, Broadcast):  # it is the state's declaration that repeats a value
                mapped[node] = make(node.op, known(node.inputs[0]))
            else:
                assert node not in moving
                mapped[node] = argument(node, wholes, node)
        return mapped[node]

    for node in nodes:
        if node in moving and node not in mapped and not (isinstance(node.op, Entry) and node.op.axis == block.axis):
            mapped[node] = make(node.op, *(known(operand) for operand in node.inputs))
    inner = [known(node) for node in results]
    for node, closed in mapped.items():
        if node in names:
            names.setdefault(closed, names[node])
        if node in elaborator.origins:
            elaborator.origins.setdefault(closed, elaborator.origins[node])
    outside = [block.starts[name] for name in block.states]
    outside += [*slices, *wholes]
    step = Region((*states, *slices.values(), *wholes.values()), tuple(inner))
    op = Scan(block.axis, len(states), len(slices), step)
    return elaborator.make(op, tuple(outside), block.place.span)


def argument_name(elaborator: _Elaborator, wanted: str, outside: Node | None) -> str:
    """A name for an argument: steps inside each other may not call two values the same."""
    number, name = 1, wanted
    while name in elaborator.argument_names and (outside is None or elaborator.argument_names[name] is not outside):
        number += 1
        name = f"{wanted}_{number}"
    elaborator.argument_names[name] = outside
    return name


def _moving(nodes: list[Node], axis: str, states: list[Node]) -> set[Node]:
    """The nodes whose value differs from step to step."""
    moving: set[Node] = set(states)
    for node in nodes:
        if (isinstance(node.op, Entry) and node.op.axis == axis) or any(operand in moving for operand in node.inputs):
            moving.add(node)
    return moving


def is_number(node: Node) -> bool:
    """Whether a value is a number that is known before any tensor: it is cheaper to write again than to pass."""
    return not node.axes and all(isinstance(n.op, Literal | Size) or n.inputs for n in topological([node])) and not any(
        n.axes or n.type.batched for n in topological([node])
    )
