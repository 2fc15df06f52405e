"""The order of a mechanism does not depend on how it is spelled, nor on whether heads are named or batch."""

from __future__ import annotations

import re

import pytest

import attngraph

from .spellings import MECHANISMS, Mechanism

SPELLED = [(m, lines, heads) for m in MECHANISMS for lines in m.spellings for heads in (False, True)[: 1 + m.heads]]


def _text(mechanism: Mechanism, lines: tuple[str, ...], heads: bool) -> str:
    inputs, result = mechanism.inputs, mechanism.result
    if heads:
        inputs, result = re.sub(r"\[", "[H, ", inputs), result.replace("[", "[H, ")
    claim = "require linear" if "log" not in mechanism.order else f"require time {_bound(mechanism)}"
    claim = "require causal" if "^2" in mechanism.order else claim
    body = (*mechanism.lines, claim, *lines[:-1], f"return {lines[-1]}")
    return f"attention spelled({inputs}) -> {result}:\n" + "".join(f"    {line}\n" for line in body)


def _bound(mechanism: Mechanism) -> str:
    sizes = {axis for axis in re.findall(r"\b[A-Z]\b", mechanism.inputs + mechanism.result) if axis not in "NM"}
    return f"O(N * log(N) * H * {' * '.join(sorted(sizes - {'H'}))})"


@pytest.mark.parametrize(
    ("mechanism", "lines", "heads"),
    SPELLED,
    ids=[f"{m.name}: {lines[-1]} {'with heads' if heads else ''}" for m, lines, heads in SPELLED],
)
def test_every_spelling(mechanism: Mechanism, lines: tuple[str, ...], heads: bool) -> None:
    text = _text(mechanism, lines, heads)
    report = attngraph.check(text if heads or not mechanism.heads else text.replace(" * H", ""))
    assert [d.message for d in report.diagnostics if d.severity.value == "error"] == []
    assert report.order == mechanism.order
    rules = {rule for step in report.steps for rule in step.rule.split(", ")}
    assert mechanism.rule in rules
