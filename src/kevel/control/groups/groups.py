"""Groups of volumes: the use cases."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from kevel.control.pools.placing import check_not_frozen
from kevel.control.pools.pools import PoolRoom
from kevel.control.runtime import Runtime
from kevel.control.volume_types.group_types import resolve_group_type
from kevel.control.volume_types.types import resolve_type
from kevel.control.volumes.volumes import NewVolume, Volumes, enter_volume
from kevel.domain.errors import Invalid, NotFound
from kevel.domain.limits import Limits
from kevel.domain.model import Actor
from kevel.store import groups as rows
from kevel.store.group_snapshots import find_group_snapshot, has_group_snapshots, snapshots_of
from kevel.store.groups import Group, GroupView
from kevel.store.journal import Entry, append, note_volume
from kevel.store.pages import Listed, Page
from kevel.store.quotas import check_room_for
from kevel.store.snapshots import live_snapshots
from kevel.store.transactions import Tx
from kevel.store.volume_lists import VolumeView, view_volume, view_volumes
from kevel.store.volumes import begin_delete, change_volume, find_volume

#: Words that an admin may put over a group's status; "available" takes the word away.
MASKS: Final = frozenset({"creating", "error", "error_deleting", "updating"})
#: What a volume may be while it enters or leaves a group.
_MOVABLE: Final = frozenset({"available", "in-use"})


class NewGroup(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for."""

    name: str | None
    description: str | None
    #: Ids or names.
    group_type_ref: str
    volume_type_refs: tuple[str, ...]
    availability_zone: str | None


class GroupCopy(msgspec.Struct, frozen=True, kw_only=True):
    """A group that is to be made of another one, or of a snapshot of one."""

    name: str | None
    description: str | None
    source_group_id: str | None = None
    group_snapshot_id: str | None = None


class GroupChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What is to change; None: nothing."""

    name: str | None = None
    description: str | None = None
    add_volumes: tuple[str, ...] = ()
    remove_volumes: tuple[str, ...] = ()


class Groups:
    """Groups of volumes, whichever pools they lie in."""

    def __init__(self, runtime: Runtime, volumes: Volumes, limits: Limits, *, availability_zone: str) -> None:
        self._runtime = runtime
        self._volumes = volumes
        self._limits = limits
        self._availability_zone = availability_zone

    async def create(self, actor: Actor, new: NewGroup) -> Group:
        """A new group without volumes."""
        if new.availability_zone not in (None, self._availability_zone):
            raise Invalid(
                f"Availability zone '{new.availability_zone}' is invalid; volumes are made in "
                f"'{self._availability_zone}'."
            )
        runtime = self._runtime
        group_id, at = runtime.ids.uuid(), runtime.clock.now_us()
        return await runtime.store.write(_create, actor, new, self._availability_zone, group_id=group_id, at=at)

    async def copy(self, actor: Actor, new: GroupCopy) -> Group:
        """A new group, for whose volumes copies are started: all of them or none."""
        rooms = await self._volumes.pools.measure_all()
        runtime = self._runtime
        group_id, at = runtime.ids.uuid(), runtime.clock.now_us()
        return await runtime.store.write(_copy, actor, new, rooms, self._availability_zone, group_id=group_id, at=at)

    async def get(self, actor: Actor, group_id: str) -> GroupView:
        """The group; NotFound."""
        return await self._runtime.store.read_point(rows.find_group, group_id, actor)

    async def list(
        self, project_id: str | None, page: Page, *, equal: Mapping[str, str], status: str | None
    ) -> Listed[GroupView]:
        """One page of a project's groups (None: of all)."""
        return await self._runtime.store.read(rows.list_groups, project_id, page, equal=equal, status=status)

    async def update(self, actor: Actor, group_id: str, changes: GroupChanges) -> None:
        """Change name or description, and take volumes in and out, all at once or not at all."""
        await self._runtime.store.write(_update, actor, group_id, changes, self._runtime.clock.now_us())

    async def delete(self, actor: Actor, group_id: str, *, with_volumes: bool) -> None:
        """Delete a group; one that has volumes only with them."""
        at = self._runtime.clock.now_us()
        deadline_at = self._limits.volume_deadline(at)
        await self._runtime.store.write(
            _delete, actor, group_id, with_volumes=with_volumes, at=at, deadline_at=deadline_at
        )

    async def reset_status(self, actor: Actor, group_id: str, status: str) -> None:
        """Put a word over the status, or take it away where the word asked for is the truth."""
        await self._runtime.store.write(_reset_status, actor, group_id, status, self._runtime.clock.now_us())


