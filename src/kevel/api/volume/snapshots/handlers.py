"""Snapshots, their metadata and their actions: words in, a use case, words out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from kevel.api.operations import Call, Reply, Version
from kevel.api.volume.listing import read_ids, read_query, read_scope, read_time_filters
from kevel.api.volume.paging import page_reply, read_page
from kevel.api.volume.snapshots.shapes import SnapshotFields
from kevel.api.volume.values import read_bool, read_changed_names, read_metadata, read_number, read_text, show_time
from kevel.control.copies.snapshots import NewSnapshot
from kevel.domain.errors import Invalid, NotFound
from kevel.store.snapshots import SORT_COLUMNS, SnapshotFilter, SnapshotView

#: From then on a volume in use needs no force, and force means nothing.
_IN_USE_SINCE: Final = Version(3, 66)
_METADATA_FILTER_SINCE: Final = Version(3, 22)
_PROGRESS: Final = re.compile(r"[0-9]{1,3}%")


async def create_snapshot(call: Call) -> Reply:
    """Take a snapshot of a volume, in the background."""
    fields: SnapshotFields = call.body.snapshot
    if fields.volume_id is None:
        raise NotFound("Volume None could not be found.")
    name = fields.name if fields.name is not None else fields.display_name
    description = fields.description if fields.description is not None else fields.display_description
    new = NewSnapshot(
        volume_id=fields.volume_id,
        name=read_text(name, "name") or "",
        description=read_text(description, "description"),
        metadata=fields.metadata or {},
        in_use=_read_in_use(call, fields),
    )

    def answer(view: SnapshotView) -> Reply:
        return Reply(body={"snapshot": _summary(call, view)})

    return answer(await call.services.snapshots.create(call.actor, new, once=call.once(answer)))


def _read_in_use(call: Call, fields: SnapshotFields) -> bool:
    """May the volume be in use?"""
    given = fields.force is not msgspec.UNSET and fields.force is not None
    force = given and read_bool(fields.force, "force")  # type: ignore[arg-type]
    if call.version < _IN_USE_SINCE:
        return force
    if given and not force:
        raise Invalid(f"Invalid input for force: since microversion {_IN_USE_SINCE} it can only be true, or left out.")
    return True


async def list_snapshots(call: Call) -> Reply:
    """Snapshots, in short."""
    return await _list(call, _summary)


async def list_details(call: Call) -> Reply:
    """Snapshots with all that the caller may see of them."""
    return await _list(call, _detail)


async def _list(call: Call, show: Callable[[Call, SnapshotView], dict[str, Any]]) -> Reply:
    query = read_query(call)
    page = read_page(call, query, SORT_COLUMNS)
    found = await call.services.snapshots.list(_read_filter(call, query), page)
    return page_reply(call, "snapshots", found, page, lambda view: show(call, view))


def _read_filter(call: Call, query: dict[str, str]) -> SnapshotFilter:
    """Which snapshots. Parameters that are no filters are ignored, as Cinder does. Raises Invalid."""
    version = call.version
    by_metadata = version >= _METADATA_FILTER_SINCE and "metadata" in query
    return SnapshotFilter(
        project_id=read_scope(call, query),
        ids=read_ids(call, query),
        name=query.get("name", query.get("display_name")),
        name_part=query.get("name~") if version >= Version(3, 34) else None,
        volume_id=query.get("volume_id"),
        size_gib=read_number(query, "volume_size"),
        user_id=query.get("user_id"),
        group_snapshot_id=query.get("group_snapshot_id") if version >= Version(3, 14) else None,
        times=read_time_filters(call, query),
        status=query.get("status"),
        metadata=read_metadata(query["metadata"], "metadata") if by_metadata else None,
    )


async def show_snapshot(call: Call) -> Reply:
    """One snapshot."""
    return Reply(body={"snapshot": _detail(call, await call.services.snapshots.get(call.actor, _id(call)))})


async def update_snapshot(call: Call) -> Reply:
    """Change name or description."""
    changes = read_changed_names(call.body.snapshot)
    if not changes:
        raise Invalid("Invalid input for snapshot: it has to have at least one of name and description.")
    view = await call.services.snapshots.update(call.actor, _id(call), changes)
    return Reply(body={"snapshot": _summary(call, view)})


async def delete_snapshot(call: Call) -> Reply:
    """Delete a snapshot, in the background."""
    await call.services.snapshots.delete(call.actor, _id(call), force=False)
    return Reply()


async def force_delete_snapshot(call: Call) -> Reply:
    """Delete a snapshot whatever its status."""
    await call.services.snapshots.delete(call.actor, _id(call), force=True)
    return Reply()


async def reset_status(call: Call) -> Reply:
    """Put a word over a snapshot's status, or take it away again."""
    await call.services.snapshots.reset_status(call.actor, _id(call), call.body.reset.status)
    return Reply()


