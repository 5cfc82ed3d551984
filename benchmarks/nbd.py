"""The data path of a volume that is exported over NBD and TLS against the same file opened by QEMU itself, in turns."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import Final

from benchmarks.figures import Figure, Section, median
from kevel.cli.storage_certificates import SERVER_NAME, write_client_certificate, write_server_certificate
from kevel.control.hosts.authority import Authority, make_authority
from kevel.domain.errors import SetupError
from kevel.domain.nbd import read_nbd_source
from kevel.runtime.ports import SystemClock, ThreadExecutor
from kevel.storage.base import Export, VolumeFile
from kevel.storage.nbd.backend import ExportServer, NbdBackend
from kevel.storage.nbd.connector import NbdConnector
from kevel.storage.volume_files import name_file

HOST: Final = "bench"
PORT: Final = 10909
VOLUME_BYTES: Final = 256 << 20
ROUNDS: Final = 3
#: (what, command of qemu-io, bytes of a request, requests).
KINDS: Final = (
    ("write, 4 KiB", "aio_write -q -P 7", 4096, 2000),
    ("read, 4 KiB", "aio_read -q", 4096, 2000),
    ("write, 1 MiB", "aio_write -q -P 7", 1 << 20, 64),
    ("read, 1 MiB", "aio_read -q", 1 << 20, 64),
)
#: Requests that are under way at once, as a busy guest has; the next ones follow when all of them have ended.
DEPTH: Final = 16


def measure_nbd() -> Section:
    """Rounds of each kind, the two ways in turns. A ratio above 1 is what the export costs."""
    with tempfile.TemporaryDirectory(prefix="kevel-bench-") as folder:
        return asyncio.run(_measure(Path(folder)))


async def _measure(folder: Path) -> Section:
    executor = ThreadExecutor("bench", 2)
    authority = Authority(make_authority(SystemClock()), SystemClock())
    write_server_certificate(folder / "server", authority)
    write_client_certificate(folder / "client", authority, HOST)
    server = ExportServer(address="127.0.0.1", first_port=PORT, tls_folder=folder / "server", server_name=SERVER_NAME)
    backend = NbdBackend("bench", folder / "volumes", folder / "state", server, executor, hosts={HOST})
    await backend.open()
    try:
        volume = VolumeFile(volume_id=str(uuid.uuid4()), size_bytes=VOLUME_BYTES, format="raw")
        await backend.create_volume(volume)
        path = folder / "volumes" / name_file(volume.volume_id)
        await executor.run(_fill, path)
        info = await backend.export_volume(Export(volume=volume, path_id=str(uuid.uuid4()), generation=1, host=HOST))
        disk = await NbdConnector(folder / "client", executor).connect_volume(volume, info)
        source = read_nbd_source(disk.path)
        if source is None:
            raise SetupError("The export has no address.")
        remote = ["--object", f"tls-creds-x509,id=tls0,endpoint=client,verify-peer=on,dir={folder / 'client'}"]
        options = f"driver=nbd,host={source.address},port={source.port},export={source.name}"
        remote += ["--image-opts", f"{options},tls-creds=tls0,tls-hostname={source.server_name}"]
        figures: list[Figure] = []
        for what, command, size_bytes, requests in KINDS:
            script = _script(command, size_bytes, requests)
            figures += await executor.run(_compare, what, script, size_bytes * requests, path, remote)
        return Section(title="NBD over TLS against the same file, local", figures=figures)
    finally:
        await backend.kill_daemons()
        executor.close()


def _fill(path: Path) -> None:
    """Real bytes: holes are read from nowhere."""
    with path.open("r+b") as file:
        for _ in range(VOLUME_BYTES >> 20):
            file.write(os.urandom(1 << 20))
        os.fsync(file.fileno())


def _script(command: str, size_bytes: int, requests: int) -> str:
    """Commands for qemu-io, over the whole volume in steps that no read-ahead foresees."""
    places = VOLUME_BYTES // size_bytes
    lines = []
    for number in range(requests):
        lines.append(f"{command} {number * 17 % places * size_bytes} {size_bytes}")
        if number % DEPTH == DEPTH - 1:
            lines.append("aio_flush")
    return "\n".join([*lines, "aio_flush", "q", ""])


def _compare(what: str, script: str, total_bytes: int, path: Path, remote: list[str]) -> list[Figure]:
    local = ["-f", "raw", str(path)]
    here: list[float] = []
    there: list[float] = []
    ratios: list[float] = []
    for _ in range(ROUNDS):
        here.append(_run(local, script) - _run(local, "q\n"))
        there.append(_run(remote, script) - _run(remote, "q\n"))
        ratios.append(there[-1] / here[-1])
    mib = total_bytes / (1 << 20)
    return [
        Figure(name=f"{what}: time over NBD / local", value=median(ratios), unit="", note=f"n={ROUNDS}, in turns"),
        Figure(name=f"{what}: local", value=mib / median(here), unit="MiB/s"),
        Figure(name=f"{what}: over NBD", value=mib / median(there), unit="MiB/s"),
    ]


def _run(options: list[str], script: str) -> float:
    """Seconds that qemu-io takes for the script, its start included."""
    program = shutil.which("qemu-io")
    if program is None:
        raise SetupError("qemu-io is not installed; it makes the requests.")
    began = time.perf_counter()
    done = subprocess.run([program, "-t", "none", *options], input=script, capture_output=True, text=True, check=False)
    took_s = time.perf_counter() - began
    if done.returncode != 0 or "failed" in done.stdout:
        raise SetupError(f"qemu-io failed: {(done.stderr or done.stdout)[-500:]}")
    return took_s