def _create(tx: Tx, actor: Actor, new: NewGroup, availability_zone: str, *, group_id: str, at: int) -> Group:
    group_type = resolve_group_type(tx, new.group_type_ref, actor)
    type_ids = list(dict.fromkeys(_type_id(tx, ref, actor) for ref in new.volume_type_refs))
    group = Group(
        id=group_id,
        project_id=actor.project_id,
        user_id=actor.user_id,
        name=new.name,
        description=new.description,
        group_type_id=group_type.id,
        volume_type_ids=type_ids,
        availability_zone=availability_zone,
        created_at=at,
    )
    check_room_for(tx, actor.project_id, {"groups": 1})
    rows.insert_group(tx, group)
    note_group(tx, actor, group_id, "group", "none", "made", at)
    return group


def _copy(
    tx: Tx, actor: Actor, new: GroupCopy, rooms: Sequence[PoolRoom], availability_zone: str, *, group_id: str, at: int
) -> Group:
    source, volumes = _sources(tx, actor, new)
    if not volumes:
        raise Invalid(f"Invalid group: group {source.id} has nothing that a group could be made of.")
    group = Group(
        id=group_id,
        project_id=actor.project_id,
        user_id=actor.user_id,
        name=new.name,
        description=new.description,
        group_type_id=source.group_type_id,
        volume_type_ids=source.volume_type_ids,
        availability_zone=availability_zone,
        source_group_id=new.source_group_id,
        group_snapshot_id=new.group_snapshot_id,
        created_at=at,
    )
    check_room_for(tx, actor.project_id, {"groups": 1})
    rows.insert_group(tx, group)
    for volume in volumes:
        one = msgspec.structs.replace(volume, group_id=group_id)
        volume_id = derive_id(group_id, volume.snapshot_id or volume.source_volume_id or "")
        enter_volume(tx, actor, one, rooms, volume_id=volume_id, availability_zone=availability_zone, at=at)
    note_group(tx, actor, group_id, "group", "none", "creating", at)
    return group


def _sources(tx: Tx, actor: Actor, new: GroupCopy) -> tuple[Group, list[NewVolume]]:
    """The group that is copied, and what its volumes are made of."""
    if new.group_snapshot_id is not None:
        found = find_group_snapshot(tx, new.group_snapshot_id, actor)
        group = rows.find_group(tx, found.group_snapshot.group_id, actor).group
        taken = snapshots_of(tx, new.group_snapshot_id)
        return group, [NewVolume(snapshot_id=one.id, name=one.name, description=one.description) for one in taken]
    view = rows.find_group(tx, new.source_group_id or "", actor)
    if view.status != "available":
        raise Invalid(f"Invalid group: group {view.group.id} is {view.status}; to be copied it has to be available.")
    copied = rows.volumes_of_group(tx, view.group.id)
    return view.group, [
        NewVolume(
            source_volume_id=one.id,
            name=one.name,
            description=one.description,
            metadata=one.metadata,
            type_ref=one.volume_type_id,
        )
        for one in copied
    ]


def derive_id(whole_id: str, part: str) -> str:
    """The id of a part of something new. It is computed, so that the transaction can be run again."""
    return str(uuid.uuid5(uuid.UUID(whole_id), part))


def _type_id(tx: Tx, ref: str, actor: Actor) -> str:
    try:
        return resolve_type(tx, ref, actor).id
    except NotFound as error:  # a word in the body, as in Cinder
        raise Invalid(f"Invalid input for volume_types: {error.message}") from error


def _update(tx: Tx, actor: Actor, group_id: str, changes: GroupChanges, at: int) -> None:
    view = rows.find_group(tx, group_id, actor)
    both = set(changes.add_volumes) & set(changes.remove_volumes)
    if both:
        raise Invalid(f"Invalid volume: {', '.join(sorted(both))[:200]} cannot be added and removed at once.")
    adding = [volume_id for volume_id in changes.add_volumes if volume_id not in view.volume_ids]
    texts = {
        name: value
        for name, value in (("name", changes.name), ("description", changes.description))
        if value is not None and value != getattr(view.group, name)
    }
    if not (texts or adding or changes.remove_volumes):
        raise Invalid(f"Invalid group: there is nothing to change of group {group_id}.")
    if view.status != "available":
        raise Invalid(f"Invalid group: group {group_id} is {view.status}; to be changed it has to be available.")
    for volume_id in changes.remove_volumes:
        if volume_id not in view.volume_ids:
            raise Invalid(f"Invalid volume: volume {volume_id[:64]} is not in group {group_id}.")
        _move(tx, actor, _movable(tx, actor, volume_id), None, at)
    for volume_id in adding:
        _check_joins(view, _movable(tx, actor, volume_id))
        _move(tx, actor, _movable(tx, actor, volume_id), group_id, at)
        view = rows.find_group(tx, group_id, actor)
    rows.change_group(tx, group_id, **texts, updated_at=at)


