"""Servers: reading, making and changing what their users see."""

from __future__ import annotations

from sqlalchemy import bindparam, select

from kevel.domain.model import Server
from kevel.store.schema.servers import servers
from kevel.store.transactions import Tx, as_struct, row_columns

SERVER_COLUMNS = row_columns(servers, Server)
_SERVER = select(*SERVER_COLUMNS).where(servers.c.id == bindparam("of_id"))


def load_server(tx: Tx, server_id: str) -> Server | None:
    """The server, tombstones included."""
    row = tx.execute(_SERVER, {"of_id": server_id}).first()
    return None if row is None else as_struct(Server, row)
