"""One module on every target: the same values, gradients and messages, at sizes that were not traced."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

import attngraph
from attngraph.compiler.targets.inductor import Inductor

from ..emit.formulas import CAUSAL, GROUPED, KINDS, LINEAR, RETENTION, ROTATED, SOFTMAX, WINDOW, compiled

BATCHES = ((2,), (), (3, 2))
Draw = Callable[[tuple[int, ...], int], tuple[Tensor, ...]]


def _randn(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


DRAWN: dict[str, Draw] = {
    SOFTMAX: lambda batch, n: (_randn(*batch, n, 4), _randn(*batch, 7, 4), _randn(*batch, 7, 5)),
    LINEAR: lambda batch, n: (_randn(*batch, n, 4), _randn(*batch, n + 1, 4), _randn(*batch, n + 1, 5)),
    RETENTION: lambda batch, n: (_randn(*batch, 3, n, 4), _randn(*batch, 3, n, 4), _randn(*batch, 3, n, 5)),
    CAUSAL: lambda batch, n: (_randn(*batch, n, 4), _randn(*batch, n, 4), _randn(*batch, n, 5)),
    WINDOW: lambda batch, n: (_randn(*batch, n, 4), _randn(*batch, n, 4), _randn(*batch, n, 5)),
    ROTATED: lambda batch, n: (_randn(*batch, n, 12),),
    GROUPED: lambda batch, n: (_randn(*batch, 6, n, 4), _randn(*batch, 3, n, 4), _randn(*batch, 3, n, 5)),
    KINDS: lambda batch, n: (
        _randn(*batch, n, 4),
        _randn(*batch, 7, 4),
        torch.rand(*batch, n, 7) < 0.5,
        torch.arange(n).expand(*batch, n) // 2,
        torch.arange(7).expand(*batch, 7) // 2,
    ),
}
IDS = [text.split("(")[0].removeprefix("attention ") for text in DRAWN]
TEXTS = pytest.mark.parametrize("text", DRAWN, ids=IDS)


def same(made: nn.Module, eager: nn.Module, text: str, sizes: tuple[int, ...]) -> None:
    """Values at several lengths and batches, then gradients."""
    for n in sizes:
        for batch in BATCHES:
            inputs = DRAWN[text](batch, n)
            torch.testing.assert_close(made(*inputs), eager(*inputs), rtol=1e-9, atol=1e-12)
    gradients = []
    inputs = DRAWN[text]((2,), sizes[0])
    for module in (made, eager):
        leaves = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
        results = module(*leaves)
        first = results[0] if isinstance(results, tuple) else results
        wanted = [x for x in leaves if x.requires_grad]
        gradients.append(torch.autograd.grad(first.square().sum(), wanted))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-12)


def on(text: str, target: str) -> Any:
    torch.manual_seed(0)
    return compiled(text, target=target, dtype=torch.float64)


@TEXTS
def test_torchscript(text: str) -> None:
    made = on(text, "torchscript")
    assert isinstance(made, torch.jit.ScriptModule)
    same(made, on(text, "eager"), text, (9, 1, 50, 65))


@TEXTS
def test_export(text: str) -> None:
    same(on(text, "export"), on(text, "eager"), text, (9, 1, 98, 130))


@pytest.mark.parametrize("text", [LINEAR, WINDOW, ROTATED, KINDS], ids=["linear", "window", "rotated", "kinds"])
def test_torch_compile_traces_without_a_break(text: str) -> None:
    torch._dynamo.reset()
    eager = on(text, "eager")
    made = Inductor(backend="aot_eager").build(on(text, "eager"), None)  # type: ignore[arg-type]
    for n, batch in ((9, (2,)), (50, (3,)), (53, (2,))):
        inputs = DRAWN[text](batch, n)
        torch.testing.assert_close(made(*inputs), eager(*inputs), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("text", [SOFTMAX, CAUSAL, WINDOW, KINDS], ids=["softmax", "causal", "window", "kinds"])
def test_torch_compile_compiles_once_for_all_lengths(text: str) -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    made = torch.compile(on(text, "inductor").get_submodule("_orig_mod"), fullgraph=True, dynamic=True, backend=counter)
    for n in (12, 7, 31, 98, 147):
        made(*DRAWN[text]((2,), n))
    assert counter.frame_count == 1


LEVELS = """attention levels(x[N, D]) -> [L, D]:
    where L = {}
    return sum[N](where(pos(L) * pos(L) < pos(N), x, 0))
