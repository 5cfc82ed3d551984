"""Pages of open attachments, as users list them."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import Select, and_, or_, select

from kevel.domain.errors import NotFound
from kevel.domain.model import Attachment
from kevel.domain.status import attachment_status
from kevel.store.attachments import ATTACHMENT_COLUMNS, AttachmentView, load_attachment, with_paths
from kevel.store.pages import CHUNK_ROWS
from kevel.store.schema.attachments import attachments
from kevel.store.schema.base import LIVE
from kevel.store.transactions import Tx, as_struct

#: What a list can be sorted by, by Cinder's names.
SORT_COLUMNS: Final = {
    "id": attachments.c.id,
    "created_at": attachments.c.created_at,
    "volume_id": attachments.c.volume_id,
}


class AttachmentFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which attachments; None: whatever."""

    #: None: of all projects.
    project_id: str | None
    volume_id: str | None = None
    #: A server of ours, or what a client has named.
    instance_id: str | None = None
    status: str | None = None


class AttachmentPage(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of the list, and in which order."""

    limit: int
    sort: str = "created_at"
    down: bool = True
    #: Id of the last one of the page before.
    marker: str | None = None
    offset: int = 0


def list_attachments(tx: Tx, wanted: AttachmentFilter, page: AttachmentPage) -> list[AttachmentView]:
    """One page of open attachments. Raises NotFound for an unknown marker."""
    statement = _after(tx, _narrow(wanted), wanted, page)
    if wanted.status is None:
        rows = tx.execute(statement.limit(page.limit).offset(page.offset))
        return with_paths(tx, [as_struct(Attachment, row) for row in rows])
    matching: list[AttachmentView] = []
    needed = page.offset + page.limit
    read = 0
    while len(matching) < needed:
        rows = tx.execute(statement.limit(CHUNK_ROWS).offset(read))
        views = with_paths(tx, [as_struct(Attachment, row) for row in rows])
        matching += [view for view in views if attachment_status(view.attachment, view.paths) == wanted.status]
        read += len(rows)
        if len(rows) < CHUNK_ROWS:
            break
    return matching[page.offset : needed]


def _narrow(wanted: AttachmentFilter) -> Select[Any]:
    statement = select(*ATTACHMENT_COLUMNS).where(attachments.c.live == LIVE)
    if wanted.project_id is not None:
        statement = statement.where(attachments.c.project_id == wanted.project_id)
    if wanted.volume_id is not None:
        statement = statement.where(attachments.c.volume_id == wanted.volume_id)
    if wanted.instance_id is not None:
        named = attachments.c.instance_id == wanted.instance_id
        statement = statement.where(or_(attachments.c.server_id == wanted.instance_id, named))
    return statement


def _after(tx: Tx, statement: Select[Any], wanted: AttachmentFilter, page: AttachmentPage) -> Select[Any]:
    column, name = SORT_COLUMNS[page.sort], attachments.c.id
    if page.marker is not None:
        last = load_attachment(tx, page.marker)
        if last is None or wanted.project_id not in (None, last.project_id):
            raise NotFound(f"{page.marker[:64]} could not be found; it was given as the marker of a list.")
        value = getattr(last, page.sort)
        beyond = column < value if page.down else column > value
        next_to = name < last.id if page.down else name > last.id
        statement = statement.where(or_(beyond, and_(column == value, next_to)))
    return statement.order_by(*(one.desc() if page.down else one.asc() for one in (column, name)))
