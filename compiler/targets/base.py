"""What a target is."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn


class Example(Protocol):
    """Makes inputs that fit the formula, with one batch dimension, for targets that trace."""

    def __call__(
        self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> tuple[Tensor, ...]: ...


class Target(Protocol):
    """A way to run the generated module, and perhaps a file format.

    carries_loops: whether a loop over the chunks of a sequence leaves its length dynamic.
    """

    name: str
    suffix: str | None
    carries_loops: bool

    def build(self, module: nn.Module, example: Example) -> nn.Module:
        """The module as this target runs it."""
        ...

    def save(self, module: nn.Module, example: Example, path: Path) -> None:
        """Write the module to a file of this target's format."""
        ...
