"""Softmax and sums within groups along the last dimension. Generated modules carry a copy of what they use."""

from __future__ import annotations

import torch
from torch import Tensor

from .precision import accumulator


def segment_softmax(scores: Tensor, group: Tensor, mask: Tensor | None = None) -> Tensor:
    """exp(scores) over its sum within each group of the last dimension, both where the mask is true.

    group: the number of each element's group, from 0 to the length - 1. All three broadcast.
    """
    wide = accumulator(scores)
    narrow, scores = scores.dtype, scores.to(wide) + torch.zeros_like(group, dtype=wide)
    if mask is not None:
        scores = torch.where(mask, scores, -float("inf"))
    group = group + torch.zeros_like(scores, dtype=group.dtype)
    top = torch.full_like(scores, -float("inf")).scatter_reduce(-1, group, scores.detach(), "amax")
    top = torch.where(torch.isfinite(top), top, 0.0).gather(-1, group)
    weight = torch.exp(scores - top)
    total = torch.zeros_like(weight).scatter_add(-1, group, weight).gather(-1, group)
    return (weight / torch.where(total == 0, 1.0, total)).to(narrow)


def segment_sum(x: Tensor, group: Tensor) -> Tensor:
    """The sum of each group of the last dimension, at every one of its elements. Both broadcast."""
    wide = accumulator(x)
    narrow, x = x.dtype, x.to(wide) + torch.zeros_like(group, dtype=wide)
    group = group + torch.zeros_like(x, dtype=group.dtype)
    return torch.zeros_like(x).scatter_add(-1, group, x).gather(-1, group).to(narrow)


def segment_max(x: Tensor, group: Tensor) -> Tensor:
    """The largest element of each group of the last dimension, at every one of its elements. Both broadcast."""
    x = x + torch.zeros_like(group, dtype=x.dtype)
    group = group + torch.zeros_like(x, dtype=group.dtype)
    return torch.full_like(x, -float("inf")).scatter_reduce(-1, group, x, "amax").gather(-1, group)
