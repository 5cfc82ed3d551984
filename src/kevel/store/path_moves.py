"""The moves of attachments and their paths: the only writers of goals, rungs and hands.

Each function reads what it decides by inside its own transaction, writes by compare-and-set, and journals in the same
transaction (S12). What follows from a move - an attachment that is now established, closed, or given up - follows here
and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import bindparam, exists, select, update

from kevel.domain.errors import Conflict, StaleWrite
from kevel.domain.ladder import Goal, Hands, Rung
from kevel.domain.messages import Action as MessageAction
from kevel.domain.messages import Detail
from kevel.domain.model import Actor, Attachment, Path, Reason, ServerGoal, Volume
from kevel.domain.status import is_complete
from kevel.domain.swaps import GIVEN_UP, SwapState
from kevel.store.actions import finish_action, start_action
from kevel.store.attachments import live_paths, load_attachment, open_of_volume
from kevel.store.hosts import raise_version
from kevel.store.journal import append
from kevel.store.messages import add_message
from kevel.store.path_rows import (
    draw_generation,
    goal_entry,
    insert_attachment,
    insert_claim,
    insert_path,
    journal_path,
    journal_rungs,
    name_user,
    stamp_path,
)
from kevel.store.schema.attachments import attachments, claims, paths
from kevel.store.schema.base import LIVE
from kevel.store.server_rows import close_server_if_left, fail_start, leave_host_if_left
from kevel.store.servers import load_server
from kevel.store.snapshots import live_snapshots
from kevel.store.swaps import change_swap, running_swap
from kevel.store.transactions import Tx
from kevel.store.volume_services import is_frozen
from kevel.store.volumes import begin_delete, load_volume

#: Seals the connection_info of an effect-free export; pure, so a transaction may call it.
SealExport = Callable[[Volume, Path], bytes]

_SET_GOAL = (
    update(attachments)
    .where(attachments.c.id == bindparam("of_id"), attachments.c.goal_revision == bindparam("was_revision"))
    .values(
        goal=bindparam("new_goal"),
        goal_revision=attachments.c.goal_revision + 1,
        goal_request_id=bindparam("new_request_id"),
        goal_by=bindparam("new_by"),
        goal_at=bindparam("new_at"),
        deadline_at=bindparam("new_deadline_at"),
        reason=bindparam("new_reason"),
    )
)
_SET_REASON = (
    update(attachments)
    .where(attachments.c.id == bindparam("of_id"), attachments.c.goal_revision == bindparam("was_revision"))
    .values(reason=bindparam("new_reason"))
)
_MOVE_PATH = (
    update(paths)
    .where(paths.c.id == bindparam("of_id"), paths.c.revision == bindparam("was_revision"))
    .values(
        rung=bindparam("new_rung"),
        hands=bindparam("new_hands"),
        revision=paths.c.revision + 1,
        connection_info=bindparam("new_info"),
        plugged_bytes=bindparam("new_plugged_bytes"),
        last_error=None,
        changed_at=bindparam("new_at"),
        live=bindparam("new_live"),
        host_version=bindparam("new_host_version"),
    )
)
_ESTABLISH = (
    update(attachments)
    .where(attachments.c.id == bindparam("of_id"))
    .values(established=True, attached_at=bindparam("new_at"), reason=bindparam("new_reason"))
)
_UNSETTLE = update(attachments).where(attachments.c.id == bindparam("of_id")).values(attached_at=None)
_CLOSE = update(attachments).where(attachments.c.id == bindparam("of_id"))
_CLOSE = _CLOSE.values(closed_at=bindparam("new_at"), live=None)
_CLAIM_OF = select(attachments.c.claim_id).where(attachments.c.id == bindparam("of_attachment")).scalar_subquery()
#: Whoever else hangs on the claim keeps it.
_RELEASE = update(claims).where(
    claims.c.id == _CLAIM_OF,
    ~exists().where(attachments.c.claim_id == _CLAIM_OF, attachments.c.live == LIVE),
)
_RELEASE = _RELEASE.values(released_at=bindparam("new_at"), live=None)
_ERROR = (
    update(paths)
    .where(paths.c.id == bindparam("of_id"), paths.c.revision == bindparam("was_revision"))
    .values(last_error=bindparam("new_error"))
)


class NewAttachment(msgspec.Struct, frozen=True, kw_only=True):
    """What `open_attachment` writes, checked by the caller in the same transaction."""

    attachment_id: str
    claim_id: str
    path_id: str
    server_id: str
    host: str
    device: str
    unit: int
    tag: str | None
    delete_on_termination: bool
    deadline_at: int
    #: The server is made with it: no failure gives it away, and its own action is the server's.
    given_at_boot: bool = False
    #: The server has no host: the volume is claimed for it, and gets its path when the server runs again. Until then
    #: there is nothing to wait for, and as in Nova it is in use at once.
    parked: bool = False
    boot_index: int | None = None
    #: It waits for the place of another attachment, whose device and unit it names.
    aside: bool = False


def open_attachment(
    tx: Tx, new: NewAttachment, volume: Volume, *, actor: Actor, at: int, seal_export: SealExport | None
) -> Attachment:
    """Claim the volume and set the goal "attached"; with `seal_export`, pass the effect-free export as well.

    Raises IntegrityError when somebody else holds the volume (index one_holder); callers look before.
    """
    insert_claim(tx, new.claim_id, volume, new.server_id, at)
    attachment = Attachment(
        id=new.attachment_id,
        volume_id=volume.id,
        server_id=new.server_id,
        project_id=volume.project_id,
        goal=Goal.ATTACHED,
        goal_revision=1,
        goal_request_id=actor.request_id,
        goal_by="user",
        goal_at=at,
        deadline_at=new.deadline_at,
        established=new.given_at_boot or new.parked,
        device=new.device,
        unit=new.unit,
        tag=new.tag,
        delete_on_termination=new.delete_on_termination,
        boot_index=new.boot_index,
        reason=None,
        created_at=at,
        attached_at=at if new.parked else None,
        closed_at=None,
        aside=new.aside,
    )
    detail: dict[str, Any] = {"device": new.device}
    if new.aside:
        detail["aside"] = True
    if new.given_at_boot:
        detail |= {"established": True, "boot_index": new.boot_index}
    elif new.parked:
        detail |= {"established": True}
    insert_attachment(tx, attachment, new.claim_id, actor=actor, detail=detail)
    if not new.parked:
        open_path(tx, attachment, volume, new.path_id, new.host, actor=actor, at=at, seal_export=seal_export)
    if not new.given_at_boot and not new.aside:
        server_id, subject_id = new.server_id, new.attachment_id
        start_action(tx, server_id=server_id, subject_id=subject_id, action="attach_volume", actor=actor, at=at)
        if new.parked:
            finish_action(tx, subject_id=subject_id, action="attach_volume", at=at)
    return attachment


def open_path(
    tx: Tx,
    attachment: Attachment,
    volume: Volume,
    path_id: str,
    host: str,
    *,
    actor: Actor,
    at: int,
    seal_export: SealExport | None,
) -> None:
    """Let the attachment have its volume on that host; with `seal_export`, pass the effect-free export as well."""
    path = Path(
        id=path_id,
        attachment_id=attachment.id,
        volume_id=volume.id,
        server_id=attachment.server_id,
        host=host,
        generation=draw_generation(tx, volume.id),
        rung=Rung.RESERVED,
        hands=Hands.CONTROL,
        revision=1,
        connection_info=None,
        plugged_bytes=None,
        last_error=None,
        changed_at=at,
    )
    if seal_export is not None:
        info = seal_export(volume, path)
        path = msgspec.structs.replace(path, rung=Rung.EXPORTED, hands=Hands.HOST, connection_info=info)
    insert_path(tx, path, actor=name_user(actor), request_id=actor.request_id)


def set_goal(
    tx: Tx,
    attachment: Attachment,
    goal: Goal,
    *,
    by: str,
    request_id: str,
    actor: str,
    at: int,
    deadline_at: int,
    reason: Reason | None,
) -> None:
    """Turn the attachment round, by compare-and-set on the goal's revision; whoever holds its paths is woken.

    One that is detached ends the swap that it is in. Raises Conflict where a user's detach comes too late for that.
    """
    if goal is Goal.DETACHED:
        _leave_swap(tx, attachment, by=by, request_id=request_id, actor=actor, at=at, deadline_at=deadline_at)
    values = {
        "of_id": attachment.id,
        "was_revision": attachment.goal_revision,
        "new_goal": goal,
        "new_request_id": request_id,
        "new_by": by,
        "new_at": at,
        "new_deadline_at": deadline_at,
        "new_reason": reason,
    }
    if tx.execute(_SET_GOAL, values).rowcount != 1:
        raise StaleWrite
    moved = msgspec.structs.replace(
        attachment, goal=goal, goal_revision=attachment.goal_revision + 1, goal_request_id=request_id
    )
    detail: dict[str, Any] = {"by": by}
    if reason is not None:
        detail["reason"] = reason.code
    append(tx, goal_entry(moved, attachment.goal.value, actor=actor, at=at, detail=detail))
    for path in live_paths(tx, attachment.id):
        stamp_path(tx, path)


def _leave_swap(
    tx: Tx, attachment: Attachment, *, by: str, request_id: str, actor: str, at: int, deadline_at: int
) -> None:
    """The guest keeps the volume that it has, and the other one is let go of."""
    swap = running_swap(tx, attachment.id)
    if swap is None:
        return
    if by == "user" and swap.state is SwapState.PIVOTING:
        raise Conflict(
            f"Cannot 'detach_volume' instance {swap.server_id} while volume {swap.new_volume_id} is just taking the "
            f"place of {swap.old_volume_id}; try again."
        )
    if by == "user":
        change_swap(tx, swap, SwapState.CANCELLED, at=at)
    else:
        message = "The server was deleted meanwhile." if by == "server" else "The new volume was given up."
        reason = attachment.reason or Reason(code=GIVEN_UP, message=message, at=at)
        change_swap(tx, swap, SwapState.FAILED, at=at, reason=reason)
    aside = load_attachment(tx, swap.aside_id)
    if attachment.id == swap.aside_id or by == "server" or aside is None or aside.goal is Goal.DETACHED:
        return  # a server's deletion sets the goals of all
    set_goal(
        tx,
        aside,
        Goal.DETACHED,
        by=by,
        request_id=request_id,
        actor=actor,
        at=at,
        deadline_at=deadline_at,
        reason=None,
    )


def ask_detach(tx: Tx, attachment: Attachment, *, actor: Actor, at: int, deadline_at: int) -> None:
    """A user's detach: in the middle of an attach it only changes the goal."""
    if attachment.server_id is None:
        raise AssertionError("a managed attachment has a server")
    if not attachment.aside:  # that one's action is the swap's
        why = "The volume was detached again before the attach was complete."
        finish_action(tx, subject_id=attachment.id, action="attach_volume", at=at, error=why)
        server_id, subject_id = attachment.server_id, attachment.id
        start_action(tx, server_id=server_id, subject_id=subject_id, action="detach_volume", actor=actor, at=at)
    set_goal(
        tx,
        attachment,
        Goal.DETACHED,
        by="user",
        request_id=actor.request_id,
        actor=name_user(actor),
        at=at,
        deadline_at=deadline_at,
        reason=None,
    )
    close_if_pathless(tx, attachment.id, at)


