"""Messages as Cinder shows them: why a request failed after it had been accepted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from kevel.api.operations import Call, Reply, Version
from kevel.api.volume.listing import PAGE_ROWS_MAX, cut_page, read_query, with_links
from kevel.api.volume.values import read_number, show_time
from kevel.domain.errors import Invalid
from kevel.domain.messages import Message
from kevel.store.volume_lists import Page

#: Pages, sorting and filters came with it.
_PAGES_SINCE: Final = Version(3, 5)
#: From then on users are told of parameters that are no filters.
_STRICT_SINCE: Final = Version(3, 31)
_FILTERS: Final = ("resource_uuid", "resource_type", "event_id", "request_id", "message_level")
_SORT_KEYS: Final = (*_FILTERS, "id", "created_at", "guaranteed_until")
_NO_FILTERS: Final = ("limit", "marker", "offset", "sort", "sort_key", "sort_dir", "project_id", "all_tenants")
_SORT_KEYS_MAX: Final = 4


async def list_messages(call: Call) -> Reply:
    """Messages of the caller's project, newest first; an admin's are of all projects."""
    query = read_query(call) if call.version >= _PAGES_SINCE else {}
    if call.version >= _STRICT_SINCE and not call.caller.is_admin:
        unknown = sorted(query.keys() - {*_FILTERS, *_NO_FILTERS})
        if unknown:
            raise Invalid(f"Invalid filters {', '.join(unknown)[:200]}; messages have {', '.join(_FILTERS)}.")
    project_id = query.get("project_id") if call.caller.is_admin else call.actor.project_id
    rows = [show_message(call, one) for one in await call.services.messages.list(project_id)]
    rows = [row for row in rows if all(row[name] == query[name] for name in _FILTERS if name in query)]
    for key, descending in reversed(_read_sort(query)):
        rows.sort(key=lambda row, key=key: row[key], reverse=descending)  # type: ignore[misc]
    page = _read_page(query)
    shown, has_more = cut_page(rows, [row["id"] for row in rows], page)
    last_id = shown[-1]["id"] if shown else ""
    return Reply(body=with_links(call, "messages", list(shown), page=page, has_more=has_more, last_id=last_id))


async def show_one(call: Call) -> Reply:
    """One message."""
    return Reply(body={"message": show_message(call, await call.services.messages.get(call.actor, _id(call)))})


async def delete_one(call: Call) -> Reply:
    """Remove a message."""
    await call.services.messages.delete(call.actor, _id(call))
    return Reply()


def show_message(call: Call, message: Message) -> dict[str, Any]:
    """A message in Cinder's words."""
    address = f"{call.base_url}/messages/{message.id}"
    root = call.base_url.removesuffix("/v3")
    return {
        "id": message.id,
        "event_id": message.event_id,
        "user_message": message.user_message,
        "message_level": "ERROR",
        "created_at": show_time(message.created_at),
        "guaranteed_until": show_time(message.expires_at),
        "request_id": message.request_id,
        "resource_type": message.resource_type,
        "resource_uuid": message.resource_uuid,
        "links": [
            {"rel": "self", "href": address},
            {"rel": "bookmark", "href": f"{root}/messages/{message.id}"},
        ],
    }


def _id(call: Call) -> str:
    return call.path["message_id"]


def _read_page(query: dict[str, str]) -> Page:
    limit = read_number(query, "limit")
    return Page(
        limit=PAGE_ROWS_MAX if limit is None else min(limit, PAGE_ROWS_MAX),
        marker=query.get("marker"),
        offset=read_number(query, "offset") or 0,
    )


def _read_sort(query: dict[str, str]) -> Sequence[tuple[str, bool]]:
    pairs = [pair.strip().partition(":") for pair in query.get("sort", "").split(",") if pair.strip()]
    if not pairs and "sort_key" in query:
        pairs = [(query["sort_key"], ":", query.get("sort_dir", "desc"))]
    if len(pairs) > _SORT_KEYS_MAX:
        raise Invalid(f"Invalid input for sort: there can be {_SORT_KEYS_MAX} keys.")
    for key, _, direction in pairs:
        if key not in _SORT_KEYS:
            raise Invalid(f"Invalid input for sort: {key[:64]!r} is none of {', '.join(_SORT_KEYS)}.")
        if direction not in ("", "asc", "desc"):
            raise Invalid(f"Invalid input for sort: {direction[:64]!r} is neither asc nor desc.")
    return [(key, direction != "asc") for key, _, direction in pairs]
