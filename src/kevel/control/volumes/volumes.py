"""Volumes: the use cases. What is checked is checked inside the transaction that writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from kevel.control.copies.snapshots import delete_snapshots
from kevel.control.operations.failures import fail_volume_operation
from kevel.control.pools.placing import check_not_frozen, fail_placement, find_refusal
from kevel.control.pools.pools import PoolRoom, Pools, check_room, choose_room
from kevel.control.runtime import Runtime
from kevel.control.volume_types.keys import KeyRing, choose_key
from kevel.control.volume_types.types import resolve_type
from kevel.control.volumes.metadata import check_metadata, put_metadata, remove_metadata
from kevel.control.volumes.sources import find_origin
from kevel.control.volumes.status_resets import reset_status, status_beneath
from kevel.domain.errors import Forbidden, Invalid
from kevel.domain.external import name_consumer
from kevel.domain.ladder import HANDOVER
from kevel.domain.limits import Limits
from kevel.domain.model import Actor, OperationKind, Subject, Volume
from kevel.domain.type_specs import check_size, check_zone
from kevel.store import volume_lists as lists
from kevel.store.backups import begin_restore
from kevel.store.groups import check_group_takes
from kevel.store.operations import begin_operation
from kevel.store.pages import Listed, Page
from kevel.store.quotas import check_room_for
from kevel.store.repeats import Once, once_only
from kevel.store.transactions import Tx
from kevel.store.volume_keys import SealedKey
from kevel.store.volume_lists import Summary, VolumeFilter, VolumeView, view_volume
from kevel.store.volume_types import TypeEncryption, load_encryption, load_type
from kevel.store.volumes import (
    begin_delete,
    change_volume,
    find_volume,
    insert_volume,
    volume_operation,
)

_DELETABLE: Final = frozenset({"available", "error", "error_deleting", "error_extending", "error_restoring"})


class NewVolume(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for."""

    #: None: its source's.
    size_gib: int | None = None
    snapshot_id: str | None = None
    source_volume_id: str | None = None
    image_id: str | None = None
    name: str = ""
    description: str | None = None
    #: Id or name of the type; None: its source's, else the default type.
    type_ref: str | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    availability_zone: str | None = None
    group_id: str | None = None
    #: The backup that is restored into it.
    backup_id: str | None = None


