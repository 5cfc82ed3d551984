"""What every hypervisor driver must do: the port's rules as tests.

A driver's own test module derives a class from `HypervisorKit` and gives a fixture `rig`: an open driver on a fresh
host, with guests that let go of a disk when they are asked to. No test here needs an operating system in the guest.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from kevel.domain.encryption import Passphrase
from kevel.domain.errors import StepNever, StepRetry
from kevel.domain.rescues import RescueBus, RescuePlace
from kevel.domain.tuning import NO_LIMITS, DiskTune
from kevel.hypervisor.base import (
    CopySpec,
    CopyView,
    DiskSpec,
    DomainSpec,
    Event,
    EventKind,
    HostFacts,
    Hypervisor,
    PowerState,
    RescueSpec,
    RootCopySpec,
    ServerView,
    SwapSpec,
    SwapStage,
    SwapView,
    VolumeBus,
)
from kevel.storage.luks import format_luks

MIB = 1 << 20
PASSPHRASE = Passphrase("a-passphrase-of-the-kit")
#: A limit of every kind that goes with the others.
TUNE = DiskTune(
    read_bytes_sec=4 * MIB,
    read_bytes_sec_max=8 * MIB,
    read_bytes_sec_max_length=3,
    write_bytes_sec=2 * MIB,
    total_iops_sec=500,
    total_iops_sec_max=700,
    size_iops_sec=4096,
)
#: A step that has not come about by then is taken for lost. Long, for machines under load; nothing here is timed.
PATIENCE_S = 20.0
LOOK_AGAIN_S = 0.02


class Rig:
    """An open driver on a fresh host, and what a test needs to use it.

    `reopen` is called with the driver closed and returns it opened anew: the same host, seen by a new process.
    """

    def __init__(
        self,
        hypervisor: Hypervisor,
        directory: Path,
        *,
        volume_bus: VolumeBus = VolumeBus.SCSI,
        make_driver: Callable[[], Hypervisor],
    ) -> None:
        self.hypervisor = hypervisor
        self.directory = directory
        self.volume_bus = volume_bus
        self.events: list[Event] = []
        self.facts: HostFacts | None = None
        self._make_driver = make_driver
        self._volumes = 0

    async def open(self) -> None:
        """Open the driver; its events are kept in `events`."""
        self.facts = await self.hypervisor.open(self.events.append)

    async def reopen(self) -> None:
        """Close the driver and open a new one on the same host."""
        await self.hypervisor.close()
        self.hypervisor = self._make_driver()
        await self.open()

    def make_spec(self, server_id: str | None = None, *, memory_mib: int = 64) -> DomainSpec:
        """A server with a small root disk and no operating system."""
        image = self.directory / "image.raw"
        if not image.exists():
            image.write_bytes(bytes(MIB))
        return DomainSpec(
            server_id=server_id or str(uuid.uuid4()),
            memory_mib=memory_mib,
            vcpus=1,
            image_path=str(image),
            image_format="raw",
            root_bytes=2 * MIB,
            volume_bus=self.volume_bus,
        )

    def make_disk(self, *, size_bytes: int = 4 * MIB, unit: int | None = None, shareable: bool = False) -> DiskSpec:
        """A fresh volume, to be plugged as the next unit."""
        self._volumes += 1
        unit = self._volumes if unit is None else unit
        volume_id = str(uuid.uuid4())
        path = self.directory / f"volume-{volume_id}"
        with path.open("wb") as file:
            file.truncate(size_bytes)
        return DiskSpec(
            alias=f"ua-{uuid.uuid4()}",
            serial=volume_id,
            source_path=str(path),
            source_format="raw",
            size_bytes=size_bytes,
            target="sd" + "abcdefghijklmnopqrstuvwxyz"[unit],
            unit=unit,
            bus=self.volume_bus,
            shareable=shareable,
        )

    def make_encrypted_disk(self) -> DiskSpec:
        """A fresh encrypted volume of 4 MiB, with what opens it."""
        disk = self.make_disk(size_bytes=0)
        with Path(disk.source_path).open("r+b") as file:
            format_luks(file.fileno(), 4 * MIB, PASSPHRASE, 512, name=disk.serial)
        return msgspec.structs.replace(disk, source_format="luks", size_bytes=4 * MIB, passphrase=PASSPHRASE)

    async def define_rootless(self, root: DiskSpec, *disks: DiskSpec) -> str:
        """A stopped server whose root disk is the first of these disks, plugged last; returns its id."""
        spec = msgspec.structs.replace(self.make_spec(), image_path=None, root_bytes=0)
        await self.hypervisor.define_server(spec)
        for disk in (*disks, root):
            await self.hypervisor.plug_disk(spec.server_id, disk)
        await self.hypervisor.define_server(spec)
        return spec.server_id

    async def start(self, *disks: DiskSpec) -> str:
        """A running server with these disks; returns its id."""
        server_id = await self.define(*disks)
        await self.boot(server_id, *disks)
        return server_id

    async def boot(self, server_id: str, *disks: DiskSpec) -> tuple[str, ...]:
        """Start a stopped server that is to have these disks; the aliases of others that were in its definition."""
        return await self.hypervisor.start_server(server_id, {disk.alias: disk.passphrase for disk in disks})

    async def resume(self, server_id: str, *disks: DiskSpec) -> None:
        """Let a suspended server go on that is to have these disks."""
        await self.hypervisor.resume_guest(server_id, {disk.alias: disk.passphrase for disk in disks})

    async def define(self, *disks: DiskSpec) -> str:
        """A stopped server with these disks; returns its id."""
        spec = self.make_spec()
        await self.hypervisor.define_server(spec)
        for disk in disks:
            await self.hypervisor.plug_disk(spec.server_id, disk)
        return spec.server_id

    async def look(self, server_id: str) -> ServerView:
        """The server as it is; it must be there."""
        view = await self.hypervisor.observe_server(server_id)
        assert view is not None
        return view

    def make_copy(self, disk: DiskSpec) -> CopySpec:
        """A copy of that disk into a fresh file."""
        copy_id = str(uuid.uuid4())
        target = self.directory / f"copy-{copy_id}"
        target.touch()
        return CopySpec(copy_id=copy_id, alias=disk.alias, serial=disk.serial, target_path=str(target))

    async def copy(self, server_id: str, copy: CopySpec) -> CopyView | None:
        """Take steps until the copy is done."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                view = await self.hypervisor.copy_disk(server_id, copy)
                if view is None or view.done:
                    return view
                await asyncio.sleep(LOOK_AGAIN_S)

    def make_swap(self, disk: DiskSpec, new: DiskSpec) -> SwapSpec:
        """A swap of that disk's volume for the other's."""
        return SwapSpec(
            alias=disk.alias,
            serial=disk.serial,
            old_path=disk.source_path,
            new_path=new.source_path,
            new_format=new.source_format,
        )

    async def fill(self, server_id: str, swap: SwapSpec) -> SwapView:
        """Take steps until the guest may change over."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                view = await self.hypervisor.swap_disk(server_id, swap, pivot=False)
                assert view is not None
                if view.stage is not SwapStage.COPYING:
                    return view
                await asyncio.sleep(LOOK_AGAIN_S)

    async def unplug(self, server_id: str, alias: str) -> None:
        """Ask until the disk is gone."""

        async def is_gone() -> bool:
            return await self.hypervisor.unplug_disk(server_id, alias)

        await until(is_gone)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition. Raises TimeoutError when it has not come about in a long time."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():
            await asyncio.sleep(LOOK_AGAIN_S)


async def until_event(rig: Rig, event: Event) -> None:
    """Wait until the event has come."""

    async def has_come() -> bool:
        return event in rig.events

    await until(has_come)


def list_aliases(view: ServerView) -> tuple[set[str], set[str]]:
    """The aliases of a server's disks: in the running guest, and in the definition."""
    return {disk.alias for disk in view.live}, {disk.alias for disk in view.persistent}


