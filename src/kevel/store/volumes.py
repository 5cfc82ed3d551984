"""Volumes: the rows."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, func, insert, select, union, update

from kevel.domain.errors import NotFound
from kevel.domain.limits import Limits
from kevel.domain.model import Actor, Operation, OperationKind, Subject, Volume
from kevel.store.hosts import raise_version
from kevel.store.operations import begin_operation, give_up_operation, running_operation
from kevel.store.pool_moves import running_moves
from kevel.store.schema.attachments import paths
from kevel.store.schema.base import LIVE
from kevel.store.schema.volumes import operations, snapshots, volumes
from kevel.store.transactions import Tx, as_struct, row_columns

VOLUME_COLUMNS = row_columns(volumes, Volume)
_VOLUME = select(*VOLUME_COLUMNS).where(volumes.c.id == bindparam("of_id"))
_INSERT_VOLUME = insert(volumes)
_CHANGE = update(volumes).where(volumes.c.id == bindparam("of_id"))
_PROVISIONED = select(func.coalesce(func.sum(volumes.c.size_gib), 0)).where(
    volumes.c.backend == bindparam("of_backend"), volumes.c.live == LIVE
)
_GROWING = (
    select(volumes.c.size_gib, operations.c.args)
    .join(volumes, volumes.c.id == operations.c.subject_id)
    .where(
        operations.c.finished_at.is_(None),
        operations.c.subject == Subject.VOLUME,
        operations.c.kind == OperationKind.EXTENDING,
        volumes.c.backend == bindparam("of_backend"),
    )
)
_USED = union(
    select(volumes.c.backend).where(volumes.c.live == LIVE), select(snapshots.c.backend).where(snapshots.c.live == LIVE)
)
_HOSTS = select(paths.c.agent).distinct().where(paths.c.volume_id == bindparam("of_volume"), paths.c.live == LIVE)
_HOSTS = _HOSTS.where(paths.c.agent.is_not(None))
_LIVE_PATHS = select(paths.c.id).where(paths.c.volume_id == bindparam("of_volume"), paths.c.live == LIVE)
_STAMP = (
    update(paths)
    .where(paths.c.volume_id == bindparam("of_volume"), paths.c.live == LIVE, paths.c.agent == bindparam("of_host"))
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


def volume_operation(tx: Tx, volume_id: str) -> Operation | None:
    """The operation that works on the volume now."""
    return running_operation(tx, Subject.VOLUME, volume_id)


def is_withheld(tx: Tx, volume_id: str) -> bool:
    """Are its contents being replaced, so that no host may have it?"""
    operation = volume_operation(tx, volume_id)
    return operation is not None and operation.kind is OperationKind.DOWNLOADING


def give_back(tx: Tx, volume_id: str) -> None:
    """Let hosts have it again whose contents have been replaced, or were to be."""
    tell_hosts(tx, volume_id)
    for path_id in tx.execute(_LIVE_PATHS, {"of_volume": volume_id}).scalars().all():
        tx.wake("path", path_id)


def provisioned_gib(tx: Tx, backend: str) -> int:
    """What all volumes of the back end would take if they were full; one that grows or arrives counts already."""
    total = int(tx.execute(_PROVISIONED, {"of_backend": backend}).scalar_one())
    for row in tx.execute(_GROWING, {"of_backend": backend}):
        total += max(0, row.args["size_gib"] - row.size_gib)
    return total + sum(size_gib for _, size_gib, move in running_moves(tx) if move.to_pool == backend)


def used_backends(tx: Tx) -> frozenset[str]:
    """The back ends in which volumes or snapshots lie."""
    return frozenset(tx.execute(_USED).scalars())


def insert_volume(tx: Tx, volume: Volume) -> None:
    """Enter a new volume's row."""
    tx.execute(_INSERT_VOLUME, msgspec.structs.asdict(volume) | {"live": 1})


def change_volume(tx: Tx, volume_id: str, **changes: Any) -> None:
    """Write columns of the volume's row."""
    tx.execute(_CHANGE, changes | {"of_id": volume_id})


def tell_hosts(tx: Tx, volume_id: str) -> None:
    """Have the agents of all hosts that reach the volume look at its paths: something about it has changed."""
    for host in tx.execute(_HOSTS, {"of_volume": volume_id}).scalars().all():
        values = {"of_volume": volume_id, "of_host": host, "new_host_version": raise_version(tx, host)}
        tx.execute(_STAMP, values)


def begin_delete(
    tx: Tx, volume: Volume, *, request_id: str, at: int, deadline_at: int | None = None, actor: str = "user"
) -> None:
    """Start to delete a volume that nobody holds: the caller has looked, and the schema guards the end.

    Creating or extending that still runs is given up; deleting that runs already is left to it. A fault, an admin's
    mask or an offer goes, so that the user sees the deleting. Without a deadline, the default limit for volumes holds.
    """
    running = volume_operation(tx, volume.id)
    if running is not None:
        if running.kind is OperationKind.DELETING:
            return
        give_up_operation(tx, running, actor=actor, at=at)
    change_volume(tx, volume.id, fault=None, mask=None, transfer_id=None, updated_at=at)
    begin_operation(
        tx,
        Subject.VOLUME,
        volume.id,
        OperationKind.DELETING,
        volume_id=volume.id,
        actor=actor,
        request_id=request_id,
        at=at,
        deadline_at=at + _DELETE_TIMEOUT_US if deadline_at is None else deadline_at,
    )
