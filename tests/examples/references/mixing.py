"""Token mixing without a map of queries and keys, and layers that mix no tokens at all."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv1d, conv2d, gelu, linear, silu

from .common import layer_norm, masked_softmax


def masked_spatial_attention(feat: Tensor, keep: Tensor, *, w1: Tensor, b1: Tensor, w2: Tensor) -> Tensor:
    flat = feat.flatten(-2)
    scores = w2 @ torch.tanh(w1 @ flat + b1[:, None])
    return (masked_softmax(scores, keep.flatten(-2))[..., None, :] * flat).sum(-1)


def gated_mlp(h: Tensor, *, wg: Tensor, wu: Tensor, wd: Tensor) -> Tensor:
    return (silu(h @ wg) * (h @ wu)) @ wd


def feed_forward(x: Tensor, *, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    return linear(gelu(linear(x, w1.mT, b1)), w2.mT, b2)


def ninformer_gating(x: Tensor, **p: Tensor) -> Tensor:
    """Tokens as the last dimension for the token network."""
    y = layer_norm(x, p["ln1_g"], p["ln1_b"]).mT
    m = x + (gelu(y @ p["tok_w1"] + p["tok_b1"][..., None, :]) @ p["tok_w2"] + p["tok_b2"]).mT
    z = layer_norm(m, p["ln2_g"], p["ln2_b"])
    m = m + gelu(z @ p["chan_w1"] + p["chan_b1"]) @ p["chan_w2"] + p["chan_b2"]
    return (x @ p["wp"] + p["bp"]) * m


def ninformer_block(x: Tensor, **p: Tensor) -> Tensor:
    x = x + ninformer_gating(layer_norm(x, p["ln_g"], p["ln_b"]), **p)
    hidden = gelu(layer_norm(x, p["ln_g"], p["ln_b"]) @ p["ffn_w1"] + p["ffn_b1"])
    return x + hidden @ p["ffn_w2"] + p["ffn_b2"]


def activator_gating(x: Tensor, **p: Tensor) -> Tensor:
    left = layer_norm(gelu(x @ p["w1"] + p["b1"]), p["ln_g"], p["ln_b"])
    right = layer_norm(x @ p["w2"] + p["b2"], p["ln_g"], p["ln_b"])
    return (left * right) @ p["w3"] + p["b3"]


def activator_block(x: Tensor, **p: Tensor) -> Tensor:
    x = x + activator_gating(layer_norm(x, p["ln0_g"], p["ln0_b"]), **p)
    hidden = gelu(layer_norm(x, p["ln0_g"], p["ln0_b"]) @ p["ffn_w1"] + p["ffn_b1"])
    return x + hidden @ p["ffn_w2"] + p["ffn_b2"]


def hyperzzw_global(z: Tensor, w: Tensor, f: Tensor) -> Tensor:
    return torch.einsum("...cil,...cil,...clj->...cij", z, w, f)


def hyper_kernel(
    coords: Tensor, *, wf0: Tensor, bf0: Tensor, wf1: Tensor, bf1: Tensor, wh1: Tensor, bh1: Tensor,
    pixel_bias: Tensor, w_o: Tensor, b_o: Tensor,
) -> Tensor:  # fmt: skip
    grid = coords.mT
    first = torch.sin(wf0 @ grid + bf0[:, None])
    second = torch.sin(wf1 @ grid + bf1[:, None]) * (wh1 @ first + bh1[:, None]) + pixel_bias
    return w_o @ second + b_o[:, None]


def hyperzzw_2e(z: Tensor, w: Tensor) -> Tensor:
    return z.square() * w


def pool_mixer(x: Tensor, *, W: int = 3) -> Tensor:
    flat = x.reshape(-1, *x.shape[-3:])
    pooled = avg_pool2d(flat, W, stride=1, padding=W // 2, count_include_pad=False)
    return pooled.reshape(x.shape) - x


def circular_conv(y: Tensor, kernel: Tensor) -> Tensor:
    size = y.shape[-1]
    out: Tensor = torch.fft.irfft(torch.fft.rfft(y) * torch.fft.rfft(kernel), n=size)
    return out


def squeeze_excite(u: Tensor, *, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    hidden = torch.relu(u.mean((-2, -1)) @ w1.mT + b1)
    # torch's own hardsigmoid has a gradient in single precision
    return u * ((hidden @ w2.mT + b2) / 6 + 0.5).clamp(0, 1)[..., None, None]


def relaxed_choice(candidates: Tensor, noise: Tensor, *, logits: Tensor, tau: float = 1.0) -> Tensor:
    weights = torch.exp((logits + noise) / tau)
    mixed = torch.einsum("...k,...knc->...nc", weights, candidates)
    return mixed / weights.sum(-1)[..., None, None]


def strip_self_attention(x: Tensor, *, wq: Tensor, w_sr: Tensor, wk: Tensor, wv: Tensor, wo: Tensor) -> Tensor:
    """The reduction as a strided depthwise convolution."""
    flat = x.reshape(-1, *x.shape[-3:])
    reduced = conv2d(flat, w_sr[:, None], stride=w_sr.shape[-2:], groups=x.shape[-3]).flatten(-2)
    pixels = flat.flatten(-2)
    q, k, v = (torch.einsum("hdc,bcn->bhnd", w, y) for w, y in ((wq, pixels), (wk, reduced), (wv, reduced)))
    weights = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1)
    return torch.einsum("che,bhne->bcn", wo, weights @ v).reshape(x.shape)


def unified_token_mixing_conv(x: Tensor, *, h: Tensor) -> Tensor:
    """By FFT with zeros up to twice the length."""
    size = x.shape[-2]
    spectrum = torch.fft.rfft(x, n=2 * size, dim=-2) * torch.fft.rfft(h, n=2 * size, dim=-2)
    out: Tensor = torch.fft.irfft(spectrum, n=2 * size, dim=-2)
    return out[..., :size, :]


def unified_token_mixing_mlp(x: Tensor, *, w1: Tensor, w2: Tensor) -> Tensor:
    return (gelu(x.mT @ w1.mT) @ w2.mT).mT


def class_semantics_attention(f: Tensor, r: Tensor, *, w_c1: Tensor, w_c2: Tensor, w_t: Tensor, b_t: Tensor) -> Tensor:
    channels = torch.sigmoid(torch.relu(r.mean(-2) @ w_c1) @ w_c2)
    flat = r.reshape(-1, *r.shape[-2:]).mT
    times = torch.sigmoid(conv1d(flat, w_t.mT[None], padding=1) + b_t).reshape(*r.shape[:-1], 1)
    return f * (channels[..., None, :] + times)
