"""What the pages of single operations promise beyond their formula."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import attngraph
from attngraph.compiler.ops import arithmetic, logic, normalisations, reductions
from attngraph.compiler.sizes import Poly, growth
from attngraph.compiler.types import Kind, Type
from tests.ops.cases import CASES, mask, number, real
from tests.ops.harness import Case, prepare

RANDOM = np.random.default_rng(0)


def code(case: Case, folder: Path) -> Callable[..., Any]:
    sizes = {"N": 3, "M": 4, "H": 2}
    return prepare(case, sizes, [() for _ in case.operands], RANDOM).function(folder)


@pytest.mark.parametrize("axes", ["M", "HM"])
def test_masked_softmax_without_keys(axes: str, tmp_path: Path) -> None:
    """A row with no key left is zero and passes no gradient; the other rows are as if it were not there."""
    case = Case(normalisations.Softmax(tuple(axes), ("mask",)), (real("HNM"), mask("HNM")))
    softmax = code(case, tmp_path)
    scores = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    keep = torch.rand(2, 3, 4) < 0.7
    keep[:, 1] = False
    keep[:, [0, 2], 0] = True
    weights = softmax(scores, keep)
    assert torch.equal(weights[:, 1], torch.zeros(2, 4, dtype=torch.float64))
    (weights * torch.randn(2, 3, 4, dtype=torch.float64)).sum().backward()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    assert torch.equal(scores.grad[:, 1], torch.zeros(2, 4, dtype=torch.float64))
    assert scores.grad[:, [0, 2]].abs().sum() > 0
    assert torch.equal(weights[~keep], torch.zeros_like(weights[~keep]))


def test_softmax_does_not_overflow(tmp_path: Path) -> None:
    softmax = code(Case(normalisations.Softmax(("M",)), (real("NM"),)), tmp_path)
    weights = softmax(torch.tensor([[1e4, 1e4, 0.0, -1e4]] * 3))
    torch.testing.assert_close(weights, torch.tensor([[0.5, 0.5, 0.0, 0.0]] * 3))


def test_where_discards_what_it_does_not_select(tmp_path: Path) -> None:
    """inf and NaN of the side that is not taken reach neither the value nor the gradient."""
    where = code(Case(logic.Where(), (mask("N"), real("N"), number(0.0))), tmp_path)
    x = torch.tensor([1.0, float("inf"), float("nan")], dtype=torch.float64, requires_grad=True)
    result = where(torch.tensor([True, False, False]), x)
    assert torch.equal(result, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    result.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))


def test_multiplication_by_a_mask_does_not_discard(tmp_path: Path) -> None:
    multiply = code(Case(arithmetic.Multiply(), (mask("N"), real("N"))), tmp_path)
    assert torch.isnan(multiply(torch.tensor([False] * 3), torch.full((3,), float("inf"))))[0]


@pytest.mark.parametrize("op", [normalisations.L1Normalize(("M",)), normalisations.L2Normalize(("M",))], ids=str)
def test_normalising_zero(op: normalisations.Normalisation, tmp_path: Path) -> None:
    normalise = code(Case(op, (real("NM"),)), tmp_path)
    x = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    result = normalise(x)
    assert torch.equal(result, torch.zeros_like(x))
    result.sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("op", [reductions.Norm(("M",)), reductions.StandardDeviation(("M",))], ids=str)
def test_gradient_at_zero_is_zero(op: reductions.Reduction, tmp_path: Path) -> None:
    reduce = code(Case(op, (real("NM"),)), tmp_path)
    x = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    reduce(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_logsumexp_of_nothing(tmp_path: Path) -> None:
    reduce = code(Case(reductions.LogSumExp(("M",)), (real("NM"),)), tmp_path)
    assert torch.equal(reduce(torch.full((3, 4), -torch.inf)), torch.full((3,), -torch.inf))


def test_a_fixed_choice_between_numbers_has_the_working_precision(tmp_path: Path) -> None:
    """`where(c, 0.1, 0.2)` in float64 holds 0.1, not the float32 nearest to it."""
    where = code(Case(logic.Where(), (mask("N"), number(0.1), number(0.2))), tmp_path)
    assert where(torch.tensor([True, False, True])).tolist() == [0.1, 0.2, 0.1]


def test_costs() -> None:
    """Some costs by hand: what is counted per element, and over which axes."""
    scores = Type(Kind.REAL, ("N", "M"))
    size = Poly.volume(("N", "M"))
    assert normalisations.Softmax(("M",)).flops(scores, scores) == size * 5
    assert reductions.Sum(("M",)).flops(Type(Kind.REAL, ("N",)), scores) == size
    assert arithmetic.Add().flops(scores, Type(Kind.REAL, ("N",)), scores) == size
    assert arithmetic.IntegerPower(2).flops(scores, scores) == size
    assert arithmetic.IntegerPower(7).flops(scores, scores) == size * 4
    assert not arithmetic.Add().flops(Type(Kind.REAL), Type(Kind.REAL), Type(Kind.REAL))


def test_transforms_grow_as_they_say() -> None:
    from attngraph.compiler.ops.spectral import FourierTransform

    x, z = Type(Kind.COMPLEX, ("N", "C")), Type(Kind.COMPLEX, ("K", "C"))
    cost = FourierTransform("N", "K").flops(z, x).substitute({"K": Poly.symbol("N")})
    assert growth(cost) == frozenset({(("C", (1, 0)), ("N", (1, 1)))})
    assert cost.evaluate({"N": 8, "C": 2}) == pytest.approx(5 * 3 * 16)


# Operations whose code may depend on sizes: exported once, run at other sizes.
_SIZED = ("Contraction", "Softmax", "LayerNorm", "RmsNorm", "Concat", "Take", "Windows", "Shift", "Roll", "Merge",
          "LogSoftmax", "Variance", "Where", "Sort", "Convolution", "TransposedConvolution",
          "AveragePool", "MaxPool", "CircularPadding", "SegmentSoftmax", "SegmentSum", "SegmentMax")  # fmt: skip


def _is_sized(case: Case) -> bool:
    """Whether every size that the code needs is that of an operand, or a constant of the case."""
    if type(case.op).__name__ not in _SIZED:
        return False
    carried = {axis for spec in case.operands for axis in spec.axes}
    result = case.op.infer(*(Type(spec.kind, spec.axes) for spec in case.operands))
    return {*result.axes} - carried <= {"L", "W"} and "P" not in result.axes


EXPORTED = [case for case in CASES if _is_sized(case)]


@pytest.mark.slow
@pytest.mark.parametrize("case", EXPORTED, ids=map(str, EXPORTED))
def test_export_is_dynamic(case: Case, tmp_path: Path) -> None:
    """An exported program serves other sizes and batches than those it was traced with."""
    traced = {"N": 6, "M": 3, "D": 7, "H": 2, "G": 4, "C": 5}
    others = {"N": 11, "M": 5, "D": 2, "H": 3, "G": 2, "C": 9}
    first = prepare(case, traced, [(2,) for _ in case.operands], RANDOM)
    function = first.function(tmp_path)

    class Module(torch.nn.Module):
        def forward(self, *tensors: torch.Tensor) -> Any:
            return function(*tensors)

    examples = tuple(first.tensors())
    dynamic = tuple(dict.fromkeys(range(tensor.dim()), torch.export.Dim.AUTO) for tensor in examples)
    program = torch.export.export(Module(), examples, dynamic_shapes=(dynamic,)).module()
    for sizes, batch in ((traced, 2), (others, 3)):
        prepared = prepare(case, sizes, [(batch,) for _ in case.operands], RANDOM)
        result = program(*prepared.tensors())
        np.testing.assert_allclose(result.numpy(), prepared.expected(), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(
    ("facts", "value", "count"),
    [
        ("const K = 5", "where(top[N](x, count=K), x, 0)", "K = 5, N = 3"),
        ("where K = 5", "x * sum[K](take[N](x, top_positions[N -> K](x)))", "K = 5, N = 3"),
    ],
)
def test_more_of_the_best_than_there_are_is_told(facts: str, value: str, count: str) -> None:
    """Where the sizes are known when the formula is checked, else when the module is called."""
    text = f"attention f(x[N]) -> [N]:\n    {facts}\n    return {value}\n"
    module = attngraph.compile(text)
    with pytest.raises(ValueError, match=f"f: N >= K does not hold for {count}"):
        module(torch.randn(3))
    assert module(torch.randn(5)).shape == (5,)
    known = text.replace("    return", "    where N = 3\n    return")
    assert "AG314" in [each.code for each in attngraph.check(known.replace("const K", "where K")).diagnostics]


@pytest.mark.parametrize(("place", "low"), [("3", "N >= 4"), ("N - 2", "N - 2 >= 0"), ("2 * W", "N >= 2*W + 1")])
def test_one_place_that_all_take_is_there(place: str, low: str) -> None:
    text = f"attention f(x[N, D]) -> [D]:\n    const W = 2\n    return take[N](x, {place}) * W\n"
    module = attngraph.compile(text)
    x = torch.randn(5, 3)
    torch.testing.assert_close(module(x), 2 * x[{"3": 3, "N - 2": 3, "2 * W": 4}[place]])
    with pytest.raises(ValueError, match=re.escape(f"{low} does not hold for N = 1")):
        module(x[:1])


@pytest.mark.parametrize("place", ["-1", "-5", "N", "N + 2", "3 - 7"])
def test_a_place_beyond_the_end_is_refused(place: str) -> None:
    """Not counted from the end, as an index of torch would be."""
    text = f"attention f(x[N, D]) -> [D]:\n    return take[N](x, {place})\n"
    assert [each.code for each in attngraph.check(text).diagnostics] == ["AG314"]


TABLES = ("table[L]", "table[L, D]", "table[N, L]", "table[L, N, D]")
INDICES = ("index[N] int", "index[N, M] int", "index[L] int", "index[] int")


@pytest.mark.parametrize("stored", [False, True], ids=["table given", "table stored"])
@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("table", TABLES)
def test_take_refuses_positions_outside(table: str, index: str, stored: bool) -> None:
    """Behind the end and before the start, whatever of table and index has batch axes."""
    sizes = {"L": 3, "D": 2, "N": 2, "M": 4}
    axes, places = (re.findall(r"[A-Z]", text) for text in (table, index))
    rest = [axis for axis in axes if axis != "L"]
    new = [axis for axis in places if axis not in rest]
    at = axes.index("L")
    result = ", ".join([*rest[:at], *new, *rest[at:]])
    inputs, declared = (index, f"    param {table}\n") if stored else (f"{table}, {index}", "")
    text = f"attention taken({inputs}) -> [{result}]:\n{declared}    return take[L](table, index)\n"
    module: Any = attngraph.compile(text, sizes={axis: sizes[axis] for axis in axes} if stored else {})
    for batch, table_batch in (((), ()), ((5,), ()), ((), (5,)), ((5,), (5,))):
        if stored and table_batch:
            continue
        values = module.table if stored else torch.randn(*table_batch, *(sizes[axis] for axis in axes))
        given = () if stored else (values,)
        chosen = torch.randint(0, 3, (*batch, *(sizes[axis] for axis in places)))
        assert torch.isin(module(*given, chosen), values).all()
        for wrong in (-1, 3):
            outside = chosen.clone()
            outside.view(-1)[-1] = wrong
            with pytest.raises((IndexError, RuntimeError), match="out of"):
                module(*given, outside)
