"""FlexAttention: what changes scores becomes functions of positions; values, gradients, and where it must decline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attngraph
from attngraph.compiler.emit import emit
from attngraph.compiler.graph import Graph
from attngraph.compiler.loader import load_class
from attngraph.compiler.lowerings.flex import FlexSoftmax, flexible, with_flex
from attngraph.compiler.lowerings.fused import FusedSoftmax
from attngraph.compiler.module import compile as build

from .harness import close, parts

HEAD = "attention f(q[H, N, D], k[H, M, D], v[H, M, E]{}) -> [H, N, E]:\n"
TIED = HEAD + "    where M = N\n"
# texts, the further inputs in words, and whether the changes read tensors
TEXTS: dict[str, tuple[str, tuple[str, ...], bool]] = {
    "distance": (
        TIED.format("") + "    return softmax[M](q @ k^T / sqrt(D) - 0.1 * abs(pos(N) - pos(M))) @ v\n", (), False
    ),
    "mask and distance": (
        TIED.format("") + "    lag = pos(N) - pos(M)\n"
        "    return softmax[M](where(lag >= 0, q @ k^T / sqrt(D) - 0.5 * lag, -inf)) @ v\n",
        (),
        False,
    ),
    "mask of two lengths": (
        HEAD.format("") + "    return softmax[M](q @ k^T, mask=pos(M) <= 2 * pos(N) + 1) @ v\n", (), False
    ),
    "a row that sees nothing": (
        HEAD.format("") + "    return softmax[M](q @ k^T, mask=pos(M) + 2 < pos(N)) @ v\n", (), False
    ),
    "slopes of heads": (
        TIED.format("") + "    slope = 2^(-8 * (pos(H) + 1) / H)\n"
        "    return softmax[M](q @ k^T / sqrt(D) - slope * abs(pos(N) - pos(M))) @ v\n",
        (),
        True,
    ),
    "two biases": (
        HEAD.format(", g[M], f[N, D]") + "    u = sum[D](f)\n"
        "    return softmax[M](q @ k^T / sqrt(D) + g * u + 0.1 * abs(pos(N) - pos(M))) @ v\n",
        ("M", "N D"),
        True,
    ),
    "documents": (
        TIED.format(", d[N] int") + "    e = d[N -> M]\n    return softmax[M](q @ k^T, mask=d == e) @ v\n",
        ("N int",),
        True,
    ),
}
CASES = pytest.mark.parametrize("name", TEXTS)
SIZES = ((7, 5), (1, 1), (4, 4), (64, 64), (131, 70))


def flexed(text: str) -> Graph:
    formula, _, plan = parts(text)
    return with_flex(plan, formula.builder)


def module(text: str, everywhere: bool) -> nn.Module:
    """The module, run by Python. everywhere: FlexAttention where a CPU would have a matrix; eager torch takes all."""
    formula, _, plan = parts(text)
    generated = emit(formula, flexed(text), at_once=True, stepped=plan)
    if not everywhere:
        return load_class(generated)()
    condition = 'query.device.type == "cpu" and '
    assert condition in generated.source
    return load_class(replace(generated, source=generated.source.replace(condition, "False and ")))()


def draw(name: str, n: int, m: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    text, further, _ = TEXTS[name]
    m = n if "where M = N" in text else m
    sizes = {"N": n, "M": m, "D": 4}
    found = [torch.randn(2, 3, *shape, dtype=dtype) for shape in ((n, 4), (m, 4), (m, 5))]
    for axes in further:
        shape = [sizes[axis] for axis in axes.split() if axis in sizes]
        whole = "int" in axes
        found.append(torch.arange(n).expand(2, n) // 3 if whole else torch.randn(2, *shape, dtype=dtype))
    return tuple(found)


@CASES
def test_what_is_found(name: str) -> None:
    text, _, reads = TEXTS[name]
    [op] = [node for node in flexed(text).nodes() if isinstance(node.op, FusedSoftmax)]
    assert isinstance(op.op, FlexSoftmax)
    tensors = [node for node in op.inputs[3:] if node.axes]
    assert bool(tensors) == reads
    assert all(not {"N", "M"} <= set(node.axes) for node in tensors), "a matrix is left"


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@CASES
@pytest.mark.parametrize("everywhere", [False, True], ids=["as on a CPU", "FlexAttention"])
def test_values(name: str, everywhere: bool) -> None:
    text, _, _ = TEXTS[name]
    formula, written, _ = parts(text)
    dense, made = build(formula, written), module(text, everywhere)
    with torch.no_grad():
        for n, m in SIZES[:3] if everywhere else SIZES:
            inputs = draw(name, n, m, torch.float64)
            close(made(*inputs), dense(*inputs), 1e-10, f"{name} at {n}, {m}")


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@CASES
def test_gradients(name: str) -> None:
    text, _, _ = TEXTS[name]
    formula, written, plan = parts(text)
    inputs = [x.requires_grad_(x.is_floating_point()) for x in draw(name, 9, 7, torch.float64)]
    real = [x for x in inputs if x.requires_grad]
    modules = (build(formula, written), build(formula, plan), module(text, False))
    gradients = [torch.autograd.grad(each(*inputs).square().sum(), real) for each in modules]
    for expected, fused, found in zip(*gradients, strict=True):
        close(fused, expected, 1e-9, f"{name}, with a matrix")
        close(found, expected, 1e-9, name)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_single_precision_takes_flex_attention_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without gradients, and where the changes read no tensor; otherwise a matrix."""
    from torch.nn.attention import flex_attention as library

    calls = []

    def counted(*arguments: Any, **keywords: Any) -> Any:
        calls.append(keywords["score_mod"])
        return original(*arguments, **keywords)

    original = library.flex_attention
    monkeypatch.setattr(library, "flex_attention", counted)
    for name, taken in (("mask and distance", 1), ("slopes of heads", 0)):
        calls.clear()
        inputs = draw(name, 9, 9, torch.float32)
        formula, written, _ = parts(TEXTS[name][0])
        made, dense = module(TEXTS[name][0], False), build(formula, written)
        with torch.no_grad():
            close(made(*inputs), dense(*inputs), 1e-5, name)
        assert len(calls) == taken
        calls.clear()
        made(*(x.requires_grad_() for x in inputs))
        assert not calls


