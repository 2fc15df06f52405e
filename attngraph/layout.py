"""Where the boxes of a graph go: layers by longest path, few crossings, straight edges.

The method of Sugiyama, Tagawa and Toda (1981): every node gets a layer, edges that skip layers are cut into
pieces by invisible nodes, each layer is ordered by the barycentres of its neighbours, and the positions
within the order are those that are nearest to the neighbours in the least-squares sense (isotonic regression,
solved exactly by pooling). No randomness: a graph always gives the same picture.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

ORDER_SWEEPS = 24
POSITION_SWEEPS = 30
SWAP_ROUNDS = 8
BOX_GAP, EDGE_GAP, LAYER_GAP, MARGIN = 26.0, 14.0, 46.0, 24.0


@dataclass(frozen=True)
class Box(Generic[Key]):
    """A node to place. operands: the nodes that it reads, in order; an operand may occur twice."""

    key: Key
    width: float
    height: float
    operands: tuple[Key, ...]
    first: bool = False  # belongs to the top layer
    last: bool = False  # belongs to the bottom layer


@dataclass(frozen=True)
class Placed:
    """The middle of a box."""

    x: float
    y: float


@dataclass(frozen=True)
class Layout(Generic[Key]):
    """places: the middle of every box; routes: for (operand, user, position) the points between the two."""

    places: Mapping[Key, Placed]
    routes: Mapping[tuple[Key, Key, int], tuple[Placed, ...]]
    width: float
    height: float


@dataclass
class _Item:
    """A box, or a point of a long edge, in its layer."""

    width: float
    height: float
    layer: int
    above: list[int]
    below: list[int]
    ports: list[float]  # for each of `below`: where the edge enters it, from -0.4 (left) to 0.4 (right)
    x: float = 0.0
    rank: int = 0
    point: bool = False


def lay_out(boxes: Sequence[Box[Key]]) -> Layout[Key]:
    """Positions for boxes that are given operands first."""
    layers = _layers(boxes)
    items = [_Item(box.width, box.height, layers[box.key], [], [], []) for box in boxes]
    number = {box.key: index for index, box in enumerate(boxes)}
    chains: dict[tuple[Key, Key, int], list[int]] = {}
    for box in boxes:
        for position, operand in enumerate(box.operands):
            chain = [number[operand]]
            for layer in range(layers[operand] + 1, layers[box.key]):
                items.append(_Item(0.0, 0.0, layer, [], [], [], point=True))
                chain.append(len(items) - 1)
            chain.append(number[box.key])
            for upper, lower in pairwise(chain):
                items[upper].below.append(lower)
                items[lower].above.append(upper)
                items[upper].ports.append(0.0)
            # less than half, so that the last edge into a box stays left of the first one into the next
            items[chain[-2]].ports[-1] = 0.8 * port(position, len(box.operands))
            chains[operand, box.key, position] = chain
    rows = _order(items)
    _positions(items, rows)
    left = min((item.x - item.width / 2 for item in items), default=0.0)
    heights = [max(items[i].height for i in row) for row in rows]
    middles: list[float] = []
    y = MARGIN
    for height in heights:
        middles.append(y + height / 2)
        y += height + LAYER_GAP
    spots = [Placed(item.x - left + MARGIN, middles[item.layer]) for item in items]
    right = max((spot.x + item.width / 2 for spot, item in zip(spots, items, strict=True)), default=0.0)
    return Layout(
        {box.key: spots[index] for index, box in enumerate(boxes)},
        {edge: tuple(spots[i] for i in chain[1:-1]) for edge, chain in chains.items()},
        right + MARGIN,
        y - LAYER_GAP + MARGIN if rows else 2 * MARGIN,
    )


def port(position: int, count: int) -> float:
    """Where an edge enters its user: operands from left (-0.5) to right (0.5)."""
    return position / (count - 1) - 0.5 if count > 1 else 0.0


def _layers(boxes: Sequence[Box[Key]]) -> dict[Key, int]:
    """Longest path from the top; what reads nothing moves down to just above its first user."""
    layer: dict[Key, int] = {}
    for box in boxes:
        layer[box.key] = max((layer[operand] + 1 for operand in box.operands), default=0)
    deepest = max(layer.values(), default=0)
    users: dict[Key, list[Key]] = {box.key: [] for box in boxes}
    for box in boxes:
        for operand in box.operands:
            users[operand].append(box.key)
    for box in boxes:
        if box.last and not box.first and not users[box.key]:
            layer[box.key] = deepest
    depends = {box.key: box.first for box in boxes}
    for box in boxes:
        depends[box.key] |= any(depends[operand] for operand in box.operands)
    for box in reversed(boxes):
        if not depends[box.key] and users[box.key] and not box.first:
            layer[box.key] = min(layer[user] for user in users[box.key]) - 1
    used = {level: index for index, level in enumerate(sorted(set(layer.values())))}
    return {key: used[level] for key, level in layer.items()}


# -- order within layers -----------------------------------------------------------------------------------


def _order(items: list[_Item]) -> list[list[int]]:
    """The items of each layer from left to right: the order with the fewest crossings that sweeps find."""
    found = [_swept(items, _depth_first(items, leftmost_first)) for leftmost_first in (True, False)]
    rows = min(found, key=lambda pair: pair[0])[1]
    _rank(items, rows)
    return rows


def _swept(items: list[_Item], start: list[int]) -> tuple[int, list[list[int]]]:
    """Crossings and rows after sweeping down and up from a first order."""
    rows: list[list[int]] = [[] for _ in range(max((item.layer for item in items), default=-1) + 1)]
    for index in start:
        rows[items[index].layer].append(index)
    _rank(items, rows)
    best, fewest = [list(row) for row in rows], _crossings(items, rows)
    for sweep in range(ORDER_SWEEPS):
        if fewest == 0:
            break
        downwards = sweep % 2 == 0
        for row in rows if downwards else reversed(rows):
            centres = {index: _barycentre(items, index, downwards) for index in row}
            row.sort(key=centres.__getitem__)  # stable: equal centres keep their order
            _rank(items, [row])
        _swap(items, rows)
        crossings = _crossings(items, rows)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    return fewest, best


def _swap(items: list[_Item], rows: list[list[int]]) -> None:
    """Neighbours in a row change places as long as that takes crossings away."""
    for _ in range(SWAP_ROUNDS):
        better = False
        for row in rows:
            ends = {index: _ends(items, index) for index in row}
            starts = {index: [items[i].rank for i in items[index].above] for index in row}
            for at in range(len(row) - 1):
                one, two = row[at], row[at + 1]
                now = _pairs(ends[one], ends[two]) + _pairs(starts[one], starts[two])
                if now > _pairs(ends[two], ends[one]) + _pairs(starts[two], starts[one]):
                    row[at], row[at + 1] = two, one
                    items[one].rank, items[two].rank = at + 1, at
                    better = True
        if not better:
            return


def _ends(items: list[_Item], index: int) -> list[float]:
    """Where the edges of an item arrive in the row below, from left to right."""
    item = items[index]
    return sorted(items[i].rank + enters for i, enters in zip(item.below, item.ports, strict=True))


def _pairs(left: Sequence[float], right: Sequence[float]) -> int:
    """How many edges of the left item end right of those of the right one."""
    return sum(1 for a in left for b in right if a > b)


def _barycentre(items: list[_Item], index: int, downwards: bool) -> float:
    """The mean place of the neighbours on one side; the item's own place where it has none."""
    item = items[index]
    if downwards:
        places: list[float] = [items[i].rank for i in item.above]
    else:
        places = [items[i].rank + enters for i, enters in zip(item.below, item.ports, strict=True)]
    return sum(places) / len(places) if places else item.rank


