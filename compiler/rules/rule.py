"""What a rewrite rule is: two expressions of the language that are equal, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..facts.finite import finite
from ..facts.ranges import Range, ranges
from ..graph import Node
from ..ops.leaves import Literal
from ..sizes import Poly


@dataclass
class Knowledge:
    """What is known of values while rules are tried.

    constants: names that a compile may override; nothing is concluded from their defaults.
    implication: whether one mask holds only where another does.
    """

    constants: frozenset[str] = frozenset()
    implication: Callable[[Node, Node], bool] | None = None
    _ranges: dict[Node, Range] = field(default_factory=dict)
    _finite: dict[Node, bool] = field(default_factory=dict)

    def finite(self, node: Node) -> bool:
        """Whether the value is a finite number for all finite inputs."""
        return finite(node, self.range, self._finite)

    def range(self, node: Node) -> Range:
        """Where the value lies, for all inputs and sizes."""
        if node not in self._ranges:
            ranges((node,), {}, self._ranges, self.constants)
        return self._ranges[node]


@dataclass(frozen=True)
class Match:
    """How a pattern fits a value: nodes for variables, axes of the value for those of the pattern, attributes."""

    variables: Mapping[str, Node] = field(default_factory=dict)
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    attributes: Mapping[str, Poly] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Node:
        return self.variables[name]


Condition = Callable[[Match, Knowledge], str | None]


@dataclass(frozen=True)
class Rule:
    """`before` may be replaced by `after`.

    header: the variables with kinds and axes, and the axes of the result (of `after` too, where it has fewer), as in
        the header of a formula. A variable stands for any value of its kind or a narrower one. An axis that an
        operation of `before` names stands for the one or more axes that the value has there; a variable that is
        declared without it has none of them. Axes that no operation names stand for whatever other axes there are.
        Operands of `+ - * /` are found in any order and among any number of others; an attribute that is left at
        its default on both sides stands for any, the same on both.
    when: why the rule does not apply to a match, or None.
    why: the reason why both sides are equal.
    near_miss: an expression that looks alike and must stay as it is.
    instance: an expression on which the rule applies, where `before` alone does not show that the condition holds.
    guard: where the sides differ, if anywhere that they are finite; such a rule is applied on request only.
    unread: variables that `after` lacks and whose values never count, as a branch that is not taken. Any other variable
        that `after` lacks must be finite for all inputs, or what it does to `before` is lost: without guards the rule
        applies only then.
    opens: the rule makes an expression larger for others to make it smaller: "scale" moves a factor out of what a
        normalisation is applied to, "total" takes a sum apart. What comes of it is kept if it is smaller.
    """

    name: str
    header: str
    before: str
    after: str
    why: str
    near_miss: str
    when: Condition | None = None
    instance: str | None = None
    guard: str | None = None
    opens: str | None = None
    unread: tuple[str, ...] = ()


# -- conditions ---------------------------------------------------------------------------------------


def positive(name: str) -> Condition:
    """The value is > 0 for all inputs."""

    def check(match: Match, known: Knowledge) -> str | None:
        return None if known.range(match[name]).positive else f"`{name}` is not known to be positive"

    return check


def non_negative(name: str) -> Condition:
    """The value is >= 0 for all inputs."""

    def check(match: Match, known: Knowledge) -> str | None:
        return None if known.range(match[name]).non_negative else f"`{name}` may be negative"

    return check


def non_positive(name: str) -> Condition:
    """The value is <= 0 for all inputs."""

    def check(match: Match, known: Knowledge) -> str | None:
        return None if known.range(match[name]).high <= 0 else f"`{name}` may be positive"

    return check


def negative(name: str) -> Condition:
    """The value is < 0 for all inputs."""

    def check(match: Match, known: Knowledge) -> str | None:
        found = known.range(match[name])
        below = found.high < 0 or (found.high == 0 and found.high_open)
        return None if below else f"`{name}` is not known to be negative"

    return check


def apart_from_zero(name: str, sign: int) -> Condition:
    """The value keeps away from 0, on the side of the sign: underflow cannot make it 0."""

    def check(match: Match, known: Knowledge) -> str | None:
        found = known.range(match[name])
        fits = found.low > 0 if sign > 0 else found.high < 0
        return None if fits else f"`{name}` may be as near to 0 as it likes"

    return check


def not_below(upper: str, lower: str) -> Condition:
    """upper >= lower for all inputs."""

    def check(match: Match, known: Knowledge) -> str | None:
        fits = known.range(match[upper]).low >= known.range(match[lower]).high
        return None if fits else f"`{upper}` may be smaller than `{lower}`"

    return check


def above(upper: str, lower: str) -> Condition:
    """upper > lower for all inputs, with numbers between them."""

    def check(match: Match, known: Knowledge) -> str | None:
        apart = known.range(match[upper]).low > known.range(match[lower]).high
        return None if apart else f"`{upper}` may be as small as `{lower}`"

    return check


def just_above(upper: str, lower: str) -> Condition:
    """upper > lower for all inputs; rounding may make them equal."""

    def check(match: Match, known: Knowledge) -> str | None:
        high, low = known.range(match[upper]), known.range(match[lower])
        touching = high.low == low.high and (high.low_open or low.high_open)
        return None if touching else f"`{upper}` and `{lower}` do not meet at an end that one of them does not reach"

    return check


def of_inputs(name: str) -> Condition:
    """The value depends on inputs, not on positions and sizes alone."""

    def check(match: Match, known: Knowledge) -> str | None:
        return None if match[name].type.batched else f"`{name}` depends on no input"

    return check


def not_a_number(name: str) -> Condition:
    """The value is not written as a number."""

    def check(match: Match, known: Knowledge) -> str | None:
        return f"`{name}` is a number" if isinstance(match[name].op, Literal) else None

    return check


def implies(narrow: str, wide: str) -> Condition:
    """One mask holds only where the other does."""

    def check(match: Match, known: Knowledge) -> str | None:
        proved = known.implication is not None and known.implication(match[narrow], match[wide])
        return None if proved else f"`{narrow}` is not known to imply `{wide}`"

    return check


def same_axes(*names: str) -> Condition:
    """The values have the same axes, so that joining them makes nothing larger."""

    def check(match: Match, known: Knowledge) -> str | None:
        found = {frozenset(match[name].axes) for name in names}
        return None if len(found) == 1 else "their axes differ, and the result would couple them"

    return check


def every(*conditions: Condition) -> Condition:
    """All of the conditions."""

    def check(match: Match, known: Knowledge) -> str | None:
        return next((reason for condition in conditions if (reason := condition(match, known))), None)

    return check
