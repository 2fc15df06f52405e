"""A formula file and places in it."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range `[start, end)` of character offsets in one source text; spans sort by their offsets.

    source: the text, where it is not the one that is being read: a place in a file that this one uses.
    """

    start: int
    end: int
    source: Source | None = None

    def to(self, other: Span) -> Span:
        """The smallest span that covers both, which stand in one text."""
        return Span(min(self.start, other.start), max(self.end, other.end), self.source)

    def __lt__(self, other: Span) -> bool:
        return (self.start, self.end) < (other.start, other.end)

    def __len__(self) -> int:
        return self.end - self.start


NOWHERE = Span(0, 0)


@dataclass(frozen=True)
class Source:
    """A text and the name that reports show for it (a path, or `<text>`).

    folder: where the paths of its `use` lines start; a text without one reads no file.
    """

    name: str
    text: str
    folder: Path | None = None

    @cached_property
    def _line_starts(self) -> list[int]:
        starts = [0]
        for offset, character in enumerate(self.text):
            if character == "\n":
                starts.append(offset + 1)
        return starts

    @property
    def line_count(self) -> int:
        return len(self._line_starts)

    def position(self, offset: int) -> tuple[int, int]:
        """One-based line and column (in characters) of an offset."""
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of a one-based line, without its line break."""
        start = self._line_starts[number - 1]
        end = self._line_starts[number] - 1 if number < len(self._line_starts) else len(self.text)
        return self.text[start:end].removesuffix("\r")

    def of(self, span: Span) -> Source:
        """The text that a span is a part of: this one, or a used one."""
        return span.source or self

    def slice(self, span: Span) -> str:
        return self.of(span).text[span.start : span.end]
