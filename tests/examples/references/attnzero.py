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
#
# Operators as released, those that change their argument included: names may share storage, and a graph gives every
# slot a copy of its own. A graph of operators that do not fit each other raises.


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """The released operator reads the values of its first operand twice."""
    left = a.reshape(a.shape[0], -1)
    right = left.reshape(b.shape[0], -1)
    return torch.cosine_similarity(left, right).sum()


def _fits(a: Tensor, b: Tensor) -> bool:
    """Whether the products of rank four go over tokens; over features otherwise, or not at all."""
    if a.dim() != 4 or b.dim() != 4:
        raise ValueError("both operands need rank 4")
    if a.shape[:3] == b.shape[:3]:
        return True
    if (*a.shape[:2], a.shape[3]) == (*b.shape[:2], b.shape[3]):
        return False
    raise ValueError("neither tokens nor features agree")


def _products(a: Tensor, b: Tensor) -> Tensor:
    return a.mT @ b if _fits(a, b) else a @ b.mT


def _products_transposed(a: Tensor, b: Tensor) -> Tensor:
    return b.mT @ a if _fits(a, b) else b @ a.mT


def _concatenated(a: Tensor, b: Tensor) -> Tensor:
    if a.dim() != b.dim() or a.shape[:-1] != b.shape[:-1]:
        raise ValueError("only the last axes may differ")
    return torch.cat([a, b], -1)


def _of_rank(x: Tensor, least: int, most: int = 99) -> Tensor:
    if not least <= x.dim() <= most:
        raise ValueError(f"rank {x.dim()}")
    return x


def _log_abs_in_place(x: Tensor) -> Tensor:
    x[x == 0] = 1
    return x.abs().log()


def _sqrt_in_place(x: Tensor) -> Tensor:
    x[x <= 0] = 0
    return x.sqrt()


def _by_sum_in_place(x: Tensor) -> Tensor:
    x /= _of_rank(x, 1).sum(-1, keepdim=True)
    return x


def _released_zs(x: Tensor) -> Tensor:
    z = (x - x.mean()) / x.std() if x.numel() > 1 else torch.zeros_like(x)
    return torch.where(z == z, z, 0.0)


#: How often the operator `repeat` repeats.
TIMES = 192
UNARY: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda x: x,
    lambda x: _of_rank(x, 2).mT,
    lambda x: torch.softmax(x, -1),
    lambda x: torch.log(x + 1e-9),
    _log_abs_in_place,
    torch.abs,
    _released_zs,
    _ssg,
    lambda x: 1 / (x + 1e-6),
    torch.sigmoid,
    lambda x: torch.log_softmax(x, -1),
    _sqrt_in_place,
    torch.neg,
    _mm,
    torch.sign,
    lambda x: _of_rank(x, 4, 4) * x.shape[-1] ** -0.5,
    _e1,
    lambda x: _of_rank(x, 3).sum(2),
    lambda x: x[..., None],
    torch.relu,
    lambda x: _tok(_of_rank(x, 2)),
    torch.exp,
    lambda x: x[None],
    lambda x: _of_rank(x, 2).sum(1),
    lambda x: 1 / (_of_rank(x, 0, 3).repeat(1, 1, TIMES) + 1e-8),
    lambda x: _row(x) if x.dim() else x / x.abs().clamp(min=1e-12),
    lambda x: 1 - torch.sigmoid(x),
    _by_sum_in_place,
)
BINARY: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    torch.add,
    lambda a, b: (a - b + 1e-6).square().sum(-1).sqrt() if (a + b).dim() else (a - b + 1e-6).abs(),
    torch.mul,
    torch.matmul,
    _cosine,
    _products,
    _products_transposed,
    lambda a, b: torch.einsum("bnsd,bnd->bns", a, b),
    lambda a, b: torch.einsum("bti,bi->bt", a, b),
    _concatenated,
)


@dataclass(frozen=True)
class Config:
    """graph: the wiring; unary: operators per slot, applied left to right; binary: operators of the graph's nodes."""

    graph: str
    unary: tuple[tuple[int, ...], ...]
    binary: tuple[int, ...]


Step = tuple[int, str] | tuple[int, str, str, str] | tuple[str, str]
"""(list, operand) applies a unary list; (operator, left, right, result) a binary one; (name, new): one tensor."""

GRAPHS: dict[str, tuple[dict[str, str], tuple[Step, ...]]] = {
    "i3n2": (
        {"a": "q", "b": "k", "c": "v"},
        ((0, "a"), (1, "b"), (0, "a", "b", "X"), (2, "c"), (3, "X"), (1, "X", "c", "out")),
    ),
    "i3n301": (
        {"a": "q", "b": "k", "c": "v"},
        ((0, "a"), (1, "b"), (0, "a", "b", "X"), ("X", "d"), (2, "c"), (4, "d"), (3, "X"), (1, "X", "c", "Y"), (5, "Y"),
         (2, "Y", "d", "out")),
    ),
    "i3n301_bench": (
        {"a": "q", "b": "k", "c": "v"},
        ((0, "a"), (1, "b"), (0, "a", "b", "X"), ("X", "d"), (2, "c"), (3, "X"), (1, "X", "c", "Y"), (4, "d"), (5, "Y"),
         (2, "Y", "d", "out")),
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
    "i3n304": (
        {"a": "q", "b": "k", "c": "v", "d": "v"},
        ((0, "b"), (1, "c"), (0, "b", "c", "X"), (3, "X"), (2, "a"), (1, "a", "X", "Y"), (4, "d"), (5, "Y"),
         (2, "d", "Y", "out")),
    ),
    "i3n305": (
        {"a": "q", "b": "k", "c": "v", "d": "v"},
        ((0, "b"), (1, "c"), (0, "b", "c", "X"), (2, "a"), (3, "d"), (1, "a", "d", "Y"), (4, "X"), (5, "Y"),
         (2, "X", "Y", "out")),
    ),
    "i3n401": (
        {"a": "q", "b": "q", "c": "k", "d": "k", "e": "v"},
        ((0, "d"), (1, "e"), (0, "d", "e", "X"), (2, "b"), (3, "c"), (1, "b", "c", "Y"), (4, "a"), (5, "X"),
         (2, "a", "X", "Z"), (6, "Y"), (7, "Z"), (3, "Y", "Z", "out")),
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
    """The original's result, with its stray axis of length 1 where it has one. Errors: operators that do not fit."""
    slots, steps = GRAPHS[config.graph]
    values = {slot: {"q": q, "k": k, "v": v}[source].clone() for slot, source in slots.items()}
    for step in steps:
        match step:
            case (int(index), name):
                for operator in config.unary[index]:
                    values[name] = UNARY[operator](values[name])
            case (str(old), name):
                values[name] = values[old]
            case (int(index), left, right, result):
                values[result] = BINARY[config.binary[index]](values[left], values[right])
    return values["out"]
