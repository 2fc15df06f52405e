"""A formula with everything that it is called with, and the ways to compute it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import attngraph
from attngraph.compiler.formula import Formula
from attngraph.compiler.graph import Graph
from attngraph.compiler.module import compile as build
from attngraph.compiler.report import Report
from attngraph.compiler.types import Kind
from tests.reference import evaluate

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Draft:
    """A text that holds one formula, and how to call it.

    sizes: of every axis that an input or a parameter carries. batches: leading dimensions of inputs by
    name; none where the name is missing. seed: of the values.
    """

    text: str
    sizes: Mapping[str, int]
    batches: Mapping[str, Shape] = field(default_factory=dict)
    seed: int = 0

    def __str__(self) -> str:
        return f"\n{self.text}\nsizes {dict(self.sizes)}, batches {dict(self.batches)}, seed {self.seed}"

    __repr__ = __str__  # hypothesis prints a failing draft as its text


@dataclass(frozen=True)
class Sample:
    """A checked draft with values for its inputs, parameters and buffers."""

    draft: Draft
    report: Report
    formula: Formula
    plan: Graph
    inputs: Mapping[str, Tensor]
    stored: Mapping[str, Tensor]

    @property
    def graphs(self) -> dict[str, Graph]:
        return {"as written": self.formula.graph, "planned": self.plan}

    def sizes(self) -> dict[str, int]:
        """The size of every axis, those that the plan made included."""
        known: dict[str, float] = {**self.draft.sizes, **self.formula.constants}
        for axis, size in self.formula.derived.items():
            if size.symbols() <= known.keys():
                known.setdefault(axis, size.evaluate(known))
        return {axis: int(size) for axis, size in known.items() if axis not in self.formula.constants}

    def module(self, graph: Graph, target: str = "eager", dtype: torch.dtype = torch.float64) -> nn.Module:
        """The module of a graph, with the sample's parameters and buffers."""
        axes = set(self.formula.fixed)  # others would be examples that export specialises on
        sizes = {axis: size for axis, size in self.draft.sizes.items() if axis in axes}
        module = build(self.formula, graph, sizes=sizes, target=target, dtype=dtype)
        # a wrapper puts a word in front: `_orig_mod.w`
        state = {name.split(".")[-1]: value for name, value in (*module.named_parameters(), *module.named_buffers())}
        with torch.no_grad():
            for name, value in self.stored.items():
                state[name].copy_(value)
        return module

    def reference(self, graph: Graph) -> tuple[Tensor, ...]:
        """The outputs of a graph by the naive interpreter, each over the batch of all inputs together."""
        arrays = {name: tensor.detach().numpy() for name, tensor in {**self.inputs, **self.stored}.items()}
        found = evaluate(graph, arrays, self.sizes(), self.formula.constants)
        return tuple(torch.from_numpy(np.array(array)) for array in found)

    def values(self, module: nn.Module) -> tuple[Tensor, ...]:
        found = module(**self.inputs)
        return found if isinstance(found, tuple) else (found,)

    def gradients(self, module: nn.Module) -> tuple[Tensor, ...]:
        """Of a fixed random combination of all outputs, to every real input and parameter."""
        leaves = {n: t.clone().requires_grad_() if t.is_floating_point() else t for n, t in self.inputs.items()}
        found = module(**leaves)
        outputs = found if isinstance(found, tuple) else (found,)
        wanted = [t for t in leaves.values() if t.requires_grad] + list(module.parameters())
        generator = torch.Generator().manual_seed(self.draft.seed)
        total = torch.zeros((), dtype=torch.float64)
        for output in outputs:
            if not output.requires_grad:
                continue
            shape = output.shape
            weight = torch.randn(shape, generator=generator, dtype=torch.float64)
            parts = torch.view_as_real(output).sum(-1) if output.is_complex() else output
            total = total + (weight * parts).sum()
        if not total.requires_grad or not wanted:
            return ()
        return torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)


def read(draft: Draft) -> Sample:
    """Check a draft and draw its values. A draft with errors fails the test that reads it."""
    report = attngraph.parse(draft.text).report
    assert report.ok, [d.message for d in report.diagnostics]
    formula, plan = report.formula, report.plan
    assert formula is not None
    assert plan is not None
    random = np.random.default_rng(draft.seed)
    inputs = {}
    for node in formula.inputs:
        name = str(node.op.name)  # type: ignore[attr-defined]
        shape = (*draft.batches.get(name, ()), *(draft.sizes[axis] for axis in node.axes))
        inputs[name] = torch.from_numpy(np.asarray(_draw(node.type.kind, shape, random)))
    stored = {}
    for item in (*formula.parameters, *formula.buffers):
        shape = tuple(draft.sizes[axis] for axis in item.node.axes)
        stored[str(item.node.op.name)] = torch.from_numpy(np.asarray(_draw(item.node.type.kind, shape, random)))  # type: ignore[attr-defined]
    return Sample(draft, report, formula, plan, inputs, stored)


def _draw(kind: Kind, shape: Shape, random: np.random.Generator) -> Any:
    match kind:
        case Kind.BOOL:
            return random.random(shape) < 0.6
        case Kind.INT:
            return random.integers(0, 4, shape)
        case Kind.REAL:
            return random.uniform(-1.5, 1.5, shape)
        case Kind.COMPLEX:
            return random.uniform(-1, 1, shape) + 1j * random.uniform(-1, 1, shape)


def is_finite(tensors: tuple[Tensor, ...]) -> bool:
    return all(bool(torch.isfinite(t).all()) for t in tensors)


def assert_means(actual: tuple[Tensor, ...], meaning: tuple[Tensor, ...]) -> None:
    """The module agrees with the naive interpreter; a result may lack batch axes of inputs that it does not read."""
    assert len(actual) == len(meaning)
    assert_close(tuple(mine.expand(theirs.shape) for mine, theirs in zip(actual, meaning, strict=True)), meaning)


def assert_close(
    actual: tuple[Tensor, ...], expected: tuple[Tensor, ...], relative: float = 1e-9, noise: float = 1e-11
) -> None:
    """Equal up to an error that is small beside the largest entry of each tensor; same shapes, dtypes and NaNs."""
    assert len(actual) == len(expected)
    for mine, theirs in zip(actual, expected, strict=True):
        assert mine.shape == theirs.shape
        assert mine.dtype == theirs.dtype
        if mine.numel() == 0:
            continue
        if not (theirs.is_floating_point() or theirs.is_complex()):
            assert torch.equal(mine, theirs)
            continue
        mine, theirs = mine.detach(), theirs.detach()
        finite = theirs[torch.isfinite(theirs)].abs()
        limit = relative * (float(finite.max()) if finite.numel() else 0.0) + noise
        torch.testing.assert_close(mine, theirs, rtol=0.0, atol=limit, equal_nan=True)
