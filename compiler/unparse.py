"""A graph as a formula of the language: text that parses, checks, and computes the same.

The text keeps the header and the docstring, the declarations that are still needed, and the names that the author gave
to values. Values that several others need get a name. The order of axes inside is free, since axes meet by name: a
value is written as it comes, and `@` is used where the order fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from ..grammar import ast
from ..grammar.names import LANGUAGE_WORDS
from ..grammar.printer import format_file
from ..grammar.source import Source
from .elaborate import elaborate
from .formula import Formula
from .graph import Graph, Node
from .ops import BY_SPELLING
from .ops.arithmetic import Add
from .ops.base import Leaf, Op, Reject
from .ops.contraction import Contraction, matmul
from .ops.layout import Broadcast, Convert, Rename, Reorder
from .ops.leaves import Declared, Position, Size
from .ops.normalisations import Normalisation, Softmax
from .ops.reductions import Reduction
from .render import expression
from .scan import Argument, Part, Scan, deep
from .sizes import Atom, Poly
from .types import Type

MAX_DEPTH = 24  # of an expression that is written without a name for a part of it


def unparse(formula: Formula, graph: Graph) -> str:
    """The text of a formula that computes the graph, which is one over the formula's own declarations."""
    tree = _Writer(formula, graph).formula()
    # An axis that an operation makes may owe its size to a line that is gone with a called formula.
    _, problems = elaborate(tree, Source(formula.name, ""), {})
    missing = frozenset(problem.facts["axis"] for problem in problems if problem.code == "AG302")
    if missing:
        tree = _Writer(formula, graph, missing).formula()
    return format_file(ast.File((tree,)))


@dataclass(frozen=True)
class _Written:
    """A value in the text: the expression, the order of its axes there, how deep the expression is."""

    expression: ast.Expression
    axes: tuple[str, ...]
    depth: int = 0


