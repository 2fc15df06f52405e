"""The chunked scan: causal and decayed sums of products in linear time.

Applies to sums over m of w(n, m) * (products of factors over n) * (products of factors over m), where
w is a causal mask, or a decay under one. The n by m map is never built; see `kernels`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from .. import pyast
from ..facts.ranges import ranges
from ..graph import Builder, Node
from ..normal import Factor
from ..ops.arithmetic import Add, Divide, Multiply, Negative, Power, Subtract
from ..ops.base import Carried, Continuation, Emitter, Operand
from ..ops.contraction import Contraction
from ..ops.cumulative import CumulativeSum
from ..ops.emission import as_tensor
from ..ops.functions import Abs, Exp, Log
from ..ops.layout import Broadcast, Rename
from ..ops.leaves import Literal, Position
from ..ops.logic import Greater, Where
from ..ops.pairs import Maximum
from ..ops.selection import Shift
from ..rules.chain import build_product, factors
from ..sizes import Poly, Truth
from ..structure import gate_level, lag_at_least, lag_coefficient
from ..types import Kind, Type, promote
from .linear import LinearRecurrence
from .lowering import Lowering, unflattened
from .request import Request
from .states import Between, Products, Transitions, TransitionScan

CHUNK = 64
HALVINGS = 6  # of a chunk, down to single positions
ELEMENT_CHUNK = 16


@dataclass(frozen=True)
class CausalScan(Lowering):
    """causal_scan(q, k, v): sums over earlier positions, chunk by chunk with a carried state.

    Formula: `out[n, e] = sum over m <= n - offset, f of weight[n, m] * q[n, f] * k[m, f] * v[m, e]`, where
    the weight is 1 (kernel `causal_scan`), `exp(rate * (n - m))` (`decayed_scan`) or
    `exp(gates[m + 1] + ... + gates[n])` (`gated_scan`, of logarithms of gates).

    Where `normalise`, the sum is divided by the same sum without the value; where also `bounded`, by the absolute value
    of that, or by the last operand where it is larger.

    Katharopoulos et al., Transformers are RNNs, ICML 2020; the chunked form with decay: Sun et al.,
    Retentive Network, 2023.
    """

    rule: ClassVar[str] = "causal scan"
    why: ClassVar[str] = (
        "the mask keeps earlier positions only, so what they add up to is carried from chunk to chunk in a state; "
        "a decay scales the state on the way"
    )
    chunked: ClassVar[bool] = True
    operands: ClassVar[tuple[str, ...]] = ("query", "key", "value")
    separable: ClassVar[bool] = True
    kernel: str
    query: str
    key: str
    inner: tuple[str, ...]
    outer: tuple[str, ...]
    batch: tuple[str, ...]
    offset: int
    normalise: bool = False
    bounded: bool = False

    def infer(self, *operands: Type) -> Type:
        kind = promote(*(o.kind for o in operands), Kind.REAL)
        return Type(kind, (*self.batch, self.query, *self.outer), any(o.batched for o in operands))

    def flops(self, result: Type, *operands: Type) -> Poly:
        features, values = Poly.volume(self.inner), Poly.volume(self.outer)
        per_token = (features + values) * (2 * CHUNK) + features * values * 4
        return Poly.volume((*self.batch, self.query)) * per_token

    def workspace(self, result: Type, *operands: Type) -> Poly:
        chunk = Poly.volume(self.inner) * 2 + Poly.volume(self.outer) * 2 + 2 * CHUNK
        state = Poly.volume((*self.inner, *self.outer))
        return result.volume() + Poly.volume(self.batch) * (chunk * CHUNK + state)  # the chunks are joined at the end

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind | None:
        return result.kind if index < 3 else None  # rates and gates keep their precision

    def follows(self) -> Mapping[str, str]:
        return {self.query: self.query, self.key: self.query}

    def carried(self, result: Type, *operands: Type) -> tuple[Carried, ...]:
        batch, features, one = tuple(map(Poly.symbol, self.batch)), Poly.volume(self.inner), Poly.constant(1)
        decayed = "" if self.kernel == "causal_scan" else ", decayed up to the last position"
        if self._beside:
            shape = (*batch, features, Poly.volume(self.outer) + 1)
            return (Carried(f"the sum of key times value, and of the keys{decayed}", shape),)
        found = [Carried(f"the sum of key times value{decayed}", (*batch, features, Poly.volume(self.outer)))]
        if self.normalise:
            found.append(Carried(f"the sum of the keys{decayed}", (*batch, features, one)))
        return tuple(found)

    @property
    def _beside(self) -> bool:
        """Whether the sum of weights is a column of the values, and divides when all is summed."""
        return self.bounded and self.kernel != "gated_scan"

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        arguments = self._arguments(emitter, operands)
        if self.kernel == "decayed_scan":
            arguments.append(as_tensor(emitter, operands[3], Kind.REAL, self.batch, wide=True))
        elif self.kernel == "gated_scan":
            arguments.append(self._least(emitter, operands))
        settings = map(pyast.constant, (self.offset, self.normalise and not self._beside, CHUNK))
        scan = pyast.call(emitter.helper(self.kernel), *arguments, *settings)
        return unflattened(emitter, self._divided(emitter, scan, operands), self.outer)

    def _divided(self, emitter: Emitter, scan: ast.expr, operands: Sequence[Operand]) -> ast.expr:
        """The sums over the larger of their last column and the bound."""
        return pyast.call(emitter.helper("over_bound"), scan, self._least(emitter, operands)) if self._beside else scan

    def emit_from(
        self, emitter: Emitter, result: Type, state: Sequence[ast.expr], *operands: Operand
    ) -> Continuation:
        arguments = self._arguments(emitter, operands)
        if self.kernel == "gated_scan" and self.normalise:
            arguments.append(self._least(emitter, operands))
        if self.kernel == "decayed_scan":
            rate = as_tensor(emitter, operands[3], Kind.REAL, self.batch, wide=True)
            rate = emitter.lasting("rate", rate, operands[3])
            wide = pyast.method(rate, "to", emitter.dtype(Kind.REAL, wide=True))
            decay = pyast.method(pyast.method(pyast.call("torch.exp", wide), "unsqueeze", -1), "unsqueeze", -1)
            arguments += [rate, emitter.lasting("decay", decay, operands[3])]
        kernel = self.kernel.replace("scan", "mean") if self.normalise and not self._beside else self.kernel
        settings = map(pyast.constant, (self.offset, CHUNK))
        scan = pyast.call(emitter.helper(f"{kernel}_from"), *arguments, *state, *settings)
        return Continuation(
            scan, finish=lambda piece: unflattened(emitter, self._divided(emitter, piece, operands), self.outer)
        )

    def _least(self, emitter: Emitter, operands: Sequence[Operand]) -> ast.expr:
        """The least that a sum of weights divides by, or None."""
        return emitter.align(operands[-1], (*self.batch, self.query)) if self.bounded else pyast.constant(None)

    def _arguments(self, emitter: Emitter, operands: Sequence[Operand]) -> list[ast.expr]:
        """Query, key and value as matrices, and the gates."""
        query, key, value, *rest = operands
        arguments = [
            self._matrix(emitter, query, self.query, self.inner),
            self._matrix(emitter, key, self.key, self.inner),
            self._matrix(emitter, value, self.key, self.outer),
        ]
        if self._beside:
            arguments[2] = pyast.call(emitter.helper("with_column_of_ones"), arguments[2])
        if self.kernel == "gated_scan":
            arguments.append(emitter.align(rest[0], (*self.batch, self.query)))
        return arguments

    def _matrix(self, emitter: Emitter, operand: Operand, rows: str, columns: tuple[str, ...]) -> ast.expr:
        """The operand as [batch, rows, columns], the columns flattened to one dimension."""
        aligned = emitter.align(operand, (*self.batch, rows, *columns))
        if not columns:
            return pyast.method(aligned, "unsqueeze", -1)
        return aligned if len(columns) == 1 else pyast.method(aligned, "flatten", -len(columns))


@dataclass(frozen=True)
class FeatureGatedScan(CausalScan):
    """feature_gated_scan(q, k, v, gates): sums over earlier positions of which every feature has a gate of its own.

    Formula: `out[n, e] = sum over m <= n - offset, f of exp(gates[m + 1, f] + ... + gates[n, f]) * q[n, f] * k[m, f] *
    v[m, e]`, of logarithms of gates; of gates themselves their product, where `plain`.

    Yang et al., Gated Linear Attention Transformers with Hardware-Efficient Training, ICML 2024. The pairs in a chunk
    are taken by halves of it, see `halves`.
    """

    rule: ClassVar[str] = "feature-gated scan"
    why: ClassVar[str] = (
        "every feature of a key decays by a gate of its own, up to where a chunk, or half of one, ends and from there "
        "on, so that queries and keys meet in products of matrices, and what they add up to is carried in a state"
    )
    operands: ClassVar[tuple[str, ...]] = ("query", "key", "value", "gates")
    plain: bool = False

    def flops(self, result: Type, *operands: Type) -> Poly:
        features, values = Poly.volume(self.inner), Poly.volume(self.outer)
        per_token = features * (CHUNK + 12 * HALVINGS) + values * (2 * CHUNK) + features * values * 4
        return Poly.volume((*self.batch, self.query)) * per_token

    def workspace(self, result: Type, *operands: Type) -> Poly:
        chunk = Poly.volume(self.inner) * 6 + Poly.volume(self.outer) * 2 + 2 * CHUNK
        state = Poly.volume((*self.inner, *self.outer))
        return result.volume() + Poly.volume(self.batch) * (chunk * CHUNK + state)

    def carried(self, result: Type, *operands: Type) -> tuple[Carried, ...]:
        shape = (*map(Poly.symbol, self.batch), Poly.volume(self.inner), Poly.volume(self.outer))
        return (Carried("the sum of key times value, every feature decayed up to the last position", shape),)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        settings = map(pyast.constant, (self.offset, CHUNK))
        scan = pyast.call(emitter.helper(self.kernel), *self._arguments(emitter, operands), *settings)
        return unflattened(emitter, scan, self.outer)

    def _arguments(self, emitter: Emitter, operands: Sequence[Operand]) -> list[ast.expr]:
        matrices = super()._arguments(emitter, operands)
        gates = self._matrix(emitter, operands[3], self.query, self.inner)
        return [*matrices, gates if self.plain else pyast.call(emitter.helper("gate_values"), gates)]


FAR = "a gate between positions that are further apart than neighbours"


@dataclass(frozen=True)
class Weight:
    """What couples two positions: a mask n - m >= offset, and a decay besides; or transitions of several states.

    rate: the logarithm of the decay, of one step or, in `gated_scan`, of the step to each position; the decay itself,
    of any sign, where `plain`.
    late: how many places before the query its decay is counted from: those that the mask hides are not in it.
    """

    offset: int
    kernel: str = "causal_scan"
    rate: Node | None = None
    transitions: Node | None = None
    plain: bool = False
    late: int = 0


def match(request: Request) -> Node | str:
    """The scan that computes a sum of products, or why there is none."""
    factors, bound, builder, product = request.factors, request.bound, request.builder, request.product
    free = {axis for factor in factors for axis in factor.axes} - bound
    pairs = masked_pairs(factors, request)
    if not pairs:
        return "no factor is a causal mask or a decay below one"
    if len(pairs) > 1:
        return "several pairs of axes are masked"
    [(n, m)] = pairs
    coupling = [factor for factor in factors if n in factor.axes and m in factor.axes]
    weight = weight_of(coupling, n, m, request)
    if weight is None or weight.offset < 0:
        return f"a factor couples `{n}` and `{m}` otherwise than by a mask or a decay"
    if not any(isinstance(factor.node.op, Where | Between) for factor in coupling):
        return "there is no causal mask"
    if weight.offset != weight.late and (weight.late or (weight.offset > 1 and weight.kernel == "gated_scan")):
        return FAR
    left = [factor for factor in factors if n in factor.axes and m not in factor.axes]
    right = [factor for factor in factors if n not in factor.axes and factor not in coupling]
    carried = {axis for factor in left for axis in factor.axes}
    inner = tuple(axis for axis in _axes(right) if axis in bound and axis in carried)
    outer = tuple(axis for axis in _axes(right) if axis not in bound and axis not in carried and axis != m)
    rate_axes = weight.rate.axes if weight.rate is not None else ()
    if weight.kernel == "decayed_scan" and set(rate_axes) & bound:
        weight = replace(weight, kernel="gated_scan")  # the same gates at every position, one for each feature
    if weight.transitions is not None:
        rate_axes = tuple(axis for axis in weight.transitions.axes if axis not in (n, m))
    gated = weight.kernel == "gated_scan"
    decaying = tuple(axis for axis in rate_axes if gated and axis in bound and axis in carried)
    inner = tuple(dict.fromkeys((*inner, *decaying)))
    each = decaying or set(rate_axes) & set(outer)
    outer = tuple(axis for axis in outer if axis not in rate_axes)
    both = [f for f in right if set(f.axes) & set(inner) and set(f.axes) & set(outer)]
    if gated and ((each and (both or not outer)) or (weight.plain and not decaying)):
        if weight.offset > 1:
            return FAR
        return _element_by_element(weight, left, right, bound, n, m, builder, product)
    if not set(rate_axes) - set(decaying) <= free:
        return "the decay differs per feature"
    if both:
        return "a factor couples the features of keys and values"
    keys = [f for f in right if set(f.axes) & set(inner)]
    values = [f for f in right if f not in keys]
    own = bound - {m} - set(inner)
    query = product(left, own & carried)
    key = product(keys, own & set(_axes(keys)))
    value = product(values, own & set(_axes(values)))
    repeated = m not in value.axes
    query, key, value = _at(query, n, builder), _at(key, m, builder), _at(value, m, builder)
    rate: tuple[Node, ...] = ()
    if weight.rate is not None:
        rate = (_at(weight.rate, n, builder) if gated else weight.rate,)
    if weight.late:
        # what a query sees ends there, and so do its gates: all that the keys have is moved to where it is seen
        key = builder.make(Shift(m, Poly.constant(weight.late)), key)
        value = value if repeated else builder.make(Shift(m, Poly.constant(weight.late)), value)
        weight = replace(weight, offset=0)
    if decaying:
        key = _over(key, inner, builder)
        rate = (_over(rate[0], inner, builder),)
    if weight.kernel == "causal_scan" and weight.offset == 0 and not (inner and outer):
        # one side has no features of its own: a running sum of the other is all that is needed
        running = builder.make(CumulativeSum(m), _at(product(right, own & set(_axes(right))), m, builder))
        return product([*left, Factor(builder.make(Rename(m, n), running))], bound - {m})
    batch = tuple(
        dict.fromkeys(
            axis
            for node in (query, key, value, *rate, *((weight.transitions,) if weight.transitions is not None else ()))
            for axis in node.axes
            if axis not in (n, m, *inner, *outer)
        )
    )
    if weight.transitions is not None:
        op = weight.transitions.op
        assert isinstance(op, Transitions)
        scan = TransitionScan(n, m, op.row, op.column, inner, outer, batch, op.offset)
        return builder.make(scan, query, key, value, *weight.transitions.inputs)
    far = weight.offset - 1
    if far > 0:
        # a chunk sees all of those before it: what lies further back than one place is moved one place away
        key, value = (builder.make(Shift(m, Poly.constant(far)), side) for side in (key, value))
        if weight.rate is not None:
            waited = builder.make(Exp(), builder.make(Multiply(), weight.rate, builder.make(Literal(far))))
            query = product([Factor(query), Factor(waited)], frozenset())
    scanned = CausalScan(weight.kernel, n, m, inner, outer, batch, min(weight.offset, 1))
    if decaying:
        scanned = FeatureGatedScan("feature_gated_scan", n, m, inner, outer, batch, scanned.offset, plain=weight.plain)
    return builder.make(scanned, query, key, value, *rate)


def _element_by_element(
    weight: Weight,
    left: list[Factor],
    right: list[Factor],
    bound: frozenset[str],
    n: str,
    m: str,
    builder: Builder,
    product: Callable[[list[Factor], frozenset[str]], Node],
) -> Node:
    """A gate per feature: the state has one entry per feature and value channel, each with its own decay."""
    rate, offset = weight.rate, 0 if weight.late else weight.offset
    assert rate is not None
    source = _at(product(right, frozenset()), m, builder)
    if weight.late:
        source = builder.make(Shift(m, Poly.constant(weight.late)), source)
    features = tuple(dict.fromkeys(axis for axis in (*rate.axes, *source.axes) if axis not in (n, m)))
    if weight.plain:
        prefix = builder.make(LinearRecurrence(n, features), rate, builder.make(Rename(m, n), source))
    else:
        prefix = builder.make(GatedPrefix(n, m, features, offset), source, rate)
    return product([*left, Factor(prefix)], bound - {m})


@dataclass(frozen=True)
class GatedPrefix(Lowering):
    """gated_prefix(x, gates): decayed sums over earlier positions, every element with a decay of its own.

    Formula: `out[n, e] = sum over m <= n - offset of exp(gates[m + 1, e] + ... + gates[n, e]) * x[m, e]`, of logarithms
    of gates.

    The recurrence of Gu, Dao, Mamba, 2023, with a diagonal state matrix.
    """

    rule: ClassVar[str] = "element-wise scan"
    why: ClassVar[str] = (
        "every element decays by a gate of its own, so the sum over earlier positions is carried from chunk to chunk, "
        "element by element"
    )
    chunked: ClassVar[bool] = True
    operands: ClassVar[tuple[str, ...]] = ("x", "gates")
    separable: ClassVar[bool] = True
    kernel: ClassVar[str] = "gated_prefix"
    query: str
    key: str
    features: tuple[str, ...]
    offset: int

    def infer(self, *operands: Type) -> Type:
        kind = promote(*(o.kind for o in operands), Kind.REAL)
        return Type(kind, (self.query, *self.features), any(o.batched for o in operands))

    def flops(self, result: Type, *operands: Type) -> Poly:
        return result.volume() * (4 * ELEMENT_CHUNK + 6)

    def workspace(self, result: Type, *operands: Type) -> Poly:
        return result.volume() + Poly.volume(self.features) * (2 * ELEMENT_CHUNK * ELEMENT_CHUNK)

    def operand_kind(self, index: int, result: Type, *operands: Type) -> Kind:
        return result.kind

    def follows(self) -> Mapping[str, str]:
        return {self.query: self.query, self.key: self.query}

    def carried(self, result: Type, *operands: Type) -> tuple[Carried, ...]:
        shape = (Poly.constant(1), Poly.volume(self.features))
        return (Carried("the sum, decayed up to the last position", shape),)

    def emit(self, emitter: Emitter, result: Type, *operands: Operand) -> ast.expr:
        return unflattened(emitter, self._scan(emitter, self.kernel, operands, ()), self.features)

    def emit_from(
        self, emitter: Emitter, result: Type, state: Sequence[ast.expr], *operands: Operand
    ) -> Continuation:
        scan = self._scan(emitter, f"{self.kernel}_from", operands, state)
        return Continuation(scan, finish=lambda piece: unflattened(emitter, piece, self.features))

    def _scan(
        self, emitter: Emitter, kernel: str, operands: Sequence[Operand], state: Sequence[ast.expr]
    ) -> ast.expr:
        arguments = []
        for operand, rows in ((operands[0], self.key), (operands[1], self.query)):
            full = emitter.full(operand, (rows, *self.features))
            arguments.append(pyast.method(full, "flatten", -len(self.features)) if len(self.features) > 1 else full)
        settings = map(pyast.constant, (self.offset, ELEMENT_CHUNK))
        return pyast.call(emitter.helper(kernel), *arguments, *state, *settings)


def _axes(factors: Sequence[Factor]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(axis for factor in factors for axis in factor.axes))


def _at(node: Node, axis: str, builder: Builder) -> Node:
    """The value with this axis, repeated along it where it lacks it."""
    return node if axis in node.axes else builder.make(Broadcast((axis, *node.axes)), node)


def _over(node: Node, axes: tuple[str, ...], builder: Builder) -> Node:
    """The value with these axes, repeated along those that it lacks."""
    missing = tuple(axis for axis in axes if axis not in node.axes)
    return builder.make(Broadcast((*missing, *node.axes)), node) if missing else node


def masked_pairs(factors: Sequence[Factor], request: Request) -> set[tuple[str, str]]:
    """The axes n and m of every factor that is a causal mask or a decay, of which m is summed and as long as n."""
    return {
        (n, m)
        for factor in factors
        for n in factor.axes
        for m in factor.axes
        if n not in request.bound and m in request.bound
        and request.facts.equal(Poly.symbol(n), Poly.symbol(m)) is Truth.YES
        and weight_of([factor], n, m, request) is not None
    }  # fmt: skip


def weight_of(coupling: Sequence[Factor], n: str, m: str, request: Request) -> Weight | None:
    """The masks and decays among the factors over n and m; None if one of them is neither."""
    offset: int | None = None
    kernel, rate, late = "causal_scan", None, 0
    for factor in coupling:
        if isinstance(factor.node.op, Transitions):
            op = factor.node.op
            alone = len(coupling) == 1 and not factor.inverse and (op.query, op.key) == (n, m)
            return Weight(op.offset, "transition_scan", transitions=factor.node) if alone else None
        if isinstance(factor.node.op, Products):
            products = factor.node.op
            alone = len(coupling) == 1 and not factor.inverse and (products.query, products.key) == (n, m)
            return Weight(0, "gated_scan", factor.node.inputs[0], plain=True) if alone else None
    for factor in coupling:
        node = factor.node
        if factor.inverse:
            return None
        if isinstance(node.op, Where):
            condition, yes, no = node.inputs
            hides = _is(yes, 0.0) and _is(no, 1.0)
            least = lag_at_least(condition, n, m, negated=hides)
            if least is None or not (hides or (_is(yes, 1.0) and _is(no, 0.0))):
                return None
            offset = least if offset is None else max(offset, least)
            continue
        decay = _decay(node, n, m, request.builder, request.constants)
        found = (*decay, 0) if decay is not None else _late_decay(node, n, m, request.builder)
        if found is None or rate is not None:
            return None
        kernel, rate, late = found
    return Weight(offset or 0, kernel, rate, late=late)


def _late_decay(node: Node, n: str, m: str, builder: Builder) -> tuple[str, Node, int] | None:
    """The gates of exp(x[n - c] - x[m]), moved by c, and c > 0; of what came before the first they say nothing."""
    if not isinstance(node.op, Exp) or not isinstance(node.inputs[0].op, Subtract):
        return None
    last, before = node.inputs[0].inputs
    if not isinstance(last.op, Shift) or last.op.axis != n or before.op != Rename(n, m):
        return None
    places = last.op.by.as_number()
    if not isinstance(places, int) or places < 1 or last.inputs[0] is not before.inputs[0]:
        return None
    make = builder.make
    gates = _at(gates_of(last.inputs[0], n, builder), n, builder)
    some = make(Greater(), make(Position(n)), make(Literal(0)))
    gates = make(Where(), some, gates, make(Literal(0.0)))  # the first is not looked at, but is no longer the first
    return "gated_scan", make(Shift(n, last.op.by), gates), places


def _decay(
    node: Node, n: str, m: str, builder: Builder, constants: Mapping[str, int | float]
) -> tuple[str, Node] | None:
    if isinstance(node.op, Exp):
        [exponent] = node.inputs
        rate = lag_coefficient(exponent, n, m, builder)
        if rate is not None:
            return "decayed_scan", rate
        level = gate_level(exponent, n, m, builder)
        return ("gated_scan", gates_of(level, n, builder)) if level is not None else None
    if isinstance(node.op, Power):
        base, exponent = node.inputs
        times = lag_coefficient(exponent, n, m, builder)
        if n in base.axes or m in base.axes or times is None or not ranges((base,), constants)[base].positive:
            return None
        rate = builder.make(Log(), base)
        return "decayed_scan", rate if _is(times, 1) else builder.make(Multiply(), times, rate)
    return None


def gates_of(level: Node, axis: str, builder: Builder) -> Node:
    """What a level, as a running sum of logarithms of gates, rises by at each position; at the first position anything.

    A level grows with the sequence, and differences of large numbers have few digits left. Where it is made of running
    sums, its rises are what is summed; only of what is none, as of a running maximum, two neighbours are subtracted.
    """
    make = builder.make
    if axis not in level.axes:
        return make(Literal(0.0))
    match level.op:
        case CumulativeSum(along) if along == axis and level.inputs[0].type.kind is not Kind.BOOL:
            return level.inputs[0]
        case Position():
            return make(Literal(1.0))
        case Rename(source, target) if target == axis:
            return make(level.op, _at(gates_of(level.inputs[0], source, builder), source, builder))
        case Add() | Subtract() | Negative():
            return make(level.op, *(gates_of(operand, axis, builder) for operand in level.inputs))
        case Multiply() if sum(axis in operand.axes for operand in level.inputs) == 1:
            return make(level.op, *(gates_of(o, axis, builder) if axis in o.axes else o for o in level.inputs))
        case Divide() if axis not in level.inputs[1].axes:
            return make(level.op, gates_of(level.inputs[0], axis, builder), level.inputs[1])
    return make(Subtract(), level, make(Shift(axis, Poly.constant(1)), level))


def _is(node: Node, value: float) -> bool:
    return isinstance(node.op, Literal) and node.op.value == value


def normalised(node: Node, builder: Builder) -> Node | None:
    """A scan divided by the sum of its own weights, or by a bound of it, as one scan that carries both."""
    if not isinstance(node.op, Divide):
        return None
    above, below = node.inputs
    scan = above.op
    if not isinstance(scan, CausalScan) or scan.normalise:
        return None
    below, least = _bounded(below, scan, builder)
    if not _sums_weights(below, above):
        shared = _with_weights_in_keys(above, below, builder)
        if shared is None:
            return None
        above, below = shared
    return builder.make(replace(scan, normalise=True, bounded=bool(least)), *above.inputs, *least)


def _bounded(node: Node, scan: CausalScan, builder: Builder) -> tuple[Node, tuple[Node, ...]]:
    """x and y, where the node is `max(abs(x), y)`, and y of each query or of all; else the node, and nothing."""
    if isinstance(scan, FeatureGatedScan):
        return node, ()
    if isinstance(node.op, Maximum):
        for one, least in (node.inputs, node.inputs[::-1]):
            if isinstance(one.op, Abs) and {*least.axes} <= {*scan.batch, scan.query}:
                return one.inputs[0], (_at(least, scan.query, builder),)
    return node, ()


def _with_weights_in_keys(above: Node, below: Node, builder: Builder) -> tuple[Node, Node] | None:
    """Two scans, one of weights w[m] and one of w[m] v[m, e], as scans of 1 and v whose keys are multiplied by w."""
    one, other = above.op, below.op
    if not isinstance(one, CausalScan) or not isinstance(other, CausalScan):
        return None
    weight = below.inputs[2]
    while isinstance(weight.op, Broadcast):
        [weight] = weight.inputs
    same = replace(other, outer=one.outer, batch=one.batch) == one and not other.outer
    others = [(scan.inputs[:2], scan.inputs[3:]) for scan in (above, below)]
    if not same or others[0] != others[1] or set(weight.axes) & {*one.inner} or _is(weight, 1):
        return None
    rest = factors(builder, above.inputs[2])
    for factor in factors(builder, weight):
        if _is(factor[1], 1):
            continue
        if factor not in rest:
            return None
        rest.remove(factor)
    value = build_product(builder, rest)
    if set(value.axes) - {one.key, *one.outer, *one.batch} or one.key not in value.axes:
        return None
    query, key = above.inputs[:2]
    key = builder.make(Multiply(), key, weight)
    ones = builder.make(Broadcast((one.key,)), builder.make(Literal(1)))
    scans = (
        builder.make(scan.op, query, key, values, *scan.inputs[3:])
        for scan, values in ((above, value), (below, ones))
    )
    first, second = scans
    return first, second


def _sums_weights(node: Node, scan: Node) -> bool:
    op = scan.op
    assert isinstance(op, CausalScan)
    if isinstance(node.op, CausalScan):  # the same scan of ones
        ones = node.inputs[2]
        while isinstance(ones.op, Broadcast):
            [ones] = ones.inputs
        same = replace(node.op, outer=op.outer, batch=op.batch) == op and not node.op.outer
        return same and _is(ones, 1) and (*node.inputs[:2], *node.inputs[3:]) == (*scan.inputs[:2], *scan.inputs[3:])
    if not isinstance(node.op, Contraction) or op.kernel != "causal_scan" or op.offset:
        return False
    query, key = scan.inputs[:2]
    for one, other in (node.inputs, node.inputs[::-1]):
        running = other.inputs[0] if isinstance(other.op, Rename) else None
        if one is query and running is not None and running.op == CumulativeSum(op.key):
            return running.inputs[0] is key and set(node.op.axes) == set(op.inner)
    return False
