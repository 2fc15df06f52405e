"""Formulas with one word changed: what computes something else is never proved to be the same."""

from __future__ import annotations

import re
from random import Random

import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import attngraph
from attngraph.grammar.diagnostics import FormulaError

from .attention import attentions
from .draft import Draft, assert_close, is_finite, read
from .programs import programs

#: words and what they become; a whole number becomes the next one
SWAPS = {
    "+": "-", "*": "+", "exp": "tanh", "tanh": "sin", "sin": "cos", "cos": "sin", "relu": "abs", "abs": "relu",
    "sigmoid": "tanh", "max": "min", "min": "max", "sum": "mean", "mean": "sum", ">=": ">", "<=": "<",
    "softmax": "l1_normalize", "sqrt": "square", "square": "exp",
}  # fmt: skip
WORD = re.compile(r"(?<![\w.])\d+(?![\w.])|[A-Za-z_]\w*|>=|<=|[+*]")


def mutant(text: str, random: Random) -> str | None:
    """The text with one word of its body changed; None if no word can be."""
    head, _, rest = text.partition("\n")
    words = [word for word in WORD.finditer(rest) if word[0] in SWAPS or word[0].isdigit()]
    if not words:
        return None
    word = random.choice(words)
    other = SWAPS.get(word[0]) or str(int(word[0]) + 1)
    return f"{head}\n{rest[: word.start()]}{other}{rest[word.end() :]}"


@settings(max_examples=40, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(st.one_of(programs(most=4), attentions()), st.integers(0, 2**32))
def test_a_changed_formula_is_proved_only_if_it_computes_the_same(draft: Draft, seed: int) -> None:
    text = mutant(draft.text, Random(seed))
    assume(text is not None)
    assert text is not None
    try:
        found = attngraph.equivalent(draft.text, text)
    except FormulaError:  # the change broke it
        assume(False)
    if found.verdict.name != "PROVED":
        return
    for number in range(3):
        drafts = [Draft(each, draft.sizes, draft.batches, number) for each in (draft.text, text)]
        samples = [read(each) for each in drafts]
        values = [sample.values(sample.module(sample.formula.graph)) for sample in samples]
        if not all(map(is_finite, values)):
            continue
        for mine, theirs in zip(*values, strict=True):
            shape = torch.broadcast_shapes(mine.shape, theirs.shape)  # type: ignore[no-untyped-call]
            assert_close((mine.expand(shape),), (theirs.expand(shape),))
