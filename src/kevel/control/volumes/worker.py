"""The worker that carries out what volumes are in the middle of: creating, growing, moving, deleting.

An act of the back end is done and then recorded by compare-and-set. Acts are idempotent, so a process that dies between
the two does the act once more (S7).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec
import structlog

from kevel.control.copies.copies import WAIT_S, Copies, copy_counts
from kevel.control.copies.volume_copies import VolumeCopies, copies, may_be_staged, volume_file
from kevel.control.images.volume_images import fill_image
from kevel.control.operations.failures import fail_volume_operation, note_retry
from kevel.control.runtime import Runtime
from kevel.control.volume_types.keys import KeyRing
from kevel.domain.errors import StaleWrite, StepError, StepNever
from kevel.domain.ladder import Rung
from kevel.domain.managing import TAKES
from kevel.domain.model import GIB, Actor, Operation, OperationKind, Reason, Subject, Volume
from kevel.domain.pool_moves import POOL_MOVES, read_move
from kevel.runtime import failpoints
from kevel.runtime.reconciler import DONE, Again, Outcome, Retry
from kevel.storage.base import Backend, VolumeFile
from kevel.storage.image_files import ImageFiles, WrittenBytes
from kevel.store.actions import start_action
from kevel.store.attachments import open_of_volume
from kevel.store.operations import finish_operation, is_read, unfinished
from kevel.store.pool_moves import pools_passed
from kevel.store.snapshots import live_snapshots
from kevel.store.transactions import Tx
from kevel.store.volume_keys import destroy_unused_key, load_key
from kevel.store.volumes import (
    change_volume,
    give_back,
    load_volume,
    tell_hosts,
    volume_operation,
)

log = structlog.get_logger(__name__)

ACTOR: Final = "control"
#: Halves of a backup's operation, whose worker does and ends them.
_OF_BACKUPS: Final = frozenset({OperationKind.BACKING_UP, OperationKind.RESTORING_BACKUP})


class VolumeWorker:
    """Looks at volumes for `kevel.runtime.reconciler`."""

    def __init__(
        self,
        runtime: Runtime,
        backends: Mapping[str, Backend],
        copies: Copies,
        images: ImageFiles | None = None,
        keys: KeyRing | None = None,
    ) -> None:
        self._runtime = runtime
        self._backends = backends
        self._copies = VolumeCopies(runtime, copies, images)
        self._keys = keys

    async def unfinished(self) -> list[str]:
        """Volumes in the middle of something: looked at after a start and by every sweep."""
        return await self._runtime.store.read(unfinished, Subject.VOLUME)

    async def look(self, volume_id: str) -> Outcome:
        """Carry out the volume's running operation, if there is one."""
        volume, operation = await self._runtime.store.read_point(_see, volume_id)
        if operation is None:
            return await (self._delete_again(volume) if volume.deleted_at is not None else self._tidy(volume))
        if operation.kind in _OF_BACKUPS:
            return DONE
        started = self._runtime.clock.now_us()
        try:
            again = await self._act(volume, operation)
            if again is not None and started >= operation.deadline_at:
                raise StepNever("What the operation waits for has not come about in its time.")
            written = None
            if again is None and operation.kind is OperationKind.UPLOADING:
                written = await self._copies.take_written(operation)
        except StepError as error:
            return await self._note_failure(volume, operation, error)
        if again is not None:
            return again
        at = self._runtime.clock.now_us()
        if written is None:
            await self._runtime.store.write(_complete, operation, at, at - started)
        elif not await self._runtime.store.write(_complete_upload, operation, written, at, at - started):
            await self._copies.drop_written(operation)
        if may_be_staged(operation):
            await self._copies.clear(self._backends[volume.backend], volume)
        # A volume that has moved is tidied up.
        return Again(0) if operation.kind in POOL_MOVES else DONE

    async def _tidy(self, volume: Volume) -> Outcome:
        """A volume with nothing to do is looked at because a copy may have left something, or a move has ended."""
        backend = self._backends.get(volume.backend)
        if backend is None:
            return DONE
        try:
            if not await self._copies.clear(backend, volume):
                return Again(WAIT_S)
            await self._leave_pools(volume)
        except StepNever as error:
            log.warning("volume not tidied up", volume_id=volume.id, reason=error.message)
        except StepError as error:
            return Retry(error.message)
        return DONE

    async def _delete_again(self, volume: Volume) -> Outcome:
        """A tombstone is looked at because the storage still has it: a creation may have ended after the deletion."""
        backend = self._backends.get(volume.backend)
        if backend is None or volume.unmanaged:
            return DONE
        try:
            await backend.delete_volume(volume_file(volume))
            await self._leave_pools(volume)
        except StepNever as error:
            log.warning("volume left behind", volume_id=volume.id, reason=error.message)
        except StepError as error:
            return Retry(error.message)
        return DONE

    async def _leave_pools(self, volume: Volume) -> None:
        """Remove what moves have left of the volume in pools where it does not lie."""
        passed = await self._runtime.store.read(pools_passed, volume.id)
        for name in sorted(passed - {volume.backend}):
            backend = self._backends.get(name)
            if backend is not None:
                with failpoints.around("delete_volume"):
                    await backend.delete_volume(volume_file(volume))

    def _backend(self, name: str) -> Backend:
        backend = self._backends.get(name)
        if backend is None:
            raise StepNever(f"The storage back end {name} is not configured any more.")
        return backend

    async def _act(self, volume: Volume, operation: Operation) -> Again | None:
        backend = self._backend(volume.backend)
        if operation.kind in POOL_MOVES:
            target = self._backend(read_move(operation.args).to_pool)
            return await self._copies.move(backend, target, volume, operation)
        if copies(operation):
            return await self._copy(backend, volume, operation)
        size_gib = volume.size_gib
        if operation.kind is OperationKind.EXTENDING:
            size_gib = int(operation.args["size_gib"])
        file = VolumeFile(volume_id=volume.id, size_bytes=size_gib * GIB, format=volume.format)
        if operation.kind is OperationKind.CREATING:
            await self._create(backend, file, volume, operation)
        elif operation.kind is OperationKind.EXTENDING:
            with failpoints.around("grow_volume"):
                await backend.grow_volume(file)
        elif await self._runtime.store.read(_is_kept, volume.id) or not await self._copies.clear(backend, volume):
            return Again(WAIT_S)
        else:
            with failpoints.around("delete_volume"):
                await backend.delete_volume(file)
            with suppress(StepError):  # a pool that does not answer keeps nobody from deleting; the census looks again
                await self._leave_pools(volume)
        return None

    async def _create(self, backend: Backend, file: VolumeFile, volume: Volume, operation: Operation) -> None:
        """Make an empty volume, or one of what is in the pool already."""
        if TAKES in operation.args:
            with failpoints.around("take_file"):
                await backend.take_file(file, str(operation.args[TAKES]))
            return
        file = await self._add_key(file, volume)
        with failpoints.around("create_volume"):
            await backend.create_volume(file)

    async def _add_key(self, file: VolumeFile, volume: Volume) -> VolumeFile:
        """The file with what an encrypted one is made with."""
        if volume.encryption_key_id is None or self._keys is None:
            return file
        sealed = await self._runtime.store.read(load_key, volume.encryption_key_id)
        return msgspec.structs.replace(file, key=self._keys.open(sealed))

    async def _copy(self, backend: Backend, volume: Volume, operation: Operation) -> Again | None:
        if operation.kind is OperationKind.CREATING:
            return await self._copies.create(backend, volume, operation)
        if operation.kind is OperationKind.UPLOADING:
            return await self._copies.upload(backend, volume, operation)
        return await self._copies.rewrite(backend, volume, operation)

    async def _note_failure(self, volume: Volume, operation: Operation, error: StepError) -> Outcome:
        at = self._runtime.clock.now_us()
        if isinstance(error, StepNever) or at >= operation.deadline_at:
            await self._runtime.store.write(fail_volume_operation, operation, error.message, actor=ACTOR, at=at)
            if operation.kind is OperationKind.UPLOADING:
                await self._copies.drop_written(operation)
            if copies(operation) and volume.backend in self._backends:
                await self._copies.clear(self._backends[volume.backend], volume)
            return Again(0) if operation.kind in POOL_MOVES else DONE
        return await note_retry(self._runtime, operation, error)


