"""Formulas after simplification: what is found, that the text is a formula, and that nothing hangs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import attngraph
from attngraph.compiler.rewrite import MAX_STEPS
from benchmarks import examples

NAMES = [
    (path, report.name)
    for path in examples.FILES
    for report in attngraph.compiler.pipeline.check_source(attngraph.compiler.pipeline.read(path))
]
HEADER = "attention f(x[N, D], y[N, D], s[N], m[N, M] bool, t[N, M]) -> [N, D]:\n"


def body(text: str) -> list[str]:
    """The lines of a formula below its header and docstring."""
    lines = text.rsplit('"""', 1)[-1].strip().splitlines()
    return [line.strip() for line in lines if not line.startswith("attention")]


def simplified(expression: str, result: str = "[N, D]", *, guards: bool = False, lines: str = "") -> list[str]:
    text = HEADER.replace("-> [N, D]", f"-> {result}") + lines + f"    return {expression}\n"
    return body(attngraph.simplify(text, guards=guards).text)


def example(name: str, *, guards: bool = False) -> list[str]:
    formula = attngraph.load(examples.find(name), name)
    return body(attngraph.simplify(formula, guards=guards).text)


# -- published formulas --------------------------------------------------------------------------------


def test_attnzero_105_is_a_direction_times_the_query() -> None:
    assert example("attnzero_105", guards=True) == [
        "require linear",
        "low = min[B, H, N, D](v)",
        "product = (v - low)[D -> F]^T @ (elu(k) + 1)",
        "return q * l2_normalize[D](q[D -> F] @ (product - mean[B, H, F, D](product)))",
    ]


def test_attnzero_105_keeps_its_guards_unless_asked() -> None:
    text = "\n".join(example("attnzero_105"))
    assert "isnan" in text
    assert "std" in text


def test_attnzero_40_is_the_query() -> None:
    assert example("attnzero_40")[-1] == "return q"


def test_attnzero_40_as_it_was_found() -> None:
    found = simplified("x * sign(N * exp(0))", guards=True)
    assert found == ["return x"]


def test_attnzero_80_is_the_value_scaled() -> None:
    """The min-max normalisation of a number is 0."""
    assert example("attnzero_80") == ["require linear", "return v / sqrt(D)"]
    assert simplified("(N - N) / (N - N + 1e-9) + x / sqrt(D)") == ["return x / sqrt(D)"]


def test_attnzero_174_forgets_the_batch_size() -> None:
    lines = ["require linear", "u = l2_normalize[N](sigmoid(-v))", "return q + u / sum[D](u)"]
    assert example("attnzero_174", guards=True) == lines
    assert "B" in "".join(example("attnzero_174")), "the norm has a floor, which the factor moves"


def test_attnzero_76_keeps_the_batch_size() -> None:
    assert example("attnzero_76")[1] == "sharpness = sqrt(B)"


def test_residual_cancels_in_a_normalised_difference() -> None:
    assert example("fod_i2_block")[-1] == "return layer_norm[C](intra[C2 -> C] - inter[C2 -> C])"


def test_convex_mixture_of_stochastic_rows_needs_no_normalisation() -> None:
    lines = example("gpsa_attention")
    assert lines[-1] == "return a @ v"
    assert "b_pos" not in "".join(lines)


def test_prefactor_that_a_row_normaliser_ignores() -> None:
    last = example("fod_rbf_target")[-1]
    assert last == "return softmax[M](-sum[S](square(distance / spread)) / 2)"


def test_softmax_in_three_passes() -> None:
    assert example("attention_3pass")[-3:] == ["qk = q @ k^T", "a = softmax[M](qk)", "return a @ v"]


def test_clamp_that_cannot_act_with_fixed_constants() -> None:
    path = examples.find("clipped_softmax_attention")
    assert body(attngraph.simplify(path, consts={"gamma": 0, "zeta": 1}).text)[-1] == "return p @ v"
    # a constant can be overridden, so its default proves nothing
    assert "clamp" in attngraph.simplify(path).text


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("fod_i2_block", {"difference of equals"}),  # x cancels
        ("gpsa_attention", {"shift of a softmax"}),  # a bias that is the same for all keys
        ("fod_rbf_target", {"scale of a quotient by a sum"}),  # a prefactor that a row normaliser ignores
    ],
)
def test_a_fact_of_the_catalogue_is_a_step(name: str, rules: set[str]) -> None:
    found = attngraph.simplify(attngraph.load(examples.find(name), name))
    assert rules <= {step.rule for step in found.steps}


def test_a_transform_and_its_inverse() -> None:
    text = "attention f(x[C, N], z[C, K] complex) -> [C, K] complex:\n    where K = floor(N / 2) + 1\n    sequence N\n"
    found = attngraph.simplify(f"{text}    return rfft[N -> K](irfft[K -> N](rfft[N -> K](x))) + z\n")
    assert body(found.text)[-1] == "return rfft[N -> K](x) + z"


