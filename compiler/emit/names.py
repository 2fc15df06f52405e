"""Identifiers of generated code: the formula's own names, unique and never in Python's way."""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Iterable, Mapping

from ..graph import Node
from ..lowerings.memory import Continued, Remember
from ..ops.base import Leaf
from ..ops.contraction import Contraction
from ..ops.leaves import Position

#: Names that the generated module itself uses.
MODULE_NAMES = frozenset({"self", "torch", "nn", "math", "Tensor", "wide", "device", "dtype", "complex_dtype"})
_KEYWORDS = frozenset({*keyword.kwlist, *keyword.softkwlist})
_BUILTINS = frozenset(name for name in dir(builtins) if not name.startswith("_"))
#: Builtins that generated code calls: an input must not hide them.
_CALLED = frozenset({"max", "min", "abs", "int", "float", "bool", "len", "tuple", "super", "ValueError"})

LOCAL_RESERVED = MODULE_NAMES | _KEYWORDS | _BUILTINS
ARGUMENT_RESERVED = MODULE_NAMES | _KEYWORDS | _CALLED

#: Attributes of nn.Module, and the methods that the generated class adds: a parameter cannot be called so.
_MODULE_ATTRIBUTES = """
    T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double
    dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half
    ipu load_state_dict modules mtia named_buffers named_children named_modules named_parameters parameters
    register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
    register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook
    register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory state_dict to
    to_empty train training type xpu zero_grad
    check check_step forward_in_pieces init_state step step_blocks step_constants reset_parameters reset_constants
    source inputs device dtype
"""
ATTRIBUTE_RESERVED = _KEYWORDS | frozenset(_MODULE_ATTRIBUTES.split())


class Names:
    """Hands out identifiers, each once."""

    def __init__(self, reserved: frozenset[str]) -> None:
        self._reserved = reserved
        self._taken: set[str] = set()

    def claim(self, names: Iterable[str]) -> None:
        """Names that are used as they are."""
        self._taken.update(names)

    def take(self, wanted: str) -> str:
        """`wanted`, or the nearest free name: `sum_` for a reserved one, `a_2` for a taken one."""
        name = f"{wanted}_" if wanted in self._reserved else wanted
        number = 2
        base = name
        while name in self._taken or name in self._reserved:
            name = f"{base}_{number}"
            number += 1
        self._taken.add(name)
        return name


def class_name(formula: str) -> str:
    """`softmax_attention` is the class `SoftmaxAttention`."""
    name = "".join(part[:1].upper() + part[1:] for part in formula.split("_"))
    return f"{name}_" if name in MODULE_NAMES | _KEYWORDS | _BUILTINS else name


def printable(text: str) -> str:
    """One printable line: what a comment may hold."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


_NOUNS = {
    "Add": "total", "Subtract": "difference", "Multiply": "product", "Divide": "ratio", "Where": "chosen",
    "Power": "power", "IntegerPower": "power", "Negative": "negated", "Concat": "joined", "Take": "taken",
}  # fmt: skip
#: Operations whose result is the operand in another guise: it keeps the operand's name.
_SAME = frozenset({"Reorder", "Rename", "Convert", "Broadcast"})


def hint(node: Node, names: Mapping[Node, str]) -> str:
    """What a value is called that the formula does not name: `kv` for `k^T @ v`, `sum_a` for `sum[M](a)`."""
    if node in names:
        return names[node]
    op = node.op.op if isinstance(node.op, Continued) else node.op
    kind = type(op).__name__
    if isinstance(node.op, Position):
        return node.op.axis.lower()
    word = _NOUNS.get(kind, _snake(kind))
    if isinstance(node.op, Leaf) or not node.inputs:
        return word
    operands = [names.get(operand, "") for operand in node.inputs]
    if kind in _SAME and operands[0]:
        return operands[0]
    if isinstance(op, Remember) and operands[0]:
        return f"{operands[0]}_all"
    if isinstance(node.op, Contraction) and all(0 < len(name) <= 3 for name in operands):
        return "".join(operands)
    if len(operands) == 1 and operands[0] and len(word) + len(operands[0]) < 16:
        return f"{word}_{operands[0]}"
    return word


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))
