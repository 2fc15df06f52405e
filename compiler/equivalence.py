"""Whether two formulas are the same function: proved, refuted by an example, or open, with the reason.

First the normal forms are compared, then the formulas are run on random inputs in search of a difference, then they are
evaluated exactly in modular arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import torch
from torch import Tensor, nn

from . import residues
from .dense import dense
from .emit.arguments import complete
from .errors import CompileError
from .exact import Degree, Setting, TooLarge, Value, evaluate
from .formula import Formula
from .graph import Graph, Node, digest
from .module import compile as build
from .ops.leaves import Declared
from .simplify import simplify
from .types import Kind

TOLERANCE = 1e-7  # relative to the largest entry; float64 rounds to 1e-16
DRAWS = 3  # ways of drawing inputs
MAX_ERROR = -60  # binary logarithm of the error that a proof may have
MAX_TRIED = 4000
#: sizes that are tried for axes, in order: all different, all equal, with ones
_SIZES = ((3, 2, 4, 5, 6, 7, 8, 9, 1), (4, 2, 3, 6, 8, 9, 1, 5), (1, 2, 4, 3, 6, 9))
_LARGER = (12, 14, 16, 28, 32, 49, 64, 98, 128, 196, 256)


class Verdict(Enum):
    PROVED = "proved"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Counterexample:
    """Where two formulas differ: sizes of axes, the seed of the inputs, the position in the result, both values.

    Inputs, parameters and buffers are drawn in the order of their declaration after `torch.manual_seed(seed)`: from a
    normal distribution where seed % 3 is 0, as magnitudes of such draws plus 0.1 where it is 1, as whole numbers from
    -1 to 2 where it is 2. position counts along the result's axes.
    """

    sizes: Mapping[str, int]
    seed: int
    output: int
    position: tuple[int, ...]
    left: float | complex | bool
    right: float | complex | bool


@dataclass(frozen=True)
class Equivalence:
    """The answer, and what it rests on.

    method: how it was found. confidence: what kind of proof it is, or why there is none.
    sizes: at which it was tested.
    """

    verdict: Verdict
    method: str
    confidence: str
    sizes: tuple[Mapping[str, int], ...] = ()
    counterexample: Counterexample | None = None


@dataclass(frozen=True)
class Side:
    """A formula and a graph over its declarations: as written, simplified, or planned."""

    formula: Formula
    graph: Graph


def equivalent(left: Side, right: Side, *, rules: bool = True, edges: bool = True) -> Equivalence:
    """Whether two formulas compute the same for all inputs, parameters and sizes that both take.

    Inputs meet by name, or by position where the names differ; parameters, buffers and constants by name. Constants
    have their defaults.

    rules: whether a proof may use simplification rules, which leaves their tests out. edges: whether formulas that
    differ only where inputs are 0, or equal, are different.
    """
    matched = _Matched.of(left, right)
    if isinstance(matched, str):
        return Equivalence(Verdict.UNKNOWN, "signatures", matched)
    if rules and matched.straight and _normal(left) == _normal(right):
        return Equivalence(Verdict.PROVED, "normal form", "exact, for all sizes: both simplify to the same expression")
    tested: list[dict[str, int]] = []
    for seed, sizes in enumerate(matched.sizes()):
        found = _differs(matched, sizes, DRAWS * seed, edges)
        if found is not None:
            reason = "the values are in the example"
            return Equivalence(Verdict.DIFFERENT, "evaluation in float64", reason, (sizes,), found)
        tested.append(sizes)
    if not tested:
        return Equivalence(Verdict.UNKNOWN, "evaluation in float64", "no sizes were found that both formulas take")
    return _proof(matched, tested)


def _normal(side: Side) -> str:
    """What the formula simplifies to, up to names of values and the order of commutative operations."""
    outputs = dense(side.graph.outputs, side.formula.builder)
    found = simplify(replace(side.formula, graph=Graph(tuple(outputs), {})))
    return "".join(digest(node) for node in found.graph.outputs)


# -- signatures ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Matched:
    """Two formulas whose inputs, parameters and buffers are paired.

    single: parameters and buffers that only the left formula has, and those that only the right one has.
    axes: the name that the left formula has for an axis of the right one.
    """

    left: Side
    right: Side
    inputs: tuple[tuple[Node, Node], ...]
    single: tuple[tuple[Node, ...], tuple[Node, ...]]
    axes: Mapping[str, str]

    @staticmethod
    def of(left: Side, right: Side) -> _Matched | str:
        """The pairing, or why there is none."""
        ours, theirs = left.formula.inputs, right.formula.inputs
        if len(ours) != len(theirs):
            return f"one formula has {len(ours)} inputs, the other {len(theirs)}"
        names = {_name(node): node for node in theirs}
        by_name = names.keys() == {_name(node) for node in ours}
        pairs = [(node, names[_name(node)] if by_name else other) for node, other in zip(ours, theirs, strict=True)]
        for node, other in pairs:
            if node.type.kind is not other.type.kind or node.type.rank != other.type.rank:
                return f"`{_name(node)}` is {node.type} in one formula, `{_name(other)}` is {other.type} in the other"
        outputs = [graph.outputs for graph in (left.graph, right.graph)]
        if [(o.type.rank, o.type.kind) for o in outputs[0]] != [(o.type.rank, o.type.kind) for o in outputs[1]]:
            return "the results have different axes or kinds"
        stored = {_name(s.node): s.node for s in (*right.formula.parameters, *right.formula.buffers)}
        alone: list[Node] = []
        for own in (*left.formula.parameters, *left.formula.buffers):
            twin = stored.pop(_name(own.node), None)
            if twin is None:
                alone.append(own.node)
            elif twin.type.rank != own.node.type.rank:
                return f"`{_name(twin)}` has different axes in the two formulas"
            else:
                pairs.append((own.node, twin))
        axes: dict[str, str] = {}
        for node, other in pairs:
            for ours_axis, theirs_axis in zip(node.axes, other.axes, strict=True):
                axes.setdefault(theirs_axis, ours_axis)
        for other in stored.values():
            for axis in other.axes:
                axes.setdefault(axis, axis)
        return _Matched(left, right, tuple(pairs), (tuple(alone), tuple(stored.values())), axes)

    @property
    def straight(self) -> bool:
        """Whether everything has the same names in both formulas."""
        ours, theirs = self.left.formula.constants, self.right.formula.constants
        return all(a.op == b.op for a, b in self.inputs) and all(
            ours[name] == theirs[name] for name in ours.keys() & theirs.keys()
        )

    def given(self, index: int) -> Iterator[tuple[Node, str, tuple[str, ...]]]:
        """What one formula reads: the node, the name of its values, and the left formula's names of its axes."""
        for pair in self.inputs:
            yield pair[index], _name(pair[0]), pair[0].axes
        for node in self.single[index]:
            axes = tuple(self.axes.get(axis, axis) for axis in node.axes) if index else node.axes
            yield node, _name(node), axes

    def sizes(self) -> Iterator[dict[str, int]]:
        """A few different choices of sizes of the left formula that both formulas take."""
        seen = []
        for preferred in _SIZES:
            found = self._search(preferred)
            if found is not None and found not in seen:
                seen.append(found)
                yield found

    def _search(self, preferred: Sequence[int]) -> dict[str, int] | None:
        """Sizes for all axes, going back where a fact of either formula is broken."""
        formula = self.left.formula
        defined = {r.left.as_symbol() for r in formula.relations if r.relation == "="}
        wanted = dict.fromkeys(axis for index in (0, 1) for _, _, axes in self.given(index) for axis in axes)
        wanted |= dict.fromkeys(formula.fixed)
        order = sorted(wanted, key=lambda axis: axis in defined)
        stack: list[tuple[dict[str, int], Iterator[int]]] = [({}, iter((0,)))]
        tried = 0
        while stack and tried < MAX_TRIED:
            known, choices = stack[-1]
            choice = next(choices, None)
            if choice is None:
                stack.pop()
                continue
            tried += 1
            extended = dict(known)
            free = next((axis for axis in order if axis not in known), None)
            if choice and free is not None:
                extended[free] = choice
            if complete(formula, extended, formula.constants) or self._other_sizes(extended) is None:
                continue
            if all(axis in extended for axis in order):
                return extended
            used = list(extended.values())
            equal = preferred is _SIZES[1]
            rest = [*preferred, *_LARGER]
            stack.append((extended, iter(rest if equal else sorted(rest, key=lambda size: (size > 9, size in used)))))
        return None

    def _other_sizes(self, known: Mapping[str, int]) -> dict[str, int] | None:
        """The right formula's sizes, as far as the left one's are known; None if they break a fact."""
        theirs = {axis: known[own] for axis, own in self.axes.items() if own in known}
        for node, other in self.inputs:
            for ours_axis, axis in zip(node.axes, other.axes, strict=True):
                if ours_axis in known and theirs.setdefault(axis, known[ours_axis]) != known[ours_axis]:
                    return None
        formula = self.right.formula
        return None if complete(formula, theirs, formula.constants) else theirs

    def other_sizes(self, known: Mapping[str, int]) -> dict[str, int]:
        found = self._other_sizes(known)
        assert found is not None, "sizes are chosen to fit both formulas"
        return found