class Volumes:
    """Volumes of all pools."""

    def __init__(self, runtime: Runtime, pools: Pools, limits: Limits, *, keys: KeyRing | None = None) -> None:
        self._runtime = runtime
        self._limits = limits
        self._keys = keys
        self.pools = pools

    async def create(self, actor: Actor, new: NewVolume, *, once: Once[VolumeView] | None = None) -> VolumeView:
        """Enter a volume and start to make it. Raises OverLimit, and then nothing is left of it."""
        rooms = await self.pools.measure_all()
        runtime = self._runtime
        at = runtime.clock.now_us()
        return await runtime.store.write(
            once_only(once, enter_volume),
            actor,
            new,
            rooms,
            volume_id=runtime.ids.uuid(),
            key=self.draw_key(at),
            availability_zone=self.pools.availability_zone,
            at=at,
        )

    def draw_key(self, at: int) -> SealedKey | None:
        """A key for a volume that may have to be encrypted; None: there is no key store."""
        return None if self._keys is None else self._keys.draw(at=at)

    async def get(self, actor: Actor, volume_id: str) -> VolumeView:
        """The volume; NotFound."""
        return await self._runtime.store.read_point(_get, actor, volume_id)

    async def encryption(self, actor: Actor, volume_id: str) -> tuple[str | None, TypeEncryption | None]:
        """The id of the volume's key, and how its type is encrypted; NotFound."""
        return await self._runtime.store.read_point(_get_encryption, actor, volume_id)

    async def list(self, wanted: VolumeFilter, page: Page) -> Listed[VolumeView]:
        """One page of the volumes that match; the caller has put the actor's project into the filter."""
        return await self._runtime.store.read(lists.list_volumes, wanted, page)

    async def summarize(self, wanted: VolumeFilter) -> Summary:
        """Number, size and metadata of the volumes that match by their columns."""
        return await self._runtime.store.read(lists.summarize, wanted)

    async def update(self, actor: Actor, volume_id: str, changes: Mapping[str, Any]) -> VolumeView:
        """Change name, description or metadata (which is replaced whole)."""
        return await self._runtime.store.write(_update, actor, volume_id, dict(changes), self._runtime.clock.now_us())

    async def delete(self, actor: Actor, volume_id: str, *, force: bool, cascade: bool = False) -> None:
        """Start to delete a volume that is attached nowhere; with `force` (admins) whatever its status is.

        `cascade`: and its snapshots, without which one that has any is not deleted.
        """
        if force and not actor.is_admin:
            raise Forbidden("Policy does not allow a volume to be deleted by force with the roles of this token.")
        at = self._runtime.clock.now_us()
        how = {"force": force, "cascade": cascade}
        await self._runtime.store.write(
            _delete, actor, volume_id, **how, at=at, deadline_at=self._limits.volume_deadline(at)
        )

    async def extend(self, actor: Actor, volume_id: str, size_gib: int, *, in_use: bool) -> None:
        """Start to grow a volume; `in_use`: an attached one too."""
        room = await self.pools.measure((await self.get(actor, volume_id)).volume.backend)
        at = self._runtime.clock.now_us()
        await self._runtime.store.write(_extend, actor, volume_id, size_gib, room, in_use=in_use, at=at)

    async def put_metadata(
        self,
        actor: Actor,
        volume_id: str,
        metadata: Mapping[str, str],
        *,
        replace: bool,
        tags: frozenset[str] | None = None,
    ) -> dict[str, str]:
        """Set metadata items, or replace all of them; the items afterwards.

        Raises Outdated when the metadata has none of the tags.
        """
        at, items = self._runtime.clock.now_us(), dict(metadata)
        return await self._runtime.store.write(put_metadata, actor, volume_id, items, replace=replace, tags=tags, at=at)

    async def remove_metadata(self, actor: Actor, volume_id: str, key: str) -> None:
        """Remove one metadata item; NotFound."""
        await self._runtime.store.write(remove_metadata, actor, volume_id, key, self._runtime.clock.now_us())

    async def set_bootable(self, actor: Actor, volume_id: str, *, bootable: bool) -> None:
        """Say whether a guest can boot from it."""
        at = self._runtime.clock.now_us()
        await self._runtime.store.write(_change, actor, volume_id, {"bootable": bootable, "updated_at": at})

    async def set_readonly(self, actor: Actor, volume_id: str, *, readonly: bool) -> None:
        """Say whether guests may write; for a volume that no guest has."""
        at = self._runtime.clock.now_us()
        await self._runtime.store.write(_set_readonly, actor, volume_id, readonly, at)

    async def complete_extend(self, actor: Actor, volume_id: str, *, failed: bool) -> None:
        """Hear how a consumer has taken that the volume grows; where it has `failed`, so has the growing.

        Raises Invalid when the volume does not grow. A growing that has not failed ends by itself.
        """
        at = self._runtime.clock.now_us()
        await self._runtime.store.write(_complete_extend, actor, volume_id, failed=failed, at=at)

    async def reset_status(
        self,
        actor: Actor,
        volume_id: str,
        status: str | None,
        attach_status: str | None,
        *,
        forgets_move: bool = False,
    ) -> None:
        """Put a word over the status, or take word and fault away again where the word asked for is the truth.

        The attach status "detached" also ends every external attachment, whoever declared it. `forgets_move`: how the
        last move to another pool has ended is shown no more.
        """
        at = self._runtime.clock.now_us()
        wanted = {"status": status, "attach_status": attach_status}
        backend = self.pools.backends.get((await self.get(actor, volume_id)).volume.backend)
        free, deadline_at = backend is not None and HANDOVER in backend.effect_free, self._limits.volume_deadline(at)
        await self._runtime.store.write(
            reset_status,
            actor,
            volume_id,
            **wanted,
            forgets_move=forgets_move,
            at=at,
            free=free,
            deadline_at=deadline_at,
        )


