"""Claims of growth, measured: operations by torch's counter, and the peak of live tensors, at growing lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode

from attngraph.compiler.emit.arguments import constructor_arguments
from attngraph.compiler.emit.settle import plan_sizes
from attngraph.compiler.example import example_inputs
from attngraph.compiler.facts.cost import Sequence
from attngraph.compiler.module import compile as build
from attngraph.compiler.pipeline import check_source
from attngraph.compiler.report import Report
from attngraph.compiler.sizes import Poly
from attngraph.grammar.source import Source
from benchmarks import examples

LENGTHS = (140, 280, 560, 1120)
BATCH = 3  # of example inputs
SIZES: Mapping[str, Mapping[str, int]] = {
    "contmix": {"G": 1},
    "gated_cnn": {"Cc": 2, "F": 6},
    "mote_gates": {"J": 8},
    "mixture_of_tunable_experts": {"J": 8},
}


class Live(TorchDispatchMode):
    """The largest number of bytes of tensors, made inside, that lived at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {x.untyped_storage()._cdata for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)}
        for tensor in tree_flatten(out)[0]:
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in given:
                storage = tensor.untyped_storage()
                self.storages[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.storages = {key: held for key, held in self.storages.items() if not held[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.storages.values()))
        return out


def _linear_examples() -> list[Report]:
    found = []
    for path in examples.FILES:
        for report in check_source(Source(str(path), path.read_text(encoding="utf-8"), path.parent)):
            if any(verdict.text == "linear" and verdict.holds for verdict in report.verdicts):
                found.append(report)
    return found


EXAMPLES = _linear_examples()


def _inputs(report: Report, length: int) -> tuple[dict[str, int], tuple[Tensor, ...]]:
    """Sizes at which every free sequence axis has this length, and inputs of them, with a batch of 3."""
    formula = report.formula
    assert formula is not None
    settled = plan_sizes(formula)
    grown = dict.fromkeys(sorted(Sequence(formula).names), length)
    given = {axis: grown[axis] for axis in (*formula.fixed, *formula.bound) if axis in grown}
    chosen = {axis: 4 for axis in settled.given if axis not in given and axis not in formula.derived}
    sizes, constants = constructor_arguments(formula, settled, {**chosen, **given, **SIZES.get(report.name, {})})
    return sizes, example_inputs(formula, sizes, constants)


@dataclass(frozen=True)
class Run:
    """flops: operations of contractions; peak: bytes of live tensors; inputs: elements of the largest input."""

    flops: int
    peak: int
    inputs: int
    claimed_flops: float
    claimed_bytes: float


def _run(report: Report, length: int) -> Run:
    assert report.formula is not None
    assert report.plan is not None
    assert report.compiled is not None
    sizes, inputs = _inputs(report, length)
    module = build(report.formula, report.plan, sizes=sizes)
    with torch.no_grad():
        module(*inputs)
        with FlopCounterMode(display=False) as counter:
            module(*inputs)
        with Live() as live:
            module(*inputs)
    values = {**report.formula.constants, **sizes}
    for node, tensor in zip(report.formula.inputs, inputs, strict=True):
        values.update(zip(node.axes, tensor.shape[tensor.dim() - len(node.axes) :], strict=True))
    canonical = report.formula.facts.canonical

    def claimed(size: Poly) -> float:
        return canonical(size).evaluate(values)

    return Run(
        counter.get_total_flops(),
        live.peak,
        max(x.numel() for x in inputs),
        claimed(report.compiled.time) * BATCH,
        max(map(claimed, report.compiled.memory)) * BATCH * 4,
    )


@pytest.mark.parametrize("report", EXAMPLES, ids=lambda report: report.name)
def test_examples_that_claim_to_be_linear(report: Report) -> None:
    runs = [_run(report, length) for length in LENGTHS]
    for r in runs: print(report.name, 'XX', f"{r.flops/r.claimed_flops:.2f} {r.peak/r.claimed_bytes:.2f}  growth {r.flops/max(1,runs[0].flops):.1f} {r.peak/runs[0].peak:.1f} {r.inputs/runs[0].inputs:.1f}")
