"""Blocks of random formulas that are recurrences: some states, some lines of a step, an update each, what is yielded.

A step is written by the same lines as a formula, over values without the scanned axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import strategies as st

from . import axis_lines, lines
from .program import Axes, Line, Program, Value

DEEP = 2  # scans inside each other
HELD = 16.0  # bound of a state
# Not inside a step: what wants two axes of its operand where there may be one.
_STEP_LINES: Mapping[str, Line] = {
    name: line for name, line in (lines.LINES | axis_lines.LINES).items() if name not in ("^T", "merge")
}


class _Step(Program):
    """The lines of one step. Values have no scanned axis; what is made is known inside only."""

    def __init__(self, outside: Program, axis: str) -> None:
        self.draw, self.sizes, self.facts, self.constants = (
            outside.draw, outside.sizes, outside.facts, outside.constants,
        )  # fmt: skip
        self.tied = False  # no value of a step may come to have the scanned axis
        self.made = outside.made
        self.depth = getattr(outside, "depth", 0) + 1
        self.scanned = {axis, *getattr(outside, "scanned", ())}
        self.values = [self._entry(value) for value in outside.values]
        self.inputs = [self._entry(value) for value in outside.inputs]
        self.lines = []

    def _entry(self, value: Value) -> Value:
        return Value(value.text, self._without(value.axes), value.kind, value.bound)

    def _without(self, axes: Axes) -> Axes:
        return tuple(axis for axis in axes if axis not in self.scanned)

    def add(self, text: str, axes: Axes, kind: str = "real", bound: float = 1.0) -> Value:
        return super().add(text, self._without(axes), kind, bound)

    def within(self, axes: Axes, kind: str, most: float = HELD) -> Value | None:
        """A value that a state over these axes can take in."""
        return self.pick(lambda v: v.kind == kind and set(v.axes) <= set(axes) and v.bound <= most)


def _state(step: _Step, outside: Program) -> tuple[Value, str]:
    """A state and the line that declares it."""
    kind = step.draw(st.sampled_from(["real", "real", "real", "int", "bool"]))
    like = step.pick(lambda v: step.volume(v.axes) <= 40)
    axes = () if like is None else step.draw(st.permutations(like.axes))[: step.number(0, 2)]
    step.made += 1
    name, start = f"s{step.made}", {"bool": "pos(N) >= 0", "int": "2"}.get(kind, step.choose(["0", "1", "-0.5"]))
    if kind == "bool" and ("N" not in axes or "N" in step.scanned):
        start = "1 > 0"
    first = outside.pick(lambda v: v.kind == kind and set(v.axes) <= set(axes) and v.bound <= 4 and bool(v.axes))
    if first is not None and step.draw(st.booleans()):
        start = first.text
    typed = f"{name}[{', '.join(axes)}]" + ("" if kind == "real" else f" {kind}")
    return Value(name, tuple(axes), kind, {"real": HELD, "int": 30, "bool": 1}[kind]), f"state {typed} = {start}"


def _update(step: _Step, state: Value, held: Sequence[Value]) -> str:
    """The line that updates a state: forgetting, choosing, counting, replacing, taking from another state."""
    name = state.text
    if state.kind == "bool":
        mask = step.within(state.axes, "bool")
        return f"{name} = not {name}" if mask is None else f"{name} = {name} != {mask.text}"
    if state.kind == "int":
        mask = step.within(state.axes, "bool")
        return f"{name} = ({name} + {'1' if mask is None else f'where({mask.text}, 2, 1)'}) % 7"
    x = step.within(state.axes, "real", 3) or Value("0.3", (), "real", 1)
    gate = step.within(state.axes, "real") or x
    mask = step.within(state.axes, "bool")
    choices = [
        f"0.75 * {name} + {x.text}",
        f"{name} * sigmoid({gate.text}) + (1 - sigmoid({gate.text})) * {x.text}",
        f"tanh({name} - {x.text})",
        f"max({name}, {x.text})",
        f"{name} + {x.text} / 5",
        f"0.5 * {name} - {x.text} * tanh({gate.text})",
    ]
    others = [each.text for each in held if each is not state and each.kind == "real" and {*each.axes} <= {*state.axes}]
    choices += [f"0.5 * {name} - {other} / 4 + {x.text}" for other in others]
    if mask is not None:
        choices.append(f"where({mask.text}, {x.text}, {name})")
    if set(x.axes) == set(state.axes):
        choices.append(x.text)
    return f"{name} = {step.choose(choices)}"


def _scan(p: Program, _: str) -> Value | None:
    axes = [a for a in dict.fromkeys(a for value in p.values for a in value.axes) if p.sizes[a] <= 5]
    if axes and p.number(0, 4) > 0:
        return scan_along(p, p.choose(axes))
    size = p.number(1, 4)
    axis = p.fresh("T", size)
    p.sizes[axis] = size
    return scan_along(p, axis)


def scan_along(p: Program, axis: str) -> Value:
    """A recurrence along an axis of the program; the last thing that it yields."""
    depth = getattr(p, "depth", 0)
    step = _Step(p, axis)
    held = [_state(step, p) for _ in range(step.number(1, 3))]
    step.lines += [line for _, line in held]
    states = [state for state, _ in held]
    step.values += states
    waiting = [*states]
    for _ in range(step.number(0, 4)):
        _step_line(step, depth)
        if waiting and step.draw(st.booleans()):
            step.lines.append(_update(step, waiting.pop(0), states))
    step.lines += [_update(step, state, states) for state in waiting]
    given = []
    for _ in range(step.number(1, 2)):
        value = step.pick(lambda v: step.volume((axis, *v.axes)) <= 200) or held[0][0]
        step.made += 1
        step.lines.append(f"yield y{step.made} = {value.text}")
        given.append(Value(f"y{step.made}", (axis, *value.axes), value.kind, value.bound))
    p.lines += [f"scan {axis}:", *(f"    {line}" for line in step.lines)]
    p.made = step.made
    p.values += [*(state for state, _ in held), *given]
    return given[-1]


def _step_line(step: _Step, depth: int) -> None:
    if depth + 1 < DEEP and step.number(0, 9) == 0:
        _scan(step, "scan")
        return
    products = ["@", "sum of products"]
    name = step.choose(products if step.number(0, 3) == 0 else sorted(_STEP_LINES))
    _STEP_LINES[name](step, name)


LINES: Mapping[str, Line] = {"scan": _scan}
