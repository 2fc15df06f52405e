"""torch.export of the generated source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from .base import Example


class Exported(nn.Module):
    """A module that runs as exported programs: one for each dtype and device, exported when first met.

    A program has exactly one batch dimension; here any number of them broadcasts. Its tensors are
    those of the generated module, `module.*` in the state dict.

    Calls raise TypeError where inputs are missing, unknown or given twice, and ValueError where they
    do not fit the formula.
    """

    def __init__(self, module: nn.Module, example: Example) -> None:
        super().__init__()
        self.module = module
        self.source = module.source
        self.names = tuple(str(name) for name in cast("tuple[str, ...]", module.inputs))
        inputs = example()
        # the number of each input's own dimensions
        self.ranks = tuple(tensor.dim() - 1 for tensor in inputs)
        self._example = example
        self._programs: dict[tuple[torch.dtype | None, torch.device], Callable[..., object]] = {}
        self._program_for(list(inputs))

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor | tuple[Tensor, ...]:
        arguments = self._bind(inputs, named)
        check = getattr(self.module, "check", None)
        if check is not None:  # the program states its guards in terms of its graph; this speaks of the formula
            check(*arguments)
        own = [tensor.shape[tensor.dim() - rank :] for tensor, rank in zip(arguments, self.ranks, strict=True)]
        shapes = [tensor.shape[: tensor.dim() - rank] for tensor, rank in zip(arguments, self.ranks, strict=True)]
        batch = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
        flat = [tensor.expand(*batch, *sizes).reshape(-1, *sizes) for tensor, sizes in zip(arguments, own, strict=True)]
        results = cast("Tensor | tuple[Tensor, ...]", self._program_for(arguments)(*flat))
        if isinstance(results, Tensor):
            return results.reshape((*batch, *results.shape[1:]))
        return tuple(result.reshape((*batch, *result.shape[1:])) for result in results)

    def _bind(self, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> list[Tensor]:
        bound = dict(zip(self.names, inputs, strict=False))
        if len(inputs) > len(self.names) or bound.keys() & named or {*bound, *named} != {*self.names}:
            raise TypeError(f"forward takes {', '.join(self.names)}, each once")
        bound |= named
        return [bound[name] for name in self.names]

    def _program_for(self, inputs: list[Tensor]) -> Callable[..., object]:
        """The program for the dtype and device of these inputs: both are fixed in a program."""
        dtype = next((tensor.dtype for tensor in inputs if tensor.is_floating_point()), None)
        key = (dtype, inputs[0].device)
        if key not in self._programs:
            example = self._example(dtype=dtype, device=key[1])
            self._programs[key] = export(self.module, example).module()
        return self._programs[key]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        self._programs.clear()  # they hold the tensors from before
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def export(module: nn.Module, inputs: tuple[Tensor, ...]) -> ExportedProgram:
    """The program of a module, dynamic in every size that the module does not fix."""
    dynamic = tuple(dict.fromkeys(range(tensor.dim()), Dim.AUTO) for tensor in inputs)
    return torch.export.export(module, inputs, dynamic_shapes=dynamic)


class Export:
    """torch.export with every size dynamic that no parameter fixes. Saved as a .pt2 file, whose
    program takes exactly one batch dimension and the dtype that it was exported for."""

    name = "export"
    carries_loops = False
    suffix: str | None = ".pt2"

    def build(self, module: nn.Module, example: Example) -> nn.Module:
        return Exported(module, example)

    def save(self, module: nn.Module, example: Example, path: Path) -> None:
        torch.export.save(export(module, example()), path)
