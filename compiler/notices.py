"""What is legal and well typed and still deserves a word: numbers that may go wrong, gradients that do not arrive,
samples of a batch that meet."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ..grammar.diagnostics import Diagnostic, Label
from ..grammar.source import Span
from .facts.dependence import Dependence
from .facts.gradients import unreached
from .facts.hazards import HALF, Found, Hazard, hazards
from .facts.ranges import ranges
from .facts.ratios import EXPONENT
from .facts.samples import BATCH, length_used, names_batch
from .formula import Formula
from .graph import Node
from .ops.arithmetic import IntegerPower, Power
from .ops.cumulative import CumulativeProduct
from .ops.functions import Acos, Asin, Exp, Tan
from .ops.reductions import Product
from .scan import Argument
from .separation import separate
from .softmaxes import recognised
from .types import Kind

_SAME = {"AG408": "AG511"}  # a broken claim says what the note would say
LONGEST = 60  # characters of the text that a headline quotes


def notices(formula: Formula, broken: Collection[Diagnostic] = ()) -> tuple[Diagnostic, ...]:
    """Warnings and notes that the typed formula gives rise to; cheap, for every check. broken: what is said already."""
    tree = formula.tree
    end = max([tree.span.end, *(statement.span.end for statement in tree.statements)])
    found = (*_numbers(formula), *_gradients(formula), *_batch(formula))
    # what a called formula brings along is said where that is written
    said = {_SAME.get(each.code) for each in broken}
    return tuple(each for each in found if _stands(each.span, tree.span.start, end) and each.code not in said)


def _stands(span: Span, start: int, end: int) -> bool:
    """Whether a place is in the formula itself."""
    return span.source is None and start <= span.start < end


# -- numbers -----------------------------------------------------------------------------------------


def _in_a_softmax(formula: Formula, found: Found) -> bool:
    """Whether a value that a softmax takes the place of is computed inside it, with the largest score subtracted."""
    if found.hazard is Hazard.EMPTY:
        return True
    if found.hazard is not Hazard.OVERFLOW or not isinstance(found.node.op, Exp):
        return False
    return separate(found.node, formula.builder, lambda node: ranges((node,), formula.constants)[node]) is None


def _numbers(formula: Formula) -> Iterator[Diagnostic]:
    judged = tuple(found for found in hazards(formula) if not found.given)
    if any(each.hazard in (Hazard.EMPTY, Hazard.OVERFLOW) for each in judged):
        spelled = recognised(formula, formula.graph)
        exponentials = (node for node in spelled.graph if isinstance(node.op, Exp))
        left = {*spelled.graph, *(spelled.origins.get(node, node) for node in exponentials)}
        judged = tuple(each for each in judged if each.node in left or not _in_a_softmax(formula, each))
    for found in judged:
        cause = found.cause.op
        of_step = isinstance(cause, Argument)  # a state, say: it is read where the step is written
        place = (None if of_step else _place(formula, found.cause)) or _place(formula, found.node)
        if place is None:
            continue
        text = cause.name if isinstance(cause, Argument) else _quoted(formula, place)
        match found.hazard:
            case Hazard.ZERO:
                help = None if found.negative else "keep it above 0: add a small number, or `max(..., 1e-6)`"
                yield Diagnostic("AG520", place, {"text": text}, help=help)
            case Hazard.DOMAIN:
                yield Diagnostic("AG521", place, {"operation": _spelling(found.node), "values": _values(found)})
            case Hazard.OVERFLOW:
                yield Diagnostic("AG522", place, {"operation": _spelling(found.node), "limit": _limit(found.node)})
            case Hazard.GRADIENT:
                label = Label(_place(formula, found.node) or place, "not selected")
                yield Diagnostic("AG523", place, {"text": text}, (label,))
            case Hazard.EMPTY:
                yield Diagnostic("AG524", _place(formula, found.node) or place, {"operation": _spelling(found.node)})
            case Hazard.ROOT:
                yield Diagnostic("AG525", place, {"operation": _spelling(found.node), "text": text})


def _spelling(node: Node) -> str:
    return "^" if isinstance(node.op, IntegerPower) else node.op.spelling


def _values(found: Found) -> str:
    if isinstance(found.node.op, Asin | Acos):
        return "outside of -1 to 1"
    if not found.negative:
        return "0"
    return "negative" if found.node.op.spelling in ("sqrt", "^") else "0 or negative"


def _limit(node: Node) -> str:
    if isinstance(node.op, IntegerPower):
        return f"from {HALF ** (1 / node.op.exponent):.1f} on"
    if isinstance(node.op, Power | Product | CumulativeProduct | Tan):
        return "soon"
    return f"from {EXPONENT:.1f} on"


def _place(formula: Formula, node: Node) -> Span | None:
    return formula.origins.get(node)


def _quoted(formula: Formula, span: Span) -> str:
    text = " ".join(formula.source.slice(span).replace("`", "'").split())
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


# -- gradients and batches ---------------------------------------------------------------------------


def _gradients(formula: Formula) -> Iterator[Diagnostic]:
    for found in unreached(formula, bounds=False):
        if found.node in formula.inputs and all(node.type.kind is Kind.BOOL for node in found.blocks):
            continue  # a mask by another name: it is only compared with something
        place = _place(formula, found.node) or formula.tree.name_span
        ends = (_place(formula, node) for node in found.blocks)
        labels = tuple(Label(span, "the gradient ends here") for span in dict.fromkeys(ends) if span is not None)
        yield Diagnostic("AG510", place, {"name": getattr(found.node.op, "name", "")}, labels[:1])


def _batch(formula: Formula) -> Iterator[Diagnostic]:
    if not names_batch(formula):
        return
    mixed = Dependence(formula).mixes(BATCH)
    if mixed is not None:
        yield Diagnostic("AG511", mixed[0] or formula.tree.name_span, {"axis": BATCH})
    counted = length_used(formula, BATCH)
    if counted is not None:
        yield Diagnostic("AG512", _place(formula, counted) or formula.tree.name_span, {"axis": BATCH})
