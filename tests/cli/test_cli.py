"""The command line from the outside: arguments in, text and exit code out."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attngraph import cli
from attngraph.files import collect
from attngraph.grammar.codes import CODES
from attngraph.settings import Settings

GOOD = '''attention linear(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    """A test."""
    require linear
    a = q @ k^T
    return a @ v
'''
BAD = "attention bad(q[N, D], k[M, D]) -> [N, M]:\n    return q @ k\n"
WARNED = "attention warned(q[N, D], k[M, D]) -> [N, D]:\n    return q\n"
UNFORMATTED = "attention f( x[N] ) -> [N]:\n  return  x+1\n"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("check", "x")` in an empty folder: exit code, output, notes."""
    monkeypatch.chdir(tmp_path)
    for variable in ("NO_COLOR", "FORCE_COLOR", "ATTNGRAPH_DEBUG"):
        monkeypatch.delenv(variable, raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def write(path: str, text: str | bytes) -> Path:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(text.encode() if isinstance(text, str) else text)
    return target


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


# -- check ---------------------------------------------------------------------------------------------


def test_check_fine(run: Run) -> None:
    write("good.attn", GOOD)
    code, out, err = run("check", "good.attn")
    assert (code, err) == (0, "")
    assert "linear ok" in out
    assert out.endswith("1 formula in 1 file: no findings\n")


def test_check_findings(run: Run) -> None:
    write("bad.attn", BAD)
    code, out, _ = run("check", "bad.attn", "--format", "concise")
    assert (code, out) == (1, "bad.attn:2:12: error[AG201] `q @ k` would contract `D` with `M`\n")


def test_check_folder_in_order_each_file_once(run: Run) -> None:
    for name in ("z/b.attn", "z/a.attn", "z/deep/c.attn", "z/.hidden/d.attn", "z/e.txt", "z/.f.attn"):
        write(name, BAD)
    Path("z/link.attn").symlink_to("a.attn")
    code, out, _ = run("check", "--format", "concise", "z/b.attn", "z", "z/a.attn")
    assert code == 1
    assert [line.split(":")[0] for line in out.splitlines()] == ["z/b.attn", "z/a.attn", "z/deep/c.attn"]


@pytest.mark.parametrize("form", ["json", "sarif", "github", "junit", "full", "concise"])
def test_check_formats(run: Run, form: str) -> None:
    write("bad.attn", BAD)
    code, out, _ = run("check", "bad.attn", "--format", form)
    assert code == 1
    if form in ("json", "sarif"):
        json.loads(out)
    if form == "junit":
        ElementTree.fromstring(out)
    assert "AG201" in out


def test_check_output_file(run: Run) -> None:
    write("bad.attn", BAD)
    code, out, err = run("check", "bad.attn", "--format", "json", "--output", "report.json")
    assert (code, out, err) == (1, "", "1 formula in 1 file: 1 error\n")
    assert json.loads(Path("report.json").read_text())["ok"] is False
    code, _, err = run("check", "bad.attn", "--output", "missing/report.json")
    assert (code, err) == (2, "attngraph: cannot write `missing/report.json`: No such file or directory\n")


def test_check_require(run: Run) -> None:
    write("f.attn", "attention f(q[N, D], k[M, D]) -> [N, M]:\n    return exp(q @ k^T)\n")
    assert run("check", "f.attn")[0] == 0
    code, out, _ = run("check", "f.attn", "--require", "linear")
    assert code == 1
    assert "AG401" in out
    assert run("check", "f.attn", "--require", "time O(N*M*D)")[0] == 0
    code, out, _ = run("check", "f.attn", "--require", "time O(N*D)")
    assert code == 1
    assert "AG402" in out
    misspelt = run("check", "f.attn", "--require", "linaer")
    assert misspelt == (2, "", "attngraph: there is no claim `linaer`; did you mean `linear`?\n")


def test_check_reports_what_cannot_be_read_and_goes_on(run: Run) -> None:
    write("d/a.attn", b"\xff\xfe")
    Path("d/b.attn").symlink_to("nowhere.attn")
    write("d/c.attn", GOOD)
    code, out, _ = run("check", "d")
    assert code == 1
    assert "`d/a.attn` is not UTF-8 text (byte 0)" in out
    assert "cannot read `d/b.attn`: No such file or directory" in out
    assert "linear ok" in out


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_check_unreadable_file(run: Run) -> None:
    write("a.attn", GOOD).chmod(0)
    code, out, _ = run("check", "a.attn")
    assert code == 1
    assert "Permission denied" in out


def test_check_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, BAD.encode())
    code, out, _ = run("check", "-", "--format", "concise")
    assert (code, out.split(":")[0]) == (1, "<stdin>")
    stdin(monkeypatch, b"a\xff")
    code, out, _ = run("check", "-")
    assert code == 1
    assert "`<stdin>` is not UTF-8 text (byte 1)" in out


