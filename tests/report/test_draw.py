"""Pictures: well-formed, nothing overflows, nothing of a formula's text is markup."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from attngraph.compiler.facts.cost import superlinear
from attngraph.compiler.graph import Builder, Graph, Node
from attngraph.compiler.ops.arithmetic import Add, Divide
from attngraph.compiler.ops.contraction import matmul
from attngraph.compiler.ops.functions import Exp
from attngraph.compiler.ops.layout import Rename
from attngraph.compiler.ops.leaves import Input, Literal, Position, Size
from attngraph.compiler.pipeline import check_source
from attngraph.compiler.sizes import Poly
from attngraph.compiler.types import Kind
from attngraph.draw import MAX_NODES, TooLargeToDraw, to_dot, to_svg
from attngraph.grammar.source import Source

SVG = "{http://www.w3.org/2000/svg}"


def sample(name: str = "s") -> Graph:
    """exp((q @ k) / D + 1) with the scores named."""
    b = Builder()
    q, k = (b.make(Input(n, Kind.REAL, axes)) for n, axes in (("q", ("N", "D")), ("k", ("D", "M"))))
    scores = b.make(matmul(q.type, k.type), q, k)
    scaled = b.make(Divide(), scores, b.make(Size(Poly.symbol("D"))))
    shifted = b.make(Add(), scaled, b.make(Literal(1)))
    return Graph((b.make(Exp(), shifted), b.make(Position("N"))), {scores: name})


def rectangles(root: ElementTree.Element) -> list[tuple[float, float, float, float]]:
    return [
        tuple(float(rect.get(side, "0")) for side in ("x", "y", "width", "height"))  # type: ignore[misc]
        for group in root.iter(f"{SVG}g")
        if group.find(f"{SVG}title") is not None
        for rect in [group.findall(f"{SVG}rect")[-1]]
    ]


def test_svg_is_well_formed_and_complete() -> None:
    graph = sample()
    root = ElementTree.fromstring(to_svg(graph, title="attention", subtitle="written", loud=tuple(graph)))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    for wanted in ("attention", "written", "q", "k", "s = · @ · over D", "· / D", "· + 1", "exp", "[N, M]", "pos(N)"):
        assert wanted in texts
    assert "grows faster than the sequence" in texts
    assert len(rectangles(root)) == 7 - 0 - 0
    assert len(list(root.iter(f"{SVG}path"))) == 1 + 5  # the arrow head, and one curve per operand


def test_text_stays_inside_its_box() -> None:
    root = ElementTree.fromstring(to_svg(sample("a_name_that_is_very_much_longer_than_any_box_should_be")))
    checked = 0
    for group in root.iter(f"{SVG}g"):
        if group.find(f"{SVG}title") is None:
            continue
        box = group.findall(f"{SVG}rect")[-1]
        for text in group.findall(f"{SVG}text"):
            assert float(text.get("textLength", "nan")) <= float(box.get("width", "0")) - 16
            checked += 1
    assert checked == 14


def test_long_labels_are_told_in_full_by_the_title() -> None:
    name = "a_name_that_is_very_much_longer_than_any_box_should_be"
    root = ElementTree.fromstring(to_svg(sample(name)))
    assert any(name in (title.text or "") for title in root.iter(f"{SVG}title"))
    assert not any(name in (text.text or "") for text in root.iter(f"{SVG}text"))


def test_markup_in_names_is_text() -> None:
    name = '</text><script>"&'
    svg = to_svg(sample(name), title=name)
    assert "<script" not in svg
    root = ElementTree.fromstring(svg)
    assert name in [text.text for text in root.iter(f"{SVG}text")]


def test_loud_values_have_a_frame_and_a_legend() -> None:
    graph = sample()
    assert to_svg(graph).count("#d11a2a") == 0
    maps = [node for node in graph if {"N", "M"} <= set(node.axes)]
    loud = to_svg(graph, loud=maps)
    assert loud.count('stroke="#d11a2a"') == len(maps) + 1


def test_values_that_grow_faster_than_the_sequence() -> None:
    """A map does, with a mask among the inputs too; an image, its rows and columns together, does not."""

    def named(text: str) -> set[str]:
        (report,) = check_source(Source("f.attn", text))
        assert report.formula is not None
        graph = report.formula.graph
        return {graph.names[node] for node in superlinear(report.formula, graph) if node in graph.names}

    head = "attention f(q[N, D], k[M, D], seen[N, M] bool) -> [N, D]:\n"
    lines = "    s = q @ k^T\n    a = softmax[M](s, mask=seen)\n    o = a @ k\n    return o\n"
    assert named(head + lines) == {"seen", "s", "a"}
    head = "attention f(x[C, Y, X]) -> [C, Y, X]:\n    sequence Y, X\n"
    lines = "    a = relu(x)\n    s = sum[C](x * x[Y -> V][X -> U])\n    return a + sum[V, U](s)\n"
    assert named(head + lines) == {"s"}


def test_too_large_is_refused() -> None:
    b = Builder()
    node: Node = b.make(Input("x", Kind.REAL, ("N",)))
    for _ in range(MAX_NODES):
        node = b.make(Exp(), node)
    with pytest.raises(TooLargeToDraw, match=r"at most 1500 operations, not 1501; use \.dot"):
        to_svg(Graph((node,), {}))


def test_an_output_that_is_a_number_is_drawn() -> None:
    b = Builder()
    assert "· + 1" not in to_svg(Graph((b.make(Literal(1)),), {}))


def test_dot_has_every_box_and_edge() -> None:
    text = to_dot(sample('a "quoted" \\ name'), title="t\nu")
    assert text.count("[label=") == 7
    assert len(re.findall(r"n\d+ -> n\d+", text)) == 5
    assert r"a \"quoted\" \\ name" in text
    assert 'label="t u"' in text


def test_axis_changes_are_written_with_arrows() -> None:
    b = Builder()
    renamed = b.make(Rename("N", "M"), b.make(Input("x", Kind.REAL, ("N",))))
    assert "[N -&gt; M]" in to_svg(Graph((renamed,), {}))
