"""kinds: a PyTorch module generated from its formula by attngraph."""

import torch
from torch import Tensor, nn


def in_autocast(x: Tensor) -> bool:
    """Whether autocast brings operands to one dtype on this tensor's device; not in TorchScript."""
    if torch.jit.is_scripting() or x.is_meta:  # tensors without values have no autocast
        return False
    return torch.is_autocast_enabled(x.device.type)


class Kinds(nn.Module):
    """Every kind of input, and two results.

        attention kinds(q[N, D], k[M, D], see[N, M] bool, doc[N] int, at[M] int) -> [N, M], [N] int:
            same = doc == at
            s = where(see and same, q @ k^T, 0)
            return s, doc + 1
    """

    def __init__(
        self,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()

    def check(self, q: Tensor, k: Tensor, see: Tensor, doc: Tensor, at: Tensor) -> None:
        """Raise ValueError where ranks, dtypes or sizes do not fit the formula."""
        if not isinstance(q, Tensor):
            raise TypeError(f"kinds: q must be a tensor, but is {type(q)}")
        if not isinstance(k, Tensor):
            raise TypeError(f"kinds: k must be a tensor, but is {type(k)}")
        if not isinstance(see, Tensor):
            raise TypeError(f"kinds: see must be a tensor, but is {type(see)}")
        if not isinstance(doc, Tensor):
            raise TypeError(f"kinds: doc must be a tensor, but is {type(doc)}")
        if not isinstance(at, Tensor):
            raise TypeError(f"kinds: at must be a tensor, but is {type(at)}")
        q_shape = q.shape
        k_shape = k.shape
        see_shape = see.shape
        doc_shape = doc.shape
        at_shape = at.shape
        if len(q_shape) < 2:
            raise ValueError(f"kinds: q must have at least 2 dimensions, [N, D], but has {q.dim()}")
        if len(k_shape) < 2:
            raise ValueError(f"kinds: k must have at least 2 dimensions, [M, D], but has {k.dim()}")
        if len(see_shape) < 2:
            raise ValueError(
                f"kinds: see must have at least 2 dimensions, [N, M], but has {see.dim()}"
            )
        if len(doc_shape) < 1:
            raise ValueError(f"kinds: doc must have at least 1 dimension, [N], but has {doc.dim()}")
        if len(at_shape) < 1:
            raise ValueError(f"kinds: at must have at least 1 dimension, [M], but has {at.dim()}")
        if not q.is_floating_point():
            raise ValueError(f"kinds: q must be a floating-point tensor, but is {q.dtype}")
        if k.dtype != q.dtype and (not in_autocast(q)):
            raise ValueError(f"kinds: k is {k.dtype}, but q is {q.dtype}")
        if see.dtype != torch.bool:
            raise ValueError(f"kinds: see must be a bool tensor, but is {see.dtype}")
        if doc.is_floating_point() or doc.is_complex() or doc.dtype == torch.bool:
            raise ValueError(f"kinds: doc must be an integer tensor, but is {doc.dtype}")
        if at.is_floating_point() or at.is_complex() or at.dtype == torch.bool:
            raise ValueError(f"kinds: at must be an integer tensor, but is {at.dtype}")
        if k_shape[-1] != q_shape[-1]:
            raise ValueError(
                f"kinds: k has size {k.size(-1)} on axis D (dimension -1), but q has {q.size(-1)}"
            )
        if see_shape[-2] != q_shape[-2]:
            raise ValueError(
                f"kinds: see has size {see.size(-2)} on axis N (dimension -2), but q has "
                f"{q.size(-2)}"
            )
        if see_shape[-1] != k_shape[-2]:
            raise ValueError(
                f"kinds: see has size {see.size(-1)} on axis M (dimension -1), but k has "
                f"{k.size(-2)}"
            )
        if doc_shape[-1] != q_shape[-2]:
            raise ValueError(
                f"kinds: doc has size {doc.size(-1)} on axis N (dimension -1), but q has "
                f"{q.size(-2)}"
            )
        if at_shape[-1] != k_shape[-2]:
            raise ValueError(
                f"kinds: at has size {at.size(-1)} on axis M (dimension -1), but k has {k.size(-2)}"
            )

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        see: Tensor,
        doc: Tensor,
        at: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """q [..., N, D]
        k [..., M, D]
        see [..., N, M] bool
        doc [..., N] int
        at [..., M] int
        -> [..., N, M], [..., N] int
        """
        self.check(q, k, see, doc, at)
        doc_2 = doc.long()
        same = doc_2.unsqueeze(-1) == at.long().unsqueeze(-2)
        s = torch.where(see & same, q @ k.transpose(-2, -1), 0)
        return s, doc_2 + 1
