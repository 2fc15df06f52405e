"""The kernels, with a loop over chunks and at once, against loops over single positions."""

from __future__ import annotations

import inspect
import itertools
import math
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor

from attngraph.compiler.lowerings import at_once, kernels, polynomials, transitions
from attngraph.compiler.lowerings.halves import gate_values

LENGTHS = [1, 2, 15, 16, 17, 64, 65, 130]
_MORE = {k: v for k, v in {**vars(polynomials), **vars(transitions)}.items() if k not in vars(kernels)}
LOOPS = SimpleNamespace(**vars(kernels), **_MORE)
BOTH = pytest.mark.parametrize("library", [LOOPS, at_once], ids=["loop", "at_once"])
CHUNK = 16


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + len(shape)), dtype=torch.float64)


def _weighted(query: Tensor, key: Tensor, value: Tensor, weight: Tensor, offset: int, normalise: bool) -> Tensor:
    """Sums over earlier positions, one position at a time. weight: [..., N, N]."""
    rows = []
    for n in range(query.size(-2)):
        total = torch.zeros_like(query[..., 0, :1] * key[..., 0, :1] * value[..., 0, :1])
        row = torch.zeros_like(total * value[..., 0, :])
        for m in range(max(n - offset + 1, 0)):
            share = (query[..., n, :] * key[..., m, :]).sum(-1, keepdim=True) * weight[..., n, m].unsqueeze(-1)
            row, total = row + share * value[..., m, :], total + share
        rows.append(row / total if normalise else row)
    return torch.stack(rows, -2)


def _operands(length: int, positive: bool) -> tuple[Tensor, Tensor, Tensor]:
    query, key = _random(2, 3, length, 4), _random(2, 1, length, 4, seed=9)
    if positive:  # sums that are divided by must not vanish
        query, key = query.abs() + 0.1, key.abs() + 0.1
    return query, key, _random(3, length, 5)


MODES = pytest.mark.parametrize(("offset", "normalise"), [(0, False), (0, True), (1, False)])


@BOTH
@MODES
@pytest.mark.parametrize("length", LENGTHS)
def test_causal_scan(library: ModuleType, length: int, offset: int, normalise: bool) -> None:
    query, key, value = _operands(length, normalise)
    found = library.causal_scan(query, key, value, offset, normalise, CHUNK)
    expected = _weighted(query, key, value, torch.ones(length, length, dtype=torch.float64), offset, normalise)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@BOTH
@MODES
@pytest.mark.parametrize("length", LENGTHS)
def test_decayed_scan(library: ModuleType, length: int, offset: int, normalise: bool) -> None:
    query, key, value = _operands(length, normalise)
    rate = -torch.tensor([0.0, 0.1, 3.0], dtype=torch.float64)
    position = torch.arange(length)
    weight = torch.exp(rate[:, None, None] * (position[:, None] - position).clamp(min=0))
    found = library.decayed_scan(query, key, value, rate, offset, normalise, CHUNK)
    torch.testing.assert_close(found, _weighted(query, key, value, weight, offset, normalise), rtol=1e-11, atol=1e-11)


@BOTH
@MODES
@pytest.mark.parametrize("length", LENGTHS)
def test_gated_scan(library: ModuleType, length: int, offset: int, normalise: bool) -> None:
    query, key, value = _operands(length, normalise)
    gates = -_random(2, 3, length).abs()
    level = gates.cumsum(-1)
    weight = torch.exp((level[..., None] - level[..., None, :]).clamp(max=0))
    found = library.gated_scan(query, key, value, gates, None, offset, normalise, CHUNK)
    torch.testing.assert_close(found, _weighted(query, key, value, weight, offset, normalise), rtol=1e-11, atol=1e-11)


@BOTH
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("length", LENGTHS)
def test_gated_prefix(library: ModuleType, length: int, offset: int) -> None:
    value, gates = _random(2, length, 3), -_random(2, length, 3, seed=5).abs()
    level, rows = gates.cumsum(-2), []
    for n in range(length):
        row = torch.zeros_like(value[:, 0])
        for m in range(max(n - offset + 1, 0)):
            row = row + torch.exp(level[:, n] - level[:, m]) * value[:, m]
        rows.append(row)
    found = library.gated_prefix(value, gates, offset, CHUNK)
    torch.testing.assert_close(found, torch.stack(rows, -2), rtol=1e-11, atol=1e-11)


