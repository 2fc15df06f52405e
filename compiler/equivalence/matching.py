"""Two formulas whose inputs and parameters are paired, and sizes that both take."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..emit.arguments import complete
from ..formula import Formula
from ..graph import Node, topological
from ..ops.arithmetic import FloorDivide, Modulo, Multiply
from ..ops.functions import (
    Abs,
    Ceil,
    Celu,
    Elu,
    Floor,
    HardSigmoid,
    HardSwish,
    Int,
    LeakyRelu,
    Relu,
    Relu6,
    Round,
    Selu,
    Sign,
)
from ..ops.leaves import Declared, Literal, Size
from ..ops.logic import Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual
from ..ops.pairs import Clamp, Maximum, Minimum
from ..ops.selection import Roll, Shift
from ..sizes import Atom, Poly
from .verdict import Side

_DECIDING = (
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    FloorDivide,
    Modulo,
    Maximum,
    Minimum,
    Clamp,
    Floor,
    Ceil,
    Round,
    Int,
    Abs,
    Sign,
    Relu,
    Relu6,
    LeakyRelu,
    Elu,
    Celu,
    Selu,
    HardSigmoid,
    HardSwish,
)
_CUTTING = frozenset({"min", "max", "floor", "ceil"})  # functions of sizes that decide something
_MOVING = (Roll, Shift)
MAX_TRIED = 4000
MAX_TRIED_SPECIAL = 60
MAX_NAMED = 600  # whole numbers of formulas that sizes are tried around; of those that decide something, any
MAX_SPECIAL = 48
MAX_HELD = 300_000  # elements of a value at sizes that are special
#: sizes that are tried for axes, in order: all different, all equal, with ones
SIZES = ((3, 2, 4, 5, 6, 7, 8, 9, 1), (4, 2, 3, 6, 8, 9, 1, 5), (1, 2, 4, 3, 6, 9))
_LARGER = (12, 14, 16, 28, 32, 49, 64, 98, 128, 196, 256)


@dataclass(frozen=True)
class Matched:
    """Two formulas whose inputs, parameters and buffers are paired.

    single: parameters and buffers that only the left formula has, and those that only the right one has.
    axes: the name that the left formula has for an axis of the right one.
    """

    left: Side
    right: Side
    inputs: tuple[tuple[Node, Node], ...]
    single: tuple[tuple[Node, ...], tuple[Node, ...]]
    axes: Mapping[str, str]

    @staticmethod
    def of(left: Side, right: Side) -> Matched | str:
        """The pairing, or why there is none."""
        ours, theirs = left.formula.inputs, right.formula.inputs
        if len(ours) != len(theirs):
            return f"one formula has {len(ours)} inputs, the other {len(theirs)}"
        names = {name_of(node): node for node in theirs}
        by_name = names.keys() == {name_of(node) for node in ours}
        pairs = [(node, names[name_of(node)] if by_name else other) for node, other in zip(ours, theirs, strict=True)]
        for node, other in pairs:
            if node.type.kind is not other.type.kind or node.type.rank != other.type.rank:
                return (
                    f"`{name_of(node)}` is {node.type} in one formula, `{name_of(other)}` is {other.type} in the other"
                )
        outputs = [graph.outputs for graph in (left.graph, right.graph)]
        if [(o.type.rank, o.type.kind) for o in outputs[0]] != [(o.type.rank, o.type.kind) for o in outputs[1]]:
            return "the results have different axes or kinds"
        stored = {name_of(s.node): s.node for s in (*right.formula.parameters, *right.formula.buffers)}
        alone: list[Node] = []
        for own in (*left.formula.parameters, *left.formula.buffers):
            twin = stored.pop(name_of(own.node), None)
            if twin is None:
                alone.append(own.node)
            elif twin.type.rank != own.node.type.rank:
                return f"`{name_of(twin)}` has different axes in the two formulas"
            else:
                pairs.append((own.node, twin))
        axes: dict[str, str] = {}
        for node, other in pairs:
            for ours_axis, theirs_axis in zip(node.axes, other.axes, strict=True):
                axes.setdefault(theirs_axis, ours_axis)
        for other in stored.values():
            for axis in other.axes:
                axes.setdefault(axis, axis)
        return Matched(left, right, tuple(pairs), (tuple(alone), tuple(stored.values())), axes)

    @property
    def straight(self) -> bool:
        """Whether everything has the same names in both formulas."""
        ours, theirs = self.left.formula.constants, self.right.formula.constants
        return all(a.op == b.op for a, b in self.inputs) and all(
            ours[name] == theirs[name] for name in ours.keys() & theirs.keys()
        )

    def given(self, index: int) -> Iterator[tuple[Node, str, tuple[str, ...]]]:
        """What one formula reads: the node, the name of its values, and the left formula's names of its axes."""
        for pair in self.inputs:
            yield pair[index], name_of(pair[0]), pair[0].axes
        for node in self.single[index]:
            axes = tuple(self.axes.get(axis, axis) for axis in node.axes) if index else node.axes
            yield node, name_of(node), axes

    def sizes(self) -> Iterator[dict[str, int]]:
        """A few different choices of sizes of the left formula that both formulas take."""
        seen = []
        for preferred in SIZES:
            found = self._search(preferred, equal=preferred is SIZES[1])
            if found is not None and found not in seen:
                seen.append(found)
                yield found

    def special_sizes(self) -> Iterator[dict[str, int]]:
        """Sizes around the whole numbers that the formulas name, one axis at a time, and with two axes equal.

        They are where a formula that asks for a size or a position may answer differently.
        """
        deciding = {number for _, number, _ in self._limits()}
        if not deciding and not any(_asks(node) for side in (self.left, self.right) for node in side.graph.nodes()):
            return
        mentioned = {number for number in _named(self.left) | _named(self.right) if number > 1}
        numbers = {n for n in mentioned | {math.isqrt(n) for n in mentioned} if n <= MAX_NAMED} - deciding
        named = [n + near for found in (deciding, numbers) for n in sorted(found) for near in (-1, 0, 1, 2)]
        wanted = dict.fromkeys(axis for _, _, axes in self.given(0) for axis in axes)
        small = (2, 1, 3, 4)
        seen: list[dict[str, int]] = []
        choices = [{axis: (size,)} for size in dict.fromkeys(named) for axis in wanted]
        choices += [{one: (3,), other: (3,)} for one in wanted for other in wanted if one < other]
        choices += [{axis: (size,)} for axis in wanted for size in (5, 8)]
        for chosen in choices[:MAX_SPECIAL]:
            found = self._search(small, chosen, equal=False, most=MAX_TRIED_SPECIAL)
            if found is not None and found not in seen and self._largest(found) <= MAX_HELD:
                seen.append(found)
                yield found

    def out_of_reach(self, tried: Sequence[Mapping[str, int]]) -> int | None:
        """A number that positions or sizes are compared with, or moved by, and do not exceed at any of these sizes."""
        known = [
            [all_sizes(side.formula, own) for side, own in ((self.left, sizes), (self.right, self.other_sizes(sizes)))]
            for sizes in tried
        ]
        for index, number, names in self._limits():
            if not any(pair[index].get(name, 0.0) > number for pair in known for name in names):
                return number
        return None

    def _limits(self) -> Iterator[tuple[int, int, frozenset[str]]]:
        """Whole numbers above 1 that positions or sizes are compared with, cut or moved by, and the axes of these.

        The first is 0 for the left formula, 1 for the right one.
        """
        for index, side in enumerate((self.left, self.right)):
            for node in side.graph.nodes():
                if not (_asks(node) or isinstance(node.op, _MOVING)):
                    continue
                inside = topological([node]) if _asks(node) else [node]
                names = _varying(inside)
                if names:
                    met = _met(node) if _asks(node) else [node]
                    yield from ((index, number, names) for number in sorted(_numbers(met)) if number > 1)

    def _largest(self, sizes: Mapping[str, int]) -> float:
        """How many elements the largest value of both formulas has."""
        largest = 0.0
        for side, own in ((self.left, sizes), (self.right, self.other_sizes(sizes))):
            known = all_sizes(side.formula, own)
            volumes = (math.prod(known.get(axis, 1.0) for axis in node.axes) for node in side.graph.nodes())
            largest = max(largest, *volumes)
        return largest

    def _search(
        self,
        preferred: Sequence[int],
        chosen: Mapping[str, Sequence[int]] | None = None,
        *,
        equal: bool,
        most: int = MAX_TRIED,
    ) -> dict[str, int] | None:
        """Sizes for all axes, going back where a fact of either formula is broken.

        preferred: sizes to try, in order; chosen: those of some axes. equal: whether axes may well have equal sizes.
        most: how many sizes are tried.
        """
        formula = self.left.formula
        defined = {r.left.as_symbol() for r in formula.relations if r.relation == "="}
        wanted = dict.fromkeys(axis for index in (0, 1) for _, _, axes in self.given(index) for axis in axes)
        wanted |= dict.fromkeys(formula.fixed)
        chosen = chosen or {}
        order = sorted(wanted, key=lambda axis: (axis not in chosen, axis in defined))
        stack: list[tuple[dict[str, int], Iterator[int]]] = [({}, iter((0,)))]
        tried = 0
        while stack and tried < most:
            known, choices = stack[-1]
            choice = next(choices, None)
            if choice is None:
                stack.pop()
                continue
            tried += 1
            extended = dict(known)
            free = next((axis for axis in order if axis not in known), None)
            if choice and free is not None:
                extended[free] = choice
            if complete(formula, extended, formula.constants) or self._other_sizes(extended) is None:
                continue
            free = next((axis for axis in order if axis not in extended), None)
            if free is None:
                return extended
            used = list(extended.values())
            rest = [*preferred, *_LARGER]
            if not equal:
                rest.sort(key=lambda size: (size > 9, size in used))
            stack.append((extended, iter(chosen.get(free, rest))))
        return None

    def _other_sizes(self, known: Mapping[str, int]) -> dict[str, int] | None:
        """The right formula's sizes, as far as the left one's are known; None if they break a fact."""
        theirs = {axis: known[own] for axis, own in self.axes.items() if own in known}
        for node, other in self.inputs:
            for ours_axis, axis in zip(node.axes, other.axes, strict=True):
                if ours_axis in known and theirs.setdefault(axis, known[ours_axis]) != known[ours_axis]:
                    return None
        formula = self.right.formula
        return None if complete(formula, theirs, formula.constants) else theirs

    def other_sizes(self, known: Mapping[str, int]) -> dict[str, int]:
        found = self._other_sizes(known)
        assert found is not None, "sizes are chosen to fit both formulas"
        return found


