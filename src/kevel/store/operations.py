"""Exclusive work on volumes, snapshots and what else has a life of its own: the rows, and their moves.

`begin_operation`, `finish_operation` and `give_up_operation` are the only writers of operations. Each move is journaled
in its own transaction (S12), and the subject's worker is woken after the commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, insert, select, update

from kevel.domain.errors import StaleWrite
from kevel.domain.model import Operation, OperationKind, Reason, Subject
from kevel.store.journal import Entry, append
from kevel.store.schema.volumes import operations
from kevel.store.transactions import Tx, as_struct, row_columns

OPERATION_COLUMNS = row_columns(operations, Operation)
_RUNNING = select(*OPERATION_COLUMNS).where(
    operations.c.subject == bindparam("of_subject"),
    operations.c.subject_id == bindparam("of_id"),
    operations.c.finished_at.is_(None),
)
_INSERT = insert(operations).returning(operations.c.id)
_OPEN = update(operations).where(operations.c.id == bindparam("of_operation"), operations.c.finished_at.is_(None))
_FINISH = _OPEN.values(finished_at=bindparam("new_at"), last_error=bindparam("new_error"))
_NOTE = _OPEN.values(last_error=bindparam("new_error"))
_ARGS = _OPEN.values(args=bindparam("new_args"))
_PROGRESS = _OPEN.values(progress=bindparam("new_progress"))
_READERS = (
    select(operations.c.subject, operations.c.subject_id)
    .where(operations.c.reads == bindparam("of_source"), operations.c.finished_at.is_(None))
    .limit(1)
)
_UNFINISHED = select(operations.c.subject_id).where(
    operations.c.subject == bindparam("of_subject"), operations.c.finished_at.is_(None)
)


def running_operation(tx: Tx, subject: Subject, subject_id: str) -> Operation | None:
    """The operation that works on it now."""
    row = tx.execute(_RUNNING, {"of_subject": subject, "of_id": subject_id}).first()
    return None if row is None else as_struct(Operation, row)


def unfinished(tx: Tx, subject: Subject) -> list[str]:
    """Ids of those with an operation that has not ended: what their worker has to look at after a start."""
    return list(tx.execute(_UNFINISHED, {"of_subject": subject}).scalars())


def begin_operation(
    tx: Tx,
    subject: Subject,
    subject_id: str,
    kind: OperationKind,
    *,
    volume_id: str | None,
    actor: str,
    request_id: str,
    at: int,
    deadline_at: int,
    args: Mapping[str, Any] | None = None,
    reads: str | None = None,
) -> None:
    """Start exclusive work on the subject; its worker is woken. The index one_operation refuses a second one.

    `volume_id` is the volume that the work is about, whose history it is part of; None: it is about none. `reads` is
    what it copies from, which is not deleted meanwhile: a volume's or snapshot's id, or an image's file.
    """
    values = {
        "subject": subject,
        "subject_id": subject_id,
        "volume_id": volume_id,
        "kind": kind,
        "reads": reads,
        "progress": 0,
        "args": dict(args or {}),
        "request_id": request_id,
        "created_at": at,
        "deadline_at": deadline_at,
    }
    operation_id = int(tx.execute(_INSERT, values).scalar_one())
    entry = Entry(
        at=at,
        subject=subject.value,
        subject_id=subject_id,
        volume_id=volume_id,
        what="operation",
        before="none",
        after=kind.value,
        revision=operation_id,
        actor=actor,
        request_id=request_id,
        detail=dict(args) if args else None,
    )
    append(tx, entry)
    tx.wake(subject.value, subject_id)


def finish_operation(
    tx: Tx, operation: Operation, *, actor: str, at: int, error: Reason | None = None, took_us: int | None = None
) -> None:
    """Close the operation, with the reason if it failed. Raises StaleWrite when it is closed already."""
    values = {"of_operation": operation.id, "new_at": at, "new_error": error}
    if tx.execute(_FINISH, values).rowcount != 1:
        raise StaleWrite
    entry = Entry(
        at=at,
        subject=operation.subject.value,
        subject_id=operation.subject_id,
        volume_id=operation.volume_id,
        what="operation",
        before=operation.kind.value,
        after="done" if error is None else "failed",
        revision=operation.id,
        actor=actor,
        request_id=operation.request_id,
        took_us=took_us,
        detail=None if error is None else {"code": error.code, "message": error.message},
    )
    append(tx, entry)


def give_up_operation(tx: Tx, operation: Operation, *, actor: str, at: int) -> None:
    """Close an operation whose subject is deleted instead. Raises StaleWrite when it is closed already."""
    message = f"The {operation.subject.value} was deleted while it was {operation.kind.value}."
    finish_operation(tx, operation, actor=actor, at=at, error=Reason(code="superseded", message=message, at=at))


def note_args(tx: Tx, operation: Operation, args: Mapping[str, Any]) -> None:
    """Keep how the work goes. Raises StaleWrite when the operation is closed already."""
    if tx.execute(_ARGS, {"of_operation": operation.id, "new_args": dict(args)}).rowcount != 1:
        raise StaleWrite


def note_progress(tx: Tx, operation: Operation, percent: int) -> None:
    """Keep how much of the copy is done."""
    tx.execute(_PROGRESS, {"of_operation": operation.id, "new_progress": percent})


def is_read(tx: Tx, source: str) -> bool:
    """Does an unfinished operation copy from that volume, snapshot or image file?"""
    return bool(tx.execute(_READERS, {"of_source": source}))


def note_error(tx: Tx, operation: Operation, error: Reason) -> None:
    """Keep why the operation has not succeeded yet."""
    tx.execute(_NOTE, {"of_operation": operation.id, "new_error": error})
