"""Snapshots: the use cases. What is checked is checked inside the transaction that writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kevel.control.pools.placing import check_not_frozen
from kevel.control.runtime import Runtime
from kevel.control.volume_types.keys import refuse_encrypted
from kevel.domain.errors import Invalid, NotFound, OverLimit
from kevel.domain.limits import Limits
from kevel.domain.model import Actor, Snapshot
from kevel.store import snapshots as rows
from kevel.store.at_rest import look_at_rest
from kevel.store.journal import Entry, append
from kevel.store.pages import Listed, Page
from kevel.store.quotas import check_room_for
from kevel.store.repeats import Once, once_only
from kevel.store.snapshots import SnapshotFilter, SnapshotView, find_snapshot, view_snapshot
from kevel.store.transactions import Tx
from kevel.store.volume_lists import view_volume
from kevel.store.volumes import find_volume, load_volume, volume_operation

#: Items of one snapshot's metadata.
METADATA_ITEMS_MAX: Final = 128
#: Words that an admin may put over a snapshot's status.
MASKS: Final = frozenset({"creating", "deleting", "error", "error_deleting"})
_DELETABLE: Final = frozenset({"available", "error", "error_deleting"})
#: What a driver may say of a snapshot, by what it is called now.
_MAY_BECOME: Final[Mapping[str, tuple[str, ...]]] = {
    "creating": ("creating", "available", "error"),
    "deleting": ("deleting", "error_deleting"),
}


class NewSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for."""

    volume_id: str
    name: str = ""
    description: str | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    #: Of a volume in use, too.
    in_use: bool = False


class Snapshots:
    """Snapshots of volumes; each lies in its volume's pool."""

    def __init__(self, runtime: Runtime, limits: Limits) -> None:
        self._runtime = runtime
        self._limits = limits

    async def create(self, actor: Actor, new: NewSnapshot, *, once: Once[SnapshotView] | None = None) -> SnapshotView:
        """Enter a snapshot and start to take it."""
        runtime = self._runtime
        snapshot_id, at = runtime.ids.uuid(), runtime.clock.now_us()
        create = once_only(once, _create)
        return await runtime.store.write(create, actor, new, snapshot_id=snapshot_id, at=at, limits=self._limits)

    async def get(self, actor: Actor, snapshot_id: str) -> SnapshotView:
        """The snapshot; NotFound."""
        return await self._runtime.store.read_point(_get, actor, snapshot_id)

    async def list(self, wanted: SnapshotFilter, page: Page) -> Listed[SnapshotView]:
        """One page of the snapshots that match; the caller has put the actor's project into the filter."""
        return await self._runtime.store.read(rows.list_snapshots, wanted, page)

    async def update(self, actor: Actor, snapshot_id: str, changes: Mapping[str, Any]) -> SnapshotView:
        """Change name or description."""
        at = self._runtime.clock.now_us()
        return await self._runtime.store.write(_update, actor, snapshot_id, dict(changes), at)

    async def put_metadata(
        self, actor: Actor, snapshot_id: str, metadata: Mapping[str, str], *, replace: bool
    ) -> dict[str, str]:
        """Set metadata items, or replace all of them; the items afterwards."""
        at = self._runtime.clock.now_us()
        wanted = dict(metadata)
        return await self._runtime.store.write(_put_metadata, actor, snapshot_id, wanted, replace=replace, at=at)

    async def remove_metadata(self, actor: Actor, snapshot_id: str, key: str) -> None:
        """Remove one metadata item; NotFound."""
        await self._runtime.store.write(_remove_metadata, actor, snapshot_id, key, self._runtime.clock.now_us())

    async def delete(self, actor: Actor, snapshot_id: str, *, force: bool) -> None:
        """Start to delete a snapshot; with `force` whatever its status is."""
        at = self._runtime.clock.now_us()
        deadline_at = self._limits.volume_deadline(at)
        await self._runtime.store.write(_delete, actor, snapshot_id, force=force, at=at, deadline_at=deadline_at)

    async def reset_status(self, actor: Actor, snapshot_id: str, status: str) -> None:
        """Put a word over the status, or take word and fault away again where it is true that it is available."""
        await self._runtime.store.write(_reset_status, actor, snapshot_id, status, self._runtime.clock.now_us())

    async def say_status(self, actor: Actor, snapshot_id: str, status: str, progress: str | None) -> None:
        """Put over a snapshot's status what somebody who makes or deletes it says of it."""
        at = self._runtime.clock.now_us()
        await self._runtime.store.write(_say_status, actor, snapshot_id, status, progress, at)


