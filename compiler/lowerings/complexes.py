"""Conversion of modules that hold complex numbers. Generated modules carry a copy."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def by_parts(convert: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """What converts a tensor of a module; of a complex one, its real and imaginary parts.

    So `module.double()` and `module.to(dtype)` mean the same for complex numbers as for the real ones beside them.
    Parts of half precision become single: torch computes with no smaller complex numbers.
    """

    def converted(tensor: Tensor) -> Tensor:
        if not tensor.is_complex():
            return convert(tensor)
        parts = convert(torch.view_as_real(tensor.resolve_conj()))
        if parts.is_complex():  # a complex dtype was asked for
            return convert(tensor)
        wide = parts if parts.dtype == torch.float64 else parts.float()
        return torch.view_as_complex(wide.contiguous())

    return converted
