"""Settings of a project, and the words for settings that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from attngraph.settings import Settings, SettingsError, check_ignored, load_settings, suggest


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    return folder


def test_no_file_means_no_wishes(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, "[project]\nname = 'x'\n")) == load_settings(tmp_path.parent) == Settings()


def test_every_key(tmp_path: Path) -> None:
    write(
        tmp_path,
        '[tool.attngraph]\nrequire = ["linear"]\nformat = "concise"\nignore = ["AG501"]\n'
        'exclude = ["drafts"]\nwarnings-as-errors = true\n',
    )
    assert load_settings(tmp_path) == Settings(("linear",), "concise", ("AG501",), ("drafts",), True, tmp_path)


def test_nearest_table_counts(tmp_path: Path) -> None:
    write(tmp_path, "[tool.attngraph]\nformat = 'json'\n")
    inner = write(tmp_path / "a", "[project]\nname = 'no table of ours, although it names attngraph'\n")
    assert load_settings(inner).format == "json"
    nearer = write(tmp_path / "a" / "b", "[tool.attngraph]\nformat = 'github'\n")
    assert load_settings(nearer).format == "github"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.attngraph]\nrequired = []\n", "unknown key `required` in [tool.attngraph]; did you mean `require`?"),
        ("[tool.attngraph]\nformat = 'jsn'\n", "`format` cannot be 'jsn'; did you mean `json`?"),
        ("[tool.attngraph]\nformat = 3\n", "`format` cannot be 3; known: concise, full, github, json, junit, sarif"),
        ("[tool.attngraph]\nrequire = 'linear'\n", "`require` must be a list of strings"),
        ("[tool.attngraph]\nexclude = [1]\n", "`exclude` must be a list of strings"),
        ("[tool.attngraph]\nwarnings-as-errors = 1\n", "`warnings-as-errors` must be true or false"),
        ("[tool.attngraph]\nignore = ['AG201']\n", "AG201 contraction-mismatch is an error and cannot be ignored"),
        ("[tool.attngraph]\nignore = ['AG5O8']\n", "there is no code `AG5O8` to ignore; did you mean `AG508`?"),
        ("[tool]\nattngraph = 3\n", "`tool.attngraph` must be a table"),
        ("[tool.attngraph\n", "is not valid TOML"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(write(tmp_path, text))
    assert message in str(caught.value)
    assert str(tmp_path / "pyproject.toml") in str(caught.value)


def test_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="is not UTF-8 text"):
        load_settings(tmp_path)


def test_patterns(tmp_path: Path) -> None:
    settings = Settings(exclude=("drafts/", "*_old.attn", "a/b"), folder=tmp_path)
    assert settings.excludes(tmp_path / "drafts")
    assert settings.excludes(tmp_path / "x" / "drafts" / "f.attn")
    assert settings.excludes(tmp_path / "x" / "f_old.attn")
    assert settings.excludes(tmp_path / "a" / "b" / "f.attn")
    assert not settings.excludes(tmp_path / "a" / "c" / "f.attn")
    assert not settings.excludes(tmp_path.parent / "drafts")


def test_suggestions_are_sure_or_complete() -> None:
    assert suggest("chek", ["check", "fmt"]) == "did you mean `check`?"
    assert suggest("zzz", ["fmt", "check"]) == "known: check, fmt"


def test_only_warnings_can_be_ignored() -> None:
    assert check_ignored(["AG501", "AG502"]) == ("AG501", "AG502")
