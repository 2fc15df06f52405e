"""Every diagnostic code has a page, and what the page shows is true."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from attngraph.compiler.library import MAX_FILES
from attngraph.compiler.pipeline import MAX_BYTES, check_source, read
from attngraph.grammar.codes import CODES
from attngraph.grammar.diagnostics import Diagnostic
from attngraph.grammar.parser import MAX_TEXT, parse
from tests.diagnostics.markdown import blocks, findings, rendered, with_bodies

ROOT = Path(__file__).parent.parent.parent
PAGES = {path.stem: path for path in sorted((ROOT / "attngraph" / "codes").glob("AG*.md"))}
FORMULA = "attention f(x[N]) -> [N]:\n    return "
OTHER = "attention g(x[N]) -> [N]:\n    return "


def of_file(content: bytes | None) -> Callable[[Path], list[Diagnostic]]:
    """What reading a file of this content says; None: there is no file."""

    def found(folder: Path) -> list[Diagnostic]:
        if content is not None:
            (folder / "f.attn").write_bytes(content)
        result = read(folder / "f.attn")
        assert isinstance(result, Diagnostic)
        return [result]

    return found


def of_text(text: str) -> Callable[[Path], list[Diagnostic]]:
    return lambda _: findings(text)


def of_files(texts: Mapping[str, str]) -> Callable[[Path], list[Diagnostic]]:
    """What checking the first of some files of one folder says."""

    def found(folder: Path) -> list[Diagnostic]:
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        source = read(folder / next(iter(texts)))
        assert not isinstance(source, Diagnostic)
        return [diagnostic for report in check_source(source) for diagnostic in report.diagnostics]

    return found


def doubling(levels: int) -> str:
    """A short text that stands for 2 to the power of `levels` operations."""
    functions = "".join(f"    f{i}(x) = f{i - 1}(x + {i}) * f{i - 1}(x - {i})\n" for i in range(1, levels))
    return f"attention f(x[N]) -> [N]:\n    f0(x) = exp(x)\n{functions}    return f{levels - 1}(x)\n"


# Codes whose example would be too large for a page, is no text at all, or has a second mistake by necessity.
BUILT: Mapping[str, Callable[[Path], list[Diagnostic]]] = {
    "AG001": of_file(None),
    "AG002": of_file(b"\xff"),
    "AG003": of_file(b"#" * (MAX_BYTES + 1)),
    "AG004": of_text(FORMULA + "(" * 300 + "x" + ")" * 300 + "\n"),
    "AG005": of_text(FORMULA + "x" + " + x" * 10_000 + "\n"),
    "AG006": of_text(doubling(16)),
    "AG108": of_text(f"# see \u202eexp(x)\u202c\n{FORMULA}x\n"),  # raw, it would mislead the readers of its page
    "AG279": of_text(
        "attention outer(x[N]) -> [N]:\n    return inner(x)\n\n"
        "attention inner(x[N]) -> [N]:\n    y = 2 x\n    return y\n"
    ),
    "AG153": of_files({"a.attn": 'use "b.attn"\n' + FORMULA + "x\n", "b.attn": 'use "a.attn"\n' + OTHER + "x\n"}),
    "AG154": of_files({"a.attn": 'use "b.attn"\n' + FORMULA + "g(x)\n", "b.attn": OTHER + "x x\n"}),
    "AG156": of_files({
        "a.attn": 'use "b0.attn"\n' + FORMULA + "g0(x)\n",
        **{f"b{i}.attn": f'use "b{i + 1}.attn"\n' + OTHER.replace("g(", f"g{i}(") + "x\n" for i in range(MAX_FILES)},
        f"b{MAX_FILES}.attn": OTHER + "x\n",
    }),
    "AG009": of_text("attention f(x[N]) -> [N]:\n" + "    y = = 2\n" * 300 + "    return x\n"),
}
UNSEEN = {"AG901"}  # a fault of attngraph, which no text should bring about


def test_every_code_has_a_page_and_no_page_is_left_over() -> None:
    assert list(PAGES) == sorted(CODES)


@pytest.mark.parametrize("code", CODES)
def test_page(code: str, request: pytest.FixtureRequest) -> None:
    page = PAGES[code].read_text(encoding="utf-8")
    assert page.startswith(f"# {code} {CODES[code].name}\n\n")
    prose = page.split("\nWrong:\n")[0].split("\n\n", 1)[1].strip()
    assert len(prose.split()) >= 15, "a page says what the code means and why it matters"
    found = blocks(page)
    if code in BUILT or code in UNSEEN:
        assert not found
        return
    used = found["attn file"]["body"] if "attn file" in found else None
    assert [info for info in found if info != "attn file"] == ["attn wrong", "text", "attn right"]
    wrong, right = found["attn wrong"]["body"], found["attn right"]["body"]
    assert [diagnostic.code for diagnostic in findings(wrong, used)] == [code]
    assert findings(right, used) == []
    if request.config.getoption("--update-golden"):
        PAGES[code].write_text(with_bodies(page, {found["text"].span("body"): rendered(wrong, used)}), encoding="utf-8")
        return
    assert rendered(wrong, used) == found["text"]["body"]


@pytest.mark.parametrize("code", BUILT)
def test_built_example(code: str, tmp_path: Path) -> None:
    assert code in [diagnostic.code for diagnostic in BUILT[code](tmp_path)]


@pytest.mark.parametrize("code", CODES)
def test_words_are_complete(code: str) -> None:
    entry = CODES[code]
    assert entry.severity in ("error", "warning", "note")
    assert entry.headline
    assert not entry.headline.endswith(".")
    assert entry.headline.count("`") % 2 == 0
    assert (entry.help or "").count("`") % 2 == 0


@pytest.mark.parametrize("length", [MAX_TEXT + 1, 4 * MAX_TEXT, 20 * MAX_TEXT])
def test_a_file_of_any_size_is_told_the_one_limit(length: int, tmp_path: Path) -> None:
    """Whether its bytes are counted or its characters."""
    path = tmp_path / "f.attn"
    path.write_bytes(b"#" * length)
    source = read(path)
    found = source if isinstance(source, Diagnostic) else parse(source)[1][0]
    assert found.code == "AG003"
    assert str(MAX_TEXT) in found.message
