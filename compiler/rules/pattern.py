"""Rules as graphs: their texts typed by the language's own front end, matched against values, built from matches.

A match is found modulo the order and the brackets of `+ - * /`, the order of axes, and the order of the operands of
commutative operations.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache

from ...grammar import ast
from ...grammar.parser import parse
from ...grammar.source import Source
from ..elaborate import _Elaborator
from ..graph import Builder, Node, digest, topological
from ..ops.arithmetic import Divide, Negative
from ..ops.base import Op, Reject
from ..ops.contraction import Contraction
from ..ops.layout import Convert
from ..ops.leaves import Input, Literal, Size
from ..ops.reductions import Sum
from ..scope import Scope
from ..sizes import Poly
from . import chain
from .chain import Item, plain
from .rule import Match, Rule

#: fields of operations that hold names of axes
AXIS_FIELDS = frozenset({"axes", "axis", "source", "target", "sources", "targets", "window", "taps", "summed"})


@dataclass(frozen=True)
class Pattern:
    """A rule as graphs of one builder.

    axes: what each variable is declared with. needs: operations that operands of a match must have.
    carried: attributes that `after` takes over from the match. cancels: `after` lacks a variable, or has none.
    dropped: variables that `after` lacks and that count in `before`.
    """

    rule: Rule
    before: Node
    after: Node
    axes: Mapping[str, tuple[str, ...]]
    needs: frozenset[type[Op]]
    carried: frozenset[str]
    cancels: bool
    dropped: frozenset[str]

    @property
    def roots(self) -> tuple[type[Op], ...]:
        """The operations that a value must be one of to match."""
        return next((group for group in chain.GROUPS if isinstance(self.before.op, group)), (type(self.before.op),))


def expressions(header: str, **texts: str) -> dict[str, Node]:
    """Expressions over the variables of a header, typed. Errors: ValueError for a text that is wrong."""
    lines = "".join(f"    {name} = {text}\n" for name, text in texts.items())
    source = Source("<rule>", f"attention rule({header}) -> []:\n{lines}    return {next(iter(texts))}\n")
    file, problems = parse(source)
    if problems:
        raise ValueError(f"{problems[0].message}: {source.text}")
    [tree] = file.formulas
    scope = Scope(tree)
    scope.declare()
    elaborator = _Elaborator(scope, source, {}, Builder())
    for tensor in tree.inputs:
        elaborator._declared(Input, tensor)
    found: dict[str, Node] = {}
    for statement in tree.statements:
        if isinstance(statement, ast.Assign):
            node = elaborator.value(statement.value)
            if node is None:
                raise ValueError(f"{scope.problems[0].message}: {source.text}")
            found[statement.name] = node
    return found


@cache
def pattern(rule: Rule) -> Pattern:
    """The rule as graphs. Errors: ValueError for a rule whose texts are wrong."""
    found = expressions(rule.header, before=rule.before, after=rule.after)
    axes = {n.op.name: n.axes for n in topological([found["before"]]) if isinstance(n.op, Input)}
    before = plain(found["before"])
    needs = frozenset(
        type(operand.op)
        for operand in operands(before, Builder())
        if not isinstance(operand.op, Input | Size) and not any(isinstance(operand.op, group) for group in chain.GROUPS)
    )
    after = plain(found["after"])
    carried = frozenset(f.name for node in topological([after]) for f in fields(node.op) if f.metadata.get("attribute"))
    kept = {n.op.name for n in topological([after]) if isinstance(n.op, Input)}
    cancels = not kept or not axes.keys() <= kept
    dropped = frozenset(axes.keys() - kept - set(rule.unread))
    return Pattern(rule, before, after, axes, needs, carried, cancels, dropped)


def operands(node: Node, builder: Builder) -> tuple[Node, ...]:
    """What a match may look at below a value: the operands of a whole sum or product, else of the operation."""
    if chain.is_sum(node):
        return tuple(operand for _, operand in chain.terms(node))
    if chain.is_product(node):
        return tuple(operand for _, operand in chain.factors(builder, node))
    return tuple(plain(operand) for operand in node.inputs)


# -- matching -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """A match, and the operands of the value's sum or product that it leaves over, `at` of them in front of it."""

    match: Match
    rest: tuple[Item, ...] = ()
    at: int = 0
    flipped: bool = False  # the match is of the negative, or of the inverse, of `before`


