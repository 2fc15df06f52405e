"""Counterexamples: both formulas run on drawn inputs, in search of a place where they differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from .digits import cancelled
from .matching import Matched, all_sizes, name_of
from .rounding import explained, samples
from .verdict import Counterexample, Side

TOLERANCE = 1e-7  # relative to the largest entry; float64 rounds to 1e-16
FINE = 1e-13  # where the formulas are known to differ
ROUNDING = 1e-3  # differences below this are none against exact evaluation
TIMES = 1e2  # a difference is certain if it is so much larger than what random rounding makes of the values
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
    """A search for a counterexample to two formulas. It keeps the modules that it has built.

    finite: whether only finite values are compared. doubtful: whether values differed where rounding may be why.
    unlike: whether results had different sizes.
    """

    matched: Matched
    finite: bool = False
    doubtful: bool = False
    unlike: bool = False
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
        finite_only = self.finite or Manner(seed % len(Manner)) in _FINITE_ONLY
        certain: _Certain | None = None
        for output, (left, right) in enumerate(zip(*results, strict=True)):
            if any(a != b and 1 not in (a, b) for a, b in zip(left.shape, right.shape, strict=False)):
                self.unlike = True
                return None
            wrong, apart, scale = _wrong(left, right, tolerance, finite_only)
            if not bool(wrong.any()):
                continue
            certain = certain or _Certain(lambda index: self._run(index, sizes, values), results)
            place = certain.place(output, torch.where(wrong, apart, 0.0))
            if place is None or self._rounded(sizes):
                self.doubtful = True
                continue
            left, right = torch.broadcast_tensors(left, right)  # type: ignore[no-untyped-call]
            found = Counterexample(dict(sizes), seed, output, place, left[place].item(), right[place].item())
            return found, finite_only or apart[place].item() < ROUNDING * scale
        return None

    def _rounded(self, sizes: Mapping[str, int]) -> bool:
        """Whether a number that the formulas compute from sizes and literals loses its digits."""
        sides = ((self.matched.left, sizes), (self.matched.right, self.matched.other_sizes(sizes)))
        return any(cancelled(side.graph.nodes(), all_sizes(side.formula, own)) for side, own in sides)

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


@dataclass(frozen=True)
class _Certain:
    """Differences that rounding does not explain. run: runs one of the formulas, of which `results` are the values."""

    run: Callable[[int], list[Tensor] | None]
    results: Sequence[list[Tensor] | None]

    def place(self, output: int, apart: Tensor) -> tuple[int, ...] | None:
        """The place of the largest such difference, if there is one; it has to be one in further runs too."""
        certain = self._beyond(output, apart, 0)
        if not bool((certain > 0).any()):
            return None
        place = tuple(int(i) for i in torch.unravel_index(certain.argmax(), certain.shape))
        return place if self._beyond(output, apart, 1)[place].item() > 0 else None

    def _beyond(self, output: int, apart: Tensor, seed: int) -> Tensor:
        """The differences without those that rounding explains in one of the runs."""
        noise = [torch.zeros(()), torch.zeros(())]
        for both in zip(samples(lambda: self.run(0), seed), samples(lambda: self.run(1), seed), strict=False):
            for index, (values, moved) in enumerate(zip(self.results, both, strict=True)):
                if values is None or moved is None:
                    return torch.zeros_like(apart)
                noise[index] = torch.maximum(noise[index], explained(values[output], moved[output]))
            apart = torch.where(apart > TIMES * (noise[0] + noise[1]), apart, 0.0)
            if not bool(apart.any()):
                break
        return apart


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


def _wrong(left: Tensor, right: Tensor, tolerance: float, finite_only: bool) -> tuple[Tensor, Tensor, float]:
    """Where the values differ beyond the tolerance, how far they are apart, and the largest entry.

    The tolerance is relative to the largest entry. Not a number equals itself.
    """
    left, right = torch.broadcast_tensors(left, right)  # type: ignore[no-untyped-call]
    if not _is_real(left):
        apart = (left != right).to(torch.float64)
        return apart > 0, apart, 1.0
    finite = torch.isfinite(left) & torch.isfinite(right)
    same = (left == right) | (torch.isnan(left.abs()) & torch.isnan(right.abs()))
    apart = torch.where(finite, (left - right).abs(), torch.where(same | finite_only, 0.0, math.inf))
    scale = max(left[finite].abs().max().item(), right[finite].abs().max().item()) if finite.any() else 0.0
    return apart > tolerance * scale + 1e-300, apart, scale