def _name(node: Node) -> str:
    assert isinstance(node.op, Declared)
    return node.op.name


# -- counterexamples ----------------------------------------------------------------------------------


def _differs(matched: _Matched, sizes: Mapping[str, int], seed: int, edges: bool) -> Counterexample | None:
    """An example on which the values differ."""
    theirs = matched.other_sizes(sizes)
    modules = [_module(matched.left, sizes), _module(matched.right, theirs)]
    for number in range(seed, seed + (DRAWS if edges else DRAWS - 1)):
        torch.manual_seed(number)
        values: dict[str, Tensor] = {}
        results = []
        for module, side, index in zip(modules, (matched.left, matched.right), (0, 1), strict=True):
            own = {}
            for node, name, axes in matched.given(index):
                if name not in values:
                    values[name] = _draw(node, [sizes[axis] for axis in axes], number % DRAWS)
                own[_name(node)] = values[name]
            results.append(_run(module, side, own))
        if results[0] is None or results[1] is None:
            continue
        for output, (left, right) in enumerate(zip(*results, strict=True)):
            place = _apart(left, right)
            if place is not None:
                return Counterexample(dict(sizes), number, output, place, left[place].item(), right[place].item())
    return None


def _module(side: Side, sizes: Mapping[str, int]) -> nn.Module:
    fixed = {axis: sizes[axis] for axis in side.formula.fixed if axis in sizes}
    return build(side.formula, side.graph, sizes=fixed).double()