def begin_snapshot(
    tx: Tx,
    actor: Actor,
    new: NewSnapshot,
    *,
    snapshot_id: str,
    at: int,
    limits: Limits,
    group_snapshot_id: str | None = None,
) -> Snapshot:
    """Enter a snapshot of a volume and start to take it. Raises Invalid when its volume does not allow it."""
    view = view_volume(tx, find_volume(tx, new.volume_id, actor))
    volume = view.volume
    allowed = ("available", "in-use") if new.in_use else ("available",)
    if view.status not in allowed or volume_operation(tx, volume.id) is not None:
        raise Invalid(
            f"Invalid volume: Volume {volume.id} status must be {' or '.join(allowed)}, but current status is: "
            f"{view.status}."
        )
    check_not_frozen(tx, volume.backend)
    check_copyable(tx, volume.id)
    _check_metadata(new.metadata)
    demand = {"snapshots": 1, "gigabytes": volume.size_gib}
    check_room_for(tx, volume.project_id, demand, volume_type_id=volume.volume_type_id)
    snapshot = Snapshot(
        id=snapshot_id,
        volume_id=volume.id,
        project_id=volume.project_id,
        user_id=actor.user_id,
        name=new.name,
        description=new.description,
        size_gib=volume.size_gib,
        backend=volume.backend,
        format=volume.format,
        metadata=new.metadata,
        group_snapshot_id=group_snapshot_id,
        bootable=volume.bootable,
        image_metadata=volume.image_metadata,
        created_at=at,
    )
    deadline_at = limits.volume_deadline(at, copied_gib=volume.size_gib)
    rows.begin_create_snapshot(tx, snapshot, request_id=actor.request_id, at=at, deadline_at=deadline_at)
    return snapshot


def check_copyable(tx: Tx, volume_id: str) -> None:
    """Raise Invalid for a volume whose contents cannot be copied as they are at one time."""
    rest = look_at_rest(tx, volume_id)
    if rest.foreign:
        raise Invalid(
            f"Invalid volume: volume {volume_id} is attached outside Kevel's own servers; it can be copied when it is "
            "detached."
        )
    volume = load_volume(tx, volume_id)
    if rest.live and volume is not None:
        refuse_encrypted(volume, "copied while a running server has it")
    if len(rest.live) > 1:
        raise Invalid(
            f"Invalid volume: volume {volume_id} is in use by {len(rest.live)} running servers; it can be copied when "
            "one has it."
        )


def _create(tx: Tx, actor: Actor, new: NewSnapshot, *, snapshot_id: str, at: int, limits: Limits) -> SnapshotView:
    return view_snapshot(tx, begin_snapshot(tx, actor, new, snapshot_id=snapshot_id, at=at, limits=limits))


def _check_metadata(metadata: Mapping[str, str]) -> None:
    if len(metadata) > METADATA_ITEMS_MAX:
        raise OverLimit(f"A snapshot can have {METADATA_ITEMS_MAX} metadata items; these are {len(metadata)}.")


def _get(tx: Tx, actor: Actor, snapshot_id: str) -> SnapshotView:
    return view_snapshot(tx, find_snapshot(tx, snapshot_id, actor))


def _update(tx: Tx, actor: Actor, snapshot_id: str, changes: dict[str, Any], at: int) -> SnapshotView:
    find_snapshot(tx, snapshot_id, actor)
    rows.change_snapshot(tx, snapshot_id, **changes, updated_at=at)
    return _get(tx, actor, snapshot_id)


def _put_metadata(
    tx: Tx, actor: Actor, snapshot_id: str, metadata: dict[str, str], *, replace: bool, at: int
) -> dict[str, str]:
    snapshot = find_snapshot(tx, snapshot_id, actor)
    merged = metadata if replace else snapshot.metadata | metadata
    _check_metadata(merged)
    rows.change_snapshot(tx, snapshot_id, metadata=merged, updated_at=at)
    return merged


