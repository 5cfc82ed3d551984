"""Copies of the disks of real guests that go on writing, and what dies meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from kevel.domain.errors import StepNever, StepRetry, StepUnknown
from kevel.hypervisor.base import CopySpec, CopyView, DiskSpec, PowerState
from tests.conformance.hypervisor import MIB, list_aliases, until
from tests.system.libvirt.conftest import Guest
from tests.system.libvirt.qmp import Monitor
from tests.system.libvirt.warm import REPO

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(240)]

#: Writes numbered lines, each to its own block and then to the same place of the second half: whoever sees a number in
#: the second half at an instant also sees it in the first.
WRITER = """
i=0; while :; do i=$((i+1)); printf '%08d\\n' $i > /tmp/line;
dd if=/tmp/line of=/dev/sdb bs=512 seek=0 conv=notrunc,sync,fsync 2>/dev/null;
dd if=/tmp/line of=/dev/sdb bs=512 seek=16384 conv=notrunc,sync,fsync 2>/dev/null; done
""".replace("\n", " ")


async def plug_seen(guest: Guest, *, size_bytes: int) -> DiskSpec:
    """A plugged disk that the guest has found."""
    disk = guest.rig.make_disk(size_bytes=size_bytes)
    await guest.hypervisor.plug_disk(guest.server_id, disk)

    async def is_seen() -> bool:
        return disk.serial in await guest.list_disks()

    await until(is_seen)
    return disk


async def finish(guest: Guest, copy: CopySpec) -> CopyView | None:
    """Take steps over whatever dies meanwhile."""
    found: list[CopyView | None] = []

    async def is_over() -> bool:
        with contextlib.suppress(StepRetry, StepUnknown):
            view = await guest.hypervisor.copy_disk(guest.server_id, copy)
            found.append(view)
            return view is None or view.done
        return False

    await until(is_over)
    return found[-1]


def slow_down(guest: Guest, copy: CopySpec) -> None:
    """Make the copy last. The monitor takes one client, so the driver has to be closed."""
    with Monitor(guest.rig.directory) as monitor:
        (job,) = [one for one in monitor("query-jobs") if copy.copy_id in one["id"]]
        monitor("block-job-set-speed", device=job["id"], speed=1)


async def test_a_copy_of_a_disk_that_is_being_written_is_of_one_instant(guest: Guest) -> None:
    disk = await plug_seen(guest, size_bytes=64 * MIB)
    await guest.run("dd if=/dev/urandom of=/dev/sdb bs=1M count=24 seek=16 conv=fsync 2>/dev/null", timeout_s=60)
    assert (await guest.run(f"({WRITER}) >/dev/null 2>&1 & echo begun")).output.strip() == "begun"
    copy = guest.rig.make_copy(disk)
    assert await finish(guest, copy) is not None
    before = Path(disk.source_path).read_bytes()
    copied = Path(copy.target_path).read_bytes()
    assert copied[16 * MIB : 40 * MIB] == before[16 * MIB : 40 * MIB]
    assert any(copied[16 * MIB : 40 * MIB])
    first, second = int(copied[:8]), int(copied[8 * MIB : 8 * MIB + 8] or b"0")
    assert first - 1 <= second <= first, "no write is in the copy without the one before it"

    async def goes_on() -> bool:
        return int(Path(disk.source_path).read_bytes()[:8]) > first

    await until(goes_on)


async def test_a_mounted_file_system_is_frozen_for_the_instant_and_the_guest_goes_on(guest: Guest) -> None:
    disk = await plug_seen(guest, size_bytes=32 * MIB)
    result = await guest.run("mkdir -p /mnt && mke2fs -q /dev/sdb 2>&1 && mount /dev/sdb /mnt && echo mounted")
    assert "mounted" in result.output, result
    await guest.run("echo never synced > /mnt/file")
    copy = guest.rig.make_copy(disk)
    assert await finish(guest, copy) is not None
    assert b"never synced" in Path(copy.target_path).read_bytes(), "freezing wrote out what the guest held back"
    assert (await guest.run("echo more > /mnt/more && sync && echo thawed")).output.strip() == "thawed"
    assert not (guest.rig.directory / "servers" / guest.server_id / "frozen").exists()


async def test_a_guest_that_a_dead_process_left_frozen_is_thawed_by_the_next(guest: Guest) -> None:
    await plug_seen(guest, size_bytes=32 * MIB)
    result = await guest.run("mkdir -p /mnt && mke2fs -q /dev/sdb 2>&1 && mount /dev/sdb /mnt && echo mounted")
    assert "mounted" in result.output, result
    mark = guest.rig.directory / "servers" / guest.server_id / "frozen"
    mark.touch()
    await guest.hypervisor.close()
    freeze = [sys.executable, "-m", "tests.system.libvirt.tamper", str(guest.rig.directory), guest.server_id]
    process = await asyncio.create_subprocess_exec(*freeze, "-", "freeze", cwd=REPO)
    assert await process.wait() == 0
    await guest.rig.open()

    async def is_thawed() -> bool:
        return not mark.exists()

    await until(is_thawed)
    assert (await guest.run("echo more > /mnt/more && sync && echo thawed")).output.strip() == "thawed"


async def test_a_copy_survives_the_death_of_the_child_process(guest: Guest) -> None:
    disk = await plug_seen(guest, size_bytes=32 * MIB)
    await guest.run("echo stamp | dd of=/dev/sdb bs=512 conv=sync,fsync")
    copy = guest.rig.make_copy(disk)
    await guest.hypervisor.copy_disk(guest.server_id, copy)
    os.kill(guest.worker_pid, signal.SIGKILL)
    assert await finish(guest, copy) is not None
    assert Path(copy.target_path).read_bytes() == Path(disk.source_path).read_bytes()
    view = await guest.rig.look(guest.server_id)
    assert (view.copies, view.orphans) == ((), ())


async def test_a_copy_whose_guest_dies_is_told_that_there_is_nothing_to_copy_from(guest: Guest) -> None:
    disk = await plug_seen(guest, size_bytes=32 * MIB)
    copy = guest.rig.make_copy(disk)
    await guest.hypervisor.copy_disk(guest.server_id, copy)
    await guest.hypervisor.close()
    slow_down(guest, copy)
    await guest.rig.open()
    os.kill(guest.pid, signal.SIGKILL)
    assert await finish(guest, copy) is None
    view = await guest.rig.look(guest.server_id)
    assert view.power is PowerState.CRASHED
    assert list_aliases(view) == (set(), {disk.alias})


async def test_other_disks_come_and_go_and_the_copied_one_goes_while_a_copy_lasts(guest: Guest) -> None:
    disk = await plug_seen(guest, size_bytes=32 * MIB)
    await guest.run("dd if=/dev/urandom of=/dev/sdb bs=1M count=24 conv=fsync 2>/dev/null", timeout_s=60)
    copy, other = guest.rig.make_copy(disk), guest.rig.make_disk()
    await guest.hypervisor.copy_disk(guest.server_id, copy)
    await guest.rig.reopen()
    await guest.hypervisor.plug_disk(guest.server_id, other)
    with contextlib.suppress(StepRetry):  # a disk that is being copied may have to wait to grow
        await guest.hypervisor.resize_disk(guest.server_id, disk.alias, 40 * MIB)
    await guest.rig.unplug(guest.server_id, other.alias)
    await guest.rig.unplug(guest.server_id, disk.alias)
    view = await guest.rig.look(guest.server_id)
    assert (view.live, view.persistent, view.copies, view.orphans) == ((), (), (), ())


@pytest.fixture
def small_file_system(tmp_path: Path) -> Iterator[Path]:
    """A directory with 8 MiB of room."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "kevel-test", str(tmp_path)], check=False).returncode:
        pytest.skip("this machine mounts nothing")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


async def test_a_copy_that_finds_no_space_fails_alone_and_the_guest_writes_on(
    guest: Guest, small_file_system: Path
) -> None:
    disk = await plug_seen(guest, size_bytes=32 * MIB)
    await guest.run("dd if=/dev/urandom of=/dev/sdb bs=1M count=24 conv=fsync 2>/dev/null", timeout_s=60)
    target = small_file_system / "target"
    target.touch()
    copy = msgspec.structs.replace(guest.rig.make_copy(disk), target_path=str(target))
    with pytest.raises(StepNever, match="no space"):
        await finish(guest, copy)
    result = await guest.run("dd if=/dev/urandom of=/dev/sdb bs=1M count=24 conv=fsync 2>/dev/null", timeout_s=60)
    assert result.code == 0
    view = await guest.rig.look(guest.server_id)
    assert (view.copies, view.orphans) == ((), ())
    await asyncio.to_thread(target.unlink)
