"""Why a line cannot be read, in the words of the language.

The parser says only where it got stuck. Here a table of recognisers looks at the tokens around that place for what
people write: habits of other languages, missing brackets, operands and operators, misspelt words. The first recogniser
that knows the mistake explains it; a plain `expected ..., found ...` remains for the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lark import Token

from .diagnostics import Diagnostic, Label
from .names import LANGUAGE_WORDS, closest, shown
from .source import Span
from .tokens import span_of


@dataclass(frozen=True, slots=True)
class Stuck:
    """Where the parser got stuck.

    tokens: the line; index: the token that does not fit (len(tokens) at the end of the line); expected: the token types
    that would fit; start: `header`, `statement` or `expression`; is_expression: whether the line as a whole would be
    an expression.
    """

    tokens: list[Token]
    index: int
    expected: frozenset[str]
    start: str
    is_expression: bool

    def kind(self, offset: int = 0) -> str:
        """The type of the token at a distance from the one that does not fit; empty beyond the line."""
        place = self.index + offset
        return self.tokens[place].type if 0 <= place < len(self.tokens) else ""

    def text(self, offset: int = 0) -> str:
        place = self.index + offset
        return shown(self.tokens[place]) if 0 <= place < len(self.tokens) else ""

    def span(self, offset: int = 0) -> Span:
        """The place of a token; that of the last token beyond the end of the line."""
        place = min(self.index + offset, len(self.tokens) - 1)
        return span_of(self.tokens[place])

    @property
    def first(self) -> Token:
        return self.tokens[0]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is wrong, and the tokens that were probably meant, when reading on with them finds further errors."""

    diagnostic: Diagnostic
    repaired: list[Token] | None = None


Recogniser = Callable[[Stuck], Explanation | None]

_OPERATORS = frozenset({
    "PLUS", "MINUS", "STAR", "SLASH", "FLOOR", "PERCENT", "AT", "CARET", "AND", "OR",
    "SAME", "DIFFERENT", "AT_MOST", "AT_LEAST", "BELOW", "ABOVE",
})  # fmt: skip
_OPERAND_STARTS = frozenset({"NAME", "NUMBER", "LPAR", "NOT", "WHERE", "STRING", "DOCSTRING"})
_OPERAND_ENDS = frozenset({"NAME", "NUMBER", "RPAR", "RSQB", "TRANSPOSE", "STRING"})
_WORDS = {word.upper(): word for word in LANGUAGE_WORDS}

_STATEMENTS = {
    "where": "where M = N, K >= 2",
    "require": "require linear, causal, time O(N * D)",
    "sequence": "sequence N, M",
    "const": "const eps = 1e-6",
    "param": "param w[H, D] = normal(0.02), b[D]",
    "buffer": "buffer w[F, D] = normal(1)",
    "return": "return a @ v",
    "scan": "scan N:",
    "state": "state S[D, E] = 0",
    "yield": "yield y = q @ S",
    "attention": "attention name(q[N, D], k[M, D]) -> [N, M]:",
}

# Words that start a function in other languages.
FOREIGN_HEADERS = frozenset({"def", "define", "fn", "formula", "func", "function", "fun", "kernel"})

# First words of other languages, and what to write instead.
_OTHER_FILE = 'the formulas of another file may be called after `use "kernels.attn"`, above the first formula'
_FOREIGN_WORDS = {
    "def": "a formula starts with `attention name(...) -> [...]:`; a local function is `phi(x) = ...`",
    "class": "a file holds formulas: `attention name(...) -> [...]:`",
    "import": f"functions are built in; {_OTHER_FILE}",
    "from": f"functions are built in; {_OTHER_FILE}",
    "include": _OTHER_FILE,
    "for": "there are no loops: axes are named; a recurrence along an axis is `scan N:` with a `state`",
    "while": "there are no loops: axes are named; a recurrence along an axis is `scan N:` with a `state`",
    "if": "a choice is written `where(condition, a, b)`",
    "elif": "a choice is written `where(condition, a, b)`",
    "else": "a choice is written `where(condition, a, b)`",
    "lambda": "a local function is written `phi(x) = ...`",
    "let": "a name is bound without a word before it: `a = ...`",
    "var": "a name is bound without a word before it: `a = ...`",
    "print": "formulas compute values; they do not print",
    "assert": "a fact about sizes is written `where M = N`, a promise `require linear`",
    "with": "formulas have no `with`",
    "pass": "leave the line out",
}
# Words of Python between two values.
_INFIX_WORDS = {
    "if": "a choice is written `where(condition, a, b)`",
    "else": "a choice is written `where(condition, a, b)`",
    "for": "there are no loops: axes are named, as in `sum[M](...)`",
    "is": "write `==`",
    "in": "compare with `==`, or write two comparisons joined by `and`",
    "lambda": "a local function is written `phi(x) = ...` on its own line",
    "as": "a name is bound with `=`",
}


