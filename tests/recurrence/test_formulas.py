"""Everything that can be carried from piece to piece, each by a formula of its own: values, gradients, precision."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

import attngraph
from attngraph.compiler.formula import Formula
from attngraph.compiler.graph import Graph
from attngraph.compiler.recurrence import Recurrence, Refusal, memories, recurrence

from .harness import cut, found, in_pieces, same, splits

QKV = "attention f(q[N, D], k[M, D], v[M, E]) -> [N, E]:\n    where M = N\n"
GATED = "attention f(q[N, D], k[M, D], v[M, E], g[N]) -> [N, E]:\n    where M = N\n    c = cumsum[N](-abs(g))\n"
FEATURES = GATED.replace("g[N]", "g[N, D]")
X = "attention f(x[N, D]) -> [N, D]:\n"
SEEN = "pos(N) >= pos(M)"

#: name: text, sizes of what parameters carry, and the operations that hold something, in order.
FORMULAS: Mapping[str, tuple[str, Mapping[str, int], tuple[str, ...]]] = {
    "causal scan": (QKV + f"    return where({SEEN}, q @ k^T, 0) @ v\n", {}, ("CausalScan",)),
    "strict scan": (QKV + "    return where(pos(N) > pos(M), q @ k^T, 0) @ v\n", {}, ("CausalScan",)),
    "late scan": (
        QKV + "    return where(pos(N) >= pos(M) + 3, q @ k^T, 0) @ v\n", {}, ("Recent", "Recent", "CausalScan")
    ),
    "decayed scan": (
        QKV + f"    return where({SEEN}, (q @ k^T) * 0.8^(pos(N) - pos(M)), 0) @ v\n", {}, ("CausalScan",)
    ),
    "strict decayed scan": (
        QKV + "    return where(pos(N) > pos(M), (q @ k^T) * 0.8^(pos(N) - pos(M)), 0) @ v\n", {}, ("CausalScan",)
    ),
    "normalised scan": (
        QKV + f"    a = where({SEEN}, exp(q) @ exp(k)^T, 0)\n    return (a @ v) / sum[M](a)\n", {}, ("CausalScan",)
    ),
    "normalised decayed scan": (
        QKV + f"    a = where({SEEN}, (exp(q) @ exp(k)^T) * 0.8^(pos(N) - pos(M)), 0)\n"
        "    return (a @ v) / sum[M](a)\n",
        {}, ("CausalScan",),
    ),
    "gated scan": (
        GATED + f"    return where({SEEN}, (q @ k^T) * exp(c - c[N -> M]), 0) @ v\n", {}, ("CausalScan",)
    ),
    "normalised gated scan": (
        GATED + f"    a = where({SEEN}, (exp(q) @ exp(k)^T) * exp(c - c[N -> M]), 0)\n    return (a @ v) / sum[M](a)\n",
        {}, ("CausalScan",),
    ),
    "strict gated scan": (
        GATED + "    return where(pos(N) > pos(M), (q @ k^T) * exp(c - c[N -> M]), 0) @ v\n",
        {}, ("CausalScan",),
    ),
    "polynomial scan": (QKV + f"    return where({SEEN}, 1 + (q @ k^T)^2, 0) @ v\n", {}, ("PolynomialScan",)),
    "strict polynomial scan": (
        QKV + "    return where(pos(N) > pos(M), (1 + q @ k^T)^3, 0) @ v\n", {}, ("PolynomialScan",)
    ),
    "normalised polynomial scan": (
        QKV + f"    a = where({SEEN}, (1 + q @ k^T / 2)^2 + 1, 0)\n    return (a @ v) / sum[M](a)\n",
        {}, ("PolynomialScan",),
    ),
    "element-wise scan": (
        "attention f(x[N, D], g[N, D]) -> [N, D]:\n    c = cumsum[N](-abs(g))\n"
        "    y = x[N -> M]\n    return sum[M](where(pos(N) >= pos(M), exp(c - c[N -> M]), 0) * y)\n",
        {}, ("GatedPrefix",),
    ),
    "feature-gated scan": (
        FEATURES + f"    return where({SEEN}, sum[D](q * k * exp(c - c[N -> M])), 0) @ v\n", {}, ("FeatureGatedScan",)
    ),
    "strict feature-gated scan": (
        FEATURES + "    return where(pos(N) > pos(M), sum[D](q * k * exp(c - c[N -> M])), 0) @ v\n",
        {}, ("FeatureGatedScan",),
    ),
    "prefix softmax": (
        "attention f(s[M], v[M, E]) -> [N, E]:\n    where M = N\n    return softmax[M](s, mask=pos(N) >= pos(M)) @ v\n",
        {}, ("PrefixSoftmax",),
    ),
    "band": (
        QKV + "    const W = 3\n    lag = pos(N) - pos(M)\n"
        "    return softmax[M](q @ k^T, mask=lag >= 0 and lag <= W) @ v\n",
        {}, ("BandedSoftmax",),
    ),
    "band without its own position": (
        QKV + "    lag = pos(N) - pos(M)\n    return softmax[M](q @ k^T, mask=lag >= 1 and lag <= 4) @ v\n",
        {}, ("BandedSoftmax",),
    ),
    "key-value cache": (QKV + f"    return softmax[M](q @ k^T / sqrt(D), mask={SEEN}) @ v\n", {}, ("Remember",) * 2),
    "cache with bias": (
        QKV + f"    return softmax[M](q @ k^T - 0.1 * (pos(N) - pos(M)), mask={SEEN}) @ v\n", {}, ("Remember",) * 2
    ),
    "cache beside a sink": (
        "attention f(q[R, N, D], k[M, D], v[M, E], b[R]) -> [R, N, E]:\n    where M = N\n    sequence N, M\n"
        f"    return softmax[M](q @ k^T / sqrt(D), mask={SEEN}, sink=b) @ v\n",
        {}, ("Remember",) * 2,
    ),
    "cache beside a sink that data choose": (
        "attention f(q[N, D], k[M, D], v[M, E], b[N]) -> [N, E]:\n    where M = N\n    sequence N, M\n"
        "    return softmax[M](q @ k^T, mask=pos(N) > pos(M), sink=b) @ v\n",
        {}, ("Remember",) * 2,
    ),
    "window beside a sink": (
        "attention f(q[N, D], k[M, D], v[M, E], b[N]) -> [N, E]:\n    where M = N\n    sequence N, M\n"
        "    lag = pos(N) - pos(M)\n    return softmax[M](q @ k^T, mask=lag >= 0 and lag < 4, sink=b) @ v\n",
        {}, ("Remember",) * 2,
    ),
    "cache of joined keys": (
        "attention f(q[N, D], k[M, D], v[M, E], r[N, D], p[M, D]) -> [N, E]:\n    where M = N\n"
        f"    return softmax[M](q @ k^T + r @ p^T / 2, mask={SEEN}) @ v\n",
        {}, ("Remember",) * 2,
    ),
    "cache of latents": (
        "attention f(q[N, D], c[M, D], r[N, E], p[M, E]) -> [N, D]:\n    where M = N\n"
        f"    return softmax[M](q @ c^T + r @ p^T, mask={SEEN}) @ c\n",
        {}, ("Remember",),
    ),
    "any function of the scores": (
        QKV + f"    return where({SEEN}, tanh(q @ k^T), 0) @ v\n", {}, ("Remember",) * 2
    ),
    "lag that no scan knows": (
        QKV + f"    return where({SEEN}, 1 / (1 + abs(pos(N) - pos(M))), 0) @ v\n", {}, ("Remember",)
    ),
    "mask that is given": (
        "attention f(q[N, D], k[M, D], v[M, E], mask[N, M] bool) -> [N, E]:\n    where M = N\n"
        f"    return softmax[M](q @ k^T, mask=mask and {SEEN}) @ v\n",
        {}, ("Remember",) * 2,
    ),
    "bias that is given": (
        "attention f(q[H, N, D], k[H, M, D], v[H, M, E], b[N, M]) -> [H, N, E]:\n    where M = N\n"
        f"    return softmax[M](q @ k^T + b, mask={SEEN}) @ v\n",
        {}, ("Remember",) * 2,
    ),
    "map as a result": (
        QKV.replace("[N, E]:", "[N, M]:") + f"    return softmax[M](q @ k^T, mask={SEEN})\n", {}, ("Remember",)
    ),
    "two layers": (
        "attention f(x[N, D]) -> [N, D]:\n"
        f"    y = softmax[M](x @ x[N -> M]^T, mask={SEEN}) @ x[N -> M]\n"
        f"    return softmax[M](y @ y[N -> M]^T, mask={SEEN}) @ y[N -> M] + x\n",
        {}, ("Remember",) * 2,
    ),
    "running sum": (X + "    return cumsum[N](x)\n", {}, ("CumulativeSum",)),
    "running product": (X + "    return cumprod[N](1 + x / 4)\n", {}, ("CumulativeProduct",)),
    "running maximum": (X + "    return cummax[N](x)\n", {}, ("CumulativeMax",)),
    "running minimum": (X + "    return cummin[N](x)\n", {}, ("CumulativeMin",)),
    "running logarithm": (X + "    return cumlogsumexp[N](x)\n", {}, ("CumulativeLogSumExp",)),
    "running count": (X + "    return cumsum[N](x > 0) * x\n", {}, ("CumulativeSum",)),
    "shift": (X + "    return x - shift[N](x, by=2)\n", {}, ("Recent",)),
    "no shift": (X + "    return x - shift[N](2 * x, by=0)\n", {}, ()),
    "causal convolution": (
        X + "    param w[D, K]\n    return conv[N, K](x, w, start=1 - K)\n", {"D": 3, "K": 4}, ("Recent",)
    ),
    "dilated convolution": (
        X + "    param w[D, K]\n    return conv[N, K](x, w, start=2 - 2 * K, dilation=2)\n",
        {"D": 3, "K": 3}, ("Recent",),
    ),
    "causal windows": (
        X + "    where W = 3\n    return max[W](windows[N -> N, W](x, start=1 - W))\n", {}, ("Recent",)
    ),
    "shift, convolution and scan": (
        X + "    param w[D, K]\n    y = silu(conv[N, K](x + shift[N](x), w, start=1 - K))\n"
        "    z = y[N -> M]\n    return where(pos(N) >= pos(M), y @ z^T, 0) @ z\n",
        {"D": 3, "K": 2}, ("Recent", "Recent", "CausalScan"),
    ),
    "positions": (X + "    return x * sin(pos(N) / 7)\n", {}, ()),
    "positions of both sides": (
        QKV + "    rq = q * cos(pos(N) / 9)\n    rk = k * cos(pos(M) / 9)\n"
        f"    return softmax[M](rq @ rk^T, mask={SEEN}) @ v\n",
        {}, ("Remember",) * 2,
    ),
    "mean of what is seen": (
        QKV + f"    a = where({SEEN}, relu(q @ k^T), 0)\n    return (a @ v) / sum[M](where({SEEN}, 1, 0))\n",
        {}, ("Remember", "Remember", "CumulativeSum"),
    ),
    "the best keys": (
        QKV + f"    s = where({SEEN}, q @ k^T, -inf)\n"
        f"    return softmax[M](s, mask=top[M](s, count=1) and {SEEN}) @ v\n",
        {}, ("Remember",) * 2,
    ),
    "complex numbers": (
        "attention f(x[N, D] complex) -> [N, D] complex:\n    return cumsum[N](x * (pos(N) + 1))\n",
        {}, ("CumulativeSum",),
    ),
}  # fmt: skip
CASES = [pytest.param(*case, id=name) for name, case in FORMULAS.items()]


def typed(text: str) -> tuple[Formula, Graph]:
    report = attngraph.check(text)
    assert report.ok, [d.message for d in report.diagnostics]
    assert report.formula is not None
    assert report.plan is not None
    return report.formula, report.plan


def draw(
    formula: Formula, pieces: Recurrence, n: int, known: Mapping[str, int], batch: tuple[int, ...] = (2,)
) -> list[Tensor]:
    """Inputs of n positions. Every other size is 3, so that at n = 3 axes of different meaning are equally long."""
    random = torch.Generator().manual_seed(n)
    kinds = {"bool": torch.bool, "complex": torch.complex128}
    inputs = []
    for node in formula.inputs:
        shape = (*batch, *(n if axis in pieces.axes else known.get(axis, 3) for axis in node.axes))
        dtype = kinds.get(node.type.kind.value, torch.float64)
        value = torch.randn(shape, generator=random, dtype=torch.float64 if dtype is torch.bool else dtype)
        inputs.append(value > -0.5 if dtype is torch.bool else value.requires_grad_())
    return inputs


@pytest.mark.parametrize(("text", "sizes", "held"), CASES)
def test_steps_are_the_whole_sequence(text: str, sizes: Mapping[str, int], held: tuple[str, ...]) -> None:
    formula, plan = typed(text)
    pieces = found(formula, plan)
    names = [type(getattr(node.op, "op", node.op)).__name__ for node in memories(pieces.graph)]
    assert tuple(names) == held
    module = attngraph.compile(text, sizes=sizes).double()
    scripted = torch.jit.script(module)
    with torch.no_grad():
        for n in (1, 3, 11):
            inputs = draw(formula, pieces, n, sizes)
            whole = module(*inputs)
            for lengths in splits(n):
                state = same(module, formula, pieces, inputs, whole, lengths)
                assert len(state) == len(module.init_state())
            same(scripted, formula, pieces, inputs, whole, lengths)


@pytest.mark.parametrize(("text", "sizes", "held"), CASES)
def test_gradients_pass_through_steps(text: str, sizes: Mapping[str, int], held: tuple[str, ...]) -> None:
    formula, plan = typed(text)
    pieces = found(formula, plan)
    module = attngraph.compile(text, sizes=sizes).double()
    inputs = draw(formula, pieces, 7, sizes)
    leaves = [x for x in (*inputs, *module.parameters()) if x.requires_grad]
    whole = module(*inputs)
    [output] = pieces.graph.outputs
    stepped, expected = whole.new_zeros(()), whole.new_zeros(())
    for start, stop, (out,), _ in in_pieces(module, formula, pieces, inputs, (3, 1, 2, 1)):
        stepped = stepped + out.sin().sum() * (start + 1)
        expected = expected + cut(output, whole, pieces, start, stop).sin().sum() * (start + 1)
    gradients = [
        torch.autograd.grad(total.real, leaves, allow_unused=True, materialize_grads=True)
        for total in (stepped, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


CHUNKED = {"CausalScan", "PolynomialScan", "FeatureGatedScan", "GatedPrefix", "PrefixSoftmax"}
LONG = [name for name, (_, _, held) in FORMULAS.items() if set(held) & CHUNKED]


@pytest.mark.parametrize("name", LONG)
def test_pieces_longer_than_a_chunk(name: str) -> None:
    text, sizes, _ = FORMULAS[name]
    formula, plan = typed(text)
    pieces = found(formula, plan)
    module = attngraph.compile(text, sizes=sizes).double()
    with torch.no_grad():
        inputs = draw(formula, pieces, 150, sizes)
        whole = module(*inputs)
        same(module, formula, pieces, inputs, whole, (70, 1, 64, 15), tolerance=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "name", ["causal scan", "decayed scan", "gated scan", "feature-gated scan", "prefix softmax", "running sum"]
)
def test_a_running_state_is_in_single_precision(name: str, dtype: torch.dtype) -> None:
    """Sums of 600 elements of about one: in half precision they would stop growing, or lose every digit."""
    text, sizes, _ = FORMULAS[name]
    formula, plan = typed(text)
    pieces = found(formula, plan)
    module = attngraph.compile(text, sizes=sizes)
    with torch.no_grad():
        exact = [x.detach().abs() / 3 for x in draw(formula, pieces, 600, sizes, batch=())]
        rounded = [x.to(dtype) for x in exact]
        whole = module(*(x.double() for x in rounded))
        for _, stop, (out,), state in in_pieces(module, formula, pieces, rounded, (1,) * 600):
            assert out.dtype == dtype
            assert all(tensor.dtype == torch.float32 for tensor in state)
            if stop == 600:
                last = whole.select(-2, 599)
                error = (out.double().squeeze(-2) - last).abs().max() / last.abs().max()
                assert error < 4 * torch.finfo(dtype).eps


def test_one_state_serves_any_batch_and_dtype() -> None:
    text, _, _ = FORMULAS["causal scan"]
    module = attngraph.compile(text)
    for batch, dtype in (((), torch.float32), ((5,), torch.float64), ((2, 3), torch.bfloat16)):
        state = module.init_state()
        for _ in range(2):
            inputs = [torch.randn(*batch, 1, 3, dtype=dtype) for _ in range(3)]
            out, state = module.step(state, *inputs)
            assert out.shape == (*batch, 1, 3)
            assert out.dtype == dtype


def test_keys_may_have_fewer_batch_dimensions() -> None:
    for name in ("key-value cache", "normalised decayed scan", "gated scan"):
        module = attngraph.compile(FORMULAS[name][0])
        formula, plan = typed(FORMULAS[name][0])
        pieces = found(formula, plan)
        shapes = ((4, 2, 6, 3), (2, 6, 3), (6, 5), (2, 6))[: len(formula.inputs)]
        inputs = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
        with torch.no_grad():
            same(module, formula, pieces, inputs, module(*inputs), (2, 1, 3))


# -- what must be refused --------------------------------------------------------------------------------

NEAR = {
    "the future": (QKV + "    return where(pos(N) <= pos(M), q @ k^T, 0) @ v\n", "not causal"),
    "no mask": (QKV + "    return softmax[M](q @ k^T) @ v\n", "not causal"),
    "a mask of one place ahead": (QKV + "    return where(pos(N) + 1 >= pos(M), q @ k^T, 0) @ v\n", "not causal"),
    "shift to the left": (X + "    return shift[N](x, by=-1)\n", "not causal"),
    "symmetric convolution": (X + "    param w[D, K]\n    return conv[N, K](x, w)\n", "not causal"),
    "mean of positions": (X + "    return x * mean[N](pos(N))\n", "positions that have not come"),
    "sum over all lags": (
        X + "    y = x[N -> M]\n    lag = pos(N) - pos(M)\n"
        "    return (where(lag >= 0, x @ y^T, 0) @ y) * sum[M](exp(-abs(lag)))\n",
        "positions that have not come",
    ),
    "normaliser of all positions": (
        QKV + "    d = sum[M](exp(-abs(pos(N) - pos(M))))\n    return (where(pos(N) >= pos(M), q @ k^T, 0) @ v) / d\n",
        "positions that have not come",
    ),
    "keys of another length": (QKV.replace("    where M = N\n", "") + "    return (q @ k^T) @ v\n", "nothing says"),
    "a parameter for each position": (X + "    param w[N, D]\n    return cumsum[N](x * w)\n", "fixes the length"),
    "no sequence": ("attention f(x[D]) -> [D]:\n    return x\n", "no sequence axis"),
}


@pytest.mark.parametrize(("text", "reason"), NEAR.values(), ids=NEAR)
def test_near_misses(text: str, reason: str) -> None:
    formula, plan = typed(text)
    for graph in (formula.graph, plan):
        refusal = recurrence(formula, graph)
        assert isinstance(refusal, Refusal)
        assert reason in refusal.reason


# -- mistakes at a step ------------------------------------------------------------------------------------


def test_mistakes_at_a_step() -> None:
    module = attngraph.compile(FORMULAS["mask that is given"][0])
    q = torch.randn(2, 3)
    first = torch.ones(2, 2, dtype=torch.bool)
    _, state = module.step(module.init_state(), q, q, q, first)
    with pytest.raises(ValueError, match=r"a state of `init_state` or `step` has 3 tensors, this one has 0"):
        module.step([], q, q, q, first)
    with pytest.raises(ValueError, match=r"mask has size 2 on axis M_all .*, but the number of positions so far is 4"):
        module.step(state, q, q, q, first)
    with pytest.raises(ValueError, match=r"k has size 4 on axis D"):
        module.step(state, q, torch.randn(2, 4), q, torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"M = N does not hold"):
        module.step(state, q, q[:1], q[:1], torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"must be a bool tensor"):
        module.step(state, q, q, q, torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"a step takes one position or more, but 0 are given"):
        module.step(state, q[:0], q[:0], q[:0], torch.ones(0, 2, dtype=torch.bool))
    out, _ = module.step(state, q, q, q, torch.ones(2, 4, dtype=torch.bool))
    assert out.shape == (2, 3)


def test_facts_about_the_whole_length_are_not_asked_of_a_piece() -> None:
    text = X + "    where N = S + 3, N >= 4\n    return cumsum[N](x)\n"
    module = attngraph.compile(text)
    x = torch.randn(5, 2)
    with pytest.raises(ValueError, match=r"N >= 4 does not hold|S = N - 3"):
        module(x[:1])
    state, outs = module.init_state(), []
    for n in range(5):
        out, state = module.step(state, x[n : n + 1])
        outs.append(out)
    torch.testing.assert_close(torch.cat(outs), module(x))


def test_a_state_is_not_changed_by_a_step() -> None:
    """Two continuations of one prefix: a state can be used again."""
    for name in ("causal scan", "key-value cache", "band", "shift"):
        text, sizes, _ = FORMULAS[name]
        module = attngraph.compile(text, sizes=sizes)
        count = 1 if name == "shift" else 3
        first, second = ([torch.randn(1, 3) for _ in range(count)] for _ in range(2))
        _, state = module.step(module.init_state(), *first)
        before = [tensor.clone() for tensor in state]
        once, _ = module.step(state, *second)
        module.step(state, *first)
        again, _ = module.step(state, *second)
        torch.testing.assert_close(once, again, rtol=0.0, atol=0.0)
        torch.testing.assert_close(state, before, rtol=0.0, atol=0.0)


def test_a_parameter_may_be_called_as_the_methods() -> None:
    text = X + "    param step[D], init_state[D]\n    return cumsum[N](x) * step * init_state\n"
    module = attngraph.compile(text, sizes={"D": 3})
    out, _ = module.step(module.init_state(), torch.ones(1, 3))
    assert out.shape == (1, 3)
    text = "attention f(state[N, D], start[N, D]) -> [N, D]:\n    return cumsum[N](state) * start * pos(N)\n"
    module = attngraph.compile(text)
    x = torch.randn(4, 3)
    state = module.init_state()
    for n in range(4):
        out, state = module.step(state, x[n : n + 1], x[n : n + 1])
    torch.testing.assert_close(out, module(x, x)[-1:])
