"""Inputs that fit a formula, for targets that trace an example."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from .emit.arguments import HOLDS, complete
from .emit.settle import plan_sizes
from .errors import CompileError
from .formula import Formula
from .types import Kind

# Larger than 1, which torch takes for a constant; what parameters carry is smaller, since it counts
# selected items and kernel sides too.
_FIXED = (2, 4, 3, 6, 5, 8, 12, 7, 9, 10, 16, 24, 1)
_BOUND = (14, 10, 22, 26, 18, 12, 24, 30, 36, 48, 60, 16, 8, 6, 9, 7, 5, 4, 3, 2, 1)
_ATTEMPTS = 20_000
_BATCH = 3


def example_inputs(
    formula: Formula,
    sizes: Mapping[str, int],
    constants: Mapping[str, int | float],
    *,
    batch: int = 1,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, ...]:
    """One tensor per input, with `batch` batch dimensions. sizes: what is known of axes.

    Errors: CompileError if no sizes are found that meet the formula's facts.
    """
    known = example_sizes(formula, sizes, constants)
    real = dtype or torch.get_default_dtype()
    kinds = {Kind.INT: torch.int64, Kind.BOOL: torch.bool, Kind.COMPLEX: complex_dtype(real)}
    return tuple(
        torch.ones(
            (*(_BATCH + index for index in range(batch)), *(known[axis] for axis in node.axes)),
            device=device,
            dtype=kinds.get(node.type.kind, real),
        )
        for node in formula.inputs
    )


def complex_dtype(real: torch.dtype) -> torch.dtype:
    """That of complex numbers beside real ones; half precision has none that torch computes much with."""
    return torch.complex128 if real == torch.float64 else torch.complex64


def example_sizes(
    formula: Formula, sizes: Mapping[str, int], constants: Mapping[str, int | float]
) -> dict[str, int]:
    """Sizes for every axis of parameters and inputs that meet the formula's facts. sizes: those that are known.

    Errors: CompileError if none are found.
    """
    wanted = dict.fromkeys((*formula.fixed, *(axis for node in formula.inputs for axis in node.axes)))
    # related axes first, so that a broken fact is found early; of these, what an equation defines comes
    # last, since by then it may follow from the others
    sides = [side for r in formula.relations for side in (r.left, r.right)] + list(formula.derived.values())
    related = {name for side in sides for name in side.symbols()}
    defined = {r.left.as_symbol() for r in formula.relations if r.relation == "="}
    axes = sorted((axis for axis in wanted if axis not in sizes), key=lambda a: (a not in related, a in defined))
    for least in (2, 1):
        found = _search(formula, axes, dict(sizes), constants, least)
        if found is not None:
            return found
    raise CompileError(
        f"{formula.name}: found no example sizes that meet its facts; pass sizes for {', '.join(axes)}"
    )


def _search(
    formula: Formula,
    axes: Sequence[str],
    sizes: dict[str, int],
    constants: Mapping[str, int | float],
    least: int,
) -> dict[str, int] | None:
    """Give the axes sizes one by one, going back where a fact is broken. least: of derived sizes too."""
    whole = [value for value in constants.values() if isinstance(value, int) and 2 < value <= 512]
    attempts = 0
    # sizes so far, and the candidates that are left for the next axis that has none
    stack = [(sizes, _candidates(formula, axes, sizes, whole))]
    while stack and attempts < _ATTEMPTS:
        known, candidates = stack[-1]
        choice = next(candidates, None)
        if choice is None:
            stack.pop()
            continue
        attempts += 1
        extended = known | choice
        new = extended.keys() - sizes.keys()
        if complete(formula, extended, constants) or any(extended[axis] < least for axis in new):
            continue
        if all(axis in extended for axis in axes):
            if _whole(formula, extended, constants):
                return extended
            continue
        stack.append((extended, _candidates(formula, axes, extended, whole)))
    return None


def _candidates(
    formula: Formula, axes: Sequence[str], known: Mapping[str, int], whole: Sequence[int]
) -> Iterator[dict[str, int]]:
    """Sizes of the first axis that has none, other axes' sizes last; nothing to choose gives one empty choice."""
    axis = next((axis for axis in axes if axis not in known), None)
    if axis is None:
        yield {}
        return
    plain = _FIXED if axis in formula.fixed else _BOUND
    multiples = [] if axis in formula.fixed else [value * number for value in whole for number in (2, 3, 1)]
    taken = set(known.values())
    choices = dict.fromkeys((*plain, *multiples))
    for size in sorted(choices, key=lambda size: size in taken):
        yield {axis: size}


def _whole(formula: Formula, known: Mapping[str, int], constants: Mapping[str, int | float]) -> bool:
    """Whether every derived size is a positive int and every relation is decided and holds."""
    values = {**constants, **known}
    for axis, size in formula.derived.items():
        if axis not in known and not size.symbols() <= values.keys():
            return False
    plan = plan_sizes(formula)
    return all(
        HOLDS[r.relation](*(side.evaluate(values) for side in (r.left, r.right)))
        for r in plan.calling
        if (r.left.symbols() | r.right.symbols()) <= values.keys()
    )
