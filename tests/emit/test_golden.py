"""Generated modules as real files: readable, stable, and running without attngraph."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attngraph.compiler.emit import emit

from ..conftest import GOLDEN
from .formulas import TEXTS, typed, written

DRAWN: dict[str, Callable[[int], tuple[Tensor, ...]]] = {
    "softmax_attention": lambda n: _draw((2, n, 4), (2, 7, 4), (2, 7, 5)),
    "linear_attention": lambda n: _draw((2, n, 4), (2, 7, 4), (2, 7, 5)),
    "retention": lambda n: _draw((2, 3, n, 4), (2, 3, n, 4), (2, 3, n, 5)),
    "swin_window": lambda n: _draw((n, 4), (n, 4), (n, 5)),
    "rotated": lambda n: _draw((2, n, 12)),
    "grouped": lambda n: _draw((2, 6, n, 4), (2, 3, 7, 4), (2, 3, 7, 5)),
    "kinds": lambda n: (
        *_draw((2, n, 4), (2, 7, 4)),
        torch.rand(n, 7) < 0.5,
        torch.arange(n) // 2,
        torch.arange(7, dtype=torch.int32) // 2,
    ),
}


def _draw(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.randn(shape, dtype=torch.float64) for shape in shapes)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT / q.size(-1) ** 0.5, -1) @ v


def linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    a = (torch.nn.functional.elu(q) + 1) @ (torch.nn.functional.elu(k) + 1).mT
    return a / a.sum(-1, keepdim=True) @ v


def retention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    result = torch.zeros(*q.shape[:-1], v.size(-1), dtype=q.dtype)
    for h in range(q.size(-3)):
        for n in range(q.size(-2)):
            for m in range(n + 1):
                weight = (1 - 2.0 ** (-5 - h)) ** (n - m)
                score = (q[..., h, n, :] * k[..., h, m, :]).sum(-1, keepdim=True)
                result[..., h, n, :] += weight * score * v[..., h, m, :]
    return result


def swin_window(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    parts = (torch.tensor_split(x, tuple(range(49, len(x), 49))) for x in (q, k, v))
    return torch.cat([softmax_attention(*part) for part in zip(*parts, strict=True)])


def rotated(x: Tensor, module: Any) -> Any:
    w, b, scale, shift = (getattr(module, name) for name in ("w", "b", "scale", "shift"))
    n = torch.arange(x.size(-2), dtype=torch.float64)
    frequency = 100.0 ** (-torch.arange(4, dtype=torch.float64) / 4)
    h = (x @ w + b).unflatten(-1, (3, 4)) * scale[:, None]
    wave = torch.cos(n[:, None] * frequency) * torch.log(torch.tensor(float(len(n)), dtype=torch.float64))
    return (h * wave[:, None, :] + shift).flatten(-2)


def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    share = q.size(-3) // k.size(-3)
    return softmax_attention(q, k.repeat_interleave(share, -3), v.repeat_interleave(share, -3))


def kinds(q: Tensor, k: Tensor, mask: Tensor, doc: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    return (q @ k.mT) * (mask & (doc[:, None] == at)), doc + 1


def load(name: str) -> type[nn.Module]:
    spec = importlib.util.spec_from_file_location(f"golden_{name}", GOLDEN / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return next(v for v in vars(loaded).values() if isinstance(v, type) and v.__module__ == f"golden_{name}")


@pytest.mark.parametrize("name", TEXTS)
def test_source_is_the_golden_file(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"{name}.py", written(TEXTS[name]).source)


def test_source_of_a_plan_is_the_golden_file(golden: Callable[[str, str], None]) -> None:
    formula, plan = typed(TEXTS["linear_attention"])
    notes = {plan.outputs[0]: "the normaliser divides last\nand once"}
    golden("linear_attention_planned.py", emit(formula, plan, notes=notes).source)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("length", [1, 2, 13, 50])
def test_golden_module_computes_the_formula(name: str, length: int) -> None:
    inputs = DRAWN[name](length)
    arguments: tuple[Any, ...] = (3, 4) if name == "rotated" else ()
    module = load(name)(*arguments, dtype=torch.float64)
    reference = globals()[name]
    expected = reference(*inputs, module) if name == "rotated" else reference(*inputs)
    torch.testing.assert_close(module(*inputs), expected, rtol=1e-9, atol=1e-12)


def test_golden_module_needs_torch_only() -> None:
    code = (
        "import sys, torch\n"
        f"sys.path.insert(0, {str(GOLDEN)!r})\n"
        "from retention import Retention\n"
        "x = torch.ones(2, 3, 4)\n"
        "assert Retention()(x, x, v=x).shape == x.shape\n"
        "assert not [name for name in sys.modules if name.startswith('attngraph')]\n"
    )
    subprocess.run([sys.executable, "-I", "-c", code], check=True, timeout=120)


def test_every_line_fits_the_page() -> None:
    for path in GOLDEN.glob("*.py"):
        assert max(map(len, path.read_text(encoding="utf-8").splitlines())) <= 100, path
