"""Convolutions, pooling and windows on images, with torch's own functions for them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import (
    adaptive_avg_pool2d,
    avg_pool2d,
    conv2d,
    conv_transpose2d,
    fold,
    gelu,
    layer_norm,
    pad,
    unfold,
)

from .common import attend, merge_heads


def full(x: Tensor, kernel: Tensor, stride: int = 1) -> Tensor:
    """x[..., C, Y, X] with kernel[O, C, 3, 3], zeros around so that stride 1 keeps the size."""
    out = conv2d(x.reshape(-1, *x.shape[-3:]), kernel, stride=stride, padding=1)
    return out.reshape(*x.shape[:-3], *out.shape[1:])


def depthwise(x: Tensor, kernel: Tensor) -> Tensor:
    """x[..., C, Y, X] with kernel[C, Ky, Kx], the same size."""
    height, width = x.shape[-2:]
    rows = x.reshape(-1, *x.shape[-3:])
    padding = (kernel.shape[-2] // 2, kernel.shape[-1] // 2)
    out = conv2d(rows, kernel[:, None], padding=padding, groups=kernel.shape[0])
    return out[..., :height, :width].reshape(x.shape)


def channels_first(x: Tensor) -> Tensor:
    return x.movedim(-1, -3)


def channels_last(x: Tensor) -> Tensor:
    return x.movedim(-3, -1)


def mg_vcycle(f: Tensor, **p: Tensor) -> Tensor:
    u0 = full(f, p["S0"])
    f1, u1 = full(f, p["R0"], 2), full(u0, p["Pi0"], 2)
    u1 = u1 + full(f1 - full(u1, p["A1"]), p["S1"])
    up = conv_transpose2d(u1.reshape(-1, *u1.shape[-3:]), p["T0"], stride=2, padding=1)
    u0 = u0 + up.reshape(u0.shape)
    return u0 + full(f - full(u0, p["A0p"]), p["S0p"])


def mgno_layer(u: Tensor, *, w: Tensor, b: Tensor, **p: Tensor) -> Tensor:
    return gelu(mg_vcycle(u, **p) + torch.einsum("of,...fyx->...oyx", w, u) + b[:, None, None])


def focal_modulation(
    x: Tensor, *, wf: Tensor, bf: Tensor, ker0: Tensor, ker1: Tensor, wh: Tensor, bh: Tensor, wp: Tensor, bp: Tensor
) -> Tensor:
    width = x.shape[-1]
    q, context, gates = torch.split(x @ wf + bf, [width, width, 3], -1)
    total: Tensor | float = 0.0
    for level, kernel in enumerate((ker0, ker1)):
        context = channels_last(gelu(depthwise(channels_first(context), kernel)))
        total = total + gates[..., level, None] * context
    total = total + gates[..., 2, None] * gelu(context.mean((-3, -2), keepdim=True))
    return (q * (total @ wh + bh)) @ wp + bp


def depthwise_convolution(x: Tensor, *, kernel: Tensor, shift: Tensor) -> Tensor:
    return channels_last(depthwise(channels_first(x), kernel)) + shift


def partial_convolution(x: Tensor, *, w_dw: Tensor, b_dw: Tensor) -> Tensor:
    same, mixed = x.split([x.shape[-1] - w_dw.shape[0], w_dw.shape[0]], -1)
    return torch.cat([same, depthwise_convolution(mixed, kernel=w_dw, shift=b_dw)], -1)


def gated_convolution(
    x: Tensor, *, w1: Tensor, b1: Tensor, w_dw: Tensor, b_dw: Tensor, w2: Tensor, b2: Tensor
) -> Tensor:
    hidden, mixed = w2.shape[1], w_dw.shape[0]
    gate, same, c = torch.split(x @ w1.mT + b1, [hidden, hidden - mixed, mixed], -1)
    c = channels_last(depthwise(channels_first(c), w_dw)) + b_dw
    return (gelu(gate) * torch.cat([same, c], -1)) @ w2.mT + b2


def gated_cnn(x: Tensor, *, gamma: Tensor, beta: Tensor, eps: float = 1e-6, **p: Tensor) -> Tensor:
    return x + gated_convolution(layer_norm(x, x.shape[-1:], gamma, beta, eps), **p)


def hyperzzw_local(z: Tensor, kernel: Tensor) -> Tensor:
    """Every sample with its own kernel, one by one."""
    samples = zip(z.reshape(-1, *z.shape[-3:]), kernel.reshape(-1, *kernel.shape[-3:]), strict=True)
    return torch.stack([depthwise(one, own) for one, own in samples]).reshape(z.shape)


def local_concentration(
    x: Tensor, *, w1: Tensor, b1: Tensor, bn_scale: Tensor, bn_shift: Tensor, w2: Tensor, b2: Tensor
) -> Tensor:
    near = gelu(depthwise(x, w1) + b1[:, None, None])
    return depthwise(bn_scale[:, None, None] * near + bn_shift[:, None, None], w2) + b2[:, None, None]


def fbnet_ir_block(
    x: Tensor, *, w_exp: Tensor, w_dw: Tensor, w_proj: Tensor, se_w1: Tensor, se_b1: Tensor, se_w2: Tensor,
    se_b2: Tensor,
) -> Tensor:  # fmt: skip
    def hard_sigmoid(t: Tensor) -> Tensor:  # torch's own has the gradient of a slope in float32
        return (t + 3).clamp(0, 6) / 6

    expanded = torch.einsum("ec,...cyx->...eyx", w_exp, x)
    mixed = depthwise(expanded * hard_sigmoid(expanded), w_dw)
    u = mixed * hard_sigmoid(mixed)
    squeezed = torch.relu(u.mean((-2, -1)) @ se_w1.mT + se_b1)
    excited = hard_sigmoid(squeezed @ se_w2.mT + se_b2)
    return x + torch.einsum("ce,...eyx->...cyx", w_proj, u * excited[..., None, None])


def ffnified_attention(x: Tensor, *, wq: Tensor, k7: Tensor, k3: Tensor, v7: Tensor, v3: Tensor, **p: Tensor) -> Tensor:
    """With both branches of a side folded into one 7 by 7 kernel with a bias."""

    def folded(side: str, wide: Tensor, narrow: Tensor) -> tuple[Tensor, Tensor]:
        scales = [p[f"bn_{side}{n}_g"] / (p[f"bn_{side}{n}_var"] + 1e-5).sqrt() for n in (7, 3)]
        shifts = [p[f"bn_{side}{n}_b"] - p[f"bn_{side}{n}_mean"] * s for n, s in zip((7, 3), scales, strict=True)]
        kernel = wide * scales[0][:, None, None] + pad(narrow * scales[1][:, None, None], (2, 2, 2, 2))
        return kernel, (shifts[0] + shifts[1])[:, None, None]

    q = torch.einsum("cd,...dyx->...cyx", wq, x)
    scale = p["bn_q_g"] / (p["bn_q_var"] + 1e-5).sqrt()
    q = (q - p["bn_q_mean"][:, None, None]) * scale[:, None, None] + p["bn_q_b"][:, None, None]
    (keys, key_shift), (values, value_shift) = folded("k", k7, k3), folded("v", v7, v3)
    return depthwise(gelu(depthwise(q, keys) + key_shift), values) + value_shift


def agent_layer(
    q_flat: Tensor, k_flat: Tensor, v_flat: Tensor, *, w_dw: Tensor, b_dw: Tensor, heads: int = 4, width: int = 14,
    pool_size: int = 7,
) -> Tensor:  # fmt: skip
    def image(x: Tensor) -> Tensor:
        return x.unflatten(-2, (-1, width)).movedim(-1, -3)

    def cut(x: Tensor) -> Tensor:
        return x.unflatten(-1, (heads, -1)).transpose(-2, -3)

    grid = image(q_flat)
    pooled = adaptive_avg_pool2d(grid.reshape(-1, *grid.shape[-3:]), pool_size)
    agents = cut(pooled.flatten(-2).mT.reshape(*q_flat.shape[:-2], pool_size**2, -1))
    o = attend(cut(q_flat), agents, attend(agents, cut(k_flat), cut(v_flat)))
    near = depthwise(image(v_flat), w_dw) + b_dw[:, None, None]
    return merge_heads(o) + near.flatten(-2).mT


def contmix(
    q_src: Tensor, k_src: Tensor, v_src: Tensor, *, wq: Tensor, wk: Tensor, w_mix: Tensor, b_mix: Tensor,
    rpb_small: Tensor, rpb_large: Tensor, k_small: int = 5, k_large: int = 7, pool_size: int = 7, scale: float = 0.125,
) -> Tensor:  # fmt: skip
    """Position by position."""
    groups, (height, width) = rpb_small.shape[0], q_src.shape[-2:]
    pooled = adaptive_avg_pool2d(k_src.reshape(-1, *k_src.shape[-3:]), pool_size)
    overview = pooled.flatten(-2).reshape(*k_src.shape[:-2], -1)
    q = torch.einsum("qc,...cyx->...qyx", wq, q_src).unflatten(-3, (groups, -1))
    k = (wk @ overview).unflatten(-2, (groups, -1))
    affinity = scale * torch.einsum("...gdyx,...gds->...gyxs", q, k)
    taps = affinity @ w_mix.mT + b_mix
    halves = []
    for values, side, bias, part in (
        (v_src[..., : v_src.shape[-3] // 2, :, :], k_small, rpb_small, taps[..., : k_small**2]),
        (v_src[..., v_src.shape[-3] // 2 :, :, :], k_large, rpb_large, taps[..., k_small**2 :]),
    ):
        grouped = values.unflatten(-3, (groups, -1))
        rows = []
        for y in range(height):
            top = min(max(y - side // 2, 0), height - side)
            row = []
            for x in range(width):
                left = min(max(x - side // 2, 0), width - side)
                shift = bias[:, top - y + side - 1 :, left - x + side - 1 :][:, :side, :side]
                weight = torch.softmax(part[..., y, x, :] + shift.flatten(1), -1)
                window = grouped[..., top : top + side, left : left + side].flatten(-2)
                row.append((window * weight[..., None, :]).sum(-1).flatten(-2))
            rows.append(torch.stack(row, -1))
        halves.append(torch.stack(rows, -2))
    return torch.cat(halves, -3)


def outlook_attention(
    x: Tensor, *, wv: Tensor, bv: Tensor, wa: Tensor, ba: Tensor, wo: Tensor, bo: Tensor, kernel: int = 3,
    stride: int = 1,
) -> Tensor:  # fmt: skip
    """As released: unfold, a product per anchor, fold."""
    height, width, (heads, features) = x.shape[-3], x.shape[-2], bv.shape
    flat = x.reshape(-1, *x.shape[-3:])
    v = channels_first((torch.einsum("byxc,hdc->byxhd", flat, wv) + bv).flatten(-2))
    columns = unfold(v, kernel, padding=kernel // 2, stride=stride)
    columns = columns.unflatten(1, (heads, features, kernel**2))
    anchor = avg_pool2d(channels_first(flat), stride, stride, ceil_mode=True)
    scores = torch.einsum("bcij,hpqc->bhijpq", anchor, wa) + ba[:, None, None]
    a = torch.softmax(scores / features**0.5, -1).flatten(2, 3)
    mixed = torch.einsum("bhlpq,bhdql->bhdpl", a, columns).flatten(1, 3)
    o = fold(mixed, (height, width), kernel, padding=kernel // 2, stride=stride).unflatten(1, (heads, features))
    return (torch.einsum("bhdyx,chd->byxc", o, wo) + bo).reshape(x.shape)