"""
COUNTS = {
    "logarithm": "floor(log(N) / log(2)) + 1",
    "its ceiling": "1 + 2 * ceil(log(N + 1) / log(10))",
    "root": "floor(sqrt(N)) + 2",
}


@pytest.mark.parametrize("target", ["export", "onnx", "torchscript", "inductor"])
@pytest.mark.parametrize("size", COUNTS.values(), ids=list(COUNTS))
def test_sizes_that_grow_slower_than_the_length(size: str, target: str) -> None:
    """A trace keeps them as sizes, next to the powers where they change too, and compiles once."""
    text = LEVELS.format(size)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    eager, made = compiled(text), compiled(text, target="eager" if target == "inductor" else target)
    if target == "inductor":
        traced = compiled(text, target=target).get_submodule("_orig_mod")
        made = torch.compile(traced, fullgraph=True, dynamic=True, backend=counter)  # type: ignore[assignment]
    for n in (13, 2, 3, 4, 8, 9, 10, 16, 99, 100, 101, 1000):
        x = torch.randn(2, n, 3)
        torch.testing.assert_close(made(x), eager(x), rtol=1e-4, atol=1e-5)
    assert counter.frame_count == int(target == "inductor")


@pytest.mark.slow
@pytest.mark.parametrize("text", [LINEAR, ROTATED], ids=["linear_attention", "rotated"])
def test_inductor(text: str) -> None:
    torch._dynamo.reset()
    same(on(text, "inductor"), on(text, "eager"), text, (9, 53))


@pytest.mark.slow
def test_inductor_orders_strides_that_it_cannot_compare() -> None:
    """An image of which one side is a quotient of the length: its gradient has strides 12 (N // 4) and 3."""
    text = """attention near(v[M, C]) -> [M, C]:
    where M = Y * X, X = 4, V = 3, W = 3
    param w[C, V, W]
    return merge[Y, X -> M](conv[Y, X, V, W](split[M -> Y, X](v), w))
"""
    torch._dynamo.reset()
    made, eager = (compiled(text, target=name, sizes={"C": 3}, dtype=torch.float64) for name in ("inductor", "eager"))
    eager.load_state_dict({name.rpartition(".")[2]: value for name, value in made.state_dict().items()})
    for rows in (7, 5, 1, 2):
        v = torch.randn(2, 4 * rows, 3, dtype=torch.float64)
        gradients = []
        for module in (made, eager):
            leaf = v.clone().requires_grad_()
            result = module(leaf)
            gradients.append((result, *torch.autograd.grad(result.square().sum(), [leaf, *module.parameters()])))
        torch.testing.assert_close(gradients[0], gradients[1])


def test_sizes_are_not_taken_for_constants() -> None:
    """Every way in which a size becomes a number, without a second compilation and in an export."""
    text = """attention numbers(x[N]) -> [N]:
    a = x * sqrt(N) + log(N) * exp(-N / 8) / sin(N + 0.5)
    b = x * N^0.25 * 2^(-N / 16) + max(N, 4) - min(N, 3) + N // 2 + N % 3
    return a + b * abs(3 - N) + cos(log(N + 1)) + floor(N / 2)
"""
    eager = compiled(text)
    count = 0

    def backend(graph: torch.fx.GraphModule, example: list[Tensor]) -> Callable[..., object]:
        nonlocal count
        count += 1
        return graph.forward

    torch._dynamo.reset()
    traced = torch.compile(compiled(text), fullgraph=True, dynamic=True, backend=backend)
    exported = compiled(text, target="export")
    scripted = compiled(text, target="torchscript")
    for n in (7, 12, 31):
        x = _randn(n)
        for made in (traced, exported, scripted):
            torch.testing.assert_close(made(x), eager(x), rtol=1e-9, atol=1e-12)
    assert count == 1


@pytest.mark.parametrize("target", ["eager", "torchscript", "export"])
def test_inputs_by_name_and_messages(target: str) -> None:
    made = compiled(SOFTMAX, target=target)
    q, k, v = torch.randn(2, 5, 4), torch.randn(2, 7, 4), torch.randn(2, 7, 3)
    torch.testing.assert_close(made(v=v, k=k, q=q), made(q, k, v))
    torch.testing.assert_close(made(q, v=v, k=k), made(q, k, v))
    message = "softmax_attention: k has size 3 on axis D (dimension -1), but q has 4"
    with pytest.raises(Exception, match=re.escape(message)):  # TorchScript has its own class
        made(q, torch.randn(2, 7, 3), v)
    for wrong in ((q, k), (q, k, v, v)):
        with pytest.raises((TypeError, RuntimeError)):
            made(*wrong)


# -- files ---------------------------------------------------------------------------------------


def planned(text: str) -> tuple[object, object]:
    report = attngraph.check(attngraph.parse(text))
    return report.formula, report.plan


@pytest.mark.parametrize("suffix", [".py", ".pt", ".pt2"])
@pytest.mark.parametrize("text", [LINEAR, ROTATED], ids=["linear_attention", "rotated"])
def test_saved_files_compute_the_formula(text: str, suffix: str, tmp_path: Path) -> None:
    from attngraph.compiler.module import save

    formula, plan = planned(text)
    path = tmp_path / f"saved{suffix}"
    sizes = {"H": 3, "D": 4} if text == ROTATED else {}
    torch.manual_seed(0)
    save(formula, plan, path, sizes=sizes)  # type: ignore[arg-type]
    torch.manual_seed(0)
    eager = compiled(text)
    torch.manual_seed(0)
    loaded = _loaded(path)
    inputs = tuple(x.float() for x in DRAWN[text]((4,), 23))
    torch.testing.assert_close(loaded(*inputs), eager(*inputs))


def _loaded(path: Path) -> Callable[..., object]:
    if path.suffix == ".pt":
        return torch.jit.load(path)  # type: ignore[no-any-return, no-untyped-call]
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    import importlib.util

    spec = importlib.util.spec_from_file_location("saved", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    [cls] = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == "saved"]
    return cls()  # type: ignore[no-any-return]


def test_saved_source_has_the_given_sizes_and_constants_as_defaults(tmp_path: Path) -> None:
    from attngraph.compiler.module import save

    formula, plan = planned(ROTATED)
    path = tmp_path / "saved.py"
    save(formula, plan, path, sizes={"C": 12, "H": 3}, consts={"base": 7})  # type: ignore[arg-type]
    made = _loaded(path)
    assert (made.H, made.D, made.C, made.base) == (3, 4, 12, 7)  # type: ignore[attr-defined]
    save(formula, plan, path)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="missing 2 required positional arguments: 'H' and 'D'"):
        _loaded(path)


