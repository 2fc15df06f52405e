"""One diagnostic as a person reads it: headline, place, the lines of the text with marks, help.

    error[AG201 contraction-mismatch]: `q @ k` would contract `D` with `M`
      --> examples/bad.attn:3:9
       |
     3 |     s = q @ k / sqrt(D)
       |         -   - k is [M, D]
       |         q is [N, D]
       = help: transpose the right side: `q @ k^T`

Places in another file, such as the call of a formula that stands in this one, follow below `:::` and the path.
Nothing that comes from a file reaches the terminal as it is: control characters, bidirectional
overrides and line breaks are shown as escapes, so that a text can neither move the cursor nor look
like another text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .grammar.diagnostics import Diagnostic
from .grammar.source import Source, Span

MAX_COLUMNS = 160
TAB = "    "
ELLIPSIS = "..."
# A span over more lines than this shows its first and last lines only.
MAX_SPAN_LINES = 6

_ANSI = {
    "error": "1;31",
    "warning": "1;33",
    "note": "1;36",
    "gutter": "1;34",
    "label": "1;34",
    "help": "1;36",
    "good": "32",
    "bad": "1;31",
    "strong": "1",
    "faint": "2",
}


@dataclass(frozen=True, slots=True)
class Palette:
    """Paints text by its role (`error`, `gutter`, `strong`, ...), or leaves it alone."""

    colour: bool = False

    def __call__(self, text: str, role: str) -> str:
        return f"\x1b[{_ANSI[role]}m{text}\x1b[0m" if self.colour and role and text else text


PLAIN = Palette()


# -- characters --------------------------------------------------------------------------------------


def visible(character: str) -> str:
    """What is shown for one character of a text: itself, or an escape if it would act on the terminal."""
    if " " <= character <= "~":
        return character
    if character == "\t":
        return TAB
    category = unicodedata.category(character)
    if category in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        code = ord(character)
        if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
            return f"\\x{code - 0xDC00:02x}"
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return character


def width(shown: str) -> int:
    """The number of terminal columns that a shown text takes."""
    if shown.isascii():
        return len(shown)
    return sum(_columns(character) for character in shown)


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def one_line(text: str) -> str:
    """A message or name on one line: line breaks become spaces, anything that acts becomes an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(visible(character) for character in text.replace("\n", " "))


# -- marks -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Mark:
    """An underlined range of the text with words beside it (or "")."""

    span: Span
    character: str  # ^ for the place that is to blame, - for the others
    role: str
    text: str


def _marks(diagnostic: Diagnostic, source: Source) -> list[_Mark]:
    """The labels, and the primary span unless labels mark its parts: then they say it better."""
    primary = diagnostic.span
    here = [label for label in diagnostic.labels if source.of(label.span) is source]
    own = [label.text for label in here if label.span == primary]
    others = [label for label in here if label.span != primary]
    marks = [_Mark(label.span, "-", "label", one_line(label.text)) for label in others]
    inside = any(primary.start <= label.span.start and label.span.end <= primary.end for label in others)
    if own or not inside:
        marks.append(_Mark(primary, "^", diagnostic.severity.value, one_line("; ".join(own))))
    return sorted(marks, key=lambda mark: (mark.span, mark.character))


def _elsewhere(diagnostic: Diagnostic, source: Source) -> list[tuple[Source, list[_Mark]]]:
    """The labels in other texts than the one that is blamed, text by text."""
    found: dict[str, tuple[Source, list[_Mark]]] = {}
    for label in diagnostic.labels:
        home = source.of(label.span)
        if home is not source and home.text:
            found.setdefault(home.name, (home, []))[1].append(_Mark(label.span, "-", "label", one_line(label.text)))
    return list(found.values())


@dataclass(frozen=True, slots=True)
class _Line:
    """A source line as shown: `columns[i]` is where its i-th character starts on the screen."""

    shown: str
    columns: list[int]

    @staticmethod
    def of(text: str) -> _Line:
        cells = [visible(character) for character in text]
        columns = [0]
        for cell in cells:
            columns.append(columns[-1] + width(cell))
        return _Line("".join(cells), columns)

    def column(self, index: int) -> int:
        return self.columns[min(index, len(self.columns) - 1)]


