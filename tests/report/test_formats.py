"""Every report format, held to its standard or to its documented schema."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attngraph import report as formats
from attngraph.compiler.pipeline import check_source
from attngraph.compiler.report import Report
from attngraph.description import describe, table
from attngraph.grammar.diagnostics import Diagnostic, Label
from attngraph.grammar.source import NOWHERE, Source, Span
from attngraph.settings import FORMAT_NAMES
from attngraph.snippet import width

DATA = Path(__file__).parent.parent / "data"

GOOD = '''attention linear_attention(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    """Katharopoulos et al., Transformers are RNNs, ICML 2020."""
    require linear
    phi(x) = elu(x) + 1
    a = phi(q) @ phi(k)^T
    return (a / sum[M](a)) @ v
'''
BAD = """attention bad(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    s = q @ k
    return s @ v
"""
QUADRATIC = """attention quadratic(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    require linear
    return softmax[M](q @ k^T / sqrt(D)) @ v
"""


def reports(*texts: str, name: str = "some folder/f,1:2%.attn") -> list[Report]:
    return [report for text in texts for report in check_source(Source(name, text))]


ALL = (GOOD, BAD, QUADRATIC, "# nothing\n")


def odd(message: str) -> list[Report]:
    """A report whose finding speaks of arbitrary text."""
    source = Source("odd\x1b,:%\n.attn", "attention f(x[N]) -> [N]:\n    return x\n")
    finding = Diagnostic("AG202", Span(0, 40), {"name": message}, (Label(Span(10, 11), message),), message, source)
    return [Report("f", source, Span(0, 10), (finding,))]


def test_formats_are_those_of_the_settings() -> None:
    assert tuple(formats.FORMATS) == FORMAT_NAMES


def test_concise_is_one_line_each() -> None:
    lines = formats.concise(reports(*ALL)).splitlines()
    assert lines[0] == "some folder/f,1:2%.attn:2:9: error[AG201] `q @ k` would contract `D` with `M`"
    assert all(re.match(r"some folder/f,1:2%\.attn:\d+:\d+: error\[AG\d{3}\] \S", line) for line in lines)


def test_full_has_diagnostics_then_the_table_then_the_sum() -> None:
    text = formats.full(reports(*ALL))
    assert text.index("error[AG201") < text.index("as compiled") < text.index("3 formulas in 1 file: 3 errors")


def test_json_follows_its_schema() -> None:
    schema = json.loads((DATA / "report.schema.json").read_text(encoding="utf-8"))
    data = json.loads(formats.json(reports(*ALL)))
    jsonschema.validate(data, schema, cls=jsonschema.Draft7Validator)
    linear, bad, quadratic = data["formulas"]
    assert data["ok"] is False
    assert linear["ok"] is True
    assert linear["inputs"][0] == {"name": "q", "kind": "real", "axes": ["N", "D"]}
    assert linear["results"] == [{"kind": "real", "axes": ["N", "E"]}]
    assert linear["sequence"] == ["N", "M"]
    assert linear["written"]["time_order"] == "O(N*M)"
    assert linear["compiled"]["time_order"] == "O(N + M)"
    assert linear["claims"][0]["holds"] is True
    assert linear["steps"]
    assert bad["compiled"] is None
    assert bad["diagnostics"][0]["range"] == {"line": 2, "column": 9, "end_line": 2, "end_column": 14}
    assert quadratic["claims"] == [
        {"text": "linear", "holds": False, "range": {"line": 2, "column": 13, "end_line": 2, "end_column": 19}}
    ]
    assert [each["code"] for each in data["diagnostics"]] == ["AG007"]


def test_json_schema_refuses_what_is_not_documented() -> None:
    schema = json.loads((DATA / "report.schema.json").read_text(encoding="utf-8"))
    data = json.loads(formats.json(reports(GOOD)))
    data["formulas"][0]["surprise"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, schema)


SARIF = json.loads((DATA / "sarif-2.1.0.schema.json").read_text(encoding="utf-8"))


def test_sarif_is_valid() -> None:
    data = json.loads(formats.sarif(reports(*ALL)))
    jsonschema.validate(data, SARIF, cls=jsonschema.Draft202012Validator)
    (run,) = data["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == sorted(set(rules))
    first = run["results"][0]
    assert rules[first["ruleIndex"]] == first["ruleId"] == "AG201"
    location = first["locations"][0]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "some%20folder/f%2C1%3A2%25.attn"
    assert location["physicalLocation"]["region"] == {"startLine": 2, "startColumn": 9, "endLine": 2, "endColumn": 14}
    assert location["logicalLocations"] == [{"fullyQualifiedName": "bad", "kind": "function"}]


def test_sarif_fingerprint_does_not_move_with_the_lines() -> None:
    def prints(text: str) -> list[str]:
        results = json.loads(formats.sarif(reports(text)))["runs"][0]["results"]
        return [each["partialFingerprints"]["attngraphFinding/v1"] for each in results]

    assert prints(BAD) == prints("# a comment\n\n" + BAD)
    assert prints(BAD) != prints(QUADRATIC)


def test_sarif_of_nothing_is_valid() -> None:
    jsonschema.validate(json.loads(formats.sarif([])), SARIF)
    jsonschema.validate(json.loads(formats.sarif(reports(GOOD))), SARIF)


def test_github_commands() -> None:
    line = formats.github(reports(BAD)).splitlines()[0]
    assert line.startswith(
        "::error file=some folder/f%2C1%3A2%25.attn,line=2,endLine=2,col=9,endColumn=14,"
        "title=AG201 contraction-mismatch::"
        "`q @ k` would contract `D` with `M`"
    )


def test_github_leaves_columns_out_of_long_ranges() -> None:
    line = formats.github(odd("m"))
    assert "line=1,endLine=3,title" in line


@given(st.text(max_size=30))
def test_github_is_one_command_per_finding(message: str) -> None:
    """Whatever a message holds, it cannot end its command or start another."""
    text = formats.github(odd(message))
    assert text.count("\n") == 1
    assert "\r" not in text
    properties = text.removeprefix("::error ").split("::")[0]
    assert [pair.split("=")[0] for pair in properties.split(",")] == ["file", "line", "endLine", "title"]


def test_junit_counts_and_names() -> None:
    root = ElementTree.fromstring(formats.junit(reports(*ALL)))
    assert root.tag == "testsuites"
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("4", "3", "0")
    cases = root.findall("testsuite/testcase")
    assert [case.get("name") for case in cases] == ["linear_attention", "bad", "quadratic", "some folder/f,1:2%.attn"]
    failures = [case.findall("failure") for case in cases]
    assert [len(each) for each in failures] == [0, 1, 1, 1]
    assert failures[1][0].get("type") == "AG201"
    assert "--> some folder" in (failures[1][0].text or "")


@given(st.text(max_size=30))
def test_machine_formats_carry_any_text(message: str) -> None:
    found = odd(message)
    ElementTree.fromstring(formats.junit(found))
    assert json.loads(formats.json(found))["formulas"][0]["diagnostics"][0]["help"] == message
    jsonschema.validate(json.loads(formats.sarif(found)), SARIF)
    assert formats.concise(found).count("\n") == 1


def test_unreadable_file_in_every_format() -> None:
    gone = Source("gone.attn", "")
    finding = Diagnostic("AG001", NOWHERE, {"path": "gone.attn", "reason": "No such file"}, source=gone)
    found = [Report("", gone, NOWHERE, (finding,))]
    for form in FORMAT_NAMES:
        assert "gone.attn" in formats.render(found, form)
    jsonschema.validate(json.loads(formats.sarif(found)), SARIF)
    assert "line=" not in formats.github(found)


def test_table_fits_and_keeps_every_word() -> None:
    found = reports(GOOD, QUADRATIC)
    for columns in (200, 100):
        lines = table(found, columns=columns).splitlines()
        assert max(map(width, lines)) <= columns
    wide = table(found, columns=400)
    assert len(wide.splitlines()) == 3
    narrow = table(found, columns=60)
    for word in ("linear_attention", "q[N, D]", "v[M, E]", "O(N*M)", "O(N + M)", "linear ok", "linear FAILS"):
        assert word in wide
        assert word in narrow


def test_description_tells_everything() -> None:
    text = describe(reports(GOOD)[0])
    for part in (
        "linear_attention  some folder/f,1:2%.attn:1",
        "a = phi(q) @ phi(k)^T",
        "types",
        "orders count N, M",
        "time, as written",
        "time, as compiled",
        "how it is compiled",
        "linear: holds",
    ):
        assert part in text
    quadratic = describe(reports(QUADRATIC)[0])
    assert "what makes it O(N*M)" in quadratic
    assert "linear: fails" in quadratic
    assert "error[AG401" in quadratic
