"""The checks of a state that `step` is given: how many tensors, and of which shapes."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from .. import pyast
from ..graph import Node
from ..recurrence import Recurrence
from ..sizes import Poly
from . import sizes as size_code
from .layout import Line
from .messages import raise_if
from .settle import SizePlan

HELPER = "fits"


def state_length(name: str, state: ast.expr, count: int) -> list[Line]:
    """Statements that raise where a state is no list, or has another number of tensors. name: of the formula."""
    either = pyast.tuple_of([pyast.name("list"), pyast.name("tuple")])
    alien = ast.UnaryOp(ast.Not(), pyast.call("isinstance", state, either))
    length = pyast.call("len", state)
    plural = "tensor" if count == 1 else "tensors"
    text = f"{name}: a state of `init_state` or `step` has {count} {plural}, this one has "
    return [
        raise_if(alien, f"{name}: a state is a list of tensors, not ", pyast.call("type", state), error="TypeError"),
        raise_if(pyast.binary("!=", length, count), text, length),
    ]


def state_shapes(
    name: str,
    found: Recurrence,
    state: ast.expr,
    plan: SizePlan,
    inputs: Mapping[Node, ast.expr],
    attributes: Mapping[str, ast.expr],
) -> list[Line]:
    """Statements that raise ValueError where a tensor of a state is not what an earlier step hands on.

    An empty tensor is what was before the first position. Numbers of positions are not looked at: they grow with the
    sequence, at most up to a constant.
    inputs, attributes: the expressions of the inputs, and of the sizes that the module holds.
    """
    references = {axis: held for axis, held in attributes.items() if axis not in plan.constants}
    growing = {*found.axes, *found.sizes, found.start}
    for axis, (node, dimension) in plan.sources.items():
        if axis not in growing:
            references[axis] = pyast.method(inputs[node], "size", dimension)
    shapes = [tensor.shape for _, tensors in found.carried() for tensor in tensors]
    items = [ast.Subscript(state, ast.Constant(index), ast.Load()) for index in range(len(shapes))]
    pairs = zip(items, shapes, strict=True)
    return [_fits(f"{name}: {ast.unparse(item)}", shape, item, references) for item, shape in pairs if shape]


def _fits(subject: str, shape: tuple[Poly, ...], held: ast.expr, references: Mapping[str, ast.expr]) -> Line:
    sizes: list[ast.expr] = []
    for size in shape:
        number = size.as_number()  # others than 1 count positions
        told = number in (None, 1) and size.symbols() <= references.keys() and size_code.is_rational(size)
        sizes.append(size_code.whole(size, references.__getitem__).expression if told else pyast.constant(-1))
    wanted = ", ".join(("...", *map(str, shape)))
    actual = pyast.call("list", ast.Attribute(held, "shape", ast.Load()))
    fits = pyast.call(HELPER, held, ast.List(sizes, ast.Load()))
    return raise_if(ast.UnaryOp(ast.Not(), fits), f"{subject} must be [{wanted}] for these inputs, but is ", actual)
