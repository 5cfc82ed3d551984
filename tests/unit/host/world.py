"""An agent with a control plane in memory and a simulated hypervisor: what the agent does is all that is real."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    SwapReport,
)
from kevel.domain.copies import CopyState
from kevel.domain.errors import Fenced, StepRetry
from kevel.domain.ladder import Goal, Hands, Rung
from kevel.domain.limits import Limits
from kevel.domain.model import GIB, BootKind, ServerGoal, ServerRung
from kevel.domain.questions import Answer, Look, Question, ServerUsage
from kevel.domain.tuning import DiskTune
from kevel.host.agent import Agent
from kevel.host.state import HostConfig, HostState
from kevel.hypervisor.base import CopySpec, CopyView, Disks, RootCopySpec
from kevel.hypervisor.sim import SimHypervisor
from kevel.runtime.ports import SystemClock, SystemIds
from kevel.storage.base import ConnectionInfo, LocalDisk, VolumeFile

ALIAS = "ua-attachment"
#: Short waits, so that refusals and hung calls are over soon.
SOON_S, LATER_S = 0.15, 60.0
LIMITS = Limits(
    server_timeout_s=LATER_S / 2,  # requests seem to come from the near future, so that their guests have time
    unplug_ask_again_s=0.05,
    unplug_look_s=0.01,
    shutdown_grace_s=0.05,
    reboot_grace_s=0.05,
    effect_wait_s=0.5,
)


def after_us(seconds: float) -> int:
    return time.time_ns() // 1000 + int(seconds * 1e6)


def assigned_server(**changes: Any) -> ServerAssignment:
    server = ServerAssignment(
        id="server",
        goal=ServerGoal.RUNNING,
        goal_revision=1,
        deadline_at=after_us(LATER_S),
        rung=ServerRung.PLACED,
        revision=1,
        wanted_boot=1,
        boot=0,
        boot_kind=BootKind.HARD,
        launched=False,
        flavor={"vcpus": 1, "ram_mib": 64, "disk_gib": 0, "extra_specs": {}},
        image={"disk_format": "raw", "file": "images/one"},
    )
    return msgspec.structs.replace(server, **changes)


def assigned_path(**changes: Any) -> PathAssignment:
    path = PathAssignment(
        id="path",
        attachment_id="attachment",
        volume_id="volume",
        server_id="server",
        generation=1,
        rung=Rung.EXPORTED,
        hands=Hands.HOST,
        revision=1,
        goal=Goal.ATTACHED,
        goal_revision=1,
        goal_by="user",
        deadline_at=after_us(LATER_S),
        established=False,
        server_wanted=True,
        connection_info={"driver_volume_type": "fake", "data": {}},
        volume_bytes=GIB,
        volume_format="raw",
        plugged_bytes=None,
        device="/dev/sdb",
        bus="scsi",
        unit=1,
        read_only=False,
        shareable=False,
        effect_free=(),
    )
    return msgspec.structs.replace(path, **changes)


class FakeControl:
    """The control plane's side, as far as an agent sees it: reports move rows whose revision they name."""

    def __init__(self) -> None:
        self.servers: dict[str, ServerAssignment] = {}
        self.paths: dict[str, PathAssignment] = {}
        self.copies: dict[str, CopyAssignment] = {}
        self.swap_reports: list[SwapReport] = []
        self.copy_reports: list[CopyReport] = []
        self.path_reports: list[PathReport] = []
        self.server_reports: list[ServerReport] = []
        self.censuses: list[HostCensus] = []
        self.questions: list[Question] = []
        self.answers: list[Answer] = []
        self.census_wanted = 0
        #: Reports that get lost on their way.
        self.lose_next = 0
        #: How long a poll's answer is on its way.
        self.poll_takes_s = 0.0
        #: Reports that are taken, and whose answers get lost.
        self.lose_answer_next = 0
        self.epoch = 0
        self._version = 1
        self._stamps: dict[str, int] = {}
        self._news = asyncio.Event()

    async def register(self, host: str, *, availability_zone: str, facts: Mapping[str, Any]) -> int:
        self.epoch += 1
        return self.epoch

    async def changes(self, host: str, since: int) -> Assignments:
        while self._version <= since and not self.questions:
            self._news.clear()
            await self._news.wait()
        await asyncio.sleep(self.poll_takes_s)
        questions, self.questions = tuple(self.questions), []
        return Assignments(
            questions=questions,
            version=self._version,
            epoch=self.epoch,
            servers=tuple(one for one in self.servers.values() if self._stamps[one.id] > since),
            paths=tuple(one for one in self.paths.values() if self._stamps[one.id] > since),
            copies=tuple(
                one for one in self.copies.values() if self._stamps[one.id] > since and (one.live or since > 0)
            ),
            census_wanted=self.census_wanted,
        )

    async def take_census(self, host: str, epoch: int, census: HostCensus) -> None:
        assert epoch == self.epoch
        self.censuses.append(census)

    async def answer(self, host: str, answer: Answer) -> None:
        self.answers.append(answer)

    async def report(
        self, host: str, epoch: int, servers: tuple[ServerReport, ...], paths: tuple[PathReport, ...]
    ) -> None:
        if epoch != self.epoch:
            raise Fenced
        if self.lose_next:
            self.lose_next -= 1
            raise ConnectionError("the report was lost")
        for server in servers:
            self._take_server(server)
        for path in paths:
            self._take_path(path)
        if self.lose_answer_next:
            self.lose_answer_next -= 1
            raise ConnectionError("the answer was lost")

    async def report_swap(self, host: str, epoch: int, report: SwapReport) -> None:
        if epoch != self.epoch:
            raise Fenced
        if self.lose_next:
            self.lose_next -= 1
            raise ConnectionError("the report was lost")
        self.swap_reports.append(report)

    async def report_copy(self, host: str, epoch: int, report: CopyReport) -> None:
        if epoch != self.epoch:
            raise Fenced
        if self.lose_next:
            self.lose_next -= 1
            raise ConnectionError("the report was lost")
        self.copy_reports.append(report)
        known = self.copies[report.copy_id]
        if report.revision == known.revision and report.state is not CopyState.WANTED:
            self.put(msgspec.structs.replace(known, state=report.state, revision=known.revision + 1, live=False))

    def _take_server(self, report: ServerReport) -> None:
        self.server_reports.append(report)
        known = self.servers[report.server_id]
        shape = known.shape if report.shape is None else report.shape
        seen = (report.rung, report.boot, shape)
        if report.revision == known.revision and seen != (known.rung, known.boot, known.shape):
            self.put(
                msgspec.structs.replace(
                    known,
                    rung=report.rung,
                    boot=report.boot,
                    shape=shape,
                    revision=known.revision + 1,
                    launched=known.launched or report.rung is ServerRung.RUNNING,
                )
            )
        if report.ended is not None:
            self.change_server(goal=ServerGoal.STOPPED, wanted_boot=report.boot)

    def _take_path(self, report: PathReport) -> None:
        self.path_reports.append(report)
        known = self.paths[report.path_id]
        seen = (report.rung, report.hands, report.plugged_bytes)
        if report.revision == known.revision and seen != (known.rung, known.hands, known.plugged_bytes):
            self.put(
                msgspec.structs.replace(
                    known,
                    rung=report.rung,
                    hands=report.hands,
                    plugged_bytes=report.plugged_bytes,
                    revision=known.revision + 1,
                    established=known.established or report.rung is Rung.PLUGGED,
                )
            )

    def ask(self, *looks: Look) -> None:
        """Requests wait for these looks; their questions are numbered from 0."""
        self.questions += [Question(id=str(number), look=look) for number, look in enumerate(looks)]
        self._news.set()

    def repeat_registration(self) -> None:
        """The network carries the agent's registration a second time."""
        self.epoch += 1
        self._version += 1
        self._news.set()

    def put(self, row: ServerAssignment | PathAssignment | CopyAssignment) -> None:
        """Enter or change a row; the agent's poll brings it."""
        self._version += 1
        self._stamps[row.id] = self._version
        if isinstance(row, ServerAssignment):
            self.servers[row.id] = row
        elif isinstance(row, CopyAssignment):
            self.copies[row.id] = row
        else:
            self.paths[row.id] = row
        self._news.set()

    def change_path(self, **changes: Any) -> None:
        """A new request for the path: its goal's revision is raised, as a user's detach does."""
        path = self.paths["path"]
        self.put(msgspec.structs.replace(path, goal_revision=path.goal_revision + 1, **changes))

    def change_server(self, **changes: Any) -> None:
        server = self.servers["server"]
        more = {"goal_revision": server.goal_revision + 1, "revision": server.revision + 1}
        self.put(msgspec.structs.replace(server, **more, **changes))

    @property
    def path(self) -> PathAssignment:
        return self.paths["path"]

    @property
    def server(self) -> ServerAssignment:
        return self.servers["server"]

    @property
    def rungs(self) -> list[Rung]:
        """The rungs that were reported, failures left out."""
        return [report.rung for report in self.path_reports if report.failure is None]

    @property
    def failures(self) -> list[tuple[str, bool]]:
        """Codes of the failures that were reported of the path, and whether each was final."""
        found = [report.failure for report in self.path_reports if report.failure is not None]
        return [(failure.reason.code, failure.final) for failure in found]


