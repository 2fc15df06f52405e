"""AOTInductor: the generated source compiled ahead of time to a shared library."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import CompileError
from .base import Example, Special
from .decompositions import aten, convolution
from .instead import TRACED
from .lifted import with_sizes
from .programs import Programs, Run, Stateless, agrees, as_tuple, export, precision, state

# Inductor's patterns for attention take a scale that is made of a size for a number, that of the example: torch 2.13.
CONFIGURATION = {"pattern_matcher": False}
# It takes padding and the number of groups for constants too.
TABLE = {aten.convolution.default: convolution}


class AOTI:
    """A package of machine code that serves without Python. Compiled once, for seconds, dynamic in every size that
    no parameter fixes; no gradients. Saved as a .pt2 file for `torch._inductor.aoti_load_package` and for C++,
    for the number of batch dimensions, the dtype and the device that it was compiled for."""

    name = "aoti"
    suffix: str | None = ".pt2"
    instead = TRACED
    files: tuple[str, ...] = ("at_once.py",)
    any_batch = False
    special: Special | None = None
    operator = True
    launches = False

    def build(self, module: nn.Module, example: Example) -> nn.Module:
        def make(inputs: tuple[Tensor, ...]) -> Run:
            stored = [tensor for _, tensor in state(module)]
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "program.pt2"
                package = _package(Stateless(module), (*inputs, *stored), path, len(stored))

            def run(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
                return package([*tensors, *(tensor.detach() for _, tensor in state(module))])

            _hold(run, module, example, inputs, 1)
            return run

        return Programs(module, example, make)

    def save(self, module: nn.Module, example: Example, path: Path, *, batch: int = 1) -> None:
        inputs = example.inputs(batch=batch)
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / path.name
            _hold(_package(module, inputs, made), module, example, inputs, batch)
            shutil.copyfile(made, path)


def _package(module: nn.Module, inputs: tuple[Tensor, ...], path: Path, fixed: int = 0) -> Run:
    """Compile and write a package; how it runs. Errors: CompileError."""
    with _quiet(), torch.no_grad():
        try:
            program = with_sizes(export(module, inputs, fixed).run_decompositions(TABLE))
            torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=CONFIGURATION)
        except torch._inductor.exc.InductorError as error:
            reason = str(error).strip().partition("\n")[0]
            raise CompileError(f"AOTInductor of torch {torch.__version__} cannot compile this: {reason}") from error
        package = torch._inductor.aoti_load_package(str(path))

    def run(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        with torch.no_grad():
            return as_tuple(package(*tensors))

    return run


def _hold(run: Run, module: nn.Module, example: Example, inputs: Sequence[Tensor], batch: int) -> None:
    """Hold the package to the module: it does not check whether it is called with sizes that torch took for constants.

    Errors: CompileError.
    """
    dtype = precision(inputs) or torch.float32
    try:
        fits = agrees(run, module, example, dtype, batch)
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise CompileError(f"the compiled program cannot run at other sizes than its example's: {reason}") from error
    if not fits:
        raise CompileError(
            f"AOTInductor of torch {torch.__version__} takes a size of the example for a constant, or has another "
            "fault: the compiled program computes something else than the formula; take the target export"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch warns of its own deprecated calls."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
