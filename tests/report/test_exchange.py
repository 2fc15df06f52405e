"""Graphs as JSON: there and back without loss, and nothing malformed gets through."""

from __future__ import annotations

import importlib
import json
import math
import pkgutil
import sys
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attngraph.compiler import lowerings
from attngraph.compiler.graph import Graph
from attngraph.compiler.ops.base import Op
from attngraph.compiler.pipeline import check_source
from attngraph.compiler.scan import Scan, deep
from attngraph.exchange import GraphFormatError, _operations, from_json, to_json
from attngraph.grammar.source import Source
from benchmarks import examples


def graphs() -> list[tuple[str, Graph]]:
    found = []
    for path in examples.FILES:
        for report in check_source(Source(path.name, path.read_text(encoding="utf-8"), path.parent)):
            if report.formula is not None and report.plan is not None:
                found += [(f"{report.name} written", report.formula.graph), (f"{report.name} compiled", report.plan)]
    return found


def test_every_example_survives_the_round_trip() -> None:
    found = graphs()
    assert len(found) >= 50
    for name, graph in found:
        text = to_json(graph)
        again = from_json(text)
        assert again.digest() == graph.digest(), name
        assert [node.type for node in again] == [node.type for node in graph], name
        steps = [node.op.step for node in deep(graph) if isinstance(node.op, Scan)]
        inside = {*deep(graph), *(argument for step in steps for argument in step.arguments)}
        assert sorted(again.names.values()) == sorted(n for node, n in graph.names.items() if node in inside), name
        assert to_json(again) == text, name


def test_every_operation_can_be_read_back() -> None:
    """A lowering that is missing in `exchange` would be found only when a plan that uses it is read."""
    for module in pkgutil.walk_packages(lowerings.__path__, f"{lowerings.__name__}."):
        importlib.import_module(module.name)
    made = {
        name
        for module in list(sys.modules.values())
        if module.__name__.startswith(f"{lowerings.__name__}.")
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Op) and value.__module__ == module.__name__
    }
    assert {"CausalScan", "BandedSoftmax"} <= made <= set(_operations())


def sample() -> dict[str, Any]:
    text = (
        "attention f(x[N, D]) -> [N]:\n    const c = 0.5\n    y = where(x > 0, x * c / sqrt(D), -inf)\n"
        "    return max[D](y)\n"
    )
    (report,) = check_source(Source("f.attn", text))
    assert report.formula is not None
    data: dict[str, Any] = json.loads(to_json(report.formula.graph))
    return data


def test_infinity_is_kept() -> None:
    assert any(each["attributes"].get("value") == {"number": "-inf"} for each in sample()["nodes"])
    graph = from_json(json.dumps(sample()))
    assert any(getattr(node.op, "value", 0) == -math.inf for node in graph)


def node(data: dict[str, Any], op: str) -> dict[str, Any]:
    return next(each for each in data["nodes"] if each["op"] == op)


def test_malformed_graphs_say_where_and_why() -> None:
    def refused(change: Any) -> str:
        data = sample()
        change(data)
        with pytest.raises(GraphFormatError) as caught:
            from_json(json.dumps(data))
        return str(caught.value)

    assert "format" in refused(lambda d: d.pop("format"))
    assert "version 2 is not known" in refused(lambda d: d.update(version=2))
    assert "nodes: must be a list" in refused(lambda d: d.update(nodes=3))
    assert "outputs: 99 is not the place of an earlier node" in refused(lambda d: d.update(outputs=[99]))
    assert "is not the place" in refused(lambda d: d["nodes"][2].update(inputs=[True, 0]))
    assert "did you mean `Input`?" in refused(lambda d: node(d, "Input").update(op="Inputs"))
    assert "has no attribute `nme`" in refused(lambda d: node(d, "Input")["attributes"].update(nme="x"))
    assert "needs the attribute `kind`" in refused(lambda d: node(d, "Input")["attributes"].pop("kind"))
    assert "Input.kind" in refused(lambda d: node(d, "Input")["attributes"].update(kind="rael"))
    assert "Input.axes" in refused(lambda d: node(d, "Input")["attributes"].update(axes="N"))
    assert "takes 3 operands, not 1" in refused(lambda d: node(d, "Where").update(inputs=[0]))
    assert "the type is stated as" in refused(lambda d: node(d, "Input")["type"].update(axes=["N"]))
    assert "do not follow" in refused(lambda d: node(d, "Input")["attributes"].update(axes=["N", "N"]))
    assert "`name` must be text" in refused(lambda d: d["nodes"][0].update(name=3))


@pytest.mark.parametrize("text", ["", "[", "null", "[1]", "{}", '{"format": 1}', "[" * 100_000, '"' * 3, "NaN"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(GraphFormatError):
        from_json(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats(allow_nan=False) | st.sampled_from(["N", "real", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["number", "coefficient"]), inner),
    max_leaves=6,
)


@given(st.data())
def test_any_changed_field_is_refused_or_read(data: st.DataObject) -> None:
    """Whatever stands in one field: a graph comes out, or GraphFormatError."""
    graph = sample()
    chosen = data.draw(st.sampled_from(graph["nodes"]))
    where = data.draw(st.sampled_from(["op", "attributes", "inputs", "type", "name", *chosen["attributes"]]))
    if where in chosen["attributes"]:
        chosen["attributes"][where] = data.draw(JSON)
    else:
        chosen[where] = data.draw(JSON)
    with suppress(GraphFormatError):
        assert from_json(json.dumps(graph)).outputs
