"""Running the code that one operation emits: a small driver, independent of the module generator."""

from __future__ import annotations

import ast
import importlib.util
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attngraph.compiler import pyast
from attngraph.compiler.emit.sizes import number as size_number
from attngraph.compiler.graph import Builder, Node
from attngraph.compiler.lowerings.library import texts, with_callees
from attngraph.compiler.ops.base import Op, Operand
from attngraph.compiler.ops.leaves import Input, Literal, Parameter
from attngraph.compiler.sizes import Poly
from attngraph.compiler.types import Kind
from tests.reference import evaluate

DTYPES = {
    Kind.BOOL: torch.bool,
    Kind.INT: torch.int64,
    Kind.REAL: torch.float64,
    Kind.COMPLEX: torch.complex128,
}


@dataclass(frozen=True)
class Spec:
    """An operand of a test case: random values between low and high, or one number."""

    axes: tuple[str, ...] = ()
    kind: Kind = Kind.REAL
    low: float = -2.0
    high: float = 2.0
    batched: bool = True
    number: float | int | None = None

    def draw(self, shape: tuple[int, ...], random: np.random.Generator, sizes: Mapping[str, int]) -> Any:
        if self.kind is Kind.BOOL:
            return random.random(shape) < 0.5
        if self.kind is Kind.INT:
            return random.integers(int(self.low), int(self.high) + 1, shape)
        values = random.uniform(self.low, self.high, shape)
        return values + 1j * random.uniform(self.low, self.high, shape) if self.kind is Kind.COMPLEX else values


@dataclass(frozen=True)
class Case:
    """An operation with operands. sizes: those that follow from others. smooth: gradients are checked."""

    op: Op
    operands: tuple[Spec, ...]
    sizes: Mapping[str, Callable[[Mapping[str, int]], int]] = field(default_factory=dict)
    smooth: bool = True
    note: str = ""

    def __str__(self) -> str:
        shapes = "-".join("".join(o.axes) or str(o.number or "0") for o in self.operands)
        kinds = "".join(o.kind.value[0] for o in self.operands)
        return f"{type(self.op).__name__}-{shapes}-{kinds}" + (f"-{self.note}" if self.note else "")


def all_sizes(case: Case, base: Mapping[str, int]) -> dict[str, int]:
    sizes = dict(base)
    for axis, size in case.sizes.items():
        sizes[axis] = size(sizes)
    return sizes


class TestEmitter:
    """Sizes are local variables with the names of the axes."""

    __test__ = False

    def __init__(self) -> None:
        self.helpers: dict[str, str] = {}

    def size(self, size: Poly) -> ast.expr:
        return size_number(size, pyast.name)

    def align(self, operand: Operand, axes: tuple[str, ...]) -> ast.expr:
        if operand.number:
            return operand.expression
        have = list(operand.type.axes)
        wanted = [axis for axis in axes if axis in have]
        assert len(wanted) == len(have)
        code = operand.expression
        for position, axis in enumerate(wanted):  # one move per axis that is not at its place yet
            if have[position] != axis:
                at = have.index(axis)
                code = pyast.method(code, "movedim", at - len(have), position - len(have))
                have.insert(position, have.pop(at))
        for position, axis in enumerate(axes):
            seen = operand.type.batched or any(a in have for a in axes[:position])
            if axis not in have and seen:
                have_right = [a for a in axes[position + 1 :] if a in wanted]
                code = pyast.method(code, "unsqueeze", -len(have_right) - 1)
                wanted = [a for a in axes if a in wanted or a == axis]
        return code

    def dtype(self, kind: Kind, *, wide: bool) -> ast.expr:
        return pyast.name(str(DTYPES[kind]))

    def device(self) -> ast.expr:
        return pyast.call("torch.device", "cpu")

    def full(self, operand: Operand, axes: tuple[str, ...]) -> ast.expr:
        raise AssertionError("only lowered operations ask for it, and they have tests of their own")

    def helper(self, function: str) -> ast.expr:
        self.helpers |= {name: texts()[name] for name in with_callees([function], texts())}
        return pyast.name(function)

    def lasting(self, name: str, code: ast.expr, operand: Operand) -> ast.expr:
        return code


