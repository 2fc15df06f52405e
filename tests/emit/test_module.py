"""How a generated module behaves: dtypes, devices, copies, batches, constants, memory."""

from __future__ import annotations

import copy
import inspect
import linecache
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attngraph
from attngraph.compiler.loader import load_class

from .formulas import GROUPED, KINDS, LINEAR, RETENTION, ROTATED, SOFTMAX, WINDOW, compiled, module, written


def draw(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.randn(shape, dtype=torch.float64) for shape in shapes)


# -- source --------------------------------------------------------------------------------------


def test_source_is_known_to_python() -> None:
    generated = written(SOFTMAX)
    made = load_class(generated)()
    assert made.source == generated.source
    assert inspect.getsource(type(made)) in generated.source
    assert "def forward" in inspect.getsource(type(made).forward)
    assert load_class(written(SOFTMAX)) is type(made)


def test_tracebacks_show_the_line() -> None:
    linecache.clearcache()
    with pytest.raises(ValueError, match="but q has 4") as caught:
        module(SOFTMAX)(torch.ones(2, 4), torch.ones(2, 5), torch.ones(2, 5))
    assert "k_shape[-1] != q_shape[-1]" in written(SOFTMAX).source
    shown = "".join(traceback.format_exception(caught.value))
    assert "self.check(q, k, v)" in shown
    assert "raise ValueError(" in shown


# -- copies and state ----------------------------------------------------------------------------


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_independent(duplicate: object) -> None:
    made = module(ROTATED, 3, 4, dtype=torch.float64)
    assert callable(duplicate)
    twin = duplicate(made)
    [x] = draw((2, 5, 12))
    torch.testing.assert_close(twin(x), made(x), rtol=0, atol=0)
    with torch.no_grad():
        twin.w.zero_()
    assert made.w.abs().sum() > 0


def test_state_dict_holds_what_the_formula_names() -> None:
    made = module(ROTATED, 3, 4)
    assert sorted(made.state_dict()) == ["b", "scale", "shift", "w"]
    assert sorted(name for name, _ in made.named_parameters()) == ["b", "scale", "w"]


def test_initial_values() -> None:
    torch.manual_seed(5)
    made = module(ROTATED, 30, 40)
    assert abs(made.w.std().item() - 0.02) < 1e-4
    assert not made.b.any()
    torch.testing.assert_close(made.scale, torch.full((30,), 40**-0.5))
    torch.testing.assert_close(made.shift, torch.arange(40) / 40)
    torch.manual_seed(5)
    assert torch.equal(module(ROTATED, 30, 40).w, made.w)


def test_initial_distributions() -> None:
    text = """attention drawn(x[N]) -> [N, F]:
    param u[F] = uniform(-2, F / 1000), g[F] = normal(1 / sqrt(F)), c[F] = 0.5, z[] = ones
    buffer index[F] int = pos(F), draw[F] = normal(3)
    return x * (u + g + c + z + index + draw)
"""
    made = module(text, 4000)
    assert -2 <= made.u.min() < -1.99
    assert 3.99 < made.u.max() <= 4
    assert abs(made.g.std().item() - 4000**-0.5) < 1e-3
    assert made.c.unique().tolist() == [0.5]
    assert made.z.item() == 1
    assert made.index.tolist() == list(range(4000))
    assert made.index.dtype == torch.int64
    assert abs(made.draw.std().item() - 3) < 0.2
    assert made.draw.requires_grad is False


def test_constants_stay_exact_when_the_module_is_rounded() -> None:
    made = module(ROTATED, 3, 4)
    exact = 100 ** (-torch.arange(4, dtype=torch.float64) / 4)
    for changed in (made.half(), made.float(), made.bfloat16(), made.double()):
        torch.testing.assert_close(changed.frequency, exact, rtol=1e-15, atol=0)
    assert made.w.dtype == torch.float64
    moved = module(ROTATED, 3, 4).to("meta")
    assert moved.frequency.device.type == "meta"
    back = moved.to_empty(device="cpu")
    torch.testing.assert_close(back.frequency, exact, rtol=1e-15, atol=0)


SPECTRUM = """attention spectrum(x[N, C]) -> [N, C]:
    where F = floor(N / 2) + 1
    where C = floor(D / 2) + 1
    param w[C] complex = rfft[D -> C](pos(D))
    buffer b[C] complex = 2
    return irfft[F -> N](rfft[N -> F](x) * w * b)
"""
"""A complex parameter and a complex buffer."""