def close_if_pathless(tx: Tx, attachment_id: str, at: int) -> None:
    """Close an attachment that is to be detached, if there is no path whose release would do it: nothing is left."""
    attachment = load_attachment(tx, attachment_id)
    if attachment is None or attachment.goal is not Goal.DETACHED or live_paths(tx, attachment_id):
        return
    if attachment.closed_at is None:
        close_attachment(tx, attachment, at)


def set_delete_on_termination(tx: Tx, attachment_id: str, value: bool) -> None:
    """Decide whether the volume goes with its server."""
    tx.execute(update(attachments).where(attachments.c.id == attachment_id).values(delete_on_termination=value))


def move_path(
    tx: Tx,
    path: Path,
    *,
    rung: Rung,
    hands: Hands,
    actor: str,
    at: int,
    connection_info: bytes | None = None,
    plugged_bytes: int | None = None,
    took_us: int | None = None,
) -> None:
    """Record where the path stands now and who holds it, and what follows from it.

    `connection_info` replaces the stored one when given; it is forgotten when the export is. Raises StaleWrite when the
    path has moved since it was read.
    """
    attachment = load_attachment(tx, path.attachment_id)
    if attachment is None:
        raise AssertionError(f"path {path.id} has no attachment")
    values = {
        "of_id": path.id,
        "was_revision": path.revision,
        "new_rung": rung,
        "new_hands": hands,
        "new_info": (connection_info or path.connection_info) if rung >= Rung.EXPORTED else None,
        "new_plugged_bytes": plugged_bytes if rung is Rung.PLUGGED else None,
        "new_at": at,
        "new_live": None if rung is Rung.RELEASED else 1,
        "new_host_version": 0 if path.server_id is None else raise_version(tx, path.host),
    }
    if tx.execute(_MOVE_PATH, values).rowcount != 1:
        raise StaleWrite
    moved = msgspec.structs.replace(path, revision=path.revision + 1, hands=hands, plugged_bytes=plugged_bytes)
    request_id = attachment.goal_request_id
    if rung is path.rung:
        what, before, after = "hands", path.hands.value, hands.value
        if hands is path.hands:
            what, before, after = "size", str(path.plugged_bytes), str(plugged_bytes)
        journal_path(tx, moved, what, before, after, actor=actor, request_id=request_id, at=at, took_us=took_us)
    else:
        journal_rungs(tx, moved, path.rung, rung, actor=actor, request_id=request_id, at=at, took_us=took_us)
    at_rest = attachment.is_external and rung is Rung.EXPORTED and not path.dropped
    if hands is Hands.CONTROL and rung is not Rung.RELEASED and not at_rest:
        tx.wake("path", path.id)
    if path.rung is Rung.PLUGGED and rung is not Rung.PLUGGED:
        gone = "The disk left the guest before the guest had seen the new size."
        finish_action(tx, subject_id=path.id, action="extend_volume", at=at, error=gone)
    if rung is Rung.PLUGGED:
        _settle_plugged(tx, attachment, at)
    elif rung is Rung.EXPORTED and attachment.is_external and attachment.goal is Goal.ATTACHED:
        tx.execute(_ESTABLISH, {"of_id": attachment.id, "new_at": at, "new_reason": None})
    elif rung is Rung.RELEASED and attachment.goal is Goal.DETACHED:
        close_attachment(tx, attachment, at)
    elif rung is Rung.RELEASED and attachment.server_id is not None:
        _leave_with_server(tx, attachment, attachment.server_id, at)


