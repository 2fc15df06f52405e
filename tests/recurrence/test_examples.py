"""Every causal example goes position by position and in pieces, with the numbers of the whole sequence."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import pytest
import torch

import attngraph
from attngraph.compiler.again import Again, again
from attngraph.compiler.facts.dependence import Dependence
from attngraph.compiler.formula import Formula
from attngraph.compiler.graph import Graph
from attngraph.compiler.module import compile as build
from attngraph.compiler.recurrence import Recurrence, Refusal, recurrence

from ..examples.cases import EQUAL, EXAMPLES, LONG, ONE, PRIMES, Base
from ..examples.test_examples import FORMULAS, _prepare
from .harness import found, length, same, splits

#: Causal in their inputs, but not by a recurrence: of every piece the whole sequence is computed again.
AGAIN = {
    "combiner_logsparse": "the length of `L` depends on that of the sequence",
    "fod_rbf_target": "position n along `N` may depend on later positions",
    "hyper_kernel": "fixes the length",
    "nprf_rpe_attention_causal": "fixes the length",
    "tcpa_mask": "`N` reads the length",
    "unified_token_mixing_conv": "fixes the length",
}
#: Causal by a recurrence of which a value reads how long the whole sequence is.
TOLD = {
    "cosformer_attention_causal": "`N` reads the length",
    "sf_attention": "`N` reads the length",
    "sigmoid_attention_causal": "`M` reads the length",
}


@cache
def parts(name: str) -> tuple[Formula, Graph]:
    report = attngraph.check(attngraph.load(FORMULAS[name][0], name))
    assert report.formula is not None
    assert report.plan is not None
    return report.formula, report.plan


def _is_causal(name: str) -> bool:
    formula, _ = parts(name)
    return bool(formula.sequence) and Dependence(formula).causal() is None


CAUSAL = [name for name in FORMULAS if _is_causal(name)]
STEPPED = [name for name in CAUSAL if name not in AGAIN]
#: Those with something to carry, or to count; the others call forward.
CARRYING = [name for name in STEPPED if found(*parts(name)).graph.outputs != parts(name)[1].outputs]


def test_there_are_many() -> None:
    assert len(STEPPED) >= 45
    assert len(CARRYING) >= 20
    assert AGAIN.keys() | TOLD.keys() <= {*CAUSAL}


@pytest.mark.parametrize("name", CAUSAL)
def test_the_length_is_told_where_a_value_reads_it(name: str) -> None:
    formula, plan = parts(name)
    for graph in (formula.graph, plan):
        pieces = recurrence(formula, graph)
        if name in AGAIN:
            assert isinstance(pieces, Refusal)
            assert AGAIN[name] in pieces.reason
            assert pieces.culprit in formula.origins
            pieces = again(formula, pieces)
            assert isinstance(pieces, Again)
            assert AGAIN[name] in pieces.reason
        else:
            assert isinstance(pieces, Recurrence)
            assert TOLD[name] in (pieces.told or "") if name in TOLD else pieces.told is None


def _bases(name: str) -> list[tuple[Base, Mapping[str, int | float]]]:
    """Sizes 1, primes, equal sizes of two axes, and no dimension of a batch, as far as the example has them."""
    example = EXAMPLES[name]
    bases = [base for base in (ONE, PRIMES, EQUAL, LONG) if base in example.bases] or example.bases[:1]
    return [(base, example.consts[index % len(example.consts)]) for index, base in enumerate(bases)]


@pytest.mark.parametrize("name", STEPPED)
def test_steps_are_the_whole_sequence(name: str) -> None:
    formula, plan = parts(name)
    pieces = found(formula, plan)
    for base, consts in _bases(name):
        call = _prepare(name, base, consts)
        with torch.no_grad():
            whole = call.module(*call.inputs)
            for lengths in splits(length(formula, pieces, call.inputs)):
                same(call.module, formula, pieces, call.inputs, whole, lengths)


@pytest.mark.parametrize("name", CARRYING)
def test_steps_of_the_text_as_written(name: str) -> None:
    """Without any lowering what is needed of earlier positions is remembered."""
    formula, _ = parts(name)
    pieces = found(formula, formula.graph)
    base, consts = _bases(name)[-1]
    call = _prepare(name, base, consts)
    sizes = {axis: size for axis, size in vars(call.module).items() if axis in formula.fixed}
    module = build(formula, formula.graph, sizes=sizes, consts=consts, dtype=torch.float64)
    module.load_state_dict(call.module.state_dict())
    with torch.no_grad():
        whole = call.module(*call.inputs)
        for lengths in splits(length(formula, pieces, call.inputs))[1:]:
            same(module, formula, pieces, call.inputs, whole, lengths)


@pytest.mark.parametrize("name", CARRYING)
def test_steps_of_torchscript(name: str) -> None:
    formula, plan = parts(name)
    pieces = found(formula, plan)
    base, consts = _bases(name)[-1]
    call = _prepare(name, base, consts)
    scripted = torch.jit.script(call.module)
    with torch.no_grad():
        whole = call.module(*call.inputs)
        same(scripted, formula, pieces, call.inputs, whole, splits(length(formula, pieces, call.inputs))[-1])
