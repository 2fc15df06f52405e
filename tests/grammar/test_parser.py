"""The parser: shapes of trees, places of nodes, comments, and what it costs."""

from __future__ import annotations

import time

import pytest

from attngraph.grammar.ast import (
    Assign,
    Axis,
    AxisMap,
    Binary,
    Call,
    Claim,
    Comments,
    Const,
    Expression,
    Fact,
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
    Tensor,
    Transpose,
    Unary,
    Where,
)
from attngraph.grammar.names import closest
from attngraph.grammar.parser import parse, parse_expression
from attngraph.grammar.source import Source

a, b, c, x = Name("a"), Name("b"), Name("c"), Name("x")
RETENTION = '''\
# Retention.
attention retention(q[H, N, D], k[H, M, D], v[H, M, E], mask[N, M] bool) -> [H, N, E], [K] complex:
    """Sun et al., Retentive Network, 2023."""
    where M = N, K = floor(N / 2) + 1, N >= 2
    require linear, causal, time O(N * D * E)
    const lam = 3
    param w[H, D] = normal(0.02), b[] complex
    phi(x) = elu(x) + 1

    # how fast it forgets
    gamma = 1 - 2^(-5 - pos(H))  # per head
    return ((q @ k^T) * gamma) @ v, softmax[M](v, mask=mask)
'''


def expression(text: str) -> Expression:
    tree, diagnostics = parse_expression(Source("<test>", text))
    assert diagnostics == ()
    assert tree is not None
    return tree


def formula(text: str) -> Formula:
    file, diagnostics = parse(Source("<test>", text))
    assert diagnostics == ()
    (only,) = file.formulas
    return only


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a - b - c", Binary("-", Binary("-", a, b), c)),
        ("a + b * c", Binary("+", a, Binary("*", b, c))),
        ("a @ b / c", Binary("/", Binary("@", a, b), c)),
        ("a // b % c", Binary("%", Binary("//", a, b), c)),
        ("a^b^c", Binary("^", a, Binary("^", b, c))),
        ("-a^b", Unary("-", Binary("^", a, b))),
        ("a^-b^c", Binary("^", a, Unary("-", Binary("^", b, c)))),
        ("-a * b", Binary("*", Unary("-", a), b)),
        ("a * -b", Binary("*", a, Unary("-", b))),
        ("a - -b", Binary("-", a, Unary("-", b))),
        ("a^T^b", Binary("^", Transpose(a), b)),
        ("a^b^T", Binary("^", a, Transpose(b))),
        ("a^Tx", Binary("^", a, Name("Tx"))),
        ("aᵀ", Transpose(a)),
        ("a < b + c", Binary("<", a, Binary("+", b, c))),
        ("not a == b", Unary("not", Binary("==", a, b))),
        ("a or b and not c", Binary("or", a, Binary("and", b, Unary("not", c)))),
        ("x[N -> M]", Rename(x, Axis("N"), Axis("M"))),
        ("x[N -> M][D -> E]", Rename(Rename(x, Axis("N"), Axis("M")), Axis("D"), Axis("E"))),
        ("x[N -> M]^T", Transpose(Rename(x, Axis("N"), Axis("M")))),
        ("f(x)[N -> M]", Rename(Call("f", None, (x,)), Axis("N"), Axis("M"))),
        ("f()", Call("f", None, ())),
        ("f(a, b,)", Call("f", None, (a, b))),
        ("sum[D](x)", Call("sum", AxisMap((Axis("D"),)), (x,))),
        ("split[N -> Y, X](x)", Call("split", AxisMap((Axis("N"),), (Axis("Y"), Axis("X"))), (x,))),
        ("concat[N, M -> L](a, b)", Call("concat", AxisMap((Axis("N"), Axis("M")), (Axis("L"),)), (a, b))),
        ("where(a == b, x, 0)", Call("where", None, (Binary("==", a, b), x, Number("0")))),
        ("f(x, mask=a < b)", Call("f", None, (x,), (Keyword("mask", Binary("<", a, b)),))),
        ("(\n a # one\n + b\n)", Binary("+", a, b)),
    ],
)
def test_expression(text: str, tree: Expression) -> None:
    assert expression(text) == tree


