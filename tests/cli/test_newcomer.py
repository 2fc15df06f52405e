"""What a newcomer meets: which formula is meant, output that cannot be written, sizes without effect, close names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import attngraph
from attngraph import cli

FORMULA = "attention {}(x[N, D]) -> [N, D]:\n    return x\n\n"
HEAD = "attention f(x[N, D]) -> [N, D]:\n"


def write(path: Path, *names: str) -> Path:
    path.write_text("".join(FORMULA.format(name) for name in names))
    return path


def test_one_rule_says_which_formula_is_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The only one, or the one that is named as its file; else neither Python nor the command line guesses."""
    alone, named = write(tmp_path / "a.attn", "f"), write(tmp_path / "b.attn", "f", "b")
    for path, name in ((alone, "f"), (named, "b")):
        assert attngraph.load(path).name == name
        assert cli.main(["compile", str(path)]) == 0
        assert f"class {name.upper()}(nn.Module)" in capsys.readouterr().out
    several = write(tmp_path / "c.attn", "f", "g")
    with pytest.raises(attngraph.FormulaError, match=r"c\.attn has 2 formulas; name one: f, g"):
        attngraph.load(several)
    with pytest.raises(attngraph.FormulaError, match="<text> has 2 formulas"):
        attngraph.parse(several.read_text())
    assert attngraph.load(several, "g").name == "g"
    for command in (
        ["compile", str(several)],
        ["equiv", str(several), str(alone)],
        ["draw", str(several), "-o", "x.svg"],
    ):
        assert cli.main(command) == 2
        assert "has 2 formulas; name one: f, g" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no /dev/full")
@pytest.mark.parametrize("option", [[], ["--output", "/dev/full"]])
def test_a_full_disk_is_no_bug_of_ours(tmp_path: Path, option: list[str]) -> None:
    path = write(tmp_path / "f.attn", *(f"f{i}" for i in range(20)))
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "attngraph", "check", str(path), *option],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert run.returncode == 2
    [line] = run.stderr.splitlines()
    assert line.startswith("attngraph: ")
    assert "No space left on device" in line
    assert Path("/dev/full").is_char_device(), "a device is written to, not replaced"


def test_a_size_without_effect_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "f.attn"
    path.write_text(
        "attention f(x[N, C]) -> [N, C]:\n    where C = H * D\n"
        "    param g[H, D] = 1\n    return x * merge[H, D -> C](g)\n"
    )
    sizes = [part for size in ("H=2", "C=6", "N=128") for part in ("--size", size)]
    assert cli.main(["compile", str(path), *sizes]) == 0
    captured = capsys.readouterr()
    assert captured.err == "note: the inputs bring `N` at every call; --size N=128 fixes nothing\n"
    assert "D: int = 3" in captured.out  # C has an effect: D follows from it


@pytest.mark.parametrize(
    ("line", "code", "help"),
    [
        ("param w[D] = normall(1)", "AG203", "did you mean `normal`?"),
        ("param w[D] = zeross", "AG202", "did you mean `zeros`?"),
        ("param w[D] = xavier()", "AG203", "initial values are `normal(0.02)`"),
        ("param w[D] = normal(std=1)", "AG274", "write `normal(0.02)`"),
        ("param w[D] = normal[D](1)", "AG269", None),
        ("w = x * normal(1)", "AG203", "initial values"),
        ("w = qqq", "AG202", "known here: `x`, `N`, `D`"),
        ("w = sum[Q](x)", "AG204", "known here: `N`, `D`"),
        ("w = pos(Q)", "AG204", "known here: `N`, `D`"),
        ("w = shift[N](x, by=Q)", "AG204", "known here: `N`, `D`"),
        ("require time O(Q)", "AG204", "known here: `D`, `N`"),
        ("require fast", "AG404", "known here: `linear`"),
        ("require linear O(N)", "AG405", "write `require linear`"),
    ],
)
def test_what_there_is_stands_beside_what_there_is_not(line: str, code: str, help: str | None) -> None:
    use = "" if line.startswith("require") else " * w"
    report = attngraph.parse(f"{HEAD}    {line}\n    return x{use}\n").report
    first = next(each for each in report.diagnostics if each.code == code)
    assert (help is None and first.suggestion is None) or (help or "-") in (first.suggestion or "")


def test_only_some_of_many_names_are_listed() -> None:
    names = ", ".join(f"x{i}[N]" for i in range(30))
    report = attngraph.parse(f"attention f({names}) -> [N]:\n    return qqqqqq\n").report
    assert report.diagnostics[0].suggestion == f"known here: {', '.join(f'`x{i}`' for i in range(8))}, ..."


@pytest.mark.parametrize("value", [[[1.0]], 3, None])
def test_what_is_no_tensor_is_told_by_name(value: object) -> None:
    module = attngraph.compile("attention f(q[N, D], k[N, D]) -> [N, D]:\n    return q * k\n")
    with pytest.raises(TypeError, match=f"f: k must be a tensor, but is <class '{type(value).__name__}'>"):
        module(torch.ones(1, 1), value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("elo", "elu"), ("eul", "elu"), ("reul", "relu"), ("lgo", "log"), ("sofmax", "softmax")],
)
def test_a_misspelt_function_is_told_the_one_with_the_fewest_edits(written: str, meant: str) -> None:
    report = attngraph.parse(f"{HEAD}    return {written}(x)\n").report
    assert [each.suggestion for each in report.diagnostics] == [f"did you mean `{meant}`?"]