def name_of(node: Node) -> str:
    assert isinstance(node.op, Declared)
    return node.op.name


def _asks(node: Node) -> bool:
    """Whether a size or a position decides something."""
    if isinstance(node.op, Size):
        return any(atom.function in _CUTTING for size in node.op.scalars() for atom in _atoms(size))
    return not node.type.batched and isinstance(node.op, _DECIDING)


def _atoms(size: Poly) -> Iterator[Atom]:
    """The functions in a size, also inside others."""
    for monomial in size.terms:
        for atom, _ in monomial:
            if isinstance(atom, Atom):
                yield atom
                for argument in atom.arguments:
                    yield from _atoms(argument)


def _met(node: Node) -> list[Node]:
    """What a value is made of, but for the numbers that positions and sizes are multiplied by."""
    found: dict[Node, None] = {}
    stack = [node]
    while stack:
        each = stack.pop()
        if each in found:
            continue
        found[each] = None
        varying = [operand for operand in each.inputs if _varying(topological([operand]))]
        stack += varying if varying and isinstance(each.op, Multiply) else each.inputs
    return [*found]


def _varying(nodes: Iterable[Node]) -> frozenset[str]:
    """The axes whose positions or sizes some nodes are made of."""
    return frozenset(name for node in nodes for name in (*node.axes, *_sizes(node)))


