"""Settings of a project: the table `[tool.attngraph]` of its pyproject.toml.

    [tool.attngraph]
    require = ["linear"]          # claims that every formula must keep
    format = "concise"            # how `check` reports
    ignore = ["AG501"]            # warnings that are not wanted
    exclude = ["drafts", "*_old.attn"]
    warnings-as-errors = true

The nearest pyproject.toml that has the table counts, from the current folder upwards. Options of the
command line win. A file that is named on the command line is checked even where `exclude` matches it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from .grammar.codes import CODES

FORMAT_NAMES = ("full", "concise", "json", "sarif", "github", "junit")


class SettingsError(ValueError):
    """Settings that cannot be used; the message says which, why and what to write instead."""


@dataclass(frozen=True)
class Settings:
    """What a project asks for. folder: where `exclude` patterns start."""

    require: tuple[str, ...] = ()
    format: str = "full"
    ignore: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    warnings_as_errors: bool = False
    folder: Path = Path()

    def excludes(self, path: Path) -> bool:
        """Whether a pattern matches the path below `folder`, or one of its parts."""
        try:
            inside = path.absolute().relative_to(self.folder.absolute())
        except ValueError:
            return False
        return any(
            fnmatchcase(inside.as_posix(), pattern.rstrip("/"))
            or any(fnmatchcase(part, pattern.rstrip("/")) for part in inside.parts)
            or inside.is_relative_to(pattern)
            for pattern in self.exclude
        )


def suggest(word: str, choices: Iterable[str]) -> str:
    """`; did you mean `check`?`, or what there is to choose from, in an order that does not change."""
    from difflib import get_close_matches

    known = sorted(choices)
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else f"known: {', '.join(known)}"


def load_settings(start: Path) -> Settings:
    """The settings that hold in a folder. Errors: SettingsError."""
    for folder in (start.absolute(), *start.absolute().parents):
        path = folder / "pyproject.toml"
        if path.is_file():
            table = _table(path)
            if table is not None:
                return _settings(path, table)
    return Settings()


def _table(path: Path) -> Mapping[str, object] | None:
    import tomllib

    try:
        text = path.read_text(encoding="utf-8")
        if "attngraph" not in text:  # most projects: not worth parsing
            return None
        data = tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error
    tool = data.get("tool")
    table = tool.get("attngraph") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise SettingsError(f"{path}: `tool.attngraph` must be a table")
    return table


_KEYS = ("require", "format", "ignore", "exclude", "warnings-as-errors")


def _settings(path: Path, table: Mapping[str, object]) -> Settings:
    for key in table:
        if key not in _KEYS:
            raise SettingsError(f"{path}: unknown key `{key}` in [tool.attngraph]; {suggest(key, _KEYS)}")

    def strings(key: str) -> tuple[str, ...]:
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise SettingsError(f"{path}: `{key}` must be a list of strings")
        return tuple(value)

    form = table.get("format", "full")
    if not isinstance(form, str) or form not in FORMAT_NAMES:
        raise SettingsError(f"{path}: `format` cannot be {form!r}; {suggest(str(form), FORMAT_NAMES)}")
    strict = table.get("warnings-as-errors", False)
    if not isinstance(strict, bool):
        raise SettingsError(f"{path}: `warnings-as-errors` must be true or false")
    try:
        ignore = check_ignored(strings("ignore"))
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error
    return Settings(strings("require"), form, ignore, strings("exclude"), strict, path.parent)


def check_ignored(codes: Iterable[str]) -> tuple[str, ...]:
    """The codes, if each names a warning. Errors: SettingsError."""
    held = tuple(codes)
    warnings = [code for code, entry in CODES.items() if entry.severity != "error"]
    for code in held:
        if code not in CODES:
            raise SettingsError(f"there is no code `{code}` to ignore; {suggest(code, warnings or ('none',))}")
        if code not in warnings:
            raise SettingsError(f"{code} {CODES[code].name} is an error and cannot be ignored, only warnings can")
    return held
