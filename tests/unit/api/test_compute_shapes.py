from __future__ import annotations

import pytest

from kevel.api.compute.shapes import read_bool, read_count, read_time, show_time, show_time_us
from kevel.domain.errors import Invalid


def test_times_are_shown_as_nova_shows_them() -> None:
    assert show_time(1_700_000_000_999_999) == "2023-11-14T22:13:20Z"
    assert show_time_us(1_700_000_000_000_001) == "2023-11-14T22:13:20.000001"
    assert show_time_us(1_700_000_000_000_000) == "2023-11-14T22:13:20.000000"
    assert show_time_us(None) is None


@pytest.mark.parametrize(
    "text", ["2023-11-14T22:13:20Z", "2023-11-14T22:13:20", "2023-11-14T23:13:20+01:00", "2023-11-14 22:13:20.000000"]
)
def test_times_are_read_in_any_zone_and_are_utc_without_one(text: str) -> None:
    assert read_time("changes-since", text) == 1_700_000_000_000_000


@pytest.mark.parametrize("text", ["", "yesterday", "2023-13-01", "9" * 400, "0001-01-01T00:00:00+14:00x"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="is no time"):
        read_time("changes-since", text)


def test_booleans_have_novas_spellings() -> None:
    assert all(read_bool("x", word) for word in (True, "true", "True", "1", 1, "on", "yes", "Y"))
    assert not any(read_bool("x", word) for word in (False, "false", "FALSE", "0", 0, "off", "No", "n"))
    for word in ("", "2", 2, None, "truely"):
        with pytest.raises(Invalid, match="is no boolean"):
            read_bool("x", word)


def test_counts_are_whole_numbers_from_0_up() -> None:
    assert read_count("limit", "007") == 7
    for text in ("-1", "1.5", "", "x", "1e3", "\uff19", "9" * 40):
        with pytest.raises(Invalid, match="limit"):
            read_count("limit", text)
