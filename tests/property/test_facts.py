"""What is said of random formulas is so: ranges, row sums, what is read, what is interchangeable, gradients, causality."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from attngraph.compiler.facts.gradients import unreached
from attngraph.compiler.facts.hazards import hazards
from attngraph.compiler.facts.ranges import Range, ranges, within
from attngraph.compiler.facts.reach import reached
from attngraph.compiler.facts.rows import Total
from attngraph.compiler.graph import Graph, Node
from attngraph.compiler.ops.layout import Rename
from attngraph.compiler.ops.normalisations import Softmax
from attngraph.compiler.properties import properties
from attngraph.compiler.scan import Region, Scan, part_of
from attngraph.compiler.types import Kind

from .attention import attentions
from .draft import Draft, Sample, is_finite, read
from .programs import programs, scans, sequences
from .test_causal import _is_judged_causal, _later_changes_nothing

drafts = st.one_of(scans(), programs(), attentions())
NUMBERS = (Kind.REAL, Kind.INT)


def _recorded(sample: Sample) -> dict[Node, tuple[Node, ...]]:
    """For every recurrence of a formula, its steps' values at all positions: what a scan gives that yields them too."""
    make, found = sample.formula.builder.make, {}
    for node in sample.formula.graph:
        if isinstance(node.op, Scan):
            step = node.op.step
            inner = tuple(n for n in step.nodes() if n.type.kind in NUMBERS and not isinstance(n.op, Scan))
            op = replace(node.op, step=Region(step.arguments, (*step.results, *inner)))
            bundle = make(op, *node.inputs)
            parts = [make(part_of(op, len(step.results) + index), bundle) for index in range(len(inner))]
            found[node] = tuple(zip(inner, parts, strict=True))
    return found


def _assert_within(found: Range, value: Tensor, node: Node) -> None:
    numbers = np.asarray(value.to(torch.float64))
    numbers = numbers[np.isfinite(numbers)]
    room = 1e-9 * max(1.0, float(np.abs(numbers).max(initial=0.0)))
    assert (numbers >= found.low - room).all(), (node, found)
    assert (numbers <= found.high + room).all(), (node, found)


@settings(max_examples=60)
@given(drafts)
def test_values_lie_in_their_ranges(draft: Draft) -> None:
    sample = read(draft)
    nodes = tuple(n for n in sample.formula.graph.nodes() if n.type.kind in NUMBERS and not isinstance(n.op, Scan))
    values = sample.reference(Graph(nodes, {}))
    bounds = ranges(nodes, sample.formula.constants)
    for node, value in zip(nodes, values, strict=True):
        _assert_within(bounds[node], value, node)


@settings(max_examples=25)
@given(scans())
def test_values_of_steps_lie_in_their_ranges(draft: Draft) -> None:
    sample = read(draft)
    for scan, pairs in _recorded(sample).items():
        bounds = ranges(scan.inputs, sample.formula.constants)
        inside = within(scan, sample.formula.constants, bounds)
        values = sample.reference(Graph(tuple(part for _, part in pairs), {}))
        for (node, _), value in zip(pairs, values, strict=True):
            _assert_within(inside[node], value, node)


@settings(max_examples=25)
@given(drafts)
@torch.no_grad()
def test_without_a_hazard_numbers_are_finite(draft: Draft) -> None:
    sample = read(draft)
    if hazards(sample.formula):
        return
    module = sample.module(sample.formula.graph)
    for size in (0.0, 1.0, -1.0):
        inputs = {n: torch.full_like(x, size) if x.is_floating_point() else x for n, x in sample.inputs.items()}
        found = module(**inputs)
        for value in found if isinstance(found, tuple) else (found,):
            assert torch.isfinite(value).all()


@settings(max_examples=40)
@given(drafts)
def test_weights_sum_to_what_is_said(draft: Draft) -> None:
    sample = read(draft)
    outside, weights = set(sample.formula.graph), properties(sample.formula, sample.plan).weights
    claimed = [each for each in weights if each.total != Total.UNKNOWN.value]
    at = {inner: part for pairs in _recorded(sample).values() for inner, part in pairs if inner not in outside}
    claimed = [each for each in claimed if each.node in outside or each.node in at]  # not those of steps in steps
    values = sample.reference(Graph(tuple(at.get(each.node, each.node) for each in claimed), {}))
    for each, value in zip(claimed, values, strict=True):
        axes = at.get(each.node, each.node).axes
        dims = tuple(axes.index(axis) - len(axes) for axis in each.axes)
        sums = value.sum(dims)
        final = each.node in sample.formula.graph.outputs or isinstance(each.node.op, Softmax)
        if not is_finite((sums,)) or not final:
            continue  # weights that are normalised later sum to one only then
        one = (sums - 1).abs() < 1e-9
        if each.total == Total.ONE.value:
            assert one.all(), each
        elif each.total == Total.ONE_OR_NONE.value:
            assert (one | (sums.abs() < 1e-12)).all(), each
        else:
            assert (sums <= 1 + 1e-9).all(), each


