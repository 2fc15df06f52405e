"""Exact evaluation means what the operations mean: on whole numbers it says what plain arithmetic says."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from attngraph.compiler.equivalence import residues
from attngraph.compiler.equivalence.exact import RULES, evaluate
from attngraph.compiler.equivalence.residues import TRIALS
from attngraph.compiler.equivalence.values import Degree, Setting, Value
from attngraph.compiler.graph import Builder, Node
from attngraph.compiler.ops import arithmetic, functions, logic, normalisations, ordering, pairs, reductions, segments
from attngraph.compiler.ops.base import Op
from attngraph.compiler.ops.leaves import Input, Literal
from attngraph.compiler.types import Kind
from tests.ops.cases import CASES
from tests.ops.harness import Case, all_sizes
from tests.reference import evaluate as plainly

LARGEST = 5000  # denominators of fractions that whole numbers of this size give


def _setting(case: Case, known: bool) -> tuple[Node, Setting, dict[str, np.ndarray]]:
    """The operation on drawn whole numbers. known: whether evaluation is told them, as it is of positions."""
    random = np.random.default_rng(7)
    sizes = all_sizes(case, {"N": 4, "M": 3, "D": 2, "H": 2, "G": 2, "C": 3})
    builder = Builder()
    nodes: list[Node] = []
    arrays: dict[str, np.ndarray] = {}
    values: dict[str, Value] = {}
    for index, spec in enumerate(case.operands):
        if spec.number is not None:
            nodes.append(builder.make(Literal(spec.number)))
            continue
        name = f"x{index}"
        kind = Kind.REAL if spec.kind is Kind.COMPLEX else spec.kind
        nodes.append(builder.make(Input(name, kind, spec.axes)))
        low, high = (0, 1) if kind is Kind.BOOL else (int(np.ceil(spec.low)), int(spec.high))
        drawn = random.integers(low, high + 1, [sizes[axis] for axis in spec.axes])
        array = drawn.astype({Kind.BOOL: bool, Kind.INT: int, Kind.REAL: float}[kind])
        arrays[name] = array
        tensor = torch.from_numpy(array)
        told = known or kind is Kind.INT
        values[name] = Value(residues.whole(tensor), spec.axes, Degree(0 if told else 1), tensor if told else None)
    numbers = {axis: float(size) for axis, size in sizes.items()}
    return builder.make(case.op, *nodes), Setting(values, numbers, {}, set()), arrays


def _fractions(values: np.ndarray) -> torch.Tensor | None:
    """Residues of values that are fractions of small numbers; None if one of them is not."""
    found = [Fraction(value).limit_denominator(LARGEST) if np.isfinite(value) else None for value in values.flat]
    for value, fraction in zip(values.flat, found, strict=True):
        if fraction is None or abs(float(fraction) - value) > 1e-13 * max(abs(value), 1):
            return None
    above, below = (
        residues.whole(torch.tensor([part(f) for f in found if f is not None], dtype=torch.int64))
        for part in (lambda f: f.numerator, lambda f: f.denominator)
    )
    return residues.times(above, residues.inverse(below)).reshape(2, TRIALS, *values.shape)


#: operations that give no fraction of whole numbers, or of which only some laws are used
IRRATIONAL = frozenset(
    {
        *(functions.Exp, functions.Expm1, functions.Log, functions.Log1p, functions.Sin, functions.Cos, functions.Tan),
        *(functions.Sinh, functions.Cosh, functions.Tanh, functions.Sigmoid, functions.LogSigmoid, functions.Softplus),
        *(functions.Silu, functions.Softsign, functions.Sqrt, functions.Rsqrt, functions.Abs, functions.Relu),
        *(functions.Floor, functions.Ceil, functions.Round, functions.Sign, pairs.Maximum, pairs.Minimum, pairs.Clamp),
        pairs.LogAddExp,
        *(arithmetic.FloorDivide, arithmetic.Modulo, normalisations.Softmax, normalisations.LogSoftmax),
        *(normalisations.L1Normalize, normalisations.L2Normalize, normalisations.LayerNorm, normalisations.RmsNorm),
        *(reductions.StandardDeviation, reductions.Norm, reductions.LogSumExp, reductions.Max, reductions.Min),
        *(
            segments.SegmentSoftmax,
            segments.SegmentMax,
            ordering.Top,
            logic.Equal,
            logic.NotEqual,
            logic.Less,
            logic.LessEqual,
        ),
        *(logic.Greater, logic.GreaterEqual, logic.IsNan, arithmetic.Power),
    }
)
OPERATIONS = sorted({type(case.op) for case in CASES} & RULES.keys(), key=lambda op: op.__name__)


def _compared(case: Case, known: bool) -> bool:
    """Whether the values could be compared."""
    node, setting, arrays = _setting(case, known)
    [found] = evaluate([node], setting)
    expected = np.asarray(plainly(node, arrays, {axis: int(size) for axis, size in setting.sizes.items()})).real
    if found.known is not None:
        torch.testing.assert_close(
            found.known.to(torch.float64), torch.from_numpy(expected.astype(float)), equal_nan=True
        )
    wanted = _fractions(expected.astype(float)) if not setting.unknowns else None
    if wanted is None:
        return False
    assert torch.equal(found.residues[0], wanted.expand(found.residues.shape)[0]), case
    return True


@pytest.mark.parametrize("known", [False, True], ids=["drawn", "known"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda op: op.__name__)
def test_whole_numbers(operation: type[Op], known: bool) -> None:
    """known: evaluation is told the operands, as it is told positions."""
    compared = [_compared(case, known) for case in CASES if type(case.op) is operation]
    assert any(compared) or operation in IRRATIONAL
