"""Every formula of examples/ computes what its reference computes, checks, and says where it comes from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import attngraph
from attngraph.compiler.lowerings.lowering import Lowering
from attngraph.compiler.pipeline import check_source, read
from attngraph.grammar import ast
from attngraph.grammar.parser import parse
from attngraph.grammar.source import Source
from benchmarks import examples

from .cases import EXAMPLES, Base, Example, normal

YEAR = re.compile(r"\b(19|20)\d\d\b")
AUTHORS = re.compile(r"\b[A-Z][\w'-]+(( et al\.)|(, [A-Z][\w'-]+)+)?, [A-Z\w]")


def _read(path: Path) -> ast.File:
    tree, problems = parse(Source(str(path), path.read_text(encoding="utf-8")))
    assert not problems
    return tree


FORMULAS: dict[str, tuple[Path, ast.Formula]] = {
    formula.name: (path, formula) for path in examples.FILES for formula in _read(path).formulas
}
CASES = [
    pytest.param(name, index, id=f"{name}-{index}")
    for name, example in EXAMPLES.items()
    for index in range(max(len(example.bases), len(example.consts)))
]


@dataclass(frozen=True)
class Call:
    """A built module with everything that it and its reference are called with."""

    module: nn.Module
    inputs: tuple[Tensor, ...]
    stored: Mapping[str, Tensor]
    consts: Mapping[str, int | float]

    @property
    def real(self) -> tuple[Tensor, ...]:
        """What has a gradient."""
        return tuple(x for x in (*self.inputs, *self.stored.values()) if x.is_floating_point() and x.requires_grad)


def _draw(example: Example, tensor: ast.Tensor, shape: tuple[int, ...]) -> Tensor:
    if tensor.name in example.draws:
        return example.draws[tensor.name](shape)
    return torch.rand(shape) < 0.7 if tensor.kind == "bool" else normal(shape)


def _declared(formula: ast.Formula) -> list[ast.Tensor]:
    """Parameters and buffers."""
    lines = [s for s in formula.statements if isinstance(s, ast.Param | ast.Buffer)]
    return [tensor for line in lines for tensor in line.tensors]


def _prepare(name: str, base: Base, consts: Mapping[str, int | float]) -> Call:
    example = EXAMPLES[name]
    path, formula = FORMULAS[name]
    stored = _declared(formula)
    axes = {axis.name for tensor in (*formula.inputs, *stored) for axis in tensor.axes}
    sizes = example.sizes(base, axes)
    module = attngraph.compile(path, name=name, sizes=sizes, consts=consts).double()
    tensors = dict([*module.named_parameters(), *module.named_buffers()])
    with torch.no_grad():
        for tensor in stored:
            own = tensors[tensor.name]
            assert own.shape == tuple(sizes[axis.name] for axis in tensor.axes)
            own.copy_(_draw(example, tensor, tuple(own.shape)))
    batch = base.batch if example.batched else ()
    inputs = []
    for tensor in formula.inputs:
        value = _draw(example, tensor, (*batch, *(sizes[axis.name] for axis in tensor.axes)))
        inputs.append(value.requires_grad_() if value.is_floating_point() else value)
    return Call(module, tuple(inputs), {tensor.name: tensors[tensor.name] for tensor in stored}, consts)


def _close(actual: Tensor, expected: Tensor, what: str, tolerance: float = 1e-9, noise: float = 1e-12) -> None:
    """Equal up to the tolerance, relative to the largest expected entry, or up to the absolute noise."""
    assert actual.shape == expected.shape, what
    assert torch.isfinite(expected).all(), what
    limit = tolerance * expected.abs().max().item() + noise
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=limit, msg=lambda text: f"{what}: {text}")


@pytest.mark.parametrize(("name", "index"), CASES)
def test_values_and_gradients(name: str, index: int) -> None:
    example = EXAMPLES[name]
    _compare(name, example.bases[index % len(example.bases)], example.consts[index % len(example.consts)])


def _compare(name: str, base: Base, consts: Mapping[str, int | float]) -> None:
    """Values and gradients of the module against those of the reference."""
    example, call = EXAMPLES[name], _prepare(name, base, consts)
    actual = call.module(*call.inputs)
    expected = example.reference(*call.inputs, **call.stored, **call.consts)
    tolerance = 1e-10 if name.startswith("attnzero") else 1e-9
    _close(actual, expected, "value", tolerance)
    assert actual.requires_grad == expected.requires_grad
    if not actual.requires_grad:
        return
    cotangent = normal(tuple(expected.shape))
    gradients = [
        torch.autograd.grad((out * cotangent).sum().real, call.real, allow_unused=True, materialize_grads=True)
        for out in (actual, expected)
    ]
    # a gradient that is zero in exact arithmetic is a difference of others
    noise = 1e-12 * max((1.0, *(gradient.abs().max().item() for gradient in gradients[1])))
    for position, (ours, theirs) in enumerate(zip(*gradients, strict=True)):
        _close(ours, theirs, f"gradient {position}", tolerance * 10, noise)


#: Chunks, blocks and transforms: what reads the sequence piece by piece and so has boundaries to get wrong.
_WHOLE = {"contraction order", "fused softmax"}
LONG_ENOUGH = Base({"N": 151, "M": 151, "L": 301, "Y": 13, "X": 11, "D": 3, "E": 2, "H": 2, "G": 2, "R": 1, "C": 4}, 2)


def _in_pieces() -> list[str]:
    reports = [report for path in examples.FILES for report in check_source(read(path))]
    plans = {report.name: report.plan for report in reports if report.plan is not None}
    return [
        name
        for name, plan in plans.items()
        if any(isinstance(node.op, Lowering) and node.op.rule not in _WHOLE for node in plan)
    ]


@pytest.mark.parametrize("name", _in_pieces())
def test_sequences_of_several_pieces(name: str) -> None:
    """Values and gradients where the sequence is longer than every chunk and no multiple of one."""
    _compare(name, LONG_ENOUGH, EXAMPLES[name].consts[0])


#: What a formula is called with when its real inputs lose what tells them apart, or grow beyond what exp can hold.
DEGENERATE: dict[str, Callable[[Tensor], Tensor]] = {
    "zeros": torch.zeros_like,
    "ones": torch.ones_like,
    "tiny": lambda x: x * 1e-9,
    "large": lambda x: x * 30,
}
#: Where the paper's formula leaves open what comes out: ties between scores, a standard deviation that is all rounding,
#: integration weights that sum to 0.
OPEN = {
    ("ones", "mote_gates"),
    ("ones", "mixture_of_tunable_experts"),
    ("ones", "attnzero_34"),
    ("zeros", "quadrature_attention"),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_degenerate_inputs(name: str) -> None:
    """The same values, infinities and NaN as the reference."""
    example = EXAMPLES[name]
    index = min(1, len(example.bases) - 1)
    call = _prepare(name, example.bases[index], example.consts[index % len(example.consts)])
    for what, degenerate in DEGENERATE.items():
        if (what, name) in OPEN:
            continue
        inputs = [degenerate(x.detach()) if x.is_floating_point() or x.is_complex() else x for x in call.inputs]
        with torch.no_grad():
            actual, expected = call.module(*inputs), example.reference(*inputs, **call.stored, **call.consts)
        finite = expected[torch.isfinite(expected)].abs()
        limit = 1e-9 * (finite.max().item() if finite.numel() else 0.0) + 1e-11
        torch.testing.assert_close(
            actual, expected, rtol=0.0, atol=limit, equal_nan=True, msg=lambda text, what=what: f"{what}: {text}"
        )


@pytest.mark.parametrize("name", FORMULAS)
def test_torchscript(name: str) -> None:
    """A scripted module computes the same."""
    example = EXAMPLES[name]
    index = min(1, len(example.bases) - 1)
    call = _prepare(name, example.bases[index], example.consts[index % len(example.consts)])
    scripted = torch.jit.script(call.module)
    with torch.no_grad():
        torch.testing.assert_close(scripted(*call.inputs), call.module(*call.inputs), rtol=1e-12, atol=1e-12)


def test_every_formula_has_a_reference() -> None:
    assert FORMULAS.keys() == EXAMPLES.keys()
    assert len(examples.FILES) >= 26


def test_reference_has_the_name_of_its_formula() -> None:
    shared = {
        "bam_attention_shared_kv": "bam_attention",
        "latent_attention_absorbed": "latent_attention",
        "minimal_attention_convex": "minimal_attention",
    }
    for name, example in EXAMPLES.items():
        assert example.reference.__name__ == shared.get(name, name)


@pytest.mark.parametrize("path", examples.FILES, ids=lambda path: path.stem)
def test_file_is_named_after_its_main_formula(path: Path) -> None:
    assert _read(path).formulas[0].name == path.stem


@pytest.mark.parametrize("name", FORMULAS)
def test_check_passes(name: str) -> None:
    path, _ = FORMULAS[name]
    report = attngraph.check(attngraph.load(path, name))
    assert report.ok, [d.message for d in report.diagnostics]
    assert all(verdict.holds for verdict in report.verdicts)


@pytest.mark.parametrize("name", FORMULAS)
def test_docstring_names_its_source(name: str) -> None:
    _, formula = FORMULAS[name]
    lines = (formula.docstring or "").strip().split("\n\n")
    assert len(lines) >= 2, "a line that says what it is, a blank line, the source"
    assert lines[0].rstrip().endswith(".")
    source = " ".join(" ".join(lines[1:]).split())
    assert YEAR.search(source)
    assert AUTHORS.search(source)


@pytest.mark.parametrize("name", ["attnzero_105", "attnzero_34"])
def test_statistics_over_the_batch_couple_its_samples(name: str) -> None:
    """A sample alone gives another result than the same sample in a batch of four."""
    call = _prepare(name, Base({"B": 4, "H": 2, "N": 7, "D": 3}, 1), {})
    together = call.module(*call.inputs)[:1]
    alone = call.module(*(x[:1] for x in call.inputs))
    assert (together - alone).abs().max() > 1e-3
    _close(alone, EXAMPLES[name].reference(*(x[:1] for x in call.inputs)), "alone", 1e-10)


@pytest.mark.parametrize("name", ["attnzero_105", "attnzero_34"])
def test_constant_product_standardises_to_zero(name: str) -> None:
    """The standard deviation of a constant is 0, and what is then not a number counts as 0."""
    path, _ = FORMULAS[name]
    module = attngraph.compile(path, name=name)
    q = normal((2, 2, 5, 4))
    constant = torch.zeros(2, 2, 5, 4, dtype=torch.float64)
    assert torch.equal(module(q, constant, constant), torch.zeros_like(q))


def test_a_query_that_sees_no_key_gets_zeros() -> None:
    path, _ = FORMULAS["gqa_attention"]
    module = attngraph.compile(path, name="gqa_attention")
    q, k, v = normal((4, 3, 2)), normal((2, 5, 2)), normal((2, 5, 3))
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1] = False
    out = module(q, k, v, mask)
    assert torch.equal(out[:, 1], torch.zeros(4, 3, dtype=torch.float64))
    assert torch.isfinite(out).all()


def test_merging_nothing_with_nothing_gives_zeros() -> None:
    path, _ = FORMULAS["merge_lse"]
    module = attngraph.compile(path, name="merge_lse")
    o1, o2, l2 = normal((2, 3)), normal((2, 3)), torch.tensor([-torch.inf, 0.7], dtype=torch.float64)
    empty = torch.full((2,), -torch.inf, dtype=torch.float64)
    out = module(o1, empty, o2, l2)
    assert torch.equal(out[0], torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(out[1], o2[1])
