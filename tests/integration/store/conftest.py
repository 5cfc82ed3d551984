from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from kevel.store.ballast import Ballast
from kevel.store.migrate import upgrade_schema
from kevel.store.sqlite import SqliteStore, make_engine
from kevel.store.transactions import Tx
from tests.integration.store import rows


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty database file, set up as Kevel sets up its own."""
    engine = make_engine(tmp_path / "kevel.db")
    yield engine
    engine.dispose()


@pytest.fixture
def schema(engine: Engine) -> Engine:
    """The same with Kevel's tables."""
    upgrade_schema(engine)
    return engine


@pytest.fixture
def conn(schema: Engine) -> Iterator[Connection]:
    """A connection in one transaction that is never committed, with a host, a type, a volume and a server in it."""
    with schema.connect() as conn:
        conn.exec_driver_sql("BEGIN IMMEDIATE")
        rows.insert_ground(Tx(conn))
        yield conn
        conn.exec_driver_sql("ROLLBACK")


@pytest.fixture
def tx(conn: Connection) -> Tx:
    return Tx(conn)


@pytest.fixture
def lost() -> list[BaseException]:
    """What the store reported as the end of it."""
    return []


@pytest.fixture
async def store(schema: Engine, tmp_path: Path, lost: list[BaseException]) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(schema, Ballast(tmp_path / "ballast"), lost.append)
    yield store
    await store.close()
