"""The order in which a sum of products is evaluated: cheapest by growth first, by operations second.

Both at once, by one number: operations at representative sizes, where a sequence axis has a million
elements and every other axis a few dozen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from itertools import combinations

from .graph import Builder, Node
from .lowerings import polynomial
from .lowerings.lowering import Lowering
from .lowerings.masks import behind_masks
from .lowerings.portfolio import PORTFOLIO
from .lowerings.request import Request
from .normal import Factor, Names, SumProduct, Term
from .ops.arithmetic import Add, Divide, Multiply
from .ops.contraction import Contraction
from .ops.layout import Broadcast, Rename, Reorder
from .ops.leaves import Literal
from .ops.logic import Where
from .ops.reductions import Sum
from .sizes import Facts
from .types import Kind

EXHAUSTIVE = 7  # factors up to which every binary tree is tried
TRAFFIC = 4.0  # operations that moving one element of an intermediate is worth
BATCH = 8.0  # entries that a batched value stands for


@dataclass(frozen=True)
class _Term:
    """An intermediate: a factor, or the product of two terms with some axes summed away."""

    members: frozenset[int]
    axes: tuple[str, ...]
    cost: float
    parts: tuple[_Term, _Term] | None = None


@dataclass(frozen=True)
class Setting:
    """What an order is chosen by.

    size: representative sizes of axes; only_here: whether nothing but the sum at hand reads a value.
    """

    builder: Builder
    size: Callable[[str], float]
    facts: Facts
    constants: Mapping[str, int | float]
    only_here: Callable[[Node], bool]
    couples: Callable[[Node], bool]
    names: Names


def evaluate(form: SumProduct, setting: Setting) -> tuple[Node, float]:
    """The cheapest evaluation of a normal form as a graph, and its cost at representative sizes."""
    builder, size = setting.builder, setting.size
    common = [
        f
        for f in form.terms[0].factors
        if f.axes and f.inverse and all(f in t.factors and t.bound.isdisjoint(f.axes) for t in form.terms)
    ]
    total: Node | None = None
    cost = 0.0
    for node, work in _together(form, common, setting):
        total = node if total is None else builder.make(Add(), total, node)
        cost += work + (1.0 + TRAFFIC) * _product(node.axes, size) * (len(form.terms) > 1)
    assert total is not None
    for factor in common:  # normalisers are divided last
        total = builder.make(Divide(), total, factor.node)
    missing = tuple(axis for axis in form.axes if axis not in total.axes)
    if missing:
        total = builder.make(Broadcast(form.axes), total)
    if total.axes != form.axes:
        total = builder.make(Reorder(form.axes), total)
    return total, cost


def _together(form: SumProduct, common: list[Factor], setting: Setting) -> Iterator[tuple[Node, float]]:
    """The terms, those that are one algorithm's together, with the cost of each."""
    left = [_request(term, common, form.axes, setting) for term in form.terms]
    while left:
        made = polynomial.match(left)
        if isinstance(made, str):
            break
        node, members = made
        leaves = frozenset(f.node for index in members for f in left[index].factors)
        yield node, graph_cost(node, leaves, setting.size)
        left = [request for index, request in enumerate(left) if index not in members]
    for request in left:
        yield _term(request, form.axes, setting)


def _request(term: Term, common: list[Factor], axes: tuple[str, ...], setting: Setting) -> Request:
    factors = tuple(f for f in term.factors if f not in common)
    leaves = frozenset(factor.node for factor in factors)
    return Request(
        factors=factors,
        bound=term.bound,
        builder=setting.builder,
        facts=setting.facts,
        constants=setting.constants,
        names=setting.names,
        only_here=setting.only_here,
        couples=setting.couples,
        product=partial(_multiply, axes, setting),
        size=setting.size,
        work=partial(graph_cost, leaves=leaves, size=setting.size, absorbed=True),
    )


def _term(request: Request, axes: tuple[str, ...], setting: Setting) -> tuple[Node, float]:
    for match in PORTFOLIO:
        made = match(request)
        if isinstance(made, Node):
            return made, graph_cost(made, frozenset(f.node for f in request.factors), setting.size)
    return _product_of(behind_masks(request.factors, setting.builder), request.bound, axes, setting)


def _multiply(axes: tuple[str, ...], setting: Setting, factors: list[Factor], bound: frozenset[str]) -> Node:
    """The product of some factors, summed over axes that only they carry."""
    return _product_of(factors, bound, axes, setting)[0]


