"""Algorithms under torch.autocast, which rounds the operands of every product of matrices, sums that are carried too.

Generated modules carry a copy of what they use.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def in_autocast(x: Tensor) -> bool:
    """Whether autocast brings operands to one dtype on this tensor's device; not in TorchScript."""
    if torch.jit.is_scripting() or x.is_meta:  # tensors without values have no autocast
        return False
    return torch.is_autocast_enabled(x.device.type)


def accumulating(kernel):
    """The kernel in the precision that it is written in, whatever autocast says; its first argument is a tensor.

    As a whole it is a product of matrices: what it multiplies is brought to the dtype of autocast, and so is its
    result. Gates and carried sums stay in float32.
    """
    multiplied = ("query", "key", "value", "reading", "direction")
    names = kernel.__code__.co_varnames[: kernel.__code__.co_argcount]

    @functools.wraps(kernel)
    def run(*arguments):
        device = arguments[0].device.type
        if not in_autocast(arguments[0]):
            return kernel(*arguments)
        low = torch.get_autocast_dtype(device)
        given = [
            argument.to(low) if names[i] in multiplied and argument.dtype != torch.float64 else argument
            for i, argument in enumerate(arguments)
        ]
        with torch.autocast(device, enabled=False):
            return kernel(*given)

    return run
