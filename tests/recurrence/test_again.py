"""Formulas whose values have to do with the length of the whole sequence: it is told, or a parameter has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attngraph
from attngraph.compiler.again import Again, again
from attngraph.compiler.formula import Formula
from attngraph.compiler.module import compile as build
from attngraph.compiler.recurrence import Recurrence, Refusal, recurrence

from ..examples.cases import EXAMPLES
from ..examples.test_examples import _prepare
from .harness import splits
from .test_examples import AGAIN, TOLD, parts
from .test_formulas import QKV, typed

X = "attention f(x[N, D]) -> [N, D]:\n"
SEEN = "pos(N) >= pos(M)"

#: name: text, and whether it is a recurrence.
TEXTS: Mapping[str, tuple[str, bool]] = {
    "a score less the logarithm": (QKV + f"    return where({SEEN}, exp(q @ k^T / 9 - log(M)), 0) @ v\n", True),
    "a scan with an angle": (
        QKV + f"    return where({SEEN}, (q @ k^T) * cos((pos(N) - pos(M)) / N), 0) @ v\n", True
    ),
    "a key-value cache": (QKV + f"    return softmax[M](q @ k^T / log(N + 1), mask={SEEN}) @ v\n", True),
    "a running mean of a fixed count": (X + "    return cumsum[N](x) / N\n", True),
    "every position by itself": (X + "    return x * N + pos(N)\n", True),
    "counted from the end": (X + "    return x * (N - 1 - pos(N)) + cumsum[N](x)\n", True),
    "a mean of positions": (X + "    return cumsum[N](x) * mean[N](pos(N))\n", False),
    "keys behind a prefix, and their number": (
        "attention f(q[N, D], k[N, D], v[N, E]) -> [N, E]:\n"
        "    where M = P + N, P = 2, D = 3, E = 3\n    param pk[P, D], pv[P, E]\n"
        "    keys = concat[P, N -> M](pk, k)\n    values = concat[P, N -> M](pv, v)\n"
        "    return softmax[M](q @ keys^T / M, mask=pos(M) <= P + pos(N)) @ values\n",
        True,
    ),
    "several sizes of the length": (X + "    where M = N\n    return cumsum[N](x) * min(N, M + 1) / (N + 2)\n", True),
    "a step of a scan": (
        X + "    scan N:\n        state s[D] = 0\n        s = s + x / N\n        yield y = s\n    return y\n", False
    ),
    "an axis of the length": (
        X + "    where L = N\n    return cumsum[N](x) * sum[L](where(pos(L) < 3, 1, 0.5))\n", False
    ),
    "more features for more positions": (
        X + "    where L = 2 * N\n    return cumsum[N](x) * sum[L](cos(pos(L) * pos(N)))\n", False
    ),
}  # fmt: skip


def fed(
    module: nn.Module, lengths: Sequence[int], inputs: Sequence[Tensor], along: Sequence[int], told: Sequence[int]
) -> list[tuple[Tensor, ...]]:
    """The results of every step."""
    state, start, found = module.init_state(*told), 0, []
    for size in lengths:
        given = zip(inputs, along, strict=True)
        out, state = module.step(state, *(x.narrow(dim, start, size) if dim else x for x, dim in given))
        found.append(out if isinstance(out, tuple) else (out,))
        start += size
    return found


def check(formula: Formula, module: nn.Module, pieces: Recurrence | Again, inputs: Sequence[Tensor]) -> None:
    """Steps give what the whole sequence gives, in pieces of any length, also before it has ended."""
    axes = pieces.axes if isinstance(pieces, Recurrence) else pieces.kept.axes
    dims = [[i - len(node.axes) for i, axis in enumerate(node.axes) if axis in axes] for node in formula.inputs]
    along = [each[0] if each else 0 for each in dims]
    length = next(x.size(dim) for x, dim in zip(inputs, along, strict=True) if dim)
    whole = module(*inputs)
    results = whole if isinstance(whole, tuple) else (whole,)
    told = [length] if (pieces.kept if isinstance(pieces, Again) else pieces).told else []
    for lengths in (*splits(length), (max(length // 2, 1),)):
        steps = fed(module, lengths, inputs, along, told)
        for node, expected, outs in zip(formula.graph.outputs, results, zip(*steps, strict=True), strict=True):
            dim = next(i - len(node.axes) for i, axis in enumerate(node.axes) if axis in axes)
            found = torch.cat(outs, dim)
            assert found.dtype == expected.dtype
            torch.testing.assert_close(found, expected.narrow(dim, 0, sum(lengths)), rtol=1e-10, atol=1e-10)
    with pytest.raises((ValueError, torch.jit.Error), match="is beyond the length of the whole sequence"):
        fed(module, (length, 1), [torch.cat([x, x], dim) if dim else x for x, dim in zip(inputs, along, strict=True)],
            along, told)  # fmt: skip


def found(formula: Formula, graph: Any) -> Recurrence | Again:
    pieces = recurrence(formula, graph)
    made = again(formula, pieces) if isinstance(pieces, Refusal) else pieces
    assert not isinstance(made, Refusal), made.reason
    return made


@pytest.mark.parametrize("name", [*AGAIN, *TOLD])
def test_examples(name: str) -> None:
    formula, plan = parts(name)
    for index, base in enumerate(EXAMPLES[name].bases):
        call = _prepare(name, base, EXAMPLES[name].consts[index % len(EXAMPLES[name].consts)])
        with torch.no_grad():
            check(formula, call.module, found(formula, plan), call.inputs)
            if index == 0 and name in ("nprf_rpe_attention_causal", "sigmoid_attention_causal"):
                check(formula, torch.jit.script(call.module), found(formula, plan), call.inputs)


def draw(formula: Formula, length: int) -> list[Tensor]:
    sizes = {"N": length, "M": length}
    shapes = [[2, *(sizes.get(axis, 3) for axis in node.axes)] for node in formula.inputs]
    return [torch.randn(shape, dtype=torch.float64) for shape in shapes]


@pytest.mark.parametrize("length", [1, 2, 7])
@pytest.mark.parametrize("name", TEXTS)
def test_texts(name: str, length: int) -> None:
    text, by_recurrence = TEXTS[name]
    formula, plan = typed(text)
    for graph in (formula.graph, plan):
        pieces = found(formula, graph)
        assert isinstance(pieces, Recurrence) == by_recurrence
        check(formula, build(formula, graph, dtype=torch.float64), pieces, draw(formula, length))


@pytest.mark.parametrize("name", TEXTS)
def test_gradients(name: str) -> None:
    formula, plan = typed(TEXTS[name][0])
    module, inputs = (
        build(formula, plan, dtype=torch.float64),
        [x.requires_grad_() for x in draw(formula, 5)],
    )
    steps = torch.cat([out for (out,) in fed(module, (2, 1, 2), inputs, [-2] * len(inputs), [5])], -2)
    gradients = [torch.autograd.grad(out.sin().sum(), inputs) for out in (steps, module(*inputs))]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", TEXTS)
def test_a_length_that_is_not_told(name: str) -> None:
    module = attngraph.compile(TEXTS[name][0])
    for wrong in ((), (0,), (-3,)):
        with pytest.raises(ValueError, match=r"f: .*tell init_state how long the whole sequence may become"):
            module.init_state(*wrong)


def test_a_length_that_was_told_is_part_of_the_value() -> None:
    """A longer sequence has other values, from the first position on."""
    formula, plan = typed(TEXTS["a running mean of a fixed count"][0])
    module, [x] = build(formula, plan, dtype=torch.float64), draw(formula, 9)
    out, _ = module.step(module.init_state(9), x[:, :4])
    torch.testing.assert_close(out, module(x)[:, :4])
    assert not torch.allclose(out, module(x[:, :4]))


def test_the_recurrent_form_is_told_the_length_of_its_inputs() -> None:
    text = TEXTS["a scan with an angle"][0]
    inputs = draw(typed(text)[0], 6)
    torch.testing.assert_close(attngraph.compile(text, form="recurrent")(*inputs), attngraph.compile(text)(*inputs))


def test_a_length_that_is_no_whole_number_of_blocks() -> None:
    """Half of it is asked for: the whole sequence is computed again, and says what does not fit."""
    text = X + "    where N = 2 * Y\n    return x * Y\n"
    formula, plan = typed(text)
    module, [x] = build(formula, plan), draw(formula, 6)
    check(formula, module, found(formula, plan), [x])
    with pytest.raises(ValueError, match="is not a whole number for N = 5"):
        module.step(module.init_state(5), x[:, :2])


def test_near_misses() -> None:
    """Of no piece of these can the values be known."""
    for text, reason in (
        (X + "    return x - mean[N](x)\n", "not causal"),
        (QKV + "    return softmax[M](q @ k^T / log(N + 1)) @ v\n", "not causal"),
        ("attention f(a[N, M], v[M, D]) -> [N, D]:\n    where M = N\n"
         f"    return where({SEEN}, a / N, 0) @ v\n", "`a`"),
    ):  # fmt: skip
        formula, plan = typed(text)
        pieces = recurrence(formula, plan)
        if isinstance(pieces, Refusal):
            pieces = again(formula, pieces)
            assert isinstance(pieces, Refusal)
            assert reason in pieces.reason
        else:  # rows of a map are taken, with columns of all positions so far
            assert pieces.told is not None


def test_explain_is_honest() -> None:
    told = attngraph.explain(TEXTS["a scan with an angle"][0])
    assert "for a length that is told to `init_state`" in " ".join(told.split())
    assert "the length of the whole sequence, which is told to `init_state`: []" in " ".join(told.split())
    whole = " ".join(attngraph.explain(TEXTS["an axis of the length"][0]).split())
    assert "every `step` keeps the inputs and computes the whole sequence again, in O(N) time" in whole
    with pytest.raises(attngraph.CompileError, match="no recurrent form: it reads positions that have not come yet"):
        attngraph.compile(TEXTS["an axis of the length"][0], form="recurrent")
