# ruff: noqa: RUF009 - every node declares its span in the same words; `_span()` makes a field, no shared value
"""The syntax tree: frozen dataclasses, one per construct of the language.

Every node carries the span of its text; spans do not take part in equality, so that
`parse(print(tree)) == tree`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .source import NOWHERE, Span


def _span() -> Span:
    return field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Axis:
    """The name of an axis where one is expected: `N` in `sum[N](x)`."""

    name: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class AxisMap:
    """What stands in the brackets of a function: `M`, `N -> M`, `N -> Y, X`, `Y, X -> N`.

    targets is None when there is no arrow.
    """

    sources: tuple[Axis, ...]
    targets: tuple[Axis, ...] | None = None
    span: Span = _span()


# -- expressions -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Number:
    """A literal as written (`3`, `0.5`, `1e-6`)."""

    text: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Name:
    """An input, a bound name, a parameter, a constant, an axis read as its size, `pi`, `inf`."""

    name: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Unary:
    """`-x` or `not x`."""

    operator: str
    operand: Expression
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Binary:
    """`x op y` with op one of `+ - * / // % @ ^ == != < <= > >= and or`."""

    operator: str
    left: Expression
    right: Expression
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Transpose:
    """`x^T`: the last two axes swapped."""

    operand: Expression
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Rename:
    """`x[N -> M]`: the copy of x whose axis N is called M."""

    operand: Expression
    source: Axis
    target: Axis
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Keyword:
    """`mask=c` in a call."""

    name: str
    value: Expression
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Call:
    """`softmax[M](s, mask=c)`: a built-in function, a local function or another formula."""

    function: str
    axes: AxisMap | None
    arguments: tuple[Expression, ...]
    keywords: tuple[Keyword, ...] = ()
    span: Span = _span()
    function_span: Span = _span()


Expression = Number | Name | Unary | Binary | Transpose | Rename | Call


# -- statements ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Comments:
    """Comments and blank lines around a statement, kept by the formatter.

    before: the text of whole-line comments above it, each without the leading `#`;
    after: the comment on its own line; blank: an empty line stood above.
    """

    before: tuple[str, ...] = ()
    after: str | None = None
    blank: bool = False


NO_COMMENTS = Comments()


@dataclass(frozen=True, slots=True)
class Tensor:
    """A declared tensor: `q[N, D]`, `mask[N, M] bool`, `x[]`; kind is real, int, bool or complex."""

    name: str
    axes: tuple[Axis, ...]
    kind: str = "real"
    initial: Expression | None = None  # of a parameter or buffer: `= normal(0.02)`
    span: Span = _span()
    name_span: Span = _span()


@dataclass(frozen=True, slots=True)
class Result:
    """One result type after the arrow: `[N, E]`, `[K] complex`."""

    axes: tuple[Axis, ...]
    kind: str = "real"
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Fact:
    """`M = N`, `N = Y * X`, `N >= M`: relation is one of `= >= <= > <`."""

    relation: str
    left: Expression
    right: Expression
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Claim:
    """`linear`, `causal`, `time O(N * D)`; bound is None when the claim takes none."""

    name: str
    bound: Expression | None = None
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Binding:
    """`name = value` in a const line."""

    name: str
    value: Expression
    span: Span = _span()
    name_span: Span = _span()


@dataclass(frozen=True, slots=True)
class Where:
    facts: tuple[Fact, ...]
    comments: Comments = NO_COMMENTS
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Require:
    claims: tuple[Claim, ...]
    comments: Comments = NO_COMMENTS
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Sequence:
    axes: tuple[Axis, ...]
    comments: Comments = NO_COMMENTS
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Const:
    bindings: tuple[Binding, ...]
    comments: Comments = NO_COMMENTS
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Param:
    """Learned tensors."""

    tensors: tuple[Tensor, ...]
    comments: Comments = NO_COMMENTS
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Buffer:
    """Tensors drawn or computed once and then fixed."""

    tensors: tuple[Tensor, ...]
    comments: Comments = NO_COMMENTS
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Function:
    """A local function `phi(x) = elu(x) + 1`: pure, inlined where it is called."""

    name: str
    parameters: tuple[Name, ...]
    body: Expression
    comments: Comments = NO_COMMENTS
    span: Span = _span()
    name_span: Span = _span()


@dataclass(frozen=True, slots=True)
class Assign:
    name: str
    value: Expression
    comments: Comments = NO_COMMENTS
    span: Span = _span()
    name_span: Span = _span()


@dataclass(frozen=True, slots=True)
class Return:
    values: tuple[Expression, ...]
    comments: Comments = NO_COMMENTS
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class State:
    """`state S[D, E] = 0`: values that a scan carries from step to step, each with its value before the first."""

    tensors: tuple[Tensor, ...]
    comments: Comments = NO_COMMENTS
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Yield:
    """`yield y = q @ S`: a value of every step of a scan; behind the scan, y has the scanned axis."""

    name: str
    value: Expression
    comments: Comments = NO_COMMENTS
    span: Span = _span()
    name_span: Span = _span()


@dataclass(frozen=True, slots=True)
class Scan:
    """`scan N:` and the lines below it: a recurrence along an axis. span covers the first line.

    closing: the indented comments below its last line.
    """

    axis: Axis
    body: tuple[Statement, ...]  # states, names, functions, what is yielded, scans
    comments: Comments = NO_COMMENTS
    closing: tuple[str, ...] = ()
    span: Span = _span()


Statement = Where | Require | Sequence | Const | Param | Buffer | Function | Assign | Return | State | Yield | Scan


@dataclass(frozen=True, slots=True)
class Formula:
    """`attention name(inputs) -> results:` and its body. span covers the header.

    closing: the indented comments below the last statement. readable is False when lines of it could not be read:
    their diagnostics are already given, and what follows from the missing lines should not be reported again.
    """

    name: str
    inputs: tuple[Tensor, ...]
    results: tuple[Result, ...]
    docstring: str | None
    statements: tuple[Statement, ...]
    comments: Comments = NO_COMMENTS
    closing: tuple[str, ...] = ()
    readable: bool = field(default=True, compare=False)
    span: Span = _span()
    name_span: Span = _span()


@dataclass(frozen=True, slots=True)
class Use:
    """`use "kernels.attn"`: the formulas of that file may be called. path: as written, relative to this file."""

    path: str
    comments: Comments = NO_COMMENTS
    span: Span = _span()
    path_span: Span = _span()


@dataclass(frozen=True, slots=True)
class File:
    """The formulas of one file, in order; closing are the comments after the last of them; uses stand above all."""

    formulas: tuple[Formula, ...]
    closing: tuple[str, ...] = ()
    uses: tuple[Use, ...] = ()
    span: Span = _span()
