"""Values without operands: inputs, parameters, buffers, constants, numbers, sizes, positions."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..sizes import Poly
from ..types import Kind, Type
from .base import Emitter, Leaf, Operand


@dataclass(frozen=True)
class Declared(Leaf):
    """A tensor that the formula declares by name."""

    name: str
    kind: Kind
    axes: tuple[str, ...]
    batched: ClassVar[bool] = False

    def infer(self, *operands: Type) -> Type:
        return Type(self.kind, self.axes, self.batched)

    def is_given(self) -> bool:
        return True

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()} {self.name}"


@dataclass(frozen=True)
class Input(Declared):
    """A tensor that the caller passes, with any leading batch axes in front of its own."""

    family: ClassVar[str] = "leaves"
    batched: ClassVar[bool] = True


@dataclass(frozen=True)
class Parameter(Declared):
    """A learned tensor of the module."""

    family: ClassVar[str] = "leaves"


@dataclass(frozen=True)
class Buffer(Declared):
    """A tensor that is drawn or computed when the module is built, and then fixed."""

    family: ClassVar[str] = "leaves"


@dataclass(frozen=True)
class Literal(Leaf):
    """A number of the text, `pi` or `inf`: kept as written, `0.1` is the float64 nearest to 0.1."""

    family: ClassVar[str] = "leaves"
    value: float | int

    def __eq__(self, other: object) -> bool:
        """1 and 1.0 are different: an int and a real number."""
        if not isinstance(other, Literal):
            return False
        return type(self.value) is type(other.value) and self.value == other.value

    def __hash__(self) -> int:
        return hash((type(self.value), self.value))

    def infer(self, *operands: Type) -> Type:
        return Type(Kind.INT if isinstance(self.value, int) else Kind.REAL)

    def emit_number(self, emitter: Emitter, *operands: ast.expr) -> ast.expr:
        return pyast.constant(self.value)


@dataclass(frozen=True)
class Size(Leaf):
    """A size or constant read as a number: `D` in `sqrt(D)`, `W` where the formula says `const W = 49`."""

    family: ClassVar[str] = "leaves"
    size: Poly
    kind: Kind = Kind.INT

    def infer(self, *operands: Type) -> Type:
        return Type(self.kind)

    def emit_number(self, emitter: Emitter, *operands: ast.expr) -> ast.expr:
        return emitter.size(self.size)


@dataclass(frozen=True)
class Position(Leaf):
    """pos(N): the positions along an axis.

    Formula: `out[n] = n`, an int: 0, 1, ..., N - 1.

    Every mask, decay, window, lag, grid or rotary table is written with it.
    """

    spelling: ClassVar[str] = "pos"
    family: ClassVar[str] = "positions"
    axis: str

    def infer(self, *operands: Type) -> Type:
        return Type(Kind.INT, (self.axis,))

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return pyast.call("torch.arange", emitter.size(Poly.symbol(self.axis)), device=emitter.device())
