"""Runs the suite: values first, then time and memory, everybody side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from .baselines import HALF, linear_by_matmul
from .measure import Call, Clock, Timing, difference, fastest, interleaved, peak_bytes
from .suite import CASES, LARGE_SIZES, PRODUCT, Case, Contender, Kind, Point, Sizes, contenders, decoders, problem

Mode = Literal["forward", "training", "decoding"]

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 1e-1, torch.float16: 2e-2}
"""Largest relative difference from the first contender by hand that counts as rounding, for values and gradients."""


@dataclass(frozen=True)
class Settings:
    """What to run.

    lengths: every N, ascending; the last is measured with all the thread counts, the others with the first.
    compiled: torch.compile takes part, at the last length, forward (in training, and in loops, where `full`).
    memory: peaks are counted at the last length, which takes a traced call each.
    """

    lengths: tuple[int, ...]
    sizes: Sizes = field(default_factory=Sizes)
    threads: tuple[int, ...] = (1,)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    clock: Clock = field(default_factory=Clock)
    compiled: bool = True
    full: bool = False
    memory: bool = True


@dataclass(frozen=True)
class Row:
    """One contender at one length.

    difference: of its values (and gradients) from those of the first contender by hand, relative; None for a yardstick.
    batch: the size of the batch axis.
    peak: bytes allocated at the peak of one call, beyond inputs; None where they were not counted.
    """

    formula: str
    mode: Mode
    length: int
    threads: int
    contender: str
    kind: Kind
    compiled: bool
    note: str
    timing: Timing
    ratio: float
    peak: int | None
    difference: float | None
    batch: int = 1


@dataclass(frozen=True)
class Wrong:
    """A contender whose values differ by more than rounding: nobody of its group is timed."""

    formula: str
    mode: Mode
    length: int
    contender: str
    difference: float
    tolerance: float

    def __str__(self) -> str:
        return (
            f"{self.formula}, {self.mode}, N = {self.length}: `{self.contender}` differs by {self.difference:.1e} "
            f"(at most {self.tolerance:.0e} is rounding)"
        )


@contextmanager
def threads_of(count: int) -> Iterator[None]:
    """Torch's own threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def modes(case: Case) -> tuple[Mode, ...]:
    training: tuple[Mode, ...] = ("training",) if case.training else ()
    decoding: tuple[Mode, ...] = ("decoding",) if case.decoding else ()
    return ("forward", *training, *decoding)


def run(case: Case, settings: Settings) -> Iterator[list[Row] | list[Wrong]]:
    """Every mode, length and number of threads of a case; rows, or who is wrong in their place."""
    for mode in modes(case):
        for length in settings.lengths:
            last = length == settings.lengths[-1]
            for threads in settings.threads if last else settings.threads[:1]:
                compiled = settings.compiled and last and (settings.full or (mode == "forward" and threads == 1))
                with threads_of(threads):
                    yield group(case, mode, length, settings, compiled)
                if compiled:
                    torch.compiler.reset()


def run_large(points: Sequence[Point], settings: Settings) -> Iterator[list[Row] | list[Wrong]]:
    """The larger sizes, each with all the thread counts; torch.compile takes part in forward, with the first."""
    for point in points:
        case = next(each for each in CASES if each.name == point.name)
        case = case if point.literal else replace(case, literal_up_to=0)
        own = replace(settings, lengths=(point.length,), sizes=LARGE_SIZES)
        for threads in settings.threads:
            compiled = settings.compiled and point.mode == "forward" and threads == settings.threads[0]
            with threads_of(threads):
                yield group(case, point.mode, point.length, own, compiled)
            if compiled:
                torch.compiler.reset()


