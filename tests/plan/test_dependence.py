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

NUMBERED = [
    "where M = N, L = 4, I = 1",
    "size = cumprod[L](where(pos(L) > 0, 2, 1))",
    "block = pos(M) // size",
    "key = segment_max[M](k, block)",
    "value = segment_sum[M](v, block)",
    "number = pos(N) // size",
    "first = max(number - 1, 0) * size",
    "s = where(number % 2 == 1, sum[D](q * take[M](key, first)), -inf)",
    "a = softmax[P](concat[I, L -> P](where(pos(I) == 0, sum[D](q * k[M -> N]), 0), s))",
    "return sum[L](slice[P -> L](a, start=1) * take[M](value, first))",
]


def _numbered(*changes: tuple[str, str]) -> list[str]:
    """Sums of blocks of the lengths 1, 2, 4, 8, of which a token reads those before its own."""
    text = "\n".join(NUMBERED)
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    return text.split("\n")


CAUSAL = {
    "numbered_blocks": (PLAIN, _numbered()),
    "numbered_blocks_from_one_on": (PLAIN, _numbered(("number % 2 == 1", "number >= 1"))),
    "numbered_blocks_in_the_middle": (PLAIN, _numbered(("max(number - 1, 0)", "(number // 2)"))),
    "numbered_blocks_far_back": (PLAIN, _numbered(("number - 1", "number - 2"), ("number % 2 == 1", "2 < number"))),
    "numbered_blocks_of_one_length": (PLAIN, _numbered(("cumprod[L](where(pos(L) > 0, 2, 1))", "3 + pos(L)"))),
    "numbered_blocks_weighed": (PLAIN, _numbered(
        ("-inf)", "0)"), ("slice[P -> L](a, start=1)", "where(number > 0 and pos(L) < 3, sigmoid(s), 0)"),
    )),
    "numbered_blocks_of_softmax": (PLAIN, _numbered(
        ("segment_sum[M](v, block)", "segment_sum[M](segment_softmax[M](sum[D](key * k), block) * v, block)"),
    )),
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
    "normalised": (PLAIN, [*SHARP, "return l1_normalize[M](s) @ v"]),
    "normalised_lengths": (PLAIN, [*SHARP, "return (2 * l2_normalize[M](s - 0) / p) @ v"]),
    "divided_by_lengths": (PLAIN, [*SHARP, "return s / (norm[M](s) + 1) @ v"]),
    "appended": ("x[N, C]", [*APPENDED, "lag = P + pos(N) - pos(M)",
                 "return sum[M](softmax[M](s, mask=lag >= 0 and lag < 4 or pos(M) < P) * z)"]),
    "appended_shortly": ("x[N, C]", [*APPENDED, "return sum[M](softmax[M](s, mask=P + pos(N) >= pos(M)) * z)"]),
}  # fmt: skip
LEAKS = {
    "numbered_blocks_that_are_even": (PLAIN, _numbered(("number % 2 == 1", "number % 2 == 0"))),
    "numbered_blocks_from_none_on": (PLAIN, _numbered(("number % 2 == 1", "number >= 0"))),
    "numbered_blocks_not_hidden": (PLAIN, _numbered(("where(number % 2 == 1, sum[D]", "(sum[D]"), (", -inf)", ")"))),
    "numbered_blocks_hidden_by_nought": (PLAIN, _numbered(("-inf)", "0)"))),
    "numbered_blocks_hidden_by_another": (PLAIN, _numbered(("number % 2 == 1", "pos(N) // 3 % 2 == 1"))),
    "the_own_numbered_block": (PLAIN, _numbered(("max(number - 1, 0)", "number"))),
    "numbered_blocks_of_another_length": (PLAIN, _numbered(("pos(M) // size", "pos(M) // (2 * size)"))),
    "numbered_blocks_over_all": (PLAIN, _numbered(("(v, block)", "(v / sum[M](v), block)"))),
    "numbered_blocks_whose_length_is_read": (PLAIN, _numbered(
        ("where(pos(L) > 0, 2, 1))", "where(pos(L) > 0, 2, 1)) + argmax[M](sum[D](k)) % 3"),
    )),
    "sees_its_own_block": (PLAIN, _blocks("pos(R) <= pos(S)", "pos(J) <= pos(G)")),
    "sees_one_ahead": (PLAIN, _blocks("pos(R) <= pos(S) + 1", "pos(J) < pos(G)")),
    "sees_the_block": (PLAIN, _blocks("pos(R) >= 0", "pos(J) < pos(G)")),
    "query_of_its_block": (PLAIN, _blocks(*LOOKS_BACK, ("near = sum[D](a *", "near = sum[D](max[S](a) *"))),
    "digits_exchanged": (PLAIN, _blocks(*LOOKS_BACK, ("merge[G, S -> N]", "merge[S, G -> N]"))),
    "normalised_over_the_block": (
        PLAIN, _blocks(*LOOKS_BACK, ("c = split[M -> J, R](v)", "c = softmax[R](split[M -> J, R](v))")),
    ),
    "raised": (PLAIN, [*SHARP, "return relu(s + c)^p @ v"]),
    "normalised_over_queries": (PLAIN, [*SHARP, "return l1_normalize[N](s) @ v"]),
    "normalised_before_the_mask": (PLAIN, [*SHARP, "return (s * l1_normalize[M](sigmoid(q @ k^T))) @ v"]),
    "normalised_after_a_shift": (PLAIN, [*SHARP, "return l2_normalize[M](s + c) @ v"]),
    "divided_by_lengths_of_all": (PLAIN, [*SHARP, "return s / norm[M](q @ k^T) @ v"]),
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