class WatchedHypervisor(SimHypervisor):
    """The simulated hypervisor, with a log of its calls, and hooks that a call waits for or fails with."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.hooks: dict[str, list[Callable[[], Any]]] = {}
        self.plugs_at_once = 0
        self.plugs_at_once_max = 0

    async def _note(self, name: str) -> None:
        self.calls.append(name)
        if self.hooks.get(name):
            outcome = self.hooks[name].pop(0)()
            if asyncio.iscoroutine(outcome):
                await outcome

    def fail_next(self, name: str, *errors: Exception) -> None:
        """The next calls of that name raise these."""

        def raising(error: Exception) -> Callable[[], None]:
            def fail() -> None:
                raise error

            return fail

        self.hooks.setdefault(name, []).extend(raising(error) for error in errors)

    def count(self, name: str) -> int:
        return self.calls.count(name)

    async def define_server(self, spec: Any) -> None:
        await self._note("define_server")
        await super().define_server(spec)

    async def read_console(self, server_id: str, bytes_max: int) -> bytes:
        await self._note("read_console")
        return await super().read_console(server_id, bytes_max)

    async def measure_server(self, server_id: str) -> ServerUsage | None:
        await self._note("measure_server")
        return await super().measure_server(server_id)

    async def start_server(self, server_id: str, disks: Disks) -> tuple[str, ...]:
        await self._note("start_server")
        return await super().start_server(server_id, disks)

    async def ask_reboot(self, server_id: str) -> None:
        await self._note("ask_reboot")
        await super().ask_reboot(server_id)

    async def power_off(self, server_id: str) -> None:
        await self._note("power_off")
        await super().power_off(server_id)

    async def pause_guest(self, server_id: str) -> None:
        await self._note("pause_guest")
        await super().pause_guest(server_id)

    async def unpause_guest(self, server_id: str) -> None:
        await self._note("unpause_guest")
        await super().unpause_guest(server_id)

    async def suspend_guest(self, server_id: str) -> None:
        await self._note("suspend_guest")
        await super().suspend_guest(server_id)

    async def resume_guest(self, server_id: str, disks: Disks) -> None:
        await self._note("resume_guest")
        await super().resume_guest(server_id, disks)

    async def undefine_server(self, server_id: str) -> None:
        await self._note("undefine_server")
        await super().undefine_server(server_id)

    async def observe_server(self, server_id: str) -> Any:
        await self._note("observe_server")
        return await super().observe_server(server_id)

    async def plug_disk(self, server_id: str, disk: Any) -> None:
        self.plugs_at_once += 1
        self.plugs_at_once_max = max(self.plugs_at_once_max, self.plugs_at_once)
        try:
            await self._note("plug_disk")
            await super().plug_disk(server_id, disk)
        finally:
            self.plugs_at_once -= 1

    async def unplug_disk(self, server_id: str, alias: str) -> bool:
        await self._note("unplug_disk")
        return await super().unplug_disk(server_id, alias)

    async def resize_disk(self, server_id: str, alias: str, size_bytes: int) -> None:
        await self._note("resize_disk")
        await super().resize_disk(server_id, alias, size_bytes)

    async def tune_disk(self, server_id: str, alias: str, tune: DiskTune) -> None:
        await self._note("tune_disk")
        await super().tune_disk(server_id, alias, tune)

    async def copy_disk(self, server_id: str, copy: CopySpec) -> CopyView | None:
        await self._note("copy_disk")
        return await super().copy_disk(server_id, copy)

    async def copy_root(self, server_id: str, copy: RootCopySpec) -> CopyView | None:
        await self._note("copy_root")
        return await super().copy_root(server_id, copy)

    async def end_copy(self, server_id: str, copy_id: str) -> None:
        await self._note("end_copy")
        await super().end_copy(server_id, copy_id)

    def live(self, alias: str = ALIAS) -> bool:
        return "server" in self.servers and alias in self.servers["server"].live

    def persistent(self, alias: str = ALIAS) -> bool:
        return "server" in self.servers and alias in self.servers["server"].persistent

    def behave(self, **traits: str) -> None:
        """Tell the guest how to behave from now on: plug="refuse", unplug="slow:1", shutdown="refuse"."""
        server = self.servers["server"]
        named = {f"sim:{name}": word for name, word in traits.items()}
        server.spec = msgspec.structs.replace(server.spec, traits=named)


class FakeConnector:
    """A host's connection that refuses to go while the guest has the disk (S4)."""

    def __init__(self, hypervisor: WatchedHypervisor) -> None:
        self._hypervisor = hypervisor
        self.connected: set[str] = set()
        self.calls: list[str] = []
        #: The storage's server is there and hangs.
        self.silent = False

    async def connect_volume(self, volume: VolumeFile, info: ConnectionInfo) -> LocalDisk:
        self.calls.append("connect")
        self.connected.add(volume.volume_id)
        return LocalDisk(path=f"/fake/{volume.volume_id}", format=volume.format, size_bytes=volume.size_bytes)

    async def disconnect_volume(self, volume: VolumeFile, info: ConnectionInfo) -> None:
        self.calls.append("disconnect")
        assert not self._hypervisor.live(), "S4: the disk goes before the connection"
        assert not self._hypervisor.persistent(), "S4: from the definition too"
        self.connected.discard(volume.volume_id)

    async def check_server(self, volume: VolumeFile, info: ConnectionInfo) -> None:
        if self.silent:
            raise StepRetry("The storage's server does not answer.")


