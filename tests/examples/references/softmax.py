"""Softmax attention and what replaces its softmax, its scores or its heads."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, scaled_dot_product_attention, softplus

from .common import attend, causal, heads, lag, masked_softmax, merge_heads, positions, repeat_heads, unit


def softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return scaled_dot_product_attention(q, k, v)


def causal_softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return scaled_dot_product_attention(q, k, v, is_causal=True)


def lean_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Key by key with a running maximum, sum and weighted sum of values."""
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    high = torch.full_like(scores[..., 0], -math.inf)
    total = torch.zeros_like(high)
    out = torch.zeros_like(scores[..., :1] * v[..., :1, :])
    for m in range(k.shape[-2]):
        new = torch.maximum(high, scores[..., m])
        old, weight = torch.exp(high - new), torch.exp(scores[..., m] - new)
        total = total * old + weight
        out = out * old[..., None] + weight[..., None] * v[..., m, None, :]
        high = new
    return out / total[..., None]


def softmax_merge(m1: Tensor, l1: Tensor, o1: Tensor, m2: Tensor, l2: Tensor, o2: Tensor) -> Tensor:
    high = torch.maximum(m1, m2)
    return torch.exp(m1 - high)[..., None] * o1 + torch.exp(m2 - high)[..., None] * o2


def merge_lse(o1: Tensor, l1: Tensor, o2: Tensor, l2: Tensor) -> Tensor:
    both = torch.logaddexp(l1, l2)
    return torch.exp(l1 - both)[..., None] * o1 + torch.exp(l2 - both)[..., None] * o2


