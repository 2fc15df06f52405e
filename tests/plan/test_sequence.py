"""Which axes growth is counted in where no `sequence` line says so."""

from __future__ import annotations

import pytest

import attngraph


@pytest.mark.parametrize(
    ("inputs", "lines", "result", "counted"),
    [
        ("q[N, D], k[M, D], v[M, E]", "return softmax[M](q @ k^T) @ v", "[N, E]", ("N", "M")),
        ("q[H, N, D], k[H, M, D], g[H, N]", "where M = N; return q * g * sum[M](k)", "[H, N, D]", ("N", "M")),
        ("g[H, N], q[H, N, D], k[H, M, D]", "where M = N; return q * g * sum[M](k)", "[H, N, D]", ("N", "M")),
        ("q[B, H, N, D], g[B, N], f[H, N]", "where M = N; return q * g * f[N -> M][M -> N]", "[B, H, N, D]", ("N",)),
        ("q[H, N, D], g[H, N]",
         "scan N:; state S[H, D] = 0; S = g * S + q; yield y = S; return y", "[H, N, D]", ("N",)),
        # tokens in front of heads, and what may be that: more is counted, never less
        ("q[N, H, D], k[M, H, D], g[N, H]", "where M = N; return q * g * sum[M](k)", "[N, H, D]", ("H", "N")),
        ("q[H, N, D], g[H, N]", "return q * g", "[H, N, D]", ("N", "H")),
        ("s[N, M], v[M, D]", "where M = N; return s @ v", "[N, D]", ("N", "M")),
        ("q[N, D], b[N, M], v[M, D]", "where M = N; return q * sum[M](b * v)", "[N, D]", ("N", "M")),
        ("g[H, N]", "return g", "[H, N]", ("H",)),
    ],
)
def test_by_default(inputs: str, lines: str, result: str, counted: tuple[str, ...]) -> None:
    body, inside = "", False
    for line in lines.split("; "):
        inside = inside and not line.startswith("return")
        body += f"    {'    ' * inside}{line}\n"
        inside = inside or line.endswith(":")
    report = attngraph.check(f"attention f({inputs}) -> {result}:\n{body}")
    assert report.formula is not None, [d.message for d in report.diagnostics]
    assert report.formula.sequence == counted


def test_gates_of_heads_are_no_sequence() -> None:
    """The multi-head gated sum is causal and linear and has a step, without a line that says what is counted."""
    text = """attention gated(q[H, N, D], k[H, M, D], v[H, M, E], g[H, N]) -> [H, N, E]:
    where M = N
    require causal, linear, state O(H * D * E)
    c = cumsum[N](logsigmoid(g))
    return where(pos(N) >= pos(M), (q @ k^T) * exp(c - c[N -> M]), 0) @ v
"""
    report = attngraph.check(text)
    assert all(verdict.holds for verdict in report.verdicts)
    assert hasattr(attngraph.compile(text), "step")
