"""Servers: reading, making and changing what their users see."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, Select, bindparam, func, insert, select, update

from kevel.domain.errors import Invalid
from kevel.domain.model import Actor, Server, ServerGoal, ServerRung
from kevel.store.actions import start_action
from kevel.store.hosts import raise_version
from kevel.store.journal import Entry, append
from kevel.store.schema.servers import server_actions, servers
from kevel.store.transactions import Tx, as_struct, row_columns

SERVER_COLUMNS = row_columns(servers, Server)
_SERVER = select(*SERVER_COLUMNS).where(servers.c.id == bindparam("of_id"))
_UNANSWERED = select(server_actions.c.id).where(
    server_actions.c.subject_id == servers.c.id, server_actions.c.finished_at.is_(None)
)
_OVERDUE = (
    select(*SERVER_COLUMNS)
    .where(servers.c.deleted_at.is_(None), servers.c.deadline_at < bindparam("before"), _UNANSWERED.exists())
    .limit(bindparam("rows_max"))
)
_INSERT = insert(servers)
_UPDATE = update(servers).where(servers.c.id == bindparam("of_id"))
_STAMP = _UPDATE.values(host_version=bindparam("new_host_version"))
_LIVE = servers.c.deleted_at.is_(None)
_changed_at = func.coalesce(servers.c.updated_at, servers.c.created_at)

#: What a list may be sorted by, under Nova's names. What is not set comes before all else, on every database.
SORT_COLUMNS = {
    "created_at": servers.c.created_at,
    "updated_at": servers.c.updated_at,
    "launched_at": func.coalesce(servers.c.launched_at, 0),
    "terminated_at": func.coalesce(servers.c.terminated_at, 0),
    "display_name": servers.c.name,
    "display_description": func.coalesce(servers.c.description, ""),
    "uuid": servers.c.id,
    "host": servers.c.host,
    "availability_zone": servers.c.availability_zone,
    "project_id": servers.c.project_id,
    "user_id": servers.c.user_id,
}


class ServerQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which servers to list, and in what order. None: not asked for."""

    #: None: of all projects.
    project_id: str | None
    #: False: those that live; True: the tombstones; None: both.
    deleted: bool | None = False
    ids: Sequence[str] | None = None
    user_id: str | None = None
    host: str | None = None
    availability_zone: str | None = None
    locked: bool | None = None
    changed_since: int | None = None
    changed_before: int | None = None
    #: Names of SORT_COLUMNS, each with True for descending.
    sort: Sequence[tuple[str, bool]] = (("created_at", True),)
    #: The id of the last server of the page before.
    marker: str | None = None
    rows_max: int


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """A live server, as far as it takes up room."""

    id: str
    name: str
    project_id: str
    user_id: str
    host: str
    flavor: dict[str, Any]
    rung: ServerRung


_USED = select(*row_columns(servers, Used)).where(_LIVE)
#: A shelved server that has left its host takes up no room, and is on none.
_ON_HOST = servers.c.rung != ServerRung.OFFLOADED


def load_server(tx: Tx, server_id: str) -> Server | None:
    """The server, tombstones included."""
    row = tx.execute(_SERVER, {"of_id": server_id}).first()
    return None if row is None else as_struct(Server, row)


def list_servers(tx: Tx, query: ServerQuery, fits: Callable[[Server], bool] | None = None) -> tuple[list[Server], bool]:
    """One page of servers, and whether there are more behind it.

    `fits` is for what is computed and cannot be asked of the rows. Raises Invalid for an unknown marker.
    """
    ordered = _ordered(_filtered(select(*SERVER_COLUMNS), query), query)
    if query.marker is not None:
        ids = list(tx.execute(_ordered(_filtered(select(servers.c.id), query), query)).scalars())
        if query.marker not in ids:
            raise Invalid(f"marker [{query.marker[:64]}] not found")
        # The snapshot is the same for both statements, so the place of the marker is its offset.
        ordered = ordered.offset(ids.index(query.marker) + 1)
    if fits is None:
        ordered = ordered.limit(query.rows_max + 1)
    page: list[Server] = []
    for server in _structs(tx.execute(ordered)):
        if fits is None or fits(server):
            page.append(server)
        if len(page) > query.rows_max:
            return page[:-1], True
    return page, False


