"""torch.jit.script of the generated source."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from .base import Example


class TorchScript:
    """TorchScript, which torch deprecates but still runs. Saved with torch.jit.save."""

    name = "torchscript"
    carries_loops = True
    suffix: str | None = ".pt"

    def build(self, module: nn.Module, example: Example) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            scripted: nn.Module = torch.jit.script(module)
        return scripted

    def save(self, module: nn.Module, example: Example, path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.save(torch.jit.script(module), str(path))
