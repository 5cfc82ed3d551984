"""Encrypted volumes in real guests: what the guest writes is nowhere in clear, and only its key opens it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kevel.domain.encryption import Passphrase
from kevel.domain.errors import StepNever, StepRetry
from tests.conformance.hypervisor import MIB, PASSPHRASE, until
from tests.system.libvirt.conftest import Guest

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(240)]

STAMP = "only-the-guest-may-read-this"


async def until_seen(guest: Guest, serial: str, size_bytes: int) -> None:
    async def is_seen() -> bool:
        return (await guest.list_disks()).get(serial) == size_bytes

    await until(is_seen)


async def test_what_a_guest_writes_is_nowhere_in_clear_and_read_back_after_a_restart(guest: Guest) -> None:
    disk = guest.rig.make_encrypted_disk()
    await guest.hypervisor.plug_disk(guest.server_id, disk)
    await until_seen(guest, disk.serial, 4 * MIB)
    assert (await guest.run(f"echo {STAMP} | dd of=/dev/sdb bs=512 conv=sync,fsync")).code == 0
    assert (await guest.run("head -c 28 /dev/sdb")).output == STAMP
    assert STAMP.encode() not in Path(disk.source_path).read_bytes()

    await guest.hypervisor.power_off(guest.server_id)
    with pytest.raises(StepRetry):
        await guest.hypervisor.start_server(guest.server_id, {disk.alias: None})
    with pytest.raises(StepNever, match="key"):
        await guest.hypervisor.start_server(guest.server_id, {disk.alias: Passphrase("another")})
    await guest.hypervisor.start_server(guest.server_id, {disk.alias: PASSPHRASE})
    await guest.wait_ready()
    await until_seen(guest, disk.serial, 4 * MIB)
    # Of disks that are there at the boot, any may come first.
    (name,) = [line.split()[0] for line in (await guest.run("disks")).output.splitlines() if disk.serial in line]
    assert (await guest.run(f"head -c 28 /dev/{name.removeprefix('/dev/')}")).output == STAMP


async def test_a_wrong_key_never_plugs_and_leaves_nothing_and_no_key_stays_with_libvirt(guest: Guest) -> None:
    disk = guest.rig.make_encrypted_disk()
    wrong = msgspec.structs.replace(disk, passphrase=Passphrase("another"))
    with pytest.raises(StepNever, match="key"):
        await guest.hypervisor.plug_disk(guest.server_id, wrong)
    view = await guest.rig.look(guest.server_id)
    assert (view.live, view.persistent, view.orphans) == ((), (), ())
    await guest.hypervisor.plug_disk(guest.server_id, disk)
    for file in guest.rig.directory.rglob("*"):
        if file.is_file() and file.stat().st_size < 64 * MIB:
            assert PASSPHRASE.value.encode() not in file.read_bytes(), file


async def test_an_encrypted_disk_grows_under_its_guest_and_survives_the_death_of_the_driver(guest: Guest) -> None:
    disk = guest.rig.make_encrypted_disk()
    await guest.hypervisor.plug_disk(guest.server_id, disk)
    await until_seen(guest, disk.serial, 4 * MIB)
    await guest.rig.reopen()
    with Path(disk.source_path).open("r+b") as file:
        file.truncate(Path(disk.source_path).stat().st_size + 4 * MIB)
    await guest.hypervisor.resize_disk(guest.server_id, disk.alias, 8 * MIB)
    await until_seen(guest, disk.serial, 8 * MIB)
    await guest.rig.unplug(guest.server_id, disk.alias)
    view = await guest.rig.look(guest.server_id)
    assert (view.live, view.persistent, view.orphans) == ((), (), ())
