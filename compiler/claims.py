"""Whether the promises of a formula hold, and which expression breaks them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..grammar import ast
from ..grammar.diagnostics import Diagnostic, Label
from ..grammar.parser import parse_expression
from ..grammar.printer import format_expression
from ..grammar.source import Source, Span
from .facts.cost import Sequence
from .facts.dependence import Dependence
from .facts.samples import BATCH, names_batch
from .facts.state import State, state
from .formula import Formula
from .graph import Node
from .lowerings.additive import SumOfPairs
from .lowerings.fused import FusedSoftmax
from .lowerings.lowering import Lowering
from .ops.arithmetic import IntegerPower, Power
from .ops.functions import Exp, Square
from .plan import Plan
from .recurrence import Recurrence, elements, recurrence
from .report import Cost, Verdict
from .scalars import ScalarError, as_size
from .scope import nearest
from .sizes import Growth, Poly, format_growth, grows_at_most, growth


@dataclass(frozen=True)
class Case:
    """What a claim is judged by."""

    formula: Formula
    plan: Plan
    sequence: Sequence
    cost: Cost


Finding = Diagnostic | None


def judge(case: Case, extra: tuple[str, ...] = ()) -> tuple[tuple[Verdict, ...], tuple[Diagnostic, ...]]:
    """A verdict for every claim of the formula, and for claims that the caller adds by name."""
    verdicts: list[Verdict] = []
    problems: list[Diagnostic] = []
    claims = [*case.formula.claims]
    stated = {claim.name for claim in claims}
    where = case.formula.tree.name_span
    claims += [_read_claim(text, where) for text in extra if text not in stated]
    for claim in claims:
        found = _judge_one(case, claim)
        wording = claim.name if claim.bound is None else f"{claim.name} O({format_expression(claim.bound)})"
        verdicts.append(Verdict(wording, found is None, claim.span))
        if found is not None:
            problems.append(found)
    return tuple(verdicts), tuple(problems)


def _read_claim(text: str, span: Span) -> ast.Claim:
    """A claim that the caller states: `linear`, `time O(N * D)`."""
    name, opened, rest = text.partition(" O(")
    if not opened or not rest.endswith(")"):
        return ast.Claim(text, None, span)
    bound, problems = parse_expression(Source("<claim>", rest[:-1]))
    return ast.Claim(name.strip(), None if problems else bound, span)


def _judge_one(case: Case, claim: ast.Claim) -> Finding:
    judge = CLAIMS.get(claim.name)
    if judge is None:
        return Diagnostic("AG404", claim.span, {"name": claim.name}, help=nearest(claim.name, CLAIMS))
    takes_bound = claim.name in BOUNDED
    if takes_bound and claim.bound is None:
        return Diagnostic("AG405", claim.span, {"name": claim.name, "problem": f"needs a bound: `{claim.name} O(N)`"})
    if not takes_bound and claim.bound is not None:
        return Diagnostic("AG405", claim.span, {"name": claim.name, "problem": "takes no bound"},
                          help=f"write `require {claim.name}`")  # fmt: skip
    return judge(case, claim)


# -- growth ----------------------------------------------------------------------------------------


def _linear(case: Case, claim: ast.Claim) -> Finding:
    if not case.formula.sequence:
        return Diagnostic("AG406", claim.span)
    for what, order, sizes in (
        ("time", case.cost.time_order, (case.cost.time,)),
        ("memory", case.cost.memory_order, case.cost.memory),
    ):
        if all(case.sequence.is_linear(size) for size in sizes):
            continue
        facts = {"order": format_growth(order, case.sequence.order), "what": what, "axes": _axes(counted_axes(case))}
        return _blame("AG401", case, claim, facts, case.sequence.is_linear)
    return None


def _bounded(code: str, what: str) -> Callable[[Case, ast.Claim], Finding]:
    def check(case: Case, claim: ast.Claim) -> Finding:
        assert claim.bound is not None
        formula = case.formula
        bound = _read_bound(formula, claim)
        if isinstance(bound, Diagnostic):
            return bound
        counted = _counted(bound, formula)
        limit = growth(formula.facts.canonical(bound), axes=counted)
        limit |= {below for top in limit for below in _at_most(top, formula, counted)}

        def fits(size: Poly) -> bool:
            grown = growth(formula.facts.canonical(size), axes=counted)
            return all(any(grows_at_most(term, top) for top in limit) for term in grown)

        sizes = (case.cost.time,) if what == "time" else case.cost.memory
        if all(fits(size) for size in sizes):
            return None
        grown: frozenset[Growth] = frozenset().union(*(growth(size, axes=counted) for size in sizes))
        over = frozenset(t for t in grown if not any(grows_at_most(t, top) for top in limit))
        facts = {"order": format_growth(over, case.sequence.order), "bound": f"O({format_expression(claim.bound)})"}
        return _blame(code, case, claim, facts, fits)

    return check


def _at_most(term: Growth, formula: Formula, counted: frozenset[str]) -> set[Growth]:
    """What is at most a term as every axis has an element: there is one of N/W blocks, so N * W is at least W^2."""
    found: set[Growth] = set()
    for axis in (*formula.fixed, *formula.bound, *formula.derived):
        size = formula.facts.canonical(Poly.symbol(axis))
        if len(size.terms) == 1 and any(power < 0 for monomial in size.terms for _, power in monomial):
            for ratio in growth(size, axes=counted):
                powers = {name: (-p, -q) for name, (p, q) in ratio}
                for name, (p, q) in term:
                    before = powers.get(name, (0, 0))
                    powers[name] = (before[0] + p, before[1] + q)
                found.add(tuple(sorted((name, power) for name, power in powers.items() if power != (0, 0))))
    return found


def _counted(bound: Poly, formula: Formula) -> frozenset[str]:
    """Names that must be bounded: every axis, and the constants that the bound speaks of."""
    canonical = formula.facts.canonical
    axes = (*formula.fixed, *formula.bound, *formula.derived, *formula.sequence)
    names = {symbol for axis in axes for symbol in canonical(Poly.symbol(axis)).symbols()}
    return frozenset((names - formula.constants.keys()) | (canonical(bound).symbols() & formula.constants.keys()))


def _blame(
    code: str, case: Case, claim: ast.Claim, facts: dict[str, str], fits: Callable[[Poly], bool]
) -> Diagnostic:
    """The claim fails: underline the expression that is responsible, and say why."""
    culprit = find_culprit(case, fits)
    label = Label(claim.span, "claimed here")
    if culprit is None:
        return Diagnostic(code, claim.span, facts)
    span, reason = culprit
    return Diagnostic(code, span, facts, (Label(span, reason), label))


def find_culprit(case: Case, fits: Callable[[Poly], bool]) -> tuple[Span, str] | None:
    """The first expression, in the order of evaluation, that cannot be taken apart and costs too much."""
    plan, formula = case.plan, case.formula
    nodes = plan.graph.nodes()
    users = plan.graph.users()

    def excessive(node: Node) -> bool:
        cost = case.cost.by_node.get(node)
        return (cost is not None and not fits(cost)) or not (node.op.is_given() or fits(node.type.volume()))

    heavy = [node for node in nodes if excessive(node)]
    for node in heavy:
        span = origin(case, node)
        if isinstance(node.op, FusedSoftmax | SumOfPairs) and span is not None:
            axes = [node.op.query, node.op.key]
            return span, f"`{_said(case, node)}` of a value that couples {_axes(axes)} cannot be separated"
    apart: list[tuple[Node, Span, str]] = []
    for node in heavy:
        coupled = next((o for o in node.inputs if not fits(o.type.volume())), None)
        span = origin(case, node)
        if node.type.batched and not node.op.separable and coupled is not None and span is not None:
            axes = [axis for axis in coupled.axes if axis in case.sequence.axes]
            said = _said(case, node)
            apart.append((node, span, f"`{said}` of a value that couples {_axes(axes)} cannot be separated"))
    # a power of a sum is a sum of products: it is to blame where nothing else is
    apart.sort(key=lambda found: isinstance(found[0].op, IntegerPower | Square))
    if apart:
        return apart[0][1:]
    for node in heavy:
        span = origin(case, node)
        if not node.type.batched and span is not None and any(user.type.batched for user in users[node]):
            met = {*node.axes, *(axis for operand in node.inputs for axis in operand.axes)}
            axes = [axis for axis in counted_axes(case) if axis in met]
            if axes:
                return span, f"a factor that couples {_axes(axes)} by position"
    for node in heavy:
        span = origin(case, node)
        if span is not None:
            if not fits(node.type.volume()):
                return span, f"{'the result itself' if node in plan.graph.outputs else 'this'} is {node.type}"
            grown = case.sequence.growth(case.cost.by_node[node])
            return span, f"this takes {format_growth(grown, case.sequence.order)} time"
    return (formula.tree.name_span, "the whole of it") if heavy else None


def origin(case: Case, node: Node) -> Span | None:
    """The place in the text that a node of the plan computes or serves."""
    written = case.plan.origins.get(node, node)
    return case.formula.origins.get(written) or case.formula.origins.get(node)


def describe(node: Node) -> str:
    """An operation as the text spells it."""
    if isinstance(node.op, FusedSoftmax):
        return "softmax"
    if isinstance(node.op, SumOfPairs):
        return node.op.function
    if isinstance(node.op, IntegerPower):
        return Power.spelling
    return node.op.rule if isinstance(node.op, Lowering) else node.op.spelling or type(node.op).__name__.lower()


def _said(case: Case, node: Node) -> str:
    """An operation of the plan as the text spells it: a softmax may be an exponential there."""
    written = case.plan.origins.get(node, node)
    return describe(written if isinstance(written.op, Exp) else node)


def past(case: Case, node: Node) -> str:
    """Why an operation cannot go from position to position with a state of fixed size."""
    axes = [axis for axis in node.axes if axis in case.sequence.axes]
    if len(axes) > 1:
        return f"`{describe(node)}` couples {_axes(axes)}, so every earlier position is needed"
    return f"`{describe(node)}` needs every earlier position"


def counted_axes(case: Case) -> tuple[str, ...]:
    """The axes of the text that grow with the sequence; the plan may have made more."""
    written = {axis for node in case.formula.graph for axis in node.axes}
    return tuple(axis for axis in case.sequence.axes if axis in written)


def _axes(axes: tuple[str, ...] | list[str]) -> str:
    names = [f"`{axis}`" for axis in axes]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


# -- dependence ------------------------------------------------------------------------------------


def _causal(case: Case, claim: ast.Claim) -> Finding:
    found = Dependence(case.formula).causal()
    if found is None:
        return None
    span, reason = found
    return Diagnostic("AG407", span or claim.span, {"reason": reason}, (Label(claim.span, "claimed here"),))


def _batch_independent(case: Case, claim: ast.Claim) -> Finding:
    """Batch axes that are not named never mix; a named one must be called B."""
    if not names_batch(case.formula):
        return None
    found = Dependence(case.formula).mixes(BATCH)
    if found is None:
        return None
    span, axis = found
    label = Label(claim.span, "claimed here")
    return Diagnostic("AG408", span or claim.span, {"axis": axis}, (label,))


def kept(case: Case) -> State:
    """The state of evaluating a causal plan position by position, or piece by piece, where pieces need less."""
    found = state(case.plan.graph, frozenset(case.sequence.axes))
    if found.size is None:
        pieces = recurrence(case.formula, case.plan.graph)
        size = elements(pieces) if isinstance(pieces, Recurrence) else None
        return found if size is None else State(size)
    return found


def _state(case: Case, claim: ast.Claim) -> Finding:
    assert claim.bound is not None
    broken = _causal(case, claim)
    if broken is not None:
        return broken
    found = kept(case)
    if found.size is None:
        assert found.culprit is not None
        span = origin(case, found.culprit) or claim.span
        labels = (Label(span, past(case, found.culprit)), Label(claim.span, "claimed here"))
        return Diagnostic("AG410", span, labels=labels)
    bound = _read_bound(case.formula, claim)
    if isinstance(bound, Diagnostic):
        return bound
    counted = _counted(bound, case.formula)
    limit = growth(case.formula.facts.canonical(bound), axes=counted)
    grown = growth(case.formula.facts.canonical(found.size), axes=counted)
    over = frozenset(t for t in grown if not any(grows_at_most(t, top) for top in limit))
    if not over:
        return None
    facts = {"size": format_growth(over, case.sequence.order), "bound": f"O({format_expression(claim.bound)})"}
    return Diagnostic("AG411", claim.span, facts)


def _read_bound(formula: Formula, claim: ast.Claim) -> Poly | Diagnostic:
    """The bound of a claim as a size over the names of the formula."""
    assert claim.bound is not None
    known = {*formula.fixed, *formula.bound, *formula.derived, *formula.constants}

    def resolve(name: ast.Name) -> Poly:
        if name.name not in known:
            raise ScalarError("AG204", name.span, name=name.name)
        return Poly.symbol(name.name)

    try:
        return as_size(claim.bound, resolve)
    except ScalarError as error:
        suggestion = nearest(error.facts["name"], sorted(known)) if error.code == "AG204" else None
        return Diagnostic(error.code, error.span, error.facts, help=suggestion)


CLAIMS: dict[str, Callable[[Case, ast.Claim], Finding]] = {
    "linear": _linear,
    "time": _bounded("AG402", "time"),
    "memory": _bounded("AG403", "memory"),
    "state": _state,
    "causal": _causal,
    "batch_independent": _batch_independent,
}
BOUNDED = frozenset({"time", "memory", "state"})
