"""Resizing in formulas is what torch's interpolation computes, and linear in the image."""

from __future__ import annotations

import pytest
import torch

import attngraph

TABLE = """
attention biased(x[H, Y, X]) -> [H, Y, X]:
    sequence Y, X
    require linear
    param small[H, P, Q]
    return x + resize[P -> Y](resize[Q -> X](small, aligned=ALIGNED), aligned=ALIGNED)
"""


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize(("height", "width"), [(14, 14), (5, 11), (7, 3), (1, 1)])
def test_bilinear(height: int, width: int, aligned: bool) -> None:
    text = TABLE.replace("ALIGNED", str(int(aligned)))
    module = attngraph.compile(text, sizes={"H": 2, "P": 7, "Q": 7}).double()
    x = torch.zeros(2, height, width, dtype=torch.float64)
    small = dict(module.named_parameters())["small"]
    expected = torch.nn.functional.interpolate(
        small.detach().unsqueeze(0), (height, width), mode="bilinear", align_corners=aligned
    )[0]
    torch.testing.assert_close(module(x).detach(), expected, rtol=0, atol=1e-12)


def test_corners_make_a_difference() -> None:
    modules = [attngraph.compile(TABLE.replace("ALIGNED", a), sizes={"H": 1, "P": 7, "Q": 7}) for a in "01"]
    modules[1].load_state_dict(modules[0].state_dict())
    x = torch.zeros(1, 9, 9)
    assert (modules[0](x) - modules[1](x)).abs().max() > 1e-4
