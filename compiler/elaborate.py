"""Syntax tree to typed graph: names resolved, axes met by name, types inferred.

Every problem that does not merely follow from another is reported in one run: an expression that
cannot be typed has no value, and what reads it stays silent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace

from ..grammar import ast
from ..grammar.diagnostics import Diagnostic, Label
from ..grammar.names import FOREIGN_FUNCTIONS
from ..grammar.printer import format_expression
from ..grammar.source import Source, Span
from . import blocks, initial, lints
from .definitions import Definition
from .formula import Formula, Relation, Stored
from .graph import Builder, Graph, GraphTooLarge, Node
from .ops import BY_SPELLING, arithmetic, layout, logic
from .ops.base import Brackets, Op, Reject
from .ops.contraction import Contraction, matmul
from .ops.convolution import Convolution, TransposedConvolution
from .ops.leaves import Buffer, Input, Literal, Parameter, Position, Size
from .ops.normalisations import Softmax
from .ops.reductions import Sum
from .ops.selection import Take
from .scalars import ScalarError, as_number, read_number
from .scope import Scope, TooManyErrors, did_you_mean, nearest
from .sizes import Poly, Truth
from .structure import affine, mask_of
from .types import Kind, Type

OPERATORS: Mapping[str, type[Op]] = {
    "+": arithmetic.Add,
    "-": arithmetic.Subtract,
    "*": arithmetic.Multiply,
    "/": arithmetic.Divide,
    "//": arithmetic.FloorDivide,
    "%": arithmetic.Modulo,
    "^": arithmetic.Power,
    "==": logic.Equal,
    "!=": logic.NotEqual,
    "<": logic.Less,
    "<=": logic.LessEqual,
    ">": logic.Greater,
    ">=": logic.GreaterEqual,
    "and": logic.And,
    "or": logic.Or,
}

FOREIGN_AXES = frozenset({"dim", "dims", "axis", "axes"})  # how other libraries say along which axis
MAX_QUOTE = 60  # characters of an expression that a message quotes whole
MAX_DEPTH = 220  # of expressions, those of inlined functions and formulas included


def elaborate(
    tree: ast.Formula, source: Source, others: Mapping[str, Definition]
) -> tuple[Formula | None, tuple[Diagnostic, ...]]:
    """Type one formula.

    others: the formulas that the text may call, by name.
    Returns the typed formula, or None when it has errors, and every finding.
    """
    scope = Scope(tree)
    formula = None
    with suppress(TooManyErrors):
        scope.declare()
        try:
            formula = _Elaborator(scope, source, others, Builder()).run()
        except GraphTooLarge as error:
            scope.problem("AG006", tree.name_span, limit=error.limit, what="operations")
    return None if scope.errors else formula, tuple(scope.problems)


@dataclass
class _Frame:
    """What names mean at one place: the body of the formula, or of a formula that it calls.

    parameters: those of the local function that is being read; inlined: results of local functions.
    """

    visible: Mapping[str, Definition]
    values: dict[str, Node | None] = field(default_factory=dict)
    parameters: Mapping[str, Node] = field(default_factory=dict)
    inlined: dict[tuple[int, tuple[int, ...]], Node | None] = field(default_factory=dict)
    functions: dict[str, ast.Function] = field(default_factory=dict)
    axes: Mapping[str, str] | None = None  # axis names of a called formula -> those of the caller
    shown: frozenset[str] = frozenset()  # axes of a called formula's result
    constants: frozenset[str] = frozenset()  # of a called formula
    used: set[str] = field(default_factory=set)


class _Elaborator:
    def __init__(
        self, scope: Scope, source: Source, others: Mapping[str, Definition], builder: Builder
    ) -> None:
        self.scope = scope
        self.source = source
        self.builder = builder
        self.frame = _Frame(others)
        self.origins: dict[Node, Span] = {}
        self.inner_names: dict[Node, str] = {}
        self.names: dict[Node, str] = {}
        self.calls: list[ast.Formula | ast.Function] = [scope.tree]
        self.depth = 0
        self.inlined: dict[object, Node | None] = {}  # results of called formulas
        self.called: dict[ast.Formula, Definition] = {}
        self.blocks: list[blocks.Block] = []  # the scans that are open, outermost first
        self.block_count = 0
        self.argument_names: dict[str, Node | None] = {}  # of steps, with what they stand for outside
        self.hidden: dict[str, blocks.Block] = {}  # names that only the step of a scan knows

    # -- the whole formula -----------------------------------------------------------------------

    def run(self) -> Formula | None:
        tree, scope = self.scope.tree, self.scope
        inputs = []
        stored: dict[str, Node] = {}
        for tensor in tree.inputs:
            inputs.append(self._declared(Input, tensor))
        for statement in tree.statements:
            if isinstance(statement, ast.Param | ast.Buffer):
                op = Parameter if isinstance(statement, ast.Param) else Buffer
                for tensor in statement.tensors:
                    stored[tensor.name] = self._declared(op, tensor)
        parameters, buffers = self._initials(stored)
        outputs: list[Node | None] = []
        returned: ast.Return | None = None
        for statement in tree.statements:
            match statement:
                case ast.Function():
                    self._function(statement)
                case ast.Assign():
                    self._assign(statement)
                case ast.Scan():
                    blocks.read_scan(self, statement)
                case ast.Return(values):
                    returned = statement
                    outputs = [self.value(value) for value in values]
        sequence = scope.sequence()
        results = self._results(outputs, returned)
        lints.check(scope, self.frame.used, returned is not None)
        if results is None:
            return None
        graph = Graph(tuple(results), dict(self.names))
        return self._formula(tuple(inputs), parameters, buffers, graph, sequence)

    def _declared(self, op: type[Input] | type[Parameter] | type[Buffer], tensor: ast.Tensor) -> Node:
        axes = tuple(dict.fromkeys(axis.name for axis in tensor.axes))
        node = self.builder.make(op(tensor.name, Kind(tensor.kind), axes))
        if self.scope.tensors.get(tensor.name) is tensor:
            self.frame.values[tensor.name] = node
            self.names[node] = tensor.name
            self.origins[node] = tensor.span
        return node

    def _initials(self, stored: Mapping[str, Node]) -> tuple[tuple[Stored, ...], tuple[Stored, ...]]:
        """Initial values, which may use constants and sizes but no tensor."""
        outer, self.frame = self.frame, _Frame(self.frame.visible)
        parameters: list[Stored] = []
        buffers: list[Stored] = []
        for name, node in stored.items():
            tensor = self.scope.tensors.get(name)
            if tensor is None:
                continue
            value = initial.read(tensor, node, self.scope, self.value)
            if value is not None:
                (parameters if isinstance(node.op, Parameter) else buffers).append(Stored(node, value))
        self.frame = outer
        return tuple(parameters), tuple(buffers)

    def _formula(
        self,
        inputs: tuple[Node, ...],
        parameters: tuple[Stored, ...],
        buffers: tuple[Stored, ...],
        graph: Graph,
        sequence: tuple[str, ...],
    ) -> Formula | None:
        scope, tree = self.scope, self.scope.tree
        kept = (*parameters, *buffers)
        named = (size for stored in kept for size in initial.sizes(stored.initial) if size in scope.axes)
        carried = (*(axis for stored in kept for axis in stored.node.axes), *named)
        fixed = tuple(dict.fromkeys(axis for axis in carried if axis not in scope.constants))
        free = (a for node in inputs for a in node.axes)
        bound = tuple(dict.fromkeys(axis for axis in free if axis not in fixed and axis not in scope.constants))
        scope.size_axes_by_constants()
        known = {*fixed, *bound, *scope.constants}
        rest = tuple(axis for axis in scope.axes if axis not in known)
        derived = scope.derived((*fixed, *bound), rest)
        needed = {axis for node in graph for axis in node.axes}
        for node in graph:
            for size in node.op.scalars():
                needed |= size.symbols()
        for axis in rest:
            if axis in needed and axis not in derived:
                scope.problem("AG302", scope.axes[axis], axis=axis)
        return Formula(
            name=tree.name,
            tree=tree,
            source=self.source,
            builder=self.builder,
            graph=graph,
            inputs=inputs,
            parameters=parameters,
            buffers=buffers,
            constants=dict(scope.constants),
            fixed=fixed,
            bound=bound,
            derived=derived,
            facts=scope.facts,
            relations=tuple(Relation(*relation) for relation in scope.relations),
            sequence=sequence,
            claims=tuple(c for s in tree.statements if isinstance(s, ast.Require) for c in s.claims),
            origins=self.origins,
            called=tuple(self.called.values()),
            inner_names=self.inner_names,
        )

    def _results(self, outputs: list[Node | None], returned: ast.Return | None) -> list[Node] | None:
        """The returned values in their declared layouts."""
        tree, scope = self.scope.tree, self.scope
        declared: list[tuple[str, ...]] = []
        for result in tree.results:
            seen: dict[str, Span] = {}
            for axis in result.axes:
                scope.count(axis.name)
                if axis.name in seen:
                    scope.problem("AG263", axis.span, Label(seen[axis.name], "first here"), name="the result",
                                  axis=axis.name)  # fmt: skip
                elif axis.name not in scope.axes:
                    scope.problem("AG204", axis.span, name=axis.name, help=nearest(axis.name, scope.axes))
                    seen[axis.name] = axis.span
                    outputs = []
                seen[axis.name] = axis.span
            declared.append(tuple(seen))
        if returned is None or None in outputs or not outputs:
            return None
        if len(outputs) != len(declared):
            scope.problem(
                "AG265", returned.span, Label(tree.results[0].span.to(tree.results[-1].span), "declared here"),
                declared=len(declared), returned=len(outputs),
            )  # fmt: skip
            return None
        results: list[Node] = []
        for node, axes, result, value in zip(outputs, declared, tree.results, returned.values, strict=True):
            assert node is not None
            kind = Kind(result.kind)
            if set(node.axes) != set(axes) or kind.rank < node.type.kind.rank:
                scope.problem(
                    "AG264", value.span, Label(result.span, "declared here"),
                    actual=node.type, declared=Type(kind, axes),
                    help=_result_help(node.type, axes),
                )  # fmt: skip
                continue
            if kind is not node.type.kind:
                node = self.make(layout.Convert(kind), (node,), value.span) or node
            if node.axes != axes:
                node = self.make(layout.Reorder(axes), (node,), value.span) or node
            results.append(node)
        return results if len(results) == len(declared) else None

    # -- statements ------------------------------------------------------------------------------

    def _function(self, statement: ast.Function) -> None:
        if statement.name in self.frame.values or statement.name in self.frame.functions:
            previous = self.scope.places.get(statement.name, statement.name_span)
            self.scope.problem(
                "AG262", statement.name_span, Label(previous, "first declared here"), name=statement.name
            )
            return
        if (statement.name, False) in BY_SPELLING or (statement.name, True) in BY_SPELLING:
            self.scope.problem("AG504", statement.name_span, name=statement.name)
        self.scope.places[statement.name] = statement.name_span
        self.frame.functions[statement.name] = statement

    def _assign(self, statement: ast.Assign) -> None:
        node = self.value(statement.value)
        name = statement.name
        if name in self.scope.places:
            previous = self.scope.places[name]
            self.scope.problem("AG262", statement.name_span, Label(previous, "first declared here"), name=name)
            return
        if name in self.scope.axes:
            self.scope.problem(
                "AG503", statement.name_span, Label(self.scope.axes[name], "the axis"), name=name
            )
        self.scope.places[name] = statement.name_span
        self.frame.values[name] = node
        if node is not None:
            self.names.setdefault(node, name)

    # -- making nodes ----------------------------------------------------------------------------

    def make(
        self, op: Op, inputs: tuple[Node, ...], span: Span, places: tuple[Span, ...] = ()
    ) -> Node | None:
        """The node, or None with a diagnostic that shows the operands."""
        try:
            node = self.builder.make(op, *inputs)
        except Reject as reject:
            self._rejected(reject, inputs, span, places)
            return None
        for block in self.blocks:
            if block.axis in node.axes:
                self.scope.problem("AG223", span, Label(block.place.span, "by this scan"), axis=block.axis)
                return None
        for left, right in op.size_facts(*(n.type for n in inputs)):
            if self.scope.assume(left, right, span) is Truth.NO:
                facts = self.scope.facts
                self.scope.problem(
                    "AG303", span, left=left, right=right,
                    left_size=facts.canonical(left), right_size=facts.canonical(right),
                )  # fmt: skip
                return None
        for high, low in (*op.size_bounds(*(n.type for n in inputs)), *_place_taken(op, inputs)):
            truth = self.scope.facts.at_least(high, low)
            if truth is Truth.NO:
                self.scope.problem("AG314", span, high=high, low=low)
                return None
            if truth is Truth.UNKNOWN:  # verified when the module is called
                self.scope.facts = self.scope.facts.assume_at_least(high, low)
                self.scope.relations.append((">=", high, low, span))
        self.origins.setdefault(node, span)
        return node

    def _rejected(
        self, reject: Reject, inputs: tuple[Node, ...], span: Span, places: tuple[Span, ...]
    ) -> None:
        labels = tuple(
            Label(place, f"{_short(self.source.slice(place))} is {node.type}")
            for place, node in zip(places, inputs, strict=False)
        )
        facts = {"expression": _short(self.source.slice(span)), **reject.facts}
        blamed = places[reject.operand] if reject.operand is not None and reject.operand < len(places) else span
        primary = span if labels else blamed
        self.scope.report(Diagnostic(reject.code, primary, facts, labels, reject.help))

    # -- expressions -----------------------------------------------------------------------------

    def value(self, expression: ast.Expression) -> Node | None:
        """The typed node of an expression, or None after a diagnostic."""
        if self.depth >= MAX_DEPTH:
            self.scope.problem("AG004", expression.span, limit=MAX_DEPTH)
            return None
        self.depth += 1
        node = self._value(expression)
        self.depth -= 1
        return node

    def _value(self, expression: ast.Expression) -> Node | None:
        match expression:
            case ast.Number(text):
                return self.make(Literal(read_number(text)), (), expression.span)
            case ast.Name():
                return self._name(expression)
            case ast.Unary(operator, operand):
                return self._unary(operator, operand, expression.span)
            case ast.Binary("@", left, right):
                return self._matmul(left, right, expression.span)
            case ast.Binary(operator, left, right):
                return self._binary(operator, left, right, expression.span)
            case ast.Transpose(operand):
                return self._transpose(operand, expression.span)
            case ast.Rename(operand, source, target):
                return self._rename(operand, source, target, expression.span)
            case ast.Call():
                return self._call(expression)
        raise AssertionError(expression)

    def _name(self, expression: ast.Name) -> Node | None:
        name, span = expression.name, expression.span
        if name in self.frame.parameters:
            return self.frame.parameters[name]
        if name in self.frame.values:
            self.frame.used.add(name)
            return self.read(name)
        if name == "pi":
            return self.make(Literal(math.pi), (), span)
        if name == "inf":
            return self.make(Literal(math.inf), (), span)
        if self.frame.axes is None and name in self.scope.constants:
            self.scope.used_constants.add(name)
            kind = Kind.INT if isinstance(self.scope.constants[name], int) else Kind.REAL
            return self.make(Size(Poly.symbol(name), kind), (), span)
        axis = self._axis(name)
        if axis in self.scope.axes:
            self.scope.count(axis)
            return self.make(Size(Poly.symbol(axis)), (), span)
        if name in self.frame.functions or (name, False) in BY_SPELLING or (name, True) in BY_SPELLING:
            self.scope.problem("AG266", span, name=name)
            return None
        if self.frame.axes is None and name in self.hidden and name in self.scope.places:
            self.scope.problem("AG224", span, Label(self.scope.places[name], "it is bound here"), name=name,
                               help=f"give it out of every step, as in `yield y = {name}`")  # fmt: skip
            return None
        # declared, but its value could not be read; a called formula does not see the caller's names
        if self.frame.axes is None and name in self.scope.places:
            self.frame.used.add(name)
            if name in self.scope.tensors:
                self.scope.problem("AG311", span, name=name)
            return None
        known = [*self.frame.parameters, *self.frame.values, *self.scope.axes, *self.scope.constants]
        meant = "a transpose is written `x^T`" if name == "t" else nearest(name, known)
        self.scope.problem("AG202", span, name=name, help=meant)
        return None

    def read(self, name: str) -> Node | None:
        """The value of a name; inside a scan, its entry at the current position."""
        node = self.frame.values[name]
        return node if node is None or not self.blocks else blocks.entry(self, node)

    def _axis(self, name: str) -> str:
        return self.frame.axes.get(name, name) if self.frame.axes is not None else name

    def _unary(self, operator: str, operand: ast.Expression, span: Span) -> Node | None:
        node = self.value(operand)
        if node is None:
            return None
        if operator == "not":
            return self.make(logic.Not(), (node,), span, (operand.span,))
        if isinstance(node.op, Literal):
            return self.make(Literal(-node.op.value), (), span)
        return self.make(arithmetic.Negative(), (node,), span, (operand.span,))

    def _binary(self, operator: str, left: ast.Expression, right: ast.Expression, span: Span) -> Node | None:
        first, second = self.value(left), self.value(right)
        if first is None or second is None:
            return None
        places = (left.span, right.span)
        if not (first.axes or second.axes) and self._overflows(ast.Binary(operator, left, right, span)):
            return None
        if operator == "^" and isinstance(second.op, Literal) and isinstance(second.op.value, int):
            exponent = second.op.value
            if exponent >= 0:
                return self.make(arithmetic.IntegerPower(exponent), (first,), span, places)
        return self.make(OPERATORS[operator](), (first, second), span, places)

    def _overflows(self, expression: ast.Binary) -> bool:
        """Whether an expression of numbers alone has no value, as `9^9^9^9` or `1 / 0`; said if so."""
        try:
            as_number(expression, {})
        except ScalarError as error:
            if error.code == "AG307":
                self.scope.scalar_problem(error)
                return True
        return False

    def _matmul(self, left: ast.Expression, right: ast.Expression, span: Span) -> Node | None:
        first, second = self.value(left), self.value(right)
        if first is None or second is None:
            return None
        places = (left.span, right.span)
        try:
            op = matmul(first.type, second.type)
        except Reject as reject:
            if reject.code == "AG201":
                reject.help = _matmul_help(first.type, second.type, left, right)
            self._rejected(reject, (first, second), span, places)
            return None
        return self.make(op, (first, second), span, places)

    def _transpose(self, operand: ast.Expression, span: Span) -> Node | None:
        node = self.value(operand)
        if node is None:
            return None
        if node.type.rank < 2:
            self.scope.problem(
                "AG267", span, Label(operand.span, f"this is {node.type}"), expression=_short(self.source.slice(span))
            )
            return None
        axes = (*node.axes[:-2], node.axes[-1], node.axes[-2])
        if isinstance(node.op, layout.Reorder) and node.inputs[0].axes == axes:
            return node.inputs[0]
        return self.make(layout.Reorder(axes), (node,), span, (operand.span,))

    def _rename(self, operand: ast.Expression, source: ast.Axis, target: ast.Axis, span: Span) -> Node | None:
        node = self.value(operand)
        old, new = self._axis(source.name), self._new_axis(target)
        if node is None:
            return None
        if old not in node.axes:
            self._missing_axis(source, node.type)
            return None
        self.scope.count(old)
        return self.make(layout.Rename(old, new), (node,), span, (operand.span,))

    def _missing_axis(self, axis: ast.Axis, type_: Type) -> None:
        if self._axis(axis.name) in self.scope.axes:
            self.scope.problem("AG268", axis.span, axis=axis.name, type=type_)
        else:
            known = type_.axes or self.scope.axes
            self.scope.problem("AG204", axis.span, name=axis.name, help=nearest(axis.name, known))

    def _new_axis(self, axis: ast.Axis) -> str:
        """An axis that an operation makes: declared here unless it is known.

        An axis inside a called formula gets a name of its own, unless its result shows it.
        """
        if self.frame.axes is not None and axis.name not in self.frame.axes:
            fresh = axis.name
            taken = {*self.scope.axes, *self.scope.constants}
            while fresh in taken and axis.name not in self.frame.shown:
                fresh += "_"
            self.frame.axes = {**self.frame.axes, axis.name: fresh}
        name = self._axis(axis.name)
        self.scope.axes.setdefault(name, axis.span)
        self.scope.count(name)
        return name

    # -- calls -----------------------------------------------------------------------------------

    def _call(self, call: ast.Call) -> Node | None:
        name = call.function
        if name in self.frame.functions:
            return self._call_function(call, self.frame.functions[name])
        if name == Position.spelling:
            return self._position(call)
        found = BY_SPELLING.get((name, call.axes is not None))
        if found is not None:
            return self._call_op(call, found)
        if name in self.frame.visible:
            from .inline import call_formula

            return call_formula(self, call, self.frame.visible[name])
        other = BY_SPELLING.get((name, call.axes is None))
        if other is not None:
            arguments = self._read_arguments(call)
            self.scope.problem(
                "AG269",
                call.function_span,
                name=name,
                takes=other.brackets.value,
                example=other.brackets.example(name),
                help=_brackets_help(call, arguments, other.brackets),
            )  # fmt: skip
            return None
        if name in self.frame.values:
            self.scope.problem("AG270", call.function_span, name=name)
        else:
            known = {*self.frame.functions, *self.frame.visible, *(spelling for spelling, _ in BY_SPELLING)}
            meant = FOREIGN_FUNCTIONS.get(name) or did_you_mean(name, sorted(known))
            self.scope.problem("AG203", call.function_span, name=name, help=meant)
        self._read_arguments(call)
        return None

    def _read_arguments(self, call: ast.Call) -> list[Node | None]:
        """Look into the arguments of a call that failed, for their own mistakes."""
        return [self.value(argument) for argument in call.arguments]

    def _position(self, call: ast.Call) -> Node | None:
        match call:
            case ast.Call(arguments=(ast.Name(name),), axes=None, keywords=()):
                axis = self._axis(name)
                if axis in self.scope.axes:
                    self.scope.count(axis)
                    if any(block.axis == axis for block in self.blocks):
                        return blocks.entry(self, self.builder.make(Position(axis)))
                    return self.make(Position(axis), (), call.span)
                self.scope.problem("AG204", call.arguments[0].span, name=name, help=self._declaring(name))
            case _:
                self.scope.problem("AG271", call.span)
        return None

    def _declaring(self, name: str) -> str | None:
        """What to do about positions along an axis that nothing declares: those of keys are as many as the tokens."""
        known = nearest(name, self.scope.axes)
        tokens = next((t.axes[-2].name for t in self.scope.tree.inputs if len(t.axes) >= 2), None)
        if did_you_mean(name, self.scope.axes) or tokens is None:
            return known
        return f"{known}; `where {name} = {tokens}` declares it, as long as `{tokens}`"

    def _call_function(self, call: ast.Call, function: ast.Function) -> Node | None:
        self.frame.used.add(function.name)
        arguments = [self.value(argument) for argument in call.arguments]
        if call.axes is not None or call.keywords or len(arguments) != len(function.parameters):
            self.scope.problem(
                "AG272", call.span, Label(function.name_span, "defined here"), name=function.name,
                takes=named("argument", [p.name for p in function.parameters]), given=len(call.arguments) or "none",
            )  # fmt: skip
            return None
        if any(argument is None for argument in arguments):
            return None
        nodes = [argument for argument in arguments if argument is not None]
        block = self.blocks[-1].number if self.blocks else 0  # of which the body may read entries
        key = (id(function), (*(node.index for node in nodes), -block))
        if key in self.frame.inlined:
            return self.frame.inlined[key]
        if any(function is reading for reading in self.calls):
            self.scope.problem("AG273", call.function_span, name=function.name)
            return None
        outer = self.frame.parameters
        problems = len(self.scope.problems)
        self.calls.append(function)
        self.frame.parameters = dict(zip((p.name for p in function.parameters), nodes, strict=True))
        result = self.value(function.body)
        self.calls.pop()
        self.frame.parameters = outer
        for index in range(problems, len(self.scope.problems)):
            self._add_label(index, Label(call.span, f"in this call of `{function.name}`"))
        self.frame.inlined[key] = result
        return result

    def _add_label(self, index: int, label: Label) -> None:
        problem = self.scope.problems[index]
        self.scope.problems[index] = replace(problem, labels=(*problem.labels, label))

    def _call_op(self, call: ast.Call, op_class: type[Op]) -> Node | None:
        """Bind a call to an operation: brackets, operands, optional operands, attributes."""
        values: dict[str, object] = {}
        operands = self._operands(call, op_class)
        attributes = self._attributes(call, op_class)
        if operands is None or attributes is None:
            return None
        nodes, places, given = operands
        if op_class.optional:
            values["given"] = given
        values |= attributes
        brackets = self._brackets(call, op_class, nodes)
        if brackets is None:
            return None
        op = op_class(**values, **brackets)
        if isinstance(op, Sum):
            contracted = self._contraction(op, nodes[0], call.span) or self._full_convolution(op, nodes[0], call.span)
            if contracted is not None:
                return contracted
        if isinstance(op, Softmax) and "mask" not in given:
            masked = mask_of(nodes[0])
            if masked is not None:
                scores, axes = nodes[0], nodes[0].axes
                mask: Node | None = None
                while masked is not None:
                    scores, shown, hides = masked
                    if hides:
                        shown = self.make(logic.Not(), (shown,), call.arguments[0].span) or shown
                    both = (shown,) if mask is None else (mask, shown)
                    mask = shown if mask is None else self.make(logic.And(), both, call.arguments[0].span)
                    masked = mask_of(scores)
                assert mask is not None
                op, nodes = Softmax(op.axes, given=("mask", *given)), (scores, mask, *nodes[1:])
                places = (places[0], places[0], *places[1:])
                made = self.make(op, nodes, call.span, places)
                if made is None or made.axes == axes:
                    return made
                return self.make(layout.Reorder(axes), (made,), call.span)
        return self.make(op, nodes, call.span, places)

    def _operands(
        self, call: ast.Call, op_class: type[Op]
    ) -> tuple[tuple[Node, ...], tuple[Span, ...], tuple[str, ...]] | None:
        required, optional = op_class.operands, op_class.optional
        keywords = {keyword.name: keyword for keyword in call.keywords if keyword.name in optional}
        positional = call.arguments
        expected = (*required, *(name for name in optional if name not in keywords))
        enough = len(positional) >= len(required) and (op_class.variadic or len(positional) <= len(expected))
        nodes = [self.value(argument) for argument in positional]
        if not enough:
            self.scope.problem(
                "AG272", call.span, name=call.function, takes=_takes(op_class), given=len(positional) or "none"
            )
            return None
        places = [argument.span for argument in positional]
        given = list(expected[len(required) : len(positional)]) if not op_class.variadic else []
        for name in optional:
            if name in keywords:
                nodes.append(self.value(keywords[name].value))
                places.append(keywords[name].value.span)
                given.append(name)
        if any(node is None for node in nodes):
            return None
        order = [*range(len(positional) if op_class.variadic else len(required))]
        order += sorted(range(len(order), len(nodes)), key=lambda i: optional.index(given[i - len(required)]))
        ordered = tuple(node for i in order if (node := nodes[i]) is not None)
        return ordered, tuple(places[i] for i in order), tuple(n for n in optional if n in given)

    def _attributes(self, call: ast.Call, op_class: type[Op]) -> dict[str, object] | None:
        known = {f.name: f for f in fields(op_class) if f.metadata.get("attribute")}
        values: dict[str, object] = {}
        fine = True
        for keyword in call.keywords:
            if keyword.name in op_class.optional:
                continue
            if keyword.name not in known or keyword.name in values:
                suggestion = did_you_mean(keyword.name, [*known, *op_class.optional])
                if keyword.name in FOREIGN_AXES and op_class.brackets is not Brackets.NONE:
                    suggestion = f"the brackets of `{call.function}` name the axis; take `{keyword.name}` out"
                self.scope.problem(
                    "AG274", keyword.span, name=call.function, keyword=keyword.name, help=suggestion
                )
                fine = False
                continue
            try:
                values[keyword.name] = self._size(keyword.value)
            except ScalarError as error:
                self.scope.scalar_problem(error)
                fine = False
        for name, f in known.items():
            if name not in values and f.default is f.default_factory:  # neither is given
                self.scope.problem("AG275", call.span, name=call.function, keyword=name, doc=f.metadata["doc"])
                fine = False
        return values if fine else None

    def _size(self, expression: ast.Expression) -> Poly:
        return self.scope.size(expression) if self.frame.axes is None else self._callee_size(expression)

    def constant(self, expression: ast.Expression) -> Node | None:
        """A number or size that is given for a constant of a called formula."""
        node = self.value(expression)
        if node is None or isinstance(node.op, Literal | Size):
            return node
        try:
            return self.make(Size(self._size(expression)), (), expression.span)
        except ScalarError as error:
            self.scope.problem("AG309", error.span)
            return None

    def _callee_size(self, expression: ast.Expression) -> Poly:
        from .scalars import as_size

        def resolve(name: ast.Name) -> Poly:
            node = self.frame.parameters.get(name.name) or self.frame.values.get(name.name)
            if node is not None and isinstance(node.op, Size):
                return node.op.size
            if node is not None and isinstance(node.op, Literal) and isinstance(node.op.value, int):
                return Poly.constant(node.op.value)
            return self.scope.size_name(ast.Name(self._axis(name.name), name.span))

        return as_size(expression, resolve)

    def _brackets(self, call: ast.Call, op_class: type[Op], nodes: tuple[Node, ...]) -> dict[str, object] | None:
        """The axes in brackets as the fields that the operation has for them."""
        wanted = op_class.brackets
        if wanted is Brackets.NONE:
            return {}
        axes = call.axes
        assert axes is not None
        sources, targets = axes.sources, axes.targets
        shape = {
            Brackets.AXES: len(sources) >= 1 and targets is None,
            Brackets.AXIS: len(sources) == 1 and targets is None,
            Brackets.SPLIT: len(sources) == 1 and targets is not None and len(targets) >= 2,
            Brackets.MERGE: len(sources) >= 1 and targets is not None and len(targets) == 1,
            Brackets.RENAME: len(sources) == 1 and targets is not None and len(targets) == 1,
            Brackets.WINDOW: len(sources) == 1 and targets is not None and len(targets) == 2,
            Brackets.CONVOLUTION: len(sources) in (2, 4, 6) and (targets is None or 2 * len(targets) == len(sources)),
        }
        if not shape[wanted]:
            self.scope.problem("AG269", axes.span, name=call.function, takes=wanted.value,
                               example=wanted.example(call.function))  # fmt: skip
            return None
        repeated = {a.name for a in sources if sum(b.name == a.name for b in sources) > 1}
        if repeated and not op_class.variadic:
            self.scope.problem("AG263", axes.span, name=call.function, axis=sorted(repeated)[0])
            return None
        names = []
        for position, axis in enumerate(sources):
            node = nodes[position] if op_class.variadic and position < len(nodes) else nodes[0]
            if wanted is Brackets.CONVOLUTION and position >= len(sources) // 2:
                node = nodes[1]
            if self._axis(axis.name) not in node.axes:
                self._missing_axis(axis, node.type)
                return None
            names.append(self._axis(axis.name))
            self.scope.count(names[-1])
        made = [self._new_axis(axis) for axis in targets or ()]
        match wanted:
            case Brackets.AXES:
                return {"axes": tuple(names)}
            case Brackets.AXIS:
                return {"axis": names[0]}
            case Brackets.SPLIT:
                return {"source": names[0], "targets": tuple(made)}
            case Brackets.MERGE:
                return {"sources": tuple(names), "target": made[0]}
            case Brackets.RENAME:
                return {"source": names[0], "target": made[0]}
            case Brackets.CONVOLUTION:
                half = len(names) // 2
                places, taps = tuple(names[:half]), tuple(names[half:])
                return {"sources": places, "taps": taps, "targets": tuple(made) or places}
            case _:
                return {"source": names[0], "target": made[0], "window": made[1]}

    def _contraction(self, op: Sum, node: Node, span: Span) -> Node | None:
        """`sum[D](x * y)` is the contraction of x and y over D where both carry D."""
        if not isinstance(node.op, arithmetic.Multiply) or node.type.kind not in (Kind.REAL, Kind.COMPLEX):
            return None
        left, right = node.inputs
        if not all(axis in left.axes and axis in right.axes for axis in op.axes):
            return None
        if left.type.kind is Kind.BOOL or right.type.kind is Kind.BOOL:
            return None
        result = tuple(axis for axis in node.axes if axis not in op.axes)
        return self.make(Contraction(op.axes, result), (left, right), span)

    def _full_convolution(self, op: Sum, node: Node, span: Span) -> Node | None:
        """`sum[C](conv[N, K](x, w))` sums channels that x and w share inside the convolution."""
        if not isinstance(node.op, Convolution | TransposedConvolution) or node.op.summed:
            return None
        x, kernel = node.inputs
        if not all(axis in x.axes and axis in kernel.axes for axis in op.axes):
            return None
        return self.make(replace(node.op, summed=op.axes), (x, kernel), span)


def _place_taken(op: Op, inputs: tuple[Node, ...]) -> tuple[tuple[Poly, Poly], ...]:
    """What makes a place legal that an entry is taken from, where all take the same: bounds as of `size_bounds`."""
    if not isinstance(op, Take) or inputs[1].axes:
        return ()
    place = affine(inputs[1])
    return () if place is None else ((place.offset, Poly.constant(0)), (Poly.symbol(op.axis), place.offset + 1))


def _short(text: str, limit: int = 48) -> str:
    """An expression as a message quotes it: on one line, not too long."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