def test_check_warnings(run: Run) -> None:
    write("w.attn", WARNED)
    assert run("check", "w.attn")[0] == 0
    assert run("check", "w.attn", "--warnings-as-errors")[0] == 1
    code, out, _ = run("check", "w.attn", "--warnings-as-errors", "--ignore", "AG501")
    assert code == 0
    assert "AG501" not in out


def test_command_line_wins_over_settings(run: Run) -> None:
    write("w.attn", WARNED)
    write("x/skipped.attn", BAD)
    write(
        "pyproject.toml",
        "[tool.attngraph]\nformat = 'concise'\nwarnings-as-errors = true\nrequire = ['linear']\nexclude = ['x']\n",
    )
    code, out, _ = run("check", ".")
    assert code == 1
    assert out.startswith("w.attn:1:")
    assert "skipped" not in out
    code, out, _ = run("check", ".", "--no-warnings-as-errors", "--format", "full")
    assert code == 0
    assert "1 warning" in out
    assert run("check", "x/skipped.attn", "--format", "concise")[1].startswith("x/skipped.attn")
    write("pyproject.toml", "[tool.attngraph]\nformatt = 'concise'\n")
    code, out, err = run("check", ".")
    assert (code, out) == (2, "")
    assert "did you mean `format`?" in err


# -- misuse --------------------------------------------------------------------------------------------


MISUSES: list[tuple[str, str]] = [
    (
        "",
        "what should be done? known: check, compile, draw, equiv, explain, fmt, latex, simplify"
        " (`attngraph -h` shows examples)",
    ),
    ("chek x", "there is no command `chek`; did you mean `check`?"),
    ("check", "the following arguments are required: FILE|FOLDER (`attngraph check -h` shows examples)"),
    ("check good.attn --formt json", "`attngraph check` does not take `--formt`; did you mean `--format`?"),
    ("check god.attn", "there is no file or folder `god.attn`; did you mean `good.attn`?"),
    ("check god", "there is no file or folder `god`"),
    ("check wood.attn", "there is no file or folder `wood.attn`; did you mean `good.attn`?"),
    ("check maps.attn", "there is no file or folder `maps.attn`"),
    ("check no/where", "there is no file or folder `no/where`; the folder it should be in cannot be read either"),
    ("check empty", "there is no .attn file in `empty`; name a file, or a folder that has some"),
    (
        "check good.attn --ignore AG201",
        "AG201 contraction-mismatch is an error and cannot be ignored, only warnings can",
    ),
    ("explain AG999", "there is no diagnostic code AG999; the nearest is AG901 internal-error"),
    ("explain good.attn liner", "there is no formula `liner` in good.attn; did you mean `linear`?"),
    ("explain empty", "`empty` is a folder; name one formula file"),
    ("latex good.attn x", "there is no formula `x` in good.attn; known: linear"),
    ("compile pair.attn", "pair.attn has 2 formulas; name one: one, two"),
    ("compile good.attn -o out.exe", "cannot compile to `out.exe`: the name must end in .py, .pt, .pt2 or .onnx"),
    ("compile good.attn --size H", "--size takes NAME=VALUE, not `H`; for example --size H=4"),
    ("compile good.attn --size H=0", "the size of `H` must be a positive whole number, not `0`"),
    ("compile good.attn --size H=" + "9" * 20, "the size of `H` is too large: a size has at most 18 digits"),
    ("compile good.attn --size H=4 --size H=5", "--size gives `H` twice: 4 and 5"),
    ("compile good.attn --const =", "--const takes NAME=VALUE, not `=`; for example --const eps=1e-5"),
    ("compile good.attn --const eps=1e400", "the constant `eps` is outside the range of a float64 number: 1e400"),
    ("compile good.attn --const W=x", "the constant `W` must be a number, not `x`"),
    ("draw good.attn -o out.png", "cannot draw `out.png`: the name must end in .svg, .dot or .json"),
    ("draw good.attn", "the following arguments are required: -o (`attngraph draw -h` shows examples)"),
]


@pytest.mark.parametrize(("arguments", "message"), MISUSES)
def test_misuse_is_one_line_with_the_fix(run: Run, arguments: str, message: str) -> None:
    write("good.attn", GOOD)
    write("pair.attn", GOOD.replace("linear(", "one(") + "\n\n" + GOOD.replace("linear(", "two("))
    Path("empty").mkdir()
    code, out, err = run(*arguments.split())
    assert (code, out, err) == (2, "", f"attngraph: {message}\n")


