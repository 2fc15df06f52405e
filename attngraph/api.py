"""The public functions. Thin: every decision is made in `attngraph.compiler`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .choice import ChoiceError, choose
from .compiler.errors import CompileError
from .compiler.pipeline import check_source, read
from .compiler.report import Report, Step
from .grammar.diagnostics import Diagnostic, FormulaError
from .grammar.source import Source

__all__ = [
    "CompileError",
    "Formula",
    "FormulaError",
    "Report",
    "Simplified",
    "check",
    "compile",
    "equivalent",
    "explain",
    "load",
    "parse",
    "simplify",
]

if TYPE_CHECKING:
    import torch

    from .compiler import formula as compiler
    from .compiler.equivalence import Equivalence

Target = Literal["eager", "torchscript", "inductor", "flex", "fla", "export", "aoti", "onnx"]
Form = Literal["auto", "dense", "linear", "chunked", "recurrent", "associative"]


@dataclass(frozen=True)
class Formula:
    """One formula of a text: what `load` and `parse` return and the other functions take."""

    name: str
    source: Source

    @cached_property
    def report(self) -> Report:
        """What the compiler says about it; `check(formula)` returns the same."""
        return next(report for report in check_source(self.source) if report.name == self.name)

    @property
    def text(self) -> str:
        """The whole text that the formula stands in."""
        return self.source.text

    def __str__(self) -> str:
        return f"{self.name} ({self.source.name})"


def load(path: str | os.PathLike[str], name: str | None = None) -> Formula:
    """A formula of a file.

    path: a UTF-8 text of formulas, usually ending in `.attn`.
    name: which formula; None takes the only one, or the one that is named as the file.

    A formula with mistakes is returned all the same: `check` says what is wrong with it.
    Errors: FormulaError when the file cannot be read, holds no formula of that name, or several and none is meant.
    """
    found = read(Path(path))
    if isinstance(found, Diagnostic):
        raise _failure((found,))
    return _choose(found, name, Path(path).stem)


def parse(text: str, name: str | None = None, *, folder: str | os.PathLike[str] | None = None) -> Formula:
    """A formula of a text; name: which one, None for the only one.

    folder: where the paths of its `use` lines start. A text without a folder reads no file, so that a text from
        elsewhere can be looked at safely: then a `use` line is an error.
    Errors: FormulaError when the text holds no formula of that name, or several without a name.
    """
    if not isinstance(text, str):
        raise TypeError(f"the text of a formula is a str, not {type(text).__name__}")
    return _choose(Source("<text>", text, None if folder is None else Path(folder)), name, None)


def _choose(source: Source, name: str | None, preferred: str | None) -> Formula:
    reports = check_source(source)
    names = [report.name for report in reports if report.name]
    if not names:
        raise _failure(tuple(d for report in reports for d in report.diagnostics))
    try:
        name = choose(names, name, source.name, preferred)
    except ChoiceError as error:
        raise FormulaError.plain(str(error)) from None
    formula = Formula(name, source)
    formula.__dict__["report"] = next(report for report in reports if report.name == name)
    return formula


def check(formula: Formula | str | os.PathLike[str]) -> Report:
    """What the compiler knows of a formula: findings, types, cost, orders, verdicts of its claims.

    formula: a Formula, the text of one, or the path of a file. Needs no torch.
    Errors: FormulaError when there is no formula to speak of; mistakes in one are findings.
    """
    return _formula(formula).report


def explain(formula: Formula | str | os.PathLike[str]) -> str:
    """Everything the compiler knows of a formula, as text for a reader.

    formula: a Formula, the text of one, the path of a file, or a diagnostic code such as `AG201`.
    Errors: FormulaError when there is no formula to speak of; KeyError for an unknown code.
    """
    from .description import code_page, describe

    if isinstance(formula, str) and formula[:2] == "AG" and formula[2:].isdigit():
        return code_page(formula)
    return describe(_formula(formula).report)


def compile(
    formula: Formula | str | os.PathLike[str],
    *,
    name: str | None = None,
    sizes: Mapping[str, int] | None = None,
    consts: Mapping[str, int | float] | None = None,
    target: Target = "eager",
    form: Form = "auto",
) -> torch.nn.Module:
    """A module that computes a formula.

    formula: a Formula, the text of one, or the path of a file.
    name: which formula of the text or file.
    sizes: sizes of axes that parameters and buffers carry, in elements, as far as facts do not give
        them. Every other size stays dynamic.
    consts: values that override those of `const` lines.
    target: eager runs the generated source; torchscript, inductor (torch.compile), flex (the same with FlexAttention),
        fla (eager with kernels of flash-linear-attention, on CUDA), export (torch.export), aoti (machine code, by
        AOTInductor) and onnx (run by onnxruntime) are made from the same source. The last two have no gradients.
        `module.notes` says what a target runs in place of algorithms that it cannot carry.
    form: auto is what the compiler finds best. dense evaluates the text as it stands. linear, chunked and recurrent
        insist that it is that: time and memory linear in the sequence, chunks with a carried state, or position by
        position with a state of fixed size. associative computes every `scan` along the sequence at all positions at
        once, where its updates are linear in its states.

    The module takes the formula's inputs by position or name. Each is a tensor whose last
    dimensions are the declared axes; dimensions in front are batch axes, which broadcast. It
    computes in the dtype of its real inputs (float64, float32, bfloat16, float16) on their device.
    `module.source` is its Python source, which runs without attngraph.

    The module of a causal formula also goes through a sequence piece by piece: `state = module.init_state()`, then
    `out, state = module.step(state, q, k, v)` with the inputs at the next positions, one or many. A state is a
    list of tensors; a fresh one serves any batch, device and dtype, and gradients pass through it. An input with
    two sequence axes, as a mask, has rows for the new positions and columns for all so far. There is no `step`
    where values depend on the length of the sequence.

    Errors: FormulaError when the formula has mistakes; CompileError for sizes, constants, targets or forms
    that cannot be used; ImportError without torch. Calls raise ValueError or TypeError for tensors
    that do not fit.
    """
    chosen = _formula(formula, name)
    report = chosen.report
    if not report.ok or report.formula is None or report.plan is None:
        raise _failure(tuple(d for d in report.diagnostics if d.severity.value == "error"))
    from .compiler.forms import choose
    from .compiler.module import compile as build

    found = choose(report, form, consts)
    assert found.formula is not None
    assert found.plan is not None
    return build(
        found.formula,
        found.plan,
        sizes=sizes,
        consts=consts,
        target=target,
        steps=found.steps,
        by_position=form == "recurrent",
    )


@dataclass(frozen=True)
class Simplified:
    """A formula after simplification, and every step that led there, in the order in which they were made."""

    formula: Formula
    steps: tuple[Step, ...]

    @property
    def text(self) -> str:
        """The simplified formula in the language."""
        return self.formula.text

    def __str__(self) -> str:
        return self.text


def simplify(
    formula: Formula | str | os.PathLike[str],
    *,
    guards: bool = False,
    consts: Mapping[str, int | float] | None = None,
) -> Simplified:
    """The formula with everything removed that does not matter: what cancels, what cannot act, what is spelled out.

    formula: a Formula, the text of one, or the path of a file. Needs no torch.
    guards: also apply rules that change values where an epsilon or a clamp acts, or where NaN or infinity appears.
        Without them no finite value changes beyond rounding. A step says where values differ.
    consts: constants that are fixed; nothing is assumed of the others.

    The result parses, checks, and computes the same.
    Errors: FormulaError when the formula has mistakes; CompileError for constants that cannot be used.
    """
    from .compiler.simplify import simplify as run

    chosen = _formula(formula)
    found = run(_typed(chosen), guards=guards, consts=consts)
    return Simplified(Formula(chosen.name, Source(f"{chosen.name} (simplified)", found.text)), found.steps)


def equivalent(
    left: Formula | str | os.PathLike[str], right: Formula | str | os.PathLike[str], *, guards: bool = False
) -> Equivalence:
    """Whether two formulas are the same function: `verdict` is PROVED, DIFFERENT or UNKNOWN.

    left, right: a Formula, the text of one, or the path of a file. Inputs meet by name, or by position where the names
    differ; parameters, buffers and constants by name, and constants have their defaults.
    guards: whether they may differ where an epsilon acts or a value is not a number, as what `simplify(guards=True)`
    gives may.

    A proof says what it rests on (`method`, `confidence`); a refutation has a `counterexample` with sizes, seed,
    position and both values; an open case says why.
    Errors: FormulaError when a formula has mistakes; CompileError for sizes that cannot be found; ImportError
    without torch.
    """
    sides = [_typed(_formula(formula)) for formula in (left, right)]
    from .compiler.equivalence import Side
    from .compiler.equivalence import equivalent as run

    first, second = (Side(formula, formula.graph) for formula in sides)
    return run(first, second, guards=guards)


def _typed(formula: Formula) -> compiler.Formula:
    """The typed formula. Errors: FormulaError."""
    report = formula.report
    if not report.ok or report.formula is None:
        raise _failure(tuple(d for d in report.diagnostics if d.severity.value == "error"))
    return report.formula


def _formula(formula: Formula | str | os.PathLike[str], name: str | None = None) -> Formula:
    if isinstance(formula, Formula):
        return formula if name is None or name == formula.name else _choose(formula.source, name, None)
    if not isinstance(formula, str | os.PathLike):
        raise TypeError(f"a formula is a Formula, a text or a path, not {type(formula).__name__}")
    if isinstance(formula, str) and ((":" in formula and "\n" in formula.strip()) or "attention " in formula):
        return parse(formula, name)
    return load(formula, name)


def _failure(diagnostics: tuple[Diagnostic, ...]) -> FormulaError:
    """The findings as an exception that reads like the command line's answer."""
    from .report import render_diagnostics

    return FormulaError(diagnostics, render_diagnostics(diagnostics))
