"""What rounding may do to computed values: evaluation in which every rounded result is moved at random.

Stochastic arithmetic (Vignes, Math. Comput. Simul. 1993; Parker, Monte Carlo arithmetic, 1997; Verificarlo, 2016): a
digit that changes from one such run to the next was made by rounding. A result that is exact stays, so that
comparisons of exact values decide as they did. What has overflowed or become 0 by underflow is a large or a tiny
number in every other run, so that what comes of it is seen to depend on the range of the format.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

RUNS = 8
FEW = 2  # runs where values are large
LARGE = 200_000  # elements
STEP = 2.0**-52  # at least twice the rounding of one operation, relative; sums of many terms are moved term by term
NEAR = 4e-15  # rounded values that are so near may be equal
HUGE, TINY, LEAST = 1e306, 1e-280, 2.3e-308
_SPLIT = 134217729.0  # 2^27 + 1, which halves a float64 (Dekker, Numer. Math. 1971)
_BITS, _MOST = 16.0, 4096.0  # numbers k / 16 below 4096: their products add up exactly, a million of them

#: what only moves or chooses numbers, or makes whole ones
_EXACT = frozenset({
    "abs", "alias", "amax", "amin", "aminmax", "arange", "argmax", "argmin", "argsort", "as_strided", "bitwise_and",
    "bitwise_not", "bitwise_or", "cat", "ceil", "clamp", "clamp_max", "clamp_min", "clone", "constant_pad_nd",
    "copy_", "cummax", "cummin", "detach", "diagonal", "diagonal_copy", "empty", "empty_like", "eye", "fill",
    "fill_", "flip", "floor", "floor_divide", "full", "full_like", "gather", "index", "index_put", "index_put_",
    "index_select", "isnan", "isinf", "kthvalue", "lift_fresh", "lift_fresh_copy", "masked_fill", "masked_fill_",
    "max", "maximum", "min", "minimum", "neg", "new_empty", "new_full", "new_ones", "new_zeros", "ones",
    "ones_like", "permute", "relu", "relu_", "repeat", "roll", "round", "scalar_tensor", "scatter",
    "select_backward", "select_scatter", "sgn", "sign", "slice_scatter", "sort", "stack", "topk", "tril", "triu",
    "trunc", "unfold", "unfold_copy", "where", "zero_", "zeros", "zeros_like", "max_pool1d", "max_pool2d",
    "max_pool2d_with_indices", "adaptive_max_pool2d", "reflection_pad1d", "reflection_pad2d", "replication_pad1d",
    "replication_pad2d", "pixel_shuffle", "real", "imag", "_conj", "complex", "view_as_real", "view_as_complex",
    "_reshape_alias", "_unsafe_view"
})  # fmt: skip
_PRODUCTS = frozenset({"sum", "mm", "bmm", "dot", "mv", "cumsum", "index_add", "scatter_add", "addmm", "baddbmm"})
#: functions of single elements that have poles, and whether an element stands at one
_POLES: Mapping[str, Callable[..., Tensor]] = {
    "div": lambda x, y: y == 0,
    "reciprocal": lambda x: x == 0,
    "rsqrt": lambda x: x == 0,
    "log": lambda x: x == 0,
    "log2": lambda x: x == 0,
    "log10": lambda x: x == 0,
    "log1p": lambda x: x == -1,
    "atanh": lambda x: x.abs() == 1,
    "pow": lambda x, y: x == 0,
}
#: comparisons for equality, and what they say of equal values
_EQUAL: Mapping[str, bool] = {"eq": True, "ne": False}
#: functions of single elements that are 0 for finite numbers only because the format ends
_NEVER_ZERO = frozenset({"exp", "exp2", "sigmoid", "_softmax", "softmax", "reciprocal", "rsqrt", "cosh"})


def samples(run: Callable[[], list[Tensor] | None], seed: int = 0) -> Iterator[list[Tensor] | None]:
    """The results of several runs, moved by rounding; None where a run fails."""
    wanted = RUNS
    for number in range(RUNS):
        moved = _Moved(open_range=number % 2 == 1)
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed * RUNS + number)
            with moved:
                result = run()
        yield result
        wanted = FEW if moved.largest > LARGE else wanted
        if number + 1 >= wanted:
            return


def explained(value: Tensor, other: Tensor) -> Tensor:
    """How far rounding moved each element; infinite where it decides whether there is a finite value at all."""
    if not _is_float(value):
        return (other != value).to(torch.float64)
    apart = (other - value).abs()
    same = (other == value) | (torch.isnan(other.abs()) & torch.isnan(value.abs()))
    finite = torch.isfinite(value) & torch.isfinite(other)
    return torch.where(finite, apart.to(torch.float64), torch.where(same, 0.0, math.inf))


class _Moved(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Moves what operations of torch round. open_range: whether overflow and underflow give numbers."""

    def __init__(self, *, open_range: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.open_range = open_range
        self.largest = 0  # elements of a value

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]
        plain = name.rstrip("_") if name not in _EXACT else name
        if plain in _EQUAL and self.open_range:
            return _nearly(func(*args, **kwargs), args, _EQUAL[plain])
        if plain in _EXACT or func.is_view or not _floats(args):
            return func(*args, **kwargs)
        pointwise = torch.Tag.pointwise in func.tags
        before = [each.clone() if each is args[0] and name != plain else each for each in _floats(args)]
        if not pointwise and not (plain in _PRODUCTS and _short(before)):
            first = 1 if name != plain else 0  # what is written to is no operand
            args = (*args[:first], *tree_map(_moved_if_float, args[first:]))
        result = func(*args, **kwargs)
        self.largest = max(self.largest, *(each.numel() for each in before))
        if plain in _PRODUCTS and _short(before):
            return result

        def settle(value: object) -> object:
            if not isinstance(value, Tensor) or not _is_float(value):
                return value
            known = pointwise and not value.is_complex() and value.numel() < LARGE
            exact = _exactly(plain, before, args, value) if known else None
            moved = _moved(value) if exact is None else torch.where(exact, value, _moved(value))
            if self.open_range and not value.is_complex():
                moved = _opened(plain, before, args, moved, pointwise)
            return value.copy_(moved) if name != plain else moved

        return tree_map(settle, result)


