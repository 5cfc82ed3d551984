"""Volumes and their operations: the rows, and the moves of operations.

`begin_operation`, `finish_operation` and what calls them here are the only writers of operations. Each move is
journaled in its own transaction (S12), and the volume's worker is woken after the commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, func, insert, select, update

from kevel.domain.errors import NotFound, StaleWrite
from kevel.domain.limits import Limits
from kevel.domain.model import Actor, Operation, OperationKind, Reason, Volume
from kevel.store.hosts import raise_version
from kevel.store.journal import Entry, append
from kevel.store.schema.attachments import paths
from kevel.store.schema.base import LIVE
from kevel.store.schema.volumes import operations, volumes
from kevel.store.transactions import Tx, as_struct, row_columns

VOLUME_COLUMNS = row_columns(volumes, Volume)
OPERATION_COLUMNS = row_columns(operations, Operation)
_VOLUME = select(*VOLUME_COLUMNS).where(volumes.c.id == bindparam("of_id"))
_RUNNING = select(*OPERATION_COLUMNS).where(
    operations.c.volume_id == bindparam("of_volume"), operations.c.finished_at.is_(None)
)
_INSERT_VOLUME = insert(volumes)
_INSERT_OPERATION = insert(operations).returning(operations.c.id)
_OPEN_OPERATION = update(operations).where(
    operations.c.id == bindparam("of_operation"), operations.c.finished_at.is_(None)
)
_FINISH = _OPEN_OPERATION.values(finished_at=bindparam("new_at"), last_error=bindparam("new_error"))
_NOTE = _OPEN_OPERATION.values(last_error=bindparam("new_error"))
_UNFINISHED = select(operations.c.volume_id).where(operations.c.finished_at.is_(None))
_PROVISIONED = select(func.coalesce(func.sum(volumes.c.size_gib), 0)).where(
    volumes.c.backend == bindparam("of_backend"), volumes.c.live == LIVE
)
_GROWING = (
    select(volumes.c.size_gib, operations.c.args)
    .join(volumes, volumes.c.id == operations.c.volume_id)
    .where(
        operations.c.finished_at.is_(None),
        operations.c.kind == OperationKind.EXTENDING,
        volumes.c.backend == bindparam("of_backend"),
    )
)
_HOSTS = select(paths.c.host).distinct().where(paths.c.volume_id == bindparam("of_volume"), paths.c.live == LIVE)
_STAMP = (
    update(paths)
    .where(paths.c.volume_id == bindparam("of_volume"), paths.c.live == LIVE, paths.c.host == bindparam("of_host"))
    .values(host_version=bindparam("new_host_version"))
)
_DELETE_TIMEOUT_US: Final = int(Limits().volume_timeout_s * 1e6)


def load_volume(tx: Tx, volume_id: str) -> Volume | None:
    """The volume, tombstones included."""
    row = tx.execute(_VOLUME, {"of_id": volume_id}).first()
    return None if row is None else as_struct(Volume, row)


def find_volume(tx: Tx, volume_id: str, actor: Actor) -> Volume:
    """The volume, if it exists for this actor; NotFound else (S9)."""
    volume = load_volume(tx, volume_id)
    if volume is None or volume.deleted_at is not None or not (actor.is_admin or volume.project_id == actor.project_id):
        raise NotFound(f"Volume {volume_id[:64]} could not be found.")
    return volume


def running_operation(tx: Tx, volume_id: str) -> Operation | None:
    """The operation that works on the volume now."""
    row = tx.execute(_RUNNING, {"of_volume": volume_id}).first()
    return None if row is None else as_struct(Operation, row)


def unfinished(tx: Tx) -> list[str]:
    """Ids of volumes with an operation that has not ended: what the worker has to look at after a start."""
    return list(tx.execute(_UNFINISHED).scalars())


def provisioned_gib(tx: Tx, backend: str) -> int:
    """What all volumes of the back end would take if they were full; a volume that grows counts as grown."""
    total = int(tx.execute(_PROVISIONED, {"of_backend": backend}).scalar_one())
    for row in tx.execute(_GROWING, {"of_backend": backend}):
        total += max(0, row.args["size_gib"] - row.size_gib)
    return total


def insert_volume(tx: Tx, volume: Volume) -> None:
    """Enter a new volume's row."""
    tx.execute(_INSERT_VOLUME, msgspec.structs.asdict(volume) | {"live": 1})