def _settle_plugged(tx: Tx, attachment: Attachment, at: int) -> None:
    """The guest has the disk: from now on no failure gives it away, unless its own rollback is under way already."""
    if attachment.attached_at is None and attachment.goal_by != "rollback":
        reason = attachment.reason if attachment.goal is Goal.DETACHED else None
        tx.execute(_ESTABLISH, {"of_id": attachment.id, "new_at": at, "new_reason": reason})
    if attachment.goal is Goal.ATTACHED:
        finish_action(tx, subject_id=attachment.id, action="attach_volume", at=at)


def close_attachment(tx: Tx, attachment: Attachment, at: int) -> None:
    """Nothing is left: the attachment closes, its claim goes with the last that hangs on it, and who waited is told."""
    tx.execute(_CLOSE, {"of_id": attachment.id, "new_at": at})
    tx.execute(_RELEASE, {"of_attachment": attachment.id, "new_at": at})
    tx.wake("attachment", attachment.id)
    finish_action(tx, subject_id=attachment.id, action="detach_volume", at=at)
    if attachment.server_id is None:
        return
    server = load_server(tx, attachment.server_id)
    if server is not None and server.goal is ServerGoal.DELETED:
        volume = load_volume(tx, attachment.volume_id)
        if attachment.delete_on_termination and volume is not None and _may_go(tx, volume):
            begin_delete(tx, volume, request_id=attachment.goal_request_id, at=at)
        close_server_if_left(tx, server, at)


