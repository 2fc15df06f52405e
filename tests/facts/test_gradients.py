"""What is said to get no gradient gets none, and what gets none is said or stands in a list."""

from __future__ import annotations

from functools import cache

import pytest
import torch

import attngraph
from attngraph.compiler.facts.gradients import cancelled, unreached
from attngraph.compiler.graph import Node
from attngraph.compiler.simplify import simplify

from .probes import NAMES, call, formula_of, report_of, typed

#: Gradients that are 0 for a reason that is not found: nothing is said of these.
MISSED: dict[str, set[str]] = {}
HEADER = "attention f(x[N, D], y[N, D]) -> [N, D]:\n"


def names(nodes: tuple[Node, ...]) -> set[str]:
    return {getattr(node.op, "name", "") for node in nodes}


@cache
def measured(name: str) -> dict[str, float]:
    """The largest element of the gradient with respect to every real input and parameter, over the largest of all."""
    given = call(name)
    parameters = dict(given.module.named_parameters())
    tensors = {node.op.name: x for node, x in zip(typed(name).inputs, given.inputs, strict=True)} | parameters  # type: ignore[attr-defined]
    tensors = {key: x for key, x in tensors.items() if x.requires_grad}
    largest = dict.fromkeys(tensors, 0.0)
    for size in (1.0, 0.05):  # what is clipped for large values is not for small ones
        result = given.module(*(x * size if x.is_floating_point() else x for x in given.inputs))
        if not tensors or not result.requires_grad:
            continue
        weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        gradients = torch.autograd.grad((result * weights).sum().real, tuple(tensors.values()), allow_unused=True)
        for key, gradient in zip(tensors, gradients, strict=True):
            if gradient is not None:
                largest[key] = max(largest[key], gradient.abs().max().item())
    scale = max([1.0, *largest.values()])
    return {key: value / scale for key, value in largest.items()}


@pytest.mark.parametrize("name", NAMES)
def test_claims_agree_with_autograd(name: str) -> None:
    formula = typed(name)
    none = names(tuple(found.node for found in unreached(formula)))
    away = names(cancelled(formula, simplify(formula).graph))
    found = measured(name)
    assert {key for key in none & found.keys() if found[key] != 0} == set()
    assert {key for key in away & found.keys() if found[key] > 1e-12} == set()
    declared = (*formula.inputs, *(stored.node for stored in formula.parameters))
    unused = names(tuple(node for node in declared if node not in set(formula.graph)))
    silent = {key for key, value in found.items() if value == 0} - none - away - unused
    assert silent == MISSED.get(name, set())


def test_examples_without_gradients() -> None:
    found = {name: names(tuple(f.node for f in unreached(typed(name)))) for name in NAMES}
    assert {name: keys for name, keys in found.items() if keys} == {
        "attnzero_25": {"k"},
        "attnzero_272": {"k"},
        "bvr_select_keys": {"score"},
        "mote_gates": {"tune", "bias"},
        "mixture_of_tunable_experts": {"tune", "bias"},
        "prune_leaf_tokens": {"dependency"},
        "sparsifiner_attention": {"w_cq", "b_cq", "w_ck", "b_ck", "p_down", "p_up"},
        "tcpa_attention_renormalised": {"mask"},
        "tcpa_mask": {"x", "keys_cls", "keys_img"},
    }


@pytest.mark.parametrize(
    ("body", "none"),
    [
        ("x * sign(y)", {"y"}),
        ("x * floor(y)", {"y"}),
        ("where(y > 0, x, 0)", {"y"}),
        ("x * stop_gradient(y)", {"y"}),
        ("take[N](x, argmax[N](sum[D](y))) + 0 * x", {"y"}),
        ("where(top[D](y, count=2), x, 0)", {"y"}),
        ("x + 0 * y", {"y"}),
        ("x + (y - y)", {"y"}),
        ("x + y * (sum[D](x) - sum[D](x))", {"y"}),
        ("x + y^0", {"y"}),
        ("x + relu(-exp(y))", {"y"}),
        ("x + clamp(exp(y), max=-1)", {"y"}),
        ("x + max(sigmoid(y), 2)", {"y"}),
        ("x + sign(exp(y))", {"y"}),
        ("x * sign(y) + x * y", set()),
        ("x * sign(y) + 1e-30 * y", set()),
        ("x + relu(y)", set()),
        ("x + clamp(y, min=0, max=1)", set()),
        ("x + max(y, 2)", set()),
        ("x + (y % 1)", set()),
        ("where(y > 0, x, y)", set()),
        ("x + (y - stop_gradient(y))", set()),
        ("x + y * (sum[D](x) - sum[D](2 * x))", set()),
    ],
)
def test_what_ends_a_gradient(body: str, none: set[str]) -> None:
    assert names(tuple(f.node for f in unreached(formula_of(f"{HEADER}    return {body}\n")))) == none


