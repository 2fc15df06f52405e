"""The equivalences that the papers of the catalogue state, row by row, and how each is held.

The forms of the catalogue stand in `examples/`, what they equal in `known/*.attn`. What cannot be proved, or needs
loops, gathers or limits, is compared with plain PyTorch by a test of `tests/examples`.
"""

from __future__ import annotations

from dataclasses import dataclass

Pair = tuple[str, str]


@dataclass(frozen=True)
class Row:
    """Two forms that are the same, in words.

    proved: pairs of formulas that are proved. open: pairs that are equal wherever they are tried, and why this is not
    proved. guarded: pairs that are proved where no epsilon acts. tests: of `tests/examples`, as `file.function`.
    """

    left: str
    right: str
    proved: tuple[Pair, ...] = ()
    open: tuple[tuple[Pair, str], ...] = ()
    tests: tuple[str, ...] = ()
    guarded: tuple[Pair, ...] = ()


EQUAL = (
    Row(
        "quadrature_attention", "softmax with key bias log w; w constant: softmax_attention",
        (("quadrature_positive", "quadrature_weighted"), ("quadrature_constant", "softmax_attention")),
    ),
    Row(
        "quadrature_attention", "a key split into copies that share its weight",
        (("quadrature_shared", "quadrature_split"),),
        tests=("test_schedules.test_quadrature_attention_does_not_see_a_key_split_in_two",),
    ),
    Row(
        "kernel_integral_attention", "q (k^T diag(w) v) of standardised k and v",
        (("kernel_integral_attention", "kernel_integral_keys_first"),),
        tests=("test_schedules.test_kernel_integral_sums_the_keys_first",),
    ),
    Row(
        "latent_attention", "the matrices of keys and values at the queries and the results: a cache of latents",
        (("latent_attention", "latent_attention_absorbed"),),
    ),
    Row(
        "spectral_conv as sums", "rfft, cut, multiply, irfft: no law of a Fourier transform is used in proofs",
        tests=("test_schedules.test_spectral_conv_as_sums",),
    ),
    Row(
        "lightning_attention", "recurrent; blockwise for every block length, ragged too",
        (("lightning_attention", "lightning_recurrent"), ("lightning_attention", "lightning_blocks")),
        tests=("test_schedules.test_lightning_attention_block_by_block",),
    ),
    Row(
        "lightning_attention, slope 0", "pavlovian_attention_causal",
        (("lightning_without_decay", "pavlovian_heads"),),
    ),
    Row(
        "taylor_attention", "running state over 1 + D + D^2 features",
        (("taylor_attention", "taylor_recurrent"), ("taylor_attention", "taylor_features")),
        tests=("test_schedules.test_taylor_attention_by_a_running_state_of_features",),
    ),
    Row(
        "nonapprox_attention, aaren", "prefix softmax; doubling scan; (m, u, w) recurrence",
        (("nonapprox_attention", "prefix_sums"), ("aaren", "prefix_sums_of_heads"), ("aaren", "aaren_recurrent")),
        tests=("test_schedules.test_aaren_by_its_recurrence", "test_schedules.test_aaren_by_a_doubling_scan"),
    ),
    Row(
        "fixed_qk_attention", "the map computed once, without the batch",
        (("fixed_qk_attention", "static_emb_qk_attention"),),
        tests=("test_schedules.test_a_map_of_fixed_positions_is_computed_once",),
    ),
    Row("static_emb_qk_attention(h, h)", "causal multi-head attention", (("static_emb_same", "causal_multihead"),)),
    Row(
        "fourier_karat", "basis stacked on one axis, w^T v first",
        (("fourier_karat", "karat_values_first"), ("fourier_karat", "karat_basis")),
    ),
    Row(
        "sigmoid_attention", "(1 + tanh(z / 2)) / 2; sum over key tiles",
        (
            ("sigmoid_attention", "sigmoid_by_tanh"), ("sigmoid_attention", "sigmoid_two_tiles"),
            ("sigmoid_attention", "sigmoid_scaled"),
        ),
        tests=("test_schedules.test_sigmoid_attention_adds_up_over_tiles",),
    ),
    Row("fod_i2_block", "LN(intra - inter)", (("fod_i2_block", "i2_difference"),)),
    Row("fod_rbf_target", "without its prefactor", (("fod_rbf_target", "rbf_without_prefactor"),)),
    Row(
        "bam_attention, identical experts", "one multi-head attention; moa_attention with top_k = J: bam_attention",
        (("bam_identical", "multihead_causal"), ("moa_attention", "moa_of_two")),
        tests=("test_same_as.test_equal_experts_are_one_attention",),
    ),
    Row(
        "davit_window_attention", "split, dense windows, merge",
        (("davit_windows_of_two", "davit_split_windows"),),
    ),
    Row(
        "gqa_attention", "any key split folded by merge_lse (softmax_merge); any query split",
        (
            ("gqa_attention", "gqa_queries_split"), ("lean_attention", "lean_two_runs"),
            ("softmax_attention", "softmax_merged"), ("softmax_attention", "softmax_merge_called"),
        ),
        ((("gqa_attention", "gqa_two_parts"), "a sum of masked exponentials is 0 only where all are masked"),),
        ("test_schedules.test_attention_over_parts_of_the_keys_merges",),
    ),
    Row(
        "sliding_window_attention", "block-banded plan; gqa_attention with the mask as data",
        (("sliding_window_attention", "sliding_window_masked"),),
    ),
    Row("varlen_causal_attention", "each document alone", (("packed_documents", "separate_documents"),)),
    Row(
        "ffnified_attention", "one folded 7 by 7 kernel per side",
        (("ffnified_attention", "ffnified_folded"),),
        tests=("test_same_as.test_ffnified_attention_folds_into_one_kernel_per_side",),
    ),
    Row(
        "oat_pointer_logits", "one bilinear form of width C + 1",
        (("oat_pointer_logits", "pointer_bilinear"),),
        tests=("test_same_as.test_pointer_logits_are_one_bilinear_form",),
    ),
    Row(
        "icl_attention with the learned pattern", "icl_reduced; limit debiased_gd, which no proof of equality reaches",
        (("icl_pattern", "icl_reduced"),),
        tests=("test_same_as.test_in_context_weights_of_the_learned_pattern",),
    ),
    Row(
        "moh_attention", "dispatch of routed heads, scatter-add: how many tokens a head gets is in the data",
        tests=("test_same_as.test_routed_heads_by_dispatch",),
    ),
    Row(
        "tcpa_attention, mask 1", "tcpa_attention_renormalised",
        (("tcpa_open", "tcpa_open_renormalised"),),
        tests=("test_same_as.test_prompted_attention_with_a_mask_of_ones",),
    ),
    Row(
        "nala_attention, nala_cos_attention", "feature maps of width 2 D, key sums first",
        (("nala_attention", "nala_keys_first"), ("nala_cos_attention", "nala_cosine_features")),
    ),
    Row(
        "gpsa_attention", "(1 - g) content v + g position v; without the last normalisation; without b_pos",
        (("gpsa_attention", "gpsa_mixture"),),
    ),
    Row(
        "sparsifiner_attention", "gather of the kept keys, whose places are in the data",
        tests=("test_same_as.test_sparsifiner_by_gathering_the_kept_keys",),
    ),
    Row(
        "pool_mixer", "two banded matrices; average pooling",
        (("pool_mixer", "pool_bands"), ("pool_mixer", "pool_by_pooling")),
        tests=("test_same_as.test_pool_mixer_is_average_pooling",),
    ),
    Row(
        "combiner_*", "dense weights P_direct + P_summary P(j | block) for all pairs",
        (
            ("combiner_of_two", "combiner_dense"), ("combiner_both_of_two", "combiner_both_dense"),
            ("combiner_rows_of_two", "combiner_rows_dense"), ("combiner_logsparse", "combiner_powers_dense"),
        ),
        tests=("test_same_as.test_combiner_as_a_dense_map",),
    ),
    Row(
        "circular_conv, orchid_mixer, unified_token_mixing_conv", "FFT forms",
        (("unified_token_mixing_conv", "token_mixing_conv_direct"),),
        ((("circular_conv", "circular_by_transforms"), "the convolution theorem is not used"),),
        (
            "test_schedules.test_orchid_mixer_in_frequency",
            "test_schedules.test_token_mixing_convolution_by_a_padded_transform",
        ),
    ),
    Row("clipped_softmax_attention (0, 1)", "softmax_attention", (("clipped_open", "softmax_attention"),)),
    Row(
        "gated_attention, gate open", "softmax_attention per head",
        (("gated_attention", "gated_heads"),),
        ((("gate_open", "softmax_heads"), "the sigmoid of 100 is 1 to the last digit only"),),
    ),
    Row("urpe_attention, c = 1, b = 0", "softmax_attention", (("urpe_plain", "softmax_heads"),)),
    Row(
        "flow_attention, flow_attention_causal", "sums of keys and queries first; prefix sums",
        (("flow_attention", "flow_sums_first"), ("flow_attention_causal", "flow_causal_sums")),
    ),
    Row(
        "cosformer_attention, cosformer_attention_causal", "sin/cos features",
        (("cosformer_attention", "cosformer_features"), ("cosformer_attention_causal", "cosformer_causal_features")),
    ),
    Row(
        "mixed_attention (1, 0) / (0, 1)", "softmax_attention / cosformer_attention",
        (("mixed_soft", "softmax_attention"), ("mixed_cosine", "cosformer_attention")),
    ),
    Row("dina_1d, window = N, dilation 1", "full attention with relative bias", (("dina_1d", "dina_whole"),)),
    Row(
        "agent_attention", "attn(q, agents, attn(agents, k, v))",
        (("agent_attention", "agent_nested"), ("agent_attention", "agent_features")),
    ),
    Row(
        "landmark_attention_topk, topk = all", "landmark_attention; regular blocks: block gather",
        (("landmark_all", "landmark_five"),),
        tests=("test_same_as.test_landmark_blocks_of_one_length_by_gathering",),
    ),
    Row(
        "sparse_query_attention", "grouped heads without repeated k, v; G = H: multi-head",
        (("sparse_query_attention", "sparse_query_repeated"), ("sparse_query_attention", "sparse_query_multihead")),
    ),
    Row(
        "rescorla_wagner_attention", "unit-triangular solve, then tril(ts cs^T) U",
        (("rescorla_wagner_attention", "rescorla_triangular"),),
    ),
    Row(
        "minimal_stack", "collapsed value maps",
        (("minimal_stack", "minimal_stack_collapsed"),),
        tests=("test_same_as.test_minimal_stack_collapses",),
    ),
    Row(
        "unified_token_mixing_linear", "linear_attention on projected inputs; key sums first",
        (
            ("unified_token_mixing_linear", "token_mixing_linear_called"), ("linear_attention", "linear_keys_first"),
        ),
    ),
    Row(
        "unified_token_mixing_attention, einspace_sdpa, lean_attention, attention_3pass with q / sqrt(D)",
        "softmax_attention (on projected inputs)",
        (
            ("unified_token_mixing_attention", "projected_softmax"), ("einspace_sdpa", "projected_softmax_biased"),
            ("lean_attention", "softmax_attention"), ("three_passes_scaled", "softmax_attention"),
        ),
    ),
    Row(
        "minimal_attention_symmetric", "attention of x T with itself",
        (("minimal_attention_symmetric", "symmetric_keys"),),
    ),
    Row(
        "selective_ssm", "recurrence; decay matrix of cumulative sums",
        (("selective_ssm", "selective_recurrent"),),
        tests=("test_schedules.test_selective_ssm_by_its_recurrence",),
    ),
    Row("contmix", "unfold of valid windows + replicated window grid", (("contmix_of_three", "contmix_unfolded"),)),
    Row(
        "s2_attention, sf_attention", "roll, groups (+ sink columns), roll back",
        (("shifted_groups", "rolled_groups"), ("sinks_and_groups", "sinks_beside_groups")),
        tests=("test_same_as.test_shifted_groups_by_rolling",),
    ),
    Row(
        "mixture_of_tunable_experts", "dispatch: how many tokens an expert gets is in the data",
        tests=("test_same_as.test_experts_by_dispatch",),
    ),
    Row("l2vit_linear_attention", "key sums first", (("l2vit_linear_attention", "l2vit_keys_first"),)),
    Row(
        "attention_3pass = attention_2pass = attention_1pass", "softmax_attention with scale 1",
        (
            ("attention_3pass", "attention_2pass"), ("attention_3pass", "attention_1pass"),
            ("attention_3pass", "two_passes_of_two"), ("attention_3pass", "one_pass_of_two"),
            ("three_passes_scaled", "softmax_attention"),
        ),
    ),
    Row(
        "titans_linear_memory, chunk c", "titans_linear_memory_chunked, chunk c",
        (("memory_of_three", "memory_of_three_chunked"),),
    ),
    Row("titans_deep_memory, one layer", "titans_linear_memory", (("memory_of_one_layer", "titans_linear_memory"),)),
    Row("einspace_mhsa", "multi-head attention", (("einspace_mhsa", "multihead_biased"),)),
    Row("outlook_attention", "unfold, product per anchor, fold", (("outlook_attention", "outlook_by_taps"),)),
    Row(
        "nprf_rpe_attention, nprf_rpe_attention_causal",
        "circulant embedding; without e^(-1/2); bias = 0: positive-feature linear attention",
        (("nprf_unbiased", "nprf_linear"), ("nprf_causal_unbiased", "nprf_causal_linear")),
        tests=("test_schedules.test_kernelised_relative_attention_by_circulant_embedding",),
        guarded=(
            ("nprf_rpe_attention", "nprf_without_lengths"),
            ("nprf_rpe_attention_causal", "nprf_causal_without_lengths"),
        ),
    ),
)  # fmt: skip

