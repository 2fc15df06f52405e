"""Functions of one value, element by element: each class is a row of a table."""

from __future__ import annotations

import ast
from dataclasses import dataclass, fields
from typing import ClassVar

from .. import pyast
from ..sizes import Poly
from ..types import Kind, Type
from .base import Emitter, Op, Operand, attribute
from .checks import need_numbers, need_ordered
from .emission import real_number


@dataclass(frozen=True)
class Function(Op):
    """A function of one value, applied to every element.

    torch: the function that computes it on tensors. number: Python that computes it for a number x
    (attributes by their names). keeps_int: ints give ints, else they count as real numbers.
    """

    family: ClassVar[str] = "functions"
    elementwise: ClassVar[bool] = True
    torch: ClassVar[str] = ""
    number: ClassVar[str] = ""
    keeps_int: ClassVar[bool] = False
    takes_complex: ClassVar[bool] = False
    #: names that torch uses for attributes where they differ
    torch_names: ClassVar[dict[str, str]] = {}

    def infer(self, *operands: Type) -> Type:
        need_numbers(self.spelling, operands)
        if not self.takes_complex:
            need_ordered(self.spelling, operands)
        [x] = operands
        return x.of(Kind.REAL) if x.kind is Kind.INT and not self.keeps_int else x

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return result.kind

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return pyast.call(self.torch, operands[0].expression, **self.keywords(emitter))

    def emit_number(self, emitter: Emitter, *operands: ast.expr) -> ast.expr:
        attributes = {f.name: real_number(emitter, getattr(self, f.name)) for f in fields(self)}
        return pyast.template(self.number, x=operands[0], **attributes)

    def keywords(self, emitter: Emitter) -> dict[str, ast.expr]:
        """The attributes that are not at their default, as torch calls them."""
        return {
            self.torch_names.get(f.name, f.name): real_number(emitter, getattr(self, f.name))
            for f in fields(self)
            if getattr(self, f.name) != f.default
        }


# -- sign and magnitude ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Abs(Function):
    """abs(x): the magnitude.

    Formula: `out = x if x >= 0 else -x`; for complex x, `sqrt(re^2 + im^2)`.

    An int stays an int, a complex value becomes real. The gradient at 0 is 0.
    """

    spelling: ClassVar[str] = "abs"
    torch: ClassVar[str] = "torch.abs"
    number: ClassVar[str] = "abs(x)"
    keeps_int: ClassVar[bool] = True
    takes_complex: ClassVar[bool] = True
    latex: ClassVar[str] = "\\left| {x} \\right|"

    def infer(self, *operands: Type) -> Type:
        result = super().infer(*operands)
        return result.of(Kind.REAL) if result.kind is Kind.COMPLEX else result

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return None


@dataclass(frozen=True)
class Sign(Function):
    """sign(x): the sign, 1 for positive, -1 for negative values, 0 for 0.

    Formula: `out = (x > 0) - (x < 0)`. An int stays an int. The gradient is 0.
    """

    spelling: ClassVar[str] = "sign"
    torch: ClassVar[str] = "torch.sign"
    number: ClassVar[str] = "(1 if x > 0 else 0) - (1 if x < 0 else 0)"
    keeps_int: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False


@dataclass(frozen=True)
class Square(Function):
    """square(x): the product with itself.

    Formula: `out = x * x`. An int stays an int.
    """

    spelling: ClassVar[str] = "square"
    torch: ClassVar[str] = "torch.square"
    number: ClassVar[str] = "x * x"
    keeps_int: ClassVar[bool] = True
    takes_complex: ClassVar[bool] = True
    latex: ClassVar[str] = "{{{x}}}^2"


@dataclass(frozen=True)
class Reciprocal(Function):
    """reciprocal(x): one divided by x.

    Formula: `out = 1 / x`. At 0 it is inf.
    """

    spelling: ClassVar[str] = "reciprocal"
    torch: ClassVar[str] = "torch.reciprocal"
    number: ClassVar[str] = "1 / x"
    takes_complex: ClassVar[bool] = True


@dataclass(frozen=True)
class Sqrt(Function):
    """sqrt(x): the square root.

    Formula: `out = x ** 0.5`. NaN below 0; the gradient at 0 is inf.
    """

    spelling: ClassVar[str] = "sqrt"
    torch: ClassVar[str] = "torch.sqrt"
    number: ClassVar[str] = "math.sqrt(x)"
    takes_complex: ClassVar[bool] = True
    latex: ClassVar[str] = "\\sqrt{{{x}}}"


