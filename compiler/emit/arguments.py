"""Sizes and constants that the user gives, completed by facts: the arguments of the constructor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction

from .. import initial
from ..errors import CompileError
from ..formula import Formula
from ..ops.arithmetic import FloorDivide, Modulo
from ..ops.leaves import Size
from ..sizes import Number, Poly, SizeError, solve
from ..types import Kind
from .settle import SizePlan

LARGEST = 2**63 - 1  # what sizes are computed in
HOLDS: Mapping[str, Callable[[float, float], bool]] = {
    "=": lambda a, b: a == b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
}


def constructor_arguments(
    formula: Formula,
    plan: SizePlan,
    sizes: Mapping[str, int] | None = None,
    consts: Mapping[str, int | float] | None = None,
) -> tuple[dict[str, int], dict[str, int | float]]:
    """All sizes that can be known, and all constants.

    sizes: sizes of axes by name; any axis may be given, and facts such as `C = H*D` complete them.
    consts: values that override defaults; a default that is an int takes ints only.
    Errors: CompileError that lists every problem.
    """
    constants, problems = _constants(formula, consts or {})
    problems += _divisions(formula, constants)
    known, wrong = _given(formula, plan, sizes or {})
    problems += wrong
    if not problems:
        problems += complete(formula, known, constants)
        if not problems:
            problems += [_missing(formula, axis) for axis in plan.given if axis not in known]
            problems += [_too_large("size of", axis, size) for axis, size in known.items() if size > LARGEST]
    if problems:
        raise CompileError(_message(formula.name, problems))
    return known, constants


def idle_sizes(
    formula: Formula, plan: SizePlan, sizes: Mapping[str, int], consts: Mapping[str, int | float] | None = None
) -> list[str]:
    """Of the given sizes those that no argument of the constructor depends on: inputs bring them at every call.

    Errors: CompileError, as for `constructor_arguments`.
    """
    known, _ = constructor_arguments(formula, plan, sizes, consts)
    idle = []
    for name in sizes:
        if name in plan.given:
            continue
        others = {other: size for other, size in sizes.items() if other != name}
        try:
            found, _ = constructor_arguments(formula, plan, others, consts)
        except CompileError:
            continue
        if all(found.get(axis) == known.get(axis) for axis in (*plan.given, *plan.settled)):
            idle.append(name)
    return idle


def _message(name: str, problems: list[str]) -> str:
    if len(problems) == 1:
        return f"{name}: {problems[0]}"
    return f"{name} cannot be built:\n" + "\n".join(f"  - {problem}" for problem in problems)


def _constants(formula: Formula, consts: Mapping[str, int | float]) -> tuple[dict[str, int | float], list[str]]:
    values = dict(formula.constants)
    axes = {*formula.fixed, *formula.bound, *formula.derived}
    problems = []
    for name, value in consts.items():
        if name not in values:
            problems.append(
                f"`{name}` is an axis: give its size in sizes" if name in axes else _suggest(name, values, "constant")
            )
        elif isinstance(value, bool) or not isinstance(value, int | float):
            problems.append(f"the constant {name} must be a number, not {value!r}")
        elif isinstance(values[name], int) and not isinstance(value, int):
            problems.append(f"the constant {name} must be an int, as its default {values[name]} is, not {value!r}")
        elif value != value:
            problems.append(f"the constant {name} is not a number")
        elif isinstance(value, int) and abs(value) > LARGEST:
            problems.append(_too_large("constant", name, value))
        else:
            values[name] = value
    return values, problems


def _divisions(formula: Formula, constants: Mapping[str, int | float]) -> list[str]:
    """Divisions of ints by a constant that is 0, which no value stands for."""
    problems = []
    for node in formula.graph.nodes():
        if not isinstance(node.op, FloorDivide | Modulo) or node.type.kind is not Kind.INT:
            continue
        divisor = node.inputs[1].op
        if not isinstance(divisor, Size) or not divisor.size.symbols() <= constants.keys():
            continue
        if not divisor.size.evaluate(constants):
            span = formula.origins.get(node)
            text = "a division" if span is None else f"`{formula.source.slice(span)}`"
            given = ", ".join(f"{name} = {constants[name]}" for name in sorted(divisor.size.symbols()))
            problems.append(f"{text} divides by 0 for {given}")
    return list(dict.fromkeys(problems))


def _given(formula: Formula, plan: SizePlan, sizes: Mapping[str, int]) -> tuple[dict[str, int], list[str]]:
    axes = [*formula.fixed, *formula.bound, *formula.derived, *plan.settled]
    known: dict[str, int] = {}
    problems = []
    for name, value in sizes.items():
        if name in formula.constants:
            problems.append(f"`{name}` is a constant: give its value in consts")
        elif name not in axes:
            problems.append(_suggest(name, axes, "axis"))
        elif isinstance(value, bool) or not isinstance(value, int):
            problems.append(f"the size of {name} must be an int, not {value!r}")
        elif value < 1:
            problems.append(f"the size of {name} must be at least 1, not {value}")
        else:
            known[name] = value
    return known, problems


def _too_large(what: str, name: str, value: int) -> str:
    return f"the {what} {name} must fit 64 bits, but is {value:.3g}"


def _suggest(name: str, known: Iterable[str], what: str) -> str:
    from ..scope import did_you_mean

    names = list(dict.fromkeys(known))
    listed = ", ".join(names) or "none"
    hint = did_you_mean(name, names) or f"it has {listed}"
    return f"there is no {what} `{name}`; {hint}"


def complete(formula: Formula, known: dict[str, int], constants: Mapping[str, int | float]) -> list[str]:
    """Add every size that follows from equations. Returns what contradicts them."""
    numbers: dict[str, Poly] = {
        name: Poly.constant(Fraction(value)) for name, value in constants.items() if abs(value) != float("inf")
    }
    equations = [(r.left, r.right) for r in formula.relations if r.relation == "="]
    equations += [(Poly.symbol(axis), size) for axis, size in formula.derived.items()]
    changed = True
    while changed:
        changed = False
        values = {**numbers, **{axis: Poly.constant(size) for axis, size in known.items()}}
        for left, right in equations:
            unknown = (left.symbols() | right.symbols()) - values.keys()
            if len(unknown) != 1:
                continue
            [name] = unknown
            found = _solve(left, right, name, values)
            if found is None:
                continue
            if not isinstance(found, int) or found < 1:
                given = _values((left.symbols() | right.symbols()) - {name}, known, constants)
                shown = found if isinstance(found, int) else float(found)
                return [f"{left} = {right} gives {name} = {shown} for {given}, which is no size"]
            known[name] = found
            changed = True
            break
    return [
        f"{r.left} {r.relation} {r.right} does not hold for "
        f"{_values(r.left.symbols() | r.right.symbols(), known, constants)}"
        for r in formula.relations
        if (r.left.symbols() | r.right.symbols()) <= {*known, *constants}
        and not HOLDS[r.relation](*(side.evaluate({**known, **constants}) for side in (r.left, r.right)))
    ]


def _solve(left: Poly, right: Poly, name: str, values: Mapping[str, Poly]) -> Number | None:
    try:
        value = solve((left - right).substitute(values), name)
    except SizeError:
        return None
    return value.as_number() if value is not None else None


def _values(names: frozenset[str], known: Mapping[str, int], constants: Mapping[str, int | float]) -> str:
    values = {**constants, **known}
    return ", ".join(f"{name} = {values[name]}" for name in sorted(names))


def _missing(formula: Formula, axis: str) -> str:
    stored = (*formula.parameters, *formula.buffers)
    readers = {f"{each.node.op} [{', '.join(each.node.axes)}]": each for each in stored}
    needs = [name for name, each in readers.items() if axis in each.node.axes]
    needs += [f"the initial value of {name}" for name, each in readers.items() if axis in initial.sizes(each.initial)]
    return f"the size of {axis} is missing, which {needs[0]} needs: pass sizes={{'{axis}': ...}}"
