"""`use` lines: what they make known, what is wrong with them, and that every command follows them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import attngraph
from attngraph.cli import main
from attngraph.compiler import library
from attngraph.compiler.library import Library
from attngraph.compiler.pipeline import check_source, read
from attngraph.compiler.report import Report
from attngraph.grammar.diagnostics import Diagnostic
from attngraph.grammar.source import Source
from attngraph.report import render, render_diagnostics

KERNELS = """use "norms.attn"

attention soft(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    return softmax[M](unit(q) @ unit(k)^T) @ v

attention linear(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    phi(x) = elu(x) + 1
    a = phi(q) @ phi(k)^T
    return (a / sum[M](a)) @ v
"""
NORMS = """attention unit(x[N, D]) -> [N, D]:
    const eps = 1e-6
    return x / (norm[D](x) + eps)
"""
BLOCK = """use "lib/kernels.attn"

attention block(x[N, D], y[M, D], v[M, E]) -> [N, E]:
    return soft(x, y, v) + linear(y[M -> N], x[N -> M], v)
"""
# The same, written out.
WHOLE = """attention whole(x[N, D], y[M, D], v[M, E]) -> [N, E]:
    where M = N
    unit(x) = x / (norm[D](x) + 1e-6)
    phi(x) = elu(x) + 1
    a = phi(y[M -> N]) @ phi(x[N -> M])^T
    return softmax[M](unit(x) @ unit(y)^T) @ v + (a / sum[M](a)) @ v
"""
FILES = {"main.attn": BLOCK, "lib/kernels.attn": KERNELS, "lib/norms.attn": NORMS}
PLAIN = "attention f(x[N, D]) -> [N, D]:\n    return x\n"

Checked = Callable[..., list[Diagnostic]]


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """The files in a folder; returns the first."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / next(iter(files))


def reports(path: Path, library: Library | None = None) -> tuple[Report, ...]:
    source = read(path) if library is None else library.read(path)
    assert isinstance(source, Source)
    return check_source(source, library=library)


def findings(path: Path) -> list[Diagnostic]:
    return [each for report in reports(path) for each in report.diagnostics]


@pytest.fixture
def checked(tmp_path: Path) -> Checked:
    """The findings in the first of some files."""

    def found(**files: str | bytes) -> list[Diagnostic]:
        return findings(write(tmp_path, {f"{name}.attn": content for name, content in files.items()}))

    return found


def using(path: str, body: str = "x") -> str:
    return f'use "{path}"\n\nattention f(x[N, D]) -> [N, D]:\n    return {body}\n'


# -- what a call means ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(1, 1, 1), (7, 7, 5), (37, 3, 37)])
def test_a_call_computes_what_the_text_written_out_computes(tmp_path: Path, sizes: tuple[int, int, int]) -> None:
    n, d, e = sizes
    path = write(tmp_path, FILES)
    inputs = [torch.randn(2, *shape, dtype=torch.float64, requires_grad=True) for shape in ((n, d), (n, d), (n, e))]
    called, whole = attngraph.compile(path, name="block"), attngraph.compile(WHOLE)
    results = [module(*inputs) for module in (called, whole)]
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(results[0])
    gradients = [torch.autograd.grad((result * weight).sum(), inputs) for result in results]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(results[0], results[0] * (1 + 1e-9), rtol=1e-12, atol=1e-12)


def test_only_what_a_file_uses_itself_is_known(tmp_path: Path) -> None:
    path = write(tmp_path, {**FILES, "main.attn": using("lib/kernels.attn", "soft(x, x[N -> M], unit(x[N -> M]))")})
    [finding] = findings(path)
    assert (finding.code, finding.facts["name"]) == ("AG203", "unit")


def test_a_local_function_of_a_used_file_stays_private(tmp_path: Path) -> None:
    path = write(
        tmp_path, {**FILES, "main.attn": using("lib/kernels.attn", "linear(x, x[N -> M], x[N -> M]) + phi(x)")}
    )
    [finding] = findings(path)
    assert (finding.code, finding.facts["name"]) == ("AG203", "phi")


def test_private_names_do_not_meet_those_of_the_caller(tmp_path: Path) -> None:
    """`phi` and `a` of the used file are not `phi` and `a` of this one."""
    text = (
        'use "lib/kernels.attn"\n\nattention f(x[N, D], y[M, D]) -> [N, D]:\n'
        "    phi(x) = 3 * x\n    a = phi(x)\n    return a + linear(x, y, y)\n"
    )
    path = write(tmp_path, {**FILES, "main.attn": text})
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    linear = attngraph.compile(tmp_path / "lib/kernels.attn", name="linear")
    torch.testing.assert_close(attngraph.compile(path)(x, y), 3 * x + linear(x, y, y))


TWICE = """
attention g(x[N], s[]) -> [N]:
    phi(y) = y * s
    return phi(x)

attention f(x[N], a[], b[]) -> [N]:
    return g(x, a) + g(x, b)
"""
SCOPES = """
attention f(x[N], z[N]) -> [N]:
    psi(y) = y + x
    phi(x) = psi(x)
    return phi(z)
"""


def test_a_local_function_sees_the_call_that_it_stands_in() -> None:
    x, a, b = torch.arange(3.0), torch.tensor(2.0), torch.tensor(5.0)
    torch.testing.assert_close(attngraph.compile(TWICE, name="f")(x, a, b), 7 * x)


def test_a_local_function_does_not_see_the_parameters_of_its_caller() -> None:
    x = torch.arange(3.0)
    torch.testing.assert_close(attngraph.compile(SCOPES)(x, 10 * x), 11 * x)


NESTED = """
attention inner(x[N]) -> [N]:
    const c = 2
    return x * c

attention middle(x[N]) -> [N]:
    return inner(x)

attention f(x[N]) -> [N]:
    const c = 3
    return middle(x) + 10 * inner(x) + 100 * inner(x, c=5) + 1000 * inner(x, c=c + 1)
"""


def test_constants_reach_as_far_as_they_are_declared() -> None:
    """The nearest caller counts: `middle` declares no `c`, so its `inner` has the default."""
    x = torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(attngraph.compile(NESTED, name="f")(x), x * (2 + 30 + 500 + 4000))
    torch.testing.assert_close(attngraph.compile(NESTED, name="f", consts={"c": 7})(x), x * (2 + 70 + 500 + 8000))


def test_a_tensor_is_no_constant() -> None:
    found = attngraph.check(attngraph.parse(NESTED.replace("c=5", "c=x"), "f")).diagnostics
    assert [(each.code, each.source.slice(each.span)) for each in found if each.source] == [("AG309", "x")]


# -- how axes meet -------------------------------------------------------------------------------------

SCORES = "attention scores(q[N, D], k[M, D], w[D]) -> [N, M]:\n    return (q * w) @ k^T\n\n"


@pytest.mark.parametrize(
    ("inputs", "call", "meaning"),
    [
        ("q[N, D], k[M, D], w[D]", "scores(q, k, w)", "nd,md,d->nm"),
        ("q[D, N], k[M, D], w[D]", "scores(q, k, w)", "dn,md,d->nm"),  # names agree, order does not
        (
            "q[N, H, D], k[M, D], w[D]",
            "sum[H](scores(q, k, w))",
            "nhd,md,d->nm",
        ),  # H is a batch axis wherever it stands
        ("q[M, D], k[N, D], w[D]", "scores(q, k, w)", "md,nd,d->mn"),  # names exchanged: by position
        ("q[A, C], k[B, C], w[C]", "scores(q, k, w)", "ac,bc,c->ab"),  # other names: by position
        ("q[A, D], k[B, D], w[D]", "scores(q, k, w)", "ad,bd,d->ab"),  # one name agrees, in its place
        ("q[H, N, D], k[H, M, D], w[D]", "sum[H](scores(q, k, w))", "hnd,hmd,d->nm"),
    ],
)
def test_axes_meet_by_name_and_else_by_position(inputs: str, call: str, meaning: str) -> None:
    result = meaning.partition("->")[2].upper()
    header = f"attention f({inputs}) -> [{', '.join(result)}]:"
    module = attngraph.compile(f"{SCORES}{header}\n    return {call}\n", name="f")
    shapes = meaning.partition("->")[0].split(",")
    tensors = [torch.randn([3] * len(shape), dtype=torch.float64) for shape in shapes]  # all sizes equal
    torch.testing.assert_close(module(*tensors), torch.einsum(meaning, *tensors))


@pytest.mark.parametrize(
    ("inputs", "call", "code", "blamed"),
    [
        ("x[N, D], w[D]", "scores(x, x, w)", "AG285", "scores(x, x, w)"),  # the map would hold one axis twice
        ("x[N, D], w[N, D]", "scores(x, x[N -> M], w)", "AG285", "w"),  # N would be a batch axis as well
        ("x[D, A], w[D]", "scores(x, x[A -> B], w)", "AG278", "x"),  # D stands where N is expected
        ("x[N, D], w[E]", "scores(x, x[N -> M], w)", "AG278", "w"),  # D is settled already
        ("x[D], w[D]", "scores(x, x, w)", "AG278", "x"),  # too few axes
    ],
)
def test_what_could_mean_two_things_is_an_error(inputs: str, call: str, code: str, blamed: str) -> None:
    text = f"{SCORES}attention f({inputs}) -> [N, M]:\n    where M = N\n    return {call}\n"
    report = attngraph.check(attngraph.parse(text, "f"))
    first = report.diagnostics[0]
    assert first.source is not None
    assert (first.code, first.source.slice(first.span)) == (code, blamed)


ATTEND = "attention attend(q[N, D], k[M, D], v[M, E]) -> [N, E]:\n    return softmax[M](q @ k^T) @ v\n\n"


def test_one_value_may_be_given_twice() -> None:
    """What the called formula tells apart stays apart, although all of it is one axis here."""
    module = attngraph.compile(f"{ATTEND}attention f(x[N, D]) -> [N, D]:\n    return attend(x, x, x)\n", name="f")
    x = torch.randn(5, 5, dtype=torch.float64)
    torch.testing.assert_close(module(x), torch.softmax(x @ x.T, -1) @ x)


def test_an_outer_product_does_not_become_a_diagonal() -> None:
    outer = "attention outer(a[D], b[E]) -> []:\n    return sum[D, E](a * b)\n\n"
    text = f"{outer}attention f(x[D]) -> []:\n    return outer(x, x)\n"
    torch.testing.assert_close(attngraph.compile(text, name="f")(torch.arange(4.0)), torch.tensor(36.0))


def test_kinds_are_those_of_the_called_formula() -> None:
    """An int that is given for a real is a real inside, and a real result is one although its value is an int."""
    inverse = "attention inverse(x[N]) -> [N]:\n    return x^(-1)\n\n"
    text = f"{inverse}attention f(y[N]) -> [N]:\n    return inverse(pos(N) + 1) * y\n"
    y = torch.ones(4, dtype=torch.float64)
    torch.testing.assert_close(attngraph.compile(text, name="f")(y), 1 / torch.arange(1.0, 5.0, dtype=torch.float64))


# -- lines that cannot be followed ---------------------------------------------------------------------


def test_a_file_is_not_told_to_use_itself(tmp_path: Path) -> None:
    [finding] = findings(write(tmp_path, {"main.attn": using("mains.attn", "anything(x)")}))
    assert (finding.code, finding.suggestion) == ("AG001", None)


@pytest.mark.parametrize(
    ("path", "code", "message", "help"),
    [
        ("kernel.attn", "AG001", "No such file", "did you mean `kernels.attn`?"),
        ("kernels", "AG001", "No such file", "did you mean `kernels.attn`?"),
        ("lib/kernels.attn", "AG001", "No such file", "no folder `lib`"),
        ("folder", "AG001", "it is a folder", None),
        ("pipe", "AG001", "it is no file", None),
        ("kernels.attn/x", "AG001", "Not a directory", None),
        ("n" * 300, "AG001", "too long", None),
        ("/etc/hostname", "AG152", "it is absolute", None),
        ("../kernels.attn", "AG152", "it leaves", None),
        ("folder/../../x.attn", "AG152", "it leaves", None),
        ("folder\\kernels.attn", "AG152", "separated by `/`", "`folder/kernels.attn`"),
        ("a\tb", "AG152", "cannot be shown", None),
        ("a\0b", "AG152", "cannot be shown", None),
        ("latin.attn", "AG154", "not UTF-8", None),
        ("huge.attn", "AG154", "characters", None),
        ("broken.attn", "AG154", "2:12: there is no operator between `x` and `x`", "attngraph check"),
        ("empty.attn", "AG154", "there is no formula", None),
        ("./main.attn", "AG153", "`main.attn` uses `main.attn`", None),
    ],
)
def test_a_line_that_cannot_be_followed(tmp_path: Path, path: str, code: str, message: str, help: str | None) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "pyproject.toml").touch()
    os.mkfifo(tmp_path / "pipe")
    main_file = write(tmp_path, {
        "main.attn": using(path, "anything(x)"), "kernels.attn": NORMS,
        "latin.attn": b"\xe4", "huge.attn": b"#" * 5_000_000,
        "broken.attn": "attention g(x[N]) -> [N]:\n    return x x\n", "empty.attn": "",
    })  # fmt: skip
    [finding] = findings(main_file)  # and nothing about the call
    assert finding.code == code
    assert message in finding.message
    assert finding.source is not None
    assert finding.source.slice(finding.span) == f'"{path}"'
    if help is None:
        assert "did you mean" not in (finding.suggestion or "")
    else:
        assert help in (finding.suggestion or "")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, {"main.attn": using("kernels.attn", "unit(x)"), "kernels.attn": NORMS})
    source = read(path)
    assert isinstance(source, Source)

    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    [report] = check_source(source)
    assert [each.message for each in report.diagnostics] == ["cannot read `kernels.attn`: Permission denied"]