def _changed(x: Tensor, dim: int, position: int) -> Tensor:
    found = x.clone()
    part = found.select(dim, position)
    if x.dtype == torch.bool:
        part.copy_(~part)
    else:
        part.add_(1 if x.dtype == torch.int64 else 0.37)
    return found


def _moves(sample: Sample, inputs: dict[str, Tensor], before: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Which elements of the results are other ones for these inputs."""
    module = sample.module(sample.formula.graph)
    after = module(**inputs)
    found = []
    for old, new in zip(before, after if isinstance(after, tuple) else (after,), strict=True):
        if old.dtype.is_floating_point or old.dtype.is_complex:
            scale = max(1.0, float(old.abs().max())) if old.numel() else 1.0
            found.append((old - new).abs() > 1e-9 * scale)
        else:
            found.append(old != new)
    return tuple(found)


@settings(max_examples=60)
@given(drafts)
@torch.no_grad()
def test_nothing_else_is_read(draft: Draft) -> None:
    """A position that a result is said not to read does not move it."""
    sample = read(draft)
    before = sample.values(sample.module(sample.formula.graph))
    assume(is_finite(before))
    rows = reached(sample.formula)
    for node in sample.formula.inputs:
        name = str(node.op.name)  # type: ignore[attr-defined]
        x = sample.inputs[name]
        for axis in node.axes:
            mine = [row for row in rows if (row.input, row.axis) == (name, axis)]
            if all(row.own is None and row.words != "no position" for row in mine):
                continue
            dim = node.axes.index(axis) - len(node.axes)
            position = draft.seed % x.shape[dim]
            moved = _moves(sample, {**sample.inputs, name: _changed(x, dim, position)}, before)
            for place, (change, output) in enumerate(zip(moved, sample.formula.graph.outputs, strict=True)):
                may = torch.zeros(change.shape, dtype=torch.bool)
                for row in (row for row in mine if row.output == place):
                    if row.own is None:
                        may |= row.words != "no position"
                        continue
                    own = output.axes.index(row.own) - len(output.axes)
                    distance = position - torch.arange(change.shape[own])
                    low = distance >= (row.low if row.low is not None else -(10**6))
                    high = distance <= (row.high if row.high is not None else 10**6)
                    may |= (low & high).view(-1, *[1] * (-own - 1))
                assert not (change & ~may).any(), (name, axis, position)


@settings(max_examples=60)
@given(drafts)
@torch.no_grad()
def test_permuted_positions(draft: Draft) -> None:
    """Positions that are said to be interchangeable may be permuted; an axis and its copies go together."""
    sample = read(draft)
    before = sample.values(sample.module(sample.formula.graph))
    assume(is_finite(before))
    for symmetry in properties(sample.formula, sample.plan).symmetries:
        if symmetry.culprit is not None:
            continue
        copies = set(symmetry.axes)
        for _ in range(3):
            for node in sample.formula.graph.nodes():
                if isinstance(node.op, Rename) and copies & {node.op.source, node.op.target}:
                    copies |= {node.op.source, node.op.target}
        order = torch.randperm(sample.sizes()[symmetry.axes[0]], generator=torch.Generator().manual_seed(draft.seed))
        inputs = {}
        for node in sample.formula.inputs:
            x = sample.inputs[node.op.name]  # type: ignore[attr-defined]
            for dim in (node.axes.index(axis) - len(node.axes) for axis in copies & set(node.axes)):
                x = x.index_select(dim, order)
            inputs[str(node.op.name)] = x  # type: ignore[attr-defined]
        wanted = []
        for value, output in zip(before, sample.formula.graph.outputs, strict=True):
            for dim in (output.axes.index(axis) - len(output.axes) for axis in copies & set(output.axes)):
                value = value.index_select(dim, order)
            wanted.append(value)
        assert not any(moved.any() for moved in _moves(sample, inputs, tuple(wanted))), symmetry


@settings(max_examples=60)
@given(drafts)
def test_what_gets_no_gradient_gets_none(draft: Draft) -> None:
    sample = read(draft)
    module = sample.module(sample.formula.graph)
    assume(is_finite(sample.gradients(module)))
    names = [n for n, x in sample.inputs.items() if x.is_floating_point()] + [n for n, _ in module.named_parameters()]
    gradients = sample.gradients(module)
    none = {str(found.node.op.name) for found in unreached(sample.formula)}  # type: ignore[attr-defined]
    for name, gradient in zip(names, gradients, strict=False):
        assert name not in none or not gradient.any(), name


@settings(max_examples=60)
@given(sequences())
def test_what_is_judged_causal_is_causal(draft: Draft) -> None:
    sample = read(draft)
    along = all("N" in node.axes and "M" not in node.axes for node in sample.formula.graph.outputs)
    assume(along and all(len({"N", "M"} & set(node.axes)) < 2 for node in sample.formula.inputs))
    if _is_judged_causal(draft):
        _later_changes_nothing(draft)
