"""What graphs mean: a naive interpreter in numpy, float64, with named axes.

It is written from the formulas in the docstrings of the operations, not from the code that they
emit, and it is slow and plain on purpose: every other way to compute a formula is compared with it.
A batch is a loop over its entries.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from attngraph.compiler import scan
from attngraph.compiler.graph import Graph, Node, topological
from attngraph.compiler.lowerings import (
    additive,
    batches,
    causal,
    feedback,
    fused,
    lagged,
    linear,
    local,
    maximum,
    polynomial,
    prefix,
    rows,
    states,
    toeplitz,
)
from attngraph.compiler.ops import (
    arithmetic,
    contraction,
    convolution,
    cumulative,
    functions,
    layout,
    leaves,
    logic,
    normalisations,
    ordering,
    padding,
    pairs,
    pooling,
    reductions,
    segments,
    selection,
    spectral,
)
from attngraph.compiler.ops.base import Op
from attngraph.compiler.sizes import Poly
from attngraph.compiler.types import Kind

Array = np.ndarray[Any, np.dtype[Any]]
Axes = tuple[str, ...]


@dataclass(frozen=True)
class Named:
    """An array whose dimensions are axes."""

    array: Array
    axes: Axes

    def over(self, axes: Axes) -> Array:
        """The array with its dimensions in the order of `axes`, length 1 where it lacks one."""
        order = [self.axes.index(axis) for axis in axes if axis in self.axes]
        assert len(order) == len(self.axes), f"{self.axes} has axes that {axes} lacks"
        array = self.array.transpose(order)
        return array.reshape([self.array.shape[self.axes.index(a)] if a in self.axes else 1 for a in axes])

    def last(self, axes: Axes) -> tuple[Array, Axes]:
        """The array with `axes` at the end, and the axes in front of them."""
        rest = tuple(axis for axis in self.axes if axis not in axes)
        return self.over((*rest, *axes)), rest


@dataclass(frozen=True)
class Sizes:
    """The sizes of axes and the values of constants."""

    values: Mapping[str, float]

    def __call__(self, size: Poly) -> float:
        return size.evaluate(self.values)

    def __getitem__(self, axis: str) -> int:
        return int(self.values[axis])

    def whole(self, size: Poly) -> int:
        value = self(size)
        assert value == int(value), f"{size} is {value}"
        return int(value)


Meaning = Callable[[Any, Sizes, list[Named], Axes], Named]
MEANINGS: dict[type[Op], Meaning] = {}


def means(*ops: type[Op]) -> Callable[[Meaning], Meaning]:
    """Declare the meaning of operations: (op, sizes, operands, axes of the result) -> value."""

    def declare(meaning: Meaning) -> Meaning:
        for op in ops:
            assert op not in MEANINGS, op
            MEANINGS[op] = meaning
        return meaning

    return declare


def evaluate(
    values: Node | Graph,
    inputs: Mapping[str, Array],
    sizes: Mapping[str, int],
    constants: Mapping[str, float] | None = None,
) -> Any:
    """The value of a node, or a tuple of the outputs of a graph.

    inputs: arrays of inputs, parameters and buffers by name; those of inputs may have leading batch
        dimensions, which broadcast against each other.
    sizes: the size of every axis; constants: the value of every constant.
    Returns arrays whose dimensions are the batch (where the value depends on an input), then the axes.
    """
    outputs = values.outputs if isinstance(values, Graph) else (values,)
    declared = {n.op.name: n for n in topological(outputs) if isinstance(n.op, leaves.Declared)}
    batch = np.broadcast_shapes(*(_batch(inputs[name], node) for name, node in declared.items()))
    known = Sizes({**sizes, **(constants or {})})
    whole = {
        name: np.broadcast_to(inputs[name], batch + inputs[name].shape[len(_batch(inputs[name], node)) :])
        if node.type.batched
        else inputs[name]
        for name, node in declared.items()
    }
    results: list[Array] = []
    for output in outputs:
        if not output.type.batched:
            results.append(_entry(output, whole, (), known))
            continue
        entries = [_entry(output, whole, index, known) for index in np.ndindex(*batch)]
        results.append(np.stack(entries).reshape(batch + entries[0].shape))
    return tuple(results) if isinstance(values, Graph) else results[0]


def _batch(array: Array, node: Node) -> tuple[int, ...]:
    return array.shape[: array.ndim - node.type.rank] if node.type.batched else ()


def _entry(output: Node, inputs: Mapping[str, Array], index: tuple[int, ...], sizes: Sizes) -> Array:
    """One batch entry of a value."""
    found: dict[Node, Named] = {}
    for node in topological([output]):
        if isinstance(node.op, leaves.Declared):
            array = inputs[node.op.name][index] if node.type.batched else inputs[node.op.name]
            found[node] = Named(np.asarray(array), node.op.axes)
    return _values((output,), found, sizes)[0].array


def _values(outputs: tuple[Node, ...], found: dict[Node, Named], sizes: Sizes) -> list[Named]:
    """The values of nodes; found holds those of their leaves, and grows."""
    for node in topological(outputs):
        if node not in found:
            with np.errstate(all="ignore"):
                operands = [found[operand] for operand in node.inputs]
                found[node] = MEANINGS[type(node.op)](node.op, sizes, operands, node.axes)
        value = found[node]
        assert value.axes == node.axes, f"{node}: {value.axes}"
        assert value.array.shape == tuple(sizes[axis] for axis in node.axes), f"{node}: {value.array.shape}"
        assert _kind(value.array) is node.type.kind, f"{node}: {value.array.dtype}"
    return [found[output] for output in outputs]


def _kind(array: Array) -> Kind:
    return {"b": Kind.BOOL, "i": Kind.INT, "f": Kind.REAL, "c": Kind.COMPLEX}[array.dtype.kind]


def _together(operands: list[Named], axes: Axes) -> list[Array]:
    return [operand.over(axes) for operand in operands]


def _full(array: Array, axes: Axes, sizes: Sizes) -> Named:
    return Named(np.broadcast_to(array, tuple(sizes[axis] for axis in axes)), axes)


def _floating(array: Array) -> Array:
    return array if array.dtype.kind in "fc" else array.astype(np.float64)


# -- leaves ------------------------------------------------------------------------------------------


@means(leaves.Literal)
def _literal(op: leaves.Literal, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    return Named(np.asarray(op.value), ())


@means(leaves.Size)
def _size(op: leaves.Size, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    value = sizes(op.size)
    return Named(np.asarray(int(value) if op.kind is Kind.INT else float(value)), ())


@means(leaves.Position)
def _position(op: leaves.Position, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    return Named(np.arange(sizes[op.axis]), (op.axis,))


# -- element by element ------------------------------------------------------------------------------


def _elementwise(op: type[Op], function: Callable[..., Any]) -> None:
    """The meaning of an operation that computes each element of the result by itself."""

    def meaning(op: Op, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
        return _full(np.asarray(function(*_together(operands, axes))), axes, sizes)

    means(op)(meaning)


def _power(x: Array, y: Array) -> Array:
    return np.asarray(_floating(x) ** _floating(y))


_ELEMENTWISE: dict[type[Op], Callable[..., Any]] = {
    arithmetic.Add: lambda x, y: x + y,
    arithmetic.Subtract: lambda x, y: x - y,
    arithmetic.Multiply: lambda x, y: x * y,
    arithmetic.Divide: lambda x, y: _floating(x) / _floating(y),
    arithmetic.FloorDivide: lambda x, y: x // y,
    arithmetic.Modulo: lambda x, y: x - y * (x // y),
    arithmetic.Power: _power,
    arithmetic.Negative: lambda x: -x,
    logic.Equal: lambda x, y: x == y,
    logic.NotEqual: lambda x, y: x != y,
    logic.Less: lambda x, y: x < y,
    logic.LessEqual: lambda x, y: x <= y,
    logic.Greater: lambda x, y: x > y,
    logic.GreaterEqual: lambda x, y: x >= y,
    logic.And: lambda x, y: x & y,
    logic.Or: lambda x, y: x | y,
    logic.Not: lambda x: ~x,
    logic.Where: lambda c, x, y: np.where(c, x, y),
    logic.IsNan: lambda x: x != x,
    pairs.Minimum: lambda x, y: np.where(np.isnan(x) | np.isnan(y), x + y, np.where(x <= y, x, y)),
    pairs.Maximum: lambda x, y: np.where(np.isnan(x) | np.isnan(y), x + y, np.where(x >= y, x, y)),
    pairs.LogAddExp: lambda x, y: np.log(np.exp(_floating(x)) + np.exp(_floating(y))),
    pairs.Atan2: lambda y, x: np.angle(x + 1j * y),
}
for _op, _function in _ELEMENTWISE.items():
    _elementwise(_op, _function)


def _of_real(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, **attributes: function(_floating(x), **attributes)


_ALPHA, _SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946

_FUNCTIONS: dict[type[functions.Function], Callable[..., Any]] = {
    functions.Abs: lambda x: np.sqrt(x.real**2 + x.imag**2) if x.dtype.kind == "c" else np.where(x >= 0, x, -x),
    functions.Sign: lambda x: (x > 0).astype(x.dtype) - (x < 0).astype(x.dtype),
    functions.Square: lambda x: x * x,
    functions.Reciprocal: _of_real(lambda x: 1 / x),
    functions.Sqrt: _of_real(lambda x: x**0.5),
    functions.Rsqrt: _of_real(lambda x: x**-0.5),
    functions.Exp: _of_real(lambda x: math.e**x),
    functions.Expm1: _of_real(lambda x: math.e**x - 1),
    functions.Log: _of_real(np.log),
    functions.Log1p: _of_real(lambda x: np.log(1 + x)),
    functions.Log2: _of_real(lambda x: np.log(x) / math.log(2)),
    functions.Sin: _of_real(np.sin),
    functions.Cos: _of_real(np.cos),
    functions.Tan: _of_real(lambda x: np.sin(x) / np.cos(x)),
    functions.Asin: _of_real(np.arcsin),
    functions.Acos: _of_real(np.arccos),
    functions.Atan: _of_real(np.arctan),
    functions.Sinh: _of_real(lambda x: (np.exp(x) - np.exp(-x)) / 2),
    functions.Cosh: _of_real(lambda x: (np.exp(x) + np.exp(-x)) / 2),
    functions.Tanh: _of_real(lambda x: (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x))),
    functions.Sinc: _of_real(lambda x: np.where(x == 0, 1, np.sin(math.pi * x) / (math.pi * x))),
    functions.Erf: _of_real(np.vectorize(math.erf, otypes=[float])),
    functions.Erfc: _of_real(lambda x: 1 - np.vectorize(math.erf, otypes=[float])(x)),
    functions.Floor: lambda x: np.floor(x).astype(x.dtype),
    functions.Ceil: lambda x: np.ceil(x).astype(x.dtype),
    functions.Round: lambda x: np.rint(x).astype(x.dtype),
    functions.Int: lambda x: np.trunc(x).astype(np.int64),
    functions.Sigmoid: _of_real(lambda x: 1 / (1 + np.exp(-x))),
    functions.LogSigmoid: _of_real(lambda x: -np.log(1 + np.exp(-x))),
    functions.HardSigmoid: _of_real(lambda x: np.minimum(np.maximum(x + 3, 0), 6) / 6),
    functions.Softsign: _of_real(lambda x: x / (1 + abs(x))),
    functions.Relu: lambda x: np.where(x > 0, x, 0).astype(x.dtype),
    functions.Relu6: _of_real(lambda x: np.minimum(np.maximum(x, 0), 6)),
    functions.LeakyRelu: _of_real(lambda x, slope: np.where(x > 0, x, slope * x)),
    functions.Elu: _of_real(lambda x, alpha: np.where(x > 0, x, alpha * (np.exp(x) - 1))),
    functions.Celu: _of_real(lambda x, alpha: np.maximum(x, 0) + np.minimum(0, alpha * (np.exp(x / alpha) - 1))),
    functions.Selu: _of_real(lambda x: _SCALE * np.where(x > 0, x, _ALPHA * (np.exp(x) - 1))),
    functions.Gelu: _of_real(lambda x: x / 2 * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2)))),
    functions.Silu: _of_real(lambda x: x / (1 + np.exp(-x))),
    functions.HardSwish: _of_real(lambda x: x * np.minimum(np.maximum(x + 3, 0), 6) / 6),
    functions.Mish: _of_real(lambda x: x * np.tanh(np.log(1 + np.exp(x)))),
    functions.Softplus: _of_real(lambda x: np.log(1 + np.exp(x))),
    functions.StopGradient: lambda x: x,
}


@means(*_FUNCTIONS)
def _function_of_one(op: functions.Function, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    attributes = {f.name: float(sizes(getattr(op, f.name))) for f in fields(op)}
    return Named(np.asarray(_FUNCTIONS[type(op)](operands[0].array, **attributes)), axes)


@means(arithmetic.IntegerPower)
def _integer_power(op: arithmetic.IntegerPower, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    result = np.ones_like(operands[0].array)
    for _ in range(op.exponent):
        result = result * operands[0].array
    return Named(result, axes)


@means(pairs.Clamp)
def _clamp(op: pairs.Clamp, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    value, *bounds = _together(operands, axes)
    for name, bound in zip(op.given, bounds, strict=True):
        value = np.where(value < bound, bound, value) if name == "min" else np.where(value > bound, bound, value)
    return _full(value, axes, sizes)


# -- contractions and reductions ---------------------------------------------------------------------


@means(contraction.Contraction)
def _contraction(op: contraction.Contraction, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    left, right = (operand.over((*axes, *op.axes)) for operand in operands)
    product = left * right
    if product.dtype.kind == "b":
        product = product.astype(np.int64)
    total = product.sum(axis=tuple(range(len(axes), product.ndim)))
    return _full(np.asarray(total), axes, sizes)


def _reduction(op: type[reductions.Reduction], function: Callable[..., Any]) -> None:
    """The meaning of a reduction, as a function of the vector of all elements."""

    def meaning(op: reductions.Reduction, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
        array, rest = operands[0].last(op.axes)
        extra = {"ddof": sizes(op.ddof)} if isinstance(op, reductions.Variance) else {}
        flat = array.reshape(*(sizes[a] for a in rest), -1)
        shape = flat.shape[:-1]
        found = [function(flat[index], **extra) for index in np.ndindex(*shape)]
        return Named(np.asarray(found).reshape(shape), rest)

    means(op)(meaning)


def _variance(x: Array, ddof: float) -> float:
    mean = sum(x) / len(x)
    return float(sum((x - mean) ** 2) / (len(x) - ddof))


_REDUCTIONS: dict[type[reductions.Reduction], Callable[..., Any]] = {
    reductions.Sum: lambda x: sum(x.astype(np.int64) if x.dtype.kind == "b" else x),
    reductions.Mean: lambda x: sum(_floating(x)) / len(x),
    reductions.Product: lambda x: math.prod(x),
    reductions.Max: lambda x: max(x),
    reductions.Min: lambda x: min(x),
    reductions.Any: lambda x: any(x),
    reductions.All: lambda x: all(x),
    reductions.Variance: lambda x, ddof: _variance(_floating(x), ddof),
    reductions.StandardDeviation: lambda x, ddof: math.sqrt(_variance(_floating(x), ddof)),
    reductions.LogSumExp: lambda x: np.log(sum(np.exp(_floating(x)))),
    reductions.Norm: lambda x: math.sqrt(sum(abs(x) ** 2)),
}
for _reduced, _total in _REDUCTIONS.items():
    _reduction(_reduced, _total)


@means(reductions.ArgMax, reductions.ArgMin)
def _argument(op: reductions.ArgMax, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    array, rest = operands[0].last((op.axis,))
    return Named(array.argmax(-1) if isinstance(op, reductions.ArgMax) else array.argmin(-1), rest)


# -- normalisations ----------------------------------------------------------------------------------


def _softmax(scores: Array, kept: Array, sink: Array | float = -np.inf) -> Array:
    """Along the last dimension, of which sinks have size 1; zeros where nothing is kept."""
    top = np.maximum(np.where(kept, scores, -np.inf).max(-1, keepdims=True), sink)
    weights = np.where(kept, np.exp(scores - np.where(np.isfinite(top), top, 0)), 0.0)
    total = weights.sum(-1, keepdims=True) + np.exp(sink - np.where(np.isfinite(top), top, 0))
    none_kept = ~kept.any(-1, keepdims=True)
    return np.where(none_kept, 0.0, weights / np.where(none_kept, 1.0, total))


@means(normalisations.Softmax)
def _masked_softmax(op: normalisations.Softmax, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    scores = _full(_floating(operands[0].over(axes)), axes, sizes)
    given = dict(zip(op.given, operands[1:], strict=True))
    kept = _full(given["mask"].over(axes) if "mask" in given else np.asarray(True), axes, sizes)
    sink = _full(_floating(given["sink"].over(axes)) if "sink" in given else np.asarray(-np.inf), axes, sizes)
    (array, rest), (mask, _), (beside, _) = scores.last(op.axes), kept.last(op.axes), sink.last(op.axes)
    flat = (*(sizes[a] for a in rest), -1)
    value = _softmax(array.reshape(flat), mask.reshape(flat), beside.reshape(flat)[..., :1]).reshape(array.shape)
    return Named(Named(value, (*rest, *op.axes)).over(axes), axes)


_NORMALISATIONS: dict[type[Op], Callable[..., Array]] = {
    normalisations.LogSoftmax: lambda x, total: x - np.log(total(np.exp(x))),
    normalisations.L1Normalize: lambda x, total, eps: x / np.maximum(total(abs(x)), eps),
    normalisations.L2Normalize: lambda x, total, eps: x / np.maximum(np.sqrt(total(x**2)), eps),
    normalisations.LayerNorm: lambda x, total, eps: (
        (x - total(x) / total(0 * x + 1))
        / np.sqrt(total((x - total(x) / total(0 * x + 1)) ** 2) / total(0 * x + 1) + eps)
    ),
    normalisations.RmsNorm: lambda x, total, eps: x / np.sqrt(total(x**2) / total(0 * x + 1) + eps),
}


@means(*_NORMALISATIONS)
def _normalisation(op: Any, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    x = operands[0]
    along = tuple(x.axes.index(axis) for axis in op.axes)
    eps = {"eps": float(sizes(op.eps))} if hasattr(op, "eps") else {}
    value = _NORMALISATIONS[type(op)](_floating(x.array), lambda t: t.sum(axis=along, keepdims=True), **eps)
    result = Named(value, x.axes).over(axes)
    for name, operand in zip(getattr(op, "given", ()), operands[1:], strict=True):
        result = result * operand.over(axes) if name == "gain" else result + operand.over(axes)
    return _full(result, axes, sizes)


# -- running totals ----------------------------------------------------------------------------------

_RUNNING: dict[type[Op], Callable[[Array], Any]] = {
    cumulative.CumulativeSum: lambda x: x.sum(-1),
    cumulative.CumulativeProduct: lambda x: x.prod(-1),
    cumulative.CumulativeMax: lambda x: x.max(-1),
    cumulative.CumulativeMin: lambda x: x.min(-1),
    cumulative.CumulativeLogSumExp: lambda x: np.log(np.exp(_floating(x)).sum(-1)),
}


@means(*_RUNNING)
def _running(op: cumulative.Cumulative, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    array, rest = operands[0].last((op.axis,))
    totals = [_RUNNING[type(op)](array[..., : n + 1]) for n in range(sizes[op.axis])]
    return Named(Named(np.stack(totals, -1), (*rest, op.axis)).over(axes), axes)


# -- order, complex numbers, Fourier transforms ------------------------------------------------------


def _along(axis: str, result_axis: str, function: Callable[[Array, Any, Sizes], Any]) -> Meaning:
    """The meaning of a function of the vector along one axis."""

    def meaning(op: Any, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
        source, target = getattr(op, axis), getattr(op, result_axis)
        array, rest = operands[0].last((source,))
        found = [function(array[index], op, sizes) for index in np.ndindex(*array.shape[:-1])]
        value = np.asarray(found).reshape(*array.shape[:-1], -1)
        return Named(Named(value, (*rest, target)).over(axes), axes)

    return meaning


def _descending(x: Array) -> list[int]:
    return sorted(range(len(x)), key=lambda i: -x[i])


MEANINGS |= {
    ordering.Sort: _along("axis", "axis", lambda x, op, sizes: sorted(x)),
    ordering.ArgSort: _along("axis", "axis", lambda x, op, sizes: sorted(range(len(x)), key=lambda i: x[i])),
    ordering.Top: _along(
        "axis", "axis", lambda x, op, sizes: [i in _descending(x)[: sizes.whole(op.count)] for i in range(len(x))]
    ),
    ordering.TopPositions: _along("source", "target", lambda x, op, sizes: _descending(x)[: sizes[op.target]]),
}

_elementwise(spectral.RealPart, lambda z: _floating(z).real)
_elementwise(spectral.ImaginaryPart, lambda z: _floating(z).imag)
_elementwise(spectral.Conjugate, lambda z: _floating(z).real - 1j * _floating(z).imag)
_elementwise(spectral.MakeComplex, lambda x, y: x + 1j * y)


def _waves(count: int, frequencies: int, sign: int) -> Array:
    """e ** (sign 2 pi i k n / count), [n, k]."""
    return np.asarray(np.exp(sign * 2j * math.pi * np.outer(np.arange(count), np.arange(frequencies)) / count))


def _inverse_real(z: Array, op: spectral.InverseRealFourierTransform, sizes: Sizes) -> Array:
    count = sizes[op.target]
    weights = np.array([1 if k == 0 or 2 * k == count else 2 for k in range(len(z))])
    # at 0 and N/2 only the real part counts: there the wave is real
    return np.asarray((_waves(count, len(z), 1) @ (weights * z)).real / count)


MEANINGS |= {
    spectral.FourierTransform: _along("source", "target", lambda x, op, sizes: _waves(len(x), len(x), -1).T @ x),
    spectral.InverseFourierTransform: _along(
        "source", "target", lambda z, op, sizes: _waves(len(z), len(z), 1) @ z / len(z)
    ),
    spectral.RealFourierTransform: _along(
        "source", "target", lambda x, op, sizes: _waves(len(x), len(x) // 2 + 1, -1).T @ x
    ),
    spectral.InverseRealFourierTransform: _along("source", "target", _inverse_real),
}


# -- layout ------------------------------------------------------------------------------------------


@means(layout.Reorder)
def _reorder(op: layout.Reorder, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    return Named(operands[0].over(axes), axes)


@means(layout.Rename)
def _rename(op: layout.Rename, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    return Named(operands[0].array, axes)


@means(layout.Broadcast)
def _broadcast(op: layout.Broadcast, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    return _full(operands[0].over(axes), axes, sizes)


@means(layout.Convert)
def _convert(op: layout.Convert, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    dtype = {Kind.BOOL: bool, Kind.INT: np.int64, Kind.REAL: np.float64, Kind.COMPLEX: np.complex128}[op.target]
    return Named(operands[0].array.astype(dtype), axes)


Place = Mapping[str, int]


def _gathered(axes: Axes, sizes: Sizes, dtype: Any, element: Callable[[Place], Any]) -> Named:
    """The value whose element at each place along `axes` is what `element` says."""
    result = np.empty([sizes[axis] for axis in axes], dtype=dtype)
    for index in np.ndindex(*result.shape):
        result[index] = element(dict(zip(axes, index, strict=True)))
    return Named(result, axes)


def _at(value: Named, place: Place) -> Any:
    return value.array[tuple(place[axis] for axis in value.axes)]


def _row_major(axes: Axes, place: Place, sizes: Sizes) -> int:
    position = 0
    for axis in axes:
        position = position * sizes[axis] + place[axis]
    return position


@means(layout.Split)
def _split(op: layout.Split, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    [x] = operands
    return _gathered(axes, sizes, x.array.dtype, lambda p: _at(x, {**p, op.source: _row_major(op.targets, p, sizes)}))


@means(layout.Merge)
def _merge(op: layout.Merge, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    [x] = operands
    places = list(itertools.product(*(range(sizes[axis]) for axis in op.sources)))
    return _gathered(
        axes, sizes, x.array.dtype, lambda p: _at(x, {**p, **dict(zip(op.sources, places[p[op.target]], strict=True))})
    )


@means(selection.Concat)
def _concat(op: selection.Concat, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    def element(place: Place) -> Any:
        position = place[op.target]
        for axis, operand in zip(op.sources, operands, strict=True):
            if position < sizes[axis]:
                return _at(operand, {**place, axis: position})
            position -= sizes[axis]
        raise AssertionError(place)

    return _gathered(axes, sizes, np.result_type(*(o.array.dtype for o in operands)), element)


@means(selection.Slice)
def _slice(op: selection.Slice, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    [x] = operands
    start, stride = sizes.whole(op.start), sizes.whole(op.stride)
    return _gathered(axes, sizes, x.array.dtype, lambda p: _at(x, {**p, op.source: start + stride * p[op.target]}))


@means(selection.Take)
def _take(op: selection.Take, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    table, index = operands

    def element(place: Place) -> Any:
        position = int(_at(index, place))
        assert 0 <= position < sizes[op.axis]
        return _at(table, {**place, op.axis: position})

    return _gathered(axes, sizes, table.array.dtype, element)


def _or_zero(x: Named, axis: str, position: int, place: Place, sizes: Sizes, outside: float = 0) -> Any:
    return _at(x, {**place, axis: position}) if 0 <= position < sizes[axis] else outside


@means(selection.Shift)
def _shift(op: selection.Shift, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    [x] = operands
    by = sizes.whole(op.by)
    return _gathered(axes, sizes, x.array.dtype, lambda p: _or_zero(x, op.axis, p[op.axis] - by, p, sizes))


@means(selection.Roll)
def _roll(op: selection.Roll, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    [x] = operands
    by = sizes.whole(op.by)
    return _gathered(axes, sizes, x.array.dtype, lambda p: _at(x, {**p, op.axis: (p[op.axis] - by) % sizes[op.axis]}))


@means(selection.Pad)
def _pad(op: selection.Pad, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    [x] = operands
    before, value = sizes.whole(op.before), sizes(op.value)
    return _gathered(
        axes, sizes, x.array.dtype, lambda p: _or_zero(x, op.source, p[op.target] - before, p, sizes, value)
    )


@means(selection.Windows)
def _windows(op: selection.Windows, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    [x] = operands
    start, dilation, stride = (sizes.whole(a) for a in (op.start, op.dilation, op.stride))

    def element(place: Place) -> Any:
        position = stride * place[op.target] + start + dilation * place[op.window]
        return _or_zero(x, op.source, position, place, sizes)

    return _gathered(axes, sizes, x.array.dtype, element)


@means(selection.Fold)
def _fold(op: selection.Fold, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    [x] = operands
    start, dilation, stride = (sizes.whole(a) for a in (op.start, op.dilation, op.stride))
    place_axis, window_axis = op.sources

    def element(place: Place) -> Any:
        return sum(
            _at(x, {**place, place_axis: p, window_axis: w})
            for p in range(sizes[place_axis])
            for w in range(sizes[window_axis])
            if stride * p + start + dilation * w == place[op.target]
        )

    return _gathered(axes, sizes, x.array.dtype, element)


# -- convolutions --------------------------------------------------------------------------------------


def _taps(op: convolution._Convolution, place: Place, forward: bool, sizes: Sizes) -> Iterator[tuple[Place, Place]]:
    """The places of x and of the kernel whose products make up one element of the result."""
    stride, dilation = sizes.whole(op.stride), sizes.whole(op.dilation)
    starts = [-dilation * (sizes[t] // 2) if op.start is None else sizes.whole(op.start) for t in op.taps]
    for tap in np.ndindex(*(sizes[axis] for axis in op.taps)):
        source: dict[str, int] = {}
        for axis, t, target, start in zip(op.sources, tap, op.targets, starts, strict=True):
            if forward:
                source[axis] = stride * place[target] + start + dilation * t
            elif (place[target] - start - dilation * t) % stride == 0:
                source[axis] = (place[target] - start - dilation * t) // stride
            else:
                source[axis] = -1
        if all(0 <= position < sizes[axis] for axis, position in source.items()):
            yield source, dict(zip(op.taps, tap, strict=True))


@means(convolution.Convolution, convolution.TransposedConvolution)
def _convolution(op: convolution._Convolution, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    x, kernel = operands
    forward = isinstance(op, convolution.Convolution)

    def element(place: Place) -> Any:
        total: Any = 0.0
        for source, tap in _taps(op, place, forward, sizes):
            for channel in np.ndindex(*(sizes[axis] for axis in op.summed)):
                at = dict(zip(op.summed, channel, strict=True))
                kept = {axis: index for axis, index in place.items() if axis not in op.targets}
                total += _at(x, {**kept, **source, **at}) * _at(kernel, {**kept, **tap, **at})
        return total

    return _gathered(axes, sizes, np.result_type(x.array.dtype, kernel.array.dtype, np.float64), element)


@means(segments.SegmentSoftmax)
def _segment_softmax(op: segments.SegmentSoftmax, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    scores, group = operands[:2]

    def kept(place: Place) -> bool:
        return bool(_at(operands[2], place)) if op.given else True

    def element(place: Place) -> Any:
        if not kept(place):
            return 0.0
        others = [{**place, op.axis: m} for m in range(sizes[op.axis])]
        together = [_at(scores, o) for o in others if _at(group, o) == _at(group, place) and kept(o)]
        return 1 / sum(np.exp(other - _at(scores, place)) for other in together)

    return _gathered(axes, sizes, np.float64, element)


@means(segments.SegmentSum, segments.SegmentMax)
def _segment_sum(op: Any, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    x, group = operands

    def element(place: Place) -> Any:
        others = [{**place, op.axis: m} for m in range(sizes[op.axis])]
        together = [_at(x, other) for other in others if _at(group, other) == _at(group, place)]
        return max(together) if isinstance(op, segments.SegmentMax) else sum(together)

    return _gathered(axes, sizes, np.result_type(x.array.dtype, np.float64), element)


# -- pooling and borders -------------------------------------------------------------------------------


@means(pooling.AveragePool, pooling.MaxPool)
def _pool(op: Any, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    [x] = operands
    window, start = sizes.whole(op.window), sizes.whole(op.start)
    stride = window if op.stride is None else sizes.whole(op.stride)

    def element(place: Place) -> Any:
        first = stride * place[op.target] + start
        inside = [_at(x, {**place, op.source: n}) for n in range(first, first + window) if 0 <= n < sizes[op.source]]
        if isinstance(op, pooling.MaxPool):
            return max(inside, default=-math.inf)
        return sum(inside) / (window if sizes(op.outside) else max(len(inside), 1))

    return _gathered(axes, sizes, np.float64, element)


@means(pooling.AdaptivePool)
def _adaptive_pool(op: pooling.AdaptivePool, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    [x] = operands
    length, places = sizes[op.source], sizes[op.target]

    def element(place: Place) -> Any:
        p = place[op.target]
        inside = [
            _at(x, {**place, op.source: n})
            for n in range(math.floor(p * length / places), math.ceil((p + 1) * length / places))
        ]
        return sum(inside) / len(inside)

    return _gathered(axes, sizes, np.float64, element)


@means(pooling.Resize)
def _resize(op: pooling.Resize, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    [x] = operands
    length, places = sizes[op.source], sizes[op.target]

    def element(place: Place) -> Any:
        p = place[op.target]
        at = (p + 0.5) * length / places - 0.5
        if op.aligned.as_number() != 0:
            at = p * (length - 1) / (places - 1) if places > 1 else 0.0
        at = min(max(at, 0.0), length - 1.0)
        n = math.floor(at)
        first, second = (_at(x, {**place, op.source: min(i, length - 1)}) for i in (n, n + 1))
        return first * (1 - (at - n)) + second * (at - n)

    return _gathered(axes, sizes, np.float64, element)


def _padding(op: type[padding._Padding], read: Callable[[int, int], int]) -> None:
    """read: the position that a position outside 0..N-1 stands for, given N."""

    def meaning(op: padding._Padding, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
        [x] = operands
        before = sizes.whole(op.before)
        return _gathered(
            axes, sizes, x.array.dtype,
            lambda p: _at(x, {**p, op.source: read(p[op.target] - before, sizes[op.source])}),
        )  # fmt: skip

    means(op)(meaning)


def _reflected(position: int, size: int) -> int:
    while size > 1 and not 0 <= position < size:
        position = -position if position < 0 else 2 * (size - 1) - position
    return position if size > 1 else 0


_padding(padding.CircularPadding, lambda position, size: position % size)
_padding(padding.ReflectedPadding, _reflected)
_padding(padding.ReplicatedPadding, lambda position, size: min(max(position, 0), size - 1))


# -- lowered operations: what the algorithms of a plan compute -----------------------------------------


@means(causal.CausalScan, causal.FeatureGatedScan)
def _causal_scan(op: causal.CausalScan, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    whole = (*op.batch, op.query, op.key, *op.inner, *op.outer)
    query, key, value = (operand.over(whole) for operand in operands[:3])
    lag = _lag(sizes[op.query])
    weight = np.where(lag >= op.offset, 1.0, 0.0)
    if op.kernel == "decayed_scan":
        rate = operands[3].over((*op.batch, op.query, op.key))
        weight = np.where(lag >= op.offset, np.exp(rate * np.maximum(lag, 0)), 0.0)
    elif op.kernel == "gated_scan":
        level = _level(operands[3], op.query)
        later, earlier = level.over((*op.batch, op.query, op.key)), _at_key(level, op.query, op.key, op.batch)
        weight = np.where(lag >= op.offset, np.exp(np.where(lag >= 0, later - earlier, 0.0)), 0.0)
    weights = Named(np.broadcast_to(weight, weight.shape), (*op.batch, op.query, op.key)[-weight.ndim :])
    if isinstance(op, causal.FeatureGatedScan):
        pairs, level = (*op.batch, op.query, op.key, *op.inner), _level(operands[3], op.query)
        earlier = Named(level.array, tuple(op.key if axis == op.query else axis for axis in level.axes))
        seen = Named(lag >= op.offset, (op.query, op.key)).over(pairs)
        difference = np.where(seen, level.over(pairs) - earlier.over(pairs), 0.0)
        weights = Named(np.where(seen, np.exp(difference), 0.0), pairs)
        if op.plain:
            weights = Named(np.where(seen, _products(operands[3], op.query, op.key, pairs, sizes), 0.0), pairs)
    product = weights.over(whole) * query * key * value
    summed = tuple(whole.index(axis) for axis in (op.key, *op.inner))
    full = np.broadcast_to(product, tuple(sizes[axis] for axis in whole)).sum(summed)
    if op.normalise:
        plain = np.broadcast_to(weights.over(whole) * query * key, tuple(sizes[axis] for axis in whole))
        divisor = plain.sum(summed)
        if op.bounded:
            divisor = np.maximum(np.abs(divisor), operands[-1].over((*op.batch, op.query, *op.outer)))
        full = full / divisor
    return Named(full, (*op.batch, op.query, *op.outer))


def _products(gates: Named, query: str, key: str, axes: Axes, sizes: Sizes) -> np.ndarray:
    """gates[m + 1] ... gates[n], 1 where m >= n, over these axes, the key's behind the query's."""
    length, place = sizes[query], axes.index(query)
    whole = np.broadcast_to(gates.over(axes), tuple(1 if axis == key else sizes[axis] for axis in axes))
    found = np.ones(tuple(sizes[axis] for axis in axes), whole.dtype)
    along = np.moveaxis(whole, (place, axes.index(key)), (0, 1))[:, 0]
    table = np.moveaxis(found, (place, axes.index(key)), (0, 1))
    for n, m in itertools.product(range(length), repeat=2):
        if m < n:
            table[n, m] = along[m + 1 : n + 1].prod(0)
    return found


def _level(gates: Named, axis: str) -> Named:
    """The running sum of the logarithms of gates."""
    return Named(gates.array.cumsum(gates.axes.index(axis)), gates.axes)


@means(causal.GatedPrefix)
def _gated_prefix(op: causal.GatedPrefix, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    value, level = operands[0], _level(operands[1], op.query)
    whole = (op.query, op.key, *op.features)
    lag = _lag(sizes[op.query]).reshape(sizes[op.query], sizes[op.key], *([1] * len(op.features)))
    earlier = Named(level.array, tuple(op.key if axis == op.query else axis for axis in level.axes))
    difference = np.where(lag >= 0, level.over(whole) - earlier.over(whole), 0.0)
    weight = np.where(lag >= op.offset, np.exp(difference), 0.0)
    full = np.broadcast_to(weight * value.over(whole), tuple(sizes[axis] for axis in whole))
    return Named(full.sum(1), (op.query, *op.features))


@means(maximum.RunningMaximum)
def _running_maximum(op: maximum.RunningMaximum, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    score, gates = operands
    whole = (*op.batch, op.query)
    score, gates = score.over((*op.batch, op.key)), gates.over(whole)
    score, gates = (np.broadcast_to(x, tuple(sizes[axis] for axis in whole)) for x in (score, gates))
    top = np.array(score)
    for n in range(1, sizes[op.query]):
        top[..., n] = np.maximum(top[..., n - 1] + gates[..., n], score[..., n])
    return Named(top, whole)


@means(polynomial.PolynomialScan, polynomial.PolynomialSum)
def _polynomial(op: polynomial._Polynomial, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    query, key, value, *coefficients = operands
    pair = (*op.batch, *op.rows, op.key)
    whole = (*pair, *op.inner)
    product = np.broadcast_to(query.over(whole) * key.over(whole), tuple(sizes[axis] for axis in whole))
    score = product.sum(tuple(range(len(pair), len(whole))))
    weight = np.zeros_like(score)
    for power, coefficient in zip(op.powers, coefficients, strict=True):
        weight = weight + coefficient.over(pair) * score**power
    if isinstance(op, polynomial.PolynomialScan):
        weight = np.where(_lag(sizes[op.key]) >= op.offset, weight, 0.0)
    mixed = (*pair, *op.outer)
    shape = tuple(sizes[axis] for axis in mixed)
    full = np.broadcast_to(Named(weight, pair).over(mixed) * value.over(mixed), shape).sum(len(pair) - 1)
    if op.normalise:
        full = full / weight.sum(-1).reshape(*weight.shape[:-1], *([1] * len(op.outer)))
    return Named(full, (*op.batch, *op.rows, *op.outer))


@means(prefix.PrefixSoftmax)
def _prefix_softmax(op: prefix.PrefixSoftmax, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    score, value = operands
    whole = (*op.batch, op.query, op.key, *op.outer)
    lag = _lag(sizes[op.query])
    scores = np.where(lag >= 0, score.over((*op.batch, op.query, op.key)), -np.inf)
    weight = np.exp(scores - scores.max(-1, keepdims=True))
    weights = Named(weight / weight.sum(-1, keepdims=True), (*op.batch, op.query, op.key))
    full = np.broadcast_to(weights.over(whole) * value.over(whole), tuple(sizes[axis] for axis in whole))
    return Named(full.sum(whole.index(op.key)), (*op.batch, op.query, *op.outer))


def _lag(length: int) -> Array:
    position = np.arange(length)
    return position[:, None] - position[None, :]


def _at_key(level: Named, query: str, key: str, batch: Axes) -> Array:
    renamed = Named(level.array, tuple(key if axis == query else axis for axis in level.axes))
    return renamed.over((*batch, query, key))


@means(fused.FusedSoftmax)
def _fused_softmax(op: fused.FusedSoftmax, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    pair = (*op.batch, op.query, op.key)
    whole = (*pair, op.inner)
    shape = tuple(sizes[axis] for axis in pair)
    scores = (operands[0].over(whole) * operands[1].over(whole)).sum(-1)
    scores = scores / math.sqrt(sizes[op.inner]) if op.scaled else scores
    visible = np.ones(shape, bool)
    beside: Array | float = 0.0
    for name, operand in zip(op.given, operands[3:], strict=True):
        if name == "mask":
            visible = visible & operand.over(pair)
        elif name == "sink":
            beside = np.exp(operand.over(pair))
        else:
            scores = scores + operand.over(pair)
    if op.causal:
        visible = visible & (_lag(sizes[op.query]) >= 0)
    scores = np.where(visible, np.broadcast_to(scores, shape), -np.inf)
    top = np.maximum(scores.max(-1, keepdims=True), -1e300)
    weight = np.exp(scores - top)
    total = weight.sum(-1, keepdims=True) + np.minimum(beside * np.exp(-top), 1e300)
    weights = Named(np.divide(weight, total, out=np.zeros_like(weight), where=total > 0), pair)
    mixed = (*pair, *op.outer)
    full = np.broadcast_to(weights.over(mixed) * operands[2].over(mixed), tuple(sizes[axis] for axis in mixed))
    return Named(full.sum(len(pair) - 1), (*op.batch, op.query, *op.outer))


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(x, 0),
    "tanh": np.tanh,
}


@means(additive.SumOfPairs)
def _sum_of_pairs(op: additive.SumOfPairs, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    query, key, weight = operands
    whole = (*op.batch, op.query, op.key, op.inner)
    value = FUNCTIONS[op.function](query.over(whole) + key.over(whole)) * weight.over(whole)
    full = np.broadcast_to(value, tuple(sizes[axis] for axis in whole))
    return Named(full.sum(-1), whole[:-1])


@means(local.BandedSoftmax, local.WindowedSoftmax)
def _local_softmax(op: local._Local, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    lag = _lag(sizes[op.query])
    if isinstance(op, local.BandedSoftmax):
        near = (lag <= sizes.whole(op.before)) & (lag >= -sizes.whole(op.after))
    else:
        window = np.arange(sizes[op.query]) // sizes.whole(op.widths()[0])
        near = window[:, None] == window[None, :]
    scaled = Named(operands[0].array * operands[3].array, operands[0].axes)
    whole = fused.FusedSoftmax(op.query, op.key, op.inner, op.outer, op.batch, False, False, ("mask",))
    mask = Named(near, (op.query, op.key))
    return _fused_softmax(whole, sizes, [scaled, operands[1], operands[2], mask], axes)


@means(toeplitz.ToeplitzProduct)
def _toeplitz(op: toeplitz.ToeplitzProduct, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    table, value = (o.over((*op.features, axis)) for o, axis in zip(operands, (op.lag, op.key), strict=True))
    place = np.arange(sizes[op.query])[:, None] - np.arange(sizes[op.key])[None, :] + int(op.zero.evaluate(sizes))
    known = (place >= 0) & (place < sizes[op.lag])
    entries = np.where(known, _floating(table[..., np.where(known, place, 0)]), 0)
    full = (entries * value[..., None, :]).sum(-1)
    shape = (*(sizes[axis] for axis in op.features), sizes[op.query])
    return Named(np.broadcast_to(full, shape), (*op.features, op.query))


@dataclass(frozen=True)
class Bundle(Named):
    """What a scan gives; as a value it is the last member."""

    members: tuple[Named, ...]


@means(scan.Scan)
def _scan(op: scan.Scan, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    arguments, results = op.step.arguments, op.step.results
    states, rest = operands[: op.states], operands[op.states :]
    states = [Named(_as(o.over(a.axes), a.type.kind), a.axes) for o, a in zip(states, arguments, strict=False)]
    rows: list[list[Named]] = [[] for _ in results[op.states :]]
    for position in range(sizes[op.axis]):
        given = [*states]
        for index, value in enumerate(rest, start=op.states):
            array = value.over(op.laid_out(index))
            given.append(Named(array[position] if op.is_sliced(index) else array, arguments[index].axes))
        made = _values(results, dict(zip(arguments, given, strict=True)), sizes)
        states = made[: op.states]
        for row, value in zip(rows, made[op.states :], strict=True):
            row.append(value)
    stacked = [Named(np.stack([value.array for value in row]), (op.axis, *row[0].axes)) for row in rows]
    members = (*states, *stacked)
    return Bundle(members[-1].array, members[-1].axes, members)


def _as(array: Array, kind: Kind) -> Array:
    return array.astype({Kind.REAL: np.float64, Kind.COMPLEX: np.complex128}.get(kind, array.dtype))


@means(scan.Part)
def _part(op: scan.Part, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    [bundle] = operands
    assert isinstance(bundle, Bundle)
    return bundle.members[op.index]


@means(lagged.LaggedSoftmax)
def _lagged_softmax(op: lagged.LaggedSoftmax, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    lag = _lag(sizes[op.query])
    after = operands[3].over((*op.batch, op.query))
    bias = np.where(lag >= 0, after[..., np.maximum(lag, 0)], -np.inf)
    if len(operands) > 4:
        before = operands[4].over((*op.batch, op.key))
        bias = np.where(lag >= 0, bias, before[..., np.maximum(-lag, 0)])
    plain = fused.FusedSoftmax(op.query, op.key, op.inner, op.outer, op.batch, op.scaled, False, ("bias",))
    return _fused_softmax(plain, sizes, [*operands[:3], Named(bias, (*op.batch, op.query, op.key))], axes)


@means(rows.RowBlocks)
def _row_blocks(op: rows.RowBlocks, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    arguments = op.part.arguments
    given = {a: Named(o.over(a.axes), a.axes) for a, o in zip(arguments, operands, strict=True)}
    return _values(op.part.results[:1], given, sizes)[0]


@means(linear.LinearRecurrence)
def _linear_recurrence(op: linear.LinearRecurrence, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    a, x = (operand.over((op.axis, *op.features)) for operand in operands[:2])
    shape = tuple(sizes[axis] for axis in (op.axis, *op.features))
    kind = np.result_type(a.dtype, x.dtype, np.float64)
    state = np.broadcast_to(operands[2].over(op.features) if operands[2:] else np.zeros(()), shape[1:]).astype(kind)
    out = np.empty(shape, kind)
    for position in range(shape[0]):
        state = np.broadcast_to(a, shape)[position] * state + np.broadcast_to(x, shape)[position]
        out[position] = state
    return Named(out, (op.axis, *op.features))


@means(feedback.CausalFeedback, feedback.FeatureGatedFeedback)
def _causal_feedback(op: feedback.CausalFeedback, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    narrow, whole = (op.axis, *op.batch, op.inner), (op.axis, *op.batch, *op.outer)
    shape = tuple(sizes[axis] for axis in narrow)
    reading, direction = (np.broadcast_to(o.over(narrow), shape) for o in operands[:2])
    out = np.array(np.broadcast_to(operands[2].over(whole), tuple(sizes[axis] for axis in whole)))
    out = out.astype(np.result_type(out.dtype, np.float64))
    along = narrow if isinstance(op, feedback.FeatureGatedFeedback) else narrow[:-1]
    gates = [np.broadcast_to(o.over(along), shape[: len(along)]) for o in operands[3:]]
    gates = [gate.reshape(gate.shape + (1,) * (len(narrow) - len(along))) for gate in gates]
    for n in range(shape[0]):
        for m in range(n):
            pair = reading[n] * direction[m]
            for gate in gates:
                between = gate[m + 1 : n]
                plain = isinstance(op, feedback.FeatureGatedFeedback) and op.plain
                pair = pair * (between.prod(0) if plain else np.exp(between.sum(0)))
            weight = pair.sum(-1)
            out[n] += weight.reshape(weight.shape + (1,) * len(op.outer)) * out[m]
    return Named(out, whole)


@means(states.LinearStates)
def _linear_states(op: states.LinearStates, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    whole = (op.row, *op.batch, *op.outer)
    square = (op.axis, op.row, op.column, *op.batch)
    matrix = np.broadcast_to(operands[0].over(square), tuple(sizes[axis] for axis in square))
    x = np.broadcast_to(operands[1].over((op.axis, *whole)), tuple(sizes[axis] for axis in (op.axis, *whole)))
    kind = np.result_type(matrix.dtype, x.dtype, np.float64)
    state = np.broadcast_to(operands[2].over(whole) if operands[2:] else np.zeros(()), x.shape[1:]).astype(kind)
    out = np.empty(x.shape, kind)
    for n in range(len(x)):
        a = matrix[n].reshape(matrix[n].shape + (1,) * len(op.outer))
        state = out[n] = (a * state[None]).sum(1) + x[n]
    return Named(Named(out, (op.axis, *whole)).over(axes), axes)


@means(states.TransitionScan, states.TransitionFeedback)
def _transitions(op: states._Chunked, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    feedback = isinstance(op, states.TransitionFeedback)
    moved = [Named(o.array, tuple(op.axis if axis == op.key else axis for axis in o.axes)) for o in operands]
    whole = (op.row, op.column, *op.batch, *op.inner, *op.outer)  # columns of a matrix stand where states do not

    def entries(operand: Named, n: int) -> Array:
        along = operand.over((op.axis, *whole))
        return along[min(n, len(along) - 1)]

    shape = tuple(1 if axis == op.column else sizes[axis] for axis in whole)
    own = tuple(range(2 + len(op.batch), 2 + len(op.batch) + len(op.inner)))
    state, out = np.zeros(shape, np.float64), []
    for n in range(sizes[op.axis]):
        query, key, value, matrix, rows, columns = (entries(operand, n) for operand in moved)
        before = (rows * query * state).sum((0, *own), keepdims=True)
        value = value + before if feedback else value
        state = (matrix * state.swapaxes(0, 1)).sum(1, keepdims=True) + columns * key * value
        after = (rows * query * state).sum((0, *own), keepdims=True)
        found = value if feedback else before if op.offset else after
        result = tuple(1 if axis in (op.row, op.column, *op.inner) else sizes[axis] for axis in whole)
        out.append(np.broadcast_to(found, result))
    full = np.stack(out).reshape(tuple(sizes[axis] for axis in (op.axis, *op.batch, *op.outer)))
    return Named(Named(full, (op.axis, *op.batch, *op.outer)).over(axes), axes)


@means(batches.OverBatch)
def _over_batch(op: batches.OverBatch, sizes: Sizes, operands: list[Named], axes: Axes) -> Named:
    return operands[0]
