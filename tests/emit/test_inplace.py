"""What is made for one use is changed where it is; nobody can tell but by the memory."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import attngraph

HEAD = "attention f(q[N, D], k[M, D], v[M, E]) -> [N, E]:\n"
BARE = "attention f(x[N, D]) -> [N, D]:\n"
Hand = Callable[..., Tensor]

#: Text, methods that write to a value made before, and the same by hand.
IN_PLACE: dict[str, tuple[str, list[str], Hand]] = {
    "a number added": (BARE + "    return elu(x) + 1\n", ["add_"], lambda x: functional.elu(x) + 1),
    "a number before": (BARE + "    return 2 * (x * x)\n", ["mul_"], lambda x: 2 * (x * x)),
    "one after the other": (
        BARE + "    return tanh((cos(x) - 0.5) / sqrt(D))\n",
        ["sub_", "div_", "tanh_"],
        lambda x: torch.tanh((torch.cos(x) - 0.5) / x.size(-1) ** 0.5),
    ),
    "scores": (
        HEAD + "    return sigmoid(q @ k^T / sqrt(D) - log(M)) @ v\n",
        ["sub_", "sigmoid_"],
        lambda q, k, v: torch.sigmoid(q @ k.mT / q.size(-1) ** 0.5 - torch.tensor(k.size(-2)).log()) @ v,
    ),
    "relu": (HEAD + "    return relu(q @ k^T) @ v\n", ["relu_"], lambda q, k, v: torch.relu(q @ k.mT) @ v),
    "of a state": (
        BARE + "    return silu(cumsum[N](silu(x) * 3))\n",
        ["mul_"],
        lambda x: functional.silu(torch.cumsum(functional.silu(x) * 3, -2)),
    ),
}

#: Texts of which nothing may be changed where it is.
APART: dict[str, str] = {
    "an input": BARE + "    return x + 1\n",
    "a view of an input": "attention f(x[N, D]) -> [D, N]:\n    return x^T + 1\n",
    "read twice": BARE + "    y = cos(x)\n    return (y + 1) * y\n",
    "has a name": BARE + "    y = cos(x)\n    return y + 1\n",
    "its gradient reads it": BARE + "    return exp(x) + 1\n",
    "that of a function in place reads it": BARE + "    return sigmoid(sigmoid(x)) * 2\n",
    "autocast widens": HEAD + "    return exp(q @ k^T) @ v\n",
    "what is greater": "attention f(x[N, D], y[D]) -> [N, D]:\n    return cos(y) + x\n",
    "of another batch": "attention f(x[N, D], y[N, D]) -> [N, D]:\n    return cos(y) + x\n",
    "a parameter": BARE + "    param s[]\n    return cos(x) * s\n",
    "from a number": BARE + "    return 1 - cos(x)\n",
    "integers": "attention f(x[N, D]) -> [N, D]:\n    return x * (pos(N) * pos(N) + 1)\n",
}
METHOD = re.compile(r"\.([a-z]+_)\(")


def written(text: str) -> list[str]:
    """The methods that write to a value, in order."""
    source = attngraph.compile(text).source
    return METHOD.findall(source[source.index("    def check") :])


def draw(count: int, *batch: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 3)] if count == 1 else [(5, 3), (7, 3), (7, 2)]
    return [torch.randn(*batch, *shape, dtype=torch.float64, generator=generator) for shape in shapes]


@pytest.mark.parametrize("name", IN_PLACE)
def test_values_and_gradients_are_those_by_hand(name: str) -> None:
    text, methods, hand = IN_PLACE[name]
    assert [x for x in methods if x not in written(text)] == []
    module, inputs = attngraph.compile(text).double(), draw(hand.__code__.co_argcount, 2)
    held = [x.clone() for x in inputs]
    torch.testing.assert_close(module(*inputs), hand(*inputs))
    torch.testing.assert_close(inputs, held, rtol=0.0, atol=0.0)
    leaves = [x.requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(module, leaves)
    assert torch.autograd.gradgradcheck(module, leaves)
    scripted = torch.jit.script(module)
    torch.testing.assert_close(scripted(*inputs), hand(*inputs))


@pytest.mark.parametrize("name", IN_PLACE)
def test_under_transforms(name: str) -> None:
    """vmap of any of the inputs, without a warning that it falls back; gradients of one input; tangents."""
    text, _, hand = IN_PLACE[name]
    module, inputs = attngraph.compile(text).double(), draw(hand.__code__.co_argcount)
    for place in range(len(inputs)):
        many = [torch.stack([x, 2 * x]) if index == place else x for index, x in enumerate(inputs)]
        dims = tuple(0 if index == place else None for index in range(len(inputs)))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = torch.func.vmap(module, in_dims=dims)(*many)
        torch.testing.assert_close(found, torch.func.vmap(hand, in_dims=dims)(*many))
        gradients = [torch.func.grad(lambda *x, f=f: f(*x).sin().sum(), place)(*inputs) for f in (module, hand)]
        torch.testing.assert_close(*gradients)
    tangents = [torch.func.jvp(f, tuple(inputs), tuple(inputs)) for f in (lambda *x: module(*x), hand)]
    torch.testing.assert_close(*tangents)


@pytest.mark.parametrize("name", IN_PLACE)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_and_under_autocast(name: str, dtype: torch.dtype) -> None:
    """The same dtypes as by hand, and values within their rounding."""
    text, _, hand = IN_PLACE[name]
    module, inputs = attngraph.compile(text), [x.float() for x in draw(hand.__code__.co_argcount, 2)]
    with torch.autocast("cpu", dtype):
        found, expected = module(*inputs), hand(*inputs)
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found.float(), expected.float(), rtol=5e-2, atol=5e-2)
    low = [x.to(dtype) for x in inputs]
    assert module(*low).dtype == dtype
    torch.testing.assert_close(module(*low).float(), hand(*inputs), rtol=8e-2, atol=8e-2)


@pytest.mark.parametrize("name", APART)
def test_near_misses(name: str) -> None:
    assert written(APART[name]) == []


def test_a_function_whose_gradient_reads_its_result_is_the_last_in_place() -> None:
    """sigmoid_ keeps what it wrote for its gradient, which a further number must not change."""
    text = HEAD + "    return (sigmoid(q @ k^T) * 2) @ v\n"
    assert written(text) == ["sigmoid_"]
    leaves = [x.requires_grad_() for x in draw(3)]
    assert torch.autograd.gradcheck(attngraph.compile(text).double(), leaves)
