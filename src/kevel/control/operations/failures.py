"""What all workers of operations do with a failure: keep what may pass for a repetition, tell users of what ended."""

from __future__ import annotations

import structlog

from kevel.control.images.volume_images import drop_image
from kevel.control.runtime import Runtime
from kevel.domain.errors import StepError
from kevel.domain.ladder import Goal
from kevel.domain.messages import OF_OPERATION, Action, Detail
from kevel.domain.model import REBUILDS, Operation, OperationKind, Reason
from kevel.domain.pool_moves import POOL_MOVES
from kevel.runtime.reconciler import Retry
from kevel.store.attachments import open_of_volume
from kevel.store.messages import add_message
from kevel.store.operations import finish_operation, note_error
from kevel.store.path_moves import give_up
from kevel.store.server_rows import fail_rebuild
from kevel.store.transactions import Tx
from kevel.store.volumes import change_volume, give_back, load_volume

log = structlog.get_logger(__name__)


async def note_retry(runtime: Runtime, operation: Operation, error: StepError) -> Retry:
    """Keep why the operation has not succeeded yet, once, and have it tried again."""
    if operation.last_error is None or operation.last_error.message != error.message:
        at = runtime.clock.now_us()
        reason = Reason(code=f"{operation.kind.value}_retried", message=error.message, at=at)
        await runtime.store.write(note_error, operation, reason)
    return Retry(error.message)


def fail_volume_operation(tx: Tx, operation: Operation, message: str, *, actor: str, at: int) -> None:
    """The volume keeps the reason; its status shows it as Cinder's error, error_deleting or error_extending.

    A volume that was only to be written out as an image, or to be moved, is as good as before. Raises StaleWrite when
    the operation has ended already.
    """
    reason = Reason(code=f"{operation.kind.value}_failed", message=message, at=at)
    finish_operation(tx, operation, actor=actor, at=at, error=reason)
    if operation.kind is OperationKind.UPLOADING:
        drop_image(tx, str(operation.args["image_id"]), str(operation.args["file"]), at)
    elif operation.kind in POOL_MOVES:
        change_volume(tx, operation.subject_id, migration_status="error", updated_at=at)
    else:
        change_volume(tx, operation.subject_id, fault=reason, updated_at=at)
    if operation.kind is OperationKind.CREATING:
        why = Reason(code=reason.code, message=f"it could not be made: {message}", at=at)
        for view in open_of_volume(tx, operation.subject_id):
            if view.attachment.goal is Goal.ATTACHED:
                give_up(tx, view.attachment, why, at=at, actor=actor, deadline_at=at)
    elif operation.kind is OperationKind.DOWNLOADING:
        give_back(tx, operation.subject_id)
        if (server_id := operation.args.get(REBUILDS)) is not None:
            why = Reason(code=reason.code, message=f"Volume {operation.subject_id}: {message}", at=at)
            fail_rebuild(tx, str(server_id), operation.request_id, why, actor=actor, at=at)
    volume = load_volume(tx, operation.subject_id)
    if volume is None:
        raise AssertionError("a volume's row is never deleted")
    told = OF_OPERATION[operation.kind]
    tell_failure(tx, operation, told, project_id=volume.project_id, resource_id=volume.id, text=message, at=at)
    log.warning("volume operation failed", volume_id=operation.subject_id, kind=operation.kind.value, reason=message)


def tell_failure(
    tx: Tx,
    operation: Operation,
    told: tuple[Action, Detail],
    *,
    project_id: str,
    resource_id: str,
    text: str,
    at: int,
    resource_type: str = "VOLUME",
) -> None:
    """Tell the project's users why the operation has failed."""
    action, detail = told
    add_message(
        tx,
        cause=f"operation/{operation.id}",
        project_id=project_id,
        request_id=operation.request_id,
        resource_type=resource_type,
        resource_id=resource_id,
        action=action,
        detail=detail,
        text=text,
        at=at,
    )
