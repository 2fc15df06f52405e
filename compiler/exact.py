"""What operations mean in modular arithmetic: a graph evaluated on residues.

What is known about positions and sizes alone is also computed as it is, so that masks, windows and decays are exact:
they decide, and the rest is arithmetic. An operation without a rule here is an unknown function of all that it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction

import torch
from torch import Tensor

from . import residues as field
from .graph import Node, attributes, topological
from .ops import (
    arithmetic,
    contraction,
    cumulative,
    functions,
    layout,
    leaves,
    logic,
    normalisations,
    pairs,
    reductions,
    selection,
)
from .ops.base import Op
from .residues import inverse, reduced, times
from .sizes import Poly

MAX_ELEMENTS = 200_000


@dataclass(frozen=True)
class Degree:
    """Bounds of the degrees of a fraction of polynomials, in the inputs and in the values of unknown functions."""

    above: int = 0
    below: int = 0

    def __mul__(self, other: Degree) -> Degree:
        return Degree(self.above + other.above, self.below + other.below)

    def __add__(self, other: Degree) -> Degree:
        """Of a sum: over the common denominator."""
        return Degree(max(self.above + other.below, other.above + self.below), self.below + other.below)

    def inverse(self) -> Degree:
        return Degree(self.below, self.above)

    def repeated(self, count: int) -> Degree:
        """Of a sum of so many fractions."""
        return Degree(self.above + (count - 1) * self.below, count * self.below)

    def unknown(self) -> Degree:
        """Of an unknown value: one more variable, that also hides where arguments differ."""
        return Degree(1 + self.above + self.below)


CONSTANT = Degree()


class TooLarge(Exception):
    """A value with too many elements to be evaluated exactly."""


@dataclass(frozen=True)
class Value:
    """residues: [2, trials, *axes]. known: the value itself [*axes], where it depends on sizes and positions only.

    """

    residues: Tensor
    axes: tuple[str, ...]
    degree: Degree = CONSTANT
    known: Tensor | None = None

    def over(self, axes: Sequence[str]) -> Tensor:
        """The residues with their dimensions in the order of `axes`, length 1 where one is lacking."""
        order = [self.axes.index(axis) + 2 for axis in axes if axis in self.axes]
        lengths = [self.residues.shape[self.axes.index(a) + 2] if a in self.axes else 1 for a in axes]
        return self.residues.permute(0, 1, *order).reshape(2, field.TRIALS, *lengths)

    def known_over(self, axes: Sequence[str]) -> Tensor:
        """The same for the known value."""
        assert self.known is not None
        order = [self.axes.index(axis) for axis in axes if axis in self.axes]
        lengths = [self.known.shape[self.axes.index(a)] if a in self.axes else 1 for a in axes]
        return self.known.permute(tuple(order)).reshape(lengths)


@dataclass
class Setting:
    """What a graph is evaluated at.

    values: of inputs, parameters and buffers, by name. sizes: of axes, and constants. axes: what axes are called, so
    that two graphs speak of the same. unknowns: functions that were taken as unknown; it grows.
    """

    values: Mapping[str, Value]
    sizes: Mapping[str, float]
    axes: Mapping[str, str]
    unknowns: set[str]

    def size(self, size: Poly) -> float:
        return size.evaluate(self.sizes)

    def shape(self, axes: Sequence[str]) -> tuple[int, ...]:
        return tuple(int(self.sizes[axis]) for axis in axes)


def evaluate(outputs: Sequence[Node], setting: Setting) -> list[Value]:
    """The values of nodes. Errors: TooLarge; KeyError for a size that is not given."""
    found: dict[Node, Value] = {}
    for node in topological(outputs):
        count = 1
        for length in setting.shape(_touched(node)):
            count *= length
        if count > MAX_ELEMENTS:
            raise TooLarge
        operands = [found[operand] for operand in node.inputs]
        rule = _RULES.get(type(node.op), _elementwise if node.op.elementwise else _opaque)
        value = rule(node, operands, setting)
        assert value.axes == node.axes, node
        found[node] = value
    return [found[output] for output in outputs]


def _touched(node: Node) -> set[str]:
    """Axes that are multiplied out while a node is evaluated."""
    return {*node.axes, *(axis for operand in node.inputs for axis in operand.axes)}


Rule = Callable[[Node, list[Value], Setting], Value]


def _product_of(operands: Sequence[Value]) -> Degree:
    """The degree of a product."""
    found = CONSTANT
    for operand in operands:
        found = found * operand.degree
    return found


def _largest(operands: Sequence[Value]) -> Degree:
    """The degree of values of which each place has one."""
    return Degree(max(o.degree.above for o in operands), max(o.degree.below for o in operands))


def _all_known(operands: Sequence[Value]) -> bool:
    return all(operand.known is not None for operand in operands)


def _from_known(node: Node, known: Tensor) -> Value:
    """A value of whole numbers, or of truth values."""
    return Value(field.whole(known), node.axes, CONSTANT, known)


def _is_whole(known: Tensor) -> bool:
    return not known.is_floating_point() or bool((known == known.round()).all() and (known.abs() < 2**53).all())


# -- leaves -------------------------------------------------------------------------------------------


def _declared(node: Node, operands: list[Value], setting: Setting) -> Value:
    assert isinstance(node.op, leaves.Declared)
    return setting.values[node.op.name]


def _literal(node: Node, operands: list[Value], setting: Setting) -> Value:
    assert isinstance(node.op, leaves.Literal)
    return _number(node.op.value)


def _number(value: float) -> Value:
    known = torch.tensor(value, dtype=torch.int64 if isinstance(value, int) else torch.float64)
    if value in (float("inf"), float("-inf")):
        return Value(field.drawn(f"{value}", ()), (), CONSTANT, known)
    text = repr(value)
    if len(text) > 14 and "e" not in text:  # pi, and numbers that nobody wrote
        return Value(field.drawn(text, ()), (), CONSTANT, known)
    return Value(field.number(Fraction(text)), (), CONSTANT, known)


def _size(node: Node, operands: list[Value], setting: Setting) -> Value:
    assert isinstance(node.op, leaves.Size)
    value = setting.size(node.op.size)
    return _number(int(value) if value == int(value) else value)


def _position(node: Node, operands: list[Value], setting: Setting) -> Value:
    assert isinstance(node.op, leaves.Position)
    return _from_known(node, torch.arange(int(setting.sizes[node.op.axis])))


# -- element by element -------------------------------------------------------------------------------


def _arithmetic(
    residues: Callable[..., Tensor], known: Callable[..., Tensor], degree: Callable[..., Degree]
) -> Rule:
    def rule(node: Node, operands: list[Value], setting: Setting) -> Value:
        exact = known(*(o.known_over(node.axes) for o in operands)) if _all_known(operands) else None
        found = residues(*(o.over(node.axes) for o in operands))
        return Value(found, node.axes, degree(*(o.degree for o in operands)), exact)

    return rule


def _real(value: Tensor) -> Tensor:
    return value if value.is_floating_point() else value.to(torch.float64)


def _negated(value: Tensor) -> Tensor:
    return reduced(-value)


def _one(like: Tensor) -> Tensor:
    return torch.ones((), dtype=torch.int64)


def _exp(x: Tensor) -> Tensor:
    return field.exponential(x)


def _log(x: Tensor) -> Tensor:
    return field.unknown("log", [x[0]])


def _sigmoid(x: Tensor) -> Tensor:
    return inverse(reduced(1 + _exp(_negated(x))))


def _tanh(x: Tensor) -> Tensor:
    square = _exp(reduced(x + x))
    return times(reduced(square - 1), inverse(reduced(square + 1)))


def _root(x: Tensor) -> Tensor:
    return field.unknown("sqrt", [x[0]])


def _abs(x: Tensor) -> Tensor:
    return field.unknown("abs", [times(x, x)[0]])


def _cosh(x: Tensor) -> Tensor:
    ahead = _exp(x)
    return times(reduced(ahead + inverse(ahead)), inverse(torch.full_like(x, 2)))


def _sinh(x: Tensor) -> Tensor:
    ahead = _exp(x)
    return times(reduced(ahead - inverse(ahead)), inverse(torch.full_like(x, 2)))


def _ratio(degree: Degree) -> Degree:
    """Of a quotient of exponentials of one value."""
    found = degree.unknown()
    return Degree(2 * found.above, 2 * found.above)


#: residues of the result from those of the operand, the name under which it is unknown, if it is, and its degree
_FUNCTIONS: dict[type[Op], tuple[Callable[[Tensor], Tensor], str, Callable[[Degree], Degree]]] = {
    functions.Square: (lambda x: times(x, x), "", lambda d: d * d),
    functions.Reciprocal: (inverse, "", Degree.inverse),
    functions.Exp: (_exp, "", Degree.unknown),
    functions.Expm1: (lambda x: reduced(_exp(x) - 1), "", Degree.unknown),
    functions.Log: (_log, "log", Degree.unknown),
    functions.Log1p: (lambda x: _log(reduced(x + 1)), "log", Degree.unknown),
    functions.Sin: (lambda x: field.circular(x)[1], "", Degree.unknown),
    functions.Cos: (lambda x: field.circular(x)[0], "", Degree.unknown),
    functions.Tan: (lambda x: times(field.circular(x)[1], inverse(field.circular(x)[0])), "", _ratio),
    functions.Sinh: (_sinh, "", _ratio),
    functions.Cosh: (_cosh, "", _ratio),
    functions.Tanh: (_tanh, "", _ratio),
    functions.Sigmoid: (_sigmoid, "", _ratio),
    functions.LogSigmoid: (lambda x: _log(_sigmoid(x)), "log", Degree.unknown),
    functions.Softplus: (lambda x: _log(reduced(1 + _exp(x))), "log", Degree.unknown),
    functions.Silu: (lambda x: times(x, _sigmoid(x)), "", lambda d: d * _ratio(d)),
    functions.Softsign: (lambda x: times(x, inverse(reduced(1 + _abs(x)))), "abs", lambda d: d * _ratio(d)),
    functions.StopGradient: (lambda x: x, "", lambda d: d),
    arithmetic.Negative: (_negated, "", lambda d: d),
}
#: the same on numbers that are known
_KNOWN: dict[type[Op], Callable[[Tensor], Tensor]] = {
    functions.Square: lambda x: x * x,
    functions.Exp: lambda x: _real(x).exp(),
    functions.Log: lambda x: _real(x).log(),
    functions.Sin: lambda x: _real(x).sin(),
    functions.Cos: lambda x: _real(x).cos(),
    functions.StopGradient: lambda x: x,
    arithmetic.Negative: lambda x: -x,
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
    if _all_known(operands):
        known = _DECIDED[type(node.op)](*(o.known_over(node.axes) for o in operands))
        if _is_whole(known):
            return _from_known(node, known)
    if type(node.op) in _COMPARED and not _all_known(operands):
        return _compared(node, operands, setting)
    return _elementwise(node, operands, setting)


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
    return Value(reduced(1 - truth) if negate else truth, node.axes, (operands[0].degree + operands[1].degree).unknown())


def _equal(node: Node, operands: list[Value], setting: Setting) -> Value:
    if _all_known(operands):
        return _decided(node, operands, setting)
    setting.unknowns.add("comparison")
    x, y = (o.over(node.axes) for o in operands)
    difference = reduced(x - y)
    truth = field.unknown("equal", [times(difference, difference)[0]])
    degree = (operands[0].degree + operands[1].degree).unknown()
    return Value(reduced(1 - truth) if isinstance(node.op, logic.NotEqual) else truth, node.axes, degree)


def _where(node: Node, operands: list[Value], setting: Setting) -> Value:
    condition, x, y = (o.over(node.axes) for o in operands)
    value = reduced(times(condition, x) + times(reduced(1 - condition), y))
    known = torch.where(*(o.known_over(node.axes) for o in operands)) if _all_known(operands) else None
    chosen, *others = (o.degree for o in operands)
    return Value(value, node.axes, chosen * others[0] + chosen * others[1], known)


def _sqrt(node: Node, operands: list[Value], setting: Setting) -> Value:
    found = _root_of(operands[0], setting)
    return _inverse_of(found) if isinstance(node.op, functions.Rsqrt) else found


def _root_of(x: Value, setting: Setting) -> Value:
    found = None
    if x.known is not None and not x.axes and _is_whole(x.known):
        found = field.root(int(x.known.item()))
    if found is None:
        setting.unknowns.add("sqrt")
        found = _root(x.residues)
    known = None if x.known is None else _real(x.known).sqrt()
    return Value(found, x.axes, x.degree.unknown(), known)


def _inverse_of(x: Value) -> Value:
    return Value(inverse(x.residues), x.axes, x.degree.inverse(), None if x.known is None else 1 / x.known)


def _integer_power(node: Node, operands: list[Value], setting: Setting) -> Value:
    [x] = operands
    assert isinstance(node.op, arithmetic.IntegerPower)
    exponent = node.op.exponent
    parts = [field.power(x.residues[i], torch.tensor(exponent), modulus) for i, modulus in enumerate(field.MODULI)]
    known = None if x.known is None else x.known**exponent
    return Value(torch.stack(parts), node.axes, Degree(x.degree.above * exponent, x.degree.below * exponent), known)


def _power(node: Node, operands: list[Value], setting: Setting) -> Value:
    """A fixed whole exponent is a product; any other acts on an unknown logarithm of the base."""
    base, exponent = operands
    known = None
    if _all_known(operands):
        known = torch.pow(*(_real(o.known_over(node.axes)) for o in operands))
    if exponent.known is not None and not exponent.axes and _is_whole(exponent.known):
        count = int(exponent.known.item())
        parts = [
            field.power(base.residues[i], torch.tensor(count % (modulus - 1)), modulus)
            for i, modulus in enumerate(field.MODULI)
        ]
        degree = base.degree if count >= 0 else base.degree.inverse()
        degree = Degree(degree.above * abs(count), degree.below * abs(count))
        return Value(torch.stack(parts), node.axes, degree, known)
    if exponent.known is not None and not exponent.axes and abs(exponent.known.item()) == 0.5:
        found = _root_of(base, setting)
        return found if exponent.known.item() > 0 else _inverse_of(found)
    setting.unknowns.add("log")
    scaled = times(_log(base.over(node.axes)), exponent.over(node.axes))
    return Value(_exp(scaled), node.axes, _product_of(operands).unknown(), known)


def _clamp(node: Node, operands: list[Value], setting: Setting) -> Value:
    assert isinstance(node.op, pairs.Clamp)
    result = operands[0]
    for name, bound in zip(node.op.given, operands[1:], strict=True):
        result = _extreme(node.axes, "max" if name == "min" else "min", result, bound, setting)
    return result


def _pair(node: Node, operands: list[Value], setting: Setting) -> Value:
    return _extreme(node.axes, "max" if isinstance(node.op, pairs.Maximum) else "min", *operands, setting)


def _extreme(axes: tuple[str, ...], word: str, left: Value, right: Value, setting: Setting) -> Value:
    """The larger or smaller of two values, in whichever order they stand."""
    x, y = left.over(axes), right.over(axes)
    degree = (left.degree * right.degree).unknown()
    if left.known is not None and right.known is not None:
        a, b = left.known_over(axes), right.known_over(axes)
        first = a >= b if word == "max" else a <= b
        return Value(torch.where(first, x, y), axes, degree, torch.where(first, a, b))
    setting.unknowns.add(word)
    both = sum(field.unknown(f"{word} side", [side[0]])[0] for side in torch.broadcast_tensors(x, y))
    assert isinstance(both, Tensor)
    return Value(field.unknown(word, [both % field.P]), axes, degree)


def _abs_of(node: Node, operands: list[Value], setting: Setting) -> Value:
    [x] = operands
    if x.known is not None:
        return Value(torch.where(x.known < 0, _negated(x.residues), x.residues), node.axes, x.degree, x.known.abs())
    setting.unknowns.add("abs")
    return Value(_abs(x.residues), node.axes, x.degree.unknown())


def _relu(node: Node, operands: list[Value], setting: Setting) -> Value:
    [x] = operands
    if x.known is not None:
        return Value(torch.where(x.known > 0, x.residues, 0), node.axes, x.degree, x.known.clamp(min=0))
    return _elementwise(node, operands, setting)


def _elementwise(node: Node, operands: list[Value], setting: Setting) -> Value:
    """An unknown function of the elements at one place."""
    op = node.op
    name = f"{type(op).__name__}{sorted(attributes(op).items())}"
    setting.unknowns.add(op.spelling or type(op).__name__.lower())
    shape = torch.broadcast_shapes(*(o.over(node.axes).shape for o in operands))
    arguments = [o.over(node.axes).expand(shape)[0] for o in operands]
    return Value(field.unknown(name, arguments), node.axes, _product_of(operands).unknown())


# -- sums and statistics ------------------------------------------------------------------------------


def _total(value: Value, axes: Sequence[str]) -> Value:
    """The sum over axes."""
    rest = tuple(axis for axis in value.axes if axis not in axes)
    dims = tuple(value.axes.index(axis) + 2 for axis in axes)
    count = 1
    for dim in dims:
        count *= value.residues.shape[dim]
    known = None if value.known is None else value.known.sum(tuple(dim - 2 for dim in dims))
    return Value(reduced(value.residues.sum(dims)), rest, value.degree.repeated(count), known)


def _mean(value: Value, axes: Sequence[str]) -> Value:
    count = 1
    for axis in axes:
        count *= value.residues.shape[value.axes.index(axis) + 2]
    total = _total(value, axes)
    scale = field.number(Fraction(1, count)).reshape(2, field.TRIALS, *([1] * len(total.axes)))
    known = None if total.known is None else _real(total.known) / count
    return Value(times(total.residues, scale), total.axes, total.degree, known)


def _product(left: Value, right: Value, axes: tuple[str, ...]) -> Value:
    residues = times(left.over(axes), right.over(axes))
    known = left.known_over(axes) * right.known_over(axes) if _all_known((left, right)) else None
    return Value(residues, axes, left.degree * right.degree, known)


def _over(left: Value, right: Value) -> Value:
    """A quotient that has the axes of the left side."""
    residues = times(left.residues, inverse(right.over(left.axes)))
    return Value(residues, left.axes, left.degree * right.degree.inverse())


def _minus(left: Value, right: Value) -> Value:
    residues = reduced(left.residues - right.over(left.axes))
    return Value(residues, left.axes, left.degree + right.degree)


def _square(value: Value) -> Value:
    return Value(times(value.residues, value.residues), value.axes, value.degree * value.degree)


def _rooted(value: Value, setting: Setting) -> Value:
    setting.unknowns.add("sqrt")
    return Value(_root(value.residues), value.axes, value.degree.unknown())


def _plus(value: Value, number: float) -> Value:
    added = _number(number).residues.reshape(2, field.TRIALS, *([1] * len(value.axes)))
    return Value(reduced(value.residues + added), value.axes, value.degree)


def _contraction(node: Node, operands: list[Value], setting: Setting) -> Value:
    assert isinstance(node.op, contraction.Contraction)
    whole = _product(operands[0], operands[1], (*node.axes, *node.op.axes))
    return _total(whole, node.op.axes) if node.op.axes else whole


def _variance(value: Value, axes: Sequence[str], ddof: int = 0) -> Value:
    total = _total(_square(_minus(value, _mean(value, axes))), axes)
    count = -ddof + torch.Size([value.residues.shape[value.axes.index(a) + 2] for a in axes]).numel()
    scale = field.number(Fraction(1, count) if count else Fraction(0))
    return Value(
        times(total.residues, scale.reshape(2, field.TRIALS, *([1] * len(total.axes)))), total.axes, total.degree
    )


def _reduction(node: Node, operands: list[Value], setting: Setting) -> Value:
    [x] = operands
    op = node.op
    assert isinstance(op, reductions.Reduction)
    match op:
        case reductions.Sum():
            return _total(x, op.axes)
        case reductions.Mean():
            return _mean(x, op.axes)
        case reductions.StandardDeviation():
            return _rooted(_variance(x, op.axes, int(setting.size(op.ddof))), setting)
        case reductions.Variance():
            return _variance(x, op.axes, int(setting.size(op.ddof)))
        case reductions.Norm():
            return _rooted(_total(_square(x), op.axes), setting)
        case reductions.LogSumExp():
            total = _total(Value(_exp(x.residues), x.axes, x.degree.unknown()), op.axes)
            setting.unknowns.add("log")
            return Value(_log(total.residues), total.axes, total.degree.unknown())
        case reductions.Product() | reductions.All():
            return Value(_factors(x.residues, x, op.axes), node.axes, _power_of(x, op.axes))
        case reductions.Any():
            none = _factors(reduced(1 - x.residues), x, op.axes)
            return Value(reduced(1 - none), node.axes, _power_of(x, op.axes))
        case reductions.Max() | reductions.Min() if x.known is not None:
            dims = tuple(x.axes.index(axis) for axis in op.axes)
            known = x.known.amax(dims) if isinstance(op, reductions.Max) else x.known.amin(dims)
            if _is_whole(known):
                return _from_known(node, known)
    setting.unknowns.add(op.spelling)
    sides = field.unknown(f"{op.spelling} side", [x.residues[0]])[:1]
    total = Value(sides.expand(2, *sides.shape[1:]), x.axes, x.degree.unknown())
    return Value(field.unknown(op.spelling, [_total(total, op.axes).residues[0]]), node.axes, x.degree.unknown())


def _power_of(x: Value, axes: Sequence[str]) -> Degree:
    """The degree of a product along axes."""
    count = torch.Size([x.residues.shape[x.axes.index(axis) + 2] for axis in axes]).numel()
    return Degree(x.degree.above * count, x.degree.below * count)


def _factors(residues: Tensor, like: Value, axes: Sequence[str]) -> Tensor:
    """The product along axes."""
    dims = sorted((like.axes.index(axis) + 2 for axis in axes), reverse=True)
    for dim in dims:
        result = residues.select(dim, 0)
        for place in range(1, residues.shape[dim]):
            result = times(result, residues.select(dim, place))
        residues = result
    return residues


def _normalisation(node: Node, operands: list[Value], setting: Setting) -> Value:
    op = node.op
    assert isinstance(op, normalisations.Normalisation)
    x, axes = operands[0], op.axes
    match op:
        case normalisations.Softmax():
            result = Value(_exp(x.residues), x.axes, x.degree.unknown())
            for mask in operands[1:]:
                result = _product(result, mask, node.axes)
            return _over(result, _total(result, axes))
        case normalisations.LogSoftmax():
            total = _total(Value(_exp(x.residues), x.axes, x.degree.unknown()), axes)
            setting.unknowns.add("log")
            return _minus(x, Value(_log(total.residues), total.axes, total.degree.unknown()))
        case normalisations.L1Normalize():
            setting.unknowns.add("abs")
            total = _total(Value(_abs(x.residues), x.axes, x.degree.unknown()), axes)
            return _over(x, _extreme(total.axes, "max", total, _number(setting.size(op.eps)), setting))
        case normalisations.L2Normalize():
            length = _rooted(_total(_square(x), axes), setting)
            return _over(x, _extreme(length.axes, "max", length, _number(setting.size(op.eps)), setting))
        case normalisations.LayerNorm():
            spread = _rooted(_plus(_variance(x, axes), setting.size(op.eps)), setting)
            result = _over(_minus(x, _mean(x, axes)), spread)
        case normalisations.RmsNorm():
            result = _over(x, _rooted(_plus(_mean(_square(x), axes), setting.size(op.eps)), setting))
        case _:
            return _opaque(node, operands, setting)
    so_far = result.axes
    for name, operand in zip(op.given, operands[1:], strict=True):
        so_far = node.axes if set(so_far) != {*so_far, *operand.axes} else so_far
        left, right = result.over(so_far), operand.over(so_far)
        residues = times(left, right) if name == "gain" else reduced(left + right)
        degree = result.degree * operand.degree if name == "gain" else result.degree + operand.degree
        result = Value(residues, so_far, degree)
    return Value(result.over(node.axes), node.axes, result.degree)


def _running(node: Node, operands: list[Value], setting: Setting) -> Value:
    [x] = operands
    assert isinstance(node.op, cumulative.Cumulative)
    dim = node.axes.index(node.op.axis)
    known = None if x.known is None else x.known.cumsum(dim)
    degree = x.degree.repeated(x.residues.shape[dim + 2])
    return Value(reduced(x.residues.cumsum(dim + 2)), node.axes, degree, known)


# -- layout -------------------------------------------------------------------------------------------


def _moved(change: Callable[[Tensor, tuple[str, ...], Node, Setting], Tensor]) -> Rule:
    """An operation that only moves elements: the same on residues and on known values.

    change: takes a tensor whose last dimensions are the operand's axes.
    """

    def rule(node: Node, operands: list[Value], setting: Setting) -> Value:
        [x] = operands
        known = None if x.known is None else change(x.known, x.axes, node, setting)
        return Value(change(x.residues, x.axes, node, setting), node.axes, x.degree, known)

    return rule


def _dim(axes: Sequence[str], axis: str) -> int:
    return axes.index(axis) - len(axes)


def _ordered(tensor: Tensor, axes: Sequence[str], wanted: Sequence[str]) -> Tensor:
    front = tensor.ndim - len(axes)
    return tensor.permute(tuple([*range(front), *(front + axes.index(axis) for axis in wanted)]))


def _reorder(tensor: Tensor, axes: tuple[str, ...], node: Node, setting: Setting) -> Tensor:
    return _ordered(tensor, axes, node.axes)


def _same(tensor: Tensor, axes: tuple[str, ...], node: Node, setting: Setting) -> Tensor:
    return tensor


def _repeated(tensor: Tensor, axes: tuple[str, ...], node: Node, setting: Setting) -> Tensor:
    front = tensor.shape[: tensor.ndim - len(axes)]
    lengths = [setting.shape((axis,))[0] if axis in axes else 1 for axis in node.axes]
    kept = [axis for axis in node.axes if axis in axes]
    return _ordered(tensor, axes, kept).reshape(*front, *lengths).expand(*front, *setting.shape(node.axes))


def _split(tensor: Tensor, axes: tuple[str, ...], node: Node, setting: Setting) -> Tensor:
    op = node.op
    assert isinstance(op, layout.Split)
    return tensor.unflatten(_dim(axes, op.source), setting.shape(op.targets))


def _merge(tensor: Tensor, axes: tuple[str, ...], node: Node, setting: Setting) -> Tensor:
    op = node.op
    assert isinstance(op, layout.Merge)
    at = node.axes.index(op.target)
    order = (*node.axes[:at], *op.sources, *node.axes[at + 1 :])
    front = tensor.shape[: tensor.ndim - len(axes)]
    return _ordered(tensor, axes, order).reshape(*front, *setting.shape(node.axes))


def _slice(tensor: Tensor, axes: tuple[str, ...], node: Node, setting: Setting) -> Tensor:
    op = node.op
    assert isinstance(op, selection.Slice)
    count = setting.shape((op.target,))[0]
    places = int(setting.size(op.start)) + int(setting.size(op.stride)) * torch.arange(count)
    return tensor.index_select(_dim(axes, op.source), places)


def _shift(tensor: Tensor, axes: tuple[str, ...], node: Node, setting: Setting) -> Tensor:
    op = node.op
    assert isinstance(op, selection.Shift)
    return _picked(tensor, _dim(axes, op.axis), torch.arange(setting.shape((op.axis,))[0]) - int(setting.size(op.by)))


def _roll(tensor: Tensor, axes: tuple[str, ...], node: Node, setting: Setting) -> Tensor:
    op = node.op
    assert isinstance(op, selection.Roll)
    return tensor.roll(int(setting.size(op.by)), _dim(axes, op.axis))


def _picked(tensor: Tensor, dim: int, places: Tensor) -> Tensor:
    """The elements at places along a dimension, 0 for places outside."""
    length = tensor.shape[dim]
    inside = (places >= 0) & (places < length)
    found = tensor.index_select(dim, places.clamp(0, length - 1))
    return found * inside.reshape(-1, *([1] * (-dim - 1))).to(found.dtype)


def _concat(node: Node, operands: list[Value], setting: Setting) -> Value:
    op = node.op
    assert isinstance(op, selection.Concat)
    names = [
        tuple(op.target if axis == source else axis for axis in operand.axes)
        for source, operand in zip(op.sources, operands, strict=True)
    ]
    dim = node.axes.index(op.target)
    parts = []
    for operand, axes in zip(operands, names, strict=True):
        wanted = list(setting.shape(node.axes))
        wanted[dim] = operand.residues.shape[axes.index(op.target) + 2]
        parts.append(Value(operand.residues, axes).over(node.axes).expand(2, field.TRIALS, *wanted))
    return Value(torch.cat(parts, dim + 2), node.axes, _largest(operands))


def _take(node: Node, operands: list[Value], setting: Setting) -> Value:
    """A table read at known places."""
    op = node.op
    assert isinstance(op, selection.Take)
    table, places = operands
    if places.known is None or set(places.axes) & {axis for axis in table.axes if axis != op.axis}:
        return _opaque(node, operands, setting)
    dim = table.axes.index(op.axis)
    flat = places.known.reshape(-1)
    order = (*table.axes[:dim], *places.axes, *table.axes[dim + 1 :])

    def read(tensor: Tensor, front: int) -> Tensor:
        found = tensor.index_select(front + dim, flat)
        shape = (*found.shape[: front + dim], *places.known.shape, *found.shape[front + dim + 1 :])  # type: ignore[union-attr]
        return _ordered(found.reshape(shape), order, node.axes)

    known = None if table.known is None else read(table.known, 0)
    return Value(read(table.residues, 2), node.axes, table.degree, known)


def _opaque(node: Node, operands: list[Value], setting: Setting) -> Value:
    """An unknown function of everything that the operation reads, at every place of the result."""
    op = node.op
    setting.unknowns.add(op.spelling or getattr(op, "kernel", "") or type(op).__name__.lower())

    def named(value: object) -> object:
        if isinstance(value, list):
            return [named(item) for item in value]
        return setting.axes.get(value, value) if isinstance(value, str) else value

    stated = {f.name: named(attributes(op)[f.name]) for f in fields(op) if f.name != "result"}
    digests = []
    for operand in operands:
        order = sorted(operand.axes, key=lambda axis: setting.axes.get(axis, axis))
        flat = operand.over(order)[0].reshape(field.TRIALS, -1)
        places = torch.arange(flat.shape[1]).expand_as(flat)
        digests.append(field.unknown("content", [flat, places])[0].sum(1) % field.P)
    order = sorted(node.axes, key=lambda axis: setting.axes.get(axis, axis))
    shape = setting.shape(order)
    count = torch.Size(shape).numel()
    places = torch.arange(count).reshape(1, *shape).expand(field.TRIALS, *shape)
    arguments = [d.reshape(field.TRIALS, *([1] * len(shape))).expand(field.TRIALS, *shape) for d in digests]
    made = field.unknown(f"{type(op).__name__}{sorted(stated.items(), key=str)}", [places, *arguments])
    degree = _product_of(operands).unknown()
    return Value(Value(made, tuple(order)).over(node.axes), node.axes, degree)


_RULES: dict[type[Op], Rule] = {
    leaves.Input: _declared,
    leaves.Parameter: _declared,
    leaves.Buffer: _declared,
    leaves.Literal: _literal,
    leaves.Size: _size,
    leaves.Position: _position,
    arithmetic.Add: _arithmetic(lambda x, y: reduced(x + y), lambda x, y: x + y, Degree.__add__),
    arithmetic.Subtract: _arithmetic(lambda x, y: reduced(x - y), lambda x, y: x - y, Degree.__add__),
    arithmetic.Multiply: _arithmetic(times, lambda x, y: x * y, Degree.__mul__),
    arithmetic.Divide: _arithmetic(
        lambda x, y: times(x, inverse(y)), lambda x, y: _real(x) / y, lambda x, y: x * y.inverse()
    ),
    arithmetic.Power: _power,
    arithmetic.IntegerPower: _integer_power,
    logic.And: _arithmetic(times, lambda x, y: x & y, Degree.__mul__),
    logic.Or: _arithmetic(lambda x, y: reduced(x + y - times(x, y)), lambda x, y: x | y, Degree.__mul__),
    logic.Not: _arithmetic(lambda x: reduced(1 - x), lambda x: ~x, lambda d: d),
    logic.IsNan: _arithmetic(torch.zeros_like, torch.isnan, lambda d: CONSTANT),
    logic.Where: _where,
    functions.Sqrt: _sqrt,
    functions.Rsqrt: _sqrt,
    functions.Abs: _abs_of,
    functions.Relu: _relu,
    pairs.Maximum: _pair,
    pairs.Minimum: _pair,
    pairs.Clamp: _clamp,
    contraction.Contraction: _contraction,
    cumulative.CumulativeSum: _running,
    layout.Reorder: _moved(_reorder),
    layout.Rename: _moved(_same),
    layout.Convert: _moved(_same),
    layout.Broadcast: _moved(_repeated),
    layout.Split: _moved(_split),
    layout.Merge: _moved(_merge),
    selection.Slice: _moved(_slice),
    selection.Shift: _moved(_shift),
    selection.Roll: _moved(_roll),
    selection.Concat: _concat,
    selection.Take: _take,
    **dict.fromkeys(_FUNCTIONS, _function),
    **dict.fromkeys(_DECIDED, _decided),
    logic.Equal: _equal,
    logic.NotEqual: _equal,
    **dict.fromkeys(
        (
            reductions.Sum, reductions.Mean, reductions.Variance, reductions.StandardDeviation, reductions.Norm,
            reductions.LogSumExp, reductions.Product, reductions.All, reductions.Any, reductions.Max, reductions.Min,
        ),
        _reduction,
    ),
    **dict.fromkeys(
        (
            normalisations.Softmax, normalisations.LogSoftmax, normalisations.L1Normalize, normalisations.L2Normalize,
            normalisations.LayerNorm, normalisations.RmsNorm,
        ),
        _normalisation,
    ),
}  # fmt: skip
