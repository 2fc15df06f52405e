"""Syntax errors by example: the code, the place that is underlined, and the help."""

from __future__ import annotations

import pytest

from attngraph.grammar.diagnostics import Diagnostic
from attngraph.grammar.parser import parse
from attngraph.grammar.source import Source

HEADER = "attention f(q[N, D], k[M, D]) -> [N, M]:\n"


def read(text: str) -> tuple[Source, tuple[Diagnostic, ...]]:
    source = Source("<test>", text)
    return source, parse(source)[1]


# line of a body, code, what is underlined, a part of the help
LINES = [
    # brackets
    ("a = (q @ k^T", "AG104", "(", "close it with `)`"),
    ("a = softmax[M(q @ k^T)", "AG104", "[", "close it with `]`"),
    ("a = q @ k^T)", "AG105", ")", "take it out"),
    ("a = (q @ k^T]", "AG106", "]", ""),
    ("a = sum[](q)", "AG125", "[]", "sum[M](x)"),
    ("a = q[N]", "AG126", "[N]", ""),
    ("a = q[0]", "AG126", "0", "not indexed"),
    ("a = q[:, 1]", "AG126", ":", "not indexed"),
    ("a = q[N -> M, D -> E]", "AG126", "->", "x[N -> M][D -> E]"),
    ("a = q[N, D -> M, E]", "AG126", "[N, D -> M, E]", "x[N -> M][D -> E]"),
    ("a = f[N M](x)", "AG141", "N M", ""),
    ("param w[H D]", "AG141", "H D", ""),
    # operators of other languages
    ("a = q ** 2", "AG103", "**", "`^`"),
    ("a = q.T @ k", "AG103", ".T", "`^T`"),
    ("a = q' @ k", "AG103", "'", "`^T`"),
    ("a = q && k", "AG103", "&&", "`and`"),
    ("a = q & k", "AG103", "&", "`and`"),
    ("a = q || k", "AG103", "||", "`or`"),
    ("a = |q|", "AG103", "|", "abs(x)"),
    ("a = !q", "AG103", "!", "`not`"),
    ("a = q × k", "AG103", "×", "`*`"),
    ("a = q ≥ 3", "AG103", "≥", "`>=`"),
    ("a = x² + 3", "AG103", "x²", "`x^2`"),
    ("a = √q", "AG103", "√", "sqrt"),
    ("a := q", "AG103", ":=", "`=`"),
    ("a += q", "AG103", "+=", "bound once"),
    ("a = torch.exp(q)", "AG103", ".", "relu(x)"),
    ("a = q; b = k", "AG103", ";", "each line"),
    ("a = q \\", "AG103", "\\", "inside brackets"),
    ("a = {q}", "AG103", "{", "`(`"),
    ("a = q ? k : q", "AG103", "?", "where(condition, a, b)"),
    ("a = q ＋ 3", "AG103", "＋", "`+`"),
    # letters
    ("a = 3 * α", "AG102", "α", "`alpha`"),
    ("a = λ", "AG102", "λ", "`lam`"),
    ("a = \u0430", "AG102", "\u0430", "`a`"),  # Cyrillic
    ("a = \u039d", "AG102", "\u039d", "`N`"),  # Greek, looks like N
    ("a = 𝑥", "AG102", "𝑥", "`x`"),
    ("a = x₁", "AG102", "x₁", "`x1`"),
    ("a = mémoire", "AG102", "mémoire", "`memoire`"),
    ("a = q\u200b + 3", "AG101", "\u200b", "take it out"),
    ("a = q $ 3", "AG101", "$", "take it out"),
    # operands and operators
    ("a = 0 <= q < 3", "AG113", "<", "`and`"),
    ("a = b == c == d", "AG113", "==", "`and`"),
    ("a = q k", "AG112", "q k", ""),
    ("a = 2q", "AG112", "2q", "`2 * q`"),
    ("a = (q + k)(q - k)", "AG112", ")(", "`*`"),
    ("a = f(x y)", "AG112", "x y", ""),
    ("a = q +", "AG111", "+", ""),
    ("a = * q", "AG111", "*", ""),
    ("a = q + * k", "AG111", "+ *", ""),
    ("a = +q", "AG111", "+", "leave the sign `+` out"),
    ("a = not", "AG111", "not", ""),
    ("+ b", "AG137", "+", "inside parentheses"),
    ("a =", "AG138", "=", ""),
    ("a = f(x,, y)", "AG138", ",", ""),
    ("a = ()", "AG138", "(", ""),
    ("a = [q, k]", "AG110", "[", "concat"),
    # names and bindings
    ("a = where(pos(N) = pos(M), 1, 2)", "AG114", "=", "`==`"),
    ("a = where(q = 3, 1, 2)", "AG127", "1", "`==`"),
    ("a = b = q", "AG114", "=", "`==`"),
    ("a = f(x, mask=1, mask=2)", "AG128", "mask=2", ""),
    ("q @ k", "AG129", "q @ k", "return it"),
    ("phi(q)", "AG129", "phi(q)", "return it"),
    ("a[N] = q", "AG140", "[N]", "`a = ...`"),
    ("a, b = q", "AG140", ",", "one name on each line"),
    ("sum[M](q) = 3", "AG140", "sum[M](q)", ""),
    ("2 = q", "AG140", "2", ""),
    ("where = 3", "AG120", "where", "`where_`"),
    ("const = 3", "AG120", "const", "`const_`"),
    ("a = q + const", "AG120", "const", "`const_`"),
    ("lambda = 3", "AG120", "lambda", "`lambda_`"),
    ("class(x) = x", "AG120", "class", "`class_`"),
    ("__class__ = 3", "AG120", "__class__", "`class`"),
    ("_a = 3", "AG120", "_a", "`a`"),
    ("T = 3", "AG120", "T", ""),
    ("pi = 3", "AG120", "pi", "`pi_`"),
    ("param _w[H]", "AG120", "_w", "`w`"),
    ("a = sum[lambda](q)", "AG120", "lambda", "`lambda_`"),
    ("a = 1e999", "AG008", "1e999", ""),
    # words
    ("requre linear", "AG117", "requre", "`require`"),
    ("Require linear", "AG117", "Require", "`require`"),
    ("paramm w[H]", "AG117", "paramm", "`param`"),
    ("for i in x:", "AG118", "for", "no loops"),
    ("if q:", "AG118", "if", "where(condition, a, b)"),
    ("def g(x): return x", "AG118", "def", "phi(x)"),
    ("import torch", "AG118", "import", "built in"),
    ("a = lambda x: x", "AG118", "lambda", "phi(x)"),
    ("a = x if q else k", "AG118", "if", "where(condition, a, b)"),
    ("a = True", "AG118", "True", ""),
    ('use "kernels.attn"', "AG150", 'use "kernels.attn"', "above all formulas"),
    ("scan N:", "AG143", "scan N:", "indented"),
    ("scan N", "AG115", "N", "scan N:"),
    ("scan N, M:", "AG110", ",", "one axis"),
    ("scan N: y = q", "AG131", "y", "line below"),
    ("state S[D] = 0", "AG142", "state S[D] = 0", "scan N:"),
    ("yield y = q", "AG142", "yield y = q", "scan N:"),
    ("yield q", "AG144", "q", "yield y"),
    ("yield q @ k^T", "AG144", "q @ k^T", "yield y"),
    ("state S[D]", "AG145", "S[D]", "= 0"),
    ("state S = 0", "AG130", "S", "`S[]`"),
    ("a = \"text\"", "AG139", "\"text\"", ""),
    # statements
    ("param w", "AG130", "w", "`w[]`"),
    ("param w[3]", "AG110", "3", "where R = 3"),
    ("param w[H] float", "AG134", "float", "`real`"),
    ("param w[H] bol", "AG134", "bol", "`bool`"),
    ("where M == N", "AG136", "==", "`=`"),
    ("where M", "AG110", "M", "where M = N"),
    ("where N <= M <= K", "AG113", "<=", "two facts"),
    ("require", "AG138", "require", ""),
    ("require time(N)", "AG135", "(", "time O(N * D)"),
    ("require time o(N)", "AG135", "o", "time O(...)"),
    ('"""Again."""', "AG124", '"""Again."""', "below the header"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "code", "underlined", "help"), LINES, ids=[line for line, *_ in LINES])
