"""flash-linear-attention: which scans of a plan are its operations, and that they are called with the right arguments.

Its kernels need a GPU. Here stand-ins are called, which take its arguments in its layout and compute what its
documentation says, step after step; where the library is installed, they are held to its own references for a CPU.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attngraph
from attngraph.compiler.emit import emit
from attngraph.compiler.errors import CompileError
from attngraph.compiler.forms import choose
from attngraph.compiler.formula import Formula
from attngraph.compiler.graph import Graph
from attngraph.compiler.loader import load_class
from attngraph.compiler.lowerings.fla import OPERATIONS, FlashScan, with_fla
from attngraph.compiler.module import compile as build
from attngraph.compiler.module import save

from .harness import checked, close

QUADRATIC = "attention f(q[H, N, D], k[H, M, D], v[H, M, E]{}) -> [H, N, E]:\n    where M = N\n"
RULE = """
attention f(q[H, N, D], k[H, N, D], v[H, N, E], beta[H, N], g[H, N]) -> [H, N, E]:
    scan N:
        state S[H, D, E] = 0
        kept = {kept}
        S = kept + {added}
        yield y = {read}
    return y
"""
SEEN = "where(pos(N) >= pos(M), {}, 0)"
PLAIN = RULE.replace(", g[H, N]", "").replace("{kept}", "S")

#: text, the operation of the library, and the names of inputs that are logarithms of gates
FOUND: dict[str, tuple[str, str, str]] = {
    "linear": (
        QUADRATIC.format("") + f"    return {SEEN.format('q @ k^T')} @ v\n", "flash_linear_scan", ""
    ),
    "normalised": (
        QUADRATIC.format("") + f"    a = {SEEN.format('(elu(q) + 1) @ (elu(k) + 1)^T')}\n"
        "    return (a / sum[M](a)) @ v\n",
        "flash_linear_scan", "",
    ),
    "one head": (
        "attention f(q[N, D], k[M, D], v[M, E]) -> [N, E]:\n    where M = N\n"
        f"    return {SEEN.format('q @ k^T')} @ v\n", "flash_linear_scan", "",
    ),
    "shared keys": (
        "attention f(q[H, N, D], k[M, D], v[M, E]) -> [H, N, E]:\n    where M = N\n"
        f"    return {SEEN.format('q @ k^T / sqrt(D)')} @ v\n", "flash_linear_scan", "",
    ),
    "decay of heads": (
        QUADRATIC.format(", r[H]") + f"    return ((q @ k^T) * {SEEN.format('exp(r * (pos(N) - pos(M)))')}) @ v\n",
        "flash_decayed_scan", "r",
    ),
    "a number": (
        QUADRATIC.format("") + f"    return ((q @ k^T) * {SEEN.format('0.9^(pos(N) - pos(M))')}) @ v\n",
        "flash_decayed_scan", "",
    ),
    "gates": (
        QUADRATIC.format(", g[H, N]") + "    c = cumsum[N](g)\n"
        f"    return ((q @ k^T) * {SEEN.format('exp(c - c[N -> M])')}) @ v\n",
        "flash_gated_scan", "g",
    ),
    "gates times a number": (
        QUADRATIC.format(", g[H, N]") + "    c = cumsum[N](g) / 2\n"
        f"    return ((q @ k^T) * {SEEN.format('exp(c - c[N -> M])')}) @ v\n",
        "flash_gated_scan", "g",
    ),
    "gates of features": (
        QUADRATIC.format(", g[H, N, D]") + "    c = cumsum[N](g)\n"
        f"    w = {SEEN.format('exp(c - c[N -> M])')}\n    return sum[M, D](w * q * k * v)\n",
        "flash_feature_gated_scan", "g",
    ),
    "delta rule": (
        PLAIN.format(added="beta * k * (v - k @ S)", read="q @ S"), "flash_delta_rule", ""
    ),
    "delta rule, the error first": (
        PLAIN.format(added="k * (2 * beta * (v - k @ S))", read="q @ S / 3"), "flash_delta_rule", ""
    ),
    "gated delta rule": (
        RULE.format(kept="exp(g) * S", added="beta * k * (v - k @ kept)", read="q @ S"), "flash_gated_delta_rule", "g"
    ),
    "gated delta rule of a sigmoid": (
        RULE.format(kept="sigmoid(g) * S", added="k * (beta * (v - k @ kept))", read="q @ S"),
        "flash_gated_delta_rule", "",
    ),
}  # fmt: skip
#: text, and the reason
LEFT = {
    "a strict mask": (
        QUADRATIC.format("") + "    return where(pos(N) > pos(M), q @ k^T, 0) @ v\n", "hold the position itself"
    ),
    "a normaliser that decays": (
        QUADRATIC.format(", r[H]") + "    b = (elu(q) + 1) @ (elu(k) + 1)^T\n"
        f"    a = b * {SEEN.format('exp(r * (pos(N) - pos(M)))')}\n    return (a / sum[M](a)) @ v\n",
        "divides no sum that decays",
    ),
    "gates of values": (
        QUADRATIC.format(", g[H, N, E]") + "    c = cumsum[N](g)\n"
        f"    w = {SEEN.format('exp(c - c[N -> M])')}\n    return sum[M, D](w * q * k * v)\n",
        "a gate of its own",
    ),
    "a polynomial": (
        QUADRATIC.format("") + f"    return {SEEN.format('(q @ k^T)^2')} @ v\n", "no such sum"
    ),
    "read before the decay": (
        RULE.format(kept="sigmoid(g) * S", added="beta * k * (v - k @ S)", read="q @ S"), "not what it reads"
    ),
    "read before the update": (
        PLAIN.format(added="beta * k * (v - k @ S)", read="q @ kept"), "is read otherwise than by one sum"
    ),
    "a gate for every feature under the delta rule": (
        RULE.replace("g[H, N]", "f[H, N, D]").format(
            kept="sigmoid(f) * S", added="beta * k * (v - k @ kept)", read="q @ S"
        ),
        "every feature has a gate of its own",
    ),
    "another direction": (
        PLAIN.format(added="beta * k * (v - q @ S)", read="q @ S"), "along the direction"
    ),
    "the other sign": (
        PLAIN.format(added="beta * k * (v + k @ S)", read="q @ S"), "what a step takes off"
    ),
    "twice the error": (
        PLAIN.format(added="beta * k * (v - 2 * k @ S)", read="q @ S"), "what a step takes off"
    ),
}  # fmt: skip


@cache
def planned(text: str) -> tuple[Formula, Graph]:
    """The formula and its plan; a scan at all positions at once, even where that is more work."""
    report = checked(text)
    chosen = choose(report, "associative" if "scan" in text else "auto")
    assert chosen.formula is not None
    assert chosen.plan is not None
    return chosen.formula, chosen.plan


def _steps(q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor | None, scale: float | None) -> Tensor:
    """The recurrence of the documentation: tensors [B, T, H, ...], a state [K, V], one step after the other."""
    assert q.shape == k.shape
    assert v.shape[:3] == q.shape[:3]
    state = torch.zeros(*q.shape[:1], *q.shape[2:], v.size(-1), dtype=q.dtype)
    rows = []
    for t in range(q.size(1)):
        state = decay[:, t].unsqueeze(-1) * state
        new = v[:, t]
        if beta is not None:
            assert beta.shape == q.shape[:3]
            new = (new - torch.einsum("bhk,bhkv->bhv", k[:, t], state)) * beta[:, t].unsqueeze(-1)
        state = state + k[:, t].unsqueeze(-1) * new.unsqueeze(-2)
        rows.append(torch.einsum("bhk,bhkv->bhv", q[:, t], state))
    return torch.stack(rows, 1) * (q.size(-1) ** -0.5 if scale is None else scale)


def _gates(q: Tensor, g: Tensor | None) -> Tensor:
    """exp(g) as [B, T, H, 1 or K]."""
    if g is None:
        return torch.ones_like(q[..., :1])
    assert g.dtype in (torch.float32, torch.float64)
    assert g.shape in (q.shape[:3], q.shape)
    return torch.exp(g if g.dim() == 4 else g.unsqueeze(-1)).to(q.dtype)


def chunk_simple_gla(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor | None = None, g_gamma: Tensor | None = None, scale: float | None = None
) -> tuple[Tensor, None]:
    assert g_gamma is None
    assert g is None or g.dim() == 3
    return _steps(q, k, v, _gates(q, g), None, scale), None


def chunk_gla(q: Tensor, k: Tensor, v: Tensor, g: Tensor, scale: float | None = None) -> tuple[Tensor, None]:
    assert g.shape == q.shape
    return _steps(q, k, v, _gates(q, g), None, scale), None


def chunk_delta_rule(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, scale: float | None = None) -> tuple[Tensor, None]:
    return _steps(q, k, v, _gates(q, None), beta, scale), None


def chunk_gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, scale: float | None = None
) -> tuple[Tensor, None]:
    assert g.dim() == 3
    return _steps(q, k, v, _gates(q, g), beta, scale), None


STAND_INS: dict[str, Callable[..., tuple[Tensor, Any]]] = {
    "simple_gla": chunk_simple_gla, "gla": chunk_gla, "delta_rule": chunk_delta_rule,
    "gated_delta_rule": chunk_gated_delta_rule,
}  # fmt: skip


def _install(patch: pytest.MonkeyPatch, functions: dict[str, Callable[..., tuple[Tensor, Any]]]) -> None:
    for name in ("fla", "fla.ops", *(f"fla.ops.{operation}" for operation in functions)):
        package = ModuleType(name)
        package.__spec__ = ModuleSpec(name, None)
        patch.setitem(sys.modules, name, package)
    for operation, function in functions.items():
        setattr(sys.modules[f"fla.ops.{operation}"], f"chunk_{operation}", function)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The stand-ins as the package `fla`; the list fills with what is called."""
    calls: list[str] = []

    def counted(name: str, function: Callable[..., tuple[Tensor, Any]]) -> Callable[..., tuple[Tensor, Any]]:
        def call(**arguments: Any) -> tuple[Tensor, Any]:
            calls.append(name)
            return function(**arguments)

        return call

    _install(monkeypatch, {name: counted(name, function) for name, function in STAND_INS.items()})
    return calls  # type: ignore[return-value]


