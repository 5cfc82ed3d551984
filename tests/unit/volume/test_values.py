"""Values as clients of Cinder write them."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kevel.api.volume.values import read_bool, read_metadata, read_size_gib, read_times, show_time
from kevel.domain.errors import Invalid


@given(st.integers(1, 2**31 - 1))
def test_a_size_is_read_from_a_number_and_from_its_digits(size: int) -> None:
    assert read_size_gib(size, "size") == read_size_gib(str(size), "size") == size


@given(st.integers(max_value=0) | st.integers(min_value=2**31) | st.text(st.characters(exclude_categories=["N"])))
def test_anything_else_is_no_size(size: int | str) -> None:
    with pytest.raises(Invalid, match="size"):
        read_size_gib(size, "size")


@pytest.mark.parametrize("word", [True, "true", "True", "TRUE", "1", "t", "yes", "on", " on "])
def test_words_for_true(word: bool | str) -> None:
    assert read_bool(word, "flag") is True


@pytest.mark.parametrize("word", [False, "false", "False", "0", "f", "no", "off"])
def test_words_for_false(word: bool | str) -> None:
    assert read_bool(word, "flag") is False


@pytest.mark.parametrize("word", ["", "perhaps", "2", "none"])
def test_words_for_neither(word: str) -> None:
    with pytest.raises(Invalid, match="flag"):
        read_bool(word, "flag")


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=5))
def test_a_metadata_filter_is_read_from_python_as_clients_write_it(metadata: dict[str, str]) -> None:
    assert read_metadata(repr(metadata)) == metadata


@given(st.text(max_size=60))
def test_a_metadata_filter_is_read_or_refused_and_nothing_else(text: str) -> None:
    try:
        assert isinstance(read_metadata(text), dict)
    except Invalid as error:
        assert "metadata" in error.message  # noqa: PT017 - both outcomes are right


@pytest.mark.parametrize(
    "text", ["__import__('os').system('true')", "{'a': open('/etc/passwd')}", "(" * 4000, "{" * 9000]
)
def test_a_metadata_filter_is_never_run(text: str) -> None:
    with pytest.raises(Invalid):
        read_metadata(text)


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1)))  # noqa: DTZ001 - Cinder's times have no zone
def test_a_time_that_is_shown_is_read_back(moment: datetime) -> None:
    at = (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)  # noqa: DTZ001 - as above
    shown = show_time(at)
    assert shown == moment.isoformat(timespec="microseconds")
    (found,) = read_times("created_at", f"gte:{shown}")
    assert (found.comparison, found.at) == ("gte", at)


@pytest.mark.parametrize("text", ["[" * 4000, "{[]: 1}", "{'a': [" * 500, "-" * 4000], ids=repr)
def test_a_metadata_filter_that_nobody_could_mean_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="dictionary of texts"):
        read_metadata(text)
