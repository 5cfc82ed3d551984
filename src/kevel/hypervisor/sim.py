"""A simulated hypervisor: servers that are rows in memory, for tests and for people without QEMU.

Its guests can be told how to behave, by extra specs of the flavor:

    sim:plug     refuse | slow:SECONDS | lie     (lie: says the disk is in, though it is not)
    sim:unplug   refuse | slow:SECONDS | lie     (lie: announces the removal, and keeps the disk)
    sim:shutdown refuse                          (ignores a request to shut down or reboot)
    sim:copy     refuse | slow:SECONDS           (copies of its disks)

Guests outlive a clean stop of Kevel (they are written to `sim.json`), and die with a killed one, as guests do on a host
that loses power.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from kevel.domain.errors import StepNever, StepRetry
from kevel.domain.questions import DiskUsage, HostUsage, ServerUsage
from kevel.domain.tuning import DiskTune
from kevel.hypervisor.base import (
    CopySpec,
    CopyView,
    Disks,
    DiskSpec,
    DiskView,
    DomainSpec,
    Event,
    EventKind,
    HostFacts,
    PowerState,
    RootCopySpec,
    ServerView,
    SwapSpec,
    SwapStage,
    SwapView,
    is_volume_alias,
)
from kevel.runtime.files import copy_data

#: Like the units of a virtio-scsi bus; small enough to be reached in a test.
VOLUMES_MAX = 255
HOST_VCPUS = 64
HOST_MEMORY_MIB = 262_144
HOST_DISK_GIB = 4096
#: What a start of a simulated guest costs, and the one block that it reads of each disk and writes back.
BOOT_CPU_NS = 1_000_000_000
BOOT_BLOCK_BYTES = 4096
#: What it writes to its console meanwhile.
_CONSOLE = "".join(f"[{{start:5}}.{at:06}] simulated guest: {at} of 12 parts are up\n" for at in range(1, 13))


class SimCopy(msgspec.Struct, kw_only=True):
    """A copy of a disk that is under way."""

    spec: CopySpec
    begun_at: float


class SimSwap(msgspec.Struct, kw_only=True):
    """A volume that is being filled behind a disk."""

    spec: SwapSpec
    begun_at: float
    ready: bool = False


class SimServer(msgspec.Struct, kw_only=True):
    """The ground truth of one simulated server."""

    spec: DomainSpec
    power: PowerState = PowerState.SHUTOFF
    boots: int = 0
    stop_reason: str = ""
    live: dict[str, DiskSpec] = {}
    persistent: dict[str, DiskSpec] = {}
    copies: dict[str, SimCopy] = {}
    #: By alias.
    swaps: dict[str, SimSwap] = {}
    #: The disks in the memory of a suspended guest.
    saved: dict[str, DiskSpec] = {}

    @property
    def runs(self) -> bool:
        """Is the guest's process there?"""
        return self.power in (PowerState.RUNNING, PowerState.PAUSED)

    def trait(self, name: str) -> tuple[str, float]:
        """How the guest behaves: the word, and seconds for "slow"."""
        word, _, seconds = self.spec.traits.get(f"sim:{name}", "").partition(":")
        return word, float(seconds or 0)


