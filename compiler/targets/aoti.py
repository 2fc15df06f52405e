"""AOTInductor: the generated source compiled ahead of time to a shared library."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import CompileError
from .base import Example
from .instead import TRACED
from .programs import Programs, Run, Stateless, as_tuple, export, state


class AOTI:
    """A package of machine code that serves without Python. Compiled once, for seconds, dynamic in every size that
    no parameter fixes; no gradients. Saved as a .pt2 file for `torch._inductor.aoti_load_package` and for C++,
    for the number of batch dimensions, the dtype and the device that it was compiled for."""

    name = "aoti"
    suffix: str | None = ".pt2"
    instead = TRACED
    files: tuple[str, ...] = ("at_once.py",)
    any_batch = False
    flexible = False

    def build(self, module: nn.Module, example: Example) -> nn.Module:
        def make(inputs: tuple[Tensor, ...]) -> Run:
            stored = [tensor for _, tensor in state(module)]
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "program.pt2"
                _package(Stateless(module), (*inputs, *stored), path, len(stored))
                package = torch._inductor.aoti_load_package(str(path))

            def run(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
                with torch.no_grad():
                    return as_tuple(package(*tensors, *(tensor.detach() for _, tensor in state(module))))

            return run

        return Programs(module, example, make)

    def save(self, module: nn.Module, example: Example, path: Path, *, batch: int = 1) -> None:
        _package(module, example.inputs(batch=batch), path)


def _package(module: nn.Module, inputs: tuple[Tensor, ...], path: Path, fixed: int = 0) -> None:
    """Compile and write a package. Errors: CompileError."""
    with _quiet(), torch.no_grad():
        try:
            torch._inductor.aoti_compile_and_package(export(module, inputs, fixed), package_path=str(path))
        except torch._inductor.exc.InductorError as error:
            reason = str(error).strip().partition("\n")[0]
            raise CompileError(f"AOTInductor of torch {torch.__version__} cannot compile this: {reason}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch warns of its own deprecated calls."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
