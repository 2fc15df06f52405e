"""rotated: a PyTorch module generated from its formula by attngraph."""

import math

import torch
from torch import Tensor, nn


def in_autocast(x: Tensor) -> bool:
    """Whether autocast brings operands to one dtype on this tensor's device; not in TorchScript."""
    if torch.jit.is_scripting() or x.is_meta:  # tensors without values have no autocast
        return False
    return torch.is_autocast_enabled(x.device.type)


def is_new(state: Tensor) -> bool:
    """Whether nothing has been kept yet."""
    return state.dim() == 1 and state.size(0) == 0


class Rotated(nn.Module):
    """A projection, split into heads and rotated: parameters, a buffer, constants, log of a size.

        attention rotated(x[N, C]) -> [N, C]:
            where C = H * D, C2 = C
            const base = 100.0
            param w[C, C2], b[C2] = zeros, scale[H] = 1 / sqrt(D)
            buffer shift[D] = pos(D) / D
            frequency = base^(-pos(D) / D)
            h = split[C2 -> H, D](x @ w + b)
            return merge[H, D -> C](h * scale * cos(frequency * pos(N)) * log(N) + shift)
    """

    shift: Tensor
    frequency: Tensor

    def __init__(
        self,
        H: int,
        D: int,
        base: float = 100.0,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if min(H, D) < 1:
            raise ValueError(f"rotated: sizes must be at least 1, but H = {H}, D = {D}")
        self.H = H
        self.D = D
        self.base = base
        self.C = D * H
        self.C2 = D * H
        self.w = nn.Parameter(torch.empty(self.C, self.C2, device=device, dtype=dtype))
        self.b = nn.Parameter(torch.empty(self.C2, device=device, dtype=dtype))
        self.scale = nn.Parameter(torch.empty(H, device=device, dtype=dtype))
        self.register_buffer("shift", torch.empty(D, device=device, dtype=dtype))
        self.reset_constants(device)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw or set parameters and buffers as the formula declares them."""
        nn.init.normal_(self.w, std=0.02)
        nn.init.zeros_(self.b)
        nn.init.constant_(self.scale, 1 / math.sqrt(self.D))
        ratio = torch.arange(self.D, device=self.shift.device).to(torch.float64) / self.D
        self.shift.copy_(ratio)

    def reset_constants(self, device: torch.device | str | None = None) -> None:
        """Compute what depends on sizes only: in float64, converted where it is used."""
        ratio = (-torch.arange(self.D, device=device)).to(torch.float64) / self.D
        frequency = torch.pow(
            torch.scalar_tensor(self.base, dtype=torch.float64, device=device), ratio
        )
        self.register_buffer("frequency", frequency, persistent=False)

    def _apply(self, fn, recurse: bool = True) -> nn.Module:
        super()._apply(fn, recurse)
        # half() and the like would round the constants: compute them where they are now
        self.reset_constants(self.frequency.device)
        return self

    def check(self, x: Tensor) -> None:
        """Raise ValueError where ranks, dtypes or sizes do not fit the formula."""
        if not isinstance(x, Tensor):
            raise TypeError(f"rotated: x must be a tensor, but is {type(x)}")
        x_shape = x.shape
        if len(x_shape) < 2:
            raise ValueError(
                f"rotated: x must have at least 2 dimensions, [N, C], but has {x.dim()}"
            )
        if not x.is_floating_point():
            raise ValueError(f"rotated: x must be a floating-point tensor, but is {x.dtype}")
        if self.w.dtype != x.dtype and (not in_autocast(x)):
            raise ValueError(
                f"rotated: x is {x.dtype}, but the module holds w in {self.w.dtype}: convert one "
                "of them, as with `module.to(dtype)`, or use torch.autocast"
            )
        if self.b.dtype != x.dtype and (not in_autocast(x)):
            raise ValueError(
                f"rotated: x is {x.dtype}, but the module holds b in {self.b.dtype}: convert one "
                "of them, as with `module.to(dtype)`, or use torch.autocast"
            )
        if self.scale.dtype != x.dtype and (not in_autocast(x)):
            raise ValueError(
                f"rotated: x is {x.dtype}, but the module holds scale in {self.scale.dtype}: "
                "convert one of them, as with `module.to(dtype)`, or use torch.autocast"
            )
        if self.shift.dtype != x.dtype and (not in_autocast(x)):
            raise ValueError(
                f"rotated: x is {x.dtype}, but the module holds shift in {self.shift.dtype}: "
                "convert one of them, as with `module.to(dtype)`, or use torch.autocast"
            )
        if x_shape[-1] != self.C:
            raise ValueError(
                f"rotated: x has size {x.size(-1)} on axis C (dimension -1), but the module was "
                f"built with C = {self.C}"
            )

    def forward(self, x: Tensor) -> Tensor:
        """x [..., N, C] -> [..., N, C]"""
        self.check(x)
        N = x.size(-2)
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        h = (x @ self.w + self.b).unflatten(-1, (self.H, self.D))
        frequency = self.frequency.to(wide)
        product = frequency.unsqueeze(-1) * torch.arange(N, device=x.device).to(wide)
        cos = torch.cos(product).to(x.dtype)
        product_2 = h * self.scale.unsqueeze(-1) * cos.transpose(-2, -1).unsqueeze(-2)
        log = torch.log(torch.full((), N, dtype=wide, device=x.device)).to(x.dtype)
        return (product_2.mul_(log) + self.shift).flatten(-2, -1)

    @torch.jit.export
    def init_state(self, length: int = 0) -> list[Tensor]:
        """The state before the first position, for any batch, device and dtype.

        state[0]: the number of positions so far: []
        state[1]: frequency, which the first step computes
        state[2]: the length of the whole sequence: []
        """
        if length < 1:
            raise ValueError(
                "rotated: `N` reads the length of the sequence; tell init_state how long the "
                "whole sequence may become, as in init_state(length=1024)"
            )
        return [torch.tensor(0, device="cpu"), torch.empty(0), torch.tensor(length, device="cpu")]

    def step_constants(self, x: Tensor) -> Tensor:
        """What depends on sizes only: the first step computes it and hands it on in the state."""
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        return self.frequency.to(wide)

    @torch.jit.export
    def step(self, state: list[Tensor], x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Results for the next positions, one or more, and the state after them."""
        if not isinstance(state, (list, tuple)):
            raise TypeError(f"rotated: a state is a list of tensors, not {type(state)}")
        if len(state) != 3:
            raise ValueError(
                "rotated: a state of `init_state` or `step` has 3 tensors, this one has "
                f"{len(state)}"
            )
        start = int(state[0])
        self.check(x)
        if x.size(-2) < 1:
            raise ValueError(
                f"rotated: a step takes one position or more, but {x.size(-2)} are given"
            )
        length = int(state[2])
        if start + x.size(-2) > length:
            raise ValueError(
                f"rotated: position {start + x.size(-2)} is beyond the length of the whole "
                f"sequence, which is {length}"
            )
        frequency = self.step_constants(x) if is_new(state[1]) else state[1]
        N = x.size(-2)
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        h = (x @ self.w + self.b).unflatten(-1, (self.H, self.D))
        total = (torch.arange(N, device=x.device) + start).to(wide)
        cos = torch.cos(frequency.unsqueeze(-1) * total).to(x.dtype)
        product = h * self.scale.unsqueeze(-1) * cos.transpose(-2, -1).unsqueeze(-2)
        log = torch.log(torch.full((), length, dtype=wide, device=x.device)).to(x.dtype)
        merge = (product.mul_(log) + self.shift).flatten(-2, -1)
        return merge, [state[0] + x.size(-2), frequency, state[2]]
