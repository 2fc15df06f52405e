"""Formulas that choose: the best experts, heads, keys, tokens; sorting; Fourier transforms."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv1d, normalize, silu

from .common import attend, causal, heads


def kept(x: Tensor, count: int) -> Tensor:
    """Where the `count` largest entries of the last dimension stand."""
    return torch.zeros_like(x, dtype=torch.bool).scatter(-1, x.argsort(-1, descending=True)[..., :count], True)


def moa_attention(
    x: Tensor, *, wr: Tensor, wq: Tensor, wk: Tensor, wv: Tensor, wo: Tensor, top_k: int = 2
) -> Tensor:
    gate = torch.softmax(x @ wr, -1)
    gate = gate * kept(gate, top_k)
    out = torch.zeros_like(x)
    for j in range(wr.shape[1]):
        mixed = attend(heads(x, wq[j]), heads(x, wk[j]), heads(x, wv[j]), causal(x.shape[-2]))
        out = out + gate[..., j, None] * torch.einsum("...hne,hec->...nc", mixed, wo[j])
    return out


def moh_gates(x: Tensor, *, w_shared: Tensor, w_routed: Tensor, w_type: Tensor, top_k: int = 2) -> Tensor:
    kind = 2 * torch.softmax(x @ w_type, -1)
    shared = kind[..., :1] * w_shared.shape[1] * torch.softmax(x @ w_shared, -1)
    p = torch.softmax(x @ w_routed, -1)
    p = p * kept(p, top_k)
    return torch.cat([shared, kind[..., 1:] * top_k * p / p.sum(-1, keepdim=True)], -1)


def moh_attention(
    x: Tensor, *, wq: Tensor, wk: Tensor, wv: Tensor, bq: Tensor, bk: Tensor, bv: Tensor, wo: Tensor, bo: Tensor,
    w_shared: Tensor, w_routed: Tensor, w_type: Tensor, top_k: int = 2,
) -> Tensor:  # fmt: skip
    gate = moh_gates(x, w_shared=w_shared, w_routed=w_routed, w_type=w_type, top_k=top_k)
    mixed = attend(heads(x, wq, bq), heads(x, wk, bk), heads(x, wv, bv))
    return torch.einsum("...nh,...hne,hec->...nc", gate, mixed, wo) + bo


def mote_gates(
    x: Tensor, tune: Tensor, *, w_gate: Tensor, bias: Tensor, topk: int = 8, route_scale: float = 1.0
) -> Tensor:
    affinity = torch.sigmoid(x @ w_gate.mT)
    on, off = tune[..., None, :] > 0, tune[..., None, :] < 0
    wanted = (affinity + bias).masked_fill(on, torch.inf).masked_fill(off, -torch.inf)
    gate = affinity * (kept(wanted, topk) & ~off)
    return route_scale * gate / gate.sum(-1, keepdim=True)


def mixture_of_tunable_experts(
    x: Tensor, tune: Tensor, *, w1: Tensor, w3: Tensor, w2: Tensor, shared_w1: Tensor, shared_w3: Tensor,
    shared_w2: Tensor, **routing: Tensor,
) -> Tensor:  # fmt: skip
    def expert(first: Tensor, third: Tensor, second: Tensor) -> Tensor:
        return (silu(x @ first.mT) * (x @ third.mT)) @ second.mT

    gate = mote_gates(x, tune, **routing)
    out = expert(shared_w1, shared_w3, shared_w2)
    for j in range(w1.shape[0]):
        out = out + gate[..., j, None] * expert(w1[j], w3[j], w2[j])
    return out


def simplex_projection(y: Tensor) -> Tensor:
    """The threshold by bisection of the sum, which falls as it grows; then exactly, from its support."""
    low, high = y.amin(-1, keepdim=True) - 1.0, y.amax(-1, keepdim=True)
    for _ in range(80):
        middle = (low + high) / 2
        above = (y - middle).clamp(min=0).sum(-1, keepdim=True) > 1
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    support = y > high
    threshold = ((y * support).sum(-1, keepdim=True) - 1) / support.sum(-1, keepdim=True)
    return (y - threshold).clamp(min=0)


def karat_full(q: Tensor, k: Tensor, v: Tensor, *, a: Tensor, b: Tensor) -> Tensor:
    s = q @ k.mT / q.shape[-1] ** 0.5
    weight: Tensor | float = 0.0
    for g in range(a.shape[-1]):
        angle = (g + 1) * s
        weight = weight + torch.cos(angle) @ a[..., g].mT + torch.sin(angle) @ b[..., g].mT
    assert isinstance(weight, Tensor)
    return simplex_projection(weight) @ v


def prune_leaf_tokens(x: Tensor, dependency: Tensor, *, keep: int = 49) -> Tensor:
    stays = kept(dependency.abs().sum(-1), keep)
    return x[stays].reshape(*x.shape[:-2], keep, x.shape[-1])


def bvr_select_keys(feat: Tensor, points: Tensor, score: Tensor, *, top: int = 50) -> Tensor:
    order = score.argsort(-1, descending=True)[..., :top]
    return torch.take_along_dim(feat, order[..., None], -2)


def sparsifiner_scores(
    q: Tensor, k: Tensor, *, w_cq: Tensor, b_cq: Tensor, w_ck: Tensor, b_ck: Tensor, p_down: Tensor, p_up: Tensor,
    coef_topk: int = 8, basis_tau: float = 0.02,
) -> Tensor:  # fmt: skip
    query, key = q[..., 1:, :] @ w_cq.mT + b_cq, k @ w_ck.mT + b_ck
    coefficient = torch.softmax(query @ (p_down.mT @ key).mT / q.shape[-3] ** 0.5, -1)
    basis = p_up.abs() * (p_up.abs() > basis_tau)
    return (coefficient * kept(coefficient, coef_topk)) @ basis.mT


def sparsifiner_attention(q: Tensor, k: Tensor, v: Tensor, *, keep: int = 50, **p: Tensor) -> Tensor:
    """The kept keys gathered, row by row."""
    scores = sparsifiner_scores(q, k, **p)
    order = scores.argsort(-1, descending=True)[..., :keep]
    near, far = (torch.take_along_dim(x.unsqueeze(-3), order[..., None], -2) for x in (k, v))
    weight = torch.softmax((near @ q[..., 1:, :, None]).squeeze(-1) / q.shape[-1] ** 0.5, -1)
    return torch.cat([attend(q[..., :1, :], k, v), (weight[..., None, :] @ far).squeeze(-2)], -2)


def tcpa_mask(
    x: Tensor, *, keys_cls: Tensor, keys_img: Tensor, len_cls: int = 2, len_img: int = 1, k_cls: int = 1, k_img: int = 3
) -> Tensor:
    token = normalize(x, dim=-1)
    groups_cls = kept(token @ normalize(keys_cls, dim=-1).mT, k_cls).to(x.dtype).repeat_interleave(len_cls, -1)
    groups_img = kept(token @ normalize(keys_img, dim=-1).mT, k_img).to(x.dtype).repeat_interleave(len_img, -1)
    groups_cls[..., 1:, :] = 0
    groups_img[..., 0, :] = 0
    ones = torch.ones(*x.shape[:-1], x.shape[-2], dtype=x.dtype)
    return torch.cat([ones[..., :1], groups_cls, groups_img, ones[..., 1:]], -1)


def landmark_attention(q: Tensor, k: Tensor, v: Tensor, is_landmark: Tensor, *, topk: int | None = None) -> Tensor:
    """Block by block, query by query."""
    if q.dim() > 2:
        rows = [landmark_attention(*sample, topk=topk) for sample in zip(q, k, v, is_landmark, strict=True)]
        return torch.stack(rows)
    s = q @ k.mT / q.shape[-1] ** 0.5
    length, marks = len(k), [m for m in range(len(k)) if is_landmark[m]]
    starts = [0, *(mark + 1 for mark in marks)]
    out = []
    for n in range(length):
        block = sum(mark < n for mark in marks)
        closed = range(block)
        if topk is not None:
            closed = sorted(closed, key=lambda b: -s[n, marks[b]].item())[:topk]
        own = [m for m in range(starts[block], n + 1) if m not in marks]
        bucket = [*own, *(marks[b] for b in closed)]
        weights = dict(zip(bucket, torch.softmax(s[n, bucket], -1), strict=True))
        mixed = sum((weights[m] * v[m] for m in own), torch.zeros_like(v[0]))
        for b in closed:
            tokens = list(range(starts[b], marks[b]))
            if tokens:
                mixed = mixed + weights[marks[b]] * (torch.softmax(s[n, tokens], -1) @ v[tokens])
        out.append(mixed)
    return torch.stack(out)


def landmark_attention_topk(q: Tensor, k: Tensor, v: Tensor, is_landmark: Tensor, *, topk: int = 2) -> Tensor:
    return landmark_attention(q, k, v, is_landmark, topk=topk)


def combiner_logsparse(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Query by query, block by block."""
    scale = q.shape[-1] ** 0.5
    rows = []
    for i in range(q.shape[-2]):
        scores = [(q[..., i, :] * k[..., i, :]).sum(-1) / scale]
        values = [v[..., i, :]]
        for level in range(i.bit_length()):
            if i >> level & 1:
                first = ((i >> level) - 1) << level
                block = slice(first, first + (1 << level))
                keys = k[..., block, :]
                weight = torch.softmax((keys @ q[..., block, :].amax(-2)[..., None]).squeeze(-1) / scale, -1)
                scores.append((q[..., i, :] * keys.amax(-2)).sum(-1) / scale)
                values.append((weight[..., None] * v[..., block, :]).sum(-2))
        joint = torch.softmax(torch.stack(scores, -1), -1)
        rows.append((joint[..., None] * torch.stack(values, -2)).sum(-2))
    return torch.stack(rows, -2)