def module(text: str, everywhere: bool) -> nn.Module:
    """The module. everywhere: calls the library on any device, in any dtype."""
    formula, plan = planned(text)
    graph, _ = with_fla(plan, formula.builder)
    generated = emit(formula, graph, stepped=plan)
    if everywhere:
        condition = "return x.is_cuda and x.dtype in (torch.float16, torch.bfloat16)"
        assert condition in generated.source
        generated = replace(generated, source=generated.source.replace(condition, "return True"))
    return load_class(generated)()


SIZES = (
    ((2,), {"H": 2, "N": 7, "M": 7, "D": 3, "E": 5}),
    ((), {"H": 1, "N": 1, "M": 1, "D": 1, "E": 1}),
    ((2, 3), {"H": 4, "N": 4, "M": 4, "D": 4, "E": 4}),
    ((), {"H": 2, "N": 67, "M": 67, "D": 3, "E": 2}),
)


def draw(text: str, negative: str, batch: tuple[int, ...], sizes: dict[str, int], dtype: torch.dtype) -> list[Tensor]:
    formula, _ = planned(text)
    torch.manual_seed(0)
    inputs = []
    for node in formula.inputs:
        x = torch.randn(*batch, *(sizes[axis] for axis in node.axes), dtype=torch.float64)
        name = node.op.name  # type: ignore[attr-defined]
        x = -x.abs() / 4 if name in negative.split() else x.sigmoid() if name == "beta" else x
        inputs.append((torch.nn.functional.normalize(x, dim=-1) if name == "k" else x).to(dtype).requires_grad_())
    return inputs


