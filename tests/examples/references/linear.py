"""Linear attention: sums over the keys first, or a state that runs along them, never a map of queries and keys."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import elu, silu

from .common import attend, causal, heads, lag, layer_norm, merge_heads, positions, unit


def _normalised(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(q k^T v) / (q k^T 1) for features q and k."""
    return (q @ (k.mT @ v)) / (q @ k.sum(-2)[..., None])


def _scan(q: Tensor, k: Tensor, v: Tensor, decay: Callable[[int], Tensor | float] = lambda n: 1.0) -> Tensor:
    """S <- decay S + k v^T, o = q S, token by token; decay broadcasts against [..., D, E]."""
    state = torch.zeros_like(k[..., 0, :, None] * v[..., 0, None, :])
    out = []
    for n in range(q.shape[-2]):
        state = decay(n) * state + k[..., n, :, None] * v[..., n, None, :]
        out.append((q[..., n, None, :] @ state)[..., 0, :])
    return torch.stack(out, -2)


def _with_ones(v: Tensor) -> Tensor:
    return torch.cat([v, torch.ones_like(v[..., :1])], -1)


def linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _normalised(elu(q) + 1, elu(k) + 1, v)


def causal_linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    out = _scan(elu(q) + 1, elu(k) + 1, _with_ones(v))
    return out[..., :-1] / out[..., -1:]


def efficient_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q, -1) @ (torch.softmax(k, -2).mT @ v)


def relu_linear_attention(q: Tensor, k: Tensor, v: Tensor, *, eps: float = 1e-6) -> Tensor:
    q, k = q.clamp(min=0), k.clamp(min=0)
    return (q @ (k.mT @ v)) / (q @ k.sum(-2)[..., None]).clamp(min=eps)


def l2vit_linear_attention(q: Tensor, k: Tensor, v: Tensor, *, temperature: Tensor, den_min: float = 100) -> Tensor:
    return temperature[:, None, None] * relu_linear_attention(q, k, v, eps=den_min)


def cosine_attention(q: Tensor, k: Tensor, v: Tensor, *, power: Tensor) -> Tensor:
    scale = k.shape[-2] ** -torch.sigmoid(power)
    return scale[:, None, None] * (unit(q) @ (unit(k).mT @ v))


def polynomial_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Through the D^2 products of pairs of features."""

    def pairs(x: Tensor) -> Tensor:
        return (x[..., :, None] * x[..., None, :]).flatten(-2)

    return (pairs(q) @ (pairs(k).mT @ v)) / (1 + pairs(q) @ pairs(k).sum(-2)[..., None])


def _taylor_features(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features of orders 0, 1 and 2 of exp(q.k / sqrt(D))."""
    width = x.shape[-1]
    second = (x[..., :, None] * x[..., None, :]).flatten(-2) / math.sqrt(2 * width)
    return torch.ones_like(x[..., :1]), x / width**0.25, second


def taylor_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    out = _scan(torch.cat(_taylor_features(q), -1), torch.cat(_taylor_features(k), -1), _with_ones(v))
    return out[..., :-1] / out[..., -1:]


def taylor_attention_appendix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    total = torch.zeros_like(q[..., :1] * v[..., :1])
    for left, right in zip(_taylor_features(q), _taylor_features(k), strict=True):
        out = _scan(left, right, _with_ones(v))
        total = total + out[..., :-1] / out[..., -1:]
    return total


def kernel_integral_attention(q: Tensor, k: Tensor, v: Tensor, w: Tensor, *, dim: int = -2) -> Tensor:
    def standardised(x: Tensor) -> Tensor:
        centred = x - x.mean(dim, keepdim=True)
        return centred / (centred.square().mean(dim, keepdim=True) + 1e-5).sqrt()

    return q @ (standardised(k).mT @ (w[..., None] * standardised(v)))


def kernel_integral_attention_channels(q: Tensor, k: Tensor, v: Tensor, w: Tensor) -> Tensor:
    return kernel_integral_attention(q, k, v, w, dim=-1)


def agent_attention(q: Tensor, k: Tensor, v: Tensor, agents: Tensor) -> Tensor:
    return attend(q, agents, attend(agents, k, v))


