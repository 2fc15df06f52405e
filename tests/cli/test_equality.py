"""`attngraph equiv` and `attngraph simplify` from the outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from attngraph import cli

TEXT = """attention a(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    return (q @ k^T) @ v

attention b(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    return q @ (k^T @ v)

attention same(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    return (q @ k^T + 0) @ v

attention t(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    return ((1 + tanh(q)) / 2) @ (k^T @ v)

attention u(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    return (sigmoid(2 * q) @ k^T) @ v

attention c(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    return q @ (k^T @ v) + where(N > 40, 1, 0)

attention r(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    return (sign(q) * abs(q)) @ (k^T @ v)

attention wrong(q[N, D], k[M, D]) -> [N, M]:
    return q @ k
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.attn"
    path.write_text(TEXT, encoding="utf-8")
    return path


def equiv(file: Path, left: str, right: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = cli.main(["equiv", f"{file}:{left}", f"{file}:{right}"])
    return code, capsys.readouterr().out


def test_a_proof_for_all_sizes(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = equiv(file, "a", "same", capsys)
    assert code == 0
    assert out.startswith("proved for all sizes: a and same")


def test_another_order_of_sums_is_proved_for_all_sizes(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = equiv(file, "a", "b", capsys)
    assert code == 0
    assert out.startswith("proved for all sizes: a and b, by sums of products")


def test_a_proof_names_its_sizes(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = equiv(file, "t", "u", capsys)
    assert code == 0
    assert out.startswith("proved at the sizes below: t and u")
    assert "at N = 3, D = 2" in out


def test_a_difference_shows_an_example(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = equiv(file, "a", "c", capsys)
    assert code == 1
    assert out.startswith("different: a and c")
    assert "N = 41" in out
    assert "seed" in out


def test_doubt_is_no_proof(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = equiv(file, "a", "r", capsys)
    assert code == 1
    assert out.startswith("unknown: a and r")
    assert "`abs`, `sign`" in out


def test_mistakes_and_misuse(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert equiv(file, "a", "wrong", capsys)[0] == 1
    assert equiv(file, "a", "missing", capsys)[0] == 2


def test_steps_are_comments(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simplify", str(file), "same", "--explain"]) == 0
    out = capsys.readouterr().out
    assert "# 1. sum with zero" in out
    assert "because adding 0 changes nothing" in out
    assert out.rstrip().endswith("return q @ k^T @ v")