def matches(wanted: Pattern, node: Node, builder: Builder, shared: Container[Node] = ()) -> Iterator[Found]:
    """Every way in which the value is, or contains as part of its sum or product, what the rule is about.

    shared: sums and products that others need as well. They are taken apart only where operands cancel: what is left
    of them is computed a second time.
    """
    whole = () if wanted.cancels else shared
    matcher = _Matcher(builder, wanted.axes, wanted.carried, whole)
    before = wanted.before
    if chain.is_sum(before) or chain.is_product(before):
        found = matcher.part(before, node)
    else:
        found = (Found(match) for match in matcher.match(before, node, Match()))
    for one in found:
        if matcher.allowed(one.match):
            yield one


class _Matcher:
    def __init__(
        self,
        builder: Builder,
        axes: Mapping[str, tuple[str, ...]],
        carried: frozenset[str],
        whole: Container[Node],
    ) -> None:
        self.builder = builder
        self.axes = axes
        self.carried = carried
        self.whole = whole

    def allowed(self, match: Match) -> bool:
        """Whether variables lack the axes that they are declared without, and different axes are different."""
        bound = [axis for axes in match.axes.values() for axis in axes]
        if len(bound) != len(set(bound)):
            return False
        return all(
            name in self.axes[variable] or not set(axes) & set(node.axes)
            for variable, node in match.variables.items()
            for name, axes in match.axes.items()
        )

    def match(self, wanted: Node, node: Node, so_far: Match) -> Iterator[Match]:
        """Ways in which the whole value is what the pattern says."""
        node = plain(node)
        op = wanted.op
        match op:
            case Input(name):
                yield from self._variable(name, wanted, node, so_far)
                return
            case Literal(value):
                if isinstance(node.op, Literal) and node.op.value == value:
                    yield so_far
                return
            case Size(size):
                axes = so_far.axes.get(size.as_symbol() or "")
                if isinstance(node.op, Size) and axes is not None and node.op.size == Poly.volume(axes):
                    yield so_far
                return
        if chain.is_sum(wanted) or chain.is_product(wanted):
            yield from self._whole(wanted, node, so_far)
            return
        if type(op) is not type(node.op) or len(wanted.inputs) != len(node.inputs):
            return
        inner = _attributes(op, node.op, so_far, self.carried)
        if inner is None:
            return
        orders = [node.inputs]
        if op.commutative or isinstance(op, Contraction):
            orders.append(node.inputs[::-1])
        for operands in orders:
            yield from self._operands(wanted.inputs, operands, inner)

    def _operands(self, wanted: tuple[Node, ...], nodes: tuple[Node, ...], so_far: Match) -> Iterator[Match]:
        if not wanted:
            yield so_far
            return
        for found in self.match(wanted[0], nodes[0], so_far):
            yield from self._operands(wanted[1:], nodes[1:], found)

    def _variable(self, name: str, wanted: Node, node: Node, so_far: Match) -> Iterator[Match]:
        known = so_far.variables.get(name)
        if known is not None:
            if known is node or digest(known) == digest(node):
                yield so_far
        elif node.type.kind.rank <= wanted.type.kind.rank and _is_bool(node) == _is_bool(wanted):
            yield replace(so_far, variables={**so_far.variables, name: node})

    # -- sums and products ----------------------------------------------------------------------------

    def items(self, node: Node, like: Node) -> list[Item]:
        """The operands of a value, read as a sum or product like the pattern."""
        if not node.inputs:
            return [(1, node)]
        return chain.terms(node, self.whole) if chain.is_sum(like) else chain.factors(self.builder, node, self.whole)

    def build(self, items: list[Item], like: Node) -> Node:
        build = chain.build_sum if chain.is_sum(like) else chain.build_product
        return build(self.builder, items)

    def _whole(self, wanted: Node, node: Node, so_far: Match) -> Iterator[Match]:
        """The pattern's operands are all of the value's; the first free variable takes what the others leave."""
        parts, items = self.items(wanted, wanted), self.items(node, wanted)
        if len(items) < len(parts):
            return
        free = next(
            (i for i, (sign, part) in enumerate(parts) if _is_free(part, so_far) and sign > 0 and len(parts) > 1), None
        )
        if free is None:
            for found, rest in self._assign(_ordered(parts), items, so_far, wanted, 1):
                if not rest:
                    yield found
            return
        taker = parts.pop(free)[1]
        for found, rest in self._assign(_ordered(parts), items, so_far, wanted, 1):
            if rest:
                yield from self.match(taker, self.build(rest, wanted), found)

    def part(self, wanted: Node, node: Node) -> Iterator[Found]:
        """The pattern's operands are some of the value's, as they are or all of them inverted."""
        parts, items = _ordered(self.items(wanted, wanted)), self.items(node, wanted)
        if len(items) < len(parts):
            return
        for direction in (1, -1):
            for found, rest in self._assign(parts, items, Match(), wanted, direction):
                at = next((i for i, (one, left) in enumerate(zip(items, rest, strict=False)) if one != left), len(rest))
                yield Found(found, tuple(rest), at, direction < 0)

    def _assign(
        self, parts: list[Item], items: list[Item], so_far: Match, like: Node, direction: int
    ) -> Iterator[tuple[Match, list[Item]]]:
        """Ways to give every part an item of its own; with the items that are left."""
        if not parts:
            yield so_far, items
            return
        (sign, part), others = parts[0], parts[1:]
        sign *= direction
        known = so_far.variables.get(part.op.name) if isinstance(part.op, Input) else None
        if known is not None:
            ours = [(sign * s, n) for s, n in self.items(known, like)]
            if not chain.is_sum(like):  # an inverse is 1 / x
                ours = [item for item in ours if not (isinstance(item[1].op, Literal) and item[1].op.value == 1)]
            rest = self._without(items, ours)
            if rest is not None:
                yield from self._assign(others, rest, so_far, like, direction)
            return
        for index, (own, item) in enumerate(items):
            rest = items[:index] + items[index + 1 :]
            if own == sign or (isinstance(item.op, Literal) and abs(item.op.value) == 1 and not chain.is_sum(like)):
                candidate = item
            elif isinstance(part.op, Input) and not _is_bool(item):  # a mask as a factor has no inverse
                candidate = self._inverse(item, like)
            else:
                continue
            for found in self.match(part, candidate, so_far):
                yield from self._assign(others, rest, found, like, direction)

    def _inverse(self, node: Node, like: Node) -> Node:
        if chain.is_sum(like):
            return self.builder.make(Negative(), node)
        return self.builder.make(Divide(), self.builder.make(Literal(1)), node)

    def _without(self, items: list[Item], taken: list[Item]) -> list[Item] | None:
        left = list(items)
        for sign, node in taken:
            index = next((i for i, (s, n) in enumerate(left) if s == sign and digest(n) == digest(node)), None)
            if index is None:
                return None
            del left[index]
        return left


