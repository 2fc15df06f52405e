"""Exponentials less the largest of them: as far as the text goes without overflow, the plan does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attngraph.compiler.dense import dense
from attngraph.compiler.module import compile as build
from tests.reference import evaluate

from .formulas import LEVELS, Case, formula
from .harness import all_sizes, close, draw, pair, parts

[MLSTM] = [case for case in LEVELS if case.name == "mlstm"]


def _gates(case: Case, i: torch.Tensor, f: torch.Tensor) -> tuple[torch.Tensor, ...]:
    random = torch.Generator().manual_seed(2)
    q, k, v = torch.randn(3, 2, i.size(-1), 4, generator=random, dtype=torch.float64)
    q, k = q.abs(), k.abs()  # no sum of weights cancels
    return q, k, v, i.expand(2, -1).contiguous(), f.expand(2, -1).contiguous()


@pytest.mark.parametrize("piece", [1, 50, 200])
def test_what_exponentials_alone_would_overflow(piece: int) -> None:
    """Input gates of exp(+-300), forget gates from almost 0 to almost 1; whole, and in single precision by pieces."""
    positions = torch.arange(200, dtype=torch.float64)
    i, f = 300 * torch.sin(positions), 40 * torch.cos(positions / 7) - 10
    inputs = _gates(MLSTM, i, f)
    both = pair(MLSTM.text)
    expected = both.dense(*inputs)
    close(both.planned(*inputs), expected, 1e-9, "double precision")
    module = both.planned.float()
    state, rows = module.init_state(), []  # type: ignore[operator]
    for start in range(0, 200, piece):
        part = [x[:, start : start + piece].float() for x in inputs]
        row, state = module.step(state, *part)  # type: ignore[operator]
        rows.append(row)
    close(torch.cat(rows, -2).double(), expected, 2e-4, "single precision")


def test_the_error_does_not_grow_with_the_level() -> None:
    """Forget gates of exp(-40) for a thousand positions, and weak ones behind: the level is at -40000."""
    strong = torch.arange(1200) < 1000
    f = torch.where(strong, -40.0, 4.0).double()
    inputs = _gates(MLSTM, torch.zeros(1200, dtype=torch.float64), f)
    both = pair(MLSTM.text)
    expected = both.dense(*inputs)
    close(both.planned.float()(*(x.float() for x in inputs)).double(), expected, 2e-5, "single precision")


def test_keys_that_are_switched_off_leave_no_trace() -> None:
    """Scores of -inf: rows that see no other keys are no numbers in the text, and no other row may become so."""
    i = torch.zeros(90, dtype=torch.float64)
    i[:70] = -torch.inf
    inputs = _gates(MLSTM, i, torch.ones(90, dtype=torch.float64))
    both = pair(MLSTM.text)
    close(both.planned(*inputs)[:, 70:], both.dense(*inputs)[:, 70:], 1e-10, "rows that see a key")


@pytest.mark.parametrize("case", [case for case in LEVELS if case.ops], ids=str)
def test_what_a_plan_means(case: Case) -> None:
    """The plan by the independent evaluation of its operations, and with its algorithms written out again."""
    formula, written, plan = parts(case.text)
    sizes = all_sizes(case, 6)
    inputs = draw(case, sizes, (2,))
    arrays = {node.op.name: x.detach().numpy() for node, x in zip(formula.inputs, inputs, strict=True)}  # type: ignore[attr-defined]
    [expected] = evaluate(written, arrays, sizes, formula.constants)
    [by_plan] = evaluate(plan, arrays, sizes, formula.constants)
    np.testing.assert_allclose(by_plan, expected, rtol=1e-10, atol=1e-12)
    [again] = dense(plan.outputs, formula.builder)
    np.testing.assert_allclose(evaluate(again, arrays, sizes, formula.constants), expected, rtol=1e-10, atol=1e-12)


MASKS = (
    "pos(N) >= pos(M)", "pos(N) > pos(M)", "pos(N) - pos(M) >= 3", "pos(N) + 1 >= pos(M)",
    "abs(pos(N) - pos(M)) <= 3", "pos(N) // 7 == pos(M) // 7",
)  # fmt: skip
EXPONENTS = (
    "i - s",
    "c - c[N -> M] + i",
    "c - c[N -> M] + i - s",
    "(i - s) / 2",
    "i - s - 0.5 * (pos(N) - pos(M))",
    "i - max[M](where(MASK, i, -inf))",
)
PLACES = (
    "(q @ k^T) * exp(where(MASK, EXPONENT, -inf))",
    "(q @ k^T) * where(MASK, exp(EXPONENT), 0)",
    "where(MASK, (q @ k^T) * exp(EXPONENT), 0)",
    "(q @ k^T) * (MASK) * exp(EXPONENT)",
)


def _finite_where_the_text_is(text: str, names: dict[str, torch.Tensor]) -> None:
    """In single precision, whatever the text has as a number the plan has too, and the same one.

    The text has it also of queries 1e8 times as large: at the very end of the range the order of products decides.
    """
    formula, written, plan = parts(text)
    inputs = [names[node.op.name] for node in formula.inputs]  # type: ignore[attr-defined]
    planned, literal = (build(formula, graph) for graph in (plan, written))
    exact = literal(*inputs)
    single, large = (literal(inputs[0].float() * scale, *(x.float() for x in inputs[1:])) for scale in (1, 1e8))
    got = planned(*(x.float() for x in inputs)).double()
    numbers = single.isfinite() & large.isfinite() & exact.isfinite()
    assert got[numbers].isfinite().all(), text
    if numbers.any():
        least = 1e-3 * float(exact[numbers].abs().max()) + 1e-30
        scale = exact[numbers].abs().clamp(min=least)
        rounding = ((single.double()[numbers] - exact[numbers]).abs() / scale).max()
        error = ((got[numbers] - exact[numbers]).abs() / scale).max()
        assert error <= 2e-3 + 10 * rounding, text


def _scores(base: float, ramp: float) -> dict[str, torch.Tensor]:
    """Keys and queries whose exponents are far from 0, and near each other."""
    random = torch.Generator().manual_seed(7)
    q, k, v = torch.randn(3, 70, 3, generator=random, dtype=torch.float64)
    level = base + torch.linspace(-ramp, ramp, 70, dtype=torch.float64)
    i, s = level + torch.randn(2, 70, generator=random, dtype=torch.float64)
    g = -50 * torch.rand(70, generator=random, dtype=torch.float64)
    return {"q": q.abs(), "k": k.abs(), "v": v, "i": i, "s": s, "g": g}


@pytest.mark.parametrize("mask", [*MASKS, "i > 0", None], ids=str)
def test_no_overflow_that_the_text_has_not(mask: str | None) -> None:
    """Levels of +-300 and from -400 to 400; the ways to write a mask take turns, and a strict one has each."""
    for turn, exponents in enumerate(EXPONENTS):
        if mask not in MASKS[:3] and ("c - " in exponents or "pos" in exponents):
            continue  # what comes later rises without a bound
        written = (turn, turn + 1) if mask == "pos(N) > pos(M)" else (turn,)
        for place in written:
            weight = PLACES[place % len(PLACES)].replace("EXPONENT", exponents)
            if mask is None:
                weight = "(q @ k^T) * exp(" + exponents.replace("where(MASK, i, -inf)", "i") + ")"
            text = formula(
                "scores", "q[N, D], k[M, D], v[M, E], i[M], s[N], g[N]",
                "where M = N", "sequence N", "c = cumsum[N](g)",
                f"w = {weight.replace('MASK', mask or '')}", "return (w / (sum[M](w) + 1)) @ v",
            )  # fmt: skip
            for base, ramp in ((300.0, 0.0), (-300.0, 0.0), (0.0, 400.0)):
                _finite_where_the_text_is(text, _scores(base, ramp))
