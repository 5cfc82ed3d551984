"""A pool of volumes that are files of one directory: all of a back end but its exports.

How hosts reach the files is for the back ends that are made of it to say.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from kevel.domain.errors import SetupError
from kevel.runtime.ports import Executor
from kevel.storage.base import (
    Capacity,
    CopyWatch,
    ImageFile,
    LocalFile,
    PoolFile,
    SnapshotFile,
    Source,
    VolumeFile,
)
from kevel.storage.volume_files import NEW, VolumeFiles

_FORMATS: Final = ("raw", "qcow2")


class FilePool:
    """Sparse raw or qcow2 files. `kevel.storage.base.Backend` says what each call promises."""

    def __init__(self, name: str, root: Path, executor: Executor, *, volume_format: str = "raw") -> None:
        self.name = name
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

    async def capacity(self) -> Capacity:
        return await self._executor.run(self._files.capacity)
