"""Numbers on products: which are multiplied into a factor, and which stay where they are."""

from __future__ import annotations

import pytest
import torch

import attngraph
from attngraph.compiler.lowerings import scales
from attngraph.compiler.ops.arithmetic import Divide, Multiply
from attngraph.compiler.ops.contraction import Contraction

from .formulas import HEADS, PLAIN, Case, formula
from .harness import all_sizes, checked, draw, fixed, pair, parts, same_values_and_gradients


def _case(name: str, *lines: str, inputs: str = PLAIN, result: str = "[N, E]", **more: object) -> Case:
    return Case(name, formula(name, inputs, "sequence N, M", *lines, result=result), "", tied=False, **more)  # type: ignore[arg-type]


MOVED = [
    _case("divided", "return sigmoid(q @ k^T / sqrt(D)) @ v"),
    _case("multiplied", "return tanh(0.5 * (q @ k^T)) @ v"),
    _case("a_power", "return tanh(D^-0.5 * (q @ k^T)) @ v"),
    _case("several", "return tanh(2 * (q @ k^T / sqrt(D)) / 3 * -1) @ v"),
    _case("a_constant", "const beta = 0.25", "return sigmoid(q @ k^T * beta) @ v"),
    _case("of_heads", "return sigmoid(q @ k^T / sqrt(D)) @ v", inputs=HEADS, result="[H, N, E]"),
    _case("transposed", "return sigmoid((k @ q^T / sqrt(D))^T) @ v"),
    _case("read_twice", "s = q @ k^T / sqrt(D)", "return (tanh(s) * sigmoid(s)) @ v"),
]
KEPT = [
    _case("by_the_length", "return sigmoid(q @ k^T / sqrt(M)) @ v"),
    _case("large", "return tanh(q @ k^T * 1e6) @ v"),
    _case("nothing", "return sigmoid(q @ k^T * 0) @ v"),
    _case("a_large_constant", "const beta = 1e9", "return sigmoid(q @ k^T / beta) @ v"),
    _case("learned", "param beta[] = normal(1)", "return sigmoid(q @ k^T * beta) @ v"),
    _case("needed_unscaled_too", "s = q @ k^T", "return (sigmoid(s / sqrt(D)) * tanh(s)) @ v"),
    _case("a_value_of_each_query", "return sigmoid(q @ k^T / (1 + sum[D](q * q))) @ v"),
    _case("no_product", "return sigmoid(relu(q @ k^T) / sqrt(D)) @ v"),
]


def _on_products(case: Case) -> list[Contraction]:
    """The products that a plan multiplies or divides by a number without axes."""
    _, _, plan = parts(case.text)
    scaled = (node for node in plan.nodes() if isinstance(node.op, Multiply | Divide))
    return [o.op for node in scaled for o in node.inputs
            if isinstance(o.op, Contraction) and {"N", "M"} <= set(node.axes)]  # fmt: skip


@pytest.mark.parametrize("case", MOVED, ids=str)
def test_moved(case: Case) -> None:
    assert not _on_products(case)
    [step] = [step for step in checked(case.text).steps if step.rule == scales.RULE]
    assert step.why == scales.WHY


@pytest.mark.parametrize("case", KEPT, ids=str)
def test_kept(case: Case) -> None:
    assert not any(step.rule == scales.RULE for step in checked(case.text).steps)


@pytest.mark.parametrize("case", MOVED, ids=str)
@pytest.mark.parametrize("length", [1, 7])
def test_values_and_gradients(case: Case, length: int) -> None:
    sizes = all_sizes(case, length, length + 2)
    same_values_and_gradients(pair(case.text, fixed(case, sizes)), draw(case, sizes, (2,)))


def test_queries_are_scaled_where_keys_are_kept_for_later() -> None:
    """Keys are handed on as they are given, although there are fewer heads of them."""
    text = formula("f", "q[H, N, D], k[N, D], v[N, E]", "a = sigmoid(q @ k[N -> M]^T / sqrt(D))",
                   "return where(pos(N) >= pos(M), a, 0) @ v[N -> M]", result="[H, N, E]")  # fmt: skip
    _, _, plan = parts(text)
    [divided] = [node.inputs[0] for node in plan.nodes() if isinstance(node.op, Divide)]
    assert divided.axes == ("H", "N", "D")


def test_a_product_that_is_one_number() -> None:
    """There is no map to keep numbers off."""
    text = "attention f(x[N, D]) -> [N, D]:\n    return x * tanh(sum[N, D](x * x) / 8)\n"
    x = torch.randn(3, 2, dtype=torch.float64)
    torch.testing.assert_close(attngraph.compile(text)(x), x * torch.tanh((x * x).sum() / 8))
