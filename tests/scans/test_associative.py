"""Recurrences that are linear in their states, at all positions at once: against their steps, and near misses."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import attngraph
from attngraph.compiler.associative import names_of
from attngraph.compiler.facts.updates import Declined, updates
from attngraph.compiler.forms import Form, account
from attngraph.compiler.graph import Node, topological
from attngraph.compiler.report import Report
from attngraph.compiler.scan import Scan, deep
from benchmarks import examples

LENGTHS = (1, 2, 17, 257)


def scanned(state: str, *lines: str, inputs: str = "x[N, D], g[N, D], c[N], w[D]", result: str = "[N, D]") -> str:
    """A formula that is one recurrence; the last line is what is yielded."""
    *updates, last = lines
    body = "".join(f"        {line}\n" for line in (f"state {state}", *updates, f"yield y = {last}"))
    return f"attention f({inputs}) -> {result}:\n    sequence N\n    scan N:\n{body}    return y\n"


@cache
def built(text: str, form: str) -> nn.Module:
    return attngraph.compile(text, form=form).double()  # type: ignore[arg-type]


@cache
def checked(text: str) -> Report:
    report = attngraph.check(text)
    assert report.ok, [d.message for d in report.diagnostics]
    return report


def form_of(text: str) -> Form:
    found = account(checked(text))
    assert found is not None
    [form] = [each for each in found.forms if each.name == "associative"]
    return form


def draw(text: str, sizes: dict[str, int], batch: tuple[int, ...] = (2,), seed: int = 0) -> list[Tensor]:
    formula = checked(text).formula
    assert formula is not None
    random = torch.Generator().manual_seed(seed)
    shapes = ((*batch, *(sizes[axis] for axis in node.axes)) for node in formula.inputs)
    return [(torch.rand(s, generator=random, dtype=torch.float64) * 2 - 1).requires_grad_() for s in shapes]


def agree(text: str, sizes: dict[str, int], batch: tuple[int, ...] = (2,), seed: int = 0) -> None:
    """The steps and all positions at once give the same values and gradients."""
    inputs = draw(text, sizes, batch, seed)
    found = []
    for form in ("dense", "associative"):
        out = built(text, form)(*inputs)
        total = out.sin().sum() + sum(value.sum() for value in inputs)
        grads = torch.autograd.grad(total, inputs)
        found.append((out, *grads))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-10)


LINEAR = {
    "gate": scanned("h[D] = 0", "h = g * h + x", "h"),
    "start": scanned("h[D] = w", "h = h - c * h + x", "h * g"),
    "before": scanned("h[D] = w", "old = h", "h = -h / 2 + x", "old + h"),
    "choice": scanned("h[D] = 1", "h = where(c > 0, g * h, x)", "h"),
    "nothing_new": scanned("h[D] = w", "h = h", "h + x"),
    "twice": scanned("h[D] = 0", "h = (h + x) * g + (h - x) / (1 + c^2)", "h"),
    "chain": scanned(
        "a[D] = 0, b[D] = w, d[D] = 1",
        "a = c * a + x", "b = g * b + tanh(a)", "d = d * sin(a) - b", "a + b * d",
    ),
    "feeds_before": scanned("a[D] = w, b[D] = 0", "b = g * b + a^2", "a = c * a + x", "b"),
    "start_in_product": scanned(
        "S[D, E] = w0", "before = q @ S", "S = S + k * v", "before + q @ S",
        inputs="q[N, D], k[N, D], v[N, E], w0[D, E]", result="[N, E]",
    ),
    "signed_gates_of_what_is_read": scanned("h[D] = w", "h = sin(g) * h - x * sum[D](x * h) / 4 + x", "h"),
    "signed_gates_of_features": scanned(
        "S[D, E] = w0", "before = q @ S", "S = sin(g) * S - k / 4 * (k @ S - v) + g * v", "before + q @ S",
        inputs="q[N, D], k[N, D], v[N, E], w0[D, E], g[N, D]", result="[N, E]",
    ),
    "signed_gates_of_keys": scanned(
        "S[D, E] = w0", "S = sin(g) * S + k * v", "q @ S", inputs="q[N, D], k[N, D], v[N, E], w0[D, E], g[N, D]",
        result="[N, E]",
    ),
    "signed_gates_of_values": scanned(
        "S[D, E] = 0", "S = sin(g) * S + k * v", "q @ S", inputs="q[N, D], k[N, D], v[N, E], g[N, E]", result="[N, E]",
    ),
    "signed_gates_of_positions": scanned(
        "S[D, E] = w0", "S = sin(c) * S - k / 4 * (k @ S - v)", "q @ S",
        inputs="q[N, D], k[N, D], v[N, E], w0[D, E], c[N]", result="[N, E]",
    ),
    "gates_that_may_be_0": scanned(
        "S[D, E] = w0", "S = relu(g) * S - k / 4 * (k @ S - v)", "q @ S",
        inputs="q[N, D], k[N, D], v[N, E], w0[D, E], g[N, D]", result="[N, E]",
    ),
    "gates_that_all_positions_share": scanned(
        "S[D, E] = w0", "S = sigmoid(w) * S - k / 4 * (k @ S - v)", "q @ S",
        inputs="q[N, D], k[N, D], v[N, E], w0[D, E], w[D]", result="[N, E]",
    ),
    "start_by_what_is_whole": scanned(
        "S[D, E] = w0", "before = w1 @ S", "S = S + k * v", "before",
        inputs="k[N, D], v[N, E], w0[D, E], w1[D]", result="[N, E]",
    ),
    "less_what_has_fewer_axes": scanned(
        "S[D, E] = 0", "S = sigmoid(c) * S + k * v", "q @ (S + w) + q @ (1 - S)",
        inputs="q[N, D], k[N, D], v[N, E], c[N], w[D]", result="[N, E]",
    ),
    "from_each_other_and_gated_features": scanned(
        "M[D, E] = 0, S[D, E] = 0, G[D, E] = 0", "old = M", "M = sigmoid(c) * M - S / 4 + k * v", "S = S / 2 + old / 4",
        "G = sigmoid(g) * G + k * v", "q @ (S - w + G) + q @ (S + w * k * v)",
        inputs="q[N, D], k[N, D], v[N, E], g[N, D], c[N], w[D]", result="[N, E]",
    ),
    "matrix": scanned(
        "S[D, E] = 0", "S = c * S + k * v", "q @ S",
        inputs="q[N, D], k[N, D], v[N, E], c[N]", result="[N, E]",
    ),
    "feature_gates": scanned(
        "S[D, E] = 0", "S = a * S + k * v", "max[D](S)",
        inputs="a[N, D], k[N, D], v[N, E]", result="[N, E]",
    ),
    "delta": scanned(
        "S[D, E] = 0", "p = l2_normalize[D](k)", "error = v - p @ S", "S = S + sigmoid(c) * p * error", "q @ S",
        inputs="q[N, D], k[N, D], v[N, E], c[N]", result="[N, E]",
    ),
    "delta_apart": scanned(
        "S[D, E] = S0", "old = S", "p = l2_normalize[D](k)", "b = c^2 * p",
        "S = S - b * (p @ S) + b * v", "q @ (S + old)",
        inputs="q[N, D], k[N, D], v[N, E], c[N], S0[D, E]", result="[N, E]",
    ),
    "gated_delta": scanned(
        "S[E, D] = 0", "p = l2_normalize[D](k)", "kept = sigmoid(c) * S",
        "S = kept + p * (v - sum[D](p * kept)) / 2", "sum[D](q * S)",
        inputs="q[N, D], k[N, D], v[N, E], c[N]", result="[N, E]",
    ),
    "delta_of_heads": scanned(
        "S[E, H, D] = 1", "p = l2_normalize[D](k)",
        "S = exp(-c^2) * S - where(c > 0, p * sum[D](p * S), 0) + q * v", "sum[H](tanh(sum[D](S * q)))",
        inputs="q[N, D], k[H, N, D], v[N, E], c[N, H]", result="[N, E]",
    ),
    "reflections": scanned(
        "h[D] = w", "u = l2_normalize[D](g)", "h = 0.5 * h - u * sum[D](u * h) + x", "h",
    ),
    "rotation": scanned(
        "a[D] = 0, b[D] = w", "old = a", "a = cos(c) * a - sin(c) * b + x", "b = sin(c) * old + cos(c) * b", "a * b",
    ),
    "rotation_by_element": scanned(
        "a[D] = 1, b[D] = 0", "old = a", "a = cos(g) * a - sin(g) * b + x", "b = sin(g) * old + cos(g) * b", "a + b",
    ),
    "fibonacci": scanned("a[D] = 0, b[D] = 1", "old = a", "a = b / 2", "b = old / 2 + b / 2", "a * x"),
    "in_a_ring": scanned(
        "a[D] = 0, b[D] = w, d[D] = 1", "old = a",
        "a = c * b + x", "b = g * d - b / 4", "d = where(c > 0, old, d) / 2", "a + tanh(b) * d",
    ),
    "ring_and_chain": scanned(
        "s[D] = 0, a[D] = 0, t[D] = w, b[D] = w", "s = g * s + x", "old = a",
        "a = s * b / 3 + c", "b = old / 2 - b / 4", "t = c * t + a * b", "t - s",
    ),
    "momentum": scanned(
        "S[D, E] = 0, W[D, E] = W0", "p = l2_normalize[D](k)",
        "S = sigmoid(e) * S - c * p * (p @ W - v)", "W = sigmoid(c) * W + S", "q @ W",
        inputs="q[N, D], k[N, D], v[N, E], c[N], e[N], W0[D, E]", result="[N, E]",
    ),
    "momentum_of_chunks": scanned(
        "W[D, E] = W0, S[D, E] = 1, A[D, E] = W0", "A = where(pos(N) % 3 == 0, W, A)", "p = l2_normalize[D](k)",
        "S = e * S - c * p * (p @ A - v)", "old = W", "W = (1 - c^2) * W + S", "q @ (W + old / 2)",
        inputs="q[N, D], k[N, D], v[N, E], c[N], e[N], W0[D, E]", result="[N, E]",
    ),
    "nesterov": scanned(
        "W[E, H, D] = 1, S[E, H, D] = 0", "p = l2_normalize[D](k)",
        "S = e * S - p * sum[D](p * (W + e * S)) / 2 + q * v", "W = W + S", "sum[H](tanh(sum[D](W * q)))",
        inputs="q[N, D], k[H, N, D], v[N, E], e[N, H]", result="[N, E]",
    ),
    "second_sums": scanned(
        "S[D, E] = 0, Z[D, E] = 0", "old = S", "S = c * S + Z / 4 + k * v", "Z = Z / 2 + old / 4", "q @ (S - 3 * Z)",
        inputs="q[N, D], k[N, D], v[N, E], c[N]", result="[N, E]",
    ),
    "matrix_of_data": scanned(
        "h[D] = w", "h = sum[D](A * h)[F -> D] / 2 + x", "h",
        inputs="x[N, D], A[N, F, D], w[D]",
    ).replace("sequence N", "sequence N\n    where F = D"),
    "matrix_of_parameters": scanned(
        "h[D, E] = 0", "h = c * h + sum[D](A * h)[F -> D] / 2 + x", "tanh(h)",
        inputs="x[N, D], A[E, F, D], c[N]", result="[N, D, E]",
    ).replace("sequence N", "sequence N\n    where F = D"),
    "number": scanned("s[] = 0", "s = sin(c) * s + c", "s * x"),
    "position": scanned("h[D] = 0", "h = h * (pos(N) % 3) + x", "h / (1 + pos(N))"),
}  # fmt: skip


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", LINEAR)
def test_agrees_with_the_steps(name: str, length: int) -> None:
    assert form_of(LINEAR[name]).exists
    agree(LINEAR[name], {"N": length, "D": 3, "E": 2, "H": 2, "F": 3})


@pytest.mark.parametrize("name", LINEAR)
def test_equal_sizes_and_batches(name: str) -> None:
    agree(LINEAR[name], {"N": 4, "D": 4, "E": 4, "H": 4, "F": 4}, (4,))
    agree(LINEAR[name], {"N": 3, "D": 1, "E": 1, "H": 1, "F": 1}, ())


@pytest.mark.parametrize("name", LINEAR)
def test_pieces_of_any_length(name: str) -> None:
    text, sizes = LINEAR[name], {"N": 40, "D": 2, "E": 3, "H": 2, "F": 2}
    inputs = [each.detach() for each in draw(text, sizes)]
    module: Any = built(text, "associative")
    expected = built(text, "dense")(*inputs)
    state, parts = module.init_state(), []
    formula = checked(text).formula
    assert formula is not None
    for start, end in ((0, 1), (1, 2), (2, 20), (20, 21), (21, 40)):
        along = [(node.axes, value) for node, value in zip(formula.inputs, inputs, strict=True)]
        pieces = (x.narrow(1 + axes.index("N"), start, end - start) if "N" in axes else x for axes, x in along)
        out, state = module.step(state, *pieces)
        parts.append(out)
    torch.testing.assert_close(torch.cat(parts, 1), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("lines", "reason", "place"),
    [
        (("h[D] = 0", "h = tanh(g * h + x)", "h"), "`tanh` is not linear in the state `h`", "tanh(g * h + x)"),
        (("h[D] = 0", "h = h * h + x", "h"), "a product is not linear in the state `h`", "h * h"),
        (("h[D] = 0", "h = h^2 + x", "h"), "a power is not linear in the state `h`", "h^2"),
        (("h[D] = 0", "h = x / (1 + h)", "h"), "a quotient is not linear in the state `h`", "x / (1 + h)"),
        (("h[D] = 0", "h = where(h > 0, h, x)", "h"), "`>` is not linear in the state `h`", "h > 0"),
        (("h[D] = 0", "h = max(h, x)", "h"), "`max` is not linear in the state `h`", "max(h, x)"),
        (("h[D] = 0", "h = stop_gradient(h) + x", "h"), "`stop_gradient` is not linear in the state `h`",
         "stop_gradient(h)"),
        (("h[D] = 0", "h = h - mean[D](h) + x", "h"),
         "`mean` mixes elements of the state `h`: steps compose by products of matrices of D by D", "mean[D](h)"),
        (("h[D] = 0", "h = shift[D](h) + x", "h"),
         "`shift` mixes elements of the state `h`: steps compose by products of matrices of D by D", "shift[D](h)"),
        (("a[D] = 0, b[] = 0", "old = a", "a = g * b + x", "b = b / 2 + sum[D](old * g)", "a"),
         "`a`, `b` are updated from each other, and have other axes", None),
        (("a[D] = 0, b[D] = 0", "old = a", "a = g * b + x", "b = old * b", "a"),
         "a product is not linear in the states", "old * b"),
        (("a[D] = 0, b[D] = 0", "old = a", "a = g * b + x", "b = where(old > 0, b, x)", "a"),
         "`>` is not linear in the states", "old > 0"),
        (("a[D] = 0, b[D] = 0", "old = a", "a = g * b + x", "b = sigmoid(old) * b", "a"),
         "`sigmoid` is not linear in the states", "sigmoid(old)"),
        (("a[D] = 0, b[D] = 0", "old = a", "a = a + g * sum[D](g * b)", "b = old + x * sum[D](g * old)", "a"),
         "the states `a`, `b` are read along several directions", None),
        (("a[D] = 0, b[D] = 0", "old = g * sum[D](x * (a + b))", "a = b + old", "b = a + x * old", "a"),
         "`+` mixes elements of the states `a`, `b`: steps compose by products of matrices of 2*D by 2*D", None),
        (("a[D] = 0, b[D] = 0", "p = sum[D](x * b)", "b = b - mean[D](a) + x", "a = a + x * p", "a"),
         "`mean` mixes elements of the states `a`, `b`: steps compose by products of matrices of 2*D by 2*D",
         "mean[D](a)"),
        (("a[D] = 0, b[D] = 0", "old = a", "a = tanh(b) + x", "b = old", "a"),
         "`tanh` is not linear in the states", "tanh(b)"),
        (("h[D] = 0", "h = h - g * sum[D](g * h) - x * sum[D](x * h)", "h"),
         "`-` puts two readings of the state `h` together, sums over `D`: what a step adds may be made of one, "
         "along one direction", None),
        (("a[D] = 0, b[D] = 0", "old = a", "a = sin(g) * b - x * sum[D](x * a)", "b = g * old", "a"),
         "`-` mixes elements of the states `a`, `b`: steps compose by products of matrices of 2*D by 2*D", None),
        (("a[D] = 0, n[] int = 0", "n = n + 1", "a = a + x * n", "a"), "the state `n` is int", None),
    ],
)  # fmt: skip
def test_near_misses_decline_with_the_place(lines: tuple[str, ...], reason: str, place: str | None) -> None:
    text = scanned(*lines)
    form = form_of(text)
    assert (form.exists, form.text) == (False, reason)
    if place is not None:
        assert form.span is not None
        assert text[form.span.start : form.span.end] == place
    with pytest.raises(attngraph.CompileError, match="no associative form"):
        attngraph.compile(text, form="associative")
    module = attngraph.compile(text).double()  # as steps
    assert "for " in module.source


def test_no_recurrence_no_form() -> None:
    text = "attention f(x[N, D]) -> [N, D]:\n    return cumsum[N](x)\n"
    with pytest.raises(attngraph.CompileError, match="there is no `scan` along the sequence"):
        attngraph.compile(text, form="associative")


# -- which form is taken ------------------------------------------------------------------------------------------


def test_coefficients_that_may_overflow_stay_steps() -> None:
    """Products of coefficients above 1 overflow where a state that is 0 stays 0."""
    text = scanned("h[D] = 0", "h = g * h + x", "h")
    form = form_of(text)
    assert form.exists
    assert form.text.startswith("on request, in time 6*D*N")
    assert "the coefficient of the state `h` is not known to lie in -1 .. 1" in form.text
    large = [torch.full((1000, 1), 1e10, dtype=torch.float64), torch.zeros(1000, 1, dtype=torch.float64)]
    g, x = large
    rest = [torch.zeros(1000, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)]
    assert not attngraph.compile(text).double()(x, g, *rest).isnan().any()


@pytest.mark.parametrize("gate", ["tanh(g)", "sigmoid(g)", "where(c > 0, 1, 0)", "cos(g)", "exp(-abs(g))", "0.9"])
def test_bounded_coefficients_are_taken_at_once(gate: str) -> None:
    assert form_of(scanned("h[D] = 0", f"h = {gate} * h + x", "h")).text == "as compiled, by associative scan"


def test_a_large_state_that_is_stored_stays_steps() -> None:
    text = scanned(
        "S[D, E] = 0", "S = sin(c) * S + k * v", "max[D](S)",
        inputs="k[N, D], v[N, E], c[N]", result="[N, E]",
    )  # fmt: skip
    form = form_of(text)
    assert form.exists
    assert form.text.endswith("not taken: at the sizes that models have, steps are less work")


def test_forms_force_each() -> None:
    text = scanned("h[D] = 0", "h = tanh(g) * h + x", "h")
    assert "linear_recurrence" in attngraph.compile(text).source
    assert "linear_recurrence" not in attngraph.compile(text, form="recurrent").source
    other = scanned("h[D] = 0", "h = g * h + x", "h")
    assert "linear_recurrence" not in attngraph.compile(other).source
    assert "linear_recurrence" in attngraph.compile(other, form="associative").source


def shape(node: Node) -> tuple[object, ...]:
    """A plan without the names of its axes and the order of its nodes."""
    attributes = (getattr(node.op, "kernel", None), getattr(node.op, "name", None))
    return (type(node.op).__name__, attributes, len(node.axes), *map(shape, node.inputs))


@pytest.mark.parametrize(
    ("update", "decay"),
    [
        ("sigmoid(c) * S", "exp(level - level[N -> M])"),
        ("0.9 * S", "0.9^(pos(N) - pos(M))"),
    ],
)
def test_a_scan_and_a_masked_sum_are_one_plan(update: str, decay: str) -> None:
    """The recurrence and the quadratic text of gated linear attention and retention."""
    inputs = "q[N, D], k[N, D], v[N, E], c[N]"
    steps = scanned("S[D, E] = 0", f"S = {update} + k * v", "q @ S", inputs=inputs, result="[N, E]")
    sums = (
        f"attention f({inputs}) -> [N, E]:\n    where M = N\n    level = cumsum[N](logsigmoid(c))\n"
        f"    decay = where(pos(N) >= pos(M), {decay}, 0)\n"
        "    return ((q @ k[N -> M]^T) * decay) @ v[N -> M]\n"
    )
    plans = []
    for text in (steps, sums):
        report = checked(text)
        assert report.plan is not None
        assert report.compiled is not None
        plans.append(([shape(node) for node in report.plan.outputs], str(report.compiled.time), report.compiled.memory))
    assert plans[0] == plans[1]


def test_coefficients_that_vanish_and_change_sign() -> None:
    """No logarithm and no division: a gate of 0 is exact, and so is what comes after it."""
    text = scanned("h[D] = w", "h = g * h + x", "h")
    x, g, c, w = (each.detach() for each in draw(text, {"N": 50, "D": 2}))
    g[:, ::7] = 0
    x[:, ::5] = 0
    expected = attngraph.compile(text, form="dense").double()(x, g, c, w)
    torch.testing.assert_close(attngraph.compile(text, form="associative").double()(x, g, c, w), expected)


def test_a_saturated_gate_is_exact_in_single_precision() -> None:
    """The logarithm of a gate that is 0 in single precision is taken of the gate's argument."""
    text = scanned(
        "S[D, E] = 0", "S = sigmoid(c) * S + k * v", "q @ S",
        inputs="q[N, D], k[N, D], v[N, E], c[N]", result="[N, E]",
    )  # fmt: skip
    q, k, v, c = (each.detach().float() for each in draw(text, {"N": 90, "D": 3, "E": 2}))
    c[:, 30] = -120
    module = attngraph.compile(text)
    assert "gated_scan" in module.source
    expected = attngraph.compile(text, form="dense")(q, k, v, c)
    torch.testing.assert_close(module(q, k, v, c), expected, rtol=1e-4, atol=1e-5)


