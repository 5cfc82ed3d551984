"""The moves of external attachments: what clients declare, and the paths that only the storage makes and undoes.

The same rows as for servers of ours, and the same rules: read inside the transaction, written by compare-and-set,
journaled with it (S12). A path that has to go is `dropped`; its worker steps it down, and a new one may follow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import bindparam, select, update

from kevel.domain.errors import StaleWrite
from kevel.domain.ladder import Goal, Hands, Rung
from kevel.domain.model import Actor, Attachment, Origin, Path, Reason, Stage, Volume
from kevel.store.attachments import live_paths, load_attachment
from kevel.store.journal import Entry, append
from kevel.store.path_moves import close_attachment, keep_waiting, move_path, set_goal
from kevel.store.path_rows import (
    draw_generation,
    insert_attachment,
    insert_claim,
    insert_path,
    journal_path,
    name_user,
)
from kevel.store.schema.attachments import attachments, claims, paths
from kevel.store.schema.base import LIVE
from kevel.store.transactions import Tx

#: Seals the connection_info of an effect-free export; pure. None: the export has an effect, and a worker makes it.
SealFree = Callable[[Path], bytes] | None

_CHANGE = (
    update(attachments)
    .where(attachments.c.id == bindparam("of_id"), attachments.c.goal_revision == bindparam("was_revision"))
    .values(
        stage=bindparam("new_stage"),
        instance_id=bindparam("new_instance_id"),
        consumer_host=bindparam("new_consumer_host"),
        device=bindparam("new_device"),
        mode=bindparam("new_mode"),
        established=bindparam("new_established"),
        attached_at=bindparam("new_attached_at"),
        deadline_at=bindparam("new_deadline_at"),
        reason=bindparam("new_reason"),
    )
)
#: What a client's word may change, in the order of the statement above.
_CHANGEABLE = (
    "stage",
    "instance_id",
    "consumer_host",
    "device",
    "mode",
    "established",
    "attached_at",
    "deadline_at",
    "reason",
)
_DROP = (
    update(paths)
    .where(paths.c.id == bindparam("of_id"), paths.c.revision == bindparam("was_revision"))
    .values(dropped=True, revision=paths.c.revision + 1, last_error=None, changed_at=bindparam("new_at"))
)
_CLAIM_OF = select(attachments.c.claim_id).where(attachments.c.id == bindparam("of_attachment"))
_CLAIM_HELD = select(claims.c.id).where(
    claims.c.volume_id == bindparam("of_volume"), claims.c.holder == bindparam("of_holder"), claims.c.live == LIVE
)
_HOLD = (
    update(claims)
    .where(claims.c.id == bindparam("of_claim"), claims.c.live == LIVE)
    .values(holder=bindparam("new_holder"))
)


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Who moves something, by which request, and when."""

    actor: str
    request_id: str
    at: int


def cause_of(actor: Actor, at: int) -> Cause:
    """A user's request of now."""
    return Cause(actor=name_user(actor), request_id=actor.request_id, at=at)


class NewExternal(msgspec.Struct, frozen=True, kw_only=True):
    """What `open_external` writes, checked by the caller in the same transaction."""

    attachment_id: str
    #: For a new claim; unused when the holder has one on this volume.
    claim_id: str
    origin: Origin
    stage: Stage
    instance_id: str | None = None
    consumer_host: str | None = None
    device: str | None = None
    mode: str | None = None
    #: False: the request is not answered before its export is there, and a failure undoes all of it.
    established: bool
    deadline_at: int


def name_holder(attachment_id: str, *, instance_id: str | None, host: str | None) -> str:
    """Who holds the volume, as its claim says: one instance or host is one holder, whatever has declared it."""
    if instance_id is not None:
        return f"external:instance:{instance_id}"
    return f"external:host:{host}" if host is not None else f"external:attachment:{attachment_id}"


def open_external(
    tx: Tx, new: NewExternal, volume: Volume, *, actor: Actor, at: int, beside: Attachment | None = None
) -> Attachment:
    """Claim the volume for what a client declares; with `beside`, under the claim of that attachment."""
    holder = name_holder(new.attachment_id, instance_id=new.instance_id, host=new.consumer_host)
    claim_id = _claim_of(tx, beside.id) if beside is not None else _find_claim(tx, volume.id, holder)
    if claim_id is None:
        claim_id = new.claim_id
        insert_claim(tx, claim_id, volume, holder, at)
    attachment = Attachment(
        id=new.attachment_id,
        volume_id=volume.id,
        server_id=None,
        project_id=volume.project_id,
        goal=Goal.ATTACHED,
        goal_revision=1,
        goal_request_id=actor.request_id,
        goal_by="user",
        goal_at=at,
        deadline_at=new.deadline_at,
        established=new.established,
        device=new.device,
        unit=None,
        tag=None,
        delete_on_termination=False,
        boot_index=None,
        reason=None,
        created_at=at,
        attached_at=at if new.stage is Stage.ATTACHED else None,
        closed_at=None,
        stage=new.stage,
        origin=new.origin,
        instance_id=new.instance_id,
        consumer_host=new.consumer_host,
        mode=new.mode,
        service_user_id=actor.service_user_id,
    )
    detail = _told(attachment) | {"origin": new.origin.value, "stage": new.stage.value}
    insert_attachment(tx, attachment, claim_id, actor=actor, detail=detail)
    return attachment


def _told(attachment: Attachment) -> dict[str, Any]:
    return {
        "device": attachment.device,
        "instance_id": attachment.instance_id,
        "consumer_host": attachment.consumer_host,
        "mode": attachment.mode,
        "established": attachment.established,
    }


