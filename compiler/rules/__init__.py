"""Simplification rules: what may be replaced by what, and why, as data."""

from __future__ import annotations

from .arithmetic import ARITHMETIC
from .functions import FUNCTIONS
from .layout import LAYOUT
from .logic import LOGIC
from .normalisations import NORMALISATIONS
from .reductions import REDUCTIONS
from .rule import Rule

#: in the order in which they are tried: what says more comes first
RULES: tuple[Rule, ...] = (*NORMALISATIONS, *FUNCTIONS, *REDUCTIONS, *LOGIC, *LAYOUT, *ARITHMETIC)
