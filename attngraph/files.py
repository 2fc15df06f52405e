"""Formula files on disk: which ones a command means, and writing without leaving half a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from .console import Misuse
from .settings import Settings

SUFFIX = ".attn"
STANDARD_INPUT = Path("-")


def collect(arguments: Iterable[str], settings: Settings) -> list[Path]:
    """The files that arguments mean: files as named, folders searched for *.attn without hidden folders.

    The order is that of the arguments, sorted inside a folder; a file that is reached twice counts once.
    `-` is standard input. Errors: Misuse for a path that does not exist, for a folder without formulas.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        path = Path(argument)
        if argument == "-":
            members: Iterable[Path] = [STANDARD_INPUT]
        elif path.is_dir():
            members = list(_search(path, settings))
            if not members:
                raise Misuse(f"there is no {SUFFIX} file in `{argument}`; name a file, or a folder that has some")
        elif os.path.lexists(path):
            members = [path]
        else:
            raise Misuse(f"there is no file or folder `{argument}`{_near(path)}")
        for member in members:
            found.setdefault(os.path.realpath(member) if member is not STANDARD_INPUT else "-", member)
    return list(found.values())


def _search(folder: Path, settings: Settings) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        raise Misuse(f"cannot read the folder `{error.filename}`: {error.strerror}")

    for root, folders, names in os.walk(folder, onerror=unreadable):
        here = Path(root)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not settings.excludes(here / f))
        for name in sorted(names):
            if name.endswith(SUFFIX) and not name.startswith(".") and not settings.excludes(here / name):
                yield here / name


def _near(path: Path) -> str:
    """`; did you mean ...?`, if something beside the missing path is called like it."""
    from difflib import get_close_matches

    try:
        siblings = sorted(each.name for each in path.parent.iterdir())
    except OSError:
        return "; the folder it should be in cannot be read either"
    near = get_close_matches(path.name, siblings, n=9)
    near = [name for name in near if get_close_matches(path.stem, [Path(name).stem])]  # the ending alone says nothing
    return f"; did you mean `{path.with_name(near[0])}`?" if near else ""


def replace_text(path: Path, text: str) -> None:
    """Write a text so that the file holds the old text or the new one, never a part; links stay links.

    Errors: Misuse with the reason of the operating system.
    """
    replace_file(path, lambda temporary: temporary.write_bytes(text.encode("utf-8")))


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file of the same suffix beside the path, then put it in its place."""
    import tempfile

    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file():  # a device or a pipe is written to, and never replaced
            with tempfile.TemporaryDirectory() as folder, target.open("wb") as stream:
                temporary = Path(folder) / path.name
                write(temporary)
                stream.write(temporary.read_bytes())
            return
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".attngraph-", suffix=target.suffix)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            temporary.chmod(target.stat().st_mode & 0o7777 if target.exists() else 0o666 & ~_umask())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise Misuse(f"cannot write `{path}`: {error.strerror}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