@pytest.mark.parametrize("name", FOUND)
def test_what_is_found(name: str) -> None:
    text, kernel, _ = FOUND[name]
    formula, plan = planned(text)
    graph, [note] = with_fla(plan, formula.builder)
    [found] = [node.op for node in graph.nodes() if isinstance(node.op, FlashScan)]
    assert found.kernel == kernel
    assert f"{OPERATIONS[kernel]} of flash-linear-attention on CUDA" in note


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left(name: str) -> None:
    text, reason = LEFT[name]
    formula, plan = planned(text)
    graph, notes = with_fla(plan, formula.builder)
    assert not any(isinstance(node.op, FlashScan) and "delta" in node.op.kernel for node in graph.nodes())
    assert graph.outputs == plan.outputs or "scan N" in text
    assert any(re.search(reason, note) and "not by flash-linear-attention, since" in note for note in notes), notes


@pytest.mark.parametrize("name", FOUND)
@pytest.mark.parametrize("everywhere", [False, True], ids=["on a CPU", "the library"])
def test_values_and_gradients(name: str, everywhere: bool, library: list[str]) -> None:
    text, kernel, negative = FOUND[name]
    formula, _ = planned(text)
    dense, made = build(formula, formula.graph), module(text, everywhere)
    exact = not everywhere or kernel in ("flash_linear_scan", "flash_delta_rule")  # gates are handed over in float32
    for batch, sizes in SIZES:
        inputs = draw(text, negative, batch, sizes, torch.float64)
        expected, actual = dense(*inputs), made(*inputs)
        close(actual, expected, 1e-10 if exact else 1e-5, f"{name} at {sizes}")
        cotangent = torch.randn_like(expected)
        gradients = [
            torch.autograd.grad((out * cotangent).sum(), inputs, allow_unused=True, materialize_grads=True)
            for out in (actual, expected)
        ]
        for found, wanted in zip(*gradients, strict=True):
            close(found, wanted, 1e-8 if exact else 1e-4, f"gradient of {name} at {sizes}")
    assert bool(library) == everywhere
    assert {f"chunk_{each}" for each in library} <= {OPERATIONS[kernel].partition(" ")[0]}


