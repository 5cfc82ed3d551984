"""What a volume's operation does that copies contents: made from a source, reverted, imaged anew, written out, moved.

What a copy is made of stands in the operation: `reads` names it, so that it is not deleted meanwhile, and `args` says
what it is: {"source": "snapshot" | "volume" | "image", ...}.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from kevel.control.copies.copies import COPIED, COPY, WAIT_S, Copies, check_rest
from kevel.control.copies.snapshot_worker import snapshot_file
from kevel.control.runtime import Runtime
from kevel.domain.copies import stage_id
from kevel.domain.errors import StepNever
from kevel.domain.model import GIB, Operation, OperationKind, Volume
from kevel.domain.pool_moves import read_move
from kevel.runtime import failpoints
from kevel.runtime.reconciler import Again
from kevel.storage.base import Backend, CopyWatch, ImageFile, SnapshotFile, Source, VolumeFile
from kevel.storage.image_files import ImageFiles, WrittenBytes
from kevel.store.snapshots import load_snapshot
from kevel.store.volumes import load_volume


def volume_file(volume: Volume) -> VolumeFile:
    """The volume as its back end knows it."""
    return VolumeFile(volume_id=volume.id, size_bytes=volume.size_gib * GIB, format=volume.format)


def stage_file(subject_id: str, volume: Volume) -> SnapshotFile:
    """Where a plugged volume's contents are kept until they are copied on."""
    return SnapshotFile(snapshot_id=stage_id(subject_id), size_bytes=volume.size_gib * GIB, format="raw")


class VolumeCopies:
    """Carries out the copying of volumes' operations. Each call: None when done, else when to look again."""

    def __init__(self, runtime: Runtime, copies: Copies, images: ImageFiles | None) -> None:
        self._runtime = runtime
        self._copies = copies
        self._images = images

    async def create(self, backend: Backend, volume: Volume, operation: Operation) -> Again | None:
        """Make the volume from its source."""
        file = volume_file(volume)
        source = await self._find_source(backend, volume, operation)
        if isinstance(source, Again):
            return source
        with failpoints.around("create_volume_from"):
            return await self._copies.run(operation, lambda watch: backend.create_volume_from(file, source, watch))

    async def rewrite(self, backend: Backend, volume: Volume, operation: Operation) -> Again | None:
        """Put a snapshot's or an image's contents in the place of the volume's."""
        file = volume_file(volume)
        source = await self._find_source(backend, volume, operation)
        if isinstance(source, Again):
            return source

        async def nothing() -> None:
            return None

        again = check_rest(await self._copies.settle(operation, volume.id, nothing), f"Volume {volume.id}")
        if again is not None:
            return again
        with failpoints.around("rewrite_volume"):
            return await self._copies.run(operation, lambda watch: backend.rewrite_volume(file, source, watch))

    async def upload(self, backend: Backend, volume: Volume, operation: Operation) -> Again | None:
        """Write the volume out into its image's file."""
        images = self._image_files()
        name, image_format = str(operation.args["file"]), str(operation.args["format"])

        async def discard() -> None:
            await self._runtime.executor.run(images.remove_file, name)

        source = await self._settle_volume(backend, volume, operation, discard)
        if isinstance(source, Again):
            return source
        image = ImageFile(path=images.part_path(name), size_bytes=volume.size_gib * GIB, format=image_format)
        with failpoints.around("write_image"):
            return await self._copies.run(operation, lambda watch: backend.write_image(image, source, watch))

    async def move(self, source: Backend, target: Backend, volume: Volume, operation: Operation) -> Again | None:
        """Copy the volume into another pool."""
        file = msgspec.structs.replace(volume_file(volume), format=read_move(operation.args).format)

        async def discard() -> None:
            with failpoints.around("delete_volume"):
                await target.delete_volume(file)

        if not self._copies.is_settled(operation):
            if not await self.clear(source, volume):
                return Again(WAIT_S)
            # An earlier move may have left the volume there, as it was then.
            await discard()
        again = check_rest(await self._copies.settle(operation, volume.id, discard), f"Volume {volume.id}")
        if again is not None:
            return again

        async def copy(watch: CopyWatch) -> None:
            async with source.read_contents(volume_file(volume), sealed=True) as local:
                # A growing that failed may have left it larger than its record says.
                whole = msgspec.structs.replace(file, size_bytes=max(file.size_bytes, local.size_bytes))
                await target.create_volume_from(whole, local, watch)

        with failpoints.around("create_volume_from"):
            return await self._copies.run(operation, copy)

    async def take_written(self, operation: Operation) -> WrittenBytes:
        """What an upload has written, under its image's name from now on."""
        return await self._runtime.executor.run(self._image_files().take_written, str(operation.args["file"]))

    async def drop_written(self, operation: Operation) -> None:
        """Remove what an upload has written."""
        await self._runtime.executor.run(self._image_files().remove_file, str(operation.args["file"]))

    def _image_files(self) -> ImageFiles:
        if self._images is None:
            raise StepNever("There are no images here.")
        return self._images

    async def _find_source(self, backend: Backend, volume: Volume, operation: Operation) -> Source | Again:
        args = operation.args
        if args["source"] == "image":
            path = self._image_files().file_path(str(operation.reads))
            return ImageFile(path=path, size_bytes=int(args["size_bytes"]), format=str(args["format"]))
        if operation.reads is None:
            raise StepNever("Nothing is known of what the volume was to be made from.")
        if args["source"] == "snapshot":
            snapshot = await self._runtime.store.read(load_snapshot, operation.reads)
            if snapshot is None or snapshot.deleted_at is not None:
                raise StepNever(f"Snapshot {operation.reads} is not there any more.")
            return snapshot_file(snapshot)
        other = await self._runtime.store.read(load_volume, operation.reads)
        if other is None or other.deleted_at is not None:
            raise StepNever(f"Volume {operation.reads} is not there any more.")
        file = volume_file(volume)
        return await self._settle_volume(backend, other, operation, lambda: backend.delete_volume(file))

    async def _settle_volume(
        self, backend: Backend, volume: Volume, operation: Operation, discard: Callable[[], Awaitable[None]]
    ) -> VolumeFile | SnapshotFile | Again:
        """The volume's file, or where a host's agent has copied what a running guest has plugged."""
        stage = stage_file(operation.subject_id, volume)
        if COPIED in operation.args:
            return stage
        if COPY in operation.args:
            return await self._copies.follow_live(operation, backend, stage) or stage
        rest = await self._copies.settle(operation, volume.id, discard)
        if len(rest.live) == 1:
            return await self._copies.begin_live(operation, backend, rest, stage)
        return check_rest(rest, f"Volume {volume.id}") or volume_file(volume)

    async def clear(self, backend: Backend, volume: Volume) -> bool:
        """Remove what copying for the volume has left on the way. False: a host's agent is still at it."""
        if not await self._copies.drop_live(volume.id):
            return False
        await backend.delete_snapshot(stage_file(volume.id, volume))
        return True


def may_be_staged(operation: Operation) -> bool:
    """May a host have copied for it? Also for one that found the volume at rest then, or died over the order."""
    from_volume = operation.kind is OperationKind.CREATING and operation.args.get("source") == "volume"
    return from_volume or operation.kind is OperationKind.UPLOADING


def copies(operation: Operation) -> bool:
    """Does the operation copy contents?"""
    kinds = (OperationKind.DOWNLOADING, OperationKind.UPLOADING, OperationKind.REVERTING)
    return operation.kind in kinds or (operation.kind is OperationKind.CREATING and "source" in operation.args)
