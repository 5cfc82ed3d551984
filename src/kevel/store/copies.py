"""Copies of plugged disks and of servers' own: the orders, and what their hosts' agents report.

The functions here are the only writers of the table. Whoever ordered a copy is woken by each of its reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import bindparam, insert, select, update

from kevel.domain.assignments import CopyAssignment, CopyReport
from kevel.domain.copies import CopyState, DiskCopy
from kevel.domain.errors import StaleWrite
from kevel.domain.ladder import Hands, Rung
from kevel.domain.model import Path, Server, Subject
from kevel.store.hosts import current_epoch, raise_version
from kevel.store.schema.attachments import attachments, paths
from kevel.store.schema.base import LIVE
from kevel.store.schema.copies import copies
from kevel.store.transactions import Tx, as_struct, row_columns

_COLUMNS = row_columns(copies, DiskCopy)
_ONE = select(*_COLUMNS).where(copies.c.id == bindparam("of_id"))
_OPEN = select(copies.c.id).where(copies.c.subject_id == bindparam("of_subject"), copies.c.live == LIVE)
_INSERT = insert(copies)
_CHANGE = (
    update(copies)
    .where(copies.c.id == bindparam("of_id"), copies.c.revision == bindparam("of_revision"))
    .values(
        state=bindparam("new_state"),
        revision=copies.c.revision + 1,
        reason=bindparam("new_reason"),
        live=bindparam("new_live"),
        changed_at=bindparam("new_at"),
        host_version=bindparam("new_host_version"),
    )
)
_PROGRESS = (
    update(copies)
    .where(copies.c.id == bindparam("of_id"))
    .values(done_bytes=bindparam("new_done"), total_bytes=bindparam("new_total"), changed_at=bindparam("new_at"))
)
_OF_HOST = (
    select(
        copies.c.id,
        copies.c.path_id,
        copies.c.generation,
        copies.c.server_id,
        copies.c.image_format,
        copies.c.target_path,
        copies.c.state,
        copies.c.revision,
        copies.c.deadline_at,
        copies.c.live,
        paths.c.attachment_id,
        paths.c.volume_id,
        attachments.c.serial,
    )
    .outerjoin(paths, paths.c.id == copies.c.path_id)
    .outerjoin(attachments, attachments.c.id == paths.c.attachment_id)
    .where(copies.c.host == bindparam("of_host"), copies.c.host_version > bindparam("since"))
    .where((copies.c.live == LIVE) | (bindparam("since") > 0))
)


def order_copy(
    tx: Tx,
    *,
    copy_id: str,
    subject: Subject,
    subject_id: str,
    path: Path,
    target_path: str,
    at: int,
    deadline_at: int,
) -> None:
    """Have the path's host copy its disk into that file. `copy_id` is never used twice.

    Raises StaleWrite when the path is not plugged: then nobody but the caller writes the volume, or somebody else does.
    """
    if path.rung is not Rung.PLUGGED or path.hands is not Hands.HOST:
        raise StaleWrite
    disk = {"path_id": path.id, "generation": path.generation, "server_id": path.server_id, "image_format": None}
    _order(
        tx,
        path.host,
        disk,
        copy_id=copy_id,
        subject=subject,
        subject_id=subject_id,
        target_path=target_path,
        at=at,
        deadline_at=deadline_at,
    )


def order_root_copy(
    tx: Tx,
    *,
    copy_id: str,
    subject: Subject,
    subject_id: str,
    server: Server,
    target_path: str,
    image_format: str,
    at: int,
    deadline_at: int,
) -> None:
    """Have the server's host copy its own root disk into that file. `copy_id` is never used twice."""
    disk = {"path_id": None, "generation": None, "server_id": server.id, "image_format": image_format}
    _order(
        tx,
        server.host,
        disk,
        copy_id=copy_id,
        subject=subject,
        subject_id=subject_id,
        target_path=target_path,
        at=at,
        deadline_at=deadline_at,
    )


def _order(
    tx: Tx,
    host: str,
    disk: Mapping[str, Any],
    *,
    copy_id: str,
    subject: Subject,
    subject_id: str,
    target_path: str,
    at: int,
    deadline_at: int,
) -> None:
    values = dict(disk) | {
        "id": copy_id,
        "host": host,
        "subject": subject.value,
        "subject_id": subject_id,
        "target_path": target_path,
        "state": CopyState.WANTED,
        "revision": 1,
        "done_bytes": 0,
        "total_bytes": 0,
        "created_at": at,
        "deadline_at": deadline_at,
        "changed_at": at,
        "live": 1,
        "host_version": raise_version(tx, host),
    }
    tx.execute(_INSERT, values)


def load_copy(tx: Tx, copy_id: str) -> DiskCopy | None:
    """The order, whatever became of it."""
    row = tx.execute(_ONE, {"of_id": copy_id}).first()
    return None if row is None else as_struct(DiskCopy, row)


def open_copies(tx: Tx, subject_id: str) -> list[str]:
    """Ids of the subject's orders that a host's agent has still something to do for."""
    return list(tx.execute(_OPEN, {"of_subject": subject_id}).scalars())


def drop_copy(tx: Tx, copy_id: str, *, at: int) -> None:
    """Nobody wants the copy any more: its agent stops it. One that has ended stays as it is."""
    copy = load_copy(tx, copy_id)
    if copy is not None and copy.state is CopyState.WANTED:
        _change(tx, copy, CopyState.DROPPED, at=at, live=1)


def apply_copy_report(tx: Tx, host: str, epoch: int, report: CopyReport, *, at: int) -> bool:
    """What a host's agent saw of one copy. False: outdated, and nothing was changed (S6, S11)."""
    copy = load_copy(tx, report.copy_id)
    if copy is None or copy.host != host or current_epoch(tx, host) != epoch or copy.revision != report.revision:
        return False
    if copy.state is CopyState.DROPPED:
        if report.state is CopyState.DROPPED:
            _change(tx, copy, CopyState.DROPPED, at=at, live=None)
        return True
    if copy.state is not CopyState.WANTED or report.state is CopyState.DROPPED:
        return False
    tx.execute(
        _PROGRESS,
        {"of_id": copy.id, "new_done": report.done_bytes, "new_total": report.total_bytes, "new_at": at},
    )
    if report.state is not CopyState.WANTED:
        _change(tx, msgspec.structs.replace(copy, reason=report.reason), report.state, at=at, live=None)
    tx.wake(copy.subject, copy.subject_id)
    return True


def _change(tx: Tx, copy: DiskCopy, state: CopyState, *, at: int, live: int | None) -> None:
    values = {
        "of_id": copy.id,
        "of_revision": copy.revision,
        "new_state": state,
        "new_reason": copy.reason,
        "new_live": live,
        "new_at": at,
        "new_host_version": raise_version(tx, copy.host),
    }
    if tx.execute(_CHANGE, values).rowcount != 1:
        raise StaleWrite


def copies_for_host(tx: Tx, host: str, since: int) -> tuple[CopyAssignment, ...]:
    """The orders of the host that changed after that version; all that it has to act on for version 0."""
    return tuple(
        CopyAssignment(
            id=row.id,
            path_id=row.path_id,
            generation=row.generation,
            server_id=row.server_id,
            attachment_id=row.attachment_id,
            volume_id=row.volume_id,
            serial=row.serial or row.volume_id,
            image_format=row.image_format,
            target_path=row.target_path,
            state=row.state,
            live=row.live is not None,
            revision=row.revision,
            deadline_at=row.deadline_at,
        )
        for row in tx.execute(_OF_HOST, {"of_host": host, "since": since})
    )
