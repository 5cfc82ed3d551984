"""The moves of servers: the only writers of their goals, rungs and boots."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import bindparam, func, select, update

from kevel.domain.assignments import ServerReport
from kevel.domain.errors import StaleWrite
from kevel.domain.ladder import Goal
from kevel.domain.model import Actor, BootKind, Reason, Server, ServerExtras, ServerGoal, ServerRung, Subject
from kevel.domain.placement import is_boot_disk
from kevel.domain.server_life import LEAVES_HOST, NEEDS_GUEST, STAYING
from kevel.domain.status import RESET_BY_ADMIN, task_state
from kevel.store.actions import finish_action, start_action
from kevel.store.attachments import paths_of_server
from kevel.store.hosts import current_epoch, raise_version
from kevel.store.images import discard_image
from kevel.store.journal import Entry, append
from kevel.store.path_rows import stamp_path
from kevel.store.schema.attachments import attachments, paths
from kevel.store.schema.base import LIVE
from kevel.store.schema.servers import servers
from kevel.store.schema.volumes import volumes
from kevel.store.servers import load_server
from kevel.store.transactions import Tx

_LIVE_PATHS = (
    select(func.count()).select_from(paths).where(paths.c.server_id == bindparam("of_id"), paths.c.live == LIVE)
)

#: A volume that a server is made with, and that could not be made.
_UNMADE = (
    select(volumes.c.id, volumes.c.fault)
    .join(attachments, attachments.c.volume_id == volumes.c.id)
    .where(attachments.c.server_id == bindparam("of_id"), attachments.c.live == LIVE)
    .where(attachments.c.goal == Goal.ATTACHED, volumes.c.made.is_(False), volumes.c.fault.is_not(None))
    .order_by(attachments.c.unit)
    .limit(1)
)

#: Everything that is asked of a server and takes a host's doing.
_RESHAPING = ("rescue", "unrescue", "rebuild", "resize", "revertResize")
_SHELVING = ("shelve", "shelveOffload", "unshelve")
_LIVING = ("create", "start", "stop", "reboot", "pause", "unpause", "suspend", "resume", "delete")
_ACTIONS = (*_LIVING, *_RESHAPING, *_SHELVING)
_WRITE = update(servers).where(servers.c.id == bindparam("of_id"), servers.c.revision == bindparam("of_revision"))
#: Actions that are done once a server without a running guest is what is wanted of it.
_REACHED = {
    ServerGoal.STOPPED: ("stop", *_RESHAPING),
    ServerGoal.PAUSED: ("pause",),
    ServerGoal.SUSPENDED: ("suspend",),
}


def _write(tx: Tx, server: Server, **values: Any) -> Server:
    """Change the row by compare-and-set; every change concerns its host, the new one if it is that which changes."""
    values["revision"] = server.revision + 1
    version = raise_version(tx, values.get("host", server.host))
    keys = {"of_id": server.id, "of_revision": server.revision, "host_version": version}
    written = tx.execute(_WRITE, values | keys)
    if written.rowcount != 1:
        raise StaleWrite
    return msgspec.structs.replace(server, **values)


def _journal(tx: Tx, server: Server, what: str, before: str, after: str, *, actor: str, at: int, **more: Any) -> None:
    append(
        tx,
        Entry(
            at=at,
            subject="server",
            subject_id=server.id,
            server_id=server.id,
            what=what,
            before=before,
            after=after,
            revision=server.revision,
            actor=actor,
            request_id=server.goal_request_id,
            **more,
        ),
    )


def change_goal(
    tx: Tx, server: Server, goal: ServerGoal, *, actor: str, request_id: str, at: int, deadline_at: int, **more: Any
) -> Server:
    """Set what is wanted of the server from now on. A task lasts for one goal.

    A guest that is not started without a volume which could not be made fails at once: nobody will make it.
    """
    before = server.goal.value
    extras = more["extras"] if "extras" in more else msgspec.structs.replace(server.extras, task=None)
    more["extras"] = msgspec.structs.replace(extras, doomed=None)
    server = _write(
        tx,
        server,
        goal=goal,
        goal_revision=server.goal_revision + 1,
        goal_request_id=request_id,
        deadline_at=deadline_at,
        updated_at=at,
        **more,
    )
    _journal(tx, server, "goal", before, goal.value, actor=actor, at=at)
    if goal is ServerGoal.RUNNING and server.launched_at is None:
        row = tx.execute(_UNMADE, {"of_id": server.id}).first()
        if row is not None:
            why = msgspec.structs.replace(row.fault, message=say_unmade(row.id, row.fault), at=at)
            server = _give_up(tx, server, why, actor=actor, at=at)
    if goal is ServerGoal.OFFLOADED:
        # Their targets have changed with it, and whoever holds them has to hear that.
        for path in paths_of_server(tx, server.id):
            stamp_path(tx, path)
    return server


def ask_goal(
    tx: Tx, server: Server, goal: ServerGoal, action: str, *, actor: Actor, at: int, deadline_at: int, **more: Any
) -> Server:
    """Set what is wanted of the server, by an action of that name."""
    supersede_actions(tx, server, at)
    start_action(tx, server_id=server.id, subject_id=server.id, action=action, actor=actor, at=at)
    user, request_id = f"user:{actor.user_id}", actor.request_id
    return change_goal(
        tx, server, goal, actor=user, request_id=request_id, at=at, deadline_at=deadline_at, fault=None, **more
    )


def want_shape(
    tx: Tx,
    server: Server,
    action: str,
    task: str,
    *,
    goal: ServerGoal,
    extras: ServerExtras,
    actor: Actor,
    at: int,
    deadline_at: int,
    **more: Any,
) -> Server:
    """Have the server's domain made anew, and whatever else changes with it; then it goes on towards the goal."""
    before = server.extras.before if server.is_reshaping else server.made_of
    supersede_actions(tx, server, at)
    start_action(tx, server_id=server.id, subject_id=server.id, action=action, actor=actor, at=at)
    return change_goal(
        tx,
        server,
        goal,
        actor=f"user:{actor.user_id}",
        request_id=actor.request_id,
        at=at,
        deadline_at=deadline_at,
        wanted_shape=server.wanted_shape + 1,
        extras=msgspec.structs.replace(extras, task=task, before=before),
        fault=None,
        **more,
    )