def test_complex_tensors_are_converted_with_the_real_ones() -> None:
    built = attngraph.compile(SPECTRUM, sizes={"D": 5})
    exact = torch.fft.rfft(torch.arange(5, dtype=torch.float64))
    x = torch.randn(7, 3, dtype=torch.float64)
    expected = torch.fft.irfft(torch.fft.rfft(x, dim=0) * exact * 2, n=7, dim=0)
    kinds: list[tuple[Callable[[nn.Module], nn.Module], torch.dtype]] = [
        (nn.Module.double, torch.complex128),
        (lambda module: module.to(torch.float64), torch.complex128),
        (nn.Module.half, torch.complex64),
        (nn.Module.bfloat16, torch.complex64),
        (lambda module: module.to(torch.bfloat16), torch.complex64),
        (nn.Module.float, torch.complex64),
    ]
    for convert, dtype in kinds:
        made: Any = convert(copy.deepcopy(built))
        assert made.w.dtype == made.b.dtype == dtype
        assert isinstance(made.w, nn.Parameter)
        tolerance = 1e-6 if dtype == torch.complex128 else 1e-2  # it was drawn in single precision
        torch.testing.assert_close(made.w.detach().to(torch.complex128), exact, rtol=tolerance, atol=tolerance)
    made = copy.deepcopy(built).double()
    made.load_state_dict({"w": exact, "b": torch.full_like(exact, 2)})
    torch.testing.assert_close(made(x), expected, rtol=1e-12, atol=1e-12)
    made(x).square().sum().backward()
    assert made.float().w.grad.dtype == torch.complex64
    moved = copy.deepcopy(made).to("meta")
    assert moved.w.device.type == "meta"
    assert moved.to_empty(device="cpu").w.dtype == torch.complex64


def test_constants_of_the_constructor() -> None:
    windows = module(WINDOW, 4)
    q, k, v = draw((10, 3), (10, 3), (10, 3))
    expected = torch.cat([windows(*(x[i : i + 4] for x in (q, k, v))) for i in range(0, 10, 4)])
    torch.testing.assert_close(windows(q, k, v), expected)
    assert not torch.allclose(module(WINDOW)(q, k, v), expected)


# -- dtypes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("text", [SOFTMAX, LINEAR, RETENTION, WINDOW])
def test_results_have_the_dtype_of_the_inputs(text: str, dtype: torch.dtype) -> None:
    inputs = draw((2, 3, 9, 4), (2, 3, 9, 4), (2, 3, 9, 5))
    made = module(text)
    result = made(*(x.to(dtype) for x in inputs))
    assert result.dtype == dtype
    tolerance = {torch.float64: 1e-15, torch.float32: 2e-5, torch.bfloat16: 0.1, torch.float16: 0.02}[dtype]
    torch.testing.assert_close(result.double(), made(*inputs), rtol=tolerance, atol=tolerance)


def test_positions_are_exact_beyond_the_range_of_half_precision() -> None:
    text = """attention last(x[N]) -> [N]:
    return where(pos(N) == 4097, x, 0) + cos(pos(N) / 10) * 0
"""
    result = module(text)(torch.ones(4100, dtype=torch.float16))
    assert result.nonzero().flatten().tolist() == [4097]


def test_narrow_integers_are_accepted() -> None:
    made = module(KINDS)
    q, k = draw((5, 4), (7, 4))
    see, doc, at = torch.rand(5, 7) < 0.5, torch.arange(5) // 2, torch.arange(7) // 2
    expected = made(q, k, see, doc, at)
    torch.testing.assert_close(made(q, k, see, doc.to(torch.int32), at.to(torch.uint8)), expected)


# -- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [SOFTMAX, LINEAR, WINDOW])
def test_batch_axes_broadcast(text: str) -> None:
    made = module(text)
    q, k, v = draw((4, 1, 9, 4), (3, 9, 4), (9, 5))
    result = made(q, k, v)
    assert result.shape == (4, 3, 9, 5)
    for i in range(4):
        for j in range(3):
            torch.testing.assert_close(result[i, j], made(q[i, 0], k[j], v))


def test_batch_axes_stay_left_of_named_ones() -> None:
    made = module(GROUPED)
    q, k, v = draw((2, 6, 5, 4), (3, 7, 4), (2, 3, 7, 5))
    for i in range(2):
        torch.testing.assert_close(made(q, k, v)[i], made(q[i], k, v[i]))


def test_values_without_inputs_have_no_batch_axes() -> None:
    text = """attention scaled(x[N, D], s[]) -> [N, D]:
    return x * s * (1 + pos(N))
"""
    made = module(text)
    x, s = draw((2, 3, 5, 4), (3,))
    expected = x * s[:, None, None] * (1 + torch.arange(5))[:, None]
    torch.testing.assert_close(made(x, s), expected)


def test_results_that_are_numbers_or_fixed_are_tensors() -> None:
    text = """attention facts(x[N, D]) -> [], [N], [N, D]:
    return sqrt(D), pos(N) / 2, x
"""
    root, half, same = module(text)(torch.ones(2, 3, 4))
    assert root.item() == 2
    assert root.shape == ()
    assert half.tolist() == [0, 0.5, 1]
    assert half.dtype == torch.float32
    assert same.shape == (2, 3, 4)


# -- gradients and memory ------------------------------------------------------------------------


def test_gradients_reach_inputs_and_parameters() -> None:
    made = module(ROTATED, 3, 4, dtype=torch.float64)
    [x] = draw((2, 5, 12))
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w, scale: made(x), (x, made.w, made.scale))


def test_dead_maps_are_released() -> None:
    text = """attention two_maps(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    a = softmax[M](q @ k^T)
    first = a @ v
    b = exp(-square(q @ k^T) * 0.5)
    return first + b @ v
"""
    source = written(text).source
    assert "        del a\n" in source
    compiled(text)(*draw((5, 4), (7, 4), (7, 3)))
