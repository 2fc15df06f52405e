"""torch.compile of the generated source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from ..errors import CompileError
from ..graph import Builder, Graph
from ..lowerings.flex import with_flex
from .base import Example, Special
from .instead import FUNCTIONS, TRACED
from .strides import inductor


class Inductor:
    """torch.compile without graph breaks, dynamic in every size; compiles at the first call."""

    name = "inductor"
    suffix: str | None = None
    instead: Mapping[str, str] = TRACED
    files: tuple[str, ...] = ("at_once.py",)
    any_batch = True
    special: Special | None = None
    operator = False
    launches = False

    def __init__(self, backend: str | Callable[..., Any] = inductor) -> None:
        self.backend = backend

    def build(self, module: nn.Module, example: Example) -> nn.Module:
        compiled = torch.compile(module, fullgraph=True, dynamic=True, backend=self.backend)
        assert isinstance(compiled, nn.Module)
        return compiled

    def save(self, module: nn.Module, example: Example, path: Path, *, batch: int = 1) -> None:
        raise CompileError("torch.compile has no file format; take `export` or `aoti`, which write .pt2 files")


def _with_flex(graph: Graph, builder: Builder) -> tuple[Graph, tuple[str, ...]]:
    return with_flex(graph, builder), ()


class Flex(Inductor):
    """torch.compile with FlexAttention, where scores of a softmax are changed by functions of positions."""

    name = "flex"
    instead = MappingProxyType({**TRACED, **FUNCTIONS})
    special = staticmethod(_with_flex)
