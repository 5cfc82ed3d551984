"""Snapshots of groups: the rows, and what is computed of them.

A group snapshot is there until it is to be deleted and its last snapshot is gone, as with groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, bindparam, func, insert, or_, select, update

from kevel.domain.errors import NotFound
from kevel.domain.model import Actor, Snapshot
from kevel.domain.status import group_status
from kevel.store.pages import Listed, Page, list_page
from kevel.store.schema.base import LIVE
from kevel.store.schema.groups import group_snapshots, groups
from kevel.store.schema.volumes import snapshots
from kevel.store.transactions import Tx, as_struct, row_columns


class GroupSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A group snapshot's row."""

    id: str
    group_id: str
    project_id: str
    user_id: str
    name: str | None
    description: str | None
    #: A status that an admin put over the computed one.
    mask: str | None = None
    created_at: int
    updated_at: int | None = None
    deleting_at: int | None = None


class GroupSnapshotView(msgspec.Struct, frozen=True, kw_only=True):
    """A group snapshot with all that is shown of it."""

    group_snapshot: GroupSnapshot
    group_type_id: str
    status: str


#: What a list can be sorted by, under Cinder's names.
SORT_COLUMNS: Final[Mapping[str, ColumnElement[Any]]] = {
    "id": group_snapshots.c.id,
    "name": func.coalesce(group_snapshots.c.name, ""),
    "description": func.coalesce(group_snapshots.c.description, ""),
    "group_id": group_snapshots.c.group_id,
    "created_at": group_snapshots.c.created_at,
    "updated_at": func.coalesce(group_snapshots.c.updated_at, 0),
}

_WITH_SNAPSHOTS = select(snapshots.c.group_snapshot_id).where(
    snapshots.c.group_snapshot_id.is_not(None), snapshots.c.live == LIVE
)
_IS_THERE = or_(group_snapshots.c.deleting_at.is_(None), group_snapshots.c.id.in_(_WITH_SNAPSHOTS))
_ROWS = select(*row_columns(group_snapshots, GroupSnapshot), groups.c.group_type_id).join(
    groups, groups.c.id == group_snapshots.c.group_id
)
_ONE = _ROWS.where(group_snapshots.c.id == bindparam("of_id"), _IS_THERE)
_SOME = _ROWS.where(group_snapshots.c.id.in_(bindparam("of_ids", expanding=True)))
_OF_GROUP = select(group_snapshots.c.id).where(group_snapshots.c.group_id == bindparam("of_group"), _IS_THERE).limit(1)
_MEMBERS = select(snapshots.c.group_snapshot_id, snapshots.c.made, snapshots.c.fault).where(
    snapshots.c.group_snapshot_id.in_(bindparam("of_ids", expanding=True)), snapshots.c.live == LIVE
)
_SNAPSHOTS = (
    select(*row_columns(snapshots, Snapshot))
    .where(snapshots.c.group_snapshot_id == bindparam("of_id"), snapshots.c.live == LIVE)
    .order_by(snapshots.c.created_at, snapshots.c.id)
)
_INSERT = insert(group_snapshots)


def insert_group_snapshot(tx: Tx, group_snapshot: GroupSnapshot) -> None:
    """Enter a new group snapshot."""
    tx.execute(_INSERT, msgspec.structs.asdict(group_snapshot))


def change_group_snapshot(tx: Tx, group_snapshot_id: str, **changes: Any) -> None:
    """Write columns of the row."""
    tx.execute(update(group_snapshots).where(group_snapshots.c.id == group_snapshot_id).values(**changes))


def has_group_snapshots(tx: Tx, group_id: str) -> bool:
    """Is there a snapshot of the group?"""
    return tx.execute(_OF_GROUP, {"of_group": group_id}).first() is not None


def find_group_snapshot(tx: Tx, group_snapshot_id: str, actor: Actor) -> GroupSnapshotView:
    """The group snapshot, if it exists for this actor; NotFound else (S9)."""
    row = tx.execute(_ONE, {"of_id": group_snapshot_id}).first()
    if row is None or not (actor.is_admin or row.project_id == actor.project_id):
        raise NotFound(f"Group snapshot {group_snapshot_id[:64]} could not be found.")
    return _view(tx, [row])[0]


def snapshots_of(tx: Tx, group_snapshot_id: str) -> list[Snapshot]:
    """The snapshots that belong to it, oldest first."""
    return [as_struct(Snapshot, row) for row in tx.execute(_SNAPSHOTS, {"of_id": group_snapshot_id})]


def list_group_snapshots(
    tx: Tx, project_id: str | None, page: Page, *, equal: Mapping[str, str], status: str | None
) -> Listed[GroupSnapshotView]:
    """One page of a project's group snapshots (None: of all) whose columns have these values."""
    ids = select(group_snapshots.c.id).where(_IS_THERE)
    if project_id is not None:
        ids = ids.where(group_snapshots.c.project_id == project_id)
    for name, value in equal.items():
        ids = ids.where(group_snapshots.c[name] == value)
    keep = None if status is None else lambda view: view.status == status
    return list_page(tx, ids, page, SORT_COLUMNS, _load_some, keep=keep)


def _load_some(tx: Tx, ids: Sequence[str]) -> list[GroupSnapshotView]:
    found = {row.id: row for row in tx.execute(_SOME, {"of_ids": list(ids)})}
    return _view(tx, [found[one] for one in ids])


def _view(tx: Tx, rows: Sequence[Any]) -> list[GroupSnapshotView]:
    members: dict[str, list[Any]] = {row.id: [] for row in rows}
    for row in tx.execute(_MEMBERS, {"of_ids": list(members)}):
        members[row.group_snapshot_id].append((row.made, row.fault))
    views = []
    for row in rows:
        found = as_struct(GroupSnapshot, row[:-1])
        status = group_status(
            is_deleting=found.deleting_at is not None, mask=found.mask, is_copy=True, members=members[found.id]
        )
        views.append(GroupSnapshotView(group_snapshot=found, group_type_id=row.group_type_id, status=status))
    return views