@dataclass
class World:
    """All of it."""

    control: FakeControl = field(default_factory=FakeControl)
    hypervisor: WatchedHypervisor = field(default_factory=WatchedHypervisor)

    def __post_init__(self) -> None:
        self.connector = FakeConnector(self.hypervisor)

    @asynccontextmanager
    async def agent(self, limits: Limits = LIMITS) -> AsyncIterator[Agent]:
        """One life of the agent."""
        config = HostConfig(name="here", availability_zone="nova", data_dir=Path("/data"), limits=limits)
        state = HostState(config, self.hypervisor, {"fake": self.connector}, self.control, SystemClock())
        agent = Agent(state, SystemIds())
        await agent.start()
        try:
            yield agent
        finally:
            await agent.close()

    @asynccontextmanager
    async def running(self, **path_changes: Any) -> AsyncIterator[Agent]:
        """An agent with a running server; with changes for a path, that path as well, plugged."""
        self.control.put(assigned_server())
        async with self.agent() as agent:
            await until(lambda: self.control.server.rung is ServerRung.RUNNING)
            if path_changes:
                await self.attach(**path_changes)
            yield agent

    async def attach(self, **changes: Any) -> None:
        self.control.put(assigned_path(**changes))
        await until(lambda: self.control.path.rung is Rung.PLUGGED)

    def detach(self, within_s: float = LATER_S) -> None:
        self.control.change_path(goal=Goal.DETACHED, deadline_at=after_us(within_s))


async def until(reached: Callable[[], object], timeout_s: float = 5.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not reached():
            await asyncio.sleep(0.002)


async def quiet(seconds: float = 0.1) -> None:
    """Long enough for anything that is still going to happen."""
    await asyncio.sleep(seconds)