@dataclass(frozen=True)
class Prepared:
    """A case with values: its node, its arrays, and the source of a function that computes it."""

    case: Case
    node: Node
    sizes: Mapping[str, int]
    arrays: Mapping[str, Any]
    source: str

    def expected(self) -> Any:
        return evaluate(self.node, self.arrays, self.sizes)

    def tensors(self) -> list[torch.Tensor]:
        return [torch.from_numpy(np.asarray(array)) for array in self.arrays.values()]

    def function(self, folder: Path) -> Callable[..., Any]:
        return load(self.source, folder)


_counter = itertools.count()


def load(source: str, folder: Path) -> Callable[..., Any]:
    """The function `f` of a Python source, from a real file, which TorchScript wants to read."""
    path = folder / f"emitted_{next(_counter)}.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[..., Any] = module.f
    return function


def prepare(
    case: Case, base: Mapping[str, int], batches: Sequence[tuple[int, ...] | None], random: np.random.Generator
) -> Prepared:
    """Draw values and emit code. batches: the leading dimensions of each operand; None: it depends on no input."""
    sizes = all_sizes(case, base)
    builder = Builder()
    nodes: list[Node] = []
    arrays: dict[str, Any] = {}
    for index, (spec, batch) in enumerate(zip(case.operands, batches, strict=True)):
        if spec.number is not None:
            nodes.append(builder.make(Literal(spec.number)))
            continue
        name = f"x{index}"
        leaf = (Parameter if batch is None else Input)(name, spec.kind, spec.axes)
        nodes.append(builder.make(leaf))
        shape = (batch or ()) + tuple(sizes[axis] for axis in spec.axes)
        arrays[name] = spec.draw(shape, random, sizes)
    node = builder.make(case.op, *nodes)
    return Prepared(case, node, sizes, arrays, emitted(node, sizes))


def emitted(node: Node, sizes: Mapping[str, int]) -> str:
    """A function of the tensors that node reads, as the driver would write it."""
    emitter = TestEmitter()
    known: dict[str, ast.expr] = {}
    parameters: list[str] = []
    operands: list[Operand] = []
    body: list[ast.stmt] = []
    for index, each in enumerate(node.inputs):
        wanted = node.op.operand_kind(index, node.type, *(n.type for n in node.inputs)) or each.type.kind
        if isinstance(each.op, Literal):
            operands.append(Operand(pyast.constant(each.op.value), each.type.of(wanted), number=True))
            continue
        assert isinstance(each.op, Input | Parameter)
        name = each.op.name
        if name not in parameters:
            parameters.append(name)
        for position, axis in enumerate(each.axes):
            known.setdefault(axis, pyast.method(pyast.name(name), "size", position - len(each.axes)))
        code = pyast.name(name)
        if wanted is not each.type.kind:
            code = pyast.method(code, "to", emitter.dtype(wanted, wide=False))
        variable = f"operand{index}"
        body.append(pyast.assign(variable, code))
        operands.append(Operand(pyast.name(variable), each.type.of(wanted)))
    value = node.op.emit(emitter, node.type, *operands)
    used = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
    lines = [ast.unparse(pyast.assign(a, known.get(a, pyast.constant(s)))) for a, s in sizes.items() if a in used]
    lines += [ast.unparse(ast.fix_missing_locations(statement)) for statement in body]
    lines.append("return " + ast.unparse(value))
    arguments = ", ".join(f"{name}: torch.Tensor" for name in parameters)
    head = "import math\nimport torch\nfrom torch import Tensor\n\n\n" + "".join(
        f"{text}\n\n\n" for text in emitter.helpers.values()
    )
    return f"{head}def f({arguments}):\n" + "".join(f"    {line}\n" for line in lines)


def emitted_number(op: Op, kinds: Sequence[Kind], sizes: Mapping[str, int]) -> str | None:
    """A function of Python numbers, or None if the operation has no such code."""
    names = [f"x{index}" for index in range(len(kinds))]
    code = op.emit_number(TestEmitter(), *(pyast.name(name) for name in names))
    if code is None:
        return None
    words = {Kind.BOOL: "bool", Kind.INT: "int", Kind.REAL: "float", Kind.COMPLEX: "complex"}
    arguments = ", ".join(f"{name}: {words[kind]}" for name, kind in zip(names, kinds, strict=True))
    used = {n.id for n in ast.walk(code) if isinstance(n, ast.Name)}
    known = "".join(f"    {axis} = {size}\n" for axis, size in sizes.items() if axis in used)
    return f"import math\n\n\ndef f({arguments}):\n{known}    return {ast.unparse(code)}\n"
