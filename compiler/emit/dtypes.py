"""Expressions of dtypes that follow from another one."""

from __future__ import annotations

import ast

from .. import pyast


def wide_dtype(real: ast.expr) -> ast.expr:
    """That of values which depend on positions and sizes only, beside inputs of a dtype."""
    return _by_precision(real, "torch.float64", "torch.float32")


def complex_dtype(real: ast.expr) -> ast.expr:
    """The complex dtype beside a real one."""
    return _by_precision(real, "torch.complex128", "torch.complex64")


def _by_precision(real: ast.expr, double: str, single: str) -> ast.expr:
    test = pyast.binary("==", real, pyast.name("torch.float64"))
    return pyast.conditional(test, pyast.name(double), pyast.name(single))
