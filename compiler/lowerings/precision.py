"""What sums of half-precision numbers are kept in. Generated modules carry a copy."""

from __future__ import annotations

import torch
from torch import Tensor


def accumulator(x: Tensor) -> torch.dtype:
    """The dtype of sums of many elements: float32 in half precision, otherwise that of the tensor."""
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