@dataclass(frozen=True)
class Rsqrt(Function):
    """rsqrt(x): one divided by the square root.

    Formula: `out = x ** -0.5`. inf at 0, NaN below. Counts 2 operations.
    """

    spelling: ClassVar[str] = "rsqrt"
    torch: ClassVar[str] = "torch.rsqrt"
    number: ClassVar[str] = "1 / math.sqrt(x)"
    flops_per_element: ClassVar[int] = 2


# -- exponentials and logarithms ---------------------------------------------------------------------


@dataclass(frozen=True)
class Exp(Function):
    """exp(x): the exponential function.

    Formula: `out = e ** x`.
    """

    spelling: ClassVar[str] = "exp"
    torch: ClassVar[str] = "torch.exp"
    number: ClassVar[str] = "math.exp(x)"
    takes_complex: ClassVar[bool] = True


@dataclass(frozen=True)
class Expm1(Function):
    """expm1(x): the exponential minus one, accurate near 0.

    Formula: `out = e ** x - 1`.
    """

    spelling: ClassVar[str] = "expm1"
    torch: ClassVar[str] = "torch.expm1"
    number: ClassVar[str] = "math.expm1(x)"


@dataclass(frozen=True)
class Log(Function):
    """log(x): the natural logarithm.

    Formula: `out = ln(x)`. -inf at 0, NaN below.
    """

    spelling: ClassVar[str] = "log"
    torch: ClassVar[str] = "torch.log"
    number: ClassVar[str] = "math.log(x)"
    takes_complex: ClassVar[bool] = True


@dataclass(frozen=True)
class Log1p(Function):
    """log1p(x): the logarithm of one plus x, accurate near 0.

    Formula: `out = ln(1 + x)`.
    """

    spelling: ClassVar[str] = "log1p"
    torch: ClassVar[str] = "torch.log1p"
    number: ClassVar[str] = "math.log1p(x)"


@dataclass(frozen=True)
class Log2(Function):
    """log2(x): the logarithm to base 2.

    Formula: `out = ln(x) / ln(2)`.
    """

    spelling: ClassVar[str] = "log2"
    torch: ClassVar[str] = "torch.log2"
    number: ClassVar[str] = "math.log(x) / math.log(2.0)"  # TorchScript has no math.log2


# -- circular and hyperbolic functions ---------------------------------------------------------------


@dataclass(frozen=True)
class Sin(Function):
    """sin(x): the sine of an angle in radians.

    Formula: `out = sin(x)`.
    """

    spelling: ClassVar[str] = "sin"
    torch: ClassVar[str] = "torch.sin"
    number: ClassVar[str] = "math.sin(x)"
    takes_complex: ClassVar[bool] = True


@dataclass(frozen=True)
class Cos(Function):
    """cos(x): the cosine of an angle in radians.

    Formula: `out = cos(x)`.
    """

    spelling: ClassVar[str] = "cos"
    torch: ClassVar[str] = "torch.cos"
    number: ClassVar[str] = "math.cos(x)"
    takes_complex: ClassVar[bool] = True


@dataclass(frozen=True)
class Tan(Function):
    """tan(x): the tangent of an angle in radians.

    Formula: `out = sin(x) / cos(x)`.
    """

    spelling: ClassVar[str] = "tan"
    torch: ClassVar[str] = "torch.tan"
    number: ClassVar[str] = "math.tan(x)"


@dataclass(frozen=True)
class Asin(Function):
    """asin(x): the angle whose sine is x, in radians.

    Formula: `sin(out) = x`, -pi/2 <= out <= pi/2. NaN outside [-1, 1].
    """

    spelling: ClassVar[str] = "asin"
    torch: ClassVar[str] = "torch.asin"
    number: ClassVar[str] = "math.asin(x)"


@dataclass(frozen=True)
class Acos(Function):
    """acos(x): the angle whose cosine is x, in radians.

    Formula: `cos(out) = x`, 0 <= out <= pi. NaN outside [-1, 1].
    """

    spelling: ClassVar[str] = "acos"
    torch: ClassVar[str] = "torch.acos"
    number: ClassVar[str] = "math.acos(x)"


@dataclass(frozen=True)
class Atan(Function):
    """atan(x): the angle whose tangent is x, in radians.

    Formula: `tan(out) = x`, -pi/2 < out < pi/2.
    """

    spelling: ClassVar[str] = "atan"
    torch: ClassVar[str] = "torch.atan"
    number: ClassVar[str] = "math.atan(x)"


@dataclass(frozen=True)
class Sinh(Function):
    """sinh(x): the hyperbolic sine.

    Formula: `out = (e ** x - e ** -x) / 2`.
    """

    spelling: ClassVar[str] = "sinh"
    torch: ClassVar[str] = "torch.sinh"
    number: ClassVar[str] = "math.sinh(x)"