def test_the_last_state_has_the_digits_of_its_own_gates() -> None:
    """Behind gates of exp(-40) for a thousand positions, weak ones; and a gate of 0 forgets what lies before it."""
    text = (
        "attention f(k[N, D], v[N, E], c[N]) -> [D, E]:\n    sequence N\n    scan N:\n"
        "        state S[D, E] = 1\n        S = sigmoid(c) * S + k * v\n    return S\n"
    )
    k, v, c = (each.detach() for each in draw(text, {"N": 1100, "D": 3, "E": 2}))
    c = c + torch.where(torch.arange(1100) < 1000, -40.0, 4.0)
    module = attngraph.compile(text, form="associative")
    assert "for " not in module.source.split("def forward")[1].split("def ")[0]
    for switched in (c, torch.where(torch.arange(1100) == 1050, -1e4, c)):
        expected = attngraph.compile(text, form="dense").double()(k, v, switched)
        found = module.float()(*(x.float() for x in (k, v, switched))).double()
        torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5 * expected.abs().max().item())


@pytest.mark.parametrize(
    "lines",
    [
        ("S = sigmoid(a) * S + (1 - sigmoid(a)) * v", "q @ S"),
        ("S = sigmoid(a) * S + v", "q @ S"),
        ("g = sigmoid(k) + (1 - sigmoid(k)) * sigmoid(a)", "S = g * S + (1 - g) * v", "q @ S"),
        ("S = sigmoid(a)^(1 / 16) * S + k * v", "q @ S"),
        ("old = S", "S = exp(-exp(a)) * S + k * v", "q @ (old + w * k * v)"),
        ("old = S", "S = exp(-exp(a)) * S + k * v", "q @ (w * k * v + S + (old + k * v))"),
        ("old = S", "S = sigmoid(a) * S + k * v", "q @ (w * (old - k * v) + S / 2)"),
    ],
)
def test_gates_of_features_go_chunk_by_chunk(lines: tuple[str, ...]) -> None:
    """By themselves, and the matrix is stored at no position, also where a step reads it and something else."""
    inputs = "q[N, D], k[N, D], v[N, E], a[N, D], w[D]"
    text = scanned("S[D, E] = 0", *lines, inputs=inputs, result="[N, E]")
    report = checked(text)
    assert report.plan is not None
    assert not any({"N", "D", "E"} <= {*node.axes} for node in report.plan)
    assert "feature-gated scan" in {step.rule.split(", ")[-1] for step in report.steps}
    agree(text, {"N": 130, "D": 3, "E": 2})