def enter_volume(
    tx: Tx,
    actor: Actor,
    new: NewVolume,
    rooms: Sequence[PoolRoom],
    *,
    volume_id: str,
    availability_zone: str,
    at: int,
    key: SealedKey | None = None,
) -> VolumeView:
    """Enter a volume and start to make it."""
    origin = find_origin(
        tx,
        actor,
        size_gib=new.size_gib,
        snapshot_id=new.snapshot_id,
        source_volume_id=new.source_volume_id,
        image_id=new.image_id,
        backup_id=new.backup_id,
    )
    size_gib = origin.size_gib
    volume_type = resolve_type(tx, new.type_ref or origin.volume_type_id, actor)
    check_size(volume_type.name, volume_type.extra_specs, size_gib)
    check_zone(volume_type.name, volume_type.extra_specs, new.availability_zone or availability_zone)
    if new.availability_zone not in (None, availability_zone):
        raise Invalid(
            f"Availability zone '{new.availability_zone}' is invalid; volumes are made in '{availability_zone}'."
        )
    check_metadata(new.metadata)
    demand = {"volumes": 1, "gigabytes": size_gib, "per_volume_gigabytes": size_gib}
    check_room_for(tx, actor.project_id, demand, volume_type_id=volume_type.id)
    room = choose_room(tx, rooms, volume_type, size_gib, only=origin.backend)
    if new.group_id is not None:
        check_group_takes(tx, actor, new.group_id, volume_type.id)
    copied, opens = origin.reads is not None or origin.backup is not None, origin.encryption_key_id
    key_id = choose_key(tx, volume_type, copied=copied, source_key_id=opens, drawn=key)
    # Guests that share a qcow2 file would destroy it.
    clear_format = "raw" if volume_type.multiattach else room.volume_format
    volume = Volume(
        id=volume_id,
        project_id=actor.project_id,
        user_id=actor.user_id,
        name=new.name,
        description=new.description or origin.description,
        size_gib=size_gib,
        volume_type_id=volume_type.id,
        backend=room.backend,
        format=clear_format if key_id is None else "luks",
        encryption_key_id=key_id,
        availability_zone=availability_zone,
        metadata=origin.metadata | new.metadata,
        bootable=origin.bootable,
        snapshot_id=origin.snapshot_id,
        source_volume_id=origin.source_volume_id,
        image_metadata=origin.image_metadata,
        readonly=False,
        multiattach=volume_type.multiattach,
        made=False,
        fault=None,
        mask=None,
        generation=0,
        group_id=new.group_id,
        created_at=at,
        updated_at=None,
        deleted_at=None,
    )
    insert_volume(tx, volume)
    refusal = find_refusal(tx, volume_type, room.place)
    if origin.backup is not None and refusal is None:
        deadline_at = room.limits.volume_deadline(at, copied_gib=size_gib)
        begin_restore(tx, origin.backup, volume_id, request_id=actor.request_id, at=at, deadline_at=deadline_at)
        return view_volume(tx, volume)
    begin_operation(
        tx,
        Subject.VOLUME,
        volume_id,
        OperationKind.CREATING,
        volume_id=volume_id,
        reads=origin.reads,
        args=origin.args,
        actor="user",
        request_id=actor.request_id,
        at=at,
        deadline_at=room.limits.volume_deadline(at, copied_gib=0 if origin.reads is None else size_gib),
    )
    if refusal is not None:
        fail_placement(tx, volume, refusal, at)
        return _get(tx, actor, volume_id)
    return VolumeView(volume=volume, status=OperationKind.CREATING.value, type_name=volume_type.name, attachments=())


def _get(tx: Tx, actor: Actor, volume_id: str) -> VolumeView:
    return view_volume(tx, find_volume(tx, volume_id, actor))


def _get_encryption(tx: Tx, actor: Actor, volume_id: str) -> tuple[str | None, TypeEncryption | None]:
    volume = find_volume(tx, volume_id, actor)
    return volume.encryption_key_id, load_encryption(tx, volume.volume_type_id)


def _update(tx: Tx, actor: Actor, volume_id: str, changes: dict[str, Any], at: int) -> VolumeView:
    find_volume(tx, volume_id, actor)
    if "metadata" in changes:
        check_metadata(changes["metadata"])
    change_volume(tx, volume_id, **changes, updated_at=at)
    return _get(tx, actor, volume_id)


