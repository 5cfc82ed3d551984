"""Groups: words in, a use case, words out."""

from __future__ import annotations

from typing import Any, Final

from kevel.api.operations import Call, Reply, Version
from kevel.api.volume.listing import read_query, read_scope
from kevel.api.volume.paging import page_reply, read_page
from kevel.api.volume.values import read_bool, read_flag, read_text, show_time
from kevel.control.groups.groups import GroupChanges, GroupCopy, NewGroup, split_ids
from kevel.domain.errors import Invalid
from kevel.store.groups import SORT_COLUMNS, Group, GroupView

_SNAPSHOTS_SINCE: Final = Version(3, 14)
_VOLUMES_SINCE: Final = Version(3, 25)
_REPLICATION_SINCE: Final = Version(3, 38)
_PROJECT_SINCE: Final = Version(3, 58)
#: Filters, by the column that they are compared with.
FILTERS: Final = {
    "name": "name",
    "description": "description",
    "availability_zone": "availability_zone",
    "group_type": "group_type_id",
    "group_type_id": "group_type_id",
    "source_group_id": "source_group_id",
    "group_snapshot_id": "group_snapshot_id",
}


async def create_group(call: Call) -> Reply:
    """A group without volumes."""
    fields = call.body.group
    new = NewGroup(
        name=read_text(fields.name, "name"),
        description=read_text(fields.description, "description"),
        group_type_ref=fields.group_type,
        volume_type_refs=tuple(fields.volume_types),
        availability_zone=fields.availability_zone or None,
    )
    return Reply(body={"group": _summary(await call.services.groups.create(call.actor, new))})


async def copy_group(call: Call) -> Reply:
    """A group made of another one, or of a snapshot of one."""
    fields = call.body.source
    if (fields.source_group_id is None) is (fields.group_snapshot_id is None):
        raise Invalid("Invalid input for create-from-src: it has to have source_group_id or group_snapshot_id.")
    new = GroupCopy(
        name=read_text(fields.name, "name"),
        description=read_text(fields.description, "description"),
        source_group_id=fields.source_group_id,
        group_snapshot_id=fields.group_snapshot_id,
    )
    return Reply(body={"group": _summary(await call.services.groups.copy(call.actor, new))})


async def list_groups(call: Call) -> Reply:
    """Groups with id and name only."""
    return await _list(call, is_detail=False)


async def list_details(call: Call) -> Reply:
    """Groups with all that the caller may see of them."""
    return await _list(call, is_detail=True)


async def _list(call: Call, *, is_detail: bool) -> Reply:
    query = read_query(call)
    page = read_page(call, query, SORT_COLUMNS)
    equal = {column: query[name] for name, column in FILTERS.items() if name in query}
    found = await call.services.groups.list(read_scope(call, query), page, equal=equal, status=query.get("status"))

    def show(view: GroupView) -> dict[str, Any]:
        return _detail(call, view, query) if is_detail else _summary(view.group)

    return page_reply(call, "groups", found, page, show, links="group_links")


async def show_group(call: Call) -> Reply:
    """One group."""
    view = await call.services.groups.get(call.actor, _id(call))
    return Reply(body={"group": _detail(call, view, read_query(call))})


async def update_group(call: Call) -> Reply:
    """Change name or description; take volumes in and out."""
    fields = call.body.group
    changes = GroupChanges(
        name=read_text(fields.name, "name"),
        description=read_text(fields.description, "description"),
        add_volumes=split_ids(fields.add_volumes),
        remove_volumes=split_ids(fields.remove_volumes),
    )
    await call.services.groups.update(call.actor, _id(call), changes)
    return Reply()


async def delete_group(call: Call) -> Reply:
    """Delete a group, with its volumes if that is asked for."""
    wanted = call.body.delete.delete_volumes
    with_volumes = wanted is not None and read_bool(wanted, "delete-volumes")
    await call.services.groups.delete(call.actor, _id(call), with_volumes=with_volumes)
    return Reply()


async def reset_status(call: Call) -> Reply:
    """Put a word over a group's status, or take it away again."""
    await call.services.groups.reset_status(call.actor, _id(call), call.body.reset_status.status.lower())
    return Reply()


def _id(call: Call) -> str:
    return call.path["group_id"]


def _summary(group: Group) -> dict[str, Any]:
    return {"id": group.id, "name": group.name}


def _detail(call: Call, view: GroupView, query: dict[str, str]) -> dict[str, Any]:
    group = view.group
    shown = _summary(group) | {
        "status": view.status,
        "availability_zone": group.availability_zone,
        "created_at": show_time(group.created_at),
        "description": group.description,
        "group_type": group.group_type_id,
        "volume_types": group.volume_type_ids,
    }
    if call.version >= _SNAPSHOTS_SINCE:
        shown |= {"group_snapshot_id": group.group_snapshot_id, "source_group_id": group.source_group_id}
    if call.version >= _VOLUMES_SINCE and read_flag(query, "list_volume"):
        shown["volumes"] = view.volume_ids
    if call.version >= _REPLICATION_SINCE:
        shown["replication_status"] = "disabled"
    if call.version >= _PROJECT_SINCE and call.caller.is_admin:
        shown["project_id"] = group.project_id
    return shown
