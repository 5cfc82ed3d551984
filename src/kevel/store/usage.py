"""What servers have used in a span of time: read from their rows, tombstones included."""

from __future__ import annotations

import msgspec
from sqlalchemy import bindparam, or_, select

from kevel.domain.errors import Invalid
from kevel.domain.model import Server
from kevel.store.schema.servers import servers
from kevel.store.servers import SERVER_COLUMNS, load_server
from kevel.store.transactions import Tx, as_struct

_RUNNING_BETWEEN = (
    select(*SERVER_COLUMNS)
    .where(servers.c.launched_at < bindparam("until"), servers.c.id > bindparam("behind"))
    .where(or_(servers.c.terminated_at.is_(None), servers.c.terminated_at > bindparam("since")))
    .order_by(servers.c.id)
    .limit(bindparam("rows_max"))
)


class UsageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Whose servers, in which span; project None: of all projects."""

    project_id: str | None
    since_at: int
    until_at: int
    #: The last server of the page before.
    marker: str | None = None
    rows_max: int


def list_running_between(tx: Tx, query: UsageQuery) -> list[Server]:
    """A page of the servers that had been started and were not gone, in some part of the span, by their ids.

    Raises Invalid for a marker that is no server.
    """
    if query.marker is not None and load_server(tx, query.marker) is None:
        raise Invalid(f"marker [{query.marker[:64]}] not found")
    statement = _RUNNING_BETWEEN
    if query.project_id is not None:
        statement = statement.where(servers.c.project_id == query.project_id)
    values = {
        "until": query.until_at,
        "since": query.since_at,
        "behind": query.marker or "",
        "rows_max": query.rows_max,
    }
    return [as_struct(Server, row) for row in tx.execute(statement, values)]
