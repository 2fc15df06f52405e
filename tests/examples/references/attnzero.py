"""The published formulas of AttnZero twice: as plain mathematics, and as the released graphs of numbered operators.

Tensors are q, k, v[B, H, N, D]. The graphs are those that the original computes at N different from D.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def _row(x: Tensor) -> Tensor:
    return x / x.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-12)


def _tok(x: Tensor) -> Tensor:
    return x / x.square().sum(-2, keepdim=True).sqrt().clamp(min=1e-12)


def _ssg(x: Tensor) -> Tensor:
    return x / (1 + x.abs())


def _e1(x: Tensor) -> Tensor:
    return torch.where(x > 0, x + 1, torch.exp(x))


def _zs(x: Tensor) -> Tensor:
    """z-score over every element of the batch; what is not a number becomes 0."""
    z = (x - x.mean()) / ((x - x.mean()).square().sum() / (x.numel() - 1)).sqrt()
    return torch.where(z == z, z, 0.0)


def _mm(x: Tensor) -> Tensor:
    return (x - x.min()) / (x.max() - x.min() + 1e-9)


def _log_abs(x: Tensor) -> Tensor:
    return torch.where(x == 0, torch.ones_like(x), x).abs().log()


# -- plain mathematics -----------------------------------------------------------------------------


def attnzero_105(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return q * _row(_row(q) @ _zs(_mm(v).mT @ _e1(k)))


def attnzero_140(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = torch.sigmoid(_e1(k).mT @ v / math.sqrt(q.shape[-1]))
    return _tok(q) + _row(v.abs() @ s.mT)


def attnzero_174(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    u = _tok(1 - torch.sigmoid(v))
    return q + u / u.sum(-1, keepdim=True)


def attnzero_20(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.sigmoid(q) * k * _ssg(v)


def attnzero_228(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.sigmoid(q + k) * torch.sigmoid(-v)


def attnzero_240(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    p = _tok(q + _tok(torch.sigmoid(k.clamp(min=0)) + _ssg(v)))
    return p @ _tok(v.mT @ p).mT


def attnzero_25(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.sigmoid(-q * torch.sign(k)) * _row(v)


def attnzero_272(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _ssg(q) + torch.softmax(v @ torch.sign(v.mT @ _log_abs(k)).mT, -1)


def attnzero_34(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _zs(_tok(k) * v) * (torch.softmax(q, -1) + torch.sign(v))


def attnzero_40(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return q.clone()


def attnzero_76(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return q.clamp(min=0) + torch.softmax(-math.sqrt(q.shape[0] / q.shape[-1]) * q, -1)


def attnzero_80(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return v / math.sqrt(v.shape[-1])


def attnzero_bench_pvt_c100(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _e1(q) - q.shape[0]


def attnzero_bench_pvt_v2_c100(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    u = torch.sigmoid(-q) + _log_abs(v)
    return torch.sigmoid(-_row(k) - _tok(_log_abs(v))) * u / u.sum(-1, keepdim=True)


# -- the released graphs ---------------------------------------------------------------------------


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """The released operator reads the values of its first operand twice."""
    left = a.reshape(a.shape[0], -1)
    right = left.reshape(b.shape[0], -1)
    lengths = [x.square().sum(1).sqrt().clamp(min=1e-8) for x in (left, right)]
    return ((left * right).sum(1) / (lengths[0] * lengths[1])).sum()


def _products(a: Tensor, b: Tensor) -> Tensor:
    """Tokens where the first three axes agree, else features."""
    return a.mT @ b if a.shape[:3] == b.shape[:3] else a @ b.mT


UNARY: dict[int, Callable[[Tensor], Tensor]] = {
    0: lambda x: x,
    2: lambda x: torch.softmax(x, -1),
    4: _log_abs,
    5: torch.abs,
    6: _zs,
    7: _ssg,
    9: torch.sigmoid,
    11: lambda x: x.clamp(min=0).sqrt(),
    12: torch.neg,
    13: _mm,
    14: torch.sign,
    15: lambda x: x * x.shape[-1] ** -0.5,
    16: _e1,
    18: lambda x: x[..., None],
    19: torch.relu,
    20: _tok,
    21: torch.exp,
    22: lambda x: x[None],
    25: _row,
    26: lambda x: 1 - torch.sigmoid(x),
    27: lambda x: x / x.sum(-1, keepdim=True),
}
BINARY: dict[int, Callable[[Tensor, Tensor], Tensor]] = {
    0: torch.add,
    2: torch.mul,
    3: torch.matmul,
    4: _cosine,
    5: _products,
    6: lambda a, b: b.mT @ a if a.shape[:3] == b.shape[:3] else b @ a.mT,
}


@dataclass(frozen=True)
class Config:
    """graph: the wiring; unary: operators per slot, applied left to right; binary: operators of the graph's nodes."""

    graph: str
    unary: tuple[tuple[int, ...], ...]
    binary: tuple[int, ...]


