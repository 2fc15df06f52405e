"""Every example in half precision, and its gradients where inputs lose what tells them apart."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor

from .cases import EXAMPLES
from .test_examples import FORMULAS, Call, _prepare

#: Relative to the largest value: what the rounding of inputs, parameters and values on the way makes of a result.
CLOSE = {torch.bfloat16: 0.06, torch.float16: 0.01}
#: Where rounding decides: values beyond the range of half precision, squares that round to 0, keys that are chosen, a
#: denominator near 0.
ROUNDED = {"mg_vcycle", "mgno_layer", "fod_rbf_target", "sparsifiner_attention", "taylor_attention_appendix"}
#: A standard deviation, or a sum of weights, that is 0: the value is 0 by decree, and its slope is not defined.
FLAT = {"attnzero_105", "attnzero_34", "quadrature_attention"}


def _call(name: str) -> Call:
    example = EXAMPLES[name]
    index = min(1, len(example.bases) - 1)
    return _prepare(name, example.bases[index], example.consts[index % len(example.consts)])


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.detach().to(dtype) if x.is_floating_point() else x


@pytest.mark.parametrize("name", FORMULAS)
def test_numbers(name: str) -> None:
    call = _call(name)
    if name not in ROUNDED and not any(x.is_complex() for x in (*call.inputs, *call.stored.values())):
        _check_half(call, torch.bfloat16)
        _check_half(call, torch.float16)
    if name not in FLAT:
        _check_gradients(call)


def _check_half(call: Call, dtype: torch.dtype) -> None:
    """Type and value are those of the same rounded inputs and parameters in double precision."""
    half = deepcopy(call.module).to(dtype)
    exact = deepcopy(half).double()
    inputs = [_cast(x, dtype) for x in call.inputs]
    with torch.no_grad():
        actual, expected = half(*inputs), exact(*(_cast(x, torch.float64) for x in inputs))
    if not expected.is_complex():
        assert actual.dtype == (dtype if expected.is_floating_point() else expected.dtype)
    limit = CLOSE[dtype] * expected.abs().max().item()
    torch.testing.assert_close(actual.to(expected.dtype), expected, rtol=0.0, atol=limit)


def _check_gradients(call: Call) -> None:
    """Finite for zero tokens, equal tokens and one zero token, where the values are."""
    for change in (torch.Tensor.zero_, torch.ones_like, _with_a_zero_token):
        inputs = [change(x.detach().clone()).requires_grad_() if x.is_floating_point() else x for x in call.inputs]
        out = call.module(*inputs)
        if not out.requires_grad or not torch.isfinite(out).all():
            continue
        real = [x for x in (*inputs, *call.module.parameters()) if x.requires_grad]
        for gradient in torch.autograd.grad(out.abs().sum(), real, allow_unused=True):
            assert gradient is None or torch.isfinite(gradient).all(), change.__name__


def _with_a_zero_token(x: Tensor) -> Tensor:
    if x.dim() > 1:
        x.select(-2, 0).zero_()
    return x


@pytest.mark.parametrize("name", ["fbnet_ir_block", "gated_cnn", "causal_linear_attention", "softmax_attention"])
def test_autocast(name: str) -> None:
    """Operations that autocast does not know, as a convolution of any rank, take operands of both precisions."""
    call = _call(name)
    module = deepcopy(call.module).float()
    inputs = [_cast(x, torch.float32) for x in call.inputs]
    with torch.no_grad():
        expected = module(*inputs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            actual = module(*inputs)
    limit = CLOSE[torch.bfloat16] * expected.abs().max().item()
    torch.testing.assert_close(actual.float(), expected, rtol=0.0, atol=limit)
