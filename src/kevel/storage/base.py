"""The ports of a storage back end: its control side (`Backend`) and its host side (`Connector`).

Rules, checked by the conformance kit (`tests/conformance/storage.py`):

* Acts are idempotent; "already so" is success, and removing what is absent is success (S7).
* Names come from ids: a volume's from its id, an export's from its path's id and generation. A revoked name is never
  made again.
* Outcomes: return = done; StepRetry, StepNever, StepUnknown as in `kevel.domain.errors`.
* A failed creation leaves nothing. A new volume reads as zeros.
* A format is a stored fact that the caller passes; a volume's bytes are never probed (S15).
* A copy appears whole or not at all: a crash leaves nothing under the name of what was to be made.
* A copy reads what nobody writes meanwhile; the caller sees to that, and makes it anew if somebody has.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec

from kevel.domain.encryption import VolumeKey
from kevel.domain.errors import StepRetry
from kevel.domain.ladder import Rung


class VolumeFile(msgspec.Struct, frozen=True, kw_only=True):
    """A volume as its back end knows it."""

    volume_id: str
    #: As the guest sees it: without an encrypted volume's header.
    size_bytes: int
    #: "raw", "qcow2" or "luks".
    format: str
    #: Only for a "luks" volume that is to be made empty.
    key: VolumeKey | None = None


class SnapshotFile(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot as its back end knows it: contents of their own, which need no volume to be read."""

    snapshot_id: str
    size_bytes: int
    #: "raw", "qcow2" or "luks".
    format: str


class ImageFile(msgspec.Struct, frozen=True, kw_only=True):
    """An image's bytes: a file of Kevel's own, whose format was checked when it came."""

    path: str
    #: What a guest sees of it.
    size_bytes: int
    #: "raw" or "qcow2".
    format: str


class LocalFile(msgspec.Struct, frozen=True, kw_only=True):
    """Contents as a file of this machine."""

    path: str
    #: "raw", "qcow2" or "luks".
    format: str
    #: As the guest sees it.
    size_bytes: int


#: What the pool keeps, and what a copy can be made of: a local file is another pool's.
PoolFile = VolumeFile | SnapshotFile
Source = VolumeFile | SnapshotFile | ImageFile | LocalFile


class CopyWatch:
    """One copy's progress, and its early end. The thread that copies and whoever waits for it share it."""

    def __init__(self) -> None:
        self.done_bytes = 0
        #: 0 until it is known.
        self.total_bytes = 0
        self._stopped: str | None = None

    def stop(self, why: str) -> None:
        """Have the copy end soon, with that reason."""
        self._stopped = why

    def check(self) -> None:
        """Raise StepRetry when the copy is to end."""
        if self._stopped is not None:
            raise StepRetry(self._stopped)


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

    #: Absolute, or the URI of `kevel.domain.nbd`.
    path: str
    format: str
    size_bytes: int


#: What the host's side needs to reach an export. May hold secrets: encrypted at rest, never logged (S10).
ConnectionInfo = dict[str, Any]


class Backend(Protocol):
    """The control plane's side of a pool of volumes."""

    #: The pool's name, as in `host@backend#pool`.
    name: str
    #: How hosts reach its volumes, as operators read it: "file", "nbd".
    protocol: str
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

    async def create_volume_from(self, volume: VolumeFile, source: Source, watch: CopyWatch) -> None:
        """Make a volume with the source's contents; what lies behind their end reads as zeros.

        Raises StepNever when the source is not there or larger, StepRetry when the watch ends it.
        """
        ...

    async def rewrite_volume(self, volume: VolumeFile, source: Source, watch: CopyWatch) -> None:
        """Put the source's contents in the place of the volume's, all at once. Nobody may have the volume open."""
        ...

    async def create_snapshot(self, snapshot: SnapshotFile, source: VolumeFile, watch: CopyWatch) -> None:
        """Keep the first `snapshot.size_bytes` of the volume as they are now."""
        ...

    async def delete_snapshot(self, snapshot: SnapshotFile) -> None:
        """Remove the snapshot, half-made ones too."""
        ...

    async def list_snapshots(self) -> list[str]:
        """Ids of the snapshots that are really there."""
        ...

    async def write_image(self, image: ImageFile, source: PoolFile, watch: CopyWatch) -> None:
        """Write the contents into a new file at `image.path`, in its format. A file that is there is replaced."""
        ...

    def read_contents(self, source: PoolFile, *, sealed: bool = False) -> AbstractAsyncContextManager[LocalFile]:
        """The contents as a file to read from. Raises StepNever when they are not there, or encrypted.

        `sealed`: encrypted ones too, as they are, for another pool.
        """
        ...

    def write_contents(self, volume: VolumeFile) -> AbstractAsyncContextManager[LocalFile]:
        """A raw file of zeros and of the volume's size, to be written; at the end it is the volume's contents.

        The volume need not be there before. When the block ends with an exception, nothing has changed.
        """
        ...

    async def make_target(self, target: PoolFile) -> str:
        """The path of a raw file of zeros that somebody else, who may outlive this process, writes contents into.

        A file left of an earlier attempt is replaced.
        """
        ...

    async def seal_target(self, target: PoolFile, watch: CopyWatch) -> None:
        """Make what `make_target` gave out the volume or snapshot. Done already is success."""
        ...

    async def list_files(self) -> list[str]:
        """Names of all that is in the pool, Kevel's own and others'; half-made things not."""
        ...

    async def measure_file(self, name: str, disk_format: str) -> int:
        """The size, as a guest would see it, of what has that name in the pool and is of that format.

        Raises StepNever when it is not there or could be neither a volume nor a snapshot.
        """
        ...

    async def take_file(self, file: PoolFile, name: str) -> None:
        """Make what has that name in the pool the volume or snapshot, and at least as large. Done already is success.

        The contents stay where they are. Raises StepNever when it is not there, or larger.
        """
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

    async def check_server(self, volume: VolumeFile, info: ConnectionInfo) -> None:
        """Raise StepRetry when what serves the volume is there and does not answer: a guest would wait without end.

        One that is gone, or refuses, is no reason: a guest gets an error from it.
        """
        ...