@BOTH
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("length", LENGTHS)
def test_feature_gated_scan(library: ModuleType, length: int, offset: int) -> None:
    """Leading dimensions of each operand are its own."""
    query, key, value = _operands(length, False)
    gates = -_random(5, 2, 1, length, 4, seed=5).abs()
    level = gates.cumsum(-2)
    rows = []
    for n in range(length):
        row = torch.zeros(5, 2, 3, 5, dtype=torch.float64)
        for m in range(max(n - offset + 1, 0)):
            share = (query[..., n, :] * key[..., m, :] * torch.exp(level[..., n, :] - level[..., m, :])).sum(-1)
            row = row + share.unsqueeze(-1) * value[..., m, :]
        rows.append(row)
    found = library.feature_gated_scan(query, key, value, torch.exp(gates), offset, CHUNK)
    torch.testing.assert_close(found, torch.stack(rows, -2), rtol=1e-11, atol=1e-11)


POWERS = pytest.mark.parametrize("powers", [[2], [0, 1, 2], [1, 3], [4]], ids=str)


def _polynomial(query: Tensor, key: Tensor, powers: list[int], coefficients: list[Tensor]) -> Tensor:
    """The weights of all pairs, a number per leading dimension times a power of each score."""
    score = (query.unsqueeze(-2) * key.unsqueeze(-3)).sum(-1)
    weight = torch.zeros_like(score)
    for power, coefficient in zip(powers, coefficients, strict=True):
        weight = weight + coefficient[..., None, None] * score**power
    return weight


# Few features are multiplied out in the longer of these sequences; many never.
@BOTH
@MODES
@POWERS
@pytest.mark.parametrize("features", [2, 6])
@pytest.mark.parametrize("length", [1, 16, 65, 150])
def test_polynomial_scan(
    library: ModuleType, length: int, features: int, powers: list[int], offset: int, normalise: bool
) -> None:
    query, key = _random(2, 3, length, features) / 2, _random(2, 1, length, features, seed=9) / 2
    if normalise:
        query, key = query.abs() + 0.1, key.abs() + 0.1
    value = _random(3, length, 5)
    coefficients = [_random(3).abs() if power else torch.tensor(0.7, dtype=torch.float64) for power in powers]
    weight = _polynomial(query, key, powers, coefficients).tril(-offset)
    expected = torch.matmul(weight, value)
    if normalise:
        expected = expected / weight.sum(-1, keepdim=True)
    found = library.polynomial_scan(query, key, value, coefficients, powers, offset, normalise, CHUNK)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@BOTH
@POWERS
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize(
    ("queries", "keys", "features"), [(1, 1, 2), (3, 200, 2), (40, 65, 6), (65, 40, 2), (150, 90, 2)]
)
def test_polynomial_sum(
    library: ModuleType, queries: int, keys: int, features: int, powers: list[int], normalise: bool
) -> None:
    query, key = _random(2, 3, queries, features).abs() / 2, _random(2, 1, keys, features, seed=9).abs() / 2
    value = _random(3, keys, 5)
    coefficients = [_random(3).abs() if power else torch.tensor(0.7, dtype=torch.float64) for power in powers]
    weight = _polynomial(query, key, powers, coefficients)
    expected = torch.matmul(weight, value)
    if normalise:
        expected = expected / weight.sum(-1, keepdim=True)
    found = library.polynomial_sum(query, key, value, coefficients, powers, normalise, CHUNK)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("size", "power"), [(1, 1), (1, 4), (5, 2), (4, 3), (3, 4)])
def test_ascending_choices(size: int, power: int) -> None:
    """Every choice once; what the orders add up to is every tuple of columns."""
    chosen, orders = polynomials.ascending_choices(size, power, torch.device("cpu"))
    expected = list(itertools.combinations_with_replacement(range(size), power))
    assert [tuple(column) for column in chosen.T.tolist()] == expected
    assert orders.tolist() == [len(set(itertools.permutations(choice))) for choice in expected]
    assert len(expected) == polynomials.count_of_choices(size, [power])


