"""Text to tokens. The spelling of the language comes from attngraph.lark; what is spelt otherwise gets a diagnostic.

A foreign spelling whose meaning is clear (`**`, `&&`, a Greek letter, a full-width bracket) becomes the token that was
meant, beside its diagnostic, so that the rest of the line is still read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lark import Token
from lark.lexer import PatternStr, TerminalDef

from .diagnostics import Diagnostic
from .names import ascii_name, describe, shown, superscript
from .source import Source, Span

MAX_LINE = 20_000
MAX_ERRORS = 100

# What other languages and papers write, and what it is called here. The second column may be no token at all (None):
# then the line cannot be read further, and the third column says what to do.
FOREIGN: dict[str, tuple[str | None, str]] = {
    "**": ("^", "a power is written `^`"),
    "&&": ("and", "write `and`"),
    "&": ("and", "write `and`"),
    "||": ("or", "write `or`; a norm is `norm[D](x)`"),
    "|": (None, "write `or`; an absolute value is `abs(x)`, a norm `norm[D](x)`"),
    "!": ("not", "write `not`"),
    "~": ("not", "write `not`"),
    "===": ("==", "write `==`"),
    "<>": ("!=", "write `!=`"),
    "=>": (">=", "write `>=`, or `->` for an arrow"),
    "=<": ("<=", "write `<=`"),
    ":=": ("=", "write `=`"),
    "+=": (None, "a name is bound once; bind a new name: `name = ...`"),
    "-=": (None, "a name is bound once; bind a new name: `name = ...`"),
    "*=": (None, "a name is bound once; bind a new name: `name = ...`"),
    "/=": (None, "a name is bound once; bind a new name: `name = ...`"),
    ".*": ("*", "an elementwise product is written `*`"),
    "./": ("/", "an elementwise quotient is written `/`"),
    ".T": ("^T", "a transpose is written `^T`"),
    "^⊤": ("^T", "a transpose is written `^T`"),
    "⊤": ("^T", "a transpose is written `^T`"),
    "'": ("^T", "a transpose is written `^T`"),
    "′": ("^T", "a transpose is written `^T`"),
    "×": ("*", "write `*`"),
    "·": ("*", "write `*`, or `@` for a contraction"),
    "⋅": ("*", "write `*`, or `@` for a contraction"),
    "∗": ("*", "write `*`"),
    "⊙": ("*", "an elementwise product is written `*`"),
    "∘": ("*", "an elementwise product is written `*`"),
    "÷": ("/", "write `/`"),
    "∕": ("/", "write `/`"),
    "−": ("-", "write `-`"),
    "–": ("-", "write `-`"),
    "—": ("-", "write `-`"),
    "≥": (">=", "write `>=`"),
    "⩾": (">=", "write `>=`"),
    "≤": ("<=", "write `<=`"),
    "⩽": ("<=", "write `<=`"),
    "≠": ("!=", "write `!=`"),
    "→": ("->", "write `->`"),
    "⟶": ("->", "write `->`"),
    "∧": ("and", "write `and`"),
    "∨": ("or", "write `or`"),
    "¬": ("not", "write `not`"),
    "∞": ("inf", "write `inf`"),
    "√": (None, "write `sqrt(...)`"),
    "∑": (None, "a sum over the axis M is written `sum[M](...)`"),
    "∏": (None, "a product over the axis M is written `prod[M](...)`"),
    "‖": (None, "the norm over the axis D is written `norm[D](x)`"),
    "∥": (None, "the norm over the axis D is written `norm[D](x)`"),
    "⌊": (None, "write `floor(...)`"),
    "⌋": (None, "write `floor(...)`"),
    ";": (None, "write one statement on each line"),
    "?": (None, "a choice is written `where(condition, a, b)`"),
    "\\": (None, "a line goes on inside brackets; no `\\` is needed"),
    "{": (None, "use `(` and `)`"),
    "}": (None, "use `(` and `)`"),
    ".": (None, "values have no attributes; functions are written `relu(x)`"),
}


@dataclass(frozen=True)
class Lexicon:
    """The spellings of the language.

    words: keyword to token type; symbols: operator to token type; pattern: one alternative for each class of token.
    """

    words: dict[str, str]
    symbols: dict[str, str]
    pattern: re.Pattern[str]

    def kind(self, text: str) -> str:
        """The token type of a keyword, an operator or a name."""
        return self.symbols.get(text) or self.words.get(text) or ("TRANSPOSE" if text == "^T" else "NAME")


def lexicon(terminals: Iterable[TerminalDef]) -> Lexicon:
    """The lexicon of the terminals of a grammar. Raises KeyError if one that the patterns need is missing."""
    words: dict[str, str] = {}
    symbols: dict[str, str] = {}
    patterns: dict[str, str] = {}
    for terminal in terminals:
        if not isinstance(terminal.pattern, PatternStr):
            patterns[terminal.name] = terminal.pattern.to_regexp()
        elif terminal.pattern.value.isalpha():
            words[terminal.pattern.value] = terminal.name
        else:
            symbols[terminal.pattern.value] = terminal.name

    def longest_first(spellings: Iterable[str]) -> str:
        return "|".join(re.escape(s) for s in sorted(spellings, key=len, reverse=True))

    foreign = set(FOREIGN) - {"'", ".T"}
    classes = {
        "NEWLINE": r"\n(?:[^\S\n]*\n)*",  # empty lines included
        "SPACE": r"[^\S\n]+",
        "COMMENT": r"#[^\n]*",
        "QUOTE": r'"""|\'\'\'',
        "NUMBER": patterns["NUMBER"],
        # All letters, not only ASCII, so that a look-alike does not cut a name in two; the transpose sign is a letter.
        "WORD": r"(?:(?!ᵀ)[^\W\d])(?:(?!ᵀ)\w)*",
        "TRANSPOSE": patterns["TRANSPOSE"],
        "FOREIGN": rf"\.T(?!\w)|(?<=[\w\])])'|(?:{longest_first(s for s in foreign if len(s) > 1)})",
        "SYMBOL": longest_first(symbols),
        "STRING": r'"[^"\n]*"?|\'[^\'\n]*\'?',
        "ODD": "(?:" + longest_first(s for s in foreign if len(s) == 1) + ")",
        "OTHER": r".",
    }
    pattern = re.compile("|".join(f"(?P<{name}>{regex})" for name, regex in classes.items()), re.DOTALL)
    return Lexicon(words, symbols, pattern)


