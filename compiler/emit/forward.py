"""The methods of a call: the checks of inputs, and forward."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from .. import pyast
from ..graph import Graph, Node
from ..ops.leaves import Input
from ..report import Step
from ..types import Kind
from . import sizes as size_code
from . import tidy
from .body import Body, Frame
from .checks import input_checks, shapes_once
from .dtypes import complex_dtype, wide_dtype
from .holdings import Holdings
from .layout import Function, Line, header
from .loops import Loops
from .names import LOCAL_RESERVED, Names, printable
from .settle import SizePlan


def check(held: Holdings) -> Function | None:
    """The method that raises where inputs do not fit; None if there is nothing to check."""
    lines = input_checks(held.formula, held.plan, held.inputs, held.references, held.stored)
    if not lines:
        return None
    summary = "Raise ValueError where ranks, dtypes or sizes do not fit the formula."
    lines = shapes_once(lines, held.formula, held.inputs, held.library)
    return Function(header("check", held.signature(), "None"), summary, lines)


def forward(
    held: Holdings, notes: Mapping[Node, str], steps: Sequence[Step], loops: Loops, *, has_check: bool
) -> tuple[Function, dict[str, None]]:
    """`forward`, and the functions of the library that it calls.

    notes: comments above the statements that compute these nodes; steps: comments at the start; loops: makes the
    methods that run recurrences.
    """
    names = Names(LOCAL_RESERVED | held.library)
    inputs = [ast.unparse(argument) for argument in held.inputs.values()]
    names.claim(inputs)
    sizes, references = size_names(held.plan, held.references, names)
    real, device = working(held)
    frame = Frame(
        reference=references,
        stored={**held.stored, **held.inputs},
        names=held.graph.names,
        notes=notes,
        fixed=held.fixed,
        dynamic=held.dynamic,
        real=real,
        wide=pyast.name("wide"),
        complex=pyast.name("complex_dtype"),
        device=device,
        loops=loops,
    )
    body = Body(frame)
    body.compute(needed(held.graph, frame.stored))
    results = [body.tensor(node) for node in held.graph.outputs]
    statements, closing = tidy.inline(body.statements, results)
    tidy.rename(statements, results, names)
    dead = tidy.release(statements, results, lambda node: _couples(held, node))
    read = tidy.names_in(*(statement.value for statement in statements), *results)

    lines: list[Line] = []
    if has_check:
        lines.append(Line(ast.Expr(pyast.call("self.check", *map(pyast.name, inputs)))))
    lines += local_sizes(held.plan, held.inputs, sizes, references, read)
    lines += dtypes_read(real, read)
    opening = _decisions(steps)
    for index, statement in enumerate(statements):
        lines.append(Line(pyast.assign(*statement.targets), (*opening, *statement.comments)))
        opening = ()
        if index in dead:
            lines.append(Line(ast.Delete([ast.Name(name, ast.Del()) for name in dead[index]])))
    value, returns = returned(results)
    lines.append(Line(ast.Return(value), (*opening, *closing)))
    return Function(header("forward", held.signature(), returns), shapes(held), lines), body.helpers


def returned(results: list[ast.expr]) -> tuple[ast.expr, str]:
    """What a method returns for these results, and its type."""
    if len(results) == 1:
        return results[0], "Tensor"
    return ast.Tuple(results, ast.Load()), f"tuple[{', '.join(['Tensor'] * len(results))}]"


def dtypes_read(real: ast.expr, read: frozenset[str]) -> list[Line]:
    """Assignments of the dtypes that are read."""
    lines = []
    if "wide" in read:
        lines.append(Line(pyast.assign("wide", wide_dtype(real))))
    if "complex_dtype" in read:
        lines.append(Line(pyast.assign("complex_dtype", complex_dtype(real))))
    return lines


def _decisions(steps: Iterable[Step]) -> tuple[str, ...]:
    texts = (printable(f"{step.rule}: {step.before} -> {step.after}: {step.why}") for step in steps)
    return tuple(line for text in texts for line in textwrap.wrap(text, 88))


# -- sizes -----------------------------------------------------------------------------------------


def size_names(
    plan: SizePlan, known: Mapping[str, ast.expr], names: Names
) -> tuple[dict[str, str], dict[str, ast.expr]]:
    """The variables of sizes that are known at call time, and the expressions of all sizes.

    known: those of the sizes that the module holds.
    """
    copies = {axis: size.as_symbol() for axis, size in plan.derived.items() if size.as_symbol() is not None}
    sizes = {axis: names.take(axis) for axis in (*plan.sources, *plan.derived) if axis not in copies}
    references = {**known, **{axis: pyast.name(name) for axis, name in sizes.items()}}
    references |= {axis: references[other] for axis, other in copies.items() if other in references}
    return sizes, references


def local_sizes(
    plan: SizePlan,
    inputs: Mapping[Node, ast.expr],
    sizes: Mapping[str, str],
    references: Mapping[str, ast.expr],
    read: frozenset[str],
) -> list[Line]:
    """Assignments of the sizes that are read, those that they need first. inputs: expressions of the arguments."""
    wanted = {axis for axis, name in sizes.items() if name in read}
    for axis in reversed(list(plan.derived)):
        if axis in wanted:
            wanted |= plan.derived[axis].symbols()
    lines = []
    for axis, name in sizes.items():
        if axis not in wanted:
            continue
        if axis in plan.sources:
            node, dimension = plan.sources[axis]
            code: ast.expr = pyast.method(inputs[node], "size", dimension)
        else:
            code = size_code.whole(plan.derived[axis], references.__getitem__).expression
        lines.append(Line(pyast.assign(name, code)))
    return lines


# -- nodes -----------------------------------------------------------------------------------------


def working(held: Holdings) -> tuple[ast.expr, ast.expr]:
    """The dtype of real values and the device: those of the first real input, else of what there is."""
    by_kind = {node.type.kind: argument for node, argument in reversed([*held.inputs.items()])}
    stored = held.stored
    inexact = [item.node for item in held.declared if item.node.type.kind is Kind.REAL]
    if Kind.REAL in by_kind:
        real: ast.expr = ast.Attribute(by_kind[Kind.REAL], "dtype", ast.Load())
    elif Kind.COMPLEX in by_kind:
        real = ast.Attribute(ast.Attribute(by_kind[Kind.COMPLEX], "real", ast.Load()), "dtype", ast.Load())
    elif inexact:
        real = ast.Attribute(stored[inexact[0]], "dtype", ast.Load())
    else:
        real = pyast.call("torch.get_default_dtype")
    holders = [*held.inputs.values(), *stored.values()]
    device = ast.Attribute(holders[0], "device", ast.Load()) if holders else ast.Constant(None)
    return real, device


def needed(graph: Graph, stored: Mapping[Node, ast.expr]) -> list[Node]:
    """What the outputs need, without what is behind a stored value."""
    seen: set[Node] = set()
    stack = list(graph.outputs)
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(() if node in stored else node.inputs)
    return [node for node in graph.nodes() if node in seen]


def _couples(held: Holdings, node: Node) -> bool:
    """Whether a value has two sequence axes: what makes memory quadratic."""
    return sum(axis in held.formula.sequence for axis in node.axes) >= 2


def shapes(held: Holdings) -> str:
    """The docstring of forward: `q [..., N, D], k [..., M, D] -> [..., N, M]`."""
    shapes = [f"{node.op.name} {_shape(node)}" for node in held.formula.inputs if isinstance(node.op, Input)]
    results = ", ".join(map(_shape, held.graph.outputs))
    single = f"{', '.join(shapes)} -> {results}"
    return single if len(single) < 80 else "\n".join([*shapes, f"-> {results}"])


def _shape(node: Node) -> str:
    kind = "" if node.type.kind is Kind.REAL else f" {node.type.kind.value}"
    batch = "..., " if node.type.batched and node.axes else "..." if node.type.batched else ""
    return f"[{batch}{', '.join(node.axes)}]{kind}"
