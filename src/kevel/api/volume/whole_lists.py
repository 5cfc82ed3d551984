"""Lists that are few enough to be read whole (their number is bounded where they are made): sorted and cut here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from kevel.api.operations import Call
from kevel.api.volume.paging import read_page
from kevel.domain.errors import NotFound
from kevel.store.pages import Listed, Page

T = TypeVar("T")


def page_whole_list(
    call: Call,
    query: dict[str, str],
    found: Sequence[T],
    keys: Collection[str],
    read: Callable[[T, str], Any] = getattr,
) -> tuple[Listed[T], Page]:
    """The page that the query asks for; `read` takes one of the `keys`, or "id", from a row.

    Raises Invalid, and NotFound for a marker that is not in the list.
    """
    page = read_page(call, query, keys)
    rows = list(found)
    for key, down in reversed(page.sort):
        rows.sort(key=lambda row, key=key: _rank(read(row, key)), reverse=down)  # type: ignore[misc]
    start = page.offset
    if page.marker is not None:
        ids = [read(row, "id") for row in rows]
        if page.marker not in ids:
            raise NotFound(f"{page.marker[:64]} could not be found; it was given as the marker of a list.")
        start += ids.index(page.marker) + 1
    return Listed(rows=rows[start : start + page.limit], count=None), page


def _rank(value: Any) -> tuple[bool, Any]:
    return value is not None, value