def _see(tx: Tx, volume_id: str) -> tuple[Volume, Operation | None]:
    volume = load_volume(tx, volume_id)
    if volume is None:
        raise AssertionError(f"volume {volume_id} has no row")
    return volume, volume_operation(tx, volume_id)


def _is_kept(tx: Tx, volume_id: str) -> bool:
    """Something has to end before the volume can go: a copy that is made of it, or the deletion of its snapshots."""
    return is_read(tx, volume_id) or bool(live_snapshots(tx, volume_id))


def _complete(tx: Tx, operation: Operation, at: int, took_us: int) -> None:
    _check_copy(tx, operation)
    finish_operation(tx, operation, actor=ACTOR, at=at, took_us=took_us)
    if operation.kind is OperationKind.CREATING:
        change_volume(tx, operation.subject_id, made=True, updated_at=at)
        _wake_paths(tx, operation.subject_id)
    elif operation.kind is OperationKind.REVERTING:
        change_volume(tx, operation.subject_id, updated_at=at)
    elif operation.kind is OperationKind.DOWNLOADING:
        metadata = dict(operation.args["image_metadata"])
        change_volume(tx, operation.subject_id, image_metadata=metadata, bootable=True, fault=None, updated_at=at)
        give_back(tx, operation.subject_id)
    elif operation.kind is OperationKind.EXTENDING:
        _grow(tx, operation, at)
    elif operation.kind in POOL_MOVES:
        _land(tx, operation, at)
    else:
        change_volume(tx, operation.subject_id, deleted_at=at, updated_at=at, live=None)
        volume = load_volume(tx, operation.subject_id)
        if volume is not None and volume.encryption_key_id is not None:
            destroy_unused_key(tx, volume.encryption_key_id, at=at)