class HypervisorKit:
    """The tests. Each gets a fresh `rig`."""

    # Servers

    async def test_opening_tells_what_the_host_is_and_asks_for_a_look_at_every_server(self, rig: Rig) -> None:
        assert rig.facts is not None
        assert rig.facts.vcpus >= 1
        assert rig.facts.memory_mib >= 1
        assert rig.facts.hostname
        assert rig.facts.max_volumes >= 1
        assert Event(kind=EventKind.RECONNECTED, server_id="") in rig.events

    async def test_a_defined_server_is_there_and_does_not_run(self, rig: Rig) -> None:
        server_id = await rig.define()
        view = await rig.look(server_id)
        assert (view.server_id, view.power, view.boot_id) == (server_id, PowerState.SHUTOFF, "")
        assert (view.live, view.persistent, view.orphans) == ((), (), ())

    async def test_a_running_server_tells_what_it_uses_and_one_that_does_not_run_tells_nothing(self, rig: Rig) -> None:
        disk = rig.make_disk()
        server_id = await rig.define(disk)
        assert await rig.hypervisor.measure_server(server_id) is None
        assert await rig.hypervisor.measure_server(str(uuid.uuid4())) is None
        await rig.boot(server_id, disk)
        usage = await rig.hypervisor.measure_server(server_id)
        assert usage is not None
        assert len(usage.cpu_times_ns) == 1
        assert (usage.memory_mib, usage.memory_mib_max) == (64, 64)
        assert disk.target in {one.target for one in usage.disks}
        assert len(usage.disks) == 2  # the root disk has no name that would be known here

    async def test_a_console_is_told_as_far_as_it_is_asked_for(self, rig: Rig) -> None:
        assert await rig.hypervisor.read_console(str(uuid.uuid4()), 100) == b""
        server_id = await rig.start()
        whole = await rig.hypervisor.read_console(server_id, 1 << 20)
        assert len(await rig.hypervisor.read_console(server_id, 10)) == min(10, len(whole))

    async def test_a_host_tells_how_long_it_is_up(self, rig: Rig) -> None:
        first = await rig.hypervisor.measure_host()
        assert 0 < first.up_s <= (await rig.hypervisor.measure_host()).up_s

    async def test_defining_again_changes_nothing_and_keeps_the_disks(self, rig: Rig) -> None:
        disk = rig.make_disk()
        server_id = await rig.define(disk)
        before = await rig.look(server_id)
        await rig.hypervisor.define_server(rig.make_spec(server_id))
        assert await rig.look(server_id) == before

    async def test_defining_a_running_server_anew_keeps_it_running_with_its_disks(self, rig: Rig) -> None:
        disk = rig.make_disk()
        server_id = await rig.start(disk)
        before = await rig.look(server_id)
        await rig.hypervisor.define_server(rig.make_spec(server_id, memory_mib=80))
        assert await rig.look(server_id) == before
        await rig.hypervisor.power_off(server_id)
        await rig.boot(server_id, disk)
        assert list_aliases(await rig.look(server_id)) == ({disk.alias}, {disk.alias})

    async def test_a_server_is_rescued_and_rebuilt_and_keeps_its_volumes(self, rig: Rig) -> None:
        disk = rig.make_disk()
        server_id = await rig.start(disk)
        plain = rig.make_spec(server_id)
        rescue = RescueSpec(number=1, image_path=str(plain.image_path), image_format="raw")
        places = [RescuePlace(bus=bus) for bus in RescueBus] + [RescuePlace(bus=RescueBus.SATA, is_cdrom=True)]
        beside = [msgspec.structs.replace(rescue, number=number, place=one) for number, one in enumerate(places, 2)]
        for spec in (
            msgspec.structs.replace(plain, rescue=rescue),
            *(msgspec.structs.replace(plain, rescue=one) for one in beside),
            plain,
            msgspec.structs.replace(plain, root_number=2, root_bytes=4 * MIB, memory_mib=80),
        ):
            await rig.hypervisor.power_off(server_id)
            for _ in range(2):
                await rig.hypervisor.define_server(spec)
            assert list_aliases(await rig.look(server_id)) == (set(), {disk.alias})
            await rig.hypervisor.start_server(server_id, {disk.alias: None})
            assert list_aliases(await rig.look(server_id)) == ({disk.alias}, {disk.alias})

    async def test_starting_twice_starts_once(self, rig: Rig) -> None:
        server_id = await rig.start()
        first = await rig.look(server_id)
        assert first.power is PowerState.RUNNING
        assert first.boot_id
        await rig.boot(server_id)
        assert await rig.look(server_id) == first

    async def test_every_start_has_an_id_of_its_own(self, rig: Rig) -> None:
        server_id = await rig.start()
        first = (await rig.look(server_id)).boot_id
        await rig.hypervisor.power_off(server_id)
        assert (await rig.look(server_id)).boot_id == ""
        await rig.boot(server_id)
        assert (await rig.look(server_id)).boot_id not in ("", first)

    async def test_a_server_starts_with_the_disks_that_it_is_to_have_and_without_those_of_other_volumes(
        self, rig: Rig
    ) -> None:
        ours, left = rig.make_disk(), rig.make_disk()
        foreign = msgspec.structs.replace(rig.make_disk(), alias="ua-operators-own")
        server_id = await rig.define(ours, left, foreign)
        kept = {ours.alias, foreign.alias}
        assert await rig.boot(server_id, ours) == (left.alias,)
        assert list_aliases(await rig.look(server_id)) == (kept, kept)
        assert await rig.boot(server_id) == (), "a guest that runs keeps what it has"
        assert list_aliases(await rig.look(server_id)) == (kept, kept)
        await rig.hypervisor.plug_disk(server_id, msgspec.structs.replace(left, alias=f"ua-{uuid.uuid4()}"))

    async def test_a_disk_whose_volume_is_gone_keeps_no_server_from_starting_that_is_not_to_have_it(
        self, rig: Rig
    ) -> None:
        left = rig.make_disk()
        server_id = await rig.define(left)
        Path(left.source_path).unlink()
        assert await rig.boot(server_id) == (left.alias,)
        assert list_aliases(await rig.look(server_id)) == (set(), set())

    async def test_powering_off_ends_the_guest_and_may_be_repeated(self, rig: Rig) -> None:
        server_id = await rig.start()
        await rig.hypervisor.power_off(server_id)
        view = await rig.look(server_id)
        assert (view.power, view.stop_reason, view.live) == (PowerState.SHUTOFF, "destroyed", ())
        await rig.hypervisor.power_off(server_id)
        assert await rig.look(server_id) == view

    async def test_undefining_removes_a_running_server_and_may_be_repeated(self, rig: Rig) -> None:
        server_id = await rig.start(rig.make_disk())
        await rig.hypervisor.undefine_server(server_id)
        assert await rig.hypervisor.observe_server(server_id) is None
        await rig.hypervisor.undefine_server(server_id)
        assert await rig.hypervisor.observe_server(server_id) is None

    async def test_an_undefined_server_can_be_defined_again_and_has_none_of_its_old_disks(self, rig: Rig) -> None:
        server_id = await rig.define(rig.make_disk())
        await rig.hypervisor.undefine_server(server_id)
        await rig.hypervisor.define_server(rig.make_spec(server_id))
        assert (await rig.look(server_id)).persistent == ()

    async def test_of_an_absent_server_removals_succeed_and_everything_else_never_will(self, rig: Rig) -> None:
        absent = str(uuid.uuid4())
        hypervisor, disk = rig.hypervisor, rig.make_disk()
        assert await hypervisor.observe_server(absent) is None
        assert await hypervisor.unplug_disk(absent, disk.alias) is True
        await hypervisor.power_off(absent)
        await hypervisor.undefine_server(absent)
        for attempt in (
            hypervisor.start_server(absent, {}),
            hypervisor.plug_disk(absent, disk),
            hypervisor.resize_disk(absent, disk.alias, 8 * MIB),
            hypervisor.tune_disk(absent, disk.alias, TUNE),
            hypervisor.ask_shutdown(absent),
            hypervisor.ask_reboot(absent),
            hypervisor.pause_guest(absent),
            hypervisor.unpause_guest(absent),
            hypervisor.suspend_guest(absent),
            hypervisor.resume_guest(absent, {}),
        ):
            with pytest.raises(StepNever):
                await attempt
        assert await hypervisor.observe_all() == []

    async def test_the_census_has_every_server_with_its_disks(self, rig: Rig) -> None:
        first, second = rig.make_disk(), rig.make_disk()
        running, stopped = await rig.start(first), await rig.define(second)
        census = {view.server_id: view for view in await rig.hypervisor.observe_all()}
        assert census.keys() == {running, stopped}
        assert census[running].power is PowerState.RUNNING
        assert census[running].boot_id == (await rig.look(running)).boot_id
        assert list_aliases(census[running]) == ({first.alias}, {first.alias})
        assert census[stopped].power is PowerState.SHUTOFF
        assert list_aliases(census[stopped]) == (set(), {second.alias})
        await rig.hypervisor.undefine_server(running)
        assert [view.server_id for view in await rig.hypervisor.observe_all()] == [stopped]

    async def test_starting_and_stopping_are_told(self, rig: Rig) -> None:
        server_id = await rig.define()
        rig.events.clear()
        await rig.boot(server_id)
        await until_event(rig, Event(kind=EventKind.LIFECYCLE, server_id=server_id))
        rig.events.clear()
        await rig.hypervisor.power_off(server_id)
        await until_event(rig, Event(kind=EventKind.LIFECYCLE, server_id=server_id))

    async def test_guests_outlive_the_driver_and_are_found_again(self, rig: Rig) -> None:
        disk = rig.make_disk()
        server_id = await rig.start(disk)
        before = await rig.look(server_id)
        rig.events.clear()
        await rig.reopen()
        assert Event(kind=EventKind.RECONNECTED, server_id="") in rig.events
        assert await rig.look(server_id) == before
        await rig.unplug(server_id, disk.alias)
        assert list_aliases(await rig.look(server_id)) == (set(), set())

    # Pausing and suspending

    async def test_a_guest_is_paused_and_goes_on_with_its_disks_and_each_may_be_repeated(self, rig: Rig) -> None:
        disk = rig.make_disk()
        server_id = await rig.start(disk)
        before = await rig.look(server_id)
        for _ in range(2):
            await rig.hypervisor.pause_guest(server_id)
            assert await rig.look(server_id) == msgspec.structs.replace(before, power=PowerState.PAUSED)
        for _ in range(2):
            await rig.hypervisor.unpause_guest(server_id)
            assert await rig.look(server_id) == before

    async def test_a_paused_guest_takes_and_loses_disks_and_loses_its_power(self, rig: Rig) -> None:
        first, second = rig.make_disk(), rig.make_disk()
        server_id = await rig.start(first)
        await rig.hypervisor.pause_guest(server_id)
        await rig.hypervisor.plug_disk(server_id, second)
        aliases = {first.alias, second.alias}
        assert list_aliases(await rig.look(server_id)) == (aliases, aliases)
        await rig.hypervisor.power_off(server_id)
        assert list_aliases(await rig.look(server_id)) == (set(), aliases)

    async def test_a_suspended_guest_goes_on_where_it_was_with_its_disks(self, rig: Rig) -> None:
        disk = rig.make_disk()
        server_id = await rig.start(disk)
        before = await rig.look(server_id)
        for _ in range(2):
            await rig.hypervisor.suspend_guest(server_id)
            view = await rig.look(server_id)
            assert (view.power, view.boot_id, view.runs) == (PowerState.SUSPENDED, "", False)
            assert list_aliases(view) == ({disk.alias}, {disk.alias})
        for _ in range(2):
            await rig.resume(server_id, disk)
            assert await rig.look(server_id) == before

    async def test_a_paused_guest_can_be_suspended_and_runs_when_it_is_resumed(self, rig: Rig) -> None:
        server_id = await rig.start()
        await rig.hypervisor.pause_guest(server_id)
        await rig.hypervisor.suspend_guest(server_id)
        await rig.resume(server_id)
        assert (await rig.look(server_id)).power is PowerState.RUNNING

    async def test_a_suspended_guest_is_found_by_a_driver_that_was_opened_anew(self, rig: Rig) -> None:
        disk = rig.make_disk()
        server_id = await rig.start(disk)
        await rig.hypervisor.suspend_guest(server_id)
        before = await rig.look(server_id)
        await rig.reopen()
        assert await rig.look(server_id) == before
        assert await rig.hypervisor.observe_all() == [before]

    async def test_no_disk_leaves_the_memory_of_a_suspended_guest(self, rig: Rig) -> None:
        disk = rig.make_disk()
        server_id = await rig.start(disk)
        await rig.hypervisor.suspend_guest(server_id)
        before = await rig.look(server_id)
        assert not await rig.hypervisor.unplug_disk(server_id, disk.alias)
        assert await rig.look(server_id) == before
        await rig.resume(server_id, disk)
        await rig.unplug(server_id, disk.alias)
        assert list_aliases(await rig.look(server_id)) == (set(), set())

    async def test_a_disk_that_comes_to_a_suspended_guest_is_not_in_its_memory(self, rig: Rig) -> None:
        server_id = await rig.start()
        await rig.hypervisor.suspend_guest(server_id)
        disk = rig.make_disk()
        await rig.hypervisor.plug_disk(server_id, disk)
        assert list_aliases(await rig.look(server_id)) == (set(), {disk.alias})
        await rig.resume(server_id, disk)
        view = await rig.look(server_id)
        assert list_aliases(view) == (set(), {disk.alias})
        assert not view.has_disk(disk.alias)
        await rig.hypervisor.plug_disk(server_id, disk)
        assert list_aliases(await rig.look(server_id)) == ({disk.alias}, {disk.alias})

    async def test_a_suspended_guest_whose_memory_has_the_disk_of_another_volume_does_not_go_on(self, rig: Rig) -> None:
        disk = rig.make_disk()
        server_id = await rig.start(disk)
        await rig.hypervisor.suspend_guest(server_id)
        with pytest.raises(StepNever, match="not the server's any more"):
            await rig.resume(server_id)
        assert (await rig.look(server_id)).power is PowerState.SUSPENDED

    @pytest.mark.parametrize("by", ["power off", "start"])
    async def test_the_memory_is_used_once_and_gone_with_whatever_begins_anew(self, rig: Rig, by: str) -> None:
        disk = rig.make_disk()
        server_id = await rig.start(disk)
        first = (await rig.look(server_id)).boot_id
        await rig.hypervisor.suspend_guest(server_id)
        if by == "power off":
            await rig.hypervisor.power_off(server_id)
            view = await rig.look(server_id)
            assert (view.power, list_aliases(view)) == (PowerState.SHUTOFF, (set(), {disk.alias}))
            with pytest.raises(StepNever):
                await rig.resume(server_id, disk)
        await rig.boot(server_id, disk)
        assert (await rig.look(server_id)).boot_id not in ("", first)
        await rig.hypervisor.power_off(server_id)
        assert (await rig.look(server_id)).power is PowerState.SHUTOFF

    async def test_a_resumed_guest_that_ends_is_not_suspended_any_more(self, rig: Rig) -> None:
        server_id = await rig.start()
        await rig.hypervisor.suspend_guest(server_id)
        await rig.resume(server_id)
        await rig.hypervisor.power_off(server_id)
        assert (await rig.look(server_id)).power is PowerState.SHUTOFF
        with pytest.raises(StepNever):
            await rig.resume(server_id)

    async def test_a_suspended_server_can_be_undefined_and_its_memory_goes_with_it(self, rig: Rig) -> None:
        server_id = await rig.start(rig.make_disk())
        await rig.hypervisor.suspend_guest(server_id)
        await rig.hypervisor.undefine_server(server_id)
        assert await rig.hypervisor.observe_server(server_id) is None
        await rig.hypervisor.define_server(rig.make_spec(server_id))
        assert (await rig.look(server_id)).power is PowerState.SHUTOFF

    async def test_a_guest_that_does_not_run_is_neither_paused_nor_suspended(self, rig: Rig) -> None:
        server_id = await rig.define()
        for act in (rig.hypervisor.pause_guest, rig.hypervisor.unpause_guest, rig.hypervisor.suspend_guest):
            with pytest.raises(StepRetry):
                await act(server_id)

    async def test_a_guest_is_not_suspended_in_the_middle_of_a_copy(self, rig: Rig) -> None:
        disk = rig.make_disk()
        server_id = await rig.start(disk)
        copy = rig.make_copy(disk)
        await rig.hypervisor.copy_disk(server_id, copy)
        with pytest.raises(StepRetry):
            await rig.hypervisor.suspend_guest(server_id)
        await rig.hypervisor.end_copy(server_id, copy.copy_id)
        await rig.hypervisor.suspend_guest(server_id)
        assert await rig.hypervisor.copy_disk(server_id, copy) is None

    async def test_a_suspended_guest_goes_on_with_the_keys_of_its_volumes_and_not_without(self, rig: Rig) -> None:
        disk = rig.make_encrypted_disk()
        server_id = await rig.start(disk)
        await rig.hypervisor.suspend_guest(server_id)
        with pytest.raises(StepRetry):
            await rig.hypervisor.resume_guest(server_id, {disk.alias: None})
        assert (await rig.look(server_id)).power is PowerState.SUSPENDED
        await rig.resume(server_id, disk)
        assert list_sizes(await rig.look(server_id)) == {disk.alias: 4 * MIB}

    # Plugging

    async def test_a_disk_plugged_into_a_stopped_server_is_there_when_it_runs(self, rig: Rig) -> None:
        disk = rig.make_disk()
        server_id = await rig.define(disk)
        view = await rig.look(server_id)
        assert view.live == ()
        plugged = view.persistent_disk(disk.alias)
        assert plugged is not None
        assert (plugged.serial, plugged.source_path, plugged.target) == (disk.serial, disk.source_path, disk.target)
        await rig.boot(server_id, disk)
        assert list_aliases(await rig.look(server_id)) == ({disk.alias}, {disk.alias})

    async def test_a_volume_is_the_root_disk_of_a_server_that_has_none_of_its_own(self, rig: Rig) -> None:
        root, data = rig.make_disk(unit=0), rig.make_disk(unit=1)
        server_id = await rig.define_rootless(root, data)
        await rig.boot(server_id, root, data)
        assert list_aliases(await rig.look(server_id)) == ({root.alias, data.alias}, {root.alias, data.alias})
        await rig.hypervisor.power_off(server_id)
        await rig.boot(server_id, root, data)
        assert (await rig.look(server_id)).live_disk(root.alias) is not None

    async def test_a_disk_plugged_into_a_running_server_is_there_live_and_after_the_next_start(self, rig: Rig) -> None:
        server_id = await rig.start()
        disk = rig.make_disk(size_bytes=4 * MIB)
        await rig.hypervisor.plug_disk(server_id, disk)
        view = await rig.look(server_id)
        plugged = view.live_disk(disk.alias)
        assert plugged is not None
        assert (plugged.serial, plugged.source_path, plugged.target) == (disk.serial, disk.source_path, disk.target)
        assert plugged.size_bytes == 4 * MIB
        assert view.orphans == ()
        await rig.hypervisor.power_off(server_id)
        await rig.boot(server_id, disk)
        assert list_aliases(await rig.look(server_id)) == ({disk.alias}, {disk.alias})

    @pytest.mark.parametrize("running", [False, True], ids=["stopped", "running"])
    async def test_plugging_twice_plugs_once(self, rig: Rig, running: bool) -> None:
        disk = rig.make_disk()
        server_id = await (rig.start(disk) if running else rig.define(disk))
        before = await rig.look(server_id)
        await rig.hypervisor.plug_disk(server_id, disk)
        assert await rig.look(server_id) == before

    async def test_several_disks_asked_for_at_once_are_all_plugged(self, rig: Rig) -> None:
        server_id = await rig.start()
        disks = [rig.make_disk() for _ in range(4)]
        await asyncio.gather(*(rig.hypervisor.plug_disk(server_id, disk) for disk in disks))
        aliases = {disk.alias for disk in disks}
        assert list_aliases(await rig.look(server_id)) == (aliases, aliases)

    async def test_another_volume_under_the_same_alias_is_refused_and_changes_nothing(self, rig: Rig) -> None:
        disk, other = rig.make_disk(unit=1), rig.make_disk(unit=2)
        server_id = await rig.start(disk)
        before = await rig.look(server_id)
        impostor = DiskSpec(
            alias=disk.alias,
            serial=other.serial,
            source_path=other.source_path,
            source_format="raw",
            size_bytes=other.size_bytes,
            target=other.target,
            unit=other.unit,
        )
        with pytest.raises(StepNever):
            await rig.hypervisor.plug_disk(server_id, impostor)
        assert await rig.look(server_id) == before

    @pytest.mark.parametrize("running", [False, True], ids=["stopped", "running"])
    async def test_a_unit_that_is_taken_is_refused_and_changes_nothing(self, rig: Rig, running: bool) -> None:
        disk = rig.make_disk(unit=1)
        server_id = await (rig.start(disk) if running else rig.define(disk))
        before = await rig.look(server_id)
        with pytest.raises(StepNever):
            await rig.hypervisor.plug_disk(server_id, rig.make_disk(unit=1))
        assert await rig.look(server_id) == before

    async def test_a_shareable_volume_is_plugged_into_two_running_servers(self, rig: Rig) -> None:
        disk = rig.make_disk(shareable=True)
        first, second = await rig.start(disk), await rig.start(disk)
        for server_id in (first, second):
            assert list_aliases(await rig.look(server_id)) == ({disk.alias}, {disk.alias})
        await rig.unplug(first, disk.alias)
        assert list_aliases(await rig.look(second)) == ({disk.alias}, {disk.alias})

    async def test_a_caller_that_goes_away_leaves_a_plug_that_can_be_repeated(self, rig: Rig) -> None:
        server_id, disk = await rig.start(), rig.make_disk()
        plugging = asyncio.create_task(rig.hypervisor.plug_disk(server_id, disk))
        await asyncio.sleep(0)
        plugging.cancel()
        with contextlib.suppress(asyncio.CancelledError):  # a driver without delays has done it by then
            await plugging
        await rig.hypervisor.plug_disk(server_id, disk)
        assert list_aliases(await rig.look(server_id)) == ({disk.alias}, {disk.alias})

    # Unplugging

    async def test_unplugging_from_a_stopped_server_is_done_at_once(self, rig: Rig) -> None:
        disk = rig.make_disk()
        server_id = await rig.define(disk)
        assert await rig.hypervisor.unplug_disk(server_id, disk.alias) is True
        assert (await rig.look(server_id)).persistent == ()

    async def test_unplugging_from_a_running_server_is_done_when_the_disk_is_gone_live_and_defined(
        self, rig: Rig
    ) -> None:
        disk = rig.make_disk()
        server_id = await rig.start(disk)
        await rig.unplug(server_id, disk.alias)
        view = await rig.look(server_id)
        assert (view.live, view.persistent, view.orphans) == ((), (), ())
        await until_event(rig, Event(kind=EventKind.DISK_REMOVED, server_id=server_id, alias=disk.alias))

    async def test_the_first_answer_of_a_running_guest_is_not_yet_and_the_event_tells_when(self, rig: Rig) -> None:
        disk = rig.make_disk()
        server_id = await rig.start(disk)
        assert await rig.hypervisor.unplug_disk(server_id, disk.alias) is False
        await until_event(rig, Event(kind=EventKind.DISK_REMOVED, server_id=server_id, alias=disk.alias))
        assert (await rig.look(server_id)).live_disk(disk.alias) is None
        await rig.unplug(server_id, disk.alias)

    @pytest.mark.parametrize("running", [False, True], ids=["stopped", "running"])
    async def test_unplugging_what_is_not_there_is_success(self, rig: Rig, running: bool) -> None:
        other = rig.make_disk()
        server_id = await (rig.start(other) if running else rig.define(other))
        before = await rig.look(server_id)
        assert await rig.hypervisor.unplug_disk(server_id, f"ua-{uuid.uuid4()}") is True
        assert await rig.look(server_id) == before

    async def test_unplugging_one_disk_leaves_the_others(self, rig: Rig) -> None:
        going, staying = rig.make_disk(), rig.make_disk()
        server_id = await rig.start(going, staying)
        await rig.unplug(server_id, going.alias)
        assert list_aliases(await rig.look(server_id)) == ({staying.alias}, {staying.alias})

    async def test_a_disk_can_be_plugged_again_after_it_was_unplugged(self, rig: Rig) -> None:
        disk = rig.make_disk()
        server_id = await rig.start(disk)
        for _ in range(3):
            await rig.unplug(server_id, disk.alias)
            await rig.hypervisor.plug_disk(server_id, disk)
            assert list_aliases(await rig.look(server_id)) == ({disk.alias}, {disk.alias})

    async def test_a_unit_is_free_again_after_its_disk_was_unplugged(self, rig: Rig) -> None:
        first, second = rig.make_disk(unit=1), rig.make_disk(unit=1)
        server_id = await rig.start(first)
        await rig.unplug(server_id, first.alias)
        await rig.hypervisor.plug_disk(server_id, second)
        assert list_aliases(await rig.look(server_id)) == ({second.alias}, {second.alias})

    async def test_a_disk_moves_from_one_server_to_another(self, rig: Rig) -> None:
        disk = rig.make_disk()
        first, second = await rig.start(disk), await rig.start()
        await rig.unplug(first, disk.alias)
        await rig.hypervisor.plug_disk(second, disk)
        assert list_aliases(await rig.look(first)) == (set(), set())
        assert list_aliases(await rig.look(second)) == ({disk.alias}, {disk.alias})

    async def test_powering_off_keeps_the_disks_in_the_definition(self, rig: Rig) -> None:
        disk = rig.make_disk()
        server_id = await rig.start(disk)
        await rig.hypervisor.power_off(server_id)
        assert list_aliases(await rig.look(server_id)) == (set(), {disk.alias})
        assert await rig.hypervisor.unplug_disk(server_id, disk.alias) is True

    # Resizing

    async def test_a_running_guest_sees_a_disk_grow_and_never_shrink(self, rig: Rig) -> None:
        disk = rig.make_disk(size_bytes=4 * MIB)
        server_id = await rig.start(disk)
        with Path(disk.source_path).open("r+b") as file:
            file.truncate(8 * MIB)
        for size_bytes in (8 * MIB, 8 * MIB, 6 * MIB):
            await rig.hypervisor.resize_disk(server_id, disk.alias, size_bytes)
            plugged = (await rig.look(server_id)).live_disk(disk.alias)
            assert plugged is not None
            assert plugged.size_bytes == 8 * MIB
        assert Path(disk.source_path).stat().st_size == 8 * MIB

    async def test_resizing_a_disk_of_a_stopped_server_has_nothing_to_do(self, rig: Rig) -> None:
        disk = rig.make_disk()
        server_id = await rig.define(disk)
        before = await rig.look(server_id)
        await rig.hypervisor.resize_disk(server_id, disk.alias, 2 * disk.size_bytes)
        assert await rig.look(server_id) == before

    async def test_a_disk_is_plugged_with_its_limits_and_keeps_them_over_a_restart(self, rig: Rig) -> None:
        disk = msgspec.structs.replace(rig.make_disk(), tune=TUNE)
        server_id = await rig.start()
        await rig.hypervisor.plug_disk(server_id, disk)
        assert list_tunes(await rig.look(server_id), disk.alias) == (TUNE, TUNE)
        await rig.hypervisor.power_off(server_id)
        await rig.boot(server_id, disk)
        assert list_tunes(await rig.look(server_id), disk.alias) == (TUNE, TUNE)

    @pytest.mark.parametrize(
        "tune", [TUNE, DiskTune(total_bytes_sec=2 * MIB), NO_LIMITS], ids=["all kinds", "one", "none"]
    )
    async def test_limits_replace_whatever_limits_there_were_live_and_in_the_definition(
        self, rig: Rig, tune: DiskTune
    ) -> None:
        earlier = DiskTune(read_bytes_sec=MIB, total_iops_sec=100, total_iops_sec_max=200, size_iops_sec=512)
        disk = msgspec.structs.replace(rig.make_disk(), tune=earlier)
        server_id = await rig.start(disk)
        for _ in range(2):
            await rig.hypervisor.tune_disk(server_id, disk.alias, tune)
            assert list_tunes(await rig.look(server_id), disk.alias) == (tune, tune)

    async def test_a_stopped_servers_disk_starts_with_the_limits_that_it_was_given_meanwhile(self, rig: Rig) -> None:
        disk = rig.make_disk()
        server_id = await rig.define(disk)
        await rig.hypervisor.tune_disk(server_id, disk.alias, TUNE)
        await rig.boot(server_id, disk)
        assert list_tunes(await rig.look(server_id), disk.alias) == (TUNE, TUNE)

    async def test_limiting_a_disk_that_is_not_there_is_refused(self, rig: Rig) -> None:
        for server_id in (await rig.start(), await rig.define()):
            with pytest.raises(StepNever):
                await rig.hypervisor.tune_disk(server_id, f"ua-{uuid.uuid4()}", TUNE)

    @pytest.mark.parametrize("runs", [False, True])
    async def test_a_root_disk_is_copied_whole_whether_its_guest_runs_or_not(self, rig: Rig, runs: bool) -> None:
        image = rig.directory / "image.raw"
        image.write_bytes(b"what the guest boots from".ljust(2 * MIB, b"."))
        server_id = await (rig.start() if runs else rig.define())
        for _ in range(2):
            target = rig.directory / f"root-{uuid.uuid4()}"
            target.write_bytes(b"what an earlier attempt has left")
            copy = RootCopySpec(copy_id=str(uuid.uuid4()), target_path=str(target), format="raw")
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    view = await rig.hypervisor.copy_root(server_id, copy)
                    assert view is not None
                    if view.done:
                        break
                    await asyncio.sleep(LOOK_AGAIN_S)
            assert target.read_bytes() == image.read_bytes()
        assert (await rig.look(server_id)).copies == ()

    async def test_nothing_is_copied_where_there_is_no_server_or_a_volume_is_its_root_disk(self, rig: Rig) -> None:
        copy = RootCopySpec(copy_id=str(uuid.uuid4()), target_path=str(rig.directory / "none"), format="raw")
        assert await rig.hypervisor.copy_root(str(uuid.uuid4()), copy) is None
        root = rig.make_disk(unit=0)
        assert await rig.hypervisor.copy_root(await rig.define_rootless(root), copy) is None

    # Encryption

    async def test_an_encrypted_volume_is_plugged_with_its_key_and_shown_as_encrypted(self, rig: Rig) -> None:
        disk = rig.make_encrypted_disk()
        server_id = await rig.start()
        for _ in range(2):
            await rig.hypervisor.plug_disk(server_id, disk)
        view = await rig.look(server_id)
        for plugged in (view.live_disk(disk.alias), view.persistent_disk(disk.alias)):
            assert plugged is not None
            assert plugged.encrypted
        assert list_sizes(view) == {disk.alias: 4 * MIB}
        await rig.unplug(server_id, disk.alias)
        view = await rig.look(server_id)
        assert (view.live, view.persistent, view.orphans) == ((), (), ())

    async def test_an_encrypted_volume_without_a_key_is_never_plugged(self, rig: Rig) -> None:
        disk = msgspec.structs.replace(rig.make_encrypted_disk(), passphrase=None)
        for server_id in (await rig.start(), await rig.define()):
            with pytest.raises(StepNever):
                await rig.hypervisor.plug_disk(server_id, disk)
            view = await rig.look(server_id)
            assert (view.live, view.persistent, view.orphans) == ((), (), ())

    async def test_a_clear_volume_takes_no_key(self, rig: Rig) -> None:
        disk = msgspec.structs.replace(rig.make_disk(), passphrase=PASSPHRASE)
        server_id = await rig.start()
        with pytest.raises(StepNever):
            await rig.hypervisor.plug_disk(server_id, disk)

    async def test_a_server_starts_with_the_keys_of_its_volumes_and_not_without(self, rig: Rig) -> None:
        disk = rig.make_encrypted_disk()
        server_id = await rig.define(disk)
        with pytest.raises(StepRetry):
            await rig.hypervisor.start_server(server_id, {disk.alias: None})
        assert (await rig.look(server_id)).power is PowerState.SHUTOFF
        await rig.boot(server_id, disk)
        assert list_sizes(await rig.look(server_id)) == {disk.alias: 4 * MIB}

    async def test_an_encrypted_volume_is_never_copied_in_clear(self, rig: Rig) -> None:
        disk = rig.make_encrypted_disk()
        server_id = await rig.start(disk)
        with pytest.raises(StepNever):
            await rig.hypervisor.copy_disk(server_id, rig.make_copy(disk))
        assert (await rig.look(server_id)).copies == ()

    # Copying

    async def test_a_copy_of_a_plugged_disk_is_equal_to_it_and_keeps_its_holes(self, rig: Rig) -> None:
        disk = rig.make_disk(size_bytes=16 * MIB)
        write_stamps(disk)
        server_id = await rig.start(disk)
        copy = rig.make_copy(disk)
        view = await rig.copy(server_id, copy)
        assert view is not None
        assert view.done_bytes == view.total_bytes == 16 * MIB
        target = Path(copy.target_path)
        assert target.read_bytes() == Path(disk.source_path).read_bytes()
        assert target.stat().st_blocks * 512 < 4 * MIB
        after = await rig.look(server_id)
        assert after.copies == ()
        assert list_aliases(after) == ({disk.alias}, {disk.alias})

    async def test_a_copy_that_was_begun_is_seen_and_ended_and_ending_it_again_is_harmless(self, rig: Rig) -> None:
        disk = rig.make_disk()
        server_id = await rig.start(disk)
        copy = rig.make_copy(disk)
        view = await rig.hypervisor.copy_disk(server_id, copy)
        assert view is not None
        assert not view.done
        assert (await rig.look(server_id)).copies == (copy.copy_id,)
        for _ in range(2):
            await rig.hypervisor.end_copy(server_id, copy.copy_id)
            assert (await rig.look(server_id)).copies == ()
        again = await rig.copy(server_id, rig.make_copy(disk))
        assert again is not None

    async def test_a_copy_goes_on_under_a_driver_that_was_opened_anew(self, rig: Rig) -> None:
        disk = rig.make_disk()
        write_stamps(disk)
        server_id = await rig.start(disk)
        copy = rig.make_copy(disk)
        await rig.hypervisor.copy_disk(server_id, copy)
        await rig.reopen()
        assert (await rig.look(server_id)).copies == (copy.copy_id,)
        assert await rig.copy(server_id, copy) is not None
        assert Path(copy.target_path).read_bytes() == Path(disk.source_path).read_bytes()

    async def test_other_disks_come_and_go_during_a_copy(self, rig: Rig) -> None:
        first, second, third = rig.make_disk(), rig.make_disk(), rig.make_disk()
        write_stamps(first)
        server_id = await rig.start(first, second)
        copy = rig.make_copy(first)
        await rig.hypervisor.copy_disk(server_id, copy)
        await rig.hypervisor.plug_disk(server_id, third)
        await rig.hypervisor.power_off(server_id)
        assert await rig.hypervisor.copy_disk(server_id, copy) is None
        assert list_aliases(await rig.look(server_id)) == (set(), {first.alias, second.alias, third.alias})

    async def test_unplugging_a_disk_ends_its_copy_and_nothing_is_left_of_either(self, rig: Rig) -> None:
        disk, other = rig.make_disk(), rig.make_disk()
        server_id = await rig.start(disk, other)
        copy = rig.make_copy(disk)
        await rig.hypervisor.copy_disk(server_id, copy)
        await rig.unplug(server_id, disk.alias)
        view = await rig.look(server_id)
        assert list_aliases(view) == ({other.alias}, {other.alias})
        assert (view.orphans, view.copies) == ((), ())
        assert await rig.hypervisor.copy_disk(server_id, copy) is None
        await rig.hypervisor.plug_disk(server_id, disk)
        assert await rig.copy(server_id, rig.make_copy(disk)) is not None

    async def test_there_is_nothing_to_copy_where_no_running_guest_has_the_disk(self, rig: Rig) -> None:
        disk = rig.make_disk()
        copy = rig.make_copy(disk)
        for server_id in (await rig.start(), await rig.define(disk), str(uuid.uuid4())):
            assert await rig.hypervisor.copy_disk(server_id, copy) is None
            await rig.hypervisor.end_copy(server_id, copy.copy_id)

    async def test_a_copy_under_the_alias_of_another_volume_is_refused(self, rig: Rig) -> None:
        disk = rig.make_disk()
        server_id = await rig.start(disk)
        copy = msgspec.structs.replace(rig.make_copy(disk), serial=str(uuid.uuid4()))
        with pytest.raises(StepNever):
            await rig.hypervisor.copy_disk(server_id, copy)

    async def test_two_copies_of_one_disk_wait_for_each_other(self, rig: Rig) -> None:
        disk = rig.make_disk()
        server_id = await rig.start(disk)
        first, second = rig.make_copy(disk), rig.make_copy(disk)
        await rig.hypervisor.copy_disk(server_id, first)
        with pytest.raises(StepRetry):
            await rig.hypervisor.copy_disk(server_id, second)
        assert await rig.copy(server_id, first) is not None
        assert await rig.copy(server_id, second) is not None

    async def test_a_copy_without_a_target_is_refused_and_leaves_nothing(self, rig: Rig) -> None:
        disk = rig.make_disk()
        server_id = await rig.start(disk)
        copy = rig.make_copy(disk)
        Path(copy.target_path).unlink()
        with pytest.raises(StepNever):
            await rig.copy(server_id, copy)
        assert (await rig.look(server_id)).copies == ()

    # Swapping

    async def test_a_swapped_disk_is_the_new_volume_live_and_in_the_definition_with_the_contents(
        self, rig: Rig
    ) -> None:
        disk, other, new = rig.make_disk(), rig.make_disk(), rig.make_disk()
        write_stamps(disk)
        Path(new.source_path).write_bytes(b"x" * new.size_bytes)
        server_id = await rig.start(disk, other)
        swap = rig.make_swap(disk, new)
        boot_id = (await rig.look(server_id)).boot_id
        assert (await rig.fill(server_id, swap)).stage is SwapStage.READY
        assert (await rig.fill(server_id, swap)).stage is SwapStage.READY, "it waits to be told"
        before = (await rig.look(server_id)).live_disk(disk.alias)
        assert before is not None
        assert before.source_path == disk.source_path
        for _ in range(2):  # once more is the same
            view = await rig.hypervisor.swap_disk(server_id, swap, pivot=True)
            assert view == SwapView(stage=SwapStage.SWAPPED)
        assert Path(new.source_path).read_bytes() == Path(disk.source_path).read_bytes()
        after = await rig.look(server_id)
        assert (after.power, after.boot_id, after.orphans) == (PowerState.RUNNING, boot_id, ())
        assert list_aliases(after) == ({disk.alias, other.alias}, {disk.alias, other.alias})
        for found in (after.live_disk(disk.alias), after.persistent_disk(disk.alias)):
            assert found is not None
            assert (found.source_path, found.serial) == (new.source_path, disk.serial)
        assert await rig.hypervisor.end_swap(server_id, disk.source_path), "the old volume is let go of"
        assert not await rig.hypervisor.end_swap(server_id, new.source_path), "the new one is the guest's"
        Path(disk.source_path).unlink()
        await rig.hypervisor.power_off(server_id)
        assert await rig.hypervisor.swap_disk(server_id, swap, pivot=True) == SwapView(stage=SwapStage.SWAPPED)
        await rig.boot(server_id, disk, other)
        back = rig.make_disk()
        await rig.fill(server_id, again := msgspec.structs.replace(rig.make_swap(new, back), **_known_as(disk)))
        await rig.hypervisor.swap_disk(server_id, again, pivot=True)
        await rig.unplug(server_id, disk.alias)
        assert list_aliases(await rig.look(server_id)) == ({other.alias}, {other.alias})

    async def test_a_swap_that_is_ended_leaves_the_disk_as_it_was_and_ending_it_again_is_harmless(
        self, rig: Rig
    ) -> None:
        disk, new, newer = rig.make_disk(), rig.make_disk(), rig.make_disk()
        server_id = await rig.start(disk)
        swap = rig.make_swap(disk, new)
        await rig.hypervisor.swap_disk(server_id, swap, pivot=False)
        for _ in range(2):
            assert await rig.hypervisor.end_swap(server_id, new.source_path)
        assert await rig.hypervisor.swap_disk(server_id, swap, pivot=True) is None, "nothing is begun to be pivoted"
        await rig.fill(server_id, swap)
        await rig.reopen()
        assert (await rig.fill(server_id, swap)).stage is SwapStage.READY, "it goes on under a driver opened anew"
        assert await rig.hypervisor.end_swap(server_id, new.source_path)
        view = await rig.look(server_id)
        found = view.live_disk(disk.alias)
        assert found is not None
        assert (found.source_path, view.orphans) == (disk.source_path, ())
        second = rig.make_swap(disk, newer)
        await rig.fill(server_id, second)
        assert await rig.hypervisor.swap_disk(server_id, second, pivot=True) == SwapView(stage=SwapStage.SWAPPED)
        assert await rig.hypervisor.end_swap(server_id, new.source_path)

    async def test_unplugging_a_disk_ends_its_swap_and_so_does_the_end_of_its_guest(self, rig: Rig) -> None:
        disk, kept, new, newer = (rig.make_disk() for _ in range(4))
        server_id = await rig.start(disk, kept)
        swap, other = rig.make_swap(disk, new), rig.make_swap(kept, newer)
        await rig.fill(server_id, swap)
        with pytest.raises(StepRetry):
            await rig.hypervisor.suspend_guest(server_id)
        await rig.unplug(server_id, disk.alias)
        view = await rig.look(server_id)
        assert (list_aliases(view), view.orphans) == (({kept.alias}, {kept.alias}), ())
        assert await rig.hypervisor.swap_disk(server_id, swap, pivot=False) is None
        await rig.fill(server_id, other)
        await rig.hypervisor.power_off(server_id)
        for pivot in (False, True):
            assert await rig.hypervisor.swap_disk(server_id, other, pivot=pivot) is None
        await rig.boot(server_id, kept)
        assert await rig.hypervisor.swap_disk(server_id, other, pivot=True) is None
        (found,) = (await rig.look(server_id)).live
        assert found.source_path == kept.source_path

    async def test_a_swap_of_what_is_not_there_is_nothing_and_of_another_volume_is_refused(self, rig: Rig) -> None:
        disk, new = rig.make_disk(), rig.make_disk()
        swap = rig.make_swap(disk, new)
        for server_id in (await rig.start(), await rig.define(disk), str(uuid.uuid4())):
            assert await rig.hypervisor.swap_disk(server_id, swap, pivot=False) is None
            assert await rig.hypervisor.end_swap(server_id, new.source_path)
        server_id = await rig.start(disk)
        with pytest.raises(StepNever):
            await rig.hypervisor.swap_disk(
                server_id, msgspec.structs.replace(swap, serial=str(uuid.uuid4())), pivot=False
            )

    async def test_a_paused_guest_can_change_over_and_stays_paused(self, rig: Rig) -> None:
        disk, new = rig.make_disk(), rig.make_disk()
        server_id = await rig.start(disk)
        await rig.hypervisor.pause_guest(server_id)
        swap = rig.make_swap(disk, new)
        await rig.fill(server_id, swap)
        assert await rig.hypervisor.swap_disk(server_id, swap, pivot=True) == SwapView(stage=SwapStage.SWAPPED)
        view = await rig.look(server_id)
        assert (view.power, [one.source_path for one in view.live]) == (PowerState.PAUSED, [new.source_path])

    async def test_resizing_a_disk_that_a_running_server_has_not_is_refused(self, rig: Rig) -> None:
        server_id = await rig.start()
        with pytest.raises(StepNever):
            await rig.hypervisor.resize_disk(server_id, f"ua-{uuid.uuid4()}", 8 * MIB)


def write_stamps(disk: DiskSpec) -> None:
    """Data at the disk's beginning and at its end, and a hole between."""
    with Path(disk.source_path).open("r+b") as file:
        file.write(b"first stamp")
        file.seek(disk.size_bytes - MIB)
        file.write(b"last stamp".ljust(4096, b"."))


def _known_as(disk: DiskSpec) -> dict[str, str]:
    """Under which names the guest has the disk, whatever volume it is by now."""
    return {"alias": disk.alias, "serial": disk.serial}


def list_sizes(view: ServerView) -> dict[str, int | None]:
    """The sizes of the disks in the running guest."""
    return {disk.alias: disk.size_bytes for disk in view.live}


def list_tunes(view: ServerView, alias: str) -> tuple[DiskTune | None, DiskTune | None]:
    """A disk's limits: in the running guest, and in the definition."""
    live, persistent = view.live_disk(alias), view.persistent_disk(alias)
    return live.tune if live else None, persistent.tune if persistent else None


async def close_rig(rig: Rig) -> None:
    """Remove every server of the rig's host and close the driver."""
    for view in await rig.hypervisor.observe_all():
        await rig.hypervisor.undefine_server(view.server_id)
    await rig.hypervisor.close()


RigFixture = AsyncIterator[Rig]
