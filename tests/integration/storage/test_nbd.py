"""The nbd back end with real storage daemons: the rules of all back ends, who is let in, and who is cut off."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import ssl
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from kevel.cli.storage_certificates import write_client_certificate
from kevel.control.hosts.authority import Authority, make_authority
from kevel.domain.encryption import Passphrase, VolumeKey
from kevel.domain.errors import SetupError, StepNever, StepRetry
from kevel.domain.nbd import NbdSource, read_nbd_source
from kevel.runtime.ports import SystemClock, ThreadExecutor
from kevel.storage.base import ConnectionInfo, Export, LocalDisk, VolumeFile
from kevel.storage.nbd import backend as backend_module
from kevel.storage.nbd import client, qmp
from kevel.storage.nbd.backend import NbdBackend
from kevel.storage.nbd.client import look_at_export
from kevel.storage.nbd.connector import NbdConnector
from kevel.storage.nbd.daemon import PROGRAM
from tests.conformance.storage import MIB, PoolUnderTest, StorageKit
from tests.nbd_pool import HOST, image_options, make_pool, run_io

pytestmark = pytest.mark.skipif(shutil.which(PROGRAM) is None, reason=f"{PROGRAM} is not installed")


@pytest.fixture
def executor() -> Iterator[ThreadExecutor]:
    made = ThreadExecutor("storage", 2)
    yield made
    made.close()


@pytest.fixture
async def backend(tmp_path: Path, executor: ThreadExecutor) -> AsyncIterator[NbdBackend]:
    made = make_pool(tmp_path, executor)
    await made.open()
    yield made
    await made.close()
    await made.kill_daemons()


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    return tmp_path / f"tls-{HOST}"


class TestNbd(StorageKit):
    @pytest.fixture
    async def pool(self, backend: NbdBackend, executor: ThreadExecutor, tls: Path) -> PoolUnderTest:
        def read_start(disk: LocalDisk, length: int) -> bytes:
            return look_at_export(source_of(disk), tls_context(tls), head_bytes=length).head

        def write_start(disk: LocalDisk, byte: int, length: int) -> None:
            done = run_io(disk, tls, f"write -P {byte} 0 {length}")
            assert done.returncode == 0, done.stderr

        return PoolUnderTest(backend, NbdConnector(tls, executor), read_start, write_start, 1 << 63)


def source_of(disk: LocalDisk) -> NbdSource:
    source = read_nbd_source(disk.path)
    assert source is not None
    return source


def tls_context(folder: Path, *, certified: bool = True) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=folder / "ca-cert.pem")
    if certified:
        context.load_cert_chain(folder / "client-cert.pem", folder / "client-key.pem")
    return context


@dataclass
class Stand:
    """A pool with one volume, exported to one host."""

    backend: NbdBackend
    connector: NbdConnector
    tls: Path
    export: Export
    info: ConnectionInfo

    @property
    def volume(self) -> VolumeFile:
        return self.export.volume

    async def connect(self) -> LocalDisk:
        return await self.connector.connect_volume(self.volume, self.info)

    @property
    def process_id(self) -> int:
        (daemon,) = self.backend._daemons.values()
        return int((daemon.spec.folder / "pid").read_text())


@pytest.fixture
async def stand(backend: NbdBackend, executor: ThreadExecutor, tls: Path) -> Stand:
    return await make_stand(backend, executor, tls)


async def make_stand(backend: NbdBackend, executor: ThreadExecutor, tls: Path) -> Stand:
    volume = VolumeFile(volume_id=str(uuid.uuid4()), size_bytes=4 * MIB, format="raw")
    await backend.create_volume(volume)
    export = Export(volume=volume, path_id=str(uuid.uuid4()), generation=1, host=HOST)
    info = await backend.export_volume(export)
    return Stand(backend, NbdConnector(tls, executor), tls, export, info)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is noticed at once."""
    monkeypatch.setattr(client, "PROBE_TIMEOUT_S", 0.3)
    monkeypatch.setattr(qmp, "ANSWER_TIMEOUT_S", 0.3)


