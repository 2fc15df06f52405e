"""A state that is not one of the module: `step` says what it should be, and computes nothing from it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import attngraph
from benchmarks import examples

State = list[Tensor]
SUMS = """
attention f(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    where M = N
    return where(pos(N) >= pos(M), q @ k^T, 0) @ v
"""
CACHE = """
attention f(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    where M = N
    return softmax[M](q @ k^T, mask=pos(N) >= pos(M)) @ v
"""
BAND = """
attention f(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    where M = N
    lag = pos(N) - pos(M)
    return softmax[M](q @ k^T, mask=lag >= 0 and lag < 4) @ v
"""
MODULES: dict[str, Callable[[], nn.Module]] = {
    "sums": lambda: attngraph.compile(SUMS),
    "cache": lambda: attngraph.compile(CACHE),
    "band": lambda: attngraph.compile(BAND),
    "scan": lambda: attngraph.compile(examples.find("rescorla_wagner_attention"), name="rescorla_wagner_attention"),
}


def piece(name: str, count: int, features: int = 3) -> tuple[Tensor, ...]:
    q, k, v = (torch.randn(2, count, size) for size in (features, features, 5))
    return (q, k, v, torch.rand(2, count)) if name == "scan" else (q, k, v)


@pytest.fixture(params=MODULES)
def stepped(request: pytest.FixtureRequest) -> tuple[str, nn.Module, State]:
    module = MODULES[request.param]()
    _, state = module.step(module.init_state(), *piece(request.param, 6))
    return request.param, module, state


@pytest.mark.parametrize("scripted", [False, True])
def test_no_list(stepped: tuple[str, nn.Module, State], scripted: bool) -> None:
    name, module, state = stepped
    if scripted:  # takes lists by its types
        out, _ = torch.jit.script(module).step(state, *piece(name, 1))
        assert out.shape == (2, 1, 5)
        return
    for wrong in (None, {"0": state[0]}, state[0]):
        with pytest.raises(TypeError, match="a state is a list of tensors, not "):
            module.step(wrong, *piece(name, 1))
    module.step(tuple(state), *piece(name, 1))


def test_another_number_of_tensors(stepped: tuple[str, nn.Module, State]) -> None:
    name, module, state = stepped
    for wrong in ([], state + state, state[:-1]):
        if len(wrong) != len(state):
            with pytest.raises(ValueError, match=f"has {len(state)} tensors?, this one has {len(wrong)}"):
                module.step(wrong, *piece(name, 1))


def test_another_shape(stepped: tuple[str, nn.Module, State]) -> None:
    """Of another module, of other features, without dimensions of features."""
    name, module, state = stepped
    for index, tensor in enumerate(state):
        if tensor.dim() < 3:  # a constant, the same for every sample
            continue
        for wrong in (torch.zeros(7, 7, 7), torch.zeros(tensor.shape[-1] + 1), torch.tensor(1.0)):
            others = [*state[:index], wrong, *state[index + 1 :]]
            with pytest.raises(ValueError, match=rf"state\[{index}\] must be \[.*\] for these inputs, but is \["):
                module.step(others, *piece(name, 1))


def test_other_features_than_before(stepped: tuple[str, nn.Module, State]) -> None:
    name, module, state = stepped
    with pytest.raises(ValueError, match=r"must be \[.*D.*\] for these inputs"):
        module.step(state, *piece(name, 1, features=4))


def test_a_state_of_another_module() -> None:
    """Their states have different shapes or numbers, whatever the two modules are."""
    states = {}
    for name, make in MODULES.items():
        module = make()
        states[name] = module.step(module.init_state(), *piece(name, 6))[1]
    for name, make in MODULES.items():
        for other, state in states.items():
            if {name, other} in ({name}, {"cache", "band"}, {"sums", "scan"}):  # these hold the same
                continue
            with pytest.raises(ValueError, match=r"must be|this one has"):
                make().step(state, *piece(name, 1))


def test_no_positions() -> None:
    """A sum over no positions is nothing; a recurrence that takes no step has no value to give."""
    for name, make in MODULES.items():
        if name == "scan":
            with pytest.raises(ValueError, match="takes one step or more, but ts has none along N"):
                make()(*piece(name, 0))
        else:
            assert make()(*piece(name, 0)).shape == (2, 0, 5)
        with pytest.raises(ValueError, match="a step takes one position or more, but 0 are given"):
            make().step(make().init_state(), *piece(name, 0))
