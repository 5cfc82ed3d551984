"""Hosts and guests for tests of the libvirt driver.

Guests end with their test, found by their pid files and not through the driver: it would wait for their processes to be
reaped, which the init of some containers does every other second only.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from kevel.cli.console import CommandResult, GuestConsole
from kevel.hypervisor.base import Hypervisor, VolumeBus
from kevel.hypervisor.libvirt.hypervisor import LibvirtHypervisor
from tests.conformance.hypervisor import Rig
from tests.system.libvirt.warm import BOOT_LIMIT_S, REPO, make_guest_spec

#: What libvirt found out about QEMU, which takes it 8 s; it checks by itself that this is still so.
PROBED = REPO / ".cache" / "libvirt-probed"
WARM_LIMIT_S = 150


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data directory with a short path (unix sockets)."""
    path = Path(tempfile.mkdtemp(prefix="kv-", dir="/tmp"))
    seed_probed(path)
    yield path
    kill_guests(path)
    keep_probed(path)
    log = path / "libvirt-worker.log"
    said = log.read_text() if log.exists() else ""
    shutil.rmtree(path)
    assert "Fatal Python error" not in said, said  # libvirt has crashed


def keep_probed(data_dir: Path) -> None:
    """Keep what libvirt has found out; it appears whole, since other tests run beside this one."""
    cache = data_dir / "libvirt" / "cache"
    if not PROBED.exists() and cache.exists():
        with tempfile.TemporaryDirectory(dir=PROBED.parent) as directory:
            whole = shutil.copytree(cache, Path(directory) / "cache")
            with contextlib.suppress(OSError):  # another test was quicker
                whole.rename(PROBED)


def seed_probed(data_dir: Path) -> None:
    """Let libvirt know about QEMU what it has found out before."""
    if PROBED.exists():
        shutil.copytree(PROBED, data_dir / "libvirt" / "cache")


def kill_guests(data_dir: Path) -> None:
    """End what still runs of a data directory's guests."""
    for pid in list_guest_pids(data_dir).values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def list_guest_pids(data_dir: Path) -> dict[str, int]:
    """The QEMU processes of a data directory, by server id."""
    pids = {}
    for file in (data_dir / "libvirt" / "run" / "qemu").glob("kevel-*.pid"):
        server_id, pid = file.stem.removeprefix("kevel-"), int(file.read_text())
        command = Path(f"/proc/{pid}/cmdline")
        if command.exists() and server_id.encode() in command.read_bytes():
            pids[server_id] = pid
    return pids


def make_rig(data_dir: Path, volume_bus: VolumeBus, call_limit_s: float = 30.0) -> Rig:
    """A rig on the real driver."""

    def make_driver() -> LibvirtHypervisor:
        return LibvirtHypervisor(data_dir, call_limit_s=call_limit_s)

    return Rig(make_driver(), data_dir, volume_bus=volume_bus, make_driver=make_driver)


@pytest.fixture
async def rig(data_dir: Path) -> AsyncIterator[Rig]:
    """The driver, open on a fresh host."""
    rig = make_rig(data_dir, VolumeBus.SCSI)
    await rig.open()
    yield rig
    await rig.hypervisor.close()


@pytest.fixture
async def virtio_rig(data_dir: Path) -> AsyncIterator[Rig]:
    """The same for servers whose volumes are virtio-blk disks."""
    rig = make_rig(data_dir, VolumeBus.VIRTIO)
    await rig.open()
    yield rig
    await rig.hypervisor.close()


@pytest.fixture
async def sata_rig(data_dir: Path) -> AsyncIterator[Rig]:
    """The same for servers whose volumes are SATA disks."""
    rig = make_rig(data_dir, VolumeBus.SATA)
    await rig.open()
    yield rig
    await rig.hypervisor.close()


