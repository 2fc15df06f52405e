"""Entries of a table by their positions. Generated modules carry a copy."""

from __future__ import annotations

import torch
from torch import Tensor


def rows_at(table: Tensor, index: Tensor) -> Tensor:
    """table[index] for positions from the start only: negative ones are an error, as those behind the end are."""
    rows = torch.index_select(table, 0, index.flatten())
    return rows.reshape(index.size() + table.size()[1:])