NEAR = {
    "a matrix is given": HEAD.format(", b[N, M]") + "    return softmax[M](q @ k^T + b) @ v\n",
    "a mask is given": HEAD.format(", b[N, M] bool") + "    return softmax[M](q @ k^T, mask=b) @ v\n",
    "another contraction": HEAD.format(", r[N, D], s[M, D]") + "    return softmax[M](q @ k^T + r @ s^T) @ v\n",
    "sums along keys": TIED.format("") + "    c = cumsum[M](0.1 * abs(pos(N) - pos(M)))\n"
    "    return softmax[M](q @ k^T + c) @ v\n",
    "nothing changes": HEAD.format("") + "    return softmax[M](q @ k^T / sqrt(D)) @ v\n",
    "causal, which torch has": TIED.format("") + "    return softmax[M](q @ k^T, mask=pos(N) >= pos(M)) @ v\n",
}


@pytest.mark.parametrize("name", NEAR)
def test_near_misses(name: str) -> None:
    formula, _, plan = parts(NEAR[name])
    fused = [node for node in plan.nodes() if isinstance(node.op, FusedSoftmax)]
    assert fused, "the near miss is one of FlexAttention, not of fused attention"
    assert all(isinstance(flexible(node.op, node.inputs, formula.builder), str) for node in fused)
    assert with_flex(plan, formula.builder).outputs == plan.outputs


def test_step_goes_on_as_planned() -> None:
    """Positions of a piece begin where the one before ended; the functions of FlexAttention count from 0."""
    text, _, _ = TEXTS["mask and distance"]
    made: Any = module(text, False)
    q, k, v = draw("mask and distance", 9, 9, torch.float64)
    whole, state, pieces = made(q, k, v), made.init_state(), []
    for part in (slice(0, 4), slice(4, 5), slice(5, 9)):
        piece, state = made.step(state, q[..., part, :], k[..., part, :], v[..., part, :])
        pieces.append(piece)
    close(torch.cat(pieces, -2), whole, 1e-10, "pieces")


def test_the_target() -> None:
    text, _, _ = TEXTS["mask and distance"]
    made: Any = attngraph.compile(text, target="flex")
    [note] = made.notes
    assert note.startswith("flexible softmax: FlexAttention computes changes of scores and masks where they are used")
    [note] = attngraph.compile(text, target="inductor").notes
    assert str(note).startswith("blocks of queries: all queries at once instead of a loop over blocks of them")
    assert "flexible_attention" not in attngraph.compile(text).source  # type: ignore[operator]
