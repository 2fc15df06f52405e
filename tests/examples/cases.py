"""Every example formula with its reference, and how to draw what it is called with.

A case needs a size for every axis. It takes them from a base set, by the axis's own name, else the set's default;
`ties` are the equations of the formula's `where` lines, written again here from the papers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .references import attnzero, chosen, linear, masked, mixing, recurrent, softmax, vision

Sizes = Mapping[str, int]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Base:
    """Sizes by axis name, the size of every other axis, and the batch dimensions in front of each input."""

    sizes: Sizes
    other: int
    batch: Shape = ()


ONE = Base({}, 1)
PRIMES = Base({"N": 7, "M": 5, "D": 3, "E": 2, "C": 5, "Y": 5, "X": 7, "H": 3, "G": 2, "R": 3, "L": 11}, 3, (2,))
EQUAL = Base({"H": 2, "G": 2, "R": 2}, 4, (2, 3))
LONG = Base({"N": 17, "M": 13, "D": 4, "E": 5, "Y": 6, "X": 4, "C": 6, "H": 4, "G": 2, "R": 2}, 2)
ALL = (ONE, PRIMES, EQUAL, LONG)


def normal(shape: Shape) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def complex_normal(shape: Shape) -> Tensor:
    return torch.randn(shape, dtype=torch.complex128)


def separators(shape: Shape) -> Tensor:
    """Some tokens, never the first."""
    chosen = torch.rand(shape) < 0.3
    chosen[..., 0] = False
    return chosen


def switches(shape: Shape) -> Tensor:
    """One expert forced, one off."""
    values = torch.zeros(shape, dtype=torch.float64)
    values[..., 1] = 1.0
    values[..., 3] = -1.0
    return values


def positive(shape: Shape) -> Tensor:
    return torch.rand(shape, dtype=torch.float64) + 0.1


def negative(shape: Shape) -> Tensor:
    return -positive(shape)


def fractions(shape: Shape) -> Tensor:
    return torch.rand(shape, dtype=torch.float64)


def zeros_and_ones(shape: Shape) -> Tensor:
    return (torch.rand(shape) < 0.6).to(torch.float64)


def documents(shape: Shape) -> Tensor:
    """Document numbers of packed tokens: non-decreasing, a new document at every third token or so."""
    return (torch.rand(shape) < 0.3).to(torch.int64).cumsum(-1)


@dataclass(frozen=True)
class Example:
    """A formula's reference and what its cases need.

    ties: axis -> its size from the other sizes, or the axis that it equals; applied in order.
    consts: constants to build with, one mapping for each base in turn; the first keeps every default.
    draws: how to draw an input, parameter or buffer for which a normal distribution would not do.
    """

    reference: Callable[..., Tensor]
    ties: Mapping[str, str | Callable[[Sizes], int]] = field(default_factory=dict)
    consts: tuple[Mapping[str, int | float], ...] = ({},)
    draws: Mapping[str, Callable[[Shape], Tensor]] = field(default_factory=dict)
    bases: tuple[Base, ...] = ALL
    batched: bool = True

    def sizes(self, base: Base, axes: set[str]) -> dict[str, int]:
        """The size of every axis."""
        found = defaultdict(lambda: base.other, base.sizes)
        for axis, tie in self.ties.items():
            found[axis] = found[tie] if isinstance(tie, str) else tie(found)
        return {axis: found[axis] for axis in axes}


def small(shape: Shape) -> Tensor:
    return torch.randn(shape, dtype=torch.float64) / 2


MEMORY = {"k": small, "theta": lambda shape: fractions(shape) / 5, "eta": fractions, "alpha": fractions}
SELF = {"M": "N"}
HEADS = {"C": lambda s: s["H"] * s["E"]}
GROUPED = {"H": lambda s: s["G"] * s["R"]}


def multiple(axis: str, of: int) -> Mapping[str, Callable[[Sizes], int]]:
    """The axis at a multiple of a number."""
    return {axis: lambda s: s[axis] * of}


def blocks(of: int) -> Mapping[str, str | Callable[[Sizes], int]]:
    return {**multiple("N", of), **SELF}


def sides(size: int, *axes: str) -> Mapping[str, Callable[[Sizes], int]]:
    """Axes of one fixed size, as the sides of a kernel."""
    return {axis: lambda s: size for axis in axes}


MULTIGRID = {
    "Cf2": "Cf", "Cu2": "Cu", **multiple("Y", 2), **multiple("X", 2), **sides(3, "Ky", "Kx"), **sides(4, "Uy", "Ux"),
}  # fmt: skip
MIXED_HEADS = {
    **SELF, "Hs": lambda s: 2, "Hr": lambda s: 3, "H": lambda s: 5, "S": lambda s: 2,
}  # fmt: skip
EVEN = tuple(Base({**b.sizes, "D": 2 * b.sizes.get("D", b.other)}, b.other, b.batch) for b in ALL)
#: Statistics over all elements need more than one.
STATISTICS = (Base({"N": 2, "D": 2}, 1), Base({"B": 4, "N": 7, "D": 3}, 2), Base({}, 4), Base({"N": 9, "D": 2}, 3))
PLAIN = (ONE, *STATISTICS)
SEVERAL = (Base({"N": 2}, 1), PRIMES, EQUAL, LONG)

EXAMPLES: dict[str, Example] = {
    # softmax attention and what replaces its parts
    "softmax_attention": Example(softmax.softmax_attention),
    "causal_softmax_attention": Example(softmax.causal_softmax_attention, SELF),
    "lean_attention": Example(softmax.lean_attention),
    "softmax_merge": Example(softmax.softmax_merge),
    "merge_lse": Example(softmax.merge_lse),
    "attention_3pass": Example(softmax.attention_3pass),
    "attention_2pass": Example(
        softmax.attention_2pass, multiple("M", 2), ({"m0": 2}, {"m0": 1}), bases=(ONE, PRIMES, EQUAL)
    ),
    "quadrature_attention": Example(softmax.quadrature_attention, draws={"w": positive}),
    "scaled_cosine_attention": Example(softmax.scaled_cosine_attention, draws={"temperature": normal}),
    "sigmoid_attention": Example(softmax.sigmoid_attention),
    "sigmoid_attention_causal": Example(softmax.sigmoid_attention_causal, SELF),
    "sigmoid_attention_position_normalised": Example(
        softmax.sigmoid_attention_position_normalised, SELF, ({}, {"alpha": 0.5})
    ),
    "alibi_attention": Example(softmax.alibi_attention, SELF),
    "rotary": Example(softmax.rotary, consts=({}, {"base": 100}), bases=EVEN),
    "rotary_interleaved": Example(softmax.rotary_interleaved, consts=({}, {"base": 100}), bases=EVEN),
    "masked_attention": Example(softmax.masked_attention),
    "rope_attention": Example(softmax.rope_attention, SELF, ({}, {"base": 100}), bases=EVEN),
    "rope_attention_interleaved": Example(softmax.rope_attention_interleaved, SELF, ({}, {"base": 100}), bases=EVEN),
    "talking_heads": Example(softmax.talking_heads),
    "clipped_softmax_attention": Example(
        softmax.clipped_softmax_attention, consts=({}, {"gamma": -0.2, "zeta": 1.1}, {"gamma": 0, "zeta": 1})
    ),
    "clipped_softmax_length_free": Example(softmax.clipped_softmax_length_free, consts=({}, {"alpha": 2})),
    "gated_attention": Example(softmax.gated_attention),
    "gqa_attention": Example(softmax.gqa_attention, GROUPED),
    "softcapped_attention": Example(softmax.softcapped_attention, {**SELF, **GROUPED}, ({}, {"cap": 0.5})),
    "differential_attention": Example(softmax.differential_attention, SELF, ({}, {"start": 0.2})),
    "forgetting_attention": Example(softmax.forgetting_attention, SELF),
    "sink_attention": Example(softmax.sink_attention, {**SELF, **GROUPED}),
    "sink_window_attention": Example(softmax.sink_window_attention, {**SELF, **GROUPED}, ({}, {"W": 3})),
    "softmax_off_by_one": Example(softmax.softmax_off_by_one),
    "latent_attention": Example(softmax.latent_attention, SELF),
    "latent_attention_absorbed": Example(softmax.latent_attention, SELF),
    "stick_breaking_attention": Example(softmax.stick_breaking_attention, SELF),
    "t5_attention": Example(softmax.t5_attention, {"L": lambda s: 32}),
    "gated_delta_rule": Example(recurrent.gated_delta_rule),
    "kimi_delta_attention": Example(recurrent.kimi_delta_attention),
    "rwkv7": Example(recurrent.rwkv7),
    "longhorn": Example(recurrent.longhorn),
    "state_space_duality": Example(recurrent.state_space_duality, GROUPED),
    "additive_attention": Example(softmax.additive_attention),
    "attention_1pass": Example(
        softmax.attention_1pass, multiple("M", 2), ({"m0": 2}, {"m0": 1}), bases=(ONE, PRIMES, EQUAL)
    ),
    "pointer_attention": Example(softmax.pointer_attention),
    "pointer_decode": Example(
        recurrent.pointer_decode, {"C4": lambda s: 4 * s["C"]}, ({}, {"steps": 3}, {"steps": 1}, {"steps": 4})
    ),
    "feedback_loop_fusion": Example(
        recurrent.feedback_loop_fusion, {**SELF, "C2": "C", "P": lambda s: 2 * s["C"]}, ({}, {"steps": 1}, {"steps": 5})
    ),
    "rescorla_wagner_attention": Example(
        recurrent.rescorla_wagner_attention, draws={"cs": small, "beta": fractions}
    ),
    "titans_linear_memory": Example(
        recurrent.titans_linear_memory, consts=({}, {"chunk": 3}, {"grad_scale": 0.5}, {"chunk": 4}), draws=MEMORY
    ),
    "titans_linear_memory_chunked": Example(
        recurrent.titans_linear_memory_chunked, consts=({}, {"chunk": 3}, {"chunk": 1}, {"chunk": 4}), draws=MEMORY
    ),
    "titans_deep_memory": Example(
        recurrent.titans_deep_memory, consts=({}, {"chunk": 3}, {}, {"chunk": 4}), draws=MEMORY
    ),
    "titans_mac": Example(
        recurrent.titans_mac, {**multiple("N", 2), "C2": "C"}, ({"segment": 2}, {"segment": 1, "rate": 0.1}),
        {"wo": lambda shape: small(shape) / 8, "w0": small}, (ONE, PRIMES, EQUAL),
    ),
    "positional_attention": Example(softmax.positional_attention, {"M": "N", "O": "P"}),
    "oat_pointer_logits": Example(softmax.oat_pointer_logits, {"L": lambda s: s["M"] + 1}, ({}, {"dk": 3})),
    "fourier_karat": Example(softmax.fourier_karat),
    "fod_correlation": Example(softmax.fod_correlation, {**SELF, "C2": lambda s: s["H"] * s["E"]}),
    "fod_i2_block": Example(
        softmax.fod_i2_block, {**SELF, **HEADS}, bases=(Base({"E": 2}, 1), PRIMES, EQUAL, LONG)
    ),
    "fod_rbf_target": Example(softmax.fod_rbf_target, {**SELF, "S": lambda s: 2}, ({}, {"width": 3})),
    "row_kl": Example(softmax.row_kl, draws={"p": fractions, "q": fractions}),
    "row_entropy": Example(softmax.row_entropy, draws={"p": fractions}),
    "fixed_qk_attention": Example(softmax.fixed_qk_attention, SELF),
    "static_emb_qk_attention": Example(softmax.static_emb_qk_attention, SELF),
    "bam_attention": Example(softmax.bam_attention, SELF),
    "bam_attention_shared_kv": Example(softmax.bam_attention_shared_kv, SELF),
    "icl_attention": Example(softmax.icl_attention, {"I2": "I", "O": "I"}, ({}, {"scale": 0.3})),
    "icl_reduced": Example(softmax.icl_reduced),
    "debiased_gd": Example(softmax.debiased_gd, consts=({}, {"eta": 0.5})),
    "tcpa_attention": Example(
        softmax.tcpa_attention, {"M": lambda s: s["N"] + s["Pc"] + s["Pi"]}, draws={"mask": zeros_and_ones},
        bases=(Base({"N": 2}, 1), PRIMES, EQUAL, LONG),
    ),
    "tcpa_attention_renormalised": Example(
        softmax.tcpa_attention_renormalised, {"M": lambda s: s["N"] + s["Pc"] + s["Pi"]},
        draws={"mask": zeros_and_ones}, bases=(Base({"N": 2}, 1), PRIMES, EQUAL, LONG),
    ),
    "gpsa_attention": Example(softmax.gpsa_attention, {**SELF, "R": lambda s: 3}, ({}, {"width": 3})),
    "bvr_attention": Example(softmax.bvr_attention, {"E": "D", "C": lambda s: s["H"] * s["D"]}),
    "bvr_geometry_bias": Example(
        softmax.bvr_geometry_bias, {"R": lambda s: 2, "P": lambda s: 4 * s["K"]}, ({}, {"temperature": 20})
    ),
    "sparse_query_attention": Example(softmax.sparse_query_attention, {**SELF, **GROUPED}),
    "sparse_query_attention_causal": Example(softmax.sparse_query_attention_causal, {**SELF, **GROUPED}),
    "minimal_attention": Example(softmax.minimal_attention, {"C2": "C"}),
    "minimal_attention_convex": Example(softmax.minimal_attention_convex, {"C2": "C"}),
    "minimal_attention_symmetric": Example(softmax.minimal_attention_symmetric, {"C2": "C"}),
    "minimal_multihead_symmetric": Example(softmax.minimal_multihead_symmetric, HEADS),
    "minimal_stack": Example(softmax.minimal_stack, {"C2": "C"}, ({}, {"scale": 0.5})),
    "unified_token_mixing_attention": Example(softmax.unified_token_mixing_attention),
    "einspace_sdpa": Example(softmax.einspace_sdpa),
    "einspace_mhsa": Example(softmax.einspace_mhsa),
    "reversed_attention": Example(softmax.reversed_attention, {"J": "N"}, ({}, {"tau": 1.5})),
    "reversed_dependency": Example(softmax.reversed_dependency, {"J": "N"}, ({}, {"tau": 1.5})),
    "urpe_attention": Example(softmax.urpe_attention, {"L": lambda s: s["N"] + s["M"] - 1}),
    "lssa": Example(softmax.lssa, SELF, ({}, {"eps": 0.1})),
    "lssar": Example(softmax.lssar, SELF, ({}, {"p": 3, "warm_rows": 1}, {"p": 2, "eps": 0.1})),
    # linear attention
    "linear_attention": Example(linear.linear_attention),
    "causal_linear_attention": Example(linear.causal_linear_attention, SELF),
    "efficient_attention": Example(linear.efficient_attention),
    "relu_linear_attention": Example(linear.relu_linear_attention, consts=({}, {"eps": 0.5})),
    "l2vit_linear_attention": Example(linear.l2vit_linear_attention, consts=({}, {"den_min": 1}, {"den_min": 2.5})),
    "cosine_attention": Example(linear.cosine_attention),
    "polynomial_attention": Example(linear.polynomial_attention),
    "taylor_attention": Example(linear.taylor_attention, SELF),
    "taylor_attention_appendix": Example(linear.taylor_attention_appendix, SELF),
    "kernel_integral_attention": Example(linear.kernel_integral_attention, draws={"w": positive}),
    "kernel_integral_attention_channels": Example(linear.kernel_integral_attention_channels, draws={"w": positive}),
    "agent_attention": Example(linear.agent_attention),
    "agent_attention_biased": Example(linear.agent_attention_biased),
    "performer_attention": Example(linear.performer_attention),
    "prf": Example(linear.prf),
    "nprf_rpe_attention": Example(linear.nprf_rpe_attention, {**SELF, "L": lambda s: 2 * s["N"] - 1}),
    "nprf_rpe_attention_causal": Example(linear.nprf_rpe_attention_causal, {**SELF, "L": lambda s: 2 * s["N"] - 1}),
    "linformer_attention": Example(linear.linformer_attention),
    "hydra_attention": Example(linear.hydra_attention),
    "xcit_attention": Example(linear.xcit_attention, {"E": "D"}),
    "external_attention": Example(linear.external_attention),
    "induced_set_attention": Example(linear.induced_set_attention),
    "davit_channel_attention": Example(linear.davit_channel_attention, {"E": "D"}),
    "flow_attention": Example(linear.flow_attention, consts=({}, {"eps": 0.01})),
    "flow_attention_causal": Example(linear.flow_attention_causal, SELF, ({}, {"eps": 0.01})),
    "cosformer_attention": Example(linear.cosformer_attention, consts=({}, {"eps": 0.5})),
    "cosformer_attention_causal": Example(linear.cosformer_attention_causal, SELF, ({}, {"eps": 0.5})),
    "mixed_attention": Example(linear.mixed_attention, {"P": lambda s: 2}),
    "pavlovian_attention": Example(linear.pavlovian_attention),
    "pavlovian_attention_causal": Example(linear.pavlovian_attention_causal, SELF),
    "retention": Example(linear.retention, SELF),
    "lightning_attention": Example(linear.lightning_attention, SELF, draws={"slope": positive}),
    "mlstm": Example(linear.mlstm, SELF),
    "tnl_attention": Example(
        linear.tnl_attention, {"E": "D", "C": lambda s: s["H"] * s["D"], "C2": "C"}, draws={"slope": positive},
        bases=(Base({"D": 2}, 1), PRIMES, EQUAL, LONG),
    ),
    "nala_attention": Example(linear.nala_attention, {"F": lambda s: 2 * s["D"]}, ({}, {"lam": 2, "eps": 0.1})),
    "nala_attention_rotary": Example(
        linear.nala_attention_rotary, {**SELF, "F": lambda s: 2 * s["D"]}, ({}, {"lam": 2, "eps": 0.1}), bases=EVEN
    ),
    "nala_cos_attention": Example(
        linear.nala_cos_attention, consts=({}, {"lam": 2, "angle": 0.3, "eps": 0.1}),
        bases=(Base({"D": 2}, 1), PRIMES, EQUAL, LONG),
    ),
    "selective_ssm": Example(linear.selective_ssm, draws={"delta": positive, "a": negative}),
    "unified_token_mixing_linear": Example(linear.unified_token_mixing_linear),
    # masks, windows, blocks
    "varlen_causal_attention": Example(masked.varlen_causal_attention, {**SELF, **GROUPED}, draws={"doc": documents}),
    "varlen_block_causal_attention": Example(
        masked.varlen_block_causal_attention, {**SELF, **GROUPED}, ({}, {"block": 2}, {"block": 3}),
        draws={"doc": documents},
    ),
    "sliding_window_attention": Example(
        masked.sliding_window_attention, {**SELF, **GROUPED}, ({}, {"left": 3}, {"left": 0}, {"left": 5})
    ),
    "swin_window": Example(masked.swin_window, SELF, ({}, {"W": 3}, {"W": 2}, {"W": 4})),
    "davit_window_attention": Example(
        masked.davit_window_attention, consts=({}, {"W": 3}, {"W": 2}),
        bases=(Base({"Y": 7, "X": 14}, 1), Base({**PRIMES.sizes, "Y": 6, "X": 9}, 3, (2,)), EQUAL),
    ),
    "nonapprox_attention": Example(masked.nonapprox_attention, {"N": "M"}),
    "aaren": Example(masked.aaren, {"N": "M"}),
    "dina_1d": Example(
        masked.dina_1d, {**SELF, "L": lambda s: 5}, ({"window": 3}, {"window": 3, "dilation": 2}),
        bases=(Base({"N": 5}, 1), PRIMES, LONG),
    ),
    "dina_2d": Example(
        masked.dina_2d, {"Ly": lambda s: 5, "Lx": lambda s: 5}, ({"window": 3},),
        bases=(Base({"Y": 3, "X": 5, "H": 1}, 1), PRIMES, LONG),
    ),
    "s2_attention": Example(masked.s2_attention, blocks(4), ({"group": 4}, {"group": 2}, {"group": 1})),
    "sf_attention": Example(
        masked.sf_attention, {**blocks(4), "H": lambda s: 4}, ({"group": 4}, {"group": 4, "sinks": 1})
    ),
    "titans_mag": Example(masked.titans_mag, consts=({}, {"window": 2}, {"window": 3})),
    "combiner_fixed": Example(masked.combiner_fixed, blocks(2), ({"seg": 2}, {"seg": 1})),
    "combiner_fixed_bidirectional": Example(masked.combiner_fixed_bidirectional, blocks(2), ({"seg": 2}, {"seg": 1})),
    "combiner_axial_rowmajor": Example(masked.combiner_axial_rowmajor, blocks(3), ({"width": 3}, {"width": 1})),
    # other mixers
    "masked_spatial_attention": Example(mixing.masked_spatial_attention),
    "gated_mlp": Example(mixing.gated_mlp),
    "feed_forward": Example(mixing.feed_forward),
    "ninformer_gating": Example(mixing.ninformer_gating, {"C2": "C"}, bases=(Base({"C": 2}, 1), PRIMES, EQUAL, LONG)),
    "ninformer_block": Example(mixing.ninformer_block, {"C2": "C"}, bases=(Base({"C": 2}, 1), PRIMES, EQUAL, LONG)),
    "activator_gating": Example(mixing.activator_gating, bases=(Base({"F": 2}, 1), PRIMES, EQUAL, LONG)),
    "activator_block": Example(mixing.activator_block, bases=(Base({"F": 2, "C": 2}, 1), PRIMES, EQUAL, LONG)),
    "hyperzzw_global": Example(mixing.hyperzzw_global, {"L": "I", "J": "I"}),
    "hyper_kernel": Example(mixing.hyper_kernel, {"A": lambda s: 2, "F2": "F"}),
    "hyperzzw_2e": Example(mixing.hyperzzw_2e),
    "pool_mixer": Example(mixing.pool_mixer, consts=({}, {"W": 5}, {"W": 1}, {"W": 3})),
    "circular_conv": Example(mixing.circular_conv),
    "squeeze_excite": Example(mixing.squeeze_excite),
    "relaxed_choice": Example(mixing.relaxed_choice, consts=({}, {"tau": 0.5})),
    "strip_self_attention": Example(
        mixing.strip_self_attention,
        {"Rx": "Ry", "Y": lambda s: s["Y"] * s["Ry"], "X": lambda s: s["X"] * s["Ry"]},
        bases=(ONE, Base({"Y": 2, "X": 1, "Ry": 3, "H": 2}, 3, (2,)), EQUAL),
    ),
    "unified_token_mixing_conv": Example(mixing.unified_token_mixing_conv, {"L": "N"}),
    "unified_token_mixing_mlp": Example(mixing.unified_token_mixing_mlp),
    "class_semantics_attention": Example(mixing.class_semantics_attention, {"K": lambda s: 3}),
    # convolutions, pooling and windows on images
    "mg_vcycle": Example(vision.mg_vcycle, MULTIGRID),
    "mgno_layer": Example(vision.mgno_layer, MULTIGRID),
    "focal_modulation": Example(
        vision.focal_modulation,
        {"C2": "C", "P": lambda s: 2 * s["C"] + 3, **sides(3, "K0y", "K0x"), **sides(5, "K1y", "K1x")},
    ),
    "gated_cnn": Example(
        vision.gated_cnn, {"F": lambda s: s["F"] + s["Cc"], "P": lambda s: 2 * s["F"], **sides(7, "Ky", "Kx")},
        ({}, {"eps": 0.1}), bases=(Base({"C": 2}, 1), PRIMES, EQUAL, LONG),
    ),
    "gated_convolution": Example(
        vision.gated_convolution,
        {"F": lambda s: s["F"] + s["Cc"], "P": lambda s: 2 * s["F"], **sides(7, "Ky"), **sides(5, "Kx")},
    ),
    "partial_convolution": Example(vision.partial_convolution, {"F": lambda s: s["F"] + s["Cc"]}),
    "depthwise_convolution": Example(vision.depthwise_convolution),
    "hyperzzw_local": Example(vision.hyperzzw_local, {"Kx": "Ky"}),
    "local_concentration": Example(vision.local_concentration, sides(7, "Ky", "Kx")),
    "fbnet_ir_block": Example(vision.fbnet_ir_block, {"Kx": "Ky"}),
    "ffnified_attention": Example(
        vision.ffnified_attention, {"C2": "C", **sides(7, "K7y", "K7x"), **sides(3, "K3y", "K3x")},
        draws={f"bn_{name}_var": positive for name in ("q", "k7", "k3", "v7", "v3")},
    ),
    "agent_layer": Example(
        vision.agent_layer,
        {"N": lambda s: 6 * s["Y"], **SELF, "C": lambda s: 2 * s["D"], **sides(3, "Ky", "Kx")},
        ({"heads": 2, "width": 6, "pool_size": 2}, {"heads": 1, "width": 3, "pool_size": 4}),
    ),
    "contmix": Example(
        vision.contmix,
        {"C": lambda s: 2 * s["G"] * s["D"], "Q": lambda s: s["G"] * s["D"], "L": lambda s: 34, "S": lambda s: 4,
         **sides(5, "L1y", "L1x"), **sides(9, "L2y", "L2x")},
        ({"k_small": 3, "k_large": 5, "pool_size": 2, "scale": 0.3},),
        bases=(Base({"Y": 5, "X": 6, "G": 2, "D": 2}, 3), PRIMES, Base({"Y": 6, "X": 6, "G": 1}, 4, (2, 1))),
    ),
    "outlook_attention": Example(
        vision.outlook_attention, {"C": lambda s: s["H"] * s["D"], "P": lambda s: 9, "Q": lambda s: 9},
        ({}, {"stride": 2}, {"stride": 3}),
    ),
    # choice: experts, heads, keys, tokens
    "moa_attention": Example(chosen.moa_attention, {**SELF, "J": lambda s: 3}, ({}, {"top_k": 1}, {"top_k": 3})),
    "moh_attention": Example(chosen.moh_attention, MIXED_HEADS, ({}, {"top_k": 1})),
    "moh_gates": Example(chosen.moh_gates, MIXED_HEADS, ({}, {"top_k": 1})),
    "mote_gates": Example(
        chosen.mote_gates, {"J": lambda s: 5}, ({"topk": 5}, {"topk": 2}, {"topk": 1, "route_scale": 2.5}),
        draws={"tune": switches},
    ),
    "mixture_of_tunable_experts": Example(
        chosen.mixture_of_tunable_experts, {"J": lambda s: 5}, ({"topk": 5}, {"topk": 2, "route_scale": 0.5}),
        draws={"tune": switches},
    ),
    "simplex_projection": Example(chosen.simplex_projection),
    "karat_full": Example(chosen.karat_full, {"P": "M"}),
    "prune_leaf_tokens": Example(chosen.prune_leaf_tokens, {"J": "N"}, ({"keep": 1}, {"keep": 3}, {"keep": 4})),
    "bvr_select_keys": Example(
        chosen.bvr_select_keys, consts=({"top": 1}, {"top": 3}, {"top": 2}), bases=(ONE, PRIMES, EQUAL),
    ),
    "sparsifiner_scores": Example(
        chosen.sparsifiner_scores, SELF, ({"coef_topk": 1}, {"coef_topk": 2, "basis_tau": 0.5}), bases=SEVERAL
    ),
    "sparsifiner_attention": Example(
        chosen.sparsifiner_attention, SELF, ({"keep": 1, "coef_topk": 1}, {"keep": 2, "coef_topk": 2}), bases=SEVERAL
    ),
    "tcpa_mask": Example(
        chosen.tcpa_mask, consts=({"k_cls": 1, "k_img": 1}, {}, {"len_img": 2, "k_img": 2}), bases=SEVERAL
    ),
    "landmark_attention": Example(chosen.landmark_attention, SELF, draws={"is_landmark": separators}),
    "landmark_attention_topk": Example(
        chosen.landmark_attention_topk, SELF, ({"topk": 1}, {}, {"topk": 3}), {"is_landmark": separators}
    ),
    "combiner_logsparse": Example(chosen.combiner_logsparse, SELF),
    # Fourier transforms
    "orchid_kernel_abs": Example(chosen.orchid_kernel_abs, {"W": lambda s: 3}, bases=SEVERAL),
    "orchid_mixer": Example(
        chosen.orchid_mixer, {"K": lambda s: s["N"] // 2 + 1}, draws={"freq_kernel": complex_normal}
    ),
    "orchid_kernel_corr": Example(chosen.orchid_kernel_corr, {"W": lambda s: 3}),
    "spectral_conv": Example(
        chosen.spectral_conv, {"K": lambda s: s["N"] // 2 + 1}, draws={"weight": complex_normal}
    ),
    "unified_token_mixing_fourier": Example(chosen.unified_token_mixing_fourier),
    "vfpt_prompts": Example(chosen.vfpt_prompts),
    # AttnZero: every axis is named, so there are no batch dimensions in front
    "attnzero_105": Example(attnzero.attnzero_105, bases=STATISTICS, batched=False),
    "attnzero_140": Example(attnzero.attnzero_140, bases=PLAIN, batched=False),
    "attnzero_174": Example(attnzero.attnzero_174, bases=PLAIN, batched=False),
    "attnzero_20": Example(attnzero.attnzero_20, bases=PLAIN, batched=False),
    "attnzero_228": Example(attnzero.attnzero_228, bases=PLAIN, batched=False),
    "attnzero_240": Example(attnzero.attnzero_240, bases=PLAIN, batched=False),
    "attnzero_25": Example(attnzero.attnzero_25, bases=PLAIN, batched=False),
    "attnzero_272": Example(attnzero.attnzero_272, bases=PLAIN, batched=False),
    "attnzero_34": Example(attnzero.attnzero_34, bases=STATISTICS, batched=False),
    "attnzero_40": Example(attnzero.attnzero_40, bases=PLAIN, batched=False),
    "attnzero_76": Example(attnzero.attnzero_76, bases=PLAIN, batched=False),
    "attnzero_80": Example(attnzero.attnzero_80, bases=PLAIN, batched=False),
    "attnzero_bench_pvt_c100": Example(attnzero.attnzero_bench_pvt_c100, bases=PLAIN, batched=False),
    "attnzero_bench_pvt_v2_c100": Example(attnzero.attnzero_bench_pvt_v2_c100, bases=PLAIN, batched=False),
}  # fmt: skip
