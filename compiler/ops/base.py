"""What an operation is: one frozen class that holds every fact about it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from typing import Any, ClassVar, Protocol

from ..sizes import ZERO, Poly
from ..types import Kind, Type


class Reject(Exception):
    """Operands that an operation cannot take: a diagnostic code, its facts and the blamed operand."""

    def __init__(self, code: str, operand: int | None = None, *, help: str | None = None, **facts: object) -> None:
        super().__init__(code)
        self.code = code
        self.operand = operand
        self.facts: Mapping[str, str] = {name: str(value) for name, value in facts.items()}
        self.help = help


class Brackets(Enum):
    """What a function takes in brackets after its name."""

    NONE = "nothing"
    AXES = "one or more axes"
    AXIS = "one axis"
    SPLIT = "one axis and the axes it becomes"
    MERGE = "axes and the axis they become"
    RENAME = "one axis and its new name"
    WINDOW = "one axis and the two it becomes"
    CONVOLUTION = "axes of the value and as many of the kernel"

    def example(self, name: str) -> str:
        """How a function that takes this is called."""
        return name + _EXAMPLES[self.name]


_EXAMPLES = {
    "NONE": "(x)", "AXES": "[N](x)", "AXIS": "[N](x)", "SPLIT": "[N -> Y, X](x)", "MERGE": "[Y, X -> N](x)",
    "RENAME": "[N -> P](x)", "WINDOW": "[N -> N, W](x)", "CONVOLUTION": "[N, K](x, w)",
}  # fmt: skip


def attribute(default: Poly | int | str | None = None, *, doc: str) -> Any:
    """A field set by keyword: a scalar over sizes and constants, fixed when the module is built."""
    if isinstance(default, str):
        default = Poly.constant(Fraction(default))
    elif isinstance(default, int):
        default = Poly.constant(default)
    if default is None:
        return field(metadata={"doc": doc, "attribute": True})
    return field(default=default, metadata={"doc": doc, "attribute": True})


@dataclass(frozen=True)
class Operand:
    """An operand while source is generated.

    expression: Python that yields it, cheap enough to be used more than once.
    number: it is a Python number, not a tensor.
    wide: its dtype is that of values computed from positions and sizes only (see `Emitter.dtype`).
    lasts: it is the same for every piece of a sequence.
    """

    expression: ast.expr
    type: Type
    number: bool = False
    wide: bool = False
    lasts: bool = False


@dataclass(frozen=True)
class Carried:
    """One tensor that an operation hands on from one piece of a sequence to the next.

    what: what it holds, in words. shape: its last dimensions, behind those of the batch.
    """

    what: str
    shape: tuple[Poly, ...]


def _as_it_is(piece: ast.expr) -> ast.expr:
    return piece


@dataclass(frozen=True)
class Continuation:
    """Python that goes on from a state.

    code: a tuple of the piece and of what is carried after it; or the piece alone, where that is all that is carried.
    finish: brings the piece into its shape.
    """

    code: ast.expr
    alone: bool = False
    finish: Callable[[ast.expr], ast.expr] = _as_it_is


class Emitter(Protocol):
    """What an operation may ask for while it emits Python."""

    def size(self, size: Poly) -> ast.expr:
        """A Python int or float expression for a size, an axis or a constant."""
        ...

    def align(self, operand: Operand, axes: tuple[str, ...]) -> ast.expr:
        """The operand with its dimensions in the order of `axes`, length 1 where it lacks one that
        stands right of one it has, so that torch broadcasts it against a tensor over `axes`."""
        ...

    def dtype(self, kind: Kind, *, wide: bool) -> ast.expr:
        """The torch dtype of a kind. wide: that of values computed from positions and sizes only."""
        ...

    def device(self) -> ast.expr:
        """The device of the inputs."""
        ...

    def full(self, operand: Operand, axes: tuple[str, ...]) -> ast.expr:
        """The operand as a tensor over all of `axes`, repeated along those that it lacks."""
        ...

    def helper(self, function: str) -> ast.expr:
        """A function of `lowerings/kernels.py` by name; the generated module carries its text."""
        ...

    def lasting(self, name: str, code: ast.expr, operand: Operand) -> ast.expr:
        """A tensor made of this operand only: where that lasts, it is computed for the first piece of a sequence."""
        ...


@dataclass(frozen=True)
class Op:
    """An operation on typed values.

    A subclass states, once: how it is spelled, what it takes, its type, its cost and its code.
    Its docstring is its reference page: first line, formula, notes.
    """

    spelling: ClassVar[str] = ""
    family: ClassVar[str] = ""
    brackets: ClassVar[Brackets] = Brackets.NONE
    operands: ClassVar[tuple[str, ...]] = ("x",)
    optional: ClassVar[tuple[str, ...]] = ()
    #: takes any number of operands from len(operands) on
    variadic: ClassVar[bool] = False
    commutative: ClassVar[bool] = False
    #: primitive steps per element of the result (of the operand, for reductions): one per addition,
    #: multiplication, comparison or call of an elementary function
    flops_per_element: ClassVar[int] = 1
    elementwise: ClassVar[bool] = False
    #: how often the elements along its axes are gone through, one after the other, until the result is there
    sweeps: ClassVar[int] = 1
    #: whether a value that couples two sequence axes can be taken apart through this operation, because
    #: it is a product, a sum or only a change of layout
    separable: ClassVar[bool] = False
    #: has a gradient wherever it is smooth; False: it passes none to its operands
    differentiable: ClassVar[bool] = True
    #: what LaTeX prints, with {x}, {y} for operands and {axes} for lower-case indices; "" = \mathrm{name}
    latex: ClassVar[str] = ""

    # -- meaning ---------------------------------------------------------------------------------

    def infer(self, *operands: Type) -> Type:
        """The type of the result. Errors: Reject."""
        raise NotImplementedError

    def size_facts(self, *operands: Type) -> Sequence[tuple[Poly, Poly]]:
        """Equations between sizes that hold when this operation is legal, as `N = Y*X` for split."""
        return ()

    def size_bounds(self, *operands: Type) -> Sequence[tuple[Poly, Poly]]:
        """Pairs of sizes of which the first is at least the second when this operation is legal."""
        return ()

    def new_axes(self) -> tuple[str, ...]:
        """Axes that the operation may introduce."""
        return ()

    def scalars(self) -> tuple[Poly, ...]:
        """Every size that the operation is built with."""
        return tuple(value for value in vars(self).values() if isinstance(value, Poly))

    def inside(self) -> tuple[Any, ...]:
        """The results of the graph that the operation runs many times; none but recurrences have one."""
        return ()

    def given_inside(self) -> tuple[Any, ...]:
        """The values of that graph that stand for the operands, in the order of the operands."""
        return ()

    # -- cost ------------------------------------------------------------------------------------

    def flops(self, result: Type, *operands: Type) -> Poly:
        """Floating-point operations for one batch entry."""
        if not result.axes and not any(o.axes for o in operands):
            return ZERO
        return result.volume() * self.flops_per_element

    def workspace(self, result: Type, *operands: Type) -> Poly:
        """Elements that are held for one batch entry while the result is computed, besides operands and result."""
        return ZERO

    def is_view(self) -> bool:
        """Whether the result shares storage with its first operand."""
        return False

    def is_given(self) -> bool:
        """Whether the value exists before anything is computed: inputs, parameters, buffers."""
        return False

    # -- piece by piece --------------------------------------------------------------------------

    def follows(self) -> Mapping[str, str]:
        """Axes along which no element depends on a later one of the operands: for each such axis of an
        operand the axis of the result that it is seen from, as {M: N} under a causal mask, {N: N} for a running sum."""
        return {}

    def carried(self, result: Type, *operands: Type) -> tuple[Carried, ...]:
        """What `emit_from` needs to know of the pieces before; nothing if the operation cannot go on from a state.

        It goes on along all the axes of `follows`, and every operand must be a piece along those that it has.
        """
        return ()

    # -- code ------------------------------------------------------------------------------------

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        """The kind that operand `index` is converted to before `emit`; None leaves it as it is."""
        return None

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        """Python for the result as a tensor whose last dimensions are `result.axes`."""
        raise NotImplementedError

    def emit_from(
        self, emitter: Emitter, result: Type, state: Sequence[ast.expr], *operands: Operand
    ) -> Continuation:
        """Python for a piece of the result, given pieces of the operands, and for what is carried after it.

        state: one expression for each of `carried`; a tensor of shape [0] where nothing came before.
        """
        raise NotImplementedError

    def emit_number(self, emitter: Emitter, *operands: ast.expr) -> ast.expr | None:
        """Python for the result as a number, when every operand is one; None if there is no such code."""
        return None


@dataclass(frozen=True)
class Leaf(Op):
    """A value without operands: inputs, parameters, buffers, numbers, sizes, positions."""

    operands: ClassVar[tuple[str, ...]] = ()

    def flops(self, result: Type, *operands: Type) -> Poly:
        return ZERO