async def test_a_revoked_writer_is_cut_off_and_its_next_write_fails(stand: Stand) -> None:
    with writing(await stand.connect(), stand.tls) as writer:
        assert "wrote 4096/4096" in await say(writer, "write -P 7 0 4096")
        await stand.backend.revoke_export(stand.export)
        assert "write failed" in await say(writer, "write -P 9 0 4096")
    async with stand.backend.read_contents(stand.volume) as file:
        assert Path(file.path).read_bytes()[:4096] == bytes([7]) * 4096
    with pytest.raises(StepNever, match="does not let this host"):
        await stand.connect()
    with pytest.raises(StepNever, match="never made again"):
        await stand.backend.export_volume(stand.export)


@contextmanager
def writing(disk: LocalDisk, tls: Path) -> Iterator[subprocess.Popen[str]]:
    """A qemu-io that has the export open for as long as the block lasts."""
    command = ["qemu-io", *image_options(disk, tls)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        yield writer
        writer.kill()


async def say(writer: subprocess.Popen[str], command: str) -> str:
    """The writer's first line of an answer."""
    assert writer.stdin is not None
    assert writer.stdout is not None
    writer.stdin.write(f"{command}\n")
    writer.stdin.flush()
    while True:
        line = await asyncio.to_thread(writer.stdout.readline)
        assert line, "the writer has ended"
        if "wrote" in line or "failed" in line:
            return line


async def test_nobody_is_let_in_without_the_certificate_of_that_very_host(
    tmp_path: Path, executor: ThreadExecutor
) -> None:
    backend = make_pool(tmp_path, executor, HOST, "host-2")
    await backend.open()
    try:
        stand = await make_stand(backend, executor, tmp_path / f"tls-{HOST}")
        source = source_of(await stand.connect())
        with pytest.raises(StepRetry, match="certificates"):
            look_at_export(source, tls_context(tmp_path / "tls-host-2"))
        with pytest.raises(StepRetry, match="certificates"):
            look_at_export(source, tls_context(stand.tls, certified=False))
        foreign = Authority(make_authority(SystemClock()), SystemClock())
        write_client_certificate(tmp_path / "foreign", foreign, HOST)
        shutil.copy(stand.tls / "ca-cert.pem", tmp_path / "foreign" / "ca-cert.pem")
        with pytest.raises(StepRetry, match="certificates"):
            look_at_export(source, tls_context(tmp_path / "foreign"))
        # Nor does a host believe a server of another authority, or go on without TLS.
        (tmp_path / "foreign" / "ca-cert.pem").write_text(foreign.certificate)
        with pytest.raises(StepRetry, match="certificates"):
            look_at_export(source, tls_context(tmp_path / "foreign"))
        assert not can_open(f"nbd://{source.address}:{source.port}/{source.name}")
        guessed = msgspec.structs.replace(source, name=stand.export.path_id)
        with pytest.raises(StepNever, match="does not let this host"):
            look_at_export(guessed, tls_context(stand.tls))
    finally:
        await backend.kill_daemons()


def can_open(uri: str) -> bool:
    return subprocess.run(["qemu-img", "info", uri], capture_output=True, check=False).returncode == 0


async def test_a_host_without_a_certificate_is_exported_nothing(stand: Stand) -> None:
    other = msgspec.structs.replace(stand.export, host="host-9", path_id=str(uuid.uuid4()))
    with pytest.raises(StepNever, match="host-9 has no certificate"):
        await stand.backend.export_volume(other)


async def test_a_daemon_that_dies_is_started_anew_and_exports_again_under_the_same_name(stand: Stand) -> None:
    lost = asyncio.Event()
    stand.backend.watch(lost.set)
    os.kill(stand.process_id, signal.SIGKILL)
    await asyncio.wait_for(lost.wait(), 20)
    assert await stand.backend.list_exports() == []  # nobody remembers
    assert await stand.backend.export_volume(stand.export) == stand.info
    assert (await stand.connect()).size_bytes == stand.volume.size_bytes


@pytest.mark.usefixtures("impatient")
async def test_a_daemon_that_hangs_is_noticed_before_anybody_waits_for_it_and_is_ended(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_module, "ASK_S", 0.1)
    monkeypatch.setattr(backend_module, "SILENCES_MAX", 1)
    os.kill(stand.process_id, signal.SIGSTOP)
    with pytest.raises(StepRetry, match="does not answer"):
        await stand.connect()
    with pytest.raises(StepRetry, match="does not answer"):
        await stand.connector.check_server(stand.volume, stand.info)
    with pytest.raises(StepRetry, match="does not answer"):
        await stand.backend.list_exports()
    with pytest.raises(StepRetry, match="does not answer"):
        await stand.backend.revoke_export(stand.export)
    lost = asyncio.Event()
    stand.backend.watch(lost.set)
    await asyncio.wait_for(lost.wait(), 20)
    await stand.backend.revoke_export(stand.export)
    with pytest.raises(StepNever):
        await stand.connect()


async def test_a_server_that_is_gone_is_no_reason_to_wait_with_a_guest(stand: Stand) -> None:
    await stand.backend.kill_daemons()
    await stand.connector.check_server(stand.volume, stand.info)
    with pytest.raises(StepRetry, match="is not there"):
        await stand.connect()


async def test_what_is_exported_outlives_kevel_and_is_asked_of_the_daemon(
    stand: Stand, tmp_path: Path, executor: ThreadExecutor
) -> None:
    process_id = stand.process_id
    await stand.backend.close()
    port = stand.info["data"]["port"]
    after = make_pool(tmp_path, executor, port=port)
    await after.open()
    assert await after.export_volume(stand.export) == stand.info
    assert len(await after.list_exports()) == 1
    assert (await stand.connect()).size_bytes == stand.volume.size_bytes
    assert stand.process_id == process_id
    await after.revoke_export(stand.export)
    assert await after.list_exports() == []
    await after.close()  # idle now: nobody needs it
    assert not Path(f"/proc/{process_id}/exe").exists() or not os.access(f"/proc/{process_id}/exe", os.R_OK)
    last = make_pool(tmp_path, executor, port=port)
    await last.open()
    with pytest.raises(StepNever, match="never made again"):
        await last.export_volume(stand.export)


async def test_a_volume_grows_while_it_is_exported_and_a_read_only_export_stays_one(stand: Stand) -> None:
    reader = msgspec.structs.replace(stand.export, path_id=str(uuid.uuid4()), read_only=True)
    info = await stand.backend.export_volume(reader)
    await stand.backend.grow_volume(msgspec.structs.replace(stand.volume, size_bytes=8 * MIB))
    assert (await stand.connect()).size_bytes == 8 * MIB
    disk = await stand.connector.connect_volume(stand.volume, info)
    assert disk.size_bytes == 8 * MIB
    assert run_io(disk, stand.tls, "write -P 9 0 4096").returncode != 0
    assert run_io(await stand.connect(), stand.tls, "write -P 9 0 4096").returncode == 0


async def test_an_encrypted_volume_has_the_size_that_its_guest_sees(stand: Stand) -> None:
    key = VolumeKey(passphrase=Passphrase("a-passphrase"), bits=256)
    volume = VolumeFile(volume_id=str(uuid.uuid4()), size_bytes=4 * MIB, format="luks", key=key)
    await stand.backend.create_volume(volume)
    export = msgspec.structs.replace(stand.export, volume=volume, path_id=str(uuid.uuid4()))
    disk = await stand.connector.connect_volume(volume, await stand.backend.export_volume(export))
    assert (disk.size_bytes, disk.format) == (4 * MIB, "luks")


async def test_an_address_that_cannot_be_had_is_told_and_tried_again(tmp_path: Path, executor: ThreadExecutor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        backend = make_pool(tmp_path, executor, port=taken.getsockname()[1])
        await backend.open()
        with pytest.raises(StepRetry, match="does not start"):
            await make_stand(backend, executor, tmp_path / f"tls-{HOST}")
    await make_stand(backend, executor, tmp_path / f"tls-{HOST}")
    await backend.kill_daemons()


async def test_a_pool_that_lacks_its_program_is_refused_at_the_start(
    tmp_path: Path, executor: ThreadExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = make_pool(tmp_path, executor)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="install it"):
        await backend.open()
