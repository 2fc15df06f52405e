"""What is judged causal is causal: later positions never change earlier results."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

from attngraph.compiler.pipeline import check_source
from attngraph.grammar.source import Source

from .attention import attentions
from .draft import Draft, read

# Conditions over queries n and keys m, most of them not causal.
CONDITIONS = (
    "pos(N) >= pos(M)",
    "pos(N) > pos(M)",
    "pos(N) + 1 > pos(M)",
    "pos(N) + 1 >= pos(M)",
    "pos(N) >= pos(M) - 1",
    "pos(N) - 1 >= pos(M)",
    "pos(M) <= pos(N)",
    "pos(M) >= pos(N)",
    "not pos(M) > pos(N)",
    "not pos(M) >= pos(N)",
    "not pos(N) >= pos(M)",
    "pos(N) - pos(M) >= 0",
    "pos(N) - pos(M) >= -1",
    "pos(M) - pos(N) <= 0",
    "pos(M) - pos(N) < 1",
    "pos(M) - pos(N) <= 1",
    "0 <= pos(N) - pos(M)",
    "2 * pos(N) >= 2 * pos(M)",
    "2 * pos(N) >= pos(M)",
    "pos(N) >= 2 * pos(M)",
    "pos(N) / 2 >= pos(M) / 2",
    "pos(N) // 2 >= pos(M) // 2",
    "pos(N) // 2 > pos(M) // 2",
    "pos(N) == pos(M)",
    "pos(N) // 3 == pos(M) // 3",
    "abs(pos(N) - pos(M)) <= 1",
    "pos(N) != pos(M)",
    "pos(N) >= pos(M) and pos(N) < pos(M) + 3",
    "pos(N) >= pos(M) or pos(M) == 0",
    "pos(N) >= pos(M) or pos(N) > pos(M)",
    "pos(N) < 2 and pos(N) >= pos(M)",
    "c and pos(N) >= pos(M)",
    "N - pos(M) > N - pos(N) - 1",
    "-pos(N) <= -pos(M)",
    "max(pos(N), 1) >= pos(M)",
    "min(pos(N), 2) >= pos(M)",
    "where(pos(N) > 2, pos(N) >= pos(M), pos(N) > pos(M))",
)

# What is done with a mask. `{c}` is the mask, s the scores; most of these let later positions in for some masks.
USES = (
    "sum[M](where({c}, s, 0) * v)",
    "sum[M](softmax[M](where({c}, s, -inf)) * v)",
    "sum[M](softmax[M](s, mask={c}) * v)",
    "sum[M](softmax[M](where({c}, s, -inf), mask=pos(N) >= pos(M)) * v)",
    "sum[M]((where({c}, 1, 0) * s) * v)",
    "sum[M](s * {c} * v)",
    "sum[M](where({c}, s, 0) / (sum[M](where({c}, s^2, 0)) + 1) * v)",
    "sum[M](where({c}, s, 0) / (sum[M](s^2) + 1) * v)",
    "sum[M](softmax[M](s) * where({c}, 1, 0) * v)",
    "sum[M](where({c}, softmax[M](s), 0) * v)",
    "sum[M](softmax[M](where({c}, s, -20)) * v)",
    "sum[M](where({c}, s, 1) * v)",
    "sum[M](where({c}, 0, s) * v)",
    "sum[M](where(not {c}, 0, s) * v)",
    "sum[M](exp(where(not {c}, -inf, s)) * v)",
    "sum[M](exp(where({c}, -inf, s)) * v)",
    "mean[M](where({c}, s, 0) * v)",
    "sum[M](cumsum[M](where({c}, s, 0)) * v)",
    "sum[M](cumsum[N](where({c}, s, 0)) * v)",
    "sum[M](where({c}, s, 0)^2 * v)",
    "sum[M](where({c}, s, 0)^0 * v)",
    "sum[M](abs(where({c}, s, 0)) * v)",
    "sum[M](exp(where({c}, s, 0)) * v)",
    "sum[M](relu(where({c}, s, -inf)) * v)",
    "sum[M](exp(where({c}, s, -inf)) * v)",
    "sum[M](sigmoid(where({c}, s, -inf)) * v)",
    "sum[M](exp(where({c}, s, -inf) + f) * v)",
    "sum[M](exp(f - where({c}, s, inf)) * v)",
    "sum[M](exp(where({c}, s, -inf) + where(f > 0, inf, 0)) * v)",
    "sum[M](exp(where({c}, s, -inf) - where(f > 0, -inf, 0)) * v)",
    "sum[M](exp(where({c}, s, -inf) + where(f > 0, 0, -inf)) * v)",
    "sum[M](exp(where({c}, s, -inf) - max[M](where({c}, s, -inf))) * v)",
    "sum[M](exp(where({c}, s, -inf) - max[M](s)) * v)",
    "sum[M](exp(where({c}, s, -inf) - logsumexp[M](where({c}, s, -inf))) * v)",
    "sum[M](exp(where({c}, s, -inf) + cumsum[M](f)) * v)",
    "sum[M](exp(where({c}, s, -inf) * 2) * v)",
    "sum[M](exp(where({c}, s, -inf) * f) * v)",
    "sum[M](exp(log_softmax[M](where({c}, s, -inf))) * v)",
    "sum[M](exp(log_softmax[M](s) + where({c}, 0, -inf)) * v)",
    "sum[M](log_softmax[M](where({c}, s, -inf)) * v)",
    "sum[M](softmax[M](s + where({c}, 0, -inf)) * v)",
    "sum[M](softmax[M](s + where({c}, f, -inf), mask=f > 0) * v)",
    "sum[M](softmax[M](s - where({c}, 0, inf)) * v)",
    "sum[M](exp(s - max[M](where({c}, s, -inf))) * where({c}, 1, 0) * v)",
    "sum[M](max(where({c}, s, 0), -1) * v)",
    "sum[M](-where({c}, s, 0) / (1 + abs(s)) * v)",
    "sum[M](where({c}, s, 0) * cumsum[M](v))",
    "sum[M](where({c}, s, 0) * shift[M](v, by=1))",
    "sum[M](where({c}, s, 0) * shift[M](v, by=-1))",
    "sum[M](where({c}, s, 0) * shift[M](v, by=0))",
    "sum[M](where({c}, s, 0) * roll[M](v, by=1))",
    "sum[M](where({c}, s, 0) * softmax[M](v))",
    "sum[M](where({c}, s, 0) * layer_norm[E](v))",
    "sum[M](where({c}, s, 0) * sort[M](v))",
    "sum[M](where({c}, s, 0) * cummax[M](v))",
    "max[M](where({c}, s, -inf)) * v[M -> N]",
    "logsumexp[M](where({c}, s, -inf)) * v[M -> N]",
    "prod[M](where({c}, s, 1)) * v[M -> N]",
    "prod[M](where({c}, s, 0)) * v[M -> N]",
    "min[M](where({c}, s, inf)) * v[M -> N]",
    "min[M](where({c}, s, -inf)) * v[M -> N]",
    "max[M](where({c}, s, -inf) + f) * v[M -> N]",
    "max[M](relu(where({c}, s, -inf))) * v[M -> N]",
    "where(all[M]({c} and s > 0), 1, 2) * v[M -> N]",
    "any[M]({c} and s > 0) * v[M -> N]",
    "sum[M](where({c}, s, 0) * v) / (1 + norm[N](q @ k^T @ v))",
    "sum[M](where({c}, s, 0) * v) + cumsum[N](v[M -> N])",
    "sum[M](where({c}, s, 0) * v) + shift[N](v[M -> N], by=2)",
    "sum[M](where({c}, s, 0) * v) + mean[W](windows[N -> N, W](v[M -> N], start=-2))",
    "sum[M](where({c}, s, 0) * v) + mean[W](windows[N -> N, W](v[M -> N], start=-1))",
    "sum[M](where({c}, s, 0) * v) + conv[N, W](v[M -> N], cos(pos(W)), start=-2)",
    "sum[M](where({c}, s, 0) * v) + cummax[N](v[M -> N])",
    "sum[M](where({c}, s, 0) * v) + pad_replicate[S -> N](slice[N -> S](v[M -> N]), before=1)",
    "sum[M](where({c}, s[M -> L][N -> M][L -> N], 0) * v)",
    "sum[M](where({c}, s, 0)[M -> L][N -> M][L -> N] * v)",
    "sum[N](where({c}, s, 0) * q)[M -> N]",
    "layer_norm[N](sum[M](where({c}, s, 0) * v))",
    "sum[M](where({c}, s, 0) * where(pos(M) > 0, v, take[M](v, 0)))",
    "sum[M](where({c}, s, 0) * where(pos(M) > 0, v, take[M](v, M - 1)))",
    "sum[M](where({c}, s, 0) * take[M](v, pos(M)))",
    "sum[M](segment_softmax[M](where({c}, s, -inf), pos(M) // 2) * v)",
    "sum[M](where(top[M](where({c}, s, -inf), count=1), s, 0) * v)",
)

SCORES = (
    "(q @ k^T)",
    "(q @ (cumsum[M](k))^T)",
    "(q @ (k * softmax[M](k))^T)",
    "(q @ k^T + shift[M](f, by=-1))",
    "(cumsum[N](q) @ k^T * exp(f))",
)


def _masked(condition: str, use: str, score: str, length: int = 5, seed: int = 0) -> Draft:
    """Attention with some mask, which may or may not keep later positions out."""
    text = "\n".join(
        [
            "attention f(q[N, D], k[M, D], v[M, D], f[M], c[M] bool) -> [N, D]:",
            "    where M = N, W = 3, N = S + 1",
            f"    s = {score}",
            f"    mask = {condition}",
            f"    return {use.format(c='mask')}",
            "",
        ]
    ).replace("E]", "D]")
    return Draft(text, {"N": length, "M": length, "D": 2}, {}, seed)


def _is_judged_causal(draft: Draft) -> bool:
    [report] = check_source(Source("<test>", draft.text), require=("causal",))
    assert report.formula is not None, [d.message for d in report.diagnostics]
    return all(verdict.holds for verdict in report.verdicts)


def _later_changes_nothing(draft: Draft) -> None:
    """Inputs behind a position do not change what stands before."""
    sample = read(draft)
    length = draft.sizes["N"]
    module = sample.module(sample.formula.graph)
    base = sample.values(module)
    generator = torch.Generator().manual_seed(draft.seed)
    for cut in range(1, length):
        changed = {}
        for node in sample.formula.inputs:
            value = sample.inputs[node.op.name].clone()  # type: ignore[attr-defined]
            axes = [axis for axis in node.axes if axis in ("N", "M")]
            for axis in axes:
                part = value.narrow(node.axes.index(axis) - len(node.axes), cut, length - cut)
                noise = torch.randn(part.shape, generator=generator, dtype=torch.float64)
                part.copy_(~part if part.dtype == torch.bool else part + noise)
            changed[node.op.name] = value  # type: ignore[attr-defined]
        found = module(**changed)
        for before, after, node in zip(
            base, found if isinstance(found, tuple) else (found,), sample.formula.graph.outputs, strict=True
        ):
            at = node.axes.index("N") - len(node.axes)
            assert torch.equal(*(torch.nan_to_num(x.narrow(at, 0, cut)) for x in (before, after))), cut


@pytest.mark.parametrize("use", USES)
def test_what_is_judged_causal_is_causal(use: str) -> None:
    for number, condition in enumerate(CONDITIONS):
        for score in SCORES if number < 3 else SCORES[:1]:
            draft = _masked(condition, use, score)
            if _is_judged_causal(draft):
                _later_changes_nothing(draft)


def test_plain_causal_attention_is_judged_causal() -> None:
    """The judgement is not sound by refusing everything."""
    judged = [c for c in CONDITIONS if _is_judged_causal(_masked(c, USES[0], SCORES[0]))]
    assert set(judged) >= {"pos(N) >= pos(M)", "pos(N) > pos(M)", "pos(N) - pos(M) >= 0", "c and pos(N) >= pos(M)"}
    assert not {"pos(N) + 1 >= pos(M)", "pos(M) >= pos(N)", "not pos(N) >= pos(M)", "pos(N) // 2 >= pos(M) // 2"} & set(
        judged
    )
    kept = [use for use in USES if _is_judged_causal(_masked(CONDITIONS[0], use, SCORES[0]))]
    assert len(kept) >= 12


@settings(max_examples=60)
@given(attentions(tied=True))
def test_causal_attention(draft: Draft) -> None:
    if "H" not in draft.sizes and _is_judged_causal(draft):
        _later_changes_nothing(draft)
