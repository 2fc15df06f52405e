"""Local sums: a sum over keys of which every query sees few, computed block by block of queries.

The expression is written again over other axes: a block of queries, the queries in it, and the keys that one of them
may see. No algorithm of its own: what comes out is a formula of the language, whose order is chosen like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..graph import Builder, Node
from ..normal import Names
from ..ops.arithmetic import Add, Divide, Modulo, Multiply, Negative
from ..ops.contraction import Contraction
from ..ops.functions import Exp
from ..ops.layout import Broadcast, Convert, Merge, Reorder
from ..ops.leaves import Literal, Position, Size
from ..ops.logic import And, GreaterEqual, Less, Or, Where
from ..ops.normalisations import Normalisation, Softmax
from ..ops.pairs import Maximum, Minimum
from ..ops.reductions import Reduction, Sum
from ..ops.selection import Slice, Take
from ..regions import Region, Sight, meet, region
from ..sizes import ZERO, Facts, Poly

MIN_BLOCK = 16  # queries of a block
WHY = {
    "band": "every query sees the keys of a band only, so a block of queries needs the keys around it and no others",
    "dilated band": "every query sees keys of its own residue class in a band only, so each class is a band of its own",
    "windows": "every query sees the keys of its own window only, so the sequence is cut into windows",
    "rolled windows": "rolled back, every query sees the keys of its own window only",
}
COLUMNS = "; the first keys, which all queries may see, stand beside them"


@dataclass(frozen=True)
class Local:
    """A sum written over blocks.

    node: the same value; inner: the sum over the keys of a block, of which nothing is decided yet; rules: names and
    reasons; leaves: the values that were cut into blocks; counterpart: the nodes of the text that new ones stand for;
    names: what the positions of a block are called; pairs: the axes of a block's queries and of its keys.
    """

    node: Node
    inner: Node
    rules: Mapping[str, str]
    leaves: frozenset[Node]
    counterpart: Mapping[Node, Node]
    names: Mapping[Node, str]
    pairs: frozenset[tuple[str, str]]


class _Declines(Exception):
    """The expression cannot be written over blocks."""


def localise(
    root: Node, builder: Builder, facts: Facts, constants: Mapping[str, int | float], names: Names
) -> Local | None:
    """A sum over keys written over blocks of queries, if every query sees few of the keys."""
    assert isinstance(root.op, Contraction | Sum)
    found: list[tuple[Sight, Region]] = []
    for key in root.op.axes:
        for query in root.axes:
            if any(query in operand.axes and key in operand.axes for operand in root.inputs):
                sight = Sight(query, key, facts, constants)
                seen = Support(sight).of_product(root.inputs)
                if seen is not None and seen.is_local and all(query != s.query and key != s.key for s, _ in found):
                    found.append((sight, seen))
    if not found:
        return None
    try:
        blocks = [_block(sight, seen, builder, names) for sight, seen in found]
        return _Writer(root, builder, blocks).run()
    except _Declines:
        return None


# -- where a value is zero -------------------------------------------------------------------------


class Support:
    """The regions outside of which values are 0 (-inf, for scores), with the masks that make them so."""

    def __init__(self, sight: Sight) -> None:
        self.sight = sight
        self.found: dict[tuple[Node, bool], Region | None] = {}

    def of_product(self, factors: tuple[Node, ...]) -> Region | None:
        total: Region | None = None
        for factor in factors:
            total = meet(total, self.of(factor))
        return total

    def of(self, node: Node, blank: bool = False) -> Region | None:
        """The region outside of which a value is 0, or -inf (blank)."""
        if self.sight.query not in node.axes or self.sight.key not in node.axes:
            return None
        if (node, blank) not in self.found:
            self.found[node, blank] = None
            self.found[node, blank] = self._of(node, blank)
        return self.found[node, blank]

    def _of(self, node: Node, blank: bool) -> Region | None:
        op, inputs = node.op, node.inputs
        match op:
            case Where():
                condition, yes, no = inputs
                none = float("-inf") if blank else 0.0
                if _is(no, none):
                    return meet(region(condition, self.sight), self.of(yes, blank))
                if _is(yes, none):
                    return meet(region(condition, self.sight, negated=True), self.of(no, blank))
            case Multiply() if not blank:
                return self.of_product(inputs)
            case Divide() | Negative() | Reorder() | Convert() if not blank:
                return self.of(inputs[0])
            case Exp() if not blank:
                return self.of(inputs[0], blank=True)
            case Contraction() if not blank and not {self.sight.query, self.sight.key} & set(op.axes):
                return self.of_product(inputs)
            case Softmax() if not blank and self.sight.key in op.axes and self.sight.query not in op.axes:
                masked = region(inputs[1], self.sight) if "mask" in op.given else None
                return meet(masked, self.of(inputs[0], blank=True))
        return None


def _is(node: Node, value: float) -> bool:
    return isinstance(node.op, Literal) and node.op.value == value


# -- blocks ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Block:
    """The new axes of one pair of axes.

    queries, keys: what stands for the query's axis and for the key's; places: for every new query and key its position,
    inside the sequence; valid: which of the keys exist, each once; merged: the queries laid out as one axis.
    """

    sight: Sight
    seen: Region
    queries: tuple[str, ...]
    keys: tuple[str, ...]
    query_place: Node
    key_place: Node
    valid: Node
    merged: str


def _block(sight: Sight, seen: Region, builder: Builder, names: Names) -> _Block:
    make = builder.make

    def number(size: Poly) -> Node:
        return make(Size(size))

    def plus(left: Node, size: Poly) -> Node:
        return make(Add(), left, number(size)) if size else left

    def at(axis: str) -> Node:
        return make(Position(axis))

    length = Poly.symbol(sight.query)
    query_axis, key_axis = sight.query, sight.key
    step = seen.step if seen.window is None else None
    if seen.window is not None:
        side = reach = seen.window
        before, start = ZERO, seen.shift
    else:
        assert seen.least is not None
        assert seen.most is not None
        before, after = seen.most, -seen.least
        if step is not None:
            before, after = (Poly.function("floor", bound / step) for bound in (before, after))
        side = _side(before + after + 1, sight)
        reach, start = before + after + side, ZERO
        if reach.as_number() is None:
            reach = Poly.function("max", reach, Poly.constant(1))
    each = side * step if step is not None else side
    count = Poly.function("ceil", (length + start) / each)
    block, inside = names.fresh("B", count), names.fresh("S", side)
    near = names.fresh("W", reach)
    classes = () if step is None else (names.fresh("C", step),)

    def position(offset: Node) -> Node:
        """The place of something inside a block."""
        made = make(Add(), make(Multiply(), at(block), number(side)), offset)
        for each_class in classes:
            assert step is not None
            made = make(Add(), make(Multiply(), made, number(step)), at(each_class))
        return made

    query = plus(position(at(inside)), -start)
    keys = (block, near, *classes)
    if seen.columns is not None:
        both = names.fresh("W", reach + seen.columns)
        keys = (block, both, *classes)
        offset = plus(at(both), -before - seen.columns)
    else:
        offset = plus(at(near), -before)
    key = plus(position(offset), -start)
    # what lies outside is not valid; rolled, what lies outside before it is rolled back
    valid = _inside(key, key_axis, builder)
    if seen.roll is not None:
        query, key = (
            make(Modulo(), make(Add(), place, seen.roll), number(Poly.symbol(axis)))
            for place, axis in ((query, query_axis), (key, key_axis))
        )
    if seen.columns is not None:
        first = make(Less(), at(keys[1]), number(seen.columns))
        apart = make(And(), valid, make(GreaterEqual(), key, number(seen.columns)))
        exists = make(And(), first, make(Less(), at(keys[1]), number(Poly.symbol(key_axis))))
        valid = make(Or(), exists, make(And(), apart, make(GreaterEqual(), at(keys[1]), number(seen.columns))))
        key = make(Where(), first, at(keys[1]), key)
    queries = (block, inside, *classes)
    merged = names.fresh("P", Poly.symbol(block) * each)
    query, key = (_clamped(place, axis, builder) for place, axis in ((query, query_axis), (key, key_axis)))
    return _Block(sight, seen, queries, keys, query, key, valid, merged)


def _side(width: Poly, sight: Sight) -> Poly:
    """How many queries make a block: as many as a query sees keys, and enough for a product of matrices."""
    constants = sight.constants
    if not width.symbols() <= constants.keys():
        return Poly.constant(MIN_BLOCK)
    return width if width.evaluate(constants) >= MIN_BLOCK else Poly.constant(MIN_BLOCK)


def _inside(place: Node, axis: str, builder: Builder) -> Node:
    below = builder.make(Less(), place, builder.make(Size(Poly.symbol(axis))))
    return builder.make(And(), builder.make(GreaterEqual(), place, builder.make(Literal(0))), below)


def _clamped(place: Node, axis: str, builder: Builder) -> Node:
    last = builder.make(Size(Poly.symbol(axis) - 1))
    return builder.make(Minimum(), builder.make(Maximum(), place, builder.make(Literal(0))), last)


# -- the same expression over blocks ---------------------------------------------------------------


class _Writer:
    def __init__(self, root: Node, builder: Builder, blocks: list[_Block]) -> None:
        self.root = root
        self.builder = builder
        self.blocks = blocks
        self.replaced: dict[str, tuple[str, ...]] = {}
        self.places: dict[str, Node] = {}
        for block in blocks:
            self.replaced[block.sight.query], self.replaced[block.sight.key] = block.queries, block.keys
            self.places[block.sight.query], self.places[block.sight.key] = block.query_place, block.key_place
        self.made: dict[Node, Node] = {}
        self.leaves: set[Node] = set()

    def run(self) -> Local:
        make = self.builder.make
        inner = self._rebuilt(self.root)
        result = inner
        for block in self.blocks:
            n = block.sight.query
            result = make(Merge(block.queries, block.merged), result)
            if block.seen.query is not None:
                result = make(Take(block.merged), result, block.seen.query)
            else:
                result = make(Slice(block.merged, n, block.seen.shift), result)
        if result.axes != self.root.axes:
            result = make(Reorder(self.root.axes), result)
        counterpart = {new: old for old, new in reversed(self.made.items())} | {inner: self.root}
        rules = {block.seen.rule: _why(block.seen.rule) for block in self.blocks}
        names: dict[Node, str] = {}
        pairs = [(block.queries[1], block.keys[1]) for block in self.blocks]
        for block in self.blocks:
            query, key = block.sight.query.lower(), block.sight.key.lower()
            names |= {block.query_place: f"near_{query}", block.key_place: f"near_{key}", block.valid: f"has_{key}"}
        return Local(result, inner, rules, frozenset(self.leaves), counterpart, names, frozenset(pairs))

    def _couples(self, node: Node) -> bool:
        """Whether a value has both axes of one of the pairs."""
        return any(b.sight.query in node.axes and b.sight.key in node.axes for b in self.blocks)

    def _write(self, node: Node) -> Node:
        """The value over the new axes."""
        if not set(self.replaced) & set(node.axes):
            return node
        if node not in self.made:
            self.made[node] = self._rebuilt(node) if self._follows(node) else self._taken(node)
        return self.made[node]

    def _follows(self, node: Node) -> bool:
        """Whether an expression is written again, rather than its value cut into blocks."""
        by_position = node.op.elementwise and not node.type.batched and not node.op.is_given()
        return self._couples(node) or isinstance(node.op, Position) or (by_position and bool(node.inputs))

    def _taken(self, node: Node) -> Node:
        self.leaves.add(node)
        for axis in [a for a in node.axes if a in self.places]:
            node = self.builder.make(Take(axis), node, self.places[axis])
        return node

    def _rebuilt(self, node: Node) -> Node:
        op, make = node.op, self.builder.make
        match op:
            case Position(axis):
                return self.places[axis]
            case Reorder():
                return self._write(node.inputs[0])
            case Broadcast():
                inner = self._write(node.inputs[0])
                return make(Broadcast(self._axes(op.axes, inner.axes)), inner)
            case Where():
                return self._where(node)
            case Contraction() if not self._queries() & set(op.axes):
                self._check_closed(node, op.axes)
                left, right = (self._write(operand) for operand in node.inputs)
                union = (*left.axes, *(a for a in right.axes if a not in left.axes))
                summed = self._summed(op.axes, union)
                shared = tuple(a for a in summed if a in left.axes and a in right.axes)
                left, right = self._alone(left, right, summed), self._alone(right, left, summed)
                if not shared:
                    return make(Multiply(), left, right)
                kept = tuple(a for a in union if a not in summed)
                return make(Contraction(shared, kept), left, right)
            case Softmax() if not self._queries() & set(op.axes):
                self._check_closed(node, op.axes)
                return self._softmax(node, op)
            case Sum() if not self._queries() & set(op.axes):
                self._check_closed(node, op.axes)
                inner = self._write(node.inputs[0])
                return make(replace(op, axes=self._summed(op.axes, inner.axes)), inner)
            case Reduction() | Normalisation() if not (self._queries() | self._keys()) & set(op.axes):
                return make(op, *(self._write(operand) for operand in node.inputs))
            case Take() if op.axis not in self.replaced:
                return make(op, *(self._write(operand) for operand in node.inputs))
        if not op.elementwise and not isinstance(op, Convert):
            raise _Declines
        return make(op, *(self._write(operand) for operand in node.inputs))

    def _check_closed(self, node: Node, axes: tuple[str, ...]) -> None:
        """Something that reads all keys inside the expression must see none beside those of the blocks."""
        for block in self.blocks:
            if node is self.root or block.sight.key not in axes:
                continue
            support = Support(block.sight)
            if (support.of(node) if isinstance(node.op, Softmax) else support.of_product(node.inputs)) != block.seen:
                raise _Declines

    def _alone(self, one: Node, other: Node, summed: tuple[str, ...]) -> Node:
        """One factor of a contraction, summed over axes that the other does not have."""
        own = tuple(a for a in summed if a in one.axes and a not in other.axes)
        return self.builder.make(Sum(own), one) if own else one

    def _queries(self) -> set[str]:
        return {block.sight.query for block in self.blocks}

    def _keys(self) -> set[str]:
        return {block.sight.key for block in self.blocks}

    def _summed(self, axes: tuple[str, ...], carried: tuple[str, ...]) -> tuple[str, ...]:
        """What is summed in the place of some axes: of a key, its place beside the block."""
        beside = {block.sight.key: block.keys[1] for block in self.blocks}
        return tuple(beside.get(axis, axis) for axis in axes if beside.get(axis, axis) in carried)

    def _axes(self, axes: tuple[str, ...], needed: tuple[str, ...]) -> tuple[str, ...]:
        found = [new for axis in axes for new in self.replaced.get(axis, (axis,))]
        return tuple(dict.fromkeys((*found, *needed)))

    def _valid(self, mask: Node) -> Node | None:
        """Which keys exist, for the pairs that a mask is about."""
        parts = [b.valid for b in self.blocks if b.sight.query in mask.axes and b.sight.key in mask.axes]
        result: Node | None = None
        for part in parts:
            result = part if result is None else self.builder.make(And(), result, part)
        return result

    def _where(self, node: Node) -> Node:
        condition, yes, no = node.inputs
        written, valid = self._write(condition), self._valid(condition)
        branches = [self._write(yes), self._write(no)]
        make = self.builder.make
        none = (0, float("-inf"))
        if valid is not None and isinstance(no.op, Literal) and no.op.value in none:
            written = make(And(), written, valid)
        elif valid is not None and isinstance(yes.op, Literal) and yes.op.value in none:
            return make(Where(), valid, make(Where(), written, *branches), branches[0])
        return make(Where(), written, *branches)

    def _softmax(self, node: Node, op: Softmax) -> Node:
        scores = self._write(node.inputs[0])
        masks: list[Node] = []
        if "mask" in op.given:
            masks.append(self._write(node.inputs[1]))
        masks += [b.valid for b in self.blocks if b.sight.key in op.axes]
        mask: Node | None = None
        for part in masks:
            mask = part if mask is None else self.builder.make(And(), mask, part)
        axes = self._summed(op.axes, tuple(dict.fromkeys((*scores.axes, *(mask.axes if mask is not None else ())))))
        sinks = (self._write(node.inputs[-1]),) if "sink" in op.given else ()
        masked = () if mask is None else (mask,)
        given = ("mask",) * len(masked) + ("sink",) * len(sinks)
        return self.builder.make(Softmax(axes, given=given), scores, *masked, *sinks)


def _why(rule: str) -> str:
    name, _, columns = rule.partition(" and ")
    return WHY[name] + (COLUMNS if columns else "")