def _structs(rows: Collection[Row[Any]] | Any) -> Iterator[Server]:
    names = Server.__struct_fields__
    for row in rows:
        yield Server(**dict(zip(names, row, strict=True)))


def _filtered(statement: Select[Any], query: ServerQuery) -> Select[Any]:
    wanted: list[ColumnElement[bool]] = []
    if query.deleted is not None:
        wanted.append(servers.c.deleted_at.is_not(None) if query.deleted else _LIVE)
    for column, value in (
        (servers.c.project_id, query.project_id),
        (servers.c.user_id, query.user_id),
        (servers.c.availability_zone, query.availability_zone),
        (servers.c.locked, query.locked),
    ):
        if value is not None:
            wanted.append(column == value)
    if query.host is not None:
        wanted += [servers.c.host == query.host, _ON_HOST]
    if query.ids is not None:
        wanted.append(servers.c.id.in_(query.ids))
    if query.changed_since is not None:
        wanted.append(_changed_at >= query.changed_since)
    if query.changed_before is not None:
        wanted.append(_changed_at <= query.changed_before)
    return statement.where(*wanted)


def _ordered(statement: Select[Any], query: ServerQuery) -> Select[Any]:
    sort = [*query.sort, ("uuid", query.sort[-1][1] if query.sort else True)]
    columns = [(SORT_COLUMNS[name], descending) for name, descending in sort]
    return statement.order_by(*(column.desc() if descending else column.asc() for column, descending in columns))


def list_used(tx: Tx, *, project_id: str | None = None, host: str | None = None) -> list[Used]:
    """The live servers of a project, of a host, or of all hosts; one that has left its host is its project's only."""
    statement = _USED
    if project_id is not None:
        statement = statement.where(servers.c.project_id == project_id)
    else:
        statement = statement.where(_ON_HOST)
    if host is not None:
        statement = statement.where(servers.c.host == host)
    return [as_struct(Used, row) for row in tx.execute(statement)]


def overdue_servers(tx: Tx, before_at: int, rows_max: int) -> list[Server]:
    """Servers whose last request should have been answered before that time, and has not been."""
    return [as_struct(Server, row) for row in tx.execute(_OVERDUE, {"before": before_at, "rows_max": rows_max})]


def insert_server(tx: Tx, server: Server, actor: Actor) -> None:
    """Enter a new server: from now on its host is to make it run."""
    values = {name: getattr(server, name) for name in server.__struct_fields__}
    tx.execute(_INSERT, values | {"host_version": raise_version(tx, server.host)})
    start_action(tx, server_id=server.id, subject_id=server.id, action="create", actor=actor, at=server.created_at)
    append(
        tx,
        Entry(
            at=server.created_at,
            subject="server",
            subject_id=server.id,
            server_id=server.id,
            what="goal",
            before="",
            after=ServerGoal.RUNNING.value,
            revision=server.revision,
            actor=f"user:{actor.user_id}",
            request_id=actor.request_id,
        ),
    )


def update_shown(tx: Tx, server: Server, *, at: int, **values: Any) -> Server:
    """Change what only users see: name, description, metadata, lock. It concerns no host, so no revision is raised."""
    values["updated_at"] = at
    tx.execute(_UPDATE.values(**values), {"of_id": server.id})
    return msgspec.structs.replace(server, **values)


def stamp_server(tx: Tx, server_id: str, host: str) -> None:
    """Assign the server to its host once more, unchanged: that makes the agent suspicious, and it looks."""
    tx.execute(_STAMP, {"of_id": server_id, "new_host_version": raise_version(tx, host)})
