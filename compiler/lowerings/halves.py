"""Products of pairs in a chunk of which every feature decays by a gate of its own. Generated modules carry a copy."""

from __future__ import annotations

import torch
from torch import Tensor

from .precision import accumulator


def gate_values(gates: Tensor) -> Tensor:
    """Gates of which these are the logarithms, in float32 where they are half precision."""
    return torch.exp(gates.to(accumulator(gates)))


def in_blocks(matrix: Tensor, count: int, fill: float) -> Tensor:
    """[..., N, X] as [..., N / count, count, X], with rows of a number behind it where the last block is not full."""
    missing = -matrix.size(-2) % count
    if missing > 0:
        matrix = torch.nn.functional.pad(matrix, [0, 0, 0, missing], value=fill)
    return matrix.unflatten(-2, (-1, count))


def block_size(length: int, most: int) -> int:
    """The power of two that so many positions fit in, or `most`, if that is less."""
    size = 1
    while size < min(length, most):
        size *= 2
    return size


def pairs_by_halves(
    query: Tensor, key: Tensor, gates: Tensor, offset: int, reads_before: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """score[n, m] = sum over f of gates[m + 1, f] ... gates[n, f] query[n, f] key[m, f], for m <= n - offset.

    query, key, gates: [..., C, F], C a power of two; offset: 0 or 1. reads_before: a query reads what its own gate has
    not decayed, gates[m + 1, f] ... gates[n - 1, f], and the offset is 1. Besides, the products of the gates from the
    start up to each query, and from behind each position up to the end, and of all of them, [..., 1, F].

    Two blocks of positions become one of both: a query of the second and a key of the first meet where the blocks do,
    each decayed up to there, so that what they have together is a product of matrices. Nothing is divided and no
    logarithm taken: for gates in -1 .. 1 nothing overflows, 0 is exact, and a strong gate takes no digits from a weak
    one behind it.
    """
    count, size = query.size(-2), 1
    q, k, whole = query.unsqueeze(-2), key.unsqueeze(-2), gates.unsqueeze(-2)
    end = torch.ones_like(whole)
    start = end if reads_before else whole
    score = torch.broadcast_tensors((q * k).sum(-1, keepdim=True), whole[..., :1])[0]
    if offset != 0:
        score = torch.zeros_like(score)
    while size < count:
        both = (count // size // 2, 2)
        late, early = q.unflatten(-3, both).select(-3, 1), k.unflatten(-3, both).select(-3, 0)
        starts, ends, scores = start.unflatten(-3, both), end.unflatten(-3, both), score.unflatten(-3, both)
        first, second = starts.select(-3, 0), starts.select(-3, 1)
        before, after = ends.select(-3, 0), ends.select(-3, 1)
        wholes = whole.unflatten(-3, both)
        one, other = wholes.select(-3, 0), wholes.select(-3, 1)
        if size > 1 or not reads_before:
            late = late * second
        if size > 1:
            early = early * before
        if size > 2:
            across = torch.matmul(late, early.mT)
        else:  # products of few rows each are slow as products of matrices
            across = (late.unsqueeze(-2) * early.unsqueeze(-3)).sum(-1)
        above = torch.nn.functional.pad(scores.select(-3, 0), [0, size])
        score = torch.cat([above, torch.cat([across, scores.select(-3, 1)], -1)], -2)
        start = torch.cat([first, second * one], -2)
        end = torch.cat([before * other, after], -2)
        whole = one * other
        size *= 2
        q, k = query.unflatten(-2, (count // size, size)), key.unflatten(-2, (count // size, size))
    return score.squeeze(-3), start.squeeze(-3), end.squeeze(-3), whole.squeeze(-3)
