"""How the steps of a recurrence update its states: linear in them or not, and element by element or not.

An update that is linear in its state, `state = coefficient * state + offset`, composes: two steps are one step with
another coefficient and offset. So all positions can be computed without going through them one by one (Blelloch,
Prefix Sums and Their Applications, 1990). What is linear is proved on the graph of the step: sums, products of which
one factor reads the state, choices by what does not read it, changes of layout. Everything else is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

from ..graph import Builder, Node, topological
from ..ops.arithmetic import Add, Divide, IntegerPower, Multiply, Negative, Subtract
from ..ops.base import Op
from ..ops.contraction import Contraction
from ..ops.convolution import Convolution
from ..ops.cumulative import CumulativeSum
from ..ops.functions import StopGradient
from ..ops.layout import Broadcast, Convert, Merge, Rename, Reorder, Split
from ..ops.leaves import Literal
from ..ops.logic import Where
from ..ops.reductions import Mean, Sum
from ..ops.selection import Concat, Pad, Roll, Shift, Slice, Take, Windows
from ..scan import Argument, Scan
from ..types import Kind

#: Operations that are linear in all of their operands together.
_SUMS: tuple[type[Op], ...] = (Add, Subtract, Negative, Reorder, Broadcast, Convert)
_MIXING: tuple[type[Op], ...] = (
    Sum, Mean, CumulativeSum, Rename, Split, Merge, Slice, Shift, Pad, Roll, Concat, Windows,
)  # fmt: skip


@dataclass(frozen=True)
class Feedback:
    """What a step adds along one direction, made of what it reads of the state along an axis, as the delta rule does:
    `direction * (sum[axis](reading * state) + addend)`. None of the three reads the state."""

    axis: str
    direction: Node
    reading: Node
    addend: Node


@dataclass(frozen=True)
class Update:
    """state = coefficient * state + offset + feedback, element by element but for the feedback; the nodes are those of
    the step that do not read the state.

    A coefficient that is the number 0: the step makes the state of other values.
    """

    state: int
    coefficient: Node
    offset: Node
    feedback: Feedback | None = None


@dataclass(frozen=True)
class Declined:
    """Why the updates are not linear element by element, and along one direction, and the value that is to blame.

    linear: whether they are linear all the same, as any matrix times the states is.
    """

    reason: str
    culprit: Node | None = None
    linear: bool = False


def updates(scan: Scan, builder: Builder) -> tuple[Update, ...] | Declined:
    """The updates of a recurrence, each state after those that its update reads; or why there are none.

    A state may read its own value before the step linearly, and that of a state before it in any way.
    """
    states = dict(zip(scan.step.arguments[: scan.states], scan.step.results[: scan.states], strict=True))
    for state in states:
        if state.type.kind not in (Kind.REAL, Kind.COMPLEX):
            return Declined(f"the state `{_name(state)}` is {state.type.kind.value}", state)
    for node in scan.step.nodes():
        if node.op.inside():
            return Declined("a step runs a recurrence of its own", node)
    order = {state: index for index, state in enumerate(states)}
    found: list[Update] = []
    known: dict[Node, None] = {}  # states whose values at all positions are known, and their next values
    waiting = dict(states)
    while waiting:
        ready = next((s for s, result in waiting.items() if not _reads(result, known, waiting.keys() - {s})), None)
        if ready is None:
            return _exchanged(scan, waiting)
        made = _update(order[ready], ready, waiting[ready], known, builder)
        if isinstance(made, Declined):
            return made
        found.append(made)
        known |= dict.fromkeys((ready, waiting.pop(ready)))
    return tuple(found)


def _name(state: Node) -> str:
    assert isinstance(state.op, Argument)
    return state.op.name


def _reads(root: Node, known: Mapping[Node, None], states: Set[Node]) -> bool:
    """Whether a value is computed from one of the states, other than through what is known."""
    stack, seen = [root], set(known)
    while stack:
        node = stack.pop()
        if node in states:
            return True
        if node not in seen:
            seen.add(node)
            stack.extend(node.inputs)
    return False


def _readers(root: Node, states: Set[Node], known: Mapping[Node, None]) -> list[Node]:
    """The nodes between some states and a value, operands first."""
    reads = set(states)
    found = []
    for node in topological([root]):
        if node in known:
            continue
        if node in reads or any(operand in reads for operand in node.inputs):
            reads.add(node)
            found.append(node)
    return found


def _exchanged(scan: Scan, waiting: Mapping[Node, Node]) -> Declined:
    """Several states that are updated from each other."""
    names = ", ".join(f"`{_name(state)}`" for state in waiting)
    for result in waiting.values():
        culprit = _nonlinear(result, waiting.keys(), {})
        if culprit is not None:
            return Declined(f"{_words(culprit)} is not linear in the states", culprit)
    first = next(iter(waiting.values()))
    return Declined(f"{names} are updated from each other: their steps compose by matrix products", first, linear=True)


@dataclass(frozen=True)
class _Row:
    """A value sum[axis](reading * state) + addend, without the axis."""

    axis: str
    reading: Node
    addend: Node


@dataclass(frozen=True)
class _Whole:
    """A value coefficient * state + offset + direction * row."""

    coefficient: Node
    offset: Node
    direction: Node
    row: _Row | None = None


_Form = _Whole | _Row


def _update(index: int, state: Node, result: Node, known: Mapping[Node, None], builder: Builder) -> Update | Declined:
    """The update of one state."""
    zero, one = builder.make(Literal(0)), builder.make(Literal(1))
    forms: dict[Node, _Form] = {state: _Whole(one, zero, zero)}
    for node in _readers(result, {state}, known):
        if node is state:
            continue
        made = _form(node, forms, builder)
        if made is None:
            culprit = _nonlinear(result, {state}, known)
            if culprit is not None:
                return Declined(f"{_words(culprit)} is not linear in the state `{_name(state)}`", culprit)
            return _mixes(node, state)
        forms[node] = made
    found = forms.get(result, _Whole(zero, result, zero))
    if not isinstance(found, _Whole):
        return _mixes(result, state)
    if found.row is None:
        return Update(index, found.coefficient, found.offset)
    row = found.row
    axes = {*row.reading.axes, *found.direction.axes, *found.coefficient.axes}
    if row.axis in found.coefficient.axes or not axes <= {*state.axes}:
        return _mixes(result, state)
    return Update(index, found.coefficient, found.offset, Feedback(row.axis, found.direction, row.reading, row.addend))


def _mixes(node: Node, state: Node) -> Declined:
    reason = f"{_words(node)} mixes elements of the state `{_name(state)}`: steps compose by matrix products"
    return Declined(reason, node, linear=True)


def _form(node: Node, forms: Mapping[Node, _Form], builder: Builder) -> _Form | None:
    """A value as a linear function of the state, given its operands so; None if it is no such value."""
    reading = [operand in forms for operand in node.inputs]
    read = next(forms[operand] for operand in node.inputs if operand in forms)
    zero = builder.make(Literal(0))

    def constant(operand: Node) -> _Form | None:
        """What does not read the state, in the same form as what does."""
        if isinstance(read, _Whole):
            return _Whole(zero, operand, zero)
        return None if read.axis in operand.axes else _Row(read.axis, zero, operand)

    operands = [forms.get(operand) or constant(operand) for operand in node.inputs]
    match node.op:
        case Reorder() | Convert():  # axes meet by name
            return read
        case Broadcast(axes):
            return None if isinstance(read, _Row) and read.axis in axes else read
        case Negative():
            return _each(read, lambda part: negative(part, builder))
        case Add():
            return _both(operands, lambda one, other: total(one, other, builder))
        case Subtract():
            return _both(operands, lambda one, other: total(one, negative(other, builder), builder))
        case Multiply() if not all(reading):
            factor = node.inputs[reading.index(False)]
            if isinstance(read, _Row) and read.axis in factor.axes:
                return _Whole(zero, zero, factor, read)
            return _each(read, lambda part: product(part, factor, builder))
        case Divide() if not reading[1]:
            below = node.inputs[1]
            if isinstance(read, _Row) and read.axis in below.axes:
                return None
            return _each(read, lambda part: quotient(part, below, builder))
        case Where() if not reading[0]:
            condition = node.inputs[0]
            if isinstance(read, _Row) and read.axis in condition.axes:
                return None
            return _both(operands[1:], lambda one, other: choice(condition, one, other, builder))
        case Contraction() if not all(reading) and len(node.op.axes) == 1 and isinstance(read, _Whole):
            [axis] = node.op.axes
            factor = node.inputs[reading.index(False)]
            if read.row is None and number(read.offset) == 0 and axis not in read.coefficient.axes:
                return _Row(axis, product(factor, read.coefficient, builder), zero)
    return None


def _each(form: _Form, change: Callable[[Node], Node]) -> _Form:
    if isinstance(form, _Row):
        return _Row(form.axis, change(form.reading), change(form.addend))
    direction = change(form.direction) if form.row is not None else form.direction
    return _Whole(change(form.coefficient), change(form.offset), direction, form.row)


def _both(operands: Sequence[_Form | None], join: Callable[[Node, Node], Node]) -> _Form | None:
    """Two forms joined part by part; None if they do not fit together."""
    left, right = operands
    if isinstance(left, _Row) and isinstance(right, _Row) and left.axis == right.axis:
        return _Row(left.axis, join(left.reading, right.reading), join(left.addend, right.addend))
    if not isinstance(left, _Whole) or not isinstance(right, _Whole):
        return None
    if left.row is not None and right.row is not None and left.row != right.row:
        return None
    row = left.row or right.row
    direction = join(left.direction, right.direction) if row is not None else left.direction
    return _Whole(join(left.coefficient, right.coefficient), join(left.offset, right.offset), direction, row)


def _nonlinear(root: Node, states: Set[Node], known: Mapping[Node, None]) -> Node | None:
    """The first value on the way that is not linear in the states; None if there is none."""
    found = _readers(root, states, known)
    reads = set(found)
    for node in found:
        if node in states:
            continue
        reading = [operand in reads for operand in node.inputs]
        op = node.op
        linear = (
            isinstance(op, _SUMS + _MIXING)
            or (isinstance(op, Multiply | Contraction | Convolution) and sum(reading) == 1)
            or (isinstance(op, Divide) and not reading[1])
            or (isinstance(op, Where) and not reading[0])
            or (isinstance(op, Take) and not reading[1])
        )
        if not linear or isinstance(op, StopGradient):
            return node
    return None


def _words(node: Node) -> str:
    """What an operation is, as a subject."""
    match node.op:
        case Multiply() | Contraction():
            return "a product"
        case Divide():
            return "a quotient"
        case Where():
            return "a choice"
        case IntegerPower():
            return "a power"
    return f"`{node.op.spelling or type(node.op).__name__.lower()}`"


# -- arithmetic that leaves out what does nothing ----------------------------------------------------------


def number(node: Node) -> float | int | None:
    """The number that a literal is, also where it is repeated or converted."""
    while isinstance(node.op, Broadcast | Convert | Reorder):
        [node] = node.inputs
    return node.op.value if isinstance(node.op, Literal) else None


def total(left: Node, right: Node, builder: Builder) -> Node:
    if number(left) == 0:
        return right
    return left if number(right) == 0 else builder.make(Add(), left, right)


def negative(node: Node, builder: Builder) -> Node:
    known = number(node)
    return builder.make(Negative(), node) if known is None else builder.make(Literal(-known if known else 0))


def product(left: Node, right: Node, builder: Builder) -> Node:
    if number(left) == 0 or number(right) == 0:
        return builder.make(Literal(0))
    if number(left) == 1:
        return right
    return left if number(right) == 1 else builder.make(Multiply(), left, right)


def quotient(above: Node, below: Node, builder: Builder) -> Node:
    return builder.make(Literal(0)) if number(above) == 0 else builder.make(Divide(), above, below)


def choice(condition: Node, yes: Node, no: Node, builder: Builder) -> Node:
    return yes if yes is no else builder.make(Where(), condition, yes, no)
