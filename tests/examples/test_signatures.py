"""Every formula is called as the catalogue says: names, axes, kinds, order, defaults, and what is a reconstruction.

The catalogue is `signatures.txt`: the head of a formula and its declarations, in the language itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from attngraph.grammar import ast
from attngraph.grammar.parser import parse
from attngraph.grammar.printer import format_expression
from attngraph.grammar.source import Source
from benchmarks import examples

Tensor = tuple[str, tuple[str, ...], str, str]
"""Name, axes, kind, initial value."""


@dataclass(frozen=True)
class Signature:
    inputs: tuple[Tensor, ...]
    results: tuple[tuple[tuple[str, ...], str], ...]
    parameters: frozenset[Tensor]
    buffers: frozenset[Tensor]
    constants: tuple[tuple[str, float | str], ...]
    facts: frozenset[str]
    sequence: tuple[str, ...]


def _tensor(tensor: ast.Tensor) -> Tensor:
    initial = "" if tensor.initial is None else format_expression(tensor.initial)
    return tensor.name, tuple(axis.name for axis in tensor.axes), tensor.kind, initial


def _number(expression: ast.Expression) -> float | str:
    text = format_expression(expression)
    try:
        return float(text)
    except ValueError:
        return text


def _fact(fact: ast.Fact) -> str:
    return f"{format_expression(fact.left)} {fact.relation} {format_expression(fact.right)}"


def signature(formula: ast.Formula) -> Signature:
    lines = formula.statements
    constants = [bound for line in lines if isinstance(line, ast.Const) for bound in line.bindings]
    return Signature(
        inputs=tuple(map(_tensor, formula.inputs)),
        results=tuple((tuple(axis.name for axis in result.axes), result.kind) for result in formula.results),
        parameters=frozenset(_tensor(t) for line in lines if isinstance(line, ast.Param) for t in line.tensors),
        buffers=frozenset(_tensor(t) for line in lines if isinstance(line, ast.Buffer) for t in line.tensors),
        constants=tuple((bound.name, _number(bound.value)) for bound in constants),
        facts=frozenset(_fact(fact) for line in lines if isinstance(line, ast.Where) for fact in line.facts),
        sequence=tuple(axis.name for line in lines if isinstance(line, ast.Sequence) for axis in line.axes),
    )


@cache
def _formula(text: str, name: str) -> ast.Formula:
    tree, problems = parse(Source(name, text))
    assert not problems, (name, [problem.facts for problem in problems])
    return next(formula for formula in tree.formulas if formula.name == name)


def _catalogue() -> Iterator[tuple[str, str, bool]]:
    """Name, text and whether it is a reconstruction."""
    text = Path(__file__).with_name("signatures.txt").read_text(encoding="utf-8")
    for entry in text.split("\n\n"):
        head, *lines = entry.strip().splitlines()
        if head.startswith("#"):
            continue
        declared = [line for line in lines if line.strip() != "reconstruction"]
        whole = "\n".join((f"attention {head}:", *declared, "    return 0", ""))
        yield head.partition("(")[0], whole, len(declared) < len(lines)


CATALOGUE = tuple(_catalogue())


@pytest.mark.parametrize(("name", "text"), [entry[:2] for entry in CATALOGUE], ids=[entry[0] for entry in CATALOGUE])
def test_signature_is_that_of_the_catalogue(name: str, text: str) -> None:
    said, found = signature(_formula(text, name)), signature(_formula(examples.find(name).read_text("utf-8"), name))
    assert found.inputs == said.inputs
    assert found.results == said.results
    assert found.parameters == said.parameters
    assert found.buffers == said.buffers
    assert found.constants == said.constants
    assert found.facts >= said.facts, "more may be stated, nothing less"
    if said.sequence:
        assert found.sequence == said.sequence


@pytest.mark.parametrize("name", [name for name, _, reconstruction in CATALOGUE if reconstruction])
def test_reconstructions_say_so(name: str) -> None:
    docstring = _formula(examples.find(name).read_text("utf-8"), name).docstring or ""
    assert re.search(r"\breconstruction\b", docstring)


def test_the_catalogue_is_whole() -> None:
    names = [name for name, _, _ in CATALOGUE]
    assert len(names) == len(set(names)) >= 150
