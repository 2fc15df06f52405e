"""One or more cases for every operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

from attngraph.compiler.ops import (
    arithmetic,
    contraction,
    convolution,
    cumulative,
    functions,
    layout,
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
from attngraph.compiler.ops.base import Op
from attngraph.compiler.ops.contraction import Contraction
from attngraph.compiler.sizes import Poly
from attngraph.compiler.types import Kind, Type
from tests.ops.harness import Case, Spec

BOOL, INT, REAL, COMPLEX = Kind.BOOL, Kind.INT, Kind.REAL, Kind.COMPLEX


def poly(value: int | str) -> Poly:
    return Poly.symbol(value) if isinstance(value, str) and value.isalpha() else Poly.constant(Fraction(value))


def real(axes: str, low: float = -2.0, high: float = 2.0) -> Spec:
    return Spec(tuple(axes), REAL, low, high)


def whole(axes: str, low: int = -5, high: int = 5) -> Spec:
    return Spec(tuple(axes), INT, low, high)


def mask(axes: str) -> Spec:
    return Spec(tuple(axes), BOOL)


def complex_(axes: str) -> Spec:
    return Spec(tuple(axes), COMPLEX)


def number(value: float | int) -> Spec:
    return Spec((), INT if isinstance(value, int) else REAL, number=value)


# -- element by element ------------------------------------------------------------------------------

_PAIRS: tuple[type[Op], ...] = (arithmetic.Add, arithmetic.Subtract, arithmetic.Multiply, arithmetic.Divide)

ARITHMETIC = [
    *(Case(op(), specs) for op in _PAIRS for specs in (
        (real("ND"), real("N", 0.5)), (real("N"), real("M", 0.5)), (whole("NM"), whole("MN", 1, 5)),
        (real("DN"), whole("N", 1)),
        (complex_("ND"), real("D", 0.5)), (real("ND"), number(2.5)), (number(2), real("ND", 0.5)),
    )),
    Case(arithmetic.Multiply(), (mask("NM"), real("MD")), note="mask"),
    Case(arithmetic.Multiply(), (whole("NM"), mask("M")), note="mask"),
    *(Case(op(), specs, smooth=False) for op in (arithmetic.FloorDivide, arithmetic.Modulo) for specs in (
        (whole("NM"), whole("N", 1, 4)), (whole("NM"), number(3)), (number(7), whole("N", 1, 4)),
        (real("NM", -9, 9), real("M", 0.5)), (real("NM", -9, 9), number(-2.5)), (number(7.5), real("N", 0.5)),
    )),
    Case(arithmetic.Power(), (real("ND", 0.2), real("NM"))),
    Case(arithmetic.Power(), (real("ND", 0.2), number(-1.5))),
    Case(arithmetic.Power(), (number(2), real("ND"))),
    Case(arithmetic.Power(), (number(0.5), whole("NM"))),
    Case(arithmetic.Power(), (whole("N", 1, 4), whole("M"))),
    *(Case(arithmetic.IntegerPower(n), (real("ND"),), note=str(n)) for n in (0, 1, 2, 3, 7)),
    Case(arithmetic.IntegerPower(3), (whole("N"),)),
    Case(arithmetic.Negative(), (real("ND"),)),
    Case(arithmetic.Negative(), (whole("ND"),)),
]  # fmt: skip

_COMPARISONS: tuple[type[Op], ...] = (
    logic.Equal, logic.NotEqual, logic.Less, logic.LessEqual, logic.Greater, logic.GreaterEqual,
)  # fmt: skip

LOGIC = [
    *(Case(op(), specs) for op in _COMPARISONS for specs in (
        (whole("N"), whole("M")), (real("NM"), whole("N")), (whole("NM"), number(0)), (number(1), whole("NM")),
    )),
    Case(logic.Equal(), (mask("N"), mask("NM"))),
    Case(logic.Equal(), (complex_("N"), whole("NM"))),
    *(Case(op(), specs) for op in (logic.And, logic.Or) for specs in ((mask("NM"), mask("M")), (mask("N"), mask("M")))),
    Case(logic.Not(), (mask("NM"),)),
    Case(logic.Where(), (mask("NM"), real("ND"), real("D"))),
    Case(logic.Where(), (mask("NM"), real("MD"), number(float("-inf")))),
    Case(logic.Where(), (mask("NM"), number(0.1), real("NM"))),
    Case(logic.Where(), (mask("NM"), number(0.1), number(0.2))),
    Case(logic.Where(), (mask("NM"), number(1), number(0))),
    Case(logic.Where(), (mask("N"), whole("M"), number(0.5))),
    Case(logic.Where(), (mask("N"), mask("M"), mask("NM"))),
    Case(logic.IsNan(), (real("NM"),)),
]  # fmt: skip

_POSITIVE = (functions.Sqrt, functions.Rsqrt, functions.Log, functions.Log2, functions.Reciprocal)
_UNIT = (functions.Asin, functions.Acos)
_COMPLEX = (
    functions.Abs, functions.Square, functions.Reciprocal, functions.Sqrt, functions.Exp, functions.Log,
    functions.Sin, functions.Cos, functions.StopGradient,
)  # fmt: skip
_PLAIN: tuple[type[functions.Function], ...] = (
    functions.Abs, functions.Sign, functions.Square, functions.Exp, functions.Expm1, functions.Sin, functions.Cos,
    functions.Tan, functions.Atan, functions.Sinh, functions.Cosh, functions.Tanh, functions.Sinc, functions.Erf,
    functions.Erfc, functions.Floor, functions.Ceil, functions.Round, functions.Sigmoid, functions.LogSigmoid,
    functions.HardSigmoid, functions.Softsign, functions.Relu, functions.Relu6, functions.LeakyRelu, functions.Elu,
    functions.Celu, functions.Selu, functions.Gelu, functions.Silu, functions.HardSwish, functions.Mish,
    functions.Softplus, functions.StopGradient, functions.Int,
)  # fmt: skip

FUNCTIONS = [
    *(Case(op(), (spec,)) for op in _PLAIN for spec in (real("ND", -1.4, 1.4), whole("N", -4, 4))),
    *(Case(op(), (real("ND", -8, 8),), note="far") for op in _PLAIN if op not in (functions.Tan, functions.Expm1)),
    *(Case(op(), (spec,)) for op in _POSITIVE for spec in (real("ND", 0.3, 4), whole("N", 1, 5))),
    *(Case(op(), (real("ND", -0.9, 0.9),)) for op in _UNIT),
    Case(functions.Log1p(), (real("ND", -0.5),)),
    *(Case(op(), (complex_("ND"),)) for op in _COMPLEX),
    Case(functions.Softplus(), (real("N", 15, 60),), note="large"),
    Case(functions.LeakyRelu(slope=poly("0.2")), (real("ND"),), note="slope"),
    Case(functions.Elu(alpha=poly("1.5")), (real("ND"),), note="alpha"),
    Case(functions.Elu(alpha=poly("D")), (real("ND"),), note="size"),
    Case(functions.Celu(alpha=poly("1.5")), (real("ND"),), note="alpha"),
    *(Case(op(), specs) for op in (pairs.Minimum, pairs.Maximum) for specs in (
        (real("ND"), real("M")), (real("ND"), number(0.5)), (number(0), real("ND")), (whole("NM"), number(2)),
        (whole("N"), whole("M")), (whole("N"), number(0.5)),
    )),
    Case(pairs.Clamp(("min",)), (real("ND"), number(0.5)), note="min"),
    Case(pairs.Clamp(("max",)), (whole("ND"), number(2)), note="max"),
    Case(pairs.Clamp(("min", "max")), (real("ND"), number(-0.5), number(1))),
    Case(pairs.Clamp(("min", "max")), (real("ND"), real("N", -2, 0), real("D", 0.5))),
    Case(pairs.Clamp(("min", "max")), (real("ND"), number(-1.0), real("M", 0.5))),
    Case(pairs.Clamp(("min", "max")), (number(0.3), real("N"), number(1.0)), note="number"),
    Case(pairs.LogAddExp(), (real("ND"), real("NM"))),
    Case(pairs.LogAddExp(), (real("ND"), number(0.5))),
    Case(pairs.Atan2(), (real("ND", 0.5), real("NM", 0.5))),
    Case(pairs.Atan2(), (number(1), real("NM", 0.5))),
]  # fmt: skip

# -- contractions ------------------------------------------------------------------------------------


def product(left: str, right: str, over: str, result: str, kind: Kind = REAL) -> Case:
    spec = {REAL: real, INT: whole, BOOL: mask, COMPLEX: complex_}[kind]
    return Case(Contraction(tuple(over), tuple(result)), (spec(left), spec(right)), note=f"over-{over}-{result}")


def matmul(left: str, right: str) -> Case:
    op = contraction.matmul(Type(REAL, tuple(left)), Type(REAL, tuple(right)))
    return Case(op, (real(left), real(right)), note="matmul")


CONTRACTIONS = [
    matmul("ND", "DM"), matmul("HND", "HDM"), matmul("HND", "DM"), matmul("ND", "HDM"), matmul("D", "DM"),
    matmul("ND", "D"), matmul("D", "D"), matmul("NM", "NMD"), matmul("GHND", "HDM"),
    product("ND", "MD", "D", "NM"), product("ND", "MD", "D", "MN"), product("HND", "HMD", "D", "NHM"),
    product("HND", "HMD", "D", "HMN"), product("HND", "HMD", "D", "NMH"), product("NC", "CHD", "C", "HND"),
    product("NC", "CHD", "C", "NHD"), product("NHD", "HDC", "HD", "NC"), product("NHD", "HDN", "HD", "N"),
    product("HD", "HD", "HD", ""), product("D", "D", "D", ""), product("NHD", "HDM", "H", "NMD"),
    product("ND", "D", "D", "N"), product("D", "ND", "D", "N"), product("HND", "HD", "D", "NH"),
    product("HD", "HND", "D", "HN"), product("GND", "HMD", "D", "GHNM"), product("GND", "HMD", "D", "NGMH"),
    product("ND", "MD", "D", "NM", INT), product("NHD", "HDM", "HD", "MN", INT), product("NM", "MD", "M", "ND", BOOL),
    product("HNGD", "HDMC", "D", "HNGMC"), product("NGHC", "CD", "C", "NGHD"), product("CD", "NGC", "C", "NGD"),
    product("NGHC", "DC", "C", "DNGH"), product("HNGDC", "HMCD", "CD", "NHGM"),
    product("HND", "HMD", "D", "HNM", COMPLEX), product("N", "M", "", "NM"),
]  # fmt: skip

# -- along axes --------------------------------------------------------------------------------------

_REDUCTIONS: tuple[type[reductions.Reduction], ...] = (
    reductions.Sum, reductions.Mean, reductions.Product, reductions.Max, reductions.Min, reductions.Variance,
    reductions.StandardDeviation, reductions.LogSumExp, reductions.Norm,
)  # fmt: skip

REDUCTIONS = [
    *(Case(op(tuple(axes)), (real("HND"),), note=axes) for op in _REDUCTIONS for axes in ("D", "N", "HD", "DN", "HND")),
    *(Case(op(("N",)), (whole("NM"),), note="int") for op in _REDUCTIONS),
    *(Case(op(("N",)), (complex_("NM"),), note="complex")
      for op in (reductions.Sum, reductions.Mean, reductions.Product, reductions.Norm)),
    *(Case(op(("N",)), (mask("NM"),), note="mask") for op in (reductions.Sum, reductions.Mean)),
    *(Case(op(tuple(axes)), (mask("HNM"),), note=axes)
      for op in (reductions.Any, reductions.All) for axes in ("M", "N", "HM", "NHM")),
    Case(reductions.Variance(("N", "P"), ddof=poly(1)), (real("NPD"),), {"P": lambda s: s["N"] + 1}, note="unbiased"),
    Case(reductions.StandardDeviation(("P",), ddof=poly(1)), (real("PD"),), {"P": lambda s: s["N"] + 1}),
    *(Case(op(axis), (real("HND"),), note=axis) for op in (reductions.ArgMax, reductions.ArgMin) for axis in "NDH"),
]  # fmt: skip

_MASKED = ("mask",)

NORMALISATIONS = [
    *(Case(op(tuple(axes)), (real("HND"),), note=axes)
      for op in (normalisations.Softmax, normalisations.LogSoftmax, normalisations.L1Normalize,
                 normalisations.L2Normalize, normalisations.LayerNorm, normalisations.RmsNorm)
      for axes in ("D", "N", "HD", "DN", "NHD")),
    *(Case(normalisations.Softmax(tuple(axes), _MASKED), (real("HNM"), mask(m)), note=f"mask-{axes}")
      for axes in ("M", "N", "NM", "MH") for m in ("NM", "HNM", "M", "MN")),
    Case(normalisations.Softmax(("M",), _MASKED), (real("M"), mask("NM")), note="wider-mask"),
    *(Case(normalisations.Softmax(tuple(axes), ("sink",)), (real("HNM"), real(sink)), note=f"sink-{axes}-{sink}")
      for axes, sink in (("M", "H"), ("M", "NH"), ("M", ""), ("NM", "H"), ("HM", "N"), ("M", "G"))),
    *(Case(normalisations.Softmax(tuple(axes), ("mask", "sink")), (real("HNM"), mask(m), real(sink)),
           note=f"mask-sink-{axes}-{sink}")
      for axes, m, sink in (("M", "NM", "H"), ("MN", "HNM", "H"), ("M", "M", "N"))),
    Case(normalisations.Softmax(("M",), ("sink",)), (real("NM"), number(0.0)), note="sink-number"),
    Case(normalisations.LayerNorm(("D",), ("gain", "shift")), (real("ND"), real("D"), real("D"))),
    Case(normalisations.LayerNorm(("D",), ("shift",)), (real("ND"), real("D")), note="shift"),
    Case(normalisations.LayerNorm(("N",), ("gain", "shift")), (real("ND"), real("N"), real("D"))),
    Case(normalisations.LayerNorm(("H", "D"), ("gain", "shift"), eps=poly("0.1")),
         (real("HND"), real("DH"), real("N"))),
    Case(normalisations.LayerNorm(("D",), ("gain",)), (real("ND"), number(2.0)), note="number"),
    Case(normalisations.RmsNorm(("D",), ("gain",)), (real("ND"), real("D"))),
    Case(normalisations.RmsNorm(("D",), ("gain",)), (real("ND"), real("HD"))),
    Case(normalisations.L2Normalize(("D",), eps=poly(10)), (real("ND"),), note="eps"),
    Case(normalisations.L1Normalize(("D",), eps=poly("D")), (real("ND"),), note="eps"),
]  # fmt: skip

_RUNNING: tuple[type[cumulative.Cumulative], ...] = (
    cumulative.CumulativeSum, cumulative.CumulativeProduct, cumulative.CumulativeMax, cumulative.CumulativeMin,
    cumulative.CumulativeLogSumExp,
)  # fmt: skip

CUMULATIVE = [
    *(Case(op(axis), (real("HND"),), note=axis) for op in _RUNNING for axis in "DN"),
    *(Case(op("N"), (whole("ND"),)) for op in _RUNNING),
    Case(cumulative.CumulativeSum("N"), (mask("NM"),)),
]

# -- layout ------------------------------------------------------------------------------------------

LAYOUT = [
    Case(layout.Reorder(("D", "N")), (real("ND"),)),
    Case(layout.Reorder(("D", "H", "N")), (real("HND"),)),
    Case(layout.Reorder(("D", "N", "H")), (mask("HND"),)),
    Case(layout.Rename("N", "L"), (real("ND"),), {"L": lambda s: s["N"]}),
    Case(layout.Split("L", ("N", "M")), (real("LD"),), {"L": lambda s: s["N"] * s["M"]}),
    Case(layout.Split("L", ("N", "M", "D")), (whole("HL"),), {"L": lambda s: s["N"] * s["M"] * s["D"]}),
    *(Case(layout.Merge(tuple(sources), "L"), (real(axes),), {"L": lambda s: s["N"] * s["H"]}, note=sources)
      for sources in ("NH", "HN") for axes in ("HND", "NDH", "DNH")),
    Case(layout.Merge(("N",), "L"), (real("ND"),), {"L": lambda s: s["N"]}, note="one"),
    Case(layout.Broadcast(("H", "N", "D")), (real("N"),)),
    Case(layout.Broadcast(("N", "D")), (real("DN"),)),
    Case(layout.Broadcast(("N", "M")), (number(0.5),)),
    Case(layout.Broadcast(("N", "M")), (whole(""),)),
    *(Case(layout.Convert(kind), (spec,)) for kind, spec in (
        (INT, mask("N")), (REAL, mask("N")), (REAL, whole("N")), (COMPLEX, real("N")))),
    Case(selection.Concat(("N", "M"), "L"), (real("ND"), real("MD")), {"L": lambda s: s["N"] + s["M"]}),
    Case(selection.Concat(("N", "M"), "L"), (real("ND"), real("HM")), {"L": lambda s: s["N"] + s["M"]}),
    Case(selection.Concat(("N", "M", "N"), "L"), (real("DN"), whole("M"), real("N")),
         {"L": lambda s: 2 * s["N"] + s["M"]}),
    Case(selection.Concat(("N", "M"), "L"), (mask("N"), mask("M")), {"L": lambda s: s["N"] + s["M"]}),
    Case(selection.Slice("N", "P"), (real("ND"),), {"P": lambda s: (s["N"] + 1) // 2}),
    Case(selection.Slice("L", "P", start=poly(1), stride=poly(2)), (real("DL"),),
         {"L": lambda s: 2 * s["N"] + 1, "P": lambda s: s["N"]}),
    Case(selection.Slice("L", "M", start=poly("N")), (mask("HL"),), {"L": lambda s: s["N"] + s["M"]}),
    *(Case(selection.Shift("N", by=poly(by)), (spec,), note=f"by{by}")
      for by in (1, -1, 0, 3, -3, 20) for spec in (real("ND"), real("HN"), mask("N"))),
    *(Case(selection.Roll("N", by=poly(by)), (real("HND"),), note=f"by{by}") for by in (1, -1, 0, 7)),
    Case(selection.Pad("N", "P", before=poly(1), after=poly("M")), (real("ND"),), {"P": lambda s: s["N"] + s["M"] + 1}),
    Case(selection.Pad("N", "P", after=poly(2), value=poly("-1.5")), (real("DN"),), {"P": lambda s: s["N"] + 2}),
    Case(selection.Pad("N", "P", before=poly(2), value=poly(1)), (mask("N"),), {"P": lambda s: s["N"] + 2}),
]  # fmt: skip


def windows(
    start: int, dilation: int, stride: int, axes: str, target: str = "P", width: int = 3
) -> tuple[Case, Case | None]:
    """Windows and, where the target is an axis of its own, the fold that reverses them."""
    attributes = {"start": poly(start), "dilation": poly(dilation), "stride": poly(stride)}
    sizes = {"W": lambda s: width, "P": lambda s: (s["N"] + stride - 1) // stride}
    note = f"{start}-{dilation}-{stride}-{width}"
    case = Case(selection.Windows("N", target, "W", **attributes), (real(axes),), sizes, note=note)
    if target == "N":
        return case, None
    folded = real(axes.replace("N", "PW"))
    return case, Case(selection.Fold(("P", "W"), "N", **attributes), (folded,), sizes, note=note)


WINDOWS = [
    case
    for both in (
        windows(-1, 1, 1, "ND"), windows(-2, 1, 1, "HN", "N"), windows(0, 1, 1, "NDH", "N"), windows(-2, 2, 1, "ND"),
        windows(1, 1, 1, "ND"), windows(-1, 1, 2, "ND"), windows(2, 3, 2, "DN"), windows(-9, 1, 3, "N"),
        windows(-1, 1, 1, "ND", "P", 1), windows(0, 1, 4, "ND", "P", 4), windows(30, 1, 1, "N"),
    )
    for case in both
    if case is not None
]  # fmt: skip

# `take` from a table whose axis L has 4 places
_TABLE = {"L": lambda s: 4}
TAKE = [
    Case(selection.Take("L"), (real(table), Spec(tuple(index), INT, 0, 3)), _TABLE)
    for table, index in (
        ("L", "N"), ("LD", "N"), ("HL", "NM"), ("HLD", "NM"), ("NL", "N"), ("NLD", "NM"), ("LNH", "HM"), ("HL", ""),
        ("LD", ""), ("NL", "NMD"), ("DL", "MN"), ("L", "L"), ("HL", "LH"),
    )
] + [
    Case(selection.Take("L"), (real("HLD"), number(2)), _TABLE, note="number"),
    Case(selection.Take("L"), (mask("LD"), Spec(("N",), INT, 0, 3)), _TABLE),
]  # fmt: skip

ORDERING = [
    *(Case(op(axis), (real("HND"),), note=axis) for op in (ordering.Sort, ordering.ArgSort) for axis in "ND"),
    Case(ordering.Sort("N"), (whole("ND"),)),
    Case(ordering.Top("N", poly(1)), (real("ND"),)),
    Case(ordering.Top("D", poly("N")), (real("NDH"),), {"D": lambda s: s["N"] + 1}),
    Case(ordering.TopPositions("D", "K"), (real("HDN"),), {"K": lambda s: (s["D"] + 1) // 2}),
]

SPECTRAL = [
    *(Case(op(), (spec("ND"),)) for op in (spectral.RealPart, spectral.ImaginaryPart, spectral.Conjugate)
      for spec in (complex_, real)),
    Case(spectral.MakeComplex(), (real("N"), real("M"))),
    Case(spectral.MakeComplex(), (number(1), real("NM"))),
    *(Case(op("N", "K"), (spec,), {"K": lambda s: s["N"]})
      for op in (spectral.FourierTransform, spectral.InverseFourierTransform)
      for spec in (complex_("ND"), real("HN"))),
    *(Case(spectral.RealFourierTransform("N", "K"), (real(axes),), {"K": lambda s: s["N"] // 2 + 1})
      for axes in ("ND", "HN")),
    *(Case(spectral.InverseRealFourierTransform("K", "N"), (complex_(axes),), {"K": lambda s: s["N"] // 2 + 1})
      for axes in ("KD", "HK")),
]  # fmt: skip

# -- convolutions ------------------------------------------------------------------------------------


def conv(
    x: str, kernel: str, brackets: str, summed: str = "", *, transposed: bool = False, note: str = "",
    sizes: Mapping[str, Callable[[Mapping[str, int]], int]] | None = None, spec: Callable[[str], Spec] = real,
    other: Callable[[str], Spec] = real, **attributes: int,
) -> Case:  # fmt: skip
    """brackets as `YXUV` or `YXUV-PQ`: places, taps, and what the places become."""
    names, _, targets = brackets.partition("-")
    half = len(names) // 2
    places, taps = tuple(names[:half]), tuple(names[half:])
    op = convolution.TransposedConvolution if transposed else convolution.Convolution
    made = op(places, taps, tuple(targets) or places, summed=tuple(summed),
              **{name: poly(value) for name, value in attributes.items()})  # fmt: skip
    widths = {"U": lambda s: 3, "V": lambda s: 2, "W": lambda s: 5}
    return Case(made, (spec(x), other(kernel)), {**widths, **(sizes or {})}, note=f"{brackets}-{summed}-{note}")


def half_of(axis: str) -> Callable[[Mapping[str, int]], int]:
    return lambda sizes: (sizes[axis] + 1) // 2


def twice(axis: str) -> Callable[[Mapping[str, int]], int]:
    return lambda sizes: 2 * sizes[axis]


CONVOLUTIONS = [
    conv("CN", "CU", "NU"), conv("NC", "CU", "NU"), conv("N", "U", "NU"), conv("NC", "HU", "NU", note="outer"),
    conv("CNH", "CUGH", "NU", "H"), conv("CN", "HCU", "NU", "C"), conv("CN", "CU", "NU", "C", note="one"),
    conv("CN", "CV", "NV", note="even"), conv("CN", "CU", "NU", dilation=2, note="dilated"),
    conv("CN", "CW", "NW", start=-4, note="causal"), conv("CN", "CU", "NU", start=1, note="ahead"),
    conv("CN", "CU", "NU", start=-9, note="far"),
    conv("CN", "HCU", "NU-P", "C", sizes={"P": half_of("N")}, stride=2, note="strided"),
    conv("CN", "CU", "NU-P", sizes={"P": lambda s: s["N"] + 4}, start=-4, note="wider"),
    conv("NCD", "CUV", "NDUV"), conv("CND", "HCUV", "NDUV", "C"), conv("NDC", "CHWU", "NDWU", "C"),
    conv("CND", "CUW", "NDUW-PQ", sizes={"P": half_of("N"), "Q": half_of("D")}, stride=2, dilation=2),
    conv("NMD", "CUVW", "NMDUVW", note="volume"),
    conv("CN", "CU", "NU", spec=complex_), conv("CN", "HCU", "NU", "C", spec=complex_, other=complex_),
    conv("CN", "CU", "NU", spec=whole, other=whole),
    *(conv(x, kernel, brackets, summed, transposed=True) for x, kernel, brackets, summed in (
        ("CN", "CU", "NU", ""), ("CN", "CHU", "NU", "C"), ("NCD", "CUVH", "NDUV", ""))),
    conv("CN", "CHU", "NU-P", "C", transposed=True, sizes={"P": twice("N")}, stride=2, note="strided"),
    conv("CND", "CHVW", "NDVW-PQ", "C", transposed=True,
         sizes={"P": twice("N"), "Q": twice("D")}, stride=2, start=-1, note="strided"),
    conv("CN", "CU", "NU-P", transposed=True, sizes={"P": lambda s: 3 * s["N"] + 9}, stride=3, start=2, note="gaps"),
    conv("CN", "CU", "NU", transposed=True, dilation=2, spec=complex_),
]  # fmt: skip

# -- pooling and borders -----------------------------------------------------------------------------

POOLING = [
    Case(op("N", target, poly(window), **{name: poly(value) for name, value in attributes.items()}), (spec,),
         {"P": places}, note=f"{target}-{window}-{attributes}")
    for op in (pooling.AveragePool, pooling.MaxPool)
    for target, window, places, attributes, spec in (
        ("P", 2, half_of("N"), {}, real("ND")),
        ("P", 3, lambda s: s["N"], {"stride": 1, "start": -1}, real("HN")),
        ("N", 3, lambda s: s["N"], {"stride": 1, "start": -1}, real("NDH")),
        ("P", 3, lambda s: s["N"] + 1, {"stride": 2, "start": -2}, real("N")),
        ("P", 1, lambda s: s["N"], {}, whole("ND")),
        ("P", 2, half_of("N"), {"start": 1}, real("ND")),
    )
] + [
    Case(pooling.AveragePool("N", "P", poly(3), poly(1), poly(-1), poly(1)), (real("ND"),), {"P": lambda s: s["N"]}),
    Case(pooling.AveragePool("N", "P", poly("D"), poly(1)), (real("ND"),), {"P": lambda s: s["N"]}, note="size"),
    *(Case(pooling.AdaptivePool("N", "P"), (spec,), {"P": places}, note=str(index))
      for index, (places, spec) in enumerate((
          (lambda s: 2, real("ND")), (lambda s: s["N"] + 3, real("HN")), (lambda s: 1, real("NDH")),
          (lambda s: 3, whole("N"))))),
    *(Case(pooling.Resize("N", "P", poly(aligned)), (spec,), {"P": places}, note=f"{index}{aligned}")
      for aligned in (0, 1)
      for index, (places, spec) in enumerate((
          (lambda s: 2, real("ND")), (lambda s: s["N"] + 3, real("HN")), (lambda s: 1, real("NDH")),
          (lambda s: 3, whole("N"))))),
]  # fmt: skip

PADDING = [
    Case(op("N", "P", poly(before), poly(after)), (spec,), {"P": lambda s, b=before, a=after: s["N"] + b + a},
         note=f"{before}-{after}")
    for op in (padding.CircularPadding, padding.ReflectedPadding, padding.ReplicatedPadding)
    for before, after, spec in ((1, 1, real("ND")), (0, 2, real("HN")), (9, 0, real("N")), (2, 1, mask("ND")))
]  # fmt: skip

_GROUPS = {"L": lambda s: 6}
SEGMENTS = [
    *(Case(segments.SegmentSoftmax("L"), (real(scores), Spec(tuple(group), INT, 0, 3)), _GROUPS)
      for scores, group in (("L", "L"), ("NL", "L"), ("LN", "LN"), ("L", "NL"), ("HLD", "NL"))),
    Case(segments.SegmentSoftmax("L"), (whole("L"), Spec(("L",), INT, 0, 5)), _GROUPS),
    *(Case(segments.SegmentSoftmax("L", _MASKED), (real("NL"), Spec(("L",), INT, 0, 2), mask(kept)), _GROUPS)
      for kept in ("L", "NL", "MLN")),
    *(Case(segments.SegmentMax("L"), (spec, Spec(tuple(group), INT, 0, 3)), _GROUPS)
      for spec, group in ((real("NL"), "L"), (real("L"), "LN"), (whole("L"), "L"))),
    *(Case(segments.SegmentSum("L"), (spec, Spec(tuple(group), INT, 0, 3)), _GROUPS)
      for spec, group in ((real("NL"), "L"), (real("L"), "LN"), (complex_("LD"), "DL"), (whole("L"), "L"))),
]  # fmt: skip

CASES = (
    ARITHMETIC + LOGIC + FUNCTIONS + CONTRACTIONS + REDUCTIONS + NORMALISATIONS + CUMULATIVE + LAYOUT + WINDOWS + TAKE
    + ORDERING + SPECTRAL + CONVOLUTIONS
    + POOLING + PADDING + SEGMENTS
)
