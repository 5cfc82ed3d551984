"""What a real guest sees of its disks."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import msgspec
import pytest

from kevel.domain.errors import StepNever, StepRetry
from kevel.domain.tuning import DiskTune
from tests.conformance.hypervisor import MIB, Rig, list_aliases, until
from tests.system.libvirt.conftest import Guest, boot_guest
from tests.system.libvirt.qmp import Monitor

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(240)]


def make_qcow2(*arguments: str) -> None:
    """Make a qcow2 image."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *arguments], check=True, timeout=30)


async def until_seen(guest: Guest, disks: dict[str, int]) -> None:
    """Wait until the guest sees just these disks (size by serial)."""

    async def is_seen() -> bool:
        return await guest.list_disks() == disks

    await until(is_seen)


async def test_a_guest_sees_the_whole_volume_id_as_serial_and_its_writes_reach_the_file(guest: Guest) -> None:
    disk = guest.rig.make_disk(size_bytes=8 * MIB)
    await guest.hypervisor.plug_disk(guest.server_id, disk)
    await until_seen(guest, {disk.serial: 8 * MIB})
    result = await guest.run("echo stamp-of-kevel | dd of=/dev/sdb bs=512 conv=sync,fsync")
    assert result.code == 0
    with Path(disk.source_path).open("rb") as file:
        assert file.read(14) == b"stamp-of-kevel"
    await guest.rig.unplug(guest.server_id, disk.alias)
    await until_seen(guest, {})


async def test_a_guest_sees_its_disk_grow(guest: Guest) -> None:
    disk = guest.rig.make_disk(size_bytes=4 * MIB)
    await guest.hypervisor.plug_disk(guest.server_id, disk)
    await until_seen(guest, {disk.serial: 4 * MIB})
    with Path(disk.source_path).open("r+b") as file:
        file.truncate(16 * MIB)
    await guest.hypervisor.resize_disk(guest.server_id, disk.alias, 16 * MIB)
    await until_seen(guest, {disk.serial: 16 * MIB})


async def test_limits_hold_qemu_itself_and_the_guest_feels_them_at_once(guest: Guest) -> None:
    disk = msgspec.structs.replace(guest.rig.make_disk(size_bytes=16 * MIB), tune=DiskTune(write_bytes_sec=2 * MIB))
    await guest.hypervisor.plug_disk(guest.server_id, disk)
    await until_seen(guest, {disk.serial: 16 * MIB})
    write = "s=$(cut -d' ' -f1 /proc/uptime); dd if=/dev/zero of=/dev/sdb bs=1M count=6 oflag=direct 2>/dev/null; "
    write += "e=$(cut -d' ' -f1 /proc/uptime); echo $s $e"
    start, end = (await guest.run(write)).output.split()
    assert float(end) - float(start) > 1.5, "6 MiB at 2 MiB a second, with a burst at first"
    await guest.hypervisor.tune_disk(guest.server_id, disk.alias, DiskTune(total_iops_sec=400))
    await guest.hypervisor.close()
    with Monitor(guest.rig.directory) as monitor:
        (drive,) = [one for one in monitor("query-block") if disk.alias in one.get("qdev", "")]
    assert (drive["inserted"]["iops"], drive["inserted"]["bps_wr"]) == (400, 0)


async def test_a_late_request_to_grow_does_not_undo_a_later_one(guest: Guest) -> None:
    disk = guest.rig.make_disk(size_bytes=4 * MIB)
    await guest.hypervisor.plug_disk(guest.server_id, disk)
    with Path(disk.source_path).open("r+b") as file:
        file.truncate(16 * MIB)
    await guest.hypervisor.resize_disk(guest.server_id, disk.alias, 8 * MIB)
    assert Path(disk.source_path).stat().st_size == 16 * MIB
    await until_seen(guest, {disk.serial: 16 * MIB})


async def test_a_qcow2_volume_is_shown_at_its_own_size_and_grows(guest: Guest) -> None:
    raw = guest.rig.make_disk(size_bytes=0)
    disk = msgspec.structs.replace(raw, source_format="qcow2", size_bytes=4 * MIB)
    make_qcow2(disk.source_path, str(4 * MIB))
    await guest.hypervisor.plug_disk(guest.server_id, disk)
    await until_seen(guest, {disk.serial: 4 * MIB})
    await guest.hypervisor.resize_disk(guest.server_id, disk.alias, 16 * MIB)
    await until_seen(guest, {disk.serial: 16 * MIB})


async def test_a_raw_volume_that_holds_a_qcow2_image_is_shown_as_it_is(guest: Guest) -> None:
    """Guest-made bytes are never probed: neither for a format nor for a backing file."""
    disk = guest.rig.make_disk(size_bytes=0)
    make_qcow2("-b", "/etc/hostname", "-F", "raw", disk.source_path, "64M")
    with Path(disk.source_path).open("r+b") as file:
        file.truncate(MIB)
    await guest.hypervisor.plug_disk(guest.server_id, disk)
    await until_seen(guest, {disk.serial: MIB})
    assert (await guest.run("head -c 3 /dev/sdb")).output == "QFI"