def confirm_resize(tx: Tx, server: Server, *, actor: Actor, at: int) -> Server:
    """The new flavor stays; it concerns no host."""
    start_action(tx, server_id=server.id, subject_id=server.id, action="confirmResize", actor=actor, at=at)
    finish_action(tx, subject_id=server.id, action="confirmResize", at=at)
    return _write(tx, server, extras=msgspec.structs.replace(server.extras, old_flavor=None), updated_at=at)


def _keep_shape(server: Server) -> dict[str, Any]:
    """What a server is wanted to be whose request is given up: whatever it was, or has become so far."""
    kept: dict[str, Any] = {"wanted_boot": server.boot, "wanted_shape": server.shape}
    before = server.extras.before if server.is_reshaping else None
    shelf = server.extras.shelf
    if shelf is not None and not shelf.kept:
        shelf = None  # whoever keeps its root disk finds this, and gives up
    extras = msgspec.structs.replace(server.extras, task=None, shelf=shelf)
    if before is None:
        return kept | {"extras": extras}
    extras = msgspec.structs.replace(
        extras,
        before=None,
        root_number=before.root_number,
        rescue=before.rescue,
        old_flavor=before.old_flavor,
    )
    return kept | {"extras": extras, "flavor": before.flavor, "image": before.image}


def want_boot(tx: Tx, server: Server, kind: BootKind, *, actor: Actor, at: int, deadline_at: int) -> Server:
    """Ask for one more boot; a hard one also starts a server that failed or does not run."""
    supersede_actions(tx, server, at)
    start_action(tx, server_id=server.id, subject_id=server.id, action="reboot", actor=actor, at=at)
    return change_goal(
        tx,
        server,
        ServerGoal.RUNNING,
        actor=f"user:{actor.user_id}",
        request_id=actor.request_id,
        at=at,
        deadline_at=deadline_at,
        wanted_boot=server.wanted_boot + 1,
        boot_kind=kind,
        fault=None,
    )