def _matmul_help(left: Type, right: Type, first: ast.Expression, second: ast.Expression) -> str | None:
    """How the product is written right, where the axes say it."""
    span = first.span.to(second.span)
    if right.rank > 1 and right.axes[-1] == left.axes[-1]:
        side, turned = second, _turned(second)
        better = ast.Binary("@", first, turned, span)
        what = "the right side"
    elif left.rank > 1 and left.axes[-2] == (right.axes[-2] if right.rank > 1 else right.axes[0]):
        side, turned = first, _turned(first)
        better = ast.Binary("@", turned, second, span)
        what = "the left side"
    else:
        common = [axis for axis in left.axes if axis in right.axes]
        if len(common) != 1:
            return None
        text = format_expression(ast.Binary("*", first, second, span))
        return f"name the axis that is summed: `sum[{common[0]}]({text})`" if len(text) <= MAX_QUOTE else None
    written = format_expression(better)
    if len(written) > MAX_QUOTE:  # then only the side that changes
        written = _short(format_expression(turned))
    return f"{'drop the transpose of' if isinstance(side, ast.Transpose) else 'transpose'} {what}: `{written}`"


def _turned(expression: ast.Expression) -> ast.Expression:
    """The transpose of an expression; that of a transpose is what it transposes."""
    if isinstance(expression, ast.Transpose):
        return expression.operand
    return ast.Transpose(expression, expression.span)


