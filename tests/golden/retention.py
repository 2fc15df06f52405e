"""retention: a PyTorch module generated from its formula by attngraph."""

import torch
from torch import Tensor, nn


def in_autocast(x: Tensor) -> bool:
    """Whether autocast brings operands to one dtype on this tensor's device; not in TorchScript."""
    if torch.jit.is_scripting() or x.is_meta:  # tensors without values have no autocast
        return False
    return torch.is_autocast_enabled(x.device.type)


def in_memory(kept: Tensor, x: Tensor) -> bool:
    """Whether values are all there is to two tensors: no gradient, tangent, vmap or trace."""
    if torch.compiler.is_compiling() or torch._C._is_tracing():
        return False
    if type(kept) is not Tensor or type(x) is not Tensor or kept.requires_grad or x.requires_grad:
        return False
    if kept.is_inference() and not torch.is_inference_mode_enabled():
        return False
    if torch.autograd.forward_ad._current_level >= 0:
        return False
    strided = kept.layout == torch.strided and x.layout == torch.strided
    return strided and not torch._C._are_functorch_transforms_active()


def copied(x: Tensor, shape: list[int], dim: int) -> Tensor:
    """A tensor of this shape that begins as x, and room behind it; its storage knows the end."""
    count, before = shape[dim], x.size(dim)
    capacity = count + max(count // 8, 64)
    whole = [*shape[:dim], capacity, *shape[dim + 1 or len(shape) :]]
    memory = torch.empty(whole, dtype=x.dtype, device=x.device)
    memory.narrow(dim, 0, before).copy_(x)
    vars(memory.untyped_storage())["room"] = (memory.stride(), count, capacity)
    return memory.narrow(dim, 0, count).data


def is_new(state: Tensor) -> bool:
    """Whether nothing has been kept yet."""
    return state.dim() == 1 and state.size(0) == 0


def appended(kept: Tensor, x: Tensor, dim: int) -> Tensor:
    """What was kept, and x after it: in its memory, if there is room that nobody reads.

    The storage knows how far it is filled, so that of two tensors that go on from the same one the
    second is a copy, unless the first is gone. What is traced, or has gradients, is always a copy.
    """
    if not in_memory(kept, x):
        return x if is_new(kept) else torch.cat([kept, x], dim)
    shape, added = [*kept.shape], [*x.shape]
    if len(shape) == 1 and shape[0] == 0:
        return copied(x, added, dim)
    before, more = shape[dim], added[dim]
    shape[dim] = more
    if shape != added or kept.dtype != x.dtype or kept.device != x.device:
        return torch.cat([kept, x], dim)
    count = shape[dim] = before + more
    storage = kept.untyped_storage()
    known = vars(storage)
    room = known.get("room", ((), 0, 0))
    strides, filled, capacity = room
    start, fits = kept.storage_offset(), strides == kept.stride()
    end = start // strides[dim] % capacity + count if fits else capacity + 1
    if end <= capacity and known.pop("room", None) is room:  # of two threads one has it
        # What is filled behind `kept` is free, if it and the storage's own object hold all of it.
        if end - more == filled or torch._C._storage_Use_Count(storage._cdata) <= 2:
            both, filled = kept.data.as_strided(shape, strides, start), end
        else:
            both = copied(kept, shape, dim)
        known["room"] = (strides, filled, capacity)
    else:
        both = copied(kept, shape, dim)
    both.narrow(dim, before, more).copy_(x)
    return both.data


def extended(kept: Tensor, x: Tensor, dim: int) -> Tensor:
    """What was kept, and x after it; x alone, with room behind it, if nothing was kept."""
    if torch.jit.is_scripting():
        return x if is_new(kept) else torch.cat([kept, x], dim)
    else:
        return appended(kept, x, dim)


def fits(state: Tensor, shape: list[int]) -> bool:
    """Whether a state is new or ends in these sizes: -1 stands for any, and 1 fits all."""
    sizes = state.shape
    if len(sizes) < len(shape):
        return state.numel() == 0
    for i in range(-len(shape), 0):
        if sizes[i] != shape[i] and shape[i] != -1 and sizes[i] != 1:
            return state.numel() == 0
    return True


class Retention(nn.Module):
    """Sun et al., Retentive Network, 2023.

        attention retention(q[H, N, D], k[H, M, D], v[H, M, E]) -> [H, N, E]:
            where M = N
            gamma = 1 - 2^(-5 - pos(H))
            lag = pos(N) - pos(M)
            return ((q @ k^T) * where(lag >= 0, gamma^lag, 0)) @ v
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
            raise TypeError(f"retention: q must be a tensor, but is {type(q)}")
        if not isinstance(k, Tensor):
            raise TypeError(f"retention: k must be a tensor, but is {type(k)}")
        if not isinstance(v, Tensor):
            raise TypeError(f"retention: v must be a tensor, but is {type(v)}")
        q_shape = q.shape
        k_shape = k.shape
        v_shape = v.shape
        if len(q_shape) < 3:
            raise ValueError(
                f"retention: q must have at least 3 dimensions, [H, N, D], but has {q.dim()}"
            )
        if len(k_shape) < 3:
            raise ValueError(
                f"retention: k must have at least 3 dimensions, [H, M, D], but has {k.dim()}"
            )
        if len(v_shape) < 3:
            raise ValueError(
                f"retention: v must have at least 3 dimensions, [H, M, E], but has {v.dim()}"
            )
        if not q.is_floating_point():
            raise ValueError(f"retention: q must be a floating-point tensor, but is {q.dtype}")
        if k.dtype != q.dtype and (not in_autocast(q)):
            raise ValueError(f"retention: k is {k.dtype}, but q is {q.dtype}")
        if v.dtype != q.dtype and (not in_autocast(q)):
            raise ValueError(f"retention: v is {v.dtype}, but q is {q.dtype}")
        if k_shape[-3] != q_shape[-3]:
            raise ValueError(
                f"retention: k has size {k.size(-3)} on axis H (dimension -3), but q has "
                f"{q.size(-3)}"
            )
        if k_shape[-1] != q_shape[-1]:
            raise ValueError(
                f"retention: k has size {k.size(-1)} on axis D (dimension -1), but q has "
                f"{q.size(-1)}"
            )
        if v_shape[-3] != q_shape[-3]:
            raise ValueError(
                f"retention: v has size {v.size(-3)} on axis H (dimension -3), but q has "
                f"{q.size(-3)}"
            )
        if v_shape[-2] != k_shape[-2]:
            raise ValueError(
                f"retention: v has size {v.size(-2)} on axis M (dimension -2), but k has "
                f"{k.size(-2)}"
            )
        if k_shape[-2] != q_shape[-2]:
            raise ValueError(
                f"retention: M = N does not hold for M = {k.size(-2)}, N = {q.size(-2)}"
            )

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [..., H, N, D], k [..., H, M, D], v [..., H, M, E] -> [..., H, N, E]"""
        self.check(q, k, v)
        H = q.size(-3)
        N = q.size(-2)
        M = k.size(-2)
        wide = torch.float64 if q.dtype == torch.float64 else torch.float32
        n = torch.arange(N, device=q.device)
        lag = n.unsqueeze(-1) - torch.arange(M, device=q.device)
        gamma = 1 - torch.pow(2, (-5 - torch.arange(H, device=q.device)).to(wide))
        power = gamma.unsqueeze(-1).unsqueeze(-2) ** lag.to(wide)
        chosen = torch.where(lag >= 0, power, 0).to(q.dtype)
        return q @ k.transpose(-2, -1) * chosen @ v

    @torch.jit.export
    def init_state(self) -> list[Tensor]:
        """The state before the first position, for any batch, device and dtype.

        state[0]: k, of all positions so far: [..., H, M_all, D]
        state[1]: v, of all positions so far: [..., H, M_all, E]
        state[2]: the number of positions so far: []
        state[3]: gamma, which the first step computes
        """
        return [torch.empty(0), torch.empty(0), torch.tensor(0, device="cpu"), torch.empty(0)]

    def step_constants(self, q: Tensor) -> Tensor:
        """What depends on sizes only: the first step computes it and hands it on in the state."""
        H = q.size(-3)
        wide = torch.float64 if q.dtype == torch.float64 else torch.float32
        gamma = 1 - torch.pow(2, (-5 - torch.arange(H, device=q.device)).to(wide))
        return gamma

    @torch.jit.export
    def step(
        self,
        state: list[Tensor],
        q: Tensor,
        k: Tensor,
        v: Tensor,
    ) -> tuple[Tensor, list[Tensor]]:
        """Results for the next positions, one or more, and the state after them."""
        if not isinstance(state, (list, tuple)):
            raise TypeError(f"retention: a state is a list of tensors, not {type(state)}")
        if len(state) != 4:
            raise ValueError(
                "retention: a state of `init_state` or `step` has 4 tensors, this one has "
                f"{len(state)}"
            )
        start = int(state[2])
        self.check(q, k, v)
        if q.size(-2) < 1:
            raise ValueError(
                f"retention: a step takes one position or more, but {q.size(-2)} are given"
            )
        if not fits(state[0], [q.size(-3), -1, q.size(-1)]):
            raise ValueError(
                "retention: state[0] must be [..., H, M_all, D] for these inputs, but is "
                f"{list(state[0].shape)}"
            )
        if not fits(state[1], [q.size(-3), -1, v.size(-1)]):
            raise ValueError(
                "retention: state[1] must be [..., H, M_all, E] for these inputs, but is "
                f"{list(state[1].shape)}"
            )
        gamma = self.step_constants(q) if is_new(state[3]) else state[3]
        N = q.size(-2)
        M = k.size(-2)
        M_all = M + start
        wide = torch.float64 if q.dtype == torch.float64 else torch.float32
        k_all = extended(state[0], k, -2)
        total = torch.arange(N, device=q.device) + start
        lag = total.unsqueeze(-1) - torch.arange(M_all, device=q.device)
        power = gamma.unsqueeze(-1).unsqueeze(-2) ** lag.to(wide)
        chosen = torch.where(lag >= 0, power, 0).to(q.dtype)
        v_all = extended(state[1], v, -2)
        contraction = q @ k_all.transpose(-2, -1) * chosen @ v_all
        return contraction, [k_all, v_all, state[2] + q.size(-2), gamma]
