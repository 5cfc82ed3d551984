"""Processes that die or hang at a bad moment: the driver's child with libvirt in it, QEMU, the driver's own process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from kevel.domain.errors import StepRetry, StepUnknown
from kevel.hypervisor.base import DiskSpec, Event, EventKind, PowerState
from kevel.hypervisor.libvirt.domain_xml import name_domain
from tests.conformance.hypervisor import Rig, list_aliases, until
from tests.system.libvirt.conftest import Guest, list_guest_pids
from tests.system.libvirt.qmp import Monitor
from tests.system.libvirt.warm import REPO

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(240)]

RECONNECTED = Event(kind=EventKind.RECONNECTED, server_id="")


async def until_answered(guest: Guest) -> None:
    """Wait until the driver has connected again and the guest's monitor answers."""

    async def is_answered() -> bool:
        with contextlib.suppress(StepRetry, StepUnknown):
            await guest.hypervisor.observe_server(guest.server_id)
            return True
        return False

    await until(is_answered)


def find_guest_dirs(rig: Rig) -> list[Path]:
    """The directories that libvirt makes for each running guest."""
    return sorted((rig.directory / "libvirt").rglob("domain-*-kevel-*"))


async def until_plugged(guest: Guest, disk: DiskSpec) -> None:
    """Plug until it is done: a device that a dead attempt left is in the way until the guest has let go of it."""

    async def is_plugged() -> bool:
        with contextlib.suppress(StepRetry):
            await guest.hypervisor.plug_disk(guest.server_id, disk)
            return True
        return False

    await until(is_plugged)


# The child process


async def test_guests_survive_the_death_of_the_child_process_and_the_next_call_works(guest: Guest) -> None:
    disk = guest.rig.make_disk()
    await guest.hypervisor.plug_disk(guest.server_id, disk)
    before, qemu, worker = await guest.rig.look(guest.server_id), guest.pid, guest.worker_pid
    guest.rig.events.clear()
    os.kill(worker, signal.SIGKILL)
    await until_answered(guest)
    assert RECONNECTED in guest.rig.events
    assert await guest.rig.look(guest.server_id) == before
    assert (guest.pid, guest.worker_pid != worker) == (qemu, True)
    await guest.rig.unplug(guest.server_id, disk.alias)
    assert list_aliases(await guest.rig.look(guest.server_id)) == (set(), set())


async def test_a_plug_whose_process_is_killed_is_completed_by_the_next(guest: Guest) -> None:
    for delay_ms in (0, 2, 4, 6, 8, 12):
        disk = guest.rig.make_disk(unit=1)
        plugging = asyncio.create_task(guest.hypervisor.plug_disk(guest.server_id, disk))
        await asyncio.sleep(delay_ms / 1000)
        os.kill(guest.worker_pid, signal.SIGKILL)
        with contextlib.suppress(StepUnknown):
            await plugging
        await until_answered(guest)
        await until_plugged(guest, disk)
        view = await guest.rig.look(guest.server_id)
        assert (list_aliases(view), view.orphans) == (({disk.alias}, {disk.alias}), ())
        await guest.rig.unplug(guest.server_id, disk.alias)
        assert (await guest.rig.look(guest.server_id)).orphans == ()


async def test_an_unplug_whose_process_is_killed_is_completed_by_the_next(guest: Guest) -> None:
    for delay_ms in (0, 2, 4, 30, 60):
        disk = guest.rig.make_disk(unit=1)
        await guest.hypervisor.plug_disk(guest.server_id, disk)
        unplugging = asyncio.create_task(guest.hypervisor.unplug_disk(guest.server_id, disk.alias))
        await asyncio.sleep(delay_ms / 1000)
        os.kill(guest.worker_pid, signal.SIGKILL)
        with contextlib.suppress(StepUnknown):
            await unplugging
        await until_answered(guest)
        await guest.rig.unplug(guest.server_id, disk.alias)
        view = await guest.rig.look(guest.server_id)
        assert (view.live, view.persistent, view.orphans) == ((), (), ())


@pytest.mark.parametrize("left", ["one node", "both nodes", "a device"])
async def test_what_a_killed_plug_left_in_qemu_is_seen_and_does_not_hinder_the_next(guest: Guest, left: str) -> None:
    disk = guest.rig.make_disk()
    await guest.hypervisor.close()
    with Monitor(guest.rig.directory) as monitor:
        # The number that libvirt's next attach takes: 1 is the root disk's.
        monitor.add_nodes(disk, 2, with_format=left != "one node")
        if left == "a device":
            monitor.add_device(disk, 2)
    await guest.rig.reopen()
    view = await guest.rig.look(guest.server_id)
    assert view.live == ()
    expected = {"libvirt-2-storage"} | ({"libvirt-2-format"} if left != "one node" else set())
    assert set(view.orphans) == expected | ({disk.alias} if left == "a device" else set())
    await until_plugged(guest, disk)
    view = await guest.rig.look(guest.server_id)
    assert list_aliases(view) == ({disk.alias}, {disk.alias})
    assert view.orphans == ()


