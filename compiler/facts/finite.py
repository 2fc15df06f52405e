"""Whether a value is a finite number for all finite inputs, so that it can be left out without a trace.

Overflow does not count: the answer is about real numbers. Sound: an operation that is not listed may give anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..graph import Node
from ..ops import (
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
    pairs,
    reductions,
    selection,
)
from ..ops.base import Op
from ..types import Kind
from .ranges import Range

#: finite wherever their operands are
_TOTAL: frozenset[type[Op]] = frozenset({
    leaves.Input, leaves.Parameter, leaves.Buffer, leaves.Size, leaves.Position,
    arithmetic.Add, arithmetic.Subtract, arithmetic.Multiply, arithmetic.Negative,
    contraction.Contraction, convolution.Convolution,
    cumulative.CumulativeSum, cumulative.CumulativeProduct, cumulative.CumulativeMax, cumulative.CumulativeMin,
    functions.Abs, functions.Sign, functions.Square, functions.Exp, functions.Expm1, functions.Sin, functions.Cos,
    functions.Atan, functions.Sinh, functions.Cosh, functions.Tanh, functions.Sinc, functions.Erf, functions.Erfc,
    functions.Floor, functions.Ceil, functions.Round, functions.Sigmoid, functions.LogSigmoid, functions.HardSigmoid,
    functions.Softsign, functions.Relu, functions.Relu6, functions.LeakyRelu, functions.Elu, functions.Selu,
    functions.Gelu, functions.Silu, functions.HardSwish, functions.Mish, functions.Softplus, functions.StopGradient,
    layout.Reorder, layout.Rename, layout.Split, layout.Merge, layout.Broadcast, layout.Convert,
    logic.Equal, logic.NotEqual, logic.Less, logic.LessEqual, logic.Greater, logic.GreaterEqual, logic.And, logic.Or,
    logic.Not, logic.Where, logic.IsNan,
    normalisations.Softmax, normalisations.L1Normalize, normalisations.L2Normalize, normalisations.LayerNorm,
    normalisations.RmsNorm,
    ordering.Sort, ordering.ArgSort, ordering.Top,
    pairs.Minimum, pairs.Maximum, pairs.Clamp, pairs.LogAddExp,
    reductions.Sum, reductions.Mean, reductions.Product, reductions.Max, reductions.Min, reductions.Any, reductions.All,
    reductions.LogSumExp, reductions.Norm, reductions.ArgMax, reductions.ArgMin,
    selection.Concat, selection.Slice, selection.Take, selection.Shift, selection.Roll,
})  # fmt: skip


def finite(root: Node, range_of: Callable[[Node], Range], found: dict[Node, bool]) -> bool:
    """Whether the value is finite. range_of: where values lie; found: what is known already, it grows."""
    stack = [root]
    while stack:
        node = stack[-1]
        missing = [operand for operand in node.inputs if operand not in found]
        if missing:
            stack.extend(missing)
            continue
        stack.pop()
        whole = node.type.kind in (Kind.BOOL, Kind.INT)  # such a value is a number, or there is an error
        found[node] = whole or (all(found[operand] for operand in node.inputs) and _keeps(node, range_of))
    return found[root]


def bounded(root: Node, above: bool, range_of: Callable[[Node], Range], found: dict[Node, bool]) -> bool:
    """Whether the value is never inf (above), or never -inf, for finite inputs: finite, or a mask of the other sign.

    found: which values are known to be finite or not; it grows.
    """
    stack = [(root, above)]
    while stack:
        node, above = stack.pop()
        known = range_of(node)
        end, is_open = (known.high, known.high_open) if above else (-known.low, known.low_open)
        if end < math.inf or is_open or finite(node, range_of, found):
            continue
        match node.op:
            case leaves.Literal(value) if value == (-math.inf if above else math.inf):
                pass
            case logic.Where():
                stack += [(operand, above) for operand in node.inputs[1:]]
            case arithmetic.Add() | pairs.Minimum() | pairs.Maximum() | layout.Rename() | layout.Reorder():
                stack += [(operand, above) for operand in node.inputs]
            case arithmetic.Subtract():
                stack += [(node.inputs[0], above), (node.inputs[1], not above)]
            case arithmetic.Negative():
                stack.append((node.inputs[0], not above))
            case _:
                return False
    return True


def _keeps(node: Node, range_of: Callable[[Node], Range]) -> bool:
    """Whether the operation gives finite results for its finite operands."""
    match node.op:
        case leaves.Literal(value):
            return math.isfinite(value)
        case arithmetic.Divide():
            return _apart_from_zero(range_of(node.inputs[1]))
        case functions.Reciprocal() | functions.Rsqrt() | functions.Log() | functions.Log2():
            return range_of(node.inputs[0]).positive
        case functions.Sqrt():
            return range_of(node.inputs[0]).non_negative
        case arithmetic.Power():
            return range_of(node.inputs[0]).positive
        case arithmetic.IntegerPower(exponent):
            return exponent >= 0
        case reductions.Variance(ddof=ddof) | reductions.StandardDeviation(ddof=ddof):
            return not ddof
    return type(node.op) in _TOTAL


def _apart_from_zero(range_: Range) -> bool:
    return range_.positive or range_.high < 0 or (range_.high == 0 and range_.high_open)