class _Writer:
    def __init__(self, formula: Formula, graph: Graph, unsized: frozenset[str] = frozenset()) -> None:
        self.unsized = unsized  # axes whose sizes have to be stated
        self.source = formula
        self.graph = graph
        self.nodes = graph.nodes()
        self.uses = Counter(operand for node in self.nodes for operand in node.inputs)
        self.uses.update(graph.outputs)
        self.written: dict[Node, _Written] = {}
        self.lines: list[ast.Statement] = []
        self.members: dict[tuple[Node, int], str] = {}  # names of what scans yield
        self.named: set[str] = set()
        self.given: set[Node] = set()  # what the line of a step that gives it will name
        self.inside = inside = deep(self.nodes)
        scans = [(node, node.op) for node in inside if isinstance(node.op, Scan)]
        # values whose kind and axes a state declares
        self.declared = {v for node, op in scans for v in (*node.inputs[: op.states], *op.step.results[: op.states])}
        self.declared |= {n.inputs[0] for n in self.declared if isinstance(n.op, Broadcast | Reorder)}
        states = (state for _, op in scans for state in op.step.arguments[: op.states])
        self.scanned = {op.axis for _, op in scans} | {axis for state in states for axis in state.axes}
        tree = formula.tree
        stored = (t.name for s in tree.statements if isinstance(s, ast.Param | ast.Buffer) for t in s.tensors)
        axes = (axis for node in inside for axis in node.axes)
        self.taken = {*(tensor.name for tensor in tree.inputs), *stored, *axes, *formula.constants, *self._symbols()}
        self.taken |= {*LANGUAGE_WORDS, "pi", "inf", *(name for name, _ in BY_SPELLING), *graph.names.values()}

    def formula(self) -> ast.Formula:
        self._write(self.nodes)
        values = tuple(self.written[output].expression for output in self.graph.outputs)
        tree = self.source.tree
        statements = (*self._declarations(), *self.lines, ast.Return(values))
        return ast.Formula(tree.name, tree.inputs, tree.results, tree.docstring, statements)

    # -- declarations ---------------------------------------------------------------------------------

    def _symbols(self) -> set[str]:
        """Axes and constants that operations speak of."""
        return {name for node in self.nodes for size in node.op.scalars() for name in size.symbols()}

    def _declarations(self) -> Iterator[ast.Statement]:
        """The declaring lines of the formula, without what nothing needs any more."""
        needed = {node.op.name for node in self.nodes if isinstance(node.op, Declared)}
        symbols = self._symbols()
        axes = {axis for node in self.nodes for axis in node.axes} | symbols | self.scanned
        axes |= {axis.name for tensor in self.source.tree.inputs for axis in tensor.axes}
        axes |= {axis.name for result in self.source.tree.results for axis in result.axes}
        needed |= self._carriers(needed)
        kept: list[ast.Statement] = []
        names = set(symbols)
        for statement in self.source.tree.statements:
            match statement:
                case ast.Param(tensors) | ast.Buffer(tensors):
                    rest = tuple(tensor for tensor in tensors if tensor.name in needed)
                    names.update(name for tensor in rest for name in _names(tensor.initial))
                    if rest:
                        kept.append(type(statement)(rest))
                case ast.Where(facts):
                    rest_facts = tuple(f for f in facts if {*_names(f.left), *_names(f.right)} & axes)
                    names.update(name for f in rest_facts for side in (f.left, f.right) for name in _names(side))
                    if rest_facts:
                        kept.append(ast.Where(rest_facts))
                case ast.Sequence(listed):
                    rest_axes = tuple(axis for axis in listed if axis.name in axes)
                    if rest_axes:
                        kept.append(ast.Sequence(rest_axes))
                case ast.Require(claims):
                    names.update(name for claim in claims for name in _names(claim.bound))
                    kept.append(ast.Require(claims))
                case ast.Const():
                    kept.append(statement)
        for statement in kept:
            constants = _needed_constants(statement, kept, names) if isinstance(statement, ast.Const) else ()
            if constants:
                yield ast.Const(constants)
            elif not isinstance(statement, ast.Const):
                yield statement
        yield from self._undeclared(kept)

    def _read(self) -> set[str]:
        """The axes of which only the name or the size is needed: of positions, sizes, states and steps."""
        sizes = (node.op.size for node in self.nodes if isinstance(node.op, Size))
        read = {node.op.axis for node in self.nodes if isinstance(node.op, Position)}
        return read | self.scanned | self.unsized | {name for size in sizes for name in size.symbols()}

    def _carriers(self, needed: set[str]) -> set[str]:
        """Parameters and buffers that no value needs, but that alone say how long an axis is."""
        lines = (s for s in self.source.tree.statements if isinstance(s, ast.Param | ast.Buffer))
        declared = [tensor for line in lines for tensor in line.tensors]
        known = {axis.name for tensor in self.source.tree.inputs for axis in tensor.axes}
        known |= {axis.name for tensor in declared if tensor.name in needed for axis in tensor.axes}
        found: set[str] = set()
        derived = self.source.derived
        read = self._read()
        read |= {name for axis in read & derived.keys() for name in derived[axis].symbols()}
        for axis in sorted(read - known - derived.keys() - self.source.constants.keys()):
            carriers = [tensor.name for tensor in declared if axis in {each.name for each in tensor.axes}]
            if not found & set(carriers):
                found.update(carriers[:1])
        return found

    def _undeclared(self, kept: Iterable[ast.Statement]) -> Iterator[ast.Where]:
        """Facts for axes whose positions or sizes are read, and which only an operation makes."""
        known = {axis.name for tensor in self.source.tree.inputs for axis in tensor.axes}
        for statement in kept:
            match statement:
                case ast.Param(tensors) | ast.Buffer(tensors):
                    known.update(axis.name for tensor in tensors for axis in tensor.axes)
                case ast.Where(facts):
                    known.update(name for fact in facts for side in (fact.left, fact.right) for name in _names(side))
        for axis in sorted(self._read() - known - self.source.constants.keys()):
            size = self.source.derived.get(axis)
            if size is not None:
                yield ast.Where((ast.Fact("=", ast.Name(axis), size_expression(size)),))

    # -- recurrences ----------------------------------------------------------------------------------

    def _write(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            if isinstance(node.op, Scan):
                self._scan(node, node.op)
            elif not isinstance(node.op, Part | Argument):
                self.written[node] = self._named(node, self._value(node))

    def _scan(self, node: Node, op: Scan) -> None:
        """The block of a scan. What a step reads stands under a name, for inside the block a name means an entry."""
        step, outside = op.step, self.lines
        states = step.arguments[: op.states]
        parts = {user.op.index: user for user in self.inside if isinstance(user.op, Part) and user.inputs == (node,)}
        body: list[ast.Statement] = []
        for index, (argument, operand) in enumerate(zip(step.arguments, node.inputs, strict=True)):
            assert isinstance(argument.op, Argument)
            value = self.written[operand]
            if index < op.states:
                name = self._own(argument.op.name, parts.get(index))
                axes = tuple(ast.Axis(axis) for axis in argument.axes)
                start = value.expression
                if isinstance(start, ast.Number):
                    start = ast.Number(start.text.removesuffix(".0"))
                body.append(ast.State((ast.Tensor(name, axes, argument.type.kind.value, start),)))
                self.written[argument] = _Written(ast.Name(name), argument.axes)
                continue
            if not isinstance(value.expression, ast.Name | ast.Number) and not isinstance(operand.op, Position):
                name = self._fresh(argument.op.name)
                outside.append(ast.Assign(name, value.expression))
                value = self.written[operand] = _Written(ast.Name(name), value.axes)
            seen = tuple(axis for axis in value.axes if axis != op.axis)
            self.written[argument] = _Written(value.expression, seen)
        self.lines = body
        nodes = [inner for inner in step.nodes() if not isinstance(inner.op, Argument)]
        self._step(node, nodes, {i: self._own("output", parts.get(i)) for i in range(op.states, len(step.results))})
        self.lines = outside
        outside.append(ast.Scan(ast.Axis(op.axis), tuple(body)))
        for index, part in parts.items():
            name = self.members.get((node, index), "")
            shown = self.written[states[index]] if index < op.states else _Written(ast.Name(name), part.axes)
            self.written[part] = _Written(shown.expression, part.axes)

    def _own(self, word: str, part: Node | None) -> str:
        """The name of a state or of what is yielded: the author's, if nothing else has it."""
        name = self.graph.names.get(part, word) if part is not None else word
        if name in self.named:
            return self._fresh(name)
        self.named.add(name)
        self.taken.add(name)
        return name

    def _step(self, scan: Node, nodes: list[Node], yields: dict[int, str]) -> None:
        """The lines of a step. A state gets its next value when nothing reads the one before any more."""
        op = scan.op
        assert isinstance(op, Scan)
        results, states = op.step.results, op.step.arguments[: op.states]
        last = {operand: at for at, node in enumerate(nodes) for operand in node.inputs}
        late: list[tuple[str, ast.Expression]] = []
        self.given.update(results)
        self.uses.update(operand for node in nodes for operand in node.inputs)
        self.uses.update(result for result in results if not isinstance(result.op, Argument))

        def give(node: Node, at: int) -> None:
            """What the step gives, where this node is a part of it."""
            for index, name in yields.items():
                if results[index] is node:
                    self.lines.append(ast.Yield(name, self.written[node].expression))
                    self.members[scan, index] = name
                    if not isinstance(node.op, Argument):
                        self.written[node] = _Written(ast.Name(name), self.written[node].axes)
            for state, result in zip(states, results, strict=False):
                if result is not node or state is node:
                    continue
                old = self.written[state].expression
                assert isinstance(old, ast.Name)
                given = isinstance(node.op, Argument)
                if not given and last.get(state, -1) <= at and not any(r is state for r in results):
                    self.lines.append(ast.Assign(old.name, self.written[node].expression))
                    self.written[node] = _Written(old, self.written[state].axes)  # a state is laid out as declared
                else:
                    if node in states or not (given or isinstance(self.written[node].expression, ast.Name)):
                        kept = self._fresh(_word(node.op))
                        self.lines.append(ast.Assign(kept, self.written[node].expression))
                        self.written[node] = _Written(ast.Name(kept), self.written[node].axes)
                    late.append((old.name, self.written[node].expression))

        # what is given as it came has to be kept before a state changes
        for argument in op.step.arguments:
            if argument in results:
                give(argument, -1)
        for at, node in enumerate(nodes):
            self._write([node])
            if node in results:
                give(node, at)
        self.lines += [ast.Assign(name, value) for name, value in late]

    # -- values ---------------------------------------------------------------------------------------

    def _named(self, node: Node, value: _Written) -> _Written:
        """The value under a name, where it has one or deserves one."""
        op = node.op
        if isinstance(op, Leaf | Reorder) or node in self.given:
            return value
        name = self.graph.names.get(node)
        shared = self.uses[node] > 1 and not self._is_short(node)
        if name is None and not shared and value.depth < MAX_DEPTH:
            return value
        if name is None:
            name = self._fresh(self.source.inner_names.get(node) or _word(op))
        self.lines.append(ast.Assign(name, value.expression))
        return _Written(ast.Name(name), value.axes)

    def _is_short(self, node: Node) -> bool:
        """Whether repeating the value reads better than a name for it, and costs nothing."""
        simple = all(isinstance(operand.op, Leaf) for operand in node.inputs)
        return simple and (not node.axes or isinstance(node.op, Rename))

    def _fresh(self, word: str) -> str:
        number = 1
        name = word
        while name in self.taken:
            number += 1
            name = f"{word}_{number}"
        self.taken.add(name)
        return name

    def _value(self, node: Node) -> _Written:
        op = node.op
        operands = [self.written[operand] for operand in node.inputs]
        depth = 1 + max((operand.depth for operand in operands), default=-1)
        match op:
            case Reorder():
                return operands[0]
            case Broadcast():
                if node not in self.declared:
                    raise AssertionError("the language has no word for a repeated value")
                return operands[0]  # the declared state says it
            case Convert():
                [x] = operands
                if (node in self.graph.outputs and self.uses[node] == 1) or node in self.declared:
                    return x  # the declared result or state says it
                return _Written(ast.Binary("*", x.expression, ast.Number("1.0")), x.axes, depth)
            case Size(size):
                return _Written(size_expression(size), ())
            case Contraction():
                return _contraction(node, operands, depth)
        types = [operand.type.with_axes(w.axes) for operand, w in zip(node.inputs, operands, strict=True)]
        shown = expression(node, [operand.expression for operand in operands])
        return _Written(_opened(shown) if isinstance(op, Add) else shown, op.infer(*types).axes, depth)


def _opened(total: ast.Expression) -> ast.Expression:
    """`x + y + z` for `x + (y + z)`."""
    match total:
        case ast.Binary("+", left, ast.Binary("+", first, second)):
            return ast.Binary("+", _opened(ast.Binary("+", left, first)), second)
    return total


def _contraction(node: Node, operands: list[_Written], depth: int) -> _Written:
    """`x @ y` where the order of axes allows it, also with a side transposed; else `sum[D](x * y)`."""
    op = node.op
    assert isinstance(op, Contraction)
    both = list(zip(operands, (operand.type for operand in node.inputs), strict=True))
    for left, right in (both, both[::-1]):
        for one, one_shown in _orders(*left):
            for other, other_shown in _orders(*right):
                try:
                    product = matmul(one, other)
                except Reject:
                    continue
                if product.axes == op.axes:
                    return _Written(ast.Binary("@", one_shown, other_shown), product.result, depth)
    axes = ast.AxisMap(tuple(ast.Axis(axis) for axis in op.axes))
    whole = ast.Binary("*", operands[0].expression, operands[1].expression)
    order = tuple(dict.fromkeys((*operands[0].axes, *operands[1].axes)))
    if not op.axes:
        return _Written(whole, order, depth)
    return _Written(ast.Call("sum", axes, (whole,)), tuple(axis for axis in order if axis not in op.axes), depth)


def _orders(value: _Written, type_: Type) -> Iterator[tuple[Type, ast.Expression]]:
    """The value as it is written, and transposed."""
    yield type_.with_axes(value.axes), value.expression
    if len(value.axes) >= 2:
        flipped = (*value.axes[:-2], value.axes[-1], value.axes[-2])
        yield type_.with_axes(flipped), ast.Transpose(value.expression)


def size_expression(size: Poly) -> ast.Expression:
    """A size as an expression: `Y * X`, `(N - 1) / 2`."""
    total: ast.Expression | None = None
    for monomial in sorted(size.terms, key=lambda monomial: -sum(power for _, power in monomial)):
        coefficient = size.terms[monomial]
        product = _monomial(monomial, -coefficient if coefficient < 0 else coefficient)
        if total is None:
            total = ast.Unary("-", product) if coefficient < 0 else product
        else:
            total = ast.Binary("-" if coefficient < 0 else "+", total, product)
    return total or ast.Number("0")


def _monomial(monomial: Iterable[tuple[str, int]], coefficient: int | Fraction) -> ast.Expression:
    above: list[ast.Expression] = []
    below: list[ast.Expression] = []
    number = Fraction(coefficient)
    for part, count in ((above, number.numerator), (below, number.denominator)):
        if count != 1:
            part.append(ast.Number(str(count)))
    for atom, power in monomial:
        written = _atom(atom)
        part = above if power > 0 else below
        part.append(written if abs(power) == 1 else ast.Binary("^", written, ast.Number(str(abs(power)))))
    result: ast.Expression = above[0] if above else ast.Number("1")
    for factor in above[1:]:
        result = ast.Binary("*", result, factor)
    for factor in below:
        result = ast.Binary("/", result, factor)
    return result


def _atom(atom: str) -> ast.Expression:
    if not isinstance(atom, Atom):
        return ast.Name(atom)
    arguments = tuple(size_expression(argument) for argument in atom.arguments)
    if atom.function == "quotient":
        return ast.Binary("/", arguments[0], arguments[1])
    return ast.Call(atom.function, None, arguments)


def _word(op: Op) -> str:
    """What a value that has no name is called, by what makes it."""
    match op:
        case Softmax():
            return "weights"
        case Contraction():
            return "product"
        case Normalisation():
            return "normal"
        case Reduction():
            return "total"
    return {"functions": "feature", "logic": "choice", "arithmetic": "term"}.get(op.family, "value")


def _names(tree: object) -> set[str]:
    """Every name in an expression."""
    found: set[str] = set()
    stack = [tree]
    while stack:
        match stack.pop():
            case ast.Name(name):
                found.add(name)
            case ast.Unary(_, operand) | ast.Transpose(operand) | ast.Rename(operand):
                stack.append(operand)
            case ast.Binary(_, left, right):
                stack += [left, right]
            case ast.Call(_, _, arguments, keywords):
                stack += [*arguments, *(keyword.value for keyword in keywords)]
    return found


def _needed_constants(
    statement: ast.Const, statements: Iterable[ast.Statement], names: set[str]
) -> tuple[ast.Binding, ...]:
    """The constants of one line that names need, directly or through another constant."""
    values: Mapping[str, ast.Expression] = {
        binding.name: binding.value for s in statements if isinstance(s, ast.Const) for binding in s.bindings
    }
    needed, stack = set(), list(names & values.keys())
    while stack:
        name = stack.pop()
        if name not in needed:
            needed.add(name)
            stack.extend(_names(values[name]) & values.keys())
    return tuple(binding for binding in statement.bindings if binding.name in needed)
