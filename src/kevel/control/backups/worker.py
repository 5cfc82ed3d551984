"""The worker that carries out what backups are in the middle of: creating, restoring, deleting.

Creating and restoring are an operation of the backup and one of the volume, which begin and end together; this worker
does the work of both. A process that dies in between does the act once more: a backup appears whole or not at all, and
so do the contents of a volume that is restored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import structlog

from kevel.control.backups.backups import THROUGH_ARG, end_snapshot
from kevel.control.copies.copies import WAIT_S, Copies
from kevel.control.copies.snapshot_worker import snapshot_file
from kevel.control.operations.failures import note_retry, tell_failure
from kevel.control.runtime import Runtime
from kevel.domain.errors import StepError, StepNever
from kevel.domain.limits import Limits
from kevel.domain.messages import OF_BACKUP
from kevel.domain.model import GIB, Backup, Operation, OperationKind, Reason, Snapshot, Subject, Volume
from kevel.runtime import failpoints
from kevel.runtime.reconciler import DONE, Again, Outcome
from kevel.storage.backup_files import BackupFiles, BackupHead, BackupOrigin, BackupWritten
from kevel.storage.base import Backend, CopyWatch, PoolFile, VolumeFile
from kevel.store.backups import VOLUME_ARG, are_files_shared, change_backup, finish_on_volume, load_backup
from kevel.store.backups import backup_operation as load_operation
from kevel.store.operations import finish_operation, running_operation, unfinished
from kevel.store.snapshots import load_snapshot
from kevel.store.transactions import Tx
from kevel.store.volumes import change_volume, load_volume

log = structlog.get_logger(__name__)

ACTOR: Final = "control"


class BackupWorker:
    """Looks at backups for `kevel.runtime.reconciler`."""

    def __init__(
        self, runtime: Runtime, backends: Mapping[str, Backend], files: BackupFiles, copies: Copies, limits: Limits
    ) -> None:
        self._runtime = runtime
        self._backends = backends
        self._files = files
        self._copies = copies
        self._limits = limits

    async def unfinished(self) -> list[str]:
        """Backups in the middle of something: looked at after a start and by every sweep."""
        return await self._runtime.store.read(unfinished, Subject.BACKUP)

    async def look(self, backup_id: str) -> Outcome:
        """Carry out the backup's running operation, if there is one."""
        backup, operation = await self._runtime.store.read_point(_see, backup_id)
        if operation is None:
            return DONE
        started = self._runtime.clock.now_us()
        try:
            changes = await self._act(backup, operation)
            if isinstance(changes, Again):
                if started < operation.deadline_at:
                    return changes
                raise StepNever("It could not be begun in its time.")
        except StepError as error:
            return await self._note_failure(backup, operation, error)
        at = self._runtime.clock.now_us()
        await self._runtime.store.write(
            _complete, backup, operation, changes, at=at, took_us=at - started, limits=self._limits
        )
        return DONE

    async def _act(self, backup: Backup, operation: Operation) -> dict[str, Any] | Again:
        """Do it; what changes in the backup's row by it. Again: not yet."""
        if operation.kind is OperationKind.DELETING:
            return await self._remove(backup)
        if operation.kind is OperationKind.RESTORING:
            return await self._restore(backup, operation)
        return await self._create(backup, operation)

    async def _remove(self, backup: Backup) -> dict[str, Any]:
        if not await self._runtime.store.read(are_files_shared, backup):
            with failpoints.around("delete_backup"):
                await self._runtime.executor.run(self._files.remove, backup.chain[0])
        return {"live": None}

    async def _create(self, backup: Backup, operation: Operation) -> dict[str, Any] | Again:
        volume, snapshot, parent = await self._runtime.store.read(_see_source, backup, operation)
        source: PoolFile = VolumeFile(volume_id=volume.id, size_bytes=volume.size_gib * GIB, format=volume.format)
        if backup.snapshot_id is not None or THROUGH_ARG in operation.args:
            if snapshot is None or snapshot.deleted_at is not None or snapshot.fault is not None:
                why = "it is gone" if snapshot is None or snapshot.fault is None else snapshot.fault.message
                raise StepNever(f"The snapshot that is backed up is not there: {why}")
            if not snapshot.made:
                return Again(WAIT_S)
            source = snapshot_file(snapshot)
        head = BackupHead(
            files_id=backup.chain[0],
            volume_id=backup.volume_id,
            size_bytes=backup.size_gib * GIB,
            files=tuple(backup.chain),
        )
        written: list[BackupWritten] = []

        async def copy(watch: CopyWatch) -> None:
            with failpoints.around("create_backup"):
                async with self._backend(volume).read_contents(source) as local:
                    made = await self._runtime.executor.run(self._files.write, head, local, parent, watch)
            written.append(made)

        again = await self._copies.run(operation, copy)
        if again is not None:
            return again
        (one,) = written
        return {
            "made": True,
            "checksum": one.checksum,
            "stored_bytes": one.stored_bytes,
            "chunk_count": one.chunk_count,
        }

    async def _restore(self, backup: Backup, operation: Operation) -> dict[str, Any] | Again:
        volume = await self._runtime.store.read(_see_target, operation)
        if volume is None:
            raise StepNever("The volume that was to be restored is deleted.")
        if backup.checksum is None:
            raise StepNever(f"The backup {backup.id} was never made.")
        origin = BackupOrigin(files_id=backup.chain[0], checksum=backup.checksum)
        target = VolumeFile(volume_id=volume.id, size_bytes=volume.size_gib * GIB, format=volume.format)

        async def copy(watch: CopyWatch) -> None:
            with failpoints.around("restore_backup"):
                async with self._backend(volume).write_contents(target) as local:
                    await self._runtime.executor.run(self._files.restore, origin, local, watch)

        again = await self._copies.run(operation, copy)
        return {} if again is None else again

    def _backend(self, volume: Volume) -> Backend:
        backend = self._backends.get(volume.backend)
        if backend is None:
            raise StepNever(f"The storage back end {volume.backend} is not configured any more.")
        return backend

    async def _note_failure(self, backup: Backup, operation: Operation, error: StepError) -> Outcome:
        at = self._runtime.clock.now_us()
        if isinstance(error, StepNever) or at >= operation.deadline_at:
            await self._runtime.store.write(_fail, backup, operation, error.message, at=at, limits=self._limits)
            return DONE
        return await note_retry(self._runtime, operation, error)


