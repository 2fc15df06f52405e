"""The measured part of docs/performance.md: Markdown between two marks, made from the data of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_GROUP = ("formula", "mode", "threads", "batch")
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def markdown(data: dict[str, Any], speeds: Sequence[str] = ()) -> str:
    """Tables of a run: every formula and mode, calls, targets. speeds: lines on how fast formulas are checked."""
    machine, settings = data["machine"], data["settings"]
    lines = [
        f"Measured on {data['date'][:10]}: {place(machine)}; {settings['dtype']}, B = {settings['batch']}, "
        f"H = {settings['heads']}, D = E = {settings['width']}, "
        f"{'processor time' if settings['clock'] == 'processor' else 'elapsed time'}.",
        "",
        *speeds,
        "",
    ]
    for key in dict.fromkeys(tuple(m[field] for field in _GROUP) for m in data["measurements"]):
        rows = [m for m in data["measurements"] if tuple(m[field] for field in _GROUP) == key]
        formula, mode, threads, batch = key
        where = f"{formula}, {mode}, {'' if batch == settings['batch'] else f'B = {batch}, '}{threads} thread"
        lines += [f"### {where}{'s' if threads > 1 else ''}", "", *_table(rows), ""]
    lines += ["### A call beside its torch calls, microseconds", "", "| formula | module | torch calls | overhead |"]
    lines += ["| --- | --- | --- | --- |"]
    for each in data["overheads"]:
        values = " | ".join(f"{each[key]:.1f}" for key in ("module_us", "bare_us", "overhead_us"))
        lines.append(f"| {each['formula']} | {values} |")
    lines += ["", "### Targets", "", "| | measured | limit | |", "| --- | --- | --- | --- |"]
    for each in data["targets"]:
        verdict = "met" if each["met"] else "**missed**"
        lines.append(f"| {each['what']} | {each['value']:.2f} {each['unit']} | {each['limit']:g} | {verdict} |")
    return "\n".join(lines)


def place(machine: Mapping[str, Any]) -> str:
    """Where numbers are from, as one phrase."""
    return (
        f"{machine['device']}, {machine['cores']} cores, {machine['system']}; "
        f"torch {machine['torch']}, Python {machine['python']}"
    )


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Milliseconds of every contender at every length; spread, ratio and peak at the greatest."""
    lengths = sorted({row["length"] for row in rows})
    heads = ["milliseconds", *(f"N = {length}" for length in lengths), "spread", "ratio", "peak MB"]
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    longest_first = sorted(rows, key=lambda row: -row["length"])
    for name in dict.fromkeys(row["contender"] for row in longest_first):
        own = {row["length"]: row for row in rows if row["contender"] == name}
        cells = [f"{own[length]['median_ms']:.3g}" if length in own else "" for length in lengths]
        last = own.get(lengths[-1])
        tail = ["", "", ""]
        if last is not None:
            peak = last["peak_bytes"]
            tail = [f"{last['spread']:.0%}", f"{last['ratio']:.2f}", "" if peak is None else f"{peak / 1e6:.2f}"]
        note = f" ({last['note']})" if last is not None and last["note"] else ""
        lines.append(f"| {' | '.join([name + note, *cells, *tail])} |")
    return lines


def put(page: Path, measured: str) -> None:
    """Put new tables between the marks of a page. Errors: ValueError where it has none."""
    text = page.read_text(encoding="utf-8")
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not (found and closed):
        raise ValueError(f"{page} has no `{BEGIN}` and `{END}`")
    page.write_text(f"{before}{BEGIN}\n\n{measured}\n\n{END}{after}", encoding="utf-8")
