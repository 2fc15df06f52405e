"""Graphs read as sums of products: what every operation means for all sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction

from ..graph import Node, topological
from ..ops import (
    arithmetic,
    contraction,
    cumulative,
    functions,
    layout,
    leaves,
    logic,
    normalisations,
    reductions,
    selection,
)
from ..ops.base import Op
from ..scan import Part, Scan
from ..sizes import Poly
from ..types import Kind
from .sums import (
    ONE,
    Atom,
    Declined,
    Form,
    add,
    bind,
    exponential,
    factor,
    fresh,
    multiply,
    number,
    power,
    scale_out,
    scaled,
    subtract,
)

MAX_NODES = 400
HALF = Fraction(1, 2)


@dataclass
class Reader:
    """Reads one formula.

    size: a size as both formulas see it. name: what an axis is called. given: the names of inputs, parameters and
    buffers, and of their axes.
    """

    size: Callable[[Poly], Poly]
    name: Callable[[str], str]
    given: Mapping[str, tuple[str, tuple[str, ...]]]
    positive: Callable[[Node], bool] | None = None
    found: dict[Node, Form] = field(default_factory=dict)

    def read(self, outputs: Sequence[Node]) -> list[Form]:
        """A form for each output. Errors: Declined."""
        nodes = topological(outputs)
        if len(nodes) > MAX_NODES:
            raise Declined
        for node in nodes:
            self.found[node] = self._form(node)
        return [self.found[output] for output in outputs]

    def count(self, size: Poly) -> Form:
        """A size as a number."""
        terms = []
        for monomial, value in self.size(size).terms.items():
            atoms = (factor(Atom(f"size {name}", holds="positive"), exponent) for name, exponent in monomial)
            terms.append(scaled(multiply(*atoms), Fraction(value)))
        return add(*terms)

    def total(self, form: Form, axes: Sequence[str]) -> Form:
        for axis in axes:
            size = Poly.symbol(axis)
            form = bind(form, self.name(axis), str(self.size(size)), self.count(size))
        return form

    def mean(self, form: Form, axes: Sequence[str]) -> Form:
        return multiply(self.total(form, axes), power(self.count(Poly.volume(axes)), Fraction(-1)))

    def _form(self, node: Node) -> Form:
        op = node.op
        operands = [self.found[operand] for operand in node.inputs]
        match op:
            case leaves.Declared():
                holds = "truth" if node.type.kind is Kind.BOOL else ""
                name, axes = self.given[op.name]
                return factor(Atom(f"value {name}", axes, holds=holds))
            case leaves.Literal():
                return _literal(op.value)
            case leaves.Size():
                return self.count(op.size)
            case leaves.Position():
                return factor(Atom("position", (self.name(op.axis),)))
            case layout.Reorder() | layout.Broadcast() | functions.StopGradient():
                return operands[0]
            case layout.Convert():
                return operands[0]
            case layout.Rename():
                return operands[0].renamed({self.name(op.source): self.name(op.target)})
            case arithmetic.Add():
                return add(*operands)
            case arithmetic.Subtract():
                return subtract(*operands)
            case arithmetic.Negative():
                return scaled(operands[0], -1)
            case arithmetic.Multiply() | logic.And():
                return multiply(*operands)
            case arithmetic.Divide():
                positive = self.positive is not None and self.positive(node.inputs[1])
                return multiply(operands[0], power(operands[1], Fraction(-1), positive=positive))
            case functions.Reciprocal():
                return power(operands[0], Fraction(-1))
            case functions.Square():
                return power(operands[0], Fraction(2))
            case arithmetic.IntegerPower():
                return power(operands[0], Fraction(op.exponent))
            case functions.Sqrt() if node.type.kind is Kind.REAL:
                return power(operands[0], HALF)
            case functions.Rsqrt() if node.type.kind is Kind.REAL:
                return power(operands[0], -HALF)
            case arithmetic.Power() if _is_number(operands[1]):
                return power(operands[0], operands[1].terms[0][1] if operands[1].terms else Fraction(0))
            case functions.Exp() if node.type.kind is Kind.REAL:
                return self._exponential(node.inputs[0])
            case functions.Sigmoid():
                return _sigmoid(operands[0])
            case functions.Silu():
                return multiply(operands[0], _sigmoid(operands[0]))
            case functions.Tanh():
                ahead = exponential(scaled(operands[0], 2))
                return multiply(subtract(ahead, ONE), power(add(ahead, ONE), Fraction(-1)))
            case functions.Log() if node.type.kind is Kind.REAL:
                return factor(Atom("log", (), (operands[0],)))
            case functions.Cos() | functions.Sin() if node.type.kind is Kind.REAL:
                return _circular(operands[0])[isinstance(op, functions.Sin)]
            case contraction.Contraction() | reductions.Sum() if self.positive is not None and _is_one(node):
                return ONE
            case contraction.Contraction():
                return self.total(multiply(*operands), op.axes)
            case selection.Take() if self.name(op.axis) not in operands[0].free:
                return operands[0]
            case reductions.Sum():
                return self.total(operands[0], op.axes)
            case reductions.Mean():
                return self.mean(operands[0], op.axes)
            case logic.IsNan() if self.positive is not None:
                return number(0)
            case reductions.Norm() | normalisations.L2Normalize() if self.positive is not None:
                length = self._scaled("length", operands[0], op.axes)
                if isinstance(op, reductions.Norm):
                    return length
                return multiply(operands[0], power(length, Fraction(-1)))
            case reductions.StandardDeviation() if self.positive is not None:
                return self._scaled(f"deviation {self.size(op.ddof)}", operands[0], op.axes)
            case reductions.Norm():
                return power(self.total(multiply(operands[0], operands[0]), op.axes), HALF)
            case reductions.LogSumExp():
                return factor(Atom("log", (), (self.total(self._exponential(node.inputs[0]), op.axes),)))
            case reductions.Variance() if not op.ddof:
                return self._variance(operands[0], op.axes)
            case cumulative.CumulativeSum():
                return self._running(operands[0], op.axis)
            case normalisations.Softmax():
                given = dict(zip(op.given, range(1, len(operands)), strict=True))
                weights = self._exponential(node.inputs[0])
                if "mask" in given:
                    weights = multiply(weights, operands[given["mask"]])
                total = self.total(weights, op.axes)
                if "sink" in given:
                    total = add(total, self._exponential(node.inputs[given["sink"]]))
                return multiply(weights, power(total, Fraction(-1)))
            case normalisations.LayerNorm():
                x = operands[0]
                eps = self.count(op.eps)
                spread = power(add(self._variance(x, op.axes), eps), -HALF)
                return self._fitted(op, multiply(subtract(x, self.mean(x, op.axes)), spread), operands[1:])
            case normalisations.RmsNorm():
                x = operands[0]
                spread = power(add(self.mean(multiply(x, x), op.axes), self.count(op.eps)), -HALF)
                return self._fitted(op, multiply(x, spread), operands[1:])
            case logic.Or():
                both = multiply(*operands)
                return subtract(add(*operands), both)
            case logic.Not():
                return subtract(ONE, operands[0])
            case logic.Where():
                condition, x, y = operands
                return add(multiply(condition, x), multiply(subtract(ONE, condition), y))
            case logic.Equal() | logic.NotEqual() if _ordered(node):
                same = _same(subtract(*operands))
                return same if isinstance(op, logic.Equal) else subtract(ONE, same)
            case logic.GreaterEqual() | logic.Greater() | logic.LessEqual() | logic.Less():
                return self._compared(node, operands)
        return self._opaque(node, operands)

    def _scaled(self, name: str, form: Form, axes: Sequence[str]) -> Form:
        """A positive value along axes that takes a positive factor along."""
        outer = [self.name(axis) for axis in axes]
        outside, inside = scale_out(form, outer)
        inner = {axis: fresh(axis) for axis in outer}
        sizes = [str(self.size(Poly.symbol(axis))) for axis in axes]
        atom = Atom(f"{name} {sizes}", (), (inside.renamed(inner),), tuple(inner.values()), "positive")
        return multiply(outside, factor(atom))

    def _fitted(self, op: normalisations.LayerNorm | normalisations.RmsNorm, form: Form, given: list[Form]) -> Form:
        for name, operand in zip(op.given, given, strict=True):
            form = multiply(form, operand) if name == "gain" else add(form, operand)
        return form

    def _variance(self, x: Form, axes: Sequence[str]) -> Form:
        mean = self.mean(x, axes)
        return subtract(self.mean(multiply(x, x), axes), multiply(mean, mean))

    def _running(self, x: Form, axis: str) -> Form:
        own, other = self.name(axis), fresh(axis)
        before = _at_least_zero(_difference(own, other), whole=True)
        size = Poly.symbol(axis)
        moved = multiply(before, x.renamed({own: other}))
        return bind(moved, other, str(self.size(size)), self.count(size))

    def _exponential(self, node: Node) -> Form:
        """e to a node, which may be -inf where a condition does not hold."""
        op = node.op
        if isinstance(op, logic.Where):
            condition, x, y = node.inputs
            held = self.found[condition]
            for own, other, chosen in ((x, y, held), (y, x, subtract(ONE, held))):
                if isinstance(other.op, leaves.Literal) and other.op.value == -math.inf:
                    return multiply(chosen, self._exponential(own))
        if isinstance(op, arithmetic.Add):
            return multiply(*map(self._exponential, node.inputs))
        if isinstance(op, layout.Rename):
            return self._exponential(node.inputs[0]).renamed({self.name(op.source): self.name(op.target)})
        if isinstance(op, layout.Reorder | layout.Broadcast):
            return self._exponential(node.inputs[0])
        return exponential(self.found[node])

    def _compared(self, node: Node, operands: list[Form]) -> Form:
        whole = all(operand.type.kind is Kind.INT for operand in node.inputs)
        left, right = operands
        match node.op:
            case logic.GreaterEqual():
                return _at_least_zero(subtract(left, right), whole)
            case logic.LessEqual():
                return _at_least_zero(subtract(right, left), whole)
            case logic.Greater():
                return subtract(ONE, _at_least_zero(subtract(right, left), whole))
        return subtract(ONE, _at_least_zero(subtract(left, right), whole))

    def _opaque(self, node: Node, operands: list[Form]) -> Form:
        """A function of what the operation reads: along its own axes as a whole, else at each place."""
        op = node.op
        if isinstance(op, Scan | Part) or node.type.kind is Kind.COMPLEX:
            raise Declined
        own = _axes_of(op)
        inner = {axis: fresh(axis) for axis in own}
        names = {self.name(axis): name for axis, name in inner.items()}
        stated = [f"{f.name}={self._stated(getattr(op, f.name), own)}" for f in fields(op)]
        sizes = [str(self.size(Poly.symbol(axis))) for axis in own]
        outer = tuple(self.name(axis) for axis in dict.fromkeys(own) if axis in node.axes)
        read = [operand.renamed(names) for operand in operands]
        if op.commutative:
            read.sort(key=lambda form: form.text())
        holds = "truth" if node.type.kind is Kind.BOOL else ""
        name = f"{type(op).__name__} {stated} {sizes} {[axis in node.axes for axis in own]}"
        return factor(Atom(name, outer, tuple(read), tuple(inner.values()), holds))

    def _stated(self, value: object, own: Sequence[str]) -> object:
        """An attribute of an operation, its axes as numbers and its sizes canonical."""
        if isinstance(value, tuple):
            return [self._stated(each, own) for each in value]
        if isinstance(value, Poly):
            return str(self.size(value))
        return own.index(value) if isinstance(value, str) and value in own else value


def _sigmoid(form: Form) -> Form:
    """Of a form whose coefficients are negative in sum, 1 minus the sigmoid of the other sign."""
    if sum(value for _, value in form.terms) < 0:
        return subtract(ONE, _sigmoid(scaled(form, -1)))
    ahead = exponential(form)
    return multiply(ahead, power(add(ONE, ahead), Fraction(-1)))


def _axes_of(op: Op) -> list[str]:
    """The axes that an operation names."""
    found: list[str] = []
    if op.elementwise:
        return found
    for each in fields(op):
        value = getattr(op, each.name)
        names = value if isinstance(value, tuple) else (value,)
        if each.name == "given":
            continue
        found += [name for name in names if isinstance(name, str)]
    return found


def _literal(value: float) -> Form:
    if isinstance(value, bool):
        return number(int(value))
    text = repr(value)
    if not math.isfinite(value) or (len(text) > 14 and "e" not in text):
        return factor(Atom(f"literal {text}", holds="positive" if value > 0 else ""))
    return number(Fraction(text))


def _is_one(node: Node) -> bool:
    """Whether a sum is that of the squares of a direction, which has length 1 where no epsilon acts."""
    factors = node.inputs
    if isinstance(node.op, reductions.Sum):
        [squares] = node.inputs
        twice = isinstance(squares.op, functions.Square)
        factors = squares.inputs * 2 if twice else squares.inputs if isinstance(squares.op, arithmetic.Multiply) else ()
    direction = factors[0].op if len(factors) == 2 and factors[0] is factors[1] else None
    return isinstance(direction, normalisations.L2Normalize) and direction.axes == _axes(node)


def _axes(node: Node) -> tuple[str, ...]:
    assert isinstance(node.op, contraction.Contraction | reductions.Sum)
    return node.op.axes


def _is_number(form: Form) -> bool:
    return not form.terms or (len(form.terms) == 1 and form.terms[0][0].text({}, 0) == ONE.terms[0][0].text({}, 0))


def _ordered(node: Node) -> bool:
    return all(operand.type.kind in (Kind.INT, Kind.REAL) for operand in node.inputs)


def _difference(one: str, other: str) -> Form:
    return subtract(factor(Atom("position", (one,))), factor(Atom("position", (other,))))


def _at_least_zero(form: Form, whole: bool) -> Form:
    """1 where a form is at least 0. Of whole numbers, x >= 0 and x <= -1 are told by one factor, the strict one."""
    constant = next((value for term, value in form.terms if not term.factors), Fraction(0))
    if whole and constant > -1:
        return subtract(ONE, _truth("at least 0", subtract(scaled(form, -1), ONE)))
    return _truth("at least 0", form)


def _same(form: Form) -> Form:
    """1 where a form is 0: told by its square, which has no sign."""
    return _truth("0", multiply(form, form))


def _truth(name: str, form: Form) -> Form:
    return factor(Atom(name, (), (form,), holds="truth"))


def _circular(form: Form) -> tuple[Form, Form]:
    """Cosine and sine of a form, by the addition theorem."""
    cosine, sine = ONE, number(0)
    for term, value in form.terms:
        inside = Form(((term, abs(value)),))
        one = factor(Atom("cos", (), (inside,)))
        other = scaled(factor(Atom("sin", (), (inside,))), 1 if value > 0 else -1)
        cosine, sine = (
            subtract(multiply(cosine, one), multiply(sine, other)),
            add(multiply(sine, one), multiply(cosine, other)),
        )
    return cosine, sine