# -- transforms ----------------------------------------------------------------------------------------


def _smooth(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    rows = x.reshape(-1, *x.shape[-2:])
    return conv1d(rows, kernel[:, None], bias, padding=1, groups=x.shape[-2]).reshape(x.shape)


def orchid_kernel_abs(x: Tensor, *, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    return _smooth(torch.fft.rfft(_smooth(x, w1, b1)).abs(), w2, b2)


def orchid_mixer(freq_kernel: Tensor, s1: Tensor, s2: Tensor, v: Tensor, *, h0: Tensor) -> Tensor:
    """In frequency, where the mean (and the fastest wave) has no phase."""
    length = v.shape[-1]
    phased = torch.ones(length // 2 + 1, dtype=v.dtype)
    phased[0] = 0
    if length % 2 == 0:
        phased[-1] = 0
    kernel = torch.fft.rfft(h0) + torch.complex(freq_kernel.real, freq_kernel.imag * phased)
    return s2 * torch.fft.irfft(kernel * torch.fft.rfft(s1 * v), n=length)


def orchid_kernel_corr(
    x: Tensor, *, wk: Tensor, bk: Tensor, wq: Tensor, bq: Tensor, w2: Tensor, b2: Tensor
) -> Tensor:
    product = torch.fft.rfft(_smooth(x, wk, bk)).conj() * torch.fft.rfft(_smooth(x, wq, bq))
    return torch.complex(_smooth(product.real, w2, b2), _smooth(product.imag, w2, torch.zeros_like(b2)))


def spectral_conv(x: Tensor, *, weight: Tensor) -> Tensor:
    """The sums as they are printed."""
    length, modes = x.shape[-2], weight.shape[0]
    angle = 2 * torch.pi * torch.outer(torch.arange(modes), torch.arange(length)).to(x.dtype) / length
    wave = torch.polar(torch.ones_like(angle), -angle)
    z = torch.einsum("kn,...nc,kco->...ko", wave, x.to(wave.dtype), weight)
    twice = torch.tensor([1.0 if k == 0 or 2 * k == length else 2.0 for k in range(modes)], dtype=x.dtype)
    return torch.einsum("k,kn,...ko->...no", twice.to(wave.dtype), wave.conj(), z).real / length


def unified_token_mixing_fourier(x: Tensor) -> Tensor:
    return torch.fft.fft2(x).real


def vfpt_prompts(p: Tensor) -> Tensor:
    """As a sum of waves over both axes."""
    rows, columns = p.shape[-2:]
    turns = (torch.outer(torch.arange(n), torch.arange(n)).to(p.dtype) / n for n in (rows, columns))
    down, across = (2 * torch.pi * turn for turn in turns)
    return down.cos() @ p @ across.cos() - down.sin() @ p @ across.sin()
