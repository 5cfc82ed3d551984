"""The store that tests of the APIs run on: SQLite, or with KEVEL_TEST_DATABASE=postgresql a PostgreSQL server."""

from __future__ import annotations

import atexit
import os
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Final
from uuid import uuid4

from kevel.store.ballast import Ballast
from kevel.store.postgres import make_postgres_engine
from kevel.store.postgres_store import PostgresStore
from kevel.store.postgres_writer import PostgresWriter
from kevel.store.sqlite import SqliteStore, make_engine
from kevel.store.threaded import ThreadedStore
from tests.integration.template import put_database
from tests.postgres import TEMPLATE, Server, running_server

ON_POSTGRES: Final = os.environ.get("KEVEL_TEST_DATABASE") == "postgresql"
#: Databases that are kept for tests that open theirs again.
KEPT_MAX: Final = 8
_kept: dict[Path, str] = {}


@asynccontextmanager
async def open_store(data: Path, on_lost: Callable[[BaseException], None]) -> AsyncIterator[ThreadedStore]:
    """A store at the newest schema for that directory; the one that is there already, when it is opened again."""
    if ON_POSTGRES:
        store = _open_postgres(data, on_lost)
    else:
        put_database(data / "kevel.db")
        store = SqliteStore(make_engine(data / "kevel.db"), Ballast(data / "ballast"), on_lost)
    try:
        yield store
    finally:
        await store.close()


def _open_postgres(data: Path, on_lost: Callable[[BaseException], None]) -> ThreadedStore:
    server = shared_server()
    if data not in _kept:
        while len(_kept) >= KEPT_MAX:
            server.execute("postgres", f"DROP DATABASE {_kept.pop(next(iter(_kept)))} WITH (FORCE)")
        _kept[data] = f"kept_{uuid4().hex}"
        server.execute("postgres", f"CREATE DATABASE {_kept[data]} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
    engine = make_postgres_engine(server.url(_kept[data]))
    writer = PostgresWriter(engine, uuid4().hex)
    writer.lock()
    writer.claim()
    return PostgresStore(engine, writer, on_lost)


@cache
def shared_server() -> Server:
    """The server of this process's tests; it stops with the process."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(running_server())
