"""Every diagnostic code: its name, severity, headline and help. The only place with these words.

AG0xx reading files and limits; AG1xx syntax; AG2xx names, axes and types; AG3xx sizes and facts;
AG4xx claims; AG5xx lints (warnings); AG9xx faults of attngraph itself.
"""

from __future__ import annotations

from typing import NamedTuple


class Code(NamedTuple):
    name: str
    severity: str
    headline: str
    help: str | None = None


CODES: dict[str, Code] = {
    # -- reading ---------------------------------------------------------------------------------
    "AG001": Code("unreadable-file", "error", "cannot read `{path}`: {reason}"),
    "AG002": Code("not-utf8", "error", "`{path}` is not UTF-8 text (byte {offset})", "save the file as UTF-8"),
    "AG003": Code(
        "file-too-large", "error", "the text has {size} characters; the limit is {limit}", "split it into several files"
    ),
    "AG004": Code(
        "nested-too-deeply",
        "error",
        "the expression is nested more than {limit} levels deep",
        "bind an inner part to a name",
    ),
    "AG005": Code(
        "line-too-long",
        "error",
        "the line has {size} characters; the limit is {limit}",
        "bind parts of the expression to names",
    ),
    "AG006": Code("formula-too-large", "error", "the formula has more than {limit} {what}"),
    "AG007": Code(
        "no-formula",
        "error",
        "there is no formula in this file",
        "a formula starts with `attention name(q[N, D], ...) -> [N, E]:`",
    ),
    "AG008": Code("number-too-large", "error", "`{text}` is outside the range of a float64 number"),
    "AG009": Code(
        "too-many-errors",
        "error",
        "there are more than {limit} errors; the rest is not shown",
        "is this a formula file?",
    ),
    # -- syntax ----------------------------------------------------------------------------------
    "AG101": Code("unknown-character", "error", "this character has no meaning here: {character}", "take it out"),
    "AG102": Code(
        "look-alike",
        "error",
        "`{text}` has a letter that is not ASCII: {character}",
        "names are written in ASCII letters, digits and `_`",
    ),
    "AG103": Code("foreign-operator", "error", "`{found}` is not written like this here"),
    "AG104": Code("unclosed-bracket", "error", "`{opener}` is never closed", "close it with `{closer}`"),
    "AG105": Code("unmatched-bracket", "error", "`{closer}` closes nothing", "take it out, or open the bracket"),
    "AG106": Code("mismatched-bracket", "error", "`{closer}` cannot close `{opener}`"),
    "AG107": Code("unclosed-docstring", "error", "the docstring is never closed", "end it with `{quotes}`"),
    "AG108": Code(
        "misleading-text",
        "error",
        "this character makes the text look other than it is read: {character}",
        "take it out",
    ),
    "AG110": Code("unexpected", "error", "expected {expected}, found {found}"),
    "AG111": Code("missing-operand", "error", "`{operator}` has no value on its {side}"),
    "AG112": Code(
        "missing-operator",
        "error",
        "there is no operator between `{left}` and `{right}`",
        "put one between them, such as `*`, `@` or `+`",
    ),
    "AG113": Code(
        "chained-comparison", "error", "comparisons cannot be chained", "write two comparisons joined by `and`"
    ),
    "AG114": Code("equals-in-expression", "error", "`=` cannot stand here: it binds a name", "to compare, write `==`"),
    "AG115": Code(
        "missing-colon", "error", "the header needs a `:` at its end", "write `attention name(...) -> [...]:`"
    ),
    "AG116": Code(
        "missing-arrow",
        "error",
        "the header does not say what the result is",
        "write `-> [N, E]` and the axes of the result before the `:`",
    ),
    "AG117": Code("misspelt-word", "error", "`{found}` starts no line of a formula", "did you mean `{word}`?"),
    "AG118": Code("foreign-word", "error", "`{found}` is a word of another language"),
    "AG120": Code("not-a-name", "error", "`{name}` cannot be used as a name: {reason}", "for example `{other}`"),
    "AG121": Code(
        "outside-formula",
        "error",
        "this line belongs to no formula",
        "a formula starts with `attention name(...) -> [...]:`",
    ),
    "AG122": Code("missing-return", "error", "the formula returns nothing", "end it with `return ...`"),
    "AG123": Code("after-return", "error", "nothing can follow `return`"),
    "AG124": Code(
        "misplaced-docstring",
        "error",
        "{found} cannot stand here",
        "the docstring stands directly below the header; a remark starts with `#`",
    ),
    "AG125": Code("empty-brackets", "error", "the brackets name no axis", "write the axis, as in `sum[M](x)`"),
    "AG126": Code("brackets-after-value", "error", "brackets after a value rename one axis of it: `x[N -> M]`"),
    "AG127": Code(
        "argument-order",
        "error",
        "an argument without a name follows one with a name",
        "move it to the front; to compare, write `==`",
    ),
    "AG128": Code("repeated-argument", "error", "`{name}` is given twice"),
    "AG129": Code(
        "unused-value", "error", "the value of this line is not used", "bind it, as in `a = ...`, or return it"
    ),
    "AG130": Code("missing-axes", "error", "`{name}` has no axes in brackets"),
    "AG131": Code("one-line", "error", "this belongs on a line of its own"),
    "AG134": Code(
        "unknown-kind", "error", "`{found}` is no kind of value", "the kinds are `real`, `bool`, `int` and `complex`"
    ),
    "AG135": Code(
        "malformed-claim", "error", "this is no claim", "claims look like `linear`, `causal` or `time O(N * D)`"
    ),
    "AG136": Code(
        "malformed-fact", "error", "`{found}` is no relation between sizes", "facts use `=`, `>=`, `<=`, `>` and `<`"
    ),
    "AG137": Code(
        "continued-line",
        "error",
        "a line cannot start with `{operator}`",
        "an expression goes on over several lines inside parentheses",
    ),
    "AG138": Code("missing-value", "error", "a value is missing after `{after}`"),
    "AG139": Code("text-value", "error", "formulas have no text values", "a remark starts with `#`"),
    "AG140": Code("malformed-binding", "error", "a line binds one name, without brackets"),
    "AG141": Code("missing-comma", "error", "there is no comma between `{left}` and `{right}`"),
    "AG142": Code("misplaced-line", "error", "`{word}` cannot stand {where}"),
    "AG143": Code(
        "empty-scan",
        "error",
        "this scan has no steps to take",
        "write them below it, indented more than the `scan` line",
    ),
    "AG144": Code(
        "unnamed-yield",
        "error",
        "`yield` gives its value no name",
        "name it, as in `yield y = ...`; behind the scan it is read by that name",
    ),
    "AG145": Code(
        "missing-start", "error", "the state `{name}` has no first value", "for example `state {name}[...] = 0`"
    ),
    "AG150": Code(
        "misplaced-use", "error", "a `use` line cannot stand here", "`use` lines stand above all formulas of a file"
    ),
    "AG151": Code(
        "malformed-use", "error", "a `use` line names one file, in double quotes", 'for example `use "kernels.attn"`'
    ),
    "AG152": Code("unusable-path", "error", "`{path}` cannot be used: {reason}"),
    "AG153": Code(
        "circular-use", "error", "`{path}` leads back to this file: {chain}", "move what both need to a file of its own"
    ),
    "AG154": Code(
        "faulty-use", "error", "`{path}` has mistakes; the first: {first}", "`attngraph check {file}` shows all"
    ),
    "AG155": Code("repeated-use", "error", "`{path}` is used twice", "take one of the two lines out"),
    "AG156": Code(
        "too-many-files", "error", "`{path}` leads to more than {limit} {what}", "use fewer files, or smaller ones"
    ),
    "AG157": Code(
        "ambiguous-name",
        "error",
        "`{path}` has a formula `{name}`, and so has {other}",
        "give one of the two another name",
    ),
    # -- names, axes and types -------------------------------------------------------------------
    "AG201": Code("contraction-mismatch", "error", "`{expression}` would contract `{left}` with `{right}`"),
    "AG202": Code("unknown-name", "error", "`{name}` is not defined"),
    "AG203": Code("unknown-function", "error", "there is no function `{name}`"),
    "AG204": Code("unknown-axis", "error", "there is no axis `{name}` here"),
    "AG205": Code(
        "scalar-contraction", "error", "`@` contracts axes, but one side is a single number", "write `*` to scale"
    ),
    "AG206": Code(
        "axis-twice",
        "error",
        "the result of `{expression}` would hold the axis `{axis}` twice",
        "rename one of the two, as in `[{axis} -> M]` after a value",
    ),
    "AG207": Code(
        "bool-operand",
        "error",
        "`{operation}` works on numbers, but this is bool",
        "turn the mask into numbers: `where(mask, 1, 0)`",
    ),
    "AG208": Code(
        "not-bool", "error", "`{operation}` needs a bool value, but this is {kind}", "compare, as in `x > 0`"
    ),
    "AG209": Code("complex-operand", "error", "`{operation}` is not defined for complex numbers"),
    "AG211": Code(
        "axis-exists",
        "error",
        "`{operation}` would make the axis `{axis}`, which the value {type} has already",
        "choose another name for the new axis",
    ),
    "AG212": Code("axis-repeated", "error", "`{operation}` names the axis `{axis}` twice"),
    "AG213": Code(
        "not-int",
        "error",
        "`{operation}` needs an int value, but this is {kind}",
        "positions are ints: `pos(N)`, and `+ - * // %` of ints; `int(x)` rounds towards 0",
    ),
    "AG214": Code(
        "mixed-operands",
        "error",
        "`{operation}` would mix {left} and {right}",
        "turn the mask into numbers: `where(mask, 1, 0)`",
    ),
    "AG215": Code(
        "missing-bound", "error", "`{operation}` has no bound", "write `clamp(x, min=0)`, `clamp(x, max=1)` or both"
    ),
    "AG216": Code("fraction", "error", "`{attribute}` of `{operation}` must be a whole number, but it is {value}"),
    "AG217": Code("out-of-range", "error", "`{attribute}` of `{operation}` must be {bound}, but it is {value}"),
    "AG218": Code(
        "concat-count",
        "error",
        "`{operation}` has {axes} axes in its brackets for {operands} operands",
        "one axis for each operand: `concat[N, M -> L](a, b)`",
    ),
    "AG219": Code(
        "concat-axis",
        "error",
        "`{operation}` joins along `{axis}`, which another operand has as an axis of its own",
        "rename it in one of them",
    ),
    "AG220": Code(
        "fold-axes", "error", "`{operation}` takes two axes: the places and the window", "write `fold[P, W -> N](x)`"
    ),
    "AG221": Code(
        "kernel-axes",
        "error",
        "`{operation}` slides `{tap}` of the kernel along `{place}` of the value, but the {owner} has `{axis}` too",
        "rename the axis; a kernel of its own at each place is a sum over `windows`",
    ),
    "AG222": Code(
        "state-mismatch", "error", "the {which} value of the state `{name}` is {actual}, but {declared} is declared"
    ),
    "AG223": Code(
        "scanned-axis",
        "error",
        "`{axis}` is scanned here: a step sees one position of it, and cannot make or name the whole axis",
        "rename the axis outside the scan, as in `x[N -> M]`, to read all positions in each step",
    ),
    "AG224": Code("inner-name", "error", "`{name}` is known only inside its scan"),
    "AG225": Code(
        "long-scan", "error", "the scan over `{axis}` takes {steps} steps, one after the other; the limit is {limit}"
    ),
    "AG226": Code(
        "constant-as-axis",
        "error",
        "the constant `{name}` sizes the axis of its name, so it must be a whole number from 1 on, but it is {value}",
        "give one of the two another name",
    ),
    "AG260": Code(
        "duplicate-formula", "error", "there are two formulas called `{name}`", "give one of them another name"
    ),
    "AG262": Code(
        "duplicate-name",
        "error",
        "`{name}` is bound twice",
        "names are bound once; give the second value a name of its own",
    ),
    "AG263": Code(
        "repeated-axis",
        "error",
        "`{name}` would hold the axis `{axis}` twice",
        "give one of the two a name of its own, as in `[N, M]` with `where M = N`",
    ),
    "AG264": Code("result-mismatch", "error", "this returns {actual}, but the header declares {declared}"),
    "AG265": Code(
        "result-count",
        "error",
        "{returned} {returned:value is|values are} returned, but {declared} {declared:is|are} declared",
    ),
    "AG266": Code("function-as-value", "error", "`{name}` is a function; it needs arguments", "call it: `{name}(x)`"),
    "AG267": Code("transpose-rank", "error", "`{expression}` has fewer than two axes, so there is nothing to swap"),
    "AG268": Code("missing-axis", "error", "the value has no axis `{axis}`; it is {type}"),
    "AG269": Code("brackets-mismatch", "error", "`{name}` takes {takes} in brackets: `{example}`"),
    "AG270": Code(
        "value-as-function",
        "error",
        "`{name}` is a value, not a function",
        "write `*` to multiply; an axis is renamed with `{name}[N -> M]`",
    ),
    "AG271": Code("position-argument", "error", "`pos` takes one axis", "write `pos(N)`"),
    "AG272": Code("argument-count", "error", "`{name}` takes {takes}, but {given} {given:is|are} given"),
    "AG273": Code(
        "recursive-call", "error", "`{name}` calls itself", "functions and formulas are inlined, so they cannot recurse"
    ),
    "AG274": Code("unknown-keyword", "error", "`{name}` has no keyword `{keyword}`"),
    "AG275": Code("missing-keyword", "error", "`{name}` needs `{keyword}=`: {doc}"),
    "AG276": Code(
        "several-results",
        "error",
        "`{name}` has {results} results and cannot be used in an expression",
        "only a formula with one result can be called",
    ),
    "AG277": Code(
        "missing-parameter",
        "error",
        "`{name}` has a parameter `{keyword}`, which this formula does not declare",
        "declare `param {keyword}[...]`, or pass `{keyword}=...`",
    ),
    "AG278": Code("call-mismatch", "error", "`{name}` takes {wanted}, but this is {actual}"),
    "AG279": Code(
        "unreadable-callee", "error", "`{name}` could only be read in part", "correct the mistakes in `{name}` first"
    ),
    "AG285": Code(
        "axes-confused",
        "error",
        "`{name}` tells {one} and {other} apart, but here both are `{axis}`",
        "give one of the two another name before the call, as in `x[{axis} -> L]`",
    ),
    # -- sizes and facts -------------------------------------------------------------------------
    "AG301": Code(
        "contradiction",
        "error",
        "this cannot hold: the facts before it say that one side is {left} and the other {right}",
    ),
    "AG302": Code(
        "unknown-size",
        "error",
        "nothing says how large the axis `{axis}` is",
        "no input or parameter carries it; add a fact such as `where {axis} = N`",
    ),
    "AG303": Code("size-mismatch", "error", "this needs {left} = {right}, but they are {left_size} and {right_size}"),
    "AG305": Code(
        "not-a-size",
        "error",
        "this is no size",
        "sizes are made of numbers, axes and constants with `+ - * / // % ^`, floor, ceil, max, min, log, sqrt",
    ),
    "AG306": Code("size-power", "error", "the power of a size must be a whole number"),
    "AG307": Code("bad-number", "error", "this has no usable value: {reason}"),
    "AG308": Code(
        "constant-name",
        "error",
        "`{name}` is no constant that is known here",
        "constants are made of numbers, `pi` and constants declared before",
    ),
    "AG309": Code(
        "not-a-constant",
        "error",
        "this cannot be computed when the formula is read",
        "constants are made of numbers, `pi` and earlier constants with `+ - * / // % ^`, sqrt, exp, log, floor, ceil, "
        "abs, max, min",
    ),
    "AG310": Code("tensor-in-fact", "error", "`{name}` is a tensor; facts speak of sizes"),
    "AG311": Code(
        "tensor-in-initial",
        "error",
        "`{name}` is a tensor; initial values are made of numbers, sizes, constants and positions",
    ),
    "AG312": Code(
        "missing-initial",
        "error",
        "the buffer `{name}` has no value",
        "write `buffer {name}[...] = zeros`, `= normal(1)` or an expression",
    ),
    "AG313": Code("initial-axes", "error", "the value of `{name}` is {actual}, which does not fit {declared}"),
    "AG314": Code(
        "too-few", "error", "this needs {high} >= {low}, which the facts rule out", "take fewer, or change the fact"
    ),
    # -- claims ----------------------------------------------------------------------------------
    "AG401": Code("not-linear", "error", "this formula is not linear: it takes {order} {what} in {axes}"),
    "AG402": Code("time-exceeded", "error", "this formula takes {order} time, more than the claimed {bound}"),
    "AG403": Code("memory-exceeded", "error", "this formula takes {order} memory, more than the claimed {bound}"),
    "AG404": Code("unknown-claim", "error", "there is no claim `{name}`"),
    "AG405": Code("claim-bound", "error", "the claim `{name}` {problem}"),
    "AG406": Code(
        "no-sequence", "error", "there is no sequence axis, so growth has no meaning", "name one: `sequence N`"
    ),
    "AG407": Code("not-causal", "error", "this formula is not provably causal: {reason}"),
    "AG408": Code("mixes-batch", "error", "this formula mixes the entries of the batch axis `{axis}`"),
    "AG410": Code(
        "no-recurrence",
        "error",
        "this formula has no recurrence: no state of fixed size is enough for the next position",
    ),
    "AG411": Code("state-exceeded", "error", "the recurrent state has {size} elements, more than the claimed {bound}"),
    # -- lints -----------------------------------------------------------------------------------
    "AG501": Code("unused-input", "warning", "`{formula}` does not use its input `{name}`"),
    "AG502": Code("unused-name", "warning", "the {what} `{name}` is never used"),
    "AG503": Code("shadowed-axis", "warning", "`{name}` is also an axis; from here on the name means this value"),
    "AG504": Code(
        "shadowed-function",
        "warning",
        "`{name}` is also a function of the language; from here on the name means this one",
    ),
    "AG505": Code("lonely-axis", "warning", "the axis `{axis}` appears only here; did you mean `{other}`?"),
    "AG506": Code("unused-use", "warning", "no formula of `{path}` is called"),
    "AG508": Code(
        "constant-state",
        "warning",
        "no step changes the state `{name}`",
        "update it, as in `{name} = ...`, or bind it outside",
    ),
    "AG510": Code("no-gradient", "note", "no gradient reaches `{name}`"),
    "AG511": Code("mixes-samples", "note", "the entries of the batch axis `{axis}` depend on each other"),
    "AG512": Code("batch-size", "note", "the result depends on how many entries the batch axis `{axis}` has"),
    "AG520": Code("vanishing-denominator", "warning", "the denominator `{text}` can be 0"),
    "AG521": Code("outside-domain", "warning", "`{operation}` of a value that can be {values}"),
    "AG522": Code(
        "overflow", "note", "`{operation}` of a value without an upper bound leaves the range of float16 {limit}"
    ),
    "AG523": Code(
        "lost-gradient",
        "warning",
        "where `{text}` is 0 this value is not selected, but its gradient is NaN all the same",
        "select the argument first, as in `log(where(x > 0, x, 1))`",
    ),
    "AG524": Code(
        "empty-row",
        "warning",
        "a row in which everything is -inf makes `{operation}` NaN",
        "hide by a large negative number such as -1e9; or by `softmax[M](s, mask=c)`, under which such a row is 0",
    ),
    "AG525": Code(
        "infinite-gradient",
        "note",
        "where `{text}` is 0 the gradient of `{operation}` is infinite, or NaN",
        "add a small number to it first",
    ),
    # -- faults of attngraph ---------------------------------------------------------------------
    "AG901": Code(
        "internal-error", "error", "this is a bug in attngraph: {reason}", "please report it with the formula"
    ),
}
