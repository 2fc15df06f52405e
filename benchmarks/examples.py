"""The example formulas by name: which file of examples/ holds a formula. Tests and benchmarks ask here."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "examples"
FILES = tuple(sorted(FOLDER.rglob("*.attn"), key=lambda path: path.stem))


@cache
def _by_formula() -> dict[str, Path]:
    heads = re.compile(r"^attention (\w+)", re.MULTILINE)
    return {name: path for path in FILES for name in heads.findall(path.read_text(encoding="utf-8"))}


def find(name: str) -> Path:
    """The file that holds the example formula of this name. Errors: KeyError if there is none."""
    return _by_formula()[name]


def names() -> tuple[str, ...]:
    """Every example formula, sorted."""
    return tuple(sorted(_by_formula()))
