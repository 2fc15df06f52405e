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
from attngraph.grammar.source import Source

from . import examples

START_LIMIT = 0.7  # seconds
FORMULA_LIMIT = 5.0  # milliseconds, for the mean over a set

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
    published = [Source(path.name, path.read_text(encoding="utf-8"), path.parent) for path in examples.FILES]
    made = [Source("generated.attn", text) for text in generated()]
    check_source(made[0])  # the parser is built once
    started = start_up(runs)
    sets = [measure("examples", published, runs), measure("generated", made, runs)]
    print(f"start of `attngraph check`: {started:.2f} s, median of {runs} (limit {START_LIMIT} s)\n")
    print(f"{'formulas':<12}{'count':>6}{'median':>9}{'mean':>9}{'worst':>9}{'per second':>12}  slowest")
    for each in sets:
        values = (f"{value:.2f} ms" for value in (statistics.median(each.values), each.mean, max(each.values)))
        columns = "".join(f"{value:>9}" for value in values)
        print(f"{each.name:<12}{len(each.values):>6}{columns}{1000 / each.mean:>12.0f}  {each.slowest}")
    kept = started <= START_LIMIT and all(each.mean <= FORMULA_LIMIT for each in sets)
    print(f"\nlimits (start {START_LIMIT} s, mean {FORMULA_LIMIT:g} ms a formula): {'kept' if kept else 'MISSED'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