def _leave_with_server(tx: Tx, attachment: Attachment, server_id: str, at: int) -> None:
    """A path is released whose volume stays the server's: the server has no host soon, and the volume is reserved."""
    server = load_server(tx, server_id)
    if server is None or server.goal is not ServerGoal.OFFLOADED:
        raise AssertionError(f"server {server_id} is to have its volumes, and one of its paths was released")
    tx.execute(_UNSETTLE, {"of_id": attachment.id})
    leave_host_if_left(tx, server, at)


def _may_go(tx: Tx, volume: Volume) -> bool:
    """Can the volume go with its server? Else it stays, as if a user's request to delete it had been refused."""
    if volume.deleted_at is not None or open_of_volume(tx, volume.id):
        return False  # a shared volume goes with the last of its servers
    return volume.group_id is None and not live_snapshots(tx, volume.id) and not is_frozen(tx, volume.backend)


def note_error(
    tx: Tx,
    path: Path,
    attachment: Attachment,
    reason: Reason,
    *,
    final: bool,
    goal_revision: int,
    actor: str,
    at: int,
) -> None:
    """Keep why the path's last step failed, and for which request; it stands where it stood."""
    tx.execute(_ERROR, {"of_id": path.id, "was_revision": path.revision, "new_error": reason})
    detail = {"code": reason.code, "final": final, "goal_revision": goal_revision}
    rung = path.rung.name.lower()
    request_id = attachment.goal_request_id
    journal_path(tx, path, "error", rung, rung, actor=actor, request_id=request_id, at=at, detail=detail)


