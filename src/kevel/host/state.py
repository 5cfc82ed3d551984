"""What the agent knows in this life: its assignments, what events said, and the ports it acts through."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from kevel.domain.assignments import (
    Assignments,
    CopyAssignment,
    CopyReport,
    HostCensus,
    PathAssignment,
    PathReport,
    ServerAssignment,
    ServerReport,
    SwapAssignment,
    SwapReport,
)
from kevel.domain.errors import StepRetry
from kevel.domain.limits import Limits
from kevel.domain.questions import Answer
from kevel.domain.swaps import SwapState
from kevel.host.effects import Effects
from kevel.hypervisor.base import Hypervisor
from kevel.runtime.ports import Clock
from kevel.storage.base import Connector


class ControlPlane(Protocol):
    """What the agent calls: in one process directly, else over HTTPS."""

    async def register(self, host: str, *, availability_zone: str, facts: Mapping[str, Any]) -> int: ...

    async def changes(self, host: str, since: int) -> Assignments: ...

    async def report(
        self, host: str, epoch: int, servers: tuple[ServerReport, ...], paths: tuple[PathReport, ...]
    ) -> None: ...

    async def report_copy(self, host: str, epoch: int, report: CopyReport) -> None: ...

    async def report_swap(self, host: str, epoch: int, report: SwapReport) -> None: ...

    async def take_census(self, host: str, epoch: int, census: HostCensus) -> None: ...

    async def answer(self, host: str, answer: Answer) -> None: ...


class HostConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Who this host is."""

    name: str
    availability_zone: str
    #: Where images lie; assignments name files relative to it.
    data_dir: Path
    limits: Limits


