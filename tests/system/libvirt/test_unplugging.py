"""Guests that let go of a disk late, or never.

Only virtio-blk guests can: a virtio-scsi disk is taken from the guest whatever it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from kevel.cli.console import ConsoleError
from kevel.hypervisor.base import Event, EventKind
from tests.conformance.hypervisor import Rig, list_aliases, until_event
from tests.system.libvirt.conftest import Guest, boot_guest
from tests.system.libvirt.warm import REPO

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(240)]

#: Longer than a guest that answers would take, many times.
SILENCE_S = 2.0


async def ask_in_vain(rig: Rig, server_id: str, alias: str) -> None:
    """Ask for the disk again and again, and never get it."""
    for _ in range(5):
        assert await rig.hypervisor.unplug_disk(server_id, alias) is False
        await asyncio.sleep(SILENCE_S / 5)


async def test_a_request_during_early_boot_is_lost_and_works_when_it_is_repeated(virtio_rig: Rig) -> None:
    guest = await boot_guest(virtio_rig, cmdline="console=ttyS0 quiet kevel.hold=4", wait=False)
    disk = virtio_rig.make_disk()
    await virtio_rig.hypervisor.plug_disk(guest.server_id, disk)
    assert await virtio_rig.hypervisor.unplug_disk(guest.server_id, disk.alias) is False
    await guest.wait_ready()
    assert list_aliases(await virtio_rig.look(guest.server_id)) == ({disk.alias}, {disk.alias})
    await virtio_rig.unplug(guest.server_id, disk.alias)
    assert await guest.list_disks() == {}


async def test_a_guest_that_never_answers_keeps_the_disk_whole(virtio_rig: Rig) -> None:
    disk = virtio_rig.make_disk()
    server_id = await virtio_rig.start(disk)  # there is nothing in it that could answer
    before = await virtio_rig.look(server_id)
    await ask_in_vain(virtio_rig, server_id, disk.alias)
    assert await virtio_rig.look(server_id) == before
    await virtio_rig.hypervisor.plug_disk(server_id, disk)
    assert await virtio_rig.look(server_id) == before
    await virtio_rig.hypervisor.power_off(server_id)
    assert await virtio_rig.hypervisor.unplug_disk(server_id, disk.alias) is True


async def test_a_reboot_completes_a_removal_that_the_guest_did_not_answer(virtio_rig: Rig) -> None:
    guest = await boot_guest(virtio_rig, cmdline="console=ttyS0 quiet acpi=off")
    disk = virtio_rig.make_disk()
    await virtio_rig.hypervisor.plug_disk(guest.server_id, disk)
    await ask_in_vain(virtio_rig, guest.server_id, disk.alias)
    with contextlib.suppress(ConsoleError):  # it does not live to say that it did
        await guest.run("reboot -f", timeout_s=3)
    removed = Event(kind=EventKind.DISK_REMOVED, server_id=guest.server_id, alias=disk.alias)
    await until_event(virtio_rig, removed)
    # The definition still has it: only the next call takes it out there, and only if the disk is still to go.
    assert list_aliases(await virtio_rig.look(guest.server_id)) == (set(), {disk.alias})
    await virtio_rig.unplug(guest.server_id, disk.alias)
    assert list_aliases(await virtio_rig.look(guest.server_id)) == (set(), set())


async def test_a_virtio_disk_leaves_a_guest_that_answers(virtio_guest: Guest) -> None:
    disk = virtio_guest.rig.make_disk()
    for _ in range(3):
        await virtio_guest.hypervisor.plug_disk(virtio_guest.server_id, disk)
        assert list_aliases(await virtio_guest.rig.look(virtio_guest.server_id)) == ({disk.alias}, {disk.alias})
        await virtio_guest.rig.unplug(virtio_guest.server_id, disk.alias)
        view = await virtio_guest.rig.look(virtio_guest.server_id)
        assert (view.live, view.persistent, view.orphans) == ((), (), ())


async def test_a_scsi_disk_leaves_a_guest_that_never_answers(rig: Rig) -> None:
    disk = rig.make_disk()
    server_id = await rig.start(disk)
    await rig.unplug(server_id, disk.alias)
    assert list_aliases(await rig.look(server_id)) == (set(), set())


async def test_requests_at_the_same_time_and_without_pause_end_in_one_removal(rig: Rig) -> None:
    """libvirt's own detach call crashes when the device goes between two requests; so it is not used."""
    server_id = await rig.start()
    for _ in range(20):
        disk = rig.make_disk(unit=1)
        await rig.hypervisor.plug_disk(server_id, disk)
        async with asyncio.timeout(20):
            while not all(await asyncio.gather(*(rig.hypervisor.unplug_disk(server_id, disk.alias) for _ in range(3)))):
                await asyncio.sleep(0)
        removed = Event(kind=EventKind.DISK_REMOVED, server_id=server_id, alias=disk.alias)
        await until_event(rig, removed)
        assert rig.events.count(removed) == 1
    assert rig.events.count(Event(kind=EventKind.RECONNECTED, server_id="")) == 1


async def remove_behind_the_back(rig: Rig, server_id: str, alias: str, where: str) -> None:
    """Take the disk out of the running guest only, or out of the definition only."""
    await rig.hypervisor.close()
    command = [sys.executable, "-m", "tests.system.libvirt.tamper", str(rig.directory), server_id, alias, where]
    await asyncio.to_thread(subprocess.run, command, cwd=REPO, check=True, timeout=60)
    await rig.reopen()


@pytest.mark.parametrize("where", ["live", "config"])
async def test_a_disk_in_one_truth_only_is_completed_by_a_plug(rig: Rig, where: str) -> None:
    disk = rig.make_disk()
    server_id = await rig.start(disk)
    await remove_behind_the_back(rig, server_id, disk.alias, where)
    assert [len(aliases) for aliases in list_aliases(await rig.look(server_id))] == (
        [0, 1] if where == "live" else [1, 0]
    )
    await rig.hypervisor.plug_disk(server_id, disk)
    assert list_aliases(await rig.look(server_id)) == ({disk.alias}, {disk.alias})


@pytest.mark.parametrize("where", ["live", "config"])
async def test_a_disk_in_one_truth_only_is_removed_by_an_unplug(rig: Rig, where: str) -> None:
    disk = rig.make_disk()
    server_id = await rig.start(disk)
    await remove_behind_the_back(rig, server_id, disk.alias, where)
    await rig.unplug(server_id, disk.alias)
    assert list_aliases(await rig.look(server_id)) == (set(), set())
    assert Path(disk.source_path).exists()
