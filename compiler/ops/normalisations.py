"""Normalisations along named axes: the result has the axes of the operand."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from typing import ClassVar

from .. import pyast
from ..sizes import Poly
from ..types import Kind, Type, join
from .base import Brackets, Emitter, Op, Operand, Reject, attribute
from .checks import need_axes, need_bool, need_numbers, need_ordered
from .emission import as_tensor, dimension, flattened, place, real_number, unflattened


@dataclass(frozen=True)
class Normalisation(Op):
    """A rescaling of values by statistics along some axes; real in, real out."""

    family: ClassVar[str] = "normalisations"
    brackets: ClassVar[Brackets] = Brackets.AXES
    axes: tuple[str, ...]

    def infer(self, *operands: Type) -> Type:
        need_axes(self.spelling, self.axes, operands[0])
        need_numbers(self.spelling, operands)
        need_ordered(self.spelling, operands)
        return join(*operands, kind=Kind.REAL)

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return Kind.REAL

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        [x] = operands
        if len(self.axes) == 1:
            return self.along(emitter, x.expression, dimension(x.type.axes, self.axes[0]))
        expression, order = flattened(x, self.axes)
        return unflattened(emitter, self.along(emitter, expression, -1), order, self.axes, x.type.axes)

    def along(self, emitter: Emitter, expression: ast.expr, dim: int) -> ast.expr:
        """The normalisation of a tensor along one dimension."""
        raise NotImplementedError


@dataclass(frozen=True)
class Softmax(Normalisation):
    """softmax[M](s): exponentials divided by their sum, so that they are positive and sum to 1.

    Formula: `out[m] = e ** s[m] / sum over j of e ** s[j]`, computed with the maximum subtracted.
    With a mask: `out[m] = (e ** s[m] if mask[m] else 0) / sum over j of (e ** s[j] if mask[j] else 0)`.
    With a sink: `e ** sink` is added to the sum, as by one more score whose weight is left out.

    Several axes are normalised together: `softmax[Y, X](s)` sums to 1 over the image. mask is bool and
    its axes meet those of s by name; it says which keys count. A row with no key left gives zeros,
    not NaN, with gradient 0. `where(c, s, -inf)` as the operand means `mask=c`. Without a mask a row
    of only -inf is NaN. The axes of a sink meet those of s by name, and none of them is normalised; weights sum to
    less than 1. Counts 5 operations per element, and 2 more each for a mask and a sink.
    Sources: Bridle, Probabilistic Interpretation of Feedforward Classification Network Outputs, 1990; for sinks:
    Xiao et al., Efficient Streaming Language Models with Attention Sinks, ICLR 2024; OpenAI, gpt-oss, 2025.
    """

    spelling: ClassVar[str] = "softmax"
    sweeps: ClassVar[int] = 3
    operands: ClassVar[tuple[str, ...]] = ("s",)
    optional: ClassVar[tuple[str, ...]] = ("mask", "sink")
    flops_per_element: ClassVar[int] = 5
    given: tuple[str, ...] = ()

    def infer(self, *operands: Type) -> Type:
        result = super().infer(operands[0])
        for index, (name, operand) in enumerate(zip(self.given, operands[1:], strict=True), 1):
            if name == "mask":
                need_bool("softmax with mask=", operand, index)
                continue
            up_to = (*[result] * index, operand)  # the place of the one to blame
            need_numbers("softmax with sink=", up_to)
            need_ordered("softmax with sink=", up_to)
            shared = next((axis for axis in self.axes if axis in operand.axes), None)
            if shared is not None:
                bound = f"without the axis `{shared}`, which is normalised"
                raise Reject("AG217", index, operation="softmax", attribute="sink", bound=bound, value=operand)
        return join(result, *operands[1:], kind=Kind.REAL)

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return None if index > 0 and self.given[index - 1] == "mask" else Kind.REAL

    def flops(self, result: Type, *operands: Type) -> Poly:
        return result.volume() * (self.flops_per_element + 2 * len(self.given))

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        given = dict(zip(self.given, operands[1:], strict=True))
        scores, sink = operands[0], given.get("sink")
        if "mask" not in given:
            return self._weights(emitter, scores, sink, result)
        condition = given["mask"]
        mask = as_tensor(emitter, condition, Kind.BOOL, result.axes, wide=False)
        kept = pyast.call("torch.where", mask, place(emitter, scores, result.axes), -math.inf)
        weights = self._weights(emitter, Operand(kept, result), sink, result)
        # A row with no key left is NaN here, and so is its gradient; this selection discards both.
        return pyast.call("torch.where", mask, weights, 0.0)

    def _weights(self, emitter: Emitter, scores: Operand, sink: Operand | None, result: Type) -> ast.expr:
        """The softmax of scores that no mask hides."""
        if sink is None:
            return super().emit(emitter, result, scores)
        value = as_tensor(emitter, sink, Kind.REAL, result.axes, wide=False)
        dims = ast.List([pyast.constant(dimension(result.axes, axis)) for axis in self.axes], ast.Load())
        return pyast.call(emitter.helper("softmax_beside"), place(emitter, scores, result.axes), value, dims)

    def along(self, emitter: Emitter, expression: ast.expr, dim: int) -> ast.expr:
        return pyast.call("torch.softmax", expression, dim=dim)


@dataclass(frozen=True)
class LogSoftmax(Normalisation):
    """log_softmax[M](s): the logarithm of the softmax, without underflow.

    Formula: `out[m] = s[m] - ln(sum over j of e ** s[j])`. Several axes are normalised together.
    Counts 5 operations per element.
    """

    spelling: ClassVar[str] = "log_softmax"
    sweeps: ClassVar[int] = 3
    operands: ClassVar[tuple[str, ...]] = ("s",)
    flops_per_element: ClassVar[int] = 5

    def along(self, emitter: Emitter, expression: ast.expr, dim: int) -> ast.expr:
        return pyast.call("torch.log_softmax", expression, dim=dim)


@dataclass(frozen=True)
class L1Normalize(Normalisation):
    """l1_normalize[D](x): divided by the sum of magnitudes.

    Formula: `out[d] = x[d] / max(sum over j of abs(x[j]), eps)`, eps = 1e-12.

    Several axes are normalised together. Counts 3 operations per element.
    """

    spelling: ClassVar[str] = "l1_normalize"
    sweeps: ClassVar[int] = 2
    flops_per_element: ClassVar[int] = 3
    eps: Poly = attribute("1e-12", doc="the smallest divisor")

    def along(self, emitter: Emitter, expression: ast.expr, dim: int) -> ast.expr:
        return pyast.call(
            "torch.nn.functional.normalize", expression, p=1.0, dim=dim, eps=real_number(emitter, self.eps)
        )


@dataclass(frozen=True)
class L2Normalize(Normalisation):
    """l2_normalize[D](x): divided by the Euclidean length.

    Formula: `out[d] = x[d] / max(sqrt(sum over j of x[j]^2), eps)`, eps = 1e-12.

    Several axes are normalised together. A zero row stays zero, with a finite gradient. Counts 3
    operations per element.
    """

    spelling: ClassVar[str] = "l2_normalize"
    sweeps: ClassVar[int] = 2
    flops_per_element: ClassVar[int] = 3
    eps: Poly = attribute("1e-12", doc="the smallest divisor")

    def along(self, emitter: Emitter, expression: ast.expr, dim: int) -> ast.expr:
        return pyast.call("torch.nn.functional.normalize", expression, dim=dim, eps=real_number(emitter, self.eps))


@dataclass(frozen=True)
class _Scaled(Normalisation):
    """A normalisation with an optional learned gain (and shift), whose axes meet x's by name."""

    given: tuple[str, ...] = ()
    eps: Poly = attribute(0, doc="keeps the divisor away from 0")
    function: ClassVar[str] = ""
    #: keywords of torch's function for the optional operands
    fused: ClassVar[dict[str, str]] = {}

    def flops(self, result: Type, *operands: Type) -> Poly:
        return operands[0].volume() * self.flops_per_element + result.volume() * len(self.given)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        x, *affine = operands
        expression, order = flattened(x, self.axes)
        keywords: dict[str, ast.expr] = {}
        rest = list(zip(self.given, affine, strict=True))
        # torch takes a gain and a shift over exactly the normalised axes
        while (
            rest
            and not rest[0][1].number
            and not rest[0][1].type.batched
            and (set(rest[0][1].type.axes) == set(self.axes))
        ):
            name, operand = rest.pop(0)
            aligned = emitter.align(operand, self.axes)
            keywords[self.fused[name]] = pyast.method(aligned, "flatten") if len(self.axes) > 1 else aligned
        size = ast.Tuple([emitter.size(Poly.volume(self.axes))], ast.Load())
        normal = pyast.call(self.function, expression, size, **keywords, eps=real_number(emitter, self.eps))
        value = unflattened(emitter, normal, order, self.axes, x.type.axes)
        so_far = x.type
        for name, operand in rest:
            joined = join(so_far, operand.type)
            value = pyast.binary(
                {"gain": "*", "shift": "+"}[name],
                emitter.align(Operand(value, so_far), joined.axes),
                place(emitter, operand, joined.axes),
            )
            so_far = joined
        return emitter.align(Operand(value, so_far), result.axes)


