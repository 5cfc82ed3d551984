"""The worker that carries out what snapshots are in the middle of: creating and deleting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
import structlog

from kevel.control.copies.copies import COPIED, COPY, WAIT_S, Copies, check_rest, copy_counts
from kevel.control.operations.failures import note_retry, tell_failure
from kevel.control.runtime import Runtime
from kevel.domain.errors import StaleWrite, StepError, StepNever
from kevel.domain.managing import TAKES
from kevel.domain.messages import OF_SNAPSHOT
from kevel.domain.model import GIB, Operation, OperationKind, Reason, Snapshot, Subject, Volume
from kevel.runtime import failpoints
from kevel.runtime.reconciler import DONE, Again, Outcome, Retry
from kevel.storage.base import Backend, SnapshotFile, VolumeFile
from kevel.store.operations import finish_operation, is_read, unfinished
from kevel.store.snapshots import change_snapshot, load_snapshot, snapshot_operation
from kevel.store.transactions import Tx
from kevel.store.volumes import load_volume

log = structlog.get_logger(__name__)

ACTOR: Final = "control"


class SnapshotWorker:
    """Looks at snapshots for `kevel.runtime.reconciler`."""

    def __init__(self, runtime: Runtime, backends: Mapping[str, Backend], copies: Copies) -> None:
        self._runtime = runtime
        self._backends = backends
        self._copies = copies

    async def unfinished(self) -> list[str]:
        """Snapshots in the middle of something: looked at after a start and by every sweep."""
        return await self._runtime.store.read(unfinished, Subject.SNAPSHOT)

    async def look(self, snapshot_id: str) -> Outcome:
        """Carry out the snapshot's running operation, if there is one."""
        snapshot, volume, operation = await self._runtime.store.read_point(_see, snapshot_id)
        if operation is None:
            return await self._delete_again(snapshot) if snapshot.deleted_at is not None else DONE
        started = self._runtime.clock.now_us()
        try:
            again = await self._act(snapshot, volume, operation)
            if again is not None and started >= operation.deadline_at:
                raise StepNever("The snapshot could not be taken in its time: its volume was never at rest.")
        except StepError as error:
            return await self._note_failure(operation, error)
        if again is not None:
            return again
        at = self._runtime.clock.now_us()
        await self._runtime.store.write(_complete, operation, at, at - started)
        return DONE

    async def _delete_again(self, snapshot: Snapshot) -> Outcome:
        """A tombstone is looked at because the storage still has it."""
        backend = self._backends.get(snapshot.backend)
        if backend is None:
            return DONE
        try:
            await backend.delete_snapshot(snapshot_file(snapshot))
        except StepNever as error:
            log.warning("snapshot left behind", snapshot_id=snapshot.id, reason=error.message)
        except StepError as error:
            return Retry(error.message)
        return DONE

    async def _act(self, snapshot: Snapshot, volume: Volume, operation: Operation) -> Again | None:
        backend = self._backends.get(snapshot.backend)
        if backend is None:
            raise StepNever(f"The storage back end {snapshot.backend} is not configured any more.")
        file = snapshot_file(snapshot)
        if operation.kind is OperationKind.DELETING:
            if not await self._copies.drop_live(snapshot.id) or await self._runtime.store.read(is_read, snapshot.id):
                return Again(WAIT_S)
            with failpoints.around("delete_snapshot"):
                await backend.delete_snapshot(file)
            return None
        if TAKES in operation.args:
            with failpoints.around("take_file"):
                await backend.take_file(file, str(operation.args[TAKES]))
            return None
        raw = msgspec.structs.replace(file, format="raw")
        if COPIED in operation.args:
            return None
        if COPY in operation.args:
            return await self._copies.follow_live(operation, backend, raw)
        rest = await self._copies.settle(operation, volume.id, lambda: backend.delete_snapshot(file))
        if len(rest.live) == 1:
            return await self._copies.begin_live(operation, backend, rest, raw)
        again = check_rest(rest, f"Volume {volume.id}")
        if again is not None:
            return again
        source = VolumeFile(volume_id=volume.id, size_bytes=volume.size_gib * GIB, format=volume.format)
        with failpoints.around("create_snapshot"):
            return await self._copies.run(operation, lambda watch: backend.create_snapshot(file, source, watch))

    async def _note_failure(self, operation: Operation, error: StepError) -> Outcome:
        at = self._runtime.clock.now_us()
        if isinstance(error, StepNever) or at >= operation.deadline_at:
            await self._runtime.store.write(_fail, operation, error.message, at)
            await self._copies.drop_live(operation.subject_id)
            return DONE
        return await note_retry(self._runtime, operation, error)


def snapshot_file(snapshot: Snapshot) -> SnapshotFile:
    """The snapshot as its back end knows it."""
    return SnapshotFile(snapshot_id=snapshot.id, size_bytes=snapshot.size_gib * GIB, format=snapshot.format)


def _see(tx: Tx, snapshot_id: str) -> tuple[Snapshot, Volume, Operation | None]:
    snapshot = load_snapshot(tx, snapshot_id)
    volume = None if snapshot is None else load_volume(tx, snapshot.volume_id)
    if snapshot is None or volume is None:
        raise AssertionError(f"snapshot {snapshot_id} has no row, or its volume has none")
    return snapshot, volume, snapshot_operation(tx, snapshot_id)


def _complete(tx: Tx, operation: Operation, at: int, took_us: int) -> None:
    if operation.kind is OperationKind.CREATING:
        taken = TAKES in operation.args
        if not taken and (operation.volume_id is None or not copy_counts(tx, operation, operation.volume_id)):
            raise StaleWrite
        running = snapshot_operation(tx, operation.subject_id)
        # What an agent copies is raw, whatever the volume's format is.
        form = {"format": "raw"} if running is not None and COPIED in running.args else {}
        change_snapshot(tx, operation.subject_id, made=True, updated_at=at, **form)
    else:
        change_snapshot(tx, operation.subject_id, deleted_at=at, updated_at=at, live=None)
        if operation.volume_id is not None:
            tx.wake("volume", operation.volume_id)  # which may wait to be deleted behind it
    finish_operation(tx, operation, actor=ACTOR, at=at, took_us=took_us)


def _fail(tx: Tx, operation: Operation, message: str, at: int) -> None:
    """The snapshot keeps the reason; its status shows it as Cinder's error or error_deleting."""
    reason = Reason(code=f"{operation.kind.value}_failed", message=message, at=at)
    finish_operation(tx, operation, actor=ACTOR, at=at, error=reason)
    change_snapshot(tx, operation.subject_id, fault=reason, updated_at=at)
    snapshot = load_snapshot(tx, operation.subject_id)
    if snapshot is None:
        raise AssertionError("a snapshot's row is never deleted")
    tell_failure(
        tx,
        operation,
        OF_SNAPSHOT[operation.kind],
        project_id=snapshot.project_id,
        resource_type="VOLUME_SNAPSHOT",
        resource_id=snapshot.id,
        text=message,
        at=at,
    )
    tx.wake("volume", snapshot.volume_id)
    log.warning("snapshot operation failed", snapshot_id=snapshot.id, kind=operation.kind.value, reason=message)
