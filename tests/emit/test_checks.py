"""Messages for inputs that do not fit; each is asserted in full."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from .formulas import GROUPED, KINDS, ROTATED, SOFTMAX, WINDOW, module


def ones(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(shape, dtype=dtype)


THREE = """attention three(x[N, R]) -> [N]:
    where R = 3
    return sum[R](x)
"""
LONGER = """attention longer(x[N], y[M]) -> [N, M]:
    where N >= M
    return x * y
"""
BLOCKS = """attention blocks(x[N]) -> [P, W]:
    where N = P * W
    const width = 4
    where W = width
    return split[N -> P, W](x)
"""

CASES = [
    (SOFTMAX, (), (ones(4), ones(3, 4), ones(3, 4)),
     "softmax_attention: q must have at least 2 dimensions, [N, D], but has 1"),
    (SOFTMAX, (), (ones(5, 64), ones(3, 63), ones(3, 4)),
     "softmax_attention: k has size 63 on axis D (dimension -1), but q has 64"),
    (SOFTMAX, (), (ones(5, 64), ones(7, 3, 64), ones(7, 2, 4)),
     "softmax_attention: v has size 2 on axis M (dimension -2), but k has 3"),
    (SOFTMAX, (), (ones(5, 4, dtype=torch.int64), ones(3, 4), ones(3, 4)),
     "softmax_attention: q must be a floating-point tensor, but is torch.int64"),
    (SOFTMAX, (), (ones(5, 4), ones(3, 4, dtype=torch.float16), ones(3, 4)),
     "softmax_attention: k is torch.float16, but q is torch.float32"),
    (WINDOW, (), (ones(5, 4), ones(3, 4), ones(3, 4)),
     "swin_window: M = N does not hold for M = 3, N = 5"),
    (ROTATED, (3, 4), (ones(5, 13),),
     "rotated: x has size 13 on axis C (dimension -1), but the module was built with C = 12"),
    (GROUPED, (), (ones(6, 5, 4), ones(4, 5, 4), ones(4, 5, 4)),
     "grouped: R = H/G is not a whole number for G = 4, H = 6"),
    (THREE, (), (ones(5, 4),),
     "three: x has size 4 on axis R (dimension -1), but the formula says R = 3"),
    (LONGER, (), (ones(2), ones(3)),
     "longer: N >= M does not hold for M = 3, N = 2"),
    (BLOCKS, (), (ones(10),),
     "blocks: P = N/width is not a whole number for N = 10, width = 4"),
    (KINDS, (), (ones(2, 4), ones(3, 4), ones(2, 3), ones(2, dtype=torch.int64), ones(3, dtype=torch.int64)),
     "kinds: see must be a bool tensor, but is torch.float32"),
    (KINDS, (), (ones(2, 4), ones(3, 4), ones(2, 3, dtype=torch.bool), ones(2), ones(3, dtype=torch.int64)),
     "kinds: doc must be an integer tensor, but is torch.float32"),
    (KINDS, (), (ones(2, 4), ones(3, 4), ones(2, 3, dtype=torch.bool), ones(2, dtype=torch.bool),
                 ones(3, dtype=torch.int64)),
     "kinds: doc must be an integer tensor, but is torch.bool"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "arguments", "inputs", "message"), CASES)
def test_wrong_inputs(
    text: str, arguments: tuple[int, ...], inputs: tuple[Tensor, ...], message: str
) -> None:
    made = module(text, *arguments)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the whole message is compared
        made(*inputs)
    assert str(caught.value) == message


def test_wrong_sizes_in_the_constructor() -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the whole message is compared
        module(ROTATED, 0, 4)
    assert str(caught.value) == "rotated: sizes must be at least 1, but H = 0, D = 4"


def test_relations_between_arguments_of_the_constructor() -> None:
    text = """attention pooled(x[N]) -> [K]:
    where A >= B
    param w[A, B, K]
    return sum[N](x) * sum[A, B](w)
"""
    module(text, 3, 3, 2)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the whole message is compared
        module(text, 2, 3, 2)
    assert str(caught.value) == "pooled: A >= B does not hold for A = 2, B = 3"


def test_shapes_that_are_held_take_no_name_of_an_input() -> None:
    text = (
        "attention f(q[N, D], q_shape[M, D], len[M, E]) -> [N, E]:\n"
        "    where D = 2 * H\n    return softmax[M](q @ q_shape^T) @ len\n"
    )
    made = module(text)
    q, k, v = torch.randn(3, 4), torch.randn(5, 4), torch.randn(5, 2)
    torch.testing.assert_close(made(q, k, v), torch.softmax(q @ k.mT, -1) @ v)
    torch.testing.assert_close(torch.jit.script(made)(q, k, v), made(q, k, v))
    for wrong, message in (
        ((q[0], k, v), "q must have at least 2 dimensions"),
        ((q, k[:, :3], v), "q_shape has size 3 on axis D"),
        ((q, k, v[:4]), "has size 4 on axis M"),
        ((q[:, :3], k[:, :3], v), "not a whole number"),
    ):
        with pytest.raises(ValueError, match=message):
            made(*wrong)
