"""Traces of the kernels at once hold at any length, whichever the example had: one chunk of them, or several."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from attngraph.compiler.lowerings import at_once

LENGTHS = (1, 2, 3, 15, 16, 17, 33, 64, 65, 150, 600)
Kernel = Callable[[dict[str, Tensor]], Tensor]


def operands(length: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(length)
    shapes = {"q": (3,), "k": (3,), "v": (4,), "a": (2, 2), "r": (2,), "g": (), "e": (4,), "f": (3,)}
    drawn = {name: torch.randn(2, length, *shape, generator=random).double() / 3 for name, shape in shapes.items()}
    return {**drawn, "g": -drawn["g"].abs(), "e": -drawn["e"].abs(), "f": -drawn["f"].abs()}


KERNELS: dict[str, Kernel] = {
    "causal_scan": lambda x: at_once.causal_scan(x["q"], x["k"], x["v"], 0, False, 64),
    "decayed_scan": lambda x: at_once.decayed_scan(x["q"], x["k"], x["v"], x["g"][:, 0], 0, False, 64),
    "gated_scan": lambda x: at_once.gated_scan(x["q"], x["k"], x["v"], x["g"], None, 0, False, 64),
    "prefix_softmax": lambda x: at_once.prefix_softmax(x["g"], x["v"], 64),
    "gated_prefix": lambda x: at_once.gated_prefix(x["v"], x["e"], 0, 16),
    "polynomial_scan": lambda x: at_once.polynomial_scan(
        x["q"], x["k"], x["v"], [x["g"][:, 0]], [2], 0, False, 64
    ),
    "linear_recurrence": lambda x: at_once.linear_recurrence(x["e"], x["v"], None, -2),
    "causal_feedback": lambda x: at_once.causal_feedback(x["q"], x["k"], x["v"], x["g"], 64),
    "feature_gated_scan": lambda x: at_once.feature_gated_scan(x["q"], x["k"], x["v"], torch.exp(x["f"]), 0, 64),
    "feature_gated_feedback": lambda x: at_once.feature_gated_feedback(
        x["q"], x["k"], x["v"], torch.exp(x["f"]), 64
    ),
    "linear_states": lambda x: at_once.linear_states(x["a"], x["v"].unsqueeze(-2) * x["r"].unsqueeze(-1), None, True),
    "transition_scan": lambda x: at_once.transition_scan(x["q"], x["k"], x["v"], x["a"], x["r"], x["r"], 0, 64),
    "transition_feedback": lambda x: at_once.transition_feedback(
        x["q"], x["k"], x["v"], x["a"], x["r"], x["r"], 64
    ),
    "banded_attention": lambda x: at_once.banded_attention(x["q"], x["k"], x["v"], 5, 0, 1.0),
    "windowed_attention": lambda x: at_once.windowed_attention(x["q"], x["k"], x["v"], 16, 1.0),
}


class Traced(nn.Module):
    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return self.kernel(x)


@pytest.mark.slow
@pytest.mark.parametrize("example", [5, 40])
@pytest.mark.parametrize("name", KERNELS)
def test_the_example_does_not_bound_the_length(name: str, example: int) -> None:
    module, inputs = Traced(KERNELS[name]), operands(example)
    sizes = ({each: {1: torch.export.Dim.AUTO} for each in inputs},)
    program = torch.export.export(module, (inputs,), dynamic_shapes=sizes).module()
    for length in LENGTHS:
        inputs = operands(length)
        torch.testing.assert_close(program(inputs), module(inputs), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("example", [2, 20])
def test_the_example_does_not_bound_the_number_of_chunks(example: int) -> None:
    """The states between two chunks are traced like those between more."""
    sizes = ({1: torch.export.Dim.AUTO}, {1: torch.export.Dim.AUTO})

    class States(nn.Module):
        def forward(self, matrix: Tensor, offset: Tensor) -> Tensor:
            return at_once.affine_states(matrix, offset)

    def drawn(count: int) -> tuple[Tensor, Tensor]:
        return torch.randn(2, count, 2, 2).double() / 3, torch.randn(2, count, 2, 3).double()

    program = torch.export.export(States(), drawn(example), dynamic_shapes=sizes).module()
    for count in (2, 3, 16, 17, 40):
        inputs = drawn(count)
        torch.testing.assert_close(program(*inputs), States()(*inputs), rtol=1e-10, atol=1e-11)
