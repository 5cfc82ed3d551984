"""Opening the driver: what it needs, and what it says when it does not get it."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from kevel.domain.errors import SetupError
from kevel.hypervisor.base import VolumeBus
from kevel.hypervisor.libvirt import hypervisor
from kevel.hypervisor.libvirt.hypervisor import DATA_DIR_BYTES_MAX, LibvirtHypervisor
from tests.conformance.hypervisor import Rig, list_aliases
from tests.system.libvirt.conftest import kill_guests, make_rig, seed_probed
from tests.system.libvirt.warm import REPO

#: An ordinary user; need not exist.
OTHER_UID = 54321

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
    await rig.hypervisor.close()


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


PLUG_AND_UNPLUG = """
import asyncio, sys
from pathlib import Path
from kevel.hypervisor.libvirt.hypervisor import LibvirtHypervisor
from tests.conformance.hypervisor import Rig, close_rig, list_aliases

async def main():
    rig = Rig(LibvirtHypervisor(Path(sys.argv[1])), Path(sys.argv[1]), make_driver=lambda: None)
    await rig.open()
    server_id, disk = await rig.start(), rig.make_disk()
    await rig.hypervisor.plug_disk(server_id, disk)
    assert list_aliases(await rig.look(server_id)) == ({disk.alias}, {disk.alias})
    await rig.unplug(server_id, disk.alias)
    await close_rig(rig)

asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests have run as an ordinary user already")
async def test_an_ordinary_user_can_run_servers(data_dir: Path) -> None:
    python = find_python_for(OTHER_UID)
    if python is None:
        pytest.skip("no Python 3.11 here that another user can reach")
    for path in (data_dir, *data_dir.rglob("*")):
        os.chown(path, OTHER_UID, OTHER_UID)
    process = await asyncio.create_subprocess_exec(
        python, "-c", PLUG_AND_UNPLUG, str(data_dir),
        cwd=data_dir, env=make_environment(), user=OTHER_UID, group=OTHER_UID, extra_groups=[],
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()


def find_python_for(uid: int) -> str | None:
    """An interpreter that another user can start and that finds our packages."""
    for python in (sys.executable, "/usr/bin/python3.11"):
        try:
            command = [python, "-c", "import kevel, libvirt, tests.conformance.hypervisor"]
            subprocess.run(
                command, check=True, cwd="/", env=make_environment(), user=uid, group=uid, extra_groups=[], timeout=30,
                capture_output=True,
            )  # fmt: skip
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    return None


def make_environment() -> dict[str, str]:
    """An environment with this interpreter's packages in it and nothing else."""
    paths = (str(REPO / "src"), str(REPO), sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    return {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}


async def test_a_missing_daemon_is_said(data_dir: Path) -> None:
    driver = LibvirtHypervisor(data_dir, uri=f"qemu+unix:///system?socket={data_dir}/none")
    with pytest.raises(SetupError, match="No libvirt daemon answers"):
        await driver.open(lambda _event: None)


async def test_a_server_leaves_nothing_behind(rig: Rig) -> None:
    server_id = await rig.start(rig.make_disk())
    await rig.hypervisor.undefine_server(server_id)
    left = {str(path.relative_to(rig.directory)) for path in rig.directory.rglob("*") if server_id[:8] in path.name}
    assert left == set()