@pytest.mark.parametrize("name", FOUND)
def test_half_precision(name: str, library: list[str]) -> None:
    """The result has the dtype of the inputs; gates arrive in float32."""
    text, _, negative = FOUND[name]
    made = module(text, everywhere=True)
    batch, sizes = SIZES[0]
    exact = draw(text, negative, batch, sizes, torch.float64)
    formula, _ = planned(text)
    expected = build(formula, formula.graph)(*exact)
    out = made(*(x.detach().to(torch.bfloat16) for x in exact))
    assert out.dtype == torch.bfloat16
    assert library
    limit = 16 * torch.finfo(torch.bfloat16).eps * expected.abs().max().item()
    torch.testing.assert_close(out.double(), expected, rtol=0.0, atol=limit)


def test_sums_that_float16_may_not_hold_are_divided_in_float32(library: list[str]) -> None:
    text, _, negative = FOUND["normalised"]
    inputs = draw(text, negative, *SIZES[0], torch.float16)
    module(text, everywhere=True)(*inputs)
    assert not library


def test_wide_keys_of_the_delta_rule_run_here(library: list[str]) -> None:
    text, _, negative = FOUND["delta rule"]
    sizes = {"H": 1, "N": 3, "D": 257, "E": 2}
    module(text, everywhere=True)(*draw(text, negative, (), sizes, torch.float64))
    assert not library


def test_target(library: list[str]) -> None:
    text, _, negative = FOUND["gates of features"]
    made = attngraph.compile(text, target="fla")
    assert made.notes == (
        "feature-gated scan: chunk_gla of flash-linear-attention on CUDA, in half precision; "
        "elsewhere what the other targets run",
    )
    inputs = [x.detach() for x in draw(text, negative, *SIZES[0], torch.float32)]
    torch.testing.assert_close(made(*inputs), attngraph.compile(text)(*inputs))
    state, rows = made.init_state(), []
    for n in range(7):
        out, state = made.step(state, *(x.narrow(2, n, 1) for x in inputs))
        rows.append(out)
    torch.testing.assert_close(torch.cat(rows, 2), made(*inputs))
    assert not library
    [left] = attngraph.compile(LEFT["a strict mask"][0], target="fla").notes
    assert left == (
        "causal scan: not by flash-linear-attention, since its sums hold the position itself, which is left out here"
    )


