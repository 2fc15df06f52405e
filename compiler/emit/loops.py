"""The methods of what is run many times: a step or a block, and the loop over all of them."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..graph import Node
from ..lowerings.rows import RowBlocks
from ..ops.emission import dimension
from ..scan import Argument, Region, Scan
from ..types import Kind, Type
from . import tidy
from .body import Body, Frame, Loop, scan_of
from .dtypes import complex_dtype, wide_dtype
from .holdings import Holdings, dynamic_nodes, fixed_nodes
from .layout import Function, Line, header
from .names import LOCAL_RESERVED, Names


@dataclass
class Loops:
    """Makes the methods of the recurrences and blocks of one module, those inside others first."""

    held: Holdings
    operator: bool = False  # whether a recurrence is torch's operator `scan`, which a trace keeps, and not a loop

    def __post_init__(self) -> None:
        self.made: dict[Scan | RowBlocks, Loop] = {}
        self.functions: list[Function] = []
        self.helpers: dict[str, None] = {}

    def __call__(self, node: Node) -> Loop:
        op = scan_of(node.op) or node.op
        assert isinstance(op, Scan | RowBlocks)
        if op not in self.made:
            made = _Methods(self, op) if isinstance(op, Scan) else _Blocks(self, op, node.inputs)
            step, loop, numbers, typed = made.functions()
            self.functions += [step, loop]
            self.made[op] = Loop(self.held.loops[op], numbers, typed)
        return self.made[op]


class _Repeated:
    """The two methods of a graph that is run many times: once, and the loop.

    fixed: those of its arguments that depend on positions, sizes and constants only.
    cut: the axes of which it is given a part.
    """

    once: ClassVar[str]

    def __init__(self, loops: Loops, name: str, step: Region, fixed: frozenset[Node], cut: frozenset[str]) -> None:
        self.loops, self.held = loops, loops.held
        self.step, self.name, self.fixed, self.cut = step, name, fixed, cut
        self.names = Names(LOCAL_RESERVED | self.held.library)
        self.arguments: dict[Node, str] = {}
        for argument in self.step.arguments:
            assert isinstance(argument.op, Argument)
            self.arguments[argument] = self.names.take(argument.op.name)

    def functions(self) -> tuple[Function, Function, tuple[str, ...], bool]:
        """The step, the loop, the sizes that both take besides tensors, and whether they take a dtype."""
        inexact = (Kind.REAL, Kind.COMPLEX)
        exact = [a for a in self.arguments if a.type.kind in inexact and a not in self.fixed]
        body = Body(self._frame(exact))
        body.compute([*self.step.arguments, *self.step.nodes()])
        results = [body.tensor(node) for node in self.step.results]
        statements, closing = tidy.inline(body.statements, results)
        numbers = {name: self.names.take(name) for name in body.passed}
        places = {f"{name}%size": pyast.name(taken) for name, taken in numbers.items()}
        for statement in statements:
            statement.value = tidy.replace(statement.value, places)
        results = [tidy.replace(result, places) for result in results]
        tidy.rename(statements, results, self.names)
        read = tidy.names_in(*(statement.value for statement in statements), *results)
        self.loops.helpers.update(body.helpers)
        typed = not exact and bool({"dtype", "wide", "complex_dtype"} & read)
        real = self._real(exact)
        lines = []
        if "wide" in read:
            lines.append(Line(pyast.assign("wide", wide_dtype(real))))
        if "complex_dtype" in read:
            lines.append(Line(pyast.assign("complex_dtype", complex_dtype(real))))
        lines += [Line(pyast.assign(s.name, s.value), s.comments) for s in statements]
        lines.append(Line(ast.Return(_together(results)), closing))
        extra = [(taken, "int") for taken in numbers.values()] + [("dtype", "torch.dtype")] * typed
        signature = [("self", None), *((name, "Tensor") for name in self.arguments.values()), *extra]
        step = Function(
            header(f"{self.name}_{self.once}", signature, _returns(len(results))), self._summary(every=False), lines
        )
        passed = [name for name, _ in extra]
        self.names = Names(LOCAL_RESERVED | self.held.library)
        self.names.claim([*self.arguments.values(), *passed])
        missing = tuple(axis for axis in self._length() if axis not in numbers)
        # sizes come before the dtype, as the call gives them
        sizes = numbers | {axis: self.names.take(axis) for axis in missing}
        taken = [("self", None), *((name, "Tensor") for name in self.arguments.values())]
        taken += [*((name, "int") for name in sizes.values()), *[("dtype", "torch.dtype")] * typed]
        loop = Function(header(self.name, taken, _returns(len(results))), self._summary(every=True),
                        self._loop(passed, sizes))  # fmt: skip
        return step, loop, tuple(sizes), typed

    def _length(self) -> tuple[str, ...]:
        """The axes whose sizes only the loop needs."""
        return ()

    def _loop(self, passed: list[str], sizes: Mapping[str, str]) -> list[Line]:
        raise NotImplementedError

    def _summary(self, *, every: bool) -> str:
        raise NotImplementedError

    def _frame(self, exact: list[Node]) -> Frame:
        nodes = self.step.nodes()
        first = next(iter(self.arguments.values()))
        return Frame(
            reference={axis: code for axis, code in self.held.references.items() if axis not in self.cut},
            stored={argument: pyast.name(name) for argument, name in self.arguments.items()},
            names=self.held.graph.names,
            notes={},
            fixed=fixed_nodes(nodes, self.fixed),
            dynamic=dynamic_nodes(nodes, self.held.plan),
            real=self._real(exact),
            wide=pyast.name("wide"),
            complex=pyast.name("complex_dtype"),
            device=pyast.name(f"{first}.device"),
            loops=self.loops,
        )

    def _real(self, exact: list[Node]) -> ast.expr:
        if not exact:
            return pyast.name("dtype")
        argument = pyast.name(self.arguments[exact[0]])
        if exact[0].type.kind is Kind.COMPLEX:
            argument = ast.Attribute(argument, "real", ast.Load())
        return ast.Attribute(argument, "dtype", ast.Load())


class _Methods(_Repeated):
    """The two methods of one recurrence."""

    once = "step"

    def __init__(self, loops: Loops, scan: Scan) -> None:
        super().__init__(loops, loops.held.loops[scan], scan.step, frozenset(), frozenset())
        self.op = scan

    def _length(self) -> tuple[str, ...]:
        return (self.op.axis,) if not self.op.slices and self.op.axis not in self.held.references else ()

    def _loop(self, passed: list[str], sizes: Mapping[str, str]) -> list[Line]:
        op, names = self.op, self.names
        taken = [*self.arguments.values()]
        states, slices = taken[: op.states], taken[op.states : op.states + op.slices]
        lines: list[ast.stmt] = self._starts(slices)
        if self.loops.operator:
            return [Line(ast.fix_missing_locations(line)) for line in (*lines, *self._operator(passed, sizes))]
        entries = {name: names.take(f"{name}_entries") for name in slices}
        for name, split in entries.items():
            argument = next(a for a, n in self.arguments.items() if n == name)
            unbound = pyast.method(pyast.name(name), "unbind", -1 - argument.type.rank)
            lines.append(pyast.assign(split, unbound))
        outputs = self.step.results[op.states :]
        yielded = [names.take(self.held.graph.names.get(node, "output")) for node in outputs]
        stacks = [names.take(f"{name}_steps") for name in yielded]
        for stack in stacks:
            empty = ast.Name(stack, ast.Store())
            lines.append(ast.AnnAssign(empty, ast.parse("list[Tensor]", mode="eval").body, pyast.constant([]), 1))
        index = names.take(op.axis.lower()) if slices else "_"
        count = pyast.call("len", pyast.name(entries[slices[0]])) if slices else self._count(sizes)
        given: list[ast.expr] = []
        for name in taken:
            entry: ast.expr = pyast.name(entries.get(name, name))
            given.append(ast.Subscript(entry, pyast.name(index), ast.Load()) if name in entries else entry)
        given += [pyast.name(name) for name in passed]
        fresh = {state: names.take(f"next_{self.arguments[state]}") for state in self._from_nothing()}
        updated = [fresh.get(argument, name) for argument, name in self.arguments.items()][: op.states]
        targets: list[ast.expr] = [ast.Name(name, ast.Store()) for name in (*updated, *yielded)]
        target: ast.expr = targets[0] if len(targets) == 1 else ast.Tuple(targets, ast.Store())
        body: list[ast.stmt] = [ast.Assign([target], pyast.call(f"self.{self.name}_step", *given), lineno=0)]
        for state, name in fresh.items():
            rank, old = pyast.constant(state.type.rank), self.arguments[state]
            self.loops.helpers["over_batch"] = None
            whole = pyast.call("over_batch", pyast.name(name), rank, pyast.name(old), rank)
            body.append(pyast.assign(old, whole))
        for stack, value in zip(stacks, yielded, strict=True):
            body.append(ast.Expr(pyast.method(pyast.name(stack), "append", pyast.name(value))))
        steps = pyast.call("range", count)
        lines.append(ast.For(ast.Name(index, ast.Store()), steps, body, [], lineno=0))
        stacked = [
            pyast.call("torch.stack", pyast.name(stack), -1 - node.type.rank)
            for stack, node in zip(stacks, outputs, strict=True)
        ]
        lines.append(ast.Return(_together([*map(pyast.name, states), *stacked])))
        return [Line(ast.fix_missing_locations(line)) for line in lines]

    def _count(self, sizes: Mapping[str, str]) -> ast.expr:
        """How many steps there are, where nothing is sliced."""
        known = self.held.references.get(self.op.axis)
        return known if known is not None else pyast.name(sizes[self.op.axis])

    def _operator(self, passed: list[str], sizes: Mapping[str, str]) -> list[ast.stmt]:
        """The call of torch's operator, with a function that takes states and entries and gives states and outputs."""
        op, names = self.op, self.names
        taken = [*self.arguments.items()]
        sliced = taken[op.states : op.states + op.slices]
        step, states, entries, stacked = (names.take(wanted) for wanted in ("step", "states", "entries", "stacked"))

        def at(name: str, index: int) -> ast.expr:
            return ast.Subscript(pyast.name(name), ast.Constant(index), ast.Load())

        given = [at(states, index) for index in range(op.states)]
        given += [at(entries, index) for index in range(op.slices)]
        given += [pyast.name(name) for name in (*(name for _, name in taken[op.states + op.slices :]), *passed)]
        made = [names.take(f"next_{name}") for _, name in taken[: op.states]]
        made += [names.take(self.held.graph.names.get(node, "output")) for node in self.step.results[op.states :]]
        inner: list[ast.stmt] = [pyast.assign(made[0], pyast.call(f"self.{self.name}_step", *given), *made[1:])]
        for index, (argument, _) in enumerate(taken[: op.states]):
            if argument in self._from_nothing():
                rank = pyast.constant(argument.type.rank)
                self.loops.helpers["over_batch"] = None
                whole = pyast.call("over_batch", pyast.name(made[index]), rank, at(states, index), rank)
                inner.append(pyast.assign(made[index], whole))
        # states are laid out as at the start; no result shares memory with an argument or with another result
        contiguous = pyast.name("torch.contiguous_format")
        kept: set[Node] = {*self.step.arguments}
        results: list[ast.expr] = []
        for name, node in zip(made, self.step.results, strict=True):
            result = pyast.method(pyast.name(name), "contiguous")
            if _source(node) in kept:
                result = pyast.method(pyast.name(name), "clone", memory_format=contiguous)
            results.append(result)
            kept.add(_source(node))
        onward: list[ast.expr] = results[: op.states] or [pyast.method(at(states, 0), "clone")]
        parts = [ast.List(part, ast.Load()) for part in (onward, results[op.states :])]
        inner.append(ast.Return(ast.Tuple(list(parts), ast.Load())))
        arguments = [ast.arg(name, ast.parse("list[Tensor]", mode="eval").body) for name in (states, entries)]
        function = ast.FunctionDef(
            step, ast.arguments([], arguments, None, [], [], None, []), inner, [],
            ast.parse("tuple[list[Tensor], list[Tensor]]", mode="eval").body, lineno=0,
        )  # fmt: skip
        rows = [pyast.method(pyast.name(name), "movedim", -1 - argument.type.rank, 0) for argument, name in sliced]
        first = pyast.name(f"{taken[0][1]}.device")
        rows = rows or [pyast.call("torch.arange", self._count(sizes), device=first)]
        begun: list[ast.expr] = [
            pyast.method(pyast.name(name), "clone", memory_format=contiguous) for _, name in taken[: op.states]
        ]
        if not op.states:  # the operator wants at least one
            begun = [pyast.call("torch.zeros", (), device=first)]
        given = [pyast.name(step), ast.List(begun, ast.Load()), ast.List(list(rows), ast.Load())]
        call = pyast.call("torch._higher_order_ops.scan", *given)
        outputs = [
            pyast.method(at(stacked, index), "movedim", 0, -1 - node.type.rank)
            for index, node in enumerate(self.step.results[op.states :])
        ]
        last = [at(states, index) for index in range(op.states)]
        wholes = [name for _, name in taken[op.states + op.slices :]]  # one may be a view of another
        apart = [pyast.assign(name, pyast.method(pyast.name(name), "clone")) for name in wholes]
        return [*apart, function, pyast.assign(states, call, stacked), ast.Return(_together([*last, *outputs]))]

    def _starts(self, slices: list[str]) -> list[ast.stmt]:
        """The states before the first step, over the batch of all that the steps read."""
        batched = [(name, a.type.rank + (name in slices)) for a, name in self.arguments.items() if a.type.batched]
        if len(batched) < 2:
            return []
        lines: list[ast.stmt] = []
        for argument, name in [*self.arguments.items()][: self.op.states]:
            others = [(pyast.name(other), rank) for other, rank in batched if other != name]
            values = ast.List([value for value, _ in others], ast.Load())
            ranks = pyast.constant([rank for _, rank in others])
            self.loops.helpers["over_batches"] = None
            call = pyast.call("over_batches", pyast.name(name), argument.type.rank, values, ranks)
            lines.append(pyast.assign(name, call))
        return lines

    def _from_nothing(self) -> list[Node]:
        """The states whose next value is made from no state: it may have a smaller batch than the first."""
        states = self.step.arguments[: self.op.states]
        fed: set[Node] = set(states)
        for node in self.step.nodes():
            if any(operand in fed for operand in node.inputs):
                fed.add(node)
        made = zip(states, self.step.results, strict=False)
        return [state for state, result in made if result not in fed and state.type.batched]

    def _summary(self, *, every: bool) -> str:
        shown = []
        for index, (argument, name) in enumerate(self.arguments.items()):
            sliced = self.op.states <= index < self.op.states + self.op.slices
            shown.append(_shape(name, argument.type, (self.op.axis,) if every and sliced else ()))
        return f"{'All steps' if every else 'One step'} along {self.op.axis}: {', '.join(shown)}."


