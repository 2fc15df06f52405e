"""Leaves, arithmetic and functions of single elements, in modular arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..graph import Node, attributes
from ..ops import arithmetic, functions, leaves, logic, pairs
from ..ops.base import Op
from . import residues as field
from .residues import inverse, reduced, times
from .values import CONSTANT, Degree, Rule, Setting, Value, all_known, from_known, is_whole, number, product_of, real

# -- leaves -------------------------------------------------------------------------------------------


def _declared(node: Node, operands: list[Value], setting: Setting) -> Value:
    assert isinstance(node.op, leaves.Declared)
    return setting.values[node.op.name]


def _literal(node: Node, operands: list[Value], setting: Setting) -> Value:
    assert isinstance(node.op, leaves.Literal)
    return number(node.op.value)


def _size(node: Node, operands: list[Value], setting: Setting) -> Value:
    assert isinstance(node.op, leaves.Size)
    value = setting.size(node.op.size)
    return number(int(value) if value == int(value) else value)


def _position(node: Node, operands: list[Value], setting: Setting) -> Value:
    assert isinstance(node.op, leaves.Position)
    return from_known(node, torch.arange(int(setting.sizes[node.op.axis])))


# -- powers of e -----------------------------------------------------------------------------------------


def exponential(x: Value) -> Value:
    """e to a value. exp(log(y)) is y, wherever the logarithm is a number."""
    if x.power is not None:
        return x.power
    return Value(exp_of(x.residues), x.axes, x.degree.unknown(), None if x.known is None else real(x.known).exp())


def logarithm(x: Value) -> Value:
    """The logarithm of a value, of which nothing is used but what e to it is."""
    return Value(log_of(x.residues), x.axes, x.degree.unknown(), None, x)


def _with_power(found: Value, power: Callable[..., Value], operands: Sequence[Value]) -> Value:
    """found, with what e to it is if that is known of an operand; power: takes e to each operand."""
    if all(operand.power is None for operand in operands):
        return found
    return replace(found, power=power(*(exponential(operand) for operand in operands)))


def _inverted(x: Value) -> Value:
    return Value(inverse(x.residues), x.axes, x.degree.inverse())


def _multiplied(axes: tuple[str, ...]) -> Callable[[Value, Value], Value]:
    return lambda x, y: Value(times(x.over(axes), y.over(axes)), axes, x.degree * y.degree)


def _add(node: Node, operands: list[Value], setting: Setting) -> Value:
    return _with_power(_SUM(node, operands, setting), _multiplied(node.axes), operands)


def _subtract(node: Node, operands: list[Value], setting: Setting) -> Value:
    def times_inverse(x: Value, y: Value) -> Value:
        return _multiplied(node.axes)(x, _inverted(y))

    return _with_power(_DIFFERENCE(node, operands, setting), times_inverse, operands)


def _negative(node: Node, operands: list[Value], setting: Setting) -> Value:
    [x] = operands
    found = Value(_negated(x.residues), x.axes, x.degree, None if x.known is None else -x.known)
    return _with_power(found, _inverted, operands)


def _exp(node: Node, operands: list[Value], setting: Setting) -> Value:
    return exponential(operands[0])


def _log(node: Node, operands: list[Value], setting: Setting) -> Value:
    [x] = operands
    setting.unknowns.add("log")
    if isinstance(node.op, functions.Log1p):
        x = Value(reduced(x.residues + 1), x.axes, x.degree)
    known = real(x.known).log() if x.known is not None else None
    return replace(logarithm(x), known=known)


def _softplus(node: Node, operands: list[Value], setting: Setting) -> Value:
    setting.unknowns.add("log")
    power = exponential(operands[0])
    return logarithm(Value(reduced(1 + power.residues), power.axes, power.degree))


def _log_sigmoid(node: Node, operands: list[Value], setting: Setting) -> Value:
    """-softplus(-x): e to it is the sigmoid."""
    setting.unknowns.add("log")
    power = exponential(operands[0])
    share = times(power.residues, inverse(reduced(1 + power.residues)))
    return logarithm(Value(share, power.axes, power.degree * (power.degree + CONSTANT).inverse()))


def _log_add_exp(node: Node, operands: list[Value], setting: Setting) -> Value:
    setting.unknowns.add("log")
    x, y = (exponential(operand) for operand in operands)
    return logarithm(Value(reduced(x.over(node.axes) + y.over(node.axes)), node.axes, x.degree + y.degree))


# -- arithmetic and functions ----------------------------------------------------------------------------


def _arithmetic(residues: Callable[..., Tensor], known: Callable[..., Tensor], degree: Callable[..., Degree]) -> Rule:
    def rule(node: Node, operands: list[Value], setting: Setting) -> Value:
        exact = known(*(o.known_over(node.axes) for o in operands)) if all_known(operands) else None
        found = residues(*(o.over(node.axes) for o in operands))
        return Value(found, node.axes, degree(*(o.degree for o in operands)), exact)

    return rule


_SUM = _arithmetic(lambda x, y: reduced(x + y), lambda x, y: x + y, Degree.__add__)
_DIFFERENCE = _arithmetic(lambda x, y: reduced(x - y), lambda x, y: x - y, Degree.__add__)


def _negated(value: Tensor) -> Tensor:
    return reduced(-value)


def _one(like: Tensor) -> Tensor:
    return torch.ones((), dtype=torch.int64)


def exp_of(x: Tensor) -> Tensor:
    return field.exponential(x)


def log_of(x: Tensor) -> Tensor:
    return field.unknown("log", [x[0]])


def _sigmoid(x: Tensor) -> Tensor:
    return inverse(reduced(1 + exp_of(_negated(x))))


def _tanh(x: Tensor) -> Tensor:
    square = exp_of(reduced(x + x))
    return times(reduced(square - 1), inverse(reduced(square + 1)))


def root_of(x: Tensor) -> Tensor:
    return field.unknown("sqrt", [x[0]])


def abs_of(x: Tensor) -> Tensor:
    return field.unknown("abs", [times(x, x)[0]])


def _cosh(x: Tensor) -> Tensor:
    ahead = exp_of(x)
    return times(reduced(ahead + inverse(ahead)), inverse(torch.full_like(x, 2)))


def _sinh(x: Tensor) -> Tensor:
    ahead = exp_of(x)
    return times(reduced(ahead - inverse(ahead)), inverse(torch.full_like(x, 2)))


def _ratio(degree: Degree) -> Degree:
    """Of a quotient of exponentials of one value."""
    found = degree.unknown()
    return Degree(2 * found.above, 2 * found.above)


#: residues of the result from those of the operand, the name under which it is unknown, if it is, and its degree
_FUNCTIONS: dict[type[Op], tuple[Callable[[Tensor], Tensor], str, Callable[[Degree], Degree]]] = {
    functions.Square: (lambda x: times(x, x), "", lambda d: d * d),
    functions.Reciprocal: (inverse, "", Degree.inverse),
    functions.Expm1: (lambda x: reduced(exp_of(x) - 1), "", Degree.unknown),
    functions.Sin: (lambda x: field.circular(x)[1], "", Degree.unknown),
    functions.Cos: (lambda x: field.circular(x)[0], "", Degree.unknown),
    functions.Tan: (lambda x: times(field.circular(x)[1], inverse(field.circular(x)[0])), "", _ratio),
    functions.Sinh: (_sinh, "", _ratio),
    functions.Cosh: (_cosh, "", _ratio),
    functions.Tanh: (_tanh, "", _ratio),
    functions.Sigmoid: (_sigmoid, "", _ratio),
    functions.Silu: (lambda x: times(x, _sigmoid(x)), "", lambda d: d * _ratio(d)),
    functions.Softsign: (lambda x: times(x, inverse(reduced(1 + abs_of(x)))), "abs", lambda d: d * _ratio(d)),
    functions.StopGradient: (lambda x: x, "", lambda d: d),
}
#: the same on numbers that are known
_KNOWN: dict[type[Op], Callable[[Tensor], Tensor]] = {
    functions.Square: lambda x: x * x,
    functions.Sin: lambda x: real(x).sin(),
    functions.Cos: lambda x: real(x).cos(),
    functions.StopGradient: lambda x: x,
}
#: functions of known numbers that decide: what they give is one of their operands, or whole
_DECIDED: dict[type[Op], Callable[..., Tensor]] = {
    functions.Sign: torch.sign,
    functions.Floor: torch.floor,
    functions.Ceil: torch.ceil,
    functions.Round: torch.round,
    arithmetic.FloorDivide: lambda x, y: torch.div(x, y, rounding_mode="floor"),
    arithmetic.Modulo: torch.remainder,
    logic.Equal: torch.eq,
    logic.NotEqual: torch.ne,
    logic.Less: torch.lt,
    logic.LessEqual: torch.le,
    logic.Greater: torch.gt,
    logic.GreaterEqual: torch.ge,
}


def _function(node: Node, operands: list[Value], setting: Setting) -> Value:
    [x] = operands
    residues, name, degree = _FUNCTIONS[type(node.op)]
    if name:
        setting.unknowns.add(name)
    rule = _KNOWN.get(type(node.op))
    known = rule(x.known) if rule is not None and x.known is not None else None
    return Value(residues(x.residues), node.axes, degree(x.degree), known)


def _decided(node: Node, operands: list[Value], setting: Setting) -> Value:
    """A function that is computed as it is where its operands are known, and unknown elsewhere."""
    degree = product_of(operands).unknown()
    if all_known(operands):
        known = _DECIDED[type(node.op)](*(o.known_over(node.axes) for o in operands))
        if is_whole(known):
            return from_known(node, known)
    if type(node.op) in _COMPARED and not all_known(operands):
        return _compared(node, operands, setting)
    if isinstance(node.op, functions.Ceil):  # -floor(-x)
        setting.unknowns.add("floor")
        return Value(_negated(field.unknown("floor", [_negated(operands[0].residues)[0]])), node.axes, degree)
    if isinstance(node.op, functions.Floor):
        setting.unknowns.add("floor")
        return Value(field.unknown("floor", [operands[0].residues[0]]), node.axes, degree)
    return elementwise(node, operands, setting)


#: comparisons as: the sign of the difference, whether to negate
_COMPARED: dict[type[Op], tuple[int, bool]] = {
    logic.Greater: (1, False),
    logic.Less: (-1, False),
    logic.LessEqual: (1, True),
    logic.GreaterEqual: (-1, True),
}


def _compared(node: Node, operands: list[Value], setting: Setting) -> Value:
    """x > y is an unknown truth value of x - y, and the other comparisons follow from it."""
    setting.unknowns.add("comparison")
    sign, negate = _COMPARED[type(node.op)]
    x, y = (o.over(node.axes) for o in operands)
    truth = field.unknown("greater", [reduced(sign * (x - y))[0]])
    degree = (operands[0].degree + operands[1].degree).unknown()
    return Value(reduced(1 - truth) if negate else truth, node.axes, degree)


def _equal(node: Node, operands: list[Value], setting: Setting) -> Value:
    if all_known(operands):
        return _decided(node, operands, setting)
    lowest = next((o for o in operands if o.known is not None and bool((o.known == -math.inf).all())), None)
    if lowest is not None:  # e to -inf is 0, and e to no number is
        [other] = [o for o in operands if o is not lowest]
        vanishes = (exponential(other).over(node.axes) == 0).to(torch.int64)
        truth = vanishes if isinstance(node.op, logic.Equal) else 1 - vanishes
        return Value(truth.expand(2, field.TRIALS, *setting.shape(node.axes)), node.axes)
    setting.unknowns.add("comparison")
    x, y = (o.over(node.axes) for o in operands)
    difference = reduced(x - y)
    truth = field.unknown("equal", [times(difference, difference)[0]])
    degree = (operands[0].degree + operands[1].degree).unknown()
    return Value(reduced(1 - truth) if isinstance(node.op, logic.NotEqual) else truth, node.axes, degree)


def _where(node: Node, operands: list[Value], setting: Setting) -> Value:
    condition, x, y = (o.over(node.axes) for o in operands)
    value = reduced(times(condition, x) + times(reduced(1 - condition), y))
    known = None
    if all_known(operands):
        decides, first, second = (o.known_over(node.axes) for o in operands)
        known = torch.where(decides, first, second)
    found = Value(value, node.axes, _chosen_degree(operands), known)
    if all(operand.power is None for operand in operands[1:]):
        return found
    parts = [operands[0], *(exponential(operand) for operand in operands[1:])]
    condition, x, y = (o.over(node.axes) for o in parts)
    power = reduced(times(condition, x) + times(reduced(1 - condition), y))
    return replace(found, power=Value(power, node.axes, _chosen_degree(parts)))


def _chosen_degree(operands: Sequence[Value]) -> Degree:
    chosen, *others = (operand.degree for operand in operands)
    return chosen * others[0] + chosen * others[1]


def _sqrt(node: Node, operands: list[Value], setting: Setting) -> Value:
    found = _root_of(operands[0], setting)
    return _inverse_of(found) if isinstance(node.op, functions.Rsqrt) else found


def _root_of(x: Value, setting: Setting) -> Value:
    found = None
    if x.known is not None and not x.axes and is_whole(x.known):
        found = field.root(int(x.known.item()))
    if found is None:
        setting.unknowns.add("sqrt")
        found = root_of(x.residues)
    known = None if x.known is None else real(x.known).sqrt()
    return Value(found, x.axes, x.degree.unknown(), known)


def _inverse_of(x: Value) -> Value:
    return Value(inverse(x.residues), x.axes, x.degree.inverse(), None if x.known is None else 1 / x.known)


def _integer_power(node: Node, operands: list[Value], setting: Setting) -> Value:
    [x] = operands
    assert isinstance(node.op, arithmetic.IntegerPower)
    exponent = node.op.exponent
    known = None if x.known is None else x.known**exponent
    degree = Degree(x.degree.above * exponent, x.degree.below * exponent)
    return Value(field.to_the(x.residues, exponent), node.axes, degree, known)


def _power(node: Node, operands: list[Value], setting: Setting) -> Value:
    """A fixed whole exponent is a product; any other acts on an unknown logarithm of the base."""
    base, exponent = operands
    known = None
    if all_known(operands):
        known = torch.pow(*(real(o.known_over(node.axes)) for o in operands))
    if exponent.known is not None and not exponent.axes and is_whole(exponent.known):
        count = int(exponent.known.item())
        degree = base.degree if count >= 0 else base.degree.inverse()
        degree = Degree(degree.above * abs(count), degree.below * abs(count))
        return Value(field.to_the(base.residues, count), node.axes, degree, known)
    if exponent.known is not None and not exponent.axes and abs(exponent.known.item()) == 0.5:
        found = _root_of(base, setting)
        return found if exponent.known.item() > 0 else _inverse_of(found)
    setting.unknowns.add("log")
    scaled = times(log_of(base.over(node.axes)), exponent.over(node.axes))
    return Value(exp_of(scaled), node.axes, product_of(operands).unknown(), known)


def _clamp(node: Node, operands: list[Value], setting: Setting) -> Value:
    assert isinstance(node.op, pairs.Clamp)
    result = operands[0]
    for name, bound in zip(node.op.given, operands[1:], strict=True):
        result = extreme(node.axes, "max" if name == "min" else "min", result, bound, setting)
    return result


def _pair(node: Node, operands: list[Value], setting: Setting) -> Value:
    left, right = operands
    return extreme(node.axes, "max" if isinstance(node.op, pairs.Maximum) else "min", left, right, setting)


def extreme(axes: tuple[str, ...], word: str, left: Value, right: Value, setting: Setting) -> Value:
    """The larger or smaller of two values, in whichever order they stand. The smaller is -max(-x, -y)."""
    x, y = left.over(axes), right.over(axes)
    degree = (left.degree * right.degree).unknown()
    if left.known is not None and right.known is not None:
        a, b = left.known_over(axes), right.known_over(axes)
        first = a >= b if word == "max" else a <= b
        return Value(torch.where(first, x, y), axes, degree, torch.where(first, a, b))
    setting.unknowns.add("max")
    sign = 1 if word == "max" else -1
    sides = [field.unknown("max side", [reduced(sign * side)[0]])[0] for side in (x, y)]
    return Value(reduced(sign * field.unknown("max", [sides[0] + sides[1]])), axes, degree)


def _abs_of(node: Node, operands: list[Value], setting: Setting) -> Value:
    [x] = operands
    if x.known is not None:
        return Value(torch.where(x.known < 0, _negated(x.residues), x.residues), node.axes, x.degree, x.known.abs())
    setting.unknowns.add("abs")
    return Value(abs_of(x.residues), node.axes, x.degree.unknown())


def _relu(node: Node, operands: list[Value], setting: Setting) -> Value:
    [x] = operands
    if x.known is not None:
        return Value(torch.where(x.known > 0, x.residues, 0), node.axes, x.degree, x.known.clamp(min=0))
    return extreme(node.axes, "max", x, number(0), setting)


def elementwise(node: Node, operands: list[Value], setting: Setting) -> Value:
    """An unknown function of the elements at one place."""
    op = node.op
    name = f"{type(op).__name__}{sorted(attributes(op).items())}"
    setting.unknowns.add(op.spelling or type(op).__name__.lower())
    shape = torch.broadcast_shapes(*(o.over(node.axes).shape for o in operands))  # type: ignore[no-untyped-call]
    arguments = [o.over(node.axes).expand(shape)[0] for o in operands]
    return Value(field.unknown(name, arguments), node.axes, product_of(operands).unknown())


ELEMENTS: Mapping[type[Op], Rule] = {
    leaves.Input: _declared,
    leaves.Parameter: _declared,
    leaves.Buffer: _declared,
    leaves.Literal: _literal,
    leaves.Size: _size,
    leaves.Position: _position,
    arithmetic.Add: _add,
    arithmetic.Subtract: _subtract,
    arithmetic.Multiply: _arithmetic(times, lambda x, y: x * y, Degree.__mul__),
    arithmetic.Divide: _arithmetic(
        lambda x, y: times(x, inverse(y)), lambda x, y: real(x) / y, lambda x, y: x * y.inverse()
    ),
    arithmetic.Power: _power,
    arithmetic.IntegerPower: _integer_power,
    logic.And: _arithmetic(times, lambda x, y: x & y, Degree.__mul__),
    logic.Or: _arithmetic(lambda x, y: reduced(x + y - times(x, y)), lambda x, y: x | y, Degree.__mul__),
    logic.Not: _arithmetic(lambda x: reduced(1 - x), lambda x: ~x, lambda d: d),
    logic.IsNan: _arithmetic(torch.zeros_like, torch.isnan, lambda d: CONSTANT),
    logic.Where: _where,
    functions.Exp: _exp,
    functions.Log: _log,
    functions.Log1p: _log,
    functions.Softplus: _softplus,
    functions.LogSigmoid: _log_sigmoid,
    arithmetic.Negative: _negative,
    pairs.LogAddExp: _log_add_exp,
    functions.Sqrt: _sqrt,
    functions.Rsqrt: _sqrt,
    functions.Abs: _abs_of,
    functions.Relu: _relu,
    pairs.Maximum: _pair,
    pairs.Minimum: _pair,
    pairs.Clamp: _clamp,
    **dict.fromkeys(_FUNCTIONS, _function),
    **dict.fromkeys(_DECIDED, _decided),
    logic.Equal: _equal,
    logic.NotEqual: _equal,
}
