"""The statements of one method: every node of a graph as an assignment, operands first.

The statements are in single-assignment form over placeholder names; `tidy` then writes short ones
into the expression that uses them and gives the others their final names.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from .. import pyast
from ..graph import Node
from ..lowerings.memory import Continued
from ..lowerings.rows import RowBlocks
from ..ops.base import Op, Operand
from ..ops.leaves import Buffer, Input, Literal, Parameter, Size
from ..scan import Part, Scan
from ..sizes import Poly
from ..types import Kind
from . import sizes as size_code
from .inplace import changed
from .names import hint

#: Functions of numbers that torch can trace when they are applied to sizes of inputs. Any other
#: would make torch.compile and torch.export take the size for a constant, or fail.
_TRACEABLE = frozenset({"math.floor", "math.ceil", "max", "min", "abs"})


@dataclass
class Statement:
    """`name = value` over a placeholder name, or `name, *others = value`.

    wanted: the name to give it; node: the node that it computes, if it is the value itself;
    pinned: it keeps its own line. others: further placeholder names, each with the name to give it.
    lasts: it is a tensor that is the same for every piece of a sequence.
    changing: the value as made in the memory of another, and the name of that, which nothing may read afterwards.
    """

    name: str
    wanted: str
    value: ast.expr
    node: Node | None = None
    pinned: bool = False
    comments: tuple[str, ...] = ()
    others: tuple[tuple[str, str], ...] = ()
    lasts: bool = False
    changing: tuple[ast.expr, str] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *(name for name, _ in self.others))

    @property
    def targets(self) -> tuple[str, ast.expr, *tuple[str, ...]]:
        """The arguments of `pyast.assign`."""
        return (self.name, self.value, *self.names[1:])


class Precision(Enum):
    """The dtype of a real value: that of the inputs, that of values that depend on positions and
    sizes only, or float64, in which such values are kept by the module."""

    WORKING = "working"
    WIDE = "wide"
    BUILT = "built"


@dataclass(frozen=True)
class Value:
    """Where the value of a node is held. number: it is a Python number."""

    expression: ast.expr
    number: bool = False
    precision: Precision = Precision.WORKING


@dataclass(frozen=True)
class Loop:
    """The method that runs a recurrence or blocks: what it takes besides its operands.

    sizes: names of sizes; typed: whether it takes a dtype, since no operand tells it.
    """

    name: str
    sizes: tuple[str, ...]
    typed: bool


@dataclass(frozen=True)
class Frame:
    """What differs between the methods that compute values.

    reference: expressions of sizes and constants by name; a size that is missing is read from a
        value that carries it.
    stored: expressions of inputs, and of values that are attributes of the module.
    names, notes: what the text calls a node, and the comment above it.
    fixed: nodes that depend on positions, sizes and constants only; dynamic: nodes that depend on
        a size that is known only when the module is called.
    real, wide, complex: the dtypes of computed values; device: that of the inputs.
    precisions: of values that depend on inputs, and of fixed ones.
    carried: for values that hand something on from piece to piece, the expressions of what the piece before handed on.
    loops: makes the methods of a recurrence, or of blocks.
    lasting: nodes that are the same for every piece of a sequence.
    """

    reference: Mapping[str, ast.expr]
    stored: Mapping[Node, ast.expr]
    names: Mapping[Node, str]
    notes: Mapping[Node, str]
    fixed: frozenset[Node]
    dynamic: frozenset[Node]
    real: ast.expr
    wide: ast.expr
    complex: ast.expr
    device: ast.expr
    precisions: tuple[Precision, Precision] = (Precision.WORKING, Precision.WIDE)
    carried: Mapping[Node, tuple[ast.expr, ...]] = field(default_factory=dict)
    loops: Callable[[Node], Loop] | None = None
    lasting: frozenset[Node] = frozenset()


@dataclass
class Body:
    """Gathers the statements of one method."""

    frame: Frame
    statements: list[Statement] = field(default_factory=list)
    used_sizes: dict[str, None] = field(default_factory=dict)
    helpers: dict[str, None] = field(default_factory=dict)
    handed_on: list[ast.expr] = field(default_factory=list)  # what is carried to the next piece
    passed: dict[str, None] = field(default_factory=dict)  # sizes that the method must be given
    _values: dict[Node, Value] = field(default_factory=dict)
    _converted: dict[tuple[Node, Kind, bool], ast.expr] = field(default_factory=dict)
    _carriers: dict[str, tuple[Node, int]] = field(default_factory=dict)
    _positive: set[str] = field(default_factory=set)  # names of numbers above 0

    def compute(self, nodes: Iterable[Node]) -> None:
        """Add the statements of these nodes, which come operands first."""
        for node in nodes:
            if node not in self._values:
                self._values[node] = self._compute(node)
                scan = scan_of(node.op)
                if scan is not None and node in self.frame.carried:
                    self.handed_on += [self._member(node, index) for index in range(scan.states)]
                if not self._values[node].number and scan is None:
                    for index, axis in enumerate(node.axes):
                        self._carriers.setdefault(axis, (node, index - len(node.axes)))

    def number(self, node: Node) -> ast.expr | None:
        """The value as a Python number, if it is one."""
        value = self._values[node]
        return value.expression if value.number else None

    def tensor(self, node: Node) -> ast.expr:
        """The value as a tensor in the dtype of results."""
        value = self._values[node]
        if value.number:
            return self.scalar(value.expression, node.type.kind, wide=False)
        return self._converted_to(node, node.type.kind, wide=False)

    # -- one node --------------------------------------------------------------------------------

    def _compute(self, node: Node) -> Value:
        op, fixed = node.op, node in self.frame.fixed
        if node in self.frame.stored:
            held = self.frame.stored[node]
            if isinstance(op, Input) and op.kind is Kind.INT:  # the caller's may be narrower
                held = self._assign(node, pyast.method(held, "long"), converted=True)
            elif isinstance(op, Parameter | Buffer) and op.kind is Kind.COMPLEX:  # `double` of TorchScript keeps it
                held = self._assign(node, pyast.method(held, "to", self.frame.complex), converted=True)
            return Value(held, precision=Precision.BUILT if fixed else Precision.WORKING)
        scan = scan_of(op)
        if scan is not None:
            return Value(self._assign(node, self._scan(node, scan)))
        if isinstance(op, Part):
            return self._part(node, op)
        if isinstance(op, RowBlocks):
            return Value(self._assign(node, self._blocks(node, op)))
        emitter = _NodeEmitter(self, fixed)
        operands = [self._values[operand] for operand in node.inputs]
        if not node.axes and all(operand.number for operand in operands):
            code = op.emit_number(emitter, *(operand.expression for operand in operands))
            if code is not None and node in self.frame.dynamic:
                code = powers(code, self._positive)
            if code is not None and (
                node not in self.frame.dynamic or (traceable(code) and defined(code, self._positive))
            ):
                return Value(self._named_number(node, code), number=True)
        lone = all(operand.number for operand in operands)
        arguments = [self._operand(node, index, as_tensor=lone) for index in range(len(operands))]
        if isinstance(op, Size):  # a number that torch cannot trace, as log(N)
            return Value(self._assign(node, self._size_tensor(op.size)), precision=self.frame.precisions[True])
        if node in self.frame.carried:
            return self._continued(node, emitter, arguments)
        code = op.emit(emitter, node.type, *arguments)
        kinds = [operand.type.kind for operand in node.inputs]
        if node.type.kind is Kind.REAL and Kind.COMPLEX in kinds and not fixed:
            code = pyast.method(code, "to", self.frame.real)  # there is no complex bfloat16 to come from
        value = Value(self._assign(node, code), precision=self.frame.precisions[fixed])
        made = None if fixed else changed(op, node.type, arguments, [x in self.frame.fixed for x in node.inputs])
        if made is not None and isinstance(made.func, ast.Attribute) and isinstance(made.func.value, ast.Name):
            self.statements[-1].changing = made, made.func.value.id
        return value

    def _continued(self, node: Node, emitter: _NodeEmitter, arguments: list[Operand]) -> Value:
        """A value that goes on from a state, and what it hands on."""
        state = self.frame.carried[node]
        onward = node.op.emit_from(emitter, node.type, state, *arguments)
        wanted = hint(node, self.frame.names)
        others = () if onward.alone else tuple(f"{wanted}_state" for _ in state)
        code = self._assign(node, onward.code, others=others)
        names = self.statements[-1].names
        self.handed_on += [pyast.name(name) for name in (names if onward.alone else names[1:])]
        finished = onward.finish(code)
        if finished is not code:
            finished = self._assign(node, finished)
        return Value(finished)

    def _scan(self, node: Node, scan: Scan) -> ast.expr:
        """The call of the method that runs a recurrence, from a state where there is one."""
        assert self.frame.loops is not None
        loop = self.frame.loops(node)
        given = [self._operand(node, index, as_tensor=True) for index in range(len(node.inputs))]
        operands = [align(operand, scan.laid_out(index)) for index, operand in enumerate(given)]
        for index, state in enumerate(self.frame.carried.get(node, ())):
            self.helpers["begun"] = None
            operands[index] = pyast.call("begun", state, operands[index])
        sizes = [self.size(Poly.symbol(name)) for name in loop.sizes]
        dtype = [self.frame.real] if loop.typed else []
        return pyast.call(f"self.{loop.name}", *operands, *sizes, *dtype)

    def _blocks(self, node: Node, op: RowBlocks) -> ast.expr:
        """The call of the method that runs a graph for a block of queries after the other."""
        assert self.frame.loops is not None
        loop = self.frame.loops(node)
        given: list[ast.expr] = []
        for index, operand in enumerate(node.inputs):
            fixed = operand in self.frame.fixed and not self._values[operand].number
            # values of positions keep their precision: what is made of them is rounded once
            value = self._values[operand] if fixed else self._operand(node, index, as_tensor=True)
            given.append(value.expression)
        sizes = [self.size(Poly.symbol(name)) for name in loop.sizes]
        return pyast.call(f"self.{loop.name}", *given, *sizes, *([self.frame.real] if loop.typed else []))

    def _part(self, node: Node, op: Part) -> Value:
        return Value(self._assign(node, self._member(node.inputs[0], op.index)), precision=self.frame.precisions[True])

    def _member(self, node: Node, index: int) -> ast.expr:
        """One of what a recurrence gives."""
        scan, bundle = scan_of(node.op), self._values[node].expression
        assert scan is not None
        return bundle if len(scan.step.results) == 1 else ast.Subscript(bundle, ast.Constant(index), ast.Load())

    def _named_number(self, node: Node, code: ast.expr) -> ast.expr:
        if isinstance(node.op, Literal | Size) or isinstance(code, ast.Name | ast.Constant):
            return code
        named = self._assign(node, code, number=True)
        if isinstance(named, ast.Name) and is_positive(code, self._positive):
            self._positive.add(named.id)
        return named

    def _assign(
        self,
        node: Node,
        value: ast.expr,
        *,
        converted: bool = False,
        others: tuple[str, ...] = (),
        number: bool = False,
    ) -> ast.expr:
        wanted = hint(node, self.frame.names)
        name = f"{wanted}%{len(self.statements)}"
        note = self.frame.notes.get(node)
        self.statements.append(
            Statement(
                name,
                wanted,
                value,
                None if converted else node,
                pinned=(node in self.frame.names and not converted) or bool(others),
                comments=(note,) if note and not converted else (),
                others=tuple((f"{other}%{len(self.statements)}%{i}", other) for i, other in enumerate(others)),
                lasts=node in self.frame.lasting and not number,
            )
        )
        return ast.Name(name, ast.Load())

    def lasting(self, wanted: str, code: ast.expr, operand: Operand) -> ast.expr:
        """Code in a statement of its own if its operand is the same for every piece."""
        if not operand.lasts:
            return code
        name = f"{wanted}%{len(self.statements)}"
        self.statements.append(Statement(name, wanted, code, lasts=True))
        return pyast.name(name)

    # -- operands --------------------------------------------------------------------------------

    def _operand(self, node: Node, index: int, *, as_tensor: bool) -> Operand:
        operand = node.inputs[index]
        value = self._values[operand]
        wanted = node.op.operand_kind(index, node.type, *(n.type for n in node.inputs))
        kind = wanted or operand.type.kind
        # torch has no complex numbers of half precision: what becomes complex is wide; so are the states of recurrences
        recurs = scan_of(node.op) is not None
        wide = node in self.frame.fixed or node.type.kind is Kind.COMPLEX or recurs
        lasts = operand in self.frame.lasting
        if value.number and as_tensor:
            scalar = self.scalar(value.expression, kind, wide=wide)
            return Operand(scalar, operand.type.of(kind), wide=wide, lasts=lasts)
        if value.number:
            return Operand(value.expression, operand.type.of(kind), number=True, lasts=lasts)
        code = self._converted_to(operand, kind, wide=wide)
        return Operand(code, operand.type.of(kind), wide=operand in self.frame.fixed and wide, lasts=lasts)

    def _converted_to(self, node: Node, kind: Kind, *, wide: bool) -> ast.expr:
        """The value converted to a kind, and from the wide to the working dtype where they meet."""
        value = self._values[node]
        inexact = kind in (Kind.REAL, Kind.COMPLEX)
        if kind is node.type.kind and (not inexact or value.precision is self.frame.precisions[wide]):
            return value.expression
        key = (node, kind, wide)
        if key not in self._converted:
            code = pyast.method(value.expression, "to", self.dtype(kind, wide=wide))
            self._converted[key] = self._assign(node, code, converted=True)
        return self._converted[key]

    def scalar(self, number: ast.expr, kind: Kind, *, wide: bool) -> ast.expr:
        return pyast.call(
            "torch.full", (), number, dtype=self.dtype(kind, wide=wide), device=self.frame.device
        )

    def dtype(self, kind: Kind, *, wide: bool) -> ast.expr:
        if kind is Kind.BOOL:
            return pyast.name("torch.bool")
        if kind is Kind.INT:
            return pyast.name("torch.int64")
        if kind is Kind.COMPLEX:
            return self.frame.complex
        return self.frame.wide if wide else self.frame.real

    # -- sizes -----------------------------------------------------------------------------------

    def size(self, size: Poly) -> ast.expr:
        return powers(size_code.number(size, self._reference), )

    def _reference(self, name: str) -> ast.expr:
        known = self.frame.reference.get(name)
        if known is not None:
            self.used_sizes[name] = None
            return known
        if name not in self._carriers:
            self.passed[name] = None
            return pyast.name(f"{name}%size")
        node, dimension = self._carriers[name]
        return pyast.method(self._values[node].expression, "size", dimension)

    def _size_tensor(self, size: Poly) -> ast.expr:
        """A size with logarithms as a tensor without dimensions."""

        code = _TensorFunctions(self).visit(size_code.number(size, self._reference))
        assert isinstance(code, ast.expr)
        return code


class _TensorFunctions(ast.NodeTransformer):
    """`math.log(n)` becomes `torch.log(torch.full((), n, ...))`."""

    def __init__(self, body: Body) -> None:
        self.body = body

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = ast.unparse(node.func)
        if not name.startswith("math.") or name in _TRACEABLE:
            return node
        argument = self.body.scalar(node.args[0], Kind.REAL, wide=True)
        return pyast.call(name.replace("math.", "torch."), argument)


class _Powers(ast.NodeTransformer):
    def __init__(self, positive: Collection[str] | None) -> None:
        self.positive = positive

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        function = ast.unparse(node.func)
        if function == "math.sqrt" and (self.positive is None or _has_root(node.args[0], self.positive)):
            return pyast.binary("**", node.args[0], 0.5)
        if function == "math.pow" and (
            self.positive is None
            or (is_positive(node.args[0], self.positive) and isinstance(node.args[1], ast.Constant))
        ):
            return pyast.binary("**", pyast.binary("*", node.args[0], 1.0), node.args[1])
        return node


def scan_of(op: Op) -> Scan | None:
    """The recurrence that an operation is, from its start or from a state."""
    inner = op.op if isinstance(op, Continued) else op
    return inner if isinstance(inner, Scan) else None


def powers(code: ast.expr, positive: Collection[str] | None = None) -> ast.expr:
    """`n ** 0.5` for `math.sqrt(n)` and the like: the operator is what torch.export can trace.

    positive: names of numbers above 0. With it only where that gives what tensors give: of a negative number Python
    makes a complex one, and it raises an error where a power leaves the range of float64.
    """
    result = _Powers(positive).visit(code)
    assert isinstance(result, ast.expr)
    return result


def traceable(code: ast.expr) -> bool:
    """Whether torch can trace a number that depends on sizes of inputs."""
    calls = (call.func for call in ast.walk(code) if isinstance(call, ast.Call))
    return all(ast.unparse(f) in _TRACEABLE or (isinstance(f, ast.Attribute) and f.attr == "size") for f in calls)


def defined(code: ast.expr, positive: Collection[str]) -> bool:
    """Whether a number is computed without a division by one that may be 0, at which Python raises an error."""
    over = (node.right for node in ast.walk(code) if isinstance(node, ast.BinOp) and isinstance(node.op, _DIVISIONS))
    return all(is_positive(divisor, positive) for divisor in over)


_DIVISIONS = (ast.Div, ast.FloorDiv, ast.Mod)


def is_positive(code: ast.expr, positive: Collection[str]) -> bool:
    """Whether a number is made of sizes, positive constants and names of positive numbers so that it is above 0."""
    match code:
        case ast.Constant(value):
            return isinstance(value, int | float) and value > 0
        case ast.Name(name):  # a size, or a number that was computed
            return "%" not in name or name.endswith("%size") or name in positive
        case ast.Attribute(ast.Name("self")) | ast.Call(ast.Attribute(attr="size")):
            return True
        case ast.BinOp(left, ast.Add() | ast.Mult() | ast.Div() | ast.Pow(), right):
            return is_positive(left, positive) and is_positive(right, positive)
        case ast.Call(ast.Name("max"), arguments):
            return any(is_positive(argument, positive) for argument in arguments)
    return False


def _has_root(code: ast.expr, positive: Collection[str]) -> bool:
    """Whether a number is known to be 0 or above it."""
    match code:
        case ast.Constant(value):
            return isinstance(value, int | float) and value >= 0
        case ast.Call(ast.Name("max"), arguments):
            return any(_has_root(argument, positive) for argument in arguments)
    return is_positive(code, positive)


@dataclass(frozen=True)
class _NodeEmitter:
    """What an operation may ask for while it emits the code of one node."""

    body: Body
    fixed: bool

    def size(self, size: Poly) -> ast.expr:
        return self.body.size(size)

    def dtype(self, kind: Kind, *, wide: bool) -> ast.expr:
        return self.body.dtype(kind, wide=wide or self.fixed)

    def device(self) -> ast.expr:
        return self.body.frame.device

    def align(self, operand: Operand, axes: tuple[str, ...]) -> ast.expr:
        return align(operand, axes)

    def full(self, operand: Operand, axes: tuple[str, ...]) -> ast.expr:
        aligned = align(operand, axes)
        if set(axes) == set(operand.type.axes):
            return aligned
        repeats = [
            pyast.constant(1) if axis in operand.type.axes else self.body.size(Poly.symbol(axis)) for axis in axes
        ]
        return pyast.method(aligned, "tile", ast.Tuple(repeats, ast.Load()))

    def helper(self, function: str) -> ast.expr:
        self.body.helpers[function] = None
        return pyast.name(function)

    def lasting(self, name: str, code: ast.expr, operand: Operand) -> ast.expr:
        return self.body.lasting(name, code, operand)


def align(operand: Operand, axes: tuple[str, ...]) -> ast.expr:
    """The operand with its dimensions in the order of `axes`, and length 1 where it lacks one that
    stands right of a dimension that it has (batch dimensions stand left of all)."""
    code = operand.expression
    if operand.number:
        return code
    have = list(operand.type.axes)
    wanted = [axis for axis in axes if axis in have]
    if have != wanted:
        code = reordered(code, tuple(have), tuple(wanted), batched=operand.type.batched)
    first = 0 if operand.type.batched else next((i for i, a in enumerate(axes) if a in have), len(axes))
    missing = [i - len(axes) for i, axis in enumerate(axes) if i >= first and axis not in have]
    for dimension in sorted(missing, reverse=True):  # from the right, so that later indices stay true
        code = pyast.method(code, "unsqueeze", dimension)
    return code


def reordered(code: ast.expr, have: tuple[str, ...], wanted: tuple[str, ...], *, batched: bool) -> ast.expr:
    """The transposition that brings dimensions `have` into the order `wanted`."""
    rank = len(have)
    moved = [i for i in range(rank) if have[i] != wanted[i]]
    if len(moved) == 2:
        return pyast.method(code, "transpose", *(i - rank for i in moved))
    if not batched:
        return pyast.method(code, "permute", *(have.index(axis) for axis in wanted))
    source = tuple(have.index(wanted[i]) - rank for i in moved)
    return pyast.method(code, "movedim", source, tuple(i - rank for i in moved))
