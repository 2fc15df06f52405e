"""Modules of example formulas with given or drawn parameters, and their comparison. In double precision."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

import attngraph
from benchmarks import examples

from .cases import normal

Consts = Mapping[str, int | float]


def build(
    name: str, consts: Consts | None = None, sizes: Mapping[str, int] | None = None, **values: Tensor
) -> nn.Module:
    """The module of an example with values for its parameters and buffers."""
    module = attngraph.compile(examples.find(name), name=name, consts=consts or {}, sizes=sizes or {}).double()
    held = dict([*module.named_parameters(), *module.named_buffers()])
    with torch.no_grad():
        for key, value in values.items():
            held[key].copy_(value)
    return module.requires_grad_(False)


def drawn(name: str, consts: Consts | None = None, **sizes: int) -> tuple[nn.Module, dict[str, Tensor]]:
    """The module with normal parameters, and these by name."""
    module = build(name, consts, sizes)
    values = dict(module.named_parameters())
    for value in values.values():
        value.copy_(normal(tuple(value.shape)))
    return module, values


def same(actual: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    """Equal up to the tolerance, relative to the largest expected entry."""
    limit = tolerance * expected.abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=limit)
