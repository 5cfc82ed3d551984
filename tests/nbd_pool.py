"""A pool with real export servers, for tests of any kind."""

from __future__ import annotations

import shutil
import socket
import subprocess
from functools import cache
from pathlib import Path

from kevel.cli.storage_certificates import SERVER_NAME, write_client_certificate, write_server_certificate
from kevel.control.hosts.authority import Authority, make_authority
from kevel.domain.nbd import read_nbd_source
from kevel.runtime.ports import Executor, SystemClock
from kevel.storage.base import LocalDisk
from kevel.storage.nbd.backend import ExportServer, NbdBackend

HOST = "host-1"


@cache
def authority() -> Authority:
    """One for all tests of a process: making keys takes time."""
    return Authority(make_authority(SystemClock()), SystemClock())


def find_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def make_pool(folder: Path, executor: Executor, *hosts: str, port: int | None = None) -> NbdBackend:
    """A pool in that folder, not yet open; its hosts' certificates lie beside it."""
    write_server_certificate(folder / "tls-server", authority())
    for host in hosts or (HOST,):
        write_client_certificate(folder / f"tls-{host}", authority(), host)
    server = ExportServer(
        address="127.0.0.1",
        first_port=port or find_port(),
        tls_folder=folder / "tls-server",
        server_name=SERVER_NAME,
    )
    return NbdBackend("remote", folder / "volumes", folder / "state", server, executor, hosts=hosts or (HOST,))


def image_options(disk: LocalDisk, tls_folder: Path) -> list[str]:
    """What qemu-io and qemu-img take for the export."""
    source = read_nbd_source(disk.path)
    assert source is not None
    options = f"driver=nbd,host={source.address},port={source.port},export={source.name}"
    return [
        "--object",
        f"tls-creds-x509,id=tls0,endpoint=client,verify-peer=on,dir={tls_folder}",
        "--image-opts",
        f"{options},tls-creds=tls0,tls-hostname={source.server_name}",
    ]


def run_io(disk: LocalDisk, tls_folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """One command of qemu-io on the export."""
    program = shutil.which("qemu-io") or "qemu-io"
    return subprocess.run(
        [program, *image_options(disk, tls_folder), "-c", command],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
