"""The group-committing writer of SQLite, as a synchronous object: the simulator drives it directly.

A batch is one SQLite transaction with a savepoint for each job, so one fsync serves them all. An application or
constraint error undoes its own savepoint. Any other error discards the batch, and its jobs run one by one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError

from kevel.domain.errors import KevelError, Unavailable
from kevel.runtime import failpoints
from kevel.store.transactions import Tx, Wake

log = structlog.get_logger(__name__)

#: Most jobs in one commit: bounds how long the first of them waits.
BATCH_JOBS_MAX: Final = 64


class CommitFailed(KevelError):
    """The store could not commit; the process must stop and recover by reopening."""


class StoreFull(Unavailable):
    """Kevel's data directory is out of disk space; free some and try again."""


class StoreBusy(Unavailable):
    """Another program holds Kevel's database; end it, or try again when it is done."""


class Job:
    """One write: the function, and after the run either its result and wake-ups, or its error."""

    __slots__ = ("error", "fn", "result", "token", "wakes")

    def __init__(self, fn: Callable[[Tx], Any], token: Any = None) -> None:
        self.fn = fn
        self.token = token
        self.result: Any = None
        self.error: BaseException | None = None
        self.wakes: list[Wake] = []


class Batcher:
    """Commits jobs together on the one writing connection.

    `free_space` is called once when the disk is full; it returns True when it has made room (`kevel.store.ballast`).
    """

    def __init__(self, conn: Connection, free_space: Callable[[], bool]) -> None:
        self._conn = conn
        self._free_space = free_space
        dbapi = conn.connection.driver_connection
        if not isinstance(dbapi, sqlite3.Connection):
            raise AssertionError("the batcher writes to SQLite")
        self._sql = dbapi

    def run(self, jobs: Sequence[Job]) -> None:
        """Run and commit; then every job has its result or its error. Raises CommitFailed when the store is lost."""
        try:
            self._run_together(jobs)
        except StoreBusy:
            # Nothing was begun, and waiting again for each job alone would only hold up the next batch.
            log.warning("batch refused: another program holds the database", jobs=len(jobs))
            for job in jobs:
                job.error = StoreBusy()
        except DBAPIError:
            log.warning("batch discarded", jobs=len(jobs), exc_info=True)
            for job in jobs:
                self._run_alone(job)

    def _run_together(self, jobs: Sequence[Job]) -> None:
        self._begin()
        try:
            for job in jobs:
                self._run_job(job)
        except BaseException:
            self._rollback()
            raise
        self._commit()

    def _run_alone(self, job: Job) -> None:
        for attempt in (1, 2):
            try:
                self._run_together((job,))
            except DBAPIError as error:
                if _is_full(error) and attempt == 1 and self._free_space():
                    continue
                job.result, job.wakes = None, []
                job.error = StoreFull() if _is_full(error) else error
            except StoreBusy as busy:
                job.result, job.wakes, job.error = None, [], busy
            return

    def _run_job(self, job: Job) -> None:
        tx = Tx(self._conn)
        job.result, job.error, job.wakes = None, None, []
        self._sql.execute("SAVEPOINT job")
        try:
            job.result = job.fn(tx)
        except DBAPIError as error:
            if not isinstance(error, IntegrityError):
                raise
            self._undo(job, error)
        except Exception as error:  # noqa: BLE001 - handed to the caller, whose transaction it was
            self._undo(job, error)
        else:
            self._sql.execute("RELEASE job")
            job.wakes = tx.wakes

    def _undo(self, job: Job, error: BaseException) -> None:
        self._sql.execute("ROLLBACK TO job")
        self._sql.execute("RELEASE job")
        job.error = error

    def _begin(self) -> None:
        try:
            self._sql.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise StoreBusy from error
            raise CommitFailed from error

    def _rollback(self) -> None:
        if self._sql.in_transaction:
            self._sql.execute("ROLLBACK")

    def _commit(self) -> None:
        failpoints.begin("commit")
        try:
            self._sql.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if _full_text(str(error)):
                self._rollback()
                raise DBAPIError("COMMIT", None, error) from error
            raise CommitFailed from error
        except sqlite3.Error as error:
            raise CommitFailed from error
        failpoints.done("commit")


def _is_full(error: DBAPIError) -> bool:
    return _full_text(str(error.orig))


def _full_text(text: str) -> bool:
    return "disk is full" in text
