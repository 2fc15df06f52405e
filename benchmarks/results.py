"""What came out: targets kept or missed, a table, JSON, and a picture of time over length."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure

from .runner import Overhead, Row, Settings, Wrong
from .suite import PRODUCT

RATIO_LIMIT = 1.05
OVERHEAD_LIMIT = 10.0  # microseconds
SHORT = 0.0002  # seconds; a call that takes less is judged by what it takes more
FORMAT = 1

_COLOURS = {"product": "#0072b2", "literal": "#d55e00", "hand": "#009e73", "library": "#cc79a7", "yardstick": "#7b8794"}
_INK, _FAINT = "#1f2933", "#e4e7eb"


@dataclass(frozen=True)
class Verdict:
    """One target: what was asked, what came out, in the unit of the limit."""

    what: str
    value: float
    limit: float
    unit: str

    @property
    def met(self) -> bool:
        return self.value <= self.limit


Group = tuple[str, str, int, int]
"""Formula, mode, threads, batch."""


def groups(rows: Iterable[Row]) -> dict[Group, dict[int, list[Row]]]:
    """Rows by formula, mode, threads and batch, then by length."""
    found: defaultdict[Group, dict[int, list[Row]]] = defaultdict(dict)
    for row in rows:
        found[row.formula, row.mode, row.threads, row.batch].setdefault(row.length, []).append(row)
    return dict(found)


def verdicts(rows: Iterable[Row], overheads: Iterable[Overhead]) -> Iterator[Verdict]:
    """Every target, at the greatest length of each group, with the first number of threads.

    More threads are reported and not judged: where another program holds a core, they wait for each other.
    The module as generated against the quickest function by hand; and the quickest form of both where some of those
    by hand are compiled.
    """
    grouped = groups(rows)
    for (formula, mode, threads, batch), lengths in grouped.items():
        if threads != min(key[2] for key in grouped if key[0] == formula and key[3] == batch):
            continue
        length = max(lengths)
        found = lengths[length]
        for compiled in (False, True):
            theirs = [r for r in found if r.kind in ("hand", "library") and r.compiled == compiled]
            ours = [r for r in found if r.kind == "product" and r.compiled <= compiled]
            if not theirs or not ours:
                continue
            best = min(theirs, key=lambda row: row.timing.median)
            mine = min(ours, key=lambda row: row.timing.median)
            where = f"{formula}, {mode}, {'' if batch == 1 else f'B = {batch}, '}N = {length}, {_threads(threads)}"
            what = f"{where}: {mine.contender} over {best.contender}{f' ({best.note})' if best.note else ''}"
            if best.timing.median < SHORT:  # as one step of decoding: mostly what any call costs
                gaps = sorted(a - b for a, b in zip(mine.timing.samples, best.timing.samples, strict=True))
                yield Verdict(f"{what}, beside", gaps[len(gaps) // 2] * 1e6, OVERHEAD_LIMIT, "µs")
            else:
                yield Verdict(what, mine.timing.over(best.timing), RATIO_LIMIT, "x")
    for each in overheads:
        yield Verdict(f"{each.formula}: a call beside its torch calls", each.overhead, OVERHEAD_LIMIT, "µs")


# -- words ------------------------------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> str:
    """One formula, mode and number of threads: a line per contender, a column of milliseconds per length."""
    lines = []
    for (formula, mode, threads, batch), lengths in groups(rows).items():
        order = sorted(lengths)
        last = {row.contender: row for row in lengths[order[-1]]}
        cells = {(row.contender, n): f"{row.timing.median * 1e3:.3g}" for n in order for row in lengths[n]}
        names = list(dict.fromkeys(row.contender for n in reversed(order) for row in lengths[n]))
        lines.append(f"{formula}, {mode}, {'' if batch == 1 else f'B = {batch}, '}{_threads(threads)}; milliseconds")
        heads = "".join(f"{f'N={n}':>10}" for n in order)
        lines.append(f"  {'':<38}{heads}{'spread':>9}{'ratio':>8}{'peak MB':>10}")
        for name in names:
            values = "".join(f"{cells.get((name, n), '-'):>10}" for n in order)
            row = last.get(name)
            tail = ""
            if row is not None:
                peak = "-" if row.peak is None else f"{row.peak / 1e6:.2f}"
                tail = f"{row.timing.spread:>9.0%}{row.ratio:>8.2f}{peak:>10}"
            shown = name + (f" ({row.note})" if row is not None and row.note else "")
            lines.append(f"  {shown:<38}{values}{tail}")
    return "\n".join(lines)


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def overhead_table(overheads: Sequence[Overhead]) -> str:
    lines = [f"per call at tiny sizes, microseconds{'module':>14}{'torch calls':>14}{'overhead':>11}"]
    lines += [f"  {each.formula:<34}{each.module:>14.1f}{each.bare:>14.1f}{each.overhead:>11.1f}" for each in overheads]
    return "\n".join(lines)


def verdict_table(found: Sequence[Verdict]) -> str:
    width = max((len(each.what) for each in found), default=0)
    return "\n".join(
        f"  {'met   ' if v.met else 'MISSED'} {v.what:<{width}} {v.value:8.2f} {v.unit} (limit {v.limit:g})"
        for v in found
    )


# -- files ------------------------------------------------------------------------------------------------------


def machine(device: torch.device) -> dict[str, Any]:
    """Where the numbers are from."""
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), "")


def record(
    settings: Settings,
    rows: Sequence[Row],
    overheads: Sequence[Overhead],
    wrong: Sequence[Wrong],
    found: Sequence[Verdict],
) -> dict[str, Any]:
    """Everything as JSON data; docs/performance.md says what the fields mean."""
    sizes = settings.sizes
    return {
        "format": FORMAT,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(settings.device),
        "settings": {
            "lengths": list(settings.lengths),
            "batch": sizes.batch,
            "heads": sizes.heads,
            "width": sizes.width,
            "dtype": str(settings.dtype).removeprefix("torch."),
            "device": settings.device.type,
            "threads": list(settings.threads),
            "clock": "processor" if settings.clock.processor else "wall",
        },
        "measurements": [
            {
                "formula": row.formula,
                "mode": row.mode,
                "length": row.length,
                "threads": row.threads,
                "contender": row.contender,
                "kind": row.kind,
                "compiled": row.compiled,
                "note": row.note,
                "median_ms": row.timing.median * 1e3,
                "spread": row.timing.spread,
                "samples_ms": [sample * 1e3 for sample in row.timing.samples],
                "ratio": row.ratio,
                "peak_bytes": row.peak,
                "difference": row.difference,
                "batch": row.batch,
            }
            for row in rows
        ],
        "overheads": [
            {"formula": o.formula, "module_us": o.module, "bare_us": o.bare, "overhead_us": o.overhead}
            for o in overheads
        ],
        "wrong": [{"formula": w.formula, "mode": w.mode, "length": w.length, "contender": w.contender} for w in wrong],
        "targets": [{"what": v.what, "value": v.value, "limit": v.limit, "unit": v.unit, "met": v.met} for v in found],
    }


def write(data: dict[str, Any], rows: Sequence[Row], folder: Path) -> tuple[Path, ...]:
    """Write `bench.json`, `bench.svg` and `bench.png` into an existing folder; returns the paths."""
    path = folder / "bench.json"
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return (path, *draw(rows, folder)) if rows else (path,)


def draw(rows: Sequence[Row], folder: Path) -> tuple[Path, Path]:
    """Time over length, a panel per formula and mode, with the first number of threads; both axes logarithmic.

    Where the lines of two contenders cross, the better choice changes.
    """
    first = rows[0].threads
    panels = {key: lengths for key, lengths in groups(rows).items() if key[2:] == (first, rows[0].batch)}
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.9 * lines), layout="constrained", facecolor="white")
    grid = figure.subplots(lines, columns, squeeze=False)
    for panel in list(grid.flat)[len(panels) :]:
        panel.set_visible(False)
    for panel, ((formula, mode, *_), lengths) in zip(grid.flat, panels.items(), strict=False):
        order = sorted(lengths)
        styles: defaultdict[str, int] = defaultdict(int)
        names = dict.fromkeys(row.contender for n in order for row in lengths[n] if row.kind != "product")
        for name in (*names, *dict.fromkeys(r.contender for n in order for r in lengths[n] if r.kind == "product")):
            points = [(n, row) for n in order for row in lengths[n] if row.contender == name]
            kind = points[0][1].kind
            number = styles[kind]
            styles[kind] += 1
            panel.plot(
                [n for n, _ in points],
                [row.timing.median * 1e3 for _, row in points],
                color=_COLOURS[kind],
                linewidth=3.2 if name == PRODUCT else 1.6,
                linestyle=("-", "--", ":", "-.")[number % 4],
                marker="osDv"[number % 4],
                markersize=4,
                label=name,
            )
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(order, [f"{n:,}" for n in order])
        panel.minorticks_off()
        panel.set_title(f"{formula}\n{mode}", fontsize=11, fontweight="bold", color=_INK)
        panel.grid(color=_FAINT, linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(colors=_INK, labelsize=9)
        panel.legend(fontsize=7.5, frameon=False, labelcolor=_INK, loc="upper left")
    for panel in grid[:, 0]:
        panel.set_ylabel("milliseconds", fontsize=10, color=_INK)
    for panel in grid[-1]:
        panel.set_xlabel("length of the sequence", fontsize=10, color=_INK)
    figure.suptitle(f"Time of one call, {first} thread{'s' if first > 1 else ''}, median", fontsize=13, color=_INK)
    paths = (folder / "bench.svg", folder / "bench.png")
    with mpl.rc_context({"svg.hashsalt": "attngraph"}):
        figure.savefig(paths[0], metadata={"Date": None})
    figure.savefig(paths[1], dpi=130)
    return paths
