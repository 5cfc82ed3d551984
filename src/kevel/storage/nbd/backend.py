"""The control side of the back end `nbd`: a directory's volumes, exported to each host by a storage daemon of its own.

An export can be revoked although a guest is writing (S5): the daemon cuts the connection, and never makes the name
again. A daemon that has died or hangs is started anew under the same address; what it then lacks is found by comparing
it with the records, and exported again. Its guests' I/O stands still meanwhile, and goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Final

import msgspec
import structlog

from kevel.domain.errors import SetupError, StepError, StepNever
from kevel.domain.ladder import Rung
from kevel.runtime.ports import Executor
from kevel.storage.base import ConnectionInfo, CopyWatch, Export, ExportName, LocalFile, PoolFile, Source, VolumeFile
from kevel.storage.file_pool import FilePool
from kevel.storage.nbd.daemon import PROGRAM, DaemonSpec, ExportDaemon, ExportedFile, NamedExport
from kevel.storage.nbd.names import ExportNames
from kevel.storage.volume_files import name_file

log = structlog.get_logger(__name__)

#: How often it is looked whether the daemons are there, and how often whether they answer.
WATCH_S: Final = 0.5
ASK_S: Final = 5.0
#: Answers in a row that a daemon may owe; then it is ended by force and started anew.
SILENCES_MAX: Final = 3


class ExportServer(msgspec.Struct, frozen=True, kw_only=True):
    """Where a pool's daemons listen, and what they show of themselves."""

    address: str
    #: The first host's; each further one has the next.
    first_port: int
    #: With `ca-cert.pem`, `server-cert.pem` and `server-key.pem`.
    tls_folder: Path
    #: The name that the certificate has.
    server_name: str


