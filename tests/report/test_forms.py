"""What `explain` says beyond the costs: which forms there are, why one is missing, and what a reader would ask next."""

from __future__ import annotations

import pytest

from attngraph.compiler.forms import TYPICAL, Account, account
from attngraph.compiler.pipeline import check_source
from attngraph.compiler.report import Report
from attngraph.description import describe
from attngraph.grammar.source import Source

HEADER = "attention f(q[N, D], k[M, D], v[M, E]) -> [N, E]:\n"
CAUSAL = HEADER + "    where M = N\n"
FORMS = ("dense", "linear", "chunked", "recurrent")


def report_of(text: str) -> Report:
    (report,) = check_source(Source("f.attn", text))
    assert report.ok, [diagnostic.message for diagnostic in report.diagnostics]
    return report


def account_of(text: str) -> Account:
    found = account(report_of(text))
    assert found is not None
    assert tuple(form.name for form in found.forms) == FORMS
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEADER + "    return q @ k^T @ v\n", ("dense", "linear")),
        (HEADER + "    return softmax[M](q @ k^T) @ v\n", ("dense",)),
        (CAUSAL + "    return softmax[M](q @ k^T, mask=pos(N) >= pos(M)) @ v\n", ("dense",)),
        (CAUSAL + "    return where(pos(N) >= pos(M), q @ k^T, 0) @ v\n", FORMS),
        (CAUSAL + "    return where(pos(N) >= pos(M), (q @ k^T) * 0.9^(pos(N) - pos(M)), 0) @ v\n", FORMS),
        (
            CAUSAL + "    lag = pos(N) - pos(M)\n    return softmax[M](q @ k^T, mask=lag >= 0 and lag <= 8) @ v\n",
            ("dense", "linear", "recurrent"),
        ),
        ("attention f(x[N, D]) -> [N, D]:\n    return cumsum[N](x)\n", ("dense", "linear", "recurrent")),
        ("attention f(x[N, D]) -> [N, D]:\n    return silu(x)\n", ("dense", "linear", "recurrent")),
        ("attention f(x[N, D]) -> [N, D]:\n    return x - mean[N](x)\n", ("dense", "linear")),
        ("attention f(x[D]) -> [D]:\n    return silu(x)\n", ("dense",)),
    ],
)
def test_forms_that_exist(text: str, expected: tuple[str, ...]) -> None:
    assert tuple(form.name for form in account_of(text).forms if form.exists) == expected


@pytest.mark.parametrize(
    ("body", "name", "reason", "place"),
    [
        (
            "    return sigmoid(q @ k^T) @ v\n",
            "linear",
            "`sigmoid` of a value that couples `N` and `M` cannot be separated",
            "sigmoid(q @ k^T)",
        ),
        ("    return sigmoid(q @ k^T) @ v\n", "chunked", "it is not causal", "sigmoid(q @ k^T) @ v"),
        (
            "    return softmax[M](q @ k^T, mask=pos(N) >= pos(M)) @ v\n",
            "recurrent",
            "`softmax` needs every earlier position",
            "softmax[M](q @ k^T, mask=pos(N) >= pos(M))",
        ),
        (
            "    return where(pos(N) >= pos(M), relu(q @ k^T), 0) @ v\n",
            "recurrent",
            "`@` couples `N` and `M`, so every earlier position is needed",
            "q @ k^T",
        ),
    ],
)
def test_why_a_form_is_missing(body: str, name: str, reason: str, place: str) -> None:
    report = report_of(CAUSAL + body)
    found = account(report)
    assert found is not None
    [form] = [form for form in found.forms if form.name == name]
    assert (form.exists, form.text) == (False, reason)
    assert form.span is not None
    assert report.source.slice(form.span) == place


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (CAUSAL + "    return where(pos(N) >= pos(M), q @ k^T, 0) @ v\n", "D*E"),
        ("attention f(x[N, D]) -> [N, D]:\n    return cumsum[N](x)\n", "D"),
        (CAUSAL + "    s = pos(N) - pos(M)\n    return softmax[M](q @ k^T, mask=s >= 0 and s <= 8) @ v\n", "8*D + 8*E"),
    ],
)
def test_size_of_the_state(text: str, size: str) -> None:
    assert account_of(text).forms[-1].text == f"position by position, with a state of {size} elements"


