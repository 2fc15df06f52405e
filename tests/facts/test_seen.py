"""Of a mask that is said to leave something in every row, every row has something left."""

from __future__ import annotations

import numpy as np
import pytest

from attngraph.compiler.facts.seen import leaves_some
from attngraph.compiler.formula import Formula
from attngraph.compiler.graph import Node
from attngraph.compiler.ops.normalisations import Softmax

from ..property.test_causal import CONDITIONS
from ..reference import evaluate
from .probes import formula_of

LEFT = (
    "pos(N) >= pos(M)", "pos(N) - pos(M) >= 0 and pos(N) - pos(M) <= 2", "pos(N) // 3 == pos(M) // 3",
    "d == d[N -> M] and pos(N) >= pos(M)", "not pos(N) < pos(M)", "not (pos(M) > pos(N) or pos(N) // 2 != pos(M) // 2)",
    "pos(M) < 1", "pos(M) < left", "pos(N) - pos(M) >= 0 and pos(N) - pos(M) < left", "c or pos(M) == pos(N)",
    "abs(pos(N) - pos(M)) <= 2", "(pos(N) - 2) % N >= (pos(M) - 2) % N", "pos(N) + 1 > pos(M)",
    "(d + 1) // 2 == (d[N -> M] + 1) // 2",
)  # fmt: skip
NOT = (
    "pos(N) > pos(M)", "c", "c and pos(N) >= pos(M)", "pos(N) != pos(M)", "pos(N) >= pos(M) + 1",
    "d == d[N -> M] + 1", "d > d[N -> M]", "pos(M) < left - 3", "pos(N) // 2 > pos(M) // 2", "pos(M) > 0",
    "abs(pos(N) - pos(M)) < 0", "abs(pos(N) - pos(M) + 2) <= 1",
    "x == x[N -> M]",  # a NaN equals nothing
    "(pos(N) - 2) % N > (pos(M) - 2) % N", "pos(N) - pos(M) >= 1 and pos(N) - pos(M) <= 2",
)  # fmt: skip
TEXT = """attention f(s[N, M], d[N] int, x[N], c[N, M] bool) -> [N, M]:
    where M = N
    const left = 3
    return softmax[M](s, mask={condition})
"""


def _mask(formula: Formula) -> Node:
    return next(node.inputs[1] for node in formula.graph if isinstance(node.op, Softmax))


def _said(condition: str) -> tuple[Formula, bool]:
    formula = formula_of(TEXT.format(condition=condition))
    return formula, leaves_some(_mask(formula), ("M",), formula.constants, formula.facts)


@pytest.mark.parametrize("condition", [*LEFT, *NOT, *CONDITIONS])
def test_what_is_said_to_be_left_is_left(condition: str) -> None:
    formula, said = _said(condition)
    assert condition not in LEFT or said
    assert condition not in NOT or not said
    random = np.random.default_rng(0)
    for length in (1, 2, 5, 7) if said else ():
        for _ in range(4):
            arrays = {
                "d": random.integers(0, 3, length),
                "x": random.normal(size=length),
                "s": random.normal(size=(length, length)),
                "c": random.random((length, length)) < 0.3,
            }
            left = evaluate(_mask(formula), arrays, {"N": length, "M": length}, formula.constants)
            node = _mask(formula)
            assert np.asarray(left).any(axis=node.axes.index("M") - len(node.axes)).all()


def test_more_keys_than_queries() -> None:
    """The entry at the position of the row exists only where there are as many keys as queries, or more."""
    for facts, said in (("M >= N", True), ("N >= M", False), ("M = 2 * N", True), ("N = 2 * M", False)):
        text = TEXT.format(condition="pos(N) == pos(M)").replace("M = N", facts).replace("d[N] int, x[N], ", "")
        formula = formula_of(text)
        assert leaves_some(_mask(formula), ("M",), formula.constants, formula.facts) is said
