"""Types of values: a kind and an ordered list of distinct named axes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .sizes import Poly


class Kind(Enum):
    """What an element is. BOOL < INT < REAL < COMPLEX in the order of promotion."""

    BOOL = "bool"
    INT = "int"
    REAL = "real"
    COMPLEX = "complex"

    def __init__(self, _: str) -> None:
        self.rank = len(self.__class__.__members__)


def promote(*kinds: Kind) -> Kind:
    highest = kinds[0]
    for kind in kinds:
        if kind.rank > highest.rank:
            highest = kind
    return highest


@dataclass(frozen=True, slots=True)
class Type:
    """A kind, ordered axes, and whether the caller's leading batch axes are in front of them.

    A value that depends on no input has no batch axes: it is computed once per call, whatever the
    batch.
    """

    kind: Kind
    axes: tuple[str, ...] = ()
    batched: bool = False

    def __str__(self) -> str:
        text = f"[{', '.join(self.axes)}]"
        return text if self.kind is Kind.REAL else f"{text} {self.kind.value}"

    @property
    def rank(self) -> int:
        return len(self.axes)

    def volume(self) -> Poly:
        """The number of elements of one batch entry."""
        return Poly.volume(self.axes)

    def of(self, kind: Kind) -> Type:
        return Type(kind, self.axes, self.batched)

    def with_axes(self, axes: tuple[str, ...]) -> Type:
        return Type(self.kind, axes, self.batched)

    def without(self, axes: tuple[str, ...]) -> Type:
        return Type(self.kind, tuple(a for a in self.axes if a not in axes), self.batched)


def join_axes(left: tuple[str, ...], right: tuple[str, ...]) -> tuple[str, ...]:
    """Axes of an elementwise result: the order of the operand that has them all, else the left's
    axes first, then the right's new ones."""
    if all(axis in left for axis in right):
        return left
    if all(axis in right for axis in left):
        return right
    return left + tuple(axis for axis in right if axis not in left)


def join(*types: Type, kind: Kind | None = None) -> Type:
    """The type of an elementwise result."""
    axes: tuple[str, ...] = ()
    for type_ in types:
        axes = join_axes(axes, type_.axes)
    return Type(kind or promote(*(t.kind for t in types)), axes, any(t.batched for t in types))
