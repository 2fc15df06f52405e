"""A formula in the making: its inputs, the sizes of its axes, its lines so far, and the values that they name.

The generator keeps its own account of axes, kinds and magnitudes, by the rules of the language and not by the
compiler's code, so that a formula that the compiler rejects is a finding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from .draft import Draft, Shape

LARGE = 30.0  # magnitudes above are squashed
ELEMENTS = 400  # of one value, at most

Axes = tuple[str, ...]


@dataclass(frozen=True)
class Value:
    """What a text stands for. bound: no element is larger in magnitude."""

    text: str
    axes: Axes
    kind: str = "real"
    bound: float = 1.5


INPUTS = (
    Value("q", ("N", "D")),
    Value("k", ("M", "D")),
    Value("v", ("M", "E")),
    Value("g", ("N",)),
    Value("s", ("N", "M")),
    Value("h", ("H", "N", "D")),
    Value("i", ("M",), "int", 3),
    Value("c", ("N",), "bool", 1),
    Value("z", ("N", "E"), "complex", 1.5),
)
PARAMETERS = (Value("w", ("D", "E")), Value("b", ("H",)), Value("u", ("E",)))


class Program:
    """A formula in the making."""

    def __init__(self, draw: DrawFn, tied: bool | None = None) -> None:
        """tied: keys are as many as queries; drawn if it is not given."""
        self.draw = draw
        small = st.sampled_from([1, 2, 3, 3, 5])
        self.sizes = {axis: draw(small) for axis in ("N", "M", "D", "E", "H")}
        self.facts: list[str] = []
        self.tied = draw(st.booleans()) if tied is None else tied
        if self.tied:
            self.sizes["M"] = self.sizes["N"]
            self.facts.append("M = N")
        self.inputs = [*INPUTS[:2], *draw(st.lists(st.sampled_from(INPUTS[2:]), max_size=3, unique=True))]
        self.parameters = draw(st.lists(st.sampled_from(PARAMETERS), max_size=1))
        self.values = [*self.inputs, *self.parameters]
        self.constants: dict[str, str] = {}
        self.lines: list[str] = []
        self.made = 0

    # -- choosing --------------------------------------------------------------------------------

    def choose(self, options: list[str] | Axes) -> str:
        return self.draw(st.sampled_from(options))

    def number(self, least: int, most: int) -> int:
        return self.draw(st.integers(least, most))

    def pick(self, fits: Callable[[Value], bool]) -> Value | None:
        """A value that fits, the latest most likely; sometimes one that was used before."""
        fitting = [value for value in self.values if fits(value)]
        if not fitting:
            return None
        found: Value = fitting[-1] if self.draw(st.booleans()) else self.draw(st.sampled_from(fitting))
        return found

    def real(self, rank: int = 0) -> Value:
        return self.pick(lambda v: v.kind == "real" and len(v.axes) >= rank) or self.inputs[0]

    def mask(self) -> Value:
        """A bool value, from the pool or a comparison."""
        found = self.pick(lambda v: v.kind == "bool")
        if found is not None and self.draw(st.booleans()):
            return found
        match self.number(0, 2):
            case 0:
                return self.add("pos(N) >= pos(M)", ("N", "M"), "bool", 1)
            case 1:
                x = self.real()
                return self.add(f"{x.text} > 0.1234", x.axes, "bool", 1)
            case _:
                return self.add("pos(N) % 2 == 0", ("N",), "bool", 1)

    def fresh(self, stem: str, size: int | None = None) -> str:
        """A new axis; its size is stated where it is given."""
        self.made += 1
        axis = f"{stem}{self.made}"
        if size is not None:
            self.facts.append(f"{axis} = {size}")
        return axis

    # -- growing ---------------------------------------------------------------------------------

    def volume(self, axes: Axes) -> int:
        return prod(self.sizes[axis] for axis in axes)

    def small(self, *axes: Axes) -> bool:
        return self.volume(tuple(dict.fromkeys(axis for each in axes for axis in each))) <= ELEMENTS

    def add(self, text: str, axes: Axes, kind: str = "real", bound: float = 1.0) -> Value:
        """A line that names a value. Large values are squashed, so that later lines stay finite."""
        if bound > LARGE:
            match kind:
                case "real":
                    text, bound = f"8 * tanh(({text}) / 8)", 8.0
                case "int":
                    text, bound = f"({text}) % 7", 6.0
                case "complex":
                    text, bound = f"({text}) / {bound:.0f}", 1.0
        self.made += 1
        name = f"x{self.made}"
        self.lines.append(f"{name} = {text}")
        value = Value(name, axes, kind, bound)
        self.values.append(value)
        return value

    def draft(self) -> Draft:
        """The formula as text, with batches and a seed."""
        batch: Shape = self.draw(st.sampled_from([(), (), (2,), (2, 2)]))
        options = [batch, batch, batch[1:], (1,) * len(batch), ()]
        batches = {value.text: self.draw(st.sampled_from(options)) for value in self.inputs}
        returned = [self.values[-1]]
        if self.draw(st.integers(0, 3)) == 0:
            returned.append(self.draw(st.sampled_from(self.values)))
        results = [
            (tuple(self.draw(st.permutations(value.axes))) if self.draw(st.booleans()) else value.axes, value.kind)
            for value in returned
        ]
        lines = [f"where {fact}" for fact in self.facts]
        lines += [f"const {name} = {value}" for name, value in self.constants.items()]
        lines += [f"param {p.text}[{', '.join(p.axes)}] = normal(1)" for p in self.parameters]
        lines += [*self.lines, f"return {', '.join(value.text for value in returned)}"]
        arguments = ", ".join(f"{i.text}{_typed(i.axes, i.kind)}" for i in self.inputs)
        shown = ", ".join(_typed(axes, kind) for axes, kind in results)
        text = f"attention f({arguments}) -> {shown}:\n" + "".join(f"    {line}\n" for line in lines)
        carried = {axis for value in (*self.inputs, *self.parameters) for axis in value.axes}
        sizes = {axis: size for axis, size in self.sizes.items() if axis in carried}
        return Draft(text, sizes, batches, self.draw(st.integers(0, 99)))


def _typed(axes: Axes, kind: str) -> str:
    return f"[{', '.join(axes)}]" + ("" if kind == "real" else f" {kind}")


def joined(left: Axes, right: Axes) -> Axes:
    """The axes of an elementwise result, by the words of the language reference."""
    if set(right) <= set(left):
        return left
    if set(left) <= set(right):
        return right
    return left + tuple(axis for axis in right if axis not in left)


#: Writes a line with the operation of this spelling; None where the program has nothing that fits it.
Line = Callable[[Program, str], Value | None]
