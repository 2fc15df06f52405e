"""swin_window: a PyTorch module generated from its formula by attngraph."""

import math

import torch
from torch import Tensor, nn


def in_autocast(x: Tensor) -> bool:
    """Whether autocast brings operands to one dtype on this tensor's device; not in TorchScript."""
    if torch.jit.is_scripting() or x.is_meta:  # tensors without values have no autocast
        return False
    return torch.is_autocast_enabled(x.device.type)


class SwinWindow(nn.Module):
    """Windows of W tokens. Liu et al., Swin Transformer, ICCV 2021.

        attention swin_window(q[N, D], k[M, D], v[M, E]) -> [N, E]:
            where M = N
            const W = 49
            same = pos(N) // W == pos(M) // W
            return softmax[M](where(same, q @ k^T / sqrt(D), -inf)) @ v
    """

    def __init__(
        self,
        W: int = 49,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.W = W

    def check(self, q: Tensor, k: Tensor, v: Tensor) -> None:
        """Raise ValueError where ranks, dtypes or sizes do not fit the formula."""
        if not isinstance(q, Tensor):
            raise TypeError(f"swin_window: q must be a tensor, but is {type(q)}")
        if not isinstance(k, Tensor):
            raise TypeError(f"swin_window: k must be a tensor, but is {type(k)}")
        if not isinstance(v, Tensor):
            raise TypeError(f"swin_window: v must be a tensor, but is {type(v)}")
        q_shape = q.shape
        k_shape = k.shape
        v_shape = v.shape
        if len(q_shape) < 2:
            raise ValueError(
                f"swin_window: q must have at least 2 dimensions, [N, D], but has {q.dim()}"
            )
        if len(k_shape) < 2:
            raise ValueError(
                f"swin_window: k must have at least 2 dimensions, [M, D], but has {k.dim()}"
            )
        if len(v_shape) < 2:
            raise ValueError(
                f"swin_window: v must have at least 2 dimensions, [M, E], but has {v.dim()}"
            )
        if not q.is_floating_point():
            raise ValueError(f"swin_window: q must be a floating-point tensor, but is {q.dtype}")
        if k.dtype != q.dtype and (not in_autocast(q)):
            raise ValueError(f"swin_window: k is {k.dtype}, but q is {q.dtype}")
        if v.dtype != q.dtype and (not in_autocast(q)):
            raise ValueError(f"swin_window: v is {v.dtype}, but q is {q.dtype}")
        if k_shape[-1] != q_shape[-1]:
            raise ValueError(
                f"swin_window: k has size {k.size(-1)} on axis D (dimension -1), but q has "
                f"{q.size(-1)}"
            )
        if v_shape[-2] != k_shape[-2]:
            raise ValueError(
                f"swin_window: v has size {v.size(-2)} on axis M (dimension -2), but k has "
                f"{k.size(-2)}"
            )
        if k_shape[-2] != q_shape[-2]:
            raise ValueError(
                f"swin_window: M = N does not hold for M = {k.size(-2)}, N = {q.size(-2)}"
            )

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [..., N, D], k [..., M, D], v [..., M, E] -> [..., N, E]"""
        self.check(q, k, v)
        N = q.size(-2)
        D = q.size(-1)
        M = k.size(-2)
        ratio = (q @ k.transpose(-2, -1)).div_(D ** 0.5)
        floor_divide = torch.arange(N, device=q.device) // self.W
        same = floor_divide.unsqueeze(-1) == torch.arange(M, device=q.device) // self.W
        softmax = torch.where(same, torch.softmax(torch.where(same, ratio, -math.inf), dim=-1), 0.0)
        return softmax @ v
