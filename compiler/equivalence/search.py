"""Counterexamples: both formulas run on drawn inputs, in search of a place where they differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor, nn

from ..emit import Generated, emit
from ..emit.arguments import constructor_arguments
from ..emit.settle import plan_sizes
from ..graph import Node
from ..loader import load_class
from ..ops.leaves import Literal
from ..types import Kind
from .matching import Matched, name_of
from .verdict import Counterexample, Side

TOLERANCE = 1e-7  # relative to the largest entry; float64 rounds to 1e-16
FINE = 1e-13  # where the formulas are known to differ
ROUNDING = 1e-3  # differences below this are compared with what rounding does
STEP = 4e-16  # relative size of the change of inputs that stands for rounding
TIMES = 1e2  # rounding inside of the formulas may be so much larger than what that change makes of the values
MAX_NUMBERS = 12


class Manner(Enum):
    """How real inputs are drawn."""

    NORMAL = 0
    POSITIVE = 1
    WHOLE = 2
    NAMED = 3
    TINY = 4
    LARGE = 5


#: manners in which only finite values are compared: they are meant to reach guards, not to overflow
_FINITE_ONLY = (Manner.NAMED, Manner.TINY, Manner.LARGE)
_ALL = tuple(Manner)


@dataclass
class Search:
    """A search for a counterexample to two formulas. It keeps the modules that it has built."""

    matched: Matched
    _sources: dict[int, Generated] = field(default_factory=dict)
    _modules: dict[tuple[object, ...], nn.Module] = field(default_factory=dict)

    def examples(
        self, sizes: Mapping[str, int], seed: int, manners: Sequence[Manner] = _ALL, tolerance: float = TOLERANCE
    ) -> Iterator[tuple[Counterexample, bool]]:
        """Places where the values differ, and whether rounding may be why."""
        for manner in manners:
            found = self._example(sizes, seed + manner.value, tolerance)
            if found is not None:
                yield found

    def _example(self, sizes: Mapping[str, int], seed: int, tolerance: float) -> tuple[Counterexample, bool] | None:
        values = self._draw_all(sizes, seed)
        results = [self._run(index, sizes, values) for index in (0, 1)]
        if results[0] is None or results[1] is None:
            return None
        finite_only = Manner(seed % len(Manner)) in _FINITE_ONLY
        for output, (left, right) in enumerate(zip(*results, strict=True)):
            place, difference = _apart(left, right, tolerance, finite_only)
            if place is None:
                continue
            if difference < ROUNDING and difference < TIMES * self._noise(sizes, values, results, output):
                continue
            left, right = torch.broadcast_tensors(left, right)  # type: ignore[no-untyped-call]
            found = Counterexample(dict(sizes), seed, output, place, left[place].item(), right[place].item())
            return found, finite_only or difference < ROUNDING
        return None

    def _draw_all(self, sizes: Mapping[str, int], seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        numbers = _numbers((self.matched.left, self.matched.right))
        values: dict[str, Tensor] = {}
        for index in (0, 1):
            for node, name, axes in self.matched.given(index):
                if name not in values:
                    shape = [sizes[axis] for axis in axes]
                    values[name] = draw(node, shape, Manner(seed % len(Manner)), numbers)
        return values

    def _noise(
        self,
        sizes: Mapping[str, int],
        values: Mapping[str, Tensor],
        results: Sequence[list[Tensor] | None],
        output: int,
    ) -> float:
        """How much a change of the inputs in the last digits changes the values, relative to the largest."""
        moved = {
            name: value + value * STEP * torch.randn(value.shape, dtype=torch.float64) if _is_real(value) else value
            for name, value in values.items()
        }
        worst = 0.0
        for index in (0, 1):
            before, after = results[index], self._run(index, sizes, moved)
            if before is None or after is None or not _is_real(before[output]):
                continue
            worst = max(worst, _apart(before[output], after[output], 0.0, True)[1])
        return worst

    def _run(self, index: int, sizes: Mapping[str, int], values: Mapping[str, Tensor]) -> list[Tensor] | None:
        """The results; None for inputs that the formula does not take, as positions outside a table."""
        side = (self.matched.left, self.matched.right)[index]
        module = self._module(index, side, sizes if index == 0 else self.matched.other_sizes(sizes))
        own = {name_of(node): values[name] for node, name, _ in self.matched.given(index)}
        tensors = dict([*module.named_parameters(), *module.named_buffers()])
        with torch.no_grad():
            for name, tensor in tensors.items():
                if name in own:
                    tensor.copy_(own[name])
            try:
                result = module(*(own[name_of(node)] for node in side.formula.inputs))
            except (IndexError, RuntimeError):
                return None
        return list(result) if isinstance(result, tuple) else [result]

    def _module(self, index: int, side: Side, sizes: Mapping[str, int]) -> nn.Module:
        """The generated module; its source is the same for all sizes."""
        fixed = {axis: sizes[axis] for axis in side.formula.fixed if axis in sizes}
        key = (index, *sorted(fixed.items()))
        if key not in self._modules:
            if index not in self._sources:
                self._sources[index] = emit(side.formula, side.graph)
            settled = plan_sizes(side.formula)
            known, constants = constructor_arguments(side.formula, settled, fixed)
            arguments = [*(known[axis] for axis in settled.given), *(constants[name] for name in settled.constants)]
            self._modules[key] = load_class(self._sources[index])(*arguments).double()
        return self._modules[key]


def _numbers(sides: Sequence[Side]) -> tuple[float, ...]:
    """The numbers that the formulas mention, as constants and inside of operations."""
    found: dict[float, None] = {}
    for side in sides:
        for node in side.graph.nodes():
            if isinstance(node.op, Literal) and math.isfinite(node.op.value):
                found[float(node.op.value)] = None
            for size in node.op.scalars():
                number = size.as_number()
                found |= {} if number is None else {float(number): None}
        found |= dict.fromkeys(map(float, side.formula.constants.values()))
    return tuple(found)[:MAX_NUMBERS]


def draw(node: Node, shape: Sequence[int], manner: Manner, numbers: Sequence[float]) -> Tensor:
    """Values of an input, parameter or buffer; numbers: those that the formulas mention."""
    match node.type.kind:
        case Kind.BOOL:
            return torch.rand(shape) < (0.1, 0.9, 0.6, 0.5, 0.0, 1.0)[manner.value]
        case Kind.INT:
            if manner is Manner.NAMED:
                named = torch.tensor([0, *(int(number) for number in numbers if abs(number) < 2**31)])
                return named[torch.randint(len(named), shape)] + torch.randint(-1, 2, shape)
            return torch.randint(*((0, 2), (0, 3), (0, 2), (0, 0), (1, 2), (0, 40))[manner.value], shape)
        case Kind.COMPLEX:
            return torch.randn(shape, dtype=torch.complex128)
    values = torch.randn(shape, dtype=torch.float64)
    match manner:
        case Manner.POSITIVE:
            return values.abs() + 0.1
        case Manner.WHOLE:
            return torch.randint(-1, 3, shape).to(torch.float64)
        case Manner.NAMED:
            table = torch.tensor([sign * number for number in (*numbers, 0.0) for sign in (1, -1)], dtype=torch.float64)
            near = torch.tensor([0.0, 1e-3, -1e-3, 1.0, -1.0], dtype=torch.float64)
            return table[torch.randint(len(table), shape)] + near[torch.randint(len(near), shape)]
        case Manner.TINY:
            return values * 10.0 ** torch.randint(-14, -2, shape)
        case Manner.LARGE:
            return values * 40
    return values


def _is_real(value: Tensor) -> bool:
    return value.is_floating_point() or value.is_complex()


def _apart(left: Tensor, right: Tensor, tolerance: float, finite_only: bool) -> tuple[tuple[int, ...] | None, float]:
    """The place of the largest difference, if there is one beyond the tolerance, and its size.

    Both are relative to the largest entry. Not a number equals itself.
    """
    left, right = torch.broadcast_tensors(left, right)  # type: ignore[no-untyped-call]
    scale = 1.0
    if not _is_real(left):
        wrong = (left != right).to(torch.float64)
    else:
        finite = torch.isfinite(left) & torch.isfinite(right)
        same = (left == right) | (torch.isnan(left.abs()) & torch.isnan(right.abs()))
        wrong = torch.where(finite, (left - right).abs(), torch.where(same | finite_only, 0.0, math.inf))
        scale = max(left[finite].abs().max().item(), right[finite].abs().max().item()) if finite.any() else 0.0
    if not wrong.numel():
        return None, 0.0
    largest = wrong.max().item()
    if largest <= tolerance * scale + 1e-300:
        return None, largest / (scale or 1.0)
    return tuple(int(i) for i in torch.unravel_index(wrong.argmax(), wrong.shape)), largest / (scale or 1.0)
