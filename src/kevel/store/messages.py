"""Messages to users, written in the transaction in which what they speak of failed."""

from __future__ import annotations

import uuid
from typing import Final

import msgspec
from sqlalchemy import bindparam, delete, insert, select

from kevel.domain.messages import KEPT_S, Action, Detail, Message
from kevel.store.schema.messages import messages
from kevel.store.transactions import Tx, as_struct, row_columns

#: Most messages that one list reads; the newest come first.
LISTED_MAX: Final = 10_000
#: Expired messages removed in one transaction.
FORGOTTEN_MAX: Final = 500
_NAMESPACE: Final = uuid.UUID("5d0f3a0e-7a3c-4b8e-9d52-6f6e0c9d1c11")

_COLUMNS = row_columns(messages, Message)
_INSERT = insert(messages)
_KNOWN = select(messages.c.id).where(messages.c.id == bindparam("of_id"))
_ONE = select(*_COLUMNS).where(messages.c.id == bindparam("of_id"), messages.c.expires_at > bindparam("now"))
_ALL = (
    select(*_COLUMNS)
    .where(messages.c.expires_at > bindparam("now"))
    .order_by(messages.c.created_at.desc(), messages.c.id.desc())
    .limit(LISTED_MAX)
)
_OF_PROJECT = _ALL.where(messages.c.project_id == bindparam("of_project"))
_DELETE = delete(messages).where(messages.c.id == bindparam("of_id"))
_EXPIRED = select(messages.c.id).where(messages.c.expires_at <= bindparam("now")).limit(FORGOTTEN_MAX)


def add_message(
    tx: Tx,
    *,
    cause: str,
    project_id: str,
    request_id: str,
    resource_id: str,
    action: Action,
    detail: Detail,
    text: str,
    at: int,
    resource_type: str = "VOLUME",
) -> None:
    """Tell the project's users why the request failed.

    The id is made of `cause`, which names the failure: so the transaction can be run again, and a failure that is met
    a second time tells nothing new.
    """
    message = Message(
        id=str(uuid.uuid5(_NAMESPACE, cause)),
        project_id=project_id,
        request_id=request_id,
        resource_type=resource_type,
        resource_uuid=resource_id,
        action_id=action.value[0],
        detail_id=detail.value,
        text=text,
        created_at=at,
        expires_at=at + KEPT_S * 1_000_000,
    )
    if not tx.execute(_KNOWN, {"of_id": message.id}):
        tx.execute(_INSERT, msgspec.structs.asdict(message))


def load_message(tx: Tx, message_id: str, now: int) -> Message | None:
    """The message, unless it has expired."""
    row = tx.execute(_ONE, {"of_id": message_id, "now": now}).first()
    return None if row is None else as_struct(Message, row)


def list_messages(tx: Tx, project_id: str | None, now: int) -> list[Message]:
    """Messages of a project (None: of all), newest first, LISTED_MAX at most."""
    if project_id is None:
        return [as_struct(Message, row) for row in tx.execute(_ALL, {"now": now})]
    return [as_struct(Message, row) for row in tx.execute(_OF_PROJECT, {"now": now, "of_project": project_id})]


def delete_message(tx: Tx, message_id: str) -> None:
    """Remove a message."""
    tx.execute(_DELETE, {"of_id": message_id})


def forget_expired(tx: Tx, now: int) -> int:
    """Remove some of those that have expired; how many."""
    expired = tx.execute(_EXPIRED, {"now": now}).scalars()
    for message_id in expired:
        tx.execute(_DELETE, {"of_id": message_id})
    return len(expired)
