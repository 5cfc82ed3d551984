from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from kevel.store.postgres import make_postgres_engine
from kevel.store.sqlite import make_engine
from kevel.store.transactions import Tx
from tests.integration.store import rows
from tests.integration.store.notes import Place, PostgresPlace, SqlitePlace
from tests.integration.template import put_database
from tests.postgres import Server, running_server

KINDS = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL server, started for the first test that asks for one."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which database: every test that uses it, however indirectly, runs on both."""
    return str(request.param)


@pytest.fixture
def engine(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An empty database, set up as Kevel sets up its own."""
    if kind == "sqlite":
        engine = make_engine(tmp_path / "kevel.db")
        yield engine
        engine.dispose()
        return
    server: Server = request.getfixturevalue("server")
    with server.database("template0") as name:
        engine = make_postgres_engine(server.url(name))
        yield engine
        engine.dispose()


@pytest.fixture(scope="session")
def schema(kind: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A database with Kevel's tables in which nobody commits anything."""
    with _schema(kind, tmp_path_factory, request) as engine:
        yield engine


@pytest.fixture(scope="session")
def other_schema(
    kind: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Engine]:
    """Another one, for a transaction that stays open: on PostgreSQL those of the first would wait for it."""
    with _schema(kind, tmp_path_factory, request) as engine:
        yield engine


@contextmanager
def _schema(kind: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Engine]:
    if kind == "sqlite":
        path = tmp_path_factory.mktemp("schema") / "kevel.db"
        put_database(path)
        engine = make_engine(path)
        yield engine
        engine.dispose()
        return
    server: Server = request.getfixturevalue("server")
    with server.database() as name:
        engine = make_postgres_engine(server.url(name))
        yield engine
        engine.dispose()


@pytest.fixture
def conn(schema: Engine) -> Iterator[Connection]:
    """A connection in one transaction that is never committed, with a host, a type, a volume and a server in it."""
    with schema.connect() as conn:
        conn.exec_driver_sql("BEGIN")
        rows.insert_ground(Tx(conn))
        yield conn
        conn.exec_driver_sql("ROLLBACK")


@pytest.fixture
def tx(conn: Connection) -> Tx:
    return Tx(conn)


@pytest.fixture
def place(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    """A database with a table of words, and stores on it."""
    if kind == "sqlite":
        sqlite = SqlitePlace(tmp_path)
        yield sqlite
        sqlite.engine.dispose()
        return
    with _postgres_place(request.getfixturevalue("server")) as found:
        yield found


@pytest.fixture
def pg(server: Server) -> Iterator[PostgresPlace]:
    """The same, on PostgreSQL."""
    with _postgres_place(server) as found:
        yield found


@contextmanager
def _postgres_place(server: Server) -> Iterator[PostgresPlace]:
    with server.database() as name:
        found = PostgresPlace(server, name)
        yield found
        found.engine.dispose()


@pytest.fixture
def lost() -> list[BaseException]:
    """What the store reported as the end of it."""
    return []
