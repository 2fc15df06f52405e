"""Valid formulas made wrong: tokens lost, doubled and exchanged, names and numbers replaced, lines reordered."""

from __future__ import annotations

import re
from functools import cache

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, composite

from attngraph.compiler.ops import BY_SPELLING
from benchmarks import examples
from tests.property.attention import attentions
from tests.property.programs import programs

TOKEN = re.compile(r"\s+|\w+|[-+*/^@=<>!]+|.", re.DOTALL)

WORDS = (
    "q", "k", "v", "N", "M", "D", "E", "H", "x1", "T", "pi", "inf", "where", "sum", "softmax", "pos", "and", "not", "attention",
    "return", "require", "sequence", "const", "param", "buffer", "use", "bool", "int", "complex", "real", "normal", "uniform",
    "linear", "causal", "time", "memory", "state", "O", "f", "self", "torch", "None", "nan", "__class__", "lambda", "mask",
)  # fmt: skip
NUMBERS = (
    "0", "1", "2", "-1", "3", "64", "65", "1e308", "1e-320", "99999999999999999999999999", "0.5", "1e400", "1.5", "2.0", "1000000",
    "1e19", "9007199254740993", "0.1", "1e-5", "7e7",
)  # fmt: skip
MARKS = (
    "(",
    ")",
    "[",
    "]",
    ",",
    "->",
    "+",
    "-",
    "*",
    "/",
    "//",
    "%",
    "^",
    "^T",
    "@",
    "==",
    "<",
    ">=",
    "=",
    ":",
    "\n",
    "    ",
    ".",
    "#",
    '"""',
)
WHOLE = (
    "0 * q", "q[N -> N]", "q @ q", "q @ q^T", "q^T^T", "pos(N) / pos(M)", "q / 0", "log(0 - 1)", "1 / 0", "0 / 0", "1 // 0", "1 % 0",
    "2^1000", "2^-1000", "2^2000", "(0 - 2)^0.5", "10^400", "10^10^10", "q^1000000", "q^64", "q^65", "(q @ k^T)^40", "exp(1000)", "inf - inf",
    "sqrt(N - 100)", "N^64", "N^65", "1 / (N - N)", "log(N - N)", "N // 0", "max(N, M, D)", "sum[N](sum[N](q))", "sum[N, N](q)",
    "sum[](q)", "sum[D](q, q)", "sum(q)", "softmax[M](-inf)", "softmax[D](where(q > 0, -inf, -inf))", "where(q, q, q)", "where(true, 1, 2)",
    "split[N -> A, B](q)", "split[N -> N, N](q)", "split[D -> A, A](q)", "split[D -> A](q)", "merge[N, D -> N](q)", "merge[N, N -> A](q)",
    "concat[N, N -> N](q, q)", "concat[N -> A](q, q)", "concat[N, D -> A](q, q)", "slice[N -> A](q)", "slice[N -> N](q, start=-1)",
    "slice[N -> N](q, stride=0)", "slice[N -> N](q, start=1/2)", "slice[N -> N](q, start=q)", "slice[N -> N](q, start=1e30)",
    "take[N](q, q)", "take[N](q, 1000)", "take[N](q, -1)", "take[N](q, pos(N))", "take[N](q, pos(M) // 0)", "shift[N](q, by=1e9)",
    "shift[N](q, by=N)", "shift[N](q, by=N/2)", "roll[N](q, by=M)", "pad[N -> A](q, before=-1)", "pad[N -> N](q, before=1)",
    "pad[N -> A](q, before=1e12)", "windows[N -> N, W](q)", "windows[N -> N, N](q)", "windows[N -> A, B](q, dilation=0)", "fold[N -> A](q)",
    "fold[N, D -> N](q)", "conv[N, D](q, q)", "conv[N, M](q, k)", "conv[N](q, k)", "conv[N, M, D](q, k)", "top[N](q, count=0)",
    "top[N](q, count=N)", "top[N](q)", "top_positions[N -> A](q)", "fft[N -> N](q)", "rfft[N -> A](q)", "irfft[N -> D](q)", "irfft[N -> A](q)",
    "complex(q, complex(q, q))", "real(q)", "sort[D](complex(q, q))", "max[N](complex(q, q))", "complex(q, q) > 0", "complex(q, q)^0.5",
    "complex(1, 2)^3", "not q", "q and q", "-(q > 0)", "(q > 0) + 1", "(q > 0) @ k^T", "q == q == q", "q < q < q", "clamp(q)", "clamp(q, min=k, max=1)",
    "layer_norm[D](q, gain=k)", "layer_norm[D](q, eps=0)", "layer_norm[D](q, eps=0 - 1)", "var[N](q, ddof=N)", "var[N](q, ddof=1)",
    "elu(q, alpha=D)", "elu(q, alpha=0)", "leaky_relu(q, slope=inf)", "leaky_relu(q, slope=pi)", "f(q)", "f(q, k)", "x1(q)", "q(1)", "q[1]", "q[N]",
    "q[N -> M -> D]", "q[A -> B]", "pos(q)", "pos(N + 1)", "pos()", "pos(N, M)", "pos[N](q)", "N @ M", "1 @ 2", "q @ 1", "^T", "1^T", "N^T",
    "q ^ T", "q[N -> T]", "q * T", "argmax[N](q)", "argmax[N, D](q)", "cumsum[N, D](q)", "cumsum[A](q)", "prod[N, D](q)", "norm[N](q > 0)",
    "mean[D](q > 0)", "any[N](q)", "all[D](q > 0)", "isnan(q)", "isnan(q > 0)", "stop_gradient(q > 0)", "segment_softmax[N](q, q)",
    "segment_sum[N](q, pos(N) - 5)", "avg_pool[N -> A](q, window=0)", "max_pool[N -> N](q, window=3)", "adaptive_pool[N -> A](q)",
    "pad_circular[N -> A](q, before=3)", "round(pos(N) / 2)", "pos(N)^pos(M)", "pos(N) // pos(M)", "pos(N) % pos(M)", "0^0", "0^-1", "0.0^-1",
    "sum[N](1)", "sum[N](pos(N))", "mean[N](pos(N))", "softmax[N](pos(N))", "exp(pos(N) - pos(M)) @ v", "log(pos(N))", "gelu(1)", "relu(-1)",
)  # fmt: skip