def _change(tx: Tx, actor: Actor, volume_id: str, changes: dict[str, Any]) -> None:
    find_volume(tx, volume_id, actor)
    change_volume(tx, volume_id, **changes)


def _delete(tx: Tx, actor: Actor, volume_id: str, *, force: bool, cascade: bool, at: int, deadline_at: int) -> None:
    view = _get(tx, actor, volume_id)
    if view.attachments:
        holders = ", ".join(sorted(name_consumer(one.attachment) for one in view.attachments))
        raise Invalid(
            f"Invalid volume: volume {volume_id} is {view.status}, attached to {holders}; detach it before deleting it."
        )
    if view.status not in _DELETABLE and not force:
        raise Invalid(
            f"Invalid volume: volume {volume_id} is {view.status}; to be deleted it has to be "
            f"{', '.join(sorted(_DELETABLE))}."
        )
    if view.volume.group_id is not None:
        raise Invalid(
            f"Invalid volume: volume {volume_id} is in group {view.volume.group_id}; delete it with the group, or take "
            "it out of the group first."
        )
    check_not_frozen(tx, view.volume.backend)
    delete_snapshots(tx, actor, volume_id, cascade=cascade, at=at, deadline_at=deadline_at)
    begin_delete(tx, view.volume, request_id=actor.request_id, at=at, deadline_at=deadline_at)


def _extend(tx: Tx, actor: Actor, volume_id: str, size_gib: int, room: PoolRoom, *, in_use: bool, at: int) -> None:
    view = _get(tx, actor, volume_id)
    volume = view.volume
    allowed = ("available", "in-use") if in_use else ("available",)
    if status_beneath(view) not in allowed or view.status not in (*allowed, "error_extending"):
        raise Invalid(
            f"Invalid volume: volume {volume_id} is {view.status}; to be extended it has to be {' or '.join(allowed)}."
        )
    if size_gib <= volume.size_gib:
        raise Invalid(
            f"Invalid input received: the new size of volume {volume_id} has to be greater than {volume.size_gib} GiB; "
            f"{size_gib} was asked for."
        )
    if view.attachments and volume.format == "qcow2":
        raise Invalid(
            f"Invalid volume: volume {volume_id} is a qcow2 file and in use; such a volume can be extended when it is "
            "detached."
        )
    volume_type = load_type(tx, volume.volume_type_id)
    if volume_type is not None:
        check_size(volume_type.name, volume_type.extra_specs, size_gib)
    demand = {"gigabytes": size_gib - volume.size_gib, "per_volume_gigabytes": size_gib}
    check_room_for(tx, volume.project_id, demand, volume_type_id=volume.volume_type_id)
    check_room(tx, room, size_gib - volume.size_gib)
    change_volume(tx, volume_id, fault=None, updated_at=at)
    begin_operation(
        tx,
        Subject.VOLUME,
        volume_id,
        OperationKind.EXTENDING,
        volume_id=volume_id,
        actor="user",
        request_id=actor.request_id,
        at=at,
        deadline_at=room.limits.volume_deadline(at),
        args={"size_gib": size_gib},
    )


def _complete_extend(tx: Tx, actor: Actor, volume_id: str, *, failed: bool, at: int) -> None:
    volume = find_volume(tx, volume_id, actor)
    operation = volume_operation(tx, volume_id)
    if operation is None or operation.kind is not OperationKind.EXTENDING:
        status = view_volume(tx, volume).status
        raise Invalid(f"Invalid volume: volume {volume_id} is {status}; no growing of it is to be completed.")
    if failed:
        message = "What uses the volume could not be shown its new size."
        fail_volume_operation(tx, operation, message, actor="user", at=at)


def _set_readonly(tx: Tx, actor: Actor, volume_id: str, readonly: bool, at: int) -> None:
    view = _get(tx, actor, volume_id)
    if view.status != "available":
        raise Invalid(
            f"Invalid volume: volume {volume_id} is {view.status}; to change its read-only flag it has to be available."
        )
    change_volume(tx, volume_id, readonly=readonly, readonly_asked=True, updated_at=at)