@pytest.mark.parametrize("update", ["S", "sigmoid(c) * S"])
def test_the_delta_rule_goes_chunk_by_chunk(update: str) -> None:
    """The matrix is stored at no position."""
    text = scanned(
        "S[D, E] = 0", f"kept = {update}", "S = kept + c * k * (v - k @ kept)", "q @ S",
        inputs="q[N, D], k[N, D], v[N, E], c[N]", result="[N, E]",
    )  # fmt: skip
    report = checked(text)
    assert form_of(text).text == "as compiled, by causal feedback and causal scan"
    assert report.plan is not None
    assert not any({"N", "D", "E"} <= {*node.axes} for node in report.plan)


GROUPED = """
attention f(x[H, N, P], b[G, N, S], c[G, N, S], step[H, N]) -> [H, N, P]:
    where H = G * R
    gate = split[H -> G, R](exp(-softplus(step)))
    u = split[H -> G, R](x)
    scan N:
        state h[G, R, S, P] = 0
        h = gate * h + b * u
        yield y = c @ h
    return merge[G, R -> H](y)
"""


def test_gates_of_grouped_heads_go_chunk_by_chunk() -> None:
    """The logarithm of a gate is found through the splitting of its heads, as of Mamba-2."""
    assert form_of(GROUPED).text == "as compiled, by causal scan"
    plan = checked(GROUPED).plan
    assert plan is not None
    assert not any({"N", "S", "P"} <= {*node.axes} for node in plan)
    for length in LENGTHS:
        agree(GROUPED, {"H": 6, "G": 2, "N": length, "P": 3, "S": 4})


