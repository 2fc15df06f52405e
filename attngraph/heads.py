"""Whether a formula can be the heads of an attention layer, and what the layer must know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .compiler.errors import CompileError
from .compiler.facts.dependence import Dependence
from .compiler.formula import Formula
from .compiler.ops.leaves import Input
from .compiler.types import Kind, Type

Inputs = Mapping[str, Type]


@dataclass(frozen=True)
class Heads:
    """What the axes of `(q[N, D], k[M, D], v[M, E]) -> [N, E]` are to the tensors of a layer, which are
    [samples, heads, length, width], and [samples, heads, queries, keys] for a mask.

    outer: the axes in front of N, which are heads, or samples and heads; widths: D, D and E.
    mask: the dimension of each axis of the input `mask`; empty without one.
    mask_text: the declaration of the mask, for messages.
    gives_weights: whether a second result gives the attention weights.
    causal: whether a query provably depends on no later key.
    """

    outer: tuple[str, ...]
    widths: tuple[str, ...]
    mask: tuple[int, ...]
    mask_text: str
    gives_weights: bool
    causal: bool

    @property
    def unnamed(self) -> int:
        """How many of the leading dimensions of a tensor are batch to the formula."""
        return 2 - len(self.outer)

    def sizes(self, num_heads: int, head_dim: int) -> dict[str, int]:
        """The sizes of axes that do not depend on the call."""
        return dict.fromkeys(self.outer[-1:], num_heads) | dict.fromkeys(self.widths, head_dim)


def heads_of(formula: Formula) -> Heads:
    """What a layer must know. Errors: CompileError that says what does not fit, and what would."""
    inputs = {node.op.name: node.type for node in formula.inputs if isinstance(node.op, Input)}
    results = [node.type for node in formula.graph.outputs]
    problem = _names(inputs) or _tensors(inputs) or _results(inputs, results) or _mask(inputs)
    if problem is not None:
        raise CompileError(f"{formula.name}: MultiheadAttention {problem}")
    q, k, v = (inputs[name].axes for name in "qkv")
    dimensions = _dimensions(inputs)
    mask = inputs.get("mask")
    return Heads(
        outer=q[:-2],
        widths=(q[-1], k[-1], v[-1]),
        mask=() if mask is None else tuple(dimensions[axis] for axis in mask.axes),
        mask_text=f"mask{mask}",
        gives_weights=len(results) == 2,
        causal=Dependence(formula).causal() is None,
    )


def _dimensions(inputs: Inputs) -> dict[str, int]:
    """The dimension of each axis of the map in [samples, heads, queries, keys]."""
    q, k = inputs["q"].axes, inputs["k"].axes
    return {k[-2]: 3} | {axis: index + 4 - len(q) for index, axis in enumerate(q[:-1])}


def _names(inputs: Inputs) -> str | None:
    """What is wrong with the names of the inputs."""
    for unknown in sorted(inputs.keys() - {"q", "k", "v", "mask"}):
        return f"passes q, k, v and mask, and nothing for the input `{unknown}`; a learned tensor is a `param`"
    for name in "qkv":
        if name not in inputs:
            return f"passes q, k and v, but there is no input `{name}`"
    return None


def _tensors(inputs: Inputs) -> str | None:
    """What is wrong with q, k and v."""
    q, k, v = (inputs[name].axes for name in "qkv")
    shown = ", ".join(f"{name}{inputs[name]}" for name in "qkv")
    if len(q) not in (2, 3, 4) or k[:-2] != q[:-2] or v[:-2] != q[:-2] or not len(q) == len(k) == len(v):
        return f"needs q[N, D], k[M, D], v[M, E], or all three with H or B, H in front, but they are {shown}"
    if any(inputs[name].kind is not Kind.REAL for name in "qkv"):
        return f"passes real tensors, but they are {shown}"
    return None


def _results(inputs: Inputs, results: list[Type]) -> str | None:
    """What is wrong with the results."""
    q, k, v = (inputs[name].axes for name in "qkv")
    first, *further = results
    fits = first.axes[:-1] == q[:-1] and first.axes[-1] in (q[-1], k[-1], v[-1])
    weighs = not further or (len(further) == 1 and len(further[0].axes) == len(q) and further[0].axes[:-1] == q[:-1])
    if fits and weighs and all(result.kind is Kind.REAL for result in results):
        return None
    output, weights = ", ".join((*q[:-1], v[-1])), ", ".join((*q[:-1], k[-2]))
    shown = ", ".join(map(str, results))
    return f"needs the result [{output}], and perhaps weights [{weights}] after it, but it is {shown}"


def _mask(inputs: Inputs) -> str | None:
    """What is wrong with the mask."""
    mask = inputs.get("mask")
    if mask is None or (mask.kind is Kind.BOOL and mask.axes and set(mask.axes) <= _dimensions(inputs).keys()):
        return None
    return f"passes mask[{inputs['q'].axes[-2]}, {inputs['k'].axes[-2]}] bool, but the input is mask{mask}"
