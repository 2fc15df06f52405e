"""Modules of recurrences against the plain interpreter, values and gradients, on every target that takes loops."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import attngraph
from attngraph import exchange
from attngraph.compiler.formula import Formula
from attngraph.compiler.scan import Scan, deep

from ..reference import evaluate
from .formulas import FORMULAS, SIZES

CASES = [pytest.param(name, sizes, id=f"{name}-{sizes['N']}") for name in FORMULAS for sizes in SIZES]


def typed(name: str, text: str | None = None) -> Formula:
    report = attngraph.check(attngraph.parse(FORMULAS[name] if text is None else text, name))
    assert report.ok, [d.message for d in report.diagnostics]
    assert not report.diagnostics, [d.message for d in report.diagnostics]
    assert report.formula is not None
    return report.formula


def built(name: str, target: str = "eager") -> nn.Module:
    return attngraph.compile(FORMULAS[name], name=name, target=target).double()


def draw(formula: Formula, sizes: Mapping[str, int], batches: tuple[tuple[int, ...], ...] = ()) -> list[Tensor]:
    random = torch.Generator().manual_seed(len(formula.name))
    found = []
    for index, node in enumerate(formula.inputs):
        shape = (*(batches[index % len(batches)] if batches else ()), *(sizes[axis] for axis in node.axes))
        found.append(torch.randn(shape, generator=random, dtype=torch.float64) / 2)
    return found


def all_sizes(formula: Formula, sizes: Mapping[str, int]) -> dict[str, int]:
    known = {**sizes, **{name: int(value) for name, value in formula.constants.items()}}
    derived = {axis: int(size.evaluate(known)) for axis, size in formula.derived.items()}
    return {**known, **derived, **({"G": sizes["N"] // 2, "I": 2} if formula.name == "nested" else {})}


def expected(formula: Formula, inputs: list[Tensor], sizes: Mapping[str, int]) -> tuple[np.ndarray, ...]:  # type: ignore[type-arg]
    arrays = {node.op.name: value.numpy() for node, value in zip(formula.inputs, inputs, strict=True)}  # type: ignore[attr-defined]
    result: tuple[np.ndarray, ...] = evaluate(formula.graph, arrays, all_sizes(formula, sizes))  # type: ignore[type-arg]
    return result


def compare(actual: Tensor | tuple[Tensor, ...], wanted: tuple[np.ndarray, ...]) -> None:  # type: ignore[type-arg]
    outputs = actual if isinstance(actual, tuple) else (actual,)
    for one, other in zip(outputs, wanted, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one.detach().numpy(), other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("name", "sizes"), CASES)
def test_values(name: str, sizes: Mapping[str, int]) -> None:
    formula = typed(name)
    inputs = draw(formula, sizes)
    compare(built(name)(*inputs), expected(formula, inputs, sizes))


@pytest.mark.parametrize("name", FORMULAS)
def test_batches_broadcast(name: str) -> None:
    formula, sizes = typed(name), SIZES[2]
    inputs = draw(formula, sizes, ((2, 1), (3,)))
    compare(built(name)(*inputs), expected(formula, inputs, sizes))


@pytest.mark.parametrize("name", FORMULAS)
def test_gradients(name: str) -> None:
    sizes = {"N": 4, "M": 3, "D": 2, "E": 3}
    inputs = [value.requires_grad_() for value in draw(typed(name), sizes)]
    module = built(name)

    def real(*values: Tensor) -> tuple[Tensor, ...]:
        out = module(*values)
        return tuple(o for o in (out if isinstance(out, tuple) else (out,)) if o.is_floating_point())

    assert torch.autograd.gradcheck(real, inputs, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", FORMULAS)
def test_torchscript(name: str) -> None:
    formula = typed(name)
    scripted = torch.jit.script(built(name))
    for sizes in SIZES[1:]:  # one script for any length
        inputs = draw(formula, sizes, ((2,),))
        compare(scripted(*inputs), expected(formula, inputs, sizes))


@pytest.mark.parametrize("name", FORMULAS)
def test_compiled(name: str) -> None:
    formula, sizes = typed(name), {"N": 4, "M": 3, "D": 2, "E": 3}
    inputs = draw(formula, sizes)
    wanted = expected(formula, inputs, sizes)
    compare(torch.compile(built(name), backend="aot_eager", fullgraph=True)(*inputs), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMULAS)
def test_exported(name: str) -> None:
    """One program for every length."""
    formula = typed(name)
    program = built(name, "export")
    for sizes in SIZES[name == "nested" :]:  # torch takes a recurrence over one part for a constant
        inputs = draw(formula, sizes, ((2,),))
        compare(program(*inputs), expected(formula, inputs, sizes))


@pytest.mark.parametrize("target", ["export", "onnx"])
def test_a_program_takes_any_length(target: str) -> None:
    formula = typed("delta")
    program = built("delta", target)
    for sizes in ({"N": 1, "D": 3, "E": 2}, {"N": 23, "D": 2, "E": 2}):
        inputs = draw(formula, sizes, ((2,),))
        with torch.no_grad():
            compare(program(*inputs), expected(formula, inputs, sizes))


def test_what_a_step_reads_may_share_memory() -> None:
    text = """attention shared(x[N, D]) -> [N, D]:
    where M = N
    y = x[N -> M]
    scan N:
        state s[D] = 0
        s = tanh(s) + x + softmax[M](x @ y^T) @ y + softmax[M](y @ x) @ y
        yield out = s
    return out