def other_file(word: str) -> str | None:
    """What to write instead of a line above all formulas that starts with a word such as `import`."""
    return _OTHER_FILE if word in ("import", "from", "include", "load", "uses", "using") else None


def explain(stuck: Stuck) -> Explanation:
    """The diagnostic for a line that cannot be read, by the first recogniser that knows it."""
    for recognise in _RECOGNISERS:
        explanation = recognise(stuck)
        if explanation is not None:
            return explanation
    return _plain(stuck)


def _is(code: str, span: Span, *labels: Label, help: str | None = None, **facts: str) -> Explanation:
    return Explanation(Diagnostic(code, span, facts, labels, help))


# -- the line as a whole -----------------------------------------------------------------------------


def _use(stuck: Stuck) -> Explanation | None:
    if stuck.start != "use":
        return None
    whole = span_of(stuck.first).to(span_of(stuck.tokens[-1]))
    if stuck.kind() == "COMMA":
        return _is("AG151", stuck.span(), help="name one file on each line")
    if len(stuck.tokens) == 2 and stuck.kind() == "NAME":
        return _is("AG151", whole, help=f'write `use "{stuck.text()}.attn"`')
    return _is("AG151", whole)


def _foreign_first_word(stuck: Stuck) -> Explanation | None:
    help = _FOREIGN_WORDS.get(stuck.first)
    followed_by_equal = len(stuck.tokens) > 1 and stuck.tokens[1].type == "EQUAL"
    if help is None or followed_by_equal or stuck.start == "header":
        return None
    return _is("AG118", span_of(stuck.first), found=str(stuck.first), help=help)


def _misspelt_first_word(stuck: Stuck) -> Explanation | None:
    if stuck.first.type != "NAME" or stuck.start == "expression":
        return None
    if any(token.type == "EQUAL" for token in stuck.tokens[1:2]) or stuck.kind(-1) == "EQUAL":
        return None
    word = "attention" if stuck.start == "header" else closest(stuck.first, set(_STATEMENTS) - {"attention"})
    follows = stuck.tokens[1].type if len(stuck.tokens) > 1 else ""
    if word is None or (follows not in ("NAME", "NUMBER", "LPAR", "MINUS") and stuck.first.lower() != word):
        return None
    meant = Token(word.upper(), word, stuck.first.start_pos, None, None, None, None, stuck.first.end_pos)
    diagnostic = Diagnostic("AG117", span_of(stuck.first), {"found": shown(stuck.first), "word": word})
    return Explanation(diagnostic, [meant, *stuck.tokens[1:]])


def _continued_line(stuck: Stuck) -> Explanation | None:
    if stuck.first.type in _OPERATORS and stuck.start == "statement":
        return _is("AG137", span_of(stuck.first), operator=str(stuck.first))
    return None


def _docstring_in_line(stuck: Stuck) -> Explanation | None:
    if stuck.kind() in ("STRING", "DOCSTRING"):
        return _is("AG139", stuck.span())
    return None