def change_volume(tx: Tx, volume_id: str, **changes: Any) -> None:
    """Write columns of the volume's row."""
    tx.execute(update(volumes).where(volumes.c.id == volume_id).values(**changes))


def begin_operation(
    tx: Tx,
    volume_id: str,
    kind: OperationKind,
    *,
    actor: str,
    request_id: str,
    at: int,
    deadline_at: int,
    args: Mapping[str, Any] | None = None,
) -> None:
    """Start exclusive work on the volume; its worker is woken. The index one_operation refuses a second one."""
    values = {
        "volume_id": volume_id,
        "kind": kind,
        "args": dict(args or {}),
        "request_id": request_id,
        "created_at": at,
        "deadline_at": deadline_at,
    }
    operation_id = int(tx.execute(_INSERT_OPERATION, values).scalar_one())
    entry = Entry(
        at=at,
        subject="volume",
        subject_id=volume_id,
        volume_id=volume_id,
        what="operation",
        before="none",
        after=kind.value,
        revision=operation_id,
        actor=actor,
        request_id=request_id,
        detail=dict(args) if args else None,
    )
    append(tx, entry)
    tx.wake("volume", volume_id)


def finish_operation(
    tx: Tx, operation: Operation, *, actor: str, at: int, error: Reason | None = None, took_us: int | None = None
) -> None:
    """Close the operation, with the reason if it failed. Raises StaleWrite when it is closed already."""
    values = {"of_operation": operation.id, "new_at": at, "new_error": error}
    if tx.execute(_FINISH, values).rowcount != 1:
        raise StaleWrite
    entry = Entry(
        at=at,
        subject="volume",
        subject_id=operation.volume_id,
        volume_id=operation.volume_id,
        what="operation",
        before=operation.kind.value,
        after="done" if error is None else "failed",
        revision=operation.id,
        actor=actor,
        request_id=operation.request_id,
        took_us=took_us,
        detail=None if error is None else {"code": error.code, "message": error.message},
    )
    append(tx, entry)


def note_error(tx: Tx, operation: Operation, error: Reason) -> None:
    """Keep why the operation has not succeeded yet."""
    tx.execute(_NOTE, {"of_operation": operation.id, "new_error": error})


def tell_hosts(tx: Tx, volume_id: str) -> None:
    """Have the agents of all hosts that reach the volume look at its paths: something about it has changed."""
    for host in tx.execute(_HOSTS, {"of_volume": volume_id}).scalars().all():
        values = {"of_volume": volume_id, "of_host": host, "new_host_version": raise_version(tx, host)}
        tx.execute(_STAMP, values)


def begin_delete(
    tx: Tx, volume: Volume, *, request_id: str, at: int, deadline_at: int | None = None, actor: str = "user"
) -> None:
    """Start to delete a volume that nobody holds: the caller has looked, and the schema guards the end.

    Creating or extending that still runs is given up; deleting that runs already is left to it. A fault or an admin's
    mask goes, so that the user sees the deleting. Without a deadline, the default limit for volumes holds.
    """
    running = running_operation(tx, volume.id)
    if running is not None:
        if running.kind is OperationKind.DELETING:
            return
        message = f"The volume was deleted while it was {running.kind.value}."
        finish_operation(tx, running, actor=actor, at=at, error=Reason(code="superseded", message=message, at=at))
    change_volume(tx, volume.id, fault=None, mask=None, updated_at=at)
    begin_operation(
        tx,
        volume.id,
        OperationKind.DELETING,
        actor=actor,
        request_id=request_id,
        at=at,
        deadline_at=at + _DELETE_TIMEOUT_US if deadline_at is None else deadline_at,
    )
