"""A formula after typing: what every later phase starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..grammar.ast import Claim
from ..grammar.ast import Formula as Tree
from ..grammar.source import Source, Span
from .definitions import Definition
from .graph import Builder, Graph, Node
from .sizes import Facts, Poly


@dataclass(frozen=True)
class Normal:
    """Independent normal draws with mean 0 and this standard deviation."""

    deviation: Poly


@dataclass(frozen=True)
class Uniform:
    """Independent uniform draws from [low, high)."""

    low: Poly
    high: Poly


@dataclass(frozen=True)
class Value:
    """An expression without inputs, broadcast to the tensor's axes."""

    node: Node


Initial = Normal | Uniform | Value


@dataclass(frozen=True)
class Stored:
    """A parameter or buffer of the module; node.op names it and its axes."""

    node: Node
    initial: Initial


@dataclass(frozen=True)
class Relation:
    """A fact that is verified when a module is called: `left relation right`."""

    relation: str  # = >= <= > <
    left: Poly
    right: Poly
    span: Span


@dataclass(frozen=True)
class Formula:
    """A typed formula.

    inputs: one node per declared input, in call order.
    outputs of `graph`: one per declared result, in its declared layout.
    constants: default values of `const` names; a compile may override them.
    fixed: axes whose size is settled when a module is built, because a parameter or buffer carries
        them (their sizes must be given or follow from facts).
    bound: axes whose size is read from an input when the module is called (minus `fixed`).
    derived: sizes of all other axes, over fixed and bound axes and constants.
    relations: what must hold at call time and is not proved.
    origins: where in the text a node was first written.
    introduced: axes of `derived` that a plan made; the text does not know them.
    called: the formulas whose text was read in place of a call, in the order of the calls.
    inner_names: what called formulas call their values.
    """

    name: str
    tree: Tree
    source: Source
    builder: Builder
    graph: Graph
    inputs: tuple[Node, ...]
    parameters: tuple[Stored, ...]
    buffers: tuple[Stored, ...]
    constants: Mapping[str, int | float]
    fixed: tuple[str, ...]
    bound: tuple[str, ...]
    derived: Mapping[str, Poly]
    facts: Facts
    relations: tuple[Relation, ...]
    sequence: tuple[str, ...]
    claims: tuple[Claim, ...]
    origins: Mapping[Node, Span]
    called: tuple[Definition, ...] = ()
    introduced: frozenset[str] = frozenset()
    inner_names: Mapping[Node, str] = field(default_factory=dict)

    @property
    def docstring(self) -> str:
        return self.tree.docstring or ""
