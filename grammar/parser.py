"""Text to syntax tree, with every error of the text reported in one run.

The text is cut into tokens (tokens.py) and logical lines (lines.py); each line is parsed on its own by one LALR grammar
(attngraph.lark), whose reductions build the tree (trees.py); a line that cannot be read is explained
(syntax_errors.py) and left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from lark import Lark, Token
from lark.exceptions import UnexpectedToken

from .ast import (
    NO_COMMENTS,
    Assign,
    Binary,
    Call,
    Comments,
    Expression,
    File,
    Formula,
    Function,
    Rename,
    Return,
    Scan,
    State,
    Statement,
    Transpose,
    Unary,
    Use,
    Yield,
)
from .diagnostics import Diagnostic, Label
from .lines import MAX_DEPTH, Line, logical_lines
from .names import LINE_WORDS, closest
from .source import Source, Span
from .syntax_errors import FOREIGN_HEADERS, Stuck, explain, other_file
from .tokens import MAX_ERRORS, MAX_LINE, Lexicon, lexicon, scan, span_of
from .trees import Header, Refused, TreeBuilder

MAX_TEXT = 500_000
MAX_SCANS = 8  # inside each other
_MAX_REPAIRS = 3


@dataclass(frozen=True)
class _Language:
    """The grammar, ready to use."""

    lark: Lark
    lexicon: Lexicon

    def read(self, tokens: list[Token], start: str) -> Any:
        """The tree of one line. Raises UnexpectedToken or Refused."""
        parser = self.lark.parse_interactive(start=start)
        for token in tokens:
            parser.feed_token(token)
        end = Token("$END", "", tokens[-1].end_pos, None, None, None, None, tokens[-1].end_pos)
        return parser.feed_token(end)


@lru_cache(maxsize=1)
def _language() -> _Language:
    grammar = Path(__file__).with_name("attngraph.lark").read_text(encoding="utf-8")
    lark = Lark(grammar, parser="lalr", lexer="basic", start=["use", "header", "statement", "expression"],
                transformer=TreeBuilder(), maybe_placeholders=False, keep_all_tokens=True)  # fmt: skip
    return _Language(lark, lexicon(lark.terminals))


def parse(source: Source) -> tuple[File, tuple[Diagnostic, ...]]:
    """The tree of everything in a text that could be read, and all that is wrong with the rest.

    Never raises on any text. A formula with a line that could not be read is in the tree without that line and has
    `readable` False; a formula whose header could not be read is not in the tree.
    """
    if len(source.text) > MAX_TEXT:
        facts = {"size": str(len(source.text)), "limit": str(MAX_TEXT)}
        return File(()), (Diagnostic("AG003", Span(0, 1), facts, source=source),)
    reader = _Reader(_language())
    file = reader.read(source)
    return file, _finished(reader.diagnostics, source)


def parse_expression(source: Source) -> tuple[Expression | None, tuple[Diagnostic, ...]]:
    """The tree of a text that holds a single expression, or None and what is wrong with it."""
    if len(source.text) > MAX_LINE:
        facts = {"size": str(len(source.text)), "limit": str(MAX_LINE)}
        return None, (Diagnostic("AG005", Span(0, 1), facts, source=source),)
    reader = _Reader(_language())
    scanned = scan(source, reader.language.lexicon)
    reader.diagnostics += scanned.diagnostics
    lines = [line for line in logical_lines(scanned.tokens, reader.diagnostics) if line.tokens]
    expression = reader.line(lines[0], "expression") if lines else None
    if not lines:
        facts = {"expected": "a value", "found": "the end of the line"}
        reader.diagnostics.append(Diagnostic("AG110", Span(0, 0), facts))
    for line in lines[1:2]:
        facts = {"expected": "the end of the expression", "found": "another line"}
        reader.diagnostics.append(Diagnostic("AG110", span_of(line.tokens[0]), facts))
    diagnostics = _finished(reader.diagnostics, source)
    return (None if diagnostics else expression), diagnostics


def _finished(diagnostics: list[Diagnostic], source: Source) -> tuple[Diagnostic, ...]:
    """Diagnostics in the order of the text, at most MAX_ERRORS and a last word, each with its source."""
    ordered = sorted(diagnostics, key=lambda d: d.span)
    if len(ordered) > MAX_ERRORS:
        last = Diagnostic("AG009", ordered[MAX_ERRORS].span, {"limit": str(MAX_ERRORS)})
        ordered = [*ordered[:MAX_ERRORS], last]
    return tuple(replace(d, source=source) for d in ordered)


@dataclass
class _Block:
    """A scan while its lines are read; scan is None when its first line could not be read."""

    scan: Scan | None
    place: Span
    column: int
    statements: list[Statement] = field(default_factory=list)
    closing: tuple[str, ...] = ()
    readable: bool = True


@dataclass
class _Draft:
    """A formula while its lines are read; header is None when its first line could not be read."""

    header: Header | None
    place: Span
    above: tuple[str, ...] = ()
    after: str | None = None
    docstring: str | None = None
    statements: list[Statement] = field(default_factory=list)
    returned: Span | None = None
    readable: bool = True
    lines: int = 0
    loose: tuple[str, ...] = ()  # comments around the docstring, which go to the first statement
    blocks: list[_Block] = field(default_factory=list)  # scans that are open, outermost first

    def add(self, statement: Statement) -> None:
        """Put a statement where it belongs: into the innermost scan that is open, else into the formula."""
        (self.blocks[-1].statements if self.blocks else self.statements).append(statement)

    def formula(self, closing: tuple[str, ...]) -> Formula | None:
        if self.header is None:
            return None
        name, inputs, results, span, name_span = self.header
        above, closing = (self.above, (*self.loose, *closing)) if not self.statements else (self.above, closing)
        comments = Comments(above, self.after) if above or self.after is not None else NO_COMMENTS
        return Formula(name, inputs, results, self.docstring, tuple(self.statements), comments, closing,
                       self.readable, span, name_span)  # fmt: skip


class _Reader:
    """Reads one text; gathers its diagnostics."""

    def __init__(self, language: _Language) -> None:
        self.language = language
        self.diagnostics: list[Diagnostic] = []

    def read(self, source: Source) -> File:
        scanned = scan(source, self.language.lexicon)
        self.diagnostics += scanned.diagnostics
        formulas: list[Formula] = []
        uses: list[Use] = []
        draft: _Draft | None = None
        homeless = False  # whether a line without a formula was reported
        for line in self._lines(scanned.tokens):
            if line.tokens and not _opens_formula(line):
                if draft is not None:
                    self._body(draft, line)
                elif line.tokens[0].type == "USE":
                    self._use(line, uses)
                elif not homeless:
                    homeless = True
                    word = line.tokens[0]
                    self.diagnostics.append(Diagnostic("AG121", _whole(line), help=other_file(word)))
                continue
            inner = sum(1 for _ in _leading_indented(line)) if draft is not None else 0
            if draft is not None:
                self._close(draft, tuple(text for _, text in line.above[:inner]), formulas)
                draft = None
            outer = tuple(text for _, text in line.above[inner:])
            if not line.tokens:
                break
            draft = _Draft(self.line(line, "header"), _whole(line), outer, line.after)
            draft.readable = draft.header is not None
        if not formulas and not self.diagnostics:
            self.report("AG007", Span(0, 0))
        return File(tuple(formulas), outer, tuple(uses), Span(0, len(source.text)))

    def _lines(self, tokens: list[Token]) -> Iterator[Line]:
        """The lines, until there are so many errors that the rest would not help; then one empty line."""
        for line in logical_lines(tokens, self.diagnostics):
            if len(self.diagnostics) > MAX_ERRORS:
                yield Line()
                return
            yield line

    def report(self, code: str, span: Span, *labels: Label, help: str | None = None, **facts: str) -> None:
        self.diagnostics.append(Diagnostic(code, span, facts, labels, help))

    def _use(self, line: Line, uses: list[Use]) -> None:
        """Reads a `use` line above the first formula."""
        if not line.readable:  # a path without quotes: what is odd about its characters is beside the point
            whole = _whole(line)
            inside = [d for d in self.diagnostics if whole.start <= d.span.start < whole.end]
            self.diagnostics = [d for d in self.diagnostics if d not in inside]
            self.report("AG151", whole)
            return
        use = self.line(line, "use")
        if use is not None:
            uses.append(replace(use, comments=line.comments()))

    def _body(self, draft: _Draft, line: Line) -> None:
        """Reads one line below a header."""
        draft.lines += 1
        self._dedent(draft, line)
        first = line.tokens[0]
        if first.type == "USE":
            self.report("AG150", _whole(line))
            return
        if first.type == "DOCSTRING" and len(line.tokens) == 1:
            if draft.lines > 1:
                help = "one" if draft.docstring is not None else None
                self.report("AG124", span_of(first), found="a second docstring" if help else "a docstring")
                draft.readable = False
            else:
                draft.docstring = clean_docstring(first)
                after = (line.after,) if line.after is not None else ()
                draft.loose = (*line.comments().before, *after)
            return
        if draft.returned is not None:
            if draft.readable:
                self.report("AG123", _whole(line), Label(draft.returned, "the formula returns here"))
            draft.readable = False
            return
        found = len(self.diagnostics)
        statement = self.line(line, "statement")
        if first.type == "RETURN" or isinstance(statement, Return):
            draft.returned = _whole(line)
        if statement is not None and self._misplaced(draft, line, statement):
            statement = None
        if isinstance(statement, Scan) or line.tokens[0] == "scan":
            scan = statement if isinstance(statement, Scan) else None
            self._open(draft, line, scan, readable=len(self.diagnostics) == found)
            return
        if statement is None:
            draft.readable = False
            if draft.blocks:
                draft.blocks[-1].readable = False
            draft.loose = (*draft.loose, *line.comments().before)
            return
        if line.above or line.after is not None or line.blank or draft.loose:
            statement = replace(statement, comments=self._comments(draft, line))
        draft.add(statement)

    def _comments(self, draft: _Draft, line: Line) -> Comments:
        """The comments of a line, with those that have waited for a statement."""
        before = (*draft.loose, *line.comments().before)
        draft.loose = ()
        return Comments(before, line.after, line.blank)

    # -- scans -------------------------------------------------------------------------------------

    def _misplaced(self, draft: _Draft, line: Line, statement: Statement) -> bool:
        """Whether a statement stands on the wrong side of a scan; said if so."""
        word = str(line.tokens[0])
        if isinstance(statement, State | Yield):
            if draft.blocks:
                return False
            hint = "write it below `scan N:`, indented"
            self.report("AG142", _whole(line), word=word, where="outside a scan", help=hint)
            return True
        if not draft.blocks or isinstance(statement, Scan | Assign | Function):
            return False
        label = Label(draft.blocks[-1].place, "this scan")
        returns = isinstance(statement, Return)
        hint = "`yield` gives a value to the formula" if returns else "it holds for the whole formula"
        self.report("AG142", _whole(line), label, word=word, where="inside a scan", help=f"{hint}; unindent the line")
        return True

    def _open(self, draft: _Draft, line: Line, scan: Scan | None, *, readable: bool) -> None:
        if len(draft.blocks) == MAX_SCANS:
            self.report("AG006", _whole(line), limit=str(MAX_SCANS), what="scans inside each other")
            scan = None
        if scan is None:
            draft.readable = False
        elif line.above or line.after is not None or line.blank or draft.loose:
            scan = replace(scan, comments=self._comments(draft, line))
        draft.blocks.append(_Block(scan, _whole(line), line.column, readable=readable))

    def _dedent(self, draft: _Draft, line: Line) -> None:
        """Close the scans that a line is not indented below; comments above it that are go to their end."""
        while draft.blocks and line.column <= draft.blocks[-1].column:
            block = draft.blocks.pop()
            inner = 0
            while inner < len(line.above) and line.above[inner][0] > block.column:
                inner += 1
            block.closing = (*draft.loose, *(text for _, text in line.above[:inner]))
            draft.loose, line.above = (), line.above[inner:]
            if block.scan is not None and not block.statements and block.readable:
                self.report("AG143", block.place)
                block.readable = False
            draft.readable = draft.readable and block.readable
            if block.scan is not None:
                draft.add(replace(block.scan, body=tuple(block.statements), closing=block.closing))

    def _close(self, draft: _Draft, closing: tuple[str, ...], formulas: list[Formula]) -> None:
        self._dedent(draft, Line())
        if draft.returned is None and draft.readable and len(self.diagnostics) <= MAX_ERRORS:
            place = draft.header.name_span if draft.header is not None else draft.place
            self.report("AG122", place)
            draft.readable = False
        formula = draft.formula(closing)
        if formula is not None:
            formulas.append(formula)

    def line(self, line: Line, start: str) -> Any:
        """The tree of one line, or None when it cannot be read; then the reason is reported."""
        if not line.readable:
            return None
        tokens = _worded(line.tokens) if start == "statement" else line.tokens
        size = (tokens[-1].end_pos or 0) - (tokens[0].start_pos or 0)
        if size > MAX_LINE:
            self.report("AG005", span_of(tokens[0]), size=str(size), limit=str(MAX_LINE))
            return None
        for _ in range(_MAX_REPAIRS):
            try:
                tree = self.language.read(tokens, start)
            except Refused as refused:
                self.diagnostics.append(refused.diagnostic)
                return None
            except UnexpectedToken as error:
                explanation = explain(self._stuck(tokens, start, error))
                self.diagnostics.append(explanation.diagnostic)
                if explanation.repaired is None:
                    return None
                tokens = explanation.repaired
                continue
            # No tree is deeper than its line has tokens.
            if len(tokens) > MAX_DEPTH and _deeper_than(tree, MAX_DEPTH):
                self.report("AG004", _whole(line), limit=str(MAX_DEPTH))
                return None
            return tree
        return None

    def _stuck(self, tokens: list[Token], start: str, error: UnexpectedToken) -> Stuck:
        at_end = error.token.type == "$END"
        index = len(tokens) if at_end else next(i for i, token in enumerate(tokens) if token is error.token)
        is_expression = False
        if start == "statement":
            try:
                self.language.read(tokens, "expression")
                is_expression = True
            except (UnexpectedToken, Refused):
                is_expression = False
        return Stuck(tokens, index, frozenset(error.expected), start, is_expression)


def _whole(line: Line) -> Span:
    return span_of(line.tokens[0]).to(span_of(line.tokens[-1]))


def _worded(tokens: list[Token]) -> list[Token]:
    """The tokens of a line whose first may be a word of the language that is a name elsewhere."""
    first, follows = tokens[0], tokens[1].type if len(tokens) > 1 else ""
    kind = LINE_WORDS.get(first) if first.type == "NAME" else None
    if kind is None or follows == "EQUAL" or (kind == "STATE" and follows != "NAME"):
        return tokens
    return [Token(kind, str(first), first.start_pos, None, None, None, None, first.end_pos), *tokens[1:]]


def _opens_formula(line: Line) -> bool:
    """Whether a line is the header of a formula, or was meant to be one (`Attention f(...) -> [N]:`)."""
    first = line.tokens[0]
    if first.type == "ATTENTION":
        return not (len(line.tokens) > 1 and line.tokens[1].type == "EQUAL")
    if first.type != "NAME" or [t.type for t in line.tokens[1:3]] != ["NAME", "LPAR"]:
        return False
    if first in FOREIGN_HEADERS:
        return any(t.type == "ARROW" for t in line.tokens)
    return closest(first, ["attention"]) is not None


def _leading_indented(line: Line) -> Iterator[str]:
    """The comments above a header that are indented: they belong to the formula before it."""
    for column, text in line.above:
        if column == 0:
            return
        yield text


def clean_docstring(text: str) -> str:
    """A docstring without the indentation of its lines, and without blank lines and blanks around it."""
    lines = [line.rstrip() for line in text.replace("\r", "").expandtabs().split("\n")]
    margin = min((len(line) - len(line.lstrip()) for line in lines[1:] if line), default=0)
    cleaned = [lines[0].lstrip(), *(line[margin:] for line in lines[1:])]
    return "\n".join(cleaned).strip("\n").rstrip()


def _children(node: Any) -> tuple[Any, ...]:
    """The expressions directly below a node of a line's tree."""
    match node:
        case Binary(_, left, right):
            return (left, right)
        case Unary(_, operand) | Transpose(operand) | Rename(operand):
            return (operand,)
        case Call():
            return (*node.arguments, *(keyword.value for keyword in node.keywords))
    below: list[Any] = []
    for name in ("value", "body", "left", "right", "bound", "initial"):
        part = getattr(node, name, None)
        if part is not None:
            below.append(part)
    for name in ("values", "facts", "claims", "bindings", "tensors"):
        below += getattr(node, name, ())
    return tuple(below)


def _deeper_than(tree: Any, limit: int) -> bool:
    """Whether a tree has more than limit levels. Level by level: the Python stack does not grow with the tree."""
    level = [tree]
    for _ in range(limit + 1):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return True
