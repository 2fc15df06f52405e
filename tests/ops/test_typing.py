"""What operations refuse, and what their pages say."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import attngraph.compiler.ops as ops
from attngraph.compiler.ops import (
    BY_SPELLING,
    OPS,
    arithmetic,
    cumulative,
    functions,
    layout,
    leaves,
    logic,
    normalisations,
    ordering,
    padding,
    pairs,
    pooling,
    reductions,
    segments,
    selection,
    spectral,
)
from attngraph.compiler.ops.base import Brackets, Leaf, Op, Reject
from attngraph.compiler.ops.contraction import Contraction, matmul
from attngraph.compiler.ops.convolution import Convolution, TransposedConvolution
from attngraph.compiler.sizes import Poly
from attngraph.compiler.types import Kind, Type
from attngraph.grammar.codes import CODES
from attngraph.grammar.diagnostics import Diagnostic
from attngraph.grammar.source import NOWHERE
from tests.ops.cases import poly

BOOL, INT, REAL, COMPLEX = Kind.BOOL, Kind.INT, Kind.REAL, Kind.COMPLEX


def of(axes: str, kind: Kind = REAL) -> Type:
    return Type(kind, tuple(axes))


REJECTED: list[tuple[Op, tuple[Type, ...], str, int | None]] = [
    (arithmetic.Add(), (of("N", BOOL), of("N")), "AG207", 0),
    (arithmetic.Subtract(), (of("N"), of("N", BOOL)), "AG207", 1),
    (arithmetic.Multiply(), (of("N", BOOL), of("N", BOOL)), "AG207", 0),
    (arithmetic.Negative(), (of("N", BOOL),), "AG207", 0),
    (arithmetic.Power(), (of("N", BOOL), of("")), "AG207", 0),
    (arithmetic.IntegerPower(2), (of("N", BOOL),), "AG207", 0),
    (arithmetic.FloorDivide(), (of("N", COMPLEX), of("")), "AG209", 0),
    (arithmetic.Modulo(), (of("N"), of("", COMPLEX)), "AG209", 1),
    (logic.And(), (of("N", BOOL), of("N")), "AG208", 1),
    (logic.Not(), (of("N", INT),), "AG208", 0),
    (logic.Where(), (of("N"), of("N"), of("N")), "AG208", 0),
    (logic.Where(), (of("N", BOOL), of("N", BOOL), of("")), "AG214", 1),
    (logic.Equal(), (of("N", BOOL), of("", INT)), "AG214", 0),
    (logic.Less(), (of("N", COMPLEX), of("")), "AG209", 0),
    (functions.Exp(), (of("N", BOOL),), "AG207", 0),
    (functions.Relu(), (of("N", COMPLEX),), "AG209", 0),
    (pairs.Maximum(), (of("N", BOOL), of("N")), "AG207", 0),
    (pairs.Clamp(), (of("N"),), "AG215", None),
    (reductions.Sum(("M",)), (of("N"),), "AG268", 0),
    (reductions.Sum(("N", "N")), (of("N"),), "AG212", None),
    (reductions.Max(("N",)), (of("N", BOOL),), "AG207", 0),
    (reductions.Any(("N",)), (of("N"),), "AG208", 0),
    (reductions.ArgMax("M"), (of("N"),), "AG268", 0),
    (reductions.LogSumExp(("N",)), (of("N", COMPLEX),), "AG209", 0),
    (reductions.Variance(("N",), ddof=poly("0.5")), (of("N"),), "AG216", None),
    (normalisations.Softmax(("M",), ("sink",)), (of("NM"), of("M")), "AG217", 1),
    (normalisations.Softmax(("N", "M"), ("mask", "sink")), (of("NM"), of("M", BOOL), of("HN")), "AG217", 2),
    (normalisations.Softmax(("M",), ("sink",)), (of("NM"), of("N", BOOL)), "AG207", 1),
    (normalisations.Softmax(("M",), ("sink",)), (of("NM"), of("N", COMPLEX)), "AG209", 1),
    (reductions.Variance(("N",), ddof=poly(-1)), (of("N"),), "AG217", None),
    (normalisations.Softmax(("M",)), (of("N"),), "AG268", 0),
    (normalisations.Softmax(("N",), ("mask",)), (of("N"), of("N")), "AG208", 1),
    (normalisations.Softmax(("N",)), (of("N", BOOL),), "AG207", 0),
    (normalisations.LayerNorm(("N",), ("gain",)), (of("N"), of("N", BOOL)), "AG207", 1),
    (cumulative.CumulativeMax("N"), (of("N", BOOL),), "AG207", 0),
    (cumulative.CumulativeSum("M"), (of("N"),), "AG268", 0),
    (layout.Rename("M", "L"), (of("N"),), "AG268", 0),
    (layout.Rename("N", "M"), (of("NM"),), "AG211", 0),
    (layout.Split("N", ("Y", "D")), (of("ND"),), "AG211", 0),
    (layout.Split("N", ("Y", "Y")), (of("ND"),), "AG212", None),
    (layout.Merge(("N", "M"), "L"), (of("ND"),), "AG268", 0),
    (layout.Merge(("N", "D"), "M"), (of("NDM"),), "AG211", 0),
    (selection.Concat(("N",), "L"), (of("N"), of("N")), "AG218", None),
    (selection.Concat(("N", "M"), "L"), (of("N", BOOL), of("M")), "AG214", 0),
    (selection.Concat(("N", "M"), "L"), (of("NM"), of("M")), "AG219", 1),
    (selection.Concat(("N", "M"), "D"), (of("ND"), of("M")), "AG211", 0),
    (selection.Slice("N", "P", start=poly(-1)), (of("N"),), "AG217", None),
    (selection.Slice("N", "P", stride=poly("1.5")), (of("N"),), "AG216", None),
    (selection.Take("L"), (of("LD"), of("N")), "AG213", 1),
    (selection.Shift("N", by=poly("0.5")), (of("N"),), "AG216", None),
    (selection.Pad("N", "D", after=poly(1)), (of("ND"),), "AG211", 0),
    (selection.Pad("N", "P", value=poly("0.5")), (of("N", INT),), "AG216", None),
    (selection.Windows("N", "P", "D"), (of("ND"),), "AG211", 0),
    (selection.Windows("N", "P", "W", stride=poly(0)), (of("N"),), "AG217", None),
    (selection.Fold(("P", "W", "D"), "N"), (of("PWD"),), "AG220", None),
    (ordering.Top("N", poly(0)), (of("N"),), "AG217", None),
    (ordering.Sort("N"), (of("N", COMPLEX),), "AG209", 0),
    (ordering.TopPositions("N", "D"), (of("ND"),), "AG211", 0),
    (spectral.RealFourierTransform("N", "K"), (of("N", COMPLEX),), "AG209", 0),
    (spectral.FourierTransform("M", "K"), (of("N"),), "AG268", 0),
    (spectral.MakeComplex(), (of("N"), of("N", BOOL)), "AG207", 1),
    (Contraction(("D",), ("N", "M")), (of("ND"), of("M")), "AG201", None),
    (segments.SegmentSoftmax("N"), (of("N"), of("N")), "AG213", 1),
    (segments.SegmentSum("N"), (of("N"), of("N", BOOL)), "AG213", 1),
    (segments.SegmentMax("N"), (of("N", COMPLEX), of("N", INT)), "AG209", 0),
    (segments.SegmentSoftmax("N"), (of("N"), of("M", INT)), "AG268", 1),
    (segments.SegmentSoftmax("N"), (of("N", BOOL), of("N", INT)), "AG207", 0),
    (segments.SegmentSoftmax("N", ("mask",)), (of("N"), of("N", INT), of("N")), "AG208", 2),
    (pooling.AveragePool("N", "P", poly(0)), (of("N"),), "AG217", None),
    (pooling.AveragePool("N", "D", poly(2)), (of("ND"),), "AG211", 0),
    (pooling.MaxPool("N", "P", poly(2), stride=poly("0.5")), (of("N"),), "AG216", None),
    (pooling.MaxPool("N", "P", poly(2)), (of("N", COMPLEX),), "AG209", 0),
    (pooling.AdaptivePool("N", "P"), (of("N", BOOL),), "AG207", 0),
    (pooling.Resize("N", "P"), (of("N", BOOL),), "AG207", 0),
    (padding.CircularPadding("N", "P", before=poly(-1)), (of("N"),), "AG217", None),
    (padding.ReflectedPadding("M", "P"), (of("N"),), "AG268", 0),
    (Convolution(("N",), ("K",), ("N",)), (of("NC"), of("NK")), "AG221", 1),
    (Convolution(("N",), ("K",), ("N",)), (of("NK"), of("K")), "AG221", 0),
    (Convolution(("N",), ("K",), ("P",)), (of("NP"), of("K")), "AG211", 0),
    (Convolution(("N",), ("K",), ("N",)), (of("N"), of("W")), "AG268", 1),
    (Convolution(("N",), ("K",), ("N",), stride=poly(0)), (of("N"), of("K")), "AG217", None),
    (Convolution(("N",), ("K",), ("N",), start=poly("0.5")), (of("N"), of("K")), "AG216", None),
    (TransposedConvolution(("N",), ("K",), ("N",)), (of("N"), of("K", BOOL)), "AG207", 1),
]


@pytest.mark.parametrize(("op", "operands", "code", "blamed"), REJECTED, ids=lambda value: str(value)[:60])
def test_rejected(op: Op, operands: tuple[Type, ...], code: str, blamed: int | None) -> None:
    """A misuse has its code, blames the operand, and its words find every fact they need."""
    with pytest.raises(Reject) as rejected:
        op.infer(*operands)
    assert (rejected.value.code, rejected.value.operand) == (code, blamed)
    diagnostic = Diagnostic(code, NOWHERE, {"expression": "f(x)", **rejected.value.facts})
    assert "{" not in diagnostic.message + (diagnostic.suggestion or "")


@pytest.mark.parametrize(
    ("left", "right", "code"),
    [("ND", "MD", "AG201"), ("ND", "DN", "AG206"), ("", "DN", "AG205"), ("ND", "", "AG205"), ("ND", "M", "AG201")],
)
def test_matmul_rejects(left: str, right: str, code: str) -> None:
    with pytest.raises(Reject) as rejected:
        matmul(of(left), of(right))
    assert rejected.value.code == code
    assert "{" not in Diagnostic(code, NOWHERE, {"expression": "x @ y", **rejected.value.facts}).message


@pytest.mark.parametrize(
    ("left", "right", "result"),
    [("ND", "DM", "NM"), ("HND", "DM", "HNM"), ("ND", "HDM", "HNM"), ("D", "D", ""), ("ND", "D", "N"), ("D", "DM", "M"),
     ("NM", "NMD", "ND"), ("GHND", "HDM", "GHNM"), ("HND", "GHDM", "HGNM")],
)  # fmt: skip
def test_matmul_axes(left: str, right: str, result: str) -> None:
    op = matmul(of(left), of(right))
    assert op.infer(of(left), of(right)) == of(result)


KINDS: list[tuple[Op, tuple[Kind, ...], Kind]] = [
    (arithmetic.Add(), (INT, INT), INT),
    (arithmetic.Add(), (INT, REAL), REAL),
    (arithmetic.Multiply(), (REAL, COMPLEX), COMPLEX),
    (arithmetic.Multiply(), (BOOL, REAL), REAL),
    (arithmetic.Multiply(), (BOOL, INT), INT),
    (arithmetic.Divide(), (INT, INT), REAL),
    (arithmetic.Power(), (INT, INT), REAL),
    (arithmetic.IntegerPower(2), (INT,), INT),
    (arithmetic.FloorDivide(), (INT, INT), INT),
    (arithmetic.FloorDivide(), (REAL, INT), REAL),
    (arithmetic.Modulo(), (INT, INT), INT),
    (logic.Less(), (INT, REAL), BOOL),
    (logic.Where(), (BOOL, INT, REAL), REAL),
    (logic.Where(), (BOOL, BOOL, BOOL), BOOL),
    (functions.Exp(), (INT,), REAL),
    (functions.Abs(), (INT,), INT),
    (functions.Abs(), (COMPLEX,), REAL),
    (functions.Floor(), (REAL,), REAL),
    (functions.Int(), (REAL,), INT),
    (functions.Int(), (INT,), INT),
    (pairs.Minimum(), (INT, INT), INT),
    (pairs.LogAddExp(), (INT, INT), REAL),
    (pairs.Clamp(("min",)), (INT, REAL), REAL),
]


@pytest.mark.parametrize(("op", "kinds", "result"), KINDS, ids=lambda value: str(value)[:60])
def test_kinds(op: Op, kinds: tuple[Kind, ...], result: Kind) -> None:
    assert op.infer(*(of("N", kind) for kind in kinds)).kind is result


def test_axes_meet_by_name() -> None:
    """The operand that has all axes gives the order; else the left one's come first."""
    add = arithmetic.Add()
    assert add.infer(of("ND"), of("N")).axes == ("N", "D")
    assert add.infer(of("N"), of("DN")).axes == ("D", "N")
    assert add.infer(of("NM"), of("MN")).axes == ("N", "M")
    assert add.infer(of("N"), of("M")).axes == ("N", "M")


