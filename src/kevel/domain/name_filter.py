"""The `name` filter of lists: a piece of the name, or a simple regular expression, matched in linear time.

Nova takes any regular expression. One that backtracks can keep a thread busy for hours, so only a part of the language
is understood here: characters, ".", classes ("[a-z]", and the letters for words, digits and spaces), the repetitions
"* + ?", "^", "$", and "|" between whole alternatives. Groups and "{n}" are not part of it: a filter with one is only
taken as text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from kevel.domain.errors import Invalid

FILTER_CHARS_MAX: Final = 255
#: Repetitions in one filter: they are what costs time.
REPEATS_MAX: Final = 8

_TOKEN: Final = re.compile(
    r"(\\[^bBAZ0-9]|\\[dDsSwW]|\[\^?(?:(?!--|&&|~~)[^\]\[|])+\]|[^\\\[\](){}|*+?^$])([*+?]?)", re.DOTALL
)


@dataclass(frozen=True)
class _Alternative:
    """One expression without "|". State i of the match means that i pieces have been passed; states are bits."""

    pieces: tuple[re.Pattern[str], ...]
    #: Bit i: piece i may come again.
    repeating: int
    #: For each run of pieces that may be missing: the states in front of, between and behind them.
    skippable: tuple[int, ...]
    from_start: bool
    to_end: bool
    fitting: dict[str, int] = field(default_factory=dict, compare=False)

    def matches(self, name: str) -> bool:
        end = 1 << len(self.pieces)
        start = self._skip(1)
        states = start
        for char in name:
            if states & end and not self.to_end:
                return True
            fits = self.fitting.get(char)
            if fits is None:
                fits = sum(1 << at for at, piece in enumerate(self.pieces) if piece.fullmatch(char))
                self.fitting[char] = fits
            passed = states & fits
            states = self._skip(passed << 1 | passed & self.repeating)
            if not self.from_start:
                states |= start
        return bool(states & end)

    def _skip(self, states: int) -> int:
        for run in self.skippable:
            reached = states & run
            states |= run & -(reached & -reached)
        return states


class NameFilter:
    """Tells whether a name fits what the user typed. Raises Invalid for a text that no name can be looked up by."""

    def __init__(self, text: str) -> None:
        if len(text) > FILTER_CHARS_MAX:
            raise Invalid(f"The name to look for is too long; the most is {FILTER_CHARS_MAX} characters.")
        self._text = text
        parsed = [_parse(part) for part in text.split("|")]
        known = [one for one in parsed if one is not None]
        self._alternatives = known if len(known) == len(parsed) else []

    def matches(self, name: str) -> bool:
        """Does the name contain the text, or fit the expression?"""
        return self._text in name or any(one.matches(name) for one in self._alternatives)


def _parse(text: str) -> _Alternative | None:
    """The expression, or None if it is not one that is understood here."""
    from_start = text.startswith("^")
    body = text[1:] if from_start else text
    to_end = body.endswith("$") and not body.endswith("\\$")
    body = body[:-1] if to_end else body
    pieces: list[re.Pattern[str]] = []
    signs: list[str] = []
    at = 0
    while at < len(body):
        token = _TOKEN.match(body, at)
        if token is None:
            return None
        try:
            pieces.append(re.compile(token[1], re.DOTALL))
        except re.error:
            return None
        signs.append(token[2])
        at = token.end()
    if sum(map(bool, signs)) > REPEATS_MAX:
        return None
    repeating = sum(1 << at for at, sign in enumerate(signs) if sign in ("*", "+"))
    return _Alternative(tuple(pieces), repeating, _skippable(signs), from_start, to_end)


def _skippable(signs: list[str]) -> tuple[int, ...]:
    runs: list[int] = []
    open_run = False
    for at, sign in enumerate(signs):
        may_miss = sign in ("*", "?")
        if may_miss and open_run:
            runs[-1] |= 1 << at + 1
        elif may_miss:
            runs.append(1 << at | 1 << at + 1)
        open_run = may_miss
    return tuple(runs)
