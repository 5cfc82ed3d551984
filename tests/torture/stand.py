"""One Kevel with real guests on one data directory: started, killed, looked at from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx

from kevel.cli.client import Cloud
from kevel.cli.console import ConsoleError, GuestConsole
from kevel.cli.process import KevelProcess, processes_of
from kevel.domain.errors import KevelError
from kevel.runtime import failpoints
from tests.system.libvirt.conftest import seed_probed
from tests.torture.disk import LossyDisk, PlainDisk, run

#: A guest that has no agent is not waited for, and one that does not let go of a disk is given up within the time that
#: everything has to settle in; the rest is as it comes.
CONFIG: Final = """
[limits]
detach_timeout_s = 20.0
shutdown_grace_s = 1.0
reboot_grace_s = 1.0
token_lifetime_s = 86400.0
"""
BOOT_S: Final = 120.0
END_S: Final = 10.0
LOOK_S: Final = 0.05
#: An image without a system: for servers that nobody looks into, since their boot costs nothing.
HOLLOW_BYTES: Final = 1 << 20
WORKER: Final = b"kevel.hypervisor.libvirt.worker"


class Stand:
    """The processes. `spent_file` lies outside the disk, so that a power cut does not take it back."""

    def __init__(self, disk: LossyDisk | PlainDisk) -> None:
        self.disk = disk
        self.data = disk.root / "d"
        self.data.mkdir(mode=0o700)
        seed_probed(self.data)
        run("sync", "--file-system", str(self.data))
        self.spent_file = disk.root.with_suffix(".spent")
        self.config = disk.root.with_suffix(".toml")
        self.config.write_text(CONFIG)
        self.process = KevelProcess(self.data, "--config", str(self.config))
        # Kevel's log is evidence: it lies outside the disk that fails.
        self.process.log = disk.root.with_suffix(".log")
        self._cloud: Cloud | None = None
        self._consoles: dict[str, threading.Lock] = {}

    @property
    def cloud(self) -> Cloud:
        """The running Kevel, as admin."""
        assert self._cloud is not None, "Kevel does not run"
        return self._cloud

    @property
    def url(self) -> str:
        return str(self.cloud.client.http.base_url)

    def start(self, points: str = "") -> None:
        """Start Kevel with failpoints armed. Raises KevelError when it does not come up."""
        self._cloud = None
        self.spent_file.unlink(missing_ok=True)
        environment = {failpoints.VARIABLE: points, failpoints.SPENT_VARIABLE: str(self.spent_file)} if points else {}
        self._cloud = self.process.start(environment)

    def spent(self) -> list[str]:
        """The points that have killed since the last start."""
        return self.spent_file.read_text().split() if self.spent_file.exists() else []

    def is_alive(self) -> bool:
        """Does Kevel's process run?"""
        return self.process.pid is not None and self.process.wait_end(0) is None

    def kill(self) -> None:
        """SIGKILL to Kevel, and wait until its driver's process has gone too, as it must by itself."""
        worker = self.worker_pid()
        self._cloud = None
        self.process.kill()
        deadline = time.monotonic() + END_S
        while worker is not None and Path(f"/proc/{worker}").exists():
            if time.monotonic() > deadline:
                raise KevelError(f"libvirt's process {worker} outlives Kevel by {END_S:g} s.")
            time.sleep(LOOK_S)

    def stop(self) -> None:
        """SIGTERM, and wait."""
        self._cloud = None
        self.process.stop()

    def worker_pid(self) -> int | None:
        """The driver's process; None while it is started anew."""
        parent = self.process.pid
        if parent is None:
            return None
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
                with contextlib.suppress(OSError):
                    if WORKER in Path(f"/proc/{child}/cmdline").read_bytes():
                        return int(child)
        return None

    def guests(self) -> dict[int, str]:
        """The QEMU processes on the data directory: server by process id."""
        found = {}
        for pid in processes_of(self.data):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if b"qemu-system" in words[0]:
                    name = words[words.index(b"-uuid") + 1]
                    found[pid] = name.decode()
        return found

    def open_volumes(self, pid: int) -> set[str]:
        """Volumes whose files a process has open."""
        found = set()
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    target = str(entry.readlink())
                    if target.startswith(f"{self.data}/volumes/volume-"):
                        found.add(target.removesuffix(" (deleted)").rpartition("/volume-")[2])
        return found

    def volume_file(self, volume_id: str) -> Path:
        """Where the volume's bytes lie."""
        return self.data / "volumes" / f"volume-{volume_id}"

    def kill_everything(self) -> None:
        """What a power cut does to processes: Kevel, libvirt's process and all guests are gone."""
        with contextlib.suppress(KevelError):
            self.kill()
        for pid in processes_of(self.data):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + END_S
        while left := processes_of(self.data):
            if time.monotonic() > deadline:
                raise KevelError(f"Processes {left} do not end.")
            time.sleep(LOOK_S)

    def close(self) -> None:
        """End everything and remove the data."""
        self.kill_everything()
        self.disk.close()
        for path in (self.spent_file, self.config, self.process.log):
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def console(self, server_id: str) -> Iterator[GuestConsole]:
        """The guest's console; one visitor at a time."""
        with (
            self._consoles.setdefault(server_id, threading.Lock()),
            GuestConsole(self.data / "servers" / server_id / "console.sock") as console,
        ):
            yield console

    def wait_ready(self, server_id: str) -> None:
        """Return when the guest's shell answers."""
        with self.console(server_id) as console:
            console.wait_ready(BOOT_S)

    def disks(self, server_id: str) -> dict[str, str]:
        """Disks as the guest itself sees them: name by serial (virtio shows 20 letters of it)."""
        with self.console(server_id) as console:
            lines = console.run("disks").output.splitlines()
        return {words[2]: words[0] for line in lines if len(words := line.split()) == 3}

    def ask_guest(self, server_id: str, command: str) -> str | None:
        """What a command printed in the guest; None when the guest did not answer or the command failed."""
        try:
            with self.console(server_id) as console:
                done = console.run(command, timeout_s=10.0)
        except (ConsoleError, OSError):
            return None
        return done.output if done.code == 0 else None

    def furnish(self) -> None:
        """Images for servers nobody looks into, and for guests whose volumes are virtio disks."""
        client = self.cloud.client
        (tiny,) = client.get("/image/v2/images?name=tiny")["images"]
        booted = {key: tiny[key] for key in ("kernel_id", "ramdisk_id", "os_command_line")}
        self._make_image("hollow", {})
        self._make_image("virtio", {**booted, "hw_disk_bus": "virtio"})

    def _make_image(self, name: str, properties: dict[str, Any]) -> None:
        client = self.cloud.client
        image = {"name": name, "disk_format": "raw", "container_format": "bare", "visibility": "public", **properties}
        image_id = client.post("/image/v2/images", image)["id"]
        answer = client.http.put(
            f"/image/v2/images/{image_id}/file",
            content=bytes(HOLLOW_BYTES),
            headers={"Content-Type": "application/octet-stream"},
        )
        if answer.status_code != httpx.codes.NO_CONTENT:
            raise KevelError(f"Image {name}: {answer.text}")
