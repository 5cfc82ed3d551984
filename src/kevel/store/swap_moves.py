"""The moves of swaps: how one begins, what a host reports of it, and the exchange of the two volumes.

The attachment keeps its id, place and alias, and changes its volume. Beside it stands an attachment `aside`, which has
the new volume before the exchange and the old one afterwards; it is claimed, exported and connected like any other, and
never plugged. So letting go of either volume is stepping down, and nothing else.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, select, text, update

from kevel.domain.assignments import SwapReport
from kevel.domain.errors import StaleWrite
from kevel.domain.ladder import Goal, Hands, Rung
from kevel.domain.model import Actor, Attachment, Path, Reason
from kevel.domain.swaps import FAILED, Swap, SwapState
from kevel.store.actions import start_action
from kevel.store.attachments import live_paths, load_attachment
from kevel.store.hosts import current_epoch
from kevel.store.path_moves import move_path, set_goal
from kevel.store.path_rows import stamp_path
from kevel.store.schema.attachments import attachments, paths
from kevel.store.swaps import change_swap, insert_swap, load_swap, note_swap_progress
from kevel.store.transactions import Tx

#: Both volumes change hands in several statements; what ties the rows together is checked after the last of them.
_DEFER: Final = {"sqlite": text("PRAGMA defer_foreign_keys = ON"), "postgresql": text("SET CONSTRAINTS ALL DEFERRED")}
#: Others may follow in the same COMMIT, and are to be refused by their own statements.
_ENFORCE: Final = {
    "sqlite": text("PRAGMA defer_foreign_keys = OFF"),
    "postgresql": text("SET CONSTRAINTS ALL IMMEDIATE"),
}
_TAKE = update(attachments).where(attachments.c.id == bindparam("of_id"))
_TAKE = _TAKE.values(claim_id=bindparam("new_claim"), volume_id=bindparam("new_volume"), serial=bindparam("new_serial"))
_GIVE = update(paths).where(paths.c.id == bindparam("of_id")).values(attachment_id=bindparam("new_attachment"))
_CLAIM_OF_ONE = select(attachments.c.claim_id).where(attachments.c.id == bindparam("of_id"))


def open_swap(tx: Tx, swap: Swap, *, actor: Actor) -> None:
    """Record that a swap is wanted; the attachment that stands aside is there already."""
    insert_swap(tx, swap)
    start_action(
        tx, server_id=swap.server_id, subject_id=swap.id, action="swap_volume", actor=actor, at=swap.created_at
    )


def apply_swap_report(tx: Tx, host: str, epoch: int, report: SwapReport, *, at: int, deadline_at: int) -> bool:
    """What a host's agent saw of one swap. False: outdated, and nothing was changed (S6, S11).

    `deadline_at` is for what has to be let go of afterwards.
    """
    swap = load_swap(tx, report.swap_id)
    if swap is None or swap.host != host or current_epoch(tx, host) != epoch:
        return False
    if swap.state.is_over or swap.revision != report.revision:
        return False
    actor = f"host:{host}"
    if report.total_bytes:
        note_swap_progress(tx, swap, report.done_bytes, report.total_bytes)
    if report.state is SwapState.FAILED:
        reason = report.reason or Reason(code=FAILED, message="The swap has failed.", at=at)
        change_swap(tx, swap, SwapState.FAILED, at=at, reason=reason)
        aside = _attachment(tx, swap.aside_id)
        if aside.goal is Goal.ATTACHED:
            # The host tells of the swap; that the new volume is given back for it is the control plane's doing.
            _let_go(tx, aside, by="rollback", swap=swap, actor="control", at=at, deadline_at=deadline_at, reason=reason)
    elif report.state is SwapState.PIVOTING and swap.state is SwapState.COPYING:
        change_swap(tx, swap, SwapState.PIVOTING, at=at)
        for attachment_id in (swap.attachment_id, swap.aside_id):
            for path in live_paths(tx, attachment_id):
                stamp_path(tx, path)
    elif report.state is SwapState.SWAPPED and swap.state is SwapState.PIVOTING:
        _exchange(tx, swap, actor=actor, at=at, deadline_at=deadline_at)
    return True


def _exchange(tx: Tx, swap: Swap, *, actor: str, at: int, deadline_at: int) -> None:
    """The guest has the new volume: the attachment is that volume's, and the old one is on its way down."""
    kept, aside = _attachment(tx, swap.attachment_id), _attachment(tx, swap.aside_id)
    (old,), (new,) = live_paths(tx, kept.id), live_paths(tx, aside.id)
    if (old.rung, new.rung, new.hands) != (Rung.PLUGGED, Rung.CONNECTED, Hands.HOST):
        raise StaleWrite
    change_swap(tx, swap, SwapState.SWAPPED, at=at)
    tx.execute(_DEFER[tx.conn.dialect.name])
    old_claim, new_claim = _claim(tx, kept.id), _claim(tx, aside.id)
    known_as = kept.serial or kept.volume_id
    serial = None if known_as == aside.volume_id else known_as
    # Each of these is unique, so one of the two is put by for a moment.
    _take(tx, aside.id, "", aside.volume_id, None)
    _take(tx, kept.id, new_claim, aside.volume_id, serial)
    _take(tx, aside.id, old_claim, kept.volume_id, None)
    for path_id, attachment_id in ((new.id, ""), (old.id, aside.id), (new.id, kept.id)):
        tx.execute(_GIVE, {"of_id": path_id, "new_attachment": attachment_id})
    tx.execute(_ENFORCE[tx.conn.dialect.name])
    kept, aside = _attachment(tx, kept.id), _attachment(tx, aside.id)
    if aside.goal is Goal.ATTACHED:
        _let_go(tx, aside, by="user", swap=swap, actor=actor, at=at, deadline_at=deadline_at, reason=None)
    _move(tx, old, aside, Rung.CONNECTED, actor=actor, at=at)
    _move(tx, new, kept, Rung.PLUGGED, actor=actor, at=at, plugged_bytes=old.plugged_bytes)


def _move(
    tx: Tx, path: Path, attachment: Attachment, rung: Rung, *, actor: str, at: int, plugged_bytes: int | None = None
) -> None:
    given = msgspec.structs.replace(path, attachment_id=attachment.id)
    move_path(tx, given, rung=rung, hands=Hands.HOST, actor=actor, at=at, plugged_bytes=plugged_bytes)


def _let_go(
    tx: Tx,
    aside: Attachment,
    *,
    by: str,
    swap: Swap,
    actor: str,
    at: int,
    deadline_at: int,
    reason: Reason | None,
) -> None:
    set_goal(
        tx,
        aside,
        Goal.DETACHED,
        by=by,
        request_id=swap.request_id,
        actor=actor,
        at=at,
        deadline_at=deadline_at,
        reason=reason,
    )


def _take(tx: Tx, attachment_id: str, claim_id: str, volume_id: str, serial: str | None) -> None:
    values: dict[str, Any] = {"of_id": attachment_id, "new_claim": claim_id, "new_volume": volume_id}
    tx.execute(_TAKE, values | {"new_serial": serial})


def _claim(tx: Tx, attachment_id: str) -> str:
    return str(tx.execute(_CLAIM_OF_ONE, {"of_id": attachment_id}).scalar_one())


def _attachment(tx: Tx, attachment_id: str) -> Attachment:
    attachment = load_attachment(tx, attachment_id)
    if attachment is None:
        raise AssertionError(f"attachment {attachment_id} has no row")
    return attachment
