"""Swaps: the rows. The functions here are the only writers of the table."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import bindparam, insert, or_, select, update

from kevel.domain.assignments import SwapAssignment
from kevel.domain.errors import StaleWrite
from kevel.domain.model import Reason
from kevel.domain.swaps import Swap, SwapState
from kevel.store.actions import finish_action
from kevel.store.hosts import raise_version
from kevel.store.schema.attachments import paths
from kevel.store.schema.base import LIVE
from kevel.store.schema.swaps import swaps
from kevel.store.transactions import Tx, as_struct, row_columns

_COLUMNS = row_columns(swaps, Swap)
_OF_EITHER = or_(swaps.c.attachment_id == bindparam("of_id"), swaps.c.aside_id == bindparam("of_id"))
_ONE = select(*_COLUMNS).where(swaps.c.id == bindparam("of_id"))
_RUNNING = select(*_COLUMNS).where(_OF_EITHER, swaps.c.finished_at.is_(None))
_NEWEST = select(*_COLUMNS).where(_OF_EITHER).order_by(swaps.c.created_at.desc(), swaps.c.id.desc()).limit(1)
_INSERT = insert(swaps)
_CHANGE = (
    update(swaps)
    .where(swaps.c.id == bindparam("of_id"), swaps.c.revision == bindparam("of_revision"))
    .values(
        state=bindparam("new_state"),
        revision=swaps.c.revision + 1,
        reason=bindparam("new_reason"),
        finished_at=bindparam("new_finished_at"),
        host_version=bindparam("new_host_version"),
    )
)
_PROGRESS = (
    update(swaps)
    .where(swaps.c.id == bindparam("of_id"))
    .values(done_bytes=bindparam("new_done"), total_bytes=bindparam("new_total"))
)
_OLD = paths.alias("old_paths")
_NEW = paths.alias("new_paths")
_OF_HOST = (
    select(
        swaps.c.id,
        swaps.c.server_id,
        swaps.c.state,
        swaps.c.revision,
        swaps.c.deadline_at,
        _OLD.c.id.label("old_path_id"),
        _NEW.c.id.label("new_path_id"),
    )
    .select_from(
        swaps.outerjoin(_OLD, (_OLD.c.attachment_id == swaps.c.attachment_id) & (_OLD.c.live == LIVE)).outerjoin(
            _NEW, (_NEW.c.attachment_id == swaps.c.aside_id) & (_NEW.c.live == LIVE)
        )
    )
    .where(swaps.c.host == bindparam("of_host"), swaps.c.host_version > bindparam("since"))
    .where(swaps.c.finished_at.is_(None) | (bindparam("since") > 0))
)


def load_swap(tx: Tx, swap_id: str) -> Swap | None:
    """The swap, whatever became of it."""
    row = tx.execute(_ONE, {"of_id": swap_id}).first()
    return None if row is None else as_struct(Swap, row)


def running_swap(tx: Tx, attachment_id: str) -> Swap | None:
    """The swap in which the attachment is one of the two, if there is one now."""
    row = tx.execute(_RUNNING, {"of_id": attachment_id}).first()
    return None if row is None else as_struct(Swap, row)


def newest_swap(tx: Tx, attachment_id: str) -> Swap | None:
    """The last one, running or over."""
    row = tx.execute(_NEWEST, {"of_id": attachment_id}).first()
    return None if row is None else as_struct(Swap, row)


def insert_swap(tx: Tx, swap: Swap) -> None:
    """Enter a new swap; its host is told."""
    tx.execute(_INSERT, msgspec.structs.asdict(swap) | {"host_version": raise_version(tx, swap.host)})


def change_swap(tx: Tx, swap: Swap, state: SwapState, *, at: int, reason: Reason | None = None) -> None:
    """Move the swap on, by compare-and-set. One that ends closes the user's action. Raises StaleWrite."""
    values: dict[str, Any] = {
        "of_id": swap.id,
        "of_revision": swap.revision,
        "new_state": state,
        "new_reason": reason if state is SwapState.FAILED else None,
        "new_finished_at": at if state.is_over else None,
        "new_host_version": raise_version(tx, swap.host),
    }
    if tx.execute(_CHANGE, values).rowcount != 1:
        raise StaleWrite
    if state.is_over:
        why = "The swap was cancelled." if state is SwapState.CANCELLED else None
        why = reason.message if reason is not None and state is SwapState.FAILED else why
        finish_action(tx, subject_id=swap.id, action="swap_volume", at=at, error=why)


def note_swap_progress(tx: Tx, swap: Swap, done_bytes: int, total_bytes: int) -> None:
    """Keep how much has been copied."""
    tx.execute(_PROGRESS, {"of_id": swap.id, "new_done": done_bytes, "new_total": total_bytes})


def swaps_for_host(tx: Tx, host: str, since: int) -> tuple[SwapAssignment, ...]:
    """The swaps of the host that changed after that version; all that run for version 0."""
    return tuple(
        SwapAssignment(
            id=row.id,
            server_id=row.server_id,
            old_path_id=row.old_path_id or "",
            new_path_id=row.new_path_id or "",
            state=row.state,
            revision=row.revision,
            deadline_at=row.deadline_at,
        )
        for row in tx.execute(_OF_HOST, {"of_host": host, "since": since})
    )
