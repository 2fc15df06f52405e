"""Rewriting to a fixed point: rules applied bottom-up on the immutable graph, each application recorded.

Deterministic and bounded: values are visited operands first, rules are tried in the order of their table, and a
formula is given a number of applications. What a rule makes is built through the formula's own builder, so that equal
values are one node and common subexpressions need no rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from .graph import Builder, GraphTooLarge, Node, topological
from .ops.arithmetic import Multiply
from .ops.base import Op, Reject
from .ops.layout import Broadcast, Reorder
from .ops.leaves import Literal, Size
from .ops.normalisations import L1Normalize, L2Normalize, LayerNorm, RmsNorm
from .ops.reductions import Max, Mean, Min, Sum
from .rules import RULES
from .rules.chain import (
    GROUPS,
    build_product,
    build_sum,
    factors,
    fold_product,
    fold_sum,
    is_product,
    is_sum,
    plain,
    terms,
)
from .rules.pattern import Pattern, build, matches, operands, pattern
from .rules.rule import Knowledge, Rule
from .sizes import Poly
from .types import Kind

MAX_STEPS = 250
MAX_OPENED = 60  # steps of one attempt to make a value smaller by making it larger first
FOLDED = "constants folded"
COPIES = "reduction of copies"
LEFT_OUT = "where what is left out is NaN or infinite"
#: where values are tried in a larger form that may become smaller: the operations that close each kind of opening
CLOSING: dict[str, tuple[type[Op], ...]] = {
    "scale": (L2Normalize, L1Normalize, RmsNorm, LayerNorm),
    "total": (Sum, Mean),
}


@dataclass(frozen=True)
class Rewrite:
    """One application of a rule: `before` became `after`."""

    rule: str
    before: Node
    after: Node
    why: str
    guard: str | None = None


@dataclass(frozen=True)
class Rewritten:
    """The values after rewriting, and how they came about.

    became: what each visited node was replaced by in the end; came: for each node that was made, the one it replaced.
    """

    outputs: tuple[Node, ...]
    became: dict[Node, Node]
    came: dict[Node, Node]
    trace: tuple[Rewrite, ...]


def rewrite(
    outputs: Sequence[Node],
    builder: Builder,
    known: Knowledge,
    *,
    rules: Iterable[Rule] | None = None,
    guards: bool = False,
) -> Rewritten:
    """Apply rules until none applies.

    known: what conditions of rules may use. rules: all, unless given. guards: also apply rules that change a value
    where a guard acts.
    The outputs keep their kinds and axes.
    """
    table = _table(guards) if rules is None else _Table.of(rules, guards=guards)
    shared = _shared(outputs)
    for narrowing in (True, False):
        engine = _Engine(builder, known, table, narrowing, MAX_STEPS, shared)
        try:
            found = tuple(engine.run(output) for output in outputs)
        except GraphTooLarge:
            break
        if engine.trace and not (narrowing and _repeats(found, outputs)):
            laid_out = tuple(_as_declared(new, old, builder) for new, old in zip(found, outputs, strict=True))
            return Rewritten(laid_out, engine.done, engine.came, tuple(engine.trace))
    return Rewritten(tuple(outputs), {}, {}, ())


def _shared(outputs: Sequence[Node]) -> set[Node]:
    """Values that more than one operation needs, or that are results."""
    uses = Counter(operand for node in topological(outputs) for operand in node.inputs)
    return {node for node, count in uses.items() if count > 1 and node.inputs} | set(outputs)


def _as_declared(new: Node, old: Node, builder: Builder) -> Node:
    """The value with its axes in the order of the one that it replaces."""
    return new if new.axes == old.axes else builder.make(Reorder(old.axes), new)


def _repeats(found: Sequence[Node], outputs: Sequence[Node]) -> bool:
    """Whether a value is left that lacks axes which nothing around it makes up for."""
    if any(new.type.batched != old.type.batched for new, old in zip(found, outputs, strict=True)):
        return True
    before = {node for node in topological(outputs) if isinstance(node.op, Broadcast)}
    return any(isinstance(node.op, Broadcast) and node not in before for node in topological(found))


@dataclass(frozen=True)
class _Table:
    """Patterns by the operation that they start with, and those of each kind of opening.

    guards: whether values may change where a guard acts, or where NaN or infinity appears.
    """

    patterns: dict[type[Op], list[Pattern]]
    opening: dict[type[Op], _Table]
    guards: bool

    @staticmethod
    def of(rules: Iterable[Rule], *, guards: bool) -> _Table:
        allowed = [rule for rule in rules if guards or rule.guard is None]
        plain_rules = [rule for rule in allowed if rule.opens is None]
        opening: dict[type[Op], _Table] = {}
        for opens, closing in CLOSING.items():
            more = [rule for rule in allowed if rule.opens == opens]
            if more:
                opening |= dict.fromkeys(closing, _Table(_by_root([*plain_rules, *more]), {}, guards))
        return _Table(_by_root(plain_rules), opening, guards)


def _by_root(rules: Sequence[Rule]) -> dict[type[Op], list[Pattern]]:
    found: dict[type[Op], list[Pattern]] = {}
    for wanted in map(pattern, rules):
        for root in wanted.roots:
            found.setdefault(root, []).append(wanted)
    return found


@cache
def _table(guards: bool) -> _Table:
    return _Table.of(RULES, guards=guards)


class _Engine:
    """One run over a graph."""

    def __init__(
        self, builder: Builder, known: Knowledge, table: _Table, narrowing: bool, steps: int, shared: Iterable[Node]
    ) -> None:
        self.builder = builder
        self.known = known
        self.table = table
        self.narrowing = narrowing  # whether a value may be replaced by one with fewer axes
        self.steps = steps  # that may still be made
        self.shared = set(shared)
        self.inner: set[Node] = set()  # parts of longer sums and products, which are looked at as a whole
        self.done: dict[Node, Node] = {}
        self.came: dict[Node, Node] = {}
        self.trace: list[Rewrite] = []

    def run(self, root: Node) -> Node:
        """The value after rewriting. Iterative: a value waits on the stack for its operands."""
        waiting: dict[Node, Node] = {}  # what a value has become so far
        stack = [root]
        while stack:
            node = stack[-1]
            if node in self.done:
                stack.pop()
            elif node in waiting:  # what it has become is done, or rewriting runs in a circle
                self._finish(node, self.done.get(waiting[node], node))
            elif missing := [operand for operand in node.inputs if operand not in self.done]:
                self._mark(node)
                stack.extend(reversed(missing))
            else:
                after = self._rebuilt(node)
                if after is not node:
                    self.inner |= {after} if node in self.inner else set()
                elif node not in self.inner:
                    after = self._step(node)
                if after is node:
                    self._finish(node, node)
                else:
                    waiting[node] = after
                    self.came.setdefault(after, node)
                    stack.append(after)
        return self.done[root]

    def _mark(self, node: Node) -> None:
        """Note which operands only continue the node's own sum or product."""
        group = next((group for group in GROUPS if isinstance(node.op, group)), None)
        if group is not None:
            self.inner.update(o for o in node.inputs if isinstance(o.op, group) and o not in self.shared)

    def _finish(self, node: Node, after: Node) -> None:
        self.done[node] = after
        if node in self.shared and after.inputs:
            self.shared.add(after)

    def _rebuilt(self, node: Node) -> Node:
        """The node with its operands as they have become. What repeats operands repeats the result instead."""
        operands = [self.done[operand] for operand in node.inputs]
        if isinstance(node.op, Reorder):
            return operands[0]
        if all(new is old for new, old in zip(operands, node.inputs, strict=True)):
            return node
        if node.op.elementwise:
            bare = [operand.inputs[0] if isinstance(operand.op, Broadcast) else operand for operand in operands]
            made = self._fitted(self.builder.make(node.op, *bare), node)
            if made is not None:
                return made
        return self.builder.make(node.op, *operands)

    def _step(self, node: Node) -> Node:
        """What one rule makes of a node whose operands are done; the node itself if none applies."""
        if self.steps <= 0:
            return node
        folded = self._folded(node)
        if folded is not None:
            return self._made(Rewrite(FOLDED, node, folded, "numbers are computed once"))
        single = self._single(node)
        if single is not None:
            return self._made(Rewrite(COPIES, node, single, "the value is the same all along the axis"))
        wanted = self.table.patterns.get(type(node.op))
        if wanted:
            available = {type(operand.op) for operand in operands(node, self.builder)}
            for one in wanted:
                made = self._apply(one, node) if one.needs <= available else None
                if made is not None:
                    after, guard = made
                    return self._made(Rewrite(one.rule.name, node, after, one.rule.why, guard))
        opening = self.table.opening.get(type(node.op))
        return node if opening is None else self._opened(node, opening)

    def _made(self, step: Rewrite) -> Node:
        self.trace.append(step)
        self.steps -= 1
        return step.after

    def _opened(self, node: Node, table: _Table) -> Node:
        """The node in a larger form, if that has become smaller than it was."""
        inner = _Engine(self.builder, self.known, table, self.narrowing, min(self.steps, MAX_OPENED), ())
        after = inner.run(node)
        if after is node or _count(after) >= _count(node):
            return node
        self.trace.extend(inner.trace)
        self.came |= {new: old for new, old in inner.came.items() if new not in self.came}
        self.steps -= len(inner.trace)
        return after

    def _apply(self, wanted: Pattern, node: Node) -> tuple[Node, str | None] | None:
        """What the rule makes of the node, and where the values differ, if anywhere."""
        condition = wanted.rule.when
        for found in matches(wanted, node, self.builder, self.shared):
            if condition is not None and condition(found.match, self.known) is not None:
                continue
            guard = wanted.rule.guard
            if not all(self.known.finite(found.match[name]) for name in wanted.dropped):
                if not self.table.guards:
                    continue
                guard = guard or LEFT_OUT
            try:
                after = self._fitted(build(wanted, found, self.builder), node)
            except Reject:
                continue
            if after is not None and after is not node:
                return after, guard
        return None

    def _folded(self, node: Node) -> Node | None:
        """A sum or product with its numbers joined; None if there is nothing to join."""
        after = None
        if is_sum(node):
            items = fold_sum(self.builder, terms(node, self.shared))
            after = None if items is None else build_sum(self.builder, items)
        elif is_product(node):
            items = fold_product(self.builder, factors(self.builder, node, self.shared))
            after = None if items is None else build_product(self.builder, items)
        fitted = None if after is None else self._fitted(after, node)
        return None if fitted is node else fitted

    def _single(self, node: Node) -> Node | None:
        """A sum, mean, largest or smallest over copies of a value, from the value; None if it is of something else."""
        if not isinstance(node.op, Sum | Mean | Max | Min) or not isinstance(node.inputs[0].op, Broadcast):
            return None
        [after] = node.inputs[0].inputs
        copied = [axis for axis in node.op.axes if axis not in after.axes]
        if not copied or after.type.kind is not node.type.kind:
            return None
        rest = tuple(axis for axis in node.op.axes if axis in after.axes)
        after = self.builder.make(replace(node.op, axes=rest), after) if rest else after
        if isinstance(node.op, Sum):
            count = Poly.volume(copied)
            if isinstance(after.op, Literal) and float(after.op.value).is_integer():
                after = self.builder.make(Size(count * int(after.op.value), after.type.kind))
            else:
                after = self.builder.make(Multiply(), after, self.builder.make(Size(count)))
        return self._fitted(after, node)

    def _fitted(self, after: Node, node: Node) -> Node | None:
        """A value of the kind and the axes of the node that it replaces; None if it cannot be one."""
        after = plain(after)
        if after.type.kind is not node.type.kind:
            if not isinstance(after.op, Literal) or node.type.kind is not Kind.REAL or after.type.kind is not Kind.INT:
                return None
            after = self.builder.make(Literal(float(after.op.value)))
        if set(after.axes) == set(node.axes):
            return after if self.narrowing or after.type.batched == node.type.batched else None
        if not self.narrowing or not set(after.axes) < set(node.axes):
            return None
        return self.builder.make(Broadcast(node.axes), after)


def _count(node: Node) -> int:
    """How much is computed for a value: its operations."""
    return sum(1 for one in topological([node]) if one.inputs)