def test_files_of_no_known_kind(tmp_path: Path) -> None:
    from attngraph.compiler.module import save

    with pytest.raises(attngraph.CompileError) as caught:
        save(*planned(SOFTMAX), tmp_path / "saved.txt")  # type: ignore[arg-type]
    assert str(caught.value) == "cannot write `saved.txt`: its suffix must be one of .py, .pt, .pt2, .onnx"


# -- one exported module, several dtypes -----------------------------------------------------------


def test_export_runs_in_the_dtype_of_its_inputs() -> None:
    made, eager = compiled(ROTATED, target="export"), compiled(ROTATED)
    eager.load_state_dict({name.removeprefix("module."): value for name, value in made.state_dict().items()})
    [x] = DRAWN[ROTATED]((2,), 9)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12), (torch.bfloat16, 0.05)):
        made.to(dtype)
        eager.to(dtype)
        result = made(x.to(dtype))
        assert result.dtype == dtype
        torch.testing.assert_close(result, eager(x.to(dtype)), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("width", [4, 6])
def test_exported_for_values_of_any_width(width: int) -> None:
    """The example that is traced has values of another width than the queries; the program takes both."""
    text = "attention f(q[H, N, D], k[H, M, D], v[H, M, E]) -> [H, N, E]:\n    return softmax[M](q @ k^T) @ v\n"
    q, k, v = torch.randn(2, 3, 9, 4), torch.randn(2, 3, 11, 4), torch.randn(2, 3, 11, width)
    expected = torch.softmax(q @ k.mT, -1) @ v
    torch.testing.assert_close(attngraph.compile(text, target="export")(q, k, v), expected)


def test_exported_parameters_train() -> None:
    made = compiled(ROTATED, target="export", dtype=torch.float64)
    [x] = DRAWN[ROTATED]((2,), 9)
    before = made(x)
    before.square().sum().backward()
    with torch.no_grad():
        for parameter in made.parameters():
            assert parameter.grad is not None
            parameter -= 1e-4 * parameter.grad
    assert made(x).square().sum() < before.square().sum()