def token(kind: str, text: str, start: int, end: int) -> Token:
    """A token that knows its place; lines and columns follow from the source when they are shown."""
    return Token(kind, text, start, None, None, None, None, end)


def span_of(item: Token) -> Span:
    return Span(item.start_pos or 0, item.end_pos or 0)


@dataclass(slots=True)
class Scan:
    """The tokens of a text, in order, with NEWLINE, COMMENT and DOCSTRING among them, and what was wrong with it.

    An UNREADABLE token stands where the text has no meaning; its diagnostic is among the diagnostics.
    """

    tokens: list[Token] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    line_is_unreadable: bool = False


_MISLEADING = re.compile("[\u202a-\u202e\u2066-\u2069\x0b\x0c\x85\u2028\u2029]|\r(?=.)")  # no `\r` of a line break
_HEADER_INSIDE = re.compile(r"^attention\s+\w+\s*\(", re.MULTILINE)
_STATEMENT_AHEAD = re.compile(
    r"[^\n]*\n(?:[^\S\n]*\n)*[^\S\n]*"
    r"(?:(?:where|require|sequence|const|param|buffer|return)\b|(?:scan|state|yield)[^\S\n]+\w"
    r"|\w+[^\S\n]*(?:\([\w ,]*\))?[^\S\n]*=(?!=))"
)
_NEXT_HEADER = re.compile(r"^\s*attention\b", re.MULTILINE)


