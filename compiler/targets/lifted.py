"""Sizes that torch's operator for recurrences needs as arguments, and does not ask for."""

from __future__ import annotations

from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Node
from torch.fx.experimental.symbolic_shapes import free_symbols


def with_sizes(program: ExportedProgram) -> ExportedProgram:
    """The same program, in which every recurrence takes the sizes of its results as arguments.

    Inductor writes a recurrence as a loop and finds the sizes of what it fills among the arguments; in torch 2.13 the
    export hands on those sizes only that the step reads, and inductor fails with `KeyError` of the symbol.
    """
    graph = program.graph_module.graph
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    if not inputs:
        return program
    sources = _sources(inputs)
    sizes: dict[Any, Node] = {}
    for scan in [node for node in graph.nodes if node.target is torch.ops.higher_order.scan]:
        function, states, entries, others = scan.args
        missing = set().union(*map(free_symbols, scan.meta["val"])) - {*map(_symbol, others)}
        added = []
        for symbol in sorted(missing & sources.keys(), key=str):
            if symbol not in sizes:
                holder, dim, value = sources[symbol]
                with graph.inserting_after(inputs[-1]):
                    sizes[symbol] = graph.call_function(torch.ops.aten.sym_size.int, (holder, dim))
                sizes[symbol].meta["val"] = value
            added.append(sizes[symbol])
        scan.args = (function, states, entries, (*others, *added))
        _accept(getattr(program.graph_module, function.target), added)
    program.graph_module.recompile()
    return program


def _sources(inputs: list[Node]) -> dict[Any, tuple[Node, int, torch.SymInt]]:
    """Of every symbol, an input and the dimension whose size it is."""
    found: dict[Any, tuple[Node, int, torch.SymInt]] = {}
    for node in inputs:
        value = node.meta.get("val")
        for dim, size in enumerate(value.shape if isinstance(value, torch.Tensor) else ()):
            if isinstance(size, torch.SymInt) and size.node.expr.is_Symbol:
                found.setdefault(size.node.expr, (node, dim, size))
    return found


def _symbol(argument: Any) -> Any:
    value = argument.meta.get("val") if isinstance(argument, Node) else None
    return value.node.expr if isinstance(value, torch.SymInt) else None


def _accept(step: Any, sizes: list[Node]) -> None:
    """Give the graph of a step one more argument for each of these sizes, behind its own."""
    last = [node for node in step.graph.nodes if node.op == "placeholder"][-1]
    for size in sizes:
        with step.graph.inserting_after(last):
            last = step.graph.placeholder(f"size_of_{size.name}")
        last.meta["val"] = size.meta["val"]
    step.recompile()
