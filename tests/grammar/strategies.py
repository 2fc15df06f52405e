"""Hypothesis strategies for syntax trees: every construct of the language, with names that may be declared.

They are composite functions, not combinators, so that hypothesis shows them in few words.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, composite

from attngraph.grammar.ast import (
    Assign,
    Axis,
    AxisMap,
    Binary,
    Binding,
    Buffer,
    Call,
    Claim,
    Comments,
    Const,
    Expression,
    Fact,
    File,
    Formula,
    Function,
    Keyword,
    Name,
    Number,
    Param,
    Rename,
    Require,
    Result,
    Return,
    Sequence,
    Statement,
    Tensor,
    Transpose,
    Unary,
    Where,
)
from attngraph.grammar.names import why_reserved
from attngraph.grammar.parser import clean_docstring
from attngraph.grammar.printer import LEVELS

KINDS = ["real", "bool", "int", "complex"]
OPERATORS = sorted(LEVELS)
DEPTH = 4

_familiar_names = st.sampled_from(["q", "k", "v", "a", "x", "phi", "gamma", "N", "M", "T0", "Ty", "time", "O", "e1"])
_any_names = st.from_regex(r"\A[A-Za-z][A-Za-z0-9_]{0,6}\Z").filter(lambda name: why_reserved(name) is None)
_digits = st.one_of(
    st.integers(0, 10**30).map(str),
    st.floats(0, 1e300, allow_subnormal=False).map(repr),
    st.sampled_from(["0", "1", "2", "1e-6", ".5", "5.", "1E5", "007", "2.5e+3"]),
)
_remark_text = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=12)
_prose = st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"], include_characters="\n")
_docstring_text = st.text(_prose, max_size=40)


@composite
def names(draw: DrawFn) -> str:
    """A name that may be declared."""
    return draw(_familiar_names if draw(st.integers(0, 3)) else _any_names)


@composite
def axes(draw: DrawFn, least: int = 0) -> tuple[Axis, ...]:
    """At least so many axes, and up to three."""
    return tuple(Axis(draw(names())) for _ in range(draw(st.integers(least, 3))))


@composite
def axis_maps(draw: DrawFn) -> AxisMap:
    return AxisMap(draw(axes(1)), draw(axes(1)) if draw(st.booleans()) else None)


@composite
def expressions(draw: DrawFn, depth: int = DEPTH) -> Expression:
    """An expression of at most so many levels above its leaves."""
    kind = draw(st.integers(0, 9)) if depth else draw(st.integers(0, 2))
    if kind <= 1:
        # `T` cannot be declared, but it can be written: as a power it must not become a transpose.
        return Name("T") if draw(st.integers(0, 9)) == 9 else Name(draw(names()))
    if kind == 2:
        return Number(draw(_digits))
    inner = expressions(depth - 1)
    if kind <= 5:
        return Binary(draw(st.sampled_from(OPERATORS)), draw(inner), draw(inner))
    if kind == 6:
        return Unary(draw(st.sampled_from(["-", "not"])), draw(inner))
    if kind == 7:
        return Transpose(draw(inner))
    if kind == 8:
        return Rename(draw(inner), Axis(draw(names())), Axis(draw(names())))
    arguments = tuple(draw(inner) for _ in range(draw(st.integers(0, 2))))
    keywords = {draw(names()): draw(inner) for _ in range(draw(st.integers(0, 2)))}
    with_axes = draw(st.booleans())
    function = draw(names()) if with_axes or draw(st.booleans()) else "where"
    named = tuple(Keyword(name, value) for name, value in keywords.items())
    return Call(function, draw(axis_maps()) if with_axes else None, arguments, named)


@composite
def sizes(draw: DrawFn, depth: int = 2) -> Expression:
    """A size expression: no comparison at the top."""
    if not depth or draw(st.booleans()):
        return Name(draw(names())) if draw(st.booleans()) else Number(draw(_digits))
    return Binary(draw(st.sampled_from("+-*/^")), draw(sizes(depth - 1)), draw(sizes(depth - 1)))


@composite
def remarks(draw: DrawFn) -> tuple[str, ...]:
    return tuple(draw(_remark_text).rstrip() for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))))


@composite
def comments(draw: DrawFn, blank: bool = True) -> Comments:
    after = draw(_remark_text).rstrip() if draw(st.integers(0, 4)) == 4 else None
    return Comments(draw(remarks()), after, blank and draw(st.booleans()))


@composite
def docstrings(draw: DrawFn) -> str:
    return clean_docstring(draw(_docstring_text).replace('"""', ""))


@composite
def tensors(draw: DrawFn, initial: bool = False) -> Tensor:
    value = draw(expressions(2)) if initial and draw(st.booleans()) else None
    return Tensor(draw(names()), draw(axes()), draw(st.sampled_from(KINDS)), value)


@composite
def claims(draw: DrawFn) -> Claim:
    return Claim(draw(names()), draw(sizes()) if draw(st.booleans()) else None)


@composite
def facts(draw: DrawFn) -> Fact:
    return Fact(draw(st.sampled_from(["=", ">=", "<=", ">", "<"])), draw(sizes()), draw(sizes()))


@composite
def statements(draw: DrawFn) -> Statement:
    """Any statement but a return."""
    several = range(draw(st.integers(1, 3)))
    remark = draw(comments())
    match draw(st.integers(0, 8)):
        case 0:
            return Where(tuple(draw(facts()) for _ in several), remark)
        case 1:
            return Require(tuple(draw(claims()) for _ in several), remark)
        case 2:
            return Sequence(draw(axes(1)), remark)
        case 3:
            return Const(tuple(Binding(draw(names()), draw(expressions(2))) for _ in several), remark)
        case 4:
            return Param(tuple(draw(tensors(initial=True)) for _ in several), remark)
        case 5:
            return Buffer(tuple(draw(tensors(initial=True)) for _ in several), remark)
        case 6:
            parameters = tuple(Name(draw(names())) for _ in several)
            return Function(draw(names()), parameters, draw(expressions()), remark)
        case _:
            return Assign(draw(names()), draw(expressions()), remark)


@composite
def formulas(draw: DrawFn) -> Formula:
    body = tuple(draw(statements()) for _ in range(draw(st.integers(0, 3))))
    values = tuple(draw(expressions()) for _ in range(draw(st.integers(1, 2))))
    results = tuple(Result(draw(axes()), draw(st.sampled_from(KINDS))) for _ in values)
    return Formula(
        name=draw(names()),
        inputs=tuple(draw(tensors()) for _ in range(draw(st.integers(0, 3)))),
        results=results,
        docstring=draw(docstrings()) if draw(st.booleans()) else None,
        statements=(*body, Return(values, draw(comments()))),
        comments=draw(comments(blank=False)),
        closing=draw(remarks()),
    )


@composite
def files(draw: DrawFn) -> File:
    return File(tuple(draw(formulas()) for _ in range(draw(st.integers(1, 2)))), draw(remarks()))
