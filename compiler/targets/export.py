"""torch.export of the generated source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from .base import Example, Special
from .instead import TRACED
from .programs import Programs, Run, as_tuple, export


class Export:
    """torch.export with every size dynamic that no parameter fixes. Saved as a .pt2 file, whose
    program takes the number of batch dimensions and the dtype that it was exported for."""

    name = "export"
    suffix: str | None = ".pt2"
    instead = TRACED
    files: tuple[str, ...] = ("at_once.py",)
    any_batch = False
    special: Special | None = None
    operator = True
    launches = False

    def build(self, module: nn.Module, example: Example) -> nn.Module:
        def make(inputs: tuple[Tensor, ...]) -> Run:
            program = export(module, inputs).module()

            def run(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
                return as_tuple(program(*tensors))

            return run

        return Programs(module, example, make, trains=True)

    def save(self, module: nn.Module, example: Example, path: Path, *, batch: int = 1) -> None:
        torch.export.save(export(module, example.inputs(batch=batch)), path)