def test_crossover_is_where_the_costs_meet() -> None:
    report = report_of(HEADER + "    a = exp(q) @ exp(k)^T\n    return (a / sum[M](a)) @ v\n")
    found = account(report)
    assert found is not None
    assert found.crossover is not None
    assert (found.crossover.sequence, found.crossover.others) == (("N", "M"), ("D", "E"))
    length = found.crossover.length
    assert length is not None
    assert report.written is not None
    assert report.compiled is not None
    for n in (length - 1, length):
        sizes = {"N": n, "M": n, "D": TYPICAL, "E": TYPICAL}
        assert (report.compiled.time.evaluate(sizes) < report.written.time.evaluate(sizes)) is (n == length)


TAYLOR = """attention f(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    {facts}
    s = q @ k^T / sqrt(D)
    a = {weight}
    return (a / sum[M](a)) @ v
"""


def test_crossover_counts_the_way_that_short_sequences_go() -> None:
    """Polynomial weights are computed from scores where that is less work than products of features: under a causal
    mask that is half of the map already, without one the same map, of which only products do less."""
    causal = TAYLOR.format(facts="where M = N", weight="where(pos(N) >= pos(M), 1 + s + s * s / 2, 0)")
    report, found = report_of(causal), account_of(causal).crossover
    assert found is not None
    assert found.length is not None
    assert report.written is not None
    assert report.compiled is not None
    assert found.length <= 64
    sizes = {"D": TYPICAL, "E": TYPICAL, "N": 64}
    assert report.compiled.time.evaluate(sizes) > 10 * report.written.time.evaluate(sizes)  # by products
    found = account_of(TAYLOR.format(facts="sequence N, M", weight="1 + s + s * s / 2")).crossover
    assert found is not None
    assert found.length is not None
    assert found.length > 1000


def test_no_crossover_where_nothing_was_decided() -> None:
    assert account_of("attention f(x[N, D]) -> [N, D]:\n    return silu(x)\n").crossover is None


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("attention f(x[N, D]) -> [N, D]:\n    return silu(x)\n", "no token mixing: "),
        (CAUSAL + "    return where(pos(N) >= pos(M), q @ k^T, 0) @ v\n", "causal: no position depends on a later one"),
        (CAUSAL + "    return q @ k^T @ v\n", "not causal: position n along `N` may depend on later positions"),
        ("attention f(x[N, D]) -> [N, D]:\n    param w[N, M]\n    where M = N\n    return w @ x[N -> M]\n",
         "`w` carries `N` and `M`: the module is built for one length"),
        ("attention f(x[N, D], s[N, D]) -> [N, D]:\n    return where(s > 0, x, 0)\n", "no gradient reaches `s`"),
    ],
)  # fmt: skip
def test_notes(text: str, note: str) -> None:
    assert f"\n  {note}" in describe(report_of(text))


def test_what_has_a_gradient_is_not_mentioned() -> None:
    shown = describe(report_of("attention f(x[N, D], s[N, D], m[N] bool) -> [N, D]:\n    return where(m, x, s)\n"))
    assert "gradient" not in shown


def test_a_formula_with_mistakes_has_no_account() -> None:
    (report,) = check_source(Source("f.attn", "attention f(x[N, D]) -> [N, D]:\n    return y\n"))
    assert account(report) is None


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("softmax[M](q @ k^T) @ v", "fused softmax"),
        ("where(pos(N) >= pos(M), q @ k^T, 0) @ v", "mask as a factor, causal scan"),
        ("softmax[M](where(pos(N) >= pos(M), sum[D](k), -inf)) @ v * sum[D](q)", "prefix softmax"),
        ("softmax[M](where(abs(pos(N) - pos(M)) <= 3, q @ k^T, -inf)) @ v", "band"),
        ("softmax[M](where(pos(N) // 8 == pos(M) // 8, q @ k^T, -inf)) @ v", "windows"),
        ("exp(-abs(pos(N) - pos(M))) @ v * sum[D](q) * sum[M, D](k)", "Fourier transform"),
        ("q @ k^T @ v", "contraction order"),
    ],
)
def test_every_lowering_says_its_rule(body: str, rule: str) -> None:
    steps = report_of(CAUSAL + f"    return {body}\n").steps
    assert rule in [step.rule for step in steps]
    assert all(step.why for step in steps)
