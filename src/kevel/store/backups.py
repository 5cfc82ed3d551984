"""Backups: the rows, one and many, and the moves that concern a backup and its volume at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, bindparam, delete, func, insert, select, update

from kevel.domain.errors import Invalid, NotFound
from kevel.domain.model import BACKUP_CHAIN_MAX, Actor, Backup, Operation, OperationKind, Reason, Subject
from kevel.domain.status import copy_status
from kevel.store.operations import OPERATION_COLUMNS, begin_operation, finish_operation, running_operation
from kevel.store.pages import Listed, Page, list_page
from kevel.store.schema.backups import backups
from kevel.store.schema.base import LIVE
from kevel.store.schema.volumes import operations
from kevel.store.transactions import Tx, as_struct, row_columns

#: Under that name the volume's operation keeps the backup that it belongs to, and the backup's the volume.
BACKUP_ARG: Final = "backup_id"
VOLUME_ARG: Final = "volume_id"

#: What a list can be sorted by, under Cinder's names.
SORT_COLUMNS: Final[Mapping[str, ColumnElement[Any]]] = {
    "id": backups.c.id,
    "name": func.coalesce(backups.c.name, ""),
    "display_name": func.coalesce(backups.c.name, ""),
    "description": func.coalesce(backups.c.description, ""),
    "size": backups.c.size_gib,
    "volume_id": backups.c.volume_id,
    "availability_zone": backups.c.availability_zone,
    "container": func.coalesce(backups.c.container, ""),
    "data_timestamp": backups.c.data_at,
    "created_at": backups.c.created_at,
    "updated_at": func.coalesce(backups.c.updated_at, 0),
}

_COLUMNS = row_columns(backups, Backup)
_ONE = select(*_COLUMNS).where(backups.c.id == bindparam("of_id"))
_SOME = select(*_COLUMNS).where(backups.c.id.in_(bindparam("of_ids", expanding=True)))
_INSERT = insert(backups)
_FORGET = delete(backups).where(backups.c.id == bindparam("of_id"), backups.c.live.is_(None))
_CHILDREN = (
    select(backups.c.parent_id)
    .distinct()
    .where(backups.c.parent_id.in_(bindparam("of_ids", expanding=True)), backups.c.live == LIVE)
)
_RUNNING = select(*OPERATION_COLUMNS).where(
    operations.c.subject == Subject.BACKUP,
    operations.c.finished_at.is_(None),
    operations.c.subject_id.in_(bindparam("of_ids", expanding=True)),
)
_SHARING = (
    select(backups.c.id)
    .where(backups.c.files_id == bindparam("of_files"), backups.c.live == LIVE, backups.c.id != bindparam("of_id"))
    .limit(1)
)
_OF_VOLUME = (
    select(*_COLUMNS)
    .where(
        backups.c.volume_id == bindparam("of_volume"),
        backups.c.project_id == bindparam("of_project"),
        backups.c.live == LIVE,
    )
    .order_by(backups.c.data_at.desc(), backups.c.created_at.desc(), backups.c.id)
)
_USED = select(func.count().label("number"), func.coalesce(func.sum(backups.c.size_gib), 0).label("total_gib")).where(
    backups.c.project_id == bindparam("of_project"), backups.c.live == LIVE
)


class BackupView(msgspec.Struct, frozen=True, kw_only=True):
    """A backup with everything that is shown of it."""

    backup: Backup
    status: str
    has_children: bool


def load_backup(tx: Tx, backup_id: str) -> Backup | None:
    """The backup, tombstones included."""
    row = tx.execute(_ONE, {"of_id": backup_id}).first()
    return None if row is None else as_struct(Backup, row)


def find_backup(tx: Tx, backup_id: str, actor: Actor) -> BackupView:
    """The backup, if it exists for this actor; NotFound else (S9)."""
    found = load_backup(tx, backup_id)
    if found is None or found.deleted_at is not None or not (actor.is_admin or found.project_id == actor.project_id):
        raise NotFound(f"Backup {backup_id[:64]} could not be found.")
    return _view_backups(tx, [found])[0]


def find_restorable(tx: Tx, backup_id: str, actor: Actor, size_gib: int | None) -> Backup:
    """The backup, if a volume of that size can be restored from it now. Raises NotFound or Invalid."""
    view = find_backup(tx, backup_id, actor)
    backup = view.backup
    if view.status != "available":
        raise Invalid(f"Invalid backup: backup {backup.id} is {view.status}; to be restored it has to be available.")
    if size_gib is not None and size_gib < backup.size_gib:
        raise Invalid(
            f"Invalid volume: it has {size_gib} GiB, and backup {backup.id} is of a volume of {backup.size_gib} GiB."
        )
    return backup


def backup_operation(tx: Tx, backup_id: str) -> Operation | None:
    """The operation that works on the backup now."""
    return running_operation(tx, Subject.BACKUP, backup_id)


def insert_backup(tx: Tx, backup: Backup) -> None:
    """Enter a new backup's row; a tombstone of its id makes room."""
    tx.execute(_FORGET, {"of_id": backup.id})
    tx.execute(_INSERT, msgspec.structs.asdict(backup) | {"live": 1, "files_id": backup.chain[0]})


