"""grouped: a PyTorch module generated from its formula by attngraph."""

import torch
from torch import Tensor, nn


def in_autocast(x: Tensor) -> bool:
    """Whether autocast brings operands to one dtype on this tensor's device; not in TorchScript."""
    if torch.jit.is_scripting() or x.is_meta:  # tensors without values have no autocast
        return False
    return torch.is_autocast_enabled(x.device.type)


class Grouped(nn.Module):
    """Heads in groups that share keys. Ainslie et al., GQA, EMNLP 2023.

        attention grouped(q[H, N, D], k[G, M, D], v[G, M, E]) -> [H, N, E]:
            where H = G * R
            s = softmax[M](sum[D](split[H -> G, R](q) * k) / sqrt(D))
            return merge[G, R -> H](sum[M](s * v))
    """

    def __init__(
        self,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()

    def check(self, q: Tensor, k: Tensor, v: Tensor) -> None:
        """Raise ValueError where ranks, dtypes or sizes do not fit the formula."""
        if not isinstance(q, Tensor):
            raise TypeError(f"grouped: q must be a tensor, but is {type(q)}")
        if not isinstance(k, Tensor):
            raise TypeError(f"grouped: k must be a tensor, but is {type(k)}")
        if not isinstance(v, Tensor):
            raise TypeError(f"grouped: v must be a tensor, but is {type(v)}")
        q_shape = q.shape
        k_shape = k.shape
        v_shape = v.shape
        if len(q_shape) < 3:
            raise ValueError(
                f"grouped: q must have at least 3 dimensions, [H, N, D], but has {q.dim()}"
            )
        if len(k_shape) < 3:
            raise ValueError(
                f"grouped: k must have at least 3 dimensions, [G, M, D], but has {k.dim()}"
            )
        if len(v_shape) < 3:
            raise ValueError(
                f"grouped: v must have at least 3 dimensions, [G, M, E], but has {v.dim()}"
            )
        if not q.is_floating_point():
            raise ValueError(f"grouped: q must be a floating-point tensor, but is {q.dtype}")
        if k.dtype != q.dtype and (not in_autocast(q)):
            raise ValueError(f"grouped: k is {k.dtype}, but q is {q.dtype}")
        if v.dtype != q.dtype and (not in_autocast(q)):
            raise ValueError(f"grouped: v is {v.dtype}, but q is {q.dtype}")
        if k_shape[-1] != q_shape[-1]:
            raise ValueError(
                f"grouped: k has size {k.size(-1)} on axis D (dimension -1), but q has {q.size(-1)}"
            )
        if v_shape[-3] != k_shape[-3]:
            raise ValueError(
                f"grouped: v has size {v.size(-3)} on axis G (dimension -3), but k has {k.size(-3)}"
            )
        if v_shape[-2] != k_shape[-2]:
            raise ValueError(
                f"grouped: v has size {v.size(-2)} on axis M (dimension -2), but k has {k.size(-2)}"
            )
        if q_shape[-3] % k_shape[-3] != 0:
            raise ValueError(
                f"grouped: R = H/G is not a whole number for G = {k.size(-3)}, H = {q.size(-3)}"
            )

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [..., H, N, D], k [..., G, M, D], v [..., G, M, E] -> [..., H, N, E]"""
        self.check(q, k, v)
        H = q.size(-3)
        N = q.size(-2)
        D = q.size(-1)
        G = k.size(-3)
        R = H // G
        split_q = q.unflatten(-3, (G, R))
        contraction = (split_q.flatten(-3, -2) @ k.transpose(-2, -1)).unflatten(-2, (R, N))
        s = torch.softmax(contraction / D ** 0.5, dim=-1)
        return (s.flatten(-3, -2) @ v).unflatten(-2, (R, N)).flatten(-4, -3)