def _brackets_help(call: ast.Call, arguments: Sequence[Node | None], takes: Brackets) -> str | None:
    """Which axis stands in brackets, where the text gives its number or leaves it out as other libraries allow."""
    if call.axes is not None or takes not in (Brackets.AXES, Brackets.AXIS) or not arguments or arguments[0] is None:
        return f"write `{call.function}(...)`" if call.axes is not None else None
    axes = arguments[0].axes
    for keyword in call.keywords:
        number = _whole(keyword.value)
        if keyword.name in FOREIGN_AXES and number is not None and -len(axes) <= number < len(axes):
            return f"name the axis in brackets: `{call.function}[{axes[number]}](...)`"
    return f"name the axis in brackets, such as `{call.function}[{axes[-1]}](...)`" if axes else None


def _whole(expression: ast.Expression) -> int | None:
    """The value of a literal like `2` or `-1`."""
    match expression:
        case ast.Number(text) if text.isdigit():
            return int(text)
        case ast.Unary("-", ast.Number(text)) if text.isdigit():
            return -int(text)
    return None


def named(what: str, names: Sequence[str]) -> str:
    """`the argument `x``, `the arguments `a` and `b``."""
    return f"the {what}{'' if len(names) == 1 else 's'} {_listed(names)}" if names else f"no {what}"


def _listed(names: Sequence[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def _takes(op_class: type[Op]) -> str:
    if op_class.variadic:
        return f"the arguments {', '.join(f'`{name}`' for name in op_class.operands)}, ..."
    optional = f", and optionally {_listed(op_class.optional)}" if op_class.optional else ""
    return named("argument", op_class.operands) + optional


def _result_help(actual: Type, declared: tuple[str, ...]) -> str | None:
    extra = [axis for axis in actual.axes if axis not in declared]
    missing = [axis for axis in declared if axis not in actual.axes]
    if len(extra) == 1 and len(missing) == 1:
        return f"rename the axis: `[{extra[0]} -> {missing[0]}]` after the value, if they are meant to be the same"
    if extra and not missing:
        return f"sum or average over {', '.join(f'`{axis}`' for axis in extra)}, or declare it in the result"
    return None
