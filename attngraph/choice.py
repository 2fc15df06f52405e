"""Which formula of a text is meant: one rule for the Python interface and the command line."""

from __future__ import annotations

from collections.abc import Sequence

from .settings import suggest


class ChoiceError(LookupError):
    """No formula, or more than one, is meant; the message says what there is."""


def choose(names: Sequence[str], wanted: str | None, where: str, stem: str | None = None) -> str:
    """The formula of that name; without one the only formula of the text, or the one that is named as its file.

    names: those of the text, at least one. where: how the text is called in messages. Errors: ChoiceError.
    """
    if wanted is not None:
        if wanted in names:
            return wanted
        raise ChoiceError(f"there is no formula `{wanted}` in {where}; {suggest(wanted, names)}")
    different = list(dict.fromkeys(names))
    if len(different) == 1:
        return different[0]
    if stem in different:
        return stem or different[0]
    raise ChoiceError(f"{where} has {len(different)} formulas; name one: {', '.join(different)}")
