"""The generated source, with the kernels of flash-linear-attention where they compute what the plan says."""

from __future__ import annotations

from importlib.util import find_spec

from torch import nn

from ..errors import CompileError
from ..lowerings.fla import with_fla
from .base import Example
from .eager import Eager


class FLA(Eager):
    """The source, run by Python: torch.compile does not trace through the library's operations."""

    name = "fla"
    suffix: str | None = None
    special = staticmethod(with_fla)

    def build(self, module: nn.Module, example: Example) -> nn.Module:
        if find_spec("fla") is None:
            raise CompileError("the target `fla` needs flash-linear-attention: pip install 'attngraph[fla]'")
        return module
