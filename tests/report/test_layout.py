"""Properties that every layout has, on random graphs."""

from __future__ import annotations

from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from attngraph.layout import BOX_GAP, LAYER_GAP, Box, Layout, _crossings, _Item, lay_out


@st.composite
def graphs(draw: st.DrawFn) -> list[Box[int]]:
    count = draw(st.integers(1, 14))
    boxes = []
    for key in range(count):
        operands = tuple(draw(st.lists(st.integers(0, key - 1), max_size=3))) if key else ()
        width = draw(st.floats(20, 200))
        boxes.append(Box(key, width, 40.0, operands, first=key == 0, last=draw(st.booleans())))
    return boxes


@given(graphs())
def test_boxes_never_overlap_and_edges_point_down(boxes: list[Box[int]]) -> None:
    layout = lay_out(boxes)
    for one, two in combinations(boxes, 2):
        a, b = layout.places[one.key], layout.places[two.key]
        beside = abs(a.x - b.x) >= (one.width + two.width) / 2 + BOX_GAP - 1e-6
        below = abs(a.y - b.y) >= (one.height + two.height) / 2 + LAYER_GAP - 1e-6
        assert beside or below
    for box in boxes:
        place = layout.places[box.key]
        assert box.width / 2 <= place.x <= layout.width - box.width / 2
        assert box.height / 2 <= place.y <= layout.height - box.height / 2
        for position, operand in enumerate(box.operands):
            stops = [layout.places[operand], *layout.routes[operand, box.key, position], place]
            assert all(upper.y < lower.y for upper, lower in pairwise(stops))


@given(graphs())
def test_long_edges_keep_out_of_boxes(boxes: list[Box[int]]) -> None:
    layout = lay_out(boxes)
    for route in layout.routes.values():
        for stop in route:
            for box in boxes:
                place = layout.places[box.key]
                assert abs(stop.y - place.y) > box.height / 2 or abs(stop.x - place.x) > box.width / 2


@given(graphs())
def test_unused_results_stand_at_the_bottom_and_inputs_at_the_top(boxes: list[Box[int]]) -> None:
    layout = lay_out(boxes)
    read = {operand for box in boxes for operand in box.operands}
    lowest = max(place.y for place in layout.places.values())
    assert all(layout.places[box.key].y == lowest for box in boxes[1:] if box.last and box.key not in read)
    assert layout.places[0].y == min(place.y for place in layout.places.values())


@given(graphs())
def test_a_graph_has_one_picture(boxes: list[Box[int]]) -> None:
    assert lay_out(boxes) == lay_out(boxes)


def test_nothing_is_small() -> None:
    layout: Layout[int] = lay_out([])
    assert not layout.places
    assert layout.width > 0 < layout.height


def test_crossings_are_counted() -> None:
    def item(layer: int, rank: int, *below: int) -> _Item:
        return _Item(1, 1, layer, [], list(below), [0.0] * len(below), rank=rank)

    items = [item(0, 0, 3, 2), item(0, 1, 2), item(1, 0), item(1, 1)]
    # 0 -> 3 crosses 1 -> 2; 0 -> 2 and 1 -> 2 only meet
    assert _crossings(items, [[0, 1], [2, 3]]) == 1


def test_a_removable_crossing_is_removed() -> None:
    boxes = [
        Box("a", 50, 40, (), first=True),
        Box("b", 50, 40, (), first=True),
        Box("reads b", 50, 40, ("b",)),
        Box("reads a", 50, 40, ("a",)),
    ]
    layout = lay_out(boxes)
    assert (layout.places["a"].x < layout.places["b"].x) == (layout.places["reads a"].x < layout.places["reads b"].x)


def test_chains_are_straight() -> None:
    boxes = [Box(i, 50.0 + 10 * i, 40.0, (i - 1,) if i else ()) for i in range(6)]
    assert len({round(place.x, 6) for place in lay_out(boxes).places.values()}) == 1
