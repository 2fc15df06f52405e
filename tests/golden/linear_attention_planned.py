"""linear_attention: a PyTorch module generated from its formula by attngraph."""

import torch
from torch import Tensor, nn


def in_autocast(x: Tensor) -> bool:
    """Whether autocast brings operands to one dtype on this tensor's device; not in TorchScript."""
    if torch.jit.is_scripting() or x.is_meta:  # tensors without values have no autocast
        return False
    return torch.is_autocast_enabled(x.device.type)


class LinearAttention(nn.Module):
    """Katharopoulos et al., Transformers are RNNs, ICML 2020.

        attention linear_attention(q[N, D], k[M, D], v[M, E]) -> [N, E]:
            phi(x) = elu(x) + 1
            a = phi(q) @ phi(k)^T
            return (a / sum[M](a)) @ v
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
            raise TypeError(f"linear_attention: q must be a tensor, but is {type(q)}")
        if not isinstance(k, Tensor):
            raise TypeError(f"linear_attention: k must be a tensor, but is {type(k)}")
        if not isinstance(v, Tensor):
            raise TypeError(f"linear_attention: v must be a tensor, but is {type(v)}")
        q_shape = q.shape
        k_shape = k.shape
        v_shape = v.shape
        if len(q_shape) < 2:
            raise ValueError(
                f"linear_attention: q must have at least 2 dimensions, [N, D], but has {q.dim()}"
            )
        if len(k_shape) < 2:
            raise ValueError(
                f"linear_attention: k must have at least 2 dimensions, [M, D], but has {k.dim()}"
            )
        if len(v_shape) < 2:
            raise ValueError(
                f"linear_attention: v must have at least 2 dimensions, [M, E], but has {v.dim()}"
            )
        if not q.is_floating_point():
            raise ValueError(
                f"linear_attention: q must be a floating-point tensor, but is {q.dtype}"
            )
        if k.dtype != q.dtype and (not in_autocast(q)):
            raise ValueError(f"linear_attention: k is {k.dtype}, but q is {q.dtype}")
        if v.dtype != q.dtype and (not in_autocast(q)):
            raise ValueError(f"linear_attention: v is {v.dtype}, but q is {q.dtype}")
        if k_shape[-1] != q_shape[-1]:
            raise ValueError(
                f"linear_attention: k has size {k.size(-1)} on axis D (dimension -1), but q has "
                f"{q.size(-1)}"
            )
        if v_shape[-2] != k_shape[-2]:
            raise ValueError(
                f"linear_attention: v has size {v.size(-2)} on axis M (dimension -2), but k has "
                f"{k.size(-2)}"
            )

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [..., N, D], k [..., M, D], v [..., M, E] -> [..., N, E]"""
        self.check(q, k, v)
        total = nn.functional.elu(q).add_(1)
        total_2 = nn.functional.elu(k).add_(1)
        sum_ = total_2.sum(dim=-2)
        contraction = (sum_.unsqueeze(-2) @ total.transpose(-2, -1)).squeeze(-2)
        # the normaliser divides last and once
        return total @ (total_2.transpose(-2, -1) @ v) / contraction.unsqueeze(-1)
