"""What is wrong with the published formulas of AttnZero (Li et al., ECCV 2024): `explain` says it of each."""

from __future__ import annotations

import pytest
import torch

from attngraph.compiler.forms import account
from attngraph.description import describe

from .probes import call, example

MIXES = "the entries of the batch axis `B` depend on each other"
COUNTS = "the result depends on how many entries the batch axis `B` has"
ALONE = "no token mixing"
STATISTICS = "tokens meet only in statistics"
NAMES_ONLY = "by name only where the two are as long"


def unused(name: str, *inputs: str) -> tuple[str, ...]:
    return tuple(f"`{name}` does not use its input `{each}`" for each in inputs)


#: What must be said of each, and what must not.
FAULTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "attnzero_105": ((MIXES,), (COUNTS, ALONE)),
    "attnzero_140": ((NAMES_ONLY,), (MIXES, COUNTS, ALONE)),
    "attnzero_174": ((*unused("attnzero_174", "k"), STATISTICS), (MIXES, COUNTS)),
    "attnzero_20": ((ALONE,), (MIXES, COUNTS)),
    "attnzero_228": ((ALONE,), (MIXES, COUNTS)),
    "attnzero_240": ((NAMES_ONLY,), (MIXES, COUNTS, ALONE)),
    "attnzero_25": ((ALONE, "no gradient reaches `k`"), (MIXES, COUNTS)),
    "attnzero_272": ((NAMES_ONLY, "no gradient reaches `k`"), (MIXES, COUNTS, ALONE)),
    "attnzero_34": ((MIXES, STATISTICS), (COUNTS,)),
    "attnzero_40": ((ALONE, *unused("attnzero_40", "k", "v")), (MIXES, COUNTS)),
    "attnzero_76": ((ALONE, COUNTS, *unused("attnzero_76", "k", "v")), (MIXES,)),
    "attnzero_80": ((ALONE, *unused("attnzero_80", "q", "k")), (MIXES, COUNTS)),
    "attnzero_bench_pvt_c100": ((ALONE, COUNTS, *unused("attnzero_bench_pvt_c100", "k", "v")), (MIXES,)),
    "attnzero_bench_pvt_v2_c100": ((STATISTICS, "the denominator `sum[D](u)` can be 0"), (MIXES, COUNTS)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_wrong_is_said(name: str) -> None:
    shown = " ".join(describe(example(name)).split())
    said, unsaid = FAULTS[name]
    assert [words for words in said if words not in shown] == []
    assert [words for words in unsaid if words in shown] == []


@pytest.mark.parametrize("name", FAULTS)
def test_it_is_true(name: str) -> None:
    """Other samples, another batch size, other tokens: what moves is what is said to move."""
    said = (*FAULTS[name][0],)
    given = call(name, 1)
    inputs = [x.detach() for x in given.inputs]  # [B, H, N, D]
    with torch.no_grad():
        whole = given.module(*inputs)
        others = given.module(*(torch.cat([x[:1], x[1:] + 1]) for x in inputs))
        doubled = given.module(*(torch.cat([x, x]) for x in inputs))[: len(whole)]
        tokens = given.module(*(torch.cat([x[..., :1, :], x[..., 1:, :] + 1], dim=-2) for x in inputs))
    assert bool((whole[:1] - others[:1]).abs().max() > 1e-9) is (MIXES in said)
    if MIXES not in said:
        assert bool((whole - doubled).abs().max() > 1e-9) is (COUNTS in said)
    assert bool((whole[..., :1, :] - tokens[..., :1, :]).abs().max() > 1e-9) is (ALONE not in said)


def test_ordinary_attention_is_not_accused() -> None:
    shown = describe(example("softmax_attention"))
    assert not any(words in shown for words in (MIXES, COUNTS, ALONE, STATISTICS, "no gradient"))
    found = account(example("softmax_attention"))
    assert found is not None
    assert found.mixing
