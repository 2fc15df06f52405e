"""Pictures of a graph: SVG without further packages, and DOT for Graphviz.

A box is one operation: what it does, and the type of its value. Numbers and sizes are written into the
box that uses them (`· / sqrt(D)`), values over several sequence axes stand out, and every box tells its full text
when the pointer rests on it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from .layout import Box, Layout, lay_out, port
from .snippet import one_line

if TYPE_CHECKING:
    from .compiler.graph import Graph, Node

MAX_NODES = 1500

# Fill and line of the boxes, per family of operations.
COLOURS: Mapping[str, tuple[str, str]] = {
    "inputs": ("#e3f0fd", "#2f7dc4"),
    "parameters": ("#e9e6fb", "#6b5bd0"),
    "positions": ("#eef1f4", "#7b8794"),
    "contractions": ("#fff0d6", "#d68a00"),
    "convolutions": ("#ffe9d9", "#c8601a"),
    "pooling": ("#e2f3e4", "#3d8f4a"),
    "reductions": ("#dff5ec", "#1f9d72"),
    "normalisations": ("#d9f3f5", "#138a98"),
    "cumulative": ("#fbf4cf", "#b39200"),
    "ordering": ("#f7ead9", "#a8652a"),
    "transforms": ("#dfeaf7", "#3a5fa8"),
    "complex": ("#f4e6fb", "#9a4fd0"),
    "layout": ("#f3f3f0", "#8d8d80"),
    "logic": ("#fbe5f1", "#c2478f"),
    "arithmetic": ("#ffffff", "#9aa5b1"),
    "functions": ("#fdeee9", "#d0603a"),
    "recurrences": ("#f1e3f7", "#7d3f98"),
    "lowerings": ("#e4f4d4", "#4c8c14"),
}
OTHER = ("#ffffff", "#9aa5b1")
LOUD = "#d11a2a"
_TITLE, _LABEL, _TYPE = 16.0, 13.0, 11.5
# Advance of a monospaced letter in units of its size; `textLength` makes it so whatever the font.
_ADVANCE = 0.602
_PADDING, _LONGEST = 12.0, 34
_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


class TooLargeToDraw(ValueError):
    """A graph with more boxes than a picture can show."""


# -- words -------------------------------------------------------------------------------------------------

_INFIX = {
    "Add": "+",
    "Subtract": "-",
    "Multiply": "*",
    "Divide": "/",
    "FloorDivide": "//",
    "Modulo": "%",
    "Power": "^",
    "Equal": "==",
    "NotEqual": "!=",
    "Less": "<",
    "LessEqual": "<=",
    "Greater": ">",
    "GreaterEqual": ">=",
    "And": "and",
    "Or": "or",
}
HOLE = "·"


def _opened(graph: Graph) -> Graph:
    """The graph with the steps of its recurrences drawn out: their arguments read what the scan is given."""
    from .compiler.graph import Graph as Opened
    from .compiler.graph import Node as Box

    made: list[Node] = []
    names: dict[Node, str] = {}

    def copied(node: Node, inputs: tuple[Node, ...]) -> Node:
        made.append(Box(node.op, inputs, node.type, len(made)))
        if node in graph.names:
            names[made[-1]] = graph.names[node]
        return made[-1]

    def opened(nodes: Sequence[Node], found: dict[Node, Node]) -> dict[Node, Node]:
        for node in nodes:
            operands = tuple(found[operand] for operand in node.inputs)
            step = getattr(node.op, "step", None)
            if step is not None:
                given = zip(step.arguments, operands, strict=True)
                inner = {argument: copied(argument, (operand,)) for argument, operand in given}
                steps = opened([inside for inside in step.nodes() if inside not in inner], inner)
                operands = tuple(steps[result] for result in step.results)
            found[node] = copied(node, operands)
        return found

    if not any(node.op.inside() for node in graph):
        return graph
    found = opened(graph.nodes(), {})
    return Opened(tuple(found[node] for node in graph.outputs), names)


def _scalars(graph: Graph) -> set[Node]:
    """Numbers that are written into the boxes that use them."""
    found: set[Node] = set()
    for node in graph:  # operands first, so one look at the operands suffices
        named = type(node.op).__name__ in ("Input", "Parameter", "Buffer", "Argument")
        if not (node.axes or node.type.batched or named) and all(operand in found for operand in node.inputs):
            found.add(node)
    return found - set(graph.outputs)


def _write(node: Node, scalars: set[Node], depth: int = 0) -> str:
    """The operation with its numbers in place and a dot for each value that arrives by an edge."""
    parts = [
        (_write(operand, scalars, depth + 1) if depth < 8 else "...") if operand in scalars else HOLE
        for operand in node.inputs
    ]
    op = node.op
    kind = type(op).__name__
    if kind == "Contraction":
        axes = ", ".join(getattr(op, "axes", ()))
        return f"{HOLE} @ {HOLE} over {axes}"
    if kind in _INFIX and len(parts) == 2:
        text = f"{parts[0]} {_INFIX[kind]} {parts[1]}"
        return f"({text})" if depth else text
    if kind == "Negative":
        return f"-{parts[0]}"
    if kind == "Reorder":
        return f"{parts[0]}^T" if _is_transpose(node) else f"{parts[0]} as {node.type}"
    if kind == "Rename":
        return f"{parts[0]}{_brackets(node)}"
    if kind == "IntegerPower":
        return f"{parts[0]} ^ {getattr(op, 'exponent', '')}"
    if kind == "Convert":
        return f"{parts[0]} as {node.type.kind.value}"
    name = _name(node)
    return f"{name}({', '.join(parts)})" if parts and any(part != HOLE for part in parts) else name


def _name(node: Node) -> str:
    """The operation without its operands: `softmax[M]`, `pos(N)`, `0.5`, `split[N -> Y, X]`."""
    op = node.op
    kind = type(op).__name__
    if kind in ("Input", "Parameter", "Buffer", "Argument"):
        return f"{getattr(op, 'name', '')}"
    if kind == "Literal":
        value = getattr(op, "value", 0)
        return "pi" if value == math.pi else f"{value:.6g}" if isinstance(value, float) else str(value)
    if kind == "Size":
        return str(getattr(op, "size", ""))
    if kind == "Position":
        return f"pos({getattr(op, 'axis', '')})"
    # what the language cannot spell goes by its class name: `fused softmax`, `broadcast[M]`
    name = op.spelling or re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind).lower()
    return f"{name}{_brackets(node)}"


def _is_transpose(node: Node) -> bool:
    axes = node.inputs[0].axes
    return node.axes == (*axes[:-2], *reversed(axes[-2:]))


def _brackets(node: Node) -> str:
    def joined(value: object) -> str:
        return ", ".join(value) if isinstance(value, tuple) else str(value)

    op = node.op
    sources = [joined(getattr(op, name)) for name in ("axes", "axis", "source", "sources") if hasattr(op, name)]
    targets = [joined(getattr(op, name)) for name in ("target", "targets", "window") if hasattr(op, name)]
    if not sources:
        return ""
    return f"[{', '.join(sources)} -> {', '.join(targets)}]" if targets else f"[{', '.join(sources)}]"


def _family(node: Node) -> str:
    kind = type(node.op).__name__
    return {"Input": "inputs", "Parameter": "parameters", "Buffer": "parameters"}.get(kind, node.op.family)


def _short(text: str) -> str:
    shown = one_line(text)
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"


def _labels(graph: Graph, scalars: set[Node]) -> dict[Node, tuple[str, str]]:
    """Two lines for every box: the operation (with the name that the text gives it), and the type."""
    found = {}
    for node in graph:
        if node in scalars:
            continue
        text = _write(node, scalars)
        name = graph.names.get(node, "")
        if name and type(node.op).__name__ not in ("Input", "Parameter", "Buffer", "Argument") and name != text:
            text = f"{name} = {text}"
        found[node] = (text, str(node.type))
    return found


# -- SVG -----------------------------------------------------------------------------------------------------


def _escape(text: str) -> str:
    shown = one_line(text)
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        shown = shown.replace(character, entity)
    return shown


def _length(text: str, size: float) -> float:
    return len(text) * size * _ADVANCE


def _text(x: float, y: float, text: str, size: float, *, fill: str, weight: int = 400, anchor: str = "middle") -> str:
    """One line of text that is exactly as wide as `_length` says, whatever font the viewer has."""
    if not text:
        return ""
    style = f'font-size="{size:g}" font-weight="{weight}" fill="{fill}" text-anchor="{anchor}"'
    fitted = f'textLength="{_length(text, size):.1f}" lengthAdjust="spacingAndGlyphs"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style} {fitted}>{_escape(text)}</text>'


def to_svg(graph: Graph, *, title: str = "", subtitle: str = "", loud: Collection[Node] = ()) -> str:
    """The graph as an SVG document, inputs on top and outputs at the bottom.

    loud: values that get a red frame, for they grow faster than the sequence. Errors: TooLargeToDraw.
    """
    graph = _opened(graph)
    scalars = _scalars(graph)
    labels = _labels(graph, scalars)
    if len(labels) > MAX_NODES:
        raise TooLargeToDraw(f"a picture shows at most {MAX_NODES} operations, not {len(labels)}; use .dot or .json")
    boxes = [_box(node, graph, labels[node], scalars) for node in labels]
    layout = lay_out(boxes)
    families = [family for family in COLOURS if any(_family(node) == family for node in labels)]
    families += sorted({_family(node) for node in labels} - set(COLOURS))
    loud = set(loud) & labels.keys()
    legend, legend_width, legend_height = _legend(families, bool(loud))
    head = 24.0 + (_TITLE + 8 if title else 0) + (_TYPE + 6 if subtitle else 0)
    heading = max(_length(title, _TITLE), _length(subtitle, _TYPE)) + 48
    width = max(layout.width, legend_width + 48, heading)
    height = head + layout.height + legend_height + 16
    shift = (width - layout.width) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.1f} {height:.1f}" role="img" font-family="{_FONT}">',
        f"<title>{_escape(title or 'attention graph')}</title>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0.5 1 L7.5 4 L0.5 7 z" fill="#7b8794"/></marker></defs>',
        f'<rect width="{width:.1f}" height="{height:.1f}" fill="#ffffff"/>',
        _text(width / 2, 24 + _TITLE * 0.8, title, _TITLE, fill="#1f2933", weight=700),
        _text(width / 2, head - 4, subtitle, _TYPE, fill="#616e7c"),
        f'<g transform="translate({shift:.1f} {head:.1f})">',
        '<g fill="none" stroke="#9aa5b1" stroke-width="1.4">',
        *_edges(boxes, layout),
        "</g>",
        *(_drawn(box, layout, labels[box.key], box.key in loud, box.key in graph.outputs) for box in boxes),
        "</g>",
        f'<g transform="translate({(width - legend_width) / 2:.1f} {head + layout.height:.1f})">',
        *legend,
        "</g>",
        "</svg>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _box(node: Node, graph: Graph, label: tuple[str, str], scalars: set[Node]) -> Box[Node]:
    first, second = _short(label[0]), _short(label[1])
    width = max(_length(first, _LABEL), _length(second, _TYPE), 34.0) + 2 * _PADDING
    operands = tuple(operand for operand in node.inputs if operand not in scalars)
    return Box(node, width, 46.0, operands, type(node.op).__name__ == "Input", node in graph.outputs)


def _drawn(box: Box[Node], layout: Layout[Node], label: tuple[str, str], loud: bool, output: bool) -> str:
    place = layout.places[box.key]
    fill, line = COLOURS.get(_family(box.key), OTHER)
    left, top = place.x - box.width / 2, place.y - box.height / 2
    stroke = f'stroke="{LOUD}" stroke-width="2.2"' if loud else f'stroke="{line}" stroke-width="1.3"'
    radius = box.height / 2 if _family(box.key) in ("inputs", "parameters") else 7
    size = f'width="{box.width:.1f}" height="{box.height:.1f}" rx="{radius:g}"'
    parts = [f"<g><title>{_escape(f'{label[0]} : {label[1]}')}</title>"]
    if output:  # a second frame around results
        frame = f'width="{box.width + 8:.1f}" height="{box.height + 8:.1f}" rx="{radius + 4:g}"'
        parts.append(f'<rect x="{left - 4:.1f}" y="{top - 4:.1f}" {frame} fill="none" stroke="{line}"/>')
    parts += [
        f'<rect x="{left:.1f}" y="{top:.1f}" {size} fill="{fill}" {stroke}/>',
        _text(place.x, place.y - 3, _short(label[0]), _LABEL, fill="#1f2933", weight=600),
        _text(place.x, place.y + 14, _short(label[1]), _TYPE, fill=LOUD if loud else "#616e7c"),
        "</g>",
    ]
    return "".join(parts)


def _edges(boxes: Sequence[Box[Node]], layout: Layout[Node]) -> list[str]:
    """One curve per operand; it enters the box of the user where the operand stands in the call."""
    paths = []
    heights = {box.key: box.height for box in boxes}
    for box in boxes:
        count = len(box.operands)
        for position, operand in enumerate(box.operands):
            start, end = layout.places[operand], layout.places[box.key]
            spread = min(box.width * 0.6, 36.0 * (count - 1))
            enter = end.x + spread * port(position, count)
            route = layout.routes[operand, box.key, position]
            points = [(start.x, start.y + heights[operand] / 2), *((p.x, p.y) for p in route)]
            points.append((enter, end.y - box.height / 2 - 1.5))
            paths.append(f'<path d="{_curve(points)}" marker-end="url(#arrow)"/>')
    return paths


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """A smooth line through the points that leaves and enters each of them vertically."""
    text = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x, y), (to_x, to_y) in pairwise(points):
        if abs(x - to_x) < 0.5:
            text += f" L{to_x:.1f} {to_y:.1f}"
        else:
            half = (to_y - y) * 0.5
            text += f" C{x:.1f} {y + half:.1f} {to_x:.1f} {to_y - half:.1f} {to_x:.1f} {to_y:.1f}"
    return text


def _legend(families: Sequence[str], loud: bool) -> tuple[list[str], float, float]:
    """The shapes of the legend, its width and its height; four entries to a row."""
    entries = [(family, *COLOURS.get(family, OTHER), 1.3) for family in families]
    rows = [entries[i : i + 4] for i in range(0, len(entries), 4)]
    columns = [max(_length(row[i][0], 11) for row in rows if i < len(row)) + 42 for i in range(min(4, len(entries)))]
    if loud:
        rows.append([("grows faster than the sequence", "#ffffff", LOUD, 2.2)])
    shapes = []
    for number, row in enumerate(rows):
        x, y = 0.0, 6 + 20.0 * number
        for column, (name, fill, line, stroke) in enumerate(row):
            paint = f'fill="{fill}" stroke="{line}" stroke-width="{stroke}"'
            shapes.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="18" height="12" rx="3" {paint}/>')
            shapes.append(_text(x + 25, y + 10, name, 11, fill="#52606d", anchor="start"))
            x += columns[column]
    return shapes, max(sum(columns) - 16, 215.0 if loud else 0.0), 20.0 * len(rows) + 6


# -- DOT -------------------------------------------------------------------------------------------------------


def _quoted(*lines: str) -> str:
    """A string of DOT; its lines are centred below each other."""
    return '"' + "\\n".join(one_line(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines) + '"'


def to_dot(graph: Graph, *, title: str = "") -> str:
    """The graph in the language of Graphviz, with the same boxes as `to_svg`."""
    graph = _opened(graph)
    scalars = _scalars(graph)
    lines = ["digraph attention {", '  node [shape=box, style="rounded,filled", fontname="monospace"];']
    if title:
        lines.append(f"  label={_quoted(title)};")
    labels = _labels(graph, scalars)
    for node, (first, second) in labels.items():
        fill, line = COLOURS.get(_family(node), OTHER)
        ends = ", peripheries=2" if node in graph.outputs else ""
        lines.append(f'  n{node.index} [label={_quoted(first, second)}, fillcolor="{fill}", color="{line}"{ends}];')
    for node in labels:
        for position, operand in enumerate(node.inputs):
            if operand not in scalars:
                tail = f' [headlabel="{position}"]' if len(node.inputs) > 1 and not node.op.commutative else ""
                lines.append(f"  n{operand.index} -> n{node.index}{tail};")
    return "\n".join([*lines, "}"]) + "\n"