def _nearly(result: Tensor, args: Sequence[Any], equal: bool) -> Tensor:
    """What a comparison for equality says if values that differ in the last digits are the same."""
    if not all(isinstance(a, Tensor) and a.is_floating_point() for a in args):
        return result
    x, y = args
    near = (x - y).abs() <= NEAR * torch.maximum(x.abs(), y.abs())
    return torch.where(near, equal, result)


def _is_float(value: Tensor) -> bool:
    return value.is_floating_point() or value.is_complex()


def _floats(args: object) -> list[Tensor]:
    found: list[Tensor] = []

    def visit(value: object) -> object:
        if isinstance(value, Tensor) and _is_float(value):
            found.append(value)
        return value

    tree_map(visit, args)
    return found


def _moved(value: Tensor) -> Tensor:
    """Each element times a number near 1."""
    if value.is_complex():
        return torch.complex(value.real + _noise(value.abs()), value.imag + _noise(value.abs()))
    return torch.where(torch.isfinite(value), value + _noise(value), value)


def _noise(size: Tensor) -> Tensor:
    """One to three steps up or down: never none, so that no digit seems certain by chance."""
    step = STEP if size.dtype == torch.float64 else 2.0**-23
    by = torch.rand(size.shape, dtype=size.dtype).mul_(4).sub_(2)
    return by.add_(torch.sign(by)).mul_(size).mul_(step)


def _moved_if_float(value: object) -> object:
    return _moved(value) if isinstance(value, Tensor) and _is_float(value) else value


def _short(operands: Sequence[Tensor]) -> bool:
    """Whether all numbers have so few digits that sums of products are exact."""
    return all(
        not each.is_complex() and bool(((each.abs() < _MOST) & (each * _BITS == (each * _BITS).round())).all())
        for each in operands
    )


