"""Claims of growth by the clock: `python -m benchmarks.growth [--only NAME] [--seconds S] [--page FILE]`.

Every example formula runs at N, 2N, 4N and 8N, N being the first power of two at which the work outweighs what a call
costs anyway. What time grows by from N to 8N, and peak memory over the last doubling, is set beside what the order of
the plan says.
The tests count operations and bytes instead (tests/plan/test_growth.py), which no cache and no other program disturbs.

The exit code is 0, or 1 if something grows faster than claimed, beyond what the clock can tell.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import json
import os
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

# The profiler that counts memory announces every start on standard error otherwise.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
from torch import Tensor

import attngraph
from attngraph.compiler.report import Report

from . import examples
from .lengths import HELD, Call, at, ratio
from .measure import Call as Timed
from .measure import Clock, interleaved, peak_bytes
from .page import place, put
from .results import machine

WIDTH = 16
FIRST, LAST = 64, 8192  # lengths that N is chosen from
ENOUGH = 0.002  # seconds of a call, from which its fixed part is small
OUTWEIGHS = 4  # times the call at the first length
SLOWEST = 0.6  # seconds: an N whose 8N is expected to take longer is not chosen
MOST = 3e9  # bytes at 8N, likewise
CLOCK_SLACK = 1.5  # from N to 8N, as a working set leaves its cache on the way; a linear claim is missed at 12 times
BYTES_SLACK = 1.15


@dataclass(frozen=True)
class Grown:
    """What one formula did at N, 2N, 4N, 8N.

    sizes: of the sequence axes. seconds: of the processor, the least of some calls.
    bytes: the allocator's peak beyond the inputs.
    time: the growth measured from N to 8N, and that which the order claims; memory: the same of the last doubling.
    why: memory that may grow faster than claimed, because torch's operation holds more than it has to.
    """

    formula: str
    time_order: str
    memory_order: str
    sizes: tuple[dict[str, int], ...]
    seconds: tuple[float, ...]
    bytes: tuple[int, ...]
    time: tuple[float, float]
    memory: tuple[float, float]
    why: str = ""

    @property
    def fits(self) -> bool:
        slow, large = self.time[0] / self.time[1], self.memory[0] / self.memory[1]
        return slow <= CLOCK_SLACK and (large <= BYTES_SLACK or bool(self.why))


def grown(report: Report, clock: Clock) -> Grown:
    """Run one formula at four lengths. Errors: ValueError if it has mistakes, or no lengths that it allows."""
    if report.compiled is None:
        raise ValueError(f"{report.name} has mistakes")
    calls = [_ready(report, length) for length in _lengths(report)]
    runs = [_timed(call) for call in calls]
    with torch.no_grad():
        timings = interleaved(runs, torch.device("cpu"), clock)
        peaks = [peak_bytes(run, torch.device("cpu")) for run in runs]
    seconds = tuple(min(timing.samples) for timing in timings)
    first, before, after = (calls[index].sizes for index in (0, -2, -1))
    return Grown(
        formula=report.name,
        time_order=report.compiled.order,
        memory_order=report.compiled.memory_growth,
        sizes=tuple(dict(call.sizes) for call in calls),
        seconds=seconds,
        bytes=tuple(peaks),
        time=(seconds[-1] / seconds[0], ratio(report.compiled.time_order, first, after)),
        memory=(peaks[-1] / max(1, peaks[-2]), ratio(report.compiled.memory_order, before, after)),
        why=HELD.get(report.name, ""),
    )


def _lengths(report: Report) -> tuple[int, ...]:
    """N, 2N, 4N, 8N: the first N with enough work whose 8N is neither too slow nor too large."""
    assert report.compiled is not None
    length, once, held = FIRST, 0.0, 0
    first: Mapping[str, int] = {}
    while True:
        call = _ready(report, length)
        run = _timed(call)
        with torch.no_grad():
            run()
            taken = []
            for _ in range(3):
                start = time.perf_counter()
                run()
                taken.append(time.perf_counter() - start)
        least = min(taken)
        if not first:
            once, first = least, call.sizes
            with torch.no_grad():
                held = peak_bytes(run, torch.device("cpu"))
        if least >= max(ENOUGH, OUTWEIGHS * once) or length >= LAST:
            break
        further = {axis: 16 * size for axis, size in call.sizes.items()}  # 8N of the next N
        slow = least * ratio(report.compiled.time_order, call.sizes, further)
        large = held * ratio(report.compiled.memory_order, first, further)
        if slow > SLOWEST or large > MOST:
            break
        length *= 2
    return tuple(length * factor for factor in (1, 2, 4, 8))


def _ready(report: Report, length: int) -> Call:
    """A module with inputs that are no constants."""
    call = at(report, length, width=WIDTH)
    made = torch.Generator().manual_seed(0)

    def drawn(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=made) if x.is_floating_point() else x

    return Call(call.module, tuple(drawn(x) for x in call.inputs), call.sizes)


def keep_memory() -> None:
    """Tell the allocator to keep what is freed: otherwise the system hands out cleared pages again at every call.

    That costs as much as the work itself from some size on, and says nothing of the formula. Linux only.
    """
    with suppress(OSError, AttributeError):
        tell = ctypes.CDLL("libc.so.6").mallopt
        for option in (-1, -3):  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
            tell(option, 2**30)


def _timed(call: Call) -> Timed:
    return lambda: call.module(*call.inputs)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the examples; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="formulas whose name contains this")
    parser.add_argument("--seconds", type=float, default=0.05, help="measuring time per length (default: 0.05)")
    parser.add_argument("--page", type=Path, help="also put the table into this page")
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder for growth.json (default: out)")
    arguments = parser.parse_args(argv)
    chosen = [name for name in examples.names() if not arguments.only or any(part in name for part in arguments.only)]
    if not chosen:
        parser.error(f"no example is named like {', '.join(arguments.only)}")
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"cannot make the folder {arguments.output}: {error.strerror}")
    torch.set_num_threads(1)
    keep_memory()
    clock = Clock(arguments.seconds, least=5, most=25, processor=True)
    found: list[Grown] = []
    for number, name in enumerate(chosen, start=1):
        one = grown(attngraph.load(examples.find(name), name).report, clock)
        found.append(one)
        print(f"{number:3}/{len(chosen)}  {_line(one)}", flush=True)
    date, where = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), machine(torch.device("cpu"))
    data = {"date": date, "machine": where, "width": WIDTH, "formulas": [asdict(one) for one in found]}
    (arguments.output / "growth.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    if arguments.page is not None:
        put(arguments.page, markdown(date[:10], place(where), found))
    faster = [one for one in found if not one.fits]
    print(f"{len(found) - len(faster)} of {len(found)} formulas grow as claimed, or slower")
    for one in faster:
        print(f"FASTER  {_line(one)}")
    return int(bool(faster))


def markdown(date: str, where: str, found: Sequence[Grown]) -> str:
    """The table for a page: what grows, by how much, and what was claimed."""
    fit = sum(one.fits for one in found)
    lines = [
        f"Measured on {date}: {where}; float32, one thread, other axes {WIDTH} or what the formula allows. "
        f"{fit} of {len(found)} formulas grow as claimed, or slower.",
        "",
        "| formula | N | ms at N, 2N, 4N, 8N | time | claimed | MB at N, 2N, 4N, 8N | memory | claimed | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in found:
        length = " ".join(f"{axis} {size}" for axis, size in one.sizes[0].items())
        cells = (
            one.formula,
            length,
            ", ".join(f"{value * 1e3:.3g}" for value in one.seconds),
            f"{one.time[0]:.2f}",
            f"{one.time_order}: {one.time[1]:.2f}",
            ", ".join(f"{value / 1e6:.3g}" for value in one.bytes),
            f"{one.memory[0]:.2f}",
            f"{one.memory_order}: {one.memory[1]:.2f}",
            "" if one.fits and not one.why else one.why or "**faster than claimed**",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _line(one: Grown) -> str:
    return (
        f"{one.formula:40} time {one.time_order}: {one.time[0]:.2f} of {one.time[1]:.2f}, "
        f"memory {one.memory_order}: {one.memory[0]:.2f} of {one.memory[1]:.2f}"
    )


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = main()
    sys.exit(code)
