"""What random formulas compute: types, meaning, plans and gradients."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from attngraph.compiler.graph import Graph, Node
from attngraph.compiler.ops.base import Leaf
from attngraph.compiler.scan import Scan
from attngraph.compiler.types import Kind

from .attention import attentions, recurrences
from .draft import Draft, Sample, assert_close, assert_means, is_finite, read
from .programs import programs, scans

KINDS = {"torch.bool": Kind.BOOL, "torch.int64": Kind.INT, "torch.float64": Kind.REAL, "torch.complex128": Kind.COMPLEX}


def _visible(node: Node) -> bool:
    """A value that is a tensor: not an input, not a number, and not the bundle that a scan gives."""
    return not isinstance(node.op, Leaf | Scan) and (bool(node.axes) or node.type.batched)


def _everything(graph: Graph) -> Graph:
    """The graph that returns every value on the way."""
    nodes = tuple(node for node in graph.nodes() if _visible(node))
    return Graph(nodes or graph.outputs, graph.names)


def _check_every_value(sample: Sample, graph: Graph) -> None:
    """Kind, shape and value of every node: as inferred, as the module computes it, as it is defined."""
    whole = _everything(graph)
    actual = sample.values(sample.module(whole))
    sizes = sample.sizes()
    for node, value in zip(whole.outputs, actual, strict=True):
        assert KINDS[str(value.dtype)] is node.type.kind, node
        assert value.shape[value.dim() - len(node.axes) :] == tuple(sizes[axis] for axis in node.axes), node
        assert node.type.batched or value.dim() == len(node.axes), node
    meaning = sample.reference(whole)  # asserts kind, axes and shape of what it computes
    for mine, theirs in zip(actual, meaning, strict=True):
        if is_finite((theirs,)):
            assert_means((mine,), (theirs,))


@settings(max_examples=150)
@given(programs(most=12))
def test_every_value_of_a_program_is_as_inferred_and_as_defined(draft: Draft) -> None:
    sample = read(draft)
    _check_every_value(sample, sample.formula.graph)


@settings(max_examples=60)
@given(attentions())
def test_every_value_of_a_plan_is_as_inferred_and_as_defined(draft: Draft) -> None:
    sample = read(draft)
    _check_every_value(sample, sample.plan)


def _check_plan(sample: Sample) -> None:
    """Values and gradients of the plan are those of the text."""
    written, planned = (sample.module(graph) for graph in sample.graphs.values())
    expected = sample.values(written)
    assume(is_finite(expected))
    assert_close(sample.values(planned), expected)
    gradients = sample.gradients(written)
    assume(is_finite(gradients))
    largest = max((float(g.abs().max()) for g in gradients if g.numel()), default=0.0)
    # a gradient that is zero in exact arithmetic is a difference of others
    assert_close(sample.gradients(planned), gradients, relative=1e-8, noise=1e-11 * max(1.0, largest))


@settings(max_examples=180)
@given(attentions())
def test_plan_of_attention_computes_the_text(draft: Draft) -> None:
    _check_plan(read(draft))


@settings(max_examples=40)
@given(attentions(long=True))
def test_plan_of_long_attention_computes_the_text(draft: Draft) -> None:
    _check_plan(read(draft))


@settings(max_examples=50)
@given(recurrences())
def test_plan_of_a_recurrence_computes_the_text(draft: Draft) -> None:
    _check_plan(read(draft))


@settings(max_examples=100)
@given(programs(last="sum of sums"))
def test_plan_of_a_program_computes_the_text(draft: Draft) -> None:
    _check_plan(read(draft))


@settings(max_examples=60)
@given(scans())
def test_plan_of_a_scan_computes_the_text(draft: Draft) -> None:
    sample = read(draft)
    _check_every_value(sample, sample.plan)
    _check_plan(sample)


@settings(max_examples=60)
@given(attentions(), st.sampled_from([(), (1,), (2,), (3, 1)]))
def test_a_batch_is_its_entries(draft: Draft, batch: tuple[int, ...]) -> None:
    """Every entry of a batch is what the formula gives for that entry alone."""
    batched = Draft(draft.text, draft.sizes, dict.fromkeys(draft.batches, batch), draft.seed)
    sample = read(batched)
    module = sample.module(sample.plan)
    together = sample.values(module)
    assume(is_finite(together))
    for index in range(batch[0] if batch else 0):
        alone = module(**{name: value[index] for name, value in sample.inputs.items()})
        reads = [node.type.batched for node in sample.plan.outputs]
        entries = tuple(value[index] if has else value for value, has in zip(together, reads, strict=True))
        assert_close(alone if isinstance(alone, tuple) else (alone,), entries)
