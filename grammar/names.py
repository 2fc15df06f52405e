"""Names: which may be declared, which were probably meant, and how foreign letters are spelt in ASCII."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterable

LANGUAGE_WORDS = frozenset({
    "attention", "where", "require", "sequence", "const", "param", "buffer", "return",
    "and", "or", "not", "use", "scan",
})  # fmt: skip
CONSTANTS = frozenset({"pi", "inf"})
# What tensor libraries call a function for, and how a formula says it.
FOREIGN_FUNCTIONS = {
    **dict.fromkeys(("transpose", "permute", "swapaxes"), "a transpose is written `x^T`; axes meet by name"),
    **dict.fromkeys(("matmul", "bmm", "mm", "dot", "einsum"), "a contraction is written `x @ y`, or `sum[D](x * y)`"),
    **dict.fromkeys(("view", "reshape", "rearrange"), "use `split[N -> A, B](x)` or `merge[A, B -> N](x)`"),
    **dict.fromkeys(("cat", "hstack"), "use `concat[N, M -> L](x, y)`"),
    **dict.fromkeys(("squeeze", "unsqueeze", "expand"), "axes meet by name; none is inserted or removed for it"),
    "masked_fill": "write `where(condition, x, y)`",
    "tril": "write `where(pos(N) >= pos(M), x, 0)`",
    "triu": "write `where(pos(N) <= pos(M), x, 0)`",
    "arange": "positions are written `pos(N)`",
    **dict.fromkeys(
        ("normal", "uniform", "randn", "rand"), "random numbers are initial values: `param w[D] = normal(0.02)`"
    ),
    **dict.fromkeys(("zeros", "ones", "full"), "a number meets every axis: write `0` or `1`"),
}
# Words of the language only where a line starts with them and another name follows.
LINE_WORDS = {"scan": "SCAN", "state": "STATE", "yield": "YIELD"}
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def why_reserved(name: str) -> tuple[str, str] | None:
    """Why a name cannot be declared, and a name to use instead; None when it can be."""
    if name in LANGUAGE_WORDS:
        return "it is a word of the language", f"{name}_"
    if name in CONSTANTS:
        return "it is a constant of the language", f"{name}_"
    if keyword.iskeyword(name):
        return "it is a keyword of Python, and the generated module uses your names", f"{name.lower()}_"
    if name.startswith("_"):
        return "names that start with an underscore are kept for generated code", name.strip("_") or "x"
    if name == "T":
        return "`^T` is the transpose", "L"
    return None


def edit_distance(left: str, right: str, limit: int) -> int:
    """Insertions, deletions, substitutions and swaps of neighbours between two words, or limit + 1 if there are more.

    (Optimal string alignment; the words are short.)
    """
    if abs(len(left) - len(right)) > limit:
        return limit + 1
    before: list[int] = []
    previous = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        current = [i]
        for j, b in enumerate(right, start=1):
            cost = min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            current.append(cost)
        before, previous = previous, current
    return min(previous[-1], limit + 1)


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` most probably misspells, or None.

    One edit is allowed for words of up to four letters, two for longer ones, three from nine letters on; case does
    not count. Ties go to the first in alphabetical order, so that the answer does not depend on the order of a set.
    """
    limit = 1 if len(name) <= 4 else 2 if len(name) <= 8 else 3
    best: tuple[int, str] | None = None
    for candidate in sorted(candidates):
        distance = edit_distance(name.lower(), candidate.lower(), limit)
        if distance <= limit and distance < len(candidate) and (best is None or distance < best[0]):
            best = (distance, candidate)
    return best[1] if best else None


# Letters of other scripts that look exactly like an ASCII letter (Cyrillic, then Greek). What a reader sees is what
# was meant, so these win over the name of the letter.
_TWINS = str.maketrans(
    "аеорсухіѕјԁԛԝһАВЕКМНОРСТУХІЅЈ" + "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧο",
    "aeopcyxisjdqwhABEKMHOPCTYXISJ" + "ABEZHIKMNOPTYXo",
)
_GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER (?:FINAL )?([A-Z]+)")
_SPELT_OTHERWISE = {"LAMDA": "lam"}  # `lambda` is a keyword of Python
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")


def ascii_name(word: str) -> str | None:
    """The ASCII name that stands for a word with foreign letters (`α` -> `alpha`, `é` -> `e`), or None."""
    spelt: list[str] = []
    for letter in unicodedata.normalize("NFKC", word).translate(_TWINS):
        greek = _GREEK.match(unicodedata.name(letter, ""))
        if greek:
            name = _SPELT_OTHERWISE.get(greek[2], greek[2].lower())
            spelt.append(name if greek[1] == "SMALL" else name.capitalize())
        else:
            spelt.append("".join(c for c in unicodedata.normalize("NFD", letter) if not unicodedata.combining(c)))
    name = "".join(spelt)
    return name if IDENTIFIER.match(name) else None


def superscript(word: str) -> tuple[str, str] | None:
    """`x²` as (`x`, `2`): a word and the power that stands behind it, or None."""
    stem = word.rstrip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺")
    power = word[len(stem) :]
    return (stem, power.translate(_SUPERSCRIPTS)) if power else None


def describe(character: str) -> str:
    """The Unicode name and number of a character: `GREEK SMALL LETTER ALPHA, U+03B1`."""
    number = f"U+{ord(character):04X}"
    name = unicodedata.name(character, "")
    return f"{name}, {number}" if name else number


def shown(text: str, limit: int = 40) -> str:
    """A text as a message can show it: on one line, printable, not longer than limit characters."""
    printable = "".join(c if c.isprintable() else " " if c.isspace() else f"U+{ord(c):04X}" for c in text[: limit + 1])
    return printable if len(printable) <= limit else printable[: limit - 3] + "..."
