"""Lines of random formulas that compute numbers: arithmetic, functions, sums, masks.

Arguments are brought into the domain of the function that takes them (`log(abs(x) + 0.5)`), and kept away from where
it jumps.
"""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import strategies as st

from attngraph.compiler.ops import OPS
from attngraph.compiler.ops.functions import Function
from attngraph.compiler.ops.normalisations import Normalisation

from .program import Line, Program, Value, joined

_ABOVE_ZERO = ("sqrt", "rsqrt", "log", "log2", "reciprocal")
_STEPS = ("sign", "floor", "ceil", "round")
_GROWING = ("exp", "expm1", "sinh", "cosh")
_FUNCTIONS = tuple(op.spelling for op in OPS if issubclass(op, Function))
_NORMALISATIONS = tuple(op.spelling for op in OPS if issubclass(op, Normalisation))


def _function(p: Program, name: str) -> Value | None:
    x = p.pick(lambda v: v.kind in ("real", "int")) or p.inputs[0]
    text, bound = x.text, x.bound + 1
    if name in _ABOVE_ZERO:
        text = f"abs({text}) + 0.5"
    elif name in ("asin", "acos"):
        text = f"0.9 * tanh({text})"
    elif name == "log1p":
        text = f"abs({text})"
    elif name in _GROWING and x.bound > 3:
        text, bound = f"2 * tanh({text})", 2.0
    elif name == "tan":
        text = f"tanh({text})"
    elif name in _STEPS and x.kind == "real":
        text = f"{text} + 0.2718281"  # away from where it jumps
    if name in _GROWING:
        bound = 2.72 ** min(bound, 4)
    keeps = name in ("abs", "sign", "square", "floor", "ceil", "round", "relu", "stop_gradient")
    kind = "int" if x.kind == "int" and keeps else "real"
    return p.add(f"{name}({text})", x.axes, kind, bound**2 if name == "square" else max(bound, 6))


def _arithmetic(p: Program, operator: str) -> Value | None:
    x = p.pick(lambda v: v.kind != "bool") or p.inputs[0]
    y = p.pick(lambda v: v.kind != "bool" and p.small(x.axes, v.axes)) or x
    kind = max(x.kind, y.kind, key=["int", "real", "complex"].index)
    if operator == "/":
        if y.kind == "complex":
            return None
        kind = max(kind, "real", key=["int", "real", "complex"].index)
        return p.add(f"{x.text} / (abs({y.text}) + 0.5)", joined(x.axes, y.axes), kind, 2 * x.bound)
    bound = x.bound * y.bound if operator == "*" else x.bound + y.bound
    return p.add(f"{x.text} {operator} {y.text}", joined(x.axes, y.axes), kind, bound)


def _whole_division(p: Program, operator: str) -> Value | None:
    x = p.pick(lambda v: v.kind == "int") or p.add("pos(N) - pos(M)", ("N", "M"), "int", 5)
    return p.add(f"{x.text} {operator} {p.number(1, 4)}", x.axes, "int", x.bound + 4)


def _power(p: Program, _: str) -> Value | None:
    x = p.real()
    match p.number(0, 2):
        case 0:
            n = p.number(0, 3)
            return p.add(f"{x.text}^{n}", x.axes, "real", max(1.0, x.bound**n))
        case 1:
            return p.add(f"(abs({x.text}) + 0.5)^-0.5", x.axes, "real", 1.5)
        case _:
            return p.add(f"0.9^({x.text})", x.axes, "real", (1 / 0.9) ** x.bound)


def _matmul(p: Program, _: str) -> Value | None:
    x = p.pick(lambda v: v.kind in ("real", "complex") and len(v.axes) >= 1) or p.inputs[0]
    axis = x.axes[-1]

    def meets(v: Value) -> bool:
        shares = v.axes[-2:-1] == (axis,) or v.axes == (axis,)
        return (
            v.kind == "real" and shares and (len(v.axes) == 1 or v.axes[-1] not in x.axes) and p.small(x.axes, v.axes)
        )

    y = p.pick(meets)
    text = None if y is None else y.text
    if y is None:
        # a transposed value, or the value itself with its rows renamed
        y = p.pick(lambda v: len(v.axes) >= 2 and meets(Value("", (*v.axes[:-2], v.axes[-1], v.axes[-2]), v.kind)))
        if y is not None:
            text, y = f"{y.text}^T", Value("", (*y.axes[:-2], y.axes[-1], y.axes[-2]), y.kind, y.bound)
    if y is None and len(x.axes) == 2 and x.kind == "real":
        new = p.fresh("R")
        p.sizes[new] = p.sizes[x.axes[0]]
        text, y = f"{x.text}[{x.axes[0]} -> {new}]^T", Value("", (axis, new), "real", x.bound)
    if y is None:
        return None
    kept = tuple(a for a in x.axes if a != axis)
    if len(y.axes) == 1:
        axes = kept
    else:
        batch = tuple(a for a in y.axes[:-2] if a not in kept)
        axes = (*kept[:-1], *batch, *kept[-1:], y.axes[-1])
    return p.add(f"{x.text} @ {text}", axes, x.kind, x.bound * y.bound * p.sizes[axis])


