"""The automaton reads every line as lark's own driver does: the same tree, or stuck at the same token."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from lark import Lark
from lark.exceptions import UnexpectedToken

from attngraph.grammar import parser
from attngraph.grammar.automaton import END, Automaton, Unexpected
from attngraph.grammar.lines import logical_lines
from attngraph.grammar.source import Source
from attngraph.grammar.tokens import Token, lexicon, scan
from attngraph.grammar.trees import Refused, TreeBuilder

STARTS = ["use", "header", "statement", "expression"]
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/*.attn"))


@pytest.fixture(scope="module")
def lark() -> Lark:
    grammar = Path(str(parser.__file__)).with_name("attngraph.lark").read_text(encoding="utf-8")
    options: dict[str, Any] = {"maybe_placeholders": False, "keep_all_tokens": True, "transformer": TreeBuilder()}
    return Lark(grammar, parser="lalr", lexer="basic", start=STARTS, **options)


def _lines(lark: Lark) -> list[list[Token]]:
    spellings = lexicon(lark.terminals)
    texts = [Source(path.name, path.read_text(encoding="utf-8")) for path in EXAMPLES[::6]]
    lines = (line.tokens for text in texts for line in logical_lines(scan(text, spellings).tokens, []))
    return [[token for token in line if token.type != "DOCSTRING"] for line in lines if line]


def _by_lark(lark: Lark, tokens: list[Token], start: str) -> object:
    driver: Any = lark.parse_interactive(start=start)
    place = tokens[-1].end
    try:
        for token in tokens:
            driver.feed_token(token)
        return driver.feed_token(Token(END, "", place, place))
    except UnexpectedToken as error:
        return error.token.type, next((i for i, t in enumerate(tokens) if t is error.token), None), error.expected
    except Refused as error:
        return error.diagnostic


def _by_us(automaton: Automaton, tokens: list[Token], start: str) -> object:
    try:
        return automaton.read(tokens, start)
    except Unexpected as error:
        return error.token.type, next((i for i, t in enumerate(tokens) if t is error.token), None), {*error.expected}
    except Refused as error:
        return error.diagnostic


def test_lines_and_lines_with_mistakes_are_read_as_lark_reads_them(lark: Lark) -> None:
    draw, automaton, read, stuck = random.Random(7), Automaton(lark, STARTS), 0, 0
    lines = [line for line in _lines(lark) if line]
    words = [token for line in lines for token in line]
    for line in lines:
        place = draw.randrange(len(line))
        changed = [
            line,
            line[:place] + line[place + 1 :],
            [*line[:place], draw.choice(words), *line[place:]],
            [*line[:place], draw.choice(words), *line[place + 1 :]],
        ]
        for tokens in filter(None, changed):
            for start in STARTS:
                found = _by_us(automaton, tokens, start)
                assert found == _by_lark(lark, tokens, start), " ".join(tokens)
                stuck += isinstance(found, tuple) and len(found) == 3 and isinstance(found[0], str)
                read += not isinstance(found, tuple)
    assert read > 200
    assert stuck > 1000
