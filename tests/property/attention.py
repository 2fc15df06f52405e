"""Random formulas in the shape of attention: a map over queries and keys, made of factors, masked, normalised and
contracted with values. These exercise the normal form, the separation rules and the lowerings."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, composite

from .draft import Draft, Shape

# Features of rows: text over a variable, and whether they are positive.
FEATURES = (
    ("{x}", False),
    ("elu({x}) + 1", True),
    ("relu({x}) + 0.1", True),
    ("softplus({x})", True),
    ("exp(tanh({x}))", True),
    ("softmax[D]({x})", True),
    ("l2_normalize[D]({x} + 2)", False),
    ("square({x})", True),
    ("cos({x})", False),
)

# Factors over queries and keys: text, and whether they are positive. `{s}` stands for a score.
FACTORS = (
    ("{s}", None),
    ("({s})^2", True),
    ("({s})^3", False),
    ("(1 + {s} + ({s})^2 / 2)", True),
    ("exp(tanh(g) + tanh(f))", True),
    ("exp(tanh(f))", True),
    ("cos(g - f)", False),
    ("cos(0.1 * (pos(N) - pos(M)))", False),
    ("sin(g + f)", False),
    ("(g + f)", False),
    ("(1 / (abs(g) + 1))", True),
    ("sigmoid(f)", True),
    ("abs(({s}) * g)", True),
    ("relu(g) * f", False),
    ("(g * {s} + f)", False),
    ("exp({s} / D)", True),
    ("relu({s})", True),
    ("t", False),
    ("1.5", True),
)

# The same, for queries and keys that are the same tokens.
TIED_FACTORS = (
    ("where(pos(N) >= pos(M), 1, 0)", True),
    ("where(pos(N) > pos(M), 1, 0)", True),
    ("where(not pos(N) < pos(M), {s}, 0)", None),
    ("where(lag >= 0, 0.9^lag, 0)", True),
    ("where(lag >= 0, exp(-0.25 * lag), 0)", True),
    ("where(lag >= 0, exp(a - a[N -> M]), 0)", True),
    ("where(lag > 0, exp(a - a[N -> M]), 0)", True),
    ("where(abs(lag) <= 2, 1, 0)", True),
    ("where(lag >= 0 and lag < 5, 1, 0)", True),
    ("where(pos(N) // 4 == pos(M) // 4, 1, 0)", True),
    ("0.8^abs(lag)", True),
    ("cos(0.2 * lag)", False),
    ("exp(-0.05 * lag^2)", True),
    ("where(lag == 0, 2, 1)", True),
    ("where(lag >= 0, 1, 0.5)", True),
    ("softmax[M](where(lag >= 0, {s}, -inf))", True),
    ("where(lag >= 0, exp(tanh(f)), 0)", True),
)

SOFTMAXES = (
    "softmax[M]({s})",
    "softmax[M](({s}) / sqrt(D))",
    "softmax[M](({s}) / sqrt(D) + f)",
    "softmax[M](g + f)",
    "softmax[M](where(t > 0.123, {s}, -inf))",
    "softmax[M]({s}, mask=c)",
    "softmax[M](tanh({s}) * 2)",
)
TIED_SOFTMAXES = (
    "softmax[M](where(lag >= 0, ({s}) / sqrt(D), -inf))",
    "softmax[M](where(lag > 0, {s}, -inf))",
    "softmax[M](({s}) / sqrt(D) - 0.5 * abs(lag), mask=lag >= 0)",
    "softmax[M](where(abs(lag) <= 2, {s}, -inf))",
    "softmax[M](where(lag >= 0 and lag <= 3, ({s}) / sqrt(D), -inf))",
    "softmax[M](where(pos(N) // 4 == pos(M) // 4, {s}, -inf))",
    "softmax[M](where(lag >= 0, f, -inf))",
    "softmax[M](where(lag >= 0 and c, {s}, -inf))",
    "softmax[M](where(lag >= 0, exp(a - a[N -> M]), -inf))",
)

# Decays of recurrences with a state per feature and value channel; `l` falls along N, per feature.
DECAYS = (
    "where(lag >= 0, exp(l - l[N -> M]), 0)",
    "where(lag > 0, exp(l - l[N -> M]), 0)",
    "where(lag >= 0, exp(2 * (l - l[N -> M])), 0)",
    "where(lag >= 0, exp(r * (a - a[N -> M])), 0)",
    "where(lag >= 0, exp(-exp(r) * lag), 0)",
    "where(lag >= 0, sigmoid(r)^lag, 0)",
    "where(lag >= 0, exp(l - l[N -> M]), 0.5)",
)

FINISHES = (
    "{o}",
    "{o}",
    "{o}",
    "{o} * sigmoid(g)",
    "{o} + w",
    "{o} @ p",
    "l2_normalize[E]({o} + 3)",
    "{o} / (1 + g^2)",
)

# Lengths around the chunk of the causal lowerings, and small ones.
LENGTHS = (1, 2, 3, 5, 7, 9, 16)
LONG = (1, 63, 64, 65, 130)


@dataclass(frozen=True)
class _Setting:
    tied: bool
    heads: bool
    length: int


@composite
def attentions(draw: DrawFn, *, long: bool = False, tied: bool | None = None, spare: bool = True) -> Draft:
    """A formula of queries, keys and values. long: lengths around a chunk. spare: further outputs and steps."""
    tied = draw(st.booleans()) if tied is None else tied
    length = draw(st.sampled_from(LONG if long else LENGTHS))
    setting = _Setting(tied, draw(st.integers(0, 3)) == 0, length)
    sizes = {"N": length, "D": draw(st.sampled_from([1, 2, 3, 4])), "E": draw(st.sampled_from([1, 2, 3]))}
    sizes["M"] = length if tied else draw(st.sampled_from([1, 3, 5, length]))
    if setting.heads:
        sizes["H"] = draw(st.sampled_from([1, 2, 3]))
    score, score_positive = _score(draw)
    lines = ["a = cumsum[N](-softplus(g) / 8)", "lag = pos(N) - pos(M)"] if tied else []
    sums = draw(st.integers(0, 3)) != 0
    if sums:
        lines += _weights(draw, setting, score, score_positive)
    else:
        softmax = draw(st.sampled_from([*SOFTMAXES, *(TIED_SOFTMAXES * 2 if tied else ())]))
        lines.append(f"map = {softmax.format(s=score)}")
    lines.append(f"o = {draw(st.sampled_from(['map @ v', 'map @ v', 'sum[M](map * v)']))}")
    lines.append(f"y = {draw(st.sampled_from(FINISHES)).format(o='o')}")
    returned = ["y"]
    if spare and draw(st.integers(0, 5)) == 0:
        # a map that does not read the queries may lack the heads
        returned.append(draw(st.sampled_from(["map", "o"] if _mentions("\n".join(lines), "q") else ["o"])))
    return _draft(draw, setting, sizes, lines, returned)


@composite
def recurrences(draw: DrawFn) -> Draft:
    """A state that forgets, read by queries or returned as it is."""
    length = draw(st.sampled_from([*LENGTHS, *LONG]))
    sizes = {"N": length, "M": length, "D": draw(st.sampled_from([1, 2, 3])), "E": draw(st.sampled_from([1, 2]))}
    source = draw(st.sampled_from(["k * v", "k * f * v", "k * v * w", "(k * v + f)", "v", "k"]))
    state = f"sum[M]({draw(st.sampled_from(DECAYS))} * {source})"
    axes = "N, D" if source == "k" else "N, D, E"
    read, shown = ("sum[D](q * state)", axes.replace(", D", "")) if draw(st.booleans()) else ("state", axes)
    body = [
        "where M = N",
        "param w[E] = normal(1), r[D] = normal(1)",
        "a = cumsum[N](-softplus(g) / 8)",
        "l = cumsum[N](-softplus(q) / 8)",
        "lag = pos(N) - pos(M)",
        f"state = {state}",
        f"return {read}",
    ]
    text = f"attention f(q[N, D], k[M, D], v[M, E], g[N], f[M]) -> [{shown}]:\n" + "".join(f"    {x}\n" for x in body)
    batch: Shape = draw(st.sampled_from([(), (2,)]))
    batches = {name: draw(st.sampled_from([batch, batch, ()])) for name in ("q", "k", "v", "g", "f")}
    return Draft(text, sizes, batches, draw(st.integers(0, 99)))


def _score(draw: DrawFn) -> tuple[str, bool]:
    """A contraction of queries and keys, and whether it is positive."""
    one, first = draw(st.sampled_from(FEATURES))
    other, second = draw(st.sampled_from(FEATURES)) if draw(st.booleans()) else (one, first)
    queries, keys = one.format(x="q"), other.format(x="k")
    spelled = draw(st.sampled_from(["({q}) @ ({k})^T", "({q}) @ ({k})^T", "sum[D](({q}) * ({k}))"]))
    return f"({spelled.format(q=queries, k=keys)})", first and second


def _weights(draw: DrawFn, setting: _Setting, score: str, score_positive: bool) -> list[str]:
    """Lines that end in `map`, a product of factors, perhaps normalised."""
    choices = [*FACTORS, *(TIED_FACTORS if setting.tied else ())]
    chosen = [draw(st.sampled_from(choices)) for _ in range(draw(st.integers(1, 3)))]
    if not any("{s}" in text for text, _ in chosen) or draw(st.booleans()):
        chosen.append(("{s}", None))
    ordered = draw(st.permutations(chosen))
    # `map @ v` wants the keys last: not behind a factor of the keys alone, or of heads that an earlier factor lacks
    if "f)" in ordered[0][0] or setting.heads:
        ordered = [("{s}", None), *ordered]
    positive = all(score_positive if sign is None else sign for _, sign in ordered)
    text = ""
    for factor, _ in ordered:
        operator = " * " if draw(st.integers(0, 4)) else " + "
        text = f"{text}{operator}{factor.format(s=score)}" if text else factor.format(s=score)
    lines = [f"weight = {text}"]
    if setting.tied and draw(st.integers(0, 2)) == 0:
        mask = draw(
            st.sampled_from(["lag >= 0", "lag > 0", "not pos(N) < pos(M)", "not lag < 0", "pos(N) + 1 > pos(M)"])
        )
        lines.append(f"masked = where({mask}, weight, 0)")
    else:
        lines.append("masked = weight + t" if draw(st.integers(0, 9)) == 0 else "masked = weight")
    if "+ t" in lines[-1]:
        positive = False
    norms = ["masked", "masked / M", "masked / (sum[M](abs(masked)) + 1)", "masked / max(abs(sum[M](masked)), 1)"]
    if positive:
        norms += ["masked / (sum[M](masked) + 0.5)", "masked / (sum[M](masked) + 0.5)"]
    return [*lines, f"map = {draw(st.sampled_from(norms))}"]


_AXES = {
    "q": ("N", "D"), "k": ("M", "D"), "v": ("M", "E"), "g": ("N",), "f": ("M",), "t": ("N", "M"), "c": ("M",),
}  # fmt: skip


def _draft(draw: DrawFn, setting: _Setting, sizes: dict[str, int], lines: list[str], returned: list[str]) -> Draft:
    text = "\n".join(lines)
    used = [name for name in _AXES if _mentions(text, name) or name == "q"]
    headed = {name for name in used if setting.heads and name in ("q", "k", "v", "g") and draw(st.integers(0, 3))}
    headed |= {"q", "v"} if setting.heads else set()
    axes = {name: (("H",) if name in headed else ()) + _AXES[name] for name in used}
    kinds = {"c": " bool"}
    arguments = ", ".join(f"{name}[{', '.join(axes[name])}]{kinds.get(name, '')}" for name in used)
    front = "H, " if setting.heads else ""
    last = f"[{front}N, {'F' if '@ p' in text else 'E'}]"
    shapes = {"y": last, "o": f"[{front}N, E]", "map": f"[{front}N, M]"}
    head = ["where M = N"] if setting.tied else []
    head += ["param w[E] = normal(1)"] if _mentions(text, "w") else []
    if _mentions(text, "p"):
        head.append("param p[E, F] = normal(1)")
        sizes["F"] = 2
    body = [*head, *lines, f"return {', '.join(returned)}"]
    shown = ", ".join(shapes[name] for name in returned)
    source = f"attention f({arguments}) -> {shown}:\n" + "".join(f"    {line}\n" for line in body)
    carried = {axis for name in used for axis in axes[name]} | ({"E"} if "w" in text else set())
    carried |= {"E", "F"} if "F" in sizes else set()
    batch: Shape = draw(st.sampled_from([(), (), (2,), (2, 2)] if setting.length < 60 else [(), (2,)]))
    options = [batch, batch, batch[1:], (1,) * len(batch), ()]
    batches = {name: draw(st.sampled_from(options)) for name in used}
    known = {axis: size for axis, size in sizes.items() if axis in carried}
    return Draft(source, known, batches, draw(st.integers(0, 99)))


def _mentions(text: str, name: str) -> bool:
    cleaned = "".join(c if c.isalnum() or c == "_" else " " for c in text)
    return name in cleaned.split()