# -- random recurrences ---------------------------------------------------------------------------------------------

COEFFICIENTS = ("g", "c", "0", "1", "-1", "w", "tanh(g)", "where(c > 0, 0, g)", "(pos(N) % 2)", "sigmoid(c)")
OFFSETS = ("x", "c * w", "0", "1", "pos(N)", "x * g - w", "max(x, g)")


@st.composite
def recurrence(draw: st.DrawFn) -> tuple[str, bool]:
    """A text with several states, each of which may read those before it in any way, and those after it linearly;
    whether it is linear."""
    count = draw(st.integers(1, 3))
    names, lines, linear = ["a", "b", "d"][:count], [f"old_{name} = {name}" for name in "abd"[:count]], True
    exchanged = draw(st.booleans())
    for index, name in enumerate(names):
        terms = [f"{draw(st.sampled_from(COEFFICIENTS))} * {name}", draw(st.sampled_from(OFFSETS))]
        others = [other for other in names if other != name]
        if exchanged and others:
            other = draw(st.sampled_from((f"old_{draw(st.sampled_from(others))}", draw(st.sampled_from(others)))))
            terms.append(f"{draw(st.sampled_from(COEFFICIENTS))} * {other} / 2")
        elif names[:index] and draw(st.booleans()):
            other = draw(st.sampled_from(names[:index]))
            terms.append(draw(st.sampled_from((f"tanh({other})", f"g * {other}", f"{other} * {other}"))))
        if draw(st.integers(0, 9)) == 0:
            terms.append(draw(st.sampled_from((f"tanh({name})", f"{name} * {name}", f"max[D]({name})"))))
            linear = False
        lines.append(f"{name} = {draw(st.sampled_from((' + ', ' - '))).join(terms)}")
    starts = ", ".join(f"{name}[D] = {draw(st.sampled_from(('0', '1', 'w')))}" for name in names)
    last = " + ".join(draw(st.sampled_from((name, f"sin({name})", f"{name} * x"))) for name in names)
    return scanned(starts, *lines, last), linear