def test_batch_follows_the_inputs() -> None:
    unbatched, batched = Type(REAL, ("N",)), Type(REAL, ("N",), True)
    assert arithmetic.Add().infer(unbatched, batched).batched
    assert not arithmetic.Add().infer(unbatched, unbatched).batched


# -- pages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
def test_page(op: type[Op]) -> None:
    """The docstring is a reference page: a headline, the formula, then notes."""
    page = op.__doc__ or ""
    headline = page.splitlines()[0]
    assert headline.endswith(".")
    if issubclass(op, Leaf) and op is not leaves.Position:
        return
    assert re.match(r"\S.*: [a-z].*\.$", headline), headline
    assert "Formula: `" in page or "Formula:\n" in page
    if op.spelling.isidentifier() and op.spelling not in ("and", "or"):
        assert op.spelling in headline.split(":")[0]
        assert ("[" in headline.split("(")[0]) == (op.brackets is not Brackets.NONE)
    assert op.family


def test_every_class_is_listed() -> None:
    """OPS names every concrete operation of the package once."""
    folder = Path(ops.__file__).parent
    public = set()
    for path in folder.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                public.add(node.name)
    bases = {"Op", "Leaf", "Operand", "Emitter", "Reject", "Brackets", "Declared", "Carried", "Continuation"}
    bases |= {"Function", "Reduction", "Normalisation", "Cumulative", "Layout"}
    assert {op.__name__ for op in OPS} == public - bases
    assert len(OPS) == len(set(OPS))


def test_spellings() -> None:
    assert BY_SPELLING["max", True] is reductions.Max
    assert BY_SPELLING["max", False] is pairs.Maximum
    named = [op for op in OPS if op.spelling.isidentifier() and op.spelling not in ("and", "or", "not")]
    assert len(BY_SPELLING) == len(named)


def test_codes_exist() -> None:
    """Every code that an operation can raise has its words."""
    text = "".join(path.read_text(encoding="utf-8") for path in Path(ops.__file__).parent.glob("*.py"))
    raised = set(re.findall(r'Reject\("(AG\d+)"', text))
    assert raised
    assert raised <= CODES.keys()
    assert raised == {code for *_, code, _ in REJECTED} | {"AG205", "AG206"}


def test_sizes_of_new_axes() -> None:
    split = layout.Split("N", ("Y", "X"))
    assert split.size_facts(of("ND")) == ((Poly.symbol("N"), Poly.symbol("Y") * Poly.symbol("X")),)
    assert split.new_axes() == ("Y", "X")
    concat = selection.Concat(("N", "M"), "L")
    assert concat.size_facts(of("N"), of("M")) == ((Poly.symbol("L"), Poly.symbol("N") + Poly.symbol("M")),)