class HostState:
    """Shared by the looks. Nothing of it must survive a restart: forgetting it costs time only."""

    def __init__(
        self,
        config: HostConfig,
        hypervisor: Hypervisor,
        connectors: Mapping[str, Connector],
        control: ControlPlane,
        clock: Clock,
    ) -> None:
        self.config = config
        self.limits = config.limits
        self.hypervisor = hypervisor
        self.connectors = connectors
        self.control = control
        self.clock = clock
        self.epoch = 0
        #: Has the control plane been heard lately? Without it, nothing is plugged and no guest is started.
        self.has_lease: Callable[[], bool] = lambda: True
        self.effects = Effects(config.limits.effect_wait_s)
        self.servers: dict[str, ServerAssignment] = {}
        self.paths: dict[str, PathAssignment] = {}
        #: The aliases of a server's disks, by path: what the host holds of it, also while a path's next assignment is
        #: on its way.
        self.paths_of: defaultdict[str, dict[str, str]] = defaultdict(dict)
        #: Tombstones of disks that are here all the same, by path: their disks are removed.
        self.left: dict[str, PathAssignment] = {}
        self.copies: dict[str, CopyAssignment] = {}
        self.swaps: dict[str, SwapAssignment] = {}
        #: The newest revision that has been reported on, by path, server or copy: what is older is not acted on again.
        self.reported: dict[str, int] = {}
        #: Aliases of disks that an event says are gone: looked at without asking the guest again.
        self.removed: set[str] = set()
        #: Servers that an event says have rebooted.
        self.rebooted: set[str] = set()
        #: Servers and paths whose reality may have moved without us.
        self.suspect: set[str] = set()
        #: Deleted servers whose domain has been seen to be gone.
        self.undefined: set[str] = set()
        #: Servers whose last report may have been recorded, though its answer never came: what is assigned now decides.
        self.unsure: set[str] = set()
        #: Set when everything that is assigned must be read again at once.
        self.read_again = asyncio.Event()
        #: Puts a server and its paths up for a look; set by the agent.
        self.wake_server: Callable[[str], None] = lambda server_id: None

    def check_lease(self) -> None:
        """Raise StepRetry when what is assigned may be long outdated."""
        if not self.has_lease():
            raise StepRetry("The control plane has not been heard of for a while; nothing new is begun without it.")

    def current_server(self, server_id: str) -> ServerAssignment | None:
        """The server's assignment, unless it is older than what has been reported."""
        server = self.servers.get(server_id)
        return None if server is None or server.revision <= self.reported.get(server_id, 0) else server

    def current_path(self, path_id: str) -> PathAssignment | None:
        """The path's assignment, unless it is older than what has been reported."""
        path = self.paths.get(path_id)
        return None if path is None or path.revision <= self.reported.get(path_id, 0) else path

    def current_copy(self, copy_id: str) -> CopyAssignment | None:
        """The copy's order, unless it is older than what has been reported."""
        copy = self.copies.get(copy_id)
        return None if copy is None or copy.revision <= self.reported.get(copy_id, 0) else copy

    def current_swap(self, swap_id: str) -> SwapAssignment | None:
        """The swap's assignment, unless it is older than what has been reported."""
        swap = self.swaps.get(swap_id)
        return None if swap is None or swap.revision <= self.reported.get(swap_id, 0) else swap

    def is_pivoting(self, path_id: str) -> bool:
        """May the path's disk have become another volume at any moment?"""
        return any(swap.old_path_id == path_id and swap.state is SwapState.PIVOTING for swap in self.swaps.values())

    async def report_server(self, report: ServerReport, *, moved: bool) -> None:
        """Tell the control plane; after a move the old assignment no longer holds, and the poll brings the new one.

        When no answer comes, nobody knows which assignment holds: it is read again before the next look acts.
        """
        try:
            await self.control.report(self.config.name, self.epoch, (report,), ())
        except BaseException:
            self.unsure.add(report.server_id)
            self.read_again.set()
            raise
        if not moved:
            return
        self.reported[report.server_id] = report.revision
        known = self.servers.get(report.server_id)
        # A poll may have brought a newer one during the look: that one must not be forgotten.
        if known is not None and known.revision == report.revision:
            del self.servers[report.server_id]

    async def report_path(self, report: PathReport, *, moved: bool) -> None:
        """The same for a path, whose steps may be done again: when no answer comes, its assignment still holds."""
        await self.control.report(self.config.name, self.epoch, (), (report,))
        if not moved:
            return
        self.reported[report.path_id] = report.revision
        known = self.paths.get(report.path_id)
        if known is not None and known.revision == report.revision:
            del self.paths[report.path_id]

    async def report_copy(self, report: CopyReport, *, ended: bool) -> None:
        """The same for a copy."""
        await self.control.report_copy(self.config.name, self.epoch, report)
        if ended:
            self.reported[report.copy_id] = report.revision

    async def report_swap(self, report: SwapReport, *, moved: bool) -> None:
        """The same for a swap, whose steps may be done again: when no answer comes, its assignment still holds."""
        await self.control.report_swap(self.config.name, self.epoch, report)
        if moved:
            self.reported[report.swap_id] = report.revision

    def forget_swap(self, swap_id: str) -> None:
        """The swap is over."""
        self.swaps.pop(swap_id, None)
        self.reported.pop(swap_id, None)

    def forget_copy(self, copy_id: str) -> None:
        """The order is over."""
        self.copies.pop(copy_id, None)
        self.reported.pop(copy_id, None)

    def forget_path(self, path_id: str) -> None:
        """The path is not this host's any more."""
        self.paths.pop(path_id, None)
        self.reported.pop(path_id, None)
        self.suspect.discard(path_id)
        for paths in self.paths_of.values():
            paths.pop(path_id, None)

    def forget_server(self, server_id: str) -> None:
        """The server is gone."""
        self.servers.pop(server_id, None)
        self.reported.pop(server_id, None)
        self.paths_of.pop(server_id, None)
        self.left = {path_id: path for path_id, path in self.left.items() if path.server_id != server_id}
        self.suspect.discard(server_id)
        self.unsure.discard(server_id)
        self.rebooted.discard(server_id)
        self.undefined.discard(server_id)
        self.effects.forget(server_id)
