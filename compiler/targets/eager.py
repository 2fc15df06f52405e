"""The generated source, run by Python as it is."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from .base import Example


class Eager:
    """Plain PyTorch. Saved as Python source."""

    name = "eager"
    carries_loops = True
    suffix: str | None = ".py"

    def build(self, module: nn.Module, example: Example) -> nn.Module:
        return module

    def save(self, module: nn.Module, example: Example, path: Path) -> None:
        path.write_text(str(module.source), encoding="utf-8")
