"""The store in memory, with the real batcher: the dice choose the batches, the moments and the faults."""

from __future__ import annotations

import asyncio
import contextvars
import random
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import StaticPool

from kevel.domain.images import ContainerFormat, DiskFormat, ImageStatus, Visibility
from kevel.store.batch import Batcher, Job
from kevel.store.schema import metadata
from kevel.store.schema.images import images
from kevel.store.transactions import Tx, Wake
from tests.simulation.loop import SimLoop

P = ParamSpec("P")
T = TypeVar("T")

#: The one image that there is.
IMAGE_FILE = "images/image"
COMMIT_S_MAX = 0.004
READ_S_MAX = 0.002


class ProcessDied(BaseException):
    """The process ends here: nothing of it runs on."""


def make_memory_engine() -> Engine:
    """A database in memory that outlives the processes of a run."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys=ON")

    metadata.create_all(engine)
    with engine.connect() as conn:
        image = {"id": "image", "project_id": "p", "status": ImageStatus.ACTIVE, "file": IMAGE_FILE}
        image |= {
            "visibility": Visibility.PUBLIC,
            "disk_format": DiskFormat.RAW,
            "container_format": ContainerFormat.BARE,
        }
        image |= {"size_bytes": 0, "md5": "", "sha512": ""}
        image |= {"min_disk_gib": 0, "min_ram_mib": 0, "protected": False, "hidden": False}
        conn.execute(insert(images), image | {"properties": {}, "tags": (), "created_at": 0, "updated_at": 0})
        conn.commit()
    return engine


class SimStore:
    """One process's store. `crash` ends the process; it is called at the points where a fault is drawn."""

    def __init__(self, conn: Connection, loop: SimLoop, dice: random.Random, faults: StoreFaults) -> None:
        self._conn = conn
        self._loop = loop
        self._dice = dice
        self._faults = faults
        self._batcher = Batcher(conn, lambda: False)
        self._pending: list[Job] = []
        self._listeners: list[Callable[[Sequence[Wake]], None]] = []
        self._context = contextvars.copy_context()

    def subscribe(self, listener: Callable[[Sequence[Wake]], None]) -> None:
        self._listeners.append(listener)

    async def read(self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        await asyncio.sleep(self._dice.random() * READ_S_MAX)
        return fn(Tx(self._conn), *args, **kwargs)

    async def read_point(self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return fn(Tx(self._conn), *args, **kwargs)

    async def write(self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        future: asyncio.Future[T] = self._loop.create_future()
        self._pending.append(Job(partial(_call, fn, args, kwargs), future))
        delay_s = self._dice.random() * COMMIT_S_MAX
        self._loop.call_later(delay_s, self._commit, context=self._context)
        return await future

    def _commit(self) -> None:
        if not self._pending:
            return
        count = self._dice.randint(1, len(self._pending))
        jobs, self._pending = self._pending[:count], self._pending[count:]
        if self._pending:
            self._loop.call_later(self._dice.random() * COMMIT_S_MAX, self._commit, context=self._context)
        for job in jobs:
            self._faults.upset(job)
        try:
            self._batcher.run(jobs)
            self._faults.after_commit()
        except ProcessDied:
            self._faults.crash()
            return
        self._deliver(jobs)

    def _deliver(self, jobs: Sequence[Job]) -> None:
        wakes: list[Wake] = []
        for job in jobs:
            wakes.extend(job.wakes)
            if job.token.cancelled():
                continue
            if job.error is not None:
                job.token.set_exception(job.error)
            else:
                job.token.set_result(job.result)
        for listener in self._listeners if wakes else ():
            listener(wakes)


class StoreFaults:
    """What may go wrong in a write, drawn for each."""

    def __init__(self, dice: random.Random, crash: Callable[[], None]) -> None:
        self._dice = dice
        self.crash = crash
        #: Chances; 0 once faults have stopped.
        self.crash_in_batch = 0.0
        self.crash_after_commit = 0.0
        self.statement_error = 0.0

    def upset(self, job: Job) -> None:
        """Perhaps make this job fail, or the process die in it."""
        fn = job.fn
        if self._dice.random() < self.crash_in_batch:
            before = self._dice.random() < 0.5

            def die(tx: Tx) -> Any:
                if not before:
                    fn(tx)
                raise ProcessDied

            job.fn = die
        elif self._dice.random() < self.statement_error:
            times = self._dice.randint(1, 2)
            count = 0

            def fail(tx: Tx) -> Any:
                nonlocal count
                result = fn(tx)
                count += 1
                if count <= times:
                    raise OperationalError("simulated", None, sqlite3.OperationalError("simulated"))
                return result

            job.fn = fail

    def after_commit(self) -> None:
        """Perhaps die with the batch committed and nobody told."""
        if self._dice.random() < self.crash_after_commit:
            raise ProcessDied


def _call(fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], tx: Tx) -> T:
    return fn(tx, *args, **kwargs)
