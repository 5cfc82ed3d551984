"""Opening the driver: what it needs, and what it says when it does not get it."""

from __future__ import annotations

import asyncio
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from kevel.domain.errors import SetupError
from kevel.hypervisor.base import VolumeBus
from kevel.hypervisor.libvirt import hypervisor
from kevel.hypervisor.libvirt.hypervisor import DATA_DIR_BYTES_MAX, LibvirtHypervisor
from tests.conformance.hypervisor import Rig, close_rig, list_aliases
from tests.system.libvirt.conftest import kill_guests, make_rig, seed_probed

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(120)]


@pytest.fixture
def long_data_dir() -> Iterator[Path]:
    """A data directory with the longest path that is allowed."""
    path = Path("/tmp/" + "k" * (DATA_DIR_BYTES_MAX - len("/tmp/")))
    seed_probed(path)
    yield path
    kill_guests(path)
    shutil.rmtree(path)


async def test_a_guest_runs_under_the_longest_path_that_is_allowed(long_data_dir: Path) -> None:
    rig = make_rig(long_data_dir, VolumeBus.SCSI)
    await rig.open()
    server_id, disk = await rig.start(), rig.make_disk()
    await rig.hypervisor.plug_disk(server_id, disk)
    assert list_aliases(await rig.look(server_id)) == ({disk.alias}, {disk.alias})
    for kind in ("console.sock", "agent.sock"):
        assert stat.S_ISSOCK((long_data_dir / "servers" / server_id / kind).stat().st_mode)
    longest = max((str(path) for path in long_data_dir.rglob("*.sock")), key=len)
    # The reserve is for domain numbers of up to six digits; this one has one.
    assert len(longest) + 5 == hypervisor.SOCKET_PATH_BYTES_MAX
    await close_rig(rig)


async def test_a_second_driver_on_the_same_directory_is_refused_and_the_first_goes_on(rig: Rig) -> None:
    server_id = await rig.define()
    with pytest.raises(SetupError, match="Another process holds"):
        await LibvirtHypervisor(rig.directory).open(rig.events.append)
    assert (await rig.look(server_id)).server_id == server_id


async def test_the_lock_of_a_predecessor_that_is_still_there_is_waited_for(rig: Rig) -> None:
    server_id = await rig.define()
    successor = LibvirtHypervisor(rig.directory)
    opening = asyncio.create_task(successor.open(rig.events.append))
    await asyncio.sleep(1)
    assert not opening.done()
    await rig.hypervisor.close()
    await opening
    assert await successor.observe_server(server_id) is not None
    await successor.close()
    await rig.reopen()


async def test_a_missing_daemon_is_said(data_dir: Path) -> None:
    driver = LibvirtHypervisor(data_dir, uri=f"qemu+unix:///system?socket={data_dir}/none")
    with pytest.raises(SetupError, match="No libvirt daemon answers"):
        await driver.open(lambda _event: None)


async def test_a_server_leaves_nothing_behind(rig: Rig) -> None:
    server_id = await rig.start(rig.make_disk())
    await rig.hypervisor.undefine_server(server_id)
    left = {str(path.relative_to(rig.directory)) for path in rig.directory.rglob("*") if server_id[:8] in path.name}
    assert left == set()