def _movable(tx: Tx, actor: Actor, volume_id: str) -> VolumeView:
    try:
        volume = view_volume(tx, find_volume(tx, volume_id, actor))
    except NotFound as error:  # an id in the body, as in Cinder
        raise Invalid(f"Invalid volume: {error.message}") from error
    if volume.status not in _MOVABLE:
        raise Invalid(
            f"Invalid volume: volume {volume_id} is {volume.status}; to enter or leave a group it has to be "
            f"{' or '.join(sorted(_MOVABLE))}."
        )
    return volume


def _check_joins(view: GroupView, found: VolumeView) -> None:
    volume = found.volume
    if volume.group_id is not None:
        raise Invalid(f"Invalid volume: volume {volume.id} is in group {volume.group_id} already.")
    if volume.project_id != view.group.project_id:
        raise Invalid(f"Invalid volume: volume {volume.id} and group {view.group.id} are of different projects.")
    rows.check_member(view, volume.volume_type_id)


def _move(tx: Tx, actor: Actor, view: VolumeView, group_id: str | None, at: int) -> None:
    before, after = view.volume.group_id or "none", group_id or "none"
    change_volume(tx, view.volume.id, group_id=group_id, updated_at=at)
    note_volume(tx, actor, view.volume, "group", before, after, at)


def _delete(tx: Tx, actor: Actor, group_id: str, *, with_volumes: bool, at: int, deadline_at: int) -> None:
    view = rows.find_group(tx, group_id, actor)
    if has_group_snapshots(tx, group_id):
        raise Invalid(f"Invalid group: group {group_id} has group snapshots; delete them first.")
    if not with_volumes and view.status not in ("available", "error"):
        raise Invalid(
            f"Invalid group: group {group_id} is {view.status}; to be deleted it has to be available or error."
        )
    members = view_volumes(tx, rows.volumes_of_group(tx, group_id))
    if members and not with_volumes:
        raise Invalid(f"Invalid group: group {group_id} has volumes; it is deleted with them by delete-volumes.")
    for member in members:
        _check_deletable(tx, member)
    for member in members:
        begin_delete(tx, member.volume, request_id=actor.request_id, at=at, deadline_at=deadline_at)
    rows.change_group(tx, group_id, mask=None, deleting_at=at, updated_at=at)
    note_group(tx, actor, group_id, "group", view.status, "deleting", at)


def _check_deletable(tx: Tx, view: VolumeView) -> None:
    """A volume that nobody holds and that has no snapshots, in a pool that is not frozen. Raises Invalid."""
    if live_snapshots(tx, view.volume.id):
        raise Invalid(f"Invalid group: its volume {view.volume.id} has snapshots; delete them first.")
    if view.attachments:
        raise Invalid(f"Invalid group: its volume {view.volume.id} is {view.status}; detach it before deleting it.")
    if view.volume.transfer_id is not None:
        raise Invalid(f"Invalid group: its volume {view.volume.id} is {view.status}.")
    check_not_frozen(tx, view.volume.backend)


def _reset_status(tx: Tx, actor: Actor, group_id: str, status: str, at: int) -> None:
    view = rows.find_group(tx, group_id, actor)
    mask = choose_mask(status, MASKS)
    rows.change_group(tx, group_id, mask=mask, updated_at=at)
    truth = rows.find_group(tx, group_id, actor).status
    if truth != status:
        raise Invalid(f"Invalid group status: group {group_id} is {truth} and cannot be declared {status}.")
    note_group(tx, actor, group_id, "group", view.status, status, at)


def choose_mask(status: str, masks: frozenset[str]) -> str | None:
    """The word to put over a status; None for one that has to be true by itself. Raises Invalid for others."""
    if status in masks:
        return status
    if status == "available":
        return None
    words = ", ".join(sorted({*masks, "available"}))
    raise Invalid(f"Invalid input for status: it can be reset to {words}, not to '{status[:64]}'.")


def note_group(tx: Tx, actor: Actor, subject_id: str, subject: str, before: str, after: str, at: int) -> None:
    """Write a move of a group, or of a group snapshot, into the journal."""
    entry = Entry(
        at=at,
        subject=subject,
        subject_id=subject_id,
        what="status",
        before=before,
        after=after,
        revision=0,
        actor="user",
        request_id=actor.request_id,
    )
    append(tx, entry)


def split_ids(text: str | None) -> tuple[str, ...]:
    """Cinder's list of ids in one text: "id,id"."""
    return tuple(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))