def test_paths_may_climb_inside_a_project(tmp_path: Path) -> None:
    files = {"a/b/main.attn": using("../../lib/norms.attn", "unit(x)"), "lib/norms.attn": NORMS}
    path = write(tmp_path, files)
    assert [each.code for each in findings(path)] == ["AG152"]
    (tmp_path / "pyproject.toml").touch()
    assert findings(path) == []


def test_a_text_without_a_folder_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, FILES)
    monkeypatch.chdir(tmp_path)
    assert [each.code for each in attngraph.parse(BLOCK).report.diagnostics] == ["AG152"]
    assert attngraph.parse(BLOCK, folder=tmp_path).report.ok
    assert attngraph.parse(BLOCK, folder=".").report.ok


def test_circles(checked: Checked, tmp_path: Path) -> None:
    circle = {
        "a": using("b.attn", "g(x)"),
        "b": using("c.attn").replace(" f(", " g("),
        "c": using("a.attn").replace(" f(", " h("),
    }
    [finding] = checked(**circle)
    assert (finding.code, finding.facts["chain"]) == ("AG153", "`a.attn` uses `b.attn` uses `c.attn` uses `a.attn`")
    [outside] = findings(write(tmp_path, {"d.attn": using("a.attn").replace(" f(", " k(")}))
    assert outside.code == "AG154"
    assert "leads back" in outside.message


