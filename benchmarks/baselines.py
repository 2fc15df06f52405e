"""What the compiled modules are compared with: the best plain PyTorch known for each formula, written by hand.

Every function takes what the formula takes, in its order, with batch axes in front, then the parameters of the module.
Those that have a free choice (`chunk`, `block`) leave it to the caller, who tries several and keeps the fastest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache, wraps
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

Attention = Callable[..., Tensor]


HALF = (torch.float16, torch.bfloat16)


def in_full_precision(function: Attention) -> Attention:
    """The function of tensors in half precision by way of float32: sums over a long sequence have no digits in half."""

    @wraps(function)
    def wide(*tensors: Tensor, **choices: int) -> Tensor:
        dtype = tensors[0].dtype
        if dtype not in HALF:
            return function(*tensors, **choices)
        return function(*(x.float() if x.dtype == dtype else x for x in tensors), **choices).to(dtype)

    return wide


# -- linear attention -----------------------------------------------------------------------------------------


def linear_by_matmul(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Normalised linear attention, keys and values first: q[..., N, D], k[..., M, D], v[..., M, E] -> [..., N, E]."""
    q, k = functional.elu(q) + 1, functional.elu(k) + 1
    return (q @ (k.mT @ v)) / (q @ k.sum(-2).unsqueeze(-1))


def linear_by_einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same in einsum, two operands at a time."""
    q, k = functional.elu(q) + 1, functional.elu(k) + 1
    state = torch.einsum("...md,...me->...de", k, v)
    weight = torch.einsum("...nd,...d->...n", q, k.sum(-2))
    return torch.einsum("...nd,...de->...ne", q, state) / weight.unsqueeze(-1)


def _chunks(chunk: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The tensors [B, N, X] cut along N; one cut, so that the gradient of a chunk is not as long as the sequence."""
    return zip(*(torch.split(x, chunk, 1) for x in tensors), strict=True)


@in_full_precision
def causal_linear_loop(q: Tensor, k: Tensor, v: Tensor, *, chunk: int) -> Tensor:
    """Causal linear attention, chunk by chunk with a carried state; feature maps inside, where a chunk is in cache."""
    batch = q.shape[:-2]
    q, k, v = q.flatten(0, -3), k.flatten(0, -3), v.flatten(0, -3)
    state, total = torch.zeros_like(k[:, :1].mT @ v[:, :1]), torch.zeros_like(k[:, :1].mT)
    parts = []
    for qc, kc, vc in _chunks(chunk, q, k, v):
        qc, kc = functional.elu(qc) + 1, functional.elu(kc) + 1
        score = torch.bmm(qc, kc.mT).tril()
        weight = torch.baddbmm(score.sum(-1, keepdim=True), qc, total)
        parts.append(torch.baddbmm(torch.bmm(score, vc), qc, state) / weight)
        state, total = torch.baddbmm(state, kc.mT, vc), total + kc.sum(-2).unsqueeze(-1)
    return torch.cat(parts, 1).view(*batch, q.size(1), -1)


def causal_linear_by_compiled_chunks(q: Tensor, k: Tensor, v: Tensor, *, chunk: int) -> Tensor:
    """The same loop, of which each turn is one function under torch.compile: compiled once, not turn by turn."""
    turn, batch = _compiled_turn(), q.shape[:-2]
    q, k, v = q.flatten(0, -3), k.flatten(0, -3), v.flatten(0, -3)
    state, total = torch.zeros_like(k[:, :1].mT @ v[:, :1]), torch.zeros_like(k[:, :1].mT)
    parts = []
    for qc, kc, vc in _chunks(chunk, q, k, v):
        part, state, total = turn(qc, kc, vc, state, total)
        parts.append(part)
    return torch.cat(parts, 1).view(*batch, q.size(1), -1)


