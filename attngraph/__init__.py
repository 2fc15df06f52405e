"""attngraph: the language and compiler for attention formulas.

    import attngraph

    formula = attngraph.load("examples/linear/linear_attention.attn")
    report = attngraph.check(formula)        # types, cost, claims: no torch needed
    module = attngraph.compile(formula)      # a torch.nn.Module
    shorter = attngraph.simplify(formula)    # what cancels is gone; `shorter.steps` says why
"""

from .api import (
    CompileError,
    Formula,
    FormulaError,
    Report,
    Simplified,
    check,
    compile,
    equivalent,
    explain,
    load,
    parse,
    simplify,
)

__version__ = "0.1.0"

__all__ = [
    "CompileError",
    "Formula",
    "FormulaError",
    "Report",
    "Simplified",
    "__version__",
    "check",
    "compile",
    "equivalent",
    "explain",
    "load",
    "parse",
    "simplify",
]
