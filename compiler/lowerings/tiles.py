"""Sums over a function of pairs, a few rows at a time. Generated modules carry a copy of what they use."""

from __future__ import annotations

import torch
from torch import Tensor


def pointwise(x: Tensor, function: str) -> Tensor:
    """A function of every element, by its name in the language."""
    if function == "relu":
        return torch.relu(x)
    if function == "sigmoid":
        return torch.sigmoid(x)
    if function == "gelu":
        return torch.nn.functional.gelu(x)
    if function == "silu":
        return torch.nn.functional.silu(x)
    if function == "softplus":
        return torch.nn.functional.softplus(x)
    return torch.tanh(x)


def sum_of_pairs(query: Tensor, key: Tensor, weight: Tensor, function: str, rows: int) -> Tensor:
    """out[n, m] = sum over a of weight[a] f(query[n, a] + key[m, a]), for [N, A], [M, A], [A].

    A few rows at a time: the value over n, m and a is never stored as a whole.
    """
    key, weight = key.unsqueeze(-3), weight.unsqueeze(-2).unsqueeze(-1)
    parts: list[Tensor] = []
    for part in torch.split(query, rows, -2):
        parts.append(torch.matmul(pointwise(part.unsqueeze(-2) + key, function), weight).squeeze(-1))
    return torch.cat(parts, -2)


def rows_of_block(x: Tensor) -> int:
    """How many queries are computed at a time: few on a processor, whose cache then holds their part of a map."""
    return 128 if x.device.type == "cpu" else 1024
