"""Lowered operations written out in operations of the language: what an algorithm of a plan computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from .graph import Builder, Node, topological
from .lowerings.additive import FUNCTIONS, SumOfPairs
from .lowerings.causal import CausalScan, FeatureGatedScan, GatedPrefix
from .lowerings.feedback import CausalFeedback, FeatureGatedFeedback
from .lowerings.fused import FusedSoftmax
from .lowerings.linear import LinearRecurrence
from .lowerings.local import BandedSoftmax, WindowedSoftmax
from .lowerings.maximum import RunningMaximum
from .lowerings.polynomial import PolynomialScan, PolynomialSum
from .lowerings.prefix import PrefixSoftmax
from .lowerings.states import LinearStates, TransitionFeedback, TransitionScan
from .lowerings.toeplitz import ToeplitzProduct
from .ops.arithmetic import Add, Divide, FloorDivide, IntegerPower, Multiply, Power, Subtract
from .ops.base import Op
from .ops.cumulative import CumulativeSum
from .ops.functions import Abs, Exp, Log, Sqrt
from .ops.layout import Broadcast, Rename, Reorder
from .ops.leaves import Literal, Position, Size
from .ops.logic import And, Equal, GreaterEqual, LessEqual, Where
from .ops.normalisations import Softmax
from .ops.pairs import Maximum
from .ops.reductions import Max, Sum
from .ops.selection import Take
from .scan import Argument, Region, Scan, part_of
from .sizes import Poly


def dense(outputs: Sequence[Node], builder: Builder) -> list[Node]:
    """The outputs with every lowered operation written out. It is for reasoning: the maps of attention are in it."""
    made: dict[Node, Node] = {}
    for node in topological(outputs):
        operands = [made[operand] for operand in node.inputs]
        rule = _DENSE.get(type(node.op))
        if rule is None:
            made[node] = builder.make(_with_dense_step(node.op, builder), *operands)
        else:
            made[node] = _laid_out(rule(node, operands, builder), node, builder)
    return [made[output] for output in outputs]


def _with_dense_step(op: Op, builder: Builder) -> Op:
    if not isinstance(op, Scan):
        return op
    return replace(op, step=Region(op.step.arguments, tuple(dense(op.step.results, builder))))


def _laid_out(value: Node, node: Node, builder: Builder) -> Node:
    if set(value.axes) != set(node.axes):
        return builder.make(Broadcast(node.axes), value)
    return value if value.axes == node.axes else builder.make(Reorder(node.axes), value)


def _sum(builder: Builder, value: Node, axes: Sequence[str]) -> Node:
    return builder.make(Sum(tuple(axes)), value) if axes else value


def _product(builder: Builder, *factors: Node) -> Node:
    result = factors[0]
    for factor in factors[1:]:
        result = builder.make(Multiply(), result, factor)
    return result


def _lag(builder: Builder, query: str, key: str) -> Node:
    return builder.make(Subtract(), builder.make(Position(query)), builder.make(Position(key)))


def _causal_scan(node: Node, operands: list[Node], builder: Builder) -> Node:
    op = node.op
    assert isinstance(op, CausalScan)
    make = builder.make
    query, key, value = operands[:3]
    if isinstance(op, FeatureGatedScan) and op.plain:
        return _plain_gates(node, op, operands, builder)
    lag = _lag(builder, op.query, op.key)
    weight = make(Literal(1.0))
    if op.kernel == "decayed_scan":
        weight = _decay(operands[3], make(Maximum(), lag, make(Literal(0))), builder)
    elif op.kernel in ("gated_scan", "feature_gated_scan"):
        weight = _gated(operands[3], op.query, op.key, builder)
    seen = make(GreaterEqual(), lag, make(Literal(op.offset)))
    weight = make(Where(), seen, weight, make(Literal(0.0)))
    axes = (op.key, *op.inner)
    total = _sum(builder, _product(builder, weight, query, key, value), axes)
    if op.normalise:
        weights = _sum(builder, _product(builder, weight, query, key), axes)
        if op.bounded:
            weights = make(Maximum(), make(Abs(), weights), operands[-1])
        total = make(Divide(), total, weights)
    return total


def _running_maximum(node: Node, operands: list[Node], builder: Builder) -> Node:
    op = node.op
    assert isinstance(op, RunningMaximum)
    make = builder.make
    score, gates = operands
    level = make(CumulativeSum(op.query), gates)
    rise = make(Subtract(), level, make(Rename(op.query, op.key), level))
    seen = make(GreaterEqual(), _lag(builder, op.query, op.key), make(Literal(0)))
    return make(Max((op.key,)), make(Where(), seen, make(Add(), score, rise), make(Literal(-math.inf))))


def _decay(rate: Node, lag: Node, builder: Builder) -> Node:
    """exp(rate * lag); a rate that is a logarithm was a base."""
    if isinstance(rate.op, Log):
        return builder.make(Power(), rate.inputs[0], lag)
    return builder.make(Exp(), builder.make(Multiply(), rate, lag))


def _gated(gates: Node, query: str, key: str, builder: Builder) -> Node:
    """exp(gates[key + 1] + ... + gates[query])."""
    level = builder.make(CumulativeSum(query), gates)
    return builder.make(Exp(), builder.make(Subtract(), level, builder.make(Rename(query, key), level)))


def _gated_prefix(node: Node, operands: list[Node], builder: Builder) -> Node:
    op = node.op
    assert isinstance(op, GatedPrefix)
    make = builder.make
    value, gates = operands
    weight = _gated(gates, op.query, op.key, builder)
    seen = make(GreaterEqual(), _lag(builder, op.query, op.key), make(Literal(op.offset)))
    return _sum(builder, make(Multiply(), make(Where(), seen, weight, make(Literal(0.0))), value), (op.key,))


def _attention(
    builder: Builder, scores: Node, seen: Node | None, value: Node, key: str, sink: Node | None = None
) -> Node:
    given = {name: node for name, node in (("mask", seen), ("sink", sink)) if node is not None}
    weights = builder.make(Softmax((key,), given=tuple(given)), scores, *given.values())
    return _sum(builder, builder.make(Multiply(), weights, value), (key,))


def _prefix_softmax(node: Node, operands: list[Node], builder: Builder) -> Node:
    op = node.op
    assert isinstance(op, PrefixSoftmax)
    seen = builder.make(GreaterEqual(), _lag(builder, op.query, op.key), builder.make(Literal(0)))
    return _attention(builder, operands[0], seen, operands[1], op.key)


def _fused_softmax(node: Node, operands: list[Node], builder: Builder) -> Node:
    op = node.op
    assert isinstance(op, FusedSoftmax)
    make = builder.make
    query, key, value = operands[:3]
    scores = _sum(builder, make(Multiply(), query, key), (op.inner,))
    if op.scaled:
        scores = make(Divide(), scores, make(Sqrt(), make(Size(Poly.symbol(op.inner)))))
    seen: list[Node] = []
    sink: Node | None = None
    for name, operand in zip(op.given, operands[3:], strict=True):
        if name == "mask":
            seen.append(operand)
        elif name == "sink":
            sink = operand
        elif _is_masked(operand):
            seen.append(operand.inputs[0])
            scores = make(Add(), scores, operand.inputs[1])
        else:
            scores = make(Add(), scores, operand)
    if op.causal:
        seen.append(make(GreaterEqual(), _lag(builder, op.query, op.key), make(Literal(0))))
    mask = seen[0] if seen else None
    for other in seen[1:]:
        mask = other if mask is None else make(And(), mask, other)
    return _attention(builder, scores, mask, value, op.key, sink)


def _is_masked(bias: Node) -> bool:
    """Whether a bias is a mask: -inf where a condition does not hold."""
    if not isinstance(bias.op, Where):
        return False
    other = bias.inputs[2].op
    return isinstance(other, Literal) and other.value == -math.inf


def _polynomial(node: Node, operands: list[Node], builder: Builder) -> Node:
    op = node.op
    assert isinstance(op, PolynomialScan | PolynomialSum)
    make = builder.make
    query, key, value, *coefficients = operands
    score = _sum(builder, _product(builder, query, key), op.inner)
    weight: Node | None = None
    for power, coefficient in zip(op.powers, coefficients, strict=True):
        term = _product(builder, coefficient, make(IntegerPower(power), score)) if power else coefficient
        weight = term if weight is None else make(Add(), weight, term)
    assert weight is not None
    if isinstance(op, PolynomialScan):
        seen = make(GreaterEqual(), _lag(builder, op.rows[0], op.key), make(Literal(op.offset)))
        weight = make(Where(), seen, weight, make(Literal(0.0)))
    total = _sum(builder, _product(builder, weight, value), (op.key,))
    return make(Divide(), total, _sum(builder, weight, (op.key,))) if op.normalise else total


def _sum_of_pairs(node: Node, operands: list[Node], builder: Builder) -> Node:
    op = node.op
    assert isinstance(op, SumOfPairs)
    query, key, weight = operands
    function = next(kind for kind in FUNCTIONS if kind.spelling == op.function)
    value = builder.make(function(), builder.make(Add(), query, key))
    return _sum(builder, _product(builder, weight, value), (op.inner,))


def _local_softmax(node: Node, operands: list[Node], builder: Builder) -> Node:
    op = node.op
    assert isinstance(op, BandedSoftmax | WindowedSoftmax)
    make = builder.make
    query, key, value, scale = operands
    scores = make(Multiply(), _sum(builder, make(Multiply(), query, key), (op.inner,)), scale)
    if isinstance(op, BandedSoftmax):
        lag = _lag(builder, op.query, op.key)
        after = make(LessEqual(), make(Literal(0)), make(Add(), lag, make(Size(op.after))))
        seen = make(And(), make(LessEqual(), lag, make(Size(op.before))), after)
    else:
        width = make(Size(op.window))
        sides = [make(FloorDivide(), make(Position(axis)), width) for axis in (op.query, op.key)]
        seen = make(Equal(), *sides)
    return _attention(builder, scores, seen, value, op.key)


def _toeplitz(node: Node, operands: list[Node], builder: Builder) -> Node:
    op = node.op
    assert isinstance(op, ToeplitzProduct)
    make = builder.make
    place = make(Add(), _lag(builder, op.query, op.key), make(Size(op.zero)))
    matrix = make(Take(op.lag), operands[0], make(Maximum(), place, make(Literal(0))))
    if not op.zero:  # later keys have no entry
        known = make(LessEqual(), make(Literal(0)), place)
        matrix = make(Where(), known, matrix, make(Literal(0)))
    return _sum(builder, make(Multiply(), matrix, operands[1]), (op.key,))


def _linear_recurrence(node: Node, operands: list[Node], builder: Builder) -> Node:
    op = node.op
    assert isinstance(op, LinearRecurrence)
    make, kind = builder.make, node.type.kind

    def given(name: str, operand: Node) -> Node:
        axes = tuple(axis for axis in operand.axes if axis != op.axis)
        return make(Argument(name, operand.type.kind, axes, operand.type.batched))

    before = make(Argument("before", kind, op.features, node.type.batched))
    scale, addend = given("scale", operands[0]), given("addend", operands[1])
    after = make(Add(), make(Multiply(), scale, before), addend)
    step = Region((before, scale, addend), (_laid_out(after, before, builder),) * 2)
    start = operands[2] if len(operands) > 2 else make(Broadcast(op.features), make(Literal(0.0)))
    scan = make(Scan(op.axis, 1, 2, step), start, *operands[:2])
    assert isinstance(scan.op, Scan)
    return make(part_of(scan.op, 1), scan)


def _causal_feedback(node: Node, operands: list[Node], builder: Builder) -> Node:
    op = node.op
    assert isinstance(op, CausalFeedback)
    make = builder.make
    names = ("reading", "direction", "value", "gate")[: len(operands)]
    features = (*op.batch, op.inner, *op.outer)
    state = make(Argument("sums", node.type.kind, features, node.type.batched))
    given: list[Node] = []
    for name, operand in zip(names, operands, strict=True):
        axes = tuple(axis for axis in operand.axes if axis != op.axis)
        given.append(make(Argument(name, operand.type.kind, axes, operand.type.batched)))
    reading, direction, value, *gates = given
    added = make(Add(), value, make(Sum((op.inner,)), make(Multiply(), reading, state)))
    if gates and not (isinstance(op, FeatureGatedFeedback) and op.plain):
        gates = [make(Exp(), *gates)]
    kept = make(Multiply(), *gates, state) if gates else state
    after = make(Add(), kept, make(Multiply(), direction, added))
    step = Region((state, *given), (_laid_out(after, state, builder), added))
    start = make(Broadcast(features), make(Literal(0.0)))
    scan = make(Scan(op.axis, 1, len(given), step), start, *operands)
    assert isinstance(scan.op, Scan)
    return make(part_of(scan.op, 1), scan)


def _recurrence(
    axis: str,
    state: Node,
    start: Node,
    operands: Sequence[Node],
    step: Callable[[list[Node]], tuple[Node, Node]],
    builder: Builder,
) -> Node:
    """What a recurrence yields. step: from its operands, without the axis, the next state and what is yielded."""
    make = builder.make
    given: list[Node] = []
    for index, operand in enumerate(operands):
        axes = tuple(each for each in operand.axes if each != axis)
        given.append(make(Argument(f"given_{index}", operand.type.kind, axes, operand.type.batched)))
    after, yielded = step(given)
    sliced = [index for index, operand in enumerate(operands) if axis in operand.axes]
    order = [*sliced, *(index for index in range(len(operands)) if index not in sliced)]
    region = Region((state, *(given[index] for index in order)), (_laid_out(after, state, builder), yielded))
    scan = make(Scan(axis, 1, len(sliced), region), start, *(operands[index] for index in order))
    assert isinstance(scan.op, Scan)
    return make(part_of(scan.op, 1), scan)


def _plain_gates(node: Node, op: FeatureGatedScan, operands: list[Node], builder: Builder) -> Node:
    make = builder.make
    axes = (*op.batch, *op.inner, *op.outer)
    state = make(Argument("sums", node.type.kind, axes, node.type.batched))
    along = [make(Rename(op.key, op.query), o) if op.key != op.query and op.key in o.axes else o for o in operands]

    def step(given: list[Node]) -> tuple[Node, Node]:
        query, key, value, gate = given
        kept = make(Multiply(), gate, state)
        after = make(Add(), kept, make(Multiply(), key, value))
        return after, _sum(builder, make(Multiply(), query, kept if op.offset else after), op.inner)

    return _recurrence(op.query, state, make(Broadcast(axes), make(Literal(0.0))), along, step, builder)


def _times(matrix: Node, state: Node, op: LinearStates | TransitionScan | TransitionFeedback, builder: Builder) -> Node:
    """A matrix times a state."""
    return _sum(builder, builder.make(Multiply(), matrix, builder.make(Rename(op.row, op.column), state)), (op.column,))


def _linear_states(node: Node, operands: list[Node], builder: Builder) -> Node:
    op = node.op
    assert isinstance(op, LinearStates)
    make = builder.make
    axes = (op.row, *op.batch, *op.outer)
    state = make(Argument("before", node.type.kind, axes, node.type.batched))
    start = operands[2] if len(operands) > 2 else make(Broadcast(axes), make(Literal(0.0)))

    def step(given: list[Node]) -> tuple[Node, Node]:
        after = make(Add(), _times(given[0], state, op, builder), given[1])
        return after, after

    return _recurrence(op.axis, state, start, operands[:2], step, builder)


def _transitions(node: Node, operands: list[Node], builder: Builder) -> Node:
    op = node.op
    assert isinstance(op, TransitionScan | TransitionFeedback)
    make = builder.make
    axes = (op.row, *op.batch, *op.inner, *op.outer)
    state = make(Argument("states", node.type.kind, axes, node.type.batched))
    along = [make(Rename(op.key, op.axis), o) if op.key != op.axis and op.key in o.axes else o for o in operands]

    def step(given: list[Node]) -> tuple[Node, Node]:
        query, key, value, matrix, rows, columns = given
        reads = make(Multiply(), rows, query)
        kept = _times(matrix, state, op, builder)
        before = _sum(builder, make(Multiply(), reads, state), (op.row, *op.inner))
        if isinstance(op, TransitionFeedback):
            value = make(Add(), value, before)
        after = make(Add(), kept, make(Multiply(), make(Multiply(), columns, key), value))
        if isinstance(op, TransitionFeedback):
            return after, value
        return after, before if op.offset else _sum(builder, make(Multiply(), reads, after), (op.row, *op.inner))

    start = make(Broadcast(axes), make(Literal(0.0)))
    return _recurrence(op.axis, state, start, along, step, builder)


_DENSE: dict[type[Op], Callable[[Node, list[Node], Builder], Node]] = {
    CausalScan: _causal_scan,
    FeatureGatedScan: _causal_scan,
    GatedPrefix: _gated_prefix,
    PolynomialScan: _polynomial,
    PolynomialSum: _polynomial,
    CausalFeedback: _causal_feedback,
    FeatureGatedFeedback: _causal_feedback,
    LinearRecurrence: _linear_recurrence,
    LinearStates: _linear_states,
    RunningMaximum: _running_maximum,
    TransitionScan: _transitions,
    TransitionFeedback: _transitions,
    PrefixSoftmax: _prefix_softmax,
    FusedSoftmax: _fused_softmax,
    SumOfPairs: _sum_of_pairs,
    BandedSoftmax: _local_softmax,
    WindowedSoftmax: _local_softmax,
    ToeplitzProduct: _toeplitz,
}