async def test_what_a_killed_plug_left_in_qemu_is_removed_by_an_unplug(guest: Guest) -> None:
    for number, left in ((7, "one node"), (8, "both nodes"), (9, "a device")):
        disk = guest.rig.make_disk(unit=1)
        await guest.hypervisor.close()
        with Monitor(guest.rig.directory) as monitor:
            monitor.add_nodes(disk, number, with_format=left != "one node")
            if left == "a device":
                monitor.add_device(disk, number)
        await guest.rig.reopen()
        assert (await guest.rig.look(guest.server_id)).orphans
        await guest.rig.unplug(guest.server_id, disk.alias)
        view = await guest.rig.look(guest.server_id)
        assert (view.live, view.persistent, view.orphans) == ((), (), ())
    await guest.hypervisor.close()
    with Monitor(guest.rig.directory) as monitor:
        assert {node for node in monitor.list_nodes() if node.startswith("libvirt-")} == {
            "libvirt-1-format",
            "libvirt-1-storage",
        }
    await guest.rig.reopen()


async def test_what_is_left_of_one_disk_hinders_no_other_and_stays_in_sight(guest: Guest) -> None:
    left, other = guest.rig.make_disk(), guest.rig.make_disk()
    await guest.hypervisor.close()
    with Monitor(guest.rig.directory) as monitor:
        monitor.add_nodes(left, 2)
        monitor.add_device(left, 2)
    await guest.rig.reopen()
    await guest.hypervisor.plug_disk(guest.server_id, other)
    view = await guest.rig.look(guest.server_id)
    assert list_aliases(view) == ({other.alias}, {other.alias})
    assert left.alias in view.orphans
    await guest.rig.unplug(guest.server_id, other.alias)
    assert left.alias in (await guest.rig.look(guest.server_id)).orphans
    await guest.rig.unplug(guest.server_id, left.alias)
    assert (await guest.rig.look(guest.server_id)).orphans == ()


# QEMU


async def test_a_guest_whose_process_is_killed_has_crashed_and_keeps_its_disk_in_the_definition(guest: Guest) -> None:
    disk = guest.rig.make_disk()
    await guest.hypervisor.plug_disk(guest.server_id, disk)
    guest.rig.events.clear()
    os.kill(guest.pid, signal.SIGKILL)

    async def has_crashed() -> bool:
        with contextlib.suppress(StepRetry):  # libvirt notices it when the process has been reaped
            return (await guest.rig.look(guest.server_id)).power is PowerState.CRASHED
        return False

    await until(has_crashed)
    assert Event(kind=EventKind.LIFECYCLE, server_id=guest.server_id) in guest.rig.events
    view = await guest.rig.look(guest.server_id)
    assert (view.stop_reason, view.boot_id, list_aliases(view)) == ("crashed", "", (set(), {disk.alias}))
    await guest.rig.boot(guest.server_id, disk)
    assert list_aliases(await guest.rig.look(guest.server_id)) == ({disk.alias}, {disk.alias})


async def test_a_guest_that_dies_during_a_plug_ends_the_plug(guest: Guest) -> None:
    disk = guest.rig.make_disk()
    qemu = guest.pid
    os.kill(qemu, signal.SIGSTOP)
    plugging = asyncio.create_task(guest.hypervisor.plug_disk(guest.server_id, disk))
    await asyncio.sleep(0.3)
    os.kill(qemu, signal.SIGKILL)
    with pytest.raises(StepRetry):
        await plugging
    assert (await guest.rig.look(guest.server_id)).power is PowerState.CRASHED
    await guest.hypervisor.plug_disk(guest.server_id, disk)
    assert list_aliases(await guest.rig.look(guest.server_id)) == (set(), {disk.alias})


async def test_a_hung_guest_costs_one_restart_and_does_not_hinder_others(impatient_guest: Guest) -> None:
    guest = impatient_guest
    other = await guest.rig.start()
    disk = guest.rig.make_disk()
    worker = guest.worker_pid
    os.kill(guest.pid, signal.SIGSTOP)
    with pytest.raises(StepUnknown):
        await guest.hypervisor.plug_disk(guest.server_id, disk)
    assert not Path(f"/proc/{worker}").exists()  # so nothing of the plug can still come
    # Nobody enters the hung monitor again: the new child is not killed for it.
    for _ in range(2):
        with pytest.raises(StepRetry, match="does not answer"):
            await guest.hypervisor.observe_server(guest.server_id)
    survivor = guest.worker_pid
    assert {view.server_id for view in await guest.hypervisor.observe_all()} == {guest.server_id, other}
    other_disk = guest.rig.make_disk()
    await guest.hypervisor.plug_disk(other, other_disk)
    await guest.rig.unplug(other, other_disk.alias)
    os.kill(guest.pid, signal.SIGCONT)
    await until_answered(guest)
    await guest.hypervisor.plug_disk(guest.server_id, disk)
    assert list_aliases(await guest.rig.look(guest.server_id)) == ({disk.alias}, {disk.alias})
    assert guest.worker_pid == survivor


