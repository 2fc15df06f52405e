"""The module of a formula that has no `step` says why, and is otherwise a module like any other."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

import attngraph

QKV = "attention f(q[N, D], k[M, D], v[M, E]) -> [N, E]:\n"
#: name: text, and what the message says.
TEXTS: Mapping[str, tuple[str, str]] = {
    "other positions": (QKV + "    where M = N\n    return softmax[M](q @ k^T) @ v\n", "it is not causal: position n"),
    "two sequences": (QKV + "    return softmax[M](q @ k^T) @ v\n", "it is not causal: nothing says that `M`"),
    "an axis of another size": (
        "attention f(q[N, D], k[K, D]) -> [N, D]:\n    where K = floor(N / 2) + 1\n    sequence N, K\n"
        "    return q * sum[K](k)\n",
        "it is not causal: `K` has floor(N/2) + 1 entries, which are not the positions along `N`",
    ),
    "one result": ("attention f(x[N, D]) -> [D]:\n    return mean[N](x)\n", "the result has no sequence axis"),
    "no sequence": ("attention f(x[D]) -> [D]:\n    return 2 * x\n", "there is no sequence axis to step along"),
    "a later position": ("attention f(x[N, D]) -> [N, D]:\n    return shift[N](x, by=-1)\n", "in `shift[N](x, by=-1)`"),
}
PARAMETERS = "attention f(x[N, D]) -> [N, D]:\n    param w[D], b[D] = 0\n    return softmax[N](x * w) + b\n"


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("method", ["step", "init_state"])
def test_the_reason(name: str, method: str) -> None:
    text, reason = TEXTS[name]
    module = attngraph.compile(text)
    assert not hasattr(module, method)
    with pytest.raises(AttributeError) as caught:
        getattr(module, method)
    assert str(caught.value).startswith(f"f has no `{method}`: ")
    assert reason in str(caught.value)


def test_any_other_name_is_missing_as_ever() -> None:
    module = attngraph.compile(PARAMETERS, sizes={"D": 3})
    with pytest.raises(AttributeError, match="object has no attribute 'stepp'"):
        module.stepp  # noqa: B018
    assert getattr(module, "step", None) is None


def _compiled(module: nn.Module) -> nn.Module:
    torch.compiler.reset()
    return torch.compile(module, backend="eager", fullgraph=True)  # type: ignore[return-value]


@pytest.mark.parametrize(
    "made", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), torch.jit.script, _compiled]
)
def test_a_module_like_any_other(made: Callable[[nn.Module], nn.Module]) -> None:
    module = attngraph.compile(PARAMETERS, sizes={"D": 3})
    other, x = made(module), torch.randn(2, 5, 3)
    torch.testing.assert_close(other(x), module(x))
    assert [*dict(other.named_parameters())][-1].endswith("b")
    assert not hasattr(other, "step")
    if not isinstance(other, torch.jit.ScriptModule):
        with pytest.raises(AttributeError, match="f has no `step`: it is not causal"):
            other.step  # noqa: B018


def test_a_causal_formula_has_both() -> None:
    module = attngraph.compile("attention f(x[N, D]) -> [N, D]:\n    return cumsum[N](x)\n")
    state: list[Tensor] = module.init_state()  # type: ignore[operator, assignment]
    assert hasattr(module, "step")
    assert len(state) == 1
