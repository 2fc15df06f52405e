"""The formatter: what it prints reads back as the same tree, and formatting twice changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from attngraph.grammar.ast import Expression, File
from attngraph.grammar.parser import parse, parse_expression
from attngraph.grammar.printer import WIDTH, format_expression, format_file
from attngraph.grammar.source import Source
from tests.grammar.strategies import expressions, files


def tidy(text: str) -> str:
    file, diagnostics = parse(Source("<test>", text))
    assert diagnostics == ()
    return format_file(file)


@settings(max_examples=300)
@given(expressions())
def test_expression_reads_back(expression: Expression) -> None:
    text = format_expression(expression)
    read, diagnostics = parse_expression(Source("<test>", text))
    assert diagnostics == (), text
    assert read == expression, text


@settings(max_examples=100, suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow])
@given(files())
def test_file_reads_back_and_is_stable(file: File) -> None:
    text = format_file(file)
    read, diagnostics = parse(Source("<test>", text))
    assert diagnostics == (), text
    assert read == file, text
    assert format_file(read) == text


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("(a)+(b*c)", "a + b * c"),
        ("(a+b)*c", "(a + b) * c"),
        ("a-(b-c)-d", "a - (b - c) - d"),
        ("2^(-5-x)", "2^(-5 - x)"),
        ("2^(-5)", "2^-5"),
        ("(2^3)^4", "(2^3)^4"),
        ("2^(3^4)", "2^3^4"),
        ("(-x)^2", "(-x)^2"),
        ("-(x^2)", "-x^2"),
        ("-(-x)", "--x"),
        ("(-x)*y", "-x * y"),
        ("-(x*y)", "-(x * y)"),
        ("not (a and b)", "not (a and b)"),
        ("(not a) and b", "not a and b"),
        ("not (a<b)", "not a < b"),
        ("(a<b)==c", "(a < b) == c"),
        ("(x^T)^T", "x^T^T"),
        ("(a@b)^T", "(a @ b)^T"),
        ("x^( T )", "x^(T)"),
        ("xᵀ", "x^T"),
        ("q@k^T/sqrt( D )", "q @ k^T / sqrt(D)"),
        ("(a / sum[M](a)) @ v", "(a / sum[M](a)) @ v"),
        ("(q @ k^T) * g", "(q @ k^T) * g"),
        ("a * b @ c", "(a * b) @ c"),
        ("a / (b @ c)", "a / (b @ c)"),
        ("x[ N->M ][D->E]", "x[N -> M][D -> E]"),
        ("split[ N->Y,X ]( x, )", "split[N -> Y, X](x)"),
        ("softmax [M] (s,mask = c)", "softmax[M](s, mask=c)"),
    ],
)
def test_canonical_expression(written: str, canonical: str) -> None:
    read, diagnostics = parse_expression(Source("<test>", written))
    assert diagnostics == ()
    assert read is not None
    assert format_expression(read) == canonical


MESSY = '''\
# About the file.
attention  f( q[N,D] ,k[M , D],  )->[N,M] : # the header
  """
      Two lines
        of text.
  """
  # above
  a=q@k^T   # behind

  b = exp(  # inside
     a )
  return b
  # closing
# next
attention g(x[]) -> [] complex:
\treturn x
# the end
'''

TIDY = '''\
# About the file.
attention f(q[N, D], k[M, D]) -> [N, M]:  # the header
    """
    Two lines
      of text.
    """
    # above
    a = q @ k^T  # behind

    # inside
    b = exp(a)
    return b
    # closing

# next
attention g(x[]) -> [] complex:
    return x

# the end
'''


def test_layout_keeps_comments_and_docstrings() -> None:
    assert tidy(MESSY) == TIDY
    assert tidy(TIDY) == TIDY


def test_long_lines_are_broken_and_read_back() -> None:
    inputs = ", ".join(f"input_number_{i}[N, D]" for i in range(9))
    value = " + ".join(f"softmax[M](input_number_{i} @ k_{i}^T / sqrt(D))" for i in range(9))
    text = f"attention f({inputs}) -> [N, D]:\n    a = {value}\n    return norm[D](relu({value}), eps=1e-6)^T\n"
    formatted = tidy(text)
    assert all(len(line) <= WIDTH for line in formatted.splitlines())
    assert parse(Source("<test>", formatted))[0] == parse(Source("<test>", text))[0]
    assert tidy(formatted) == formatted


def test_the_only_argument_of_a_call_needs_no_brackets_of_its_own() -> None:
    terms = [f"softmax[M](q_{i} @ k_{i}^T / sqrt(D))" for i in range(5)]
    formatted = tidy(f"attention f(q[N]) -> [N]:\n    return sum[M]({' * '.join(terms)})\n")
    first, *rest = terms
    lines = [f"        {first}", *(f"        * {term}" for term in rest)]
    assert formatted.splitlines()[1:] == ["    return sum[M](", *lines, "    )"]
    assert tidy(formatted) == formatted