@dataclass(frozen=True)
class Cosh(Function):
    """cosh(x): the hyperbolic cosine.

    Formula: `out = (e ** x + e ** -x) / 2`.
    """

    spelling: ClassVar[str] = "cosh"
    torch: ClassVar[str] = "torch.cosh"
    number: ClassVar[str] = "math.cosh(x)"


@dataclass(frozen=True)
class Tanh(Function):
    """tanh(x): the hyperbolic tangent.

    Formula: `out = (e ** x - e ** -x) / (e ** x + e ** -x)`.
    """

    spelling: ClassVar[str] = "tanh"
    torch: ClassVar[str] = "torch.tanh"
    number: ClassVar[str] = "math.tanh(x)"


@dataclass(frozen=True)
class Sinc(Function):
    """sinc(x): the sine of pi x divided by pi x.

    Formula: `out = sin(pi * x) / (pi * x)`, and 1 at 0. Counts 3 operations.
    """

    spelling: ClassVar[str] = "sinc"
    torch: ClassVar[str] = "torch.sinc"
    number: ClassVar[str] = "math.sin(math.pi * x) / (math.pi * x) if x != 0 else 1.0"
    flops_per_element: ClassVar[int] = 3


@dataclass(frozen=True)
class Erf(Function):
    """erf(x): the error function.

    Formula: `out = 2 / sqrt(pi) * integral from 0 to x of e ** -t^2 dt`.
    """

    spelling: ClassVar[str] = "erf"
    torch: ClassVar[str] = "torch.erf"
    number: ClassVar[str] = "math.erf(x)"


@dataclass(frozen=True)
class Erfc(Function):
    """erfc(x): one minus the error function, accurate for large x.

    Formula: `out = 1 - erf(x)`.
    """

    spelling: ClassVar[str] = "erfc"
    torch: ClassVar[str] = "torch.erfc"
    number: ClassVar[str] = "math.erfc(x)"


# -- rounding ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rounding(Function):
    """Rounding to whole numbers: an int stays as it is, a real value stays real. The gradient is 0."""

    keeps_int: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return operands[0].expression if result.kind is Kind.INT else super().emit(emitter, result, *operands)


@dataclass(frozen=True)
class Floor(_Rounding):
    """floor(x): the largest whole number that is not above x.

    Formula: `out = max{n whole: n <= x}`. A real value stays real; `x // 1` is the same. The gradient is 0.
    """

    spelling: ClassVar[str] = "floor"
    torch: ClassVar[str] = "torch.floor"
    number: ClassVar[str] = "math.floor(x)"
    latex: ClassVar[str] = "\\left\\lfloor {x} \\right\\rfloor"


@dataclass(frozen=True)
class Ceil(_Rounding):
    """ceil(x): the smallest whole number that is not below x.

    Formula: `out = min{n whole: n >= x}`. A real value stays real. The gradient is 0.
    """

    spelling: ClassVar[str] = "ceil"
    torch: ClassVar[str] = "torch.ceil"
    number: ClassVar[str] = "math.ceil(x)"
    latex: ClassVar[str] = "\\left\\lceil {x} \\right\\rceil"


@dataclass(frozen=True)
class Round(_Rounding):
    """round(x): the nearest whole number, halves to the even one.

    Formula: `out = n with |x - n| <= 1/2`, `round(0.5) = 0`, `round(1.5) = 2`. The gradient is 0.
    """

    spelling: ClassVar[str] = "round"
    torch: ClassVar[str] = "torch.round"
    number: ClassVar[str] = "round(x)"


@dataclass(frozen=True)
class Int(Function):
    """int(x): a real value as an int, rounded towards 0.

    Formula: `out = n whole with the largest abs(n) <= abs(x) and the sign of x`. For places that are computed from
    real values, as in `take[P](table, int(x))`. There is no gradient. NaN, inf and values beyond 2^63 give any int.
    """

    spelling: ClassVar[str] = "int"
    number: ClassVar[str] = "int(x)"
    differentiable: ClassVar[bool] = False
    latex: ClassVar[str] = "\\operatorname{{int}}\\left( {x} \\right)"

    def infer(self, *operands: Type) -> Type:
        return super().infer(*operands).of(Kind.INT)

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return operands[0].kind

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        [x] = operands
        return x.expression if x.type.kind is Kind.INT else pyast.method(x.expression, "long")


