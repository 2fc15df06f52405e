"""From grammar rules to syntax tree nodes: one method per rule or alias of attngraph.lark.

Lark calls a method with the children of its rule, tokens included, as soon as the rule is reduced; the tree is built
bottom-up, so no depth of the text reaches the Python stack. The builder has no state. What the grammar accepts but the
language does not is refused by raising `Refused` with the diagnostic.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import replace
from typing import Any, NamedTuple, NoReturn

from lark import Token

from .ast import (
    Assign,
    Axis,
    AxisMap,
    Binary,
    Binding,
    Buffer,
    Call,
    Claim,
    Const,
    Expression,
    Fact,
    Function,
    Keyword,
    Name,
    Number,
    Param,
    Rename,
    Require,
    Result,
    Return,
    Scan,
    Sequence,
    State,
    Statement,
    Tensor,
    Transpose,
    Unary,
    Use,
    Where,
    Yield,
)
from .diagnostics import Diagnostic, Label
from .names import closest, shown, why_reserved
from .source import Span
from .tokens import span_of

KINDS = ("real", "bool", "int", "complex")


class Refused(Exception):
    """A line that the grammar accepts but the language does not; carries the diagnostic."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        self.diagnostic = diagnostic
        super().__init__(diagnostic.code)


class Header(NamedTuple):
    """The first line of a formula."""

    name: str
    inputs: tuple[Tensor, ...]
    results: tuple[Result, ...]
    span: Span
    name_span: Span


class _Axes(NamedTuple):
    """Axes in brackets, and the place of the brackets."""

    axes: tuple[Axis, ...]
    span: Span


class _Arguments(NamedTuple):
    positional: tuple[Expression, ...]
    keywords: tuple[Keyword, ...]
    span: Span


Tree = Use | Header | Statement | Expression


def _refuse(code: str, span: Span, *labels: Label, help: str | None = None, **facts: str) -> NoReturn:
    raise Refused(Diagnostic(code, span, facts, labels, help))


def _declared(name: Token) -> str:
    """The text of a name that the user declares, if it may be declared."""
    reserved = why_reserved(name)
    if reserved is not None:
        reason, other = reserved
        _refuse("AG120", span_of(name), name=shown(name), reason=reason, other=shown(other))
    return str(name)


def _from(first: Token, last: Token) -> Span:
    return Span(first.start_pos or 0, last.end_pos or 0)


