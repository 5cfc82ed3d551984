"""A store behind threads: one writer that commits queued transactions together, and a few readers."""

from __future__ import annotations

import asyncio
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import structlog

from kevel.domain.errors import KevelError, Unavailable
from kevel.store.batch import BATCH_JOBS_MAX, Job
from kevel.store.transactions import Tx, Wake

P = ParamSpec("P")
T = TypeVar("T")
log = structlog.get_logger(__name__)

#: Most writes waiting for the writer; beyond that the caller is told to come back.
QUEUE_JOBS_MAX: Final = 10_000


class Batching(Protocol):
    """What commits jobs together."""

    def run(self, jobs: Sequence[Job]) -> None:
        """Run and commit; then every job has its result or its error. Raises CommitFailed when the store is lost."""
        ...


class ThreadedStore(ABC):
    """`Store` for one process, whatever the database.

    `on_lost` is called on the event loop when nobody can say whether a commit took place: then the process must stop
    and recover by reopening.
    """

    def __init__(self, on_lost: Callable[[BaseException], None], *, read_threads: int) -> None:
        self._on_lost = on_lost
        self._listeners: list[Callable[[Sequence[Wake]], None]] = []
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(max_workers=read_threads, thread_name_prefix="store-read")
        self._loop = asyncio.get_running_loop()
        self._writer = threading.Thread(target=self._write_forever, name="store-write", daemon=True)
        self._closed = False
        self._writer.start()

    @abstractmethod
    def _read(self, fn: Callable[[Tx], T]) -> T:
        """Run a reading transaction in this thread."""

    @abstractmethod
    def _open_batcher(self) -> AbstractContextManager[Batching]:
        """What writes, in the writer's thread."""

    @abstractmethod
    def _close_connections(self) -> None:
        """Let go of what the readers had; none of them runs any more."""

    def subscribe(self, listener: Callable[[Sequence[Wake]], None]) -> None:
        self._listeners.append(listener)

    async def read(self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        call: Callable[[Tx], T] = partial(_call, fn, args, kwargs)
        return await self._loop.run_in_executor(self._readers, self._read, call)

    async def read_point(self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.read(fn, *args, **kwargs)

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
        with self._open_batcher() as batcher:
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
        self._close_connections()


def _call(fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], tx: Tx) -> T:
    return fn(tx, *args, **kwargs)
