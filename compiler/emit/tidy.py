"""Single-assignment statements as a person would write them: short ones in place, idioms, names, `del`."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Sequence

from .. import pyast
from ..graph import Node
from .body import Statement
from .inplace import owns
from .names import Names

#: A statement takes an inner one in as long as it stays this short (without indentation).
_READABLE = 84


def inline(statements: Sequence[Statement], results: list[ast.expr]) -> tuple[list[Statement], tuple[str, ...]]:
    """Write every value that is used once, has no name of its own and stays readable, into its use.

    results: the returned expressions; they are uses too, and are replaced in the list.
    Returns the statements that are left, and the comments of those that went into the results.
    """
    _in_place(statements, results)
    for statement in statements:
        statement.value = idiomatic(statement.value)
    results[:] = [idiomatic(result) for result in results]
    uses = Counter(name for code in (*(s.value for s in statements), *results) for name in _names(code))
    waiting: dict[str, Statement] = {}
    kept: list[Statement] = []
    for statement in statements:
        _absorb(statement, waiting, len(statement.name) + 3)
        if not any(uses[name] for name in statement.names) and not statement.pinned:
            continue
        single = uses[statement.name] == 1 and not statement.pinned
        if single or _is_atomic(statement.value):
            waiting[statement.name] = statement
        kept.append(statement)
    last = Statement("return", "return", ast.Tuple(results, ast.Load()), pinned=True)
    _absorb(last, waiting, len("return "))
    assert isinstance(last.value, ast.Tuple)
    results[:] = last.value.elts
    used = {name for code in (*(s.value for s in kept), *results) for name in _names(code)}
    return [s for s in kept if not used.isdisjoint(s.names)], last.comments


def _in_place(statements: Sequence[Statement], results: Sequence[ast.expr]) -> None:
    """Make values in the memory of others that nothing else reads, and that have no name of their own."""
    uses = Counter(name for code in (*(s.value for s in statements), *results) for name in _names(code))
    made = {statement.name: statement for statement in statements if not (statement.pinned or statement.lasts)}
    for statement in statements:
        if statement.changing is not None:
            code, name = statement.changing
            if uses[name] == 1 and name in made and owns(made[name].value):
                statement.value = code


def _absorb(statement: Statement, waiting: dict[str, Statement], prefix: int) -> None:
    """Substitute waiting definitions into a statement while it stays readable."""
    for name in list(dict.fromkeys(_names(statement.value))):
        inner = waiting.get(name)
        if inner is None:
            continue
        candidate = idiomatic(replace(statement.value, {name: inner.value}))
        if _is_atomic(inner.value) or prefix + len(ast.unparse(candidate)) <= _READABLE:
            statement.value = candidate
            statement.comments = (*inner.comments, *statement.comments)
            inner.comments = ()


def _is_atomic(code: ast.expr) -> bool:
    return isinstance(code, ast.Name | ast.Constant) or (
        isinstance(code, ast.Attribute) and isinstance(code.value, ast.Name)
    )


def rename(statements: Sequence[Statement], results: list[ast.expr], names: Names) -> None:
    """Give the statements their final names, in order."""
    final: dict[str, ast.expr] = {}
    for statement in statements:
        statement.value = replace(statement.value, final)
        wanted = [(statement.name, statement.wanted), *statement.others]
        taken = [names.take(name) for _, name in wanted]
        final |= {placeholder: pyast.name(name) for (placeholder, _), name in zip(wanted, taken, strict=True)}
        statement.name, *others = taken
        statement.others = tuple((name, name) for name in others)
    results[:] = [replace(result, final) for result in results]


def release(
    statements: Sequence[Statement], results: Sequence[ast.expr], is_large: Callable[[Node], bool]
) -> dict[int, list[str]]:
    """Per statement, the large values that are dead after it while another large one is yet to come.

    A local variable would keep them allocated until the method returns.
    """
    last = {name: index for index, s in enumerate(statements) for name in _names(s.value)}
    last |= {name: len(statements) for result in results for name in _names(result)}
    large = [i for i, s in enumerate(statements) if s.node is not None and is_large(s.node)]
    dead: dict[int, list[str]] = {}
    for index in large:
        end = last.get(statements[index].name, index)
        if any(later > end for later in large):
            dead.setdefault(end, []).append(statements[index].name)
    return dead


def names_in(*codes: ast.expr) -> frozenset[str]:
    """Every variable that expressions read."""
    return frozenset(name for code in codes for name in _names(code))


def _names(code: ast.expr) -> list[str]:
    return [node.id for node in ast.walk(code) if isinstance(node, ast.Name)]


class _Replace(ast.NodeTransformer):
    def __init__(self, values: dict[str, ast.expr]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.values.get(node.id, node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """As the base class, on a copy: expressions are shared between statements."""
        changed = {}
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                changed[name] = [self.visit(item) if isinstance(item, ast.AST) else item for item in value]
            elif isinstance(value, ast.AST):
                changed[name] = self.visit(value)
            else:
                changed[name] = value
        return type(node)(**changed)


def replace(code: ast.expr, values: dict[str, ast.expr]) -> ast.expr:
    """The expression with names replaced by expressions."""
    result = _Replace(values).visit(code)
    assert isinstance(result, ast.expr)
    return result


class _Idioms(_Replace):
    """`a @ b` for `torch.matmul(a, b)`, `nn.functional` for `torch.nn.functional`, x for x transposed twice."""

    def __init__(self) -> None:
        super().__init__({})

    def visit_Call(self, node: ast.Call) -> ast.AST:
        copy = self.generic_visit(node)
        assert isinstance(copy, ast.Call)
        if ast.unparse(copy.func) == "torch.matmul" and len(copy.args) == 2 and not copy.keywords:
            return pyast.binary("@", *copy.args)
        match copy:
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Call(func=ast.Attribute(value=original, attr="transpose"), args=before), attr="transpose"
                ),
                args=after,
            ) if [*map(ast.dump, before)] == [*map(ast.dump, after)]:
                return original
        return copy

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and (node.value.id, node.attr) == ("torch", "nn"):
            return pyast.name("nn")
        return self.generic_visit(node)


def idiomatic(code: ast.expr) -> ast.expr:
    result = _Idioms().visit(code)
    assert isinstance(result, ast.expr)
    return result
