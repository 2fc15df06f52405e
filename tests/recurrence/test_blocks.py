"""Sequences that are cut into blocks, and sequences behind a prefix of fixed length, piece by piece."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor

import attngraph
from attngraph.compiler.formula import Formula
from attngraph.compiler.recurrence import Recurrence, Refusal, memories, recurrence

from .harness import cut, found, in_pieces, same
from .test_formulas import draw, typed

X = "attention f(x[N, D]) -> [N, D]:\n    where N = Y * 4, W = 4\n"
RAGGED = "attention f(x[N, D]) -> [N, D]:\n    where Y = ceil(N / 4), W = 4, P = Y * W\n"
QKV = (
    "attention f(q[N, D], k[M, D], v[M, E]) -> [N, E]:\n"
    "    where M = N, N = G * 4, S = 4, M = J * 4, R = 4, L = R + J\n"
)
PREFIX = "attention f(q[N, D], k[N, D], v[N, E]) -> [N, E]:\n    where M = P + N\n    param pk[P, D], pv[P, E]\n"

#: name: text, sizes of what parameters carry, and the operations that hold something, in order.
FORMULAS: Mapping[str, tuple[str, Mapping[str, int], tuple[str, ...]]] = {
    "sums of blocks": (
        X + "    y = split[N -> Y, W](x)\n    s = sum[W](y)[Y -> Z]\n"
        "    return merge[Y, W -> N](sum[Z](where(pos(Z) < pos(Y), s, 0)) + cumsum[W](y))\n",
        {}, ("CausalScan",),
    ),
    "running sums over blocks": (
        X + "    return merge[Y, W -> N](cumsum[Y](split[N -> Y, W](x)))\n", {}, ("CumulativeSum",)
    ),
    "a block of its own": (
        X + "    y = split[N -> Y, W](x)\n    z = y[W -> V]\n"
        "    a = softmax[V](sum[D](y * z), mask=pos(W) >= pos(V))\n    return merge[Y, W -> N](sum[V](a * z))\n",
        {}, (),
    ),
    "numbers of blocks": (
        X + "    return merge[Y, W -> N](split[N -> Y, W](x) * sin(pos(Y) + pos(W))) + cumsum[N](x)\n",
        {}, ("CumulativeSum",),
    ),
    "own block and summaries": (
        QKV + "    queries = split[N -> G, S](q)\n    keys = split[M -> J, R](k)\n    values = split[M -> J, R](v)\n"
        "    near = where(pos(R) <= pos(S), sum[D](queries * keys[J -> G]), -inf)\n"
        "    far = where(pos(J) < pos(G), sum[D](queries * mean[R](keys)), -inf)\n"
        "    a = softmax[L](concat[R, J -> L](near, far))\n"
        "    o = sum[R](slice[L -> R](a) * values[J -> G]) + sum[J](slice[L -> J](a, start=R) * mean[R](values))\n"
        "    return merge[G, S -> N](o)\n",
        {}, ("Remember", "Remember"),
    ),
    "a memory of blocks": (
        X + "    y = split[N -> Y, W](x)\n    scan Y:\n        state s[D] = 0\n"
        "        yield z = s\n        s = s / 2 + mean[W](y)\n"
        "    return merge[Y, W -> N](y + z)\n",
        {}, ("LinearRecurrence", "Recent"),
    ),
    "a last block that is not full": (
        RAGGED + "    y = split[P -> Y, W](pad[N -> P](x, after=P - N))\n"
        "    return slice[P -> N](merge[Y, W -> P](cumsum[W](y) + cumsum[Y](y) * sin(pos(W))))\n",
        {}, ("CumulativeSum",),
    ),
    "a memory of chunks": (
        RAGGED + "    y = split[P -> Y, W](pad[N -> P](x + 1, after=P - N, value=3))\n    scan Y:\n"
        "        state s[D] = 0\n        yield z = s + cumsum[W](y)\n        s = s / 2 + sum[W](y)\n"
        "    return slice[P -> N](merge[Y, W -> P](z)) * x\n",
        {}, ("LinearRecurrence", "Recent"),
    ),
    "a memory of chunks that is not linear": (
        RAGGED + "    y = split[P -> Y, W](pad[N -> P](x + 1, after=P - N, value=3))\n    scan Y:\n"
        "        state s[D] = 0\n        yield z = s + cumsum[W](y)\n        s = tanh(s) / 2 + sum[W](y)\n"
        "    return slice[P -> N](merge[Y, W -> P](z)) * x\n",
        {}, ("Scan",),
    ),
    "a prefix": (
        PREFIX + "    keys = concat[P, N -> M](pk, k)\n    values = concat[P, N -> M](pv, v)\n"
        "    return softmax[M](q @ keys^T, mask=pos(M) <= P + pos(N)) @ values\n",
        {"P": 3, "D": 3, "E": 2}, ("Remember", "Remember"),
    ),
    "a projected prefix": (
        "attention f(x[N, C]) -> [N, D]:\n    where M = P + N\n    param prefix[P, C], wk[C, D]\n"
        "    z = tanh(concat[P, N -> M](prefix, x) @ wk)\n"
        "    return softmax[M]((x @ wk) @ z^T, mask=pos(M) <= P + pos(N)) @ z\n",
        {"P": 2, "C": 4, "D": 3}, ("Remember",),
    ),
}  # fmt: skip
CASES = [pytest.param(*case, id=name) for name, case in FORMULAS.items()]


def ragged(length: int) -> tuple[tuple[int, ...], ...]:
    """One by one, all at once, whole blocks, and pieces that end within blocks and span several."""
    sevens = (*(7,) * (length // 7), *((length % 7,) if length % 7 else ()))
    return (1,) * length, (length,), (4,) * (length // 4), (3, length - 3), sevens


@pytest.mark.parametrize(("text", "sizes", "held"), CASES)
def test_steps_are_the_whole_sequence(text: str, sizes: Mapping[str, int], held: tuple[str, ...]) -> None:
    formula, plan = typed(text)
    module = attngraph.compile(text, sizes=sizes).double()
    pieces = found(formula, plan)
    names = [type(getattr(node.op, "op", node.op)).__name__ for node in memories(pieces.graph)]
    assert tuple(names) == held
    scripted = torch.jit.script(module)
    with torch.no_grad():
        for n in (4, 12, 28):
            inputs = draw(formula, pieces, n, sizes)
            whole = module(*inputs)
            for lengths in ragged(n):
                same(module, formula, pieces, inputs, whole, lengths)
            same(scripted, formula, pieces, inputs, whole, lengths)


@pytest.mark.parametrize(("text", "sizes", "held"), CASES)
def test_gradients_pass_through_steps(text: str, sizes: Mapping[str, int], held: tuple[str, ...]) -> None:
    formula, plan = typed(text)
    pieces = found(formula, plan)
    module = attngraph.compile(text, sizes=sizes).double()
    inputs = draw(formula, pieces, 8, sizes)
    leaves = [*inputs, *module.parameters()]
    whole = module(*inputs)
    outs = [out for _, _, (out,), _ in in_pieces(module, formula, pieces, inputs, (3, 1, 2, 1, 1))]
    gradients = [
        torch.autograd.grad(out.sin().sum(), leaves, allow_unused=True, materialize_grads=True)
        for out in (torch.cat(outs, -2), whole)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


def test_a_step_ends_within_a_block() -> None:
    """The results so far are those of any sequence that goes on from here: the length need not be a whole block."""
    text, sizes, _ = FORMULAS["own block and summaries"]
    formula, plan = typed(text)
    pieces = found(formula, plan)
    module = attngraph.compile(text, sizes=sizes).double()
    nodes = [pieces.inputs[node] for node in formula.inputs]
    with torch.no_grad():
        inputs = draw(formula, pieces, 12, sizes)
        whole = module(*inputs)
        for stop in range(1, 12):
            parts = [cut(node, x, pieces, 0, stop) for node, x in zip(nodes, inputs, strict=True)]
            out, _ = module.step(module.init_state(), *parts)
            torch.testing.assert_close(out, whole[..., :stop, :])


@pytest.mark.parametrize("name", [name for name, (text, _, _) in FORMULAS.items() if text.startswith(RAGGED)])
def test_sequences_of_any_length(name: str) -> None:
    text, sizes, _ = FORMULAS[name]
    formula, plan = typed(text)
    pieces = found(formula, plan)
    module = attngraph.compile(text, sizes=sizes).double()
    with torch.no_grad():
        for n in (1, 3, 7, 13):
            inputs = draw(formula, pieces, n, sizes)
            whole = module(*inputs)
            for lengths in ((1,) * n, (n,), (*(3,) * (n // 3), *(1,) * (n % 3))):
                same(module, formula, pieces, inputs, whole, lengths)


def test_a_state_is_not_changed_by_a_step() -> None:
    for name in ("own block and summaries", "a memory of blocks", "a prefix"):
        text, sizes, _ = FORMULAS[name]
        formula, plan = typed(text)
        pieces = found(formula, plan)
        module = attngraph.compile(text, sizes=sizes).double()
        inputs = draw(formula, pieces, 12, sizes)

        def part(start: int, stop: int, inputs: Sequence[Tensor] = inputs, formula: Formula = formula,
                 pieces: Recurrence = pieces) -> list[Tensor]:  # fmt: skip
            return [cut(node, x, pieces, start, stop).detach() for node, x in zip(formula.inputs, inputs, strict=True)]

        with torch.no_grad():
            _, state = module.step(module.init_state(), *part(0, 7))
            before = [tensor.clone() for tensor in state]
            once, _ = module.step(state, *part(7, 9))
            module.step(state, *part(9, 12))
            again, _ = module.step(state, *part(7, 9))
        torch.testing.assert_close(once, again, rtol=0.0, atol=0.0)
        torch.testing.assert_close(state, before, rtol=0.0, atol=0.0)


def test_what_is_remembered_of_a_prefix_is_behind_the_projection() -> None:
    """The prefix is not kept, and no position is projected twice."""
    text, sizes, _ = FORMULAS["a projected prefix"]
    module = attngraph.compile(text, sizes=sizes)
    _, state = module.step(module.init_state(), torch.randn(5, 4))
    assert [tuple(tensor.shape) for tensor in state if tensor.dim()] == [(5, 3)]


def test_mistakes_at_a_step() -> None:
    module = attngraph.compile(FORMULAS["own block and summaries"][0])
    x = torch.randn(3, 2)
    with pytest.raises(ValueError, match=r"has 6 tensors, this one has 1"):
        module.step([x], x, x, x)
    with pytest.raises(ValueError, match=r"M = N does not hold"):
        module.step(module.init_state(), x, x[:2], x[:2])
    with pytest.raises(ValueError, match=r"one position or more, but 0 are given"):
        module.step(module.init_state(), x[:0], x[:0], x[:0])
    with pytest.raises(ValueError, match=r"not a whole number"):
        module(x, x, x)


# -- near misses -----------------------------------------------------------------------------------------

NEAR = {
    "a mean of the own block": (
        X + "    y = split[N -> Y, W](x)\n    return merge[Y, W -> N](y + mean[W](y))\n", "not causal"
    ),
    "later blocks": (
        X + "    y = split[N -> Y, W](x)\n    return merge[Y, W -> N](y * sum[Y](y))\n", "not causal"
    ),
    "the number of blocks": (X + "    return x * Y\n", "reads the length"),
    "a mean of numbers of blocks": (X + "    return x * mean[Y](pos(Y))\n", "positions that have not come"),
    "strides": (
        "attention f(x[N, D]) -> [N, D]:\n    where N = W * Y, W = 4\n"
        "    return merge[W, Y -> N](cumsum[Y](split[N -> W, Y](x)))\n",
        "where a position comes to stand depends on the length",
    ),
    "numbers within strides": (
        "attention f(x[N, D]) -> [N, D]:\n    where N = W * Y, W = 4\n"
        "    return merge[W, Y -> N](split[N -> W, Y](x) * pos(Y))\n",
        "where a position comes to stand depends on the length",
    ),
    "blocks of two lengths": (
        "attention f(x[N, D]) -> [N, D]:\n    where N = Y * 4, W = 4, N = Z * 6, V = 6\n"
        "    fours = merge[Y, W -> N](cumsum[W](split[N -> Y, W](x)))\n"
        "    return fours + merge[Z, V -> N](cumsum[V](split[N -> Z, V](x)))\n",
        "depends on that of the sequence",
    ),
    "blocks of which the last is left out": (
        "attention f(x[N, D]) -> [N, D]:\n    where Y = floor(N / 4), W = 4, P = Y * W, N >= P\n"
        "    y = split[P -> Y, W](slice[N -> P](x))\n"
        "    return pad[P -> N](merge[Y, W -> P](cumsum[W](y)), after=N - P)\n",
        "length",
    ),
    "how much is padded": (
        RAGGED + "    y = split[P -> Y, W](pad[N -> P](x, after=P - N))\n"
        "    return slice[P -> N](merge[Y, W -> P](cumsum[W](y))) * (P - N)\n",
        "reads the length",
    ),
    "what is padded in front": (
        RAGGED + "    y = split[P -> Y, W](pad[N -> P](x, before=P - N))\n"
        "    return slice[P -> N](merge[Y, W -> P](cumsum[W](y)), start=P - N)\n",
        "",
    ),
    "an input of blocks": (
        "attention f(x[N, D], g[Y]) -> [N, D]:\n    where N = Y * 4, W = 4\n"
        "    return merge[Y, W -> N](split[N -> Y, W](x) * cumsum[Y](g))\n",
        "",
    ),
    "a suffix": (
        "attention f(q[N, D], k[N, D]) -> [N, D]:\n    where M = N + P\n    param pk[P, D]\n"
        "    keys = concat[N, P -> M](k, pk)\n    return softmax[M](q @ keys^T, mask=pos(M) <= pos(N)) @ keys\n",
        "depends on that of the sequence",
    ),
    "a prefix that sees all": (
        PREFIX + "    keys = concat[P, N -> M](pk, k)\n    values = concat[P, N -> M](pv, v)\n"
        "    return softmax[M](q @ keys^T) @ values\n",
        "not causal",
    ),
    "all places behind a prefix": (
        PREFIX + "    keys = concat[P, N -> M](pk, k)\n    values = concat[P, N -> M](pv, v)\n"
        "    return softmax[M](q @ keys^T, mask=pos(M) <= P + pos(N)) @ values * sum[M](pos(M))\n",
        "positions that have not come",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), NEAR.values(), ids=NEAR)
def test_near_misses(text: str, reason: str) -> None:
    formula, plan = typed(text)
    for graph in (formula.graph, plan):
        refusal = recurrence(formula, graph)
        assert isinstance(refusal, Refusal)
        assert reason in refusal.reason