def attention_3pass(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return scaled_dot_product_attention(q, k, v, scale=1.0)


def attention_2pass(q: Tensor, k: Tensor, v: Tensor, *, m0: int = 64) -> Tensor:
    assert k.shape[-2] % m0 == 0
    return scaled_dot_product_attention(q, k, v, scale=1.0)


def attention_1pass(q: Tensor, k: Tensor, v: Tensor, *, m0: int = 64) -> Tensor:
    return attention_2pass(q, k, v, m0=m0)


def quadrature_attention(q: Tensor, k: Tensor, v: Tensor, w: Tensor) -> Tensor:
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    weights = w[..., None, :] * torch.exp(scores - scores.detach().amax(-1, keepdim=True))
    return (weights @ v) / weights.sum(-1, keepdim=True)


def scaled_cosine_attention(q: Tensor, k: Tensor, v: Tensor, *, temperature: Tensor) -> Tensor:
    scores = unit(q) @ unit(k).mT / temperature.clamp(min=0.01)[:, None, None]
    return torch.softmax(scores, -1) @ v


def sigmoid_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Through the hyperbolic tangent: sigmoid(x) = (1 + tanh(x / 2)) / 2."""
    scores = q @ k.mT / math.sqrt(q.shape[-1]) - math.log(k.shape[-2])
    return (0.5 * (1 + torch.tanh(scores / 2))) @ v


def sigmoid_attention_causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.mT / math.sqrt(q.shape[-1]) - math.log(k.shape[-2])
    return torch.tril(1 / (1 + torch.exp(-scores))) @ v


def sigmoid_attention_position_normalised(q: Tensor, k: Tensor, v: Tensor, *, alpha: float = 1.0) -> Tensor:
    weights = torch.tril(torch.sigmoid(q @ k.mT / math.sqrt(q.shape[-1])))
    seen = positions(q.shape[-2]).to(q.dtype) + 1
    return (weights @ v) / seen[:, None] ** alpha


def alibi_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    count, length = q.shape[-3], q.shape[-2]
    slopes = torch.tensor([2.0 ** (-8.0 * h / count) for h in range(1, count + 1)], dtype=q.dtype)
    bias = -slopes[:, None, None] * lag(length)
    return scaled_dot_product_attention(q, k, v, attn_mask=bias.masked_fill(~causal(length), -math.inf))


def _rotate(x: Tensor, base: float, *, interleaved: bool) -> Tensor:
    """Pairs of features as complex numbers, turned by n base^(-p / P)."""
    half = x.shape[-1] // 2
    angle = positions(x.shape[-2])[:, None] * torch.tensor([base ** (-p / half) for p in range(half)], dtype=x.dtype)
    if interleaved:
        turned = torch.view_as_complex(torch.unflatten(x, -1, (half, 2)).contiguous()) * torch.exp(1j * angle)
        return torch.view_as_real(turned).flatten(-2)
    turned = torch.complex(x[..., :half], x[..., half:]) * torch.exp(1j * angle)
    return torch.cat([turned.real, turned.imag], -1)


def rotary(x: Tensor, *, base: float = 10000) -> Tensor:
    return _rotate(x, base, interleaved=False)


def rotary_interleaved(x: Tensor, *, base: float = 10000) -> Tensor:
    return _rotate(x, base, interleaved=True)


def masked_attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    return masked_softmax(q @ k.mT / math.sqrt(q.shape[-1]), visible) @ v


def rope_attention(q: Tensor, k: Tensor, v: Tensor, *, base: float = 10000) -> Tensor:
    return attend(_rotate(q, base, interleaved=False), _rotate(k, base, interleaved=False), v)


def rope_attention_interleaved(q: Tensor, k: Tensor, v: Tensor, *, base: float = 10000) -> Tensor:
    return attend(_rotate(q, base, interleaved=True), _rotate(k, base, interleaved=True), v)


def talking_heads(q: Tensor, k: Tensor, v: Tensor, *, w_logits: Tensor, w_weights: Tensor) -> Tensor:
    scores = torch.einsum("...hnd,...hmd,hj->...jnm", q, k, w_logits) / math.sqrt(q.shape[-1])
    return torch.einsum("...jnm,jg,...gme->...gne", torch.softmax(scores, -1), w_weights, v)


def clipped_softmax_attention(q: Tensor, k: Tensor, v: Tensor, *, gamma: float = -0.03, zeta: float = 1.0) -> Tensor:
    weights = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1)
    return ((zeta - gamma) * weights + gamma).clamp(0, 1) @ v


def clipped_softmax_length_free(q: Tensor, k: Tensor, v: Tensor, *, alpha: float = 4) -> Tensor:
    return clipped_softmax_attention(q, k, v, gamma=-alpha / k.shape[-2], zeta=1.0)


def gated_attention(q: Tensor, k: Tensor, v: Tensor, x_heads: Tensor, *, w_g: Tensor, b_g: Tensor) -> Tensor:
    gate = torch.sigmoid((x_heads * w_g[:, None, :]).sum(-1) + b_g[:, None])
    return gate[..., None] * attend(q, k, v)


def gqa_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    times = q.shape[-3] // k.shape[-3]
    return attend(q, repeat_heads(k, times), repeat_heads(v, times), mask[..., None, :, :])


def softcapped_attention(q: Tensor, k: Tensor, v: Tensor, *, cap: float = 50.0) -> Tensor:
    times = q.shape[-3] // k.shape[-3]
    scores = cap * torch.tanh(q @ repeat_heads(k, times).mT / math.sqrt(q.shape[-1]) / cap)
    return masked_softmax(scores, causal(q.shape[-2])) @ repeat_heads(v, times)


def differential_attention(
    q1: Tensor, k1: Tensor, q2: Tensor, k2: Tensor, v: Tensor, *,
    lq1: Tensor, lk1: Tensor, lq2: Tensor, lk2: Tensor, gain: Tensor, start: float = 0.8,
) -> Tensor:  # fmt: skip
    visible = causal(q1.shape[-2])
    share = (lq1 @ lk1).exp() - (lq2 @ lk2).exp() + start
    out = attend(q1, k1, v, visible) - share * attend(q2, k2, v, visible)
    return out / (out.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gain * (1 - start)


def forgetting_attention(q: Tensor, k: Tensor, v: Tensor, f: Tensor) -> Tensor:
    """A score loses the logarithms of the forget gates of m + 1 to n."""
    gates = logsigmoid(f)
    rows = []
    for n in range(q.shape[-2]):
        lost = torch.stack([gates[..., m + 1 : n + 1].sum(-1) for m in range(n + 1)], -1)
        scores = (q[..., n : n + 1, :] @ k[..., : n + 1, :].mT / math.sqrt(q.shape[-1])).squeeze(-2)
        rows.append((torch.softmax(scores + lost, -1)[..., None, :] @ v[..., : n + 1, :]).squeeze(-2))
    return torch.stack(rows, -2)


def latent_attention(q: Tensor, qr: Tensor, c: Tensor, kr: Tensor, *, wk: Tensor, wv: Tensor) -> Tensor:
    """Every head makes its own keys and values; the rotated keys are all heads' own copies."""
    k, v = c.unsqueeze(-3) @ wk, c.unsqueeze(-3) @ wv
    copies = kr.unsqueeze(-3).expand((*k.shape[:-1], kr.shape[-1]))
    return scaled_dot_product_attention(torch.cat([q, qr], -1), torch.cat([k, copies], -1), v, is_causal=True)


def sink_attention(q: Tensor, k: Tensor, v: Tensor, *, sink: Tensor, width: int | None = None) -> Tensor:
    """A softmax over the scores and one more, whose weight is dropped. width: how many keys a query sees."""
    groups = q.shape[-3] // k.shape[-3]
    keys, values = repeat_heads(k, groups), repeat_heads(v, groups)
    scores = q @ keys.mT / math.sqrt(q.shape[-1])
    lags = lag(q.shape[-2])
    hidden = (lags < 0) | (lags >= width) if width is not None else lags < 0
    scores = scores.masked_fill(hidden, -math.inf)
    more = sink.flatten()[:, None, None].expand((*scores.shape[:-1], 1))
    return torch.softmax(torch.cat([scores, more], -1), -1)[..., :-1] @ values


def sink_window_attention(q: Tensor, k: Tensor, v: Tensor, *, sink: Tensor, W: int = 128) -> Tensor:
    return sink_attention(q, k, v, sink=sink, width=W)


def softmax_off_by_one(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The 1 is the exponential of one more score, 0."""
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    return torch.softmax(torch.cat([scores, torch.zeros_like(scores[..., :1])], -1), -1)[..., :-1] @ v


def stick_breaking_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    shares = torch.sigmoid(q @ k.mT / math.sqrt(q.shape[-1]))
    rows = []
    for n in range(q.shape[-2]):
        left, row = torch.ones_like(shares[..., 0, 0]), shares[..., n, :1] * v[..., 0, :] * 0
        for m in reversed(range(n)):
            row = row + (left * shares[..., n, m])[..., None] * v[..., m, :]
            left = left * (1 - shares[..., n, m])
        rows.append(row)
    return torch.stack(rows, -2)


def t5_attention(q: Tensor, k: Tensor, v: Tensor, *, table: Tensor) -> Tensor:
    """Buckets counted in whole numbers: the logarithmic ones begin at 8, and 8 of them reach to 128."""
    starts = [*range(8), *(math.ceil(8 * 16 ** (step / 8) - 1e-9) for step in range(8))]
    bias = table.new_zeros(table.shape[1], q.shape[-2], k.shape[-2])
    for n in range(q.shape[-2]):
        for m in range(k.shape[-2]):
            near = max(bucket for bucket, start in enumerate(starts) if abs(m - n) >= start)
            bias[:, n, m] = near + 16 * (m > n)
    looked_up = table[bias[0].long()].movedim(-1, 0)
    return torch.softmax(q @ k.mT + looked_up, -1) @ v


def additive_attention(q: Tensor, k: Tensor, v: Tensor, *, w_q: Tensor, w_k: Tensor, w_s: Tensor) -> Tensor:
    hidden = torch.tanh((q @ w_q)[..., :, None, :] + (k @ w_k)[..., None, :, :])
    return torch.softmax(hidden @ w_s, -1) @ v


def pointer_attention(enc: Tensor, dec: Tensor, mask: Tensor, *, w1: Tensor, w2: Tensor, v: Tensor) -> Tensor:
    hidden = torch.tanh((enc @ w1)[..., None, :, :] + (dec @ w2)[..., :, None, :])
    return masked_softmax(hidden @ v, mask)


def positional_attention(p: Tensor, v: Tensor, *, w_q: Tensor, w_k: Tensor, b_q: Tensor, b_k: Tensor) -> Tensor:
    queries = p[..., None, :, :] @ w_q.mT + b_q[:, None, :]
    keys = p[..., None, :, :] @ w_k.mT + b_k[:, None, :]
    return torch.softmax(queries @ keys.mT / math.sqrt(p.shape[-1]), -1) @ v


def oat_pointer_logits(
    enc: Tensor, dec: Tensor, *, we: Tensor, be: Tensor, wd: Tensor, bd: Tensor, w_read: Tensor, b_read: Tensor,
    dk: float = 512,
) -> Tensor:  # fmt: skip
    """As one bilinear form of [dec, 1] and [enc, 1]."""
    left = torch.cat([wd, bd[:, None, :]], 1)
    right = torch.cat([we, be[:, None, :]], 1)
    form = torch.einsum("h,hca,hka->ck", w_read, left, right) / math.sqrt(dk)

    def extend(x: Tensor) -> Tensor:
        return torch.cat([x, torch.ones_like(x[..., :1])], -1)

    scores = extend(dec) @ form @ extend(enc).mT
    return torch.cat([scores, torch.zeros_like(scores[..., :1])], -1) + b_read


def fourier_karat(q: Tensor, k: Tensor, v: Tensor, *, a: Tensor, b: Tensor, w: Tensor) -> Tensor:
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    hidden = torch.zeros((*scores.shape[:-1], a.shape[1]), dtype=q.dtype)
    for g in range(a.shape[-1]):
        angle = (g + 1) * scores
        hidden = hidden + torch.cos(angle) @ a[..., g].mT + torch.sin(angle) @ b[..., g].mT
    return hidden @ (w.mT @ v)


def fod_correlation(
    x: Tensor, ref: Tensor, *, wq: Tensor, wk: Tensor, wv: Tensor, bq: Tensor, bk: Tensor, bv: Tensor
) -> Tensor:
    return merge_heads(attend(heads(x, wq, bq), heads(ref, wk, bk), heads(ref, wv, bv)))


def fod_i2_block(x: Tensor, ref: Tensor, **parameters: Tensor) -> Tensor:
    def branch(source: Tensor, suffix: str) -> Tensor:
        own = {name.removesuffix(suffix): value for name, value in parameters.items() if name.endswith(suffix)}
        return fod_correlation(x, source, **own)

    difference = branch(x, "_a") - branch(ref, "_e")
    centred = difference - difference.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def fod_rbf_target(x: Tensor, *, wsig: Tensor, bsig: Tensor, width: int = 16) -> Tensor:
    """Without the factor in front of the Gaussian, which the normalisation ignores."""
    spread = 3 ** (torch.sigmoid(5 * heads(x, wsig, bsig)) + 1e-5) - 1
    place = positions(x.shape[-2])
    rows, columns = place // width, place % width
    down = (rows[:, None] - rows).square() / (2 * spread[..., 0, None].square())
    across = (columns[:, None] - columns).square() / (2 * spread[..., 1, None].square())
    target = torch.exp(-down - across)
    return target / target.sum(-1, keepdim=True)


def row_kl(p: Tensor, q: Tensor, *, eps: float = 0.0001) -> Tensor:
    return (p * torch.log((p + eps) / (q + eps))).sum(-1).mean(-2)


def row_entropy(p: Tensor, *, eps: float = 0.0001) -> Tensor:
    return -(p * torch.log(p + eps)).sum(-1).mean(-2)


def fixed_qk_attention(h: Tensor, x: Tensor, *, wq: Tensor, wk: Tensor, wv: Tensor) -> Tensor:
    return attend(heads(x, wq), heads(x, wk), heads(h, wv), causal(x.shape[-2]))


def static_emb_qk_attention(h: Tensor, emb: Tensor, *, wq: Tensor, wk: Tensor, wv: Tensor) -> Tensor:
    return attend(heads(emb, wq), heads(emb, wk), heads(h, wv), causal(h.shape[-2]))


def bam_attention(x: Tensor, *, wr: Tensor, wq: Tensor, wk: Tensor, wv: Tensor, wo: Tensor) -> Tensor:
    """Expert by expert."""
    gates = torch.softmax(x @ wr, -1)
    out = torch.zeros_like(x)
    for j in range(wr.shape[-1]):
        key, value = (w[j] if w.dim() == 4 else w for w in (wk, wv))
        o = attend(heads(x, wq[j]), heads(x, key), heads(x, value), causal(x.shape[-2]))
        out = out + gates[..., j, None] * torch.einsum("...hne,hec->...nc", o, wo[j])
    return out


bam_attention_shared_kv = bam_attention


def icl_attention(z: Tensor, zq: Tensor, *, kq: Tensor, ov: Tensor, scale: float = 1.0) -> Tensor:
    scores = scale * torch.einsum("...mi,hij,...j->...hm", z, kq, zq)
    return torch.einsum("hoi,...hm,...mi->...o", ov, torch.softmax(scores, -1), z)


def icl_reduced(x: Tensor, y: Tensor, xq: Tensor, *, omega: Tensor, mu: Tensor) -> Tensor:
    scores = torch.einsum("h,...md,...d->...hm", omega, x, xq)
    return torch.einsum("h,...hm,...m->...", mu, torch.softmax(scores, -1), y)


def debiased_gd(x: Tensor, y: Tensor, xq: Tensor, *, eta: float = 2.0) -> Tensor:
    """The covariance form: y minus its mean against x gives the same sum."""
    gradient = torch.einsum("...m,...md->...d", y - y.mean(-1, keepdim=True), x)
    return eta * (gradient * xq).sum(-1) / y.shape[-1]


def _prompted(x: Tensor, p_cls: Tensor, p_img: Tensor) -> Tensor:
    batch = x.shape[:-2]
    return torch.cat([x[..., :1, :], p_cls.expand(*batch, -1, -1), p_img.expand(*batch, -1, -1), x[..., 1:, :]], -2)


def tcpa_attention(
    x: Tensor, mask: Tensor, *, p_cls: Tensor, p_img: Tensor, wq: Tensor, wk: Tensor, wv: Tensor,
    bq: Tensor, bk: Tensor, bv: Tensor, wo: Tensor, bo: Tensor, renormalised: bool = False,
) -> Tensor:  # fmt: skip
    z = _prompted(x, p_cls, p_img)
    q, k, v = heads(x, wq, bq), heads(z, wk, bk), heads(z, wv, bv)
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    visible = mask[..., None, :, :]
    weights = masked_softmax(scores, visible > 0) if renormalised else torch.softmax(scores, -1) * visible
    return torch.einsum("...hnm,...hme,hec->...nc", weights, v, wo) + bo


def tcpa_attention_renormalised(x: Tensor, mask: Tensor, **parameters: Tensor) -> Tensor:
    return tcpa_attention(x, mask, **parameters, renormalised=True)


def gpsa_attention(
    q: Tensor, k: Tensor, v: Tensor, *, w_pos: Tensor, b_pos: Tensor, gate: Tensor, width: int = 14
) -> Tensor:
    """Without the last normalisation, which changes nothing, and without b_pos, which its softmax ignores."""
    place = positions(q.shape[-2])
    dx = (place % width)[None, :] - (place % width)[:, None]
    dy = (place // width)[None, :] - (place // width)[:, None]
    offsets = torch.stack([dx, dy, dx**2 + dy**2]).to(q.dtype)
    position = torch.softmax(torch.einsum("hr,rnm->hnm", w_pos, offsets), -1)
    share = torch.sigmoid(gate)[:, None, None]
    return (1 - share) * attend(q, k, v) + share * (position @ v) + 0 * b_pos.sum()


def bvr_attention(
    x: Tensor, keys_a: Tensor, keys_b: Tensor, bias_a: Tensor, bias_b: Tensor, **parameters: Tensor
) -> Tensor:
    out = x
    for group, keys, bias in (("a", keys_a, bias_a), ("b", keys_b, bias_b)):
        w = {name.removesuffix(f"_{group}"): p for name, p in parameters.items() if name.endswith(f"_{group}")}
        q = x[..., None, :, :] @ w["wq"].mT + w["bq"][:, None, :]
        k = keys[..., None, :, :] @ w["wk"].mT + w["bk"][:, None, :]
        v = keys[..., None, :, :] @ w["wv"].mT + w["bv"][:, None, :]
        out = out + torch.einsum("...hne,che->...nc", attend(q, k, v, bias=bias), w["wo"]) + w["bo"]
    return torch.relu(out)


def bvr_geometry_bias(rel: Tensor, *, w_geo: Tensor, b_geo: Tensor, temperature: float = 1000) -> Tensor:
    quarter = w_geo.shape[-1] // 4
    frequency = torch.tensor([temperature ** (4 * i / (4 * quarter)) for i in range(quarter)], dtype=rel.dtype)
    x, y = rel[..., 0, None] / frequency, rel[..., 1, None] / frequency
    embedding = torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], -1)
    return torch.log((embedding @ w_geo.mT + b_geo).clamp(min=1e-6)).movedim(-1, -3)


def sparse_query_attention(
    x: Tensor, *, wq: Tensor, wk: Tensor, wv: Tensor, wo: Tensor, visible: Tensor | None = None
) -> Tensor:
    times = wq.shape[1] // wk.shape[1]
    keys, values = repeat_heads(heads(x, wk), times), repeat_heads(heads(x, wv), times)
    return torch.einsum("...hne,hec->...nc", attend(heads(x, wq), keys, values, visible), wo)


def sparse_query_attention_causal(x: Tensor, *, wq: Tensor, wk: Tensor, wv: Tensor, wo: Tensor) -> Tensor:
    return sparse_query_attention(x, wq=wq, wk=wk, wv=wv, wo=wo, visible=causal(x.shape[-2]))


def minimal_attention(x: Tensor, *, w_qk: Tensor, w_vo: Tensor | None = None) -> Tensor:
    mixed = torch.softmax(x @ w_qk @ x.mT / math.sqrt(x.shape[-1]), -1) @ x
    return mixed if w_vo is None else mixed @ w_vo


minimal_attention_convex = minimal_attention


def minimal_attention_symmetric(x: Tensor, *, w_qk: Tensor) -> Tensor:
    lower = torch.tril(w_qk)
    return minimal_attention(x, w_qk=lower @ lower.mT)


def minimal_multihead_symmetric(x: Tensor, *, wq: Tensor) -> Tensor:
    q = heads(x, wq).unbind(-3)
    return torch.cat([attend(own, own, part) for own, part in zip(q, x.chunk(len(q), -1), strict=True)], -1)


def minimal_stack(
    x: Tensor, *, w_qk1: Tensor, w_vo1: Tensor, w_qk2: Tensor, w_vo2: Tensor, scale: float = 0.1
) -> Tensor:
    """With the value matrices moved to the end: the second layer's w_qk becomes w_vo1 w_qk2 w_vo1^T."""
    y = torch.softmax(scale * x @ w_qk1 @ x.mT, -1) @ x
    mixed = torch.softmax(scale * y @ (w_vo1 @ w_qk2 @ w_vo1.mT) @ y.mT, -1) @ y
    return mixed @ (w_vo1 @ w_vo2)


def unified_token_mixing_attention(x: Tensor, *, wq: Tensor, wk: Tensor, wv: Tensor) -> Tensor:
    return scaled_dot_product_attention(x @ wq, x @ wk, x @ wv)


def einspace_sdpa(x: Tensor, *, wq: Tensor, bq: Tensor, wk: Tensor, bk: Tensor, wv: Tensor, bv: Tensor) -> Tensor:
    linear = torch.nn.functional.linear
    return scaled_dot_product_attention(linear(x, wq, bq), linear(x, wk, bk), linear(x, wv, bv))


def einspace_mhsa(
    x: Tensor, *, wq: Tensor, bq: Tensor, wk: Tensor, bk: Tensor, wv: Tensor, bv: Tensor, wo: Tensor, bo: Tensor
) -> Tensor:
    copies = [einspace_sdpa(x, wq=wq[h], bq=bq[h], wk=wk[h], bk=bk[h], wv=wv[h], bv=bv[h]) for h in range(wq.shape[0])]
    return torch.cat(copies, -1) @ wo.flatten(1).mT + bo


def _sent(
    x: Tensor, m_prev: Tensor, wq: Tensor, wk: Tensor, w_head: Tensor, w_m1: Tensor, w_m2: Tensor, tau: float
) -> Tensor:
    """What child n sends to parent j through head h, over [..., H, N, J]."""
    q, k = heads(x, wq), heads(x, wk)
    choice = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1)
    head = torch.softmax(x @ w_head / tau, -1).mT
    gate = m_prev * torch.sigmoid(torch.nn.functional.gelu(x @ w_m1) @ w_m2)
    return choice * head[..., None] * gate[..., None, :, None]


def reversed_attention(
    x: Tensor, m_prev: Tensor, *, wq: Tensor, wk: Tensor, wv: Tensor, w_head: Tensor, w_m1: Tensor, w_m2: Tensor,
    wo: Tensor, tau: float = 0.1,
) -> Tensor:  # fmt: skip
    sent = _sent(x, m_prev, wq, wk, w_head, w_m1, w_m2, tau)
    return torch.einsum("...hnj,...hne,hec->...jc", sent, heads(x, wv), wo)


def reversed_dependency(
    x: Tensor, m_prev: Tensor, *, wq: Tensor, wk: Tensor, w_head: Tensor, w_m1: Tensor, w_m2: Tensor, tau: float = 0.1
) -> Tensor:
    return _sent(x, m_prev, wq, wk, w_head, w_m1, w_m2, tau).sum(-3).mT


def urpe_attention(q: Tensor, k: Tensor, v: Tensor, *, c_table: Tensor, b_table: Tensor) -> Tensor:
    """The Toeplitz matrices as sliding windows over the tables, last query first."""
    rows, columns = q.shape[-2], k.shape[-2]
    bias, factor = (table.unfold(-1, columns, 1).flip(-2) for table in (b_table, c_table))
    assert bias.shape[-2] == rows
    weights = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]) + bias, -1)
    return (weights * factor) @ v


def lssa(q: Tensor, k: Tensor, v: Tensor, *, eps: float = 1e-8) -> Tensor:
    return _lssa_weights(q, k, eps) @ v


def _lssa_weights(q: Tensor, k: Tensor, eps: float) -> Tensor:
    row = torch.log(positions(q.shape[-2]).to(q.dtype) + 1)[:, None]
    weights = torch.tril(softplus(math.log(q.shape[-1]) * row * (unit(q) @ unit(k).mT)))
    return weights / (weights.sum(-1, keepdim=True) + eps)


def lssar(q: Tensor, k: Tensor, v: Tensor, *, p: int = 15, eps: float = 1e-8, warm_rows: int = 3) -> Tensor:
    weights = _lssa_weights(q, k, eps)
    row = positions(q.shape[-2])[:, None]
    sharp = ((row + 1) * weights - (row >= warm_rows).to(q.dtype)).clamp(min=0) ** p
    return (sharp / (sharp.sum(-1, keepdim=True) + eps)) @ v
