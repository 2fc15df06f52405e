"""Every algorithm for a sum of products, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Callable

from ..graph import Node
from . import additive, causal, fused, prefix, toeplitz
from .request import Request

Match = Callable[[Request], Node | str]  # what computes it, or why this algorithm does not

PORTFOLIO: tuple[Match, ...] = (causal.match, prefix.match, fused.match, additive.match, toeplitz.match)
