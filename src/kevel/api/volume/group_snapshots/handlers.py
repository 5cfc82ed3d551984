"""Group snapshots: words in, a use case, words out."""

from __future__ import annotations

from typing import Any, Final

from kevel.api.operations import Call, Reply, Version
from kevel.api.volume.listing import read_query, read_scope
from kevel.api.volume.paging import page_reply, read_page
from kevel.api.volume.values import read_text, show_time
from kevel.store.group_snapshots import SORT_COLUMNS, GroupSnapshotView

#: Pages, sorting and filters came with it.
_PAGES_SINCE: Final = Version(3, 29)
_PROJECT_SINCE: Final = Version(3, 58)
#: Filters, by the column that they are compared with.
FILTERS: Final = {"name": "name", "group_id": "group_id", "description": "description"}


async def create_group_snapshot(call: Call) -> Reply:
    """Take snapshots of all volumes of a group."""
    fields = call.body.group_snapshot
    name, description = read_text(fields.name, "name"), read_text(fields.description, "description")
    view = await call.services.group_snapshots.create(call.actor, fields.group_id, name, description)
    return Reply(body={"group_snapshot": _summary(view) | {"group_type_id": view.group_type_id}})


async def list_group_snapshots(call: Call) -> Reply:
    """Group snapshots with id and name only."""
    return await _list(call, is_detail=False)


async def list_details(call: Call) -> Reply:
    """Group snapshots with all that the caller may see of them."""
    return await _list(call, is_detail=True)


async def _list(call: Call, *, is_detail: bool) -> Reply:
    query = read_query(call)
    scope = read_scope(call, query)
    if call.version < _PAGES_SINCE:
        query = {}
    page = read_page(call, query, SORT_COLUMNS)
    equal = {column: query[name] for name, column in FILTERS.items() if name in query}
    found = await call.services.group_snapshots.list(scope, page, equal=equal, status=query.get("status"))

    def show(view: GroupSnapshotView) -> dict[str, Any]:
        return _detail(call, view) if is_detail else _summary(view)

    return page_reply(call, "group_snapshots", found, page, show, links="group_snapshot_links")


async def show_group_snapshot(call: Call) -> Reply:
    """One group snapshot."""
    view = await call.services.group_snapshots.get(call.actor, _id(call))
    return Reply(body={"group_snapshot": _detail(call, view)})


async def delete_group_snapshot(call: Call) -> Reply:
    """Delete a group snapshot with all its snapshots."""
    await call.services.group_snapshots.delete(call.actor, _id(call))
    return Reply()


async def reset_status(call: Call) -> Reply:
    """Put a word over a group snapshot's status, or take it away again."""
    status = call.body.reset_status.status.lower()
    await call.services.group_snapshots.reset_status(call.actor, _id(call), status)
    return Reply()


def _id(call: Call) -> str:
    return call.path["group_snapshot_id"]


def _summary(view: GroupSnapshotView) -> dict[str, Any]:
    return {"id": view.group_snapshot.id, "name": view.group_snapshot.name}


def _detail(call: Call, view: GroupSnapshotView) -> dict[str, Any]:
    found = view.group_snapshot
    shown = _summary(view) | {
        "group_id": found.group_id,
        "group_type_id": view.group_type_id,
        "status": view.status,
        "created_at": show_time(found.created_at),
        "description": found.description,
    }
    if call.version >= _PROJECT_SINCE and call.caller.is_admin:
        shown["project_id"] = found.project_id
    return shown
