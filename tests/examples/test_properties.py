"""What the catalogue says of its formulas beside their mathematics, and that it is reported.

Row sums, causality and its absence by design, maps that lack an axis, batches, fixed lengths, sizes that must divide,
terms that cancel, numbers that go wrong. What cannot be proved of a formula is shown by its numbers here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import attngraph
from attngraph.compiler.facts.rows import Total
from attngraph.compiler.forms import account
from attngraph.compiler.pipeline import check_source
from attngraph.compiler.report import Report
from attngraph.compiler.simplify import simplify, with_constants
from attngraph.compiler.sizes import Poly
from attngraph.grammar.source import Source
from benchmarks import examples
from tests.facts.probes import call, example

from .cases import normal
from .modules import build, same

TOTALS = {
    "one": Total.ONE, "one or none": Total.ONE_OR_NONE, "near one": Total.NEAR_ONE, "at most one": Total.AT_MOST_ONE,
    "free": Total.UNKNOWN,
}  # fmt: skip
ROWS = [
    line.partition(":")[::2]
    for line in Path(__file__).with_name("properties.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]


def shown(name: str) -> str:
    """What `explain` prints, its lines joined."""
    return " ".join(attngraph.explain(attngraph.load(examples.find(name), name)).split())


# -- row sums ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "sums"), ROWS, ids=[name for name, _ in ROWS])
def test_what_weights_sum_to(name: str, sums: str) -> None:
    said = set()
    for part in filter(None, sums.split(",")):
        axes = [word for word in part.split() if word[0].isupper()]
        total = TOTALS[" ".join(word for word in part.split() if word[0].islower())]
        said.add((frozenset(axes), total.value))
    properties = example(name).properties
    assert properties is not None
    assert {(frozenset(each.axes), each.total) for each in properties.weights} == said


def _row_sums(name: str, values: str, base: int = 1) -> torch.Tensor:
    """The result of a formula whose values are all one: the sums of its rows."""
    given = call(name, base)
    nodes = example(name).formula.inputs  # type: ignore[union-attr]
    inputs = [torch.ones_like(x) if n.op.name == values else x for n, x in zip(nodes, given.inputs, strict=True)]  # type: ignore[attr-defined]
    out: torch.Tensor = given.module(*inputs)
    return out


@pytest.mark.parametrize("name", ["attention_1pass", "attention_2pass", "landmark_attention"])
def test_rows_that_sum_to_one_by_their_numbers(name: str) -> None:
    """Recurrences and grouped softmaxes, of which nothing is proved. A block of landmarks needs a regular token."""
    if name == "landmark_attention":
        q, k, v = normal((6, 3)), normal((6, 3)), torch.ones(6, 2, dtype=torch.float64)
        ends = torch.tensor([False, False, True, False, True, False])
        same(build(name)(q, k, v, ends), v)
        return
    same(_row_sums(name, "v"), torch.ones_like(_row_sums(name, "v")))


def test_a_projection_onto_the_simplex_sums_to_one() -> None:
    found = build("simplex_projection")(normal((5, 7)))
    same(found.sum(-1), torch.ones(5, dtype=torch.float64))
    assert (found >= 0).all()


def test_columns_of_the_dependency_sum_to_the_message() -> None:
    given = call("reversed_dependency", 1)
    x, gate = given.inputs
    message = gate * torch.sigmoid(torch.nn.functional.gelu(x @ given.stored["w_m1"]) @ given.stored["w_m2"])
    same(given.module(x, gate).sum(-2), message)


# -- causality ---------------------------------------------------------------------------------------------

CAUSAL = (
    "lightning_attention", "mlstm", "tnl_attention", "sigmoid_attention_causal",
    "sigmoid_attention_position_normalised", "taylor_attention", "taylor_attention_appendix",
    "nonapprox_attention", "fixed_qk_attention", "static_emb_qk_attention", "bam_attention",
    "bam_attention_shared_kv", "moa_attention", "sliding_window_attention", "varlen_causal_attention",
    "combiner_fixed", "combiner_axial_rowmajor", "combiner_logsparse", "flow_attention_causal", "aaren",
    "cosformer_attention_causal", "lssa", "lssar", "landmark_attention", "landmark_attention_topk",
    "sparse_query_attention_causal", "pavlovian_attention_causal", "rescorla_wagner_attention",
    "unified_token_mixing_conv", "selective_ssm", "sf_attention", "titans_linear_memory",
    "titans_linear_memory_chunked", "titans_deep_memory", "titans_mag", "nprf_rpe_attention_causal",
)  # fmt: skip
NO_MIXING = (
    "gated_mlp", "activator_gating", "activator_block", "moh_gates", "mote_gates",
    "mixture_of_tunable_experts", "merge_lse", "softmax_merge", "hyperzzw_2e", "relaxed_choice", "prf",
    "bvr_attention",
)  # fmt: skip
#: Formulas that see later tokens by design: a part of what the refusal underlines.
LEAKS = {
    "circular_conv": "take[K](kernel[N -> K], lag)",
    "unified_token_mixing_fourier": "fft[N -> N]",
    "vfpt_prompts": "fft[P -> P]",
    "pool_mixer": "sum[V, U](rows * columns * other)",
    "agent_layer": "adaptive_pool[Y -> Py]",
    "class_semantics_attention": "mean[N](r)",
    "s2_attention": "mask=visible",
    "varlen_block_causal_attention": "mask=visible",
    "titans_mac": "merge[G, S -> N](out)",
    "combiner_fixed_bidirectional": "merge[G, S -> N](o)",
    "unified_token_mixing_mlp": "w1 @ x",
    "ninformer_gating": "sum[N](y * tok_w1)",
    "davit_channel_attention": "sum[N](k * v)",
    "minimal_attention": "a @ keys",
    "sparsifiner_attention": "mask=visible",
    "xcit_attention": "l2_normalize[N]",
}
#: Statistics over all keys: refused also where the keys are the tokens.
SELF = {"kernel_integral_attention": "standardised(v)", "agent_attention": "aggregate", "softmax_attention": "softmax"}


@pytest.mark.parametrize("name", CAUSAL)
def test_causal(name: str) -> None:
    found = account(example(name))
    assert found is not None
    assert found.causal is None
    assert found.mixing
    assert "causal: no position depends on a later one" in shown(name)
    formula = example(name).formula
    assert formula is not None
    assert len({formula.facts.canonical(Poly.symbol(axis)) for axis in formula.sequence}) == 1, "M = N"


@pytest.mark.parametrize("name", NO_MIXING)
def test_no_token_mixing(name: str) -> None:
    assert "no token mixing" in shown(name)
    assert _claimed(examples.find(name).read_text("utf-8"), name, "causal").ok


def _claimed(text: str, name: str, claim: str) -> Report:
    path = examples.find(name)
    return next(r for r in check_source(Source(str(path), text, path.parent), require=(claim,)) if r.name == name)


@pytest.mark.parametrize(("name", "place"), [*LEAKS.items(), *SELF.items()])
def test_a_claim_of_causality_fails_with_the_place(name: str, place: str) -> None:
    text = examples.find(name).read_text("utf-8")
    if name in SELF:
        head, body = text.split(f"attention {name}(", 1)
        text = f"{head}attention {name}({body.replace('    return', '    where N = M' + chr(10) + '    return', 1)}"
    report = _claimed(text, name, "causal")
    found = [each for each in report.diagnostics if each.code == "AG407"]
    assert [each.severity.value for each in found] == ["error"]
    assert "may depend on later positions" in found[0].message
    underlined = report.source.slice(found[0].span)
    assert place in " ".join(underlined.split())


# -- axes that are missing on purpose ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("fixed_qk_attention", "depends on no input but `x`"),
        ("static_emb_qk_attention", "depends on no input but `emb`"),
        ("positional_attention", "depends on no input but `p`"),
        ("gpsa_attention", "depends on no input: it is the same for every entry of a batch"),
        ("urpe_attention", "`take[L](c_table, lag)` depends on no input"),
        ("nprf_rpe_attention", "depends on no input: it is the same for every entry of a batch"),
        ("dina_1d", "bias [H, N, W] of no input"),
        ("dina_2d", "bias [H, Y, V, X, U] of no input"),
        ("combiner_fixed", "does not run along `N`: one row of weights serves every position"),
        ("combiner_axial_rowmajor", "the weights over `R` sum to one"),
        ("davit_channel_attention", "does not run along `N`: one row of weights serves every position"),
        ("flow_attention", "does not run along `N`: one row of weights serves every position"),
    ],
)
def test_axes_that_a_map_lacks(name: str, told: str) -> None:
    assert told in shown(name)


@pytest.mark.parametrize("name", ["aaren", "nonapprox_attention"])
def test_scores_of_the_keys_alone_are_planned_as_a_prefix_softmax(name: str) -> None:
    assert any("prefix softmax" in step.rule for step in example(name).steps)


@pytest.mark.parametrize(("name", "shared"), [("fixed_qk_attention", "x"), ("positional_attention", "p")])
def test_a_map_without_a_batch_is_computed_once(name: str, shared: str) -> None:
    """As many multiplications for the scores of a batch of eight as for one."""
    given = call(name, 1)
    nodes = example(name).formula.inputs  # type: ignore[union-attr]
    module = given.module
    counts = []
    for batch in (1, 8):
        inputs = []
        for node, x in zip(nodes, given.inputs, strict=True):
            own = x[(0,) * (x.dim() - node.type.rank)].detach()
            inputs.append(own if node.op.name == shared else own.expand(batch, *own.shape).contiguous())  # type: ignore[attr-defined]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(*inputs)
        counts.append(counter.get_total_flops())
    assert counts[1] < 8 * counts[0]


@pytest.mark.parametrize("name", ["masked_spatial_attention", "icl_attention", "icl_reduced", "debiased_gd"])
def test_one_query_only(name: str) -> None:
    report = example(name)
    assert report.formula is not None
    assert not {*report.formula.sequence} & {axis for node in report.formula.graph.outputs for axis in node.axes}


# -- batches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, _ in ROWS])
def test_no_formula_mixes_the_entries_of_a_batch(name: str) -> None:
    report = _claimed(examples.find(name).read_text("utf-8"), name, "batch_independent")
    assert report.ok, [each.message for each in report.diagnostics]


# -- lengths and sizes -------------------------------------------------------------------------------------

FIXED = {
    "fourier_karat": "M", "karat_full": "M", "ninformer_gating": "N", "ninformer_block": "N",
    "sparsifiner_attention": "M", "sparsifiner_scores": "M", "urpe_attention": "L", "agent_attention_biased": "M",
    "unified_token_mixing_conv": "L", "unified_token_mixing_mlp": "N", "nprf_rpe_attention": "L",
    "nprf_rpe_attention_causal": "L", "orchid_mixer": "N", "hyper_kernel": "P",
}  # fmt: skip


@pytest.mark.parametrize(("name", "axis"), FIXED.items())
def test_a_fixed_length_is_named_and_held(name: str, axis: str) -> None:
    assert f"carries `{axis}`" in shown(name) or f"and `{axis}`: the module is built for one length" in shown(name)
    given = call(name, 1)
    nodes = example(name).formula.inputs  # type: ignore[union-attr]
    longer = []
    for node, x in zip(nodes, given.inputs, strict=True):
        for dim, each in enumerate(node.axes):
            if each in ("N", "M", "P"):
                x = torch.cat([x, x, x.narrow(dim - node.type.rank, 0, 1)], dim - node.type.rank)
        longer.append(x)
    with pytest.raises(ValueError, match=r"but|does not hold"):
        given.module(*longer)


@pytest.mark.parametrize(
    ("name", "constants", "inputs"),
    [
        ("combiner_fixed", {"seg": 4}, [(6, 2), (6, 2), (6, 2)]),
        ("combiner_axial_rowmajor", {"width": 4}, [(6, 2), (6, 2), (6, 2)]),
        ("attention_2pass", {"m0": 4}, [(3, 2), (6, 2), (6, 2)]),
        ("attention_1pass", {"m0": 4}, [(3, 2), (6, 2), (6, 2)]),
        ("mg_vcycle", {}, [(2, 5, 4)]),
        ("strip_self_attention", {}, [(2, 5, 4)]),
        ("dina_1d", {"window": 5, "dilation": 2}, [(1, 9, 2), (1, 9, 2), (1, 9, 2)]),
        ("bvr_select_keys", {"top": 5}, [(4, 2), (4, 3), (4,)]),
        ("prune_leaf_tokens", {"keep": 5}, [(4, 2), (4, 4)]),
        ("gqa_attention", {}, [(3, 4, 2), (2, 4, 2), (2, 4, 2), (4, 4)]),
        ("sliding_window_attention", {}, [(3, 4, 2), (2, 4, 2), (2, 4, 2)]),
        ("lightning_attention", {}, [(1, 4, 2), (1, 5, 2), (1, 5, 2), (1,)]),
        ("softmax_attention", {}, [(4, 2), (5, 2), (6, 2)]),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    name: str, constants: Mapping[str, int], inputs: list[tuple[int, ...]]
) -> None:
    needed: Mapping[str, Mapping[str, int]] = {
        "mg_vcycle": {"Cf": 2, "Cu": 2},
        "strip_self_attention": {"Ry": 2, "H": 1, "D": 1, "E": 1, "C": 2},
        "dina_1d": {"H": 1},
    }
    given = needed.get(name, {})
    module = attngraph.compile(examples.find(name), name=name, consts=constants, sizes=given)
    tensors = [torch.randn(shape) for shape in inputs]
    if name == "gqa_attention":
        tensors[3] = tensors[3] > 0
    with pytest.raises(ValueError, match=name):
        module(*tensors)


# -- complexity --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "blocked"),
    [
        ("softmax_attention", "softmax"), ("sigmoid_attention", "sigmoid"), ("pointer_attention", "tanh"),
        ("lssa", "softplus"), ("quadrature_attention", "exp(q @ k^T / sqrt(D))"), ("fourier_karat", "cos"),
        ("sparsifiner_attention", "softmax"), ("clipped_softmax_attention", "softmax"), ("attention_3pass", "max"),
    ],
)  # fmt: skip
def test_what_keeps_it_quadratic_is_underlined(name: str, blocked: str) -> None:
    report = _claimed(examples.find(name).read_text("utf-8"), name, "linear")
    [found] = [each for each in report.diagnostics if each.code == "AG401"]
    told = " ".join([found.message, *(label.text for label in found.labels), report.source.slice(found.span)])
    assert blocked in told


@pytest.mark.parametrize(
    ("name", "product"),
    [
        ("sliding_window_attention", ("N", "left")), ("agent_attention", ("A", "N")), ("s2_attention", ("N", "group")),
        ("davit_window_attention", ("W", "X", "Y")), ("combiner_fixed", ("N", "seg")), ("dina_1d", ("N", "window")),
        ("bvr_attention", ("K", "N")), ("titans_mag", ("N", "window")), ("titans_linear_memory_chunked", ("chunk",)),
    ],
)  # fmt: skip
def test_the_polynomial_shows_what_linear_takes_as_constant(name: str, product: tuple[str, ...]) -> None:
    cost = example(name).compiled
    assert cost is not None
    monomials = str(cost.time).replace("- ", "+ ").split(" + ")
    assert any(set(product) <= set(re.findall(r"\w+", each)) for each in monomials), cost.time


def test_a_group_that_grows_with_the_sequence_changes_the_verdict() -> None:
    text = examples.find("s2_attention").read_text("utf-8")
    assert _claimed(text, "s2_attention", "linear").ok
    grown = text.replace("    const group = 2048\n", "", 1).replace("where M = N\n", "where M = N, N = 4 * P\n", 1)
    grown = grown.replace("    offset =", "    group = N // 4\n    offset =", 1)
    report = _claimed(grown, "s2_attention", "linear")
    assert [each.code for each in report.diagnostics if each.severity.value == "error"] == ["AG401"]


# -- algebra -----------------------------------------------------------------------------------------------


def simplified(name: str, consts: Mapping[str, float] | None = None) -> str:
    """The simplified text, without its docstring, for these constants."""
    formula = example(name).formula
    assert formula is not None
    text = simplify(with_constants(formula, consts or {})).text
    return re.sub(r'""".*?"""', "", text, flags=re.DOTALL)


def test_what_cancels() -> None:
    """x in the block of differences; a normalisation of what sums to one; a term without the axis of its softmax."""
    assert not re.search(r"\bx \+ ", simplified("fod_i2_block"))
    assert "x + " in examples.find("fod_i2_block").read_text("utf-8")
    assert "/ sum[M](a)" not in simplified("gpsa_attention")
    assert "b_pos" not in simplified("gpsa_attention")
    assert "`b_pos` cancels" in shown("gpsa_attention")


def test_a_factor_that_a_row_normaliser_ignores() -> None:
    """The height of a Gaussian, whose row is divided by its sum."""
    assert "pi" in examples.find("fod_rbf_target").read_text("utf-8")
    assert not re.search(r"\bpi\b", simplified("fod_rbf_target"))


def test_a_clamp_that_cannot_act() -> None:
    assert "clamp" not in simplified("clipped_softmax_attention", {"gamma": 0.0, "zeta": 1.0})
    assert "clamp" in simplified("clipped_softmax_attention")


def test_a_transform_of_its_inverse() -> None:
    """The imaginary parts of the first and the last bin are lost, so this way round is no identity."""
    head = "attention f(x[C, N], z[C, K] complex) -> [C, {0}]{1}:\n    where K = floor(N / 2) + 1\n    sequence N\n"
    there = attngraph.simplify(head.format("N", "") + "    return irfft[K -> N](rfft[N -> K](x))\n").text
    back = attngraph.simplify(head.format("K", " complex") + "    return rfft[N -> K](irfft[K -> N](z))\n").text
    assert "return x" in there
    assert "rfft[N -> K](irfft[K -> N](z))" in back


# -- numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("nala_attention", {"AG520"}),  # a query of zeros is divided by its length
        ("nala_cos_attention", {"AG520"}),
        ("taylor_attention_appendix", {"AG520"}),  # a sum of first-order terms near 0
        ("lssar", {"AG522"}),  # x^15 leaves the range of half precision
        ("selective_ssm", {"AG522"}),
        ("prf", {"AG522"}),
        ("lightning_attention", set()),
        ("aaren", set()),
        ("flow_attention_causal", set()),
        ("softmax_attention", set()),
    ],
)
def test_numbers_that_may_go_wrong(name: str, codes: set[str]) -> None:
    assert {each.code for each in example(name).diagnostics if each.code.startswith("AG52")} == codes


def test_a_query_of_zeros_gives_nan_as_released() -> None:
    q, k, v = torch.zeros(2, 3), torch.randn(4, 3), torch.randn(4, 2)
    assert build("nala_attention").float()(q, k, v).isnan().all()


@pytest.mark.parametrize("name", ["lightning_attention", "selective_ssm", "mlstm", "aaren", "nonapprox_attention"])
def test_long_sequences_stay_finite_in_single_precision(name: str) -> None:
    """Decays and prefixes are taken relative to each other: e^(c[n]) and e^(-c[m]) would overflow apart."""
    length = 600
    if name == "lightning_attention":
        q, k, v = torch.randn(3, 1, length, 4)
        inputs, parameters = (q, k, v, torch.tensor([2.0])), {}
    elif name == "selective_ssm":
        u, b, c = torch.randn(3, length, 2)
        inputs = (u, torch.ones(length, 2), b, c)
        parameters = {"a": torch.full((2, 2), -3.0), "d": torch.ones(2)}
    elif name == "mlstm":
        i = 100 * torch.randn(1, length).clamp(min=-0.5)
        inputs, parameters = (*torch.randn(3, 1, length, 4).abs(), i, 20 * torch.randn(1, length)), {}
    elif name == "aaren":
        inputs = (50 * torch.randn(1, length, 4), torch.randn(1, length, 2))
        parameters = {"query": torch.full((1, 4), 20.0)}
    else:
        inputs, parameters = (50 * torch.randn(length, 4), 50 * torch.randn(length, 4), torch.randn(length, 2)), {}
    sizes = {"aaren": {"H": 1, "D": 4}, "selective_ssm": {"F": 2, "S": 2}}.get(name, {})
    found = build(name, sizes=sizes, **parameters)(*(x.double() for x in inputs))
    single = build(name, sizes=sizes, **parameters).float()(*(x.float() for x in inputs))
    assert single.isfinite().all()
    torch.testing.assert_close(single.double(), found, rtol=1e-3, atol=1e-3 * found.abs().max().item())


@pytest.mark.parametrize("name", ["gqa_attention", "pointer_attention"])
def test_an_empty_row_of_a_mask_gives_zeros(name: str) -> None:
    given = call(name, 1)
    inputs = [torch.zeros_like(x) if x.dtype == torch.bool else x for x in given.inputs]
    found = given.module(*inputs)
    assert not found.any()
    gradients = torch.autograd.grad(found.sum(), [x for x in inputs if x.requires_grad], allow_unused=True)
    assert all(g is None or not g.any() for g in gradients)


@pytest.mark.parametrize("name", ["merge_lse", "softmax_merge"])
def test_a_merge_of_nothing_with_nothing_is_nothing(name: str) -> None:
    """No -inf - -inf: empty parts have the weight 0."""
    empty, o, level = torch.full((3,), -torch.inf).double(), normal((3, 2)), torch.zeros(3).double()
    if name == "merge_lse":
        module = build(name)
        assert not module(o, empty, o, empty).any()
        same(module(o, level, normal((3, 2)), empty), o)
        same(module(normal((3, 2)), empty, o, level), o)
    else:
        same(build(name)(level, level + 1, o, empty, level, torch.zeros_like(o)), o)


def test_the_gradient_of_a_length_at_zero_is_finite() -> None:
    module = attngraph.compile("attention f(x[N, D]) -> [N, D]:\n    return l2_normalize[D](x)\n")
    x = torch.zeros(2, 3, requires_grad=True)
    module(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
