"""The back end `directory`: volumes are files of one directory, which the host reaches as local files.

A file cannot be cut off from a process that has it open, so this back end revokes nothing (S5): a volume becomes free
when its guest's process has let go of it. Export and connection have no effect; their rungs are passed in the record.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from kevel.domain.errors import SetupError, StepNever
from kevel.domain.ladder import Rung
from kevel.runtime.ports import Executor
from kevel.storage.base import (
    Capacity,
    ConnectionInfo,
    CopyWatch,
    Export,
    ExportName,
    ImageFile,
    LocalDisk,
    LocalFile,
    PoolFile,
    SnapshotFile,
    Source,
    VolumeFile,
)
from kevel.storage.volume_files import NEW, VolumeFiles, name_file

_FORMATS: Final = ("raw", "qcow2")


class DirectoryBackend:
    """Sparse raw or qcow2 files. `kevel.storage.base.Backend` says what each call promises."""

    effect_free = frozenset({Rung.EXPORTED, Rung.CONNECTED})
    protocol = "file"
    can_revoke = False

    def __init__(
        self, name: str, root: Path, executor: Executor, *, volume_format: str = "raw", pool: str | None = None
    ) -> None:
        """`pool` is what the hosts know the directory by; None: it is their only one, or their default."""
        self.name = name
        self.pool = pool
        self.root = root.absolute()
        self.volume_format = volume_format
        self._files = VolumeFiles(root)
        self._executor = executor

    async def open(self) -> None:
        if self.volume_format not in _FORMATS:
            raise SetupError(f"The volume format {self.volume_format!r} is unknown; it has to be raw or qcow2.")
        if self.volume_format == "qcow2" and shutil.which("qemu-img") is None:
            raise SetupError("qcow2 volumes need qemu-img; install it (Debian: qemu-utils) or choose the format raw.")
        await self._executor.run(self._files.open)

    async def create_volume(self, volume: VolumeFile) -> None:
        await self._executor.run(self._files.create, volume)

    async def grow_volume(self, volume: VolumeFile) -> None:
        await self._executor.run(self._files.grow, volume)

    async def delete_volume(self, volume: VolumeFile) -> None:
        await self._executor.run(self._files.remove, volume)

    async def create_volume_from(self, volume: VolumeFile, source: Source, watch: CopyWatch) -> None:
        await self._executor.run(self._files.create_from, volume, source, watch)

    async def rewrite_volume(self, volume: VolumeFile, source: Source, watch: CopyWatch) -> None:
        await self._executor.run(self._files.rewrite, volume, source, watch)

    async def create_snapshot(self, snapshot: SnapshotFile, source: VolumeFile, watch: CopyWatch) -> None:
        kept = msgspec.structs.replace(source, size_bytes=snapshot.size_bytes)
        await self._executor.run(self._files.create_from, snapshot, kept, watch)

    async def delete_snapshot(self, snapshot: SnapshotFile) -> None:
        await self._executor.run(self._files.remove, snapshot)

    async def list_snapshots(self) -> list[str]:
        return await self._executor.run(self._files.list_snapshots)

    async def write_image(self, image: ImageFile, source: PoolFile, watch: CopyWatch) -> None:
        await self._executor.run(self._files.write_image, image, source, watch)

    @asynccontextmanager
    async def read_contents(self, source: PoolFile, *, sealed: bool = False) -> AsyncIterator[LocalFile]:
        yield await self._executor.run(self._files.find, source, sealed=sealed)

    @asynccontextmanager
    async def write_contents(self, volume: VolumeFile) -> AsyncIterator[LocalFile]:
        file = await self._executor.run(self._files.make_target, volume, NEW)
        try:
            yield file
            await self._executor.run(self._files.seal_target, volume, CopyWatch(), NEW)
        except BaseException:
            await self._executor.run(self._files.drop_target, volume, NEW)
            raise

    async def make_target(self, target: PoolFile) -> str:
        return (await self._executor.run(self._files.make_target, target)).path

    async def seal_target(self, target: PoolFile, watch: CopyWatch) -> None:
        await self._executor.run(self._files.seal_target, target, watch)

    async def list_files(self) -> list[str]:
        return await self._executor.run(self._files.list_files)

    async def measure_file(self, name: str, disk_format: str) -> int:
        return await self._executor.run(self._files.measure_foreign, name, disk_format)

    async def take_file(self, file: PoolFile, name: str) -> None:
        await self._executor.run(self._files.take, file, name)

    async def list_volumes(self) -> list[str]:
        return await self._executor.run(self._files.list_volumes)

    async def list_exports(self) -> list[ExportName]:
        return []

    async def capacity(self) -> Capacity:
        return await self._executor.run(self._files.capacity)

    def describe_export(self, export: Export) -> ConnectionInfo:
        return _describe(export.volume, self.pool)

    async def export_volume(self, export: Export) -> ConnectionInfo:
        await self._executor.run(self._files.prove, export.volume)
        return _describe(export.volume, self.pool)

    async def revoke_export(self, export: Export) -> None:
        return None


class DirectoryConnector:
    """The host's side: the same directories, proved file by file."""

    def __init__(self, root: Path, executor: Executor, pools: Mapping[str, Path] | None = None) -> None:
        """`pools`: directories beside the default one, by the names that connection_infos have for them."""
        self._files = VolumeFiles(root)
        self._pools = {name: VolumeFiles(path) for name, path in (pools or {}).items()}
        self._executor = executor

    async def connect_volume(self, volume: VolumeFile, info: ConnectionInfo) -> LocalDisk:
        pool = info["data"].get("pool")
        if info != _describe(volume, pool):
            raise StepNever(f"The connection_info of volume {volume.volume_id} does not describe its file.")
        files = self._files if pool is None else self._pools.get(pool)
        if files is None:
            raise StepNever(f"The storage pool of volume {volume.volume_id} is not configured on this host.")
        size_bytes = await self._executor.run(files.prove, volume)
        path = files.root / name_file(volume.volume_id)
        return LocalDisk(path=str(path), format=volume.format, size_bytes=size_bytes)

    async def disconnect_volume(self, volume: VolumeFile, info: ConnectionInfo) -> None:
        return None


def _describe(volume: VolumeFile, pool: str | None) -> ConnectionInfo:
    """Relative names only: the directory may be moved, and device and inode numbers with it."""
    data = {"name": name_file(volume.volume_id), "format": volume.format}
    if pool is not None:
        data["pool"] = pool
    return {"driver_volume_type": "file", "data": data}