# -- gates -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sigmoid(Function):
    """sigmoid(x): the logistic function.

    Formula: `out = 1 / (1 + e ** -x)`. Counts 3 operations.
    """

    spelling: ClassVar[str] = "sigmoid"
    torch: ClassVar[str] = "torch.sigmoid"
    number: ClassVar[str] = "0.5 + 0.5 * math.tanh(0.5 * x)"  # no overflow for any x
    flops_per_element: ClassVar[int] = 3
    latex: ClassVar[str] = "\\sigma\\left({x}\\right)"


@dataclass(frozen=True)
class LogSigmoid(Function):
    """logsigmoid(x): the logarithm of the logistic function, without underflow.

    Formula: `out = -ln(1 + e ** -x)`. Counts 4 operations.
    """

    spelling: ClassVar[str] = "logsigmoid"
    torch: ClassVar[str] = "torch.nn.functional.logsigmoid"
    number: ClassVar[str] = "min(x, 0.0) - math.log1p(math.exp(-abs(x)))"
    flops_per_element: ClassVar[int] = 4


@dataclass(frozen=True)
class HardSigmoid(Function):
    """hardsigmoid(x): the logistic function by straight lines.

    Formula: `out = min(max(x + 3, 0), 6) / 6`. Counts 4 operations.
    Source: Howard et al., Searching for MobileNetV3, ICCV 2019.
    """

    spelling: ClassVar[str] = "hardsigmoid"
    torch: ClassVar[str] = "torch.nn.functional.hardsigmoid"
    number: ClassVar[str] = "min(max(x + 3.0, 0.0), 6.0) / 6.0"
    flops_per_element: ClassVar[int] = 4


@dataclass(frozen=True)
class Softsign(Function):
    """softsign(x): a slow sigmoid between -1 and 1.

    Formula: `out = x / (1 + abs(x))`. Counts 3 operations.
    """

    spelling: ClassVar[str] = "softsign"
    torch: ClassVar[str] = "torch.nn.functional.softsign"
    number: ClassVar[str] = "x / (1.0 + abs(x))"
    flops_per_element: ClassVar[int] = 3


# -- rectifiers --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Relu(Function):
    """relu(x): x where it is positive, else 0.

    Formula: `out = max(x, 0)`. An int stays an int. The gradient at 0 is 0.
    """

    spelling: ClassVar[str] = "relu"
    torch: ClassVar[str] = "torch.relu"
    number: ClassVar[str] = "max(x, 0)"
    keeps_int: ClassVar[bool] = True


@dataclass(frozen=True)
class Relu6(Function):
    """relu6(x): relu that stops at 6.

    Formula: `out = min(max(x, 0), 6)`. Counts 2 operations.
    """

    spelling: ClassVar[str] = "relu6"
    torch: ClassVar[str] = "torch.nn.functional.relu6"
    number: ClassVar[str] = "min(max(x, 0.0), 6.0)"
    flops_per_element: ClassVar[int] = 2


@dataclass(frozen=True)
class LeakyRelu(Function):
    """leaky_relu(x): x where it is positive, else a small multiple of it.

    Formula: `out = x if x > 0 else slope * x`. Counts 2 operations.
    """

    spelling: ClassVar[str] = "leaky_relu"
    torch: ClassVar[str] = "torch.nn.functional.leaky_relu"
    number: ClassVar[str] = "max(x, 0.0) + slope * min(x, 0.0)"
    torch_names: ClassVar[dict[str, str]] = {"slope": "negative_slope"}
    flops_per_element: ClassVar[int] = 2
    slope: Poly = attribute("0.01", doc="the factor below 0")


@dataclass(frozen=True)
class Elu(Function):
    """elu(x): x where it is positive, else an exponential that levels off.

    Formula: `out = x if x > 0 else alpha * (e ** x - 1)`. `elu(x) + 1` is positive everywhere. Counts 3 operations.
    Source: Clevert et al., Fast and Accurate Deep Network Learning by Exponential Linear Units, ICLR 2016.
    """

    spelling: ClassVar[str] = "elu"
    torch: ClassVar[str] = "torch.nn.functional.elu"
    number: ClassVar[str] = "max(x, 0.0) + alpha * math.expm1(min(x, 0.0))"
    flops_per_element: ClassVar[int] = 3
    alpha: Poly = attribute(1, doc="the limit below 0, with its sign changed")


@dataclass(frozen=True)
class Celu(Function):
    """celu(x): elu with a continuous slope for every alpha.

    Formula: `out = max(x, 0) + min(0, alpha * (e ** (x / alpha) - 1))`. Counts 6 operations.
    Source: Barron, Continuously Differentiable Exponential Linear Units, 2017.
    """

    spelling: ClassVar[str] = "celu"
    torch: ClassVar[str] = "torch.nn.functional.celu"
    number: ClassVar[str] = "max(x, 0.0) + alpha * math.expm1(min(x, 0.0) / alpha)"
    flops_per_element: ClassVar[int] = 6
    alpha: Poly = attribute(1, doc="the limit below 0, with its sign changed; greater than 0")


