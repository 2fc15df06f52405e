"""Every example on every target: `python -m tests.targets.sweep --target onnx [--only NAME] [--first 10 --last 20]`.

Each formula is built for the target and called at sizes other than those it was traced with. Values are compared with
the literal evaluation of the text in float64; where the target has no float64 for an operation, in float32. What came
out is added to a file of results (`--output`, default out/targets.json); `--table` prints its summary in Markdown.

Compiling takes seconds a formula, so the test suite runs a selection only (`test_programs.py` in this folder).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import sys
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import attngraph
from attngraph.compiler.module import compile as build

from ..examples.cases import EXAMPLES, Base, Example
from ..examples.test_examples import FORMULAS, _declared, _draw

TARGETS = ("torchscript", "inductor", "flex", "export", "aoti", "onnx")
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4}


@dataclass(frozen=True)
class Outcome:
    """What came out for one formula on one target.

    result: float64, float32, or the reason why there is none. difference: the largest, relative to the largest value.
    seconds: to build and to call at each of the sizes.
    """

    formula: str
    target: str
    result: str
    difference: float | None
    seconds: float
    calls: int
    notes: tuple[str, ...] = ()

    @property
    def fine(self) -> bool:
        return self.result in ("float64", "float32")


def outcome(name: str, target: str, gradients: bool = False) -> Outcome:
    """Build a formula for a target and compare it; never raises for what the target cannot do."""
    start = time.perf_counter()
    reasons = []
    for dtype in (torch.float64, torch.float32):
        try:
            worst, calls, notes = compared(name, target, dtype, gradients)
        except Exception as error:  # noqa: BLE001 - whatever a target raises is its outcome
            reasons.append(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:300])
            if not isinstance(error, attngraph.CompileError) and "-v" in sys.argv:
                traceback.print_exc()
            continue
        seconds = time.perf_counter() - start
        if worst <= TOLERANCE[dtype]:
            return Outcome(name, target, str(dtype).removeprefix("torch."), worst, seconds, calls, notes)
        reasons.append(f"differs by {worst:.1e} in {dtype}")
    return Outcome(name, target, " / ".join(dict.fromkeys(reasons)), None, time.perf_counter() - start, 0)


def compared(
    name: str, target: str, dtype: torch.dtype, gradients: bool = False
) -> tuple[float, int, tuple[str, ...]]:
    """The largest relative difference from the literal evaluation, the number of calls, and the target's notes."""
    bases = EXAMPLES[name].bases
    *others, last = (*bases[1:], *bases[:1])
    for base in others:
        with contextlib.suppress(Unfit):
            return _compared(name, target, dtype, gradients, base)
    return _compared(name, target, dtype, gradients, last)


class Unfit(ValueError):
    """The formula with its default constants does not allow the sizes of an example."""


def _compared(
    name: str, target: str, dtype: torch.dtype, gradients: bool, base: Base
) -> tuple[float, int, tuple[str, ...]]:
    torch.manual_seed(0)
    torch.compiler.reset()
    example = EXAMPLES[name]
    path, tree = FORMULAS[name]
    report = attngraph.load(path, name).report
    assert report.formula is not None
    formula = report.formula
    axes = {axis.name for tensor in (*tree.inputs, *_declared(tree)) for axis in tensor.axes}
    sizes = example.sizes(base, axes)
    consts = example.consts[0]
    fixed = {axis: sizes[axis] for axis in formula.fixed if axis in sizes}
    known: dict[str, Any] = {"sizes": fixed, "consts": consts, "dtype": dtype}
    literal = build(formula, formula.graph, **{**known, "dtype": torch.float64})
    with torch.no_grad():
        tensors = dict([*literal.named_parameters(), *literal.named_buffers()])
        for tensor in _declared(tree):
            tensors[tensor.name].copy_(_draw(example, tensor, tuple(tensors[tensor.name].shape)))
    made = build(formula, report.plan or formula.graph, target=target, **known)
    _copy(literal, made)
    calls = [sizes, *_others(example, base, axes, fixed, sizes)]
    worst = 0.0
    for each in calls:
        torch.manual_seed(1)
        batch = (base.batch or (2,)) * example.batched
        inputs = [_draw(example, t, (*batch, *(each[axis.name] for axis in t.axes))) for t in tree.inputs]
        try:
            literal.check(*inputs)  # type: ignore[operator]
        except (AttributeError, ValueError) as error:
            if each is sizes:
                raise Unfit(str(error)) from error
            continue  # sizes that the formula does not allow
        worst = max(worst, _difference(made, literal, inputs, dtype, gradients))
    return worst, len(calls), tuple(made.notes)


def _copy(literal: nn.Module, made: nn.Module) -> None:
    """Give the module for the target the parameters and buffers of the literal one."""
    stored = {key.rpartition(".")[2]: value for key, value in literal.state_dict().items()}
    own = made.state_dict()
    named = {key: (stored.get(key.rpartition(".")[2], value), value.dtype) for key, value in own.items()}
    made.load_state_dict({key: value.to(dtype) for key, (value, dtype) in named.items()})  # scripted: constants too


