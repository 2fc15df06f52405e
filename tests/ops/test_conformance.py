"""Every operation is held to its own words: types, values, gradients, cost and code."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from attngraph.compiler.ops import OPS
from attngraph.compiler.ops.base import Leaf
from attngraph.compiler.types import Kind
from tests.ops.cases import CASES, CONTRACTIONS, CONVOLUTIONS
from tests.ops.harness import DTYPES, Case, Prepared, Spec, emitted, emitted_number, load, prepare
from tests.reference import evaluate

SIZES: Mapping[str, Mapping[str, int]] = {
    "ones": {"N": 1, "M": 1, "D": 1, "H": 1, "G": 1, "C": 1},
    "primes": {"N": 5, "M": 3, "D": 7, "H": 2, "G": 3, "C": 5},
    "equal": {"N": 4, "M": 4, "D": 4, "H": 4, "G": 4, "C": 4},
    "mixed": {"N": 3, "M": 1, "D": 2, "H": 1, "G": 2, "C": 1},
}
Batch = tuple[int, ...] | None
# leading dimensions of the first operand and of the others; None: the operand depends on no input
BATCHES: Mapping[str, tuple[Batch, Batch]] = {
    "plain": ((), ()),
    "batch": ((2, 3), (2, 3)),
    "broadcast": ((2, 1), (1, 3)),
    "longer": ((3,), (2, 1)),
    "first": ((2,), None),
    "rest": (None, (2,)),
    "none": (None, None),
}
_ids = [str(case) for case in CASES]


def _batches(case: Case, name: str) -> list[Batch]:
    first, rest = BATCHES[name]
    return [first if index == 0 else rest for index in range(len(case.operands))]


def _random(case: Case) -> np.random.Generator:
    return np.random.default_rng(sum(map(ord, str(case))))


def _compare(result: torch.Tensor, prepared: Prepared) -> None:
    expected = prepared.expected()
    assert isinstance(result, torch.Tensor)
    assert tuple(result.shape) == expected.shape
    assert result.dtype == DTYPES[prepared.node.type.kind]
    np.testing.assert_allclose(result.detach().numpy(), expected, rtol=1e-10, atol=1e-11)


def test_every_operation_has_a_case() -> None:
    covered = {type(case.op) for case in CASES}
    assert {op for op in OPS if not issubclass(op, Leaf)} == covered


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("case", CASES, ids=_ids)
def test_value(case: Case, sizes: str, tmp_path: Path) -> None:
    """The emitted code computes the meaning, whatever the sizes and leading batch dimensions."""
    for batch in BATCHES:
        prepared = prepare(case, SIZES[sizes], _batches(case, batch), _random(case))
        try:
            _compare(prepared.function(tmp_path)(*prepared.tensors()), prepared)
        except Exception as error:
            error.add_note(f"batch {batch}:\n{prepared.source}")
            raise


@pytest.mark.parametrize("case", CASES, ids=_ids)
def test_script(case: Case, tmp_path: Path) -> None:
    """The emitted code is TorchScript."""
    for batch in ("batch", "first", "rest"):
        prepared = prepare(case, SIZES["primes"], _batches(case, batch), _random(case))
        try:
            function = torch.jit.script(prepared.function(tmp_path))
            _compare(function(*prepared.tensors()), prepared)
        except Exception as error:
            error.add_note(f"batch {batch}:\n{prepared.source}")
            raise


def _is_smooth(case: Case) -> bool:
    inexact = (Kind.REAL, Kind.COMPLEX)
    return (
        case.smooth
        and case.op.differentiable
        and any(o.kind in inexact and o.number is None for o in case.operands)
    )


SMOOTH = [case for case in CASES if _is_smooth(case)]


@pytest.mark.parametrize("case", SMOOTH, ids=map(str, SMOOTH))
def test_gradient(case: Case, tmp_path: Path) -> None:
    """Gradients exist, are finite and are those of the emitted values."""
    for batch in ("batch", "first"):
        prepared = prepare(case, SIZES["mixed"], [b and b[:1] for b in _batches(case, batch)], _random(case))
        function = prepared.function(tmp_path)
        tensors = [t.requires_grad_(t.is_floating_point() or t.is_complex()) for t in prepared.tensors()]
        result = function(*tensors)
        assert result.requires_grad, prepared.source
        grads = torch.autograd.grad(result.abs().sum(), [t for t in tensors if t.requires_grad], allow_unused=True)
        assert all(grad is None or bool(torch.isfinite(grad).all()) for grad in grads), prepared.source
        if torch.isfinite(result.abs()).all():
            assert torch.autograd.gradcheck(function, tensors, check_undefined_grad=False), prepared.source


COUNTED = [c for c in CONTRACTIONS if c.op.axes and c.operands[0].kind in (Kind.REAL, Kind.COMPLEX)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("case", COUNTED, ids=map(str, COUNTED))
def test_contraction_flops(case: Case, sizes: str, tmp_path: Path) -> None:
    """The cost of a contraction is what torch counts, 2 per multiply-add."""
    for batch in BATCHES:
        prepared = prepare(case, SIZES[sizes], _batches(case, batch), _random(case))
        function, tensors = prepared.function(tmp_path), prepared.tensors()
        with FlopCounterMode(display=False) as counter:
            result = function(*tensors)
        entries = int(np.prod(result.shape[: result.dim() - prepared.node.type.rank]))
        cost = case.op.flops(prepared.node.type, *(n.type for n in prepared.node.inputs))
        if "einsum" in prepared.source and all(prepared.sizes[axis] == 1 for axis in case.op.axes):  # type: ignore[attr-defined]
            continue  # torch computes it as a product without a sum, and does not count that
        assert counter.get_total_flops() == cost.evaluate(prepared.sizes) * entries, (batch, prepared.source)


SLID = [
    case for case in CONVOLUTIONS
    if all(o.kind is Kind.REAL for o in case.operands) and "V" not in case.op.taps  # type: ignore[attr-defined]
]  # fmt: skip


@pytest.mark.parametrize("case", SLID, ids=map(str, SLID))
def test_convolution_flops(case: Case, tmp_path: Path) -> None:
    """The cost of a convolution is what torch counts (of an even kernel it computes one place more)."""
    for batch in ("batch", "first"):
        prepared = prepare(case, SIZES["primes"], _batches(case, batch), _random(case))
        function, tensors = prepared.function(tmp_path), prepared.tensors()
        with FlopCounterMode(display=False) as counter:
            result = function(*tensors)
        entries = int(np.prod(result.shape[: result.dim() - prepared.node.type.rank]))
        cost = case.op.flops(prepared.node.type, *(n.type for n in prepared.node.inputs))
        assert counter.get_total_flops() == cost.evaluate(prepared.sizes) * entries, (batch, prepared.source)


NUMBERS = [
    case
    for case in CASES
    if case.op.elementwise
    and case.op.family != "complex"
    and all(spec.kind is not Kind.COMPLEX for spec in case.operands)
    and any(spec.number is None for spec in case.operands)
]


@pytest.mark.parametrize("case", NUMBERS, ids=map(str, NUMBERS))
def test_number(case: Case, tmp_path: Path) -> None:
    """On Python numbers an operation computes the same, also in TorchScript."""
    prepared = prepare(case, SIZES["primes"], [None] * len(case.operands), _random(case))
    types = [node.type for node in prepared.node.inputs]
    kinds = [case.op.operand_kind(i, prepared.node.type, *types) or t.kind for i, t in enumerate(types)]
    source = emitted_number(case.op, kinds, prepared.sizes)
    assert source is not None
    random = _random(case)
    values: list[Any] = [
        spec.number if spec.number is not None else spec.draw((), random, {}) for spec in case.operands
    ]
    values = [bool(v) if k is Kind.BOOL else int(v) if k is Kind.INT else float(v)
              for v, k in zip(values, kinds, strict=True)]  # fmt: skip
    scalars = Case(case.op, tuple(Spec((), kind) for kind in kinds))
    node = prepare(scalars, {}, [None] * len(values), random).node
    expected = evaluate(node, {f"x{i}": np.asarray(v) for i, v in enumerate(values)}, prepared.sizes)
    function = load(source, tmp_path)
    np.testing.assert_allclose(function(*values), expected, rtol=1e-10, atol=1e-11)
    if node.type.kind is not Kind.BOOL:
        np.testing.assert_allclose(torch.jit.script(function)(*values), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("case", CASES, ids=_ids)
def test_cost(case: Case) -> None:
    """The cost is a polynomial over the axes of operands and result, and is not negative."""
    prepared = prepare(case, SIZES["primes"], [() for _ in case.operands], _random(case))
    cost = case.op.flops(prepared.node.type, *(n.type for n in prepared.node.inputs))
    axes = {axis for n in (prepared.node, *prepared.node.inputs) for axis in n.axes}
    assert cost.symbols() <= axes
    assert cost.evaluate(prepared.sizes) >= 0
    if case.op.family == "layout" and type(case.op).__name__ != "Fold":
        assert not cost


@pytest.mark.parametrize("case", CASES, ids=_ids)
def test_size_facts_hold(case: Case) -> None:
    prepared = prepare(case, SIZES["primes"], [() for _ in case.operands], _random(case))
    for left, right in case.op.size_facts(*(n.type for n in prepared.node.inputs)):
        assert left.evaluate(prepared.sizes) == right.evaluate(prepared.sizes)
    assert set(case.op.new_axes()) <= set(prepared.node.axes)


@pytest.mark.parametrize("case", [c for c in CASES if c.op.is_view()], ids=str)
def test_view_shares_storage(case: Case, tmp_path: Path) -> None:
    prepared = prepare(case, SIZES["primes"], [(2,) for _ in case.operands], _random(case))
    tensors = prepared.tensors()
    result = prepared.function(tmp_path)(*tensors)
    assert result.untyped_storage().data_ptr() == tensors[0].untyped_storage().data_ptr()


@pytest.fixture(autouse=True)
def _no_torchscript_warning() -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*torch.jit.*", category=FutureWarning)
        yield


def test_emitted_source_is_plain() -> None:
    """An example of what a reader sees."""
    case = CONTRACTIONS[1]
    node = prepare(case, SIZES["primes"], [(), ()], _random(case)).node
    assert emitted(node, SIZES["primes"]).splitlines()[-1] == "    return torch.matmul(operand0, operand1)"