@cache
def example_texts() -> tuple[str, ...]:
    return tuple(path.read_text(encoding="utf-8") for path in examples.FILES)


@composite
def valid_texts(draw: DrawFn) -> str:
    match draw(st.integers(0, 2)):
        case 0:
            return draw(st.sampled_from(example_texts()))
        case 1:
            return draw(programs(most=5)).text
        case _:
            return draw(attentions()).text


def _pieces() -> tuple[str, ...]:
    functions = sorted({spelling for spelling, _ in BY_SPELLING})
    return (*WORDS, *NUMBERS, *MARKS, *functions, *WHOLE)


@composite
def mutated_texts(draw: DrawFn) -> str:
    """A valid text after one to four changes."""
    text = draw(valid_texts())
    for _ in range(draw(st.integers(1, 4))):
        text = draw(_changed(text))
    return text


@composite
def _changed(draw: DrawFn, text: str) -> str:
    tokens = TOKEN.findall(text)
    head = 0 if draw(st.integers(0, 3)) == 0 else min(_after_head(tokens), len(tokens))
    places = [i for i in range(head, len(tokens)) if not tokens[i].isspace()] or list(range(len(tokens)))
    if not places:
        return draw(st.sampled_from(_pieces()))
    at, other = draw(st.sampled_from(places)), draw(st.sampled_from(places))
    match draw(st.integers(0, 8)):
        case 0:
            del tokens[at]
        case 1:
            tokens.insert(at, draw(st.sampled_from(_pieces())))
        case 2:
            tokens[at], tokens[other] = tokens[other], tokens[at]
        case 3:
            tokens[at] = tokens[other]
        case 4:
            same = [i for i in places if tokens[i].isidentifier()]
            if same:
                tokens[draw(st.sampled_from(same))] = draw(st.sampled_from(WORDS))
        case 5:
            numbers = [i for i in places if tokens[i][0].isdigit()]
            if numbers:
                tokens[draw(st.sampled_from(numbers))] = draw(st.sampled_from(NUMBERS))
        case 6:
            lines = text.split("\n")
            one, two = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
            lines[one], lines[two] = lines[two], lines[one]
            return "\n".join(lines)
        case 7:
            return _with_line(
                text, f"    {draw(st.sampled_from(['y9', 'q', 'x1', 'N']))} = {draw(st.sampled_from(WHOLE))}"
            )
        case _:
            return re.sub(r"return .*", lambda _: f"return {draw(st.sampled_from(WHOLE))}", text, count=1)
    return "".join(tokens)


def _after_head(tokens: list[str]) -> int:
    return next((i for i, token in enumerate(tokens) if token == ":"), 0)


def _with_line(text: str, line: str) -> str:
    """The text with a line in front of the first return."""
    lines = text.split("\n")
    at = next((i for i, each in enumerate(lines) if each.strip().startswith("return")), len(lines))
    return "\n".join([*lines[:at], line, *lines[at:]])
