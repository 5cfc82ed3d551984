"""The agent: long-polls its assignments, converges servers and paths, reports what it saw.

It holds nothing that must survive: after a restart it asks for everything, looks at what is really there, and goes on.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import structlog

from kevel.domain.assignments import Assignments, PathAssignment, PathReport, ServerAssignment, ServerReport
from kevel.domain.ladder import Hands
from kevel.domain.limits import Limits
from kevel.domain.model import ServerRung
from kevel.host.effects import Effects
from kevel.host.path_looks import PathLooks
from kevel.host.server_looks import ServerLooks
from kevel.hypervisor.base import Event, EventKind, Hypervisor
from kevel.runtime.ports import Clock, Ids
from kevel.runtime.reconciler import Reconciler
from kevel.storage.base import Connector

log = structlog.get_logger(__name__)

#: Looks at servers and at paths under way at once; calls on one server wait for each other anyway.
LOOKS_MAX: Final = 32
#: Pause after a poll that failed.
POLL_AGAIN_S: Final = 1.0
#: What calls still under way get when the agent stops.
DRAIN_S: Final = 5.0


class ControlPlane(Protocol):
    """What the agent calls: in one process directly, else over HTTPS."""

    async def register(self, host: str, *, availability_zone: str, facts: Mapping[str, Any]) -> int: ...

    async def changes(self, host: str, since: int) -> Assignments: ...

    async def report(
        self, host: str, epoch: int, servers: tuple[ServerReport, ...], paths: tuple[PathReport, ...]
    ) -> None: ...


class HostConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Who this host is."""

    name: str
    availability_zone: str
    #: Where images lie; assignments name files relative to it.
    data_dir: Path
    limits: Limits


class Agent:
    """Converges one host. `start`, then it runs until `close`."""

    def __init__(
        self,
        config: HostConfig,
        hypervisor: Hypervisor,
        connectors: Mapping[str, Connector],
        control: ControlPlane,
        *,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self.config = config
        self.limits = config.limits
        self.hypervisor = hypervisor
        self.connectors = connectors
        self.clock = clock
        self.effects = Effects(config.limits.effect_wait_s)
        self.servers: dict[str, ServerAssignment] = {}
        self.paths: dict[str, PathAssignment] = {}
        #: Aliases of disks that an event says are gone: looked at without asking the guest again.
        self.removed: set[str] = set()
        #: Servers that an event says have rebooted.
        self.rebooted: set[str] = set()
        #: Servers and paths whose reality may have moved without us.
        self.suspect: set[str] = set()
        self._paths_of: defaultdict[str, set[str]] = defaultdict(set)
        self._control = control
        self._epoch = 0
        self.server_looks = ServerLooks(self)
        self._servers_reconciler = Reconciler("host-server", self.server_looks.look, ids, parallel_max=LOOKS_MAX)
        self._paths_reconciler = Reconciler("host-path", PathLooks(self).look, ids, parallel_max=LOOKS_MAX)
        self._poll: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the hypervisor, register, and take over what is assigned. Raises SetupError when the host cannot run."""
        facts = await self.hypervisor.open(self.hear)
        described = msgspec.to_builtins(facts)
        self._epoch = await self._control.register(
            self.config.name, availability_zone=self.config.availability_zone, facts=described
        )
        self._poll = asyncio.create_task(self._poll_forever(), name="agent-poll")

    async def close(self) -> None:
        """Stop looking and let go of the hypervisor; guests keep running."""
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.gather(self._poll, return_exceptions=True)
        await self._servers_reconciler.close()
        await self._paths_reconciler.close()
        await self.effects.drain(DRAIN_S)
        await self.hypervisor.close()

    async def _poll_forever(self) -> None:
        since = 0
        while True:
            try:
                found = await self._control.changes(self.config.name, since)
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("poll failed", host=self.config.name)
                await asyncio.sleep(POLL_AGAIN_S)
                continue
            first = since == 0
            since = max(since, found.version)
            self._take(found, first=first)
            if first:
                await self._compare()

    def _take(self, found: Assignments, *, first: bool) -> None:
        for server in found.servers:
            if server.rung is ServerRung.GONE:
                self._forget_server(server.id)
                continue
            self.servers[server.id] = server
            if first:
                self.suspect.add(server.id)
            self.wake_server(server.id)
        for path in found.paths:
            if path.hands is not Hands.HOST:
                self.forget_path(path.id)
                continue
            self.paths[path.id] = path
            self._paths_of[path.server_id].add(path.id)
            if first:
                self.suspect.add(path.id)
            self._paths_reconciler.wake(path.id)

    async def _compare(self) -> None:
        """After the first poll: say what runs here that no record names. Nothing is removed for being unknown (L3)."""
        try:
            views = await self.hypervisor.observe_all()
        except Exception:
            log.warning("census failed", host=self.config.name, exc_info=True)
            return
        for view in views:
            if view.server_id not in self.servers:
                log.error("unknown server on this host", server=view.server_id, power=view.power.value)

    def hear(self, event: Event) -> None:
        """An event of the hypervisor: only a reason to look."""
        if event.kind is EventKind.RECONNECTED:
            for server_id in list(self.servers):
                self._suspect_server(server_id)
            return
        if event.kind is EventKind.DISK_REMOVED:
            self.removed.add(event.alias)
        elif event.kind is EventKind.REBOOTED:
            self.rebooted.add(event.server_id)
        if event.server_id in self.servers:
            self._suspect_server(event.server_id)

    def _suspect_server(self, server_id: str) -> None:
        self.suspect.add(server_id)
        self.suspect.update(self._paths_of[server_id])
        self.wake_server(server_id)

    def wake_server(self, server_id: str) -> None:
        """Look at the server and at its paths."""
        self._servers_reconciler.wake(server_id)
        for path_id in self._paths_of[server_id]:
            self._paths_reconciler.wake(path_id)

    async def report_server(self, report: ServerReport, *, moved: bool) -> None:
        """Tell the control plane; after a move the old assignment no longer holds, and the poll brings the new one."""
        if moved:
            self.servers.pop(report.server_id, None)
        await self._control.report(self.config.name, self._epoch, (report,), ())

    async def report_path(self, report: PathReport, *, moved: bool) -> None:
        """Tell the control plane; after a move the old assignment no longer holds, and the poll brings the new one."""
        if moved:
            self.paths.pop(report.path_id, None)
        await self._control.report(self.config.name, self._epoch, (), (report,))

    def forget_path(self, path_id: str) -> None:
        """The path is not this host's any more."""
        path = self.paths.pop(path_id, None)
        self.suspect.discard(path_id)
        for paths in (self._paths_of.values() if path is None else (self._paths_of[path.server_id],)):
            paths.discard(path_id)

    def _forget_server(self, server_id: str) -> None:
        self.servers.pop(server_id, None)
        self._paths_of.pop(server_id, None)
        self.suspect.discard(server_id)
        self.rebooted.discard(server_id)
        self.server_looks.forget(server_id)
        self.effects.forget(server_id)
