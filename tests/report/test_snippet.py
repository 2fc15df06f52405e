"""The picture of one diagnostic, character by character."""

from __future__ import annotations

import re
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attngraph.grammar.diagnostics import Diagnostic, Label
from attngraph.grammar.source import Source, Span
from attngraph.snippet import ELLIPSIS, MAX_COLUMNS, Palette, one_line, snippet, visible, width


def place(text: str, part: str) -> Span:
    """Where a part stands that occurs once."""
    assert text.count(part) == 1
    return Span(text.index(part), text.index(part) + len(part))


def picture(text: str, span: Span, *labels: Label, name: str = "bad.attn", help: str | None = None) -> str:
    return snippet(Diagnostic("AG202", span, {"name": "x"}, labels, help, Source(name, text)))


def expected(text: str) -> str:
    return textwrap.dedent(text).strip("\n")


TEXT = "attention f(q[N, D]) -> [N]:\n    x = 1\n    s = q @ k / sqrt(D)\n    return s\n"


def test_labels_inside_the_primary_span_say_it_alone() -> None:
    """The example of the project's conventions, exactly."""
    text = "attention bad(q[N, D], k[M, D]) -> [N]:\n    y = 1\n    s = q @ k / sqrt(D)\n"
    span = place(text, "q @ k")
    left, right = Span(span.start, span.start + 1), Span(span.end - 1, span.end)
    labels = (Label(left, "q is [N, D]"), Label(right, "k is [M, D]"))
    facts = {"expression": "q @ k", "left": "D", "right": "M"}
    help, source = "transpose the right side: `q @ k^T`", Source("examples/bad.attn", text)
    found = Diagnostic("AG201", span, facts, labels, help, source)
    assert snippet(found) == expected("""
        error[AG201 contraction-mismatch]: `q @ k` would contract `D` with `M`
          --> examples/bad.attn:3:9
           |
         3 |     s = q @ k / sqrt(D)
           |         -   - k is [M, D]
           |         q is [N, D]
           = help: transpose the right side: `q @ k^T`
    """)


def test_primary_span_with_its_own_label() -> None:
    span = place(TEXT, "q @ k")
    assert picture(TEXT, span, Label(span, "here")).splitlines()[3:] == [
        " 3 |     s = q @ k / sqrt(D)",
        "   |         ^^^^^ here",
    ]


def test_labels_on_other_lines_and_stacked() -> None:
    labels = (
        Label(Span(12, 13), "declared here"),
        Label(place(TEXT, "sqrt"), "a root"),
        Label(Span(place(TEXT, "sqrt").end + 1, place(TEXT, "sqrt").end + 2), "a size"),
    )
    assert picture(TEXT, place(TEXT, "q @ k"), *labels).splitlines()[2:] == [
        "   |",
        " 1 | attention f(q[N, D]) -> [N]:",
        "   |             - declared here",
        " 2 |     x = 1",  # a gap of one line is shown
        " 3 |     s = q @ k / sqrt(D)",
        "   |         ^^^^^   ---- - a size",
        "   |                 a root",
    ]


def test_three_stacked_labels_keep_their_lines() -> None:
    text = "a + b + c\n"
    labels = tuple(Label(Span(i, i + 1), f"is {text[i]}") for i in (0, 4, 8))
    assert picture(text, Span(0, 9), *labels).splitlines()[3:] == [
        " 1 | a + b + c",
        "   | -   -   - is c",
        "   | |   is b",
        "   | is a",
    ]


def test_span_over_several_lines() -> None:
    span = Span(12, len(TEXT) - 1)
    assert picture(TEXT, span, Label(span, "all of it")).splitlines()[3:] == [
        " 1 |   attention f(q[N, D]) -> [N]:",
        "   |  _____________^",
        " 2 | |     x = 1",
        " 3 | |     s = q @ k / sqrt(D)",
        " 4 | |     return s",
        "   | |____________^ all of it",
    ]


