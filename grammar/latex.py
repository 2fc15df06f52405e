r"""Syntax tree to LaTeX, as a paper would print the formula.

One line per constant, local function and bound name, and a last line for the result, in an `aligned` environment (which
stands inside `\[ ... \]` or `equation`; it needs amsmath). A scan is a loop whose states are given new values. Axes
become lower-case indices: `sum[M](x)` is `\sum_{m} x`, `pos(N)` is `n`. All names come from the tree, whose names are
ASCII identifiers, so that nothing has to be escaped but `_`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from .ast import (
    Assign,
    Axis,
    AxisMap,
    Binary,
    Buffer,
    Call,
    Const,
    Expression,
    Formula,
    Function,
    Name,
    Number,
    Param,
    Rename,
    Return,
    Scan,
    State,
    Statement,
    Tensor,
    Transpose,
    Unary,
    Yield,
)

# How tightly a piece of LaTeX binds. BIG is a product that ends in a big operator: nothing may follow it unbracketed.
# ODOT is an elementwise product of tensors, PRODUCT what stands side by side: `(A odot B) v` needs its parentheses.
_OR, _AND, _NOT, _COMPARISON, _SUM, _BIG, _ODOT, _PRODUCT, _POWER, _ATOM = range(1, 11)


class _Piece(NamedTuple):
    """LaTeX text, how tightly it binds, and the number of axes that its value is known to have at least."""

    text: str
    level: int
    rank: int = 0

    def within(self, minimum: int) -> str:
        """The text in a place that needs a level, in parentheses if it binds less tightly."""
        return self.text if self.level >= minimum else rf"\left({self.text}\right)"


# The Greek letters that LaTeX has a command for.
_GREEK = frozenset({
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "mu",
    "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
    "Gamma", "Delta", "Theta", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega",
})  # fmt: skip
_SPELLINGS = {"lam": r"\lambda", "lambda_": r"\lambda", "eps": r"\varepsilon", "inf": r"\infty"}

_SIGNS = {
    "or": r"\vee", "and": r"\wedge", "==": "=", "!=": r"\neq", "<": "<", "<=": r"\leq", ">": ">", ">=": r"\geq",
    "+": "+", "-": "-",
}  # fmt: skip
_SIGN_LEVELS = {"or": _OR, "and": _AND, "+": _SUM, "-": _SUM}

_NAMED_OPERATORS = frozenset({"exp", "log", "sin", "cos", "tan", "tanh", "sinh", "cosh", "arctan", "max", "min"})
_BIG_OPERATORS = {
    "sum": r"\sum", "prod": r"\prod", "max": r"\max", "min": r"\min", "any": r"\bigvee", "all": r"\bigwedge",
}  # fmt: skip
_FENCES = {
    "abs": (r"\left|", r"\right|"),
    "floor": (r"\left\lfloor", r"\right\rfloor"),
    "ceil": (r"\left\lceil", r"\right\rceil"),
}
# Functions over axes that leave fewer axes than they take; the others keep them.
_REDUCTIONS = frozenset({"sum", "mean", "prod", "max", "min", "any", "all", "std", "var", "logsumexp", "norm", "merge"})


def latex_formula(formula: Formula) -> str:
    r"""The formula as an `aligned` environment: its constants, local functions and names, then its result."""
    ranks: dict[str, int] = {tensor.name: len(tensor.axes) for tensor in formula.inputs}
    lines = list(_lines(formula.statements, ranks, frozenset(), formula))
    return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"


def _lines(
    statements: Iterable[Statement], ranks: dict[str, int], states: frozenset[str], formula: Formula, margin: str = ""
) -> Iterator[str]:
    r"""The lines of statements; ranks grows. states: names that a scan updates, `S \leftarrow ...`."""
    for statement in statements:
        match statement:
            case Const(bindings):
                yield from (_line(latex_name(b.name), _piece(b.value, ranks).text) for b in bindings)
            case Param(tensors) | Buffer(tensors):
                ranks.update((tensor.name, len(tensor.axes)) for tensor in tensors)
            case Function(name, parameters, body):
                ranks[name] = 0  # so that calls print the name as this line does
                inner = {**ranks, **{parameter.name: 0 for parameter in parameters}}
                listed = ", ".join(latex_name(parameter.name) for parameter in parameters)
                yield margin + _line(rf"{latex_name(name)}\left({listed}\right)", _piece(body, inner).text)
            case Assign(name, value) | Yield(name, value):
                piece = _piece(value, ranks)
                ranks.setdefault(name, piece.rank)
                yield margin + _line(latex_name(name), piece.text, r"\leftarrow" if name in states else "=")
            case State(tensors):
                ranks.update((tensor.name, len(tensor.axes)) for tensor in tensors)
            case Scan(axis, body):
                carried = [tensor for s in body if isinstance(s, State) for tensor in s.tensors]
                for tensor in carried:
                    first = _piece(tensor.initial or Number("0"), ranks).text
                    yield margin + _line(latex_name(tensor.name), first, r"\leftarrow")
                last = rf"{latex_name(axis.name)} - 1"
                yield rf"{margin}&\textbf{{for }} {latex_index(axis.name)} = 0, \dots, {last}\colon"
                names = states | {tensor.name for tensor in carried}
                yield from _lines(body, ranks, names, formula, margin + r"\quad ")
            case Return(values):
                listed = ", ".join(_piece(value, ranks).text for value in values)
                result = listed if len(values) == 1 else rf"\left({listed}\right)"
                yield _line(_result_name(formula.name, formula.inputs), result)


def latex_expression(expression: Expression, ranks: Mapping[str, int] | None = None) -> str:
    """The expression alone. ranks: how many axes the values of names have, where that is known."""
    return _piece(expression, ranks or {}).text


def latex_name(name: str) -> str:
    r"""A name as a paper prints it: `q`, `\gamma`, `\mathrm{lag}`, `w_{\mathrm{pos}}`, `k_{1}`."""
    if name in _SPELLINGS:
        return _SPELLINGS[name]
    stem, *subscripts = [part for part in name.split("_") if part] or ["x"]
    numbered = re.fullmatch(r"([A-Za-z]+?)([0-9]+)", stem)
    if numbered:
        stem, subscripts = numbered[1], [numbered[2], *subscripts]
    if not subscripts:
        return _letters(stem)
    return f"{_letters(stem)}_{{{', '.join(_letters(part) for part in subscripts)}}}"


def _letters(word: str) -> str:
    if word in _GREEK:
        return f"\\{word}"
    return _SPELLINGS.get(word) or (word if len(word) == 1 or word.isdigit() else rf"\mathrm{{{word}}}")


def latex_index(axis: str) -> str:
    """The running index of an axis: `n` for `N`, `k_{y}` for `Ky`, `c_{2}` for `C2`, `k_{0y}` for `K0y`."""
    short = re.fullmatch(r"([A-Z])([0-9]*[a-z]|[0-9]+)", axis)
    return f"{short[1].lower()}_{{{short[2]}}}" if short else latex_name(axis.lower())


def _line(left: str, right: str, sign: str = "=") -> str:
    return f"{left} &{sign} {right}"


def _result_name(name: str, inputs: Iterable[Tensor]) -> str:
    listed = ", ".join(latex_name(tensor.name) for tensor in inputs)
    return rf"{_upright(name)}\left({listed}\right)"


def _upright(name: str) -> str:
    """The name of a function that has no sign of its own."""
    escaped = name.replace("_", r"\_")
    return rf"\mathrm{{{escaped}}}"


def _indices(axes: Iterable[Axis]) -> str:
    return ", ".join(latex_index(axis.name) for axis in axes)


def _subscript(axes: AxisMap) -> str:
    if axes.targets is None:
        return _indices(axes.sources)
    return rf"{_indices(axes.sources)} \to {_indices(axes.targets)}"


# -- expressions -------------------------------------------------------------------------------------


def _piece(expression: Expression, ranks: Mapping[str, int]) -> _Piece:
    match expression:
        case Number(text):
            return _number(text)
        case Name(name):
            return _Piece(latex_name(name), _ATOM, ranks.get(name, 0))
        case Unary("not", operand):
            inner = _piece(operand, ranks)
            return _Piece(rf"\neg {inner.within(_NOT)}", _NOT, inner.rank)
        case Unary(_, operand):
            inner = _piece(operand, ranks)
            return _Piece(f"-{inner.within(_BIG)}", _SUM, inner.rank)
        case Transpose(operand):
            inner = _piece(operand, ranks)
            return _Piece(rf"{inner.within(_ATOM)}^{{\top}}", _POWER, max(inner.rank, 2))
        case Rename(operand, source, target):
            inner = _piece(operand, ranks)
            arrow = rf"{latex_index(source.name)} \to {latex_index(target.name)}"
            return _Piece(rf"{{{inner.within(_ATOM)}}}_{{{arrow}}}", _ATOM, max(inner.rank, 1))
        case Binary("*" | "@" as operator, Unary("-", left), right):
            inner = _piece(Binary(operator, left, right), ranks)  # -8 x, not (-8) x
            return _Piece(f"-{inner.within(_BIG)}", _SUM, inner.rank)
        case Binary(operator, left, right):
            return _binary(operator, _piece(left, ranks), _piece(right, ranks), right)
        case Call():
            return _call(expression, ranks)


def _number(text: str) -> _Piece:
    """`3`, `0.5`, `10^{-6}` for `1e-6`, `2.5 \\cdot 10^{3}` for `2.5e3`."""
    mantissa, _, exponent = text.lower().partition("e")
    if not exponent:
        return _Piece(text, _ATOM)
    power = f"10^{{{exponent.removeprefix('+')}}}"
    if mantissa in ("1", "1.", "1.0"):
        return _Piece(power, _POWER)
    return _Piece(rf"{mantissa} \cdot {power}", _PRODUCT)


def _binary(operator: str, left: _Piece, right: _Piece, right_tree: Expression) -> _Piece:
    rank = max(left.rank, right.rank)
    match operator:
        case "/":
            return _Piece(rf"\frac{{{left.text}}}{{{right.text}}}", _POWER, rank)
        case "//":
            return _Piece(rf"\left\lfloor \frac{{{left.text}}}{{{right.text}}} \right\rfloor", _ATOM, rank)
        case "%":
            return _Piece(rf"{left.within(_PRODUCT)} \bmod {right.within(_POWER)}", _PRODUCT, rank)
        case "^":
            return _Piece(f"{left.within(_ATOM)}^{{{right.text}}}", _POWER, rank)
        case "@":
            return _product(left, r"\,", right, _POWER, max(rank - 1, 0))
        case "*" if left.rank and right.rank:
            return _product(left, r"\odot", right, _PRODUCT, rank)
        case "*":
            flat = isinstance(right_tree, Binary) and right_tree.operator == "*"
            shown = right.within(_PRODUCT)
            return _product(left, r"\cdot" if shown[0] in "0123456789" else r"\,", right,
                            _PRODUCT if flat else _POWER, rank)  # fmt: skip
    level = _SIGN_LEVELS.get(operator, _COMPARISON)
    # `a - (b - c)` keeps its parentheses, `a + (b - c)` needs none.
    tighter = operator not in ("+", "and", "or")
    shown_left = left.within(level + 1 if level == _COMPARISON else level)
    return _Piece(f"{shown_left} {_SIGNS[operator]} {right.within(level + tighter)}", level, rank)


def _product(left: _Piece, sign: str, right: _Piece, tightness: int, rank: int) -> _Piece:
    """A product whose right side needs a tightness, or ends in a big operator: then so does the product."""
    own = _ODOT if sign == r"\odot" else _PRODUCT
    if right.level == _BIG:
        return _Piece(f"{left.within(own)} {sign} {right.text}", _BIG, rank)
    return _Piece(f"{left.within(own)} {sign} {right.within(tightness)}", own, rank)


def _call(call: Call, ranks: Mapping[str, int]) -> _Piece:
    """A call: the signs that mathematics has for it, or its name with the indices of its axes below."""
    arguments = [_piece(argument, ranks) for argument in call.arguments]
    rank = max((argument.rank for argument in arguments), default=0)
    if call.axes is not None and call.function in _REDUCTIONS:
        rank = max(rank - len(call.axes.sources), 0)
    plain = not call.keywords
    if plain and call.axes is None and len(arguments) == 1:
        known = _function_of_one(call, arguments[0])
        if known is not None:
            return known
    if plain and call.axes is None and call.function == "where" and len(arguments) == 3:
        condition, yes, no = (argument.text for argument in arguments)
        cases = rf"\begin{{cases}} {yes} & \text{{if }} {condition} \\ {no} & \text{{otherwise}} \end{{cases}}"
        return _Piece(cases, _SUM, rank)
    if plain and call.axes is not None and call.function == "take" and len(arguments) == 2:
        place = f"{_indices(call.axes.sources)} = {arguments[1].text}"
        return _Piece(rf"{{{arguments[0].within(_ATOM)}}}_{{{place}}}", _ATOM, rank)
    if plain and call.axes is not None and call.axes.targets is None and len(arguments) == 1:
        known = _function_over_axes(call.function, call.axes.sources, arguments[0], rank)
        if known is not None:
            return known
    if call.function in ranks:
        head = latex_name(call.function)
    elif call.function in _NAMED_OPERATORS:
        head = f"\\{call.function}"
    else:
        head = _function_name(call.function)
    if call.axes is not None:
        head = f"{{{head}}}_{{{_subscript(call.axes)}}}" if "_" in head else f"{head}_{{{_subscript(call.axes)}}}"
    listed = ", ".join(argument.text for argument in arguments)
    if call.keywords:
        named = ", ".join(rf"{latex_name(k.name)} = {_piece(k.value, ranks).text}" for k in call.keywords)
        listed = rf"{listed};\, {named}" if listed else named
    return _Piece(rf"{head}\left({listed}\right)", _ATOM, rank)


def _function_name(name: str) -> str:
    """Letters and Greek letters as they are (they are local functions), all else upright."""
    if name == "sigmoid":
        return r"\sigma"
    if name in _SPELLINGS or name in _GREEK or len(name) == 1:
        return latex_name(name)
    return _upright(name)


def _function_of_one(call: Call, argument: _Piece) -> _Piece | None:
    function = call.function
    if function == "pos" and isinstance(call.arguments[0], Name):
        return _Piece(latex_index(call.arguments[0].name), _ATOM, 1)
    if function == "sqrt":
        return _Piece(rf"\sqrt{{{argument.text}}}", _ATOM, argument.rank)
    if function == "square":
        return _Piece(f"{argument.within(_ATOM)}^{{2}}", _POWER, argument.rank)
    if function in _FENCES:
        opening, closing = _FENCES[function]
        return _Piece(f"{opening} {argument.text} {closing}", _ATOM, argument.rank)
    return None


def _function_over_axes(function: str, axes: tuple[Axis, ...], argument: _Piece, rank: int) -> _Piece | None:
    if function in _BIG_OPERATORS:
        return _Piece(rf"{_BIG_OPERATORS[function]}_{{{_indices(axes)}}} {argument.within(_BIG)}", _BIG, rank)
    if function == "mean":
        sizes = r" \, ".join(latex_name(axis.name) for axis in axes)
        return _Piece(rf"\frac{{1}}{{{sizes}}} \sum_{{{_indices(axes)}}} {argument.within(_BIG)}", _BIG, rank)
    if function == "logsumexp":
        return _Piece(rf"\log \sum_{{{_indices(axes)}}} \exp\left({argument.text}\right)", _BIG, rank)
    if function == "norm":
        return _Piece(rf"\left\Vert {argument.text} \right\Vert_{{2}}", _ATOM, rank)
    return None
