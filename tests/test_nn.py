"""Attention layers with a formula: torch's own layer where the formula is softmax, and honest where it is not."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attngraph
from attngraph.nn import SOFTMAX, MultiheadAttention

BATCH, QUERIES, KEYS, WIDTH, HEADS = 3, 5, 7, 16, 4
DOUBLE = torch.float64

PLAIN = """
attention plain(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    return softmax[M](q @ k^T / sqrt(D)) @ v
"""
WEIGHTED = """
attention weighted(q[N, D], k[M, D], v[M, E], mask[N, M] bool) -> [N, E], [N, M]:
    a = softmax[M](q @ k^T / sqrt(D), mask=mask)
    return a @ v, a
"""
LINEAR = """
attention linear(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    require linear
    phi(x) = elu(x) + 1
    a = phi(q) @ phi(k)^T
    return (a / sum[M](a)) @ v
"""
CAUSAL = """
attention causal(q[N, D], k[M, D], v[M, E]) -> [N, E]:
    where M = N
    require causal
    return softmax[M](q @ k^T / sqrt(D), mask=pos(N) >= pos(M)) @ v
"""
PADDED = """
attention padded(q[N, D], k[M, D], v[M, E], mask[M] bool) -> [N, E]:
    return softmax[M](q @ k^T / sqrt(D), mask=mask) @ v
"""
# Every axis by another name, heads named, weights per head.
PER_HEAD = """
attention per_head(q[G, A, C], k[G, B, C], v[G, B, C2], mask[G, A, B] bool) -> [G, A, C2], [G, A, B]:
    where C2 = C
    a = softmax[B](q @ k^T / sqrt(C), mask=mask)
    return a @ v, a
"""
ONE_MASK = """
attention one_mask(q[H, N, D], k[H, M, D], v[H, M, E], mask[N, M] bool) -> [H, N, E]:
    return softmax[M](q @ k^T / sqrt(D), mask=mask) @ v
"""
PADDED_HEADS = """
attention padded_heads(q[H, N, D], k[H, M, D], v[H, M, E], mask[M] bool) -> [H, N, E]:
    return softmax[M](q @ k^T / sqrt(D), mask=mask) @ v
"""
# Samples named too; the mask in another order.
PER_SAMPLE = """
attention per_sample(q[B, H, N, D], k[B, H, M, D], v[B, H, M, E], mask[M, N, B] bool) -> [B, H, N, E]:
    return softmax[M](q @ k^T / sqrt(D), mask=mask) @ v
"""
LEARNED = """
attention learned(q[H, N, D], k[H, M, D], v[H, M, E]) -> [H, N, E]:
    param temperature[H] = 1
    param query[F, D] = normal(1)
    const power = 1
    h = relu(q @ query^T) @ query
    return softmax[M](temperature^power * (h @ k^T) / sqrt(D)) @ v
"""


def pair(formula: str = WEIGHTED, **options: Any) -> tuple[MultiheadAttention, nn.MultiheadAttention]:
    """Our layer and torch's, with equal parameters that are nowhere 0."""
    options = {"dtype": DOUBLE, **options}
    ours = MultiheadAttention(WIDTH, HEADS, formula=formula, **options)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, **options)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def tensors(*, kdim: int = WIDTH, vdim: int = WIDTH, batch_first: bool = False, batched: bool = True) -> list[Tensor]:
    found = []
    for length, width in ((QUERIES, WIDTH), (KEYS, kdim), (KEYS, vdim)):
        shape = (BATCH, length) if batch_first else (length, BATCH)
        found.append(torch.randn(*(shape if batched else (length,)), width, dtype=DOUBLE))
    return found


def keys_to_ignore() -> Tensor:
    """[BATCH, KEYS], true where a key is padding; every entry keeps a key."""
    return torch.arange(KEYS) >= torch.tensor([[3], [7], [1]])


def pairs_to_ignore(count: int | None = None) -> Tensor:
    """[QUERIES, KEYS], or count of them; every query keeps its first key."""
    mask = torch.rand(*(() if count is None else (count,)), QUERIES, KEYS) < 0.5
    mask[..., 0] = False
    return mask


def same(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


# -- torch's layer -------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("widths", [{}, {"kdim": 6}, {"kdim": 6, "vdim": 10}], ids=["equal", "kdim", "kdim+vdim"])
@pytest.mark.parametrize("batched", [False, True])
def test_values_and_gradients_are_those_of_torch(
    batch_first: bool, bias: bool, widths: dict[str, Any], batched: bool
) -> None:
    layers = pair(batch_first=batch_first, bias=bias, **widths)
    inputs = tensors(batch_first=batch_first, batched=batched, **widths)
    results = []
    for layer in layers:
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        output, weights = layer(*leaves, need_weights=True)
        (output.sin().sum() + weights.cos().sum()).backward()
        gradients = {name: parameter.grad for name, parameter in layer.named_parameters()}
        results.append((output, weights, [leaf.grad for leaf in leaves], gradients))
    same(*results)


def test_formula_unless_told_otherwise_is_softmax() -> None:
    ours = MultiheadAttention(WIDTH, HEADS, dtype=DOUBLE)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, dtype=DOUBLE)
    ours.load_state_dict(theirs.state_dict())
    inputs, ignored, mask = tensors(), keys_to_ignore(), pairs_to_ignore(BATCH * HEADS)
    same(ours(*inputs), (theirs(*inputs)[0], None))
    same(ours(*inputs, ignored, attn_mask=mask), (theirs(*inputs, ignored, attn_mask=mask)[0], None))


def test_the_map_is_not_stored_without_need() -> None:
    layer = MultiheadAttention(WIDTH, HEADS)
    assert "scaled_dot_product_attention(" in str(layer.formula.source)


def test_self_attention_is_that_of_torch() -> None:
    ours, theirs = pair()
    x = tensors()[0]
    same(ours(x, x, x, need_weights=True), theirs(x, x, x))


def test_cross_attention_on_one_tensor_of_keys_is_that_of_torch() -> None:
    ours, theirs = pair()
    x, memory, _ = tensors()
    same(ours(x, memory, memory, need_weights=True), theirs(x, memory, memory))


@pytest.mark.parametrize("formula", [WEIGHTED, PER_HEAD], ids=["batch", "named"])
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_weights_are_those_of_torch(formula: str, average: bool, batched: bool) -> None:
    ours, theirs = pair(formula)
    inputs = tensors(batched=batched)
    output, weights = ours(*inputs, need_weights=True, average_attn_weights=average)
    same((output, weights), theirs(*inputs, need_weights=True, average_attn_weights=average))
    assert ours(*inputs)[1] is None


@pytest.mark.parametrize(
    "options", [{"add_bias_kv": True}, {"add_zero_attn": True}, {"add_bias_kv": True, "add_zero_attn": True}]
)
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("formula", [WEIGHTED, PER_HEAD], ids=["batch", "named"])
def test_further_keys_are_those_of_torch(options: dict[str, bool], batched: bool, formula: str) -> None:
    ours, theirs = pair(formula, **options)
    inputs = tensors(batched=batched)
    mask, ignored = pairs_to_ignore(), keys_to_ignore() if batched else keys_to_ignore()[0]
    same(ours(*inputs, None, True), theirs(*inputs))
    same(ours(*inputs, ignored, True, mask), theirs(*inputs, ignored, True, mask))


def test_further_keys_of_a_formula_without_mask() -> None:
    ours, theirs = pair(PLAIN, add_bias_kv=True, add_zero_attn=True)
    inputs = tensors()
    same(ours(*inputs)[0], theirs(*inputs)[0])


def test_start_values_are_those_of_torch() -> None:
    options: tuple[dict[str, Any], ...] = ({}, {"kdim": 6, "vdim": 10, "add_bias_kv": True})
    for widths in options:
        torch.manual_seed(3)
        ours = MultiheadAttention(WIDTH, HEADS, **widths).state_dict()
        torch.manual_seed(3)
        theirs = nn.MultiheadAttention(WIDTH, HEADS, **widths).state_dict()
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_state_goes_both_ways() -> None:
    ours = MultiheadAttention(WIDTH, HEADS, dtype=DOUBLE)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, dtype=DOUBLE)
    theirs.load_state_dict(ours.state_dict())
    inputs = tensors()
    same(ours(*inputs)[0], theirs(*inputs)[0])


