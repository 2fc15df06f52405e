"""AttnZero's search space in the language: a sampled graph of numbered operators becomes a formula with named axes.

The space addresses axes by position, the language by name. Here a value is the text of a named value and the list of
its positions: the name of the axis that stands there, or None for an axis of length 1. So a transposed view needs no
text, two names of one tensor share a cell, and operands meet by renaming.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.examples.references.attnzero import GRAPHS, TIMES, Config

Positions = tuple[str | None, ...]
Size = frozenset[tuple[str, int]]  # a sum of axes of the inputs, and of ones; each with its factor

NO_OP, OTHER = 0.8, 0.05
INPUTS = ("B", "H", "N", "D")


class Misfit(Exception):
    """The operators of a graph do not fit each other, whatever the sizes."""


def sampled(choose: random.Random) -> Config:
    """A configuration as the released sampler draws it, over both orders of the graph that has two."""
    graph = choose.choice(sorted(GRAPHS))
    operators = int(graph[3])
    weights = [NO_OP, *[OTHER] * 27]
    unary = tuple(
        tuple(choose.choices(range(28), weights, k=choose.choice([1, 2, 3]))) for _ in range(2 * operators)
    )
    return Config(graph, unary, tuple(choose.randrange(10) for _ in range(operators)))


@dataclass
class Cell:
    """One tensor: the name of its value, which an operator in place replaces, and its axes in no order."""

    name: str


@dataclass(frozen=True)
class Value:
    cell: Cell
    at: Positions

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(axis for axis in self.at if axis is not None)


@dataclass
class Writer:
    """The lines of a formula, and the size of every axis in it."""

    lines: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    sizes: dict[str, Size] = field(default_factory=lambda: {axis: frozenset({(axis, 1)}) for axis in INPUTS})

    def size(self, axis: str | None) -> Size:
        return self.sizes[axis] if axis is not None else frozenset({("1", 1)})

    def axis(self, size: Size) -> str:
        """A new axis."""
        name = f"A{len(self.sizes)}"
        self.sizes[name] = size
        return name

    def value(self, text: str, at: Positions) -> Value:
        name = f"x{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        return Value(Cell(name), at)

    def renamed(self, value: Value, names: Mapping[str, str]) -> Value:
        """The same under other names of its axes, all at once."""
        names = {old: new for old, new in names.items() if old != new}
        first, last = "", ""
        for old, new in names.items():
            if new in value.axes:  # it goes first, or the two change places
                between = self.axis(self.sizes[old])
                first, last = f"{first}[{old} -> {between}]", f"{last}[{between} -> {new}]"
            else:
                first += f"[{old} -> {new}]"
        if not names:
            return value
        at = tuple(names.get(axis, axis) if axis is not None else None for axis in value.at)
        return self.value(f"{value.cell.name}{first}{last}", at)

    def meeting(self, a: Value, b: Value, together: Sequence[tuple[int, int]], loose: bool = True) -> Value:
        """b with the names of a at the given pairs of positions, and other names than a's everywhere else.

        loose: an axis of length 1 meets any other.
        """
        names: dict[str, str] = {}
        for i, j in together:
            one, other = a.at[i], b.at[j]
            if self.size(one) != self.size(other) and not (loose and None in (one, other)):
                raise Misfit(f"{one} meets {other}")
            if one is not None and other is not None:
                names[other] = one
        for axis in b.axes:
            if axis not in names and axis in a.axes:
                names[axis] = self.axis(self.sizes[axis])
        return self.renamed(b, names)

    def real(self, value: Value, at: int) -> Value:
        """The same with a named axis at a position where one of length 1 stands."""
        if value.at[at] is not None:
            return value
        axis = self.axis(self.size(None))
        self.facts.append(f"{axis} = 1")
        places = list(value.at)
        places[at] = axis
        return self.value(f"{value.cell.name} + 0 * pos({axis})", tuple(places))


def _of_rank(x: Value, least: int, most: int = 99) -> None:
    if not least <= len(x.at) <= most:
        raise Misfit(f"rank {len(x.at)}")


# -- operators of one value --------------------------------------------------------------------------------

POINTWISE = {
    3: "log({x} + 1e-9)", 5: "abs({x})", 7: "{x} / (1 + abs({x}))", 8: "1 / ({x} + 1e-6)", 9: "sigmoid({x})",
    12: "-{x}", 14: "sign({x})", 16: "elu({x}) + 1", 19: "relu({x})", 21: "exp({x})", 26: "1 - sigmoid({x})",
}  # fmt: skip
ALONG_THE_LAST = {2: ("softmax[{d}]({x})", "1 + 0 * {x}"), 10: ("log_softmax[{d}]({x})", "0 * {x}")}


def _unary(write: Writer, operator: int, x: Value) -> Value:
    name, last = x.cell.name, x.at[-1] if x.at else None
    if operator in POINTWISE:
        return write.value(POINTWISE[operator].format(x=name), x.at)
    if operator in ALONG_THE_LAST:
        along, alone = ALONG_THE_LAST[operator]
        return write.value(along.format(d=last, x=name) if last else alone.format(x=name), x.at)
    return _SPECIAL[operator](write, x)


def _transpose(write: Writer, x: Value) -> Value:
    _of_rank(x, 2)
    return Value(x.cell, (*x.at[:-2], x.at[-1], x.at[-2]))


def _log_abs(write: Writer, x: Value) -> Value:
    x.cell.name = write.value(f"where({x.cell.name} == 0, 1, {x.cell.name})", x.at).cell.name
    return write.value(f"log(abs({x.cell.name}))", x.at)


def _sqrt(write: Writer, x: Value) -> Value:
    old = x.cell.name
    x.cell.name = write.value(f"where({old} <= 0, 0, {old})", x.at).cell.name
    return write.value(f"where({old} <= 0, 0, sqrt(where({old} <= 0, 1, {old})))", x.at)


def _by_sum(write: Writer, x: Value) -> Value:
    _of_rank(x, 1)
    total = f"sum[{x.at[-1]}]({x.cell.name})" if x.at[-1] else x.cell.name
    x.cell.name = write.value(f"{x.cell.name} / {total}", x.at).cell.name
    return x


def _standardised(write: Writer, x: Value) -> Value:
    name, every = x.cell.name, ", ".join(x.axes)
    if not every:
        return write.value(f"0 * sign({name})", x.at)
    z = write.value(f"({name} - mean[{every}]({name})) / std[{every}]({name}, ddof=1)", x.at).cell.name
    return write.value(f"where(isnan({z}), 0, {z})", x.at)


def _min_max(write: Writer, x: Value) -> Value:
    name, every = x.cell.name, ", ".join(x.axes)
    low, high = (f"{end}[{every}]({name})" if every else name for end in ("min", "max"))
    return write.value(f"({name} - {low}) / ({high} - {low} + 1e-9)", x.at)


def _scale(write: Writer, x: Value) -> Value:
    _of_rank(x, 4, 4)
    return write.value(f"{x.cell.name} / sqrt({x.at[-1] or 1})", x.at)


def _summed(write: Writer, x: Value, at: int) -> Value:
    _of_rank(x, at + 1 if at == 2 else 2)
    text = f"sum[{x.at[at]}]({x.cell.name})" if x.at[at] else f"{x.cell.name} * 1"
    return write.value(text, (*x.at[:at], *x.at[at + 1 :]))


def _length_one(write: Writer, x: Value, at: int) -> Positions:
    return (*x.at[:at], None, *x.at[at:])


def _unit(write: Writer, x: Value, at: int) -> Value:
    if x.at and x.at[at]:
        return write.value(f"l2_normalize[{x.at[at]}]({x.cell.name})", x.at)
    return write.value(f"{x.cell.name} / max(abs({x.cell.name}), 1e-12)", x.at)


def _token_unit(write: Writer, x: Value) -> Value:
    _of_rank(x, 2)
    return _unit(write, x, -2)


def _repeat(write: Writer, x: Value) -> Value:
    _of_rank(x, 0, 3)
    places: Positions = (*[None] * (3 - len(x.at)), *x.at)
    last = places[-1]
    axis = write.axis(frozenset((symbol, TIMES * factor) for symbol, factor in write.size(last)))
    write.facts.append(f"{axis} = {TIMES} * {last}" if last else f"{axis} = {TIMES}")
    tiled = f"take[{last}]({x.cell.name}, pos({axis}) % {last})" if last else f"({x.cell.name} + 0 * pos({axis}))"
    return write.value(f"1 / ({tiled} + 1e-8)", (*places[:-1], axis))


_SPECIAL: Mapping[int, Callable[[Writer, Value], Value]] = {
    0: lambda write, x: x,
    1: _transpose,
    4: _log_abs,
    6: _standardised,
    11: _sqrt,
    13: _min_max,
    15: _scale,
    17: lambda write, x: _summed(write, x, 2),
    18: lambda write, x: Value(x.cell, (*x.at, None)),
    20: _token_unit,
    22: lambda write, x: Value(x.cell, (None, *x.at)),
    23: lambda write, x: _summed(write, x, 1),
    24: _repeat,
    25: lambda write, x: _unit(write, x, -1),
    27: _by_sum,
}


# -- operators of two values -------------------------------------------------------------------------------


def _broadcast(write: Writer, a: Value, b: Value) -> tuple[Value, Positions]:
    """b as it meets a from the last position on, and the positions of both together."""
    shared = min(len(a.at), len(b.at))
    b = write.meeting(a, b, [(-i, -i) for i in range(1, shared + 1)])
    rank = max(len(a.at), len(b.at))
    padded = [(*[None] * (rank - len(x.at)), *x.at) for x in (a, b)]
    return b, tuple(one or other for one, other in zip(*padded, strict=True))


def _pointwise(write: Writer, a: Value, b: Value, text: str) -> Value:
    b, at = _broadcast(write, a, b)
    return write.value(text.format(a=a.cell.name, b=b.cell.name), at)


def _distance(write: Writer, a: Value, b: Value) -> Value:
    b, at = _broadcast(write, a, b)
    apart = f"{a.cell.name} - {b.cell.name} + 1e-6"
    if not at:
        return write.value(f"abs({apart})", ())
    return write.value(f"norm[{at[-1]}]({apart})" if at[-1] else f"abs({apart})", at[:-1])


def _contracted(write: Writer, a: Value, b: Value, over: Sequence[str | None], at: Positions) -> Value:
    product = f"{a.cell.name} * {b.cell.name}"
    axes = ", ".join(dict.fromkeys(axis for axis in over if axis is not None))
    return write.value(f"sum[{axes}]({product})" if axes else product, at)


def _matmul(write: Writer, a: Value, b: Value) -> Value:
    _of_rank(a, 1)
    _of_rank(b, 1)
    left = a if len(a.at) > 1 else Value(a.cell, (None, *a.at))
    right = b if len(b.at) > 1 else Value(b.cell, (*b.at, None))
    if write.size(left.at[-1]) != write.size(right.at[-2]):
        raise Misfit("inner lengths")
    batch = min(len(left.at), len(right.at)) - 2
    right = write.meeting(left, right, [(-1, -2), *((-i, -i) for i in range(3, 3 + batch))])
    rank = max(len(left.at), len(right.at)) - 2
    padded = [(*[None] * (rank + 2 - len(x.at)), *x.at)[:rank] for x in (left, right)]
    at: Positions = tuple(one or other for one, other in zip(*padded, strict=True))
    if len(a.at) > 1:
        at = (*at, left.at[-2])
    if len(b.at) > 1:
        at = (*at, right.at[-1])
    return _contracted(write, left, right, [left.at[-1]], at)


def _cosine(write: Writer, a: Value, b: Value) -> Value:
    """The first operand against itself: the number of its rows that are not nearly zero."""
    _of_rank(a, 1)
    _of_rank(b, 1)
    if write.size(a.at[0]) != write.size(b.at[0]):
        raise Misfit("rows of the first operand against other rows of itself")
    rest = ", ".join(axis for axis in a.at[1:] if axis)
    x = a.cell.name
    norm = write.value(f"norm[{rest}]({x})" if rest else f"abs({x})", a.at[:1]).cell.name
    square = f"sum[{rest}]({x} * {x})" if rest else f"{x} * {x}"
    row = write.value(f"{square} / square(max({norm}, 1e-8))", a.at[:1]).cell.name
    return write.value(f"sum[{a.at[0]}]({row})" if a.at[0] else f"{row} * 1", ())


def _product(write: Writer, a: Value, b: Value, transposed: bool) -> Value:
    _of_rank(a, 4, 4)
    _of_rank(b, 4, 4)
    sizes = [[write.size(axis) for axis in x.at] for x in (a, b)]
    tokens = sizes[0][:3] == sizes[1][:3]
    if not tokens and (sizes[0][:2], sizes[0][3]) != (sizes[1][:2], sizes[1][3]):
        raise Misfit("neither tokens nor features agree")
    inner, outer = (2, 3) if tokens else (3, 2)
    b = write.meeting(a, b, [(i, i) for i in (0, 1, inner)], loose=False)
    last = (b.at[outer], a.at[outer]) if transposed else (a.at[outer], b.at[outer])
    return _contracted(write, a, b, [a.at[inner]], (*a.at[:2], *last))


def _einsum(write: Writer, a: Value, b: Value, left: str, right: str, result: str) -> Value:
    if (len(a.at), len(b.at)) != (len(left), len(right)):
        raise Misfit("ranks")
    b = write.meeting(a, b, [(left.index(label), right.index(label)) for label in right])
    of = {label: a.at[i] for i, label in enumerate(left)}
    of |= {label: of[label] or b.at[i] for i, label in enumerate(right)}
    over = [axis for label, axis in of.items() if label not in result]
    return _contracted(write, a, b, over, tuple(of[label] for label in result))


def _concatenated(write: Writer, a: Value, b: Value) -> Value:
    if len(a.at) != len(b.at) or not a.at:
        raise Misfit("ranks")
    a, b = write.real(a, -1), write.real(b, -1)
    b = write.meeting(a, b, [(i, i) for i in range(len(a.at) - 1)], loose=False)
    total: Counter[str] = Counter()
    for axis in (a.at[-1], b.at[-1]):
        total.update(dict(write.size(axis)))
    axis = write.axis(frozenset(total.items()))
    text = f"concat[{a.at[-1]}, {b.at[-1]} -> {axis}]({a.cell.name}, {b.cell.name})"
    return write.value(text, (*a.at[:-1], axis))


_BINARY: tuple[Callable[[Writer, Value, Value], Value], ...] = (
    lambda write, a, b: _pointwise(write, a, b, "{a} + {b}"),
    _distance,
    lambda write, a, b: _pointwise(write, a, b, "{a} * {b}"),
    _matmul,
    _cosine,
    lambda write, a, b: _product(write, a, b, transposed=False),
    lambda write, a, b: _product(write, a, b, transposed=True),
    lambda write, a, b: _einsum(write, a, b, "bnsd", "bnd", "bns"),
    lambda write, a, b: _einsum(write, a, b, "bti", "bi", "bt"),
    _concatenated,
)


# -- graphs ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Written:
    """A formula, the positions of the released result, and the size of every axis."""

    text: str
    at: Positions
    sizes: Mapping[str, Size]


def written(config: Config) -> Written:
    """The formula of a configuration. Errors: Misfit, where the released graph raises."""
    write = Writer()
    slots, steps = GRAPHS[config.graph]
    values = {slot: Value(Cell(source), INPUTS) for slot, source in slots.items()}
    for step in steps:
        match step:
            case (int(index), name):
                for operator in config.unary[index]:
                    values[name] = _unary(write, operator, values[name])
            case (str(old), name):
                values[name] = values[old]
            case (int(index), left, right, result):
                values[result] = _BINARY[config.binary[index]](write, values[left], values[right])
    out = values["out"]
    inputs = ", ".join(f"{name}[{', '.join(INPUTS)}]" for name in "qkv")
    lines = [f"where {', '.join(write.facts)}"] * bool(write.facts) + write.lines + [f"return {out.cell.name}"]
    head = f"attention sampled({inputs}) -> [{', '.join(out.axes)}]:\n"
    return Written(head + "".join(f"    {line}\n" for line in lines), out.at, write.sizes)
