"""Whether two formulas are the same function: proved, refuted by an example, or open, with the reason.

The formulas are run on drawn inputs in search of a difference. If there is none, a proof is sought: by simplification
to the same expression or as the same sum of products, which holds for all sizes, or by exact evaluation in modular
arithmetic, which holds for the sizes at which it is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice

from ..dense import dense
from ..graph import Graph, GraphTooLarge, Node, digest, topological
from ..ops.contraction import Contraction
from ..ops.layout import Reorder
from ..simplify import simplify
from .constants import smaller
from .everywhere import same_sums
from .identities import Identity, identity
from .matching import Matched
from .search import FINE, Manner, Search
from .verdict import Counterexample, Equivalence, Side, Verdict

__all__ = ["Counterexample", "Equivalence", "Side", "Verdict", "equivalent"]

_RUN = "evaluation in float64"
MAX_SPECIAL = 8  # sizes around smaller constants at which a proof is sought


def equivalent(
    left: Side, right: Side, *, rules: bool = True, edges: bool = True, guards: bool = False
) -> Equivalence:
    """Whether two formulas compute the same for all inputs, parameters and sizes that both take.

    Inputs meet by name, or by position where the names differ; parameters, buffers and constants by name. Constants
    have their defaults. Values are compared, not gradients: `stop_gradient(x)` is x.

    rules: whether a proof may use simplification rules, which leaves their tests out. edges: whether formulas that
    differ only where inputs are 0, equal, tiny, or at a number that one of them mentions, are different. guards:
    whether formulas may differ where an epsilon acts or a value is not a number; a proof then says so.
    """
    edges = edges and not guards
    matched = Matched.of(left, right)
    if isinstance(matched, str):
        return Equivalence(Verdict.UNKNOWN, "signatures", matched)
    search = Search(matched, guards)
    manners = tuple(Manner) if edges else (Manner.NORMAL, Manner.POSITIVE)
    tested = list(matched.sizes())
    if not tested:
        return Equivalence(Verdict.UNKNOWN, _RUN, "no sizes were found that both formulas take")
    exact: Identity | None = None
    special = tuple(matched.special_sizes())
    around = ((sizes, 0, (Manner.NORMAL,)) for sizes in special)
    plain = ((sizes, len(Manner) * number, manners) for number, sizes in enumerate(tested))
    for sizes, seed, drawn in chain(plain, around):
        for found, doubtful in search.examples(sizes, seed, drawn):
            if doubtful:
                exact = exact or identity(matched, tested)
            if exact is None or not doubtful or not exact.proved:
                return _different(found)
            here = exact if sizes in tested else identity(matched, [sizes])
            if here.unequal and not here.unknowns:
                return _different(found)
        if search.unlike:
            return Equivalence(Verdict.UNKNOWN, "signatures", "the results have different sizes", (sizes,))
    simple = matched
    if rules:
        simple = replace(matched, left=_simplified(left), right=_simplified(right))
        if matched.straight and _same(simple.left, simple.right):
            reason = "for all sizes, for finite values: both simplify to the same expression"
            return Equivalence(Verdict.PROVED, "normal form", reason, tuple(tested), everywhere=True)
    pairs = ((left, simple.left), (right, simple.right))
    shorter = any(before.graph.outputs != after.graph.outputs for before, after in pairs)
    if same_sums(matched) or (shorter and same_sums(simple)):
        reason = "for all sizes, for finite values: both are the same sum of products"
        return Equivalence(Verdict.PROVED, "sums of products", reason, tuple(tested), everywhere=True)
    if guards and (same_sums(matched, guards=True) or (rules and same_sums(_unguarded(matched), guards=True))):
        reason = "for all sizes, where no epsilon acts and all values are numbers: both are the same sum of products"
        return Equivalence(Verdict.PROVED, "sums of products", reason, tuple(tested), everywhere=True)
    exact = exact or identity(matched, tested)
    if exact.unequal and not exact.unknowns:
        for found in _finely(search, tested, manners):
            return _different(found)
    if shorter and not exact.proved:
        once_more = identity(simple, tested)
        exact = once_more if once_more.proved else exact
    if exact.large and next(_finely(search, tested, manners), None) is None:
        exact = _at_smaller_constants(simple, manners) or exact
    if exact.proved:
        limit = None if exact.constants else matched.out_of_reach((*tested, *special))
        if limit is not None:
            reason = f"equal at these sizes; more than {limit} is asked for, which is beyond all sizes that were tried"
            return Equivalence(Verdict.UNKNOWN, "identity testing", reason, exact.proved)
        return Equivalence(Verdict.PROVED, "identity testing", exact.confidence, exact.proved)
    rounded = "; values differ, where rounding may be why" if search.doubtful else ""
    return Equivalence(Verdict.UNKNOWN, "identity testing", f"{exact.doubt}{rounded}", tuple(tested))


def _finely(search: Search, tested: Sequence[Mapping[str, int]], manners: Sequence[Manner]) -> Iterator[Counterexample]:
    """Differences down to the last digits."""
    for number, sizes in enumerate(tested):
        for found, _ in search.examples(sizes, len(Manner) * number, manners, FINE):
            yield found


def _at_smaller_constants(matched: Matched, manners: Sequence[Manner]) -> Identity | None:
    """A proof at constants below their defaults, and at sizes on both sides of these; None if there is none.

    A difference that is found there is none at the defaults, but the end of the proof.
    """
    found: Identity | None = None
    for chosen, constants in smaller(matched):
        tested = [*chosen.sizes(), *islice(chosen.special_sizes(), MAX_SPECIAL)]
        search = Search(chosen)
        if any(True for sizes in tested for _ in search.examples(sizes, 0, manners)):
            return None
        exact = identity(chosen, tested)
        if exact.unequal:
            return None
        if exact.proved and found is None:
            found = replace(exact, proved=tuple({**constants, **sizes} for sizes in exact.proved), constants=True)
    return found


def _different(found: Counterexample) -> Equivalence:
    return Equivalence(Verdict.DIFFERENT, _RUN, "the values are in the example", (found.sizes,), found)


def _simplified(side: Side, *, guards: bool = False) -> Side:
    """What the formula simplifies to, lowered operations written out."""
    outputs = dense(side.graph.outputs, side.formula.builder)
    return Side(side.formula, simplify(replace(side.formula, graph=Graph(tuple(outputs), {})), guards=guards).graph)


def _unguarded(matched: Matched) -> Matched:
    """Both formulas simplified as they may be where no epsilon acts and all values are numbers."""
    left, right = _simplified(matched.left, guards=True), _simplified(matched.right, guards=True)
    return replace(matched, left=left, right=right)


def _same(left: Side, right: Side) -> bool:
    """Whether two graphs are one expression."""
    try:
        return _content(left) == _content(right)
    except GraphTooLarge:
        return False


def _content(side: Side) -> list[tuple[str, tuple[str, ...]]]:
    """What is computed, and the order of axes of each result: inside of a formula axes have names and no order."""
    builder = side.formula.builder
    made: dict[Node, Node] = {}
    for node in topological(side.graph.outputs):
        operands = [made[operand] for operand in node.inputs]
        op = node.op
        if isinstance(op, Contraction):
            operands.sort(key=digest)
            op = replace(op, result=tuple(sorted(op.result)))
        made[node] = operands[0] if isinstance(op, Reorder) else builder.make(op, *operands)
    return [(digest(made[output]), output.axes) for output in side.graph.outputs]
