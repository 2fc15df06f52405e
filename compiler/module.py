"""A planned formula as a module that runs, or as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from .emit import Generated, emit
from .emit.arguments import constructor_arguments
from .emit.settle import plan_sizes
from .errors import CompileError
from .formula import Formula
from .graph import Graph
from .loader import load_class
from .lowerings.library import ON_GPU
from .lowerings.rows import in_rows
from .lowerings.spare import with_spare_blocks
from .plan import for_constants
from .report import Step
from .scope import did_you_mean
from .targets import TARGETS, Example, Target, stand_ins
from .targets.instead import AT_ONCE_ON_GPU

MOST_BATCH = 8


def compile(
    formula: Formula,
    graph: Graph,
    *,
    sizes: Mapping[str, int] | None = None,
    consts: Mapping[str, int | float] | None = None,
    target: str = "eager",
    steps: Sequence[Step] = (),
    by_position: bool = False,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """The module of a graph of the formula, as written or planned.

    sizes: sizes of axes that parameters and buffers carry, as far as facts do not give them. Sizes of
        other axes are examples for targets that trace; they stay dynamic.
    consts: values that override those of `const` lines.
    target: eager, torchscript, inductor, flex, fla, export, aoti or onnx.
    steps: the planner's decisions, for comments in the source.
    by_position: forward goes through the sequence step by step.
    device, dtype: of parameters and buffers. For a module of CUDA that Python runs, some loops over chunks become
        products over all chunks at once; the module runs anywhere all the same.

    `notes` of the module says what the target runs in place of algorithms of the plan that it cannot carry.
    Errors: CompileError.
    """
    chosen = _target(target)
    _mappings(sizes=sizes, consts=consts)
    _loops(chosen, by_position)
    formula, graph, steps = for_constants(formula, graph, steps, consts)
    at_once = bool(chosen.files)
    formula, graph = with_spare_blocks(formula, graph) if at_once else (formula, graph)
    planned, (graph, told) = graph, chosen.special(graph, formula.builder) if chosen.special else (graph, ())
    on_gpu = chosen.launches and _is_gpu(device)
    generated = emit(
        formula,
        graph,
        steps=steps,
        at_once=at_once,
        on_gpu=on_gpu,
        operator=chosen.operator,
        by_position=by_position,
        stepped=planned,
    )
    module, known, constants = _instance(formula, generated, sizes, consts, device, dtype)
    built = chosen.build(module, Example(formula, known, constants, device, dtype))
    instead = {**chosen.instead, **(dict.fromkeys(ON_GPU, AT_ONCE_ON_GPU) if on_gpu else {})}
    built.notes = (*told, *stand_ins(instead, in_rows(formula, graph)))  # type: ignore[assignment]
    return built


def save(
    formula: Formula,
    graph: Graph,
    path: str | Path,
    *,
    sizes: Mapping[str, int] | None = None,
    consts: Mapping[str, int | float] | None = None,
    steps: Sequence[Step] = (),
    target: str | None = None,
    batch: int | None = None,
    by_position: bool = False,
) -> tuple[str, ...]:
    """Write a module to a file: `.py` source, `.pt` TorchScript, `.pt2` exported program or, where the target is aoti,
    a package of AOTInductor, `.onnx`.

    Source needs no sizes; those that are given become defaults of the constructor.
    batch: how many batch dimensions the inputs of a program have, 1 unless given; source and TorchScript take any.
    Returns what the target runs in place of algorithms of the plan that it cannot carry.
    Errors: CompileError; OSError when the file cannot be written.
    """
    path = Path(path)
    chosen = _target_of(path, target)
    _mappings(sizes=sizes, consts=consts)
    if batch is not None and chosen.any_batch:
        raise CompileError(f"`{path.name}` takes any number of batch dimensions; batch is for .pt2 and .onnx")
    if batch is not None and not (isinstance(batch, int) and 0 <= batch <= MOST_BATCH):
        raise CompileError(f"batch must be a whole number from 0 to {MOST_BATCH}, not {batch!r}")
    _loops(chosen, by_position)
    formula, graph, steps = for_constants(formula, graph, steps, consts)
    if path.suffix == ".py":
        settled = plan_sizes(formula)
        given = settled.given if sizes else ()
        known, constants = constructor_arguments(formula, replace(settled, given=given), sizes, consts)
        formula = replace(formula, constants=constants)
        defaults = {axis: known[axis] for axis in given}
        generated = emit(formula, graph, steps=steps, sizes=defaults, by_position=by_position)
        path.write_text(generated.source, encoding="utf-8")
        return ()
    at_once = bool(chosen.files)
    formula, graph = with_spare_blocks(formula, graph) if at_once else (formula, graph)
    generated = emit(formula, graph, steps=steps, at_once=at_once, operator=chosen.operator, by_position=by_position)
    module, known, constants = _instance(formula, generated, sizes, consts, None, None)
    chosen.save(module, Example(formula, known, constants), path, batch=1 if batch is None else batch)
    return stand_ins(chosen.instead, in_rows(formula, graph))


def _is_gpu(device: torch.device | str | None) -> bool:
    return torch.device(torch.get_default_device() if device is None else device).type == "cuda"


def _target(name: str) -> Target:
    if name not in TARGETS:
        help = did_you_mean(str(name), TARGETS) or f"there are {', '.join(TARGETS)}"
        raise CompileError(f"there is no target `{name}`; {help}")
    return TARGETS[name]


def _mappings(**given: object) -> None:
    """Errors: CompileError for numbers by name that are no mapping."""
    for name, numbers in given.items():
        if numbers is not None and not isinstance(numbers, Mapping):
            raise CompileError(f"{name} must map names to numbers, but is of type {type(numbers).__name__}")


def _loops(target: Target, by_position: bool) -> None:
    """Errors: CompileError if the target would take a loop over positions for one length."""
    if by_position and target.files:
        raise CompileError(f"the target `{target.name}` has no recurrent form: a loop over positions fixes the length")


def _target_of(path: Path, name: str | None) -> Target:
    """The target that writes a file: the one named, else the first with the file's suffix. Errors: CompileError."""
    if name is None:
        chosen = next((t for t in TARGETS.values() if t.suffix == path.suffix), None)
        if chosen is None:
            suffixes = ", ".join(dict.fromkeys(t.suffix for t in TARGETS.values() if t.suffix))
            raise CompileError(f"cannot write `{path.name}`: its suffix must be one of {suffixes}")
        return chosen
    named = _target(name)
    if named.suffix is None:
        raise CompileError(f"the target `{name}` has no file format; take export or aoti, which write .pt2 files")
    if named.suffix != path.suffix:
        raise CompileError(f"cannot write `{path.name}`: files of the target `{name}` end in {named.suffix}")
    return named


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
    try:
        made = load_class(generated)(*arguments, device=device, dtype=dtype)
    except (RuntimeError, MemoryError, OverflowError) as error:
        given = ", ".join(f"{name} = {value}" for name, value in {**known, **constants}.items())
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CompileError(f"{formula.name} cannot be built{f' for {given}' if given else ''}: {reason}") from error
    return made, known, constants
