"""Complex numbers as pairs of real ones, for runtimes that have no complex tensors.

A program is run through once more, on pairs, and what that does is recorded as a program again. Where they come in and
go out, real and imaginary part lie along a last dimension of two. Complex tensors are left before and after a Fourier
transform, and as parameters: these are what exporters can write with that dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from ..errors import CompileError

aten = torch.ops.aten


@dataclass(frozen=True)
class Pair:
    """The real and the imaginary parts of a complex tensor: two tensors of its shape."""

    real: Any
    imaginary: Any


def has_complex(program: ExportedProgram) -> bool:
    """Whether any value of a program is complex."""
    return any(_is_complex(node) for node in program.graph.nodes)


class Pairs(nn.Module):
    """A module that computes what a program does, with real numbers. Complex inputs and results have one more
    dimension, the last, for the real and the imaginary part.

    program: of core operations of torch (`run_decompositions`).
    """

    def __init__(self, program: ExportedProgram) -> None:
        super().__init__()
        self.program = program.module(check_guards=False)

    def forward(self, *inputs: Tensor) -> Any:
        return walked(self.program, *inputs)


def walked(graph: fx.GraphModule, *inputs: Tensor) -> Any:
    """What a graph of core operations computes, as `Pairs`."""
    return _Walk(graph).run(*inputs)


class _Walk(fx.Interpreter):
    """Computes a program with pairs in place of its complex values."""

    def run_node(self, node: fx.Node) -> Any:
        if node.op == "output":
            return fx.map_arg(node.args[0], lambda each: laid_out(self.env[each]))
        if node.op in ("placeholder", "get_attr"):
            found = super().run_node(node)
            if not _is_complex(node):
                return found
            return Pair(*found.unbind(-1)) if node.op == "placeholder" else _pair(found)
        if not _is_complex(node) and not any(_is_complex(each) for each in node.all_input_nodes):
            return super().run_node(node)
        function = REAL_FORMS.get(getattr(node.target, "overloadpacket", node.target))
        if function is None:
            name = str(getattr(node.target, "overloadpacket", node.target))
            raise CompileError(f"ONNX has no complex numbers, and {name} of them has no form in real ones here")
        args, kwargs = self.fetch_args_kwargs_from_env(node)
        return function(*args, **kwargs)


def _is_complex(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return any(
        isinstance(x, Tensor) and x.is_complex() for x in (value if isinstance(value, list | tuple) else [value])
    )


def _pair(x: Tensor) -> Pair:
    parts = torch.view_as_real(x)
    return Pair(parts.select(-1, 0), parts.select(-1, 1))


def laid_out(x: Any) -> Any:
    """A pair, or a complex tensor, as one real tensor with one more dimension."""
    if isinstance(x, Pair):
        return torch.stack((x.real, x.imaginary), -1)
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def _whole(x: Pair) -> Tensor:
    return torch.view_as_complex(laid_out(x))


def _parts(x: Any) -> tuple[Any, Any]:
    """Of anything: real tensors and numbers have the imaginary part 0."""
    if isinstance(x, Tensor):
        return x, torch.zeros_like(x)
    return (x.real, x.imaginary) if isinstance(x, Pair) else (x.real, x.imag)


def _is_real(x: Any) -> bool:
    return not isinstance(x, Pair | complex)


# -- what each part goes through by itself -----------------------------------------------------------


def _alike(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Operations that take one tensor and move, copy or add up its elements."""

    def computed(x: Pair, *args: Any, **kwargs: Any) -> Any:
        real, imaginary = (operation(part, *args, **kwargs) for part in (x.real, x.imaginary))
        if isinstance(real, Tensor):
            return Pair(real, imaginary)
        return [Pair(*each) for each in zip(real, imaginary, strict=True)]

    return computed


def _every(operation: Callable[..., Any], *places: int) -> Callable[..., Any]:
    """The same for several tensors, the arguments at these places; real ones have the imaginary part 0."""

    def computed(*args: Any, **kwargs: Any) -> Pair:
        sides = [[_parts(arg)[side] if place in places else arg for place, arg in enumerate(args)] for side in (0, 1)]
        return Pair(*(operation(*each, **kwargs) for each in sides))

    return computed


