"""SQLite: WAL, `synchronous=FULL`, one writer thread that commits queued transactions together, reads on snapshots."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import structlog
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from kevel.domain.errors import KevelError, SetupError, Unavailable
from kevel.store.ballast import Ballast
from kevel.store.batch import BATCH_JOBS_MAX, Batcher, Job
from kevel.store.transactions import Tx, Wake

P = ParamSpec("P")
T = TypeVar("T")
log = structlog.get_logger(__name__)

READ_THREADS: Final = 2
#: Most writes waiting for the writer; beyond that the caller is told to come back.
QUEUE_JOBS_MAX: Final = 10_000


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


class SqliteStore:
    """`Store` on SQLite for one process.

    `on_lost` is called on the event loop when a commit failed for another reason than a full disk: nobody can say what
    is on the disk then, so the process must stop and recover by reopening.
    """

    def __init__(self, engine: Engine, ballast: Ballast, on_lost: Callable[[BaseException], None]) -> None:
        self._engine = engine
        self._ballast = ballast
        self._on_lost = on_lost
        self._listeners: list[Callable[[Sequence[Wake]], None]] = []
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(max_workers=READ_THREADS, thread_name_prefix="store-read")
        self._local = threading.local()
        self._reading: list[Connection] = []
        self._loop = asyncio.get_running_loop()
        self._writer = threading.Thread(target=self._write_forever, name="store-write", daemon=True)
        self._closed = False
        self._writer.start()

    def subscribe(self, listener: Callable[[Sequence[Wake]], None]) -> None:
        self._listeners.append(listener)

    async def read(self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        call: Callable[[Tx], T] = partial(_call, fn, args, kwargs)
        return await self._loop.run_in_executor(self._readers, self._read, call)

    async def read_point(self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        # A few rows by their keys take less time than handing the interpreter to a thread and back.
        return self._read(partial(_call, fn, args, kwargs))

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

    async def write(self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closed:
            raise KevelError("The store is closed.")
        if self._queue.qsize() >= QUEUE_JOBS_MAX:
            raise Unavailable(f"{QUEUE_JOBS_MAX} changes are waiting to be stored already; try again later.")
        future: asyncio.Future[T] = self._loop.create_future()
        call: Callable[[Tx], T] = partial(_call, fn, args, kwargs)
        self._queue.put(Job(call, future))
        return await future

    def _write_forever(self) -> None:
        with self._engine.connect() as conn:
            batcher = Batcher(conn, self._ballast.give_up)
            while (job := self._queue.get()) is not None:
                jobs = [job]
                stop = False
                while len(jobs) < BATCH_JOBS_MAX and not self._queue.empty():
                    more = self._queue.get()
                    if more is None:
                        stop = True
                        break
                    jobs.append(more)
                try:
                    batcher.run(jobs)
                except BaseException as error:
                    log.critical("store lost", exc_info=True)
                    self._post(self._lose, jobs, error)
                    return
                self._post(self._deliver, jobs)
                if stop:
                    return

    def _post(self, fn: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(fn, *args)
        except RuntimeError:
            log.warning("the event loop ended before the store's writer")

    def _deliver(self, jobs: Sequence[Job]) -> None:
        wakes: list[Wake] = []
        for job in jobs:
            future: asyncio.Future[Any] = job.token
            wakes.extend(job.wakes)
            if future.cancelled():
                continue
            if job.error is not None:
                future.set_exception(job.error)
            else:
                future.set_result(job.result)
        if wakes:
            for listener in self._listeners:
                listener(wakes)

    def _lose(self, jobs: Sequence[Job], error: BaseException) -> None:
        """Nobody can say what is on the disk now: take no more writes, and leave nobody waiting for one."""
        self._closed = True
        waiting = list(jobs)
        while not self._queue.empty():
            job = self._queue.get()
            if job is not None:
                waiting.append(job)
        for job in waiting:
            if not job.token.cancelled():
                job.token.set_exception(KevelError("The store was lost; whether this was written is unknown."))
        self._on_lost(error)

    async def close(self) -> None:
        """Commit what is queued and close all connections."""
        self._closed = True
        self._queue.put(None)
        await self._loop.run_in_executor(None, self._writer.join)
        self._readers.shutdown(wait=True)
        for conn in self._reading:
            conn.close()
        self._engine.dispose()


def _call(fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], tx: Tx) -> T:
    return fn(tx, *args, **kwargs)
