"""Forms of published mechanisms that are known to be equal, and those that are not although their names suggest it.

The forms of the catalogue stand in `examples/`, what they equal in `known/*.attn`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from attngraph.compiler.equivalence import Equivalence, Side, Verdict, equivalent
from attngraph.compiler.pipeline import check_source, read
from attngraph.grammar.source import Source
from benchmarks import examples

#: found with proof
PROVED = (
    ("quadrature_positive", "quadrature_weighted"),
    ("quadrature_constant", "softmax_attention"),
    ("kernel_integral_attention", "kernel_integral_keys_first"),
    ("lightning_without_decay", "pavlovian_heads"),
    ("lightning_attention", "lightning_blocks"),
    ("taylor_attention", "taylor_features"),
    ("nonapprox_attention", "prefix_sums"),
    ("aaren", "prefix_sums_of_heads"),
    ("static_emb_same", "causal_multihead"),
    ("fourier_karat", "karat_values_first"),
    ("fourier_karat", "karat_basis"),
    ("sigmoid_attention", "sigmoid_by_tanh"),
    ("fod_i2_block", "i2_difference"),
    ("fod_rbf_target", "rbf_without_prefactor"),
    ("bam_identical", "multihead_causal"),
    ("sliding_window_attention", "sliding_window_masked"),
    ("oat_pointer_logits", "pointer_bilinear"),
    ("tcpa_open", "tcpa_open_renormalised"),
    ("nala_attention", "nala_keys_first"),
    ("gpsa_attention", "gpsa_mixture"),
    ("clipped_open", "softmax_attention"),
    ("urpe_plain", "softmax_heads"),
    ("flow_attention", "flow_sums_first"),
    ("cosformer_attention", "cosformer_features"),
    ("mixed_soft", "softmax_attention"),
    ("mixed_cosine", "cosformer_attention"),
    ("dina_1d", "dina_whole"),
    ("agent_attention", "agent_nested"),
    ("sparse_query_attention", "sparse_query_repeated"),
    ("minimal_stack", "minimal_stack_collapsed"),
    ("unified_token_mixing_linear", "token_mixing_linear_called"),
    ("linear_attention", "linear_keys_first"),
    ("unified_token_mixing_attention", "projected_softmax"),
    ("unified_token_mixing_conv", "token_mixing_conv_direct"),
    ("einspace_sdpa", "projected_softmax_biased"),
    ("einspace_mhsa", "multihead_biased"),
    ("lean_attention", "softmax_attention"),
    ("three_passes_scaled", "softmax_attention"),
    ("attention_3pass", "attention_2pass"),
    ("shifted_groups", "rolled_groups"),
    ("l2vit_linear_attention", "l2vit_keys_first"),
    ("nprf_unbiased", "nprf_linear"),
    ("moa_attention", "moa_of_two"),
    ("pool_mixer", "pool_by_pooling"),
)
#: equal at every size and draw that was tried, and no more
OPEN = (
    ("gqa_attention", "gqa_two_parts"),  # a sum of masked exponentials is 0 only where all are masked
    ("circular_conv", "circular_by_transforms"),  # the convolution theorem
)
DIFFERENT = (
    ("taylor_attention", "taylor_attention_appendix"),
    ("kernel_integral_attention", "kernel_integral_attention_channels"),
    ("tcpa_attention", "tcpa_attention_renormalised"),
    ("l2vit_linear_attention", "l2vit_small_guard"),
    ("combiner_fixed", "combiner_fixed_bidirectional"),
    ("shifted_groups", "causal_groups"),
    ("landmark_attention", "landmark_attention_topk"),
    ("nala_attention", "nala_cos_attention"),
    ("quadrature_attention", "quadrature_weighted"),
    ("causal_linear_attention", "linear_attention"),
)


def _sides() -> dict[str, Side]:
    found: dict[str, Side] = {}
    for path in (*examples.FILES, *sorted((Path(__file__).parent / "known").glob("*.attn"))):
        source = read(path)
        assert isinstance(source, Source)
        for report in check_source(source):
            assert report.formula is not None, (path, [d.message for d in report.diagnostics])
            found[report.name] = Side(report.formula, report.formula.graph)
    return found


SIDES = _sides()


def compare(left: str, right: str) -> Equivalence:
    return equivalent(SIDES[left], SIDES[right])


@pytest.mark.parametrize(("left", "right"), PROVED)
def test_known_to_be_equal(left: str, right: str) -> None:
    found = compare(left, right)
    assert found.verdict is Verdict.PROVED, found


@pytest.mark.parametrize(("left", "right"), OPEN)
def test_equal_without_proof(left: str, right: str) -> None:
    found = compare(left, right)
    assert found.verdict is Verdict.UNKNOWN, found
    assert found.sizes


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_not_equal(left: str, right: str) -> None:
    found = compare(left, right)
    assert found.verdict is Verdict.DIFFERENT, found
    assert found.counterexample is not None
    assert found.counterexample.left != found.counterexample.right
