"""A constant with the name of an axis is its size: of inputs, parameters and axes that operations make."""

from __future__ import annotations

import pytest
import torch

import attngraph

SPLIT = """attention centred(x[N, D]) -> [N, D]:
    const W = 3
    s = split[N -> B, W](x)
    return merge[B, W -> N](s - mean[W](s)) * W
"""
FEATURES = """attention features(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    require linear
    const F = 4
    buffer w[F, D] = normal(1)
    phi(x) = exp(x @ w^T) / sqrt(F)
    a = phi(q) @ phi(k)^T
    return (a / sum[M](a)) @ v
"""


def _module(text: str, **consts: int) -> torch.nn.Module:
    report = attngraph.check(text)
    assert [d for d in report.diagnostics if d.severity.value != "note"] == []
    return attngraph.compile(text, consts=consts, sizes={"D": 5} if "features" in text else {})


@pytest.mark.parametrize("width", [1, 3, 4])
def test_an_axis_that_an_operation_makes(width: int) -> None:
    x = torch.randn(12, 2)
    s = x.unflatten(0, (12 // width, width))
    expected = (s - s.mean(1, keepdim=True)).flatten(0, 1) * width
    torch.testing.assert_close(_module(SPLIT, W=width)(x), expected)
    with pytest.raises(ValueError, match="N/W is not a whole number for N = 11, W = 4"):
        _module(SPLIT, W=4)(torch.randn(11, 2))


@pytest.mark.parametrize("features", [1, 4, 5])
def test_an_axis_of_a_buffer(features: int) -> None:
    module = _module(FEATURES, F=features)
    assert module.w.shape == (features, 5)
    q, k, v = (torch.randn(7, 5) for _ in range(3))
    a = (q @ module.w.T).exp() @ (k @ module.w.T).exp().T
    torch.testing.assert_close(module(q, k, v), a / a.sum(-1, keepdim=True) @ v)


def test_an_axis_of_an_input() -> None:
    text = "attention scaled(x[N, D]) -> [N, D]:\n    const D = 3\n    return x * D\n"
    x = torch.randn(4, 3)
    torch.testing.assert_close(_module(text)(x), 3 * x)
    torch.testing.assert_close(_module(text, D=2)(x[:, :2]), 2 * x[:, :2])
    with pytest.raises(ValueError, match=r"x has size 5 on axis D .*, but the module was built with D = 3"):
        _module(text)(torch.randn(4, 5))
    torch.testing.assert_close(attngraph.compile(text, target="torchscript")(x), 3 * x)


def test_no_size_is_below_one() -> None:
    with pytest.raises((attngraph.CompileError, ValueError), match="W >= 1 does not hold for W = 0"):
        attngraph.compile(SPLIT, consts={"W": 0})


@pytest.mark.parametrize(
    ("body", "widths"),
    [
        ("    return centred(x)\n", (3,)),
        ("    const W = 4\n    return centred(x)\n", (4,)),
        ("    return centred(x, W=2) + centred(x, W=6)\n", (2, 6)),
        ("    const W = 2\n    return centred(x, W=2 * W) + centred(x)\n", (4, 2)),
    ],
)
def test_the_constants_of_a_called_formula(body: str, widths: tuple[int, ...]) -> None:
    text = f"{SPLIT}\n\nattention outer(x[N, D]) -> [N, D]:\n{body}"
    x = torch.randn(12, 2)
    expected = sum(_module(SPLIT, W=width)(x) for width in widths)
    torch.testing.assert_close(attngraph.compile(text, name="outer")(x), expected)


def test_a_called_formula_with_a_constant_that_is_no_size() -> None:
    text = f"{SPLIT}\n\nattention outer(x[N, D]) -> [N, D]:\n    return centred(x, W=0.5)\n"
    report = attngraph.check(attngraph.parse(text, "outer"))
    assert [d.code for d in report.diagnostics] == ["AG226"]
