"""The files of one run, and what the `use` lines of each make known: every file is read and parsed once.

Only what a file uses itself is known in it, not what the used file uses in its turn. A `use` line that cannot be
followed is a finding of every formula of its file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from ..grammar import ast
from ..grammar.diagnostics import Diagnostic, Label, Severity
from ..grammar.names import shown
from ..grammar.parser import MAX_TEXT, parse
from ..grammar.source import NOWHERE, Source
from .definitions import Definition, own_definitions, placed
from .scope import did_you_mean

MAX_BYTES = 4 * MAX_TEXT + 3  # a character is four bytes at most, and a mark of the encoding three
MAX_FILES = 100  # that the `use` lines of a file lead to, one way or another
MAX_CHARACTERS = 2_000_000  # in all of them
MAX_ENTRIES = 1_000  # of a folder that are looked at for a suggestion
PROJECT_MARKS = ("pyproject.toml", ".git")

Parsed = tuple[ast.File, tuple[Diagnostic, ...]]
Visible = tuple[Mapping[str, Definition], tuple[Diagnostic, ...]]
Target = tuple[ast.Use, Source | Diagnostic]


def read(path: Path) -> Source | Diagnostic:
    """The text of a file, or why it cannot be read."""
    shown_as = Source(str(path), "")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        facts = {"path": str(path), "reason": error.strerror or str(error)}
        return Diagnostic("AG001", NOWHERE, facts, source=shown_as)
    if len(content) > MAX_BYTES:
        return Diagnostic("AG003", NOWHERE, {"size": f"over {MAX_TEXT}", "limit": str(MAX_TEXT)}, source=shown_as)
    try:
        return Source(str(path), content.decode("utf-8-sig"), path.parent)
    except UnicodeDecodeError as error:
        return Diagnostic("AG002", NOWHERE, {"path": str(path), "offset": str(error.start)}, source=shown_as)


class Library:
    """What has been read in one run."""

    def __init__(self) -> None:
        self._read: dict[str, Source | Diagnostic] = {}
        self._parsed: dict[Source, Parsed] = {}
        self._visible: dict[tuple[Source, bool], Visible] = {}
        self._targets: dict[Source, tuple[Target, ...]] = {}

    def read(self, path: Path) -> Source | Diagnostic:
        """The text of a file, or why it cannot be read. A file is read once, by whatever path it is reached."""
        key = os.path.realpath(path)
        if key not in self._read:
            self._read[key] = read(path)
        return self._read[key]

    def parsed(self, source: Source) -> Parsed:
        """The tree of a text and what is wrong with it."""
        if source not in self._parsed:
            self._parsed[source] = parse(source)
        return self._parsed[source]

    def visible(self, source: Source, *, foreign: bool = False) -> Visible:
        """Every formula that the formulas of a text may call, by name, and what is wrong with its `use` lines.

        foreign: for a text that another one uses; places in it then name their text.
        """
        key = (source, foreign)
        if key not in self._visible:
            self._visible[key] = self._resolved(source, foreign)
        return self._visible[key]

    def _resolved(self, source: Source, foreign: bool) -> Visible:
        file, _ = self.parsed(source)
        known = own_definitions(file, source, foreign=foreign)
        problems: list[Diagnostic] = []
        seen: dict[str, ast.Use] = {}
        reached: dict[str, Source] = {}
        for use, found in self._followed(source):
            if isinstance(found, Diagnostic):
                problems.append(found)
                continue
            first = seen.setdefault(_key(found), use)
            if first is not use:
                label = Label(first.path_span, "the first time")
                problems.append(Diagnostic("AG155", use.path_span, {"path": use.path}, (label,)))
                continue
            lost = self._within_limits(use, found, reached) or self._circle(source, use, found)
            if lost is not None:
                problems.append(lost)
                continue
            visible, inside = self.visible(found, foreign=True)
            mistakes = (d for d in (*self.parsed(found)[1], *inside) if d.severity is Severity.ERROR)
            problems += [faulty(use, found, mistake) for mistake in mistakes][:1]
            for name, each in visible.items():
                if each.use is None:  # its own, not what it uses in its turn
                    taken = known.get(name)
                    if taken is not None:
                        problems.append(_clash(use, name, taken))
                    else:
                        line: ast.Use = placed(use, source) if foreign else use
                        known[name] = replace(each, use=line)
        return known, tuple(problems)

    def _followed(self, source: Source) -> tuple[Target, ...]:
        """The `use` lines of a text, each with the file that it names or why that cannot be had."""
        if source not in self._targets:
            uses = self.parsed(source)[0].uses
            self._targets[source] = tuple((use, self._target(source, use)) for use in uses)
        return self._targets[source]

    def _target(self, source: Source, use: ast.Use) -> Source | Diagnostic:
        facts = {"path": use.path}
        refused = _unusable(source.folder, use.path)
        if refused is not None:
            reason, help = refused
            return Diagnostic("AG152", use.path_span, {"path": shown(use.path, 80), "reason": reason}, help=help)
        path = Path(os.path.normpath((source.folder or Path()) / use.path))
        try:
            mode = path.stat().st_mode
        except OSError as error:
            facts["reason"] = error.strerror or str(error)
            return Diagnostic("AG001", use.path_span, facts, help=_near(path, use.path, source))
        if not stat.S_ISREG(mode):  # reading a pipe might wait for ever
            facts["reason"] = "it is a folder" if stat.S_ISDIR(mode) else "it is no file"
            return Diagnostic("AG001", use.path_span, facts)
        found = self.read(path)
        if isinstance(found, Source):
            return found
        if found.code == "AG001":
            return Diagnostic("AG001", use.path_span, {**found.facts, **facts})
        return Diagnostic("AG154", use.path_span, {**facts, "file": str(path), "first": found.message})

    def _edges(self, source: Source) -> Iterator[Source]:
        """The files that a text uses, as far as they can be read."""
        return (found for _, found in self._followed(source) if isinstance(found, Source))

    def _within_limits(self, use: ast.Use, first: Source, reached: dict[str, Source]) -> Diagnostic | None:
        """Follow every line from a used file on. reached: what earlier lines have led to; it grows."""
        waiting = [first]
        while waiting:
            source = waiting.pop()
            if _key(source) in reached:
                continue
            reached[_key(source)] = source
            characters = sum(len(each.text) for each in reached.values())
            counts = ((len(reached), MAX_FILES, "files"), (characters, MAX_CHARACTERS, "characters"))
            for count, limit, what in counts:
                if count > limit:
                    facts = {"path": use.path, "limit": f"{limit:,}", "what": what}
                    return Diagnostic("AG156", use.path_span, facts)
            waiting += self._edges(source)
        return None

    def _circle(self, source: Source, use: ast.Use, first: Source) -> Diagnostic | None:
        """Whether a used file leads back to the text, and by the shortest way."""
        home = _key(source)
        ways: dict[str, tuple[Source, ...]] = {_key(first): (first,)}
        waiting = [first]
        for here in waiting:
            way = ways[_key(here)]
            if _key(here) == home:
                chain = " uses ".join(f"`{os.path.basename(each.name)}`" for each in (source, *way))
                return Diagnostic("AG153", use.path_span, {"path": use.path, "chain": chain})
            for following in self._edges(here):
                if _key(following) not in ways:
                    ways[_key(following)] = (*way, following)
                    waiting.append(following)
        return None


def faulty(use: ast.Use, used: Source, first: Diagnostic) -> Diagnostic:
    """The finding at a `use` line for a mistake in the used file."""
    source = used.of(first.span)
    line, column = source.position(first.span.start)
    facts = {"path": use.path, "file": used.name, "first": f"{line}:{column}: {first.message}"}
    return Diagnostic("AG154", use.path_span, facts)


def _clash(use: ast.Use, name: str, taken: Definition) -> Diagnostic:
    if taken.use is not None:
        other, label = f"`{taken.use.path}`", Label(taken.use.path_span, "the other file")
    else:
        other, label = "this file", Label(taken.written.name_span, "the other formula")
    return Diagnostic("AG157", use.path_span, {"path": use.path, "name": name, "other": other}, (label,))


def _key(source: Source) -> str:
    """What tells files apart, whatever path they are reached by."""
    return os.path.realpath((source.folder or Path()) / os.path.basename(source.name))


def _unusable(folder: Path | None, path: str) -> tuple[str, str | None] | None:
    """Why a path is not even looked for, and what to write instead; None when it is."""
    if folder is None:
        return "this text stands in no folder", "pass `folder=` with the text, or save it to a file"
    if not path.isprintable():
        return "it has a character that cannot be shown", None
    if "\\" in path:
        return "folders are separated by `/`", f"write `{path.replace(chr(92), '/')}`"
    here = os.path.abspath(folder)
    root = _project(here)
    inside = os.path.commonpath([root or here, os.path.abspath(folder / path)]) == (root or here)
    if os.path.isabs(path):
        near = f"write `{os.path.relpath(path, here)}`" if inside else None
        return "it is absolute, but paths start at the folder of this file", near
    if not inside:
        edge = "a folder with a pyproject.toml or .git above the file would be the edge instead"
        return f"it leaves `{root or here}`", None if root else edge
    return None


def _project(folder: str) -> str | None:
    """The nearest folder with a mark of a project, which `use` lines cannot leave."""
    here = folder
    while True:
        if any(os.path.exists(os.path.join(here, mark)) for mark in PROJECT_MARKS):
            return here
        above = os.path.dirname(here)
        if above == here:
            return None
        here = above


def _near(path: Path, written: str, user: Source) -> str | None:
    """A file that was probably meant by a path at which there is none; never the one that holds the path."""
    try:
        with os.scandir(path.parent) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith(".attn"))[:MAX_ENTRIES]
    except OSError:
        return f"there is no folder `{os.path.dirname(written)}` beside this file"
    names = [name for name in names if os.path.realpath(path.parent / name) != _key(user)]
    name = f"{path.name}.attn" if f"{path.name}.attn" in names else did_you_mean(path.name, names, "{}")
    return f"did you mean `{os.path.join(os.path.dirname(written), name)}`?" if name else None
