"""Hostile text: always diagnostics, never an exception, never long."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attngraph.grammar.codes import CODES
from attngraph.grammar.diagnostics import Diagnostic
from attngraph.grammar.parser import MAX_TEXT, parse, parse_expression
from attngraph.grammar.source import Source
from attngraph.grammar.tokens import MAX_ERRORS

HEADER = "attention f(q[N, D]) -> [N, D]:\n"
SECONDS = 1.0


def read(text: str) -> tuple[Diagnostic, ...]:
    """All diagnostics of a text, each of them sound: known code, words that format, a place inside the text."""
    source = Source("<hostile>", text)
    _, diagnostics = parse(source)
    assert len(diagnostics) <= MAX_ERRORS + 1
    for diagnostic in diagnostics:
        assert diagnostic.code in CODES
        words = diagnostic.message + (diagnostic.suggestion or "")
        words.encode()  # no lone surrogate may reach the terminal
        assert len(words) < 1000
        assert 0 <= diagnostic.span.start <= diagnostic.span.end <= len(text)
        for label in diagnostic.labels:
            assert 0 <= label.span.start <= label.span.end <= len(text)
    return diagnostics


def body(value: str) -> str:
    return f"{HEADER}    return {value}\n"


def noise(seed: int, size: int) -> str:
    return random.Random(seed).randbytes(size).decode("latin-1")


CASES = {
    "empty": ("", "AG007"),
    "only blanks": (" \n\t\n", "AG007"),
    "only a comment": ("# nothing", "AG007"),
    "NUL": (body("q\0 + 1"), "AG101"),
    "lone surrogate": (body("q + \ud800"), "AG101"),
    "surrogate in a name": (HEADER + "    a\udfff = q\n    return a", "AG101"),
    "private use": (body("q + \ue000"), "AG101"),
    "9,000 parentheses": (body("(" * 9_000 + "q" + ")" * 9_000), "AG004"),
    "10,000 nested parentheses": (body("(" * 10_000 + "q" + ")" * 10_000), "AG005"),
    "10,000 open parentheses": (body("(" * 10_000), "AG004"),
    "10,000 closed parentheses": (body("q" + ")" * 10_000), "AG105"),
    "10,000 parentheses over 20,000 lines": (body("(\n" * 10_000 + "q" + ")\n" * 10_000), "AG004"),
    "10,000 brackets": (body("[" * 10_000), "AG004"),
    "201 parentheses": (body("(" * 201 + "q" + ")" * 201), "AG004"),
    "10,000 minus signs": (body("-" * 10_000 + "q"), "AG004"),
    "3,000 nots": (body("not " * 3_000 + "q"), "AG004"),
    "3,000 powers": (body("q^" * 3_000 + "q"), "AG004"),
    "3,000 transposes": (body("q" + "^T" * 3_000), "AG004"),
    "1,500 renames": (body("q" + "[N->M]" * 1_500), "AG004"),
    "3,000 terms": (body("q" + " + q" * 3_000), "AG004"),
    "201 calls": (body("f(" * 150 + "-" * 100 + "q" + ")" * 150), "AG004"),
    "a megabyte on one line": ("a" * (MAX_TEXT - 1), "AG005"),
    "a megabyte of operators on one line": ("a + " * (MAX_TEXT // 4 - 1), "AG005"),
    "a megabyte of line breaks in brackets": (body("(" + "\n" * 400_000), "AG104"),
    "50,000 values in an open bracket": (body("(" + "q +\n" * 50_000), "AG104"),
    "50,000 values in brackets": (body("(" + "q +\n" * 50_000 + "q)"), "AG005"),
    "100,000 comments in brackets": (body("(" + "#\n" * 100_000), "AG104"),
    "a megabyte of foreign letters": ("é\n" * 200_000, "AG009"),
    "a megabyte of quotes": (HEADER + "'" * 10_000 + '\n"' * 100_000, "AG009"),
    "more than a megabyte": ("a" * (MAX_TEXT + 1), "AG003"),
    "10,000 lines without a formula": ("a = 1\n" * 10_000, "AG121"),
    "10,000 headers": ("attention f(\n" * 10_000, "AG009"),
    "10,000 open lines": (HEADER + "    a = (\n" * 10_000, "AG009"),
    "10,000 misspelt lines": (HEADER + "    requre linear\n" * 10_000, "AG009"),
    "10,000 returns": (HEADER + "    return q\n" * 10_000, "AG123"),
    "docstring never closed": (HEADER + '    """text\n' + "text\n" * 1000, "AG107"),
    "1e999": (body("1e999"), "AG008"),
    "huge exponent": (body("1e" + "9" * 5_000), "AG008"),
    "huge integer": (body("9" * 5_000), "AG008"),
    "tiny number": (body("1e-999"), "AG008"),
    "long name": (body("a" * 15_000 + " b"), "AG112"),
    "code": (body("__import__('os').system('true')"), "AG103"),
    "wrong brackets": (body("f(a[b(c]d)e]"), "AG106"),
}