def _exactly(name: str, operands: Sequence[Tensor], args: Sequence[Any], result: Tensor) -> Tensor | None:
    """Where the result of an operation on single elements is not rounded; None where nobody knows."""
    numbers = _arguments(name, operands, args)
    match name, numbers:
        case ("add" | "sub" | "rsub"), [x, y]:
            if name == "rsub":
                x, y = y, x
            other = result - x
            y = y if name == "add" else -y
            return (x - (result - other)) + (y - other) == 0
        case "mul", [x, y]:
            return _lost(x, y, result) == 0
        case "square", [x]:
            return _lost(x, x, result) == 0
        case "div", [x, y]:
            return (result * y == x) & (_lost(result, y, x) == 0)
        case "sqrt", [x]:
            return (result * result == x) & (_lost(result, result, x) == 0)
        case "pow", [x, y]:
            small = (y == y.round()) & (y >= 0) & (y <= 3) & torch.tensor(_short([x]))
            whole = (x == x.round()) & (y == y.round()) & (y >= 0) & (result.abs() < 2.0**53)
            return whole | small | (y == 1) | (y == 0)
        case ("exp" | "cos" | "cosh"), [x]:
            return (x == 0) | ~torch.isfinite(x)
        case ("log", [x]):
            return x == 1
    return result == 0 if name not in _NEVER_ZERO else None


def _arguments(name: str, operands: Sequence[Tensor], args: Sequence[Any]) -> list[Tensor]:
    """The operands of arithmetic on two values, of which one may be a number."""
    if name not in {"add", "sub", "rsub", "mul", "div", "pow"} or len(args) != 2:
        return list(operands) if len(args) == 1 else []
    like = operands[0]
    rest = list(operands)
    return [
        rest.pop(0) if isinstance(a, Tensor) and _is_float(a) else torch.as_tensor(a, dtype=like.dtype) for a in args
    ]


def _lost(x: Tensor, y: Tensor, product: Tensor) -> Tensor:
    """x * y - product, exact unless something overflows; not a number then."""
    (a, b), (c, d) = _halves(x), _halves(y)
    return ((a * c - product) + a * d + b * c) + b * d + torch.where(product.abs() < TINY, product, 0.0)


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    wide = x * _SPLIT
    high = wide - (wide - x)
    return high, x - high


def _opened(name: str, operands: Sequence[Tensor], args: Sequence[Any], result: Tensor, pointwise: bool) -> Tensor:
    """The result with large numbers for what has overflowed, and tiny ones for what is too small for the format."""
    shaped = pointwise or name in _NEVER_ZERO
    numbers = (_arguments(name, operands, args) or list(operands)) if shaped else []
    if numbers:
        finite = torch.isfinite(numbers[0])
        filled = numbers[0] != 0
        for other in numbers[1:]:
            finite = finite & torch.isfinite(other)
            filled = filled & (other != 0)
        over = torch.isinf(result) & finite
        pole = _POLES.get(name)
        if pole is not None and len(numbers) == (2 if name in {"div", "pow"} else 1):
            over = over & ~pole(*numbers)
        under = torch.zeros_like(over)
        if name in {"mul", "div", "square", "pow"}:
            under = finite & filled & (result.abs() < LEAST)
        elif name in _NEVER_ZERO:
            under = finite & (result.abs() < LEAST)
    else:
        least = min((_smallest(each) for each in operands), default=1.0)
        over = torch.isinf(result) & all(bool(torch.isfinite(each).all()) for each in operands)
        under = (result.abs() < TINY) & (least * least < TINY)
    for place, size in ((over, HUGE), (under, TINY)):
        if bool(place.any()):
            number = size * (0.5 + torch.rand(result.shape, dtype=result.dtype))
            result = torch.where(place, torch.copysign(number, result), result)
    return result


def _smallest(value: Tensor) -> float:
    """The smallest magnitude other than 0."""
    sizes = value.abs()
    return sizes[sizes > 0].min().item() if bool((sizes > 0).any()) else 1.0
