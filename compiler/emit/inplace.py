"""Values that are made for one use are changed where they are, which saves memory to write and to clear.

Only by numbers and by functions of one value: vmap cannot write what is batched to what is not. Never what the gradient
of its maker reads, as that of an exponential does, and never by what autocast widens, as it does no function in place.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from .. import pyast
from ..ops.arithmetic import Add, Divide, Multiply, Subtract
from ..ops.base import Op, Operand
from ..ops.functions import Relu, Sigmoid, Tanh
from ..types import Kind, Type

_BY_NUMBER: dict[type[Op], str] = {Add: "add_", Subtract: "sub_", Multiply: "mul_", Divide: "div_"}
_FUNCTIONS: dict[type[Op], str] = {Relu: "relu_", Sigmoid: "sigmoid_", Tanh: "tanh_"}

#: What makes a tensor of its own, which its gradient does not read.
_MAKERS = frozenset({
    "torch.matmul", "torch.cos", "torch.sin", "torch.log", "torch.log1p", "torch.square",
    "torch.nn.functional.elu", "torch.nn.functional.silu", "torch.nn.functional.gelu",
    "torch.nn.functional.softplus", "torch.nn.functional.logsigmoid",
})  # fmt: skip
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.MatMult)


def changed(op: Op, result: Type, operands: Sequence[Operand], fixed: Sequence[bool]) -> ast.Call | None:
    """Python that makes the result of an operand, by a method that writes to it; None where there is none.

    fixed: which operands are made of positions and sizes only.
    """
    given = [*zip(operands, fixed, strict=True)]
    if type(op) in _FUNCTIONS and _is_of(*given[0], result):
        return pyast.method(operands[0].expression, _FUNCTIONS[type(op)])
    if type(op) not in _BY_NUMBER:
        return None
    for x, y in (given, given[::-1]) if op.commutative else (given,):
        if _is_of(*x, result) and _is_number(*y):
            return pyast.method(x[0].expression, _BY_NUMBER[type(op)], y[0].expression)
    return None


def _is_of(x: Operand, fixed: bool, result: Type) -> bool:
    """Whether an operand is a real tensor over the axes of the result, and has a name."""
    named = isinstance(x.expression, ast.Name) and not (x.number or x.lasts or fixed)
    return named and x.type.kind is result.kind is Kind.REAL and x.type.axes == result.axes


def _is_number(y: Operand, fixed: bool) -> bool:
    """Whether an operand is a number, or a tensor of one that is made of sizes only."""
    return y.type.kind in (Kind.REAL, Kind.INT) and not y.type.axes and (y.number or fixed)


def owns(code: ast.expr) -> bool:
    """Whether an expression makes a tensor of its own, which its gradient does not read."""
    match code:
        case ast.BinOp(op=operator):
            return isinstance(operator, _OPERATORS)
        case ast.Call(func=ast.Attribute(attr=method)) if method in _BY_NUMBER.values():
            return True
        case ast.Call(func=function):
            return ast.unparse(function) in _MAKERS
    return False
