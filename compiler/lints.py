"""What is legal and still looks like a mistake: unused names, axes that appear once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ..grammar import ast
from ..grammar.diagnostics import Severity
from .scope import Scope

MANY_AXES = 50  # among so many every name resembles another


def check(scope: Scope, used: set[str], complete: bool) -> None:
    """Warn of declared things that nothing reads.

    complete: the body has a return statement; without one everything is unused and only that is said.
    In a formula with errors, what looks unused may stand in the part that could not be read.
    """
    faulty = any(problem.severity is Severity.ERROR for problem in scope.problems)
    if complete and not faulty:
        _unused(scope, used)
    _lonely_axes(scope)


def _unused(scope: Scope, used: set[str]) -> None:
    tree = scope.tree
    for tensor in tree.inputs:
        if tensor.name in scope.tensors and tensor.name not in used:
            scope.problem("AG501", tensor.span, name=tensor.name, formula=tree.name)
    _unused_names(scope, used, tree.statements)


def _unused_names(scope: Scope, used: set[str], statements: Iterable[ast.Statement]) -> None:
    for statement in statements:
        match statement:
            case ast.Scan(_, body):
                states = {tensor.name for line in body if isinstance(line, ast.State) for tensor in line.tensors}
                _unused_names(scope, used | states, body)
                _states(scope, used, body)
            case ast.Yield(name) if name not in used:
                scope.problem("AG502", statement.name_span, name=name, what="yielded value")
            case ast.Param(tensors) | ast.Buffer(tensors):
                what = "parameter" if isinstance(statement, ast.Param) else "buffer"
                for tensor in tensors:
                    if tensor.name not in used:
                        scope.problem("AG502", tensor.span, name=tensor.name, what=what)
            case ast.Const(bindings):
                for binding in bindings:
                    if binding.name not in {*scope.used_constants, *scope.axes, *used}:
                        scope.problem("AG502", binding.span, name=binding.name, what="constant")
            case ast.Assign(name):
                if name not in used:
                    scope.problem("AG502", statement.name_span, name=name, what="name")
            case ast.Function(name):
                if name not in used:
                    scope.problem("AG502", statement.name_span, name=name, what="function")


def _states(scope: Scope, used: set[str], body: Iterable[ast.Statement]) -> None:
    updated = {line.name for line in body if isinstance(line, ast.Assign)}
    for tensor in (tensor for line in body if isinstance(line, ast.State) for tensor in line.tensors):
        if tensor.name not in used:
            scope.problem("AG502", tensor.name_span, name=tensor.name, what="state")
        elif tensor.name not in updated:
            scope.problem("AG508", tensor.name_span, name=tensor.name)


def _lonely_axes(scope: Scope) -> None:
    """An axis that appears once and is spelled almost like another is probably that other."""
    others = [axis for axis in scope.axes if scope.axis_uses.get(axis, 0) > 1]
    if len(others) > MANY_AXES:
        return
    for axis, span in scope.axes.items():
        if scope.axis_uses.get(axis, 0) > 1:
            continue
        folded = [other for other in others if other.lower() == axis.lower()]
        near = folded or (difflib.get_close_matches(axis, others, n=1, cutoff=0.75) if len(axis) > 2 else [])
        if near:
            scope.problem("AG505", span, axis=axis, other=near[0])