def _overlong(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    while (end := text.find("\n", start)) >= 0:
        if end - start > MAX_LINE:
            yield start, end
        start = end + 1
    if len(text) - start > MAX_LINE:
        yield start, len(text)


def scan(source: Source, spellings: Lexicon) -> Scan:
    """Cuts a text into tokens. Never fails: what has no meaning becomes an UNREADABLE token and a diagnostic.

    Stops behind the error after MAX_ERRORS: so many errors mean that this is no formula file. Time is linear in the
    length of the text.
    """
    text = source.text
    result = Scan()
    tokens, match, words, symbols = result.tokens, spellings.pattern.match, spellings.words, spellings.symbols
    overlong = dict(_overlong(text))
    position = 1 if text.startswith("\ufeff") else 0
    if position in overlong or (position == 1 and 0 in overlong):
        position = _skip(result, 0, overlong[0])
    size = len(text)
    while position < size and len(result.diagnostics) <= MAX_ERRORS:
        found = match(text, position)
        if found is None:  # the last alternative takes any character
            raise AssertionError("the token pattern is not total")
        kind, end = found.lastgroup, found.end()
        if kind == "WORD":
            word = found[0]
            if word.isascii():
                tokens.append(token(words.get(word, "NAME"), word, position, end))
            else:
                _foreign_word(result, word, position, spellings)
        elif kind == "SYMBOL":
            tokens.append(token(symbols[found[0]], found[0], position, end))
        elif kind in ("NUMBER", "TRANSPOSE"):
            tokens.append(token(kind, found[0], position, end))
        elif kind == "COMMENT":
            tokens.append(token(kind, found[0], position, end))
            _honest(result, text, position, end)
        elif kind == "NEWLINE":
            tokens.append(token(kind, found[0], position, end))
            result.line_is_unreadable = False
            if end in overlong:
                end = _skip(result, end, overlong[end])
        elif kind == "QUOTE":
            end = _docstring(result, text, position, found[0])
        elif kind == "STRING":
            tokens.append(token("STRING", found[0], position, end))
            _honest(result, text, position, end)
        elif kind != "SPACE":
            _foreign(result, found[0], position, spellings)
        position = end
    return result


def _skip(result: Scan, start: int, end: int) -> int:
    facts = {"size": str(end - start), "limit": str(MAX_LINE)}
    result.diagnostics.append(Diagnostic("AG005", Span(start, start + 1), facts))
    result.tokens.append(token("UNREADABLE", "", start, end))
    return end


def _honest(result: Scan, text: str, start: int, end: int) -> None:
    """Reports the first character of a text in words by which it would be shown other than it is read."""
    found = _MISLEADING.search(text, start, end)
    if found is not None:
        facts = {"character": describe(found[0])}
        result.diagnostics.append(Diagnostic("AG108", Span(*found.span()), facts))


def _docstring(result: Scan, text: str, start: int, quotes: str) -> int:
    """Reads a docstring from its opening quotes; returns where to go on."""
    place = Span(start, start + 3)
    close = text.find(quotes, start + 3)
    if close >= 0 and not _HEADER_INSIDE.search(text, start, close):
        if quotes != '"""':
            facts = {"found": quotes}
            result.diagnostics.append(Diagnostic("AG103", place, facts, help='a docstring stands in `"""`'))
        result.tokens.append(token("DOCSTRING", text[start + 3 : close], start, close + 3))
        _honest(result, text, start, close)
        return close + 3
    # Never closed (or only by the quotes of the next formula): go on where the formula visibly goes on.
    result.diagnostics.append(Diagnostic("AG107", place, {"quotes": quotes}))
    line_end = text.find("\n", start)
    line_end = len(text) if line_end < 0 else line_end
    result.tokens.append(token("UNREADABLE", text[start:line_end], start, line_end))
    if _STATEMENT_AHEAD.match(text, start):
        return line_end
    following = _NEXT_HEADER.search(text, line_end)
    return following.start() - 1 if following else len(text)


def _foreign_word(result: Scan, word: str, start: int, spellings: Lexicon) -> None:
    """A word with letters outside ASCII: named in a diagnostic, and read as the ASCII word if there is one."""
    end = start + len(word)
    power = superscript(word)
    if power is not None:
        stem, exponent = power
        base = stem if stem.isascii() else ascii_name(stem) or "x"
        facts = {"found": shown(word)}
        result.diagnostics.append(Diagnostic("AG103", Span(start, end), facts, help=f"write `{base}^{exponent}`"))
        result.tokens.append(token("UNREADABLE", word, start, end))
        return
    offset = next(i for i, letter in enumerate(word) if not letter.isascii())
    facts = {"text": shown(word), "character": describe(word[offset])}
    name = ascii_name(word)
    help = f"write `{name}`" if name else None
    result.diagnostics.append(Diagnostic("AG102", Span(start, end), facts, help=help))
    kind = spellings.kind(name) if name else "NAME"
    result.tokens.append(token(kind, name or "x", start, end))


def _foreign(result: Scan, found: str, start: int, spellings: Lexicon) -> None:
    """An operator of another language, a typographic sign, or a character without any meaning."""
    end = start + len(found)
    meaning, help = FOREIGN.get(found, (None, ""))
    if not help:
        folded = unicodedata.normalize("NFKC", found)
        if folded != found and folded in spellings.symbols:
            meaning, help = folded, f"write `{folded}`"
    if meaning is None and result.line_is_unreadable:  # the line is lost already; the first sign explains it
        result.tokens.append(token("UNREADABLE", found, start, end))
        return
    if help:
        result.diagnostics.append(Diagnostic("AG103", Span(start, end), {"found": found}, help=help))
    else:
        result.diagnostics.append(Diagnostic("AG101", Span(start, end), {"character": describe(found)}))
    if meaning is None:
        result.line_is_unreadable = True
        result.tokens.append(token("UNREADABLE", found, start, end))
    else:
        result.tokens.append(token(spellings.kind(meaning), meaning, start, end))


# Closing token type to opening token type.
BRACKETS = {"RPAR": "LPAR", "RSQB": "LSQB"}