def _sum_of_products(p: Program, _: str) -> Value | None:
    x = p.real(1)
    y = p.pick(lambda v: v.kind == "real" and bool(set(v.axes) & set(x.axes)) and p.small(x.axes, v.axes)) or x
    shared = [a for a in x.axes if a in y.axes]
    over = p.draw(st.lists(st.sampled_from(shared), min_size=1, max_size=2, unique=True))
    axes = tuple(a for a in joined(x.axes, y.axes) if a not in over)
    bound = x.bound * y.bound * p.volume(tuple(over))
    return p.add(f"sum[{', '.join(over)}]({x.text} * {y.text})", axes, "real", bound)


def _sum_of_sums(p: Program, _: str) -> Value | None:
    """`sum[a](sum[b](x * y) * z / w)`: inner sums stand where the planner may open them."""
    x = p.real(1)
    inner = p.choose(x.axes)
    text, axes, bound = x.text, x.axes, x.bound
    for depth in range(p.number(2, 3)):
        y = p.pick(lambda v, so_far=axes: v.kind == "real" and p.small(so_far, v.axes)) or x  # type: ignore[misc]
        if not p.small(axes, y.axes):
            break
        match p.number(0, 4):
            case 0:
                text, bound = f"{text} / (abs({y.text}) + 0.5)", 2 * bound
            case 1:
                text, bound = f"({text} + {y.text})", bound + y.bound
            case 2:
                text, bound = f"({text} - {y.text})", bound + y.bound
            case _:
                text, bound = f"{text} * {y.text}", bound * y.bound
        axes = joined(axes, y.axes)
        over = inner if depth == 0 else p.choose(axes)
        function = p.choose(["sum", "sum", "mean"])
        bound *= p.sizes[over]
        text, axes = f"{function}[{over}]({text})", tuple(a for a in axes if a != over)
        if not axes:
            break
    return p.add(text, axes, "real", bound)


def _reduction(p: Program, name: str) -> Value | None:
    x = p.real(1)
    many = name not in ("prod",) and len(x.axes) > 1 and p.draw(st.booleans())
    over = p.draw(st.permutations(x.axes))[: 2 if many else 1]
    text, count = x.text, p.volume(tuple(over))
    bound = {"sum": x.bound * count, "norm": x.bound * count, "prod": x.bound**count, "var": x.bound**2}.get(
        name, x.bound + 3
    )
    if name in ("std", "norm"):
        text = f"concat[{over[0]}, {over[0]} -> {(axis := p.fresh('C'))}]({text}, 1 - {text})"  # not constant
        p.sizes[axis] = 2 * p.sizes[over[0]]
        bound *= 2
        rest = tuple(a for a in x.axes if a not in over)
        return p.add(f"{name}[{', '.join((axis, *over[1:]))}]({text})", rest, "real", bound + 2)
    rest = tuple(a for a in x.axes if a not in over)
    return p.add(f"{name}[{', '.join(over)}]({text})", rest, "real", bound)


def _quantifier(p: Program, name: str) -> Value | None:
    x = p.mask()
    if not x.axes:
        return None
    axis = p.choose(x.axes)
    return p.add(f"{name}[{axis}]({x.text})", tuple(a for a in x.axes if a != axis), "bool", 1)


def _normalisation(p: Program, name: str) -> Value | None:
    x = p.real(1)
    axis = p.choose(x.axes)
    text, axes = x.text, x.axes
    if name in ("l1_normalize", "l2_normalize"):
        text = f"abs({text}) + 0.5"  # away from the zero vector
    if name == "softmax" and p.draw(st.booleans()):
        mask = p.mask()
        if axis in mask.axes and p.small(x.axes, mask.axes):
            spelled = p.draw(st.booleans())
            axes = joined(x.axes, mask.axes)
            if spelled:
                return p.add(f"softmax[{axis}]({text}, mask={mask.text})", axes, "real", 1)
            # the condition comes first, and so do its axes
            axes = joined(joined(mask.axes, x.axes), ())
            return p.add(f"softmax[{axis}](where({mask.text}, {text}, -inf))", axes, "real", 1)
    bound = {"log_softmax": 2 * x.bound + 4}.get(name, 3.0)
    extra = ", eps=0.1" if name in ("layer_norm", "rms_norm") else ""
    return p.add(f"{name}[{axis}]({text}{extra})", axes, "real", bound)


def _cumulative(p: Program, name: str) -> Value | None:
    x = p.real(1)
    axis = p.choose(x.axes)
    bound = {"cumsum": x.bound * p.sizes[axis], "cumprod": max(1.0, x.bound) ** p.sizes[axis]}.get(name, x.bound + 2)
    return p.add(f"{name}[{axis}]({x.text})", x.axes, "real", bound)


