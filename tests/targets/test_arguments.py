"""Sizes and constants of a compile: completed by facts, and refused with every reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

import attngraph

from ..emit.formulas import ROTATED, SOFTMAX, WINDOW

SQUARES = """attention squares(x[N, A]) -> [N, B]:
    where A = 2 * B, A >= C
    const steps = 3, rate = 0.5
    where S = steps
    param w[A, B, S], u[C]
    return sum[A, S](x * w) * sum[C](u) * rate
"""


@pytest.mark.parametrize("sizes", [{"H": 3, "D": 4}, {"C": 12, "H": 3}, {"C2": 12, "D": 4}, {"C": 12, "D": 4, "H": 3}])
def test_facts_complete_sizes(sizes: Mapping[str, int]) -> None:
    module: Any = attngraph.compile(ROTATED, sizes=sizes)
    assert (module.H, module.D, module.C, module.C2) == (3, 4, 12, 12)


def test_sizes_of_inputs_may_be_given() -> None:
    attngraph.compile(ROTATED, sizes={"H": 3, "D": 4, "N": 100})
    attngraph.compile(SOFTMAX, sizes={"D": 64})


READ = """attention read(q[N, D]) -> [H, N, D]:
    param scale[H] = 1 / sqrt(D)
    return q * scale
"""

SUMMED = """attention summed(q[N, C], k[M, D]) -> [N, C]:
    param w[C] = sum[D](pos(D) * pos(C))
    return q * w * sum[M, D](k)
"""

DRAWN = """attention drawn(q[N, D], k[M, E]) -> [N, D]:
    buffer w[D] = uniform(-1 / sqrt(E), 1 / sqrt(E))
    return q * w * sum[M, E](k)
"""


@pytest.mark.parametrize(
    ("text", "given", "axis", "carrier"),
    [
        (READ, {"H": 2}, "D", "parameter scale [H]"),
        (SUMMED, {"C": 2}, "D", "parameter w [C]"),
        (DRAWN, {"D": 2}, "E", "buffer w [D]"),
    ],
)
def test_sizes_that_only_initial_values_read(text: str, given: dict[str, int], axis: str, carrier: str) -> None:
    with pytest.raises(attngraph.CompileError) as caught:
        attngraph.compile(text, sizes=given)
    needed = f"the size of {axis} is missing, which the initial value of {carrier} needs"
    assert needed in str(caught.value)
    module = attngraph.compile(text, sizes={**given, axis: 3})
    assert all(torch.isfinite(tensor).all() for tensor in module.state_dict().values())


def test_constants_override_defaults() -> None:
    module: Any = attngraph.compile(SQUARES, sizes={"B": 2, "C": 4}, consts={"steps": 5, "rate": 1})
    assert module.w.shape == (4, 2, 5)
    assert module.rate == 1


CASES: list[tuple[str, dict[str, object], str]] = [
    (
        ROTATED,
        {},
        "rotated cannot be built:\n"
        "  - the size of H is missing, which parameter scale [H] needs: pass sizes={'H': ...}\n"
        "  - the size of D is missing, which buffer shift [D] needs: pass sizes={'D': ...}",
    ),
    (
        ROTATED,
        {"sizes": {"H": 3}},
        "rotated: the size of D is missing, which buffer shift [D] needs: pass sizes={'D': ...}",
    ),
    (ROTATED, {"sizes": {"H": 3, "C": 13}}, "rotated: C = D*H gives D = 4.333333333333333 for C = 13, H = 3, "
                                            "which is no size"),
    (ROTATED, {"sizes": {"H": 3, "D": 4, "C": 13}}, "rotated: C = D*H does not hold for C = 13, D = 4, H = 3"),
    (ROTATED, {"sizes": {"H": 3, "D": 0}}, "rotated: the size of D must be at least 1, not 0"),
    (ROTATED, {"sizes": {"H": 3, "D": 4.0}}, "rotated: the size of D must be an int, not 4.0"),
    (ROTATED, {"sizes": {"H": 3, "D": True}}, "rotated: the size of D must be an int, not True"),
    (ROTATED, {"sizes": {"H": 3, "d": 4}}, "rotated: there is no axis `d`; did you mean `D`?"),
    (ROTATED, {"sizes": {"H": 3, "D": 4, "base": 3}}, "rotated: `base` is a constant: give its value in consts"),
    (ROTATED, {"consts": {"H": 3}, "sizes": {"D": 4}}, "rotated: `H` is an axis: give its size in sizes"),
    (SQUARES, {"sizes": {"B": 2, "C": 5}}, "squares: A >= C does not hold for A = 4, C = 5"),
    (WINDOW, {"consts": {"W": 7.5}}, "swin_window: the constant W must be an int, as its default 49 is, not 7.5"),
    (WINDOW, {"consts": {"V": 7}}, "swin_window: there is no constant `V`; it has W"),
    (WINDOW, {"consts": {"W": "7"}}, "swin_window: the constant W must be a number, not '7'"),
    (WINDOW, {"consts": {"W": 2**63}}, "swin_window: the constant W must fit 64 bits, but is 9.22e+18"),
    (WINDOW, {"consts": {"W": 0}}, "swin_window cannot be built:\n  - `pos(N) // W` divides by 0 for W = 0\n"
                                   "  - `pos(M) // W` divides by 0 for W = 0"),
    (WINDOW, {"consts": [("W", 7)]}, "consts must map names to numbers, but is of type list"),
    (ROTATED, {"sizes": "H"}, "sizes must map names to numbers, but is of type str"),
    (ROTATED, {"sizes": {"H": 10**30, "D": 4}}, "rotated cannot be built:\n"
     "  - the size of H must fit 64 bits, but is 1e+30\n  - the size of C must fit 64 bits, but is 4e+30\n"
     "  - the size of C2 must fit 64 bits, but is 4e+30"),
    (SOFTMAX, {"form": None}, "there is no form `None`; "
                              "there are auto, dense, linear, chunked, recurrent, associative"),
    (SOFTMAX, {"target": None}, "there is no target `None`; "
                                "there are eager, torchscript, inductor, flex, fla, export, aoti, onnx"),
    (SOFTMAX, {"target": "inductr"}, "there is no target `inductr`; did you mean `inductor`?"),
    (SOFTMAX, {"target": "cuda"}, "there is no target `cuda`; "
                                  "there are eager, torchscript, inductor, flex, fla, export, aoti, onnx"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "options", "message"), CASES)
def test_what_cannot_be_built(text: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(attngraph.CompileError) as caught:
        attngraph.compile(text, **options)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_parameters_beyond_memory() -> None:
    with pytest.raises(attngraph.CompileError, match="rotated cannot be built for H = 1000000, D = 1000000, C = 10"):
        attngraph.compile(ROTATED, sizes={"H": 10**6, "D": 10**6})


def test_a_text_is_a_str() -> None:
    wrong: Any = b"attention f(x[N]) -> [N]:\n    return x\n"
    with pytest.raises(TypeError, match="the text of a formula is a str, not bytes"):
        attngraph.parse(wrong)