def _end_to_end(tensors: Sequence[Any], dim: int = 0) -> Pair:
    return Pair(*(torch.cat(parts, dim) for parts in zip(*map(_parts, tensors), strict=True)))


def _converted(x: Any, dtype: torch.dtype | None = None, **options: Any) -> Any:
    kind = None if dtype is None else dtype.to_real()
    if dtype is not None and not dtype.is_complex:
        return x.real.to(kind)
    return Pair(*(part if kind is None else part.to(kind) for part in _parts(x)))


def _filled(size: Sequence[Any], value: complex, dtype: torch.dtype | None = None, **options: Any) -> Pair:
    kind = (dtype or torch.get_default_dtype()).to_real()
    return Pair(*(torch.full(size, part, dtype=kind, device=options.get("device")) for part in _parts(value)))


def _filled_like(x: Any, value: complex, *, dtype: torch.dtype | None = None, **options: Any) -> Any:
    like = _parts(x)[0]
    if dtype is not None and not dtype.is_complex:
        return torch.full_like(like, value, dtype=dtype)
    return Pair(*(torch.full_like(like, part, dtype=dtype and dtype.to_real()) for part in _parts(value)))


def _number(value: complex, **options: Any) -> Pair:
    return _filled((), value, **options)


# -- arithmetic ----------------------------------------------------------------------------------------


def _add(x: Any, y: Any, *, alpha: Any = 1) -> Pair:
    if alpha != 1:
        y = _times(y, alpha)
    return Pair(*(torch.add(a, b) for a, b in zip(_as_wide(x, y), _as_wide(y, x), strict=True)))


def _as_wide(x: Any, other: Any) -> tuple[Tensor, Tensor]:
    """The parts of one summand as tensors."""
    like = next(part for each in (x, other) for part in _parts(each) if isinstance(part, Tensor))
    real, imaginary = _parts(x)
    if not isinstance(real, Tensor):  # a number takes the dtype of the tensors
        kind = like.dtype if like.is_floating_point() else torch.get_default_dtype()
        real, imaginary = (torch.scalar_tensor(part, dtype=kind, device=like.device) for part in (real, imaginary))
    return real, imaginary


def _subtract(x: Any, y: Any, *, alpha: Any = 1) -> Pair:
    return _add(x, _times(y, -alpha))


def _negative(x: Any) -> Any:
    return Pair(-x.real, -x.imaginary) if isinstance(x, Pair) else -x


def _bilinear(operation: Callable[..., Any]) -> Callable[..., Pair]:
    """Products: linear in each of the first two arguments."""

    def computed(x: Any, y: Any, *args: Any, **kwargs: Any) -> Pair:
        if _is_real(x):
            return Pair(*(operation(x, part, *args, **kwargs) for part in _parts(y)))
        if _is_real(y):
            return Pair(*(operation(part, y, *args, **kwargs) for part in _parts(x)))
        (a, b), (c, d) = _parts(x), _parts(y)
        real = operation(a, c, *args, **kwargs) - operation(b, d, *args, **kwargs)
        return Pair(real, operation(a, d, *args, **kwargs) + operation(b, c, *args, **kwargs))

    return computed


_times = _bilinear(lambda x, y: x * y)


def _reciprocal(x: Pair) -> Pair:
    """Divided by the larger part first, whose square may be too large or too small."""
    largest = torch.maximum(x.real.abs(), x.imaginary.abs())
    largest = torch.where(largest == 0, 1.0, largest)
    a, b = x.real / largest, x.imaginary / largest
    size = (a * a + b * b) * largest
    return Pair(a / size, -b / size)


def _divide(x: Any, y: Any) -> Pair:
    if _is_real(y):
        return Pair(*(part / y for part in _parts(x)))
    if isinstance(y, complex):
        return _times(x, 1 / y)
    return _times(x, _reciprocal(y))


