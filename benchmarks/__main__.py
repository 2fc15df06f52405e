"""Speed and memory against named baselines: `python -m benchmarks [--full] [--only NAME] [--threads 1,2] ...`.

Every formula of the suite is run as generated, under torch.compile, literally as its text stands, and against the best
plain PyTorch written by hand. Values are compared before anything is timed. The table is printed; `bench.json`,
`bench.svg` and `bench.png` go to the output folder.

The exit code is 0, or 1 if values differ (with --strict also if a target is missed), or 2 for unusable options.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

# The profiler that counts memory announces every start on standard error otherwise.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch

from . import check
from .measure import Clock
from .page import markdown, put
from .results import overhead_table, record, table, verdict_table, verdicts, write
from .runner import Row, Settings, Wrong, overheads, run, run_large
from .suite import CASES, LARGE, Case, Point, Sizes

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}
QUICK, FULL = (128, 512, 2048), (256, 1024, 4096, 16384)
ON_CUDA = (1024, 2048, 4096, 8192, 16384, 32768)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suite; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="B = 2 and N up to 16384; minutes, and 10 GB of memory")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="formulas whose name contains this")
    parser.add_argument("--lengths", type=_numbers, metavar="N,N,...", help="lengths of the sequence; CUDA: to 32768")
    parser.add_argument("--threads", type=_numbers, metavar="T,T,...", help="torch threads (default: 1 and all)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--large", action="store_true", help="also B = 2 and N up to 16384, for one thread and all")
    parser.add_argument("--dtype", choices=DTYPES, help="default: float32, on CUDA bfloat16")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out: it takes most of the time")
    parser.add_argument(
        "--seconds", type=float, default=None, help="measuring time per contender (default: 0.3; full: 2)"
    )
    parser.add_argument(
        "--processor", action="store_true", help="processor time, not time that passes: for a machine that others use"
    )
    parser.add_argument("--strict", action="store_true", help="a missed target is a failure")
    parser.add_argument("--page", type=Path, help="also put the tables into this page, and the picture beside it")
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder for files (default: out)")
    arguments = parser.parse_args(argv)
    chosen = [case for case in CASES if not arguments.only or any(part in case.name for part in arguments.only)]
    if not chosen:
        parser.error(f"no formula is named like {', '.join(arguments.only)}; there are {_names(CASES)}")
    if arguments.device not in ("cpu", "cuda"):
        parser.error(f"there is no device {arguments.device}; there are cpu and cuda")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        built = "finds none" if torch.backends.cuda.is_built() else "was built without CUDA"
        parser.error(f"there is no CUDA device here: torch {torch.__version__} {built}")
    device = torch.device(arguments.device)
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"cannot make the folder {arguments.output}: {error.strerror}")
    full, cuda = arguments.full, device.type == "cuda"
    settings = Settings(
        lengths=tuple(sorted(arguments.lengths or (ON_CUDA if cuda else FULL if full else QUICK))),
        sizes=Sizes(batch=2 if full or cuda else 1),
        threads=arguments.threads or _thread_counts(device),
        device=device,
        dtype=DTYPES[arguments.dtype or ("bfloat16" if cuda else "float32")],
        clock=Clock(arguments.seconds or (2.0 if full else 0.3), most=25, processor=arguments.processor),
        compiled=not arguments.no_compile,
        full=full,
    )
    names = {case.name for case in chosen}
    points = tuple(point for point in LARGE if arguments.large and point.name in names)
    return _run(chosen, points, settings, arguments.output, arguments.strict, arguments.page)


def _run(
    cases: Sequence[Case], points: Sequence[Point], settings: Settings, folder: Path, strict: bool, page: Path | None
) -> int:
    start = time.perf_counter()
    if settings.clock.processor and (settings.device.type == "cuda" or settings.threads != (1,)):
        _say("processor time is that of all threads, and of none of a GPU's\n")
    _say(
        f"torch {torch.__version__} on {settings.device.type}, {str(settings.dtype).removeprefix('torch.')}; "
        f"B = {settings.sizes.batch}, H = {settings.sizes.heads}, D = E = {settings.sizes.width}\n"
        "ratio: the time of `attngraph` over that of the line, rounds interleaved; below 1 it is faster\n"
    )
    rows: list[Row] = []
    wrong: list[Wrong] = []
    every = replace(settings, threads=_thread_counts(settings.device))
    for outcomes in (*(run(case, settings) for case in cases), *(run_large([point], every) for point in points)):
        own: list[Row] = []
        for found in outcomes:
            own += [each for each in found if isinstance(each, Row)]
            wrong += [each for each in found if isinstance(each, Wrong)]
        rows += own
        if own:
            _say(table(own) + "\n")
    costs = overheads(settings)
    _say(overhead_table(costs) + "\n")
    found_targets = list(verdicts(rows, costs))
    _say("targets, at the greatest length\n" + verdict_table(found_targets) + "\n")
    data = record(settings, rows, costs, wrong, found_targets)
    for path in write(data, rows, folder):
        _say(f"  {path}")
    if page is not None:
        put(page, markdown(data, check.lines(check.results(3))))
        page.with_suffix(".svg").write_bytes((folder / "bench.svg").read_bytes())
        _say(f"  {page}")
    for each in wrong:
        _say(f"WRONG  {each}")
    _say(f"\n{time.perf_counter() - start:.0f} seconds")
    return int(bool(wrong) or (strict and not all(each.met for each in found_targets)))


def _say(text: str) -> None:
    """Text that shows at once, also through a pipe."""
    print(text, flush=True)


def _numbers(text: str) -> tuple[int, ...]:
    """Positive whole numbers between commas, each once."""
    numbers = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    if min(numbers) < 1:
        raise ValueError(text)
    return numbers


def _thread_counts(device: torch.device) -> tuple[int, ...]:
    """One, and all cores; on CUDA threads do not matter."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return (1,) if device.type == "cuda" or cores == 1 else (1, cores)


def _names(cases: Sequence[Case]) -> str:
    return ", ".join(case.name for case in cases)


if __name__ == "__main__":
    with warnings.catch_warnings():
        # torch.compile speaks of what it would do on other hardware
        warnings.simplefilter("ignore")
        code = main()
    sys.exit(code)