#: what else the papers say of single formulas
FURTHER = (
    Row(
        "mg_vcycle", "the dense kernel of its responses to unit impulses",
        tests=("test_schedules.test_a_vcycle_is_its_impulse_responses",),
    ),
    Row(
        "fourier_karat, R = M and w = identity", "karat_full without the projection",
        tests=("test_same_as.test_fourier_karat_with_one_unit_per_key_is_the_full_series",),
    ),
    Row(
        "taylor_attention", "softmax attention up to the third order of the logits: a limit",
        tests=("test_schedules.test_taylor_attention_is_softmax_attention_up_to_the_third_order",),
    ),
    Row("bam_attention", "the gate folded in before the output projection", (("bam_attention", "bam_gated_values"),)),
    Row(
        "gqa_attention, G = H and G = 1", "multi-head attention, multi-query attention",
        (("gqa_attention", "gqa_all_heads"), ("gqa_attention", "gqa_one_head")),
    ),
    Row(
        "merge_lse, softmax_merge", "commutative, associative, with an identity",
        (("merge_lse", "lse_swapped"), ("softmax_merge", "sums_swapped"), ("sums_of_three", "sums_of_three_right")),
        tests=("test_schedules.test_merging_is_associative_and_has_an_identity",),
    ),
    Row(
        "urpe_attention", "c = 1: attention with a relative bias; Toeplitz matrices as a sliding view of the table",
        (("urpe_one", "relative_bias"), ("urpe_attention", "urpe_sliding")),
    ),
    Row(
        "dina_1d", "a softmax over whole rows with a mask",
        tests=("test_same_as.test_dilated_neighbourhoods_as_masks",),
    ),
    Row(
        "bvr_geometry_bias", "the embedding on an integer grid, bilinearly sampled",
        tests=("test_same_as.test_geometry_bias_read_from_a_grid",),
    ),
    Row(
        "strip_self_attention", "its reduction as a strided convolution",
        (("strip_self_attention", "strip_by_convolution"),),
        tests=("test_same_as.test_strip_reduction_is_a_strided_convolution",),
    ),
    Row("pavlovian_attention", "ts (cs^T us)", (("pavlovian_attention", "pavlovian_keys_first"),)),
    Row(
        "orchid_kernel_abs with circular padding", "does not change when x is shifted around",
        tests=("test_schedules.test_orchid_kernel_keeps_its_shape_under_circular_shifts",),
    ),
    Row(
        "softmax_attention", "shards of the queries and keys, merged by maximum, sum and weighted sum",
        (("softmax_attention", "shards"),),
    ),
    Row(
        "prf", "its mean over omega is the exponential kernel",
        tests=("test_references.test_random_features_estimate_the_exponential",),
    ),
)  # fmt: skip

