"""Softmax attention beside a sink: sinks that are infinite, rows without keys, half precision, and targets."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import attngraph
from attngraph.compiler.lowerings.kernels import softmax_beside

from .formulas import formula

HEADS = "q[G, R, N, D], k[G, M, D], v[G, M, E], b[G, R]"
TIED = ("where M = N", "sequence N, M")
SEEN = {
    "all": "",
    "causal": ", mask=pos(N) >= pos(M)",
    "strict": ", mask=pos(N) > pos(M)",
    "window": ", mask=pos(N) > pos(M) and pos(N) - pos(M) < 3",
}


def _module(seen: str, target: str = "eager", scores: str = "q @ k^T / sqrt(D)") -> nn.Module:
    line = f"return softmax[M]({scores}{SEEN[seen]}, sink=b) @ v"
    return attngraph.compile(formula("f", HEADS, *TIED, line, result="[G, R, N, E]"), target=target)


def _inputs(length: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    shapes = ((2, 3, 2, length, 4), (2, 3, length, 4), (2, 3, length, 5), (3, 2))
    return [torch.randn(shape, generator=random, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]


def _reference(seen: str, q: Tensor, k: Tensor, v: Tensor, b: Tensor) -> Tensor:
    """The weights of a softmax over one more score, which is dropped."""
    lag = torch.arange(q.size(-2)).unsqueeze(-1) - torch.arange(q.size(-2))
    shown = {"all": lag < q.size(-2), "causal": lag >= 0, "strict": lag > 0, "window": (lag > 0) & (lag < 3)}[seen]
    score = (q @ k.unsqueeze(-3).mT / 2).masked_fill(~shown, -float("inf"))
    more = b.unsqueeze(-1).unsqueeze(-1).expand((*score.shape[:-1], 1))
    return torch.softmax(torch.cat([score, more], -1), -1)[..., :-1] @ v.unsqueeze(-3)


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("length", [1, 2, 7, 131])
def test_values_and_gradients(seen: str, length: int) -> None:
    inputs = _inputs(length)
    actual, expected = _module(seen)(*inputs), _reference(seen, *inputs)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)
    cotangent = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad(out, inputs, cotangent) for out in (actual, expected))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scores", ["q @ k^T / sqrt(D)", "tanh(q @ k^T / sqrt(D))"])
@pytest.mark.parametrize("seen", SEEN)
def test_infinite_sinks(seen: str, scores: str) -> None:
    """One that is -inf takes no share, and one that is inf all of it; no gradient is lost."""
    *inputs, _ = _inputs(9)
    module = _module(seen, scores=scores)
    small, none, whole = (
        module(*inputs, torch.full((3, 2), value, dtype=torch.float64, requires_grad=True))
        for value in (-700.0, -float("inf"), float("inf"))
    )
    torch.testing.assert_close(none, small, rtol=0, atol=1e-12)
    assert whole.abs().max() == 0
    for out in (none, whole):
        assert all(x.isfinite().all() for x in torch.autograd.grad(out.sum(), inputs, retain_graph=True))


def test_the_share_of_a_sink_is_lost_in_no_row() -> None:
    """Scores and sinks of hundreds: the largest is subtracted, whichever it is."""
    score = torch.tensor([[900.0, 899.0], [-900.0, -900.0], [-float("inf"), -float("inf")]], requires_grad=True)
    sink = torch.tensor([[900.0], [-899.0], [-float("inf")]], requires_grad=True)
    weight = softmax_beside(score, sink, [-1])
    e = torch.e
    expected = torch.tensor([[1 / (2 + 1 / e), 1 / (2 * e + 1)], [1 / (2 + e), 1 / (2 + e)], [0.0, 0.0]])
    torch.testing.assert_close(weight, expected)
    assert all(x.isfinite().all() for x in torch.autograd.grad(weight.square().sum(), [score, sink]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("seen", ["causal", "window"])
def test_half_precision(seen: str, dtype: torch.dtype) -> None:
    inputs = _inputs(67, dtype)
    expected = _reference(seen, *(x.double() for x in inputs))
    actual = _module(seen)(*inputs)
    assert actual.dtype == dtype
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=0.03 if dtype == torch.bfloat16 else 0.004)


@pytest.mark.parametrize(
    ("seen", "target"), [("causal", "torchscript"), ("window", "torchscript"), ("causal", "export")]
)
def test_targets_take_any_length(seen: str, target: str) -> None:
    module = _module(seen, target)
    for length in (9, 5, 70):
        inputs = [x.detach() for x in _inputs(length, torch.float32)]
        torch.testing.assert_close(module(*inputs), _reference(seen, *inputs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("lengths", [[1] * 9, [4, 1, 1, 3], [1, 8]])
@pytest.mark.parametrize("seen", ["causal", "strict", "window"])
def test_steps(seen: str, lengths: list[int]) -> None:
    q, k, v, b = (x.detach() for x in _inputs(9))
    module = _module(seen)
    state, parts = module.init_state(), []
    for some_q, some_k, some_v in zip(*(x.split(lengths, -2) for x in (q, k, v)), strict=True):
        out, state = module.step(state, some_q, some_k, some_v, b)
        parts.append(out)
    torch.testing.assert_close(torch.cat(parts, -2), _reference(seen, q, k, v, b), rtol=0, atol=1e-10)


def test_beside_a_softmax_over_the_other_axis() -> None:
    """Both divisors are sums of the same exponentials: with each softmax recognised, no score is too large."""
    line = "return sum[M](e * (e / (1 + sum[N](e)))) / sum[M](e)"
    text = formula("f", "q[N, D], k[M, D]", "e = exp(q @ k^T)", line, result="[N]")
    module, written = attngraph.compile(text).double(), attngraph.compile(text, form="dense").double()
    q, k = torch.randn(5, 3, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)
    torch.testing.assert_close(module(q, k), written(q, k))
    assert not written(q * 1e4, k).isfinite().all()
    assert module(q * 1e4, k).isfinite().all()
    assert [each.code for each in attngraph.check(text).diagnostics] == []