def _claim_of(tx: Tx, attachment_id: str) -> str:
    return str(tx.execute(_CLAIM_OF, {"of_attachment": attachment_id}).scalar_one())


def _find_claim(tx: Tx, volume_id: str, holder: str) -> str | None:
    found: str | None = tx.execute(_CLAIM_HELD, {"of_volume": volume_id, "of_holder": holder}).scalar()
    return found


def hold_as(tx: Tx, attachment: Attachment, *, instance_id: str | None, host: str | None) -> None:
    """A claim that was nobody's by name gets its holder's, unless the holder has a claim that still ends."""
    holder = name_holder(attachment.id, instance_id=instance_id, host=host)
    if _find_claim(tx, attachment.volume_id, holder) is None:
        tx.execute(_HOLD, {"of_claim": _claim_of(tx, attachment.id), "new_holder": holder})


def change_external(tx: Tx, attachment: Attachment, cause: Cause, **changes: Any) -> Attachment:
    """Store what the client says now, of the columns in `_CHANGEABLE`, by compare-and-set on the goal's revision."""
    changed: Attachment = msgspec.structs.replace(attachment, **changes)
    values = {f"new_{name}": getattr(changed, name) for name in _CHANGEABLE}
    if tx.execute(_CHANGE, {**values, "of_id": attachment.id, "was_revision": attachment.goal_revision}).rowcount != 1:
        raise StaleWrite
    if attachment.stage is None or changed.stage is None:
        raise AssertionError("a managed attachment has no stage")
    entry = Entry(
        at=cause.at,
        subject="attachment",
        subject_id=attachment.id,
        what="stage",
        before=attachment.stage.value,
        after=changed.stage.value,
        revision=attachment.goal_revision,
        actor=cause.actor,
        request_id=cause.request_id,
        volume_id=attachment.volume_id,
        attachment_id=attachment.id,
        detail=_told(changed),
    )
    append(tx, entry)
    return changed


def add_path(
    tx: Tx,
    attachment: Attachment,
    path_id: str,
    host: str,
    connector: dict[str, Any],
    *,
    actor: Actor,
    at: int,
    seal_free: SealFree,
) -> Path:
    """Want the storage to let that consumer in; an effect-free export is passed at once."""
    path = Path(
        id=path_id,
        attachment_id=attachment.id,
        volume_id=attachment.volume_id,
        server_id=None,
        host=host,
        generation=draw_generation(tx, attachment.volume_id),
        rung=Rung.RESERVED,
        hands=Hands.CONTROL,
        revision=1,
        connection_info=None,
        plugged_bytes=None,
        last_error=None,
        changed_at=at,
        connector=connector,
    )
    if seal_free is not None:
        path = msgspec.structs.replace(path, rung=Rung.EXPORTED, connection_info=seal_free(path))
    insert_path(tx, path, actor=name_user(actor), request_id=actor.request_id)
    return path


def drop_path(tx: Tx, path: Path, cause: Cause, *, free: bool) -> None:
    """Want the path gone. `free`: its export has no effect, so it goes at once."""
    if path.dropped:
        return
    at, actor = cause.at, cause.actor
    if tx.execute(_DROP, {"of_id": path.id, "was_revision": path.revision, "new_at": at}).rowcount != 1:
        raise StaleWrite
    dropped = msgspec.structs.replace(path, dropped=True, revision=path.revision + 1, last_error=None, changed_at=at)
    journal_path(tx, dropped, "dropped", "wanted", "dropped", actor=actor, request_id=cause.request_id, at=at)
    if free:
        move_path(tx, dropped, rung=Rung.RELEASED, hands=Hands.CONTROL, actor=actor, at=at)
    else:
        tx.wake("path", path.id)


def end_external(
    tx: Tx,
    attachment: Attachment,
    cause: Cause,
    *,
    by: str = "user",
    deadline_at: int,
    free: bool,
    reason: Reason | None = None,
) -> None:
    """Let it go: its paths first, and it closes with the last of them. One that is on its way is left to it."""
    if attachment.closed_at is not None or attachment.goal is Goal.DETACHED:
        return
    set_goal(
        tx,
        attachment,
        Goal.DETACHED,
        by=by,
        request_id=cause.request_id,
        actor=cause.actor,
        at=cause.at,
        deadline_at=deadline_at,
        reason=reason,
    )
    held = live_paths(tx, attachment.id)
    for path in held:
        drop_path(tx, path, cause, free=free)
    if not held:
        moved = load_attachment(tx, attachment.id)
        if moved is None:
            raise AssertionError("an attachment's row is never deleted")
        close_attachment(tx, moved, cause.at)


def give_up_export(
    tx: Tx, attachment: Attachment, reason: Reason, *, actor: str, at: int, deadline_at: int, free: bool
) -> None:
    """The storage does not let the consumer in. A request that was never answered is undone whole; of any other the
    attachment stays, as it was before it was to be connected.
    """
    if attachment.goal is Goal.DETACHED:
        return
    keep_waiting(tx, attachment, reason, at=at)
    cause = Cause(actor=actor, request_id=attachment.goal_request_id, at=at)
    if not attachment.established:
        end_external(tx, attachment, cause, by="rollback", deadline_at=deadline_at, free=free, reason=reason)
        return
    stage = Stage.RESERVED if attachment.origin is Origin.ATTACHMENT else attachment.stage
    change_external(tx, attachment, cause, stage=stage, deadline_at=deadline_at, reason=reason)
    for path in live_paths(tx, attachment.id):
        drop_path(tx, path, cause, free=free)