def test_a_name_means_one_formula(checked: Checked) -> None:
    [finding] = checked(main=using("a.attn"), a=PLAIN)
    assert (finding.code, finding.facts["other"]) == ("AG157", "this file")
    both = 'use "a.attn"\nuse "b.attn"\n\nattention g(x[N, D]) -> [N, D]:\n    return f(x)\n'
    [finding] = checked(main=both, a=PLAIN, b=PLAIN)
    assert (finding.code, finding.facts["other"]) == ("AG157", "`a.attn`")


def test_two_files_may_use_the_same_one(checked: Checked) -> None:
    main = 'use "a.attn"\nuse "b.attn"\n\nattention m(x[N, D]) -> [N, D]:\n    return g(x) + h(x)\n'
    one, two = (using("c.attn", "f(x)").replace(" f(", f" {name}(", 1) for name in "gh")
    assert checked(main=main, a=one, b=two, c=PLAIN) == []


def test_a_line_that_adds_nothing_is_a_warning(checked: Checked) -> None:
    [finding] = checked(main=using("a.attn").replace(" f(", " g("), a=PLAIN)
    assert (finding.code, finding.severity.value) == ("AG506", "warning")


def test_the_same_file_twice(checked: Checked) -> None:
    main = 'use "a.attn"\n' + using("./a.attn", "f(x)").replace(" f(x[", " g(x[")
    assert [each.code for each in checked(main=main, a=PLAIN)] == ["AG155"]


