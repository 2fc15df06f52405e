"""What a target is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from ..example import example_inputs
from ..formula import Formula
from ..graph import Builder, Graph


@dataclass(frozen=True)
class Example:
    """Makes inputs that fit a formula, for targets that trace.

    sizes, constants: what the module was built with. device, dtype: those of inputs where a call names none.
    """

    formula: Formula
    sizes: Mapping[str, int]
    constants: Mapping[str, int | float]
    device: torch.device | str | None = None
    dtype: torch.dtype | None = None

    def inputs(
        self, *, batch: int = 1, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> tuple[Tensor, ...]:
        """One tensor per input with `batch` batch dimensions. Errors: CompileError where no sizes are found."""
        made = partial(example_inputs, self.formula, self.sizes, self.constants, batch=batch)
        return made(dtype=dtype or self.dtype, device=device if device is not None else self.device)

    def samples(self, *, batch: int = 1, dtype: torch.dtype | None = None) -> tuple[tuple[Tensor, ...], ...]:
        """Random inputs for a comparison: of the sizes of `inputs`, of free sizes doubled, and of odd ones with a batch
        of one. All but the first may not fit the formula."""
        random = torch.Generator().manual_seed(0)
        found = []
        traced = self.inputs(batch=batch, dtype=dtype, device="cpu")
        device = self.device if self.device is not None else "cpu"
        for factor, less in ((1, 0), (2, 0), (2, 1)):
            inputs = []
            for node, ones in zip(self.formula.inputs, traced, strict=True):
                shape = [1 if less else factor * size for size in ones.shape[:batch]]
                own = zip(node.axes, ones.shape[batch:], strict=True)
                shape += [size if axis in self.formula.fixed else factor * size - less for axis, size in own]
                if ones.is_floating_point() or ones.is_complex():
                    inputs.append(torch.randn(shape, generator=random, dtype=ones.dtype))
                elif ones.dtype == torch.bool:
                    inputs.append(torch.rand(shape, generator=random) < 0.7)
                else:
                    inputs.append(ones.new_ones(shape))
            found.append(tuple(tensor.to(device) for tensor in inputs))
        return tuple(found)

    @property
    def axes(self) -> tuple[tuple[str, ...], ...]:
        """The axes of every input, without those of the batch."""
        return tuple(node.axes for node in self.formula.inputs)

    @property
    def results(self) -> tuple[tuple[bool, tuple[str, ...]], ...]:
        """Of every result, whether it has batch dimensions, and its axes."""
        return tuple((node.type.batched, node.axes) for node in self.formula.graph.outputs)


Special = Callable[[Graph, Builder], tuple[Graph, tuple[str, ...]]]
"""A plan, as a target runs it, and what is to be told of it."""


class Target(Protocol):
    """A way to run the generated module, and perhaps a file format.

    suffix: of the file, None where there is none; a suffix may belong to several targets, of which the first is
    taken unless another is named. instead: of each kernel that this target cannot carry as it is, what it runs in its
    place and what that costs. files: those of `lowerings` whose functions stand in. any_batch: whether a saved
    file takes any number of batch dimensions. special: puts algorithms into a plan that only this target carries.
    operator: whether it takes torch's operator for recurrences, which serves any length. launches: whether Python
    launches one operation after the other, for which a GPU waits.
    """

    @property
    def name(self) -> str: ...
    @property
    def suffix(self) -> str | None: ...
    @property
    def instead(self) -> Mapping[str, str]: ...
    @property
    def files(self) -> tuple[str, ...]: ...
    @property
    def any_batch(self) -> bool: ...
    @property
    def special(self) -> Special | None: ...
    @property
    def operator(self) -> bool: ...
    @property
    def launches(self) -> bool: ...

    def build(self, module: nn.Module, example: Example) -> nn.Module:
        """The module as this target runs it. Errors: CompileError."""
        ...

    def save(self, module: nn.Module, example: Example, path: Path, *, batch: int = 1) -> None:
        """Write the module to a file of this target's format. Errors: CompileError."""
        ...


def stand_ins(instead: Mapping[str, str], graph: Graph) -> tuple[str, ...]:
    """What is run in place of algorithms of a plan, as `rule: what, and what it costs`; instead: of each kernel."""
    ops = [node.op for node in graph.nodes()]
    found = ((getattr(op, "rule", op.spelling), getattr(op, "kernel", "")) for op in ops)
    notes = (f"{rule}: {instead[kernel]}" for rule, kernel in found if kernel in instead)
    return tuple(dict.fromkeys(notes))
