"""The back end `sim`: volumes in memory, for simulation. No delays, no threads, and everything can be looked at."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from kevel.domain.errors import StepNever
from kevel.domain.ladder import Rung
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

#: What is kept of a volume's contents.
CONTENTS_BYTES_MAX: Final = 64 * 1024


class SimBackend:
    """A pool in memory. Unlike a directory it lets hosts in and shuts them out, so all rungs have effects."""

    protocol = "sim"
    can_revoke = True

    def __init__(self, name: str, *, total_bytes: int, effect_free: frozenset[Rung] = frozenset()) -> None:
        self.name = name
        self.volume_format = "raw"
        self.effect_free = effect_free
        self.total_bytes = total_bytes
        #: Volumes that are there, and the exports that hosts may use now: export name -> host.
        self.volumes: dict[str, VolumeFile] = {}
        self.snapshots: dict[str, SnapshotFile] = {}
        #: The first bytes of volumes and snapshots, by id, where they are not zeros; and what others write meanwhile.
        self.contents: dict[str, bytes] = {}
        self.targets: dict[str, bytes] = {}
        self.exports: dict[str, str] = {}
        self.revoked: set[str] = set()

    async def open(self) -> None:
        return None

    async def create_volume(self, volume: VolumeFile) -> None:
        if volume.size_bytes > self.total_bytes:
            raise StepNever("There is no space left in the storage pool.")
        there = self.volumes.setdefault(volume.volume_id, volume)
        if there.size_bytes != volume.size_bytes:
            raise StepNever(f"There is a volume {volume.volume_id} already, of {there.size_bytes} bytes.")

    async def grow_volume(self, volume: VolumeFile) -> None:
        if self._find(volume).size_bytes < volume.size_bytes:
            self.volumes[volume.volume_id] = volume

    async def delete_volume(self, volume: VolumeFile) -> None:
        self.volumes.pop(volume.volume_id, None)
        self._forget(volume)

    async def create_volume_from(self, volume: VolumeFile, source: Source, watch: CopyWatch) -> None:
        start = self._read(source)
        if source.size_bytes > volume.size_bytes:
            raise StepNever(f"The source is larger than volume {volume.volume_id} would be.")
        watch.check()
        if volume.volume_id not in self.volumes:
            await self.create_volume(volume)
            self.contents[volume.volume_id] = start
        await self.create_volume(volume)

    async def rewrite_volume(self, volume: VolumeFile, source: Source, watch: CopyWatch) -> None:
        start = self._read(source)
        if source.size_bytes > volume.size_bytes:
            raise StepNever(f"The source is larger than volume {volume.volume_id}.")
        watch.check()
        self.volumes[volume.volume_id] = volume
        self.contents[volume.volume_id] = start

    async def create_snapshot(self, snapshot: SnapshotFile, source: VolumeFile, watch: CopyWatch) -> None:
        start = self._read(source)
        watch.check()
        if snapshot.snapshot_id not in self.snapshots:
            self.contents[snapshot.snapshot_id] = start
        there = self.snapshots.setdefault(snapshot.snapshot_id, snapshot)
        if there.size_bytes != snapshot.size_bytes:
            raise StepNever(f"There is a snapshot {snapshot.snapshot_id} already, of {there.size_bytes} bytes.")

    async def delete_snapshot(self, snapshot: SnapshotFile) -> None:
        self.snapshots.pop(snapshot.snapshot_id, None)
        self._forget(snapshot)

    async def list_snapshots(self) -> list[str]:
        return sorted(self.snapshots)

    async def write_image(self, image: ImageFile, source: PoolFile, watch: CopyWatch) -> None:
        start = self._read(source)
        watch.check()
        _write_file(Path(image.path), start, image.size_bytes)

    @asynccontextmanager
    async def read_contents(self, source: PoolFile, *, sealed: bool = False) -> AsyncIterator[LocalFile]:
        start = self._read(source)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "contents")
            _write_file(path, start, source.size_bytes)
            yield LocalFile(path=str(path), format="raw", size_bytes=source.size_bytes)

    @asynccontextmanager
    async def write_contents(self, volume: VolumeFile) -> AsyncIterator[LocalFile]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "contents")
            _write_file(path, b"", volume.size_bytes)
            yield LocalFile(path=str(path), format="raw", size_bytes=volume.size_bytes)
            start = _read_start(path)
        self.volumes[volume.volume_id] = volume
        self.contents[volume.volume_id] = start

    async def make_target(self, target: PoolFile) -> str:
        self.targets[_id(target)] = b""
        return f"/sim/target-{_id(target)}"

    async def seal_target(self, target: PoolFile, watch: CopyWatch) -> None:
        watch.check()
        there = self.volumes if isinstance(target, VolumeFile) else self.snapshots
        if _id(target) in self.targets:
            if isinstance(target, VolumeFile):
                self.volumes[target.volume_id] = target
            else:
                self.snapshots[target.snapshot_id] = target
            self.contents[_id(target)] = self.targets.pop(_id(target))
        elif _id(target) not in there:
            raise StepNever(f"What was to become {_id(target)} is not there.")

    def copy_contents(self, source_path: str, target_path: str) -> None:
        """What a hypervisor does that copies a plugged volume into a file; for tests. Raises StepNever."""
        source, target = (path.partition("-")[2] for path in (source_path, target_path))
        if target not in self.targets and target not in self.volumes:
            raise StepNever("The target of the copy is not there.")
        there = self.targets if target in self.targets else self.contents
        there[target] = self.contents.get(source, b"")

    def _forget(self, file: PoolFile) -> None:
        self.contents.pop(_id(file), None)
        self.targets.pop(_id(file), None)

    def _read(self, source: Source) -> bytes:
        if isinstance(source, ImageFile | LocalFile):
            return _read_start(Path(source.path))
        there = self.volumes if isinstance(source, VolumeFile) else self.snapshots
        if _id(source) not in there:
            raise StepNever(f"The contents of {_id(source)} are not there.")
        return self.contents.get(_id(source), b"")

    async def list_files(self) -> list[str]:
        return sorted([*(f"volume-{one}" for one in self.volumes), *(f"snapshot-{one}" for one in self.snapshots)])

    async def measure_file(self, name: str, disk_format: str) -> int:
        found = self._named(name)
        if found.format != disk_format:
            raise StepNever(f"{name} cannot be used: it is not {disk_format}.")
        return found.size_bytes

    async def take_file(self, file: PoolFile, name: str) -> None:
        there = self.volumes if isinstance(file, VolumeFile) else self.snapshots
        if _id(file) in there:
            return
        found = self._named(name)
        if found.size_bytes > file.size_bytes or found.format != file.format:
            raise StepNever(f"{name} is larger than {_id(file)} would be, or of another format.")
        self.contents[_id(file)] = self.contents.pop(_id(found), b"")
        self.volumes.pop(_id(found), None)
        self.snapshots.pop(_id(found), None)
        if isinstance(file, VolumeFile):
            self.volumes[file.volume_id] = file
        else:
            self.snapshots[file.snapshot_id] = file

    def _named(self, name: str) -> PoolFile:
        kind, _, found_id = name.partition("-")
        there: Mapping[str, PoolFile] = self.volumes if kind == "volume" else self.snapshots
        if kind not in ("volume", "snapshot") or found_id not in there:
            raise StepNever(f"There is no {name} in the pool.")
        return there[found_id]

    async def list_volumes(self) -> list[str]:
        return sorted(self.volumes)

    async def list_exports(self) -> list[ExportName]:
        names = [name.rpartition("-") for name in sorted(self.exports)]
        return [ExportName(path_id=path_id, generation=int(generation)) for path_id, _, generation in names]

    async def capacity(self) -> Capacity:
        return Capacity(total_bytes=self.total_bytes, free_bytes=self.total_bytes)

    def describe_export(self, export: Export) -> ConnectionInfo:
        return {"driver_volume_type": "sim", "data": {"name": _name(export), "volume_id": export.volume.volume_id}}

    async def export_volume(self, export: Export) -> ConnectionInfo:
        self._find(export.volume)
        if _name(export) in self.revoked:
            raise StepNever(f"The export {_name(export)} was revoked; its name is never made again.")
        if Rung.EXPORTED not in self.effect_free:
            self.exports[_name(export)] = export.host
        return self.describe_export(export)

    async def revoke_export(self, export: Export) -> None:
        self.exports.pop(_name(export), None)
        self.revoked.add(_name(export))

    def reach(self, volume: VolumeFile, info: ConnectionInfo) -> VolumeFile:
        """The volume behind an export, as a host that was let in sees it. Raises StepNever."""
        name = info["data"]["name"]
        open_to_all = Rung.EXPORTED in self.effect_free
        if info["data"]["volume_id"] != volume.volume_id or not (open_to_all or name in self.exports):
            raise StepNever(f"The storage does not let this host reach volume {volume.volume_id}.")
        return self._find(volume)

    def _find(self, volume: VolumeFile) -> VolumeFile:
        there = self.volumes.get(volume.volume_id)
        if there is None:
            raise StepNever(f"Volume {volume.volume_id} is not there.")
        return there


class SimConnector:
    """A host's side of a `SimBackend`."""

    def __init__(self, backend: SimBackend) -> None:
        self._backend = backend
        #: Names of the exports that this host is connected to.
        self.connected: set[str] = set()

    async def connect_volume(self, volume: VolumeFile, info: ConnectionInfo) -> LocalDisk:
        there = self._backend.reach(volume, info)
        if there.size_bytes < volume.size_bytes:
            raise StepNever(f"Volume {volume.volume_id} is smaller than its record says.")
        self.connected.add(info["data"]["name"])
        return LocalDisk(path=f"/sim/volume-{volume.volume_id}", format=there.format, size_bytes=there.size_bytes)

    async def disconnect_volume(self, volume: VolumeFile, info: ConnectionInfo) -> None:
        self.connected.discard(info["data"]["name"])

    async def check_server(self, volume: VolumeFile, info: ConnectionInfo) -> None:
        return None


def _id(file: PoolFile) -> str:
    return file.volume_id if isinstance(file, VolumeFile) else file.snapshot_id


def _write_file(path: Path, start: bytes, size_bytes: int) -> None:
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size_bytes)


def _read_start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(CONTENTS_BYTES_MAX)
    except FileNotFoundError as error:
        raise StepNever("The bytes to be copied are not there any more.") from error


def _name(export: Export) -> str:
    return f"{export.path_id}-{export.generation}"
