"""The comparison of records with reality: at the start, periodically, and when an operator asks (L3).

Hosts report their census themselves (`Hosts.take_census`); the storage is listed here. Nothing is acted on from a
listing: rows that differ are put up for a look, and what no row names is reported and never touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import msgspec
import structlog

from kevel.control.alarms import raise_alarms
from kevel.control.runtime import Runtime
from kevel.domain.errors import StepError
from kevel.domain.findings import Finding, FindingKind
from kevel.domain.ladder import Rung
from kevel.storage.base import Backend
from kevel.store.censuses import (
    Census,
    check_history,
    host_subject,
    list_censuses,
    list_findings,
    load_census,
    record_comparison,
    storage_census,
    storage_subject,
    want_censuses,
)
from kevel.store.messages import forget_expired
from kevel.store.storage_census import Expected, Listed, expect, judge_storage, record_storage
from kevel.store.transactions import Tx

log = structlog.get_logger(__name__)

#: What a back end gets to list what it has, and a host's agent to take its census, before it counts as silent.
ANSWER_WAIT_S: Final = 15.0
POLL_S: Final = 0.05


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of how records and reality agree."""

    at: int
    censuses: tuple[Census, ...]
    findings: tuple[Finding, ...]


class Comparison:
    """Compares. One comparison of a back end at a time, also when it does not answer."""

    def __init__(self, runtime: Runtime, backends: Mapping[str, Backend]) -> None:
        self._runtime = runtime
        self._backends = backends
        #: Listings under way: one that does not end is not begun again.
        self._listing: dict[str, asyncio.Task[tuple[Expected, Listed]]] = {}

    async def compare_storage(self) -> None:
        """Compare every back end once, and forget messages whose time is over."""
        await asyncio.gather(*(self._compare(backend) for backend in self._backends.values()))
        await self._runtime.store.write(forget_expired, self._runtime.clock.now_us())

    async def _compare(self, backend: Backend) -> None:
        store, name = self._runtime.store, backend.name
        try:
            expected, listed = await self._list(backend)
        except (StepError, TimeoutError) as error:
            log.warning("storage could not be compared", backend=name, error=str(error))
            silent = Finding(subject=storage_subject(name), kind=FindingKind.STORAGE_SILENT, key=name)
            taken = storage_census(name, {}, self._runtime.clock.now_us())
            raise_alarms(await store.write(record_comparison, taken, [silent]))
            return
        found = await store.read(judge_storage, name, expected, listed)
        raise_alarms(await store.write(record_storage, name, listed, found, self._runtime.clock.now_us()))

    async def _list(self, backend: Backend) -> tuple[Expected, Listed]:
        """What should be there, read first, and what is. Raises StepError, or TimeoutError."""
        task = self._listing.get(backend.name)
        if task is None:
            task = asyncio.create_task(self._look(backend), name=f"list-{backend.name}")
            self._listing[backend.name] = task
        done, _ = await asyncio.wait({task}, timeout=ANSWER_WAIT_S)
        if not done:
            raise TimeoutError("it has not answered in time")
        self._listing.pop(backend.name, None)
        return task.result()

    async def _look(self, backend: Backend) -> tuple[Expected, Listed]:
        expected = await self._runtime.store.read(expect, backend.name, self._runtime.clock.now_us())
        listed = frozenset(await backend.list_volumes())
        snapshots = frozenset(await backend.list_snapshots())
        if Rung.EXPORTED in backend.effect_free:
            return expected, Listed(volumes=listed, snapshots=snapshots, exports=None)
        names = frozenset((one.path_id, one.generation) for one in await backend.list_exports())
        return expected, Listed(volumes=listed, snapshots=snapshots, exports=names)

    async def examine(self) -> Examination:
        """Compare everything once, now: records, every back end, every host."""
        wanted = await self._runtime.store.write(want_censuses)
        answered, _ = await asyncio.gather(self._await_censuses(wanted), self.compare_storage())
        known = await self._runtime.store.read(_known, self._runtime.clock.now_us(), whole=True)
        silent = tuple(
            Finding(subject=host_subject(host), kind=FindingKind.HOST_SILENT, key=host, found_at=known.at)
            for host in sorted(wanted.keys() - answered)
        )
        seen = {(one.subject, one.kind) for one in known.findings}
        more = tuple(one for one in silent if (one.subject, one.kind) not in seen)
        return msgspec.structs.replace(known, findings=known.findings + more)

    async def _await_censuses(self, wanted: Mapping[str, int]) -> set[str]:
        """The hosts that have answered, all of them or after a bounded wait."""
        loop = asyncio.get_running_loop()
        until = loop.time() + ANSWER_WAIT_S
        while True:
            answered = await self._runtime.store.read(_answered, wanted)
            if len(answered) == len(wanted) or loop.time() > until:
                return answered
            await asyncio.sleep(POLL_S)

    async def known(self) -> Examination:
        """What the newest comparisons found, without making new ones."""
        return await self._runtime.store.read(_known, self._runtime.clock.now_us())

    async def close(self) -> None:
        """Give up listings under way."""
        for task in self._listing.values():
            task.cancel()
        await asyncio.gather(*self._listing.values(), return_exceptions=True)


def _answered(tx: Tx, wanted: Mapping[str, int]) -> set[str]:
    found = {host: load_census(tx, host_subject(host)) for host in wanted}
    return {host for host, census in found.items() if census is not None and census.number >= wanted[host]}


def _known(tx: Tx, at: int, *, whole: bool = False) -> Examination:
    found = list_findings(tx, at) + (check_history(tx) if whole else [])
    return Examination(at=at, censuses=tuple(list_censuses(tx)), findings=tuple(found))
