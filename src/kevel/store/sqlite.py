"""SQLite: WAL, `synchronous=FULL`, one writer thread that commits queued transactions together, reads on snapshots."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from kevel.domain.errors import SetupError
from kevel.store.ballast import Ballast
from kevel.store.batch import Batcher
from kevel.store.threaded import ThreadedStore
from kevel.store.transactions import Tx

P = ParamSpec("P")
T = TypeVar("T")

READ_THREADS: Final = 2


def make_engine(path: Path) -> Engine:
    """An engine whose connections are set up as Kevel needs them. Transactions are begun by hand."""
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=NullPool,
        hide_parameters=True,  # what is stored does not belong into an error's text (S10)
        connect_args={"check_same_thread": False, "cached_statements": 512, "timeout": 5.0},
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}").fetchall()

    return engine


def check_database(engine: Engine, path: Path) -> None:
    """Raise SetupError when the file is no database of ours or is damaged; it is left as it was."""
    try:
        with engine.connect() as conn:
            verdict = conn.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    except DBAPIError as error:
        raise SetupError(f"{path} cannot be read as a database ({error.orig}); it was left untouched.") from error
    if verdict != "ok":
        raise SetupError(f"{path} is damaged ({verdict}); it was left untouched. Restore it from a backup.")


class SqliteStore(ThreadedStore):
    """`Store` on SQLite for one process.

    `on_lost` is called on the event loop when a commit failed for another reason than a full disk: nobody can say what
    is on the disk then, so the process must stop and recover by reopening.
    """

    def __init__(self, engine: Engine, ballast: Ballast, on_lost: Callable[[BaseException], None]) -> None:
        self._engine = engine
        self._ballast = ballast
        self._local = threading.local()
        self._reading: list[Connection] = []
        super().__init__(on_lost, read_threads=READ_THREADS)

    async def read_point(self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        # A few rows by their keys take less time than handing the interpreter to a thread and back.
        return self._read(lambda tx: fn(tx, *args, **kwargs))

    def _read(self, fn: Callable[[Tx], T]) -> T:
        conn: Connection | None = getattr(self._local, "conn", None)
        if conn is None:
            conn = self._engine.connect()
            conn.exec_driver_sql("PRAGMA query_only=ON")
            self._local.conn = conn
            self._reading.append(conn)
        sql = conn.connection.driver_connection
        assert isinstance(sql, sqlite3.Connection)
        sql.execute("BEGIN")
        try:
            return fn(Tx(conn))
        finally:
            sql.execute("ROLLBACK")

    @contextmanager
    def _open_batcher(self) -> Iterator[Batcher]:
        with self._engine.connect() as conn:
            yield Batcher(conn, self._ballast.give_up)

    def _close_connections(self) -> None:
        for conn in self._reading:
            conn.close()
        self._engine.dispose()