def change_backup(tx: Tx, backup_id: str, **changes: Any) -> None:
    """Write columns of the backup's row."""
    tx.execute(update(backups).where(backups.c.id == backup_id).values(**changes))


def choose_parent(tx: Tx, project_id: str, volume_id: str, data_at: int) -> Backup:
    """The newest backup of the volume that an increment can build on. Raises Invalid."""
    for row in tx.execute(_OF_VOLUME, {"of_volume": volume_id, "of_project": project_id}):
        found = as_struct(Backup, row)
        if found.made and found.data_at <= data_at and _view_backups(tx, [found])[0].status == "available":
            if len(found.chain) >= BACKUP_CHAIN_MAX:
                raise Invalid(
                    f"Invalid backup: backup {found.id} is the {BACKUP_CHAIN_MAX}th of its chain; make a full backup."
                )
            return found
    raise Invalid(f"Invalid backup: no backup of volume {volume_id} is available to do an incremental backup on.")


def are_files_shared(tx: Tx, backup: Backup) -> bool:
    """Does another backup (an imported record) consist of the same files?"""
    return bool(tx.execute(_SHARING, {"of_files": backup.chain[0], "of_id": backup.id}))


def count_backups(tx: Tx, project_id: str) -> tuple[int, int]:
    """Number and GiB of the project's backups."""
    row = tx.execute(_USED, {"of_project": project_id}).one()
    return int(row.number), int(row.total_gib)


def begin_restore(tx: Tx, backup: Backup, volume_id: str, *, request_id: str, at: int, deadline_at: int) -> None:
    """Start to restore the backup into the volume: an operation of each, which end together."""
    for subject, subject_id, kind in (
        (Subject.VOLUME, volume_id, OperationKind.RESTORING_BACKUP),
        (Subject.BACKUP, backup.id, OperationKind.RESTORING),
    ):
        begin_operation(
            tx,
            subject,
            subject_id,
            kind,
            volume_id=volume_id,
            actor="user",
            request_id=request_id,
            at=at,
            deadline_at=deadline_at,
            args={BACKUP_ARG: backup.id, VOLUME_ARG: volume_id},
        )


def finish_on_volume(
    tx: Tx, operation: Operation, *, actor: str, at: int, error: Reason | None = None, took_us: int | None = None
) -> bool:
    """Close the volume's half of a backup's operation. False: it was given up, since the volume is deleted."""
    volume_id = operation.args.get(VOLUME_ARG)
    running = None if volume_id is None else running_operation(tx, Subject.VOLUME, volume_id)
    if running is None or running.args.get(BACKUP_ARG) != operation.subject_id:
        return False
    finish_operation(tx, running, actor=actor, at=at, error=error, took_us=took_us)
    return True


def list_backups(
    tx: Tx, project_id: str | None, page: Page, *, equal: Mapping[str, str], status: str | None, name_part: str | None
) -> Listed[BackupView]:
    """One page of a project's backups (None: of all) whose columns have these values."""
    ids = select(backups.c.id).where(backups.c.live == LIVE)
    if project_id is not None:
        ids = ids.where(backups.c.project_id == project_id)
    for name, value in equal.items():
        ids = ids.where(backups.c[name] == value)
    if name_part is not None:
        ids = ids.where(backups.c.name.icontains(name_part, autoescape=True))
    keep = None if status is None else lambda view: view.status == status
    return list_page(tx, ids, page, SORT_COLUMNS, _load_some, keep=keep)


def _load_some(tx: Tx, ids: Sequence[str]) -> list[BackupView]:
    found = {row.id: as_struct(Backup, row) for row in tx.execute(_SOME, {"of_ids": list(ids)})}
    return _view_backups(tx, [found[backup_id] for backup_id in ids])


def _view_backups(tx: Tx, found: Sequence[Backup]) -> list[BackupView]:
    ids = [backup.id for backup in found]
    rows = tx.execute(_RUNNING, {"of_ids": ids})
    running = {one.subject_id: one for one in (as_struct(Operation, row) for row in rows)}
    parents = set(tx.execute(_CHILDREN, {"of_ids": ids}).scalars())
    return [
        BackupView(backup=backup, status=copy_status(backup, running.get(backup.id)), has_children=backup.id in parents)
        for backup in found
    ]
