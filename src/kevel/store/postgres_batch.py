"""The group-committing writer of PostgreSQL, as a synchronous object.

A batch is one SERIALIZABLE transaction with a savepoint for each job, so one flush serves them all. An application or
constraint error undoes its own savepoint; any other error discards the batch, and its jobs run one by one. A conflict
with another session's transaction, or a connection that ends, discards the batch and runs it again: transaction
functions are made for that.

A COMMIT whose answer is lost is settled before anybody is told anything: the new session reads whether it took place.
Where that cannot be found out, the store is lost, and the process stops, as it does on SQLite.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import psycopg
import structlog
from sqlalchemy.exc import DBAPIError, IntegrityError

from kevel.domain.errors import Unavailable
from kevel.runtime import failpoints
from kevel.store.batch import CommitFailed, Job
from kevel.store.postgres import DatabaseSlow, DatabaseUnreachable, explain_error
from kevel.store.postgres_writer import PostgresWriter
from kevel.store.transactions import Tx

log = structlog.get_logger(__name__)

#: How often a batch is run in all: after conflicts, and after sessions that ended in its middle.
RUNS_MAX: Final = 8
#: Serialization failure, deadlock.
_CONFLICTS: Final = frozenset({"40001", "40P01"})


class PostgresBatcher:
    """Commits jobs together in the one writing session."""

    def __init__(self, writer: PostgresWriter) -> None:
        self._writer = writer

    def run(self, jobs: Sequence[Job]) -> None:
        """Run and commit; then every job has its result or its error. Raises CommitFailed when the store is lost."""
        try:
            self._run_through(jobs)
        except (DBAPIError, psycopg.Error):
            log.warning("batch discarded", jobs=len(jobs), exc_info=True)
            for job in jobs:
                self._run_alone(job)

    def _run_alone(self, job: Job) -> None:
        try:
            self._run_through((job,))
        except (DBAPIError, psycopg.Error) as error:
            _refuse((job,), explain_error(error))

    def _run_through(self, jobs: Sequence[Job]) -> None:
        """Run the jobs until their transaction is committed, or it is known that it will not be."""
        for _ in range(RUNS_MAX):
            if self._writer.is_broken and not self._reopen(jobs):
                return
            committing = False
            try:
                self._run_jobs(jobs)
                committing = True
                self._commit()
            except (DBAPIError, psycopg.Error) as error:
                if self._writer.is_broken:
                    if self._is_settled(jobs, committing=committing):
                        return
                    continue
                self._writer.driver.execute("ROLLBACK")
                if _sqlstate(error) in _CONFLICTS:
                    continue
                raise
            except BaseException:
                if not self._writer.is_broken:
                    self._writer.driver.execute("ROLLBACK")
                raise
            return
        _refuse(jobs, DatabaseSlow())

    def _reopen(self, jobs: Sequence[Job]) -> bool:
        """A new session, with nothing left open by the old one; else the jobs are refused."""
        try:
            self._writer.reopen()
        except DatabaseUnreachable as error:
            _refuse(jobs, error)
            return False
        return True

    def _is_settled(self, jobs: Sequence[Job], *, committing: bool) -> bool:
        """The session ended: is all done with these jobs? If not, they are to be run again. Raises CommitFailed."""
        try:
            committed = self._writer.reopen()
        except DatabaseUnreachable as error:
            if committing:
                raise CommitFailed("The answer to a COMMIT was lost, and the database stays away.") from error
            _refuse(jobs, error)
            return True
        assert committing or not committed, "what was not asked for cannot have taken place"
        return committed

    def _run_jobs(self, jobs: Sequence[Job]) -> None:
        self._writer.begin()
        sql = self._writer.driver
        sql.execute("SAVEPOINT job")
        for job in jobs:
            self._run_job(job)
            sql.execute("RELEASE job; SAVEPOINT job")

    def _run_job(self, job: Job) -> None:
        tx = Tx(self._writer.conn)
        job.result, job.error, job.wakes = None, None, []
        try:
            job.result = job.fn(tx)
        except DBAPIError as error:
            if not isinstance(error, IntegrityError):
                raise
            self._undo(job, error)
        except Exception as error:  # noqa: BLE001 - handed to the caller, whose transaction it was
            self._undo(job, error)
        else:
            job.wakes = tx.wakes

    def _undo(self, job: Job, error: Exception) -> None:
        self._writer.driver.execute("ROLLBACK TO job")
        job.error = error

    def _commit(self) -> None:
        failpoints.begin("commit")
        self._writer.commit()
        failpoints.done("commit")


def _refuse(jobs: Sequence[Job], error: Exception) -> None:
    for job in jobs:
        job.result, job.wakes = None, []
        # Each its own: a traceback grows on an error wherever it is raised.
        job.error = type(error)() if isinstance(error, Unavailable) else error


def _sqlstate(error: Exception) -> str | None:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return cause.sqlstate if isinstance(cause, psycopg.Error) else None
