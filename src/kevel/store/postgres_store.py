"""The store on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar, cast

import psycopg
import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from kevel.store.postgres import DatabaseReadOnly, DatabaseUnreachable, explain_error
from kevel.store.postgres_batch import PostgresBatcher
from kevel.store.postgres_writer import OUTAGE_WAITS_S, PostgresWriter
from kevel.store.threaded import ThreadedStore
from kevel.store.transactions import Tx

T = TypeVar("T")
log = structlog.get_logger(__name__)

READ_THREADS: Final = 4


class _Lost(Exception):
    """The reader's connection has ended."""


class PostgresStore(ThreadedStore):
    """`Store` on PostgreSQL, for the one process that holds its lock (`PostgresWriter`, claimed).

    Writes are serial: SERIALIZABLE transactions of the one writing session. Reads are snapshots of what is committed;
    none of them decides anything that is written. After an outage of the server both go on by themselves; until then
    callers get DatabaseUnreachable.
    """

    def __init__(self, engine: Engine, writer: PostgresWriter, on_lost: Callable[[BaseException], None]) -> None:
        self._engine = engine
        self._session = writer
        self._local = threading.local()
        self._reading: set[Connection] = set()
        self._pause = threading.Event()
        self._down = False
        super().__init__(on_lost, read_threads=READ_THREADS)

    def _read(self, fn: Callable[[Tx], T]) -> T:
        for wait_s in (0.0,) if self._down else (*OUTAGE_WAITS_S, 0.0):
            try:
                found = self._read_once(fn)
            except _Lost:
                self._pause.wait(wait_s)
                continue
            self._down = False
            return found
        self._down = True
        raise DatabaseUnreachable

    def _read_once(self, fn: Callable[[Tx], T]) -> T:
        """Raises _Lost when the connection ended before the function did."""
        conn: Connection | None = None
        try:
            conn = self._reader()
            sql = cast("psycopg.Connection[Any]", conn.connection.driver_connection)
            sql.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                return fn(Tx(conn))
            finally:
                if not sql.closed:
                    sql.execute("ROLLBACK")
        except (DBAPIError, psycopg.Error) as error:
            if conn is None or conn.invalidated or conn.connection.driver_connection.closed:  # type: ignore[union-attr]
                self._forget(conn)
                log.warning("a reader has lost the database", reason=str(error).strip()[:200])
                raise _Lost from None
            told = explain_error(error)
            if told is error or isinstance(told, DatabaseReadOnly):  # here the one who writes is to blame
                raise
            raise told from None

    def _reader(self) -> Connection:
        conn: Connection | None = getattr(self._local, "conn", None)
        if conn is None:
            conn = self._engine.connect()
            self._local.conn = conn
            self._reading.add(conn)
        return conn

    def _forget(self, conn: Connection | None) -> None:
        self._local.conn = None
        if conn is not None:
            self._reading.discard(conn)
            if not conn.invalidated:
                conn.invalidate()
            conn.close()

    @contextmanager
    def _open_batcher(self) -> Iterator[PostgresBatcher]:
        try:
            yield PostgresBatcher(self._session)
        finally:
            self._session.close()

    def _close_connections(self) -> None:
        for conn in self._reading:
            conn.close()
        self._engine.dispose()
