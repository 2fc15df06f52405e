"""Products of pairs in a chunk of which every feature decays by a gate of its own. Generated modules carry a copy."""

from __future__ import annotations

import torch
from torch import Tensor


def up_to_a_power_of_two(matrix: Tensor) -> Tensor:
    """The matrix with rows of 0 behind it, so that their number is a power of two."""
    count, rows = 1, matrix.size(-2)
    while count < rows:
        count *= 2
    return matrix if count == rows else torch.nn.functional.pad(matrix, [0, 0, 0, count - rows])


def pairs_by_halves(query: Tensor, key: Tensor, gates: Tensor, offset: int) -> tuple[Tensor, Tensor, Tensor]:
    """score[n, m] = sum over f of exp(gates[m + 1, f] + ... + gates[n, f]) query[n, f] key[m, f], for m <= n - offset.

    query, key, gates: [..., C, F], C a power of two and the gates their logarithms; offset: 0 or 1. Besides, the sums
    of the gates from the start up to each position, and from behind each position up to the end.

    Two blocks of positions become one of both: a query of the second and a key of the first meet where the blocks do,
    each decayed up to there, so that what they have together is a product of matrices. No exponent is a difference of
    sums, and for gates of 1 at most none is above 0: nothing overflows, and a strong gate takes no digits from a weak
    one behind it. Exponentials: F (C / 2) (2 log2(C) - 1), where those of every pair by itself would be F C C.
    """
    count, size = query.size(-2), 1
    q, k, start = query.unsqueeze(-2), key.unsqueeze(-2), gates.unsqueeze(-2)
    end = torch.zeros_like(start)
    score = torch.broadcast_tensors((q * k).sum(-1, keepdim=True), start[..., :1])[0]
    if offset != 0:
        score = torch.zeros_like(score)
    while size < count:
        both = (count // size // 2, 2)
        late, early = q.unflatten(-3, both).select(-3, 1), k.unflatten(-3, both).select(-3, 0)
        starts, ends, scores = start.unflatten(-3, both), end.unflatten(-3, both), score.unflatten(-3, both)
        first, second = starts.select(-3, 0), starts.select(-3, 1)
        before, after = ends.select(-3, 0), ends.select(-3, 1)
        late = late * torch.exp(second)
        if size > 1:
            early = early * torch.exp(before)
        if size > 2:
            across = torch.matmul(late, early.mT)
        else:  # products of few rows each are slow as products of matrices
            across = (late.unsqueeze(-2) * early.unsqueeze(-3)).sum(-1)
        above = torch.nn.functional.pad(scores.select(-3, 0), [0, size])
        score = torch.cat([above, torch.cat([across, scores.select(-3, 1)], -1)], -2)
        start = torch.cat([first, second + first[..., -1:, :]], -2)
        end = torch.cat([before + second[..., -1:, :], after], -2)
        size *= 2
        q, k = query.unflatten(-2, (count // size, size)), key.unflatten(-2, (count // size, size))
    return score.squeeze(-3), start.squeeze(-3), end.squeeze(-3)