def _window(text: str, first: int, last: int) -> tuple[str, int]:
    """The part of a line that is shown if characters [first, last) are marked, and the index it starts at.

    The part keeps at least a third of the room in front of the marks, so that they have a context.
    """
    room = MAX_COLUMNS - 2 * len(ELLIPSIS)
    if _Line.of(text).columns[-1] <= MAX_COLUMNS:
        return text, 0
    start = max(0, first - room // 3)
    if last <= start + room:
        start = min(start, max(0, len(text) - room))
    # Escapes and wide characters take more than one column each: cut where the columns are used up.
    end, used = start, 0
    while end < len(text) and used < room:
        used += width(visible(text[end]))
        end += 1
    return text[start:end], start


# -- the picture -------------------------------------------------------------------------------------


class _Row:
    """A row under a source line: cells that are written in any order, later over earlier."""

    def __init__(self) -> None:
        self._cells: dict[int, tuple[str, str]] = {}

    def write(self, column: int, text: str, role: str) -> None:
        for offset, character in enumerate(text):
            self._cells[column + offset] = (character, role)

    def paint(self, palette: Palette, at_least: int = 0) -> str:
        """The row as text of at least so many columns."""
        parts: list[str] = []
        run = role = ""
        for column in range(max(max(self._cells, default=-1) + 1, at_least)):
            character, its_role = self._cells.get(column, (" ", role))
            if its_role != role:
                parts.append(palette(run, role))
                run, role = "", its_role
            run += character
        return "".join([*parts, palette(run, role)])


class _Picture:
    """The lines of one source that a set of marks touches."""

    def __init__(self, source: Source, marks: list[_Mark], first: int, palette: Palette) -> None:
        """first: the line that the location names, which is always shown."""
        self._source, self._palette, self._first = source, palette, first
        # (line, index) of the first character and just after the last one
        self._places = {mark.span: (self._start(mark), self._end(mark)) for mark in marks}
        self._single = [mark for mark in marks if self._places[mark.span][0][0] == self._places[mark.span][1][0]]
        self._long = [mark for mark in marks if mark not in self._single]
        self._numbers = self._chosen_lines()
        self.gutter = len(str(self._numbers[-1]))

    def _start(self, mark: _Mark) -> tuple[int, int]:
        line, column = self._source.position(mark.span.start)
        return line, column - 1

    def _end(self, mark: _Mark) -> tuple[int, int]:
        """Line and index just after the last character; a line break at the end does not count."""
        last = max(mark.span.start, mark.span.end - 1)
        line, column = self._source.position(last)
        return line, column - 1 + (mark.span.end > mark.span.start)

    def _chosen_lines(self) -> list[int]:
        wanted = {self._first}
        for (first, _), (last, _) in self._places.values():
            if last - first < MAX_SPAN_LINES:
                wanted.update(range(first, last + 1))
            else:
                wanted.update((first, first + 1, last - 1, last))
        # A gap of one line is cheaper to show than to leave out.
        return sorted(wanted | {number + 1 for number in wanted if number + 2 in wanted})

    def rows(self) -> Iterable[tuple[str, str]]:
        """(gutter, text) of every row; the gutter is a line number, "" or the ellipsis."""
        previous = None
        for number in self._numbers:
            if previous is not None and number != previous + 1:
                yield ELLIPSIS, self._margin(previous, number).paint(self._palette).rstrip()
            previous = number
            yield from self._rows_of(number)

    def _margin(self, after: int, before: int) -> _Row:
        """The bars of long marks that run from line `after` to line `before`."""
        row = _Row()
        for position, mark in enumerate(self._long):
            (first, _), (last, _) = self._places[mark.span]
            if first <= after and before <= last:
                row.write(2 * position, "|", mark.role)
        return row

    def _rows_of(self, number: int) -> Iterable[tuple[str, str]]:
        single = [mark for mark in self._single if self._places[mark.span][0][0] == number]
        starting = [mark for mark in self._long if self._places[mark.span][0][0] == number]
        ending = [mark for mark in self._long if self._places[mark.span][1][0] == number]
        indices = [self._places[mark.span][0][1] for mark in single + starting]
        indices += [self._places[mark.span][1][1] for mark in single + ending]
        text, offset = _window(self._source.line(number), min(indices, default=0), max(indices, default=0))
        line = _Line.of(text)
        lead = ELLIPSIS if offset else ""
        tail = ELLIPSIS if offset + len(text) < len(self._source.line(number)) else ""
        left = 2 * len(self._long) + len(lead)

        def column(index: int) -> int:
            return left + line.column(max(0, index - offset))

        margin = self._margin(number - 1, number).paint(self._palette, 2 * len(self._long))
        yield str(number), f"{margin}{lead}{line.shown}{tail}".rstrip()
        for each in self._underlines(single, column, number):
            yield "", each.paint(self._palette)
        for mark in starting:
            under = self._margin(number, number + 1)
            position = 2 * self._long.index(mark)
            at = column(self._places[mark.span][0][1])
            under.write(position, " " + "_" * (at - position - 1) + mark.character, mark.role)
            yield "", under.paint(self._palette)
        for mark in ending:
            under = self._margin(number, number + 1)
            position = 2 * self._long.index(mark)
            at = column(max(0, self._places[mark.span][1][1] - 1))
            under.write(position, "|" + "_" * (at - position - 1) + mark.character, mark.role)
            if mark.text:
                under.write(at + 2, mark.text, mark.role)
            yield "", under.paint(self._palette)

    def _underlines(self, marks: list[_Mark], column: Callable[[int], int], number: int) -> Iterable[_Row]:
        """The row of underlines with the rightmost words beside it, then the other words, right to left."""
        if not marks:
            return
        places = [self._places[mark.span] for mark in marks]
        starts = [column(place[0][1]) for place in places]
        ends = [max(start + 1, column(place[1][1])) for start, place in zip(starts, places, strict=True)]
        under = self._margin(number, number + 1)
        for mark, start, end in sorted(zip(marks, starts, ends, strict=True), key=lambda item: item[0].character):
            under.write(start, mark.character * (end - start), mark.role)
        waiting = [(start, mark) for mark, start in zip(marks, starts, strict=True) if mark.text]
        waiting.sort(key=lambda item: item[0])
        if waiting and ends[marks.index(waiting[-1][1])] == max(ends):
            _, mark = waiting.pop()
            under.write(max(ends) + 1, mark.text, mark.role)
        yield under
        while waiting:
            start, mark = waiting.pop()
            row = self._margin(number, number + 1)
            for at, other in waiting:
                row.write(at, "|", other.role)
            row.write(start, mark.text, mark.role)
            yield row


def location(diagnostic: Diagnostic) -> str:
    """`path:line:column`, or the path alone for a diagnostic of a whole file."""
    source = diagnostic.source
    if source is None:
        return "<text>"
    if not source.text:
        return one_line(source.name)
    return place_in(source, diagnostic.span)


def place_in(source: Source, span: Span) -> str:
    """`path:line:column` of a place in a text, or in one that it uses."""
    home = source.of(span)
    line, column = home.position(span.start)
    return f"{one_line(home.name)}:{line}:{column}"


def snippet(diagnostic: Diagnostic, palette: Palette = PLAIN) -> str:
    """The diagnostic as in the example above, without a line break at its end."""
    role = diagnostic.severity.value
    title = palette(f"{role}[{diagnostic.code} {diagnostic.name}]", role)
    lines = [f"{title}{palette(': ' + one_line(diagnostic.message), 'strong')}"]
    pad = "  "
    if diagnostic.source is not None and diagnostic.source.text:
        source = diagnostic.source
        parts = [(source, _marks(diagnostic, source), diagnostic.span, "-->")]
        parts += [(home, marks, marks[0].span, ":::") for home, marks in _elsewhere(diagnostic, source)]
        pictures = [(_Picture(home, marks, home.position(first.start)[0], palette), place_in(home, first), arrow)
                    for home, marks, first, arrow in parts]  # fmt: skip
        gutter = max(picture.gutter for picture, _, _ in pictures)
        pad = " " * (gutter + 2)
        for picture, place, arrow in pictures:
            lines.append(f"{pad[:-1]}{palette(arrow, 'gutter')} {place}")
            lines.append(f"{pad}{palette('|', 'gutter')}")
            for number, text in picture.rows():
                if number == ELLIPSIS:
                    lines.append(f"{palette(ELLIPSIS, 'gutter')}{pad[len(ELLIPSIS) :]}  {text}".rstrip())
                else:
                    lines.append(f"{palette(f' {number:>{gutter}} |', 'gutter')} {text}".rstrip())
    elif diagnostic.source is not None:
        lines.append(f"{pad}{palette('-->', 'gutter')} {location(diagnostic)}")
        pad = "   "
    if diagnostic.suggestion is not None:
        top, *rest = diagnostic.suggestion.split("\n")
        lines.append(f"{pad}{palette('=', 'gutter')} {palette('help', 'help')}: {one_line(top)}")
        lines += [f"{pad}        {one_line(line)}" for line in rest]
    return "\n".join(lines)