def close_server_if_left(tx: Tx, server: Server, at: int) -> None:
    """Make a deleted server a tombstone once nothing of it is on its host and no path is left."""
    if server.goal is not ServerGoal.DELETED or server.terminated_at is None:
        return
    if tx.execute(_LIVE_PATHS, {"of_id": server.id}).scalar_one():
        return
    before = server.rung.name.lower()
    server = _write(tx, server, rung=ServerRung.GONE, deleted_at=at, updated_at=at)
    _journal(tx, server, "rung", before, "gone", actor="control", at=at)
    finish_action(tx, subject_id=server.id, action="delete", at=at)


def keep_shelved(tx: Tx, server: Server, *, actor: str, at: int) -> Server:
    """What was on the root disk is kept: from now on the server is shelved, and leaves its host if it is to."""
    shelf = server.extras.shelf
    if shelf is None or server.goal is not ServerGoal.SHELVED:
        raise AssertionError(f"server {server.id} is not being shelved")
    extras = msgspec.structs.replace(server.extras, shelf=msgspec.structs.replace(shelf, kept=True))
    if not shelf.offloads:
        finish_action(tx, subject_id=server.id, action="shelve", at=at)
        return _write(tx, server, extras=extras, updated_at=at)
    request_id, deadline_at = server.goal_request_id, server.deadline_at
    return change_goal(
        tx,
        server,
        ServerGoal.OFFLOADED,
        actor=actor,
        request_id=request_id,
        at=at,
        deadline_at=deadline_at,
        extras=extras,
    )


def leave_host_if_left(tx: Tx, server: Server, at: int) -> None:
    """A shelved server has no host from now on, once nothing of it is on the old one and no path is left."""
    shelf = server.extras.shelf
    if server.goal is not ServerGoal.OFFLOADED or server.rung is not ServerRung.PLACED:
        return
    if shelf is None or not shelf.left or tx.execute(_LIVE_PATHS, {"of_id": server.id}).scalar_one():
        return
    server = _write(tx, server, rung=ServerRung.OFFLOADED, updated_at=at)
    _journal(tx, server, "rung", "placed", "offloaded", actor="control", at=at)
    for action in ("shelve", "shelveOffload"):
        finish_action(tx, subject_id=server.id, action=action, at=at)


def fail_shelving(tx: Tx, server: Server, reason: Reason, *, actor: str, at: int) -> None:
    """The root disk could not be kept: the server stays where it is, shows why, and does not run."""
    _give_up(tx, server, reason, actor=actor, at=at)


def begin_imaging(tx: Tx, server: Server, image_id: str, *, actor: Actor, at: int) -> None:
    """An image is made of the server's root disk from now on; nothing else is done with it meanwhile."""
    start_action(tx, server_id=server.id, subject_id=image_id, action="createImage", actor=actor, at=at)
    _write(tx, server, extras=msgspec.structs.replace(server.extras, imaging=image_id), updated_at=at)


def end_imaging(tx: Tx, server: Server, *, at: int, error: str | None = None) -> None:
    """The image is made, or will not be."""
    finish_action(tx, subject_id=server.extras.imaging or "", action="createImage", at=at, error=error)
    _write(tx, server, extras=msgspec.structs.replace(server.extras, imaging=None), updated_at=at)


def _note_left(tx: Tx, server: Server, at: int) -> None:
    """Only the agent can say that nothing of a server is on its host, and it has just said so.

    Paths that never reached the host may be released before or after.
    """
    if server.goal is ServerGoal.DELETED:
        if server.terminated_at is None:
            server = _write(tx, server, terminated_at=at)
        close_server_if_left(tx, server, at)
        return
    shelf = server.extras.shelf
    if shelf is not None and not shelf.left:
        extras = msgspec.structs.replace(server.extras, shelf=msgspec.structs.replace(shelf, left=True))
        server = _write(tx, server, extras=extras)
    leave_host_if_left(tx, server, at)


