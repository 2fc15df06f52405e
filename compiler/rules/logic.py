"""Masks and choices."""

from __future__ import annotations

from .rule import Rule, above, implies, just_above, not_a_number, not_below

MASKS = (
    Rule("double not", "c[N] bool", "not not c", "c", "two negations cancel", "not c"),
    Rule("and of equals", "c[N] bool, d[N] bool", "c and c", "c", "both are the same", "c and d"),
    Rule("or of equals", "c[N] bool, d[N] bool", "c or c", "c", "both are the same", "c or d"),
    Rule(
        "and of equals, taken apart", "c[N] bool, d[N] bool", "c and (d and c)", "c and d", "one of both is enough",
        near_miss="c and (d and not c)",
    ),
    Rule(
        "or of equals, taken apart", "c[N] bool, d[N] bool", "c or (d or c)", "c or d", "one of both is enough",
        near_miss="c or (d or not c)",
    ),
    Rule("and absorbs or", "c[N] bool, d[N] bool", "c and (c or d)", "c", "c implies c or d", "c and (not c or d)"),
    Rule("or absorbs and", "c[N] bool, d[N] bool", "c or (c and d)", "c", "c and d implies c", "c or (not c and d)"),
    Rule(
        "implied mask", "c[N, M] bool, d[N, M] bool", "c and d", "c", "c holds only where d does",
        near_miss="pos(N) >= pos(M) and pos(M) >= pos(N) - 2", when=implies("c", "d"),
        instance="pos(N) >= pos(M) and pos(N) >= pos(M) - 2",
    ),
    Rule(
        "implied part of a mask", "c[N, M] bool, d[N, M] bool, e[N, M] bool", "c and (e and d)", "c and e",
        "c holds only where d does", near_miss="c and (e and d)", when=implies("c", "d"),
        instance="pos(N) >= pos(M) and (e and pos(N) >= pos(M) - 2)",
    ),
    Rule(
        "implied alternative", "c[N, M] bool, d[N, M] bool", "c or d", "d", "c holds only where d does",
        near_miss="c or d", when=implies("c", "d"), instance="pos(N) > pos(M) or pos(N) >= pos(M)",
    ),
)  # fmt: skip

CHOICES = (
    Rule(
        "choice of equals", "c[N] bool, x[N], y[N]", "where(c, x, x)", "x",
        "both branches are the same", near_miss="where(c, x, y)",
    ),
    Rule(  # `where(c, x, 0)` stays: a mask as a factor
        "negated choice", "c[N] bool, x[N], y[N]", "where(not c, x, y)", "where(c, y, x)", "the branches change places",
        near_miss="where(not c, x, 0)", when=not_a_number("y"),
    ),
    Rule(
        "choice inside its first branch", "c[N] bool, d[N] bool, x[N], y[N], z[N]", "where(c, where(c, x, y), z)",
        "where(c, x, z)", "in this branch the condition holds", near_miss="where(c, where(d, x, y), z)", unread=("y",),
    ),
    Rule(
        "choice inside its second branch", "c[N] bool, d[N] bool, x[N], y[N], z[N]", "where(c, x, where(c, y, z))",
        "where(c, x, z)", "in this branch the condition does not hold", near_miss="where(c, x, where(d, y, z))",
        unread=("y",),
    ),
    Rule(
        "choice without NaN", "x[N], y[N], z[N]", "where(isnan(x), y, x)", "x", "x is a number",
        near_miss="where(isnan(z), y, x)", guard="where x is NaN",
    ),
)  # fmt: skip

_X, _Y, _MEETS = "1 + exp(x)", "-square(y)", "exp(x)"
_ROUNDED = "where rounding makes both equal"
DECIDED = tuple(
    Rule(
        f"choice by x {sign} y where {reason}{'' if guard is None else ', up to rounding'}",
        "x[N], y[N], a[N], b[N]", f"where(x {sign} y, a, b)", after, reason,
        near_miss=f"where(x {sign} y, a, b)", when=condition, instance=f"where({left} {sign} {right}, a, b)",
        unread=("b" if after == "a" else "a",), guard=guard,
    )
    for sign, after, reason, condition, left, right, guard in (
        (">", "a", "x is always larger", above("x", "y"), _X, _Y, None),
        (">", "b", "x is never larger", not_below("y", "x"), _Y, _X, None),
        (">=", "a", "x is never smaller", not_below("x", "y"), _X, _Y, None),
        (">=", "b", "x is always smaller", above("y", "x"), _Y, _X, None),
        ("<", "a", "x is always smaller", above("y", "x"), _Y, _X, None),
        ("<", "b", "x is never smaller", not_below("x", "y"), _X, _Y, None),
        ("<=", "a", "x is never larger", not_below("y", "x"), _Y, _X, None),
        ("<=", "b", "x is always larger", above("x", "y"), _X, _Y, None),
        (">", "a", "x is always larger", just_above("x", "y"), _MEETS, _Y, _ROUNDED),
        (">=", "b", "x is always smaller", just_above("y", "x"), _Y, _MEETS, _ROUNDED),
        ("<", "a", "x is always smaller", just_above("y", "x"), _Y, _MEETS, _ROUNDED),
        ("<=", "b", "x is always larger", just_above("x", "y"), _MEETS, _Y, _ROUNDED),
    )
)  # fmt: skip

LOGIC = (*MASKS, *CHOICES, *DECIDED)