def _magnitude(x: Pair) -> Tensor:
    """As for `_reciprocal`."""
    a, b = x.real.abs(), x.imaginary.abs()
    largest = torch.maximum(a, b)
    scale = torch.where((largest == 0) | torch.isinf(largest), 1.0, largest)
    return largest * torch.sqrt(torch.square(a / scale) + torch.square(b / scale))


def _angle(x: Pair) -> Tensor:
    """From the axis of real numbers; the size of the real part, as it may be a negative 0."""
    a, b = x.real, x.imaginary
    near = torch.where(b == 0, 0.0, torch.atan(b / torch.where(b == 0, 1.0, a.abs())))
    half_turn = torch.full_like(b, math.pi)
    return torch.where(a < 0, torch.where(b < 0, -half_turn, half_turn) - near, near)


def _exponential(x: Pair) -> Pair:
    size = torch.exp(x.real)
    return Pair(size * torch.cos(x.imaginary), size * torch.sin(x.imaginary))


def _logarithm(x: Pair) -> Pair:
    return Pair(torch.log(_magnitude(x)), _angle(x))


def _root(x: Pair) -> Pair:
    half = torch.sqrt((_magnitude(x) + x.real.abs()) / 2)
    other = torch.where(half == 0, 0.0, x.imaginary.abs() / (2 * torch.where(half == 0, 1.0, half)))
    side = torch.where(x.imaginary < 0, -torch.ones_like(half), 1.0)
    right = x.real >= 0
    return Pair(torch.where(right, half, other), side * torch.where(right, other, half))


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(exponent, int | float) and float(exponent).is_integer() and isinstance(base, Pair):
        return _repeated(base, int(exponent))
    if _is_real(base) and not isinstance(base, Tensor):
        return _exponential(_times(exponent, math.log(base))) if base > 0 else _power(complex(base), exponent)
    if not isinstance(base, Pair):
        like = exponent.real
        a, b = _parts(base)
        base = Pair(*(part if isinstance(part, Tensor) else torch.full_like(like, part) for part in (a, b)))
    result = _exponential(_times(exponent, _logarithm(base)))
    nothing = (base.real == 0) & (base.imaginary == 0)
    none = _parts(exponent)
    one = torch.where(torch.as_tensor((none[0] == 0) & (none[1] == 0)), torch.ones_like(result.real), 0.0)
    return Pair(torch.where(nothing, one, result.real), torch.where(nothing, 0.0, result.imaginary))


