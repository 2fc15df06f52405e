"""Formulas that between them use every part of a generated module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attngraph
from attngraph.compiler.emit import Generated, emit
from attngraph.compiler.formula import Formula
from attngraph.compiler.graph import Graph
from attngraph.compiler.loader import load_class
from attngraph.compiler.module import compile as build

SOFTMAX = '''attention softmax_attention(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    """Vaswani et al., Attention Is All You Need, NeurIPS 2017."""
    return softmax[M](q @ k^T / sqrt(D)) @ v
'''
LINEAR = '''attention linear_attention(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    """Katharopoulos et al., Transformers are RNNs, ICML 2020."""
    phi(x) = elu(x) + 1
    a = phi(q) @ phi(k)^T
    return (a / sum[M](a)) @ v
'''
RETENTION = '''attention retention(q[H, N, D], k[H, M, D], v[H, M, E]) -> [H, N, E]:
    """Sun et al., Retentive Network, 2023."""
    where M = N
    gamma = 1 - 2^(-5 - pos(H))
    lag = pos(N) - pos(M)
    return ((q @ k^T) * where(lag >= 0, gamma^lag, 0)) @ v
'''
WINDOW = '''attention swin_window(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    """Windows of W tokens. Liu et al., Swin Transformer, ICCV 2021."""
    where M = N
    const W = 49
    same = pos(N) // W == pos(M) // W
    return softmax[M](where(same, q @ k^T / sqrt(D), -inf)) @ v
'''
ROTATED = '''attention rotated(x[N, C]) -> [N, C]:
    """A projection, split into heads and rotated: parameters, a buffer, constants, log of a size."""
    where C = H * D, C2 = C
    const base = 100.0
    param w[C, C2], b[C2] = zeros, scale[H] = 1 / sqrt(D)
    buffer shift[D] = pos(D) / D
    frequency = base^(-pos(D) / D)
    h = split[C2 -> H, D](x @ w + b)
    return merge[H, D -> C](h * scale * cos(frequency * pos(N)) * log(N) + shift)
'''
GROUPED = '''attention grouped(q[H, N, D], k[G, M, D], v[G, M, E]) -> [H, N, E]:
    """Heads in groups that share keys. Ainslie et al., GQA, EMNLP 2023."""
    where H = G * R
    s = softmax[M](sum[D](split[H -> G, R](q) * k) / sqrt(D))
    return merge[G, R -> H](sum[M](s * v))
'''
CAUSAL = '''attention causal_linear(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    """Positive features under a causal mask: a scan over chunks."""
    where M = N
    a = where(pos(N) >= pos(M), exp(q) @ exp(k)^T, 0)
    return (a / sum[M](a)) @ v
'''
KINDS = '''attention kinds(q[N, D], k[M, D], see[N, M] bool, doc[N] int, at[M] int) -> [N, M], [N] int:
    """Every kind of input, and two results."""
    same = doc == at
    s = where(see and same, q @ k^T, 0)
    return s, doc + 1
'''
TEXTS = {
    "softmax_attention": SOFTMAX,
    "linear_attention": LINEAR,
    "retention": RETENTION,
    "swin_window": WINDOW,
    "rotated": ROTATED,
    "grouped": GROUPED,
    "kinds": KINDS,
}
SIZES: Mapping[str, Mapping[str, int]] = {"rotated": {"H": 3, "C": 12}}


def typed(text: str) -> tuple[Formula, Graph]:
    """The formula and its plan."""
    report = attngraph.check(attngraph.parse(text))
    assert report.ok, [diagnostic.message for diagnostic in report.diagnostics]
    assert report.formula is not None
    assert report.plan is not None
    return report.formula, report.plan


def written(text: str) -> Generated:
    """The module of the formula as written."""
    formula, _ = typed(text)
    return emit(formula, formula.graph)


def module(text: str, *arguments: int | float, **named: object) -> Any:
    """An instance of the formula as written, made by its constructor."""
    return load_class(written(text))(*arguments, **named)


def compiled(text: str, **options: object) -> Any:
    """The planned formula on a target."""
    formula, plan = typed(text)
    options.setdefault("sizes", SIZES.get(formula.name, {}))
    return build(formula, plan, **options)  # type: ignore[arg-type]
