"""Sums over earlier positions by the kernels of flash-linear-attention, on CUDA; everywhere else by our own.

Its operations take [B, T, H, D]. Every leading dimension counts as B here, and H is 1, so nothing is copied for it.
They accumulate in float32 and are called on tensors of half precision only. The sum at a position holds the position.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .halves import gate_values
from .kernels import causal_feedback, causal_scan, decayed_scan, feature_gated_scan, gated_scan, leading_dimensions


def takes_flash_linear(x: Tensor) -> bool:
    """Whether the kernels of flash-linear-attention are for tensors like this one."""
    return x.is_cuda and x.dtype in (torch.float16, torch.bfloat16)


def in_its_layout(matrix: Tensor, leading: list[int]) -> Tensor:
    """[..., N, D] as [B, N, 1, D]."""
    return matrix.expand([*leading, matrix.size(-2), matrix.size(-1)]).flatten(0, -3).unsqueeze(2)


def in_our_layout(rows: Tensor, leading: list[int], like: Tensor) -> Tensor:
    """[B, N, 1, E] as [..., N, E]."""
    return rows.squeeze(2).unflatten(0, leading).to(like.dtype)


def flash_linear_scan(query: Tensor, key: Tensor, value: Tensor, normalise: bool, chunk: int) -> Tensor:
    """`causal_scan` of offset 0. normalise: divided by the same sum without the value, which float16 may not hold."""
    if not takes_flash_linear(query) or (normalise and query.dtype == torch.float16):
        return causal_scan(query, key, value, 0, normalise, chunk)
    from fla.ops.simple_gla import chunk_simple_gla

    leading = [1, *leading_dimensions([query, key, value])]
    if normalise:
        value = torch.cat([value, torch.ones_like(value[..., :1])], -1)
    q, k, v = in_its_layout(query, leading), in_its_layout(key, leading), in_its_layout(value, leading)
    out = in_our_layout(chunk_simple_gla(q=q, k=k, v=v, scale=1.0)[0], leading, query).squeeze(0)
    return out[..., :-1] / out[..., -1:] if normalise else out


def flash_decayed_scan(query: Tensor, key: Tensor, value: Tensor, rate: Tensor, chunk: int) -> Tensor:
    """`decayed_scan` of offset 0: the logarithm of every gate is the rate. rate: one number per leading dimension."""
    if not takes_flash_linear(query):
        return decayed_scan(query, key, value, rate, 0, False, chunk)
    from fla.ops.simple_gla import chunk_simple_gla

    rates = rate.to(torch.float32).unsqueeze(-1).unsqueeze(-1).expand([*rate.shape, query.size(-2), 1])
    leading = [1, *leading_dimensions([query, key, value, rates])]
    q, k, v = in_its_layout(query, leading), in_its_layout(key, leading), in_its_layout(value, leading)
    gates = in_its_layout(rates, leading).squeeze(-1)
    return in_our_layout(chunk_simple_gla(q=q, k=k, v=v, g=gates, scale=1.0)[0], leading, query).squeeze(0)


def their_gates(gates: Tensor) -> Tensor:
    """The logarithms of gates, [..., N, X], for the library: finite, and 0 at the first position, where none counts."""
    wide = gates.to(torch.float32).clamp(min=-105.0)
    return torch.nn.functional.pad(wide[..., 1:, :], [0, 0, 1, 0])


def flash_gated_scan(query: Tensor, key: Tensor, value: Tensor, gates: Tensor, chunk: int) -> Tensor:
    """`gated_scan` of offset 0. gates: [..., N], their logarithms."""
    if not takes_flash_linear(query):
        return gated_scan(query, key, value, gates, None, 0, False, chunk)
    from fla.ops.simple_gla import chunk_simple_gla

    logarithms = their_gates(gates.unsqueeze(-1))
    leading = [1, *leading_dimensions([query, key, value, logarithms])]
    q, k, v = in_its_layout(query, leading), in_its_layout(key, leading), in_its_layout(value, leading)
    g = in_its_layout(logarithms, leading).squeeze(-1)
    return in_our_layout(chunk_simple_gla(q=q, k=k, v=v, g=g, scale=1.0)[0], leading, query).squeeze(0)


def flash_feature_gated_scan(query: Tensor, key: Tensor, value: Tensor, gates: Tensor, chunk: int) -> Tensor:
    """`feature_gated_scan` of offset 0. gates: [..., N, F], their logarithms."""
    if not takes_flash_linear(query):
        return feature_gated_scan(query, key, value, gate_values(gates), 0, chunk)
    from fla.ops.gla import chunk_gla

    logarithms = their_gates(gates)
    leading = [1, *leading_dimensions([query, key, value, logarithms])]
    q, k, v = in_its_layout(query, leading), in_its_layout(key, leading), in_its_layout(value, leading)
    out = chunk_gla(q=q, k=k, v=v, g=in_its_layout(logarithms, leading), scale=1.0)[0]
    return in_our_layout(out, leading, query).squeeze(0)


def flash_delta_rule(
    query: Tensor, key: Tensor, value: Tensor, beta: Tensor, gates: Tensor | None, chunk: int
) -> Tensor:
    """out[n] = query[n] S[n], S[n] = G + key[n]^T beta[n] (value[n] - key[n] G), where G = exp(gates[n]) S[n - 1].

    beta, gates: [..., N]; without gates G = S[n - 1]. Its kernels take keys of 256 features at most.
    """
    if not takes_flash_linear(query) or key.size(-1) > 256:
        strong = beta.unsqueeze(-1)
        if gates is None:
            added = causal_feedback(-key, strong * key, value, None, chunk)
            return causal_scan(query, key, strong * added, 0, False, chunk)
        kept = torch.exp(gates).unsqueeze(-1).to(key.dtype)
        added = causal_feedback(-kept * key, strong * key, value, gates, chunk)
        return gated_scan(query, key, strong * added, gates, None, 0, False, chunk)
    leading = [1, *leading_dimensions([query, key, value, beta.unsqueeze(-1)])]
    if gates is not None:
        leading = [1, *leading_dimensions([query, key, value, beta.unsqueeze(-1), gates.unsqueeze(-1)])]
    q, k, v = in_its_layout(query, leading), in_its_layout(key, leading), in_its_layout(value, leading)
    strengths = in_its_layout(beta.unsqueeze(-1), leading).squeeze(-1)
    if gates is None:
        from fla.ops.delta_rule import chunk_delta_rule

        out = chunk_delta_rule(q=q, k=k, v=v, beta=strengths, scale=1.0)[0]
    else:
        from fla.ops.gated_delta_rule import chunk_gated_delta_rule

        logarithms = in_its_layout(their_gates(gates.unsqueeze(-1)), leading).squeeze(-1)
        out = chunk_gated_delta_rule(q=q, k=k, v=v, g=logarithms, beta=strengths, scale=1.0)[0]
    return in_our_layout(out, leading, query).squeeze(0)
