"""What every algorithm of the portfolio says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ops.base import Op


@dataclass(frozen=True)
class Lowering(Op):
    """An operation that no text spells and only plans hold: an algorithm for an expression of the text.

    rule: what the decision for it is called; why: why it computes the same; both as `explain` prints them.
    chunked: whether it goes through the sequence chunk by chunk.
    absorbs: whether it computes a factor as well, and both for no more work than the factor and the sum by themselves.
    """

    family: ClassVar[str] = "lowerings"
    rule: ClassVar[str]
    why: ClassVar[str]
    chunked: ClassVar[bool] = False
    absorbs: ClassVar[bool] = False
