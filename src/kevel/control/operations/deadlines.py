"""Ends requests whose host has stayed silent beyond their deadline (L1). What the host holds stays as it is."""

from __future__ import annotations

from typing import Final

from kevel.control.runtime import Runtime
from kevel.domain.errors import StaleWrite
from kevel.domain.ladder import Goal
from kevel.domain.limits import Limits
from kevel.domain.model import Attachment, Reason, Server, ServerGoal
from kevel.store.actions import finish_action, overdue_growths
from kevel.store.attachments import expired, load_attachment
from kevel.store.external_moves import give_up_export
from kevel.store.path_moves import give_up, keep_waiting
from kevel.store.server_rows import expire_server
from kevel.store.servers import overdue_servers
from kevel.store.transactions import Tx

#: A host gets this long beyond a deadline to report it itself.
GRACE_S: Final = 15.0
#: Rows of each kind looked at in one pass.
EXPIRED_MAX: Final = 200
ACTOR: Final = "control"
CODE: Final = "host_silent"
_STILL: Final = {
    ServerGoal.DELETED: "; the server is still deleted when it answers.",
    ServerGoal.OFFLOADED: "; the server still leaves it when it answers.",
}
STORAGE_CODE: Final = "storage_silent"


class Deadlines:
    """Looks at deadlines that have passed, once for each call of `watch`."""

    def __init__(self, runtime: Runtime, limits: Limits) -> None:
        self._runtime = runtime
        self._limits = limits

    async def watch(self) -> None:
        """End what nobody has answered in time; the reason says what is still pursued."""
        store, at = self._runtime.store, self._runtime.clock.now_us()
        before = at - int(GRACE_S * 1e6)
        for attachment in await store.read(expired, before, EXPIRED_MAX):
            await store.write(_expire, attachment.id, attachment.goal_revision, at, self._limits)
        for server in await store.read(overdue_servers, before, EXPIRED_MAX):
            await self._expire_server(server, at)
        begun_before = before - int(self._limits.server_timeout_s * 1e6)
        for path_id in await store.read(overdue_growths, begun_before, EXPIRED_MAX):
            await store.write(_expire_growth, path_id, at)

    async def _expire_server(self, server: Server, at: int) -> None:
        message = "The server's host has not answered within the request's deadline"
        message += _STILL.get(server.goal, ".")
        reason = Reason(code=CODE, message=message, at=at)
        try:
            await self._runtime.store.write(expire_server, server, reason, actor=ACTOR, at=at)
        except StaleWrite:
            return  # it has answered now, or there is a newer request


def _expire(tx: Tx, attachment_id: str, goal_revision: int, at: int, limits: Limits) -> None:
    attachment = load_attachment(tx, attachment_id)
    if attachment is None or attachment.goal_revision != goal_revision or attachment.closed_at is not None:
        return
    if attachment.is_external:
        _expire_external(tx, attachment, at, limits)
        return
    message = f"The server's host has not answered within the request's deadline; the {attachment.goal.value} state "
    message += "is still pursued and will be reached when it answers."
    reason = Reason(code=CODE, message=message, at=at)
    if attachment.goal is Goal.ATTACHED:
        # A server that waits for the volume has a deadline of its own, which may be a newer request's.
        deadline_at = at + int(limits.detach_timeout_s * 1e6)
        give_up(tx, attachment, reason, at=at, actor=ACTOR, deadline_at=deadline_at, with_server=False)
    else:
        keep_waiting(tx, attachment, reason, at=at)


def _expire_external(tx: Tx, attachment: Attachment, at: int, limits: Limits) -> None:
    """What an external attachment waits for is the storage."""
    message = "The storage has not answered within the request's deadline."
    if attachment.goal is Goal.DETACHED:
        message = "The storage has not confirmed within the request's deadline that it shut the consumer out; "
        message += "that is still pursued."
    reason = Reason(code=STORAGE_CODE, message=message, at=at)
    if attachment.goal is Goal.DETACHED:
        keep_waiting(tx, attachment, reason, at=at)
        return
    deadline_at = at + int(limits.detach_timeout_s * 1e6)
    give_up_export(tx, attachment, reason, actor=ACTOR, at=at, deadline_at=deadline_at, free=False)


def _expire_growth(tx: Tx, path_id: str, at: int) -> None:
    message = "The server's host has not shown the new size to the guest yet; it will when it answers."
    finish_action(tx, subject_id=path_id, action="extend_volume", at=at, error=message)