def agent_attention_biased(q: Tensor, k: Tensor, v: Tensor, agents: Tensor, *, b1: Tensor, b2: Tensor) -> Tensor:
    return attend(q, agents, attend(agents, k, v, bias=b1), bias=b2)


def performer_attention(q: Tensor, k: Tensor, v: Tensor, *, omega: Tensor) -> Tensor:
    scale = q.shape[-1] ** -0.25
    return _normalised(prf(q * scale, omega=omega), prf(k * scale, omega=omega), v)


def prf(x: Tensor, *, omega: Tensor) -> Tensor:
    return torch.exp(x @ omega.mT) * torch.exp(-x.square().sum(-1, keepdim=True) / 2) / math.sqrt(omega.shape[0])


def nprf_rpe_attention(q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor, omega: Tensor) -> Tensor:
    return _nprf(q, k, v, bias, omega, torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool))


def nprf_rpe_attention_causal(q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor, omega: Tensor) -> Tensor:
    return _nprf(q, k, v, bias, omega, causal(q.shape[-2]))


def _nprf(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, omega: Tensor, visible: Tensor) -> Tensor:
    """Without the constants of the features, which cancel: the vectors have length 1."""
    length = q.shape[-2]
    toeplitz = torch.where(visible, torch.exp(bias[:, length - 1 - lag(length)]), 0.0)
    left, right = torch.exp(unit(q) @ omega.mT), torch.exp(unit(k) @ omega.mT)
    sums = torch.einsum("hnm,...hmf,...hme->...hnfe", toeplitz, right, _with_ones(v))
    out = torch.einsum("...hnf,...hnfe->...hne", left, sums)
    return out[..., :-1] / out[..., -1:]


def linformer_attention(q: Tensor, k: Tensor, v: Tensor, *, w_k: Tensor, w_v: Tensor) -> Tensor:
    return attend(q, w_k @ k, w_v @ v)


def hydra_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return unit(q) * torch.einsum("...md,...md->...d", unit(k), v)[..., None, :]


def xcit_attention(q: Tensor, k: Tensor, v: Tensor, *, temperature: Tensor) -> Tensor:
    scores = temperature[:, None, None] * (unit(q, -2).mT @ unit(k, -2))
    return (torch.softmax(scores, -1) @ v.mT).mT


def external_attention(q: Tensor, *, keys: Tensor, values: Tensor) -> Tensor:
    weights = torch.softmax(q @ keys.mT, -2)
    return (weights / weights.sum(-1, keepdim=True)) @ values


def induced_set_attention(x: Tensor, y: Tensor, *, points: Tensor) -> Tensor:
    inner = attend(points, y, y)
    return attend(x, inner, inner)


def davit_channel_attention(
    x: Tensor, *, wq: Tensor, wk: Tensor, wv: Tensor, bq: Tensor, bk: Tensor, bv: Tensor, wo: Tensor, bo: Tensor
) -> Tensor:
    q, k, v = heads(x, wq, bq), heads(x, wk, bk), heads(x, wv, bv)
    weights = torch.softmax(k.mT @ v / math.sqrt(k.shape[-1]), -1)
    return torch.einsum("...hnd,hdc->...nc", (weights @ q.mT).mT, wo) + bo


def flow_attention(q: Tensor, k: Tensor, v: Tensor, *, eps: float = 1e-6) -> Tensor:
    q, k = torch.sigmoid(q), torch.sigmoid(k)

    def inner(a: Tensor, b: Tensor) -> Tensor:
        """Tokens a[..., N, D] against one summed vector b[..., D]."""
        return ((a + eps) @ (b + eps)[..., None])[..., 0]

    incoming, outgoing = inner(q, k.sum(-2)), inner(k, q.sum(-2))
    conserved_in = inner(q, (k / outgoing[..., None]).sum(-2))
    conserved_out = inner(k, (q / incoming[..., None]).sum(-2)).clamp(-1, 1)
    competition = torch.softmax(conserved_out, -1) * k.shape[-2]
    mixed = (q / incoming[..., None]) @ (k.mT @ (v * competition[..., None]))
    return torch.sigmoid(conserved_in * q.shape[-2] / k.shape[-2])[..., None] * mixed


