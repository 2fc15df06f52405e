"""The checks at the start of a call: ranks, dtypes, sizes and relations, without reading a tensor."""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Mapping

from .. import pyast
from ..formula import Formula, Relation
from ..graph import Node
from ..ops.leaves import Declared
from ..scan import Scan
from ..sizes import Atom, Poly
from ..types import Kind
from . import sizes as size_code
from .layout import Line
from .messages import raise_if
from .names import LOCAL_RESERVED, Names
from .settle import SizePlan

HELPER = "in_autocast"


def input_checks(
    formula: Formula,
    plan: SizePlan,
    inputs: Mapping[Node, ast.expr],
    attributes: Mapping[str, ast.expr],
    stored: Mapping[Node, ast.expr],
    so_far: Mapping[str, ast.expr] | None = None,
) -> list[Line]:
    """Statements that raise ValueError where inputs do not fit the formula.

    inputs, attributes, stored: the expressions of the inputs, of the sizes that the module holds, and of its tensors.
    so_far: those of axes with an entry for every position of the sequence so far.
    """
    lines = [_tensor(formula, node, inputs[node]) for node in formula.inputs]
    lines += [_rank(formula, node, inputs[node]) for node in formula.inputs if node.axes]
    lines += _dtypes(formula, inputs, stored)
    for node in formula.inputs:
        lines += _sizes(formula, plan, node, inputs, attributes, so_far or {})
    references = dict(attributes)
    for axis, (node, dimension) in plan.sources.items():
        references[axis] = pyast.method(inputs[node], "size", dimension)
    if so_far is None:
        lines += _steps(formula, plan, references)
    return lines + size_checks(formula, plan.derived, plan.calling, references)


def shapes_once(
    lines: list[Line], formula: Formula, inputs: Mapping[Node, ast.expr], library: frozenset[str]
) -> list[Line]:
    """The checks of inputs as a method of their own, with a shape that is asked for several times held in a variable.

    A call of `size` takes several times as long as an entry of a shape that is there. library: names that are taken.
    """
    arguments = {ast.unparse(inputs[node]): _name(node) for node in formula.inputs}
    names = Names(LOCAL_RESERVED | library)
    names.claim(arguments)
    tensors, rest = lines[: len(arguments)], copy.deepcopy(lines[len(arguments) :])
    tests = [line.statement for line in rest if isinstance(line.statement, ast.If)]
    asked = Counter(_asked(each) for test in tests for each in ast.walk(test.test))
    shapes = _Shapes({each: names.take(f"{name}_shape") for each, name in arguments.items() if asked[each] > 1})
    for test in tests:
        test.test = shapes.visit(test.test)
    held = [
        Line(pyast.assign(shape, ast.Attribute(pyast.name(argument), "shape", ast.Load())))
        for argument, shape in shapes.names.items()
    ]
    return [*tensors, *held, *rest]


def _asked(node: ast.AST) -> str | None:
    """The variable of which an expression asks for a size, or for the number of dimensions."""
    match node:
        case ast.Call(ast.Attribute(ast.Name(name), "size" | "dim")):
            return name
    return None


