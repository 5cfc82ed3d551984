"""Resizes as Nova lists them among its migrations: each is an action, and how its user answered it is another."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from sqlalchemy import func, select

from kevel.domain.model import ServerGoal
from kevel.store.schema.servers import hosts, server_actions, servers
from kevel.store.transactions import Tx, as_struct

_ANSWERS = ("confirmResize", "revertResize")
_later = server_actions.alias("later")
_answer = server_actions.alias("answer")
_FIRST_ANSWER = (
    select(func.min(_later.c.id))
    .where(_later.c.server_id == server_actions.c.server_id, _later.c.id > server_actions.c.id)
    .where(_later.c.action.in_(_ANSWERS))
    .scalar_subquery()
)
_RESIZES = (
    select(
        server_actions.c.id,
        server_actions.c.server_id,
        server_actions.c.user_id,
        server_actions.c.project_id,
        server_actions.c.host,
        hosts.c.facts,
        server_actions.c.started_at,
        server_actions.c.updated_at,
        server_actions.c.result,
        _answer.c.action.label("answer"),
        _answer.c.result.label("answer_result"),
        func.coalesce(_answer.c.updated_at, _answer.c.started_at).label("answered_at"),
        (servers.c.goal == ServerGoal.DELETED).label("deleted"),
    )
    .join(servers, servers.c.id == server_actions.c.server_id)
    .outerjoin(hosts, hosts.c.name == server_actions.c.host)
    .outerjoin(_answer, _answer.c.id == _FIRST_ANSWER)
    .where(server_actions.c.action == "resize")
    .order_by(server_actions.c.id.desc())
)


class Resize(msgspec.Struct, frozen=True, kw_only=True):
    """A resize that was asked for, with the answer that its user gave afterwards, if any."""

    id: int
    server_id: str
    user_id: str
    project_id: str
    host: str | None
    facts: dict[str, object] | None
    started_at: int
    updated_at: int | None
    result: str | None
    answer: str | None
    answer_result: str | None
    answered_at: int | None
    #: Its server is deleted, or is to be.
    deleted: bool

    @property
    def status(self) -> str:
        """Nova's word for the migration. Who deletes a resized server is content with it."""
        if self.result == "Error":
            return "error"
        if self.answer == "confirmResize" or (self.answer is None and self.deleted):
            return "confirmed"
        if self.answer == "revertResize":
            return {None: "reverting", "Success": "reverted"}.get(self.answer_result, "error")
        return "migrating" if self.result is None else "finished"

    @property
    def changed_at(self) -> int:
        """When it came to what it is."""
        return self.answered_at or self.updated_at or self.started_at


def iterate_resizes(tx: Tx, server_id: str | None) -> Iterator[Resize]:
    """The resizes of one server or of all, the newest first."""
    statement = _RESIZES if server_id is None else _RESIZES.where(server_actions.c.server_id == server_id)
    for row in tx.execute(statement):
        yield as_struct(Resize, row)