@pytest.mark.parametrize(("length", "scored"), [(20, True), (21, False)])
def test_short_sequences_are_scored(length: int, scored: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """4 columns have 10 products: N (D + E) <= 4 F E for D = E = 4 up to N = 20."""
    made: list[Tensor] = []
    monomials = polynomials.monomials
    monkeypatch.setattr(polynomials, "monomials", lambda *args: made.append(args[0]) or monomials(*args))
    ones = torch.ones(length, 4)
    found = polynomials.polynomial_scan(ones, ones, ones, [torch.ones(())], [2], 0, False, CHUNK)
    torch.testing.assert_close(found, 16.0 * torch.arange(1, length + 1).unsqueeze(-1).expand(-1, 4).float())
    assert (not made) is scored


@BOTH
@pytest.mark.parametrize("scale", [1.0, 400.0], ids=["mild", "steep"])
@pytest.mark.parametrize("length", LENGTHS)
def test_prefix_softmax(library: ModuleType, length: int, scale: float) -> None:
    score, value = _random(2, length) * scale, _random(2, length, 3)
    rows = [torch.softmax(score[:, : n + 1], -1)[:, None] @ value[:, : n + 1] for n in range(length)]
    found = library.prefix_softmax(score, value, CHUNK)
    torch.testing.assert_close(found, torch.cat(rows, -2), rtol=1e-11, atol=1e-11)


def _ramp(length: int, slope: float) -> Tensor:
    return torch.arange(length, dtype=torch.float64) * slope


RISES = {  # scores of which the running maximum rises in other ways
    "flat": lambda n: _ramp(n, 0.0),
    "slowly": lambda n: _ramp(n, 0.5),
    "fast": lambda n: _ramp(n, 9.0),
    "falls": lambda n: _ramp(n, -9.0),
    "jumps": lambda n: 200.0 * (_ramp(n, 1.0) // 70) + _random(n),
    "late": lambda n: torch.where(torch.arange(n) == n - 1, 300.0, _random(n)),
    "early": lambda n: torch.where(torch.arange(n) == 0, 300.0, _random(n)),
    "one_head": lambda n: torch.stack([_random(n), _ramp(n, 9.0)]),
}


@BOTH
@pytest.mark.parametrize("rise", RISES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_prefix_softmax_is_right_however_the_maximum_rises(library: ModuleType, rise: str, dtype: torch.dtype) -> None:
    """In single precision too: nothing that counts is lost below the largest score of a span."""
    length = 1300
    score = RISES[rise](length).float().double().requires_grad_()
    value = _random(length, 3).float().double().requires_grad_()
    later = torch.ones(length, length, dtype=torch.bool).triu(1)
    expected = torch.softmax(score.unsqueeze(-2).masked_fill(later, -math.inf), -1) @ value
    found = library.prefix_softmax(score.to(dtype), value.to(dtype), 64)
    bound = 1e-11 if dtype is torch.float64 else 2e-5
    torch.testing.assert_close(found.double(), expected, rtol=bound, atol=bound)
    weight = _random(*expected.shape, seed=7)
    wanted = torch.autograd.grad(expected, (score, value), weight)
    got = torch.autograd.grad(found, (score, value), weight.to(dtype))
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=10 * bound, atol=10 * bound)


def test_spans_are_whole_chunks_in_which_the_maximum_rises_little() -> None:
    rises = [5.0, 30.0, 30.0, 61.0, 1.0, math.nan, math.inf, 0.0, *[0.0] * 20]
    sizes = [8, 4, 4, 4, 4, 4, 64, 20]
    assert kernels.level_spans(rises, 4) == (sizes, [True, True, False, True, False, False, True, True])


@BOTH
@pytest.mark.parametrize(("before", "after"), [(0, 0), (5, 0), (0, 7), (9, -3), (100, 3), (1000, 0)])
@pytest.mark.parametrize("length", LENGTHS)
def test_banded_attention(library: ModuleType, length: int, before: int, after: int) -> None:
    query, key, value = _operands(length, False)
    rows = []
    for n in range(length):
        near = [m for m in range(length) if -after <= n - m <= before]
        score = 0.3 * (query[..., n : n + 1, :] @ key[..., near, :].mT)
        rows.append(torch.softmax(score, -1) @ value[..., near, :] if near else torch.zeros_like(_row(value, query)))
    found = library.banded_attention(query, key, value, before, after, 0.3)
    torch.testing.assert_close(found, torch.cat(rows, -2), rtol=1e-11, atol=1e-11)


def _row(value: Tensor, query: Tensor) -> Tensor:
    """A row of the shape of the result's."""
    return query[..., :1, :1] * value[..., :1, :]


@BOTH
@pytest.mark.parametrize("window", [1, 7, 64, 200])
@pytest.mark.parametrize("length", LENGTHS)
def test_windowed_attention(library: ModuleType, length: int, window: int) -> None:
    query, key, value = _operands(length, False)
    rows = []
    for n in range(length):
        near = [m for m in range(length) if m // window == n // window]
        score = 0.3 * (query[..., n : n + 1, :] @ key[..., near, :].mT)
        rows.append(torch.softmax(score, -1) @ value[..., near, :])
    found = library.windowed_attention(query, key, value, window, 0.3)
    torch.testing.assert_close(found, torch.cat(rows, -2), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (5, 5), (64, 64), (33, 97), (130, 130), (97, 33)])
def test_toeplitz_product(queries: int, keys: int, causal: bool) -> None:
    zero = 0 if causal else keys - 1
    table, value = _random(2, queries + zero), _random(3, 2, keys)
    rows = [[table[:, n - m + zero] * value[..., m] for m in range(keys) if n - m + zero >= 0] for n in range(queries)]
    expected = torch.stack([torch.stack(row).sum(0) for row in rows], -1)
    found = kernels.toeplitz_product(table, value, zero, queries)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@BOTH
def test_long_decays_neither_overflow_nor_underflow_to_nothing(library: ModuleType) -> None:
    """exp(level) of the first or last position alone would be infinite or 0 in float32."""
    length = 3000
    query, key, value = torch.ones(length, 1), torch.ones(length, 1), torch.ones(length, 1)
    gates = -torch.full((length,), 0.5)
    limit = 1 / (1 - math.exp(-0.5))
    for found in (
        library.gated_scan(query, key, value, gates, None, 0, False, 64),
        library.decayed_scan(query, key, value, torch.tensor(-0.5), 0, False, 64),
        library.gated_prefix(value, gates[:, None], 0, CHUNK),
        library.feature_gated_scan(query, key, value, torch.exp(gates[:, None]), 0, 64),
    ):
        torch.testing.assert_close(found[200:], torch.full((length - 200, 1), limit), rtol=1e-6, atol=0.0)


def _step_by_step(query: Tensor, key: Tensor, value: Tensor, gates: Tensor, feedback: bool) -> Tensor:
    """sums = exp(gate) sums + key (value + [feedback] query sums)^T; gates: [N] or, of every feature, [N, F]."""
    gates = gates.unsqueeze(-1) if gates.dim() == 1 else gates
    sums, rows = torch.zeros(key.size(-1), value.size(-1), dtype=value.dtype), []
    for n in range(value.size(0)):
        read = value[n] + query[n] @ sums
        sums = torch.exp(gates[n]).unsqueeze(-1) * sums
        sums = sums + key[n].unsqueeze(-1) * (read if feedback else value[n])
        rows.append(read if feedback else query[n] @ sums)
    return torch.stack(rows)


GATES = {  # logarithms of gates, [N]
    "strong then weak": lambda n: torch.where(torch.arange(n) < n // 2, -40.0, -1e-3),
    "some are 0": lambda n: torch.where(torch.arange(n) % 37 == 5, -math.inf, -0.1 * _random(n).abs()),
    "the first is 0": lambda n: torch.where(torch.arange(n) == 0, -math.inf, -0.05),
    "all are 0": lambda n: torch.full((n,), -math.inf),
    "all are 1": lambda n: torch.zeros(n),
}


@BOTH
@pytest.mark.parametrize("gates", GATES)
@pytest.mark.parametrize(
    "kernel", ["gated_scan", "gated_prefix", "feature_gated_scan", "causal_feedback", "feature_gated_feedback"]
)
def test_the_error_of_gates_does_not_grow_with_the_sequence(library: ModuleType, kernel: str, gates: str) -> None:
    """Single precision beside steps in double precision: a level of -40000 would leave no digit behind the point."""
    length, width = 2000, 3
    logarithms = GATES[gates](length).float().double()
    query, key, value = (_random(length, width, seed=i).float().double() / width for i in range(3))
    if kernel == "gated_prefix":
        logarithms = torch.stack([logarithms, logarithms.clamp(min=-2.0), torch.zeros(length)], -1)
        query, key = torch.ones(length, 1), torch.ones(length, 1)
        states, rows = torch.zeros(width, dtype=torch.float64), []
        for n in range(length):
            states = torch.exp(logarithms[n]) * states + value[n]
            rows.append(states)
        expected = torch.stack(rows)
    elif kernel == "feature_gated_scan":
        logarithms = torch.stack([logarithms, logarithms.clamp(min=-2.0), logarithms.flip(0)], -1)
        expected = _step_by_step(query, key, value, logarithms, False)
    elif kernel == "feature_gated_feedback":
        logarithms = torch.stack([logarithms, logarithms.clamp(min=-2.0), logarithms.flip(0)], -1)
        expected = _step_by_step(query, key, value, logarithms, True)
    else:
        expected = _step_by_step(query, key, value, logarithms, kernel == "causal_feedback")
    operands = [x.float().requires_grad_() for x in (query, key, value, logarithms.float())]
    if kernel == "gated_scan":
        found = library.gated_scan(*operands, None, 0, False, 64)
    elif kernel == "feature_gated_scan":
        found = library.feature_gated_scan(*operands[:3], gate_values(operands[3]), 0, 64)
    elif kernel == "feature_gated_feedback":
        found = library.feature_gated_feedback(*operands[:3], gate_values(operands[3]), 64)
    elif kernel == "gated_prefix":
        found = library.gated_prefix(*operands[2:], 0, CHUNK)
    else:
        found = library.causal_feedback(*operands, 64)
    torch.testing.assert_close(found.double(), expected, rtol=2e-5, atol=2e-5 * expected.abs().max().item())
    gradients = torch.autograd.grad(found.sum(), operands, allow_unused=True)
    assert all(each is None or bool(each.isfinite().all()) for each in gradients)


@BOTH
@pytest.mark.parametrize("rate", [0.0, -1e-7, -1e-4, -50.0, -math.inf])
def test_decays_of_any_strength_are_sound_over_long_sequences(library: ModuleType, rate: float) -> None:
    length, width = 3000, 2
    query, key, value = (_random(length, width, seed=i).float().double() for i in range(3))
    rates = torch.tensor(rate, dtype=torch.float32)
    expected = _step_by_step(query, key, value, rates.double().expand(length), False)
    operands = [x.float().requires_grad_() for x in (query, key, value, rates)]
    found = library.decayed_scan(*operands, 0, False, 64)
    torch.testing.assert_close(found.double(), expected, rtol=2e-5, atol=2e-5 * expected.abs().max().item())
    gradients = torch.autograd.grad(found.sum(), operands)
    assert all(bool(each.isfinite().all()) for each in gradients)


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_state_is_kept_in_single_precision(library: ModuleType, dtype: torch.dtype) -> None:
    """A sum of ones stops growing at 256 (bfloat16) or 2048 (float16) if it is kept in half precision."""
    length = 8192
    ones = torch.ones(length, 1, dtype=dtype)
    found = library.causal_scan(ones, ones, ones, 0, False, 64)
    expected = torch.arange(1, length + 1, dtype=torch.float64).unsqueeze(-1)
    torch.testing.assert_close(found.double(), expected, rtol=0.01, atol=0.0)


def test_both_libraries_take_the_same_arguments() -> None:
    shared = set(vars(kernels)) & {name for name in vars(at_once) if callable(getattr(at_once, name))} - {"Tensor"}
    assert len(shared) >= 7
    for name in shared:
        ours, theirs = (inspect.unwrap(getattr(library, name)).__code__ for library in (kernels, at_once))
        assert ours.co_varnames[: ours.co_argcount] == theirs.co_varnames[: theirs.co_argcount]


LEADING = [  # of queries, keys, values, mask
    ((), (), (), ()),
    ((3,), (3,), (1,), (3,)),
    ((2, 3), (2, 3), (2, 3), (3,)),
    ((2, 3), (2, 1), (2, 1), ()),
    ((2, 2, 3), (2, 2, 1), (2, 2, 1), (3,)),
    ((2, 2, 3), (2, 1, 1), (1, 2, 1), (2, 1, 3)),
]


@pytest.mark.parametrize("columns", [3, 4, 6])
@pytest.mark.parametrize("leading", LEADING, ids=str)
@pytest.mark.parametrize("masked", [None, torch.bool, torch.float64], ids=str)
def test_fused_attention(leading: tuple[tuple[int, ...], ...], columns: int, masked: torch.dtype | None) -> None:
    widths = ((5, 4), (7, 4), (7, columns))
    query, key, value = (_random(*lead, *rest) for lead, rest in zip(leading, widths, strict=False))
    mask = None if masked is None else _random(*leading[3], 5, 7, seed=3)
    if mask is not None and masked is torch.bool:
        mask = (mask > 0) | (torch.arange(7) == 0)
    scores = query @ key.mT / 2
    if mask is not None:
        scores = torch.where(mask, scores, -math.inf) if masked is torch.bool else scores + mask
    expected = torch.softmax(scores, -1) @ value
    torch.testing.assert_close(kernels.fused_attention(query, key, value, mask, False, True), expected)


def test_shared_keys_and_values_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads that share keys and values come last; a bias of heads is the same for every sample."""
    given: list[Tensor | None] = []
    attention = torch.nn.functional.scaled_dot_product_attention

    def seen(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options: object) -> Tensor:
        given.extend((key, value, attn_mask))
        return attention(query, key, value, attn_mask, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", seen)
    for groups, heads in (((2, 3, 4), (2, 3, 1)), ((5, 4), (5, 4))):
        given.clear()
        query, key, value = _random(*groups, 6, 8), _random(*heads, 6, 8), _random(*heads, 6, 8, seed=1)
        bias = _random(4, 6, 6)
        kernels.fused_attention(query, key, value, bias, False, True)
        for tensor, original in zip(given, (key, value, bias), strict=True):
            assert tensor is not None
            assert tensor.untyped_storage().data_ptr() == original.untyped_storage().data_ptr()
        for mask in (bias[:1] > 0, bias[:1]):  # a mask of numbers is made of it as it is given
            kernels.fused_attention(query, key, value, mask.unsqueeze(0), False, True)
            assert given[-1] is not None
            assert given[-1].numel() == mask.numel()


@BOTH
@pytest.mark.parametrize("length", [*LENGTHS, 257])
@pytest.mark.parametrize("gated", ["", "position", "feature"])
def test_causal_feedback(library: ModuleType, length: int, gated: str) -> None:
    reading, direction = (_random(*shape, length, 4, seed=i) / 3 for i, shape in enumerate(((2, 1), (3,))))
    value = _random(2, 3, length, 5)
    rate = -_random(3, length, 4 if gated == "feature" else 1, seed=7).abs() * bool(gated)
    if gated == "feature":
        found = library.feature_gated_feedback(reading, direction, value, torch.exp(rate), 64)
    else:
        found = library.causal_feedback(reading, direction, value, rate.squeeze(-1) if gated else None, 64)
    sums = torch.zeros(2, 3, 4, 5, dtype=torch.float64)
    rows = []
    for n in range(length):
        row = value[..., n, :] + (reading[..., n, :].unsqueeze(-1) * sums).sum(-2)
        sums = torch.exp(rate[..., n, :]).unsqueeze(-1) * sums + direction[..., n, :].unsqueeze(-1) * row.unsqueeze(-2)
        rows.append(row)
    torch.testing.assert_close(found, torch.stack(rows, -2), rtol=1e-10, atol=1e-10)


@BOTH
@pytest.mark.parametrize("length", [1, 2, 17, 257])
@pytest.mark.parametrize("states", [1, 3])
@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("dense", [False, True])
def test_linear_states(
    library: ModuleType, length: int, states: int, start: bool, constant: bool, dense: bool
) -> None:
    """Matrices of data and constant ones, singular ones among them; operands without some of the batch."""
    count = 1 if constant else length
    if dense:
        matrix, value, first = _random(2, count, states, states), _random(3, 1, length, states, 5), _random(states, 5)
    else:
        matrix, value = _random(2, count, states, states, 3, 1), _random(3, 1, length, states, 3, 2)
        first = _random(states, 3, 2)
    matrix = matrix / 3
    matrix[:, ::4, 0] = 0
    found = library.linear_states(matrix, value, first if start else None, dense)
    state, rows = (first if start else torch.zeros_like(first)), []
    along = -3 if dense else -4
    equation = "...ij,...je->...ie" if dense else "...ijxe,...jxf->...ixf"
    for n in range(length):
        step = matrix[:, 0 if constant else n]
        state = torch.einsum(equation, step, state) + value.select(along, n)
        rows.append(state)
    torch.testing.assert_close(found, torch.stack(rows, along), rtol=1e-10, atol=1e-11)


def _transitions(matrix: Tensor, rows: Tensor, columns: Tensor, offset: int) -> Tensor:
    """rows[n] matrix[n - offset] ... matrix[m + 1] columns[m], one product after the other: [..., N, N]."""
    length = matrix.size(-3)
    found = torch.zeros(*matrix.shape[:-3], length, length, dtype=matrix.dtype)
    for m in range(length):
        vector = columns[..., m, :]
        for n in range(m + offset, length):
            if n - offset > m:
                vector = (matrix[..., n - offset, :, :] @ vector.unsqueeze(-1)).squeeze(-1)
            found[..., n, m] = (rows[..., min(n, rows.size(-2) - 1), :] * vector).sum(-1)
    return found


@BOTH
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("states", [1, 2, 3])
def test_transitions(library: ModuleType, length: int, states: int) -> None:
    """Sums over earlier positions, and values that read earlier ones, through states updated from each other."""
    matrix = _random(2, length, states, states) / 3
    rows, columns = _random(1, states), _random(2, length, states, seed=2)
    matrix[:, ::5, 0] = 0
    query, key, value = _random(2, length, 4) / 2, _random(2, length, 4, seed=3) / 2, _random(3, 1, length, 5)
    for offset in (0, 1):
        weight = _transitions(matrix, rows, columns, offset)
        found = library.transition_scan(query, key, value, matrix, rows, columns, offset, CHUNK)
        torch.testing.assert_close(found, (query @ key.mT * weight) @ value, rtol=1e-10, atol=1e-11)
    coupling = query @ key.mT * weight
    expected = torch.linalg.solve_triangular(-coupling, value.expand(3, 2, -1, -1), upper=False, unitriangular=True)
    found = library.transition_feedback(query, key, value, matrix, rows, columns, CHUNK)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@BOTH
@pytest.mark.parametrize("length", [*LENGTHS, 257, 300])
@pytest.mark.parametrize("start", [False, True])
def test_linear_recurrence(library: ModuleType, length: int, start: bool) -> None:
    """Coefficients of any sign, 0 among them; operands without some of the axes and of the batch."""
    rate, value, first = _random(2, 1, length, 1, 3), _random(3, length, 4, 1), _random(3, 4, 3, seed=5)
    rate[..., ::5, :, :] = 0
    found = library.linear_recurrence(rate, value, first if start else None, -3)
    state = first if start else torch.zeros_like(first)
    rows = []
    for n in range(length):
        state = rate[..., n, :, :] * state + value[..., n, :, :]
        rows.append(state)
    torch.testing.assert_close(found, torch.stack(rows, -3), rtol=1e-11, atol=1e-11)


@BOTH
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 1, 3), (0, 1, 3, 2), (3, 2, 1, 0)])
@pytest.mark.parametrize("sizes", [(2, 3, 5, 7), (1, 1, 1, 1), (3, 3, 3, 3), (2, 3, 0, 4), (0, 2, 3, 4)])
def test_vectors_times_rows(library: ModuleType, order: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    laid = _random(*(sizes[dim] for dim in order))  # in memory
    rows = laid.permute([order.index(dim) for dim in range(4)]).requires_grad_()
    vectors = _random(sizes[1], sizes[3], seed=3).requires_grad_()
    assert rows.shape == sizes
    found = library.vectors_times_rows(vectors, rows, "hd,...hmd->...hm")
    expected = (rows * vectors.unsqueeze(-2)).sum(-1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    seed = _random(*expected.shape, seed=5)
    gradients = (torch.autograd.grad(out, [vectors, rows], seed) for out in (found, expected))
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
