"""`init_state` and `step` of a formula that computes the whole sequence again for every piece."""

from __future__ import annotations

import ast
from dataclasses import replace

from .. import pyast
from ..again import Again
from . import sizes as size_code
from .forward import returned
from .holdings import Holdings
from .layout import Function, Line
from .names import LOCAL_RESERVED, Names
from .states import HELPER, state_length, state_shapes
from .step import beyond, fresh_state, item, piece_check, piece_sizes, step_method


def whole_again(held: Holdings, found: Again, checks: Function | None) -> tuple[list[Function], dict[str, None]]:
    """`init_state` and `step`, and the functions of the library that they call. checks: the method `check`."""
    kept, name = found.kept, held.formula.name
    given = replace(held.formula, fixed=tuple(axis for axis in held.formula.fixed if axis not in kept.axes))
    formula, plan = piece_sizes(given, kept)
    arguments = {node: ast.unparse(argument) for node, argument in held.inputs.items()}
    names = Names(LOCAL_RESERVED | held.library)
    names.claim(arguments.values())
    held_state = names.take("state")
    state = pyast.name(held_state)
    own_check, lines = piece_check(held, kept, formula, plan, checks, [*arguments.values()], dict(held.inputs))
    remembered = [node.inputs[0] for node in kept.graph.outputs]
    told = found.length is None
    count_of_tensors = len(remembered) + told
    lines = [*state_length(name, state, count_of_tensors), *lines]
    lines += state_shapes(name, kept, state, plan, held.inputs, held.references)

    so_far = {node: names.take(f"{arguments[node]}_all") for node in remembered}
    for index, (node, variable) in enumerate(so_far.items()):
        call = pyast.call("extended", item(state, index), pyast.name(arguments[node]), found.along(node))
        lines.append(Line(pyast.assign(variable, call)))
    first = remembered[0]
    made: dict[str, ast.expr] = {
        "count": pyast.method(pyast.name(so_far[first]), "size", found.along(first)),
        "new": pyast.method(pyast.name(arguments[first]), "size", found.along(first)),
    }
    if found.length is None:
        made["length"] = pyast.call("int", item(state, len(remembered)))
    else:
        made["length"] = size_code.whole(found.length, held.references.__getitem__).expression
    known = {wanted: names.take(wanted) for wanted in made}
    lines += [Line(pyast.assign(known[wanted], value)) for wanted, value in made.items()]
    count, new, length = (pyast.name(known[wanted]) for wanted in ("count", "new", "length"))
    lines.append(beyond(name, count, length))
    filled = {n: pyast.call("filled", pyast.name(variable), found.along(n), length) for n, variable in so_far.items()}
    call = pyast.call("self.forward", *(filled.get(node, pyast.name(text)) for node, text in arguments.items()))
    outputs = held.graph.outputs
    result = names.take("result")
    lines.append(Line(pyast.assign(result, call)))
    several = [item(pyast.name(result), index) for index in range(len(outputs))]
    values = several if len(outputs) > 1 else [pyast.name(result)]
    before = pyast.binary("-", count, new)
    results: list[ast.expr] = [
        pyast.method(value, "narrow", found.along(output), before, new)
        for value, output in zip(values, outputs, strict=True)
    ]
    value, returns = returned(results)
    after: list[ast.expr] = [*map(pyast.name, so_far.values()), *([item(state, len(remembered))] if told else [])]
    lines.append(Line(ast.Return(ast.Tuple([value, ast.List(after, ast.Load())], ast.Load()))))
    functions = [
        fresh_state(kept, len(remembered), told=kept.told and f"{name}: {kept.told}"),
        *([own_check] if own_check else []),
        step_method(held, held_state, returns, lines),
    ]
    return functions, dict.fromkeys((HELPER, "extended", "filled"))