def test_line(line: str, code: str, underlined: str, help: str) -> None:
    source, diagnostics = read(f"{HEADER}    b = 1\n    {line}\n    return q\n")
    assert [diagnostic.code for diagnostic in diagnostics] == [code]
    (diagnostic,) = diagnostics
    assert source.slice(diagnostic.span) == underlined
    assert source.position(diagnostic.span.start)[0] == 3
    assert help in (diagnostic.suggestion or "")


HEADERS = [
    ("attention f(q[N, D]) -> [N]", "AG115", "]", "->"),
    ("attention f(q[N, D]):", "AG116", ":", "`-> [N, E]`"),
    ("attention f(q[N, D])", "AG116", ")", "`-> [N, E]`"),
    ("attention f(q, k[N]) -> [N]:", "AG130", "q", "`q[]`"),
    ("attention f(q[N]) -> N:", "AG130", "N", "in brackets"),
    ("attention f(q[N] k[N]) -> [N]:", "AG141", "] k", ""),
    ("attention f(q[N] = 3) -> [N]:", "AG114", "=", "`const`"),
    ("attention f(q[N]) -> [N]: return q", "AG131", "return", "line below"),
    ("Attention f(q[N]) -> [N]:", "AG117", "Attention", "`attention`"),
    ("attenton f(q[N]) -> [N]:", "AG117", "attenton", "`attention`"),
    ("def f(q[N]) -> [N]:", "AG117", "def", "`attention`"),
    ("attention f q[N] -> [N]:", "AG110", "q", "attention name("),
    ("attention (q[N]) -> [N]:", "AG110", "(", "attention name("),
    ("attention f(q[N]) -> [N] boolean:", "AG134", "boolean", "real"),
    ("attention f(q[2]) -> [N]:", "AG110", "2", "where R = 2"),
    ("attention f(q[N D]) -> [N]:", "AG141", "N D", ""),
    ("attention lambda(q[N]) -> [N]:", "AG120", "lambda", "`lambda_`"),
    ("attention f(q[N] -> [N]:", "AG104", "(", "`)`"),
]


