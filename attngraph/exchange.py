"""A graph as JSON text and back: for other programs, and to keep a graph exactly.

    {"format": "attngraph graph", "version": 1,
     "nodes": [{"op": "Input", "attributes": {"name": "q", "kind": "real", "axes": ["N", "D"]},
                "inputs": [], "type": {"kind": "real", "axes": ["N", "D"], "batched": true}, "name": "q"}, ...],
     "outputs": [7]}

Nodes are listed operands first and refer to each other by their place in the list. `type` is not needed to read a
graph; where it is present it is compared with what the operation infers. A size is a list of terms
`{"coefficient": "1/2", "powers": [["N", 2], ...]}`; an opaque function of sizes stands for a name as
`{"function": "floor", "arguments": [size]}`. Numbers that JSON lacks are `{"number": "inf"}`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from enum import Enum
from fractions import Fraction
from functools import cache

from .compiler.graph import Builder, Graph, GraphTooLarge, Node
from .compiler.ops import OPS
from .compiler.ops.base import Op, Reject
from .compiler.ops.leaves import Declared
from .compiler.scan import Argument, Part, Region, Scan, part_of
from .compiler.sizes import Atom, Monomial, Number, Poly, SizeError
from .compiler.types import Type
from .grammar.parser import MAX_SCANS

FORMAT, VERSION = "attngraph graph", 1
MAX_CHARACTERS = 20_000_000
_FUNCTIONS = ("floor", "ceil", "log", "max", "min", "sqrt", "quotient")


class GraphFormatError(ValueError):
    """A text that is not a graph; the message says where and why."""


# -- writing ---------------------------------------------------------------------------------------------------


def to_json(graph: Graph) -> str:
    """The graph as text that `from_json` reads back to a graph of equal digest and names."""
    nodes = graph.nodes()
    number = {node: index for index, node in enumerate(nodes)}
    data = {
        "format": FORMAT, "version": VERSION, "nodes": _listed(nodes, graph.names),
        "outputs": [number[node] for node in graph.outputs],
    }  # fmt: skip
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def _listed(nodes: list[Node], names: Mapping[Node, str]) -> list[dict[str, object]]:
    number = {node: index for index, node in enumerate(nodes)}
    return [
        {
            "op": type(node.op).__name__,
            "attributes": {f.name: _encoded(getattr(node.op, f.name), names) for f in dataclasses.fields(node.op)},
            "inputs": [number[operand] for operand in node.inputs],
            "type": _type(node.type),
            "name": names.get(node),
        }
        for node in nodes
    ]


def _step(step: Region, names: Mapping[Node, str]) -> dict[str, object]:
    """The graph of a step: its own list of nodes, the arguments first."""
    nodes = list(dict.fromkeys((*step.arguments, *step.nodes())))
    listed = _listed(nodes, names)
    return {"nodes": listed, "arguments": len(step.arguments), "results": [nodes.index(node) for node in step.results]}


def _type(type_: Type) -> dict[str, object]:
    return {"kind": type_.kind.value, "axes": list(type_.axes), "batched": type_.batched}


def _encoded(value: object, names: Mapping[Node, str] | None = None) -> object:
    if isinstance(value, Region):
        return _step(value, names or {})
    if isinstance(value, Poly):
        return [{"coefficient": str(c), "powers": [[_atom(a), p] for a, p in m]} for m, c in value.terms.items()]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_encoded(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"an attribute of type {type(value).__name__} has no JSON form")


def _atom(atom: str) -> object:
    if isinstance(atom, Atom):
        return {"function": atom.function, "arguments": [_encoded(argument) for argument in atom.arguments]}
    return atom


# -- reading ---------------------------------------------------------------------------------------------------


def from_json(text: str) -> Graph:
    """The graph of a text. Every field is checked; nothing in the text is run. Errors: GraphFormatError."""
    if len(text) > MAX_CHARACTERS:
        raise GraphFormatError(f"the text has {len(text)} characters; the limit is {MAX_CHARACTERS}")
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise GraphFormatError(f"not JSON: {error}") from error
    except RecursionError as error:
        raise GraphFormatError("the JSON is nested too deeply") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise GraphFormatError(f'not a graph: `"format": "{FORMAT}"` is missing')
    if data.get("version") != VERSION:
        raise GraphFormatError(f"version {data.get('version')!r} is not known; this program reads version {VERSION}")
    nodes = _list(data.get("nodes"), "nodes")
    outputs = _list(data.get("outputs"), "outputs")
    reader = _Reader(Builder(), {})
    made = reader.nodes(nodes, "")
    return Graph(tuple(made[_index(output, made, "outputs")] for output in outputs), reader.names)


@dataclasses.dataclass
class _Reader:
    """Makes nodes of what was read. depth: of the step that is being read, inside others."""

    builder: Builder
    names: dict[Node, str]
    depth: int = 0

    def nodes(self, items: list[object], where: str) -> list[Node]:
        made: list[Node] = []
        for index, item in enumerate(items):
            place = f"{where}node {index}"
            if not isinstance(item, dict):
                raise GraphFormatError(f"{place}: must be an object")
            node = _node(self, item, made, place)
            made.append(node)
            name = item.get("name")
            if isinstance(name, str):
                self.names[node] = name
            elif name is not None:
                raise GraphFormatError(f"{place}: `name` must be text or null")
        return made

    def step(self, value: object, place: str) -> Region:
        if not isinstance(value, dict):
            raise GraphFormatError(f"{place}: must be an object with `nodes`, `arguments` and `results`")
        if self.depth >= MAX_SCANS:
            raise GraphFormatError(f"{place}: more than {MAX_SCANS} steps inside each other")
        self.depth += 1
        made = self.nodes(_list(value.get("nodes"), f"{place}: nodes"), f"{place}: ")
        self.depth -= 1
        count = value.get("arguments")
        if type(count) is not int or not 0 <= count <= len(made):
            raise GraphFormatError(f"{place}: `arguments` must be the number of the nodes that are arguments")
        arguments = made[:count]
        if {node for node in made if isinstance(node.op, Argument)} != set(arguments) or len(set(arguments)) < count:
            raise GraphFormatError(f"{place}: the arguments of a step are its first nodes, each once")
        if any(isinstance(node.op, Declared) for node in made):
            raise GraphFormatError(f"{place}: a step reads its arguments only")
        results = _list(value.get("results"), f"{place}: results")
        return Region(tuple(arguments), tuple(made[_index(i, made, f"{place}: results")] for i in results))


def _node(reader: _Reader, item: Mapping[str, object], made: list[Node], place: str) -> Node:
    builder, op = reader.builder, _op(reader, item, place)
    operands = [made[_index(i, made, f"{place}: inputs")] for i in _list(item.get("inputs"), f"{place}: inputs")]
    _check_arity(op, len(operands), place)
    try:
        node = builder.make(op, *operands)
    except Reject as error:
        raise GraphFormatError(f"{place}: {type(op).__name__} cannot take these operands ({error.code})") from error
    except GraphTooLarge as error:
        raise GraphFormatError(f"there are {error}") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError) as error:
        raise GraphFormatError(f"{place}: {type(op).__name__} does not fit its operands ({error})") from error
    sources = (*operands, *op.inside())  # a step may make axes of its own
    known = {axis for source in sources for axis in source.axes} | {*op.new_axes(), *_texts(op)}
    if isinstance(op, Part):
        scan = operands[0].op
        if not isinstance(scan, Scan) or not 0 <= op.index < len(scan.step.results) or part_of(scan, op.index) != op:
            raise GraphFormatError(f"{place}: there is no such part of a scan")
        known |= {scan.axis, *scan.step.results[op.index].axes}
    if len(set(node.axes)) < len(node.axes) or not known >= set(node.axes):
        raise GraphFormatError(f"{place}: the axes {list(node.axes)} do not follow from the operands")
    stated = item.get("type")
    if stated is not None and stated != _type(node.type):
        raise GraphFormatError(f"{place}: the type is stated as {stated}, but it is {_type(node.type)}")
    return node


def _texts(op: Op) -> set[str]:
    """Every name in the fields of an operation: an axis that no operand has must be one of them."""
    values = [getattr(op, f.name) for f in dataclasses.fields(op)]
    single = {value for value in values if isinstance(value, str)}
    return single | {item for value in values if isinstance(value, tuple) for item in value if isinstance(item, str)}


def _check_arity(op: Op, given: int, place: str) -> None:
    least, most = len(op.operands), len(op.operands) + len(op.optional)
    if not op.variadic and op.family != "lowerings" and not least <= given <= most:
        raise GraphFormatError(f"{place}: {type(op).__name__} takes {least} operands, not {given}")


@cache
def _fields(name: str) -> Mapping[str, object]:
    """The types of the fields of an operation, by its class name."""
    op = _operations()[name]
    hints = typing.get_type_hints(op)
    return {f.name: hints[f.name] for f in dataclasses.fields(op)}


@cache
def _operations() -> Mapping[str, type[Op]]:
    """Every operation of a formula, and those that only plans have, by class name."""
    from .compiler import plan  # with these it names every lowering
    from .compiler.lowerings import fla, flex, memory

    assert fla.__package__ == flex.__package__ == memory.__package__

    package = f"{plan.__package__}.lowerings."
    found, classes = {op.__name__: op for op in (*OPS, Argument, Scan, Part)}, [Op]
    while classes:
        below = classes.pop().__subclasses__()
        found |= {op.__name__: op for op in below if op.__module__.startswith(package)}
        classes += below
    return found


def _op(reader: _Reader, item: Mapping[str, object], place: str) -> Op:
    by_name = _operations()
    name = item.get("op")
    if not isinstance(name, str) or name not in by_name:
        from .settings import suggest

        raise GraphFormatError(f"{place}: there is no operation {name!r}; {suggest(str(name), by_name)}")
    kind = by_name[name]
    given = item.get("attributes", {})
    if not isinstance(given, dict):
        raise GraphFormatError(f"{place}: `attributes` must be an object")
    hints = _fields(name)
    for key in given:
        if key not in hints:
            raise GraphFormatError(f"{place}: {name} has no attribute `{key}`")
    required = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING]
    for key in required:
        if key not in given:
            raise GraphFormatError(f"{place}: {name} needs the attribute `{key}`")
    values = {
        key: reader.step(value, f"{place}: {name}.{key}")
        if hints[key] is Region
        else _decoded(value, hints[key], f"{place}: {name}.{key}")
        for key, value in given.items()
    }
    if kind is Scan and any(isinstance(value, int) and value < 0 for value in values.values()):
        raise GraphFormatError(f"{place}: a count is negative")
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:
        raise GraphFormatError(f"{place}: {name}: {error}") from error


def _decoded(value: object, hint: object, place: str) -> object:
    """The value as a field of this type. Errors: GraphFormatError."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        for choice in sorted((c for c in arguments if c is not type(None)), key=lambda c: c is float):
            try:
                return _decoded(value, choice, place)
            except GraphFormatError:
                continue
    elif origin is tuple and isinstance(value, list):
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_decoded(item, arguments[0], place) for item in value)
        if len(arguments) == len(value):
            return tuple(_decoded(item, each, place) for item, each in zip(value, arguments, strict=True))
    elif hint is Poly:
        return _poly(value, place)
    elif hint is float and isinstance(value, dict) and value.get("number") in ("inf", "-inf", "nan"):
        return float(value["number"])
    elif hint in (float, int, str, bool) and type(value) is hint:
        return value
    elif isinstance(hint, type) and issubclass(hint, Enum) and value in [member.value for member in hint]:
        return hint(value)
    raise GraphFormatError(f"{place}: {json.dumps(value)[:80]} is not {getattr(hint, '__name__', hint)}")


