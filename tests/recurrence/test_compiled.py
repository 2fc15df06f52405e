"""Steps under torch.compile: the graph is captured whole where no count of positions is read."""

from __future__ import annotations

import pytest
import torch

import attngraph

from .harness import found, same
from .test_blocks import FORMULAS as BLOCKS
from .test_constants import KEPT
from .test_formulas import FORMULAS, draw, typed

#: name: text, and whether one graph holds the whole step. A count of positions so far is read as a number.
STEPS = {
    "causal scan": (FORMULAS["causal scan"][0], True),
    "a rate per head": (KEPT["a rate per head"][0], True),
    "key-value cache": (FORMULAS["key-value cache"][0], True),
    "own block and summaries": (BLOCKS["own block and summaries"][0], False),
}


@pytest.mark.parametrize(("text", "whole_graph"), STEPS.values(), ids=STEPS)
def test_compiled_steps(text: str, whole_graph: bool) -> None:
    formula, plan = typed(text)
    pieces = found(formula, plan)
    module = attngraph.compile(text).double()
    with torch.no_grad():
        inputs = draw(formula, pieces, 4, {})
        whole = module(*inputs)
        torch.compiler.reset()
        module.step = torch.compile(module.step, backend="eager", fullgraph=whole_graph)  # type: ignore[assignment, arg-type]
        same(module, formula, pieces, inputs, whole, (2, 1, 1))