def test_help_everywhere_has_examples(run: Run) -> None:
    for command in ([], *([name] for name in cli.COMMANDS)):
        code, out, err = run(*command, "-h")
        assert (code, err) == (0, "")
        assert "examples:\n  attngraph " in out
        assert max(map(len, out.splitlines())) <= 100


def test_version(run: Run) -> None:
    import attngraph

    assert run("--version") == (0, f"attngraph {attngraph.__version__}\n", "")


def test_odd_file_names(run: Run) -> None:
    write("a\x1b[31m b.attn", BAD)
    code, out, _ = run("check", ".")
    assert code == 1
    assert "\x1b" not in out
    assert "a\\x1b[31m b.attn:2:12" in out


# -- explain, fmt, latex ---------------------------------------------------------------------------------


def test_explain_file_and_code(run: Run) -> None:
    write("good.attn", GOOD)
    code, out, _ = run("explain", "good.attn", "linear")
    assert code == 0
    assert "how it is compiled" in out
    code, out, _ = run("explain", "good.attn", "--format", "markdown")
    assert code == 0
    assert out.startswith("## linear\n\n")
    write("bad.attn", BAD)
    code, out, _ = run("explain", "bad.attn")
    assert code == 1
    assert "error[AG201" in out
    for written in ("AG201", "ag201"):
        code, out, _ = run("explain", written)
        assert code == 0
        assert out.startswith("# AG201 contraction-mismatch\n")


def test_every_code_can_be_explained(run: Run) -> None:
    for code in CODES:
        assert run("explain", code)[0] == 0


def test_fmt_rewrites_and_is_content_afterwards(run: Run) -> None:
    path = write("f.attn", UNFORMATTED)
    path.chmod(0o640)
    assert run("fmt", "--check", ".")[:2] == (1, "would reformat f.attn\n")
    code, out, _ = run("fmt", "--diff", "f.attn")
    assert code == 1
    assert "-  return  x+1\n" in out
    assert "+    return x + 1\n" in out
    assert run("fmt", "--stdout", "f.attn")[1] == "attention f(x[N]) -> [N]:\n    return x + 1\n"
    assert path.read_text() == UNFORMATTED
    assert run("fmt", "f.attn")[:2] == (0, "reformatted f.attn\n")
    assert path.read_text() == "attention f(x[N]) -> [N]:\n    return x + 1\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert run("fmt", "f.attn")[:2] == (0, "")
    assert run("fmt", "--check", "f.attn")[:2] == (0, "")
    assert [each.name for each in Path().iterdir()] == ["f.attn"]  # no temporary file stays


def test_fmt_keeps_line_endings(run: Run) -> None:
    path = write("f.attn", UNFORMATTED.replace("\n", "\r\n"))
    assert run("fmt", "f.attn")[0] == 0
    assert path.read_bytes() == b"attention f(x[N]) -> [N]:\r\n    return x + 1\r\n"


def test_fmt_leaves_broken_files_alone(run: Run) -> None:
    broken = UNFORMATTED + "  return ((\n"
    path = write("f.attn", broken)
    code, out, err = run("fmt", "f.attn")
    assert (code, out) == (1, "")
    assert path.read_text() == broken
    assert err.endswith("f.attn: not formatted, because of the errors above\n")


def test_fmt_writes_through_links(run: Run) -> None:
    write("real/f.attn", UNFORMATTED)
    Path("link.attn").symlink_to("real/f.attn")
    assert run("fmt", "link.attn")[0] == 0
    assert Path("link.attn").is_symlink()
    assert "x + 1" in Path("real/f.attn").read_text()


def test_fmt_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, UNFORMATTED.encode())
    assert run("fmt", "-")[:2] == (0, "attention f(x[N]) -> [N]:\n    return x + 1\n")


def test_latex(run: Run) -> None:
    write("good.attn", GOOD)
    code, out, _ = run("latex", "good.attn", "linear")
    assert code == 0
    assert "\\top" in out
    assert run("latex", "good.attn", "--mathml")[1].startswith('<math display="block">')


# -- compile and draw ------------------------------------------------------------------------------------


def test_compile_prints_or_writes_the_source(run: Run) -> None:
    write("good.attn", GOOD)
    code, out, err = run("compile", "good.attn")
    assert (code, err) == (0, "")
    assert "class " in out
    compile(out, "out.py", "exec")
    code, shown, _ = run("compile", "good.attn", "-o", "out.py")
    assert (code, shown) == (0, "")
    assert "def forward(self, q" in Path("out.py").read_text()


