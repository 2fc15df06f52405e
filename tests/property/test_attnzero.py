"""AttnZero's search space (Li et al., ECCV 2024): every member that runs is a formula, and the checker tells the truth of it."""

from __future__ import annotations

import random
from functools import cache

import pytest
import torch
from torch import Tensor, nn

import attngraph
from attngraph.compiler.forms import account
from attngraph.compiler.ops.leaves import Input
from attngraph.compiler.report import Report
from tests.examples.references import attnzero

from .attnzero_text import Config, Misfit, Written, sampled, written

Inputs = tuple[Tensor, Tensor, Tensor]
SIZES = {"B": 5, "H": 3, "N": 7, "D": 11}  # different, and unlike what concatenation makes of axes of length 1
MEMBERS = 30
#: How many of a member's values may be infinite or NaN is its own affair; rounding is relative to the largest finite one.
TOLERANCE = 1e-9


def drawn(seed: int = 0, **sizes: int) -> Inputs:
    torch.manual_seed(seed)
    shape = tuple({**SIZES, **sizes}.values())
    q, k, v = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(3))
    return q, k, v


def released(config: Config, at: Written, inputs: Inputs) -> Tensor:
    """What the released graph computes, without its axes of length 1."""
    out = attnzero.run_config(config, *inputs)
    assert out.dim() == len(at.at)
    return out.reshape([size for size, axis in zip(out.shape, at.at, strict=True) if axis])


def repeats_at_most_once(config: Config) -> bool:
    """Every `repeat` makes a value 192 times as large."""
    return sum(operators.count(24) for operators in config.unary) <= 1


@cache
def member(seed: int) -> tuple[Config, Written]:
    """A configuration that runs."""
    choose = random.Random(seed)
    while True:
        config = sampled(choose)
        try:
            found = written(config)
        except Misfit:
            continue
        if repeats_at_most_once(config):
            return config, found


@cache
def checked(text: str) -> Report:
    report = attngraph.parse(text).report
    assert report.ok, [d.message for d in report.diagnostics]
    return report


@cache
def module(text: str) -> nn.Module:
    return attngraph.compile(text).double()


def close(actual: Tensor, expected: Tensor, scale: float = 0.0) -> None:
    finite = expected[torch.isfinite(expected)].abs()
    limit = TOLERANCE * max(scale, finite.max().item() if finite.numel() else 0.0) + 1e-12
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=limit, equal_nan=True)


def gradients(out: Tensor, inputs: Inputs, cotangent: Tensor) -> tuple[Tensor, ...]:
    if not out.requires_grad:
        return tuple(map(torch.zeros_like, inputs))
    return torch.autograd.grad((out * cotangent).sum(), inputs, allow_unused=True, materialize_grads=True)


def dead(report: Report) -> set[str]:
    """The inputs that are said to have no influence or no gradient."""
    assert report.formula is not None
    found = account(report)
    assert found is not None
    used = {node.op.name for node in report.formula.graph.nodes() if isinstance(node.op, Input)}
    return (set("qkv") - used) | {*found.without_gradient, *found.cancelled, *found.guarded}


# -- the published members ---------------------------------------------------------------------------------

DEAD = {
    "attnzero_174": "k", "attnzero_25": "k", "attnzero_272": "k", "attnzero_40": "kv", "attnzero_76": "kv",
    "attnzero_80": "qk", "attnzero_bench_pvt_c100": "kv",
}  # fmt: skip
#: What is left of a released graph where no epsilon acts: the last line of its simplified text.
REDUCED = {
    "attnzero_40": ["return q"],
    "attnzero_80": ["return x6", "x6 = v / sqrt(D)"],
    "attnzero_174": ["return x12", "x12 = q + x11", "x11 = x10 / sum[D](x10)", "x10 = l2_normalize[N](x3)", "x3 = sigmoid(-v)"],
    "attnzero_bench_pvt_c100": ["return x11", "x11 = x9 + x10", "x10 = -B", "x9 = elu(q) + 1"],
}  # fmt: skip


@pytest.mark.parametrize("name", attnzero.CONFIGS)
def test_released_graph_in_the_language(name: str) -> None:
    """The numbered operators, written out, compute what the short formula computes; the checker finds the dead inputs."""
    found = written(attnzero.CONFIGS[name])
    inputs = drawn()
    with torch.no_grad():
        close(module(found.text)(*inputs), getattr(attnzero, name)(*inputs))
    assert dead(checked(found.text)) == set(DEAD.get(name, ""))
    stray = {"attnzero_20": (None, "B", "H", "N", "D"), "attnzero_40": ("B", "H", "N", "D", None)}
    shape = stray.get(name, ("B", "H", "N", "D"))
    assert [axis and found.sizes[axis] for axis in found.at] == [axis and found.sizes[axis] for axis in shape]


@pytest.mark.parametrize("name", REDUCED)
def test_released_graph_reduces(name: str) -> None:
    lines = attngraph.simplify(written(attnzero.CONFIGS[name]).text, guards=True).text.strip().splitlines()[1:]
    assert sorted(line.strip() for line in lines) == sorted(REDUCED[name])