def test_reset_draws_the_input_projections_again() -> None:
    layer = MultiheadAttention(WIDTH, HEADS)
    before = layer.state_dict()["in_proj_weight"].clone()
    nn.init.ones_(layer.out_proj.bias)
    layer.reset_parameters()
    assert not torch.equal(layer.state_dict()["in_proj_weight"], before)
    assert layer.out_proj.bias.eq(0).all()


# -- masks ---------------------------------------------------------------------------------------


def real(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else torch.zeros(mask.shape, dtype=DOUBLE).masked_fill(mask, -torch.inf)


@pytest.mark.parametrize("formula", [WEIGHTED, PER_HEAD], ids=["batch", "named"])
@pytest.mark.parametrize("kind", ["bool", "real"])
@pytest.mark.parametrize("pairs", [None, "shared", "per head"])
@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_masks_are_those_of_torch(formula: str, kind: str, pairs: str | None, padding: bool, batched: bool) -> None:
    count = {None: None, "shared": None, "per head": HEADS * (BATCH if batched else 1)}[pairs]
    mask = None if pairs is None else pairs_to_ignore(count)
    ignored = (keys_to_ignore() if batched else keys_to_ignore()[0]) if padding else None
    if kind == "real":
        mask, ignored = real(mask), real(ignored)
    ours, theirs = pair(formula)
    inputs = tensors(batched=batched)
    same(ours(*inputs, ignored, True, mask), theirs(*inputs, ignored, True, mask))


@pytest.mark.parametrize("formula", [PADDED, PADDED_HEADS, ONE_MASK, PER_SAMPLE])
@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_padding_reaches_masks_with_fewer_axes(formula: str, padding: bool, batched: bool) -> None:
    ignored = (keys_to_ignore() if batched else keys_to_ignore()[0]) if padding else None
    ours, theirs = pair(formula)
    inputs = tensors(batched=batched)
    same(ours(*inputs, ignored)[0], theirs(*inputs, ignored)[0])


@pytest.mark.parametrize("formula", [ONE_MASK, PER_SAMPLE])
def test_one_mask_for_all_heads(formula: str) -> None:
    ours, theirs = pair(formula)
    inputs, mask, ignored = tensors(), pairs_to_ignore(), keys_to_ignore()
    same(ours(*inputs, ignored, attn_mask=mask)[0], theirs(*inputs, ignored, attn_mask=mask)[0])


@pytest.mark.parametrize("formula", [SOFTMAX, WEIGHTED, CAUSAL])
def test_is_causal(formula: str) -> None:
    """With the mask or without: torch asks for it and calls is_causal a hint."""
    ours, theirs = pair(formula)
    x = tensors()[0]
    mask = torch.ones(QUERIES, QUERIES, dtype=torch.bool).triu(1)
    expected = theirs(x, x, x, attn_mask=mask, is_causal=True)[0]
    same(ours(x, x, x, attn_mask=mask, is_causal=True)[0], expected)
    same(ours(x, x, x, is_causal=True)[0], expected)


@pytest.mark.parametrize("formula", [SOFTMAX, WEIGHTED])
def test_query_without_keys_gives_the_bias(formula: str) -> None:
    ours, _ = pair(formula)
    inputs = tensors()
    output, weights = ours(*inputs, torch.ones(BATCH, KEYS, dtype=torch.bool), need_weights=ours.gives_weights)
    same(output, ours.out_proj.bias.expand_as(output))
    if weights is not None:
        same(weights, torch.zeros(BATCH, QUERIES, KEYS, dtype=DOUBLE))


# -- formulas ------------------------------------------------------------------------------------


def test_formula_is_text_path_or_formula(tmp_path: Path) -> None:
    path = tmp_path / "linear.attn"
    path.write_text(LINEAR + CAUSAL, encoding="utf-8")
    x = torch.randn(QUERIES, BATCH, WIDTH)
    first = MultiheadAttention(WIDTH, HEADS, formula=LINEAR)
    for formula in (path, str(path), attngraph.parse(LINEAR), attngraph.load(path)):
        layer = MultiheadAttention(WIDTH, HEADS, formula=formula)
        layer.load_state_dict(first.state_dict())
        torch.testing.assert_close(layer(x, x, x)[0], first(x, x, x)[0])
    assert MultiheadAttention(WIDTH, HEADS, formula=attngraph.load(path, "causal")).name == "causal"


def test_linear_attention_is_the_formula_per_head() -> None:
    layer, _ = pair(LINEAR, batch_first=True)
    query, key, value = tensors(batch_first=True)
    projected = []
    state = layer.state_dict()
    weights, biases = state["in_proj_weight"].chunk(3), state["in_proj_bias"].chunk(3)
    for x, weight, bias in zip((query, key, value), weights, biases, strict=True):
        y = x @ weight.T + bias
        projected.append(torch.stack(y.split(WIDTH // HEADS, -1), 1))
    q, k, v = projected
    a = (nn.functional.elu(q) + 1) @ (nn.functional.elu(k) + 1).mT
    heads = a / a.sum(-1, keepdim=True) @ v
    expected = torch.cat(heads.unbind(1), -1) @ layer.out_proj.weight.T + layer.out_proj.bias
    output, none = layer(query, key, value)
    same(output, expected)
    assert none is None


def test_linear_attention_trains() -> None:
    layer = MultiheadAttention(WIDTH, HEADS, batch_first=True, formula=LINEAR)
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2)
    x = torch.randn(8, 12, WIDTH)
    target = x.mean(1, keepdim=True).expand_as(x)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(layer(x, x, x)[0], target)
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 5


def test_parameters_of_the_formula() -> None:
    torch.manual_seed(5)
    layer = MultiheadAttention(WIDTH, HEADS, formula=LEARNED, sizes={"F": 6}, consts={"power": 2}, dtype=DOUBLE)
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters() if name.startswith("formula.")}
    assert shapes == {"formula.temperature": (HEADS,), "formula.query": (6, WIDTH // HEADS)}
    assert all(parameter.dtype == DOUBLE for parameter in layer.parameters())
    x = tensors()[0]
    layer(x, x, x)[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.formula.parameters())


def test_result_that_does_not_look_at_queries() -> None:
    positions = (
        "attention places(q[N, D], k[M, D], v[M, E]) -> [N, E], [N, M]:\n"
        "    a = softmax[M](-abs(pos(N) - pos(M)))\n    return a @ v, a\n"
    )
    inputs = tensors()
    layer, _ = pair(positions)
    output, weights = layer(*inputs, need_weights=True)
    assert output.shape == (QUERIES, BATCH, WIDTH)
    assert weights.shape == (BATCH, QUERIES, KEYS)
    same(weights.sum(-1), torch.ones(BATCH, QUERIES, dtype=DOUBLE))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(dtype: torch.dtype) -> None:
    ours, theirs = pair(dtype=dtype)
    inputs = [tensor.to(dtype) for tensor in tensors()]
    output, weights = ours(*inputs, need_weights=True)
    assert output.dtype == weights.dtype == dtype
    expected = theirs.to(DOUBLE)(*(tensor.to(DOUBLE) for tensor in inputs))
    tolerance = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close((output.double(), weights.double()), expected, rtol=tolerance, atol=tolerance)


def test_autocast() -> None:
    layer = MultiheadAttention(WIDTH, HEADS, formula=LEARNED, sizes={"F": 6})
    x = torch.randn(QUERIES, BATCH, WIDTH)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(x, x, x)[0]
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), layer(x, x, x)[0], rtol=0.1, atol=0.1)


# -- the layer as a module -----------------------------------------------------------------------


@pytest.mark.parametrize("formula", [SOFTMAX, WEIGHTED, PLAIN, PER_HEAD, PADDED_HEADS, PER_SAMPLE])
@pytest.mark.parametrize(
    "options",
    [
        {"add_bias_kv": True, "add_zero_attn": True},
        {"kdim": 6, "vdim": 10, "bias": False, "batch_first": True},
    ],
)
def test_torchscript(formula: str, options: dict[str, Any]) -> None:
    layer, _ = pair(formula, **options)
    scripted = torch.jit.script(layer)
    widths = {key: options.get(key, WIDTH) for key in ("kdim", "vdim")}
    inputs = tensors(batch_first=layer.batch_first, **widths)
    same(scripted(*inputs), layer(*inputs))
    if layer.gives_weights:
        same(scripted(*inputs, need_weights=True), layer(*inputs, need_weights=True))
    if layer.takes_mask:
        same(scripted(*inputs, keys_to_ignore()), layer(*inputs, keys_to_ignore()))
    if layer.masks_queries:
        mask = pairs_to_ignore()
        same(scripted(*inputs, attn_mask=mask), layer(*inputs, attn_mask=mask))
        same(scripted(*inputs, is_causal=True), layer(*inputs, is_causal=True))
    with pytest.raises(torch.jit.Error, match="query has width 3, but embed_dim is 16"):
        scripted(inputs[0][..., :3], inputs[1], inputs[2])


@pytest.mark.parametrize("formula", [SOFTMAX, WEIGHTED, LINEAR])
@pytest.mark.parametrize("kind", ["bool", "real"])
def test_torch_compile_in_one_graph(formula: str, kind: str) -> None:
    torch.compiler.reset()
    layer, _ = pair(formula)
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    inputs = tensors()
    if layer.takes_mask:
        mask, ignored = pairs_to_ignore(), keys_to_ignore()
        masks = (ignored, layer.gives_weights, mask) if kind == "bool" else (real(ignored), False, real(mask))
        same(compiled(*inputs, *masks), layer(*inputs, *masks))
    longer = [torch.cat([tensor, tensor]) for tensor in inputs]
    same(compiled(*longer), layer(*longer))


def test_export() -> None:
    layer, _ = pair(PLAIN, batch_first=True)
    inputs = tuple(tensors(batch_first=True))
    auto = torch.export.Dim.AUTO
    dynamic = tuple({0: auto, 1: auto} for _ in inputs)
    program = torch.export.export(layer, inputs, dynamic_shapes=dynamic)
    longer = tuple(torch.cat([tensor, tensor], 1) for tensor in inputs)
    same(program.module()(*longer), layer(*longer))


@pytest.mark.parametrize("formula", [WEIGHTED, LINEAR])
def test_copies(formula: str) -> None:
    layer, _ = pair(formula)
    inputs = tensors()
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    copies = (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(file, weights_only=False))
    for twin in copies:
        same(twin(*inputs), layer(*inputs))
        nn.init.zeros_(twin.out_proj.weight)
    assert layer.out_proj.weight.abs().sum() > 0


def test_repr() -> None:
    assert "embed_dim=16, num_heads=4, formula=linear" in repr(MultiheadAttention(WIDTH, HEADS, formula=LINEAR))


# -- inside torch's layers -----------------------------------------------------------------------


def encoder_layer(formula: str, batch_first: bool) -> tuple[nn.TransformerEncoderLayer, nn.TransformerEncoderLayer]:
    """torch's layer with our attention, and as it was."""
    theirs = nn.TransformerEncoderLayer(WIDTH, HEADS, 32, dropout=0.0, batch_first=batch_first, dtype=DOUBLE)
    ours = copy.deepcopy(theirs)
    attention, _ = pair(formula, batch_first=batch_first)
    attention.load_state_dict(theirs.self_attn.state_dict())
    ours.self_attn = attention  # type: ignore[assignment]
    return ours, theirs


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("train", [False, True])
def test_encoder_layer(batch_first: bool, train: bool) -> None:
    ours, theirs = (layer.train(train) for layer in encoder_layer(SOFTMAX, batch_first))
    x = tensors(batch_first=batch_first)[0]
    ignored = torch.arange(QUERIES) >= torch.tensor([[3], [5], [1]])
    mask = torch.ones(QUERIES, QUERIES, dtype=torch.bool).triu(1)
    with torch.set_grad_enabled(train):
        same(ours(x), theirs(x))
        same(ours(x, mask, is_causal=True), theirs(x, mask, is_causal=True))
        same(ours(x, mask, ignored), theirs(x, mask, ignored))


def test_encoder_layer_in_evaluation_computes_the_formula() -> None:
    """torch's layer has a shortcut in evaluation that computes softmax attention, whatever self_attn is."""
    ours, theirs = (layer.eval() for layer in encoder_layer(LINEAR, True))
    x = tensors(batch_first=True)[0]
    with torch.no_grad():
        without_gradient = ours(x)
        softmax = theirs(x)
    same(without_gradient, ours(x).detach())
    assert (without_gradient - softmax).abs().max() > 1e-3


def test_encoder_with_causal_formula() -> None:
    layer, reference = encoder_layer(CAUSAL, True)
    ours = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    theirs = nn.TransformerEncoder(reference, 2, enable_nested_tensor=False).eval()
    x = tensors(batch_first=True)[0]
    mask = nn.Transformer.generate_square_subsequent_mask(QUERIES, dtype=DOUBLE)
    same(ours(x, mask), theirs(x, mask))


# -- what a formula cannot honour ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"num_heads": 3},
            "MultiheadAttention: embed_dim must be a positive multiple of num_heads, but embed_dim is 16 and "
            "num_heads is 3",
        ),
        (
            {"num_heads": 0},
            "MultiheadAttention: embed_dim must be a positive multiple of num_heads, but embed_dim is 16 and "
            "num_heads is 0",
        ),
        (
            {"dropout": 0.1},
            "MultiheadAttention: dropout=0.1 would drop attention weights, which a formula need not have: pass 0.0, "
            "and put nn.Dropout behind the layer",
        ),
        ({"sizes": {"D": 5}}, "softmax_attention: sizes gives D = 5, but embed_dim and num_heads give 4"),
        ({"sizes": {"Q": 5}}, "softmax_attention: there is no axis `Q`; it has N, D, M, E"),
        (
            {"formula": LEARNED},
            "learned: the size of F is missing, which parameter query [F, D] needs: pass sizes={'F': ...}",
        ),
    ],
)
def test_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole text is compared
        MultiheadAttention(WIDTH, **{"num_heads": HEADS, **options})
    assert str(caught.value) == message


