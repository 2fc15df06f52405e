"""Recurrences that no contraction expresses: token by token, with the gradients of inner losses taken by torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import gelu, softplus

from .common import attend, heads, masked_softmax, repeat_heads, unit

Memory = Sequence[Tensor]


def rescorla_wagner_attention(ts: Tensor, cs: Tensor, us: Tensor, beta: Tensor) -> Tensor:
    """All tokens at once: what each adds to the memory solves a unit-triangular system."""
    size = cs.shape[-2]
    ahead = torch.tril(beta[..., None] * (cs @ cs.mT), -1) + torch.eye(size, dtype=cs.dtype)
    added = torch.linalg.solve_triangular(ahead, beta[..., None] * us, upper=False, unitriangular=True)
    return torch.tril(ts @ cs.mT) @ added


def _gated_delta(q: Tensor, k: Tensor, v: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """S = (I - beta k k^T) diag(alpha) S + beta k v^T; alpha[..., N, D]."""
    state = torch.zeros_like(k[..., 0, :, None] * v[..., 0, None, :])
    identity = torch.eye(k.shape[-1], dtype=k.dtype)
    rows = []
    for n in range(k.shape[-2]):
        key, rate = k[..., n, :, None], beta[..., n, None, None]
        state = (identity - rate * key @ key.mT) @ (alpha[..., n, :, None] * state) + rate * key @ v[..., n, None, :]
        rows.append((q[..., n, None, :] @ state).squeeze(-2))
    return torch.stack(rows, -2)


def gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, *, rate: Tensor, bias: Tensor
) -> Tensor:  # fmt: skip
    alpha = torch.exp(-rate.exp()[:, None] * softplus(a + bias[:, None]))
    return _gated_delta(unit(q), unit(k), v, alpha[..., None].expand_as(k), torch.sigmoid(b))


def kimi_delta_attention(q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor, *, rate: Tensor) -> Tensor:
    alpha = torch.exp(-rate.exp()[:, None, None] * softplus(g))
    return _gated_delta(unit(q), unit(k), v, alpha, torch.sigmoid(b))


def rwkv7(
    r: Tensor, k: Tensor, v: Tensor, w: Tensor, a: Tensor, *, removed: Tensor, mixed: Tensor, bonus: Tensor
) -> Tensor:  # fmt: skip
    decay, rate = torch.exp(-math.exp(-0.5) * torch.sigmoid(w)), torch.sigmoid(a)
    removal = unit(k * removed[:, None])
    key = k + k * (rate - 1) * mixed[:, None]
    state = torch.zeros_like(v[..., 0, :, None] * k[..., 0, None, :])
    rows = []
    for n in range(k.shape[-2]):
        away = removal[..., n, :, None] @ (rate * removal)[..., n, None, :]
        state = state @ (torch.diag_embed(decay[..., n, :]) - away) + v[..., n, :, None] @ key[..., n, None, :]
        rows.append((state @ r[..., n, :, None]).squeeze(-1))
    weight = (r * bonus[:, None] * key).sum(-1, keepdim=True)
    return torch.stack(rows, -2) + weight * v


def longhorn(q: Tensor, k: Tensor, v: Tensor, b: Tensor) -> Tensor:
    beta, square = torch.sigmoid(b), (k * k).sum(-1, keepdim=True)
    delta = beta / (1 + beta * square)
    state = torch.zeros_like(v[..., 0, :, None] * k[..., 0, None, :])
    rows = []
    for n in range(k.shape[-2]):
        key, step = k[..., n, None, :], delta[..., n, :, None]
        state = (1 - step * key**2) * state + (step * v[..., n, :, None]) * key
        rows.append((state @ q[..., n, :, None]).squeeze(-1))
    return torch.stack(rows, -2)


def state_space_duality(
    x: Tensor, B: Tensor, C: Tensor, dt: Tensor, *, log_a: Tensor, skip: Tensor, bias: Tensor
) -> Tensor:  # fmt: skip
    times = x.shape[-3] // B.shape[-3]
    B, C = repeat_heads(B, times), repeat_heads(C, times)
    step = softplus(dt + bias[:, None])
    state = torch.zeros_like(B[..., 0, :, None] * x[..., 0, None, :])
    rows = []
    for n in range(x.shape[-2]):
        state = torch.exp(-log_a.exp() * step[..., n])[..., None, None] * state
        state = state + B[..., n, :, None] * (step[..., n, None] * x[..., n, :])[..., None, :]
        rows.append((C[..., n, None, :] @ state).squeeze(-2))
    return torch.stack(rows, -2) + skip[:, None, None] * x


@torch.enable_grad()  # also where a test wants no gradient of the result
def _learn(
    model: Callable[[Memory, Tensor], Tensor],
    start: Memory,
    tokens: tuple[Tensor, ...],
    chunk: int,
    loss_scale: float,
) -> Tensor:
    """Gradient descent on |model(k) - v|^2 with momentum and forgetting; the answer of the model to every q."""
    q, k, v, theta, eta, alpha = tokens
    weights = [w.expand(*q.shape[:-2], *w.shape) for w in start]
    momenta = [torch.zeros_like(w) for w in weights]
    rows = []
    for n in range(q.shape[-2]):
        if n % chunk == 0:
            anchors = weights
        leaves = [a.detach().requires_grad_() if not a.requires_grad else a for a in anchors]
        loss = loss_scale * (model(leaves, k[..., n, :]) - v[..., n, :]).square().sum()
        gradients = torch.autograd.grad(loss, leaves, create_graph=True)
        step, keep, forget = (x[..., n, None, None] for x in (theta, eta, alpha))
        momenta = [keep * s - step * g for s, g in zip(momenta, gradients, strict=True)]
        weights = [(1 - forget) * w + s for w, s in zip(weights, momenta, strict=True)]
        rows.append(model(weights, q[..., n, :]))
    return torch.stack(rows, -2)


def _linear(memory: Memory, x: Tensor) -> Tensor:
    return torch.einsum("...d,...de->...e", x, memory[0])


def titans_linear_memory(
    q: Tensor, k: Tensor, v: Tensor, theta: Tensor, eta: Tensor, alpha: Tensor, *, w0: Tensor, chunk: int = 1,
    grad_scale: float = 2,
) -> Tensor:  # fmt: skip
    return _learn(_linear, [w0], (q, k, v, theta, eta, alpha), chunk, grad_scale / 2)


def titans_linear_memory_chunked(*tokens: Tensor, w0: Tensor, chunk: int = 64, grad_scale: float = 2) -> Tensor:
    return _learn(_linear, [w0], tokens, chunk, grad_scale / 2)


def titans_deep_memory(*tokens: Tensor, w1: Tensor, w2: Tensor, chunk: int = 1) -> Tensor:
    def model(memory: Memory, x: Tensor) -> Tensor:
        return _linear(memory[1:], gelu(_linear(memory[:1], x)))

    return _learn(model, [w1, w2], tokens, chunk, 1.0)


def titans_mac(
    x: Tensor, *, persist: Tensor, wq: Tensor, wk: Tensor, wv: Tensor, wo: Tensor, w0: Tensor, segment: int = 64,
    forget: float = 0.1, rate: float = 0.01,
) -> Tensor:  # fmt: skip
    """Attention over all rows of [persist, recalled, segment], the last of them kept."""
    memory, out = w0, []
    for part in x.split(segment, -2):
        z = torch.cat([persist.expand(*x.shape[:-2], -1, -1), part @ memory, part], -2)
        seen = torch.ones(z.shape[-2], z.shape[-2], dtype=torch.bool).tril()
        mixed = attend(heads(z, wq), heads(z, wk), heads(z, wv), seen)[..., -segment:, :]
        y = torch.einsum("...hne,hec->...nc", mixed, wo)
        memory = (1 - forget) * memory + rate * torch.einsum("...nc,...nd->...cd", y, y)
        out.append(y * (y @ memory))
    return torch.cat(out, -2)


def feedback_loop_fusion(
    x_cnn: Tensor, x_tr: Tensor, s0: Tensor, *, wq: Tensor, wk1: Tensor, wv1: Tensor, wk2: Tensor, wv2: Tensor,
    wg: Tensor, bg: Tensor, wu: Tensor, steps: int = 3,
) -> Tensor:  # fmt: skip
    s = s0
    for _ in range(steps):
        r1 = attend(s @ wq.mT, x_cnn @ wk1.mT, x_cnn @ wv1.mT)
        r2 = attend(s @ wq.mT, x_tr @ wk2.mT, x_tr @ wv2.mT)
        gate = torch.sigmoid(torch.cat([r1, r2], -1) @ wg.mT + bg)
        mix = torch.lerp(r2, r1, gate)
        s = s + mix @ wu.mT
    return mix


def pointer_decode(
    enc: Tensor, inputs: Tensor, h: Tensor, c: Tensor, *, start: Tensor, wx: Tensor, wh: Tensor, b: Tensor,
    w1: Tensor, w2: Tensor, v: Tensor, steps: int = 10,
) -> Tensor:  # fmt: skip
    """torch's own LSTM cell, whose gates stand in the same order."""
    batch, width = enc.shape[:-2], enc.shape[-1]
    x = start.expand(*batch, -1).reshape(-1, start.shape[-1])
    state = (h.reshape(-1, width), c.reshape(-1, width))
    free = torch.ones(*batch, enc.shape[-2], dtype=torch.bool)
    rows = []
    for _ in range(steps):
        state = torch.lstm_cell(x, state, wx.mT, wh.mT, b, torch.zeros_like(b))
        query = state[0].reshape(*batch, 1, width)
        p = masked_softmax(torch.tanh(enc @ w1 + query @ w2) @ v, free)
        chosen = p.argmax(-1, keepdim=True)
        x = inputs.take_along_dim(chosen[..., None], -2).reshape(-1, inputs.shape[-1])
        free = free.scatter(-1, chosen, False)
        rows.append(p)
    return torch.stack(rows, -2)
