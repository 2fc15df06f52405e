"""Claims of growth, measured: operations and live bytes, counted while every example runs at growing lengths.

Nothing is timed. Each torch operation is seen where it is dispatched: it works as many steps as torch's own counter
says, if that knows it, and as many as it reads and writes elements; what is alive is counted in bytes of storage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from attngraph.compiler.facts.cost import Sequence
from attngraph.compiler.report import Report
from benchmarks.lengths import HELD, at, ratio
from tests.facts.probes import NAMES, example

#: Lengths of all sequence axes. A plan that goes chunk by chunk is dense up to one chunk.
SHORT, LONG = (16, 32, 64, 128), (100, 200, 400, 800)
FEW = 4  # queries of a block
SPARSE = ("prune_leaf_tokens", "sparsifiner_attention", "sparsifiner_scores")  # keep many of the tokens that there are
SLACK = 1.15


class Meter(TorchDispatchMode):
    """steps: of arithmetic and of elements read and written; peak: the most bytes that were alive at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.peak = 0
        self.live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        made = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        counter = flop_registry.get(func._overloadpacket)
        if func is torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default:
            query, key, value = given[:3]
            self.steps += 2 * query[..., 0].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])
        if counter is not None:
            self.steps += counter(*args, **(kwargs or {}), out_val=out)
        storages = {x.untyped_storage()._cdata for x in given}
        fresh = [x for x in made if x.untyped_storage()._cdata not in storages]
        if fresh or counter is not None or func._schema.is_mutable:
            self.steps += sum(x.numel() for x in (*given, *made))
        for tensor in fresh:
            storage = tensor.untyped_storage()
            self.live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.live = {key: held for key, held in self.live.items() if not held[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.live.values()))
        return out


@dataclass(frozen=True)
class Run:
    """What was counted, and the sizes of the axes that grow."""

    steps: int
    peak: int
    sizes: Mapping[str, int]


def run(report: Report, length: int) -> Run:
    """One call with every free sequence axis near a length, and as few of everything else as the formula allows."""
    call = at(report, length)
    scope = type(call.module).forward.__globals__
    if "rows_of_block" in scope:  # a block of queries is shorter than the lengths that are counted
        scope["rows_of_block"] = lambda x: FEW
    with torch.no_grad():
        call.module(*call.inputs)  # what is made once and kept
        with Meter() as meter:
            call.module(*call.inputs)
    return Run(meter.steps, meter.peak, call.sizes)


def lengths(report: Report) -> tuple[int, ...]:
    assert report.formula is not None
    assert report.compiled is not None
    return LONG if Sequence(report.formula).is_linear(report.compiled.time) or report.name in SPARSE else SHORT


@pytest.mark.parametrize("name", NAMES)
def test_work_and_memory_grow_as_claimed(name: str) -> None:
    """Between the two longest of four lengths, where lower terms count least. Twice as many tokens: linear is 2."""
    report = example(name)
    assert report.compiled is not None
    runs = [run(report, length) for length in lengths(report)]
    before, after = runs[-2:]
    claimed = ratio(report.compiled.time_order, before.sizes, after.sizes)
    assert after.steps / before.steps <= claimed * SLACK, [each.steps for each in runs]
    assert after.steps / before.steps >= 1 + (claimed - 1) * 0.35, [each.steps for each in runs]
    if name not in HELD:
        most = ratio(report.compiled.memory_order, before.sizes, after.sizes)
        assert after.peak / before.peak <= most * SLACK, [each.peak for each in runs]
    work = [each.steps for each in runs]
    assert work == sorted(work)


@pytest.mark.parametrize(
    ("name", "steps", "peak"),
    [
        ("linear_attention", 2, 2),
        ("pavlovian_attention", 2, 2),
        ("unified_token_mixing_conv", 2, 2),
        ("softmax_attention", 4, 2),
        ("sigmoid_attention", 4, 2),
        ("karat_full", 8, 4),
    ],
)
def test_what_is_measured_tells_orders_apart(name: str, steps: float, peak: float) -> None:
    """For twice the tokens: linear 2, quadratic 4, cubic 8."""
    report = example(name)
    before, after = (run(report, length) for length in lengths(report)[-2:])
    assert after.steps / before.steps == pytest.approx(steps, rel=0.3)
    assert after.peak / before.peak == pytest.approx(peak, rel=0.3)


def test_a_text_as_written_is_measured_to_be_quadratic() -> None:
    """The same formula without its plan: were the claim read off the text, it would be wrong, and the meter says so."""
    report = example("linear_attention")
    assert report.formula is not None
    literal = replace(report, plan=report.formula.graph)
    before, after = (run(literal, length) for length in SHORT[-2:])
    assert after.steps / before.steps > 3
    assert after.peak / before.peak > 3