def _is_fixed(axis: str, formula: Formula) -> bool:
    """Whether a size is the same at every call."""
    size = formula.derived.get(axis, Poly.symbol(axis))
    return size.symbols() <= formula.constants.keys()


def _sizes(node: Node) -> frozenset[str]:
    return frozenset(name for size in node.op.scalars() for name in size.symbols())


def _named(side: Side) -> set[int]:
    """The whole numbers that a formula mentions."""
    return _whole(side.formula.constants.values()) | _numbers(side.graph.nodes())


def _numbers(nodes: Iterable[Node]) -> set[int]:
    """The whole numbers that some nodes mention."""
    found: set[float] = set()
    for node in nodes:
        if isinstance(node.op, Literal):
            found.add(node.op.value)
        sizes = [*node.op.scalars()]
        if isinstance(node.op, Size):
            sizes += [argument for size in node.op.scalars() for atom in _atoms(size) for argument in atom.arguments]
        found.update(float(number) for size in sizes if (number := size.as_number()) is not None)
    return _whole(found)


def _whole(numbers: Iterable[float]) -> set[int]:
    return {int(number) for number in numbers if math.isfinite(number) and number == int(number)}


def all_sizes(formula: Formula, known: Mapping[str, int]) -> dict[str, float]:
    """Sizes of all axes, derived ones too, and constants."""
    values: dict[str, float] = {**formula.constants, **known}
    for axis, size in formula.derived.items():
        if axis not in values and size.symbols() <= values.keys():
            values[axis] = size.evaluate(values)
    return values
