"""A typed formula as the source of one nn.Module that needs nothing but torch."""

from __future__ import annotations

import ast
import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...grammar.ast import Formula as Tree
from ...grammar.source import Source
from ..again import Again, again
from ..formula import Formula
from ..graph import Graph, Node
from ..lowerings.library import texts, with_callees
from ..lowerings.rows import in_rows
from ..recurrence import Recurrence, Refusal, recurrence
from ..report import Step
from ..sizes import Poly
from .again import whole_again
from .checks import HELPER
from .construct import apply, constructor, reset_constants, reset_parameters
from .forward import check, forward
from .holdings import Holdings, hold
from .layout import Function, docstring, function
from .loops import Loops
from .names import class_name, printable
from .pieces import HELPER as GATHERED
from .pieces import in_pieces, is_worth
from .sizes import DIGITS
from .step import by_positions, step


@dataclass(frozen=True)
class Generated:
    """The source of a module.

    inputs: names of forward's arguments; sizes, constants: those of the constructor, constants
    with their defaults; settled: sizes that the constructor computes from them. helpers: functions
    of the library of kernels whose text the source carries. no_step: why there is no `step`.
    """

    formula: str
    source: str
    class_name: str
    tree: ast.Module
    inputs: tuple[str, ...]
    sizes: tuple[str, ...]
    constants: Mapping[str, int | float]
    settled: Mapping[str, Poly]
    helpers: tuple[str, ...]
    no_step: str | None = None


def emit(
    formula: Formula,
    graph: Graph,
    *,
    notes: Mapping[Node, str] | None = None,
    steps: Sequence[Step] = (),
    sizes: Mapping[str, int] | None = None,
    at_once: bool = False,
    on_gpu: bool = False,
    operator: bool = False,
    by_position: bool = False,
    stepped: Graph | None = None,
) -> Generated:
    """Generate the module that computes a graph of the formula: as written, or planned.

    notes: comments above the statements that compute these nodes.
    steps: decisions of the planner, which become comments at the start of the computation.
    sizes: default values of the constructor's sizes; all of them or none.
    at_once: for tracing; what loops over chunks of a sequence, or blocks of it, computes all of them at once.
    on_gpu: what a GPU computes faster at once, though no trace asks for it.
    operator: recurrences are torch's operator `scan`, which a trace keeps, and not loops.
    by_position: forward goes from position to position, for a formula that can.
    stepped: the graph that `init_state` and `step` are made from, where it is another.
    """
    library, whole = texts(at_once=at_once, on_gpu=on_gpu), graph
    found = recurrence(formula, stepped or graph)
    pieces = again(formula, found, graph) if isinstance(found, Refusal) else found
    if not at_once:
        graph = in_rows(formula, graph)
    further = pieces.graph.outputs if isinstance(pieces, Recurrence) else ()
    held = hold(formula, graph, frozenset(library), further)
    constants, called = reset_constants(held)
    checks = check(held)
    loops = Loops(held, operator)
    call, called_later = forward(held, notes or {}, steps, loops, has_check=checks is not None)
    onward: list[Function] = []
    if isinstance(pieces, Recurrence):
        onward, called_on = step(held, pieces, checks, loops)
        if by_position and pieces.graph.outputs != graph.outputs:
            call, called_later = by_positions(held, pieces, has_check=checks is not None), {}
        elif not at_once and stepped in (None, whole) and is_worth(pieces, graph):
            by_pieces, first = in_pieces(held, pieces)
            call = replace(call, lines=[*call.lines[: checks is not None], first, *call.lines[checks is not None :]])
            onward.append(by_pieces)
            called_on = {**called_on, GATHERED: None}
        called_later = called_later | called_on
    elif isinstance(pieces, Again):
        onward, called_on = whole_again(held, pieces, checks)
        called_later = called_later | called_on
    called_later = called_later | loops.helpers
    conversion, called_there = apply(held)
    called_later = called_later | called_there
    methods = [constructor(held, sizes or {}), reset_parameters(held), constants, conversion, checks]
    methods += [*loops.functions, call, *onward]
    name = class_name(formula.name)
    body = [f"class {name}(nn.Module):", *docstring(_summary(formula), 4), *_annotations(held)]
    for method in methods:
        if method is not None:
            body += ["", *function(method, 4)]
    called = {name: None for name in (HELPER, DIGITS) if any(f"{name}(" in line for line in body)} | called
    helpers = with_callees(called | called_later, library)
    head = docstring(f"{formula.name}: a PyTorch module generated from its formula by attngraph.", 0)
    carried = "\n".join(library[helper] for helper in helpers)
    standard = ["import functools"] if "functools." in carried else []
    standard += ["import math"] if any("math." in line for line in body) else []
    standard += ["from collections.abc import Callable"] if "Callable[" in carried else []
    if standard:
        head += ["", *standard]
    head += ["", "import torch", "from torch import Tensor, nn", "", ""]
    for helper in helpers:
        head += [*library[helper].splitlines(), "", ""]
    source = "\n".join([*head, *body]) + "\n"
    return Generated(
        formula=formula.name,
        source=source,
        class_name=name,
        tree=ast.parse(source),
        inputs=tuple(ast.unparse(argument) for argument in held.inputs.values()),
        sizes=held.plan.given,
        constants=dict(held.plan.constants),
        settled=dict(held.plan.settled),
        helpers=helpers,
        no_step=_no_step(formula, pieces) if isinstance(pieces, Refusal) else None,
    )


def _no_step(formula: Formula, refused: Refusal) -> str:
    """The reason, with the place in the text."""
    place = formula.origins.get(refused.culprit) if refused.culprit is not None else None
    text = "" if place is None else f", in `{' '.join(formula.source.text[place.start : place.end].split())}`"
    causal = "; only a causal formula has one, where no position reads later ones, as under the mask `pos(N) >= pos(M)`"
    return f"{refused.reason}{text}{causal if refused.reason.startswith('it is not causal') else ''}"


def _annotations(held: Holdings) -> list[str]:
    """`name: Tensor` for every buffer, which a reader and a type checker would not know otherwise."""
    tensors = [*(item.node for item in held.formula.buffers), *held.constants]
    lines = [f"    {held.tensors[node]}: Tensor" for node in tensors]
    return ["", *lines] if lines else []


_DOCSTRING = re.compile(r'\n[ \t]*""".*?"""[ \t]*(?=\n|$)', re.DOTALL)


def _summary(formula: Formula) -> str:
    """The docstring of the class: the formula's own, its text, and the text of every formula that it calls."""
    summary = "\n".join(textwrap.wrap(" ".join(formula.docstring.split()) or printable(formula.name), 92))
    parts = [summary, textwrap.indent(_written(formula.tree, formula.source), "    ")]
    for each in formula.called:
        path = os.path.relpath(each.source.name, os.path.dirname(formula.source.name) or ".")
        origin = f" of {printable(path)}" if each.foreign else ""
        text = textwrap.indent(_written(each.written, each.source), "    ")
        parts += [f"It calls {each.written.name}{origin}:", text]
    return "\n\n".join(part for part in parts if part.strip())


def _written(tree: Tree, source: Source) -> str:
    """The text of a formula without its docstring."""
    first, _ = source.position(tree.span.start)
    last = first
    for number in range(first, source.line_count + 1):
        line = source.line(number)
        if number > first and line.strip() and not line[0].isspace() and not line.startswith("#"):
            break
        if line.strip() and not line.startswith("#"):
            last = number
    text = textwrap.dedent("\n".join(source.line(number) for number in range(first, last + 1)))
    return _DOCSTRING.sub("", text, count=1)