def within(seconds: float, text: str) -> tuple[Diagnostic, ...]:
    """The diagnostics of a text that is read in time; a machine that is busy otherwise gets three tries."""
    read(HEADER)  # builds the parser
    taken = []
    for _ in range(3):
        start = time.process_time()
        diagnostics = read(text)
        taken.append(time.process_time() - start)
        if taken[-1] < seconds:
            return diagnostics
    raise AssertionError(f"took {min(taken):.2f} s")


MISLEADING = [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x0B, 0x0C, 0x85, 0x2028, 0x2029, 0x0D]
PLACES = {
    "comment": HEADER + "    return q  # a{}b\n",
    "comment on top": "# {}b\n" + HEADER + "    return q\n",
    "docstring": HEADER + '    """A {} word."""\n    return q\n',
    "path": 'use "a{}b.attn"\n' + HEADER + "    return q\n",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("code", MISLEADING)
def test_text_that_looks_other_than_it_is_read(code: int, place: str) -> None:
    text = PLACES[place].format(chr(code))
    found = [d for d in read(text) if d.code == "AG108"]
    assert [text[d.span.start] for d in found] == [chr(code)]


@pytest.mark.parametrize("words", ["קשב", "انتباه", "注意", "naïve 🙂", "tab\there"])
def test_words_of_any_script_are_welcome(words: str) -> None:
    for place in ("comment", "comment on top", "docstring"):
        for text in (PLACES[place].format(words), PLACES[place].format(words).replace("\n", "\r\n")):
            assert [d.code for d in read(text)] == []


@pytest.mark.parametrize("case", CASES)
def test_hostile_text_is_answered_within_a_second(case: str) -> None:
    text, code = CASES[case]
    diagnostics = within(SECONDS, text)
    assert code in {diagnostic.code for diagnostic in diagnostics}


def test_10_000_lines_are_read() -> None:
    lines = "".join(f"    a{i} = a{i} + 1\n" for i in range(10_000))
    assert within(2 * SECONDS, f"{HEADER}{lines}    return q") == ()


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes(seed: int) -> None:
    assert read(noise(seed, 5_000)) != ()
    read(HEADER + noise(seed, 500))


PIECES = [
    "attention ", "f", "(", ")", "[", "]", "N", ", ", " -> ", ":", "\n", "    ", "where ", "require ", "return ", " = ",
    "==", "+", "-", "*", "^", "^T", "ᵀ", "not ", " and ", "3", "1e5", '"""', "'", '"', "#", "O(", "param ", "const ",
    "=", "sum[M](", "x[N -> M]", "if ", "lambda ", "α", "²", "\r\n", "\ufeff", "@", "//", "phi(x) = ", ";", "use ",
]  # fmt: skip


@settings(max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_pieces_in_any_order(text: str) -> None:
    read(text)
    read(HEADER + text)
    _, diagnostics = parse_expression(Source("<hostile>", text))
    for diagnostic in diagnostics:
        assert diagnostic.message


@settings(max_examples=200)
@given(st.text(st.characters(), max_size=60))
def test_any_text(text: str) -> None:
    read(text)
    read(HEADER + text)


def test_line_breaks_of_windows_and_byte_order_mark() -> None:
    source = Source("<test>", "\ufeff" + HEADER.replace("\n", "\r\n") + '    """Text."""\r\n    return q # x\r\n')
    file, diagnostics = parse(source)
    assert diagnostics == ()
    assert file.formulas[0].docstring == "Text."
    assert file.formulas[0].statements[0].comments.after == "x"
