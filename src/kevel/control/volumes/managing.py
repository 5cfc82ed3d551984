"""Taking what is in a pool already for a volume or snapshot, and leaving one there for somebody else.

A pool's file is looked at before the transaction, and again by the worker that gives it its new name: the name is what
the back end keeps, so that the move is idempotent. Leaving is a matter of the record alone.
"""

from __future__ import annotations

from typing import Final

import msgspec

from kevel.control.pools.placing import check_fits, check_not_frozen, find_refusal
from kevel.control.pools.pools import PoolRoom, Pools, check_room
from kevel.control.runtime import Runtime
from kevel.control.volume_types.types import resolve_type
from kevel.control.volumes.metadata import check_metadata
from kevel.domain.errors import Invalid, StepError, StepNever, Unavailable
from kevel.domain.limits import Limits
from kevel.domain.managing import TAKES, is_stage, read_name
from kevel.domain.model import GIB, Actor, OperationKind, Snapshot, Subject, Volume
from kevel.domain.type_specs import check_size, check_zone
from kevel.storage.base import Backend
from kevel.store.journal import Entry, append
from kevel.store.operations import begin_operation, is_read, running_operation
from kevel.store.pool_moves import pools_passed
from kevel.store.quotas import check_room_for
from kevel.store.snapshots import (
    SnapshotView,
    change_snapshot,
    find_snapshot,
    insert_snapshot,
    live_snapshots,
    load_snapshot,
    view_snapshot,
)
from kevel.store.transactions import Tx
from kevel.store.volume_lists import VolumeView, view_volume
from kevel.store.volume_types import VolumeType, load_encryption
from kevel.store.volumes import change_volume, find_volume, insert_volume, load_volume

#: Files of a pool that one list looks at.
LISTED_FILES_MAX: Final = 1000
_LEAVABLE: Final = frozenset({"available", "error", "error_extending", "error_restoring"})


class NewManaged(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for: a volume of what has that name in that host's pool."""

    host: str
    source_name: str
    name: str = ""
    description: str | None = None
    type_ref: str | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    availability_zone: str | None = None
    bootable: bool = False


class NewManagedSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for: a snapshot of that volume, of what has that name in the volume's pool."""

    volume_id: str
    source_name: str
    name: str = ""
    description: str | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)


class Manageable(msgspec.Struct, frozen=True, kw_only=True):
    """Something in a pool, and whether it can be managed."""

    name: str
    size_gib: int
    #: None: it can.
    reason_not_safe: str | None = None
    #: The volume or snapshot that it is already.
    kevel_id: str | None = None
    #: Of a snapshot's file, the file of its volume.
    source_name: str | None = None


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the records say of a file."""

    #: "raw" or "qcow2"; None: they know nothing of it.
    format: str | None = None
    reason_not_safe: str | None = None
    kevel_id: str | None = None
    volume_id: str | None = None


class Managing:
    """The use cases. Each check stands in the transaction that also writes."""

    def __init__(self, runtime: Runtime, pools: Pools, limits: Limits) -> None:
        self._runtime = runtime
        self._pools = pools
        self._limits = limits

    async def manage_volume(self, actor: Actor, new: NewManaged) -> VolumeView:
        """Enter a volume and start to make it of what is in the pool. Raises NotFound, Invalid and Unavailable."""
        backend = self._pools.find(new.host)
        room = await self._pools.measure(backend.name)
        runtime = self._runtime
        disk_format = await runtime.store.read(_choose_format, actor, new, room)
        size_gib = await _measure(backend, new.source_name, disk_format)
        return await runtime.store.write(
            _manage_volume,
            actor,
            new,
            room,
            volume_id=runtime.ids.uuid(),
            disk_format=disk_format,
            size_gib=size_gib,
            zone=self._pools.availability_zone,
            at=runtime.clock.now_us(),
        )

    async def manage_snapshot(self, actor: Actor, new: NewManagedSnapshot) -> SnapshotView:
        """Enter a snapshot and start to make it of what is in its volume's pool. Raises as `manage_volume`."""
        runtime = self._runtime
        backend_name, disk_format = await runtime.store.read(_choose_snapshot_format, actor, new)
        backend = self._pools.backends.get(backend_name)
        if backend is None:
            raise Invalid(f"Invalid volume: the storage back end {backend_name} is not configured any more.")
        size_gib = await _measure(backend, new.source_name, disk_format)
        return await runtime.store.write(
            _manage_snapshot,
            actor,
            new,
            snapshot_id=runtime.ids.uuid(),
            disk_format=disk_format,
            size_gib=size_gib,
            limits=self._limits,
            at=runtime.clock.now_us(),
        )

    async def unmanage_volume(self, actor: Actor, volume_id: str) -> None:
        """Forget the volume and leave its contents in the pool."""
        await self._runtime.store.write(_unmanage_volume, actor, volume_id, self._runtime.clock.now_us())

    async def unmanage_snapshot(self, actor: Actor, snapshot_id: str) -> None:
        """Forget the snapshot and leave its contents in the pool."""
        await self._runtime.store.write(_unmanage_snapshot, actor, snapshot_id, self._runtime.clock.now_us())

    async def list_volumes(self, host: str) -> list[Manageable]:
        """What that host's pool has, but for snapshots. Raises NotFound for an unknown host, and Unavailable."""
        backend = self._pools.find(host)
        found: list[Manageable] = []
        for name, known in await self._list_known(backend):
            kind = read_name(name)
            if kind is None or kind[0] is Subject.VOLUME:
                found.append(await _look(backend, name, known, None))
        return found

    async def list_snapshots(self, host: str) -> list[Manageable]:
        """What that host's pool has of snapshots, with their volumes. Raises as `list_volumes`."""
        backend = self._pools.find(host)
        return [
            await _look(backend, name, known, f"volume-{known.volume_id}")
            for name, known in await self._list_known(backend)
            if known.volume_id is not None
        ]

    async def _list_known(self, backend: Backend) -> list[tuple[str, Known]]:
        try:
            names = await backend.list_files()
        except StepError as error:
            raise Unavailable(f"The storage pool {backend.name} does not answer; try again later.") from error
        names = [name for name in names if not is_stage(name)][:LISTED_FILES_MAX]
        return list(zip(names, await self._runtime.store.read(_know_all, backend.name, names), strict=True))