def test_a_mask_that_another_implies() -> None:
    """As the sinks of sf_attention: a part of the mask says what another part says already."""
    before = "where(pos(N) >= pos(M) and (m and pos(N) >= pos(M) - 2), t, 0)"
    assert simplified(before, "[N, M]")[-1] == "return where(pos(N) >= pos(M) and m, t, 0)"


def test_attnzero_174_and_76_as_they_were_found() -> None:
    """k is dead: the cosine of a value with itself is the batch size, and positive factors cancel in a direction."""
    header = "attention f(q[B, N, D], k[B, N, D], v[B, N, D]) -> [B, N, D]:\n"
    lines = "    u = l2_normalize[N]((1 - sigmoid(v)) * relu(softsign(B * exp(k - k))))\n    return q + u / sum[D](u)\n"
    assert body(attngraph.simplify(header + lines, guards=True).text) == [
        "u = l2_normalize[N](sigmoid(-v))",
        "return q + u / sum[D](u)",
    ]
    line = "    return relu(q) + softmax[D](-sqrt(max(relu(B), 0)) * (q / sqrt(D)))\n"
    last = body(attngraph.simplify(header + line).text)[-1]
    assert last.replace("(q / sqrt(D))", "q / sqrt(D)") == "return relu(q) + softmax[D](-sqrt(B) * q / sqrt(D))"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("log(x) * 0 + y", "log(x) * 0 + y"),
        ("tanh(x) - tanh(x) + y", "y"),
        ("sqrt(abs(x)) * 0 + y", "y"),
        ("softmax[D](y + 1 / s)", "softmax[D](y + 1 / s)"),
        ("softmax[D](y + 1 / exp(s))", "softmax[D](y)"),
        ("max(exp(y), -square(log(x)))", "max(exp(y), -square(log(x)))"),
    ],
)
def test_what_may_be_no_number_is_not_left_out(before: str, after: str) -> None:
    assert simplified(before)[-1] == f"return {after}"


def test_a_logarithm_does_not_cancel_itself() -> None:
    assert not attngraph.simplify(HEADER + "    return log(x) - log(x) + y\n").steps


def test_with_guards_a_step_says_what_is_left_out() -> None:
    text = HEADER + "    return log(x) - log(x) + y\n"
    found = attngraph.simplify(text, guards=True)
    assert body(found.text)[-1] == "return y"
    assert any("NaN or infinite" in step.why for step in found.steps)


# -- algebra -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x + 0", "x"),
        ("1 * x", "x"),
        ("x * 2 * y / 2", "x * y"),
        ("(x + y) - (y + s)", "x - s"),
        ("y + x - x", "y"),
        ("--x", "x"),
        ("-x * -y", "x * y"),
        ("x^T^T", "x"),
        ("exp(x) * exp(y)", "exp(x + y)"),
        ("exp(x) / exp(y)", "exp(x - y)"),
        ("log(exp(x))", "x"),
        ("sqrt(square(x))", "abs(x)"),
        ("relu(sigmoid(x))", "sigmoid(x)"),
        ("abs(exp(x) + 1)", "exp(x) + 1"),
        ("clamp(sigmoid(x), min=0, max=1)", "sigmoid(x)"),
        ("x[N -> K][K -> N]", "x"),
        ("where(x > y, y, y)", "y"),
        ("x / x * y", "x / x * y"),
        ("exp(x) / exp(x) * y", "y"),
        ("softmax[D](x + s)", "softmax[D](x)"),
        ("softmax[D](x * s)", "softmax[D](x * s)"),
        ("layer_norm[D](x + y - y)", "layer_norm[D](x)"),
        ("x * y * 1", "x * y"),
    ],
)
def test_algebra(before: str, after: str) -> None:
    assert simplified(before)[-1] == f"return {after}"


@pytest.mark.parametrize(
    ("before", "result", "after"),
    [
        ("mean[N](mean[D](x))", "[]", "mean[N, D](x)"),
        ("sum[D](softmax[D](x)) * s", "[N]", "s"),
        ("sum[D](x[N -> M])", "[M]", "sum[D](x[N -> M])"),
        ("sum[M](where(m, 1, 0) * 1)", "[N]", "sum[M](where(m, 1, 0))"),
        ("softmax[M](t, mask=m and m)", "[N, M]", "softmax[M](t, mask=m)"),
        ("softmax[M](where(m, t, 0), mask=m)", "[N, M]", "softmax[M](t, mask=m)"),
        ("where(pos(N) >= pos(M) and pos(N) > pos(M) - 3, t, 0)", "[N, M]", "where(pos(N) >= pos(M), t, 0)"),
    ],
)
def test_reductions_and_masks(before: str, result: str, after: str) -> None:
    lines = simplified(before, result)
    assert lines[-1] == f"return {after}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x + sum[N](sum[D](softmax[D](y)))", "x + N"),
        ("x + sum[N](y - y + 0.5)", "x + 0.5 * N"),
        ("x * mean[N](y - y + 3.5)", "x * 3.5"),
        ("x * max[N, D](y - y + 3.5)", "x * 3.5"),
        ("x + sum[N, D](s + (y - y))", "x + sum[N](s) * D"),
        ("x + sum[N, D](s + y)", "x + sum[N, D](s + y)"),
    ],
)
def test_a_sum_over_copies_is_a_product(before: str, after: str) -> None:
    """What simplification leaves without an axis is the same all along it."""
    assert simplified(before)[-1] == f"return {after}"


