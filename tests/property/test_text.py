"""Random formulas as text and as graphs: printing, digests, exchange."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from attngraph.compiler.graph import Builder, Graph, Node, topological
from attngraph.compiler.ops import OPS
from attngraph.compiler.ops.base import Leaf
from attngraph.compiler.pipeline import check_source
from attngraph.exchange import from_json, to_json
from attngraph.grammar.parser import parse
from attngraph.grammar.printer import format_file
from attngraph.grammar.source import Source

from .attention import attentions
from .draft import Draft, read
from .programs import LINES, programs, scans

drafts = st.one_of(programs(), scans(), attentions())


def _graph(text: str) -> Graph:
    [report] = check_source(Source("<test>", text))
    assert report.formula is not None, [d.message for d in report.diagnostics]
    return report.formula.graph


@settings(max_examples=150)
@given(drafts)
def test_printed_text_is_read_as_the_same_formula(draft: Draft) -> None:
    file, problems = parse(Source("<test>", draft.text))
    assert problems == ()
    printed = format_file(file)
    again, problems = parse(Source("<test>", printed))
    assert problems == ()
    assert again == file
    assert format_file(again) == printed
    assert _graph(printed).digest() == _graph(draft.text).digest()


def _renamed(text: str) -> str:
    """Every name that a line binds, states included, under another name."""
    bound = r"^ +(?:state |yield )?(\w+)(?:\(a\)|\[.*\](?: \w+)?)? = "
    names = set(re.findall(bound, text, re.MULTILINE)) - {"a"}
    body, head = text.split("\n", 1)[1], text.split("\n", 1)[0]
    changed = re.sub(r"\b[A-Za-z_]\w*\b", lambda m: f"other_{m[0]}" if m[0] in names else m[0], body)
    return f"{head}\n{changed}"


@settings(max_examples=100)
@given(drafts)
def test_names_of_variables_do_not_change_the_digest(draft: Draft) -> None:
    other = _renamed(draft.text)
    assert other != draft.text
    assert _graph(other).digest() == _graph(draft.text).digest()


def _swapped(graph: Graph) -> Graph:
    """The graph with the operands of commutative operations exchanged, where the axes keep their order."""
    builder = Builder()
    made: dict[Node, Node] = {}
    for node in graph.nodes():
        operands = [made[operand] for operand in node.inputs]
        if node.op.commutative and node.op.infer(*(o.type for o in reversed(operands))) == node.type:
            operands.reverse()
        made[node] = builder.make(node.op, *operands)
    return Graph(tuple(made[node] for node in graph.outputs), {})


@settings(max_examples=100)
@given(st.one_of(programs(last="+"), programs(last="*"), attentions()))
def test_swapped_operands_and_lost_names_do_not_change_the_digest(draft: Draft) -> None:
    graph = _graph(draft.text)
    assert _swapped(graph).digest() == graph.digest()


CHANGES = {
    "exp(": "expm1(", "sum[": "mean[", "softmax[": "log_softmax[", " + ": " - ", ">=": ">", "0.5": "0.25",
    "cumsum[": "cummax[", "tanh(": "atan(", "cos(": "sin(", "by=1": "by=2", "relu(": "gelu(",
}  # fmt: skip


def _operations(nodes: Iterable[Node]) -> list[object]:
    """The operations in order; those of the step of a recurrence, whose nodes are compared by identity, in its place."""
    found: list[object] = []
    for node in nodes:
        inside = node.op.inside()
        found += [type(node.op), node.axes, *_operations(topological(inside))] if inside else [node.op]
    return found


@settings(max_examples=200)
@given(drafts, st.sampled_from(sorted(CHANGES)))
def test_another_operation_changes_the_digest(draft: Draft, old: str) -> None:
    head, body = draft.text.split("\n", 1)
    changed = body.replace(old, CHANGES[old])
    if changed == body or "where N" in body:
        return
    [report] = check_source(Source("<test>", f"{head}\n{changed}"))
    before = _graph(draft.text)
    if report.formula is None:
        return
    after = report.formula.graph
    assert (before.digest() == after.digest()) == (_operations(before.nodes()) == _operations(after.nodes()))


@settings(max_examples=100)
@given(drafts)
def test_a_graph_survives_json(draft: Draft) -> None:
    sample = read(draft)
    for graph in sample.graphs.values():
        again = from_json(to_json(graph))
        assert again.digest() == graph.digest()
        assert to_json(again) == to_json(graph)


# Operations that no line writes, and why.
ELSEWHERE = {
    "Buffer": "a parameter that does not learn",
}


def test_every_operation_takes_part() -> None:
    seen: set[str] = set()
    for spelling in sorted(LINES):

        @settings(max_examples=5, derandomize=True, database=None)
        @given(programs(last=spelling, least=0, most=1))
        def collect(draft: Draft) -> None:
            seen.update(type(node.op).__name__ for node in read(draft).formula.graph)

        collect()
    assert {op.__name__ for op in OPS} - seen == set(ELSEWHERE)


def test_leaves_are_not_spelled_as_functions() -> None:
    assert all(not op.operands for op in OPS if issubclass(op, Leaf))
