"""The ports of a storage back end: its control side (`Backend`) and its host side (`Connector`).

Rules, checked by the conformance kit (`tests/conformance/storage.py`):

* Acts are idempotent; "already so" is success, and removing what is absent is success (S7).
* Names come from ids: a volume's from its id, an export's from its path's id and generation. A revoked name is never
  made again.
* Outcomes: return = done; StepRetry, StepNever, StepUnknown as in `kevel.domain.errors`.
* A failed creation leaves nothing. A new volume reads as zeros.
* A format is a stored fact that the caller passes; a volume's bytes are never probed (S15).
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from kevel.domain.ladder import Rung


class VolumeFile(msgspec.Struct, frozen=True, kw_only=True):
    """A volume as its back end knows it."""

    volume_id: str
    size_bytes: int
    #: "raw" or "qcow2".
    format: str


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """One permission for one host to reach one volume."""

    volume: VolumeFile
    path_id: str
    generation: int
    host: str
    read_only: bool = False


class ExportName(msgspec.Struct, frozen=True, kw_only=True):
    """What an export is called: by its path and generation."""

    path_id: str
    generation: int


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What a pool can hold, in bytes."""

    total_bytes: int
    free_bytes: int


class LocalDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A connected volume, proved to be the right one (S8)."""

    path: str
    format: str
    size_bytes: int


#: What the host's side needs to reach an export. May hold secrets: encrypted at rest, never logged (S10).
ConnectionInfo = dict[str, Any]


class Backend(Protocol):
    """The control plane's side of a pool of volumes."""

    #: The pool's name, as in `host@backend#pool`.
    name: str
    #: Format of new volumes: "raw" or "qcow2".
    volume_format: str
    #: Rungs whose act has no effect outside Kevel's own record: the engine passes them in the same transaction.
    effect_free: frozenset[Rung]
    #: Can it cut off a live writer, confirmed (S5)?
    can_revoke: bool

    async def open(self) -> None:
        """Make ready; raises SetupError when the pool cannot be used."""
        ...

    async def create_volume(self, volume: VolumeFile) -> None:
        """Make an empty volume of that size and format."""
        ...

    async def grow_volume(self, volume: VolumeFile) -> None:
        """Make the volume at least `volume.size_bytes` large; never shrinks.

        A raw volume may be in use meanwhile. A qcow2 volume may not: whoever has it open owns its tables.
        """
        ...

    async def delete_volume(self, volume: VolumeFile) -> None:
        """Remove the volume and its contents."""
        ...

    async def list_volumes(self) -> list[str]:
        """Ids of the volumes that are really there."""
        ...

    async def list_exports(self) -> list[ExportName]:
        """The exports that are in force; none where exporting has no effect."""
        ...

    async def capacity(self) -> Capacity:
        """The pool's size and what is free now."""
        ...

    def describe_export(self, export: Export) -> ConnectionInfo:
        """The connection_info of an effect-free export, computed from its names alone."""
        ...

    async def export_volume(self, export: Export) -> ConnectionInfo:
        """Let the host in; return what the host needs. Raises StepNever when the volume is not there."""
        ...

    async def revoke_export(self, export: Export) -> None:
        """Shut the host out; return when the back end has confirmed it."""
        ...


class Connector(Protocol):
    """The host's side: reach an exported volume."""

    async def connect_volume(self, volume: VolumeFile, info: ConnectionInfo) -> LocalDisk:
        """Connect, and prove by what the back end says of it that this is the volume (S8)."""
        ...

    async def disconnect_volume(self, volume: VolumeFile, info: ConnectionInfo) -> None:
        """Undo `connect_volume`."""
        ...