def apply_server_report(tx: Tx, host: str, epoch: int, report: ServerReport, at: int) -> bool:
    """What a host's agent saw of one server. False: outdated, and nothing was changed (S6, S11)."""
    server = load_server(tx, report.server_id)
    if server is None or server.host != host or current_epoch(tx, host) != epoch:
        return False
    if server.revision != report.revision or server.deleted_at is not None:
        return False
    actor = f"host:{host}"
    if (server.rung, server.boot, server.shape) != (report.rung, report.boot, report.shape or server.shape):
        server = _move(tx, server, report, actor=actor, at=at)
    if report.goal_revision == server.goal_revision:
        if report.failure is None and server.goal in LEAVES_HOST and server.rung is ServerRung.PLACED:
            _note_left(tx, server, at)
        if report.ended is not None and server.goal in NEEDS_GUEST:
            _follow_guest(tx, server, report.ended, actor=actor, at=at)
        elif report.failure is not None:
            _note_failure(tx, server, report, actor=actor, at=at)
    return True


def _move(tx: Tx, server: Server, report: ServerReport, *, actor: str, at: int) -> Server:
    before = server.rung
    values: dict[str, Any] = {"rung": report.rung, "boot": report.boot, "updated_at": at}
    if report.rung is ServerRung.RUNNING:
        if server.fault is not None and server.fault.code != RESET_BY_ADMIN:
            values["fault"] = None
        values["launched_at"] = server.launched_at or at
    extras = server.extras
    if report.shape is not None:
        values["shape"] = report.shape
        extras = msgspec.structs.replace(extras, rescued=extras.rescue is not None, before=None)
    if report.rung is ServerRung.RUNNING and extras.shelf is not None and server.goal is ServerGoal.RUNNING:
        if extras.shelf.root is not None:
            discard_image(tx, extras.shelf.root.image_id, request_id=server.goal_request_id, at=at)
        extras = msgspec.structs.replace(extras, shelf=None)
    moved = _write(tx, server, **values, extras=extras)
    if before is not report.rung:
        _journal(
            tx, moved, "rung", before.name.lower(), report.rung.name.lower(), actor=actor, at=at, took_us=report.took_us
        )
    if report.boot > server.boot:
        _journal(tx, moved, "boot", str(server.boot), str(report.boot), actor=actor, at=at, took_us=report.took_us)
    _finish_reached(tx, moved, at)
    shelf = moved.extras.shelf
    if moved.goal is ServerGoal.SHELVED and moved.rung is ServerRung.DEFINED and shelf is not None and not shelf.kept:
        if shelf.root is None:
            return keep_shelved(tx, moved, actor=actor, at=at)
        tx.wake(Subject.IMAGE.value, shelf.root.image_id)
    return moved


def _finish_reached(tx: Tx, server: Server, at: int) -> None:
    if server.is_reshaping:
        return
    names: tuple[str, ...] = ()
    if server.rung is ServerRung.RUNNING:
        names = ("create", "start", "unpause", "resume", "unshelve", *_RESHAPING)
        names += ("reboot",) if server.boot >= server.wanted_boot else ()
    elif STAYING[server.rung] is server.goal:
        names = _REACHED.get(server.goal, ())
    for name in names:
        finish_action(tx, subject_id=server.id, action=name, at=at)


def _follow_guest(tx: Tx, server: Server, why: Reason, *, actor: str, at: int) -> None:
    """The guest ended by itself: like Nova, take that for the wish to have it stopped, and keep the reason."""
    _fail_open_actions(tx, server, why.message, at)
    change_goal(
        tx,
        server,
        ServerGoal.STOPPED,
        actor=actor,
        request_id=server.goal_request_id,
        at=at,
        deadline_at=at,
        wanted_boot=server.boot,
    )


def _note_failure(tx: Tx, server: Server, report: ServerReport, *, actor: str, at: int) -> None:
    failure = report.failure
    if failure is not None and failure.final:
        _give_up(tx, server, failure.reason, actor=actor, at=at)


def say_unmade(volume_id: str, fault: Reason) -> str:
    """Why a server fails that is to be made with that volume."""
    return f"Volume {volume_id}: it could not be made: {fault.message}"


