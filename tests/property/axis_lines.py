"""Lines of random formulas that work along axes: layout, parts, windows, order, transforms."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import strategies as st

from .program import Line, Program, Value, joined


def _place(p: Program, name: str) -> Value | None:
    x = p.real(1)
    axis = p.choose(x.axes)
    rest = tuple(a for a in x.axes if a != axis)
    return p.add(f"{name}[{axis}]({x.text} + 0.01 * sin(3 * pos({axis})))", rest, "int", p.sizes[axis])


def _transform(p: Program, name: str) -> Value | None:
    x = p.real(1)
    axis = p.choose(x.axes)
    new, size = p.fresh("F"), p.sizes[axis]
    replaced = tuple(new if a == axis else a for a in x.axes)
    if name in ("fft", "ifft"):
        p.sizes[new] = size
        return p.add(f"{name}[{axis} -> {new}]({x.text})", replaced, "complex", x.bound * size)
    p.sizes[new] = size // 2 + 1
    half = p.add(f"rfft[{axis} -> {new}]({x.text})", replaced, "complex", x.bound * size)
    return (
        half if name == "rfft" else p.add(f"irfft[{new} -> {axis}]({half.text} * 0.5)", x.axes, "real", x.bound * size)
    )


def _transpose(p: Program, _: str) -> Value | None:
    x = p.pick(lambda v: len(v.axes) >= 2) or p.inputs[0]
    return p.add(f"{x.text}^T", (*x.axes[:-2], x.axes[-1], x.axes[-2]), x.kind, x.bound)


def _rename(p: Program, _: str) -> Value | None:
    x = p.pick(lambda v: len(v.axes) >= 1) or p.inputs[0]
    old = p.choose(x.axes)
    if p.tied and old in ("N", "M") and {"N": "M", "M": "N"}[old] not in x.axes:
        new = {"N": "M", "M": "N"}[old]
    else:
        new = p.fresh("R")
        p.sizes[new] = p.sizes[old]
    return p.add(f"{x.text}[{old} -> {new}]", tuple(new if a == old else a for a in x.axes), x.kind, x.bound)


def _split(p: Program, _: str) -> Value | None:
    x = p.pick(lambda v: len(v.axes) >= 1) or p.inputs[0]
    old = p.choose(x.axes)
    size = p.sizes[old]
    width = p.draw(st.sampled_from([d for d in range(1, size + 1) if size % d == 0]))
    inner, outer = p.fresh("I", width), p.fresh("O")
    p.sizes[inner], p.sizes[outer] = width, size // width
    at = x.axes.index(old)
    return p.add(
        f"split[{old} -> {outer}, {inner}]({x.text})", (*x.axes[:at], outer, inner, *x.axes[at + 1 :]), x.kind, x.bound
    )


def _merge(p: Program, _: str) -> Value | None:
    x = p.pick(lambda v: len(v.axes) >= 2) or p.inputs[0]
    first, second = p.draw(st.permutations(x.axes))[:2]
    new = p.fresh("G")
    p.sizes[new] = p.sizes[first] * p.sizes[second]
    axes = tuple(new if a == second else a for a in x.axes if a != first)
    return p.add(f"merge[{first}, {second} -> {new}]({x.text})", axes, x.kind, x.bound)


def _concat(p: Program, _: str) -> Value | None:
    x = p.real(1)
    axis = p.choose(x.axes)
    y = p.pick(lambda v: v.kind == "real" and axis in v.axes and p.small(x.axes, v.axes, ("H",))) or x
    new = p.fresh("C")
    p.sizes[new] = 2 * p.sizes[axis]
    first = tuple(new if a == axis else a for a in x.axes)
    rest = joined(tuple(a for a in x.axes if a != axis), tuple(a for a in y.axes if a != axis))
    return p.add(
        f"concat[{axis}, {axis} -> {new}]({x.text}, {y.text})", joined(first, rest), "real", max(x.bound, y.bound)
    )


def _slice(p: Program, _: str) -> Value | None:
    x = p.pick(lambda v: len(v.axes) >= 1) or p.inputs[0]
    axis = p.choose(x.axes)
    length = p.number(1, p.sizes[axis])
    start, stride = p.number(0, p.sizes[axis] - length), 1
    if length == 1 + (p.sizes[axis] - 1) // 2:
        start, stride = 0, 2
    new = p.fresh("S", length)
    p.sizes[new] = length
    axes = tuple(new if a == axis else a for a in x.axes)
    return p.add(f"slice[{axis} -> {new}]({x.text}, start={start}, stride={stride})", axes, x.kind, x.bound)


def _take(p: Program, _: str) -> Value | None:
    x = p.pick(lambda v: len(v.axes) >= 1) or p.inputs[0]
    axis = p.choose(x.axes)
    index = p.pick(lambda v: v.kind == "int" and axis not in v.axes and p.small(x.axes, v.axes))
    rest = tuple(a for a in x.axes if a != axis)
    at = x.axes.index(axis)
    if index is None:
        return p.add(f"take[{axis}]({x.text}, {p.number(0, p.sizes[axis] - 1)})", rest, x.kind, x.bound)
    new = tuple(a for a in index.axes if a not in rest)
    return p.add(f"take[{axis}]({x.text}, {index.text} % {axis})", (*rest[:at], *new, *rest[at:]), x.kind, x.bound)


def _moved(p: Program, name: str) -> Value | None:
    x = p.pick(lambda v: len(v.axes) >= 1) or p.inputs[0]
    return p.add(f"{name}[{p.choose(x.axes)}]({x.text}, by={p.number(-3, 3)})", x.axes, x.kind, x.bound)


def _pad(p: Program, _: str) -> Value | None:
    x = p.real(1)
    axis, before, after = p.choose(x.axes), p.number(0, 2), p.number(0, 2)
    new = p.fresh("P")
    p.sizes[new] = p.sizes[axis] + before + after
    axes = tuple(new if a == axis else a for a in x.axes)
    value = p.choose(["0", "0.5", "1"])
    return p.add(
        f"pad[{axis} -> {new}]({x.text}, before={before}, after={after}, value={value})", axes, "real", x.bound + 1
    )


def _border(p: Program, name: str) -> Value | None:
    x = p.real(1)
    axis, before, after = p.choose(x.axes), p.number(0, 3), p.number(0, 3)
    new = p.fresh("P")
    p.sizes[new] = p.sizes[axis] + before + after
    axes = tuple(new if a == axis else a for a in x.axes)
    return p.add(f"{name}[{axis} -> {new}]({x.text}, before={before}, after={after})", axes, "real", x.bound)


def _pooling(p: Program, name: str) -> Value | None:
    x = p.real(1)
    axis = p.choose(x.axes)
    if name in ("adaptive_pool", "resize"):
        count = p.number(1, 4)
        how = f", aligned={p.number(0, 1)}" if name == "resize" else ""
    else:
        window = p.number(1, 3)
        count = (p.sizes[axis] + window - 1) // window
        how = f", window={window}"
    new = p.fresh("P", count)
    p.sizes[new] = count
    return p.add(
        f"{name}[{axis} -> {new}]({x.text}{how})", tuple(new if a == axis else a for a in x.axes), "real", x.bound
    )


def _segments(p: Program, name: str) -> Value | None:
    x = p.real(1)
    axis = p.choose(x.axes)
    group = p.choose(
        [f"pos({axis}) // 2", f"pos({axis}) % 2 % {axis}", f"argsort[{axis}]({x.text} + 0.01 * sin(3 * pos({axis})))"]
    )
    bound = x.bound * (p.sizes[axis] if name == "segment_sum" else 1)
    return p.add(f"{name}[{axis}]({x.text}, {group})", x.axes, "real", bound)


def _windows(p: Program, name: str) -> Value | None:
    x = p.real(1)
    axis, width = p.choose(x.axes), p.number(1, 3)
    window = p.fresh("W", width)
    p.sizes[window] = width
    at = x.axes.index(axis)
    axes = (*x.axes[: at + 1], window, *x.axes[at + 1 :])
    how = f"start={p.number(-2, 0)}, dilation={p.number(1, 2)}"
    made = p.add(f"windows[{axis} -> {axis}, {window}]({x.text}, {how})", axes, "real", x.bound)
    return (
        made
        if name == "windows"
        else p.add(f"fold[{axis}, {window} -> {axis}]({made.text}, {how})", x.axes, "real", x.bound * width)
    )


def _convolution(p: Program, name: str) -> Value | None:
    x = p.real(1)
    kernel = p.pick(lambda v: v.kind == "real" and bool(set(v.axes) - set(x.axes)))
    if kernel is None:
        return None
    tap = p.choose([a for a in kernel.axes if a not in x.axes])
    places = [a for a in x.axes if a not in kernel.axes]
    if not places or not p.small(x.axes, kernel.axes):
        return None
    axis = p.choose(places)
    width = p.sizes[tap]
    new = p.fresh("V", p.sizes[axis])
    p.sizes[new] = p.sizes[axis]
    start = p.number(-2, 0)
    sums = p.add(f"{name}[{axis}, {tap} -> {new}]({x.text}, {kernel.text}, start={start})", (), "real", 0)
    p.values.pop()
    others = [a for a in (*x.axes, *kernel.axes) if a not in (axis, tap)]
    # its order of axes is the operation's own affair: what follows sums them all but one
    over = ", ".join(dict.fromkeys(others))
    bound = x.bound * kernel.bound * width
    return p.add(f"mean[{over}]({sums.text})" if over else sums.text, (new,), "real", bound)


def _ordering(p: Program, name: str) -> Value | None:
    x = p.real(1)
    axis = p.choose(x.axes)
    text = f"{x.text} + 0.013 * sin(3 * pos({axis}))"  # no two are equal
    if name == "sort":
        return p.add(f"sort[{axis}]({text})", x.axes, "real", x.bound + 1)
    if name == "argsort":
        return p.add(f"argsort[{axis}]({text})", x.axes, "int", p.sizes[axis])
    count = p.number(1, p.sizes[axis])
    if name == "top":
        return p.add(f"top[{axis}]({text}, count={count})", x.axes, "bool", 1)
    new = p.fresh("T", count)
    p.sizes[new] = count
    return p.add(
        f"top_positions[{axis} -> {new}]({text})", tuple(new if a == axis else a for a in x.axes), "int", p.sizes[axis]
    )


LINES: Mapping[str, Line] = {
    **dict.fromkeys(("argmax", "argmin"), _place),
    **dict.fromkeys(("fft", "ifft", "rfft", "irfft"), _transform),
    "^T": _transpose,
    "[->]": _rename,
    "split": _split,
    "merge": _merge,
    "concat": _concat,
    "slice": _slice,
    "take": _take,
    **dict.fromkeys(("shift", "roll"), _moved),
    "pad": _pad,
    **dict.fromkeys(("pad_circular", "pad_reflect", "pad_replicate"), _border),
    **dict.fromkeys(("avg_pool", "max_pool", "adaptive_pool", "resize"), _pooling),
    **dict.fromkeys(("segment_sum", "segment_softmax", "segment_max"), _segments),
    **dict.fromkeys(("windows", "fold"), _windows),
    **dict.fromkeys(("conv", "conv_transpose"), _convolution),
    **dict.fromkeys(("sort", "argsort", "top", "top_positions"), _ordering),
}
