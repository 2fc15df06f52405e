"""Layers of torch.nn with the attention replaced by a formula.

    from attngraph.nn import MultiheadAttention

    layer = MultiheadAttention(512, 8, batch_first=True, formula="examples/linear/linear_attention.attn")
    output, _ = layer(x, x, x)
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import api
from .compiler.errors import CompileError
from .compiler.module import compile as build
from .grammar.diagnostics import FormulaError, Severity
from .heads import heads_of
from .report import render_diagnostics

__all__ = ["SOFTMAX", "MultiheadAttention"]

SOFTMAX = '''
attention softmax_attention(q[N, D], k[M, D], v[M, E], mask[N, M] bool) -> [N, E]:
    """Vaswani et al., Attention Is All You Need, NeurIPS 2017."""
    return softmax[M](q @ k^T / sqrt(D), mask=mask) @ v
'''


class MultiheadAttention(nn.Module):
    """torch.nn.MultiheadAttention with any formula in place of softmax attention.

    Constructor, parameters and their start values, state dict and calls are those of torch. With the
    default formula outputs are too, except that a query that may look at no key gives zeros instead of
    NaN. Two differences: `need_weights` is False unless asked for, and what the formula cannot honour is
    an error instead of being ignored.

    embed_dim: width of queries and of the output; a head has embed_dim / num_heads of it.
    dropout: 0; a formula need not have weights that could be dropped.
    add_bias_kv, add_zero_attn: a learned key and value, and one of zeros, behind the others.
    kdim, vdim: widths of keys and values, embed_dim by default.
    batch_first: tensors are [batch, length, width] instead of [length, batch, width].
    formula: a Formula, the text of one, or the path of a file. It is told by the names of its inputs
        and the places of their axes:

            (q[N, D], k[M, D], v[M, E]) -> [N, E]                   a head on its own
            (q[H, N, D], k[H, M, D], v[H, M, E]) -> [H, N, E]       all heads of a sample
            (q[B, H, N, D], ...) -> [B, H, N, E]                    all samples too

        Where it has an input `mask[N, M] bool`, true where a query may look, the masks of a call are
        fed to it; the mask may also have H or B, or be `mask[M]`, for padding alone. A second result,
        `[N, M]` behind the same axes, serves need_weights, at the price of storing the map. Its
        parameters and buffers are entries `formula.<name>` of the state dict.
    sizes: sizes of further axes that its parameters carry.
    consts: values that override those of its `const` lines.

    Errors: ValueError for arguments that do not fit; FormulaError when the formula has mistakes;
    CompileError when it is of another kind or a size is missing.
    """

    # For TorchScript: of a branch on one of these, only the side that is taken is compiled.
    __constants__ = ("add_zero_attn", "batch_first", "causal", "gives_weights", "masks_queries", "takes_mask")

    # In evaluation nn.TransformerEncoderLayer computes softmax attention itself, from the parameters of
    # its self_attn, unless this is false: the formula would be left out without a word.
    _qkv_same_embed_dim = False

    if TYPE_CHECKING:  # TorchScript would read annotations that it can see
        in_proj_weight: nn.Parameter | None
        q_proj_weight: nn.Parameter | None
        k_proj_weight: nn.Parameter | None
        v_proj_weight: nn.Parameter | None
        in_proj_bias: nn.Parameter | None
        bias_k: nn.Parameter | None
        bias_v: nn.Parameter | None
        formula: nn.Module

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        formula: api.Formula | str | os.PathLike[str] = SOFTMAX,
        sizes: Mapping[str, int] | None = None,
        consts: Mapping[str, int | float] | None = None,
    ) -> None:
        super().__init__()
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ValueError(
                "MultiheadAttention: embed_dim must be a positive multiple of num_heads, "
                f"but embed_dim is {embed_dim} and num_heads is {num_heads}"
            )
        if dropout:
            raise ValueError(
                f"MultiheadAttention: dropout={dropout} would drop attention weights, which a formula need not have: "
                "pass 0.0, and put nn.Dropout behind the layer"
            )
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.dropout = 0.0
        self.batch_first = batch_first
        self.add_zero_attn = add_zero_attn

        joined = self.kdim == self.vdim == embed_dim
        shapes: dict[str, tuple[int, ...] | None] = {
            "in_proj_weight": (3 * embed_dim, embed_dim) if joined else None,
            "q_proj_weight": None if joined else (embed_dim, embed_dim),
            "k_proj_weight": None if joined else (embed_dim, self.kdim),
            "v_proj_weight": None if joined else (embed_dim, self.vdim),
            "in_proj_bias": (3 * embed_dim,) if bias else None,
            "bias_k": (1, 1, embed_dim) if add_bias_kv else None,
            "bias_v": (1, 1, embed_dim) if add_bias_kv else None,
        }
        for name, shape in shapes.items():
            empty = None if shape is None else nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
            self.register_parameter(name, empty)
        # In torch's order, so that one seed gives both layers the same parameters.
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias, device=device, dtype=dtype)
        self.reset_parameters()
        self._add_formula(formula, sizes or {}, consts, device, dtype)

    def _add_formula(
        self,
        formula: api.Formula | str | os.PathLike[str],
        sizes: Mapping[str, int],
        consts: Mapping[str, int | float] | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        report = api.check(formula)
        if not report.ok or report.formula is None or report.plan is None:
            errors = tuple(finding for finding in report.diagnostics if finding.severity is Severity.ERROR)
            raise FormulaError(errors, render_diagnostics(errors))
        heads = heads_of(report.formula)
        self.name = report.name
        self.causal = heads.causal
        self.gives_weights = heads.gives_weights
        self.takes_mask = bool(heads.mask)
        self.masks_queries = 2 in heads.mask
        self.mask_text = heads.mask_text
        # Dimensions of [samples, heads, queries, keys] that the mask lacks, those that are batch, its own.
        batch = [*range(heads.unnamed)]
        dropped = [dimension for dimension in range(4) if dimension not in (*batch, *heads.mask)]
        self.mask_order = [*dropped, *batch, *heads.mask]
        self.mask_dropped = len(dropped)
        self.mask_own = 4 - len(heads.mask)
        known = heads.sizes(self.num_heads, self.head_dim)
        for axis, size in sizes.items():
            if known.get(axis, size) != size:
                given = f"sizes gives {axis} = {size}, but embed_dim and num_heads give {known[axis]}"
                raise CompileError(f"{report.name}: {given}")
        self.formula = build(
            report.formula,
            report.plan,
            sizes={**known, **sizes},
            consts=consts,
            steps=report.steps,
            device=device,
            dtype=dtype,
        )

    def reset_parameters(self) -> None:
        """Draw the parameters of the layer itself again and set biases to 0, as torch does."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                nn.init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            nn.init.zeros_(self.in_proj_bias)
            nn.init.zeros_(self.out_proj.bias)
        if self.bias_k is not None and self.bias_v is not None:
            nn.init.xavier_normal_(self.bias_k)
            nn.init.xavier_normal_(self.bias_v)

    def extra_repr(self) -> str:
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, formula={self.name}"

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The output, in the layout of query, and the weights if they are needed, else None.

        query, key, value: [N, B, embed_dim], [M, B, kdim], [M, B, vdim], with B first if batch_first,
            without B for one sample.
        key_padding_mask: [B, M], or [M] for one sample; true where a key is padding.
        attn_mask: [N, M] or [B * num_heads, N, M]; true where a query must not look.
            Either mask may be of real numbers: 0 for false, -inf for true.
        need_weights: return the formula's second result too: its mean over heads, [B, N, M], or
            [B, num_heads, N, M] with average_attn_weights=False.
        is_causal: says that attn_mask is the causal mask. A formula that is proven causal needs none
            then; for another that takes a mask it is made where attn_mask is None.

        Errors: ValueError for what the formula cannot honour and for tensors that do not fit;
        RuntimeError for a mask of other numbers.
        """
        self._check_request(key_padding_mask, need_weights, attn_mask, is_causal)
        self._check_shapes(query, key, value)
        single = query.dim() == 2
        q, k, v = self._project(query, key, value)
        if self.takes_mask:
            visible = self._visible(q, k, key_padding_mask, attn_mask, is_causal)
            k, v = self._lengthen(k, v)
            found = self.formula(q=q, k=k, v=v, mask=self._mask(visible, q, k))
        else:
            k, v = self._lengthen(k, v)
            found = self.formula(q=q, k=k, v=v)
        weights: Tensor | None = None
        if self.gives_weights:
            heads, every = found
            if need_weights:
                every = every.expand(q.shape[:-1] + k.shape[-2:-1])
                if average_attn_weights:
                    every = every.mean(dim=1)
                weights = every.squeeze(0) if single else every
        else:
            heads = found
        # A formula that leaves all inputs out of account gives a result without batch.
        output = self.out_proj(heads.expand(q.shape).transpose(1, 2).flatten(-2))
        if single:
            return output.squeeze(0), weights
        return output if self.batch_first else output.transpose(0, 1), weights

    # -- queries, keys and values ----------------------------------------------------------------

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, num_heads, N or M, head_dim] of each; one product where they are one tensor."""
        if self.in_proj_weight is not None and query is key and key is value:
            q, k, v = functional.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
            return self._heads(q), self._heads(k), self._heads(v)
        if self.in_proj_weight is not None:
            weight_q, weight_k, weight_v = self.in_proj_weight.chunk(3)
        else:
            assert self.q_proj_weight is not None
            assert self.k_proj_weight is not None
            assert self.v_proj_weight is not None
            weight_q, weight_k, weight_v = self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
        bias_q: Tensor | None = None
        bias_k: Tensor | None = None
        bias_v: Tensor | None = None
        if self.in_proj_bias is not None:
            bias_q, bias_k, bias_v = self.in_proj_bias.chunk(3)
        return (
            self._heads(functional.linear(query, weight_q, bias_q)),
            self._heads(functional.linear(key, weight_k, bias_k)),
            self._heads(functional.linear(value, weight_v, bias_v)),
        )

    def _heads(self, x: Tensor) -> Tensor:
        """[B, num_heads, length, head_dim] of a projected tensor of either layout, or of one sample."""
        if x.dim() == 2:
            x = x.unsqueeze(0)
        elif not self.batch_first:
            x = x.transpose(0, 1)
        return torch.unflatten(x, -1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _lengthen(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """With the learned key and value, and those of zeros, behind the others."""
        size = (k.size(0), self.num_heads, 1, self.head_dim)
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.view(self.num_heads, 1, self.head_dim).expand(size)], dim=-2)
            v = torch.cat([v, self.bias_v.view(self.num_heads, 1, self.head_dim).expand(size)], dim=-2)
        if self.add_zero_attn:
            k, v = torch.cat([k, k.new_zeros(size)], dim=-2), torch.cat([v, v.new_zeros(size)], dim=-2)
        return k, v

    # -- masks -----------------------------------------------------------------------------------

    def _visible(
        self, q: Tensor, k: Tensor, key_padding_mask: Tensor | None, attn_mask: Tensor | None, is_causal: bool
    ) -> Tensor:
        """True where a query may look at a key of the call, [B or 1, num_heads or 1, N or 1, M]."""
        samples, queries, keys = q.size(0), q.size(-2), k.size(-2)
        visible = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=q.device).expand(1, 1, 1, keys)
        if attn_mask is not None and self.masks_queries:
            if attn_mask.dim() == 2:
                _check_mask("attn_mask", attn_mask, [queries, keys])
                visible = _shown("attn_mask", attn_mask).view(1, 1, queries, keys)
            else:
                _check_mask("attn_mask", attn_mask, [samples * self.num_heads, queries, keys])
                visible = _shown("attn_mask", attn_mask).view(samples, self.num_heads, queries, keys)
        elif is_causal and not self.causal:
            visible = torch.ones(queries, keys, dtype=torch.bool, device=q.device).tril().view(1, 1, queries, keys)
        if key_padding_mask is not None:
            if samples > 1 or key_padding_mask.dim() == 2:
                _check_mask("key_padding_mask", key_padding_mask, [samples, keys])
            else:
                _check_mask("key_padding_mask", key_padding_mask, [keys])
            visible = visible & _shown("key_padding_mask", key_padding_mask).view(samples, 1, 1, keys)
        return visible

    def _mask(self, visible: Tensor, q: Tensor, k: Tensor) -> Tensor:
        """The same with the axes that the formula declares for it, behind batch dimensions.

        visible: [B or 1, num_heads or 1, N or 1, keys of the call]; further keys are always seen.
        """
        further = k.size(-2) - visible.size(-1)
        if self.add_zero_attn or self.bias_k is not None:
            shape = visible.shape[:-1]
            visible = torch.cat([visible, visible.new_ones(shape[0], shape[1], shape[2], further)], dim=-1)
        full = [q.size(0), q.size(1), q.size(2), k.size(2)]
        names = ["samples", "heads", "queries", "keys"]
        for position, dimension in enumerate(self.mask_order):
            if position < self.mask_dropped and visible.size(dimension) != 1:
                raise ValueError(
                    f"MultiheadAttention: the mask differs between {names[dimension]}, "
                    f"but {self.name} declares {self.mask_text}"
                )
            if position >= self.mask_own:
                sizes = [-1, -1, -1, -1]
                sizes[dimension] = full[dimension]
                visible = visible.expand(sizes)
        return visible.permute(self.mask_order).flatten(0, self.mask_dropped)

    # -- what a formula cannot honour ------------------------------------------------------------

    def _check_request(
        self, key_padding_mask: Tensor | None, need_weights: bool, attn_mask: Tensor | None, is_causal: bool
    ) -> None:
        """Raise ValueError for what this formula cannot honour."""
        if need_weights and not self.gives_weights:
            raise ValueError(
                f"MultiheadAttention: need_weights=True, but {self.name} gives no weights: return them as a second "
                "result, `-> [N, E], [N, M]`, or pass need_weights=False"
            )
        if key_padding_mask is not None and not self.takes_mask:
            raise ValueError(
                f"MultiheadAttention: key_padding_mask is given, but {self.name} has no input for it: declare "
                "`mask[N, M] bool` or `mask[M] bool`, true where a query may look"
            )
        if not self.masks_queries and not (is_causal and self.causal):
            if is_causal:
                raise ValueError(
                    f"MultiheadAttention: is_causal=True, but {self.name} is not causal: use a causal formula, whose "
                    "`require causal` holds, or declare an input `mask[N, M] bool`, true where a query may look"
                )
            if attn_mask is not None:
                raise ValueError(
                    f"MultiheadAttention: attn_mask is given, but {self.name} has no input for it: declare "
                    "`mask[N, M] bool`, true where a query may look"
                )

    def _check_shapes(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Raise ValueError for inputs that are not those of attention; the formula checks the lengths."""
        if query.is_nested or key.is_nested or value.is_nested:
            raise ValueError(
                "MultiheadAttention: nested tensors are not supported: build nn.TransformerEncoder with "
                "enable_nested_tensor=False"
            )
        if query.dim() != 2 and query.dim() != 3:
            raise ValueError(f"MultiheadAttention: query must have 2 or 3 dimensions, but has {query.dim()}")
        if key.dim() != query.dim() or value.dim() != query.dim():
            raise ValueError(
                "MultiheadAttention: query, key and value must have as many dimensions, "
                f"but have {query.dim()}, {key.dim()} and {value.dim()}"
            )
        if query.size(-1) != self.embed_dim:
            raise ValueError(f"MultiheadAttention: query has width {query.size(-1)}, but embed_dim is {self.embed_dim}")
        if key.size(-1) != self.kdim:
            raise ValueError(f"MultiheadAttention: key has width {key.size(-1)}, but kdim is {self.kdim}")
        if value.size(-1) != self.vdim:
            raise ValueError(f"MultiheadAttention: value has width {value.size(-1)}, but vdim is {self.vdim}")
        if query.dim() == 3:
            axis = 0 if self.batch_first else 1
            if key.size(axis) != query.size(axis) or value.size(axis) != query.size(axis):
                raise ValueError(
                    "MultiheadAttention: query, key and value must have one batch size, "
                    f"but have {query.size(axis)}, {key.size(axis)} and {value.size(axis)} on dimension {axis}"
                )


def _check_mask(name: str, mask: Tensor, shape: list[int]) -> None:
    """Raise ValueError for another shape."""
    found: list[int] = list(mask.shape)
    if found != shape:
        raise ValueError(f"MultiheadAttention: {name} must have shape {shape}, but has {found}")


def _shown(name: str, mask: Tensor) -> Tensor:
    """True where a mask of torch hides nothing.

    The layers of torch.nn turn bool masks into real ones before they pass them on.
    """
    if mask.dtype == torch.bool:
        return mask.logical_not()
    if not mask.is_floating_point():
        raise ValueError(f"MultiheadAttention: {name} must be a bool or floating-point tensor, but is {mask.dtype}")
    shown = mask == 0
    # Neither waits for the device nor is a branch that a compiler would stop at.
    torch._assert_async(
        (shown | (mask == -math.inf)).all(),
        f"MultiheadAttention: {name} must hold 0 and -inf only: a formula takes it as true and false",
    )
    return shown
