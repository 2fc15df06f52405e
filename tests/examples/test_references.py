"""The references themselves: against each other where a paper says that two formulas agree, and against torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .cases import normal
from .references import attnzero, linear, masked, mixing, softmax
from .references.common import attend, causal, masked_softmax


@pytest.fixture
def qkv() -> tuple[Tensor, Tensor, Tensor]:
    return normal((2, 3, 7, 4)), normal((2, 3, 7, 4)), normal((2, 3, 7, 5))


def _same(left: Tensor, right: Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-12)


def test_masked_softmax_is_torch_softmax_of_masked_scores() -> None:
    scores, visible = normal((3, 5)), torch.rand(3, 5) < 0.5
    visible[:, 0] = True
    _same(masked_softmax(scores, visible), torch.softmax(scores.masked_fill(~visible, -torch.inf), -1))


def test_attend_is_torch_attention(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    _same(attend(*qkv), scaled_dot_product_attention(*qkv))
    _same(attend(*qkv, causal(7)), scaled_dot_product_attention(*qkv, is_causal=True))
    _same(softmax.lean_attention(*qkv), scaled_dot_product_attention(*qkv))


def test_parts_merge_to_the_whole(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    q, k, v = qkv
    scores = q @ k.mT / 2
    parts = [slice(0, 3), slice(3, 7)]
    lse = [scores[..., part].logsumexp(-1) for part in parts]
    outs = [attend(q, k[..., part, :], v[..., part, :]) for part in parts]
    _same(softmax.merge_lse(outs[0], lse[0], outs[1], lse[1]), attend(q, k, v))
    sums = [(s.amax(-1), (s - s.amax(-1, keepdim=True)).exp()) for s in (scores[..., part] for part in parts)]
    (m1, e1), (m2, e2) = sums
    total = softmax.softmax_merge(m1, e1.sum(-1), e1 @ v[..., :3, :], m2, e2.sum(-1), e2 @ v[..., 3:, :])
    ones = torch.ones_like(v[..., :1])
    weight = softmax.softmax_merge(m1, e1.sum(-1), e1 @ ones[..., :3, :], m2, e2.sum(-1), e2 @ ones[..., 3:, :])
    _same(total / weight, attend(q, k, v))


def test_forms_that_reduce_to_softmax_attention(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    q, k, v = qkv
    plain = attend(q, k, v)
    ones, zeros = torch.ones(3, 13, dtype=q.dtype), torch.zeros(3, 13, dtype=q.dtype)
    _same(softmax.clipped_softmax_attention(q, k, v, gamma=0.0, zeta=1.0), plain)
    _same(softmax.quadrature_attention(q, k, v, torch.full((7,), 0.3, dtype=q.dtype)), plain)
    _same(softmax.urpe_attention(q, k, v, c_table=ones, b_table=zeros), plain)
    _same(softmax.gqa_attention(q, k, v, torch.ones(7, 7, dtype=torch.bool)), plain)
    _same(softmax.attention_3pass(q / 2, k, v), plain)
    _same(masked.dina_1d(q, k, v, rpb=zeros, window=7), plain)
    _same(masked.swin_window(q, k, v, W=7), plain)


def test_windows_as_masks(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    n = torch.arange(7)
    apart = n[:, None] - n
    _same(masked.sliding_window_attention(*qkv, left=2), attend(*qkv, (apart >= 0) & (apart <= 2)))
    _same(masked.swin_window(*qkv, W=3), attend(*qkv, n[:, None] // 3 == n // 3))


def test_decay_of_one_is_plain_causal_linear_attention(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    q, k, v = qkv
    plain = torch.tril(q @ k.mT) @ v
    _same(linear.pavlovian_attention_causal(q, k, v), plain)
    _same(linear.lightning_attention(q, k, v, torch.zeros(3, dtype=q.dtype)), plain)


def test_expansions_are_the_polynomials(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    q, k, v = qkv
    scores = q @ k.mT / 2
    weights = torch.tril(1 + scores + scores**2 / 2)
    _same(linear.taylor_attention(q, k, v), (weights @ v) / weights.sum(-1, keepdim=True))
    squares = (q @ k.mT) ** 2
    _same(linear.polynomial_attention(q, k, v), (squares @ v) / (1 + squares.sum(-1, keepdim=True)))


def test_random_features_estimate_the_exponential() -> None:
    torch.manual_seed(0)
    q, k = normal((4, 3)) / 2, normal((5, 3)) / 2
    omega = normal((400_000, 3))
    estimate = linear.prf(q, omega=omega) @ linear.prf(k, omega=omega).mT
    torch.testing.assert_close(estimate, torch.exp(q @ k.mT), rtol=0.03, atol=0.0)


def test_convolutions_as_sums() -> None:
    y, kernel, x, h = normal((2, 7)), normal((2, 7)), normal((7, 2)), normal((7, 2))
    around = torch.stack([kernel[:, [(n - m) % 7 for m in range(7)]] for n in range(7)], -2)
    _same(mixing.circular_conv(y, kernel), torch.einsum("cnm,cm->cn", around, y))
    before = torch.stack([(h[: n + 1].flip(0) * x[: n + 1]).sum(0) for n in range(7)])
    _same(mixing.unified_token_mixing_conv(x, h=h), before)


def test_state_space_model_forgets_nothing_at_rate_zero() -> None:
    u, delta, b, c = normal((6, 2)), torch.rand(6, 2, dtype=torch.float64), normal((6, 3)), normal((6, 3))
    zero = torch.zeros(2, 3, dtype=torch.float64)
    held = torch.cumsum((delta * u)[..., None] * b[:, None, :], 0)
    expected = (held * c[:, None, :]).sum(-1)
    _same(linear.selective_ssm(u, delta, b, c, a=zero, d=torch.zeros(2, dtype=torch.float64)), expected)


@pytest.mark.parametrize("name", attnzero.CONFIGS)
@pytest.mark.parametrize("shape", [(4, 2, 7, 3), (1, 3, 5, 8)])
def test_attnzero_mathematics_is_the_released_graph(name: str, shape: tuple[int, ...]) -> None:
    q, k, v = normal(shape), normal(shape), normal(shape)
    expected = getattr(attnzero, name)(q, k, v)
    torch.testing.assert_close(
        attnzero.run_config(attnzero.CONFIGS[name], q, k, v).reshape(shape), expected, rtol=1e-10, atol=1e-11
    )


def test_attnzero_sampled_statistics_cancel() -> None:
    """Trial 105 without min-max scaling, standard deviation and inner norm: they only scale what is normalised."""
    q, k, v = normal((4, 2, 7, 3)), normal((4, 2, 7, 3)), normal((4, 2, 7, 3))
    keys = torch.nn.functional.elu(k) + 1
    p = v.mT @ keys - v.min() * keys.sum(-2, keepdim=True)
    mixed = q @ (p - p.mean())
    _same(attnzero.attnzero_105(q, k, v), q * mixed / mixed.norm(dim=-1, keepdim=True))