@given(recurrence(), st.sampled_from((1, 2, 5, 19)), st.integers(0, 3))
@settings(max_examples=20)
def test_random_recurrences(made: tuple[str, bool], length: int, seed: int) -> None:
    text, linear = made
    report = checked(text)
    assert report.formula is not None
    scans = [node for node in deep(topological(report.formula.graph.outputs)) if isinstance(node.op, Scan)]
    assert len(scans) <= 1  # none where nothing of it is read
    for node in scans:
        assert isinstance(node.op, Scan)
        formula = report.formula
        found = updates(node.op, formula.builder, formula.constants, names_of(formula).fresh)
        assert isinstance(found, Declined) is not linear
    if linear and scans:
        agree(text, {"N": length, "D": 2}, seed=seed)


@pytest.mark.parametrize(
    ("file", "name"),
    [("gated_delta_rule", "gated_delta_rule"), ("gated_delta_rule", "kimi_delta_attention"), ("rwkv7", "rwkv7")],
)
def test_published_delta_rules_take_no_steps(file: str, name: str) -> None:
    """Steps read the whole state several times each, which is what they cost beside products of matrices."""
    [example] = [path for path in examples.FILES if path.stem == file]
    report = attngraph.load(example, name).report
    assert report.plan is not None
    assert not any(isinstance(node.op, Scan) for node in report.plan.nodes())
