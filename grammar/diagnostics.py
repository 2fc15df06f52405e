"""What the project says about a formula: diagnostics as data.

A phase states a code, a place and facts. The words live in one table (`codes.py`), the layout in
the renderers (`attngraph/report.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from .codes import CODES
from .source import Source, Span


class Severity(Enum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Label:
    """A second place that explains the first, with a few words beside it."""

    span: Span
    text: str


class _Fact(str):
    """A fact as a template fills it in; `{given:is|are}` is the word that goes with its number."""

    def __format__(self, words: str) -> str:
        if "|" not in words:
            return super().__format__(words)
        one, many = words.split("|")
        return one if self == "1" else many


@dataclass(frozen=True)
class Diagnostic:
    """One finding.

    code: an entry of `codes.CODES`.
    span: the place to underline.
    facts: the values that the headline and the help of the code speak of.
    labels: further places; the primary span may carry a label of its own.
    help: overrides the help of the code when the phase knows a sure fix.
    source: the text that the spans belong to (filled in by the driver).
    """

    code: str
    span: Span
    facts: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[Label, ...] = ()
    help: str | None = None
    source: Source | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "facts", MappingProxyType({k: str(v) for k, v in self.facts.items()}))

    @property
    def severity(self) -> Severity:
        return Severity(CODES[self.code].severity)

    @property
    def name(self) -> str:
        """The words of the code, as `contraction-mismatch`."""
        return CODES[self.code].name

    @property
    def message(self) -> str:
        """The headline, which stands alone."""
        return self._filled(CODES[self.code].headline)

    @property
    def suggestion(self) -> str | None:
        """What to do about it, when that is sure."""
        if self.help is not None:
            return self.help
        template = CODES[self.code].help
        return self._filled(template) if template else None

    def _filled(self, template: str) -> str:
        return template.format_map({name: _Fact(value) for name, value in self.facts.items()})


class FormulaError(Exception):
    """A text that cannot be used; carries every diagnostic that was found.

    text: the findings as a reader sees them; without it one line each.
    """

    def __init__(self, diagnostics: tuple[Diagnostic, ...], text: str | None = None) -> None:
        self.diagnostics = diagnostics
        super().__init__(text or "\n".join(f"[{d.code} {d.name}] {d.message}" for d in diagnostics))

    @staticmethod
    def plain(text: str) -> FormulaError:
        """A failure that is no finding about a text: a name that is not in it."""
        return FormulaError((), text)
