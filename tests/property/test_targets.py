"""Every target computes what eager computes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from attngraph.compiler.targets.inductor import Inductor

from .attention import attentions
from .draft import Draft, Sample, assert_close, is_finite, read
from .programs import programs, scans

drafts = st.one_of(programs(most=6), scans(), attentions(long=True), attentions())


def _uniform(draft: Draft, batch: tuple[int, ...]) -> Sample:
    """The same call with one batch for every input."""
    return read(Draft(draft.text, draft.sizes, dict.fromkeys(draft.batches, batch), draft.seed))


@settings(max_examples=40)
@given(drafts)
def test_torchscript(draft: Draft) -> None:
    sample = read(draft)
    expected = sample.values(sample.module(sample.plan))
    assume(is_finite(expected))
    assert_close(sample.values(sample.module(sample.plan, "torchscript")), expected)


@settings(max_examples=6)
@given(drafts)
def test_traced_by_dynamo(draft: Draft) -> None:
    """torch.compile without graph breaks; inductor itself is slow, and takes what dynamo gives it."""
    sample = _uniform(draft, (2,))
    module = sample.module(sample.plan)
    expected = sample.values(module)
    assume(is_finite(expected))
    torch.compiler.reset()
    traced = Inductor("aot_eager").build(module, None)  # type: ignore[arg-type]
    assert_close(sample.values(traced), expected)


@settings(max_examples=5)
@given(st.one_of(attentions(long=True), attentions()))
def test_exported(draft: Draft) -> None:
    """torch.export, called with sizes other than those of its example, 1 and less than a block included."""
    sample = _uniform(draft, (2,))
    expected = sample.values(sample.module(sample.plan))
    assume(is_finite(expected))
    assert_close(sample.values(sample.module(sample.plan, "export")), expected)


@pytest.mark.slow
# each example compiles for seconds: a failing one is not made smaller
@settings(max_examples=2, suppress_health_check=[HealthCheck.too_slow], phases=[Phase.explicit, Phase.generate])
@given(attentions(tied=True))
def test_inductor(draft: Draft) -> None:
    sample = _uniform(draft, (2,))
    expected = sample.values(sample.module(sample.plan))
    assume(is_finite(expected))
    torch.compiler.reset()
    assert_close(sample.values(sample.module(sample.plan, "inductor")), expected)
