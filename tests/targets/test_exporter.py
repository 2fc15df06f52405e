"""Faults of exporters that change numbers or fix sizes: each is mended for all formulas."""

from __future__ import annotations

import pytest
import torch
from torch.fx.experimental.symbolic_shapes import free_symbols

from attngraph.compiler.emit import emit
from attngraph.compiler.module import _instance
from attngraph.compiler.targets.lifted import with_sizes
from attngraph.compiler.targets.programs import export

from ..emit.formulas import compiled
from .test_targets import planned


@pytest.mark.parametrize("eps", ["1e-8", "1e-12"])
def test_onnx_keeps_small_numbers(eps: str) -> None:
    """The optimiser of the exporter takes what is below 1e-8 for 0, and drops it where it is added."""
    text = f"attention f(x[N]) -> [N]:\n    return x^2 / (x^2 + {eps}) * 1.000001\n"
    x = torch.tensor([[1e-6, 1e-4, 0.0, 1.0, 2.0]], dtype=torch.float64)
    with torch.no_grad():
        made, eager = (compiled(text, target=target, dtype=torch.float64)(x) for target in ("onnx", "eager"))
    torch.testing.assert_close(made, eager, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("target", ["export", "onnx"])
def test_sizes_divide_downwards(target: str) -> None:
    """The exporter rounds a quotient of sizes towards 0, so that a ceiling came out too small."""
    text = """attention f(x[N]) -> [G]:
    where G = ceil(N / 4), P = 4 * G, I = 4
    return sum[I](split[P -> G, I](pad[N -> P](x, after=P - N))) + (3 - N) // 4
"""
    made, eager = (compiled(text, target=name, dtype=torch.float64) for name in (target, "eager"))
    with torch.no_grad():
        for length in (14, 13, 5, 28):
            x = torch.randn(2, length, dtype=torch.float64)
            torch.testing.assert_close(made(x), eager(x))


@pytest.mark.parametrize("target", ["torchscript", "export", "onnx"])
@pytest.mark.parametrize("bins", [1, 3, 7])
def test_bins_of_any_length(target: str, bins: int) -> None:
    """torch's own pooling is exported for multiples of the number of bins, or for the length of the example."""
    text = f"attention f(x[N, D]) -> [P, D]:\n    where P = {bins}\n    return adaptive_pool[N -> P](x)\n"
    made, eager = (compiled(text, target=name, dtype=torch.float64) for name in (target, "eager"))
    with torch.no_grad():
        for length in (14, 5, 23, 2, 7):
            x = torch.randn(2, length, 3, dtype=torch.float64)
            torch.testing.assert_close(made(x), eager(x))


def test_onnx_computes_with_sizes_in_double_precision() -> None:
    text = "attention f(x[N, D]) -> [N, D]:\n    return x / sqrt(D) * N^0.3 + 0.1 * x / N + exp(-N / 8) * x\n"
    made, eager = (compiled(text, target=target, dtype=torch.float64) for target in ("onnx", "eager"))
    with torch.no_grad():
        for length in (14, 5):
            x = torch.randn(2, length, 3, dtype=torch.float64)
            torch.testing.assert_close(made(x), eager(x), rtol=1e-13, atol=1e-13)


def test_recurrences_take_the_sizes_of_their_results() -> None:
    """What inductor looks for among their arguments; a program that has them computes the same."""
    text = """attention f(x[N, D]) -> [N, D]:
    scan N:
        state s[D] = 0
        s = 0.5 * s + tanh(s) * x + 1
        yield y = s
    return y
"""
    formula, plan = planned(text)
    loop = _instance(formula, emit(formula, plan, at_once=True, operator=True), None, None, None, torch.float64)[0]  # type: ignore[arg-type]
    program = with_sizes(export(loop, (torch.randn(2, 5, 3, dtype=torch.float64),)))
    [scan] = [node for node in program.graph.nodes if node.target is torch.ops.higher_order.scan]
    wanted = set().union(*map(free_symbols, scan.meta["val"]))
    length = scan.args[2][0].meta["val"].size(0).node.expr
    assert wanted - {node.meta["val"].node.expr for node in scan.args[3]} <= {length}
    assert len(wanted) >= 3
    x = torch.randn(4, 9, 2, dtype=torch.float64)
    torch.testing.assert_close(program.module()(x), compiled(text, dtype=torch.float64)(x))
