"""How the steps of a recurrence update its states: by an affine map of them or not, and by one of which form.

Updates that are linear in the states, `states = matrix * states + offset`, compose: two steps are one step with
another matrix and offset. So all positions can be computed without going through them one by one (Blelloch,
Prefix Sums and Their Applications, 1990). What is linear is proved on the graph of the step: sums, products of which
one factor reads a state, choices by what does not read one, changes of layout. Everything else is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..graph import Builder, Node
from ..ops.arithmetic import Add, Divide, IntegerPower, Modulo, Multiply, Negative, Subtract
from ..ops.base import Op
from ..ops.contraction import Contraction
from ..ops.convolution import Convolution
from ..ops.cumulative import CumulativeSum
from ..ops.functions import StopGradient
from ..ops.layout import Broadcast, Convert, Merge, Rename, Reorder, Split
from ..ops.leaves import Literal, Position, Size
from ..ops.logic import Equal, Where
from ..ops.reductions import Mean, Sum
from ..ops.selection import Concat, Pad, Roll, Shift, Slice, Take, Windows
from ..scan import Argument, Scan
from ..sizes import Poly
from ..types import Kind

#: Operations that are linear in all of their operands together.
_SUMS: tuple[type[Op], ...] = (Add, Subtract, Negative, Reorder, Broadcast, Convert)
_MIXING: tuple[type[Op], ...] = (
    Sum, Mean, CumulativeSum, Rename, Split, Merge, Slice, Shift, Pad, Roll, Concat, Windows,
)  # fmt: skip
MOST = 8  # states that are updated from each other


@dataclass(frozen=True)
class Feedback:
    """What a step adds along one direction, made of what it reads of its states along an axis, as the delta rule does.

    Formula: `written[i] * direction * (sum[axis](reading * sum over j of read[j] * state[j]) + addend)` to the state i.
    Only reading and direction have the axis, and none of them reads a state.
    """

    axis: str
    direction: Node
    reading: Node
    addend: Node
    written: tuple[Node, ...]
    read: tuple[Node, ...]


@dataclass(frozen=True)
class Matrix:
    """A matrix that a step multiplies its state with along an axis: `sum[column](value * state[axis -> column])`."""

    axis: str
    column: str
    value: Node


@dataclass(frozen=True)
class Update:
    """`state[i] = sum over j of coefficients[i][j] * state[j] + offsets[i] + feedback`, element by element but for the
    feedback, for states that are updated from each other, or a single one. The nodes are those of the step that do
    not read these states.

    states: which they are. A coefficient that is the number 0: one does not read the other.
    matrix: instead of the coefficient of a single state.
    """

    states: tuple[int, ...]
    coefficients: tuple[tuple[Node, ...], ...]
    offsets: tuple[Node, ...]
    feedback: Feedback | None = None
    matrix: Matrix | None = None

    @property
    def alone(self) -> bool:
        """Whether it is that of one state, element by element but for the feedback."""
        return len(self.states) == 1 and self.matrix is None

    @property
    def is_replacement(self) -> bool:
        """Whether the states are made of other values only."""
        [first, *_] = self.coefficients
        return self.alone and self.feedback is None and number(first[0]) == 0


@dataclass(frozen=True)
class Declined:
    """Why the updates are not of that form, and the value that is to blame.

    linear: whether they are linear all the same, as any matrix times the states is.
    """

    reason: str
    culprit: Node | None = None
    linear: bool = False


def updates(
    scan: Scan, builder: Builder, constants: Mapping[str, int | float], fresh: Callable[[str], str]
) -> tuple[Update, ...] | Declined:
    """The updates of a recurrence, each after those that it reads; or why there are none.

    An update may read the own states before the step linearly, and those of earlier updates in any way.
    fresh: a name for a copy of an axis, along which a matrix has its columns.
    """
    states, results = scan.step.arguments[: scan.states], scan.step.results[: scan.states]
    for state in states:
        if state.type.kind not in (Kind.REAL, Kind.COMPLEX):
            return Declined(f"the state `{_name(state)}` is {state.type.kind.value}", state)
    for node in scan.step.nodes():
        if node.op.inside():
            return Declined("a step runs a recurrence of its own", node)
    reads = _reads(scan, constants)
    found: list[Update] = []
    for group in _in_order([reads[result] for result in results]):
        step = _Step(tuple(states[i] for i in group), sum(1 << i for i in group), reads, builder, constants, fresh)
        made = step.update(group, [results[i] for i in group])
        if isinstance(made, Declined):
            return made
        found.append(made)
    return tuple(found)


def _name(state: Node) -> str:
    assert isinstance(state.op, Argument)
    return state.op.name


def named(states: Sequence[Node]) -> str:
    """The names of some states."""
    return ", ".join(f"`{_name(state)}`" for state in states)


def _reads(scan: Scan, constants: Mapping[str, int | float]) -> dict[Node, int]:
    """For every node of a step the states that it is computed from, a bit for each."""
    found = {state: 1 << index for index, state in enumerate(scan.step.arguments[: scan.states])}
    for node in scan.step.nodes():
        if node not in found:
            operands = node.inputs if (chosen := _chosen(node, constants)) is None else (chosen,)
            bits = 0
            for operand in operands:
                bits |= found[operand]
            found[node] = bits
    return found


def _chosen(node: Node, constants: Mapping[str, int | float]) -> Node | None:
    """What a choice is where the constants decide it: `where(pos(N) % chunk == 0, x, y)` is x for a chunk of 1."""
    if not isinstance(node.op, Where):
        return None
    condition, yes, _ = node.inputs
    if not isinstance(condition.op, Equal):
        return None
    rest, zero = condition.inputs
    if not isinstance(rest.op, Modulo) or number(zero) != 0 or rest.type.kind is not Kind.INT:
        return None
    by = rest.inputs[1].op
    size = by.size if isinstance(by, Size) else None
    value = by.value if isinstance(by, Literal) else None
    if size is not None and size.symbols() <= constants.keys():
        value = size.evaluate({s: constants[s] for s in size.symbols()})
    fits = {*yes.axes} == {*node.axes} and yes.type.kind is node.type.kind
    return yes if value in (1, -1) and fits else None


def _in_order(reads: Sequence[int]) -> list[tuple[int, ...]]:
    """Groups of states updated from each other, each after those that it reads. reads: a bit for each state."""
    order: list[tuple[int, ...]] = []
    place, low, open_, done = dict[int, int](), dict[int, int](), list[int](), set[int]()

    def operands(state: int) -> list[int]:
        return [other for other in range(len(reads)) if reads[state] >> other & 1]

    for root in range(len(reads)):  # Tarjan, Depth-First Search and Linear Graph Algorithms, 1972
        stack = [] if root in place else [(root, iter(operands(root)))]
        while stack:
            state, rest = stack[-1]
            if state not in place:
                place[state] = low[state] = len(place)
                open_.append(state)
            for other in rest:
                if other not in place:
                    stack.append((other, iter(operands(other))))
                    break
                if other not in done:
                    low[state] = min(low[state], low[other] if other in low else place[other])
            else:
                stack.pop()
                if stack:
                    low[stack[-1][0]] = min(low[stack[-1][0]], low[state])
                if low[state] == place[state]:
                    group = open_[open_.index(state) :]
                    del open_[open_.index(state) :]
                    done.update(group)
                    order.append(tuple(sorted(group)))
    return order


@dataclass(frozen=True)
class _Row:
    """A value sum[axis](reading * sum of read * states) + addend, without the axis."""

    axis: str
    reading: Node
    read: tuple[Node, ...]
    addend: Node


@dataclass(frozen=True)
class _Whole:
    """A value sum of coefficients * states + matrix * state + offset + direction * row."""

    coefficients: tuple[Node, ...]
    offset: Node
    direction: Node
    row: _Row | None = None
    matrix: Matrix | None = None


_Form = _Whole | _Row


@dataclass
class _Step:
    """States that are updated from each other, and what the step computes from them.

    reads: for every node the states that it is computed from; bits: which are these.
    """

    states: tuple[Node, ...]
    bits: int
    reads: Mapping[Node, int]
    builder: Builder
    constants: Mapping[str, int | float]
    fresh: Callable[[str], str]
    columns: dict[str, str] = field(default_factory=dict)

    def update(self, group: tuple[int, ...], results: Sequence[Node]) -> Update | Declined:
        found = self._readers(results)
        blame = self._nonlinear(found)
        if blame is not None:
            which = f"the state {named(self.states)}" if len(group) == 1 else "the states"
            return Declined(f"{_words(blame)} is not linear in {which}", blame)
        for each in (self.states, results):
            if len({(frozenset(node.axes), node.type.kind) for node in each}) > 1:
                reason = f"{named(self.states)} are updated from each other, and have other axes"
                return Declined(reason, results[0], linear=True)
        if len(group) > MOST:
            reason = f"{named(self.states[:2])} and {len(group) - 2} other states are updated from each other"
            return Declined(f"{reason}: at most {MOST} can be", results[0], linear=True)
        zero = self.builder.make(Literal(0))
        nothing = (zero,) * len(group)
        forms: dict[Node, _Form] = {}
        for index, state in enumerate(self.states):
            one = (*nothing[:index], self.builder.make(Literal(1)), *nothing[index + 1 :])
            forms[state] = _Whole(one, zero, zero)
        for node in found:
            if node in forms:
                continue
            made = self._form(node, forms)
            if made is None:
                return self._two_readings(node, forms) or self._mixes(node)
            forms[node] = made
        wholes: list[_Whole] = []
        for result in results:
            whole = forms.get(result, _Whole(nothing, result, zero))
            if not isinstance(whole, _Whole):
                return self._mixes(result)
            wholes.append(whole)
        rows = {whole.row for whole in wholes if whole.row is not None and number(whole.direction) != 0}
        feedback = None
        if rows:
            if len(rows) > 1:
                return Declined(
                    f"the states {named(self.states)} are read along several directions", results[0], linear=True
                )
            feedback = self._feedback(rows.pop(), wholes)
            if feedback is None:
                return self._mixes(results[0])
        matrix = next((whole.matrix for whole in wholes), None)
        coefficients = tuple(whole.coefficients for whole in wholes)
        if matrix is not None:
            if feedback is not None or len(group) > 1:
                return self._mixes(results[0])
            matrix = self._with_diagonal(matrix, coefficients[0][0])
            coefficients = (nothing,)
        return Update(group, coefficients, tuple(whole.offset for whole in wholes), feedback, matrix)

    def _readers(self, results: Sequence[Node]) -> list[Node]:
        """The nodes between the states and their next values, operands first."""
        stack, seen = list(results), set[Node]()
        while stack:
            node = stack.pop()
            if node not in seen and self.reads[node] & self.bits:
                seen.add(node)
                chosen = _chosen(node, self.constants)
                stack.extend(node.inputs if chosen is None else (chosen,))
        return sorted(seen, key=lambda node: node.index)

    def _reading(self, node: Node) -> bool:
        return bool(self.reads[node] & self.bits)

    def _nonlinear(self, found: Sequence[Node]) -> Node | None:
        """The first value on the way that is not linear in the states; None if there is none."""
        for node in found:
            if node in self.states or _chosen(node, self.constants) is not None:
                continue
            reading = [self._reading(operand) for operand in node.inputs]
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

    def _mixes(self, node: Node) -> Declined:
        word = "state" if len(self.states) == 1 else "states"
        size = Poly.volume(self.states[0].axes) * len(self.states)
        reason = f"{_words(node)} mixes elements of the {word} {named(self.states)}"
        return Declined(f"{reason}: steps compose by products of matrices of {size} by {size}", node, linear=True)

    def _two_readings(self, node: Node, forms: Mapping[Node, _Form]) -> Declined | None:
        """Why a sum is of no form, where it takes two different readings of the states together."""
        found = [forms[operand] for operand in node.inputs if operand in forms]
        rows = [each if isinstance(each, _Row) else each.row for each in found]
        one, other = rows if len(rows) == 2 else (None, None)
        if not isinstance(node.op, Add | Subtract) or one is None or other is None or one == other:
            return None
        axes = f"`{one.axis}`" if one.axis == other.axis else f"`{one.axis}` and `{other.axis}`"
        word = "state" if len(self.states) == 1 else "states"
        reason = f"{_words(node)} puts two readings of the {word} {named(self.states)} together, sums over {axes}"
        return Declined(f"{reason}: what a step adds may be made of one, along one direction", node, linear=True)

    # -- the end -----------------------------------------------------------------------------------------

    def _feedback(self, row: _Row, wholes: Sequence[_Whole]) -> Feedback | None:
        """What is added along one direction; None if the directions of the states differ, or mix elements otherwise."""
        parts = [_apart(each.direction, row.axis, self.builder) for each in wholes]
        one, zero = self.builder.make(Literal(1)), self.builder.make(Literal(0))
        written: tuple[Node, ...] = (one,)
        direction = wholes[0].direction
        if len(parts) > 1:
            used = [factors for factors, by in parts if number(by) != 0]
            along = used[0]
            if any(sorted(factors, key=_index) != sorted(along, key=_index) for factors in used):
                return None
            direction = one
            for factor in along:
                direction = product(direction, factor, self.builder)
            written = tuple(zero if number(by) == 0 else by for _, by in parts)
        axes = {*self.states[0].axes}
        whole = [c for each in wholes for c in each.coefficients]
        if row.axis not in direction.axes:
            return None
        if len(wholes) > 1 and any(row.axis in node.axes for node in (*whole, *row.read)):
            return None  # a matrix over the states for every element of the axis
        every = (row.reading, direction, *written, *row.read, *whole)
        if any(not {*node.axes} <= axes for node in every):
            return None
        return Feedback(row.axis, direction, row.reading, row.addend, written, row.read)

    def _with_diagonal(self, matrix: Matrix, coefficient: Node) -> Matrix:
        """The matrix, and a coefficient of every element besides."""
        if number(coefficient) == 0:
            return matrix
        make = self.builder.make
        same = make(Equal(), make(Position(matrix.axis)), make(Position(matrix.column)))
        diagonal = make(Where(), same, coefficient, make(Literal(0.0)))
        return replace(matrix, value=make(Add(), matrix.value, diagonal))

    # -- values as linear functions of the states --------------------------------------------------------

    def _form(self, node: Node, forms: Mapping[Node, _Form]) -> _Form | None:
        """A value as a linear function of the states, given its operands so; None if it is no such value."""
        chosen = _chosen(node, self.constants)
        if chosen is not None:
            return forms[chosen]
        builder = self.builder
        reading = [operand in forms for operand in node.inputs]
        read = next(forms[operand] for operand in node.inputs if operand in forms)
        zero = builder.make(Literal(0))
        nothing = (zero,) * len(self.states)

        def constant(operand: Node) -> _Form | None:
            """What does not read the states, in the same form as what does."""
            if isinstance(read, _Whole):
                return _Whole(nothing, operand, zero)
            return None if read.axis in operand.axes else _Row(read.axis, zero, read.read, operand)

        operands = [forms.get(operand) or constant(operand) for operand in node.inputs]
        match node.op:
            case Reorder() | Convert():  # axes meet by name
                return read
            case Broadcast(axes):
                return None if isinstance(read, _Row) and read.axis in axes else read
            case Negative():
                return self._each(read, lambda part: negative(part, builder))
            case Add():
                return self._both(operands, lambda one, other: total(one, other, builder))
            case Subtract():
                return self._both(operands, lambda one, other: total(one, negative(other, builder), builder))
            case Multiply() if not all(reading):
                factor = node.inputs[reading.index(False)]
                if isinstance(read, _Row) and read.axis in factor.axes:
                    return _Whole(nothing, zero, factor, read)
                return self._each(read, lambda part: product(part, factor, builder))
            case Divide() if not reading[1]:
                below = node.inputs[1]
                if isinstance(read, _Row) and read.axis in below.axes:
                    return None
                return self._each(read, lambda part: quotient(part, below, builder))
            case Where() if not reading[0]:
                condition = node.inputs[0]
                if isinstance(read, _Row) and read.axis in condition.axes:
                    return None
                return self._both(operands[1:], lambda one, other: choice(condition, one, other, builder))
            case Contraction() if not all(reading) and len(node.op.axes) == 1 and isinstance(read, _Whole):
                return self._contracted(node, node.op, reading, read)
            case Rename(source, target) if isinstance(read, _Row) and len(self.states) == 1 and target == read.axis:
                return self._matrix(read, source, target)
        return None

    def _contracted(self, node: Node, op: Contraction, reading: Sequence[bool], read: _Whole) -> _Row | None:
        [axis] = op.axes
        factor = node.inputs[reading.index(False)]
        if read.row is not None or read.matrix is not None or number(read.offset) != 0 or axis not in factor.axes:
            return None
        used = [c for c in read.coefficients if number(c) != 0]
        if len(used) == 1:  # the coefficient goes with what reads
            one = self.builder.make(Literal(1))
            weights = tuple(c if number(c) == 0 else one for c in read.coefficients)
            return _Row(axis, product(factor, used[0], self.builder), weights, self.builder.make(Literal(0)))
        if any(axis in c.axes for c in used):
            return None
        return _Row(axis, factor, read.coefficients, self.builder.make(Literal(0)))

    def _matrix(self, read: _Row, source: str, target: str) -> _Whole | None:
        """A row of products along an axis that takes the name of the state's: a matrix times the state."""
        if source not in read.reading.axes or source in self.states[0].axes:
            return None
        make = self.builder.make
        if target not in self.columns:
            self.columns[target] = self.fresh(target)
        column = self.columns[target]
        value = make(Rename(source, target), make(Rename(target, column), read.reading))
        offset = make(Rename(source, target), read.addend) if source in read.addend.axes else read.addend
        if not {*value.axes} <= {*self.states[0].axes, column}:
            return None
        zero = make(Literal(0))
        return _Whole((zero,), offset, zero, matrix=Matrix(target, column, value))

    def _each(self, form: _Form, change: Callable[[Node], Node]) -> _Form:
        if isinstance(form, _Row):
            return replace(form, reading=change(form.reading), addend=change(form.addend))
        direction = change(form.direction) if form.row is not None else form.direction
        matrix = None if form.matrix is None else replace(form.matrix, value=change(form.matrix.value))
        return _Whole(tuple(map(change, form.coefficients)), change(form.offset), direction, form.row, matrix)

    def _both(self, operands: Sequence[_Form | None], join: Callable[[Node, Node], Node]) -> _Form | None:
        """Two forms joined part by part; None if they do not fit together."""
        left, right = operands
        if isinstance(left, _Row) and isinstance(right, _Row) and left.axis == right.axis:
            addend = join(left.addend, right.addend)
            if left.read == right.read:
                return _Row(left.axis, join(left.reading, right.reading), left.read, addend)
            if left.reading == right.reading:
                return _Row(left.axis, left.reading, tuple(map(join, left.read, right.read)), addend)
            return None
        if not isinstance(left, _Whole) or not isinstance(right, _Whole):
            return None
        if left.row is not None and right.row is not None and left.row != right.row:
            return None
        row = left.row or right.row
        direction = join(left.direction, right.direction) if row is not None else left.direction
        coefficients = tuple(map(join, left.coefficients, right.coefficients))
        zero = self.builder.make(Literal(0))
        given = left.matrix or right.matrix
        if given is not None:
            if any(m is not None and m.axis != given.axis for m in (left.matrix, right.matrix)):
                return None
            parts = (zero if m is None else m.value for m in (left.matrix, right.matrix))
            given = replace(given, value=join(*parts))
        return _Whole(coefficients, join(left.offset, right.offset), direction, row, given)


def _index(node: Node) -> int:
    return node.index


def _apart(node: Node, axis: str, builder: Builder) -> tuple[list[Node], Node]:
    """The factors of a product that have an axis, and the product of the others, 0 for the number 0."""
    one = builder.make(Literal(1))
    if number(node) is not None or axis not in node.axes:
        return [], node
    match node.op:
        case Multiply():
            (left, by), (right, other) = (_apart(operand, axis, builder) for operand in node.inputs)
            return [*left, *right], product(by, other, builder)
        case Negative():
            factors, by = _apart(node.inputs[0], axis, builder)
            return factors, negative(by, builder)
        case Divide() if axis not in node.inputs[1].axes:
            factors, by = _apart(node.inputs[0], axis, builder)
            return factors, quotient(by, node.inputs[1], builder)
        case Where() if axis not in node.inputs[0].axes:
            for place in (1, 2):
                if number(node.inputs[3 - place]) == 0:
                    factors, by = _apart(node.inputs[place], axis, builder)
                    sides = (by, builder.make(Literal(0)))
                    return factors, choice(node.inputs[0], *(sides if place == 1 else sides[::-1]), builder)
    return [node], one


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
