"""Formulas as Markdown: what stands in an entry, in a table, and in the pages of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mkdocs.exceptions import PluginError

from attngraph.catalogue import entry, status, table
from attngraph.compiler.pipeline import check_source, read
from attngraph.compiler.report import Report
from attngraph.grammar.source import Source
from benchmarks import examples
from docs import hooks

FORMULA = '''attention probe(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    """Weights w_1 * w_2 | <b>.

    Someone, A Title, 2020. A reconstruction of `probe`.
    """
    require linear
    const eps = 0.0
    a = q @ k^T * 1
    return a @ (v + v - v)
'''


def report(text: str) -> Report:
    (found,) = check_source(Source("probe.attn", text))
    return found


def test_an_entry_says_everything() -> None:
    text = entry(report(FORMULA))
    assert text.startswith("## probe\n\n*Weights w\\_1 \\* w\\_2 | \\<b>.*\n\nSomeone, A Title, 2020. A reconstruction")
    shown = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert [language for language, _ in shown] == ["attn", "math", "attn"]
    assert '"""' not in shown[0][1]
    assert shown[1][1].startswith("\\begin{aligned}")
    assert shown[2][1] == "a = q @ k^T\nreturn a @ v\n"
    for line in (
        "| time | `O(N*M)` | `O(N + M)` |",
        "\n\nStatus: reconstruction.\n\n",
        "- promised and kept: `linear`",
        "- recurrent: no, it is not causal",
        "- permuting positions along `M` changes nothing",
        "- contraction order: a sum of products may be evaluated in any order",
    ):
        assert line in text


def test_nothing_is_simplified_that_is_as_short_already() -> None:
    assert "Simplified" not in entry(report(FORMULA.replace(" * 1", "").replace("(v + v - v)", "v")))


def test_passes_are_told_where_there_are_several() -> None:
    source = read(examples.find("attention_3pass"))
    assert isinstance(source, Source)
    text = entry(check_source(source)[0])
    assert re.search(r"^- `k` along `M`: 3 written, \d compiled$", text, re.MULTILINE)
    assert "- `sn / sd`: the weights over `M` sum to one\n" in text
    assert "- `v` along" not in text


def test_an_entry_of_a_wrong_formula_lists_its_findings() -> None:
    text = entry(report(FORMULA.replace("k^T", "k")))
    assert re.search(r"^- probe.attn:8:\d+: error AG201: ", text, re.MULTILINE)
    assert "```" not in text


def test_a_row_of_the_table() -> None:
    last = table([report(FORMULA)], lambda found: f"here#{found.name}").splitlines()[-1]
    assert last == (
        "| [probe](here#probe) | Weights w\\_1 \\* w\\_2 \\| \\<b>. | `O(N*M)` | `O(N + M)` | linear | `linear` "
        "| reconstruction |"
    )


def test_status_tells_what_is_not_in_order() -> None:
    published = FORMULA.replace("A reconstruction", "As printed")
    assert status(report(published)) == "published"
    assert status(report(published.replace("require linear", "require linear, causal, time O(1)"))) == (
        "published; **2 broken promises**"
    )
    assert status(report(FORMULA.replace("k^T", "k"))).endswith("**with mistakes**")


def test_pages_of_the_documentation(tmp_path: Path) -> None:
    (tmp_path / "some_family").mkdir()
    (tmp_path / "some_family" / "probe.attn").write_text(FORMULA, encoding="utf-8")
    (tmp_path / "README.md").write_text("| [some_family](some_family) | About it |\n", encoding="utf-8")
    pages = hooks.example_pages(tmp_path)
    assert pages.keys() == {"examples/index.md", "examples/some_family.md", "modules/probe.py"}
    assert "class Probe(" in pages["modules/probe.py"]
    assert "[generated module](../modules/probe.py)" in pages["examples/some_family.md"]
    assert "## [Some family](some_family.md)\n\nAbout it.\n\n| formula |" in pages["examples/index.md"]
    assert "](some_family.md#probe)" in pages["examples/index.md"]
    page = hooks.drawn(pages["examples/some_family.md"])
    assert page.startswith("# Some family\n\nAbout it.\n\n## probe\n")
    assert '<div class="math"><math display="block">' in page
    assert "<pre>\\begin{aligned}" in page
    assert "```math" not in page
    (tmp_path / "another").mkdir()
    with pytest.raises(PluginError):
        hooks.example_pages(tmp_path)


def test_every_family_is_described() -> None:
    assert hooks.families(examples.FOLDER).keys() == {path.parent.name for path in examples.FILES}


def test_an_entry_shows_what_its_file_uses() -> None:
    source = read(examples.find("rope_attention"))
    assert isinstance(source, Source)
    text = entry(check_source(source)[0])
    uses = 'use "../parts/rotary.attn"\nuse "../softmax/softmax_attention.attn"\n'
    assert f"```attn\n{uses}\nattention rope_attention(" in text
    assert "/softmax_attention.attn:" not in text, "places are quoted: the text shown has other lines than the file"