def _word_of_the_language(stuck: Stuck) -> Explanation | None:
    word = _WORDS.get(stuck.kind(-1)) if stuck.kind() == "EQUAL" and stuck.index == 1 else None
    if word is not None:
        place = stuck.span(-1)
    elif stuck.kind() in _WORDS and "NAME" in stuck.expected and stuck.kind() not in ("AND", "OR", "NOT"):
        word, place = _WORDS[stuck.kind()], stuck.span()
    else:
        return None
    return _is("AG120", place, name=word, reason="it is a word of the language", other=f"{word}_")


def _bare_value(stuck: Stuck) -> Explanation | None:
    if stuck.start == "statement" and stuck.is_expression:
        return _is("AG129", span_of(stuck.first).to(span_of(stuck.tokens[-1])))
    return None


def _left_of_equal(stuck: Stuck) -> Explanation | None:
    tokens = stuck.tokens
    if stuck.start != "statement" or stuck.index > 1 or stuck.first.type not in ("NAME", "NUMBER", "LPAR"):
        return None
    if stuck.kind() == "COMMA":
        return _is("AG140", stuck.span(), help="bind one name on each line")
    equal = next((i for i, token in enumerate(tokens) if token.type == "EQUAL"), 0)
    if not equal:
        return None
    if stuck.kind() == "LSQB" and tokens[equal - 1].type == "RSQB":
        place = stuck.span().to(span_of(tokens[equal - 1]))
        return _is("AG140", place, help=f"the axes follow from the value: `{shown(stuck.first)} = ...`")
    return _is("AG140", span_of(stuck.first).to(span_of(tokens[equal - 1])),
               help="a name stands left of `=`: `a = ...` or `phi(x) = ...`")  # fmt: skip


# -- scans -------------------------------------------------------------------------------------------


def _scan(stuck: Stuck) -> Explanation | None:
    kind = stuck.first.type
    if kind == "SCAN" and stuck.expected == {"COLON"}:
        if not stuck.kind():
            place = stuck.span()
            colon = Token("COLON", ":", place.end, None, None, None, None, place.end)
            return Explanation(Diagnostic("AG115", place, help="write `scan N:`"), [*stuck.tokens, colon])
        if stuck.kind() == "COMMA":
            return _is("AG110", stuck.span(), expected="`:`", found="`,`",
                       help="a scan runs along one axis; one scan may stand inside another")  # fmt: skip
    if kind == "SCAN" and stuck.kind(-1) == "COLON":
        return _is("AG131", stuck.span(), help="the body of a scan starts on the line below")
    if kind == "YIELD" and all(token.type != "EQUAL" for token in stuck.tokens):
        value = stuck.tokens[1:] or stuck.tokens
        return _is("AG144", span_of(value[0]).to(span_of(value[-1])))
    return None


# -- header ------------------------------------------------------------------------------------------


def _header_arrow_or_colon(stuck: Stuck) -> Explanation | None:
    if stuck.start != "header":
        return None
    if "ARROW" in stuck.expected and stuck.kind(-1) == "RPAR":
        return _is("AG116", stuck.span())
    if "COLON" in stuck.expected and stuck.kind(-1) != "ARROW":
        if not stuck.kind():
            place = stuck.span()
            colon = Token("COLON", ":", place.end, None, None, None, None, place.end)
            return Explanation(Diagnostic("AG115", place), [*stuck.tokens, colon])
        if stuck.kind() == "EQUAL":
            return _is("AG115", stuck.span(), help="write `:` and the body on the lines below")
    if stuck.kind(-1) == "COLON":
        return _is("AG131", stuck.span(), help="the body starts on the line below the header")
    return None


def _missing_axes(stuck: Stuck) -> Explanation | None:
    name = stuck.kind(-1) == "NAME"
    in_declaration = stuck.start == "header" or stuck.first.type in ("PARAM", "BUFFER", "STATE")
    if in_declaration and name and stuck.expected == {"LSQB"}:
        tensor = stuck.text(-1)
        return _is("AG130", stuck.span(-1), name=tensor, help=f"write `{tensor}[N, D]`, or `{tensor}[]` for a scalar")
    if in_declaration and stuck.kind() == "LSQB" and stuck.kind(-1) == "NAME" and stuck.kind(-2) == "RSQB":
        return _is("AG141", stuck.span(-2).to(stuck.span(-1)), left="]", right=stuck.text(-1))
    if (
        stuck.start == "header"
        and stuck.kind() == "NAME"
        and stuck.kind(-1) in ("ARROW", "COMMA")
        and (stuck.expected <= {"LSQB", "COLON"})
    ):
        return _is(
            "AG130", stuck.span(), name=stuck.text(), help="the axes of the result stand in brackets: `-> [N, E]`"
        )
    return None


