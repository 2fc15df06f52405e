"""Causal masks, windows, documents, segments: the mask as data, a gather, or one block at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import silu

from .common import attend, causal, heads, lag, positions, repeat_heads


def varlen_causal_attention(q: Tensor, k: Tensor, v: Tensor, doc: Tensor) -> Tensor:
    times = q.shape[-3] // k.shape[-3]
    visible = (doc[..., :, None] == doc[..., None, :]) & causal(q.shape[-2])
    return attend(q, repeat_heads(k, times), repeat_heads(v, times), visible[..., None, :, :])


def varlen_block_causal_attention(q: Tensor, k: Tensor, v: Tensor, doc: Tensor, *, block: int = 64) -> Tensor:
    """The block number of a token, counted by walking along the sequence."""
    start = torch.zeros_like(doc)
    for n in range(1, doc.shape[-1]):
        start[..., n] = torch.where(doc[..., n] == doc[..., n - 1], start[..., n - 1], n)
    number = (positions(doc.shape[-1]) - start) // block
    visible = (doc[..., :, None] == doc[..., None, :]) & (number[..., None, :] <= number[..., :, None])
    times = q.shape[-3] // k.shape[-3]
    return attend(q, repeat_heads(k, times), repeat_heads(v, times), visible[..., None, :, :])


def sliding_window_attention(q: Tensor, k: Tensor, v: Tensor, *, left: int = 128) -> Tensor:
    """Query by query on a slice of the keys."""
    times = q.shape[-3] // k.shape[-3]
    k, v = repeat_heads(k, times), repeat_heads(v, times)
    rows = []
    for n in range(q.shape[-2]):
        seen = slice(max(0, n - left), n + 1)
        rows.append(attend(q[..., n : n + 1, :], k[..., seen, :], v[..., seen, :]))
    return torch.cat(rows, -2)


def swin_window(q: Tensor, k: Tensor, v: Tensor, *, W: int = 49) -> Tensor:
    """Window by window; the last one may be shorter."""
    parts = zip(torch.split(q, W, -2), torch.split(k, W, -2), torch.split(v, W, -2), strict=True)
    return torch.cat([attend(*part) for part in parts], -2)


def davit_window_attention(
    x: Tensor, *, wq: Tensor, wk: Tensor, wv: Tensor, bq: Tensor, bk: Tensor, bv: Tensor, wo: Tensor, bo: Tensor,
    W: int = 7,
) -> Tensor:  # fmt: skip
    rows = []
    for strip in torch.split(x, W, -3):
        windows = []
        for window in torch.split(strip, W, -2):
            flat = window.flatten(-3, -2)
            o = attend(heads(flat, wq, bq), heads(flat, wk, bk), heads(flat, wv, bv))
            y = torch.einsum("...hne,hec->...nc", o, wo) + bo
            windows.append(torch.unflatten(y, -2, window.shape[-3:-1]))
        rows.append(torch.cat(windows, -2))
    return torch.cat(rows, -3)


def _prefix_softmax(scores: Tensor, values: Tensor) -> Tensor:
    """Softmax averages of all prefixes: scores[..., M], values[..., M, E] to [..., M, E]."""
    ends = range(1, scores.shape[-1] + 1)
    rows = [torch.softmax(scores[..., None, :end], -1) @ values[..., :end, :] for end in ends]
    return torch.cat(rows, -2)


def nonapprox_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _prefix_softmax((silu(q) * k).sum(-1) / math.sqrt(q.shape[-1]), v)


def aaren(k: Tensor, v: Tensor, *, query: Tensor) -> Tensor:
    return _prefix_softmax((k @ query[..., None])[..., 0] / math.sqrt(k.shape[-1]), v)


def _neighbours(size: int, window: int, dilation: int) -> list[list[int]]:
    """The keys of every token: the window nearest to it among the tokens of its residue class."""
    table = []
    for n in range(size):
        members = list(range(n % dilation, size, dilation))
        start = min(max(members.index(n) - window // 2, 0), len(members) - window)
        table.append(members[start : start + window])
    return table


def dina_1d(q: Tensor, k: Tensor, v: Tensor, *, rpb: Tensor, window: int = 7, dilation: int = 1) -> Tensor:
    rows = []
    for n, keys in enumerate(_neighbours(q.shape[-2], window, dilation)):
        bias = torch.stack([rpb[:, (m - n) // dilation + window - 1] for m in keys], -1)
        rows.append(attend(q[..., n : n + 1, :], k[..., keys, :], v[..., keys, :], bias=bias[:, None, :]))
    return torch.cat(rows, -2)


def dina_2d(q: Tensor, k: Tensor, v: Tensor, *, rpb: Tensor, window: int = 7, dilation: int = 1) -> Tensor:
    height, width = q.shape[-3:-1]
    out = []
    for y, rows in enumerate(_neighbours(height, window, dilation)):
        for x, columns in enumerate(_neighbours(width, window, dilation)):
            places = [(r, c) for r in rows for c in columns]
            bias = torch.stack(
                [rpb[:, (r - y) // dilation + window - 1, (c - x) // dilation + window - 1] for r, c in places], -1
            )
            keys = torch.stack([k[..., r, c, :] for r, c in places], -2)
            values = torch.stack([v[..., r, c, :] for r, c in places], -2)
            out.append(attend(q[..., y, x, None, :], keys, values, bias=bias[:, None, :]))
    return torch.unflatten(torch.cat(out, -2), -2, (height, width))


def s2_attention(q: Tensor, k: Tensor, v: Tensor, *, group: int = 2048) -> Tensor:
    """Roll half of the heads back, attend causally inside groups, roll forth."""
    count = q.shape[-3]
    out = []
    for h in range(count):
        offset = group // 2 if h >= count // 2 else 0
        own = [torch.split(torch.roll(x[..., h, :, :], -offset, -2), group, -2) for x in (q, k, v)]
        parts = [attend(a, b, c, causal(a.shape[-2])) for a, b, c in zip(*own, strict=True)]
        out.append(torch.roll(torch.cat(parts, -2), offset, -2))
    return torch.stack(out, -3)


def sf_attention(q: Tensor, k: Tensor, v: Tensor, *, group: int = 2048, sinks: int = 4) -> Tensor:
    """The mask as data, entry by entry."""
    count, size = q.shape[-3], q.shape[-2]
    visible = torch.zeros(count, size, size, dtype=torch.bool)
    for h in range(count):
        offset = group // 2 if h >= count - count // 4 else 0
        for n in range(size):
            for m in range(n + 1):
                row, column = (n - offset) % size, (m - offset) % size
                visible[h, n, m] = m < sinks or (row // group == column // group and column <= row)
    return attend(q, k, v, visible)


def titans_mag(
    x: Tensor, mem: Tensor, *, persist: Tensor, wq: Tensor, wk: Tensor, wv: Tensor, wo: Tensor, window: int = 64
) -> Tensor:
    """Attention over [persist, x] with all rows, the persistent ones dropped at the end."""
    kept = persist.shape[0]
    z = torch.cat([persist.expand(*x.shape[:-2], -1, -1), x], -2)
    apart = lag(z.shape[-2])
    visible = ((apart >= 0) & (apart < window)) | (positions(z.shape[-2]) < kept)
    o = attend(heads(z, wq), heads(z, wk), heads(z, wv), visible)[..., kept:, :]
    return torch.einsum("...hne,hec->...nc", o, wo) * mem


def _combine(q: Tensor, k: Tensor, v: Tensor, rows: list[tuple[list[int], list[tuple[Tensor, Tensor]]]]) -> Tensor:
    """Query by query: one softmax over direct keys and given (key, value) summaries."""
    out = []
    for n, (direct, summaries) in enumerate(rows):
        keys = torch.cat([k[..., direct, :], *(key[..., None, :] for key, _ in summaries)], -2)
        values = torch.cat([v[..., direct, :], *(value[..., None, :] for _, value in summaries)], -2)
        out.append(attend(q[..., n : n + 1, :], keys, values))
    return torch.cat(out, -2)


def _block_summary(q: Tensor, k: Tensor, v: Tensor, block: slice) -> tuple[Tensor, Tensor]:
    """The largest key of a block by feature, and the values as its largest query reads them."""
    read = attend(q[..., block, :].amax(-2, keepdim=True), k[..., block, :], v[..., block, :])
    return k[..., block, :].amax(-2), read[..., 0, :]


def combiner_fixed(q: Tensor, k: Tensor, v: Tensor, *, seg: int = 16) -> Tensor:
    size = q.shape[-2]
    summaries = [_block_summary(q, k, v, slice(i, i + seg)) for i in range(0, size, seg)]
    rows = [(list(range(n - n % seg, n + 1)), summaries[: n // seg]) for n in range(size)]
    return _combine(q, k, v, rows)


def combiner_fixed_bidirectional(q: Tensor, k: Tensor, v: Tensor, *, seg: int = 16) -> Tensor:
    size = q.shape[-2]
    summaries = [_block_summary(q, k, v, slice(i, i + seg)) for i in range(0, size, seg)]
    rows = [(list(range(n - n % seg, n - n % seg + seg)), summaries) for n in range(size)]
    return _combine(q, k, v, rows)


def combiner_axial_rowmajor(q: Tensor, k: Tensor, v: Tensor, *, width: int = 16) -> Tensor:
    rows = []
    for n in range(q.shape[-2]):
        summaries = []
        for r in range(n // width):
            row, reader = slice(r * width, r * width + width), r * width + n % width
            query = q[..., reader : reader + 1, :]
            key = attend(query, k[..., row, :], k[..., row, :])[..., 0, :]
            summaries.append((key, attend(query, k[..., row, :], v[..., row, :])[..., 0, :]))
        rows.append((list(range(n - n % width, n + 1)), summaries))
    return _combine(q, k, v, rows)
