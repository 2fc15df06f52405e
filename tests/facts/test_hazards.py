"""Warnings of numbers: which examples get which, that they are right, and that what gets none is safe."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

import attngraph
from attngraph.compiler.facts.hazards import Hazard, hazards

from .probes import NAMES, call, example, formula_of, named_inputs, report_of, typed

#: Every warning and note about numbers in the examples, and why it is right to give it.
EXPECTED: dict[str, set[tuple[str, str]]] = {
    # a zero query is 0/0
    "nala_attention": {("AG520", "norm[D](q)")},
    "nala_attention_rotary": {("AG520", "norm[D](q)")},
    # also a zero key; the sign of the weights is not known, so a sum of them may cancel against eps
    "nala_cos_attention": {("AG520", "norm[D](q)"), ("AG520", "norm[D](k)"), ("AG520", "(sum[M](a) + eps)")},
    # the sum of first-order terms may be 0
    "taylor_attention_appendix": {("AG520", "sum[M](order(w))")},
    # a column of the first softmax may underflow for every slot
    "external_attention": {("AG520", "sum[S](a)")},
    # every expert may be shut off
    "mote_gates": {("AG520", "sum[J](kept)")},
    # a sum of terms of both signs
    "attnzero_bench_pvt_v2_c100": {("AG520", "sum[D](u)")},
    # positive features of keys that are not normalised: they need their maximum subtracted in half precision
    "performer_attention": {("AG522", "scaled(x) @ omega^T - sum[D](square(scaled(x))) / 2")},
    "nprf_rpe_attention": {("AG522", "sum[D](x * omega) - sum[D](x * x) / 2")},
    "nprf_rpe_attention_causal": {("AG522", "sum[D](x * omega) - sum[D](x * x) / 2")},
    "prf": {("AG522", "x @ omega^T - sum[D](x * x) / 2")},
    # only differences with n >= m may be exponentiated; the text has them all, and selects after
    "selective_ssm": {("AG522", "a * (time - time[N -> M])")},
    # sigmoids of large values round to 1
    "attnzero_174": {("AG520", "sum[D](u)")},
    # all entries may be the same
    "attnzero_34": {("AG525", "std[B, H, N, D](y, ddof=1)")},
    "attnzero_105": {("AG525", "std[B, H, F, D](x, ddof=1)")},
    # weights that the caller gives are positive by word only
    "quadrature_attention": {("AG520", "sum[M](a)")},
    # where all gates so far are small, the bound of the normaliser is infinite, and the result 0
    "mlstm": {("AG522", "-top")},
    # what later keys have left is a difference of sums, which may round to more than the logarithm of 1
    "stick_breaking_attention": {("AG522", "where(earlier, logsigmoid(z) + rest, -inf)")},
    # a power of 15 leaves the range of half precision
    "lssar": {("AG522", "relu((pos(N) + 1) * a - where(pos(N) < warm_rows, 0, 1))")},
}
NUMBERS = ("AG520", "AG521", "AG522", "AG523", "AG524", "AG525")


def zero(x: Tensor) -> Tensor:
    return torch.zeros_like(x)


#: Inputs at which the warned value is reached, and the result is not finite.
WITNESSES: dict[str, Mapping[str, Callable[[Tensor], Tensor]]] = {
    "nala_attention": {"q": zero},
    "nala_attention_rotary": {"q": zero},
    "nala_cos_attention": {"k": zero},
    "taylor_attention_appendix": {"q": zero},
    "mote_gates": {"tune": lambda x: -torch.ones_like(x)},
}


@pytest.mark.parametrize("name", NAMES)
def test_warnings_of_an_example(name: str) -> None:
    report = example(name)
    found = {
        (each.code, " ".join(report.source.slice(each.span).split()))
        for each in report.diagnostics
        if each.code in NUMBERS
    }
    assert found == EXPECTED.get(name, set())


ADVERSE: tuple[Callable[[Tensor], Tensor], ...] = (
    torch.zeros_like,
    torch.ones_like,
    lambda x: -30 * torch.ones_like(x),
    lambda x: 30 * torch.sgn(x),
)


#: Recurrences that forget nothing and learn more than they see, where gates are no fractions: they grow without bound.
UNSTABLE = {"titans_linear_memory", "titans_linear_memory_chunked", "titans_deep_memory"}


@pytest.mark.parametrize("name", NAMES)
def test_without_a_hazard_results_are_finite(name: str) -> None:
    if hazards(typed(name)) or name in UNSTABLE:
        return
    given = call(name)
    for change in ADVERSE:
        inputs = []
        for x in given.inputs:
            if x.dtype == torch.bool:
                inputs.append(torch.zeros_like(x))
            else:
                inputs.append(change(x) if x.is_floating_point() or x.is_complex() else x)
        with torch.no_grad():
            result = given.module(*inputs)
        assert torch.isfinite(torch.view_as_real(result) if result.is_complex() else result).all()


def test_most_examples_are_without_hazards() -> None:
    """The test above looks at something."""
    assert sum(not hazards(typed(name)) for name in NAMES) > 0.75 * len(NAMES)


@pytest.mark.parametrize("name", WITNESSES)
def test_a_warning_comes_true(name: str) -> None:
    given = call(name, 1)
    inputs = {
        key: WITNESSES[name][key](x) if key in WITNESSES[name] else x for key, x in named_inputs(name, given).items()
    }
    result = given.module(**inputs)
    assert not torch.isfinite(result).all()


@pytest.mark.parametrize(
    ("value", "codes", "lost"),
    [
        ("where(x == 0, 0, log(abs(x)))", ["AG523"], True),
        ("log(abs(where(x == 0, 1, x)))", [], False),
        ("log(abs(where(x != 0, x, 1)))", [], False),
        ("log(abs(where(x == 1, 1, x)))", ["AG521"], False),
        ("log(abs(where(x == 0, 0, x)))", ["AG521"], False),
        ("log(abs(where(x == 0, 1, 2 * x)))", ["AG521"], False),  # twice the smallest number is a number, half is 0
    ],
)
def test_the_lost_gradient_is_nan(value: str, codes: list[str], lost: bool) -> None:
    """A choice hides the value of what is not chosen, and not its gradient."""
    text = f"attention f(x[N]) -> [N]:\n    return {value}\n"
    assert [each.code for each in attngraph.check(text).diagnostics if each.code in NUMBERS] == codes
    x = torch.tensor([0.0, 2.0], dtype=torch.float64, requires_grad=True)
    result = attngraph.compile(text)(x)
    (gradient,) = torch.autograd.grad(result.sum(), x)
    if codes != ["AG521"]:
        assert torch.isnan(gradient).any() == lost
        assert torch.isfinite(result).all()


HEADER = "attention f(x[N, D], y[N, D], w[D]) -> [N, D]:\n    const eps = 1e-6\n"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("x / norm[N](y)", [Hazard.ZERO]),
        ("x / (norm[N](y) + eps)", []),
        ("x / max(norm[N](y), 1e-6)", []),
        ("x / (1 + y^2)", []),
        ("x / (y^2 + y + 1)", []),
        ("x / (y^2 + y + 1/4)", [Hazard.ZERO]),
        ("x % (y * y)", [Hazard.ZERO]),
        ("x // (y * y)", [Hazard.ZERO]),
        ("x * reciprocal(relu(y))", [Hazard.ZERO]),
        ("x * rsqrt(y * x)", [Hazard.ZERO, Hazard.DOMAIN]),
        ("x * rsqrt(var[D](y) + 1e-5)", []),
        ("sqrt(x * y)", [Hazard.DOMAIN]),
        ("sqrt(x * x)", [Hazard.ROOT]),
        ("sqrt(x * x + eps)", []),
        ("sqrt(sum[D](x * x))", [Hazard.ROOT]),
        ("sqrt(sum[D](x * y))", [Hazard.DOMAIN]),
        ("sqrt(stop_gradient(x * x))", []),
        ("sqrt(pos(N)) * x", []),
        ("std[D](x * y)", [Hazard.ROOT]),
        ("norm[D](x * y)", []),
        ("relu(x * y)^1.5", []),
        ("log(1 - sigmoid(x * y))", [Hazard.DOMAIN]),
        ("log(sigmoid(x * y))", []),
        ("log(softmax[D](x))", [Hazard.DOMAIN]),
        ("log(x * y)", [Hazard.DOMAIN]),
        ("log(x * x)", [Hazard.DOMAIN]),
        ("log(softplus(x))", []),
        ("log1p(x * y)", [Hazard.DOMAIN]),
        ("log1p(relu(x))", []),
        ("asin(x * y)", [Hazard.DOMAIN]),
        ("asin(tanh(x))", []),
        ("(x * y)^0.5", [Hazard.DOMAIN]),
        ("relu(x * y)^0.5", [Hazard.ROOT]),
        ("where(x * y > 0, relu(x * y)^0.5, 0)", [Hazard.ROOT]),
        ("(x * y)^(-1)", [Hazard.ZERO]),
        ("exp(x * y)", [Hazard.OVERFLOW]),
        ("exp(x - max[D](x))", []),
        ("exp(-square(x))", []),
        ("exp(10 * tanh(x))", []),
        ("exp(20 * tanh(x))", [Hazard.OVERFLOW]),
        ("(x * y)^5", [Hazard.OVERFLOW]),
        ("(x * y)^2", []),
        ("sigmoid(x * y)^15", []),
        ("cumprod[N](x * y)", [Hazard.OVERFLOW]),
        ("cumprod[N](sigmoid(x * y))", []),
        # cleaned up, or selected by what causes it
        ("where(isnan(x / norm[N](y)), 0, x / norm[N](y))", []),
        ("where(norm[N](y) > 0, x / norm[N](y), 0)", [Hazard.GRADIENT]),
        ("where(norm[N](y) > 0, sign(x / norm[N](y)), 0)", [Hazard.ZERO]),
        ("where(x > 0, x / norm[N](y), 0)", [Hazard.ZERO]),
        # weights that sum to one
        ("x / sum[D](0.5 * softmax[D](x) + 0.5 * softmax[D](y))", [Hazard.ZERO]),
    ],
)
def test_hazards_of_an_expression(body: str, found: list[Hazard]) -> None:
    assert [each.hazard for each in hazards(formula_of(f"{HEADER}    return {body} + 0 * (x + y + w)\n"))] == found


MASKED = "attention f(s[N, M], c[N, M] bool, g[M] bool, k[N]) -> [N, M]:\n    where M = N\n"
CAUSAL = "pos(N) >= pos(M)"


@pytest.mark.parametrize(
    ("body", "empty"),
    [
        ("softmax[M](where(c, s, -inf))", False),  # a mask, under which such a row is 0
        ("softmax[M](where(c, where(g, s, -inf), -inf))", False),
        ("softmax[M](where(c, -inf, where(g, s, -inf)))", False),
        ("softmax[M](s + where(c, 0, -inf))", False),  # is computed as one
        ("softmax[M](s + where(c, -inf, 0))", False),
        ("softmax[M](s - where(c, 0, -inf)[N -> P][P -> N])", True),
        (f"softmax[M](s + where({CAUSAL}, 0, -inf))", False),
        ("softmax[M](s + where(pos(N) < pos(M), -inf, 0))", False),
        ("softmax[M](s + where(pos(N) > pos(M), 0, -inf))", False),
        (f"softmax[M](s + where({CAUSAL}, 0, -inf) + where(g, 0, -inf))", False),
        (f"softmax[M](s + where({CAUSAL}, 0, -inf) + where(pos(N) - pos(M) <= 2, 0, -inf))", False),
        ("log_softmax[M](s + where(pos(M) == 0, -inf, 0) + where(pos(N) == pos(M), 0, -inf))", True),
        ("softmax[M](s / 2 + max(where(c, 0, -inf), -100))", False),
        ("softmax[M](s + where(c, 0, -1e9))", False),
        ("log_softmax[M](where(c, s, -inf))", True),
        (f"log_softmax[M](where({CAUSAL}, s, -inf))", False),
        ("exp(where(c, s, -inf) - max[M](where(c, s, -inf)))", True),
        (f"exp(where({CAUSAL}, s, -inf) - max[M](where({CAUSAL}, s, -inf)))", False),
    ],
)
def test_rows_in_which_all_is_hidden(body: str, empty: bool) -> None:
    text = f"{MASKED}    a = {body}\n    return a + 0 * where(c or g, s + k, 0)\n"
    report = report_of(text)
    assert [each.code for each in report.diagnostics] == ["AG524"] * empty
    s, hidden = torch.randn(3, 3), torch.zeros(3, 3, dtype=torch.bool)
    values = [attngraph.compile(text)(s, c, g, s[0]) for c in (hidden, ~hidden) for g in (hidden[0], ~hidden[0])]
    assert any(bool(torch.isnan(value).any()) for value in values) is empty


STEP = "attention f(x[N, D], y[N, D], w[D]) -> [N, D]:\n    z = x * y\n    scan N:\n"


def stepped(*lines: str) -> str:
    """A formula that is one recurrence; the last line is what is yielded."""
    *updates, last = lines
    body = "".join(f"        {line}\n" for line in ("state s[D] = 0", *updates, f"yield r = {last} + 0 * (z + w)"))
    return f"{STEP}{body}    return r\n"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (("s = s + x", "x / s"), [Hazard.ZERO]),
        (("s = s + x^2", "x / s"), [Hazard.ZERO]),
        (("s = s + x^2", "x / (s + 1)"), []),
        (("s = s + exp(tanh(x))", "x / s"), []),  # positive after the first step, which comes before it is read
        (("old = s", "s = s + exp(tanh(x))", "x / old"), [Hazard.ZERO]),
        (("s = s - exp(tanh(x))", "log(-s)"), []),
        (("s = clamp(s + x, min=-1, max=1)", "asin(s)"), []),
        (("s = sigmoid(y) * s + (1 - sigmoid(y)) * tanh(x)", "exp(s)"), []),
        (("s = sigmoid(y) * s + sigmoid(x) * tanh(x)", "exp(s)"), [Hazard.OVERFLOW]),
        (("old = s", "s = max(s, x)", "exp(old - s)"), []),
        (("s = max(s, x)", "exp(s)"), [Hazard.OVERFLOW]),
        (("s = s + x", "exp(-abs(s))"), []),
        (("s = 2 * s", "asin(s)"), []),  # it starts from 0
        (("s = s + x", "where(s == 0, 0, x / s)"), [Hazard.GRADIENT]),
        (("s = s + x", "where(isnan(x / s), 0, x / s)"), []),
        (("s = s + x", "z / norm[D](x) + s"), [Hazard.ZERO]),
        (("s = s + x", "x / z + s"), [Hazard.ZERO]),  # z is computed outside
        (("s = s + x", "z / x + s"), []),  # an argument
    ],
)
def test_hazards_of_a_step(lines: tuple[str, ...], found: list[Hazard]) -> None:
    shown = [each for each in hazards(formula_of(stepped(*lines))) if not each.given]
    assert [each.hazard for each in shown] == found


def test_a_step_in_a_step_is_looked_at() -> None:
    text = (
        "attention f(x[N, M], y[N]) -> [N]:\n    scan N:\n        state s[] = 0\n        scan M:\n"
        "            state t[] = s\n            t = t + x\n            yield u = log(t)\n"
        "        s = s + t\n        yield r = sum[M](u) + y\n    return r\n"
    )
    (found,) = report_of(text).diagnostics
    assert found.code == "AG521"


def test_a_warning_of_a_step_is_placed_in_it() -> None:
    report = report_of(stepped("old = s", "s = s + x", "x / old"))
    (found,) = report.diagnostics
    assert (found.code, report.source.slice(found.span), found.facts["text"]) == ("AG520", "x / old", "s")


def test_what_is_cleaned_up_may_be_a_result_too() -> None:
    text = "attention f(x[N]) -> [N], [N]:\n    a = log(x * x)\n    return where(isnan(a), 0, a), a\n"
    assert [d.code for d in report_of(text).diagnostics] == ["AG521"]


@pytest.mark.parametrize("body", ["x / w", "x / (1 + w)", "log(w) * x", "x / (N - pos(N))", "exp(-w) * x"])
def test_an_argument_is_the_callers_to_choose(body: str) -> None:
    text = f"attention f(x[N, D], w[D]) -> [N, D]:\n    return {body} + 0 * w\n"
    found = hazards(formula_of(text))
    assert all(each.given for each in found)
    assert report_of(text).diagnostics == ()


def test_warnings_can_be_switched_off() -> None:
    from attngraph.settings import check_ignored

    assert check_ignored(["AG510", "AG511", "AG512", *NUMBERS]) == ("AG510", "AG511", "AG512", *NUMBERS)


def test_a_called_formula_is_blamed_once() -> None:
    text = (
        "attention inner(x[N, D]) -> [N, D]:\n    return x / norm[D](x)\n\n"
        "attention outer(x[N, D]) -> [N, D]:\n    return inner(x)\n"
    )
    found = [d.code for name in ("inner", "outer") for d in attngraph.check(attngraph.parse(text, name)).diagnostics]
    assert found == ["AG520"]


@pytest.mark.parametrize(
    ("lines", "overflows"),
    [
        (("c = cumsum[N](logsigmoid(g))", "d = c - c[N -> M]"), False),
        (("c = cumsum[N](-relu(g))", "d = 2 * (c - c[N -> M])"), False),
        (("c = cumsum[N](softplus(g))", "d = c[N -> M] - c"), False),
        (("c = cumsum[N](softplus(g))", "d = -(c - c[N -> M]) / 3"), False),
        (("c = cumsum[N](g)", "d = c - c[N -> M]"), True),
        (("c = cumsum[N](logsigmoid(g))", "d = c[N -> M] - c"), True),
        (("c = cumsum[N](logsigmoid(g))", "d = -2 * (c - c[N -> M])"), True),
        (("c = logsigmoid(g)", "d = c - c[N -> M]"), True),
        (("c = cumsum[N](logsigmoid(g))", "d = c - 2 * c[N -> M]"), True),
        (("c = cumsum[N](softplus(g))", "d = c[N -> M] + c"), True),
    ],
)
def test_a_level_that_falls_does_not_overflow(lines: tuple[str, ...], overflows: bool) -> None:
    """Where the mask keeps earlier positions, and only there."""
    for mask, opposite in (("pos(N) >= pos(M)", "pos(N) <= pos(M)"), ("pos(N) > pos(M)", "pos(N) + pos(M) >= 0")):
        for shown, expected in ((mask, overflows), (opposite, True)):
            body = "".join(f"    {line}\n" for line in ("where M = N", *lines))
            text = f"attention f(g[N], x[M, D]) -> [N, D]:\n{body}    return exp(where({shown}, d, -inf)) @ x\n"
            found = [each for each in hazards(formula_of(text)) if each.hazard is Hazard.OVERFLOW]
            assert bool(found) is expected, text


def test_a_score_less_the_log_sum_of_all_does_not_overflow() -> None:
    text = "attention f(s[N, M], x[M, D]) -> [N, D]:\n    return exp(s - logsumexp[{axis}](s)) @ x\n"
    assert not hazards(formula_of(text.format(axis="M")))
    assert not hazards(formula_of(text.format(axis="N")))
    assert hazards(formula_of(text.format(axis="M").replace("s - logsumexp[M](s)", "s - logsumexp[M](2 * s)")))
