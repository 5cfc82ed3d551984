"""The agents' side of the control plane: registration, assignments, reports."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog

from kevel.control.alarms import raise_alarms
from kevel.control.hosts.questions import Questions
from kevel.control.runtime import Runtime
from kevel.control.secrets import Sealer
from kevel.domain.assignments import Assignments, CopyReport, HostCensus, PathReport, ServerReport, SwapReport
from kevel.domain.errors import Fenced
from kevel.domain.ladder import Rung
from kevel.domain.limits import Limits
from kevel.domain.questions import Answer
from kevel.storage.base import Backend
from kevel.store.assignments import changes_for_host
from kevel.store.attachments import load_path
from kevel.store.censuses import judge_census, record_census
from kevel.store.copies import apply_copy_report, load_copy
from kevel.store.hosts import Host, current_epoch, list_hosts, register_host, touch_host
from kevel.store.path_reports import apply_path_report
from kevel.store.server_rows import apply_server_report
from kevel.store.servers import load_server
from kevel.store.swap_moves import apply_swap_report
from kevel.store.swaps import load_swap
from kevel.store.transactions import Tx, Wake

log = structlog.get_logger(__name__)

#: A poll without news is answered after this long, so that a dead agent is noticed.
POLL_WAIT_S: Final = 30.0


class Hosts:
    """What an agent calls: in one process these methods, over HTTPS through `kevel.control.hosts.fleet`."""

    def __init__(self, runtime: Runtime, backends: Mapping[str, Backend], sealer: Sealer, limits: Limits) -> None:
        self._runtime = runtime
        self._sealer = sealer
        self._limits = limits
        self._effect_free: dict[str, frozenset[Rung]] = {
            name: backend.effect_free for name, backend in backends.items()
        }
        self._news: dict[str, asyncio.Event] = {}
        self._touched: dict[str, int] = {}
        #: What requests ask of the hosts' agents.
        self.questions = Questions(runtime.ids, self._tell, limits.answer_wait_s)
        self._closing = False
        runtime.store.subscribe(self._hear)

    def _hear(self, wakes: Sequence[Wake]) -> None:
        for wake in wakes:
            if wake.kind == "host":
                self._tell(wake.key)

    def _tell(self, host: str) -> None:
        if (news := self._news.get(host)) is not None:
            news.set()

    async def register(self, host: str, *, availability_zone: str, facts: Mapping[str, Any]) -> int:
        """Enter the host's agent; its epoch. Reports of earlier epochs are refused from now on."""
        at = self._runtime.clock.now_us()
        return await self._runtime.store.write(
            register_host, name=host, availability_zone=availability_zone, facts=dict(facts), at=at
        )

    async def changes(self, host: str, since: int) -> Assignments:
        """What changed after that version; waits for news, a bounded time, when nothing has."""
        await self._touch(host)
        news = self._news.setdefault(host, asyncio.Event())
        news.clear()
        found = await self._read_changes(host, since)
        if found.version > since or found.questions or self._closing:
            return found
        try:
            await asyncio.wait_for(news.wait(), POLL_WAIT_S)
        except TimeoutError:
            return found
        return await self._read_changes(host, since)

    def end_polls(self) -> None:
        """Hold no poll any more: Kevel stops."""
        self._closing = True
        for news in self._news.values():
            news.set()

    async def _touch(self, host: str) -> None:
        """Note that the agent polls; not at each poll, and also when there is always news for it."""
        at = self._runtime.clock.now_us()
        if at - self._touched.get(host, 0) >= POLL_WAIT_S * 1e6:
            self._touched[host] = at
            await self._runtime.store.write(touch_host, host, at)

    async def _read_changes(self, host: str, since: int) -> Assignments:
        store = self._runtime.store
        # Since the last look little has changed; a first look reads everything.
        read = store.read_point if since > 0 else store.read
        found = await read(changes_for_host, host, since, self._sealer.open, self._effect_free)
        # Behind the last wait: a poll that is given up takes no question along.
        questions = self.questions.take(host)
        return msgspec.structs.replace(found, questions=questions) if questions else found

    async def answer(self, host: str, answer: Answer) -> None:
        """Take what the agent saw when it was asked."""
        self.questions.hear(host, answer)

    async def report(self, host: str, epoch: int, servers: Sequence[ServerReport], paths: Sequence[PathReport]) -> None:
        """Record what the agent saw; what is outdated in it changes nothing.

        Raises Fenced, with nothing recorded, when the whole agent is outdated: it must not believe that it was heard.
        """
        await self.take_reports(host, epoch, servers, paths)

    async def take_reports(
        self, host: str, epoch: int, servers: Sequence[ServerReport], paths: Sequence[PathReport]
    ) -> tuple[str, ...]:
        """The same; returns the ids of things that are not the host's, which look like things that are not there."""
        at = self._runtime.clock.now_us()
        return await self._runtime.store.write(self._apply, host, epoch, servers, paths, at)

    def _apply(
        self,
        tx: Tx,
        host: str,
        epoch: int,
        servers: Sequence[ServerReport],
        paths: Sequence[PathReport],
        at: int,
    ) -> tuple[str, ...]:
        if current_epoch(tx, host) != epoch:
            raise Fenced
        foreign: list[str] = []
        refusal_deadline_at = at + int(self._limits.attach_timeout_s * 1e6)
        for server in servers:
            if not apply_server_report(tx, host, epoch, server, at):
                log.info("outdated report", server=server.server_id, epoch=epoch)
                known = load_server(tx, server.server_id)
                if known is None or known.host != host:
                    foreign.append(server.server_id)
        for path in paths:
            taken = apply_path_report(
                tx,
                host,
                epoch,
                path,
                at=at,
                refusal_deadline_at=refusal_deadline_at,
                effect_free=self._effect_free,
            )
            if not taken:
                log.info("outdated report", path=path.path_id, epoch=epoch)
                row = load_path(tx, path.path_id)
                if row is None or row.host != host:
                    foreign.append(path.path_id)
        return tuple(foreign)

    async def report_copy(self, host: str, epoch: int, report: CopyReport) -> None:
        """Record what the agent saw of a copy; outdated, it changes nothing. Raises Fenced as `report` does."""
        await self.take_copy_report(host, epoch, report)

    async def take_copy_report(self, host: str, epoch: int, report: CopyReport) -> bool:
        """The same; False: the host has no such copy."""
        at = self._runtime.clock.now_us()
        return await self._runtime.store.write(self._apply_copy, host, epoch, report, at)

    def _apply_copy(self, tx: Tx, host: str, epoch: int, report: CopyReport, at: int) -> bool:
        if current_epoch(tx, host) != epoch:
            raise Fenced
        if not apply_copy_report(tx, host, epoch, report, at=at):
            log.info("outdated report", copy=report.copy_id, epoch=epoch)
            known = load_copy(tx, report.copy_id)
            return known is not None and known.host == host
        return True

    async def report_swap(self, host: str, epoch: int, report: SwapReport) -> None:
        """Record what the agent saw of a swap; outdated, it changes nothing. Raises Fenced as `report` does."""
        await self.take_swap_report(host, epoch, report)

    async def take_swap_report(self, host: str, epoch: int, report: SwapReport) -> bool:
        """The same; False: the host has no such swap."""
        at = self._runtime.clock.now_us()
        return await self._runtime.store.write(self._apply_swap, host, epoch, report, at)

    def _apply_swap(self, tx: Tx, host: str, epoch: int, report: SwapReport, at: int) -> bool:
        if current_epoch(tx, host) != epoch:
            raise Fenced
        deadline_at = at + int(self._limits.detach_timeout_s * 1e6)
        if not apply_swap_report(tx, host, epoch, report, at=at, deadline_at=deadline_at):
            log.info("outdated report", swap=report.swap_id, epoch=epoch)
            known = load_swap(tx, report.swap_id)
            return known is not None and known.host == host
        return True

    async def take_census(self, host: str, epoch: int, census: HostCensus) -> None:
        """Hold what is really on a host against the records: findings are kept, and new ones raise an alarm (L3)."""
        store, at = self._runtime.store, self._runtime.clock.now_us()
        judgement = await store.read(judge_census, host, census)
        new = await store.write(record_census, host, epoch, census, judgement, at)
        if new is None:
            log.info("outdated census", host=host, epoch=epoch)
        else:
            raise_alarms(new)

    async def list(self) -> list[Host]:
        """All hosts, for the compute API's services and hypervisors."""
        return await self._runtime.store.read(list_hosts)