@pytest.mark.parametrize(
    ("lines", "none"),
    [
        (("s = s + stop_gradient(y)", "x * s"), {"y"}),
        (("s = s + sign(y)", "x * s"), {"y"}),
        (("s = stop_gradient(s) + y", "x * s"), set()),
        (("s = y", "x * s"), set()),
        (("old = s", "s = y", "x * old"), set()),  # of the step before
        (("old = stop_gradient(s)", "s = y", "x * old"), {"y"}),
        (("s = x", "where(y > 0, s, x)"), {"y"}),
        (("s = x + 0 * y", "s"), {"y"}),
        (("s = s * x", "x + s * y"), {"y"}),  # a state that stays 0
        (("s = 0.5 * s + 1", "x + s * y"), set()),
        (("t = s", "s = t + x", "t + where(y > 0, 1, 0)"), {"y"}),
    ],
)
def test_what_ends_a_gradient_in_a_step(lines: tuple[str, ...], none: set[str]) -> None:
    *updates, last = lines
    body = "".join(f"        {line}\n" for line in ("state s[D] = 0", *updates, f"yield r = {last}"))
    formula = formula_of(f"{HEADER}    scan N:\n{body}    return r\n")
    assert names(tuple(f.node for f in unreached(formula))) == none
    module = attngraph.compile(attngraph.parse(formula.source.text)).double()
    given = [torch.randn(3, 2, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    gradients = torch.autograd.grad(module(*given).sum(), given, allow_unused=True, materialize_grads=True)
    found = {node.op.name for node, x in zip(formula.inputs, gradients, strict=True) if not x.any()}  # type: ignore[attr-defined]
    assert found == none


@pytest.mark.parametrize("last", ["yield c = y > 0", "yield c = argmax[D](y)"])
def test_a_scan_that_gives_no_number_last(last: str) -> None:
    """What a scan gives is a bundle, of which the last member is as good as any."""
    text = (
        f"{HEADER}    scan N:\n        state s[D] = 0\n        s = s + x\n        yield r = s * y\n        {last}\n"
        "    return where(c == c, r, 0)\n"
    )
    assert names(tuple(f.node for f in unreached(formula_of(text)))) == set()


def test_the_note_says_where_in_a_step_the_gradient_ends() -> None:
    step = "        state s[D] = 0\n        s = s + sign(exp(y) - 1)\n        yield r = s * x\n"
    report = report_of(f"{HEADER}    scan N:\n{step}    return r\n")
    (found,) = report.diagnostics
    assert (found.code, report.source.slice(found.span)) == ("AG510", "y[N, D]")
    assert [report.source.slice(label.span) for label in found.labels] == ["sign(exp(y) - 1)"]


@pytest.mark.parametrize(
    ("text", "away"),
    [
        ("attention f(s[N, M], b[N]) -> [N, M]:\n    return softmax[M](s + b)\n", {"b"}),
        ("attention f(s[N, M], b[M]) -> [N, M]:\n    return softmax[M](s + b)\n", set()),
        ("attention f(s[N, M], b[N]) -> [N, M]:\n    a = s * exp(b)\n    return a / sum[M](a)\n", {"b"}),
    ],
)
def test_what_cancels(text: str, away: set[str]) -> None:
    formula = formula_of(text)
    assert names(cancelled(formula, simplify(formula).graph)) == away


def test_the_note_says_where_the_gradient_ends() -> None:
    report = report_of(HEADER + "    return x * sign(exp(y) - 1)\n")
    (found,) = report.diagnostics
    assert (found.code, report.source.slice(found.span)) == ("AG510", "y[N, D]")
    assert [report.source.slice(label.span) for label in found.labels] == ["sign(exp(y) - 1)"]


def test_an_input_that_is_only_compared_is_a_mask() -> None:
    assert report_of(HEADER + "    return where(y > 0, x, 0)\n").diagnostics == ()