def _product_of(
    factors: list[Factor], bound: frozenset[str], axes: tuple[str, ...], setting: Setting
) -> tuple[Node, float]:
    numbers = [f for f in factors if not f.axes and not f.node.type.batched and not f.node.op.is_given()]
    inner = [f for f in factors if f not in numbers]
    if not inner:
        inner = [Factor(setting.builder.make(Literal(1)))]
    tree = _Search(inner, bound, setting.size).best()
    return _Emitter(setting.builder, inner, axes, numbers, setting.size).build(tree), tree.cost


def written_cost(root: Node, form: SumProduct, size: Callable[[str], float]) -> float:
    """The cost of evaluating a normal form's root as the text has it, by the same measure."""
    return graph_cost(root, frozenset(factor.node for term in form.terms for factor in term.factors), size)


def graph_cost(root: Node, leaves: frozenset[Node], size: Callable[[str], float], *, absorbed: bool = False) -> float:
    """The cost of computing a node from some leaves. absorbed: count also what computes a factor as well as the sum."""
    total, seen, stack = 0.0, set(leaves), [root]
    while stack:
        node = stack.pop()
        if node in seen or not node.inputs:
            continue
        seen.add(node)
        if isinstance(node.op, Lowering) and node.op.absorbs and not absorbed:
            continue
        stack.extend(node.inputs)
        if isinstance(node.op, Reorder | Rename) or not node.axes:
            continue
        batch = BATCH if node.type.batched else 1.0
        operands = (operand.type for operand in node.inputs)
        flops = node.op.flops(node.type, *operands)
        work = flops.evaluate({symbol: size(symbol) for symbol in flops.symbols()})
        total += batch * (work + TRAFFIC * _product(node.axes, size))
    return total


def _product(axes: Iterable[str], size: Callable[[str], float]) -> float:
    return reduce(lambda product, axis: product * size(axis), axes, 1.0)


class _Search:
    def __init__(self, factors: list[Factor], bound: frozenset[str], size: Callable[[str], float]) -> None:
        self.factors = factors
        self.bound = bound
        self.size = size
        self.carriers: dict[str, set[int]] = {}  # of every axis, the factors that have it
        for index, factor in enumerate(factors):
            for axis in factor.axes:
                self.carriers.setdefault(axis, set()).add(index)
        self.leaves = [self._leaf(index) for index in range(len(factors))]

    def best(self) -> _Term:
        if len(self.leaves) == 1:
            return self.leaves[0]
        return self._exhaustive() if len(self.leaves) <= EXHAUSTIVE else self._greedy()

    def _volume(self, axes: tuple[str, ...], members: frozenset[int]) -> float:
        batch = BATCH if any(self.factors[i].node.type.batched for i in members) else 1.0
        return batch * _product(axes, self.size)

    def _leaf(self, index: int) -> _Term:
        members = frozenset({index})
        axes = self.factors[index].axes
        kept = self._kept(axes, members)
        return _Term(members, kept, self._volume(axes, members) if kept != axes else 0.0)

    def _kept(self, axes: tuple[str, ...], members: frozenset[int]) -> tuple[str, ...]:
        """The axes that are still needed: not summed, or carried by a factor that is not in yet."""
        return tuple(axis for axis in axes if axis not in self.bound or not self.carriers[axis] <= members)

    def _join(self, left: _Term, right: _Term) -> _Term:
        members = left.members | right.members
        union = left.axes + tuple(axis for axis in right.axes if axis not in left.axes)
        kept = self._kept(union, members)
        work = self._volume(union, members) * (2.0 if kept != union else 1.0)
        cost = left.cost + right.cost + work + TRAFFIC * self._volume(kept, members)
        return _Term(members, kept, cost, (left, right))

    def _exhaustive(self) -> _Term:
        count = len(self.leaves)
        best: dict[int, _Term] = {1 << i: leaf for i, leaf in enumerate(self.leaves)}
        for subset in range(1, 1 << count):
            if subset in best:
                continue
            low = subset & -subset
            part = (subset - 1) & subset
            found: _Term | None = None
            while part:
                if part & low:  # each split once
                    joined = self._join(best[part], best[subset ^ part])
                    if found is None or joined.cost < found.cost:
                        found = joined
                part = (part - 1) & subset
            assert found is not None
            best[subset] = found
        return best[(1 << count) - 1]

    def _greedy(self) -> _Term:
        terms = dict(enumerate(self.leaves))
        pairs: dict[tuple[int, int], tuple[float, _Term]] = {}  # what joining two adds to the cost, and what it gives

        def join(i: int, j: int) -> None:
            joined = self._join(terms[i], terms[j])
            pairs[i, j] = joined.cost - terms[i].cost - terms[j].cost, joined

        for i, j in combinations(terms, 2):
            join(i, j)
        for new in range(len(terms), 2 * len(terms) - 1):
            found = min(pairs, key=lambda pair: (pairs[pair][0], pair))
            _, joined = pairs[found]
            terms = {i: term for i, term in terms.items() if i not in found}
            pairs = {pair: made for pair, made in pairs.items() if not {*pair} & {*found}}
            others = list(terms)
            terms[new] = joined
            for other in others:
                join(other, new)
        [last] = terms.values()
        return last