class TreeBuilder:
    """The methods that Lark calls, named after the rules of the grammar."""

    # -- other files -------------------------------------------------------------------------------

    def use(self, children: list[Token]) -> Use:
        word, text = children
        path, place = text[1:-1], span_of(text)
        if text[0] != '"' or len(text) < 2 or text[-1] != '"' or not path.strip():
            bare = text.strip("'\" ")
            _refuse("AG151", place, help=f'write `use "{shown(bare)}"`' if bare else None)
        return Use(path, span=_from(word, text), path_span=place)

    # -- header and declarations -------------------------------------------------------------------

    def header(self, children: list[Any]) -> Header:
        first, name, _, inputs, _, _, results, last = children
        return Header(_declared(name), inputs, results, _from(first, last), span_of(name))

    def inputs(self, children: list[Tensor]) -> tuple[Tensor, ...]:
        return tuple(children[::2])

    def results(self, children: list[Result]) -> tuple[Result, ...]:
        return tuple(children[::2])

    def result(self, children: list[Any]) -> Result:
        dimensions = children[0]
        return Result(dimensions.axes, *_kind(dimensions.span, children[1:]))

    def declared(self, children: list[Any]) -> Tensor:
        name, dimensions = children[:2]
        kind, span = _kind(span_of(name).to(dimensions.span), children[2:])
        return Tensor(_declared(name), dimensions.axes, kind, None, span, span_of(name))

    def initialised(self, children: list[Any]) -> Tensor:
        tensor: Tensor = children[0]
        initial: Expression = children[2]
        return replace(tensor, initial=initial, span=tensor.span.to(initial.span))

    def dimensions(self, children: list[Any]) -> _Axes:
        return _Axes(tuple(children[1:-1:2]), _from(children[0], children[-1]))

    # -- statements --------------------------------------------------------------------------------

    def where(self, children: list[Fact]) -> Where:
        return Where(tuple(children[1::2]), span=_line(children))

    def fact(self, children: list[Any]) -> Fact:
        left, relation, right = children[:3]
        if len(children) > 3:
            second = children[3]
            _refuse("AG113", span_of(second), Label(span_of(relation), "the first relation"),
                    help="write two facts, separated by a comma")  # fmt: skip
        if relation in ("==", "!="):
            help = "write `=`: the fact says that both sides are equal" if relation == "==" else None
            _refuse("AG136", span_of(relation), found=relation, help=help)
        return Fact(str(relation), left, right, left.span.to(right.span))

    def require(self, children: list[Claim]) -> Require:
        return Require(tuple(children[1::2]), span=_line(children))

    def claim(self, children: list[Any]) -> Claim:
        name = children[0]
        if len(children) == 1:
            return Claim(str(name), None, span_of(name))
        order, _, bound, last = children[1:]
        if order != "O":
            _refuse("AG135", span_of(order), help=f"a bound is written `{shown(name)} O(...)`")
        return Claim(str(name), bound, _from(name, last))

    def sequence(self, children: list[Axis]) -> Sequence:
        return Sequence(tuple(children[1::2]), span=_line(children))

    def const(self, children: list[Binding]) -> Const:
        return Const(tuple(children[1::2]), span=_line(children))

    def binding(self, children: list[Any]) -> Binding:
        name, _, value = children
        return Binding(_declared(name), value, span_of(name).to(value.span), span_of(name))

    def param(self, children: list[Tensor]) -> Param:
        return Param(tuple(children[1::2]), span=_line(children))

    def buffer(self, children: list[Tensor]) -> Buffer:
        return Buffer(tuple(children[1::2]), span=_line(children))

    def function(self, children: list[Any]) -> Function:
        name, _, parameters, _, _, body = children
        place = span_of(name)
        return Function(_declared(name), parameters, body, span=place.to(body.span), name_span=place)

    def parameters(self, children: list[Token]) -> tuple[Name, ...]:
        return tuple(Name(_declared(name), span_of(name)) for name in children[::2])

    def assign(self, children: list[Any]) -> Assign:
        name, _, value = children
        place = span_of(name)
        return Assign(_declared(name), value, span=place.to(value.span), name_span=place)

    def scan(self, children: list[Any]) -> Scan:
        first, axis, last = children
        return Scan(axis, (), span=_from(first, last))

    def state(self, children: list[Any]) -> State:
        tensors: tuple[Tensor, ...] = tuple(children[1::2])
        for tensor in tensors:
            if tensor.initial is None:
                _refuse("AG145", tensor.span, name=shown(tensor.name))
        return State(tensors, span=_line(children))

    def yield_(self, children: list[Any]) -> Yield:
        word, name, _, value = children
        return Yield(_declared(name), value, span=span_of(word).to(value.span), name_span=span_of(name))

    def return_(self, children: list[Expression]) -> Return:
        return Return(tuple(children[1::2]), span=_line(children))

    # -- expressions -------------------------------------------------------------------------------

    def number(self, children: list[Token]) -> Number:
        text = str(children[0])
        value = float(text)
        if value == float("inf") or (value == 0 and any(c in "123456789" for c in text.lower().split("e")[0])):
            _refuse("AG008", span_of(children[0]), text=shown(text))
        return Number(text, span_of(children[0]))

    def name(self, children: list[Token]) -> Name:
        name = children[0]
        if name in ("True", "False", "None"):
            _refuse("AG118", span_of(name), found=str(name),
                    help="there are no such literals; a condition is a comparison")  # fmt: skip
        return Name(str(name), span_of(name))

    def parenthesised(self, children: list[Any]) -> Expression:
        inner: Expression = children[1]
        return replace(inner, span=_from(children[0], children[2]))

    def binary(self, children: list[Any]) -> Binary:
        left, operator, right = children
        return Binary(str(operator), left, right, Span(left.span.start, right.span.end))

    def compare(self, children: list[Any]) -> Binary:
        if len(children) > 3:
            first, second = children[1], children[3]
            _refuse("AG113", span_of(second), Label(span_of(first), "the first comparison"))
        return self.binary(children)

    def unary(self, children: list[Any]) -> Unary:
        operator, operand = children
        return Unary(str(operator), operand, span_of(operator).to(operand.span))

    def transpose(self, children: list[Any]) -> Transpose:
        operand, sign = children
        return Transpose(operand, operand.span.to(span_of(sign)))

    def renamed_name(self, children: list[Any]) -> Rename:
        name, axes = children
        return self.rename([Name(str(name), span_of(name)), axes])

    def rename(self, children: list[Any]) -> Rename:
        operand, axes = children
        if axes.targets is None:
            _refuse("AG126", axes.span)
        if len(axes.sources) != 1 or len(axes.targets) != 1:
            pairs = zip(axes.sources, axes.targets, strict=False)
            each = "".join(f"[{shown(a.name)} -> {shown(b.name)}]" for a, b in pairs)
            _refuse("AG126", axes.span, help=f"rename one axis after the other: `x{each}`")
        return Rename(operand, axes.sources[0], axes.targets[0], operand.span.to(axes.span))

    def call(self, children: list[Any]) -> Call:
        name, arguments = children
        place = span_of(name)
        return Call(str(name), None, arguments.positional, arguments.keywords, place.to(arguments.span), place)

    def call_with_axes(self, children: list[Any]) -> Call:
        name, axes, arguments = children
        place = span_of(name)
        return Call(str(name), axes, arguments.positional, arguments.keywords, place.to(arguments.span), place)

    def axis_map(self, children: list[Any]) -> AxisMap:
        first, sources, last = children
        return AxisMap(sources, None, _from(first, last))

    def axis_map_with_targets(self, children: list[Any]) -> AxisMap:
        first, sources, _, targets, last = children
        return AxisMap(sources, targets, _from(first, last))

    def axes(self, children: list[Axis]) -> tuple[Axis, ...]:
        return tuple(children[::2])

    def axis(self, children: list[Token]) -> Axis:
        return Axis(_declared(children[0]), span_of(children[0]))

    def keyword(self, children: list[Any]) -> Keyword:
        name, _, value = children
        return Keyword(str(name), value, span_of(name).to(value.span))

    def arguments(self, children: list[Any]) -> _Arguments:
        positional: list[Expression] = []
        keywords: list[Keyword] = []
        for argument in children[1:-1:2]:
            if isinstance(argument, Keyword):
                for earlier in keywords:
                    if earlier.name == argument.name:
                        label = Label(earlier.span, "the first one")
                        _refuse("AG128", argument.span, label, name=shown(argument.name))
                keywords.append(argument)
            else:
                if keywords:
                    label = Label(keywords[-1].span, "given by name")
                    _refuse("AG127", argument.span, label)
                positional.append(argument)
        return _Arguments(tuple(positional), tuple(keywords), _from(children[0], children[-1]))


# `return` and `yield` are rules of the grammar but no names in Python.
setattr(TreeBuilder, "return", TreeBuilder.return_)
setattr(TreeBuilder, "yield", TreeBuilder.yield_)


def _kind(place: Span, words: Items[Token]) -> tuple[str, Span]:
    """The kind behind the brackets of a declaration (`real` if there is none), and the place with it."""
    if not words:
        return "real", place
    word = words[0]
    if word not in KINDS:
        guess = closest(word, KINDS)
        _refuse("AG134", span_of(word), found=shown(word), help=f"did you mean `{guess}`?" if guess else None)
    return str(word), place.to(span_of(word))


def _line(children: Items[Any]) -> Span:
    """The place from the first word of a line to the end of its last part."""
    first, last = children[0], children[-1]
    end = last.end_pos or 0 if isinstance(last, Token) else last.span.end
    return Span(first.start_pos or 0, end)