def _remove_metadata(tx: Tx, actor: Actor, snapshot_id: str, key: str, at: int) -> None:
    snapshot = find_snapshot(tx, snapshot_id, actor)
    if key not in snapshot.metadata:
        raise NotFound(f"Snapshot {snapshot_id} has no metadata with key {key[:255]}.")
    left = {name: value for name, value in snapshot.metadata.items() if name != key}
    rows.change_snapshot(tx, snapshot_id, metadata=left, updated_at=at)


def _delete(tx: Tx, actor: Actor, snapshot_id: str, *, force: bool, at: int, deadline_at: int) -> None:
    view = _get(tx, actor, snapshot_id)
    if not force:
        check_deletable(view)
        if view.snapshot.group_snapshot_id is not None:
            raise Invalid(
                f"Invalid snapshot: snapshot {snapshot_id} is part of group snapshot "
                f"{view.snapshot.group_snapshot_id}; delete it with that."
            )
    check_not_frozen(tx, view.snapshot.backend)
    rows.begin_delete_snapshot(tx, view.snapshot, request_id=actor.request_id, at=at, deadline_at=deadline_at)


def check_deletable(view: SnapshotView) -> None:
    """Raise Invalid when the snapshot's status does not let it be deleted."""
    if view.status not in _DELETABLE:
        raise Invalid(
            f"Invalid snapshot: snapshot {view.snapshot.id} is {view.status}; to be deleted it has to be "
            f"{', '.join(sorted(_DELETABLE))}."
        )


def delete_snapshots(tx: Tx, actor: Actor, volume_id: str, *, cascade: bool, at: int, deadline_at: int) -> None:
    """Start to delete the volume's snapshots, behind which its own deletion waits. Raises Invalid without `cascade`."""
    snapshots = rows.view_snapshots(tx, rows.live_snapshots(tx, volume_id))
    if snapshots and not cascade:
        raise Invalid(
            f"Invalid volume: volume {volume_id} has {len(snapshots)} snapshots; delete them first, or with it "
            "(cascade)."
        )
    for view in snapshots:
        if view.status != "deleting":
            check_deletable(view)
        if view.snapshot.group_snapshot_id is not None:
            raise Invalid(
                f"Invalid volume: snapshot {view.snapshot.id} of volume {volume_id} is part of group snapshot "
                f"{view.snapshot.group_snapshot_id}; delete that first."
            )
        rows.begin_delete_snapshot(tx, view.snapshot, request_id=actor.request_id, at=at, deadline_at=deadline_at)


def _reset_status(tx: Tx, actor: Actor, snapshot_id: str, status: str, at: int) -> None:
    view = _get(tx, actor, snapshot_id)
    if status in MASKS:
        _set_mask(tx, actor, view, status, None, at)
        return
    if status != "available":
        words = ", ".join(sorted({*MASKS, "available"}))
        raise Invalid(f"Invalid input received: a snapshot's status can be reset to {words}, not to '{status[:64]}'.")
    if not view.snapshot.made or rows.snapshot_operation(tx, snapshot_id) is not None:
        raise Invalid(f"Invalid snapshot: snapshot {snapshot_id} is not there whole and cannot be declared available.")
    rows.change_snapshot(tx, snapshot_id, fault=None)
    _set_mask(tx, actor, view, None, None, at)


def _say_status(tx: Tx, actor: Actor, snapshot_id: str, status: str, progress: str | None, at: int) -> None:
    view = _get(tx, actor, snapshot_id)
    if status not in _MAY_BECOME.get(view.status, ()):
        raise Invalid(
            f"Invalid snapshot: snapshot {snapshot_id} is {view.status}; it cannot be said to be {status[:64]}."
        )
    if status == "available" and not view.snapshot.made:
        raise Invalid(f"Invalid snapshot: snapshot {snapshot_id} is not there whole and cannot be declared available.")
    _set_mask(tx, actor, view, None if status == "available" else status, progress, at)


def _set_mask(tx: Tx, actor: Actor, view: SnapshotView, mask: str | None, progress: str | None, at: int) -> None:
    snapshot = view.snapshot
    rows.change_snapshot(tx, snapshot.id, mask=mask, progress_said=progress, updated_at=at)
    entry = Entry(
        at=at,
        subject="snapshot",
        subject_id=snapshot.id,
        volume_id=snapshot.volume_id,
        what="mask",
        before=view.status,
        after=mask or "available",
        revision=0,
        actor="user",
        request_id=actor.request_id,
    )
    append(tx, entry)
