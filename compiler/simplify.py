"""Simplification of a formula: rules applied to its graph, the result as text of the language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..grammar import ast
from ..grammar.source import Span
from .errors import CompileError
from .formula import Formula
from .graph import Graph, Node
from .ops.base import Leaf
from .ops.leaves import Literal, Size
from .ops.logic import Greater, GreaterEqual, Less, LessEqual
from .render import number as number_expression
from .render import sides
from .report import Step
from .rewrite import Rewrite, Rewritten, rewrite
from .rules.rule import Knowledge
from .scope import did_you_mean
from .sizes import ZERO, Facts, Truth
from .structure import Affine, affine
from .types import Kind
from .unparse import unparse

MAX_SEARCHED = 64  # values below one that the text does not have


@dataclass(frozen=True)
class Simplification:
    """A formula's graph after simplification, over the same nodes, and every step that led there.

    formula: the formula as it was, with the constants that were fixed.
    """

    formula: Formula
    graph: Graph
    steps: tuple[Step, ...]
    rewrites: tuple[Rewrite, ...]

    @property
    def text(self) -> str:
        """The formula in the language."""
        return unparse(self.formula, self.graph)


def simplify(
    formula: Formula, *, guards: bool = False, consts: Mapping[str, int | float] | None = None
) -> Simplification:
    """The formula's graph with every rule applied that can be, until none can.

    guards: also apply rules that change values where an epsilon or a clamp acts, or where NaN or infinity appears.
        Without them no finite value changes beyond rounding.
    consts: constants that are fixed. Of the others nothing is assumed, so that they can still be overridden.
    """
    formula = with_constants(formula, consts) if consts else formula
    known = Knowledge(frozenset(formula.constants), lambda narrow, wide: implied(narrow, wide, formula.facts))
    found = rewrite(formula.graph.outputs, formula.builder, known, guards=guards)
    names: dict[Node, str] = {}
    for node, name in formula.graph.names.items():
        new = found.became.get(node, node)
        if new is node or not isinstance(new.op, Leaf):
            names.setdefault(new, name)
    inner = {found.became.get(node, node): name for node, name in formula.inner_names.items()}
    formula = replace(formula, inner_names=inner)
    return Simplification(formula, Graph(found.outputs, names), _steps(formula, found), found.trace)


def with_constants(formula: Formula, consts: Mapping[str, int | float]) -> Formula:
    """The formula with numbers for some of its constants, which stay the defaults where a size needs them.

    Errors: CompileError for a name that is no constant, or a number of the wrong kind.
    """
    for name, value in consts.items():
        if name not in formula.constants:
            known = did_you_mean(name, formula.constants) or "it has " + (", ".join(formula.constants) or "none")
            raise CompileError(f"{formula.name} has no constant `{name}`; {known}")
        if isinstance(formula.constants[name], int) and not isinstance(value, int):
            raise CompileError(f"the constant `{name}` of {formula.name} is a whole number, not {value}")
    made: dict[Node, Node] = {}
    for node in formula.graph.nodes():
        constant = node.op.size.as_symbol() if isinstance(node.op, Size) else None
        op = node.op
        if constant is not None and constant in consts:
            value = consts[constant]
            op = Literal(value if node.type.kind is Kind.INT else float(value))
        made[node] = formula.builder.make(op, *(made[operand] for operand in node.inputs))
    names = {made[node]: name for node, name in formula.graph.names.items() if node in made}
    origins = {made.get(node, node): span for node, span in formula.origins.items()}
    return replace(
        formula,
        graph=Graph(tuple(made[output] for output in formula.graph.outputs), names),
        tree=replace(formula.tree, statements=tuple(_rebound(s, consts) for s in formula.tree.statements)),
        constants={**formula.constants, **consts},
        origins=origins,
        inner_names={made.get(node, node): name for node, name in formula.inner_names.items()},
    )


def _rebound(statement: ast.Statement, consts: Mapping[str, int | float]) -> ast.Statement:
    """A const line with other defaults."""
    if not isinstance(statement, ast.Const):
        return statement
    bindings = (
        replace(binding, value=number_expression(consts[binding.name])) if binding.name in consts else binding
        for binding in statement.bindings
    )
    return replace(statement, bindings=tuple(bindings))


def _steps(formula: Formula, found: Rewritten) -> tuple[Step, ...]:
    """The trace in words. A value that a rule made has the place and the name of the value that it replaced."""
    places, names = dict(formula.origins), dict(formula.graph.names)
    for new in found.came:
        old: Node | None = found.came[new]
        for _ in range(MAX_SEARCHED):
            if old is None or old in formula.origins:
                break
            old = found.came.get(old)
        if old is None:
            continue
        if old in formula.origins:
            places.setdefault(new, formula.origins[old])
        if old in formula.graph.names and not isinstance(new.op, Leaf):
            names.setdefault(new, formula.graph.names[old])
    steps = []
    for one in found.trace:
        span = _place(one.before, places) or formula.tree.name_span
        why = one.why if one.guard is None else f"{one.why}; the values differ {one.guard}"
        steps.append(Step(one.rule, span, why, sides(one.before, one.after, names)))
    return tuple(steps)


def _place(node: Node, places: Mapping[Node, Span]) -> Span | None:
    """Where the text has the value; of a value that it does not have, the nearest operand that it has."""
    queue = [node]
    for one in queue:
        if one in places:
            return places[one]
        if len(queue) < MAX_SEARCHED:
            queue.extend(one.inputs)
    return None


def implied(narrow: Node, wide: Node, facts: Facts) -> bool:
    """Whether one comparison of positions holds only where the other does."""
    one, other = _at_least_zero(narrow), _at_least_zero(wide)
    if one is None or other is None or one.positions != other.positions:
        return False
    return facts.at_least(other.offset - one.offset, ZERO) is Truth.YES


def _at_least_zero(condition: Node) -> Affine | None:
    """The whole number that is >= 0 exactly where the condition holds."""
    op = condition.op
    if not isinstance(op, Greater | GreaterEqual | Less | LessEqual):
        return None
    left, right = (affine(operand) for operand in condition.inputs)
    if left is None or right is None:
        return None
    form = left.minus(right) if isinstance(op, Greater | GreaterEqual) else right.minus(left)
    if not form.offset.is_integral() or any(not isinstance(c, int) for c in form.positions.values()):
        return None
    return Affine(form.positions, form.offset - 1) if isinstance(op, Greater | Less) else form
