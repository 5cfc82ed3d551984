from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from kevel.store.sqlite import make_engine
from kevel.store.transactions import Tx
from tests.integration.store import rows
from tests.integration.template import put_database


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty database file, set up as Kevel sets up its own."""
    engine = make_engine(tmp_path / "kevel.db")
    yield engine
    engine.dispose()


@pytest.fixture
def schema(engine: Engine, tmp_path: Path) -> Engine:
    """The empty database with Kevel's tables."""
    put_database(tmp_path / "kevel.db")
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
