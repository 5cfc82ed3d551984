"""Groups of servers: the rows, and who is in them."""

from __future__ import annotations

from collections import Counter

import msgspec
from sqlalchemy import bindparam, delete, func, insert, select

from kevel.domain.model import ServerRung
from kevel.domain.server_groups import ServerGroup
from kevel.store.schema.compute import server_group_members, server_groups
from kevel.store.schema.servers import servers
from kevel.store.transactions import Tx, as_struct, row_columns

_COLUMNS = row_columns(server_groups, ServerGroup)
_ORDERED = select(*_COLUMNS).order_by(server_groups.c.created_at, server_groups.c.id)
_OF_PROJECT = _ORDERED.where(server_groups.c.project_id == bindparam("of_project"))
_ONE = select(*_COLUMNS).where(server_groups.c.id == bindparam("of_id"))
_COUNT = select(func.count()).where(server_groups.c.project_id == bindparam("of_project"))
_INSERT = insert(server_groups)
_DELETE = delete(server_groups).where(server_groups.c.id == bindparam("of_id"))
_JOIN = insert(server_group_members)
_DISBAND = delete(server_group_members).where(server_group_members.c.group_id == bindparam("of_id"))
_MEMBERS = (
    select(server_group_members.c.group_id, servers.c.id, servers.c.host, servers.c.rung)
    .join(servers, servers.c.id == server_group_members.c.server_id)
    .where(server_group_members.c.group_id.in_(bindparam("of_ids", expanding=True)), servers.c.deleted_at.is_(None))
    .order_by(servers.c.created_at, servers.c.id)
)
_GROUP_OF = select(server_group_members.c.group_id).where(server_group_members.c.server_id == bindparam("of_server"))


_NOWHERE = ServerRung.OFFLOADED


class GroupView(msgspec.Struct, frozen=True, kw_only=True):
    """A group with its servers."""

    group: ServerGroup
    #: Ids of those that are there.
    members: list[str]


def load_group(tx: Tx, group_id: str) -> ServerGroup | None:
    """The group of that id."""
    row = tx.execute(_ONE, {"of_id": group_id}).first()
    return None if row is None else as_struct(ServerGroup, row)


def list_groups(tx: Tx, project_id: str | None) -> list[GroupView]:
    """The project's groups in the order in which they were made, or (None) all."""
    rows = tx.execute(_ORDERED) if project_id is None else tx.execute(_OF_PROJECT, {"of_project": project_id})
    groups = [as_struct(ServerGroup, row) for row in rows]
    members: dict[str, list[str]] = {group.id: [] for group in groups}
    for row in tx.execute(_MEMBERS, {"of_ids": list(members)}):
        members[row.group_id].append(row.id)
    return [GroupView(group=group, members=members[group.id]) for group in groups]


def view_group(tx: Tx, group: ServerGroup) -> GroupView:
    """The group with its servers."""
    return GroupView(group=group, members=[row.id for row in tx.execute(_MEMBERS, {"of_ids": [group.id]})])


def count_by_host(tx: Tx, group_id: str) -> Counter[str]:
    """How many servers of the group each host has."""
    return Counter(row.host for row in tx.execute(_MEMBERS, {"of_ids": [group_id]}) if row.rung is not _NOWHERE)


def count_groups(tx: Tx, project_id: str) -> int:
    """How many groups the project has."""
    return int(tx.execute(_COUNT, {"of_project": project_id}).scalar_one())


def group_of_server(tx: Tx, server_id: str) -> str | None:
    """The group that the server was made in, if that is there."""
    group_id: str | None = tx.execute(_GROUP_OF, {"of_server": server_id}).scalar()
    return group_id


def insert_group(tx: Tx, group: ServerGroup) -> None:
    """Enter a new group."""
    tx.execute(_INSERT, {name: getattr(group, name) for name in ServerGroup.__struct_fields__})


def join_group(tx: Tx, group_id: str, server_id: str) -> None:
    """Put a new server into the group."""
    tx.execute(_JOIN, {"group_id": group_id, "server_id": server_id})


def delete_group(tx: Tx, group_id: str) -> None:
    """Remove the group; its servers stay."""
    tx.execute(_DISBAND, {"of_id": group_id})
    tx.execute(_DELETE, {"of_id": group_id})
