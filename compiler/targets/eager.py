"""The generated source, run by Python as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from torch import nn

from .base import Example, Special


class Eager:
    """Plain PyTorch. Saved as Python source."""

    name = "eager"
    suffix: str | None = ".py"
    instead: Mapping[str, str] = MappingProxyType({})
    files: tuple[str, ...] = ()
    any_batch = True
    special: Special | None = None
    operator = False
    launches = True

    def build(self, module: nn.Module, example: Example) -> nn.Module:
        return module

    def save(self, module: nn.Module, example: Example, path: Path, *, batch: int = 1) -> None:
        path.write_text(str(module.source), encoding="utf-8")
