"""Pages of lists: which part is asked for, in which order, and the link to the next one."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

from kevel.api.operations import Call, Reply, Version
from kevel.api.volume.values import read_flag, read_number
from kevel.domain.errors import Invalid
from kevel.store.pages import Listed, Page

#: Most rows of one page; more are asked for with the page's link.
PAGE_ROWS_MAX: Final = 1000
#: Keys of one sort.
SORT_KEYS_MAX: Final = 8
_COUNTED_SINCE: Final = Version(3, 45)


def read_page(call: Call, query: dict[str, str], keys: Collection[str], *, down: bool = True) -> Page:
    """Which part of a list that can be sorted by these keys; newest first unless `down` is false. Raises Invalid."""
    return Page(
        limit=read_limit(query),
        sort=_read_sort(query, keys, down=down),
        marker=query.get("marker"),
        offset=read_number(query, "offset") or 0,
        with_count=call.version >= _COUNTED_SINCE and read_flag(query, "with_count"),
    )


def read_limit(query: dict[str, str]) -> int:
    """How many rows of a list. Raises Invalid."""
    limit = read_number(query, "limit")
    return PAGE_ROWS_MAX if limit is None else min(limit, PAGE_ROWS_MAX)


def _read_sort(query: dict[str, str], keys: Collection[str], *, down: bool) -> tuple[tuple[str, bool], ...]:
    pairs = [pair.strip().partition(":") for pair in query.get("sort", "").split(",") if pair.strip()]
    if not pairs and "sort_key" in query:
        pairs = [(query["sort_key"], ":", query.get("sort_dir", "desc"))]
    if len(pairs) > SORT_KEYS_MAX:
        raise Invalid(f"Invalid input for sort: there can be {SORT_KEYS_MAX} keys.")
    sort: list[tuple[str, bool]] = []
    for key, _, direction in pairs:
        if key not in keys:
            raise Invalid(f"Invalid input for sort: {key[:64]!r} is none of {', '.join(sorted(keys))}.")
        if direction not in ("", "asc", "desc"):
            raise Invalid(f"Invalid input for sort: {direction[:64]!r} is neither asc nor desc.")
        sort.append((key, direction != "asc"))
    given = {key for key, _ in sort}
    return (*sort, *((key, down) for key in ("created_at", "id") if key not in given))


def page_reply(
    call: Call, name: str, found: Listed[Any], page: Page, show: Callable[[Any], dict[str, Any]], *, links: str = ""
) -> Reply:
    """A page's body, with the link to the next one under `links` ("<name>_links" unless Cinder calls it otherwise).

    A full page has the link even if nothing follows, as in Cinder: its clients read on until a page is empty.
    """
    rows = [show(row) for row in found.rows]
    body: dict[str, Any] = {name: rows}
    if rows and len(rows) == page.limit:
        url = call.request.url.remove_query_params("offset")
        url = url.include_query_params(limit=page.limit, marker=rows[-1]["id"])
        body[links or f"{name}_links"] = [{"rel": "next", "href": str(url)}]
    if found.count is not None:
        body["count"] = found.count
    return Reply(body=body)


def own_links(call: Call, path: str) -> list[dict[str, str]]:
    """The two addresses of a thing below this API's root: "/backups/ID"."""
    return [
        {"rel": "self", "href": f"{call.base_url}{path}"},
        {"rel": "bookmark", "href": f"{call.base_url.rpartition('/')[0]}{path}"},
    ]
