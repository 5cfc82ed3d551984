"""What a list's query asks for: which rows, which page, and the link to the next one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

from kevel.api.operations import Call, Version
from kevel.api.volume.values import read_bool, read_flag, read_metadata, read_number, read_times
from kevel.domain.errors import Invalid, NotFound
from kevel.store.volume_lists import SORT_KEYS, Page, VolumeFilter

T = TypeVar("T")

#: Most rows of one page; more are asked for with the page's link.
PAGE_ROWS_MAX: Final = 1000
#: Keys of one sort.
SORT_KEYS_MAX: Final = 8

_IMAGE_METADATA_SINCE: Final = Version(3, 4)


def read_query(call: Call) -> dict[str, str]:
    """The query's parameters; of a repeated one the last."""
    return dict(call.query_items)


def read_scope(call: Call, query: dict[str, str]) -> str | None:
    """The project whose things are listed; None: an admin asked for all."""
    actor = call.actor
    if actor.is_admin and read_flag(query, "all_tenants"):
        return query.get("project_id") or None
    return actor.project_id


def read_filter(call: Call, query: dict[str, str]) -> VolumeFilter:
    """Which volumes. Parameters that are no filters are ignored, as Cinder does. Raises Invalid."""
    version = call.version
    times = []
    if version >= Version(3, 60):
        times = [read_times(name, query[name]) for name in ("created_at", "updated_at") if name in query]
    ids: tuple[str, ...] | None = (query["id"],) if "id" in query else None
    if version >= Version(3, 65) and "consumes_quota" in query and not read_flag(query, "consumes_quota"):
        ids = ()
    by_image = version >= _IMAGE_METADATA_SINCE and "glance_metadata" in query
    return VolumeFilter(
        project_id=read_scope(call, query),
        ids=ids,
        name=query.get("name", query.get("display_name")),
        name_part=query.get("name~") if version >= Version(3, 34) else None,
        availability_zone=query.get("availability_zone"),
        bootable=read_bool(query["bootable"], "bootable") if "bootable" in query else None,
        multiattach=read_bool(query["multiattach"], "multiattach") if "multiattach" in query else None,
        size_gib=read_number(query, "size"),
        group_id=query.get("group_id") if version >= Version(3, 10) else None,
        user_id=query.get("user_id"),
        type_ref=query.get("volume_type", query.get("volume_type_id")),
        times=tuple(one for group in times for one in group),
        statuses=frozenset({query["status"]}) if "status" in query else None,
        metadata=read_metadata(query["metadata"], "metadata") if "metadata" in query else None,
        image_metadata=read_metadata(query["glance_metadata"], "glance_metadata") if by_image else None,
    )


def read_page(call: Call, query: dict[str, str]) -> Page:
    """Which part of the list, in which order. Raises Invalid."""
    limit = read_number(query, "limit")
    return Page(
        limit=PAGE_ROWS_MAX if limit is None else min(limit, PAGE_ROWS_MAX),
        sort=_read_sort(query),
        marker=query.get("marker"),
        offset=read_number(query, "offset") or 0,
        with_count=call.version >= Version(3, 45) and read_flag(query, "with_count"),
    )


def _read_sort(query: dict[str, str]) -> tuple[tuple[str, bool], ...]:
    pairs = [pair.strip().partition(":") for pair in query.get("sort", "").split(",") if pair.strip()]
    if not pairs and "sort_key" in query:
        pairs = [(query["sort_key"], ":", query.get("sort_dir", "desc"))]
    if len(pairs) > SORT_KEYS_MAX:
        raise Invalid(f"Invalid input for sort: there can be {SORT_KEYS_MAX} keys.")
    sort: list[tuple[str, bool]] = []
    for key, _, direction in pairs:
        if key not in SORT_KEYS:
            raise Invalid(f"Invalid input for sort: {key[:64]!r} is none of {', '.join(sorted(SORT_KEYS))}.")
        if direction not in ("", "asc", "desc"):
            raise Invalid(f"Invalid input for sort: {direction[:64]!r} is neither asc nor desc.")
        sort.append((key, direction != "asc"))
    given = {key for key, _ in sort}
    sort += [(key, True) for key in ("created_at", "id") if key not in given]
    return tuple(sort)


def next_links(call: Call, *, limit: int, last_id: str) -> list[dict[str, str]]:
    """The link to the page behind the one that ends with that id."""
    url = call.request.url.remove_query_params("offset").include_query_params(limit=limit, marker=last_id)
    return [{"rel": "next", "href": str(url)}]


def cut_page(found: Sequence[T], ids: Sequence[str], page: Page) -> tuple[Sequence[T], bool]:
    """The page of a list that is there whole, and whether more follows. Raises NotFound for an unknown marker."""
    start = page.offset
    if page.marker is not None:
        if page.marker not in ids:
            raise NotFound(f"{page.marker[:64]} could not be found; it was given as the marker of a list.")
        start += ids.index(page.marker) + 1
    end = start + page.limit
    return found[start:end], end < len(found)


def with_links(call: Call, name: str, rows: list[Any], *, page: Page, has_more: bool, last_id: str) -> dict[str, Any]:
    """The body of a list: the rows, and the link to the next page.

    A full page has the link even if nothing follows, as in Cinder: its clients read on until a page is empty.
    """
    body: dict[str, Any] = {name: rows}
    if rows and (has_more or len(rows) == page.limit):
        body[f"{name}_links"] = next_links(call, limit=page.limit, last_id=last_id)
    return body
