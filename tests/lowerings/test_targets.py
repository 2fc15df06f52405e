"""Every plan on every target: TorchScript, and traces that stay valid for any length."""

from __future__ import annotations

import ast
import re

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from attngraph.compiler.emit import emit
from attngraph.compiler.lowerings.fla import OPERATIONS
from attngraph.compiler.lowerings.library import texts, with_callees
from attngraph.compiler.lowerings.rows import groups
from attngraph.compiler.module import compile as build
from attngraph.compiler.targets import TARGETS
from attngraph.compiler.targets.instead import ALL_CHUNKS

from .formulas import CASES, Case
from .harness import all_sizes, close, draw, fixed, pair, parts, same_values_and_gradients

LENGTHS = (70, 131, 64, 3, 300)
#: What loops may count by: powers and coefficients of a polynomial, which the program is written for, and arguments.
FIXED = {"range", "len", "index", "power", "powers", "coefficients", "enumerate", "arguments"}
TRACED = [case for case in CASES if case.ops]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_torchscript(case: Case) -> None:
    sizes = all_sizes(case, 66, 69)
    same_values_and_gradients(pair(case.text, fixed(case, sizes), "torchscript"), draw(case, sizes, (2,)))


@pytest.mark.slow
@pytest.mark.parametrize("case", TRACED, ids=str)
def test_compiled_once_for_every_length(case: Case) -> None:
    """torch.compile without graph breaks, dynamic: one graph, forward and backward, whatever the length."""
    formula, written, plan = parts(case.text)
    known = fixed(case, all_sizes(case, 66))
    eager = build(formula, plan, sizes=known, dtype=torch.float64)
    dense = build(formula, written, sizes=known, dtype=torch.float64)
    dense.load_state_dict(eager.state_dict())
    traced = build(formula, plan, sizes=known, target="inductor", dtype=torch.float64)
    traced.load_state_dict({f"_orig_mod.{name}": value for name, value in eager.state_dict().items()})
    torch.compiler.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(traced.get_submodule("_orig_mod"), fullgraph=True, dynamic=True, backend=counter)
    for length in LENGTHS:
        inputs = draw(case, all_sizes(case, length, length + 3), (2,))
        value, expected = compiled(*inputs), dense(*inputs)
        close(value, expected, 1e-10, f"value at {length}")
        # what only a condition reads has no gradient
        gradients = (
            torch.autograd.grad(out.square().sum(), inputs, materialize_grads=True) for out in (value, expected)
        )
        for ours, theirs in zip(*gradients, strict=True):
            close(ours, theirs, 1e-9, f"gradient at {length}")
    assert counter.frame_count == 1


@pytest.mark.slow
@pytest.mark.parametrize("case", TRACED, ids=str)
def test_exported_for_every_length(case: Case) -> None:
    formula, written, plan = parts(case.text)
    known = fixed(case, all_sizes(case, 66))
    exported = build(formula, plan, sizes=known, target="export", dtype=torch.float64)
    dense = build(formula, written, sizes=known, dtype=torch.float64)
    stored = {name.rpartition(".")[2]: value for name, value in exported.state_dict().items()}
    dense.load_state_dict({name: stored[name] for name in dense.state_dict()})
    for length in LENGTHS:
        inputs = draw(case, all_sizes(case, length, length + 3), (2,))
        close(exported(*inputs), dense(*inputs), 1e-10, f"value at {length}")


@pytest.mark.parametrize("case", TRACED, ids=str)
def test_sources_differ_in_their_kernels_only(case: Case) -> None:
    """What is traced is the plan, not the formula as written; it has no loop over blocks of queries or pieces."""
    formula, _, plan = parts(case.text)
    looped, at_once = (emit(formula, plan, at_once=flag) for flag in (False, True))
    classes = [generated.source[generated.source.index("\nclass ") :] for generated in (looped, at_once)]
    classes[0], _, pieces = classes[0].partition("\n\n    def forward_in_pieces(")
    called = r"\n        if .*is_grad_enabled.*\n            return self.forward_in_pieces.*"
    classes[0] = re.sub(called, "", classes[0])
    classes[0] += "\n" if pieces else ""
    if groups(formula, plan):
        assert ["_by_blocks(" in text or "lagged_attention(" in text for text in classes] == [True, False]
    else:
        assert classes[0] == classes[1]


def test_no_loop_is_traced() -> None:
    """Of the functions that a traced module may carry, none turns as often as the sequence has chunks."""
    assert {name for name, target in TARGETS.items() if not target.files} == {"eager", "fla", "torchscript"}
    by_chunks = {name for name, text in texts().items() if ", chunk" in text or "torch.split(" in text}
    by_chunks -= {*OPERATIONS}  # of the target fla, which traces nothing
    # no target traces `init_state` and `step`, which have functions of their own
    replaced = with_callees(ALL_CHUNKS, texts())  # with what they call, which their stand-ins do not
    assert {name for name in by_chunks if not name.endswith(("_chunks", "_from"))} <= {*replaced}
    assert len(ALL_CHUNKS) >= 7
    for name in ALL_CHUNKS:
        for needed in with_callees([name], texts(at_once=True)):
            for node in ast.walk(ast.parse(texts(at_once=True)[needed])):
                if isinstance(node, ast.For | ast.comprehension):
                    turns = {inner.id for inner in ast.walk(node.iter) if isinstance(inner, ast.Name)}
                    assert turns <= FIXED, needed