@pytest.mark.parametrize("name", attnzero.CONFIGS)
def test_matrix_products_of_the_released_graph(name: str) -> None:
    """Four of them have one that counts; that of trial 40 is computed and thrown away."""
    compiled = checked(written(attnzero.CONFIGS[name]).text).compiled
    assert compiled is not None
    products = {"attnzero_105", "attnzero_140", "attnzero_240", "attnzero_272"}
    assert ("D^2*H*N" in str(compiled.time)) is (name in products)


def _row(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


def _tok(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=-2)


def _flipped_140(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = torch.sigmoid((torch.nn.functional.elu(k) + 1).mT @ v / q.shape[-1] ** 0.5)
    return _tok(q) + _row(v.abs().mT @ s)


def _flipped_240(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    softsign = torch.nn.functional.softsign
    p = _tok(q + _tok(torch.sigmoid(k.clamp(min=0)) + softsign(v)))
    return p.mT @ _tok(v.mT @ p)


def _flipped_272(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = torch.sign(v.mT @ k.abs().log())
    return torch.nn.functional.softsign(q) + torch.softmax(v.mT @ s, -1)


@pytest.mark.parametrize("name", attnzero.CONFIGS)
def test_as_many_tokens_as_features(name: str) -> None:
    """The released products go by shapes, so three graphs are other functions there; the formulas go by names."""
    flipped = {"attnzero_140": _flipped_140, "attnzero_240": _flipped_240, "attnzero_272": _flipped_272}
    inputs = drawn(N=6, D=6)
    with torch.no_grad():
        out = attnzero.run_config(attnzero.CONFIGS[name], *inputs)
        ours = module(written(attnzero.CONFIGS[name]).text)(*inputs)
        close(ours, getattr(attnzero, name)(*inputs))
        close(out.reshape(ours.shape), flipped.get(name, getattr(attnzero, name))(*inputs))
        assert bool((out.reshape(ours.shape) - ours).abs().max() > 1e-3) is (name in flipped)


# -- members at random -------------------------------------------------------------------------------------


def test_what_fits_by_name_is_what_runs() -> None:
    """A graph of operators can be written exactly where the released one does not raise."""
    choose, inputs = random.Random(0), tuple(x.detach() for x in drawn())
    verdicts = {True: 0, False: 0}
    for config in filter(repeats_at_most_once, (sampled(choose) for _ in range(1500))):
        try:
            attnzero.run_config(config, *inputs)
            runs = True
        except (RuntimeError, ValueError, IndexError):
            runs = False
        try:
            written(config)
        except Misfit:
            assert not runs, config
        else:
            assert runs, config
        verdicts[runs] += 1
    assert min(verdicts.values()) > 30


@pytest.mark.parametrize("seed", range(MEMBERS))
def test_member_computes_what_is_released(seed: int) -> None:
    """Values and gradients, infinities and NaN included, for a batch and for one sample."""
    config, found = member(seed)
    compiled = module(found.text)
    for sizes in ({}, {"B": 1, "H": 2}):
        inputs = drawn(seed, **sizes)
        expected, actual = released(config, found, inputs), compiled(*inputs)
        close(actual.detach(), expected.detach())
        cotangent = torch.randn_like(expected)
        try:
            theirs = gradients(expected, inputs, cotangent)
        except RuntimeError as error:
            if "inplace" not in str(error):
                raise
            continue  # it changes in place what its own gradient needs
        ours = gradients(actual, inputs, cotangent)
        scale = max((x[torch.isfinite(x)].abs().max().item() for x in theirs if torch.isfinite(x).any()), default=0.0)
        for mine, other in zip(ours, theirs, strict=True):
            both = torch.isfinite(mine) & torch.isfinite(other)
            close(mine[both], other[both], max(1.0, scale))
            if torch.isfinite(expected).all():
                assert torch.isfinite(mine[torch.isfinite(other)]).all(), "a gradient of ours that is no number"


@pytest.mark.parametrize("seed", range(MEMBERS))
def test_the_checker_tells_the_truth(seed: int) -> None:
    """What it does not accuse of mixing samples, of counting them, or of mixing tokens, does not; dead inputs are dead."""
    _, found = member(seed)
    report, compiled = checked(found.text), module(found.text)
    said = account(report)
    assert said is not None
    codes = {diagnostic.code for diagnostic in report.diagnostics}
    inputs = drawn(seed)
    axes = [axis for axis in found.at if axis]
    with torch.no_grad():
        whole = compiled(*inputs)
        if "B" in axes and "AG511" not in codes:
            at = axes.index("B")
            others = compiled(*(torch.cat([x[:1], x[1:] + 1]) for x in inputs))
            close(others.select(at, 0), whole.select(at, 0))
            if "AG512" not in codes:
                doubled = compiled(*(torch.cat([x, x]) for x in inputs))
                close(doubled.narrow(at, 0, SIZES["B"]), whole)
        if "N" in axes and not said.mixing:
            at = axes.index("N")
            others = compiled(*(torch.cat([x[..., :1, :], x[..., 1:, :] + 1], dim=-2) for x in inputs))
            close(others.select(at, 0), whole.select(at, 0))
    if not torch.isfinite(whole).all():
        return
    found_gradients = gradients(compiled(*inputs), inputs, torch.randn_like(whole))
    largest = max(1.0, *(x.abs().max().item() for x in found_gradients))
    for name, gradient in zip("qkv", found_gradients, strict=True):
        if name in dead(report):
            assert gradient.abs().max() <= 1e-9 * largest, name