def keep_waiting(tx: Tx, attachment: Attachment, reason: Reason, *, at: int) -> None:
    """Say why the goal is not reached, end the user's waiting, and leave the goal as it is.

    Raises StaleWrite when the goal has changed since: the reason would be another request's.
    """
    attaching = attachment.goal is Goal.ATTACHED
    action = "attach_volume" if attaching else "detach_volume"
    finish_action(tx, subject_id=attachment.id, action=action, at=at, error=reason.message)
    add_message(
        tx,
        cause=f"{attachment.id}/{attachment.goal_revision}/{reason.code}",
        project_id=attachment.project_id,
        request_id=attachment.goal_request_id,
        resource_id=attachment.volume_id,
        action=MessageAction.ATTACH_VOLUME if attaching else MessageAction.UPDATE_ATTACHMENT,
        detail=Detail.ATTACH_ERROR if attaching else Detail.DETACH_ERROR,
        text=reason.message,
        at=at,
    )
    values = {"of_id": attachment.id, "was_revision": attachment.goal_revision, "new_reason": reason}
    if tx.execute(_SET_REASON, values).rowcount != 1:
        raise StaleWrite


def give_up(
    tx: Tx,
    attachment: Attachment,
    reason: Reason,
    *,
    at: int,
    actor: str,
    deadline_at: int,
    with_server: bool = True,
) -> None:
    """The request behind the goal has failed for good: close its action, and turn round where that is safe.

    A server that is not started without the volume fails with it, unless `with_server` is False. A new attachment rolls
    back. An established one keeps its goal, and a user's detach that the guest refused ends with the goal "attached"
    again. A rollback or a server's delete that is refused stays as it is and waits. So one request causes at most one
    automatic flip.
    """
    keep_waiting(tx, attachment, reason, at=at)
    attached = attachment.goal is Goal.ATTACHED
    if with_server and attached:
        _fail_start(tx, attachment, reason, actor=actor, at=at)
    if attachment.goal_by != "user" or attachment.established is attached or _is_pivoting(tx, attachment):
        return
    # The goals of a server's attachments are set by its deletion, and stay.
    assert attached or _server_is_wanted(tx, attachment), "a deleted server's attachments are detached by the server"
    goal, by = (Goal.DETACHED, "rollback") if attached else (Goal.ATTACHED, "refusal")
    set_goal(
        tx,
        attachment,
        goal,
        by=by,
        request_id=attachment.goal_request_id,
        actor=actor,
        at=at,
        deadline_at=deadline_at,
        reason=reason,
    )


def _is_pivoting(tx: Tx, attachment: Attachment) -> bool:
    """Is only the attachment's host to say which volume the guest has?"""
    swap = running_swap(tx, attachment.id) if attachment.aside else None
    return swap is not None and swap.state is SwapState.PIVOTING


def _fail_start(tx: Tx, attachment: Attachment, reason: Reason, *, actor: str, at: int) -> None:
    """Fail the server, if it is not started without the volume and does not have it."""
    paths = live_paths(tx, attachment.id)
    if attachment.server_id is None or is_complete(attachment, paths):
        return
    on_host = any(path.hands is Hands.HOST for path in paths)
    why = msgspec.structs.replace(reason, message=f"Volume {attachment.volume_id}: {reason.message}")
    fail_start(tx, attachment.server_id, attachment.boot_index, why, on_host=on_host, actor=actor, at=at)


def _server_is_wanted(tx: Tx, attachment: Attachment) -> bool:
    server = None if attachment.server_id is None else load_server(tx, attachment.server_id)
    return server is None or server.goal is not ServerGoal.DELETED