def _comparison(p: Program, operator: str) -> Value | None:
    one, other = p.choose(["N", "M"]), p.choose(["N", "M", "D"])
    shift = p.choose(["", " + 1", " - 1"])
    if one == other or p.draw(st.booleans()):
        x = p.real()
        if operator not in ("==", "!="):
            return p.add(f"{x.text} {operator} 0.1234567", x.axes, "bool", 1)
        return p.add(f"pos({one}) {operator} {p.number(0, 2)}", (one,), "bool", 1)
    return p.add(f"pos({one}) {operator} pos({other}){shift}", (one, other), "bool", 1)


def _logic(p: Program, word: str) -> Value | None:
    x, y = p.mask(), p.mask()
    if word == "not":
        return p.add(f"not {x.text}", x.axes, "bool", 1)
    if not p.small(x.axes, y.axes):
        return None
    return p.add(f"{x.text} {word} {y.text}", joined(x.axes, y.axes), "bool", 1)


def _where(p: Program, _: str) -> Value | None:
    c, x = p.mask(), p.real()
    if not p.small(c.axes, x.axes):
        return None
    axes = joined(joined(c.axes, x.axes), ())
    other = p.choose(["0", "1", "0.5"])
    return p.add(f"where({c.text}, {x.text}, {other})", axes, "real", x.bound + 1)


def _isnan(p: Program, _: str) -> Value | None:
    x = p.real()
    return p.add(f"where(isnan({x.text}), 0, {x.text})", x.axes, "real", x.bound)


def _mask_times(p: Program, _: str) -> Value | None:
    c, x = p.mask(), p.real()
    if not p.small(c.axes, x.axes):
        return None
    return p.add(f"{x.text} * {c.text}", joined(x.axes, c.axes), "real", x.bound)


def _position(p: Program, _: str) -> Value | None:
    axis = p.choose(["N", "D"])
    x = p.real()
    if not p.small((axis,), x.axes):
        return None
    return p.add(f"{x.text} * cos(0.3 * pos({axis}))", joined(x.axes, (axis,)), "real", x.bound)


def _size(p: Program, _: str) -> Value | None:
    x = p.real()
    axis = p.choose(["N", "D"])
    scale = p.choose([f"sqrt({axis})", f"log({axis} + 1)", f"{axis}", f"max({axis}, 2)"])
    return p.add(f"{x.text} / {scale}", x.axes, "real", 2 * x.bound)


def _constant(p: Program, _: str) -> Value | None:
    x = p.real()
    p.constants.setdefault("alpha", "1.25")
    return p.add(f"alpha * {x.text} + alpha", x.axes, "real", 1.25 * (x.bound + 1))


def _local(p: Program, _: str) -> Value | None:
    x = p.real()
    p.made += 1
    name, body = f"phi{p.made}", p.choose(["elu(a) + 1", "relu(a)", "softplus(a)", "a * sigmoid(a)", "1 + a + a^2 / 2"])
    p.lines.append(f"{name}(a) = {body}")
    return p.add(f"{name}({x.text}) - {name}(-{x.text})", x.axes, "real", 2 * (1 + x.bound + x.bound**2))


def _pair(p: Program, name: str) -> Value | None:
    x = p.real()
    y = p.pick(lambda v: v.kind == "real" and p.small(x.axes, v.axes)) or x
    kind = "complex" if name == "complex" else "real"
    return p.add(
        f"{name.removesuffix(' of two')}({x.text} + 1.0625, {y.text})",
        joined(x.axes, y.axes),
        kind,
        x.bound + y.bound + 3,
    )


def _clamp(p: Program, _: str) -> Value | None:
    x = p.real()
    bounds = p.choose(["min=-0.7, max=0.8", "min=0.1", "max=0.4"])
    return p.add(f"clamp({x.text}, {bounds})", x.axes, "real", x.bound + 1)


def _part(p: Program, name: str) -> Value | None:
    z = p.pick(lambda v: v.kind == "complex")
    if z is None:
        x = p.real()
        z = p.add(f"complex({x.text}, 1 - {x.text})", x.axes, "complex", 2 * x.bound + 1)
    return p.add(f"{name}({z.text})", z.axes, "complex" if name == "conj" else "real", z.bound)


LINES: Mapping[str, Line] = {
    **dict.fromkeys(_FUNCTIONS, _function),
    **dict.fromkeys(("+", "-", "*", "/"), _arithmetic),
    **dict.fromkeys(("//", "%"), _whole_division),
    "^": _power,
    "@": _matmul,
    "sum of products": _sum_of_products,
    "sum of sums": _sum_of_sums,
    **dict.fromkeys(("sum", "mean", "prod", "max", "min", "var", "std", "logsumexp", "norm"), _reduction),
    **dict.fromkeys(("any", "all"), _quantifier),
    **dict.fromkeys(_NORMALISATIONS, _normalisation),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), _cumulative),
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), _comparison),
    **dict.fromkeys(("and", "or", "not"), _logic),
    "where": _where,
    "isnan": _isnan,
    "mask times": _mask_times,
    "pos": _position,
    "size": _size,
    "const": _constant,
    "local function": _local,
    **dict.fromkeys(("min of two", "max of two", "logaddexp", "atan2", "complex"), _pair),
    "clamp": _clamp,
    **dict.fromkeys(("real", "imag", "conj"), _part),
}
