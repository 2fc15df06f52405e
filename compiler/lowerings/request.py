"""What a lowering is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..graph import Builder, Node
from ..normal import Factor, Names
from ..sizes import Facts


@dataclass(frozen=True)
class Request:
    """A product of factors that is summed over some axes, and what is known around it.

    bound: the axes that are summed; constants: the values of `const` lines; names: gives fresh axes.
    only_here: whether nothing but this sum reads a value, so that it need not be stored.
    couples: whether a value is itself as large as the map of two sequence axes.
    product: multiplies factors and sums axes that only they carry, in the cheapest order.
    size: the representative size of an axis; sequence axes are long.
    work: what computing a value from the factors takes at representative sizes, in operations.
    """

    factors: tuple[Factor, ...]
    bound: frozenset[str]
    builder: Builder
    facts: Facts
    constants: Mapping[str, int | float]
    names: Names
    only_here: Callable[[Node], bool]
    couples: Callable[[Node], bool]
    product: Callable[[list[Factor], frozenset[str]], Node]
    size: Callable[[str], float]
    work: Callable[[Node], float]
