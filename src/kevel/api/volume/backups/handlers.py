"""Backups: words in, a use case, words out."""

from __future__ import annotations

from typing import Any, Final

from msgspec import UNSET

from kevel.api.operations import Call, Reply, Version
from kevel.api.volume.listing import read_query, read_scope
from kevel.api.volume.paging import own_links, page_reply, read_page
from kevel.api.volume.values import read_bool, read_text, show_time
from kevel.control.backups.backups import SERVICE, NewBackup
from kevel.domain.errors import Invalid
from kevel.domain.model import Backup
from kevel.store.backups import SORT_COLUMNS, BackupView

_PROJECT_SINCE: Final = Version(3, 18)
_LIKE_SINCE: Final = Version(3, 34)
_METADATA_SINCE: Final = Version(3, 43)
_USER_SINCE: Final = Version(3, 56)
#: Filters, by the column that they are compared with.
FILTERS: Final = {
    "id": "id",
    "name": "name",
    "display_name": "name",
    "volume_id": "volume_id",
    "snapshot_id": "snapshot_id",
    "parent_id": "parent_id",
    "availability_zone": "availability_zone",
    "container": "container",
}


async def create_backup(call: Call) -> Reply:
    """Back a volume or a snapshot up."""
    fields = call.body.backup
    new = NewBackup(
        volume_id=fields.volume_id,
        snapshot_id=fields.snapshot_id or None,
        name=read_text(fields.name, "name"),
        description=read_text(fields.description, "description"),
        container=read_text(fields.container, "container"),
        incremental=fields.incremental is not None and read_bool(fields.incremental, "incremental"),
        force=fields.force is not None and read_bool(fields.force, "force"),
        metadata=getattr(fields, "metadata", None) or {},
        availability_zone=getattr(fields, "availability_zone", None) or None,
    )
    return Reply(body={"backup": _summary(call, await call.services.backups.create(call.actor, new))})


async def list_backups(call: Call) -> Reply:
    """Backups with id and name only."""
    return await _list(call, is_detail=False)


async def list_details(call: Call) -> Reply:
    """Backups with all that the caller may see of them."""
    return await _list(call, is_detail=True)


async def _list(call: Call, *, is_detail: bool) -> Reply:
    query = read_query(call)
    page = read_page(call, query, SORT_COLUMNS)
    found = await call.services.backups.list(
        read_scope(call, query),
        page,
        equal={column: query[name] for name, column in FILTERS.items() if name in query},
        status=query.get("status"),
        name_part=query.get("name~") if call.version >= _LIKE_SINCE else None,
    )

    def show(view: BackupView) -> dict[str, Any]:
        return _detail(call, view) if is_detail else _summary(call, view.backup)

    return page_reply(call, "backups", found, page, show)


async def show_backup(call: Call) -> Reply:
    """One backup."""
    return Reply(body={"backup": _detail(call, await call.services.backups.get(call.actor, _id(call)))})


async def update_backup(call: Call) -> Reply:
    """Change name, description or metadata."""
    fields = call.body.backup
    changes: dict[str, Any] = {}
    for name in ("name", "description"):
        value = UNSET if fields is None else getattr(fields, name)
        if value is not UNSET:
            changes[name] = read_text(value, name)
    metadata = getattr(fields, "metadata", UNSET)
    if metadata is not UNSET:
        changes["metadata"] = metadata
    if not changes:
        raise Invalid("Invalid input for backup: it has to have at least one of name, description and metadata.")
    return Reply(body={"backup": _summary(call, await call.services.backups.update(call.actor, _id(call), changes))})


async def delete_backup(call: Call) -> Reply:
    """Delete a backup that no other builds on."""
    await call.services.backups.delete(call.actor, _id(call), force=False)
    return Reply()


async def force_delete_backup(call: Call) -> Reply:
    """Delete a backup whatever its status, if no other builds on it."""
    await call.services.backups.delete(call.actor, _id(call), force=True)
    return Reply()


async def restore_backup(call: Call) -> Reply:
    """Restore a backup into a volume, or into a new one."""
    fields = call.body.restore
    volume_id = None if fields is None else fields.volume_id or None
    name = None if fields is None else read_text(fields.name, "name")
    volume_id, volume_name = await call.services.backups.restore(call.actor, _id(call), volume_id, name)
    return Reply(body={"restore": {"backup_id": _id(call), "volume_id": volume_id, "volume_name": volume_name}})


async def reset_status(call: Call) -> Reply:
    """Put a word over a backup's status, or take it away again."""
    await call.services.backups.reset_status(call.actor, _id(call), call.body.reset.status)
    return Reply()


async def export_record(call: Call) -> Reply:
    """The record of a backup, to be imported where its row is lost."""
    text = await call.services.backups.export_record(call.actor, _id(call))
    return Reply(body={"backup-record": {"backup_service": SERVICE, "backup_url": text}})


async def import_record(call: Call) -> Reply:
    """Enter a backup whose files are in the directory."""
    record = call.body.record
    backup = await call.services.backups.import_record(call.actor, record.backup_service, record.backup_url)
    return Reply(body={"backup": _summary(call, backup)})


def _id(call: Call) -> str:
    return call.path["backup_id"]


def _summary(call: Call, backup: Backup) -> dict[str, Any]:
    return {"id": backup.id, "name": backup.name, "links": own_links(call, f"/backups/{backup.id}")}


def _detail(call: Call, view: BackupView) -> dict[str, Any]:
    backup = view.backup
    shown = _summary(call, backup) | {
        "status": view.status,
        "size": backup.size_gib,
        "object_count": backup.chunk_count,
        "availability_zone": backup.availability_zone,
        "container": backup.container,
        "created_at": show_time(backup.created_at),
        "updated_at": show_time(backup.updated_at),
        "description": backup.description,
        "fail_reason": None if backup.fault is None else backup.fault.message,
        "volume_id": backup.volume_id,
        "is_incremental": backup.parent_id is not None,
        "has_dependent_backups": view.has_children,
        "snapshot_id": backup.snapshot_id,
        "data_timestamp": show_time(backup.data_at),
    }
    if call.version >= _PROJECT_SINCE and call.caller.is_admin:
        shown["os-backup-project-attr:project_id"] = backup.project_id
    if call.version >= _METADATA_SINCE:
        shown["metadata"] = backup.metadata
    if call.version >= _USER_SINCE:
        shown["user_id"] = backup.user_id
    return shown
