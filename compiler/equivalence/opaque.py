"""An operation of which nothing is used but that equal operands give equal results."""

from __future__ import annotations

from dataclasses import fields

import torch

from ..graph import Node, attributes
from . import residues as field
from .values import Setting, Value, product_of


def opaque(node: Node, operands: list[Value], setting: Setting) -> Value:
    """An unknown function of everything that the operation reads, at every place of the result."""
    op = node.op
    setting.unknowns.add(op.spelling or getattr(op, "kernel", "") or type(op).__name__.lower())

    def named(value: object) -> object:
        if isinstance(value, list):
            return [named(item) for item in value]
        return setting.axes.get(value, value) if isinstance(value, str) else value

    stated = {f.name: named(attributes(op)[f.name]) for f in fields(op) if f.name != "result"}
    digests = []
    for operand in operands:
        order = sorted(operand.axes, key=lambda axis: setting.axes.get(axis, axis))
        flat = operand.over(order)[0].reshape(field.TRIALS, -1)
        places = torch.arange(flat.shape[1]).expand_as(flat)
        digests.append(field.unknown("content", [flat, places])[0].sum(1))
    order = sorted(node.axes, key=lambda axis: setting.axes.get(axis, axis))
    shape = setting.shape(order)
    count = torch.Size(shape).numel()
    places = torch.arange(count).reshape(1, *shape).expand(field.TRIALS, *shape)
    arguments = [d.reshape(field.TRIALS, *([1] * len(shape))).expand(field.TRIALS, *shape) for d in digests]
    made = field.unknown(f"{type(op).__name__}{sorted(stated.items(), key=str)}", [places, *arguments])
    degree = product_of(operands).unknown()
    return Value(Value(made, tuple(order)).over(node.axes), node.axes, degree)