def _repeated(base: Pair, times: int) -> Pair:
    if times < 0:
        return _repeated(_reciprocal(base), -times)
    if times == 0:
        return Pair(torch.ones_like(base.real), torch.zeros_like(base.real))
    if times == 1:
        return base
    half = _repeated(base, times // 2)
    square = _times(half, half)
    return square if times % 2 == 0 else _times(square, base)


def _sine(x: Pair) -> Pair:
    up, down = torch.exp(x.imaginary) / 2, torch.exp(-x.imaginary) / 2
    return Pair(torch.sin(x.real) * (up + down), torch.cos(x.real) * (up - down))


def _cosine(x: Pair) -> Pair:
    up, down = torch.exp(x.imaginary) / 2, torch.exp(-x.imaginary) / 2
    return Pair(torch.cos(x.real) * (up + down), -torch.sin(x.real) * (up - down))


def _tangent(x: Pair) -> Pair:
    return _divide(_sine(x), _cosine(x))


def _product(x: Pair, *args: Any, **options: Any) -> Pair:
    """Sizes multiplied, angles added up."""
    size, angle = torch.prod(_magnitude(x), *args, **options), torch.sum(_angle(x), *args, **options)
    return Pair(size * torch.cos(angle), size * torch.sin(angle))


def _norm(x: Pair, *args: Any, **options: Any) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(_magnitude(x), *args, **options)
    return found


def _equal(x: Any, y: Any) -> Tensor:
    (a, b), (c, d) = _parts(x), _parts(y)
    return torch.as_tensor(a == c) & torch.as_tensor(b == d)


# -- Fourier transforms: the places where complex tensors remain ---------------------------------------
# Only forward ones: onnxruntime 1.31 divides by the length in single precision where it transforms back.


def _spectrum(x: Tensor, *args: Any) -> Pair:
    return _pair(aten._fft_r2c.default(x, *args))


def _transform(x: Any, dims: Sequence[int], normalization: int, forward: bool) -> Pair:
    """Back is forth with the imaginary parts of both sides negated."""
    real, imaginary = _parts(x)
    side = 1 if forward else -1
    made = _pair(aten._fft_c2c.default(_whole(Pair(real, side * imaginary)), dims, normalization, True))
    return Pair(made.real, side * made.imaginary)


def _of_spectrum(x: Pair, dims: Sequence[int], normalization: int, length: Any) -> Tensor:
    """Frequencies stand for their negatives too, all but 0 and half the length."""
    [dim] = dims
    dim %= x.real.dim()
    count = x.real.size(dim)
    frequency = torch.arange(count, device=x.real.device)
    times = torch.where((frequency == 0) | (2 * frequency == length), 1.0, 2.0).to(x.real.dtype)
    behind = x.real.dim() - 1 - dim
    times = times.reshape([-1] + [1] * behind)
    padding = [0, 0] * behind + [0, length - count]
    padded = (torch.nn.functional.pad(part * times, padding) for part in (x.real, x.imaginary))
    found: Tensor = _transform(Pair(*padded), [dim], normalization, False).real
    return found


_ALIKE = (
    "view _unsafe_view reshape expand permute transpose t unsqueeze squeeze slice select index index_select gather "
    "flip roll constant_pad_nd sum mean cumsum clone alias detach repeat split split_with_sizes unbind diagonal unfold"
)
REAL_FORMS: Mapping[Any, Callable[..., Any]] = {
    **{getattr(aten, name): _alike(getattr(aten, name)) for name in _ALIKE.split()},
    aten.cat: _end_to_end,
    aten.where: _every(aten.where, 1, 2),
    aten.masked_fill: _every(aten.masked_fill, 0, 2),
    aten.scatter_add: _every(aten.scatter_add, 0, 3),
    aten.index_add: _every(aten.index_add, 0, 3),
    aten.index_put: _every(aten.index_put, 0, 2),
    aten._to_copy: _converted,
    aten.full: _filled,
    aten.full_like: _filled_like,
    aten.scalar_tensor: _number,
    aten._assert_tensor_metadata: lambda *args, **options: None,
    aten.sym_size: lambda x, dim: aten.sym_size.int(x.real, dim),
    aten.real: lambda x: x.real,
    aten.imag: lambda x: x.imaginary,
    aten.view_as_real: laid_out,
    aten.complex: lambda x, y: Pair(*torch.broadcast_tensors(x, y)),  # type: ignore[no-untyped-call]
    aten.conj: lambda x: Pair(x.real, -x.imaginary),
    aten._conj: lambda x: Pair(x.real, -x.imaginary),
    aten._conj_physical: lambda x: Pair(x.real, -x.imaginary),
    aten.conj_physical: lambda x: Pair(x.real, -x.imaginary),
    aten.resolve_conj: lambda x: x,
    aten.neg: _negative,
    aten.add: _add,
    aten.sub: _subtract,
    aten.rsub: lambda x, y, alpha=1: _subtract(y, x, alpha=alpha),
    aten.mul: _times,
    aten.mm: _bilinear(torch.mm),
    aten.bmm: _bilinear(torch.bmm),
    aten.div: _divide,
    aten.reciprocal: _reciprocal,
    aten.prod: _product,
    aten.linalg_vector_norm: _norm,
    aten.abs: _magnitude,
    aten.angle: _angle,
    aten.exp: _exponential,
    aten.log: _logarithm,
    aten.sqrt: _root,
    aten.pow: _power,
    aten.sin: _sine,
    aten.cos: _cosine,
    aten.tan: _tangent,
    aten.eq: _equal,
    aten.ne: lambda x, y: ~_equal(x, y),
    aten._fft_r2c: _spectrum,
    aten._fft_c2r: _of_spectrum,
    aten._fft_c2c: _transform,
}
