"""The store in memory, with the real batcher: the dice choose the batches, the moments and the faults."""

from __future__ import annotations

import asyncio
import contextvars
import random
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from sqlalchemy import Connection, Engine, Executable, create_engine, event, insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import StaticPool

from kevel.control.hosts.hosts import Hosts
from kevel.domain.images import ContainerFormat, DiskFormat, ImageStatus, Visibility
from kevel.store.batch import Batcher, Job
from kevel.store.schema import metadata
from kevel.store.schema.images import images
from kevel.store.statements import Rows
from kevel.store.transactions import Tx, Wake
from tests.simulation.faults import Fault, Faults, Kind
from tests.simulation.loop import SimLoop
from tests.simulation.outdated import hold_to_revisions

P = ParamSpec("P")
T = TypeVar("T")

#: The one image that there is.
IMAGE_FILE = "images/image"
#: The transaction that takes agents' reports.
REPORT = Hosts._apply
COMMIT_S_MAX = 0.004
READ_S_MAX = 0.002


class ProcessDied(BaseException):
    """The process ends here: nothing of it runs on."""


def make_memory_engine() -> Engine:
    """A database in memory that outlives the processes of a run. The next call throws it away."""
    engine = _share_engine()
    engine.dispose()
    return engine


@cache
def _share_engine() -> Engine:
    """One engine for all runs: it remembers compiled statements, and most runs are short."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None
        connection.deserialize(_new_database())
        connection.execute("PRAGMA foreign_keys=ON")

    return engine


@cache
def _new_database() -> bytes:
    """The bytes of a database with the schema and the one image: made once, since most runs are short."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    metadata.create_all(engine)
    image = {"id": "image", "project_id": "p", "status": ImageStatus.ACTIVE, "file": IMAGE_FILE}
    image |= {"visibility": Visibility.PUBLIC, "disk_format": DiskFormat.RAW, "container_format": ContainerFormat.BARE}
    image |= {"size_bytes": 0, "virtual_bytes": 0, "md5": "", "sha512": ""}
    image |= {"min_disk_gib": 0, "min_ram_mib": 0, "protected": False, "hidden": False}
    with engine.connect() as conn:
        conn.execute(insert(images), image | {"properties": {}, "tags": (), "created_at": 0, "updated_at": 0})
        conn.commit()
        database = cast("sqlite3.Connection", conn.connection.driver_connection).serialize()
    engine.dispose()
    return database


class SimStore:
    """The store as one life of a process has it."""

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
        if getattr(fn, "__func__", None) is REPORT:
            fn = hold_to_revisions(fn, self._loop.fail)
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
        name = "+".join(job.fn.args[0].__name__.strip("_") for job in jobs)  # type: ignore[attr-defined]
        fault = self._faults.upset(jobs, name)
        try:
            self._batcher.run(jobs)
            self._faults.after_commit(name, fault)
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
    """What goes wrong in the commits of one process."""

    def __init__(self, faults: Faults, label: str, dice: random.Random) -> None:
        self._faults = faults
        self._label = label
        self._dice = dice
        #: End this process, and another one.
        self.crash: Callable[[], None] = lambda: None
        self.crash_other: Callable[[], None] = lambda: None
        #: Called after each commit, with the names of its transactions.
        self.committed: Callable[[str], None] = lambda name: None
        self.tell: Callable[[str, str], None] = lambda who, what: None
        #: Whether the disk has room.
        self.is_full: Callable[[], bool] = lambda: False

    def upset(self, jobs: Sequence[Job], name: str) -> Fault | None:
        """Perhaps make one of these jobs fail, or the process die in it."""
        fault = self._faults.strike(Kind.COMMIT, name, self._label)
        if fault is not None:
            self.tell(self._label, f"commit of {name}: {fault.value}")
        if fault is Fault.DISK_FULL or self.is_full():
            for job in jobs:
                job.fn = partial(_fail, fn=job.fn, error=_FULL)
        if fault is None:
            return None
        job = self._dice.choice(jobs)
        if fault is Fault.ROLLED_BACK:
            job.fn = partial(_die, fn=job.fn, before=self._dice.random() < 0.5)
        elif fault in (Fault.STATEMENT, Fault.STATEMENTS):
            at = self._dice.randint(1, 12)
            job.fn = partial(_break_off, fn=job.fn, at=at, left=[1 if fault is Fault.STATEMENT else 2])
        return fault

    def after_commit(self, name: str, fault: Fault | None) -> None:
        """The batch is durable; perhaps die with nobody told."""
        self.committed(name)
        if fault is Fault.UNTOLD:
            raise ProcessDied
        if fault is Fault.CRASH_OTHER:
            self.crash_other()


_FULL = "database or disk is full"


class BrokenTx(Tx):
    """A transaction whose n-th statement fails; one with fewer statements fails at its end."""

    __slots__ = ("left",)

    def __init__(self, tx: Tx, at: int) -> None:
        super().__init__(tx.conn)
        self.wakes = tx.wakes
        self.left = at

    def execute(self, statement: Executable, values: Mapping[str, Any] | None = None) -> Rows:
        self.left -= 1
        if self.left == 0:
            raise _broken("simulated")
        return super().execute(statement, values)


def _broken(text: str) -> OperationalError:
    return OperationalError(text, None, sqlite3.OperationalError(text))


def _call(fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], tx: Tx) -> T:
    return fn(tx, *args, **kwargs)


def _fail(tx: Tx, *, fn: Callable[[Tx], Any], error: str) -> Any:
    fn(tx)
    raise _broken(error)


def _die(tx: Tx, *, fn: Callable[[Tx], Any], before: bool) -> Any:
    if not before:
        fn(tx)
    raise ProcessDied


def _break_off(tx: Tx, *, fn: Callable[[Tx], Any], at: int, left: list[int]) -> Any:
    if left[0] == 0:
        return fn(tx)
    left[0] -= 1
    fn(BrokenTx(tx, at))
    raise _broken("simulated")
