"""What users ask of a server as a whole, attachments included."""

from __future__ import annotations

from typing import Any

from kevel.domain.ladder import Goal
from kevel.domain.model import Actor, Server, ServerGoal, ServerRung
from kevel.domain.server_life import name_action
from kevel.store.actions import finish_action, start_action
from kevel.store.attachments import holds_of_server
from kevel.store.images import discard_image
from kevel.store.path_moves import close_if_pathless, set_goal
from kevel.store.server_rows import change_goal, close_server_if_left, supersede_actions, want_boot
from kevel.store.servers import load_server
from kevel.store.transactions import Tx

__all__ = ["set_server_goal", "want_boot"]


def set_server_goal(tx: Tx, server: Server, goal: ServerGoal, *, actor: Actor, at: int, deadline_at: int) -> Server:
    """Record the goal, and the action that leads to it from the server's rung (`kevel.domain.server_life`).

    Deleting turns the server's attachments round as well. Raises StaleWrite when the row has moved since it was read.
    """
    user = f"user:{actor.user_id}"
    supersede_actions(tx, server, at)
    start_action(
        tx, server_id=server.id, subject_id=server.id, action=name_action(goal, server.rung), actor=actor, at=at
    )
    more: dict[str, Any] = {} if goal is ServerGoal.DELETED else {"fault": None}
    if goal is ServerGoal.DELETED and server.rung is ServerRung.OFFLOADED:
        more["terminated_at"] = at  # nothing of it is on any host
    server = change_goal(
        tx, server, goal, actor=user, request_id=actor.request_id, at=at, deadline_at=deadline_at, **more
    )
    if goal is not ServerGoal.DELETED:
        return server
    for attachment in holds_of_server(tx, server.id):
        finish_action(
            tx, subject_id=attachment.id, action="attach_volume", at=at, error="The server was deleted meanwhile."
        )
        # Those that are being detached already too: a guest's refusal must not turn them round any more.
        set_goal(
            tx,
            attachment,
            Goal.DETACHED,
            by="server",
            request_id=actor.request_id,
            actor=user,
            at=at,
            deadline_at=deadline_at,
            reason=None,
        )
        close_if_pathless(tx, attachment.id, at)
    shelf = server.extras.shelf
    if shelf is not None and shelf.root is not None:
        discard_image(tx, shelf.root.image_id, request_id=actor.request_id, at=at)
    current = load_server(tx, server.id)
    if current is None:
        raise AssertionError("a server's row is never deleted")
    if current.deleted_at is None:
        close_server_if_left(tx, current, at)
    return current
