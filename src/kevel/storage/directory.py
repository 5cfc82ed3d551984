"""The back end `directory`: volumes are files of one directory, which the host reaches as local files.

A file cannot be cut off from a process that has it open, so this back end revokes nothing (S5): a volume becomes free
when its guest's process has let go of it. Export and connection have no effect; their rungs are passed in the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kevel.domain.errors import StepNever
from kevel.domain.ladder import Rung
from kevel.runtime.ports import Executor
from kevel.storage.base import ConnectionInfo, Export, ExportName, LocalDisk, VolumeFile
from kevel.storage.file_pool import FilePool
from kevel.storage.volume_files import VolumeFiles, name_file


class DirectoryBackend(FilePool):
    """Files that a host opens itself. `kevel.storage.base.Backend` says what each call promises."""

    effect_free = frozenset({Rung.EXPORTED, Rung.CONNECTED})
    protocol = "file"
    can_revoke = False

    def __init__(
        self, name: str, root: Path, executor: Executor, *, volume_format: str = "raw", pool: str | None = None
    ) -> None:
        """`pool` is what the hosts know the directory by; None: it is their only one, or their default."""
        super().__init__(name, root, executor, volume_format=volume_format)
        self.pool = pool
        self.root = root.absolute()

    async def list_exports(self) -> list[ExportName]:
        return []

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

    async def check_server(self, volume: VolumeFile, info: ConnectionInfo) -> None:
        return None


def _describe(volume: VolumeFile, pool: str | None) -> ConnectionInfo:
    """Relative names only: the directory may be moved, and device and inode numbers with it."""
    data = {"name": name_file(volume.volume_id), "format": volume.format}
    if pool is not None:
        data["pool"] = pool
    return {"driver_volume_type": "file", "data": data}