def test_formula_with_mistakes() -> None:
    with pytest.raises(attngraph.FormulaError, match="would contract `D` with `M`"):
        MultiheadAttention(WIDTH, HEADS, formula=PLAIN.replace("k^T", "k"))


@pytest.mark.parametrize(
    ("header", "result", "problem"),
    [
        (
            "q[N, D], k[M, D], v[M, E], w[M]) -> [N, E]",
            "softmax[M](q @ k^T + w) @ v",
            "passes q, k, v and mask, and nothing for the input `w`; a learned tensor is a `param`",
        ),
        ("q[N, D], k[M, D]) -> [N, D]", "softmax[M](q @ k^T) @ k", "passes q, k and v, but there is no input `v`"),
        (
            "q[H, N, D], k[M, D], v[M, E]) -> [H, N, E]",
            "softmax[M](q @ k^T) @ v",
            "needs q[N, D], k[M, D], v[M, E], or all three with H or B, H in front, but they are q[H, N, D], k[M, D], "
            "v[M, E]",
        ),
        (
            "q[N, D], k[M, D], v[M]) -> [N]",
            "softmax[M](q @ k^T) @ v",
            "needs q[N, D], k[M, D], v[M, E], or all three with H or B, H in front, but they are q[N, D], k[M, D], "
            "v[M]",
        ),
        (
            "q[N, D], k[M, D], v[M, E] int) -> [N, E]",
            "softmax[M](q @ k^T) @ v",
            "passes real tensors, but they are q[N, D], k[M, D], v[M, E] int",
        ),
        (
            "q[N, D], k[M, D], v[M, E]) -> [E, N]",
            "(softmax[M](q @ k^T) @ v)^T",
            "needs the result [N, E], and perhaps weights [N, M] after it, but it is [E, N]",
        ),
        (
            "q[N, D], k[M, D], v[M, E]) -> [N, E], [M, N]",
            "softmax[M](q @ k^T) @ v, softmax[M](q @ k^T)^T",
            "needs the result [N, E], and perhaps weights [N, M] after it, but it is [N, E], [M, N]",
        ),
        (
            "q[H, N, D], k[H, M, D], v[H, M, E]) -> [H, N, E], [N, M]",
            "softmax[M](q @ k^T) @ v, sum[H](q @ k^T)",
            "needs the result [H, N, E], and perhaps weights [H, N, M] after it, but it is [H, N, E], [N, M]",
        ),
        (
            "q[N, D], k[M, D], v[M, E], mask[N, M]) -> [N, E]",
            "softmax[M](q @ k^T + mask) @ v",
            "passes mask[N, M] bool, but the input is mask[N, M]",
        ),
        (
            "q[N, D], k[M, D], v[M, E], mask[M, D] bool) -> [N, E]",
            "softmax[M](q @ where(mask, k, 0)^T) @ v",
            "passes mask[N, M] bool, but the input is mask[M, D] bool",
        ),
    ],
)
def test_formula_of_another_shape(header: str, result: str, problem: str) -> None:
    formula = f"attention other({header}:\n    return {result}\n"
    with pytest.raises(attngraph.CompileError) as caught:
        MultiheadAttention(WIDTH, HEADS, formula=formula)
    assert str(caught.value) == f"other: MultiheadAttention {problem}"