class Guest:
    """A running guest and the host it runs on."""

    def __init__(self, rig: Rig, server_id: str) -> None:
        self.rig = rig
        self.server_id = server_id

    @property
    def hypervisor(self) -> Hypervisor:
        """The driver."""
        return self.rig.hypervisor

    @property
    def pid(self) -> int:
        """The QEMU process."""
        return list_guest_pids(self.rig.directory)[self.server_id]

    @property
    def worker_pid(self) -> int:
        """The driver's child process."""
        assert isinstance(self.hypervisor, LibvirtHypervisor)
        assert self.hypervisor._child is not None
        return self.hypervisor._child.pid

    async def run(self, command: str, timeout_s: float = 20.0) -> CommandResult:
        """Run a command inside."""

        def talk() -> CommandResult:
            with self._console() as console:
                return console.run(command, timeout_s)

        return await asyncio.to_thread(talk)

    async def wait_ready(self) -> None:
        """Wait until the guest has booted."""

        def talk() -> None:
            with self._console() as console:
                console.wait_ready(BOOT_LIMIT_S)

        await asyncio.to_thread(talk)

    async def list_disks(self) -> dict[str, int]:
        """What the guest sees besides its root disk: sizes by serial."""
        lines = (await self.run("disks")).output.splitlines()
        fields = [line.split() for line in lines]
        return {field[2]: int(field[1]) for field in fields if len(field) == 3}

    def _console(self) -> GuestConsole:
        return GuestConsole(self.rig.directory / "servers" / self.server_id / "console.sock")


async def boot_guest(rig: Rig, *, cmdline: str | None = None, wait: bool = True) -> Guest:
    """Boot the tiny guest from cold."""
    spec = make_guest_spec(str(uuid.uuid4()), rig.volume_bus)
    if cmdline is not None:
        spec = make_guest_spec(spec.server_id, rig.volume_bus, cmdline=cmdline)
    await rig.hypervisor.define_server(spec)
    await rig.boot(spec.server_id)
    guest = Guest(rig, spec.server_id)
    if wait:
        await guest.wait_ready()
    return guest


def run_warm(act: str, data_dir: Path, bus: VolumeBus, server_id: str, saved: Path) -> None:
    """Save or restore a guest; see warm.py."""
    command = [sys.executable, "-m", "tests.system.libvirt.warm", act, str(data_dir), bus.value, server_id, str(saved)]
    subprocess.run(command, cwd=REPO, check=True, timeout=WARM_LIMIT_S, stdin=subprocess.DEVNULL)


def save_guest(bus: VolumeBus, saved: Path) -> None:
    """Boot a guest and save it to that file, whole or not at all."""
    data_dir = Path(tempfile.mkdtemp(prefix="kv-", dir="/tmp"))
    try:
        seed_probed(data_dir)
        run_warm("save", data_dir, bus, str(uuid.uuid4()), data_dir / "saved")
        shutil.move(data_dir / "saved", saved)
    finally:
        kill_guests(data_dir)
        shutil.rmtree(data_dir)


@pytest.fixture(scope="session")
def find_saved_guest(tmp_path_factory: pytest.TempPathFactory) -> Callable[[VolumeBus], Path]:
    """A guest that was booted and saved, once a session for each bus."""
    directory = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        directory = directory.parent  # all workers of this session have it

    def find(bus: VolumeBus) -> Path:
        saved = directory / f"saved-{bus.value}"
        with (directory / f"saving-{bus.value}").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not saved.exists():
                save_guest(bus, saved)
        return saved

    return find


async def open_warm_guest(data_dir: Path, bus: VolumeBus, saved: Path, call_limit_s: float = 30.0) -> Guest:
    """A guest restored from a saved one, on a fresh host with the driver open."""
    server_id = str(uuid.uuid4())
    await asyncio.to_thread(run_warm, "restore", data_dir, bus, server_id, saved)
    rig = make_rig(data_dir, bus, call_limit_s)
    await rig.open()
    return Guest(rig, server_id)


@pytest.fixture
async def guest(data_dir: Path, find_saved_guest: Callable[[VolumeBus], Path]) -> AsyncIterator[Guest]:
    """A booted guest whose volumes are virtio-scsi disks."""
    guest = await open_warm_guest(data_dir, VolumeBus.SCSI, find_saved_guest(VolumeBus.SCSI))
    yield guest
    await guest.hypervisor.close()


@pytest.fixture
async def virtio_guest(data_dir: Path, find_saved_guest: Callable[[VolumeBus], Path]) -> AsyncIterator[Guest]:
    """A booted guest whose volumes are virtio-blk disks: it can refuse to let go of one."""
    guest = await open_warm_guest(data_dir, VolumeBus.VIRTIO, find_saved_guest(VolumeBus.VIRTIO))
    yield guest
    await guest.hypervisor.close()


@pytest.fixture
async def impatient_guest(data_dir: Path, find_saved_guest: Callable[[VolumeBus], Path]) -> AsyncIterator[Guest]:
    """A booted guest under a driver that takes a call for hung after three seconds."""
    guest = await open_warm_guest(data_dir, VolumeBus.SCSI, find_saved_guest(VolumeBus.SCSI), call_limit_s=3.0)
    yield guest
    await guest.hypervisor.close()
