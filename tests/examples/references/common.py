"""What several references share. Tensors are float64; dimensions in front of the named ones are batch dimensions."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_softmax(scores: Tensor, visible: Tensor, dim: int = -1) -> Tensor:
    """exp(s) over its sum, both over visible entries only; zeros where none is visible.

    The largest visible score is subtracted, which changes nothing but what overflows.
    """
    scores = torch.where(visible, scores, -torch.inf)
    largest = scores.detach().amax(dim, keepdim=True).clamp(min=torch.finfo(scores.dtype).min)
    weights = torch.where(visible, torch.exp(torch.where(visible, scores - largest, 0.0)), 0.0)
    total = weights.sum(dim, keepdim=True)
    return weights / torch.where(total == 0, 1.0, total)


def positions(size: int) -> Tensor:
    return torch.arange(size)


def lag(rows: int, columns: int | None = None) -> Tensor:
    """n - m over [N, M]."""
    return positions(rows)[:, None] - positions(rows if columns is None else columns)[None, :]


def causal(size: int) -> Tensor:
    """Whether n sees m, over [N, M]: m is not after n."""
    return lag(size) >= 0


def unit(x: Tensor, dim: int = -1) -> Tensor:
    """x over its Euclidean length along a dimension, the length being at least 1e-12."""
    return x / x.square().sum(dim, keepdim=True).sqrt().clamp(min=1e-12)


def layer_norm(x: Tensor, gain: Tensor | float = 1.0, shift: Tensor | float = 0.0) -> Tensor:
    """Layer norm over the last dimension with the biased variance."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gain + shift


def heads(x: Tensor, weight: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """x[..., N, C] projected by weight[C, H, D], bias[H, D] to [..., H, N, D]."""
    return (torch.einsum("...nc,chd->...nhd", x, weight) + bias).transpose(-2, -3)


def attend(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None = None, bias: Tensor | float = 0.0) -> Tensor:
    """Softmax attention with scale 1/sqrt(D): q[..., N, D], k[..., M, D], v[..., M, E] to [..., N, E]."""
    scores = q @ k.mT / q.shape[-1] ** 0.5 + bias
    if visible is None:
        return torch.softmax(scores, -1) @ v
    return masked_softmax(scores, visible) @ v


def repeat_heads(x: Tensor, times: int) -> Tensor:
    """Every head of x[..., G, M, D] `times` times in a row: head h of the result is head h // times."""
    return x.repeat_interleave(times, dim=-3)


def merge_heads(x: Tensor) -> Tensor:
    """x[..., H, N, E] to [..., N, H E], the first head's features first."""
    return x.transpose(-2, -3).flatten(-2)
