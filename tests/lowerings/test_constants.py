"""A plan may rest on the values of constants: for other values it is made again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import attngraph
from attngraph.compiler.module import compile as build
from attngraph.compiler.module import save

from .formulas import PLAIN, Case, formula
from .harness import all_sizes, close, draw, kernels, parts

DECAY = formula(
    "decay",
    PLAIN,
    "where M = N",
    "const base = 0.5",
    "lag = pos(N) - pos(M)",
    "return ((q @ k^T) * where(lag >= 0, base^lag, 0)) @ v",
)
WINDOWS = formula(
    "windows",
    PLAIN,
    "where M = N",
    "const W = 5",
    "return softmax[M](q @ k^T, mask=pos(N) // W == pos(M) // W) @ v",
)
BAND = formula(
    "band",
    PLAIN,
    "where M = N",
    "const W = 5",
    "return softmax[M](q @ k^T, mask=abs(pos(N) - pos(M)) <= W) @ v",
)
VALUES = [
    *((DECAY, "base", value) for value in (0.9, 1, 0.0, -0.5)),
    *((WINDOWS, "W", value) for value in (1, 4, 100, -3)),
    *((BAND, "W", value) for value in (0, 3, 100, -1)),
]


@pytest.mark.parametrize(("text", "name", "value"), VALUES, ids=[f"{v[1]}={v[2]}" for v in VALUES])
def test_other_values(text: str, name: str, value: float) -> None:
    typed, written, plan = parts(text)
    case = Case("constants", text, "")
    inputs = draw(case, all_sizes(case, 70))
    planned, dense = (build(typed, graph, consts={name: value}, dtype=torch.float64) for graph in (plan, written))
    close(planned(*inputs), dense(*inputs), 1e-10, "value")


def test_the_default_is_planned_for() -> None:
    assert [kernels(parts(text)[2]) for text in (DECAY, WINDOWS, BAND)] == [
        ("decayed_scan",),
        ("windowed_attention",),
        ("banded_attention",),
    ]


def test_a_saved_file_is_planned_for_its_constants(tmp_path: Path) -> None:
    typed, written, plan = parts(DECAY)
    save(typed, plan, tmp_path / "decay.pt", consts={"base": -0.5})
    case = Case("constants", DECAY, "")
    inputs = tuple(x.detach().float() for x in draw(case, all_sizes(case, 70)))
    dense = build(typed, written, consts={"base": -0.5})
    close(torch.jit.load(tmp_path / "decay.pt")(*inputs), dense(*inputs), 1e-4, "value")


def test_a_constant_of_the_wrong_kind_is_refused() -> None:
    for wrong in ("half", True, float("nan")):
        with pytest.raises(attngraph.CompileError, match="W"):
            attngraph.compile(WINDOWS, consts={"W": wrong})  # type: ignore[dict-item]
