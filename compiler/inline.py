"""A formula that calls another: the called text is typed in place, with its axes read as the caller's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..grammar import ast
from ..grammar.diagnostics import Label
from .graph import Node
from .scalars import ScalarError, as_number
from .scope import did_you_mean
from .sizes import Poly, Truth
from .types import Kind

if TYPE_CHECKING:
    from .elaborate import _Elaborator

MAX_DEPTH = 32


def call_formula(elaborator: _Elaborator, call: ast.Call, callee: ast.Formula) -> Node | None:
    """The result of `callee(arguments)`.

    An argument may have further axes in front of the declared ones; they are batch axes of the call.
    Parameters, buffers and constants of the callee are taken from keywords, else from what the
    caller declares under the same name; a constant has its default besides.
    """
    from .elaborate import _Frame, named

    scope = elaborator.scope
    if callee.name in elaborator.calls or callee.name == scope.tree.name or len(elaborator.calls) > MAX_DEPTH:
        scope.problem("AG273", call.function_span, name=callee.name)
        return None
    if call.axes is not None:
        scope.problem("AG269", call.axes.span, name=callee.name, takes="nothing: it is a formula")
        return None
    if len(callee.results) != 1:
        scope.problem("AG276", call.function_span, name=callee.name, results=len(callee.results))
        return None
    arguments = [elaborator.value(argument) for argument in call.arguments]
    if not callee.readable:  # whatever else is found in it would follow from what is missing
        scope.problem("AG279", call.function_span, name=callee.name)
        return None
    if len(arguments) != len(callee.inputs):
        scope.problem(
            "AG272", call.span, name=callee.name,
            takes=named("argument", [tensor.name for tensor in callee.inputs]), given=len(arguments) or "none",
        )  # fmt: skip
        return None
    stored = {
        tensor.name: tensor
        for statement in callee.statements
        if isinstance(statement, ast.Param | ast.Buffer)
        for tensor in statement.tensors
    }
    constants = {b.name: b for s in callee.statements if isinstance(s, ast.Const) for b in s.bindings}
    given: dict[str, Node | None] = {}
    for keyword in call.keywords:
        if keyword.name not in stored and keyword.name not in constants:
            scope.problem("AG274", keyword.span, name=callee.name, keyword=keyword.name,
                          help=did_you_mean(keyword.name, [*stored, *constants]))  # fmt: skip
            return None
        given[keyword.name] = elaborator.value(keyword.value)
    if None in arguments or None in given.values():
        return None
    known = tuple(given[name].index for name in sorted(given))  # type: ignore[union-attr]
    key = (id(callee), (*(node.index for node in arguments if node is not None), -1, *known))
    if key in elaborator.inlined:
        return elaborator.inlined[key]
    outer = elaborator.frame
    shown = frozenset(axis.name for result in callee.results for axis in result.axes)
    frame = _Frame(axes={}, shown=shown)
    axes: dict[str, str] = {}
    for tensor, node, written in zip(callee.inputs, arguments, call.arguments, strict=True):
        assert node is not None
        if not _bind(elaborator, axes, tensor, node, written):
            return None
        frame.values[tensor.name] = node
    for name, tensor in stored.items():
        value = given.get(name, outer.values.get(name))
        outer.used.add(name)
        if value is None:
            scope.problem("AG277", call.span, name=callee.name, keyword=name)
            return None
        if not _bind(elaborator, axes, tensor, value, call):
            return None
        frame.values[name] = value
    defaults: dict[str, int | float] = {}
    for name, binding in constants.items():
        try:
            defaults[name] = as_number(binding.value, defaults)
        except ScalarError as error:
            scope.scalar_problem(error)
            return None
        if name in given:
            frame.values[name] = given[name]
        elif name in scope.constants:
            frame.values[name] = elaborator.value(ast.Name(name, call.span))
        else:
            default = defaults[name]
            text = ast.Number(repr(abs(default)), call.span)
            frame.values[name] = elaborator.value(ast.Unary("-", text, call.span) if default < 0 else text)
    frame.axes = axes
    elaborator.frame = frame
    elaborator.calls.append(callee.name)
    before = len(scope.problems)
    result = _body(elaborator, callee, call)
    elaborator.calls.pop()
    elaborator.frame = outer
    for index in range(before, len(scope.problems)):
        elaborator._add_label(index, Label(call.span, f"in this call of `{callee.name}`"))
    elaborator.inlined[key] = result
    return result


def _bind(
    elaborator: _Elaborator, axes: dict[str, str], tensor: ast.Tensor, node: Node, written: ast.Expression
) -> bool:
    """Match the declared axes with the last axes of the value."""
    names = [axis.name for axis in tensor.axes]
    actual = node.axes[len(node.axes) - len(names) :]
    fits = len(node.axes) >= len(names) and node.type.kind.rank <= Kind(tensor.kind).rank
    fits = fits and all(axes.get(name, axis) == axis for name, axis in zip(names, actual, strict=False))
    if not fits:
        wanted = ", ".join(axes.get(name, name) for name in names)
        elaborator.scope.problem("AG278", written.span, name=tensor.name, wanted=f"[{wanted}]", actual=node.type)
        return False
    axes.update(zip(names, actual, strict=True))
    return True


def _body(elaborator: _Elaborator, callee: ast.Formula, call: ast.Call) -> Node | None:
    scope, frame = elaborator.scope, elaborator.frame
    for statement in callee.statements:
        match statement:
            case ast.Where(facts):
                for fact in facts:
                    for side in (fact.left, fact.right):
                        for axis in _axis_names(side):
                            if axis.name not in frame.values:
                                elaborator._new_axis(axis)
                    try:
                        left, right = (elaborator._callee_size(side) for side in (fact.left, fact.right))
                    except ScalarError as error:
                        scope.scalar_problem(error)
                        return None
                    if not _assume(elaborator, fact, left, right, call):
                        return None
            case ast.Function():
                frame.functions[statement.name] = statement
            case ast.Assign(name, value):
                frame.values[name] = elaborator.value(value)
            case ast.Return(values):
                node = elaborator.value(values[0])
                if node is None:
                    return None
                declared = [elaborator._axis(axis.name) for axis in callee.results[0].axes]
                front = [axis for axis in node.axes if axis not in declared]
                from .ops.layout import Reorder

                order = (*front, *declared)
                if set(order) != set(node.axes):
                    scope.problem("AG264", call.span, actual=node.type, declared=f"[{', '.join(declared)}]")
                    return None
                return node if order == node.axes else elaborator.make(Reorder(order), (node,), call.span)
    return None


def _assume(elaborator: _Elaborator, fact: ast.Fact, left: Poly, right: Poly, call: ast.Call) -> bool:
    scope = elaborator.scope
    if fact.relation == "=":
        if scope.assume(left, right, call.span) is Truth.NO:
            facts = scope.facts
            scope.problem("AG303", call.span, left=left, right=right,
                          left_size=facts.canonical(left), right_size=facts.canonical(right))  # fmt: skip
            return False
    else:
        scope.relations.append((fact.relation, left, right, call.span))
    return True


def _axis_names(expression: ast.Expression) -> list[ast.Axis]:
    match expression:
        case ast.Name(name):
            return [ast.Axis(name, expression.span)]
        case ast.Unary(_, operand):
            return _axis_names(operand)
        case ast.Binary(_, left, right):
            return _axis_names(left) + _axis_names(right)
        case ast.Call(_, _, arguments, _):
            return [axis for argument in arguments for axis in _axis_names(argument)]
    return []
