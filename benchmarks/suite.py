"""What `make bench` measures: formulas, their inputs, and whom they are compared with. Data, no clock.

A contender is one way to compute a formula. The product itself is one, under the name `attngraph`; the text evaluated
as it stands (`literal`) is another; the rest are the functions of `baselines`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor, nn

import attngraph
from attngraph.compiler.module import compile as build
from attngraph.compiler.types import Kind as Kinds

from . import baselines, examples
from .baselines import Attention

PRODUCT, LITERAL, FLASH = "attngraph", "literal text", "attngraph, target fla"
COMPILED = ", torch.compile"

Kind = Literal["product", "literal", "hand", "library", "yardstick"]


@dataclass(frozen=True)
class Baseline:
    """A way to compute a formula that somebody wrote by hand.

    run: the function of inputs and parameters.
    choices: values of its free keyword (its name, the values), of which the fastest is taken.
    prepare: instead of `run`, makes the function from example inputs, outside of what is timed; None where it cannot.
    kind: `hand` and `library` compute the formula; a `yardstick` computes another one of the same shape,
        or this one for some inputs only.
    compiled: is also run under torch.compile; a loop only in full runs, since it is compiled turn by turn.
    in_cpu_training: whether it has gradients on a CPU.
    """

    name: str
    run: Attention | None = None
    choices: tuple[str, tuple[int, ...]] | None = None
    prepare: Callable[..., Attention | None] | None = None
    kind: Kind = "hand"
    compiled: bool = False
    in_cpu_training: bool = True


@dataclass(frozen=True)
class Case:
    """One formula of the suite.

    name: of the formula, one of examples/.
    inputs: the axes of every input with the batch axis B, as words: `B H N D`.
    widths: sizes other than B, H and N where they are not those of the run (D = E = 64).
    parameters: axes whose size the module is built with.
    training: measured forward and backward too.
    decoding: by hand, what takes one token more after those that it is made from; the product does so by `step`.
    compiled: the product and the literal text are run under torch.compile too; loop: the product is a loop.
    literal_up_to: the greatest N at which the text is evaluated as it stands.
    """

    name: str
    inputs: tuple[str, ...]
    against: tuple[Baseline, ...]
    widths: Mapping[str, int] | None = None
    parameters: tuple[str, ...] = ()
    training: bool = False
    decoding: tuple[Baseline, ...] = ()
    compiled: bool = False
    loop: bool = False
    literal_up_to: int = 4096


@dataclass(frozen=True)
class Sizes:
    """B, H and the feature widths of a run; N varies."""

    batch: int = 1
    heads: int = 4
    width: int = 64

    def of(self, case: Case, length: int) -> dict[str, int]:
        """The size of every axis that a case may name."""
        usual = {"B": self.batch, "H": self.heads, "N": length, "D": self.width, "E": self.width, "C": self.width}
        return {**usual, "G": max(1, self.heads // 2), "L": length, **(case.widths or {})}


QKV = ("B H N D", "B H N D", "B H N E")
CHUNKS = ("chunk", (32, 64, 128, 256))

CASES: tuple[Case, ...] = (
    Case(
        "linear_attention",
        QKV,
        (
            Baseline("einsum by hand", baselines.linear_by_einsum, compiled=True),
            Baseline("matmul by hand", baselines.linear_by_matmul, compiled=True),
        ),
        training=True,
        compiled=True,
    ),
    Case(
        "causal_linear_attention",
        QKV,
        (
            Baseline("chunk loop", baselines.causal_linear_loop, choices=CHUNKS, compiled=True),
            Baseline(
                "chunks by hand" + COMPILED, baselines.causal_linear_by_compiled_chunks, choices=("chunk", (64, 128))
            ),
            Baseline("flash-linear-attention reference", prepare=baselines.library_linear, kind="library"),
            Baseline("flash-linear-attention kernels", prepare=baselines.kernels_linear, kind="library"),
            Baseline("causal softmax (SDPA)", baselines.fused_causal, kind="yardstick"),
        ),
        training=True,
        decoding=(Baseline("state by hand", prepare=baselines.linear_state),),
        compiled=True,
        loop=True,
    ),
    Case(
        "retention",
        QKV,
        (
            Baseline("chunk loop", baselines.retention_loop, choices=CHUNKS),
            Baseline("flash-linear-attention reference", prepare=baselines.library_decayed, kind="library"),
            Baseline("flash-linear-attention kernels", prepare=baselines.kernels_decayed, kind="library"),
        ),
        training=True,
        decoding=(Baseline("state by hand", prepare=baselines.retention_state),),
    ),
    Case(
        "lightning_attention",
        (*QKV, "H"),
        (
            Baseline("chunk loop", baselines.lightning_loop, choices=CHUNKS),
            Baseline("flash-linear-attention reference", prepare=baselines.library_decayed, kind="library"),
            Baseline("flash-linear-attention kernels", prepare=baselines.kernels_decayed, kind="library"),
        ),
        training=True,
    ),
    Case(
        "taylor_attention",
        QKV,
        (Baseline("chunk loop", baselines.taylor_loop, choices=CHUNKS),),
        widths={"D": 16},
    ),
    Case("softmax_attention", QKV, (Baseline("SDPA", baselines.fused),), training=True),
    Case(
        "causal_softmax_attention",
        QKV,
        (Baseline("SDPA, is_causal", baselines.fused_causal),),
        training=True,
        decoding=(
            Baseline("SDPA, static cache", prepare=baselines.static_cache),
            Baseline("SDPA, cache by cat", prepare=baselines.fused_cache),
        ),
    ),
    Case(
        "alibi_attention",
        QKV,
        (
            Baseline("SDPA with the bias", baselines.alibi_by_bias),
            Baseline("FlexAttention, torch.compile", prepare=baselines.alibi_by_flex, in_cpu_training=False),
        ),
    ),
    Case(
        "sliding_window_attention",
        ("B H N D", "B G N D", "B G N E"),
        (
            Baseline("block loop", baselines.band_by_blocks, choices=("block", (64, 128, 256))),
            Baseline("SDPA with the mask", baselines.band_by_mask),
            Baseline("FlexAttention, torch.compile", prepare=baselines.band_by_flex, in_cpu_training=False),
        ),
    ),
    Case(
        "sigmoid_attention",
        ("B N D", "B N D", "B N E"),
        (
            Baseline("query blocks by hand", baselines.sigmoid_by_blocks, choices=("block", (32, 64, 128, 256))),
            Baseline("whole map by hand", baselines.sigmoid_by_map, compiled=True),
        ),
        training=True,
        compiled=True,
        loop=True,
    ),
    Case(
        "gqa_attention",
        ("B H N D", "B G N D", "B G N E", "N N"),
        (Baseline("SDPA, enable_gqa", baselines.grouped),),
    ),
    Case("swin_window", QKV, (Baseline("SDPA on windows", baselines.windows_by_view),)),
    Case(
        "unified_token_mixing_conv",
        ("B N C",),
        (Baseline("FFT by hand", baselines.convolution_by_fft),),
        parameters=("N", "C"),
    ),
    Case(
        "aaren",
        ("B H N D", "B H N E"),
        (
            Baseline("safe running sums", baselines.prefix_by_spans, choices=("chunk", (256, 512, 1024, 2048))),
            Baseline("running sums, unsafe", baselines.prefix_by_cumsum, kind="yardstick"),
        ),
        parameters=("H", "D"),
    ),
)


@dataclass(frozen=True)
class Point:
    """A row of the larger sizes: a formula, how it is run, and one length.

    literal: the text is evaluated as it stands too, under torch.compile as well, which takes the whole map many times.
    """

    name: str
    mode: Literal["forward", "training"]
    length: int
    literal: bool = False


LARGE_SIZES = Sizes(batch=2)
LARGE: tuple[Point, ...] = (
    Point("linear_attention", "forward", 4096, literal=True),
    Point("causal_linear_attention", "forward", 16384),
    Point("retention", "forward", 4096),
    Point("retention", "training", 4096),
    Point("lightning_attention", "forward", 4096),
    Point("lightning_attention", "training", 4096),
    Point("softmax_attention", "forward", 4096),
    Point("causal_softmax_attention", "forward", 4096),
    Point("alibi_attention", "forward", 4096),
    Point("sliding_window_attention", "forward", 4096),
    Point("gqa_attention", "forward", 4096),
)


@dataclass(frozen=True)
class Contender:
    """A way to compute a case at one length, ready to be called with `arguments`.

    note: what was chosen for it, as `chunk 64`.
    """

    name: str
    kind: Kind
    call: Attention
    arguments: tuple[Tensor, ...]
    compiled: bool = False
    note: str = ""


@dataclass(frozen=True)
class Problem:
    """A case with tensors: the inputs, and the modules of the formula with equal parameters.

    flash: that of the target `fla`, where the device and the dtype are those of its kernels and the library is there.
    """

    case: Case
    inputs: tuple[Tensor, ...]
    product: nn.Module
    literal: nn.Module
    flash: nn.Module | None = None


def problem(case: Case, sizes: Mapping[str, int], device: torch.device, dtype: torch.dtype) -> Problem:
    """Modules and standard-normal inputs of a case, the same on every call; a mask shows the keys up to the query's.

    Errors: ValueError if the formula has mistakes.
    """
    report = attngraph.load(examples.find(case.name), case.name).report
    if report.formula is None or report.plan is None:
        raise ValueError(f"{case.name} has mistakes")
    known = {axis: sizes[axis] for axis in case.parameters}
    torch.manual_seed(0)
    options = {"sizes": known, "device": device, "dtype": dtype}
    product = build(report.formula, report.plan, steps=report.steps, **options)  # type: ignore[arg-type]
    literal = build(report.formula, report.formula.graph, **options)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in product.parameters():
            parameter.normal_()
    literal.load_state_dict(product.state_dict())
    shapes = [[sizes[axis] for axis in axes.split()] for axes in case.inputs]
    inputs = [torch.randn(shape, device=device, dtype=dtype) for shape in shapes]
    kinds = [node.type.kind for node in report.formula.inputs]
    # An input without a batch axis is a rate per head: positive, and so small that the text as it stands, which takes
    # the exponential above the diagonal too, does not overflow at the lengths at which it is run.
    inputs = [x if "B" in axes else x.abs().clamp(max=2) / 128 for x, axes in zip(inputs, case.inputs, strict=True)]
    inputs = [x if kind is Kinds.REAL else torch.ones_like(x).tril() > 0 for x, kind in zip(inputs, kinds, strict=True)]
    flash = None
    if device.type == "cuda" and dtype in baselines.HALF and find_spec("fla") is not None:
        flash = build(report.formula, report.plan, target="fla", **options)  # type: ignore[arg-type]
        flash.load_state_dict(product.state_dict())
        flash = flash if any("not by" not in note for note in flash.notes) else None  # type: ignore[union-attr]
    return Problem(case, tuple(inputs), product, literal, flash)


def contenders(
    made: Problem,
    length: int,
    *,
    training: bool,
    compiled: bool,
    loops: bool,
    fastest: Callable[[Mapping[int, Attention], tuple[Tensor, ...]], int],
) -> list[Contender]:
    """Everybody who takes part at one length, the product first, then those that compute the same by hand.

    training: gradients are wanted. compiled: those for torch.compile as well; loops: loops too.
    fastest: of the functions for some choices the quickest one's choice.
    """
    case, inputs = made.case, made.inputs
    parameters = tuple(made.product.parameters())
    found = [Contender(PRODUCT, "product", made.product, inputs)]
    if made.flash is not None:
        found.append(Contender(FLASH, "library", made.flash, inputs))
    for each in case.against:
        if training and inputs[0].device.type == "cpu" and not each.in_cpu_training:
            continue
        if not compiled and each.name.endswith(COMPILED):
            continue
        arguments, note, run = (*inputs, *parameters), "", each.run
        if each.prepare is not None:
            run = each.prepare(*arguments)
        elif each.choices is not None and run is not None:
            keyword, values = each.choices
            variants = {value: partial(run, **{keyword: value}) for value in values}
            best = fastest(variants, arguments)
            run, note = variants[best], f"{keyword} {best}"
        if run is None:
            continue
        found.append(Contender(each.name, each.kind, run, arguments, each.name.endswith(COMPILED), note))
        if compiled and each.compiled and (loops or each.choices is None):
            found.append(Contender(each.name + COMPILED, each.kind, _compiled(run), arguments, True, note))
    if length <= case.literal_up_to:
        found.append(Contender(LITERAL, "literal", made.literal, inputs))
    if compiled and case.compiled and (loops or not case.loop):
        found.append(Contender(PRODUCT + COMPILED, "product", _compiled(made.product), inputs, True))
        if length <= case.literal_up_to:
            found.append(Contender(LITERAL + COMPILED, "literal", _compiled(made.literal), inputs, True))
    return found


def decoders(made: Problem) -> list[Contender]:
    """Everybody who computes the last token of the inputs after all the others, the product first.

    Further calls go on with the same token, up to baselines.AHEAD of them, and then from the first again.
    """
    before, last = [x[..., :-1, :] for x in made.inputs], tuple(x[..., -1:, :] for x in made.inputs)
    found = [Contender(PRODUCT, "product", _steps(made.product, before), last)]
    for each in made.case.decoding:
        run = each.prepare(*before) if each.prepare is not None else None
        if run is not None:
            found.append(Contender(each.name, each.kind, run, last))

    def again(*token: Tensor) -> Tensor:
        return made.product(*made.inputs)[..., -1:, :]  # type: ignore[no-any-return]

    return [*found, Contender("the whole sequence again", "literal", again, last)]


def _steps(module: Any, before: list[Tensor]) -> Attention:
    """`step` of a module after what came before, from state to state."""
    start: list[Tensor] = module.init_state()
    if before[0].size(-2):
        _, start = module.step(start, *before)
    state, count = start, 0

    def step(*token: Tensor) -> Tensor:
        nonlocal state, count
        if count == baselines.AHEAD:
            state, count = start, 0
        out, state = module.step(state, *token)
        count += 1
        return out  # type: ignore[no-any-return]

    return step


def _compiled(run: Attention | nn.Module) -> Attention:
    """For the sizes at hand: everybody is compiled alike, so that only the code differs."""
    made: Attention = torch.compile(run, fullgraph=True, dynamic=False)
    return made