@pytest.mark.parametrize(("line", "code", "underlined", "help"), HEADERS, ids=[line for line, *_ in HEADERS])
def test_header(line: str, code: str, underlined: str, help: str) -> None:
    source, diagnostics = read(f"{line}\n    return q\n")
    assert [diagnostic.code for diagnostic in diagnostics] == [code]
    (diagnostic,) = diagnostics
    assert source.slice(diagnostic.span) == underlined
    assert help in (diagnostic.suggestion or "")


FILES = [
    ("", "AG007", ""),
    ("a = 3\nreturn a\n", "AG121", "a = 3"),
    (HEADER + "    a = q\n", "AG122", "f"),
    (HEADER, "AG122", "f"),
    (HEADER + "    return q\n    return k\n    a = q", "AG123", "return k"),
    (HEADER + '    """One."""\n    """Two."""\n    return q\n', "AG124", '"""Two."""'),
    (HEADER + '    """One.\n    return q\n', "AG107", '"""'),
    (HEADER + "    '''One.'''\n    return q\n", "AG103", "'''"),
]


@pytest.mark.parametrize(("text", "code", "underlined"), FILES, ids=[text for text, *_ in FILES])
def test_file(text: str, code: str, underlined: str) -> None:
    source, diagnostics = read(text)
    assert [diagnostic.code for diagnostic in diagnostics] == [code]
    assert source.slice(diagnostics[0].span) == underlined


def test_several_errors_in_one_run() -> None:
    source, diagnostics = read(
        "attention f(q[N, D], k[M, D]) -> [N, M]\n"  # missing colon
        "    requre linear,, causal\n"  # two errors in one line
        "    a = (q @ k^T\n"  # unclosed
        "    b = q ** 2 + α\n"  # two more
        "    c = q k\n"
        "    return c\n"
        "\n"
        "attention g(q[N]) -> [N]:\n"
        "    return q +\n"
        "attention h(q[N]) -> [N]:\n"
        "    return q\n"
    )
    found = [(source.position(d.span.start)[0], d.code) for d in diagnostics]
    assert found == [
        (1, "AG115"), (2, "AG117"), (2, "AG138"), (3, "AG104"), (4, "AG103"), (4, "AG102"), (5, "AG112"), (9, "AG111"),
    ]  # fmt: skip
    file, _ = parse(source)
    assert [(formula.name, formula.readable) for formula in file.formulas] == [("f", False), ("g", False), ("h", True)]


def test_an_unclosed_bracket_does_not_swallow_the_lines_below() -> None:
    source, diagnostics = read(HEADER + "    a = f(q,\n    b = q ** 2\n    c = (q + k\n    d = q k\n    return d\n")
    assert [(source.position(d.span.start)[0], d.code) for d in diagnostics] == [
        (2, "AG104"), (3, "AG103"), (4, "AG104"), (5, "AG112"),
    ]  # fmt: skip


def test_an_unclosed_docstring_does_not_swallow_the_next_formula() -> None:
    source, diagnostics = read(
        f'{HEADER}    """Never closed,\n    over two lines.\n    return q\n\n'
        f'{HEADER}    """Closed."""\n    a = q k\n    return a\n'
    )
    assert [(source.position(d.span.start)[0], d.code) for d in diagnostics] == [(2, "AG107"), (8, "AG112")]


def test_diagnostics_carry_their_source_and_come_in_order() -> None:
    source, diagnostics = read(HEADER + "    a = q k\n    return α")
    assert [d.source for d in diagnostics] == [source, source]
    assert [d.span for d in diagnostics] == sorted(d.span for d in diagnostics)
