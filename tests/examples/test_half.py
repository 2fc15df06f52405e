"""Every example in bfloat16 and under autocast: no less exact than its text as written, in values, gradients and steps.

Both are compared with float64 on the same rounded inputs and parameters. The text as written, operation by operation,
shows what half precision makes of a formula that nobody rearranged; a plan may have four times its error, since which
way single roundings fall is chance, and four units in the last place of the largest value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from attngraph.compiler.module import compile as build
from attngraph.compiler.recurrence import Recurrence, recurrence
from tests.facts.probes import NAMES, call, example
from tests.recurrence.harness import cut, in_pieces, length, splits

HALF = torch.bfloat16
FACTOR, UNITS = 4.0, 4.0
#: Where a rounding decides what is chosen, and two evaluations may choose differently.
CHOSEN = {
    "karat_full": "which keys have a weight in the projection to the simplex",
}
#: Where half precision has no digits left, whoever computes: exact values are beyond its range.
BEYOND = {"fod_rbf_target"}


def _cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    return deepcopy(module).to(dtype)


def _inputs(inputs: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    found = []
    for x in inputs:
        x = x.detach()
        if x.is_complex():
            x = x.to(torch.complex128 if dtype is torch.float64 else torch.complex64)
        elif x.is_floating_point():
            x = x.to(dtype)
        found.append(x.requires_grad_(x.is_floating_point() or x.is_complex()))
    return found


def _results(
    module: nn.Module, inputs: list[Tensor], weights: list[Tensor], *, autocast: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """The results, and the gradients of their weighted sum."""
    with torch.autocast("cpu", HALF, enabled=autocast):
        out = module(*inputs)
    results = list(out) if isinstance(out, tuple) else [out]
    if not weights:
        weights += [torch.randn(x.shape, dtype=torch.float64).to(HALF).double() for x in results]
    terms = [(x * w.to(x.dtype)).sum().real for x, w in zip(results, weights, strict=True) if x.requires_grad]
    leaves = [x for x in (*inputs, *module.parameters()) if x.requires_grad]
    if terms:
        total = torch.stack(terms).sum()
        return [x.detach() for x in results], [*torch.autograd.grad(total, leaves, materialize_grads=True)]
    return results, []


def _errors(actual: Sequence[Tensor], expected: Sequence[Tensor], least: float) -> list[float]:
    """The largest error of each tensor, relative to its largest value, or to a part of that of all of them.

    A gradient that is 0 in exact arithmetic, as of a shift that a softmax does not see, is a difference of others.
    """
    tops = [x.abs().nan_to_num(0.0, 0.0, 0.0).max().item() if x.numel() else 0.0 for x in expected]
    found = []
    for ours, theirs, top in zip(actual, expected, tops, strict=True):
        assert ours.shape == theirs.shape
        finite = torch.isfinite(theirs)
        difference = (ours.to(theirs.dtype) - theirs)[finite].abs()
        scale = max(top, least * max(tops))
        worst = difference.max().item() if difference.numel() else 0.0
        found.append(worst / scale if scale else worst)
    return found


def _compare(
    what: str, ours: Sequence[Tensor], literal: Sequence[Tensor], exact: Sequence[Tensor], least: float = 0.0
) -> None:
    """No error is beyond the largest of the text by more than `FACTOR` and `UNITS`, where that is finite."""
    mine, theirs = _errors(ours, exact, least), max(_errors(literal, exact, least), default=0.0)
    limit = FACTOR * theirs + UNITS * torch.finfo(HALF).eps
    shown = f"{what}: {mine}, as written at most {theirs:.3g}"
    assert not math.isfinite(theirs) or all(error <= limit for error in mine), shown


# torch says that its fused rms_norm takes no gain of another dtype under autocast, of torch.nn.RMSNorm too.
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
@pytest.mark.parametrize("name", [name for name in NAMES if name not in CHOSEN])
def test_half_precision(name: str) -> None:
    given, report = call.__wrapped__(name), example(name)  # drawn anew: the same, whatever ran before
    formula = report.formula
    assert formula is not None
    assert report.plan is not None
    sizes = {axis: size for axis, size in vars(given.module).items() if axis in formula.fixed}
    written = build(formula, formula.graph, sizes=sizes, consts=given.consts, dtype=torch.float64)
    written.load_state_dict(given.module.state_dict())
    kinds = [node.type.kind for node in formula.graph.outputs]

    half = _cast(given.module, HALF)
    inputs = _inputs(given.inputs, HALF)
    weights: list[Tensor] = []
    exact = _results(_cast(half, torch.float64), _inputs(inputs, torch.float64), weights)
    ours = _results(half, inputs, weights)
    literal = _results(_cast(written, HALF), _inputs(inputs, HALF), weights)
    for kind, ours_, literal_ in zip(kinds, ours[0], literal[0], strict=True):
        assert ours_.dtype == literal_.dtype
        assert kind.value != "real" or ours_.dtype == HALF
    if name not in BEYOND:
        _compare("value", ours[0], literal[0], exact[0])
        _compare("gradient", ours[1], literal[1], exact[1], 0.1)
        pieces = recurrence(formula, report.plan)
        if isinstance(pieces, Recurrence):
            _check_steps(half, pieces, name, inputs, literal[0], exact[0])

    single = _cast(given.module, torch.float32)
    wide = _inputs(inputs, torch.float32)
    exact = _results(_cast(single, torch.float64), _inputs(wide, torch.float64), weights)
    ours = _results(single, wide, weights, autocast=True)
    literal = _results(_cast(written, torch.float32), _inputs(wide, torch.float32), weights, autocast=True)
    _compare("value under autocast", ours[0], literal[0], exact[0])
    _compare("gradient under autocast", ours[1], literal[1], exact[1], 0.1)


def _check_steps(
    half: nn.Module, pieces: Recurrence, name: str, inputs: list[Tensor], literal: list[Tensor], exact: list[Tensor]
) -> None:
    """Position by position: the dtypes of the whole sequence, and its precision."""
    formula, outputs = example(name).formula, pieces.graph.outputs
    assert formula is not None
    tops = [x.abs().max().item() for x in exact]
    errors = [(x.to(y.dtype) - y).abs().max().item() for x, y in zip(literal, exact, strict=True)]
    limits = [FACTOR * e + UNITS * torch.finfo(HALF).eps * top for e, top in zip(errors, tops, strict=True)]
    lengths = splits(length(formula, pieces, inputs))[-1]
    with torch.no_grad():
        for start, stop, outs, _ in in_pieces(half, formula, pieces, inputs, lengths):
            for node, out, whole, true, limit in zip(outputs, outs, literal, exact, limits, strict=True):
                assert out.dtype == whole.dtype
                wanted = cut(node, true, pieces, start, stop)
                error = (out.to(wanted.dtype) - wanted).abs().max().item()
                assert not error > limit, f"step {start}: {error:.3g} of {limit:.3g}"
