"""Which forms of a formula exist, why a missing one is missing, and what else is worth knowing of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ..grammar.source import Span
from .again import Again, again
from .associative import recurrences, unsafe
from .claims import Case, find_culprit, kept, origin, past
from .errors import CompileError
from .facts.cost import Sequence, measure
from .facts.dependence import Dependence
from .facts.gradients import cancelled, unreached
from .facts.mixing import only_statistics, twins
from .facts.updates import Declined
from .formula import Formula
from .graph import Node
from .lowerings.lowering import Lowering
from .lowerings.rows import in_rows
from .plan import Plan, associative, for_constants, of_text, stepwise
from .recurrence import Recurrence, Refusal, recurrence, remembered
from .report import Report
from .scope import did_you_mean
from .simplify import simplify
from .sizes import Poly

TYPICAL = 64  # elements of an axis that is not counted
LONGEST = 2**24  # tokens up to which a crossover is looked for
#: What `choose` takes.
FORMS = ("auto", "dense", "linear", "chunked", "recurrent", "associative")


@dataclass(frozen=True)
class Form:
    """One way of evaluating a formula.

    text: what it costs or how it is done; for one that is missing why, with the place of the culprit.
    """

    name: str  # dense, linear, chunked, recurrent, associative
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
    """forms: dense, linear, chunked and recurrent, in this order; then associative, where the text has a recurrence.

    crossover: None where the plan does as many operations as the text.
    causal: why the formula is not causal, with the place; None if it is, or has no sequence axis.
    mixing: whether positions of the sequence depend on each other at all.
    statistics: the places of the means, norms and extremes through which alone they do; none if a product does it too.
    twins: contractions that only names keep apart from others, with the axis that is summed and the one that is not.
    fixed: parameters and buffers that carry a sequence axis, with those axes: they fix its length.
    without_gradient: inputs and parameters that are used, and that no gradient reaches.
    cancelled: those that simplification shows to have no influence.
    guarded: those that have none but through an epsilon, a clamp, an infinity or a NaN.
    remembered: what the tensors of the state of `step` hold, with their shapes; None if there is no `step`.
    again: whether every step computes the whole sequence.
    """

    forms: tuple[Form, ...]
    crossover: Crossover | None
    causal: tuple[str, Span | None] | None
    mixing: bool
    statistics: tuple[Span, ...]
    twins: tuple[tuple[Span, str, str], ...]
    fixed: tuple[tuple[str, tuple[str, ...]], ...]
    without_gradient: tuple[str, ...]
    cancelled: tuple[str, ...]
    guarded: tuple[str, ...]
    remembered: tuple[str, ...] | None
    again: bool


def account(report: Report) -> Account | None:
    """What there is to say of a formula, by analyses that `check` does not need; None for one with mistakes."""
    formula, graph, written, compiled = report.formula, report.plan, report.written, report.compiled
    if formula is None or graph is None or written is None or compiled is None:
        return None
    sequence = Sequence(formula)
    case = Case(formula, Plan(formula, graph, report.origins, report.steps), sequence, compiled)
    dependence = Dependence(formula)
    axes = frozenset(sequence.axes)
    mixing = any(dependence.mixes(axis) for axis in sequence.axes)
    found = dependence.causal() if sequence.axes else None
    causal = None if found is None else (found[1], found[0])
    found_pieces = recurrence(formula, graph)
    pieces = again(formula, found_pieces) if isinstance(found_pieces, Refusal) else found_pieces
    gone, nearly = (_gone(formula, guards=guards) for guards in (False, True))
    dense = Form("dense", True, f"the text as it stands: time {written.order}, memory {written.memory_growth}")
    forms = (dense, _linear(case), _chunked(case, causal, mixing), _recurrent(case, causal, mixing, pieces))
    return Account(
        forms=(*forms, *_associative(case)),
        crossover=None if written.time == compiled.time else _crossover(case, written.time, compiled.time),
        causal=causal,
        mixing=mixing,
        statistics=tuple(_places(case, only_statistics(formula, axes))) if mixing else (),
        twins=tuple((place, t.axis, t.tokens) for t in twins(formula, axes) for place in _places(case, (t.node,))),
        fixed=tuple(_fixed(case)),
        without_gradient=tuple(getattr(found.node.op, "name", "") for found in unreached(formula)),
        cancelled=gone,
        guarded=tuple(name for name in nearly if name not in gone),
        remembered=_remembered(pieces),
        again=isinstance(pieces, Again),
    )


def _remembered(pieces: Recurrence | Again | Refusal) -> tuple[str, ...] | None:
    if isinstance(pieces, Refusal):
        return None
    asked = pieces.kept if isinstance(pieces, Again) else pieces
    texts = remembered(asked)
    return (*texts, "the length of the whole sequence, which is told to `init_state`: []") if asked.told else (*texts,)


def _gone(formula: Formula, *, guards: bool) -> tuple[str, ...]:
    """Inputs and parameters that simplification takes away. guards: also where what a guard does is lost."""
    return tuple(getattr(node.op, "name", "") for node in cancelled(formula, simplify(formula, guards=guards).graph))


def choose(report: Report, form: str, consts: Mapping[str, int | float] | None = None) -> Report:
    """The report of a formula without mistakes, with the plan that has a form, for these constants.

    form: `auto` is the plan as it is; dense is the text as written; linear, chunked and recurrent are the plan if it
        is that, recurrent with the steps of a `scan` as the text has them; associative is the plan in which no `scan`
        along the sequence goes from step to step.
    Errors: CompileError for a form that there is not, with the reason and the place.
    """
    if form not in FORMS:
        help = did_you_mean(str(form), FORMS) or f"there are {', '.join(FORMS)}"
        raise CompileError(f"there is no form `{form}`; {help}")
    assert report.formula is not None
    assert report.plan is not None
    if form == "auto":
        return report
    if form == "dense":
        return replace(report, plan=report.formula.graph, steps=())
    if consts:
        report = _for_constants(report, consts)
    found = account(report)
    assert found is not None
    missing = Form(form, False, "there is no `scan` along the sequence")
    known = next((each for each in found.forms if each.name == form), missing)
    if known.exists:
        return _with_scans(report, form)
    place = ""
    if known.span is not None:
        line, column = report.source.position(known.span.start)
        text = " ".join(report.source.text[known.span.start : known.span.end].split())
        place = f"\n  {report.source.name}:{line}:{column}: {text}"
    reason = known.text
    if found.causal is not None and known.span == found.causal[1]:
        reason += f": {found.causal[0]}"
    raise CompileError(f"{report.name} has no {form} form: {reason}{place}")


def _with_scans(report: Report, form: str) -> Report:
    """The report with the plan in which recurrences have a form, where that is another one."""
    assert report.formula is not None
    if form not in ("recurrent", "associative") or not recurrences(report.formula):
        return report
    text = of_text(report.formula)
    made = stepwise(text) if form == "recurrent" else associative(text)
    assert isinstance(made, Plan), "a form that exists"
    cost = measure(made.graph, Sequence(made.formula), in_rows(made.formula, made.graph))
    return replace(report, formula=made.formula, plan=made.graph, compiled=cost, steps=made.steps, origins=made.origins)


def _for_constants(report: Report, consts: Mapping[str, int | float]) -> Report:
    """The same for other constants than the default ones: a plan may rest on their values."""
    assert report.formula is not None
    assert report.plan is not None
    formula, graph, steps = for_constants(report.formula, report.plan, report.steps, consts)
    if graph is report.plan:
        return report
    sequence = Sequence(formula)
    costs = (measure(formula.graph, sequence), measure(graph, sequence, in_rows(formula, graph)))
    return replace(report, formula=formula, plan=graph, steps=tuple(steps), written=costs[0], compiled=costs[1])


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


def _recurrent(
    case: Case,
    causal: tuple[str, Span | None] | None,
    mixing: bool,
    pieces: Recurrence | Again | Refusal,
) -> Form:
    if not case.sequence.axes:
        return Form("recurrent", False, "there is no sequence axis to step along")
    if causal is not None:
        return Form("recurrent", False, "it is not causal", causal[1])
    if isinstance(pieces, Refusal):
        place = None if pieces.culprit is None else origin(case, pieces.culprit)
        return Form("recurrent", False, pieces.reason, place)
    if isinstance(pieces, Again):
        whole = f"every `step` keeps the inputs and computes the whole sequence again, in {case.cost.order} time"
        return Form("recurrent", False, f"{pieces.reason}; {whole}", None)
    held = kept(case)
    if held.size is None:
        assert held.culprit is not None
        return Form("recurrent", False, past(case, held.culprit), origin(case, held.culprit))
    if not mixing:
        return Form("recurrent", True, "without a state: every position is computed by itself")
    size = case.formula.facts.canonical(held.size)
    text = f"position by position, with a state of {size} elements"
    return Form("recurrent", True, f"{text}, for a length that is told to `init_state`" if pieces.told else text)


def _associative(case: Case) -> Iterator[Form]:
    """The form in which all positions of the recurrences are computed at once, if the text has any."""
    scans = recurrences(case.formula)
    if not scans:
        return
    text = of_text(case.formula)
    made = associative(text)
    if isinstance(made, Declined):
        place = None if made.culprit is None else origin(case, made.culprit)
        yield Form("associative", False, made.reason, place)
        return
    if not recurrences(case.formula, case.plan.graph):
        rules = dict.fromkeys(node.op.rule for node in case.plan.graph if isinstance(node.op, Lowering))
        yield Form("associative", True, f"as compiled, by {' and '.join(rules) or 'values at all positions'}")
        return
    cost = measure(made.graph, Sequence(made.formula), in_rows(made.formula, made.graph))
    held = f"time {cost.time}, memory {cost.memory_growth}"
    reason = next((found for scan in scans if (found := unsafe(text, scan)) is not None), None)
    place = None if reason is None or reason.culprit is None else origin(case, reason.culprit)
    words = reason.reason if reason is not None else "at the sizes that models have, steps are less work"
    yield Form("associative", True, f"on request, in {held}; not taken: {words}", place)


# -- the crossover ---------------------------------------------------------------------------------


def _crossover(case: Case, written: Poly, compiled: Poly) -> Crossover | None:
    symbols = written.symbols() | compiled.symbols()
    order = [name for name in case.sequence.order if name in symbols]
    grows = tuple(name for name in order if name in case.sequence.names)
    others = tuple(name for name in order if name not in grows and name not in case.formula.constants)
    if not grows:
        return None

    canonical = case.formula.facts.canonical
    ways = []
    for node in case.plan.graph:
        other = node.op.instead() if isinstance(node.op, Lowering) else None
        if other is not None:
            usual = node.op.flops(node.type, *(operand.type for operand in node.inputs))
            ways.append((canonical(other[0]), canonical(other[1] - usual)))

    def pays(length: int) -> bool:
        sizes: dict[str, float] = {name: max(1.0, float(value)) for name, value in case.formula.constants.items()}
        sizes |= dict.fromkeys(others, TYPICAL) | dict.fromkeys(grows, length)
        work = compiled.evaluate(sizes)
        work += sum(more.evaluate(sizes) for beyond, more in ways if beyond.evaluate(sizes) <= 0)
        return work < written.evaluate(sizes)

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


def _places(case: Case, nodes: Iterable[Node]) -> Iterator[Span]:
    """Where the text has these values."""
    for node in nodes:
        place = case.formula.origins.get(node)
        if place is not None:
            yield place


def _fixed(case: Case) -> Iterator[tuple[str, tuple[str, ...]]]:
    for stored in (*case.formula.parameters, *case.formula.buffers):
        axes = tuple(axis for axis in stored.node.axes if axis in case.sequence.axes)
        if axes:
            yield getattr(stored.node.op, "name", ""), axes
