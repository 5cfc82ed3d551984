"""What all workers of operations do with a failure: keep what may pass for a repetition, tell users of what ended."""

from __future__ import annotations

from kevel.control.runtime import Runtime
from kevel.domain.errors import StepError
from kevel.domain.messages import Action, Detail
from kevel.domain.model import Operation, Reason
from kevel.runtime.reconciler import Retry
from kevel.store.messages import add_message
from kevel.store.operations import note_error
from kevel.store.transactions import Tx


async def note_retry(runtime: Runtime, operation: Operation, error: StepError) -> Retry:
    """Keep why the operation has not succeeded yet, once, and have it tried again."""
    if operation.last_error is None or operation.last_error.message != error.message:
        at = runtime.clock.now_us()
        reason = Reason(code=f"{operation.kind.value}_retried", message=error.message, at=at)
        await runtime.store.write(note_error, operation, reason)
    return Retry(error.message)


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
