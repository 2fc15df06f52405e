"""What the compiler knows of a formula, in words: the table of `check`, the text of `explain`."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .grammar.codes import CODES
from .grammar.source import Source, Span
from .snippet import PLAIN, Palette, one_line, place_in, snippet, width

if TYPE_CHECKING:
    from .compiler.forms import Account, Crossover
    from .compiler.formula import Formula
    from .compiler.graph import Node
    from .compiler.report import Cost, Properties, Reached, Report
    from .compiler.sizes import Poly


def counted(number: int, what: str, several: str | None = None) -> str:
    """`1 formula`, `2 formulas`."""
    return f"{number} {what if number == 1 else several or f'{what}s'}"


def code_page(code: str) -> str:
    """The page of a diagnostic code, as Markdown. Errors: KeyError for a code that there is not."""
    if code not in CODES:
        raise KeyError(code)
    return (Path(__file__).parent / "codes" / f"{code}.md").read_text(encoding="utf-8")


def signature(formula: Formula) -> str:
    """`q[N, D], mask[N, M] bool -> [N, D]`, as declared."""
    inputs = ", ".join(f"{getattr(node.op, 'name', '')}{node.type}" for node in formula.inputs)
    results = ", ".join(str(node.type) for node in formula.graph.outputs)
    return f"{inputs} -> {results}".strip()


# -- the table of check ----------------------------------------------------------------------------------

HEADINGS = ("formula", "inputs -> results", "counted", "as written", "as compiled", "claims")
_GAP = "  "
_INDENT = "  "
_COLUMNS = 100
# What columns may shrink to when the table is too wide, in the order in which they give way.
_LEAST = {1: 24, 5: 12, 3: 10, 4: 10}


def table(reports: Sequence[Report], palette: Palette = PLAIN, columns: int = 100) -> str:
    """One row per formula: its type, the sequence axes, orders as written and as compiled, claims.

    Cells of wide columns are broken over several lines so that the table fits the columns.
    """
    rows = [_row(report) for report in reports if report.name]
    widths = [max(width(row[i]) for row in [HEADINGS, *rows]) for i in range(len(HEADINGS))]
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - columns
    for index, least in _LEAST.items():
        if excess > 0:
            longest = max(width(word) for row in rows for word in _guard(row[index]).split(" "))
            kept = min(widths[index], max(least, longest, len(HEADINGS[index]), widths[index] - excess))
            excess -= widths[index] - kept
            widths[index] = kept
    lines = [palette(_GAP.join(h.ljust(w) for h, w in zip(HEADINGS, widths, strict=True)).rstrip(), "strong")]
    for row in rows:
        cells = [_fold(cell, limit) for cell, limit in zip(row, widths, strict=True)]
        for number in range(max(map(len, cells))):
            parts = [
                (cell[number] if number < len(cell) else "").ljust(limit)
                for cell, limit in zip(cells, widths, strict=True)
            ]
            parts[-1] = parts[-1].replace("FAILS", palette("FAILS", "bad"))
            lines.append(_GAP.join(parts).rstrip())
    return "\n".join(lines)


def _row(report: Report) -> tuple[str, ...]:
    if report.formula is None:
        return (report.name, "has errors", "", "", "", "")
    claims = ", ".join(f"{verdict.text} {'ok' if verdict.holds else 'FAILS'}" for verdict in report.verdicts)
    return (
        report.name,
        signature(report.formula),
        ", ".join(report.formula.sequence) or "none",
        report.written_order or "",
        report.order or "",
        claims or "none",
    )


def _fold(cell: str, limit: int) -> list[str]:
    """The cell in lines of at most `limit` columns, broken after commas and arrows, not inside brackets."""
    guarded = _guard(cell)
    lines = textwrap.wrap(guarded, limit, break_long_words=False, break_on_hyphens=False) or [""]
    return [line.replace("\xa0", " ") for line in lines]


def _guard(cell: str) -> str:
    """Spaces inside brackets, and the one that ties a word to what it belongs to, do not break."""
    depth, text = 0, ""
    for position, character in enumerate(cell):
        depth += (character in "[(") - (character in "])")
        tied = depth > 0 or cell[position + 1 :].startswith(("ok", "FAILS", "bool", "int", "complex"))
        text += "\xa0" if character == " " and tied else character
    return text


# -- explain ---------------------------------------------------------------------------------------------


def describe(report: Report, palette: Palette = PLAIN) -> str:
    """Everything that the compiler knows about one formula."""
    parts = [_heading(report, palette), _text(report, palette)]
    if report.formula is not None:
        parts += [_types(report.formula), _axes(report.formula)]
        parts += [_costs(report), _culprits(report), _account(report), _data(report)]
        parts += [_steps(report), _claims(report, palette)]
    parts += [snippet(diagnostic, palette) for diagnostic in report.diagnostics]
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(report: Report, palette: Palette) -> str:
    line, _ = report.source.position(report.span.start)
    return f"{palette(report.name or 'no formula', 'strong')}  {one_line(report.source.name)}:{line}"


def _section(title: str, lines: Iterable[str]) -> str:
    body = [f"{_INDENT}{line}".rstrip() for line in lines]
    return "\n".join([title, *body]) if body else ""


def _aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows with their columns lined up."""
    held = [list(row) for row in rows]
    widths = [max(width(row[i]) for row in held) for i in range(len(held[0]))] if held else []
    return [_GAP.join(cell.ljust(limit) for cell, limit in zip(row, widths, strict=True)).rstrip() for row in held]


