"""Values that both formulas compute, in the place of which a proof may set new variables.

What is equal for all values of a variable is equal for the values that it stands for. A formula that repeats a step
many times has a degree that no random evaluation can bear; cut at what both formulas compute after every step, each
piece has a small one.

Why this proves equality: let every place with the same name compute the same function of the variables before it. Take
the places of one formula in the order of evaluation: the variables before a place stand for the same values in both
formulas, so the place itself does. No order that both formulas share is needed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from . import residues
from .values import Degree, Setting, Value

CUT = 2**14  # the degree from which a value is cut, if the other formula has it too


@dataclass
class Parts:
    """What two evaluations have in common: first they are recorded, then both are done again with cuts.

    error: of a degree, the binary logarithm of the chance that different functions agree.
    agree: whether every place that was cut computes the same as the others of its name. worst: the sum of the errors.
    """

    error: Callable[[int], float]
    agree: bool = True
    chance: float = 0.0
    _found: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))
    _common: frozenset[str] = frozenset()
    _meaning: dict[str, tuple[str, int]] = field(default_factory=dict)

    def recorder(self, index: int) -> Callable[[Value, Setting], Value]:
        """Takes down what the left (0) or right (1) formula computes, in order."""

        def record(value: Value, setting: Setting) -> Value:
            self._found[index].append(_print(value, setting))
            return value

        return record

    def cutter(self, index: int) -> Callable[[Value, Setting], Value]:
        """Sets a variable where the left formula has a high degree and the right one has the same value.

        The left formula comes first: the right one is cut where the left one was.
        """
        self._common = frozenset(self._found[0]) & frozenset(self._found[1])
        names = iter(self._found[index])

        def cut(value: Value, setting: Setting) -> Value:
            name = next(names)
            if value.known is not None or name not in self._common:
                return value
            degree = value.degree.above + value.degree.below
            if index == 0 and name not in self._meaning and degree <= CUT:
                return value
            if index == 1 and name not in self._meaning:
                return value
            content = _print(value, setting)
            meaning, other = self._meaning.setdefault(name, (content, degree))
            self.agree = self.agree and content == meaning
            self.chance += 2.0 ** self.error(degree + other)
            order = _order(value.axes, setting)
            fresh = Value(residues.drawn(f"part {name}", setting.shape(order)), order, Degree(1))
            return Value(fresh.over(value.axes), value.axes, Degree(1))

        return cut

    @property
    def worst(self) -> float:
        """The binary logarithm of the chance that some place computes something else after all."""
        return math.log2(self.chance) if self.chance else -math.inf


def _order(axes: tuple[str, ...], setting: Setting) -> tuple[str, ...]:
    return tuple(sorted(axes, key=lambda axis: setting.axes.get(axis, axis)))


def _print(value: Value, setting: Setting) -> str:
    """What tells one value from others, whatever the order of its axes is."""
    order = _order(value.axes, setting)
    whole: Tensor = value.over(order)[0].expand(residues.TRIALS, *setting.shape(order)).contiguous()
    names = [setting.axes.get(axis, axis) for axis in order]
    content = hashlib.blake2b(f"{names}{tuple(whole.shape)}".encode(), digest_size=16)
    content.update(torch.as_tensor(whole).numpy().tobytes())
    return content.hexdigest()
