r"""The LaTeX that `latex.py` prints, as MathML, which browsers draw without scripts and fonts.

The commands below are all that the printer uses; another one is an error, so that no page shows raw LaTeX. Rows of the
`aligned` environment become rows of a table.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape

TOKEN = re.compile(r"\\begin\{(\w+)\}|\\end\{(\w+)\}|\\\\|\\[A-Za-z]+|\\.|\d+(?:\.\d*)?|\.\d+|[A-Za-z]|\S")

LETTERS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ϵ", "zeta": "ζ", "eta": "η", "theta": "θ",
    "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ",
    "tau": "τ", "upsilon": "υ", "phi": "ϕ", "chi": "χ", "psi": "ψ", "omega": "ω", "varepsilon": "ε", "infty": "∞",
    "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Xi": "Ξ", "Pi": "Π", "Sigma": "Σ", "Upsilon": "Υ", "Phi": "Φ",
    "Psi": "Ψ", "Omega": "Ω", "top": "⊤",
}  # fmt: skip
SIGNS = {
    "odot": "⊙", "cdot": "⋅", "neg": "¬", "vee": "∨", "wedge": "∧", "neq": "≠", "leq": "≤", "geq": "≥", "to": "→",
    "leftarrow": "←", "colon": ":", "dots": "…",
}  # fmt: skip
LARGE = {"sum": "∑", "prod": "∏", "bigvee": "⋁", "bigwedge": "⋀"}
"""Operators whose index stands below."""
LIMITS = {"max", "min"}
"""Functions whose index stands below."""
FUNCTIONS = {"exp", "log", "sin", "cos", "tan", "tanh", "sinh", "cosh", "arctan", *LIMITS}
FENCES = {"lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "Vert": "‖"}
SPACES = {",": '<mspace width="0.17em"/>', "quad": '<mspace width="1em"/>'}


def mathml(latex: str) -> str:
    """One `<math>` element, displayed. Errors: ValueError for LaTeX that the printer does not write."""
    reader = _Reader([match[0] for match in TOKEN.finditer(latex)])
    body = reader.row(lambda token: False)
    return f'<math display="block">{body}</math>'


class _Reader:
    """Tokens read from left to right."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, wanted: str | None = None) -> str:
        token = self.peek()
        if not token or (wanted is not None and token != wanted):
            raise ValueError(f"LaTeX has {token or 'its end'!r} in the place of {wanted or 'more'!r}")
        self.at += 1
        return token

    def row(self, ends: Callable[[str], bool]) -> str:
        """What stands side by side up to a token that ends it."""
        items = []
        while self.peek() and not ends(self.peek()):
            items.append(self.scripted())
        return items[0] if len(items) == 1 else f"<mrow>{''.join(items)}</mrow>"

    def group(self) -> str:
        self.take("{")
        inner = self.row(lambda token: token == "}")
        self.take("}")
        return inner

    def raw(self) -> str:
        """The letters of `{...}`, as they are."""
        self.take("{")
        word = ""
        while self.peek() != "}":
            word += self.take().removeprefix("\\")
        self.take("}")
        return word

    def scripted(self) -> str:
        """A piece with what stands above and below it."""
        below = self.peek().removeprefix("\\") in LARGE.keys() | LIMITS
        base = self.piece()
        scripts: dict[str, str] = {}
        while self.peek() in ("_", "^"):
            sign = self.take()
            scripts[sign] = self.group()
        match scripts:
            case {"_": low, "^": high}:
                return f"<msubsup>{base}{low}{high}</msubsup>"
            case {"_": low}:
                tag = "munder" if below else "msub"
                return f"<{tag}>{base}{low}</{tag}>"
            case {"^": high}:
                return f"<msup>{base}{high}</msup>"
        return base

    def piece(self) -> str:
        if self.peek() == "{":
            return self.group()
        token = self.take()
        name = token.removeprefix("\\")
        if token.startswith("\\begin"):
            return self.table(token[len("\\begin{") : -1])
        if not token.startswith("\\"):
            if token[0].isdigit() or token[0] == ".":
                return f"<mn>{token}</mn>"
            return f"<mi>{token}</mi>" if token.isalpha() else f"<mo>{escape('−' if token == '-' else token)}</mo>"
        match name:
            case "frac":
                return f"<mfrac>{self.group()}{self.group()}</mfrac>"
            case "sqrt":
                return f"<msqrt>{self.group()}</msqrt>"
            case "mathrm":
                return f'<mi mathvariant="normal">{escape(self.raw())}</mi>'
            case "text":
                return f"<mtext>{escape(self.raw())}&#160;</mtext>"
            case "left":
                opening = self.take()
                inner = self.row(lambda token: token == "\\right")
                self.take("\\right")
                tall = re.search(r"<(mfrac|mtable|munder|msqrt)", inner) is not None
                return f"<mrow>{_fence(opening, tall)}{inner}{_fence(self.take(), tall)}</mrow>"
            case "textbf":
                return f'<mtext class="strong">{escape(self.raw())}&#160;</mtext>'
            case "bmod":
                return "<mo>mod</mo>"
        if name in SPACES:
            return SPACES[name]
        if name in LETTERS:
            return f"<mi>{LETTERS[name]}</mi>"
        if name in SIGNS:
            return f"<mo>{SIGNS[name]}</mo>"
        if name in LARGE:
            return f'<mo largeop="true" movablelimits="false">{LARGE[name]}</mo>'
        if name in FUNCTIONS:
            return f"<mi>{name}</mi>"
        raise ValueError(f"no MathML is known for {token!r}")

    def table(self, environment: str) -> str:
        """`aligned`: equations below each other, their signs in line; `cases`: alternatives behind a brace."""
        if environment not in ("aligned", "cases"):
            raise ValueError(f"no MathML is known for the environment {environment!r}")
        end = f"\\end{{{environment}}}"
        rows: list[list[str]] = [[]]
        while True:
            rows[-1].append(self.row(lambda token: token in ("&", "\\\\", end)))
            token = self.take()
            if token == end:
                break
            if token == "\\\\":
                rows.append([])
        cells = "".join(f"<mtr>{''.join(f'<mtd>{cell}</mtd>' for cell in row)}</mtr>" for row in rows)
        table = f'<mtable class="{environment}">{cells}</mtable>'
        return table if environment == "aligned" else f"<mrow>{_fence('{', True)}{table}</mrow>"


def _fence(token: str, tall: bool) -> str:
    """A bracket, as high as what it holds if that is higher than a line."""
    sign = escape(FENCES.get(token.removeprefix("\\"), token))
    return f'<mo fence="true" stretchy="{str(tall).lower()}">{sign}</mo>'