def _wake_paths(tx: Tx, volume_id: str) -> None:
    """Servers may be made with a volume that is being made: from now on their hosts can have it."""
    for view in open_of_volume(tx, volume_id):
        for path in view.paths:
            tx.wake("path", path.id)


def _check_copy(tx: Tx, operation: Operation) -> None:
    """A copy counts if nobody could write in its middle. Raises StaleWrite, and it is made anew."""
    of_volume: str | None = None
    kinds = (OperationKind.UPLOADING, OperationKind.REVERTING, OperationKind.DOWNLOADING, *POOL_MOVES)
    if operation.kind in kinds:
        of_volume = operation.subject_id
    elif operation.args.get("source") == "volume":
        of_volume = operation.reads
    if of_volume is not None and not copy_counts(tx, operation, of_volume):
        raise StaleWrite


def _complete_upload(tx: Tx, operation: Operation, written: WrittenBytes, at: int, took_us: int) -> bool:
    """The image is whole; False: it is gone, and so should be what was written."""
    _check_copy(tx, operation)
    kept = fill_image(tx, str(operation.args["image_id"]), str(operation.args["file"]), written, at)
    error = None
    if not kept:
        error = Reason(code="uploading_failed", message="The image was deleted while it was written.", at=at)
    finish_operation(tx, operation, actor=ACTOR, at=at, took_us=took_us, error=error)
    return kept


def _land(tx: Tx, operation: Operation, at: int) -> None:
    """From now on the volume is what lies in the other pool."""
    move = read_move(operation.args)
    changes: dict[str, Any] = {"backend": move.to_pool, "format": move.format}
    if move.volume_type_id is not None:
        changes |= {"volume_type_id": move.volume_type_id, "multiattach": move.multiattach}
    change_volume(tx, operation.subject_id, **changes, migration_status="success", updated_at=at)


def _grow(tx: Tx, operation: Operation, at: int) -> None:
    """The volume has its new size, and the agents of its hosts show it to their guests: an action of the servers."""
    change_volume(tx, operation.subject_id, size_gib=int(operation.args["size_gib"]), updated_at=at)
    volume = load_volume(tx, operation.subject_id)
    if volume is None:
        raise AssertionError("a volume's row is never deleted")
    tell_hosts(tx, volume.id)
    actor = Actor(user_id=volume.user_id, project_id=volume.project_id, request_id=operation.request_id)
    for view in open_of_volume(tx, volume.id):
        for path in view.paths:
            if path.rung is Rung.PLUGGED and path.server_id is not None:
                server_id, subject_id = path.server_id, path.id
                start_action(tx, server_id=server_id, subject_id=subject_id, action="extend_volume", actor=actor, at=at)
