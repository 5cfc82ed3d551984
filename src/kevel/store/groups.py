"""Groups of volumes: the rows, and what is computed of them.

A group is there until it is to be deleted and its last volume is gone; so nothing has to be done when that happens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, bindparam, func, insert, or_, select, update

from kevel.domain.errors import Invalid, NotFound
from kevel.domain.model import Actor, Volume
from kevel.domain.status import group_status
from kevel.store.pages import Listed, Page, list_page
from kevel.store.schema.base import LIVE
from kevel.store.schema.groups import groups
from kevel.store.schema.volumes import volumes
from kevel.store.transactions import Tx, as_struct, row_columns
from kevel.store.volumes import VOLUME_COLUMNS

#: Volumes of one group.
GROUP_VOLUMES_MAX: Final = 1000


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """A group's row."""

    id: str
    project_id: str
    user_id: str
    name: str | None
    description: str | None
    group_type_id: str
    #: Types that volumes of the group may have.
    volume_type_ids: list[str]
    availability_zone: str
    source_group_id: str | None = None
    group_snapshot_id: str | None = None
    #: A status that an admin put over the computed one.
    mask: str | None = None
    created_at: int
    updated_at: int | None = None
    deleting_at: int | None = None


class GroupView(msgspec.Struct, frozen=True, kw_only=True):
    """A group with all that is shown of it."""

    group: Group
    status: str
    volume_ids: list[str]


#: What a list can be sorted by, under Cinder's names.
SORT_COLUMNS: Final[Mapping[str, ColumnElement[Any]]] = {
    "id": groups.c.id,
    "name": func.coalesce(groups.c.name, ""),
    "description": func.coalesce(groups.c.description, ""),
    "availability_zone": groups.c.availability_zone,
    "group_type_id": groups.c.group_type_id,
    "created_at": groups.c.created_at,
    "updated_at": func.coalesce(groups.c.updated_at, 0),
}

_WITH_VOLUMES = select(volumes.c.group_id).where(volumes.c.group_id.is_not(None), volumes.c.live == LIVE)
IS_THERE: Final = or_(groups.c.deleting_at.is_(None), groups.c.id.in_(_WITH_VOLUMES))
_COLUMNS = row_columns(groups, Group)
_ONE = select(*_COLUMNS).where(groups.c.id == bindparam("of_id"), IS_THERE)
_SOME = select(*_COLUMNS).where(groups.c.id.in_(bindparam("of_ids", expanding=True)))
_MEMBERS = (
    select(volumes.c.id, volumes.c.group_id, volumes.c.made, volumes.c.fault)
    .where(volumes.c.group_id.in_(bindparam("of_groups", expanding=True)), volumes.c.live == LIVE)
    .order_by(volumes.c.created_at, volumes.c.id)
)
_VOLUMES = (
    select(*VOLUME_COLUMNS)
    .where(volumes.c.group_id == bindparam("of_group"), volumes.c.live == LIVE)
    .order_by(volumes.c.created_at, volumes.c.id)
)
_COUNT = select(func.count()).select_from(groups).where(groups.c.project_id == bindparam("of_project"), IS_THERE)
_INSERT = insert(groups)


def insert_group(tx: Tx, group: Group) -> None:
    """Enter a new group."""
    tx.execute(_INSERT, msgspec.structs.asdict(group))


def change_group(tx: Tx, group_id: str, **changes: Any) -> None:
    """Write columns of the group's row."""
    tx.execute(update(groups).where(groups.c.id == group_id).values(**changes))


def find_group(tx: Tx, group_id: str, actor: Actor) -> GroupView:
    """The group, if it exists for this actor; NotFound else (S9)."""
    row = tx.execute(_ONE, {"of_id": group_id}).first()
    if row is None or not (actor.is_admin or row.project_id == actor.project_id):
        raise NotFound(f"Group {group_id[:64]} could not be found.")
    return _view_groups(tx, [as_struct(Group, row)])[0]


def volumes_of_group(tx: Tx, group_id: str) -> list[Volume]:
    """The group's volumes, oldest first."""
    return [as_struct(Volume, row) for row in tx.execute(_VOLUMES, {"of_group": group_id})]


def check_group_takes(tx: Tx, actor: Actor, group_id: str, volume_type_id: str) -> None:
    """A new volume of that type may be in the group. Raises NotFound or Invalid."""
    view = find_group(tx, group_id, actor)
    if view.status not in ("available", "creating"):
        raise Invalid(f"Invalid group: group {group_id} is {view.status}; to take volumes it has to be available.")
    if view.group.project_id != actor.project_id:
        raise Invalid(f"Invalid group: group {group_id} belongs to another project.")
    check_member(view, volume_type_id)


def check_member(view: GroupView, volume_type_id: str) -> None:
    """The group takes volumes of that type, and one more. Raises Invalid."""
    group = view.group
    if volume_type_id not in group.volume_type_ids:
        raise Invalid(
            f"Invalid volume: its type {volume_type_id} is none of group {group.id}; they are "
            f"{', '.join(group.volume_type_ids)}."
        )
    if len(view.volume_ids) >= GROUP_VOLUMES_MAX:
        raise Invalid(f"Invalid group: group {group.id} has {GROUP_VOLUMES_MAX} volumes, and takes no more.")


def count_groups(tx: Tx, project_id: str) -> int:
    """Number of the project's groups."""
    return int(tx.execute(_COUNT, {"of_project": project_id}).scalar_one())


def list_groups(
    tx: Tx, project_id: str | None, page: Page, *, equal: Mapping[str, str], status: str | None
) -> Listed[GroupView]:
    """One page of a project's groups (None: of all) whose columns have these values."""
    ids = select(groups.c.id).where(IS_THERE)
    if project_id is not None:
        ids = ids.where(groups.c.project_id == project_id)
    for name, value in equal.items():
        ids = ids.where(groups.c[name] == value)
    keep = None if status is None else lambda view: view.status == status
    return list_page(tx, ids, page, SORT_COLUMNS, _load_some, keep=keep)


def _load_some(tx: Tx, ids: Sequence[str]) -> list[GroupView]:
    found = {row.id: as_struct(Group, row) for row in tx.execute(_SOME, {"of_ids": list(ids)})}
    return _view_groups(tx, [found[group_id] for group_id in ids])


def _view_groups(tx: Tx, found: Sequence[Group]) -> list[GroupView]:
    members: dict[str, list[Any]] = {group.id: [] for group in found}
    for row in tx.execute(_MEMBERS, {"of_groups": list(members)}):
        members[row.group_id].append(row)
    return [
        GroupView(
            group=group,
            status=group_status(
                is_deleting=group.deleting_at is not None,
                mask=group.mask,
                is_copy=group.source_group_id is not None or group.group_snapshot_id is not None,
                members=[(row.made, row.fault) for row in members[group.id]],
            ),
            volume_ids=[row.id for row in members[group.id]],
        )
        for group in found
    ]