def flow_attention_causal(q: Tensor, k: Tensor, v: Tensor, *, eps: float = 1e-6) -> Tensor:
    """Token by token with running sums."""
    q, k = torch.sigmoid(q), torch.sigmoid(k)
    keys = queries = flow_keys = flow_queries = torch.zeros_like(q[..., 0, :])
    strength = torch.zeros_like(q[..., 0, 0])
    state = torch.zeros_like(k[..., 0, :, None] * v[..., 0, None, :])
    out = []
    for n in range(q.shape[-2]):
        own_q, own_k, t = q[..., n, :], k[..., n, :], n + 1
        keys, queries = keys + own_k, queries + own_q
        incoming = ((own_q + eps) * (keys + eps)).sum(-1)
        outgoing = ((own_k + eps) * (queries + eps)).sum(-1)
        flow_keys = flow_keys + own_k * t / outgoing[..., None]
        flow_queries = flow_queries + own_q * t / incoming[..., None]
        conserved_in = ((own_q + eps) * (flow_keys + eps)).sum(-1) / t
        conserved_out = ((own_k + eps) * (flow_queries + eps)).sum(-1) / t
        own = torch.exp(conserved_out.clamp(-1, 1))
        strength = strength + own
        weight = t * own / strength
        state = state + own_k[..., :, None] * (weight[..., None] * v[..., n, :])[..., None, :]
        mixed = (own_q[..., None, :] @ state)[..., 0, :] / incoming[..., None]
        out.append(torch.sigmoid(conserved_in)[..., None] * mixed)
    return torch.stack(out, -2)


def _cosformer_features(x: Tensor, size: int) -> Tensor:
    angle = math.pi / 2 * (positions(x.shape[-2]).to(x.dtype) + 1)[:, None] / size
    return torch.cat([x.clamp(min=0) * torch.sin(angle), x.clamp(min=0) * torch.cos(angle)], -1)


def cosformer_attention(q: Tensor, k: Tensor, v: Tensor, *, eps: float = 1e-6) -> Tensor:
    size = max(q.shape[-2], k.shape[-2])
    q, k = _cosformer_features(q, size), _cosformer_features(k, size)
    return (q @ (k.mT @ v)) / (q @ k.sum(-2)[..., None]).clamp(min=eps)


def cosformer_attention_causal(q: Tensor, k: Tensor, v: Tensor, *, eps: float = 1e-6) -> Tensor:
    size = q.shape[-2]
    out = _scan(_cosformer_features(q, size), _cosformer_features(k, size), _with_ones(v))
    return out[..., :-1] / out[..., -1:].clamp(min=eps)


def mixed_attention(q: Tensor, k: Tensor, v: Tensor, *, choice: Tensor) -> Tensor:
    return choice[0] * attend(q, k, v) + choice[1] * cosformer_attention(q, k, v)


def pavlovian_attention(ts: Tensor, cs: Tensor, us: Tensor) -> Tensor:
    return ts @ (cs.mT @ us)


def pavlovian_attention_causal(ts: Tensor, cs: Tensor, us: Tensor) -> Tensor:
    return _scan(ts, cs, us)


def retention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    rate = torch.tensor([1 - 2.0 ** (-5 - h) for h in range(q.shape[-3])], dtype=q.dtype)
    return _scan(q, k, v, lambda n: rate[:, None, None])


def lightning_attention(q: Tensor, k: Tensor, v: Tensor, slope: Tensor) -> Tensor:
    return _scan(q, k, v, lambda n: torch.exp(-slope)[..., None, None])


def tnl_attention(
    x: Tensor, *, wq: Tensor, wk: Tensor, wv: Tensor, wo: Tensor, wg1: Tensor, wg2: Tensor, ln_g: Tensor, ln_b: Tensor,
    slope: Tensor,
) -> Tensor:  # fmt: skip
    o = lightning_attention(silu(heads(x, wq)), silu(heads(x, wk)), silu(heads(x, wv)), slope)
    return (layer_norm(merge_heads(o), ln_g, ln_b) * torch.sigmoid((x @ wg1) @ wg2)) @ wo


def nala_attention(q: Tensor, k: Tensor, v: Tensor, *, lam: float = 3, eps: float = 1e-6) -> Tensor:
    left, right = _nala_features(q, k, lam)
    size = k.shape[-2]
    return (left @ (right.mT @ v) / size) / (left @ right.sum(-2)[..., None] / size + eps)