def _ordered(parts: list[Item]) -> list[Item]:
    """Parts that say most first: operations, then numbers, then variables."""
    return sorted(parts, key=lambda item: 2 if isinstance(item[1].op, Input) else not item[1].inputs)


def _is_free(part: Node, so_far: Match) -> bool:
    return isinstance(part.op, Input) and part.op.name not in so_far.variables


def _is_bool(node: Node) -> bool:
    return node.type.kind.rank == 0


def _attributes(wanted: Op, op: Op, so_far: Match, carried: frozenset[str]) -> Match | None:
    """The match with the axes and attributes of one operation, or None if they do not fit."""
    axes, attributes = dict(so_far.axes), dict(so_far.attributes)
    for f in fields(wanted):
        theirs, ours = getattr(wanted, f.name), getattr(op, f.name)
        if isinstance(wanted, Contraction) and f.name == "result":
            continue
        if f.name in AXIS_FIELDS:
            names = (theirs,) if isinstance(theirs, str) else theirs
            values = (ours,) if isinstance(ours, str) else ours
            groups = [values] if len(names) == 1 else [(value,) for value in values]
            if len(names) != len(groups):
                return None
            for name, group in zip(names, groups, strict=True):
                if set(axes.setdefault(name, group)) != set(group):
                    return None
        elif f.name in carried and theirs == f.default:
            if attributes.setdefault(f.name, ours) != ours:
                return None
        elif theirs != ours:
            return None
    return Match(so_far.variables, axes, attributes)