def _default_of_input(stuck: Stuck) -> Explanation | None:
    if stuck.start == "header" and stuck.kind() == "EQUAL":
        return _is("AG114", stuck.span(), help="an input has no default; `const` lines hold values")
    return None


# -- brackets ----------------------------------------------------------------------------------------


def _brackets(stuck: Stuck) -> Explanation | None:
    opener = _open_bracket(stuck)
    if opener is None or stuck.tokens[opener].type != "LSQB":
        return None
    if stuck.kind() == "RSQB" and stuck.kind(-1) == "LSQB":
        return _is("AG125", stuck.span(-1).to(stuck.span()))
    declares = stuck.start == "header" or (
        stuck.first.type in ("PARAM", "BUFFER", "STATE") and all(t.type != "EQUAL" for t in stuck.tokens[:opener])
    )
    if stuck.kind() == "NUMBER" and declares:
        size = stuck.text()
        return _is("AG110", stuck.span(), expected="the name of an axis", found=f"`{size}`",
                   help=f"name the axis, and fix its size with a line such as `where R = {size}`")  # fmt: skip
    if stuck.kind() in ("NUMBER", "COLON", "MINUS"):
        return _is(
            "AG126", stuck.span(), help="values are not indexed by numbers; `slice` and `take` pick parts of an axis"
        )
    if stuck.kind() == "ARROW" and stuck.kind(-1) == "NAME" and stuck.kind(-2) == "COMMA":
        return _is("AG126", stuck.span(), help="rename one axis after the other: `x[N -> M][D -> E]`")
    if stuck.kind() == "NAME" and stuck.kind(-1) == "NAME":
        return _is("AG141", stuck.span(-1).to(stuck.span()), left=stuck.text(-1), right=stuck.text())
    return None


def _open_bracket(stuck: Stuck) -> int | None:
    """The index of the innermost bracket that is open where the parser got stuck."""
    depth = 0
    for index in range(min(stuck.index, len(stuck.tokens)) - 1, -1, -1):
        kind = stuck.tokens[index].type
        if kind in ("RPAR", "RSQB"):
            depth += 1
        elif kind in ("LPAR", "LSQB"):
            if depth == 0:
                return index
            depth -= 1
    return None


# -- operators and operands ----------------------------------------------------------------------------


def _equals(stuck: Stuck) -> Explanation | None:
    if stuck.kind() != "EQUAL":
        return None
    if stuck.kind(-1) in _OPERATORS or stuck.kind(-1) not in _OPERAND_ENDS:
        return None
    bound = any(token.type == "EQUAL" for token in stuck.tokens[: stuck.index])
    if bound or _open_bracket(stuck) is not None or stuck.first.type == "RETURN":
        return _is("AG114", stuck.span())
    return None


def _side_by_side(stuck: Stuck) -> Explanation | None:
    if stuck.kind() not in _OPERAND_STARTS or stuck.kind(-1) not in _OPERAND_ENDS or stuck.start == "header":
        return None
    for offset in (0, -1):
        word = stuck.text(offset)
        if stuck.kind(offset) == "NAME" and word in _INFIX_WORDS:
            return _is("AG118", stuck.span(offset), found=word, help=_INFIX_WORDS[word])
    left, right = stuck.text(-1), stuck.text()
    place = stuck.span(-1).to(stuck.span())
    if "COMMA" in stuck.expected and not (stuck.expected & _OPERATORS):
        return _is("AG141", place, left=left, right=right)
    help = None
    if stuck.kind(-1) == "NUMBER" and stuck.span(-1).end == stuck.span().start:
        help = f"a product is written `{left} * {right}`" if stuck.kind() == "NAME" else "a product is written `*`"
    elif stuck.kind() == "LPAR":
        help = "a product is written `*`; only a name can be called"
    return _is("AG112", place, left=left, right=right, help=help)