@pytest.mark.skipif(importlib.util.find_spec("fla") is not None, reason="flash-linear-attention is installed")
def test_the_library_is_asked_for() -> None:
    with pytest.raises(CompileError, match=r"pip install 'attngraph\[fla\]'"):
        attngraph.compile(FOUND["gates"][0], target="fla")


def test_it_has_no_file_format(tmp_path: Path) -> None:
    formula, plan = planned(FOUND["gates"][0])
    with pytest.raises(CompileError, match="has no file format"):
        save(formula, plan, tmp_path / "gates.py", target="fla")


# -- the library itself ----------------------------------------------------------------------------------------


def _reference(operation: str) -> ModuleType:
    """The references of an operation for a CPU, read from the file: the package itself needs triton."""
    pytest.importorskip("einops")
    package = importlib.util.find_spec("fla")
    if package is None or not package.submodule_search_locations:
        pytest.skip("flash-linear-attention is not installed")
    path = Path(next(iter(package.submodule_search_locations))) / "ops" / operation / "naive.py"
    spec = importlib.util.spec_from_file_location(f"fla_{operation}_naive", path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_the_references_of_the_library_compute_the_same() -> None:
    """The stand-ins are what the library says of itself."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 13, 3, 4)
    k = torch.nn.functional.normalize(k, dim=-1)
    g, gk, beta = -torch.rand(2, 13, 3), -torch.rand(2, 13, 3, 4), torch.rand(2, 13, 3)
    simple = _reference("simple_gla").naive_recurrent_simple_gla(q, k, v, g, scale=1.0)[0]
    torch.testing.assert_close(chunk_simple_gla(q, k, v, g, scale=1.0)[0], simple)
    features = _reference("gla").naive_recurrent_gla(q, k, v, gk)[0]
    torch.testing.assert_close(chunk_gla(q, k, v, gk)[0], features)
    gated = _reference("gated_delta_rule").naive_recurrent_gated_delta_rule(q, k, v, beta, g, scale=1.0)[0]
    torch.testing.assert_close(chunk_gated_delta_rule(q, k, v, g, beta, scale=1.0)[0], gated)
    heads_first = (x.transpose(1, 2) for x in (q, k, v, beta))
    delta = _reference("delta_rule").delta_rule_recurrence(*heads_first)[0].transpose(1, 2)
    torch.testing.assert_close(chunk_delta_rule(q, k, v, beta)[0], delta)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("name", FOUND)
def test_kernels(name: str, dtype: torch.dtype) -> None:
    """The kernels of the library, values and gradients, against the text as written in double precision."""
    pytest.importorskip("fla")
    text, _, negative = FOUND[name]
    formula, _ = planned(text)
    dense, made = build(formula, formula.graph), module(text, everywhere=False).cuda()
    for batch, length in (((2,), 7), ((2,), 300), ((), 64)):
        sizes = {"H": 2, "N": length, "M": length, "D": 64, "E": 32}
        half = [x.detach().to("cuda", dtype).requires_grad_() for x in draw(text, negative, batch, sizes, dtype)]
        exact = [x.detach().double().cpu().requires_grad_() for x in half]
        out, expected = made(*half), dense(*exact)
        cotangent = torch.randn_like(expected)
        found = torch.autograd.grad((out.double().cpu() * cotangent).sum(), half)
        wanted = torch.autograd.grad((expected * cotangent).sum(), exact)
        assert out.dtype == dtype
        for actual, wished in zip((out, *found), (expected, *wanted), strict=True):
            limit = 16 * torch.finfo(dtype).eps * wished.abs().max().item()
            torch.testing.assert_close(actual.double().cpu(), wished, rtol=0.0, atol=limit)