class _Shapes(ast.NodeTransformer):
    """`x.size(-1)` becomes `x_shape[-1]`, and `x.dim()` becomes `len(x_shape)`. names: of the shapes, by variable."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        shape = self.names.get(_asked(node) or "")
        if shape is None:
            return node
        held = pyast.name(shape)
        return ast.Subscript(held, node.args[0], ast.Load()) if node.args else pyast.call("len", held)


def size_checks(
    formula: Formula,
    computed: Mapping[str, Poly],
    relations: tuple[Relation, ...],
    references: Mapping[str, ast.expr],
) -> list[Line]:
    """Computed sizes are whole and positive, and relations hold."""
    known = dict(references)
    lines: list[Line] = []
    for axis, size in computed.items():
        code = size_code.whole(size, known.__getitem__)
        if code.divisor is not None:
            remainder = pyast.binary("%", code.dividend, code.divisor)
            lines.append(
                raise_if(
                    pyast.binary("!=", remainder, 0),
                    f"{formula.name}: {axis} = {size} is not a whole number for ", *_values(size, known),
                )
            )  # fmt: skip
        if _may_vanish(size):
            lines.append(
                raise_if(
                    pyast.binary("<", code.expression, 1),
                    f"{formula.name}: {axis} = {size} is ", code.expression, " for ", *_values(size, known),
                )
            )  # fmt: skip
        known.setdefault(axis, code.expression)
    for relation in relations:
        left, right = _comparable(relation.left, relation.right)
        test = pyast.binary(
            _OPPOSITE[relation.relation],
            size_code.number(left, known.__getitem__),
            size_code.number(right, known.__getitem__),
        )
        text = f"{relation.left} {relation.relation} {relation.right}"
        lines.append(
            raise_if(
                test, f"{formula.name}: {text} does not hold for ",
                *_values(relation.left - relation.right + _all(relation), known),
            )
        )  # fmt: skip
    return lines


_OPPOSITE = {"=": "!=", ">=": "<", "<=": ">", ">": "<=", "<": ">="}


def _all(relation: Relation) -> Poly:
    """A size in which every symbol of a relation occurs, also one that its difference loses."""
    return Poly.volume(relation.left.symbols() | relation.right.symbols())


def _comparable(left: Poly, right: Poly) -> tuple[Poly, Poly]:
    """Both sides times their common denominator: a comparison of ints where that is possible."""
    difference = left - right
    numerator, denominator = size_code.over_common_denominator(difference)
    if denominator.as_number() == 1 or not size_code.is_rational(difference):
        return left, right
    positive = Poly({m: c for m, c in numerator.terms.items() if c > 0})
    negative = Poly({m: -c for m, c in numerator.terms.items() if c < 0})
    return positive, negative


def _may_vanish(size: Poly) -> bool:
    return any(
        c < 0 or any(isinstance(a, Atom) and a.function == "floor" for a, _ in m) for m, c in size.terms.items()
    )


def _values(size: Poly, references: Mapping[str, ast.expr]) -> list[str | ast.expr]:
    """`N = {q.size(-2)}, W = {self.W}`."""
    parts: list[str | ast.expr] = []
    for name in sorted(size.symbols()):
        parts += [f"{', ' if parts else ''}{name} = ", references[name]]
    return parts


def _tensor(formula: Formula, node: Node, held: ast.expr) -> Line:
    test = _not(pyast.call("isinstance", held, pyast.name("Tensor")))
    text = f"{formula.name}: {_name(node)} must be a tensor, but is "
    return raise_if(test, text, pyast.call("type", held), error="TypeError")


def _rank(formula: Formula, node: Node, held: ast.expr) -> Line:
    rank = len(node.axes)
    shape = f"[{', '.join(node.axes)}]"
    plural = "dimension" if rank == 1 else "dimensions"
    return raise_if(
        pyast.binary("<", pyast.method(held, "dim"), rank),
        f"{formula.name}: {_name(node)} must have at least {rank} {plural}, {shape}, but has ",
        pyast.method(held, "dim"),
    )


def _dtypes(
    formula: Formula, inputs: Mapping[Node, ast.expr], stored: Mapping[Node, ast.expr]
) -> list[Line]:
    """Every input has the dtype of its kind; real ones and what the module holds the same, but under autocast."""
    lines: list[Line] = []
    first: Node | None = None
    for node in formula.inputs:
        held = inputs[node]
        dtype = ast.Attribute(held, "dtype", ast.Load())
        prefix = f"{formula.name}: {_name(node)}"
        is_floating, is_complex = pyast.method(held, "is_floating_point"), pyast.method(held, "is_complex")
        is_bool = pyast.binary("==", dtype, pyast.name("torch.bool"))
        match node.type.kind:
            case Kind.REAL if first is None:
                first = node
                lines.append(raise_if(_not(is_floating), f"{prefix} must be a floating-point tensor, but is ", dtype))
            case Kind.REAL:
                assert first is not None
                expected = ast.Attribute(inputs[first], "dtype", ast.Load())
                test = _differ(dtype, expected, inputs[first])
                lines.append(raise_if(test, f"{prefix} is ", dtype, f", but {_name(first)} is ", expected))
            case Kind.COMPLEX:
                lines.append(raise_if(_not(is_complex), f"{prefix} must be a complex tensor, but is ", dtype))
            case Kind.INT:
                test = ast.BoolOp(ast.Or(), [is_floating, is_complex, is_bool])
                lines.append(raise_if(test, f"{prefix} must be an integer tensor, but is ", dtype))
            case Kind.BOOL:
                test = pyast.binary("!=", dtype, pyast.name("torch.bool"))
                lines.append(raise_if(test, f"{prefix} must be a bool tensor, but is ", dtype))
    if first is None:
        return lines
    expected = ast.Attribute(inputs[first], "dtype", ast.Load())
    for item in (*formula.parameters, *formula.buffers):
        if item.node.type.kind is Kind.REAL:
            dtype = ast.Attribute(stored[item.node], "dtype", ast.Load())
            prefix = f"{formula.name}: {_name(first)} is "
            text = f", but the module holds {_name(item.node)} in "
            advice = ": convert one of them, as with `module.to(dtype)`, or use torch.autocast"
            lines.append(raise_if(_differ(dtype, expected, inputs[first]), prefix, expected, text, dtype, advice))
    return lines


def _differ(dtype: ast.expr, expected: ast.expr, given: ast.expr) -> ast.expr:
    """Whether dtypes differ where nothing brings them together."""
    both = [pyast.binary("!=", dtype, expected), _not(pyast.call(HELPER, given))]
    return ast.BoolOp(ast.And(), both)


def _sizes(
    formula: Formula,
    plan: SizePlan,
    node: Node,
    inputs: Mapping[Node, ast.expr],
    attributes: Mapping[str, ast.expr],
    so_far: Mapping[str, ast.expr],
) -> list[Line]:
    """Every axis of an input against the constructor's size, or the first input that has it."""
    lines: list[Line] = []
    for index, axis in enumerate(node.axes):
        dimension = index - len(node.axes)
        actual = pyast.method(inputs[node], "size", dimension)
        prefix = f"{formula.name}: {_name(node)} has size "
        place = f" on axis {axis} (dimension {dimension}), but "
        if axis in plan.sources:
            source, other = plan.sources[axis]
            if (source, other) == (node, dimension):
                continue
            expected: ast.expr = pyast.method(inputs[source], "size", other)
            explained = f"{place}{_name(source)} has "
        elif axis in so_far:
            expected = so_far[axis]
            explained = f"{place}the number of positions so far is "
        elif axis in plan.settled and plan.settled[axis].as_number() is not None:
            expected = attributes[axis]
            explained = f"{place}the formula says {axis} = "
        else:
            expected = attributes[axis]
            explained = f"{place}the module was built with {axis} = "
        lines.append(raise_if(pyast.binary("!=", actual, expected), prefix, actual, explained, expected))
    return lines


def _steps(formula: Formula, plan: SizePlan, references: Mapping[str, ast.expr]) -> list[Line]:
    """A recurrence takes a step or more. All other operations may find nothing along an axis."""
    scanned = dict.fromkeys(node.op.axis for node in formula.graph.nodes() if isinstance(node.op, Scan))
    start = f"{formula.name}: a recurrence takes one step or more, but "
    return [
        raise_if(pyast.binary("<", references[axis], 1), f"{start}{_name(plan.sources[axis][0])} has none along {axis}")
        for axis in scanned
        if axis in plan.sources
    ]


def _name(node: Node) -> str:
    assert isinstance(node.op, Declared)
    return node.op.name


def _not(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)