@cache
def _compiled_turn() -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    def turn(
        q: Tensor, k: Tensor, v: Tensor, state: Tensor, total: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        q, k = functional.elu(q) + 1, functional.elu(k) + 1
        score = torch.bmm(q, k.mT).tril()
        weight = torch.baddbmm(score.sum(-1, keepdim=True), q, total)
        part = torch.baddbmm(torch.bmm(score, v), q, state) / weight
        return part, torch.baddbmm(state, k.mT, v), total + k.sum(-2).unsqueeze(-1)

    made: Callable[..., tuple[Tensor, Tensor, Tensor]] = torch.compile(turn, fullgraph=True, dynamic=False)
    return made


def decayed_loop(q: Tensor, k: Tensor, v: Tensor, rate: Tensor, *, chunk: int) -> Tensor:
    """Causal attention with the weight exp(rate[h] (n - m)) and no softmax: q[B, H, N, D], rate[H]."""
    batch, rate = q.shape[:-2], rate.expand(q.shape[:-2]).reshape(-1, 1, 1)
    q, k, v = q.flatten(0, -3), k.flatten(0, -3), v.flatten(0, -3)
    position = torch.arange(chunk, device=q.device)
    lag = position.unsqueeze(-1) - position
    decay = torch.exp(rate * lag.clamp(min=0)).tril()
    early, late = torch.exp(rate * (position + 1).unsqueeze(-1)), torch.exp(rate * (chunk - 1 - position.unsqueeze(-1)))
    state, parts = torch.zeros_like(k[:, :1].mT @ v[:, :1]), []
    for qc, kc, vc in _chunks(chunk, q, k, v):
        size = qc.size(1)
        score = torch.bmm(qc, kc.mT) * decay[:, :size, :size]
        parts.append(torch.baddbmm(torch.bmm(score, vc), qc * early[:, :size], state))
        state = torch.baddbmm(state * early[:, size - 1 : size], (kc * late[:, chunk - size :]).mT, vc)
    return torch.cat(parts, 1).view(*batch, q.size(1), -1)


@in_full_precision
def retention_loop(q: Tensor, k: Tensor, v: Tensor, *, chunk: int) -> Tensor:
    """Retention with the rates of its paper: 1 - 2^(-5 - h)."""
    return decayed_loop(q, k, v, retention_rate(q), chunk=chunk)


@in_full_precision
def lightning_loop(q: Tensor, k: Tensor, v: Tensor, slope: Tensor, *, chunk: int) -> Tensor:
    """Lightning attention: the decay exp(-slope[h])."""
    return decayed_loop(q, k, v, -slope, chunk=chunk)


def retention_rate(q: Tensor) -> Tensor:
    """The logarithm of retention's decay for every head of q[..., H, N, D], in the dtype of q."""
    heads = torch.arange(q.size(-3), device=q.device, dtype=torch.float64)
    return torch.log1p(-(2.0 ** (-5 - heads))).to(q.dtype)


@in_full_precision
def taylor_loop(q: Tensor, k: Tensor, v: Tensor, *, chunk: int) -> Tensor:
    """Second-order Taylor attention: the polynomial itself inside a chunk, D + D^2 features for what lies before."""
    batch, scale = q.shape[:-2], q.size(-1) ** -0.5
    q, k, v = (q * scale).flatten(0, -3), k.flatten(0, -3), functional.pad(v, (0, 1), value=1.0).flatten(0, -3)
    first = torch.zeros_like(k[:, :1].mT @ v[:, :1])
    second = first.repeat(1, k.size(-1), 1)
    constant, parts = torch.zeros_like(v[:, :1]), []
    for qc, kc, vc in _chunks(chunk, q, k, v):
        score = torch.bmm(qc, kc.mT)
        out = torch.bmm((1 + score + score.square() / 2).tril(), vc) + constant + torch.bmm(qc, first)
        q2 = (qc.unsqueeze(-1) * qc.unsqueeze(-2)).flatten(-2)
        k2 = (kc.unsqueeze(-1) * kc.unsqueeze(-2)).flatten(-2)
        out = torch.baddbmm(out, q2, second, alpha=0.5)
        parts.append(out[..., :-1] / out[..., -1:])
        first, second = torch.baddbmm(first, kc.mT, vc), torch.baddbmm(second, k2.mT, vc)
        constant = constant + vc.sum(1, keepdim=True)
    return torch.cat(parts, 1).view(*batch, q.size(1), -1)


@in_full_precision
def prefix_by_cumsum(k: Tensor, v: Tensor, query: Tensor) -> Tensor:
    """Softmax averages of one learned query over every prefix, by running sums: k[..., H, N, D], query[H, D].

    One maximum for the whole sequence is subtracted, so it is not safe where scores differ by more than 80.
    """
    score = (k @ query.unsqueeze(-1)) * k.size(-1) ** -0.5
    weight = torch.exp(score - score.amax(-2, keepdim=True))
    return torch.cumsum(weight * v, -2) / torch.cumsum(weight, -2)


@in_full_precision
def prefix_by_spans(k: Tensor, v: Tensor, query: Tensor, *, chunk: int) -> Tensor:
    """The same for any scores: each span subtracts its last maximum, and is halved where the maximum rises by more."""
    score = (k @ query.unsqueeze(-1)) * k.size(-1) ** -0.5
    top = torch.cummax(score, -2)[0]
    last, total, mixed = top[..., :1, :], torch.zeros_like(top[..., :1, :]), torch.zeros_like(v[..., :1, :])
    spans, parts = [(x, min(x + chunk, v.size(-2))) for x in range(0, v.size(-2), chunk)][::-1], []
    while spans:
        start, stop = spans.pop()
        end = top[..., stop - 1 : stop, :]
        if stop - start > 1 and bool((end - last).amax() > 60):
            middle = (start + stop) // 2
            spans += [(middle, stop), (start, middle)]
            continue
        weight, kept = torch.exp(score[..., start:stop, :] - end), torch.exp(last - end)
        below = torch.cumsum(weight, -2) + kept * total
        above = weight * v[..., start:stop, :]
        above[..., :1, :] += kept * mixed
        above = torch.cumsum(above, -2)
        parts.append(above / below)
        last, total, mixed = end, below[..., -1:, :], above[..., -1:, :]
    return torch.cat(parts, -2)


# -- softmax attention ----------------------------------------------------------------------------------------


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """torch's own softmax attention."""
    return functional.scaled_dot_product_attention(q, k, v)


def fused_causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """torch's own causal softmax attention."""
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def alibi_slopes(q: Tensor) -> Tensor:
    """One slope per head of q[..., H, N, D]."""
    heads = q.size(-3)
    return 2.0 ** (-8 * (torch.arange(heads, device=q.device, dtype=q.dtype) + 1) / heads)


def alibi_by_bias(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention with ALiBi: mask and bias as one matrix [H, N, M] for torch's own attention."""
    position = torch.arange(q.size(-2), device=q.device)
    lag = position.unsqueeze(-1) - position
    bias = (-alibi_slopes(q).view(-1, 1, 1) * lag).masked_fill(lag < 0, float("-inf"))
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def alibi_by_flex(q: Tensor, k: Tensor, v: Tensor) -> Attention:
    """Compiled FlexAttention with a score function and a block mask, which are made here once."""
    slopes = alibi_slopes(q)
    mask = create_block_mask(_causal, None, None, q.size(-2), k.size(-2), device=q.device)
    flex = torch.compile(flex_attention)

    def biased(score: Tensor, batch: Tensor, head: Tensor, n: Tensor, m: Tensor) -> Tensor:
        return score - slopes[head] * (n - m)

    return lambda q, k, v: flex(q, k, v, score_mod=biased, block_mask=mask)


def _causal(batch: Tensor, head: Tensor, n: Tensor, m: Tensor) -> Tensor:
    return n >= m


def band_by_mask(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Grouped heads that see themselves and the 128 tokens before: the whole map, masked by torch's own attention."""
    position = torch.arange(q.size(-2), device=q.device)
    lag = position.unsqueeze(-1) - position
    mask = (lag >= 0) & (lag <= BAND)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


def band_by_blocks(q: Tensor, k: Tensor, v: Tensor, *, block: int) -> Tensor:
    """The same, block by block of queries, each with the keys that it can see."""
    length, position, parts = q.size(-2), torch.arange(q.size(-2), device=q.device), []
    for start in range(0, length, block):
        stop, first = min(start + block, length), max(start - BAND, 0)
        lag = position[start:stop].unsqueeze(-1) - position[first:stop]
        seen = (q[..., start:stop, :], k[..., first:stop, :], v[..., first:stop, :])
        mask = (lag >= 0) & (lag <= BAND)
        parts.append(functional.scaled_dot_product_attention(*seen, attn_mask=mask, enable_gqa=True))
    return torch.cat(parts, -2)


def band_by_flex(q: Tensor, k: Tensor, v: Tensor) -> Attention:
    """Compiled FlexAttention with the band as its block mask, which is made here once."""
    mask = create_block_mask(_band, None, None, q.size(-2), k.size(-2), device=q.device)
    flex = torch.compile(flex_attention)
    return lambda q, k, v: flex(q, k, v, block_mask=mask, enable_gqa=True)


def _band(batch: Tensor, head: Tensor, n: Tensor, m: Tensor) -> Tensor:
    return (n >= m) & (n - m <= BAND)


def grouped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Query heads that share heads of keys and values, under a mask: q[B, H, N, D], k[B, G, M, D], mask[N, M]."""
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


def sigmoid_by_map(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Sigmoid attention with the bias -log M: q[B, N, D], k[B, M, D]."""
    return torch.sigmoid((q * q.size(-1) ** -0.5) @ k.mT - math.log(k.size(-2))) @ v


def sigmoid_by_blocks(q: Tensor, k: Tensor, v: Tensor, *, block: int) -> Tensor:
    """The same for a block of queries after the other."""
    return torch.cat([sigmoid_by_map(part, k, v) for part in torch.split(q, block, -2)], -2)


BAND = 128
"""Tokens that the sliding window sees before the query, as in the example `sliding_window_attention`."""

WINDOW = 49
"""Tokens of a window, as in the example `swin_window`."""


def windows_by_view(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention inside windows of 49 tokens, windows as a batch axis; the last one may be shorter."""
    whole = q.size(-2) // WINDOW * WINDOW
    windows = [x[..., :whole, :].unflatten(-2, (-1, WINDOW)) for x in (q, k, v)]  # type: ignore[no-untyped-call]
    mixed = fused(*windows).flatten(-3, -2)
    if whole == q.size(-2):
        return mixed
    return torch.cat([mixed, fused(*(x[..., whole:, :] for x in (q, k, v)))], -2)


# -- convolution ----------------------------------------------------------------------------------------------


@in_full_precision
def convolution_by_fft(x: Tensor, h: Tensor) -> Tensor:
    """A causal convolution per channel as long as the sequence: x[..., N, C], h[N, C]."""
    length = x.size(-2)
    spectrum = torch.fft.rfft(x, n=2 * length, dim=-2) * torch.fft.rfft(h, n=2 * length, dim=-2)
    mixed: Tensor = torch.fft.irfft(spectrum, n=2 * length, dim=-2)[..., :length, :]
    return mixed


# -- one token at a time ---------------------------------------------------------------------------------------


def linear_state(q: Tensor, k: Tensor, v: Tensor) -> Attention:
    """Causal linear attention after the tokens k, v: a step adds one key and value to the sums and reads them."""
    k = functional.elu(k) + 1
    sums, total = k.mT @ v, k.sum(-2).unsqueeze(-1)

    def step(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = functional.elu(q) + 1, functional.elu(k) + 1
        return (q @ (sums + k.mT * v)) / (q @ (total + k.mT))

    return step


def retention_state(q: Tensor, k: Tensor, v: Tensor) -> Attention:
    """Retention after the tokens k, v."""
    rate = retention_rate(q).unsqueeze(-1)
    lag = torch.arange(k.size(-2), 0, -1, device=q.device) - 1
    sums = (k * torch.exp(rate * lag).unsqueeze(-1)).mT @ v
    kept = torch.exp(rate).unsqueeze(-1)

    def step(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return q @ (sums * kept + k.mT * v)

    return step


#: Tokens that a cache takes before it starts again where it was prepared: what is timed are steps of this many.
AHEAD = 64


def fused_cache(q: Tensor, k: Tensor, v: Tensor) -> Attention:
    """Softmax attention after the tokens k, v, and after those of the calls before: torch's own, over a cache that is
    copied for every token."""
    start = k.size(-2)
    keys, values = k, v

    def step(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        nonlocal keys, values
        before = slice(None) if keys.size(-2) < start + AHEAD else slice(start)
        keys, values = torch.cat([keys[..., before, :], k], -2), torch.cat([values[..., before, :], v], -2)
        return functional.scaled_dot_product_attention(q, keys, values)

    return step


def static_cache(q: Tensor, k: Tensor, v: Tensor) -> Attention:
    """The same over a cache that was allocated for the longest sequence: a token is written into its place."""
    start = k.size(-2)
    keys, values = (x.new_empty(*x.shape[:-2], start + AHEAD, x.size(-1)) for x in (k, v))
    keys[..., :start, :], values[..., :start, :] = k, v
    count = start

    def step(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        nonlocal count
        if count == start + AHEAD:
            count = start
        keys.narrow(-2, count, 1).copy_(k)
        values.narrow(-2, count, 1).copy_(v)
        count += 1
        return functional.scaled_dot_product_attention(q, keys.narrow(-2, 0, count), values.narrow(-2, 0, count))

    return step


# -- flash-linear-attention, where it is installed ------------------------------------------------------------


def library_linear(q: Tensor, k: Tensor, v: Tensor) -> Attention | None:
    """Its chunked reference for causal linear attention, on tensors [B, N, H, D] in whole chunks of 64."""
    try:
        from fla.ops.linear_attn.naive import naive_chunk_linear_attn
    except ImportError:
        return None

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = functional.elu(q) + 1, functional.elu(k) + 1
        arguments = (x.transpose(1, 2) for x in (q, k, v))
        out: Tensor = naive_chunk_linear_attn(*arguments, scale=1.0, normalize=True)
        return out.transpose(1, 2)

    return attention if q.size(-2) % 64 == 0 else None


def library_decayed(q: Tensor, k: Tensor, v: Tensor, *slope: Tensor) -> Attention | None:
    """Its chunked reference for a decay per head, on tensors [B, N, H, D]; slope[H], else retention's."""
    try:
        from fla.ops.simple_gla.naive import naive_chunk_simple_gla
    except ImportError:
        return None

    def attention(q: Tensor, k: Tensor, v: Tensor, *slope: Tensor) -> Tensor:
        rate = -slope[0] if slope else retention_rate(q)
        gate = rate.expand(q.size(0), q.size(-2), -1)
        out: Tensor = naive_chunk_simple_gla(*(x.transpose(1, 2) for x in (q, k, v)), gate, scale=1.0)[0]
        return out.transpose(1, 2)

    return attention


def _kernels(q: Tensor) -> bool:
    """Whether its kernels run on tensors like this one."""
    return q.is_cuda and q.dtype in HALF and find_spec("fla") is not None


def kernels_linear(q: Tensor, k: Tensor, v: Tensor) -> Attention | None:
    """Its kernels for causal linear attention."""
    if not _kernels(q):
        return None
    from fla.ops.linear_attn import chunk_linear_attn

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = functional.elu(q) + 1, functional.elu(k) + 1
        out: Tensor = chunk_linear_attn(*(x.transpose(1, 2) for x in (q, k, v)), scale=1.0, normalize=True)[0]
        return out.transpose(1, 2)

    return attention


def kernels_decayed(q: Tensor, k: Tensor, v: Tensor, *slope: Tensor) -> Attention | None:
    """Its kernels for a decay per head; slope[H], else retention's."""
    if not _kernels(q):
        return None
    from fla.ops.simple_gla import chunk_simple_gla

    def attention(q: Tensor, k: Tensor, v: Tensor, *slope: Tensor) -> Tensor:
        rate = -slope[0].float() if slope else retention_rate(q.float())
        arguments = [x.transpose(1, 2) for x in (q, k, v)]
        out: Tensor = chunk_simple_gla(*arguments, g_gamma=rate, scale=1.0)[0]
        return out.transpose(1, 2)

    return attention
