"""Which database Kevel runs on, and how it is opened: SQLite in the data directory, or a PostgreSQL server."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy import URL

from kevel.cli.data_dir import DataDir
from kevel.domain.errors import SetupError
from kevel.store.ballast import Ballast
from kevel.store.migrate import upgrade_schema
from kevel.store.postgres import check_server, make_postgres_engine, parse_url, show_url
from kevel.store.postgres_store import PostgresStore
from kevel.store.postgres_writer import PostgresWriter
from kevel.store.sqlite import SqliteStore, check_database, make_engine
from kevel.store.threaded import ThreadedStore

log = structlog.get_logger(__name__)

#: PostgreSQL cuts a session's name there.
_APPLICATION_MAX: Final = 63


@dataclass(frozen=True, kw_only=True)
class OpenStore:
    """A store at this version's schema, and what is kept back for it on the local disk."""

    store: ThreadedStore
    #: False while space that is kept back for freeing things has been given up.
    has_space: Callable[[], bool] = lambda: True
    #: Called at each sweep.
    keep_house: Callable[[], object] = lambda: None


@contextlib.asynccontextmanager
async def open_store(
    database: str, data: DataDir, on_lost: Callable[[BaseException], None]
) -> AsyncIterator[OpenStore]:
    """The store that the configuration names; an empty name is SQLite. Raises SetupError."""
    opened = _open_postgres(parse_url(database), data, on_lost) if database else _open_sqlite(data, on_lost)
    try:
        yield opened
    finally:
        await opened.store.close()


def _open_sqlite(data: DataDir, on_lost: Callable[[BaseException], None]) -> OpenStore:
    if data.records is not None:
        raise SetupError(f"The records of {data.root} are in {data.records}; name that with --database.")
    engine = make_engine(data.database)
    if data.database.exists():
        check_database(engine, data.database)
    upgrade_schema(engine)
    ballast = Ballast(data.ballast)
    if not ballast.fill():
        log.warning("no space for the ballast; free some disk space", path=str(data.ballast))
    store = SqliteStore(engine, ballast, on_lost)
    return OpenStore(store=store, has_space=ballast.is_held, keep_house=ballast.fill)


def _open_postgres(url: URL, data: DataDir, on_lost: Callable[[BaseException], None]) -> OpenStore:
    if data.records is None and data.database.exists():
        raise SetupError(
            f"The records of {data.root} are in {data.database}; move them with: kevel db move "
            f"--from sqlite:{data.root} --to {show_url(url)}"
        )
    engine = make_postgres_engine(url, name_session())
    for warning in check_server(engine):
        log.warning(warning)
    writer = PostgresWriter(engine, secrets.token_hex(16))
    writer.lock()
    try:
        upgrade_schema(engine)
        writer.claim()
        data.write_records(show_url(url))
    except BaseException:
        writer.close()
        raise
    return OpenStore(store=PostgresStore(engine, writer, on_lost))


def name_session() -> str:
    """What the server's administrator, and a second Kevel, see of this process."""
    return f"kevel {os.getpid()} on {socket.gethostname()}"[:_APPLICATION_MAX]
