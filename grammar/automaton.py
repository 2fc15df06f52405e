"""The LALR automaton of the grammar, run on the tokens of one line.

lark makes the table and the calls that build the tree. Most reductions of a line only pass their one child on, from
`power` up to `expression`: such a chain is followed once for its states and its next token, and is one step later on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lark import Lark
from lark.parse_tree_builder import ExpandSingleChild
from lark.parsers.lalr_analysis import Shift

from .tokens import Token

END = "$END"

# A rule whose right side is complete: what it makes, of how many children, and by which call (None passes a child on).
_Reduction = tuple[str, int, Callable[[list[Any]], Any] | None]
_Row = Mapping[str, int | _Reduction]  # by token type or rule: the state to go to, or a reduction


class Unexpected(Exception):
    """A token that does not fit; its type is END behind the last one. expected: the types of those that would."""

    def __init__(self, token: Token, expected: frozenset[str]) -> None:
        super().__init__(token)
        self.token = token
        self.expected = expected


class Automaton:
    """What reads lines. lark: a grammar for LALR(1) with a transformer; starts: its start symbols."""

    def __init__(self, lark: Lark, starts: Iterable[str]) -> None:
        self._ends: dict[str, tuple[int, int]] = {}  # of every start symbol: the first state, and the last
        self._rows: dict[int, _Row] = {}
        self._passed: dict[tuple[int, int, str], int] = {}  # a state, the one above it, a token: where a chain ends
        for start in starts:
            made = lark.parse_interactive(start=start).parser_state.parse_conf
            self._ends[start] = made.start_state, made.end_state
            for state, row in made.states.items():
                if state not in self._rows:
                    self._rows[state] = {name: _step(entry, made.callbacks) for name, entry in row.items()}

    def read(self, tokens: Sequence[Token], start: str) -> Any:
        """The tree of one line. Raises Unexpected, and what building the tree raises."""
        rows, passed = self._rows, self._passed
        state, last = self._ends[start]
        states, values = [state], list[Any]()
        place = tokens[-1].end
        for token in (*tokens, Token(END, "", place, place)):
            kind = token.type
            while state != last or kind != END:
                step = rows[state].get(kind)
                if step is None:
                    raise Unexpected(token, frozenset(name for name in rows[state] if name.isupper()))
                if isinstance(step, int):
                    state = step
                    states.append(state)
                    values.append(token)
                    break
                rule, size, build = step
                if build is None:
                    chain = (states[-2], state, kind)
                    if chain not in passed:
                        passed[chain] = self._end_of_chain(*chain, last)
                    states[-1] = state = passed[chain]
                    continue
                if size:
                    children = values[-size:]
                    del values[-size:], states[-size:]
                else:
                    children = []
                values.append(build(children))
                state = self._after(states[-1], rule)
                states.append(state)
        return values[-1]

    def _end_of_chain(self, below: int, state: int, kind: str, last: int) -> int:
        """The state after all reductions that only pass on what stands above a state."""
        while state != last or kind != END:
            step = self._rows[state].get(kind)
            if not isinstance(step, tuple) or step[2] is not None:
                break
            state = self._after(below, step[0])
        return state

    def _after(self, state: int, rule: str) -> int:
        """The state above this one when a rule is complete."""
        found = self._rows[state][rule]
        assert isinstance(found, int), "a rule is gone on from by a shift"
        return found


def _step(entry: tuple[Any, Any], callbacks: Mapping[Any, Callable[[list[Any]], Any]]) -> int | _Reduction:
    action, target = entry
    if action is Shift:
        return int(target)
    size, build = len(target.expansion), callbacks[target]
    passes = size == 1 and isinstance(build, ExpandSingleChild)
    return str(target.origin.name), size, None if passes else build
