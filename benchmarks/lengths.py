"""Sizes at which the sequence axes of a formula have about a given length, and how much a claimed order then grows.

Tests that count work and the benchmark that times it ask here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import log

from torch import Tensor, nn

from attngraph.compiler.emit.arguments import constructor_arguments
from attngraph.compiler.emit.settle import plan_sizes
from attngraph.compiler.errors import CompileError
from attngraph.compiler.example import example_inputs
from attngraph.compiler.facts.cost import Sequence
from attngraph.compiler.formula import Formula
from attngraph.compiler.module import compile as build
from attngraph.compiler.report import Report
from attngraph.compiler.sizes import Growth

#: Other axes of some formulas, and constants: groups that are shorter than the sequence.
SIZES: Mapping[str, Mapping[str, int]] = {
    "contmix": {"G": 1},
    "gated_cnn": {"Cc": 2, "F": 6},
    "gated_convolution": {"Cc": 2, "F": 6},
    "partial_convolution": {"Cc": 2, "F": 6},
    "mote_gates": {"J": 8},
    "mixture_of_tunable_experts": {"J": 8},
    "sparsifiner_attention": {"R": 16},
    "sparsifiner_scores": {"R": 16},
}
CONSTANTS: Mapping[str, Mapping[str, int]] = {
    "s2_attention": {"group": 16},
    "sf_attention": {"group": 16},
    "davit_window_attention": {"W": 4},
}
#: Memory that is more than the plan says, because torch's operation holds more than it has to.
HELD = {
    "gqa_attention": "a mask of the call is turned into numbers, [N, M], which the plan counts as given",
    "masked_attention": "the same",
    "karat_full": "a parameter over pairs of positions is laid out anew for a product of matrices",
}


@dataclass(frozen=True)
class Call:
    """A module of a formula with inputs of ones, and the size of every sequence axis."""

    module: nn.Module
    inputs: tuple[Tensor, ...]
    sizes: Mapping[str, int]


def at(report: Report, length: int, *, width: int = 4) -> Call:
    """The plan of a report built for sequence axes near a length and other axes of a width, or what the formula allows.

    Errors: ValueError if no such sizes are allowed, or the formula has mistakes.
    """
    formula, plan = report.formula, report.plan
    if formula is None or plan is None:
        raise ValueError(f"{report.name} has mistakes")
    sequence = Sequence(formula)
    sizes, constants = _near(formula, sequence, length, width)
    inputs = example_inputs(formula, sizes, constants)
    fixed = {axis: sizes[axis] for axis in sizes if axis in formula.fixed}
    module = build(formula, plan, sizes=fixed, consts=constants)
    found = dict(sizes)
    for node, tensor in zip(formula.inputs, inputs, strict=True):
        found.update(zip(node.axes, tensor.shape[tensor.dim() - len(node.axes) :], strict=True))
    return Call(module, inputs, {name: found[name] for name in sequence.names})


def _near(
    formula: Formula, sequence: Sequence, length: int, width: int
) -> tuple[dict[str, int], dict[str, int | float]]:
    """Sizes and constants at the first length from this one on that the facts of the formula allow."""
    settled = plan_sizes(formula)
    both = max(sum(axis in sequence.names for axis in node.axes) for node in formula.inputs) > 1
    for candidate in range(round(2.5 * length**0.5) if both else length, 2 * length + 64):
        known = {axis: candidate for axis in (*formula.fixed, *formula.bound) if axis in sequence.names}
        known |= SIZES.get(formula.name, {})
        for relation in formula.relations:
            axis = relation.left.as_symbol()
            if relation.relation == "=" and axis in settled.given and relation.right.symbols() <= known.keys():
                known.setdefault(axis, int(relation.right.evaluate(known)))
        for axis in settled.given:
            if axis not in formula.derived:
                known.setdefault(axis, width)
        try:
            return constructor_arguments(formula, settled, known, CONSTANTS.get(formula.name))
        except CompileError:
            continue
    raise ValueError(f"{formula.name}: no sizes near {length}")


def ratio(order: Iterable[Growth], before: Mapping[str, int], after: Mapping[str, int]) -> float:
    """By how much a claimed order grows between two sizes; 1 if it does not."""

    def value(term: Growth, sizes: Mapping[str, int]) -> float:
        total = 1.0
        for name, (power, logarithms) in term:
            total *= sizes[name] ** power * log(sizes[name]) ** logarithms
        return total

    return max([1.0, *(value(term, after) / value(term, before) for term in order)])
