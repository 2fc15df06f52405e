"""A formula built twice: by its plan, and densely, as it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

import attngraph
from attngraph.compiler.formula import Formula
from attngraph.compiler.graph import Graph
from attngraph.compiler.module import compile as build
from attngraph.compiler.report import Report

from .formulas import Case


@cache
def checked(text: str) -> Report:
    """The report of a formula without errors."""
    report = attngraph.check(text)
    assert report.ok, [d.message for d in report.diagnostics]
    return report


def parts(text: str) -> tuple[Formula, Graph, Graph]:
    """The typed formula, its graph as written, and its plan."""
    report = checked(text)
    assert report.formula is not None
    assert report.plan is not None
    return report.formula, report.formula.graph, report.plan


def kernels(plan: Graph) -> tuple[str, ...]:
    """The kernels that a plan calls, in order."""
    found = (getattr(node.op, "kernel", "") for node in plan.nodes())
    return tuple(str(kernel) for kernel in found if kernel)


@dataclass(frozen=True)
class Pair:
    """The module of the plan and that of the formula as written, with equal parameters."""

    planned: nn.Module
    dense: nn.Module


def pair(text: str, sizes: Mapping[str, int] | None = None, target: str = "eager") -> Pair:
    """Both modules in float64. target: that of the planned one."""
    formula, written, plan = parts(text)
    planned = build(formula, plan, sizes=sizes, target=target, dtype=torch.float64)
    dense = build(formula, written, sizes=sizes, dtype=torch.float64)
    stored = {name.removeprefix("module."): value for name, value in planned.state_dict().items()}
    dense.load_state_dict({name: value for name, value in stored.items() if name in dense.state_dict()})
    return Pair(planned, dense)


def draw(
    case: Case,
    sizes: Mapping[str, int],
    batch: tuple[int, ...] = (),
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> tuple[Tensor, ...]:
    """One tensor per input; gates are logarithms of numbers in (0, 1)."""
    formula, _, _ = parts(case.text)
    random = torch.Generator().manual_seed(seed)
    found: list[Tensor] = []
    for node in formula.inputs:
        shape = (*batch, *(sizes[axis] for axis in node.axes))
        value = torch.randn(shape, generator=random, dtype=torch.float64)
        name = node.op.name  # type: ignore[attr-defined]
        if name in case.negative:
            value = -value.abs() / 4
        elif name in case.positive:
            value = value.abs() / 4
        found.append(value.to(dtype).requires_grad_())
    return tuple(found)


def all_sizes(case: Case, n: int, m: int | None = None, d: int = 4, e: int = 3, h: int = 2) -> dict[str, int]:
    """The sizes of every axis. m: that of M where it is free."""
    return {
        "N": n,
        "M": n if case.tied or m is None else m,
        "D": d,
        "E": e,
        "H": h,
        "L": 2 * n - 1,
        **dict(case.sizes),
    }


def fixed(case: Case, sizes: Mapping[str, int]) -> dict[str, int]:
    """The sizes that must be known when a module is built."""
    formula, _, _ = parts(case.text)
    return {axis: sizes[axis] for axis in formula.fixed if axis in sizes}


def close(actual: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """Equal up to the tolerance, relative to the largest expected entry (at least 1)."""
    assert actual.shape == expected.shape, what
    assert torch.isfinite(expected).all(), what
    limit = tolerance * max(1.0, expected.abs().max().item() if expected.numel() else 1.0)
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=limit, msg=lambda text: f"{what}: {text}")


def same_values_and_gradients(both: Pair, inputs: tuple[Tensor, ...], tolerance: float = 1e-10) -> None:
    """Both modules agree on the value and on the gradient of every input and parameter."""
    actual, expected = both.planned(*inputs), both.dense(*inputs)
    close(actual, expected, tolerance, "value")
    random = torch.Generator().manual_seed(1)
    cotangent = torch.randn(expected.shape, generator=random, dtype=expected.dtype)
    names = [name for name, _ in both.dense.named_parameters()]
    gradients = []
    for module, value in ((both.planned, actual), (both.dense, expected)):
        parameters = {name.removeprefix("module."): value for name, value in module.named_parameters()}
        leaves = [*inputs, *(parameters[name] for name in names)]
        gradients.append(
            torch.autograd.grad((value * cotangent).sum(), leaves, allow_unused=True, materialize_grads=True)
        )
    for index, (ours, theirs) in enumerate(zip(*gradients, strict=True)):
        close(ours, theirs, tolerance * 10, f"gradient {index}")