@dataclass(frozen=True)
class Selu(Function):
    """selu(x): elu scaled so that activations keep mean 0 and variance 1.

    Formula: `out = s * (x if x > 0 else a * (e ** x - 1))` with `a = 1.6732632423543772848170429916717`
    and `s = 1.0507009873554804934193349852946`. Counts 4 operations.
    Source: Klambauer et al., Self-Normalizing Neural Networks, NeurIPS 2017.
    """

    spelling: ClassVar[str] = "selu"
    torch: ClassVar[str] = "torch.nn.functional.selu"
    number: ClassVar[str] = (
        "1.0507009873554804934193349852946 * max(x, 0.0)"
        " + 1.0507009873554804934193349852946 * 1.6732632423543772848170429916717 * math.expm1(min(x, 0.0))"
    )
    flops_per_element: ClassVar[int] = 4


@dataclass(frozen=True)
class Gelu(Function):
    """gelu(x): x times the probability that a normal draw lies below it; the exact form.

    Formula: `out = x / 2 * (1 + erf(x / sqrt(2)))`. Counts 5 operations.
    Source: Hendrycks and Gimpel, Gaussian Error Linear Units, 2016.
    """

    spelling: ClassVar[str] = "gelu"
    torch: ClassVar[str] = "torch.nn.functional.gelu"
    number: ClassVar[str] = "0.5 * x * (1.0 + math.erf(x * math.sqrt(0.5)))"
    flops_per_element: ClassVar[int] = 5


@dataclass(frozen=True)
class Silu(Function):
    """silu(x): x times its sigmoid, also called swish.

    Formula: `out = x / (1 + e ** -x)`. Counts 4 operations.
    """

    spelling: ClassVar[str] = "silu"
    torch: ClassVar[str] = "torch.nn.functional.silu"
    number: ClassVar[str] = "x * (0.5 + 0.5 * math.tanh(0.5 * x))"
    flops_per_element: ClassVar[int] = 4


@dataclass(frozen=True)
class HardSwish(Function):
    """hardswish(x): silu by straight lines.

    Formula: `out = x * min(max(x + 3, 0), 6) / 6`. Counts 5 operations.
    Source: Howard et al., Searching for MobileNetV3, ICCV 2019.
    """

    spelling: ClassVar[str] = "hardswish"
    torch: ClassVar[str] = "torch.nn.functional.hardswish"
    number: ClassVar[str] = "x * min(max(x + 3.0, 0.0), 6.0) / 6.0"
    flops_per_element: ClassVar[int] = 5


@dataclass(frozen=True)
class Mish(Function):
    """mish(x): x times the hyperbolic tangent of its softplus.

    Formula: `out = x * tanh(ln(1 + e ** x))`. Counts 5 operations.
    Source: Misra, Mish: A Self Regularized Non-Monotonic Activation Function, BMVC 2020.
    """

    spelling: ClassVar[str] = "mish"
    torch: ClassVar[str] = "torch.nn.functional.mish"
    number: ClassVar[str] = "x * math.tanh(max(x, 0.0) + math.log1p(math.exp(-abs(x))))"
    flops_per_element: ClassVar[int] = 5


@dataclass(frozen=True)
class Softplus(Function):
    """softplus(x): a smooth relu.

    Formula: `out = ln(1 + e ** x)`, without overflow. Counts 3 operations.
    """

    spelling: ClassVar[str] = "softplus"
    torch: ClassVar[str] = "torch.nn.functional.softplus"
    number: ClassVar[str] = "max(x, 0.0) + math.log1p(math.exp(-abs(x)))"
    flops_per_element: ClassVar[int] = 3

    def keywords(self, emitter: Emitter) -> dict[str, ast.expr]:
        # torch returns x itself above the threshold, by default 20, where that is still wrong by 2e-9
        return {"threshold": pyast.constant(40.0)}


# -- gradients ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StopGradient(Function):
    """stop_gradient(x): the same value, taken as a constant by differentiation.

    Formula: `out = x`, with gradient 0.
    """

    spelling: ClassVar[str] = "stop_gradient"
    number: ClassVar[str] = "x"
    keeps_int: ClassVar[bool] = True
    takes_complex: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False
    flops_per_element: ClassVar[int] = 0

    def infer(self, *operands: Type) -> Type:
        return operands[0]

    def is_view(self) -> bool:
        return True

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return pyast.method(operands[0].expression, "detach")