@pytest.mark.parametrize(
    ("formula", "call", "message"),
    [
        (
            PLAIN,
            {"need_weights": True},
            "MultiheadAttention: need_weights=True, but plain gives no weights: return them as a second result, "
            "`-> [N, E], [N, M]`, or pass need_weights=False",
        ),
        (
            PLAIN,
            {"key_padding_mask": torch.zeros(BATCH, KEYS, dtype=torch.bool)},
            "MultiheadAttention: key_padding_mask is given, but plain has no input for it: declare "
            "`mask[N, M] bool` or `mask[M] bool`, true where a query may look",
        ),
        (
            PADDED,
            {"attn_mask": torch.zeros(QUERIES, KEYS, dtype=torch.bool)},
            "MultiheadAttention: attn_mask is given, but padded has no input for it: declare `mask[N, M] bool`, "
            "true where a query may look",
        ),
        (
            CAUSAL,
            {"attn_mask": torch.zeros(QUERIES, KEYS, dtype=torch.bool)},
            "MultiheadAttention: attn_mask is given, but causal has no input for it: declare `mask[N, M] bool`, "
            "true where a query may look",
        ),
        (
            PLAIN,
            {"is_causal": True},
            "MultiheadAttention: is_causal=True, but plain is not causal: use a causal formula, whose "
            "`require causal` holds, or declare an input `mask[N, M] bool`, true where a query may look",
        ),
        (
            ONE_MASK,
            {"attn_mask": torch.zeros(BATCH * HEADS, QUERIES, KEYS, dtype=torch.bool)},
            "MultiheadAttention: the mask differs between heads, but one_mask declares mask[N, M] bool",
        ),
        (
            WEIGHTED,
            {"attn_mask": torch.zeros(KEYS, QUERIES, dtype=torch.bool)},
            "MultiheadAttention: attn_mask must have shape [5, 7], but has [7, 5]",
        ),
        (
            WEIGHTED,
            {"attn_mask": torch.zeros(BATCH, QUERIES, KEYS, dtype=torch.bool)},
            "MultiheadAttention: attn_mask must have shape [12, 5, 7], but has [3, 5, 7]",
        ),
        (
            WEIGHTED,
            {"key_padding_mask": torch.zeros(KEYS, BATCH, dtype=torch.bool)},
            "MultiheadAttention: key_padding_mask must have shape [3, 7], but has [7, 3]",
        ),
        (
            WEIGHTED,
            {"key_padding_mask": torch.zeros(BATCH, KEYS, dtype=torch.long)},
            "MultiheadAttention: key_padding_mask must be a bool or floating-point tensor, but is torch.int64",
        ),
    ],
)
def test_requests(formula: str, call: dict[str, Any], message: str) -> None:
    layer, _ = pair(formula)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        layer(*tensors(), **call)
    assert str(caught.value) == message


