"""The journal: every move of a path, a goal, a server or a volume, in the transaction that makes it (S12)."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import insert, select

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


_COLUMNS = row_columns(journal, Entry)
_INSERT = insert(journal)
_OF_ATTACHMENT = select(*_COLUMNS).order_by(journal.c.seq)


def append(tx: Tx, *entries: Entry) -> None:
    """Append the entries in order."""
    for entry in entries:
        tx.execute(_INSERT, msgspec.structs.asdict(entry))


def of_attachment(tx: Tx, attachment_id: str) -> list[Entry]:
    """The whole history of one attachment, oldest first."""
    rows = tx.execute(_OF_ATTACHMENT.where(journal.c.attachment_id == attachment_id))
    return [as_struct(Entry, row) for row in rows]


def of_server(tx: Tx, server_id: str) -> list[Entry]:
    """The history of a server itself and of its attachments, oldest first."""
    rows = tx.execute(_OF_ATTACHMENT.where(journal.c.server_id == server_id))
    return [as_struct(Entry, row) for row in rows]
