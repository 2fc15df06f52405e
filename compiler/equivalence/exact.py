"""What operations mean in modular arithmetic: a graph evaluated on residues.

What is known about positions and sizes alone is also computed as it is, so that masks, windows and decays are exact:
they decide, and the rest is arithmetic. An operation without a rule here is an unknown function of all that it reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ..graph import Node, topological
from ..ops.base import Op
from ..scan import Part, Scan
from . import recurrences
from .elements import ELEMENTS, elementwise
from .maps import MAPS
from .movement import MOVEMENTS
from .opaque import opaque
from .totals import TOTALS
from .values import Rule, Setting, TooLarge, Value

MAX_ELEMENTS = 200_000


def evaluate(
    outputs: Sequence[Node], setting: Setting, given: Mapping[Node, Value] = MappingProxyType({})
) -> list[Value]:
    """The values of nodes; given: those that are known. Errors: TooLarge; KeyError for a size that is not given."""
    found = dict(given)
    for node in topological(outputs):
        if node in found:
            continue
        count = 1
        for length in setting.shape(_touched(node)):
            count *= length
        if count > MAX_ELEMENTS:
            raise TooLarge
        operands = [found[operand] for operand in node.inputs]
        rule = RULES.get(type(node.op), elementwise if node.op.elementwise else opaque)
        value = rule(node, operands, setting)
        assert value.axes == node.axes, node
        bundled = isinstance(value, recurrences.Bundle)
        found[node] = value if setting.visit is None or bundled else setting.visit(value, setting)
    return [found[output] for output in outputs]


def _touched(node: Node) -> list[str]:
    """Axes that are multiplied out while a node is evaluated."""
    return list({*node.axes, *(axis for operand in node.inputs for axis in operand.axes)})


def _scan(node: Node, operands: list[Value], setting: Setting) -> Value:
    return recurrences.scan(node, operands, setting, evaluate)


RULES: Mapping[type[Op], Rule] = {**ELEMENTS, **TOTALS, **MOVEMENTS, **MAPS, Scan: _scan, Part: recurrences.part}
