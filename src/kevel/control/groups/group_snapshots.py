"""Snapshots of groups: the use cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kevel.control.copies.snapshots import NewSnapshot, begin_snapshot
from kevel.control.groups.groups import choose_mask, derive_id, note_group
from kevel.control.pools.placing import check_not_frozen
from kevel.control.runtime import Runtime
from kevel.domain.errors import Invalid
from kevel.domain.limits import Limits
from kevel.domain.model import Actor
from kevel.store import group_snapshots as rows
from kevel.store.group_snapshots import GroupSnapshot, GroupSnapshotView
from kevel.store.groups import find_group
from kevel.store.operations import is_read
from kevel.store.pages import Listed, Page
from kevel.store.snapshots import begin_delete_snapshot
from kevel.store.transactions import Tx

#: Words that an admin may put over a group snapshot's status; "available" takes the word away.
MASKS: Final = frozenset({"creating", "error", "error_deleting", "updating"})
_DELETABLE: Final = frozenset({"available", "error", "error_deleting"})


class GroupSnapshots:
    """Snapshots of all volumes of a group at once. Each volume's is crash-consistent; their times differ."""

    def __init__(self, runtime: Runtime, limits: Limits) -> None:
        self._runtime = runtime
        self._limits = limits

    async def create(self, actor: Actor, group_id: str, name: str | None, description: str | None) -> GroupSnapshotView:
        """Start to take snapshots of all volumes of the group, or of none."""
        new = GroupSnapshot(
            id=self._runtime.ids.uuid(),
            group_id=group_id,
            project_id=actor.project_id,
            user_id=actor.user_id,
            name=name,
            description=description,
            created_at=self._runtime.clock.now_us(),
        )
        return await self._runtime.store.write(_create, actor, new, self._limits)

    async def get(self, actor: Actor, group_snapshot_id: str) -> GroupSnapshotView:
        """The group snapshot; NotFound."""
        return await self._runtime.store.read_point(rows.find_group_snapshot, group_snapshot_id, actor)

    async def list(
        self, project_id: str | None, page: Page, *, equal: Mapping[str, str], status: str | None
    ) -> Listed[GroupSnapshotView]:
        """One page of a project's group snapshots (None: of all)."""
        return await self._runtime.store.read(rows.list_group_snapshots, project_id, page, equal=equal, status=status)

    async def delete(self, actor: Actor, group_snapshot_id: str) -> None:
        """Start to delete a group snapshot with all its snapshots."""
        at = self._runtime.clock.now_us()
        deadline_at = self._limits.volume_deadline(at)
        await self._runtime.store.write(_delete, actor, group_snapshot_id, at=at, deadline_at=deadline_at)

    async def reset_status(self, actor: Actor, group_snapshot_id: str, status: str) -> None:
        """Put a word over the status, or take it away where the word asked for is the truth."""
        at = self._runtime.clock.now_us()
        await self._runtime.store.write(_reset_status, actor, group_snapshot_id, status, at)


def _create(tx: Tx, actor: Actor, new: GroupSnapshot, limits: Limits) -> GroupSnapshotView:
    view = find_group(tx, new.group_id, actor)
    if view.status != "available":
        raise Invalid(
            f"Invalid group: group {new.group_id} is {view.status}; for a snapshot to be taken it has to be available."
        )
    if not view.volume_ids:
        raise Invalid(f"Invalid group: group {new.group_id} has no volumes, so there is nothing to take a snapshot of.")
    rows.insert_group_snapshot(tx, new)
    for volume_id in view.volume_ids:
        begin_snapshot(
            tx,
            actor,
            NewSnapshot(volume_id=volume_id, name=new.name or "", description=new.description, in_use=True),
            snapshot_id=derive_id(new.id, volume_id),
            at=new.created_at,
            limits=limits,
            group_snapshot_id=new.id,
        )
    note_group(tx, actor, new.id, "group_snapshot", "none", "creating", new.created_at)
    return rows.find_group_snapshot(tx, new.id, actor)


def _delete(tx: Tx, actor: Actor, group_snapshot_id: str, *, at: int, deadline_at: int) -> None:
    view = rows.find_group_snapshot(tx, group_snapshot_id, actor)
    if view.status == "deleting":
        return
    if view.status not in _DELETABLE:
        raise Invalid(
            f"Invalid group snapshot: group snapshot {group_snapshot_id} is {view.status}; to be deleted it has to be "
            f"{', '.join(sorted(_DELETABLE))}."
        )
    members = rows.snapshots_of(tx, group_snapshot_id)
    busy = [member.id for member in members if is_read(tx, member.id)]
    if busy:
        raise Invalid(
            f"Invalid group snapshot: its snapshot {busy[0]} is being copied; delete the group snapshot when that has "
            "ended."
        )
    for member in members:
        check_not_frozen(tx, member.backend)
        begin_delete_snapshot(tx, member, request_id=actor.request_id, at=at, deadline_at=deadline_at)
    rows.change_group_snapshot(tx, group_snapshot_id, mask=None, deleting_at=at, updated_at=at)
    note_group(tx, actor, group_snapshot_id, "group_snapshot", view.status, "deleting", at)


def _reset_status(tx: Tx, actor: Actor, group_snapshot_id: str, status: str, at: int) -> None:
    view = rows.find_group_snapshot(tx, group_snapshot_id, actor)
    rows.change_group_snapshot(tx, group_snapshot_id, mask=choose_mask(status, MASKS), updated_at=at)
    truth = rows.find_group_snapshot(tx, group_snapshot_id, actor).status
    if truth != status:
        raise Invalid(
            f"Invalid group snapshot status: group snapshot {group_snapshot_id} is {truth} and cannot be declared "
            f"{status}."
        )
    note_group(tx, actor, group_snapshot_id, "group_snapshot", view.status, status, at)
