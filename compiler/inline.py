"""A formula that calls another: the called text is typed in place, with its axes read as the caller's."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from ..grammar import ast
from ..grammar.diagnostics import Diagnostic, Label, Severity
from ..grammar.source import Span
from . import blocks
from .definitions import Definition
from .graph import Node
from .library import faulty
from .ops.layout import Convert, Rename, Reorder
from .ops.leaves import Literal
from .scalars import ScalarError, as_number
from .scope import did_you_mean
from .sizes import Poly, Truth
from .types import Kind

if TYPE_CHECKING:
    from .elaborate import _Elaborator

MAX_CALLS = 32  # of formulas that call one another


def call_formula(elaborator: _Elaborator, call: ast.Call, definition: Definition) -> Node | None:
    """The result of `callee(arguments)`.

    Parameters, buffers and constants of the callee are taken from keywords, else from what the
    caller declares under the same name; a constant has its default besides.
    """
    from .elaborate import _Frame, named

    scope, callee, outer = elaborator.scope, definition.tree, elaborator.frame
    if any(definition.written is reading or callee is reading for reading in elaborator.calls):
        scope.problem("AG273", call.function_span, name=callee.name)
        return None
    if len(elaborator.calls) > MAX_CALLS:
        scope.problem("AG004", call.span, limit=MAX_CALLS, help="read one of the called formulas in place")
        return None
    if call.axes is not None:
        scope.problem("AG269", call.axes.span, name=callee.name, takes="nothing",
                      example=f"{callee.name}(...)")  # fmt: skip
        return None
    if len(callee.results) != 1:
        scope.problem("AG276", call.function_span, name=callee.name, results=len(callee.results))
        return None
    arguments = [elaborator.value(argument) for argument in call.arguments]
    if not callee.readable:  # whatever else is found in it would follow from what is missing
        if not definition.foreign:  # of a used file this is said at the `use` line
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
    places: dict[str, Span] = {}
    for keyword in call.keywords:
        if keyword.name not in stored and keyword.name not in constants:
            scope.problem("AG274", keyword.span, name=callee.name, keyword=keyword.name,
                          help=did_you_mean(keyword.name, [*stored, *constants]))  # fmt: skip
            return None
        read = elaborator.value if keyword.name in stored else elaborator.constant
        given[keyword.name] = read(keyword.value)
        places[keyword.name] = keyword.value.span
    if None in arguments or None in given.values():
        return None
    for name in stored:
        if name not in given and name in outer.values:
            given[name] = elaborator.read(name)
            outer.used.add(name)
    for name in constants:
        if name in given:
            continue
        if name in outer.constants or (outer.axes is None and name in scope.constants):
            given[name] = elaborator.value(ast.Name(name, call.span))
    if None in given.values():
        return None
    block = elaborator.blocks[-1].number if elaborator.blocks else 0  # of which the body may read entries
    known = tuple((name, given[name].index) for name in sorted(given))  # type: ignore[union-attr]
    key = (id(definition.written), tuple(node.index for node in arguments if node is not None), known, block)
    if key in elaborator.inlined:
        return elaborator.inlined[key]
    shown = frozenset(axis.name for result in callee.results for axis in result.axes)
    frame = _Frame(definition.visible, axes={}, shown=shown, constants=frozenset(constants))
    binding = _Binding(elaborator, callee)
    for tensor, node, written in zip(callee.inputs, arguments, call.arguments, strict=True):
        assert node is not None
        frame.values[tensor.name] = binding.bind(tensor, node, written.span)
    for name, tensor in stored.items():
        value = given.get(name)
        if value is None:
            scope.problem("AG277", call.span, name=callee.name, keyword=name)
            return None
        frame.values[name] = binding.bind(tensor, value, places.get(name, call.span))
    if any(frame.values[name] is None for name in (*(t.name for t in callee.inputs), *stored)) or not binding.apart():
        return None
    defaults: dict[str, int | float] = {}
    for name, bound in constants.items():
        try:
            defaults[name] = as_number(bound.value, defaults)
        except ScalarError as error:
            scope.scalar_problem(error)
            return None
        frame.values[name] = given[name] if name in given else _number(elaborator, defaults[name], call.span)
    frame.axes = binding.axes
    elaborator.frame = frame
    elaborator.calls.append(definition.written)
    elaborator.called.setdefault(definition.written, definition)
    before = len(scope.problems)
    result = _body(elaborator, callee, call)
    elaborator.calls.pop()
    elaborator.frame = outer
    result = None if result is None else binding.returned(result, call)
    if not _own_mistakes(elaborator, definition, before):
        for index in range(before, len(scope.problems)):
            elaborator._add_label(index, Label(call.span, f"in this call of `{callee.name}`"))
    elaborator.inlined[key] = result
    return result


class _Binding:
    """Which axes of the caller the axes of a called formula are.

    An axis that is declared meets the one of the same name in the value. Where a value does not have all the
    names, its last axes are the declared ones, in order; a name that both have must then stand in the same place.
    Further axes of a value are batch axes of the call. Where two axes of the called formula are one in the caller,
    as in `f(x, x)`, the second is a renamed copy, and the result has the caller's name again.

    axes: for each axis of the called formula the one that is used in its place. origins: that of the caller.
    """

    def __init__(self, elaborator: _Elaborator, callee: ast.Formula) -> None:
        self._elaborator = elaborator
        self._callee = callee
        self.axes: dict[str, str] = {}
        self.origins: dict[str, str] = {}
        self._values: list[tuple[ast.Tensor, tuple[str, ...], Span]] = []

    def bind(self, tensor: ast.Tensor, node: Node, place: Span) -> Node | None:
        """The value with its batch axes in front and the declared ones behind; None after a diagnostic."""
        elaborator = self._elaborator
        names = [axis.name for axis in tensor.axes]
        wanted = [self.origins.get(name, name) for name in names]
        kind = Kind(tensor.kind)
        by_name = set(wanted) <= set(node.axes) and len(set(wanted)) == len(wanted)
        actual = wanted if by_name else list(node.axes[len(node.axes) - len(names) :])
        moved = [name for name, axis in zip(names, actual, strict=False) if name != axis and name in node.axes
                 and name not in self.origins]  # fmt: skip
        known = all(self.origins.get(name, axis) == axis for name, axis in zip(names, actual, strict=False))
        if len(actual) != len(names) or moved or not known or node.type.kind.rank > kind.rank:
            help = (
                f"`{moved[0]}` stands elsewhere: rename the other axes, as in `x[A -> {moved[0]}]`" if moved else None
            )
            elaborator.scope.problem("AG278", place, name=tensor.name, wanted=f"[{', '.join(wanted)}]",
                                     actual=node.type, help=help)  # fmt: skip
            return None
        front = tuple(axis for axis in node.axes if axis not in actual)
        self._values.append((tensor, front, place))
        if node.axes and kind is not node.type.kind:
            node = elaborator.make(Convert(kind), (node,), place) or node
        for name, axis in zip(names, actual, strict=True):
            self._settle(name, axis, place)
            if self.axes[name] != axis:
                node = elaborator.make(Rename(axis, self.axes[name]), (node,), place) or node
        order = (*front, *(self.axes[name] for name in names))
        return node if order == node.axes else elaborator.make(Reorder(order), (node,), place)

    def _settle(self, name: str, axis: str, place: Span) -> None:
        """Let an axis of the called formula be one of the caller, or a copy of it if another one is that."""
        if name in self.axes:
            return
        scope, copy = self._elaborator.scope, axis
        if axis in self.axes.values():
            copy = name
            while copy in scope.axes or copy in scope.constants:
                copy += "_"
            scope.axes[copy] = place
            scope.count(copy)
        self.axes[name], self.origins[name] = copy, axis

    def apart(self) -> bool:
        """Whether no batch axis of a value is an axis of the called formula."""
        for tensor, front, place in self._values:
            for name, axis in self.origins.items():
                if axis in front:
                    self._confused(f"`{name}`", f"the batch axes of `{tensor.name}`", axis, place)
                    return False
        return True

    def returned(self, node: Node, call: ast.Call) -> Node | None:
        """The result with the caller's axes; None after a diagnostic."""
        for name, axis in self.axes.items():
            origin = self.origins[name]
            if axis != origin and axis in node.axes:
                if origin in node.axes:
                    other = next((each for each, used in self.axes.items() if used == origin), origin)
                    self._confused(f"`{other}`", f"`{name}`", origin, call.span)
                    return None
                node = self._elaborator.make(Rename(axis, origin), (node,), call.span) or node
        return node

    def _confused(self, one: str, other: str, axis: str, place: Span) -> None:
        self._elaborator.scope.problem("AG285", place, name=self._callee.name, one=one, other=other, axis=axis)