@pytest.mark.parametrize("body", ["x @ y", "x @ x", "g(x)", "sum[M](x)"])
def test_a_called_formula_that_is_wrong_by_itself_is_one_finding(checked: Checked, body: str) -> None:
    used = f"attention u(x[N, D]) -> [N, D]:\n    return {body}\n"
    [finding] = checked(main=using("a.attn", "u(x) + u(x + 1)"), a=used)
    assert finding.code == "AG154"
    assert finding.facts["first"].startswith("2:")


def test_a_chain_of_faults_names_each_line(checked: Checked) -> None:
    found = checked(
        main=using("a.attn", "g(x)"), a=using("b.attn", "u(x)").replace(" f(x[", " g(x["),
        b="attention u(x[N, D]) -> [N, D]:\n    return y\n",
    )  # fmt: skip
    assert [(each.code, each.facts["first"]) for each in found] == [
        ("AG154", "1:5: `b.attn` has mistakes; the first: 2:12: `y` is not defined")
    ]


def test_every_formula_of_the_file_has_the_finding_and_it_is_shown_once(tmp_path: Path) -> None:
    path = write(tmp_path, {"main.attn": using("gone.attn") + "\n" + PLAIN.replace(" f(", " g(")})
    found = reports(path)
    assert [[each.code for each in report.diagnostics] for report in found] == [["AG001"], ["AG001"]]
    assert render(found, "concise").count("AG001") == 1
    assert "1 error" in render(found, "full")
    with pytest.raises(attngraph.FormulaError, match=r"gone\.attn"):
        attngraph.compile(path, name="g")