async def test_the_backing_file_of_a_qcow2_volume_is_not_followed(guest: Guest) -> None:
    secret = guest.rig.directory / "secret.raw"
    secret.write_bytes(b"TOPSECRET".ljust(MIB, b"\0"))
    disk = msgspec.structs.replace(guest.rig.make_disk(size_bytes=0), source_format="qcow2")
    make_qcow2("-b", str(secret), "-F", "raw", disk.source_path)
    await guest.hypervisor.plug_disk(guest.server_id, disk)
    await until_seen(guest, {disk.serial: MIB})
    assert "TOPSECRET" not in (await guest.run("head -c 9 /dev/sdb | tr '\\0' 0")).output


async def test_a_guest_finds_its_disks_again_after_a_reboot_from_inside(guest: Guest) -> None:
    disk = guest.rig.make_disk()
    await guest.hypervisor.plug_disk(guest.server_id, disk)
    before = await guest.rig.look(guest.server_id)
    await guest.hypervisor.ask_reboot(guest.server_id)
    await asyncio.sleep(1)  # it still answers for a moment
    await guest.wait_ready()
    assert disk.serial in await guest.list_disks()
    assert (await guest.rig.look(guest.server_id)) == before


async def test_a_guest_shuts_down_when_asked(guest: Guest) -> None:
    disk = guest.rig.make_disk()
    await guest.hypervisor.plug_disk(guest.server_id, disk)
    await guest.hypervisor.ask_shutdown(guest.server_id)

    async def is_off() -> bool:
        return (await guest.rig.look(guest.server_id)).stop_reason == "shutdown"

    await until(is_off)
    assert list_aliases(await guest.rig.look(guest.server_id)) == (set(), {disk.alias})


async def test_a_guest_without_an_agent_hears_the_power_button_but_no_request_to_reboot(rig: Rig) -> None:
    guest = await boot_guest(rig, cmdline="console=ttyS0 quiet kevel.agent=off")
    with pytest.raises(StepRetry):
        await rig.hypervisor.ask_reboot(guest.server_id)
    await rig.hypervisor.ask_shutdown(guest.server_id)

    async def is_off() -> bool:
        return (await rig.look(guest.server_id)).stop_reason == "shutdown"

    await until(is_off)


async def test_a_volume_that_is_open_in_one_guest_is_not_plugged_into_another(rig: Rig) -> None:
    disk = rig.make_disk()
    first, second = await rig.start(disk), await rig.start()
    with pytest.raises(StepRetry):
        await rig.hypervisor.plug_disk(second, disk)
    view = await rig.look(second)
    assert (view.live, view.persistent, view.orphans) == ((), (), ())
    await rig.unplug(first, disk.alias)
    await rig.hypervisor.plug_disk(second, disk)


async def test_a_volume_whose_file_is_missing_is_refused_and_leaves_nothing(rig: Rig) -> None:
    disk = rig.make_disk()
    Path(disk.source_path).unlink()
    server_id = await rig.start()
    with pytest.raises(StepNever, match="cannot be opened"):
        await rig.hypervisor.plug_disk(server_id, disk)
    view = await rig.look(server_id)
    assert (view.live, view.persistent, view.orphans) == ((), (), ())


async def test_a_full_virtio_bus_is_a_clear_refusal(virtio_rig: Rig) -> None:
    server_id = await virtio_rig.start()
    disks = [
        msgspec.structs.replace(
            virtio_rig.make_disk(unit=1), unit=unit, target=f"vd{chr(97 + unit // 26)}{chr(97 + unit % 26)}"
        )
        for unit in range(1, 30)
    ]
    for disk in disks[:28]:
        await virtio_rig.hypervisor.plug_disk(server_id, disk)
    before = await virtio_rig.look(server_id)
    assert len(before.live) == 28
    with pytest.raises(StepNever, match="no more room"):
        await virtio_rig.hypervisor.plug_disk(server_id, disks[28])
    assert await virtio_rig.look(server_id) == before
    await virtio_rig.hypervisor.power_off(server_id)
    await virtio_rig.boot(server_id, *disks)
    assert len((await virtio_rig.look(server_id)).live) == 28


async def test_a_server_has_sata_disks_from_its_start_and_the_full_bus_is_a_clear_refusal(sata_rig: Rig) -> None:
    disks = [msgspec.structs.replace(sata_rig.make_disk(unit=unit), target=f"sd{chr(97 + unit)}") for unit in range(7)]
    root, *others = disks
    server_id = await sata_rig.define_rootless(root, *others[:5])
    await sata_rig.boot(server_id, *disks[:6])
    assert {disk.alias for disk in (await sata_rig.look(server_id)).live} == {disk.alias for disk in disks[:6]}
    with pytest.raises(StepNever, match="unit 6 is outside"):
        await sata_rig.hypervisor.plug_disk(server_id, disks[6])
    await sata_rig.hypervisor.power_off(server_id)
    assert await sata_rig.hypervisor.unplug_disk(server_id, disks[5].alias)
    await sata_rig.hypervisor.plug_disk(server_id, disks[5])
