"""Generated modules stay on the device of their inputs and never wait for it, which a machine without a GPU can show.

A fake tensor has a shape, a dtype and a device, and no values. An operation on tensors of two devices raises, as it
does on a GPU, and so does what would bring a value back to the processor: `item`, `bool`, shapes that depend on values.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorDeviceMismatchError, FakeTensorMode

from attngraph.compiler import module as module_of_formula
from attngraph.compiler.again import again
from attngraph.compiler.formula import Formula
from attngraph.compiler.graph import Graph
from attngraph.compiler.lowerings.library import ON_GPU
from attngraph.compiler.module import compile as build
from attngraph.compiler.recurrence import Refusal, recurrence
from attngraph.compiler.targets import TARGETS, stand_ins
from attngraph.compiler.types import Kind

from ..lowerings.harness import kernels
from ..recurrence.harness import in_pieces, length
from ..recurrence.test_examples import parts
from .cases import EXAMPLES, Base
from .test_examples import FORMULAS, LONG_ENOUGH, _declared, _in_pieces, _prepare

DEVICE = "meta"
#: Two chunks, the second one ragged.
TWO_CHUNKS = replace(LONG_ENOUGH, sizes={**LONG_ENOUGH.sizes, "N": 67, "M": 67, "L": 133})
PIECES = frozenset(_in_pieces())
DTYPES = {Kind.BOOL: torch.bool, Kind.INT: torch.int64, Kind.COMPLEX: torch.complex64, Kind.REAL: torch.float32}


def _sizes(name: str, base: Base) -> dict[str, int]:
    _, tree = FORMULAS[name]
    axes = {axis.name for tensor in (*tree.inputs, *_declared(tree)) for axis in tensor.axes}
    return EXAMPLES[name].sizes(base, axes)


def _given(name: str, formula: Formula) -> tuple[dict[str, int], dict[str, int | float], tuple[Tensor, ...]]:
    """Sizes, constants and inputs: of several chunks where something goes chunk by chunk."""
    example = EXAMPLES[name]
    index = 0 if name in PIECES else min(1, len(example.bases) - 1)
    base: Base = TWO_CHUNKS if name in PIECES else example.bases[index]
    sizes = _sizes(name, base)
    batch = base.batch if example.batched else ()
    inputs = []
    for node in formula.inputs:
        shape = (*batch, *(sizes[axis] for axis in node.axes))
        tensor = torch.empty(shape, dtype=DTYPES[node.type.kind], device=DEVICE)
        inputs.append(tensor.requires_grad_(tensor.is_floating_point()))
    return sizes, dict(example.consts[index % len(example.consts)]), tuple(inputs)


def _forward_and_backward(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    out = module(*inputs)
    results = out if isinstance(out, tuple) else (out,)
    assert all(result.device.type == DEVICE for result in results)
    real = [x for x in (*inputs, *module.parameters()) if x.requires_grad]
    totals = [result.abs().sum() for result in results if result.requires_grad]
    if totals:
        gradients = torch.autograd.grad(totals, real, allow_unused=True)
        assert all(each is None or each.device.type == DEVICE for each in gradients)


def _steps(module: nn.Module, formula: Formula, graph: Graph, inputs: tuple[Tensor, ...]) -> None:
    """Prefill and two steps: states stay on the device, but for the number of positions, which the host reads."""
    pieces = recurrence(formula, graph)
    if isinstance(pieces, Refusal):
        whole = again(formula, pieces)
        if isinstance(whole, Refusal):
            assert not hasattr(module, "step")
            return
        pieces = whole.kept
    positions = length(formula, pieces, inputs)
    lengths = (positions - 2, 1, 1) if positions > 2 else (1,) * positions
    for *_, results, state in in_pieces(module, formula, pieces, inputs, lengths):
        assert all(result.device.type == DEVICE for result in results)
        for kept in state:
            counts = kept.dim() == 0 and kept.dtype == torch.int64
            assert kept.numel() == 0 or kept.device.type == ("cpu" if counts else DEVICE)


@pytest.mark.parametrize("name", FORMULAS)
def test_devices(name: str) -> None:
    """The plan, with its steps; the text as written; the plan with all chunks at once, as targets that trace run it."""
    formula, plan = parts(name)
    with FakeTensorMode():
        sizes, consts, inputs = _given(name, formula)
        module = build(formula, plan, sizes=sizes, consts=consts, device=DEVICE)
        _forward_and_backward(module, inputs)
        _steps(module, formula, plan, inputs)
        if plan.outputs != formula.graph.outputs:
            module = build(formula, formula.graph, sizes=sizes, consts=consts, device=DEVICE)
            _forward_and_backward(module, inputs)
        if stand_ins(TARGETS["inductor"].instead, plan):
            module = build(formula, plan, sizes=sizes, consts=consts, device=DEVICE, target="inductor")
            _forward_and_backward(module._orig_mod, inputs)  # type: ignore[arg-type]


def test_a_tensor_left_on_the_processor_is_found() -> None:
    with FakeTensorMode(), pytest.raises(FakeTensorDeviceMismatchError):
        torch.empty(3, device=DEVICE) * torch.arange(3)


def test_a_value_that_is_waited_for_is_found() -> None:
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        torch.empty(3, device=DEVICE).sum().item()


AT_ONCE = [name for name in FORMULAS if ON_GPU & {*kernels(parts(name)[1])}]


@pytest.mark.parametrize("name", AT_ONCE)
def test_a_module_of_cuda_computes_all_chunks_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same values; on the device as any other."""
    formula, plan = parts(name)
    monkeypatch.setattr(module_of_formula, "_is_gpu", lambda device: True)
    call = _prepare(name, TWO_CHUNKS, EXAMPLES[name].consts[0])  # the module is one of a GPU
    assert any("a GPU would wait for the launches of every turn" in note for note in call.module.notes)
    assert "def in_chunks(" in call.module.source
    monkeypatch.setattr(module_of_formula, "_is_gpu", lambda device: False)
    looped = build(formula, plan, sizes=_sizes(name, TWO_CHUNKS), consts=EXAMPLES[name].consts[0]).double()
    looped.load_state_dict(call.module.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(call.module(*call.inputs), looped(*call.inputs), rtol=1e-9, atol=1e-9)
    monkeypatch.setattr(module_of_formula, "_is_gpu", lambda device: True)
    with FakeTensorMode():
        sizes, consts, inputs = _given(name, formula)
        module = build(formula, plan, sizes=sizes, consts=consts, device=DEVICE)
        _forward_and_backward(module, inputs)
        _steps(module, formula, plan, inputs)


def test_which_modules_are_of_a_gpu() -> None:
    formula, plan = parts("causal_linear_attention")
    [note] = build(formula, plan, device="cuda").notes
    assert note.startswith("causal scan: all chunks at once instead of a loop over them, since a GPU would wait")
    assert build(formula, plan).notes == ()
    assert build(formula, plan, device="meta").notes == ()
    assert build(formula, plan, target="torchscript", device="cuda").notes == ()
