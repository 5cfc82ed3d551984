"""The journal: every move of a path, a goal, a server or a volume, in the transaction that makes it (S12)."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import bindparam, insert, select

from kevel.domain.model import Actor, Volume
from kevel.store.schema.attachments import journal
from kevel.store.transactions import Tx, as_struct, row_columns


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of history."""

    at: int
    subject: str
    subject_id: str
    what: str
    before: str
    after: str
    revision: int
    actor: str
    request_id: str
    volume_id: str | None = None
    server_id: str | None = None
    attachment_id: str | None = None
    generation: int | None = None
    took_us: int | None = None
    detail: dict[str, Any] | None = None


class Line(Entry, frozen=True, kw_only=True):
    """A line as it stands in the journal; `seq` grows."""

    seq: int


_COLUMNS = row_columns(journal, Entry)
_LINES = (
    select(*row_columns(journal, Line))
    .where(journal.c.attachment_id == bindparam("of_attachment"), journal.c.seq > bindparam("since"))
    .order_by(journal.c.seq)
    .limit(bindparam("rows_max"))
)
_INSERT = insert(journal)
_OF_ATTACHMENT = select(*_COLUMNS).order_by(journal.c.seq)


def append(tx: Tx, *entries: Entry) -> None:
    """Append the entries in order; whoever follows an attachment is woken."""
    for entry in entries:
        tx.execute(_INSERT, msgspec.structs.asdict(entry))
        if entry.attachment_id is not None:
            tx.wake("attachment", entry.attachment_id)


def note_volume(
    tx: Tx,
    actor: Actor,
    volume: Volume,
    what: str,
    before: str,
    after: str,
    at: int,
    detail: dict[str, Any] | None = None,
) -> None:
    """Append what a user's request has changed of a volume at once."""
    entry = Entry(
        at=at,
        subject="volume",
        subject_id=volume.id,
        volume_id=volume.id,
        what=what,
        before=before,
        after=after,
        revision=volume.generation,
        actor="user",
        request_id=actor.request_id,
        detail=detail,
    )
    append(tx, entry)


def lines_of(tx: Tx, attachment_id: str, since: int, rows_max: int) -> list[Line]:
    """An attachment's lines after that one, oldest first."""
    values = {"of_attachment": attachment_id, "since": since, "rows_max": rows_max}
    return [as_struct(Line, row) for row in tx.execute(_LINES, values)]


def of_attachment(tx: Tx, attachment_id: str) -> list[Entry]:
    """The whole history of one attachment, oldest first."""
    rows = tx.execute(_OF_ATTACHMENT.where(journal.c.attachment_id == attachment_id))
    return [as_struct(Entry, row) for row in rows]


def of_server(tx: Tx, server_id: str) -> list[Entry]:
    """The history of a server itself and of its attachments, oldest first."""
    rows = tx.execute(_OF_ATTACHMENT.where(journal.c.server_id == server_id))
    return [as_struct(Entry, row) for row in rows]
