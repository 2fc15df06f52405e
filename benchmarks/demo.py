"""The guided tour, in about a minute: `python -m benchmarks.demo [--output FOLDER] [--seed SEED]`.

Formulas are checked, a wrong one is explained, one is compiled and compared with plain PyTorch, two train a vision
transformer on handwritten digits, and pictures are drawn. No GPU and no network. The exit code is 0 if everything
came out as it should, 1 if not.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import attngraph
from attngraph.cli import main as attngraph_command
from attngraph.report import render_diagnostics

from . import examples

# Evaluating a formula in another order changes the last digits of float64 and nothing else.
TOLERANCE = 1e-12
LEAST_ACCURACY = 0.95

WRONG_AXES = """\
attention softmax_attention(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    return softmax[M](q @ k / sqrt(D)) @ v
"""
WRONG_CLAIM = """\
attention softmax_attention(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    require linear
    return softmax[M](q @ k^T / sqrt(D)) @ v
"""


@dataclass(frozen=True)
class Outcome:
    """What a step showed, in one line, and whether it came out as it should."""

    line: str
    good: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Run every step; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description="The guided tour of attngraph.")
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder of the pictures (default: out)")
    parser.add_argument("--seed", type=int, default=0, help="of data, weights and batches (default: 0)")
    arguments = parser.parse_args(argv)
    folder, seed = arguments.output, arguments.seed
    if seed not in range(2**32):
        parser.error(f"a seed is a whole number from 0 to 2^32 - 1, not {seed}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"cannot make the folder {folder}: {error.strerror}")
    steps: tuple[tuple[str, Callable[[], Sequence[Outcome]]], ...] = (
        ("Every example formula: types, orders, claims", check_examples),
        ("Wrong formulas, and what the compiler says", explain_mistakes),
        ("A formula becomes a PyTorch module", lambda: [compile_and_compare("linear_attention", seed)]),
        ("Two formulas learn handwritten digits in a vision transformer", lambda: learn_digits(seed)),
        ("Pictures", lambda: draw_pictures(folder)),
    )
    start = time.perf_counter()
    say(f"seed {seed}, {torch.get_num_threads()} thread(s), torch {torch.__version__}")
    outcomes: list[Outcome] = []
    for number, (title, step) in enumerate(steps, 1):
        say(f"\n== {number} of {len(steps)}: {title}\n")
        outcomes += step()
    say("\n== Summary\n")
    for outcome in outcomes:
        say(f"  {'ok     ' if outcome.good else 'WRONG  '}{outcome.line}")
    say(f"\n{time.perf_counter() - start:.0f} seconds")
    return 0 if all(outcome.good for outcome in outcomes) else 1


def say(line: str) -> None:
    """A line of progress that shows at once, also through a pipe."""
    print(line, flush=True)


def short(path: Path) -> str:
    """A path, short enough to read."""
    return os.path.relpath(path)


# -- the steps ---------------------------------------------------------------------------------------------


def check_examples() -> list[Outcome]:
    """The table of `attngraph check examples`: it fails if a type is wrong or a claim does not hold."""
    say(f"$ attngraph check {short(examples.FOLDER)}")
    code = attngraph_command(["check", short(examples.FOLDER)])
    return [Outcome("the examples type-check and keep their claims", code == 0)]


def explain_mistakes() -> list[Outcome]:
    """Two wrong formulas: axes that do not meet, and a promise that the text cannot keep."""
    outcomes = []
    for text, code in ((WRONG_AXES, "AG201"), (WRONG_CLAIM, "AG401")):
        found = attngraph.check(text).diagnostics
        say(render_diagnostics(found).rstrip() + "\n")
        outcomes.append(Outcome(f"the mistake {code} is found and underlined", code in {each.code for each in found}))
    return outcomes


def compile_and_compare(name: str, seed: int) -> Outcome:
    """The generated source, and its values and gradients beside plain PyTorch in float64."""
    say((examples.find(name)).read_text(encoding="utf-8").split("\n\nattention", 1)[0].rstrip() + "\n")
    module = attngraph.compile(examples.find(name))
    say("-- the generated module\n")
    say(str(module.source).rstrip() + "\n")
    generator = torch.Generator().manual_seed(seed)
    shapes = {"q": (2, 4, 128, 16), "k": (2, 4, 96, 16), "v": (2, 4, 96, 24)}
    inputs = {
        key: torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for key, shape in shapes.items()
    }
    ours, plain = module(**inputs), plain_linear_attention(**inputs)
    differences = [largest_difference(ours, plain)]
    weights = torch.randn(plain.shape, generator=generator, dtype=torch.float64)
    gradients = [torch.autograd.grad((value * weights).sum(), list(inputs.values())) for value in (ours, plain)]
    differences += [largest_difference(a, b) for a, b in zip(*gradients, strict=True)]
    say(f"largest difference from the quadratic text in plain PyTorch, float64, {list(plain.shape)}:")
    for what, difference in zip(("values", *(f"gradient of {key}" for key in shapes)), differences, strict=True):
        say(f"  {what:14} {difference:.1e}")
    return Outcome(
        f"{name} equals plain PyTorch within {TOLERANCE:g} (values, gradients)", max(differences) < TOLERANCE
    )


def plain_linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Linear attention as its paper prints it, with the whole map: q[..., N, D], k[..., M, D], v[..., M, E]."""
    scores = (torch.nn.functional.elu(q) + 1) @ (torch.nn.functional.elu(k) + 1).transpose(-2, -1)
    return (scores / scores.sum(-1, keepdim=True)) @ v


def largest_difference(a: Tensor, b: Tensor) -> float:
    """Relative to the largest value of b; infinite for NaN, so that nothing passes that is not a number."""
    difference = ((a - b).abs().max() / b.abs().max()).item()
    return difference if difference == difference else float("inf")


def learn_digits(seed: int) -> list[Outcome]:
    """One small vision transformer per formula, trained from nothing and judged on held-out digits."""
    from . import digits

    data, schedule = digits.load(seed), digits.Schedule()
    say(
        f"ViTForImageClassification of transformers on {digits.SIDE} by {digits.SIDE} images, {digits.TOKENS} tokens; "
        f"{len(data.labels)} digits to learn from, {len(data.held_out_labels)} held out; {schedule.epochs} epochs"
    )
    outcomes = []
    for name in ("softmax_attention", "linear_attention"):
        formula = attngraph.load(examples.find(name))
        model = digits.classifier(lambda formula=formula: attngraph.compile(formula), seed)  # type: ignore[misc]
        say(f"\n{name}, {formula.report.order}; {sum(weight.numel() for weight in model.parameters()):,} weights")
        last = digits.Epoch(0, float("inf"), 0.0, 0.0)
        for last in digits.learn(model, data, schedule, seed):
            if last.number % 4 == 0 or last.number == schedule.epochs:
                say(
                    f"  epoch {last.number:2}  loss {last.loss:6.4f}  held-out accuracy {last.accuracy:6.2%}"
                    f"  {last.seconds:4.1f} s"
                )
        line = f"{name} names {last.accuracy:.2%} of held-out digits (at least {LEAST_ACCURACY:.0%})"
        outcomes.append(Outcome(line, last.accuracy >= LEAST_ACCURACY))
    return outcomes


def draw_pictures(folder: Path) -> list[Outcome]:
    """The typed graph of a formula as written and as compiled, and the growth of cost of two formulas."""
    from .pictures import draw_growth, growth

    folder.mkdir(parents=True, exist_ok=True)
    paths, codes = [], []
    for stage in ("written", "compiled"):
        path = folder / f"linear_attention_{stage}.svg"
        source = short(examples.find("linear_attention"))
        codes.append(attngraph_command(["draw", source, "linear_attention", "-o", str(path), "--stage", stage]))
        paths.append(path)
    names = ("softmax_attention", "linear_attention")
    paths += draw_growth([growth(attngraph.load(examples.find(name)).report) for name in names], folder)
    for path in paths:
        say(f"  {path}")
    return [Outcome(f"{len(paths)} pictures are in {folder}", not any(codes) and all(path.exists() for path in paths))]


if __name__ == "__main__":
    sys.exit(main())