# -- building -----------------------------------------------------------------------------------------


def build(wanted: Pattern, found: Found, builder: Builder) -> Node:
    """What the rule makes of a match, with what it left over. Errors: Reject."""
    after = _instance(wanted.after, found.match, builder)
    if not found.rest and not found.flipped:
        return after
    direction = -1 if found.flipped else 1
    if chain.is_sum(wanted.before):
        added = [(direction * sign, node) for sign, node in chain.terms(after)]
        kept = [item for item in added if not (isinstance(item[1].op, Literal) and item[1].op.value == 0)]
        return chain.build_sum(builder, [*found.rest[: found.at], *kept, *found.rest[found.at :]])
    multiplied = [(direction * power, node) for power, node in chain.factors(builder, after)]
    kept = [item for item in multiplied if not (isinstance(item[1].op, Literal) and item[1].op.value == 1)]
    return chain.build_product(builder, [*found.rest[: found.at], *kept, *found.rest[found.at :]])


def _instance(wanted: Node, match: Match, builder: Builder) -> Node:
    op = wanted.op
    match op:
        case Input(name):
            return match.variables[name]
        case Size(size):
            return builder.make(Size(Poly.volume(match.axes[size.as_symbol() or ""])))
        case Convert() if isinstance(wanted.inputs[0].op, Literal):
            return builder.make(Literal(float(wanted.inputs[0].op.value)))
    operands = [_instance(operand, match, builder) for operand in wanted.inputs]
    changes: dict[str, object] = {}
    for f in fields(op):
        value = getattr(op, f.name)
        if isinstance(op, Contraction) and f.name == "result":
            continue
        if f.name in AXIS_FIELDS:
            names = (value,) if isinstance(value, str) else value
            axes = tuple(axis for name in names for axis in match.axes[name])
            if isinstance(value, str) and len(axes) != 1:
                raise Reject("AG269")
            changes[f.name] = axes[0] if isinstance(value, str) else axes
        elif f.metadata.get("attribute") and value == f.default:
            changes[f.name] = match.attributes.get(f.name, value)
    if isinstance(op, Contraction):
        left, right = operands
        return contract(builder, left, right, tuple(axis for name in op.axes for axis in match.axes[name]))
    return builder.make(replace(op, **changes), *operands)


def contract(builder: Builder, left: Node, right: Node, axes: tuple[str, ...]) -> Node:
    """The sum over axes of a product. Errors: Reject."""
    shared = tuple(axis for axis in axes if axis in left.axes and axis in right.axes)
    if shared != axes:
        return builder.make(Sum(axes), chain.build_product(builder, [(1, left), (1, right)]))
    kept = tuple(dict.fromkeys(axis for axis in (*left.axes, *right.axes) if axis not in axes))
    return builder.make(Contraction(axes, kept), left, right)