class _Blocks(_Repeated):
    """The two methods of what is run for a block of queries after the other."""

    once = "block"

    def __init__(self, loops: Loops, op: RowBlocks, operands: Sequence[Node]) -> None:
        given = zip(op.part.arguments, operands, strict=True)
        fixed = frozenset(argument for argument, operand in given if operand in loops.held.fixed)
        cut = frozenset({op.query} if op.key is None else {op.query, op.key})
        super().__init__(loops, loops.held.loops[op], op.part, fixed, cut)
        self.op = op

    def _loop(self, passed: list[str], sizes: Mapping[str, str]) -> list[Line]:
        """`for i in range(len(q_blocks)): parts.append(self.part(q_blocks[i], k.narrow(-2, 0, last)))`."""
        names, query, key = self.names, self.op.query, self.op.key
        rows, parts, index = names.take("rows"), names.take("parts"), names.take("index")
        split = {a: names.take(f"{name}_blocks") for a, name in self.arguments.items() if query in a.axes}
        self.loops.helpers["rows_of_block"] = None
        first = next((argument for argument in split if argument not in self.fixed), next(iter(split)))
        lines: list[ast.stmt] = [pyast.assign(rows, pyast.call("rows_of_block", pyast.name(self.arguments[first])))]
        for argument, blocks in split.items():
            along = pyast.constant(dimension(argument.axes, query))
            whole = pyast.name(self.arguments[argument])
            lines.append(pyast.assign(blocks, pyast.call("torch.split", whole, pyast.name(rows), along)))
        empty = ast.parse("list[Tensor]", mode="eval").body
        lines.append(ast.AnnAssign(ast.Name(parts, ast.Store()), empty, pyast.constant([]), 1))
        body: list[ast.stmt] = []
        cut = [argument for argument in self.arguments if key is not None and key in argument.axes]
        last = names.take("last") if cut else ""
        if cut:
            assert key is not None
            seen = pyast.template("(i + 1) * rows", i=pyast.name(index), rows=pyast.name(rows))
            every = pyast.method(pyast.name(self.arguments[cut[0]]), "size", dimension(cut[0].axes, key))
            body.append(pyast.assign(last, pyast.call("min", seen, every)))
        given: list[ast.expr] = []
        for argument, name in self.arguments.items():
            value: ast.expr = pyast.name(name)
            if argument in split:
                value = ast.Subscript(pyast.name(split[argument]), pyast.name(index), ast.Load())
            if argument in cut:
                assert key is not None
                value = pyast.method(value, "narrow", dimension(argument.axes, key), 0, pyast.name(last))
            given.append(value)
        call = pyast.call(f"self.{self.name}_block", *given, *map(pyast.name, passed))
        block = names.take("block")
        body.append(pyast.assign(block, call))
        body.append(ast.Expr(pyast.method(pyast.name(parts), "append", pyast.name(block))))
        count = pyast.call("range", pyast.call("len", pyast.name(split[first])))
        lines.append(ast.For(ast.Name(index, ast.Store()), count, body, [], lineno=0))
        along = pyast.constant(dimension(self.step.results[0].axes, query))
        lines.append(ast.Return(pyast.call("torch.cat", pyast.name(parts), along)))
        return [Line(ast.fix_missing_locations(line)) for line in lines]

    def _summary(self, *, every: bool) -> str:
        shown = ", ".join(_shape(name, argument.type) for argument, name in self.arguments.items())
        return f"{'Block after block' if every else 'One block'} of {self.op.query}: {shown}."


def _shape(name: str, type_: Type, along: tuple[str, ...] = ()) -> str:
    axes = ", ".join((*(("...",) if type_.batched else ()), *along, *type_.axes))
    return f"{name} [{axes}]" + ("" if type_.kind is Kind.REAL else f" {type_.kind.value}")


def _source(node: Node) -> Node:
    """The value whose memory a view shares."""
    while node.op.is_view() and node.inputs:
        node = node.inputs[0]
    return node


def _together(values: list[ast.expr]) -> ast.expr:
    return values[0] if len(values) == 1 else ast.Tuple(values, ast.Load())


def _returns(count: int) -> str:
    return "Tensor" if count == 1 else f"tuple[{', '.join(['Tensor'] * count)}]"
