"""Other ways to compute what a formula computes, as its paper states them: folded parameters, limits, gathers.

Modules are compared with plain PyTorch. What both sides can say in the language is compared by the tests of
equivalence; here stands what needs loops, gathers, convolutions or limits. Schedules have a file of their own.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from .cases import normal, positive
from .modules import build, drawn, same
from .references.common import attend, causal, heads

# -- parameters folded into parameters ---------------------------------------------------------------------


def test_ffnified_attention_folds_into_one_kernel_per_side() -> None:
    sizes = {"C": 3, "C2": 3, "K7y": 7, "K7x": 7, "K3y": 3, "K3x": 3}
    module, p = drawn("ffnified_attention", **sizes)
    held = dict(module.named_buffers())
    for name, value in held.items():
        value.copy_(positive((3,)) if name.endswith("var") else normal((3,)))

    def folded(key: str) -> tuple[Tensor, Tensor]:
        gain = p[f"bn_{key}_g"] / (held[f"bn_{key}_var"] + 1e-5).sqrt()
        return gain, p[f"bn_{key}_b"] - gain * held[f"bn_{key}_mean"]

    def side(wide: str, narrow: str, x: Tensor) -> Tensor:
        (g7, b7), (g3, b3) = folded(wide), folded(narrow)
        kernel = g7[:, None, None] * p[wide] + F.pad(g3[:, None, None] * p[narrow], (2, 2, 2, 2))
        return F.conv2d(x, kernel[:, None], b7 + b3, padding=3, groups=3)

    x = normal((2, 3, 8, 9))
    gain, shift = folded("q")
    q = torch.einsum("cd,bdyx->bcyx", gain[:, None] * p["wq"], x) + shift[:, None, None]
    same(module(x), side("v7", "v3", F.gelu(side("k7", "k3", q))))


def test_pointer_logits_are_one_bilinear_form() -> None:
    module, p = drawn("oat_pointer_logits", H=3, C=4, A=2)
    enc, dec = normal((2, 6, 4)), normal((2, 5, 4))
    left, right = torch.cat([p["wd"], p["bd"][:, None]], 1), torch.cat([p["we"], p["be"][:, None]], 1)
    form = torch.einsum("h,hca,hda->cd", p["w_read"], left, right) / math.sqrt(512)
    queries, keys = (F.pad(x, (0, 1), value=1.0) for x in (dec, enc))
    same(module(enc, dec), F.pad(queries @ form @ keys.mT, (0, 1)) + p["b_read"])


def test_minimal_stack_collapses() -> None:
    module, p = drawn("minimal_stack", C=4, C2=4)
    x = normal((2, 6, 4))
    first = torch.softmax(0.1 * x @ p["w_qk1"] @ x.mT, -1) @ x
    inner = p["w_vo1"] @ p["w_qk2"] @ p["w_vo1"].mT
    same(module(x), torch.softmax(0.1 * first @ inner @ first.mT, -1) @ first @ p["w_vo1"] @ p["w_vo2"])


def test_fourier_karat_with_one_unit_per_key_is_the_full_series() -> None:
    a, b = normal((3, 7, 7, 2)), normal((3, 7, 7, 2))
    q, k, v = normal((2, 3, 5, 4)), normal((2, 3, 7, 4)), normal((2, 3, 7, 2))
    s = (q @ k.mT / 2)[..., None] * torch.arange(1, 3)
    weights = (a[:, None] * s[..., None, :, :].cos() + b[:, None] * s[..., None, :, :].sin()).sum((-1, -2))
    sizes = {"H": 3, "R": 7, "M": 7, "G": 2}
    module = build("fourier_karat", sizes=sizes, a=a, b=b, w=torch.eye(7, dtype=q.dtype).expand(3, 7, 7))
    same(module(q, k, v), weights @ v)
    full = build("karat_full", sizes={"H": 3, "P": 7, "M": 7, "G": 2}, a=a, b=b)
    same(full(q, k, v), build("simplex_projection")(weights) @ v)


# -- limits and special values -----------------------------------------------------------------------------


def test_in_context_weights_of_the_learned_pattern() -> None:
    """Diagonal key-query and last-entry output weights: icl_reduced. Heads in opposite pairs: debiased_gd."""
    z, xq = normal((9, 4)), normal((3,))
    x, y, zq = z[:, :3], z[:, 3], F.pad(xq, (0, 1))

    def pattern(omega: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
        kq, ov = torch.zeros(2, 4, 4, dtype=z.dtype), torch.zeros(2, 4, 4, dtype=z.dtype)
        kq[:, range(3), range(3)] = omega[:, None]
        ov[:, 3, 3] = mu
        return kq, ov

    omega, mu = normal((2,)), normal((2,))
    kq, ov = pattern(omega, mu)
    whole = build("icl_attention", sizes={"H": 2, "I": 4, "I2": 4, "O": 4}, kq=kq, ov=ov)
    same(whole(z, zq)[3], build("icl_reduced", sizes={"H": 2}, omega=omega, mu=mu)(x, y, xq))
    errors = []
    for w in (1e-2, 1e-3):
        pair, gain = torch.tensor([w, -w], dtype=z.dtype), torch.tensor([1.0, -1.0], dtype=z.dtype) / (2 * w)
        reduced = build("icl_reduced", sizes={"H": 2}, omega=pair, mu=gain)(x, y, xq)
        errors.append((reduced - build("debiased_gd", {"eta": 1.0})(x, y, xq)).abs().item())
    assert errors[1] == pytest.approx(errors[0] / 100, rel=0.1)  # of second order


def test_equal_experts_are_one_attention() -> None:
    """Gates sum to one; with every expert kept the baseline is the mixture; shared keys are equal keys."""
    x, wr = normal((2, 6, 4)), normal((4, 3))
    shared, _ = drawn("bam_attention_shared_kv", C=4, J=3, H=2, D=3, E=2)
    p = dict(shared.named_parameters())
    keys = {"wk": p["wk"].expand(3, 4, 2, 3), "wv": p["wv"].expand(3, 4, 2, 2)}
    sizes = {"C": 4, "J": 3, "H": 2, "D": 3, "E": 2}
    mixture = build("bam_attention", sizes=sizes, **{**p, **keys})
    same(mixture(x), shared(x))
    same(build("moa_attention", {"top_k": 3}, sizes, **{**p, **keys})(x), mixture(x))
    alike = {key: value[:1].expand_as(value) for key, value in {**p, **keys}.items() if key != "wr"}
    q, k, v = (heads(x, alike[key][0]) for key in ("wq", "wk", "wv"))
    one = torch.einsum("bhne,hec->bnc", attend(q, k, v, causal(6)), alike["wo"][0])
    same(build("bam_attention", sizes=sizes, wr=wr, **alike)(x), one)


def test_dilated_neighbourhoods_as_masks() -> None:
    """A softmax over the whole row, minus infinity outside of the window."""
    q, k, v = normal((2, 3, 13, 4)), normal((2, 3, 13, 4)), normal((2, 3, 13, 5))
    rpb = normal((3, 5))
    for dilation in (1, 2, 4):
        scores = torch.full((2, 3, 13, 13), -torch.inf, dtype=q.dtype)
        for n in range(13):
            members = list(range(n % dilation, 13, dilation))
            place = members.index(n)
            start = min(max(place - 1, 0), len(members) - 3)
            for w in range(3):
                m = members[start + w]
                scores[..., n, m] = (q[..., n, :] * k[..., m, :]).sum(-1) / 2 + rpb[:, start + w - place + 2]
        module = build("dina_1d", {"window": 3, "dilation": dilation}, {"H": 3, "L": 5}, rpb=rpb)
        same(module(q, k, v), torch.softmax(scores, -1) @ v)


# -- images ------------------------------------------------------------------------------------------------


def test_pool_mixer_is_average_pooling() -> None:
    x = normal((2, 3, 5, 8))
    pooled = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    same(build("pool_mixer")(x), pooled - x)


def test_geometry_bias_read_from_a_grid() -> None:
    """The sine embedding of an integer grid, bilinearly sampled with aligned corners; exact at integer positions."""
    w, b = normal((2, 8)).abs(), positive((2,)) + 20
    rel = torch.randint(-4, 5, (6, 3, 2)).double()
    steps = torch.arange(-4, 5, dtype=torch.float64)
    frequency = 1000.0 ** (torch.arange(2) / 2)
    wave = torch.cat([(steps[:, None] / frequency).sin(), (steps[:, None] / frequency).cos()], -1).mT
    grid = torch.cat([wave[:, None, :].expand(4, 9, 9), wave[:, :, None].expand(4, 9, 9)])
    sampled = F.grid_sample(grid[None], (rel / 4)[None], align_corners=True)[0]
    expected = torch.log((torch.einsum("hp,pnk->hnk", w, sampled) + b[:, None, None]).clamp(min=1e-6))
    same(build("bvr_geometry_bias", sizes={"H": 2, "P": 8}, w_geo=w, b_geo=b)(rel), expected)


def test_strip_reduction_is_a_strided_convolution() -> None:
    module, p = drawn("strip_self_attention", H=2, D=1, C=3, E=2, Ry=2, Rx=2)
    x = normal((2, 3, 4, 6))
    keys = F.conv2d(x, p["w_sr"][:, None], stride=2, groups=3).flatten(-2)
    q = torch.einsum("hdc,bcn->bhnd", p["wq"], x.flatten(-2))
    k, v = (torch.einsum("hdc,bcm->bhmd", p[key], keys) for key in ("wk", "wv"))
    o = torch.einsum("che,bhne->bcn", p["wo"], attend(q, k, v)).unflatten(-1, (4, 6))
    same(module(x), o)


# -- choices as gathers ------------------------------------------------------------------------------------


def test_routed_heads_by_dispatch() -> None:
    """Only the chosen heads of a token are computed, then added where they belong."""
    module, p = drawn("moh_attention", C=4, H=5, D=3, E=2, Hs=2, Hr=3, S=2)
    gate = build("moh_gates", sizes={"C": 4, "H": 5, "Hs": 2, "Hr": 3, "S": 2},
                 **{key: p[key] for key in ("w_shared", "w_routed", "w_type")})  # fmt: skip
    x = normal((7, 4))
    g, expected = gate(x), p["bo"].expand(7, 4).clone()
    for h in range(5):
        rows = g[:, h].nonzero()[:, 0]
        q, k, v = (x @ p[f"w{key}"][:, h] + p[f"b{key}"][h] for key in "qkv")
        expected[rows] += g[rows, h, None] * (attend(q[rows], k, v) @ p["wo"][h])
    assert (g == 0).sum() == 7
    same(module(x), expected)


def test_experts_by_dispatch() -> None:
    module, p = drawn("mixture_of_tunable_experts", {"topk": 2}, J=5, F=3, C=4, Fs=2)
    gates = build("mote_gates", {"topk": 2}, {"J": 5, "C": 4}, w_gate=p["w_gate"], bias=p["bias"])
    x, tune = normal((6, 4)), torch.tensor([0.0, 1.0, 0.0, -1.0, 0.0], dtype=torch.float64)

    def swiglu(y: Tensor, w1: Tensor, w3: Tensor, w2: Tensor) -> Tensor:
        return (F.silu(y @ w1.mT) * (y @ w3.mT)) @ w2.mT

    gate, out = gates(x, tune), swiglu(x, p["shared_w1"], p["shared_w3"], p["shared_w2"])
    assert (gate[:, 1] > 0).all()
    assert (gate[:, 3] == 0).all()
    for j in range(5):
        rows = gate[:, j].nonzero()[:, 0]
        out[rows] += gate[rows, j, None] * swiglu(x[rows], p["w1"][j], p["w3"][j], p["w2"][j])
    same(module(x, tune), out)


def test_sparsifiner_by_gathering_the_kept_keys() -> None:
    consts = {"keep": 3, "coef_topk": 2}
    module, p = drawn("sparsifiner_attention", consts, A=2, D=4, M=9, R=3, H=2)
    scores = build("sparsifiner_scores", {"coef_topk": 2}, {"A": 2, "D": 4, "M": 9, "R": 3, "H": 2}, **p)
    q, k, v = normal((2, 9, 4)), normal((2, 9, 4)), normal((2, 9, 5))
    index = scores(q, k).topk(3, -1).indices
    kept_k, kept_v = (
        torch.gather(x[:, None].expand(2, 8, 9, x.shape[-1]), 2, index[..., None].expand(2, 8, 3, x.shape[-1]))
        for x in (k, v)
    )
    rest = attend(q[:, 1:, None], kept_k, kept_v)[:, :, 0]
    same(module(q, k, v), torch.cat([attend(q[:, :1], k, v), rest], -2))


def test_landmark_blocks_of_one_length_by_gathering() -> None:
    """Blocks of four tokens, the last of each its landmark: per query the own block and the chosen ones only."""
    q, k, v = normal((12, 4)), normal((12, 4)), normal((12, 5))
    is_landmark = torch.arange(12) % 4 == 3
    for topk in (1, 2, 3):
        rows = []
        for n in range(12):
            block, s = n // 4, (q[n] @ k.mT) / 2
            marks = torch.arange(block) * 4 + 3
            marks = marks[s[marks].topk(min(topk, block)).indices]
            own = torch.arange(block * 4, n + 1)
            own = own[own % 4 != 3]
            weights = torch.softmax(s[torch.cat([own, marks])], -1)
            row = weights[: len(own)] @ v[own]
            for weight, mark in zip(weights[len(own) :], marks, strict=True):
                tokens = torch.arange(int(mark) - 3, int(mark))
                row = row + weight * (torch.softmax(s[tokens], -1) @ v[tokens])
            rows.append(row)
        same(build("landmark_attention_topk", {"topk": topk})(q, k, v, is_landmark), torch.stack(rows))
    same(build("landmark_attention")(q, k, v, is_landmark), torch.stack(rows))


def test_combiner_as_a_dense_map() -> None:
    """P_direct + P_summary P(j | block), N by N; the two directions differ below the diagonal too."""
    q, k, v = normal((12, 4)), normal((12, 4)), normal((12, 5))
    blocks = [slice(start, start + 3) for start in range(0, 12, 3)]
    inside = [torch.softmax(q[b].amax(0) @ k[b].mT / 2, -1) for b in blocks]
    dense = torch.zeros(12, 12, dtype=q.dtype)
    for n in range(12):
        own = torch.arange(n // 3 * 3, n + 1)
        scores = torch.cat([q[n] @ k[own].mT, torch.stack([q[n] @ k[b].amax(0) for b in blocks[: n // 3]])
                            if n >= 3 else q[n, :0]]) / 2  # fmt: skip
        weights = torch.softmax(scores, -1)
        dense[n, own] += weights[: len(own)]
        for weight, b, share in zip(weights[len(own) :], blocks, inside, strict=False):
            dense[n, b] += weight * share
    same(dense.sum(-1), torch.ones(12, dtype=q.dtype))
    same(build("combiner_fixed", {"seg": 3})(q, k, v), dense @ v)
    both = build("combiner_fixed_bidirectional", {"seg": 3})(q, k, v)
    assert (both - dense @ v).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["s2_attention", "sf_attention"])
def test_shifted_groups_by_rolling(name: str) -> None:
    """Roll the heads, attend inside groups (beside the sinks), roll back."""
    q, k, v = normal((2, 4, 12, 4)), normal((2, 4, 12, 4)), normal((2, 4, 12, 5))
    shifted = 2 if name == "s2_attention" else 3
    sinks = 0 if name == "s2_attention" else 2
    outs = []
    for h in range(4):
        shift = 2 if h >= shifted else 0
        place = torch.arange(12).roll(-shift)  # token at every rolled row
        rolled = [x[:, h].roll(-shift, -2).unflatten(-2, (3, 4)) for x in (q, k, v)]
        token = place.unflatten(0, (3, 4))
        seen = causal(4).expand(3, 4, 4)
        if sinks:
            seen = seen & (token[:, :, None] >= token[:, None, :]) & (token[:, None, :] >= sinks)
            always = (token[:, :, None] >= torch.arange(sinks)).expand(3, 4, sinks)
            extra = [x[:, h, None, :sinks].expand(2, 3, sinks, x.shape[-1]) for x in (k, v)]
            rolled[1:] = [torch.cat(pair, -2) for pair in zip(extra, rolled[1:], strict=True)]
            seen = torch.cat([always, seen], -1)
        outs.append(attend(*rolled, seen).flatten(-3, -2).roll(shift, -2))
    consts = {"group": 4, "sinks": sinks} if sinks else {"group": 4}
    same(build(name, consts)(q, k, v), torch.stack(outs, 1))


def test_prompted_attention_with_a_mask_of_ones() -> None:
    module, p = drawn("tcpa_attention", Pc=2, Pi=1, C=4, H=2, D=3, E=2)
    sizes = {"Pc": 2, "Pi": 1, "C": 4, "H": 2, "D": 3, "E": 2}
    other = build("tcpa_attention_renormalised", sizes=sizes, **p)
    x, ones = normal((2, 5, 4)), torch.ones(5, 8, dtype=torch.float64)
    same(module(x, ones), other(x, ones))
    ones[:, 1] = 0
    assert (module(x, ones) - other(x, ones)).abs().max() > 1e-3