@dataclass(frozen=True)
class LayerNorm(_Scaled):
    """layer_norm[D](x, gain=g, shift=b): values standardised by their mean and biased variance.

    Formula: `out = (x - mean(x)) / sqrt(var(x) + eps) * gain + shift` with mean and biased variance
    along the axes in brackets, eps = 1e-5.

    gain and shift may be missing; their axes meet x's by name. Along a token axis this is the
    standardisation per channel. Counts 5 operations per element, and 1 for gain and shift each.
    Source: Ba et al., Layer Normalization, 2016.
    """

    spelling: ClassVar[str] = "layer_norm"
    sweeps: ClassVar[int] = 3
    optional: ClassVar[tuple[str, ...]] = ("gain", "shift")
    flops_per_element: ClassVar[int] = 5
    function: ClassVar[str] = "torch.nn.functional.layer_norm"
    fused: ClassVar[dict[str, str]] = {"gain": "weight", "shift": "bias"}
    eps: Poly = attribute("1e-5", doc="added to the variance")


@dataclass(frozen=True)
class RmsNorm(_Scaled):
    """rms_norm[D](x, gain=g): values divided by their root mean square.

    Formula: `out = x / sqrt(mean(x^2) + eps) * gain` with the mean along the axes in brackets, eps = 1e-6.

    gain may be missing; its axes meet x's by name. Counts 3 operations per element, and 1 for gain.
    Source: Zhang and Sennrich, Root Mean Square Layer Normalization, NeurIPS 2019.
    """

    spelling: ClassVar[str] = "rms_norm"
    sweeps: ClassVar[int] = 2
    optional: ClassVar[tuple[str, ...]] = ("gain",)
    flops_per_element: ClassVar[int] = 3
    function: ClassVar[str] = "torch.nn.functional.rms_norm"
    fused: ClassVar[dict[str, str]] = {"gain": "weight"}
    eps: Poly = attribute("1e-6", doc="added to the mean square")
