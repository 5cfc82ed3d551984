from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kevel.domain.errors import Invalid
from kevel.domain.name_filter import FILTER_CHARS_MAX, NameFilter

CHARS = st.sampled_from("ab-1")
PIECES = st.tuples(
    st.sampled_from(["a", "b", "-", ".", r"\d", r"\w", "[ab]", "[^a]", r"\-"]), st.sampled_from(["", "", "*", "+", "?"])
)


@st.composite
def expressions(draw: st.DrawFn) -> str:
    """Expressions of the part of the language that is understood."""
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        pieces = draw(st.lists(PIECES, max_size=5))
        body = "".join(char + sign for char, sign in pieces[:2]) + "".join(char for char, _ in pieces[2:])
        parts.append(draw(st.sampled_from(["", "^"])) + body + draw(st.sampled_from(["", "$"])))
    return "|".join(parts)


@given(expressions(), st.text(CHARS, max_size=8))
def test_an_understood_expression_finds_what_the_real_engine_finds(text: str, name: str) -> None:
    assert NameFilter(text).matches(name) == (re.search(text, name) is not None or text in name)


@given(st.text(string.printable, max_size=30), st.text(string.printable, max_size=30))
def test_any_text_is_found_in_a_name_that_contains_it(text: str, around: str) -> None:
    assert NameFilter(text).matches(around + text + around)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"^.*\-instance\-[0-9]+$", {"web-instance-12"}),
        ("web", {"web-instance-12", "my (web)"}),
        ("my (web)", {"my (web)"}),
        ("^db|12$", {"web-instance-12", "db"}),
        ("(a|b)", set()),
        (".*", {"web-instance-12", "db", "my (web)"}),
    ],
)
def test_filters_find_the_names_that_users_expect(text: str, found: set[str]) -> None:
    names = {"web-instance-12", "db", "my (web)"}
    assert {name for name in names if NameFilter(text).matches(name)} == found


def test_an_expression_that_would_backtrack_for_ever_is_answered_at_once() -> None:
    assert not NameFilter("^" + "a*" * 8 + "b$").matches("a" * 255)


def test_a_filter_longer_than_any_name_is_refused() -> None:
    with pytest.raises(Invalid, match="255"):
        NameFilter("a" * (FILTER_CHARS_MAX + 1))