def group(case: Case, mode: Mode, length: int, settings: Settings, compiled: bool) -> list[Row] | list[Wrong]:
    """Everybody at one length: compared first, timed only if all agree."""
    made = problem(case, settings.sizes.of(case, length), settings.device, settings.dtype)
    training = mode == "training"
    if mode == "decoding":
        with torch.no_grad():
            everyone = decoders(made)
    else:
        everyone = contenders(made, length, training=training, compiled=compiled, loops=settings.full, fastest=fastest)
    leaves = tuple(x for x in (*made.inputs, *made.product.parameters()))
    everyone, values = _fitting(everyone, leaves, made.literal, training)
    reference = next(i for i, each in enumerate(everyone) if each.kind == "hand")
    expected = values[reference] if mode == "decoding" else None  # where every call takes one token more
    if expected is None:
        expected = _expected(everyone[reference], leaves, made.literal, training)
    calls = [_call(each, leaves, made.literal, training) for each in everyone]
    differences = [None if value is None else difference(value, expected) for value in values]
    del values, expected
    tolerance = TOLERANCE[settings.dtype]
    wrong = [
        Wrong(case.name, mode, length, each.name, found, tolerance)
        for each, found in zip(everyone, differences, strict=True)
        if found is not None and not found <= tolerance
    ]
    if wrong:
        return wrong
    timings = interleaved(calls, settings.device, settings.clock)
    counted = settings.memory and length == settings.lengths[-1]
    peaks = [peak_bytes(call, settings.device) if counted else None for call in calls]
    return [
        Row(
            formula=case.name,
            mode=mode,
            length=length,
            threads=torch.get_num_threads(),
            contender=each.name,
            kind=each.kind,
            compiled=each.compiled,
            note=each.note,
            timing=timing,
            ratio=timings[0].over(timing),
            peak=peak,
            difference=found,
            batch=settings.sizes.batch,
        )
        for each, timing, peak, found in zip(everyone, timings, peaks, differences, strict=True)
    ]


def _expected(
    each: Contender, leaves: tuple[Tensor, ...], literal: nn.Module, training: bool
) -> tuple[Tensor, ...]:
    """What somebody computes, in float32 where the inputs are half precision."""
    wide = tuple(x.detach().float() if x.dtype in HALF else x for x in leaves)
    return _call(replace(each, arguments=wide), wide, literal, training)()


def _fitting(
    everyone: Sequence[Contender], leaves: tuple[Tensor, ...], literal: nn.Module, training: bool
) -> tuple[list[Contender], list[tuple[Tensor, ...] | None]]:
    """Those for whom the memory suffices, the product in any case, with their values but for yardsticks."""
    fitting: list[Contender] = []
    values: list[tuple[Tensor, ...] | None] = []
    for each in everyone:
        try:
            value = _call(each, leaves, literal, training)()
        except torch.OutOfMemoryError:
            if each.name == PRODUCT:
                raise
            continue
        fitting.append(each)
        values.append(None if each.kind == "yardstick" else value)
    return fitting, values


def _call(
    each: Contender, leaves: tuple[Tensor, ...], literal: nn.Module, training: bool
) -> Callable[[], tuple[Tensor, ...]]:
    """The value alone, without a graph; or the value and its gradients for inputs and parameters."""
    if not training:

        def forward() -> tuple[Tensor, ...]:
            with torch.no_grad():
                return (each.call(*each.arguments),)

        return forward
    own = (*leaves[: len(leaves) - len(list(literal.parameters()))], *literal.parameters())
    targets = own if each.kind == "literal" else leaves
    for tensor in targets:
        tensor.requires_grad_()

    def both() -> tuple[Tensor, ...]:
        value = each.call(*each.arguments)
        # the gradient of half the sum of squares, so that every entry counts differently
        return (value.detach(), *torch.autograd.grad(value, targets, value.detach()))

    return both


# -- what a call costs beside its torch calls -------------------------------------------------------------------


@dataclass(frozen=True)
class Overhead:
    """Microseconds per call at tiny sizes: the compiled module, the torch calls alone, and the difference."""

    formula: str
    module: float
    bare: float
    overhead: float


def _fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(q, k, v)


BARE = {"softmax_attention": _fused, "linear_attention": linear_by_matmul}


def overheads(settings: Settings) -> list[Overhead]:
    """What checks, names and the module protocol cost per call, for formulas whose torch calls are few."""
    found = []
    tiny = Sizes(batch=1, heads=2, width=8)
    for name, bare in BARE.items():
        case = next(each for each in CASES if each.name == name)
        made = problem(case, tiny.of(case, 16), settings.device, settings.dtype)

        def module(made: object = made.product, inputs: tuple[Tensor, ...] = made.inputs) -> object:
            assert callable(made)
            return made(*inputs)

        def alone(bare: Callable[..., Tensor] = bare, inputs: tuple[Tensor, ...] = made.inputs) -> object:
            return bare(*inputs)

        calls: Sequence[Call] = (module, alone)
        with torch.no_grad(), threads_of(1):
            ours, theirs = interleaved(calls, settings.device, replace(settings.clock, least=5, most=200))
        gaps = [a - b for a, b in zip(ours.samples, theirs.samples, strict=True)]
        found.append(Overhead(name, ours.median * 1e6, theirs.median * 1e6, sorted(gaps)[len(gaps) // 2] * 1e6))
    return found