def _see(tx: Tx, backup_id: str) -> tuple[Backup, Operation | None]:
    backup = load_backup(tx, backup_id)
    if backup is None:
        raise AssertionError(f"backup {backup_id} has no row")
    return backup, load_operation(tx, backup_id)


def _see_source(tx: Tx, backup: Backup, operation: Operation) -> tuple[Volume, Snapshot | None, BackupOrigin | None]:
    volume = load_volume(tx, backup.volume_id)
    if volume is None:
        raise AssertionError("a volume's row is never deleted")
    snapshot_id = backup.snapshot_id or operation.args.get(THROUGH_ARG)
    snapshot = None if snapshot_id is None else load_snapshot(tx, snapshot_id)
    parent = None if backup.parent_id is None else load_backup(tx, backup.parent_id)
    if parent is None or parent.checksum is None:
        return volume, snapshot, None
    return volume, snapshot, BackupOrigin(files_id=parent.chain[0], checksum=parent.checksum)


def _see_target(tx: Tx, operation: Operation) -> Volume | None:
    """The volume, while its half of the operation runs."""
    volume_id = operation.args[VOLUME_ARG]
    running = running_operation(tx, Subject.VOLUME, volume_id)
    if running is None or running.kind is not OperationKind.RESTORING_BACKUP:
        return None
    return load_volume(tx, volume_id)


def _complete(
    tx: Tx, backup: Backup, operation: Operation, changes: dict[str, Any], *, at: int, took_us: int, limits: Limits
) -> None:
    finish_operation(tx, operation, actor=ACTOR, at=at, took_us=took_us)
    if operation.kind is OperationKind.DELETING:
        changes = changes | {"deleted_at": at}
    change_backup(tx, backup.id, **changes, updated_at=at)
    is_held = finish_on_volume(tx, operation, actor=ACTOR, at=at, took_us=took_us)
    if operation.kind is OperationKind.RESTORING and is_held:
        kept = backup.volume
        change_volume(
            tx,
            operation.args[VOLUME_ARG],
            made=True,
            bootable=kept.bootable,
            image_metadata=kept.image_metadata,
            updated_at=at,
        )
    _look_at_deleted(tx, operation, is_held=is_held)
    _end_snapshot(tx, operation, at=at, limits=limits)


def _fail(tx: Tx, backup: Backup, operation: Operation, message: str, *, at: int, limits: Limits) -> None:
    """The backup keeps the reason; a restore's is the volume's, and the backup stays what it was."""
    reason = Reason(code=f"{operation.kind.value}_failed", message=message, at=at)
    finish_operation(tx, operation, actor=ACTOR, at=at, error=reason)
    is_held = finish_on_volume(tx, operation, actor=ACTOR, at=at, error=reason)
    if operation.kind is not OperationKind.RESTORING:
        change_backup(tx, backup.id, fault=reason, updated_at=at)
    elif is_held:
        fault = Reason(code=f"{OperationKind.RESTORING_BACKUP.value}_failed", message=message, at=at)
        change_volume(tx, operation.args[VOLUME_ARG], fault=fault, updated_at=at)
    _look_at_deleted(tx, operation, is_held=is_held)
    _end_snapshot(tx, operation, at=at, limits=limits)
    tell_failure(
        tx,
        operation,
        OF_BACKUP[operation.kind],
        project_id=backup.project_id,
        resource_type="VOLUME_BACKUP",
        resource_id=backup.id,
        text=message,
        at=at,
    )
    log.warning("backup operation failed", backup_id=backup.id, kind=operation.kind.value, reason=message)


def _look_at_deleted(tx: Tx, operation: Operation, *, is_held: bool) -> None:
    """A volume that was deleted while it was restored may have its file again."""
    if operation.kind is OperationKind.RESTORING and not is_held:
        tx.wake("volume", operation.args[VOLUME_ARG])


def _end_snapshot(tx: Tx, operation: Operation, *, at: int, limits: Limits) -> None:
    through_id = operation.args.get(THROUGH_ARG)
    if through_id is not None:
        end_snapshot(tx, through_id, request_id=operation.request_id, at=at, deadline_at=limits.volume_deadline(at))