class SimHypervisor:
    """`kevel.hypervisor.base.Hypervisor`, simulated. `state_path` None: nothing outlives the object.

    `copy_contents` copies from one path to another; None: between files, where there are any.
    """

    def __init__(
        self, state_path: Path | None = None, *, copy_contents: Callable[[str, str], None] | None = None
    ) -> None:
        self._state_path = state_path
        self._copy_contents = copy_contents
        self._tempers: dict[str, dict[str, str]] = {}
        #: The ground truth, for tests to compare with.
        self.servers: dict[str, SimServer] = {}
        self._listener: Callable[[Event], None] = lambda event: None
        self._timers: set[asyncio.TimerHandle] = set()
        #: When copies of root disks that are under way were begun.
        self._root_copies: dict[str, float] = {}

    async def open(self, listener: Callable[[Event], None]) -> HostFacts:
        self._listener = listener
        if self._state_path is not None and self._state_path.exists():
            self.servers = msgspec.json.decode(self._state_path.read_bytes(), type=dict[str, SimServer])
            self._state_path.unlink()
        listener(Event(kind=EventKind.RECONNECTED, server_id=""))
        return HostFacts(
            hypervisor_type="SIM",
            hypervisor_version=1_000_000,
            hostname="sim",
            vcpus=HOST_VCPUS,
            memory_mib=HOST_MEMORY_MIB,
            max_volumes=VOLUMES_MAX,
            disk_gib=HOST_DISK_GIB,
        )

    async def close(self) -> None:
        self.forget_jobs()
        if self._state_path is not None:
            self._state_path.write_bytes(msgspec.json.encode(self.servers))

    async def define_server(self, spec: DomainSpec) -> None:
        if spec.server_id in self._tempers:
            spec = msgspec.structs.replace(spec, traits=self._tempers[spec.server_id])
        known = self.servers.get(spec.server_id)
        if known is None:
            self.servers[spec.server_id] = SimServer(spec=spec)
        else:
            known.spec = spec

    async def start_server(self, server_id: str, disks: Disks) -> tuple[str, ...]:
        server = self._find(server_id)
        if server.runs:
            server.power = PowerState.RUNNING
            return ()
        strays = tuple(alias for alias in server.persistent if alias not in disks and is_volume_alias(alias))
        for alias in strays:
            del server.persistent[alias]
        _check_keys(server.persistent, disks)
        server.power, server.stop_reason, server.saved = PowerState.RUNNING, "", {}
        server.boots += 1
        server.live = dict(server.persistent)
        self._tell(EventKind.LIFECYCLE, server_id)
        return strays

    async def pause_guest(self, server_id: str) -> None:
        self._set_power(server_id, PowerState.PAUSED)

    async def unpause_guest(self, server_id: str) -> None:
        self._set_power(server_id, PowerState.RUNNING)

    async def suspend_guest(self, server_id: str) -> None:
        server = self._find(server_id)
        if server.power is PowerState.SUSPENDED:
            return
        if not server.runs:
            raise StepRetry("The guest does not run.")
        if server.copies or server.swaps:
            raise StepRetry("One of the server's disks is being copied.")
        server.power, server.saved, server.live = PowerState.SUSPENDED, server.live, {}
        self._tell(EventKind.LIFECYCLE, server_id)

    async def resume_guest(self, server_id: str, disks: Disks) -> None:
        server = self._find(server_id)
        if server.runs:
            server.power = PowerState.RUNNING
            return
        if server.power is not PowerState.SUSPENDED:
            raise StepNever("No memory of the guest is kept.")
        if any(alias not in disks and is_volume_alias(alias) for alias in server.saved):
            raise StepNever("The guest's memory has a disk that is not the server's any more.")
        _check_keys(server.saved, disks)
        server.power, server.live, server.saved = PowerState.RUNNING, server.saved, {}
        self._tell(EventKind.LIFECYCLE, server_id)

    def _set_power(self, server_id: str, power: PowerState) -> None:
        server = self._find(server_id)
        if not server.runs:
            raise StepRetry("The guest does not run.")
        if server.power is not power:
            server.power = power
            self._tell(EventKind.LIFECYCLE, server_id)

    async def ask_shutdown(self, server_id: str) -> None:
        server = self._find(server_id)
        if server.trait("shutdown")[0] != "refuse" and server.power is PowerState.RUNNING:
            self._later(0, self._end, server_id, "shutdown")

    async def ask_reboot(self, server_id: str) -> None:
        server = self._find(server_id)
        if server.power is not PowerState.RUNNING:
            raise StepRetry("The guest does not run.")
        if server.trait("shutdown")[0] != "refuse":
            self._later(0, self._tell, EventKind.REBOOTED, server_id)

    async def power_off(self, server_id: str) -> None:
        self._end(server_id, "destroyed")

    async def undefine_server(self, server_id: str) -> None:
        self._end(server_id, "destroyed")
        self.servers.pop(server_id, None)

    async def observe_server(self, server_id: str) -> ServerView | None:
        server = self.servers.get(server_id)
        return None if server is None else _view(server)

    async def observe_all(self) -> list[ServerView]:
        return [_view(server) for server in self.servers.values()]

    async def read_console(self, server_id: str, bytes_max: int) -> bytes:
        server = self.servers.get(server_id)
        lines = [] if server is None else [_CONSOLE.format(start=at + 1) for at in range(server.boots)]
        return "".join(lines[-bytes_max // len(_CONSOLE) - 1 :]).encode()[-bytes_max:]

    async def measure_server(self, server_id: str) -> ServerUsage | None:
        server = self.servers.get(server_id)
        if server is None or not server.runs:
            return None
        return ServerUsage(
            cpu_times_ns=(server.boots * BOOT_CPU_NS,) * server.spec.vcpus,
            memory_mib_max=server.spec.memory_mib,
            memory_mib=server.spec.memory_mib,
            disks=(
                *((_count_use("sda"),) if server.spec.image_path is not None else ()),
                *(_count_use(disk.target) for disk in server.live.values()),
            ),
        )

    async def measure_host(self) -> HostUsage:
        return HostUsage(up_s=asyncio.get_running_loop().time(), load=(0.0, 0.0, 0.0))

    async def plug_disk(self, server_id: str, disk: DiskSpec) -> None:
        server = self._find(server_id)
        word, seconds = server.trait("plug")
        if word == "refuse":
            raise StepNever("The simulated guest takes no more disks.")
        if word == "slow":
            await asyncio.sleep(seconds)
        if word == "lie":
            return
        if (disk.source_format == "luks") != (disk.passphrase is not None):
            raise StepNever("A volume is plugged with a key if it is encrypted, and only then.")
        disk = msgspec.structs.replace(disk, passphrase=None)  # nothing keeps it
        known = server.persistent.get(disk.alias) or server.live.get(disk.alias)
        if known is not None and (known.serial, known.source_path) != (disk.serial, disk.source_path):
            raise StepNever("Another volume is plugged under this attachment.")
        clash = next((one for one in server.persistent.values() if one.unit == disk.unit), None)
        if clash is not None and clash.alias != disk.alias:
            raise StepNever(f"Unit {disk.unit} of the server's bus is taken.")
        if server.runs:
            server.live[disk.alias] = disk
        server.persistent[disk.alias] = disk

    async def unplug_disk(self, server_id: str, alias: str) -> bool:
        server = self.servers.get(server_id)
        if server is None:
            return True
        if alias in server.live:
            word, seconds = server.trait("unplug")
            if word == "lie":
                self._later(0, self._tell, EventKind.DISK_REMOVED, server_id, alias)
            elif word != "refuse":
                self._later(seconds, self._let_go, server_id, alias)
            return False
        if alias in server.saved:
            return False
        server.persistent.pop(alias, None)
        return True

    async def resize_disk(self, server_id: str, alias: str, size_bytes: int) -> None:
        server = self._find(server_id)
        if not server.runs:
            return
        disk = server.live.get(alias)
        if disk is None:
            raise StepNever("The guest does not have this disk.")
        server.live[alias] = msgspec.structs.replace(disk, size_bytes=max(size_bytes, disk.size_bytes))

    async def tune_disk(self, server_id: str, alias: str, tune: DiskTune) -> None:
        server = self._find(server_id)
        if alias not in server.live and alias not in server.persistent:
            raise StepNever("The server does not have this disk.")
        for disks in (server.live, server.saved, server.persistent):
            if alias in disks:
                disks[alias] = msgspec.structs.replace(disks[alias], tune=tune)

    async def copy_disk(self, server_id: str, copy: CopySpec) -> CopyView | None:
        server = self.servers.get(server_id)
        disk = None if server is None or not server.runs else server.live.get(copy.alias)
        if server is None or disk is None:
            return None
        if disk.serial != copy.serial:
            raise StepNever("Another volume is plugged under this attachment.")
        if disk.source_format == "luks":
            raise StepNever("An encrypted volume is copied while no running guest has it.")
        word, seconds = server.trait("copy")
        if word == "refuse":
            raise StepNever("The simulated guest's disks cannot be copied.")
        now = asyncio.get_running_loop().time()
        if copy.copy_id not in server.copies:
            if any(other.spec.alias == copy.alias for other in server.copies.values()):
                raise StepRetry("Another copy of this disk is under way.")
            server.copies[copy.copy_id] = SimCopy(spec=copy, begun_at=now)
            return CopyView(done=False, done_bytes=0, total_bytes=disk.size_bytes)
        if word == "slow" and now - server.copies[copy.copy_id].begun_at < seconds:
            return CopyView(done=False, done_bytes=disk.size_bytes // 2, total_bytes=disk.size_bytes)
        try:
            await self._copy(disk.source_path, copy.target_path)
        finally:
            server.copies.pop(copy.copy_id, None)
        return CopyView(done=True, done_bytes=disk.size_bytes, total_bytes=disk.size_bytes)

    async def copy_root(self, server_id: str, copy: RootCopySpec) -> CopyView | None:
        server = self.servers.get(server_id)
        if server is None or server.spec.image_path is None:
            return None
        if server.runs and copy.format != "raw":
            raise StepRetry("The root disk of a running guest is copied as raw only.")
        word, seconds = server.trait("copy")
        if word == "refuse":
            raise StepNever("The simulated guest's disks cannot be copied.")
        now = asyncio.get_running_loop().time()
        begun_at = self._root_copies.setdefault(copy.copy_id, now)
        if word == "slow" and now - begun_at < seconds:
            return CopyView(done=False, done_bytes=0, total_bytes=server.spec.root_bytes)
        # Guests write nothing on it. Where volumes have no files, it has none either.
        if self._copy_contents is None:
            await asyncio.to_thread(copy_file, Path(server.spec.image_path), Path(copy.target_path))
        self._root_copies.pop(copy.copy_id, None)
        return CopyView(done=True, done_bytes=server.spec.root_bytes, total_bytes=server.spec.root_bytes)

    async def end_copy(self, server_id: str, copy_id: str) -> None:
        self._root_copies.pop(copy_id, None)
        if server_id in self.servers:
            self.servers[server_id].copies.pop(copy_id, None)

    async def swap_disk(self, server_id: str, swap: SwapSpec, *, pivot: bool) -> SwapView | None:
        server = self.servers.get(server_id)
        disk = None if server is None else (server.live if server.runs else server.persistent).get(swap.alias)
        if server is None or disk is None:
            return None
        if disk.source_path == swap.new_path:
            return SwapView(stage=SwapStage.SWAPPED)
        if not server.runs:
            return None
        if (disk.serial, disk.source_path) != (swap.serial, swap.old_path):
            raise StepNever("Another volume is plugged under this attachment.")
        size = disk.size_bytes
        if server.trait("swap")[0] == "refuse":
            raise StepNever("The simulated guest's disks cannot be swapped.")
        known = server.swaps.get(swap.alias)
        if known is None or known.spec.new_path != swap.new_path:
            if pivot:
                return None
            server.swaps[swap.alias] = SimSwap(spec=swap, begun_at=asyncio.get_running_loop().time())
            return SwapView(stage=SwapStage.COPYING, total_bytes=size)
        if not (pivot and known.ready):
            return await self._fill(server, known, size)
        await self._copy(swap.old_path, swap.new_path)  # what the guest has written since then is in both
        server.swaps.pop(swap.alias, None)
        changed = msgspec.structs.replace(disk, source_path=swap.new_path, source_format=swap.new_format)
        server.live[swap.alias] = server.persistent[swap.alias] = changed
        return SwapView(stage=SwapStage.SWAPPED)

    async def _fill(self, server: SimServer, swap: SimSwap, size: int) -> SwapView:
        word, seconds = server.trait("swap")
        if word == "slow" and asyncio.get_running_loop().time() - swap.begun_at < seconds:
            return SwapView(stage=SwapStage.COPYING, done_bytes=size // 2, total_bytes=size)
        if self._copy_contents is None:
            await asyncio.to_thread(empty_file, Path(swap.spec.new_path))
        await self._copy(swap.spec.old_path, swap.spec.new_path)
        swap.ready = True
        return SwapView(stage=SwapStage.READY, done_bytes=size, total_bytes=size)

    async def end_swap(self, server_id: str, new_path: str) -> bool:
        server = self.servers.get(server_id)
        if server is None:
            return True
        disks = (*server.live.values(), *server.saved.values(), *server.persistent.values())
        if any(disk.source_path == new_path for disk in disks):
            return False
        server.swaps = {alias: one for alias, one in server.swaps.items() if one.spec.new_path != new_path}
        return True

    async def _copy(self, source_path: str, target_path: str) -> None:
        if self._copy_contents is not None:
            self._copy_contents(source_path, target_path)
        else:
            await asyncio.to_thread(copy_file, Path(source_path), Path(target_path))

    def temper(self, server_id: str, traits: Mapping[str, str]) -> None:
        """Make a guest behave so, whatever its flavor says; for tests."""
        self._tempers[server_id] = dict(traits)
        if server_id in self.servers:
            server = self.servers[server_id]
            server.spec = msgspec.structs.replace(server.spec, traits=self._tempers[server_id])

    def soothe(self, server_id: str) -> None:
        """Make a guest behave from now on, whatever its flavor says; for tests."""
        self.temper(server_id, {})

    def forget_jobs(self) -> None:
        """Drop what guests were asked and have not answered yet."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def crash_guest(self, server_id: str) -> None:
        """What an out-of-memory killer does to a guest's process, if there is one; for tests."""
        server = self.servers.get(server_id)
        if server is not None and server.runs:
            self._end(server_id, "crashed")

    def _find(self, server_id: str) -> SimServer:
        server = self.servers.get(server_id)
        if server is None:
            raise StepNever("The server has no domain on this host.")
        return server

    def _end(self, server_id: str, why: str) -> None:
        server = self.servers.get(server_id)
        if server is None or server.power is PowerState.SHUTOFF:
            return
        server.power, server.stop_reason = PowerState.SHUTOFF, why
        server.live, server.copies, server.swaps, server.saved = {}, {}, {}, {}
        self._tell(EventKind.LIFECYCLE, server_id)

    def _let_go(self, server_id: str, alias: str) -> None:
        server = self.servers.get(server_id)
        if server is not None and server.live.pop(alias, None) is not None:
            server.copies = {name: one for name, one in server.copies.items() if one.spec.alias != alias}
            server.swaps.pop(alias, None)
            self._tell(EventKind.DISK_REMOVED, server_id, alias)

    def _tell(self, kind: EventKind, server_id: str, alias: str = "") -> None:
        self._listener(Event(kind=kind, server_id=server_id, alias=alias))

    def _later(self, after_s: float, fn: Callable[..., None], *args: object) -> None:
        loop = asyncio.get_running_loop()

        def fire() -> None:
            self._timers.discard(timer)
            fn(*args)

        timer = loop.call_later(after_s, fire)
        self._timers.add(timer)


def _check_keys(there: Mapping[str, DiskSpec], disks: Disks) -> None:
    if any(disk.source_format == "luks" and disks.get(alias) is None for alias, disk in there.items()):
        raise StepRetry("The key of one of the server's encrypted volumes has not arrived yet.")


def _count_use(target: str) -> DiskUsage:
    return DiskUsage(
        target=target,
        read_requests=1,
        read_bytes=BOOT_BLOCK_BYTES,
        write_requests=1,
        write_bytes=BOOT_BLOCK_BYTES,
    )


def _view(server: SimServer) -> ServerView:
    return ServerView(
        server_id=server.spec.server_id,
        power=server.power,
        boot_id=str(server.boots) if server.runs else "",
        live=tuple(_disk_view(disk) for disk in (server.saved or server.live).values()),
        persistent=tuple(_disk_view(disk) for disk in server.persistent.values()),
        copies=tuple(sorted(server.copies)),
        stop_reason=server.stop_reason,
    )


def empty_file(path: Path) -> None:
    """Fill a file, if there is one, with zeros."""
    if path.exists():
        size = path.stat().st_size
        os.truncate(path, 0)
        os.truncate(path, size)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's data, if there is one, into another that is there, hole for hole. Raises StepNever."""
    if not source.exists():
        return
    try:
        with source.open("rb") as reader, target.open("r+b") as writer:
            copy_data(reader.fileno(), writer.fileno())
            os.fsync(writer.fileno())
    except OSError as error:
        raise StepNever("The disk's copy cannot be written.") from error


def _disk_view(disk: DiskSpec) -> DiskView:
    return DiskView(
        alias=disk.alias,
        serial=disk.serial,
        source_path=disk.source_path,
        target=disk.target,
        size_bytes=disk.size_bytes,
        tune=disk.tune,
        encrypted=disk.source_format == "luks",
    )