def test_long_span_and_far_label_leave_lines_out() -> None:
    text = "\n".join(f"line {i}" for i in range(1, 31))
    span = Span(0, text.index("line 20") + 7)
    shown = picture(text, span, Label(place(text, "line 30"), "far")).splitlines()
    assert [line.split(" | ")[0].strip() for line in shown if " | " in line and line.split(" | ")[0].strip()] == [
        "1", "2", "19", "20", "30",
    ]  # fmt: skip
    assert sum(line.startswith(ELLIPSIS) for line in shown) == 2


def test_empty_span_at_the_end_of_the_text() -> None:
    assert picture("abc", Span(3, 3)).splitlines()[1:] == ["  --> bad.attn:1:4", "   |", " 1 | abc", "   |    ^"]


def test_file_without_text_has_no_picture() -> None:
    assert picture("", Span(0, 0), help="a\nb").splitlines() == [
        "error[AG202 unknown-name]: `x` is not defined",
        "  --> bad.attn",
        "   = help: a",
        "           b",
    ]


def test_tabs_wide_and_combining_characters_keep_marks_in_place() -> None:
    text = "\tφ漢字e\u0301 + z"
    shown = picture(text, place(text, "z")).splitlines()
    assert shown[3] == " 1 |     φ漢字e\u0301 + z"
    # a tab is four columns, each ideograph two, the accent none
    assert shown[4] == "   | " + " " * (4 + 1 + 4 + 1 + 3) + "^"


def test_wide_character_is_underlined_in_full() -> None:
    assert picture("a漢b", Span(1, 2)).splitlines()[4] == "   |  ^^"


@pytest.mark.parametrize("character", ["\x1b", "\x07", "\u202e", "\u2066", "\u200b", "\x85", "\u2028", "\r"])
def test_nothing_acts_on_the_terminal(character: str) -> None:
    text = f"a{character}b"
    shown = picture(text, Span(len(text) - 1, len(text)), name=f"dir/{character}.attn", help=f"x{character}y")
    assert character not in shown
    assert shown.count("\n") == 5


def test_undecodable_file_name_is_printable() -> None:
    assert one_line("a\udcffb") == "a\\xffb"
    assert one_line("a\nb\tc") == "a b    c"


@pytest.mark.parametrize("at", [0, 50, 4_000, 9_999])
def test_long_lines_are_windowed_around_the_mark(at: int) -> None:
    text = "".join(chr(ord("a") + i % 26) for i in range(10_000))
    rows = picture(text, Span(at, at + 1)).splitlines()
    line, under = rows[3].split("| ", 1)[1], rows[4].split("| ", 1)[1]
    assert len(line) <= MAX_COLUMNS
    assert line.startswith(ELLIPSIS) == (at > 60)
    assert line[under.index("^")] == text[at]
    assert f"bad.attn:1:{at + 1}" in rows[1]


def test_colours_change_nothing_but_colours() -> None:
    labels = (Label(Span(12, 13), "q"),)
    found = Diagnostic("AG202", place(TEXT, "sqrt"), {"name": "x"}, labels, "do", Source("f", TEXT))
    coloured = snippet(found, Palette(True))
    assert "\x1b[1;31m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == snippet(found)


SPANS = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: Span(min(pair), max(pair)))


@given(st.text(st.characters(codec="utf-8"), max_size=60), SPANS, st.lists(SPANS, max_size=3))
def test_every_span_of_every_text_has_a_picture(text: str, span: Span, others: list[Span]) -> None:
    """No text and no span, however odd, breaks the picture, and every row stands behind its gutter."""

    def inside(each: Span) -> Span:
        return Span(min(each.start, len(text)), min(each.end, len(text)))

    labels = tuple(Label(inside(other), f"label {i}") for i, other in enumerate(others))
    rows = picture(text, inside(span), *labels).splitlines()
    if text:
        # splitlines would also break at characters that must have become escapes
        assert all(re.match(r"( *\d* \||\.\.\.)", row) for row in rows[2:])
        assert sum("^" in row or "-" in row for row in rows[2:]) >= 1
        assert all(label.text in "\n".join(rows) for label in labels)


@given(st.characters(codec="utf-8"))
def test_visible_characters_have_a_width(character: str) -> None:
    shown = visible(character)
    assert 0 <= width(shown) <= 10
    assert shown.isprintable() or not shown.isascii()
