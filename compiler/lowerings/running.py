"""Running maxima of scores that fall on the way, as plain torch functions. Generated modules carry a copy."""

from __future__ import annotations

import torch
from torch import Tensor

from .precision import accumulator


def doubled(top: Tensor, fall: Tensor) -> tuple[Tensor, Tensor]:
    """The largest of top[m] + fall[m + 1] + ... + fall[n] over m <= n, and the sum of all falls up to n, [..., N].

    By doubling: each position knows 1, 2, 4, ... of those up to it. Falls are added and never subtracted, so that one
    of -inf forgets what lies before, and a strong one takes no digits from those behind it.
    """
    step = 1
    while step < top.size(-1):
        before = torch.nn.functional.pad(top[..., :-step], [step, 0], value=-float("inf"))
        top = torch.maximum(top, before + fall)
        fall = fall + torch.nn.functional.pad(fall[..., :-step], [step, 0])
        step *= 2
    return top, fall


def running_maximum(score: Tensor, gates: Tensor, chunk: int) -> Tensor:
    """out[n] = max over m <= n of score[m] + gates[m + 1] + ... + gates[n], for [..., N] both.

    By doubling in chunks, and from chunk to chunk. The first gate is not looked at.
    """
    wide = accumulator(score)
    top, fall = torch.broadcast_tensors(score.to(wide), gates.to(wide))
    length = top.size(-1)
    if length <= chunk:
        return doubled(top, fall)[0].to(score.dtype)
    count = (length + chunk - 1) // chunk
    missing = count * chunk - length
    top, fall = torch.nn.functional.pad(top, [0, missing]), torch.nn.functional.pad(fall, [0, missing])
    top, fall = doubled(top.unflatten(-1, (count, chunk)), fall.unflatten(-1, (count, chunk)))
    ends = doubled(top[..., -1], fall[..., -1])[0]
    before = torch.nn.functional.pad(ends[..., :-1], [1, 0], value=-float("inf"))
    return torch.maximum(top, before.unsqueeze(-1) + fall).flatten(-2)[..., :length].to(score.dtype)
