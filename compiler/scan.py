"""Recurrences: the graph of one step, and the operations that run it along an axis.

The step is a graph of its own: all that it reads are its arguments, so that what is outside needs to know nothing of
it, and it can be measured, planned, drawn and emitted like any other graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from .graph import Node, topological
from .ops.base import Carried, Leaf, Op
from .sizes import ZERO, Poly
from .types import Kind, Type


@dataclass(frozen=True)
class Argument(Leaf):
    """A value that a step is given: a state, the entry of a value at the step's position, or a whole value."""

    family: ClassVar[str] = "recurrences"
    name: str
    kind: Kind
    axes: tuple[str, ...]
    batched: bool

    def infer(self, *operands: Type) -> Type:
        return Type(self.kind, self.axes, self.batched)

    def is_given(self) -> bool:
        return True


@dataclass(frozen=True)
class Region:
    """A graph with arguments: results computed from them and from numbers, positions and sizes."""

    arguments: tuple[Node, ...]
    results: tuple[Node, ...]

    @cached_property
    def _order(self) -> tuple[Node, ...]:
        return tuple(topological(self.results))

    def nodes(self) -> list[Node]:
        return list(self._order)


@dataclass(frozen=True)
class Scan(Op):
    """A recurrence along an axis: a step for every position, in order, that passes states on.

    Formula: `states, outputs[n] = step(states, slices[n], wholes)` for n = 0, 1, ..., N - 1.

    Operands: the states before the first step; `slices`, values with the axis, of which a step reads the entry at its
    position; values that every step reads whole. The arguments of `step` are the same in the same order; its results
    are the next states, then what the step yields. The value is a bundle, which `Part` takes apart: the states after
    the last step, then what was yielded, stacked along the axis. Its type is that of its last member.
    """

    family: ClassVar[str] = "recurrences"
    spelling: ClassVar[str] = "scan"
    operands: ClassVar[tuple[str, ...]] = ()
    variadic: ClassVar[bool] = True
    axis: str
    states: int
    slices: int
    step: Region

    def infer(self, *operands: Type) -> Type:
        step = self.step
        assert len(operands) == len(step.arguments) >= self.states + self.slices, "one operand for each argument"
        assert len(step.results) >= max(self.states, 1), "a step gives every state, and something at all"
        for index, (operand, argument) in enumerate(zip(operands, step.arguments, strict=True)):
            wanted = (*argument.axes, self.axis) if self.is_sliced(index) else argument.axes
            fits = set(operand.axes) == set(wanted) and operand.kind.rank <= argument.type.kind.rank
            assert fits, "operands fit the arguments"
        for state, result in zip(step.arguments[: self.states], step.results, strict=False):
            assert (state.type.kind, state.axes) == (result.type.kind, result.axes), "a state keeps its type"
        return self.part(len(step.results) - 1)

    def is_sliced(self, index: int) -> bool:
        """Whether a step sees one entry of the operand, and not the whole of it."""
        return self.states <= index < self.states + self.slices

    def laid_out(self, index: int) -> tuple[str, ...]:
        """The order of the operand's axes in which its entries have the order of the argument's."""
        axes = self.step.arguments[index].axes
        return (self.axis, *axes) if self.is_sliced(index) else axes

    def part(self, index: int) -> Type:
        """The type of one member of the bundle."""
        type_ = self.step.results[index].type
        batched = any(node.type.batched for node in (*self.step.arguments, *self.step.results))
        axes = type_.axes if index < self.states else (self.axis, *type_.axes)
        return Type(type_.kind, axes, batched)

    def inside(self) -> tuple[Node, ...]:
        return self.step.results

    def given_inside(self) -> tuple[Node, ...]:
        return self.step.arguments

    def new_axes(self) -> tuple[str, ...]:
        return (self.axis,)

    def scalars(self) -> tuple[Poly, ...]:
        nodes = self.step.nodes()
        axes = dict.fromkeys(axis for node in nodes for axis in node.axes)
        inner = (scalar for node in nodes for scalar in node.op.scalars())
        return (Poly.symbol(self.axis), *(Poly.symbol(axis) for axis in axes), *inner)

    def follows(self) -> Mapping[str, str]:
        return {self.axis: self.axis}

    def carried(self, result: Type, *operands: Type) -> tuple[Carried, ...]:
        return tuple(
            Carried(f"the state `{state.op.name}`", tuple(Poly.symbol(axis) for axis in state.axes))  # type: ignore[attr-defined]
            for state in self.step.arguments[: self.states]
        )

    def state_size(self) -> Poly:
        """Elements that are passed from step to step, for one batch entry."""
        return sum((node.type.volume() for node in self.step.arguments[: self.states]), ZERO)

    def step_flops(self) -> Poly:
        """Operations of one step."""
        inner = (node.op.flops(node.type, *(o.type for o in node.inputs)) for node in self.step.nodes())
        return sum(inner, ZERO)

    def flops(self, result: Type, *operands: Type) -> Poly:
        return self.step_flops() * Poly.symbol(self.axis)

    def workspace(self, result: Type, *operands: Type) -> Poly:
        members = sum((self.part(index).volume() for index in range(len(self.step.results))), ZERO)
        return members + self.state_size() + live(self.step) - result.volume()

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return self.step.arguments[index].type.kind

    def __str__(self) -> str:
        return f"scan {self.axis}"


@dataclass(frozen=True)
class Part(Op):
    """One member of what a scan gives: a state after the last step, or what its steps yielded."""

    family: ClassVar[str] = "recurrences"
    operands: ClassVar[tuple[str, ...]] = ("scan",)
    elementwise: ClassVar[bool] = True
    index: int
    kind: Kind
    axes: tuple[str, ...]
    batched: bool

    def infer(self, *operands: Type) -> Type:
        return Type(self.kind, self.axes, self.batched)

    def flops(self, result: Type, *operands: Type) -> Poly:
        return ZERO

    def is_view(self) -> bool:
        return True


def part_of(scan: Scan, index: int) -> Part:
    """The operation that takes a member out of the bundle."""
    type_ = scan.part(index)
    return Part(index, type_.kind, type_.axes, type_.batched)


def live(step: Region) -> Poly:
    """At least the most elements that are held at once inside a step: the largest of every monomial over time."""
    nodes = step.nodes()
    last = {operand: at for at, node in enumerate(nodes) for operand in node.inputs}
    last.update(dict.fromkeys(step.results, len(nodes)))
    live, peak = ZERO, ZERO
    for at, node in enumerate(nodes):
        if node.axes and not node.op.is_given():
            live = live + node.type.volume()
        held = live + node.op.workspace(node.type, *(operand.type for operand in node.inputs))
        peak = Poly({m: max(held.terms.get(m, 0), peak.terms.get(m, 0)) for m in {*held.terms, *peak.terms}})
        for operand in dict.fromkeys(node.inputs):
            if last[operand] == at and operand.axes and not operand.op.is_given():
                live = live - operand.type.volume()
    return peak


def deep(nodes: Iterable[Node]) -> list[Node]:
    """The nodes and, before each recurrence, those of its steps."""
    found: list[Node] = []
    for node in nodes:
        if isinstance(node.op, Scan):
            found += deep(node.op.step.nodes())
        found.append(node)
    return found
