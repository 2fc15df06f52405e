"""Convolutions as plain torch functions. Generated modules carry a copy of those that they use."""

from __future__ import annotations

import torch
from torch import Tensor


def slid(
    rows: Tensor, kernel: Tensor, rank: int, groups: int, stride: int, dilation: int, same: bool, transposed: bool
) -> Tensor:
    """`convolution` of rows[batch, channels, places] and one kernel: [channels, inner, taps] as torch wants them."""
    padding = [dilation * (size // 2) if same else 0 for size in kernel.shape[-rank:]]
    nothing: list[int] = [0] * rank
    value = torch.convolution(
        rows, kernel, None, [stride] * rank, padding, [dilation] * rank, transposed, nothing, groups
    )
    for dim in range(rank):
        if same and kernel.size(dim - rank) % 2 == 0:  # an even kernel has one place more
            value = value.narrow(dim - rank, 0, rows.size(dim - rank))
    return value


def convolution(
    x: Tensor, kernel: Tensor, rank: int, groups: int, stride: int, dilation: int, same: bool, transposed: bool
) -> Tensor:
    """The convolution of x[..., groups * inner, places] with kernel[..., groups * outer, inner, taps].

    rank: how many axes the kernel slides along. A kernel of its own for each leading index is a convolution with
    as many more groups. same: x is padded with zeros, so that the result has the places of x. transposed: every
    place spreads the kernel.
    """
    places, channels = list(x.shape[-rank:]), list(x.shape[-rank - 1 :])
    taps, matrices = list(kernel.shape[-rank:]), list(kernel.shape[-rank - 2 :])
    leading = list(x.shape[: -rank - 1])
    entries = 1
    if kernel.dim() == rank + 2:
        rows = x.reshape([-1] + channels)
    else:
        # one element of each, to see to which shape the leading dimensions broadcast
        one = x.flatten(-rank - 1).select(-1, 0) * kernel.flatten(-rank - 2).select(-1, 0)
        leading = list(one.shape)
        for size in leading:
            entries *= size
        rows = x.expand(leading + channels).reshape([1, entries * channels[0]] + places)
        kernel = kernel.expand(leading + matrices).reshape([entries * matrices[0], matrices[1]] + taps)
    if transposed:  # torch wants the channels of x first
        kernel = kernel.reshape([entries * groups, -1, matrices[1]] + taps).transpose(1, 2).flatten(0, 1)
    kernel = kernel.to(rows.dtype)  # autocast knows no convolution of any rank
    value = slid(rows, kernel, rank, entries * groups, stride, dilation, same, transposed)
    return value.reshape(leading + [value.size(1) // entries] + list(value.shape[-rank:]))


def complex_convolution(
    x: Tensor, kernel: Tensor, rank: int, groups: int, stride: int, dilation: int, same: bool, transposed: bool
) -> Tensor:
    """The same for complex values, from the real and imaginary parts of both."""
    real, imaginary = torch.real(x), torch.imag(x)
    taps, others = torch.real(kernel), torch.imag(kernel)
    return torch.complex(
        convolution(real, taps, rank, groups, stride, dilation, same, transposed)
        - convolution(imaginary, others, rank, groups, stride, dilation, same, transposed),
        convolution(real, others, rank, groups, stride, dilation, same, transposed)
        + convolution(imaginary, taps, rank, groups, stride, dilation, same, transposed),
    )
