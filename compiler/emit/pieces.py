"""The forward that goes through a long sequence piece by piece, so that what is made for a scan stays in cache."""

from __future__ import annotations

import ast

from .. import pyast
from ..graph import Graph, Node
from ..lowerings.lowering import Lowering
from ..lowerings.memory import Continued
from ..ops.base import Op
from ..recurrence import Recurrence, memories
from .forward import returned
from .holdings import Holdings
from .layout import Function, Line, header
from .names import LOCAL_RESERVED, Names

ROWS = 512
HELPER = "with_part"
SHORTEST = 1024  # of a sequence that is longer, what is made for all positions leaves the cache


def is_worth(found: Recurrence, graph: Graph) -> bool:
    """Whether a plan makes values of all positions that only its scans read, and remembers nothing but their sums.

    graph: the plan of the whole sequence.
    """
    held = memories(found.graph)
    if found.cut or found.sizes or found.length is not None or not held or found.graph.outputs == graph.outputs:
        return False
    if any(not isinstance(node.op, Continued) or not isinstance(node.op.op, Lowering) for node in held):
        return False
    if not all({*output.axes} & {*found.axes} for output in found.graph.outputs):
        return False
    return any(_is_made(operand, _features(node.op), found) for node in held for operand in node.inputs)


def _features(op: Op) -> set[str]:
    """The axes of what a scan sums up at each position."""
    assert isinstance(op, Continued)
    return {axis for field in ("inner", "outer", "features") for axis in getattr(op.op, field, ())}


def _is_made(node: Node, features: set[str], found: Recurrence) -> bool:
    """Whether a value with features for every position is computed, element by element."""
    while node.op.is_view() and node.inputs:
        node = node.inputs[0]
    axes = {*node.axes}
    return node.op.elementwise and bool(node.inputs) and bool(axes & features) and bool(axes & {*found.axes})


def in_pieces(held: Holdings, found: Recurrence) -> tuple[Function, Line]:
    """The method that takes steps of many positions, and the line by which `forward` calls it."""
    names = Names(LOCAL_RESERVED | held.library)
    arguments = [ast.unparse(argument) for argument in held.inputs.values()]
    names.claim(arguments)
    state, index = names.take("state"), names.take("index")
    along = {
        ast.unparse(argument): place - len(node.axes)
        for node, argument in held.inputs.items()
        for place, axis in enumerate(found.inputs[node].axes)
        if axis in found.axes
    }
    split = {name: names.take(f"{name}_pieces") for name in along}
    outputs = found.graph.outputs
    gathered = [(names.take("part"), names.take("result")) for _ in outputs]
    piece: list[ast.expr] = [ast.Name(part, ast.Store()) for part, _ in gathered]
    first = piece[0] if len(piece) == 1 else ast.Tuple(piece, ast.Store())
    given: list[ast.expr] = [
        ast.Subscript(pyast.name(split[name]), pyast.name(index), ast.Load()) if name in split else pyast.name(name)
        for name in arguments
    ]
    targets = ast.Tuple([first, ast.Name(state, ast.Store())], ast.Store())
    taken: list[ast.stmt] = [ast.Assign([targets], pyast.call("self.step", pyast.name(state), *given), lineno=0)]
    source, dimension = next(iter(along.items()))
    length = pyast.method(pyast.name(source), "size", dimension)
    first_of = pyast.binary("*", pyast.name(index), pyast.constant(ROWS))
    for output, (part, result) in zip(outputs, gathered, strict=True):
        place = next(index - len(output.axes) for index, axis in enumerate(output.axes) if axis in found.axes)
        code = pyast.call(HELPER, pyast.name(result), pyast.name(part), first_of, length, place)
        taken.append(pyast.assign(result, code))
    lines = [Line(pyast.assign(state, pyast.call("self.init_state")))]
    for name, dimension_of in along.items():
        cut = pyast.call("torch.split", pyast.name(name), ROWS, dimension_of)
        lines.append(Line(pyast.assign(split[name], cut)))
    lines += [Line(pyast.assign(result, pyast.call("torch.empty", 0))) for _, result in gathered]
    count = pyast.call("range", pyast.call("len", pyast.name(split[source])))
    lines.append(Line(ast.For(ast.Name(index, ast.Store()), count, taken, [], lineno=0)))
    results: list[ast.expr] = [pyast.name(result) for _, result in gathered]
    value, returns = returned(results)
    lines.append(Line(ast.Return(value)))
    summary = f"The results of a long sequence, {ROWS} positions at a time."
    method = Function(header("forward_in_pieces", held.signature(), returns), summary, lines)
    long = pyast.binary(">", length, SHORTEST)
    on_gpu = ast.Attribute(pyast.name(source), "is_cuda", ast.Load())  # where there is no such cache, and calls count
    unwanted = (pyast.call("torch.is_grad_enabled"), on_gpu)
    test = ast.BoolOp(ast.And(), [long, *(ast.UnaryOp(ast.Not(), each) for each in unwanted)])
    call = ast.Return(pyast.call("self.forward_in_pieces", *map(pyast.name, arguments)))
    return method, Line(ast.If(test, [call], []))