#: not equal, although names or prints suggest it
DIFFERENT = (
    ("taylor_attention", "taylor_attention_appendix"),
    ("kernel_integral_attention", "kernel_integral_attention_channels"),
    ("tcpa_attention", "tcpa_attention_renormalised"),
    ("titans_linear_memory", "memory_of_three"),
    ("l2vit_linear_attention", "l2vit_small_guard"),
    ("combiner_fixed", "combiner_fixed_bidirectional"),
    ("shifted_groups", "causal_groups"),
    ("landmark_attention", "landmark_attention_topk"),
    ("nala_attention", "nala_cos_attention"),
    ("quadrature_attention", "quadrature_weighted"),
    ("causal_linear_attention", "linear_attention"),
)

#: pairs that are proved for all sizes; the others of `proved` at the sizes that are tried
EVERYWHERE = frozenset(
    {
        ("quadrature_positive", "quadrature_weighted"),
        ("latent_attention", "latent_attention_absorbed"),
        ("quadrature_constant", "softmax_attention"),
        ("kernel_integral_attention", "kernel_integral_keys_first"),
        ("lightning_without_decay", "pavlovian_heads"),
        ("taylor_attention", "taylor_features"),
        ("nonapprox_attention", "prefix_sums"),
        ("aaren", "prefix_sums_of_heads"),
        ("fixed_qk_attention", "static_emb_qk_attention"),
        ("static_emb_same", "causal_multihead"),
        ("fourier_karat", "karat_values_first"),
        ("sigmoid_attention", "sigmoid_by_tanh"),
        ("sigmoid_attention", "sigmoid_scaled"),
        ("fod_i2_block", "i2_difference"),
        ("fod_rbf_target", "rbf_without_prefactor"),
        ("bam_identical", "multihead_causal"),
        ("sliding_window_attention", "sliding_window_masked"),
        ("oat_pointer_logits", "pointer_bilinear"),
        ("nala_cos_attention", "nala_cosine_features"),
        ("gpsa_attention", "gpsa_mixture"),
        ("clipped_open", "softmax_attention"),
        ("gated_attention", "gated_heads"),
        ("urpe_plain", "softmax_heads"),
        ("flow_attention", "flow_sums_first"),
        ("cosformer_attention", "cosformer_features"),
        ("cosformer_attention_causal", "cosformer_causal_features"),
        ("agent_attention", "agent_nested"),
        ("agent_attention", "agent_features"),
        ("minimal_stack", "minimal_stack_collapsed"),
        ("unified_token_mixing_linear", "token_mixing_linear_called"),
        ("linear_attention", "linear_keys_first"),
        ("unified_token_mixing_attention", "projected_softmax"),
        ("einspace_sdpa", "projected_softmax_biased"),
        ("lean_attention", "softmax_attention"),
        ("three_passes_scaled", "softmax_attention"),
        ("minimal_attention_symmetric", "symmetric_keys"),
        ("l2vit_linear_attention", "l2vit_keys_first"),
        ("einspace_mhsa", "multihead_biased"),
        ("nprf_unbiased", "nprf_linear"),
        ("nprf_causal_unbiased", "nprf_causal_linear"),
        ("bam_attention", "bam_gated_values"),
        ("merge_lse", "lse_swapped"),
        ("softmax_merge", "sums_swapped"),
        ("urpe_one", "relative_bias"),
        ("pavlovian_attention", "pavlovian_keys_first"),
    }
)