class _Emitter:
    def __init__(
        self,
        builder: Builder,
        factors: list[Factor],
        axes: tuple[str, ...],
        numbers: list[Factor],
        size: Callable[[str], float],
    ) -> None:
        self.builder = builder
        self.factors = factors
        self.axes = axes
        self.numbers = numbers
        self.size = size

    def build(self, tree: _Term) -> Node:
        scaled = self._smallest(tree) if self.numbers else None
        node, inverse = self._node(tree, scaled)
        return self._plain(node, inverse)

    def _smallest(self, tree: _Term) -> _Term:
        """Where numbers are multiplied in: the term with the fewest elements, the last of equals."""
        terms, stack = [], [tree]
        while stack:
            term = stack.pop()
            terms.append(term)
            if term.parts:
                stack.extend(term.parts)
        return min(terms, key=lambda t: _product(t.axes, self.size))

    def _node(self, term: _Term, scaled: _Term | None) -> tuple[Node, bool]:
        """The node of a term, and whether it stands for its reciprocal."""
        if term.parts is None:
            [index] = term.members
            factor = self.factors[index]
            node, inverse = factor.node, factor.inverse
            summed = tuple(axis for axis in node.axes if axis not in term.axes)
            if summed:
                node, inverse = self.builder.make(Sum(summed), self._plain(node, inverse)), False
        else:
            (left, a), (right, b) = (self._node(part, scaled) for part in term.parts)
            node, inverse = self._pair(term, left, a, right, b)
        if term is scaled:
            node, inverse = self._scale(self._plain(node, inverse)), False
        return node, inverse

    def _pair(self, term: _Term, left: Node, a: bool, right: Node, b: bool) -> tuple[Node, bool]:
        union = {*left.axes, *right.axes}
        summed = tuple(axis for axis in (*left.axes, *right.axes) if axis not in term.axes)
        summed = tuple(dict.fromkeys(summed))
        if left.type.kind is right.type.kind is Kind.BOOL:
            left = self._number(left)
        if summed:
            left, right = self._plain(left, a), self._plain(right, b)
            rows, columns = self._layout(left, right, set(term.axes))
            return self.builder.make(Contraction(summed, rows + columns), left, right), False
        assert union == set(term.axes)
        if a == b:
            return self.builder.make(Multiply(), left, right), a
        return self.builder.make(Divide(), *((right, left) if a else (left, right))), False

    def _layout(self, left: Node, right: Node, kept: set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Axes of a product: shared ones first, then the left's, then the right's, each as the result
        has them where it can."""
        rank = {axis: i for i, axis in enumerate(self.axes)}
        shared = tuple(axis for axis in left.axes if axis in right.axes and axis in kept)
        rows = tuple(axis for axis in left.axes if axis in kept and axis not in shared)
        columns = tuple(axis for axis in right.axes if axis in kept and axis not in shared)
        shown = all(axis in rank for axis in (*rows, *columns))
        if shown and rows and columns and min(rank.get(a, 99) for a in columns) < min(rank.get(a, 99) for a in rows):
            rows, columns = columns, rows
        return shared + rows, columns

    def _plain(self, node: Node, inverse: bool) -> Node:
        return self.builder.make(Divide(), self.builder.make(Literal(1)), node) if inverse else node

    def _number(self, condition: Node) -> Node:
        """1 where it holds, and 0 elsewhere: two conditions have no product, and a condition is not divided."""
        return self.builder.make(Where(), condition, self.builder.make(Literal(1)), self.builder.make(Literal(0)))

    def _scale(self, node: Node) -> Node:
        node = self._number(node) if node.type.kind is Kind.BOOL else node
        for factor in self.numbers:
            if isinstance(factor.node.op, Literal) and factor.node.op.value == 1:
                continue
            node = self.builder.make(Divide() if factor.inverse else Multiply(), node, factor.node)
        return node