def _missing_operand(stuck: Stuck) -> Explanation | None:
    before, here = stuck.kind(-1), stuck.kind()
    if here == "PLUS" and "MINUS" in stuck.expected and before not in _OPERAND_ENDS:
        return _is("AG111", stuck.span(), operator="+", side="left", help="leave the sign `+` out")
    if before in _OPERATORS or before == "NOT":
        if here in _OPERATORS and here != "MINUS":
            return _is("AG111", stuck.span(-1).to(stuck.span()), operator=stuck.text(-1), side="right")
        return _is("AG111", stuck.span(-1), operator=stuck.text(-1), side="right")
    if here in _OPERATORS and before not in _OPERAND_ENDS:
        return _is("AG111", stuck.span(), operator=stuck.text(), side="left")
    return None


def _missing_value(stuck: Stuck) -> Explanation | None:
    if stuck.index == 0 or "NAME" not in stuck.expected or stuck.start == "header":
        return None
    if stuck.kind() in ("", "COMMA", "RPAR", "RSQB") and stuck.kind(-1) not in _OPERAND_ENDS:
        return _is("AG138", stuck.span(-1), after=stuck.text(-1))
    return None


def _claim(stuck: Stuck) -> Explanation | None:
    return _is("AG135", stuck.span()) if stuck.first.type == "REQUIRE" and stuck.kind(-1) == "NAME" else None


def _fact(stuck: Stuck) -> Explanation | None:
    if stuck.first.type == "WHERE" and "EQUAL" in stuck.expected and stuck.kind() in ("", "COMMA"):
        found = "`,`" if stuck.kind() else "the end of the line"
        return _is("AG110", stuck.span(), expected="`=`, `>=`, `<=`, `>` or `<`", found=found,
                   help=f"for example `{_STATEMENTS['where']}`")  # fmt: skip
    return None


def _list(stuck: Stuck) -> Explanation | None:
    if stuck.kind() == "LSQB" and "NUMBER" in stuck.expected:
        return _is("AG110", stuck.span(), expected="a value", found="`[`",
                   help="there are no lists; values are joined by `concat`")  # fmt: skip
    return None


_RECOGNISERS: tuple[Recogniser, ...] = (
    _use,
    _scan,
    _foreign_first_word,
    _misspelt_first_word,
    _word_of_the_language,
    _continued_line,
    _docstring_in_line,
    _header_arrow_or_colon,
    _missing_axes,
    _default_of_input,
    _left_of_equal,
    _bare_value,
    _brackets,
    _list,
    _equals,
    _claim,
    _fact,
    _side_by_side,
    _missing_operand,
    _missing_value,
)

# Token types in the words of a message; the others are shown as they are written.
_EXPECTED = {
    "NAME": "a name", "NUMBER": "a number", "LPAR": "`(`", "RPAR": "`)`", "LSQB": "`[`", "RSQB": "`]`",
    "COMMA": "`,`", "COLON": "`:`", "ARROW": "`->`", "EQUAL": "`=`", "$END": "the end of the line",
}  # fmt: skip


def _plain(stuck: Stuck) -> Explanation:
    if {"NUMBER", "NAME"} <= stuck.expected:
        names = ["a value"]
    elif stuck.expected & _OPERATORS:
        names = ["an operator", *(_EXPECTED[k] for k in ("RPAR", "RSQB", "COMMA", "$END") if k in stuck.expected)]
    else:
        names = [words for kind, words in _EXPECTED.items() if kind in stuck.expected] or ["another line"]
    expected = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
    found = f"`{stuck.text()}`" if stuck.kind() else "the end of the line"
    shape = _STATEMENTS.get(stuck.first)
    help = f"for example `{shape}`" if shape else None
    return _is("AG110", stuck.span(), expected=expected, found=found, help=help)