def _draw(node: Node, shape: Sequence[int], manner: int) -> Tensor:
    """Real values are normal draws, positive ones, or small whole numbers, among which many are 0 or equal."""
    match node.type.kind:
        case Kind.BOOL:
            return torch.rand(shape) < 0.6
        case Kind.INT:
            return torch.randint(0, 2, shape)
        case Kind.COMPLEX:
            return torch.randn(shape, dtype=torch.complex128)
    if manner == 2:
        return torch.randint(-1, 3, shape).to(torch.float64)
    values = torch.randn(shape, dtype=torch.float64)
    return values.abs() + 0.1 if manner == 1 else values


def _run(module: nn.Module, side: Side, values: Mapping[str, Tensor]) -> list[Tensor] | None:
    """The results; None for inputs that the formula does not take, as positions outside a table."""
    tensors = dict([*module.named_parameters(), *module.named_buffers()])
    with torch.no_grad():
        for name, tensor in tensors.items():
            if name in values:
                tensor.copy_(values[name])
        try:
            result = module(*(values[_name(node)] for node in side.formula.inputs))
        except (IndexError, RuntimeError):
            return None
    return list(result) if isinstance(result, tuple) else [result]


def _apart(left: Tensor, right: Tensor) -> tuple[int, ...] | None:
    """The place of the largest difference, if there is one beyond rounding; not a number equals itself."""
    left, right = torch.broadcast_tensors(left, right)
    if not left.dtype.is_floating_point and not left.dtype.is_complex:
        wrong = (left != right).to(torch.float64)
        limit = 0.5
    else:
        finite = torch.isfinite(left) & torch.isfinite(right)
        same = (left == right) | (torch.isnan(left.abs()) & torch.isnan(right.abs()))
        wrong = torch.where(finite, (left - right).abs(), torch.where(same, 0.0, math.inf))
        scale = left[finite].abs().max().item() if finite.any() else 0.0
        limit = TOLERANCE * scale + 1e-12
    if not wrong.numel() or wrong.max().item() <= limit:
        return None
    return tuple(int(i) for i in torch.unravel_index(wrong.argmax(), wrong.shape))


