"""The tiny guest in QEMU alone: what the demo and the other tests rely on when they look inside a guest."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(180)]

GUEST = Path(__file__).parents[3] / ".cache" / "guest"
SERIAL = "0a1b2c3d-0000-4000-8000-123456789abc"
BOOT_TIMEOUT_S = 90
ANSWER_TIMEOUT_S = 20


def connect(path: Path) -> socket.socket:
    """Connect to a socket that QEMU is about to make."""
    end = time.monotonic() + ANSWER_TIMEOUT_S
    while True:
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(BOOT_TIMEOUT_S)
        try:
            link.connect(str(path))
        except OSError:
            link.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return link


class Machine:
    """A running QEMU with the tiny guest, its console and its agent's channel."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path) -> None:
        self.process = process
        self.directory = directory
        self.console = connect(directory / "console")
        self.said = b""

    def read_until(self, pattern: bytes) -> bytes:
        """Return what the console says up to the end of the pattern."""
        while (found := re.search(pattern, self.said)) is None:
            piece = self.console.recv(65536)
            assert piece, f"the guest went away after saying {self.said!r}"
            self.said += piece
        text, self.said = self.said[: found.end()], self.said[found.end() :]
        return text

    def run(self, command: str) -> tuple[int, str]:
        """Run a shell command on the console; return its exit code and what it printed."""
        self.console.sendall(command.encode() + b"\n")
        output, code = self.read_until(rb"RC=\d+\n").decode().removesuffix("\n").rsplit("RC=", 1)
        return int(code), output


@contextmanager
def boot(directory: Path, cmdline: str = "") -> Iterator[Machine]:
    """Boot the guest with its root disk and one SCSI disk, and stop it at the end."""
    volume = directory / "volume.raw"
    volume.write_bytes(b"stamp".ljust(1 << 20, b"\0"))
    command = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,tb-size=32", "-cpu", "qemu64", "-m", "96"]
    command += ["-nodefaults", "-no-user-config", "-display", "none"]
    command += ["-kernel", str(GUEST / "vmlinuz"), "-initrd", str(GUEST / "initrd.img")]
    command += ["-append", f"console=ttyS0 panic=-1 quiet cryptomgr.notests nokaslr {cmdline}"]
    for name in ("console", "agent", "monitor"):
        command += ["-chardev", f"socket,id={name},path={directory / name},server=on,wait=off"]
    command += ["-serial", "chardev:console", "-mon", "chardev=monitor,mode=control"]
    command += ["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]
    command += ["-drive", f"if=none,id=root,format=raw,snapshot=on,file={GUEST / 'tiny.img'}"]
    command += ["-device", "virtio-blk-pci,drive=root,serial=root", "-device", "virtio-scsi-pci,id=scsi"]
    command += ["-drive", f"if=none,id=volume,format=raw,file={volume}"]
    command += ["-device", f"scsi-hd,bus=scsi.0,lun=1,drive=volume,serial={SERIAL}"]
    process = subprocess.Popen(command)
    try:
        machine = Machine(process, directory)
        with machine.console:
            machine.read_until(rb"READY uptime=[0-9.]+\r?\n")
            yield machine
    finally:
        process.kill()
        process.wait()


def test_the_guest_obeys_its_console_and_powers_down_for_its_agent(tmp_path: Path) -> None:
    with boot(tmp_path) as machine:
        code, disks = machine.run("disks")
        assert code == 0
        assert sorted(disks.splitlines()) == [f"sda 1048576 {SERIAL}", "vda 1048576 root"]
        assert machine.run("head -c 5 /dev/sda; echo") == (0, "stamp\n")
        assert machine.run("cat") == (0, ""), "a command must not eat the lines that follow it"
        assert machine.run("exit 7") == (7, "")
        with connect(tmp_path / "agent") as agent:
            agent.sendall(json.dumps({"execute": "guest-ping"}).encode() + b"\n")
            assert json.loads(agent.recv(4096)) == {"return": {}}
            agent.sendall(json.dumps({"execute": "guest-shutdown"}).encode() + b"\n")
            assert machine.process.wait(ANSWER_TIMEOUT_S) == 0


def test_the_guest_powers_down_at_the_power_button_even_without_an_agent(tmp_path: Path) -> None:
    with boot(tmp_path, "kevel.agent=off kevel.skip=virtio_blk") as machine:
        assert machine.run("disks") == (0, f"sda 1048576 {SERIAL}\n")
        assert machine.run("pidof qemu-ga") == (1, "")
        with connect(tmp_path / "monitor") as monitor, monitor.makefile("rw") as stream:
            stream.write('{"execute": "qmp_capabilities"} {"execute": "system_powerdown"}\n')
            stream.flush()
            assert machine.process.wait(ANSWER_TIMEOUT_S) == 0
