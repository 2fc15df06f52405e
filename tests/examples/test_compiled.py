"""Every example with a recurrence under torch.compile: one graph, with the values and gradients of eager execution."""

from __future__ import annotations

import pytest
import torch

from attngraph.compiler.scan import Scan
from tests.facts.probes import NAMES, call, typed

RECURRENCES = [name for name in NAMES if any(isinstance(node.op, Scan) for node in typed(name).graph)]


@pytest.mark.slow
@pytest.mark.parametrize("name", RECURRENCES)
def test_torch_compile_takes_a_recurrence(name: str) -> None:
    given = call(name)
    given.module.zero_grad()
    inputs = [x.detach().requires_grad_(x.is_floating_point()) for x in given.inputs]
    torch.compiler.reset()
    compiled = torch.compile(given.module, fullgraph=True, dynamic=True, backend="aot_eager")
    wanted = [x for x in (*inputs, *given.module.parameters()) if x.requires_grad]
    values = compiled(*inputs), given.module(*inputs)
    torch.testing.assert_close(*values, rtol=1e-9, atol=1e-11)
    ours, theirs = (torch.autograd.grad(value.sum(), wanted, materialize_grads=True) for value in values)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)
