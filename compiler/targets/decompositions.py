"""Operations that a compiler of programs does not know, or only for constant arguments, in terms of those that it does.

Plain functions of the arguments of torch's operations, for `ExportedProgram.run_decompositions`; each gives way, by
NotImplemented, where the compiler does as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Softmax attention with the map stored; rows that see no key are zeros."""
    if enable_gqa:
        repeats = query.size(-3) // key.size(-3)
        key, value = key.repeat_interleave(repeats, -3), value.repeat_interleave(repeats, -3)
    if scale is None:  # a number made of a size would be computed in single precision
        query = query * torch.scalar_tensor(query.size(-1), dtype=query.dtype, device=query.device).rsqrt()
    else:
        query = query * scale
    scores = torch.matmul(query, key.mT)
    if is_causal:
        rows, columns = (torch.arange(x.size(-2), device=x.device) for x in (query, key))
        attn_mask = rows.unsqueeze(-1) >= columns
    if attn_mask is None:
        return torch.matmul(torch.softmax(scores, -1), value)
    if attn_mask.dtype == torch.bool:
        scores = torch.where(attn_mask, scores, -float("inf"))
    else:
        scores = scores + attn_mask
    hidden = scores.amax(-1, keepdim=True) == -float("inf")
    weights = torch.softmax(torch.where(hidden, 0.0, scores), -1)
    return torch.matmul(torch.where(hidden, 0.0, weights), value)


def remainder(x: Tensor, divisor: Any) -> Tensor:
    if isinstance(divisor, int | float):
        return NotImplemented
    return torch.remainder(x, torch.scalar_tensor(divisor, dtype=x.dtype, device=x.device))


def running_maximum(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Every pair of positions: the maximum of those that are not later, and where it stands last."""
    rows = x.transpose(dim, -1)
    place = torch.arange(rows.size(-1), device=x.device)
    earlier = place <= place.unsqueeze(-1)
    least = -float("inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
    pairs = torch.where(earlier, rows.unsqueeze(-2), least)
    values = pairs.amax(-1)
    last = torch.where((pairs == values.unsqueeze(-1)) & earlier, place, -1).amax(-1)
    return values.transpose(dim, -1), last.transpose(dim, -1)


def running_product(x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    rows = (x if dtype is None else x.to(dtype)).transpose(dim, -1)
    place = torch.arange(rows.size(-1), device=x.device)
    pairs = torch.where(place <= place.unsqueeze(-1), rows.unsqueeze(-2), torch.ones_like(rows[..., :1]).unsqueeze(-1))
    return torch.prod(pairs, -1).transpose(dim, -1)


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[Any],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: Any,
) -> Tensor:
    """Gathered windows times weights, where padding or the number of groups are sizes.

    ONNX and AOTInductor take constants.
    """
    if transposed or all(isinstance(number, int) for number in (*padding, groups)):
        return NotImplemented
    rank = len(stride)
    x = torch.nn.functional.pad(x, [side for size in reversed(padding) for side in (size, size)])
    inner, outer = weight.size(1), weight.size(0) // groups
    windows = x.unflatten(1, (groups, inner))
    for axis in range(rank):  # [..., places, ...] to [..., places out, ..., taps]
        taps = weight.size(axis - rank)
        count = (windows.size(-rank) - dilation[axis] * (taps - 1) - 1) // stride[axis] + 1
        first = torch.arange(count, device=x.device).unsqueeze(-1) * stride[axis]
        rows = first + torch.arange(taps, device=x.device) * dilation[axis]
        windows = windows.index_select(-rank, rows.flatten()).unflatten(-rank, (count, taps)).movedim(-rank, -1)
    # [batch, groups, inner, places out..., taps...] and [groups, outer, inner, taps...]
    weight = weight.unflatten(0, (groups, outer)).flatten(2)
    windows = windows.movedim(2, -rank - 1).flatten(-rank - 1)
    places = windows.shape[2:-1]
    out = torch.matmul(weight, windows.flatten(2, -2).mT).unflatten(-1, list(places)).flatten(1, 2)
    return out if bias is None else out + bias.reshape([-1] + [1] * rank)


def elu(x: Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Tensor:
    """onnxruntime has its own for float32 only."""
    if x.dtype != torch.float64:
        return NotImplemented
    return torch.where(x > 0, scale * x, scale * alpha * (torch.exp((x * input_scale).clamp(max=0)) - 1))


def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """onnxruntime has its own for float32 only, and none with a threshold."""
    scaled = x * beta
    return torch.where(scaled > threshold, x, (scaled.clamp(min=0) + torch.log(1 + torch.exp(-scaled.abs()))) / beta)


def full(size: Sequence[Any], fill_value: Any, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
    """The exporter keeps the number in single precision."""
    if dtype is None or dtype.is_complex or isinstance(fill_value, complex):
        return NotImplemented
    return torch.scalar_tensor(fill_value, dtype=dtype, device=options.get("device")).expand(size)


def number_like(value: Any, x: Tensor) -> Tensor:
    """A number in the dtype of a tensor: handed to an operation as it is, the exporter keeps it in single precision."""
    return torch.scalar_tensor(value, dtype=x.dtype, device=x.device)


def full_like(x: Tensor, fill_value: Any, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
    if (dtype or x.dtype).is_complex or isinstance(fill_value, complex):
        return NotImplemented
    return torch.scalar_tensor(fill_value, dtype=dtype or x.dtype, device=x.device).expand(x.shape)


def masked_fill(x: Tensor, mask: Tensor, value: Any) -> Tensor:
    if x.dtype.is_complex or isinstance(value, complex):
        return NotImplemented
    return torch.where(mask, number_like(value, x), x)


def power_of_number(base: Any, exponent: Tensor) -> Tensor:
    if not exponent.is_floating_point():
        return NotImplemented
    return torch.pow(number_like(base, exponent), exponent)


def sum_with_factor(x: Tensor, y: Tensor, alpha: Any = 1) -> Tensor:
    if isinstance(alpha, int) or not y.is_floating_point():
        return NotImplemented
    return torch.add(x, y * alpha)


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """onnxruntime has its own for float32 only."""
    if x.dtype != torch.float64:
        return NotImplemented
    return torch.where(x > 0, x, x * negative_slope)


ONNX: dict[Any, Callable[..., Any]] = {
    aten.scaled_dot_product_attention.default: attention,
    aten.full.default: full,
    aten.full_like.default: full_like,
    aten.masked_fill.Scalar: masked_fill,
    aten.pow.Scalar: power_of_number,
    aten.add.Tensor: sum_with_factor,
    aten.leaky_relu.default: leaky_relu,
    aten.elu.default: elu,
    aten.softplus.default: softplus,
    aten.remainder.Scalar: remainder,
    aten.cummax.default: running_maximum,
    aten.cumprod.default: running_product,
    aten.convolution.default: convolution,
}
