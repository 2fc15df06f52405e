"""Costs of random formulas are what running them costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import torch
from hypothesis import assume, given, settings
from torch.utils.flop_counter import FlopCounterMode

from attngraph.compiler.graph import Graph, Node
from attngraph.compiler.ops.contraction import Contraction
from attngraph.compiler.scan import Scan, deep
from attngraph.compiler.sizes import Growth, Poly
from attngraph.compiler.types import Kind

from .attention import attentions
from .draft import Draft, Sample, read
from .programs import programs, scans


def _counted(sample: Sample, graph: Graph) -> int:
    """Multiply-adds of contractions, times two, as torch counts them."""
    module = sample.module(graph)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(**sample.inputs)
    return int(counter.get_total_flops())


def _stated(sample: Sample, graph: Graph) -> float:
    """The same by the operations' own account, for every batch entry that they run on."""
    sizes = sample.sizes()
    total = 0.0
    for node in graph.nodes():
        if isinstance(node.op, Contraction):
            flops = node.op.flops(node.type, *(operand.type for operand in node.inputs))
            total += flops.evaluate({**sizes, **sample.formula.constants}) * _entries(sample, node)
    return total


def _entries(sample: Sample, node: Node) -> int:
    """Batch entries of a value: those of the inputs that it reads."""
    reads = Graph((node,), {}).nodes()
    shapes = [sample.draft.batches.get(i.op.name, ()) for i in sample.formula.inputs if i in reads]  # type: ignore[attr-defined]
    return math.prod(torch.broadcast_shapes(*shapes))  # type: ignore[no-untyped-call]


def _matrix_products_only(sample: Sample) -> bool:
    """Whether torch counts every contraction of the text: those of ints and over an axis of length 1 are products."""
    sizes = sample.sizes()
    for node in deep(sample.formula.graph.nodes()):
        if isinstance(node.op, Contraction):
            matrices = node.type.kind is Kind.REAL and all(sizes[axis] > 1 for axis in node.op.axes)
            if not matrices or not node.type.batched:
                return False
        elif "onvolution" in type(node.op).__name__:
            return False
    return True


@settings(max_examples=100)
@given(attentions())
def test_contractions_cost_what_torch_counts(draft: Draft) -> None:
    sample = read(draft)
    assume(_matrix_products_only(sample))
    assert _counted(sample, sample.formula.graph) == _stated(sample, sample.formula.graph)


@settings(max_examples=100)
@given(programs(last="@"))
def test_contractions_of_programs_cost_what_torch_counts(draft: Draft) -> None:
    sample = read(draft)
    assume(_matrix_products_only(sample))
    assert _counted(sample, sample.formula.graph) == _stated(sample, sample.formula.graph)


@settings(max_examples=60)
@given(scans())
def test_contractions_of_scans_cost_what_torch_counts(draft: Draft) -> None:
    """A step costs what its operations cost, as often as it is taken."""
    sample = read(Draft(draft.text, draft.sizes, {}, draft.seed))
    assume(_matrix_products_only(sample))
    cost = sample.report.written
    assert cost is not None
    sizes = {**sample.sizes(), **sample.formula.constants}
    total = 0.0
    for node, times in _taken(sample.formula.graph.nodes(), sizes):
        flops = node.op.flops(node.type, *(operand.type for operand in node.inputs)).evaluate(sizes)
        if isinstance(node.op, Contraction):
            total += times * flops
    assert _counted(sample, sample.formula.graph) == total
    assert cost.time.evaluate(sizes) >= total


def _taken(nodes: Iterable[Node], sizes: Mapping[str, float], times: float = 1) -> Iterator[tuple[Node, float]]:
    """Every operation, and how often it runs."""
    for node in nodes:
        if isinstance(node.op, Scan):
            yield from _taken(node.op.step.nodes(), sizes, times * sizes[node.op.axis])
        else:
            yield node, times


@settings(max_examples=100)
@given(attentions())
def test_time_is_the_sum_over_the_operations(draft: Draft) -> None:
    sample = read(draft)
    sizes = {**sample.sizes(), **sample.formula.constants}
    for cost, graph in ((sample.report.written, sample.formula.graph), (sample.report.compiled, sample.plan)):
        assert cost is not None
        total = 0.0
        for node in graph.nodes():
            flops = node.op.flops(node.type, *(operand.type for operand in node.inputs))
            assert cost.by_node.get(node, Poly.constant(0)) == flops
            total += flops.evaluate(sizes)
        assert math.isclose(cost.time.evaluate(sizes), total, rel_tol=1e-12, abs_tol=1e-9)


def _growing(draft: Draft, length: int) -> Draft:
    """The same call with the sequence axes as long as this and everything else small."""
    sizes = {axis: length if axis in ("N", "M") else size for axis, size in draft.sizes.items()}
    return Draft(draft.text, sizes, {}, draft.seed)


def _degree(term: Growth) -> int:
    """The power of the length; logarithms do not count."""
    return sum(power for _, (power, _) in term)


def _slope(small: float, large: float) -> float:
    return math.log2(large / small)


@settings(max_examples=100)
@given(attentions())
def test_time_grows_as_reported(draft: Draft) -> None:
    """From N to 2N the time grows by 2 to the power of the reported degree; a logarithm adds some 1/24 to it."""
    sample = read(draft)
    cost = sample.report.compiled
    assert cost is not None
    degree = max(map(_degree, cost.time_order), default=0)
    times = []
    for length in (2**24, 2**25):
        sizes = read_sizes(sample, length)
        times.append(cost.time.evaluate(sizes))
    assert abs(_slope(*times) - degree) < 0.1


def read_sizes(sample: Sample, length: int) -> dict[str, float]:
    """Sizes with long sequence axes. Heads do not grow."""
    known: dict[str, float] = {axis: float(size) for axis, size in sample.draft.sizes.items()}
    known |= {axis: float(length) for axis in sample.report.formula.sequence} if sample.report.formula else {}
    known |= sample.formula.constants
    for axis, size in sample.formula.derived.items():
        if size.symbols() <= known.keys():
            known.setdefault(axis, size.evaluate(known))
    return known


@settings(max_examples=25)
@given(attentions(spare=False))
def test_linear_plans_are_linear_when_they_run(draft: Draft) -> None:
    """Torch's count of a plan that is reported as linear is a constant and a multiple of the length.

    The lengths are those at which a sequence is taken whole; longer ones go in pieces, each of which reads a state.
    """
    sample = read(draft)
    assert sample.report.compiled is not None
    assume(all(_degree(term) <= 1 for term in sample.report.compiled.time_order))
    grown = [read(_growing(draft, length)) for length in (256, 512, 1024)]
    first, second, third = (_counted(sample, sample.plan) for sample in grown)
    assert third - second <= 2 * (second - first)
