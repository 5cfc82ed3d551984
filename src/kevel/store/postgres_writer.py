"""The one session that writes to a PostgreSQL database: its lock, its place, and what became of its last COMMIT.

A session's advisory lock keeps a second Kevel out. But a lock ends with its session, and the session with a restart of
the server or a cut of the network, so the lock alone would let two write. Hence the row in `writers`: who takes the
lock for itself puts its own row in the place of the others', and every transaction counts in that row first. A writer
whose place was taken meets no row there, and stops.

The same row tells what became of a COMMIT whose answer was lost. The new session has the lock, so the old one has ended
for good, and the row's number says whether that commit took place.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Final, cast

import psycopg
import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from kevel.domain.errors import SetupError
from kevel.store.batch import CommitFailed
from kevel.store.postgres import DatabaseUnreachable

log = structlog.get_logger(__name__)

#: The advisory lock in Kevel's database: "kevel" in ASCII.
LOCK_KEY: Final = 0x6B6576656C
#: Pauses between attempts to reach a server again, about 20 s in all. A server that restarts is back within a few.
OUTAGE_WAITS_S: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 4.0, 5.0, 5.0)
#: Pauses at the start while the lock is held: a process that was just killed keeps it until the server has noticed.
LOCK_WAITS_S: Final = (0.1, 0.2, 0.4, 0.8, 1.5)

_LOCK: Final = f"SELECT pg_try_advisory_lock({LOCK_KEY})"
_HOLDER: Final = f"""
SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.classid::bigint << 32) | l.objid::bigint = {LOCK_KEY}
"""  # noqa: S608 - our own number
_END_OLD: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid = %s AND application_name = current_setting('application_name') AND pid <> pg_backend_pid()
"""


class Superseded(CommitFailed):
    """Another Kevel has taken over the database; this one must stop."""


class PostgresWriter:
    """The writing session. `writer_id` is this process's, new at each start."""

    def __init__(self, engine: Engine, writer_id: str) -> None:
        self._engine = engine
        self._id = writer_id
        self._conn: Connection | None = None
        self._pid = 0
        self._batch = 0
        self._pause = threading.Event()
        self._down = False

    def lock(self) -> None:
        """Take the lock for this process. Raises SetupError when another Kevel has it, or the server is not there."""
        holder: str | None = None
        try:
            for wait_s in (*LOCK_WAITS_S, None):
                conn = self._engine.connect()
                try:
                    if conn.exec_driver_sql(_LOCK).scalar_one():
                        self._keep(conn)
                        return
                    holder = conn.exec_driver_sql(_HOLDER).scalar()
                finally:
                    if conn is not self._conn:
                        _drop(conn)
                if wait_s is not None:
                    self._pause.wait(wait_s)
        except DBAPIError as error:
            raise SetupError(f"The database cannot be used: {str(error.orig).strip()[:300]}") from None
        raise SetupError(
            f"The database is in use by another kevel ({holder or 'of another user'}); stop that one first, or name "
            "another database. Kevel runs one control plane on a database."
        )

    def claim(self) -> None:
        """Become the writer, in the place of whoever was; the schema is there, and the lock is held."""
        sql = self.driver
        sql.execute("BEGIN")
        sql.execute("DELETE FROM writers")
        sql.execute("INSERT INTO writers (id, batch) VALUES (%s, 0)", [self._id])
        sql.execute("COMMIT")
        self._batch = 0

    @property
    def conn(self) -> Connection:
        """The session's connection, whole or broken."""
        assert self._conn is not None, "it is opened before anything is written"
        return self._conn

    @property
    def driver(self) -> psycopg.Connection[Any]:
        """The driver's connection under it."""
        return cast("psycopg.Connection[Any]", self.conn.connection.driver_connection)

    @property
    def is_broken(self) -> bool:
        """Has the session ended?"""
        return self._conn is None or self._conn.invalidated or self.driver.closed

    def begin(self) -> None:
        """Begin a transaction that counts as the next one. Raises Superseded."""
        cursor = self.driver.execute(
            f"BEGIN ISOLATION LEVEL SERIALIZABLE; UPDATE writers SET batch = {self._batch + 1} "  # noqa: S608 - ours
            f"WHERE id = '{self._id}' AND batch = {self._batch}"
        )
        cursor.nextset()
        if cursor.rowcount != 1:
            self.driver.execute("ROLLBACK")
            raise Superseded

    def commit(self) -> None:
        """Commit it; when this returns it is durable."""
        cursor = self.driver.execute("COMMIT")
        if cursor.statusmessage != "COMMIT":
            raise AssertionError("a transaction that had failed was to be committed")
        self._batch += 1

    def reopen(self) -> bool:
        """A new session in the place of the broken one: did what it was about to commit take place?

        Raises DatabaseUnreachable when there is none to be had in OUTAGE_WAITS_S (or at once, if that was so the last
        time), and Superseded.
        """
        self.close()
        for wait_s in (0.0,) if self._down else (*OUTAGE_WAITS_S, 0.0):
            try:
                batch = self._try_reopening()
            except (DBAPIError, psycopg.Error) as error:
                log.warning("the database cannot be reached", reason=str(error).strip()[:200])
                batch = None
            if batch is not None:
                self._down = False
                committed = batch == self._batch + 1
                if not committed and batch != self._batch:
                    raise Superseded
                self._batch = batch
                log.warning("connected to the database again", last_batch_committed=committed)
                return committed
            self._pause.wait(wait_s)
        self._down = True
        raise DatabaseUnreachable

    def _try_reopening(self) -> int | None:
        """The number of the last commit, now that nobody else can write; None while the old session lives."""
        conn = self._engine.connect()
        try:
            self._read_batch(conn)
            if conn.exec_driver_sql(_LOCK).scalar_one():
                batch = self._read_batch(conn)
                self._keep(conn)
                return batch
            # The old session is cut off from us, and the server has not noticed.
            conn.exec_driver_sql(_END_OLD, (self._pid,))
        finally:
            if conn is not self._conn:
                _drop(conn)
        return None

    def _read_batch(self, conn: Connection) -> int:
        row = conn.exec_driver_sql("SELECT batch FROM writers WHERE id = %s", (self._id,)).first()
        if row is None:
            raise Superseded
        return int(row[0])

    def _keep(self, conn: Connection) -> None:
        self._conn = conn
        self._pid = self.driver.info.backend_pid

    def close(self) -> None:
        """End the session, and with it the lock."""
        if self._conn is not None:
            _drop(self._conn)
            self._conn = None


def _drop(conn: Connection) -> None:
    """Close it, broken or not."""
    with contextlib.suppress(DBAPIError, psycopg.Error):
        if not conn.invalidated:
            conn.invalidate()
        conn.close()
