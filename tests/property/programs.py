"""Random well-typed formulas over every operation of the language, line by line."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy, composite

from . import axis_lines, lines, scan_lines
from .draft import Draft
from .program import Line, Program

LINES: Mapping[str, Line] = {**lines.LINES, **axis_lines.LINES, **scan_lines.LINES}


@composite
def programs(draw: DrawFn, last: str | None = None, least: int = 2, most: int = 9) -> Draft:
    """A formula of some lines. last: the operation of the last of them, as LINES spells it."""
    program = Program(draw)
    for _ in range(draw(st.integers(least, most))):
        _grow(program, draw(st.sampled_from(sorted(LINES))))
    if last is not None:
        _grow(program, last)
    if not program.lines:
        program.add("q * 2", ("N", "D"), "real", 3)
    return program.draft()


def scans() -> SearchStrategy[Draft]:
    """Formulas that end in a recurrence."""
    return programs(last="scan", most=5)


@composite
def sequences(draw: DrawFn) -> Draft:
    """A recurrence along the tokens; keys are tokens too."""
    program = Program(draw, tied=True)
    for _ in range(draw(st.integers(0, 3))):
        _grow(program, draw(st.sampled_from(sorted(LINES))))
    scan_lines.scan_along(program, "N")
    return program.draft()


def _grow(program: Program, spelling: str) -> None:
    LINES[spelling](program, spelling)