def _others(
    example: Example, base: Base, axes: set[str], fixed: Mapping[str, int], sizes: Mapping[str, int]
) -> Sequence[dict[str, int]]:
    """One more set of sizes, in which as many axes as possible that no parameter fixes differ."""
    several = {"N": 19, "M": 17, "L": 37, "D": 5, "E": 4}
    for longer in (several, {"N": 19, "M": 17}, {"N": 16, "M": 12, "Y": 6, "X": 4}, {"N": 12}):
        other = example.sizes(replace(base, sizes={**base.sizes, **longer}), axes)
        if other != dict(sizes) and all(other[axis] == size for axis, size in fixed.items()):
            return [other]
    return []


def _difference(
    made: nn.Module, literal: nn.Module, inputs: Sequence[Tensor], dtype: torch.dtype, gradients: bool
) -> float:
    found = []
    for module, kind in ((literal, torch.float64), (made, dtype)):
        own = [x.detach().to(kind) if x.is_floating_point() else x.detach() for x in inputs]
        own = [x.to(torch.complex64) if x.is_complex() and kind is torch.float32 else x for x in own]
        if gradients:
            own = [x.requires_grad_() if x.is_floating_point() else x for x in own]
        with torch.set_grad_enabled(gradients):
            value = module(*own)
        values = [value] if isinstance(value, Tensor) else list(value)
        if gradients and values[0].requires_grad:
            wanted = [x for x in own if x.requires_grad]
            total = values[0].abs().square().sum()
            values += torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)
        found.append([x.detach() for x in values])
    worst = 0.0
    scale = max(1e-30, 1e-3 * max(float(x.abs().double().max()) for x in found[0]))
    for theirs, ours in zip(*found, strict=True):
        assert theirs.shape == ours.shape, f"shape {tuple(ours.shape)} instead of {tuple(theirs.shape)}"
        wide = ours.to(theirs.dtype)
        same = (wide == theirs) | (wide.isnan() & theirs.isnan())
        gap = (wide - theirs).abs() if theirs.is_floating_point() or theirs.is_complex() else (wide != theirs).double()
        gap = gap.masked_fill(same, 0.0)
        worst = max(worst, float(gap.max()) / max(scale, float(theirs.abs().double().max())))
    return worst if worst == worst else float("inf")


def table(outcomes: Sequence[Outcome]) -> str:
    """A line per target: how many formulas it computes, in which dtype, how long it took; then what it does not."""
    heads = ("target", "formulas", "float64", "float32 only", "not", "largest difference", "seconds a formula")
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for target in TARGETS:
        own = [each for each in outcomes if each.target == target]
        if not own:
            continue
        double, single = ([e for e in own if e.result == kind] for kind in ("float64", "float32"))
        worst = max((e.difference or 0.0 for e in double), default=0.0)
        seconds = sorted(e.seconds for e in own)[len(own) // 2]
        missing = len(own) - len(double) - len(single)
        cells = (target, len(own), len(double), len(single), missing, f"{worst:.0e}", f"{seconds:.1f}")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines.append("")
    lines += [f"- {each.target}, `{each.formula}`: {each.result}" for each in outcomes if not each.fine]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    description = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m tests.targets.sweep", description=description)
    parser.add_argument("--target", action="append", choices=TARGETS, help="default: all")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="formulas of this name")
    parser.add_argument("--first", type=int, default=0, help="number of the first formula")
    parser.add_argument("--last", type=int, default=None, help="number after the last formula")
    parser.add_argument("--gradients", action="store_true", help="compare gradients too, on targets that have them")
    parser.add_argument("--output", type=Path, default=Path("out/targets.json"))
    parser.add_argument("--table", action="store_true", help="print what the file of results says, and run nothing")
    parser.add_argument("-v", action="store_true", help="show tracebacks")
    arguments = parser.parse_args(argv)
    path: Path = arguments.output
    known = [Outcome(**each) for each in json.loads(path.read_text())] if path.exists() else []
    if arguments.table:
        print(table(known))
        return 0
    names = [name for name in FORMULAS if not arguments.only or name in arguments.only]
    found: dict[tuple[str, str], Outcome] = {(each.target, each.formula): each for each in known}
    bad = 0
    for target in arguments.target or TARGETS:
        for name in names[arguments.first : arguments.last]:
            done = outcome(name, target, arguments.gradients and target not in ("aoti", "onnx"))
            found[target, name] = done
            bad += not done.fine
            print(f"{target:<12}{name:<36}{done.seconds:6.1f} s  {done.result} {done.difference or ''}", flush=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps([asdict(each) for each in found.values()], indent=1) + "\n")
    return int(bad > 0)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.getLogger("torch").setLevel(logging.ERROR)
    sys.exit(main())