# -- limits --------------------------------------------------------------------------------------------


def chain(length: int) -> dict[str, str]:
    files = {f"f{i}.attn": using(f"f{i + 1}.attn", f"g{i + 1}(x)").replace(" f(", f" g{i}(", 1) for i in range(length)}
    return {**files, f"f{length}.attn": PLAIN.replace(" f(", f" g{length}(")}


@pytest.mark.parametrize(("length", "code"), [(20, None), (40, "AG154"), (99, "AG154"), (101, "AG156"), (400, "AG156")])
def test_chains(tmp_path: Path, length: int, code: str | None) -> None:
    """Beyond 32 calls the formulas are too deep, beyond 100 files there are too many."""
    assert [each.code for each in findings(write(tmp_path, chain(length)))] == ([code] if code else [])


def test_fan_out(tmp_path: Path) -> None:
    lines = "".join(f'use "f{i}.attn"\n' for i in range(150))
    files = {f"f{i}.attn": PLAIN.replace(" f(", f" g{i}(") for i in range(150)}
    found = findings(write(tmp_path, {"main.attn": f"{lines}\n{PLAIN}", **files}))
    assert {each.code for each in found} == {"AG156"}
    assert len(found) == 50


def test_much_text(tmp_path: Path) -> None:
    lines = "".join(f'use "f{i}.attn"\n' for i in range(5))
    files = {f"f{i}.attn": "#" * 450_000 + "\n" + PLAIN.replace(" f(", f" g{i}(") for i in range(5)}
    found = findings(write(tmp_path, {"main.attn": f"{lines}\n{PLAIN}", **files}))
    assert [each.code for each in found if each.code == "AG156"] == ["AG156"]