async def test_a_hung_guest_can_be_powered_off(guest: Guest) -> None:
    qemu = guest.pid
    os.kill(qemu, signal.SIGSTOP)

    async def is_off() -> bool:
        with contextlib.suppress(StepRetry):  # libvirt waits 15 s, and the process must have been reaped by then
            await guest.hypervisor.power_off(guest.server_id)
            return (await guest.rig.look(guest.server_id)).power is not PowerState.RUNNING
        return False

    await until(is_off)
    assert guest.server_id not in list_guest_pids(guest.rig.directory)


# The driver's own process


async def test_the_child_process_ends_when_its_parent_is_killed_and_the_guest_goes_on(rig: Rig) -> None:
    server_id = await rig.start()
    await rig.hypervisor.close()
    script = (
        "import asyncio, sys; from pathlib import Path\n"
        "from kevel.hypervisor.libvirt.hypervisor import LibvirtHypervisor\n"
        "async def main():\n"
        "    hypervisor = LibvirtHypervisor(Path(sys.argv[1]))\n"
        "    await hypervisor.open(lambda event: None)\n"
        "    print(hypervisor._child.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(rig.directory), stdout=asyncio.subprocess.PIPE, cwd=REPO
    )
    assert parent.stdout is not None
    async with asyncio.timeout(30):
        worker = int(await parent.stdout.readline())
    parent.kill()
    await parent.wait()

    async def is_gone() -> bool:
        status = Path(f"/proc/{worker}/stat")
        return not status.exists() or status.read_text().split(") ")[1][0] == "Z"

    await until(is_gone)
    await rig.reopen()
    assert (await rig.look(server_id)).power is PowerState.RUNNING


async def test_what_a_dying_libvirt_left_of_a_running_guest_goes_with_the_server(guest: Guest) -> None:
    root = guest.rig.directory / "libvirt"
    state = root / "run" / "qemu" / f"{name_domain(guest.server_id)}.xml"
    kept = state.read_text()
    await guest.hypervisor.power_off(guest.server_id)
    for left in (state, state.with_suffix(".xml.new")):  # libvirt writes beside a state file and renames
        left.write_text(kept)
    await guest.hypervisor.undefine_server(guest.server_id)
    assert [path for path in root.rglob("*") if guest.server_id in path.name] == []


async def test_a_start_that_died_before_its_process_was_recorded_does_not_block_the_server(rig: Rig) -> None:
    # What a libvirt leaves that is killed in the middle of a start; QEMU may run already, as here.
    server_id = await rig.start()
    pid = list_guest_pids(rig.directory)[server_id]
    await rig.hypervisor.close()
    state = rig.directory / "libvirt" / "run" / "qemu" / f"{name_domain(server_id)}.xml"
    kept = state.read_text()
    dead = re.sub(r"<domstatus [^>]*>", "<domstatus state='paused' reason='starting up' pid='0'>", kept)
    job = "<job type='none' async='start' flags='0x0' asyncStarted='1795384142614'/>"
    state.write_text(dead.replace("<domain type=", f"{job}\n  <domain type=", 1))
    await rig.open()
    assert not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()
    assert (await rig.look(server_id)).power is PowerState.SHUTOFF
    assert find_guest_dirs(rig) == []
    await rig.boot(server_id)
    assert (await rig.look(server_id)).power is PowerState.RUNNING


async def test_the_directories_of_a_guest_whose_end_died_go_and_those_of_running_guests_stay(rig: Rig) -> None:
    gone, running = await rig.start(), await rig.start()
    kept = find_guest_dirs(rig)
    await rig.hypervisor.undefine_server(gone)
    of_running = find_guest_dirs(rig)
    assert (len(kept), len(of_running)) == (4, 2)
    await rig.hypervisor.close()
    for path in kept:
        path.mkdir(exist_ok=True)
    await rig.open()
    assert find_guest_dirs(rig) == of_running
    assert (await rig.look(running)).power is PowerState.RUNNING


async def test_a_disk_that_went_while_libvirt_was_dead_is_found_even_if_its_list_of_devices_lacks_it(
    guest: Guest,
) -> None:
    disk = guest.rig.make_disk()
    await guest.hypervisor.plug_disk(guest.server_id, disk)
    await guest.hypervisor.close()
    with Monitor(guest.rig.directory) as monitor:
        monitor("device_del", id=disk.alias)
    # The list was made anew, for another disk, between the guest's answer and libvirt's death.
    state = guest.rig.directory / "libvirt" / "run" / "qemu" / f"{name_domain(guest.server_id)}.xml"
    kept = state.read_text()
    assert kept.count(f"<device alias='{disk.alias}'/>") == 1
    state.write_text(kept.replace(f"<device alias='{disk.alias}'/>", ""))
    await guest.rig.reopen()
    assert (await guest.rig.look(guest.server_id)).live == ()
    assert await guest.hypervisor.unplug_disk(guest.server_id, disk.alias)