def test_real_mask_with_other_numbers() -> None:
    layer, _ = pair()
    with pytest.raises(RuntimeError) as caught:
        layer(*tensors(), attn_mask=torch.full((QUERIES, KEYS), -1e4))
    message = "MultiheadAttention: attn_mask must hold 0 and -inf only: a formula takes it as true and false"
    assert str(caught.value).splitlines()[0] == message


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((16,), (16,), (16,)), "query must have 2 or 3 dimensions, but has 1"),
        (
            ((5, 16), (7, 3, 16), (7, 16)),
            "query, key and value must have as many dimensions, but have 2, 3 and 2",
        ),
        (((5, 12), (7, 16), (7, 16)), "query has width 12, but embed_dim is 16"),
        (((5, 16), (7, 12), (7, 16)), "key has width 12, but kdim is 16"),
        (((5, 16), (7, 16), (7, 12)), "value has width 12, but vdim is 16"),
        (
            ((5, 3, 16), (7, 2, 16), (7, 3, 16)),
            "query, key and value must have one batch size, but have 3, 2 and 3 on dimension 1",
        ),
    ],
)
def test_tensors_that_do_not_fit(shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    layer = MultiheadAttention(WIDTH, HEADS)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        layer(*(torch.zeros(shape) for shape in shapes))
    assert str(caught.value) == f"MultiheadAttention: {message}"


def test_keys_and_values_of_different_lengths() -> None:
    """Lengths are the formula's own to check."""
    layer = MultiheadAttention(WIDTH, HEADS, formula=PLAIN)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        layer(torch.zeros(5, 16), torch.zeros(7, 16), torch.zeros(6, 16))
    assert str(caught.value) == "plain: v has size 6 on axis M (dimension -2), but k has 7"


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensor() -> None:
    layer = MultiheadAttention(WIDTH, HEADS, batch_first=True)
    x = torch._nested_tensor_from_mask(torch.zeros(2, 3, WIDTH), torch.tensor([[1, 1, 0], [1, 1, 1]]).bool())
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        layer(x, x, x)
    assert str(caught.value) == (
        "MultiheadAttention: nested tensors are not supported: build nn.TransformerEncoder with "
        "enable_nested_tensor=False"
    )
