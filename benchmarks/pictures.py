"""Pictures of what the compiler knows: how the cost of formulas grows with the length of the sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from attngraph.compiler.report import Cost, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LENGTHS = tuple(2**power for power in range(6, 18))
WIDTH = 64
# Told apart by every common kind of colour vision (Okabe and Ito, Color Universal Design).
WRITTEN, COMPILED = "#d55e00", "#0072b2"
_INK, _FAINT = "#1f2933", "#e4e7eb"


@dataclass(frozen=True)
class Curve:
    """The cost of one stage of a formula at every length, for one batch entry.

    time: floating-point operations; memory: elements of the intermediates that are alive at once, at the peak.
    """

    formula: str
    stage: str
    lengths: tuple[int, ...]
    time: tuple[float, ...]
    time_order: str
    memory: tuple[float, ...]
    memory_order: str


def growth(report: Report, lengths: Sequence[int] = LENGTHS, width: int = WIDTH) -> tuple[Curve, Curve]:
    """The cost of a formula as written and as compiled.

    Every sequence axis is given the length, every other axis the width. Errors: ValueError for a formula with
    mistakes, which has no cost.
    """
    if report.formula is None or report.written is None or report.compiled is None:
        raise ValueError(f"{report.name or 'the formula'} has mistakes and no cost")
    sequence = frozenset(report.formula.sequence)

    def curve(cost: Cost, stage: str) -> Curve:
        axes = frozenset().union(cost.time.symbols(), *(peak.symbols() for peak in cost.memory))
        sizes = [{axis: length if axis in sequence else width for axis in axes} for length in lengths]
        time = tuple(float(cost.time.evaluate(at)) for at in sizes)
        memory = tuple(float(max(peak.evaluate(at) for peak in cost.memory)) for at in sizes)
        orders = cost.order, cost.memory_growth
        return Curve(report.name, stage, tuple(lengths), time, orders[0], memory, orders[1])

    return curve(report.written, "as written"), curve(report.compiled, "as compiled")


def draw_growth(pairs: Sequence[tuple[Curve, Curve]], folder: Path) -> tuple[Path, Path]:
    """Write `growth.svg` and `growth.png`: cost over length, both axes logarithmic; returns the two paths.

    pairs: for every formula what `growth` returns. One column per formula, time above memory. Where the two lines
    cover each other the compiler knows nothing better than the text.
    """
    figure = Figure(figsize=(5.5 * len(pairs), 8), layout="constrained", facecolor="white")
    panels = figure.subplots(2, len(pairs), sharex=True, sharey="row", squeeze=False)
    for column, pair in enumerate(pairs):
        _panel(panels[0, column], pair[0].lengths, *((curve.time, curve.time_order) for curve in pair))
        _panel(panels[1, column], pair[0].lengths, *((curve.memory, curve.memory_order) for curve in pair))
        panels[0, column].set_title(pair[0].formula, fontsize=13, fontweight="bold", color=_INK, pad=10)
        panels[1, column].set_xlabel("length of the sequence", fontsize=11, color=_INK)
    panels[0, 0].set_ylabel("time: floating-point operations", fontsize=11, color=_INK)
    panels[1, 0].set_ylabel("memory: elements alive at the peak", fontsize=11, color=_INK)
    figure.suptitle(f"Cost of one head of width {WIDTH}, from the compiler's polynomials", fontsize=13, color=_INK)
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.12)  # type: ignore[union-attr, call-arg]
    paths = (folder / "growth.svg", folder / "growth.png")
    # A fixed salt and no date: the same costs give the same file.
    with mpl.rc_context({"svg.hashsalt": "attngraph"}):
        figure.savefig(paths[0], metadata={"Date": None})
    figure.savefig(paths[1], dpi=160)
    return paths


def _panel(
    panel: Axes, lengths: Sequence[int], written: tuple[Sequence[float], str], compiled: tuple[Sequence[float], str]
) -> None:
    """One cost of one formula: the text dashed, the plan solid, what the compiler saves shaded between them.

    written, compiled: the cost at every length, and its order.
    """
    panel.plot(lengths, compiled[0], color=COMPILED, linewidth=3.6, label=f"as compiled, {compiled[1]}")
    panel.plot(lengths, written[0], color=WRITTEN, linewidth=1.8, dashes=(4, 2.5), label=f"as written, {written[1]}")
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xlim(lengths[0], lengths[-1])
    panel.set_xticks(lengths[::2], [f"{length:,}" for length in lengths[::2]])
    panel.minorticks_off()
    panel.tick_params(colors=_INK, labelsize=10)
    panel.grid(color=_FAINT, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color("#9aa5b1")
    handles, labels = panel.get_legend_handles_labels()
    panel.legend(handles[::-1], labels[::-1], loc="upper left", frameon=False, fontsize=11, labelcolor=_INK)
    panel.fill_between(lengths, written[0], compiled[0], color=COMPILED, alpha=0.08, linewidth=0)
    if written == compiled:
        note = "nothing to save:\nthe text is the plan"
    else:
        note = f"{written[0][-1] / compiled[0][-1]:,.0f} times less\nat length {lengths[-1]:,}"
    corner = panel.transAxes
    panel.text(0.97, 0.14, note, transform=corner, ha="right", va="center", fontsize=11, color=_INK, linespacing=1.4)