def _depth_first(items: list[_Item], leftmost_first: bool) -> list[int]:
    """Every item once, neighbours near to each other."""
    seen: set[int] = set()
    found: list[int] = []
    for root in range(len(items)):
        stack = [root]
        while stack:
            index = stack.pop()
            if index not in seen:
                seen.add(index)
                found.append(index)
                near = items[index].above + items[index].below
                stack += reversed(near) if leftmost_first else near
    return found


def _rank(items: list[_Item], rows: list[list[int]]) -> None:
    for row in rows:
        for rank, index in enumerate(row):
            items[index].rank = rank


def _crossings(items: list[_Item], rows: list[list[int]]) -> int:
    """How many pairs of edges between adjacent layers cross: inversions, counted with a binary indexed tree."""
    total = 0
    for row in rows:
        reached = [_ends(items, index) for index in row]
        place = {value: number for number, value in enumerate(sorted({value for each in reached for value in each}))}
        ends = [place[value] for each in reached for value in each]
        tree = [0] * (len(place) + 2)
        for seen, end in enumerate(ends):
            smaller, at = 0, end + 1
            while at:
                smaller += tree[at]
                at -= at & -at
            total += seen - smaller
            at = end + 1
            while at < len(tree):
                tree[at] += 1
                at += at & -at
    return total


# -- positions within the order ------------------------------------------------------------------------------


def _positions(items: list[_Item], rows: list[list[int]]) -> None:
    for row in rows:
        for index, start in zip(row, _offsets(items, row), strict=True):
            items[index].x = start
    for sweep in range(POSITION_SWEEPS):
        downwards = sweep % 2 == 1
        # near the end a compromise between both sides, then once more in each direction, which straightens
        both = POSITION_SWEEPS - 6 <= sweep < POSITION_SWEEPS - 2
        for row in rows if downwards else reversed(rows):
            wanted, weights = [], []
            for index in row:
                item = items[index]
                near = item.above + item.below if both else item.above if downwards else item.below
                wanted.append(sum(items[i].x for i in near) / len(near) if near else item.x)
                # long edges should be straight; what has no neighbour on this side gives way
                weights.append((4.0 if item.point else 1.0) * len(near) if near else 0.01)
            for index, x in zip(row, _nearest(items, row, wanted, weights), strict=True):
                items[index].x = x


def _offsets(items: list[_Item], row: list[int]) -> list[float]:
    """The leftmost position of each item of a row that begins at 0."""
    found: list[float] = []
    for left, right in zip([None, *row], row, strict=False):
        if left is None:
            found.append(0.0)
        else:
            gap = EDGE_GAP if items[left].point or items[right].point else BOX_GAP
            found.append(found[-1] + (items[left].width + items[right].width) / 2 + gap)
    return found


def _nearest(items: list[_Item], row: list[int], wanted: list[float], weights: list[float]) -> list[float]:
    """Positions in order and without overlap that are nearest to the wanted ones, in weighted squares."""
    offsets = _offsets(items, row)
    pools: list[tuple[float, float, int]] = []  # mean, weight, members
    for target, offset, weight in zip(wanted, offsets, weights, strict=True):
        mean, total, count = target - offset, weight, 1
        while pools and pools[-1][0] > mean:
            before, its_weight, members = pools.pop()
            mean = (before * its_weight + mean * total) / (its_weight + total)
            total, count = total + its_weight, count + members
        pools.append((mean, total, count))
    means = [mean for mean, _, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]
