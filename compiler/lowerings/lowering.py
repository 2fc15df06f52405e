"""What every algorithm of the portfolio says about itself."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..ops.base import Emitter, Op
from ..sizes import Poly


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

    def instead(self) -> tuple[Poly, Poly] | None:
        """A size, and the operations of the other way that the algorithm goes where this size is not above 0."""
        return None


def unflattened(emitter: Emitter, rows: ast.expr, columns: tuple[str, ...]) -> ast.expr:
    """[..., rows, all columns in one dimension] as [..., rows, *columns]."""
    if not columns:
        return pyast.method(rows, "squeeze", -1)
    if len(columns) == 1:
        return rows
    return pyast.method(rows, "unflatten", -1, pyast.tuple_of([emitter.size(Poly.symbol(a)) for a in columns]))
