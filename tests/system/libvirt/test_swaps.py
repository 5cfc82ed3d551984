"""A swap of a real guest's volume whose libvirt dies when QEMU has changed over and no definition says so."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from kevel.hypervisor.base import PowerState, SwapStage, SwapView
from tests.conformance.hypervisor import MIB, until
from tests.system.libvirt.conftest import Guest
from tests.system.libvirt.test_copies import plug_seen
from tests.system.libvirt.warm import REPO

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(240)]


async def test_a_guest_goes_on_only_when_its_definition_has_the_volume_that_it_writes(guest: Guest) -> None:
    disk, new = await plug_seen(guest, size_bytes=32 * MIB), guest.rig.make_disk(size_bytes=32 * MIB)
    await guest.run("echo before | dd of=/dev/sdb bs=512 conv=sync,fsync 2>/dev/null")
    swap = guest.rig.make_swap(disk, new)
    await guest.rig.fill(guest.server_id, swap)
    await guest.hypervisor.close()
    die = [sys.executable, "-m", "tests.system.libvirt.tamper", str(guest.rig.directory), guest.server_id]
    process = await asyncio.create_subprocess_exec(*die, disk.alias, "pivot", cwd=REPO)
    assert await process.wait() == 0
    await guest.rig.open()

    async def is_swapped() -> bool:
        view = await guest.hypervisor.swap_disk(guest.server_id, swap, pivot=True)
        return view == SwapView(stage=SwapStage.SWAPPED)

    await until(is_swapped)
    view = await guest.rig.look(guest.server_id)
    assert view.power is PowerState.PAUSED, "whoever follows the server lets it go on"
    for found in (view.live_disk(disk.alias), view.persistent_disk(disk.alias)):
        assert found is not None
        assert found.source_path == new.source_path
    assert Path(new.source_path).read_bytes() == Path(disk.source_path).read_bytes()
    await guest.hypervisor.unpause_guest(guest.server_id)
    await guest.run("echo after | dd of=/dev/sdb bs=512 conv=sync,fsync 2>/dev/null")
    assert Path(new.source_path).read_bytes()[:5] == b"after"
    assert Path(disk.source_path).read_bytes()[:6] == b"before"
    assert (await guest.rig.look(guest.server_id)).orphans == ()
