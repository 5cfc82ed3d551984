"""What users are told of requests that failed later on."""

from __future__ import annotations

from kevel.control.runtime import Runtime
from kevel.domain.errors import NotFound
from kevel.domain.messages import Message
from kevel.domain.model import Actor
from kevel.store import messages as rows
from kevel.store.transactions import Tx


class Messages:
    """The use cases of messages."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def list(self, project_id: str | None) -> list[Message]:
        """Messages of a project (None: of all), newest first."""
        return await self._runtime.store.read(rows.list_messages, project_id, self._runtime.clock.now_us())

    async def get(self, actor: Actor, message_id: str) -> Message:
        """The message; NotFound."""
        return await self._runtime.store.read_point(_find, actor, message_id, self._runtime.clock.now_us())

    async def delete(self, actor: Actor, message_id: str) -> None:
        """Remove the message; NotFound."""
        await self._runtime.store.write(_delete, actor, message_id, self._runtime.clock.now_us())


def _find(tx: Tx, actor: Actor, message_id: str, now: int) -> Message:
    message = rows.load_message(tx, message_id, now)
    if message is None or not (actor.is_admin or message.project_id == actor.project_id):
        raise NotFound(f"Message {message_id[:64]} could not be found.")
    return message


def _delete(tx: Tx, actor: Actor, message_id: str, now: int) -> None:
    rows.delete_message(tx, _find(tx, actor, message_id, now).id)
