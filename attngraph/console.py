"""What a command talks to: the two output streams, their colours and widths, and the last good stage."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import TextIO

from .snippet import PLAIN, Palette

NARROWEST, USUAL = 60, 100


class Misuse(Exception):
    """A command that cannot be carried out as it was given: one line with the reason and the fix."""


@dataclass
class Console:
    """Streams of one run. stage: what was last begun, for the report of a bug."""

    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)
    stage: str = "reading the command line"

    def __post_init__(self) -> None:
        for stream in (self.out, self.err):
            if hasattr(stream, "reconfigure"):  # a name or text that the terminal cannot show is no reason to fail
                stream.reconfigure(errors="backslashreplace")

    @property
    def palette(self) -> Palette:
        """Colours on a terminal only; NO_COLOR turns them off (no-color.org), FORCE_COLOR on."""
        if os.environ.get("NO_COLOR"):
            return PLAIN
        if os.environ.get("FORCE_COLOR"):
            return Palette(True)
        return Palette(self.out.isatty() and os.environ.get("TERM") != "dumb")

    @property
    def columns(self) -> int:
        """The width of the terminal, or 100 where there is none."""
        if not self.out.isatty():
            return USUAL
        import shutil

        return max(NARROWEST, shutil.get_terminal_size((USUAL, 24)).columns)

    def write(self, text: str) -> None:
        self.out.write(text)

    def note(self, line: str) -> None:
        """A line beside the output proper: progress, warnings, misuse."""
        self.err.write(line + "\n")
