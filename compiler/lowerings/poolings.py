"""Pooling and resizing along the last dimension. Generated modules carry a copy of the functions that they use."""

from __future__ import annotations

import torch
from torch import Tensor


def average_pool(x: Tensor, size: int, stride: int, start: int, places: int, whole: bool) -> Tensor:
    """The mean over `places` windows of the last dimension, of what they have inside it.

    whole: divided by the size of the window, whatever it has inside.
    """
    length = x.size(-1)
    reach = stride * (places - 1) + size
    read = torch.nn.functional.pad(x, (max(-start, 0), max(start + reach - length, 0)))
    total = read.narrow(-1, max(start, 0), reach).unfold(-1, size, stride).sum(-1)
    if whole:
        return total / size
    first = torch.arange(places, device=x.device) * stride + start
    count = (first + size).clamp(0, length) - first.clamp(0, length)
    return total / count.clamp(min=1)


def max_pool(x: Tensor, size: int, stride: int, start: int, places: int) -> Tensor:
    """The largest element of `places` windows of the last dimension; -inf where a window has none inside it."""
    reach = stride * (places - 1) + size
    back = max(start + reach - x.size(-1), 0)
    read = torch.nn.functional.pad(x, (max(-start, 0), back), value=-float("inf"))
    return read.narrow(-1, max(start, 0), reach).unfold(-1, size, stride).amax(-1)


def adaptive_pool(x: Tensor, places: int) -> Tensor:
    """The mean over `places` bins that cover the last dimension."""
    leading = list(x.shape[:-1])
    rows = x.reshape([1, -1, x.size(-1)])
    return torch.nn.functional.adaptive_avg_pool1d(rows, places).reshape(leading + [places])


def resize(x: Tensor, places: int, aligned: bool) -> Tensor:
    """Linear interpolation along the last dimension at `places` places. aligned: the ends of both axes meet."""
    length = x.size(-1)
    place = torch.arange(places, device=x.device).to(torch.float64)
    if aligned:
        at = place * ((length - 1) / max(places - 1, 1))
    else:
        at = ((place + 0.5) * (length / places) - 0.5).clamp(0.0, length - 1.0)
    low = at.floor().to(torch.int64)
    weight = (at - low).to(x.dtype)
    high = (low + 1).clamp(max=length - 1)
    return x.index_select(-1, low) * (1 - weight) + x.index_select(-1, high) * weight
