"""Which forms of a formula exist, why a missing one is missing, and what else is worth knowing of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..grammar.source import Span
from .claims import Case, find_culprit, origin, past
from .facts.cost import Sequence
from .facts.dependence import Dependence
from .facts.gradients import cancelled, unreached
from .facts.state import State, state
from .lowerings.lowering import Lowering
from .plan import Plan
from .report import Report
from .simplify import simplify
from .sizes import Poly

TYPICAL = 64  # elements of an axis that is not counted
LONGEST = 2**24  # tokens up to which a crossover is looked for


@dataclass(frozen=True)
class Form:
    """One way of evaluating a formula.

    text: what it costs or how it is done; for one that is missing why, with the place of the culprit.
    """

    name: str  # dense, linear, chunked, recurrent
    exists: bool
    text: str
    span: Span | None = None


@dataclass(frozen=True)
class Crossover:
    """Where the plan starts to do less work than the text as written.

    length: the least size of all the sequence axes from which on it does, None if it never does;
    sequence, others: the axes that are as long as that, and those that have TYPICAL elements.
    """

    length: int | None
    sequence: tuple[str, ...]
    others: tuple[str, ...]


@dataclass(frozen=True)
class Account:
    """forms: dense, linear, chunked and recurrent, in this order.

    crossover: None where the plan does as many operations as the text.
    causal: why the formula is not causal, with the place; None if it is, or has no sequence axis.
    mixing: whether positions of the sequence depend on each other at all.
    fixed: parameters and buffers that carry a sequence axis, with those axes: they fix its length.
    without_gradient: inputs and parameters that are used, and that no gradient reaches.
    cancelled: those that simplification shows to have no influence.
    """

    forms: tuple[Form, ...]
    crossover: Crossover | None
    causal: tuple[str, Span | None] | None
    mixing: bool
    fixed: tuple[tuple[str, tuple[str, ...]], ...]
    without_gradient: tuple[str, ...]
    cancelled: tuple[str, ...]


def account(report: Report) -> Account | None:
    """What there is to say of a formula, by analyses that `check` does not need; None for one with mistakes."""
    formula, graph, written, compiled = report.formula, report.plan, report.written, report.compiled
    if formula is None or graph is None or written is None or compiled is None:
        return None
    sequence = Sequence(formula)
    case = Case(formula, Plan(formula, graph, report.origins, report.steps), sequence, compiled)
    dependence = Dependence(formula)
    mixing = any(dependence.mixes(axis) for axis in sequence.axes)
    found = dependence.causal() if sequence.axes else None
    causal = None if found is None else (found[1], found[0])
    kept = state(graph, frozenset(sequence.axes))
    dense = Form("dense", True, f"the text as it stands: time {written.order}, memory {written.memory_growth}")
    return Account(
        forms=(dense, _linear(case), _chunked(case, causal, mixing), _recurrent(case, causal, mixing, kept)),
        crossover=None if written.time == compiled.time else _crossover(case, written.time, compiled.time),
        causal=causal,
        mixing=mixing,
        fixed=tuple(_fixed(case)),
        without_gradient=tuple(getattr(found.node.op, "name", "") for found in unreached(formula)),
        cancelled=tuple(getattr(node.op, "name", "") for node in cancelled(formula, simplify(formula).graph)),
    )


# -- forms -----------------------------------------------------------------------------------------


def _linear(case: Case) -> Form:
    sequence, cost = case.sequence, case.cost
    if not sequence.axes:
        return Form("linear", False, "there is no sequence axis to count in")
    if all(sequence.is_linear(size) for size in (cost.time, *cost.memory)):
        return Form("linear", True, f"as compiled: time {cost.order}, memory {cost.memory_growth}")
    culprit = find_culprit(case, sequence.is_linear)
    span, reason = culprit if culprit is not None else (None, f"it takes {cost.order} time")
    return Form("linear", False, reason, span)


def _chunked(case: Case, causal: tuple[str, Span | None] | None, mixing: bool) -> Form:
    chunked = [node for node in case.plan.graph if isinstance(node.op, Lowering) and node.op.chunked]
    if chunked:
        rules = dict.fromkeys(node.op.rule for node in chunked if isinstance(node.op, Lowering))
        return Form("chunked", True, f"as compiled, by {' and '.join(rules)}")
    if not case.sequence.axes:
        return Form("chunked", False, "there is no sequence axis to cut")
    if not mixing:
        return Form("chunked", False, "there is nothing to carry: every position is computed by itself")
    if causal is not None:
        return Form("chunked", False, "it is not causal", causal[1])
    culprit = find_culprit(case, case.sequence.is_linear)
    if culprit is not None:
        return Form("chunked", False, culprit[1], culprit[0])
    return Form("chunked", False, "no sum over earlier positions is left after planning")


def _recurrent(case: Case, causal: tuple[str, Span | None] | None, mixing: bool, kept: State) -> Form:
    if not case.sequence.axes:
        return Form("recurrent", False, "there is no sequence axis to step along")
    if causal is not None:
        return Form("recurrent", False, "it is not causal", causal[1])
    if kept.size is None:
        assert kept.culprit is not None
        place = origin(case, kept.culprit)
        return Form("recurrent", False, past(case, kept.culprit), place)
    if not mixing:
        return Form("recurrent", True, "without a state: every position is computed by itself")
    size = case.formula.facts.canonical(kept.size)
    return Form("recurrent", True, f"position by position, with a state of {size} elements")


# -- the crossover ---------------------------------------------------------------------------------


def _crossover(case: Case, written: Poly, compiled: Poly) -> Crossover | None:
    symbols = written.symbols() | compiled.symbols()
    order = [name for name in case.sequence.order if name in symbols]
    grows = tuple(name for name in order if name in case.sequence.names)
    others = tuple(name for name in order if name not in grows and name not in case.formula.constants)
    if not grows:
        return None

    def pays(length: int) -> bool:
        sizes: dict[str, float] = {name: max(1.0, float(value)) for name, value in case.formula.constants.items()}
        sizes |= dict.fromkeys(others, TYPICAL) | dict.fromkeys(grows, length)
        return compiled.evaluate(sizes) < written.evaluate(sizes)

    if not pays(LONGEST):
        return Crossover(None, grows, others)
    low, high = 0, LONGEST  # it pays at high, and not at low
    while high > 1 and pays(high // 2):
        high //= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if pays(middle) else (middle, high)
    return Crossover(high, grows, others)


# -- notes -----------------------------------------------------------------------------------------


def _fixed(case: Case) -> Iterator[tuple[str, tuple[str, ...]]]:
    for stored in (*case.formula.parameters, *case.formula.buffers):
        axes = tuple(axis for axis in stored.node.axes if axis in case.sequence.axes)
        if axes:
            yield getattr(stored.node.op, "name", ""), axes
