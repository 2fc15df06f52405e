"""The methods that go through a sequence piece by piece: `init_state` and `step`."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace

from .. import pyast
from ..formula import Formula
from ..graph import Node
from ..ops.leaves import Position
from ..recurrence import Recurrence, remembered
from ..sizes import Poly
from . import sizes as size_code
from . import tidy
from .body import Body, Frame, Statement
from .checks import input_checks, shapes_once
from .forward import dtypes_read, local_sizes, needed, returned, shapes, size_names, working
from .holdings import Holdings
from .layout import Function, Line, header
from .loops import Loops
from .messages import raise_if
from .names import LOCAL_RESERVED, Names
from .settle import SizePlan, plan_sizes
from .states import HELPER, state_length, state_shapes

FRESH = "The state before the first position, for any batch, device and dtype."
WHOLE = "the length of the whole sequence"


def step(
    held: Holdings, found: Recurrence, checks: Function | None, loops: Loops
) -> tuple[list[Function], dict[str, None]]:
    """`init_state` and `step`, their own check if inputs are checked otherwise than by `check`, and what they call.

    checks: the method `check`; loops: makes the methods that run recurrences.
    """
    arguments = [ast.unparse(argument) for argument in held.inputs.values()]
    if found.graph.outputs == held.graph.outputs and not found.cut:
        return _without_state(held, arguments), {}
    formula, plan = piece_sizes(held.formula, found)
    names = Names(LOCAL_RESERVED | held.library)
    names.claim(arguments)
    state, start = pyast.name(names.take("state")), names.take(found.start)
    inputs = {found.inputs[node]: argument for node, argument in held.inputs.items()}
    sizes, references = size_names(plan, held.references, names)
    references[found.start] = pyast.name(start)
    length = names.take(found.length or "length") if found.length is not None else None
    if found.length is not None and length is not None:
        references[found.length] = pyast.name(length)
    real, device = working(held)
    carried: dict[Node, tuple[ast.expr, ...]] = {}
    count = 0
    for node, tensors in found.carried():
        carried[node] = tuple(item(state, count + index) for index in range(len(tensors)))
        count += len(tensors)
    frame = Frame(
        reference=references,
        stored={**held.stored, **inputs},
        names=found.graph.names,
        notes={},
        fixed=held.fixed,
        dynamic=held.dynamic,
        real=real,
        wide=pyast.name("wide"),
        complex=pyast.name("complex_dtype"),
        device=device,
        carried=carried,
        loops=loops,
        lasting=_lasting(found, held.fixed),
    )
    body = Body(frame)
    body.compute(needed(found.graph, frame.stored))
    results = [body.tensor(node) for node in found.graph.outputs]
    outputs = len(results)
    results += body.handed_on
    lasting, moving = _apart(body.statements)
    read = tidy.names_in(*(statement.value for statement in moving), *results)

    own_check, check_lines = piece_check(held, found, formula, plan, checks, arguments, inputs)
    counts = own_check is not None or length is not None or start in _behind(read, plan, sizes, start)
    if counts:
        source, dimension = next(plan.sources[axis] for axis in found.axes if axis in plan.sources)
        results.append(pyast.binary("+", item(state, count), pyast.method(inputs[source], "size", dimension)))
    count += counts
    kept = {statement.name: statement.wanted for statement in lasting if statement.lasts and statement.name in read}
    held_on = [names.take(wanted) for wanted in kept.values()]
    known = dict(zip(kept, map(pyast.name, held_on), strict=True))
    for statement in moving:
        statement.value = tidy.replace(statement.value, known)
    results[:] = [tidy.replace(result, known) for result in results]
    statements, closing = tidy.inline(moving, results)
    tidy.rename(statements, results, names)
    read = tidy.names_in(*(statement.value for statement in statements), *results)

    total = count + len(kept) + len(found.cut) + (length is not None)
    lines: list[Line] = [] if found.cut else state_length(formula.name, state, total)
    if counts:
        lines.append(Line(pyast.assign(start, pyast.call("int", item(state, count - 1)))))
    if not found.cut:
        shapes_kept = state_shapes(formula.name, found, state, plan, inputs, held.references)
        lines += [*check_lines, *shapes_kept]
        body.helpers |= dict.fromkeys([HELPER] if shapes_kept else [])
    if length is not None:
        source, dimension = next(plan.sources[axis] for axis in found.axes if axis in plan.sources)
        so_far = pyast.binary("+", pyast.name(start), pyast.method(inputs[source], "size", dimension))
        lines.append(Line(pyast.assign(length, pyast.call("int", item(state, total - 1)))))
        lines.append(beyond(formula.name, so_far, pyast.name(length)))
    functions: list[Function] = []
    if kept:
        made, called = _constants(held, plan, lasting, [*kept], inputs, real)
        functions.append(made)
        lines.append(_first_or_kept(called, held_on, [item(state, count + i) for i in range(len(kept))]))
        results += map(pyast.name, held_on)
        body.helpers["is_new"] = None
    if length is not None:
        results.append(item(state, total - 1))
    lines += local_sizes(plan, inputs, sizes, references, read)
    lines += dtypes_read(real, read)
    lines += [Line(pyast.assign(*statement.targets), statement.comments) for statement in statements]
    value, returns = returned(results[:outputs])
    after = ast.List(results[outputs:], ast.Load())
    lines.append(Line(ast.Return(ast.Tuple([value, after], ast.Load())), closing))
    told = found.told and f"{formula.name}: {found.told}"
    fresh = fresh_state(found, count, counts=counts, constants=held_on, told=told)
    functions = [fresh, *([own_check] if own_check else []), *functions]
    if not found.cut:
        return [*functions, step_method(held, ast.unparse(state), returns, lines)], body.helpers
    functions.append(_whole_blocks(held, ast.unparse(state), returns, lines))
    opening = [*state_length(formula.name, state, total), *check_lines]
    functions.append(_block_by_block(held, found, opening, inputs, held.references, ast.unparse(state), returns))
    return functions, {**body.helpers, "extended": None, "filled": None}


def beyond(name: str, count: ast.expr, length: ast.expr) -> Line:
    """A statement that raises where there are more positions than the whole sequence has. name: of the formula."""
    text = "is beyond the length of the whole sequence, which is "
    return raise_if(pyast.binary(">", count, length), f"{name}: position ", count, f" {text}", length)


# -- block by block ------------------------------------------------------------------------------------------


def _whole_blocks(held: Holdings, state: str, returns: str, lines: list[Line]) -> Function:
    """The step of a formula that cuts the sequence into blocks: of as many positions as make whole ones."""
    self, *inputs = held.signature()
    signature = header("step_blocks", [self, (state, "list[Tensor]"), *inputs], f"tuple[{returns}, list[Tensor]]")
    return Function(signature, "Results for the next blocks, one or more whole ones, and the state after them.", lines)


def _block_by_block(
    held: Holdings,
    found: Recurrence,
    opening: list[Line],
    inputs: Mapping[Node, ast.expr],
    references: Mapping[str, ast.expr],
    state: str,
    returns: str,
) -> Function:
    """`step` where the sequence is cut into blocks: what belongs to a block that is not complete is kept.

    Its results are those of the block when the last position is repeated to its end: no result depends on later ones.
    """
    assert found.block is not None
    names = Names(LOCAL_RESERVED | held.library)
    arguments = {node: ast.unparse(argument) for node, argument in inputs.items()}
    names.claim((*arguments.values(), state))

    def place(node: Node) -> int:
        return next(index - len(node.axes) for index, axis in enumerate(node.axes) if axis in found.axes)

    along = {node: place(node) for node in found.cut}
    so_far = {node: names.take(f"{arguments[node]}_so_far") for node in found.cut}
    rest = {node: names.take(f"{arguments[node]}_rest") for node in found.cut}
    count, whole, after, made, last = (pyast.name(names.take(n)) for n in ("count", "whole", "after", "made", "last"))
    outputs = found.graph.outputs
    gathered = [names.take("parts") for _ in outputs]
    block = size_code.whole(found.block, references.__getitem__).expression

    def taken(results: ast.expr) -> list[ast.stmt]:
        each = [results] if len(outputs) == 1 else [item(results, index) for index in range(len(outputs))]
        calls = (pyast.method(pyast.name(parts), "append", one) for parts, one in zip(gathered, each, strict=True))
        return [ast.Expr(call) for call in calls]

    def blocks(results: ast.expr, onward: ast.expr, given: Mapping[Node, ast.expr]) -> list[ast.stmt]:
        values = (given.get(node, pyast.name(argument)) for node, argument in arguments.items())
        call = pyast.call("self.step_blocks", after, *values)
        return [pyast.assign(ast.unparse(results), call, ast.unparse(onward)), *taken(results)]

    first = found.cut[0]
    lines = list(opening)
    for index, node in enumerate(found.cut):
        kept = pyast.call("extended", item(pyast.name(state), index), pyast.name(arguments[node]), along[node])
        lines.append(Line(pyast.assign(so_far[node], kept)))
    lines.append(Line(pyast.assign(ast.unparse(count), pyast.method(pyast.name(so_far[first]), "size", along[first]))))
    floored = pyast.binary("*", pyast.binary("//", count, block), block)
    lines.append(Line(pyast.assign(ast.unparse(whole), floored)))
    inner = ast.Subscript(pyast.name(state), ast.Slice(ast.Constant(len(found.cut)), None, None), ast.Load())
    lines.append(Line(pyast.assign(ast.unparse(after), inner)))
    lines += [Line(pyast.assign(parts, ast.List([], ast.Load()))) for parts in gathered]
    complete = {n: pyast.method(pyast.name(so_far[n]), "narrow", along[n], 0, whole) for n in found.cut}
    lines.append(Line(ast.If(pyast.binary(">", whole, 0), blocks(made, after, complete), [])))
    for node in found.cut:
        left = pyast.method(pyast.name(so_far[node]), "narrow", along[node], whole, pyast.binary("-", count, whole))
        lines.append(Line(pyast.assign(rest[node], pyast.method(left, "clone"))))
    begun = {n: pyast.call("filled", pyast.name(rest[n]), along[n], block) for n in found.cut}
    later = pyast.name(names.take("unfinished"))
    lines.append(Line(ast.If(pyast.binary(">", count, whole), blocks(last, later, begun), [])))
    new = pyast.method(pyast.name(arguments[first]), "size", along[first])
    results: list[ast.expr] = []
    for output, parts in zip(outputs, gathered, strict=True):
        at = place(output)
        joined = pyast.call("torch.cat", pyast.name(parts), at)
        results.append(pyast.method(joined, "narrow", at, pyast.binary("-", count, new), new))
    value, _ = returned(results)
    kept_list = ast.List([pyast.name(name) for name in rest.values()], ast.Load())
    lines.append(Line(ast.Return(ast.Tuple([value, pyast.binary("+", kept_list, after)], ast.Load()))))
    return step_method(held, state, returns, lines)


# -- what is the same for every piece ---------------------------------------------------------------------


def _lasting(found: Recurrence, fixed: frozenset[Node]) -> frozenset[Node]:
    """Values that depend on constants and on sizes that do not grow with the sequence."""
    growing = {*found.axes, *found.blocks, *found.sizes, found.start, found.length}
    lasting: set[Node] = set()
    for node in found.graph.nodes():
        sizes = {*node.axes}.union(*(size.symbols() for size in node.op.scalars()))
        if isinstance(node.op, Position):
            sizes.add(node.op.axis)
        if node in fixed and not sizes & growing and all(operand in lasting for operand in node.inputs):
            lasting.add(node)
    return frozenset(lasting)


def _apart(statements: Sequence[Statement]) -> tuple[list[Statement], list[Statement]]:
    """What computes the tensors that last, and all other statements."""
    wanted: set[str] = set()
    lasting: list[Statement] = []
    for statement in reversed(statements):
        if statement.lasts or not wanted.isdisjoint(statement.names):  # numbers are computed in both places
            wanted |= tidy.names_in(statement.value)
            lasting.append(replace(statement))
    return lasting[::-1], [statement for statement in statements if not statement.lasts]


def _constants(
    held: Holdings,
    plan: SizePlan,
    statements: list[Statement],
    kept: list[str],
    inputs: Mapping[Node, ast.expr],
    real: ast.expr,
) -> tuple[Function, ast.expr]:
    """The method that computes what the first step hands on to all others, and its call."""
    names = Names(LOCAL_RESERVED | held.library)
    arguments = [*map(ast.unparse, inputs.values())]
    names.claim(arguments)
    sizes, references = size_names(plan, held.references, names)
    results: list[ast.expr] = [pyast.name(name) for name in kept]
    inner, closing = tidy.inline(statements, results)
    tidy.rename(inner, results, names)
    read = tidy.names_in(*(statement.value for statement in inner), *results)
    lines = local_sizes(plan, inputs, sizes, references, read)
    lines += dtypes_read(real, read)
    lines += [Line(pyast.assign(*statement.targets), statement.comments) for statement in inner]
    value, returns = returned(results)
    lines.append(Line(ast.Return(value), closing))
    used = {node.id for line in lines for node in ast.walk(line.statement) if isinstance(node, ast.Name)}
    taken = [name for name in arguments if name in used]
    signature = header("step_constants", [("self", None), *((name, "Tensor") for name in taken)], returns)
    summary = "What depends on sizes only: the first step computes it and hands it on in the state."
    return Function(signature, summary, lines), pyast.call("self.step_constants", *map(pyast.name, taken))


def _first_or_kept(made: ast.expr, names: list[str], kept: list[ast.expr]) -> Line:
    """`a, b = self.step_constants(q) if is_new(state[1]) else (state[1], state[2])`."""
    again = kept[0] if len(kept) == 1 else ast.Tuple(kept, ast.Load())
    return Line(pyast.assign(names[0], ast.IfExp(pyast.call("is_new", kept[0]), made, again), *names[1:]))


def by_positions(held: Holdings, found: Recurrence, *, has_check: bool) -> Function:
    """The `forward` that takes one step for each position."""
    names = Names(LOCAL_RESERVED | held.library)
    arguments = [ast.unparse(argument) for argument in held.inputs.values()]
    names.claim(arguments)
    state, place = names.take("state"), names.take("place")
    here = pyast.name(place)
    source, dimension = next(
        (held.inputs[node], index - len(node.axes))
        for node in held.formula.inputs
        for index, axis in enumerate(found.inputs[node].axes)
        if axis in found.axes
    )
    sliced: list[ast.expr] = []
    for node, argument in held.inputs.items():
        for index, axis in enumerate(found.inputs[node].axes):
            if axis in found.axes:
                argument = pyast.method(argument, "narrow", index - len(node.axes), here, 1)
            elif axis in found.sizes:
                until = pyast.binary("+", here, pyast.constant(1))
                argument = pyast.method(argument, "narrow", index - len(node.axes), 0, until)
        sliced.append(argument)
    outputs = found.graph.outputs
    gathered = [(names.take("part"), names.take("parts")) for _ in outputs]
    piece = [ast.Name(part, ast.Store()) for part, _ in gathered]
    first = piece[0] if len(piece) == 1 else ast.Tuple([*piece], ast.Store())
    targets = ast.Tuple([first, ast.Name(state, ast.Store())], ast.Store())
    taken: list[ast.stmt] = [ast.Assign([targets], pyast.call("self.step", pyast.name(state), *sliced), lineno=0)]
    taken += [ast.Expr(pyast.method(pyast.name(parts), "append", pyast.name(part))) for part, parts in gathered]
    length = pyast.method(source, "size", dimension)
    count = pyast.call("range", length)
    results: list[ast.expr] = []
    for output, (_, parts) in zip(outputs, gathered, strict=True):
        along = next(index - len(output.axes) for index, axis in enumerate(output.axes) if axis in found.axes)
        results.append(pyast.call("torch.cat", pyast.name(parts), along))
    value, returns = returned(results)
    lines = [Line(ast.Expr(pyast.call("self.check", *map(pyast.name, arguments))))] if has_check else []
    told = [length] if found.length is not None else []
    lines.append(Line(pyast.assign(state, pyast.call("self.init_state", *told))))
    lines += [Line(pyast.assign(parts, ast.List([], ast.Load()))) for _, parts in gathered]
    lines += [Line(ast.For(ast.Name(place, ast.Store()), count, taken, [], lineno=0)), Line(ast.Return(value))]
    return Function(header("forward", held.signature(), returns), shapes(held), lines)


def item(state: ast.expr, index: int) -> ast.expr:
    return ast.Subscript(state, ast.Constant(index), ast.Load())


def _exported(signature: ast.FunctionDef) -> ast.FunctionDef:
    """TorchScript compiles a method that forward does not call only if it is told to."""
    signature.decorator_list = [pyast.name("torch.jit.export")]
    return signature


def step_method(held: Holdings, state: str, returns: str, lines: list[Line]) -> Function:
    self, *inputs = held.signature()
    signature = header("step", [self, (state, "list[Tensor]"), *inputs], f"tuple[{returns}, list[Tensor]]")
    summary = "Results for the next positions, one or more, and the state after them."
    return Function(_exported(signature), summary, lines)


def _without_state(held: Holdings, arguments: list[str]) -> list[Function]:
    """Where every position is computed by itself."""
    call = pyast.call("self.forward", *map(pyast.name, arguments))
    state = Names(LOCAL_RESERVED | held.library)
    state.claim(arguments)
    name = state.take("state")
    _, returns = returned([pyast.constant(None)] * len(held.graph.outputs))
    lines = [Line(ast.Return(ast.Tuple([call, pyast.name(name)], ast.Load())))]
    fresh = Function(
        _exported(header("init_state", [("self", None)], "list[Tensor]")),
        "The state before the first position: nothing, since every position is computed by itself.",
        [Line(ast.Return(ast.List([], ast.Load())))],
    )
    return [fresh, step_method(held, name, returns, lines)]


def fresh_state(
    found: Recurrence, count: int, *, counts: bool = False, constants: Sequence[str] = (), told: str | None = None
) -> Function:
    """The method that makes a fresh state: empty tensors, and the number of positions so far where it matters.

    count: of tensors that are carried, `counts` among them. told: why the length of the whole sequence is asked for.
    """
    fresh: list[ast.expr] = [pyast.call("torch.empty", 0) for _ in range(count - counts)]
    fresh = [pyast.call("torch.empty", 0) for _ in found.cut] + fresh
    texts = remembered(found)
    if counts:
        fresh.append(_number(ast.Constant(0)))
        texts.append("the number of positions so far: []")
    fresh += [pyast.call("torch.empty", 0) for _ in constants]
    texts += [f"{name}, which the first step computes" for name in constants]
    arguments: list[tuple[str, str | None]] = [("self", None)]
    lines: list[Line] = []
    if told is not None:
        asked = "length"
        length = pyast.name(asked)
        ask = f"{told}; tell init_state how long the whole sequence may become, as in init_state(length=1024)"
        lines.append(raise_if(pyast.binary("<", length, 1), ask))
        fresh.append(_number(length))
        texts.append(f"{WHOLE}: []")
        arguments.append((asked, "int"))
    held = (textwrap.wrap(f"state[{i}]: {text}", 88, subsequent_indent="    ") for i, text in enumerate(texts))
    shapes = "\n".join(line for lines in held for line in lines)
    signature = header("init_state", arguments, "list[Tensor]", defaults=[ast.Constant(0)] * (told is not None))
    lines.append(Line(ast.Return(ast.List(fresh, ast.Load()))))
    return Function(_exported(signature), f"{FRESH}\n\n{shapes}", lines)


def _number(value: ast.expr) -> ast.expr:
    """A number in a state: the processor reads it in every step, and should not have to wait for a GPU."""
    return pyast.call("torch.tensor", value, device=pyast.constant("cpu"))


# -- sizes and checks ------------------------------------------------------------------------------------


def piece_sizes(formula: Formula, found: Recurrence) -> tuple[Formula, SizePlan]:
    """The formula of a piece: its inputs, and where its sizes come from."""
    inputs = tuple(found.inputs[node] for node in formula.inputs)
    given = {axis for node in inputs for axis in node.axes}
    length = next(axis for axis in found.axes if axis in given)
    canonical = formula.facts.canonical
    growing = {symbol for axis in found.axes for symbol in canonical(Poly.symbol(axis)).symbols()}
    growing -= formula.constants.keys()
    derived = {  # what else follows from the length of the sequence, as `N = S + 1` says, holds of no piece
        axis: size
        for axis, size in formula.derived.items()
        if axis in found.axes or axis in found.blocks or not canonical(Poly.symbol(axis)).symbols() & growing
    }
    derived |= {axis: Poly.symbol(length) for axis in found.axes if axis not in given and axis not in formula.derived}
    derived |= found.sizes
    relations = tuple(
        relation
        for relation in formula.relations
        if (relation.relation == "=" and {relation.left.as_symbol(), relation.right.as_symbol()} <= {*found.axes})
        or not any(canonical(side).symbols() & growing for side in (relation.left, relation.right))
    )
    piece = replace(formula, inputs=inputs, derived=derived, relations=relations)
    plan = plan_sizes(piece)
    return piece, replace(plan, sources={axis: at for axis, at in plan.sources.items() if axis not in found.sizes})


def _behind(read: frozenset[str], plan: SizePlan, sizes: dict[str, str], start: str) -> set[str]:
    """The variables that are read, and `start` if a size among them is made with it."""
    wanted = {axis for axis, name in sizes.items() if name in read}
    for axis in reversed(list(plan.derived)):
        if axis in wanted:
            wanted |= plan.derived[axis].symbols()
    return {*read, *({start} if wanted - sizes.keys() - plan.static else set())}


def piece_check(
    held: Holdings,
    found: Recurrence,
    formula: Formula,
    plan: SizePlan,
    checks: Function | None,
    arguments: list[str],
    inputs: dict[Node, ast.expr],
) -> tuple[Function | None, list[Line]]:
    """A check of pieces, if it is another one than that of whole sequences; and the lines that check."""
    values = [*map(pyast.name, arguments)]
    source, dimension = next(plan.sources[axis] for axis in found.axes if axis in plan.sources)
    length = pyast.method(inputs[source], "size", dimension)
    positive = raise_if(
        pyast.binary("<", length, 1), f"{formula.name}: a step takes one position or more, but ", length, " are given"
    )
    so_far = {
        axis: pyast.binary("+", pyast.name(found.start), length)
        for axis in found.sizes
        if any(axis in node.axes for node in inputs)
    }
    made = {*found.sizes, *found.blocks}
    derived = {axis: size for axis, size in plan.derived.items() if axis not in made}
    lines = input_checks(formula, replace(plan, derived=derived), inputs, held.references, held.stored, so_far)
    apart = shapes_once(lines, formula, inputs, held.library)
    same = checks is not None and _text(apart) == _text(checks.lines)
    if same:
        return None, [Line(ast.Expr(pyast.call("self.check", *values))), positive]
    if not so_far:
        return None, [*lines, positive]
    signature = header("check_step", [*held.signature()[:1], (found.start, "int"), *held.signature()[1:]], "None")
    summary = "Raise ValueError where ranks, dtypes or sizes do not fit a step after `start` positions."
    call = pyast.call("self.check_step", pyast.name(found.start), *values)
    return Function(signature, summary, apart), [Line(ast.Expr(call)), positive]


def _text(lines: object) -> list[str]:
    assert isinstance(lines, list)
    return [ast.unparse(line.statement) for line in lines]
