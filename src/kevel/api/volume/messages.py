"""Messages as Cinder shows them: why a request failed after it had been accepted."""

from __future__ import annotations

from operator import getitem
from typing import Any, Final

from kevel.api.operations import Call, Reply, Version
from kevel.api.volume.listing import read_query
from kevel.api.volume.paging import own_links, page_reply
from kevel.api.volume.values import show_time
from kevel.api.volume.whole_lists import page_whole_list
from kevel.domain.errors import Invalid
from kevel.domain.messages import Message

#: Pages, sorting and filters came with it.
_PAGES_SINCE: Final = Version(3, 5)
#: From then on users are told of parameters that are no filters.
_STRICT_SINCE: Final = Version(3, 31)
_FILTERS: Final = ("resource_uuid", "resource_type", "event_id", "request_id", "message_level")
_SORT_KEYS: Final = (*_FILTERS, "id", "created_at", "guaranteed_until")
_NO_FILTERS: Final = ("limit", "marker", "offset", "sort", "sort_key", "sort_dir", "project_id", "all_tenants")


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
    shown, page = page_whole_list(call, query, rows, _SORT_KEYS, getitem)
    return page_reply(call, "messages", shown, page, dict)


async def show_one(call: Call) -> Reply:
    """One message."""
    return Reply(body={"message": show_message(call, await call.services.messages.get(call.actor, _id(call)))})


async def delete_one(call: Call) -> Reply:
    """Remove a message."""
    await call.services.messages.delete(call.actor, _id(call))
    return Reply()


def show_message(call: Call, message: Message) -> dict[str, Any]:
    """A message in Cinder's words."""
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
        "links": own_links(call, f"/messages/{message.id}"),
    }


def _id(call: Call) -> str:
    return call.path["message_id"]