def test_guards_act_on_request_only() -> None:
    assert simplified("l2_normalize[D](x * exp(s))")[-1] == "return l2_normalize[D](x * exp(s))"
    assert simplified("l2_normalize[D](x * exp(s))", guards=True)[-1] == "return l2_normalize[D](x)"
    steps = attngraph.simplify(HEADER + "    return x / x * y\n", guards=True).steps
    assert any("differ where it is 0" in step.why for step in steps)


def test_a_result_keeps_its_axes() -> None:
    """What would be left lacks the axes that the result is declared with, so it stays."""
    assert simplified("x - x")[-1] == "return x - x"
    assert simplified("x - x + y")[-1] == "return y"


def test_a_step_has_a_place() -> None:
    text = HEADER + "    a = x + 0\n    return a * y\n"
    [step] = attngraph.simplify(text).steps
    assert text[step.span.start : step.span.end] == "x + 0"
    assert (step.rule, step.before, step.after) == ("sum with zero", "x + 0", "x")


def test_shared_values_get_one_name() -> None:
    lines = simplified("softmax[D](exp(x) @ exp(x)[N -> M]^T @ (exp(x)[N -> M] * 1))")
    assert sum(line.count("exp(") for line in lines) == 1


# -- the text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guards", [False, True], ids=["exact", "guards"])
@pytest.mark.parametrize(("path", "name"), NAMES, ids=[name for _, name in NAMES])
def test_example_stays_a_formula(path: Path, name: str, guards: bool) -> None:
    """The text checks, its claims hold, and there is nothing left to simplify."""
    found = attngraph.simplify(attngraph.load(path, name), guards=guards)
    report = attngraph.check(found.formula)
    assert report.ok, [d.message for d in report.diagnostics]
    assert all(verdict.holds for verdict in report.verdicts)
    again = attngraph.simplify(found.formula, guards=guards)
    assert not again.steps


def test_mistakes_are_reported() -> None:
    with pytest.raises(attngraph.FormulaError):
        attngraph.simplify("attention f(x[N]) -> [N]:\n    return z\n")
    with pytest.raises(attngraph.CompileError, match="no constant `gama`; did you mean `gamma`"):
        attngraph.simplify(examples.find("clipped_softmax_attention"), consts={"gama": 1})


# -- limits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", ["+", "*", "-", "/"])
def test_long_chains_end(operator: str) -> None:
    lines = "".join(f"    a{i} = a{i - 1} {operator} a{i // 2}\n" for i in range(1, 400))
    text = f"attention f(a0[N]) -> [N]:\n{lines}    return a399\n"
    begin = time.perf_counter()
    found = attngraph.simplify(text)
    assert time.perf_counter() - begin < 30
    assert len(found.steps) <= MAX_STEPS
    assert attngraph.check(found.formula).ok


def test_deep_nesting_ends() -> None:
    lines = "".join(f"    a{i} = tanh(-a{i - 1})\n" for i in range(1, 600))
    found = attngraph.simplify(f"attention f(a0[N]) -> [N]:\n{lines}    return a599\n")
    assert attngraph.check(found.formula).ok


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("x * 1 + cos(pi / 2 * x)", "return x + cos(pi / 2 * x)"),
        ("x * 1 + 1e-5 + 2.5e-9 * y", "return x + 1e-5 + 2.5e-9 * y"),
        ("x * 1 + 1e20 * y", "return x + 1e20 * y"),
        ("x * 1 + (y + (x * y + 1))", "return x + y + x * y + 1"),
        ("x * 1 - (y + 1)", "return x - (y + 1)"),
    ],
)
def test_the_text_reads_as_a_person_writes_it(written: str, read: str) -> None:
    assert simplified(written) == [read]


def test_values_of_called_formulas_keep_their_names() -> None:
    """Where they need one, and nothing else has it."""
    gate = "attention gate(x[N, D]) -> [N, D]:\n    strength = cos(x)\n    return strength / (2 + strength)\n\n"
    text = f"{gate}attention f(x[N, D], y[N, D]) -> [N, D]:\n    return gate(x) * 1 + gate(y)\n"
    lines = body(attngraph.simplify(attngraph.parse(text, "f")).text)
    assert lines == [
        "strength = cos(x)",
        "strength_2 = cos(y)",
        "return strength / (2 + strength) + strength_2 / (2 + strength_2)",
    ]