async def say_status(call: Call) -> Reply:
    """Say how far a snapshot is that somebody else makes or deletes."""
    said = call.body.said
    if said.progress is not None and (_PROGRESS.fullmatch(said.progress) is None or int(said.progress[:-1]) > 100):
        raise Invalid("Invalid input for progress: it has to be like 80%, from 0% to 100%.")
    await call.services.snapshots.say_status(call.actor, _id(call), said.status, said.progress)
    return Reply()


async def list_metadata(call: Call) -> Reply:
    """The metadata of a snapshot."""
    view = await call.services.snapshots.get(call.actor, _id(call))
    return Reply(body={"metadata": view.snapshot.metadata})


async def add_metadata(call: Call) -> Reply:
    """Set the items given, keep the others."""
    return await _put_metadata(call, replace=False)


async def replace_metadata(call: Call) -> Reply:
    """Set the items given, remove the others."""
    return await _put_metadata(call, replace=True)


async def _put_metadata(call: Call, *, replace: bool) -> Reply:
    items = call.body.metadata
    metadata = await call.services.snapshots.put_metadata(call.actor, _id(call), items, replace=replace)
    return Reply(body={"metadata": metadata})


async def show_metadata_item(call: Call) -> Reply:
    """One metadata item."""
    key = call.path["key"]
    view = await call.services.snapshots.get(call.actor, _id(call))
    if key not in view.snapshot.metadata:
        raise NotFound(f"Snapshot {view.snapshot.id} has no metadata with key {key[:255]}.")
    return Reply(body={"meta": {key: view.snapshot.metadata[key]}})


async def put_metadata_item(call: Call) -> Reply:
    """Set one metadata item."""
    key, items = call.path["key"], call.body.meta
    if list(items) != [key]:
        raise Invalid(f"Invalid input for meta: the body has to have one item, with the URL's key {key[:255]}.")
    await call.services.snapshots.put_metadata(call.actor, _id(call), items, replace=False)
    return Reply(body={"meta": items})


async def remove_metadata_item(call: Call) -> Reply:
    """Remove one metadata item."""
    await call.services.snapshots.remove_metadata(call.actor, _id(call), call.path["key"])
    return Reply()


def _id(call: Call) -> str:
    return call.path["snapshot_id"]


def show_plainly(view: SnapshotView) -> dict[str, Any]:
    """What is shown of a snapshot at every microversion."""
    snapshot = view.snapshot
    return {
        "id": snapshot.id,
        "status": view.status,
        "size": snapshot.size_gib,
        "volume_id": snapshot.volume_id,
        "name": snapshot.name,
        "description": snapshot.description,
        "created_at": show_time(snapshot.created_at),
        "updated_at": show_time(snapshot.updated_at),
        "metadata": snapshot.metadata,
    }


def _summary(call: Call, view: SnapshotView) -> dict[str, Any]:
    shown = show_plainly(view)
    if call.version >= Version(3, 14):
        shown["group_snapshot_id"] = view.snapshot.group_snapshot_id
    if call.version >= Version(3, 41):
        shown["user_id"] = view.snapshot.user_id
    if call.version >= Version(3, 65):
        shown["consumes_quota"] = True
    return shown


def _detail(call: Call, view: SnapshotView) -> dict[str, Any]:
    return _summary(call, view) | {
        "os-extended-snapshot-attributes:progress": view.snapshot.progress_said or f"{view.progress}%",
        "os-extended-snapshot-attributes:project_id": view.snapshot.project_id,
    }
