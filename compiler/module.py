"""A planned formula as a module that runs, or as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isfinite
from pathlib import Path

import torch
from torch import nn

from .emit import Generated, emit
from .emit.arguments import constructor_arguments
from .emit.settle import plan_sizes
from .errors import CompileError
from .example import example_inputs
from .formula import Formula
from .graph import Graph
from .loader import load_class
from .plan import plan
from .report import Step
from .scope import did_you_mean
from .targets import TARGETS


def compile(
    formula: Formula,
    graph: Graph,
    *,
    sizes: Mapping[str, int] | None = None,
    consts: Mapping[str, int | float] | None = None,
    target: str = "eager",
    steps: Sequence[Step] = (),
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """The module of a graph of the formula, as written or planned.

    sizes: sizes of axes that parameters and buffers carry, as far as facts do not give them. Sizes of
        other axes are examples for targets that trace; they stay dynamic.
    consts: values that override those of `const` lines.
    target: eager, torchscript, inductor or export.
    steps: the planner's decisions, for comments in the source.
    device, dtype: of parameters and buffers.
    Errors: CompileError.
    """
    if target not in TARGETS:
        help = did_you_mean(target, TARGETS) or f"there are {', '.join(TARGETS)}"
        raise CompileError(f"there is no target `{target}`; {help}")
    chosen = TARGETS[target]
    formula, graph, steps = _for_constants(formula, graph, steps, consts)
    generated = emit(formula, graph, steps=steps, at_once=not chosen.carries_loops)
    module, known, constants = _instance(formula, generated, sizes, consts, device, dtype)
    return chosen.build(module, partial(example_inputs, formula, known, constants, device=device, dtype=dtype))


def save(
    formula: Formula,
    graph: Graph,
    path: str | Path,
    *,
    sizes: Mapping[str, int] | None = None,
    consts: Mapping[str, int | float] | None = None,
    steps: Sequence[Step] = (),
) -> None:
    """Write a module to a file: `.py` source, `.pt` TorchScript, `.pt2` exported program.

    Source needs no sizes; those that are given become defaults of the constructor.
    Errors: CompileError; OSError when the file cannot be written.
    """
    path = Path(path)
    chosen = next((t for t in TARGETS.values() if t.suffix == path.suffix), None)
    if chosen is None:
        suffixes = ", ".join(t.suffix for t in TARGETS.values() if t.suffix)
        raise CompileError(f"cannot write `{path.name}`: its suffix must be one of {suffixes}")
    formula, graph, steps = _for_constants(formula, graph, steps, consts)
    if path.suffix == ".py":
        settled = plan_sizes(formula)
        given = settled.given if sizes else ()
        known, constants = constructor_arguments(formula, replace(settled, given=given), sizes, consts)
        formula = replace(formula, constants=constants)
        defaults = {axis: known[axis] for axis in given}
        path.write_text(emit(formula, graph, steps=steps, sizes=defaults).source, encoding="utf-8")
        return
    generated = emit(formula, graph, steps=steps, at_once=not chosen.carries_loops)
    module, known, constants = _instance(formula, generated, sizes, consts, None, None)
    chosen.save(module, partial(example_inputs, formula, known, constants), path)


def _for_constants(
    formula: Formula, graph: Graph, steps: Sequence[Step], consts: Mapping[str, int | float] | None
) -> tuple[Formula, Graph, Sequence[Step]]:
    """A plan for other constants: it may rest on their values, as a decay rests on the sign of its base."""
    other = {
        name: value
        for name, value in (consts or {}).items()
        if isinstance(value, type(formula.constants.get(name))) and value != formula.constants[name]
    }
    if not other or graph is formula.graph or not all(map(isfinite, other.values())):
        return formula, graph, steps
    made = plan(replace(formula, constants={**formula.constants, **other}))
    return made.formula, made.graph, made.steps


def _instance(
    formula: Formula,
    generated: Generated,
    sizes: Mapping[str, int] | None,
    consts: Mapping[str, int | float] | None,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> tuple[nn.Module, dict[str, int], dict[str, int | float]]:
    """The eager module, with all known sizes and the constants."""
    settled = plan_sizes(formula)
    known, constants = constructor_arguments(formula, settled, sizes, consts)
    arguments = [*(known[axis] for axis in settled.given), *(constants[name] for name in settled.constants)]
    return load_class(generated)(*arguments, device=device, dtype=dtype), known, constants
