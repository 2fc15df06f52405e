"""What is said of random formulas is so: ranges, row sums, what is read, what is interchangeable, gradients, causality."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from attngraph.compiler.facts.gradients import unreached
from attngraph.compiler.facts.ranges import ranges
from attngraph.compiler.facts.reach import reached
from attngraph.compiler.facts.rows import Total
from attngraph.compiler.graph import Graph
from attngraph.compiler.ops.layout import Rename
from attngraph.compiler.properties import properties
from attngraph.compiler.scan import Scan
from attngraph.compiler.types import Kind

from .attention import attentions
from .draft import Draft, Sample, is_finite, read
from .programs import programs, scans, sequences
from .test_causal import _is_judged_causal, _later_changes_nothing

drafts = st.one_of(scans(), programs(), attentions())


@settings(max_examples=60)
@given(drafts)
def test_values_lie_in_their_ranges(draft: Draft) -> None:
    sample = read(draft)
    nodes = tuple(
        n for n in sample.formula.graph.nodes() if n.type.kind in (Kind.REAL, Kind.INT) and not isinstance(n.op, Scan)
    )
    values = sample.reference(Graph(nodes, {}))
    bounds = ranges(nodes, sample.formula.constants)
    for node, value in zip(nodes, values, strict=True):
        found, numbers = bounds[node], np.asarray(value.to(torch.float64))
        numbers = numbers[np.isfinite(numbers)]
        room = 1e-9 * max(1.0, float(np.abs(numbers).max(initial=0.0)))
        assert (numbers >= found.low - room).all(), (node, found)
        assert (numbers <= found.high + room).all(), (node, found)


@settings(max_examples=40)
@given(drafts)
def test_weights_sum_to_what_is_said(draft: Draft) -> None:
    sample = read(draft)
    claimed = [w for w in properties(sample.formula, sample.plan).weights if w.total != Total.UNKNOWN.value]
    values = sample.reference(Graph(tuple(each.node for each in claimed), {}))
    for each, value in zip(claimed, values, strict=True):
        dims = tuple(each.node.axes.index(axis) - len(each.node.axes) for axis in each.axes)
        sums = value.sum(dims)
        if not is_finite((sums,)) or each.node not in sample.formula.graph.outputs:
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
