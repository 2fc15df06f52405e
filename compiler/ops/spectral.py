"""Complex numbers and Fourier transforms."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from .. import pyast
from ..sizes import Poly
from ..types import Kind, Type, join
from .base import Brackets, Emitter, Op, Operand
from .checks import need_axes, need_new_axes, need_numbers, need_ordered
from .emission import all_wide, as_tensor, dimension
from .ordering import logarithm


@dataclass(frozen=True)
class _Part(Op):
    """A part of a complex value; of a real one too."""

    family: ClassVar[str] = "complex"
    elementwise: ClassVar[bool] = True
    flops_per_element: ClassVar[int] = 0
    kind: ClassVar[Kind] = Kind.REAL

    def infer(self, *operands: Type) -> Type:
        need_numbers(self.spelling, operands)
        return operands[0].of(self.kind)

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return Kind.COMPLEX

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return pyast.call(f"torch.{self.spelling}", operands[0].expression)


@dataclass(frozen=True)
class RealPart(_Part):
    """real(z): the real part of a complex value.

    Formula: `out = x where z = x + i*y`.
    """

    spelling: ClassVar[str] = "real"
    latex: ClassVar[str] = "\\mathrm{{Re}} {x}"


@dataclass(frozen=True)
class ImaginaryPart(_Part):
    """imag(z): the imaginary part of a complex value.

    Formula: `out = y where z = x + i*y`.
    """

    spelling: ClassVar[str] = "imag"
    latex: ClassVar[str] = "\\mathrm{{Im}} {x}"


@dataclass(frozen=True)
class Conjugate(_Part):
    """conj(z): the complex conjugate.

    Formula: `out = x - i*y where z = x + i*y`.
    """

    spelling: ClassVar[str] = "conj"
    kind: ClassVar[Kind] = Kind.COMPLEX

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        # without `resolve_conj` the conjugation stays a flag that numpy and exporters do not know
        return pyast.method(super().emit(emitter, result, *operands), "resolve_conj")


@dataclass(frozen=True)
class MakeComplex(Op):
    """complex(x, y): the complex value with a real and an imaginary part.

    Formula: `out[i] = x[i] + i*y[i]`, over the axes of both.
    """

    spelling: ClassVar[str] = "complex"
    family: ClassVar[str] = "complex"
    operands: ClassVar[tuple[str, ...]] = ("x", "y")
    elementwise: ClassVar[bool] = True
    flops_per_element: ClassVar[int] = 0

    def infer(self, *operands: Type) -> Type:
        need_numbers("complex", operands)
        need_ordered("complex", operands)
        return join(*operands, kind=Kind.COMPLEX)

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return Kind.REAL

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        wide = all_wide(operands)
        return pyast.call(
            "torch.complex", *(as_tensor(emitter, o, Kind.REAL, result.axes, wide=wide) for o in operands)
        )


@dataclass(frozen=True)
class _Transform(Op):
    """A discrete Fourier transform along one axis, which becomes another."""

    family: ClassVar[str] = "transforms"
    brackets: ClassVar[Brackets] = Brackets.RENAME
    kinds: ClassVar[tuple[Kind, Kind]] = (Kind.COMPLEX, Kind.COMPLEX)  # of operand and result
    source: str
    target: str

    def infer(self, *operands: Type) -> Type:
        [x] = operands
        need_axes(self.spelling, (self.source,), x)
        need_numbers(self.spelling, operands)
        if self.kinds[0] is Kind.REAL:
            need_ordered(self.spelling, operands)
        need_new_axes(self.spelling, (self.target,), (a for a in x.axes if a != self.source), x)
        axes = tuple(self.target if axis == self.source else axis for axis in x.axes)
        return x.with_axes(axes).of(self.kinds[1])

    def size_facts(self, *operands: Type) -> Sequence[tuple[Poly, Poly]]:
        return ((Poly.symbol(self.target), Poly.symbol(self.source)),)

    def new_axes(self) -> tuple[str, ...]:
        return (self.target,)

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return self.kinds[0]

    def flops(self, result: Type, *operands: Type) -> Poly:
        both_complex = self.kinds == (Kind.COMPLEX, Kind.COMPLEX)
        longer = operands[0] if self.kinds[0] is Kind.REAL else result
        axis = self.source if self.kinds[0] is Kind.REAL else self.target
        return longer.volume() * logarithm(axis) * (5 if both_complex else Fraction(5, 2))

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        [x] = operands
        return pyast.call(f"torch.fft.{self.spelling}", x.expression, dim=dimension(x.type.axes, self.source))


@dataclass(frozen=True)
class FourierTransform(_Transform):
    """fft[N -> K](x): the discrete Fourier transform along an axis.

    Formula: `out[k] = sum over n of x[n] * e ** (-2 pi i k n / N)`, and K = N.

    Complex, also for a real x. Counts 5 * log2(N) operations per element.
    Source: Cooley and Tukey, An Algorithm for the Machine Calculation of Complex Fourier Series, 1965.
    """

    spelling: ClassVar[str] = "fft"


@dataclass(frozen=True)
class InverseFourierTransform(_Transform):
    """ifft[K -> N](z): the inverse discrete Fourier transform along an axis.

    Formula: `out[n] = 1 / N * sum over k of z[k] * e ** (2 pi i k n / N)`, and N = K.

    Counts 5 * log2(N) operations per element.
    """

    spelling: ClassVar[str] = "ifft"


@dataclass(frozen=True)
class RealFourierTransform(_Transform):
    """rfft[N -> K](x): the half of the Fourier transform of a real value that says everything.

    Formula: `out[k] = sum over n of x[n] * e ** (-2 pi i k n / N)`, and K = floor(N / 2) + 1.

    Complex. Counts 2.5 * log2(N) operations per element of x.
    """

    spelling: ClassVar[str] = "rfft"
    kinds: ClassVar[tuple[Kind, Kind]] = (Kind.REAL, Kind.COMPLEX)

    def size_facts(self, *operands: Type) -> Sequence[tuple[Poly, Poly]]:
        return ((Poly.symbol(self.target), _half(self.source)),)


@dataclass(frozen=True)
class InverseRealFourierTransform(_Transform):
    """irfft[K -> N](z): the real value whose rfft is z.

    Formula: `out[n] = 1 / N * Re(sum over k of mu[k] * z[k] * e ** (2 pi i k n / N))` with mu[0] = 1, mu[k] = 2,
    and mu = 1 at k = N / 2 if N is even; K = floor(N / 2) + 1.

    The imaginary part of z at 0, and at N / 2 if N is even, does not count. The length N follows from an
    input, a parameter or a `where` line, since K leaves open whether it is odd. Counts 2.5 * log2(N)
    operations per element of the result.
    """

    spelling: ClassVar[str] = "irfft"
    kinds: ClassVar[tuple[Kind, Kind]] = (Kind.COMPLEX, Kind.REAL)

    def size_facts(self, *operands: Type) -> Sequence[tuple[Poly, Poly]]:
        return ((Poly.symbol(self.source), _half(self.target)),)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        [x] = operands
        length = emitter.size(Poly.symbol(self.target))
        return pyast.call("torch.fft.irfft", x.expression, n=length, dim=dimension(x.type.axes, self.source))


def _half(axis: str) -> Poly:
    return Poly.symbol(axis) // 2 + 1
