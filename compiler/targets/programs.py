"""Modules that run as traced programs: what they take, and when a new program is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..example import complex_dtype
from .base import Example
from .pairs import Pairs

Run = Callable[[Sequence[Tensor]], Sequence[Tensor]]
# How much a program may differ from the module, relative to the largest value; onnxruntime keeps some float64 numbers
# as float32. Other dtypes: as half precision.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}
TOLERANCE_HALF = 5e-2


def export(module: nn.Module, inputs: tuple[Tensor, ...], fixed: int = 0) -> ExportedProgram:
    """The program of a module, dynamic in every size that the module does not fix.

    fixed: how many of the last inputs have sizes that never change.
    """
    free = len(inputs) - fixed
    shapes = [dict.fromkeys(range(tensor.dim()), Dim.AUTO) if i < free else None for i, tensor in enumerate(inputs)]
    # a module whose forward takes *tensors has one argument, the tuple of them
    dynamic = (tuple(shapes),) if isinstance(module, Stateless | Pairs) else tuple(shapes)
    return torch.export.export(module, inputs, dynamic_shapes=dynamic)


def agrees(run: Run, module: nn.Module, example: Example, dtype: torch.dtype, batch: int) -> bool:
    """Whether a program computes what the module does, on random inputs of the sizes that were traced and of others.

    Compilers have faults, and some hold a program to its example without a check of what it is called with.
    """
    for inputs in example.samples(batch=batch, dtype=dtype):
        try:
            with torch.no_grad():
                expected = as_tuple(module(*inputs))
        except ValueError:
            continue  # sizes that the formula does not allow
        for ours, theirs in zip(run(inputs), expected, strict=True):
            limit = TOLERANCE.get(dtype, TOLERANCE_HALF) * max(1e-6, float(theirs.abs().nan_to_num(0, 0, 0).max()))
            if ours.shape != theirs.shape or not torch.allclose(ours, theirs, rtol=0.0, atol=limit, equal_nan=True):
                return False
    return True


class Stateless(nn.Module):
    """A module whose parameters and buffers are arguments, after its inputs; it holds none itself."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._held = [module]  # in a list, so that its tensors are not those of this module
        self.names = [name for name, _ in state(module)]

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        [module] = self._held
        split = len(tensors) - len(self.names)
        stored = dict(zip(self.names, tensors[split:], strict=True))
        return cast("Tensor", torch.func.functional_call(module, stored, tensors[:split]))


def state(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers by name."""
    return [*module.named_parameters(), *module.named_buffers()]


class Programs(nn.Module):
    """A module that runs as programs: one for each dtype and device, made when first met.

    A program has exactly one batch dimension; here any number of them broadcasts, and complex inputs are taken in the
    precision of the real ones. Its tensors are those of the generated module, `module.*` in the state dict, and may
    change between calls.

    make: the program for example inputs. trains: whether it has gradients; where not, calls with inputs that require
    one raise RuntimeError.

    Calls raise TypeError where inputs are missing, unknown or given twice, and ValueError where they do not fit
    the formula.
    """

    def __init__(
        self, module: nn.Module, example: Example, make: Callable[[tuple[Tensor, ...]], Run], *, trains: bool = False
    ) -> None:
        super().__init__()
        self.module = module
        self.source = module.source
        self.names = tuple(str(name) for name in cast("tuple[str, ...]", module.inputs))
        self._example = example
        self._make = make
        self._trains = trains
        self._programs: dict[tuple[torch.dtype | None, torch.device], Run] = {}
        self._program_for(list(example.inputs()))

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor | tuple[Tensor, ...]:
        arguments = self._bind(inputs, named)
        dtype = precision(arguments)
        if dtype is not None:
            arguments = [x.to(complex_dtype(dtype)) if x.is_complex() else x for x in arguments]
        check = getattr(self.module, "check", None)
        if check is not None:  # the program states its guards in terms of its graph; this speaks of the formula
            check(*arguments)
        if not self._trains and torch.is_grad_enabled():
            wanted = [name for name, tensor in zip(self.names, arguments, strict=True) if tensor.requires_grad]
            if wanted:
                raise RuntimeError(
                    f"this program computes no gradients, and {', '.join(wanted)} requires one: "
                    "call it under torch.no_grad(), or compile for eager or inductor to train"
                )
        ranks = [len(axes) for axes in self._example.axes]
        own = [tensor.shape[tensor.dim() - rank :] for tensor, rank in zip(arguments, ranks, strict=True)]
        shapes = [tensor.shape[: tensor.dim() - rank] for tensor, rank in zip(arguments, ranks, strict=True)]
        batch = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
        flat = [tensor.expand(*batch, *sizes).reshape(-1, *sizes) for tensor, sizes in zip(arguments, own, strict=True)]
        found = self._program_for(arguments)(flat)
        results = [
            result.reshape((*batch, *result.shape[1:])) if batched else result
            for result, (batched, _) in zip(found, self._example.results, strict=True)
        ]
        return results[0] if len(results) == 1 else tuple(results)

    def _bind(self, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> list[Tensor]:
        bound = dict(zip(self.names, inputs, strict=False))
        if len(inputs) > len(self.names) or bound.keys() & named or {*bound, *named} != {*self.names}:
            raise TypeError(f"forward takes {', '.join(self.names)}, each once")
        bound |= named
        return [bound[name] for name in self.names]

    def _program_for(self, inputs: list[Tensor]) -> Run:
        """The program for the dtype and device of these inputs: both are fixed in a program."""
        dtype = precision(inputs)
        key = (dtype, inputs[0].device)
        if key not in self._programs:
            self._programs[key] = self._make(self._example.inputs(dtype=dtype, device=key[1]))
        return self._programs[key]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        self._programs.clear()  # they are for the tensors from before
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def precision(inputs: Sequence[Tensor]) -> torch.dtype | None:
    """The dtype of the real numbers of a call, parts of complex ones included; None where there are none."""
    real = [tensor.dtype for tensor in inputs if tensor.is_floating_point()]
    parts = [tensor.dtype.to_real() for tensor in inputs if tensor.is_complex()]
    return next(iter((*real, *parts)), None)


def as_tuple(results: object) -> Sequence[Tensor]:
    return (results,) if isinstance(results, Tensor) else cast("Sequence[Tensor]", results)
