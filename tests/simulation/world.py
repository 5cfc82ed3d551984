"""The ground truth: storage and hypervisors, and calls that start, take effect and answer apart."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from contextvars import Context, copy_context
from typing import Any, Protocol, TypeVar

import msgspec

from kevel.domain.errors import StepNever, StepRetry, StepUnknown
from kevel.domain.ladder import Rung
from kevel.domain.questions import HostUsage, ServerUsage
from kevel.domain.tuning import DiskTune
from kevel.hypervisor.base import (
    CopySpec,
    CopyView,
    Disks,
    DiskSpec,
    DomainSpec,
    Event,
    HostFacts,
    RootCopySpec,
    ServerView,
    SwapSpec,
    SwapView,
)
from kevel.hypervisor.sim import SimHypervisor
from kevel.storage.base import (
    Capacity,
    ConnectionInfo,
    CopyWatch,
    Export,
    ExportName,
    ImageFile,
    LocalDisk,
    LocalFile,
    PoolFile,
    SnapshotFile,
    Source,
    VolumeFile,
)
from kevel.storage.sim import SimBackend, SimConnector
from tests.simulation.backups import SimBackups
from tests.simulation.faults import Fault, Faults, Kind
from tests.simulation.images import SimImages
from tests.simulation.loop import SimLoop

T = TypeVar("T")

#: A late effect lands within this time: beyond what a caller waits, within what a driver lets a call live.
LATE_S_MAX = 40.0
LATE_EVENT_S_MAX = 20.0


class Caller(Protocol):
    """The process that makes a call."""

    @property
    def number(self) -> int: ...

    @property
    def label(self) -> str: ...


class HostTruth:
    """One host: its hypervisor, and what it is connected to."""

    def __init__(self, name: str, backend: SimBackend) -> None:
        self.name = name
        self.hypervisor = SimHypervisor(copy_contents=backend.copy_contents)
        self.connector = SimConnector(backend)
        #: It has been without power: guests may run before their volumes are connected anew.
        self.lost_power = False
        #: What its hypervisor takes out of a definition is back after a loss of power.
        self.forgetful = False
        self._taken_out: dict[tuple[str, str], DiskSpec] = {}
        #: Disks that came back so, by server and alias: in definitions only, and until somebody takes them out again.
        self.came_back: set[tuple[str, str]] = set()

    def lose_power(self) -> None:
        """Every guest ends and every connection with it."""
        self.lost_power = True
        self.forget_jobs()
        for server_id in list(self.hypervisor.servers):
            self.hypervisor.crash_guest(server_id)
        self.connector.connected.clear()
        for (server_id, alias), disk in self._taken_out.items() if self.forgetful else ():
            server = self.hypervisor.servers.get(server_id)
            if server is not None and all(disk.unit != other.unit for other in server.persistent.values()):
                server.persistent[alias] = disk
                self.came_back.add((server_id, alias))
        self._taken_out.clear()

    async def unplug_disk(self, server_id: str, alias: str) -> bool:
        """As the hypervisor does, which remembers what it has taken out."""
        server = self.hypervisor.servers.get(server_id)
        disk = None if server is None else server.persistent.get(alias)
        gone = await self.hypervisor.unplug_disk(server_id, alias)
        if gone and disk is not None:
            self._taken_out[server_id, alias] = disk
        return gone

    async def plug_disk(self, server_id: str, disk: DiskSpec) -> None:
        """As the hypervisor does; what is put in again has not been left."""
        await self.hypervisor.plug_disk(server_id, disk)
        self._taken_out.pop((server_id, disk.alias), None)
        self.came_back.discard((server_id, disk.alias))

    def is_left(self, server_id: str, alias: str) -> bool:
        """Is the disk only there because a loss of power has brought it back?"""
        return (server_id, alias) in self.came_back and alias not in self.hypervisor.servers[server_id].live

    def forget_jobs(self) -> None:
        """What guests were asked and have not answered yet is forgotten, as by a hypervisor that starts again."""
        self.hypervisor.forget_jobs()


class World:
    """What really exists. It outlives every process of Kevel."""

    def __init__(
        self,
        loop: SimLoop,
        dice: random.Random,
        faults: Faults,
        hosts: list[str],
        *,
        effect_free: frozenset[Rung],
        forgetful: bool = False,
    ) -> None:
        self.loop = loop
        self.dice = dice
        self.faults = faults
        self.backend = SimBackend("sim", total_bytes=1 << 50, effect_free=effect_free)
        self.backups = SimBackups()
        self.images = SimImages()
        self.hosts = {name: HostTruth(name, self.backend) for name in hosts}
        for host in self.hosts.values():
            host.forgetful = forgetful
        #: Set by the run: ends the process of that number, another process than that, and a whole host.
        self.crash: Callable[[int], None] = lambda number: None
        self.crash_other: Callable[[int], None] = lambda number: None
        self.lose_power: Callable[[str | None], None] = lambda host: None
        #: Called after each effect, with its name.
        self.after_effect: Callable[[str], None] = lambda name: None
        self.tell: Callable[[str, str], None] = lambda who, what: None
        self.effects = 0
        #: Calls whose effect may still land although their process is dead, by that process.
        self._in_flight: dict[asyncio.Handle, int] = {}

    def make_call(
        self, caller: Caller, name: str, effect: Callable[[], Coroutine[Any, Any, T]], world: Context, host: str | None
    ) -> asyncio.Future[T]:
        """Start a call: its effect lands later, whoever may have died meanwhile, and its answer later still."""
        reply: asyncio.Future[T] = self.loop.create_future()
        fault = self.faults.strike(Kind.EFFECT, name, caller.label)
        if fault is not None:
            self.tell(caller.label, f"{name}: {fault.value}")
        number = caller.number

        def land() -> None:
            self._in_flight.pop(handle, None)
            error = self._refuse(fault, name)
            if error is not None:
                settle(None, error)
                return
            if fault is Fault.CRASH_BEFORE:
                self.crash(number)
                return
            result: Any = False if fault is Fault.IGNORED and name == "unplug_disk" else None
            if fault is not Fault.IGNORED:
                result, error = self._take_effect(name, effect)
                self.tell(caller.label, f"{name} -> {error or result}"[:160])
            self._strike_after(fault, number, host)
            if fault is Fault.LOST_REPLY:
                error = StepUnknown(f"{name}: the answer was lost")
            settle(result, error)

        def settle(result: Any, error: BaseException | None) -> None:
            self.loop.call_later(self.dice.random() * 0.005, _answer, reply, result, error, context=world)

        handle = self.loop.call_later(self._delay(fault), land, context=world)
        self._in_flight[handle] = number
        if fault is Fault.CRASH_UNDER_WAY:
            self.crash(number)
        return reply

    def _delay(self, fault: Fault | None) -> float:
        late_s = self.dice.random() * LATE_S_MAX if fault is Fault.LATE else 0.0
        return late_s + self.dice.random() * 0.01

    def _refuse(self, fault: Fault | None, name: str) -> BaseException | None:
        if fault is Fault.REFUSED:
            return StepRetry(f"{name}: refused for now")
        if fault is Fault.REFUSED_FOR_GOOD:
            return StepNever(f"{name}: refused for good")
        return None

    def _take_effect(self, name: str, effect: Callable[[], Coroutine[Any, Any, T]]) -> tuple[Any, BaseException | None]:
        error: BaseException | None = None
        result: Any = None
        try:
            result = run_at_once(effect())
        except Exception as caught:  # noqa: BLE001 - it is the call's answer
            error = caught
        self.effects += 1
        self.after_effect(name)
        return result, error

    def _strike_after(self, fault: Fault | None, number: int, host: str | None) -> None:
        if fault is Fault.CRASH_AFTER:
            self.crash(number)
        elif fault is Fault.CRASH_OTHER:
            self.crash_other(number)
        elif fault is Fault.HOST_DIES:
            self.lose_power(host)

    def drop_calls(self, number: int) -> None:
        """The machine that the calls of this process ran on is gone: none of them takes effect any more."""
        for handle in [one for one, issuer in self._in_flight.items() if issuer == number]:
            handle.cancel()
            del self._in_flight[handle]

    async def settle_calls(self, dead: set[int]) -> None:
        """Wait until no call of those processes can take effect any more: they end with it, before it or after it."""
        for handle in [one for one, issuer in self._in_flight.items() if issuer in dead]:
            if self.dice.random() < 0.3:
                handle.cancel()
                del self._in_flight[handle]
        while any(issuer in dead for issuer in self._in_flight.values()):
            await asyncio.sleep(0.05)

    def writers(self) -> Mapping[str, list[str]]:
        """For each volume, the guests that can write to it, suspended ones included: they go on as if they had it."""
        found: dict[str, list[str]] = {}
        for host in self.hosts.values():
            for server_id, server in host.hypervisor.servers.items():
                for disk in (*server.live.values(), *server.saved.values()):
                    found.setdefault(disk.source_path.removeprefix("/sim/volume-"), []).append(server_id)
        return found


def _answer(reply: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if reply.done():
        return
    if error is not None:
        reply.set_exception(error)
    else:
        reply.set_result(result)


def run_at_once(coro: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        coro.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coro.close()
    raise AssertionError("an effect of the ground truth must not wait")


class SimDriver:
    """The hypervisor port as one life of a host's agent has it."""

    def __init__(self, world: World, host: HostTruth, caller: Caller, outside: Context) -> None:
        self._world = world
        self._host = host
        self._truth = host.hypervisor
        self._caller = caller
        self._outside = outside

    async def open(self, listener: Callable[[Event], None]) -> HostFacts:
        inside = copy_context()

        def hear(event: Event) -> None:
            self._announce(event, listener, inside)

        return await self._truth.open(hear)

    def _announce(self, event: Event, listener: Callable[[Event], None], inside: Context) -> None:
        world = self._world
        fault = world.faults.strike(Kind.EVENT, event.kind.value, self._caller.label)
        if fault is not None:
            world.tell(self._caller.label, f"event {event.kind.value}: {fault.value}")
        if fault is Fault.LOST:
            return
        for _ in range(2 if fault is Fault.REPEATED else 1):
            wait_s = world.dice.random() * (LATE_EVENT_S_MAX if fault is Fault.LATE else 0.01)
            world.loop.call_later(wait_s, listener, event, context=inside)

    async def close(self) -> None:
        return

    async def _call(self, name: str, effect: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await self._world.make_call(self._caller, name, effect, self._outside, self._host.name)

    async def define_server(self, spec: DomainSpec) -> None:
        await self._call("define_server", lambda: self._truth.define_server(spec))

    async def start_server(self, server_id: str, disks: Disks) -> tuple[str, ...]:
        return await self._call("start_server", lambda: self._start_server(server_id, disks))

    async def _start_server(self, server_id: str, disks: Disks) -> tuple[str, ...]:
        strays = await self._truth.start_server(server_id, disks)
        self._open_disks(server_id)
        return strays

    async def pause_guest(self, server_id: str) -> None:
        await self._call("pause_guest", lambda: self._truth.pause_guest(server_id))

    async def unpause_guest(self, server_id: str) -> None:
        await self._call("unpause_guest", lambda: self._truth.unpause_guest(server_id))

    async def suspend_guest(self, server_id: str) -> None:
        await self._call("suspend_guest", lambda: self._truth.suspend_guest(server_id))

    async def resume_guest(self, server_id: str, disks: Disks) -> None:
        await self._call("resume_guest", lambda: self._resume_guest(server_id, disks))

    async def _resume_guest(self, server_id: str, disks: Disks) -> None:
        await self._truth.resume_guest(server_id, disks)
        self._open_disks(server_id)

    def _open_disks(self, server_id: str) -> None:
        # A guest that starts opens its disks as large as they are by then.
        live, volumes = self._truth.servers[server_id].live, self._world.backend.volumes
        for alias, disk in live.items():
            if (volume := volumes.get(disk.source_path.removeprefix("/sim/volume-"))) is not None:
                live[alias] = msgspec.structs.replace(disk, size_bytes=max(disk.size_bytes, volume.size_bytes))

    async def read_console(self, server_id: str, bytes_max: int) -> bytes:
        return await self._call("read_console", lambda: self._truth.read_console(server_id, bytes_max))

    async def measure_server(self, server_id: str) -> ServerUsage | None:
        return await self._call("measure_server", lambda: self._truth.measure_server(server_id))

    async def measure_host(self) -> HostUsage:
        return await self._call("measure_host", self._truth.measure_host)

    async def ask_shutdown(self, server_id: str) -> None:
        await self._call("ask_shutdown", lambda: self._truth.ask_shutdown(server_id))

    async def ask_reboot(self, server_id: str) -> None:
        await self._call("ask_reboot", lambda: self._truth.ask_reboot(server_id))

    async def power_off(self, server_id: str) -> None:
        await self._call("power_off", lambda: self._truth.power_off(server_id))

    async def undefine_server(self, server_id: str) -> None:
        await self._call("undefine_server", lambda: self._truth.undefine_server(server_id))

    async def observe_server(self, server_id: str) -> ServerView | None:
        return await self._call("observe_server", lambda: self._truth.observe_server(server_id))

    async def observe_all(self) -> list[ServerView]:
        return await self._call("observe_all", self._truth.observe_all)

    async def plug_disk(self, server_id: str, disk: DiskSpec) -> None:
        await self._call("plug_disk", lambda: self._host.plug_disk(server_id, disk))

    async def unplug_disk(self, server_id: str, alias: str) -> bool:
        return await self._call("unplug_disk", lambda: self._host.unplug_disk(server_id, alias))

    async def resize_disk(self, server_id: str, alias: str, size_bytes: int) -> None:
        await self._call("resize_disk", lambda: self._truth.resize_disk(server_id, alias, size_bytes))

    async def tune_disk(self, server_id: str, alias: str, tune: DiskTune) -> None:
        await self._call("tune_disk", lambda: self._truth.tune_disk(server_id, alias, tune))

    async def copy_disk(self, server_id: str, copy: CopySpec) -> CopyView | None:
        return await self._call("copy_disk", lambda: self._truth.copy_disk(server_id, copy))

    async def copy_root(self, server_id: str, copy: RootCopySpec) -> CopyView | None:
        return await self._call("copy_root", lambda: self._truth.copy_root(server_id, copy))

    async def end_copy(self, server_id: str, copy_id: str) -> None:
        await self._call("end_copy", lambda: self._truth.end_copy(server_id, copy_id))

    async def swap_disk(self, server_id: str, swap: SwapSpec, *, pivot: bool) -> SwapView | None:
        return await self._call("swap_disk", lambda: self._truth.swap_disk(server_id, swap, pivot=pivot))

    async def end_swap(self, server_id: str, new_path: str) -> bool:
        return await self._call("end_swap", lambda: self._truth.end_swap(server_id, new_path))


class SimPool:
    """The back end's port as one life of the control plane has it."""

    def __init__(self, world: World, caller: Caller, outside: Context) -> None:
        self._world = world
        self._caller = caller
        self._outside = outside
        self._truth = world.backend
        self.name = world.backend.name
        self.volume_format = world.backend.volume_format
        self.effect_free = world.backend.effect_free
        self.protocol = "sim"
        self.can_revoke = True

    async def _call(self, name: str, effect: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await self._world.make_call(self._caller, name, effect, self._outside, None)

    async def open(self) -> None:
        return

    async def create_volume(self, volume: VolumeFile) -> None:
        await self._call("create_volume", lambda: self._truth.create_volume(volume))

    async def grow_volume(self, volume: VolumeFile) -> None:
        await self._call("grow_volume", lambda: self._truth.grow_volume(volume))

    async def delete_volume(self, volume: VolumeFile) -> None:
        await self._call("delete_volume", lambda: self._truth.delete_volume(volume))

    async def create_volume_from(self, volume: VolumeFile, source: Source, watch: CopyWatch) -> None:
        await self._call("create_volume_from", lambda: self._truth.create_volume_from(volume, source, watch))

    async def rewrite_volume(self, volume: VolumeFile, source: Source, watch: CopyWatch) -> None:
        await self._call("rewrite_volume", lambda: self._truth.rewrite_volume(volume, source, watch))

    async def create_snapshot(self, snapshot: SnapshotFile, source: VolumeFile, watch: CopyWatch) -> None:
        await self._call("create_snapshot", lambda: self._truth.create_snapshot(snapshot, source, watch))

    async def delete_snapshot(self, snapshot: SnapshotFile) -> None:
        await self._call("delete_snapshot", lambda: self._truth.delete_snapshot(snapshot))

    async def list_snapshots(self) -> list[str]:
        return await self._call("list_snapshots", self._truth.list_snapshots)

    async def write_image(self, image: ImageFile, source: PoolFile, watch: CopyWatch) -> None:
        await self._call("write_image", lambda: self._truth.write_image(image, source, watch))

    def read_contents(self, source: PoolFile, *, sealed: bool = False) -> AbstractAsyncContextManager[LocalFile]:
        return self._truth.read_contents(source, sealed=sealed)

    def write_contents(self, volume: VolumeFile) -> AbstractAsyncContextManager[LocalFile]:
        return self._truth.write_contents(volume)

    async def make_target(self, target: PoolFile) -> str:
        return await self._call("make_target", lambda: self._truth.make_target(target))

    async def seal_target(self, target: PoolFile, watch: CopyWatch) -> None:
        await self._call("seal_target", lambda: self._truth.seal_target(target, watch))

    async def list_files(self) -> list[str]:
        return await self._call("list_files", self._truth.list_files)

    async def measure_file(self, name: str, disk_format: str) -> int:
        return await self._call("measure_file", lambda: self._truth.measure_file(name, disk_format))

    async def take_file(self, file: PoolFile, name: str) -> None:
        await self._call("take_file", lambda: self._truth.take_file(file, name))

    async def list_volumes(self) -> list[str]:
        return await self._call("list_volumes", self._truth.list_volumes)

    async def list_exports(self) -> list[ExportName]:
        return await self._call("list_exports", self._truth.list_exports)

    async def capacity(self) -> Capacity:
        return await self._truth.capacity()

    def describe_export(self, export: Export) -> ConnectionInfo:
        return self._truth.describe_export(export)

    async def export_volume(self, export: Export) -> ConnectionInfo:
        return await self._call("export_volume", lambda: self._truth.export_volume(export))

    async def revoke_export(self, export: Export) -> None:
        await self._call("revoke_export", lambda: self._truth.revoke_export(export))


class SimReach:
    """The connector's port as one life of a host's agent has it."""

    def __init__(self, world: World, host: HostTruth, caller: Caller, outside: Context) -> None:
        self._world = world
        self._host = host
        self._caller = caller
        self._outside = outside

    async def _call(self, name: str, effect: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await self._world.make_call(self._caller, name, effect, self._outside, self._host.name)

    async def connect_volume(self, volume: VolumeFile, info: ConnectionInfo) -> LocalDisk:
        return await self._call("connect_volume", lambda: self._host.connector.connect_volume(volume, info))

    async def disconnect_volume(self, volume: VolumeFile, info: ConnectionInfo) -> None:
        await self._call("disconnect_volume", lambda: self._host.connector.disconnect_volume(volume, info))

    async def check_server(self, volume: VolumeFile, info: ConnectionInfo) -> None:
        await self._host.connector.check_server(volume, info)
