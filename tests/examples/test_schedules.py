"""Schedules over the sequence that papers state for their formulas, and maps that are linear in an input.

Blocks, recurrences, parts of the keys that are merged, transforms: modules are compared with these in plain PyTorch.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import attngraph
from benchmarks import examples

from .cases import normal, positive
from .modules import build, drawn, same
from .references.common import unit


@pytest.fixture
def qkv() -> tuple[Tensor, Tensor, Tensor]:
    return normal((2, 3, 13, 4)), normal((2, 3, 13, 4)), normal((2, 3, 13, 5))


# -- schedules over the sequence ---------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 4, 5, 13, 20])
def test_lightning_attention_block_by_block(qkv: tuple[Tensor, Tensor, Tensor], block: int) -> None:
    """O = ((Q K^T) * mask) V + diag(lam^(r+1)) Q S per block, with a state S; the last block may be shorter."""
    q, k, v = qkv
    slope = positive((3,))
    lam = torch.exp(-slope)[:, None]
    state, outs = torch.zeros(2, 3, 4, 5, dtype=q.dtype), []
    for start in range(0, 13, block):
        piece = [x[..., start : start + block, :] for x in (q, k, v)]
        size = piece[0].shape[-2]
        r = torch.arange(size)
        lag = r[:, None] - r
        mask = torch.where(lag >= 0, lam[..., None] ** lag.clamp(min=0), 0.0)
        before = (lam ** (r + 1))[..., None] * (piece[0] @ state)
        outs.append(((piece[0] @ piece[1].mT) * mask) @ piece[2] + before)
        state = (lam**size)[..., None] * state + ((lam ** (size - 1 - r))[..., None] * piece[1]).mT @ piece[2]
    same(build("lightning_attention")(q, k, v, slope), torch.cat(outs, -2))


def test_taylor_attention_by_a_running_state_of_features(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    def features(x: Tensor) -> Tensor:
        pairs = (x[..., :, None] * x[..., None, :]).flatten(-2) / math.sqrt(2 * 4)
        return torch.cat([torch.ones_like(x[..., :1]), x / 4**0.25, pairs], -1)

    q, k, v = qkv
    state = (features(k)[..., :, None] * v[..., None, :]).cumsum(-3)
    total = (features(q) * features(k).cumsum(-2)).sum(-1, keepdim=True)
    same(build("taylor_attention")(q, k, v), (features(q)[..., None, :] @ state)[..., 0, :] / total)


def test_taylor_attention_is_softmax_attention_up_to_the_third_order(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    q, k, v = qkv
    errors = []
    for scale in (1e-1, 1e-2):
        plain = build("causal_softmax_attention")(q * scale, k, v)
        errors.append((build("taylor_attention")(q * scale, k, v) - plain).abs().max().item())
    assert errors[1] == pytest.approx(errors[0] / 1000, rel=0.3)


def test_aaren_by_its_recurrence(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    _, k, v = qkv
    query = normal((3, 4))
    scores = (k * query[:, None]).sum(-1) / 2
    top, total = torch.full((2, 3), -torch.inf, dtype=k.dtype), torch.zeros(2, 3, dtype=k.dtype)
    acc, outs = torch.zeros(2, 3, 5, dtype=k.dtype), []
    for m in range(13):
        new = torch.maximum(top, scores[..., m])
        old, weight = torch.exp(top - new), torch.exp(scores[..., m] - new)
        total, acc = total * old + weight, acc * old[..., None] + weight[..., None] * v[..., m, :]
        top = new
        outs.append(acc / total[..., None])
    same(build("aaren", sizes={"H": 3, "D": 4}, query=query)(k, v), torch.stack(outs, -2))


def test_aaren_by_a_doubling_scan(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    """Every position merges with the one 1, 2, 4, ... places before it."""
    _, k, v = qkv
    query, merge = normal((3, 4)), build("merge_lse")
    lse, out = (k * query[:, None]).sum(-1) / 2, v
    distance = 1
    while distance < 13:
        before = torch.nn.functional.pad(lse, (distance, 0), value=-torch.inf)[..., :13]
        earlier = torch.nn.functional.pad(out, (0, 0, distance, 0))[..., :13, :]
        out, lse = merge(earlier, before, out, lse), torch.logaddexp(before, lse)
        distance *= 2
    same(build("aaren", sizes={"H": 3, "D": 4}, query=query)(k, v), out)


def test_a_map_of_fixed_positions_is_computed_once() -> None:
    """The stream of positions has no batch, nor has the map; the values have."""
    module, p = drawn("fixed_qk_attention", C=4, H=2, D=3, E=2)
    h, x = normal((5, 6, 4)), normal((6, 4))
    q, k = (torch.einsum("nc,chd->hnd", x, p[key]) for key in ("wq", "wk"))
    scores = (q @ k.mT / math.sqrt(3)).masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf)
    values = torch.einsum("bnc,che->bhne", h, p["wv"])
    same(module(h, x), torch.softmax(scores, -1) @ values)


def test_selective_ssm_by_its_recurrence() -> None:
    u, delta, b, c = normal((2, 9, 3)), positive((2, 9, 3)), normal((2, 9, 4)), normal((2, 9, 4))
    a, d = -positive((3, 4)), normal((3,))
    state, outs = torch.zeros(2, 3, 4, dtype=u.dtype), []
    for n in range(9):
        state = torch.exp(delta[:, n, :, None] * a) * state
        state = state + (delta[:, n] * u[:, n])[..., None] * b[:, n, None, :]
        outs.append((state * c[:, n, None, :]).sum(-1) + d * u[:, n])
    same(build("selective_ssm", sizes={"F": 3, "S": 4}, a=a, d=d)(u, delta, b, c), torch.stack(outs, 1))


@pytest.mark.parametrize("cuts", [(13,), (1, 5, 7), (6, 7), (12, 1)])
def test_attention_over_parts_of_the_keys_merges(qkv: tuple[Tensor, Tensor, Tensor], cuts: tuple[int, ...]) -> None:
    """Any cut of the keys: (result, logsumexp) by merge_lse, (maximum, sum, accumulator) by softmax_merge."""
    q, k, v = qkv
    whole, merge, unscaled = build("softmax_attention")(q, k, v), build("merge_lse"), build("softmax_merge")
    out, lse = torch.zeros_like(whole), torch.full(whole.shape[:-1], -torch.inf, dtype=q.dtype)
    top, total, acc = lse, torch.zeros_like(lse), out
    for keys, values in zip(k.split(cuts, -2), v.split(cuts, -2), strict=True):
        s = q @ keys.mT / 2
        out = merge(out, lse, torch.softmax(s, -1) @ values, s.logsumexp(-1))
        lse = torch.logaddexp(lse, s.logsumexp(-1))
        high = s.amax(-1)
        weights = torch.exp(s - high[..., None])
        acc = unscaled(top, total, acc, high, weights.sum(-1), weights @ values)
        new = torch.maximum(top, high)
        total, top = torch.exp(top - new) * total + torch.exp(high - new) * weights.sum(-1), new
    same(out, whole)
    same(acc / total[..., None], whole)


def test_merging_is_associative_and_has_an_identity() -> None:
    merge, unscaled = build("merge_lse"), build("softmax_merge")
    (o1, l1), (o2, l2), (o3, l3) = ((normal((6, 4)), normal((6,))) for _ in range(3))
    early, late = torch.logaddexp(l1, l2), torch.logaddexp(l2, l3)
    same(merge(merge(o1, l1, o2, l2), early, o3, l3), merge(o1, l1, merge(o2, l2, o3, l3), late))
    nothing, never = torch.zeros_like(o1), torch.full_like(l1, -torch.inf)
    same(merge(o1, l1, nothing, never), o1)
    same(merge(nothing, never, o1, l1), o1)
    same(merge(nothing, never, nothing, never) + 1, nothing + 1)
    both = unscaled(l1, l1, o1, l2, l2, o2), torch.maximum(l1, l2)
    others = unscaled(l2, l2, o2, l3, l3, o3), torch.maximum(l2, l3)
    same(unscaled(both[1], l1, both[0], l3, l3, o3), unscaled(l1, l1, o1, others[1], l1, others[0]))
    same(unscaled(l1, l1, o1, never, never, nothing), o1)


def test_sigmoid_attention_adds_up_over_tiles(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    q, k, v = qkv
    tiles = zip(k.split(4, -2), v.split(4, -2), strict=True)
    parts = [torch.sigmoid((q / 4**0.25) @ (keys / 4**0.25).mT - math.log(13)) @ values for keys, values in tiles]
    same(build("sigmoid_attention")(q, k, v), torch.stack(parts).sum(0))


# -- maps that are linear in an input ----------------------------------------------------------------------


def test_a_vcycle_is_its_impulse_responses() -> None:
    """W(a f + b g) = a W f + b W g, and the dense kernel of responses to unit impulses is W."""
    module, _ = drawn("mg_vcycle", Cf=2, Cu=3, Cf2=2, Cu2=3, Ky=3, Kx=3, Uy=4, Ux=4)
    f, g = normal((2, 4, 6)), normal((2, 4, 6))
    same(module(2.5 * f - g), 2.5 * module(f) - module(g))
    kernel = module(torch.eye(48, dtype=f.dtype).unflatten(-1, (2, 4, 6))).flatten(1)
    same(module(f).flatten(), f.flatten() @ kernel)


def test_kernel_integral_sums_the_keys_first(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    q, k, v = qkv
    w = positive((13,))
    k1, v1 = ((x - x.mean(-2, keepdim=True)) / (x.var(-2, correction=0, keepdim=True) + 1e-5).sqrt() for x in (k, v))
    same(build("kernel_integral_attention")(q, k, v, w), q @ ((k1 * w[:, None]).mT @ v1))


def test_quadrature_attention_does_not_see_a_key_split_in_two(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    q, k, v = qkv
    w, module = positive((13,)), build("quadrature_attention")
    shared = torch.cat([w, w[4:5] * 0.3])
    shared[4] *= 0.7
    more = [torch.cat([x, x[..., 4:5, :]], -2) for x in (k, v)]
    same(module(q, *more, shared), module(q, k, v, w))


@pytest.mark.parametrize("length", [12, 13])
@pytest.mark.parametrize("modes", [5, 7])
def test_spectral_conv_as_sums(length: int, modes: int) -> None:
    """y = Re sum_k mu_k e^(2 pi i k n / N) Z_k / N with mu = 1 at k = 0 and N / 2, else 2."""
    x, weight = normal((2, length, 3)), torch.randn(modes, 3, 2, dtype=torch.complex128)
    k, n = torch.arange(modes, dtype=torch.float64), torch.arange(length)
    wave = torch.exp(2j * math.pi * k[:, None] * n / length)
    z = torch.einsum("bnc,kn,kco->bko", x.to(wave.dtype), wave.conj(), weight)
    mu = torch.where((k == 0) | (2 * k == length), 1.0, 2.0).to(torch.float64)
    expected = torch.einsum("k,kn,bko->bno", mu.to(wave.dtype), wave, z).real / length
    module = attngraph.compile(examples.find("spectral_conv"), sizes={"K": modes, "C": 3, "O": 2}).double()
    module.weight.data = weight
    same(module(x).detach(), expected)


def test_orchid_mixer_in_frequency() -> None:
    """s2 irfft((rfft(h0) + K) rfft(s1 v)), the imaginary part of bin 0 and of bin N / 2 left out of K."""
    for length in (12, 13):
        bins = length // 2 + 1
        kernel = torch.randn(2, 3, bins, dtype=torch.complex128)
        s1, s2, v, h0 = normal((2, 3, length)), normal((2, 3, length)), normal((2, 3, length)), normal((3, length))
        clean = kernel.clone()
        clean.imag[..., 0] = 0
        if length % 2 == 0:
            clean.imag[..., -1] = 0
        spectrum = (torch.fft.rfft(h0) + clean) * torch.fft.rfft(s1 * v)
        module = build("orchid_mixer", sizes={"C": 3, "N": length}, h0=h0)
        same(module(kernel, s1, s2, v), s2 * torch.fft.irfft(spectrum, length))


def test_orchid_kernel_keeps_its_shape_under_circular_shifts() -> None:
    """With circular padding of the first convolution, that is away from the border here: kernel of ones."""
    x = normal((2, 3, 12))
    w1 = torch.zeros(3, 3, dtype=x.dtype)
    w1[:, 1] = normal((3,))
    module = build("orchid_kernel_abs", sizes={"C": 3, "W": 3}, w1=w1, w2=normal((3, 3)), b1=normal((3,)))
    same(module(x.roll(5, -1)), module(x))


def test_token_mixing_convolution_by_a_padded_transform() -> None:
    x, h = normal((2, 11, 3)), normal((11, 3))
    spectrum = torch.fft.rfft(x, 22, dim=-2) * torch.fft.rfft(h, 22, dim=-2)
    module = build("unified_token_mixing_conv", sizes={"L": 11, "C": 3}, h=h)
    same(module(x), torch.fft.irfft(spectrum, 22, dim=-2)[:, :11])


@pytest.mark.parametrize("name", ["nprf_rpe_attention", "nprf_rpe_attention_causal"])
def test_kernelised_relative_attention_by_circulant_embedding(qkv: tuple[Tensor, Tensor, Tensor], name: str) -> None:
    q, k, v = qkv
    bias, omega = normal((3, 25)), normal((6, 4))
    phi_q, phi_k = (torch.exp(unit(x) @ omega.mT) for x in (q, k))  # e^(-1/2) and 1/sqrt(F) cancel
    weights = torch.exp(bias.flip(-1))  # by n - m + N - 1
    if name.endswith("causal"):
        weights[:, :12] = 0
    ring = torch.cat([weights[:, 12:], torch.zeros(3, 1, dtype=q.dtype), weights[:, :12]], -1)

    def product(x: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(ring)[..., None] * torch.fft.rfft(x, 26, dim=-2), 26, dim=-2)[..., :13, :]

    sums = product((phi_k[..., :, None] * v[..., None, :]).flatten(-2)).unflatten(-1, (6, 5))
    total = (phi_q * product(phi_k)).sum(-1, keepdim=True)
    module = build(name, sizes={"H": 3, "L": 25, "F": 6, "D": 4}, bias=bias, omega=omega)
    same(module(q, k, v), (phi_q[..., None, :] @ sums)[..., 0, :] / total)