def test_doubling_calls_end_at_the_limit_of_operations(tmp_path: Path) -> None:
    files = {
        f"f{i}.attn": using(f"f{i + 1}.attn", f"g{i + 1}(x + {i}) * g{i + 1}(x - {i})").replace(" f(", f" g{i}(", 1)
        for i in range(25)
    }
    path = write(tmp_path, {**files, "f25.attn": PLAIN.replace(" f(", " g25(")})
    assert [each.code for each in findings(path)] == ["AG006"]


def test_every_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = {f"u{i}.attn": f'use "lib/kernels.attn"\n{BLOCK.partition(chr(10))[2]}' for i in range(5)}
    write(tmp_path, {**FILES, **users})
    opened: list[str] = []
    original = library.read
    monkeypatch.setattr(library, "read", lambda path: (opened.append(os.path.realpath(path)), original(path))[1])
    assert main(["check", str(tmp_path)]) == 0
    assert sorted(opened) == sorted(os.path.realpath(path) for path in tmp_path.rglob("*.attn"))


@given(st.lists(st.lists(st.integers(0, 5), max_size=4), min_size=1, max_size=6))
def test_no_arrangement_of_files_fails(edges: list[list[int]]) -> None:
    """Whatever uses what: an answer, the same one twice, and an error if and only if a line cannot be followed."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        for index, targets in enumerate(edges):
            lines = "".join(f'use "f{target}.attn"\n' for target in targets)
            calls = " + ".join([*(f"g{target}(x)" for target in dict.fromkeys(targets)), "x"])
            text = f"{lines}\nattention g{index}(x[N, D]) -> [N, D]:\n    return {calls}\n"
            (Path(folder) / f"f{index}.attn").write_text(text)
        first, second = (
            [render(reports(Path(folder) / f"f{i}.attn"), "json") for i in range(len(edges))] for _ in "ab"
        )
    assert first == second
    sound = [_sound(index, edges, ()) for index in range(len(edges))]
    assert [json.loads(text)["ok"] for text in first] == sound


def _sound(index: int, edges: list[list[int]], above: tuple[int, ...]) -> bool:
    if index >= len(edges) or index in above or len(set(edges[index])) < len(edges[index]):
        return False
    return all(_sound(target, edges, (*above, index)) for target in edges[index])


# -- where findings point ------------------------------------------------------------------------------

MISFIT = {
    "main.attn": 'use "lib/k.attn"\n\nattention f(x[N, D]) -> [N, D]:\n    where D = 7\n    return pairs(x)\n',
    "lib/k.attn": "attention pairs(x[N, D]) -> [N, D]:\n    where A = 2, B = 3\n"
    "    return merge[A, B -> D](split[D -> A, B](x))\n",
}


@pytest.fixture
def misfit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Report, ...]:
    """A formula that is right by itself, and wrong with these arguments."""
    write(tmp_path, MISFIT)
    monkeypatch.chdir(tmp_path)
    assert findings(Path("lib/k.attn")) == []
    return reports(Path("main.attn"))


def test_a_finding_inside_a_used_file_shows_both_places(misfit: tuple[Report, ...]) -> None:
    assert (
        render_diagnostics(misfit[0].diagnostics)
        == """\