def _number(elaborator: _Elaborator, value: int | float, span: Span) -> Node | None:
    text = ast.Number(repr(abs(value)), span)
    return elaborator.value(ast.Unary("-", text, span) if value < 0 else text)


def _own_mistakes(elaborator: _Elaborator, definition: Definition, before: int) -> bool:
    """Whether the findings since `before` lie in a used file that is wrong by itself: then its `use` line says so."""
    scope = elaborator.scope
    if not definition.foreign or definition.use is None or len(scope.problems) == before:
        return False
    first = _first_mistake(definition)
    if first is None:
        return False
    scope.withdraw(before)
    finding = faulty(definition.use, definition.source, first)
    if not any(problem.code == finding.code and problem.span == finding.span for problem in scope.problems):
        scope.report(finding)
    return True


@lru_cache(maxsize=256)
def _first_mistake(definition: Definition) -> Diagnostic | None:
    """What is wrong with a formula whoever calls it."""
    from .elaborate import elaborate

    _, problems = elaborate(definition.written, definition.source, definition.visible)
    return next((problem for problem in problems if problem.severity is Severity.ERROR), None)


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
                frame.values[name] = node = elaborator.value(value)
                if node is not None:
                    elaborator.inner_names.setdefault(node, name)
            case ast.Scan():
                blocks.read_scan(elaborator, statement)
            case ast.Return(values):
                node = elaborator.value(values[0])
                if node is None or not _sized_by_constants(elaborator, callee, call):
                    return None
                kind = Kind(callee.results[0].kind)
                if node.axes and node.type.kind.rank < kind.rank:
                    node = elaborator.make(Convert(kind), (node,), call.span) or node
                declared = [elaborator._axis(axis.name) for axis in callee.results[0].axes]
                front = [axis for axis in node.axes if axis not in declared]
                order = (*front, *declared)
                if set(order) != set(node.axes):
                    scope.problem("AG264", call.span, actual=node.type, declared=f"[{', '.join(declared)}]")
                    return None
                return node if order == node.axes else elaborator.make(Reorder(order), (node,), call.span)
    return None


def _sized_by_constants(elaborator: _Elaborator, callee: ast.Formula, call: ast.Call) -> bool:
    """A constant with the name of an axis is its size."""
    axes = elaborator.frame.axes or {}
    for statement in callee.statements:
        for binding in statement.bindings if isinstance(statement, ast.Const) else ():
            if binding.name in axes:
                name = ast.Name(binding.name, binding.name_span)
                try:
                    size = elaborator._callee_size(name)
                except ScalarError as error:
                    elaborator.scope.scalar_problem(error)
                    return False
                given = elaborator.frame.values[binding.name]
                value = given.op.value if given is not None and isinstance(given.op, Literal) else 1
                if not isinstance(value, int) or value < 1:
                    place = next((k.value.span for k in call.keywords if k.name == binding.name), call.span)
                    elaborator.scope.problem("AG226", place, name=binding.name, value=value)
                    return False
                if not _assume(elaborator, ast.Fact("=", name, name), Poly.symbol(axes[binding.name]), size, call):
                    return False
    return True


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