"""
    exported, eager = attngraph.compile(text, target="export"), attngraph.compile(text)
    assert "torch._higher_order_ops" in exported.source
    for length in (7, 1, 12):
        x = torch.randn(2, length, 3, requires_grad=True)
        values = [module(x) for module in (exported, eager)]
        torch.testing.assert_close(*values)
        torch.testing.assert_close(*(torch.autograd.grad(value.square().sum(), x) for value in values))


def test_gradients_of_an_exported_program() -> None:
    inputs = [x.requires_grad_() for x in draw(typed("delta"), {"N": 9, "D": 2, "E": 3}, ((2,),))]
    found = [torch.autograd.grad(built("delta", t)(*inputs).square().sum(), inputs) for t in ("eager", "export")]
    torch.testing.assert_close(*found)


def test_a_step_may_make_axes() -> None:
    text = (
        "attention f(x[N]) -> [L, P, W]:\n    where L = 2\n    where W = 3\n    scan L:\n        state s[N] = 0\n"
        "        p = pad_circular[N -> P](s, before=1, after=1)\n"
        "        y = windows[P -> P, W](p, start=0, dilation=1)\n"
        "        s = tanh(s) + x\n        yield z = y\n    return z\n"
    )
    graph = typed("f", text).graph
    assert exchange.from_json(exchange.to_json(graph)).digest() == graph.digest()


@pytest.mark.parametrize("name", FORMULAS)
def test_text_and_graph_say_the_same(name: str) -> None:
    """The formula that a graph is written as, the graph that JSON gives back: they compute the same."""
    formula, sizes = typed(name), SIZES[1]
    inputs = draw(formula, sizes)
    wanted = expected(formula, inputs, sizes)
    report = attngraph.check(attngraph.parse(FORMULAS[name], name))
    text = attngraph.simplify(attngraph.parse(FORMULAS[name], name)).text
    again = typed(name, text)
    compare(tuple(map(torch.as_tensor, expected(again, inputs, sizes))), wanted)
    assert report.plan is not None
    for graph in (formula.graph, report.plan):
        back = exchange.from_json(exchange.to_json(graph))
        assert back.digest() == graph.digest()
        assert exchange.to_json(back) == exchange.to_json(graph)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({r"\bs\b": "held", r"\bg\b": "factor"}, True),
        ({r"\by\b": "given", r"\bh\b": "added"}, True),
        ({r"s = g \* s \+ h": "s = h * s + g"}, False),
        ({r"yield y = s": "yield y = t"}, False),
        ({r"t = t \+ s": "t = t + g"}, False),
        ({r"t\[D\] = 0": "t[D] = 1"}, False),
    ],
)
def test_names_of_what_a_step_reads_do_not_change_the_digest(changes: Mapping[str, str], same: bool) -> None:
    text = """attention f(x[N, D]) -> [N, D]:
    g = tanh(x)
    h = cos(x)
    scan N:
        state s[D] = 0, t[D] = 0
        s = g * s + h
        t = t + s
        yield y = s
    return y
"""
    other = text
    for before, after in changes.items():
        other = re.sub(before, after, other)
    assert other != text
    assert (typed("f", other).graph.digest() == typed("f", text).graph.digest()) == same


@pytest.mark.parametrize("name", FORMULAS)
def test_half_precision_keeps_its_dtype(name: str) -> None:
    formula = typed(name)
    inputs = [value.to(torch.bfloat16) for value in draw(formula, SIZES[1])]
    module = attngraph.compile(FORMULAS[name], name=name)
    out = module(*inputs)
    for value in out if isinstance(out, tuple) else (out,):
        assert value.dtype is torch.bfloat16 or not value.is_floating_point()


def test_time_is_length_times_step() -> None:
    report = attngraph.check(FORMULAS["delta"])
    assert report.written is not None
    # k @ S and q @ S: 2 D E each; beta * k: D; v - before: E; the outer product and the sum: 2 D E; y: E
    assert str(report.written.time) == "6*D*E*N + D*N + 2*E*N"


def test_a_step_is_planned() -> None:
    """A product of three inside a step is evaluated in the cheap order."""
    text = """
attention chained(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    where S = 5
    scan S:
        state x[N, E] = 0
        x = tanh(x + q @ k^T @ v)
    return x
"""
    report = attngraph.check(text)
    assert report.written is not None
    assert report.compiled is not None
    assert "M*N" in str(report.written.time)
    assert "M*N" not in str(report.compiled.time)


def test_scans_in_a_row_do_not_share_a_method() -> None:
    text = """
attention twice(x[N, D]) -> [N, D]:
    scan N:
        state s[D] = 0
        s = s / 2 + x
        yield y = s
    scan N:
        state t[D] = 0
        t = t / 3 + y
        yield z = t
    return z
"""
    module = attngraph.compile(text)
    x = torch.randn(5, 2, dtype=torch.float64)
    s = t = torch.zeros(2, dtype=torch.float64)
    rows = []
    for row in x:
        s = s / 2 + row
        t = t / 3 + s
        rows.append(t)
    torch.testing.assert_close(module(x), torch.stack(rows))


def test_equal_scans_are_one_node() -> None:
    """Names of states do not make two recurrences of one."""
    text = FORMULAS["delta"]
    report = attngraph.check(text)
    assert report.formula is not None
    scans = [node for node in deep(report.formula.graph.nodes()) if isinstance(node.op, Scan)]
    assert len(scans) == 1
    assert scans[0].op.states == 1
    assert scans[0].op.slices == 4
