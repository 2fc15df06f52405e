"""Polynomial weights: sums over keys of which the weight is a polynomial of a score.

The normal form distributes `(1 + s + s^2 / 2) @ v` over three sums. Where all of them read one score `s = q . k`, they
are one sum again, which has two ways to go: the polynomial of a map of scores, or products of features that are summed
over the keys first. See `polynomials`.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar

from .. import pyast
from ..graph import Builder, Node
from ..normal import Factor
from ..ops.arithmetic import Add, Divide
from ..ops.base import Carried, Continuation, Emitter, Operand
from ..ops.emission import as_tensor
from ..ops.layout import Broadcast, Rename
from ..ops.leaves import Literal, Size
from ..ops.selection import Shift
from ..sizes import ZERO, Poly
from ..types import Kind, Type, promote
from .causal import masked_pairs, weight_of
from .lowering import Lowering, unflattened
from .request import Request

CHUNK = 64


@dataclass(frozen=True)
class _Polynomial(Lowering):
    """Operands: query [batch, rows, inner], key [batch, key, inner], value [batch, key, outer], and for each of the
    powers its coefficient, [batch].

    Where `normalise`, the sum is divided by the same sum without the value.
    """

    chunked: ClassVar[bool] = True
    operands: ClassVar[tuple[str, ...]] = ("query", "key", "value")
    separable: ClassVar[bool] = True
    kernel: ClassVar[str]
    rows: tuple[str, ...]
    key: str
    inner: tuple[str, ...]
    outer: tuple[str, ...]
    batch: tuple[str, ...]
    powers: tuple[int, ...]
    normalise: bool = False

    def infer(self, *operands: Type) -> Type:
        kind = promote(*(o.kind for o in operands), Kind.REAL)
        return Type(kind, (*self.batch, *self.rows, *self.outer), any(o.batched for o in operands))

    def products(self) -> Poly:
        """How many products of features the powers of a score are sums of."""
        size, total = Poly.volume(self.inner), ZERO
        for power in self.powers:
            choices = Poly.constant(1)
            for i in range(power):
                choices = choices * (size + i) * Fraction(1, i + 1)
            total = total + choices
        return total

    def columns(self) -> Poly:
        return Poly.volume(self.outer) + int(self.normalise)

    def pair(self) -> Poly:
        """Operations for one query and one key, by their score."""
        return (Poly.volume(self.inner) + self.columns() + self.powers[-1] + 1) * 2

    def chunk(self) -> Poly:
        """Elements that are held for a chunk: products of queries or keys, scores, and rows of the result."""
        return (self.products() * 3 + self.columns() * 2 + 4 * CHUNK) * CHUNK

    def workspace(self, result: Type, *operands: Type) -> Poly:
        state = self.products() * self.columns()
        return result.volume() + Poly.volume(self.batch) * (self.chunk() + state)  # the chunks are joined at the end

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return result.kind if index < 3 else None  # coefficients keep their precision

    def _call(
        self, emitter: Emitter, kernel: str, operands: Sequence[Operand], state: Sequence[ast.expr], *settings: object
    ) -> ast.expr:
        query, key, value, *coefficients = operands
        arguments = [
            self._matrix(emitter, query, self.rows, self.inner),
            self._matrix(emitter, key, (self.key,), self.inner),
            self._matrix(emitter, value, (self.key,), self.outer),
            ast.List([as_tensor(emitter, each, Kind.REAL, self.batch, wide=True) for each in coefficients], ast.Load()),
        ]
        powers = ast.List([pyast.constant(power) for power in self.powers], ast.Load())
        return pyast.call(emitter.helper(kernel), *arguments, *state, powers, *map(pyast.constant, settings))

    def _matrix(
        self, emitter: Emitter, operand: Operand, rows: tuple[str, ...], columns: tuple[str, ...]
    ) -> ast.expr:
        """The operand as [batch, rows, columns], with one dimension for the rows and one for the columns."""
        matrix = emitter.align(operand, (*self.batch, *rows, *columns))
        if not columns:
            matrix = pyast.method(matrix, "unsqueeze", -1)
        elif len(columns) > 1:
            matrix = pyast.method(matrix, "flatten", -len(columns))
        return matrix if len(rows) == 1 else pyast.method(matrix, "flatten", -1 - len(rows), -2)


@dataclass(frozen=True)
class PolynomialScan(_Polynomial):
    """polynomial_scan(q, k, v, coefficients): sums over earlier positions, weighted by a polynomial of a score.

    Formula: `out[n, e] = sum over m <= n - offset of p(sum over f of q[n, f] * k[m, f]) * v[m, e]`.

    Inside a chunk the polynomial of the scores; what lies before is carried as sums of products of features, each
    product once. Short sequences, in which scores with all earlier keys are less work, have no such sums.
    Symmetric powers: Kacham, Mirrokni, Zhong, PolySketchFormer, ICML 2024.
    """

    rule: ClassVar[str] = "polynomial scan"
    why: ClassVar[str] = (
        "the weight is a polynomial of a score under a causal mask: inside a chunk it is computed from the score, and "
        "powers of the score are written as products of features only for what lies before, which is carried in a state"
    )
    kernel: ClassVar[str] = "polynomial_scan"
    offset: int = 0

    def flops(self, result: Type, *operands: Type) -> Poly:
        near = self.pair() * CHUNK
        far = self.products() * (self.columns() * 4 + 2 * max(self.powers[-1] - 1, 0) + 1)
        return Poly.volume((*self.batch, *self.rows)) * (near + far)

    def instead(self) -> tuple[Poly, Poly]:
        length = Poly.volume(self.rows)
        beyond = length * (Poly.volume(self.inner) + self.columns()) - self.products() * self.columns() * 4
        return beyond, Poly.volume(self.batch) * length * (length + CHUNK) * self.pair() * Fraction(1, 2)

    def follows(self) -> Mapping[str, str]:
        [query] = self.rows
        return {query: query, self.key: query}

    def carried(self, result: Type, *operands: Type) -> tuple[Carried, ...]:
        sums = "the sum of products of keys times value"
        if self.normalise:
            sums += ", and of the products in the last column"
        return (Carried(sums, (*map(Poly.symbol, self.batch), self.products(), self.columns())),)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        settings = (self.offset, self.normalise, CHUNK)
        return unflattened(emitter, self._call(emitter, self.kernel, operands, (), *settings), self.outer)

    def emit_from(
        self, emitter: Emitter, result: Type, state: Sequence[ast.expr], *operands: Operand
    ) -> Continuation:
        scan = self._call(emitter, f"{self.kernel}_from", operands, state, self.offset, self.normalise, CHUNK)
        return Continuation(scan, finish=lambda piece: unflattened(emitter, piece, self.outer))


@dataclass(frozen=True)
class PolynomialSum(_Polynomial):
    """polynomial_sum(q, k, v, coefficients): sums over all keys, weighted by a polynomial of a score.

    Formula: `out[n, e] = sum over m of p(sum over f of q[n, f] * k[m, f]) * v[m, e]`.

    The powers of the score are sums of products of features, which are summed over the keys before a query is seen.
    Where the map of scores is less work than all the products, it is computed instead, a few rows at a time.
    Symmetric powers: Kacham, Mirrokni, Zhong, PolySketchFormer, ICML 2024.
    """

    rule: ClassVar[str] = "polynomial sum"
    why: ClassVar[str] = (
        "the weight is a polynomial of a score, whose powers are sums of products of features, so values are summed "
        "over the keys with each product first; few queries and keys are scored instead, a few rows at a time"
    )
    kernel: ClassVar[str] = "polynomial_sum"

    def flops(self, result: Type, *operands: Type) -> Poly:
        tokens = Poly.volume(self.rows) + Poly.symbol(self.key)
        each = self.products() * (self.columns() * 2 + max(self.powers[-1] - 1, 0))
        return Poly.volume(self.batch) * tokens * each

    def instead(self) -> tuple[Poly, Poly]:
        pairs = Poly.volume((*self.rows, self.key))
        tokens = Poly.volume(self.rows) + Poly.symbol(self.key)
        beyond = pairs * (Poly.volume(self.inner) + self.columns()) - tokens * self.products() * self.columns()
        return beyond, Poly.volume(self.batch) * pairs * self.pair()

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        rows = unflattened(emitter, self._call(emitter, self.kernel, operands, (), self.normalise, CHUNK), self.outer)
        if len(self.rows) == 1:
            return rows
        sizes = pyast.tuple_of([emitter.size(Poly.symbol(axis)) for axis in self.rows])
        return pyast.method(rows, "unflatten", -1 - len(self.outer), sizes)


@dataclass(frozen=True)
class _Reading:
    """A term as coefficient times a power of a score times a value, summed over the keys m.

    score: the factors of one of the equal scores, with the axes that they are summed over; None in a power of zero.
    key: what two scores share exactly if they are equal.
    """

    power: int
    score: tuple[tuple[Factor, ...], frozenset[str]] | None
    key: object
    coupling: frozenset[Factor]
    numbers: tuple[Factor, ...]
    value: tuple[Factor, ...]
    outside: tuple[Factor, ...]
    private: frozenset[str]  # summed axes of the value alone


def match(terms: Sequence[Request]) -> tuple[Node, frozenset[int]] | str:
    """What computes several terms of a sum together, and which; or why there is nothing of the kind."""
    reason = "no power of a score is summed over keys"
    if not any(sum(not term.bound.isdisjoint(f.axes) for f in term.factors) >= 4 for term in terms):
        return reason  # a square of a score has two queries and two keys
    axes = dict.fromkeys(axis for term in terms for axis in sorted(term.bound))
    for m in axes:
        readings = {index: found for index, term in enumerate(terms) if (found := _read(term, m)) is not None}
        for first in sorted(readings.values(), key=lambda reading: -reading.power):
            if first.power == 0:
                continue
            members = {index: each for index, each in readings.items() if _together(first, each)}
            if max(each.power for each in members.values()) < 2:
                continue
            made = _made([*members.values()], m, terms[0])
            if isinstance(made, Node):
                return made, frozenset(members)
            reason = made
    return reason


def _together(first: _Reading, other: _Reading) -> bool:
    """Whether two terms differ in the power of the score and in coefficients only."""
    if other.power > 0 and other.key != first.key:
        return False
    same = (first.coupling, Counter(first.value), Counter(first.outside), first.private)
    return same == (other.coupling, Counter(other.value), Counter(other.outside), other.private)


def _made(readings: Sequence[_Reading], m: str, request: Request) -> Node | str:
    """The operation for terms that differ in powers and coefficients only."""
    builder, product, first = request.builder, request.product, max(readings, key=lambda reading: reading.power)
    lowest = min((each for each in readings if each.power), key=lambda reading: reading.power)
    assert lowest.score is not None
    others = {axis for each in readings for f in (*each.value, *each.outside, *each.coupling) for axis in f.axes}
    factors, features = _by_own_names(*lowest.score, others)
    left = [factor for factor in factors if m not in factor.axes]
    right = [factor for factor in factors if m in factor.axes]
    inner = tuple(axis for axis in _axes(right) if axis in features and axis in _axes(left))
    query, key = product(left, features - {*inner}), product(right, features - {*inner})
    value = product([*first.value], first.private)
    if m not in value.axes:
        value = builder.make(Broadcast((m, *value.axes)), value)
    coefficients: dict[int, Node] = {}
    for each in readings:
        number = product([*each.numbers], frozenset())
        known = coefficients.get(each.power)
        coefficients[each.power] = number if known is None else builder.make(Add(), known, number)
    powers = tuple(sorted(coefficients))
    shared = {axis for axis in key.axes if axis not in (m, *inner)}
    for number in coefficients.values():
        shared |= set(number.axes)
    outer = tuple(axis for axis in value.axes if axis != m and axis not in shared and axis not in query.axes)
    offset: int | None = None
    if first.coupling:
        pairs = masked_pairs([*first.coupling], request)
        if len(pairs) != 1:
            return "several pairs of axes are masked"
        [(n, _)] = pairs
        weight = weight_of([*first.coupling], n, m, request)
        if weight is None or weight.kernel != "causal_scan" or weight.offset < 0 or n not in query.axes:
            return "the weight is more than a causal mask and a polynomial"
        rows: tuple[str, ...] = (n,)
        offset = min(weight.offset, 1)
        if weight.offset > 1:  # a chunk sees all of those before it: what lies further back is moved one place away
            far = Shift(m, Poly.constant(weight.offset - 1))
            key, value = builder.make(far, key), builder.make(far, value)
    else:
        rows = tuple(axis for axis in query.axes if axis not in inner and axis not in shared and axis not in value.axes)
    batch = tuple(
        dict.fromkeys(
            axis
            for node in (query, key, value, *coefficients.values())
            for axis in node.axes
            if axis not in (m, *rows, *inner, *outer)
        )
    )
    if not rows or set(rows) & set(value.axes):
        return "there are no queries of their own"
    operands = (query, key, value, *(coefficients[power] for power in powers))
    op: _Polynomial
    if offset is None:
        op = PolynomialSum(rows, m, inner, outer, batch, powers)
    else:
        op = PolynomialScan(rows, m, inner, outer, batch, powers, offset=offset)
    return product([Factor(builder.make(op, *operands)), *first.outside], frozenset())


def _read(term: Request, m: str) -> _Reading | None:
    """A term as a power of a score, if it is one over the keys m."""
    if m not in term.bound:
        return _constant(term, m)
    pairs = {pair for pair in masked_pairs(term.factors, term) if pair[1] == m}
    coupled = {n for n, _ in pairs}
    coupling = [f for f in term.factors if m in f.axes and coupled & set(f.axes)]
    others = [f for f in term.factors if f not in coupling]
    scores: list[list[Factor]] = []
    rest: list[Factor] = []
    for group in _connected(others, term.bound - {m}):
        bound = {axis for f in group for axis in f.axes if axis in term.bound and axis != m}
        inside = {axis for f in group if m in f.axes for axis in f.axes} & bound
        across = {axis for f in group if m not in f.axes for axis in f.axes} & inside
        if across:
            scores.append(group)
        elif bound and not inside:
            return None
        else:
            rest += group
    keys = [_score(group, term.bound - {m}) for group in scores]
    if any(key is None or key != keys[0] for key in keys):
        return None
    value = [f for f in rest if set(f.axes) & term.bound]
    apart = [f for f in rest if f not in value]
    shared = {axis for group in scores for f in group if m in f.axes for axis in f.axes} - {m}
    numbers = [f for f in apart if set(f.axes) <= shared]
    if any(set(f.axes) & coupled or m in f.axes for f in numbers):
        return None
    private = frozenset(axis for f in value for axis in f.axes if axis in term.bound and axis != m)
    score = None
    if scores:
        score = tuple(scores[0]), frozenset(a for f in scores[0] for a in f.axes if a in term.bound and a != m)
    return _Reading(
        power=len(scores),
        score=score,
        key=keys[0] if keys else None,
        coupling=frozenset(coupling),
        numbers=tuple(numbers),
        value=tuple(value),
        outside=tuple(f for f in apart if f not in numbers),
        private=private,
    )


def _constant(term: Request, m: str) -> _Reading | None:
    """A number that was added up over the keys: it is a multiple of how many there are."""
    if term.bound or any(factor.axes for factor in term.factors):
        return None
    count = term.names.sizes.get(m) or Poly.symbol(m)
    numbers = [*term.factors]
    counts = [f for f in numbers if not f.inverse and isinstance(f.node.op, Size) and f.node.op.size == count]
    if not counts:
        return None
    numbers.remove(counts[0])
    return _Reading(0, None, None, frozenset(), tuple(numbers), (), (), frozenset())


def _connected(factors: Sequence[Factor], axes: frozenset[str]) -> list[list[Factor]]:
    """The factors in groups that share none of these axes."""
    groups: list[tuple[set[str], list[Factor]]] = []
    for factor in factors:
        own = set(factor.axes) & axes
        joined = [group for group in groups if group[0] & own]
        groups = [group for group in groups if group not in joined]
        members = [f for _, group in joined for f in group]
        groups.append((own.union(*(group[0] for group in joined)), [*members, factor]))
    return [group for _, group in groups]


def _score(factors: Sequence[Factor], bound: frozenset[str]) -> object | None:
    """What two products of factors share exactly if they are equal up to the names of summed axes.

    None where summed axes cannot be told apart.
    """
    read = [(*_named(factor.node), factor.inverse) for factor in factors]
    places: dict[str, Counter[tuple[Node, str, bool]]] = {}
    for base, names, inverse in read:
        for axis, name in names.items():
            if name in bound:
                places.setdefault(name, Counter())[base, axis, inverse] += 1
    described = {name: frozenset(where.items()) for name, where in places.items()}
    if len(set(described.values())) < len(described):
        return None
    return frozenset(
        Counter(
            (base, inverse, frozenset((axis, described.get(name, name)) for axis, name in names.items()))
            for base, names, inverse in read
        ).items()
    )


def _named(node: Node) -> tuple[Node, dict[str, str]]:
    """The value that renames were applied to, and the name that each of its axes has now."""
    moves = []
    while isinstance(node.op, Rename):
        moves.append(node.op)
        [node] = node.inputs
    names = {axis: axis for axis in node.axes}
    for move in reversed(moves):
        names = {axis: move.target if name == move.source else name for axis, name in names.items()}
    return node, names


def _by_own_names(
    factors: Sequence[Factor], summed: frozenset[str], others: set[str]
) -> tuple[Sequence[Factor], frozenset[str]]:
    """The factors without renames of the axes that they are summed over, where nothing else has the names before.

    So that two sums of one score have equal operands, whatever names the distribution gave to their axes.
    """
    own: list[Factor] = []
    found: dict[str, str] = {}
    for factor in factors:
        base, names = _named(factor.node)
        for axis, name in names.items():
            if (name in summed and (axis in others or found.setdefault(name, axis) != axis)) or (
                name not in summed and name != axis
            ):
                return factors, summed
        own.append(Factor(base, factor.inverse))
    if len(set(found.values())) < len(found) or any(name in others for name in found.values()):
        return factors, summed
    return own, frozenset(found.values())


def _axes(factors: Sequence[Factor]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(axis for factor in factors for axis in factor.axes))


def normalised(node: Node, builder: Builder) -> Node | None:
    """A sum divided by the sum of its own weights, as one operation that has both."""
    if not isinstance(node.op, Divide):
        return None
    above, below = node.inputs
    op, total = above.op, below.op
    if not isinstance(op, _Polynomial) or op.normalise or type(total) is not type(op) or total.outer:
        return None
    ones = below.inputs[2]
    while isinstance(ones.op, Broadcast):
        [ones] = ones.inputs
    same = replace(total, outer=op.outer, batch=op.batch) == op and below.inputs[:2] == above.inputs[:2]
    if not same or below.inputs[3:] != above.inputs[3:] or not isinstance(ones.op, Literal) or ones.op.value != 1:
        return None
    return builder.make(replace(op, normalise=True), *above.inputs)