error[AG303 size-mismatch]: this needs D = A*B, but they are 7 and 6
  --> lib/k.attn:3:29
   |
 3 |     return merge[A, B -> D](split[D -> A, B](x))
   |                             ^^^^^^^^^^^^^^^^^^^
  ::: main.attn:5:12
   |
 5 |     return pairs(x)
   |            -------- in this call of `pairs`"""
    )


def test_formats_name_the_file_of_each_place(misfit: tuple[Report, ...]) -> None:
    assert render(misfit, "concise").startswith("lib/k.attn:3:29: error[AG303]")
    assert render(misfit, "github").startswith("::error file=lib/k.attn,line=3,")
    [finding] = json.loads(render(misfit, "json"))["formulas"][0]["diagnostics"]
    assert (finding["path"], finding["range"]["line"]) == ("lib/k.attn", 3)
    assert [(each["path"], each["range"]["line"]) for each in finding["labels"]] == [("main.attn", 5)]
    [result] = json.loads(render(misfit, "sarif"))["runs"][0]["results"]
    places = [each["physicalLocation"] for each in (*result["locations"], *result["relatedLocations"])]
    assert [(each["artifactLocation"]["uri"], each["region"]["startLine"]) for each in places] == [
        ("lib/k.attn", 3), ("main.attn", 5),
    ]  # fmt: skip
    assert "lib/k.attn:3:29" in render(misfit, "junit")


def test_commands_follow_use_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, {**FILES, "whole.attn": WHOLE})
    monkeypatch.chdir(tmp_path)
    assert main(["check", "main.attn"]) == 0
    assert "block" in capsys.readouterr().out
    assert main(["explain", "main.attn"]) == 0
    assert "lib/kernels.attn:9:" in capsys.readouterr().out
    assert main(["latex", "main.attn"]) == 0
    assert "soft" in capsys.readouterr().out
    assert main(["simplify", "main.attn"]) == 0
    text = capsys.readouterr().out
    assert "soft(" not in text
    assert attngraph.parse(text).report.ok
    assert main(["fmt", "--check", "main.attn", "lib"]) == 0
    assert main(["equiv", "main.attn", "whole.attn"]) == 0
    assert main(["draw", "main.attn", "-o", "g.json"]) == 0
    assert main(["compile", "main.attn", "-o", "out.py"]) == 0
    capsys.readouterr()
    source = Path("out.py").read_text()
    assert "It calls soft of lib/kernels.attn:" in source
    assert "It calls unit of lib/norms.attn:" in source
    script = "import sys, torch, out\nassert 'attngraph' not in sys.modules\n"
    script += "print(out.Block()(*[torch.ones(3, 3)] * 3)[0, 0].item())"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert (run.stdout, run.returncode) == ("2.0\n", 0), run.stderr


def test_standard_input_starts_at_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, FILES)
    run = subprocess.run(
        [sys.executable, "-m", "attngraph", "check", "-"], cwd=tmp_path, input=BLOCK, capture_output=True, text=True,
        check=False, timeout=120, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout


def test_layout_of_use_lines(tmp_path: Path) -> None:
    from attngraph.grammar.parser import parse
    from attngraph.grammar.printer import format_file

    text = '# head\nuse   "a.attn"# one\n\n\n# two\nuse "b.attn"\n# of f\nattention f(x[N]) -> [N]:\n  return x\n'
    file, problems = parse(Source("t", text))
    assert problems == ()
    written = format_file(file)
    assert written == (
        '# head\nuse "a.attn"  # one\n\n# two\nuse "b.attn"\n\n# of f\nattention f(x[N]) -> [N]:\n    return x\n'
    )
    assert parse(Source("t", written))[0] == file
