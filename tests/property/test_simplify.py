"""Simplified formulas compute the same."""

from __future__ import annotations

import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import attngraph

from .attention import attentions
from .draft import Draft, assert_close, is_finite, read
from .programs import programs, scans

MASK_AS_A_FACTOR = Draft(
    "attention f(q[N, D], i[N] int) -> [N, D]:\n    m = q > 0\n    x = q * m\n    return x + i\n", {"N": 3, "D": 2}
)


@settings(max_examples=120)
@example(MASK_AS_A_FACTOR)
@given(st.one_of(programs(), scans(), attentions()))
def test_a_simplified_formula_computes_the_same(draft: Draft) -> None:
    simple = Draft(attngraph.simplify(draft.text).text, draft.sizes, draft.batches, draft.seed)
    samples = [read(each) for each in (draft, simple)]
    expected, found = (sample.values(sample.module(sample.formula.graph)) for sample in samples)
    assume(is_finite(expected))
    for mine, theirs in zip(found, expected, strict=True):
        # an input that cancels takes its batch dimensions along
        shape = torch.broadcast_shapes(mine.shape, theirs.shape)  # type: ignore[no-untyped-call]
        assert_close((mine.expand(shape),), (theirs.expand(shape),))


@settings(max_examples=40)
@given(st.one_of(programs(most=5), scans(), attentions()))
def test_a_formula_never_differs_from_its_simplified_form(draft: Draft) -> None:
    simple = attngraph.simplify(draft.text).text
    assert attngraph.equivalent(draft.text, simple).verdict.name != "DIFFERENT"