def _nala_features(q: Tensor, k: Tensor, lam: float) -> tuple[Tensor, Tensor]:
    length = q.square().sum(-1, keepdim=True).sqrt()
    direction, power = q / length, lam * (0.5 + torch.tanh(length))
    left = torch.cat([direction.clamp(min=0) ** power, (-direction).clamp(min=0) ** power], -1)
    return left, torch.cat([k.clamp(min=0) ** lam, (-k).clamp(min=0) ** lam], -1)


def nala_attention_rotary(
    q: Tensor, k: Tensor, v: Tensor, rot_sin: Tensor, rot_cos: Tensor, *, lam: float = 3, eps: float = 1e-6
) -> Tensor:
    def rotated(x: Tensor) -> Tensor:
        halves = []
        for half in x.chunk(2, -1):
            turned = torch.empty_like(half)
            turned[..., 0::2] = half[..., 0::2] * rot_cos[..., 0::2] - half[..., 1::2] * rot_sin[..., 0::2]
            turned[..., 1::2] = half[..., 1::2] * rot_cos[..., 1::2] + half[..., 0::2] * rot_sin[..., 1::2]
            halves.append(turned)
        return torch.cat(halves, -1)

    left, right = _nala_features(q, k, lam)
    size = k.shape[-2]
    return (rotated(left) @ (rotated(right).mT @ v) / size) / (left @ right.sum(-2)[..., None] / size + eps)


def nala_cos_attention(
    q: Tensor, k: Tensor, v: Tensor, *, lam: float = 3, angle: float = math.pi / 4, eps: float = 1e-6
) -> Tensor:
    """With the cosine of a difference as cos cos + sin sin."""
    length = q.square().sum(-1, keepdim=True).sqrt()
    direction, key = q / length, k / k.square().sum(-1, keepdim=True).sqrt()
    left = direction.abs() ** (lam * (0.5 + torch.tanh(length)))
    right = k.abs() ** lam
    left = torch.cat([left * torch.cos(angle * direction), left * torch.sin(angle * direction)], -1)
    right = torch.cat([right * torch.cos(angle * key), right * torch.sin(angle * key)], -1)
    return (left @ (right.mT @ v)) / (left @ right.sum(-2)[..., None] + eps)


def mlstm(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor) -> Tensor:
    """The recurrent form, with its stabiliser: token by token a memory, what normalises it, and their level."""
    memory = torch.zeros_like(k[..., 0, :, None] * v[..., 0, None, :])
    total, level = torch.zeros_like(k[..., 0, :]), torch.full_like(i[..., 0], -math.inf)
    out = []
    for n in range(q.shape[-2]):
        fallen = level + torch.nn.functional.logsigmoid(f[..., n])
        level = torch.maximum(fallen, i[..., n])
        forget, admit = (torch.exp(gate - level)[..., None] for gate in (fallen, i[..., n]))
        key = admit * k[..., n, :] / math.sqrt(k.shape[-1])
        memory = forget[..., None] * memory + key[..., None] * v[..., n, None, :]
        total = forget * total + key
        scale = torch.maximum((q[..., n, :] * total).sum(-1).abs(), torch.exp(-level))
        out.append((q[..., n, None, :] @ memory)[..., 0, :] / scale[..., None])
    return torch.stack(out, -2)


def selective_ssm(u: Tensor, delta: Tensor, b: Tensor, c: Tensor, *, a: Tensor, d: Tensor) -> Tensor:
    """h <- exp(delta a) h + delta u b, y = h c + d u, over [..., F, S]."""
    state = torch.zeros_like(u[..., 0, :, None] * a)
    out = []
    for n in range(u.shape[-2]):
        drive = (delta[..., n, :] * u[..., n, :])[..., None] * b[..., n, None, :]
        state = torch.exp(delta[..., n, :, None] * a) * state + drive
        out.append((state * c[..., n, None, :]).sum(-1) + d * u[..., n, :])
    return torch.stack(out, -2)


def unified_token_mixing_linear(x: Tensor, *, wq: Tensor, wk: Tensor, wv: Tensor) -> Tensor:
    return linear_attention(x @ wq, x @ wk, x @ wv)
