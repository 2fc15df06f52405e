"""What the catalogue of formulas needs of the language, operator by operator: each exists in every respect.

An operation of the table has a case by which types, values, gradients, cost and code are held (`test_conformance.py`),
a section on the page of operations, and stands in the example formulas that need it; these check, are in the layout of
the formatter, and can be typeset.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest

import attngraph
from attngraph.compiler.facts.ranges import ranges
from attngraph.compiler.graph import Node
from attngraph.compiler.ops import (
    OPS,
    arithmetic,
    contraction,
    convolution,
    cumulative,
    functions,
    layout,
    leaves,
    logic,
    normalisations,
    ordering,
    padding,
    pairs,
    pooling,
    reductions,
    segments,
    selection,
    spectral,
)
from attngraph.compiler.ops.base import Leaf, Op
from attngraph.compiler.scan import Scan, deep
from attngraph.compiler.types import Kind
from attngraph.grammar.latex import latex_formula
from attngraph.grammar.mathml import mathml
from attngraph.grammar.parser import parse
from attngraph.grammar.printer import format_file
from attngraph.grammar.source import Source
from benchmarks import examples
from docs.hooks import operations_page
from tests.facts.probes import example
from tests.ops.cases import CASES

Row = tuple[str, tuple[type, ...], tuple[str, ...]]
#: What is needed, the operations that give it, and formulas that need it.
NEEDS: tuple[Row, ...] = (
    ("depthwise convolution with parameters", (convolution.Convolution,), (
        "focal_modulation", "ffnified_attention", "orchid_kernel_abs", "fbnet_ir_block", "agent_layer", "gated_cnn",
        "local_concentration")),
    ("strided and transposed convolution", (convolution.Convolution, convolution.TransposedConvolution), (
        "mg_vcycle", "mgno_layer")),
    ("a kernel as wide as its stride", (layout.Split, contraction.Contraction), ("strip_self_attention",)),
    ("depthwise convolution with a computed kernel", (convolution.Convolution,), ("hyperzzw_local",)),
    ("windows with zeros around", (selection.Windows,), ("outlook_attention", "class_semantics_attention")),
    ("windows with clamped start and dilation", (selection.Take, pairs.Maximum, pairs.Minimum), ("dina_1d", "dina_2d")),
    ("overlapping windows added up", (selection.Fold,), ("outlook_attention",)),
    ("an axis cut into windows", (layout.Split, layout.Merge), ("combiner_fixed", "titans_mac")),
    ("pooling, adaptive and strided", (pooling.AdaptivePool,), ("agent_layer", "contmix")),
    ("pooling with a partial last cell", (pooling.AveragePool,), ("outlook_attention",)),
    ("means over the image", (reductions.Mean,), ("focal_modulation", "squeeze_excite")),
    ("softmax over several axes, over features, over taps", (normalisations.Softmax,), (
        "masked_spatial_attention", "dina_2d", "davit_channel_attention", "relaxed_choice", "contmix",
        "outlook_attention")),
    ("concatenation along the keys before one softmax", (selection.Concat,), (
        "combiner_fixed", "tcpa_attention", "titans_mag")),
    ("a constant slot", (selection.Pad,), ("oat_pointer_logits",)),
    ("unequal split of an axis", (selection.Slice,), ("focal_modulation", "gated_convolution")),
    ("tables indexed by a lag", (selection.Take, leaves.Position), (
        "urpe_attention", "dina_1d", "contmix", "nprf_rpe_attention")),
    ("masks", (logic.GreaterEqual,), ("lightning_attention", "fixed_qk_attention", "sliding_window_attention")),
    ("masks of documents", (logic.Equal,), ("varlen_causal_attention", "varlen_block_causal_attention")),
    ("a mask behind the softmax", (arithmetic.Multiply,), ("tcpa_attention", "urpe_attention")),
    ("softmax within groups, numbers of blocks by counting", (segments.SegmentSoftmax, cumulative.CumulativeSum), (
        "landmark_attention",)),
    ("the best as a mask", (ordering.Top,), (
        "moa_attention", "moh_gates", "tcpa_mask", "sparsifiner_attention", "landmark_attention_topk", "mote_gates")),
    ("the best by their positions", (ordering.TopPositions, selection.Take), ("bvr_select_keys", "prune_leaf_tokens")),
    ("the best fed back", (reductions.ArgMax, Scan), ("pointer_decode",)),
    ("sorting", (ordering.Sort,), ("simplex_projection", "prune_leaf_tokens")),
    ("grouped heads", (layout.Split, layout.Merge), ("gqa_attention", "sparse_query_attention")),
    ("rolls by an amount of the head", (arithmetic.Modulo,), ("s2_attention", "sf_attention")),
    ("partial softmaxes merged", (pairs.Maximum, functions.Exp), ("merge_lse", "softmax_merge")),
    ("decay of the data", (cumulative.CumulativeSum,), ("selective_ssm",)),
    ("a matrix as state", (Scan,), ("rescorla_wagner_attention", "titans_linear_memory", "titans_deep_memory")),
    ("Fourier transforms of real values", (spectral.RealFourierTransform, spectral.InverseRealFourierTransform), (
        "spectral_conv",)),
    ("Fourier transforms along two axes", (spectral.FourierTransform, spectral.RealPart), (
        "unified_token_mixing_fourier", "vfpt_prompts")),
    ("modes cut and filled up with zeros", (selection.Slice, selection.Pad), ("spectral_conv",)),
    ("complex values", (spectral.Conjugate,), ("orchid_kernel_corr",)),
    ("products with Toeplitz and circulant matrices", (selection.Take,), (
        "circular_conv", "unified_token_mixing_conv", "nprf_rpe_attention", "orchid_mixer")),
    ("polynomials of scores", (arithmetic.IntegerPower,), ("taylor_attention",)),
    ("a power with a tensor as exponent", (arithmetic.Power,), ("nala_attention", "nala_cos_attention")),
    ("the triangle of a parameter", (logic.Where, leaves.Parameter), ("minimal_attention_symmetric",)),
    ("buffers", (leaves.Buffer,), ("ffnified_attention", "nprf_rpe_attention", "tnl_attention")),
    ("statistics over tokens and over channels", (reductions.Mean, reductions.Variance), (
        "kernel_integral_attention", "kernel_integral_attention_channels")),
    ("norms of channels", (normalisations.LayerNorm,), ("tnl_attention", "fod_i2_block", "ninformer_gating")),
    ("sizes as numbers", (leaves.Size,), (
        "sigmoid_attention", "clipped_softmax_length_free", "flow_attention", "cosformer_attention", "lssa")),
    ("a fixed number of repetitions", (Scan,), ("feedback_loop_fusion",)),
    ("levels", (cumulative.CumulativeProduct, segments.SegmentSum), ("combiner_logsparse",)),
)  # fmt: skip
#: Needed by forms of formulas that no example has: their text, which runs in `test_conformance.py` case by case.
ELSEWHERE: tuple[tuple[str, type[Op]], ...] = (
    ("bilinear sampling", pooling.Resize),
    ("stop of a gradient", functions.StopGradient),
    ("roll", selection.Roll),
    ("circular borders", padding.CircularPadding),
    ("reflected borders", padding.ReflectedPadding),
    ("log-sum-exp of parts", pairs.LogAddExp),
    ("windows", selection.Windows),
)

#: Operations without a gradient: comparisons, choices, whole numbers.
STEPS = (
    arithmetic.Modulo, functions.StopGradient, logic.Equal, logic.GreaterEqual, ordering.Top, ordering.TopPositions,
    reductions.ArgMax,
)  # fmt: skip


def _names() -> Iterator[tuple[str, type, str]]:
    for need, operations, formulas in NEEDS:
        for name in formulas:
            for operation in operations:
                yield need, operation, name


def _nodes(name: str) -> list[Node]:
    formula = example(name).formula
    assert formula is not None
    return deep(formula.graph.nodes())


@pytest.mark.parametrize(("need", "operation", "name"), [*_names()])
def test_the_formula_uses_the_operation(need: str, operation: type, name: str) -> None:
    formula = example(name).formula
    assert formula is not None
    used = [node for node in _nodes(name) if isinstance(node.op, operation)]
    used += [stored.node for stored in (*formula.buffers, *formula.parameters) if isinstance(stored.node.op, operation)]
    assert used, need


@pytest.mark.parametrize("name", sorted({name for _, _, names in NEEDS for name in names}))
def test_the_formula_is_checked_formatted_and_typeset(name: str) -> None:
    report = example(name)
    assert report.ok
    assert report.written is not None
    assert report.written.time.terms
    path = examples.find(name)
    tree, problems = parse(Source(str(path), path.read_text(encoding="utf-8")))
    assert not problems
    assert format_file(tree) == path.read_text(encoding="utf-8")
    assert report.formula is not None
    latex = latex_formula(report.formula.tree)
    assert mathml(latex).count("<math") == 1


@pytest.mark.parametrize("operation", sorted({o for _, ops, _ in NEEDS for o in ops if o is not Scan}
                         | {o for _, o in ELSEWHERE}, key=lambda op: op.__name__))  # fmt: skip
def test_the_operation_exists_in_every_respect(operation: type[Op]) -> None:
    """In the list of operations, in the tests of all of them, on their page."""
    assert operation in OPS
    if issubclass(operation, Leaf):
        return
    cases = [case for case in CASES if isinstance(case.op, operation)]
    assert cases
    assert any(case.smooth for case in cases) or operation in STEPS
    first = (inspect.cleandoc(operation.__doc__ or "").splitlines() or [""])[0]
    if operation.spelling:
        assert f"### `{first.partition(':')[0].strip('`')}`" in operations_page(OPS)


def test_what_recurrences_are_is_on_a_page_of_the_language() -> None:
    assert "## Recurrences" in (examples.FOLDER.parent / "docs/language.md").read_text("utf-8")
    assert attngraph.parse("attention f(x[N]) -> [N]:\n    scan N:\n        state s[] = 0\n        s = s + x\n"
                           "        yield y = s\n    return y\n").report.ok  # fmt: skip


@pytest.mark.parametrize("name", sorted({name for _, _, names in NEEDS for name in names}))
def test_ranges_are_known_of_every_value(name: str) -> None:
    """No operation of these formulas is one that the analysis of ranges stumbles over."""
    formula = example(name).formula
    assert formula is not None
    nodes = tuple(
        n for n in formula.graph.nodes() if n.type.kind in (Kind.REAL, Kind.INT) and not isinstance(n.op, Scan)
    )
    assert ranges(nodes, formula.constants).keys() >= set(nodes)
