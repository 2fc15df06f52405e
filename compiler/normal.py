"""Sum-product normal form: a value as sums over products of factors.

`((p @ k^T) / s) @ v` is the sum over m and d of p[n,d] * k[m,d] * v[m,e] / s[n]. In this form the
bracketing of the text is gone: moving a factor out of a sum, reassociating products and distributing
over sums are choices of an order of evaluation (Wang et al., SPORES, VLDB 2020), which `order` makes.

A value that couples sequence axes is taken apart on the way where an identity allows it: see
`separation`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from .facts.ranges import Range
from .graph import Builder, Node
from .ops.arithmetic import Add, Divide, IntegerPower, Multiply, Negative, Subtract
from .ops.contraction import Contraction
from .ops.functions import Square
from .ops.layout import Rename, Reorder
from .ops.leaves import Literal, Size
from .ops.reductions import Mean, Sum
from .separation import separate
from .sizes import Poly
from .types import Kind

MAX_FACTORS = 24
MAX_TERMS = 16
MAX_POWER = 4
MAX_DEPTH = 60  # of products inside products; what lies deeper stays a factor


@dataclass(frozen=True)
class Factor:
    """A value to the power +1 or -1."""

    node: Node
    inverse: bool = False

    @property
    def axes(self) -> tuple[str, ...]:
        return self.node.axes


@dataclass(frozen=True)
class Term:
    """A product of factors, summed over some of their axes."""

    factors: tuple[Factor, ...]
    bound: frozenset[str] = frozenset()

    def times(self, other: Term) -> Term:
        return Term(self.factors + other.factors, self.bound | other.bound)


@dataclass(frozen=True)
class SumProduct:
    """A sum of terms with the axes `axes` together.

    opened: the sums of the text that were opened, outermost first.
    rules: names of the identities that took values apart.
    apart: the values that were taken apart, and what each was written as.
    """

    terms: tuple[Term, ...]
    axes: tuple[str, ...]
    opened: tuple[Node, ...]
    rules: tuple[str, ...]
    apart: tuple[tuple[Node, Node], ...]


@dataclass
class Names:
    """Fresh axis names, and the size of each: that of the axis it is a copy of, unless stated."""

    taken: set[str]
    sizes: dict[str, Poly] = field(default_factory=dict)

    def fresh(self, axis: str, size: Poly | None = None) -> str:
        number = 2
        while f"{axis}_{number}" in self.taken:
            number += 1
        name = f"{axis}_{number}"
        self.taken.add(name)
        self.sizes[name] = size or self.sizes.get(axis) or Poly.symbol(axis)
        return name

    def copy(self) -> Names:
        """The same names, to which others may be added."""
        return Names(set(self.taken), dict(self.sizes))


@dataclass(frozen=True)
class Policy:
    """What may be taken apart.

    opens: whether a nested sum may be opened; one that stays closed is a factor.
    couples: whether a value is too large to be worth keeping whole.
    range_of: what is known of a value's sign and bounds.
    """

    opens: Callable[[Node], bool]
    couples: Callable[[Node], bool]
    range_of: Callable[[Node], Range]


def normal_form(root: Node, builder: Builder, names: Names, policy: Policy) -> SumProduct:
    """The normal form of a contraction or sum."""
    reader = _Reader(root, builder, names, policy)
    terms = reader.read(root, False, {}, root=True)
    rules = tuple(dict.fromkeys(reader.rules))
    return SumProduct(tuple(terms), root.axes, tuple(reader.opened), rules, tuple(reader.apart))


def is_sum(node: Node) -> bool:
    """Whether a node sums over a product: the places where the order of evaluation matters."""
    return isinstance(node.op, Contraction | Sum | Mean) and node.type.kind is not Kind.BOOL


def unmoved(node: Node) -> Node:
    """The value whose axes a node renames or puts in another order."""
    while isinstance(node.op, Rename | Reorder):
        node = node.inputs[0]
    return node


def _summands(node: Node) -> set[Node]:
    """What a value is the sum of, without signs."""
    found: set[Node] = set()
    seen: set[Node] = set()
    stack = [node]
    while stack:
        node = unmoved(stack.pop())
        if isinstance(node.op, Add | Subtract | Negative):
            stack += [operand for operand in node.inputs if operand not in seen]
            seen.update(node.inputs)
        else:
            found.add(node)
    return found


class _Reader:
    def __init__(self, root: Node, builder: Builder, names: Names, policy: Policy) -> None:
        self.builder = builder
        self.names = names
        self.policy = policy
        self.taken = set(root.axes)
        self.summed: set[str] = set()
        self.opened: list[Node] = []
        self.rules: list[str] = []
        self.apart: list[tuple[Node, Node]] = []
        self.count = 0
        self.depth = 0

    def read(self, node: Node, inverse: bool, renaming: dict[str, str], root: bool = False) -> list[Term]:
        """The terms of a node whose axes are read under new names."""
        self.depth += 1
        before = (len(self.opened), len(self.rules), len(self.apart))
        terms = self._open(node, inverse, renaming, root) if self.depth < MAX_DEPTH else None
        self.depth -= 1
        if terms is not None:
            return terms
        self._forget(*before)
        self.count += 1
        return [Term((Factor(self._renamed(node, renaming), inverse),))]

    def _open(self, node: Node, inverse: bool, renaming: dict[str, str], root: bool) -> list[Term] | None:
        """The terms of a node that can be taken apart, else None."""
        op = node.op
        if self.count <= MAX_FACTORS and node.type.kind is not Kind.BOOL:
            match op:
                case Multiply():
                    masked = None if inverse else self._apart(node)
                    if masked is not None:
                        return self.read(masked, False, renaming)
                    return self._product([self.read(operand, inverse, renaming) for operand in node.inputs])
                case Divide():
                    above, below = node.inputs
                    return self._product([self.read(above, inverse, renaming), self.read(below, not inverse, renaming)])
                case Negative():
                    return self._product([[self._number(-1)], self.read(node.inputs[0], inverse, renaming)])
                case Reorder():
                    return self.read(node.inputs[0], inverse, renaming)
                case Rename(source, target):
                    inner = dict(renaming)
                    inner[source] = inner.pop(target, target)
                    return self.read(node.inputs[0], inverse, inner)
                case Square() | IntegerPower() if not inverse and self._repeats(node):
                    power = op.exponent if isinstance(op, IntegerPower) else 2
                    return self._product([self.read(node.inputs[0], False, renaming) for _ in range(power)])
                case Add() | Subtract() if not inverse and self.policy.couples(node):
                    return self._sum_of_terms(node, renaming)
            if is_sum(node) and not inverse and (root or self.policy.opens(node)):
                return self._sum(node, renaming, root)
            if not inverse and self.policy.couples(node):
                summed = [axis for axis in node.axes if renaming.get(axis, axis) in self.summed]
                apart = self._apart(node, summed)
                if apart is not None:
                    return self.read(apart, False, renaming)
        return None

    def _apart(self, node: Node, summed: Collection[str] = ()) -> Node | None:
        """What a value that couples positions is written as, by an identity."""
        apart = separate(node, self.builder, self.policy.range_of, summed) if self.policy.couples(node) else None
        if apart is None:
            return None
        self.rules.append(apart.rule)
        self.apart.append((node, apart.node))
        return apart.node

    def _forget(self, opened: int, rules: int, apart: int) -> None:
        """What was opened since then stays closed after all."""
        del self.opened[opened:], self.rules[rules:], self.apart[apart:]

    def _product(self, parts: Iterable[list[Term]]) -> list[Term] | None:
        """The terms of a product; None if they are too many."""
        terms = [Term(())]
        for part in parts:
            if len(terms) * len(part) > MAX_TERMS:
                return None
            terms = [left.times(right) for left in terms for right in part]
        return terms

    def _sum_of_terms(self, node: Node, renaming: dict[str, str]) -> list[Term] | None:
        left, right = (self.read(operand, False, renaming) for operand in node.inputs)
        if len(left) + len(right) > MAX_TERMS:
            return None
        if isinstance(node.op, Subtract):
            right = [self._number(-1).times(term) for term in right]
        self.rules.append("distribution")
        return left + right

    def _repeats(self, node: Node) -> bool:
        """Whether a power is worth writing as a product: that of a sum that couples and can be opened, or whose terms
        do not couple."""
        op = node.op
        power = op.exponent if isinstance(op, IntegerPower) else 2
        inner = node.inputs[0]
        if inner.type.batched and self.policy.couples(inner) and not any(map(self.policy.couples, _summands(inner))):
            return 2 <= power <= MAX_POWER
        while isinstance(inner.op, Add | Subtract | Multiply | Divide | Reorder | Rename | Negative):
            inner = next((o for o in inner.inputs if o.axes), inner.inputs[0])
        return 2 <= power <= MAX_POWER and is_sum(inner) and self.policy.opens(inner)

    def _sum(self, node: Node, renaming: dict[str, str], root: bool) -> list[Term] | None:
        op = node.op
        assert isinstance(op, Contraction | Sum | Mean)
        self.opened.append(node)
        inner = {k: v for k, v in renaming.items() if k not in op.axes}
        bound: list[str] = []
        for axis in op.axes:  # a bound axis keeps its name unless another axis of the whole form has it
            name = self.names.fresh(axis) if axis in self.taken or axis in inner.values() else axis
            self.taken.add(name)
            self.summed.add(name)
            bound.append(name)
            if name != axis:
                inner[axis] = name
        terms = self._product([self.read(operand, False, inner) for operand in self._operands(node)])
        if terms is None and root:  # the sum itself is always open: of its operands as they are
            self._forget(1, 0, 0)
            terms = [Term(tuple(Factor(self._renamed(operand, inner)) for operand in node.inputs))]
        if terms is None:
            return None
        if isinstance(op, Mean):
            count = Term((Factor(self.builder.make(Size(Poly.volume(op.axes))), True),))
            terms = [term.times(count) for term in terms]
        return [self._bind(term, bound, op.axes) for term in terms]

    def _operands(self, node: Node) -> tuple[Node, ...]:
        """What a sum multiplies; a mask beside an exponential goes under it."""
        if len(node.inputs) == 2 and len({*node.inputs[0].axes} & {*node.inputs[1].axes}) > 1:
            masked = self._apart(self.builder.make(Multiply(), *node.inputs))
            if masked is not None:
                return (masked,)
        return node.inputs

    def _bind(self, term: Term, names: list[str], axes: tuple[str, ...]) -> Term:
        """The sum of a term over axes; over one that no factor carries it is a multiple of the term."""
        carried = {axis for factor in term.factors for axis in factor.axes}
        for name, axis in zip(names, axes, strict=True):
            if name in carried:
                term = Term(term.factors, term.bound | {name})
            else:
                term = term.times(Term((Factor(self.builder.make(Size(Poly.symbol(axis)))),)))
        return term

    def _number(self, value: int) -> Term:
        return Term((Factor(self.builder.make(Literal(value))),))

    def _renamed(self, node: Node, renaming: dict[str, str]) -> Node:
        """The node with its axes renamed; two axes may swap names, so through fresh ones where needed."""
        moves = [(axis, renaming[axis]) for axis in node.axes if renaming.get(axis, axis) != axis]
        while moves:
            free = next((m for m in moves if m[1] not in node.axes), None)
            if free is None:  # a cycle of names: step aside
                axis, target = moves[0]
                aside = self.names.fresh(axis)
                node = self.builder.make(Rename(axis, aside), node)
                moves[0] = (aside, target)
                continue
            moves.remove(free)
            node = self.builder.make(Rename(*free), node)
        return node