class NbdBackend(FilePool):
    """Raw files, exported over NBD and TLS. `kevel.storage.base.Backend` says what each call promises."""

    effect_free: frozenset[Rung] = frozenset()
    protocol = "nbd"
    can_revoke = True

    def __init__(
        self,
        name: str,
        root: Path,
        state: Path,
        server: ExportServer,
        executor: Executor,
        *,
        hosts: Collection[str],
    ) -> None:
        """`state`: a private directory of its own. `hosts`: those that have certificates; others are not let in."""
        super().__init__(name, root, executor)
        self._root = root.absolute()
        self._server = server
        self._hosts = frozenset(hosts)
        self._names = ExportNames(state.absolute(), server.first_port)
        self._daemons: dict[str, ExportDaemon] = {}
        self._lock = threading.Lock()
        self._direct = False
        self._watching: asyncio.Task[None] | None = None

    async def open(self) -> None:
        if shutil.which(PROGRAM) is None:
            raise SetupError(
                f"The storage pool {self.name!r} needs {PROGRAM}; install it (Debian: qemu-system-common), or take the "
                "pool out of [[pools]]."
            )
        await super().open()
        await self._executor.run(self._open_exports)

    def _open_exports(self) -> None:
        self._names.open()
        self._direct = _can_be_direct(self._root)
        for place in self._names.hosts():
            self._daemon(place.host)

    def watch(self, lost: Callable[[], None]) -> None:
        """Keep the daemons going from now on; `lost` is called when one had to be started anew, with no exports."""
        self._watching = asyncio.create_task(self._watch(lost), name=f"watch-{self.name}")

    async def close(self) -> None:
        """Stop watching. A daemon that exports something goes on, as the guests do that use it."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        for daemon in list(self._daemons.values()):
            with contextlib.suppress(StepError):
                await self._executor.run(daemon.end_if_idle)

    async def kill_daemons(self) -> None:
        """End all daemons, whatever they do."""
        for daemon in list(self._daemons.values()):
            await self._executor.run(daemon.kill)

    async def _watch(self, lost: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        ask_at = loop.time() + ASK_S
        silences: dict[str, int] = {}
        while True:
            asks = loop.time() >= ask_at
            for host, daemon in list(self._daemons.items()):
                try:
                    if await self._executor.run(daemon.ensure_running):
                        log.warning("export server was started anew", pool=self.name, host=host)
                        lost()
                    elif asks:
                        await self._executor.run(daemon.check)
                        silences.pop(host, None)
                except StepError as error:
                    silences[host] = silences.get(host, 0) + 1
                    log.warning("export server", pool=self.name, host=host, error=error.message)
                    if silences[host] >= SILENCES_MAX:
                        silences.pop(host)
                        with contextlib.suppress(StepError):
                            await self._executor.run(daemon.kill)
            if asks:
                ask_at = loop.time() + ASK_S
            await asyncio.sleep(WATCH_S)

    async def grow_volume(self, volume: VolumeFile) -> None:
        await super().grow_volume(volume)
        await self._executor.run(self._renew, volume.volume_id, only_grown=True)

    async def delete_volume(self, volume: VolumeFile) -> None:
        await super().delete_volume(volume)
        await self._executor.run(self._names.forget_volume, volume.volume_id)

    async def rewrite_volume(self, volume: VolumeFile, source: Source, watch: CopyWatch) -> None:
        await super().rewrite_volume(volume, source, watch)
        await self._executor.run(self._renew, volume.volume_id)

    @contextlib.asynccontextmanager
    async def write_contents(self, volume: VolumeFile) -> AsyncIterator[LocalFile]:
        async with super().write_contents(volume) as file:
            yield file
        await self._executor.run(self._renew, volume.volume_id)

    async def seal_target(self, target: PoolFile, watch: CopyWatch) -> None:
        await super().seal_target(target, watch)
        if isinstance(target, VolumeFile):
            await self._executor.run(self._renew, target.volume_id)

    async def list_exports(self) -> list[ExportName]:
        return await self._executor.run(self._list)

    def describe_export(self, export: Export) -> ConnectionInfo:
        raise AssertionError("exporting has effects here")

    async def export_volume(self, export: Export) -> ConnectionInfo:
        return await self._executor.run(self._export, export)

    async def revoke_export(self, export: Export) -> None:
        await self._executor.run(self._revoke, export)

    def _export(self, export: Export) -> ConnectionInfo:
        if export.host not in self._hosts:
            raise StepNever(f"Host {export.host[:64]} has no certificate for the exports of pool {self.name}.")
        name = ExportName(path_id=export.path_id, generation=export.generation)
        if self._names.is_revoked(export.volume.volume_id, name):
            raise StepNever("The export of that path and generation was revoked; it is never made again.")
        self._files.prove(export.volume)
        daemon = self._daemon(export.host)
        exported = NamedExport(export=name, name=self._names.name(name), read_only=export.read_only)
        daemon.add_export(self._file(export.volume.volume_id), exported)
        data = {
            "address": daemon.spec.address,
            "port": daemon.spec.port,
            "name": self._names.name(name),
            "server_name": self._server.server_name,
            "volume_id": export.volume.volume_id,
            "format": export.volume.format,
        }
        return {"driver_volume_type": "nbd", "data": data}

    def _revoke(self, export: Export) -> None:
        name = ExportName(path_id=export.path_id, generation=export.generation)
        self._names.revoke(export.volume.volume_id, name)
        # Whatever host it was made for: what a record says of that may be newer than the export.
        for daemon in self._all_daemons():
            daemon.remove_export(name)

    def _list(self) -> list[ExportName]:
        return [export for daemon in self._all_daemons() for export in daemon.list_exports()]

    def _renew(self, volume_id: str, *, only_grown: bool = False) -> None:
        """Have the daemons export the file that is there now, and as large as it is."""
        file = self._file(volume_id)
        size_bytes = file.path.stat().st_size if only_grown else None
        for daemon in self._all_daemons():
            daemon.renew_exports(file, self._names.name, size_bytes)

    def _file(self, volume_id: str) -> ExportedFile:
        return ExportedFile(volume_id=volume_id, path=self._root / name_file(volume_id), direct=self._direct)

    def _all_daemons(self) -> list[ExportDaemon]:
        with self._lock:
            return list(self._daemons.values())

    def _daemon(self, host: str) -> ExportDaemon:
        with self._lock:
            if host not in self._daemons:
                place = self._names.place(host)
                spec = DaemonSpec(
                    folder=place.folder,
                    host=host,
                    address=self._server.address,
                    port=place.port,
                    tls_folder=self._server.tls_folder.absolute(),
                )
                self._daemons[host] = ExportDaemon(spec)
            return self._daemons[host]


def _can_be_direct(root: Path) -> bool:
    """Can files there be used past the page cache? Only then a full disk or a lost one is the guest's to know."""
    probe = root / ".direct.part"
    try:
        os.close(os.open(probe, os.O_RDWR | os.O_CREAT | os.O_DIRECT | os.O_NOFOLLOW, 0o600))
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True
