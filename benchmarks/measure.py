"""Clocks and counters: interleaved timings, peaks of memory, differences of values. Knows no formula."""

from __future__ import annotations

import gc
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from .baselines import Attention

Call = Callable[[], object]

# A sample shorter than this is mostly the clock and the scheduler: several calls make one sample.
LEAST_SAMPLE = 0.002
QUICK_CALL = 0.1


@dataclass(frozen=True)
class Clock:
    """How long to measure: `seconds` per contender, within `least` and `most` samples.

    processor: counts the time that the processor works for this process, on all its cores; on a machine that other
    programs use it says more than the time that passes.
    """

    seconds: float = 0.5
    least: int = 3
    most: int = 25
    processor: bool = False


@dataclass(frozen=True)
class Timing:
    """Seconds per call, one number per round; the same round of two timings saw the same machine."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """The middle half of the samples, as a part of the median: 0.1 is ten percent."""
        if len(self.samples) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return (high - low) / self.median

    def over(self, other: Timing) -> float:
        """How many times longer this takes, as the median over rounds, so that drift of the machine cancels."""
        return statistics.median(a / b for a, b in zip(self.samples, other.samples, strict=True))


class Stopwatch:
    """Seconds between `start` and `stop`: of time that passes, or that the processor works. now: tells the time."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._since = 0.0

    def start(self) -> None:
        self._since = self._now()

    def stop(self) -> float:
        return self._now() - self._since


class Events(Stopwatch):
    """Seconds on a GPU, between two marks in its queue of work: from an idle GPU to the end of what was launched."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device
        with torch.cuda.device(device):
            self._first, self._last = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def start(self) -> None:
        torch.cuda.synchronize(self._device)
        self._first.record(torch.cuda.current_stream(self._device))

    def stop(self) -> float:
        self._last.record(torch.cuda.current_stream(self._device))
        self._last.synchronize()
        return self._first.elapsed_time(self._last) / 1e3


def stopwatch(device: torch.device, clock: Clock) -> Stopwatch:
    if device.type == "cuda":
        return Events(device)
    return Stopwatch(time.process_time if clock.processor else time.perf_counter)


def interleaved(
    calls: Sequence[Call], device: torch.device, clock: Clock, watch: Stopwatch | None = None
) -> list[Timing]:
    """Time calls side by side: every round takes one sample of each, in an order of its own.

    A quick call is made once more before every sample, so that nobody pays for the memory and the caches that the one
    before has left. watch: instead of the one of the device.
    """

    watch = watch or stopwatch(device, clock)

    def sample(call: Call, repeats: int) -> float:
        watch.start()
        for _ in range(repeats):
            call()
        return watch.stop() / repeats

    once = [min(sample(call, 1), sample(call, 1)) for call in calls]
    repeats = [max(1, math.ceil(LEAST_SAMPLE / max(seconds, 1e-7))) for seconds in once]
    lap = sum(seconds * count for seconds, count in zip(once, repeats, strict=True))
    rounds = max(clock.least, min(clock.most, int(clock.seconds * len(calls) / lap)))
    samples: list[list[float]] = [[] for _ in calls]
    order = list(range(len(calls)))
    shuffle = random.Random(0).shuffle
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            shuffle(order)
            for turn in order:
                if once[turn] < QUICK_CALL:
                    calls[turn]()
                samples[turn].append(sample(calls[turn], repeats[turn]))
    finally:
        gc.enable()
    return [Timing(tuple(each)) for each in samples]


def fastest(variants: Mapping[int, Attention], arguments: tuple[Tensor, ...]) -> int:
    """The key of the function that is quickest on these arguments, forward."""

    def bound(function: Attention) -> Call:
        return lambda: function(*arguments)

    with torch.no_grad():
        calls = [bound(function) for function in variants.values()]
        timings = interleaved(calls, arguments[0].device, Clock(0.1, 3, 7))
    return min(zip(timings, variants, strict=True), key=lambda pair: pair[0].median)[1]


def peak_bytes(call: Call, device: torch.device) -> int:
    """Bytes that torch's allocator holds at the peak of a call beyond what it held before, scratch memory included."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        result = call()
    del result
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        trace.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Ev Idx"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]")
    held = peak = 0
    for _, _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


def difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference of any tensor, relative to its largest value; infinite for other shapes, NaN or infinity.

    A tensor that is nearly zero beside the others, as the gradient of something that cancels, counts as a thousandth
    of the largest: what it holds is rounding.
    """
    worst = 0.0
    least = 1e-3 * max((b.double().abs().max().item() for b in expected), default=0.0) or 1e-30
    for a, b in zip(found, expected, strict=True):
        if a.shape != b.shape:
            return math.inf
        relative = ((a.double() - b.double()).abs().max() / b.double().abs().max().clamp(min=least)).item()
        worst = max(worst, relative) if relative == relative else math.inf
    return worst
