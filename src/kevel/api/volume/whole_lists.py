"""Lists that are few enough to be read whole (their number is bounded where they are made): sorted and cut here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol, TypeVar

from kevel.api.operations import Call
from kevel.api.volume.listing import cut_page
from kevel.api.volume.paging import read_page_of
from kevel.store.pages import Listed
from kevel.store.volume_lists import Page


class HasId(Protocol):
    """What can be the marker of a page."""

    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=HasId)


def page_whole_list(
    call: Call, query: dict[str, str], found: Sequence[T], keys: Collection[str]
) -> tuple[Listed[T], Page]:
    """The page that the query asks for; `keys` are fields of the rows. Raises Invalid, and NotFound for a marker."""
    page = read_page_of(call, query, keys)
    rows = list(found)
    for key, down in reversed(page.sort):
        rows.sort(key=lambda row, key=key: _rank(row, key), reverse=down)  # type: ignore[misc]
    shown, has_more = cut_page(rows, [row.id for row in rows], page)
    return Listed(rows=list(shown), has_more=has_more, count=None), page


def _rank(row: object, key: str) -> tuple[bool, Any]:
    value = getattr(row, key)
    return value is not None, value
