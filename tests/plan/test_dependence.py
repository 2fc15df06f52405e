"""What is judged causal is causal when it runs; what leaks is refused: axes in blocks, end to end, sharpened."""

from __future__ import annotations

import pytest
import torch

import attngraph

PLAIN = "q[N, D], k[M, D], v[M, E]"
BLOCKS = [
    "where M = N, N = G * S, M = J * R, S = seg, R = seg, L = R + J",
    "const seg = 3",
    "a = split[N -> G, S](q)",
    "b = split[M -> J, R](k)",
    "c = split[M -> J, R](v)",
    "near = sum[D](a * b[J -> G])",
    "far = sum[D](a * max[R](b))",
    "w = softmax[L](concat[R, J -> L](where(IN, near, -inf), where(BACK, far, -inf)))",
    "x = sum[R](slice[L -> R](w) * c[J -> G]) + sum[J](slice[L -> J](w, start=R) * mean[R](c))",
    "return merge[G, S -> N](x)",
]


def _blocks(inside: str, back: str, *changes: tuple[str, str]) -> list[str]:
    lines = [line.replace("IN", inside).replace("BACK", back) for line in BLOCKS]
    for before, after in changes:
        assert any(before in line for line in lines)
        lines = [line.replace(before, after) for line in lines]
    return lines


LOOKS_BACK = ("pos(R) <= pos(S)", "pos(J) < pos(G)")
SHARP = ["where M = N", "const p = 3, c = 0.5", "s = where(pos(N) >= pos(M), sigmoid(q @ k^T), 0)"]
APPENDED = ["where M = P + N", "param first[P, C]", "z = concat[P, N -> M](first, x)", "s = sum[C](x * z)"]

CAUSAL = {
    "blocks": (PLAIN, _blocks(*LOOKS_BACK)),
    "blocks_strict": (PLAIN, _blocks("pos(R) < pos(S)", "pos(J) < pos(G)")),
    "cumulative_sum_in_blocks": (
        PLAIN,
        ["where M = N, N = G * S, S = 3", "return merge[G, S -> N](cumsum[S](split[N -> G, S](q)))"],
    ),
    "sharpened": (PLAIN, [*SHARP, "return relu(s - c)^p @ v"]),
    "scaled": (PLAIN, [*SHARP, "return (tanh(s) * (pos(N) + 1) / 2) @ v"]),
    "exponential": (PLAIN, [
        "where M = N", "a = exp(where(pos(N) >= pos(M), q @ k^T, -inf))", "return (a / sum[M](a)) @ v",
    ]),
    "appended": ("x[N, C]", [*APPENDED, "lag = P + pos(N) - pos(M)",
                 "return sum[M](softmax[M](s, mask=lag >= 0 and lag < 4 or pos(M) < P) * z)"]),
    "appended_shortly": ("x[N, C]", [*APPENDED, "return sum[M](softmax[M](s, mask=P + pos(N) >= pos(M)) * z)"]),
}  # fmt: skip
LEAKS = {
    "sees_its_own_block": (PLAIN, _blocks("pos(R) <= pos(S)", "pos(J) <= pos(G)")),
    "sees_one_ahead": (PLAIN, _blocks("pos(R) <= pos(S) + 1", "pos(J) < pos(G)")),
    "sees_the_block": (PLAIN, _blocks("pos(R) >= 0", "pos(J) < pos(G)")),
    "query_of_its_block": (PLAIN, _blocks(*LOOKS_BACK, ("near = sum[D](a *", "near = sum[D](max[S](a) *"))),
    "digits_exchanged": (PLAIN, _blocks(*LOOKS_BACK, ("merge[G, S -> N]", "merge[S, G -> N]"))),
    "normalised_over_the_block": (
        PLAIN, _blocks(*LOOKS_BACK, ("c = split[M -> J, R](v)", "c = softmax[R](split[M -> J, R](v))")),
    ),
    "raised": (PLAIN, [*SHARP, "return relu(s + c)^p @ v"]),
    "turned": (PLAIN, [*SHARP, "return exp(s) @ v"]),
    "cosine": (PLAIN, [*SHARP, "return cos(s) @ v"]),
    "appended_one_ahead": ("x[N, C]", [*APPENDED, "return sum[M](softmax[M](s, mask=P + pos(N) + 1 >= pos(M)) * z)"]),
    "appended_without_shift": ("x[N, C]", [*APPENDED, "return sum[M](softmax[M](s, mask=pos(M) < P + N) * z)"]),
}  # fmt: skip


def _text(inputs: str, lines: list[str]) -> str:
    result = "[N, C]" if inputs != PLAIN else "[N, D]" if lines[-1].endswith("(q)))") else "[N, E]"
    body = "".join(f"    {line}\n" for line in ["require causal", *lines])
    return f"attention formula({inputs}) -> {result}:\n{body}"


def _leak(text: str) -> float:
    """How much an earlier result changes when later inputs do."""
    report = attngraph.check(text)
    formula = report.formula
    assert formula is not None
    sizes = dict.fromkeys("PCDE", 2) | {"N": 9, "M": 9}
    fixed = {axis: sizes[axis] for axis in formula.fixed if axis in sizes}
    module = attngraph.compile(text.replace("    require causal\n", ""), sizes=fixed).double()
    random = torch.Generator().manual_seed(3)
    inputs = [
        torch.rand([sizes[a] for a in node.axes], generator=random, dtype=torch.float64) for node in formula.inputs
    ]
    result = module(*inputs)
    worst = 0.0
    for position in range(1, 9):
        changed = [x.clone() for x in inputs]
        for x in changed:
            x[position:] += torch.rand(x[position:].shape, generator=random, dtype=torch.float64)
        worst = max(worst, (module(*changed) - result)[:position].abs().max().item())
    return worst


@pytest.mark.parametrize("name", CAUSAL)
def test_what_is_judged_causal_is(name: str) -> None:
    text = _text(*CAUSAL[name])
    report = attngraph.check(text)
    assert [d.message for d in report.diagnostics if d.code == "AG407"] == []
    assert _leak(text) <= 1e-12


@pytest.mark.parametrize("name", LEAKS)
def test_what_leaks_is_refused(name: str) -> None:
    text = _text(*LEAKS[name])
    report = attngraph.check(text)
    assert "AG407" in {d.code for d in report.diagnostics}
    assert _leak(text) > 1e-6
