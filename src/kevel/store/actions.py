"""The actions of a server, as its user sees them: what was asked, when, and how it ended."""

from __future__ import annotations

import msgspec
from sqlalchemy import bindparam, insert, select, update

from kevel.domain.model import Actor
from kevel.store.schema.servers import server_actions, servers
from kevel.store.transactions import Tx, as_struct, row_columns

#: Nova's name for the event of an action.
EVENTS = {
    "create": "compute__do_build_and_run_instance",
    "delete": "compute_terminate_instance",
    "start": "compute_start_instance",
    "stop": "compute_stop_instance",
    "reboot": "compute_reboot_instance",
    "pause": "compute_pause_instance",
    "unpause": "compute_unpause_instance",
    "suspend": "compute_suspend_instance",
    "resume": "compute_resume_instance",
    "rescue": "compute_rescue_instance",
    "unrescue": "compute_unrescue_instance",
    "rebuild": "compute_rebuild_instance",
    "resize": "compute_resize_instance",
    "confirmResize": "compute_confirm_resize",
    "revertResize": "compute_revert_resize",
    "shelve": "compute_shelve_instance",
    "shelveOffload": "compute_shelve_offload_instance",
    "unshelve": "compute_unshelve_instance",
    "createImage": "compute_snapshot_instance",
    "attach_volume": "compute_attach_volume",
    "detach_volume": "compute_detach_volume",
    "extend_volume": "compute_extend_volume",
    "swap_volume": "compute_swap_volume",
    "lock": "api_lock",
    "unlock": "api_unlock",
}


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """One action and its event."""

    server_id: str
    request_id: str
    subject_id: str
    action: str
    user_id: str
    project_id: str
    host: str | None
    started_at: int
    updated_at: int | None
    message: str | None
    event: str | None
    finished_at: int | None
    result: str | None
    details: str | None


_COLUMNS = row_columns(server_actions, Action)
_INSERT = insert(server_actions).values(
    host=select(servers.c.host).where(servers.c.id == bindparam("of_server")).scalar_subquery()
)
_FINISH = (
    update(server_actions)
    .where(
        server_actions.c.subject_id == bindparam("of_subject"),
        server_actions.c.action == bindparam("of_action"),
        server_actions.c.finished_at.is_(None),
    )
    .values(
        finished_at=bindparam("at"),
        updated_at=bindparam("at"),
        result=bindparam("how"),
        details=bindparam("why"),
        message=bindparam("text"),
    )
)

_OVERDUE_GROWTHS = (
    select(server_actions.c.subject_id)
    .where(server_actions.c.finished_at.is_(None), server_actions.c.started_at < bindparam("before"))
    .where(server_actions.c.action == "extend_volume")
    .limit(bindparam("rows_max"))
)


def start_action(tx: Tx, *, server_id: str, subject_id: str, action: str, actor: Actor, at: int) -> None:
    """Record that the actor asked for the action."""
    values = {
        "server_id": server_id,
        "of_server": server_id,
        "subject_id": subject_id,
        "action": action,
        "request_id": actor.request_id,
        "user_id": actor.user_id,
        "project_id": actor.project_id,
        "started_at": at,
        "event": EVENTS.get(action),
    }
    tx.execute(_INSERT, values)


def finish_action(tx: Tx, *, subject_id: str, action: str, at: int, error: str | None = None) -> None:
    """Close the open actions of that name on the subject; with an error, say it where the user reads it."""
    values = {
        "of_subject": subject_id,
        "of_action": action,
        "at": at,
        "how": "Success" if error is None else "Error",
        "why": error,
        "text": None if error is None else "Error",
    }
    tx.execute(_FINISH, values)


def overdue_growths(tx: Tx, before_at: int, rows_max: int) -> list[str]:
    """Paths whose guest should have seen a new size since before that time."""
    return list(tx.execute(_OVERDUE_GROWTHS, {"before": before_at, "rows_max": rows_max}).scalars())


def list_actions(tx: Tx, server_id: str) -> list[Action]:
    """The server's actions, newest first."""
    statement = select(*_COLUMNS).where(server_actions.c.server_id == server_id).order_by(server_actions.c.id.desc())
    return [as_struct(Action, row) for row in tx.execute(statement)]
