"""Every rule computes the same on both sides, and declines on its near miss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from attngraph.compiler.graph import Builder, Node, topological
from attngraph.compiler.ops.leaves import Input
from attngraph.compiler.ops.pairs import Maximum
from attngraph.compiler.rewrite import rewrite
from attngraph.compiler.rules import RULES
from attngraph.compiler.rules.pattern import expressions, pattern
from attngraph.compiler.rules.rule import Knowledge, Rule
from attngraph.compiler.simplify import implied
from attngraph.compiler.sizes import NO_FACTS
from attngraph.compiler.types import Kind

from ..reference import evaluate

#: what normalisations with an eps inside lose when a scale is dropped
EPS_COUNTS = 1e-3
SIZES = ({"N": 3, "M": 4, "K": 2, "L": 5}, {"N": 1, "M": 1, "K": 1, "L": 1}, {"N": 4, "M": 4, "K": 4, "L": 4})


def known() -> Knowledge:
    return Knowledge(frozenset(), lambda narrow, wide: implied(narrow, wide, NO_FACTS))


def rebuilt(node: Node) -> tuple[Builder, Node]:
    """The value in a builder of its own."""
    builder = Builder()
    made: dict[Node, Node] = {}
    for one in topological([node]):
        made[one] = builder.make(one.op, *(made[operand] for operand in one.inputs))
    return builder, made[node]


def alone(rule: Rule) -> Rule:
    """The rule, applied wherever it can be."""
    return replace(rule, opens=None)


def sizes_for(rule: Rule, base: Mapping[str, int]) -> dict[str, int]:
    """Sizes that the operations of a rule are legal for."""
    sizes = {**base, "Y": base["K"], "X": base["M"]}
    if "split" in rule.before or "merge" in rule.before:
        sizes["N"] = sizes["Y"] * sizes["X"]
    if "N -> M" in rule.before or "M -> N" in rule.before or "M -> L" in rule.before:
        sizes["M"] = sizes["L"] = sizes["N"]
    if "rfft" in rule.before:
        sizes["K"] = sizes["N"] // 2 + 1
    elif "fft" in rule.before:
        sizes["K"] = sizes["N"]
    return sizes


def draw(rule: Rule, node: Node, sizes: Mapping[str, int], generator: np.random.Generator) -> Any:
    """Values of a variable: positive ones for a rule with a guard, which says where others differ."""
    shape = tuple(sizes[axis] for axis in node.axes)
    values = generator.normal(size=shape)
    match node.type.kind:
        case Kind.BOOL:
            return values > 0
        case Kind.INT:
            return np.round(values * 3).astype(np.int64)
        case Kind.COMPLEX:
            return values + 1j * generator.normal(size=shape)
    positive = rule.guard is not None or rule.name == "power of one half"
    return np.abs(values) + 0.1 if positive else values


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_both_sides_compute_the_same(rule: Rule) -> None:
    found = expressions(rule.header, instance=rule.instance or rule.before)
    builder, node = rebuilt(found["instance"])
    sides = pattern(rule)
    if set(sides.after.axes) != set(sides.before.axes) or not sides.after.type.batched:
        # a result with fewer axes needs something beside it that has them
        node = builder.make(Maximum(), builder.make(Input("beside", node.type.kind, node.axes)), node)
    out = rewrite([node], builder, known(), rules=[alone(rule)], guards=True)
    assert rule.name in {step.rule for step in out.trace}
    [after] = out.outputs
    assert (after.type.kind, after.axes) == (node.type.kind, node.axes)
    generator = np.random.default_rng(7)
    inputs = {n.op.name: n for n in topological([node]) if isinstance(n.op, Input)}
    for base in SIZES:
        sizes = sizes_for(rule, base)
        values = {name: draw(rule, one, sizes, generator) for name, one in inputs.items()}
        expected, actual = evaluate(node, values, sizes), evaluate(after, values, sizes)
        assert np.isfinite(expected).all() or (expected.size == 1 and "norm" in rule.name)
        tolerance = EPS_COUNTS if rule.guard == "by what eps adds" else 1e-11
        np.testing.assert_allclose(np.broadcast_to(actual, expected.shape), expected, rtol=tolerance, atol=tolerance)


#: zeros, numbers that vanish beside others, and numbers whose exponentials leave the range of the format
SPECIAL = np.array([0.0, -0.0, 5e-324, -1e-310, 1e-20, -1e-13, 1.0, -1.0, 0.5, 50.0, -50.0, 1e4, 900.0, -800.0])


@pytest.mark.parametrize("rule", [rule for rule in RULES if not rule.guard], ids=lambda rule: rule.name)
def test_a_rule_without_guard_keeps_finite_values_of_special_inputs(rule: Rule) -> None:
    """Up to rounding; and no value becomes not a number."""
    found = expressions(rule.header, instance=rule.instance or rule.before)
    builder, node = rebuilt(found["instance"])
    least = Input("least", node.type.kind, node.axes)
    node = builder.make(Maximum(), builder.make(least), node) if node.type.kind is Kind.REAL else node
    out = rewrite([node], builder, known(), rules=[alone(rule)])
    assert out.trace or node.type.kind is not Kind.REAL
    inputs = {n.op.name: n for n in topological([node]) if isinstance(n.op, Input)}
    # the reference takes logarithms of sums of exponentials as they stand
    special = SPECIAL if "log" not in rule.name else SPECIAL[:-3]
    for seed in range(24):
        generator = np.random.default_rng(seed)
        sizes = sizes_for(rule, SIZES[seed % len(SIZES)])
        values = {name: draw(rule, one, sizes, generator) for name, one in inputs.items() if name != "least"}
        for name, value in values.items():
            if value.dtype == np.float64:
                chosen = generator.random(value.shape) < (0.6 if seed % 4 else 1)
                values[name] = np.where(chosen, generator.choice(special, size=value.shape), value)
        largest = max([1.0, *(np.abs(value).max() for value in values.values() if value.dtype == np.float64)])
        values["least"] = np.full([sizes[axis] for axis in node.axes], -np.inf)
        with np.errstate(all="ignore"):
            sides = evaluate(node, values, sizes), evaluate(out.outputs[0], values, sizes)
        expected, actual = np.broadcast_arrays(*sides)
        finite = np.isfinite(expected)
        np.testing.assert_allclose(actual[finite], expected[finite], rtol=1e-9, atol=1e-12 * largest)
        assert not (np.isnan(actual) & ~np.isnan(expected)).any()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_near_miss_stays(rule: Rule) -> None:
    found = expressions(rule.header, near_miss=rule.near_miss)
    builder, node = rebuilt(found["near_miss"])
    out = rewrite([node], builder, known(), rules=[alone(rule)], guards=True)
    assert not out.trace
    assert out.outputs == (node,)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.guard], ids=lambda rule: rule.name)
def test_guarded_rule_needs_a_request(rule: Rule) -> None:
    found = expressions(rule.header, instance=rule.instance or rule.before)
    builder, node = rebuilt(found["instance"])
    assert rewrite([node], builder, known(), rules=[alone(rule)]).outputs == (node,)


def test_names_are_unique_and_reasons_are_given() -> None:
    names = [rule.name for rule in RULES]
    assert len(names) == len(set(names))
    assert all(rule.why for rule in RULES)
    assert len(RULES) >= 150


def test_every_rule_is_on_its_page() -> None:
    from docs import hooks

    listed = [rule for rules in hooks.RULE_FAMILIES.values() for rule in rules]
    assert listed == list(RULES)
    page = hooks.rules_page()
    assert all(hooks.rule_row(rule) in page for rule in RULES)


def test_conditions_explain_themselves() -> None:
    rule = next(rule for rule in RULES if rule.name == "relu of a positive value")
    [x] = [n for n in topological([pattern(rule).before]) if isinstance(n.op, Input)]
    from attngraph.compiler.rules.rule import Match

    assert rule.when is not None
    assert rule.when(Match({"x": x}), known()) == "`x` may be negative"
