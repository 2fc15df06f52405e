"""Strides that are made of sizes, in the order that inductor lays a tensor out by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import torch
from torch import fx


def inductor(graph: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
    """The backend of that name, which compares strides of unlike expressions by the sizes that it was called with.

    Torch 2.13 does so in most places. In some it hands the expressions to sympy, which cannot tell whether half a size
    is less than 3, and the compilation fails. The order decides where elements lie, and never what is computed.
    torch compiles one function at a time, under a lock of its own, so that nobody else meets what is replaced.
    """
    from torch._inductor import ir
    from torch._inductor.virtualized import V

    plain = ir.get_fill_order

    def by_sizes(strides: Sequence[Any], shapes: Any = None) -> Sequence[int]:
        return plain(strides, V.graph.sizevars.shape_env if shapes is None else shapes)

    with mock.patch.object(ir, "get_fill_order", by_sizes):
        return torch._dynamo.lookup_backend("inductor")(graph, inputs)  # type: ignore[arg-type]
