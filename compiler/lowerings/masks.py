"""Masks among the factors of a product."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import Builder, Node
from ..normal import Factor
from ..ops.contraction import Contraction
from ..ops.leaves import Literal
from ..ops.logic import Where
from ..ops.selection import Take
from ..types import Kind


def behind_masks(given: Sequence[Factor], builder: Builder) -> list[Factor]:
    """The factors, with masks selecting where a product might meet an infinity that they hide.

    `where(lag >= 0, 0.5^lag, 0)` is the product of its mask and of a decay that grows without bound where the
    mask is 0, and 0 times infinity is no number.
    """
    factors = list(given)
    masks = [f for f in factors if isinstance(f.node.op, Where) and not f.inverse and is_indicator(f.node)]
    for mask in masks:
        condition, yes, _ = mask.node.inputs
        shown = _is(yes, 1)
        hidden = [
            f
            for f in factors
            if f not in masks
            and not isinstance(f.node.op, Contraction | Take)  # as finite as what it is cut out of
            and len(set(f.axes) & set(condition.axes)) > 1
            and not f.node.op.is_given()
            and f.node.type.kind is not Kind.BOOL  # a condition is never infinite
        ]
        if not hidden:
            continue
        for factor in hidden:
            aside = builder.make(Literal(1.0 if factor.inverse else 0.0))
            branches = (factor.node, aside) if shown else (aside, factor.node)
            selected = Factor(builder.make(Where(), condition, *branches), factor.inverse)
            factors = [selected if f is factor else f for f in factors]
        if any(not factor.inverse for factor in hidden):  # one of them carries the zeros
            factors = [f for f in factors if f is not mask]
    return factors


def is_indicator(node: Node) -> bool:
    _, yes, no = node.inputs
    return (_is(yes, 1) and _is(no, 0)) or (_is(yes, 0) and _is(no, 1))


def _is(node: Node, value: float) -> bool:
    return isinstance(node.op, Literal) and node.op.value == value