def _poly(value: object, place: str) -> Poly:
    terms: dict[Monomial, Number] = {}
    for term in _list(value, place):
        if not isinstance(term, dict) or not isinstance(term.get("coefficient"), str):
            raise GraphFormatError(f"{place}: a term of a size needs a `coefficient` in quotes")
        try:
            coefficient = Fraction(term["coefficient"])
        except (ValueError, ZeroDivisionError) as error:
            raise GraphFormatError(f"{place}: {term['coefficient'][:40]!r} is not a fraction") from error
        powers: list[tuple[str, int]] = []
        for pair in _list(term.get("powers"), place):
            if not isinstance(pair, list) or len(pair) != 2 or type(pair[1]) is not int or not -64 <= pair[1] <= 64:
                raise GraphFormatError(f"{place}: a power is a pair of a name and a small whole number")
            powers.append((_read_atom(pair[0], place), pair[1]))
        terms[tuple(sorted(powers))] = coefficient.numerator if coefficient.denominator == 1 else coefficient
    return Poly(terms)


def _read_atom(value: object, place: str) -> str:
    if isinstance(value, str) and value.isidentifier():
        return value
    if isinstance(value, dict) and value.get("function") in _FUNCTIONS:
        arguments = [_poly(argument, place) for argument in _list(value.get("arguments"), place)]
        if arguments:
            try:
                return Atom(str(value["function"]), *arguments)
            except SizeError as error:
                raise GraphFormatError(f"{place}: {error}") from error
    raise GraphFormatError(f"{place}: {json.dumps(value)[:80]} is not the name of a size")


def _list(value: object, place: str) -> list[object]:
    if not isinstance(value, list):
        raise GraphFormatError(f"{place}: must be a list")
    return value


def _index(value: object, made: list[Node], place: str) -> int:
    if type(value) is not int or not 0 <= value < len(made):
        raise GraphFormatError(f"{place}: {json.dumps(value)[:40]} is not the place of an earlier node")
    return value
