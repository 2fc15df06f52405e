"""The methods that build a module: constructor, initial values, constants."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from .. import pyast
from ..formula import Normal, Stored, Uniform, Value
from ..graph import Graph, Node, topological
from ..ops.base import Operand
from ..types import Kind
from . import sizes as size_code
from . import tidy
from .body import Body, align
from .checks import size_checks
from .dtypes import complex_dtype
from .holdings import Holdings, built_frame
from .layout import Function, Line, header
from .messages import raise_if
from .names import ARGUMENT_RESERVED, LOCAL_RESERVED, Names


def constructor(held: Holdings, defaults: Mapping[str, int]) -> Function:
    """`__init__`: sizes and constants, their checks, empty tensors, then the methods that fill them.

    defaults: values of the arguments that are sizes; all of them or none.
    """
    plan, formula = held.plan, held.formula
    names = Names(ARGUMENT_RESERVED)
    arguments = {name: names.take(name) for name in (*plan.given, *plan.constants)}
    given: dict[str, ast.expr] = {name: pyast.name(taken) for name, taken in arguments.items()}
    references = {**held.references, **given}
    lines = [Line(ast.Expr(pyast.method(pyast.call("super"), "__init__")))]
    if plan.given:
        lines.append(_sizes_positive(held, given))
    lines += [Line(pyast.assign(f"self.{held.sizes[name]}", given[name])) for name in arguments]
    for axis, size in plan.settled.items():
        if axis in held.sizes:
            code = size_code.whole(size, given.__getitem__)
            lines.append(Line(pyast.assign(f"self.{held.sizes[axis]}", code.expression)))
    lines += size_checks(formula, plan.settled, plan.building, references)
    for item in formula.parameters:
        parameter = _parameter(item, references)
        lines.append(Line(pyast.assign(f"self.{held.tensors[item.node]}", parameter)))
    for item in formula.buffers:
        call = pyast.call("self.register_buffer", held.tensors[item.node], _empty(item.node, references))
        lines.append(Line(ast.Expr(call)))
    if held.constants:
        lines.append(Line(ast.Expr(pyast.call("self.reset_constants", pyast.name("device")))))
    if held.declared:
        lines.append(Line(ast.Expr(pyast.call("self.reset_parameters"))))
    kinds = ["int"] * len(plan.given)
    kinds += ["int" if isinstance(value, int) else "float" for value in plan.constants.values()]
    values = [defaults[name] for name in plan.given if name in defaults] + [*plan.constants.values()]
    signature = header(
        "__init__",
        [("self", None), *zip(arguments.values(), kinds, strict=True)],
        "None",
        defaults=[pyast.constant(value) for value in values],
        keywords=[("device", "torch.device | str | None"), ("dtype", "torch.dtype | None")],
    )
    return Function(signature, None, lines)


def _sizes_positive(held: Holdings, given: Mapping[str, ast.expr]) -> Line:
    sizes = [given[name] for name in held.plan.given]
    least = pyast.call("min", *sizes) if len(sizes) > 1 else sizes[0]
    parts: list[str | ast.expr] = [f"{held.formula.name}: sizes must be at least 1, but "]
    for index, name in enumerate(held.plan.given):
        parts += [f"{', ' if index else ''}{name} = ", given[name]]
    return raise_if(pyast.binary("<", least, 1), *parts)


def _parameter(item: Stored, references: Mapping[str, ast.expr]) -> ast.expr:
    empty = _empty(item.node, references)
    if item.node.type.kind in (Kind.REAL, Kind.COMPLEX):
        return pyast.call("nn.Parameter", empty)
    return pyast.call("nn.Parameter", empty, requires_grad=False)


def _empty(node: Node, references: Mapping[str, ast.expr]) -> ast.expr:
    shape = [references[axis] for axis in node.axes] or [pyast.constant(())]
    dtype: ast.expr = pyast.name("dtype")
    if node.type.kind is Kind.COMPLEX:
        dtype = complex_dtype(dtype)
    elif node.type.kind is not Kind.REAL:
        dtype = pyast.name("torch.int64" if node.type.kind is Kind.INT else "torch.bool")
    return pyast.call("torch.empty", *shape, device=pyast.name("device"), dtype=dtype)


# -- initial values --------------------------------------------------------------------------------


def reset_parameters(held: Holdings) -> Function | None:
    """The method that fills parameters and buffers; None if there are none."""
    if not held.declared:
        return None
    lines: list[Line] = []
    names = Names(LOCAL_RESERVED)
    writes = False
    for item in held.declared:
        made, in_place = _initial(held, item, names)
        lines += made
        writes |= in_place
    signature = header("reset_parameters", [("self", None)], "None")
    if writes:  # nn.init does without gradients by itself
        signature.decorator_list = [pyast.call("torch.no_grad")]
    return Function(signature, "Draw or set parameters and buffers as the formula declares them.", lines)


def _initial(held: Holdings, item: Stored, names: Names) -> tuple[list[Line], bool]:
    """The statements that set one tensor, and whether they write to it outside nn.init."""
    target = held.stored[item.node]
    body = Body(built_frame(held.references, held.fixed, ast.Attribute(target, "device", ast.Load()), {}))
    match item.initial:
        case Normal(deviation):
            call = pyast.call("nn.init.normal_", target, std=body.size(deviation))
            return [Line(ast.Expr(call))], False
        case Uniform(low, high):
            call = pyast.call("nn.init.uniform_", target, body.size(low), body.size(high))
            return [Line(ast.Expr(call))], False
        case Value(node):
            body.compute(topological([node]))
            number = body.number(node)
            if number is None:
                value = align(Operand(body.tensor(node), node.type), item.node.axes)
                results: list[ast.expr] = [pyast.method(target, "copy_", value)]
            else:
                results = [number]
            statements, _ = tidy.inline(body.statements, results)
            tidy.rename(statements, results, names)
            lines = [Line(pyast.assign(s.name, s.value)) for s in statements]
            if number is not None and item.node.type.kind in (Kind.REAL, Kind.COMPLEX):
                return [*lines, Line(ast.Expr(_filled(target, results[0])))], False
            filled = results[0] if number is None else pyast.method(target, "fill_", results[0])
            return [*lines, Line(ast.Expr(filled))], True


def _filled(target: ast.expr, number: ast.expr) -> ast.expr:
    value = number.value if isinstance(number, ast.Constant) else None
    if value == 0:
        return pyast.call("nn.init.zeros_", target)
    if value == 1:
        return pyast.call("nn.init.ones_", target)
    return pyast.call("nn.init.constant_", target, number)


# -- constants -------------------------------------------------------------------------------------


def reset_constants(held: Holdings) -> tuple[Function | None, dict[str, None]]:
    """The method that computes constants; None if there are none.

    Returns also the functions of the library that it calls.
    """
    if not held.constants:
        return None, {}
    body = Body(built_frame(held.references, held.fixed, pyast.name("device"), held.graph.names))
    body.compute(Graph(held.constants, {}).nodes())
    results = [body.tensor(node) for node in held.constants]
    statements, _ = tidy.inline(body.statements, results)
    tidy.rename(statements, results, Names(LOCAL_RESERVED | held.library))
    lines = [Line(pyast.assign(s.name, s.value)) for s in statements]
    for node, result in zip(held.constants, results, strict=True):
        call = pyast.call("self.register_buffer", held.tensors[node], result, persistent=False)
        lines.append(Line(ast.Expr(call)))
    signature = header(
        "reset_constants",
        [("self", None), ("device", "torch.device | str | None")],
        "None",
        defaults=[ast.Constant(None)],
    )
    summary = "Compute what depends on sizes only: in float64, converted where it is used."
    return Function(signature, summary, lines), body.helpers


def apply(held: Holdings) -> tuple[Function | None, dict[str, None]]:
    """nn.Module's hook behind `to`, `half` and the like, which would round constants and lose imaginary parts.

    None where a module holds neither. Returns also the functions of the library that it calls.
    """
    converted, called = pyast.name("fn"), dict[str, None]()
    if any(node.type.kind is Kind.COMPLEX for node in held.tensors):
        converted, called = pyast.call("by_parts", converted), {"by_parts": None}
    if not called and not held.constants:
        return None, {}
    signature = header(
        "_apply", [("self", None), ("fn", None), ("recurse", "bool")], "nn.Module", defaults=[ast.Constant(True)]
    )
    moved = pyast.method(pyast.call("super"), "_apply", converted, pyast.name("recurse"))
    if not held.constants:
        return Function(signature, None, [Line(ast.Return(moved))]), called
    device = pyast.name(f"self.{held.tensors[held.constants[0]]}.device")
    again = pyast.call("self.reset_constants", device)
    lines = [
        Line(ast.Expr(moved)),
        Line(ast.Expr(again), ("half() and the like would round the constants: compute them where they are now",)),
        Line(ast.Return(pyast.name("self"))),
    ]
    return Function(signature, None, lines), called
