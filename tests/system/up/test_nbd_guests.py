"""`kevel up` with a real guest whose volumes are exported over NBD: servers die, volumes grow, the guest goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kevel.cli.process import processes_of
from kevel.storage.nbd.daemon import PROGRAM
from tests.nbd_pool import find_port
from tests.system.up.test_real_guests import CONFIG, WAIT_S, Stand

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(240)]

TYPE = "remote"


@pytest.fixture
def stand() -> Iterator[Stand]:
    root = Path(tempfile.mkdtemp(prefix="kv-"))
    pool = f'[[pools]]\nname = "remote"\ndirectory = "{root}/remote"\nprotocol = "nbd"\n'
    pool += f'listen = "127.0.0.1:{find_port()}"\n'
    try:
        one = Stand(root, pool + CONFIG)
        extra_specs = {"volume_backend_name": "remote"}
        body = {"volume_type": {"name": TYPE, "extra_specs": extra_specs}}
        one.cloud.client.post("/volume/v3/types", body)
        yield one
        one.process.kill()
    finally:
        for pid in processes_of(root):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(root, ignore_errors=True)
        root.with_suffix(".log").unlink(missing_ok=True)


def make_volume(stand: Stand) -> str:
    body = {"volume": {"name": "v", "size": 1, "volume_type": TYPE}}
    volume_id = str(stand.cloud.client.post("/volume/v3/volumes", body)["volume"]["id"])
    stand.cloud.wait_volume(volume_id, "available", WAIT_S)
    return volume_id


def daemon_pid(stand: Stand) -> int:
    (pid,) = [
        pid for pid in processes_of(stand.data) if PROGRAM.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()[:64]
    ]
    return pid


def test_a_guest_goes_on_when_its_export_server_dies_hangs_or_its_volume_grows(stand: Stand) -> None:
    server = stand.boot("guest")
    volume = make_volume(stand)
    stand.attach(server, volume)
    stand.write(server, volume, "before")
    assert "protocol='nbd'" in stand.definition(server)
    device = stand.find_device(server, volume)

    # It dies while the guest writes: the request waits, and is made again.
    with stand.console(server) as console:
        os.kill(daemon_pid(stand), signal.SIGKILL)
        done = console.run(f"dd if=/dev/zero of={device} bs=4096 count=64 seek=16 conv=fsync && echo went-on")
    assert "went-on" in done.output
    assert stand.read(server, volume, 6) == "before"
    assert stand.cloud.volume_status(volume) == "in-use"

    # It grows while the guest has it.
    stand.cloud.client.post(f"/volume/v3/volumes/{volume}/action", {"os-extend": {"new_size": 2}})
    wait_size(stand, server, device, 2 << 30)
    assert stand.read(server, volume, 6) == "before"

    # It hangs: nothing is asked of the guest's disks until it answers again, and meanwhile the guest itself lives.
    hung = daemon_pid(stand)
    os.kill(hung, signal.SIGSTOP)
    stand.cloud.detach(server, volume)
    time.sleep(3.0)
    with stand.console(server) as console:
        assert console.run("echo alive").code == 0
    with contextlib.suppress(ProcessLookupError):  # one that hangs for too long is ended and started anew
        os.kill(hung, signal.SIGCONT)
    stand.cloud.wait_volume(volume, "available", WAIT_S)
    stand.wait_serial(server, volume, there=False)
    assert "protocol='nbd'" not in stand.definition(server)


def wait_size(stand: Stand, server: str, device: str, size_bytes: int) -> None:
    """The guest itself says how large its disk is."""
    deadline = time.monotonic() + WAIT_S
    name = Path(device).name
    while True:
        with stand.console(server) as console:
            sectors = console.run(f"cat /sys/block/{name}/size").output.strip()
        if int(sectors) * 512 == size_bytes:
            return
        assert time.monotonic() < deadline, sectors
        time.sleep(0.1)
