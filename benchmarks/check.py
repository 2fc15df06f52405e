"""How fast formulas are checked: `python -m benchmarks.check [--runs N]`.

Two questions. How long does `attngraph check FILE` take, from a shell and back (a fresh process each time, median)?
And what does one formula cost when the program runs already: reading, types, costs as written, the plan, its costs and
claims, on one core, every text new to the program? The second is asked of the examples and of generated texts.

The exit code is 0 if both limits are kept, 1 if not.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from attngraph.compiler.pipeline import check_source
from attngraph.compiler.plan import plan
from attngraph.grammar.source import Source

from . import examples

START_LIMIT = 0.7  # seconds
FORMULA_LIMIT = 5.0  # milliseconds, for the mean over a set
PLAN_LIMIT = 50.0  # milliseconds, for the slowest

FEATURES = ("elu(x) + 1", "relu(x)", "exp(x)", "softmax[D](x)", "square(x) + 0.5", "silu(x) * x")
WEIGHTS = (
    "a",
    "a / sum[M](a)",
    "a / sqrt(D)",
    "where(pos(N) >= pos(M), a, 0)",
    "where(pos(N) >= pos(M), a * 0.9^(pos(N) - pos(M)), 0)",
    "a * cos(pos(N) - pos(M))",
    "softmax[M](a)",
    "softmax[M](a, mask=abs(pos(N) - pos(M)) <= 8)",
)
OUTPUTS = ("w @ v", "(w @ v) * sigmoid(g)", "rms_norm[E](w @ v) + g")


def generated() -> Iterator[str]:
    """Formulas of the usual shape: feature maps, weights, a gate. No two are alike."""
    for number, (feature, weight, output) in enumerate(product(FEATURES, WEIGHTS, OUTPUTS)):
        yield (
            f"attention generated_{number}(q[N, D], k[M, D], v[M, E], g[N, E]) -> [N, E]:\n"
            f"    where M = N\n"
            f"    phi(x) = {feature}\n"
            f"    a = phi(q) @ phi(k)^T\n"
            f"    w = {weight}\n"
            f"    return {output} + 0 * g\n"
        )


@dataclass(frozen=True)
class Times:
    """Milliseconds per formula of a set of texts."""

    name: str
    values: tuple[float, ...]
    slowest: str

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)


def measure(name: str, texts: Sequence[Source], runs: int) -> Times:
    """The fastest of some runs for every text, so that other programs on the machine count least."""
    best: dict[str, float] = {}
    for _ in range(runs):
        for text in texts:
            start = time.perf_counter()
            reports = check_source(text)
            elapsed = (time.perf_counter() - start) * 1000
            for report in reports:
                best[report.name] = min(best.get(report.name, elapsed), elapsed / len(reports))
    return Times(name, tuple(best.values()), max(best, key=best.__getitem__))


def start_up(runs: int) -> float:
    """Median seconds of `attngraph check` on one small file, in a process of its own."""
    command = [sys.executable, "-m", "attngraph", "check", str(examples.find("softmax_attention"))]
    found = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=examples.FOLDER.parent)
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.check", description="How fast formulas are checked.")
    parser.add_argument("--runs", type=int, default=5, help="repetitions of every measurement (default: 5)")
    runs = max(1, parser.parse_args(argv).runs)
    found = results(runs)
    print("\n".join(lines(found)))
    return 0 if found.kept else 1


@dataclass(frozen=True)
class Results:
    """Seconds until the command has answered, and milliseconds per formula: checked whole, and planned only."""

    start: float
    checked: tuple[Times, ...]
    planned: Times

    @property
    def kept(self) -> bool:
        checked = all(each.mean <= FORMULA_LIMIT for each in self.checked)
        return self.start <= START_LIMIT and checked and max(self.planned.values) <= PLAN_LIMIT


def results(runs: int) -> Results:
    """Measure. runs: repetitions of everything."""
    published = [Source(path.name, path.read_text(encoding="utf-8"), path.parent) for path in examples.FILES]
    made = [Source("generated.attn", text) for text in generated()]
    check_source(made[0])  # the parser is built once
    started = start_up(runs)
    checked = (measure("examples", published, runs), measure("generated", made, runs))
    return Results(started, checked, planning(published, runs))


def planning(texts: Sequence[Source], runs: int) -> Times:
    """The fastest of some plans of every formula."""
    best: dict[str, float] = {}
    formulas = [report.formula for text in texts for report in check_source(text) if report.formula is not None]
    for formula in formulas:
        for _ in range(runs):
            start = time.perf_counter()
            plan(formula)
            elapsed = (time.perf_counter() - start) * 1000
            best[formula.name] = min(best.get(formula.name, elapsed), elapsed)
    return Times("plans", tuple(best.values()), max(best, key=best.__getitem__))


def lines(found: Results) -> list[str]:
    """A table in Markdown, and what it says about the limits."""
    heads = ("milliseconds a formula", "count", "median", "mean", "worst", "a second", "slowest")
    table = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for each in (*found.checked, found.planned):
        values = [f"{value:.2f}" for value in (statistics.median(each.values), each.mean, max(each.values))]
        cells = [each.name, str(len(each.values)), *values, f"{1000 / each.mean:.0f}", each.slowest]
        table.append(f"| {' | '.join(cells)} |")
    limits = f"start {START_LIMIT} s, mean {FORMULA_LIMIT:g} ms a formula checked, {PLAN_LIMIT:g} ms a plan at most"
    return [
        f"`attngraph check` on one small file, from the shell and back: {found.start:.2f} s.",
        "",
        *table,
        "",
        f"Limits ({limits}): {'kept' if found.kept else '**missed**'}.",
    ]


if __name__ == "__main__":
    sys.exit(main())