#: Steps of a graph: (list, operand) applies a unary list; (operator, left, right, result) a binary operator.
GRAPHS: dict[str, tuple[dict[str, str], tuple[tuple[int, str] | tuple[int, str, str, str], ...]]] = {
    "i3n2": (
        {"a": "q", "b": "k", "c": "v"},
        ((0, "a"), (1, "b"), (0, "a", "b", "X"), (2, "c"), (3, "X"), (1, "X", "c", "out")),
    ),
    "i3n302": (
        {"a": "q", "b": "k", "c": "v", "d": "v"},
        ((0, "b"), (1, "c"), (2, "d"), (0, "b", "c", "X"), (3, "X"), (1, "d", "X", "Y"), (4, "a"), (5, "Y"),
         (2, "a", "Y", "out")),
    ),
    "i3n303": (
        {"a": "q", "b": "q", "c": "k", "d": "v"},
        ((0, "c"), (1, "d"), (0, "c", "d", "X"), (3, "X"), (2, "b"), (1, "b", "X", "Y"), (4, "a"), (5, "Y"),
         (2, "a", "Y", "out")),
    ),
    "i3n305": (
        {"a": "q", "b": "k", "c": "v", "d": "v"},
        ((0, "b"), (1, "c"), (0, "b", "c", "X"), (2, "a"), (3, "d"), (1, "a", "d", "Y"), (4, "X"), (5, "Y"),
         (2, "X", "Y", "out")),
    ),
    "i3n402": (
        {"a": "q", "b": "k", "c": "v", "d": "v"},
        ((0, "b"), (1, "c"), (0, "b", "c", "X"), (2, "a"), (3, "X"), (1, "a", "X", "Y"), (4, "d"), (5, "Y"),
         (2, "d", "Y", "Z"), (6, "Y"), (7, "Z"), (3, "Y", "Z", "out")),
    ),
}  # fmt: skip

CONFIGS: dict[str, Config] = {
    "attnzero_105": Config("i3n303", ((16,), (0, 13), (0, 25), (6,), (0,), (25, 0)), (6, 3, 2)),
    "attnzero_140": Config("i3n302", ((16,), (15,), (0, 5), (9, 0), (20,), (25,)), (5, 5, 0)),
    "attnzero_174": Config("i3n302", ((0,), (11, 13), (26,), (7, 19), (0,), (20, 27)), (4, 2, 0)),
    "attnzero_20": Config("i3n2", ((9, 22), (0, 0), (7,), (0, 0)), (2, 2)),
    "attnzero_228": Config("i3n2", ((0,), (0, 0), (0, 26), (9,)), (0, 2)),
    "attnzero_240": Config("i3n402", ((19, 9), (7,), (0,), (0, 20), (0,), (20,), (0,), (0, 20)), (0, 0, 5, 5)),
    "attnzero_25": Config("i3n2", ((0,), (0, 14), (0, 25), (26,)), (2, 2)),
    "attnzero_272": Config("i3n302", ((4, 0), (0, 0), (0,), (14,), (0, 7), (0, 2)), (6, 5, 0)),
    "attnzero_34": Config("i3n305", ((20, 0), (0,), (0, 2), (14, 0), (6, 0), (0,)), (2, 0, 2)),
    "attnzero_40": Config("i3n302", ((0, 0), (9, 0), (0,), (0,), (0, 18), (0, 14)), (6, 4, 2)),
    "attnzero_76": Config("i3n303", ((19, 21), (9,), (15, 12), (11,), (0, 19), (2,)), (4, 2, 0)),
    "attnzero_80": Config("i3n2", ((19, 19), (15,), (15, 0), (0, 13)), (4, 0)),
    "attnzero_bench_pvt_c100": Config("i3n303", ((6,), (15,), (0, 0), (11, 0), (16,), (12,)), (2, 4, 0)),
    "attnzero_bench_pvt_v2_c100": Config("i3n305", ((25, 0), (4, 20), (26,), (4,), (26, 0), (27,)), (0, 0, 2)),
}


def run_config(config: Config, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The original's result, with its stray axis of length 1 where it has one."""
    slots, steps = GRAPHS[config.graph]
    values = {slot: {"q": q, "k": k, "v": v}[source] for slot, source in slots.items()}
    for step in steps:
        if len(step) == 2:
            index, name = step
            for operator in config.unary[index]:
                values[name] = UNARY[operator](values[name])
        else:
            index, left, right, result = step
            values[result] = BINARY[config.binary[index]](values[left], values[right])
    return values["out"]
