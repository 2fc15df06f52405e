"""torch.jit.script of the generated source."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from .base import Example, Special


class TorchScript:
    """TorchScript, which torch deprecates but still runs. Saved with torch.jit.save."""

    name = "torchscript"
    suffix: str | None = ".pt"
    instead: Mapping[str, str] = MappingProxyType({})
    files: tuple[str, ...] = ()
    any_batch = True
    special: Special | None = None
    operator = False
    launches = False

    def build(self, module: nn.Module, example: Example) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            scripted: nn.Module = torch.jit.script(module)
        return scripted

    def save(self, module: nn.Module, example: Example, path: Path, *, batch: int = 1) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.save(torch.jit.script(module), str(path))