# -- proofs -------------------------------------------------------------------------------------------


def _proof(matched: _Matched, tested: Sequence[dict[str, int]]) -> Equivalence:
    """Exact evaluation at random points of a finite field, at every choice of sizes that is small enough."""
    unknowns: set[str] = set()
    proved: list[dict[str, int]] = []
    obstacle = ""
    worst = -math.inf
    for sizes in tested:
        try:
            left, right = (_exactly(matched, sizes, index, unknowns) for index in (0, 1))
        except TooLarge:
            obstacle = "the values are too large to be computed exactly"
            continue
        error = -math.inf
        for one, other in zip(left, right, strict=True):
            if not torch.equal(*torch.broadcast_tensors(one.residues[0], other.residues[0])):
                read = ", ".join(f"`{name}`" for name in sorted(unknowns)) or "rounding"
                return _open(tested, f"no difference was found, and none is, unless {read} have laws that are not used")
            difference = one.degree + other.degree
            error = max(error, _error(difference.above + difference.below))
        if error > MAX_ERROR:
            obstacle = "the degrees are too high for a proof by random evaluation"
            continue
        worst = max(worst, error)
        proved.append(sizes)
    if not proved:
        return _open(tested, f"no difference was found, but {obstacle}")
    return Equivalence(Verdict.PROVED, "identity testing", _confidence(worst, unknowns), tuple(proved))


def _confidence(error: float, unknowns: set[str]) -> str:
    """What a proof by random evaluation is worth."""
    used = f"; of {', '.join(sorted(unknowns))} nothing is used but that they are functions" if unknowns else ""
    return (
        f"at these sizes, for finite values: exact evaluation at {residues.TRIALS} random points modulo {residues.P} is "
        f"wrong with probability below 2^{math.ceil(error)}, if powers of a generator behave like random numbers{used}"
    )


def _exactly(matched: _Matched, sizes: Mapping[str, int], index: int, unknowns: set[str]) -> list[Value]:
    """The results of one formula. Errors: TooLarge."""
    side = (matched.left, matched.right)[index]
    own = sizes if index == 0 else matched.other_sizes(sizes)
    inputs = {
        _name(node): Value(residues.drawn(name, [sizes[axis] for axis in axes]), node.axes, Degree(1))
        for node, name, axes in matched.given(index)
    }
    axes = matched.axes if index else {}
    setting = Setting(inputs, _all_sizes(side.formula, own), axes, unknowns)
    return evaluate(dense(side.graph.outputs, side.formula.builder), setting)


def _open(tested: Sequence[dict[str, int]], reason: str) -> Equivalence:
    return Equivalence(Verdict.UNKNOWN, "identity testing", reason, tuple(tested))


def _error(degree: int) -> float:
    """The binary logarithm of the probability that different functions of this degree agree in all trials."""
    return residues.TRIALS * (math.log2(max(degree, 1)) - math.log2(residues.Q))


def _all_sizes(formula: Formula, known: Mapping[str, int]) -> dict[str, float]:
    """Sizes of all axes, derived ones too, and constants."""
    values: dict[str, float] = {**formula.constants, **known}
    for axis, size in formula.derived.items():
        if axis not in values and size.symbols() <= values.keys():
            values[axis] = size.evaluate(values)
    return values
