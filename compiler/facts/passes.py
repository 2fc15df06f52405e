"""How often the data along an axis must be gone through.

A fiber of an axis is all elements along it with the other coordinates fixed; a pass goes through all of one. Two
steps of which the first must have read the whole fiber before the second can start, and which both read it (or a
value derived from it point by point), cost two passes, whatever the schedule. A chain of n such pairs costs n + 1.

The count belongs to the steps as they stand: moving a factor behind a sum, or keeping running values along an axis,
changes it. One sweep over the steps counts.
Source: Nayak et al., FuseMax: Leveraging Extended Einsums to Optimize Attention Accelerator Design, MICRO 2024.

A split of the axis makes a fiber of two axes, of which the outer counts: what is over for one part need not be over
for the next. A renamed copy is read by itself: of `x` and `x[N -> M]` in one sum each is gone through once.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..graph import Graph, Node
from ..ops.base import Op
from ..ops.convolution import Convolution
from ..ops.cumulative import Cumulative
from ..ops.layout import Broadcast, Convert, Merge, Rename, Reorder, Split
from ..ops.normalisations import Normalisation
from ..ops.segments import SegmentSoftmax
from ..ops.selection import Concat, Pad, Shift, Slice, Windows

Fiber = tuple[str, ...]  # the axes that the data runs along, outermost first


@dataclass(frozen=True)
class _Reach:
    """first, full: complete passes before some element along the outer axis exists, before all do.

    derived: it comes from the data point by point along all axes of the fiber.
    """

    first: int = 0
    full: int = 0
    derived: bool = False


_NOTHING = _Reach()


def passes(graph: Graph, source: Node, axis: str) -> int | None:
    """Passes over `axis` of the value `source` that evaluating the graph takes; 0 if nothing reads it.

    None where a recurrence along another axis reads it, which may go through it at every step.
    """
    count = _Count(graph, source, axis)
    return None if count.repeated else count.most


class _Count:
    def __init__(self, graph: Graph, source: Node, axis: str) -> None:
        self.most = 0
        self.repeated = False
        self.known: dict[Node, dict[Fiber, _Reach]] = {}
        for node in graph.nodes():
            if node is source:
                self.known[node] = {(axis,): _Reach(0, 1, True)}
            else:
                self.known[node] = self._step(node)

    def _step(self, node: Node) -> dict[Fiber, _Reach]:
        fibers = dict.fromkeys(fiber for operand in node.inputs for fiber in self.known[operand])
        found: dict[Fiber, _Reach] = {}
        for fiber in fibers:
            for moved in _moved(node.op, fiber):
                self._keep(found, moved, self._relabel(node, fiber, moved))
            if not _leaves(node.op, fiber):
                self._keep(found, fiber, self._evaluate(node, fiber))
        return found

    @staticmethod
    def _keep(found: dict[Fiber, _Reach], fiber: Fiber, new: _Reach) -> None:
        old = found.get(fiber, _NOTHING)
        found[fiber] = _Reach(max(old.first, new.first), max(old.full, new.full), old.derived or new.derived)

    def _closed(self, node: Node) -> int:
        """Passes that are over before the value exists, by fibers that it does not run along itself."""
        return max((r.full for fiber, r in self.known[node].items() if fiber[0] not in node.axes), default=0)

    def _relabel(self, node: Node, fiber: Fiber, moved: Fiber) -> _Reach:
        """The same elements under other axes: what the operand is along `fiber`, the result is along `moved`."""
        operand = next(o for o in node.inputs if fiber in self.known[o])
        given = self.known[operand].get(fiber, _NOTHING)
        first = max(given.first, self._closed(operand))
        return _Reach(first, max(given.full, first + given.derived), given.derived)

    def _evaluate(self, node: Node, fiber: Fiber) -> _Reach:
        outer = fiber[0]
        ready, full, reads, carried = 0, 0, False, False
        for operand in node.inputs:
            given = self.known[operand].get(fiber, _NOTHING)
            if outer in operand.axes:
                carried = True
                ready = max(ready, given.first)
                full = max(full, given.full)
                reads = reads or (given.derived and set(fiber) <= set(operand.axes))
            else:
                ready = max(ready, self._closed(operand))
                full = max(full, self._closed(operand))
        over = outer in _over(node.op)
        sweeps = node.op.sweeps if over else 1
        end = ready + sweeps if reads else max(ready, full)
        if reads:
            self.most = max(self.most, end)
            self.repeated = self.repeated or (node.op.family == "recurrences" and not over)
        if outer in node.axes and carried and (not over or _goes_along(node.op)):
            whole = reads and set(fiber) <= set(node.axes)
            return _Reach(ready + (sweeps - 1 if reads else 0), end, whole)
        return _Reach(end, end, False)


def _over(op: Op) -> set[str]:
    """The axes along which an operation reads more than one element for one of its result."""
    if isinstance(op, Broadcast | Convert | Reorder):  # these name axes, and move nothing
        return set()
    fields = vars(op)
    names = {name for field in ("axes", "sources") for name in fields.get(field, ())}
    return names | {fields[field] for field in ("axis", "source") if field in fields}


def _goes_along(op: Op) -> bool:
    """Whether an element of the result needs what came before it or stands near it, and not everything.

    A normalisation needs everything first, which its `sweeps` count, and then goes along once more.
    """
    return isinstance(op, Convolution | Cumulative | Normalisation | SegmentSoftmax | Shift | Windows)


def _moved(op: Op, fiber: Fiber) -> list[Fiber]:
    """The axes that the fiber runs along after an operation that gives it others."""
    match op:
        case Split():
            return [_replaced(fiber, op.source, op.targets)] if op.source in fiber else []
        case Merge():
            at = fiber.index(op.sources[0]) if op.sources[0] in fiber else 0
            if fiber[at : at + len(op.sources)] == op.sources:
                return [(*fiber[:at], op.target, *fiber[at + len(op.sources) :])]
            return []
        case Rename() | Slice() | Pad() | Windows():
            return [_replaced(fiber, op.source, (op.target,))] if op.source in fiber and op.source != op.target else []
        case Concat():
            return [_replaced(fiber, axis, (op.target,)) for axis in op.sources if axis in fiber]
        case Convolution():
            return [
                _replaced(fiber, axis, (target,))
                for axis, target in zip(op.sources, op.targets, strict=True)
                if axis in fiber and axis != target
            ]
    return []


def _leaves(op: Op, fiber: Fiber) -> bool:
    """Whether the operation only gives the fiber other names, so that under the old ones nothing happens."""
    return bool(_moved(op, fiber)) and not isinstance(op, Concat)


def _replaced(fiber: Fiber, axis: str, new: tuple[str, ...]) -> Fiber:
    at = fiber.index(axis)
    return (*fiber[:at], *new, *fiber[at + 1 :])
