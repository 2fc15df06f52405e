"""Tokens to logical lines: a statement goes on over line breaks inside brackets.

A bracket that is never closed must not swallow the rest of the file, so a line inside brackets that visibly starts a
new statement ends the old one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lark import Token

from .ast import Comments
from .diagnostics import Diagnostic, Label
from .names import LINE_WORDS
from .tokens import BRACKETS, span_of

MAX_DEPTH = 200

STATEMENT_WORDS = frozenset({"REQUIRE", "SEQUENCE", "CONST", "PARAM", "BUFFER", "RETURN", "WHERE"})
_OPENERS = frozenset(BRACKETS.values())
_NOT_IN_LINE = frozenset({"NEWLINE", "COMMENT"})


@dataclass(slots=True)
class Line:
    """One logical line.

    column: its indentation. tokens: without comments and line breaks; never empty, except for the comments at the end
    of the text.
    above: the whole-line comments above it, each with its column; after: the comment behind it; blank: an empty line
    stood above. readable is False when a token or a bracket of it has no meaning (already reported).
    """

    tokens: list[Token] = field(default_factory=list)
    above: list[tuple[int, str]] = field(default_factory=list)
    after: str | None = None
    blank: bool = False
    readable: bool = True
    column: int = 0

    def comments(self) -> Comments:
        return Comments(tuple(text for _, text in self.above), self.after, self.blank)


def _comment(token: Token) -> str:
    """The text of a comment: without its `#`, the one blank behind it, and blanks at the end."""
    text = token[1:].rstrip()
    return text[1:] if text.startswith(" ") else text


def starts_statement(tokens: list[Token], index: int) -> bool:
    """Whether the tokens from index on, inside brackets and first on their line, can only be a new statement."""
    kind = tokens[index].type
    following = tokens[index + 1].type if index + 1 < len(tokens) else ""
    if kind == "WHERE":
        return following != "LPAR"
    if kind == "USE":
        return following == "STRING"
    if kind == "NAME" and following == "NAME" and tokens[index] in LINE_WORDS:
        return True
    if kind == "NAME" and following == "EQUAL":  # or is it an argument given by name?
        before = index - 1
        while tokens[before].type in _NOT_IN_LINE:
            before -= 1
        return tokens[before].type != "COMMA" and tokens[before].type not in _OPENERS
    return kind == "ATTENTION" or kind in STATEMENT_WORDS


def logical_lines(tokens: list[Token], diagnostics: list[Diagnostic]) -> Iterator[Line]:
    """Cuts the tokens of a text into logical lines; brackets that do not match are reported in diagnostics.

    The last line holds no tokens, only the comments at the end of the text.
    """
    line, line_start, index, size = Line(), 0, 0, len(tokens)
    while index < size:
        token = tokens[index]
        if token.type == "NEWLINE":
            line.blank = line.blank or token.count("\n") > 1
            line_start = token.end_pos or 0
            index += 1
        elif token.type == "COMMENT":
            line.above.append(((token.start_pos or 0) - line_start, _comment(token)))
            index += 1
        else:
            line.column = (token.start_pos or 0) - line_start
            index = _take(line, tokens, index, line.column, diagnostics)
            yield line
            line = Line()
    yield line


def _take(line: Line, tokens: list[Token], begin: int, column: int, diagnostics: list[Diagnostic]) -> int:
    """Fills a line with the tokens from begin on; returns the index of the line break that ends it.

    column: the indentation of the line.
    """
    open_brackets: list[Token] = []
    dedent: int | None = None  # the first line break inside brackets with a line behind it that is not indented more
    index, end = begin, len(tokens)
    while index < end:
        token = tokens[index]
        kind = token.type
        if kind in _OPENERS:
            open_brackets.append(token)
            if len(open_brackets) > MAX_DEPTH:
                diagnostics.append(Diagnostic("AG004", span_of(token), {"limit": str(MAX_DEPTH)}))
                return _finish(line, tokens, begin, _line_break(tokens, index), readable=False)
        elif kind in BRACKETS:
            if not open_brackets:
                diagnostics.append(Diagnostic("AG105", span_of(token), {"closer": token}))
                line.readable = False
            else:
                opener = open_brackets.pop()
                if opener.type != BRACKETS[kind]:
                    label = Label(span_of(opener), f"`{opener}` is open here")
                    facts = {"closer": token, "opener": opener}
                    diagnostics.append(Diagnostic("AG106", span_of(token), facts, (label,)))
                    line.readable = False
        elif kind == "NEWLINE":
            if not open_brackets:
                break
            ahead = index + 1
            if ahead < end and tokens[ahead].type not in BRACKETS and tokens[ahead].type not in _NOT_IN_LINE:
                if dedent is None and (tokens[ahead].start_pos or 0) - (token.end_pos or 0) <= column:
                    dedent = index
                if starts_statement(tokens, ahead):
                    break
        index += 1
    if open_brackets and line.readable:
        opener = open_brackets[-1]
        closer = ")" if opener.type == "LPAR" else "]"
        diagnostics.append(Diagnostic("AG104", span_of(opener), {"opener": opener, "closer": closer}))
        line.readable = False
        if dedent is not None:
            opened_before = sum(1 for b in open_brackets if (b.start_pos or 0) < (tokens[dedent].start_pos or 0))
            index = dedent if opened_before else index
    return _finish(line, tokens, begin, index, line.readable)


def _line_break(tokens: list[Token], index: int) -> int:
    while index < len(tokens) and tokens[index].type != "NEWLINE":
        index += 1
    return index


def _finish(line: Line, tokens: list[Token], begin: int, end: int, readable: bool) -> int:
    inside = tokens[begin:end]
    line.readable = readable and all(t.type != "UNREADABLE" for t in inside)
    line.tokens = [t for t in inside if t.type not in _NOT_IN_LINE]
    remarks = [t for t in inside if t.type == "COMMENT"]
    if remarks and inside[-1] is remarks[-1]:
        line.after = _comment(remarks.pop())
    line.above += [(0, text) for text in map(_comment, remarks)]
    return end