def _wrapped(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """The same, with the last column broken over several lines where the terminal ends."""
    heads = _aligned([row[:2] for row in rows])
    edge = max(map(width, heads), default=0)
    lines = []
    for head, (*_, last) in zip(heads, rows, strict=True):
        room = _COLUMNS - len(_INDENT) - edge - len(_GAP)
        first, *rest = textwrap.wrap(_guard(last), room, break_long_words=False, break_on_hyphens=False)
        lines.append(f"{head}{' ' * (edge - width(head))}{_GAP}{first}")
        lines += [" " * (edge + len(_GAP)) + line for line in rest]
    return [line.replace("\xa0", " ") for line in lines]


def _text(report: Report, palette: Palette) -> str:
    """The formula as it stands in the file, with line numbers; the span of a report covers its header."""
    first, last = formula_lines(report)
    if not last:
        return ""
    gutter = len(str(last))
    return "\n".join(
        f"{palette(f'{number:>{gutter}} |', 'gutter')} {_shown(report.source.line(number))}".rstrip()
        for number in range(first, last + 1)
    )


def formula_lines(report: Report) -> tuple[int, int]:
    """First and last line of the formula; (0, 0) when there is none."""
    if report.formula is None:
        return 0, 0
    tree, source = report.formula.tree, report.source
    ends = [statement.span.end for statement in tree.statements]
    return source.position(tree.span.start)[0], source.position(max([tree.span.end, *ends]) - 1)[0]


def _shown(line: str) -> str:
    return one_line(line) if line else ""


def _types(formula: Formula) -> str:
    rows: list[tuple[str, str, str]] = []
    rows += [(getattr(node.op, "name", ""), str(node.type), "input") for node in formula.inputs]
    rows += [(getattr(each.node.op, "name", ""), str(each.node.type), "parameter") for each in formula.parameters]
    rows += [(getattr(each.node.op, "name", ""), str(each.node.type), "buffer") for each in formula.buffers]
    declared = {*formula.inputs, *(each.node for each in (*formula.parameters, *formula.buffers))}
    for node in formula.graph:
        if node in formula.graph.names and node not in declared:
            told = "" if node.type.batched else "of no input"
            told = "result" if node in formula.graph.outputs else told
            rows.append((formula.graph.names[node], str(node.type), told))
    rows += [("return", str(node.type), "result") for node in formula.graph.outputs if node not in formula.graph.names]
    return _section("types", _aligned(rows))


def _axes(formula: Formula) -> str:
    sequence = ", ".join(formula.sequence) or "none"
    free = [axis for axis in formula.bound if axis not in formula.fixed]
    rows = [(", ".join(free), "from the inputs, at every call")] if free else []
    rows += [(", ".join(formula.fixed), "when the module is built")] if formula.fixed else []
    told = {axis for node in formula.graph.nodes() for axis in node.axes} | _names_in(formula)
    rows += [(axis, f"= {size}") for axis, size in formula.derived.items() if axis in told]
    rows += [(name, f"= {value}, a constant") for name, value in formula.constants.items()]
    rows += [(f"{r.left} {r.relation} {r.right}", "checked at every call") for r in formula.relations]
    return _section(f"sizes (orders count {sequence})", _aligned(rows))


def _names_in(formula: Formula) -> set[str]:
    """The words of the text: a plan makes axes of its own."""
    tree = formula.tree
    end = max([tree.span.end, *(statement.span.end for statement in tree.statements)])
    return set(re.findall(r"\w+", formula.source.text[tree.span.start : end]))


def _costs(report: Report) -> str:
    rows = []
    for title, cost in (("as written", report.written), ("as compiled", report.compiled)):
        if cost is not None:
            rows += _cost_rows(title, cost, report.formula)
    return _section("cost of one batch entry", _wrapped(rows))


def _cost_rows(title: str, cost: Cost, formula: Formula | None) -> list[tuple[str, str, str]]:
    found, more = peaks(cost, formula)
    shown = [str(peak) for peak in found]
    # where sizes decide which moment is the fullest, those that can be are listed
    memory = f"{shown[0]} elements" if len(shown) == 1 else f"the largest of {'; '.join(shown)} elements"
    memory += f"; {counted(more, 'other')} at unusual sizes" if more else ""
    return [
        (f"time, {title}", cost.order, f"{cost.time} operations"),
        (f"memory, {title}", cost.memory_growth, memory),
    ]


_LONG, _WIDE, _MOST = 4096, 64, 4


def peaks(cost: Cost, formula: Formula | None) -> tuple[list[Poly], int]:
    """The fullest moments: those that others never exceed; of many the largest for a long sequence of usual width.

    Returns them, and how many others there are. JSON has them all.
    """
    from .compiler.sizes import at_most

    kept: list[Poly] = []
    for peak in cost.memory:
        if not any(at_most(peak, other) for other in kept):
            kept = [*(other for other in kept if not at_most(other, peak)), peak]
    if len(kept) <= _MOST or formula is None:
        return kept, 0
    sizes: dict[str, float] = {name: _WIDE for peak in kept for name in peak.symbols()}
    sizes |= dict.fromkeys(formula.sequence, _LONG)
    sizes |= {name: value for name, value in formula.constants.items() if value > 0}
    largest = sorted(kept, key=lambda peak: -peak.evaluate(sizes))[:_MOST]
    return [peak for peak in kept if peak in largest], len(kept) - len(largest)


def culprits(report: Report) -> list[tuple[Node, str]]:
    """The operations whose cost alone reaches the order of the compiled plan, dearest first, with their cost.

    Empty when the plan is linear in the tokens: then nothing is to blame.
    """
    from .compiler.facts.cost import Sequence
    from .compiler.sizes import grows_at_most, growth

    cost, formula = report.compiled, report.formula
    if cost is None or formula is None:
        return []
    tokens = Sequence(formula).tokens
    dear = {term for term in cost.time_order if not any(grows_at_most(term, token) for token in tokens)}
    axes = frozenset(formula.sequence)
    canonical = {node: formula.facts.canonical(size) for node, size in cost.by_node.items()}
    found = [(node, size) for node, size in canonical.items() if dear & growth(size, axes=axes)]
    found.sort(key=lambda item: (-max((sum(p for _, p in m) for m in item[1].terms), default=0), item[0].index))
    return [(node, str(size)) for node, size in found]


def _culprits(report: Report) -> str:
    formula = report.formula
    if formula is None:
        return ""
    from .compiler.render import text

    names = (report.plan or formula.graph).names
    lines = []
    for node, cost in culprits(report)[:3]:
        span = formula.origins.get(node)
        words = quoted(report.source, span) if span else f"`{_clipped(text(node, names, open=True))}`"
        place = f"{_place(report.source, span)}: " if span else ""
        lines.append(f"{place}{words}, {node.type}, {cost} operations")
    return _section(f"what makes it {report.order}", lines)


def _account(report: Report) -> str:
    """Which forms there are, and what else a reader would ask about."""
    from .compiler.forms import account

    found = account(report)
    if found is None or report.formula is None:
        return ""
    rows = []
    for form in found.forms:
        place = f", at {_place(report.source, form.span)}" if form.span else ""
        rows.append((form.name, "yes" if form.exists else "no", form.text + place))
    lines = [line for note in notes(report, report.formula, found) for line in _folded(note)]
    held = [line for index, text in enumerate(found.remembered or ()) for line in _folded(f"state[{index}]  {text}")]
    parts = (_section("forms", _wrapped(rows)), _section("state of step", held), _section("notes", lines))
    return "\n\n".join(part for part in parts if part)


def _folded(note: str) -> list[str]:
    return textwrap.wrap(note, _COLUMNS - len(_INDENT), subsequent_indent=_INDENT, break_on_hyphens=False)


def notes(
    report: Report, formula: Formula, account: Account, place: Callable[[Source, Span], str] | None = None
) -> Iterator[str]:
    """What is to be known of a formula besides its cost and its forms, one sentence each.

    place: how to tell a place of the text; by line and column if none is given.
    """
    place = place or _place
    if formula.sequence:
        if not account.mixing:
            yield "no token mixing: the result at a position depends on the inputs at that position only"
        elif account.causal is None:
            yield "causal: no position depends on a later one"
        else:
            reason, span = account.causal
            yield f"not causal: {reason}{f', at {place(report.source, span)}' if span else ''}"
    if account.statistics:
        places = ", ".join(dict.fromkeys(quoted(report.source, span) for span in account.statistics))
        yield f"tokens meet only in statistics: {places}"
    for span, axis, tokens in account.twins:
        words = quoted(report.source, span) + (f" at {place(report.source, span)}" if place is _place else "")
        yield (
            f"{words} sums over `{axis}`, which is told from `{tokens}` by name only where the two are as long: code "
            "that goes by shapes may sum over the other"
        )
    if account.crossover is not None:
        yield _crossover(account.crossover)
    for name, axes in account.fixed:
        yield f"`{name}` carries {_names(axes)}: the module is built for one length"
    for name in account.without_gradient:
        yield f"no gradient reaches `{name}`"
    for name in account.cancelled:
        yield f"`{name}` cancels: the result does not depend on it"
    for name in account.guarded:
        yield f"`{name}` cancels where no epsilon, clamp, infinity or NaN acts"


def _data(report: Report) -> str:
    """How the data is gone through, what depends on what, and what weights sum to."""
    found, formula = report.properties, report.formula
    if found is None or formula is None:
        return ""
    passes = [
        (f"{each.input}[{each.axis}]", counted(each.written, "pass", "passes"), f"written, {each.compiled} compiled")
        for each in found.passes
    ]
    rows = [(f"{each.input}[{each.axis}]", _along(report, each), each.words) for each in found.reached]
    lines = [line for note in weights(report, formula, found) for line in _folded(note)]
    parts = (
        _section("passes over the sequence", _wrapped(passes)),
        _section("what the result depends on", _wrapped(rows)),
        _section("weights and symmetry", lines),
    )
    return "\n\n".join(part for part in parts if part)


def _along(report: Report, reached: Reached) -> str:
    """`along N`, with the number of the result where there are several."""
    several = report.formula is not None and len(report.formula.graph.outputs) > 1
    result = f"result {reached.output + 1} " if several else ""
    return f"{result}{f'along {reached.own}' if reached.own else 'anywhere'}"


def weights(
    report: Report, formula: Formula, found: Properties, place: Callable[[Source, Span], str] | None = None
) -> Iterator[str]:
    """What weights sum to, which axes their map lacks, which permutations do not matter. place: as in `notes`."""
    place = place or _place
    for each in found.weights:
        span = formula.origins.get(each.node)
        words = quoted(report.source, span) if span else "the weights"
        yield f"{words}: the weights over {_names(each.axes)} {each.total}"
        if each.missing:
            yield f"{words} does not run along {_names(each.missing)}: one row of weights serves every position"
        if not each.batched:
            yield f"{words} depends on no input: it is the same for every entry of a batch"
        if each.alone is not None:
            yield f"{words} depends on no input but `{each.alone}`: without a batch there, one serves the whole batch"
    for symmetry in found.symmetries:
        names = _names(symmetry.axes)
        if symmetry.culprit is None:
            what = "permutes the result alike" if symmetry.equivariant else "changes nothing"
            yield f"permuting positions along {names} {what}"
        else:
            span = formula.origins.get(symmetry.culprit)
            where = f" at {place(report.source, span)}" if span else ""
            yield f"positions along {names} are told apart{where}"


def _crossover(crossover: Crossover) -> str:
    lengths = " = ".join(crossover.sequence)
    from .compiler.forms import TYPICAL

    others = f" at {' = '.join((*crossover.others, str(TYPICAL)))}" if crossover.others else ""
    if crossover.length is None:
        return f"the plan does more operations than the text as written{others}: it saves elements moved, or calls"
    if crossover.length <= 1:
        return f"the plan does fewer operations than the text as written at every length{others}"
    return f"the plan does fewer operations than the text as written from {lengths} = {crossover.length} on{others}"


def _names(names: Sequence[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def _place(source: Source, span: Span) -> str:
    """`line:column`, with the path in front where it is another file's."""
    if source.of(span) is not source:
        return place_in(source, span)
    line, column = source.position(span.start)
    return f"{line}:{column}"


def quoted(source: Source, span: Span) -> str:
    return f"`{_clipped(one_line(' '.join(source.slice(span).split())))}`"


def _clipped(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _steps(report: Report) -> str:
    lines = []
    for number, step in enumerate(report.steps, 1):
        lines.append(f"{number}. {step.rule} at {_place(report.source, step.span)}")
        lines += [f"   before  {step.before}", f"   after   {step.after}"]
        lines += textwrap.wrap(f"why     {step.why}", 92, initial_indent="   ", subsequent_indent=" " * 11)
    return _section("how it is compiled", lines)


def _claims(report: Report, palette: Palette) -> str:
    rows = [
        f"{verdict.text}: {palette('holds', 'good') if verdict.holds else palette('fails', 'bad')}"
        for verdict in report.verdicts
    ]
    return _section("claims", rows)
