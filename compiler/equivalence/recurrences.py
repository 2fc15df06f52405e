"""Recurrences in modular arithmetic: step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from ..graph import Node
from ..scan import Part, Scan
from .values import Setting, TooLarge, Value, largest

MAX_STEPS = 64


@dataclass(frozen=True)
class Bundle(Value):
    """What a scan gives: as a value its last member, which gives it its type."""

    members: tuple[Value, ...] = ()


def scan(
    node: Node,
    operands: list[Value],
    setting: Setting,
    evaluate: Callable[[Sequence[Node], Setting, Mapping[Node, Value]], list[Value]],
) -> Value:
    """All steps of a scan, each evaluated by itself. Errors: TooLarge."""
    op = node.op
    assert isinstance(op, Scan)
    [length] = setting.shape((op.axis,))
    if length > MAX_STEPS:
        raise TooLarge
    step, states = op.step, operands[: op.states]
    yielded: list[list[Value]] = [[] for _ in step.results[op.states :]]
    for position in range(length):
        entries = [_entry(operands[index], op, index, position) for index in range(op.states, len(operands))]
        given = zip(step.arguments, (*states, *entries), strict=True)
        arguments = {argument: _laid_out(value, argument.axes) for argument, value in given}
        results = evaluate(step.results, setting, arguments)
        states = results[: op.states]
        for found, result in zip(yielded, results[op.states :], strict=True):
            found.append(result)
    last = [_laid_out(state, result.axes) for state, result in zip(states, step.results, strict=False)]
    members = (*last, *(_stacked(found, op.axis) for found in yielded))
    end = members[-1]
    return Bundle(end.residues, end.axes, end.degree, end.known, members=members)


def part(node: Node, operands: list[Value], setting: Setting) -> Value:
    [bundle] = operands
    assert isinstance(bundle, Bundle)
    assert isinstance(node.op, Part)
    return bundle.members[node.op.index]


def _entry(value: Value, op: Scan, index: int, position: int) -> Value:
    """What a step reads of an operand: its entry at the position, or the whole of it."""
    if not op.is_sliced(index):
        return value
    place = value.axes.index(op.axis)
    known = None if value.known is None else value.known.select(place, position)
    axes = tuple(axis for axis in value.axes if axis != op.axis)
    return Value(value.residues.select(place + 2, position), axes, value.degree, known)


def _laid_out(value: Value, axes: tuple[str, ...]) -> Value:
    if value.axes == axes:
        return value
    known = None if value.known is None else value.known_over(axes)
    power = None if value.power is None else _laid_out(value.power, axes)
    return Value(value.over(axes), axes, value.degree, known, power)


def _stacked(values: Sequence[Value], axis: str) -> Value:
    known = [value.known for value in values if value.known is not None]
    return Value(
        torch.stack([value.residues for value in values], 2),
        (axis, *values[0].axes),
        largest(values),
        torch.stack(known) if len(known) == len(values) else None,
    )
