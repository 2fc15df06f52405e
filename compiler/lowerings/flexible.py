"""Attention with functions for changes of scores. No TorchScript: only targets that trace Python carry it."""

from __future__ import annotations

import torch
from torch import Tensor


def flexible_attention(query: Tensor, key: Tensor, value: Tensor, change, visible, scaled: bool, leaves) -> Tensor:
    """Softmax attention with `change(score, b, n, m, *leaves)` for scores, over keys with `visible(...)`: [..., N, E].

    Either function may be None. leaves: tensors [..., N, M or 1], which the functions read as `leaf[b, n]`. On a CPU
    FlexAttention has no gradients and no float64, and is compiled wrongly where it reads tensors that the graph has
    computed: there a matrix of the changes is stored.
    """
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    shapes = [x.shape[:-2] for x in (query, key, value)] + [leaf.shape[:-1] for leaf in leaves]
    leading = torch.broadcast_shapes(*shapes)
    q, k, v = (x.expand(leading + x.shape[-2:]).reshape(-1, 1, x.size(-2), x.size(-1)) for x in (query, key, value))
    rows = [leaf.expand(leading + leaf.shape[-1:]).reshape(-1, leaf.size(-1)) for leaf in leaves]
    trains = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value, *leaves))
    scale = None if scaled else 1.0
    if query.device.type == "cpu" and (trains or len(rows) > 0 or query.dtype == torch.float64):
        b = torch.arange(q.size(0), device=q.device).view(-1, 1, 1, 1)
        n = torch.arange(q.size(-2), device=q.device).unsqueeze(-1)
        m = torch.arange(k.size(-2), device=q.device)
        bias = torch.zeros((), dtype=q.dtype, device=q.device)
        if change is not None:
            bias = change(bias, b, n, m, *rows)
        if visible is not None:
            bias = torch.where(visible(bias, b, n, m, *rows), bias, -float("inf"))
        bias = bias.expand(q.size(0), 1, q.size(-2), k.size(-2))
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
    else:
        block = None
        if visible is not None:
            of_batch = q.size(0) if len(rows) > 0 else None
            block = create_block_mask(
                lambda b, h, n, m: visible(q, b, n, m, *rows),
                of_batch,
                None,
                q.size(-2),
                k.size(-2),
                device=q.device,
            )
        score_mod = None if change is None else lambda score, b, h, n, m: change(score, b, n, m, *rows)
        out = flex_attention(q, k, v, score_mod=score_mod, block_mask=block, scale=scale)
    return out.reshape(leading + out.shape[-2:])