def _give_up(tx: Tx, server: Server, reason: Reason, *, actor: str, at: int) -> Server:
    """A final failure ends the request: the server keeps what it has, shows the fault, and waits to be asked again."""
    # An image that is made of the server has an end of its own.
    if task_state(msgspec.structs.replace(server, extras=msgspec.structs.replace(server.extras, imaging=None))) is None:
        return server  # while nothing is under way, only a look at what stands has failed
    _fail_open_actions(tx, server, reason.message, at)
    if server.goal in LEAVES_HOST:
        return server
    return change_goal(
        tx,
        server,
        STAYING[server.rung],
        actor=actor,
        request_id=server.goal_request_id,
        at=at,
        deadline_at=at,
        fault=reason,
        **_keep_shape(server),
    )


def fail_start(
    tx: Tx, server_id: str, boot_index: int | None, reason: Reason, *, on_host: bool, actor: str, at: int
) -> None:
    """A volume has failed for good: a server that is not started without it fails, and can be asked to start again.

    Where the host may have started its guest already, and the report is on its way or lost, it fails by its host (S13).
    """
    server = load_server(tx, server_id)
    if server is None or server.goal is not ServerGoal.RUNNING or server.rung > ServerRung.DEFINED:
        return
    launched, shelved = server.launched_at is not None, server.extras.shelf is not None
    if not is_boot_disk(boot_index, launched=launched, shelved=shelved):
        return
    if server.rung < ServerRung.DEFINED or not on_host:
        _give_up(tx, server, reason, actor=actor, at=at)
    elif server.extras.doomed is None:
        _write(tx, server, extras=msgspec.structs.replace(server.extras, doomed=reason), updated_at=at)


def fail_rebuild(tx: Tx, server_id: str, request_id: str, reason: Reason, *, actor: str, at: int) -> None:
    """The image has not come into the server's root volume: its rebuild fails, if that still is what is asked of it."""
    server = load_server(tx, server_id)
    if server is not None and server.goal_request_id == request_id and server.is_reshaping:
        _give_up(tx, server, reason, actor=actor, at=at)


def expire_server(tx: Tx, server: Server, reason: Reason, *, actor: str, at: int) -> None:
    """End the request that a silent host has not answered within its deadline; a delete is still pursued.

    What the host has done of it shows when it answers again. Raises StaleWrite when the row has moved since.
    """
    known = load_server(tx, server.id)
    if known is None or known.revision != server.revision:
        raise StaleWrite
    _fail_open_actions(tx, server, reason.message, at)  # whatever the server is shown to be in the middle of
    _give_up(tx, server, reason, actor=actor, at=at)


def reset_server(tx: Tx, server: Server, fault: Reason | None, *, actor: Actor, at: int, deadline_at: int) -> Server:
    """Give up what is under way, except a deletion and what shelves a server, and set or take away the fault.

    A server that never ran is built after all, unless it has a fault now.
    """
    shelf = server.extras.shelf
    if server.goal in LEAVES_HOST or (server.goal is ServerGoal.SHELVED and shelf is not None and shelf.kept):
        return _write(tx, server, fault=fault, updated_at=at)
    _fail_open_actions(tx, server, "An admin has reset the server's state.", at)
    goal = STAYING[server.rung]
    if server.launched_at is None:
        goal = ServerGoal.RUNNING if fault is None else ServerGoal.STOPPED
    return change_goal(
        tx,
        server,
        goal,
        actor=f"user:{actor.user_id}",
        request_id=actor.request_id,
        at=at,
        deadline_at=deadline_at,
        fault=fault,
        **_keep_shape(server),
    )


def supersede_actions(tx: Tx, server: Server, at: int) -> None:
    """A new request takes the place of those that are not done: nobody will finish them."""
    _fail_open_actions(tx, server, "Another request took its place before it was done.", at)


def _fail_open_actions(tx: Tx, server: Server, message: str, at: int) -> None:
    for name in _ACTIONS:
        finish_action(tx, subject_id=server.id, action=name, at=at, error=message)