def test_formula() -> None:
    read = formula(RETENTION)
    axes = {name: Axis(name) for name in "HNMDEK"}
    h, n, m, d, e = (axes[name] for name in "HNMDE")
    assert (read.name, read.docstring) == ("retention", "Sun et al., Retentive Network, 2023.")
    assert read.inputs == (
        Tensor("q", (h, n, d)), Tensor("k", (h, m, d)), Tensor("v", (h, m, e)), Tensor("mask", (n, m), "bool"),
    )  # fmt: skip
    assert read.results == (Result((h, n, e)), Result((axes["K"],), "complex"))
    where, require, const, param, phi, gamma, returned = read.statements
    half = Binary("+", Call("floor", None, (Binary("/", Name("N"), Number("2")),)), Number("1"))
    assert where == Where(
        (Fact("=", Name("M"), Name("N")), Fact("=", Name("K"), half), Fact(">=", Name("N"), Number("2")))
    )
    assert isinstance(require, Require)
    assert require.claims[:2] == (Claim("linear"), Claim("causal"))
    assert require.claims[2].bound == Binary("*", Binary("*", Name("N"), Name("D")), Name("E"))
    assert isinstance(const, Const)
    assert const.bindings[0].value == Number("3")
    normal = Call("normal", None, (Number("0.02"),))
    assert param == Param((Tensor("w", (h, d), "real", normal), Tensor("b", (), "complex")))
    assert phi == Function("phi", (Name("x"),), Binary("+", Call("elu", None, (Name("x"),)), Number("1")))
    assert isinstance(gamma, Assign)
    assert gamma.comments == Comments(("how fast it forgets",), "per head", True)
    assert isinstance(returned, Return)
    assert len(returned.values) == 2
    assert read.comments == Comments(("Retention.",))


def test_places() -> None:
    source = Source("<test>", RETENTION)
    (read,) = parse(source)[0].formulas
    assert source.slice(read.span).startswith("attention retention(")
    assert source.slice(read.span).endswith("complex:")
    assert source.slice(read.name_span) == "retention"
    assert [source.slice(t.span) for t in read.inputs][2:] == ["v[H, M, E]", "mask[N, M] bool"]
    assert [source.slice(r.span) for r in read.results] == ["[H, N, E]", "[K] complex"]
    where, require, _, param, phi, gamma, returned = read.statements
    assert isinstance(where, Where)
    assert [source.slice(f.span) for f in where.facts] == ["M = N", "K = floor(N / 2) + 1", "N >= 2"]
    assert source.slice(require.span) == "require linear, causal, time O(N * D * E)"
    assert isinstance(param, Param)
    assert [source.slice(t.span) for t in param.tensors] == ["w[H, D] = normal(0.02)", "b[] complex"]
    assert source.slice(phi.span) == "phi(x) = elu(x) + 1"
    assert isinstance(gamma, Assign)
    assert source.slice(gamma.name_span) == "gamma"
    assert source.slice(gamma.value.span) == "1 - 2^(-5 - pos(H))"
    assert isinstance(returned, Return)
    product, call = returned.values
    assert isinstance(product, Binary)
    assert source.slice(product.left.span) == "((q @ k^T) * gamma)"
    assert isinstance(call, Call)
    assert source.slice(call.span) == "softmax[M](v, mask=mask)"
    assert source.slice(call.function_span) == "softmax"
    assert call.axes is not None
    assert source.slice(call.axes.span) == "[M]"
    assert source.slice(call.keywords[0].span) == "mask=mask"


def test_layout_is_free() -> None:
    """Tabs, no indentation, a deeper indentation, lines inside brackets: all read as the same tree."""
    canonical = formula("attention f(q[N]) -> [N]:\n    a = q\n    return a + 1\n")
    for text in (
        "attention f(q[N]) -> [N]:\n\ta = q\n\treturn a + 1",
        "attention f(q[N]) -> [N]:\na = q\nreturn a + 1",
        "  attention f(\n    q[N],\n  ) -> [N]:\n      a = q\n   return (a\n+ 1)",
        "\ufeffattention f(q[N]) -> [N]:\r\n    a = q\r\n    return a + 1\r\n",
    ):
        assert formula(text) == canonical


def test_a_file_holds_several_formulas() -> None:
    text = "attention f(x[]) -> []:\n  return x\nattention g(x[]) -> []:\n  return x\n# end"
    file, diagnostics = parse(Source("<test>", text))
    assert diagnostics == ()
    assert [f.name for f in file.formulas] == ["f", "g"]
    assert file.closing == ("end",)


@pytest.mark.parametrize(
    ("word", "meant"),
    [("requre", "require"), ("Softmax", "softmax"), ("sofmtax", "softmax"), ("xyz", None), ("q", None), ("sun", "sum")],
)
def test_closest(word: str, meant: str | None) -> None:
    assert closest(word, ["require", "softmax", "sum", "k"]) == meant


def test_a_formula_is_read_in_milliseconds() -> None:
    source = Source("<test>", RETENTION)
    parse(source)  # builds the parser
    runs = []
    for _ in range(20):
        start = time.perf_counter()
        parse(source)
        runs.append(time.perf_counter() - start)
    assert min(runs) < 3e-3  # 1 ms on the machine it was measured on
