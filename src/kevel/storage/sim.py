"""The back end `sim`: volumes in memory, for simulation. No delays, no threads, and everything can be looked at."""

from __future__ import annotations

from kevel.domain.errors import StepNever
from kevel.domain.ladder import Rung
from kevel.storage.base import Capacity, ConnectionInfo, Export, ExportName, LocalDisk, VolumeFile


class SimBackend:
    """A pool in memory. Unlike a directory it lets hosts in and shuts them out, so all rungs have effects."""

    can_revoke = True

    def __init__(self, name: str, *, total_bytes: int, effect_free: frozenset[Rung] = frozenset()) -> None:
        self.name = name
        self.volume_format = "raw"
        self.effect_free = effect_free
        self.total_bytes = total_bytes
        #: Volumes that are there, and the exports that hosts may use now: export name -> host.
        self.volumes: dict[str, VolumeFile] = {}
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


def _name(export: Export) -> str:
    return f"{export.path_id}-{export.generation}"
