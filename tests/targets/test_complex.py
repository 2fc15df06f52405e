"""Complex numbers on runtimes that have only real ones."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from attngraph.compiler.module import save
from attngraph.compiler.targets.decompositions import ONNX as TABLE
from attngraph.compiler.targets.pairs import REAL_FORMS, Pair, laid_out, walked
from attngraph.compiler.types import Kind

from ..emit.formulas import compiled
from ..ops.cases import CASES
from ..ops.harness import Case, prepare
from ..ops.test_conformance import SIZES, _batches, _compare, _random
from .test_targets import planned

aten = torch.ops.aten


def _has_complex(case: Case) -> bool:
    node = prepare(case, SIZES["primes"], _batches(case, "plain"), _random(case)).node
    return Kind.COMPLEX in (node.type.kind, *(each.type.kind for each in node.inputs))


COMPLEX = [case for case in CASES if _has_complex(case)]


@pytest.mark.parametrize("case", COMPLEX, ids=str)
def test_every_operation_has_its_real_form(case: Case, tmp_path: Path) -> None:
    """What an operation becomes, computed on real and imaginary parts, is what the operation means."""
    table = {**torch.export.default_decompositions().materialize(), **TABLE}
    for sizes in SIZES.values():
        prepared = prepare(case, sizes, _batches(case, "broadcast"), _random(case))
        tensors = prepared.tensors()
        graph = make_fx(prepared.function(tmp_path), table, tracing_mode="fake")(*tensors)
        result = walked(graph, *map(laid_out, tensors))
        _compare(torch.view_as_complex(result) if prepared.node.type.kind is Kind.COMPLEX else result, prepared)


HARD = [1, -1, 1j, -1j, -2, 3 - 4j, -3 + 4j, -3 - 4j, 1e200 + 1e200j, 1e-200 - 2e-200j, -1e200j, 1e-200]


@pytest.mark.parametrize("name", ["abs", "angle", "log", "sqrt", "reciprocal"])
def test_real_forms_of_hard_numbers(name: str) -> None:
    """Squares that are too large or too small, branch cuts, and zero where that is a number."""
    values = torch.tensor(HARD if name == "reciprocal" else [*HARD, 0], dtype=torch.complex128)
    found = REAL_FORMS[getattr(aten, name)](Pair(values.real, values.imag))
    found = torch.complex(found.real, found.imaginary) if isinstance(found, Pair) else found
    torch.testing.assert_close(found, getattr(torch, name)(values), rtol=1e-13, atol=0.0)


POWERS = [2, 3, 0, -1, 7, 0.5, -1.5, 2 + 1j]


@pytest.mark.parametrize("exponent", POWERS)
def test_powers(exponent: complex) -> None:
    values = torch.tensor([1, -1, 1j, -2 + 0.5j, 3 - 4j], dtype=torch.complex128)
    found = REAL_FORMS[aten.pow](Pair(values.real, values.imag), exponent)
    torch.testing.assert_close(torch.complex(found.real, found.imaginary), values**exponent, rtol=1e-12, atol=1e-13)


FILTER = """attention filter(x[N, C], gain[K, C] complex) -> [N, C], [K, C] complex:
    where K = floor(N / 2) + 1
    param weight[C] complex
    z = rfft[N -> K](x) * exp(weight) + conj(gain)
    y = irfft[K -> N](z / (1 + abs(z)))
    spectrum = real(ifft[L -> N](fft[N -> L](y)))
    return spectrum, z * gain - weight^2
"""


def test_onnx_computes_with_complex_numbers() -> None:
    """Inputs, parameters and results among them; at even and odd lengths, 1 included, in both precisions."""
    torch.manual_seed(0)
    made = compiled(FILTER, target="onnx", sizes={"C": 3}, dtype=torch.float64)
    eager = compiled(FILTER, sizes={"C": 3}, dtype=torch.float64)
    eager.load_state_dict({name.removeprefix("module."): value for name, value in made.state_dict().items()})
    with torch.no_grad():
        for length, batch in ((14, (2,)), (13, (1,)), (1, (3, 2)), (2, ()), (97, (2,))):
            x = torch.randn(*batch, length, 3, dtype=torch.float64)
            gain = torch.randn(*batch, length // 2 + 1, 3, dtype=torch.complex128)
            torch.testing.assert_close(made(x, gain), eager(x, gain), rtol=1e-11, atol=1e-12)
            torch.testing.assert_close(made(x, gain.conj()), eager(x, gain.conj()), rtol=1e-11, atol=1e-12)


def test_complex_values_of_onnx_files_have_one_more_dimension(tmp_path: Path) -> None:
    path = tmp_path / "saved.onnx"
    text = "attention f(x[N, C], gain[N, C] complex) -> [N, C] complex:\n    return conj(gain) * x^2\n"
    save(*planned(text), path)  # type: ignore[arg-type]
    session = onnxruntime.InferenceSession(str(path))
    assert [each.shape for each in session.get_inputs()] == [["batch", "N", "C"], ["batch", "N", "C", 2]]
    assert [each.shape for each in session.get_outputs()] == [["batch", "N", "C", 2]]
    x, gain = torch.randn(2, 5, 3), torch.randn(2, 5, 3, dtype=torch.complex64)
    [result] = session.run(None, {"x": x.numpy(), "gain": torch.view_as_real(gain).numpy()})
    torch.testing.assert_close(torch.view_as_complex(torch.from_numpy(result)), compiled(text)(x, gain))


@pytest.mark.parametrize("target", ["export", "onnx"])
def test_complex_inputs_are_taken_in_the_precision_of_real_ones(target: str) -> None:
    text = "attention f(x[N], z[N] complex) -> [N]:\n    return x * real(z)\n"
    made = compiled(text, target=target)
    for kind in (torch.float32, torch.float64):
        x = torch.randn(2, 5, dtype=kind)
        for other in (torch.complex64, torch.complex128):
            z = torch.randn(2, 5, dtype=other)
            result = made(x, z)
            assert result.dtype == kind
            torch.testing.assert_close(result, x * z.real.to(kind))
