"""torch.compile of the generated source."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ..errors import CompileError
from .base import Example


class Inductor:
    """torch.compile without graph breaks, dynamic in every size; compiles at the first call."""

    name = "inductor"
    carries_loops = False
    suffix: str | None = None

    def __init__(self, backend: str = "inductor") -> None:
        self.backend = backend

    def build(self, module: nn.Module, example: Example) -> nn.Module:
        compiled = torch.compile(module, fullgraph=True, dynamic=True, backend=self.backend)
        assert isinstance(compiled, nn.Module)
        return compiled

    def save(self, module: nn.Module, example: Example, path: Path) -> None:
        raise CompileError("torch.compile has no file format; export to a .pt2 file instead")