def test_compile_asks_for_sizes_as_options(run: Run) -> None:
    write("w.attn", "attention w(x[N, D]) -> [N, F]:\n    param w[D, F]\n    return x @ w\n")
    code, out, err = run("compile", "w.attn", "-o", "out.pt", "--size", "D=3")
    assert (code, out) == (2, "")
    assert "--size F=..." in err
    assert not list(Path().glob("*.pt"))
    assert run("compile", "w.attn", "-o", "out.pt", "--size", "D=3", "--size", "F=2") == (0, "", "")


def test_compile_refuses_a_formula_with_errors(run: Run) -> None:
    write("bad.attn", BAD)
    code, out, err = run("compile", "bad.attn", "-o", "out.py")
    assert (code, out) == (1, "")
    assert "error[AG201" in err
    assert not Path("out.py").exists()


@pytest.mark.parametrize("stage", ["written", "compiled"])
@pytest.mark.parametrize("suffix", ["svg", "dot", "json"])
def test_draw(run: Run, stage: str, suffix: str) -> None:
    write("good.attn", GOOD)
    assert run("draw", "good.attn", "-o", f"g.{suffix}", "--stage", stage) == (0, "", "")
    text = Path(f"g.{suffix}").read_text()
    if suffix == "svg":
        ElementTree.fromstring(text)
        assert ("O(N*M)" if stage == "written" else "O(N + M)") in text
    elif suffix == "json":
        assert json.loads(text)["outputs"]
    else:
        assert text.startswith("digraph")


# -- faults ----------------------------------------------------------------------------------------------


def test_a_bug_is_called_a_bug(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("half\nway")

    write("good.attn", GOOD)
    monkeypatch.setattr("attngraph.compiler.pipeline.check_source", broken)
    code, out, err = run("check", "good.attn")
    assert (code, out) == (2, "")
    first, second, third = err.splitlines()
    assert first == "attngraph: this is a bug in attngraph: ZeroDivisionError: half way"
    assert second == "  it happened while checking good.attn"
    assert "report it" in third
    monkeypatch.setenv("ATTNGRAPH_DEBUG", "1")
    assert "Traceback" in run("check", "good.attn")[2]


def test_interrupt(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    write("good.attn", GOOD)
    monkeypatch.setattr("attngraph.compiler.pipeline.check_source", interrupted)
    assert run("check", "good.attn") == (130, "", "")


def test_closed_pipe_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "a.attn").write_text(BAD * 400)
    command = [sys.executable, "-m", "attngraph", "check", str(tmp_path), "--format", "full"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), errors) == (141, b"")


def test_colours_only_where_wanted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write("bad.attn", BAD)
    assert "\x1b[" not in run("check", "bad.attn")[1]
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[1;31m" in run("check", "bad.attn")[1]
    assert "\x1b" not in run("check", "bad.attn", "--format", "json")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in run("check", "bad.attn")[1]


def test_an_ascii_terminal_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "é.attn").write_text("attention f(q[N]) -> [N]:\n    return φ\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "attngraph", "check", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60)
    assert done.returncode == 1
    assert b"\\xe9.attn" in done.stdout
    assert done.stderr == b""


def test_check_loads_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "a.attn").write_text(GOOD)
    code = (
        "import sys; from attngraph.cli import main; code = main(sys.argv[1:]);"
        "print(code, sorted({'torch', 'sympy', 'networkx', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "check", str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "0 []"


def test_collect_counts_a_file_once_under_its_first_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("a.attn", GOOD)
    assert collect(["./a.attn", "a.attn", str(tmp_path / "a.attn"), "."], Settings()) == [Path("a.attn")]


@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda text: GOOD.encode() + text.encode("utf-8", "replace"))
)
def test_no_file_is_a_bug(content: bytes) -> None:
    """Whatever a file holds: findings or none, in every format, and no fault of the program."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.attn"
        path.write_bytes(content)
        for arguments in (["check", "--format", "json"], ["check"], ["explain"], ["fmt", "--diff"], ["latex"]):
            out, err = io.StringIO(), io.StringIO()
            with redirect_stdout(out), redirect_stderr(err):
                assert cli.main([*arguments, str(path)]) in (0, 1)
            assert "bug" not in err.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["pt", "pt2"])
def test_compile_to_a_program(run: Run, suffix: str) -> None:
    import torch

    write("good.attn", GOOD)
    code, out, err = run("compile", "good.attn", "-o", f"out.{suffix}")
    assert (code, out, err) == (0, "", "")
    if suffix == "pt":
        module = torch.jit.load("out.pt")  # type: ignore[no-untyped-call]
    else:
        module = torch.export.load("out.pt2").module()
    q, k, v = torch.randn(5, 3), torch.randn(7, 3), torch.randn(7, 2)
    torch.testing.assert_close(module(q[None], k[None], v[None]), (q @ k.T @ v)[None])