async def _measure(backend: Backend, name: str, disk_format: str) -> int:
    """The size in GiB that the volume or snapshot will have. Raises Invalid and Unavailable."""
    try:
        size_bytes = await backend.measure_file(name, disk_format)
    except StepNever as error:
        raise Invalid(f"Invalid input for ref: {error.message}") from error
    except StepError as error:
        raise Unavailable(f"The storage pool {backend.name} does not answer; try again later.") from error
    size_gib = max(1, -(-size_bytes // GIB))
    if disk_format != "raw" and size_bytes != size_gib * GIB:
        raise Invalid(f"Invalid input for ref: {name[:255]} is a {disk_format} disk of no whole number of GiB.")
    return size_gib


async def _look(backend: Backend, name: str, known: Known, source_name: str | None) -> Manageable:
    size_gib, reason = 0, known.reason_not_safe
    try:
        size_bytes = await backend.measure_file(name, known.format or backend.volume_format)
        size_gib = -(-size_bytes // GIB)
    except StepError as error:
        reason = reason or error.message
    return Manageable(
        name=name, size_gib=size_gib, reason_not_safe=reason, kevel_id=known.kevel_id, source_name=source_name
    )


def _know_all(tx: Tx, backend: str, names: list[str]) -> list[Known]:
    return [_know(tx, backend, name) for name in names]


def _know(tx: Tx, backend: str, name: str) -> Known:
    """What the records say of the file; what is not Kevel's own any more, or never was, can be managed."""
    found = read_name(name)
    if found is None:
        return Known()
    if is_stage(name):
        return Known(reason_not_safe="A copy that is under way keeps it.")
    subject, kevel_id = found
    one: Volume | Snapshot | None = (load_volume if subject is Subject.VOLUME else load_snapshot)(tx, kevel_id)
    if one is not None and one.backend != backend and not one.unmanaged and backend in pools_passed(tx, one.id):
        return Known(format=one.format, reason_not_safe="It is of a volume that moves between pools, or has moved.")
    if one is None or one.backend != backend:
        return Known()
    volume_id = one.volume_id if isinstance(one, Snapshot) else None
    if one.unmanaged:
        return Known(format=one.format, volume_id=volume_id)
    if one.deleted_at is not None:
        return Known(format=one.format, reason_not_safe="It was deleted and is being removed.")
    reason = f"It is {subject.value} {kevel_id} already."
    return Known(format=one.format, reason_not_safe=reason, kevel_id=kevel_id, volume_id=volume_id)


def _check_free(tx: Tx, backend: str, name: str) -> Known:
    known = _know(tx, backend, name)
    if known.reason_not_safe is not None:
        raise Invalid(f"Invalid input for ref: {name[:255]} cannot be managed. {known.reason_not_safe}")
    return known


def _choose_format(tx: Tx, actor: Actor, new: NewManaged, room: PoolRoom) -> str:
    """What the file is: as it was recorded, else as the pool and the type have it. Its bytes say nothing (S15)."""
    volume_type = _check_type(tx, actor, new, room)
    known = _check_free(tx, room.backend, new.source_name)
    disk_format = known.format or ("raw" if volume_type.multiattach else room.volume_format)
    if volume_type.multiattach and disk_format != "raw":
        raise Invalid(f"Invalid input for ref: {new.source_name[:255]} is {disk_format} and cannot be shared.")
    return disk_format


def _check_type(tx: Tx, actor: Actor, new: NewManaged, room: PoolRoom) -> VolumeType:
    volume_type = resolve_type(tx, new.type_ref, actor)
    check_fits(volume_type, room.place)
    if load_encryption(tx, volume_type.id) is not None:
        raise Invalid(f"Volumes of the type {volume_type.name} are encrypted; Kevel manages no encrypted volumes.")
    refusal = find_refusal(tx, volume_type, room.place)
    if refusal is not None:
        raise Unavailable(refusal)
    check_not_frozen(tx, room.backend)
    return volume_type


def _manage_volume(
    tx: Tx,
    actor: Actor,
    new: NewManaged,
    room: PoolRoom,
    *,
    volume_id: str,
    disk_format: str,
    size_gib: int,
    zone: str,
    at: int,
) -> VolumeView:
    if disk_format != _choose_format(tx, actor, new, room):
        raise Unavailable("What is known of the volume type has just changed; try again.")
    volume_type = _check_type(tx, actor, new, room)
    check_size(volume_type.name, volume_type.extra_specs, size_gib)
    check_zone(volume_type.name, volume_type.extra_specs, new.availability_zone or zone)
    if new.availability_zone not in (None, zone):
        raise Invalid(f"Availability zone '{new.availability_zone}' is invalid; volumes are made in '{zone}'.")
    check_metadata(new.metadata)
    demand = {"volumes": 1, "gigabytes": size_gib, "per_volume_gigabytes": size_gib}
    check_room_for(tx, actor.project_id, demand, volume_type_id=volume_type.id)
    check_room(tx, room, size_gib)
    volume = Volume(
        id=volume_id,
        project_id=actor.project_id,
        user_id=actor.user_id,
        name=new.name,
        description=new.description,
        size_gib=size_gib,
        volume_type_id=volume_type.id,
        backend=room.backend,
        format=disk_format,
        availability_zone=zone,
        metadata=new.metadata,
        bootable=new.bootable,
        readonly=False,
        multiattach=volume_type.multiattach,
        made=False,
        fault=None,
        mask=None,
        generation=0,
        created_at=at,
        updated_at=None,
        deleted_at=None,
    )
    insert_volume(tx, volume)
    begin_operation(
        tx,
        Subject.VOLUME,
        volume_id,
        OperationKind.CREATING,
        volume_id=volume_id,
        args={TAKES: new.source_name},
        actor="user",
        request_id=actor.request_id,
        at=at,
        deadline_at=room.limits.volume_deadline(at),
    )
    return view_volume(tx, volume)


def _choose_snapshot_format(tx: Tx, actor: Actor, new: NewManagedSnapshot) -> tuple[str, str]:
    """The back end, and what the file is: as it was recorded, else as its volume."""
    view = view_volume(tx, find_volume(tx, new.volume_id, actor))
    volume = view.volume
    if view.status not in ("available", "in-use"):
        raise Invalid(
            f"Invalid volume: volume {volume.id} is {view.status}; for a snapshot of it to be managed, it has to be "
            "available or in-use."
        )
    if volume.encryption_key_id is not None:
        raise Invalid(f"Invalid volume: volume {volume.id} is encrypted; Kevel manages no snapshots of such volumes.")
    check_not_frozen(tx, volume.backend)
    known = _check_free(tx, volume.backend, new.source_name)
    if known.format == "luks":
        raise Invalid(f"Invalid input for ref: {new.source_name[:255]} is encrypted.")
    return volume.backend, known.format or volume.format


def _manage_snapshot(
    tx: Tx,
    actor: Actor,
    new: NewManagedSnapshot,
    *,
    snapshot_id: str,
    disk_format: str,
    size_gib: int,
    limits: Limits,
    at: int,
) -> SnapshotView:
    backend, chosen = _choose_snapshot_format(tx, actor, new)
    volume = find_volume(tx, new.volume_id, actor)
    if chosen != disk_format:
        raise Unavailable("What is known of the snapshot has just changed; try again.")
    if size_gib > volume.size_gib:
        raise Invalid(
            f"Invalid input for ref: {new.source_name[:255]} has {size_gib} GiB, and volume {volume.id} only "
            f"{volume.size_gib}."
        )
    check_metadata(new.metadata)
    demand = {"snapshots": 1, "gigabytes": size_gib}
    check_room_for(tx, volume.project_id, demand, volume_type_id=volume.volume_type_id)
    snapshot = Snapshot(
        id=snapshot_id,
        volume_id=volume.id,
        project_id=volume.project_id,
        user_id=actor.user_id,
        name=new.name,
        description=new.description,
        size_gib=size_gib,
        backend=backend,
        format=disk_format,
        metadata=new.metadata,
        bootable=volume.bootable,
        image_metadata=volume.image_metadata,
        created_at=at,
    )
    insert_snapshot(tx, snapshot)
    begin_operation(
        tx,
        Subject.SNAPSHOT,
        snapshot_id,
        OperationKind.CREATING,
        volume_id=volume.id,
        args={TAKES: new.source_name},
        actor="user",
        request_id=actor.request_id,
        at=at,
        deadline_at=limits.volume_deadline(at),
    )
    return view_snapshot(tx, snapshot)


def _unmanage_volume(tx: Tx, actor: Actor, volume_id: str, at: int) -> None:
    view = view_volume(tx, find_volume(tx, volume_id, actor))
    volume = view.volume
    why_not = _why_not_leave(tx, Subject.VOLUME, volume, view.status)
    if view.attachments:
        why_not = "is attached; detach it"
    elif live_snapshots(tx, volume_id):
        why_not = "has snapshots; unmanage or delete them"
    elif volume.group_id is not None:
        why_not = f"is in group {volume.group_id}; take it out of the group"
    if why_not is not None:
        raise Invalid(f"Invalid volume: volume {volume_id} {why_not}.")
    check_not_frozen(tx, volume.backend)
    change_volume(tx, volume_id, deleted_at=at, updated_at=at, live=None, unmanaged=True, fault=None, mask=None)
    _journal(tx, actor, Subject.VOLUME, volume_id, volume_id, view.status, at)


def _unmanage_snapshot(tx: Tx, actor: Actor, snapshot_id: str, at: int) -> None:
    view = view_snapshot(tx, find_snapshot(tx, snapshot_id, actor))
    snapshot = view.snapshot
    why_not = _why_not_leave(tx, Subject.SNAPSHOT, snapshot, view.status)
    if snapshot.group_snapshot_id is not None:
        why_not = f"is part of group snapshot {snapshot.group_snapshot_id}"
    if why_not is not None:
        raise Invalid(f"Invalid snapshot: snapshot {snapshot_id} {why_not}.")
    check_not_frozen(tx, snapshot.backend)
    change_snapshot(tx, snapshot_id, deleted_at=at, updated_at=at, live=None, unmanaged=True, fault=None, mask=None)
    _journal(tx, actor, Subject.SNAPSHOT, snapshot_id, snapshot.volume_id, view.status, at)
    tx.wake("volume", snapshot.volume_id)  # which may wait to be deleted behind it


def _why_not_leave(tx: Tx, subject: Subject, one: Volume | Snapshot, status: str) -> str | None:
    if status not in _LEAVABLE:
        return f"is {status}; to be unmanaged it has to be {', '.join(sorted(_LEAVABLE))}"
    running = running_operation(tx, subject, one.id)
    if running is not None:  # an admin's word hides it, and what it does would be done to what is left
        return f"is {running.kind.value}; wait for the end of that"
    if not one.made:
        return "was never made; delete it"
    if one.format == "luks":
        return "is encrypted, and what opens it would be destroyed"
    if is_read(tx, one.id):
        return "is being copied; wait for the end of that"
    return None


def _journal(tx: Tx, actor: Actor, subject: Subject, subject_id: str, volume_id: str, before: str, at: int) -> None:
    entry = Entry(
        at=at,
        subject=subject.value,
        subject_id=subject_id,
        volume_id=volume_id,
        what="management",
        before=before,
        after="unmanaged",
        revision=0,
        actor="user",
        request_id=actor.request_id,
    )
    append(tx, entry)
